// The hints as data, and which one fits.
#include "vmx/hints.h"

#include <string.h>

#define HINT(id, when, text)         {id, text},
#define REFUSAL_HINT(id, when, text) {id, text},
const struct vmx_hint vmx_hints[] = {
#include "vmx/hints.def"
};
#undef HINT
#undef REFUSAL_HINT
const unsigned vmx_hints_n = ARRAY_LEN(vmx_hints);

#define EXIT(x)  (e->exit & EXIT_##x)
#define ENTRY(x) (e->entry & ENTRY_##x)

int vmx_hint_of_check(const struct vmx_entry *e, const struct vmx_check_failure *x, u64 bits)
{
    const struct vmcs_fields *f = e->f;
    int n = 0;
#define HINT(of, when, text) \
    if (!strcmp(of, x->id) && (when)) return n; \
    n++;
#define REFUSAL_HINT(of, when, text) n++;
#include "vmx/hints.def"
#undef HINT
#undef REFUSAL_HINT
    return -1;
}

int vmx_hint_of_refusal(const struct vmx_refused *r)
{
    u64 bits = r->bits;
    int n = 0;
#define HINT(of, when, text) n++;
#define REFUSAL_HINT(of, when, text) \
    if (!strcmp(of, r->row->id) && (when)) return n; \
    n++;
#include "vmx/hints.def"
#undef HINT
#undef REFUSAL_HINT
    return -1;
}

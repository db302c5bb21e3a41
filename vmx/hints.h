// Hints for common mistakes (vmx/hints.def).
#ifndef VMX_HINTS_H
#define VMX_HINTS_H

#include "vmx/refusals.h"

// The number of the hint for a violated row, -1 if there is none. `bits`: those that offend.
int vmx_hint_of_check(const struct vmx_entry *e, const struct vmx_check_failure *x, u64 bits);
int vmx_hint_of_refusal(const struct vmx_refused *r);

struct vmx_hint {
    const char *id, *text;
};
extern const struct vmx_hint vmx_hints[];
extern const unsigned vmx_hints_n;

#endif

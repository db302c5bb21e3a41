// Which bits violate a row. No row says it: the row is judged again with bits of one field changed, so what
// is said here cannot differ from the rule.
#include "vmx/offence.h"

#include <string.h>

#include "mmu/walk.h"

struct trial {
    struct vmx_entry e;
    struct vmcs_fields f;
    const struct vmx_check *row;
    unsigned input;
};

static bool can_try(unsigned input)
{
    return input < VMCS_FIELD_COUNT || input == VMX_INPUT_VMCS_DWORD || input == VMX_INPUT_BLOCKING;
}

static void set(struct trial *t, u64 value)
{
    if (t->input == VMX_INPUT_VMCS_DWORD)
        t->e.revision = (u32)value;
    else if (t->input == VMX_INPUT_BLOCKING)
        t->e.blocking = (u32)value;
    else {
        vmcs_field_set(&t->f, (enum vmcs_field)t->input, value);
        vmx_entry_decode(&t->e);
    }
}

// Applies and holds: a row that no longer applies has not been satisfied.
static bool holds(struct trial *t, u64 value)
{
    set(t, value);
    return vmx_check_judge(&t->e, t->row) == VMX_VERDICT_HOLDS;
}

static unsigned width(const struct trial *t)
{
    return t->input < VMCS_FIELD_COUNT ? vmcs_field_rows[t->input].size * 8u : 32;
}

// Seen from a value that passes: the bits of the real one that alone spoil it.
static u64 apart(struct trial *t, u64 value, u64 base)
{
    u64 bits = 0;
    if (!holds(t, base)) return 0;
    for (unsigned b = 0; b < width(t); b++)
        if (((value ^ base) >> b & 1) && !holds(t, base ^ BIT(b))) bits |= BIT(b);
    if (!bits || !holds(t, value ^ bits)) return 0;
    for (unsigned b = 0; b < width(t); b++) // none of them could stay
        if ((bits >> b & 1) && holds(t, value ^ bits ^ BIT(b))) return 0;
    return bits;
}

// The only way to satisfy the row by turning `n` bits, 1 or 2; 0 if there is none, or more than one (and
// *several).
static u64 only_turn(struct trial *t, u64 value, unsigned n, bool *several)
{
    u64 found = 0;
    for (unsigned a = 0; a < width(t); a++) {
        for (unsigned b = n == 1 ? a : a + 1; b < (n == 1 ? a + 1 : width(t)); b++) {
            u64 bits = BIT(a) | BIT(b);
            if (!holds(t, value ^ bits)) continue;
            if (found) {
                *several = true;
                return 0;
            }
            found = bits;
        }
    }
    return found;
}

static u64 offending(const struct vmx_entry *e, const struct vmx_check *row, unsigned input, u64 value)
{
    struct trial t = {.e = *e, .f = *e->f, .row = row, .input = input};
    t.e.f = &t.f;
    u64 ones = width(&t) == 64 ? UINT64_MAX : BIT(width(&t)) - 1;
    bool several = false;
    u64 one = only_turn(&t, value, 1, &several);
    if (one) return one;
    u64 low = apart(&t, value, 0), high = apart(&t, value, ones);
    if (low && high) return __builtin_popcountll(low) <= __builtin_popcountll(high) ? low : high;
    if (low | high || several) return low | high;
    return only_turn(&t, value, 2, &several);
}

// The reserved bits of PAE's four entries: each is to blame by itself.
static unsigned of_pdptes(const struct vmx_entry *e, const struct vmx_check_failure *x,
                          struct vmx_offence *out)
{
    unsigned n = 0;
    for (const u16 *p = x->check->inputs; *p != VMX_INPUT_END; p++) {
        bool memory = *p >= VMX_INPUT_PDPTE0 && *p <= VMX_INPUT_PDPTE3;
        if (!memory && !(*p >= VMCS_GUEST_PDPTE0 && *p <= VMCS_GUEST_PDPTE3)) continue;
        u64 value = vmx_check_input_value(e, x, *p), bits = 0;
        if (walk_pdpte_valid(value, e->maxphyaddr)) continue;
        for (unsigned b = 1; b < 64; b++)
            if ((value >> b & 1) && !walk_pdpte_valid(BIT(b) | 1, e->maxphyaddr)) bits |= BIT(b);
        out[n++] = (struct vmx_offence){*p, bits, value};
    }
    return n;
}

unsigned vmx_offences(const struct vmx_entry *e, const struct vmx_check_failure *x,
                      struct vmx_offence out[VMX_OFFENCES_MAX])
{
    if (!strcmp(vmx_check_group(x->check), "msr-load")) {
        if (!x->msr.reserved) return 0;
        out[0] = (struct vmx_offence){VMX_INPUT_MSR_RESERVED, x->msr.reserved, x->msr.reserved};
        return 1;
    }
    unsigned n = of_pdptes(e, x, out), input = x->check->inputs[0]; // what the row is about comes first
    if (n || !can_try(input)) return n;
    u64 value = vmx_check_input_value(e, x, input), bits = offending(e, x->check, input, value);
    if (!bits) return 0;
    out[0] = (struct vmx_offence){(u16)input, bits, value};
    return 1;
}

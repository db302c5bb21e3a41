// Why a VMX instruction was refused, as rows (vmx/refusals.def): told to whoever listens, then done.
#ifndef VMX_REFUSALS_H
#define VMX_REFUSALS_H

#include "vmx/checks.h"

struct vcpu;

#define REFUSAL(name, id, section, outcome, values, words) REFUSED_##name,
enum vmx_refusal_id {
#include "vmx/refusals.def"
    REFUSAL_COUNT
};
#undef REFUSAL

// clang-format off
enum vmx_refusal_outcome { REFUSE_UD, REFUSE_GP, REFUSE_INVALID, REFUSE_VALID, REFUSE_FAIL, REFUSE_EXIT };
// clang-format on
#define REFUSAL_VALUES_MAX 3
struct vmx_refusal { // a row
    const char *id, *section, *words;
    u8 outcome;                            // enum vmx_refusal_outcome
    u8 number;                             // the VM-instruction error, or the exit reason
    const char *value[REFUSAL_VALUES_MAX]; // names; NULL: no more
};
extern const struct vmx_refusal vmx_refusal_rows[REFUSAL_COUNT];

struct vmx_refused { // one refusal: what the event TRACE_REFUSED carries
    const struct vmx_refusal *row;
    const char *instruction;
    bool valid; // VMfail: there is a current VMCS, which has the error number
    u64 bits;   // of the first value, those that offend; 0: not a matter of bits
    u64 value[REFUSAL_VALUES_MAX];
};

// Refuses the instruction under way as the row says. vmx_refuse returns (VMfail); vmx_refuse_by_event does
// not.
void vmx_refuse(struct vcpu *v, enum vmx_refusal_id id, u64 bits, u64 a, u64 b, u64 c);
_Noreturn void vmx_refuse_by_event(struct vcpu *v, enum vmx_refusal_id id, u64 bits, u64 a, u64 b, u64 c);

// One line without its end: id, section, outcome, values, the rule in words.
void vmx_refused_describe(const struct vmx_refused *r, vmx_put put, void *opaque);
void vmx_refused_outcome(const struct vmx_refused *r, vmx_put put, void *opaque); // "VMfailValid(11)"
// The field that a refused VMREAD or VMWRITE named, NULL if it named none.
const struct vmcs_field_row *vmx_refused_field(const struct vmx_refused *r);

#endif

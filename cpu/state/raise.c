// Raising: fill the event, unwind to the landing pad of the run loop.
#include "cpu/engine/insn.h"

_Noreturn void raise_event(struct vcpu *v, const struct event *e)
{
    v->d.event = *e;
    _longjmp(v->d.landing, 1);
}

_Noreturn void raise_fault(struct vcpu *v, u8 vector)
{
    struct event e = {.kind = EVENT_INTERRUPTION, .vector = vector, .type = EVT_HW_EXCEPTION};
    raise_event(v, &e);
}

_Noreturn void raise_error(struct vcpu *v, u8 vector, u32 error)
{
    struct event e = {.kind = EVENT_INTERRUPTION, .vector = vector, .type = EVT_HW_EXCEPTION, .error = error};
    e.has_error = v->s.cr0 & CR0_PE; // real-address mode pushes none
    raise_event(v, &e);
}

_Noreturn void raise_pf(struct vcpu *v, laddr la, u32 error)
{
    // clang-format off
    struct event e = {.kind = EVENT_INTERRUPTION, .vector = VEC_PF, .type = EVT_HW_EXCEPTION, .has_error = true,
                      .error = error, .cr2 = la.at};
    // clang-format on
    raise_event(v, &e);
}

_Noreturn void raise_vmexit(struct vcpu *v, u32 reason, u64 qualification, u32 insn_info, u32 valid)
{
    // clang-format off
    struct event e = {.kind = EVENT_VMEXIT, .exit_reason = reason, .exit_qualification = qualification,
                      .exit_insn_info = insn_info, .exit_valid = valid};
    // clang-format on
    if (v->d.in) e.insn_len = v->d.in->len;
    raise_event(v, &e);
}

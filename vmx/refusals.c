// The refusals of VMX instructions: the rows as data, the telling, and what the instruction then does.
#include "vmx/refusals.h"

#include <stdio.h>
#include <string.h>

#include "cpu/state/trace.h"
#include "vmx/insn.h"

#define UD                                                 REFUSE_UD, 0
#define GP                                                 REFUSE_GP, 0
#define INVALID                                            REFUSE_INVALID, 0
#define VALID(n)                                           REFUSE_VALID, n
#define FAIL(n)                                            REFUSE_FAIL, n
#define EXIT_59                                            REFUSE_EXIT, EXIT_REASON_VMFUNC
#define BARE(...)                                          __VA_ARGS__
#define REFUSAL(name, id, section, outcome, values, words) {id, section, words, outcome, {BARE values}},
const struct vmx_refusal vmx_refusal_rows[REFUSAL_COUNT] = {
#include "vmx/refusals.def"
};
#undef REFUSAL

static void tell(struct vcpu *v, const struct vmx_refusal *row, u64 bits, u64 a, u64 b, u64 c)
{
    if (!trace_wants(v, TRACE_REFUSED)) return;
    bool current = v->s.vmx.vmcs_pointer != VMX_NO_POINTER;
    struct vmx_refused r = {.row = row,
                            .instruction = rows[v->d.in->row].name,
                            .valid = row->outcome == REFUSE_VALID || (row->outcome == REFUSE_FAIL && current),
                            .bits = bits,
                            .value = {a, b, c}};
    struct trace_event t;
    trace_begin(v, &t, TRACE_REFUSED);
    t.rip = insn_rip(v, v->d.in);
    t.fail = row->number;
    t.refused = &r;
    trace_emit(v, &t);
}

void vmx_refuse(struct vcpu *v, enum vmx_refusal_id id, u64 bits, u64 a, u64 b, u64 c)
{
    const struct vmx_refusal *row = &vmx_refusal_rows[id];
    tell(v, row, bits, a, b, c);
    if (row->outcome == REFUSE_INVALID)
        vmx_fail_invalid(v);
    else
        vmx_fail(v, row->number);
}

_Noreturn void vmx_refuse_by_event(struct vcpu *v, enum vmx_refusal_id id, u64 bits, u64 a, u64 b, u64 c)
{
    const struct vmx_refusal *row = &vmx_refusal_rows[id];
    tell(v, row, bits, a, b, c);
    if (row->outcome == REFUSE_UD) raise_ud(v);
    if (row->outcome == REFUSE_GP) raise_gp0(v);
    raise_vmexit(v, row->number, 0, 0, WITH_INSN_LEN);
}

// ---- what is said ----
const struct vmcs_field_row *vmx_refused_field(const struct vmx_refused *r)
{
    if (!r->row->value[0] || strcmp(r->row->value[0], "ENCODING") != 0 || r->value[0] >> 32) return NULL;
    int n = vmcs_field_find((u32)r->value[0]);
    return n < 0 ? NULL : &vmcs_field_rows[n];
}

void vmx_refused_outcome(const struct vmx_refused *r, vmx_put put, void *opaque)
{
    char text[40];
    switch (r->row->outcome) {
    case REFUSE_UD: put(opaque, "#UD"); return;
    case REFUSE_GP: put(opaque, "#GP(0)"); return;
    case REFUSE_EXIT: snprintf(text, sizeof text, "exit %u", r->row->number); break;
    default:
        if (r->valid)
            snprintf(text, sizeof text, "VMfailValid(%u)", r->row->number);
        else
            snprintf(text, sizeof text, "VMfailInvalid");
    }
    put(opaque, text);
}

void vmx_refused_describe(const struct vmx_refused *r, vmx_put put, void *opaque)
{
    char text[80];
    const struct vmcs_field_row *field = vmx_refused_field(r);
    put(opaque, r->row->id);
    put(opaque, " (SDM ");
    put(opaque, r->row->section);
    put(opaque, "), ");
    vmx_refused_outcome(r, put, opaque);
    put(opaque, ":");
    for (unsigned i = 0; i < REFUSAL_VALUES_MAX && r->row->value[i]; i++) {
        snprintf(text, sizeof text, " %s=%#llx", r->row->value[i], (unsigned long long)r->value[i]);
        put(opaque, text);
        if (i || !field) continue;
        snprintf(text, sizeof text, "(%s)", field->name);
        put(opaque, text);
    }
    put(opaque, "; ");
    put(opaque, r->row->words);
}

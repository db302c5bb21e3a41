// Control and debug registers in non-root operation: guest/host masks and read shadows, CR3 targets, MOV
// DR; and the bits that VMX operation fixes.
#include "vmx/insn.h"
#include "vmx/intercept.h"
#include "vmx/intercept_parts.h"
#include "vmx/operand.h"

enum { CR_TO = 0, CR_FROM = 1, CR_CLTS = 2, CR_LMSW = 3 }; // exit qualification bits 5:4

u64 vmx_cr_qualification(const struct insn *in, const struct row *r)
{
    if (r->exit_when == EXIT_BY_CLTS) return CR_CLTS << 4;
    unsigned access = r->exit_when == EXIT_BY_MOV_TO_CR ? CR_TO : CR_FROM;
    return in->r | access << 4 | vmx_gpr_number(in->m) << 8;
}

bool vmx_mov_to_cr_exits(struct vcpu *v, const struct insn *in)
{
    const struct vmx_control *c = vmx_controls(v);
    u64 x = cpu_long64(v) ? REG64(v, in->m) : REG32(v, in->m);

    switch (in->r) {
    case 0: return (x ^ c->cr0_shadow) & c->cr0_mask;
    case 4: return (x ^ c->cr4_shadow) & c->cr4_mask;
    case 8: return c->proc & PROC_CR8_LOAD_EXITING;
    case 3:
        for (u32 i = 0; i < c->cr3_targets; i++)
            if (x == c->cr3_target[i]) return false;
        return c->proc & PROC_CR3_LOAD_EXITING;
    default: return false;
    }
}

bool vmx_mov_from_cr_exits(struct vcpu *v, const struct insn *in)
{
    return (in->r == 3 && vmx_proc(v, PROC_CR3_STORE_EXITING)) ||
           (in->r == 8 && vmx_proc(v, PROC_CR8_STORE_EXITING));
}

bool vmx_clts_exits(struct vcpu *v)
{
    const struct vmx_control *c = vmx_controls(v);
    return c->cr0_mask & c->cr0_shadow & CR0_TS;
}

void vmx_intercept_lmsw(struct vcpu *v, const struct insn *in, u16 source, bool memory, laddr la)
{
    if (!v->s.vmx.guest) return;
    const struct vmx_control *c = vmx_controls(v);
    u64 differs = (source ^ c->cr0_shadow) & c->cr0_mask;
    bool exits = differs & (CR0_MP | CR0_EM | CR0_TS) || (differs & CR0_PE && source & CR0_PE);
    if (!exits) return;
    struct event e = {.kind = EVENT_VMEXIT,
                      .insn_len = in->len,
                      .exit_reason = EXIT_REASON_CR_ACCESS,
                      .exit_qualification = CR_LMSW << 4 | (memory ? BIT(6) : 0) | (u64)source << 16,
                      .exit_gla = la.at,
                      .exit_valid = WITH_INSN_LEN | (memory ? WITH_GLA : 0)};
    raise_event(v, &e);
}

u64 vmx_dr_qualification(const struct insn *in, const struct row *r)
{
    bool from = operand_kind(r->operand[1]) == KIND_D;
    return in->r | (from ? BIT(4) : 0) | vmx_gpr_number(in->m) << 8;
}

// ---- modified bodies ----

static u64 shadowed(u64 real, u64 mask, u64 shadow) { return (real & ~mask) | (shadow & mask); }

u64 vmx_read_cr0(const struct vcpu *v)
{
    if (!v->s.vmx.guest) return v->s.cr0;
    const struct vmx_control *c = vmx_controls(v);
    return shadowed(v->s.cr0, c->cr0_mask, c->cr0_shadow);
}

u64 vmx_read_cr4(const struct vcpu *v)
{
    if (!v->s.vmx.guest) return v->s.cr4;
    const struct vmx_control *c = vmx_controls(v);
    return shadowed(v->s.cr4, c->cr4_mask, c->cr4_shadow);
}

u64 vmx_merge_cr0(const struct vcpu *v, u64 value)
{
    return v->s.vmx.guest ? shadowed(value, vmx_controls(v)->cr0_mask, v->s.cr0) : value;
}

u64 vmx_merge_cr4(const struct vcpu *v, u64 value)
{
    return v->s.vmx.guest ? shadowed(value, vmx_controls(v)->cr4_mask, v->s.cr4) : value;
}

bool vmx_cr0_allowed(const struct vcpu *v, u64 value)
{
    if (!v->s.vmx.on) return true;
    u64 fixed = v->vmx->caps.cr0_fixed0;
    if (v->s.vmx.guest && vmx_proc2(v, PROC2_UNRESTRICTED_GUEST)) fixed &= ~(u64)(CR0_PE | CR0_PG);
    return (value & fixed) == fixed;
}

bool vmx_cr4_allowed(const struct vcpu *v, u64 value)
{
    u64 fixed = v->vmx->caps.cr4_fixed0;
    return !v->s.vmx.on || (value & fixed) == fixed;
}

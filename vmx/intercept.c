// The guard's hook: which instructions exit in non-root operation, and what the exit says
// (SDM 28.1.2, 28.1.3).
#include "vmx/intercept.h"

#include "vmx/controls.h"
#include "vmx/insn.h"
#include "vmx/intercept_parts.h"
#include "vmx/operand.h"

static bool control_on(const struct vcpu *v, unsigned id)
{
    const struct vmx_control *c = vmx_controls(v);
    const struct vmx_control_row *r = &vmx_control_rows[id];
    switch (r->group) {
    case GROUP_PIN: return c->pin >> r->bit & 1;
    case GROUP_PROC: return c->proc >> r->bit & 1;
    case GROUP_PROC3: return c->proc3 >> r->bit & 1;
    default: return c->proc2 >> r->bit & 1;
    }
}

// PAUSE exiting, and at CPL 0 PAUSE-loop exiting (SDM 28.1.3): counted in TSC ticks, here vtime.
static bool pause_exits(struct vcpu *v)
{
    const struct vmx_control *c = vmx_controls(v);
    if (c->proc & PROC_PAUSE_EXITING) return true;
    if (!(c->proc2 & PROC2_PAUSE_LOOP_EXITING) || cpu_cpl(v) > 0) return false;
    struct vmx_state *x = &v->s.vmx;
    u64 now = cpu_vtime(v);
    if (!x->ple_last || now - x->ple_last > c->ple_gap)
        x->ple_first = now;
    else if (now - x->ple_first > c->ple_window)
        return true;
    x->ple_last = now;
    return false;
}

static bool xss_exits(const struct vcpu *v)
{
    u64 mask = (u32)v->s.gpr[RAX] | v->s.gpr[RDX] << 32;
    return mask & v->s.msr.xss & vmx_controls(v)->xss_bitmap;
}

// VMFUNC (SDM 28.5.6): #UD unless enabled, exit unless the function is.
static bool vm_function_exits(struct vcpu *v)
{
    const struct vmx_control *c = vmx_controls(v);
    u32 function = (u32)v->s.gpr[RAX];
    if (!(c->proc2 & PROC2_ENABLE_VM_FUNCTIONS))
        vmx_refuse_by_event(v, REFUSED_VMFUNC_OFF, PROC2_ENABLE_VM_FUNCTIONS, c->proc2, 0, 0);
    if (function >= 64) vmx_refuse_by_event(v, REFUSED_VMFUNC_NUMBER, 0, function, 0, 0);
    if (!(c->vmfunc >> function & 1) || function != 0)
        vmx_refuse_by_event(v, REFUSED_VMFUNC_NOT_ENABLED, BIT(function), c->vmfunc, function, 0);
    return false;
}

// VMREAD and VMWRITE under VMCS shadowing (SDM 27.10, 28.1.3): a bit for each value of the register's bits
// 14:0.
static bool vmcs_access_exits(const struct vcpu *v, const struct insn *in, bool write)
{
    const struct vmx_control *c = vmx_controls(v);
    if (!(c->proc2 & PROC2_VMCS_SHADOWING)) return true;
    u64 n = reg_get(v, in->r, cpu_long64(v) ? W64 : W32);
    if (n >> 15) return true;
    const struct vmcs_fields *f = &c->region->f;
    paddr bitmap = write ? f->VMWRITE_BITMAP_ADDRESS : f->VMREAD_BITMAP_ADDRESS;
    return phys_read8(v->phys, v->index, bitmap + n / 8) >> (n % 8) & 1;
}

static bool exits(struct vcpu *v, const struct insn *in, const struct row *r)
{
    switch ((enum exit_when)r->exit_when) {
    case EXIT_NEVER: return false;
    case EXIT_ALWAYS: return true;
    case EXIT_BY_CONTROL: return control_on(v, r->exit_control);
    case EXIT_BY_PAUSE: return pause_exits(v);
    case EXIT_BY_MSR_BITMAP: return vmx_msr_exits(v, r->exit_reason == EXIT_REASON_WRMSR, (u32)v->s.gpr[RCX]);
    case EXIT_BY_NO_MSR_BITMAP: return !vmx_proc(v, PROC_USE_MSR_BITMAPS);
    case EXIT_BY_VMCS_BITMAP: return vmcs_access_exits(v, in, r->exit_reason == EXIT_REASON_VMWRITE);
    case EXIT_BY_XSS_BITMAP: return xss_exits(v);
    case EXIT_BY_VM_FUNCTION: return vm_function_exits(v);
    case EXIT_BY_MOV_TO_CR: return vmx_mov_to_cr_exits(v, in);
    case EXIT_BY_MOV_FROM_CR: return vmx_mov_from_cr_exits(v, in);
    case EXIT_BY_CLTS: return vmx_clts_exits(v);
    case EXIT_BY_LMSW:
    case EXIT_BY_IO: break; // at their own stages
    }
    panic("row %s asks the guard for an exit of another stage", r->name);
}

static u64 invlpg_address(struct vcpu *v, const struct insn *in)
{
    u64 a = insn_ea(v, in); // written even for an unusable segment
    if (!cpu_long64(v)) return (u32)(a + v->s.seg[in->seg].base);
    return in->seg == SEG_FS || in->seg == SEG_GS ? a + v->s.seg[in->seg].base : a;
}

// The exit qualification and whether there is instruction information (SDM table 30-8).
static u64 qualification(struct vcpu *v, const struct insn *in, const struct row *r, bool *has_info)
{
    bool memory = row_has(r, 1 << KIND_M | 1 << KIND_E);
    *has_info = memory || row_has(r, 1 << KIND_R);
    switch (r->exit_reason) {
    case EXIT_REASON_CR_ACCESS: *has_info = false; return vmx_cr_qualification(in, r);
    case EXIT_REASON_MOV_DR: *has_info = false; return vmx_dr_qualification(in, r);
    case EXIT_REASON_INVLPG: *has_info = false; return invlpg_address(v, in);
    case EXIT_REASON_MWAIT: return v->s.monitor_addr != 0;
    case EXIT_REASON_WBINVD: return in->rep == 3 && feature_on(v->features, FEATURE_WBNOINVD);
    case EXIT_REASON_WRMSR: return r->feature == FEATURE_WRMSRNS;
    default: return memory ? vmx_displacement(v, in) : 0;
    }
}

void vmx_intercept(struct vcpu *v, const struct insn *in)
{
    const struct row *r = &rows[in->row];
    if (!exits(v, in, r)) return;
    bool has_info;
    u64 q = qualification(v, in, r, &has_info);
    raise_vmexit(v, r->exit_reason, q, has_info ? vmx_instruction_info(in, r) : 0,
                 WITH_INSN_LEN | (has_info ? WITH_INSN_INFO : 0));
}

bool vmx_hides(const struct vcpu *v, const struct row *r)
{
    return r->needs && !control_on(v, r->needs - 1u);
}

// MSRs and the clock as a guest sees them where the controls virtualize them (SDM 28.3).
#include "cpu/system/system.h"
#include "vmx/apic.h"
#include "vmx/insn.h"
#include "vmx/intercept.h"

#define MSR_SPEC_CTRL 0x48

u64 vmx_tsc(const struct vcpu *v, u64 tsc)
{
    return v->s.vmx.guest ? tsc + vmx_controls(v)->tsc_offset : tsc;
}

// "Virtualize IA32_SPEC_CTRL" (SDM 28.3): the guest reads back what it wrote, and changes the bits outside of
// the mask.
static bool spec_ctrl_virtual(struct vcpu *v, bool write, u64 *value)
{
    const struct vmx_control *c = vmx_controls(v);
    struct vmcs_fields *f = &c->region->f;
    if (!write) {
        *value = f->IA32_SPEC_CTRL_SHADOW;
        return true;
    }
    u64 mask = c->spec_ctrl_mask;
    if (*value & ~spec_ctrl_valid(v->features)) raise_gp0(v);
    v->s.msr.spec_ctrl = (v->s.msr.spec_ctrl & mask) | (*value & ~mask);
    f->IA32_SPEC_CTRL_SHADOW = *value;
    vmx_region_written(v);
    return true;
}

bool vmx_msr_virtual(struct vcpu *v, u32 msr, bool write, u64 *value)
{
    if (!v->s.vmx.guest) return false;
    if (msr == MSR_SPEC_CTRL && vmx_proc3(v, PROC3_VIRTUALIZE_IA32_SPEC_CTRL))
        return spec_ctrl_virtual(v, write, value);
    return write ? vmx_apic_msr_write(v, msr, *value) : vmx_apic_msr_read(v, msr, value);
}

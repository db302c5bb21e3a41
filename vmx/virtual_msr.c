// MSRs and the clock as a guest sees them where the controls virtualize them (SDM 28.3).
#include "cpu/system/system.h"
#include "vmx/apic.h"
#include "vmx/insn.h"
#include "vmx/intercept.h"

#define MSR_SPEC_CTRL    0x48
#define MSR_TSC_DEADLINE 0x6E0

u64 vmx_tsc(const struct vcpu *v, u64 tsc)
{
    if (!v->s.vmx.guest) return tsc;
    const struct vmx_control *c = vmx_controls(v);
    if (c->tsc_multiplier) tsc = (u64)((unsigned __int128)tsc * c->tsc_multiplier >> 48);
    return tsc + c->tsc_offset;
}

u64 vmx_delay(const struct vcpu *v, u64 ticks)
{
    u64 multiplier = v->s.vmx.guest ? vmx_controls(v)->tsc_multiplier : 0;
    if (!multiplier) return ticks;
    unsigned __int128 physical = ((unsigned __int128)ticks << 48) / multiplier;
    return physical >> 64 ? UINT64_MAX : (u64)physical;
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
    // What is written is asked for reserved bits, not what the guest wanted written.
    u64 mask = c->spec_ctrl_mask;
    if (!msr_write(v, MSR_SPEC_CTRL, (v->s.msr.spec_ctrl & mask) | (*value & ~mask))) raise_gp0(v);
    f->IA32_SPEC_CTRL_SHADOW = *value;
    vmx_region_written(v);
    return true;
}

bool vmx_msr_virtual(struct vcpu *v, u32 msr, bool write, u64 *value)
{
    if (!v->s.vmx.guest) return false;
    if (msr == MSR_SPEC_CTRL && vmx_proc3(v, PROC3_VIRTUALIZE_IA32_SPEC_CTRL))
        return spec_ctrl_virtual(v, write, value);
    if (msr == MSR_TSC_DEADLINE && vmx_proc3(v, PROC3_APIC_TIMER_VIRTUALIZATION)) {
        if (write)
            vmx_deadline_write(v, *value);
        else
            vmx_deadline_read(v, value);
        return true;
    }
    return write ? vmx_apic_msr_write(v, msr, *value) : vmx_apic_msr_read(v, msr, value);
}

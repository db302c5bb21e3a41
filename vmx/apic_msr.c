// RDMSR and WRMSR of 800h-8FFh with "virtualize x2APIC mode" (SDM 32.5). The MSR bitmaps were asked before.
#include "vmx/apic.h"

enum { MSR_FIRST = 0x800, MSR_LAST = 0x8FF, MSR_TPR = 0x808, MSR_EOI = 0x80B, MSR_SELF_IPI = 0x83F };

bool vmx_apic_msr_read(const struct vcpu *v, u32 msr, u64 *value)
{
    if (msr < MSR_FIRST || msr > MSR_LAST) return false;
    if (!vmx_proc2(v, PROC2_VIRTUALIZE_X2APIC_MODE)) return false;
    if (msr != MSR_TPR && !vmx_proc2(v, PROC2_APIC_REGISTER_VIRTUALIZATION)) return false;
    *value = phys_read64(v->phys, v->index, vmx_controls(v)->virtual_apic + ((msr & 0xFF) << 4));
    return true;
}

bool vmx_apic_msr_write(struct vcpu *v, u32 msr, u64 value)
{
    if (msr < MSR_FIRST || msr > MSR_LAST) return false;
    const struct vmx_control *c = vmx_controls(v);
    bool interrupts = c->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY;
    if (!(c->proc2 & PROC2_VIRTUALIZE_X2APIC_MODE)) return false;
    if (msr != MSR_TPR && !(interrupts && (msr == MSR_EOI || msr == MSR_SELF_IPI))) return false;
    if (value & ~(msr == MSR_EOI ? 0ull : 0xFFull)) raise_gp0(v);
    phys_write64(v->phys, v->index, c->virtual_apic + ((msr & 0xFF) << 4), value);
    if (msr == MSR_TPR)
        vmx_tpr_virtualization(v);
    else if (msr == MSR_EOI)
        vmx_eoi_virtualization(v);
    else if (value >> 4)
        vmx_self_ipi_virtualization(v, (u8)value);
    else
        vmx_trap(v, EXIT_REASON_APIC_WRITE, VAPIC_SELF_IPI);
    return true;
}

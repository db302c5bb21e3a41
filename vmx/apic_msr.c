// RDMSR and WRMSR of 800h-8FFh with "virtualize x2APIC mode" (SDM 32.5). The MSR bitmaps were asked before.
#include "vmx/apic.h"

enum {
    MSR_FIRST = 0x800,
    MSR_LAST = 0x8FF,
    MSR_TPR = 0x808,
    MSR_EOI = 0x80B,
    MSR_ICR = 0x830,
    MSR_SELF_IPI = 0x83F
};

bool vmx_apic_msr_read(const struct vcpu *v, u32 msr, u64 *value)
{
    if (msr < MSR_FIRST || msr > MSR_LAST) return false;
    if (!vmx_proc2(v, PROC2_VIRTUALIZE_X2APIC_MODE)) return false;
    if (msr != MSR_TPR && !vmx_proc2(v, PROC2_APIC_REGISTER_VIRTUALIZATION)) return false;
    *value = phys_read64(v->phys, v->index, vmx_controls(v)->virtual_apic + ((msr & 0xFF) << 4));
    return true;
}

// Bits that a write of the MSR may set; false: it is not virtualized.
static bool virtualized(const struct vmx_control *c, u32 msr, u64 *allowed)
{
    bool interrupts = c->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY;
    switch (msr) {
    case MSR_TPR: *allowed = 0xFF; return true;
    case MSR_EOI: *allowed = 0; return interrupts;
    case MSR_SELF_IPI: *allowed = 0xFF; return interrupts;
    case MSR_ICR: *allowed = ~0xFFF32000ull; return c->proc3 & PROC3_IPI_VIRTUALIZATION;
    default: return false;
    }
}

bool vmx_apic_msr_write(struct vcpu *v, u32 msr, u64 value)
{
    const struct vmx_control *c = vmx_controls(v);
    u64 allowed;
    if (!(c->proc2 & PROC2_VIRTUALIZE_X2APIC_MODE) || !virtualized(c, msr, &allowed)) return false;
    if (value & ~allowed) raise_gp0(v);
    phys_write64(v->phys, v->index, c->virtual_apic + ((msr & 0xFF) << 4), value);
    switch (msr) {
    case MSR_TPR: vmx_tpr_virtualization(v); break;
    case MSR_EOI: vmx_eoi_virtualization(v); break;
    case MSR_SELF_IPI:
        if (value >> 4)
            vmx_self_ipi_virtualization(v, (u8)value);
        else
            vmx_trap(v, EXIT_REASON_APIC_WRITE, VAPIC_SELF_IPI);
        break;
    case MSR_ICR: // bits 19:18, 15, 12, 11 and 10:8
        if (!(value & 0xC9F00))
            vmx_ipi_virtualization(v, (u8)value, (u32)(value >> 32));
        else
            vmx_trap(v, EXIT_REASON_APIC_WRITE, VAPIC_ICR_LO);
        break;
    }
    return true;
}

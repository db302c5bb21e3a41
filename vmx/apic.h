// The virtual-APIC state (SDM 32.1), between the files that change it: vmx/apic.c (the state itself and
// virtual interrupts), apic_access.c (the APIC-access page), apic_msr.c (MSRs 800h-8FFh), posted.c (posted
// interrupts), guest_timer.c (the timer).
#ifndef VMX_APIC_H
#define VMX_APIC_H

#include "vmx/control.h"

enum { // offsets in the virtual-APIC page
    VAPIC_ID = 0x020,
    VAPIC_VERSION = 0x030,
    VAPIC_TPR = 0x080,
    VAPIC_PPR = 0x0A0,
    VAPIC_EOI = 0x0B0,
    VAPIC_ISR = 0x100,
    VAPIC_IRR = 0x200,
    VAPIC_ICR_LO = 0x300,
    VAPIC_ICR_HI = 0x310,
    VAPIC_SELF_IPI = 0x3F0,
};

static inline u32 vapic_read(const struct vcpu *v, unsigned offset)
{
    return phys_read32(v->phys, v->index, vmx_controls(v)->virtual_apic + offset);
}
static inline void vapic_write(struct vcpu *v, unsigned offset, u32 x)
{
    paddr page = vmx_controls(v)->virtual_apic;
    const char *outer = phys_writer_begin(v->phys, "APIC virtualization");
    phys_write32(v->phys, v->index, page + offset, x);
    phys_writer_end(v->phys, outer);
}
// A bit of VISR or VIRR: 32 of them in the low 4 bytes of each 16.
static inline unsigned vapic_vector_at(unsigned base, u8 vector) { return base | (vector & 0xE0u) >> 1; }

// A trap-like VM exit: after this instruction.
void vmx_trap(struct vcpu *v, u32 reason, u32 qualification);

void vmx_tpr_virtualization(struct vcpu *v);
void vmx_eoi_virtualization(struct vcpu *v);
void vmx_ipi_virtualization(struct vcpu *v, u8 vector, u32 target); // target: a virtual APIC ID
void vmx_self_ipi_virtualization(struct vcpu *v, u8 vector);
void vmx_evaluate_virtual_interrupts(struct vcpu *v);
void vmx_virtual_request(struct vcpu *v, unsigned word, u32 vectors); // VIRR |= 32 vectors; RVI follows
// What the operation that is over has written to the APIC-access page takes effect (SDM 32.4.3.2).
void vmx_apic_write_emulation(struct vcpu *v);

// IA32_TSC_DEADLINE with "APIC-timer virtualization" (vmx/guest_timer.c)
void vmx_deadline_read(const struct vcpu *v, u64 *value);
void vmx_deadline_write(struct vcpu *v, u64 value);
// When the guest timer's event comes (vtime, UINT64_MAX if not), and whether it has.
u64 vmx_guest_timer_at(const struct vcpu *v);
bool vmx_guest_timer_due(const struct vcpu *v);

// MSRs 800h-8FFh in non-root operation: true if handled.
bool vmx_apic_msr_read(const struct vcpu *v, u32 msr, u64 *value);
RAISES bool vmx_apic_msr_write(struct vcpu *v, u32 msr, u64 value);

#endif

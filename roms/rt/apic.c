/* The local APIC. See apic.h. */
#include "apic.h"

static uint64_t apic_base(void) { return rdmsr(IA32_APIC_BASE) & PTE_ADDRESS; }

bool apic_is_x2(void) { return rdmsr(IA32_APIC_BASE) & APIC_BASE_X2; }

uint32_t apic_read(uint32_t offset)
{
    if (apic_is_x2()) return (uint32_t)rdmsr(0x800 + offset / 16);
    return *(volatile uint32_t *)(apic_base() + offset);
}

void apic_write(uint32_t offset, uint32_t value)
{
    if (apic_is_x2())
        wrmsr(0x800 + offset / 16, value);
    else
        *(volatile uint32_t *)(apic_base() + offset) = value;
}

void apic_enable(void)
{
    if (!(rdmsr(IA32_APIC_BASE) & APIC_BASE_ENABLE))
        wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | APIC_BASE_ENABLE);
    apic_write(APIC_SPURIOUS, 0x100 | APIC_SPURIOUS_VECTOR);
    apic_write(APIC_TPR, 0);
}

void apic_eoi(void) { apic_write(APIC_EOI, 0); }

void apic_self_ipi(uint8_t vector)
{
    if (apic_is_x2()) {
        apic_write(APIC_SELF_IPI, vector);
    } else {
        apic_write(APIC_ICR, 1u << 18 | 1u << 14 | vector); /* shorthand self, assert, fixed */
        while (apic_read(APIC_ICR) & 1u << 12) pause();
    }
    for (unsigned i = 0; i < 100000 && !apic_bit(APIC_IRR, vector) && !apic_bit(APIC_ISR, vector); i++)
        pause();
}

uint64_t apic_icr_address(void) { return apic_base() + APIC_ICR; }

uint32_t apic_nmi_command(void)
{
    if (!apic_is_x2()) apic_write(APIC_ICR_HIGH, apic_read(APIC_ID));
    return 1u << 14 | 4u << 8; /* assert, NMI, physical destination */
}

bool apic_bit(uint32_t base, uint8_t vector)
{
    return apic_read(base + vector / 32 * 16) >> (vector & 31) & 1;
}

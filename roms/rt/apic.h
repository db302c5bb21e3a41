/*
 * The local APIC, in whichever mode it is: as little as tests need.
 */
#ifndef RT_APIC_H
#define RT_APIC_H

#include "rt.h"

#define APIC_ID              0x20
#define APIC_VERSION         0x30
#define APIC_TPR             0x80
#define APIC_PPR             0xa0
#define APIC_EOI             0xb0
#define APIC_LDR             0xd0
#define APIC_DFR             0xe0
#define APIC_SPURIOUS        0xf0
#define APIC_ISR             0x100
#define APIC_IRR             0x200
#define APIC_ESR             0x280
#define APIC_ICR             0x300
#define APIC_ICR_HIGH        0x310
#define APIC_LVT_TIMER       0x320
#define APIC_LVT_LINT0       0x350
#define APIC_TIMER_INITIAL   0x380
#define APIC_TIMER_CURRENT   0x390
#define APIC_TIMER_DIVIDE    0x3e0
#define APIC_SELF_IPI        0x3f0 /* x2APIC only */

#define APIC_BASE_ENABLE     (1u << 11)
#define APIC_BASE_X2         (1u << 10)

#define APIC_SPURIOUS_VECTOR 0xff

bool apic_is_x2(void);
/* Registers by their xAPIC offsets; the MSR is 800h + offset / 16. */
uint32_t apic_read(uint32_t offset);
void apic_write(uint32_t offset, uint32_t value);
/* Software-enables it. */
void apic_enable(void);
void apic_eoi(void);
/* A fixed interrupt to this processor; returns when it has been accepted. */
void apic_self_ipi(uint8_t vector);
/* What a guest needs to send this processor an NMI: the linear address of the ICR (xAPIC), and the word to
   write there. The destination is set by this call (NMIs may not use the self shorthand); in x2APIC mode it
   is id 0. */
uint64_t apic_icr_address(void);
uint32_t apic_nmi_command(void);
/* Is the vector's bit set in IRR (APIC_IRR) or ISR (APIC_ISR)? */
bool apic_bit(uint32_t base, uint8_t vector);

#endif

// Local APICs and the bus between them. One struct lapic a processor; xAPIC by memory, x2APIC by MSRs.
#ifndef DEVICES_LAPIC_H
#define DEVICES_LAPIC_H

#include "devices/bus.h"

#define LAPIC_MAX 64 // processors of a machine

// clang-format off
enum { LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERF, LAPIC_LVT_LINT0, LAPIC_LVT_LINT1, LAPIC_LVT_ERROR, LAPIC_LVTS };
enum lapic_delivery { // of LVT, ICR, I/O APIC and MSI
    DELIVER_FIXED, DELIVER_LOWEST, DELIVER_SMI, DELIVER_NMI = 4, DELIVER_INIT, DELIVER_SIPI, DELIVER_EXTINT
};
// clang-format on

// What the APIC does to its processor.
struct lapic_cpu_ops {
    void (*intr)(void *cpu, bool level); // an interrupt can be acknowledged (or no longer)
    void (*nmi)(void *cpu);
    void (*init)(void *cpu); // the processor calls lapic_init_reset when it takes it
    void (*sipi)(void *cpu, u8 vector);
    u64 (*tsc)(void *cpu); // the processor's time-stamp counter at clock->now
};

STATE_BEGIN
struct lapic_state {
    u64 apic_base;    // IA32_APIC_BASE
    u64 tsc_deadline; // IA32_TSC_DEADLINE; 0: disarmed
    u64 timer_start;  // clock time at which the count was timer_from
    u32 timer_from;   // 0: the timer does not run
    u32 timer_initial, timer_divide;
    u32 id; // xAPIC: the 8-bit ID; x2APIC: all of it
    u32 ldr, dfr, tpr, svr;
    u32 esr, errors; // as read, and gathered since the last write to ESR
    u32 icr_low, icr_high;
    u32 lvt[LAPIC_LVTS];
    u32 irr[8], isr[8], tmr[8];
    u8 lint[2]; // levels of the pins
    u8 extint;  // an ExtINT came by message: the next acknowledge may ask the 8259
    u8 unused[5];
};
STATE_END

struct apic_bus;

struct lapic {
    struct device dev;
    struct lapic_state st;
    struct apic_bus *bus;
    const struct lapic_cpu_ops *ops;
    void *cpu;
    unsigned index;
    u32 initial_id; // APIC ID at power-up
    unsigned timer;
    u64 base_reserved;    // bits of IA32_APIC_BASE that must be 0
    bool no_tsc_deadline; // the processor has no TSC-deadline mode: bit 18 of the timer's LVT is reserved
};

// The message bus: local APICs by processor number, and who wants to hear of an end of interrupt.
struct apic_bus {
    struct lapic *lapic[LAPIC_MAX];
    unsigned n;
    void (*eoi)(void *to, u8 vector); // I/O APIC
    void *eoi_to;
    u8 (*extint_ack)(void *to); // an INTA cycle on the 8259 pair
    void *extint_to;
};

struct apic_message {
    u32 destination;
    u8 vector;
    u8 delivery; // enum lapic_delivery
    bool logical;
    bool level; // trigger mode
    bool wide;  // 32-bit destination of an x2APIC; else 8 bits, FFh = all
};

// Processor 0 is the bootstrap processor. id: its initial APIC ID; phys_bits: MAXPHYADDR.
void lapic_init(struct lapic *l, struct apic_bus *bus, struct clock *c, unsigned index, u32 id,
                unsigned phys_bits, const struct lapic_cpu_ops *ops, void *cpu);
void lapic_init_reset(struct lapic *l);   // the processor took an INIT: all but the ID and IA32_APIC_BASE
void lapic_virtual_wire(struct lapic *l); // what firmware leaves: enabled, LINT0 = ExtINT, LINT1 = NMI

static inline bool lapic_enabled(const struct lapic *l) { return l->st.apic_base >> 11 & 1; }
static inline bool lapic_x2apic(const struct lapic *l) { return l->st.apic_base >> 10 & 1; }
// True if the page at `a` is this processor's APIC page (xAPIC mode).
static inline bool lapic_claims(const struct lapic *l, paddr a)
{
    return (l->st.apic_base >> 10 & 3) == 2 && (a & PAGE_MASK) == (l->st.apic_base & PAGE_MASK);
}
u32 lapic_mmio_read(struct lapic *l, u32 offset, unsigned size);
void lapic_mmio_write(struct lapic *l, u32 offset, unsigned size, u32 value);
// IA32_APIC_BASE (1Bh), IA32_TSC_DEADLINE (6E0h), 800h-8FFh. False: #GP(0), and nothing changed.
bool lapic_msr_read(struct lapic *l, u32 msr, u64 *value);
bool lapic_msr_write(struct lapic *l, u32 msr, u64 value);

bool lapic_pending(const struct lapic *l); // something to acknowledge: own, or ExtINT
int lapic_ack(struct lapic *l);            // INTA: the vector, or -1 if nothing is there any more
u8 lapic_tpr(const struct lapic *l);
void lapic_set_tpr(struct lapic *l, u8 tpr);
void lapic_eoi(struct lapic *l);
// The IPI of IPI virtualization: fixed, physical. Its destination is 32 bits of an x2APIC, else bits 15:8.
void lapic_send_fixed(struct lapic *l, u32 destination, u8 vector);
void lapic_tsc_changed(struct lapic *l); // the processor's TSC was written: the TSC deadline lies elsewhere
void lapic_set_lint(void *lapic, unsigned pin, bool level); // a struct irq_line's set
// an interrupt arrives
void lapic_apply_fixed(struct lapic *l, u8 vector, bool level);

// What the processor would get if the source of that LVT entry struck, or if that message came: LAPIC_*, 0
// for nothing (masked, of too low a priority, for somebody else).
enum { LAPIC_INTR = 1, LAPIC_NMI = 2, LAPIC_INIT = 4, LAPIC_SIPI = 8 };
u32 lapic_would_signal_local(const struct lapic *l, unsigned lvt);
u32 lapic_would_signal(const struct lapic *l, const struct apic_message *m);

// Sends a message to all local APICs that it is for.
void apic_bus_send(struct apic_bus *b, const struct apic_message *m);
// the 8259's INTR goes to LINT0 of every processor
void apic_bus_set_lint0(void *bus, unsigned n, bool level);

#endif

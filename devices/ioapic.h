// I/O APIC: 24 pins to messages on the APIC bus.
#ifndef DEVICES_IOAPIC_H
#define DEVICES_IOAPIC_H

#include "devices/bus.h"
#include "devices/lapic.h"

#define IOAPIC_PINS 24
#define IOAPIC_BASE 0xFEC00000ull

STATE_BEGIN
struct ioapic_state {
    u64 entry[IOAPIC_PINS];
    u32 lines; // levels of the pins
    u32 irr;   // requests not yet sent: edges, and levels that are asserted
    u8 select; // IOREGSEL
    u8 id;
    u8 unused[6];
};
STATE_END

struct ioapic {
    struct device dev;
    struct ioapic_state st;
    struct apic_bus *bus;
};

void ioapic_init(struct ioapic *a, struct bus *b, struct clock *c, struct apic_bus *apics);
void ioapic_set_line(void *ioapic, unsigned pin, bool level); // a struct irq_line's set
// what, if that pin's line rose
bool ioapic_would_send(const struct ioapic *a, unsigned pin, struct apic_message *m);
void ioapic_eoi(void *ioapic, u8 vector); // an end of interrupt from a local APIC

#endif

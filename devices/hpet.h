// High precision event timer: three comparators on a 100 MHz counter.
#ifndef DEVICES_HPET_H
#define DEVICES_HPET_H

#include "devices/bus.h"

#define HPET_BASE   0xFED00000ull
#define HPET_TIMERS 3

STATE_BEGIN
struct hpet_state {
    u64 config, status;
    u64 offset; // counter = offset + ticks of the clock since `start`, while it runs
    u64 start;
    struct hpet_timer {
        u64 config, comparator, period, fsb;
        u64 due;            // counter value (64-bit, not wrapped) of the next match; CLOCK_NEVER: none
        u8 set_accumulator; // the next write of the comparator goes to it (periodic)
        u8 unused[7];
    } timer[HPET_TIMERS];
};
STATE_END

struct hpet {
    struct device dev;
    struct hpet_state st;
    struct irq_line irq[24];           // inputs of the I/O APIC
    struct irq_line irq0, irq8;        // legacy replacement: the lines of the 8254 and of the clock
    void (*legacy)(void *to, bool on); // legacy replacement was switched
    void *to;
    unsigned clock_timer[HPET_TIMERS];
};

void hpet_init(struct hpet *h, struct bus *b, struct clock *c);

#endif

// MC146818 real-time clock with 128 bytes of CMOS memory.
#ifndef DEVICES_CMOS_H
#define DEVICES_CMOS_H

#include "devices/bus.h"

STATE_BEGIN
struct cmos_state {
    s64 base;      // seconds since 1970 shown at clock time base_time
    u64 base_time; // clock time of a second's start (or at which the divider was released)
    u64 seen;      // clock time up to which the flags of register C have been computed
    u8 index;
    u8 irq_off; // HPET legacy replacement took IRQ 8
    u8 unused[6];
    u8 reg[128];
};
STATE_END

struct cmos {
    struct device dev;
    struct cmos_state st;
    struct irq_line irq8;
    unsigned timer;
    s64 start; // seconds since 1970 at the machine's start
    u64 ram_low, ram_high;
    unsigned cpus;
};

// `start` from the command line; the memory sizes and the processor count go into the bytes where QEMU puts
// them.
void cmos_init(struct cmos *m, struct bus *b, struct clock *c, s64 start, u64 ram_low, u64 ram_high,
               unsigned cpus);
void cmos_set_irq_off(struct cmos *m, bool off);

#endif

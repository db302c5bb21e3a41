// The board's side of x87 errors: FERR#, IRQ 13, IGNNE#.
#ifndef DEVICES_FERR_H
#define DEVICES_FERR_H

#include "devices/bus.h"

STATE_BEGIN
struct ferr_state {
    u64 pins; // FERR# of the processors, a bit each
    u8 irq;   // IRQ 13 is latched
    u8 ignne; // IGNNE# is asserted
    u8 pad[6];
};
STATE_END

struct ferr {
    struct device dev;
    struct ferr_state st;
    struct irq_line irq13;
};

void ferr_init(struct ferr *f, struct bus *b, struct clock *c);
// A processor's FERR# pin has this level from now on. True if IGNNE# is asserted.
bool ferr_set(struct ferr *f, unsigned cpu, bool level);

#endif

// 8254 programmable interval timer and the port 61h around its channel 2.
#ifndef DEVICES_PIT_H
#define DEVICES_PIT_H

#include "devices/bus.h"

#define PIT_HZ 1193182ull

STATE_BEGIN
struct pit_channel {
    u64 start;     // PIT tick at which the count was loaded into the counting element
    u64 held;      // gate low in modes 0 and 4: ticks already counted when it fell
    u64 switch_at; // modes 2 and 3: tick at which `next` replaces `count`; 0: none waits
    u32 count;     // count being counted down, 1-65536 (1-10000 in BCD); 0: none loaded yet
    u32 next;
    u16 latched_count;
    u8 status_latch;
    u8 status_latched;
    u8 count_latched; // bytes of latched_count still to be read
    u8 rw;            // 1: low byte, 2: high byte, 3: low then high
    u8 mode;          // 0-5
    u8 bcd;
    u8 gate;
    u8 write_high, read_high; // rw 3: the next byte is the high one
    u8 write_low;             // the low byte that waits for its high byte
    u8 triggered;             // modes 1 and 5: a gate edge has started the count
    u8 halted;                // mode 0: between the two bytes of a count
    u8 unused[2];
};

struct pit_state {
    struct pit_channel ch[3];
    u64 edge;   // PIT tick of the channel 0 output change that the timer is armed for; 0: none
    u8 out0;    // channel 0's output as last driven
    u8 port61;  // bits 0-3 as written
    u8 irq_off; // HPET legacy replacement took IRQ 0
    u8 unused[5];
};
STATE_END

struct pit {
    struct device dev;
    struct pit_state st;
    struct irq_line irq0;
    unsigned timer;
};

void pit_init(struct pit *p, struct bus *b, struct clock *c);
void pit_set_irq_off(struct pit *p, bool off);       // HPET legacy replacement
bool pit_out(const struct pit *p, unsigned channel); // the output's level now

#endif

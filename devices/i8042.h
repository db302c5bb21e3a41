// Keyboard controller (8042) with a PS/2 keyboard and a PS/2 mouse.
#ifndef DEVICES_I8042_H
#define DEVICES_I8042_H

#include "devices/bus.h"

#define I8042_QUEUE 32

STATE_BEGIN
struct i8042_queue {
    u8 first, n;
    u8 byte[I8042_QUEUE];
};

struct i8042_device { // keyboard or mouse, as far as its protocol has state
    struct i8042_queue out;
    u8 command; // waits for its parameter; 0: none
    u8 enabled; // scanning, or stream reporting
    u8 leds, rate, resolution, scaling, set;
};

struct i8042_state {
    u8 ctr;                          // command byte
    u8 outport;                      // 0 reset (active low), 1 A20, 4 IRQ 1, 5 IRQ 12
    u8 status;                       // OBF, command/data, aux; IBF is never seen
    u8 out;                          // the output buffer
    u8 command;                      // waits for its parameter on port 60h; 0: none
    struct i8042_queue own, own_aux; // the controller's answers, and those that look like the mouse's
    struct i8042_device kbd, aux;
};
STATE_END

struct i8042 {
    struct device dev;
    struct i8042_state st;
    struct irq_line irq1, irq12;
    void (*reset_line)(void *to); // the processor's RESET
    void (*a20)(void *to);        // the A20 output changed: ask i8042_a20
    void *to;
};

void i8042_init(struct i8042 *k, struct bus *b, struct clock *c);
static inline bool i8042_a20(const struct i8042 *k) { return k->st.outport >> 1 & 1; }

#endif

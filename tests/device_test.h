// What the device tests share: a bus and a clock, port access in one word, and a line that remembers.
#ifndef TESTS_DEVICE_TEST_H
#define TESTS_DEVICE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/bus.h"
#include "devices/clock.h"

struct board {
    struct clock clock;
    struct bus bus;
};

static inline void board_begin(struct board *b)
{
    clock_init(&b->clock);
    bus_init(&b->bus);
}
static inline void out8(struct board *b, u16 port, u8 v) { bus_port_write(&b->bus, port, 1, v); }
static inline u8 in8(struct board *b, u16 port) { return (u8)bus_port_read(&b->bus, port, 1); }
static inline void out16(struct board *b, u16 port, u16 v) { bus_port_write(&b->bus, port, 2, v); }
static inline u16 in16(struct board *b, u16 port) { return (u16)bus_port_read(&b->bus, port, 2); }
static inline void out32(struct board *b, u16 port, u32 v) { bus_port_write(&b->bus, port, 4, v); }
static inline u32 in32(struct board *b, u16 port) { return (u32)bus_port_read(&b->bus, port, 4); }

// Goes to an instant, firing what is due on the way, each at its own time.
static inline void go_to(struct board *b, u64 t)
{
    while (b->clock.next_deadline <= t) {
        if (b->clock.next_deadline > b->clock.now) b->clock.now = b->clock.next_deadline;
        clock_run(&b->clock);
    }
    b->clock.now = t;
}
static inline void pass(struct board *b, u64 ticks) { go_to(b, b->clock.now + ticks); }
#define MICROSECONDS(n) ((n) * (CLOCK_HZ / 1000000))

struct wire {
    bool level;
    unsigned rises;
};
static inline void wire_set(void *to, unsigned n, bool level)
{
    struct wire *w = to;
    (void)n;
    if (level && !w->level) w->rises++;
    w->level = level;
}
static inline struct irq_line wire_to(struct wire *w) { return (struct irq_line){wire_set, w, 0}; }

#endif

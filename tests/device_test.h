// What the device tests share: a bus and a clock, port access in one word, and a line that remembers.
#ifndef TESTS_DEVICE_TEST_H
#define TESTS_DEVICE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "devices/bus.h"
#include "devices/clock.h"
#include "devices/device_table.h"

struct board {
    struct clock clock;
    struct bus bus;
    struct device *added[4]; // by devices that are made from the table
    unsigned added_n;
};

static inline void board_begin(struct board *b)
{
    clock_init(&b->clock);
    bus_init(&b->bus);
    b->added_n = 0;
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

// ---- devices of the table ----

// A configuration, from what would follow -device: "isa-debug-exit,iobase=0xf4,iosize=1".
static inline struct device_config device_of(const char *text)
{
    static char copy[256]; // strings and ids of lines live until the next call
    char why[256] = "", *rest = copy;
    struct device_config c;
    snprintf(copy, sizeof copy, "%s", text);
    const struct device_row *row = device_row_find(strsep(&rest, ","));
    if (!row) fail_msg("there is no device %s", text);
    device_config_begin(&c, row);
    for (char *name; (name = strsep(&rest, ",")) != NULL;) {
        char *value = name;
        strsep(&value, "=");
        int n = device_row_property(row, name);
        if (n < 0 || !value || !device_config_set(&c, (unsigned)n, value, why, sizeof why))
            fail_msg("%s: %s: %s", text, name, why);
    }
    return c;
}
static inline void board_add(void *to, struct device *d)
{
    struct board *b = to;
    assert_true(b->added_n < ARRAY_LEN(b->added));
    b->added[b->added_n++] = d;
    if (d->ops->reset) d->ops->reset(d);
}
// What this board offers, for a test to put its own functions in.
static inline struct device_board board_offers(struct board *b)
{
    return (struct device_board){.bus = &b->bus, .clock = &b->clock, .to = b, .add = board_add};
}
// The device's struct; free() it.
static inline void *make_device(const struct device_board *b, const struct device_config *c)
{
    void *self = calloc(1, c->row->size);
    assert_non_null(self);
    c->row->create(self, b, c->value);
    return self;
}

#endif

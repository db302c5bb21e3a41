// What a device is to the board: operations over one struct of plain state.
#ifndef DEVICES_DEVICE_H
#define DEVICES_DEVICE_H

#include "mmu/types.h"
#include "devices/clock.h"

struct device;

// An interrupt (or other) line: `level` is the line's level from now on. A NULL set means not connected.
struct irq_line {
    void (*set)(void *to, unsigned n, bool level);
    void *to;
    unsigned n;
};
static inline void irq_set(const struct irq_line *l, bool level)
{
    if (l->set) l->set(l->to, l->n, level);
}

struct device_ops {
    const char *name;
    void (*reset)(struct device *d);
    // `region` is the number given when the range was mapped; `offset` counts from its start; size is 1, 2, 4 or 8.
    // Values are zero-extended. A device that does not decode a size or offset reads all ones and ignores writes.
    u64 (*read)(struct device *d, unsigned region, u64 offset, unsigned size);
    void (*write)(struct device *d, unsigned region, u64 offset, unsigned size, u64 value);
    void (*tick)(struct device *d, unsigned timer_id); // a deadline of this device is due
    void (*loaded)(struct device *d);                  // after state was restored: re-derive deadlines and lines
};

// The first member of every device's own struct. `state` points at its architectural state: one struct of
// fixed-width fields, no pointers, which is what snapshots copy and the state hash covers.
struct device {
    const struct device_ops *ops;
    struct clock *clock;
    void *state;
    u32 state_size;
    struct device *next; // in wiring order
};

#endif

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

// What a device says to the people who watch the machine. Every member may be NULL.
struct device_host {
    void (*unimplemented)(void *opaque, const char *what); // counted and named: guest-visible, and not there
    void *opaque;
};

#define DEVICE_ISA(n)        (1ull << (n))        // an ISA interrupt
#define DEVICE_APIC_INPUT(n) (1ull << (32 + (n))) // an input of the I/O APIC that is no ISA interrupt

struct device_ops {
    const char *name;
    unsigned max_size; // widest access it decodes; the bus splits wider ones into pieces of this size. 0: any
    void (*reset)(struct device *d);
    // `region` is the number given when the range was mapped; `offset` counts from its start; size is 1, 2, 4
    // or 8. Values are zero-extended. A device that does not decode a size or offset reads all ones and
    // ignores writes.
    u64 (*read)(struct device *d, unsigned region, u64 offset, unsigned size);
    void (*write)(struct device *d, unsigned region, u64 offset, unsigned size, u64 value);
    void (*tick)(struct device *d, unsigned timer_id); // a deadline of this device is due
    // The interrupt lines that deadlines of this timer may raise, now or later, as the device stands: what is
    // up and stays so is not raised. Bits DEVICE_ISA(n), DEVICE_APIC_INPUT(n). NULL: none.
    u64 (*raises)(const struct device *d, unsigned timer_id);
    // After all state was put there: re-derives deadlines and mapped ranges. Lines may be driven again, to
    // the level that they have.
    void (*loaded)(struct device *d);
    // Of a saved state, before it is put there: what the device cannot have been in, in a few words; NULL: it
    // can. What the code relies on without asking is asked here: indices, counts, times in their order. Not
    // set: any bytes do.
    const char *(*impossible)(const struct device *d, const void *state);
    u32 state_version; // of the struct behind `state`: one more with each change of its layout or meaning
};

// The first member of every device's own struct. `state` points at its architectural state: one struct of
// fixed-width fields, no pointers; by being in the machine's list of devices it is hashed, saved and loaded
// (machine_state.h).
struct device {
    const struct device_ops *ops;
    struct clock *clock;
    void *state;
    u32 state_size;
    struct device *next; // in wiring order
    const struct device_host *host;
};

static inline void device_unimplemented(const struct device *d, const char *what)
{
    if (d->host && d->host->unimplemented) d->host->unimplemented(d->host->opaque, what);
}

#endif

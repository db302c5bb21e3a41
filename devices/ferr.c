// x87 errors as the PC/AT reports them: the processor's FERR# pin raises IRQ 13. Source: Intel 82371SB
// (PIIX3) data sheet, coprocessor error function and CERR.
//
//   F0h  W: ends IRQ 13, and asserts IGNNE# if FERR# is asserted; IGNNE# falls with FERR#
//
// Missing: F1h (the reset of an 80287).
#include "devices/ferr.h"

#include <string.h>

static void drive(struct ferr *f, bool irq)
{
    f->st.irq = irq;
    irq_set(&f->irq13, irq);
}

static u64 ferr_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)d, (void)region, (void)offset, (void)size;
    return UINT64_MAX;
}

static void ferr_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)offset, (void)size, (void)value;
    struct ferr *f = (struct ferr *)d;
    f->st.ignne = f->st.pins != 0;
    drive(f, false);
}

bool ferr_set(struct ferr *f, unsigned cpu, bool level)
{
    u64 old = f->st.pins, pin = 1ull << cpu;
    f->st.pins = level ? old | pin : old & ~pin;
    if (!f->st.pins) f->st.ignne = 0;
    if (!old && f->st.pins) drive(f, true);
    return f->st.ignne;
}

static void ferr_reset(struct device *d)
{
    struct ferr *f = (struct ferr *)d;
    f->st = (struct ferr_state){0};
    drive(f, false);
}

static void ferr_loaded(struct device *d)
{
    struct ferr *f = (struct ferr *)d;
    drive(f, f->st.irq);
}

static const struct device_ops ferr_ops = {.name = "ferr",
                                           .state_version = 1,
                                           .max_size = 1,
                                           .reset = ferr_reset,
                                           .read = ferr_read,
                                           .write = ferr_write,
                                           .loaded = ferr_loaded};

void ferr_init(struct ferr *f, struct bus *b, struct clock *c)
{
    memset(f, 0, sizeof *f);
    f->dev = (struct device){.ops = &ferr_ops, .clock = c, .state = &f->st, .state_size = sizeof f->st};
    bus_map_port(b, &f->dev, 0, 0xF0, 1);
}

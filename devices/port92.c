// clang-format off
// System control port A. Source: IBM PS/2 Hardware Interface Technical Reference, system control port A.
//
//   92h  0 a rising edge resets the processor, 1 A20; the others are stored and do nothing (hard disk light, password)
//
// A20 is open if this bit or the keyboard controller's is set, as on PIIX boards; it is set after reset, as firmware
// leaves it.
// clang-format on
#include "devices/port92.h"

#include <string.h>

static u64 port92_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region, (void)offset, (void)size;
    return ((struct port92 *)d)->st.value;
}

static void port92_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)offset, (void)size;
    struct port92 *p = (struct port92 *)d;
    u8 old = p->st.value;
    p->st.value = (u8)value;
    if ((old ^ value) & 2 && p->a20) p->a20(p->to);
    if (value & 1 && !(old & 1) && p->reset_line) p->reset_line(p->to);
}

static void port92_reset(struct device *d) { ((struct port92 *)d)->st = (struct port92_state){.value = 2}; }

// clang-format off
static const struct device_ops port92_ops = {
    .name = "port92", .state_version = 1, .max_size = 1, .reset = port92_reset, .read = port92_read, .write = port92_write};
// clang-format on

void port92_init(struct port92 *p, struct bus *b, struct clock *c)
{
    memset(p, 0, sizeof *p);
    p->dev = (struct device){.ops = &port92_ops, .clock = c, .state = &p->st, .state_size = sizeof p->st};
    bus_map_port(b, &p->dev, 0, 0x92, 1);
}

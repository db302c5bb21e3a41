// isa-debug-exit, debug consoles and pc-testdev, with the semantics that test suites expect of QEMU's devices.
//
//   isa-debug-exit  iobase, iosize of the command line; a write of v ends the machine with status (v << 1) | 1; reads 0
//   E9h             a byte to the debug console; reads E9h, which tells that the console is there; isa-debugcon: one more,
//                   or this one, at iobase, reads as readback
//   pc-testdev      2000h + n: a write sets input n of the interrupt controllers to (value != 0)
//                   E0h-E3h scratch of any width;  E4h-E7h flush;  FF000000h 64 KiB of memory behind MMIO
#include "devices/debug_ports.h"

#include <string.h>

// ---- isa-debug-exit ----

static u64 exit_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)d, (void)region, (void)offset, (void)size;
    return 0;
}

static void exit_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)offset, (void)size;
    struct debug_exit *e = (struct debug_exit *)d;
    if (e->exit) e->exit(e->to, (u32)value << 1 | 1);
}

static const struct device_ops exit_ops = {.name = "isa-debug-exit", .read = exit_read, .write = exit_write};

void debug_exit_init(struct debug_exit *e, struct bus *b, struct clock *c, u16 port, unsigned size)
{
    memset(e, 0, sizeof *e);
    e->dev = (struct device){.ops = &exit_ops, .clock = c};
    bus_map_port_over(b, &e->dev, 0, port, size);
}

// ---- debug consoles ----

static u64 console_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region, (void)offset, (void)size;
    return ((struct debug_console *)d)->readback;
}

static void console_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)offset, (void)size;
    chardev_write(&((struct debug_console *)d)->chr, (u8)value);
}

static const struct device_ops console_ops = {.name = "debug-console", .max_size = 1, .read = console_read, .write = console_write};

static void console_set(struct debug_console *p, struct clock *c, u8 readback)
{
    memset(p, 0, sizeof *p);
    p->dev = (struct device){.ops = &console_ops, .clock = c};
    p->readback = readback;
}

void debug_console_init(struct debug_console *p, struct bus *b, struct clock *c)
{
    console_set(p, c, DEBUG_CONSOLE_PORT);
    bus_map_port(b, &p->dev, 0, DEBUG_CONSOLE_PORT, 1);
}

void debug_console_init_at(struct debug_console *p, struct bus *b, struct clock *c, u16 port, u8 readback)
{
    console_set(p, c, readback);
    bus_map_port_over(b, &p->dev, 0, port, 1);
}

// ---- pc-testdev ----

enum { REGION_IRQ, REGION_SCRATCH, REGION_FLUSH, REGION_MEM };

static u64 testdev_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    struct testdev *t = (struct testdev *)d;
    u64 v = 0;
    if (region == REGION_SCRATCH) v = t->st.scratch >> offset * 8;
    if (region == REGION_MEM && offset + size <= TESTDEV_MEM_SIZE) memcpy(&v, t->st.mem + offset, size);
    return v;
}

static void testdev_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    struct testdev *t = (struct testdev *)d;
    if (region == REGION_IRQ) irq_set(&t->irq[offset], value != 0);
    if (region == REGION_SCRATCH) memcpy((u8 *)&t->st.scratch + offset, &value, size);
    if (region == REGION_FLUSH && t->flush) t->flush(t->to);
    if (region == REGION_MEM && offset + size <= TESTDEV_MEM_SIZE) memcpy(t->st.mem + offset, &value, size);
}

static void testdev_reset(struct device *d) { memset(&((struct testdev *)d)->st, 0, sizeof(struct testdev_state)); }

static const struct device_ops testdev_ops = {
    .name = "pc-testdev", .reset = testdev_reset, .read = testdev_read, .write = testdev_write};

void testdev_init(struct testdev *t, struct bus *b, struct clock *c)
{
    memset(t, 0, sizeof *t);
    t->dev = (struct device){.ops = &testdev_ops, .clock = c, .state = &t->st, .state_size = sizeof t->st};
    bus_map_port(b, &t->dev, REGION_IRQ, 0x2000, 24);
    bus_map_port(b, &t->dev, REGION_SCRATCH, 0xE0, 4);
    bus_map_port(b, &t->dev, REGION_FLUSH, 0xE4, 4);
    bus_map_mem(b, &t->dev, REGION_MEM, TESTDEV_MEM_BASE, TESTDEV_MEM_SIZE);
}

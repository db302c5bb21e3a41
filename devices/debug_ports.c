// clang-format off
// isa-debug-exit, debug consoles and pc-testdev, with the semantics that test suites expect of QEMU's devices.
//
//   isa-debug-exit  iobase, iosize of the command line; a write of v ends the machine with status (v << 1) | 1; reads 0
//   E9h             a byte to the debug console; reads E9h, which tells that the console is there; isa-debugcon: one more,
//                   or this one, at iobase, reads as readback
//   pc-testdev      2000h + n: a write sets input n of the interrupt controllers to (value != 0)
//                   E0h-E3h scratch of any width;  E4h-E7h flush;  FF000000h 64 KiB of memory behind MMIO
// clang-format on
#include "devices/debug_ports.h"

#include <string.h>

#include "devices/device_table.h"

// ---- isa-debug-exit ----

struct debug_exit {
    struct device dev;
    void (*end)(void *to, u32 status, const char *who);
    void *to;
};

static u64 exit_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)d, (void)region, (void)offset, (void)size;
    return 0;
}

static void exit_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)offset, (void)size;
    struct debug_exit *e = (struct debug_exit *)d;
    e->end(e->to, (u32)value << 1 | 1, d->ops->name);
}

static const struct device_ops exit_ops = {.name = "isa-debug-exit", .read = exit_read, .write = exit_write};

enum { PROPERTY_IOBASE, PROPERTY_IOSIZE };

static unsigned exit_ports(const struct property_value *v, struct port_range *r)
{
    *r = (struct port_range){(u32)v[PROPERTY_IOBASE].n, (u32)v[PROPERTY_IOSIZE].n};
    return 1;
}

static void exit_create(void *self, const struct device_board *b, const struct property_value *v)
{
    struct debug_exit *e = self;
    *e = (struct debug_exit){.dev = {.ops = &exit_ops, .clock = b->clock}, .end = b->end, .to = b->to};
    bus_map_port_over(b->bus, &e->dev, 0, (u16)v[PROPERTY_IOBASE].n, (unsigned)v[PROPERTY_IOSIZE].n);
    b->add(b->to, &e->dev);
}

const struct device_row debug_exit_row = {
    .name = "isa-debug-exit",
    .help = "a write of a value ends the machine: status (value << 1) | 1",
    .most = 4,
    .size = sizeof(struct debug_exit),
    .property = {[PROPERTY_IOBASE] = {"iobase", PROPERTY_PORT,
                                      "the first port; it lies over other devices' ports", .standard = 0x501},
                 [PROPERTY_IOSIZE] = {"iosize", PROPERTY_U32, "how many", .standard = 2,
                                      .choice = {1, 2, 4}}},
    .ports = exit_ports,
    .create = exit_create,
};

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

static const struct device_ops console_ops = {
    .name = "debug-console", .max_size = 1, .read = console_read, .write = console_write};

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

enum { CONSOLE_CHARDEV, CONSOLE_IOBASE, CONSOLE_READBACK };

static unsigned console_ports(const struct property_value *v, struct port_range *r)
{
    *r = (struct port_range){(u32)v[CONSOLE_IOBASE].n, 1};
    return 1;
}

static void console_create(void *self, const struct device_board *b, const struct property_value *v)
{
    struct debug_console *p = self;
    console_set(p, b->clock, (u8)v[CONSOLE_READBACK].n);
    p->chr = v[CONSOLE_CHARDEV].chr;
    bus_map_port_over(b->bus, &p->dev, 0, (u16)v[CONSOLE_IOBASE].n, 1);
    b->add(b->to, &p->dev);
}

// clang-format off
const struct device_row debug_console_row = {
    .name = "isa-debugcon",
    .help = "a debug console: each byte written goes out",
    .most = 4,
    .size = sizeof(struct debug_console),
    .property = {[CONSOLE_CHARDEV] = {"chardev", PROPERTY_CHARDEV, "where to, a line made with -chardev; -debugcon stdio is a short form", .needed = true},
                 [CONSOLE_IOBASE] = {"iobase", PROPERTY_PORT, "the port", .standard = DEBUG_CONSOLE_PORT},
                 [CONSOLE_READBACK] = {"readback", PROPERTY_U8, "what a read gives", .standard = DEBUG_CONSOLE_PORT}},
    .ports = console_ports,
    .create = console_create,
};
// clang-format on

// ---- pc-testdev ----

#define TESTDEV_MEM_BASE 0xFF000000ull
#define TESTDEV_MEM_SIZE 0x10000

STATE_BEGIN
struct testdev_state {
    u32 scratch;
    u8 mem[TESTDEV_MEM_SIZE];
};
STATE_END
struct testdev {
    struct device dev;
    struct testdev_state st;
    struct irq_line irq[24];
    void (*flush)(void *to); // QEMU unmaps a page there; here all derived state may be dropped
    void *to;
};

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
    if (region == REGION_FLUSH) t->flush(t->to);
    if (region == REGION_MEM && offset + size <= TESTDEV_MEM_SIZE) memcpy(t->st.mem + offset, &value, size);
}

static void testdev_reset(struct device *d)
{
    memset(&((struct testdev *)d)->st, 0, sizeof(struct testdev_state));
}

// clang-format off
static const struct device_ops testdev_ops = {
    .name = "pc-testdev", .state_version = 1, .reset = testdev_reset, .read = testdev_read, .write = testdev_write};
// clang-format on

static const struct port_range testdev_range[] = {
    [REGION_IRQ] = {0x2000, 24}, [REGION_SCRATCH] = {0xE0, 4}, [REGION_FLUSH] = {0xE4, 4}};

static unsigned testdev_ports(const struct property_value *v, struct port_range *r)
{
    (void)v;
    memcpy(r, testdev_range, sizeof testdev_range);
    return ARRAY_LEN(testdev_range);
}

static void testdev_create(void *self, const struct device_board *b, const struct property_value *v)
{
    (void)v;
    struct testdev *t = self;
    t->dev =
        (struct device){.ops = &testdev_ops, .clock = b->clock, .state = &t->st, .state_size = sizeof t->st};
    for (unsigned i = 0; i < ARRAY_LEN(t->irq); i++) t->irq[i] = (struct irq_line){b->test_irq, b->to, i};
    t->flush = b->drop_derived;
    t->to = b->to;
    for (unsigned i = 0; i < ARRAY_LEN(testdev_range); i++)
        bus_map_port(b->bus, &t->dev, i, (u16)testdev_range[i].first, testdev_range[i].n);
    bus_map_mem(b->bus, &t->dev, REGION_MEM, TESTDEV_MEM_BASE, TESTDEV_MEM_SIZE);
    b->add(b->to, &t->dev);
}

const struct device_row testdev_row = {
    .name = "pc-testdev",
    .help = "interrupt lines, scratch port and memory for test programs",
    .most = 1,
    .size = sizeof(struct testdev),
    .ports = testdev_ports,
    .create = testdev_create,
};

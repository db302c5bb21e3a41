// Ports for test programs: isa-debug-exit, debug consoles, and pc-testdev.
#ifndef DEVICES_DEBUG_PORTS_H
#define DEVICES_DEBUG_PORTS_H

#include "devices/bus.h"
#include "devices/chardev.h"

struct debug_exit {
    struct device dev;
    void (*exit)(void *to, u32 status); // (value << 1) | 1
    void *to;
};
// `size` ports (1, 2 or 4), over whatever else is there.
void debug_exit_init(struct debug_exit *e, struct bus *b, struct clock *c, u16 port, unsigned size);

#define DEBUG_CONSOLE_PORT 0xE9
struct debug_console {
    struct device dev;
    struct chardev chr;
    u8 readback; // what a read gives
};
void debug_console_init(struct debug_console *p, struct bus *b, struct clock *c); // the board's: port E9h, reads E9h
// isa-debugcon, over whatever else is there.
void debug_console_init_at(struct debug_console *p, struct bus *b, struct clock *c, u16 port, u8 readback);

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
    void (*flush)(void *to); // port E4h: QEMU unmaps a page there; here all derived state may be dropped
    void *to;
};
void testdev_init(struct testdev *t, struct bus *b, struct clock *c);

#endif

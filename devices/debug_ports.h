// Ports for test programs. isa-debug-exit, isa-debugcon and pc-testdev are made from the table
// (device_table.h); the board itself has a debug console at port E9h, which leads nowhere.
#ifndef DEVICES_DEBUG_PORTS_H
#define DEVICES_DEBUG_PORTS_H

#include "devices/bus.h"
#include "devices/chardev.h"

#define DEBUG_CONSOLE_PORT 0xE9
struct debug_console {
    struct device dev;
    struct chardev chr;
    u8 readback; // what a read gives
};
// the board's: port E9h, reads E9h
void debug_console_init(struct debug_console *p, struct bus *b, struct clock *c);

#endif

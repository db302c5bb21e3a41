// The host's end of a serial line, as the device sees it. Input comes the other way, through uart_input.
#ifndef DEVICES_CHARDEV_H
#define DEVICES_CHARDEV_H

#include "mmu/types.h"

struct chardev {
    void (*write)(void *opaque, const u8 *bytes, u32 n); // NULL: nobody listens
    void *opaque;
};
static inline void chardev_write(const struct chardev *c, u8 byte)
{
    if (c->write) c->write(c->opaque, &byte, 1);
}

#endif

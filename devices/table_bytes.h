// A firmware table while it is being written: little-endian fields, one after another.
#ifndef DEVICES_TABLE_BYTES_H
#define DEVICES_TABLE_BYTES_H

#include <string.h>

#include "mmu/types.h"

struct table {
    u8 bytes[4096];
    u32 n;
};

static inline void put(struct table *t, u64 v, unsigned size)
{
    if (t->n + size > sizeof t->bytes) panic("a firmware table is longer than %zu bytes", sizeof t->bytes);
    memcpy(t->bytes + t->n, &v, size);
    t->n += size;
}
static inline void put8(struct table *t, u8 v) { put(t, v, 1); }
static inline void put16(struct table *t, u16 v) { put(t, v, 2); }
static inline void put32(struct table *t, u32 v) { put(t, v, 4); }
static inline void put64(struct table *t, u64 v) { put(t, v, 8); }

#endif

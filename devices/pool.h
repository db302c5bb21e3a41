// Pieces of memory of one size, by the hundred thousand: of large pages where the host has them, so that a
// piece costs no page fault of the host, and given back all at once.
#ifndef DEVICES_POOL_H
#define DEVICES_POOL_H

#include "mmu/types.h"

#define POOL_CHUNK (2u << 20) // bytes that are taken of the host at a time

struct pool {
    u64 size; // of a piece: a multiple of 8, at most a chunk
    void *free;
    u8 *next, *end; // of the newest chunk, what was never taken
    void **chunk;
    u64 chunks, room;
};

void *pool_take(struct pool *p); // its contents are anything; NULL: the host has no memory
void pool_give(struct pool *p, void *piece);
void pool_forget(struct pool *p); // all pieces; it is empty then

#endif

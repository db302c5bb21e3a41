#include "devices/pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static bool add_chunk(struct pool *p)
{
    if (p->chunks == p->room) {
        u64 room = p->room ? 2 * p->room : 16;
        void **more = realloc(p->chunk, room * sizeof *more);
        if (!more) return false;
        p->chunk = more, p->room = room;
    }
    u8 *at = aligned_alloc(POOL_CHUNK, POOL_CHUNK);
    if (!at) return false;
    madvise(at, POOL_CHUNK, MADV_HUGEPAGE); // a wish
    p->chunk[p->chunks++] = at;
    p->next = at, p->end = at + POOL_CHUNK;
    return true;
}

void *pool_take(struct pool *p)
{
    void *piece = p->free;
    if (piece) {
        memcpy(&p->free, piece, sizeof p->free);
        return piece;
    }
    if ((u64)(p->end - p->next) < p->size && !add_chunk(p)) return NULL;
    piece = p->next;
    p->next += p->size;
    return piece;
}

void pool_give(struct pool *p, void *piece)
{
    if (!piece) return;
    memcpy(piece, &p->free, sizeof p->free);
    p->free = piece;
}

void pool_forget(struct pool *p)
{
    for (u64 i = 0; i < p->chunks; i++) free(p->chunk[i]);
    free(p->chunk);
    *p = (struct pool){.size = p->size};
}

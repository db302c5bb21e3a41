// For the tests of mmu/: a small physical memory, and paging structures built in it by hand.
#ifndef TESTS_MMU_TABLES_H
#define TESTS_MMU_TABLES_H

#include "mmu/phys.h"
#include "mmu/walk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

struct tables {
    struct phys p;
    struct mmu_ctx c;
    paddr next;      // bump allocator of zeroed pages
    paddr entry[5];  // where the entries of the last map_* call are, leaf first
    unsigned levels; // how many of them
    paddr ept_entry[5];
};

static inline void tables_init(struct tables *t, u64 ram)
{
    const char *why = NULL;

    memset(t, 0, sizeof(*t));
    assert_true(phys_init(&t->p, ram, &why));
    t->c.maxphyaddr = 40;
    t->c.gib_pages = t->c.ept_gib = t->c.ept_exec_only = true;
    t->next = 0x10000;
}

static inline u64 get64(struct tables *t, paddr a) { return phys_read64(&t->p, 0, a); }
static inline void put64(struct tables *t, paddr a, u64 v) { phys_write64(&t->p, 0, a, v); }
static inline u32 get32(struct tables *t, paddr a) { return phys_read32(&t->p, 0, a); }
static inline void put32(struct tables *t, paddr a, u32 v) { phys_write32(&t->p, 0, a, v); }

static inline paddr new_page(struct tables *t)
{
    paddr a = t->next;

    t->next += 4096;
    assert_true(t->next <= t->p.low_size);
    memset(t->p.ram + a, 0, 4096);
    return a;
}

// Maps `la` to `to` in the mode of t->c, in fresh tables, with the leaf at `leaf_level` (0: page table).
// Entries above the leaf get `upper` as their low and high bits, the leaf gets `leaf`.
static inline void map_guest(struct tables *t, u64 la, u64 to, int leaf_level, u64 upper, u64 leaf)
{
    int top;
    paddr table;
    unsigned size = t->c.paging == PAGING_32 ? 4 : 8, index_bits = size == 4 ? 10 : 9;

    t->levels = 0;
    switch (t->c.paging) {
    case PAGING_32: top = 1; break;
    case PAGING_PAE: top = 1; break;
    case PAGING_4LEVEL: top = 3; break;
    default: top = 4; break;
    }
    table = new_page(t);
    if (t->c.paging == PAGING_PAE)
        t->c.pdpte[la >> 30 & 3] = table | 1;
    else
        t->c.cr3 = table;
    for (int level = top;; level--) {
        unsigned shift = 12 + index_bits * (unsigned)level;
        paddr at = table + (la >> shift & ((1u << index_bits) - 1)) * size;
        u64 v;

        t->entry[level] = at;
        t->levels++;
        if (level == leaf_level) {
            v = to | leaf | (level > 0 ? 0x80 : 0);
        } else {
            table = new_page(t);
            v = table | upper;
        }
        if (size == 4)
            put32(t, at, (u32)v);
        else
            put64(t, at, v);
        if (level == leaf_level) return;
    }
}

// The same for EPT: the tables under t->c.eptp, kept between calls.
static inline void map_ept(struct tables *t, u64 gpa, paddr to, int leaf_level, u64 upper, u64 leaf)
{
    paddr table;

    if (!t->c.ept) {
        t->c.ept = true;
        t->c.eptp = new_page(t) | 3 << 3 | 6;
    }
    table = t->c.eptp & ~0xFFFull;
    for (int level = 3;; level--) {
        paddr at = table + (gpa >> (12 + 9 * level) & 511) * 8;

        t->ept_entry[level] = at;
        if (level == leaf_level) {
            put64(t, at, to | leaf | (level > 0 ? 0x80 : 0));
            return;
        }
        if (!get64(t, at)) put64(t, at, new_page(t) | upper);
        table = get64(t, at) & 0xFFFFFFFFFF000ull;
    }
}

// Identity EPT map of the first `bytes` of memory in 4 KiB pages, all rights, write-back.
static inline void map_ept_identity(struct tables *t, u64 bytes)
{
    for (u64 a = 0; a < bytes; a += 4096) map_ept(t, a, a, 0, 7, 7 | 6 << 3);
}

#endif

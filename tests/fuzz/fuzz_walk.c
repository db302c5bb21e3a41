// Page tables and extended page tables: the walk says and does what the slow reading of the manual
// (tests/mmu_oracle.h) says, and walk_peek says what the walk says and changes nothing.
//
// Input: the context; then changes of entries and accesses, in any order. Entries lie on few pages, at the
// first indices, and point to each other, so that tables are shared, point to themselves, or are of both
// stages.
#include "tests/fuzz/fuzz.h"
#include "tests/mmu_oracle.h"

enum { RAM = 0x10000, PAGES = RAM >> PAGE_SHIFT, INDICES = 8 };

static void context(struct input *in, struct mmu_ctx *c)
{
    static const u8 widths[] = {36, 39, 40, 46, 52};
    *c = (struct mmu_ctx){.paging = (u8)below(in, 5), .maxphyaddr = widths[below(in, sizeof widths)]};
    u32 flags = (u32)take(in, 3);
    c->wp = flags & 1, c->smep = flags & 2, c->smap = flags & 4, c->pke = flags & 8;
    c->pse = flags & 16, c->nxe = flags & 32, c->pge = flags & 64, c->gib_pages = flags & 128;
    c->cr3 = (u64)below(in, PAGES) << 12;
    for (unsigned i = 0; i < 4; i++)
        c->pdpte[i] = (u64)((flags >> (16 + i)) & 15) << 12 | (flags >> (20 + i) & 1);
    c->ept = flags & 1 << 8, c->pks = flags & 1 << 15;
    c->pkru = flags & 1 << 13 ? (u32)take(in, 4) : 0;
    c->pkrs = c->pks ? (u32)take(in, 4) : 0;
    if (!c->ept) return;
    c->eptp = (u64)below(in, PAGES) << 12 | (flags & 1 << 9 ? 4 : 3) << 3 | 6;
    c->ept_ad = flags & 1 << 10, c->ept_mbec = flags & 1 << 11, c->ept_gib = flags & 1 << 12;
    c->ept_exec_only = flags & 1 << 14;
}

static u64 address(struct input *in, const struct mmu_ctx *c)
{
    u64 la = 0;
    u32 index = (u32)take(in, 2); // three bits a level
    unsigned per = c->paging == PAGING_32 ? 10 : 9;
    for (unsigned i = 0; i < 5; i++) la |= (u64)(index >> (3 * i) & (INDICES - 1)) << (12 + per * i);
    u8 kind = take8(in);
    la |= (u64)(kind & 7) << 9;
    if (kind & 8) la ^= take(in, 8);
    switch (c->paging) {
    case PAGING_4LEVEL: return (u64)((s64)(la << 16) >> 16);
    case PAGING_5LEVEL: return (u64)((s64)(la << 7) >> 7);
    default: return (u32)la;
    }
}

// An entry: where, and which page; low flags; high bits where the input wants some.
static void entry(struct oracle *o, struct input *in, const struct mmu_ctx *c)
{
    u8 where = take8(in), page = take8(in);
    u32 flags = (u32)take(in, 2);
    u64 x = (u64)(page & (PAGES - 1)) << 12 | (flags & 0xFFF);
    if (flags & 0x1000) x |= take(in, 3) << 40;
    if (flags & 0x2000) x |= take(in, 4) << 12;
    if (flags & 0x4000) x &= ~0x3FFFF000ull; // aligned for a large page
    unsigned bytes = c->paging == PAGING_32 && page & 0x80 ? 4 : 8;
    memcpy(o->mem + (where & (PAGES - 1)) * PAGE_SIZE + (where >> 4) % INDICES * bytes, &x, bytes);
    memcpy(o->p.ram, o->mem, RAM);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct oracle o;
    const char *why;
    if (!o.mem) {
        MUST(phys_init(&o.p, RAM, &why), "%s", why);
        o.mem = calloc(1, RAM);
    }
    struct input in = {data, data + size};
    struct mmu_ctx c;
    memset(o.mem, 0, RAM), memset(o.p.ram, 0, RAM);
    context(&in, &c);
    for (unsigned n = 0; n < 64 && more(&in); n++) {
        u8 what = take8(&in);
        if (what & 1) {
            entry(&o, &in, &c);
            continue;
        }
        static const u32 kind[] = {ACC_READ, ACC_WRITE, ACC_FETCH, ACC_WRITE};
        u32 acc = kind[what >> 1 & 3];
        acc |= what & 8 ? ACC_USER : what & 16 ? ACC_IMPLICIT : 0;
        if (what & 32) acc |= ACC_AC;
        u64 la = address(&in, &c);
        struct verdict v;
        MUST(peek_agrees(&o, &c, la, acc) >= 0, "walk_peek at %#llx, access %#x", (unsigned long long)la,
             acc);
        MUST(walk_agrees(&o, &c, la, acc, &v), "the walk at %#llx, access %#x", (unsigned long long)la, acc);
        MUST(peek_agrees(&o, &c, la, acc) >= 0, "walk_peek at %#llx, access %#x", (unsigned long long)la,
             acc);
    }
    return 0;
}

// Physical memory: the one host mapping that holds RAM, and the one way in and out of it for everything that
// is not a fast load or store. What is not RAM goes to the board. The A20 gate is applied by whoever makes an
// address for the processor (phys_a20), because DMA does not pass it.
#include "mmu/phys.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static u64 phys_end(const struct phys *p) // first byte after the last RAM page
{
    return p->ram_size > p->low_size ? PHYS_HOLE_END + (p->ram_size - p->low_size) : p->low_size;
}

// Makes [a, a + size) of the reservation usable memory.
static bool phys_open(struct phys *p, paddr a, u64 size, u64 host_page)
{
    u64 rounded = (size + host_page - 1) & ~(host_page - 1);

    if (size == 0) return true;
    if (mprotect(p->ram + a, rounded, PROT_READ | PROT_WRITE)) return false;
    // A hint only: fewer host TLB misses where the host has large pages to give.
    (void)madvise(p->ram + a, rounded, MADV_HUGEPAGE);
    return true;
}

bool phys_init(struct phys *p, u64 ram_size, const char **why)
{
    u64 host_page = (u64)sysconf(_SC_PAGESIZE);
    u64 span;
    void *map;

    memset(p, 0, sizeof(*p));
    if (ram_size == 0 || ram_size % PAGE_SIZE) {
        *why = "the size of RAM must be a multiple of 4 KiB and not zero";
        return false;
    }
    if (ram_size > BIT(46)) {
        *why = "the size of RAM is beyond what a host process can map";
        return false;
    }
    p->ram_size = ram_size;
    p->low_size = ram_size < PHYS_HOLE_FIRST ? ram_size : PHYS_HOLE_FIRST;
    p->pages = phys_end(p) >> PAGE_SHIFT;

    span = (phys_end(p) + host_page - 1) & ~(host_page - 1);
    map = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        *why = "the host does not give the address space for RAM";
        memset(p, 0, sizeof(*p));
        return false;
    }
    p->ram = map;
    p->dirty = calloc((p->pages + 63) / 64, sizeof(*p->dirty));
    p->watch = calloc((p->pages + 63) / 64, sizeof(*p->watch));
    p->code = calloc(p->pages, sizeof(*p->code));
    p->dirty_for[PHYS_DIRTY_EVER] = calloc((p->pages + 63) / 64, sizeof(*p->dirty));
    if (!p->dirty || !p->dirty_for[PHYS_DIRTY_EVER] || !p->watch || !p->code ||
        !phys_open(p, 0, p->low_size, host_page) ||
        !phys_open(p, PHYS_HOLE_END, ram_size - p->low_size, host_page)) {
        *why = "the host does not give the memory for RAM";
        phys_free(p);
        return false;
    }
    return true;
}

void phys_free(struct phys *p)
{
    u64 host_page = (u64)sysconf(_SC_PAGESIZE);

    if (p->ram) munmap(p->ram, (phys_end(p) + host_page - 1) & ~(host_page - 1));
    free(p->dirty);
    for (unsigned i = 0; i < PHYS_DIRTY_USERS; i++) free(p->dirty_for[i]);
    free(p->watch);
    free(p->tables);
    free(p->code);
    memset(p, 0, sizeof(*p));
}

void phys_keep(struct phys *p, u64 page)
{
    if (!(p->keep[page / 64] >> (page % 64) & 1)) return;
    p->keep[page / 64] &= ~BIT(page % 64);
    p->kept(p->kept_opaque, page);
}

void phys_dirty_clear(struct phys *p) { memset(p->dirty, 0, (p->pages + 63) / 64 * sizeof(*p->dirty)); }

u64 *phys_dirty_take(struct phys *p, enum phys_dirty_user user)
{
    u64 words = (p->pages + 63) / 64;

    if (!p->dirty_for[user]) {
        p->dirty_for[user] = malloc(words * sizeof(*p->dirty));
        if (!p->dirty_for[user]) return NULL;
        memset(p->dirty_for[user], 0xFF, words * sizeof(*p->dirty));
    }
    for (unsigned i = 0; i < PHYS_DIRTY_USERS; i++)
        for (u64 n = 0; p->dirty_for[i] && n < words; n++) p->dirty_for[i][n] |= p->dirty[n];
    phys_dirty_clear(p);
    return p->dirty_for[user];
}

// ---- one piece ----

// The largest naturally aligned piece of at most 8 bytes that starts at `a` and fits in `left`.
static unsigned mmio_piece(paddr a, u64 left)
{
    unsigned size = 8;

    while ((a & (size - 1)) || size > left) size /= 2;
    return size;
}

static u64 mmio_read(struct phys *p, unsigned cpu, paddr a, unsigned size)
{
    if (!p->ops || !p->ops->mmio_read) return ~0ull; // an empty bus floats high
    return p->ops->mmio_read(p->ops_opaque, cpu, a, size);
}

static void mmio_write(struct phys *p, unsigned cpu, paddr a, unsigned size, u64 value)
{
    if (!p->ops || !p->ops->mmio_write) return;
    p->ops->mmio_write(p->ops_opaque, cpu, a, size, value);
}

// ---- subscribers ----

void phys_subscribe(struct phys *p, struct phys_subscriber *s)
{
    struct phys_subscriber **last = &p->subscribers;

    while (*last) last = &(*last)->next;
    s->next = NULL;
    *last = s;
}

void phys_unsubscribe(struct phys *p, struct phys_subscriber *s)
{
    for (struct phys_subscriber **at = &p->subscribers; *at; at = &(*at)->next)
        if (*at == s) {
            *at = s->next;
            return;
        }
}

static void guard(struct phys *p, paddr page)
{
    for (struct phys_subscriber *s = p->subscribers; s; s = s->next) s->guarded(s->opaque, page);
}

void phys_guard_code(struct phys *p, paddr page, u64 lines)
{
    if (!phys_code_or_watch(p, page)) guard(p, page);
    p->code[page >> PAGE_SHIFT] |= lines;
}

void phys_watch(struct phys *p, paddr page)
{
    u64 n = page >> PAGE_SHIFT;

    if (!phys_code_or_watch(p, page)) guard(p, page);
    p->watch[n / 64] |= BIT(n % 64);
}

// Asks everybody anew: what one has given up another may still keep.
void phys_release(struct phys *p, paddr page)
{
    u64 n = page >> PAGE_SHIFT, lines = 0;
    bool watched = phys_is_table(p, page);

    for (struct phys_subscriber *s = p->subscribers; s; s = s->next)
        lines |= s->keeps(s->opaque, page, &watched);
    p->code[n] &= lines; // nothing becomes guarded here
    if (!watched) p->watch[n / 64] &= ~BIT(n % 64);
}

bool phys_tables_begin(struct phys *p)
{
    if (!p->tables) p->tables = calloc((p->pages + 63) / 64, sizeof(*p->tables));
    return p->tables != NULL;
}

void phys_table(struct phys *p, paddr a)
{
    u64 n = a >> PAGE_SHIFT;

    if (phys_is_table(p, a)) return;
    phys_watch(p, a);
    p->tables[n / 64] |= BIT(n % 64);
}

static void tell_written(struct phys *p, paddr a, u64 size)
{
    bool hit = p->code[a >> PAGE_SHIFT] & phys_lines(a, size);
    bool table = phys_is_table(p, a) && !p->table_flags;
    u64 n = a >> PAGE_SHIFT;

    for (struct phys_subscriber *s = p->subscribers; s; s = s->next) s->written(s->opaque, a, size);
    // Nobody holds a translation by it any more.
    if (table) p->tables[n / 64] &= ~BIT(n % 64);
    if (hit || table) phys_release(p, a);
}

void phys_changing(struct phys *p, paddr a, u64 size)
{
    if (unlikely(phys_code_or_watch(p, a))) tell_written(p, a, size);
    phys_mark_dirty(p, a);
}

// ---- spans ----

static u64 in_page(paddr a, u64 size) // how much of [a, a + size) lies in the page of `a`
{
    u64 left = PAGE_SIZE - (a & ~PAGE_MASK);

    return size < left ? size : left;
}

void phys_read(struct phys *p, unsigned cpu, paddr a, void *buf, u64 size)
{
    u8 *to = buf;

    while (size) {
        u64 n = in_page(a, size);

        if (phys_is_ram(p, a)) {
            memcpy(to, p->ram + a, n);
        } else {
            n = mmio_piece(a, n);
            u64 v = mmio_read(p, cpu, a, (unsigned)n);
            memcpy(to, &v, n);
        }
        a += n, to += n, size -= n;
    }
}

void phys_write(struct phys *p, unsigned cpu, paddr a, const void *buf, u64 size)
{
    const u8 *from = buf;

    while (size) {
        u64 n = in_page(a, size);

        if (phys_is_ram(p, a)) {
            phys_changing(p, a, n);
            memcpy(p->ram + a, from, n);
        } else {
            u64 v = 0;
            n = mmio_piece(a, n);
            memcpy(&v, from, n);
            mmio_write(p, cpu, a, (unsigned)n, v);
        }
        a += n, from += n, size -= n;
    }
}

// ---- scalars: the same, without the loop where the value lies in one RAM page ----

#define SCALAR(type, bits) \
    type phys_read##bits(struct phys *p, unsigned cpu, paddr a) \
    { \
        type v; \
        if (likely(phys_is_ram(p, a) && in_page(a, sizeof(v)) == sizeof(v))) \
            memcpy(&v, p->ram + a, sizeof(v)); \
        else \
            phys_read(p, cpu, a, &v, sizeof(v)); \
        return v; \
    } \
    void phys_write##bits(struct phys *p, unsigned cpu, paddr a, type v) \
    { \
        if (likely(phys_is_ram(p, a) && in_page(a, sizeof(v)) == sizeof(v))) { \
            phys_changing(p, a, sizeof(v)); \
            memcpy(p->ram + a, &v, sizeof(v)); \
        } else { \
            phys_write(p, cpu, a, &v, sizeof(v)); \
        } \
    }

SCALAR(u8, 8)
SCALAR(u16, 16)
SCALAR(u32, 32)
SCALAR(u64, 64)

void phys_write_flags(struct phys *p, unsigned cpu, paddr a, u64 entry, unsigned size)
{
    const char *outer = phys_writer_begin(p, "a page walk");
    p->table_flags = true;
    phys_write(p, cpu, a, &entry, size);
    p->table_flags = false;
    phys_writer_end(p, outer);
}

bool phys_page_is_zero(const u8 *page)
{
    u64 any = 0;
    for (u64 i = 0; i < PAGE_SIZE; i += 8) {
        u64 x;
        memcpy(&x, page + i, 8);
        any |= x;
    }
    return any == 0;
}

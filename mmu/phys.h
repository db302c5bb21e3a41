// Physical memory: RAM as one reserved host mapping (host address = ram + physical address), everything else
// is MMIO. Holds what is derived per page as well: dirty bits for the state hash, the lines that hold decoded
// code, and who is told before those change.
#ifndef MMU_PHYS_H
#define MMU_PHYS_H

#include "mmu/types.h"

#define PHYS_HOLE_FIRST 0xC0000000ull // RAM below this, the rest of it from 4 GiB up
#define PHYS_HOLE_END   0x100000000ull

struct phys_ops { // the board's side: anything that is not RAM. size 1, 2, 4, 8
    u64 (*mmio_read)(void *opaque, unsigned cpu, paddr a, unsigned size);
    void (*mmio_write)(void *opaque, unsigned cpu, paddr a, unsigned size, u64 value);
};

// One who keeps something that was made of bytes of RAM (a processor: decoded code, the decoded controls of
// its current VMCS), or only wants to know (a breakpoint on data, a snapshot). Whoever it is that stores (a
// processor, a device, the debugger), every subscriber is told. Pages are given by the address of any of
// their bytes; nothing that is called here may subscribe or unsubscribe.
struct phys_subscriber {
    void *opaque;
    // [a, a + size), in one page with code lines or watch bit, is about to change (or has just been).
    void (*written)(void *opaque, paddr a, u64 size);
    // The page has its first code line or its watch bit from now on: no store may reach it but through
    // phys_changing.
    void (*guarded)(void *opaque, paddr page);
    // The lines of the page that hold code which it has decoded; *watched is set if it wants to know of all
    // others too.
    u64 (*keeps)(void *opaque, paddr page, bool *watched);
    struct phys_subscriber *next; // phys_subscribe's
};

// Who keeps something of each page, and wants to know which ones to look at again. EVER is nobody's: what was
// written since the machine was made; all other RAM is zeros, and to read it would take memory of the host.
enum phys_dirty_user { PHYS_DIRTY_HASH, PHYS_DIRTY_HISTORY, PHYS_DIRTY_EVER, PHYS_DIRTY_USERS };

struct phys {
    u8 *ram;      // host address of physical address 0; holes are PROT_NONE
    u64 ram_size; // bytes of RAM in all
    u64 low_size; // bytes of RAM below PHYS_HOLE_FIRST; the rest starts at PHYS_HOLE_END
    u64 pages;    // number of pages covered by the arrays below (up to the last RAM page)
    u64 *dirty;   // bitmap, a bit a page: written since phys_dirty_clear or any phys_dirty_take
    u64 *dirty_for[PHYS_DIRTY_USERS]; // the same since that user cleared it; NULL: nobody asked yet
    u64 *code; // a word a page: bit n = the 64-byte line n holds code that a subscriber has decoded
    // bitmap, a bit a page: all of it is watched by a subscriber (an active VMCS and the like)
    u64 *watch;
    // bitmap, a bit a page: a walk read an entry there, and nobody has written to it since; NULL: nobody asks
    u64 *tables;
    bool table_flags;   // what is written now are flags that a walk sets
    const char *writer; // phys_writer_begin's
    // Bitmap, a bit a page: somebody wants what the page holds now, and it is time to copy it when it is
    // about to be written; NULL: nobody.
    u64 *keep;
    void (*kept)(void *opaque, u64 page); // that page's bit was set, and is clear
    void *kept_opaque;
    const struct phys_ops *ops;
    void *ops_opaque;
    struct phys_subscriber *subscribers;
    bool a20_masked;
};

// Returns false (and says why in *why) if the host cannot give the mapping.
bool phys_init(struct phys *p, u64 ram_size, const char **why);
void phys_free(struct phys *p);

static inline bool phys_is_ram(const struct phys *p, paddr a)
{
    return a < p->low_size || (a >= PHYS_HOLE_END && a < PHYS_HOLE_END + (p->ram_size - p->low_size));
}
// The host address of a RAM byte, valid to the end of its 4 KiB page; NULL where there is no RAM.
static inline u8 *phys_host(const struct phys *p, paddr a) { return phys_is_ram(p, a) ? p->ram + a : NULL; }

// The address that leaves the processor for `a`: the A20 gate masks bit 20 when closed. Page walks apply it
// to their own accesses and to the translation, so a change of the gate empties the TLBs (cpu_a20_changed).
// DMA never passes it.
static inline paddr phys_a20(const struct phys *p, paddr a) { return p->a20_masked ? a & ~BIT(20) : a; }

// The one way to read and write guest-physical memory for everything that is not a fast load or store (DMA,
// accessed/dirty bits, MSR areas, page walks, loader, debugger). Spans may cross pages; MMIO parts go to the
// board in naturally aligned pieces of at most 8 bytes, with `cpu` naming whose access it is. phys_write
// tells the subscribers, who drop decoded code, and marks pages dirty.
void phys_read(struct phys *p, unsigned cpu, paddr a, void *buf, u64 size);
void phys_write(struct phys *p, unsigned cpu, paddr a, const void *buf, u64 size);
u8 phys_read8(struct phys *p, unsigned cpu, paddr a);
u16 phys_read16(struct phys *p, unsigned cpu, paddr a);
u32 phys_read32(struct phys *p, unsigned cpu, paddr a);
u64 phys_read64(struct phys *p, unsigned cpu, paddr a);
void phys_write8(struct phys *p, unsigned cpu, paddr a, u8 v);
void phys_write16(struct phys *p, unsigned cpu, paddr a, u16 v);
void phys_write32(struct phys *p, unsigned cpu, paddr a, u32 v);
void phys_write64(struct phys *p, unsigned cpu, paddr a, u64 v);

// What a walk sets in an entry, of 4 or 8 bytes: nobody's translation changes by it.
void phys_write_flags(struct phys *p, unsigned cpu, paddr a, u64 entry, unsigned size);

// Who writes from here to phys_writer_end ("a VM exit"), where it is no instruction's own store: for who asks
// who wrote. What others do on its behalf meanwhile is its own.
static inline const char *phys_writer_begin(struct phys *p, const char *who)
{
    const char *outer = p->writer;
    p->writer = outer ? outer : who;
    return outer;
}
static inline void phys_writer_end(struct phys *p, const char *outer) { p->writer = outer; }

static inline bool phys_watched(const struct phys *p, paddr a)
{
    u64 n = a >> PAGE_SHIFT;
    return p->watch[n / 64] >> (n % 64) & 1;
}
static inline bool phys_code_or_watch(const struct phys *p, paddr a)
{
    return p->code[a >> PAGE_SHIFT] || phys_watched(p, a);
}
void phys_keep(struct phys *p, u64 page); // asks for its copy, if somebody waits for it
// The page is written, from now on until the bits are cleared. Said before its first byte is (of the current
// VMCS too, which is written without a word: whoever waits asks for the VMCS's page at once).
static inline void phys_mark_dirty(struct phys *p, paddr a)
{
    u64 n = a >> PAGE_SHIFT;
    if (unlikely(p->keep != NULL)) phys_keep(p, n);
    p->dirty[n / 64] |= 1ull << (n % 64);
}
void phys_dirty_clear(struct phys *p);

// Pages of paging structures, for who wants to see each write to one (phys_subscriber.written). False: no
// memory.
bool phys_tables_begin(struct phys *p);
static inline bool phys_is_table(const struct phys *p, paddr a)
{
    return p->tables && p->tables[a >> PAGE_SHIFT >> 6] >> (a >> PAGE_SHIFT) % 64 & 1;
}
void phys_table(struct phys *p, paddr a); // it is one
// The bitmap of what was written since this user cleared its bits, all set when it asks first. p->dirty
// begins anew: whoever calls this makes the processors tell of their next stores (tlbops_drop_writes). NULL:
// no memory.
u64 *phys_dirty_take(struct phys *p, enum phys_dirty_user user);
// Was the page ever written? If not, it is zeros.
static inline bool phys_ever_written(const struct phys *p, u64 page)
{
    return (p->dirty[page / 64] | p->dirty_for[PHYS_DIRTY_EVER][page / 64]) >> (page % 64) & 1;
}
// Before [a, a + size), in one page of RAM, is written through its host address: what phys_write does for
// itself.
void phys_changing(struct phys *p, paddr a, u64 size);

// ---- subscribers ----
void phys_subscribe(struct phys *p, struct phys_subscriber *s);   // which stays where it is until
void phys_unsubscribe(struct phys *p, struct phys_subscriber *s); // it has dropped what it kept
// a subscriber has decoded what is in these lines
void phys_guard_code(struct phys *p, paddr page, u64 lines);
// a subscriber wants to know of every write to the page
void phys_watch(struct phys *p, paddr page);
// a subscriber keeps less of the page than before
void phys_release(struct phys *p, paddr page);
// the lines of one page that [a, a + size) touches
static inline u64 phys_lines(paddr a, u64 size)
{
    unsigned first = (unsigned)(a & ~PAGE_MASK) / 64, last = (unsigned)((a + size - 1) & ~PAGE_MASK) / 64;
    return (~0ull >> (63 - last)) & (~0ull << first);
}

bool phys_page_is_zero(const u8 *page); // 4 KiB of host memory

#endif

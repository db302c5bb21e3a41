// The two levels of TLB.
//
// `struct tlb` is architectural state: plain data, fixed size, filled at the same points by every engine,
// saved in snapshots and hashed. There is one for instruction fetches and one for data. It only grants: a
// refused access, or a write whose dirty bit is clear in either stage, drops the entry and walks again.
// Replacement is round-robin in a set and moves only on a fill, so hits change nothing.
//
// Entries are tagged with a serial number instead of (VPID, PCID, EP4TA): the context table gives every such
// triple a serial for its own entries and one, per (VPID, EP4TA), for global ones. Flushing a context means
// giving it a new serial.
//
// `struct fast_tlb` in front of the data TLB is derived: a direct-mapped table of (tag, host pointer) for one
// (context, view), a subset of the data TLB, dropped at will.
#ifndef MMU_TLB_H
#define MMU_TLB_H

#include "mmu/walk.h"

#define TLB_SETS     512
#define TLB_WAYS     4
#define TLB_CONTEXTS 64

STATE_BEGIN
struct tlb_entry {
    u64 lpage;  // linear address >> 12
    u64 gpage;  // guest-physical address >> 12
    u64 page;   // physical address >> 12
    u32 serial; // 0: invalid
    u16 rights; // TLB_*
    u8 page_shift;
    u8 pad;
};

// which (vpid, pcid, ept_view) a serial stands for; `global` entries have pcid TLB_GLOBAL_PCID
struct tlb_context {
    u64 ept_view;
    u32 serial; // 0: unused
    u16 vpid;
    u16 pcid;
};
#define TLB_GLOBAL_PCID 0xFFFF

struct tlb {
    struct tlb_entry set[TLB_SETS][TLB_WAYS];
    u8 next_way[TLB_SETS];
    // shared meaning for both TLBs; each keeps its own copy. Eight groups of
    // eight, the group chosen by a hash of the key
    struct tlb_context context[TLB_CONTEXTS];
    u32 next_context;           // round-robin replacement of contexts
    u32 next_serial;            // counts up from 1
    u32 serial, global_serial;  // those of the context in use
    u8 current, current_global; // and where they are in context[]
    u8 pad[6];
    // times next_serial ran out and began at 1 again with everything dropped:
    // whoever remembers serials (fast tables) forgets them when this moves
    u32 restarts;
    // entries dropped by address so far, and the page of the last one, so that whoever mirrors entries (fast
    // tables, links of code) need not forget everything when one or none went
    u32 drops;
    u64 drop_page;
    u64 live;     // a bit for each of context[] that has a serial
    u64 large[4]; // a bit for each hashed GiB of linear addresses that may hold entries of large pages
};
STATE_END

void tlb_reset(struct tlb *t); // empty; the context in use is (vpid 0, pcid 0, no EPT)
// Whether the struct, read from outside, can be one: nothing is read or written beside it then.
bool tlb_possible(const struct tlb *t);
// Chooses the serials of the context in use, allocating one (and killing the entries of the replaced one) if
// new.
void tlb_select(struct tlb *t, const struct mmu_ctx *c);
// The entry for a linear address in the context in use, or NULL.
struct tlb_entry *tlb_find(struct tlb *t, laddr la);
// Whether an entry that was just found or filled is global and what every context of its (VPID, EPT view)
// finds: none of them has an entry of its own for the page.
bool tlb_global_alone(const struct tlb *t, const struct tlb_entry *e);
// Enters a translation as one 4 KiB entry; returns it. *evicted receives the live entry that was replaced
// (serial 0 if none).
struct tlb_entry *tlb_fill(struct tlb *t, laddr la, const struct walk_result *r, struct tlb_entry *evicted);
static inline void tlb_drop(struct tlb_entry *e) { e->serial = 0; }

// Invalidations, as SDM 5.10.4 and 31.4 say (chapter "Caching translation information"). Each returns
// nothing; the caller (cpu/engine/tlbops.c) also drops fast tables and bumps the fetch generation. What
// flushes a whole context gives it a new serial (t->serial and t->global_serial change if it is the one in
// use). As SDM 31.4.3.1 has it, those that act on the current VPID (all but tlb_invept*) act in all its EPT
// views: `c` names the VPID.

// context in use, globals too, large pages whole
void tlb_invlpg(struct tlb *t, laddr la);
// non-global entries of (vpid, pcid)
void tlb_flush_context(struct tlb *t, const struct mmu_ctx *c, u16 pcid);
void tlb_flush_pcids(struct tlb *t, const struct mmu_ctx *c, bool globals); // every pcid of the vpid
// INVPCID type 0: no globals
void tlb_flush_address(struct tlb *t, const struct mmu_ctx *c, u16 pcid, laddr la);
void tlb_invvpid_address(struct tlb *t, u16 vpid, laddr la);
void tlb_invvpid(struct tlb *t, u16 vpid, bool keep_globals); // vpid 0: VM entry and exit without VPIDs
void tlb_invvpid_all(struct tlb *t);                          // every vpid but 0
void tlb_invept(struct tlb *t, u64 ept_view);                 // all entries of that view
void tlb_invept_all(struct tlb *t);                           // all with EPT
void tlb_flush_all(struct tlb *t);                            // whatever there is
// What an EPT violation at (la, gpa), or a #PF at la, invalidates in the context in use. No entry is kept by
// guest-physical address alone, so `gpa` names nothing more to drop. Of a large page only the piece at `la`
// goes: the others are not used to translate `la`.
void tlb_drop_page(struct tlb *t, laddr la, gpaddr gpa);

// ---- the derived fast table ----
#define FAST_BITS   10
#define FAST_SIZE   (1u << FAST_BITS)
#define FAST_TABLES 16
#define FAST_NONE   1ull // a tag that no page-aligned address equals

struct fast_entry {
    // tag: linear page address when such an access may go straight to `host + address`; FAST_NONE else
    u64 read, write;
    u8 *host; // host address minus linear address
    u64 pad;
};
struct fast_tlb {
    struct fast_entry e[FAST_SIZE];
};
struct fast_key {              // whose a fast table is
    u32 serial, global_serial; // the data TLB's context; serial 0: nobody's
    u32 view, pkru, pkrs;      // with which rights its entries were judged (cpu/engine/tlbops.c)
    u64 apic_access;           // and under which mmu_ctx.apic_access: that page is in none
};
static inline u32 fast_index(laddr la) { return (u32)(la.at >> PAGE_SHIFT) & (FAST_SIZE - 1); }

#endif

// What a processor may keep of walks beside its TLBs, and this one keeps with `-tlb lazy` alone
// (docs/tlb.md): guest-physical mappings, which nothing but INVEPT and an EPT violation drops, and entries of
// page directories (a paging-structure cache). Architectural state, like the TLBs.
//
// Nothing refused is kept, and an entry that does not grant the access is not used.
#ifndef MMU_WALK_CACHE_H
#define MMU_WALK_CACHE_H

#include "mmu/types.h"

#define KEPT_PAGES       1024 // guest-physical pages
#define KEPT_DIRECTORIES 64   // entries of page directories

struct mmu_ctx;
struct ept_result;

STATE_BEGIN
struct walk_cache {
    struct kept_page {
        u64 view;  // mmu_ctx.ept_view; 0: none
        u64 gpage; // guest-physical address >> 12
        u64 page;
        u32 rights; // EPT_*
        u8 dirty, paging_writes, paging_bit, pad;
    } page[KEPT_PAGES];
    struct kept_directory {
        u64 region; // linear address >> 21
        u64 tag;    // of the context; 0: none
        u64 table;  // guest-physical address of the page table
        u32 rights; // TLB_*: of the entries down to it
        u32 pad;
    } directory[KEPT_DIRECTORIES];
    u64 tag; // of the context in use: its serial in the data TLB, so that what flushes that flushes this
};
STATE_END

// A guest-physical page for an access that needs `need` (EPT_*): whether one is kept that grants it.
bool kept_page_find(const struct mmu_ctx *c, gpaddr gpa, u32 need, struct ept_result *out);
void kept_page_add(const struct mmu_ctx *c, gpaddr gpa, const struct ept_result *r);
// The page table that `la` is translated by. NULL: not kept.
const struct kept_directory *kept_directory_find(const struct mmu_ctx *c, laddr la);
void kept_directory_add(const struct mmu_ctx *c, laddr la, u64 table, u32 rights);

void kept_pages_drop(struct walk_cache *k, u64 view);              // INVEPT; view 0: of all
void kept_page_drop(struct walk_cache *k, u64 view, gpaddr gpa);   // EPT violation
void kept_directories_drop(struct walk_cache *k, u64 tag);         // tag 0: of all contexts
void kept_directory_drop(struct walk_cache *k, u64 tag, laddr la); // page fault, EPT violation

#endif

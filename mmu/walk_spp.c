// Sub-page write permissions (SDM 31.3.4): the walk of the sub-page-permission tables to the vector of a
// page, whose bit 2S lets sub-page S (128 bytes) be written. Nothing of it is cached.
#include "mmu/walk_ept.h"

#define ODD_BITS 0xAAAAAAAAAAAAAAAAull

enum walk_status spp_permits(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 span, bool *miss)
{
    const u64 reserved = (BIT(12) - BIT(1)) | ~0ull << c->maxphyaddr;
    paddr table = c->spp_root;
    unsigned first = gpa.at >> 7 & 31, last = (unsigned)((gpa.at & ~PAGE_MASK) + span) >> 7;

    *miss = false;
    for (int level = 3;; level--) {
        paddr at = phys_a20(p, table | (gpa.at >> (12 + 9 * level) & 0x1FF) << 3);
        u64 e;

        if (c->peek && !phys_is_ram(p, at)) return WALK_NOT_RAM;
        e = phys_read64(p, c->cpu, at);
        if (level == 0) {
            if (e & ODD_BITS) return WALK_SPP;
            for (unsigned s = first; s <= last && s < 32; s++)
                if (!(e >> 2 * s & 1)) return WALK_EPT_VIOLATION;
            return WALK_OK;
        }
        if (!(e & 1)) {
            *miss = true;
            return WALK_SPP;
        }
        if (e & reserved) return WALK_SPP;
        table = e & EPTE_ADDRESS;
    }
}

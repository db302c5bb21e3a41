// Between walk.c and walk_ept.c: one translation through the extended page tables.
#ifndef MMU_WALK_EPT_H
#define MMU_WALK_EPT_H

#include "mmu/walk.h"

// Access rights of an EPT translation, and what an access needs of them. The first three are bits 2:0 of an
// EPT entry and of the exit qualification; EPT_XU is bit 3 here, 10 in an entry and 6 in the qualification.
enum {
    EPT_R = 1 << 0,
    EPT_W = 1 << 1,
    EPT_X = 1 << 2, // execute; from supervisor-mode linear addresses only, with mode-based execute control
    EPT_XU =
        1
        << 3, // execute from user-mode linear addresses (a copy of EPT_X without mode-based execute control)
};

struct ept_result {
    u8 status;  // WALK_OK, WALK_EPT_VIOLATION, WALK_EPT_MISCONFIG
    bool dirty; // WALK_OK: a write needs no walk to set the leaf's dirty flag
    u32 rights; // EPT_*: of all entries used; 0 if an entry was not present
    paddr pa;
};

// Reads an entry of a paging structure at physical address `pa` and, in a peek, notes it. False: a peek met
// an entry that is not in RAM.
static inline bool walk_entry(struct phys *p, const struct mmu_ctx *c, struct walk_step step, unsigned size,
                              u64 *value)
{
    if (unlikely(c->peek != NULL)) {
        if (!phys_is_ram(p, step.pa)) return false;
        step.value = size == 8 ? phys_read64(p, c->cpu, step.pa) : phys_read32(p, c->cpu, step.pa);
        if (c->peek->n < ARRAY_LEN(c->peek->step)) c->peek->step[c->peek->n++] = step;
        *value = step.value;
        return true;
    }
    *value = size == 8 ? phys_read64(p, c->cpu, step.pa) : phys_read32(p, c->cpu, step.pa);
    return true;
}

// Translates `gpa` for an access that needs all of `need`. With EPT accessed/dirty flags, and only if the
// access is allowed, sets A in each entry used and D in the leaf if `need` has EPT_W. False: status and
// rights say why not.
bool ept_translate(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, struct ept_result *out);

// The VM exit for a failed translation. `linear`: EPT_Q_* (qualification bits 7 and 8).
struct walk_result ept_event(const struct mmu_ctx *c, const struct ept_result *s2, gpaddr gpa, u32 need,
                             u64 linear);

#endif

// Between walk.c and walk_ept.c: one translation through the extended page tables.
#ifndef MMU_WALK_EPT_H
#define MMU_WALK_EPT_H

#include "mmu/walk.h"

// Access rights of an EPT translation, and what an access needs of them. The first three are bits 2:0 of an
// EPT entry and of the exit qualification; EPT_XU is bit 3 here, 10 in an entry and 6 in the qualification.
enum {
    EPT_R = 1 << 0,
    EPT_W = 1 << 1,
    EPT_X = 1 << 2,  // execute; from supervisor-mode linear addresses only, with mode-based execute control
    EPT_XU = 1 << 3, // execute from user-mode linear addresses, with mode-based execute control
    EPT_RIGHTS = 15,
    // What else an access may be:
    EPT_PAGING = 1 << 4, // a write to a guest paging structure: the EPT paging-write control counts
    EPT_DATA = 1 << 5,   // a data write: sub-page permissions count, for the bytes of acc_span in bits 31:8
    // the linear address was translated by a guest paging structure whose page grants no paging writes
    EPT_UNVERIFIED = 1 << 6,
};

enum { // bits of EPT entries
    EPTE_TYPE_SHIFT = 3,
    EPTE_PS = 1 << 7,
    EPTE_A = 1 << 8,
    EPTE_D = 1 << 9,
    EPTE_XU = 1 << 10,
};
#define EPTE_ADDRESS      (BIT(52) - BIT(12))
#define EPTE_VERIFY       BIT(57)
#define EPTE_PAGING_WRITE BIT(58)
#define EPTE_SUBPAGES     BIT(61)
#define EPTE_SUPPRESS_VE  BIT(63)

struct ept_result {
    u8 status;          // WALK_OK, WALK_EPT_VIOLATION, WALK_EPT_MISCONFIG, WALK_PML_FULL, WALK_SPP
    bool dirty;         // WALK_OK: a write needs no walk to set the leaf's dirty flag
    bool convertible;   // as in struct walk_result
    bool verification;  // the violation is one of guest-paging verification
    bool spp_miss;      // WALK_SPP: a miss
    bool paging_writes; // paging writes are granted: by the write right, or by bit 58 of the leaf
    bool paging_bit;    // bit 58 of the leaf
    u32 rights;         // EPT_*: of all entries used; 0 if an entry was not present
    paddr pa;
};

// Reads an entry of a paging structure at physical address `pa` and, in a peek, notes it. False: a peek met
// an entry that is not in RAM.
static inline bool walk_entry(struct phys *p, const struct mmu_ctx *c, struct walk_step step, unsigned size,
                              u64 *value)
{
    if (unlikely(c->notes) && c->coherent && phys_is_ram(p, step.pa)) phys_table(p, step.pa);
    if (unlikely(c->notes) && c->peek) {
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
// access is allowed, sets A in each entry used and D in the leaf if `need` has EPT_W, and logs that. False:
// status and rights say why not.
bool ept_translate(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, struct ept_result *out);

// What ept_translate does for a linear address's own access or for none (walk_ept), as a walk's result.
struct walk_result ept_access(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, u64 linear);

// What an access `acc` needs (ACC_USER: the linear address is a user-mode one).
u32 ept_need(const struct mmu_ctx *c, u32 acc);

// Sub-page write permissions (walk_spp.c): whether the vector of the page lets an access write `span` bytes
// after the first one at `gpa`. WALK_OK; WALK_EPT_VIOLATION: it does not; WALK_SPP, with *miss.
enum walk_status spp_permits(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 span, bool *miss);

// The VM exit for a failed translation. `linear`: EPT_Q_* (qualification bits 7 and 8).
struct walk_result ept_event(const struct mmu_ctx *c, const struct ept_result *s2, gpaddr gpa, u32 need,
                             u64 linear);

#endif

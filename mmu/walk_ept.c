// The walk of the extended page tables: guest-physical address to physical address (SDM 30.3), with
// violations, misconfigurations and accessed/dirty flags. Each entry is judged on its own first: absent is a
// violation, malformed a misconfiguration; the rights of all of them are judged once the leaf is reached.
// Flags are set only by an access that is allowed.
//
// Missing, and not reported by the capability MSRs: page-modification logging, sub-page write permissions,
// #VE, supervisor shadow stacks, paging-write, guest-paging verification, advanced violation information.
#include "mmu/walk_ept.h"

#define EPT_MAX_LEVELS 5

enum { // bits of EPT entries
    EPTE_TYPE_SHIFT = 3,
    EPTE_PS = 1 << 7,
    EPTE_A = 1 << 8,
    EPTE_D = 1 << 9,
    EPTE_XU = 1 << 10,
};
#define EPTE_ADDRESS (BIT(52) - BIT(12))

static u32 entry_rights(const struct mmu_ctx *c, u64 e)
{
    u32 rights = e & (EPT_R | EPT_W | EPT_X);

    if (c->ept_mbec ? !!(e & EPTE_XU) : !!(e & EPT_X)) rights |= EPT_XU;
    return rights;
}

// `level` 0 is the page table. True if a present entry is malformed (SDM 30.3.3.1).
static bool misconfigured(const struct mmu_ctx *c, u64 e, int level)
{
    u32 rights = entry_rights(c, e);
    unsigned type = e >> EPTE_TYPE_SHIFT & 7;

    if (!(rights & EPT_R)) {
        if (rights & EPT_W) return true;
        if (!c->ept_exec_only) return true; // present without read and write: some execute right
    }
    if (e & EPTE_ADDRESS & (~0ull << c->maxphyaddr)) return true;
    if (level > 0) {
        bool may_be_leaf = level == 1 || (level == 2 && c->ept_gib);

        if (!(e & EPTE_PS)) return e & 0x78;
        if (!may_be_leaf) return true;
        if (e & (BIT(12 + 9 * level) - BIT(12))) return true;
    }
    return type == 2 || type == 3 || type == 7;
}

bool ept_translate(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, struct ept_result *out)
{
    paddr used[EPT_MAX_LEVELS];
    u64 value[EPT_MAX_LEVELS];
    unsigned count = 0;
    int level = (int)(c->eptp >> 3 & 7); // walk length minus 1
    paddr table = c->eptp & EPTE_ADDRESS;
    u32 rights = EPT_R | EPT_W | EPT_X | EPT_XU;
    u64 e, offset;

    if (level != 3 && level != 4) panic("ept_translate: EPTP %#llx", (unsigned long long)c->eptp);
    *out = (struct ept_result){.status = WALK_EPT_VIOLATION};
    if (gpa.at >> (12 + 9 * (level + 1))) return false; // wider than the walk: a violation without rights

    for (;; level--) {
        paddr at = phys_a20(p, table | (gpa.at >> (12 + 9 * level) & 0x1FF) << 3);

        if (!walk_entry(p, c, (struct walk_step){.second = true, .level = (u8)level, .pa = at}, 8, &e)) {
            out->status = WALK_NOT_RAM;
            return false;
        }
        if (!(e & (EPT_R | EPT_W | EPT_X)) && !(c->ept_mbec && (e & EPTE_XU))) return false;
        if (misconfigured(c, e, level)) {
            out->status = WALK_EPT_MISCONFIG;
            return false;
        }
        rights &= entry_rights(c, e);
        used[count] = at;
        value[count++] = e;
        if (level == 0 || (e & EPTE_PS)) break;
        table = e & EPTE_ADDRESS;
    }
    out->rights = rights;
    if ((rights & need) != need) return false;

    if (c->ept_ad && !c->peek) {
        for (unsigned i = 0; i < count; i++) {
            u64 flags = i + 1 == count && (need & EPT_W) ? EPTE_A | EPTE_D : EPTE_A;

            if ((value[i] & flags) != flags) // read again: one entry may serve two levels
                phys_write64(p, c->cpu, used[i], phys_read64(p, c->cpu, used[i]) | flags);
        }
    }
    offset = BIT(12 + 9 * level) - 1;
    out->pa = (e & EPTE_ADDRESS & ~offset) | (gpa.at & offset);
    out->dirty = !c->ept_ad || (e & EPTE_D) || (need & EPT_W);
    out->status = WALK_OK;
    return true;
}

struct walk_result ept_event(const struct mmu_ctx *c, const struct ept_result *s2, gpaddr gpa, u32 need,
                             u64 linear)
{
    struct walk_result r = {.status = s2->status, .gpa = gpa};

    if (s2->status == WALK_EPT_VIOLATION) {
        r.qualification = need & (EPT_R | EPT_W);
        if (need & (EPT_X | EPT_XU)) r.qualification |= BIT(2);
        r.qualification |= (u64)(s2->rights & (EPT_R | EPT_W | EPT_X)) << 3;
        if (c->ept_mbec && (s2->rights & EPT_XU)) r.qualification |= BIT(6);
        r.qualification |= linear;
    }
    return r;
}

struct walk_result walk_ept(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 acc, u64 linear)
{
    // clang-format off
    static const u32 s2_of[16] = { // EPT_* to TLB_S2_*
        [EPT_R] = TLB_S2_READ, [EPT_W] = TLB_S2_WRITE, [EPT_X] = TLB_S2_EXEC, [EPT_XU] = TLB_S2_EXEC_USER};
    // clang-format on
    struct walk_result r = {.status = WALK_OK, .gpa = gpa, .pa = gpa.at};
    struct ept_result s2;
    u32 need = EPT_R;

    if (!c->ept) {
        r.rights = TLB_S2_READ | TLB_S2_WRITE | TLB_S2_EXEC | TLB_S2_EXEC_USER | TLB_S2_DIRTY;
        return r;
    }
    if ((acc & ACC_KIND) == ACC_WRITE) need = EPT_W;
    if ((acc & ACC_KIND) == ACC_FETCH) need = acc & ACC_USER ? EPT_XU : EPT_X;
    if (!ept_translate(p, c, gpa, need, &s2)) return ept_event(c, &s2, gpa, need, linear);
    r.pa = s2.pa;
    for (u32 bit = EPT_R; bit <= EPT_XU; bit <<= 1) {
        if (s2.rights & bit) r.rights |= s2_of[bit];
    }
    if (s2.dirty) r.rights |= TLB_S2_DIRTY;
    return r;
}

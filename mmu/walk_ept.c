// The walk of the extended page tables: guest-physical address to physical address (SDM 31.3), with
// violations, misconfigurations, accessed/dirty flags and the page-modification log. Each entry is judged on
// its own first: absent is a violation, malformed a misconfiguration; the rights of all of them are judged
// once the leaf is reached. Flags are set only by an access that is allowed.
//
// Where the manual leaves room: a violation is one of guest-paging verification only if nothing else forbids
// the access; a write across two pages is judged page by page, with sub-page permissions on both.
//
// Missing, and not reported by the capability MSRs: supervisor shadow stacks.
#include "mmu/walk_ept.h"

#define EPT_MAX_LEVELS 5

struct used { // the entries of a walk, from the root
    paddr at[EPT_MAX_LEVELS];
    u64 value[EPT_MAX_LEVELS];
    unsigned count;
};

static u32 entry_rights(u64 e) { return (u32)(e & (EPT_R | EPT_W | EPT_X)) | (e & EPTE_XU ? EPT_XU : 0); }

static bool present(const struct mmu_ctx *c, u64 e)
{
    return e & (EPT_R | EPT_W | EPT_X) || (c->ept_mbec && (e & EPTE_XU));
}

// `level` 0 is the page table. True if a present entry is malformed (SDM 31.3.3.1).
static bool misconfigured(const struct mmu_ctx *c, u64 e, int level)
{
    unsigned type = e >> EPTE_TYPE_SHIFT & 7;
    bool leaf = level == 0 || (e & EPTE_PS);

    if (!(e & EPT_R)) {
        if (e & EPT_W) return true;
        if (!c->ept_exec_only) return true; // present without read and write: some execute right
        if (c->ept_paging_write && leaf && (e & EPTE_PAGING_WRITE)) return true;
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

// Whether the access may go ahead; else *out says why not. `above`: the rights of all entries but the leaf.
static bool allowed(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, u32 above, u64 leaf,
                    int level, struct ept_result *out)
{
    u32 rights = above & entry_rights(leaf);
    u32 want = need & EPT_RIGHTS;
    bool small = level == 0;

    out->rights = rights;
    out->convertible = !(leaf & EPTE_SUPPRESS_VE);
    out->paging_bit = leaf & EPTE_PAGING_WRITE;
    out->paging_writes = rights & EPT_W || (c->ept_paging_write && (above & EPT_W) && out->paging_bit);
    if (need & EPT_PAGING && out->paging_writes) want &= ~(u32)EPT_W;
    if ((rights & want) != want) {
        bool only_write = (want & ~rights) == EPT_W;
        if (!(need & EPT_DATA) || !c->ept_subpages || !only_write || !small || !(leaf & EPTE_SUBPAGES))
            return false;
        out->status = spp_permits(p, c, gpa, need >> ACC_SPAN_SHIFT, &out->spp_miss);
        if (out->status != WALK_OK) return false;
    }
    if (need & EPT_UNVERIFIED && c->ept_verify && c->ept_paging_write && (leaf & EPTE_VERIFY)) {
        out->status = WALK_EPT_VIOLATION;
        out->verification = true;
        return false;
    }
    return true;
}

// Accessed flags, the leaf's dirty flag on a write, and the log. False: it is full, and nothing was set.
static bool set_flags(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, bool write, const struct used *u)
{
    bool log = false, missing = false;
    u16 index = 0;

    for (unsigned i = 0; i < u->count; i++) {
        u64 flags = i + 1 == u->count && write ? EPTE_A | EPTE_D : EPTE_A;
        missing |= (u->value[i] & flags) != flags;
    }
    if (likely(!missing)) return true;
    if (c->ept_pml) {
        index = phys_read16(p, c->cpu, c->pml_index);
        if (index > 511) return false;
    }
    if (c->peek) return true;
    for (unsigned i = 0; i < u->count; i++) {
        u64 flags = i + 1 == u->count && write ? EPTE_A | EPTE_D : EPTE_A, now;

        if ((u->value[i] & flags) == flags) continue;
        now = phys_read64(p, c->cpu, u->at[i]); // again: one entry may serve two levels
        log |= flags & ~now & EPTE_D;
        phys_write_flags(p, c->cpu, u->at[i], now | flags, 8);
    }
    if (c->ept_pml && log) {
        const char *outer = phys_writer_begin(p, "page-modification logging");
        phys_write64(p, c->cpu, c->pml_log + 8 * index, gpa.at & PAGE_MASK);
        phys_write16(p, c->cpu, c->pml_index, (u16)(index - 1));
        phys_writer_end(p, outer);
    }
    return true;
}

bool ept_translate(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, struct ept_result *out)
{
    struct used u = {.count = 0};
    int level = (int)(c->eptp >> 3 & 7); // walk length minus 1
    paddr table = c->eptp & EPTE_ADDRESS;
    u32 above = EPT_RIGHTS;
    u64 e, offset;

    if (level != 3 && level != 4) panic("ept_translate: EPTP %#llx", (unsigned long long)c->eptp);
    *out = (struct ept_result){.status = WALK_EPT_VIOLATION};
    // Wider than the walk: a violation without rights, and without an entry whose bit 63 could let it be #VE.
    if (gpa.at >> (12 + 9 * (level + 1))) return false;
    if (unlikely(c->cache != NULL) && !c->ept_verify && kept_page_find(c, gpa, need, out)) return true;

    for (;; level--) {
        paddr at = phys_a20(p, table | (gpa.at >> (12 + 9 * level) & 0x1FF) << 3);

        if (!walk_entry(p, c, (struct walk_step){.second = true, .level = (u8)level, .pa = at}, 8, &e)) {
            out->status = WALK_NOT_RAM;
            return false;
        }
        if (!present(c, e)) {
            out->convertible = !(e & EPTE_SUPPRESS_VE);
            return false;
        }
        if (misconfigured(c, e, level)) {
            out->status = WALK_EPT_MISCONFIG;
            return false;
        }
        u.at[u.count] = at;
        u.value[u.count++] = e;
        if (level == 0 || (e & EPTE_PS)) break;
        above &= entry_rights(e);
        table = e & EPTE_ADDRESS;
    }
    if (!allowed(p, c, gpa, need, above, e, level, out)) return false;
    if (c->ept_ad && !set_flags(p, c, gpa, need & EPT_W, &u)) {
        out->status = WALK_PML_FULL;
        return false;
    }
    offset = BIT(12 + 9 * level) - 1;
    out->pa = (e & EPTE_ADDRESS & ~offset) | (gpa.at & offset);
    out->dirty = !c->ept_ad || (e & EPTE_D) || (need & EPT_W);
    out->status = WALK_OK;
    // (Of a page with sub-page permissions each write is to be looked at.)
    if (unlikely(c->cache != NULL) && !(c->ept_subpages && level == 0 && e & EPTE_SUBPAGES))
        kept_page_add(c, gpa, out);
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
        if (s2->verification) r.qualification |= EPT_Q_VERIFICATION;
        r.convertible = s2->convertible;
    }
    if (s2->status == WALK_SPP && s2->spp_miss) r.qualification = SPP_Q_MISS;
    return r;
}

struct walk_result ept_access(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 need, u64 linear)
{
    // clang-format off
    static const u32 s2_of[16] = { // EPT_* to TLB_S2_*
        [EPT_R] = TLB_S2_READ, [EPT_W] = TLB_S2_WRITE, [EPT_X] = TLB_S2_EXEC, [EPT_XU] = TLB_S2_EXEC_USER};
    // clang-format on
    struct walk_result r = {.status = WALK_OK, .gpa = gpa, .pa = gpa.at};
    struct ept_result s2;

    if (!c->ept) {
        r.rights = TLB_S2_READ | TLB_S2_WRITE | TLB_S2_EXEC | TLB_S2_EXEC_USER | TLB_S2_DIRTY;
        return r;
    }
    if (!ept_translate(p, c, gpa, need, &s2)) return ept_event(c, &s2, gpa, need, linear);
    r.pa = s2.pa;
    for (u32 bit = EPT_R; bit <= EPT_XU; bit <<= 1) {
        if (s2.rights & bit) r.rights |= s2_of[bit];
    }
    if (s2.dirty) r.rights |= TLB_S2_DIRTY;
    return r;
}

u32 ept_need(const struct mmu_ctx *c, u32 acc)
{
    switch (acc & ACC_KIND) {
    case ACC_WRITE: return EPT_W | EPT_DATA | (acc & ~0u << ACC_SPAN_SHIFT);
    case ACC_FETCH: return c->ept_mbec && (acc & ACC_USER) ? EPT_XU : EPT_X;
    default: return EPT_R;
    }
}

struct walk_result walk_ept(struct phys *p, const struct mmu_ctx *c, gpaddr gpa, u32 acc, u64 linear)
{
    return ept_access(p, c, gpa, ept_need(c, acc), linear);
}

// clang-format off
// The walk of the guest's paging structures: linear address to guest-physical address (SDM 3A chapter "Paging"), with
// every structure access and the final address going through the second stage (walk_ept.c).
//
// Where the manual leaves room, this machine does the following; the tests hold it.
// - Order: for each level the EPT events of reading the entry, then its present and reserved-bit checks; after the last
//   level the access rights; then accessed and dirty flags from the root downwards (with EPT events of their writes);
//   then the EPT events of the final access. So a walk that ends in #PF sets no flag in any guest entry, while an EPT
//   violation of the final access finds them set. (SDM 5.8 sets A when an entry is "used"; whether a faulting walk used
//   the ones above is left open.)
// - The write of a flag, where EPT accessed/dirty flags are off, is a read-modify-write: qualification bits 0 and 1.
// - HLAT paging (SDM 5.5.1): an entry's present and reserved bits are looked at before its restart bit (11), and what
//   the walk before a restart used gets no flags and does not count for guest-paging verification.
// - PK in the error code is set whenever the key forbids the access, even if another right does too (SDM 5.7).
//
// Missing: shadow stacks, LAM; nothing offers them. Paging-structure caches: with `-tlb lazy`, of page-directory entries (walk_cache.h).
// clang-format on
#include "mmu/walk_ept.h"

enum { // bits of paging-structure entries
    PTE_P = 1 << 0,
    PTE_W = 1 << 1,
    PTE_U = 1 << 2,
    PTE_A = 1 << 5,
    PTE_D = 1 << 6,
    PTE_PS = 1 << 7,
    PTE_G = 1 << 8,
    PTE_RESTART = 1 << 11, // of HLAT paging; ignored by ordinary paging
};
#define PTE_XD        BIT(63)
#define PTE_KEY_SHIFT 59

enum { // page-fault error code
    PFEC_P = 1 << 0,
    PFEC_W = 1 << 1,
    PFEC_U = 1 << 2,
    PFEC_RSVD = 1 << 3,
    PFEC_ID = 1 << 4,
    PFEC_PK = 1 << 5,
    PFEC_HLAT = 1 << 7, // not present, or reserved bits, in HLAT paging
};

struct guest_entry { // an entry that the walk used
    paddr pa;
    gpaddr gpa;
    u64 value;
    struct ept_result s2; // how EPT leads to it
};

struct guest_walk {
    struct guest_entry used[5]; // from the root
    unsigned count;
    u32 rights; // TLB_*, first stage
    u8 page_shift;
    gpaddr gpa;
};

#define FULL_RIGHTS_1 (TLB_USER | TLB_WRITE | TLB_EXEC | TLB_DIRTY)

// Nothing used yet: what is in `used` beyond `count` is never looked at, and not worth clearing in each walk.
static void walk_begin(struct guest_walk *w)
{
    w->count = 0;
    w->rights = FULL_RIGHTS_1;
    w->page_shift = PAGE_SHIFT;
}

// ---- access rights ----

static bool key_forbids(const struct mmu_ctx *c, u32 rights, u32 acc)
{
    u32 key_bits;

    // SDM 5.6.2: 4-level and 5-level paging, data accesses: to user-mode addresses by PKRU with CR4.PKE, to
    // supervisor-mode ones by IA32_PKRS with CR4.PKS.
    if (c->paging < PAGING_4LEVEL || (acc & ACC_KIND) == ACC_FETCH) return false;
    if (!(rights & TLB_USER ? c->pke : c->pks)) return false;
    key_bits = (rights & TLB_USER ? c->pkru : c->pkrs) >> (rights >> TLB_PKEY_SHIFT & 15) * 2;
    if (key_bits & 1) return true;
    return (key_bits & 2) && (acc & ACC_KIND) == ACC_WRITE && (c->wp || (acc & ACC_USER));
}

// SDM 5.6.1, without protection keys.
static bool rights_allow(const struct mmu_ctx *c, u32 rights, u32 acc)
{
    u32 kind = acc & ACC_KIND;

    if (c->paging == PAGING_OFF) return true;
    if (kind == ACC_FETCH && !(rights & TLB_EXEC)) return false;
    if (acc & ACC_USER) {
        if (!(rights & TLB_USER)) return false;
        return kind != ACC_WRITE || (rights & TLB_WRITE);
    }
    if (rights & TLB_USER) {
        if (kind == ACC_FETCH) return !c->smep;
        if (c->smap && ((acc & ACC_IMPLICIT) || !(acc & ACC_AC))) return false;
    }
    return kind != ACC_WRITE || (rights & TLB_WRITE) || !c->wp;
}

bool walk_rights_permit(const struct mmu_ctx *c, u32 rights, u32 acc)
{
    if (!rights_allow(c, rights, acc) || key_forbids(c, rights, acc)) return false;
    switch (acc & ACC_KIND) {
    case ACC_READ: return rights & TLB_S2_READ;
    case ACC_WRITE:
        return (rights & (TLB_S2_WRITE | TLB_DIRTY | TLB_S2_DIRTY)) ==
               (TLB_S2_WRITE | TLB_DIRTY | TLB_S2_DIRTY);
    default: return rights & (c->ept_mbec && rights & TLB_USER ? TLB_S2_EXEC_USER : TLB_S2_EXEC);
    }
}

static struct walk_result page_fault(const struct mmu_ctx *c, u32 acc, u32 error)
{
    struct walk_result r = {.status = WALK_PF, .error = error};
    bool pae = c->paging != PAGING_32;

    if ((acc & ACC_KIND) == ACC_WRITE) r.error |= PFEC_W;
    if (acc & ACC_USER) r.error |= PFEC_U;
    if ((acc & ACC_KIND) == ACC_FETCH && (c->smep || (pae && c->nxe))) r.error |= PFEC_ID;
    return r;
}

// ---- entries ----

// Reads the entry at guest-physical `gpa`. False: *r holds the EPT event.
static bool read_entry(struct phys *p, const struct mmu_ctx *c, struct guest_entry *e, gpaddr gpa,
                       unsigned level, unsigned size, struct walk_result *r)
{
    e->gpa = gpa;
    e->pa = gpa.at;
    if (c->ept) {
        // SDM 31.3.3.2: with EPT accessed/dirty flags every access to a paging structure counts as a write.
        u32 need = c->ept_ad ? EPT_R | EPT_W | EPT_PAGING : EPT_R;

        if (!ept_translate(p, c, gpa, need, &e->s2)) {
            *r = ept_event(c, &e->s2, gpa, need, EPT_Q_LINEAR);
            return false;
        }
        e->pa = e->s2.pa;
        if (mmu_apic_access(c, e->pa)) { // SDM 32.4.6.1
            *r = (struct walk_result){.status = WALK_APIC_ACCESS, .gpa = gpa};
            return false;
        }
    }
    e->pa = phys_a20(p, e->pa);
    if (walk_entry(p, c, (struct walk_step){.level = (u8)level, .gpa = gpa, .pa = e->pa}, size, &e->value))
        return true;
    *r = (struct walk_result){.status = WALK_NOT_RAM, .gpa = gpa};
    return false;
}

static bool set_flags(struct phys *p, const struct mmu_ctx *c, const struct guest_entry *e, u64 flags,
                      bool wide, struct walk_result *r)
{
    if ((e->value & flags) == flags) return true;
    if (c->ept && !e->s2.paging_writes) {
        struct ept_result s2 = e->s2;
        s2.status = WALK_EPT_VIOLATION;
        *r = ept_event(c, &s2, e->gpa, EPT_R | EPT_W, EPT_Q_LINEAR);
        return false;
    }
    if (c->peek) return true;
    // A locked read-modify-write: the same memory may have got other flags since, as an EPT entry or at
    // another level.
    if (wide)
        phys_write_flags(p, c->cpu, e->pa, phys_read64(p, c->cpu, e->pa) | flags, 8);
    else
        phys_write_flags(p, c->cpu, e->pa, phys_read32(p, c->cpu, e->pa) | (u32)flags, 4);
    return true;
}

static u64 bits(unsigned high, unsigned low) // a mask of bits high:low, empty if high < low
{
    return high < low ? 0 : (~0ull >> (63 - high)) & (~0ull << low);
}

static void take_rights(struct guest_walk *w, u64 entry)
{
    if (!(entry & PTE_U)) w->rights &= ~TLB_USER;
    if (!(entry & PTE_W)) w->rights &= ~TLB_WRITE;
    if (entry & PTE_XD) w->rights &= ~TLB_EXEC;
}

static void take_leaf(struct guest_walk *w, const struct mmu_ctx *c, u64 entry, unsigned shift)
{
    w->page_shift = (u8)shift;
    if ((entry & PTE_G) && c->pge) w->rights |= TLB_GLOBAL;
    if (!(entry & PTE_D)) w->rights &= ~TLB_DIRTY;
}

// ---- the structures ----

static bool walk_32(struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc, struct guest_walk *w,
                    struct walk_result *r)
{
    // SDM 5.3: PSE-36 gives a 4 MiB page at most 40 address bits.
    unsigned m = c->maxphyaddr < 40 ? c->maxphyaddr : 40;
    u32 pde, pte;

    if (!read_entry(p, c, &w->used[0], gpaddr_of((c->cr3 & 0xFFFFF000) | (la.at >> 22 & 0x3FF) << 2), 1, 4,
                    r))
        return false;
    w->count = 1;
    pde = (u32)w->used[0].value;
    if (!(pde & PTE_P)) goto absent;
    take_rights(w, pde);
    if ((pde & PTE_PS) && c->pse) {
        if (pde & bits(21, m - 19)) {
            *r = page_fault(c, acc, PFEC_P | PFEC_RSVD);
            return false;
        }
        w->gpa = gpaddr_of((pde & 0xFFC00000) | (u64)(pde & bits(m - 20, 13)) << 19 | (la.at & 0x3FFFFF));
        take_leaf(w, c, pde, 22);
        return true;
    }
    if (!read_entry(p, c, &w->used[1], gpaddr_of((pde & 0xFFFFF000) | (la.at >> 12 & 0x3FF) << 2), 0, 4, r))
        return false;
    w->count = 2;
    pte = (u32)w->used[1].value;
    if (!(pte & PTE_P)) goto absent;
    take_rights(w, pte);
    w->gpa = gpaddr_of((pte & 0xFFFFF000) | (la.at & 0xFFF));
    take_leaf(w, c, pte, 12);
    return true;
absent:
    *r = page_fault(c, acc, 0);
    return false;
}

// PAE, 4-level and 5-level paging from the table at guest-physical `table` with `level` (0: page table)
// downwards. WALK_64_RESTART (HLAT paging alone): go on with ordinary paging; w->page_shift is the level's.
enum walk_64_end { WALK_64_FAULT, WALK_64_DONE, WALK_64_RESTART };
static inline __attribute__((always_inline)) enum walk_64_end walk_64(struct phys *p, const struct mmu_ctx *c,
                                                                      laddr la, u32 acc, u64 table, int level,
                                                                      bool hlat, struct guest_walk *w,
                                                                      struct walk_result *r)
{
    u64 address = bits(c->maxphyaddr - 1u, 12);
    // SDM 5.4, 5.5: PAE reserves 62:M, the IA-32e formats 51:M only; XD is reserved while EFER.NXE = 0.
    u64 reserved = bits(c->paging == PAGING_PAE ? 62 : 51, c->maxphyaddr) | (c->nxe ? 0 : PTE_XD);

    for (;; level--) {
        unsigned shift = 12 + 9 * (unsigned)level;
        struct guest_entry *e = &w->used[w->count];
        u64 here = reserved;
        bool leaf;

        if (!read_entry(p, c, e, gpaddr_of(table | (la.at >> shift & 0x1FF) << 3), (unsigned)level, 8, r))
            return WALK_64_FAULT;
        w->count++;
        if (!(e->value & PTE_P)) {
            *r = page_fault(c, acc, hlat ? PFEC_HLAT : 0);
            return WALK_64_FAULT;
        }
        leaf = level == 0 || (e->value & PTE_PS);
        if (level > 2 || (level == 2 && !c->gib_pages))
            here |= PTE_PS;
        else if (leaf && level > 0)
            here |= bits(shift - 1, 13);
        if (e->value & here) {
            *r = page_fault(c, acc, PFEC_P | PFEC_RSVD | (hlat ? PFEC_HLAT : 0));
            return WALK_64_FAULT;
        }
        if (hlat && e->value & PTE_RESTART) {
            walk_begin(w);
            w->page_shift = (u8)shift;
            return WALK_64_RESTART;
        }
        take_rights(w, e->value);
        if (leaf) {
            u64 offset = BIT(shift) - 1;

            w->gpa = gpaddr_of((e->value & address & ~offset) | (la.at & offset));
            take_leaf(w, c, e->value, shift);
            if (c->paging >= PAGING_4LEVEL)
                w->rights |= (u32)(e->value >> PTE_KEY_SHIFT & 15) << TLB_PKEY_SHIFT;
            return WALK_64_DONE;
        }
        table = e->value & address;
    }
}

// 4-level and 5-level paging: HLAT paging where it is in use, then ordinary paging, as far as it asks for
// that.
static bool walk_ia32e(struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc, struct guest_walk *w,
                       struct walk_result *r)
{
    u64 address = bits(c->maxphyaddr - 1u, 12);
    int top = c->paging == PAGING_5LEVEL ? 4 : 3;
    u8 limit = 64;

    if (unlikely(c->hlat) && (!c->hlat_upper || la.at >> 63)) {
        enum walk_64_end end = walk_64(p, c, la, acc, c->hlatp & address, top, true, w, r);
        if (end != WALK_64_RESTART) return end == WALK_64_DONE;
        limit = w->page_shift;
    }
    const struct kept_directory *kept =
        unlikely(c->cache != NULL) && !c->hlat && !c->ept_verify ? kept_directory_find(c, la) : NULL;
    if (kept) {
        w->rights = kept->rights;
        return walk_64(p, c, la, acc, kept->table, 0, false, w, r) != WALK_64_FAULT;
    }
    if (walk_64(p, c, la, acc, c->cr3 & address, top, false, w, r) == WALK_64_FAULT) return false;
    if (w->page_shift > limit) w->page_shift = limit;
    return true;
}

static bool walk_structures(struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc, struct guest_walk *w,
                            struct walk_result *r)
{
    u64 pdpte;

    switch (c->paging) {
    case PAGING_32: return walk_32(p, c, la, acc, w, r);
    case PAGING_PAE:
        pdpte = c->pdpte[la.at >> 30 & 3];
        if (!(pdpte & PTE_P)) {
            *r = page_fault(c, acc, 0);
            return false;
        }
        return walk_64(p, c, la, acc, pdpte & bits(c->maxphyaddr - 1u, 12), 1, false, w, r) == WALK_64_DONE;
    case PAGING_4LEVEL:
    case PAGING_5LEVEL: return walk_ia32e(p, c, la, acc, w, r);
    default: panic("walk: paging mode %u", c->paging);
    }
}

// Rights and accessed/dirty flags after a complete walk. False: *r holds the event.
static bool finish_stage_1(struct phys *p, const struct mmu_ctx *c, u32 acc, struct guest_walk *w,
                           struct walk_result *r)
{
    bool wide = c->paging != PAGING_32;
    bool key = key_forbids(c, w->rights, acc);

    if (key || !rights_allow(c, w->rights, acc)) {
        *r = page_fault(c, acc, PFEC_P | (key ? PFEC_PK : 0));
        return false;
    }
    for (unsigned i = 0; i < w->count; i++) {
        bool dirty = i + 1 == w->count && (acc & ACC_KIND) == ACC_WRITE;

        if (!set_flags(p, c, &w->used[i], dirty ? PTE_A | PTE_D : PTE_A, wide, r)) return false;
        if (dirty) w->rights |= TLB_DIRTY;
    }
    return true;
}

// Keeps the page-directory entry of a walk that went well. What its entries grant is asked of them again:
// w->rights are those of the leaf as well.
static void keep_directory(const struct mmu_ctx *c, laddr la, const struct guest_walk *w)
{
    struct guest_walk above = {.rights = FULL_RIGHTS_1};

    if (c->paging < PAGING_4LEVEL || c->hlat || c->ept_verify || w->page_shift != PAGE_SHIFT || w->count < 4)
        return;
    for (unsigned i = 0; i + 1 < w->count; i++) take_rights(&above, w->used[i].value);
    kept_directory_add(c, la, w->used[w->count - 2].value & bits(c->maxphyaddr - 1u, 12), above.rights);
}

struct walk_result walk_linear(struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc)
{
    struct guest_walk w;
    struct walk_result r = {.status = WALK_OK};

    walk_begin(&w);
    w.gpa = gpaddr_of(la.at);
    if (c->paging != PAGING_OFF) {
        if (!walk_structures(p, c, la, acc, &w, &r) || !finish_stage_1(p, c, acc, &w, &r)) return r;
        if (unlikely(c->cache != NULL)) keep_directory(c, la, &w);
    }
    // Mode-based execute control asks for the mode of the address, not of the access (SDM 31.3.3.2).
    u32 need = ept_need(c, (acc & ~(u32)ACC_USER) | (w.rights & TLB_USER ? ACC_USER : 0));
    for (unsigned i = 0; c->ept_verify && i < w.count; i++)
        if (!w.used[i].s2.paging_bit) need |= EPT_UNVERIFIED;
    r = ept_access(p, c, w.gpa, need, EPT_Q_LINEAR | EPT_Q_FINAL);
    if (r.status == WALK_EPT_VIOLATION && c->ept_advanced) {
        if (w.rights & TLB_USER) r.qualification |= EPT_Q_USER;
        if (w.rights & TLB_WRITE) r.qualification |= EPT_Q_WRITABLE;
        if (!(w.rights & TLB_EXEC)) r.qualification |= EPT_Q_XD;
    }
    r.rights |= w.rights;
    r.page_shift = w.page_shift;
    r.pa = phys_a20(p, r.pa);
    return r;
}

struct walk_result walk_peek(const struct phys *p, const struct mmu_ctx *c, laddr la, u32 acc,
                             struct walk_steps *steps)
{
    struct walk_steps unwanted;
    struct mmu_ctx looking = *c;

    looking.peek = steps ? steps : &unwanted;
    looking.peek->n = 0;
    looking.notes = true;
    looking.cache = NULL;
    // Only what a peek does not do would write to memory.
    return walk_linear((struct phys *)(uintptr_t)p, &looking, la, acc);
}

bool walk_load_pdptes(struct phys *p, const struct mmu_ctx *c, u64 cr3, u64 pdpte[4], struct walk_result *r)
{
    bool good = true;

    // Reads even with EPT accessed/dirty flags, and without a linear address.
    *r = walk_ept(p, c, gpaddr_of(cr3 & 0xFFFFFFE0), ACC_READ, 0);
    if (r->status != WALK_OK) {
        if (c->cache)
            kept_page_drop(c->cache, c->ept_view, r->gpa); // it may have been what memory no longer says
        return false;
    }
    if (c->ept && mmu_apic_access(c, r->pa)) {
        r->status = WALK_APIC_ACCESS;
        return false;
    }
    for (unsigned i = 0; i < 4; i++) {
        pdpte[i] = phys_read64(p, c->cpu, phys_a20(p, r->pa + i * 8));
        if (!walk_pdpte_valid(pdpte[i], c->maxphyaddr)) good = false;
    }
    return good;
}

// The processor's side of both TLB levels: the translation context, filling, the fast tables and fetch generations.
#include <string.h>

#include "cpu/tlbops.h"
#include "cpu/cpuid.h"
#include "vmx/intercept.h"

enum { VIEW_USER, VIEW_SUPER, VIEW_SUPER_AC };

static void fast_clear(struct fast_tlb *t)
{
    for (u32 i = 0; i < FAST_SIZE; i++) t->e[i].read = t->e[i].write = FAST_NONE;
}

// Chooses the fast table of (context, view), clearing the least recently allocated one if there is none.
static void fast_select(struct vcpu *v, u32 view)
{
    struct engine *e = v->d.engine;
    u32 serial = v->s.dtlb.serial, global = v->s.dtlb.global_serial;
    for (u32 i = 0; i < FAST_TABLES; i++) {
        struct fast_tlb *t = &e->tables[i];
        if (t->live && t->serial == serial && t->global_serial == global && t->view == view) {
            v->d.ft = t;
            return;
        }
    }
    struct fast_tlb *t = &e->tables[e->next_table++ % FAST_TABLES];
    fast_clear(t);
    t->serial = serial, t->global_serial = global, t->view = view, t->live = 1;
    v->d.ft = t;
}

static void generation_select(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    u32 serial = v->s.itlb.serial, global = v->s.itlb.global_serial;
    for (u32 i = 0; i < GENERATIONS; i++) {
        struct generation *g = &e->generations[i];
        if (g->gen && g->serial == serial && g->global_serial == global && g->mode == v->d.mode) {
            v->d.fetch_gen = g->gen;
            return;
        }
    }
    struct generation *g = &e->generations[e->next_generation++ % GENERATIONS];
    *g = (struct generation){serial, global, v->d.mode, ++e->next_gen};
    v->d.fetch_gen = g->gen;
}

// Links and jump-cache entries of every context are void: forget which generation belonged to whom.
static void generations_drop(struct vcpu *v)
{
    memset(v->d.engine->generations, 0, sizeof v->d.engine->generations);
    generation_select(v);
}

void cpu_context_changed(struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    struct mmu_ctx *c = &v->d.mmu;
    c->cr3 = s->cr3;
    memcpy(c->pdpte, s->pdpte, sizeof c->pdpte);
    c->pkru = s->pkru;
    c->pcid = (s->cr4 & CR4_PCIDE) ? s->cr3 & 0xFFF : 0;
    c->paging = !(s->cr0 & CR0_PG)    ? PAGING_OFF
                : !(s->cr4 & CR4_PAE) ? PAGING_32
                : !(s->msr.efer & EFER_LMA) ? PAGING_PAE
                : (s->cr4 & CR4_LA57) ? PAGING_5LEVEL
                                      : PAGING_4LEVEL;
    c->maxphyaddr = v->features->maxphyaddr;
    c->cpu = (u8)v->index;
    c->wp = s->cr0 & CR0_WP;
    c->smep = s->cr4 & CR4_SMEP;
    c->smap = s->cr4 & CR4_SMAP;
    c->pke = s->cr4 & CR4_PKE;
    c->pse = s->cr4 & CR4_PSE;
    c->pge = s->cr4 & CR4_PGE;
    c->nxe = s->msr.efer & EFER_NXE;
    c->gib_pages = feature_on(v->features, FEATURE_PDPE1GB);
    c->vpid = 0, c->ept = false, c->ept_view = 0;
    if (s->vmx.guest) vmx_fill_mmu(v, c);
    tlb_select(&v->s.itlb, c);
    tlb_select(&v->s.dtlb, c);
    fast_select(v, v->d.cpl == 3 ? VIEW_USER : (c->smap && !(s->rflags & FL_AC)) ? VIEW_SUPER : VIEW_SUPER_AC);
    generation_select(v);
}

void cpu_drop_fast(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    for (u32 i = 0; i < FAST_TABLES; i++) e->tables[i].live = 0;
    cpu_context_changed(v);
    generations_drop(v);
}

void cpu_tlb_flushed(struct vcpu *v) { cpu_drop_fast(v); }

void tlbops_drop_page(struct vcpu *v, paddr page)
{
    // By physical page: the page now holds code (or is watched): no table may store to it directly.
    struct engine *e = v->d.engine;
    u8 *host = v->phys->ram + (page << PAGE_SHIFT);
    for (u32 i = 0; i < FAST_TABLES; i++) {
        if (!e->tables[i].live) continue;
        for (u32 k = 0; k < FAST_SIZE; k++) {
            struct fast_entry *f = &e->tables[i].e[k];
            if (f->write != FAST_NONE && f->host + f->write == host) f->write = FAST_NONE;
        }
    }
}

void tlbops_drop_writes(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    for (u32 i = 0; i < FAST_TABLES; i++)
        for (u32 k = 0; k < FAST_SIZE; k++) e->tables[i].e[k].write = FAST_NONE;
}

// The entry of the architectural TLB went away: so do its fast entries.
static void fast_forget(struct vcpu *v, const struct tlb_entry *gone)
{
    struct engine *e = v->d.engine;
    u64 la = gone->lpage << PAGE_SHIFT;
    for (u32 i = 0; i < FAST_TABLES; i++) {
        struct fast_tlb *t = &e->tables[i];
        if (!t->live || (t->serial != gone->serial && t->global_serial != gone->serial)) continue;
        struct fast_entry *f = &t->e[fast_index(la)];
        if (f->read == la) f->read = FAST_NONE;
        if (f->write == la) f->write = FAST_NONE;
    }
}

static inline bool dirty_enough(u32 rights, u32 acc)
{
    return (acc & ACC_KIND) != ACC_WRITE || (rights & (TLB_DIRTY | TLB_S2_DIRTY)) == (TLB_DIRTY | TLB_S2_DIRTY);
}

_Noreturn static void raise_walk(struct vcpu *v, laddr la, const struct walk_result *r)
{
    if (r->status == WALK_PF) raise_pf(v, la, r->error);
    if (r->status == WALK_EPT_VIOLATION) {
        tlb_drop_page(&v->s.itlb, la, r->gpa);
        tlb_drop_page(&v->s.dtlb, la, r->gpa);
        cpu_tlb_flushed(v);
    }
    vmx_raise_ept(v, r, la, true);
}

// A page fault invalidates the entries of its address (SDM 5.10.4.1).
static void forget_on_fault(struct vcpu *v, laddr la)
{
    struct tlb_entry *e = tlb_find(&v->s.dtlb, la);
    if (e) {
        fast_forget(v, e);
        tlb_drop(e);
    }
    e = tlb_find(&v->s.itlb, la);
    if (e) {
        tlb_drop(e);
        generations_drop(v);
    }
}

const struct tlb_entry *tlbops_data(struct vcpu *v, laddr la, u32 acc)
{
    struct tlb_entry *e = tlb_find(&v->s.dtlb, la);
    if (e) {
        if (walk_rights_permit(&v->d.mmu, e->rights, acc) && dirty_enough(e->rights, acc)) return e;
        fast_forget(v, e);
        tlb_drop(e);
    }
    struct walk_result r = walk_linear(v->phys, &v->d.mmu, la, acc);
    if (r.status != WALK_OK) {
        if (r.status == WALK_PF) forget_on_fault(v, la);
        raise_walk(v, la, &r);
    }
    struct tlb_entry evicted;
    e = tlb_fill(&v->s.dtlb, la, &r, &evicted);
    if (evicted.serial) fast_forget(v, &evicted);
    return e;
}

paddr tlbops_fetch(struct vcpu *v, laddr la)
{
    u32 acc = ACC_FETCH | (v->d.cpl == 3 ? ACC_USER : 0);
    struct tlb_entry *e = tlb_find(&v->s.itlb, la);
    if (e) {
        if (walk_rights_permit(&v->d.mmu, e->rights, acc)) return e->page << PAGE_SHIFT | (la & ~PAGE_MASK);
        tlb_drop(e);
        generations_drop(v);
    }
    struct walk_result r = walk_linear(v->phys, &v->d.mmu, la, acc);
    if (r.status != WALK_OK) {
        if (r.status == WALK_PF) forget_on_fault(v, la);
        raise_walk(v, la, &r);
    }
    struct tlb_entry evicted;
    tlb_fill(&v->s.itlb, la, &r, &evicted);
    if (evicted.serial) generations_drop(v);
    return r.pa;
}

void tlbops_fill_fast(struct vcpu *v, laddr la, const struct tlb_entry *e, u32 acc)
{
    // Only accesses as the view makes them: explicit, at the current CPL.
    if (acc & ACC_IMPLICIT || ((acc & ACC_USER) != 0) != (v->d.cpl == 3)) return;
    paddr pa = e->page << PAGE_SHIFT;
    u8 *host = phys_host(v->phys, pa);
    if (!host) return;
    laddr page = la & PAGE_MASK;
    struct fast_entry *f = &v->d.ft->e[fast_index(la)];
    if (f->read != page && f->read != FAST_NONE) f->write = FAST_NONE;
    f->read = page;
    f->host = host - page;
    if (f->write != page) f->write = FAST_NONE;
    if ((acc & ACC_KIND) == ACC_WRITE && !phys_code_or_watch(v->phys, pa)) {
        f->write = page;
        phys_mark_dirty(v->phys, pa);
    }
}

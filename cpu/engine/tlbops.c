// The processor's side of both TLB levels: the translation context, filling, the fast tables and fetch
// generations.
#include <string.h>

#include "cpu/engine/tlbops.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "cpu/state/trace.h"
#include "vmx/intercept.h"

enum { VIEW_USER, VIEW_SUPER, VIEW_SUPER_AC };

static void fast_clear(struct engine *e, u32 table)
{
    struct fast_tlb *t = &e->tables[table];
    u32 n = e->filled[table].n;
    if (n <= FAST_NOTED)
        for (u32 i = 0; i < n; i++)
            t->e[e->filled[table].at[i]].read = t->e[e->filled[table].at[i]].write = FAST_NONE;
    else
        for (u32 i = 0; i < FAST_SIZE; i++) t->e[i].read = t->e[i].write = FAST_NONE;
    e->filled[table].n = 0;
}

// Everything but the tags that decides whether an access is granted is part of the key: a VM entry or exit,
// or a write of CR0, CR4, EFER, PKRU or IA32_PKRS, can change it while the context stays.
static u32 fast_view(const struct vcpu *v)
{
    const struct mmu_ctx *c = &v->d.mmu;
    u32 view = v->d.cpl == 3 ? VIEW_USER : (c->smap && !(v->s.rflags & FL_AC)) ? VIEW_SUPER : VIEW_SUPER_AC;
    return view | c->wp << 2 | c->smap << 3 | c->pke << 4 | c->pks << 5 | c->paging << 6;
}

static u32 fetch_rights(const struct mmu_ctx *c)
{
    return c->smep | c->nxe << 1 | c->paging << 2 | (c->ept && c->ept_mbec) << 5;
}

static bool key_is(const struct fast_key *k, const struct fast_key *want)
{
    return k->serial == want->serial && k->global_serial == want->global_serial && k->view == want->view &&
           k->pkru == want->pkru && k->pkrs == want->pkrs && k->apic_access == want->apic_access;
}

// Chooses the fast table of (context, view), clearing an unused one, or the least recently allocated, if
// there is none.
static void fast_select(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    struct fast_key want = {v->s.dtlb.serial,
                            v->s.dtlb.global_serial,
                            fast_view(v),
                            v->d.mmu.pke ? v->d.mmu.pkru : 0,
                            v->d.mmu.pks ? v->d.mmu.pkrs : 0,
                            v->d.mmu.apic_access};
    u32 i, unused = FAST_TABLES;
    if (key_is(&e->keys[e->table], &want)) {
        v->d.ft = &e->tables[e->table];
        return;
    }
    for (i = 0; i < FAST_TABLES; i++) {
        if (key_is(&e->keys[i], &want)) break;
        if (!e->keys[i].serial) unused = i;
    }
    if (i == FAST_TABLES) {
        i = unused < FAST_TABLES ? unused : e->next_table++ % FAST_TABLES;
        fast_clear(e, i);
        e->keys[i] = want;
    }
    e->table = i;
    v->d.ft = &e->tables[i];
}

// The set is chosen by the serial alone, so that what a context's entry was seen by is found there.
static struct generation *generation_set(struct engine *e, u32 serial)
{
    u32 hash = serial * 0x9E3779B9u;
    return &e->generations[(hash >> 16) % (GENERATIONS / GENERATION_WAYS) * GENERATION_WAYS];
}

static u32 generation_of(struct vcpu *v, u32 serial)
{
    struct engine *e = v->d.engine;
    struct generation want = {serial, v->s.itlb.global_serial, v->d.mode, fetch_rights(&v->d.mmu),
                              0,      v->d.mmu.apic_access};
    struct generation *set = generation_set(e, serial ? serial : want.global_serial);
    u32 i;
    for (i = 0; i < GENERATION_WAYS; i++) {
        struct generation *g = &set[i];
        if (g->gen && g->serial == want.serial && g->global_serial == want.global_serial &&
            g->mode == want.mode && g->rights == want.rights && g->apic_access == want.apic_access)
            break;
    }
    if (likely(i == 0)) return set[0].gen;
    want.gen = i < GENERATION_WAYS ? set[i].gen : ++e->next_gen;
    if (i == GENERATION_WAYS) i--;
    memmove(set + 1, set, i * sizeof *set);
    set[0] = want;
    return want.gen;
}

static void generation_select(struct vcpu *v)
{
    v->d.fetch_gen = generation_of(v, v->s.itlb.serial);
    v->d.fetch_gen_global = generation_of(v, 0);
    if (unlikely(v->d.engine->next_gen >= GEN_LAST)) v->d.leave = v->d.attention = true; // to block_find
}

void tlbops_restart_generations(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    block_flush(e, v->phys);
    memset(e->generations, 0, sizeof e->generations);
    e->next_gen = 0;
    generation_select(v);
}

// An entry of the instruction TLB went away: so do the links of the contexts that saw it. (Most replaced
// entries are of contexts that were flushed; nobody links by those.) A global one all contexts of its VPID
// and EPT view have seen.
static void generations_forget(struct vcpu *v, const struct tlb_entry *gone)
{
    struct engine *e = v->d.engine;
    bool global = gone->rights & TLB_GLOBAL;
    struct generation *set = global ? e->generations : generation_set(e, gone->serial);
    u32 n = global ? GENERATIONS : GENERATION_WAYS;
    bool any = false;
    for (u32 i = 0; i < n; i++) {
        struct generation *g = &set[i];
        bool named = (g->serial == gone->serial) | (g->global_serial == gone->serial);
        any |= named & (g->gen != 0);
        g->gen = named ? 0 : g->gen;
    }
    if (any) generation_select(v);
}

// True if the TLBs began their serials anew, after which old ones mean nothing.
static bool serials_restarted(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    if (likely(e->restarts[0] == v->s.itlb.restarts && e->restarts[1] == v->s.dtlb.restarts)) return false;
    e->restarts[0] = v->s.itlb.restarts, e->restarts[1] = v->s.dtlb.restarts;
    return true;
}

void mmu_of_registers(struct mmu_ctx *c, u64 cr0, u64 cr3, u64 cr4, u64 efer)
{
    c->cr3 = cr3;
    c->pcid = cr4 & CR4_PCIDE ? cr3 & 0xFFF : 0;
    c->paging = !(cr0 & CR0_PG)      ? PAGING_OFF
                : !(cr4 & CR4_PAE)   ? PAGING_32
                : !(efer & EFER_LMA) ? PAGING_PAE
                : (cr4 & CR4_LA57)   ? PAGING_5LEVEL
                                     : PAGING_4LEVEL;
    c->wp = cr0 & CR0_WP;
    c->smep = cr4 & CR4_SMEP;
    c->smap = cr4 & CR4_SMAP;
    c->pke = cr4 & CR4_PKE;
    c->pks = cr4 & CR4_PKS;
    c->pse = cr4 & CR4_PSE;
    c->pge = cr4 & CR4_PGE;
    c->nxe = efer & EFER_NXE;
    c->vpid = 0, c->ept_view = 0, c->apic_access = 0;
    c->ept = c->ept_subpages = c->hlat = c->ept_verify = false;
}

void cpu_context_changed(struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    struct mmu_ctx *c = &v->d.mmu;
    mmu_of_registers(c, s->cr0, s->cr3, s->cr4, s->msr.efer);
    memcpy(c->pdpte, s->pdpte, sizeof c->pdpte);
    c->pkru = s->pkru;
    c->pkrs = (u32)s->msr.pkrs;
    c->maxphyaddr = v->features->maxphyaddr;
    c->cpu = (u8)v->index;
    c->gib_pages = feature_on(v->features, FEATURE_PDPE1GB);
    if (s->vmx.guest) vmx_fill_mmu(v, &s->vmx, c);
    tlb_select(&v->s.itlb, c);
    tlb_select(&v->s.dtlb, c);
    if (unlikely(serials_restarted(v))) {
        memset(v->d.engine->keys, 0, sizeof v->d.engine->keys);
        memset(v->d.engine->generations, 0, sizeof v->d.engine->generations);
    }
    fast_select(v);
    generation_select(v);
}

static void use_tlb_mode(struct vcpu *v)
{
    v->d.mmu.cache = v->tlb_mode == TLB_LAZY ? &v->s.kept : NULL;
    v->d.mmu.coherent = v->d.mmu.notes = v->tlb_mode != TLB_NORMAL;
}

void cpu_set_tlb(struct vcpu *v, enum tlb_mode mode)
{
    v->tlb_mode = (u8)mode;
    use_tlb_mode(v);
    cpu_tlb_forget(v);
}

void cpu_drop_fast(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    memset(e->keys, 0, sizeof e->keys);
    memset(e->generations, 0, sizeof e->generations);
    e->drops[0] = v->s.itlb.drops, e->drops[1] = v->s.dtlb.drops;
    use_tlb_mode(v);
    cpu_context_changed(v);
}

// Forgets a page in every table. (One without a key is cleared before it is used.)
static void fast_forget_page(struct vcpu *v, u64 lpage)
{
    struct engine *e = v->d.engine;
    u64 la = lpage << PAGE_SHIFT;
    for (u32 i = 0; i < FAST_TABLES; i++) {
        if (!e->keys[i].serial) continue;
        struct fast_entry *f = &e->tables[i].e[fast_index(laddr_of(la))];
        if (f->read == la) f->read = FAST_NONE;
        if (f->write == la) f->write = FAST_NONE;
    }
}

void tlbops_drop_linear(struct vcpu *v, laddr la) { fast_forget_page(v, la.at >> PAGE_SHIFT); }

void tlbops_drop_links(struct vcpu *v)
{
    memset(v->d.engine->generations, 0, sizeof v->d.engine->generations);
    generation_select(v);
    v->d.leave = v->d.attention = true; // links within a page are good for who is in it
}

// A flushed context has a new serial, so its tables and links are not found again. What was dropped by
// address is to be forgotten by address.
void cpu_tlb_flushed(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    if (unlikely(v->tlb_mode == TLB_STRICT)) cpu_tlb_forget(v);
    u32 data = v->s.dtlb.drops - e->drops[1];
    if (e->drops[0] != v->s.itlb.drops) memset(e->generations, 0, sizeof e->generations);
    if (data == 1)
        fast_forget_page(v, v->s.dtlb.drop_page);
    else if (data)
        memset(e->keys, 0, sizeof e->keys);
    e->drops[0] = v->s.itlb.drops, e->drops[1] = v->s.dtlb.drops;
    // The table in use is free for another if its context was among the flushed ones.
    struct fast_key *k = &e->keys[e->table];
    if (k->serial != v->s.dtlb.serial || k->global_serial != v->s.dtlb.global_serial) k->serial = 0;
    cpu_context_changed(v);
}

// What mirrors the TLBs, at any time: also in the middle of an instruction, of another processor or a device.
static void forget_mirrors(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    memset(e->keys, 0, sizeof e->keys);
    memset(e->generations, 0, sizeof e->generations);
    (void)serials_restarted(v);
    fast_select(v);
    generation_select(v);
    v->d.leave = v->d.attention = true; // links within a page are good for who is in it
}

void cpu_tlb_forget(struct vcpu *v)
{
    tlb_flush_all(&v->s.itlb);
    tlb_flush_all(&v->s.dtlb);
    if (v->tlb_mode == TLB_LAZY) memset(&v->s.kept, 0, sizeof v->s.kept);
    forget_mirrors(v);
}

void cpu_tables_written(struct vcpu *v)
{
    if (v->tlb_mode == TLB_STRICT)
        cpu_tlb_forget(v);
    else // the next use is seen (tell_if_stale)
        forget_mirrors(v);
}

// Translations pass the gate when they are made.
void cpu_a20_changed(struct vcpu *v)
{
    tlb_reset(&v->s.itlb);
    tlb_reset(&v->s.dtlb);
    memset(&v->s.kept, 0, sizeof v->s.kept);
    cpu_drop_fast(v);
}

void tlbops_drop_page(struct vcpu *v, paddr page)
{
    // By physical page: the page now holds code (or is watched): no table may store to it directly.
    struct engine *e = v->d.engine;
    u8 *host = v->phys->ram + (page & PAGE_MASK);
    for (u32 i = 0; i < FAST_TABLES; i++) {
        if (!e->keys[i].serial) continue;
        for (u32 k = 0; k < FAST_SIZE; k++) {
            struct fast_entry *f = &e->tables[i].e[k];
            if (f->write != FAST_NONE && f->host + f->write == host) f->write = FAST_NONE;
        }
    }
}

void tlbops_drop_writes(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    for (u32 i = 0; i < FAST_TABLES; i++) {
        if (!e->keys[i].serial) continue;
        for (u32 k = 0; k < FAST_SIZE; k++) e->tables[i].e[k].write = FAST_NONE;
    }
}

// The entry of the architectural TLB went away: so do its fast entries.
static void fast_forget(struct vcpu *v, const struct tlb_entry *gone)
{
    struct engine *e = v->d.engine;
    u64 la = gone->lpage << PAGE_SHIFT;
    for (u32 i = 0; i < FAST_TABLES; i++) {
        if (e->keys[i].serial != gone->serial && e->keys[i].global_serial != gone->serial) continue;
        struct fast_entry *f = &e->tables[i].e[fast_index(laddr_of(la))];
        if (f->read == la) f->read = FAST_NONE;
        if (f->write == la) f->write = FAST_NONE;
    }
}

// A page walk, done.
static void trace_walk(const struct vcpu *v, laddr la, u32 acc, const struct walk_result *r)
{
    static const char *const failed[] = {NULL, "page-fault", "ept-violation", "ept-misconfiguration"};
    struct trace_event t;
    trace_begin(v, &t, TRACE_WALK);
    if (v->d.in) t.rip = insn_rip(v, v->d.in);
    t.addr = la.at, t.value = r->pa, t.size = r->page_shift;
    t.write = (acc & ACC_KIND) == ACC_WRITE;
    t.type = (acc & ACC_KIND) == ACC_FETCH ? ACC_FETCH : 0;
    t.gpa = r->gpa.at, t.gpa_valid = v->d.mmu.ept && r->status != WALK_PF;
    if (r->status != WALK_OK) t.name = r->status < ARRAY_LEN(failed) ? failed[r->status] : "spp";
    trace_emit(v, &t);
}

_Noreturn static void raise_walk(struct vcpu *v, laddr la, const struct walk_result *r)
{
    if (unlikely(v->d.mmu.cache != NULL)) { // so that it does not come again, if memory is right
        kept_directory_drop(&v->s.kept, cpu_tlb_tag(v), la);
        if (r->status != WALK_PF) kept_page_drop(&v->s.kept, v->d.mmu.ept_view, r->gpa);
    }
    if (r->status == WALK_PF) raise_pf(v, la, r->error);
    if (r->status == WALK_EPT_VIOLATION) {
        tlb_drop_page(&v->s.itlb, la, r->gpa);
        tlb_drop_page(&v->s.dtlb, la, r->gpa);
        cpu_tlb_flushed(v);
    }
    vmx_raise_ept(v, r, la, true);
}

// A page fault invalidates the entries of its address (SDM 5.10.4.1): the context's own and the global one.
static void forget_on_fault(struct vcpu *v, laddr la)
{
    struct tlb_entry *e;
    while ((e = tlb_find(&v->s.dtlb, la))) {
        fast_forget(v, e);
        tlb_drop(e);
    }
    while ((e = tlb_find(&v->s.itlb, la))) {
        generations_forget(v, e);
        tlb_drop(e);
    }
}

// A translation that was kept is being used: memory may say otherwise by now, which is the guest's right as
// long as it does not rely on either; so it is told of, and counted. (What goes straight to the host's memory
// comes here again after a store to its paging structures: cpu_tables_written.)
static void tell_if_stale(struct vcpu *v, laddr la, u32 acc, paddr pa)
{
    struct walk_result now = walk_peek(v->phys, &v->d.mmu, la, acc, NULL);
    if (now.status == WALK_NOT_RAM || (now.status == WALK_OK && !((now.pa ^ pa) >> PAGE_SHIFT))) return;
    v->stale_uses++;
    if (!trace_wants(v, TRACE_STALE)) return;
    struct trace_event t;
    trace_begin(v, &t, TRACE_STALE);
    t.name = now.status == WALK_OK ? "another page" : now.status == WALK_PF ? "a page fault" : "an EPT exit";
    t.addr = la.at;
    t.value = pa & PAGE_MASK;
    trace_emit(v, &t);
}

// The walk of a miss. A paging-structure cache goes by the context's serial.
static struct walk_result walk(struct vcpu *v, laddr la, u32 acc)
{
    if (unlikely(v->d.mmu.cache != NULL)) {
        v->s.kept.tag = cpu_tlb_tag(v);
        struct walk_result r = walk_linear(v->phys, &v->d.mmu, la, acc);
        if (r.status == WALK_OK) tell_if_stale(v, la, acc, r.pa);
        return r;
    }
    return walk_linear(v->phys, &v->d.mmu, la, acc);
}

static struct walk_result walk_or_raise(struct vcpu *v, laddr la, u32 acc)
{
    struct walk_result r = walk(v, la, acc);
    if (trace_wants(v, TRACE_WALK)) trace_walk(v, la, acc, &r);
    if (r.status != WALK_OK) {
        if (r.status == WALK_PF) forget_on_fault(v, la);
        raise_walk(v, la, &r);
    }
    return r;
}

const struct tlb_entry *tlbops_data(struct vcpu *v, laddr la, u32 acc)
{
    struct tlb_entry *e = tlb_find(&v->s.dtlb, la);
    if (e) {
        if (walk_rights_permit(&v->d.mmu, e->rights, acc)) {
            if (unlikely(v->d.mmu.cache != NULL)) tell_if_stale(v, la, acc, e->page << PAGE_SHIFT);
            return e;
        }
        fast_forget(v, e);
        tlb_drop(e);
    }
    struct walk_result r = walk_or_raise(v, la, acc);
    struct tlb_entry evicted;
    e = tlb_fill(&v->s.dtlb, la, &r, &evicted);
    if (evicted.serial) fast_forget(v, &evicted);
    return e;
}

bool tlbops_whole_page(struct vcpu *v, laddr la)
{
    const struct tlb_entry *e = tlb_find(&v->s.dtlb, la);
    return e && e->rights & TLB_S2_WRITE;
}

paddr tlbops_fetch(struct vcpu *v, laddr la)
{
    u32 acc = ACC_FETCH | (v->d.cpl == 3 ? ACC_USER : 0);
    struct tlb_entry *e = tlb_find(&v->s.itlb, la);
    if (e) {
        if (walk_rights_permit(&v->d.mmu, e->rights, acc)) {
            if (unlikely(v->d.mmu.cache != NULL)) tell_if_stale(v, la, acc, e->page << PAGE_SHIFT);
            if (mmu_apic_access(&v->d.mmu, e->page << PAGE_SHIFT)) vmx_apic_fetch(v, la);
            v->d.fetch_global = tlb_global_alone(&v->s.itlb, e);
            return e->page << PAGE_SHIFT | (la.at & ~PAGE_MASK);
        }
        generations_forget(v, e);
        tlb_drop(e);
    }
    struct walk_result r = walk_or_raise(v, la, acc);
    struct tlb_entry evicted;
    e = tlb_fill(&v->s.itlb, la, &r, &evicted);
    if (evicted.serial) generations_forget(v, &evicted);
    if (mmu_apic_access(&v->d.mmu, r.pa)) vmx_apic_fetch(v, la);
    v->d.fetch_global = tlb_global_alone(&v->s.itlb, e);
    return r.pa;
}

void tlbops_fill_fast(struct vcpu *v, laddr la, const struct tlb_entry *e, u32 acc)
{
    // Only accesses as the view makes them: explicit, at the current CPL.
    if (acc & ACC_IMPLICIT || ((acc & ACC_USER) != 0) != (v->d.cpl == 3)) return;
    paddr pa = e->page << PAGE_SHIFT;
    u8 *host = phys_host(v->phys, pa);
    if (!host || mmu_apic_access(&v->d.mmu, pa)) return;
    u64 page = la.at & PAGE_MASK;
    bool watched = unlikely(v->d.breaks.write) && debug_data_page(v, la, pa, ACC_WRITE);
    if (watched && debug_data_page(v, la, pa, ACC_READ)) return;
    struct engine *engine = v->d.engine;
    u16 *n = &engine->filled[engine->table].n;
    struct fast_entry *f = &v->d.ft->e[fast_index(la)];
    if (f->read == FAST_NONE && *n <= FAST_NOTED) { // not noted yet, or again after it was forgotten
        if (*n < FAST_NOTED) engine->filled[engine->table].at[*n] = (u16)fast_index(la);
        (*n)++;
    }
    if (f->read != page && f->read != FAST_NONE) f->write = FAST_NONE;
    f->read = page;
    f->host = host - page;
    if (f->write != page) f->write = FAST_NONE;
    // A write that sub-page permissions grant is no write of the page.
    if ((acc & ACC_KIND) == ACC_WRITE && e->rights & TLB_S2_WRITE && !watched &&
        !phys_code_or_watch(v->phys, pa)) {
        f->write = page;
        phys_mark_dirty(v->phys, pa);
    }
}

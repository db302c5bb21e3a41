// The architectural TLB: lookup, fill, contexts and every invalidation. A context's entries die when its
// serial does, so flushing one costs nothing; serials are not used twice (until all 2^32 are gone, then
// everything is dropped).
#include "mmu/tlb.h"

#include <string.h>

#define GROUP_SIZE 8 // contexts that share a hash

static unsigned set_index(u64 lpage) { return (unsigned)(lpage ^ lpage >> 9) & (TLB_SETS - 1); }

// ---- contexts ----

static u32 new_serial(struct tlb *t)
{
    if (unlikely(t->next_serial == 0)) { // all used: begin again with nothing but the context in use, empty
        struct tlb_context own = t->context[t->current], global = t->context[t->current_global];

        memset(t->set, 0, sizeof(t->set));
        memset(t->context, 0, sizeof(t->context));
        memset(t->large, 0, sizeof(t->large));
        t->serial = own.serial = 1;
        t->global_serial = global.serial = 2;
        t->context[t->current] = own;
        t->context[t->current_global] = global;
        t->live = BIT(t->current) | BIT(t->current_global);
        t->next_serial = 3;
        t->restarts++;
    }
    return t->next_serial++;
}

// Ends all translations of a context.
static void kill_context(struct tlb *t, unsigned i)
{
    if (i == t->current) {
        t->serial = t->context[i].serial = new_serial(t);
    } else if (i == t->current_global) {
        t->global_serial = t->context[i].serial = new_serial(t);
    } else {
        t->context[i].serial = 0;
        t->live &= ~BIT(i);
    }
}

static bool context_is(const struct tlb_context *x, u16 vpid, u16 pcid, u64 view)
{
    return x->vpid == vpid && x->pcid == pcid && x->ept_view == view;
}

// Where the context is, made (without a serial yet) if it was not there. `keep` is not replaced.
static unsigned find_context(struct tlb *t, u16 vpid, u16 pcid, u64 view, unsigned keep)
{
    u64 hash = ((u64)vpid << 16 ^ pcid ^ view) * 0x9E3779B97F4A7C15ull;
    unsigned group = (unsigned)(hash >> 61) * GROUP_SIZE;
    u64 places = (BIT(GROUP_SIZE) - 1) << group;
    unsigned i;

    for (u64 live = t->live & places; live; live &= live - 1) {
        i = (unsigned)__builtin_ctzll(live);
        if (context_is(&t->context[i], vpid, pcid, view)) return i;
    }
    places &= ~t->live;
    if (keep < TLB_CONTEXTS) places &= ~BIT(keep);
    if (places) {
        i = 63 - (unsigned)__builtin_clzll(places);
    } else {
        do i = group + t->next_context++ % GROUP_SIZE;
        while (i == keep);
    }
    t->context[i] = (struct tlb_context){.ept_view = view, .vpid = vpid, .pcid = pcid};
    t->live &= ~BIT(i);
    return i;
}

// The place has a serial from here on.
static u32 serial_of(struct tlb *t, unsigned i)
{
    if (!t->context[i].serial) {
        t->context[i].serial = new_serial(t);
        t->live |= BIT(i);
    }
    return t->context[i].serial;
}

void tlb_reset(struct tlb *t)
{
    memset(t, 0, sizeof(*t));
    t->next_serial = 1;
    t->current = t->current_global = TLB_CONTEXTS; // none
    tlb_select(t, &(struct mmu_ctx){.vpid = 0});
}

// (next_way and next_context count on and are taken modulo.)
bool tlb_possible(const struct tlb *t)
{
    u64 live = 0;

    if (t->current >= TLB_CONTEXTS || t->current_global >= TLB_CONTEXTS || t->current == t->current_global)
        return false;
    for (unsigned i = 0; i < TLB_CONTEXTS; i++) live |= (u64)(t->context[i].serial != 0) << i;
    return live == t->live && live & BIT(t->current) && live & BIT(t->current_global);
}

void tlb_select(struct tlb *t, const struct mmu_ctx *c)
{
    unsigned own, global;

    if (t->current < TLB_CONTEXTS && context_is(&t->context[t->current], c->vpid, c->pcid, c->ept_view))
        return;

    own = find_context(t, c->vpid, c->pcid, c->ept_view, TLB_CONTEXTS);
    global = find_context(t, c->vpid, TLB_GLOBAL_PCID, c->ept_view, own);
    t->current = (u8)own;
    t->current_global = (u8)global;
    // Serials last: running out of them keeps the contexts in use, which are these from here on.
    serial_of(t, own), serial_of(t, global);
    t->serial = t->context[own].serial;
    t->global_serial = t->context[global].serial;
}

// ---- entries ----

struct tlb_entry *tlb_find(struct tlb *t, laddr la)
{
    u64 lpage = la.at >> PAGE_SHIFT;
    struct tlb_entry *e = t->set[set_index(lpage)];

    for (unsigned way = 0; way < TLB_WAYS; way++, e++) {
        if (e->lpage == lpage && (e->serial == t->serial || e->serial == t->global_serial)) return e;
    }
    return NULL;
}

// A flushed context's entries stay until they are replaced: they are nobody's, and hide nothing.
static bool seen_beside_globals(const struct tlb *t, u32 serial)
{
    const struct tlb_context *in_use = &t->context[t->current];

    for (u64 live = t->live; live; live &= live - 1) {
        const struct tlb_context *x = &t->context[__builtin_ctzll(live)];
        if (x->serial == serial) return x->vpid == in_use->vpid && x->ept_view == in_use->ept_view;
    }
    return false;
}

bool tlb_global_alone(const struct tlb *t, const struct tlb_entry *e)
{
    const struct tlb_entry *other = t->set[set_index(e->lpage)];

    if (e->serial != t->global_serial) return false;
    for (unsigned way = 0; way < TLB_WAYS; way++, other++) {
        if (other != e && other->serial && other->lpage == e->lpage && seen_beside_globals(t, other->serial))
            return false;
    }
    return true;
}

static unsigned large_bit(u64 lpage)
{
    u64 gib = lpage >> 18;

    return (unsigned)(gib ^ gib >> 8 ^ gib >> 16) & 255;
}

static void note_large(struct tlb *t, u64 lpage)
{
    t->large[large_bit(lpage) / 64] |= BIT(large_bit(lpage) % 64);
}

// A global entry stands behind what other contexts have of their own for its page: those find the same as
// before, so what mirrors their entries stays right.
static struct tlb_entry *behind_own(struct tlb *t, unsigned index, struct tlb_entry *global)
{
    for (struct tlb_entry *e = global + 1; e < t->set[index] + TLB_WAYS; e++) {
        if (e->lpage == global->lpage && e->serial && seen_beside_globals(t, e->serial)) {
            struct tlb_entry own = *e;

            *e = *global;
            *global = own;
            global = e;
        }
    }
    return global;
}

struct tlb_entry *tlb_fill(struct tlb *t, laddr la, const struct walk_result *r, struct tlb_entry *evicted)
{
    u64 lpage = la.at >> PAGE_SHIFT;
    unsigned index = set_index(lpage);
    struct tlb_entry *e = tlb_find(t, la);

    if (!e) {
        for (unsigned way = 0; way < TLB_WAYS; way++) {
            if (!t->set[index][way].serial) {
                e = &t->set[index][way];
                break;
            }
        }
    }
    if (!e) e = &t->set[index][t->next_way[index]++ % TLB_WAYS];
    *evicted = *e;
    if (r->page_shift > PAGE_SHIFT) note_large(t, lpage);
    *e = (struct tlb_entry){
        .lpage = lpage,
        .gpage = r->gpa.at >> PAGE_SHIFT,
        .page = r->pa >> PAGE_SHIFT,
        .serial = r->rights & TLB_GLOBAL ? t->global_serial : t->serial,
        .rights = (u16)r->rights,
        .page_shift = r->page_shift,
    };
    if (r->rights & TLB_GLOBAL) e = behind_own(t, index, e);
    return e;
}

// ---- invalidation by address ----

enum { OWN = 1, GLOBALS = 2 };

#define ANY_PCID 0x10000u

// Marks the contexts of a VPID: those of `pcid` (or ANY_PCID), and the global ones. Returns a bit for each
// context.
static u64 contexts_of(const struct tlb *t, u16 vpid, u32 pcid, unsigned which)
{
    u64 set = 0;

    for (u64 live = t->live; live; live &= live - 1) {
        unsigned i = (unsigned)__builtin_ctzll(live);
        const struct tlb_context *x = &t->context[i];
        bool global = x->pcid == TLB_GLOBAL_PCID;

        if (x->vpid != vpid) continue;
        if (global ? which & GLOBALS : (which & OWN) && (pcid == ANY_PCID || pcid == x->pcid)) set |= BIT(i);
    }
    return set;
}

static bool entry_in(const struct tlb *t, const struct tlb_entry *e, u64 contexts)
{
    for (; contexts; contexts &= contexts - 1) {
        if (t->context[__builtin_ctzll(contexts)].serial == e->serial) return true;
    }
    return false;
}

static void drop(struct tlb *t, struct tlb_entry *e)
{
    t->drops++;
    t->drop_page = e->lpage;
    tlb_drop(e);
}

static bool entry_covers(const struct tlb_entry *e, u64 lpage)
{
    return e->serial && ((e->lpage ^ lpage) >> (e->page_shift - PAGE_SHIFT)) == 0;
}

// Drops what translates `la` in the contexts named. The pieces of a large page lie in all sets, so where one
// may be, all are looked at (and the note of where large pages may be is renewed on the way).
static void drop_address(struct tlb *t, laddr la, u64 contexts)
{
    u64 lpage = la.at >> PAGE_SHIFT;
    struct tlb_entry *e = t->set[set_index(lpage)];

    if (likely(!(t->large[large_bit(lpage) / 64] >> (large_bit(lpage) % 64) & 1))) {
        for (unsigned way = 0; way < TLB_WAYS; way++, e++) {
            if (e->lpage == lpage && e->serial && entry_in(t, e, contexts)) drop(t, e);
        }
        return;
    }
    memset(t->large, 0, sizeof(t->large));
    e = t->set[0];
    for (unsigned i = 0; i < TLB_SETS * TLB_WAYS; i++, e++) {
        if (entry_covers(e, lpage) && entry_in(t, e, contexts))
            drop(t, e);
        else if (e->serial && e->page_shift > PAGE_SHIFT)
            note_large(t, e->lpage);
    }
}

void tlb_invlpg(struct tlb *t, laddr la)
{
    const struct tlb_context *x = &t->context[t->current];

    drop_address(t, la, contexts_of(t, x->vpid, x->pcid, OWN | GLOBALS));
}

void tlb_flush_address(struct tlb *t, const struct mmu_ctx *c, u16 pcid, laddr la)
{
    drop_address(t, la, contexts_of(t, c->vpid, pcid, OWN));
}

void tlb_invvpid_address(struct tlb *t, u16 vpid, laddr la)
{
    drop_address(t, la, contexts_of(t, vpid, ANY_PCID, OWN | GLOBALS));
}

void tlb_drop_page(struct tlb *t, laddr la, gpaddr gpa)
{
    struct tlb_entry *e;

    (void)gpa;
    while ((e = tlb_find(t, la))) drop(t, e); // the context's own and the global one may both be there
}

// ---- invalidation of whole contexts ----

static void kill_contexts(struct tlb *t, u64 contexts)
{
    for (; contexts; contexts &= contexts - 1) kill_context(t, (unsigned)__builtin_ctzll(contexts));
}

void tlb_flush_context(struct tlb *t, const struct mmu_ctx *c, u16 pcid)
{
    kill_contexts(t, contexts_of(t, c->vpid, pcid, OWN));
}

void tlb_flush_pcids(struct tlb *t, const struct mmu_ctx *c, bool globals)
{
    kill_contexts(t, contexts_of(t, c->vpid, ANY_PCID, globals ? OWN | GLOBALS : OWN));
}

void tlb_invvpid(struct tlb *t, u16 vpid, bool keep_globals)
{
    kill_contexts(t, contexts_of(t, vpid, ANY_PCID, keep_globals ? OWN : OWN | GLOBALS));
}

void tlb_invvpid_all(struct tlb *t)
{
    for (u64 live = t->live; live; live &= live - 1) {
        unsigned i = (unsigned)__builtin_ctzll(live);
        if (t->context[i].vpid) kill_context(t, i);
    }
}

void tlb_invept(struct tlb *t, u64 ept_view)
{
    for (u64 live = t->live; live; live &= live - 1) {
        unsigned i = (unsigned)__builtin_ctzll(live);
        if (t->context[i].ept_view == ept_view) kill_context(t, i);
    }
}

void tlb_invept_all(struct tlb *t)
{
    for (u64 live = t->live; live; live &= live - 1) {
        unsigned i = (unsigned)__builtin_ctzll(live);
        if (t->context[i].ept_view) kill_context(t, i);
    }
}

void tlb_flush_all(struct tlb *t)
{
    for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
        if (t->context[i].serial) kill_context(t, i);
    }
}

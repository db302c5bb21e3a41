// Checkpoints in memory. See the header. What their pages hold is history_pages.c's.
//
// To go from `base` to another checkpoint, the pages are put back that were written since base or have a
// version between the two.
#include "devices/history.h"

#include <stdlib.h>
#include <string.h>

#include "devices/history_pages.h"
#include "devices/machine_state.h"
#include "vmx/control.h"

// What statistics count, which is no state of the machine: at a checkpoint it is what it was there.
struct counted {
    u64 entries, entry_failures, exits[EXIT_REASON_COUNT], stale_uses;
    unsigned unimplemented_n;
    u64 unimplemented[UNIMPLEMENTED_MAX];
};

struct history_checkpoint {
    struct history_checkpoint *earlier, *later;
    u64 number; // ascending
    u64 retired;
    struct journal_place place;
    u64 *pages; // that have a version of it
    u64 pages_n;
    u8 *state; // the parts, one behind the other
    u64 state_size;
    struct counted *counted; // of each processor
};

// ---- memory ----

static void *take(struct history *h, u64 n)
{
    void *at = malloc(n ? n : 1);
    if (at) h->used += n;
    return at;
}

static void give(struct history *h, void *at, u64 n)
{
    if (at) h->used -= n;
    free(at);
}

// ---- taking one ----

static bool copy_counts(struct history *h, struct history_checkpoint *c)
{
    c->counted = take(h, h->m->cpus_n * sizeof *c->counted);
    for (unsigned i = 0; c->counted && i < h->m->cpus_n; i++) {
        const struct vcpu *v = h->m->cpu[i];
        struct counted *n = &c->counted[i];
        *n = (struct counted){.stale_uses = v->stale_uses, .unimplemented_n = v->unimplemented_n};
        for (unsigned k = 0; k < v->unimplemented_n; k++) n->unimplemented[k] = v->unimplemented[k].count;
        if (!v->vmx) continue;
        n->entries = v->vmx->entries, n->entry_failures = v->vmx->entry_failures;
        memcpy(n->exits, v->vmx->exits, sizeof n->exits);
    }
    return c->counted != NULL;
}

static void put_counts_back(struct history *h, const struct history_checkpoint *c)
{
    for (unsigned i = 0; i < h->m->cpus_n; i++) {
        struct vcpu *v = h->m->cpu[i];
        const struct counted *n = &c->counted[i];
        v->stale_uses = n->stale_uses, v->unimplemented_n = n->unimplemented_n;
        for (unsigned k = 0; k < v->unimplemented_n; k++) v->unimplemented[k].count = n->unimplemented[k];
        if (!v->vmx) continue;
        v->vmx->entries = n->entries, v->vmx->entry_failures = n->entry_failures;
        memcpy(v->vmx->exits, n->exits, sizeof n->exits);
    }
}

static void free_checkpoint(struct history *h, struct history_checkpoint *c)
{
    if (c->counted) give(h, c->counted, h->m->cpus_n * sizeof *c->counted);
    give(h, c->pages, c->pages_n * sizeof *c->pages);
    give(h, c->state, c->state_size);
    give(h, c, sizeof *c);
}

static bool copy_parts(struct history *h, struct history_checkpoint *c)
{
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(h->m, part);
    for (unsigned i = 0; i < n; i++) c->state_size += part[i].size;
    u8 *at = c->state = take(h, c->state_size);
    if (!at) {
        c->state_size = 0;
        return false;
    }
    for (unsigned i = 0; i < n; i++) {
        memcpy(at, part[i].data, part[i].size);
        at += part[i].size;
    }
    return true;
}

// The newest versions that are later than `c` go.
static void forget_after(struct history *h, struct history_checkpoint *c)
{
    while (h->last != c) {
        struct history_checkpoint *gone = h->last;
        for (u64 i = 0; i < gone->pages_n; i++) history_page_forget(h, gone->pages[i]);
        h->last = gone->earlier;
        h->last->later = NULL;
        free_checkpoint(h, gone);
    }
}

// The pages that differ between two checkpoints, added to the bitmap.
static void add_between(const struct history_checkpoint *a, const struct history_checkpoint *b, u64 *bits)
{
    if (a->number > b->number) {
        const struct history_checkpoint *swap = a;
        a = b, b = swap;
    }
    for (a = a->later; a && a->number <= b->number; a = a->later)
        for (u64 i = 0; i < a->pages_n; i++) bits[a->pages[i] / 64] |= BIT(a->pages[i] % 64);
}

// The fields of a current VMCS are written first and marked then (vmx_region_written), so its page is copied
// beforehand.
static void copy_current_vmcs(struct machine *m)
{
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (m->cpu[i]->s.vmx.vmcs_pointer != VMX_NO_POINTER)
            phys_mark_dirty(&m->phys, m->cpu[i]->s.vmx.vmcs_pointer);
}

static void link_after(struct history *h, struct history_checkpoint *c, struct history_checkpoint *before)
{
    struct history_checkpoint *later = before ? before->later : NULL;
    c->earlier = before, c->later = later;
    *(before ? &before->later : &h->first) = c;
    *(later ? &later->earlier : &h->last) = c;
    c->number = before ? before->number + 1 : 0;
    for (u64 i = c->number; later; later = later->later) later->number = ++i;
}

// A checkpoint of now, behind `before`. RAM as it is may differ from that of `before` in the pages of
// *changed.
static bool add(struct history *h, struct history_checkpoint *before, u64 *changed)
{
    struct history_checkpoint *c = take(h, sizeof *c);
    u64 n = 0;
    if (!c) return false;
    *c = (struct history_checkpoint){.retired = journal_retired(h->journal), .place = h->journal->at};
    link_after(h, c, before);
    for (u64 i = 0; i < history_pages_words(h); i++) n += (u64)__builtin_popcountll(changed[i]);
    c->pages = take(h, n * sizeof *c->pages);
    bool good = c->pages && copy_parts(h, c) && copy_counts(h, c);
    for (u64 i = 0; i < history_pages_words(h) && good; i++)
        for (u64 left = changed[i]; left && good; left &= left - 1) {
            u64 page = i * 64 + (unsigned)__builtin_ctzll(left);
            if (page >= h->m->phys.pages) continue;
            bool added = false;
            good = history_page_add(h, page, &c->number, &added);
            if (added) c->pages[c->pages_n++] = page;
        }
    if (c->pages) h->used -= (n - c->pages_n) * sizeof *c->pages; // only what is used is counted
    if (c->pages && c->pages_n) {
        u64 *less = realloc(c->pages, c->pages_n * sizeof *less);
        if (less) c->pages = less;
    }
    if (!good) {
        h->lost = c->later != NULL;
        if (before && !c->later) forget_after(h, before);
        return false;
    }
    memset(changed, 0, history_pages_words(h) * sizeof *changed);
    h->base = c;
    copy_current_vmcs(h->m);
    return true;
}

// ---- thinning ----

// Gives up `c`, which is neither the first nor the last: what the next one needs of it becomes the next
// one's.
static void drop(struct history *h, struct history_checkpoint *c)
{
    struct history_checkpoint *next = c->later;
    u64 *pages = take(h, (next->pages_n + c->pages_n) * sizeof *pages), n = next->pages_n;
    if (!pages) return;
    memcpy(pages, next->pages, n * sizeof *pages);
    for (u64 i = 0; i < c->pages_n; i++)
        if (history_page_hand_on(h, c->pages[i], &c->number, &next->number)) pages[n++] = c->pages[i];
    h->used -= (next->pages_n + c->pages_n - n) * sizeof *pages;
    give(h, next->pages, next->pages_n * sizeof *pages);
    next->pages = pages, next->pages_n = n;
    c->earlier->later = next;
    next->earlier = c->earlier;
    free_checkpoint(h, c);
    h->thinned++;
}

// The one whose loss costs least: the distance between its neighbours is small for its age.
static struct history_checkpoint *least_missed(const struct history *h)
{
    struct history_checkpoint *least = NULL;
    unsigned __int128 best = 0;
    u64 now = h->last->retired;
    for (struct history_checkpoint *c = h->first->later; c && c != h->last; c = c->later) {
        if (c == h->base) continue;
        u64 gap = c->later->retired - c->earlier->retired, age = now - c->retired + 1;
        unsigned __int128 cost = ((unsigned __int128)gap << 64) / age;
        if (!least || cost < best) least = c, best = cost;
    }
    return least;
}

static void thin(struct history *h)
{
    while (h->used > h->limit) {
        struct history_checkpoint *c = least_missed(h);
        if (!c) break;
        drop(h, c);
    }
}

// ---- the outside ----

u64 history_begins(const struct history *h) { return h->first->retired; }

static bool take_now(struct history *h)
{
    u64 *changed = history_pages_written(h);
    if (!changed) return false;
    if (h->base != h->last) add_between(h->base, h->last, changed);
    bool good = add(h, h->last, changed);
    thin(h);
    return good;
}

// Now, in the past: a checkpoint between two.
static void insert(struct history *h)
{
    u64 now = journal_retired(h->journal);
    struct history_checkpoint *before = h->first;
    while (before->later && before->later->retired <= now) before = before->later;
    if (h->m->request.what != MACHINE_RUN || before->retired >= now) return;
    u64 *changed = history_pages_written(h);
    if (!changed) return;
    add_between(h->base, before, changed);
    h->inserted += add(h, before, changed);
    thin(h);
}

// All but the wish to have one.
static void drop_all(struct history *h)
{
    while (h->first) {
        struct history_checkpoint *c = h->first;
        h->first = c->later;
        free_checkpoint(h, c);
    }
    history_pages_end(h);
    h->last = h->base = NULL;
    h->used = 0;
}

static bool begin(struct history *h)
{
    u64 *changed = history_pages_begin(h) ? history_pages_written(h) : NULL;
    if (!changed) return false;
    memcpy(changed, machine_written(h->m, PHYS_DIRTY_EVER), history_pages_words(h) * sizeof *changed);
    return add(h, NULL, changed);
}

// A copy that could not be made: what was is gone, and given back. From here on there is a past again.
static void begin_anew(struct history *h)
{
    if (!h->lost) return;
    drop_all(h);
    h->lost = false;
    if (!begin(h))
        panic("the host has no memory for what the machine was (-history takes a smaller size, or off)");
}

bool history_checkpoint(struct history *h)
{
    begin_anew(h);
    const struct journal_place *at = &h->journal->at, *last = &h->last->place;
    if (h->m->request.what != MACHINE_RUN || !journal_live(h->journal)) return false;
    bool there = last->idles == at->idles && last->event == at->event && h->base == h->last &&
                 h->last->retired == journal_retired(h->journal);
    return there || take_now(h);
}

void history_look(struct history *h)
{
    begin_anew(h);
    if (journal_live(h->journal) && journal_retired(h->journal) >= h->last->retired + h->every)
        history_checkpoint(h);
}

bool history_begin(struct history *h, struct journal *j, u64 limit)
{
    bool (*restart)(void *opaque) = h->restart;
    void *opaque = h->restart_opaque;
    *h = (struct history){.m = j->m,
                          .journal = j,
                          .limit = limit,
                          .every = HISTORY_EVERY,
                          .restart = restart,
                          .restart_opaque = opaque};
    if (begin(h)) return true;
    history_forget(h);
    return false;
}

void history_forget(struct history *h)
{
    drop_all(h);
    *h = (struct history){0};
}

static bool go_to_checkpoint(struct history *h, struct history_checkpoint *c)
{
    u64 *changed = history_pages_written(h);
    if (!changed) return false;
    add_between(h->base, c, changed);
    for (u64 i = 0; i < history_pages_words(h); i++)
        for (u64 left = changed[i]; left; left &= left - 1) {
            u64 page = i * 64 + (unsigned)__builtin_ctzll(left);
            if (page < h->m->phys.pages) history_page_put_back(h, page, c->number);
        }
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(h->m, part);
    const u8 *at = c->state;
    for (unsigned i = 0; i < n; i++) {
        memcpy(part[i].data, at, part[i].size);
        at += part[i].size;
    }
    put_counts_back(h, c);
    h->m->request = (struct machine_request){.what = MACHINE_RUN};
    h->journal->at = c->place;
    machine_loaded(h->m);
    // Other users of the bitmap keep what was put back, this one begins anew.
    changed = history_pages_written(h);
    if (changed) memset(changed, 0, history_pages_words(h) * sizeof *changed);
    h->base = c;
    copy_current_vmcs(h->m);
    return changed != NULL;
}

bool history_run_to(struct history *h, u64 retired, const volatile sig_atomic_t *stop)
{
    struct journal *j = h->journal;
    u64 begun = journal_retired(j), at, half = begun + (retired - begun) / 2;
    while ((at = journal_retired(j)) < retired) {
        if (stop && *stop) break;
        if (at >= half && retired - at > h->every / 16) {
            insert(h);
            half = at + (retired - at) / 2;
        }
        u64 left = (at < half ? half : retired) - at;
        enum machine_end end = journal_run(j, left < 2000000 ? left : 2000000);
        if (end == MACHINE_RUN || end == MACHINE_STOPPED) continue;
        if ((end != MACHINE_RESET && end != MACHINE_SHUTDOWN) || !h->restart) break;
        u64 units = machine_units(h->m), counted = machine_retired(h->m);
        h->restarting = true, h->restarts_at = journal_retired(j);
        bool restarted = h->restart(h->restart_opaque);
        h->restarting = false;
        if (!restarted) break;
        journal_restarted(j, units, counted);
    }
    h->replayed += journal_retired(j) - begun;
    return journal_retired(j) >= retired;
}

bool history_goto(struct history *h, u64 retired, const volatile sig_atomic_t *stop)
{
    struct journal *j = h->journal;
    begin_anew(h);
    if (retired < h->first->retired) return false;
    struct history_checkpoint *c = h->last;
    // one at this very count may be of a later instant: time passes in a sleep without instructions
    while (c != h->first && c->retired >= retired) c = c->earlier;
    journal_seen(j);
    // the way forwards from here, or from a checkpoint
    u64 now = journal_retired(j);
    bool ended = h->m->request.what != MACHINE_RUN;
    if ((now >= retired || c->retired > now || ended) && !go_to_checkpoint(h, c)) return false;
    return history_run_to(h, retired, stop);
}

bool history_changed(struct history *h)
{
    u64 now = journal_retired(h->journal);
    begin_anew(h);
    journal_cut(h->journal);
    if (h->m->request.what != MACHINE_RUN) return false;
    while (h->last != h->first && h->last != h->base && h->last->retired >= now)
        forget_after(h, h->last->earlier);
    return take_now(h);
}

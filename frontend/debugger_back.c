// Backwards: the machine's past is run through again, with the stops that are set, for the last one before
// now.
#include <string.h>

#include "cpu/engine/access.h"
#include "frontend/debugger.h"

u64 debugger_now(const struct debugger *d)
{
    return d->journal ? journal_retired(d->journal) : machine_retired(d->m);
}

// In pieces as an event holds them, each in one page.
static size_t write_physical(struct debugger *d, paddr at, const u8 *from, size_t n)
{
    size_t done = 0, part;
    for (; done < n; done += part) {
        struct journal_event e = {.kind = JOURNAL_MEMORY, .line = (u8)d->cpu, .at = at + done};
        part = 8 - (e.at & 7);
        if (part > n - done) part = n - done;
        e.n = (u8)part;
        memcpy(&e.value, from + done, part);
        if (!journal_by_hand(d->journal, e)) break;
    }
    return done;
}

size_t debugger_write(struct debugger *d, bool physical, u64 at, const u8 *from, size_t n)
{
    const struct view *w = &d->view;
    size_t done = 0, part;
    paddr pa;
    if (physical)
        done = write_physical(d, at, from, n);
    else
        for (; done < n; done += part) {
            laddr la = laddr_of(w->efer & EFER_LMA ? at + done : (u32)(at + done));
            part = view_place(w, la, n - done, &pa);
            if (!part || write_physical(d, pa, from + done, part) < part) break;
        }
    if (done && d->keeps) history_changed(&d->history);
    return done;
}

bool debugger_write_register(struct debugger *d, unsigned cpu, unsigned number, const u8 *from, unsigned n)
{
    for (unsigned done = 0, part; done < n; done += part) {
        part = n - done < 8 ? n - done : 8;
        struct journal_event e = {.kind = JOURNAL_REGISTER, .line = (u8)cpu, .at = number};
        e.first = (u8)done, e.n = (u8)part;
        memcpy(&e.value, from + done, part);
        if (!journal_by_hand(d->journal, e)) return false;
    }
    if (d->keeps) history_changed(&d->history);
    return true;
}

bool debugger_run_past(struct debugger *d)
{
    while (!d->give_up || !*d->give_up) {
        enum machine_end end = journal_run(d->journal, 2000000);
        if (end == MACHINE_STOPPED && d->stops.met.why) return true;
        if ((end != MACHINE_RUN && end != MACHINE_STOPPED) || journal_live(d->journal)) break;
    }
    return false;
}

enum { WINDOW = 1 << 20 }; // instructions that are looked through first; then 8 times as many, and so on

static void all_changed(struct debugger *d)
{
    for (unsigned i = 0; i < d->m->cpus_n; i++) stops_changed(d->m->cpu[i]);
}

// An access is met behind its instruction; backwards it is stopped at before it, where what was written is
// not yet.
void debugger_found_stop(struct debugger *d)
{
    struct debugger_found *f = &d->found;
    const struct cpu_stop_met *m = &d->stops.met;
    struct vcpu *v = d->m->cpu[m->cpu];
    u64 count = debugger_now(d);
    if (f->events) {
        bool event = m->why == STOPPED_ENTRY || m->why == STOPPED_EXIT;
        if (event && count < f->before && (f->met_n++, true)) {
            f->any = true;
            f->at = f->met_n;
            f->met = *m;
        }
        if (event && f->arriving && f->met_n == f->arriving) {
            machine_ask_stop(d->m);
            return;
        }
        d->stops.met.why = STOPPED_NOT;
        return;
    }
    bool access = m->why == STOPPED_ACCESS;
    if ((access || m->why == STOPPED_CODE) && count - access < f->before) {
        f->any = true;
        f->count = count - access;
        f->met = *m;
    }
    d->stops.met.why = STOPPED_NOT;
    // and on, past it
    d->stops.from.code = true;
    d->stops.from.cpu = v->index;
    d->stops.from.retired = cpu_retired(v);
    d->stops.from.linear = rip_linear(v).at;
}

static bool go(struct debugger *d, u64 count, bool with_stops)
{
    unsigned n = d->stops.n;
    if (!with_stops) d->stops.n = 0;
    stops_go_on(&d->stops, NULL, false);
    all_changed(d);
    d->found.searching = with_stops;
    d->moved = true;
    bool there = with_stops ? history_run_to(&d->history, count, d->give_up)
                            : history_goto(&d->history, count, d->give_up);
    d->found.searching = false;
    d->stops.n = n;
    d->stops.met.why = STOPPED_NOT;
    all_changed(d);
    return there;
}

bool debugger_goto(struct debugger *d, u64 count)
{
    if (!d->keeps || !go(d, count, false)) return false;
    d->cpu = d->stopped_cpu = d->m->turns.cpu;
    debugger_look(d);
    return true;
}

// Where a processor is: what retires nothing (an interruption, a VM exit) lies between places of one count.
struct place {
    u64 count, rip;
    bool guest;
};
static struct place place_of(const struct debugger *d, const struct vcpu *v)
{
    return (struct place){debugger_now(d), v->s.rip, v->s.vmx.guest};
}
static bool is_place(struct place a, struct place b)
{
    return a.count == b.count && a.rip == b.rip && a.guest == b.guest;
}
static bool step(struct debugger *d, struct vcpu *v)
{
    unsigned n = d->stops.n;
    d->stops.n = 0;
    stops_go_on(&d->stops, v, true);
    all_changed(d);
    bool stepped = debugger_run_past(d);
    d->stops.n = n;
    d->stops.met.why = STOPPED_NOT;
    stops_go_on(&d->stops, NULL, false);
    all_changed(d);
    return stepped;
}

// From an instruction before by steps to here, to count them; then all but the last of them.
bool debugger_step_back(struct debugger *d)
{
    if (!d->keeps) return false;
    struct vcpu *v = d->m->cpu[d->stopped_cpu];
    struct place here = place_of(d, v);
    unsigned n = 0, most = 64;
    if (here.count <= history_begins(&d->history) || !go(d, here.count - 1, false)) return false;
    while (n < most && step(d, v) && place_of(d, v).count <= here.count && !is_place(place_of(d, v), here))
        n++;
    if (!is_place(place_of(d, v), here)) n = 0; // within a REP, or by other processors
    if (!go(d, here.count - 1, false)) return false;
    while (n-- > 0 && step(d, v)) continue;
    return true;
}

// To where it was found; an interruption may lie between the first boundary with that count and a code stop.
static bool arrive(struct debugger *d)
{
    const struct debugger_found *f = &d->found;
    if (!go(d, f->count, false)) return false;
    if (f->met.why == STOPPED_CODE && !debugger_run_past(d)) return false;
    d->stops.met = f->met;
    return true;
}

// From the beginning of a window on to the event of it that was found.
static bool arrive_at_event(struct debugger *d, u64 from)
{
    struct debugger_found *f = &d->found;
    if (!go(d, from, false)) return false;
    f->met_n = 0;
    f->arriving = f->at;
    f->searching = true;
    bool there = debugger_run_past(d);
    f->searching = false;
    f->arriving = 0;
    return there;
}

bool debugger_back_to_event(struct debugger *d, const u64 exits[2])
{
    if (!d->keeps) return false;
    struct cpu_stops *t = &d->stops;
    u64 first = history_begins(&d->history), now = debugger_now(d), to = now, window = WINDOW;
    unsigned stops = t->n;
    bool there = false;
    d->found = (struct debugger_found){.before = now, .events = true};
    t->n = 0;
    d->plan = exits ? PLAN_EXIT : PLAN_ENTRY;
    if (exits) d->plan_exits[0] = exits[0], d->plan_exits[1] = exits[1];
    bool entries = d->entries, failures = d->failures;
    u64 always[2] = {d->exits[0], d->exits[1]};
    d->entries = d->failures = false, d->exits[0] = d->exits[1] = 0;
    debugger_listen(d);
    t->entry_failed = false;
    while (to > first) {
        u64 from = to - first > window ? to - window : first;
        d->found.met_n = 0;
        if (!go(d, from, false) || !go(d, to, true)) break;
        if (d->found.any) {
            there = arrive_at_event(d, from);
            break;
        }
        to = from;
        window *= 8;
    }
    t->n = stops;
    d->plan = PLAN_NONE;
    d->entries = entries, d->failures = failures, d->exits[0] = always[0], d->exits[1] = always[1];
    debugger_listen(d);
    if (there)
        t->met = d->found.met;
    else
        go(d, first, false);
    return there;
}

// ---- who wrote ----
// Subscribes to the memory, as a processor does: whatever writes there comes by, and says who it is.
struct writes {
    struct debugger *d;
    struct phys_subscriber subscriber;
    paddr at;
    u64 size;
    u8 bytes[PAGE_SIZE]; // as they were,
    bool stale;          // before a write that was not looked at since
    u64 units, event;    // the instant to search to, or,
    u64 last_count;      // who stands before one that was found and asks again: that one; n 0: not so
    u64 last_n;
    u64 count;        // of the latest write,
    u64 n;            // the how manieth with that count it is,
    u64 retired;      // and its processor's own count
    u64 wanted_count; // the one to come to again: these two; n 0: none
    u64 wanted_n;
    bool there;
};

// Of a debugger's own writes at this very instant, those are past that were made already.
static bool is_past(const struct writes *w)
{
    const struct journal *j = w->d->journal;
    if (w->last_n) return w->count < w->last_count || (w->count == w->last_count && w->n < w->last_n);
    u64 units = journal_units(j);
    return units < w->units || (units == w->units && j->at.event < w->event);
}

static void written(void *opaque, paddr a, u64 size)
{
    struct writes *w = opaque;
    struct debugger *d = w->d;
    const u8 *now = phys_host(&d->m->phys, w->at);
    const struct vcpu *v = d->m->cpu[d->m->turns.cpu];
    if (a >= w->at + w->size || w->at >= a + size || !(d->found.searching || w->wanted_n)) return;
    // Of all of a VMCS's region it is told that something in it has just changed; else, what is about to.
    bool region = size == PAGE_SIZE && a == v->s.vmx.vmcs_pointer;
    bool changed = !region || (!w->stale && memcmp(w->bytes, now, w->size) != 0);
    w->stale = !region;
    memcpy(w->bytes, now, w->size);
    if (!changed) return;
    u64 count = d->history.restarting ? d->history.restarts_at : debugger_now(d);
    w->n = count == w->count ? w->n + 1 : 1;
    w->count = count;
    if (w->wanted_n) {
        w->there |= count == w->wanted_count && w->n == w->wanted_n;
        return;
    }
    if (!is_past(w)) return;
    d->found.any = true;
    d->found.count = count;
    d->found.met.cpu = v->index;
    w->retired = cpu_retired(v);
    d->found.at = w->n;
    d->found.writer = d->m->phys.writer;
    if (!d->found.writer && !v->d.in) d->found.writer = "the delivery of an event";
}

static void guarded(void *opaque, paddr page) {}

static u64 keeps(void *opaque, paddr page, bool *watched)
{
    const struct writes *w = opaque;
    *watched |= page >> PAGE_SHIFT == w->at >> PAGE_SHIFT;
    return 0;
}

static void begin_writes(struct writes *w)
{
    struct phys *p = &w->d->m->phys;
    memcpy(w->bytes, phys_host(p, w->at), w->size);
    w->stale = false;
    w->count = w->n = 0;
    phys_watch(p, w->at);
}

// Nothing is left to run of what lies between the first boundary with this count and where it stood.
static bool searched(const struct writes *w)
{
    const struct journal *j = w->d->journal;
    if (w->last_n) return w->count == w->last_count ? w->n >= w->last_n : debugger_now(w->d) > w->last_count;
    return journal_units(j) >= w->units && j->at.event >= w->event;
}

// To before the write that was found. What no instruction does, happens at a boundary, which a run to that
// count has behind it: so by steps from the instruction before.
static bool arrive_at_write(struct writes *w)
{
    struct debugger *d = w->d;
    struct debugger_found *f = &d->found;
    struct vcpu *v = d->m->cpu[f->met.cpu];
    unsigned n = 0;
    if (!f->writer || f->count <= history_begins(&d->history)) return go(d, f->count, false);
    if (!go(d, f->count - 1, false)) return false;
    if (cpu_retired(v) >= w->retired) return go(d, f->count, false); // another's instruction was the last
    w->wanted_count = f->count;
    w->wanted_n = f->at;
    begin_writes(w);
    while (n < 64 && !w->there && step(d, v)) n++;
    w->wanted_n = 0;
    if (!w->there || n == 1) return go(d, f->count, false); // n 1: it came from outside
    if (!go(d, f->count - 1, false)) return false;
    while (n-- > 1) step(d, v);
    return true;
}

bool debugger_back_to_write(struct debugger *d, paddr at, u64 size)
{
    struct phys *p = &d->m->phys;
    if (!d->keeps || !phys_host(p, at)) return false;
    if (size > PAGE_SIZE - (at & ~PAGE_MASK)) size = PAGE_SIZE - (at & ~PAGE_MASK);
    struct writes w = {.d = d, .subscriber = {&w, written, guarded, keeps, NULL}, .at = at, .size = size};
    u64 first = history_begins(&d->history), now = debugger_now(d), to = now, window = WINDOW;
    unsigned n = d->stops.n;
    w.units = journal_units(d->journal);
    w.event = d->journal->at.event;
    if (d->wrote.at == at && d->wrote.size == size && d->wrote.units == w.units && d->wrote.event == w.event)
        w.last_count = d->wrote.count, w.last_n = d->wrote.n;
    d->found = (struct debugger_found){.before = now};
    d->stops.n = 0;
    phys_subscribe(p, &w.subscriber);
    while (true) {
        u64 from = to - first > window ? to - window : first;
        if (!go(d, from, false)) break;
        begin_writes(&w);
        if (!go(d, to, true)) break;
        d->found.searching = true;
        for (unsigned i = 0; to == now && i < 1000 && !searched(&w); i++) {
            u64 units = journal_units(d->journal);
            journal_run(d->journal, units < w.units ? w.units - units : w.last_n > 0);
        }
        d->found.searching = false;
        if (d->found.any || from == first) break;
        to = from;
        window *= 8;
    }
    bool there = d->found.any && arrive_at_write(&w);
    phys_unsubscribe(p, &w.subscriber);
    phys_release(p, at);
    d->stops.n = n;
    all_changed(d);
    if (!there) go(d, first, false);
    d->wrote.at = at, d->wrote.size = size;
    d->wrote.count = d->found.count, d->wrote.n = there ? d->found.at : 0;
    d->wrote.units = journal_units(d->journal), d->wrote.event = d->journal->at.event;
    return there;
}

bool debugger_continue_back(struct debugger *d)
{
    if (!d->keeps) return false;
    u64 first = history_begins(&d->history), now = debugger_now(d), to = now, window = WINDOW;
    d->found = (struct debugger_found){.before = now};
    while (to > first && d->stops.n) {
        u64 from = to - first > window ? to - window : first;
        // what is met up to `to`, and no further: later windows have been looked through
        if (!go(d, from, false) || !go(d, to, true)) break;
        if (d->found.any) return arrive(d);
        to = from;
        window *= 8;
    }
    go(d, first, false);
    return false;
}

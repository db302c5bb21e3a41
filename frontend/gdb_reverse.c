// Backwards: the machine's past is run through again, with the client's stops, for the last one before now.
#include "cpu/engine/access.h"
#include "frontend/gdb_server.h"

enum { WINDOW = 1 << 20 }; // instructions that are looked through first; then 8 times as many, and so on

static void all_changed(struct gdb_server *s)
{
    for (unsigned i = 0; i < s->m->cpus_n; i++) stops_changed(s->m->cpu[i]);
}

// An access is met behind its instruction; backwards it is stopped at before it, where what was written is
// not yet.
void gdb_found_stop(struct gdb_server *s)
{
    struct gdb_found *f = &s->found;
    const struct cpu_stop_met *m = &s->stops.met;
    struct vcpu *v = s->m->cpu[m->cpu];
    u64 count = s->history->now(s->history->opaque);
    bool access = m->why == STOPPED_ACCESS;
    if ((access || m->why == STOPPED_CODE) && count - access < f->before) {
        f->any = true;
        f->count = count - access;
        f->met = *m;
    }
    s->stops.met.why = STOPPED_NOT;
    // and on, past it
    s->stops.from.code = true;
    s->stops.from.cpu = v->index;
    s->stops.from.retired = cpu_retired(v);
    s->stops.from.linear = rip_linear(v).at;
}

static bool go(struct gdb_server *s, u64 count, bool with_stops)
{
    unsigned n = s->stops.n;
    if (!with_stops) s->stops.n = 0;
    stops_go_on(&s->stops, NULL, false);
    all_changed(s);
    s->found.searching = with_stops;
    bool there = s->history->go(s->history->opaque, count);
    s->found.searching = false;
    s->stops.n = n;
    s->stops.met.why = STOPPED_NOT;
    all_changed(s);
    return there;
}

// Where a processor is: what retires nothing (an interruption, a VM exit) lies between places of one count.
struct place {
    u64 count, rip;
    bool guest;
};
static struct place place_of(const struct gdb_server *s, const struct vcpu *v)
{
    return (struct place){s->history->now(s->history->opaque), v->s.rip, v->s.vmx.guest};
}
static bool is_place(struct place a, struct place b)
{
    return a.count == b.count && a.rip == b.rip && a.guest == b.guest;
}
static bool step(struct gdb_server *s, struct vcpu *v)
{
    unsigned n = s->stops.n;
    s->stops.n = 0;
    stops_go_on(&s->stops, v, true);
    all_changed(s);
    bool stepped = s->history->run(s->history->opaque);
    s->stops.n = n;
    s->stops.met.why = STOPPED_NOT;
    stops_go_on(&s->stops, NULL, false);
    all_changed(s);
    return stepped;
}

// From an instruction before by steps to here, to count them; then all but the last of them.
bool gdb_step_back(struct gdb_server *s)
{
    const struct gdb_history *h = s->history;
    struct vcpu *v = s->m->cpu[s->stopped_cpu];
    struct place here = place_of(s, v);
    unsigned n = 0, most = 64;
    if (here.count <= h->begin(h->opaque) || !go(s, here.count - 1, false)) return false;
    while (n < most && step(s, v) && place_of(s, v).count <= here.count && !is_place(place_of(s, v), here))
        n++;
    if (!is_place(place_of(s, v), here)) n = 0; // within a REP, or by other processors
    if (!go(s, here.count - 1, false)) return false;
    while (n-- > 0 && step(s, v)) continue;
    return true;
}

// To where it was found; an interruption may lie between the first boundary with that count and a code stop.
static bool arrive(struct gdb_server *s)
{
    const struct gdb_found *f = &s->found;
    if (!go(s, f->count, false)) return false;
    if (f->met.why == STOPPED_CODE && !s->history->run(s->history->opaque)) return false;
    s->stops.met = f->met;
    return true;
}

bool gdb_continue_back(struct gdb_server *s)
{
    const struct gdb_history *h = s->history;
    u64 first = h->begin(h->opaque), now = h->now(h->opaque), to = now, window = WINDOW;
    s->found = (struct gdb_found){.before = now};
    while (to > first && s->stops.n) {
        u64 from = to - first > window ? to - window : first;
        // what is met up to `to`, and no further: later windows have been looked through
        if (!go(s, from, false) || !go(s, to, true)) break;
        if (s->found.any) return arrive(s);
        to = from;
        window *= 8;
    }
    go(s, first, false);
    return false;
}

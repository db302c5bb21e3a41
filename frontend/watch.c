#include "frontend/watch.h"

#include <stdlib.h>
#include <string.h>

void watch_begin(struct watch *w, const struct journal *j)
{
    memset(w, 0, sizeof *w);
    w->journal = j;
}

void watch_add(struct watch *w, const struct watcher *one)
{
    if (w->n == WATCHERS_MAX) panic("more than %d watchers", WATCHERS_MAX);
    w->w[w->n++] = *one;
}

// Of the start that the run is behind; in a past before a reset it is an earlier one.
static u64 base(const struct watch *w)
{
    for (u64 i = w->starts; i-- > 0;)
        if (w->start[i].units <= w->journal->at.units) return w->start[i].base;
    return 0;
}

u64 watch_vtime(const struct watch *w)
{
    const struct machine *m = w->journal->m;
    u64 latest = 0;
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (cpu_vtime(m->cpu[i]) > latest) latest = cpu_vtime(m->cpu[i]);
    return base(w) + latest;
}

void watch_restarted(struct watch *w, u64 vtime)
{
    if (!w->n) return;
    if (w->starts == w->room) {
        u64 room = w->room ? 2 * w->room : 16;
        struct watch_start *more = realloc(w->start, room * sizeof *more);
        if (!more) return; // times begin anew: the host has no memory
        w->start = more;
        w->room = room;
    }
    w->start[w->starts++] = (struct watch_start){w->journal->at.units, vtime};
}

u64 watch_ns(const struct watch *w, u64 vtime) { return (base(w) + vtime) / (CPU_TSC_HZ / 1000000000); }

static void event(void *opaque, const struct trace_event *e)
{
    struct watch *w = opaque;
    u64 at = base(w) + e->vtime;
    if (at < w->last[e->cpu] || (w->again && at == w->last[e->cpu])) {
        w->again = true;
        return;
    }
    w->again = false;
    w->last[e->cpu] = at;
    for (unsigned i = 0; i < w->n; i++)
        if (w->w[i].mask >> e->kind & 1) w->w[i].event(w->w[i].opaque, e, at / (CPU_TSC_HZ / 1000000000));
}

void watch_listen(struct watch *w, struct trace *t)
{
    struct trace_sink s = {event, w, 0};
    for (unsigned i = 0; i < w->n; i++) s.mask |= w->w[i].mask;
    if (!s.mask) return;
    trace_add(t, &s);
    for (unsigned i = 0; i < w->journal->m->cpus_n; i++) w->journal->m->cpu[i]->trace = t;
}

void watch_free(struct watch *w)
{
    free(w->start);
    memset(w, 0, sizeof *w);
}

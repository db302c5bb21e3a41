#include "frontend/last_events.h"

#include <stdlib.h>

#include "frontend/event_text.h"

void last_event_copy(struct last_event *to, const struct trace_event *e, u64 ns)
{
    to->e = *e;
    to->ns = ns;
    to->e.entry = NULL; // what it points to does not stay
    to->e.check = NULL;
    to->e.refused = NULL;
    if (e->kind == TRACE_ENTRY_FAILED) to->e.name = e->check ? e->check->id : NULL;
    if (e->kind == TRACE_REFUSED) to->refused = *e->refused;
}

void last_event_tell(FILE *f, const struct last_event *x, const struct symbols *symbols)
{
    struct trace_event e = x->e;
    e.refused = &x->refused;
    event_text(f, &e, x->ns, symbols);
}

static void event(void *opaque, const struct trace_event *e, u64 ns)
{
    struct last_events *l = opaque;
    last_event_copy(&l->ring[l->n++ % l->room], e, ns);
}

bool last_events_keep(struct last_events *l, unsigned room, struct watch *w)
{
    *l = (struct last_events){.ring = calloc(room, sizeof *l->ring), .room = room};
    if (!l->ring) return false;
    watch_add(w, &(struct watcher){event, l, LAST_EVENTS_KINDS});
    return true;
}

void last_events_free(struct last_events *l)
{
    free(l->ring);
    *l = (struct last_events){0};
}

// Events kept until somebody asks for the last of them.
#ifndef FRONTEND_LAST_EVENTS_H
#define FRONTEND_LAST_EVENTS_H

#include <stdio.h>

#include "frontend/symbols.h"
#include "frontend/watch.h"
#include "vmx/refusals.h"

#define LAST_EVENTS_KINDS \
    (1u << TRACE_ENTRY | 1u << TRACE_EXIT | 1u << TRACE_ENTRY_FAILED | 1u << TRACE_REFUSED | \
     1u << TRACE_FAULT | 1u << TRACE_INTERRUPT | 1u << TRACE_SHUTDOWN | 1u << TRACE_MISUSE)

struct last_event {
    struct trace_event e;
    struct vmx_refused refused;
    u64 ns;
};
struct last_events { // zeroed: none are kept
    struct last_event *ring;
    unsigned room;
    u64 n;
};
// Keeps the last `room` VM entries and exits, failures, exceptions and interrupts. False: no memory.
bool last_events_keep(struct last_events *l, unsigned room, struct watch *w);
void last_events_free(struct last_events *l);
// What of an event can be kept.
void last_event_copy(struct last_event *to, const struct trace_event *e, u64 ns);
void last_event_tell(FILE *f, const struct last_event *x, const struct symbols *symbols);

#endif

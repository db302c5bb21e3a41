// What a person wants to know when a run stops where it should not: the last events, both levels' registers,
// who called what ran, and how to get there again.
#ifndef FRONTEND_SUMMARY_H
#define FRONTEND_SUMMARY_H

#include <stdio.h>

#include "devices/machine.h"
#include "frontend/symbols.h"
#include "frontend/watch.h"
#include "vmx/refusals.h"

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

struct summary {
    const struct machine *m;
    const struct symbols *symbols;  // may have none
    const struct last_events *last; // may have none
    u64 retired;                    // the instant, as --stop-after and `goto` have it
};
// In full: the last events; of each processor the level that it is on, with its callers, and the one behind
// it.
void summary_tell(FILE *f, const struct summary *s);
// The lines of one processor, and of the level behind it; without registers, which log_registers has.
void summary_levels(FILE *f, const struct summary *s, unsigned cpu);
void summary_again(FILE *f, const struct summary *s); // how to get there again

#endif

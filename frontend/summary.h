// What a person wants to know when a run stops where it should not: the last events and branches, both
// levels' registers, who called what ran, and how to get there again.
#ifndef FRONTEND_SUMMARY_H
#define FRONTEND_SUMMARY_H

#include <stdio.h>

#include "devices/machine.h"
#include "frontend/last_events.h"
#include "frontend/retrace.h"

struct summary {
    const struct machine *m;
    const struct symbols *symbols;  // may have none
    const struct last_events *last; // NULL: those of `before`
    const struct retrace *before;   // NULL: not known
    u64 retired;                    // the instant, as --stop-after and `goto` have it
};
// In full: the last events and branches; of each processor the level that it is on, with its callers, and the
// one behind it.
void summary_tell(FILE *f, const struct summary *s);
// The lines of one processor, and of the level behind it; without registers, which log_registers has.
void summary_levels(FILE *f, const struct summary *s, unsigned cpu);
// As summary_tell has them: each in a line.
void summary_event(FILE *f, const struct summary *s, u64 n); // n below summary_events
u64 summary_events(const struct summary *s);
void summary_branch(FILE *f, const struct summary *s, u64 n);
void summary_again(FILE *f, const struct summary *s); // how to get there again

#endif

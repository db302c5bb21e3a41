// Breakpoints of the monitor: what is stopped at, under which condition, the how manieth time, and what is
// done then. Events come from the event stream (cpu/state/trace.h), so nothing is paid while none is set.
#ifndef FRONTEND_BREAKS_H
#define FRONTEND_BREAKS_H

#include "cpu/system/stops.h"

#define BREAKS_MAX   64
#define BREAKS_TERMS 4

// clang-format off
enum break_kind {
    BREAK_NONE, BREAK_ADDRESS, BREAK_PAGE, BREAK_ENTRY, BREAK_FAILED_ENTRY, BREAK_EXIT, BREAK_LEVEL, BREAK_VECTOR, BREAK_PORT, BREAK_MSR, BREAK_CR,
    BREAK_FIELD
};
enum break_relation { REL_ANY_BIT, REL_EQUAL, REL_UNEQUAL, REL_BELOW, REL_ABOVE, REL_AT_MOST, REL_AT_LEAST };
// clang-format on
struct break_term {
    u8 left;     // of break_names
    u8 relation; // enum break_relation
    u64 mask, right;
};
struct breakpoint {
    u8 kind;  // enum break_kind; BREAK_NONE: a free place
    u8 on;    // PAGE: STOP_ON_*
    u8 level; // STOP_*; of BREAK_LEVEL: the one that is gone to
    u8 terms; // all of them must hold
    bool any; // VECTOR, PORT ...: whichever
    u64 vmcs; // VMX_NO_POINTER: whichever
    u64 what; // address, vector, port, MSR, control register, encoding
    u64 size; // PAGE, PORT: that many from `what` on
    u64 exits[2];
    u64 hits, count; // how often it has been met; stops from the count-th time on
    struct break_term term[BREAKS_TERMS];
    char text[200];     // as given
    char commands[200]; // separated by semicolons
    void *owner;        // the monitor that runs them; NULL: nobody
};

extern const char *const break_names[]; // what a condition may ask of, NULL at the end

struct breaks {
    struct breakpoint b[BREAKS_MAX];
    u32 mask;             // of the events that some of them wants
    struct trace_event e; // the one that was met last
};

void breaks_derive(struct breaks *b);
// The first that this event meets, which is counted then, or -1. `v`: whose event it is.
int breaks_met(struct breaks *b, const struct vcpu *v, const struct trace_event *e);
// Of an instruction or access that struct cpu_stops has met: the same, of kind ADDRESS or PAGE at this place.
int breaks_met_at(struct breaks *b, const struct vcpu *v, u8 kind, u64 what, u64 size,
                  const struct trace_event *e);
// What happened, in a line.
void breaks_describe(const struct trace_event *e, char *to, size_t n);

#endif

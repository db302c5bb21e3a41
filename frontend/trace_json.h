// A trace in Chrome's trace-event format, as it goes; memory does not grow with the run.
//
// A processor is a process with two threads, its levels. A slice of the hypervisor's level is a handler: from
// a VM exit, whose reason is its name and whose information is in its arguments, to the next VM entry. One of
// the guest's level is from a VM entry to the next VM exit. Whatever else happens is an instant on the level
// where it did. Counters are rates over a millisecond of virtual time, or over what lies between two slices.
#ifndef FRONTEND_TRACE_JSON_H
#define FRONTEND_TRACE_JSON_H

#include <stdio.h>

#include "cpu/state/trace.h"
#include "frontend/symbols.h"
#include "frontend/trace_filter.h"

#define TRACE_JSON_CPUS 64

struct trace_json_cpu {
    bool named, open, guest; // its tracks are; a slice is; of the guest
    bool wanted;             // of the slice that is open: the filter takes it
    u32 reason;
    u64 ns, retired; // where the slice began
    char *about;     // its name and arguments
    // since the counters were told last
    u64 counted_ns, exits, instructions[2];
};
struct trace_json {
    FILE *out;
    const struct trace_filter *filter;
    const struct symbols *symbols;
    u64 events;
    struct trace_json_cpu cpu[TRACE_JSON_CPUS];
};

void trace_json_begin(struct trace_json *t);
void trace_json_event(struct trace_json *t, const struct trace_event *e, u64 ns);
// One processor's end: what is open there is closed.
void trace_json_cpu_end(struct trace_json *t, unsigned cpu, u64 ns, u64 retired);
void trace_json_end(struct trace_json *t);

#endif

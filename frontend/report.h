// --report FILE.html: what a run was, in one page that needs nothing else. Gathered from the event stream and
// from samples of the processors' stacks; memory and file stay bounded however long the run is.
#ifndef FRONTEND_REPORT_H
#define FRONTEND_REPORT_H

#include <stdio.h>

#include "frontend/symbols.h"
#include "frontend/watch.h"
#include "vmx/exit_reason.h"

// clang-format off
enum {
    REPORT_BINS = 8192,        // of each processor's timeline, a quarter with more than 8 processors
    REPORT_FIRST = 20000, REPORT_LAST = 20000, // exits that are kept one by one
    REPORT_GUESTS = 64, REPORT_FAILURES = 100,
    REPORT_PAGES = 1 << 16,    // guest-physical pages of EPT violations, told apart
    REPORT_NODES = 1 << 14, REPORT_DEPTH = 24, // of the flame graph
    REPORT_SAMPLES = 1 << 15,  // until samples are taken half as often
    REPORT_PAGES_TOLD = 1000,
};
// clang-format on

struct report_side { // what one side of the exits used
    u64 instructions, ns;
};
struct report_reason {
    u64 exits;
    struct report_side guest, handler; // until the exit, after it
};
struct report_guest { // by its VMCS; the last one gathers the rest
    u64 vmcs, entries;
    struct report_side side;
};
struct report_bin {
    u32 guest_ns, handler_ns, exits;
    u32 votes; // for `reason`: a majority vote by time
    u8 reason;
};
struct report_exit { // from a VM entry to the next one
    u64 entry_ns, exit_ns, next_ns, retired, rip, qualification, gpa;
    const struct symbol *symbol;
    u64 guest_instructions, handler_instructions;
    u8 cpu, guest, reason;
    bool gpa_valid;
};
struct report_cpu {
    bool entered, handling; // a guest runs; a handler does
    struct report_exit now;
    u64 entry_retired;
    struct report_bin *bin;
};
struct report_failure {
    char *text;
    u64 count, retired; // the first
    unsigned cpu;
};
struct report_page {
    u64 page, count, read, write, fetch; // page: number + 1, 0: none
};
struct report_node {         // of the flame graph
    u32 parent, next, child; // of their siblings; 0: none (node 0 is the root)
    const struct symbol *symbol;
    u32 label; // without a symbol: REPORT_LABEL_*
    u64 weight;
};
enum {
    REPORT_LABEL_REASON = 0,
    REPORT_LABEL_GUEST = 0x100,
    REPORT_LABEL_BEFORE = 0x200,
    REPORT_LABEL_UNKNOWN
};

struct report {
    FILE *out;
    const char *path;
    const struct symbols *symbols;
    const struct watch *watch;
    struct machine *m;
    unsigned bins;
    u64 bin_ns;
    u64 exits, entries, failures_n, failures_untold;
    struct report_reason reason[EXIT_REASON_COUNT];
    struct report_guest guest[REPORT_GUESTS];
    unsigned guests;
    struct report_cpu *cpu;
    struct report_exit *first, *last; // last: a ring
    struct report_failure failure[REPORT_FAILURES];
    unsigned failures;
    struct report_page *page;
    u64 pages, violations, violations_untold;
    struct report_node *node;
    u32 nodes;
    u64 sample_every, sample_next, samples, weights, samples_cut;
};

bool report_open(struct report *r, const char *path, struct machine *m, struct watch *w,
                 const struct symbols *symbols, char *why, size_t why_size);
// Between slices of the run, which `units` have been used in all: takes a sample if it is time for one.
// Returns how many units from now on the next one is due.
u64 report_sample(struct report *r, u64 units);
// Writes the page. False if it is not whole.
bool report_close(struct report *r, u64 retired, int argc, char **argv);

void report_stack(struct report *r, const struct vcpu *v, u64 weight); // one sample
// The data of the page, as one object of JSON.
void report_data(const struct report *r, FILE *out, u64 retired, int argc, char **argv);

#endif

// The human log: one line an event, made from the event stream.
#ifndef FRONTEND_LOG_H
#define FRONTEND_LOG_H

#include <stdio.h>

#include "cpu/state/trace.h"
#include "frontend/event_text.h"
#include "frontend/explain.h"
#include "frontend/symbols.h"

struct machine; // devices/machine.h

struct log {
    FILE *out;
    u64 lines;
    struct trace trace;
    struct explain explain;
    const struct symbols *symbols;
    bool explained; // at the close: nothing of its file was lost
};
// Listens to what o->log_mask and o->explain name, on every processor. False, with a line in `why`, if the
// file cannot be written. `symbols`, which may have none, name each RIP.
bool log_open(struct log *l, const struct options *o, struct machine *m, const struct symbols *symbols,
              char *why, size_t why_size);
bool log_close(struct log *l); // false if lines were lost (a full disk)
// Of every processor, each under a line "cpu=N" where there are several.
void log_registers(FILE *out, const struct machine *m); // for shutdowns
void log_statistics(FILE *out, const struct machine *m, double seconds);

#endif

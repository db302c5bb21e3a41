// The human log: one line an event, made from the event stream.
#ifndef FRONTEND_LOG_H
#define FRONTEND_LOG_H

#include <stdio.h>

#include "cpu/trace.h"
#include "frontend/options.h"

struct log {
    FILE *out;
    u64 lines;
    struct trace trace;
};
// Listens to what o->log_mask names. False, with a line in `why`, if the file cannot be written.
bool log_open(struct log *l, const struct options *o, struct vcpu *v, char *why, size_t why_size);
bool log_close(struct log *l); // false if lines were lost (a full disk)
void log_registers(FILE *out, const struct vcpu *v); // for shutdowns
void log_statistics(FILE *out, const struct vcpu *v, double seconds);

#endif

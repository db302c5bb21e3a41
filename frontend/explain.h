// --explain-entry: each failed VM entry and each refused VMX instruction, explained in full.
#ifndef FRONTEND_EXPLAIN_H
#define FRONTEND_EXPLAIN_H

#include <stdio.h>

#include "cpu/state/trace.h"
#include "frontend/options.h"

struct explain {
    FILE *out;
    bool own, json; // own: of --explain-entry=json:FILE
    char *last;     // text: what was told last, and how often again
    u64 again;
};
// Listens on `t`. Without a file of its own it writes to `out`. False, with a line in `why`, if the file
// cannot be written.
bool explain_open(struct explain *x, const struct options *o, FILE *out, struct trace *t, char *why,
                  size_t why_size);
bool explain_close(struct explain *x); // before `out` is closed; false if something of its own file was lost

#endif

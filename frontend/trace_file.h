// --trace FILE: what the machine does, in a file. By its name: .json, for Perfetto and Chrome (the
// trace-event format: an array of objects, slices, instants and counters, a process a processor, a thread a
// level), or .txt, a line an event; with .zst behind it, packed. Times are virtual: equal runs give equal
// files.
#ifndef FRONTEND_TRACE_FILE_H
#define FRONTEND_TRACE_FILE_H

#include "frontend/options.h"
#include "frontend/trace_json.h"
#include "frontend/watch.h"

struct trace_file {
    const char *path;
    FILE *out;
    bool json, lost;
    const struct trace_filter *filter;
    const struct symbols *symbols;
    struct trace_json writer;
};

bool trace_file_open(struct trace_file *t, const char *path, const struct trace_filter *filter,
                     struct watch *w, const struct symbols *symbols, char *why, size_t why_size);
// The end of the run: what is under way is written as far as it went. False if something was lost.
bool trace_file_close(struct trace_file *t, const struct watch *w);

#endif

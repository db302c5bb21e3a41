// --trace-filter: which events a trace takes.
#ifndef FRONTEND_TRACE_FILTER_H
#define FRONTEND_TRACE_FILTER_H

#include <stddef.h>

#include "mmu/types.h"

struct trace_filter {
    u32 kinds;         // bits 1 << enum trace_kind
    bool root, guest;  // levels
    u64 cpus;          // a bit a processor
    bool some_reasons; // of the exits only those:
    u64 reasons[2];    // a bit a basic exit reason
};

// "vmx,fault,guest,cpu=1,reason=CPUID,...": kinds as -d has them, levels, processors, exit reasons by name or
// number. What is not restricted is taken, but for page walks. False, with a line in `why`, for other words.
bool trace_filter_parse(struct trace_filter *f, const char *text, char *why, size_t why_size);
u32 log_kinds(u32 items); // bits of enum log_item: bits 1 << enum trace_kind
// Whether the name of a trace says what is to be written; `zstd`: packed.
bool trace_file_named(const char *path, bool *json, bool *zstd);
static inline bool trace_filter_level(const struct trace_filter *f, bool guest)
{
    return guest ? f->guest : f->root;
}
static inline bool trace_filter_reason(const struct trace_filter *f, u32 reason)
{
    reason &= 0xFFFF;
    return !f->some_reasons || (reason < 128 && f->reasons[reason / 64] >> reason % 64 & 1);
}

#endif

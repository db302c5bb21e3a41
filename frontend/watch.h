// The event stream for who keeps it: traces, the report, the last events. What the log need not care about is
// settled here, once: virtual time goes on over resets, and what a debugger has run again in the past is told
// once.
#ifndef FRONTEND_WATCH_H
#define FRONTEND_WATCH_H

#include "cpu/state/trace.h"
#include "devices/journal.h"

#define WATCHERS_MAX 8

struct watcher {
    // ns: virtual time since the machine's first start
    void (*event)(void *opaque, const struct trace_event *e, u64 ns);
    void *opaque;
    u32 mask; // bits 1 << enum trace_kind
};
struct watch_start { // of the machine, after a reset
    u64 units;       // the journal's, used before
    u64 base;        // virtual time until then
};
struct watch {
    const struct journal *journal;
    struct watcher w[WATCHERS_MAX];
    unsigned n;
    struct watch_start *start;
    u64 starts, room;
    u64 last[MACHINE_CPUS_MAX]; // virtual time of each processor's last event
    bool again;                 // in the past
};

void watch_begin(struct watch *w, const struct journal *j);
void watch_add(struct watch *w, const struct watcher *one);
// Listens on `t` for all that were added, and makes the machine's processors tell it. Without any it does
// nothing.
void watch_listen(struct watch *w, struct trace *t);
// Before the journal is told of a restart: how far virtual time had come, and after it.
u64 watch_vtime(const struct watch *w);
void watch_restarted(struct watch *w, u64 vtime);
u64 watch_ns(const struct watch *w, u64 vtime); // of a processor's time now
void watch_free(struct watch *w);

#endif

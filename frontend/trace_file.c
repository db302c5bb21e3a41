#include "frontend/trace_file.h"

#include <string.h>

#include "frontend/event_text.h"
#include "frontend/out.h"

static void event(void *opaque, const struct trace_event *e, u64 ns)
{
    struct trace_file *t = opaque;
    const struct trace_filter *f = t->filter;
    if (!(f->cpus >> e->cpu & 1) || t->lost) return;
    if (t->json)
        trace_json_event(&t->writer, e, ns);
    else if (trace_filter_level(f, e->guest) &&
             (e->kind == TRACE_EXIT ? trace_filter_reason(f, e->reason)
                                    : e->kind != TRACE_ENTRY || !f->some_reasons))
        event_text(t->out, e, ns, t->symbols);
    if (ferror(t->out)) t->lost = true; // a full disk: nothing more is tried
}

bool trace_file_open(struct trace_file *t, const char *path, const struct trace_filter *filter,
                     struct watch *w, const struct symbols *symbols, char *why, size_t n)
{
    bool zstd;
    memset(t, 0, sizeof *t);
    t->path = path;
    t->filter = filter;
    t->symbols = symbols;
    trace_file_named(path, &t->json, &zstd);
    t->out = out_open(path, zstd, why, n);
    if (!t->out) return false;
    if (t->json) {
        t->writer.out = t->out, t->writer.filter = filter, t->writer.symbols = symbols;
        trace_json_begin(&t->writer);
    }
    watch_add(w, &(struct watcher){event, t, filter->kinds});
    return true;
}

bool trace_file_close(struct trace_file *t, const struct watch *w)
{
    const struct machine *m = w->journal->m;
    if (!t->out) return true;
    if (t->json) {
        for (unsigned i = 0; i < m->cpus_n; i++)
            trace_json_cpu_end(&t->writer, i, watch_ns(w, cpu_vtime(m->cpu[i])), cpu_retired(m->cpu[i]));
        trace_json_end(&t->writer);
    }
    if (ferror(t->out)) t->lost = true;
    if (fclose(t->out) != 0) t->lost = true;
    t->out = NULL;
    return !t->lost;
}

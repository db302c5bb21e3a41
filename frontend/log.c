// The human log, the register dump and the statistics.
//
// In a line (event_text.c) "retired" counts the instructions before the event, and names the instant in every
// run of the same machine.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "frontend/log.h"
#include "cpu/engine/engine.h"
#include "devices/machine.h"
#include "vmx/checks.h"
#include "vmx/control.h"
#include "vmx/refusals.h"

static void log_event(void *opaque, const struct trace_event *e)
{
    struct log *l = opaque;
    event_text(l->out, e, EVENT_NO_TIME, l->symbols);
    l->lines++;
}

bool log_open(struct log *l, const struct options *o, struct machine *m, const struct symbols *symbols,
              char *why, size_t n)
{
    memset(l, 0, sizeof *l);
    l->out = stderr;
    l->symbols = symbols;
    if (o->log_file) { // without -d too: a path that cannot be written is said at once
        l->out = fopen(o->log_file, "w");
        if (!l->out) {
            snprintf(why, n, "cannot write %s: %s", o->log_file, strerror(errno));
            return false;
        }
    }
    if (!explain_open(&l->explain, o, l->out, &l->trace, why, n)) return false;
    if (!o->log_mask && !l->trace.n) return true;
    struct trace_sink s = {.event = log_event, .opaque = l, .mask = log_kinds(o->log_mask)};
    if (s.mask) trace_add(&l->trace, &s);
    for (unsigned i = 0; i < m->cpus_n; i++) m->cpu[i]->trace = &l->trace;
    return true;
}

bool log_close(struct log *l)
{
    bool ok = true;
    l->explained = explain_close(&l->explain);
    if (l->out && l->out != stderr) {
        ok = !ferror(l->out);
        if (fclose(l->out) != 0) ok = false;
    }
    l->out = NULL;
    return ok;
}

static void cpu_statistics(FILE *f, const struct vcpu *v, double seconds)
{
    u64 n = cpu_retired(v), exits = 0;
    fprintf(f, "instructions %" PRIu64 ", %.1f million a second; virtual time %.3f s\n", n,
            seconds > 0 ? (double)n / seconds / 1e6 : 0, (double)cpu_vtime(v) / CPU_TSC_HZ);
    const struct engine *g = v->d.engine;
    fprintf(f,
            "blocks decoded %" PRIu64 ", dropped %" PRIu64 ", looked up %" PRIu64 "; links made %" PRIu64
            "; cache emptied %" PRIu64 " times\n",
            g->blocks_built, g->blocks_dropped, g->lookups, g->links, g->flushes);
    if (v->vmx) {
        for (unsigned i = 0; i < EXIT_REASON_COUNT; i++) exits += v->vmx->exits[i];
        fprintf(f, "VM entries %" PRIu64 ", entry failures %" PRIu64 ", VM exits %" PRIu64 "\n",
                v->vmx->entries, v->vmx->entry_failures, exits);
        for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
            if (v->vmx->exits[i])
                fprintf(f, "  %-28s %" PRIu64 "\n", vmx_exit_reason_name(i), v->vmx->exits[i]);
    }
    if (v->stale_uses)
        fprintf(f, "stale translations used %" PRIu64 " times or more (-d vmx names them)\n", v->stale_uses);
    for (unsigned i = 0; i < v->unimplemented_n; i++)
        fprintf(f, "unimplemented: %s, %" PRIu64 " times, last %#" PRIx64 "\n", v->unimplemented[i].name,
                v->unimplemented[i].count, v->unimplemented[i].detail);
}

void log_statistics(FILE *f, const struct machine *m, double seconds)
{
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (m->cpus_n > 1) fprintf(f, "cpu=%u\n", i);
        cpu_statistics(f, m->cpu[i], seconds);
    }
}

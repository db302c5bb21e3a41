#include "frontend/summary.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/callers.h"
#include "frontend/event_text.h"
#include "frontend/log.h"

// ---- the last events ----
static void event(void *opaque, const struct trace_event *e, u64 ns)
{
    struct last_events *l = opaque;
    struct last_event *x = &l->ring[l->n++ % l->room];
    x->e = *e;
    x->ns = ns;
    x->e.entry = NULL; // what it points to does not stay
    x->e.check = NULL;
    if (e->kind == TRACE_ENTRY_FAILED) x->e.name = e->check ? e->check->id : NULL;
    if (e->kind == TRACE_REFUSED) x->refused = *e->refused;
}

bool last_events_keep(struct last_events *l, unsigned room, struct watch *w)
{
    const u32 kinds = 1 << TRACE_ENTRY | 1 << TRACE_EXIT | 1 << TRACE_ENTRY_FAILED | 1 << TRACE_REFUSED |
                      1 << TRACE_FAULT | 1 << TRACE_INTERRUPT | 1 << TRACE_SHUTDOWN | 1 << TRACE_MISUSE;
    *l = (struct last_events){.ring = calloc(room, sizeof *l->ring), .room = room};
    if (!l->ring) return false;
    watch_add(w, &(struct watcher){event, l, kinds});
    return true;
}

void last_events_free(struct last_events *l)
{
    free(l->ring);
    *l = (struct last_events){0};
}

static void last_events_tell(FILE *f, const struct last_events *l, const struct symbols *symbols)
{
    u64 n = l->n < l->room ? l->n : l->room;
    if (!l->room) return;
    fprintf(f, "The last %" PRIu64 " of %" PRIu64 " events:\n", n, l->n);
    for (u64 i = l->n - n; i < l->n; i++) {
        struct last_event x = l->ring[i % l->room];
        x.e.refused = &x.refused;
        fputs("  ", f);
        event_text(f, &x.e, x.ns, symbols);
    }
}

// ---- levels ----
static void tell_view(FILE *f, const struct summary *s, const struct view *w, struct symbols_of of,
                      const char *head)
{
    const struct symbol *stack[8];
    char name[256];
    bool named = symbols_text(s->symbols, of, w->rip, name, sizeof name);
    fprintf(f,
            "%s RIP %#" PRIx64 "%s%s, RSP %#" PRIx64 ", RFLAGS %#" PRIx64 ", CR0 %#" PRIx64 ", CR3 %#" PRIx64
            ", CR4 %#" PRIx64 "\n",
            head, w->rip, named ? " in " : "", name, w->gpr[RSP], w->rflags, w->cr0, w->cr3, w->cr4);
    unsigned n = callers_find(s->symbols, of, w, stack, ARRAY_LEN(stack));
    if (n < 2) return;
    fputs("  called by", f);
    for (unsigned i = 1; i < n; i++) fprintf(f, "%s %s", i > 1 ? " <-" : "", stack[i]->name);
    fputc('\n', f);
}

void summary_levels(FILE *f, const struct summary *s, unsigned cpu)
{
    struct vcpu *v = s->m->cpu[cpu];
    struct view w;
    char head[96];
    const char *why;
    u64 vmcs = v->s.vmx.vmcs_pointer;
    bool guest = v->s.vmx.guest;
    snprintf(head, sizeof head, "CPU %u, %s:", cpu,
             guest         ? "in the guest"
             : v->s.vmx.on ? "in VMX root operation"
                           : "not in VMX operation");
    view_here(&w, v);
    tell_view(f, s, &w, (struct symbols_of){guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, vmcs}, head);
    if (!v->s.vmx.on || vmcs == VMX_NO_POINTER) return;
    snprintf(head, sizeof head, "  its %s, by VMCS %#" PRIx64 ":", guest ? "hypervisor" : "guest", vmcs);
    if (guest ? view_root(&w, v, vmcs, &why) : view_guest(&w, v, vmcs, &why))
        tell_view(f, s, &w, (struct symbols_of){guest ? SYMBOLS_ROOT : SYMBOLS_GUEST, vmcs}, head);
}

void summary_again(FILE *f, const struct summary *s)
{
    fprintf(f,
            "There again: the same command with --stop-after %" PRIu64
            ", and with -d vmx,fault for what led there; or with -S -monitor stdio -serial none, and then: "
            "goto %" PRIu64 "\n",
            s->retired, s->retired);
}

void summary_tell(FILE *f, const struct summary *s)
{
    if (s->last) last_events_tell(f, s->last, s->symbols);
    for (unsigned i = 0; i < s->m->cpus_n; i++) summary_levels(f, s, i);
    log_registers(f, s->m);
    summary_again(f, s);
}

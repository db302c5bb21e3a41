// Hands events to whoever listens.
#include "cpu/state/trace.h"

#include <string.h>

void trace_add(struct trace *t, const struct trace_sink *s)
{
    if (t->n == TRACE_SINKS_MAX) panic("more than %d trace sinks", TRACE_SINKS_MAX);
    t->sink[t->n++] = *s;
    t->mask |= s->mask;
}

void trace_begin(const struct vcpu *v, struct trace_event *e, enum trace_kind k)
{
    memset(e, 0, sizeof(*e));
    e->kind = k;
    e->cpu = (u8)v->index;
    e->retired = cpu_retired(v);
    e->vtime = cpu_vtime(v);
    e->rip = v->s.rip;
    e->vmcs = v->s.vmx.vmcs_pointer;
    e->cr3 = v->s.cr3;
    e->guest = v->s.vmx.guest;
}

void trace_emit(const struct vcpu *v, const struct trace_event *e)
{
    bool again = v->trace->again && *v->trace->again;
    for (unsigned i = 0; i < v->trace->n; i++) {
        const struct trace_sink *s = &v->trace->sink[i];
        if (s->mask >> e->kind & 1 && (!again || s->mask & TRACE_AGAIN)) s->event(s->opaque, e);
    }
}

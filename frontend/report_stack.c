// A sample of the flame graph: what a processor executes, and who called it.
#include "frontend/callers.h"
#include "frontend/report.h"

static u32 child(struct report *r, u32 parent, const struct symbol *symbol, u32 label)
{
    u32 n;
    for (n = r->node[parent].child; n; n = r->node[n].next)
        if (r->node[n].symbol == symbol && r->node[n].label == label) return n;
    if (r->nodes == REPORT_NODES) return 0;
    n = r->nodes++;
    r->node[n] = (struct report_node){
        .parent = parent, .next = r->node[parent].child, .symbol = symbol, .label = label};
    r->node[parent].child = n;
    return n;
}

void report_stack(struct report *r, const struct vcpu *v, u64 weight)
{
    struct view w;
    const struct report_cpu *c = &r->cpu[v->index];
    const struct symbol *stack[REPORT_DEPTH];
    bool guest = v->s.vmx.guest;
    struct symbols_of of = {guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, v->s.vmx.vmcs_pointer};
    u32 n = child(r, 0, NULL,
                  guest         ? REPORT_LABEL_GUEST + c->now.guest
                  : c->handling ? REPORT_LABEL_REASON + c->now.reason
                                : REPORT_LABEL_BEFORE);
    r->weights += weight;
    r->node[0].weight += weight;
    if (!n) return;
    r->node[n].weight += weight;
    view_here(&w, (struct vcpu *)v);
    unsigned depth = callers_find(r->symbols, of, &w, stack, REPORT_DEPTH - 1);
    if (!depth) {
        n = child(r, n, NULL, REPORT_LABEL_UNKNOWN);
        if (n) r->node[n].weight += weight;
        return;
    }
    while (depth-- > 0 && (n = child(r, n, stack[depth], 0)) != 0) r->node[n].weight += weight;
    if (!n) r->samples_cut++;
}

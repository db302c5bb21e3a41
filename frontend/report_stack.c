// A sample of the flame graph: what a processor executes, and who called it.
//
// No frame pointers or tables are asked of the program. A caller is looked for upwards on the stack: the
// first word that is behind a CALL of the very function that runs; else, near by, one behind an indirect
// CALL. What jumps to a function instead of calling it is not seen, and cuts the stack there.
#include <string.h>

#include "frontend/view.h"
#include "frontend/report.h"

enum { STACK = 2048, INDIRECT = 256 }; // bytes that are looked at; for the second kind

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

// What the instruction before `ret` calls: 1 this function, 2 something indirect, 0 it is no CALL.
static int calls(const struct report *r, const struct view *w, struct symbols_of of, u64 ret, u64 function)
{
    u8 b[7];
    s32 to;
    if (view_read(w, laddr_of(ret - 7), b, 7) != 7) return 0;
    memcpy(&to, b + 3, 4);
    if (b[2] == 0xE8) {
        if (ret + (u64)(s64)to == function) return 1;
        const struct symbol *s = symbols_find(r->symbols, of, ret + (u64)(s64)to);
        if (s && strncmp(s->name, "__x86_indirect_thunk", 20) == 0) return 2;
    }
    for (unsigned n = 2; n <= 7; n++) // FF /2
        if (n != 4 && n != 5 && b[7 - n] == 0xFF && (b[8 - n] >> 3 & 7) == 2) return 2;
    return 0;
}

static unsigned callers(const struct report *r, const struct view *w, struct symbols_of of,
                        const struct symbol **stack)
{
    unsigned depth = 0;
    u64 words[STACK / 8];
    u64 rsp = w->gpr[RSP], at = 0, count = view_read(w, laddr_of(rsp), (u8 *)words, sizeof words) / 8;
    stack[depth] = symbols_find(r->symbols, of, w->rip);
    if (!stack[depth]) return 0;
    while (++depth < REPORT_DEPTH - 1) {
        u64 found = count;
        const struct symbol *caller = NULL;
        for (u64 i = at; i < count; i++) {
            const struct symbol *s = symbols_find(r->symbols, of, words[i]);
            int kind = s ? calls(r, w, of, words[i], stack[depth - 1]->addr) : 0;
            if (kind == 2 && (caller || i - at > INDIRECT / 8)) continue;
            if (kind) found = i, caller = s;
            if (kind == 1) break;
        }
        if (!caller) break;
        stack[depth] = caller;
        at = found + 1;
    }
    return depth;
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
    unsigned depth = callers(r, &w, of, stack);
    if (!depth) {
        n = child(r, n, NULL, REPORT_LABEL_UNKNOWN);
        if (n) r->node[n].weight += weight;
        return;
    }
    while (depth-- > 0 && (n = child(r, n, stack[depth], 0)) != 0) r->node[n].weight += weight;
    if (!n) r->samples_cut++;
}

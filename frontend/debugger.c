#include "frontend/debugger.h"

#include <stdio.h>
#include <string.h>

#include "cpu/engine/access.h"
#include "vmx/exit_reason.h"

struct vcpu *debugger_cpu(const struct debugger *d) { return d->m->cpu[d->cpu]; }
void debugger_look(struct debugger *d) { view_here(&d->view, debugger_cpu(d)); }

struct symbols_of debugger_symbols_of(const struct view *w)
{
    bool guest = w->level == LEVEL_HERE ? w->v->s.vmx.guest : w->level == LEVEL_GUEST;
    return (struct symbols_of){guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, w->vmcs};
}

// ---- stops ----
static void ask(void *opaque)
{
    struct debugger *d = opaque;
    if (d->found.searching)
        debugger_found_stop(d);
    else
        machine_ask_stop(d->m);
}

// Of whatever somebody waits for.
static void event(void *opaque, const struct trace_event *e)
{
    struct debugger *d = opaque;
    if (1u << e->kind & STOPS_TRACE) stops_trace(&d->stops, e);
    if (e->kind == TRACE_ENTRY) {
        const struct vmcs_region *r = vmcs_region_at(d->m->cpu[e->cpu]->phys, e->vmcs);
        d->entered.any = r != NULL;
        d->entered.vmcs = e->vmcs, d->entered.retired = e->retired;
        if (r) d->entered.f = r->f;
    }
    if (!(d->breaks.mask >> e->kind & 1) || d->found.searching || !d->running) return;
    int n = breaks_met(&d->breaks, d->m->cpu[e->cpu], e);
    if (n < 0) return;
    if (d->stops.met.why == STOPPED_NOT || d->stops.met.why == STOPPED_ENTRY ||
        d->stops.met.why == STOPPED_EXIT)
        d->stops.met = (struct cpu_stop_met){.why = STOPPED_EVENT,
                                             .cpu = e->cpu,
                                             .n = (unsigned)n,
                                             .reason = e->reason,
                                             .retired = e->retired};
    ask(d);
}

static void stops_set(struct debugger *d)
{
    for (unsigned i = 0; i < d->m->cpus_n; i++) stops_changed(d->m->cpu[i]);
}

// Which VM entries and exits are asked for, by commands and by the plan.
void debugger_listen(struct debugger *d)
{
    struct cpu_stops *t = &d->stops;
    t->entry = d->entries || d->plan == PLAN_ENTRY || d->plan == PLAN_NEXT_2;
    t->entry_failed = d->failures || d->plan == PLAN_ENTRY || d->plan == PLAN_NEXT_2;
    for (unsigned i = 0; i < 2; i++) {
        t->exits[i] = d->exits[i];
        if (d->plan == PLAN_EXIT) t->exits[i] |= d->plan_exits[i];
        if (d->plan == PLAN_NEXT_1) t->exits[i] = UINT64_MAX;
    }
    u32 wants = d->breaks.mask;
    if (t->entry || d->keeps_entries) wants |= 1 << TRACE_ENTRY;
    if (t->entry_failed) wants |= 1 << TRACE_ENTRY_FAILED;
    if (t->exits[0] || t->exits[1]) wants |= 1 << TRACE_EXIT;
    if (wants & 1 << TRACE_EXIT) wants |= 1 << TRACE_ENTRY; // who looks at exits may ask what changed since
    // Whoever listens to all processors has one struct for them.
    struct trace *all = d->m->cpu[0]->trace ? d->m->cpu[0]->trace : &d->trace;
    all->mask = 0;
    for (unsigned i = 0; i < all->n; i++) {
        if (all->sink[i].opaque == d) all->sink[i].mask = wants ? wants | (u32)TRACE_AGAIN : 0;
        all->mask |= all->sink[i].mask;
    }
    if (all != &d->trace) return;
    for (unsigned i = 0; wants && i < d->m->cpus_n; i++) d->m->cpu[i]->trace = all;
}

bool debugger_add_stop(struct debugger *d, u8 type, u8 on, u64 at, u64 size, bool physical)
{
    if (d->stops.n == DEBUGGER_STOPS_MAX) return false;
    struct cpu_stop stop = {.on = on, .at = at, .size = size, .physical = physical, .vmcs = VMX_NO_POINTER};
    for (unsigned i = 0; i < d->limits; i++)
        if (d->limit[i].at == at) stop.level = d->limit[i].level, stop.vmcs = d->limit[i].vmcs;
    for (unsigned i = 0; i < d->stops.n; i++)
        if (d->type[i] == type && d->list[i].at == at && d->list[i].size == size) {
            d->list[i].on |= on;
            return true;
        }
    d->type[d->stops.n] = type;
    d->list[d->stops.n++] = stop;
    return true;
}

void debugger_remove_stops(struct debugger *d, u8 type, u64 at, u64 size)
{
    unsigned n = 0;
    for (unsigned i = 0; i < d->stops.n; i++) {
        if (d->type[i] == type && (!size || (d->list[i].at == at && d->list[i].size == size))) continue;
        d->list[n] = d->list[i];
        d->type[n++] = d->type[i];
    }
    d->stops.n = n;
}

void debugger_remove_type(struct debugger *d, u8 type)
{
    debugger_remove_stops(d, type, 0, 0);
    stops_set(d);
}

bool debugger_breaks_changed(struct debugger *d)
{
    bool good = true;
    debugger_remove_stops(d, DEBUGGER_TYPE_BREAK, 0, 0);
    for (unsigned i = 0; i < BREAKS_MAX; i++) {
        const struct breakpoint *b = &d->breaks.b[i];
        if (b->kind != BREAK_ADDRESS && b->kind != BREAK_PAGE) continue;
        good =
            debugger_add_stop(d, DEBUGGER_TYPE_BREAK, b->on, b->what, b->size, b->kind == BREAK_PAGE) && good;
    }
    breaks_derive(&d->breaks);
    debugger_listen(d);
    stops_set(d);
    return good;
}

static const char *activity_name(const struct vcpu *v)
{
    static const char *const names[] = {"", " halted", " shut down", " waits for SIPI", " in MWAIT"};
    return v->s.activity < ARRAY_LEN(names) ? names[v->s.activity] : "";
}

void debugger_level_name(const struct debugger *d, unsigned cpu, char *to, size_t n)
{
    const struct vcpu *v = d->m->cpu[cpu];
    if (v->s.vmx.guest)
        snprintf(to, n, "CPU %u [L2 vmcs %#llx%s]", cpu, (unsigned long long)v->s.vmx.vmcs_pointer,
                 activity_name(v));
    else
        snprintf(to, n, "CPU %u [L1%s%s]", cpu, v->s.vmx.on ? " root" : "", activity_name(v));
}

// ---- going on, and stopping ----
void debugger_stand(struct debugger *d, unsigned cpu, u8 signal, const char *why)
{
    d->running = d->badly = false;
    d->stood++;
    d->signal = signal;
    snprintf(d->why, sizeof d->why, "%s", why);
    // (gdb steps off a breakpoint before it continues: the plan is for what comes then.)
    if (d->stops.met.why != STOPPED_STEP) d->plan = PLAN_NONE;
    d->steps = 0;
    d->broke = d->stops.met.why == STOPPED_EVENT ? (int)d->stops.met.n : -1;
    d->cpu = d->stopped_cpu = cpu;
    debugger_look(d);
}

void debugger_interrupt(struct debugger *d)
{
    if (!d->running) return;
    d->stops.met.why = STOPPED_NOT;
    debugger_stand(d, d->m->turns.cpu, 2, "");
}

void debugger_go_on(struct debugger *d, unsigned cpu, bool step)
{
    if (d->plan && !d->plan_one) d->plan_cpu = cpu;
    debugger_listen(d);
    stops_go_on(&d->stops, d->m->cpu[cpu], step);
    stops_set(d);
    d->running = true;
    d->held = false;
}

// An instruction or access of a breakpoint: whether its condition holds; then it is that one which is met.
static bool at_break(struct debugger *d)
{
    struct cpu_stop_met *m = &d->stops.met;
    const struct cpu_stop *at = &d->list[m->n];
    const struct vcpu *v = d->m->cpu[m->cpu];
    struct trace_event e;
    struct view w;
    trace_begin(v, &e, TRACE_KINDS);
    e.addr = m->why == STOPPED_ACCESS ? m->at : at->at;
    e.write = m->write;
    view_here(&w, d->m->cpu[m->cpu]);
    if (m->why == STOPPED_ACCESS) view_physical_read(&w, m->at, (u8 *)&e.value, sizeof e.value);
    int n = breaks_met_at(&d->breaks, v, at->on == STOP_ON_CODE ? BREAK_ADDRESS : BREAK_PAGE, at->at,
                          at->size, &e);
    if (n < 0) return false;
    d->breaks.e = e;
    m->why = STOPPED_EVENT;
    m->n = (unsigned)n;
    return true;
}

// Whether a VM entry or exit is what somebody waits for; if not, the machine goes on without a word.
static bool wanted(struct debugger *d)
{
    const struct cpu_stop_met *m = &d->stops.met;
    unsigned basic = m->reason & 0x7F;
    bool ours = d->plan_all || m->cpu == d->plan_cpu;
    switch (m->why) {
    case STOPPED_ENTRY:
        if (d->entries) return true;
        return ours && (d->plan == PLAN_ENTRY || d->plan == PLAN_NEXT_2);
    case STOPPED_ENTRY_FAILED:
        if (d->failures) return true;
        return ours && (d->plan == PLAN_ENTRY || d->plan == PLAN_NEXT_2);
    case STOPPED_EXIT:
        if (d->exits[basic / 64] >> basic % 64 & 1) return true;
        if (ours && d->plan == PLAN_NEXT_1) {
            d->plan = PLAN_NEXT_2;
            debugger_listen(d);
            return false;
        }
        return ours && d->plan == PLAN_EXIT && d->plan_exits[basic / 64] >> basic % 64 & 1;
    case STOPPED_CODE:
    case STOPPED_ACCESS: return m->n >= d->stops.n || d->type[m->n] != DEBUGGER_TYPE_BREAK || at_break(d);
    default: return true;
    }
}

static void explain(const struct debugger *d, char *to, size_t n)
{
    const struct cpu_stop_met *m = &d->stops.met;
    *to = 0;
    if (m->why == STOPPED_EVENT && m->n < BREAKS_MAX) {
        size_t k = (size_t)snprintf(to, n, "breakpoint %u: ", m->n + 1);
        breaks_describe(&d->breaks.e, to + k, n - k);
        if (!to[k]) snprintf(to + k, n - k, "%s", d->breaks.b[m->n].text);
    }
    if (m->why == STOPPED_EXIT)
        snprintf(to, n, "VM exit %u (%s)", m->reason & 0xFFFF, vmx_exit_reason_name(m->reason & 0xFFFF));
    if (m->why == STOPPED_ENTRY) snprintf(to, n, "VM entry");
    if (m->why == STOPPED_ENTRY_FAILED) snprintf(to, n, "VM entry failed (check says why)");
    if (m->why == STOPPED_ACCESS && m->n < d->stops.n && d->type[m->n] == DEBUGGER_TYPE_OWN)
        snprintf(to, n, "%s of %s address %#llx", m->write ? "write" : "read",
                 d->list[m->n].physical ? "physical" : "linear", (unsigned long long)m->at);
}

void debugger_stopped(struct debugger *d)
{
    char why[sizeof d->why];
    if (!d->running || d->stops.met.why == STOPPED_NOT) return;
    if (!wanted(d)) {
        const struct vcpu *v = d->m->cpu[d->stops.met.cpu];
        if (d->stops.met.why == STOPPED_CODE) { // on, past it
            d->stops.from.code = true;
            d->stops.from.cpu = v->index;
            d->stops.from.retired = cpu_retired(v);
            d->stops.from.linear = rip_linear(v).at;
        }
        d->stops.met.why = STOPPED_NOT;
        stops_set(d); // a step goes on
        return;
    }
    if (d->stops.met.why == STOPPED_STEP && d->steps > 1) {
        d->steps--;
        debugger_go_on(d, d->stops.met.cpu, true);
        return;
    }
    explain(d, why, sizeof why);
    debugger_stand(d, d->stops.met.cpu, 5, why);
}

void debugger_trouble(struct debugger *d, const char *text)
{
    if (!d->users || !d->running) return;
    d->stops.met.why = STOPPED_NOT;
    debugger_stand(d, d->m->request.what == MACHINE_SHUTDOWN ? d->m->request.cpu : d->m->turns.cpu, 6, text);
    d->badly = true;
}

// ---- life ----
void debugger_make(struct debugger *d, struct machine *m)
{
    d->m = m;
    d->stops = (struct cpu_stops){.list = d->list, .stopped = ask, .opaque = d};
    d->running = true;
    struct trace *all = m->cpu[0]->trace ? m->cpu[0]->trace : &d->trace;
    trace_add(all, &(struct trace_sink){event, d, 0});
    d->broke = -1;
    debugger_look(d);
}

static void keep(struct debugger *d)
{
    if (d->keeps || !d->journal || !d->history_limit) return;
    d->journal_kept = d->journal->keeps;
    d->journal->keeps = true;
    d->keeps = history_begin(&d->history, d->journal, d->history_limit);
}

bool debugger_keep(struct debugger *d)
{
    keep(d);
    return d->keeps_always = d->keeps;
}

bool debugger_retrace(struct debugger *d, struct retrace *r)
{
    return d->keeps && retrace(r, &d->history, d->give_up);
}

void debugger_attach(struct debugger *d)
{
    if (d->users++) return;
    d->stops.met.why = STOPPED_NOT;
    for (unsigned i = 0; i < d->m->cpus_n; i++) d->m->cpu[i]->stops = &d->stops;
    keep(d);
}

void debugger_gone(struct debugger *d)
{
    if (!d->users || --d->users) return;
    memset(&d->breaks, 0, sizeof d->breaks);
    d->entered.any = d->keeps_entries = false;
    d->broke = -1;
    d->stops.n = d->limits = 0;
    d->entries = d->failures = false;
    d->exits[0] = d->exits[1] = 0;
    d->plan = PLAN_NONE;
    debugger_listen(d);
    stops_go_on(&d->stops, NULL, false);
    for (unsigned i = 0; i < d->m->cpus_n; i++) {
        struct vcpu *v = d->m->cpu[i];
        v->stops = NULL;
        if (v->trace == &d->trace) v->trace = NULL;
        stops_changed(v);
    }
    d->running = !d->held;
    if (!d->keeps_always) debugger_forget(d);
}

void debugger_forget(struct debugger *d)
{
    d->keeps_always = false;
    if (!d->keeps) return;
    history_forget(&d->history);
    d->keeps = false;
    d->journal->keeps = d->journal_kept;
}

// Stops that a debugger outside asks for: see cpu/system/stops.h.
#include "cpu/system/stops.h"

#include "cpu/engine/access.h"
#include "cpu/engine/tlbops.h"
#include "cpu/system/debug.h"

static bool level_is(const struct vcpu *v, const struct cpu_stop *s)
{
    if (s->level == STOP_ROOT && v->s.vmx.guest) return false;
    if (s->level == STOP_GUEST && !v->s.vmx.guest) return false;
    return s->vmcs == VMX_NO_POINTER || s->vmcs == v->s.vmx.vmcs_pointer;
}

static bool shared(u64 a, u64 n, u64 b, u64 m, u64 wrap) // [a, a + n) and [b, b + m) have a byte in common
{
    return ((b - a) & wrap) < n || ((a - b) & wrap) < m;
}

static void met(const struct vcpu *v, const struct cpu_stop_met *m)
{
    struct cpu_stops *s = v->stops;
    if (s->met.why == STOPPED_NOT) {
        s->met = *m;
        s->met.cpu = v->index;
        s->met.retired = cpu_retired(v);
    }
    s->stopped(s->opaque);
}

// ---- which pages ----
static bool steps(const struct vcpu *v)
{
    return v->stops->from.step && v->stops->from.cpu == v->index && v->stops->met.why == STOPPED_NOT;
}

// A write stop's page is kept from writes alone; a read stop's from reads, and so from writes too, whose fast
// entries are those of reads.
void stops_derive(const struct vcpu *v, struct breakpoints *b)
{
    const struct cpu_stops *s = v->stops;
    if (!s) return;
    if (steps(v)) b->code |= BREAKS_HOST;
    for (unsigned i = 0; i < s->n; i++) {
        u8 on = s->list[i].on;
        if (on == STOP_ON_CODE) b->code |= BREAKS_HOST;
        if (on & (STOP_ON_READ | STOP_ON_WRITE)) b->write |= BREAKS_HOST;
        if (on & STOP_ON_READ) b->read |= BREAKS_HOST;
    }
}

void stops_changed(struct vcpu *v)
{
    debug_changed(v);
    cpu_drop_fast(v); // links, the jump cache and the fast tables
}

// Links made here are good in another level with the same tags only if the mode word is, which says root or
// guest; nothing tells guests of one VPID apart.
bool stops_code_page(const struct vcpu *v, laddr la)
{
    const struct cpu_stops *s = v->stops;
    if (steps(v)) return true;
    for (unsigned i = 0; i < s->n; i++)
        if (s->list[i].on == STOP_ON_CODE && ((s->list[i].at ^ la.at) & PAGE_MASK) == 0) return true;
    return false;
}

bool stops_data_page(const struct vcpu *v, laddr la, paddr pa, u32 acc)
{
    const struct cpu_stops *s = v->stops;
    u8 on = STOP_ON_READ | ((acc & ACC_KIND) == ACC_WRITE ? STOP_ON_WRITE : 0);
    for (unsigned i = 0; i < s->n; i++) {
        const struct cpu_stop *t = &s->list[i];
        u64 page = (t->physical ? pa : la.at) & PAGE_MASK;
        if (t->on & on && shared(t->at, t->size, page, PAGE_SIZE, UINT64_MAX)) return true;
    }
    return false;
}

// ---- accesses ----
static bool access_met(struct vcpu *v, bool physical, u64 a, u64 size, u32 acc, u64 wrap)
{
    struct cpu_stops *s = v->stops;
    bool write = (acc & ACC_KIND) == ACC_WRITE;
    for (unsigned i = 0; i < s->n; i++) {
        const struct cpu_stop *t = &s->list[i];
        if (t->physical != physical || !(t->on & (write ? STOP_ON_WRITE : STOP_ON_READ))) continue;
        if (!shared(t->at, t->size, a, size, wrap) || !level_is(v, t)) continue;
        if (!(v->d.break_hit & BREAKS_HOST)) {
            s->access = (struct cpu_stop_met){.why = STOPPED_ACCESS, .write = write, .n = i};
            s->access.at = ((t->at - a) & wrap) < size ? t->at : a;
        }
        return true;
    }
    return false;
}

bool stops_access(struct vcpu *v, laddr la, u64 size, u32 acc, u64 wrap)
{
    return access_met(v, false, la.at, size, acc, wrap);
}

void stops_physical_access(struct vcpu *v, paddr pa, u64 size, u32 acc)
{
    if (!access_met(v, true, pa, size, acc, UINT64_MAX)) return;
    v->d.break_hit |= BREAKS_HOST;
    v->d.attention = true;
}

void stops_completed(struct vcpu *v)
{
    if (v->stops) met(v, &v->stops->access);
}

// ---- instructions ----
// Where a step began is left by whatever happens but the iterations of a REP, which retire nothing.
void stops_boundary(struct vcpu *v)
{
    struct cpu_stops *s = v->stops;
    if (!steps(v)) return;
    if (cpu_retired(v) == s->from.retired && v->s.rip == s->from.rip && v->s.vmx.guest == s->from.guest)
        return;
    met(v, &(struct cpu_stop_met){.why = STOPPED_STEP});
}

bool stops_before_instruction(struct vcpu *v)
{
    struct cpu_stops *s = v->stops;
    u64 la = rip_linear(v).at;
    if (s->from.code && s->from.cpu == v->index && cpu_retired(v) == s->from.retired && la == s->from.linear)
        return false;
    for (unsigned i = 0; i < s->n; i++) {
        if (s->list[i].on != STOP_ON_CODE || s->list[i].at != la || !level_is(v, &s->list[i])) continue;
        met(v, &(struct cpu_stop_met){.why = STOPPED_CODE, .n = i});
        return true;
    }
    return false;
}

void stops_go_on(struct cpu_stops *s, struct vcpu *v, bool step)
{
    s->met = (struct cpu_stop_met){0};
    s->from.step = step && v;
    s->from.code = v != NULL;
    if (!v) return;
    s->from.cpu = v->index;
    s->from.retired = cpu_retired(v);
    s->from.rip = v->s.rip;
    s->from.linear = rip_linear(v).at;
    s->from.guest = v->s.vmx.guest;
    if (step) stops_changed(v);
}

// ---- VM entries and exits ----
void stops_trace(void *stops, const struct trace_event *e)
{
    struct cpu_stops *s = stops;
    struct cpu_stop_met m = {.cpu = e->cpu, .retired = e->retired, .reason = e->reason};
    unsigned basic = e->reason & 0xFFFF;
    if (e->kind == TRACE_ENTRY && s->entry) m.why = STOPPED_ENTRY;
    if (e->kind == TRACE_ENTRY_FAILED && s->entry_failed) m.why = STOPPED_ENTRY_FAILED;
    if (e->kind == TRACE_EXIT && basic < 128 && s->exits[basic / 64] >> basic % 64 & 1) m.why = STOPPED_EXIT;
    if (m.why == STOPPED_NOT) return;
    if (s->met.why == STOPPED_NOT) s->met = m;
    s->stopped(s->opaque);
}

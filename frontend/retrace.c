#include "frontend/retrace.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/engine/engine.h"
#include "cpu/engine/insn.h"
#include "cpu/state/mode.h"
#include "cpu/system/stops.h"
#include "frontend/event_text.h"
#include "vmx/exit_reason.h"

enum { WINDOW_FIRST = 1 << 12, WINDOW_LAST = 1 << 20 }; // instructions that are run again, one by one

// Of a processor: the instruction under way, and what has come between it and the next.
struct place {
    bool any, guest, term;
    u64 rip, next, vmcs;
    const char *name;
    u8 event, vector;
    u32 reason;
};
struct again {
    struct retrace r; // rings, of which *n have been
    struct machine *m;
    bool steps; // instructions are told, not only events
    struct {    // what is asked for in its place: an entry by this VMCS
        paddr vmcs;
        struct retrace_entry *found;
    } entry;
    struct place place[MACHINE_CPUS_MAX];
    struct trace trace;
    struct cpu_path path;
};

static void heard(void *opaque, const struct trace_event *e)
{
    struct again *a = opaque;
    struct place *p = &a->place[e->cpu];
    const struct vmcs_region *region = NULL;
    if (a->entry.found) {
        if (e->kind == TRACE_ENTRY && e->vmcs == a->entry.vmcs) region = vmcs_region_at(&a->m->phys, e->vmcs);
        if (region) *a->entry.found = (struct retrace_entry){true, e->retired, region->f};
        return;
    }
    last_event_copy(&a->r.event[a->r.events++ % RETRACE_EVENTS], e, EVENT_NO_TIME);
    if (!(1u << e->kind & (1u << TRACE_ENTRY | 1u << TRACE_EXIT | 1u << TRACE_FAULT | 1u << TRACE_INTERRUPT)))
        return;
    p->event = e->kind, p->vector = e->vector, p->reason = e->reason & 0xFFFF;
}

// The processor has come to this RIP.
static void arrived(struct again *a, const struct vcpu *v, u64 rip)
{
    struct place *p = &a->place[v->index];
    bool guest = v->s.vmx.guest, same = guest == p->guest && p->event == TRACE_KINDS;
    if (!p->any || (same && rip == p->next)) return;
    if (same && rip == p->rip && !p->term) return; // the next iteration of a REP
    a->r.branch[a->r.branches++ % RETRACE_BRANCHES] = (struct retrace_branch){.from = p->rip,
                                                                              .to = rip,
                                                                              .vmcs = p->vmcs,
                                                                              .from_guest = p->guest,
                                                                              .to_guest = guest,
                                                                              .cpu = (u8)v->index,
                                                                              .event = p->event,
                                                                              .vector = p->vector,
                                                                              .reason = p->reason,
                                                                              .name = p->name};
}

static void begun(void *opaque, const struct vcpu *v, u64 rip, const struct insn *in)
{
    struct again *a = opaque;
    u64 next = rip + in->len;
    arrived(a, v, rip);
    a->place[v->index] = (struct place){.any = true,
                                        .guest = v->s.vmx.guest,
                                        .term = in->term,
                                        .rip = rip,
                                        .next = mode_long64(v->d.mode) ? next : (u32)next,
                                        .vmcs = v->s.vmx.vmcs_pointer,
                                        .name = rows[in->row].name,
                                        .event = TRACE_KINDS};
}

// Whether what was looked for is there.
static bool enough(const struct again *a)
{
    if (a->entry.found) return a->entry.found->any;
    return a->r.branches >= RETRACE_BRANCHES && a->r.events >= RETRACE_EVENTS;
}

// From an instant on to the one with this count and, since several have it, these units.
static bool run_window(struct again *a, struct history *h, u64 from, u64 count, u64 units,
                       const volatile sig_atomic_t *give_up)
{
    struct machine *m = h->m;
    bool ended = m->request.what != MACHINE_RUN;
    memset(&a->r, 0, sizeof a->r);
    if (a->entry.found) a->entry.found->any = false;
    memset(a->place, 0, sizeof a->place);
    for (unsigned i = 0; i < m->cpus_n; i++) {
        a->place[i].event = TRACE_KINDS;
        m->cpu[i]->path = NULL, m->cpu[i]->trace = NULL, m->cpu[i]->stops = NULL;
        stops_changed(m->cpu[i]);
    }
    if (!history_goto(h, from, give_up)) return false;
    for (unsigned i = 0; i < m->cpus_n; i++) {
        m->cpu[i]->loop_engine |= a->steps;
        m->cpu[i]->path = a->steps ? &a->path : NULL;
        m->cpu[i]->trace = &a->trace;
    }
    if (count > journal_retired(h->journal) && !history_goto(h, count, give_up)) return false;
    for (unsigned tries = 0; tries < 1000 && m->request.what == MACHINE_RUN; tries++) {
        u64 now = journal_units(h->journal);
        if (now >= units && !(ended && !tries)) break;
        journal_run(h->journal, now < units ? units - now : 1);
    }
    for (unsigned i = 0; i < m->cpus_n; i++) {
        bool undelivered = a->place[i].event == TRACE_FAULT && m->cpu[i]->s.rip == a->place[i].rip;
        if (!undelivered) arrived(a, m->cpu[i], m->cpu[i]->s.rip);
    }
    a->r.again = true;
    return true;
}

static void close_all_but(int fd)
{
    long most = sysconf(_SC_OPEN_MAX);
    for (int i = 0; i < (most > 0 && most < 4096 ? most : 4096); i++)
        if (i != fd) close(i); // what the guest writes in its past was written then
}

static void child(struct again *a, struct history *h, int fd, const void *answer, size_t size,
                  const volatile sig_atomic_t *give_up)
{
    u64 count = journal_retired(h->journal), units = journal_units(h->journal), first = history_begins(h);
    u64 last = a->steps ? WINDOW_LAST : UINT64_MAX / 16;
    bool good = false;
    close_all_but(fd);
    journal_seen(h->journal);
    a->path = (struct cpu_path){begun, a};
    trace_add(&a->trace, &(struct trace_sink){heard, a, a->steps ? LAST_EVENTS_KINDS : 1u << TRACE_ENTRY});
    for (u64 window = WINDOW_FIRST; window <= last; window *= 16) {
        u64 from = count - first > window ? count - window : first;
        good = run_window(a, h, from, count, units, give_up);
        if (!good || enough(a) || from == first) break;
    }
    const char *at = answer;
    for (size_t left = good ? size : 0; left;) {
        ssize_t n = write(fd, at, left);
        if (n <= 0) break;
        at += n, left -= (size_t)n;
    }
    _exit(0);
}

// Has a child find it: what it leaves in `answer` is here then.
static bool ask(struct again *a, struct history *h, void *answer, size_t size,
                const volatile sig_atomic_t *give_up)
{
    int p[2];
    size_t got = 0;
    if (!h->first || pipe(p) != 0) return false;
    a->m = h->m;
    pid_t pid = fork();
    if (pid == 0) child(a, h, p[1], answer, size, give_up);
    close(p[1]);
    while (pid > 0 && got < size) {
        ssize_t n = read(p[0], (u8 *)answer + got, size - got);
        if (n < 0) continue; // a signal
        if (n == 0) break;
        got += (size_t)n;
    }
    close(p[0]);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0) continue;
    return got == size;
}

// A ring becomes a list, oldest first.
static void straighten(void *ring, u64 *n, u64 room, size_t each)
{
    u8 copy[sizeof(struct last_event) * RETRACE_EVENTS + sizeof(struct retrace_branch) * RETRACE_BRANCHES];
    u64 first = *n > room ? *n % room : 0;
    memcpy(copy, ring, room * each);
    for (u64 i = 0; i < room; i++) memcpy((u8 *)ring + i * each, copy + (i + first) % room * each, each);
    if (*n > room) *n = room;
}

bool retrace(struct retrace *r, struct history *h, const volatile sig_atomic_t *give_up)
{
    struct again *a = calloc(1, sizeof *a);
    if (a) a->steps = true;
    bool good = a && ask(a, h, &a->r, sizeof a->r, give_up);
    *r = good ? a->r : (struct retrace){0};
    free(a);
    straighten(r->event, &r->events, RETRACE_EVENTS, sizeof r->event[0]);
    straighten(r->branch, &r->branches, RETRACE_BRANCHES, sizeof r->branch[0]);
    return good;
}

bool retrace_entry(struct retrace_entry *r, paddr vmcs, struct history *h,
                   const volatile sig_atomic_t *give_up)
{
    struct again *a = calloc(1, sizeof *a);
    *r = (struct retrace_entry){0};
    if (a) a->entry.vmcs = vmcs, a->entry.found = r;
    bool good = a && ask(a, h, r, sizeof *r, give_up);
    free(a);
    return good;
}

void retrace_branch_text(const struct retrace_branch *b, char *to, size_t n)
{
    switch (b->event) {
    case TRACE_ENTRY: snprintf(to, n, "VM entry"); break;
    case TRACE_EXIT: snprintf(to, n, "VM exit %s", vmx_exit_reason_name(b->reason)); break;
    case TRACE_INTERRUPT: snprintf(to, n, "interrupt %u", b->vector); break;
    case TRACE_FAULT:
        if (*event_vector_name(b->vector) == '#')
            snprintf(to, n, "%s", event_vector_name(b->vector));
        else
            snprintf(to, n, "exception %u", b->vector);
        break;
    default: snprintf(to, n, "%s", b->name); break;
    }
}

#include "frontend/summary.h"

#include <inttypes.h>
#include <string.h>

#include "frontend/callers.h"
#include "frontend/log.h"

// ---- the last events and branches ----
u64 summary_events(const struct summary *s)
{
    if (s->last) return s->last->n < s->last->room ? s->last->n : s->last->room;
    return s->before ? s->before->events : 0;
}

void summary_event(FILE *f, const struct summary *s, u64 n)
{
    const struct last_events *l = s->last;
    u64 first = l && l->n > l->room ? l->n : 0;
    last_event_tell(f, l ? &l->ring[(first + n) % l->room] : &s->before->event[n], s->symbols);
}

static void put_rip(FILE *f, const struct summary *s, bool guest, u64 vmcs, u64 rip)
{
    char name[256];
    struct symbols_of of = {guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, vmcs};
    bool named = symbols_text(s->symbols, of, rip, name, sizeof name);
    fprintf(f, "%#" PRIx64 "%s%s", rip, named ? " " : "", named ? name : "");
}

void summary_branch(FILE *f, const struct summary *s, u64 n)
{
    const struct retrace_branch *b = &s->before->branch[n];
    char what[64];
    retrace_branch_text(b, what, sizeof what);
    fprintf(f, "CPU %u, %s: ", b->cpu, b->from_guest ? "guest" : "root");
    put_rip(f, s, b->from_guest, b->vmcs, b->from);
    fprintf(f, ", %s, to ", what);
    put_rip(f, s, b->to_guest, b->vmcs, b->to);
    fputc('\n', f);
}

static bool same_branch(const struct retrace_branch *a, const struct retrace_branch *b)
{
    return a->from == b->from && a->to == b->to && a->vmcs == b->vmcs && a->from_guest == b->from_guest &&
           a->to_guest == b->to_guest && a->cpu == b->cpu && a->event == b->event && a->vector == b->vector &&
           a->reason == b->reason;
}

// How many of the branches from `at` on are rounds of a loop of `lines` branches: a multiple of that.
static u64 rounds(const struct retrace *r, u64 at, u64 lines)
{
    u64 n = lines;
    while (at + n < r->branches && same_branch(&r->branch[at + n], &r->branch[at + n - lines])) n++;
    return n - n % lines;
}

// A loop is told by one of its rounds and their number.
static void tell_branches(FILE *f, const struct summary *s)
{
    const struct retrace *r = s->before;
    for (u64 at = 0; at < r->branches;) {
        u64 lines = 1, all = 1; // of the loop that leaves the fewest lines
        for (u64 n = 1; at + 2 * n <= r->branches; n++)
            if (rounds(r, at, n) > n && rounds(r, at, n) - n > all - lines) lines = n, all = rounds(r, at, n);
        if (all - lines < 2) lines = all = 1; // the number takes a line, too
        for (u64 i = 0; i < lines; i++) fputs("  ", f), summary_branch(f, s, at + i);
        if (all > lines && lines == 1)
            fprintf(f, "  ... and this one %" PRIu64 " times more\n", all - 1);
        else if (all > lines)
            fprintf(f, "  ... and these %" PRIu64 " lines %" PRIu64 " times more\n", lines, all / lines - 1);
        at += all;
    }
}

static void tell_last(FILE *f, const struct summary *s)
{
    u64 n = summary_events(s);
    if (s->last)
        fprintf(f, "The last %" PRIu64 " of %" PRIu64 " events:\n", n, s->last->n);
    else if (n)
        fprintf(f, "The last %" PRIu64 " events:\n", n);
    for (u64 i = 0; i < n; i++) fputs("  ", f), summary_event(f, s, i);
    if (!s->before || !s->before->branches) return;
    fprintf(f, "The last %" PRIu64 " branches:\n", s->before->branches);
    tell_branches(f, s);
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
    tell_last(f, s);
    for (unsigned i = 0; i < s->m->cpus_n; i++) summary_levels(f, s, i);
    log_registers(f, s->m);
    summary_again(f, s);
}

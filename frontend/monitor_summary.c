// What led to where the machine stands: as a run that ends badly tells it (summary.c), and for programs.
#include <stdlib.h>
#include <string.h>

#include "frontend/callers.h"
#include "frontend/monitor.h"
#include "frontend/summary.h"

static void tell_view(struct monitor *c, const struct view *w, struct symbols_of of)
{
    const struct symbol *stack[8];
    char name[256];
    json_hex(c, "rip", w->rip);
    json_hex(c, "rsp", w->gpr[RSP]);
    json_hex(c, "cr3", w->cr3);
    if (symbols_text(c->d->symbols, of, w->rip, name, sizeof name)) json_text(c, "in", name);
    unsigned n = callers_find(c->d->symbols, of, w, stack, ARRAY_LEN(stack));
    json_open(c, "callers", '[');
    for (unsigned i = 1; i < n; i++) json_text(c, NULL, stack[i]->name);
    json_close(c);
}

static void tell_cpu(struct monitor *c, struct vcpu *v)
{
    bool guest = v->s.vmx.guest;
    u64 vmcs = v->s.vmx.vmcs_pointer;
    struct symbols_of here = {guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, vmcs},
                      behind = {guest ? SYMBOLS_ROOT : SYMBOLS_GUEST, vmcs};
    struct view w;
    const char *why;
    json_open(c, NULL, '{');
    json_number(c, "cpu", v->index);
    json_flag(c, "guest", guest);
    view_here(&w, v);
    tell_view(c, &w, here);
    if (v->s.vmx.on && vmcs != VMX_NO_POINTER &&
        (guest ? view_root(&w, v, vmcs, &why) : view_guest(&w, v, vmcs, &why))) {
        json_hex(c, "vmcs", vmcs);
        json_open(c, "behind", '{');
        tell_view(c, &w, behind);
        json_close(c);
    }
    json_close(c);
}

// What one of summary.c's functions writes: text without the line feed at its end. NULL: no memory.
static char *written(void (*tell)(FILE *f, const struct summary *s, u64 n), const struct summary *s, u64 n)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    tell(f, s, n);
    fclose(f);
    if (text && size && text[size - 1] == '\n') text[size - 1] = 0;
    return text;
}

static void tell_lines(struct monitor *c, const char *key, u64 lines,
                       void (*tell)(FILE *f, const struct summary *s, u64 n), const struct summary *s)
{
    json_open(c, key, '[');
    for (u64 i = 0; i < lines; i++) {
        char *text = written(tell, s, i);
        if (text) json_text(c, NULL, text);
        free(text);
    }
    json_close(c);
}

static void whole(FILE *f, const struct summary *s, u64 n) { summary_tell(f, s); }

void monitor_tell_summary(struct monitor *c)
{
    static const struct symbols none;
    struct debugger *d = c->d;
    struct retrace *before = calloc(1, sizeof *before);
    struct summary s = {d->m, d->symbols ? d->symbols : &none, d->last, NULL, debugger_now(d)};
    if (before && debugger_retrace(d, before)) s.before = before;
    char *text = written(whole, &s, 0);
    if (text) say_text(c, text), say_text(c, "\n");
    free(text);
    if (c->kind == MONITOR_JSON && d->symbols) {
        json_open(c, "cpus", '[');
        for (unsigned i = 0; i < d->m->cpus_n; i++) tell_cpu(c, d->m->cpu[i]);
        json_close(c);
        tell_lines(c, "events", summary_events(&s), summary_event, &s);
        tell_lines(c, "branches", s.before ? s.before->branches : 0, summary_branch, &s);
    }
    free(before);
}

static void info_summary(struct monitor *c, const struct words *w)
{
    json_number(c, "retired", debugger_now(c->d));
    monitor_tell_summary(c);
}

// clang-format off
const struct monitor_row monitor_summary_rows[] = {
    {"info summary", "", "what led here, as a run that ends badly tells it: the last events and branches (by running the machine's past again, without its going anywhere), each "
     "processor's level with its callers and the level behind, registers, and how to get here again", "info summary", info_summary},
};
// clang-format on
const unsigned monitor_summary_rows_n = ARRAY_LEN(monitor_summary_rows);

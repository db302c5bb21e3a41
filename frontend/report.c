#define _GNU_SOURCE // memmem
// What the report gathers.
#include "frontend/report.h"

#include <stdlib.h>
#include <string.h>

#include "frontend/out.h"
#include "vmx/explain.h"

#include "report_page.h" // made of report.html

// ---- the timeline ----
// Twice the width, half as many.
static void coarser(struct report *r)
{
    for (unsigned c = 0; c < r->m->cpus_n; c++) {
        struct report_bin *b = r->cpu[c].bin;
        for (unsigned i = 0; i < r->bins; i++) {
            struct report_bin x = {0};
            for (unsigned k = 2 * i; k < 2 * i + 2 && k < r->bins; k++) {
                x.guest_ns += b[k].guest_ns, x.handler_ns += b[k].handler_ns, x.exits += b[k].exits;
                if (b[k].votes > x.votes) x.reason = b[k].reason, x.votes = b[k].votes;
            }
            b[i] = x;
        }
    }
    r->bin_ns *= 2;
}

static void vote(struct report_bin *b, u8 reason, u32 ns)
{
    if (b->reason == reason)
        b->votes += ns;
    else if (b->votes >= ns)
        b->votes -= ns;
    else
        b->reason = reason, b->votes = ns - b->votes;
}

static void draw(struct report *r, struct report_cpu *c, u64 from, u64 to, bool guest)
{
    while (to / r->bin_ns >= r->bins) coarser(r);
    while (from < to) {
        struct report_bin *b = &c->bin[from / r->bin_ns];
        u64 end = (from / r->bin_ns + 1) * r->bin_ns;
        u32 ns = (u32)((to < end ? to : end) - from);
        if (guest)
            b->guest_ns += ns;
        else
            b->handler_ns += ns, vote(b, c->now.reason, ns);
        from += ns;
    }
}

// ---- entries and exits ----
static unsigned guest_of(struct report *r, u64 vmcs)
{
    for (unsigned i = 0; i < r->guests; i++)
        if (r->guest[i].vmcs == vmcs) return i;
    if (r->guests == REPORT_GUESTS) return REPORT_GUESTS - 1;
    r->guest[r->guests] = (struct report_guest){.vmcs = vmcs};
    return r->guests++;
}

// The handler is done, or the run is.
static void exit_done(struct report *r, struct report_cpu *c, u64 ns, u64 retired)
{
    struct report_exit *x = &c->now;
    if (!c->handling) return;
    c->handling = false;
    x->next_ns = ns;
    x->handler_instructions = retired > x->retired ? retired - x->retired : 0;
    r->reason[x->reason].handler.instructions += x->handler_instructions;
    r->reason[x->reason].handler.ns += ns - x->exit_ns;
    draw(r, c, x->exit_ns, ns, false);
    if (r->exits < REPORT_FIRST)
        r->first[r->exits] = *x;
    else
        r->last[(r->exits - REPORT_FIRST) % REPORT_LAST] = *x;
    r->exits++;
}

static void entered(struct report *r, const struct trace_event *e, u64 ns)
{
    struct report_cpu *c = &r->cpu[e->cpu];
    exit_done(r, c, ns, e->retired);
    r->entries++;
    c->entered = true;
    c->now = (struct report_exit){.entry_ns = ns, .cpu = e->cpu, .guest = (u8)guest_of(r, e->vmcs)};
    c->entry_retired = e->retired;
    r->guest[c->now.guest].entries++;
}

static void page(struct report *r, u64 gpa, u64 qualification)
{
    u64 n = gpa >> PAGE_SHIFT, at = n * 0x9E3779B97F4A7C15ull >> 48;
    r->violations++;
    for (unsigned tries = 0; tries < 64; tries++, at = (at + 1) % REPORT_PAGES) {
        struct report_page *p = &r->page[at];
        if (p->page && p->page != n + 1) continue;
        if (!p->page) p->page = n + 1, r->pages++;
        p->count++;
        p->read += qualification & 1, p->write += qualification >> 1 & 1, p->fetch += qualification >> 2 & 1;
        return;
    }
    r->violations_untold++;
}

static void exited(struct report *r, const struct trace_event *e, u64 ns)
{
    struct report_cpu *c = &r->cpu[e->cpu];
    struct report_exit *x = &c->now;
    u32 reason = e->reason & 0xFFFF;
    if (!c->entered || reason >= EXIT_REASON_COUNT) return;
    c->entered = false;
    c->handling = true;
    x->exit_ns = ns;
    x->retired = e->retired;
    x->reason = (u8)reason;
    x->rip = e->rip;
    x->qualification = e->qualification;
    x->gpa = e->gpa, x->gpa_valid = e->gpa_valid;
    x->symbol = symbols_find(r->symbols, (struct symbols_of){SYMBOLS_GUEST, e->vmcs}, e->rip);
    x->guest_instructions = e->retired > c->entry_retired ? e->retired - c->entry_retired : 0;
    struct report_reason *by = &r->reason[reason];
    by->exits++;
    by->guest.instructions += x->guest_instructions, by->guest.ns += ns - x->entry_ns;
    r->guest[x->guest].side.instructions += x->guest_instructions;
    r->guest[x->guest].side.ns += ns - x->entry_ns;
    draw(r, c, x->entry_ns, ns, true);
    while (ns / r->bin_ns >= r->bins) coarser(r);
    c->bin[ns / r->bin_ns].exits++;
    if (reason == EXIT_REASON_EPT_VIOLATION && e->gpa_valid) page(r, e->gpa, e->qualification);
}

static void put(void *opaque, const char *text) { fputs(text, opaque); }

static void failed(struct report *r, const struct trace_event *e)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    r->failures_n++;
    if (!f) return;
    if (e->kind == TRACE_REFUSED)
        vmx_explain_refusal(e->refused, put, f);
    else if (e->entry)
        vmx_explain_entry(e->entry, e->check, put, f);
    fclose(f);
    for (unsigned i = 0; i < r->failures; i++)
        if (strcmp(r->failure[i].text, text) == 0) {
            r->failure[i].count++;
            free(text);
            return;
        }
    if (r->failures < REPORT_FAILURES)
        r->failure[r->failures++] =
            (struct report_failure){.text = text, .count = 1, .retired = e->retired, .cpu = e->cpu};
    else {
        r->failures_untold++;
        free(text);
    }
}

static void event(void *opaque, const struct trace_event *e, u64 ns)
{
    struct report *r = opaque;
    if (e->kind == TRACE_ENTRY)
        entered(r, e, ns);
    else if (e->kind == TRACE_EXIT)
        exited(r, e, ns);
    else
        failed(r, e);
}

// ---- samples ----
u64 report_sample(struct report *r, u64 units)
{
    if (units < r->sample_next) return r->sample_next - units;
    for (unsigned i = 0; i < r->m->cpus_n; i++)
        if (r->m->cpu[i]->s.activity == ACTIVITY_ACTIVE) report_stack(r, r->m->cpu[i], r->sample_every);
    if (++r->samples % REPORT_SAMPLES == 0) r->sample_every *= 2;
    r->sample_next = units + r->sample_every;
    return r->sample_every;
}

// ---- begin and end ----
static void *zeros(size_t n, size_t size, bool *ok)
{
    void *p = calloc(n, size);
    if (!p) *ok = false;
    return p;
}

bool report_open(struct report *r, const char *path, struct machine *m, struct watch *w,
                 const struct symbols *symbols, char *why, size_t n)
{
    bool ok = true;
    memset(r, 0, sizeof *r);
    r->path = path;
    r->m = m;
    r->watch = w;
    r->symbols = symbols;
    r->bins = m->cpus_n > 8 ? REPORT_BINS / 4 : REPORT_BINS;
    r->bin_ns = 256;
    r->sample_every = 1000;
    r->out = out_open(path, false, why, n);
    if (!r->out) return false;
    r->first = zeros(REPORT_FIRST, sizeof *r->first, &ok);
    r->last = zeros(REPORT_LAST, sizeof *r->last, &ok);
    r->page = zeros(REPORT_PAGES, sizeof *r->page, &ok);
    r->node = zeros(REPORT_NODES, sizeof *r->node, &ok);
    r->nodes = 1;
    r->cpu = zeros(m->cpus_n, sizeof *r->cpu, &ok);
    for (unsigned i = 0; ok && i < m->cpus_n; i++) r->cpu[i].bin = zeros(r->bins, sizeof *r->cpu[i].bin, &ok);
    if (!ok) {
        snprintf(why, n, "the host has no memory for the report");
        return false;
    }
    const u32 kinds = 1 << TRACE_ENTRY | 1 << TRACE_EXIT | 1 << TRACE_ENTRY_FAILED | 1 << TRACE_REFUSED;
    watch_add(w, &(struct watcher){event, r, kinds});
    return true;
}

static void page_text(const struct report *r, u64 retired, int argc, char **argv)
{
    static const char mark[] = "@DATA@";
    const char *text = (const char *)report_page,
               *at = memmem(text, sizeof report_page, mark, sizeof mark - 1);
    fwrite(text, 1, (size_t)(at - text), r->out);
    report_data(r, r->out, retired, argc, argv);
    at += sizeof mark - 1;
    fwrite(at, 1, (size_t)(text + sizeof report_page - at), r->out);
}

bool report_close(struct report *r, u64 retired, int argc, char **argv)
{
    if (!r->out) return true;
    for (unsigned i = 0; i < r->m->cpus_n; i++)
        exit_done(r, &r->cpu[i], watch_ns(r->watch, cpu_vtime(r->m->cpu[i])), cpu_retired(r->m->cpu[i]));
    page_text(r, retired, argc, argv);
    bool ok = !ferror(r->out);
    if (fclose(r->out) != 0) ok = false;
    for (unsigned i = 0; i < r->m->cpus_n; i++) free(r->cpu[i].bin);
    for (unsigned i = 0; i < r->failures; i++) free(r->failure[i].text);
    free(r->cpu), free(r->first), free(r->last), free(r->page), free(r->node);
    memset(r, 0, sizeof *r);
    return ok;
}

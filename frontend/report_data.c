// The data of the page: one object of JSON. Numbers of 64 bits that may be addresses are text.
#include <inttypes.h>

#include "frontend/report.h"
#include "vmx/explain.h"

static void put(void *opaque, const char *text)
{
    for (; *text; text++) // "</script>" in a name would end the page's data
        if (*text == '<')
            fputs("\\u003c", opaque);
        else
            fputc(*text, opaque);
}
static void string(FILE *f, const char *text) { vmx_json_string(text, put, f); }

static void run(const struct report *r, FILE *f, u64 retired, int argc, char **argv)
{
    u64 vtime = 0;
    for (unsigned i = 0; i < r->m->cpus_n; i++) {
        u64 ns = watch_ns(r->watch, cpu_vtime(r->m->cpu[i]));
        if (ns > vtime) vtime = ns;
    }
    fprintf(f,
            "\"cpus\":%u,\"instructions\":%" PRIu64 ",\"ns\":%" PRIu64 ",\"entries\":%" PRIu64
            ",\"exits\":%" PRIu64 ",\"command\":\"",
            r->m->cpus_n, retired, vtime, r->entries, r->exits);
    for (int i = 0; i < argc; i++) // as text, without its quotes
        for (const char *c = argv[i]; *c || (c == argv[i] && !*c); c++) {
            if (c == argv[i] && i) fputc(' ', f);
            if (!*c) break;
            if (*c == '"' || *c == '\\') fputc('\\', f);
            if ((u8)*c >= ' ' && *c != '<' && *c != 127) fputc(*c, f);
        }
    fputs("\",\n", f);
}

static void side(FILE *f, const char *name, const struct report_side *s)
{
    fprintf(f, ",\"%s\":{\"instructions\":%" PRIu64 ",\"ns\":%" PRIu64 "}", name, s->instructions, s->ns);
}

static void reasons(const struct report *r, FILE *f)
{
    const char *comma = "";
    fputs("\"reasons\":[", f);
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++) {
        if (!r->reason[i].exits) continue;
        fprintf(f, "%s\n{\"number\":%u,\"name\":", comma, i);
        string(f, vmx_exit_reason_name(i));
        fprintf(f, ",\"exits\":%" PRIu64, r->reason[i].exits);
        side(f, "guest", &r->reason[i].guest);
        side(f, "handler", &r->reason[i].handler);
        fputs("}", f);
        comma = ",";
    }
    fputs("],\n\"guests\":[", f);
    for (unsigned i = 0; i < r->guests; i++) {
        fprintf(f, "%s\n{\"vmcs\":\"%#" PRIx64 "\",\"entries\":%" PRIu64, i ? "," : "", r->guest[i].vmcs,
                r->guest[i].entries);
        side(f, "guest", &r->guest[i].side);
        fputs("}", f);
    }
    fputs("],\n", f);
}

// Of each bin that is not empty: how many empty ones before it, nanoseconds of guest and handler, exits,
// reason.
static void timeline(const struct report *r, FILE *f)
{
    fprintf(f, "\"bin\":%" PRIu64 ",\"bins\":[", r->bin_ns);
    for (unsigned c = 0; c < r->m->cpus_n; c++) {
        unsigned skipped = 0;
        const char *comma = "";
        fputs(c ? ",\n[" : "\n[", f);
        for (unsigned i = 0; i < r->bins; i++) {
            const struct report_bin *b = &r->cpu[c].bin[i];
            if (!b->guest_ns && !b->handler_ns && !b->exits) {
                skipped++;
                continue;
            }
            fprintf(f, "%s%u,%u,%u,%u,%u", comma, skipped, b->guest_ns, b->handler_ns, b->exits, b->reason);
            comma = ",", skipped = 0;
        }
        fputs("]", f);
    }
    fputs("],\n", f);
}

static void one_exit(FILE *f, const struct report_exit *x, const char *comma)
{
    fprintf(f, "%s\n[%u,%u,%u,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64, comma,
            x->cpu, x->guest, x->reason, x->entry_ns, x->exit_ns, x->next_ns, x->guest_instructions,
            x->handler_instructions, x->retired);
    fprintf(f, ",\"%" PRIx64 "\",\"%" PRIx64 "\",", x->rip, x->qualification);
    if (x->gpa_valid)
        fprintf(f, "\"%" PRIx64 "\",", x->gpa);
    else
        fputs("0,", f);
    if (x->symbol)
        string(f, x->symbol->name);
    else
        fputs("0", f);
    fputs("]", f);
}

static void exits(const struct report *r, FILE *f)
{
    u64 first = r->exits < REPORT_FIRST ? r->exits : REPORT_FIRST, rest = r->exits - first,
        kept = rest < REPORT_LAST ? rest : REPORT_LAST;
    fprintf(f, "\"kept\":[%" PRIu64 ",%" PRIu64 "],\"slices\":[", first, kept);
    for (u64 i = 0; i < first; i++) one_exit(f, &r->first[i], i ? "," : "");
    for (u64 i = rest - kept; i < rest; i++) one_exit(f, &r->last[i % REPORT_LAST], ",");
    fputs("],\n", f);
}

static void failures(const struct report *r, FILE *f)
{
    fprintf(f, "\"failed\":%" PRIu64 ",\"failures_untold\":%" PRIu64 ",\"failures\":[", r->failures_n,
            r->failures_untold);
    for (unsigned i = 0; i < r->failures; i++) {
        const struct report_failure *x = &r->failure[i];
        fprintf(f, "%s\n{\"count\":%" PRIu64 ",\"cpu\":%u,\"retired\":%" PRIu64 ",\"text\":", i ? "," : "",
                x->count, x->cpu, x->retired);
        string(f, x->text);
        fputs("}", f);
    }
    fputs("],\n", f);
}

// The pages with the most violations; of as many the lower address.
static void pages(const struct report *r, FILE *f)
{
    u64 most = UINT64_MAX, at = 0;
    unsigned told = 0;
    fprintf(f, "\"violations\":%" PRIu64 ",\"pages\":%" PRIu64 ",\"violations_untold\":%" PRIu64 ",\"ept\":[",
            r->violations, r->pages, r->violations_untold);
    while (told < REPORT_PAGES_TOLD) {
        const struct report_page *best = NULL;
        for (u64 i = 0; i < REPORT_PAGES; i++) {
            const struct report_page *p = &r->page[i];
            if (!p->page || p->count > most || (p->count == most && p->page <= at)) continue;
            if (!best || p->count > best->count || (p->count == best->count && p->page < best->page))
                best = p;
        }
        if (!best) break;
        most = best->count, at = best->page;
        fprintf(f, "%s\n[\"%" PRIx64 "\",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%" PRIu64 "]", told++ ? "," : "",
                (best->page - 1) << PAGE_SHIFT, best->count, best->read, best->write, best->fetch);
    }
    fputs("],\n", f);
}

static void flame(const struct report *r, FILE *f)
{
    fprintf(f, "\"samples\":%" PRIu64 ",\"every\":%" PRIu64 ",\"cut\":%" PRIu64 ",\"flame\":[", r->samples,
            r->sample_every, r->samples_cut);
    for (u32 i = 0; i < r->nodes; i++) {
        const struct report_node *n = &r->node[i];
        char label[64];
        if (i == 0)
            snprintf(label, sizeof label, "all");
        else if (n->label == REPORT_LABEL_UNKNOWN)
            snprintf(label, sizeof label, "(no symbol)");
        else if (n->label == REPORT_LABEL_BEFORE)
            snprintf(label, sizeof label, "before the first VM entry");
        else if (n->label >= REPORT_LABEL_GUEST)
            snprintf(label, sizeof label, "guest %#llx",
                     (unsigned long long)r->guest[n->label - REPORT_LABEL_GUEST].vmcs);
        else
            snprintf(label, sizeof label, "handler of %s", vmx_exit_reason_name(n->label));
        fprintf(f, "%s\n[%u,%" PRIu64 ",", i ? "," : "", n->parent, n->weight);
        string(f, n->symbol ? n->symbol->name : label);
        fputs("]", f);
    }
    fputs("],\n", f);
}

static void missing(const struct report *r, FILE *f)
{
    const char *comma = "";
    fputs("\"missing\":[", f);
    for (unsigned c = 0; c < r->m->cpus_n; c++) {
        const struct vcpu *v = r->m->cpu[c];
        for (unsigned i = 0; i < v->unimplemented_n; i++) {
            fprintf(f, "%s\n{\"cpu\":%u,\"name\":", comma, c);
            string(f, v->unimplemented[i].name);
            fprintf(f, ",\"count\":%" PRIu64 ",\"last\":\"%#" PRIx64 "\"}", v->unimplemented[i].count,
                    v->unimplemented[i].detail);
            comma = ",";
        }
    }
    fputs("]", f);
}

void report_data(const struct report *r, FILE *f, u64 retired, int argc, char **argv)
{
    fputs("{", f);
    run(r, f, retired, argc, argv);
    reasons(r, f);
    timeline(r, f);
    exits(r, f);
    failures(r, f);
    pages(r, f);
    flame(r, f);
    missing(r, f);
    fputs("}\n", f);
}

// --explain-entry. For a person a failure that repeats itself is told once and counted; for a program each
// one is an object in a line of its own.
#include "frontend/explain.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "vmx/explain.h"
#include "vmx/state.h"

static void put(void *opaque, const char *text) { fputs(text, opaque); }

static void upper(char *out, size_t n, const char *name) // "vmptrld": the manual's VMPTRLD
{
    size_t i = 0;
    for (; name[i] && i + 1 < n; i++) out[i] = (char)toupper((u8)name[i]);
    out[i] = 0;
}

static void instruction(char *out, size_t n, const struct trace_event *e)
{
    if (e->kind == TRACE_REFUSED)
        upper(out, n, e->refused->instruction);
    else
        snprintf(out, n, "%s", e->entry->launch ? "VMLAUNCH" : "VMRESUME");
}

static void tell_again(struct explain *x)
{
    if (x->again)
        fprintf(x->out, "(the same again, %" PRIu64 " time%s)\n", x->again, x->again == 1 ? "" : "s");
    x->again = 0;
}

static void in_words(struct explain *x, const struct trace_event *e)
{
    char *text = NULL, name[24];
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return;
    instruction(name, sizeof name, e);
    fprintf(f, "rip=%#" PRIx64, e->rip);
    if (e->vmcs != VMX_NO_POINTER) fprintf(f, " vmcs=%#" PRIx64, e->vmcs);
    fputs(": ", f);
    if (e->kind == TRACE_REFUSED) {
        vmx_refused_outcome(e->refused, put, f);
        fputc('\n', f);
        vmx_explain_refusal(e->refused, put, f);
    } else {
        if (e->fail == UINT32_MAX)
            fprintf(f, "exit %u, qualification %" PRIu64 "\n", e->reason & 0xFFFF, e->qualification);
        else
            fprintf(f, e->fail ? "VM-instruction error %u\n" : "VMfailInvalid\n", e->fail);
        vmx_explain_entry(e->entry, e->check, put, f);
    }
    fclose(f);
    if (x->last && strcmp(x->last, text) == 0) {
        x->again++;
        free(text);
        return;
    }
    tell_again(x);
    fprintf(x->out, "%s failed: cpu=%u retired=%" PRIu64 " %s", name, e->cpu, e->retired, text);
    fflush(x->out);
    free(x->last);
    x->last = text;
}

static void as_json(struct explain *x, const struct trace_event *e)
{
    char name[24];
    bool entry = e->kind == TRACE_ENTRY_FAILED;
    instruction(name, sizeof name, e);
    fprintf(x->out,
            "{\"event\": \"%s\", \"instruction\": \"%s\", \"cpu\": %u, \"retired\": %" PRIu64
            ", \"rip\": \"%#" PRIx64 "\", ",
            entry ? "vm-entry-failed" : "vmx-instruction-failed", name, e->cpu, e->retired, e->rip);
    if (e->vmcs != VMX_NO_POINTER) fprintf(x->out, "\"vmcs\": \"%#" PRIx64 "\", ", e->vmcs);
    if (!entry) {
        vmx_explain_refusal_json(e->refused, put, x->out);
    } else {
        if (e->fail == UINT32_MAX)
            fprintf(x->out, "\"outcome\": \"exit\", \"number\": %u, \"qualification\": %" PRIu64 ", ",
                    e->reason & 0xFFFF, e->qualification);
        else if (e->fail)
            fprintf(x->out, "\"outcome\": \"VMfailValid\", \"number\": %u, ", e->fail);
        else
            fputs("\"outcome\": \"VMfailInvalid\", ", x->out);
        vmx_explain_entry_json(e->entry, e->check, put, x->out);
    }
    fputs("}\n", x->out);
    fflush(x->out);
}

static void event(void *opaque, const struct trace_event *e)
{
    struct explain *x = opaque;
    if (x->json)
        as_json(x, e);
    else
        in_words(x, e);
}

bool explain_open(struct explain *x, const struct options *o, FILE *out, struct trace *t, char *why, size_t n)
{
    memset(x, 0, sizeof *x);
    if (o->explain == EXPLAIN_NOTHING) return true;
    x->out = out;
    x->json = o->explain == EXPLAIN_JSON;
    if (o->explain_file) {
        x->out = fopen(o->explain_file, "w");
        if (!x->out) {
            snprintf(why, n, "cannot write %s: %s", o->explain_file, strerror(errno));
            return false;
        }
        x->own = true;
    }
    trace_add(t, &(struct trace_sink){event, x, 1 << TRACE_ENTRY_FAILED | 1 << TRACE_REFUSED});
    return true;
}

bool explain_close(struct explain *x)
{
    if (!x->out) return true;
    tell_again(x);
    free(x->last);
    bool ok = !x->own || !ferror(x->out);
    if (x->own && fclose(x->out) != 0) ok = false;
    x->out = NULL;
    return ok;
}

// The line of an event.
#include "frontend/event_text.h"

#include <inttypes.h>

#include "vmx/checks.h"
#include "vmx/exit_reason.h"
#include "vmx/refusals.h"

static const char *walk_kind(const struct trace_event *e)
{
    return e->type == ACC_FETCH ? "fetch" : e->write ? "write" : "read";
}

// The first violated check decides what the entry does; a person wants to know all of them at once.
static void also_violated(FILE *f, const struct trace_event *e)
{
    struct vmx_check_failure all[64];
    unsigned n = vmx_doctor(e->entry, all, ARRAY_LEN(all));
    if (n < 2) return;
    fputs("\n  also violated:", f);
    for (unsigned i = 0; i < n && i < ARRAY_LEN(all); i++)
        if (all[i].check != e->check->check) fprintf(f, " %s", all[i].id);
    if (n > ARRAY_LEN(all)) fprintf(f, " and %u more", n - (unsigned)ARRAY_LEN(all));
}

static void put_line(void *opaque, const char *text) { fputs(text, opaque); }

const char *event_vector_name(unsigned n)
{
    static const char *const name[32] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM",
                                         "#DF", "9",   "#TS", "#NP", "#SS", "#GP", "#PF", "15",
                                         "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};
    return n < 32 && name[n] ? name[n] : "?";
}

const char *event_kind_name(enum trace_kind k)
{
    static const char *const name[TRACE_KINDS] = {
        "vmentry",  "vmexit",      "vmentry-failed", "fault", "interrupt", "io", "msr",    "unimplemented",
        "shutdown", "vmx-refused", "misuse",         "stale", "walk",      "cr", "vmwrite"};
    return name[k];
}

bool event_symbol(const struct trace_event *e, const struct symbols *symbols, char *text, size_t size)
{
    struct symbols_of of = {e->guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, e->vmcs};
    *text = 0;
    return symbols->files && symbols_text(symbols, of, e->rip, text, size);
}

void event_text(FILE *f, const struct trace_event *e, u64 ns, const struct symbols *symbols)
{
    char name[256];
    fprintf(f, "%s cpu=%u retired=%" PRIu64, event_kind_name(e->kind), e->cpu, e->retired);
    if (ns != EVENT_NO_TIME) fprintf(f, " t=%" PRIu64, ns);
    fprintf(f, " rip=%#" PRIx64, e->rip);
    if (event_symbol(e, symbols, name, sizeof name)) fprintf(f, " in=%s", name);
    if (e->vmcs != VMX_NO_POINTER && e->kind <= TRACE_ENTRY_FAILED) fprintf(f, " vmcs=%#" PRIx64, e->vmcs);
    switch (e->kind) {
    case TRACE_ENTRY:
        if (e->intr_info >> 31) fprintf(f, " inject=%#x", e->intr_info);
        break;
    case TRACE_EXIT:
        fprintf(f, " reason=%s", vmx_exit_reason_name(e->reason & 0xFFFF));
        if (e->reason >> 31) fprintf(f, " entry-failure=1");
        fprintf(f, " qual=%#" PRIx64, e->qualification);
        if (e->insn_len_valid) fprintf(f, " len=%u", e->insn_len);
        if (e->gpa_valid) fprintf(f, " gpa=%#" PRIx64, e->gpa);
        if (e->gla_valid) fprintf(f, " gla=%#" PRIx64, e->gla);
        if (e->intr_info >> 31) fprintf(f, " info=%#x vector=%u", e->intr_info, e->intr_info & 255);
        if (e->original_event >> 31) fprintf(f, " vectoring=%#x", e->original_event);
        break;
    case TRACE_ENTRY_FAILED:
        if (e->fail == UINT32_MAX)
            fprintf(f, " exit=%u qual=%#" PRIx64, e->reason & 0xFFFF, e->qualification);
        else if (e->fail == 0)
            fprintf(f, " VMfailInvalid");
        else
            fprintf(f, " VM-instruction-error=%u", e->fail);
        if (e->name) fprintf(f, " violated=%s", e->name);
        if (e->check && e->entry) {
            fputs("\n  ", f);
            vmx_check_describe(e->entry, e->check, put_line, f);
            also_violated(f, e);
        }
        break;
    case TRACE_REFUSED:
        fprintf(f, " insn=%s\n  ", e->refused->instruction);
        vmx_refused_describe(e->refused, put_line, f);
        break;
    case TRACE_FAULT:
        fprintf(f, " vector=%u(%s)", e->vector, event_vector_name(e->vector));
        if (e->has_error) fprintf(f, " error=%#x", e->error);
        if (e->vector == VEC_PF) fprintf(f, " cr2=%#" PRIx64, e->addr);
        break;
    case TRACE_INTERRUPT: fprintf(f, " vector=%u type=%u", e->vector, e->type); break;
    case TRACE_IO:
        fprintf(f, " %s port=%#" PRIx64 " size=%u value=%#" PRIx64, e->write ? "out" : "in", e->addr, e->size,
                e->value);
        break;
    case TRACE_MSR:
        fprintf(f, " %s msr=%#" PRIx64, e->write ? "wrmsr" : "rdmsr", e->addr);
        if (e->write || !e->has_error) fprintf(f, " value=%#" PRIx64, e->value);
        if (e->has_error) fprintf(f, " refused=1");
        break;
    case TRACE_WALK:
        fprintf(f, " %s linear=%#" PRIx64, walk_kind(e), e->addr);
        if (e->name)
            fprintf(f, " failed=%s", e->name);
        else
            fprintf(f, " physical=%#" PRIx64 " size=%" PRIu64, e->value, (u64)1 << e->size);
        if (e->gpa_valid) fprintf(f, " gpa=%#" PRIx64, e->gpa);
        break;
    case TRACE_UNIMPLEMENTED: fprintf(f, " name=\"%s\" detail=%#" PRIx64, e->name, e->addr); break;
    case TRACE_MISUSE:
        fprintf(f, " name=\"%s\" address=%#" PRIx64 " other-cpu=%" PRIu64, e->name, e->addr, e->value);
        break;
    case TRACE_STALE:
        fprintf(f, " linear=%#" PRIx64 " kept=%#" PRIx64 " memory=\"%s\"", e->addr, e->value, e->name);
        break;
    case TRACE_SHUTDOWN: fprintf(f, " why=\"%s\"", e->name); break;
    }
    fputc('\n', f);
}

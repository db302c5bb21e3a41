// The human log, the register dump and the statistics.
//
// A line is "KIND cpu=N retired=N key=value ...": retired counts the instructions before the event, and names
// the instant in every run of the same machine.
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "frontend/log.h"
#include "cpu/engine/engine.h"
#include "devices/machine.h"
#include "vmx/checks.h"
#include "vmx/control.h"
#include "vmx/refusals.h"

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

static const char *vector_name(unsigned n)
{
    static const char *const name[32] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM",
                                         "#DF", "9",   "#TS", "#NP", "#SS", "#GP", "#PF", "15",
                                         "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};
    return n < 32 && name[n] ? name[n] : "?";
}

static void log_event(void *opaque, const struct trace_event *e)
{
    struct log *l = opaque;
    FILE *f = l->out;
    static const char *const kind[TRACE_KINDS] = {
        "vmentry",     "vmexit",        "vmentry-failed", "fault",       "interrupt", "io",
        "msr-unknown", "unimplemented", "shutdown",       "vmx-refused", "misuse",    "stale"};
    fprintf(f, "%s cpu=%u retired=%" PRIu64 " rip=%#" PRIx64, kind[e->kind], e->cpu, e->retired, e->rip);
    if (l->symbols->files) {
        char name[256];
        struct symbols_of of = {e->guest ? SYMBOLS_GUEST : SYMBOLS_ROOT, e->vmcs};
        if (symbols_text(l->symbols, of, e->rip, name, sizeof name)) fprintf(f, " in=%s", name);
    }
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
        fprintf(f, " vector=%u(%s)", e->vector, vector_name(e->vector));
        if (e->has_error) fprintf(f, " error=%#x", e->error);
        if (e->vector == VEC_PF) fprintf(f, " cr2=%#" PRIx64, e->addr);
        break;
    case TRACE_INTERRUPT: fprintf(f, " vector=%u type=%u", e->vector, e->type); break;
    case TRACE_IO:
        fprintf(f, " %s port=%#" PRIx64 " size=%u value=%#" PRIx64, e->write ? "out" : "in", e->addr, e->size,
                e->value);
        break;
    case TRACE_MSR_UNKNOWN: fprintf(f, " %s msr=%#" PRIx64, e->write ? "wrmsr" : "rdmsr", e->addr); break;
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
    l->lines++;
}

bool log_open(struct log *l, const struct options *o, struct machine *m, const struct symbols *symbols,
              char *why, size_t n)
{
    // clang-format off
    static const struct { u32 item, kinds; } map[] = {
        {LOG_VMX, 1 << TRACE_ENTRY | 1 << TRACE_EXIT | 1 << TRACE_ENTRY_FAILED | 1 << TRACE_REFUSED | 1 << TRACE_MISUSE | 1 << TRACE_STALE}, {LOG_FAULT, 1 << TRACE_FAULT | 1 << TRACE_SHUTDOWN},
        {LOG_INTERRUPT, 1 << TRACE_INTERRUPT}, {LOG_IO, 1 << TRACE_IO}, {LOG_MSR, 1 << TRACE_MSR_UNKNOWN},
        {LOG_UNIMPLEMENTED, 1 << TRACE_UNIMPLEMENTED}};
    // clang-format on
    memset(l, 0, sizeof *l);
    l->out = stderr;
    l->symbols = symbols;
    if (o->log_file) { // without -d too: a path that cannot be written is said at once
        l->out = fopen(o->log_file, "w");
        if (!l->out) {
            snprintf(why, n, "cannot write %s: %s", o->log_file, strerror(errno));
            return false;
        }
    }
    if (!explain_open(&l->explain, o, l->out, &l->trace, why, n)) return false;
    if (!o->log_mask && !l->trace.n) return true;
    struct trace_sink s = {.event = log_event, .opaque = l};
    for (unsigned i = 0; i < ARRAY_LEN(map); i++)
        if (o->log_mask & map[i].item) s.mask |= map[i].kinds;
    if (s.mask) trace_add(&l->trace, &s);
    for (unsigned i = 0; i < m->cpus_n; i++) m->cpu[i]->trace = &l->trace;
    return true;
}

bool log_close(struct log *l)
{
    bool ok = true;
    l->explained = explain_close(&l->explain);
    if (l->out && l->out != stderr) {
        ok = !ferror(l->out);
        if (fclose(l->out) != 0) ok = false;
    }
    l->out = NULL;
    return ok;
}

static void cpu_registers(FILE *f, const struct vcpu *v)
{
    static const char *const g[16] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                      "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const s[SEG_COUNT] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};
    const struct vcpu_state *st = &v->s;
    for (unsigned i = 0; i < 16; i++)
        fprintf(f, "%s=%016" PRIx64 "%s", g[i], st->gpr[i], i % 4 == 3 ? "\n" : " ");
    fprintf(f, "RIP=%016" PRIx64 " RFLAGS=%08" PRIx64 " CPL=%u %s\n", st->rip, cpu_rflags(v), v->d.cpl,
            st->vmx.guest ? "VMX non-root"
            : st->vmx.on  ? "VMX root"
                          : "");
    for (unsigned i = 0; i < SEG_COUNT; i++)
        fprintf(f, "%-4s=%04x base=%016" PRIx64 " limit=%08x ar=%05x\n", s[i], st->seg[i].sel,
                st->seg[i].base, st->seg[i].limit, st->seg[i].ar);
    fprintf(f, "GDT=%016" PRIx64 " limit=%04x IDT=%016" PRIx64 " limit=%04x\n", st->gdtr.base, st->gdtr.limit,
            st->idtr.base, st->idtr.limit);
    fprintf(f,
            "CR0=%08" PRIx64 " CR2=%016" PRIx64 " CR3=%016" PRIx64 " CR4=%08" PRIx64 " EFER=%04" PRIx64 "\n",
            st->cr0, st->cr2, st->cr3, st->cr4, st->msr.efer);
}

void log_registers(FILE *f, const struct machine *m)
{
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (m->cpus_n > 1) fprintf(f, "cpu=%u\n", i);
        cpu_registers(f, m->cpu[i]);
    }
}

static void cpu_statistics(FILE *f, const struct vcpu *v, double seconds)
{
    u64 n = cpu_retired(v), exits = 0;
    fprintf(f, "instructions %" PRIu64 ", %.1f million a second; virtual time %.3f s\n", n,
            seconds > 0 ? (double)n / seconds / 1e6 : 0, (double)cpu_vtime(v) / CPU_TSC_HZ);
    const struct engine *g = v->d.engine;
    fprintf(f,
            "blocks decoded %" PRIu64 ", dropped %" PRIu64 ", looked up %" PRIu64 "; links made %" PRIu64
            "; cache emptied %" PRIu64 " times\n",
            g->blocks_built, g->blocks_dropped, g->lookups, g->links, g->flushes);
    if (v->vmx) {
        for (unsigned i = 0; i < EXIT_REASON_COUNT; i++) exits += v->vmx->exits[i];
        fprintf(f, "VM entries %" PRIu64 ", entry failures %" PRIu64 ", VM exits %" PRIu64 "\n",
                v->vmx->entries, v->vmx->entry_failures, exits);
        for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
            if (v->vmx->exits[i])
                fprintf(f, "  %-28s %" PRIu64 "\n", vmx_exit_reason_name(i), v->vmx->exits[i]);
    }
    if (v->stale_uses)
        fprintf(f, "stale translations used %" PRIu64 " times or more (-d vmx names them)\n", v->stale_uses);
    for (unsigned i = 0; i < v->unimplemented_n; i++)
        fprintf(f, "unimplemented: %s, %" PRIu64 " times, last %#" PRIx64 "\n", v->unimplemented[i].name,
                v->unimplemented[i].count, v->unimplemented[i].detail);
}

void log_statistics(FILE *f, const struct machine *m, double seconds)
{
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (m->cpus_n > 1) fprintf(f, "cpu=%u\n", i);
        cpu_statistics(f, m->cpu[i], seconds);
    }
}

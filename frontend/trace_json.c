#include "frontend/trace_json.h"

#include <stdlib.h>

#include "frontend/event_text.h"
#include "frontend/json_text.h"
#include "vmx/checks.h"
#include "vmx/exit_reason.h"
#include "vmx/refusals.h"

enum { TEXT = 8192, KEPT = 32, WINDOW = 1000000 }; // bytes; bytes that close what was cut; nanoseconds

static struct json_text text_in(char *buf) { return (struct json_text){buf, buf + TEXT - KEPT}; }
static unsigned process(unsigned cpu) { return cpu + 1; }
static unsigned thread(unsigned cpu, bool guest) { return (cpu + 1) * 10 + (guest ? 2 : 1); }

static void put(struct trace_json *t, const char *from, const struct json_text *to)
{
    fputs(t->events++ ? ",\n" : "\n", t->out);
    fwrite(from, 1, (size_t)(to->at - from), t->out);
}

static void head(struct json_text *to, const char *phase, unsigned cpu, bool guest, u64 ns)
{
    json_raw(to, "{\"ph\":\"");
    json_raw(to, phase);
    json_raw(to, "\",\"pid\":");
    json_decimal(to, process(cpu));
    json_raw(to, ",\"tid\":");
    json_decimal(to, thread(cpu, guest));
    json_raw(to, ",\"ts\":");
    json_us(to, ns);
}

static void hex(struct json_text *to, const char *key, u64 x)
{
    json_key(to, key);
    json_hex(to, x);
}
static void decimal(struct json_text *to, const char *key, u64 x)
{
    json_key(to, key);
    json_decimal(to, x);
}
static void string(struct json_text *to, const char *key, const char *s)
{
    json_key(to, key);
    json_string(to, s);
}

// ---- tracks ----
static void name_track(struct trace_json *t, unsigned cpu, bool guest, const char *what, const char *name)
{
    char buf[TEXT];
    struct json_text to = text_in(buf);
    head(&to, "M", cpu, guest, 0);
    string(&to, "name", what);
    json_raw(&to, ",\"args\":{");
    string(&to, "name", name);
    json_raw(&to, "}}");
    put(t, buf, &to);
}

static struct trace_json_cpu *cpu_of(struct trace_json *t, unsigned cpu)
{
    struct trace_json_cpu *c = &t->cpu[cpu];
    if (c->named) return c;
    char name[32];
    snprintf(name, sizeof name, "CPU %u", cpu);
    name_track(t, cpu, false, "process_name", name);
    if (t->filter->root) name_track(t, cpu, false, "thread_name", "VMX root: handlers");
    if (t->filter->guest) name_track(t, cpu, true, "thread_name", "VMX non-root: guests");
    c->named = true;
    c->about = malloc(TEXT);
    return c;
}

// ---- counters ----
static void counter(struct trace_json *t, unsigned cpu, u64 ns, const char *name, const char *const key[2],
                    const u64 value[2])
{
    char buf[TEXT];
    struct json_text to = text_in(buf);
    head(&to, "C", cpu, false, ns);
    string(&to, "name", name);
    json_raw(&to, ",\"args\":{");
    for (unsigned i = 0; i < 2 && key[i]; i++) decimal(&to, key[i], value[i]);
    json_raw(&to, "}}");
    put(t, buf, &to);
}

static void count(struct trace_json *t, unsigned cpu, u64 ns, u64 least)
{
    static const char *const levels[2] = {"root", "guest"}, *const one[2] = {"exits"};
    struct trace_json_cpu *c = &t->cpu[cpu];
    if (!(t->filter->kinds >> TRACE_EXIT & 1) || ns < c->counted_ns + least || ns == c->counted_ns) return;
    u64 rate[2], span = ns - c->counted_ns;
    for (unsigned i = 0; i < 2; i++)
        rate[i] = (u64)((unsigned __int128)c->instructions[i] * 1000000000 / span);
    counter(t, cpu, c->counted_ns, "instructions a second", levels, rate);
    rate[0] = (u64)((unsigned __int128)c->exits * 1000000000 / span), rate[1] = 0;
    counter(t, cpu, c->counted_ns, "exits a second", one, rate);
    c->counted_ns = ns;
    c->exits = c->instructions[0] = c->instructions[1] = 0;
}

// ---- slices ----
static void where(struct trace_json *t, struct json_text *to, const struct trace_event *e)
{
    char name[256];
    hex(to, "rip", e->rip);
    if (event_symbol(e, t->symbols, name, sizeof name)) string(to, "in", name);
}

static void close_slice(struct trace_json *t, unsigned cpu, u64 ns, u64 retired, const char *ended_by)
{
    struct trace_json_cpu *c = &t->cpu[cpu];
    if (!c->open) return;
    u64 n = retired > c->retired ? retired - c->retired : 0; // a reset counts anew
    c->open = false;
    c->instructions[c->guest] += n;
    if (!c->wanted || !c->about) return;
    char buf[TEXT];
    struct json_text to = text_in(buf);
    head(&to, "X", cpu, c->guest, c->ns);
    json_raw(&to, ",\"dur\":");
    json_us(&to, ns > c->ns ? ns - c->ns : 0);
    json_raw(&to, ",");
    json_raw(&to, c->about);
    if (ended_by) string(&to, "exit", ended_by);
    decimal(&to, "instructions", n);
    json_raw(&to, "}}");
    put(t, buf, &to);
}

static void open_slice(struct trace_json_cpu *c, const struct trace_event *e, u64 ns, bool guest, bool wanted)
{
    c->open = true;
    c->guest = guest;
    c->wanted = wanted;
    c->ns = ns;
    c->retired = e->retired;
}

static void entry(struct trace_json *t, const struct trace_event *e, u64 ns)
{
    struct trace_json_cpu *c = cpu_of(t, e->cpu);
    if (!c->open && !c->counted_ns) c->counted_ns = ns; // the first
    close_slice(t, e->cpu, ns, e->retired, NULL);
    count(t, e->cpu, ns, WINDOW);
    open_slice(c, e, ns, true, t->filter->guest);
    if (!c->about || !c->wanted) return;
    struct json_text to = {c->about, c->about + TEXT / 2};
    char name[48];
    snprintf(name, sizeof name, "guest %#llx", (unsigned long long)e->vmcs);
    json_raw(&to, "\"name\":");
    json_string(&to, name);
    json_raw(&to, ",\"args\":{");
    where(t, &to, e);
    hex(&to, "cr3", e->cr3);
    if (e->intr_info >> 31) {
        hex(&to, "inject", e->intr_info);
        if (e->intr_info & BIT(11)) hex(&to, "inject-error", e->error);
    }
    decimal(&to, "retired", e->retired);
    *to.at = 0;
}

static void exit_information(struct trace_json *t, struct json_text *to, const struct trace_event *e)
{
    hex(to, "qualification", e->qualification);
    where(t, to, e);
    hex(to, "cr3", e->cr3);
    hex(to, "vmcs", e->vmcs);
    if (e->insn_len_valid) decimal(to, "length", e->insn_len);
    if (e->insn_info_valid) hex(to, "instruction-information", e->insn_info);
    if (e->gla_valid) hex(to, "guest-linear", e->gla);
    if (e->gpa_valid) hex(to, "guest-physical", e->gpa);
    if (e->intr_info >> 31) {
        hex(to, "interruption", e->intr_info);
        decimal(to, "vector", e->intr_info & 255);
        if (e->has_error) hex(to, "error-code", e->error);
    }
    if (e->original_event >> 31) hex(to, "vectoring", e->original_event);
    decimal(to, "retired", e->retired);
}

static void exited(struct trace_json *t, const struct trace_event *e, u64 ns)
{
    struct trace_json_cpu *c = cpu_of(t, e->cpu);
    const char *reason = vmx_exit_reason_name(e->reason & 0xFFFF);
    bool wanted = trace_filter_reason(t->filter, e->reason);
    c->exits++;
    c->wanted = c->wanted && wanted;
    close_slice(t, e->cpu, ns, e->retired, reason);
    count(t, e->cpu, ns, WINDOW);
    open_slice(c, e, ns, false, wanted && t->filter->root);
    if (!c->about || !c->wanted) return;
    struct json_text to = {c->about, c->about + TEXT / 2};
    json_raw(&to, "\"name\":");
    json_string(&to, reason);
    json_raw(&to, ",\"args\":{");
    exit_information(t, &to, e);
    *to.at = 0;
}

// ---- instants ----
static void failed_entry(struct trace_json *t, struct json_text *to, const struct trace_event *e)
{
    struct vmx_check_failure all[16];
    where(t, to, e);
    hex(to, "vmcs", e->vmcs);
    if (e->fail == UINT32_MAX) {
        string(to, "exit", vmx_exit_reason_name(e->reason & 0xFFFF));
        hex(to, "qualification", e->qualification);
    } else
        decimal(to, "VM-instruction error", e->fail);
    if (e->check) string(to, "violated", e->check->id);
    unsigned n = e->check && e->entry ? vmx_doctor(e->entry, all, ARRAY_LEN(all)) : 0, others = 0;
    for (unsigned i = 0; i < n && i < ARRAY_LEN(all); i++) {
        if (all[i].check == e->check->check) continue;
        json_raw(to, others++ ? "," : ",\"also violated\":[");
        json_string(to, all[i].id);
    }
    if (others) json_raw(to, "]");
    if (e->check && e->check->check) string(to, "rule", e->check->check->words);
}

static void name_of(const struct trace_event *e, char *name, size_t n)
{
    switch (e->kind) {
    case TRACE_ENTRY_FAILED: snprintf(name, n, "VM entry failed"); break;
    case TRACE_REFUSED: snprintf(name, n, "%s failed", e->refused->instruction); break;
    case TRACE_FAULT:
        if (event_vector_name(e->vector)[0] == '#')
            snprintf(name, n, "%s", event_vector_name(e->vector));
        else
            snprintf(name, n, "exception %u", e->vector);
        break;
    case TRACE_INTERRUPT:
        if (e->vector == VEC_NMI && e->type == EVT_NMI)
            snprintf(name, n, "NMI");
        else
            snprintf(name, n, "interrupt %u", e->vector);
        break;
    case TRACE_IO: snprintf(name, n, "%s %#llx", e->write ? "out" : "in", (unsigned long long)e->addr); break;
    case TRACE_MSR:
        snprintf(name, n, "%s %#llx", e->write ? "wrmsr" : "rdmsr", (unsigned long long)e->addr);
        break;
    case TRACE_UNIMPLEMENTED: snprintf(name, n, "unimplemented: %s", e->name); break;
    default: snprintf(name, n, "%s", event_kind_name(e->kind)); break;
    }
}

static void arguments(struct trace_json *t, struct json_text *to, const struct trace_event *e)
{
    if (e->kind == TRACE_ENTRY_FAILED) {
        failed_entry(t, to, e);
        return;
    }
    where(t, to, e);
    switch (e->kind) {
    case TRACE_REFUSED:
        string(to, "violated", e->refused->row->id);
        string(to, "rule", e->refused->row->words);
        break;
    case TRACE_FAULT:
        if (e->has_error) hex(to, "error-code", e->error);
        if (e->vector == VEC_PF) hex(to, "cr2", e->addr);
        break;
    case TRACE_INTERRUPT: decimal(to, "type", e->type); break;
    case TRACE_IO:
        decimal(to, "size", e->size);
        hex(to, "value", e->value);
        break;
    case TRACE_MSR:
        if (e->write || !e->has_error) hex(to, "value", e->value);
        if (e->has_error) string(to, "outcome", "#GP");
        break;
    case TRACE_UNIMPLEMENTED: hex(to, "detail", e->addr); break;
    case TRACE_MISUSE:
        string(to, "what", e->name);
        hex(to, "address", e->addr);
        break;
    case TRACE_STALE:
        hex(to, "linear", e->addr);
        hex(to, "kept", e->value);
        string(to, "memory has", e->name);
        break;
    case TRACE_SHUTDOWN: string(to, "why", e->name); break;
    case TRACE_WALK:
        string(to, "access", e->type == ACC_FETCH ? "fetch" : e->write ? "write" : "read");
        hex(to, "linear", e->addr);
        if (e->name) string(to, "failed", e->name);
        if (e->gpa_valid) hex(to, "guest-physical", e->gpa);
        if (!e->name) hex(to, "physical", e->value);
        break;
    default: break;
    }
}

static void instant(struct trace_json *t, const struct trace_event *e, u64 ns)
{
    char buf[TEXT], name[128];
    struct json_text to = text_in(buf);
    if (!trace_filter_level(t->filter, e->guest)) return;
    cpu_of(t, e->cpu);
    name_of(e, name, sizeof name);
    head(&to, "i", e->cpu, e->guest, ns);
    json_raw(&to, e->kind == TRACE_SHUTDOWN ? ",\"s\":\"p\"" : ",\"s\":\"t\"");
    string(&to, "name", name);
    json_raw(&to, ",\"args\":{");
    arguments(t, &to, e);
    to.end += KEPT;
    json_raw(&to, "}}");
    put(t, buf, &to);
}

void trace_json_begin(struct trace_json *t) { fputs("[", t->out); }

void trace_json_event(struct trace_json *t, const struct trace_event *e, u64 ns)
{
    if (e->kind == TRACE_ENTRY)
        entry(t, e, ns);
    else if (e->kind == TRACE_EXIT)
        exited(t, e, ns);
    else
        instant(t, e, ns);
}

void trace_json_cpu_end(struct trace_json *t, unsigned cpu, u64 ns, u64 retired)
{
    if (!t->cpu[cpu].named) return;
    close_slice(t, cpu, ns, retired, NULL);
    count(t, cpu, ns, 0);
    free(t->cpu[cpu].about);
    t->cpu[cpu].about = NULL;
}

void trace_json_end(struct trace_json *t) { fputs("\n]\n", t->out); }

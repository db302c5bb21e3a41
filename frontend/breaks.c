#include "frontend/breaks.h"

#include <stdio.h>
#include <string.h>

#include "vmx/exit_reason.h"
#include "vmx/fields.h"

enum { GENERAL = 16 }; // the general registers come first
const char *const break_names[] = {"$rax",  "$rcx", "$rdx",   "$rbx",  "$rsp",    "$rbp",   "$rsi",
                                   "$rdi",  "$r8",  "$r9",    "$r10",  "$r11",    "$r12",   "$r13",
                                   "$r14",  "$r15", "rip",    "cr3",   "vmcs",    "reason", "qualification",
                                   "gpa",   "gla",  "vector", "error", "address", "value",  "size",
                                   "write", "info", "length", NULL};

static u64 ask(const struct vcpu *v, const struct trace_event *e, unsigned left)
{
    if (left < GENERAL) return v->s.gpr[left];
    switch (left - GENERAL) {
    case 0: return e->rip;
    case 1: return e->cr3;
    case 2: return e->vmcs;
    case 3: return e->reason;
    case 4: return e->qualification;
    case 5: return e->gpa;
    case 6: return e->gla;
    case 7: return e->kind == TRACE_EXIT ? e->intr_info & 255 : e->vector;
    case 8: return e->error;
    case 9: return e->addr;
    case 10: return e->value;
    case 11: return e->size;
    case 12: return e->write;
    case 13: return e->intr_info;
    default: return e->insn_len;
    }
}

static bool holds(const struct vcpu *v, const struct trace_event *e, const struct break_term *t)
{
    u64 x = ask(v, e, t->left) & t->mask;
    switch (t->relation) {
    case REL_ANY_BIT: return x != 0;
    case REL_EQUAL: return x == t->right;
    case REL_UNEQUAL: return x != t->right;
    case REL_BELOW: return x < t->right;
    case REL_ABOVE: return x > t->right;
    case REL_AT_MOST: return x <= t->right;
    default: return x >= t->right;
    }
}

static bool of_kind(const struct breakpoint *b, const struct trace_event *e)
{
    unsigned basic = e->reason & 0xFFFF;
    switch (b->kind) {
    case BREAK_ENTRY: return e->kind == TRACE_ENTRY;
    case BREAK_FAILED_ENTRY: return e->kind == TRACE_ENTRY_FAILED;
    case BREAK_EXIT: return e->kind == TRACE_EXIT && basic < 128 && b->exits[basic / 64] >> basic % 64 & 1;
    case BREAK_LEVEL: return e->kind == (b->level == STOP_GUEST ? TRACE_ENTRY : TRACE_EXIT);
    case BREAK_VECTOR:
        return (e->kind == TRACE_FAULT || e->kind == TRACE_INTERRUPT) && (b->any || e->vector == b->what);
    case BREAK_PORT: return e->kind == TRACE_IO && e->addr < b->what + b->size && e->addr + e->size > b->what;
    case BREAK_MSR: return e->kind == TRACE_MSR && (b->any || e->addr == b->what);
    case BREAK_CR: return e->kind == TRACE_CR && (b->any || e->addr == b->what);
    case BREAK_FIELD: return e->kind == TRACE_VMWRITE && (b->any || (e->addr & ~1ull) == b->what);
    default: return false;
    }
}

static bool level_is(const struct breakpoint *b, const struct trace_event *e)
{
    if (b->vmcs != VMX_NO_POINTER && b->vmcs != e->vmcs) return false;
    if (b->kind == BREAK_LEVEL || b->level == STOP_ANY_LEVEL) return true;
    return e->guest == (b->level == STOP_GUEST);
}

static bool meets(struct breakpoint *b, const struct vcpu *v, const struct trace_event *e)
{
    if (!level_is(b, e)) return false;
    for (unsigned i = 0; i < b->terms; i++)
        if (!holds(v, e, &b->term[i])) return false;
    return ++b->hits >= b->count;
}

int breaks_met(struct breaks *b, const struct vcpu *v, const struct trace_event *e)
{
    int met = -1;
    for (int i = 0; i < BREAKS_MAX; i++)
        if (of_kind(&b->b[i], e) && meets(&b->b[i], v, e) && met < 0) met = i;
    if (met >= 0) b->e = *e;
    return met;
}

int breaks_met_at(struct breaks *b, const struct vcpu *v, u8 kind, u64 what, u64 size,
                  const struct trace_event *e)
{
    int met = -1;
    for (int i = 0; i < BREAKS_MAX; i++) {
        struct breakpoint *p = &b->b[i];
        if (p->kind == kind && p->what == what && p->size == size && meets(p, v, e) && met < 0) met = i;
    }
    return met;
}

void breaks_derive(struct breaks *b)
{
    static const u32 of[] = {[BREAK_ENTRY] = 1 << TRACE_ENTRY,
                             [BREAK_FAILED_ENTRY] = 1 << TRACE_ENTRY_FAILED,
                             [BREAK_EXIT] = 1 << TRACE_EXIT,
                             [BREAK_LEVEL] = 1 << TRACE_ENTRY | 1 << TRACE_EXIT,
                             [BREAK_VECTOR] = 1 << TRACE_FAULT | 1 << TRACE_INTERRUPT,
                             [BREAK_PORT] = 1 << TRACE_IO,
                             [BREAK_MSR] = 1 << TRACE_MSR,
                             [BREAK_CR] = 1 << TRACE_CR,
                             [BREAK_FIELD] = 1 << TRACE_VMWRITE};
    b->mask = 0;
    for (unsigned i = 0; i < BREAKS_MAX; i++) b->mask |= of[b->b[i].kind];
}

void breaks_describe(const struct trace_event *e, char *to, size_t n)
{
    typedef unsigned long long ull;
    int field;
    switch (e->kind) {
    case TRACE_ENTRY: snprintf(to, n, "VM entry%s", e->intr_info >> 31 ? ", with an event" : ""); break;
    case TRACE_ENTRY_FAILED: snprintf(to, n, "VM entry failed (check says why)"); break;
    case TRACE_EXIT:
        snprintf(to, n, "VM exit %u (%s), qualification %#llx", e->reason & 0xFFFF,
                 vmx_exit_reason_name(e->reason & 0xFFFF), (ull)e->qualification);
        if (e->gpa_valid) snprintf(to + strlen(to), n - strlen(to), ", guest-physical %#llx", (ull)e->gpa);
        break;
    case TRACE_FAULT:
        snprintf(to, n, "exception %u at RIP %#llx", e->vector, (ull)e->rip);
        if (e->has_error) snprintf(to + strlen(to), n - strlen(to), ", error code %#x", e->error);
        break;
    case TRACE_INTERRUPT: snprintf(to, n, "interrupt %u at RIP %#llx", e->vector, (ull)e->rip); break;
    case TRACE_IO:
        snprintf(to, n, "%s port %#llx, %u bytes: %#llx", e->write ? "OUT to" : "IN from", (ull)e->addr,
                 e->size, (ull)e->value);
        break;
    case TRACE_MSR:
        snprintf(to, n, "%s %#llx: %#llx", e->write ? "WRMSR" : "RDMSR", (ull)e->addr, (ull)e->value);
        break;
    case TRACE_CR: snprintf(to, n, "CR%llu = %#llx", (ull)e->addr, (ull)e->value); break;
    case TRACE_VMWRITE:
        field = vmcs_field_find((u32)e->addr);
        snprintf(to, n, "VMWRITE %s = %#llx", field < 0 ? "?" : vmcs_field_rows[field].name, (ull)e->value);
        break;
    default: *to = 0;
    }
}

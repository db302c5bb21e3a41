// What a VMCS says.
#define _GNU_SOURCE
#include <ctype.h>
#include <string.h>

#include "frontend/monitor.h"
#include "vmx/control.h"
#include "vmx/exit_reason.h"
#include "vmx/explain.h"
#include "vmx/offence.h"

static void check(struct monitor *c, const struct words *w)
{
    struct vcpu *v = debugger_cpu(c->d);
    struct view host;
    struct vmx_entry e;
    const char *why;
    u64 vmcs;
    if (!argument_vmcs(c, w, 1, &vmcs)) return;
    if (!view_root(&host, v, vmcs, &why)) {
        fail(c, "check: %s\n", why);
        return;
    }
    const struct vmcs_region *r = vmcs_region_at(v->phys, vmcs);
    bool launch = r->launch_state == VMCS_LAUNCH_CLEAR;
    vmx_entry_fill(v, &e, r, launch);
    e.vmcs_pointer = vmcs;
    if (v->s.vmx.guest) { // the next entry is made from where the exit leads
        e.cr0 = host.cr0, e.cr3 = host.cr3, e.cr4 = host.cr4, e.efer = host.efer;
        e.rflags = 2, e.blocking = 0, e.cpl = 0;
    }
    json_hex(c, "vmcs", vmcs);
    json_text(c, "instruction", launch ? "VMLAUNCH" : "VMRESUME");
    json_raw(c, vmx_explain_entry_json, &e);
    say(c, "VMCS %#llx, as it stands, for %s:\n", (unsigned long long)vmcs, launch ? "VMLAUNCH" : "VMRESUME");
    vmx_explain_entry(&e, NULL, say_text, c);
}

// ---- a field in words ----
static void add(char *to, size_t n, const char *text)
{
    size_t at = strlen(to);
    snprintf(to + at, n - at, "%s%s", at ? ", " : "", text);
}

static void event_in_words(u64 x, char *to, size_t n)
{
    static const char *const types[] = {
        "external interrupt", "reserved",           "NMI",
        "hardware exception", "software interrupt", "privileged software exception",
        "software exception", "other event"};
    if (x >> 31 & 1)
        snprintf(to, n, "vector %u, %s%s", (unsigned)(x & 255), types[x >> 8 & 7],
                 x >> 11 & 1 ? ", with an error code" : "");
    else
        snprintf(to, n, "not valid");
}

static void rights_in_words(u64 x, char *to, size_t n)
{
    if (x >> 16 & 1) {
        snprintf(to, n, "unusable");
        return;
    }
    snprintf(to, n, "%s type %u, DPL %u%s%s%s%s", x >> 4 & 1 ? x >> 3 & 1 ? "code," : "data," : "system,",
             (unsigned)(x & 15), (unsigned)(x >> 5 & 3), x >> 7 & 1 ? ", present" : ", not present",
             x >> 13 & 1 ? ", 64-bit" : "", x >> 14 & 1 ? ", 32-bit" : "", x >> 15 & 1 ? ", pages" : "");
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

// What a value means beyond its number; empty: nothing.
static void in_words(const struct vmcs_field_row *f, u64 x, char *to, size_t n)
{
    static const char *const activities[] = {"active", "HLT", "shutdown", "wait for SIPI"};
    *to = 0;
    if (strcmp(f->name, "EXIT_REASON") == 0) {
        add(to, n, vmx_exit_reason_name(x & 0xFFFF));
        if (x >> 31 & 1) add(to, n, "entry failure");
    } else if (strcmp(f->name, "GUEST_ACTIVITY_STATE") == 0)
        add(to, n, x < 4 ? activities[x] : "reserved");
    else if (ends_in(f->name, "_ACCESS_RIGHTS"))
        rights_in_words(x, to, n);
    else if (ends_in(f->name, "_EVENT_IDENTIFICATION"))
        event_in_words(x, to, n);
    else if (strcmp(f->name, "EPTP") == 0 && x) {
        snprintf(to, n, "tables at %#llx, %s, %u levels%s", (unsigned long long)(x & PAGE_MASK),
                 (x & 7) == 6 ? "WB"
                 : (x & 7)    ? "reserved type"
                              : "UC",
                 (unsigned)(x >> 3 & 7) + 1, x >> 6 & 1 ? ", accessed and dirty flags" : "");
    } else
        for (unsigned b = 0; b < f->size * 8u; b++) {
            const char *name = x >> b & 1 ? vmx_bit_name(f->name, b) : NULL;
            if (name && strcmp(name, "reserved") != 0) add(to, n, name); // most of those have to be 1
        }
}

static bool named(const struct vmcs_field_row *f, const char *part)
{
    return strcasestr(f->name, part) != NULL || strcasestr(f->text, part) != NULL;
}

static void tell_field(struct monitor *c, const struct vmcs_field_row *f, u64 x)
{
    char words[1024];
    in_words(f, x, words, sizeof words);
    json_open(c, NULL, '{');
    json_text(c, "field", f->name);
    json_hex(c, "encoding", f->encoding);
    json_hex(c, "value", x);
    if (*words) json_text(c, "words", words);
    json_close(c);
    say(c, "  %04x %-44s %#llx%s%s%s\n", f->encoding, f->name, (unsigned long long)x, *words ? " (" : "",
        words, *words ? ")" : "");
}

static void vmcs(struct monitor *c, const struct words *w)
{
    static const char *const areas[] = {"controls", "exit information", "guest state", "host state"};
    struct vcpu *v = debugger_cpu(c->d);
    u64 at = v->s.vmx.vmcs_pointer;
    unsigned n = 1, shown = 0;
    if (w->n > 1 && (isdigit((u8)w->at[1][0]) || w->at[1][0] == '$') &&
        !argument_address(c, w, n++, "the physical address of a VMCS", &at))
        return;
    struct view view;
    const char *why, *pattern = word(w, n);
    if (!view_root(&view, v, at, &why)) {
        fail(c, "vmcs: %s\n", why);
        return;
    }
    const struct vmcs_region *r = vmcs_region_at(v->phys, at);
    bool launched = r->launch_state == VMCS_LAUNCH_LAUNCHED;
    json_hex(c, "vmcs", at);
    json_flag(c, "current", at == v->s.vmx.vmcs_pointer);
    json_flag(c, "shadow", r->revision & VMCS_SHADOW);
    json_flag(c, "launched", launched);
    json_open(c, "fields", '[');
    say(c, "VMCS %#llx%s%s, %s\n", (unsigned long long)at, at == v->s.vmx.vmcs_pointer ? ", current" : "",
        r->revision & VMCS_SHADOW ? ", a shadow VMCS" : "", launched ? "launched" : "clear");
    for (unsigned area = 0; area < ARRAY_LEN(areas); area++) {
        bool titled = false;
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            const struct vmcs_field_row *f = &vmcs_field_rows[i];
            if (f->area != area || !v->vmx->caps.exists[i] || !named(f, pattern)) continue;
            if (!titled) say(c, "%s\n", areas[area]);
            titled = true;
            shown++;
            tell_field(c, f, vmcs_field_get(&r->f, (enum vmcs_field)i));
        }
    }
    json_close(c);
    if (!shown) fail(c, "vmcs: no field's name has \"%s\"\n", pattern);
}

static void tell_difference(struct monitor *c, const struct vmcs_field_row *f, u64 before, u64 now)
{
    char was[1024], is[1024];
    in_words(f, before, was, sizeof was);
    in_words(f, now, is, sizeof is);
    json_open(c, NULL, '{');
    json_text(c, "field", f->name);
    json_hex(c, "encoding", f->encoding);
    json_hex(c, "before", before);
    json_hex(c, "value", now);
    json_close(c);
    say(c, "  %04x %-44s %#llx -> %#llx\n", f->encoding, f->name, (unsigned long long)before,
        (unsigned long long)now);
    if (*was || *is) say(c, "       %s -> %s\n", *was ? was : "-", *is ? is : "-");
}

// The VMCS as it was behind the latest VM entry: found in the past, or, without one, as it was listened to.
static bool entered(struct debugger *d, u64 vmcs)
{
    struct retrace_entry r;
    if (!d->keeps) return d->entered.any && d->entered.vmcs == vmcs;
    if (!retrace_entry(&r, vmcs, &d->history, d->give_up) || !r.any) return false;
    d->entered.any = true, d->entered.vmcs = vmcs, d->entered.retired = r.retired;
    d->entered.f = r.f;
    return true;
}

static void vmcs_diff(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    struct vcpu *v = debugger_cpu(d);
    const struct vmcs_fields *before = &d->entered.f;
    u64 at = v->s.vmx.vmcs_pointer, other = VMX_NO_POINTER;
    struct view view;
    const char *why;
    unsigned shown = 0;
    if (w->n > 1 && !argument_address(c, w, 1, "the physical address of a VMCS", &other)) return;
    if (!view_root(&view, v, at, &why) || (w->n > 1 && !view_root(&view, v, other, &why))) {
        fail(c, "vmcs diff: %s\n", why);
        return;
    }
    if (w->n > 1)
        before = &vmcs_region_at(v->phys, other)->f;
    else if (!entered(d, at)) {
        if (d->keeps) {
            fail(
                c,
                "vmcs diff: there was no VM entry by this VMCS since the history begins (or give the address "
                "of another VMCS)\n");
            return;
        }
        d->keeps_entries = true;
        debugger_listen(d);
        fail(c, "vmcs diff: the VMCS is kept at VM entries from now on; there was none yet since (or give "
                "the address of "
                "another VMCS)\n");
        return;
    }
    const struct vmcs_fields *now = &vmcs_region_at(v->phys, at)->f;
    json_hex(c, "vmcs", at);
    if (w->n > 1) {
        json_hex(c, "other", other);
        say(c, "VMCS %#llx -> %#llx\n", (unsigned long long)other, (unsigned long long)at);
    } else {
        json_number(c, "entered_at", d->entered.retired);
        say(c, "VMCS %#llx since the VM entry at instruction %llu of the processor\n", (unsigned long long)at,
            (unsigned long long)d->entered.retired);
    }
    json_open(c, "fields", '[');
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        u64 a = vmcs_field_get(before, (enum vmcs_field)i), b = vmcs_field_get(now, (enum vmcs_field)i);
        if (a == b || !v->vmx->caps.exists[i]) continue;
        tell_difference(c, &vmcs_field_rows[i], a, b);
        shown++;
    }
    json_close(c);
    if (!shown) say(c, "  no field differs\n");
}

// clang-format off
const struct monitor_row monitor_vmx_rows[] = {
    {"check", "[VMCS]", "every rule of VM entry that the VMCS violates as it stands, with section and values", "check", check},
    {"vmcs diff", "[VMCS]", "what has changed in the current VMCS since the latest VM entry, or what differs from another one", "vmcs diff $vmcs", vmcs_diff},
    {"vmcs", "[VMCS] [PART OF A NAME]", "the fields, with names, values and what they mean", "vmcs guest_rip", vmcs},
};
// clang-format on
const unsigned monitor_vmx_rows_n = ARRAY_LEN(monitor_vmx_rows);

#define _GNU_SOURCE
// gdb's `monitor`: levels, runs to VM entries and exits, and what a VMCS and a translation say.
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/text.h"
#include "frontend/gdb_server.h"
#include "vmx/explain.h"
#include "vmx/control.h"
#include "vmx/exit_reason.h"

#define FLUSH "gdb shows it after: maintenance flush register-cache\n"
enum { WORDS = 6 };
struct words {
    unsigned n;
    char *at[WORDS];
};
struct command {
    const char *name, *arguments, *help, *example;
    void (*run)(struct gdb_server *s, const struct words *w);
};
static const struct command commands[];
static const unsigned commands_n;

static const char *word(const struct words *w, unsigned n) { return n < w->n ? w->at[n] : ""; }
static bool is(const struct words *w, unsigned n, const char *text) { return strcmp(word(w, n), text) == 0; }

static bool address(struct gdb_server *s, const struct words *w, unsigned n, const char *what, u64 *x)
{
    if (n < w->n && text_number(w->at[n], x)) return true;
    gdb_sayf(s, "%s: %s expected, as 0x1f2000, not \"%s\"\n", w->at[0], what, word(w, n));
    return false;
}

// The current VMCS's address, or that of word n.
static bool vmcs_word(struct gdb_server *s, const struct words *w, unsigned n, u64 *vmcs)
{
    *vmcs = gdb_cpu(s)->s.vmx.vmcs_pointer;
    if (n < w->n) return address(s, w, n, "the physical address of a VMCS", vmcs);
    if (*vmcs != VMX_NO_POINTER) return true;
    gdb_sayf(s, "%s: CPU %u has no current VMCS; give the physical address of one\n", w->at[0], s->cpu);
    return false;
}

// ---- levels ----
static void tell_context(struct gdb_server *s)
{
    char name[96];
    gdb_level_name(s, s->cpu, name, sizeof name);
    const struct gdb_view *w = &s->view;
    if (w->level == LEVEL_HERE)
        gdb_sayf(s, "%s, as it stands: RIP %#llx, CR3 %#llx\n", name, (unsigned long long)w->rip,
                 (unsigned long long)w->cr3);
    else
        gdb_sayf(s,
                 "%s; registers and memory are those of the %s area of VMCS %#llx: RIP %#llx, CR3 %#llx%s\n",
                 name, w->level == LEVEL_ROOT ? "host" : "guest", (unsigned long long)w->vmcs,
                 (unsigned long long)w->rip, (unsigned long long)w->cr3, w->mmu.ept ? ", behind EPT" : "");
}

static void context(struct gdb_server *s, const struct words *w)
{
    struct vcpu *v = gdb_cpu(s);
    const char *why = NULL;
    u64 vmcs = v->s.vmx.vmcs_pointer;
    bool good = true;
    if (is(w, 1, "here") || (is(w, 1, "root") && !v->s.vmx.guest) || (is(w, 1, "guest") && v->s.vmx.guest))
        gdb_look(s);
    else if (is(w, 1, "root"))
        good = gdb_view_root(&s->view, v, vmcs, &why);
    else if (is(w, 1, "guest"))
        good = gdb_view_guest(&s->view, v, vmcs, &why);
    else if (is(w, 1, "vmcs")) {
        if (!address(s, w, 2, "the physical address of a VMCS", &vmcs)) return;
        good = gdb_view_guest(&s->view, v, vmcs, &why);
    } else if (w->n > 1) {
        gdb_sayf(s, "context: here, root, guest or vmcs ADDRESS expected, not \"%s\"\n", word(w, 1));
        return;
    }
    if (!good) {
        gdb_look(s);
        gdb_sayf(s, "context: %s\n", why);
        return;
    }
    tell_context(s);
    if (w->n > 1) gdb_say(s, FLUSH);
}

// ---- runs to VM entries and exits ----
static bool reason_word(struct gdb_server *s, const struct words *w, unsigned n, u64 mask[2])
{
    u64 x;
    mask[0] = mask[1] = 0;
    if (n >= w->n || is(w, n, "any")) {
        mask[0] = mask[1] = UINT64_MAX;
        return true;
    }
    if (text_number(w->at[n], &x) && x < EXIT_REASON_COUNT) {
        mask[x / 64] = BIT(x % 64);
        return true;
    }
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
        if (strcasecmp(vmx_exit_reason_name(i), w->at[n]) == 0) mask[i / 64] |= BIT(i % 64);
    if (mask[0] | mask[1]) return true;
    gdb_sayf(s, "%s: an exit reason expected, by its number or name, not \"%s\"; the names:\n", w->at[0],
             w->at[n]);
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
        if (vmx_exit_reason_name(i)[0] != '?') gdb_sayf(s, " %s", vmx_exit_reason_name(i));
    gdb_say(s, "\n");
    return false;
}

static void arm(struct gdb_server *s, enum gdb_plan plan, const char *where)
{
    s->plan = (u8)plan;
    gdb_sayf(s, "The next continue goes to %s.\n", where);
}
static void step_entry(struct gdb_server *s, const struct words *w)
{
    arm(s, PLAN_ENTRY, "the guest's first instruction after the next VM entry, or behind one that fails");
}
static void step_exit(struct gdb_server *s, const struct words *w)
{
    s->plan_exits[0] = s->plan_exits[1] = UINT64_MAX;
    arm(s, PLAN_EXIT, "the host's first instruction after the next VM exit");
}
static void next_exit(struct gdb_server *s, const struct words *w)
{
    arm(s, PLAN_NEXT_1, "where the next VM exit has been handled and a guest runs again");
}
static void until_exit(struct gdb_server *s, const struct words *w)
{
    if (w->n < 2)
        gdb_say(s, "until-exit: an exit reason expected, as CPUID, EPT_VIOLATION or 48\n");
    else if (reason_word(s, w, 1, s->plan_exits))
        arm(s, PLAN_EXIT, "the host's first instruction after such a VM exit");
}

static void stop(struct gdb_server *s, const struct words *w)
{
    u64 mask[2];
    if (is(w, 1, "entry"))
        s->entries = true;
    else if (is(w, 1, "failed-entry"))
        s->failures = true;
    else if (is(w, 1, "exit")) {
        if (!reason_word(s, w, 2, mask)) return;
        s->exits[0] |= mask[0], s->exits[1] |= mask[1];
    } else if (is(w, 1, "none")) {
        s->entries = s->failures = false;
        s->exits[0] = s->exits[1] = 0;
        gdb_remove_stops(s, GDB_TYPE_OWN, 0, 0);
    } else if (w->n > 1) {
        gdb_sayf(s, "stop: entry, failed-entry, exit [REASON] or none expected, not \"%s\"\n", word(w, 1));
        return;
    }
    unsigned reasons = 0;
    gdb_sayf(s, "The machine stops at%s%s", s->entries ? " VM entries," : "",
             s->failures ? " VM entries that fail," : "");
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++) {
        if (!(s->exits[i / 64] >> i % 64 & 1)) continue;
        reasons++;
        if (s->exits[0] != UINT64_MAX && vmx_exit_reason_name(i)[0] != '?')
            gdb_sayf(s, " %s,", vmx_exit_reason_name(i));
    }
    if (s->exits[0] == UINT64_MAX) gdb_say(s, " every VM exit,");
    for (unsigned i = 0; i < s->stops.n; i++)
        if (s->type[i] == GDB_TYPE_OWN)
            gdb_sayf(s, " accesses to physical %#llx,", (unsigned long long)s->list[i].at);
    gdb_sayf(s, " breakpoints and watchpoints.\n");
}

static void limit(struct gdb_server *s, const struct words *w)
{
    struct gdb_limit l = {.vmcs = VMX_NO_POINTER};
    unsigned i = 0;
    if (!address(s, w, 1, "the address of a breakpoint or watchpoint", &l.at)) return;
    if (is(w, 2, "root"))
        l.level = STOP_ROOT;
    else if (is(w, 2, "guest"))
        l.level = STOP_GUEST;
    else if (is(w, 2, "vmcs")) {
        if (!address(s, w, 3, "the physical address of a VMCS", &l.vmcs)) return;
        l.level = STOP_GUEST;
    } else if (!is(w, 2, "none")) {
        gdb_sayf(s, "limit: root, guest, vmcs ADDRESS or none expected, not \"%s\"\n", word(w, 2));
        return;
    }
    while (i < s->limits && s->limit[i].at != l.at) i++;
    if (i == GDB_LIMITS_MAX) {
        gdb_sayf(s, "limit: there are %u already\n", i);
        return;
    }
    s->limit[i] = l;
    if (i == s->limits) s->limits++;
    for (unsigned k = 0; k < s->stops.n; k++)
        if (s->list[k].at == l.at) s->list[k].level = l.level, s->list[k].vmcs = l.vmcs;
    gdb_sayf(s, "Breakpoints at %#llx stop %s.\n", (unsigned long long)l.at,
             l.vmcs != VMX_NO_POINTER ? "in that VMCS's guest alone"
             : l.level == STOP_ROOT   ? "outside of guests alone"
             : l.level == STOP_GUEST  ? "in guests alone"
                                      : "everywhere");
}

static void watch(struct gdb_server *s, const struct words *w)
{
    u64 at, size = 8;
    u8 on = STOP_ON_WRITE;
    unsigned n = is(w, 1, "physical") ? 2 : 1;
    if (!address(s, w, n, "a physical address", &at)) return;
    if (n + 1 < w->n && !address(s, w, n + 1, "a number of bytes", &size)) return;
    if (n + 2 < w->n)
        on = is(w, n + 2, "r") ? STOP_ON_READ : is(w, n + 2, "rw") ? STOP_ON_READ | STOP_ON_WRITE : on;
    if (!size || size > 1 << 20 || (n + 2 < w->n && !strspn(w->at[n + 2], "rw"))) {
        gdb_say(s, "watch: physical ADDRESS [BYTES [r|w|rw]] expected, with 1 MiB at the most\n");
        return;
    }
    if (gdb_add_stop(s, GDB_TYPE_OWN, on, at, size, true))
        gdb_say(s,
                "The machine stops after an instruction that accesses it (monitor stop none forgets it).\n");
    else
        gdb_sayf(s, "watch: there are %u stops already\n", GDB_STOPS_MAX);
}

// ---- what a VMCS says ----
static void put_text(void *server, const char *text) { gdb_say(server, text); }

static void check(struct gdb_server *s, const struct words *w)
{
    struct vcpu *v = gdb_cpu(s);
    struct gdb_view host;
    struct vmx_entry e;
    const char *why;
    u64 vmcs;
    if (!vmcs_word(s, w, 1, &vmcs)) return;
    if (!gdb_view_root(&host, v, vmcs, &why)) {
        gdb_sayf(s, "check: %s\n", why);
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
    gdb_sayf(s, "VMCS %#llx, as it stands, for %s:\n", (unsigned long long)vmcs,
             launch ? "VMLAUNCH" : "VMRESUME");
    vmx_explain_entry(&e, NULL, put_text, s);
}

static bool contains(const char *text, const char *part) { return strcasestr(text, part) != NULL; }

static void vmcs(struct gdb_server *s, const struct words *w)
{
    static const char *const areas[] = {"controls", "exit information", "guest state", "host state"};
    struct vcpu *v = gdb_cpu(s);
    u64 at = v->s.vmx.vmcs_pointer;
    unsigned n = 1, shown = 0;
    if (w->n > 1 && isdigit((u8)w->at[1][0]) && !address(s, w, n++, "the physical address of a VMCS", &at))
        return;
    struct gdb_view view;
    const char *why, *pattern = word(w, n);
    if (!gdb_view_root(&view, v, at, &why)) {
        gdb_sayf(s, "vmcs: %s\n", why);
        return;
    }
    const struct vmcs_region *r = vmcs_region_at(v->phys, at);
    gdb_sayf(s, "VMCS %#llx%s%s, %s\n", (unsigned long long)at,
             at == v->s.vmx.vmcs_pointer ? ", current" : "",
             r->revision & VMCS_SHADOW ? ", a shadow VMCS" : "",
             r->launch_state == VMCS_LAUNCH_LAUNCHED ? "launched" : "clear");
    for (unsigned area = 0; area < ARRAY_LEN(areas); area++) {
        bool titled = false;
        for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
            const struct vmcs_field_row *f = &vmcs_field_rows[i];
            if (f->area != area || !v->vmx->caps.exists[i] ||
                !(contains(f->name, pattern) || contains(f->text, pattern)))
                continue;
            if (!titled) gdb_sayf(s, "%s\n", areas[area]);
            titled = true;
            shown++;
            u64 x = vmcs_field_get(&r->f, (enum vmcs_field)i);
            gdb_sayf(s, "  %04x %-44s %#llx", f->encoding, f->name, (unsigned long long)x);
            if (i == VMCS_EXIT_REASON && r->launch_state == VMCS_LAUNCH_LAUNCHED)
                gdb_sayf(s, " (%s%s)", vmx_exit_reason_name(x & 0xFFFF),
                         x >> 31 & 1 ? ", entry failure" : "");
            gdb_say(s, "\n");
        }
    }
    if (!shown) gdb_sayf(s, "vmcs: no field's name has \"%s\"\n", pattern);
}

// ---- memory ----
static void walk(struct gdb_server *s, const struct words *w)
{
    u64 at;
    u32 acc = ACC_READ;
    if (!address(s, w, 1, "a linear address", &at)) return;
    for (unsigned i = 2; i < w->n; i++) {
        if (is(w, i, "write"))
            acc |= ACC_WRITE;
        else if (is(w, i, "fetch"))
            acc |= ACC_FETCH;
        else if (is(w, i, "user"))
            acc |= ACC_USER;
        else if (!is(w, i, "read")) {
            gdb_sayf(s, "walk: read, write, fetch or user expected behind the address, not \"%s\"\n",
                     w->at[i]);
            return;
        }
    }
    gdb_monitor_walk(s, at, acc);
}

static void xp(struct gdb_server *s, const struct words *w)
{
    u64 at, n = 4;
    if (!address(s, w, 1, "a physical address", &at)) return;
    if (w->n > 2 && (!text_number(w->at[2], &n) || n > 512)) {
        gdb_say(s, "xp: a number of 8-byte words expected behind the address, 512 at the most\n");
        return;
    }
    for (u64 i = 0, x; i < n; i++) {
        if (gdb_physical_read(&s->view, at + 8 * i, (u8 *)&x, 8) < 8) {
            gdb_sayf(s, "%#llx: no RAM (a device is not read: that has consequences)\n",
                     (unsigned long long)(at + 8 * i));
            return;
        }
        gdb_sayf(s, "%#llx: %016llx\n", (unsigned long long)(at + 8 * i), (unsigned long long)x);
    }
}

static void phys(struct gdb_server *s, const struct words *w)
{
    if (is(w, 1, "on") || is(w, 1, "off"))
        s->physical = is(w, 1, "on");
    else if (w->n > 1) {
        gdb_sayf(s, "phys: on or off expected, not \"%s\"\n", w->at[1]);
        return;
    }
    gdb_sayf(s, "gdb's addresses of memory are %s.\n", s->physical ? "physical" : "linear");
}

static void where(struct gdb_server *s, const struct words *w)
{
    char name[96];
    for (unsigned i = 0; i < s->m->cpus_n; i++) {
        const struct vcpu *v = s->m->cpu[i];
        gdb_level_name(s, i, name, sizeof name);
        gdb_sayf(s, "%s RIP %#llx, %llu instructions\n", name, (unsigned long long)v->s.rip,
                 (unsigned long long)cpu_retired(v));
    }
    tell_context(s);
}

static void go_to(struct gdb_server *s, const struct words *w)
{
    const struct gdb_history *h = s->history;
    u64 count;
    if (!h)
        gdb_say(s, "goto: this machine keeps no history\n");
    else if (!address(s, w, 1, "a count of instructions", &count))
        return;
    else if (!h->go(h->opaque, count))
        gdb_sayf(s, "goto: the history begins at %llu\n", (unsigned long long)h->begin(h->opaque));
    else {
        s->cpu = s->stopped_cpu = s->m->turns.cpu;
        gdb_look(s);
        tell_context(s);
        gdb_say(s, FLUSH);
    }
}

static void help(struct gdb_server *s, const struct words *w);

// clang-format off
static const struct command commands[] = {
    {"help", "[COMMAND]", "what there is", "help walk", help},
    {"where", "", "each processor's level, RIP and count of instructions; what gdb looks at", "where", where},
    {"context", "[here|root|guest|vmcs ADDRESS]",
     "what registers and memory gdb sees, until the machine goes on: the processor as it stands; the L1 behind an L2, by the host area of its VMCS "
     "(general registers are those of the L2, which a VM exit leaves); the L2 behind an L1's handler, by the guest area (general registers but RSP "
     "are where the L1 keeps them: unavailable); the guest of any VMCS", "context root", context},
    {"step-entry", "", "the next continue goes to the guest's first instruction, before an event that is injected", "step-entry", step_entry},
    {"step-exit", "", "the next continue goes to the host's first instruction after a VM exit", "step-exit", step_exit},
    {"next-exit", "", "the next continue goes over a VM exit: to where a guest runs again", "next-exit", next_exit},
    {"until-exit", "REASON", "the next continue goes to a VM exit for this reason, by number or name", "until-exit EPT_VIOLATION", until_exit},
    {"stop", "[entry|failed-entry|exit [REASON]|none]", "stop always at VM entries, at such that fail, at VM exits; alone: what is stopped at", "stop exit CPUID", stop},
    {"limit", "ADDRESS root|guest|vmcs VMCS|none", "a breakpoint or watchpoint at this address stops at one level only", "limit 0x1012a4 guest", limit},
    {"watch", "physical ADDRESS [BYTES [r|w|rw]]", "stop after accesses to physical memory by instructions; 8 bytes and writes if not told", "watch physical 0x1f2000 4096 w", watch},
    {"check", "[VMCS]", "every rule of VM entry that the VMCS violates as it stands, with section and values", "check", check},
    {"vmcs", "[VMCS] [PART OF A NAME]", "the fields, with names and values", "vmcs guest_rip", vmcs},
    {"walk", "ADDRESS [read|write|fetch] [user]", "the translation of a linear address, step by step, with the EPT walk under it", "walk 0x7c00 write user", walk},
    {"xp", "ADDRESS [N]", "N 8-byte words of physical memory", "xp 0x1f2000 8", xp},
    {"phys", "[on|off]", "whether the addresses of gdb's memory commands are physical", "phys on", phys},
    {"goto", "COUNT", "back, or on, to the instant with this count of instructions", "goto 1000000", go_to},
};
static const unsigned commands_n = ARRAY_LEN(commands);
// clang-format on

static const struct command *find(const char *name)
{
    const struct command *found = NULL;
    unsigned n = 0;
    for (unsigned i = 0; i < commands_n; i++) {
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
        if (strncmp(commands[i].name, name, strlen(name)) == 0) found = &commands[i], n++;
    }
    return n == 1 ? found : NULL;
}

static void help(struct gdb_server *s, const struct words *w)
{
    const struct command *one = w->n > 1 ? find(w->at[1]) : NULL;
    for (unsigned i = 0; i < commands_n; i++) {
        const struct command *c = &commands[i];
        if (one && c != one) continue;
        gdb_sayf(s, "monitor %s%s%s\n    %s.\n    As: monitor %s\n", c->name, *c->arguments ? " " : "",
                 c->arguments, c->help, c->example);
    }
}

void gdb_monitor(struct gdb_server *s, const char *command)
{
    char text[1024];
    struct words w = {0};
    snprintf(text, sizeof text, "%s", command);
    char *rest = text;
    for (char *t; w.n < WORDS && (t = strtok_r(rest, " \t\n", &rest)) != NULL;) w.at[w.n++] = t;
    if (!w.n) {
        help(s, &w);
        return;
    }
    const struct command *c = find(w.at[0]);
    if (c)
        c->run(s, &w);
    else
        gdb_sayf(
            s, "\"%s\" is no command of the monitor, or the beginning of several: monitor help lists them\n",
            w.at[0]);
}

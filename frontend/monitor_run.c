// Commands that let the machine go on, say where it stops, and what is looked at.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "devices/text.h"
#include "frontend/monitor.h"
#include "vmx/exit_reason.h"

#define FLUSH "gdb shows it after: maintenance flush register-cache\n"

// On from here. waits: the next command is to find the machine where this leads.
static void run_on(struct monitor *c, bool step, u64 n)
{
    struct debugger *d = c->d;
    if (c->kind == MONITOR_GDB)
        fail(c, "gdb lets the machine go on itself: continue, stepi\n");
    else if (d->client_holds)
        fail(c, "gdb's client has stopped the machine: continue there, or detach\n");
    else if (d->running && step)
        fail(c, "the machine runs: stop it first\n");
    else {
        if (!d->running) {
            d->steps = step ? n : 0;
            debugger_go_on(d, step ? d->cpu : d->stopped_cpu, step);
        } else {
            if (!d->plan_one) d->plan_cpu = d->cpu;
            debugger_listen(d);
        }
        c->waits = n != 0;
    }
}

// ---- levels ----
void monitor_tell_context(struct monitor *c)
{
    struct debugger *d = c->d;
    char name[96];
    debugger_level_name(d, d->cpu, name, sizeof name);
    const struct view *w = &d->view;
    json_number(c, "cpu", d->cpu);
    json_text(c, "name", name);
    json_text(c, "area", w->level == LEVEL_HERE ? "here" : w->level == LEVEL_ROOT ? "host" : "guest");
    if (w->vmcs != VMX_NO_POINTER) json_hex(c, "vmcs", w->vmcs);
    json_hex(c, "rip", w->rip);
    json_hex(c, "cr3", w->cr3);
    if (w->level == LEVEL_HERE)
        say(c, "%s, as it stands: RIP %#llx, CR3 %#llx\n", name, (unsigned long long)w->rip,
            (unsigned long long)w->cr3);
    else
        say(c, "%s; registers and memory are those of the %s area of VMCS %#llx: RIP %#llx, CR3 %#llx%s\n",
            name, w->level == LEVEL_ROOT ? "host" : "guest", (unsigned long long)w->vmcs,
            (unsigned long long)w->rip, (unsigned long long)w->cr3, w->mmu.ept ? ", behind EPT" : "");
}

static void context(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    struct vcpu *v = debugger_cpu(d);
    const char *why = NULL;
    u64 vmcs = v->s.vmx.vmcs_pointer;
    bool good = true;
    if (word_is(w, 1, "here") || (word_is(w, 1, "root") && !v->s.vmx.guest) ||
        (word_is(w, 1, "guest") && v->s.vmx.guest))
        debugger_look(d);
    else if (word_is(w, 1, "root"))
        good = view_root(&d->view, v, vmcs, &why);
    else if (word_is(w, 1, "guest"))
        good = view_guest(&d->view, v, vmcs, &why);
    else if (word_is(w, 1, "vmcs")) {
        if (!argument_address(c, w, 2, "the physical address of a VMCS", &vmcs)) return;
        good = view_guest(&d->view, v, vmcs, &why);
    } else if (w->n > 1) {
        fail(c, "context: here, root, guest or vmcs ADDRESS expected, not \"%s\"\n", word(w, 1));
        return;
    }
    if (!good) {
        debugger_look(d);
        fail(c, "context: %s\n", why);
        return;
    }
    monitor_tell_context(c);
    if (w->n > 1 && c->kind == MONITOR_GDB) say(c, FLUSH);
}

// ---- runs to VM entries and exits ----
bool argument_reason(struct monitor *c, const struct words *w, unsigned n, u64 mask[2])
{
    u64 x;
    mask[0] = mask[1] = 0;
    if (n >= w->n || word_is(w, n, "any")) {
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
    fail(c, "%s: an exit reason expected, by its number or name, not \"%s\"; the names:\n", w->at[0],
         w->at[n]);
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++)
        if (vmx_exit_reason_name(i)[0] != '?') say(c, " %s", vmx_exit_reason_name(i));
    say(c, "\n");
    return false;
}

// NULL: of the processor that goes on; else of all, or of the one named there.
static void arm(struct monitor *c, enum debugger_plan plan, const char *where, const u64 *cpu)
{
    struct debugger *d = c->d;
    d->plan = (u8)plan;
    d->plan_all = cpu && *cpu == UINT64_MAX;
    d->plan_one = cpu && !d->plan_all;
    if (d->plan_one) d->plan_cpu = (unsigned)*cpu;
    if (c->kind == MONITOR_GDB)
        say(c, "The next continue goes to %s.\n", where);
    else
        run_on(c, false, 1);
}
static void step_entry(struct monitor *c, const struct words *w)
{
    arm(c, PLAN_ENTRY, "the guest's first instruction after the next VM entry, or behind one that fails",
        NULL);
}
static void step_exit(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    d->plan_exits[0] = d->plan_exits[1] = UINT64_MAX;
    arm(c, PLAN_EXIT, "the host's first instruction after the next VM exit", NULL);
}
static void next_exit(struct monitor *c, const struct words *w)
{
    arm(c, PLAN_NEXT_1, "where the next VM exit has been handled and a guest runs again", NULL);
}
static void until_exit(struct monitor *c, const struct words *w)
{
    u64 cpu = UINT64_MAX;
    if (w->n < 2)
        fail(c, "until-exit: an exit reason expected, as CPUID, EPT_VIOLATION or 48\n");
    else if (w->n > 2 && !word_is(w, 2, "cpu"))
        fail(c, "until-exit: behind the reason comes nothing or cpu N, not \"%s\"\n", word(w, 2));
    else if ((w->n == 2 ||
              argument_number(c, w, 3, "the number of a processor", 0, c->d->m->cpus_n - 1, &cpu)) &&
             argument_reason(c, w, 1, c->d->plan_exits))
        arm(c, PLAN_EXIT, "the host's first instruction after such a VM exit", &cpu);
}

static void stop(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    u64 mask[2];
    if (word_is(w, 1, "entry"))
        d->entries = true;
    else if (word_is(w, 1, "failed-entry"))
        d->failures = true;
    else if (word_is(w, 1, "exit")) {
        if (!argument_reason(c, w, 2, mask)) return;
        d->exits[0] |= mask[0], d->exits[1] |= mask[1];
    } else if (word_is(w, 1, "none")) {
        d->entries = d->failures = false;
        d->exits[0] = d->exits[1] = 0;
        debugger_remove_type(d, DEBUGGER_TYPE_OWN);
    } else if (w->n > 1) {
        fail(c, "stop: entry, failed-entry, exit [REASON] or none expected, not \"%s\"\n", word(w, 1));
        return;
    }
    if (w->n == 1 && d->running && c->kind != MONITOR_GDB) {
        debugger_interrupt(d);
        return;
    }
    debugger_listen(d);
    say(c, "The machine stops at%s%s", d->entries ? " VM entries," : "",
        d->failures ? " VM entries that fail," : "");
    for (unsigned i = 0; i < EXIT_REASON_COUNT; i++) {
        if (!(d->exits[i / 64] >> i % 64 & 1)) continue;
        if (d->exits[0] != UINT64_MAX && vmx_exit_reason_name(i)[0] != '?')
            say(c, " %s,", vmx_exit_reason_name(i));
    }
    if (d->exits[0] == UINT64_MAX) say(c, " every VM exit,");
    for (unsigned i = 0; i < d->stops.n; i++)
        if (d->type[i] == DEBUGGER_TYPE_OWN)
            say(c, " accesses to physical %#llx,", (unsigned long long)d->list[i].at);
    say(c, " breakpoints and watchpoints.\n");
}

static void limit(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    struct debugger_limit l = {.vmcs = VMX_NO_POINTER};
    unsigned i = 0;
    if (!argument_address(c, w, 1, "the address of a breakpoint or watchpoint", &l.at)) return;
    if (word_is(w, 2, "root"))
        l.level = STOP_ROOT;
    else if (word_is(w, 2, "guest"))
        l.level = STOP_GUEST;
    else if (word_is(w, 2, "vmcs")) {
        if (!argument_address(c, w, 3, "the physical address of a VMCS", &l.vmcs)) return;
        l.level = STOP_GUEST;
    } else if (!word_is(w, 2, "none")) {
        fail(c, "limit: root, guest, vmcs ADDRESS or none expected, not \"%s\"\n", word(w, 2));
        return;
    }
    while (i < d->limits && d->limit[i].at != l.at) i++;
    if (i == DEBUGGER_LIMITS_MAX) {
        fail(c, "limit: there are %u already\n", i);
        return;
    }
    d->limit[i] = l;
    if (i == d->limits) d->limits++;
    for (unsigned k = 0; k < d->stops.n; k++)
        if (d->list[k].at == l.at) d->list[k].level = l.level, d->list[k].vmcs = l.vmcs;
    say(c, "Breakpoints at %#llx stop %s.\n", (unsigned long long)l.at,
        l.vmcs != VMX_NO_POINTER ? "in that VMCS's guest alone"
        : l.level == STOP_ROOT   ? "outside of guests alone"
        : l.level == STOP_GUEST  ? "in guests alone"
                                 : "everywhere");
}

static void watch(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    u64 at, size = 8;
    u8 on = STOP_ON_WRITE;
    unsigned n = word_is(w, 1, "physical") ? 2 : 1;
    if (w->n < 2) {
        fail(c, "watch: physical ADDRESS [BYTES [r|w|rw]] expected\n");
        return;
    }
    if (!argument_address(c, w, n, "a physical address", &at)) return;
    if (n + 1 < w->n && !argument_address(c, w, n + 1, "a number of bytes", &size)) return;
    if (n + 2 < w->n)
        on = word_is(w, n + 2, "r")    ? STOP_ON_READ
             : word_is(w, n + 2, "rw") ? STOP_ON_READ | STOP_ON_WRITE
                                       : on;
    if (!size || size > 1 << 20 || (n + 2 < w->n && !strspn(w->at[n + 2], "rw"))) {
        fail(c, "watch: physical ADDRESS [BYTES [r|w|rw]] expected, with 1 MiB at the most\n");
        return;
    }
    if (debugger_add_stop(d, DEBUGGER_TYPE_OWN, on, at, size, true))
        say(c, "The machine stops after an instruction that accesses it (%sstop none forgets it).\n",
            c->kind == MONITOR_GDB ? "monitor " : "");
    else
        fail(c, "watch: there are %u stops already\n", DEBUGGER_STOPS_MAX);
}

static void go_to(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    u64 count;
    if (!d->keeps) {
        fail(c, "goto: this machine keeps no history%s\n", d->history_limit ? "" : " (-history off)");
        return;
    }
    if (!argument_number(c, w, 1, "a count of instructions", 0, UINT64_MAX, &count)) return;
    if (d->running) debugger_interrupt(d);
    if (!debugger_goto(d, count)) {
        fail(c, "goto: the history begins at %llu\n", (unsigned long long)history_begins(&d->history));
        return;
    }
    d->stood++;
    *d->why = 0;
    if (c->kind != MONITOR_GDB) return; // who looks, says where it stands
    monitor_tell_context(c);
    say(c, FLUSH);
}

// At the instant that was gone to; by: to before this write.
static void arrived(struct monitor *c, bool there, bool event, const struct debugger_found *by)
{
    struct debugger *d = c->d;
    char why[160] = "The beginning of the history.";
    if (there) *why = 0;
    if (there && event && d->stops.met.why == STOPPED_EXIT)
        snprintf(why, sizeof why, "VM exit %u (%s)", d->stops.met.reason & 0xFFFF,
                 vmx_exit_reason_name(d->stops.met.reason & 0xFFFF));
    if (there && event && d->stops.met.why == STOPPED_ENTRY) snprintf(why, sizeof why, "VM entry");
    if (there && by && by->writer) snprintf(why, sizeof why, "Before %s writes it.", by->writer);
    unsigned cpu = d->m->turns.cpu;
    if (there && event) cpu = d->stops.met.cpu;
    if (there && by) cpu = by->met.cpu;
    d->stops.met.why = STOPPED_NOT;
    debugger_stand(d, cpu, 5, why);
    if (c->kind != MONITOR_GDB) return;
    if (*why) say(c, "%s\n", why);
    monitor_tell_context(c);
    say(c, FLUSH);
}

static void back(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    u64 n = 1, exits[2], at;
    if (!d->keeps) {
        fail(c, "back: this machine keeps no history%s\n", d->history_limit ? "" : " (-history off)");
        return;
    }
    if (d->running) debugger_interrupt(d);
    if (word_is(w, 1, "exit")) {
        if (argument_reason(c, w, 2, exits)) arrived(c, debugger_back_to_event(d, exits), true, NULL);
    } else if (word_is(w, 1, "entry")) {
        arrived(c, debugger_back_to_event(d, NULL), true, NULL);
    } else if (word_is(w, 1, "write")) {
        bool physical = word_is(w, 2, "physical");
        u64 size = 8;
        if (!argument_address(c, w, physical ? 3 : 2, "the address of what was written", &at)) return;
        if (w->n > 3u + physical &&
            !argument_number(c, w, 3u + physical, "a number of bytes", 1, PAGE_SIZE, &size))
            return;
        struct walk_result r = {.pa = at};
        if (!physical) r = walk_peek(debugger_cpu(d)->phys, &d->view.mmu, laddr_of(at), ACC_READ, NULL);
        if (r.status != WALK_OK)
            fail(c, "back: %#llx is no address of memory now (walk %#llx says why)\n", (unsigned long long)at,
                 (unsigned long long)at);
        else {
            bool there = debugger_back_to_write(d, r.pa, size);
            arrived(c, there, false, &d->found);
        }
    } else if (w->n > 1 && !text_number(w->at[1], &n))
        fail(c,
             "back: a number of instructions, entry, exit [REASON] or write [physical] ADDRESS [BYTES] "
             "expected, not \"%s\"\n",
             w->at[1]);
    else {
        u64 now = debugger_now(d), first = history_begins(&d->history);
        bool there =
            n == 1 ? debugger_step_back(d) : now >= n && now - n >= first && debugger_goto(d, now - n);
        if (!there && n != 1) debugger_goto(d, first);
        arrived(c, there, false, NULL);
    }
}

static void cont(struct monitor *c, const struct words *w) { run_on(c, false, 0); }

static void step(struct monitor *c, const struct words *w)
{
    u64 n = 1;
    if (w->n > 1 && !argument_number(c, w, 1, "a number of instructions", 1, 1 << 20, &n)) return;
    run_on(c, true, n);
}

static void wait_(struct monitor *c, const struct words *w)
{
    c->waits = c->kind != MONITOR_GDB && c->d->running;
}

static void quit(struct monitor *c, const struct words *w) { c->quit = true; }

static void select_cpu(struct monitor *c, const struct words *w)
{
    u64 n;
    if (!argument_number(c, w, 1, "the number of a processor", 0, c->d->m->cpus_n - 1, &n)) return;
    c->d->cpu = (unsigned)n;
    debugger_look(c->d);
    monitor_tell_context(c);
}

static void powerdown(struct monitor *c, const struct words *w)
{
    if (c->d->journal && journal_live(c->d->journal))
        journal_power_button(c->d->journal);
    else
        fail(c, "system_powerdown: the machine is in its past; go on to the present first\n");
}

static void reset(struct monitor *c, const struct words *w)
{
    if (!c->d->journal || !journal_live(c->d->journal)) {
        fail(c, "system_reset: the machine is in its past; go on to the present first\n");
        return;
    }
    journal_reset_button(c->d->journal);
    if (!c->d->running) say(c, "The machine starts again when it goes on.\n");
}

static void savevm(struct monitor *c, const struct words *w)
{
    char why[512];
    if (w->n != 2)
        fail(c, "savevm: the name of a file expected\n");
    else if (!c->d->journal || !c->d->save)
        fail(c, "savevm: this machine cannot be saved\n");
    else if (!c->d->save(c->d->journal, w->at[1], why, sizeof why))
        fail(c, "savevm: nothing is saved: %s\n", why);
    else
        say(c, "The machine is saved in %s: -loadvm goes on from here.\n", w->at[1]);
}

// clang-format off
const struct monitor_row monitor_run_rows[] = {
    {"help", "[COMMAND]", "what there is", "help walk", monitor_help},
    {"quit", "", "end the machine and the program", "quit", quit},
    {"cont", "", "let the machine run (in gdb: continue)", "cont", cont},
    {"step", "[N]", "one instruction, or N; a VM entry and a VM exit is one, a REP too (in gdb: stepi)", "step 3", step},
    {"wait", "", "take no further command but stop until the machine stands still: for scripts", "wait", wait_},
    {"cpu", "N", "whose registers and memory are looked at", "cpu 0", select_cpu},
    {"context", "[here|root|guest|vmcs ADDRESS]",
     "what registers and memory are looked at, until the machine goes on: the processor as it stands; the L1 behind an L2, by the host area of its VMCS "
     "(general registers are those of the L2, which a VM exit leaves); the L2 behind an L1's handler, by the guest area (general registers but RSP "
     "are where the L1 keeps them: unavailable); the guest of any VMCS", "context root", context},
    {"step-entry", "", "go to the guest's first instruction, before an event that is injected (in gdb: the next continue does)", "step-entry", step_entry},
    {"step-exit", "", "go to the host's first instruction after a VM exit (in gdb: the next continue does)", "step-exit", step_exit},
    {"next-exit", "", "go over a VM exit: to where a guest runs again (in gdb: the next continue does)", "next-exit", next_exit},
    {"until-exit", "REASON [cpu N]", "go to a VM exit for this reason, by number or name, on any processor or that one (in gdb: the next continue does)", "until-exit CPUID", until_exit},
    {"stop", "[entry|failed-entry|exit [REASON]|none]", "stop a machine that runs; stop always at VM entries, at such that fail, at VM exits; alone: what is stopped at", "stop exit CPUID", stop},
    {"limit", "ADDRESS root|guest|vmcs VMCS|none", "a breakpoint or watchpoint at this address stops at one level only", "limit 0x1012a4 guest", limit},
    {"watch", "physical ADDRESS [BYTES [r|w|rw]]", "stop after accesses to physical memory by instructions; 8 bytes and writes if not told", "watch physical 0x1f2000 4096 w", watch},
    {"goto", "COUNT", "back, or on, to the instant with this count of instructions", "goto 1000000", go_to},
    {"back", "[N|entry|exit [REASON]|write [physical] ADDRESS [BYTES]]",
     "back by an instruction, or N; to the VM entry or VM exit before; to before these bytes (8 if not told) were written last: by an instruction, at whatever "
     "address and level, a page walk (accessed and dirty flags), a VM exit, a device: it says which", "back exit", back},
    {"savevm", "FILE", "save the machine as it stands; -loadvm goes on from there", "savevm up.mvm", savevm},
    {"system_reset", "", "press the reset button (with -no-reboot: the end)", "system_reset", reset},
    {"system_powerdown", "", "press the power button", "system_powerdown", powerdown},
};
// clang-format on
const unsigned monitor_run_rows_n = ARRAY_LEN(monitor_run_rows);

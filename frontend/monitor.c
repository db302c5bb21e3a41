// The table of commands, and what all of them need: words, arguments, help.
#include "frontend/monitor.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "devices/text.h"
#include "frontend/vmcs_text.h"
#include "vmx/control.h"
#include "vmx/vmcs.h"

enum { LINE_MAX_ = 1024 };

const char *word(const struct words *w, unsigned n) { return n < w->n ? w->at[n] : ""; }
bool word_is(const struct words *w, unsigned n, const char *text) { return strcmp(word(w, n), text) == 0; }

// ---- the table ----
static const struct monitor_row *row(unsigned n)
{
    const struct {
        const struct monitor_row *rows;
        unsigned n;
    } tables[] = {{monitor_run_rows, monitor_run_rows_n},        {monitor_break_rows, monitor_break_rows_n},
                  {monitor_look_rows, monitor_look_rows_n},      {monitor_vmx_rows, monitor_vmx_rows_n},
                  {monitor_map_rows, monitor_map_rows_n},        {monitor_table_rows, monitor_table_rows_n},
                  {monitor_summary_rows, monitor_summary_rows_n}};
    for (unsigned i = 0; i < ARRAY_LEN(tables); n -= tables[i++].n)
        if (n < tables[i].n) return &tables[i].rows[n];
    return NULL;
}

// The command that the text names, or is the beginning of, if of no other; *several: it is of several.
static const struct monitor_row *find(const char *name, bool *several)
{
    const struct monitor_row *found = NULL, *r;
    unsigned n = 0;
    for (unsigned i = 0; (r = row(i)) != NULL; i++) {
        if (strcmp(r->name, name) == 0) return r;
        if (strncmp(r->name, name, strlen(name)) == 0) found = r, n++;
    }
    *several = n > 1;
    return n == 1 ? found : NULL;
}

const char *monitor_complete(const char *beginning, unsigned n)
{
    const struct monitor_row *r;
    for (unsigned i = 0; (r = row(i)) != NULL; i++)
        if (strncmp(r->name, beginning, strlen(beginning)) == 0 && !n--) return r->name;
    return NULL;
}

static void help_row(struct monitor *c, const struct monitor_row *r, bool whole)
{
    const char *prefix = c->kind == MONITOR_GDB ? "monitor " : "";
    json_open(c, NULL, '{');
    json_text(c, "name", r->name);
    json_text(c, "arguments", r->arguments);
    json_text(c, "help", r->help);
    json_text(c, "example", r->example);
    json_close(c);
    say(c, "%s%s%s%s\n", prefix, r->name, *r->arguments ? " " : "", r->arguments);
    if (whole) say(c, "    %s.\n    As: %s%s\n", r->help, prefix, r->example);
}

void monitor_help(struct monitor *c, const struct words *w)
{
    char name[64];
    const struct monitor_row *r;
    unsigned shown = 0;
    bool one = w->n > 1;
    snprintf(name, sizeof name, "%s%s%s", word(w, 1), w->n > 2 ? " " : "", word(w, 2));
    json_open(c, "commands", '[');
    for (unsigned i = 0; (r = row(i)) != NULL; i++) {
        if (one && strncmp(r->name, name, strlen(name)) != 0) continue;
        help_row(c, r, true);
        shown++;
    }
    json_close(c);
    if (!shown) fail(c, "help: \"%s\" is the beginning of no command; help alone lists them\n", name);
}

// ---- arguments ----
static bool known(const struct monitor *c, const char *name, u64 *x)
{
    static const char *const gpr[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const struct view *v = &c->d->view;
    for (unsigned i = 0; i < 16; i++)
        if (strcasecmp(name, gpr[i]) == 0 && v->gpr_known >> i & 1) {
            *x = v->gpr[i];
            return true;
        }
    const struct {
        const char *name;
        u64 value;
    } other[] = {{"rip", v->rip},
                 {"pc", v->seg[SEG_CS].base + v->rip},
                 {"sp", v->seg[SEG_SS].base + v->gpr[RSP]},
                 {"eip", v->rip},
                 {"rflags", v->rflags},
                 {"cr0", v->cr0},
                 {"cr3", v->cr3},
                 {"cr4", v->cr4},
                 {"efer", v->efer},
                 {"gdtr", v->gdtr.base},
                 {"idtr", v->idtr.base},
                 {"vmcs", v->vmcs}};
    for (unsigned i = 0; i < ARRAY_LEN(other); i++)
        if (strcasecmp(name, other[i].name) == 0) {
            *x = other[i].value;
            return true;
        }
    if (strcasecmp(name, "cr2") == 0 && v->cr2_known) {
        *x = v->cr2;
        return true;
    }
    bool high;
    int field = vmcs_name_find(name, strlen(name), &high);
    const struct vmcs_region *r =
        field < 0 || v->vmcs == VMX_NO_POINTER ? NULL : vmcs_region_at(v->v->phys, v->vmcs);
    if (!r) return false;
    *x = vmcs_field_get(&r->f, (enum vmcs_field)field);
    return true;
}

static bool term(const struct monitor *c, const char *text, u64 *x)
{
    if (text_number(text, x)) return true;
    if (*text == '$') return known(c, text + 1, x);
    return c->d->symbols && symbols_address(c->d->symbols, debugger_symbols_of(&c->d->view), text, x);
}

enum { PART_MAX = 256 };
// part: the one that was read last.
static bool sum(const struct monitor *c, const char *text, u64 *x, char part[PART_MAX])
{
    bool minus = false;
    *x = 0;
    for (;; text++) {
        size_t n = strcspn(text, "+-");
        u64 y;
        *part = 0;
        if (!n || n >= PART_MAX) return false;
        memcpy(part, text, n), part[n] = 0;
        if (!term(c, part, &y)) return false;
        *x = minus ? *x - y : *x + y;
        text += n;
        if (!*text) return true;
        minus = *text == '-';
    }
}

// A name that another level alone has: who has it, and how to say it there.
static bool known_elsewhere(struct monitor *c, const struct words *w, unsigned n, const char *name)
{
    const char *prefix = c->kind == MONITOR_GDB ? "monitor " : "";
    char level[64] = "root";
    u64 at;
    const struct symbols_file *f =
        *name && c->d->symbols ? symbols_file_with(c->d->symbols, name, &at) : NULL;
    if (!f) return false;
    bool here = debugger_symbols_of(&c->d->view).level == SYMBOLS_GUEST;
    if (f->level != SYMBOLS_ROOT) snprintf(level, sizeof level, "guest");
    if (f->vmcs != SYMBOLS_NO_VMCS) snprintf(level, sizeof level, "vmcs %#llx", (unsigned long long)f->vmcs);
    fail(c, "%s: %s is a name of level %s (%s), and %s is looked at: %scontext %s goes there", w->at[0], name,
         level, f->path,
         !here                      ? "root"
         : f->level == SYMBOLS_ROOT ? "a guest"
                                    : "another guest",
         prefix, level);
    if (word_is(w, 0, "break") && n == 1 && word_is(w, 1, name))
        say(c, ", or %sbreak %#llx level %s needs no name", prefix, (unsigned long long)at, level);
    say(c, "\n");
    return true;
}

bool argument_address(struct monitor *c, const struct words *w, unsigned n, const char *what, u64 *x)
{
    char part[PART_MAX] = "";
    if (n < w->n && sum(c, w->at[n], x, part)) return true;
    if (known_elsewhere(c, w, n, part)) return false;
    fail(c, "%s: %s expected, as 0x1f2000, $rip+8 or the name of a symbol, not \"%s\"\n", w->at[0], what,
         word(w, n));
    return false;
}

bool argument_number(struct monitor *c, const struct words *w, unsigned n, const char *what, u64 least,
                     u64 most, u64 *x)
{
    if (n < w->n && text_number(w->at[n], x) && *x >= least && *x <= most) return true;
    if (most == UINT64_MAX)
        fail(c, "%s: %s expected, not \"%s\"\n", w->at[0], what, word(w, n));
    else
        fail(c, "%s: %s expected, from %llu to %llu, not \"%s\"\n", w->at[0], what, (unsigned long long)least,
             (unsigned long long)most, word(w, n));
    return false;
}

bool argument_vmcs(struct monitor *c, const struct words *w, unsigned n, u64 *vmcs)
{
    *vmcs = debugger_cpu(c->d)->s.vmx.vmcs_pointer;
    if (n < w->n) return argument_address(c, w, n, "the physical address of a VMCS", vmcs);
    if (*vmcs != VMX_NO_POINTER) return true;
    fail(c, "%s: CPU %u has no current VMCS; give the physical address of one\n", w->at[0], c->d->cpu);
    return false;
}

const char *symbol_behind(const struct monitor *c, u64 addr, char *to, size_t n)
{
    char name[200];
    *to = 0;
    if (c->d->symbols &&
        symbols_text(c->d->symbols, debugger_symbols_of(&c->d->view), addr, name, sizeof name))
        snprintf(to, n, " <%s>", name);
    return to;
}

// ---- a line ----
static void run(struct monitor *c, char *line)
{
    struct words w = {0};
    char name[LINE_MAX_], *rest;
    bool several = false;
    // x/8i is x /8i
    char *slash = line + strcspn(line, "/ \t");
    if (*slash == '/' && slash - line <= 2 && slash > line) {
        memmove(slash + 1, slash, strlen(slash) + 1);
        *slash = ' ';
    }
    rest = line;
    for (char *t; w.n < MONITOR_WORDS && (t = strtok_r(rest, " \t\r\n", &rest)) != NULL;) w.at[w.n++] = t;
    if (!w.n) return;
    const struct monitor_row *r = NULL;
    if (w.n > 1) { // "info registers"
        snprintf(name, sizeof name, "%s %s", w.at[0], w.at[1]);
        r = find(name, &several);
        if (r) {
            for (unsigned i = 1; i < w.n; i++) w.at[i - 1] = w.at[i];
            w.n--;
            w.at[0] = (char *)(uintptr_t)r->name;
        }
    }
    if (!r) r = find(w.at[0], &several);
    if (r)
        r->run(c, &w);
    else if (several)
        fail(c, "\"%s\" is the beginning of several commands: %shelp %s lists them\n", w.at[0],
             c->kind == MONITOR_GDB ? "monitor " : "", w.at[0]);
    else
        fail(c, "\"%s\" is no command of the monitor: %shelp lists them\n", w.at[0],
             c->kind == MONITOR_GDB ? "monitor " : "");
}

void monitor_command(struct monitor *c, const char *line)
{
    char text[LINE_MAX_ + 2], plain[LINE_MAX_];
    size_t n = 0;
    for (; line[n] && n < sizeof plain - 1; n++)
        plain[n] = (u8)line[n] < ' ' || line[n] == 127 ? ' ' : line[n];
    plain[n] = 0;
    if (c->kind == MONITOR_JSON && !plain[strspn(plain, " ")]) return;
    strcpy(text, plain);
    monitor_answer_begin(c);
    if (c->d->running) debugger_look(c->d);
    if (line[n])
        fail(c, "a line of less than %u characters expected\n", LINE_MAX_);
    else
        run(c, text);
    if (c->kind == MONITOR_JSON) monitor_answer(c, plain, false);
}

// ---- standing ----
// What the breakpoint that was met says is to be done.
static void run_commands(struct monitor *c)
{
    struct debugger *d = c->d;
    char text[sizeof d->breaks.b[0].commands], *rest = text;
    struct breakpoint *b = d->broke < 0 ? NULL : &d->breaks.b[d->broke];
    if (!b || !b->kind || b->owner != c || !*b->commands) return;
    snprintf(text, sizeof text, "%s", b->commands);
    for (char *one; (one = strtok_r(rest, ";", &rest)) != NULL && c->told == d->stood && !d->running;)
        monitor_command(c, one + strspn(one, " "));
}

void monitor_look(struct monitor *c)
{
    struct debugger *d = c->d;
    char name[96], behind[220];
    if (c->told == d->stood) return;
    c->told = d->stood;
    if (d->running || c->kind == MONITOR_GDB) return;
    monitor_answer_begin(c);
    debugger_level_name(d, d->stopped_cpu, name, sizeof name);
    if (*d->why) say(c, "%s\n", d->why);
    say(c, "%s stands at RIP %#llx%s, %llu instructions\n", name, (unsigned long long)d->view.rip,
        symbol_behind(c, d->view.rip, behind, sizeof behind), (unsigned long long)debugger_now(d));
    json_text(c, "why", d->why);
    json_number(c, "cpu", d->stopped_cpu);
    json_hex(c, "rip", d->view.rip);
    json_flag(c, "guest", d->view.v->s.vmx.guest);
    json_number(c, "retired", debugger_now(d));
    if (d->badly) monitor_tell_summary(c);
    if (d->broke >= 0) json_number(c, "breakpoint", (u64)d->broke + 1);
    if (c->kind == MONITOR_JSON) monitor_answer(c, "stopped", true);
    run_commands(c);
}

void monitor_make(struct monitor *c, struct debugger *d, enum monitor_kind kind,
                  void (*put)(void *opaque, const char *text), void *opaque)
{
    *c = (struct monitor){.d = d, .kind = (u8)kind, .put = put, .opaque = opaque, .told = d->stood};
}

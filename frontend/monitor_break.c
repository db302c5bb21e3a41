// Breakpoints: how they are said, listed and taken away.
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "devices/text.h"
#include "frontend/monitor.h"
#include "frontend/vmcs_text.h"

enum { CONTROL_REGISTERS = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 8 };

struct reader {
    struct monitor *c;
    const struct words *w;
    unsigned n; // the next word
};

static const char *next(struct reader *r) { return word(r->w, r->n); }
static bool take(struct reader *r, const char *text)
{
    if (strcmp(next(r), text) != 0) return false;
    r->n++;
    return true;
}
static bool expected(struct reader *r, const char *what)
{
    fail(r->c, "break: %s expected, not \"%s\"\n", what, next(r));
    return false;
}
static bool number(struct reader *r, const char *what, u64 least, u64 most, u64 *x)
{
    if (!text_number(next(r), x) || *x < least || *x > most) return expected(r, what);
    r->n++;
    return true;
}

static bool clause(const struct reader *r)
{
    static const char *const words[] = {"if", "count", "level", "do"};
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(word(r->w, r->n), words[i]) == 0) return true;
    return r->n >= r->w->n;
}

static bool port_or_register(struct reader *r, struct breakpoint *b, const char *what, u64 most)
{
    b->any = clause(r) || take(r, "any");
    return b->any || number(r, what, 0, most, &b->what);
}

static bool field(struct reader *r, struct breakpoint *b)
{
    bool high;
    if ((b->any = clause(r) || take(r, "any"))) return true;
    int n = vmcs_name_find(next(r), strlen(next(r)), &high);
    if (n < 0 && text_number(next(r), &b->what)) n = vmcs_field_find((u32)b->what);
    if (n < 0) return expected(r, "the name or encoding of a VMCS field");
    r->n++;
    b->what = vmcs_field_rows[n].encoding;
    return true;
}

// What is stopped at.
static bool place(struct reader *r, struct breakpoint *b)
{
    struct monitor *c = r->c;
    b->size = 1;
    b->count = 1;
    b->vmcs = VMX_NO_POINTER;
    if (take(r, "entry"))
        b->kind = BREAK_ENTRY;
    else if (take(r, "failed-entry"))
        b->kind = BREAK_FAILED_ENTRY;
    else if (take(r, "exit")) {
        b->kind = BREAK_EXIT;
        if (clause(r))
            b->exits[0] = b->exits[1] = UINT64_MAX;
        else if (!argument_reason(c, r->w, r->n++, b->exits))
            return false;
    } else if (take(r, "level")) {
        b->kind = BREAK_LEVEL;
        if (!take(r, "root") && !take(r, "guest")) return expected(r, "root or guest");
        b->level = word_is(r->w, r->n - 1, "root") ? STOP_ROOT : STOP_GUEST;
    } else if (take(r, "vector")) {
        b->kind = BREAK_VECTOR;
        return port_or_register(r, b, "a vector (0 to 255) or any", 255);
    } else if (take(r, "port")) {
        b->kind = BREAK_PORT;
        if (!port_or_register(r, b, "a port (0 to 0xffff) or any", 0xFFFF)) return false;
        if (b->any)
            b->size = 0x10000;
        else if (!clause(r))
            return number(r, "how many ports from there on", 1, 0x10000, &b->size);
    } else if (take(r, "msr")) {
        b->kind = BREAK_MSR;
        return port_or_register(r, b, "an MSR, as 0xc0000080, or any", UINT32_MAX);
    } else if (take(r, "cr")) {
        b->kind = BREAK_CR;
        const char *const which = "a control register (0, 2, 3, 4, 8) or any";
        if (!port_or_register(r, b, which, 8)) return false;
        if (b->any || (1u << b->what & CONTROL_REGISTERS)) return true;
        r->n--;
        return expected(r, which);
    } else if (take(r, "field")) {
        b->kind = BREAK_FIELD;
        return field(r, b);
    } else if (take(r, "page")) {
        b->kind = BREAK_PAGE;
        b->on = STOP_ON_WRITE;
        if (!argument_address(c, r->w, r->n++, "a physical address", &b->what)) return false;
        b->what &= PAGE_MASK;
        b->size = PAGE_SIZE;
        if (take(r, "r")) b->on = STOP_ON_READ;
        if (take(r, "w")) b->on = STOP_ON_WRITE;
        if (take(r, "rw")) b->on = STOP_ON_READ | STOP_ON_WRITE;
    } else {
        if (r->n >= r->w->n)
            return expected(r, "entry, exit, failed-entry, level, vector, port, msr, cr, field, page or the "
                               "address of an instruction");
        b->kind = BREAK_ADDRESS;
        b->on = STOP_ON_CODE;
        char *at = r->w->at[r->n];
        if (*at == '*') memmove(at, at + 1, strlen(at)); // as gdb has it
        return argument_address(c, r->w, r->n++,
                                "entry, exit, failed-entry, level, vector, port, msr, cr, field, page or the "
                                "address of an instruction",
                                &b->what);
    }
    return true;
}

static bool term(struct reader *r, struct breakpoint *b)
{
    static const char *const relations[] = {"&", "==", "!=", "<", ">", "<=", ">="};
    if (b->terms == BREAKS_TERMS) return expected(r, "no more than four conditions");
    struct break_term *t = &b->term[b->terms++];
    unsigned left = 0, relation = 0;
    while (break_names[left] && strcasecmp(break_names[left], next(r)) != 0) left++;
    if (!break_names[left]) {
        fail(r->c, "break: what a condition is about expected, not \"%s\"; there are", next(r));
        for (unsigned i = 0; break_names[i]; i++) say(r->c, " %s", break_names[i]);
        say(r->c, "\n");
        return false;
    }
    r->n++;
    t->left = (u8)left;
    t->mask = UINT64_MAX;
    if (take(r, "&")) {
        if (!number(r, "a mask behind &", 0, UINT64_MAX, &t->mask)) return false;
        if (clause(r) || strcmp(next(r), "and") == 0) return true; // any bit of it
    }
    for (relation = 1; relation < ARRAY_LEN(relations) && strcmp(relations[relation], next(r)) != 0;
         relation++)
        continue;
    if (relation == ARRAY_LEN(relations)) return expected(r, "& == != < > <= or >=, with spaces around it,");
    r->n++;
    t->relation = (u8)relation;
    return argument_address(r->c, r->w, r->n++, "a value behind it", &t->right);
}

static bool clauses(struct reader *r, struct breakpoint *b)
{
    while (r->n < r->w->n) {
        if (take(r, "if")) {
            do
                if (!term(r, b)) return false;
            while (take(r, "and"));
        } else if (take(r, "count")) {
            if (!number(r, "which time it is to stop at, from 1 on", 1, UINT64_MAX, &b->count)) return false;
        } else if (take(r, "level")) {
            if (b->kind == BREAK_LEVEL) return expected(r, "no level twice");
            if (take(r, "vmcs")) {
                if (!argument_address(r->c, r->w, r->n++, "the physical address of a VMCS", &b->vmcs))
                    return false;
            } else if (take(r, "root"))
                b->level = STOP_ROOT;
            else if (take(r, "guest"))
                b->level = STOP_GUEST;
            else
                return expected(r, "root, guest or vmcs ADDRESS");
        } else if (take(r, "do")) {
            if (r->n >= r->w->n) return expected(r, "commands, separated by ;");
            for (; r->n < r->w->n; r->n++) {
                size_t k = strlen(b->commands);
                if ((size_t)snprintf(b->commands + k, sizeof b->commands - k, "%s%s", k ? " " : "",
                                     next(r)) >= sizeof b->commands - k)
                    return expected(r, "shorter commands");
            }
        } else
            return expected(r, "if, count, level, do or the end");
    }
    return true;
}

static void tell(struct monitor *c, unsigned n)
{
    const struct breakpoint *b = &c->d->breaks.b[n];
    json_open(c, NULL, '{');
    json_number(c, "number", n + 1);
    json_text(c, "what", b->text);
    json_number(c, "hits", b->hits);
    json_close(c);
    say(c, "%u: %s, met %llu times\n", n + 1, b->text, (unsigned long long)b->hits);
}

static void list(struct monitor *c, const struct words *w)
{
    unsigned shown = 0;
    json_open(c, "breakpoints", '[');
    for (unsigned i = 0; i < BREAKS_MAX; i++)
        if (c->d->breaks.b[i].kind) tell(c, i), shown++;
    json_close(c);
    if (!shown) say(c, "There is no breakpoint.\n");
}

static void break_(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    struct breakpoint b = {0};
    struct reader r = {c, w, 1};
    unsigned n = 0;
    if (w->n == MONITOR_WORDS) {
        fail(c, "break: fewer than %d words expected\n", MONITOR_WORDS);
        return;
    }
    for (unsigned i = 1; i < w->n; i++) {
        size_t k = strlen(b.text);
        snprintf(b.text + k, sizeof b.text - k, "%s%s", k ? " " : "", w->at[i]);
    }
    if (!place(&r, &b) || !clauses(&r, &b)) return;
    while (n < BREAKS_MAX && d->breaks.b[n].kind) n++;
    if (n == BREAKS_MAX) {
        fail(c, "break: there are %u already (delete N takes one away)\n", n);
        return;
    }
    b.owner = c;
    d->breaks.b[n] = b;
    if (!debugger_breaks_changed(d)) {
        d->breaks.b[n].kind = BREAK_NONE;
        debugger_breaks_changed(d);
        fail(c, "break: there are %u stops already\n", DEBUGGER_STOPS_MAX);
        return;
    }
    json_open(c, "breakpoint", '[');
    tell(c, n);
    json_close(c);
}

static void delete (struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    u64 n = 0;
    bool all = word_is(w, 1, "all");
    if (!all && !argument_number(c, w, 1, "all or the number of a breakpoint", 1, BREAKS_MAX, &n)) return;
    if (!all && !d->breaks.b[n - 1].kind) {
        fail(c, "delete: there is no breakpoint %llu (list shows them)\n", (unsigned long long)n);
        return;
    }
    for (unsigned i = 0; i < BREAKS_MAX; i++)
        if (all || i == n - 1) d->breaks.b[i].kind = BREAK_NONE;
    debugger_breaks_changed(d);
}

// clang-format off
const struct monitor_row monitor_break_rows[] = {
    {"break", "WHAT [if CONDITION [and CONDITION]] [count N] [level root|guest|vmcs VMCS] [do COMMAND; COMMAND]",
     "stop there. WHAT: entry, failed-entry, exit [REASON], level root|guest (whenever it is gone to), vector [N], port [N [HOW MANY]], msr [N], cr [N] (a write), field [NAME] (VMWRITE), "
     "page ADDRESS [r|w|rw] (physical), or the address of an instruction. CONDITION: NAME [& MASK] ==|!=|<|>|<=|>= VALUE, of qualification, reason, gpa, gla, vector, error, "
     "address (of the port, MSR, register, field, memory; #PF's CR2), value, size, write, info, length, rip, cr3, vmcs, $rax and the other general registers. count: from the Nth time on; "
     "do: what is run when it has stopped there", "break exit EPT_VIOLATION if qualification & 2 and gpa >= 0x1000 count 2 do where; x /2i $rip", break_},
    {"delete", "N|all", "take a breakpoint away", "delete all", delete},
    {"list", "", "the breakpoints", "list", list},
};
// clang-format on
const unsigned monitor_break_rows_n = ARRAY_LEN(monitor_break_rows);

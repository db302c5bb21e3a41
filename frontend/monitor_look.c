// What there is to see of the processors and of memory.
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "cpu/state/mode.h"
#include "devices/text.h"
#include "frontend/monitor.h"
#include "frontend/monitor_walk.h"
#include "vmx/offence.h"

// ---- processors ----
static void where(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    char name[96], behind[220];
    json_flag(c, "running", d->running);
    json_number(c, "retired", debugger_now(d));
    json_open(c, "cpus", '[');
    for (unsigned i = 0; i < d->m->cpus_n; i++) {
        const struct vcpu *v = d->m->cpu[i];
        debugger_level_name(d, i, name, sizeof name);
        json_open(c, NULL, '{');
        json_number(c, "cpu", i);
        json_text(c, "name", name);
        json_flag(c, "guest", v->s.vmx.guest);
        if (v->s.vmx.vmcs_pointer != VMX_NO_POINTER) json_hex(c, "vmcs", v->s.vmx.vmcs_pointer);
        json_hex(c, "rip", v->s.rip);
        json_number(c, "retired", cpu_retired(v));
        json_close(c);
        say(c, "%s RIP %#llx%s, %llu instructions\n", name, (unsigned long long)v->s.rip,
            i == d->cpu ? symbol_behind(c, v->s.rip, behind, sizeof behind) : "",
            (unsigned long long)cpu_retired(v));
    }
    json_close(c);
    if (c->kind == MONITOR_GDB) monitor_tell_context(c);
}

static void info_status(struct monitor *c, const struct words *w)
{
    struct debugger *d = c->d;
    json_flag(c, "running", d->running);
    json_number(c, "retired", debugger_now(d));
    json_text(c, "why", d->running ? "" : d->why);
    say(c, "VM status: %s\n", d->running ? "running" : "paused");
    if (!d->running && *d->why) say(c, "%s\n", d->why);
    say(c, "%llu instructions\n", (unsigned long long)debugger_now(d));
    if (!d->keeps) return;
    json_number(c, "history_begins", history_begins(&d->history));
    json_number(c, "history_bytes", d->history.used);
    say(c, "history from %llu on, %llu MiB of %llu\n", (unsigned long long)history_begins(&d->history),
        (unsigned long long)d->history.used >> 20, (unsigned long long)d->history_limit >> 20);
}

static void info_version(struct monitor *c, const struct words *w)
{
    json_text(c, "version", MATRYOSHKA_VERSION);
    say(c, "Matryoshka %s\n", MATRYOSHKA_VERSION);
}

static void bit_names(const char *of, u64 x, char *to, size_t n)
{
    size_t at = 0;
    *to = 0;
    for (unsigned b = 0; b < 64; b++) {
        const char *name = x >> b & 1 ? vmx_bit_name(of, b) : NULL;
        if (name && at < n) at += (size_t)snprintf(to + at, n - at, " %s", name);
    }
}

static void one_register(struct monitor *c, const char *name, u64 x)
{
    char bits[512];
    bit_names(name, x, bits, sizeof bits);
    json_hex(c, name, x);
    say(c, "%s=%016llx%s%s%s\n", name, (unsigned long long)x, *bits ? " [" : "", *bits ? bits + 1 : "",
        *bits ? " ]" : "");
}

static void info_registers(struct monitor *c, const struct words *w)
{
    static const char *const gpr[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                      "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const seg[SEG_COUNT] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};
    const struct view *v = &c->d->view;
    char behind[220];
    monitor_tell_context(c);
    json_open(c, "registers", '{');
    for (unsigned i = 0; i < 16; i++) {
        bool is_known = v->gpr_known >> i & 1;
        if (is_known) {
            json_hex(c, gpr[i], v->gpr[i]);
            say(c, "%-3s=%016llx", gpr[i], (unsigned long long)v->gpr[i]);
        } else
            say(c, "%-3s=%-16s", gpr[i], "not known here");
        say(c, i % 4 == 3 ? "\n" : " ");
    }
    json_hex(c, "RIP", v->rip);
    say(c, "RIP=%016llx%s\n", (unsigned long long)v->rip, symbol_behind(c, v->rip, behind, sizeof behind));
    one_register(c, "RFLAGS", v->rflags);
    one_register(c, "CR0", v->cr0);
    if (v->cr2_known) one_register(c, "CR2", v->cr2);
    one_register(c, "CR3", v->cr3);
    one_register(c, "CR4", v->cr4);
    one_register(c, "EFER", v->efer);
    one_register(c, "DR7", v->dr7);
    json_close(c);
    json_open(c, "segments", '[');
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        const struct segment *s = &v->seg[i];
        json_open(c, NULL, '{');
        json_text(c, "name", seg[i]);
        json_hex(c, "selector", s->sel);
        json_hex(c, "base", s->base);
        json_hex(c, "limit", s->limit);
        json_hex(c, "rights", s->ar);
        json_close(c);
        say(c, "%-4s=%04x base=%016llx limit=%08x rights=%05x\n", seg[i], s->sel, (unsigned long long)s->base,
            s->limit, s->ar);
    }
    json_close(c);
    const struct dtable *const table[] = {&v->gdtr, &v->idtr};
    for (unsigned i = 0; i < 2; i++) {
        const char *name = i ? "IDTR" : "GDTR";
        json_open(c, name, '{');
        json_hex(c, "base", table[i]->base);
        json_hex(c, "limit", table[i]->limit);
        json_close(c);
        say(c, "%s base=%016llx limit=%04x\n", name, (unsigned long long)table[i]->base, table[i]->limit);
    }
}

// ---- memory ----
struct format {
    u64 n;
    char as;       // x d u o c i
    unsigned size; // bytes
};

// "/8i", "/4xg"; none: 4 words of 8 bytes
static bool format_word(struct monitor *c, const struct words *w, struct format *f)
{
    *f = (struct format){1, 'x', 8};
    if (word(w, 1)[0] != '/') {
        f->n = 4;
        return true;
    }
    const char *p = w->at[1] + 1;
    if (isdigit((u8)*p)) {
        char *end;
        f->n = strtoul(p, &end, 10);
        p = end;
    }
    bool good = f->n >= 1 && f->n <= 4096;
    for (; *p; p++) {
        if (strchr("xduoci", *p))
            f->as = *p;
        else if (strchr("bhwg", *p))
            f->size = *p == 'b' ? 1 : *p == 'h' ? 2 : *p == 'w' ? 4 : 8;
        else
            good = false;
    }
    if (!good)
        fail(c,
             "%s: a format expected, as /8i, /4xg: a number up to 4096, one of x d u o c i, one of b h w g; "
             "not \"%s\"\n",
             w->at[0], w->at[1]);
    return good;
}

static size_t look(const struct monitor *c, bool physical, u64 at, u8 *to, size_t n)
{
    return physical ? view_physical_read(&c->d->view, at, to, n)
                    : view_read(&c->d->view, laddr_of(at), to, n);
}

static void not_there(struct monitor *c, bool physical, u64 at)
{
    if (physical)
        fail(c, "%#llx: no RAM (a device is not read: that has consequences)\n", (unsigned long long)at);
    else
        fail(c, "%#llx: no memory is there (walk %#llx says why)\n", (unsigned long long)at,
             (unsigned long long)at);
}

static void put_value(struct monitor *c, const struct format *f, u64 x)
{
    s64 sx = (s64)(x << (64 - 8 * f->size)) >> (64 - 8 * f->size);
    char text[64];
    switch (f->as) {
    case 'd': snprintf(text, sizeof text, "%lld", (long long)sx); break;
    case 'u': snprintf(text, sizeof text, "%llu", (unsigned long long)x); break;
    case 'o': snprintf(text, sizeof text, "0%llo", (unsigned long long)x); break;
    case 'c':
        if (x >= ' ' && x < 127)
            snprintf(text, sizeof text, "'%c'", (char)x);
        else
            snprintf(text, sizeof text, "'\\x%02llx'", (unsigned long long)(x & 255));
        break;
    default: snprintf(text, sizeof text, "%0*llx", (int)f->size * 2, (unsigned long long)x);
    }
    json_hex(c, NULL, x);
    say(c, " %s", text);
}

static void dump(struct monitor *c, const struct format *f, bool physical, u64 at)
{
    unsigned in_line = f->size == 8 && !physical ? 2 : f->size == 8 ? 1 : 16 / f->size;
    json_hex(c, "address", at);
    json_number(c, "size", f->size);
    json_open(c, "values", '[');
    for (u64 i = 0; i < f->n; i++, at += f->size) {
        u64 x = 0;
        if (look(c, physical, at, (u8 *)&x, f->size) < f->size) {
            if (i % in_line) say(c, "\n");
            json_close(c);
            not_there(c, physical, at);
            return;
        }
        if (i % in_line == 0) say(c, "%#llx:", (unsigned long long)at);
        put_value(c, f, x);
        if (i % in_line == in_line - 1 || i == f->n - 1) say(c, "\n");
    }
    json_close(c);
}

static unsigned code_size(const struct view *v)
{
    bool lma = v->efer & EFER_LMA;
    return lma && v->seg[SEG_CS].ar & AR_L ? 2 : v->seg[SEG_CS].ar & AR_DB ? 1 : 0;
}

static void disassemble(struct monitor *c, const struct format *f, bool physical, u64 at)
{
    static const ZydisMachineMode mode[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                            ZYDIS_MACHINE_MODE_LONG_64};
    char behind[220];
    json_open(c, "instructions", '[');
    for (u64 i = 0; i < f->n; i++) {
        u8 bytes[15];
        ZydisDisassembledInstruction in;
        size_t got = look(c, physical, at, bytes, sizeof bytes);
        if (!got) {
            json_close(c);
            not_there(c, physical, at);
            return;
        }
        bool good = ZYAN_SUCCESS(ZydisDisassembleIntel(mode[code_size(&c->d->view)], at, bytes, got, &in));
        unsigned n = good ? in.info.length : 1;
        char hex[32] = "", target[220] = "";
        for (unsigned k = 0; k < n; k++) snprintf(hex + 2 * k, sizeof hex - 2 * k, "%02x", bytes[k]);
        for (unsigned k = 0; good && k < in.info.operand_count; k++) {
            u64 to;
            if ((in.operands[k].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && in.operands[k].imm.is_relative) ||
                (in.operands[k].type == ZYDIS_OPERAND_TYPE_MEMORY &&
                 in.operands[k].mem.base == ZYDIS_REGISTER_RIP))
                if (ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&in.info, &in.operands[k], at, &to)))
                    symbol_behind(c, to, target, sizeof target);
        }
        symbol_behind(c, at, behind, sizeof behind);
        json_open(c, NULL, '{');
        json_hex(c, "address", at);
        if (*behind) json_text(c, "symbol", behind + 1);
        json_text(c, "bytes", hex);
        json_text(c, "text", good ? in.text : "(bad)");
        if (*target) json_text(c, "target", target + 1);
        json_close(c);
        say(c, "%#llx%s: %-20s %s%s\n", (unsigned long long)at, behind, hex, good ? in.text : "(bad)",
            target);
        at += n;
    }
    json_close(c);
}

static void examine(struct monitor *c, const struct words *w, bool physical)
{
    struct format f;
    u64 at;
    unsigned n = word(w, 1)[0] == '/' ? 2 : 1;
    if (!format_word(c, w, &f) ||
        !argument_address(c, w, n, physical ? "a physical address" : "a linear address", &at))
        return;
    if (n == 1 && w->n > 2 && !argument_number(c, w, 2, "a number of 8-byte words", 1, 4096, &f.n)) return;
    if (f.as == 'i')
        disassemble(c, &f, physical, at);
    else
        dump(c, &f, physical, at);
}
static void x(struct monitor *c, const struct words *w) { examine(c, w, false); }
static void xp(struct monitor *c, const struct words *w) { examine(c, w, true); }

static void phys(struct monitor *c, const struct words *w)
{
    if (!c->physical)
        fail(c, "phys: a command for gdb; here x takes linear addresses and xp physical ones\n");
    else if (word_is(w, 1, "on") || word_is(w, 1, "off"))
        *c->physical = word_is(w, 1, "on");
    else if (w->n > 1)
        fail(c, "phys: on or off expected, not \"%s\"\n", w->at[1]);
    if (!c->failed) say(c, "gdb's addresses of memory are %s.\n", *c->physical ? "physical" : "linear");
}

static void walk(struct monitor *c, const struct words *w)
{
    u64 at;
    u32 acc = ACC_READ;
    if (!argument_address(c, w, 1, "a linear address", &at)) return;
    for (unsigned i = 2; i < w->n; i++) {
        if (word_is(w, i, "write"))
            acc |= ACC_WRITE;
        else if (word_is(w, i, "fetch"))
            acc |= ACC_FETCH;
        else if (word_is(w, i, "user"))
            acc |= ACC_USER;
        else if (!word_is(w, i, "read")) {
            fail(c, "walk: read, write, fetch or user expected behind the address, not \"%s\"\n", w->at[i]);
            return;
        }
    }
    if ((acc & (ACC_WRITE | ACC_FETCH)) == (ACC_WRITE | ACC_FETCH))
        fail(c, "walk: write or fetch expected, not both\n");
    else
        monitor_walk(c, at, acc);
}

// clang-format off
const struct monitor_row monitor_look_rows[] = {
    {"where", "", "each processor's level, RIP and count of instructions; in gdb also what it looks at", "where", where},
    {"info registers", "", "the registers of what is looked at (cpu, context)", "info registers", info_registers},
    {"info status", "", "whether the machine runs, why it stands, and where it is in its run", "info status", info_status},
    {"info cpus", "", "as where", "info cpus", where},
    {"info version", "", "the version of the program", "info version", info_version},
    {"x", "[/FORMAT] ADDRESS [N]", "memory by linear address of what is looked at. FORMAT: a number, x d u o c or i (instructions), and the size b h w g; without it N words of 8 bytes, or 4", "x /4i $rip", x},
    {"xp", "[/FORMAT] ADDRESS [N]", "memory by physical address, as x", "xp /8xg 0x1f2000", xp},
    {"phys", "[on|off]", "whether the addresses of gdb's memory commands are physical", "phys on", phys},
    {"walk", "ADDRESS [read|write|fetch] [user]", "the translation of a linear address, step by step, with the EPT walk under it", "walk 0x7c00 write user", walk},
};
// clang-format on
const unsigned monitor_look_rows_n = ARRAY_LEN(monitor_look_rows);

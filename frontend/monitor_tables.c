// What the processor looks up: descriptor tables, the TSS, MSRs, and the interrupt controllers before it.
#define _GNU_SOURCE
#include <string.h>

#include "cpu/system/system.h"
#include "devices/text.h"
#include "frontend/monitor.h"

typedef unsigned long long ull;

static bool get(const struct monitor *c, u64 at, void *to, size_t n)
{
    return view_read(&c->d->view, laddr_of(at), to, n) == n;
}

// ---- descriptors ----
static void rights_in_words(u32 high, bool ia32e, char *to, size_t n)
{
    static const char *const system[16] = {"reserved",
                                           "16-bit TSS",
                                           "LDT",
                                           "busy 16-bit TSS",
                                           "16-bit call gate",
                                           "task gate",
                                           "16-bit interrupt gate",
                                           "16-bit trap gate",
                                           "reserved",
                                           "TSS",
                                           "reserved",
                                           "busy TSS",
                                           "call gate",
                                           "reserved",
                                           "interrupt gate",
                                           "trap gate"};
    unsigned type = high >> 8 & 15;
    if (!(high >> 12 & 1))
        snprintf(to, n, "%s", system[type]);
    else if (type & 8)
        snprintf(to, n, "%s code%s%s",
                 high >> 21 & 1 && ia32e ? "64-bit"
                 : high >> 22 & 1        ? "32-bit"
                                         : "16-bit",
                 type & 4 ? ", conforming" : "", type & 2 ? ", readable" : "");
    else
        snprintf(to, n, "data%s%s", type & 4 ? ", expand-down" : "", type & 2 ? ", writable" : "");
}

static void gdt(struct monitor *c, const struct words *w)
{
    const struct view *v = &c->d->view;
    bool ia32e = v->efer & EFER_LMA;
    unsigned absent = 0;
    if (!(v->cr0 & CR0_PE)) {
        fail(c, "gdt: none is in use in real-address mode (context root has the hypervisor's)\n");
        return;
    }
    json_hex(c, "base", v->gdtr.base);
    json_hex(c, "limit", v->gdtr.limit);
    json_open(c, "descriptors", '[');
    say(c, "GDT at %#llx, limit %#x\n", (ull)v->gdtr.base, v->gdtr.limit);
    // a VM exit makes the limit FFFFh, whatever is behind the last descriptor
    for (u32 at = 0; at + 7 <= v->gdtr.limit && absent < 16; at += 8) {
        u64 d, high = 0;
        char words[96];
        if (!get(c, v->gdtr.base + at, &d, 8)) {
            say(c, "%04x: no memory is there\n", at);
            break;
        }
        absent = d >> 47 & 1 ? 0 : absent + 1;
        if (!d) continue;
        u64 base = (d >> 16 & 0xFFFFFF) | (d >> 56) << 24;
        u32 limit = (u32)(d & 0xFFFF) | (u32)(d >> 32 & 0xF0000);
        if (d >> 55 & 1) limit = limit << 12 | 0xFFF;
        u32 of = at;
        bool wide = ia32e && !(d >> 44 & 1);
        if (wide && get(c, v->gdtr.base + at + 8, &high, 8)) base |= high << 32, at += 8;
        rights_in_words((u32)(d >> 32), ia32e, words, sizeof words);
        json_open(c, NULL, '{');
        json_hex(c, "selector", of);
        json_hex(c, "base", base);
        json_hex(c, "limit", limit);
        json_number(c, "dpl", d >> 45 & 3);
        json_flag(c, "present", d >> 47 & 1);
        json_text(c, "words", words);
        json_close(c);
        say(c, "%04x: base %#llx limit %#x DPL %u%s  %s\n", of, (ull)base, limit, (unsigned)(d >> 45 & 3),
            d >> 47 & 1 ? "" : " not present", words);
    }
    json_close(c);
}

static bool gate(struct monitor *c, unsigned n)
{
    const struct view *v = &c->d->view;
    unsigned size = v->efer & EFER_LMA ? 16 : v->cr0 & CR0_PE ? 8 : 4;
    u64 d[2] = {0, 0}, offset;
    unsigned selector, ist = 0, dpl = 0;
    char words[96] = "real-address mode", behind[220];
    if (n * size + size - 1 > v->idtr.limit) return false;
    if (!get(c, v->idtr.base + (u64)n * size, d, size)) return false;
    if (size == 4)
        offset = (d[0] >> 16 & 0xFFFF) * 16 + (d[0] & 0xFFFF), selector = (unsigned)(d[0] >> 16 & 0xFFFF);
    else {
        if (!(d[0] >> 47 & 1)) return true;
        offset = (d[0] & 0xFFFF) | (d[0] >> 48) << 16 | (size == 16 ? d[1] << 32 : 0);
        selector = (unsigned)(d[0] >> 16 & 0xFFFF);
        dpl = (unsigned)(d[0] >> 45 & 3);
        ist = size == 16 ? (unsigned)(d[0] >> 32 & 7) : 0;
        rights_in_words((u32)(d[0] >> 32), size == 16, words, sizeof words);
    }
    symbol_behind(c, offset, behind, sizeof behind);
    json_open(c, NULL, '{');
    json_number(c, "vector", n);
    json_hex(c, "selector", selector);
    json_hex(c, "offset", offset);
    json_number(c, "dpl", dpl);
    json_number(c, "ist", ist);
    json_text(c, "words", words);
    json_close(c);
    say(c, "%3u: %04x:%llx%s  %s, DPL %u", n, selector, (ull)offset, behind, words, dpl);
    say(c, ist ? ", IST %u\n" : "\n", ist);
    return true;
}

static void idt(struct monitor *c, const struct words *w)
{
    const struct view *v = &c->d->view;
    u64 one = 0;
    if (w->n > 1 && !argument_number(c, w, 1, "a vector", 0, 255, &one)) return;
    json_hex(c, "base", v->idtr.base);
    json_hex(c, "limit", v->idtr.limit);
    json_open(c, "gates", '[');
    say(c, "IDT at %#llx, limit %#x\n", (ull)v->idtr.base, v->idtr.limit);
    for (unsigned n = (unsigned)one; n < (w->n > 1 ? one + 1 : 256); n++)
        if (!gate(c, n)) {
            say(c, "%3u: beyond the limit, or no memory is there\n", n);
            break;
        }
    json_close(c);
}

static void tss(struct monitor *c, const struct words *w)
{
    const struct segment *tr = &c->d->view.seg[SEG_TR];
    u8 t[104] = {0};
    size_t n = tr->limit + 1ull < sizeof t ? tr->limit + 1ull : sizeof t;
    bool wide = c->d->view.efer & EFER_LMA;
    char name[8];
    if (!get(c, tr->base, t, n)) {
        fail(c, "tss: no memory is at TR's base %#llx (walk says why)\n", (ull)tr->base);
        return;
    }
    json_hex(c, "selector", tr->sel);
    json_hex(c, "base", tr->base);
    json_hex(c, "limit", tr->limit);
    say(c, "TSS %04x at %#llx, limit %#x\n", tr->sel, (ull)tr->base, tr->limit);
    for (unsigned i = 0; i < 3; i++) {
        u64 sp = 0;
        memcpy(&sp, t + 4 + 8 * i, wide ? 8 : 4);
        snprintf(name, sizeof name, "%s%u", wide ? "RSP" : "ESP", i);
        json_hex(c, name, sp);
        say(c, "%s=%#llx%s", name, (ull)sp, i == 2 ? "\n" : " ");
    }
    for (unsigned i = 1; wide && i < 8; i++) {
        u64 sp;
        memcpy(&sp, t + 28 + 8 * i, 8);
        snprintf(name, sizeof name, "IST%u", i);
        json_hex(c, name, sp);
        say(c, "%s=%#llx%s", name, (ull)sp, i == 7 ? "\n" : " ");
    }
    json_hex(c, "io_map", t[102] | t[103] << 8);
    say(c, "I/O map at offset %#x\n", t[102] | t[103] << 8);
}

// ---- MSRs ----
static bool msr_value(const struct monitor *c, u32 n, u64 *x, const char **name)
{
    struct vcpu *v = debugger_cpu(c->d);
    const struct lapic *l = &c->d->m->lapic[v->index];
    if (msr_peek(v, n, x, name)) return true;
    if (!*name) return false;
    if (n == 0x1B) *x = l->st.apic_base;
    if (n == 0x6E0) *x = l->st.tsc_deadline;
    return n == 0x1B || n == 0x6E0;
}

static void msr(struct monitor *c, const struct words *w)
{
    u64 n = 0, x;
    bool one = w->n > 1, is_number = one && text_number(w->at[1], &n);
    unsigned shown = 0;
    // the ranges that have any
    static const u32 ranges[][2] = {{0, 0x1000}, {0xC0000000, 0xC0000200}};
    json_open(c, "msrs", '[');
    for (unsigned r = 0; r < ARRAY_LEN(ranges); r++)
        for (u32 i = ranges[r][0]; i < ranges[r][1]; i++) {
            const char *name = NULL;
            if (is_number && i != n) continue;
            if (!msr_value(c, i, &x, &name) || (one && !is_number && !strcasestr(name, w->at[1]))) continue;
            json_open(c, NULL, '{');
            json_hex(c, "msr", i);
            json_text(c, "name", name);
            json_hex(c, "value", x);
            json_close(c);
            say(c, "%08x %-30s %#llx\n", i, name, (ull)x);
            shown++;
        }
    json_close(c);
    if (!shown)
        fail(c,
             "msr: the number or a part of the name of an MSR expected that this processor has, and that can "
             "be read without consequences (not IA32_TIME_STAMP_COUNTER; apic shows the x2APIC's), not "
             "\"%s\"\n",
             word(w, 1));
}

// ---- interrupt controllers ----
static void vectors(struct monitor *c, const char *name, const u32 bits[8])
{
    bool any = false;
    json_open(c, name, '[');
    say(c, "%s:", name);
    for (unsigned n = 0; n < 256; n++)
        if (bits[n / 32] >> n % 32 & 1) json_number(c, NULL, n), say(c, " %u", n), any = true;
    json_close(c);
    say(c, any ? "\n" : " none\n");
}

static const char *delivery(unsigned mode)
{
    static const char *const names[8] = {"fixed", "lowest priority", "SMI", "reserved", "NMI", "INIT",
                                         "SIPI",  "ExtINT"};
    return names[mode & 7];
}

static void apic(struct monitor *c, const struct words *w)
{
    static const char *const lvt[LAPIC_LVTS] = {"timer", "thermal", "performance", "LINT0", "LINT1", "error"};
    const struct lapic *l = &c->d->m->lapic[c->d->cpu];
    const struct lapic_state *s = &l->st;
    const char *mode = lapic_x2apic(l) ? "x2APIC" : lapic_enabled(l) ? "xAPIC" : "disabled";
    json_number(c, "cpu", c->d->cpu);
    json_text(c, "mode", mode);
    json_hex(c, "base", s->apic_base);
    json_hex(c, "id", s->id);
    json_hex(c, "tpr", s->tpr);
    json_hex(c, "svr", s->svr);
    json_hex(c, "icr", (u64)s->icr_high << 32 | s->icr_low);
    say(c,
        "local APIC of CPU %u: %s, IA32_APIC_BASE %#llx, ID %#x\nTPR %#x, SVR %#x (%s), LDR %#x, DFR %#x, "
        "ICR %08x%08x, ESR %#x\n",
        c->d->cpu, mode, (ull)s->apic_base, s->id, s->tpr, s->svr, s->svr >> 8 & 1 ? "on" : "off by software",
        s->ldr, s->dfr, s->icr_high, s->icr_low, s->esr);
    json_open(c, "lvt", '[');
    for (unsigned i = 0; i < LAPIC_LVTS; i++) {
        json_open(c, NULL, '{');
        json_text(c, "name", lvt[i]);
        json_hex(c, "value", s->lvt[i]);
        json_flag(c, "masked", s->lvt[i] >> 16 & 1);
        json_close(c);
        say(c, "LVT %-11s %05x: vector %u%s%s%s\n", lvt[i], s->lvt[i], s->lvt[i] & 255,
            i == LAPIC_LVT_TIMER ? "" : ", ", i == LAPIC_LVT_TIMER ? "" : delivery(s->lvt[i] >> 8),
            s->lvt[i] >> 16 & 1 ? ", masked" : "");
    }
    json_close(c);
    json_number(c, "timer_initial", s->timer_initial);
    say(c, "timer: initial count %u, divide %#x, TSC deadline %#llx\n", s->timer_initial, s->timer_divide,
        (ull)s->tsc_deadline);
    vectors(c, "IRR", s->irr);
    vectors(c, "ISR", s->isr);
    vectors(c, "TMR", s->tmr);
}

static void ioapic(struct monitor *c, const struct words *w)
{
    const struct ioapic_state *s = &c->d->m->ioapic.st;
    json_number(c, "id", s->id);
    json_open(c, "pins", '[');
    say(c, "I/O APIC at %#llx, ID %u\n", IOAPIC_BASE, s->id);
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        u64 e = s->entry[i];
        json_open(c, NULL, '{');
        json_number(c, "pin", i);
        json_hex(c, "entry", e);
        json_number(c, "vector", e & 255);
        json_flag(c, "masked", e >> 16 & 1);
        json_flag(c, "line", s->lines >> i & 1);
        json_close(c);
        say(c, "%2u: %016llx vector %u, %s, %s%s to %s %#x%s%s%s\n", i, (ull)e, (unsigned)(e & 255),
            delivery((unsigned)(e >> 8)), e >> 15 & 1 ? "level" : "edge", e >> 13 & 1 ? ", active low," : "",
            e >> 11 & 1 ? "logical" : "APIC", (unsigned)(e >> 56), e >> 16 & 1 ? ", masked" : "",
            e >> 14 & 1 ? ", remote IRR" : "", s->lines >> i & 1 ? ", line is up" : "");
    }
    json_close(c);
}

// clang-format off
const struct monitor_row monitor_table_rows[] = {
    {"gdt", "", "the descriptors of the GDT of what is looked at", "gdt", gdt},
    {"idt", "[VECTOR]", "the gates of its IDT, with the handlers' names", "idt 14", idt},
    {"tss", "", "its TSS: stacks, and where the I/O map is", "tss", tss},
    {"msr", "[N|PART OF A NAME]", "the processor's MSRs", "msr efer", msr},
    {"apic", "", "the processor's local APIC", "apic", apic},
    {"ioapic", "", "the I/O APIC's pins", "ioapic", ioapic},
    {"info lapic", "", "as apic", "info lapic", apic},
};
// clang-format on
const unsigned monitor_table_rows_n = ARRAY_LEN(monitor_table_rows);

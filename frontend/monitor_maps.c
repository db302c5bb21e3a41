// Whole maps: EPT, what the TLBs keep, the bitmaps of a VMCS.
#include <string.h>

#include "frontend/monitor.h"
#include "vmx/control.h"

typedef unsigned long long ull;

// ---- EPT ----
enum {
    RANGES_MAX = 500,
    ENTRIES_MAX = 1 << 22
}; // what is told; what is read of tables that may lead in circles

struct map {
    struct monitor *c;
    unsigned ranges, entries;
    bool any;
    u64 gpa, pa, size, attributes; // the range so far
};

static void rights(u64 e, char *to, size_t n)
{
    static const char *const types[] = {"UC", "WC", "2", "3", "WT", "WP", "WB", "7"};
    snprintf(to, n, "%c%c%c%s %s%s", e & 1 ? 'r' : '-', e & 2 ? 'w' : '-', e & 4 ? 'x' : '-',
             e >> 10 & 1 ? "u" : "", types[e >> 3 & 7], e >> 6 & 1 ? ", ignores PAT" : "");
}

static void range_end(struct map *m)
{
    struct monitor *c = m->c;
    char text[48];
    if (!m->any) return;
    m->any = false;
    m->ranges++;
    rights(m->attributes, text, sizeof text);
    json_open(c, NULL, '{');
    json_hex(c, "guest_physical", m->gpa);
    json_hex(c, "size", m->size);
    json_hex(c, "physical", m->pa);
    json_text(c, "rights", text);
    json_close(c);
    say(c, "%012llx-%012llx  to %012llx  %s\n", (ull)m->gpa, (ull)(m->gpa + m->size - 1), (ull)m->pa, text);
}

static void leaf(struct map *m, u64 gpa, u64 e, unsigned shift)
{
    u64 size = BIT(shift), pa = e & PAGE_MASK & (BIT(52) - 1) & ~(size - 1), attributes = e & 0x47F;
    if (m->any && gpa == m->gpa + m->size && pa == m->pa + m->size && attributes == m->attributes) {
        m->size += size;
        return;
    }
    range_end(m);
    *m = (struct map){.c = m->c,
                      .ranges = m->ranges,
                      .entries = m->entries,
                      .any = true,
                      .gpa = gpa,
                      .pa = pa,
                      .size = size,
                      .attributes = attributes};
}

static void table(struct map *m, u64 at, unsigned level, u64 gpa)
{
    const u64 *t = (const u64 *)phys_host(m->c->d->m->cpu[0]->phys, at & PAGE_MASK & (BIT(52) - 1));
    unsigned shift = PAGE_SHIFT + 9 * level;
    for (unsigned i = 0; t && i < 512 && m->ranges < RANGES_MAX && m->entries < ENTRIES_MAX; i++) {
        u64 e = t[i], here = gpa + ((u64)i << shift);
        m->entries++;
        if (!(e & 7)) continue;
        if (!level || (level < 3 && e >> 7 & 1))
            leaf(m, here, e & ~0x380ull, shift);
        else
            table(m, e, level - 1, here);
    }
}

static const struct vmcs_fields *fields(struct monitor *c, const struct words *w, unsigned n)
{
    u64 at;
    struct view view;
    const char *why;
    if (!argument_vmcs(c, w, n, &at)) return NULL;
    if (!view_root(&view, debugger_cpu(c->d), at, &why)) {
        fail(c, "%s: %s\n", w->at[0], why);
        return NULL;
    }
    json_hex(c, "vmcs", at);
    return &vmcs_region_at(debugger_cpu(c->d)->phys, at)->f;
}

static void ept(struct monitor *c, const struct words *w)
{
    const struct vmcs_fields *f = fields(c, w, 1);
    if (!f) return;
    if (!(f->PRIMARY_PROC_BASED_CONTROLS & PROC_ACTIVATE_SECONDARY_CONTROLS) ||
        !(f->SECONDARY_PROC_BASED_CONTROLS & PROC2_ENABLE_EPT)) {
        fail(c, "ept: \"enable EPT\" is 0 in this VMCS\n");
        return;
    }
    u64 eptp = f->EPTP;
    struct map m = {.c = c};
    json_hex(c, "eptp", eptp);
    json_open(c, "ranges", '[');
    say(c, "EPT pointer %#llx: guest-physical addresses to physical ones\n", (ull)eptp);
    table(&m, eptp, (eptp >> 3 & 7) >= 3 ? (unsigned)(eptp >> 3 & 7) : 3, 0);
    range_end(&m);
    json_close(c);
    bool whole = m.ranges < RANGES_MAX && m.entries < ENTRIES_MAX;
    json_flag(c, "whole", whole);
    if (!whole) say(c, "and more (walk leads to single addresses)\n");
}

// ---- TLB ----

// What memory says of an entry of the context in use; NULL: the same.
static const char *stale(const struct vcpu *v, const struct tlb_entry *e, bool fetch)
{
    struct mmu_ctx c = v->d.mmu;
    c.smap = c.smep = c.pke = c.pks = c.wp = false;
    struct walk_result r =
        walk_peek(v->phys, &c, laddr_of(e->lpage << PAGE_SHIFT), fetch ? ACC_FETCH : ACC_READ, NULL);
    const u32 granted = TLB_USER | TLB_WRITE | TLB_EXEC | TLB_S2_READ | TLB_S2_WRITE | TLB_S2_EXEC;
    if (r.status == WALK_NOT_RAM) return NULL;
    if (r.status != WALK_OK) return r.status == WALK_PF ? "not mapped" : "an EPT exit";
    if (r.pa >> PAGE_SHIFT != e->page) return "another page";
    return e->rights & ~r.rights & granted ? "fewer rights" : NULL;
}

static void tlb_of(struct monitor *c, const struct tlb *t, const char *name, bool fetch, bool all)
{
    const struct vcpu *v = debugger_cpu(c->d);
    unsigned here = 0, elsewhere = 0, stales = 0, told = 0;
    json_open(c, name, '{');
    json_open(c, "entries", '[');
    say(c, "%s:\n", name);
    for (unsigned i = 0; i < TLB_SETS * TLB_WAYS; i++) {
        const struct tlb_entry *e = &t->set[i / TLB_WAYS][i % TLB_WAYS];
        const struct tlb_context *of = NULL;
        for (unsigned k = 0; e->serial && k < TLB_CONTEXTS; k++)
            if (t->context[k].serial == e->serial) of = &t->context[k];
        if (!of) continue; // dropped with its context
        bool ours = e->serial == t->serial || e->serial == t->global_serial;
        const char *says = ours ? stale(v, e, fetch) : NULL;
        here += ours, elsewhere += !ours, stales += says != NULL;
        if (!all && (!ours || (told >= 64 && !says))) continue;
        told++;
        json_open(c, NULL, '{');
        json_hex(c, "linear", e->lpage << PAGE_SHIFT);
        json_hex(c, "guest_physical", e->gpage << PAGE_SHIFT);
        json_hex(c, "physical", e->page << PAGE_SHIFT);
        json_hex(c, "rights", e->rights);
        json_number(c, "vpid", of->vpid);
        json_number(c, "pcid", of->pcid);
        json_hex(c, "ept_view", of->ept_view);
        json_flag(c, "in_use", ours);
        json_text(c, "memory", says ? says : ours ? "the same" : "");
        json_close(c);
        say(c, "%016llx to %012llx %c%c%c%s", (ull)(e->lpage << PAGE_SHIFT), (ull)(e->page << PAGE_SHIFT),
            e->rights & TLB_USER ? 'u' : '-', e->rights & TLB_WRITE ? 'w' : '-',
            e->rights & TLB_EXEC ? 'x' : '-', e->rights & TLB_GLOBAL ? " global" : "");
        if (of->vpid) say(c, " VPID %u", of->vpid);
        if (of->pcid != TLB_GLOBAL_PCID && of->pcid) say(c, " PCID %u", of->pcid);
        if (of->ept_view) say(c, " EPT %#llx", (ull)(of->ept_view & PAGE_MASK));
        say(c, says ? "  STALE: memory says: %s\n" : "\n", says);
    }
    json_close(c);
    json_number(c, "in_use", here);
    json_number(c, "elsewhere", elsewhere);
    json_number(c, "stale", stales);
    json_close(c);
    say(c, "%u of the context in use, %u of them stale; %u of others%s\n", here, stales, elsewhere,
        all ? "" : " (tlb all lists those too)");
}

static void tlb(struct monitor *c, const struct words *w)
{
    const struct vcpu *v = debugger_cpu(c->d);
    bool all = word_is(w, 1, "all");
    if (w->n > 1 && !all) {
        fail(c, "tlb: all or nothing expected, not \"%s\"\n", w->at[1]);
        return;
    }
    tlb_of(c, &v->s.itlb, "instructions", true, all);
    tlb_of(c, &v->s.dtlb, "data", false, all);
}

// ---- bitmaps ----
static unsigned runs(struct monitor *c, u64 page, unsigned first_byte, unsigned bits, u64 base)
{
    const u8 *b = phys_host(debugger_cpu(c->d)->phys, page & PAGE_MASK);
    unsigned n = 0;
    for (unsigned i = 0; b && i < bits; i++) {
        unsigned from = i;
        while (i < bits && b[first_byte + i / 8] >> i % 8 & 1) i++;
        if (i == from) continue;
        json_open(c, NULL, '{');
        json_hex(c, "first", base + from);
        json_hex(c, "last", base + i - 1);
        json_close(c);
        if (i - from > 1)
            say(c, " %llx-%llx", (ull)(base + from), (ull)(base + i - 1));
        else
            say(c, " %llx", (ull)(base + from));
        n++;
    }
    return n;
}

static void part(struct monitor *c, const char *name, const char *words, u64 page, unsigned first_byte,
                 unsigned bits, u64 base, bool more)
{
    json_open(c, name, '[');
    say(c, "%s:", words);
    unsigned n = runs(c, page, first_byte, bits, base);
    if (more) n += runs(c, page, first_byte + 0x400, bits, 0xC0000000);
    json_close(c);
    say(c, n ? "\n" : " none\n");
}

static void bitmap(struct monitor *c, const struct words *w)
{
    bool io = word_is(w, 1, "io");
    const struct vmcs_fields *f;
    if (!io && !word_is(w, 1, "msr")) {
        fail(c, "bitmap: io or msr expected, not \"%s\"\n", word(w, 1));
        return;
    }
    if (!(f = fields(c, w, 2))) return;
    u32 controls = f->PRIMARY_PROC_BASED_CONTROLS;
    if (io && !(controls & PROC_USE_IO_BITMAPS)) {
        say(c, "\"use I/O bitmaps\" is 0: %s port exits\n",
            controls & PROC_UNCONDITIONAL_IO_EXITING ? "every" : "no");
        json_text(c, "exits", controls & PROC_UNCONDITIONAL_IO_EXITING ? "all" : "none");
    } else if (io) {
        part(c, "ports", "ports that exit", f->ADDRESS_OF_IO_BITMAP_A, 0, 0x8000, 0, false);
        part(c, "ports_high", "and from 8000 on", f->ADDRESS_OF_IO_BITMAP_B, 0, 0x8000, 0x8000, false);
    } else if (!(controls & PROC_USE_MSR_BITMAPS)) {
        say(c, "\"use MSR bitmaps\" is 0: every RDMSR and WRMSR exits\n");
        json_text(c, "exits", "all");
    } else {
        part(c, "reads", "RDMSR exits for", f->ADDRESS_OF_MSR_BITMAPS, 0, 0x2000, 0, true);
        part(c, "writes", "WRMSR exits for", f->ADDRESS_OF_MSR_BITMAPS, 0x800, 0x2000, 0, true);
        say(c, "and for all that are neither below 2000 nor from c0000000 to c0001fff\n");
    }
}

// clang-format off
const struct monitor_row monitor_map_rows[] = {
    {"ept", "[VMCS]", "all that its EPT maps, in ranges: read, write, execute (u: execute for user-mode addresses), memory type", "ept", ept},
    {"tlb", "[all]", "the translations that the processor keeps for the context in use (all: for others too), and which of them memory no longer says", "tlb", tlb},
    {"info tlb", "[all]", "as tlb", "info tlb", tlb},
    {"bitmap", "io|msr [VMCS]", "which ports or MSRs exit by its bitmaps", "bitmap io", bitmap},
};
// clang-format on
const unsigned monitor_map_rows_n = ARRAY_LEN(monitor_map_rows);

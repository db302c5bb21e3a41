// The processor that is emulated says that it is Intel's: where vendors differ, Intel's outcome is right
// here. Outcomes of AMD's silicon are excused by the rows below, and by nothing else. No row is for Intel's.
//
// What the emulator computed before it followed Intel passed on AMD's silicon (Zen): that is where the list
// comes from. The second table is for a recording that is compared on a host of another vendor: these rows
// run on the host's own silicon.
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "cpu/host/host.h"
#include "tests/silicon/excuses.h"

struct place { // an instruction of a test, with both outcomes
    const u8 *code;
    unsigned n;
    u64 rip;
    const struct test *t;
    const struct outcome *theirs, *ours;
};

// ---- conditions ----
static bool fault(const struct outcome *o, const struct place *p)
{
    return o->vector != 3 && o->s.rip == p->rip;
}
static bool memory_fault(const struct outcome *o, const struct place *p)
{
    return fault(o, p) && (o->vector == 12 || o->vector == 13 || o->vector == 14 || o->vector == 17);
}
static bool their_alignment(const struct place *p) { return fault(p->theirs, p) && p->theirs->vector == 17; }
static bool any_alignment(const struct place *p)
{
    return their_alignment(p) || (fault(p->ours, p) && p->ours->vector == 17);
}
static bool their_fault_our_exception(const struct place *p) // ours is pending in the status word
{
    return memory_fault(p->theirs, p) && !memory_fault(p->ours, p) && (p->ours->s.fsw & 0x80);
}
static bool same_fault(const struct place *p)
{
    return memory_fault(p->theirs, p) && memory_fault(p->ours, p) && p->theirs->vector == p->ours->vector;
}
static bool their_memory_fault(const struct place *p) { return memory_fault(p->theirs, p); }
static bool both_fault(const struct place *p)
{
    return memory_fault(p->theirs, p) && memory_fault(p->ours, p);
}
static bool different_faults(const struct place *p)
{
    return both_fault(p) && p->theirs->vector != p->ours->vector;
}
static bool different_faults16(const struct place *p) { return p->t->in.bits == 16 && different_faults(p); }
static bool their_mf(const struct place *p) { return fault(p->theirs, p) && p->theirs->vector == 16; }
static bool any_fault16(const struct place *p)
{
    return encode_operand16(p->code, p->n, p->t->in.bits) &&
           (memory_fault(p->theirs, p) || memory_fault(p->ours, p));
}
static bool prefixed(const struct place *p, u8 prefix)
{
    for (unsigned i = 0;
         i < p->n && memchr((const u8[]){0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3},
                            p->code[i], 11);
         i++) {
        if (p->code[i] == prefix) return true;
    }
    return false;
}
static bool vex_alignment(const struct place *p)
{
    unsigned i = 0;
    while (i < p->n && memchr((const u8[]){0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x67}, p->code[i], 7)) i++;
    return i < p->n && (p->code[i] & 0xFE) == 0xC4 && their_alignment(p);
}
static bool our_gp_alone(const struct place *p)
{
    return fault(p->ours, p) && p->ours->vector == 13 && !(fault(p->theirs, p) && p->theirs->vector == 13);
}
static bool our_limit16_alone(const struct place *p)
{
    return p->t->in.bits == 16 && fault(p->ours, p) && (p->ours->vector == 12 || p->ours->vector == 13) &&
           !fault(p->theirs, p);
}
static bool repeated(const struct place *p) { return prefixed(p, 0xF2) || prefixed(p, 0xF3); }
static bool repeated_with_67(const struct place *p)
{
    return p->t->in.bits == 64 && prefixed(p, 0x67) && repeated(p);
}
static bool repeated_fault(const struct place *p) { return repeated(p) && same_fault(p); }
static bool rex_b_xchg(const struct place *p)
{
    return p->n >= 2 && prefixed(p, 0xF3) && p->code[p->n - 1] == 0x90 && (p->code[p->n - 2] & 0xF1) == 0x41;
}
static bool their_fault_our_br(const struct place *p)
{
    return memory_fault(p->theirs, p) && fault(p->ours, p) && p->ours->vector == 5;
}
static bool wide_enter16(const struct place *p)
{
    return p->t->in.bits == 16 && !encode_operand16(p->code, p->n, 16);
}
static bool nothing_requested(const struct place *p)
{
    return memory_fault(p->theirs, p) && !((p->t->in.gpr[RAX] | p->t->in.gpr[RDX] << 32) & 3) &&
           !same_fault(p);
}
static bool always(const struct place *p) { return true; }
static bool both_gp(const struct place *p) { return same_fault(p) && p->ours->vector == 13; }

// ---- the table ----
// clang-format off
enum { ALL = ~0, X87 = D_FSW | D_ST, LOADED = D_XMM | D_ST | D_FCW | D_FSW | D_TAGS | D_MXCSR, ADDRESS = D_VECTOR | D_ERROR | D_CR2 };
static const struct excuse {
    enum vendor vendor;
    const char *row; // "*" at its end: any that begin so
    bool (*when)(const struct place *);
    u32 what; // may differ
    const char *reason;
} table[] = {
    {VENDOR_AMD, "movups", their_alignment, ALL, "#AC for unaligned 16 bytes; Intel has none"},
    {VENDOR_AMD, "movupd", their_alignment, ALL, "#AC for unaligned 16 bytes; Intel has none"},
    {VENDOR_AMD, "movdqu", their_alignment, ALL, "#AC for unaligned 16 bytes; Intel has none"},
    {VENDOR_AMD, "lddqu", their_alignment, ALL, "#AC for unaligned 16 bytes; Intel has none"},
    {VENDOR_AMD, "pcmp?str*", their_alignment, ALL, "#AC for unaligned 16 bytes; Intel has none"},
    {VENDOR_AMD, "v*", vex_alignment, ALL, "#AC for unaligned operands; Intel has none"},
    {VENDOR_AMD, "vgather*", same_fault, D_XMM | D_YMM, "a fault leaves the mask as it was; Intel has spread its signs by then"},
    {VENDOR_AMD, "vpgather*", same_fault, D_XMM | D_YMM, "a fault leaves the mask as it was; Intel has spread its signs by then"},
    {VENDOR_AMD, "vcvtps2ph", their_memory_fault, ALL, "the operand's faults before the exceptions of the conversion; Intel the other way round"},
    {VENDOR_AMD, "sha*", our_gp_alone, ALL, "takes unaligned operands (Zen 5); Intel has #GP"},
    {VENDOR_AMD, "v?maskmov*", our_limit16_alone, ALL, "elements behind offset FFFFh are those from 0 on (Zen 3); on Intel beyond the limit"},
    {VENDOR_AMD, "vmaskmov*", our_limit16_alone, ALL, "elements behind offset FFFFh are those from 0 on (Zen 3); on Intel beyond the limit"},
    {VENDOR_AMD, "maskmov*", any_alignment, ALL, "#AC by the mask; Intel wants a multiple of 8"},
    {VENDOR_AMD, "fst", their_fault_our_exception, ALL, "the operand's faults before unmasked exceptions; Intel the other way round"},
    {VENDOR_AMD, "fstp", their_fault_our_exception, ALL, "the operand's faults before unmasked exceptions; Intel the other way round"},
    {VENDOR_AMD, "fist*", their_fault_our_exception, ALL, "the operand's faults before unmasked exceptions; Intel the other way round"},
    {VENDOR_AMD, "fbstp", their_fault_our_exception, ALL, "the operand's faults before unmasked exceptions; Intel the other way round"},
    {VENDOR_AMD, "fstp", same_fault, D_DATA | D_CR2, "ten bytes or none; Intel stores eight and two"},
    {VENDOR_AMD, "fbstp", same_fault, D_DATA | D_CR2, "ten bytes or none; Intel stores eight and two"},
    {VENDOR_AMD, "fstp", different_faults16, ALL, "the segment limit for all ten bytes first; Intel stores eight and two"},
    {VENDOR_AMD, "fbstp", different_faults16, ALL, "the segment limit for all ten bytes first; Intel stores eight and two"},
    {VENDOR_AMD, "fld", different_faults16, ALL, "the segment limit for all ten bytes first; Intel loads eight and two"},
    {VENDOR_AMD, "fbld", different_faults16, ALL, "the segment limit for all ten bytes first; Intel loads eight and two"},
    {VENDOR_AMD, "movd", same_fault, X87, "a store that faults leaves TOP alone; on Intel TOP is 0 by then"},
    {VENDOR_AMD, "movq", same_fault, X87, "a store that faults leaves TOP alone; on Intel TOP is 0 by then"},
    {VENDOR_AMD, "movntq", same_fault, X87, "a store that faults leaves TOP alone; on Intel TOP is 0 by then"},
    {VENDOR_AMD, "pause", rex_b_xchg, D_GPR, "F3 with REX.B before 90h is XCHG; on Intel PAUSE"},
    {VENDOR_AMD, "movsxd", any_fault16, ALL, "with 16-bit operands reads four bytes; Intel reads two"},
    {VENDOR_AMD, "bound", their_fault_our_br, ALL, "reads both bounds first; Intel compares the lower one before it reads the upper"},
    {VENDOR_AMD, "cvtpi2ps", their_mf, ALL, "whether it waits for x87 exceptions with a memory operand is not known; Intel's does not"},
    {VENDOR_AMD, "enter", wide_enter16, D_GPR, "EBP's upper half with a 16-bit stack is not known; Intel clears it"},
    {VENDOR_AMD, "xrstor*", different_faults, ADDRESS | LOADED, "page faults before the header's rules; Intel checks XCOMP_BV first"},
    {VENDOR_AMD, "xrstor*", both_gp, LOADED, "nothing loaded when MXCSR is refused; Intel's compacted form has loaded by then"},
    {VENDOR_AMD, "xrstor*", nothing_requested, ALL, "the whole area is touched; on Intel the legacy region only if requested"},
    {VENDOR_AMD, "xsave*", nothing_requested, ALL, "the whole area is touched; on Intel the legacy region only if requested"},
    {VENDOR_AMD, "movs", repeated_with_67, D_GPR, "nothing written before an iteration; Intel zero-extends count and pointers first"},
    {VENDOR_AMD, "stos", repeated_with_67, D_GPR, "nothing written before an iteration; Intel zero-extends count and pointers first"},
    {VENDOR_AMD, "lods", repeated_with_67, D_GPR, "nothing written before an iteration; Intel zero-extends the count first"},
    {VENDOR_AMD, "cmps", repeated_with_67, D_GPR | D_FLAGS | ADDRESS, "nothing written before an iteration; Intel zero-extends the count first"},
    {VENDOR_AMD, "scas", repeated_with_67, D_GPR | D_FLAGS, "nothing written before an iteration; Intel zero-extends the count first"},
    {VENDOR_AMD, "cmps", repeated_fault, D_FLAGS | D_CR2, "a fault leaves the flags of the last iteration; on Intel those before the instruction"},
    {VENDOR_AMD, "scas", repeated_fault, D_FLAGS, "a fault leaves the flags of the last iteration; on Intel those before the instruction"},
    {VENDOR_AMD, "rcp*", always, D_XMM, "other bits of an approximation"},
    {VENDOR_AMD, "vrcp*", always, D_XMM | D_YMM, "other bits of an approximation"},
    {VENDOR_AMD, "rsqrt*", always, D_XMM, "other bits of an approximation"},
    {VENDOR_AMD, "vrsqrt*", always, D_XMM | D_YMM, "other bits of an approximation"},
    {VENDOR_AMD, "dpp?", always, D_XMM, "the same of several NaNs in all elements; Intel's by the element"},
    {VENDOR_AMD, "vdpp?", always, D_XMM | D_YMM, "the same of several NaNs in all elements; Intel's by the element"},
    {VENDOR_AMD, "cmps", both_fault, ADDRESS | D_FLAGS, "rSI's operand first; Intel takes rDI's first"},
};
// clang-format on

static const struct excuse by_host[] = {
    // the vendor is that of the host, whichever it is
    {VENDOR_OTHER, "fsin*", NULL, ALL, "transcendental"},
    {VENDOR_OTHER, "fcos", NULL, ALL, "transcendental"},
    {VENDOR_OTHER, "fptan", NULL, ALL, "transcendental"},
    {VENDOR_OTHER, "fpatan", NULL, ALL, "transcendental"},
    {VENDOR_OTHER, "f2xm1", NULL, ALL, "transcendental"},
    {VENDOR_OTHER, "fyl2x*", NULL, ALL, "transcendental"},
};

// Counts, for the report: the only thing here that changes.
static unsigned used[ARRAY_LEN(table)], used_by_host[ARRAY_LEN(by_host)];

enum vendor excuses_vendor(const char *name)
{
    if (!strcmp(name, "GenuineIntel")) return VENDOR_INTEL;
    return !strcmp(name, "AuthenticAMD") || !strcmp(name, "HygonGenuine") ? VENDOR_AMD : VENDOR_OTHER;
}

static bool matches(const char *pattern, const char *name)
{
    for (; *pattern && *pattern != '*'; pattern++, name++) {
        if (*name == 0 || (*pattern != '?' && *pattern != *name)) return false;
    }
    return *pattern == '*' || *name == 0;
}

// Computed by cpu/float: within a unit in the last place of anybody's (tests/test_float_transcendental.c).
static bool transcendental(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(by_host); i++)
        if (!strcmp(by_host[i].reason, "transcendental") && matches(by_host[i].row, name)) return true;
    return false;
}

static bool excused_at(enum vendor v, const struct place *p, const char *name, u32 differences)
{
    if (!HOST_FP && transcendental(name)) return true;
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        const struct excuse *x = &table[i];
        if (x->vendor != v || !matches(x->row, name) || !x->when(p)) continue;
        // Within a sequence what follows differs too.
        if (p->t->row && (differences & ~x->what)) continue;
        used[i]++;
        return true;
    }
    return false;
}

bool excused(enum vendor silicon, const struct test *t, const struct outcome *theirs,
             const struct outcome *ours, u32 differences)
{
    struct place p = {.t = t, .theirs = theirs, .ours = ours};
    if (t->row) {
        p.code = t->code, p.n = t->n, p.rip = t->in.rip;
        return excused_at(silicon, &p, t->row->name, differences);
    }
    for (unsigned at = 0; at < t->n; at += p.n) {
        char name[32];
        p.code = t->code + at, p.rip = t->in.rip + at;
        p.n = encode_length(p.code, t->n - at, t->in.bits, name, sizeof name);
        if (!p.n) return false;
        if (excused_at(silicon, &p, name, differences)) return true;
    }
    return false;
}

static bool host_row(const char *name, u32 differences, bool sequence)
{
    for (unsigned i = 0; i < ARRAY_LEN(by_host); i++) {
        if (!matches(by_host[i].row, name) || (!sequence && (differences & ~by_host[i].what))) continue;
        used_by_host[i]++;
        return true;
    }
    return false;
}
bool excused_by_host(const struct test *t, u32 differences)
{
    if (t->row) return host_row(t->row->name, differences, false);
    for (unsigned i = 0; i < t->used.n; i++) {
        if (t->used.row[i] && host_row(t->used.row[i]->name, differences, true)) return true;
    }
    return false;
}

void excuses_report(void)
{
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        if (used[i]) printf("# excused %u times: %s: %s\n", used[i], table[i].row, table[i].reason);
    }
    for (unsigned i = 0; i < ARRAY_LEN(by_host); i++) {
        if (used_by_host[i])
            printf("# excused %u times, the host's own result: %s: %s\n", used_by_host[i], by_host[i].row,
                   by_host[i].reason);
    }
}

// Random system instructions on random descriptor tables: whatever a guest does, the processor stays a
// processor. The seed is printed; SEED=n in the environment repeats a run, ROUNDS=n sets its length.
//
// What must hold at every boundary: the mode word is that of the state; CPL is the DPL of SS in protected
// mode; CS is a present code segment that the mode can run; reserved flags are as the manual fixes them; CR0
// and CR4 are consistent; control registers hold no bit that this processor has not.
#include <stdio.h>

#include "cpu_machine.h"

static u64 rng;
static u64 next(void)
{
    rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
    return rng;
}
static unsigned below(unsigned n) { return (unsigned)(next() >> 33) % n; }

// ModRM forms: 'r' register operands at random, 'm' memory at [rbx] or [ebx] or [bx], '-' none; digits are
// fixed reg fields.
// clang-format off
static const struct { u8 op[3]; u8 n; char form; u8 imm; } insns[] = {
    {{0x8E}, 1, 'e', 0}, {{0x8C}, 1, 'e', 0}, {{0x07}, 1, '-', 0}, {{0x17}, 1, '-', 0}, {{0x1F}, 1, '-', 0}, {{0x06}, 1, '-', 0},
    {{0x0F, 0xA1}, 2, '-', 0}, {{0x0F, 0xA9}, 2, '-', 0}, {{0xC4}, 1, 'm', 0}, {{0xC5}, 1, 'm', 0}, {{0x0F, 0xB2}, 2, 'm', 0},
    {{0x0F, 0xB4}, 2, 'm', 0}, {{0x0F, 0xB5}, 2, 'm', 0}, {{0xFF}, 1, '3', 0}, {{0xFF}, 1, '5', 0}, {{0xEA}, 1, '-', 6},
    {{0x9A}, 1, '-', 6}, {{0xCA}, 1, '-', 2}, {{0xCB}, 1, '-', 0}, {{0xCF}, 1, '-', 0}, {{0x48, 0xCF}, 2, '-', 0},
    {{0x0F, 0x00}, 2, 'e', 0}, {{0x0F, 0x01}, 2, 'e', 0}, {{0x0F, 0x02}, 2, 'e', 0}, {{0x0F, 0x03}, 2, 'e', 0}, {{0x63}, 1, 'e', 0},
    {{0x0F, 0x05}, 2, '-', 0}, {{0x0F, 0x07}, 2, '-', 0}, {{0x48, 0x0F, 0x07}, 3, '-', 0}, {{0x0F, 0x34}, 2, '-', 0},
    {{0x0F, 0x35}, 2, '-', 0}, {{0x0F, 0x20}, 2, 'e', 0}, {{0x0F, 0x22}, 2, 'e', 0}, {{0x0F, 0x21}, 2, 'e', 0}, {{0x0F, 0x23}, 2, 'e', 0},
    {{0x0F, 0x30}, 2, '-', 0}, {{0x0F, 0x32}, 2, '-', 0}, {{0x0F, 0xA2}, 2, '-', 0}, {{0x9C}, 1, '-', 0}, {{0x9D}, 1, '-', 0},
    {{0xCC}, 1, '-', 0}, {{0xCD}, 1, '-', 1}, {{0xCE}, 1, '-', 0}, {{0xF1}, 1, '-', 0}, {{0x62}, 1, 'm', 0}, {{0xFA}, 1, '-', 0},
    {{0xFB}, 1, '-', 0}, {{0xE4}, 1, '-', 1}, {{0xE7}, 1, '-', 1}, {{0x0F, 0xAE}, 2, 'e', 0}, {{0xF3, 0x0F, 0xAE}, 3, 'e', 0},
    {{0x0F, 0xC7}, 2, 'e', 0}, {{0xF3, 0x0F, 0xC7}, 3, 'e', 0}, {{0x0F, 0x06}, 2, '-', 0}, {{0x0F, 0x09}, 2, '-', 0},
};
// clang-format on

static unsigned make_insn(u8 *b)
{
    unsigned i = below(ARRAY_LEN(insns)), n = 0;
    static const u8 prefixes[] = {0x66, 0x67, 0x2E, 0x64};
    while (below(5) == 0) b[n++] = prefixes[below(sizeof prefixes)];
    for (unsigned k = 0; k < insns[i].n; k++) b[n++] = insns[i].op[k];
    char form = insns[i].form;
    if (form == 'e') form = below(2) ? 'r' : 'm';
    if (form == 'r')
        b[n++] = 0xC0 | (u8)below(64);
    else if (form == 'm')
        b[n++] = (u8)(below(8) << 3) | 3;
    else if (form != '-')
        b[n++] = (u8)((form - '0') << 3) | 3;
    for (unsigned k = 0; k < insns[i].imm; k++) b[n++] = (u8)next();
    return n;
}

static u16 some_selector(void)
{
    return below(8) == 0 ? (u16)next() : (u16)(below(GDT_END / 8) << 3 | below(4) | (below(6) == 0 ? 4 : 0));
}

static u64 some_descriptor(void)
{
    u64 d = tm_descriptor(0, 0xFFFFF, (u32)next() | (below(4) ? AR_P : 0));
    if (below(8) == 0) d = next();
    return d;
}

static void scramble(struct tm *t)
{
    struct vcpu_state *s = &t->v->s;
    for (unsigned i = 0; i < 4; i++) tm_write64(t, GDT + 8 * (1 + below(GDT_END / 8 - 1)), some_descriptor());
    for (unsigned i = 0; i < 4; i++) tm_write64(t, LDT + 8 * i, some_descriptor());
    tm_gate(t, below(256), some_selector(), below(32), below(4), below(8), s->msr.efer & EFER_LMA);
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP) s->gpr[i] = below(2) ? some_selector() : next() >> below(64);
    static const u32 msrs[] = {0x10,       0x3A,       0x3B,       0x174,      0x175,
                               0x176,      0x1A0,      0x1D9,      0x200,      0x277,
                               0x2FF,      0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084,
                               0xC0000100, 0xC0000101, 0xC0000102, 0xDA0};
    s->gpr[RCX] = below(2) ? msrs[below(ARRAY_LEN(msrs))] : below(3);
    s->gpr[RBX] = DATA + below(0x100);
    if (below(3) == 0) s->gpr[RAX] = (below(2) ? s->cr0 : s->cr4) ^ 1ull << below(33);
    s->gpr[RSP] = STACK - 64;
    u64 mask = s->msr.efer & EFER_LMA ? 8 : 4;
    for (unsigned i = 0; i < 8; i++) { // something to return to
        u64 x = i == 0   ? CODE + 0x100
                : i == 2 ? (next() & 0x3F7FFF & ~(u64)FL_TF)
                : i == 3 ? STACK
                         : some_selector();
        tm_write(t, STACK - 64 + i * mask, &x, mask);
    }
    u64 far = CODE + 0x100;
    tm_write64(t, DATA, far);
    u16 sel = some_selector();
    tm_write(t, (s->gpr[RBX] & 0xFFFF) + 4, &sel, 2);
}

// Flat segments of this level, whatever the tables hold by now.
static void flat(struct tm *t, unsigned cpl)
{
    struct vcpu_state *s = &t->v->s;
    bool lng = s->msr.efer & EFER_LMA;
    u32 common = AR_P | AR_S | AR_G | AR_ACCESSED | AR_WRITABLE | cpl << 5;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++)
        s->seg[i] = (struct segment){
            .limit = 0xFFFFFFFF, .ar = common | AR_DB, .sel = (u16)((cpl ? SEL_UDATA : SEL_DATA) | cpl)};
    s->seg[SEG_CS].ar = common | AR_CODE | (lng ? AR_L : AR_DB);
    s->seg[SEG_CS].sel = (u16)(SEL_CODE32 | cpl);
    cpu_mode_changed(t->v);
}

static void check(struct tm *t)
{
    const struct vcpu_state *s = &t->v->s;
    assert_int_equal(t->v->d.mode, mode_compute(t->v));
    assert_int_equal(s->rflags & 2, 2);
    assert_int_equal(s->rflags & ~0x3F7FD7ull, 0);
    assert_int_equal(s->rflags & FL_ARITH, 0);
    assert_false((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE));
    assert_false((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD));
    assert_int_equal(s->cr0 & ~0xE005003Full, 0);
    assert_int_equal(s->cr4 & ~cr4_valid_mask(t->v), 0);
    assert_int_equal(s->msr.efer & ~efer_valid(t->v->features, s->msr.misc_enable), 0);
    assert_int_equal(!!(s->msr.efer & EFER_LMA), (s->msr.efer & EFER_LME) && (s->cr0 & CR0_PG));
    if (s->msr.efer & EFER_LMA) assert_true(s->cr4 & CR4_PAE);
    if ((s->cr0 & CR0_PE) && !(s->rflags & FL_VM)) {
        const struct segment *cs = &s->seg[SEG_CS], *ss = &s->seg[SEG_SS];
        assert_int_equal(cpu_cpl(t->v), ar_dpl(ss->ar));
        assert_false(cs->ar & AR_UNUSABLE);
        assert_true(cs->ar & AR_P);
        if (cs->ar & AR_CODE) {
            assert_int_equal(cs->sel & 3, cpu_cpl(t->v));
            if (cs->ar & AR_CONFORMING)
                assert_true(ar_dpl(cs->ar) <= cpu_cpl(t->v));
            else
                assert_int_equal(ar_dpl(cs->ar), cpu_cpl(t->v));
        }
        if (s->msr.efer & EFER_LMA) assert_false((cs->ar & AR_L) && (cs->ar & AR_DB));
        if (ss->ar & AR_UNUSABLE)
            assert_true(cpu_cpl(t->v) != 3 && (s->msr.efer & EFER_LMA));
        else
            assert_true((ss->ar & AR_P) && (ss->ar & AR_WRITABLE) && !(ss->ar & AR_CODE));
    }
    assert_true(s->dr[7] & 0x400);
    assert_int_equal(s->dr[7] & ~0xFFFF27FFull, 0);
}

static void fuzz(void **state)
{
    const char *seed = getenv("SEED"), *rounds = getenv("ROUNDS");
    rng = seed ? strtoull(seed, NULL, 0) : 0x1234567;
    unsigned n = rounds ? (unsigned)strtoul(rounds, NULL, 0) : 150;
    print_message("SEED=%#llx ROUNDS=%u\n", (unsigned long long)rng, n);
    unsigned taken = 0;
    for (unsigned round = 0; round < n; round++) {
        enum tm_kind kind = below(3);
        struct tm *t = tm_new(kind);
        for (unsigned i = 0; i < 150; i++) {
            u8 b[32];
            if (kind != TM_REAL) flat(t, below(3) == 0 ? 3 : 0);
            scramble(t);
            unsigned len = make_insn(b);
            int vector = tm_run(t, b, len);
            check(t);
            taken += vector >= 0;
            // start again from a clean machine
            if (below(4) == 0 || vector <= -100 || (t->v->s.rflags & FL_VM)) break;
            struct vcpu_state *s = &t->v->s;
            bool lng = s->msr.efer & EFER_LMA;
            if (!(s->cr0 & CR0_PE) != (kind == TM_REAL) || lng != (kind == TM_LONG)) break;
            s->rflags = 2 | (below(2) ? FL_IOPL : 0);
            cpu_mode_changed(t->v);
        }
        tm_free(t);
    }
    assert_true(taken > n); // most of it faults, by design
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(fuzz)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

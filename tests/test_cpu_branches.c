// Conditional branches and loops, which the silicon test cannot follow, and small instructions that it cannot
// draw. Expected values: SDM volume 2.
#include <stdio.h>

#include "cpu_machine.h"

static struct tm *t;
static int prot_setup(void **s) { return t = tm_new(TM_PROTECTED), 0; }
static int long_setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

// SDM volume 1, appendix B: the conditions by their numbers.
static bool condition(unsigned cc, u32 f)
{
    bool cf = f & FL_CF, zf = f & FL_ZF, sf = f & FL_SF, of = f & FL_OF, pf = f & FL_PF;
    switch (cc) {
    case 0x0: return of;
    case 0x1: return !of;
    case 0x2: return cf;
    case 0x3: return !cf;
    case 0x4: return zf;
    case 0x5: return !zf;
    case 0x6: return cf || zf;
    case 0x7: return !(cf || zf);
    case 0x8: return sf;
    case 0x9: return !sf;
    case 0xA: return pf;
    case 0xB: return !pf;
    case 0xC: return sf != of;
    case 0xD: return sf == of;
    case 0xE: return zf || sf != of;
    default: return !zf && sf == of;
    }
}

// Runs a branch over MOV AL, 1: true if it was taken.
static bool taken(const u8 *branch, unsigned n)
{
    u8 code[16];
    memcpy(code, branch, n);
    memcpy(code + n, (const u8[]){0xB0, 1, 0x90}, 3);
    S.gpr[RAX] = 0;
    assert_int_equal(tm_run(t, code, n + 3), NOTHING);
    return !S.gpr[RAX];
}

static void jcc_and_jmp(void **state)
{
    for (unsigned loop = 0; loop < 2; loop++) {
        t->v->loop_engine = loop;
        for (unsigned n = 0; n < 64; n++) {
            u32 f = (n & 1 ? FL_CF : 0) | (n & 2 ? FL_PF : 0) | (n & 4 ? FL_AF : 0) | (n & 8 ? FL_ZF : 0) |
                    (n & 16 ? FL_SF : 0) | (n & 32 ? FL_OF : 0);
            for (unsigned cc = 0; cc < 16; cc++) {
                S.fl = fl_pack(f);
                assert_int_equal(taken((const u8[]){(u8)(0x70 | cc), 3}, 2), condition(cc, f));
                S.fl = fl_pack(f);
                assert_int_equal(taken((const u8[]){0x0F, (u8)(0x80 | cc), 3, 0, 0, 0}, 6), condition(cc, f));
                assert_int_equal(fl_unpack(S.fl), f);
            }
        }
        assert_true(taken((const u8[]){0xEB, 3}, 2));
        assert_true(taken((const u8[]){0xE9, 3, 0, 0, 0}, 5));
    }
}

// LOOPNE, LOOPE, LOOP and JCXZ: the counter has the size of addresses; flags are read, and left as they were.
static void loops(void **state)
{
    bool lng = cpu_long64(t->v);
    static const u64 counts[] = {0, 1, 2, 0x10000, 0x10001, 0x100000000, 0x100000001, 0xFFFFFFFFFFFFFFFF};
    for (unsigned i = 0; i < ARRAY_LEN(counts); i++)
        for (unsigned short_address = 0; short_address < 2; short_address++)
            for (unsigned zf = 0; zf < 2; zf++)
                for (unsigned op = 0xE0; op < 0xE4; op++) {
                    u64 mask = lng             ? (short_address ? 0xFFFFFFFF : ~0ull)
                               : short_address ? 0xFFFF
                                               : 0xFFFFFFFF;
                    u64 c = counts[i] & mask, kept = counts[i] & ~mask;
                    if (lng && short_address)
                        kept = op == 0xE3 ? kept : 0; // a 32-bit register is written whole
                    u8 code[3] = {0x67, (u8)op, 3};
                    S.gpr[RCX] = counts[i], S.fl = fl_pack(zf ? FL_ZF | FL_CF : FL_OF);
                    bool jumps =
                        op == 0xE3 ? c == 0 : ((c - 1) & mask) != 0 && (op == 0xE2 || (op == 0xE1) == zf);
                    u64 after = op == 0xE3 ? counts[i] : kept | ((c - 1) & mask);
                    assert_int_equal(taken(code + !short_address, 2 + short_address), jumps);
                    assert_true(S.gpr[RCX] == after || (!lng && (u32)S.gpr[RCX] == (u32)after));
                    assert_int_equal(fl_unpack(S.fl), zf ? FL_ZF | FL_CF : FL_OF);
                }
}

// RDFSBASE, WRFSBASE.
static void fs_base(void **state)
{
    S.cr4 |= CR4_FSGSBASE;
    cpu_mode_changed(t->v);
    S.gpr[RAX] = 0x7FFF12345678;
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xAE, 0xD0), NOTHING); // wrfsbase rax
    assert_true(S.seg[SEG_FS].base == 0x7FFF12345678);
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xAE, 0xC1), NOTHING); // rdfsbase rcx
    assert_true(S.gpr[RCX] == 0x7FFF12345678);
    S.gpr[RDX] = ~0ull;
    assert_int_equal(TM_RUN(t, 0xF3, 0x0F, 0xAE, 0xC2), NOTHING); // rdfsbase edx
    assert_int_equal(S.gpr[RDX], 0x12345678);
    S.gpr[RAX] = 1ull << 63;
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xAE, 0xD0), VEC_GP);
    S.gpr[RAX] = 0xFFFFFFFF80000000; // of a 32-bit operand: zero-extended
    assert_int_equal(TM_RUN(t, 0xF3, 0x0F, 0xAE, 0xD0), NOTHING);
    assert_true(S.seg[SEG_FS].base == 0x80000000);
}

// CLFLUSH, CLFLUSHOPT, CLWB: checked as a load of a byte, and nothing changes.
static void cache_lines(void **state)
{
    static const struct {
        u8 code[4], n;
    } c[] = {{{0x0F, 0xAE, 0x3E}, 3}, {{0x66, 0x0F, 0xAE, 0x3E}, 4}, {{0x66, 0x0F, 0xAE, 0x36}, 4}};
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        S.gpr[RSI] = DATA, tm_write64(t, DATA, 0x1122334455667788);
        assert_int_equal(tm_run(t, c[i].code, c[i].n), NOTHING);
        assert_true(tm_read(t, DATA, 8) == 0x1122334455667788);
        S.gpr[RSI] = 0x7F0000000000;
        assert_int_equal(tm_run(t, c[i].code, c[i].n), VEC_PF);
        assert_true(S.cr2 == 0x7F0000000000);
        S.gpr[RSI] = 1ull << 63;
        assert_int_equal(tm_run(t, c[i].code, c[i].n), VEC_GP);
    }
    assert_int_equal(TM_RUN(t, 0x0F, 0xAA), VEC_UD); // RSM outside SMM
}

// LDS and LFS: offset, then selector; LDS is VEX's in 64-bit code.
static void far_pointers(void **state)
{
    bool lng = cpu_long64(t->v);
    u32 m[2] = {0x12345678, SEL_UDATA | 3};
    tm_write(t, DATA, m, 6);
    S.gpr[RSI] = DATA, S.gpr[RAX] = 0;
    assert_int_equal(TM_RUN(t, 0x0F, 0xB4, 0x06), NOTHING); // lfs eax, [rsi]
    assert_int_equal(S.gpr[RAX], 0x12345678);
    assert_int_equal(S.seg[SEG_FS].sel, SEL_UDATA | 3);
    m[1] = GDT_END + 8;
    tm_write(t, DATA, m, 6);
    S.gpr[RAX] = 0;
    assert_int_equal(TM_RUN(t, 0x0F, 0xB4, 0x06), VEC_GP);
    assert_int_equal(S.gpr[RAX], 0);
    if (lng) return;
    m[1] = SEL_UDATA | 3;
    tm_write(t, DATA, m, 6);
    S.gpr[RSI] = DATA;
    assert_int_equal(TM_RUN(t, 0xC5, 0x06), NOTHING); // lds eax, [esi]
    assert_int_equal(S.gpr[RAX], 0x12345678);
    assert_int_equal(S.seg[SEG_DS].sel, SEL_UDATA | 3);
}

int main(void)
{
#define P(f) cmocka_unit_test_setup_teardown(f, prot_setup, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    const struct CMUnitTest tests[] = {P(jcc_and_jmp), L(jcc_and_jmp), P(loops),        L(loops),
                                       L(fs_base),     L(cache_lines), P(far_pointers), L(far_pointers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// VEX: what it must not come with, where it means something else, and its third register. Expected values:
// SDM volume 2, 2.3 (the prefix), 2.5 (exception class 13 of those on general registers), and the operations
// of ANDN, BZHI, RORX, LZCNT, TZCNT, MULX.
#include <stdio.h>
#include "cpu_machine.h"

static struct tm *t;
static int real_setup(void **s) { return t = tm_new(TM_REAL), 0; }
static int prot_setup(void **s) { return t = tm_new(TM_PROTECTED), 0; }
static int long_setup(void **s) { return t = tm_new(TM_LONG), 0; }
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

static void set(u64 rax, u64 rbx, u64 rcx, u64 rdx)
{
    S.gpr[RAX] = rax, S.gpr[RBX] = rbx, S.gpr[RCX] = rcx, S.gpr[RDX] = rdx;
    S.gpr[RSP] = STACK;
}

static void registers_and_widths(void **state)
{
    set(~0ull, 0xFF00FF00FF00FF00, 0x0F0F0F0F0F0F0F0F, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0xE0, 0xF2, 0xC1), NOTHING); // ANDN RAX, RBX, RCX
    assert_int_equal(S.gpr[RAX], 0x000F000F000F000F);
    set(~0ull, 0xFF00FF00FF00FF00, 0x0F0F0F0F0F0F0F0F, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x60, 0xF2, 0xC1), NOTHING); // ANDN EAX, EBX, ECX
    assert_int_equal(S.gpr[RAX], 0x000F000F);
    set(1, 0, 0, 0);
    S.gpr[8 + 7] = 0xF0, S.gpr[8 + 1] = 0xFF, S.gpr[8 + 2] = 5;
    assert_int_equal(TM_RUN(t, 0xC4, 0x42, 0xA8, 0xF5, 0xF9), NOTHING); // BZHI R15, R9, R10
    assert_int_equal(S.gpr[8 + 7], 0x1F);
    set(0, 0x123456789ABCDEF0, 0, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE3, 0xFB, 0xF0, 0xC3, 0x44), NOTHING); // RORX RAX, RBX, 44h: by 4
    assert_int_equal(S.gpr[RAX], 0x0123456789ABCDEF);
    set(0, 0x8000000000000000, 0, 6);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0xFB, 0xF6, 0xC3),
                     NOTHING); // MULX RAX, RAX, RBX: the high half stays
    assert_int_equal(S.gpr[RAX], 3);
}

static void flags_of_counts(void **state)
{
    set(7, 0, 0, 0);
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xBD, 0xC3), NOTHING); // LZCNT RAX, RBX
    assert_int_equal(S.gpr[RAX], 64);
    assert_int_equal(cpu_rflags(t->v) & (FL_CF | FL_ZF), FL_CF);
    set(7, 0x80000001, 0, 0);
    assert_int_equal(TM_RUN(t, 0xF3, 0x0F, 0xBC, 0xC3), NOTHING); // TZCNT EAX, EBX
    assert_int_equal(S.gpr[RAX], 0);
    assert_int_equal(cpu_rflags(t->v) & (FL_CF | FL_ZF), FL_ZF);
    assert_int_equal(TM_RUN(t, 0x66, 0xF3, 0x0F, 0xBD, 0xC3), NOTHING); // LZCNT AX, BX
    assert_int_equal(S.gpr[RAX], 15);
}

static void what_it_must_not_come_with(void **state)
{
    const u8 andn[] = {0xC4, 0xE2, 0x60, 0xF2, 0xC1}, before[] = {0x66, 0xF2, 0xF3, 0xF0, 0x48};
    for (unsigned i = 0; i < ARRAY_LEN(before); i++) {
        u8 code[6] = {before[i]};
        memcpy(code + 1, andn, sizeof andn);
        set(0, 0, 0, 0);
        assert_int_equal(tm_run(t, code, sizeof code), VEC_UD);
    }
    set(0, 0, 0, 0);
    assert_int_equal(TM_RUN(t, 0x2E, 0xC4, 0xE2, 0x60, 0xF2, 0xC1), NOTHING); // a segment may
    set(0, 0, 0, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x64, 0xF2, 0xC1), VEC_UD); // L = 1
    set(0, 0, 0, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE3, 0x73, 0xF0, 0xC3, 4), VEC_UD); // RORX with a third register
    set(0, 0, 0, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x60, 0xF3, 0xC1), VEC_UD); // group 17, digit 0
}

static void only_in_protected_mode(void **state)
{
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x60, 0xF2, 0xC1), VEC_UD);
}

// The high bits of its registers mean nothing there, W neither; with memory C4h is LES.
static void in_32bit_code(void **state)
{
    set(0, 0xFF00FF00, 0x0F0F0F0F, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0xE0, 0xF2, 0xC1), NOTHING);
    assert_int_equal(S.gpr[RAX], 0x000F000F);
    set(0, 0xFF00FF00, 0x0F0F0F0F, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x20, 0xF2, 0xC1), NOTHING); // vvvv names R11: EBX
    assert_int_equal(S.gpr[RAX], 0x000F000F);
    set(0, DATA, 0, 0);
    tm_write64(t, DATA, 0x12345678 | (u64)SEL_DATA << 32);
    assert_int_equal(TM_RUN(t, 0xC4, 0x03), NOTHING); // LES EAX, [EBX]
    assert_int_equal(S.gpr[RAX], 0x12345678);
}

static void without_the_feature(void **state)
{
    t->f.bits[FEATURE_BMI1 / 64] &= ~BIT(FEATURE_BMI1 % 64);
    t->f.bits[FEATURE_LZCNT / 64] &= ~BIT(FEATURE_LZCNT % 64);
    set(0, 0x10, 0, 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x60, 0xF2, 0xC1), VEC_UD);
    set(0, 0x10, 0, 0);
    assert_int_equal(TM_RUN(t, 0xF3, 0x48, 0x0F, 0xBD, 0xC3), NOTHING); // BSR RAX, RBX
    assert_int_equal(S.gpr[RAX], 4);
}

int main(void)
{
#define R(f) cmocka_unit_test_setup_teardown(f, real_setup, teardown)
#define P(f) cmocka_unit_test_setup_teardown(f, prot_setup, teardown)
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    const struct CMUnitTest tests[] = {
        L(registers_and_widths),   L(flags_of_counts), L(what_it_must_not_come_with),
        R(only_in_protected_mode), P(in_32bit_code),   L(without_the_feature),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

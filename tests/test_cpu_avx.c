// AVX: its state in XCR0, CPUID leaf 0Dh and the XSAVE family. Expected values: SDM volume 1, 13.2 to 13.12
// (XCR0, areas of XSAVE), table 11-1 of volume 3 (INIT).
#include <stdio.h>
#include "cpu_machine.h"
#include "cpu/engine/fp.h"

static struct tm *t;
static int long_setup(void **s)
{
    t = tm_new(TM_LONG);
    cpu_feature_switch(&t->f, FEATURE_AVX, true); // its state, on every host
    t->v->s.cr4 |= CR4_OSXSAVE;
    cpu_mode_changed(t->v);
    return 0;
}
static int teardown(void **s) { return tm_free(t), 0; }
#define S (t->v->s)

enum { OFF_AVX = 576, XSTATE_BV = 512, XCOMP_BV = 520 };

static void xcr0(void **state)
{
    static const u8 xsetbv[] = {0x0F, 0x01, 0xD1}, xgetbv[] = {0x0F, 0x01, 0xD0};
    S.gpr[RCX] = S.gpr[RDX] = 0;
    static const u32 bad[] = {4, 5, 6, 0xF, 0x27};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        S.gpr[RAX] = bad[i];
        assert_int_equal(tm_run(t, xsetbv, 3), VEC_GP);
        assert_false(t->v->d.mode & MODE_AVX);
    }
    S.gpr[RAX] = 7;
    assert_int_equal(tm_run(t, xsetbv, 3), NOTHING);
    assert_int_equal(S.xcr0, 7);
    assert_true(t->v->d.mode & MODE_AVX);
    S.gpr[RCX] = 1; // XINUSE
    S.ymm_high[15][1] = 1;
    assert_int_equal(tm_run(t, xgetbv, 3), NOTHING);
    assert_int_equal(S.gpr[RAX] & 4, 4);
    S.ymm_high[15][1] = 0;
    S.gpr[RCX] = 1;
    assert_int_equal(tm_run(t, xgetbv, 3), NOTHING);
    assert_int_equal(S.gpr[RAX] & 4, 0);
    S.gpr[RCX] = 0, S.gpr[RAX] = 3;
    assert_int_equal(tm_run(t, xsetbv, 3), NOTHING);
    assert_false(t->v->d.mode & MODE_AVX);
}

static void leaf_0d(void **state)
{
    u32 r[4];
    S.xcr0 = 7;
    cpuid_query(t->v, 0xD, 0, r);
    assert_true((r[0] & 7) == 7 && r[1] == 576 + 256);
    cpuid_query(t->v, 0xD, 2, r);
    assert_true(r[0] == 256 && r[1] == 576 && r[2] == 0 && r[3] == 0);
    cpuid_query(t->v, 0xD, 1, r);
    assert_int_equal(r[1], 576 + 256);
    S.xcr0 = 0x207; // with PKRU: at its own place, and behind AVX in the compacted format
    cpuid_query(t->v, 0xD, 0, r);
    assert_int_equal(r[1], 0xA80 + 8);
    cpuid_query(t->v, 0xD, 1, r);
    assert_int_equal(r[1], 576 + 256 + 8);
}

static void fill(void)
{
    for (unsigned i = 0; i < 16; i++)
        S.ymm_high[i][0] = 0x1111 * (i + 1), S.ymm_high[i][1] = ~S.ymm_high[i][0];
}
static void check(void)
{
    for (unsigned i = 0; i < 16; i++)
        assert_true(S.ymm_high[i][0] == 0x1111 * (i + 1) && S.ymm_high[i][1] == ~S.ymm_high[i][0]);
}

static void areas(void **state)
{
    static const u8 save[] = {0x0F, 0xAE, 0x27}, restore[] = {0x0F, 0xAE, 0x2F}, savec[] = {0x0F, 0xC7, 0x27};
    S.xcr0 = 0x207, S.pkru = 0x55AA;
    cpu_mode_changed(t->v);
    S.gpr[RDI] = DATA, S.gpr[RAX] = 0x207, S.gpr[RDX] = 0;
    memset(t->p.ram + DATA, 0, 0xB00);
    fill();
    assert_int_equal(tm_run(t, save, 3), NOTHING);
    assert_int_equal(tm_read(t, DATA + XSTATE_BV, 8) & 0x204, 0x204);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(tm_read(t, DATA + OFF_AVX + 16 * i, 8), 0x1111 * (i + 1));
        assert_true(tm_read(t, DATA + OFF_AVX + 16 * i + 8, 8) == ~(0x1111ull * (i + 1)));
    }
    assert_int_equal(tm_read(t, DATA + 0xA80, 8), 0x55AA);
    memset(S.ymm_high, 0xEE, sizeof S.ymm_high);
    S.gpr[RAX] = 4;
    assert_int_equal(tm_run(t, restore, 3), NOTHING);
    check();
    S.gpr[RAX] = 3; // not asked for: left alone
    memset(t->p.ram + DATA + OFF_AVX, 0, 256);
    assert_int_equal(tm_run(t, restore, 3), NOTHING);
    check();
    S.gpr[RAX] = 4; // asked for and not in the area: its initial configuration
    tm_write64(t, DATA + XSTATE_BV, 3);
    assert_int_equal(tm_run(t, restore, 3), NOTHING);
    for (unsigned i = 0; i < 16; i++) assert_true(!S.ymm_high[i][0] && !S.ymm_high[i][1]);

    fill();
    memset(t->p.ram + DATA, 0, 0xB00);
    S.gpr[RAX] = 0x204;
    assert_int_equal(tm_run(t, savec, 3), NOTHING);
    assert_int_equal(tm_read(t, DATA + XSTATE_BV, 8), 0x204);
    assert_true(tm_read(t, DATA + XCOMP_BV, 8) == (1ull << 63 | 0x204));
    assert_int_equal(tm_read(t, DATA + OFF_AVX, 8), 0x1111);
    assert_int_equal(tm_read(t, DATA + OFF_AVX + 256, 8), 0x55AA);
    memset(S.ymm_high, 0xEE, sizeof S.ymm_high), S.pkru = 0;
    assert_int_equal(tm_run(t, restore, 3), NOTHING);
    check();
    assert_int_equal(S.pkru, 0x55AA);
    // initial, and known to be: not written, and its place is kept
    memset(S.ymm_high, 0, sizeof S.ymm_high), S.xrstor.in_use = 0;
    memset(t->p.ram + DATA, 0xEE, 0xB00);
    assert_int_equal(tm_run(t, savec, 3), NOTHING);
    assert_int_equal(tm_read(t, DATA + XSTATE_BV, 8), 0x200);
    assert_true(tm_read(t, DATA + OFF_AVX, 8) == 0xEEEEEEEEEEEEEEEE);
    assert_int_equal(tm_read(t, DATA + OFF_AVX + 256, 8), 0x55AA);
}

// MXCSR belongs to AVX too in the standard format (SDM volume 1, 13.7, 13.8).
static void mxcsr(void **state)
{
    static const u8 save[] = {0x0F, 0xAE, 0x27}, restore[] = {0x0F, 0xAE, 0x2F};
    S.xcr0 = 7, S.mxcsr = 0x1F80;
    cpu_mode_changed(t->v);
    S.gpr[RDI] = DATA, S.gpr[RAX] = 4, S.gpr[RDX] = 0;
    memset(t->p.ram + DATA, 0, 0xB00);
    assert_int_equal(tm_run(t, save, 3), NOTHING);
    assert_int_equal(tm_read(t, DATA + 24, 4), 0x1F80);
    t->p.ram[DATA + 25] = 0x3F;
    assert_int_equal(tm_run(t, restore, 3), NOTHING);
    assert_int_equal(S.mxcsr, 0x3F80);
    t->p.ram[DATA + 26] = 1;
    assert_int_equal(tm_run(t, restore, 3), VEC_GP);
}

static void init_keeps_it(void **state)
{
    fill();
    vcpu_reset(t->v, true);
    check();
    vcpu_reset(t->v, false);
    assert_int_equal(S.ymm_high[0][0], 0);
}

int main(void)
{
    if (!fp_host_capable()) {
        printf("1..0 # SKIP this host cannot run guest floating point\n");
        return 0;
    }
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    const struct CMUnitTest tests[] = {L(xcr0), L(leaf_0d), L(areas), L(mxcsr), L(init_keeps_it)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// AVX: its state in XCR0, CPUID leaf 0Dh and the XSAVE family; what its instructions are refused for and what
// they do to the halves of a register. Expected values: SDM volume 1, 13.2 to 13.12 (XCR0, areas of XSAVE)
// and 14.3 (the high half), table 11-1 of volume 3 (INIT), volume 2, 2.4 (exception classes). The silicon
// test has the results.

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

// ---- instructions: only where the host has what they are made of ----
static void enable(void)
{
    S.xcr0 = 7;
    cpu_mode_changed(t->v);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 2; k++)
            S.xmm[i][k] = 0x1000 * i + k, S.ymm_high[i][k] = 0xF0000 + 0x1000 * i + k;
}
static bool possible(void)
{
    if (cpu_feature_possible(FEATURE_AVX2)) return true;
    skip();
    return false;
}
static const u8 vpaddq_x[] = {0xC5, 0xE9, 0xD4, 0xCB}, vpaddq_y[] = {0xC5, 0xED, 0xD4, 0xCB}; // 1, 2, 3

static void high_halves(void **state)
{
    if (!possible()) return;
    enable();
    assert_int_equal(tm_run(t, vpaddq_y, 4), NOTHING);
    assert_true(S.xmm[1][0] == 0x5000 && S.xmm[1][1] == 0x5002);
    assert_true(S.ymm_high[1][0] == 0x1E5000 && S.ymm_high[1][1] == 0x1E5002);
    assert_int_equal(tm_run(t, vpaddq_x, 4), NOTHING); // VEX.128: the high half becomes 0
    assert_true(S.xmm[1][0] == 0x5000 && !S.ymm_high[1][0] && !S.ymm_high[1][1]);
    assert_int_equal(TM_RUN(t, 0x66, 0x0F, 0xD4, 0xD3), NOTHING); // PADDQ XMM2, XMM3: it stays
    assert_true(S.xmm[2][0] == 0x5000 && S.ymm_high[2][0] == 0xF2000);
    assert_int_equal(TM_RUN(t, 0xC5, 0xF8, 0x77), NOTHING); // VZEROUPPER
    for (unsigned i = 0; i < 16; i++) assert_true(!S.ymm_high[i][0] && !S.ymm_high[i][1]);
    assert_true(S.xmm[15][0] == 0xF000);
    assert_int_equal(TM_RUN(t, 0xC5, 0xFC, 0x77), NOTHING); // VZEROALL
    for (unsigned i = 0; i < 16; i++) assert_true(!S.xmm[i][0] && !S.xmm[i][1]);
}

static void guards(void **state)
{
    if (!possible()) return;
    enable();
    S.cr0 |= CR0_EM; // which do not matter with VEX
    S.cr4 &= ~(u64)CR4_OSFXSR;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vpaddq_x, 4), NOTHING);
    S.cr0 |= CR0_TS;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vpaddq_x, 4), VEC_NM);
    S.xcr0 = 3;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vpaddq_x, 4), VEC_UD); // before #NM
    S.cr0 &= ~(u64)(CR0_TS | CR0_EM), S.xcr0 = 7, S.cr4 = (S.cr4 | CR4_OSFXSR) & ~(u64)CR4_OSXSAVE;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vpaddq_x, 4), VEC_UD);
    S.cr4 |= CR4_OSXSAVE;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vpaddq_x, 4), NOTHING);
    cpu_feature_switch(&t->f, FEATURE_AVX2, false); // 256 bits of integers
    assert_int_equal(tm_run(t, vpaddq_x, 4), NOTHING);
    assert_int_equal(tm_run(t, vpaddq_y, 4), VEC_UD);
}

static void encodings(void **state)
{
    if (!possible()) return;
    enable();
    assert_int_equal(TM_RUN(t, 0xC5, 0xE8, 0x51, 0xCB), VEC_UD); // VSQRTPS with a third register
    assert_int_equal(TM_RUN(t, 0xC5, 0xF8, 0x51, 0xCB), NOTHING);
    assert_int_equal(TM_RUN(t, 0xC5, 0xEC, 0x12, 0xCB), VEC_UD);  // VMOVHLPS with L = 1
    assert_int_equal(TM_RUN(t, 0xC5, 0xEE, 0x58, 0xCB), NOTHING); // VADDSS: L is ignored
    assert_int_equal(S.ymm_high[1][0], 0);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0xE9, 0x0C, 0xCB), VEC_UD); // VPERMILPS with W = 1
    assert_int_equal(TM_RUN(t, 0x66, 0xC5, 0xE9, 0xD4, 0xCB), VEC_UD);
    S.gpr[RDI] = DATA + 16;
    assert_int_equal(TM_RUN(t, 0xC5, 0xF8, 0x28, 0x0F), NOTHING); // VMOVAPS XMM1, [RDI]
    assert_int_equal(TM_RUN(t, 0xC5, 0xFC, 0x28, 0x0F), VEC_GP);  // YMM1: on 32 bytes
    assert_int_equal(TM_RUN(t, 0xC5, 0xFC, 0x10, 0x0F), NOTHING); // VMOVUPS
    assert_int_equal(TM_RUN(t, 0xC5, 0xFC, 0x29, 0x0F), VEC_GP);
    S.gpr[RDI] = DATA + 32;
    assert_int_equal(TM_RUN(t, 0xC5, 0xFC, 0x29, 0x0F), NOTHING);
    // gathers whose registers are not three: destination and index, mask and index, destination and mask
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x71, 0x90, 0x14, 0x17), VEC_UD);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x71, 0x90, 0x1C, 0x0F), VEC_UD);
    assert_int_equal(TM_RUN(t, 0xC4, 0xE2, 0x71, 0x90, 0x0C, 0x17), VEC_UD);
}

// With a mask clear: #XM, or #UD without CR4.OSXMMEXCPT; the destination stays.
static void unmasked(void **state)
{
    static const u8 vdivps[] = {0xC5, 0xEC, 0x5E, 0xCB}; // YMM1 = YMM2 / YMM3
    if (!possible()) return;
    enable();
    for (unsigned k = 0; k < 2; k++) {
        S.xmm[2][k] = S.xmm[3][k] = S.ymm_high[2][k] = S.ymm_high[3][k] = 0x3F8000003F800000;
    }
    S.ymm_high[3][1] = 0x000000003F800000; // the last element: 1 / 0
    S.cr4 |= CR4_OSXMMEXCPT;
    S.mxcsr = 0x1F80 & ~(1u << 9);
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vdivps, 4), VEC_XM);
    assert_int_equal(S.mxcsr & 0x3F, 4);
    assert_int_equal(S.xmm[1][0], 0x1000);
    S.cr4 &= ~(u64)CR4_OSXMMEXCPT;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vdivps, 4), VEC_UD);
    S.mxcsr = 0x1F80;
    cpu_mode_changed(t->v);
    assert_int_equal(tm_run(t, vdivps, 4), NOTHING);
    assert_true(S.ymm_high[1][1] == 0x7F8000003F800000);
}

// A fault finds done what was gathered before it.
static void gather_partly(void **state)
{
    static const u8 vpgatherdd[] = {0xC4, 0xE2, 0x75, 0x90, 0x14, 0x1F}; // YMM2, [RDI + YMM3], mask YMM1
    if (!possible()) return;
    enable();
    u32 index[8] = {0, 4, 8, 12, 0x1000000 /* beyond what is mapped */, 20, 24, 28};
    for (unsigned i = 0; i < 8; i++) tm_write(t, DATA + 4 * i, &(u32){100 + i}, 4);
    memcpy(S.xmm[3], index, 16), memcpy(S.ymm_high[3], index + 4, 16);
    S.xmm[1][0] = 0x0000000080000001, S.xmm[1][1] = 0x8000000080000000; // elements 0, 2, 3
    S.ymm_high[1][0] = S.ymm_high[1][1] = 0x8000000080000000;
    S.gpr[RDI] = DATA;
    u64 second = S.xmm[2][0] >> 32, last = S.ymm_high[2][1];
    assert_int_equal(tm_run(t, vpgatherdd, 6), VEC_PF);
    assert_true(S.xmm[2][0] == (100 | second << 32) && S.xmm[2][1] == (102 | 103ull << 32));
    assert_true(S.ymm_high[2][1] == last && !S.xmm[1][0] && !S.xmm[1][1]);
    assert_true(S.ymm_high[1][0] == ~0ull && S.ymm_high[1][1] == ~0ull);
    S.ymm_high[3][0] = 16 | 20ull << 32;
    assert_int_equal(tm_run(t, vpgatherdd, 6), NOTHING); // again: the rest
    assert_true(S.xmm[2][0] == (100 | second << 32) && S.ymm_high[2][0] == (104 | 105ull << 32));
    assert_true(S.ymm_high[2][1] == (106 | 107ull << 32) && !S.ymm_high[1][0] && !S.ymm_high[1][1]);
}

int main(void)
{
    if (!fp_host_capable()) {
        printf("1..0 # SKIP this host cannot run guest floating point\n");
        return 0;
    }
#define L(f) cmocka_unit_test_setup_teardown(f, long_setup, teardown)
    const struct CMUnitTest tests[] = {L(xcr0),          L(leaf_0d),      L(areas),  L(mxcsr),
                                       L(init_keeps_it), L(high_halves),  L(guards), L(encodings),
                                       L(unmasked),      L(gather_partly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

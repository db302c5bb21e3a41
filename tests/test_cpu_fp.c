// What the silicon test cannot show, because the host's kernel decides it: how control registers turn x87,
// MMX, SSE and XSAVE instructions into #UD, #NM, #MF and #XM (SDM Vol. 3, chapters 2.5, 14 and table 15-1),
// x87 pointers, the environment's formats, and XSAVES with XRSTORS; sequences of XRSTOR and XSAVE, which the
// silicon test does not make.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/engine/fp.h"
#include "tests/silicon/silicon.h"

enum { DONE = 3 }; // the INT3 behind the code

static struct side_state plain_state(void)
{
    struct side_state s;
    memset(&s, 0, sizeof s);
    s.bits = 64;
    s.rip = CODE_BASE;
    s.rflags = 0x202;
    s.mxcsr = MXCSR_RESET;
    s.fcw = 0x37F;
    s.gpr[RSP] = DATA_BASE + 0x1000;
    s.gpr[RSI] = DATA_BASE + 0x400;
    return s;
}

// ---- guards ----
struct guard {
    const char *what;
    u8 code[8], n;
    u32 cr0_set, cr0_clear, cr4_clear, vector;
};
#define CODE(...) {__VA_ARGS__}, sizeof((u8[]){__VA_ARGS__})
static const struct guard guards[] = {
    {"FLD1", CODE(0xD9, 0xE8), 0, 0, 0, DONE},
    {"FLD1, TS", CODE(0xD9, 0xE8), CR0_TS, 0, 0, VEC_NM},
    {"FLD1, EM", CODE(0xD9, 0xE8), CR0_EM, 0, 0, VEC_NM},
    {"FLD1, TS, MP clear", CODE(0xD9, 0xE8), CR0_TS, CR0_MP, 0, VEC_NM},
    {"FNINIT, TS", CODE(0xDB, 0xE3), CR0_TS, 0, 0, VEC_NM},
    {"FNSTSW AX, EM", CODE(0xDF, 0xE0), CR0_EM, 0, 0, VEC_NM},
    {"FWAIT, TS, MP", CODE(0x9B), CR0_TS, 0, 0, VEC_NM},
    {"FWAIT, TS, MP clear", CODE(0x9B), CR0_TS, CR0_MP, 0, DONE},
    {"FWAIT, EM", CODE(0x9B), CR0_EM, 0, 0, DONE},
    {"PADDB mm", CODE(0x0F, 0xFC, 0xC1), 0, 0, CR4_OSFXSR, DONE},
    {"PADDB mm, EM", CODE(0x0F, 0xFC, 0xC1), CR0_EM, 0, 0, VEC_UD},
    {"PADDB mm, TS", CODE(0x0F, 0xFC, 0xC1), CR0_TS, 0, 0, VEC_NM},
    {"PADDB mm, EM and TS", CODE(0x0F, 0xFC, 0xC1), CR0_EM | CR0_TS, 0, 0, VEC_UD},
    {"ADDPS", CODE(0x0F, 0x58, 0xC1), 0, 0, 0, DONE},
    {"ADDPS, EM", CODE(0x0F, 0x58, 0xC1), CR0_EM, 0, 0, VEC_UD},
    {"ADDPS, TS", CODE(0x0F, 0x58, 0xC1), CR0_TS, 0, 0, VEC_NM},
    {"ADDPS, OSFXSR clear", CODE(0x0F, 0x58, 0xC1), 0, 0, CR4_OSFXSR, VEC_UD},
    {"ADDPS, OSFXSR clear and TS", CODE(0x0F, 0x58, 0xC1), CR0_TS, 0, CR4_OSFXSR, VEC_UD},
    {"PSHUFB, OSFXSR clear", CODE(0x66, 0x0F, 0x38, 0x00, 0xC1), 0, 0, CR4_OSFXSR, VEC_UD},
    {"MOVNTI, EM", CODE(0x0F, 0xC3, 0x06), CR0_EM, 0, 0, DONE},
    {"MOVNTI, TS, OSFXSR clear", CODE(0x0F, 0xC3, 0x06), CR0_TS, 0, CR4_OSFXSR, DONE},
    {"POPCNT, TS, OSFXSR clear", CODE(0xF3, 0x0F, 0xB8, 0xC1), CR0_TS, 0, CR4_OSFXSR, DONE},
    {"CRC32, EM", CODE(0xF2, 0x0F, 0x38, 0xF1, 0xC1), CR0_EM, 0, 0, DONE},
    {"SFENCE, TS, OSFXSR clear", CODE(0x0F, 0xAE, 0xF8), CR0_TS, 0, CR4_OSFXSR, DONE},
    {"LDMXCSR, OSFXSR clear", CODE(0x0F, 0xAE, 0x16), 0, 0, CR4_OSFXSR, VEC_UD},
    {"STMXCSR, TS", CODE(0x0F, 0xAE, 0x1E), CR0_TS, 0, 0, VEC_NM},
    {"FXSAVE, OSFXSR clear", CODE(0x0F, 0xAE, 0x06), 0, 0, CR4_OSFXSR, DONE},
    {"FXSAVE, EM", CODE(0x0F, 0xAE, 0x06), CR0_EM, 0, 0, VEC_NM},
    {"FXSAVE, TS", CODE(0x0F, 0xAE, 0x06), CR0_TS, 0, 0, VEC_NM},
    {"XSAVE", CODE(0x0F, 0xAE, 0x26), 0, 0, 0, DONE},
    {"XSAVE, OSXSAVE clear", CODE(0x0F, 0xAE, 0x26), 0, 0, CR4_OSXSAVE, VEC_UD},
    {"XSAVE, OSXSAVE clear and TS", CODE(0x0F, 0xAE, 0x26), CR0_TS, 0, CR4_OSXSAVE, VEC_UD},
    {"XSAVE, TS", CODE(0x0F, 0xAE, 0x26), CR0_TS, 0, 0, VEC_NM},
    {"XSAVE, EM", CODE(0x0F, 0xAE, 0x26), CR0_EM, 0, 0, DONE},
    {"XSAVES at CPL 3", CODE(0x0F, 0xC7, 0x2E), 0, 0, 0, VEC_GP},
    {"XRSTORS at CPL 3", CODE(0x0F, 0xC7, 0x1E), 0, 0, 0, VEC_GP},
};

static void guards_follow_control_registers(void **unused)
{
    for (unsigned engine = 0; engine < 2; engine++) {
        struct guest *g = guest_new(engine);
        struct vcpu *v = guest_vcpu(g);
        u64 cr0 = v->s.cr0, cr4 = v->s.cr4;
        for (unsigned i = 0; i < ARRAY_LEN(guards); i++) {
            const struct guard *t = &guards[i];
            struct side_state in = plain_state();
            struct outcome out;
            v->s.cr0 = (cr0 | t->cr0_set) & ~(u64)t->cr0_clear;
            v->s.cr4 = cr4 & ~(u64)t->cr4_clear;
            guest_run(g, t->code, t->n, &in, &out);
            if (out.vector != t->vector) fail_msg("%s: vector %u, not %u", t->what, out.vector, t->vector);
        }
        guest_free(g);
    }
}

// ---- exceptions of the arithmetic itself ----
static void unmasked_sse_exceptions(void **unused)
{
    struct guest *g = guest_new(false);
    static const u8 divps[] = {0x0F, 0x5E, 0xC1}; // 0 / 0
    struct side_state in = plain_state();
    struct outcome out;
    in.mxcsr = MXCSR_RESET & ~0x80u; // IM clear
    guest_run(g, divps, sizeof divps, &in, &out);
    assert_int_equal(out.vector, VEC_XM);
    assert_int_equal(out.s.rip, in.rip);
    assert_int_equal(out.s.mxcsr, in.mxcsr | MXCSR_IE);
    guest_vcpu(g)->s.cr4 &= ~(u64)CR4_OSXMMEXCPT;
    guest_run(g, divps, sizeof divps, &in, &out);
    assert_int_equal(out.vector, VEC_UD);
    guest_free(g);
}

static void pending_x87_exceptions(void **unused)
{
    struct guest *g = guest_new(false);
    // FLDZ; FLDZ; FDIVP (invalid, unmasked); then an instruction that does not wait, and one that does.
    static const u8 no_wait[] = {0xD9, 0xEE, 0xD9, 0xEE, 0xDE, 0xF9, 0xDF, 0xE0};
    static const u8 wait[] = {0xD9, 0xEE, 0xD9, 0xEE, 0xDE, 0xF9, 0xD9, 0xE8};
    static const u8 mmx[] = {0xD9, 0xEE, 0xD9, 0xEE, 0xDE, 0xF9, 0x0F, 0x6F, 0xC8};
    struct side_state in = plain_state();
    struct outcome out;
    in.fcw = 0x37E;
    guest_run(g, no_wait, sizeof no_wait, &in, &out);
    assert_int_equal(out.vector, DONE);
    assert_int_equal(out.s.gpr[RAX] & 0x80FF, 0x8081); // B, ES, IE
    // The unmasked exception named its instruction: DE F9 at +4.
    assert_int_equal(guest_vcpu(g)->s.fpu.fip, CODE_BASE + 4);
    assert_int_equal(guest_vcpu(g)->s.fpu.fop, 0x6F9);
    guest_run(g, wait, sizeof wait, &in, &out);
    assert_int_equal(out.vector, VEC_MF);
    assert_int_equal(out.s.rip, CODE_BASE + 6);
    guest_run(g, mmx, sizeof mmx, &in, &out);
    assert_int_equal(out.vector, VEC_MF);
    // With CR0.NE clear and no board that listens to FERR# it goes on, as with IGNNE#.
    guest_vcpu(g)->s.cr0 &= ~(u64)CR0_NE;
    guest_run(g, wait, sizeof wait, &in, &out);
    assert_int_equal(out.vector, DONE);
    assert_int_equal(guest_vcpu(g)->unimplemented_n, 0);
    guest_free(g);
}

// ---- pointers: FIP and FDP of the last instruction that is no control instruction ----
static void x87_pointers(void **unused)
{
    struct guest *g = guest_new(false);
    // FLD m64 [RSI+8]; FNSTENV [RSI+64]
    static const u8 code[] = {0x90, 0xDD, 0x46, 0x08, 0xD9, 0x76, 0x40};
    struct side_state in = plain_state();
    struct outcome out;
    u32 env[7];
    memset(guest_data(g), 0, DATA_SIZE);
    guest_run(g, code, sizeof code, &in, &out);
    assert_int_equal(out.vector, DONE);
    memcpy(env, guest_data(g) + 0x440, sizeof env);
    assert_int_equal(env[0], 0xFFFF037F);
    assert_int_equal(env[1], 0xFFFF3800); // TOP 7
    assert_int_equal(env[2], 0xFFFF7FFF); // R7 holds zero, the rest is empty
    assert_int_equal(env[3], CODE_BASE + 1);
    assert_int_equal(env[4] & 0xFFFF, guest_vcpu(g)->s.fpu.fcs);
    assert_int_equal(env[5], DATA_BASE + 0x408);
    assert_int_equal(out.s.fcw, 0x37F);
    guest_free(g);
}

// ---- XSAVES and XRSTORS: compacted format always, at CPL 0 ----
static void xsaves_round_trip(void **unused)
{
    struct guest *g = guest_new(false);
    static const u8 xsaves[] = {0x48, 0x0F, 0xC7, 0x2E}, xrstors[] = {0x48, 0x0F, 0xC7, 0x1E};
    struct side_state in = plain_state();
    struct outcome out;
    u64 header[8];
    u8 *area = guest_data(g) + 0x400;
    in.supervisor = true;
    in.gpr[RSP] = 0xD000; // the supervisor's own page
    in.gpr[RAX] = 3;
    in.xmm[5][1] = 0x123456789ABCDEF0;
    memset(area, 0xEE, 1024);
    guest_run(g, xsaves, sizeof xsaves, &in, &out);
    assert_int_equal(out.vector, DONE);
    memcpy(header, area + 512, sizeof header);
    assert_int_equal(header[0], 2); // x87 is in its initial configuration
    assert_int_equal(header[1], 1ull << 63 | 3);
    memcpy(&header[2], area + 160 + 5 * 16 + 8, 8);
    assert_int_equal(header[2], 0x123456789ABCDEF0);
    assert_int_equal(area[0], 0xEE); // nothing of x87 was written
    memset(area + 512 + 16, 0, 48);

    in.xmm[5][1] = 1;
    in.fcw = 0x27F;
    guest_run(g, xrstors, sizeof xrstors, &in, &out);
    assert_int_equal(out.vector, DONE);
    assert_int_equal(out.s.xmm[5][1], 0x123456789ABCDEF0);
    assert_int_equal(out.s.fcw, 0x37F); // initialised: its bit in XSTATE_BV is clear

    area[512 + 15] = 0; // XCOMP_BV[63]: the standard format is not for XRSTORS
    guest_run(g, xrstors, sizeof xrstors, &in, &out);
    assert_int_equal(out.vector, VEC_GP);
    assert_int_equal(out.s.fcw, 0x27F);
    guest_free(g);
}

// ---- what XRSTOR leaves for later saves (SDM Vol. 1, 13.6, 13.9, 13.11) ----
// A save behind an XRSTOR that loads x87, SSE: which of the parts in memory were written. Expected: the
// manual's operation of each instruction; user mode, also a Xeon (family 6, model 143) in a run of the same
// code.
enum { WROTE_X87 = 1, WROTE_XMM = 2, WROTE_MXCSR = 4 };
static unsigned written(struct guest *g, const u8 *code, unsigned n, const struct side_state *in,
                        u64 *xstate_bv)
{
    struct outcome out;
    u8 *area = guest_data(g) + 0x400;
    guest_run(g, code, n, in, &out);
    assert_int_equal(out.vector, DONE);
    memcpy(xstate_bv, area + 512, 8);
    return (area[32] != 0x77 ? WROTE_X87 : 0) | (area[160] != 0x77 ? WROTE_XMM : 0) |
           (area[28] != 0x77 ? WROTE_MXCSR : 0);
}

static void modified_optimization(void **unused)
{
#define SCRIBBLE \
    0xC6, 0x46, 32, 0x77, 0xC6, 0x86, 160, 0, 0, 0, 0x77, 0xC6, 0x46, 28, 0x77 // mov byte [rsi+n],0x77
    enum { COMPACT = 8, SUPERVISOR = 16 };
    static const struct {
        const char *what;
        unsigned wrote, bv, how;
        u8 code[48];
    } c[] = {
        {"XSAVEOPT", WROTE_MXCSR, 3, 0, {0x0F, 0xAE, 0x2E, SCRIBBLE, 0x0F, 0xAE, 0x36, 0xCC}},
        {"XSAVE", 7, 3, 0, {0x0F, 0xAE, 0x2E, SCRIBBLE, 0x0F, 0xAE, 0x26, 0xCC}},
        {"XSAVEC", 7, 3, COMPACT, {0x0F, 0xAE, 0x2E, SCRIBBLE, 0x0F, 0xC7, 0x26, 0xCC}},
        {"XSAVEOPT after PCMPEQD XMM0",
         WROTE_XMM | WROTE_MXCSR,
         3,
         0,
         {0x0F, 0xAE, 0x2E, SCRIBBLE, 0x66, 0x0F, 0x76, 0xC0, 0x0F, 0xAE, 0x36, 0xCC}},
        {"XSAVEOPT after FLD1",
         WROTE_X87 | WROTE_MXCSR,
         3,
         0,
         {0x0F, 0xAE, 0x2E, SCRIBBLE, 0xD9, 0xE8, 0x0F, 0xAE, 0x36, 0xCC}},
        {"XSAVEOPT after LDMXCSR of another value",
         WROTE_XMM | WROTE_MXCSR,
         3,
         0,
         {0x0F, 0xAE, 0x2E, SCRIBBLE, 0x0F, 0xAE, 0x96, 0x00, 0x04, 0, 0, 0x0F, 0xAE, 0x36, 0xCC}},
        {"XSAVEOPT, the last XRSTOR was of SSE alone",
         WROTE_X87 | WROTE_MXCSR,
         3,
         0,
         {0x0F, 0xAE, 0x2E, 0xB0, 2, 0x0F, 0xAE, 0x2E, 0xB0, 3, SCRIBBLE, 0x0F, 0xAE, 0x36, 0xCC}},
        {"XSAVEOPT behind the compacted form",
         7,
         3,
         COMPACT,
         {0x0F, 0xAE, 0x2E, SCRIBBLE, 0x0F, 0xAE, 0x36, 0xCC}},
        {"XSAVES", 0, 3, COMPACT | SUPERVISOR, {0x0F, 0xC7, 0x1E, SCRIBBLE, 0x0F, 0xC7, 0x2E, 0xCC}},
        {"XSAVES of fewer components: another XCOMP_BV",
         WROTE_XMM | WROTE_MXCSR,
         2,
         COMPACT | SUPERVISOR,
         {0x0F, 0xC7, 0x1E, SCRIBBLE, 0xB0, 2, 0x0F, 0xC7, 0x2E, 0xCC}},
        {"XSAVES after LDMXCSR",
         WROTE_XMM | WROTE_MXCSR,
         3,
         COMPACT | SUPERVISOR,
         {0x0F, 0xC7, 0x1E, SCRIBBLE, 0x0F, 0xAE, 0x96, 0x00, 0x04, 0, 0, 0x0F, 0xC7, 0x2E, 0xCC}},
        {"XSAVEOPT behind XRSTORS",
         7,
         3,
         COMPACT | SUPERVISOR,
         {0x0F, 0xC7, 0x1E, SCRIBBLE, 0x0F, 0xAE, 0x36, 0xCC}},
    };
#undef SCRIBBLE
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        struct guest *g = guest_new(false);
        struct side_state in = plain_state();
        u8 *area = guest_data(g) + 0x400;
        u16 fcw = 0x37F;
        u32 mxcsr = MXCSR_RESET, other = 0x1FC0;
        u64 bv[2] = {3, c[i].how & COMPACT ? 1ull << 63 | 3 : 0};
        unsigned n = sizeof c[i].code;
        memset(area, 0, 1024);
        memcpy(area, &fcw, 2);
        memcpy(area + 24, &mxcsr, 4);
        area[32] = area[160] = 0x11;
        memcpy(area + 512, bv, sizeof bv);
        memcpy(area + 0x400, &other, 4);
        while (c[i].code[n - 1] != 0xCC) n--;
        if (c[i].how & SUPERVISOR) in.supervisor = true, in.gpr[RSP] = 0xD000;
        in.gpr[RAX] = 3;
        unsigned wrote = written(g, c[i].code, n - 1, &in, bv);
        if (wrote != c[i].wrote || bv[0] != c[i].bv)
            fail_msg("%s: wrote %x, XSTATE_BV %llx", c[i].what, wrote, (unsigned long long)bv[0]);
        guest_free(g);
    }
}

// SDM Vol. 1, 13.8.1: what XRSTOR loads is in use, though it be the initial configuration; what it
// initializes is not.
static void loaded_is_in_use(void **unused)
{
    static const u8 code[] = {0x0F, 0xAE, 0x2E, 0x0F, 0x01, 0xD0}; // xrstor [rsi]; xgetbv
    for (u64 bv = 0; bv < 4; bv++) {
        struct guest *g = guest_new(false);
        struct side_state in = plain_state();
        struct outcome out;
        u8 *area = guest_data(g) + 0x400;
        u16 fcw = 0x37F;
        u32 mxcsr = MXCSR_RESET;
        memset(area, 0, 1024);
        memcpy(area, &fcw, 2);
        memcpy(area + 24, &mxcsr, 4);
        memcpy(area + 512, &bv, 8);
        in.gpr[RAX] = 3, in.gpr[RCX] = 1;
        in.xmm[0][0] = 1; // in use before
        guest_run(g, code, sizeof code, &in, &out);
        assert_int_equal(out.vector, DONE);
        assert_int_equal(out.s.gpr[RAX], bv);
        guest_free(g);
    }
}

// VZEROUPPER initializes YMM state, VZEROALL SSE state too (but MXCSR). Expected: the Xeon's XGETBV.
static void cleared_is_not_in_use(void **unused)
{
    static const u8 code[] = {0x0F, 0xAE, 0x2E, 0xC5, 0xF8,
                              0x77, 0x0F, 0x01, 0xD0}; // xrstor; vzeroupper; xgetbv
    for (unsigned all = 0; all < 2; all++) {
        struct guest *g = guest_new(false);
        struct side_state in = plain_state();
        struct outcome out;
        u8 *area = guest_data(g) + 0x400, c[sizeof code];
        u16 fcw = 0x37F;
        u32 mxcsr = MXCSR_RESET;
        u64 bv = 7;
        memcpy(c, code, sizeof c);
        if (all) c[4] = 0xFC;
        memset(area, 0, 1024);
        memcpy(area, &fcw, 2), memcpy(area + 24, &mxcsr, 4), memcpy(area + 512, &bv, 8);
        area[160] = area[576] = 1;
        in.gpr[RAX] = 7, in.gpr[RCX] = 1;
        if (guest_vcpu(g)->s.xcr0 & 4) {
            guest_run(g, c, sizeof c, &in, &out);
            assert_int_equal(out.vector, DONE);
            assert_int_equal(out.s.gpr[RAX], all ? 1 : 3);
        }
        guest_free(g);
    }
}

// FIP is as wide as linear addresses are, FDP is kept whole; FOP has 11 bits. Expected: a Xeon with 57 bits
// (family 6, model 143); with 48 the same rule.
static void pointers_of_fxrstor64(void **unused)
{
    static const u8 fxrstor64[] = {0x48, 0x0F, 0xAE, 0x0E};
    static const struct {
        bool la57;
        u64 in, fip;
    } c[] = {{true, 0x1234567890ABCDEF, 0x0034567890ABCDEF},
             {true, 0xBFF0000000000000, 0xFFF0000000000000},
             {false, 0x1234867890ABCDEF, 0xFFFF867890ABCDEF},
             {false, 0x1234567890ABCDEF, 0x0000567890ABCDEF}};
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        struct cpu_features f;
        cpu_features_max(&f);
        cpu_feature_switch(&f, FEATURE_LA57, c[i].la57);
        struct guest *g = guest_new_cpu(false, &f);
        struct side_state in = plain_state();
        struct outcome out;
        u8 *area = guest_data(g) + 0x400;
        u16 fop = 0x7ABC;
        u32 mxcsr = MXCSR_RESET;
        memset(area, 0, 512);
        memcpy(area + 6, &fop, 2), memcpy(area + 8, &c[i].in, 8), memcpy(area + 16, &c[i].in, 8);
        memcpy(area + 24, &mxcsr, 4);
        guest_run(g, fxrstor64, sizeof fxrstor64, &in, &out);
        assert_int_equal(out.vector, DONE);
        assert_true(out.fip == c[i].fip && out.fdp == c[i].in);
        assert_int_equal(out.fop, 0x2BC);
        guest_free(g);
    }
}

// An illegal MXCSR in the compacted format: #GP(0), when what is to be initialized has been. Expected: the
// same Xeon.
static void refused_mxcsr_comes_late(void **unused)
{
    static const u8 xrstor[] = {0x0F, 0xAE, 0x2E};
    struct guest *g = guest_new(false);
    struct side_state in = plain_state();
    struct outcome out;
    u8 *area = guest_data(g) + 0x400;
    u32 mxcsr = 1u << 31;
    u64 header[2] = {2, 1ull << 63 | 7};
    memset(area, 0, 1024);
    memcpy(area + 24, &mxcsr, 4), memcpy(area + 512, header, sizeof header);
    area[160] = 0x55;
    in.gpr[RAX] = 7, in.ymm_high[3][1] = 0x1234, in.fcw = 0x27F;
    if (guest_vcpu(g)->s.xcr0 & 4) {
        guest_run(g, xrstor, sizeof xrstor, &in, &out);
        assert_int_equal(out.vector, VEC_GP);
        assert_int_equal(out.s.fcw, 0x37F);
        assert_int_equal(out.s.xmm[0][0], 0x55);
        assert_int_equal(out.s.ymm_high[3][1], 0);
        header[0] = 6; // YMM state is to be loaded: not by then
        memcpy(area + 512, header, sizeof header);
        guest_run(g, xrstor, sizeof xrstor, &in, &out);
        assert_int_equal(out.vector, VEC_GP);
        assert_int_equal(out.s.ymm_high[3][1], 0x1234);
    }
    guest_free(g);
}

int main(void)
{
    if (!fp_host_capable()) {
        printf("1..0 # SKIP this host cannot run guest floating point\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guards_follow_control_registers),
        cmocka_unit_test(unmasked_sse_exceptions),
        cmocka_unit_test(pending_x87_exceptions),
        cmocka_unit_test(x87_pointers),
        cmocka_unit_test(xsaves_round_trip),
        cmocka_unit_test(modified_optimization),
        cmocka_unit_test(loaded_is_in_use),
        cmocka_unit_test(cleared_is_not_in_use),
        cmocka_unit_test(pointers_of_fxrstor64),
        cmocka_unit_test(refused_mxcsr_comes_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

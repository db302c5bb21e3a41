/*
 * The x87 environment in memory: FNSTENV, FLDENV, FNSAVE and FRSTOR in 16 and 32 bits, in real-address mode,
 * protected mode and compatibility mode (SDM volume 1, figures 8-9 to 8-12, 8.1.8 to 8.1.10). In real-address
 * mode the pointers are linear addresses of 32 or 20 bits, cut up; virtual-8086 mode is v86.c's.
 *
 * The opcode is looked at after an unmasked exception alone, where every processor stores it (8.1.9.1). A
 * processor with CPUID.7:EBX[13] stores no selectors.
 *
 * Bochs 2.7 stores offsets for linear addresses in real-address mode (against figures 8-10 and 8-12). QEMU's
 * TCG stores no opcode and other pointers there, does not load them with FLDENV, and pushes though the
 * exception is unmasked (8.5.1.2).
 */
#include "low.h"
#include "tap.h"

#define REAL_CODE 0x13000 /* 12F0:0100 */
#define REAL_DATA 0x12340 /* 1234:0000 */
#define OPERAND   0x10    /* a signaling NaN, in both data areas */
#define ENV       0x20    /* the environment */
#define AGAIN     0x60    /* loaded and stored again */
#define SAVED     0xa0    /* after FNSAVE */
#define RESTORED  0x120   /* FRSTOR, and FNSAVE again */

/* IE is unmasked; FLD of a signaling NaN is what the pointers are about. `s` is the suffix of the
   environment's size, `a` the data area's address in the segment. */
#define PROGRAM(a, s, fld) \
    "fninit; fldpi; pushw $0x37e; fldcw (" SP "); popw %ax; " fld " flds " a "+0x10; fnstenv" s " " a \
    "+0x20; fnclex;" \
    "fninit; fldenv" s " " a "+0x20; fnstenv" s " " a "+0x60; fnclex;" \
    "fninit; fld1; fldpi; fld1; fnsave" s " " a "+0xa0; frstor" s " " a "+0xa0; fnsave" s " " a \
    "+0x120; fninit; "
#define REAL_SNIPPET(name, s) \
    asm(".pushsection .text; .balign 16; " #name ": .code16; mov $0x1234, %bx; mov %bx, %ds;" PROGRAM( \
        "0", s, #name "_fld:") "xor %bx, %bx; mov %bx, %ds; lret; .code64; " #name "_end: .popsection"); \
    extern const uint8_t name[], name##_end[], name##_fld[]
#define SNIPPET(name, bits, s) \
    LOW_CODE(name, bits, PROGRAM("0x7000", s, #name "_fld:")); \
    extern const uint8_t name##_fld[]

#define SP "%esp"
REAL_SNIPPET(x_real16, "s");
REAL_SNIPPET(x_real32, "l");
SNIPPET(x_16_16, 16, "s");
SNIPPET(x_16_32, 16, "l");
SNIPPET(x_32_16, 32, "s");
SNIPPET(x_32_32, 32, "l");
LOW_CODE(x_call, 16, "lcall $0x12f0, $0x100");

struct environment {
    uint32_t fcw, fsw, ftw, ip, cs, op, dp, ds;
};
static struct environment environment(const volatile uint8_t *at, bool wide, bool real)
{
    uint32_t e[7];
    for (unsigned i = 0; i < 7; i++)
        e[i] = wide ? ((const volatile uint32_t *)at)[i] : ((const volatile uint16_t *)at)[i];
    struct environment x = {.fcw = e[0] & 0xffff, .fsw = e[1] & 0xffff, .ftw = e[2] & 0xffff};
    if (real) {
        x.ip = (e[3] & 0xffff) | (e[4] >> 12) << 16, x.op = e[4] & 0x7ff;
        x.dp = (e[5] & 0xffff) | (e[6] >> 12) << 16;
    } else {
        x.ip = e[3], x.cs = e[4] & 0xffff, x.op = wide ? e[4] >> 16 & 0x7ff : 0, x.dp = e[5],
        x.ds = e[6] & 0xffff;
    }
    return x;
}

static bool same(const volatile uint8_t *a, const volatile uint8_t *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (a[i] != b[i]) return false;
    return true;
}

static void check(const char *name, enum low_mode mode, bool wide, const uint8_t *code, const uint8_t *end,
                  const uint8_t *fld)
{
    bool real = mode == LOW_REAL, code32 = mode == LOW_PROTECTED32 || mode == LOW_COMPAT32;
    bool selectors = !real && (cpuid(0, 0).eax < 7 || !(cpuid(7, 0).ebx & 1u << 13));
    uintptr_t data = real ? REAL_DATA : LOW_DATA;
    volatile uint8_t *d = (volatile uint8_t *)data;
    for (unsigned i = 0; i < 0x200; i++) d[i] = 0xaa;
    *(volatile uint32_t *)(d + OPERAND) = 0x7f800001;
    uint32_t ip = (uint32_t)(fld - code) + (real ? REAL_CODE : LOW_SNIPPET);
    if (real) {
        memcpy((void *)REAL_CODE, code, (size_t)(end - code));
        LOW_RUN(LOW_REAL, x_call);
    } else {
        low_run(mode, code, end);
    }
    struct environment x = environment(d + ENV, wide, real);
    if (!ok(x.fcw == 0x37e && (x.fsw & 0xbdff) == 0xb881 && x.ftw == 0x3fff,
            "%s: control, status and tag word", name))
        tap_note("  got %x, %x, %x", x.fcw, x.fsw, x.ftw);
    is(x.ip, ip, "  instruction pointer");
    is(x.dp, data + OPERAND, "  data pointer");
    if (!real) {
        is(x.cs, !selectors ? 0 : code32 ? SEL_CODE32 : SEL_CODE16, "  CS");
        is(x.ds, !selectors ? 0 : code32 ? SEL_DATA : SEL_DATA16, "  DS");
    }
    if (real || wide) is(x.op, code32 ? 0x105 : 0x106, "  opcode");
    if (real) /* above the opcode; with 16 bits below the data pointer's high ones too */
        ok(wide ? !(*(volatile uint32_t *)(d + ENV + 16) & 0xf0000800)
                : !(*(volatile uint16_t *)(d + ENV + 8) & 0x800) &&
                      !(*(volatile uint16_t *)(d + ENV + 12) & 0xfff),
           "  zeros between");
    unsigned n = wide ? 28 : 14;
    ok(same(d + ENV, d + AGAIN, n), "  the same after FLDENV");
    is(d[ENV + n], 0xaa, "  %u bytes, not more", n);
    struct environment y = environment(d + SAVED, wide, real);
    ok(y.fcw == 0x37f && y.fsw == 0x2800 && y.ftw == 0x03ff, "  FNSAVE: words");
    static const uint8_t one[10] = {[7] = 0x80, [8] = 0xff, [9] = 0x3f};
    static const uint8_t pi[10] = {0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40};
    const volatile uint8_t *st = d + SAVED + n;
    ok(same(st, one, 10) && same(st + 10, pi, 10) && same(st + 20, one, 10), "  ST(0) first");
    ok(same(d + SAVED, d + RESTORED, n + 80), "  the same after FRSTOR");
    is(d[SAVED + n + 80], 0xaa, "  %u bytes, not more", n + 80);
}
#define CHECK(name, mode, wide, code) check(name, mode, wide, code, code##_end, code##_fld)

int rom_main(void)
{
    tap_begin("formats of the x87 environment");
    CHECK("real mode, 16 bits", LOW_REAL, false, x_real16);
    CHECK("real mode, 32 bits", LOW_REAL, true, x_real32);
    CHECK("16-bit protected mode, 16 bits", LOW_PROTECTED16, false, x_16_16);
    CHECK("16-bit protected mode, 32 bits", LOW_PROTECTED16, true, x_16_32);
    CHECK("32-bit protected mode, 16 bits", LOW_PROTECTED32, false, x_32_16);
    CHECK("32-bit protected mode, 32 bits", LOW_PROTECTED32, true, x_32_32);
    CHECK("16-bit compatibility mode, 16 bits", LOW_COMPAT16, false, x_16_16);
    CHECK("16-bit compatibility mode, 32 bits", LOW_COMPAT16, true, x_16_32);
    CHECK("32-bit compatibility mode, 16 bits", LOW_COMPAT32, false, x_32_16);
    CHECK("32-bit compatibility mode, 32 bits", LOW_COMPAT32, true, x_32_32);
    return tap_end();
}

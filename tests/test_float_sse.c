// cpu/float's SSE against the host's, result and flags, bit for bit: all pairs of special operands, then
// random ones near where something happens, in every rounding, with DAZ and FTZ, masked and unmasked.
#include "tests/float_test.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <signal.h>
#include <ucontext.h>

static unsigned specials(unsigned f, u64 *list)
{
    const struct widths w = widths[f];
    unsigned most = (1u << w.exponent) - 1, bias = most >> 1, n = 0;
    const unsigned exponents[] = {
        0, 1, 2, bias - w.fraction - 1, bias - 1, bias, bias + 1, bias + w.fraction, most - 1, most};
    const u64 fractions[] = {
        0, 1, BIT(w.fraction - 1), BIT(w.fraction - 1) | 2, BIT(w.fraction) - 1, BIT(w.fraction) - 2};
    for (unsigned i = 0; i < ARRAY_LEN(exponents); i++)
        for (unsigned k = 0; k < ARRAY_LEN(fractions); k++)
            for (u64 sign = 0; sign < 2; sign++)
                list[n++] =
                    sign << (w.fraction + w.exponent) | (u64)exponents[i] << w.fraction | fractions[k];
    return n;
}

// ---- SSE: a mode is RC, DAZ and FTZ at their places in MXCSR ----
enum { ALL_MASKED = 0x1F80, DAZ = 0x40, FTZ = 0x8000 };
static unsigned sse_mode(unsigned i) { return (i & 3) << 13 | (i & 4 ? DAZ : 0) | (i & 8 ? FTZ : 0); }
static struct float_env sse_env(unsigned mxcsr)
{
    return (struct float_env){.rounding = (enum float_rounding)(mxcsr >> 13 & 3),
                              .masks = mxcsr >> 7 & 0x3F,
                              .daz = mxcsr & DAZ,
                              .ftz = mxcsr & FTZ};
}
struct operands {
    u64 a, b, c;
};
struct sse_case {
    const char *name;
    unsigned operands, from, to; // from: format; to: format, or 3: compare it whole
    u64 (*host)(struct operands o, u32 mxcsr, u32 *after);
    u64 (*ours)(struct float_env *e, struct operands o);
};
// The host's, on xmm0 = a, xmm1 = b, xmm2 = c; the result in xmm0 or RAX.
static sigjmp_buf trapped;
#define HOST(name, code) \
    static u64 host_##name(struct operands o, u32 mxcsr, u32 *after) \
    { \
        u64 r; \
        u32 ctl = mxcsr, sw, usual = ALL_MASKED; \
        asm volatile( \
            "ldmxcsr %[ctl]\n\tmovq %[a], %%xmm0\n\tmovq %[b], %%xmm1\n\tmovq %[c], %%xmm2\n\t" code \
            "\n\tstmxcsr %[sw]\n\tldmxcsr %[usual]" \
            : "=&a"(r), [sw] "=m"(sw) \
            : [a] "r"(o.a), [b] "r"(o.b), [c] "r"(o.c), [ctl] "m"(ctl), [usual] "m"(usual) \
            : "xmm0", "xmm1", "xmm2", "cc"); \
        *after = sw; \
        return r; \
    }
#define OURS(name, expression) \
    static u64 ours_##name(struct float_env *e, struct operands o) { return expression; }
#define BOTH(name, code, expression) HOST(name, code) OURS(name, expression)
#define TO_RAX                       "\n\tmovq %%xmm0, %%rax"
#define BINARY(op, function) \
    BOTH(op##ss, #op "ss %%xmm1, %%xmm0" TO_RAX, function(e, FLOAT32, o.a, o.b)) \
    BOTH(op##sd, #op "sd %%xmm1, %%xmm0" TO_RAX, function(e, FLOAT64, o.a, o.b))
BINARY(add, float_add)
BINARY(sub, float_sub)
BINARY(mul, float_mul)
BINARY(div, float_div)
BINARY(min, float_min)
BINARY(max, float_max)
BOTH(sqrtss, "sqrtss %%xmm0, %%xmm0" TO_RAX, float_sqrt(e, FLOAT32, o.a))
BOTH(sqrtsd, "sqrtsd %%xmm0, %%xmm0" TO_RAX, float_sqrt(e, FLOAT64, o.a))
#define FMA(op, minus, subtract) \
    BOTH(op##ss, #op "213ss %%xmm2, %%xmm1, %%xmm0" TO_RAX, \
         float_fma(e, FLOAT32, o.b, o.a, o.c, minus, subtract)) \
    BOTH(op##sd, #op "213sd %%xmm2, %%xmm1, %%xmm0" TO_RAX, \
         float_fma(e, FLOAT64, o.b, o.a, o.c, minus, subtract))
FMA(vfmadd, false, false)
FMA(vfmsub, false, true)
FMA(vfnmadd, true, false)
FMA(vfnmsub, true, true)
// ZF, PF, CF as in EFLAGS
static u64 zpc(enum float_order x)
{
    static const u64 of[] = {
        [FLOAT_LESS] = 1, [FLOAT_EQUAL] = 0x40, [FLOAT_GREATER] = 0, [FLOAT_UNORDERED] = 0x45};
    return of[x];
}
#define TO_ZPC "\n\tlahf\n\tmovzbl %%ah, %%eax\n\tandl $0x45, %%eax"
BOTH(comiss, "comiss %%xmm1, %%xmm0" TO_ZPC, zpc(float_compare(e, FLOAT32, o.a, o.b, true)))
BOTH(comisd, "comisd %%xmm1, %%xmm0" TO_ZPC, zpc(float_compare(e, FLOAT64, o.a, o.b, true)))
BOTH(ucomiss, "ucomiss %%xmm1, %%xmm0" TO_ZPC, zpc(float_compare(e, FLOAT32, o.a, o.b, false)))
BOTH(ucomisd, "ucomisd %%xmm1, %%xmm0" TO_ZPC, zpc(float_compare(e, FLOAT64, o.a, o.b, false)))
BOTH(roundss, "roundss $4, %%xmm0, %%xmm0" TO_RAX, float_integral(e, FLOAT32, o.a, false))
BOTH(roundsd, "roundsd $4, %%xmm0, %%xmm0" TO_RAX, float_integral(e, FLOAT64, o.a, false))
BOTH(roundss_silent, "roundss $12, %%xmm0, %%xmm0" TO_RAX, float_integral(e, FLOAT32, o.a, true))
BOTH(roundsd_silent, "roundsd $12, %%xmm0, %%xmm0" TO_RAX, float_integral(e, FLOAT64, o.a, true))
BOTH(cvtss2sd, "cvtss2sd %%xmm0, %%xmm0" TO_RAX, float_convert(e, FLOAT64, FLOAT32, o.a))
BOTH(cvtsd2ss, "cvtsd2ss %%xmm0, %%xmm0" TO_RAX, float_convert(e, FLOAT32, FLOAT64, o.a))
BOTH(cvtss2si, "cvtss2si %%xmm0, %%eax", float_to_int(e, FLOAT32, o.a, 32))
BOTH(cvtsd2si, "cvtsd2si %%xmm0, %%eax", float_to_int(e, FLOAT64, o.a, 32))
BOTH(cvtss2si_64, "cvtss2si %%xmm0, %%rax", float_to_int(e, FLOAT32, o.a, 64))
BOTH(cvtsd2si_64, "cvtsd2si %%xmm0, %%rax", float_to_int(e, FLOAT64, o.a, 64))
BOTH(cvtsi2ss, "cvtsi2ssl %k[a], %%xmm0" TO_RAX, float_from_int(e, FLOAT32, (s32)o.a))
BOTH(cvtsi2sd, "cvtsi2sdl %k[a], %%xmm0" TO_RAX, float_from_int(e, FLOAT64, (s32)o.a))
BOTH(cvtsi2ss_64, "cvtsi2ssq %[a], %%xmm0" TO_RAX, float_from_int(e, FLOAT32, (s64)o.a))
BOTH(cvtsi2sd_64, "cvtsi2sdq %[a], %%xmm0" TO_RAX, float_from_int(e, FLOAT64, (s64)o.a))
BOTH(vcvtph2ps, "vcvtph2ps %%xmm0, %%xmm0" TO_RAX, float_convert(e, FLOAT32, FLOAT16, o.a & 0xFFFF))
BOTH(vcvtps2ph, "vcvtps2ph $4, %%xmm0, %%xmm0" TO_RAX, float_convert(e, FLOAT16, FLOAT32, o.a))

enum { WHOLE = 3, INTEGERS = 3 };
#define CASE(name, operands, from, to) \
    { \
#name, operands, from, to, host_##name, ours_##name \
    }
#define CASES(op, operands) CASE(op##ss, operands, FLOAT32, FLOAT32), CASE(op##sd, operands, FLOAT64, FLOAT64)
static const struct sse_case sse_cases[] = {
    CASES(add, 2),
    CASES(sub, 2),
    CASES(mul, 2),
    CASES(div, 2),
    CASES(min, 2),
    CASES(max, 2),
    CASES(sqrt, 1),
    CASES(vfmadd, 3),
    CASES(vfmsub, 3),
    CASES(vfnmadd, 3),
    CASES(vfnmsub, 3),
    CASE(comiss, 2, FLOAT32, WHOLE),
    CASE(comisd, 2, FLOAT64, WHOLE),
    CASE(ucomiss, 2, FLOAT32, WHOLE),
    CASE(ucomisd, 2, FLOAT64, WHOLE),
    CASES(round, 1),
    CASE(roundss_silent, 1, FLOAT32, FLOAT32),
    CASE(roundsd_silent, 1, FLOAT64, FLOAT64),
    CASE(cvtss2sd, 1, FLOAT32, FLOAT64),
    CASE(cvtsd2ss, 1, FLOAT64, FLOAT32),
    CASE(cvtss2si, 1, FLOAT32, FLOAT32),
    CASE(cvtsd2si, 1, FLOAT64, FLOAT32),
    CASE(cvtss2si_64, 1, FLOAT32, WHOLE),
    CASE(cvtsd2si_64, 1, FLOAT64, WHOLE),
    CASE(cvtsi2ss, 1, INTEGERS, FLOAT32),
    CASE(cvtsi2sd, 1, INTEGERS, FLOAT64),
    CASE(cvtsi2ss_64, 1, INTEGERS, FLOAT32),
    CASE(cvtsi2sd_64, 1, INTEGERS, FLOAT64),
    CASE(vcvtph2ps, 1, FLOAT16, FLOAT32),
    CASE(vcvtps2ph, 1, FLOAT32, FLOAT16),
};
static u64 of_format(unsigned f, u64 x) { return f == FLOAT16 ? x & 0xFFFF : f == FLOAT32 ? (u32)x : x; }

static void sse_one(const struct sse_case *k, struct operands o, unsigned mode)
{
    u32 after;
    struct float_env e = sse_env(mode | ALL_MASKED);
    u64 host = of_format(k->to, k->host(o, mode | ALL_MASKED, &after)),
        ours = of_format(k->to, k->ours(&e, o));
    compared++;
    if (host != ours) differ(k->name, mode, "result", o.a, o.b, o.c, host, ours);
    if ((after & 0x3F) != (e.flags & 0x3Fu))
        differ(k->name, mode, "flags", o.a, o.b, o.c, after & 0x3F, e.flags & 0x3F);
}

static unsigned sse_specials(unsigned from, u64 *list)
{
    if (from != INTEGERS) return specials(from, list);
    unsigned n = 0;
    for (unsigned i = 0; i < 64; i++) list[n++] = BIT(i), list[n++] = -BIT(i), list[n++] = BIT(i) - 1;
    return n;
}
static u64 sse_random(unsigned from, u64 near)
{
    return from == INTEGERS ? (u64)((s64)rnd() >> pick(64)) : random_operand(from, near);
}
static bool has_f16c(void)
{
    u32 a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c >> 29 & 1;
}
static bool host_can(const struct sse_case *k)
{
    if (!strncmp(k->name, "vf", 2)) return __builtin_cpu_supports("fma");
    return strncmp(k->name, "vcvt", 4) || (__builtin_cpu_supports("avx") && has_f16c());
}

static void sse(void **state)
{
    static u64 list[SPECIALS_MAX];
    for (unsigned i = 0; i < ARRAY_LEN(sse_cases); i++) {
        const struct sse_case *k = &sse_cases[i];
        if (!host_can(k)) continue;
        unsigned n = sse_specials(k->from, list);
        for (unsigned a = 0; a < n; a++)
            for (unsigned b = 0; b < (k->operands > 1 ? n : 1); b++)
                for (unsigned m = 0; m < 16; m++) {
                    if (!all_modes && k->operands > 1 && m != ((a + b) ^ (a + b) >> 4) % 16) continue;
                    // the third of three: any, and each of the others
                    const u64 third[] = {list[pick(n)], list[a], list[b] ^ BIT(k->from == FLOAT32 ? 31 : 63)};
                    sse_one(k, (struct operands){list[a], list[b], third[pick(3)]}, sse_mode(m));
                }
        for (unsigned long r = 0; r < rounds; r++) {
            struct operands o = {.a = sse_random(k->from, rnd())};
            o.b = sse_random(k->from, o.a), o.c = sse_random(k->from, pick(2) ? o.a : o.b);
            sse_one(k, o, sse_mode(pick(16)));
        }
    }
    assert_int_equal(wrong, 0);
}

// RCPSS and RSQRTSS are within 1.5 * 2^-12 of the number, everywhere (SDM volume 2): both ends and the middle
// of each of 4096 intervals, at exponents even and odd, small and large. Their very bits are Intel's, held by
// the recording of test_silicon.
static double number_of(u32 a)
{
    float x;
    memcpy(&x, &a, 4);
    return x;
}
static void approximations(void **state)
{
    static const u32 exponents[] = {1, 2, 126, 127, 128, 251, 252};
    const double bound = 1.5 / 4096;
    for (unsigned e = 0; e < ARRAY_LEN(exponents); e++)
        for (u32 i = 0; i < 4096; i++)
            for (u32 k = 0; k < 3; k++) {
                u32 a = exponents[e] << 23 | i << 11 | (k * 0x3FF + (k == 2));
                double r = number_of(float32_reciprocal(a)) * number_of(a),
                       root = number_of(float32_reciprocal_root(a));
                assert_true(r > 1 - bound && r < 1 + bound);
                assert_true(root * root * number_of(a) > (1 - bound) * (1 - bound));
                assert_true(root * root * number_of(a) < (1 + bound) * (1 + bound));
                assert_int_equal(float32_reciprocal(a | 0x80000000), float32_reciprocal(a) | 0x80000000);
                assert_int_equal(float32_reciprocal_root(a | 0x80000000), 0xFFC00000);
            }
}

// ---- SSE with exceptions unmasked: the flags that the trapped instruction leaves ----
static volatile u32 trapped_mxcsr;
static void on_trap(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    trapped_mxcsr = uc->uc_mcontext.fpregs->mxcsr;
    siglongjmp(trapped, 1);
}
static void sse_unmasked(void **state)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER}, was;
    sigaction(SIGFPE, &action, &was);
    for (unsigned i = 0; i < ARRAY_LEN(sse_cases); i++) {
        const struct sse_case *k = &sse_cases[i];
        if (!host_can(k)) continue;
        for (unsigned long r = 0; r < rounds / 20; r++) {
            static struct operands o; // kept over the jump
            static u32 mxcsr;
            o.a = sse_random(k->from, rnd()), o.b = sse_random(k->from, o.a),
            o.c = sse_random(k->from, pick(2) ? o.a : o.b);
            mxcsr = sse_mode(pick(16)) | (ALL_MASKED & (u32)rnd());
            struct float_env e = sse_env(mxcsr);
            u64 ours = of_format(k->to, k->ours(&e, o));
            u32 flags = e.flags & 0x3F, bad = flags & ~(u32)e.masks;
            if (bad & FLOAT_BEFORE) flags &= FLOAT_BEFORE;
            if (!sigsetjmp(trapped, 0)) {
                u32 after;
                u64 host = of_format(k->to, k->host(o, mxcsr, &after));
                if (bad) differ(k->name, mxcsr, "no trap", o.a, o.b, o.c, after & 0x3F, flags);
                if (host != ours) differ(k->name, mxcsr, "result", o.a, o.b, o.c, host, ours);
                if ((after & 0x3F) != flags)
                    differ(k->name, mxcsr, "flags", o.a, o.b, o.c, after & 0x3F, flags);
            } else {
                u32 usual = ALL_MASKED;
                asm volatile("ldmxcsr %0" : : "m"(usual));
                if (!bad || (trapped_mxcsr & 0x3F) != flags)
                    differ(k->name, mxcsr, "trap", o.a, o.b, o.c, trapped_mxcsr & 0x3F, flags);
            }
            compared++;
        }
    }
    sigaction(SIGFPE, &was, NULL);
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sse), cmocka_unit_test(approximations),
                                       cmocka_unit_test(sse_unmasked)};
    return float_main(argc, argv, tests, ARRAY_LEN(tests));
}
#else
int main(void)
{
    printf("1..0 # SKIP no host to compare with\n");
    return 0;
}
#endif

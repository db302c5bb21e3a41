// The cores of floating point on XMM and MMX registers by cpu/float, for a host that has none or is not to
// use it (HOST_FP, cpu/host/sse_fp.h, whose macros declare what is here). Under the guest's MXCSR in
// d.host_mxcsr_valid; flags are added there. Lanes from the lowest up; *d may be *a or *s.
#include "cpu/host/host.h"

#if !HOST_FP
#include <string.h>

#include "cpu/float/float.h"
#include "cpu/state/vcpu.h"

static struct float_env env_of(const struct vcpu *v)
{
    return float_env_of_mxcsr((u32)v->d.host_mxcsr_valid);
}
static void report(struct vcpu *v, const struct float_env *e)
{
    v->d.host_mxcsr_valid |= e->flags & FLOAT_ALL;
}

static unsigned size_of(enum float_format f) { return f == FLOAT16 ? 2 : f == FLOAT32 ? 4 : 8; }
static u64 get(const void *from, enum float_format f, unsigned i)
{
    u64 x = 0;
    memcpy(&x, (const u8 *)from + i * size_of(f), size_of(f));
    return x;
}
static void put(void *to, enum float_format f, unsigned i, u64 x)
{
    memcpy((u8 *)to + i * size_of(f), &x, size_of(f));
}
static s64 get_int(const void *from, unsigned i)
{
    s32 x;
    memcpy(&x, (const u8 *)from + 4 * i, 4);
    return x;
}

// ---- lane by lane ----
typedef u64 operation(struct float_env *e, enum float_format f, u64 a, u64 s);
static u64 root(struct float_env *e, enum float_format f, u64 a, u64 s) { return float_sqrt(e, f, s); }

static void lanes(struct vcpu *v, void *d, const void *a, const void *s, enum float_format f, unsigned n,
                  operation *even, operation *odd)
{
    struct float_env e = env_of(v);
    u8 r[16];
    memcpy(r, a, 16);
    for (unsigned i = 0; i < n; i++) put(r, f, i, (i & 1 ? odd : even)(&e, f, get(a, f, i), get(s, f, i)));
    memcpy(d, r, 16);
    report(v, &e);
}
#define CORE(name) void name(struct vcpu *v, void *d, const void *a, const void *s)
#define PACKED(ps, pd, even, odd) \
    CORE(ps##_core) { lanes(v, d, a, s, FLOAT32, 4, even, odd); } \
    CORE(pd##_core) { lanes(v, d, a, s, FLOAT64, 2, even, odd); }
#define ALL(ps, pd, ss, sd, op) \
    PACKED(ps, pd, op, op) \
    CORE(ss##_core) { lanes(v, d, a, s, FLOAT32, 1, op, op); } \
    CORE(sd##_core) { lanes(v, d, a, s, FLOAT64, 1, op, op); }
ALL(addps, addpd, addss, addsd, float_add)
ALL(subps, subpd, subss, subsd, float_sub)
ALL(mulps, mulpd, mulss, mulsd, float_mul)
ALL(divps, divpd, divss, divsd, float_div)
ALL(minps, minpd, minss, minsd, float_min)
ALL(maxps, maxpd, maxss, maxsd, float_max)
ALL(sqrtps, sqrtpd, sqrtss, sqrtsd, root)
PACKED(addsubps, addsubpd, float_sub, float_add)

// Two elements next to each other: those of a, then those of s.
static void pairs(struct vcpu *v, void *d, const void *a, const void *s, enum float_format f, operation *op)
{
    struct float_env e = env_of(v);
    unsigned n = 16 / size_of(f);
    u8 r[16];
    for (unsigned i = 0; i < n; i++) {
        const void *from = i < n / 2 ? a : s;
        unsigned first = 2 * i % n;
        put(r, f, i, op(&e, f, get(from, f, first), get(from, f, first + 1)));
    }
    memcpy(d, r, 16);
    report(v, &e);
}
CORE(haddps_core) { pairs(v, d, a, s, FLOAT32, float_add); }
CORE(haddpd_core) { pairs(v, d, a, s, FLOAT64, float_add); }
CORE(hsubps_core) { pairs(v, d, a, s, FLOAT32, float_sub); }
CORE(hsubpd_core) { pairs(v, d, a, s, FLOAT64, float_sub); }

// ---- FMA ----
enum order { BY_132, BY_213, BY_231 }; // of the operands 1 (d), 2 (a), 3 (s): first times second, plus third
static void fused(struct vcpu *v, void *d, const void *a, const void *s, enum float_format f, unsigned n,
                  enum order k, bool minus, bool subtract_even, bool subtract_odd)
{
    struct float_env e = env_of(v);
    for (unsigned i = 0; i < n; i++) {
        u64 one = get(d, f, i), two = get(a, f, i), three = get(s, f, i);
        u64 x = k == BY_132 ? one : two, y = k == BY_213 ? one : three,
            z = k == BY_132   ? two
                : k == BY_213 ? three
                              : one;
        put(d, f, i, float_fma(&e, f, x, y, z, minus, i & 1 ? subtract_odd : subtract_even));
    }
    report(v, &e);
}
#define FMA_PACKED(name, order, k, minus, even, odd) \
    CORE(name##order##ps_core) { fused(v, d, a, s, FLOAT32, 4, k, minus, even, odd); } \
    CORE(name##order##pd_core) { fused(v, d, a, s, FLOAT64, 2, k, minus, even, odd); }
#define FMA(name, order, k, minus, subtract) \
    FMA_PACKED(name, order, k, minus, subtract, subtract) \
    CORE(name##order##ss_core) { fused(v, d, a, s, FLOAT32, 1, k, minus, subtract, subtract); } \
    CORE(name##order##sd_core) { fused(v, d, a, s, FLOAT64, 1, k, minus, subtract, subtract); }
#define FMA_ORDER(order, k) \
    FMA(vfmadd, order, k, false, false) \
    FMA(vfmsub, order, k, false, true) \
    FMA(vfnmadd, order, k, true, false) \
    FMA(vfnmsub, order, k, true, true) \
    FMA_PACKED(vfmaddsub, order, k, false, true, false) \
    FMA_PACKED(vfmsubadd, order, k, false, false, true)
FMA_ORDER(132, BY_132)
FMA_ORDER(213, BY_213)
FMA_ORDER(231, BY_231)

// ---- conversions: n elements; what is left of a result comes from *rest, or is 0 ----
static void convert(struct vcpu *v, void *d, const void *rest, const void *s, enum float_format to,
                    enum float_format from, unsigned n)
{
    struct float_env e = env_of(v);
    u8 r[16] = {0};
    if (rest) memcpy(r, rest, 16);
    for (unsigned i = 0; i < n; i++) put(r, to, i, float_convert(&e, to, from, get(s, from, i)));
    memcpy(d, r, 16);
    report(v, &e);
}
CORE(cvtss2sd_core) { convert(v, d, a, s, FLOAT64, FLOAT32, 1); }
CORE(cvtsd2ss_core) { convert(v, d, a, s, FLOAT32, FLOAT64, 1); }
CORE(cvtps2pd_core) { convert(v, d, NULL, s, FLOAT64, FLOAT32, 2); }
CORE(cvtpd2ps_core) { convert(v, d, NULL, s, FLOAT32, FLOAT64, 2); }
CORE(vcvtph2ps_core) { convert(v, d, NULL, s, FLOAT32, FLOAT16, 4); }

static void from_int(struct vcpu *v, void *d, const void *rest, const void *s, enum float_format to,
                     unsigned n)
{
    struct float_env e = env_of(v);
    u8 r[16] = {0};
    if (rest) memcpy(r, rest, 16);
    for (unsigned i = 0; i < n; i++) put(r, to, i, float_from_int(&e, to, get_int(s, i)));
    memcpy(d, r, 16);
    report(v, &e);
}
static void from_int64(struct vcpu *v, void *d, const void *rest, const void *s, enum float_format to)
{
    struct float_env e = env_of(v);
    u8 r[16];
    memcpy(r, rest, 16);
    put(r, to, 0, float_from_int(&e, to, (s64)get(s, FLOAT64, 0)));
    memcpy(d, r, 16);
    report(v, &e);
}
CORE(cvtdq2ps_core) { from_int(v, d, NULL, s, FLOAT32, 4); }
CORE(cvtdq2pd_core) { from_int(v, d, NULL, s, FLOAT64, 2); }
CORE(cvtsi2ss_32) { from_int(v, d, a, s, FLOAT32, 1); }
CORE(cvtsi2sd_32) { from_int(v, d, a, s, FLOAT64, 1); }
CORE(cvtsi2ss_64) { from_int64(v, d, a, s, FLOAT32); }
CORE(cvtsi2sd_64) { from_int64(v, d, a, s, FLOAT64); }
CORE(op_cvtpi2ps_core) { from_int(v, d, a, s, FLOAT32, 2); }
CORE(op_cvtpi2pd_core) { from_int(v, d, NULL, s, FLOAT64, 2); }

static void to_int(struct vcpu *v, void *d, const void *s, enum float_format from, unsigned n, bool chop)
{
    struct float_env e = env_of(v);
    u32 r[4] = {0};
    if (chop) e.rounding = FLOAT_CHOP;
    for (unsigned i = 0; i < n; i++) r[i] = (u32)float_to_int(&e, from, get(s, from, i), 32);
    memcpy(d, r, 16);
    report(v, &e);
}
CORE(cvtps2dq_core) { to_int(v, d, s, FLOAT32, 4, false); }
CORE(cvttps2dq_core) { to_int(v, d, s, FLOAT32, 4, true); }
CORE(cvtpd2dq_core) { to_int(v, d, s, FLOAT64, 2, false); }
CORE(cvttpd2dq_core) { to_int(v, d, s, FLOAT64, 2, true); }
#define TO_MMX(name, from, chop) \
    u64 name(struct vcpu *v, const void *s) \
    { \
        u64 r[2]; \
        to_int(v, r, s, from, 2, chop); \
        return r[0]; \
    }
TO_MMX(op_cvtps2pi_core, FLOAT32, false)
TO_MMX(op_cvttps2pi_core, FLOAT32, true)
TO_MMX(op_cvtpd2pi_core, FLOAT64, false)
TO_MMX(op_cvttpd2pi_core, FLOAT64, true)
#define TO_INT(name, from, chop) \
    u64 name(struct vcpu *v, const void *s, bool wide) \
    { \
        struct float_env e = env_of(v); \
        if (chop) e.rounding = FLOAT_CHOP; \
        u64 x = float_to_int(&e, from, get(s, from, 0), wide ? 64 : 32); \
        report(v, &e); \
        return x; \
    }
TO_INT(cvtss2si, FLOAT32, false)
TO_INT(cvttss2si, FLOAT32, true)
TO_INT(cvtsd2si, FLOAT64, false)
TO_INT(cvttsd2si, FLOAT64, true)

// ---- compares ----
// By predicate: in which of the orders less, equal, greater, unordered it is true, bit by bit; whether a
// quiet NaN is invalid (SDM volume 2, CMPPD). From 16 on they are the same, with that turned around.
static bool holds(struct float_env *e, enum float_format f, u64 a, u64 s, u8 predicate)
{
    static const u8 truth[16] = {2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15};
    const u16 signaling = 0x6666;
    unsigned k = predicate & 15;
    return truth[k] >> float_compare(e, f, a, s, (signaling >> k & 1) != (predicate >> 4 & 1)) & 1;
}
static void compare(struct vcpu *v, void *d, const void *a, const void *s, enum float_format f, unsigned n,
                    u8 imm)
{
    struct float_env e = env_of(v);
    u8 r[16];
    memcpy(r, a, 16);
    for (unsigned i = 0; i < n; i++)
        put(r, f, i, holds(&e, f, get(a, f, i), get(s, f, i), imm) ? UINT64_MAX : 0);
    memcpy(d, r, 16);
    report(v, &e);
}
#define IMM_CORE(name) void name(struct vcpu *v, void *d, const void *a, const void *s, u8 imm)
#define CMP(sse, f, n) \
    IMM_CORE(sse) { compare(v, d, a, s, f, n, imm & 7); } \
    IMM_CORE(v##sse##_by_imm) { compare(v, d, a, s, f, n, imm & 31); }
CMP(cmpps, FLOAT32, 4)
CMP(cmppd, FLOAT64, 2)
CMP(cmpss, FLOAT32, 1)
CMP(cmpsd, FLOAT64, 1)

static u16 into_flags(struct vcpu *v, const void *a, const void *s, enum float_format f, bool signals)
{
    static const u16 of[] = {[FLOAT_LESS] = AX_CF,
                             [FLOAT_EQUAL] = AX_ZF,
                             [FLOAT_GREATER] = 0,
                             [FLOAT_UNORDERED] = AX_ZF | AX_PF | AX_CF};
    struct float_env e = env_of(v);
    u16 fl = 0x200 | of[float_compare(&e, f, get(a, f, 0), get(s, f, 0), signals)];
    report(v, &e);
    return fl;
}
u16 comiss(struct vcpu *v, const void *d, const void *s) { return into_flags(v, d, s, FLOAT32, true); }
u16 comisd(struct vcpu *v, const void *d, const void *s) { return into_flags(v, d, s, FLOAT64, true); }
u16 ucomiss(struct vcpu *v, const void *d, const void *s) { return into_flags(v, d, s, FLOAT32, false); }
u16 ucomisd(struct vcpu *v, const void *d, const void *s) { return into_flags(v, d, s, FLOAT64, false); }

// ---- by an immediate ----
static void integral(struct vcpu *v, void *d, const void *a, const void *s, enum float_format f, unsigned n,
                     u8 imm)
{
    struct float_env e = env_of(v);
    u8 r[16];
    memcpy(r, a, 16);
    if (!(imm & 4)) e.rounding = (enum float_rounding)(imm & 3);
    for (unsigned i = 0; i < n; i++) put(r, f, i, float_integral(&e, f, get(s, f, i), imm & 8));
    memcpy(d, r, 16);
    report(v, &e);
}
IMM_CORE(roundps_by_imm) { integral(v, d, a, s, FLOAT32, 4, imm); }
IMM_CORE(roundpd_by_imm) { integral(v, d, a, s, FLOAT64, 2, imm); }
IMM_CORE(roundss_by_imm) { integral(v, d, a, s, FLOAT32, 1, imm); }
IMM_CORE(roundsd_by_imm) { integral(v, d, a, s, FLOAT64, 1, imm); }

IMM_CORE(vcvtps2ph_by_imm)
{
    struct float_env e = env_of(v);
    u8 r[16] = {0};
    if (!(imm & 4)) e.rounding = (enum float_rounding)(imm & 3);
    for (unsigned i = 0; i < 4; i++)
        put(r, FLOAT16, i, float_convert(&e, FLOAT16, FLOAT32, get(s, FLOAT32, i)));
    memcpy(d, r, 16);
    report(v, &e);
}

static void dot(struct vcpu *v, void *d, const void *a, const void *s, enum float_format f, u8 imm)
{
    struct float_env e = env_of(v);
    float_dot(&e, f, d, a, s, imm);
    report(v, &e);
}
IMM_CORE(dpps_by_imm) { dot(v, d, a, s, FLOAT32, imm); }
IMM_CORE(dppd_by_imm) { dot(v, d, a, s, FLOAT64, imm); }
#endif

// Floating point as the x86 processor computes it, in C on integers: no instruction of the host's floating
// point takes part, so any host gives the same bits. Pure functions: operands and results are values, what
// decides and what is reported is in a struct float_env.
//
// A format's numbers travel as their bits: FLOAT16, FLOAT32, FLOAT64 in the low bits of a u64, x87's in a
// struct f80. Sources: SDM volume 1, 4.2 (formats), 4.8 (NaNs, tables 4-6 and 4-7), 4.9 (exceptions and their
// responses), 8.1.5, 8.2 to 8.5 (x87), 10.2.3 and 11.5 (MXCSR), 14.5 (FMA); volume 2, each instruction. Where
// these leave something open, or say it for one vendor, it is as tests/test_float_sse.c and test_float_x87.c
// find it on the host.
#ifndef CPU_FLOAT_H
#define CPU_FLOAT_H

#include "mmu/types.h"

// Flags, as MXCSR and the status word have them; FLOAT_UP: the result's magnitude was rounded up (C1).
// clang-format off
enum { FLOAT_IE = 1, FLOAT_DE = 2, FLOAT_ZE = 4, FLOAT_OE = 8, FLOAT_UE = 16, FLOAT_PE = 32, FLOAT_UP = 0x200 };
enum { FLOAT_BEFORE = FLOAT_IE | FLOAT_DE | FLOAT_ZE, FLOAT_ALL = 0x3F };
// clang-format on
enum float_rounding { FLOAT_NEAREST, FLOAT_DOWN, FLOAT_TO_PLUS, FLOAT_CHOP }; // as RC has them
enum float_format { FLOAT16, FLOAT32, FLOAT64 };
enum float_order { FLOAT_LESS, FLOAT_EQUAL, FLOAT_GREATER, FLOAT_UNORDERED };

struct float_env {
    enum float_rounding rounding;
    u8 masks;      // exceptions that are masked, at their flags' places
    u8 precision;  // of x87's sums, products, quotients and roots: 24, 53 or 64 bits
    bool denormal; // of x87: an operand was denormal in the format that it came from (f80_widen)
    bool daz, ftz; // of SSE: denormal operands are zeros; tiny results are, if underflow is masked
    u16 flags;     // out: what was found is added
};

// As MXCSR says (SDM volume 1, 10.2.3).
static inline struct float_env float_env_of_mxcsr(u32 x)
{
    enum { DAZ = 0x40, FTZ = 0x8000 };
    return (struct float_env){.rounding = (enum float_rounding)(x >> 13 & 3),
                              .masks = x >> 7 & FLOAT_ALL,
                              .daz = x & DAZ,
                              .ftz = x & FTZ};
}

// An exception of before the operation is unmasked: there is no result then.
static inline bool float_stops(const struct float_env *e)
{
    return e->flags & ~(unsigned)e->masks & FLOAT_BEFORE;
}
// With overflow or underflow unmasked SSE writes nothing either. The flags are those of that response:
// underflow for a tiny result even if it is exact, PE by the result with an exponent without bounds.

// ---- SSE: f is FLOAT32 or FLOAT64 ----
u64 float_add(struct float_env *e, enum float_format f, u64 a, u64 b);
u64 float_sub(struct float_env *e, enum float_format f, u64 a, u64 b);
u64 float_mul(struct float_env *e, enum float_format f, u64 a, u64 b);
u64 float_div(struct float_env *e, enum float_format f, u64 a, u64 b);
u64 float_sqrt(struct float_env *e, enum float_format f, u64 a);
// a * b + c, rounded once; `minus` turns the sign of the product, `subtract` that of c (of no NaN's).
u64 float_fma(struct float_env *e, enum float_format f, u64 a, u64 b, u64 c, bool minus, bool subtract);
// b if they are equal or a NaN is among them.
u64 float_min(struct float_env *e, enum float_format f, u64 a, u64 b);
u64 float_max(struct float_env *e, enum float_format f, u64 a, u64 b);
// `signals`: a quiet NaN is invalid too.
enum float_order float_compare(struct float_env *e, enum float_format f, u64 a, u64 b, bool signals);
// To an integral value in the format (ROUNDSS); `silent`: no PE.
u64 float_integral(struct float_env *e, enum float_format f, u64 a, bool silent);
// RCPSS and RSQRTSS, as Intel's processors approximate; no exceptions, no rounding, neither DAZ nor FTZ.
u32 float32_reciprocal(u32 a);
u32 float32_reciprocal_root(u32 a);
// DPPS (four elements), DPPD (two), of 16 bytes each.
void float_dot(struct float_env *e, enum float_format f, void *d, const void *a, const void *s, u8 imm);
// Between formats, FLOAT16 too (which knows neither DAZ nor FTZ).
u64 float_convert(struct float_env *e, enum float_format to, enum float_format from, u64 a);
// Signed integers of 32 and 64 bits; what does not fit is invalid and gives the integer indefinite.
u64 float_from_int(struct float_env *e, enum float_format f, s64 x);
u64 float_to_int(struct float_env *e, enum float_format f, u64 a, unsigned bits);

// ---- x87 ----
struct f80 {
    u64 m;  // significand, with its integer bit
    u16 se; // sign and exponent
};
#define F80_INDEFINITE ((struct f80){0xC000000000000000, 0xFFFF})
// Overflow and underflow that are unmasked give the result with its exponent wrapped by 24576 (SDM volume 1,
// 8.5.4 and 8.5.5).
struct f80 f80_add(struct float_env *e, struct f80 a, struct f80 b);
struct f80 f80_sub(struct float_env *e, struct f80 a, struct f80 b);
struct f80 f80_mul(struct float_env *e, struct f80 a, struct f80 b);
struct f80 f80_div(struct float_env *e, struct f80 a, struct f80 b);
struct f80 f80_sqrt(struct float_env *e, struct f80 a);
enum float_order f80_compare(struct float_env *e, struct f80 a, struct f80 b, bool signals);
struct f80 f80_integral(struct float_env *e, struct f80 a);                      // FRNDINT
struct f80 f80_scale(struct float_env *e, struct f80 a, struct f80 b);           // FSCALE: ST(0), ST(1)
struct f80 f80_extract(struct float_env *e, struct f80 a, struct f80 *exponent); // FXTRACT: the significand
// FPREM, FPREM1 (`nearest`): of ST(0) by ST(1). *quotient: its low three bits, or that the reduction is not
// complete, or that there is none (a NaN, no number).
enum { F80_PARTIAL = -1, F80_NO_QUOTIENT = -2 };
struct f80 f80_remainder(struct float_env *e, struct f80 a, struct f80 b, bool nearest, int *quotient);
// Transcendental, to the last bit but one (cpu/float/transcendental.c). b is ST(1), a ST(0). *out_of_range:
// of the magnitude 2^63 and above, where C2 is set and nothing done.
struct f80 f80_sin(struct float_env *e, struct f80 a, bool *out_of_range);
struct f80 f80_cos(struct float_env *e, struct f80 a, bool *out_of_range);
struct f80 f80_tan(struct float_env *e, struct f80 a, bool *out_of_range);
struct f80 f80_atan(struct float_env *e, struct f80 b, struct f80 a);    // FPATAN
struct f80 f80_exp2m1(struct float_env *e, struct f80 a);                // F2XM1
struct f80 f80_ylog2(struct float_env *e, struct f80 b, struct f80 a);   // FYL2X
struct f80 f80_ylog2p1(struct float_env *e, struct f80 b, struct f80 a); // FYL2XP1
struct f80 f80_from(struct float_env *e, enum float_format f, u64 a);    // FLD: DE keeps none back
// As it is, without an exception: a NaN stays signaling, what was denormal is normal. For an operand in
// memory: f80_add and the others take *denormal in the environment.
struct f80 f80_widen(enum float_format f, u64 a, bool *denormal);
u64 f80_to(struct float_env *e, enum float_format f, struct f80 a); // FST
struct f80 f80_from_int(s64 x);                                     // FILD
u64 f80_to_int(struct float_env *e, struct f80 a, unsigned bits);   // FIST: 16, 32, 64 bits
struct f80 f80_from_bcd(const u8 bcd[10]);                          // FBLD
void f80_to_bcd(struct float_env *e, struct f80 a, u8 bcd[10]);     // FBSTP
enum f80_class { F80_UNSUPPORTED, F80_NAN, F80_NORMAL, F80_INFINITY, F80_ZERO, F80_EMPTY, F80_DENORMAL };
enum f80_class
f80_classify(struct f80 a); // FXAM's, in C2, C3 and C0's order: C3 is bit 2, C2 bit 1, C0 bit 0

#endif

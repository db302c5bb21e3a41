// A number taken out of its format, and what all formats have in common: the operations on such numbers, and
// rounding one to a precision and a range of exponents.
#ifndef CPU_FLOAT_NUMBER_H
#define CPU_FLOAT_NUMBER_H

#include "cpu/float/float.h"

typedef unsigned __int128 u128;

enum kind { ZERO, FINITE, INFINITE, QUIET, SIGNALING, INVALID }; // INVALID: no number, or no result
// Finite: m * 2^(e - 127), bit 127 of m is set; bit 0 stands for all that lies below it. A NaN: its
// significand, from bit 127 on.
struct number {
    enum kind kind;
    bool negative, denormal;
    int e;
    u128 m;
};
#define QUIET_BIT ((u128)1 << 126)

struct range {
    unsigned precision; // bits of the significand
    int least, most;    // exponents of the least and the largest normal number
    bool wraps;         // what is out of range and unmasked has its exponent wrapped (x87's registers)
};
// A result: a significand from bit 63 on, whose value there is 2^e; a denormal one has bit 63 clear.
struct rounded {
    enum kind kind;
    bool negative;
    int e;
    u64 m;
};

static inline unsigned leading_zeros(u128 m)
{
    u64 high = (u64)(m >> 64);
    return high ? (unsigned)__builtin_clzll(high) : 64 + (unsigned)__builtin_clzll((u64)m);
}
static inline struct number normalized(struct number x) // finite, m is not 0
{
    unsigned n = leading_zeros(x.m);
    x.m <<= n;
    x.e -= (int)n;
    return x;
}
static inline bool is_nan(struct number x) { return x.kind == QUIET || x.kind == SIGNALING; }
static inline struct number quiet(struct number x)
{
    x.kind = QUIET;
    x.m |= QUIET_BIT;
    return x;
}
static inline struct number default_nan(void)
{
    return (struct number){.kind = QUIET, .negative = true, .m = (u128)3 << 126};
}
static inline struct number number_from_int(s64 x)
{
    struct number n = {.kind = ZERO, .negative = x < 0, .e = 127};
    if (!x) return n;
    n.kind = FINITE;
    n.m = x < 0 ? -(u64)x : (u64)x;
    return normalized(n);
}

// The operations of numbers that are no NaNs. INVALID: no result. Exact, or with what is lost in bit 0.
struct number number_add(struct number a, struct number b, enum float_rounding rounding);
struct number number_mul(struct number a, struct number b);
struct number number_div(struct number a, struct number b); // not by zero, unless a is infinite
struct number number_sqrt(struct number a);
// One of these with what its operands have to tell: a division by zero, or else denormals.
enum operation { ADD, SUB, MUL, DIV };
struct number number_operation(struct float_env *e, enum operation op, struct number a, struct number b);
int number_compare(struct number a, struct number b); // -1, 0, 1
// To an integral value; *inexact, *up: what became of it.
struct number number_integral(struct number a, enum float_rounding rounding, bool *inexact, bool *up);
// To a signed integer. False: does not fit.
bool number_to_int(struct number a, enum float_rounding rounding, unsigned bits, u64 *x, bool *inexact,
                   bool *up);
// OE, UE and PE with their responses; zeros, infinities and NaNs go through.
struct rounded number_round(struct float_env *e, struct number a, struct range r);

#endif

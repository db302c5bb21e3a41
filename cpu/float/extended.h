// The format of x87's registers: numbers out of it and into it, and what comes of operands that are none.
#ifndef CPU_FLOAT_EXTENDED_H
#define CPU_FLOAT_EXTENDED_H

#include "cpu/float/number.h"

enum { BIAS = 16383, MOST = 0x7FFF };
static const struct range whole = {64, 1 - BIAS, BIAS, true};
static inline struct range at_precision(const struct float_env *e)
{
    struct range r = whole;
    r.precision = e->precision;
    return r;
}

static inline struct number take(struct f80 a)
{
    int exponent = a.se & MOST;
    struct number x = {.kind = FINITE, .negative = a.se >> 15, .e = exponent - BIAS, .m = (u128)a.m << 64};
    bool integer = a.m >> 63;
    if (exponent && !integer) {
        x.kind = INVALID; // unsupported: pseudo-NaN, pseudo-infinity, unnormal
    } else if (exponent == MOST) {
        x.kind = !(a.m << 1) ? INFINITE : x.m & QUIET_BIT ? QUIET : SIGNALING;
    } else if (!a.m) {
        x.kind = ZERO;
    } else if (!exponent) {
        x.denormal = true; // a pseudo-denormal too
        x.e++;
        x = normalized(x);
    }
    return x;
}
static inline struct f80 put(struct rounded x)
{
    u16 sign = (u16)(x.negative << 15);
    switch (x.kind) {
    case ZERO: return (struct f80){0, sign};
    case FINITE: return (struct f80){x.m, (u16)(sign | (x.m >> 63 ? (unsigned)(x.e + BIAS) & MOST : 0))};
    case INFINITE: return (struct f80){BIT(63), sign | MOST};
    default: return (struct f80){x.m, sign | MOST};
    }
}
static inline struct f80 put_nan(struct number x)
{
    return (struct f80){(u64)(x.m >> 64), (u16)(x.negative << 15 | MOST)};
}
static inline struct f80 invalid(struct float_env *e)
{
    e->flags |= FLOAT_IE;
    return F80_INDEFINITE;
}
static inline void denormal(struct float_env *e, struct number a)
{
    if (a.denormal || e->denormal) e->flags |= FLOAT_DE;
}

// No number among the operands: *result says what comes of that.
static inline bool none(struct float_env *e, struct number a, struct number b, struct f80 *result)
{
    if (a.kind == INVALID || b.kind == INVALID) {
        *result = invalid(e);
        return true;
    }
    if (!is_nan(a) && !is_nan(b)) return false;
    if (a.kind == SIGNALING || b.kind == SIGNALING) e->flags |= FLOAT_IE;
    bool first = is_nan(a);
    if (is_nan(a) && is_nan(b)) {
        if (a.kind != b.kind)
            first = a.kind == QUIET;
        else
            first = a.m != b.m ? a.m > b.m : !a.negative; // of equal ones the positive
    }
    *result = put_nan(quiet(first ? a : b));
    return true;
}
static inline struct f80 finish(struct float_env *e, struct number x, struct range r)
{
    return put(number_round(e, x, r));
}

#endif

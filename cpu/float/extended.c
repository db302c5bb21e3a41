// The format of x87's registers, and the operations on it. Of two NaNs the one with the larger significand is
// the result, made quiet; a quiet one goes before a signaling one.
#include "cpu/float/extended.h"

static struct f80 arithmetic(struct float_env *e, struct f80 a, struct f80 b, enum operation op)
{
    struct number x = take(a), y = take(b);
    struct f80 r;
    if (none(e, x, y, &r)) return r;
    struct number z = number_operation(e, op, x, y);
    if (z.kind == INVALID) return invalid(e);
    return float_stops(e) ? a : finish(e, z, at_precision(e));
}
struct f80 f80_add(struct float_env *e, struct f80 a, struct f80 b) { return arithmetic(e, a, b, ADD); }
struct f80 f80_sub(struct float_env *e, struct f80 a, struct f80 b) { return arithmetic(e, a, b, SUB); }
struct f80 f80_mul(struct float_env *e, struct f80 a, struct f80 b) { return arithmetic(e, a, b, MUL); }
struct f80 f80_div(struct float_env *e, struct f80 a, struct f80 b) { return arithmetic(e, a, b, DIV); }

struct f80 f80_sqrt(struct float_env *e, struct f80 a)
{
    struct number x = take(a);
    struct f80 r;
    if (none(e, x, x, &r)) return r;
    struct number z = number_sqrt(x);
    if (z.kind == INVALID) return invalid(e);
    denormal(e, x);
    return float_stops(e) ? a : finish(e, z, at_precision(e));
}

enum float_order f80_compare(struct float_env *e, struct f80 a, struct f80 b, bool signals)
{
    struct number x = take(a), y = take(b);
    if (x.kind == INVALID || y.kind == INVALID || x.kind == SIGNALING || y.kind == SIGNALING ||
        (signals && (is_nan(x) || is_nan(y))))
        e->flags |= FLOAT_IE;
    if (x.kind == INVALID || y.kind == INVALID || is_nan(x) || is_nan(y)) return FLOAT_UNORDERED;
    denormal(e, x), denormal(e, y);
    return (enum float_order)(number_compare(x, y) + 1);
}

struct f80 f80_integral(struct float_env *e, struct f80 a)
{
    struct number x = take(a);
    struct f80 r;
    if (none(e, x, x, &r)) return r;
    denormal(e, x);
    if (float_stops(e)) return a;
    bool inexact, up;
    x = number_integral(x, e->rounding, &inexact, &up);
    if (inexact) e->flags |= FLOAT_PE;
    if (up) e->flags |= FLOAT_UP;
    struct float_env exact = {.masks = FLOAT_ALL};
    return finish(&exact, x, whole);
}

// By b's integral part, which takes every number out of range long before an int's is left.
struct f80 f80_scale(struct float_env *e, struct f80 a, struct f80 b)
{
    enum { FAR = 0x20000 };
    struct number x = take(a), y = take(b);
    struct f80 r;
    if (none(e, x, y, &r)) return r;
    if (y.kind == INFINITE) {
        if (y.negative ? x.kind == INFINITE : x.kind == ZERO) return invalid(e);
        denormal(e, x);
        if (float_stops(e)) return a;
        return put((struct rounded){.kind = y.negative ? ZERO : INFINITE, .negative = x.negative});
    }
    denormal(e, x), denormal(e, y);
    if (float_stops(e)) return a;
    if (x.kind != FINITE) return put((struct rounded){.kind = x.kind, .negative = x.negative});
    u64 n;
    bool inexact, up;
    if (!number_to_int(y, FLOAT_CHOP, 32, &n, &inexact, &up)) n = y.negative ? (u64)-FAR : FAR;
    s64 by = (s64)n;
    x.e += by > FAR ? FAR : by < -FAR ? -FAR : (int)by;
    return finish(e, x, whole);
}

struct f80 f80_extract(struct float_env *e, struct f80 a, struct f80 *exponent)
{
    struct number x = take(a);
    struct f80 r;
    if (none(e, x, x, &r)) {
        *exponent = r;
        return r;
    }
    if (x.kind == ZERO) {
        e->flags |= FLOAT_ZE;
        *exponent = (struct f80){BIT(63), 0xFFFF};
        return a;
    }
    if (x.kind == INFINITE) {
        *exponent = (struct f80){BIT(63), MOST};
        return a;
    }
    denormal(e, x);
    if (float_stops(e)) return a;
    *exponent = f80_from_int(x.e);
    x.e = 0;
    return put((struct rounded){.kind = FINITE, .negative = x.negative, .m = (u64)(x.m >> 64)});
}

// The significand of x - y * floor(x / y), with x.e at or above y.e; *quotient gets the low bits of the rest.
static u128 remainder_of(u64 x, u64 y, unsigned steps, u64 *quotient)
{
    u128 rest = x;
    u64 q = 0;
    for (unsigned i = 0;; i++) {
        q <<= 1;
        if (rest >= y) rest -= y, q |= 1;
        if (i == steps) break;
        rest <<= 1;
    }
    *quotient = q;
    return rest;
}

struct f80 f80_remainder(struct float_env *e, struct f80 a, struct f80 b, bool nearest, int *quotient)
{
    struct number x = take(a), y = take(b);
    struct f80 r;
    *quotient = F80_NO_QUOTIENT;
    if (none(e, x, y, &r)) return r;
    if (x.kind == INFINITE || y.kind == ZERO) return invalid(e);
    denormal(e, x), denormal(e, y);
    if (float_stops(e)) return a;
    *quotient = 0;
    if (x.kind == ZERO) return put((struct rounded){.kind = ZERO, .negative = x.negative});
    int apart = x.e - y.e;
    if (y.kind == INFINITE || apart < -1 || (apart < 0 && !nearest)) return finish(e, x, whole);
    // 64 and more binary places apart it takes several times, each of 32 to 63 places (SDM, FPREM; which of
    // them is left open: so many that what remains are multiples of 32)
    bool partial = apart >= 64;
    unsigned steps = partial ? 32 + (unsigned)apart % 32 : apart < 0 ? 0 : (unsigned)apart;
    u64 q = 0, by = (u64)(y.m >> 64);
    u128 rest;
    if (apart < 0)
        rest = (u64)(x.m >> 64);
    else
        rest = remainder_of((u64)(x.m >> 64), by, steps, &q);
    // rest has the weight of x's places after `steps` of them
    int weight = x.e - (int)steps;
    if (nearest && !partial) {
        // rest * 2 against the divisor, both at the same weight
        u128 twice = apart < 0 ? rest : rest << 1;
        if (twice > by || (twice == by && (q & 1))) {
            u128 divisor = apart < 0 ? (u128)by << 1 : by;
            rest = divisor - rest;
            x.negative = !x.negative;
            q++;
        }
    }
    *quotient = partial ? F80_PARTIAL : (int)(q & 7);
    if (!rest) return put((struct rounded){.kind = ZERO, .negative = a.se >> 15});
    x.m = rest << 63;
    x.e = weight + 1;
    return finish(e, normalized(x), whole);
}

enum f80_class f80_classify(struct f80 a)
{
    static const enum f80_class of[] = {
        [ZERO] = F80_ZERO, [FINITE] = F80_NORMAL, [INFINITE] = F80_INFINITY,
        [QUIET] = F80_NAN, [SIGNALING] = F80_NAN, [INVALID] = F80_UNSUPPORTED};
    struct number x = take(a);
    return x.denormal ? F80_DENORMAL : of[x.kind];
}

// ---- other formats ----
struct f80 f80_widen(enum float_format f, u64 a, bool *denormal)
{
    unsigned fraction = f == FLOAT32 ? 23 : 52, bits = f == FLOAT32 ? 32 : 64;
    unsigned most = f == FLOAT32 ? 0xFF : 0x7FF, exponent = (unsigned)(a >> fraction) & most;
    struct number x = {
        .kind = FINITE, .negative = a >> (bits - 1) & 1, .e = (int)exponent - (int)(most >> 1)};
    x.m = (u128)(a & (BIT(fraction) - 1)) << (127 - fraction);
    *denormal = false;
    if (exponent) {
        x.m |= (u128)1 << 127;
        if (exponent == most) return put_nan(x); // an infinity too
    } else if (!x.m) {
        x.kind = ZERO;
    } else {
        *denormal = true;
        x.e++;
        x = normalized(x);
    }
    return put((struct rounded){x.kind, x.negative, x.e, (u64)(x.m >> 64)});
}
struct f80 f80_from(struct float_env *e, enum float_format f, u64 a)
{
    bool was_denormal;
    struct f80 r = f80_widen(f, a, &was_denormal), nan;
    if (was_denormal) e->flags |= FLOAT_DE;
    struct number x = take(r);
    return none(e, x, x, &nan) ? nan : r;
}

u64 f80_to(struct float_env *e, enum float_format f, struct f80 a)
{
    unsigned fraction = f == FLOAT32 ? 23 : 52, bits = f == FLOAT32 ? 32 : 64;
    u64 most = f == FLOAT32 ? 0xFF : 0x7FF;
    struct number x = take(a);
    struct f80 n;
    struct rounded r;
    if (none(e, x, x, &n)) {
        r = (struct rounded){.kind = QUIET, .negative = n.se >> 15, .m = n.m};
    } else {
        int bias = (int)(most >> 1);
        struct float_env own = *e;
        own.flags = 0;
        r = number_round(&own, x, (struct range){fraction + 1, 1 - bias, bias, false});
        // nothing is stored then, so nothing is said of its exactness
        if (own.flags & ~(unsigned)e->masks & (FLOAT_OE | FLOAT_UE)) own.flags &= FLOAT_OE | FLOAT_UE;
        e->flags |= own.flags;
    }
    u64 field = r.kind == ZERO     ? 0
                : r.kind == FINITE ? (r.m >> 63 ? (u64)(r.e + (int)(most >> 1)) & most : 0)
                                   : most;
    u64 low = r.kind == FINITE || r.kind == QUIET ? r.m << 1 >> (64 - fraction) : 0;
    return (u64)r.negative << (bits - 1) | field << fraction | low;
}

struct f80 f80_from_int(s64 x)
{
    struct number n = number_from_int(x);
    return put((struct rounded){n.kind, n.negative, n.e, (u64)(n.m >> 64)});
}

u64 f80_to_int(struct float_env *e, struct f80 a, unsigned bits)
{
    u64 x;
    bool inexact, up;
    if (!number_to_int(take(a), e->rounding, bits, &x, &inexact, &up)) {
        e->flags |= FLOAT_IE;
        x = BIT(bits - 1);
    } else {
        if (inexact) e->flags |= FLOAT_PE;
        if (up) e->flags |= FLOAT_UP;
    }
    return bits == 64 ? x : x & (BIT(bits) - 1);
}

// Eighteen digits, two a byte, the lower first; the last byte has the sign.
struct f80 f80_from_bcd(const u8 bcd[10])
{
    u64 x = 0;
    for (int i = 8; i >= 0; i--) x = x * 100 + (bcd[i] >> 4) * 10u + (bcd[i] & 15u);
    struct f80 r = f80_from_int((s64)x);
    r.se |= (u16)(bcd[9] & 0x80) << 8;
    return r;
}

void f80_to_bcd(struct float_env *e, struct f80 a, u8 bcd[10])
{
    const u64 end = 1000000000000000000;
    struct number n = take(a);
    u64 x;
    bool inexact, up, fits = number_to_int(n, e->rounding, 64, &x, &inexact, &up);
    u64 magnitude = n.negative ? -x : x;
    if (!fits || magnitude >= end) {
        e->flags |= FLOAT_IE;
        for (unsigned i = 0; i < 10; i++) bcd[i] = i < 7 ? 0 : i == 7 ? 0xC0 : 0xFF;
        return;
    }
    if (inexact) e->flags |= FLOAT_PE;
    if (up) e->flags |= FLOAT_UP;
    for (unsigned i = 0; i < 9; i++, magnitude /= 100)
        bcd[i] = (u8)(magnitude % 10 | magnitude / 10 % 10 << 4);
    bcd[9] = n.negative ? 0x80 : 0;
}

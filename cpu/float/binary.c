// The formats of SSE, and the operations on them. Of two NaNs the first operand's is the result, made quiet.
#include <string.h>

#include "cpu/float/number.h"

struct shape {
    unsigned fraction, exponent; // bits
};
static const struct shape shapes[] = {[FLOAT16] = {10, 5}, [FLOAT32] = {23, 8}, [FLOAT64] = {52, 11}};
static int bias(struct shape s) { return (1 << (s.exponent - 1)) - 1; }
static struct range range_of(struct shape s)
{
    return (struct range){s.fraction + 1, 1 - bias(s), bias(s), false};
}

static struct number take(enum float_format f, u64 a, bool daz)
{
    struct shape s = shapes[f];
    u64 fraction = a & (BIT(s.fraction) - 1), most = BIT(s.exponent) - 1, exponent = a >> s.fraction & most;
    struct number x = {.kind = FINITE, .negative = a >> (s.fraction + s.exponent) & 1};
    x.m = (u128)fraction << (127 - s.fraction);
    if (exponent == most) {
        x.m |= (u128)1 << 127;
        x.kind = !fraction ? INFINITE : x.m & QUIET_BIT ? QUIET : SIGNALING;
        return x;
    }
    x.e = (int)exponent - bias(s);
    if (exponent) {
        x.m |= (u128)1 << 127;
        return x;
    }
    if (!fraction || daz) {
        x.kind = ZERO;
        return x;
    }
    x.e++;
    x.denormal = true;
    return normalized(x);
}

static u64 put(enum float_format f, struct rounded x)
{
    struct shape s = shapes[f];
    u64 most = BIT(s.exponent) - 1, fraction = x.m << 1 >> (64 - s.fraction), exponent = 0;
    switch (x.kind) {
    case ZERO: fraction = 0; break;
    case FINITE: exponent = x.m >> 63 ? (u64)(x.e + bias(s)) & most : 0; break;
    case INFINITE: exponent = most, fraction = 0; break;
    default: exponent = most; break;
    }
    return (u64)x.negative << (s.fraction + s.exponent) | exponent << s.fraction | fraction;
}
static u64 nan_bits(enum float_format f, struct number x)
{
    return put(f, (struct rounded){.kind = QUIET, .negative = x.negative, .m = (u64)(x.m >> 64)});
}
static u64 invalid(struct float_env *e, enum float_format f)
{
    e->flags |= FLOAT_IE;
    return nan_bits(f, default_nan());
}
static u64 finish(struct float_env *e, enum float_format f, struct number x)
{
    return put(f, number_round(e, x, range_of(shapes[f])));
}
static void denormal(struct float_env *e, struct number a)
{
    if (a.denormal) e->flags |= FLOAT_DE;
}
// A NaN among the operands, which is the result then.
static bool nan_among(struct float_env *e, enum float_format f, struct number a, struct number b, u64 *result)
{
    if (!is_nan(a) && !is_nan(b)) return false;
    if (a.kind == SIGNALING || b.kind == SIGNALING) e->flags |= FLOAT_IE;
    *result = nan_bits(f, quiet(is_nan(a) ? a : b));
    return true;
}

static u64 arithmetic(struct float_env *e, enum float_format f, u64 a, u64 b, enum operation op)
{
    struct number x = take(f, a, e->daz), y = take(f, b, e->daz);
    u64 r;
    if (nan_among(e, f, x, y, &r)) return r;
    struct number z = number_operation(e, op, x, y);
    if (z.kind == INVALID) return invalid(e, f);
    return float_stops(e) ? 0 : finish(e, f, z);
}
u64 float_add(struct float_env *e, enum float_format f, u64 a, u64 b) { return arithmetic(e, f, a, b, ADD); }
u64 float_sub(struct float_env *e, enum float_format f, u64 a, u64 b) { return arithmetic(e, f, a, b, SUB); }
u64 float_mul(struct float_env *e, enum float_format f, u64 a, u64 b) { return arithmetic(e, f, a, b, MUL); }
u64 float_div(struct float_env *e, enum float_format f, u64 a, u64 b) { return arithmetic(e, f, a, b, DIV); }

u64 float_sqrt(struct float_env *e, enum float_format f, u64 a)
{
    struct number x = take(f, a, e->daz);
    u64 r;
    if (nan_among(e, f, x, x, &r)) return r;
    struct number z = number_sqrt(x);
    if (z.kind == INVALID) return invalid(e, f);
    denormal(e, x);
    return float_stops(e) ? 0 : finish(e, f, z);
}

u64 float_fma(struct float_env *e, enum float_format f, u64 a, u64 b, u64 c, bool minus, bool subtract)
{
    struct number x = take(f, a, e->daz), y = take(f, b, e->daz), z = take(f, c, e->daz);
    u64 r;
    if (nan_among(e, f, x, y, &r)) {
        if (z.kind == SIGNALING) e->flags |= FLOAT_IE;
        return r;
    }
    if (nan_among(e, f, z, z, &r)) return r; // even of infinity times zero
    struct number product = number_mul(x, y);
    if (product.kind == INVALID) return invalid(e, f);
    product.negative ^= minus;
    z.negative ^= subtract;
    struct number s = number_add(product, z, e->rounding);
    if (s.kind == INVALID) return invalid(e, f);
    denormal(e, x), denormal(e, y), denormal(e, z);
    return float_stops(e) ? 0 : finish(e, f, s);
}

// ---- approximations ----
// A reciprocal's upper 11 bits of the fraction, with a root the upper 10 and the lowest of the exponent, say
// which interval of numbers the operand is in. The result is that of the interval's middle, rounded to 12
// bits of fraction: within 1.5 * 2^-12 of all in it, as the manual wants. No middle's result is a tie.
enum { SIGN = 0x80000000, EXPONENT = 0x7F800000, FRACTION = 0x7FFFFF, QUIETED = 0x400000 };
static u32 approximation(int exponent, u32 of_4096) { return ((u32)exponent << 23) + (of_4096 << 11); }

u32 float32_reciprocal(u32 a)
{
    u32 sign = a & SIGN, middle = 2 * ((a & FRACTION) >> 12) + 1; // (4096 + middle) / 4096
    int exponent = (a & EXPONENT) >> 23;
    if ((a & ~(u32)SIGN) > EXPONENT) return a | QUIETED;
    if (!exponent) return sign | EXPONENT; // of denormal numbers too
    if (exponent >= 253) return sign;      // what would be denormal is zero
    u32 d = 4096 + middle;
    return sign | approximation(253 - exponent, ((1u << 25) + d / 2) / d - 4096);
}
u32 float32_reciprocal_root(u32 a)
{
    int exponent = (a & EXPONENT) >> 23;
    if ((a & ~(u32)SIGN) > EXPONENT) return a | QUIETED;
    if (!exponent) return (a & SIGN) | EXPONENT;
    if (a & SIGN) return SIGN | EXPONENT | QUIETED;
    if (a == EXPONENT) return 0;
    // (2048 + middle) / 2048, twice that where the exponent is not a multiple of two
    u64 d = 2048 + 2 * ((a & FRACTION) >> 13) + 1, of = BIT(39) >> !(exponent & 1), root = 0;
    // 8192 times the reciprocal root is sqrt(of / 4 / d): the greatest that is no more than a half above it
    for (u64 bit = 8192; bit; bit /= 2)
        if ((2 * (root + bit) - 1) * (2 * (root + bit) - 1) * d <= of) root += bit;
    return approximation((380 - exponent) / 2, (u32)root - 4096);
}

// Each element of the result is a sum of its own, which begins with that element's own product: its own pair
// of products, then the other pair. All are equal, unless several products are NaNs.
void float_dot(struct float_env *e, enum float_format f, void *d, const void *a, const void *s, u8 imm)
{
    unsigned n = f == FLOAT32 ? 4 : 2, size = 16 / n;
    u64 x[4], pair[4];
    for (unsigned i = 0; i < n; i++) {
        u64 p = 0, q = 0;
        memcpy(&p, (const u8 *)a + i * size, size);
        memcpy(&q, (const u8 *)s + i * size, size);
        x[i] = imm >> (4 + i) & 1 ? float_mul(e, f, p, q) : 0;
    }
    for (unsigned i = 0; i < n; i++) pair[i] = float_add(e, f, x[i], x[i ^ 1]);
    for (unsigned i = 0; i < n; i++) {
        u64 sum = n == 2 ? pair[i] : float_add(e, f, pair[i], pair[i ^ 2]);
        if (!(imm >> i & 1)) sum = 0;
        memcpy((u8 *)d + i * size, &sum, size);
    }
}

// The operand itself, but for a denormal one that counts as zero.
static u64 operand(struct number x, enum float_format f, u64 a)
{
    if (x.kind != ZERO) return a;
    return put(f, (struct rounded){.kind = ZERO, .negative = x.negative});
}
static u64 extreme(struct float_env *e, enum float_format f, u64 a, u64 b, int wanted)
{
    struct number x = take(f, a, e->daz), y = take(f, b, e->daz);
    if (is_nan(x) || is_nan(y)) {
        e->flags |= FLOAT_IE;
        return operand(y, f, b);
    }
    denormal(e, x), denormal(e, y);
    return number_compare(x, y) == wanted ? operand(x, f, a) : operand(y, f, b);
}
u64 float_min(struct float_env *e, enum float_format f, u64 a, u64 b) { return extreme(e, f, a, b, -1); }
u64 float_max(struct float_env *e, enum float_format f, u64 a, u64 b) { return extreme(e, f, a, b, 1); }

enum float_order float_compare(struct float_env *e, enum float_format f, u64 a, u64 b, bool signals)
{
    struct number x = take(f, a, e->daz), y = take(f, b, e->daz);
    if (is_nan(x) || is_nan(y)) {
        if (signals || x.kind == SIGNALING || y.kind == SIGNALING) e->flags |= FLOAT_IE;
        return FLOAT_UNORDERED;
    }
    denormal(e, x), denormal(e, y);
    return (enum float_order)(number_compare(x, y) + 1);
}

u64 float_integral(struct float_env *e, enum float_format f, u64 a, bool silent)
{
    struct number x = take(f, a, e->daz);
    u64 r;
    if (nan_among(e, f, x, x, &r)) return r;
    bool inexact, up;
    x = number_integral(x, e->rounding, &inexact, &up);
    if (inexact && !silent) e->flags |= FLOAT_PE;
    return finish(e, f, x);
}

u64 float_convert(struct float_env *e, enum float_format to, enum float_format from, u64 a)
{
    struct number x = take(from, a, e->daz && from != FLOAT16);
    u64 r;
    if (nan_among(e, to, x, x, &r)) return r;
    if (from != FLOAT16) denormal(e, x);
    if (float_stops(e)) return 0;
    struct float_env half = *e;
    half.ftz = false;
    r = finish(to == FLOAT16 ? &half : e, to, x);
    e->flags |= half.flags;
    return r;
}

u64 float_from_int(struct float_env *e, enum float_format f, s64 x)
{
    return finish(e, f, number_from_int(x));
}

u64 float_to_int(struct float_env *e, enum float_format f, u64 a, unsigned bits)
{
    u64 r;
    bool inexact, up;
    if (!number_to_int(take(f, a, e->daz), e->rounding, bits, &r, &inexact, &up)) {
        e->flags |= FLOAT_IE;
        r = BIT(bits - 1);
    } else if (inexact) {
        e->flags |= FLOAT_PE;
    }
    return bits == 64 ? r : r & (BIT(bits) - 1);
}

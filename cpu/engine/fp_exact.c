// Whether the result of an operation of SSE is exact where its exponent is out of bounds: what PE says beside
// an unmasked overflow or underflow (SDM volume 1, 4.9.1.4 to 4.9.1.6; the silicon test holds it). The host
// runs with everything masked, where such a result counts as inexact, so it is computed here, by integers: a
// result is exact if, without a bound of its exponent, its significand is no wider than the format's. That
// depends neither on the exponent nor on the rounding mode.
#include "cpu/engine/fp.h"

#include <string.h>

typedef unsigned __int128 u128;
struct number { // m * 2^e; m is odd, or 0
    u128 m;
    int e;
    bool negative;
};
struct format {
    unsigned bits, fraction; // of an element; of the significand without its first bit
};
static const struct format single = {32, 23}, twice = {64, 52};

static unsigned width(u128 m)
{
    u64 high = (u64)(m >> 64), low = (u64)m;
    return high ? 128 - (unsigned)__builtin_clzll(high) : low ? 64 - (unsigned)__builtin_clzll(low) : 0;
}

static struct number odd(struct number x)
{
    if (!x.m) return x;
    unsigned zeros =
        (u64)x.m ? (unsigned)__builtin_ctzll((u64)x.m) : 64 + (unsigned)__builtin_ctzll((u64)(x.m >> 64));
    x.m >>= zeros;
    x.e += (int)zeros;
    return x;
}

// False: infinite, or no number. Its exponent counts from the format's least one.
static bool take(const void *from, unsigned i, struct format f, bool daz, struct number *x)
{
    u64 v = 0;
    memcpy(&v, (const u8 *)from + i * (f.bits / 8), f.bits / 8);
    unsigned exponent_bits = f.bits - 1 - f.fraction;
    u64 exponent = v >> f.fraction & (BIT(exponent_bits) - 1), fraction = v & (BIT(f.fraction) - 1);
    if (exponent == BIT(exponent_bits) - 1) return false;
    if (!exponent && daz) fraction = 0;
    *x = odd((struct number){exponent ? fraction | BIT(f.fraction) : fraction,
                             exponent ? (int)exponent - 1 : 0, v >> (f.bits - 1)});
    return true;
}

static bool sum_fits(struct number x, struct number y, unsigned precision)
{
    if (!x.m || !y.m) return width(x.m | y.m) <= precision;
    int low = x.e < y.e ? x.e : y.e;
    unsigned xw = width(x.m) + (unsigned)(x.e - low), yw = width(y.m) + (unsigned)(y.e - low);
    // Two that lie so far apart do not cancel: the sum is about as wide as this.
    if (xw > 126 || yw > 126) return false;
    __int128 a = (__int128)(x.m << (x.e - low)), b = (__int128)(y.m << (y.e - low));
    __int128 sum = (x.negative ? -a : a) + (y.negative ? -b : b);
    return width(odd((struct number){.m = (u128)(sum < 0 ? -sum : sum)}).m) <= precision;
}

// a * b + c fits; the exponents of a product count from another point, twice the least one.
static bool product_sum_fits(struct number a, struct number b, struct number c, struct format f)
{
    int least = (int)BIT(f.bits - 2 - f.fraction) - 2 + (int)f.fraction; // -(exponent of the least denormal)
    return sum_fits((struct number){a.m * b.m, a.e + b.e - least, a.negative != b.negative}, c,
                    f.fraction + 1);
}

static bool subtracts(enum fp_lanes lanes, unsigned i)
{
    switch ((unsigned)lanes & FP_SIGN) {
    case FP_SUB: return true;
    case FP_EVEN_SUB: return !(i & 1);
    case FP_ODD_SUB: return i & 1;
    default: return false;
    }
}

static bool element_fits(const void *a, const void *s, const void *d, unsigned i, unsigned n, struct format f,
                         enum fp_lanes lanes, bool daz)
{
    struct number x, y, z;
    unsigned op = (unsigned)lanes & FP_OP, precision = f.fraction + 1;
    switch (op) {
    case FP_PAIRS: {
        const void *from = i < n / 2 ? a : s;
        unsigned first = 2 * i % n;
        if (!take(from, first, f, daz, &x) || !take(from, first + 1, f, daz, &y)) return true;
        y.negative ^= subtracts(lanes, i);
        return sum_fits(x, y, precision);
    }
    case FP_132:
    case FP_213:
    case FP_231: {
        const void *one = op == FP_132 ? d : a, *other = op == FP_213 ? d : s;
        const void *plus = op == FP_132 ? a : op == FP_213 ? s : d;
        if (!take(one, i, f, daz, &x) || !take(other, i, f, daz, &y) || !take(plus, i, f, daz, &z))
            return true;
        z.negative ^= subtracts(lanes, i);
        return product_sum_fits(x, y, z, f);
    }
    default: break;
    }
    if (!take(a, i, f, daz, &x) || !take(s, i, f, daz, &y)) return true;
    switch (op) {
    case FP_ADD: y.negative ^= subtracts(lanes, i); return sum_fits(x, y, precision);
    case FP_MUL: return width(x.m * y.m) <= precision;
    case FP_DIV: return !y.m || x.m % y.m == 0;
    default: return true;
    }
}

bool fp_inexact(const struct fp_operands *from, enum fp_lanes lanes, bool daz)
{
    unsigned shape = (unsigned)lanes & FP_SHAPE;
    bool scalar = shape == FP_SS || shape == FP_SD;
    for (unsigned half = 0; half < 2 && from->s[half]; half++) {
        if ((lanes & FP_OP) == FP_NARROW) {
            struct format f = shape == FP_PH ? single : twice;
            for (unsigned i = 0; i < (scalar ? 1 : 128 / f.bits); i++) {
                struct number x;
                unsigned precision = shape == FP_PH ? 11 : 24;
                if (take(from->s[half], i, f, daz, &x) && width(x.m) > precision) return true;
            }
            continue;
        }
        struct format f = shape == FP_SD || shape == FP_PD || shape == FP_PD_256 ? twice : single;
        unsigned n = 128 / f.bits;
        for (unsigned i = 0; i < (scalar ? 1 : n); i++)
            if (!element_fits(from->a[half], from->s[half], from->d[half], i, n, f, lanes, daz)) return true;
    }
    return false;
}

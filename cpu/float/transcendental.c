// The transcendental instructions of x87, in 128 bits and rounded once. The manual promises one unit in the
// last place (SDM volume 1, 8.3.10) and leaves the bits to the processor: these are not the host's in the
// last one. What is promised is kept: ranges and C2, the exceptions, special operands (SDM volume 2, each
// instruction), and the value of pi that arguments are reduced by, of 66 bits (SDM volume 1, 8.3.8).
#include "cpu/float/extended.h"

#define CONSTANT(high, low, exponent) \
    ((struct number){.kind = FINITE, .e = exponent, .m = (u128)high << 64 | low})
#define PI    CONSTANT(0xC90FDAA22168C234, 0xC4C6628B80DC1CD1, 1)
#define LOG2E CONSTANT(0xB8AA3B295C17F0BB, 0xBE87FED0691D3E89, 0)
#define LN2   CONSTANT(0xB17217F7D1CF79AB, 0xC9E3B39803F2F6AF, -1)

// ---- arithmetic in 128 bits; what is lost is below the last of them ----
static struct number sum(struct number a, struct number b) { return number_add(a, b, FLOAT_NEAREST); }
static struct number negated(struct number a)
{
    a.negative = !a.negative;
    return a;
}
static struct number product(struct number a, struct number b)
{
    struct number r = {.kind = ZERO, .negative = a.negative != b.negative};
    if (a.kind == ZERO || b.kind == ZERO) return r;
    u64 a1 = (u64)(a.m >> 64), a0 = (u64)a.m, b1 = (u64)(b.m >> 64), b0 = (u64)b.m;
    u128 x = (u128)a1 * b0, y = (u128)a0 * b1, low = ((u128)a0 * b0 >> 64) + (u64)x + (u64)y;
    r.kind = FINITE;
    r.m = (u128)a1 * b1 + (x >> 64) + (y >> 64) + (low >> 64);
    r.e = a.e + b.e + 1;
    if (!(u64)(r.m >> 127)) r.m = r.m << 1 | (low >> 63 & 1), r.e--;
    return r;
}
static struct number quotient(struct number a, struct number b)
{
    struct number r = {.kind = ZERO, .negative = a.negative != b.negative, .e = a.e - b.e};
    if (a.kind == ZERO) return r;
    u128 rest = a.m, q = 0;
    bool carry = false; // above rest
    for (unsigned i = 0; i < 128; i++) {
        q <<= 1;
        if (carry || rest >= b.m) rest -= b.m, q |= 1;
        carry = rest >> 127;
        rest <<= 1;
    }
    r.kind = FINITE;
    r.m = q;
    return normalized(r);
}
static struct number whole_number(s64 x) { return number_from_int(x); }
static bool negligible(struct number term, struct number s)
{
    return term.kind == ZERO || (s.kind == FINITE && term.e < s.e - 130);
}
static struct number doubled(struct number a)
{
    a.e++;
    return a;
}

// Of a result that no format holds exactly: so that its rounding does not take it for one.
static struct number irrational(struct number a)
{
    a.m |= 1;
    return a;
}

// ---- series, each for small arguments ----
// x - x^3/3! + ..., or (first: 1) 1 - x^2/2! + ...
static struct number sine_series(struct number first, struct number x, unsigned k)
{
    struct number square = product(x, x), term = first, s = first;
    do { // once at least: what is tiny makes the result inexact, to the right side
        term = negated(quotient(product(term, square), whole_number(k * (k + 1))));
        s = sum(s, term);
        k += 2;
    } while (!negligible(term, s));
    return s;
}
static struct number sine(struct number x) { return sine_series(x, x, 2); }
static struct number cosine(struct number x) { return sine_series(whole_number(1), x, 1); }

// x + x^3/3 + ..., or with alternating signs: artanh, arctan
static struct number odd_series(struct number x, bool alternating)
{
    struct number square = product(x, x), power = x, s = x;
    for (unsigned k = 3;; k += 2) {
        power = product(power, square);
        if (alternating) power = negated(power);
        struct number term = quotient(power, whole_number(k));
        s = sum(s, term);
        if (negligible(term, s)) return s;
    }
}
static struct number arctangent(struct number t) // from 0 to 1
{
    // that of k/8
    static const struct {
        u64 high, low;
        int e;
    } table[9] = {{0, 0, 0},
                  {0xFEADD4D5617B6E32, 0xC897989F3E888EF8, -4},
                  {0xFADBAFC96406EB15, 0x6DC79EF5F7A217E6, -3},
                  {0xB7B0CA0F26F78473, 0x8AA32122DCFE4483, -2},
                  {0xED63382B0DDA7B45, 0x6FE445ECBC3A8D03, -2},
                  {0x8F005D5EF7F59F9B, 0x5C835E1665C43748, -1},
                  {0xA4BC7D1934F70924, 0x19A87F2A457DAC9F, -1},
                  {0xB8053E2BC2319E73, 0xCB2DA55210A4443D, -1},
                  {0xC90FDAA22168C234, 0xC4C6628B80DC1CD1, -1}};
    u64 k;
    bool inexact, up;
    struct number eight = t;
    eight.e += 3;
    number_to_int(eight, FLOAT_NEAREST, 64, &k, &inexact, &up);
    if (!k) return odd_series(t, true);
    struct number c = whole_number((s64)k);
    c.e -= 3;
    struct number z = quotient(sum(t, negated(c)), sum(whole_number(1), product(t, c)));
    struct number base = CONSTANT(table[k].high, table[k].low, table[k].e);
    return z.kind == ZERO ? base : sum(base, odd_series(z, true));
}
// log2 of 1 + z where that is near to 1: 2 artanh(z / (2 + z)) / ln 2
static struct number log2_near(struct number z)
{
    return product(doubled(odd_series(quotient(z, sum(whole_number(2), z)), false)), LOG2E);
}
static struct number logarithm(struct number x) // to base 2, of what is positive
{
    int e = x.e;
    x.e = 0;
    if (x.m > (u128)0xB504F333F9DE6484 << 64) x.e = -1, e++; // about the root of 2
    struct number z = sum(x, whole_number(-1));
    if (z.kind == ZERO) return whole_number(e);
    return sum(whole_number(e), log2_near(z));
}

// ---- FSIN, FCOS, FSINCOS, FPTAN ----
// A magnitude less a multiple of pi/2: at most pi/4 in either direction. The multiple's low bits.
static struct number reduced(struct number x, unsigned *multiple)
{
    const u128 half_pi = (u128)0xC90FDAA22168C234 << 4 | 0xC; // at 2^-67
    *multiple = 0;
    if (x.kind == ZERO || x.e < -1) return x;
    u128 rest = x.m >> 64;
    unsigned q = 0;
    for (int i = 0;; i++) {
        q <<= 1;
        if (rest >= half_pi) rest -= half_pi, q |= 1;
        if (i == x.e + 4) break;
        rest <<= 1;
    }
    if (rest << 1 > half_pi) rest = half_pi - rest, q++, x.negative = true;
    *multiple = q;
    x.kind = rest ? FINITE : ZERO;
    x.m = rest;
    x.e = 60;
    return rest ? normalized(x) : x;
}
enum function { SINE, COSINE, TANGENT };
static struct f80 trigonometric(struct float_env *e, struct f80 a, bool *out_of_range, enum function k)
{
    struct number x = take(a), r;
    struct f80 nan;
    unsigned q;
    *out_of_range = false;
    if (none(e, x, x, &nan)) return nan;
    if (x.kind == INFINITE) return invalid(e);
    if (x.kind == FINITE && x.e >= 63) {
        *out_of_range = true;
        return a;
    }
    denormal(e, x);
    if (float_stops(e)) return a;
    bool negative = x.negative;
    x.negative = false;
    r = reduced(x, &q);
    if (k == TANGENT) {
        struct number s = sine(r), c = cosine(r);
        if (q & 1) s.negative = !s.negative;
        r = r.kind == ZERO ? r : irrational(q & 1 ? quotient(c, s) : quotient(s, c));
        r.negative ^= negative;
        return finish(e, r, whole);
    }
    if (k == COSINE) q++, negative = false;
    r = q & 1 ? cosine(r) : r.kind == ZERO ? r : sine(r);
    r.negative ^= negative ^ (q >> 1 & 1);
    return finish(e, r, whole);
}
struct f80 f80_sin(struct float_env *e, struct f80 a, bool *out_of_range)
{
    return trigonometric(e, a, out_of_range, SINE);
}
struct f80 f80_cos(struct float_env *e, struct f80 a, bool *out_of_range)
{
    return trigonometric(e, a, out_of_range, COSINE);
}
struct f80 f80_tan(struct float_env *e, struct f80 a, bool *out_of_range)
{
    return trigonometric(e, a, out_of_range, TANGENT);
}

// ---- FPATAN: the angle of (x, y) ----
struct f80 f80_atan(struct float_env *e, struct f80 b, struct f80 a)
{
    struct number y = take(b), x = take(a), r;
    struct f80 nan;
    if (none(e, y, x, &nan)) return nan;
    denormal(e, x), denormal(e, y);
    if (float_stops(e)) return b;
    bool left = x.negative, negative = y.negative;
    x.negative = y.negative = false;
    int order = number_compare(y, x);
    const struct number pi = PI;
    struct number half = pi, quarter = pi;
    half.e--, quarter.e -= 2;
    if (y.kind == ZERO || (x.kind == INFINITE && y.kind != INFINITE))
        r = (struct number){.kind = ZERO};
    else if (x.kind == ZERO || (y.kind == INFINITE && x.kind != INFINITE))
        r = half;
    else if (!order)
        r = quarter;
    else if (order < 0)
        r = arctangent(quotient(y, x));
    else
        r = sum(half, negated(arctangent(quotient(x, y))));
    if (left) r = sum(pi, negated(r));
    r.negative = negative;
    return finish(e, r, whole);
}

// ---- F2XM1: from -1 to 1; beyond, the result is not defined: here, the operand ----
struct f80 f80_exp2m1(struct float_env *e, struct f80 a)
{
    struct number x = take(a);
    struct f80 nan;
    if (none(e, x, x, &nan)) return nan;
    if (x.kind == INFINITE) return x.negative ? (struct f80){BIT(63), 0xBFFF} : a;
    denormal(e, x);
    if (float_stops(e)) return a;
    if (x.kind == ZERO) return a;
    if (x.e >= 0) return x.e == 0 && !(x.m << 1) && x.negative ? (struct f80){BIT(63), 0xBFFE} : a;
    struct number t = product(x, LN2), term = t, s = t;
    for (unsigned k = 2; !negligible(term, s); k++) {
        term = quotient(product(term, t), whole_number(k));
        s = sum(s, term);
    }
    return finish(e, irrational(s), whole);
}

// ---- FYL2X, FYL2XP1: y times the logarithm to base 2 of x, of x + 1 ----
static struct f80 scaled(struct float_env *e, struct number y, struct number l, bool exact)
{
    struct number r = {.kind = ZERO, .negative = y.negative != l.negative};
    if (y.kind == INFINITE || l.kind == INFINITE) {
        if (y.kind == ZERO || l.kind == ZERO) return invalid(e);
        r.kind = INFINITE;
    } else if (y.kind == FINITE && l.kind == FINITE) {
        r = exact ? number_mul(y, l) : irrational(product(y, l));
    }
    return finish(e, r, whole);
}
struct f80 f80_ylog2(struct float_env *e, struct f80 b, struct f80 a)
{
    struct number y = take(b), x = take(a), l = {.kind = INFINITE};
    struct f80 nan;
    if (none(e, y, x, &nan)) return nan;
    if (x.negative && x.kind != ZERO) return invalid(e);
    if (x.kind == ZERO) {
        if (y.kind == ZERO) return invalid(e);
        if (y.kind == FINITE) e->flags |= FLOAT_ZE;
        l.negative = true;
    }
    bool exact = x.kind == FINITE && !(x.m << 1); // a power of two
    if (x.kind == FINITE) l = logarithm(x);
    if (l.kind == ZERO && y.kind == INFINITE) return invalid(e);
    if (!(e->flags & FLOAT_ZE)) denormal(e, x), denormal(e, y);
    if (float_stops(e)) return b;
    return scaled(e, y, l, exact);
}
struct f80 f80_ylog2p1(struct float_env *e, struct f80 b, struct f80 a)
{
    struct number y = take(b), x = take(a), l = {.kind = INFINITE};
    struct f80 nan;
    bool exact = false;
    if (none(e, y, x, &nan)) return nan;
    if (x.kind == FINITE || x.kind == ZERO) {
        struct number z = sum(x, whole_number(1));
        if (z.kind == ZERO || z.negative) { // not defined: a logarithm that is none
            l = x;
        } else {
            l = x.kind == ZERO ? x : x.e < -2 ? log2_near(x) : logarithm(z);
            exact = x.e >= -2 && !(z.m << 1);
        }
    } else if (x.negative) {
        return invalid(e);
    }
    if ((l.kind == ZERO && y.kind == INFINITE) || (l.kind == INFINITE && y.kind == ZERO)) return invalid(e);
    denormal(e, x), denormal(e, y);
    if (float_stops(e)) return b;
    return scaled(e, y, l, exact);
}

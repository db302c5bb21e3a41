#include "cpu/float/number.h"

// The first `keep` bits of m (0 or less: none), rounded: as an integer.
static u128 cut(u128 m, int keep, enum float_rounding rounding, bool negative, bool *inexact, bool *up)
{
    u128 q = 0, rest = m;
    bool half = false, more;
    if (keep > 0) {
        q = keep >= 128 ? m : m >> (128 - keep);
        rest = keep >= 128 ? 0 : m << keep;
    }
    if (keep >= 0) {
        half = (u64)(rest >> 127);
        more = rest << 1 != 0;
    } else {
        more = m != 0;
    }
    *inexact = half || more;
    switch (rounding) {
    case FLOAT_NEAREST: *up = half && (more || (q & 1)); break;
    case FLOAT_DOWN: *up = negative && *inexact; break;
    case FLOAT_TO_PLUS: *up = !negative && *inexact; break;
    default: *up = false; break;
    }
    return q + *up;
}

static u128 shifted(u128 m, unsigned n) // right; what is lost is in bit 0
{
    if (!n) return m;
    if (n > 127) return m != 0;
    return m >> n | (m << (128 - n) != 0);
}

struct number number_add(struct number a, struct number b, enum float_rounding rounding)
{
    if (a.kind == INFINITE || b.kind == INFINITE) {
        if (a.kind == b.kind && a.negative != b.negative) a.kind = INVALID;
        return a.kind == ZERO || a.kind == FINITE ? b : a;
    }
    if (a.kind == ZERO && b.kind == ZERO) {
        if (a.negative != b.negative) a.negative = rounding == FLOAT_DOWN;
        return a;
    }
    if (a.kind == ZERO) return b;
    if (b.kind == ZERO) return a;
    if (a.e < b.e || (a.e == b.e && a.m < b.m)) {
        struct number t = a;
        a = b, b = t;
    }
    struct number r = {.kind = FINITE, .negative = a.negative, .e = a.e + 1};
    u128 x = a.m >> 1 | (a.m & 1), y = shifted(b.m, (unsigned)(a.e - b.e) + 1);
    r.m = a.negative == b.negative ? x + y : x - y;
    if (!r.m) return (struct number){.kind = ZERO, .negative = rounding == FLOAT_DOWN};
    return normalized(r);
}

struct number number_mul(struct number a, struct number b)
{
    struct number r = {.negative = a.negative != b.negative};
    if (a.kind == INFINITE || b.kind == INFINITE)
        r.kind = a.kind == ZERO || b.kind == ZERO ? INVALID : INFINITE;
    else
        r.kind = a.kind == ZERO || b.kind == ZERO ? ZERO : FINITE;
    if (r.kind != FINITE) return r;
    r.e = a.e + b.e + 1;
    r.m = (u128)(u64)(a.m >> 64) * (u64)(b.m >> 64);
    return normalized(r);
}

struct number number_div(struct number a, struct number b)
{
    struct number r = {.negative = a.negative != b.negative};
    if (a.kind == b.kind && a.kind != FINITE)
        r.kind = INVALID;
    else if (a.kind == INFINITE || b.kind == ZERO)
        r.kind = INFINITE;
    else if (a.kind == ZERO || b.kind == INFINITE)
        r.kind = ZERO;
    else
        r.kind = FINITE;
    if (r.kind != FINITE) return r;
    u64 by = (u64)(b.m >> 64);
    u128 from = a.m >> 1, high = from / by, low = from % by << 64; // 64 bits of the quotient, and 64 more
    r.e = a.e - b.e;
    r.m = high << 64 | low / by | (low % by != 0);
    return normalized(r);
}

struct number number_operation(struct float_env *e, enum operation op, struct number a, struct number b)
{
    b.negative ^= op == SUB;
    struct number r = op == MUL   ? number_mul(a, b)
                      : op == DIV ? number_div(a, b)
                                  : number_add(a, b, e->rounding);
    if (r.kind == INVALID) return r;
    if (op == DIV && b.kind == ZERO && a.kind == FINITE)
        e->flags |= FLOAT_ZE;
    else if (a.denormal || b.denormal || e->denormal)
        e->flags |= FLOAT_DE;
    return r;
}

// Two bits of the radicand give one of the root: 64, one to round by, and one more that the rest joins.
struct number number_sqrt(struct number a)
{
    enum { BITS = 66 };
    if (a.kind == ZERO) return a;
    if (a.negative) a.kind = INVALID;
    if (a.kind != FINITE) return a;
    u128 m = a.e & 1 ? a.m : a.m >> 1, root = 0, rest = 0; // a significand of 64 bits loses nothing
    for (unsigned i = 0; i < BITS; i++) {
        rest = rest << 2 | m >> 126;
        m <<= 2;
        u128 trial = root << 2 | 1;
        root <<= 1;
        if (rest >= trial) rest -= trial, root |= 1;
    }
    a.m = root << (128 - BITS) | (rest != 0);
    a.e >>= 1;
    return normalized(a);
}

int number_compare(struct number a, struct number b)
{
    if (a.kind == ZERO && b.kind == ZERO) return 0;
    if (a.kind == ZERO) return b.negative ? 1 : -1;
    if (b.kind == ZERO || a.negative != b.negative) return a.negative ? -1 : 1;
    int r = a.kind == b.kind ? 0 : a.kind == INFINITE ? 1 : -1; // of the magnitudes
    if (!r && a.kind == FINITE) r = a.e != b.e ? (a.e > b.e ? 1 : -1) : a.m != b.m ? (a.m > b.m ? 1 : -1) : 0;
    return a.negative ? -r : r;
}

struct number number_integral(struct number a, enum float_rounding rounding, bool *inexact, bool *up)
{
    *inexact = *up = false;
    if (a.kind != FINITE || a.e >= 127) return a;
    a.m = cut(a.m, a.e + 1, rounding, a.negative, inexact, up);
    a.e = 127;
    a.denormal = false;
    if (!a.m) {
        a.kind = ZERO;
        return a;
    }
    return normalized(a);
}

bool number_to_int(struct number a, enum float_rounding rounding, unsigned bits, u64 *x, bool *inexact,
                   bool *up)
{
    *inexact = *up = false;
    *x = 0;
    if (a.kind == ZERO) return true;
    if (a.kind != FINITE || a.e > 64) return false;
    u128 q = cut(a.m, a.e + 1, rounding, a.negative, inexact, up), most = (u128)1 << (bits - 1);
    if (q >= most + a.negative) return false;
    *x = a.negative ? -(u64)q : (u64)q;
    return true;
}

static struct rounded out_of_range(struct float_env *e, struct rounded x, struct range r)
{
    enum float_rounding away = x.negative ? FLOAT_DOWN : FLOAT_TO_PLUS;
    e->flags |= FLOAT_OE | FLOAT_PE;
    e->flags &= (u16)~FLOAT_UP;
    if (e->rounding == FLOAT_NEAREST || e->rounding == away) {
        x.kind = INFINITE;
        e->flags |= FLOAT_UP;
        return x;
    }
    x.e = r.most;
    x.m = UINT64_MAX << (64 - r.precision);
    return x;
}

struct rounded number_round(struct float_env *e, struct number a, struct range r)
{
    enum { WRAP = 24576 };
    struct rounded x = {.kind = a.kind, .negative = a.negative, .e = a.e, .m = (u64)(a.m >> 64)};
    if (a.kind != FINITE) return x;
    int precision = (int)r.precision;
    bool inexact, up;
    // as if there were no bound to the exponent
    u128 q = cut(a.m, precision, e->rounding, a.negative, &inexact, &up);
    if (q >> precision) q >>= 1, x.e++;
    x.m = (u64)q << (64 - precision);
    bool tiny = x.e<r.least, huge = x.e> r.most;
    if (huge && e->masks & FLOAT_OE) return out_of_range(e, x, r);
    if (tiny && e->masks & FLOAT_UE) {
        if (e->ftz) {
            e->flags |= FLOAT_UE | FLOAT_PE;
            x.kind = ZERO;
            return x;
        }
        q = cut(a.m, precision - (r.least - a.e), e->rounding, a.negative, &inexact, &up);
        x.m = (u64)q << (64 - precision);
        x.e = r.least;
        if (!q) x.kind = ZERO;
        if (inexact) e->flags |= FLOAT_UE;
    } else if (tiny || huge) {
        e->flags |= tiny ? FLOAT_UE : FLOAT_OE;
        if (r.wraps) {
            x.e += tiny ? WRAP : -WRAP;
            // what even that does not bring into range (FSCALE)
            if (x.e > r.most) x.kind = INFINITE, inexact = up = true;
            if (x.e < r.least) x.kind = ZERO, inexact = true;
        }
    }
    if (inexact) e->flags |= FLOAT_PE;
    if (up) e->flags |= FLOAT_UP;
    return x;
}

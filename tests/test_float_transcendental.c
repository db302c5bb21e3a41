// The transcendental instructions of cpu/float against the host's x87: results within a unit in the last
// place, exceptions, C2 and special operands exactly.
#include "tests/float_test.h"

#if defined(__x86_64__) && defined(__linux__)
struct __attribute__((packed)) ten {
    u64 m;
    u16 se;
};
// ST(0) = a, ST(1) = b; what the instruction pushes (FPTAN) or pops is taken off.
#define X87(name, code) \
    static struct f80 host_##name(struct f80 a, struct f80 b, u16 fcw, u16 *fsw) \
    { \
        struct ten x = {a.m, a.se}, y = {b.m, b.se}, r; \
        u16 sw; \
        asm volatile("fninit\n\tfldt %[y]\n\tfldt %[x]\n\tfldcw %[fcw]\n\t" code "\n\tfstpt %[r]\n\tfninit" \
                     : [r] "=m"(r), [sw] "=&a"(sw) \
                     : [x] "m"(x), [y] "m"(y), [fcw] "m"(fcw) \
                     : "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"); \
        *fsw = sw; \
        return (struct f80){r.m, r.se}; \
    }
X87(fsin, "fsin\n\tfnstsw %%ax")
X87(fcos, "fcos\n\tfnstsw %%ax")
X87(fptan, "fptan\n\tfnstsw %%ax\n\ttestl $0x400, %%eax\n\tjnz 1f\n\tfstp %%st(0)\n1:")
X87(fpatan, "fpatan\n\tfnstsw %%ax")
X87(f2xm1, "f2xm1\n\tfnstsw %%ax")
X87(fyl2x, "fyl2x\n\tfnstsw %%ax")
X87(fyl2xp1, "fyl2xp1\n\tfnstsw %%ax")

struct function {
    const char *name;
    struct f80 (*host)(struct f80 a, struct f80 b, u16 fcw, u16 *fsw);
    struct f80 (*one)(struct float_env *e, struct f80 a, bool *out_of_range);
    struct f80 (*two)(struct float_env *e, struct f80 b, struct f80 a);
    bool alone, bounded; // of ST(0) only; not defined from 1 on
};
static struct f80 exp2m1(struct float_env *e, struct f80 b, struct f80 a) { return f80_exp2m1(e, a); }
static const struct function functions[] = {
    {"fsin", host_fsin, f80_sin, NULL, true, false},
    {"fcos", host_fcos, f80_cos, NULL, true, false},
    {"fptan", host_fptan, f80_tan, NULL, true, false},
    {"f2xm1", host_f2xm1, NULL, exp2m1, true, true},
    {"fpatan", host_fpatan, NULL, f80_atan, false, false},
    {"fyl2x", host_fyl2x, NULL, f80_ylog2, false, false},
    {"fyl2xp1", host_fyl2xp1, NULL, f80_ylog2p1, false, true},
};

static unsigned long exact, off_by_one;
// Of the same sign: how many numbers lie between.
static u64 distance(struct f80 a, struct f80 b)
{
    if (a.se == b.se && a.m == b.m) return 0;
    if ((a.se ^ b.se) >> 15) return UINT64_MAX;
    s64 e = (a.se & 0x7FFF) - (b.se & 0x7FFF);
    if (e > 1 || e < -1) return UINT64_MAX;
    u64 am = a.m & (BIT(63) - 1), bm = b.m & (BIT(63) - 1);
    s64 d = e * (s64)(UINT64_MAX >> 1) + e + (s64)am - (s64)bm;
    return d < 0 ? -(u64)d : (u64)d;
}
static void one(const struct function *k, struct f80 a, struct f80 b, u16 fcw)
{
    u16 fsw;
    struct float_env e = {
        .rounding = (enum float_rounding)(fcw >> 10 & 3), .masks = FLOAT_ALL, .precision = 64};
    bool out = false;
    struct f80 host = k->host(a, b, fcw, &fsw), ours = k->one ? k->one(&e, a, &out) : k->two(&e, b, a);
    compared++;
    u64 d = distance(host, ours);
    if (!d)
        exact++;
    else if (d == 1)
        off_by_one++;
    u64 operands = (u64)b.se << 16 | a.se;
    if (d > 1) {
        differ(k->name, fcw, "m", a.m, operands, b.m, host.m, ours.m);
        differ(k->name, fcw, "se", a.m, operands, b.m, host.se, ours.se);
    }
    unsigned flags = e.flags & 0x3F, theirs = fsw & 0x3F;
    if (!(flags & FLOAT_PE)) // AMD's have PE, and UE, for what is exact, the logarithm of 2
        theirs &= ~(unsigned)(FLOAT_PE | FLOAT_UE), flags &= ~(unsigned)FLOAT_UE;
    if (!__builtin_cpu_is("amd")) theirs = flags; // compared with AMD's alone so far
    if (flags != theirs) differ(k->name, fcw, "flags", a.m, operands, b.m, theirs, flags);
    if (k->one && out != (fsw >> 10 & 1)) differ(k->name, fcw, "C2", a.m, operands, b.m, fsw >> 10 & 1, out);
}

static struct f80 operand(const struct function *k, bool first)
{
    u64 m = rnd();
    unsigned e = 0x3FFF - 40 + pick(80);
    if (pick(16)) m |= BIT(63);
    if (!pick(4)) m &= ~(BIT(pick(63)) - 1);
    if (!pick(6)) m = BIT(63) | (pick(2) ? 0 : BIT(pick(63)));
    switch (pick(6)) {
    case 0: e = (unsigned)rnd() & 0x7FFF; break;
    case 1: e = 0x3FFF - pick(3); break;
    case 2: e = pick(3) ? 0x3FFF - 64 + pick(70) : pick(2) ? pick(3) : 0x7FFF - pick(3); break;
    default: break;
    }
    if (first && k->bounded && (e & 0x7FFF) >= 0x3FFF) e = 0x3FFF - 1 - pick(50);
    return (struct f80){m, (u16)((e & 0x7FFF) | (rnd() & 0x8000))};
}

static void transcendental(void **state)
{
    static const struct f80 special[] = {
        {0, 0},
        {BIT(63), 0x3FFF},
        {BIT(63), 0x3FFE},
        {BIT(63), 0x4000},
        {BIT(63), 0x7FFF},
        {3 * BIT(62), 0x7FFF},
        {BIT(63) | 1, 0x7FFF},
        {3 * BIT(62) | 5, 0x7FFF},
        {1, 0},
        {BIT(63), 0},
        {BIT(62), 0x3FFF},
        {UINT64_MAX, 0x3FFE},
        {UINT64_MAX, 0x7FFE},
        {BIT(63), 1},
        {BIT(63), 0x403E},
        {UINT64_MAX, 0x403D},
        {0xC90FDAA22168C235, 0x4000},
    };
    for (unsigned i = 0; i < ARRAY_LEN(functions); i++) {
        const struct function *k = &functions[i];
        exact = off_by_one = 0;
        for (unsigned a = 0; a < 2 * ARRAY_LEN(special); a++)
            for (unsigned b = 0; b < (k->alone ? 1 : 2 * ARRAY_LEN(special)); b++)
                for (unsigned rounding = 0; rounding < 4; rounding++) {
                    struct f80 x = special[a / 2], y = special[b / 2];
                    x.se |= (u16)((a & 1) << 15), y.se |= (u16)((b & 1) << 15);
                    if (k->bounded && (x.se & 0x7FFF) >= 0x3FFF && (x.se & 0x7FFF) != 0x7FFF) continue;
                    one(k, x, y, (u16)(0x37F | rounding << 10));
                }
        for (unsigned long r = 0; r < rounds / 4; r++)
            one(k, operand(k, true), operand(k, false), (u16)(0x37F | pick(4) << 10));
        print_message("# %s: %lu the same, %lu by one\n", k->name, exact, off_by_one);
    }
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(transcendental)};
    return float_main(argc, argv, tests, ARRAY_LEN(tests));
}
#else
int main(void)
{
    printf("1..0 # SKIP no host to compare with\n");
    return 0;
}
#endif

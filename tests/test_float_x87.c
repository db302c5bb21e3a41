// cpu/float's x87 against the host's, registers, memory, status word and TOP, bit for bit: all pairs of
// special operands, unsupported encodings among them, then random ones near where something happens, in every
// rounding, precision and set of masks.
#include "tests/float_test.h"

#if defined(__x86_64__) && defined(__linux__)
// ---- x87: a mode is the control word ----
struct __attribute__((packed)) image { // of FNSAVE
    u16 fcw, pad0, fsw, pad1, ftw, pad2;
    u32 pointers[4];
    struct __attribute__((packed)) {
        u64 m;
        u16 se;
    } st[8];
};
struct __attribute__((packed)) ten {
    u64 m;
    u16 se;
};
// ST(0) = a, ST(1) = b, then the instruction, which may have a memory operand.
#define X87(name, code) \
    static void host_##name(struct f80 a, struct f80 b, u16 fcw, void *mem, struct image *out) \
    { \
        struct ten x = {a.m, a.se}, y = {b.m, b.se}; \
        asm volatile("fninit\n\tfldt %[y]\n\tfldt %[x]\n\tfldcw %[fcw]\n\t" code \
                     "\n\tfnsave %[out]\n\tfninit" \
                     : [out] "=m"(*out), "+m"(*(u8(*)[16])mem) \
                     : [x] "m"(x), [y] "m"(y), [fcw] "m"(fcw), [mem] "r"(mem) \
                     : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"); \
    }
typedef void x87_host(struct f80 a, struct f80 b, u16 fcw, void *mem, struct image *out);
static struct float_env x87_env(u16 fcw)
{
    static const u8 bits[] = {24, 64, 53, 64};
    return (struct float_env){.rounding = (enum float_rounding)(fcw >> 10 & 3),
                              .masks = fcw & 0x3F,
                              .precision = bits[fcw >> 8 & 3]};
}
static u64 random_m(void)
{
    u64 m = rnd();
    if (pick(8)) m |= BIT(63);
    switch (pick(6)) {
    case 0: return (m & ~(BIT(pick(63)) - 1)) | (m & BIT(63));
    case 1: return m | (BIT(pick(63)) - 1);
    case 2: return (m & BIT(63)) | BIT(pick(63)) | (pick(2) ? BIT(pick(63)) : 0);
    case 3: return m & (pick(2) ? 0xFFFFFF8000000000 : 0xFFFFFFFFFFFFFC00); // at the ends of 24 and 53 bits
    case 4: return (m & BIT(63)) | (pick(2) ? 0 : BIT(63) - 1);
    default: return m;
    }
}
static struct f80 random_f80(struct f80 near)
{
    unsigned e;
    switch (pick(7)) {
    case 0: e = (unsigned)rnd() & 0x7FFF; break;
    case 1: e = pick(4); break;
    case 2: e = 0x7FFF - pick(4); break;
    case 3: e = 0x3FFF - 6 + pick(80); break;
    case 4: e = 0x7FFE - (near.se & 0x7FFF) + pick(5) - 2; break;
    case 5:
        e = pick(2) ? 0x3FFF - 1023 + pick(60) - 55 : 0x3FFF - 127 + pick(30) - 25;
        break; // ends of the others
    default: e = (near.se & 0x7FFF) - 70 + pick(140); break;
    }
    return (struct f80){random_m(), (u16)((e & 0x7FFF) | (rnd() & 0x8000))};
}
static unsigned f80_specials(struct f80 *list)
{
    static const u16 exponents[] = {0,      1,      2,      0x3FFF - 64, 0x3FFE, 0x3FFF,
                                    0x4000, 0x403D, 0x403E, 0x7FFD,      0x7FFE, 0x7FFF};
    static const u64 ms[] = {0,
                             1,
                             BIT(62),
                             BIT(63),
                             BIT(63) | 1,
                             3 * BIT(62),
                             3 * BIT(62) | 1,
                             UINT64_MAX,
                             0xFFFFFF8000000000,
                             0xFFFFFFFFFFFFFC00};
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(exponents); i++)
        for (unsigned k = 0; k < ARRAY_LEN(ms); k++) {
            list[n++] = (struct f80){ms[k], exponents[i]};
            list[n++] = (struct f80){ms[k], exponents[i] | 0x8000};
        }
    return n;
}

static unsigned c3_c2_c0(enum float_order x)
{
    static const unsigned of[] = {
        [FLOAT_LESS] = 0x100, [FLOAT_EQUAL] = 0x4000, [FLOAT_GREATER] = 0, [FLOAT_UNORDERED] = 0x4500};
    return of[x];
}
X87(fadd, "fadd %%st(1), %%st")
X87(fsub, "fsub %%st(1), %%st")
X87(fmul, "fmul %%st(1), %%st")
X87(fdiv, "fdiv %%st(1), %%st")
X87(fsqrt, "fsqrt")
X87(frndint, "frndint")
X87(fscale, "fscale")
X87(fprem, "fprem")
X87(fprem1, "fprem1")
X87(fxtract, "fxtract")
X87(fcom, "fcom %%st(1)")
X87(fucom, "fucom %%st(1)")
X87(fxam, "fxam")
X87(flds, "flds (%[mem])")
X87(fldl, "fldl (%[mem])")
X87(filds, "filds (%[mem])")
X87(fildll, "fildll (%[mem])")
X87(fbld, "fbld (%[mem])")
X87(fsts, "fsts (%[mem])")
X87(fstl, "fstl (%[mem])")
X87(fists, "fists (%[mem])")
X87(fistl, "fistl (%[mem])")
X87(fistpll, "fistpll (%[mem])")
X87(fisttpll, "fisttpll (%[mem])")
X87(fbstp, "fbstp (%[mem])")

// What ours does: *st0 and, if it is pushed, *pushed above it; mem for stores. Returns C0, C2, C3.
enum shape { REG, PUSH, LOAD, STORE, POP };
struct x87_case {
    const char *name;
    bool pair;
    enum shape shape;
    u16 conditions; // of C0, C2, C3: those that it decides
    x87_host *host;
    unsigned (*ours)(struct float_env *e, struct f80 *st0, struct f80 b, struct f80 *pushed, void *mem);
};
#define OURS87(name, ...) \
    static unsigned ours_##name(struct float_env *e, struct f80 *st0, struct f80 b, struct f80 *pushed, \
                                void *mem) \
    { \
        unsigned conditions = 0; \
        u64 x = 0; \
        memcpy(&x, mem, 8); \
        __VA_ARGS__; \
        return conditions; \
    }
OURS87(fadd, *st0 = f80_add(e, *st0, b))
OURS87(fsub, *st0 = f80_sub(e, *st0, b))
OURS87(fmul, *st0 = f80_mul(e, *st0, b))
OURS87(fdiv, *st0 = f80_div(e, *st0, b))
OURS87(fsqrt, *st0 = f80_sqrt(e, *st0))
OURS87(frndint, *st0 = f80_integral(e, *st0))
OURS87(fscale, *st0 = f80_scale(e, *st0, b))
static unsigned remainder_of(struct float_env *e, struct f80 *st0, struct f80 b, bool nearest)
{
    int q;
    *st0 = f80_remainder(e, *st0, b, nearest, &q);
    if (q < 0) return q == F80_PARTIAL ? 0x400 : 0;
    if (q & 1) e->flags |= FLOAT_UP; // C1 is a bit of the quotient
    return (q & 4 ? 0x100 : 0) | (q & 2 ? 0x4000 : 0);
}
OURS87(fprem, conditions = remainder_of(e, st0, b, false))
OURS87(fprem1, conditions = remainder_of(e, st0, b, true))
OURS87(fxtract, *pushed = f80_extract(e, *st0, st0))
OURS87(fcom, conditions = c3_c2_c0(f80_compare(e, *st0, b, true)))
OURS87(fucom, conditions = c3_c2_c0(f80_compare(e, *st0, b, false)))
OURS87(fxam, unsigned c = f80_classify(*st0);
       conditions = (c & 4 ? 0x4000u : 0) | (c & 2 ? 0x400u : 0) | (c & 1 ? 0x100u : 0);
       if (st0->se >> 15) e->flags |= FLOAT_UP)
OURS87(flds, *pushed = f80_from(e, FLOAT32, (u32)x))
OURS87(fldl, *pushed = f80_from(e, FLOAT64, x))
OURS87(filds, *pushed = f80_from_int((s16)x))
OURS87(fildll, *pushed = f80_from_int((s64)x))
OURS87(fbld, *pushed = f80_from_bcd(mem))
#define STORES(bytes, value) \
    u64 r = value; \
    if (!(e->flags & ~(unsigned)e->masks & 0x1F)) memcpy(mem, &r, bytes)
OURS87(fsts, STORES(4, f80_to(e, FLOAT32, *st0)))
OURS87(fstl, STORES(8, f80_to(e, FLOAT64, *st0)))
OURS87(fists, STORES(2, f80_to_int(e, *st0, 16)))
OURS87(fistl, STORES(4, f80_to_int(e, *st0, 32)))
OURS87(fistpll, STORES(8, f80_to_int(e, *st0, 64)))
OURS87(fisttpll, e->rounding = FLOAT_CHOP; STORES(8, f80_to_int(e, *st0, 64)))
OURS87(fbstp, u8 r[10]; f80_to_bcd(e, *st0, r);
       if (!(e->flags & ~(unsigned)e->masks & 0x1F)) memcpy(mem, r, 10))

#define CASE87(name, ...) \
    { \
#name, __VA_ARGS__, host_##name, ours_##name \
    }
static const struct x87_case x87_cases[] = {
    CASE87(fadd, true, REG, 0),       CASE87(fsub, true, REG, 0),       CASE87(fmul, true, REG, 0),
    CASE87(fdiv, true, REG, 0),       CASE87(fsqrt, false, REG, 0),     CASE87(frndint, false, REG, 0),
    CASE87(fscale, true, REG, 0),     CASE87(fprem, true, REG, 0x4500), CASE87(fprem1, true, REG, 0x4500),
    CASE87(fxtract, false, PUSH, 0),  CASE87(fcom, true, REG, 0x4500),  CASE87(fucom, true, REG, 0x4500),
    CASE87(fxam, false, REG, 0x4500), CASE87(flds, false, LOAD, 0),     CASE87(fldl, false, LOAD, 0),
    CASE87(filds, false, LOAD, 0),    CASE87(fildll, false, LOAD, 0),   CASE87(fbld, false, LOAD, 0),
    CASE87(fsts, false, STORE, 0),    CASE87(fstl, false, STORE, 0),    CASE87(fists, false, STORE, 0),
    CASE87(fistl, false, STORE, 0),   CASE87(fistpll, false, POP, 0),   CASE87(fisttpll, false, POP, 0),
    CASE87(fbstp, false, POP, 0),
};

static void x87_one(const struct x87_case *k, struct f80 a, struct f80 b, u16 fcw, u64 memory)
{
    struct image im;
    u8 host_mem[16] = {0}, our_mem[16];
    memcpy(host_mem, &memory, 8);
    if (!strcmp(k->name, "fbld")) // digits that are none are undefined
        for (unsigned i = 0; i < 9; i++) host_mem[i] = (u8)(pick(10) | pick(10) << 4);
    host_mem[9] = (u8)memory & 0x80;
    memcpy(our_mem, host_mem, 16);
    k->host(a, b, fcw, host_mem, &im);
    struct float_env e = x87_env(fcw);
    struct f80 st0 = a, pushed = {0};
    unsigned conditions = k->ours(&e, &st0, b, &pushed, our_mem);
    u16 flags = e.flags & 0x3F;
    compared++;
    // How far a reduction goes that is not complete is the processor's choice.
    if (conditions & im.fsw & 0x400 && !strncmp(k->name, "fprem", 5) && !__builtin_cpu_is("amd")) return;
    unsigned top = im.fsw >> 11 & 7, pending = flags & ~e.masks & 0x3F;
    unsigned expected = 6;
    if (k->shape == LOAD) pending &= ~(unsigned)FLOAT_DE; // loaded all the same
    if ((k->shape == PUSH || k->shape == LOAD) && !(pending & FLOAT_BEFORE)) expected = 5;
    if (k->shape == POP && !(pending & 0x1F)) expected = 7;
    if (top != expected) differ(k->name, fcw, "TOP", a.m, a.se, b.m, top, expected);
    if ((im.fsw & 0x3F) != flags)
        differ(k->name, fcw, "flags", a.m, (u64)b.se << 16 | a.se, b.m, im.fsw & 0x3F, flags);
    if (pending & FLOAT_BEFORE) st0 = a;
    unsigned at = expected == 5 ? 1 : 0;
    if (top == expected && expected != 7 && (im.st[at].m != st0.m || im.st[at].se != st0.se)) {
        differ(k->name, fcw, "m", a.m, (u64)b.se << 16 | a.se, b.m, im.st[at].m, st0.m);
        differ(k->name, fcw, "se", a.m, (u64)b.se << 16 | a.se, b.m, im.st[at].se, st0.se);
    }
    if (top == expected && expected == 5 && (im.st[0].m != pushed.m || im.st[0].se != pushed.se)) {
        differ(k->name, fcw, "pushed m", memory, a.m, a.se, im.st[0].m, pushed.m);
        differ(k->name, fcw, "pushed se", memory, a.m, a.se, im.st[0].se, pushed.se);
    }
    if (memcmp(host_mem, our_mem, 16))
        differ(k->name, fcw, "stored", a.m, a.se, b.m, *(u64 *)host_mem, *(u64 *)our_mem);
    u16 decided = (u16)(k->conditions | 0x200);
    if (pending & FLOAT_BEFORE) decided = 0;
    u16 ours = (u16)(conditions | (e.flags & FLOAT_UP)) & decided;
    if ((im.fsw & decided) != ours)
        differ(k->name, fcw, "conditions", a.m, (u64)b.se << 16 | a.se, b.m, im.fsw & decided, ours);
}

static u16 random_fcw(void)
{
    static const u16 precision[] = {0, 0x200, 0x300};
    u16 masks = pick(3) ? 0x3F : (u16)(rnd() & 0x3F);
    return (u16)(0x40 | masks | precision[pick(3)] | pick(4) << 10);
}
static void x87(void **state)
{
    static struct f80 list[SPECIALS_MAX];
    unsigned n = f80_specials(list);
    for (unsigned i = 0; i < ARRAY_LEN(x87_cases); i++) {
        const struct x87_case *k = &x87_cases[i];
        for (unsigned a = 0; a < n; a++)
            for (unsigned b = 0; b < (k->pair ? n : 1); b++)
                for (unsigned m = 0; m < (all_modes || !k->pair ? 24 : 1); m++)
                    x87_one(k, list[a], list[b], random_fcw(),
                            random_operand(!strcmp(k->name, "flds") ? FLOAT32 : FLOAT64, rnd()));
        for (unsigned long r = 0; r < rounds; r++) {
            struct f80 a = random_f80((struct f80){rnd(), (u16)rnd()});
            x87_one(k, a, random_f80(a), random_fcw(),
                    random_operand(!strcmp(k->name, "flds") ? FLOAT32 : FLOAT64, rnd()));
        }
    }
    assert_int_equal(wrong, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(x87)};
    return float_main(argc, argv, tests, ARRAY_LEN(tests));
}
#else
int main(void)
{
    printf("1..0 # SKIP no host to compare with\n");
    return 0;
}
#endif

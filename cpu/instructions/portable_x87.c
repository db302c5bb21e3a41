// The x87's instructions that compute, by cpu/float: what stands for the host's (HOST_FP,
// cpu/instructions/x87.c). Registers, tags, TOP and status word are changed here as the processor does: stack
// faults, the masked and the unmasked responses (SDM volume 1, 8.5; volume 2, each instruction).
#include "cpu/host/host.h"

#if !HOST_FP
#include <string.h>

#include "cpu/float/float.h"
#include "cpu/instructions/x87.h"

enum {
    C0 = 0x100,
    C1 = 0x200,
    C2 = 0x400,
    C3 = 0x4000,
    COMPARED = C0 | C2 | C3,
    STACK_FAULT = FSW_SF | FLOAT_IE
};
enum { STOPS_STORE = 0x1F };
static const struct f80 zero = {0, 0};

static unsigned at(const struct fpu_state *f, unsigned i) { return (x87_top(f) + i) & 7; }
static bool empty(const struct fpu_state *f, unsigned i) { return (f->ftw >> 2 * at(f, i) & 3) == 3; }
static struct f80 st(const struct fpu_state *f, unsigned i)
{
    return (struct f80){f->r[at(f, i)].m, f->r[at(f, i)].se};
}
static void set(struct fpu_state *f, unsigned i, struct f80 x)
{
    f->r[at(f, i)].m = x.m, f->r[at(f, i)].se = x.se;
    f->ftw &= (u16) ~(3 << 2 * at(f, i));
}
static void free_register(struct fpu_state *f, unsigned i) { f->ftw |= (u16)(3 << 2 * at(f, i)); }
static void turn(struct fpu_state *f, int by) // TOP
{
    f->fsw = (u16)((f->fsw & ~FSW_TOP) | ((f->fsw + by * 0x800) & FSW_TOP));
}
static void pop(struct fpu_state *f, unsigned n)
{
    for (; n; n--) free_register(f, 0), turn(f, 1);
}
static void push(struct fpu_state *f, struct f80 x)
{
    turn(f, -1);
    set(f, 0, x);
}

static struct float_env env_of(const struct fpu_state *f)
{
    static const u8 bits[] = {24, 64, 53, 64};
    return (struct float_env){.rounding = (enum float_rounding)(f->fcw >> 10 & 3),
                              .masks = f->fcw & FLOAT_ALL,
                              .precision = bits[f->fcw >> 8 & 3]};
}
// The flags of an operation into the status word: C1 says that it rounded up. False: it has no result.
static bool done(struct fpu_state *f, const struct float_env *e)
{
    f->fsw = (u16)((f->fsw & ~C1) | (e->flags & (FLOAT_ALL | FLOAT_UP | FSW_SF)));
    return !float_stops(e);
}
// A register is empty that must not be, or full (C1): false, if unmasked, where nothing else happens.
static bool stack_fault(struct fpu_state *f, bool overflow)
{
    f->fsw = (u16)((f->fsw & ~C1) | STACK_FAULT | (overflow ? C1 : 0));
    return f->fcw & FLOAT_IE;
}

static void put_on(struct fpu_state *f, struct float_env *e, struct f80 x) // with what its loading brought
{
    if (!empty(f, 7)) {
        if (stack_fault(f, true)) push(f, F80_INDEFINITE);
        return;
    }
    e->masks |= FLOAT_DE; // loaded all the same
    if (done(f, e)) push(f, x);
}

// ---- arithmetic: ST(0) = a and b, the other operand, to ST(to) ----
static struct f80 compute(struct float_env *e, unsigned digit, struct f80 a, struct f80 b)
{
    switch (digit) {
    case 0: return f80_add(e, a, b);
    case 1: return f80_mul(e, a, b);
    case 4: return f80_sub(e, a, b);
    case 5: return f80_sub(e, b, a);
    case 6: return f80_div(e, a, b);
    default: return f80_div(e, b, a);
    }
}
static void arithmetic(struct fpu_state *f, unsigned digit, struct f80 b, bool denormal, bool missing,
                       unsigned to, bool pops)
{
    struct f80 r = F80_INDEFINITE;
    if (missing) {
        if (!stack_fault(f, false)) return;
    } else {
        struct float_env e = env_of(f);
        e.denormal = denormal;
        r = compute(&e, digit, st(f, 0), b);
        if (!done(f, &e)) return;
    }
    set(f, to, r);
    pop(f, pops);
}

// ---- compares: of ST(0) with b ----
static bool compare(struct fpu_state *f, struct f80 b, bool denormal, bool missing, bool signals,
                    enum float_order *order)
{
    *order = FLOAT_UNORDERED;
    if (missing) return stack_fault(f, false);
    struct float_env e = env_of(f);
    e.denormal = denormal;
    *order = f80_compare(&e, st(f, 0), b, signals);
    return done(f, &e);
}
static void into_status(struct fpu_state *f, struct f80 b, bool denormal, bool missing, bool signals,
                        unsigned pops)
{
    static const u16 of[] = {
        [FLOAT_LESS] = C0, [FLOAT_EQUAL] = C3, [FLOAT_GREATER] = 0, [FLOAT_UNORDERED] = COMPARED};
    enum float_order order;
    bool goes_on = compare(f, b, denormal, missing, signals, &order);
    f->fsw = (u16)((f->fsw & ~COMPARED) | of[order]);
    if (goes_on) pop(f, pops);
}
static void into_flags(struct fpu_state *f, unsigned i, bool signals, bool pops, u16 *flags)
{
    static const u16 of[] = {[FLOAT_LESS] = AX_CF,
                             [FLOAT_EQUAL] = AX_ZF,
                             [FLOAT_GREATER] = 0,
                             [FLOAT_UNORDERED] = AX_ZF | AX_PF | AX_CF};
    enum float_order order;
    bool missing = empty(f, 0) || empty(f, i);
    u16 c1 = missing ? 0 : f->fsw & C1;
    bool goes_on = compare(f, st(f, i), false, missing, signals, &order);
    f->fsw |= c1; // stays, but for a stack fault
    *flags = 0x200 | of[order];
    if (goes_on) pop(f, pops);
}

// ---- without arithmetic ----
static void exchange(struct fpu_state *f, unsigned i)
{
    struct f80 a = st(f, 0), b = st(f, i);
    f->fsw &= (u16)~C1;
    if (empty(f, 0) || empty(f, i)) {
        if (!stack_fault(f, false)) return;
        if (empty(f, 0)) a = F80_INDEFINITE;
        if (empty(f, i)) b = F80_INDEFINITE;
    }
    set(f, 0, b);
    set(f, i, a);
}
static void copy_to(struct fpu_state *f, unsigned i, bool pops)
{
    struct f80 x = st(f, 0);
    f->fsw &= (u16)~C1;
    if (empty(f, 0)) {
        if (!stack_fault(f, false)) return;
        x = F80_INDEFINITE;
    }
    set(f, i, x);
    pop(f, pops);
}
// FSTP by D9: of an empty register nothing is copied, and that is no fault.
static void copy_unchecked(struct fpu_state *f, unsigned i)
{
    f->fsw &= (u16)~C1;
    if (!empty(f, 0)) set(f, i, st(f, 0));
    pop(f, 1);
}
static void copy_from(struct fpu_state *f, unsigned i)
{
    struct float_env e = env_of(f);
    struct f80 x = st(f, i);
    if (empty(f, i)) {
        if (!stack_fault(f, false)) return;
        push(f, F80_INDEFINITE);
        return;
    }
    put_on(f, &e, x);
}
static void move_if(struct fpu_state *f, unsigned i, bool condition)
{
    if (empty(f, 0) || empty(f, i)) {
        if (stack_fault(f, false)) set(f, 0, F80_INDEFINITE);
        return;
    }
    if (condition) set(f, 0, st(f, i));
}
static void examine(struct fpu_state *f)
{
    unsigned k = empty(f, 0) ? F80_EMPTY : f80_classify(st(f, 0));
    u16 c = (u16)((k & 4 ? C3 : 0) | (k & 2 ? C2 : 0) | (k & 1 ? C0 : 0) | (st(f, 0).se >> 15 ? C1 : 0));
    f->fsw = (u16)((f->fsw & ~(COMPARED | C1)) | c);
}
// 1, log2(10), log2(e), pi, log10(2), ln(2), 0, by the rounding control.
static void constant(struct fpu_state *f, unsigned n)
{
    static const struct {
        struct f80 below;
        bool exact, nearer_above;
    } of[] = {{{0x8000000000000000, 0x3FFF}, true, false},
              {{0xD49A784BCD1B8AFE, 0x4000}, false, false},
              {{0xB8AA3B295C17F0BB, 0x3FFF}, false, true},
              {{0xC90FDAA22168C234, 0x4000}, false, true},
              {{0x9A209A84FBCFF798, 0x3FFD}, false, true},
              {{0xB17217F7D1CF79AB, 0x3FFE}, false, true},
              {{0, 0}, true, false}};
    struct float_env e = env_of(f);
    struct f80 x = of[n].below;
    if (!of[n].exact && (e.rounding == FLOAT_TO_PLUS || (e.rounding == FLOAT_NEAREST && of[n].nearer_above)))
        x.m++;
    put_on(f, &e, x);
}

// ---- of ST(0), or of ST(0) and ST(1) ----
typedef struct f80 unary(struct float_env *e, struct f80 a);
static void alone(struct fpu_state *f, unary *op)
{
    struct float_env e = env_of(f);
    struct f80 r = F80_INDEFINITE;
    if (empty(f, 0)) {
        if (!stack_fault(f, false)) return;
    } else {
        r = op(&e, st(f, 0));
        if (!done(f, &e)) return;
    }
    set(f, 0, r);
}
static void scale(struct fpu_state *f)
{
    struct float_env e = env_of(f);
    struct f80 r = F80_INDEFINITE;
    if (empty(f, 0) || empty(f, 1)) {
        if (!stack_fault(f, false)) return;
    } else {
        r = f80_scale(&e, st(f, 0), st(f, 1));
        if (!done(f, &e)) return;
    }
    set(f, 0, r);
}
static void reduce(struct fpu_state *f, bool nearest)
{
    struct float_env e = env_of(f);
    f->fsw &= (u16)~C2; // the others stay if there is no quotient
    if (empty(f, 0) || empty(f, 1)) {
        if (stack_fault(f, false)) set(f, 0, F80_INDEFINITE);
        return;
    }
    int q;
    struct f80 r = f80_remainder(&e, st(f, 0), st(f, 1), nearest, &q);
    if (!done(f, &e)) return;
    set(f, 0, r);
    if (q == F80_PARTIAL)
        f->fsw = (u16)((f->fsw & ~(COMPARED | C1)) | C2);
    else if (q >= 0)
        f->fsw = (u16)(f->fsw & ~(C0 | C3)) | (u16)((q & 4 ? C0 : 0) | (q & 2 ? C3 : 0) | (q & 1 ? C1 : 0));
}
static void extract(struct fpu_state *f)
{
    struct float_env e = env_of(f);
    struct f80 exponent = F80_INDEFINITE, significand = F80_INDEFINITE;
    bool missing = empty(f, 0), overflow = !missing && !empty(f, 7);
    if (missing || overflow) {
        if (!stack_fault(f, overflow)) return;
    } else {
        significand = f80_extract(&e, st(f, 0), &exponent);
        if (!done(f, &e)) return;
    }
    set(f, 0, exponent);
    push(f, significand);
}
// Of ST(1) and ST(0), to ST(1), which is ST(0) then.
static void pair(struct fpu_state *f, struct f80 (*op)(struct float_env *e, struct f80 b, struct f80 a))
{
    struct float_env e = env_of(f);
    struct f80 r = F80_INDEFINITE;
    if (empty(f, 0) || empty(f, 1)) {
        if (!stack_fault(f, false)) return;
    } else {
        r = op(&e, st(f, 1), st(f, 0));
        if (!done(f, &e)) return;
    }
    set(f, 1, r);
    pop(f, 1);
}
// FSIN, FCOS; with `pushes` FPTAN (1 is pushed) and FSINCOS (the cosine is).
typedef struct f80 angle(struct float_env *e, struct f80 a, bool *out_of_range);
static struct f80 unit(struct float_env *e, struct f80 a, bool *out_of_range)
{
    return e->flags & FLOAT_IE || f80_classify(a) == F80_NAN ? f80_sin(e, a, out_of_range)
                                                             : (struct f80){BIT(63), 0x3FFF};
}
static void of_angle(struct fpu_state *f, angle *op, angle *pushes)
{
    struct float_env e = env_of(f), other = e;
    struct f80 r = F80_INDEFINITE, second = F80_INDEFINITE;
    bool missing = empty(f, 0), overflow = !missing && pushes && !empty(f, 7), out_of_range = false;
    f->fsw &= (u16)~C2;
    if (missing || overflow) {
        if (!stack_fault(f, overflow)) return;
    } else {
        struct f80 a = st(f, 0);
        r = op(&e, a, &out_of_range);
        other.flags = e.flags & FLOAT_IE;
        if (pushes && !out_of_range) second = pushes(&other, a, &out_of_range);
        e.flags |= other.flags & FLOAT_ALL;
        if (!done(f, &e)) return;
        if (out_of_range) {
            f->fsw |= C2;
            return;
        }
    }
    set(f, 0, r);
    if (pushes) push(f, second);
}
static struct f80 absolute(struct float_env *e, struct f80 a) { return (struct f80){a.m, a.se & 0x7FFF}; }
static struct f80 negated(struct float_env *e, struct f80 a) { return (struct f80){a.m, a.se ^ 0x8000}; }

static void group_d9(struct fpu_state *f, u8 modrm)
{
    switch (modrm) {
    case 0xD0: return; // FNOP
    case 0xE0: alone(f, negated); return;
    case 0xE1: alone(f, absolute); return;
    case 0xE4: into_status(f, zero, false, empty(f, 0), true, 0); return;
    case 0xE5: examine(f); return;
    case 0xF0: alone(f, f80_exp2m1); return;
    case 0xF1: pair(f, f80_ylog2); return;
    case 0xF2: of_angle(f, f80_tan, unit); return;
    case 0xF3: pair(f, f80_atan); return;
    case 0xF4: extract(f); return;
    case 0xF5: reduce(f, true); return;
    case 0xF6: turn(f, -1), f->fsw &= (u16)~C1; return;
    case 0xF7: turn(f, 1), f->fsw &= (u16)~C1; return;
    case 0xF8: reduce(f, false); return;
    case 0xF9: pair(f, f80_ylog2p1); return;
    case 0xFA: alone(f, f80_sqrt); return;
    case 0xFB: of_angle(f, f80_sin, f80_cos); return;
    case 0xFC: alone(f, f80_integral); return;
    case 0xFD: scale(f); return;
    case 0xFE: of_angle(f, f80_sin, NULL); return;
    case 0xFF: of_angle(f, f80_cos, NULL); return;
    default: constant(f, modrm - 0xE8u); return; // E8 to EE
    }
}
static void group_da_db(struct fpu_state *f, u8 op, unsigned digit, unsigned i, u16 *flags)
{
    static const u16 tested[] = {AX_CF, AX_ZF, AX_CF | AX_ZF, AX_PF};
    if (digit < 4)
        move_if(f, i, !(*flags & tested[digit]) == (op == 0xDB));
    else if (op == 0xDA)
        into_status(f, st(f, 1), false, empty(f, 0) || empty(f, 1), false, 2); // FUCOMPP
    else
        into_flags(f, i, digit == 6, false, flags);
}
static void group_dd_df(struct fpu_state *f, u8 op, unsigned digit, unsigned i, u16 *flags)
{
    switch (digit) {
    case 0:
        f->fsw &= (u16)~C1;
        free_register(f, i);
        if (op == 0xDF) turn(f, 1), f->ftw |= (u16)(3 << 2 * at(f, 7)); // FFREEP
        break;
    case 1: exchange(f, i); break;
    case 2: copy_to(f, i, op == 0xDF); break;
    case 3: copy_to(f, i, true); break;
    default:
        if (op == 0xDF)
            into_flags(f, i, digit == 6, true, flags);
        else
            into_status(f, st(f, i), false, empty(f, 0) || empty(f, i), false, digit == 5);
    }
}

void portable_x87_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags)
{
    unsigned digit = modrm >> 3 & 7, i = modrm & 7;
    bool missing = empty(f, 0) || empty(f, i);
    switch (op) {
    case 0xD9:
        if (digit == 0)
            copy_from(f, i);
        else if (digit == 1)
            exchange(f, i);
        else if (digit == 3)
            copy_unchecked(f, i);
        else
            group_d9(f, modrm);
        break;
    case 0xDA:
    case 0xDB: group_da_db(f, op, digit, i, flags); break;
    case 0xDD:
    case 0xDF: group_dd_df(f, op, digit, i, flags); break;
    default: // D8, DC, DE
        if (digit == 2 || digit == 3)
            into_status(f, st(f, i), false, missing, true, digit == 2 ? op == 0xDE : op == 0xDE ? 2 : 1);
        else
            arithmetic(f, digit, st(f, i), false, missing, op == 0xD8 ? 0 : i, op == 0xDE);
    }
    x87_update_es(f);
}

// ---- with memory ----
static u64 bytes(const void *mem, unsigned n)
{
    u64 x = 0;
    memcpy(&x, mem, n);
    return x;
}
void portable_x87_load(struct fpu_state *f, u8 op, u8 digit, const void *mem)
{
    struct float_env e = env_of(f);
    bool denormal = false;
    struct f80 x;
    if (!(op & 1)) {
        switch (op) {
        case 0xD8: x = f80_widen(FLOAT32, bytes(mem, 4), &denormal); break;
        case 0xDA: x = f80_from_int((s32)bytes(mem, 4)); break;
        case 0xDC: x = f80_widen(FLOAT64, bytes(mem, 8), &denormal); break;
        default: x = f80_from_int((s16)bytes(mem, 2)); break;
        }
        if (digit == 2 || digit == 3)
            into_status(f, x, denormal, empty(f, 0), true, digit == 3);
        else
            arithmetic(f, digit, x, denormal, empty(f, 0), 0, false);
    } else {
        switch (op << 4 | digit) {
        case 0xD90: x = f80_from(&e, FLOAT32, bytes(mem, 4)); break;
        case 0xDD0: x = f80_from(&e, FLOAT64, bytes(mem, 8)); break;
        case 0xDB0: x = f80_from_int((s32)bytes(mem, 4)); break;
        case 0xDF0: x = f80_from_int((s16)bytes(mem, 2)); break;
        case 0xDF4: x = f80_from_bcd(mem); break;
        case 0xDF5: x = f80_from_int((s64)bytes(mem, 8)); break;
        default: x = (struct f80){bytes(mem, 8), (u16)bytes((const u8 *)mem + 8, 2)}; break;
        }
        put_on(f, &e, x);
    }
    x87_update_es(f);
}

// Whether there is something to be stored.
bool portable_x87_store(struct fpu_state *f, u8 op, u8 digit, void *mem)
{
    struct float_env e = env_of(f);
    struct f80 a = st(f, 0);
    // What is stored of an empty register is that of an operand that is no number, in each format.
    static const struct f80 none = {1, 1}; // an unsupported encoding
    bool missing = empty(f, 0);
    if (missing) a = none;
    u8 r[10] = {0};
    u64 x = 0;
    if (digit == 1) e.rounding = FLOAT_CHOP; // FISTTP
    switch (op << 4 | digit) {
    case 0xD92:
    case 0xD93: x = f80_to(&e, FLOAT32, a); break;
    case 0xDD2:
    case 0xDD3: x = f80_to(&e, FLOAT64, a); break;
    case 0xDB1:
    case 0xDB2:
    case 0xDB3: x = f80_to_int(&e, a, 32); break;
    case 0xDF1:
    case 0xDF2:
    case 0xDF3: x = f80_to_int(&e, a, 16); break;
    case 0xDD1:
    case 0xDF7: x = f80_to_int(&e, a, 64); break;
    case 0xDF6: f80_to_bcd(&e, a, r); break;
    default:
        if (missing) a = F80_INDEFINITE;
        x = a.m;
        memcpy(r + 8, &a.se, 2);
    }
    if (op != 0xDF || digit != 6) memcpy(r, &x, 8);
    if (missing) e.flags = STACK_FAULT;
    done(f, &e);
    bool stores = !(e.flags & ~(unsigned)e.masks & STOPS_STORE);
    if (stores) {
        static const u8 size[8] = {4, 4, 4, 4, 8, 8, 2, 2};
        unsigned n = op == 0xDB && digit == 7   ? 10
                     : op == 0xDF && digit >= 4 ? (digit & 1 ? 8 : 10)
                                                : size[op & 7];
        memcpy(mem, r, n);
        if (digit != 2) pop(f, 1);
    }
    x87_update_es(f);
    return stores;
}
#endif

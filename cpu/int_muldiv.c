// Shifts, rotates, multiplication, division, bit tests and scans, and the decimal adjustments.
#include "cpu/alu.h"
#include "cpu/bodies.h"

// ---- shifts and rotates ----
static u16 with_cf_of(u16 f, bool cf, bool of) { return (u16)((f & ~(F_CF | F_OF)) | (cf ? F_CF : 0) | (of ? F_OF : 0)); }

u64 alu_shift(unsigned op, unsigned w, u64 a, unsigned count, u16 *fl)
{
    unsigned bits = width_bits(w);
    u64 m = width_mask(w), r;
    bool cf = *fl >> 8 & 1, top;
    a &= m;
    switch (op) {
    case 0: { // ROL
        unsigned c = count % bits;
        r = c ? ((a << c) | (a >> (bits - c))) & m : a;
        cf = r & 1, top = r >> (bits - 1) & 1;
        *fl = with_cf_of(*fl, cf, top ^ cf);
        return r;
    }
    case 1: { // ROR
        unsigned c = count % bits;
        r = c ? ((a >> c) | (a << (bits - c))) & m : a;
        cf = r >> (bits - 1) & 1;
        *fl = with_cf_of(*fl, cf, cf ^ (r >> (bits - 2) & 1));
        return r;
    }
    case 2: { // RCL: through CF, modulo bits + 1
        unsigned c = count % (bits + 1);
        r = a;
        if (c) {
            u64 lo = c > 1 ? a >> (bits + 1 - c) : 0;
            bool out = a >> (bits - c) & 1;
            r = ((c < 64 ? a << c : 0) | (u64)cf << (c - 1) | lo) & m;
            cf = out;
        }
        *fl = with_cf_of(*fl, cf, (r >> (bits - 1) & 1) ^ cf);
        return r;
    }
    case 3: { // RCR
        unsigned c = count % (bits + 1);
        bool of = (a >> (bits - 1) & 1) ^ cf;
        r = a;
        if (c) {
            u64 hi = c > 1 ? a << (bits + 1 - c) : 0;
            bool out = a >> (c - 1) & 1;
            r = ((c < 64 ? a >> c : 0) | (u64)cf << (bits - c) | hi) & m;
            cf = out;
            of = (r >> (bits - 1) ^ r >> (bits - 2)) & 1;
        } else
            of = (r >> (bits - 1) ^ r >> (bits - 2)) & 1;
        *fl = with_cf_of(*fl, cf, of);
        return r;
    }
    case 4:
    case 6: // SHL
        r = count < bits ? (a << count) & m : 0;
        cf = count <= bits ? a >> (bits - count) & 1 : 0;
        top = r >> (bits - 1) & 1;
        *fl = with_cf_of(fl_result(r, w), cf, top ^ cf);
        return r;
    case 5: // SHR
        r = count < bits ? a >> count : 0;
        cf = count <= bits ? a >> (count - 1) & 1 : 0;
        *fl = with_cf_of(fl_result(r, w), cf, count == 1 ? a >> (bits - 1) & 1 : (r >> (bits - 2) & 1));
        return r;
    default: { // SAR
        s64 x = (s64)(a << (64 - bits)) >> (64 - bits);
        unsigned c = count < bits ? count : bits - 1;
        r = (u64)(x >> c) & m;
        cf = count < bits ? (u64)x >> (count - 1) & 1 : (u64)x >> 63;
        *fl = with_cf_of(fl_result(r, w), cf, false);
        return r;
    }
    }
}

enum { COUNT_1, COUNT_CL, COUNT_IMM };
ALWAYS_INLINE bool shift_body(struct vcpu *v, const struct insn *in, unsigned op, unsigned from, unsigned w, unsigned form, bool nf,
                              bool fast)
{
    unsigned count = from == COUNT_1 ? 1 : from == COUNT_CL ? REG8(v, GPR_OFF(RCX)) : (u8)in->imm;
    count &= w == W64 ? 63 : 31;
    u16 f = v->s.fl;
    if (fast && form == FORM_REG) {
        u64 a = reg_get(v, in->m, w);
        if (from != COUNT_1 && count == 0) {
            if (w == W32) reg_set(v, in->m, w, a); // zero-extends all the same
            return true;
        }
        if (w >= W32 && op < 2) { // rotates: the other flags stay
            unsigned bits = width_bits(w);
            u64 m = width_mask(w), r = op == 0 ? ((a << count) | (a >> (bits - count))) & m : ((a >> count) | (a << (bits - count))) & m;
            bool top = r >> (bits - 1) & 1;
            v->s.fl = op == 0 ? with_cf_of(v->s.fl, r & 1, top ^ (r & 1)) : with_cf_of(v->s.fl, top, top ^ (r >> (bits - 2) & 1));
            reg_set(v, in->m, w, r);
            return true;
        }
        if (w >= W32 && op >= 4) { // the common ones, inline
            u64 m = width_mask(w), r;
            unsigned bits = width_bits(w);
            bool cf, of;
            if (op == 4) {
                r = (a << count) & m, cf = a >> (bits - count) & 1;
                of = (r >> (bits - 1) & 1) ^ cf;
            } else if (op == 5) {
                r = a >> count, cf = a >> (count - 1) & 1;
                of = count == 1 ? a >> (bits - 1) & 1 : (r >> (bits - 2) & 1);
            } else {
                s64 x = (s64)(a << (64 - bits)) >> (64 - bits);
                r = (u64)(x >> count) & m, cf = (u64)x >> (count - 1) & 1, of = false;
            }
            if (!nf) v->s.fl = with_cf_of(fl_result(r, w), cf, of);
            reg_set(v, in->m, w, r);
            return true;
        }
        return false;
    }
    if (fast) return false;
    struct rmw m;
    u64 a = rm_open(v, in, w, &m);
    if (count == 0) {
        rm_commit(v, in, w, &m, a);
        return true;
    }
    u64 r = alu_shift(op, w, a, count, &f);
    rm_commit(v, in, w, &m, r);
    v->s.fl = f;
    return true;
}
#define SHIFT(name, op)                                                                                                \
    BODY4(name##_1, shift_body, op, COUNT_1)                                                                           \
    BODY4(name##_cl, shift_body, op, COUNT_CL)                                                                         \
    BODY4(name##_i, shift_body, op, COUNT_IMM)
SHIFT(rol, 0) SHIFT(ror, 1) SHIFT(rcl, 2) SHIFT(rcr, 3) SHIFT(shl, 4) SHIFT(shr, 5) SHIFT(sar, 7)

u64 alu_shld(unsigned w, u64 a, u64 b, unsigned count, u16 *fl)
{
    unsigned bits = width_bits(w);
    u64 m = width_mask(w), r;
    bool cf;
    a &= m, b &= m;
    if (w == W16) { // counts over 16: undefined; what the processor's 32-bit rotate of dest:src:dest leaves
        u64 x = a << 32 | b << 16 | a;
        r = (x << count) >> 32 & m;
        cf = x >> (48 - count) & 1;
    } else {
        r = ((a << count) | (b >> (bits - count))) & m;
        cf = a >> (bits - count) & 1;
    }
    *fl = with_cf_of(fl_result(r, w), cf, ((r ^ a) >> (bits - 1)) & 1);
    return r;
}
u64 alu_shrd(unsigned w, u64 a, u64 b, unsigned count, u16 *fl)
{
    unsigned bits = width_bits(w);
    u64 m = width_mask(w), r;
    bool cf;
    a &= m, b &= m;
    if (w == W16) {
        u64 x = a << 32 | b << 16 | a;
        r = x >> count & m;
        cf = x >> (count - 1) & 1;
    } else {
        r = ((a >> count) | (b << (bits - count))) & m;
        cf = a >> (count - 1) & 1;
    }
    *fl = with_cf_of(fl_result(r, w), cf, ((r ^ a) >> (bits - 1)) & 1);
    return r;
}
static void double_shift(struct vcpu *v, const struct insn *in, bool left, unsigned count)
{
    unsigned w = in->osz;
    struct rmw m;
    u16 f = v->s.fl;
    count &= w == W64 ? 63 : 31;
    u64 a = rm_open(v, in, w, &m), b = reg_get(v, in->r, w);
    u64 r = count == 0 ? a : left ? alu_shld(w, a, b, count, &f) : alu_shrd(w, a, b, count, &f);
    rm_commit(v, in, w, &m, r);
    v->s.fl = f;
}
void op_shld_i(struct vcpu *v, const struct insn *in) { double_shift(v, in, true, (u8)in->imm); }
void op_shld_cl(struct vcpu *v, const struct insn *in) { double_shift(v, in, true, REG8(v, GPR_OFF(RCX))); }
void op_shrd_i(struct vcpu *v, const struct insn *in) { double_shift(v, in, false, (u8)in->imm); }
void op_shrd_cl(struct vcpu *v, const struct insn *in) { double_shift(v, in, false, REG8(v, GPR_OFF(RCX))); }

// ---- multiplication: SF, ZF, AF, PF are undefined; SF as the low half has it, the rest 0 ----
static u16 mul_flags(bool overflow, u64 low, unsigned w)
{
    u16 f = fl_result(low, w);
    return overflow ? f | F_CF | F_OF : f;
}
static void multiply(struct vcpu *v, const struct insn *in, bool is_signed)
{
    unsigned w = in->osz, bits = width_bits(w);
    u64 b = rm_load(v, in, w), a = reg_get(v, GPR_OFF(RAX), w), lo, hi;
    bool over;
    if (w == W64) {
        unsigned __int128 p = is_signed ? (unsigned __int128)((__int128)(s64)a * (s64)b) : (unsigned __int128)a * b;
        lo = (u64)p, hi = (u64)(p >> 64);
    } else {
        u64 p = is_signed ? (u64)(((s64)(a << (64 - bits)) >> (64 - bits)) * ((s64)(b << (64 - bits)) >> (64 - bits))) : a * b;
        lo = p & width_mask(w), hi = p >> bits & width_mask(w);
    }
    u64 sign = (lo >> (bits - 1) & 1) ? width_mask(w) : 0;
    over = is_signed ? hi != sign : hi != 0;
    if (w == W8)
        REG16(v, 0) = (u16)(hi << 8 | lo);
    else {
        reg_set(v, GPR_OFF(RAX), w, lo);
        reg_set(v, GPR_OFF(RDX), w, hi);
    }
    v->s.fl = mul_flags(over, lo, w);
}
void op_mul(struct vcpu *v, const struct insn *in) { multiply(v, in, false); }
void op_imul1(struct vcpu *v, const struct insn *in) { multiply(v, in, true); }

ALWAYS_INLINE bool imul_body(struct vcpu *v, const struct insn *in, bool imm, unsigned w, unsigned form, bool nf, bool fast)
{
    u64 b;
    if (!source_rm(v, in, form, fast, w, &b)) return false;
    u64 a = imm ? in->imm : reg_get(v, in->r, w), r;
    bool over;
    if (w == W64) {
        s64 x;
        over = __builtin_mul_overflow((s64)a, (s64)b, &x);
        r = (u64)x;
    } else if (w == W32) {
        s32 x;
        over = __builtin_mul_overflow((s32)a, (s32)b, &x);
        r = (u32)x;
    } else {
        s32 x = (s32)(s16)a * (s16)b;
        over = x != (s16)x;
        r = (u16)x;
    }
    if (!nf) {
        u16 f = fl_result(r, w);
        v->s.fl = over ? f | F_CF | F_OF : f;
    }
    reg_set(v, in->r, w, r);
    return true;
}
BODY4(imul_GE, imul_body, false)
BODY4(imul_GEI, imul_body, true)

// ---- division: all flags undefined, left as they are ----
void op_div(struct vcpu *v, const struct insn *in)
{
    unsigned w = in->osz;
    u64 d = rm_load(v, in, w);
    if (d == 0) raise_fault(v, VEC_DE);
    if (w == W8) {
        u64 n = REG16(v, 0), q = n / d;
        if (q > 0xFF) raise_fault(v, VEC_DE);
        REG16(v, 0) = (u16)(n % d << 8 | q);
    } else if (w == W64) {
        u64 hi = v->s.gpr[RDX], lo = v->s.gpr[RAX];
        if (hi >= d) raise_fault(v, VEC_DE);
        unsigned __int128 n = (unsigned __int128)hi << 64 | lo;
        u64 q, r;
        if (hi == 0)
            q = lo / d, r = lo % d;
        else
            q = (u64)(n / d), r = (u64)(n % d);
        v->s.gpr[RAX] = q, v->s.gpr[RDX] = r;
    } else {
        u64 n = reg_get(v, GPR_OFF(RDX), w) << width_bits(w) | reg_get(v, GPR_OFF(RAX), w), q = n / d;
        if (q > width_mask(w)) raise_fault(v, VEC_DE);
        reg_set(v, GPR_OFF(RAX), w, q);
        reg_set(v, GPR_OFF(RDX), w, n % d);
    }
}
void op_idiv(struct vcpu *v, const struct insn *in)
{
    unsigned w = in->osz, bits = width_bits(w);
    u64 raw = rm_load(v, in, w);
    s64 d = (s64)(raw << (64 - bits)) >> (64 - bits);
    if (d == 0) raise_fault(v, VEC_DE);
    __int128 n;
    if (w == W8)
        n = (s16)REG16(v, 0);
    else if (w == W64)
        n = (__int128)((unsigned __int128)v->s.gpr[RDX] << 64 | v->s.gpr[RAX]);
    else {
        u64 x = reg_get(v, GPR_OFF(RDX), w) << bits | reg_get(v, GPR_OFF(RAX), w);
        n = w == W32 ? (s64)x : (s32)x;
    }
    if (d == -1 && n == (__int128)((unsigned __int128)1 << 127)) raise_fault(v, VEC_DE); // the host would trap
    __int128 q = n / d, r = n % d;
    __int128 max = ((__int128)1 << (bits - 1)) - 1;
    if (q > max || q < -max - 1) raise_fault(v, VEC_DE);
    if (w == W8)
        REG16(v, 0) = (u16)((u8)r << 8 | (u8)q);
    else {
        reg_set(v, GPR_OFF(RAX), w, (u64)q);
        reg_set(v, GPR_OFF(RDX), w, (u64)r);
    }
}

// ---- bit tests: with a register offset, memory is addressed as a bit string ----
enum { BIT_T, BIT_S, BIT_R, BIT_C };
static u64 bit_apply(unsigned op, u64 a, unsigned n)
{
    switch (op) {
    case BIT_S: return a | 1ull << n;
    case BIT_R: return a & ~(1ull << n);
    case BIT_C: return a ^ 1ull << n;
    default: return a;
    }
}
ALWAYS_INLINE bool bt_body(struct vcpu *v, const struct insn *in, unsigned op, bool imm, unsigned w, unsigned form, bool nf, bool fast)
{
    unsigned bits = width_bits(w);
    u64 raw = imm ? in->imm : reg_get(v, in->r, w);
    unsigned n = (unsigned)raw & (bits - 1);
    u64 a;
    if (fast) {
        if (form != FORM_REG) return false;
        a = reg_get(v, in->m, w);
        if (op != BIT_T) reg_set(v, in->m, w, bit_apply(op, a, n));
    } else if (!in->mem) {
        a = reg_get(v, in->m, w);
        if (op != BIT_T) reg_set(v, in->m, w, bit_apply(op, a, n));
    } else {
        u64 ea = insn_ea(v, in);
        if (!imm) {
            s64 x = (s64)(raw << (64 - bits)) >> (64 - bits);
            ea += (u64)((x >> (w + 3)) * (s64)W_BYTES(w));
            ea = in->asz == W64 ? ea : in->asz == W32 ? (u32)ea : (u16)ea;
        }
        laddr la = seg_linear(v, in->seg, ea, W_BYTES(w), op == BIT_T ? ACC_READ : ACC_WRITE);
        struct rmw m;
        if (op == BIT_T)
            a = lin_load(v, la, W_BYTES(w));
        else {
            a = rmw_open(v, la, W_BYTES(w), &m);
            rmw_commit(v, &m, bit_apply(op, a, n));
        }
    }
    v->s.fl = (u16)((v->s.fl & ~F_CF) | ((a >> n & 1) ? F_CF : 0));
    return true;
}
#define BT(name, op) BODY4(name##_r, bt_body, op, false) BODY4(name##_i, bt_body, op, true)
BT(bt, BIT_T) BT(bts, BIT_S) BT(btr, BIT_R) BT(btc, BIT_C)

// BSF, BSR: ZF by the source; a zero source leaves the destination (as both vendors' processors do, AMD documents it).
// The other flags are undefined: CF = OF = AF = 0, SF and PF of the source.
ALWAYS_INLINE bool scan_body(struct vcpu *v, const struct insn *in, bool reverse, unsigned w, unsigned form, bool nf, bool fast)
{
    u64 a;
    if (!source_rm(v, in, form, fast, w, &a)) return false;
    if (!nf) v->s.fl = fl_result(a, w);
    if (a)
        reg_set(v, in->r, w, reverse ? 63u - (unsigned)__builtin_clzll(a) : (unsigned)__builtin_ctzll(a));
    return true;
}
BODY4(bsf, scan_body, false)
BODY4(bsr, scan_body, true)

// ---- decimal adjustments (SDM volume 2) ----
void op_daa_das(struct vcpu *v, const struct insn *in)
{
    bool sub = in->op == 0x2F, cf = v->s.fl & F_CF, af = v->s.fl & F_AF, carry = false;
    u8 al = REG8(v, 0), old = al;
    if ((al & 15) > 9 || af) {
        carry = cf || (sub ? al < 6 : al > 0xF9);
        al = (u8)(sub ? al - 6 : al + 6);
        af = true;
    } else
        af = false;
    if (old > 0x99 || cf) {
        al = (u8)(sub ? al - 0x60 : al + 0x60);
        carry = true;
    } else if (!sub)
        carry = false;
    REG8(v, 0) = al;
    v->s.fl = (u16)(fl_result(al, W8) | (carry ? F_CF : 0) | (af ? F_AF : 0));
}
void op_aaa_aas(struct vcpu *v, const struct insn *in)
{
    bool sub = in->op == 0x3F, adjust = (REG8(v, 0) & 15) > 9 || (v->s.fl & F_AF);
    if (adjust) REG16(v, 0) = (u16)(sub ? REG16(v, 0) - 0x106 : REG16(v, 0) + 0x106);
    REG8(v, 0) &= 15;
    u16 f = fl_result(REG8(v, 0), W8);
    v->s.fl = adjust ? f | F_CF | F_AF : f;
}
void op_aam(struct vcpu *v, const struct insn *in)
{
    u8 d = (u8)in->imm, al = REG8(v, 0);
    if (d == 0) raise_fault(v, VEC_DE);
    REG16(v, 0) = (u16)((al / d) << 8 | al % d);
    v->s.fl = fl_result(REG8(v, 0), W8);
}
void op_aad(struct vcpu *v, const struct insn *in)
{
    u8 al = (u8)(REG8(v, 0) + REG8(v, 1) * (u8)in->imm);
    REG16(v, 0) = al;
    v->s.fl = fl_result(al, W8);
}

// Multiplication, division, bit tests and scans, and the decimal adjustments.
#include "cpu/instructions/alu.h"
#include "cpu/engine/bodies.h"

// ---- multiplication: SF, ZF, AF, PF are undefined; SF as the low half has it, the rest 0 ----
static u16 mul_flags(bool overflow, u64 low, unsigned w)
{
    u16 f = fl_result(low, w);
    return overflow ? f | AX_CF | AX_OF : f;
}
static void multiply(struct vcpu *v, const struct insn *in, bool is_signed)
{
    unsigned w = in->osz, bits = width_bits(w);
    u64 b = rm_load(v, in, w), a = reg_get(v, GPR_OFF(RAX), w), lo, hi;
    bool over;
    if (w == W64) {
        unsigned __int128 p =
            is_signed ? (unsigned __int128)((__int128)(s64)a * (s64)b) : (unsigned __int128)a * b;
        lo = (u64)p, hi = (u64)(p >> 64);
    } else {
        u64 p =
            is_signed
                ? (u64)(((s64)(a << (64 - bits)) >> (64 - bits)) * ((s64)(b << (64 - bits)) >> (64 - bits)))
                : a * b;
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
// IMUL
void op_imul1(struct vcpu *v, const struct insn *in) { multiply(v, in, true); }

ALWAYS_INLINE bool imul_body(struct vcpu *v, const struct insn *in, struct how h, bool imm)
{
    u64 b;
    if (!source_rm(v, in, h, h.w, &b)) return false;
    u64 a = imm ? in->imm : reg_get(v, in->r, h.w), r;
    bool over;
    if (h.w == W64) {
        s64 x;
        over = __builtin_mul_overflow((s64)a, (s64)b, &x);
        r = (u64)x;
    } else if (h.w == W32) {
        s32 x;
        over = __builtin_mul_overflow((s32)a, (s32)b, &x);
        r = (u32)x;
    } else {
        s32 x = (s32)(s16)a * (s16)b;
        over = x != (s16)x;
        r = (u16)x;
    }
    if (!h.nf) {
        u16 f = fl_result(r, h.w);
        v->s.fl = over ? f | AX_CF | AX_OF : f;
    }
    reg_set(v, in->r, h.w, r);
    return true;
}
// IMUL
BODY4(body_imul_GE, imul_body, false)
BODY4(body_imul_GEI, imul_body, true)

// ---- division: all flags undefined, left as they are ----
// DIV
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
// IDIV
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
    // the host would trap
    if (d == -1 && n == (__int128)((unsigned __int128)1 << 127)) raise_fault(v, VEC_DE);
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
ALWAYS_INLINE bool bt_body(struct vcpu *v, const struct insn *in, struct how h, unsigned op, bool imm)
{
    unsigned bits = width_bits(h.w);
    u64 raw = imm ? in->imm : reg_get(v, in->r, h.w);
    unsigned n = (unsigned)raw & (bits - 1);
    u64 a;
    if (h.fast && h.form != FORM_REG) return false;
    if (!how_mem(in, h)) {
        a = reg_get(v, in->m, h.w);
        if (op != BIT_T) reg_set(v, in->m, h.w, bit_apply(op, a, n));
    } else {
        u64 ea = insn_ea(v, in);
        if (!imm) {
            s64 x = (s64)(raw << (64 - bits)) >> (64 - bits);
            ea += (u64)((x >> (h.w + 3)) * (s64)W_BYTES(h.w));
            ea = in->asz == W64 ? ea : in->asz == W32 ? (u32)ea : (u16)ea;
        }
        laddr la = seg_linear(v, in->seg, ea, W_BYTES(h.w), op == BIT_T ? ACC_READ : ACC_WRITE);
        struct rmw m;
        if (op == BIT_T)
            a = lin_load(v, la, W_BYTES(h.w));
        else {
            a = rmw_open(v, la, W_BYTES(h.w), &m);
            rmw_commit(v, &m, bit_apply(op, a, n));
        }
    }
    v->s.fl = (u16)((v->s.fl & ~AX_CF) | ((a >> n & 1) ? AX_CF : 0));
    return true;
}
// BT
BODY4(body_bt_r, bt_body, BIT_T, false)
BODY4(body_bt_i, bt_body, BIT_T, true)
// BTS
BODY4(body_bts_r, bt_body, BIT_S, false)
BODY4(body_bts_i, bt_body, BIT_S, true)
// BTR
BODY4(body_btr_r, bt_body, BIT_R, false)
BODY4(body_btr_i, bt_body, BIT_R, true)
// BTC
BODY4(body_btc_r, bt_body, BIT_C, false)
BODY4(body_btc_i, bt_body, BIT_C, true)

// BSF, BSR: ZF by the source; a zero source leaves the destination (as both vendors' processors do, AMD
// documents it). The other flags are undefined: CF = OF = AF = 0, SF and PF of the source.
ALWAYS_INLINE bool scan_body(struct vcpu *v, const struct insn *in, struct how h, bool reverse)
{
    u64 a;
    if (!source_rm(v, in, h, h.w, &a)) return false;
    if (!h.nf) v->s.fl = fl_result(a, h.w);
    if (a)
        reg_set(v, in->r, h.w, reverse ? 63u - (unsigned)__builtin_clzll(a) : (unsigned)__builtin_ctzll(a));
    return true;
}
BODY4(body_bsf, scan_body, false)
BODY4(body_bsr, scan_body, true)

// ---- decimal adjustments (SDM volume 2) ----
// DAA, DAS
void op_daa_das(struct vcpu *v, const struct insn *in)
{
    bool sub = in->op == 0x2F, cf = v->s.fl & AX_CF, af = v->s.fl & AX_AF, carry = false;
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
    v->s.fl = (u16)(fl_result(al, W8) | (carry ? AX_CF : 0) | (af ? AX_AF : 0));
}
// AAA, AAS
void op_aaa_aas(struct vcpu *v, const struct insn *in)
{
    bool sub = in->op == 0x3F, adjust = (REG8(v, 0) & 15) > 9 || (v->s.fl & AX_AF);
    if (adjust) REG16(v, 0) = (u16)(sub ? REG16(v, 0) - 0x106 : REG16(v, 0) + 0x106);
    REG8(v, 0) &= 15;
    u16 f = fl_result(REG8(v, 0), W8);
    v->s.fl = adjust ? f | AX_CF | AX_AF : f;
}
// AAM
void op_aam(struct vcpu *v, const struct insn *in)
{
    u8 d = (u8)in->imm, al = REG8(v, 0);
    if (d == 0) raise_fault(v, VEC_DE);
    REG16(v, 0) = (u16)((al / d) << 8 | al % d);
    v->s.fl = fl_result(REG8(v, 0), W8);
}
// AAD
void op_aad(struct vcpu *v, const struct insn *in)
{
    u8 al = (u8)(REG8(v, 0) + REG8(v, 1) * (u8)in->imm);
    REG16(v, 0) = al;
    v->s.fl = fl_result(al, W8);
}

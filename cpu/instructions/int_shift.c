// Shifts and rotates: ROL ROR RCL RCR SHL SHR SAR SHLD SHRD.
#include "cpu/instructions/alu.h"
#include "cpu/engine/bodies.h"

static inline u16 with_cf_of(u16 f, bool cf, bool of)
{
    return (u16)((f & ~(AX_CF | AX_OF)) | (cf ? AX_CF : 0) | (of ? AX_OF : 0));
}

// clang-format off
enum { SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR, SHIFT_SHL, SHIFT_SHR, SHIFT_SAR = 7 }; // ModRM digits; 6 is SHL too
// clang-format on

// `a`, of w and no wider, rotated; written so that compilers see a rotation of the host.
ALWAYS_INLINE u64 rotate_left(unsigned w, u64 a, unsigned count)
{
    unsigned c = count & (width_bits(w) - 1);
    switch (w) {
    case W8: return (u8)(a << c | a >> (8 - c));
    case W16: return (u16)(a << c | a >> (16 - c));
    case W32: return (u32)a << c | (u32)a >> (-c & 31);
    default: return a << c | a >> (-c & 63);
    }
}

// `a` shifted by `count`, which is masked to 5 or 6 bits and not 0. OF as the processor leaves it for counts
// other than 1 is undefined: computed by the same formula. With a constant width of 32 or 64 bits what asks
// for larger counts falls away.
ALWAYS_INLINE u64 shift(unsigned op, unsigned w, u64 a, unsigned count, u16 *fl)
{
    unsigned bits = width_bits(w);
    u64 m = width_mask(w), r;
    bool cf = *fl >> 8 & 1, top;
    a &= m;
    switch (op) {
    case SHIFT_ROL: {
        r = rotate_left(w, a, count);
        cf = r & 1, top = r >> (bits - 1) & 1;
        *fl = with_cf_of(*fl, cf, top ^ cf);
        return r;
    }
    case SHIFT_ROR: {
        r = rotate_left(w, a, bits - count % bits);
        cf = r >> (bits - 1) & 1;
        *fl = with_cf_of(*fl, cf, cf ^ (r >> (bits - 2) & 1));
        return r;
    }
    case SHIFT_RCL: { // through CF, modulo bits + 1
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
    case SHIFT_RCR: {
        unsigned c = count % (bits + 1);
        r = a;
        if (c) {
            u64 hi = c > 1 ? a << (bits + 1 - c) : 0;
            bool out = a >> (c - 1) & 1;
            r = ((c < 64 ? a >> c : 0) | (u64)cf << (bits - c) | hi) & m;
            cf = out;
        }
        *fl = with_cf_of(*fl, cf, (r >> (bits - 1) ^ r >> (bits - 2)) & 1);
        return r;
    }
    case SHIFT_SHL:
        r = count < bits ? (a << count) & m : 0;
        cf = count <= bits ? a >> (bits - count) & 1 : 0;
        top = r >> (bits - 1) & 1;
        *fl = with_cf_of(fl_result(r, w), cf, top ^ cf);
        return r;
    case SHIFT_SHR:
        r = count < bits ? a >> count : 0;
        cf = count <= bits ? a >> (count - 1) & 1 : 0;
        *fl = with_cf_of(fl_result(r, w), cf, count == 1 ? a >> (bits - 1) & 1 : (r >> (bits - 2) & 1));
        return r;
    default: { // SHIFT_SAR
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
ALWAYS_INLINE unsigned shift_count(const struct vcpu *v, const struct insn *in, struct how h, unsigned from)
{
    unsigned count = from == COUNT_1 ? 1 : from == COUNT_CL ? REG8(v, GPR_OFF(RCX)) : (u8)in->imm;
    return count & (h.w == W64 ? 63 : 31);
}

ALWAYS_INLINE bool shift_body(struct vcpu *v, const struct insn *in, struct how h, unsigned op, unsigned from)
{
    unsigned count = shift_count(v, in, h, from);
    u16 f = v->s.fl;
    struct target t;
    u64 a;
    // would need a frame at speed
    if (h.fast && (op == SHIFT_RCL || op == SHIFT_RCR || h.w < W32)) return false;
    if (!target_open(v, in, h, &t, &a)) return false;
    if (from != COUNT_1 && count == 0) {
        // a 32-bit register's upper half is cleared, memory is written all the same
        target_commit(v, in, h, &t, a);
        return true;
    }
    u64 r = shift(op, h.w, a, count, &f);
    target_commit(v, in, h, &t, r);
    if (!h.nf) v->s.fl = f;
    return true;
}
// ROL
BODY4(body_rol_1, shift_body, SHIFT_ROL, COUNT_1)
BODY4(body_rol_cl, shift_body, SHIFT_ROL, COUNT_CL)
BODY4(body_rol_i, shift_body, SHIFT_ROL, COUNT_IMM)
// ROR
BODY4(body_ror_1, shift_body, SHIFT_ROR, COUNT_1)
BODY4(body_ror_cl, shift_body, SHIFT_ROR, COUNT_CL)
BODY4(body_ror_i, shift_body, SHIFT_ROR, COUNT_IMM)
// RCL
BODY4(body_rcl_1, shift_body, SHIFT_RCL, COUNT_1)
BODY4(body_rcl_cl, shift_body, SHIFT_RCL, COUNT_CL)
BODY4(body_rcl_i, shift_body, SHIFT_RCL, COUNT_IMM)
// RCR
BODY4(body_rcr_1, shift_body, SHIFT_RCR, COUNT_1)
BODY4(body_rcr_cl, shift_body, SHIFT_RCR, COUNT_CL)
BODY4(body_rcr_i, shift_body, SHIFT_RCR, COUNT_IMM)
// SHL
BODY4(body_shl_1, shift_body, SHIFT_SHL, COUNT_1)
BODY4(body_shl_cl, shift_body, SHIFT_SHL, COUNT_CL)
BODY4(body_shl_i, shift_body, SHIFT_SHL, COUNT_IMM)
// SHR
BODY4(body_shr_1, shift_body, SHIFT_SHR, COUNT_1)
BODY4(body_shr_cl, shift_body, SHIFT_SHR, COUNT_CL)
BODY4(body_shr_i, shift_body, SHIFT_SHR, COUNT_IMM)
// SAR
BODY4(body_sar_1, shift_body, SHIFT_SAR, COUNT_1)
BODY4(body_sar_cl, shift_body, SHIFT_SAR, COUNT_CL)
BODY4(body_sar_i, shift_body, SHIFT_SAR, COUNT_IMM)

// The bits that are shifted in come from a register. With 16 bits and a count over 16 the result is
// undefined: what the processor's 32-bit rotate of dest:src:dest leaves.
static u64 double_shift(bool left, unsigned w, u64 a, u64 b, unsigned count, u16 *fl)
{
    unsigned bits = width_bits(w);
    u64 m = width_mask(w), r;
    bool cf;
    a &= m, b &= m;
    u64 x = a << 32 | b << 16 | a;
    if (left && w == W16) {
        r = (x << count) >> 32 & m;
        cf = x >> (48 - count) & 1;
    } else if (left) {
        r = ((a << count) | (b >> (bits - count))) & m;
        cf = a >> (bits - count) & 1;
    } else if (w == W16) {
        r = x >> count & m;
        cf = x >> (count - 1) & 1;
    } else {
        r = ((a >> count) | (b << (bits - count))) & m;
        cf = a >> (count - 1) & 1;
    }
    *fl = with_cf_of(fl_result(r, w), cf, ((r ^ a) >> (bits - 1)) & 1);
    return r;
}
static void double_shift_body(struct vcpu *v, const struct insn *in, bool left, unsigned from)
{
    const struct how h = {.w = in->osz};
    unsigned count = shift_count(v, in, h, from);
    u16 f = v->s.fl;
    struct target t;
    u64 a;
    target_open(v, in, h, &t, &a);
    u64 r = count == 0 ? a : double_shift(left, h.w, a, reg_get(v, in->r, h.w), count, &f);
    target_commit(v, in, h, &t, r);
    v->s.fl = f;
}
// SHLD
void op_shld_i(struct vcpu *v, const struct insn *in) { double_shift_body(v, in, true, COUNT_IMM); }
void op_shld_cl(struct vcpu *v, const struct insn *in) { double_shift_body(v, in, true, COUNT_CL); }
// SHRD
void op_shrd_i(struct vcpu *v, const struct insn *in) { double_shift_body(v, in, false, COUNT_IMM); }
void op_shrd_cl(struct vcpu *v, const struct insn *in) { double_shift_body(v, in, false, COUNT_CL); }

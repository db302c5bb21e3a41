// BMI1, BMI2, LZCNT and ADX on general registers. Written in C: what the host has of them does not matter.
// The third operand of those with VEX is in in->v. Flags that the manual leaves undefined are 0, PF that of
// the result.
#include "cpu/instructions/alu.h"
#include "cpu/engine/bodies.h"

ALWAYS_INLINE u64 low_bits(u64 x, unsigned n) { return n < 64 ? x & (BIT(n) - 1) : x; }
ALWAYS_INLINE u64 third(const struct vcpu *v, const struct insn *in, struct how h)
{
    return reg_get(v, in->v, h.w);
}
ALWAYS_INLINE void set_flags(struct vcpu *v, struct how h, u64 result, bool carry)
{
    v->s.fl = (u16)(fl_result(result, h.w) | (carry ? AX_CF : 0));
}

// TZCNT, LZCNT
ALWAYS_INLINE bool count_zeros(struct vcpu *v, const struct insn *in, struct how h, bool leading)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    unsigned n = width_bits(h.w);
    if (x) n = leading ? (unsigned)__builtin_clzll(x) - (64 - n) : (unsigned)__builtin_ctzll(x);
    reg_set(v, in->r, h.w, n);
    v->s.fl = (u16)(0x200 | (x ? 0 : AX_CF) | (n ? 0 : AX_ZF));
    return true;
}
BODY4(body_tzcnt, count_zeros, false)
BODY4(body_lzcnt, count_zeros, true)

// ANDN
ALWAYS_INLINE bool andn(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    x &= ~third(v, in, h);
    reg_set(v, in->r, h.w, x);
    set_flags(v, h, x, false);
    return true;
}
BODY_Y(body_andn, andn)

// BLSR, BLSMSK, BLSI: the lowest bit that is set: cleared, up to it, it alone.
enum lowest { LOWEST_CLEARED, LOWEST_UP_TO, LOWEST_ALONE };
ALWAYS_INLINE bool lowest_bit(struct vcpu *v, const struct insn *in, struct how h, enum lowest k)
{
    u64 x, y;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    y = k == LOWEST_CLEARED ? x & (x - 1) : k == LOWEST_UP_TO ? x ^ (x - 1) : x & -x;
    reg_set(v, in->v, h.w, y);
    set_flags(v, h, y, (x == 0) != (k == LOWEST_ALONE));
    return true;
}
BODY_Y(body_blsr, lowest_bit, LOWEST_CLEARED)
BODY_Y(body_blsmsk, lowest_bit, LOWEST_UP_TO)
BODY_Y(body_blsi, lowest_bit, LOWEST_ALONE)

// BEXTR: from the bit that the third operand's first byte names, as many as its second byte says.
ALWAYS_INLINE bool bextr(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x, c = third(v, in, h);
    if (!source_rm(v, in, h, h.w, &x)) return false;
    x = (c & 0xFF) < 64 ? x >> (c & 0xFF) : 0;
    x = low_bits(x, c >> 8 & 0xFF);
    reg_set(v, in->r, h.w, x);
    set_flags(v, h, x, false);
    return true;
}
BODY_Y(body_bextr, bextr)

// BZHI: the bits from the one that the third operand names are cleared.
ALWAYS_INLINE bool bzhi(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    unsigned n = third(v, in, h) & 0xFF;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    x = low_bits(x, n);
    reg_set(v, in->r, h.w, x);
    set_flags(v, h, x, n >= width_bits(h.w));
    return true;
}
BODY_Y(body_bzhi, bzhi)

// PDEP, PEXT: the low bits go to where the mask has bits, or come from there.
ALWAYS_INLINE bool by_mask(struct vcpu *v, const struct insn *in, struct how h, bool deposit)
{
    u64 mask, x = third(v, in, h), y = 0;
    if (!source_rm(v, in, h, h.w, &mask)) return false;
    for (unsigned k = 0; mask; mask &= mask - 1, k++) {
        u64 place = mask & -mask;
        if (deposit)
            y |= x >> k & 1 ? place : 0;
        else
            y |= x & place ? BIT(k) : 0;
    }
    reg_set(v, in->r, h.w, y);
    return true;
}
BODY_Y(body_pdep, by_mask, true)
BODY_Y(body_pext, by_mask, false)

// MULX: by RDX, without flags. If both destinations are one register, it gets the high half.
void op_mulx(struct vcpu *v, const struct insn *in)
{
    u64 x = rm_load(v, in, in->osz), d = reg_get(v, GPR_OFF(RDX), in->osz);
    unsigned __int128 product = (unsigned __int128)x * d;
    reg_set(v, in->v, in->osz, (u64)product);
    reg_set(v, in->r, in->osz, (u64)(product >> width_bits(in->osz)));
}

// SHLX, SHRX, SARX
enum shift { SHIFT_LEFT, SHIFT_RIGHT, SHIFT_SIGNED };
ALWAYS_INLINE bool shift_x(struct vcpu *v, const struct insn *in, struct how h, enum shift k)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    unsigned n = third(v, in, h) & (width_bits(h.w) - 1);
    if (k == SHIFT_LEFT)
        x <<= n;
    else if (k == SHIFT_RIGHT)
        x >>= n;
    else
        x = h.w == W64 ? (u64)((s64)x >> n) : (u32)((s32)x >> n);
    reg_set(v, in->r, h.w, x);
    return true;
}
BODY_Y(body_shlx, shift_x, SHIFT_LEFT)
BODY_Y(body_shrx, shift_x, SHIFT_RIGHT)
BODY_Y(body_sarx, shift_x, SHIFT_SIGNED)

// RORX
ALWAYS_INLINE bool rorx(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    unsigned bits = width_bits(h.w), n = (unsigned)in->imm & (bits - 1);
    if (n) x = x >> n | x << (bits - n);
    reg_set(v, in->r, h.w, x);
    return true;
}
BODY_Y(body_rorx, rorx)

// ADCX, ADOX: with a carry in and out that is CF or OF alone.
static void add_by(struct vcpu *v, const struct insn *in, u16 flag)
{
    unsigned w = in->osz == W64 ? W64 : W32; // in 16-bit code too
    u64 x = rm_load(v, in, w);
    u16 f = v->s.fl & flag ? AX_CF : 0;
    reg_set(v, in->r, w, alu(ALU_ADC, w, reg_get(v, in->r, w), x, &f));
    v->s.fl = (u16)((v->s.fl & ~flag) | (f & AX_CF ? flag : 0));
}
void op_adcx(struct vcpu *v, const struct insn *in) { add_by(v, in, AX_CF); }
void op_adox(struct vcpu *v, const struct insn *in) { add_by(v, in, AX_OF); }

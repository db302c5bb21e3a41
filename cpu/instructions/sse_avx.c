// What came with AVX and AVX2 and SSE has not: broadcasts, permutations, insertion and extraction of 128
// bits, masked moves, shifts by elements, gathers, VZEROUPPER and VZEROALL. Written in C: what the host has
// does not matter. Instructions that SSE has too are with it, with 256 bits as two times 128
// (cpu/instructions/sse.h).
#include "cpu/instructions/sse.h"

union ymm {
    u8 b[32];
    u16 w[16];
    u32 d[8];
    u64 q[4];
    struct x128 half[2];
};
static bool wide(const struct insn *in) { return in->osz == W64; }
static unsigned bytes(const struct insn *in) { return wide(in) ? 32 : 16; }

static union ymm get(struct vcpu *v, unsigned n)
{
    return (union ymm){.half = {*sse_reg(v, n), *ymm_high(v, n)}};
}
// The whole register; without VEX.L its high half becomes 0.
static void put(struct vcpu *v, const struct insn *in, unsigned n, const union ymm *x)
{
    *sse_reg(v, n) = x->half[0];
    if (wide(in))
        *ymm_high(v, n) = x->half[1];
    else
        sse_put(ymm_high(v, n), 0, 0);
}
RAISES static union ymm source(struct vcpu *v, const struct insn *in)
{
    union ymm t;
    if (!in->mem) return get(v, in->m);
    vex_source_checked(v, in, &t, bytes(in));
    return t;
}

static void clear(struct vcpu *v, bool low)
{
    for (unsigned i = 0; i < (mode_long64(v->d.mode) ? 16u : 8u); i++) {
        if (low) sse_put(sse_reg(v, i), 0, 0);
        sse_put(ymm_high(v, i), 0, 0);
    }
    // all of the component is as after RESET, and known to be
    if (mode_long64(v->d.mode)) v->s.xrstor.in_use &= ~(u64)(low ? XCOMP_SSE | XCOMP_AVX : XCOMP_AVX);
}
void op_vzeroupper(struct vcpu *v, const struct insn *in) { clear(v, false); }
void op_vzeroall(struct vcpu *v, const struct insn *in) { clear(v, true); }

// ---- broadcasts ----
ALWAYS_INLINE bool broadcast(struct vcpu *v, const struct insn *in, struct how h, unsigned size)
{
    struct x128 t[2];
    struct vex_source s = vex_operand(v, in, h, t, SHAPE_SCALAR(size), false);
    if (vex_missed(h, s)) return false;
    u64 low, high;
    switch (size) {
    case 1: low = high = *s.low * 0x0101010101010101ull; break;
    case 2: low = high = *(const u16 *)s.low * 0x0001000100010001ull; break;
    case 4: low = high = *(const u32 *)s.low * 0x0000000100000001ull; break;
    case 8: low = high = *(const u64 *)s.low; break;
    default: low = ((const u64 *)s.low)[0], high = ((const u64 *)s.low)[1]; break;
    }
    sse_put(sse_reg(v, in->r), low, high);
    if (VEX_256(h))
        sse_put(ymm_high(v, in->r), low, high);
    else
        sse_put(ymm_high(v, in->r), 0, 0);
    return true;
}
BODY_L(body_vpbroadcastb, broadcast, 1)
BODY_L(body_vpbroadcastw, broadcast, 2)
BODY_L(body_vbroadcastss, broadcast, 4)    // VPBROADCASTD
BODY_L(body_vbroadcastsd, broadcast, 8)    // VPBROADCASTQ
BODY_L(body_vbroadcastf128, broadcast, 16) // VBROADCASTI128
// VBROADCASTSS, VBROADCASTSD, VBROADCASTF128, VPBROADCASTB, VPBROADCASTW

// ---- halves: VINSERTF128, VINSERTI128; VEXTRACTF128, VEXTRACTI128 ----
// VPERM2F128, VPERM2I128
void op_vperm2f128(struct vcpu *v, const struct insn *in)
{
    union ymm s = source(v, in), a = get(v, in->v), d = {{0}};
    for (unsigned i = 0; i < 2; i++) {
        unsigned k = (unsigned)in->imm >> 4 * i;
        if (!(k & 8)) d.half[i] = k & 2 ? s.half[k & 1] : a.half[k & 1];
    }
    put(v, in, in->r, &d);
}
ALWAYS_INLINE bool insert_half(struct vcpu *v, const struct insn *in, struct how h)
{
    struct x128 t[2];
    struct vex_source s = vex_operand(v, in, h, t, SHAPE_SCALAR(16), false);
    if (vex_missed(h, s)) return false;
    whole128 x = *(const whole128 *)s.low;
    whole128 low = *(whole128 *)sse_reg(v, in->v), high = *(whole128 *)ymm_high(v, in->v);
    *(whole128 *)sse_reg(v, in->r) = in->imm & 1 ? low : x;
    *(whole128 *)ymm_high(v, in->r) = in->imm & 1 ? x : high;
    return true;
}
BODY_L(body_vinsertf128, insert_half)
ALWAYS_INLINE bool extract_half(struct vcpu *v, const struct insn *in, struct how h)
{
    const struct x128 *from = in->imm & 1 ? ymm_high(v, in->r) : sse_reg(v, in->r);
    if (!how_mem(in, h)) {
        *(whole128 *)sse_reg(v, in->m) = *(const whole128 *)from;
        sse_put(ymm_high(v, in->m), 0, 0);
        return true;
    }
    if (!h.fast) {
        sse_store(v, in, from, 16);
        return true;
    }
    whole128 *p = fast_write(v, fast_ea(v, in, h.form), 16);
    if (unlikely(!p)) return false;
    *p = *(const whole128 *)from;
    return true;
}
BODY_L(body_vextractf128, extract_half)

// ---- permutations ----
void op_vpermilps(struct vcpu *v, const struct insn *in)
{
    union ymm s = source(v, in), a = get(v, in->v), d = {{0}};
    for (unsigned i = 0; i < 8; i++) d.d[i] = a.d[(i & ~3u) + (s.d[i] & 3)];
    put(v, in, in->r, &d);
}
void op_vpermilpd(struct vcpu *v, const struct insn *in)
{
    union ymm s = source(v, in), a = get(v, in->v), d = {{0}};
    for (unsigned i = 0; i < 4; i++) d.q[i] = a.q[(i & ~1u) + (s.q[i] >> 1 & 1)];
    put(v, in, in->r, &d);
}
// VPERMD, VPERMPS
void op_vpermd(struct vcpu *v, const struct insn *in)
{
    union ymm s = source(v, in), a = get(v, in->v), d = {{0}};
    for (unsigned i = 0; i < 8; i++) d.d[i] = s.d[a.d[i] & 7];
    put(v, in, in->r, &d);
}
// VPERMQ, VPERMPD
void op_vpermq(struct vcpu *v, const struct insn *in)
{
    union ymm s = source(v, in), d = {{0}};
    for (unsigned i = 0; i < 4; i++) d.q[i] = s.q[in->imm >> 2 * i & 3];
    put(v, in, in->r, &d);
}
// VPBLENDD
void op_vpblendd(struct vcpu *v, const struct insn *in)
{
    union ymm s = source(v, in), d = get(v, in->v);
    for (unsigned i = 0; i < 8; i++)
        if (in->imm >> i & 1) d.d[i] = s.d[i];
    put(v, in, in->r, &d);
}

// VPTEST; VTESTPS, VTESTPD: of the sign bits alone.
RAISES static void test_bits(struct vcpu *v, const struct insn *in, u64 bits)
{
    union ymm s = source(v, in), d = get(v, in->r);
    u64 both = 0, alone = 0;
    for (unsigned i = 0; i < bytes(in) / 8; i++)
        both |= s.q[i] & d.q[i] & bits, alone |= s.q[i] & ~d.q[i] & bits;
    v->s.fl = (u16)(0x200 | (both ? 0 : AX_ZF) | (alone ? 0 : AX_CF));
}
void op_vptest(struct vcpu *v, const struct insn *in) { test_bits(v, in, UINT64_MAX); }
void op_vtestps(struct vcpu *v, const struct insn *in) { test_bits(v, in, 0x8000000080000000); }
void op_vtestpd(struct vcpu *v, const struct insn *in) { test_bits(v, in, 0x8000000000000000); }

// ---- shifts, each element by its own count ----
enum shift { LEFT, RIGHT, SIGNED };
RAISES static void shift32(struct vcpu *v, const struct insn *in, enum shift k)
{
    union ymm s = source(v, in), d = get(v, in->v);
    for (unsigned i = 0; i < 8; i++) {
        u32 n = s.d[i];
        if (k == SIGNED)
            d.d[i] = (u32)((s32)d.d[i] >> (n > 31 ? 31 : n));
        else
            d.d[i] = n > 31 ? 0 : k == LEFT ? d.d[i] << n : d.d[i] >> n;
    }
    put(v, in, in->r, &d);
}
RAISES static void shift64(struct vcpu *v, const struct insn *in, enum shift k)
{
    union ymm s = source(v, in), d = get(v, in->v);
    for (unsigned i = 0; i < 4; i++) {
        u64 n = s.q[i];
        d.q[i] = n > 63 ? 0 : k == LEFT ? d.q[i] << n : d.q[i] >> n;
    }
    put(v, in, in->r, &d);
}
// VPSLLVD, VPSRLVD, VPSRAVD, VPSLLVQ, VPSRLVQ
void op_vpsllvd(struct vcpu *v, const struct insn *in) { shift32(v, in, LEFT); }
void op_vpsrlvd(struct vcpu *v, const struct insn *in) { shift32(v, in, RIGHT); }
void op_vpsravd(struct vcpu *v, const struct insn *in) { shift32(v, in, SIGNED); }
void op_vpsllvq(struct vcpu *v, const struct insn *in) { shift64(v, in, LEFT); }
void op_vpsrlvq(struct vcpu *v, const struct insn *in) { shift64(v, in, RIGHT); }

// ---- masked moves: only elements whose mask has its sign bit set are accessed ----
static bool chosen(const union ymm *mask, unsigned i, unsigned size)
{
    return size == 4 ? mask->d[i] >> 31 : mask->q[i] >> 63;
}
RAISES static laddr element(struct vcpu *v, const struct insn *in, unsigned i, unsigned size, u32 acc)
{
    u64 ea = insn_ea(v, in) + i * size;
    return seg_linear(v, in->seg, mode_long64(v->d.mode) ? ea : (u32)ea, size, acc);
}
RAISES static void masked_load(struct vcpu *v, const struct insn *in, unsigned size)
{
    union ymm mask = get(v, in->v), d = {{0}};
    for (unsigned i = 0; i < bytes(in) / size; i++)
        if (chosen(&mask, i, size)) lin_load_n(v, element(v, in, i, size, ACC_READ), d.b + i * size, size);
    put(v, in, in->r, &d);
}
// All of it or nothing.
RAISES static void masked_store(struct vcpu *v, const struct insn *in, unsigned size)
{
    union ymm mask = get(v, in->v), s = get(v, in->r);
    for (unsigned write = 0; write < 2; write++)
        for (unsigned i = 0; i < bytes(in) / size; i++) {
            if (!chosen(&mask, i, size)) continue;
            laddr la = element(v, in, i, size, ACC_WRITE);
            if (write)
                lin_store_n(v, la, s.b + i * size, size);
            else
                acc_probe(v, la, size, acc_current(v) | ACC_WRITE);
        }
}
// VMASKMOVPS, VPMASKMOVD; VMASKMOVPD, VPMASKMOVQ
void op_vmaskmovps(struct vcpu *v, const struct insn *in) { masked_load(v, in, 4); }
void op_vmaskmovpd(struct vcpu *v, const struct insn *in) { masked_load(v, in, 8); }
void op_vmaskmovps_store(struct vcpu *v, const struct insn *in) { masked_store(v, in, 4); }
void op_vmaskmovpd_store(struct vcpu *v, const struct insn *in) { masked_store(v, in, 8); }

// ---- gathers ----
// The mask becomes all ones or zeros, element by element. They are gathered from the lowest up, each with its
// mask cleared behind it: what a fault finds done is done, and the instruction goes on from there (SDM,
// VPGATHERDD). in->x is the number of the index register.
RAISES static void gather(struct vcpu *v, const struct insn *in, unsigned size, unsigned index_size)
{
    union ymm index = get(v, in->x), mask = get(v, in->v), d = get(v, in->r);
    unsigned n = bytes(in) / (size > index_size ? size : index_size);
    for (unsigned i = 0; i < sizeof mask / size; i++) // all that VEX.L has, though fewer are gathered
        memset(mask.b + i * size, chosen(&mask, i, size) ? 0xFF : 0, size);
    put(v, in, in->v, &mask);
    for (unsigned i = 0; i < n; i++) {
        if (!chosen(&mask, i, size)) continue;
        s64 x = index_size == 4 ? (s32)index.d[i] : (s64)index.q[i];
        u64 ea = REG64(v, in->m) + (u64)(s64)in->disp + ((u64)x << in->scale);
        if (in->asz != W64) ea = (u32)ea;
        lin_load_n(v, seg_linear(v, in->seg, ea, size, ACC_READ), d.b + i * size, size);
        memset(mask.b + i * size, 0, size);
        put(v, in, in->r, &d);
        put(v, in, in->v, &mask);
    }
    memset(d.b + n * size, 0, sizeof d - n * size);
    memset(&mask, 0, sizeof mask);
    put(v, in, in->r, &d);
    put(v, in, in->v, &mask);
}
// VPGATHERDD, VGATHERDPS; VPGATHERDQ, VGATHERDPD; VPGATHERQD, VGATHERQPS; VPGATHERQQ, VGATHERQPD
void op_vpgatherdd(struct vcpu *v, const struct insn *in) { gather(v, in, 4, 4); }
void op_vpgatherdq(struct vcpu *v, const struct insn *in) { gather(v, in, 8, 4); }
void op_vpgatherqd(struct vcpu *v, const struct insn *in) { gather(v, in, 4, 8); }
void op_vpgatherqq(struct vcpu *v, const struct insn *in) { gather(v, in, 8, 8); }

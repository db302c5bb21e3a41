// Packed integer arithmetic on XMM and YMM registers: SSE2, SSSE3, SSE4.1, SSE4.2, and with VEX AVX and AVX2.
// One line an instruction.
#include "cpu/instructions/sse.h"

// SSE2
SSE_PLAIN(punpcklbw, vpunpcklbw)
SSE_PLAIN(punpcklwd, vpunpcklwd)
SSE_PLAIN(punpckldq, vpunpckldq)
SSE_PLAIN(packsswb, vpacksswb)
SSE_PLAIN(pcmpgtb, vpcmpgtb)
SSE_PLAIN(pcmpgtw, vpcmpgtw)
SSE_PLAIN(pcmpgtd, vpcmpgtd)
SSE_PLAIN(packuswb, vpackuswb)
SSE_PLAIN(punpckhbw, vpunpckhbw)
SSE_PLAIN(punpckhwd, vpunpckhwd)
SSE_PLAIN(punpckhdq, vpunpckhdq)
SSE_PLAIN(packssdw, vpackssdw)
SSE_PLAIN(punpcklqdq, vpunpcklqdq)
SSE_PLAIN(punpckhqdq, vpunpckhqdq)
SSE_PLAIN(pcmpeqb, vpcmpeqb)
SSE_PLAIN(pcmpeqw, vpcmpeqw)
SSE_PLAIN(pcmpeqd, vpcmpeqd)
SSE_COUNT(psrlw, vpsrlw)
SSE_COUNT(psrld, vpsrld)
SSE_COUNT(psrlq, vpsrlq)
SSE_PLAIN(paddq, vpaddq)
SSE_PLAIN(pmullw, vpmullw)
SSE_PLAIN(psubusb, vpsubusb)
SSE_PLAIN(psubusw, vpsubusw)
SSE_PLAIN(pminub, vpminub)
SSE_PLAIN(pand, vpand)
SSE_PLAIN(paddusb, vpaddusb)
SSE_PLAIN(paddusw, vpaddusw)
SSE_PLAIN(pmaxub, vpmaxub)
SSE_PLAIN(pandn, vpandn)
SSE_PLAIN(pavgb, vpavgb)
SSE_COUNT(psraw, vpsraw)
SSE_COUNT(psrad, vpsrad)
SSE_PLAIN(pavgw, vpavgw)
SSE_PLAIN(pmulhuw, vpmulhuw)
SSE_PLAIN(pmulhw, vpmulhw)
SSE_PLAIN(psubsb, vpsubsb)
SSE_PLAIN(psubsw, vpsubsw)
SSE_PLAIN(pminsw, vpminsw)
SSE_PLAIN(por, vpor)
SSE_PLAIN(paddsb, vpaddsb)
SSE_PLAIN(paddsw, vpaddsw)
SSE_PLAIN(pmaxsw, vpmaxsw)
SSE_PLAIN(pxor, vpxor)
SSE_COUNT(psllw, vpsllw)
SSE_COUNT(pslld, vpslld)
SSE_COUNT(psllq, vpsllq)
SSE_PLAIN(pmuludq, vpmuludq)
SSE_PLAIN(pmaddwd, vpmaddwd)
SSE_PLAIN(psadbw, vpsadbw)
SSE_PLAIN(psubb, vpsubb)
SSE_PLAIN(psubw, vpsubw)
SSE_PLAIN(psubd, vpsubd)
SSE_PLAIN(psubq, vpsubq)
SSE_PLAIN(paddb, vpaddb)
SSE_PLAIN(paddw, vpaddw)
SSE_PLAIN(paddd, vpaddd)
// SSSE3
SSE_PLAIN(pshufb, vpshufb)
SSE_PLAIN(phaddw, vphaddw)
SSE_PLAIN(phaddd, vphaddd)
SSE_PLAIN(phaddsw, vphaddsw)
SSE_PLAIN(pmaddubsw, vpmaddubsw)
SSE_PLAIN(phsubw, vphsubw)
SSE_PLAIN(phsubd, vphsubd)
SSE_PLAIN(phsubsw, vphsubsw)
SSE_PLAIN(psignb, vpsignb)
SSE_PLAIN(psignw, vpsignw)
SSE_PLAIN(psignd, vpsignd)
SSE_PLAIN(pmulhrsw, vpmulhrsw)
SSE_PLAIN(pabsb, vpabsb)
SSE_PLAIN(pabsw, vpabsw)
SSE_PLAIN(pabsd, vpabsd)
// SSE4.1 and PCMPGTQ of SSE4.2
SSE_PLAIN(pmuldq, vpmuldq)
SSE_PLAIN(pcmpeqq, vpcmpeqq)
SSE_PLAIN(packusdw, vpackusdw)
SSE_PLAIN(pcmpgtq, vpcmpgtq)
SSE_PLAIN(pminsb, vpminsb)
SSE_PLAIN(pminsd, vpminsd)
SSE_PLAIN(pminuw, vpminuw)
SSE_PLAIN(pminud, vpminud)
SSE_PLAIN(pmaxsb, vpmaxsb)
SSE_PLAIN(pmaxsd, vpmaxsd)
SSE_PLAIN(pmaxuw, vpmaxuw)
SSE_PLAIN(pmaxud, vpmaxud)
SSE_PLAIN(pmulld, vpmulld)
SSE_PLAIN(phminposuw, vphminposuw)
// Widening moves read only what they widen.
SSE_WIDEN(pmovsxbw, vpmovsxbw, 8, S64)
SSE_WIDEN(pmovsxbd, vpmovsxbd, 4, S32)
SSE_WIDEN(pmovsxbq, vpmovsxbq, 2, S16)
SSE_WIDEN(pmovsxwd, vpmovsxwd, 8, S64)
SSE_WIDEN(pmovsxwq, vpmovsxwq, 4, S32)
SSE_WIDEN(pmovsxdq, vpmovsxdq, 8, S64)
SSE_WIDEN(pmovzxbw, vpmovzxbw, 8, S64)
SSE_WIDEN(pmovzxbd, vpmovzxbd, 4, S32)
SSE_WIDEN(pmovzxbq, vpmovzxbq, 2, S16)
SSE_WIDEN(pmovzxwd, vpmovzxwd, 8, S64)
SSE_WIDEN(pmovzxwq, vpmovzxwq, 4, S32)
SSE_WIDEN(pmovzxdq, vpmovzxdq, 8, S64)

// ---- shifts of a group by an immediate: the same as by a register that holds it ----
typedef void shift_core(void *d, const void *a, u64 count);
ALWAYS_INLINE bool shift_imm(struct vcpu *v, const struct insn *in, struct how h, shift_core *core)
{
    core(sse_reg(v, in->m), sse_reg(v, in->m), (u8)in->imm);
    return true;
}
ALWAYS_INLINE bool vex_shift_imm(struct vcpu *v, const struct insn *in, struct how h, shift_core *core)
{
    if (VEX_256(h))
        core(ymm_high(v, in->v), ymm_high(v, in->m), (u8)in->imm);
    else
        sse_put(ymm_high(v, in->v), 0, 0);
    core(sse_reg(v, in->v), sse_reg(v, in->m), (u8)in->imm);
    return true;
}
#define SHIFT_IMM(insn, vex) \
    SHIFT_CORE(insn##_by, #insn) \
    BODY_X_REG(body_##insn##_imm, shift_imm, insn##_by) \
    BODY_L_REG(body_##vex##_imm, vex_shift_imm, insn##_by)
SHIFT_IMM(psrlw, vpsrlw)
SHIFT_IMM(psraw, vpsraw)
SHIFT_IMM(psllw, vpsllw)
SHIFT_IMM(psrld, vpsrld)
SHIFT_IMM(psrad, vpsrad)
SHIFT_IMM(pslld, vpslld)
SHIFT_IMM(psrlq, vpsrlq)
SHIFT_IMM(psllq, vpsllq)

// PSLLDQ and PSRLDQ: the whole register by bytes.
ALWAYS_INLINE void shift_bytes(void *d, const void *a, unsigned n, bool left)
{
    unsigned __int128 x;
    memcpy(&x, a, 16);
    x = n > 15 ? 0 : left ? x << 8 * n : x >> 8 * n;
    memcpy(d, &x, 16);
}
ALWAYS_INLINE bool byte_shift(struct vcpu *v, const struct insn *in, struct how h, bool left)
{
    shift_bytes(sse_reg(v, in->m), sse_reg(v, in->m), (u8)in->imm, left);
    return true;
}
BODY_X_REG(body_psrldq, byte_shift, false)
BODY_X_REG(body_pslldq, byte_shift, true)
static void vex_byte_shift(struct vcpu *v, const struct insn *in, bool left)
{
    if (in->osz == W64)
        shift_bytes(ymm_high(v, in->v), ymm_high(v, in->m), (u8)in->imm, left);
    else
        sse_put(ymm_high(v, in->v), 0, 0);
    shift_bytes(sse_reg(v, in->v), sse_reg(v, in->m), (u8)in->imm, left);
}
// VPSRLDQ, VPSLLDQ
void op_vpsrldq(struct vcpu *v, const struct insn *in) { vex_byte_shift(v, in, false); }
void op_vpslldq(struct vcpu *v, const struct insn *in) { vex_byte_shift(v, in, true); }

// ---- blends whose mask is XMM0 ----
SSE_BY_XMM0(pblendvb)
SSE_BY_XMM0(blendvps)
SSE_BY_XMM0(blendvpd)
VEX_BY_MASK(pblendvb, vpblendvb)
VEX_BY_MASK(blendvps, vblendvps)
VEX_BY_MASK(blendvpd, vblendvpd)

// PTEST: ZF and CF from two ANDs, the other flags cleared.
ALWAYS_INLINE bool ptest(struct vcpu *v, const struct insn *in, struct how h)
{
    struct x128 t;
    const u64 *s = sse_operand(v, in, h, &t, 16, true), *d = sse_reg(v, in->r)->q;
    if (sse_missed(h, s)) return false;
    bool zf = !((s[0] & d[0]) | (s[1] & d[1])), cf = !((s[0] & ~d[0]) | (s[1] & ~d[1]));
    v->s.fl = (u16)(0x200 | (zf ? AX_ZF : 0) | (cf ? AX_CF : 0));
    return true;
}
BODY_X(body_ptest, ptest)

// ---- shuffles and the like by an immediate ----
// BLENDPS, BLENDPD, PBLENDW, MPSADBW
SSE_BY_IMM(blendps, "0x66, 0x0F, 0x3A, 0x0C, 0xC1")
SSE_BY_IMM(blendpd, "0x66, 0x0F, 0x3A, 0x0D, 0xC1")
SSE_BY_IMM(pblendw, "0x66, 0x0F, 0x3A, 0x0E, 0xC1")
SSE_BY_IMM(mpsadbw, "0x66, 0x0F, 0x3A, 0x42, 0xC1")
VEX_BY_IMM(blendps, vblendps, 4)
VEX_BY_IMM(blendpd, vblendpd, 2)
VEX_BY_IMM(pblendw, vpblendw, 0)
VEX_BY_IMM(mpsadbw, vmpsadbw, 3)

// The common ones pick their elements without a call. Two elements of *a, then two of *b.
ALWAYS_INLINE void shuffle32(void *d, const void *first, const void *second, u8 imm)
{
    const u32 *a = first, *b = second;
    u64 low = a[imm & 3] | (u64)a[imm >> 2 & 3] << 32, high = b[imm >> 4 & 3] | (u64)b[imm >> 6] << 32;
    sse_put(d, low, high);
}
ALWAYS_INLINE void pshufd(void *d, const void *a, const void *s, u8 imm) { shuffle32(d, s, s, imm); }
ALWAYS_INLINE void shufps(void *d, const void *a, const void *s, u8 imm) { shuffle32(d, a, s, imm); }
ALWAYS_INLINE void shufpd(void *d, const void *a, const void *s, u8 imm)
{
    u64 low = ((const u64 *)a)[imm & 1], high = ((const u64 *)s)[imm >> 1 & 1];
    sse_put(d, low, high);
}
ALWAYS_INLINE u64 shuffle16(const void *source, u8 imm)
{
    // one element after the other, from memory: few registers, so that no compiler saves one
    const u16 *a = source;
    u64 x = a[imm >> 6];
    x = x << 16 | a[imm >> 4 & 3];
    x = x << 16 | a[imm >> 2 & 3];
    return x << 16 | a[imm & 3];
}
ALWAYS_INLINE void pshuflw(void *d, const void *a, const void *s, u8 imm)
{
    u64 high = ((const u64 *)s)[1];
    sse_put(d, shuffle16(s, imm), high);
}
ALWAYS_INLINE void pshufhw(void *d, const void *a, const void *s, u8 imm)
{
    u64 low = ((const u64 *)s)[0];
    sse_put(d, low, shuffle16((const u8 *)s + 8, imm));
}
ALWAYS_INLINE bool pick(struct vcpu *v, const struct insn *in, struct how h, sse_core_imm *core)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, 16, true);
    if (sse_missed(h, s)) return false;
    core(sse_reg(v, in->r), sse_reg(v, in->r), s, (u8)in->imm);
    return true;
}
BODY_X(body_pshufd, pick, pshufd)
BODY_X(body_shufps, pick, shufps)
BODY_X(body_shufpd, pick, shufpd)
BODY_X(body_pshuflw, pick, pshuflw)
BODY_X(body_pshufhw, pick, pshufhw)
// With VEX the high half goes by the immediate shifted right.
ALWAYS_INLINE bool vex_pick(struct vcpu *v, const struct insn *in, struct how h, sse_core_imm *core,
                            unsigned shift)
{
    struct x128 t[2];
    struct vex_source s = vex_operand(v, in, h, t, SHAPE_X, false);
    if (vex_missed(h, s)) return false;
    if (VEX_256(h))
        core(ymm_high(v, in->r), ymm_high(v, in->v), s.high, (u8)((u8)in->imm >> shift));
    else
        sse_put(ymm_high(v, in->r), 0, 0);
    core(sse_reg(v, in->r), sse_reg(v, in->v), s.low, (u8)in->imm);
    return true;
}
// VPSHUFD, and VPERMILPS by an immediate
BODY_L(body_vpshufd, vex_pick, pshufd, 0)
BODY_L(body_vshufps, vex_pick, shufps, 0)
BODY_L(body_vshufpd, vex_pick, shufpd, 2)
BODY_L(body_vpshuflw, vex_pick, pshuflw, 0)
BODY_L(body_vpshufhw, vex_pick, pshufhw, 0)
// VSHUFPS, VSHUFPD, VPSHUFLW, VPSHUFHW; VPERMILPD by an immediate: both elements of the source
ALWAYS_INLINE void permilpd(void *d, const void *a, const void *s, u8 imm) { shufpd(d, s, s, imm); }
BODY_L(body_vpermilpd_imm, vex_pick, permilpd, 2)

// PALIGNR: a constant for each shift that takes bytes of both operands; the others, which nobody uses, go the
// slow way.
IMM_TABLE(palignr, "0x66, 0x0F, 0x3A, 0x0F, 0xC1")
ALWAYS_INLINE bool palignr(struct vcpu *v, const struct insn *in, struct how h)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, 16, true);
    void *d = sse_reg(v, in->r), *a = d;
    if (sse_missed(h, s)) return false;
    if (!h.fast) {
        IMM_CALL(palignr, in->imm, d, a, s);
        return true;
    }
    switch ((u8)in->imm) {
        // clang-format off
        ALIGN_CASE(1) ALIGN_CASE(2) ALIGN_CASE(3) ALIGN_CASE(4) ALIGN_CASE(5) ALIGN_CASE(6) ALIGN_CASE(7) ALIGN_CASE(8)
        ALIGN_CASE(9) ALIGN_CASE(10) ALIGN_CASE(11) ALIGN_CASE(12) ALIGN_CASE(13) ALIGN_CASE(14) ALIGN_CASE(15)
            // clang-format on
            default : return false;
    }
    return true;
}
BODY_X(body_palignr, palignr)
VEX_BY_IMM(palignr, vpalignr, 0)

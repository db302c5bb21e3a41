// Packed integer arithmetic on XMM registers: SSE2, SSSE3, SSE4.1, SSE4.2. One line an instruction.
#include "cpu/instructions/sse.h"

// SSE2
SSE_PLAIN(body_punpcklbw, "punpcklbw")
SSE_PLAIN(body_punpcklwd, "punpcklwd")
SSE_PLAIN(body_punpckldq, "punpckldq")
SSE_PLAIN(body_packsswb, "packsswb")
SSE_PLAIN(body_pcmpgtb, "pcmpgtb")
SSE_PLAIN(body_pcmpgtw, "pcmpgtw")
SSE_PLAIN(body_pcmpgtd, "pcmpgtd")
SSE_PLAIN(body_packuswb, "packuswb")
SSE_PLAIN(body_punpckhbw, "punpckhbw")
SSE_PLAIN(body_punpckhwd, "punpckhwd")
SSE_PLAIN(body_punpckhdq, "punpckhdq")
SSE_PLAIN(body_packssdw, "packssdw")
SSE_PLAIN(body_punpcklqdq, "punpcklqdq")
SSE_PLAIN(body_punpckhqdq, "punpckhqdq")
SSE_PLAIN(body_pcmpeqb, "pcmpeqb")
SSE_PLAIN(body_pcmpeqw, "pcmpeqw")
SSE_PLAIN(body_pcmpeqd, "pcmpeqd")
SSE_PLAIN(body_psrlw, "psrlw")
SSE_PLAIN(body_psrld, "psrld")
SSE_PLAIN(body_psrlq, "psrlq")
SSE_PLAIN(body_paddq, "paddq")
SSE_PLAIN(body_pmullw, "pmullw")
SSE_PLAIN(body_psubusb, "psubusb")
SSE_PLAIN(body_psubusw, "psubusw")
SSE_PLAIN(body_pminub, "pminub")
SSE_PLAIN(body_pand, "pand")
SSE_PLAIN(body_paddusb, "paddusb")
SSE_PLAIN(body_paddusw, "paddusw")
SSE_PLAIN(body_pmaxub, "pmaxub")
SSE_PLAIN(body_pandn, "pandn")
SSE_PLAIN(body_pavgb, "pavgb")
SSE_PLAIN(body_psraw, "psraw")
SSE_PLAIN(body_psrad, "psrad")
SSE_PLAIN(body_pavgw, "pavgw")
SSE_PLAIN(body_pmulhuw, "pmulhuw")
SSE_PLAIN(body_pmulhw, "pmulhw")
SSE_PLAIN(body_psubsb, "psubsb")
SSE_PLAIN(body_psubsw, "psubsw")
SSE_PLAIN(body_pminsw, "pminsw")
SSE_PLAIN(body_por, "por")
SSE_PLAIN(body_paddsb, "paddsb")
SSE_PLAIN(body_paddsw, "paddsw")
SSE_PLAIN(body_pmaxsw, "pmaxsw")
SSE_PLAIN(body_pxor, "pxor")
SSE_PLAIN(body_psllw, "psllw")
SSE_PLAIN(body_pslld, "pslld")
SSE_PLAIN(body_psllq, "psllq")
SSE_PLAIN(body_pmuludq, "pmuludq")
SSE_PLAIN(body_pmaddwd, "pmaddwd")
SSE_PLAIN(body_psadbw, "psadbw")
SSE_PLAIN(body_psubb, "psubb")
SSE_PLAIN(body_psubw, "psubw")
SSE_PLAIN(body_psubd, "psubd")
SSE_PLAIN(body_psubq, "psubq")
SSE_PLAIN(body_paddb, "paddb")
SSE_PLAIN(body_paddw, "paddw")
SSE_PLAIN(body_paddd, "paddd")
// SSSE3
SSE_PLAIN(body_pshufb, "pshufb")
SSE_PLAIN(body_phaddw, "phaddw")
SSE_PLAIN(body_phaddd, "phaddd")
SSE_PLAIN(body_phaddsw, "phaddsw")
SSE_PLAIN(body_pmaddubsw, "pmaddubsw")
SSE_PLAIN(body_phsubw, "phsubw")
SSE_PLAIN(body_phsubd, "phsubd")
SSE_PLAIN(body_phsubsw, "phsubsw")
SSE_PLAIN(body_psignb, "psignb")
SSE_PLAIN(body_psignw, "psignw")
SSE_PLAIN(body_psignd, "psignd")
SSE_PLAIN(body_pmulhrsw, "pmulhrsw")
SSE_PLAIN(body_pabsb, "pabsb")
SSE_PLAIN(body_pabsw, "pabsw")
SSE_PLAIN(body_pabsd, "pabsd")
// SSE4.1 and PCMPGTQ of SSE4.2
SSE_PLAIN(body_pmuldq, "pmuldq")
SSE_PLAIN(body_pcmpeqq, "pcmpeqq")
SSE_PLAIN(body_packusdw, "packusdw")
SSE_PLAIN(body_pcmpgtq, "pcmpgtq")
SSE_PLAIN(body_pminsb, "pminsb")
SSE_PLAIN(body_pminsd, "pminsd")
SSE_PLAIN(body_pminuw, "pminuw")
SSE_PLAIN(body_pminud, "pminud")
SSE_PLAIN(body_pmaxsb, "pmaxsb")
SSE_PLAIN(body_pmaxsd, "pmaxsd")
SSE_PLAIN(body_pmaxuw, "pmaxuw")
SSE_PLAIN(body_pmaxud, "pmaxud")
SSE_PLAIN(body_pmulld, "pmulld")
SSE_PLAIN(body_phminposuw, "phminposuw")
// Widening moves read only what they widen.
SSE_PLAIN_M(body_pmovsxbw, "pmovsxbw", 8, S64)
SSE_PLAIN_M(body_pmovsxbd, "pmovsxbd", 4, S32)
SSE_PLAIN_M(body_pmovsxbq, "pmovsxbq", 2, S16)
SSE_PLAIN_M(body_pmovsxwd, "pmovsxwd", 8, S64)
SSE_PLAIN_M(body_pmovsxwq, "pmovsxwq", 4, S32)
SSE_PLAIN_M(body_pmovsxdq, "pmovsxdq", 8, S64)
SSE_PLAIN_M(body_pmovzxbw, "pmovzxbw", 8, S64)
SSE_PLAIN_M(body_pmovzxbd, "pmovzxbd", 4, S32)
SSE_PLAIN_M(body_pmovzxbq, "pmovzxbq", 2, S16)
SSE_PLAIN_M(body_pmovzxwd, "pmovzxwd", 8, S64)
SSE_PLAIN_M(body_pmovzxwq, "pmovzxwq", 4, S32)
SSE_PLAIN_M(body_pmovzxdq, "pmovzxdq", 8, S64)

// ---- shifts of a group by an immediate: the same as by a register that holds it ----
typedef void shift_core(void *d, u64 count);
#if FP_HOST_X86
#define SHIFT_CORE(core, insn) \
    ALWAYS_INLINE void core(void *d, u64 count) \
    { \
        asm volatile("movups %0, %%xmm0\n\tmovq %1, %%xmm1\n\t" insn " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
                     : D128 \
                     : "r"(count) \
                     : "xmm0", "xmm1"); \
    }
#else
#define SHIFT_CORE(core, insn) \
    static inline void core(void *d, u64 count) { panic("no host instruction for " insn); }
#endif
ALWAYS_INLINE bool shift_imm(struct vcpu *v, const struct insn *in, struct how h, shift_core *core)
{
    core(sse_reg(v, in->m), (u8)in->imm);
    return true;
}
#define SHIFT_IMM(name, insn) SHIFT_CORE(name##_core, insn) BODY_X_REG(name, shift_imm, name##_core)
SHIFT_IMM(body_psrlw_imm, "psrlw")
SHIFT_IMM(body_psraw_imm, "psraw")
SHIFT_IMM(body_psllw_imm, "psllw")
SHIFT_IMM(body_psrld_imm, "psrld")
SHIFT_IMM(body_psrad_imm, "psrad")
SHIFT_IMM(body_pslld_imm, "pslld")
SHIFT_IMM(body_psrlq_imm, "psrlq")
SHIFT_IMM(body_psllq_imm, "psllq")

// PSLLDQ and PSRLDQ: the whole register by bytes.
ALWAYS_INLINE bool byte_shift(struct vcpu *v, const struct insn *in, struct how h, bool left)
{
    unsigned __int128 x;
    unsigned n = (u8)in->imm;
    memcpy(&x, sse_reg(v, in->m), 16);
    x = n > 15 ? 0 : left ? x << 8 * n : x >> 8 * n;
    memcpy(sse_reg(v, in->m), &x, 16);
    return true;
}
BODY_X_REG(body_psrldq, byte_shift, false)
BODY_X_REG(body_pslldq, byte_shift, true)

// ---- blends whose mask is XMM0 ----
SSE_BY_XMM0(op_pblendvb, "pblendvb")
SSE_BY_XMM0(op_blendvps, "blendvps")
SSE_BY_XMM0(op_blendvpd, "blendvpd")

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
SSE_BY_IMM(op_blendps, "0x66, 0x0F, 0x3A, 0x0C, 0xC1")
SSE_BY_IMM(op_blendpd, "0x66, 0x0F, 0x3A, 0x0D, 0xC1")
SSE_BY_IMM(op_pblendw, "0x66, 0x0F, 0x3A, 0x0E, 0xC1")
SSE_BY_IMM(op_mpsadbw, "0x66, 0x0F, 0x3A, 0x42, 0xC1")

// The common ones pick their elements without a call. Two elements of *a, then two of *b.
ALWAYS_INLINE void shuffle32(void *d, const void *first, const void *second, u8 imm)
{
    const u32 *a = first, *b = second;
    u64 low = a[imm & 3] | (u64)a[imm >> 2 & 3] << 32, high = b[imm >> 4 & 3] | (u64)b[imm >> 6] << 32;
    sse_put(d, low, high);
}
ALWAYS_INLINE void pshufd(void *d, const void *s, u8 imm) { shuffle32(d, s, s, imm); }
ALWAYS_INLINE void shufps(void *d, const void *s, u8 imm) { shuffle32(d, d, s, imm); }
ALWAYS_INLINE void shufpd(void *d, const void *s, u8 imm)
{
    u64 low = ((const u64 *)d)[imm & 1], high = ((const u64 *)s)[imm >> 1 & 1];
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
ALWAYS_INLINE void pshuflw(void *d, const void *s, u8 imm)
{
    u64 high = ((const u64 *)s)[1];
    sse_put(d, shuffle16(s, imm), high);
}
ALWAYS_INLINE void pshufhw(void *d, const void *s, u8 imm)
{
    u64 low = ((const u64 *)s)[0];
    sse_put(d, low, shuffle16((const u8 *)s + 8, imm));
}
ALWAYS_INLINE bool pick(struct vcpu *v, const struct insn *in, struct how h, sse_core_imm *core)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, 16, true);
    if (sse_missed(h, s)) return false;
    core(sse_reg(v, in->r), s, (u8)in->imm);
    return true;
}
BODY_X(body_pshufd, pick, pshufd)
BODY_X(body_shufps, pick, shufps)
BODY_X(body_shufpd, pick, shufpd)
BODY_X(body_pshuflw, pick, pshuflw)
BODY_X(body_pshufhw, pick, pshufhw)

// PALIGNR: a constant for each shift that takes bytes of both operands; the others, which nobody uses, go the
// slow way.
IMM_TABLE(palignr, "0x66, 0x0F, 0x3A, 0x0F, 0xC1")
#if FP_HOST_X86
#define ALIGN_CASE(k) \
    case k: \
        asm volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\tpalignr $" #k \
                     ", %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
                     : D128:S128 \
                     : "xmm0", "xmm1"); \
        break;
#else
#define ALIGN_CASE(k)
#endif
ALWAYS_INLINE bool palignr(struct vcpu *v, const struct insn *in, struct how h)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, 16, true);
    void *d = sse_reg(v, in->r);
    if (sse_missed(h, s)) return false;
    if (!h.fast) {
        IMM_CALL(palignr, in->imm, d, s);
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

// Packed integer arithmetic on XMM registers: SSE2, SSSE3, SSE4.1, SSE4.2. One line an instruction.
#include "cpu/sse.h"

#define BODY_REG(name)                                                                                                 \
    const struct body body_##name = {.loop = {op_##name, op_##name, op_##name, op_##name},                             \
                                     .fast = {{{NULL}, {name##_r}, {name##_r}, {name##_r}}},                       \
                                     .call = {{NULL}, {name##_r_call}, {name##_r_call}, {name##_r_call}}};

#define INT(name) CORE_X(name) LOOP_INT(name, 16) FAST_CORE(name, 16, true)
#define EXT(name, size, src) CORE_M(name, src) LOOP_INT(name, size) FAST_CORE(name, size, false)

// SSE2
INT(punpcklbw)
INT(punpcklwd)
INT(punpckldq)
INT(packsswb)
INT(pcmpgtb)
INT(pcmpgtw)
INT(pcmpgtd)
INT(packuswb)
INT(punpckhbw)
INT(punpckhwd)
INT(punpckhdq)
INT(packssdw)
INT(punpcklqdq)
INT(punpckhqdq)
INT(pcmpeqb)
INT(pcmpeqw)
INT(pcmpeqd)
INT(psrlw)
INT(psrld)
INT(psrlq)
INT(paddq)
INT(pmullw)
INT(psubusb)
INT(psubusw)
INT(pminub)
INT(pand)
INT(paddusb)
INT(paddusw)
INT(pmaxub)
INT(pandn)
INT(pavgb)
INT(psraw)
INT(psrad)
INT(pavgw)
INT(pmulhuw)
INT(pmulhw)
INT(psubsb)
INT(psubsw)
INT(pminsw)
INT(por)
INT(paddsb)
INT(paddsw)
INT(pmaxsw)
INT(pxor)
INT(psllw)
INT(pslld)
INT(psllq)
INT(pmuludq)
INT(pmaddwd)
INT(psadbw)
INT(psubb)
INT(psubw)
INT(psubd)
INT(psubq)
INT(paddb)
INT(paddw)
INT(paddd)
// SSSE3
INT(pshufb)
INT(phaddw)
INT(phaddd)
INT(phaddsw)
INT(pmaddubsw)
INT(phsubw)
INT(phsubd)
INT(phsubsw)
INT(psignb)
INT(psignw)
INT(psignd)
INT(pmulhrsw)
INT(pabsb)
INT(pabsw)
INT(pabsd)
// SSE4.1 and PCMPGTQ of SSE4.2
INT(pmuldq)
INT(pcmpeqq)
INT(packusdw)
INT(pcmpgtq)
INT(pminsb)
INT(pminsd)
INT(pminuw)
INT(pminud)
INT(pmaxsb)
INT(pmaxsd)
INT(pmaxuw)
INT(pmaxud)
INT(pmulld)
INT(phminposuw)
// Widening moves read only what they widen.
EXT(pmovsxbw, 8, S64)
EXT(pmovsxbd, 4, S32)
EXT(pmovsxbq, 2, S16)
EXT(pmovsxwd, 8, S64)
EXT(pmovsxwq, 4, S32)
EXT(pmovsxdq, 8, S64)
EXT(pmovzxbw, 8, S64)
EXT(pmovzxbd, 4, S32)
EXT(pmovzxbq, 2, S16)
EXT(pmovzxwd, 8, S64)
EXT(pmovzxwq, 4, S32)
EXT(pmovzxdq, 8, S64)

// ---- shifts of a group by an immediate: the same as by a register that holds it ----
#if FP_HOST_X86
#define SHIFT_CORE(name)                                                                                               \
    static inline __attribute__((always_inline)) void shift_##name(void *d, u64 count)                                 \
    {                                                                                                                  \
        asm volatile("movups %0, %%xmm0\n\tmovq %1, %%xmm1\n\t" #name " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"          \
                     : D128 : "r"(count) : "xmm0", "xmm1");                                                            \
    }
#else
#define SHIFT_CORE(name)                                                                                               \
    static inline void shift_##name(void *d, u64 count)                                                                \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#endif
#define SHIFT_IMM(name)                                                                                                \
    SHIFT_CORE(name)                                                                                                   \
    ALWAYS_INLINE bool fast_##name##_imm(struct vcpu *v, const struct insn *in)                                        \
    {                                                                                                                  \
        shift_##name(sse_reg(v, in->m), (u8)in->imm);                                                                  \
        return true;                                                                                                   \
    }                                                                                                                  \
    LOOP(op_##name##_imm, fast_##name##_imm(v, in))                                                                    \
    FAST(name##_imm_r, fast_##name##_imm(v, in))                                                                       \
    BODY_REG(name##_imm)
SHIFT_IMM(psrlw)
SHIFT_IMM(psraw)
SHIFT_IMM(psllw)
SHIFT_IMM(psrld)
SHIFT_IMM(psrad)
SHIFT_IMM(pslld)
SHIFT_IMM(psrlq)
SHIFT_IMM(psllq)

// ---- whole-register byte shifts ----
ALWAYS_INLINE bool byte_shift(struct vcpu *v, const struct insn *in, bool left)
{
    unsigned __int128 x;
    unsigned n = (u8)in->imm;
    memcpy(&x, sse_reg(v, in->m), 16);
    x = n > 15 ? 0 : left ? x << 8 * n : x >> 8 * n;
    memcpy(sse_reg(v, in->m), &x, 16);
    return true;
}
LOOP(op_psrldq, byte_shift(v, in, false))
LOOP(op_pslldq, byte_shift(v, in, true))
FAST(psrldq_r, byte_shift(v, in, false))
FAST(pslldq_r, byte_shift(v, in, true))
BODY_REG(psrldq)
BODY_REG(pslldq)

// ---- blends whose mask is XMM0 ----
#define BLENDV(name)                                                                                                   \
    CORE(name, asm volatile("movups %0, %%xmm1\n\tmovups %1, %%xmm2\n\tmovups %2, %%xmm0\n\t" #name                   \
                            " %%xmm0, %%xmm2, %%xmm1\n\tmovups %%xmm1, %0"                                             \
                            : D128 : S128, "m"(*((const struct x128 *)s + 1)) : "xmm0", "xmm1", "xmm2");)              \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t, pair[2];                                                                                        \
        pair[0] = *(const struct x128 *)sse_source(v, in, &t, 16);                                                     \
        pair[1] = *sse_reg(v, 0);                                                                                      \
        core_##name(sse_reg(v, in->r), pair);                                                                          \
    }
BLENDV(pblendvb)
BLENDV(blendvps)
BLENDV(blendvpd)

// PTEST: ZF and CF from two ANDs, the other flags cleared.
void op_ptest(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const struct x128 *s = sse_source(v, in, &t, 16), *d = sse_reg(v, in->r);
    bool zf = !((s->q[0] & d->q[0]) | (s->q[1] & d->q[1]));
    bool cf = !((s->q[0] & ~d->q[0]) | (s->q[1] & ~d->q[1]));
    v->s.fl = (u16)(0x200 | (zf ? F_ZF : 0) | (cf ? F_CF : 0));
}
ALWAYS_INLINE bool fast_ptest(struct vcpu *v, const struct insn *in, unsigned form, int unused)
{
    const u64 *s = sse_fast_source(v, in, form, 16, true), *d = sse_reg(v, in->r)->q;
    if (form != FORM_REG && unlikely(!s)) return false;
    bool zf = !((s[0] & d[0]) | (s[1] & d[1])), cf = !((s[0] & ~d[0]) | (s[1] & ~d[1]));
    v->s.fl = (u16)(0x200 | (zf ? F_ZF : 0) | (cf ? F_CF : 0));
    return true;
}
FORMS(ptest, fast_ptest, 0)
BODY_OF(ptest, op_ptest)

// ---- shuffles and the like by an immediate ----
#define SHUFFLE(name, bytes)                                                                                           \
    IMM_TABLE(name, bytes)                                                                                             \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t;                                                                                                 \
        const void *s = sse_source(v, in, &t, 16);                                                                     \
        IMM_CALL(name, in->imm, sse_reg(v, in->r), s);                                                                 \
    }
SHUFFLE(blendps, "0x66, 0x0F, 0x3A, 0x0C, 0xC1")
SHUFFLE(blendpd, "0x66, 0x0F, 0x3A, 0x0D, 0xC1")
SHUFFLE(pblendw, "0x66, 0x0F, 0x3A, 0x0E, 0xC1")
SHUFFLE(mpsadbw, "0x66, 0x0F, 0x3A, 0x42, 0xC1")

// The common ones pick their elements without a call. Two elements of *a, then two of *b.
ALWAYS_INLINE void shuffle32(void *d, const void *first, const void *second, u8 imm)
{
    const u32 *a = first, *b = second;
    u64 low = a[imm & 3] | (u64)a[imm >> 2 & 3] << 32, high = b[imm >> 4 & 3] | (u64)b[imm >> 6] << 32;
    sse_put(d, low, high);
}
ALWAYS_INLINE void core_pshufd(void *d, const void *s, u8 imm)
{
    shuffle32(d, s, s, imm);
}
ALWAYS_INLINE void core_shufps(void *d, const void *s, u8 imm)
{
    shuffle32(d, d, s, imm);
}
ALWAYS_INLINE void core_shufpd(void *d, const void *s, u8 imm)
{
    u64 low = ((const u64 *)d)[imm & 1], high = ((const u64 *)s)[imm >> 1 & 1];
    sse_put(d, low, high);
}
ALWAYS_INLINE u64 shuffle16(const void *source, u8 imm)
{
    const u16 *a = source; // one element after the other, from memory: few registers, so that no compiler saves one
    u64 x = a[imm >> 6];
    x = x << 16 | a[imm >> 4 & 3];
    x = x << 16 | a[imm >> 2 & 3];
    return x << 16 | a[imm & 3];
}
ALWAYS_INLINE void core_pshuflw(void *d, const void *s, u8 imm)
{
    u64 high = ((const u64 *)s)[1];
    sse_put(d, shuffle16(s, imm), high);
}
ALWAYS_INLINE void core_pshufhw(void *d, const void *s, u8 imm)
{
    u64 low = ((const u64 *)s)[0];
    sse_put(d, low, shuffle16((const u8 *)s + 8, imm));
}
#define PICK(name)                                                                                                     \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t;                                                                                                 \
        const void *s = sse_source(v, in, &t, 16);                                                                     \
        core_##name(sse_reg(v, in->r), s, (u8)in->imm);                                                                \
    }                                                                                                                  \
    ALWAYS_INLINE bool fast_##name(struct vcpu *v, const struct insn *in, unsigned form, int unused)                   \
    {                                                                                                                  \
        const void *s = sse_fast_source(v, in, form, 16, true);                                                        \
        if (form != FORM_REG && unlikely(!s)) return false;                                                            \
        core_##name(sse_reg(v, in->r), s, (u8)in->imm);                                                                \
        return true;                                                                                                   \
    }                                                                                                                  \
    FORMS(name, fast_##name, 0)                                                                                        \
    BODY_OF(name, op_##name)
PICK(pshufd)
PICK(shufps)
PICK(shufpd)
PICK(pshuflw)
PICK(pshufhw)

// PALIGNR: a constant for each shift that takes bytes of both operands; the others, which nobody uses, go the slow way.
IMM_TABLE(palignr, "0x66, 0x0F, 0x3A, 0x0F, 0xC1")
void op_palignr(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const void *s = sse_source(v, in, &t, 16);
    IMM_CALL(palignr, in->imm, sse_reg(v, in->r), s);
}
#if FP_HOST_X86
#define ALIGN_CASE(k)                                                                                                  \
    case k:                                                                                                            \
        asm volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\tpalignr $" #k                                         \
                     ", %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" : D128 : S128 : "xmm0", "xmm1");                          \
        break;
#else
#define ALIGN_CASE(k)
#endif
ALWAYS_INLINE bool fast_palignr(struct vcpu *v, const struct insn *in, unsigned form, int unused)
{
    const void *s = sse_fast_source(v, in, form, 16, true);
    void *d = sse_reg(v, in->r);
    (void)d;
    if (form != FORM_REG && unlikely(!s)) return false;
    switch ((u8)in->imm) {
        ALIGN_CASE(1) ALIGN_CASE(2) ALIGN_CASE(3) ALIGN_CASE(4) ALIGN_CASE(5) ALIGN_CASE(6) ALIGN_CASE(7) ALIGN_CASE(8)
        ALIGN_CASE(9) ALIGN_CASE(10) ALIGN_CASE(11) ALIGN_CASE(12) ALIGN_CASE(13) ALIGN_CASE(14) ALIGN_CASE(15)
    default: return false;
    }
    return true;
}
FORMS(palignr, fast_palignr, 0)
BODY_OF(palignr, op_palignr)

// MMX, and what SSE, SSE2 and SSSE3 added to it. Cores run on the host's MMX registers and leave its x87 empty (EMMS).
#include "cpu/sse.h"

#if FP_HOST_X86
#define MMX_CORE(name)                                                                                                 \
    static inline void core_##name(u64 *d, const void *s)                                                              \
    {                                                                                                                  \
        asm volatile("movq %0, %%mm0\n\tmovq %1, %%mm1\n\t" #name " %%mm1, %%mm0\n\tmovq %%mm0, %0\n\temms"            \
                     : "+m"(*d) : S64 : "mm0", "mm1");                                                                 \
    }
// Stubs as in cpu/sse.h, on mm0 and mm1.
#define MMX_IMM_CALL(name, imm, d, s)                                                                                  \
    asm volatile("movq (%0), %%mm0\n\tmovq (%1), %%mm1\n\tlea -128(%%rsp), %%rsp\n\tcall *%2\n\t"                      \
                 "lea 128(%%rsp), %%rsp\n\tmovq %%mm0, (%0)\n\temms"                                                  \
                 : : "r"(d), "r"(s), "r"(name##_stubs + 8 * ((imm) & 0xFF)) : "mm0", "mm1", "memory", "cc")
#else
#define MMX_CORE(name)                                                                                                 \
    static inline void core_##name(u64 *d, const void *s)                                                              \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#define MMX_IMM_CALL(name, imm, d, s) ((void)(d), (void)(s), panic("no host instruction for " #name))
#endif

#define MMX_N(name, size)                                                                                              \
    MMX_CORE(name)                                                                                                     \
    void op_mmx_##name(struct vcpu *v, const struct insn *in)                                                          \
    {                                                                                                                  \
        mmx_wait(v);                                                                                                   \
        u64 t, d = *mmx_reg(v, in->r);                                                                                 \
        const void *s = mmx_source(v, in, &t, size);                                                                   \
        core_##name(&d, s);                                                                                            \
        mmx_enter(v);                                                                                                  \
        mmx_write(v, in->r, d);                                                                                        \
    }
#define MMX(name) MMX_N(name, 8)

// The low unpacks read no more than they use.
MMX_N(punpcklbw, 4)
MMX_N(punpcklwd, 4)
MMX_N(punpckldq, 4)
MMX(punpckhbw)
MMX(punpckhwd)
MMX(punpckhdq)
MMX(packsswb)
MMX(pcmpgtb)
MMX(pcmpgtw)
MMX(pcmpgtd)
MMX(packuswb)
MMX(packssdw)
MMX(pcmpeqb)
MMX(pcmpeqw)
MMX(pcmpeqd)
MMX(psrlw)
MMX(psrld)
MMX(psrlq)
MMX(paddq)
MMX(pmullw)
MMX(psubusb)
MMX(psubusw)
MMX(pminub)
MMX(pand)
MMX(paddusb)
MMX(paddusw)
MMX(pmaxub)
MMX(pandn)
MMX(pavgb)
MMX(psraw)
MMX(psrad)
MMX(pavgw)
MMX(pmulhuw)
MMX(pmulhw)
MMX(psubsb)
MMX(psubsw)
MMX(pminsw)
MMX(por)
MMX(paddsb)
MMX(paddsw)
MMX(pmaxsw)
MMX(pxor)
MMX(psllw)
MMX(pslld)
MMX(psllq)
MMX(pmuludq)
MMX(pmaddwd)
MMX(psadbw)
MMX(psubb)
MMX(psubw)
MMX(psubd)
MMX(psubq)
MMX(paddb)
MMX(paddw)
MMX(paddd)
MMX(pshufb)
MMX(phaddw)
MMX(phaddd)
MMX(phaddsw)
MMX(pmaddubsw)
MMX(phsubw)
MMX(phsubd)
MMX(phsubsw)
MMX(psignb)
MMX(psignw)
MMX(psignd)
MMX(pmulhrsw)
MMX(pabsb)
MMX(pabsw)
MMX(pabsd)

#define MMX_SHIFT_IMM(name)                                                                                            \
    void op_mmx_##name##_imm(struct vcpu *v, const struct insn *in)                                                    \
    {                                                                                                                  \
        mmx_wait(v);                                                                                                   \
        u64 count = (u8)in->imm, d = *mmx_reg(v, in->m);                                                               \
        core_##name(&d, &count);                                                                                       \
        mmx_enter(v);                                                                                                  \
        mmx_write(v, in->m, d);                                                                                        \
    }
MMX_SHIFT_IMM(psrlw)
MMX_SHIFT_IMM(psraw)
MMX_SHIFT_IMM(psllw)
MMX_SHIFT_IMM(psrld)
MMX_SHIFT_IMM(psrad)
MMX_SHIFT_IMM(pslld)
MMX_SHIFT_IMM(psrlq)
MMX_SHIFT_IMM(psllq)

#define MMX_IMM(name, ...)                                                                                             \
    IMM_TABLE(mmx_##name, __VA_ARGS__)                                                                                 \
    void op_mmx_##name(struct vcpu *v, const struct insn *in)                                                          \
    {                                                                                                                  \
        mmx_wait(v);                                                                                                   \
        u64 t, d = *mmx_reg(v, in->r);                                                                                 \
        const void *s = mmx_source(v, in, &t, 8);                                                                      \
        MMX_IMM_CALL(mmx_##name, in->imm, &d, s);                                                                      \
        mmx_enter(v);                                                                                                  \
        mmx_write(v, in->r, d);                                                                                        \
    }
MMX_IMM(pshufw, "0x0F, 0x70, 0xC1")
MMX_IMM(palignr, "0x0F, 0x3A, 0x0F, 0xC1")

// ---- moves ----
void op_mmx_movq_load(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 t, x = *(const u64 *)mmx_source(v, in, &t, 8);
    mmx_enter(v);
    mmx_write(v, in->r, x);
}
void op_mmx_movq_store(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 x = *mmx_reg(v, in->r);
    mmx_top(v);
    if (in->mem) lin_store(v, insn_linear(v, in, 8, ACC_WRITE), 8, x);
    mmx_enter(v);
    if (!in->mem) mmx_write(v, in->m, x);
}
void op_mmx_movd_load(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 x = rm_load(v, in, in->osz == W64 ? W64 : W32);
    mmx_enter(v);
    mmx_write(v, in->r, x);
}
void op_mmx_movd_store(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 x = *mmx_reg(v, in->r);
    mmx_top(v);
    rm_store(v, in, in->osz == W64 ? W64 : W32, in->osz == W64 ? x : (u32)x);
    mmx_enter(v);
}
void op_movq2dq(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    *sse_reg(v, in->r) = (struct x128){{*mmx_reg(v, in->m), 0}};
    mmx_enter(v);
}
void op_movdq2q(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    mmx_enter(v);
    mmx_write(v, in->r, sse_reg(v, in->m)->q[0]);
}
void op_mmx_pmovmskb(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    const u8 *s = (const u8 *)mmx_reg(v, in->m);
    u32 x = 0;
    for (unsigned i = 0; i < 8; i++) x |= (u32)(s[i] >> 7) << i;
    mmx_enter(v);
    reg_set(v, in->r, W32, x);
}
void op_mmx_pinsrw(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 x = in->mem ? rm_load(v, in, W16) : REG64(v, in->m), d = *mmx_reg(v, in->r);
    ((u16 *)&d)[in->imm & 3] = (u16)x;
    mmx_enter(v);
    mmx_write(v, in->r, d);
}
void op_mmx_pextrw(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 x = ((u16 *)mmx_reg(v, in->m))[in->imm & 3];
    mmx_enter(v);
    reg_set(v, in->r, W32, x);
}
void op_emms(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    v->s.fpu.fsw &= (u16)~0x3800;
    v->s.fpu.ftw = 0xFFFF;
}

// ---- conversions between MMX and XMM registers ----
#if FP_HOST_X86
#define FROM_MMX_CORE(name)                                                                                            \
    CORE(name, asm volatile("movups %0, %%xmm0\n\tmovq %1, %%mm0\n\t" #name " %%mm0, %%xmm0\n\tmovups %%xmm0, %0\n\temms"  \
                            : D128 : S64 : "xmm0", "mm0");)
#define TO_MMX_CORE(name)                                                                                              \
    static inline u64 core_##name(const void *s)                                                                       \
    {                                                                                                                  \
        u64 d;                                                                                                         \
        asm volatile("movups %1, %%xmm0\n\t" #name " %%xmm0, %%mm0\n\tmovq %%mm0, %0\n\temms"                           \
                     : "=m"(d) : S128 : "xmm0", "mm0");                                                                \
        return d;                                                                                                      \
    }
#else
#define FROM_MMX_CORE(name) CORE(name)
#define TO_MMX_CORE(name)                                                                                              \
    static inline u64 core_##name(const void *s)                                                                       \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#endif
#define FROM_MMX(name)                                                                                                 \
    FROM_MMX_CORE(name)                                                                                                \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        if (rows[in->row].unit & UNIT_MMX) mmx_wait(v);                                                                 \
        u64 t;                                                                                                         \
        struct x128 d = *sse_reg(v, in->r);                                                                            \
        const void *s = mmx_source(v, in, &t, 8);                                                                      \
        bool unmasked = v->d.mode & MODE_FPUNMASK;                                                                     \
        u64 from = *(const u64 *)s;                                                                                    \
        if (rows[in->row].unit & UNIT_MMX) mmx_enter(v); /* stays even if #XM follows */                                \
        if (unmasked) fp_begin(v);                                                                                     \
        core_##name(&d, &from);                                                                                        \
        if (unmasked) fp_end(v, NULL, FP_NONE);                                                                        \
        *sse_reg(v, in->r) = d;                                                                                        \
    }
FROM_MMX(cvtpi2ps)
FROM_MMX(cvtpi2pd)
#define TO_MMX(name, size)                                                                                             \
    TO_MMX_CORE(name)                                                                                                  \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        mmx_wait(v);                                                                                                   \
        struct x128 t, s = {{0, 0}};                                                                                   \
        memcpy(&s, sse_source(v, in, &t, size), size);                                                                 \
        bool unmasked = v->d.mode & MODE_FPUNMASK;                                                                     \
        mmx_enter(v); /* stays even if #XM follows */                                                                  \
        if (unmasked) fp_begin(v);                                                                                     \
        u64 d = core_##name(&s);                                                                                       \
        if (unmasked) fp_end(v, NULL, FP_NONE);                                                                        \
        mmx_write(v, in->r, d);                                                                                        \
    }
TO_MMX(cvtps2pi, 8)
TO_MMX(cvttps2pi, 8)
TO_MMX(cvtpd2pi, 16)
TO_MMX(cvttpd2pi, 16)

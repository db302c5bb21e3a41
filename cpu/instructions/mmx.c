// MMX, and what SSE, SSE2 and SSSE3 added to it. Cores run on the host's MMX registers and leave its x87
// empty (EMMS).
#include "cpu/instructions/sse.h"

// One line an instruction: the function's name, and the host's for it.
#define MMX_N(name, host, size) \
    MMX_CORE(name##_core, host) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        mmx_wait(v); \
        u64 t, d = *mmx_reg(v, in->r); \
        const void *s = mmx_source(v, in, &t, size); \
        name##_core(&d, s); \
        mmx_enter(v); \
        mmx_write(v, in->r, d); \
    }
#define MMX(name, host) MMX_N(name, host, 8)

// The low unpacks read no more than they use.
MMX_N(op_mmx_punpcklbw, "punpcklbw", 4)
MMX_N(op_mmx_punpcklwd, "punpcklwd", 4)
MMX_N(op_mmx_punpckldq, "punpckldq", 4)
MMX(op_mmx_punpckhbw, "punpckhbw")
MMX(op_mmx_punpckhwd, "punpckhwd")
MMX(op_mmx_punpckhdq, "punpckhdq")
MMX(op_mmx_packsswb, "packsswb")
MMX(op_mmx_pcmpgtb, "pcmpgtb")
MMX(op_mmx_pcmpgtw, "pcmpgtw")
MMX(op_mmx_pcmpgtd, "pcmpgtd")
MMX(op_mmx_packuswb, "packuswb")
MMX(op_mmx_packssdw, "packssdw")
MMX(op_mmx_pcmpeqb, "pcmpeqb")
MMX(op_mmx_pcmpeqw, "pcmpeqw")
MMX(op_mmx_pcmpeqd, "pcmpeqd")
MMX(op_mmx_psrlw, "psrlw")
MMX(op_mmx_psrld, "psrld")
MMX(op_mmx_psrlq, "psrlq")
MMX(op_mmx_paddq, "paddq")
MMX(op_mmx_pmullw, "pmullw")
MMX(op_mmx_psubusb, "psubusb")
MMX(op_mmx_psubusw, "psubusw")
MMX(op_mmx_pminub, "pminub")
MMX(op_mmx_pand, "pand")
MMX(op_mmx_paddusb, "paddusb")
MMX(op_mmx_paddusw, "paddusw")
MMX(op_mmx_pmaxub, "pmaxub")
MMX(op_mmx_pandn, "pandn")
MMX(op_mmx_pavgb, "pavgb")
MMX(op_mmx_psraw, "psraw")
MMX(op_mmx_psrad, "psrad")
MMX(op_mmx_pavgw, "pavgw")
MMX(op_mmx_pmulhuw, "pmulhuw")
MMX(op_mmx_pmulhw, "pmulhw")
MMX(op_mmx_psubsb, "psubsb")
MMX(op_mmx_psubsw, "psubsw")
MMX(op_mmx_pminsw, "pminsw")
MMX(op_mmx_por, "por")
MMX(op_mmx_paddsb, "paddsb")
MMX(op_mmx_paddsw, "paddsw")
MMX(op_mmx_pmaxsw, "pmaxsw")
MMX(op_mmx_pxor, "pxor")
MMX(op_mmx_psllw, "psllw")
MMX(op_mmx_pslld, "pslld")
MMX(op_mmx_psllq, "psllq")
MMX(op_mmx_pmuludq, "pmuludq")
MMX(op_mmx_pmaddwd, "pmaddwd")
MMX(op_mmx_psadbw, "psadbw")
MMX(op_mmx_psubb, "psubb")
MMX(op_mmx_psubw, "psubw")
MMX(op_mmx_psubd, "psubd")
MMX(op_mmx_psubq, "psubq")
MMX(op_mmx_paddb, "paddb")
MMX(op_mmx_paddw, "paddw")
MMX(op_mmx_paddd, "paddd")
MMX(op_mmx_pshufb, "pshufb")
MMX(op_mmx_phaddw, "phaddw")
MMX(op_mmx_phaddd, "phaddd")
MMX(op_mmx_phaddsw, "phaddsw")
MMX(op_mmx_pmaddubsw, "pmaddubsw")
MMX(op_mmx_phsubw, "phsubw")
MMX(op_mmx_phsubd, "phsubd")
MMX(op_mmx_phsubsw, "phsubsw")
MMX(op_mmx_psignb, "psignb")
MMX(op_mmx_psignw, "psignw")
MMX(op_mmx_psignd, "psignd")
MMX(op_mmx_pmulhrsw, "pmulhrsw")
MMX(op_mmx_pabsb, "pabsb")
MMX(op_mmx_pabsw, "pabsw")
MMX(op_mmx_pabsd, "pabsd")

#define MMX_SHIFT_IMM(name, core) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        mmx_wait(v); \
        u64 count = (u8)in->imm, d = *mmx_reg(v, in->m); \
        core(&d, &count); \
        mmx_enter(v); \
        mmx_write(v, in->m, d); \
    }
MMX_SHIFT_IMM(op_mmx_psrlw_imm, op_mmx_psrlw_core)
MMX_SHIFT_IMM(op_mmx_psraw_imm, op_mmx_psraw_core)
MMX_SHIFT_IMM(op_mmx_psllw_imm, op_mmx_psllw_core)
MMX_SHIFT_IMM(op_mmx_psrld_imm, op_mmx_psrld_core)
MMX_SHIFT_IMM(op_mmx_psrad_imm, op_mmx_psrad_core)
MMX_SHIFT_IMM(op_mmx_pslld_imm, op_mmx_pslld_core)
MMX_SHIFT_IMM(op_mmx_psrlq_imm, op_mmx_psrlq_core)
MMX_SHIFT_IMM(op_mmx_psllq_imm, op_mmx_psllq_core)

#define MMX_IMM(name, ...) \
    IMM_TABLE(name, __VA_ARGS__) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        mmx_wait(v); \
        u64 t, d = *mmx_reg(v, in->r); \
        const void *s = mmx_source(v, in, &t, 8); \
        MMX_IMM_CALL(name, in->imm, &d, s); \
        mmx_enter(v); \
        mmx_write(v, in->r, d); \
    }
// PSHUFW, PALIGNR
MMX_IMM(op_mmx_pshufw, "0x0F, 0x70, 0xC1")
MMX_IMM(op_mmx_palignr, "0x0F, 0x3A, 0x0F, 0xC1")

// ---- moves ----
void op_mmx_movq_load(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    u64 t, x = *(const u64 *)mmx_source(v, in, &t, 8);
    mmx_enter(v);
    mmx_write(v, in->r, x);
}
// MOVNTQ
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
// MOVQ2DQ
void op_movq2dq(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    *sse_reg(v, in->r) = (struct x128){{*mmx_reg(v, in->m), 0}};
    mmx_enter(v);
}
// MOVDQ2Q
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
#define FROM_MMX(name, host) \
    FROM_MMX_CORE(name##_core, host) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        if (rows[in->row].unit & UNIT_MMX) mmx_wait(v); \
        u64 t; \
        struct x128 d = *sse_reg(v, in->r); \
        const void *s = mmx_source(v, in, &t, 8); \
        bool unmasked = v->d.mode & MODE_FPUNMASK; \
        u64 from = *(const u64 *)s; \
        if (rows[in->row].unit & UNIT_MMX) mmx_enter(v); /* stays even if #XM follows */ \
        if (unmasked) fp_begin(v); \
        name##_core(v, &d, &d, &from); \
        if (unmasked) fp_end(v, NULL, FP_NONE, NULL); \
        *sse_reg(v, in->r) = d; \
    }
FROM_MMX(op_cvtpi2ps, "cvtpi2ps")
FROM_MMX(op_cvtpi2pd, "cvtpi2pd")
#define TO_MMX(name, host, size) \
    TO_MMX_CORE(name##_core, host) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        mmx_wait(v); \
        struct x128 t, s = {{0, 0}}; \
        memcpy(&s, sse_source(v, in, &t, size), size); \
        bool unmasked = v->d.mode & MODE_FPUNMASK; \
        mmx_enter(v); /* stays even if #XM follows */ \
        if (unmasked) fp_begin(v); \
        u64 d = name##_core(v, &s); \
        if (unmasked) fp_end(v, NULL, FP_NONE, NULL); \
        mmx_write(v, in->r, d); \
    }
TO_MMX(op_cvtps2pi, "cvtps2pi", 8)
TO_MMX(op_cvttps2pi, "cvttps2pi", 8)
TO_MMX(op_cvtpd2pi, "cvtpd2pi", 16)
TO_MMX(op_cvttpd2pi, "cvttpd2pi", 16)

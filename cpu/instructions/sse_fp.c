// Floating-point arithmetic on XMM registers: SSE to SSE4.1. One line an instruction; how exceptions are
// raised with a mask clear is in cpu/engine/fp.c.
//
// RCPPS, RCPSS, RSQRTPS and RSQRTSS give what the host gives: vendors differ in the low bits.
#include "cpu/instructions/sse.h"

SSE_FP(body_addps, "addps", FP_PS)
SSE_FP(body_addpd, "addpd", FP_PD)
SSE_FP_M(body_addss, "addss", 4, S32, FP_SS)
SSE_FP_M(body_addsd, "addsd", 8, S64, FP_SD)
SSE_FP(body_subps, "subps", FP_PS)
SSE_FP(body_subpd, "subpd", FP_PD)
SSE_FP_M(body_subss, "subss", 4, S32, FP_SS)
SSE_FP_M(body_subsd, "subsd", 8, S64, FP_SD)
SSE_FP(body_mulps, "mulps", FP_PS)
SSE_FP(body_mulpd, "mulpd", FP_PD)
SSE_FP_M(body_mulss, "mulss", 4, S32, FP_SS)
SSE_FP_M(body_mulsd, "mulsd", 8, S64, FP_SD)
SSE_FP(body_divps, "divps", FP_PS)
SSE_FP(body_divpd, "divpd", FP_PD)
SSE_FP_M(body_divss, "divss", 4, S32, FP_SS)
SSE_FP_M(body_divsd, "divsd", 8, S64, FP_SD)
SSE_FP(body_minps, "minps", FP_NONE)
SSE_FP(body_minpd, "minpd", FP_NONE)
SSE_FP_M(body_minss, "minss", 4, S32, FP_NONE)
SSE_FP_M(body_minsd, "minsd", 8, S64, FP_NONE)
SSE_FP(body_maxps, "maxps", FP_NONE)
SSE_FP(body_maxpd, "maxpd", FP_NONE)
SSE_FP_M(body_maxss, "maxss", 4, S32, FP_NONE)
SSE_FP_M(body_maxsd, "maxsd", 8, S64, FP_NONE)
SSE_FP(body_sqrtps, "sqrtps", FP_NONE)
SSE_FP(body_sqrtpd, "sqrtpd", FP_NONE)
SSE_FP_M(body_sqrtss, "sqrtss", 4, S32, FP_NONE)
SSE_FP_M(body_sqrtsd, "sqrtsd", 8, S64, FP_NONE)
SSE_FP(body_addsubps, "addsubps", FP_PS)
SSE_FP(body_addsubpd, "addsubpd", FP_PD)
SSE_FP(body_haddps, "haddps", FP_PS)
SSE_FP(body_haddpd, "haddpd", FP_PD)
SSE_FP(body_hsubps, "hsubps", FP_PS)
SSE_FP(body_hsubpd, "hsubpd", FP_PD)

// Conversions within XMM registers.
SSE_FP_M(body_cvtss2sd, "cvtss2sd", 4, S32, FP_NONE)
SSE_FP_M(body_cvtsd2ss, "cvtsd2ss", 8, S64, FP_SS)
SSE_FP_M(body_cvtps2pd, "cvtps2pd", 8, S64, FP_NONE)
SSE_FP(body_cvtpd2ps, "cvtpd2ps", FP_PS)
SSE_FP(body_cvtdq2ps, "cvtdq2ps", FP_NONE)
SSE_FP(body_cvtps2dq, "cvtps2dq", FP_NONE)
SSE_FP(body_cvttps2dq, "cvttps2dq", FP_NONE)
SSE_FP(body_cvtpd2dq, "cvtpd2dq", FP_NONE)
SSE_FP(body_cvttpd2dq, "cvttpd2dq", FP_NONE)

// No exceptions, so no difference between the masks.
SSE_PLAIN_M(body_cvtdq2pd, "cvtdq2pd", 8, S64)
SSE_PLAIN(body_rcpps, "rcpps")
SSE_PLAIN(body_rsqrtps, "rsqrtps")
SSE_PLAIN_M(body_rcpss, "rcpss", 4, S32)
SSE_PLAIN_M(body_rsqrtss, "rsqrtss", 4, S32)
SSE_PLAIN(body_andps, "andps")
SSE_PLAIN(body_andpd, "andpd")
SSE_PLAIN(body_andnps, "andnps")
SSE_PLAIN(body_andnpd, "andnpd")
SSE_PLAIN(body_orps, "orps")
SSE_PLAIN(body_orpd, "orpd")
SSE_PLAIN(body_xorps, "xorps")
SSE_PLAIN(body_xorpd, "xorpd")
SSE_PLAIN(body_unpcklps, "unpcklps")
SSE_PLAIN(body_unpcklpd, "unpcklpd")
SSE_PLAIN(body_unpckhps, "unpckhps")
SSE_PLAIN(body_unpckhpd, "unpckhpd")
SSE_PLAIN(body_movsldup, "movsldup")
SSE_PLAIN(body_movshdup, "movshdup")
SSE_PLAIN_M(body_movddup, "movddup", 8, S64)

// ---- by an immediate ----
// Compares: bits 7:3 of the immediate mean nothing without VEX.
#if FP_HOST_X86
// clang-format off
#define CMP_CORE(core, insn, form, src)                                                                                \
    ALWAYS_INLINE void core(void *d, const void *s, u8 imm)                                                            \
    {                                                                                                                  \
        switch (imm & 7) {                                                                                             \
            CMP_CASE(insn, form, src, 0) CMP_CASE(insn, form, src, 1) CMP_CASE(insn, form, src, 2)                     \
            CMP_CASE(insn, form, src, 3) CMP_CASE(insn, form, src, 4) CMP_CASE(insn, form, src, 5)                     \
            CMP_CASE(insn, form, src, 6) CMP_CASE(insn, form, src, 7)                                                  \
        }                                                                                                              \
    }
// clang-format on
#define CMP_CASE(insn, form, src, k) \
    case k: \
        asm volatile("movups %0, %%xmm0\n\t" form(insn, k) "movups %%xmm0, %0" : D128:src : "xmm0", "xmm1"); \
        break;
#define CMP_PACKED(insn, k) "movups %1, %%xmm1\n\t" insn " $" #k ", %%xmm1, %%xmm0\n\t"
#define CMP_SCALAR(insn, k) insn " $" #k ", %1, %%xmm0\n\t"
#else
#define CMP_CORE(core, insn, form, src) \
    static inline void core(void *d, const void *s, u8 imm) { panic("no host instruction for " insn); }
#endif
ALWAYS_INLINE bool cmp_imm(struct vcpu *v, const struct insn *in, struct how h, sse_core_imm *core,
                           unsigned size)
{
    struct x128 t, d;
    const void *s = sse_operand(v, in, h, &t, size, size == 16);
    if (sse_missed(h, s)) return false;
    if (h.fast || !(v->d.mode & MODE_FPUNMASK)) {
        core(sse_reg(v, in->r), s, (u8)in->imm);
        return true;
    }
    d = *sse_reg(v, in->r);
    fp_begin(v);
    core(&d, s, (u8)in->imm);
    fp_end(v, &d, FP_NONE);
    *sse_reg(v, in->r) = d;
    return true;
}
CMP_CORE(cmpps, "cmpps", CMP_PACKED, S128)
CMP_CORE(cmppd, "cmppd", CMP_PACKED, S128)
CMP_CORE(cmpss, "cmpss", CMP_SCALAR, S32)
CMP_CORE(cmpsd, "cmpsd", CMP_SCALAR, S64)
BODY_X(body_cmpps, cmp_imm, cmpps, 16)
BODY_X(body_cmppd, cmp_imm, cmppd, 16)
BODY_X(body_cmpss, cmp_imm, cmpss, 4)
BODY_X(body_cmpsd, cmp_imm, cmpsd, 8)

#define ROUND(name, size, bytes) \
    IMM_TABLE(name, bytes) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t, d = *sse_reg(v, in->r); \
        const void *s = sse_source(v, in, &t, size); \
        bool unmasked = v->d.mode & MODE_FPUNMASK; \
        if (unmasked) fp_begin(v); \
        IMM_CALL(name, in->imm, &d, s); \
        if (unmasked) fp_end(v, &d, FP_NONE); \
        *sse_reg(v, in->r) = d; \
    }
// ROUNDPS, ROUNDPD, ROUNDSS, ROUNDSD
ROUND(op_roundps, 16, "0x66, 0x0F, 0x3A, 0x08, 0xC1")
ROUND(op_roundpd, 16, "0x66, 0x0F, 0x3A, 0x09, 0xC1")
ROUND(op_roundss, 4, "0x66, 0x0F, 0x3A, 0x0A, 0xC1")
ROUND(op_roundsd, 8, "0x66, 0x0F, 0x3A, 0x0B, 0xC1")

// DPPS and DPPD check for exceptions after each of their steps (what the silicon does, held by the silicon
// test): the products, the sums of pairs, the sum of sums. With a mask clear the steps are done one by one,
// for their exceptions alone.
static void dot_lanes(struct x128 *x, unsigned lanes, unsigned size)
{
    for (unsigned i = 0; i < 16 / size; i++)
        if (!(lanes >> i & 1)) memset((u8 *)x + i * size, 0, size);
}
#define DOT(name, mul, hadd, lanes, size, bytes) \
    IMM_TABLE(name, bytes) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t, d = *sse_reg(v, in->r); \
        const void *s = sse_source(v, in, &t, 16); \
        if (v->d.mode & MODE_FPUNMASK) { \
            struct x128 step = d, other; \
            memcpy(&other, s, sizeof other); \
            dot_lanes(&step, (unsigned)in->imm >> 4, size); \
            dot_lanes(&other, (unsigned)in->imm >> 4, size); \
            fp_begin(v); \
            mul(&step, &other); \
            fp_end(v, &step, lanes); \
            for (unsigned i = 16 / size; i > 1; i /= 2) { \
                other = step; \
                fp_begin(v); \
                hadd(&step, &other); \
                fp_end(v, &step, lanes); \
            } \
            fp_begin(v); \
        } \
        IMM_CALL(name, in->imm, &d, s); \
        *sse_reg(v, in->r) = d; \
    }
DOT(op_dpps, body_mulps_core, body_haddps_core, FP_PS, 4, "0x66, 0x0F, 0x3A, 0x40, 0xC1")
DOT(op_dppd, body_mulpd_core, body_haddpd_core, FP_PD, 8, "0x66, 0x0F, 0x3A, 0x41, 0xC1")

// ---- compares into EFLAGS: ZF, PF, CF; the others are cleared. v->s.fl has the layout that LAHF and SETO
// give ----
typedef u16 comi_core(const void *d, const void *s);
#if FP_HOST_X86
#define COMI_CORE(core, insn, src) \
    ALWAYS_INLINE u16 core(const void *d, const void *s) \
    { \
        u16 ax; \
        asm volatile("movups %1, %%xmm0\n\t" insn " %2, %%xmm0\n\tlahf\n\tseto %%al" \
                     : "=&a"(ax) \
                     : "m"(*(const struct x128 *)d), src \
                     : "xmm0", "cc"); \
        return ax; \
    }
#else
#define COMI_CORE(core, insn, src) \
    static inline u16 core(const void *d, const void *s) { panic("no host instruction for " insn); }
#endif
ALWAYS_INLINE bool comi(struct vcpu *v, const struct insn *in, struct how h, comi_core *core, unsigned size)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, false);
    if (sse_missed(h, s)) return false;
    bool unmasked = !h.fast && (v->d.mode & MODE_FPUNMASK);
    if (unmasked) fp_begin(v);
    u16 fl = core(sse_reg(v, in->r), s);
    if (unmasked) fp_end(v, NULL, FP_NONE);
    v->s.fl = fl;
    return true;
}
COMI_CORE(ucomiss, "ucomiss", S32)
COMI_CORE(ucomisd, "ucomisd", S64)
COMI_CORE(comiss, "comiss", S32)
COMI_CORE(comisd, "comisd", S64)
BODY_X(body_ucomiss, comi, ucomiss, 4)
BODY_X(body_ucomisd, comi, ucomisd, 8)
BODY_X(body_comiss, comi, comiss, 4)
BODY_X(body_comisd, comi, comisd, 8)

// ---- conversions between XMM and general registers ----
// From an integer in a register or memory, by cores for 32 and for 64 bits.
ALWAYS_INLINE bool from_int(struct vcpu *v, const struct insn *in, struct how h, sse_core *core32,
                            sse_core *core64)
{
    sse_core *core = h.w == W64 ? core64 : core32;
    if (h.fast) {
        const void *s = h.form == FORM_REG ? (const void *)&REG64(v, in->m)
                                           : fast_read(v, fast_ea(v, in, h.form), W_BYTES(h.w));
        if (sse_missed(h, s)) return false;
        core(sse_reg(v, in->r), s);
        return true;
    }
    struct x128 d = *sse_reg(v, in->r);
    u64 s = rm_load(v, in, h.w);
    bool unmasked = v->d.mode & MODE_FPUNMASK;
    if (unmasked) fp_begin(v);
    core(&d, &s);
    if (unmasked) fp_end(v, &d, FP_NONE);
    *sse_reg(v, in->r) = d;
    return true;
}
CORE_M(cvtsi2ss_32, "cvtsi2ssl", S32)
CORE_M(cvtsi2ss_64, "cvtsi2ssq", S64)
CORE_M(cvtsi2sd_32, "cvtsi2sdl", S32)
CORE_M(cvtsi2sd_64, "cvtsi2sdq", S64)
// CVTSI2SS, CVTSI2SD
BODY_Y(body_cvtsi2ss, from_int, cvtsi2ss_32, cvtsi2ss_64)
BODY_Y(body_cvtsi2sd, from_int, cvtsi2sd_32, cvtsi2sd_64)

typedef u64 to_int_core(const void *s, bool wide);
#if FP_HOST_X86
#define TO_INT_CORE(core, insn, src) \
    ALWAYS_INLINE u64 core(const void *s, bool wide) \
    { \
        u64 x; \
        if (wide) \
            asm volatile(insn " %1, %q0" : "=r"(x) : src); \
        else \
            asm volatile(insn " %1, %k0" : "=r"(x) : src); \
        return x; \
    }
#else
#define TO_INT_CORE(core, insn, src) \
    static inline u64 core(const void *s, bool wide) { panic("no host instruction for " insn); }
#endif
ALWAYS_INLINE bool to_int(struct vcpu *v, const struct insn *in, struct how h, to_int_core *core,
                          unsigned size)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, false);
    if (sse_missed(h, s)) return false;
    bool unmasked = !h.fast && (v->d.mode & MODE_FPUNMASK);
    if (unmasked) fp_begin(v);
    u64 x = core(s, h.w == W64);
    if (unmasked) fp_end(v, NULL, FP_NONE);
    REG64(v, in->r) = h.w == W64 ? x : (u32)x;
    return true;
}
TO_INT_CORE(cvtss2si, "cvtss2si", S32)
TO_INT_CORE(cvttss2si, "cvttss2si", S32)
TO_INT_CORE(cvtsd2si, "cvtsd2si", S64)
TO_INT_CORE(cvttsd2si, "cvttsd2si", S64)
BODY_Y(body_cvtss2si, to_int, cvtss2si, 4)
BODY_Y(body_cvttss2si, to_int, cvttss2si, 4)
BODY_Y(body_cvtsd2si, to_int, cvtsd2si, 8)
BODY_Y(body_cvttsd2si, to_int, cvttsd2si, 8)

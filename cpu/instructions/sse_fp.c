// Floating-point arithmetic on XMM and YMM registers: SSE to SSE4.1, and AVX. One line an instruction; how
// exceptions are raised with a mask clear is in cpu/engine/fp.c.
//
// Where vendors' processors differ (the bits of RCPPS, RCPSS, RSQRTPS and RSQRTSS; which of several NaNs DPPS
// and DPPD leave), cpu/float computes Intel's.
#include "cpu/float/float.h"
#include "cpu/instructions/sse.h"

SSE_FP(addps, vaddps, FP_PS | FP_ADD)
SSE_FP(addpd, vaddpd, FP_PD | FP_ADD)
SSE_FP_SCALAR(addss, vaddss, 4, S32, FP_SS | FP_ADD)
SSE_FP_SCALAR(addsd, vaddsd, 8, S64, FP_SD | FP_ADD)
SSE_FP(subps, vsubps, FP_PS | FP_ADD | FP_SUB)
SSE_FP(subpd, vsubpd, FP_PD | FP_ADD | FP_SUB)
SSE_FP_SCALAR(subss, vsubss, 4, S32, FP_SS | FP_ADD | FP_SUB)
SSE_FP_SCALAR(subsd, vsubsd, 8, S64, FP_SD | FP_ADD | FP_SUB)
SSE_FP(mulps, vmulps, FP_PS | FP_MUL)
SSE_FP(mulpd, vmulpd, FP_PD | FP_MUL)
SSE_FP_SCALAR(mulss, vmulss, 4, S32, FP_SS | FP_MUL)
SSE_FP_SCALAR(mulsd, vmulsd, 8, S64, FP_SD | FP_MUL)
SSE_FP(divps, vdivps, FP_PS | FP_DIV)
SSE_FP(divpd, vdivpd, FP_PD | FP_DIV)
SSE_FP_SCALAR(divss, vdivss, 4, S32, FP_SS | FP_DIV)
SSE_FP_SCALAR(divsd, vdivsd, 8, S64, FP_SD | FP_DIV)
SSE_FP(minps, vminps, FP_NONE)
SSE_FP(minpd, vminpd, FP_NONE)
SSE_FP_SCALAR(minss, vminss, 4, S32, FP_NONE)
SSE_FP_SCALAR(minsd, vminsd, 8, S64, FP_NONE)
SSE_FP(maxps, vmaxps, FP_NONE)
SSE_FP(maxpd, vmaxpd, FP_NONE)
SSE_FP_SCALAR(maxss, vmaxss, 4, S32, FP_NONE)
SSE_FP_SCALAR(maxsd, vmaxsd, 8, S64, FP_NONE)
SSE_FP(sqrtps, vsqrtps, FP_NONE)
SSE_FP(sqrtpd, vsqrtpd, FP_NONE)
SSE_FP_SCALAR(sqrtss, vsqrtss, 4, S32, FP_NONE)
SSE_FP_SCALAR(sqrtsd, vsqrtsd, 8, S64, FP_NONE)
SSE_FP(addsubps, vaddsubps, FP_PS | FP_ADD | FP_EVEN_SUB)
SSE_FP(addsubpd, vaddsubpd, FP_PD | FP_ADD | FP_EVEN_SUB)
SSE_FP(haddps, vhaddps, FP_PS | FP_PAIRS)
SSE_FP(haddpd, vhaddpd, FP_PD | FP_PAIRS)
SSE_FP(hsubps, vhsubps, FP_PS | FP_PAIRS | FP_SUB)
SSE_FP(hsubpd, vhsubpd, FP_PD | FP_PAIRS | FP_SUB)

// Conversions within XMM registers.
SSE_FP_SCALAR(cvtss2sd, vcvtss2sd, 4, S32, FP_NONE)
SSE_FP_SCALAR(cvtsd2ss, vcvtsd2ss, 8, S64, FP_SS | FP_NARROW)
SSE_FP_WIDEN(cvtps2pd, vcvtps2pd, 8, S64)
SSE_FP_NARROW(cvtpd2ps, vcvtpd2ps, FP_PS | FP_NARROW)
SSE_FP(cvtdq2ps, vcvtdq2ps, FP_NONE)
SSE_FP(cvtps2dq, vcvtps2dq, FP_NONE)
SSE_FP(cvttps2dq, vcvttps2dq, FP_NONE)
SSE_FP_NARROW(cvtpd2dq, vcvtpd2dq, FP_NONE)
SSE_FP_NARROW(cvttpd2dq, vcvttpd2dq, FP_NONE)

// No exceptions, so no difference between the masks.
SSE_FP_EXACT(cvtdq2pd, vcvtdq2pd, 8, S64)
static void approximate(void *d, const void *a, const void *s, u32 (*function)(u32), unsigned n)
{
    u32 x[4];
    memcpy(x, a, 16), memcpy(x, s, 4 * n);
    for (unsigned i = 0; i < n; i++) x[i] = function(x[i]);
    memcpy(d, x, 16);
}
#define APPROXIMATE(sse, vex, function, n, shape) \
    static void sse##_core(struct vcpu *v, void *d, const void *a, const void *s) \
    { \
        approximate(d, a, s, function, n); \
    } \
    void op_##sse(struct vcpu *v, const struct insn *in) \
    { \
        sse_plain(v, in, (struct how){.w = in->osz}, sse##_core, 4 * (n)); \
    } \
    void op_##vex(struct vcpu *v, const struct insn *in) \
    { \
        vex_plain(v, in, (struct how){.w = in->osz}, sse##_core, shape); \
    }
APPROXIMATE(rcpps, vrcpps, float32_reciprocal, 4, SHAPE_X)
APPROXIMATE(rsqrtps, vrsqrtps, float32_reciprocal_root, 4, SHAPE_X)
APPROXIMATE(rcpss, vrcpss, float32_reciprocal, 1, SHAPE_SCALAR(4))
APPROXIMATE(rsqrtss, vrsqrtss, float32_reciprocal_root, 1, SHAPE_SCALAR(4))
SSE_PLAIN(andps, vandps)
SSE_PLAIN(andpd, vandpd)
SSE_PLAIN(andnps, vandnps)
SSE_PLAIN(andnpd, vandnpd)
SSE_PLAIN(orps, vorps)
SSE_PLAIN(orpd, vorpd)
SSE_PLAIN(xorps, vxorps)
SSE_PLAIN(xorpd, vxorpd)
SSE_PLAIN(unpcklps, vunpcklps)
SSE_PLAIN(unpcklpd, vunpcklpd)
SSE_PLAIN(unpckhps, vunpckhps)
SSE_PLAIN(unpckhpd, vunpckhpd)
SSE_PLAIN(movsldup, vmovsldup)
SSE_PLAIN(movshdup, vmovshdup)
SSE_PLAIN_M(movddup, vmovddup, 8, S64, BODY_L, SHAPE_DUP)

// ---- by an immediate ----
// Compares: bits 7:3 of the immediate mean nothing without VEX.
typedef void fp_core_imm(struct vcpu *v, void *d, const void *a, const void *s, u8 imm);
ALWAYS_INLINE bool cmp_imm(struct vcpu *v, const struct insn *in, struct how h, fp_core_imm *core,
                           unsigned size)
{
    struct x128 t, d;
    const void *s = sse_operand(v, in, h, &t, size, size == 16);
    if (sse_missed(h, s)) return false;
    if (h.fast || !(v->d.mode & MODE_FPUNMASK)) {
        core(v, sse_reg(v, in->r), sse_reg(v, in->r), s, (u8)in->imm);
        return true;
    }
    fp_begin(v);
    core(v, &d, sse_reg(v, in->r), s, (u8)in->imm);
    fp_end(v, &d, FP_NONE, NULL);
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
// With VEX five bits count. The first eight predicates are those of SSE; the others are the host's VEX form,
// and go the slow way.
ALWAYS_INLINE void vex_cmp_half(struct vcpu *v, void *d, const void *a, const void *s, u8 imm,
                                fp_core_imm *core, fp_core_imm *more)
{
    if (imm & 0x18)
        more(v, d, a, s, imm);
    else
        core(v, d, a, s, imm);
}
ALWAYS_INLINE bool vex_cmp(struct vcpu *v, const struct insn *in, struct how h, fp_core_imm *core,
                           fp_core_imm *more, struct vex_shape k)
{
    struct x128 t[2], d[2] = {{{0}}};
    u8 imm = (u8)in->imm & 31;
    if (h.fast && unlikely(imm & 0x18)) return false;
    struct vex_source s = vex_operand(v, in, h, t, k, false);
    if (vex_missed(h, s)) return false;
    if (h.fast) {
        if (VEX_256(h))
            core(v, ymm_high(v, in->r), ymm_high(v, in->v), s.high, imm);
        else
            sse_put(ymm_high(v, in->r), 0, 0);
        core(v, sse_reg(v, in->r), sse_reg(v, in->v), s.low, imm);
        return true;
    }
    bool unmasked = v->d.mode & MODE_FPUNMASK;
    if (unmasked) fp_begin(v);
    if (VEX_256(h)) vex_cmp_half(v, &d[1], ymm_high(v, in->v), s.high, imm, core, more);
    vex_cmp_half(v, &d[0], sse_reg(v, in->v), s.low, imm, core, more);
    if (unmasked) fp_end(v, d, FP_NONE, NULL);
    *sse_reg(v, in->r) = d[0];
    *ymm_high(v, in->r) = d[1];
    return true;
}
#define VEX_CMP(sse, vex, body, shape, bytes) \
    FP_IMM_TABLE(vex, bytes) \
    static void vex##_more(struct vcpu *v, void *d, const void *a, const void *s, u8 imm) \
    { \
        FP_IMM_CALL(v, vex, imm, d, a, s); \
    } \
    body(body_##vex, vex_cmp, sse, vex##_more, shape)
VEX_CMP(cmpps, vcmpps, BODY_L, SHAPE_X, "0xC5, 0xF8, 0xC2, 0xC1")
VEX_CMP(cmppd, vcmppd, BODY_L, SHAPE_X, "0xC5, 0xF9, 0xC2, 0xC1")
VEX_CMP(cmpss, vcmpss, BODY_LIG, SHAPE_SCALAR(4), "0xC5, 0xFA, 0xC2, 0xC1")
VEX_CMP(cmpsd, vcmpsd, BODY_LIG, SHAPE_SCALAR(8), "0xC5, 0xFB, 0xC2, 0xC1")

#define ROUND(sse, vex, size, shape, bytes) \
    FP_IMM_TABLE(sse, bytes) \
    void op_##sse(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t, d; \
        const void *s = sse_source(v, in, &t, size); \
        bool unmasked = v->d.mode & MODE_FPUNMASK; \
        if (unmasked) fp_begin(v); \
        FP_IMM_CALL(v, sse, in->imm, &d, sse_reg(v, in->r), s); \
        if (unmasked) fp_end(v, &d, FP_NONE, NULL); \
        *sse_reg(v, in->r) = d; \
    } \
    void op_##vex(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t[2], d[2] = {{{0}}}; \
        const struct how h = {.w = in->osz}; \
        struct vex_source s = vex_operand(v, in, h, t, shape, false); \
        bool unmasked = v->d.mode & MODE_FPUNMASK; \
        if (unmasked) fp_begin(v); \
        if (VEX_256(h)) FP_IMM_CALL(v, sse, in->imm, &d[1], ymm_high(v, in->v), s.high); \
        FP_IMM_CALL(v, sse, in->imm, &d[0], sse_reg(v, in->v), s.low); \
        if (unmasked) fp_end(v, d, FP_NONE, NULL); \
        *sse_reg(v, in->r) = d[0]; \
        *ymm_high(v, in->r) = d[1]; \
    }
ROUND(roundps, vroundps, 16, SHAPE_X, "0x66, 0x0F, 0x3A, 0x08, 0xC1")
ROUND(roundpd, vroundpd, 16, SHAPE_X, "0x66, 0x0F, 0x3A, 0x09, 0xC1")
ROUND(roundss, vroundss, 4, SHAPE_SCALAR(4), "0x66, 0x0F, 0x3A, 0x0A, 0xC1")
ROUND(roundsd, vroundsd, 8, SHAPE_SCALAR(8), "0x66, 0x0F, 0x3A, 0x0B, 0xC1")

// DPPS and DPPD check for exceptions after each of their steps, of both halves of 256 bits together (what the
// silicon does, held by the silicon test): the products, the sums of pairs, the sum of sums. With a mask
// clear the steps are done one by one, for their exceptions alone.
static void dot_lanes(struct x128 *x, unsigned lanes, unsigned size)
{
    for (unsigned i = 0; i < 16 / size; i++)
        if (!(lanes >> i & 1)) memset((u8 *)x + i * size, 0, size);
}
RAISES static void dot_steps(struct vcpu *v, u8 imm, const struct fp_operands *from, sse_core *mul,
                             sse_core *hadd, enum fp_lanes lanes, unsigned size)
{
    struct x128 step[2], one[2] = {{{0}}}, other[2] = {{{0}}};
    unsigned halves = from->s[1] ? 2 : 1;
    struct fp_operands of = {.a = {&one[0]}, .s = {&other[0]}};
    if (halves == 2) of.a[1] = &one[1], of.s[1] = &other[1], lanes = fp_lanes_256(lanes);
    fp_begin(v);
    for (unsigned i = 0; i < halves; i++) {
        memcpy(&one[i], from->a[i], sizeof one[i]);
        memcpy(&other[i], from->s[i], sizeof other[i]);
        dot_lanes(&one[i], imm >> 4, size);
        dot_lanes(&other[i], imm >> 4, size);
        mul(v, &step[i], &one[i], &other[i]);
    }
    fp_end(v, step, lanes | FP_MUL, &of);
    for (unsigned n = 16 / size; n > 1; n /= 2) {
        fp_begin(v);
        for (unsigned i = 0; i < halves; i++) {
            one[i] = other[i] = step[i];
            hadd(v, &step[i], &one[i], &other[i]);
        }
        fp_end(v, step, lanes | FP_PAIRS, &of);
    }
    fp_begin(v);
}
// Which NaN is left of several is the processor's choice: with a NaN the result is Intel's. Its exceptions
// are the same, whoever computes.
static bool holds_nan(const struct x128 *d, unsigned size)
{
    u32 w[4];
    u64 q[2];
    memcpy(w, d, 16), memcpy(q, d, 16);
    if (size == 8) return q[0] << 1 > 0x7FFull << 53 || q[1] << 1 > 0x7FFull << 53;
    bool nan = false;
    for (unsigned i = 0; i < 4; i++) nan |= w[i] << 1 > 0xFFu << 24;
    return nan;
}
static void dot_nans(struct x128 *d, const void *a, const void *s, unsigned size, u32 mxcsr, u8 imm)
{
    if (likely(!holds_nan(d, size))) return;
    struct float_env e = float_env_of_mxcsr(mxcsr);
    e.masks = FLOAT_ALL;
    float_dot(&e, size == 4 ? FLOAT32 : FLOAT64, d, a, s, imm);
}
#define DOT(sse, vex, mul, hadd, lanes, size, bytes) \
    FP_IMM_TABLE(sse, bytes) \
    void op_##sse(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t, d; \
        struct fp_operands from = {.a = {sse_reg(v, in->r)}, .s = {sse_source(v, in, &t, 16)}}; \
        if (v->d.mode & MODE_FPUNMASK) dot_steps(v, (u8)in->imm, &from, mul, hadd, lanes, size); \
        FP_IMM_CALL(v, sse, in->imm, &d, from.a[0], from.s[0]); \
        dot_nans(&d, from.a[0], from.s[0], size, v->s.mxcsr, (u8)in->imm); \
        *sse_reg(v, in->r) = d; \
    } \
    void op_##vex(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t[2], d[2] = {{{0}}}; \
        const struct how h = {.w = in->osz}; \
        struct vex_source s = vex_operand(v, in, h, t, SHAPE_X, false); \
        struct fp_operands from = {.a = {sse_reg(v, in->v)}, .s = {s.low}}; \
        if (VEX_256(h)) from.a[1] = ymm_high(v, in->v), from.s[1] = s.high; \
        if (v->d.mode & MODE_FPUNMASK) dot_steps(v, (u8)in->imm, &from, mul, hadd, lanes, size); \
        FP_IMM_CALL(v, sse, in->imm, &d[0], from.a[0], from.s[0]); \
        if (VEX_256(h)) FP_IMM_CALL(v, sse, in->imm, &d[1], from.a[1], from.s[1]); \
        for (unsigned i = 0; i < (VEX_256(h) ? 2 : 1); i++) \
            dot_nans(&d[i], from.a[i], from.s[i], size, v->s.mxcsr, (u8)in->imm); \
        *sse_reg(v, in->r) = d[0]; \
        *ymm_high(v, in->r) = d[1]; \
    }
DOT(dpps, vdpps, mulps_core, haddps_core, FP_PS, 4, "0x66, 0x0F, 0x3A, 0x40, 0xC1")
DOT(dppd, vdppd, mulpd_core, haddpd_core, FP_PD, 8, "0x66, 0x0F, 0x3A, 0x41, 0xC1")

// ---- compares into EFLAGS: ZF, PF, CF; the others are cleared. v->s.fl has the layout that LAHF and SETO
// give ----
typedef u16 comi_core(struct vcpu *v, const void *d, const void *s);
ALWAYS_INLINE bool comi(struct vcpu *v, const struct insn *in, struct how h, comi_core *core, unsigned size)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, false);
    if (sse_missed(h, s)) return false;
    bool unmasked = !h.fast && (v->d.mode & MODE_FPUNMASK);
    if (unmasked) fp_begin(v);
    u16 fl = core(v, sse_reg(v, in->r), s);
    if (unmasked) fp_end(v, NULL, FP_NONE, NULL);
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
// VUCOMISS, VUCOMISD, VCOMISS, VCOMISD are the same

// ---- conversions between XMM and general registers ----
// From an integer in a register or memory, by cores for 32 and for 64 bits. The rest is that of the register
// itself, with VEX of a third.
ALWAYS_INLINE bool from_int(struct vcpu *v, const struct insn *in, struct how h, sse_core *core32,
                            sse_core *core64, bool vex)
{
    sse_core *core = h.w == W64 ? core64 : core32;
    const void *a = sse_reg(v, vex ? in->v : in->r);
    if (h.fast) {
        const void *s = h.form == FORM_REG ? (const void *)&REG64(v, in->m)
                                           : fast_read(v, fast_ea(v, in, h.form), W_BYTES(h.w));
        if (sse_missed(h, s)) return false;
        if (vex) sse_put(ymm_high(v, in->r), 0, 0);
        core(v, sse_reg(v, in->r), a, s);
        return true;
    }
    struct x128 d;
    u64 s = rm_load(v, in, h.w);
    bool unmasked = v->d.mode & MODE_FPUNMASK;
    if (unmasked) fp_begin(v);
    core(v, &d, a, &s);
    if (unmasked) fp_end(v, &d, FP_NONE, NULL);
    *sse_reg(v, in->r) = d;
    if (vex) sse_put(ymm_high(v, in->r), 0, 0);
    return true;
}
FP_CORE_M(cvtsi2ss_32, "cvtsi2ssl", S32)
FP_CORE_M(cvtsi2ss_64, "cvtsi2ssq", S64)
FP_CORE_M(cvtsi2sd_32, "cvtsi2sdl", S32)
FP_CORE_M(cvtsi2sd_64, "cvtsi2sdq", S64)
// CVTSI2SS, CVTSI2SD, VCVTSI2SS, VCVTSI2SD
BODY_Y(body_cvtsi2ss, from_int, cvtsi2ss_32, cvtsi2ss_64, false)
BODY_Y(body_cvtsi2sd, from_int, cvtsi2sd_32, cvtsi2sd_64, false)
BODY_Y(body_vcvtsi2ss, from_int, cvtsi2ss_32, cvtsi2ss_64, true)
BODY_Y(body_vcvtsi2sd, from_int, cvtsi2sd_32, cvtsi2sd_64, true)

typedef u64 to_int_core(struct vcpu *v, const void *s, bool wide);
ALWAYS_INLINE bool to_int(struct vcpu *v, const struct insn *in, struct how h, to_int_core *core,
                          unsigned size)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, false);
    if (sse_missed(h, s)) return false;
    bool unmasked = !h.fast && (v->d.mode & MODE_FPUNMASK);
    if (unmasked) fp_begin(v);
    u64 x = core(v, s, h.w == W64);
    if (unmasked) fp_end(v, NULL, FP_NONE, NULL);
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
// VCVTSS2SI, VCVTTSS2SI, VCVTSD2SI, VCVTTSD2SI are the same

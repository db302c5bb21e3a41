// Floating-point arithmetic on XMM registers: SSE to SSE4.1. One line an instruction; how exceptions are raised with a
// mask clear is in cpu/fp.c.
//
// RCPPS, RCPSS, RSQRTPS and RSQRTSS give what the host gives: vendors differ in the low bits.
#include "cpu/sse.h"

#define FP(name, lanes) CORE_X(name) LOOP_FP(name, 16, lanes) FAST_CORE(name, 16, true)
#define FP_M(name, size, lanes) CORE_M(name, S##size) LOOP_FP(name, size / 8, lanes) FAST_CORE(name, size / 8, false)
#define ARITH(name, l1, l2) FP(name##ps, l1##PS) FP(name##pd, l2##PD) FP_M(name##ss, 32, l1##SS) FP_M(name##sd, 64, l2##SD)
#define FP_NONEPS FP_NONE
#define FP_NONEPD FP_NONE
#define FP_NONESS FP_NONE
#define FP_NONESD FP_NONE

ARITH(add, FP_, FP_)
ARITH(sub, FP_, FP_)
ARITH(mul, FP_, FP_)
ARITH(div, FP_, FP_)
ARITH(min, FP_NONE, FP_NONE)
ARITH(max, FP_NONE, FP_NONE)
ARITH(sqrt, FP_NONE, FP_NONE)
FP(addsubps, FP_PS)
FP(addsubpd, FP_PD)
FP(haddps, FP_PS)
FP(haddpd, FP_PD)
FP(hsubps, FP_PS)
FP(hsubpd, FP_PD)

// Conversions within XMM registers.
FP_M(cvtss2sd, 32, FP_NONE)
FP_M(cvtsd2ss, 64, FP_SS)
FP_M(cvtps2pd, 64, FP_NONE)
FP(cvtpd2ps, FP_PS)
FP(cvtdq2ps, FP_NONE)
FP(cvtps2dq, FP_NONE)
FP(cvttps2dq, FP_NONE)
FP(cvtpd2dq, FP_NONE)
FP(cvttpd2dq, FP_NONE)

// No exceptions, so no difference between the masks.
#define PLAIN(name) CORE_X(name) LOOP_INT(name, 16) FAST_CORE(name, 16, true)
#define PLAIN_M(name, size) CORE_M(name, S##size) LOOP_INT(name, size / 8) FAST_CORE(name, size / 8, false)
PLAIN_M(cvtdq2pd, 64)
PLAIN(rcpps)
PLAIN(rsqrtps)
PLAIN_M(rcpss, 32)
PLAIN_M(rsqrtss, 32)
PLAIN(andps)
PLAIN(andpd)
PLAIN(andnps)
PLAIN(andnpd)
PLAIN(orps)
PLAIN(orpd)
PLAIN(xorps)
PLAIN(xorpd)
PLAIN(unpcklps)
PLAIN(unpcklpd)
PLAIN(unpckhps)
PLAIN(unpckhpd)
PLAIN(movsldup)
PLAIN(movshdup)
PLAIN_M(movddup, 64)

// ---- by an immediate ----
#define FP_IMM(name, size, lanes, bytes)                                                                               \
    IMM_TABLE(name, bytes)                                                                                             \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t, d = *sse_reg(v, in->r);                                                                         \
        const void *s = sse_source(v, in, &t, size);                                                                   \
        if (v->d.mode & MODE_FPUNMASK) {                                                                               \
            fp_begin(v);                                                                                               \
            IMM_CALL(name, in->imm, &d, s);                                                                            \
            fp_end(v, &d, lanes);                                                                                      \
        } else {                                                                                                       \
            IMM_CALL(name, in->imm, &d, s);                                                                            \
        }                                                                                                              \
        *sse_reg(v, in->r) = d;                                                                                        \
    }
// Compares: bits 7:3 of the immediate mean nothing without VEX.
#if FP_HOST_X86
#define CMP_CORE(name, form, src)                                                                                      \
    static inline __attribute__((always_inline)) void core_##name(void *d, const void *s, u8 imm)                      \
    {                                                                                                                  \
        switch (imm & 7) {                                                                                             \
            CMP_CASE(name, form, src, 0) CMP_CASE(name, form, src, 1) CMP_CASE(name, form, src, 2)                     \
            CMP_CASE(name, form, src, 3) CMP_CASE(name, form, src, 4) CMP_CASE(name, form, src, 5)                     \
            CMP_CASE(name, form, src, 6) CMP_CASE(name, form, src, 7)                                                  \
        }                                                                                                              \
    }
#define CMP_CASE(name, form, src, k)                                                                                   \
    case k: asm volatile("movups %0, %%xmm0\n\t" form(name, k) "movups %%xmm0, %0" : D128 : src : "xmm0", "xmm1"); break;
#define CMP_PACKED(name, k) "movups %1, %%xmm1\n\t" #name " $" #k ", %%xmm1, %%xmm0\n\t"
#define CMP_SCALAR(name, k) #name " $" #k ", %1, %%xmm0\n\t"
#else
#define CMP_CORE(name, form, src)                                                                                      \
    static inline void core_##name(void *d, const void *s, u8 imm)                                                     \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#endif
#define CMP(name, size, align, form, src)                                                                              \
    CMP_CORE(name, form, src)                                                                                          \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t, d = *sse_reg(v, in->r);                                                                         \
        const void *s = sse_source(v, in, &t, size);                                                                   \
        bool unmasked = v->d.mode & MODE_FPUNMASK;                                                                     \
        if (unmasked) fp_begin(v);                                                                                     \
        core_##name(&d, s, (u8)in->imm);                                                                               \
        if (unmasked) fp_end(v, &d, FP_NONE);                                                                          \
        *sse_reg(v, in->r) = d;                                                                                        \
    }                                                                                                                  \
    ALWAYS_INLINE bool fast_##name(struct vcpu *v, const struct insn *in, unsigned form_, int unused)                  \
    {                                                                                                                  \
        const void *s = sse_fast_source(v, in, form_, size, align);                                                    \
        if (form_ != FORM_REG && unlikely(!s)) return false;                                                           \
        core_##name(sse_reg(v, in->r), s, (u8)in->imm);                                                                \
        return true;                                                                                                   \
    }                                                                                                                  \
    FORMS(name, fast_##name, 0)                                                                                        \
    BODY_OF(name, op_##name)
CMP(cmpps, 16, true, CMP_PACKED, S128)
CMP(cmppd, 16, true, CMP_PACKED, S128)
CMP(cmpss, 4, false, CMP_SCALAR, S32)
CMP(cmpsd, 8, false, CMP_SCALAR, S64)
FP_IMM(roundps, 16, FP_NONE, "0x66, 0x0F, 0x3A, 0x08, 0xC1")
FP_IMM(roundpd, 16, FP_NONE, "0x66, 0x0F, 0x3A, 0x09, 0xC1")
FP_IMM(roundss, 4, FP_NONE, "0x66, 0x0F, 0x3A, 0x0A, 0xC1")
FP_IMM(roundsd, 8, FP_NONE, "0x66, 0x0F, 0x3A, 0x0B, 0xC1")

// DPPS and DPPD check for exceptions after each of their steps (what the silicon does, held by the silicon test): the products, the
// sums of pairs, the sum of sums. With a mask clear the steps are done one by one, for their exceptions alone.
static void dot_lanes(struct x128 *x, unsigned lanes, unsigned size)
{
    for (unsigned i = 0; i < 16 / size; i++)
        if (!(lanes >> i & 1)) memset((u8 *)x + i * size, 0, size);
}
#define DOT(name, mul, hadd, lanes, size, bytes)                                                                       \
    IMM_TABLE(name, bytes)                                                                                             \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t, d = *sse_reg(v, in->r);                                                                         \
        const void *s = sse_source(v, in, &t, 16);                                                                     \
        if (v->d.mode & MODE_FPUNMASK) {                                                                               \
            struct x128 step = d, other;                                                                               \
            memcpy(&other, s, sizeof other);                                                                           \
            dot_lanes(&step, (unsigned)in->imm >> 4, size);                                                            \
            dot_lanes(&other, (unsigned)in->imm >> 4, size);                                                           \
            fp_begin(v);                                                                                               \
            core_##mul(&step, &other);                                                                                 \
            fp_end(v, &step, lanes);                                                                                   \
            for (unsigned i = 16 / size; i > 1; i /= 2) {                                                              \
                other = step;                                                                                          \
                fp_begin(v);                                                                                           \
                core_##hadd(&step, &other);                                                                            \
                fp_end(v, &step, lanes);                                                                               \
            }                                                                                                          \
            fp_begin(v);                                                                                               \
        }                                                                                                              \
        IMM_CALL(name, in->imm, &d, s);                                                                                \
        *sse_reg(v, in->r) = d;                                                                                        \
    }
DOT(dpps, mulps, haddps, FP_PS, 4, "0x66, 0x0F, 0x3A, 0x40, 0xC1")
DOT(dppd, mulpd, haddpd, FP_PD, 8, "0x66, 0x0F, 0x3A, 0x41, 0xC1")

// ---- compares into EFLAGS: ZF, PF, CF; the others are cleared. v->s.fl has the layout that LAHF and SETO give ----
#if FP_HOST_X86
#define COMPARE(name, src)                                                                                             \
    static inline __attribute__((always_inline)) u16 core_##name(const void *d, const void *s)                         \
    {                                                                                                                  \
        u16 ax;                                                                                                        \
        asm volatile("movups %1, %%xmm0\n\t" #name " %2, %%xmm0\n\tlahf\n\tseto %%al"                                  \
                     : "=&a"(ax) : "m"(*(const struct x128 *)d), src : "xmm0", "cc");                                  \
        return ax;                                                                                                     \
    }
#else
#define COMPARE(name, src)                                                                                             \
    static inline u16 core_##name(const void *d, const void *s)                                                        \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#endif
#define COMI(name, bits)                                                                                               \
    COMPARE(name, S##bits)                                                                                             \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t;                                                                                                 \
        const void *s = sse_source(v, in, &t, bits / 8);                                                               \
        if (v->d.mode & MODE_FPUNMASK) {                                                                               \
            fp_begin(v);                                                                                               \
            u16 fl = core_##name(sse_reg(v, in->r), s);                                                                \
            fp_end(v, NULL, FP_NONE);                                                                                  \
            v->s.fl = fl;                                                                                              \
        } else {                                                                                                       \
            v->s.fl = core_##name(sse_reg(v, in->r), s);                                                               \
        }                                                                                                              \
    }
#define COMI_FAST(name, bits)                                                                                          \
    ALWAYS_INLINE bool fast_##name(struct vcpu *v, const struct insn *in, unsigned form, int unused)                   \
    {                                                                                                                  \
        const void *s = sse_fast_source(v, in, form, bits / 8, false);                                                 \
        if (form != FORM_REG && unlikely(!s)) return false;                                                            \
        v->s.fl = core_##name(sse_reg(v, in->r), s);                                                                   \
        return true;                                                                                                   \
    }                                                                                                                  \
    FORMS(name, fast_##name, 0)                                                                                        \
    BODY_OF(name, op_##name)
COMI(ucomiss, 32)
COMI(ucomisd, 64)
COMI(comiss, 32)
COMI(comisd, 64)
COMI_FAST(ucomiss, 32)
COMI_FAST(ucomisd, 64)
COMI_FAST(comiss, 32)
COMI_FAST(comisd, 64)

// ---- conversions between XMM and general registers ----
// From an integer in a register or memory; s points to eight bytes, of which the width says how many count.
#define FROM_INT(name, lanes)                                                                                          \
    CORE_M(name##l, S32)                                                                                               \
    CORE_M(name##q, S64)                                                                                               \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 d = *sse_reg(v, in->r);                                                                            \
        unsigned w = in->osz == W64 ? W64 : W32;                                                                       \
        u64 s = rm_load(v, in, w);                                                                                     \
        bool unmasked = v->d.mode & MODE_FPUNMASK;                                                                     \
        if (unmasked) fp_begin(v);                                                                                     \
        if (w == W64) core_##name##q(&d, &s);                                                                          \
        else core_##name##l(&d, &s);                                                                                   \
        if (unmasked) fp_end(v, &d, lanes);                                                                            \
        *sse_reg(v, in->r) = d;                                                                                        \
    }
#define FROM_INT_FAST(name)                                                                                            \
    ALWAYS_INLINE bool fast_##name(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)                   \
    {                                                                                                                  \
        const void *s = form == FORM_REG ? (const void *)&REG64(v, in->m)                                              \
                                         : sse_fast_source(v, in, form, W_BYTES(w), false);                            \
        if (form != FORM_REG && unlikely(!s)) return false;                                                            \
        if (w == W64) core_##name##q(sse_reg(v, in->r), s);                                                            \
        else core_##name##l(sse_reg(v, in->r), s);                                                                     \
        return true;                                                                                                   \
    }                                                                                                                  \
    FORMS(name##_32, fast_##name, W32)                                                                                 \
    FORMS(name##_64, fast_##name, W64)                                                                                 \
    BODY_OF_WIDTHS(name, op_##name)
FROM_INT(cvtsi2ss, FP_NONE)
FROM_INT(cvtsi2sd, FP_NONE)
FROM_INT_FAST(cvtsi2ss)
FROM_INT_FAST(cvtsi2sd)

#if FP_HOST_X86
#define TO_INT_CORE(name, src)                                                                                         \
    static inline __attribute__((always_inline)) u64 core_##name(const void *s, bool wide)                             \
    {                                                                                                                  \
        u64 x;                                                                                                         \
        if (wide) asm volatile(#name " %1, %q0" : "=r"(x) : src);                                                      \
        else asm volatile(#name " %1, %k0" : "=r"(x) : src);                                                           \
        return x;                                                                                                      \
    }
#else
#define TO_INT_CORE(name, src)                                                                                         \
    static inline u64 core_##name(const void *s, bool wide)                                                            \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#endif
#define TO_INT_S4 S32
#define TO_INT_S8 S64
#define TO_INT(name, size)                                                                                             \
    TO_INT_CORE(name, TO_INT_S##size)                                                                                  \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t;                                                                                                 \
        const void *s = sse_source(v, in, &t, size);                                                                   \
        bool unmasked = v->d.mode & MODE_FPUNMASK;                                                                     \
        if (unmasked) fp_begin(v);                                                                                     \
        u64 x = core_##name(s, in->osz == W64);                                                                        \
        if (unmasked) fp_end(v, NULL, FP_NONE);                                                                        \
        reg_set(v, in->r, W64, in->osz == W64 ? x : (u32)x);                                                           \
    }
TO_INT(cvtss2si, 4)
TO_INT(cvttss2si, 4)
TO_INT(cvtsd2si, 8)
TO_INT(cvttsd2si, 8)
#define TO_INT_FAST(name, size)                                                                                        \
    ALWAYS_INLINE bool fast_##name(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)                   \
    {                                                                                                                  \
        const void *s = sse_fast_source(v, in, form, size, false);                                                     \
        if (form != FORM_REG && unlikely(!s)) return false;                                                            \
        u64 x = core_##name(s, w == W64);                                                                              \
        REG64(v, in->r) = w == W64 ? x : (u32)x;                                                                       \
        return true;                                                                                                   \
    }                                                                                                                  \
    FORMS(name##_32, fast_##name, W32)                                                                                 \
    FORMS(name##_64, fast_##name, W64)                                                                                 \
    BODY_OF_WIDTHS(name, op_##name)
TO_INT_FAST(cvtss2si, 4)
TO_INT_FAST(cvttss2si, 4)
TO_INT_FAST(cvtsd2si, 8)
TO_INT_FAST(cvttsd2si, 8)

// Floating point on XMM and MMX registers: the host's own instructions, by macros as those of cpu/host/sse.h,
// or (HOST_FP 0) functions of the same names, which cpu/instructions/sse_portable.c has. `v` is whose MXCSR
// counts; on the host's instructions that is in the host's register.
#ifndef CPU_HOST_SSE_FP_H
#define CPU_HOST_SSE_FP_H

#include "cpu/host/sse.h"

#if HOST_FP
#define FP_CORE_X(core, insn)              CORE_X(core, insn)
#define FP_CORE_M(core, insn, src)         CORE_M(core, insn, src)
#define FP_IMM_TABLE(name, bytes)          IMM_TABLE(name, bytes)
#define FP_IMM_CALL(v, name, imm, d, a, s) IMM_CALL(name, imm, d, a, s)

// ---- compares by a predicate, and into EFLAGS as LAHF and SETO leave them ----
// clang-format off
#define CMP_CORE(core, insn, form, src)                                                                                \
    ALWAYS_INLINE void core(struct vcpu *v, void *d, const void *a, const void *s, u8 imm)                                                   \
    {                                                                                                                  \
        switch (imm & 7) {                                                                                             \
            CMP_CASE(insn, form, src, 0) CMP_CASE(insn, form, src, 1) CMP_CASE(insn, form, src, 2)                     \
            CMP_CASE(insn, form, src, 3) CMP_CASE(insn, form, src, 4) CMP_CASE(insn, form, src, 5)                     \
            CMP_CASE(insn, form, src, 6) CMP_CASE(insn, form, src, 7)                                                  \
        }                                                                                                              \
    }
// clang-format on
#define CMP_CASE(sse, form, src, k) \
    case k: \
        asm volatile("movups %1, %%xmm0\n\t" form(sse, k) "movups %%xmm0, %0" \
                     : D128 \
                     : A128, src \
                     : "xmm0", "xmm1"); \
        break;
#define CMP_PACKED(sse, k) "movups %2, %%xmm1\n\t" sse " $" #k ", %%xmm1, %%xmm0\n\t"
#define CMP_SCALAR(sse, k) sse " $" #k ", %2, %%xmm0\n\t"
#define COMI_CORE(core, insn, src) \
    ALWAYS_INLINE u16 core(struct vcpu *v, const void *d, const void *s) \
    { \
        u16 ax; \
        asm volatile("movups %1, %%xmm0\n\t" insn " %2, %%xmm0\n\tlahf\n\tseto %%al" \
                     : "=&a"(ax) \
                     : "m"(*(const struct x128 *)d), src \
                     : "xmm0", "cc"); \
        return ax; \
    }

// ---- to an integer ----
#define TO_INT_CORE(core, insn, src) \
    ALWAYS_INLINE u64 core(struct vcpu *v, const void *s, bool wide) \
    { \
        u64 x; \
        if (wide) \
            asm volatile(insn " %1, %q0" : "=r"(x) : src); \
        else \
            asm volatile(insn " %1, %k0" : "=r"(x) : src); \
        return x; \
    }

// ---- FMA ----
// The destination is an operand too: *d by *a and *s, in the order that the instruction's name says.
#define FMA_CORE_X(sse) \
    ALWAYS_INLINE void sse##_core(struct vcpu *v, void *d, const void *a, const void *s) \
    { \
        asm volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\tmovups %2, %%xmm2\n\t" #sse \
                     " %%xmm2, %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
                     : "+m"(*(struct x128 *)d) \
                     : A128, S128 \
                     : "xmm0", "xmm1", "xmm2"); \
    }
#define FMA_CORE_M(sse, src) \
    ALWAYS_INLINE void sse##_core(struct vcpu *v, void *d, const void *a, const void *s) \
    { \
        asm volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" #sse \
                     " %2, %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
                     : "+m"(*(struct x128 *)d) \
                     : A128, src \
                     : "xmm0", "xmm1"); \
    }

// ---- between MMX and XMM; the x87 is empty afterwards (EMMS) ----
// clang-format off
#define FROM_MMX_CORE(core, insn)                                                                                      \
    CORE(core, insn, asm volatile("movups %1, %%xmm0\n\tmovq %2, %%mm0\n\t" insn " %%mm0, %%xmm0\n\tmovups %%xmm0, %0\n\temms"\
                            : D128 : A128, S64 : "xmm0", "mm0");)
// clang-format on
#define TO_MMX_CORE(core, insn) \
    static inline u64 core(struct vcpu *v, const void *s) \
    { \
        u64 d; \
        asm volatile("movups %1, %%xmm0\n\t" insn " %%xmm0, %%mm0\n\tmovq %%mm0, %0\n\temms" \
                     : "=m"(d) \
                     : S128 \
                     : "xmm0", "mm0"); \
        return d; \
    }

#else
#define PORTABLE_CORE_(core)       void core(struct vcpu *v, void *d, const void *a, const void *s);
#define FP_CORE_X(core, insn)      PORTABLE_CORE_(core)
#define FP_CORE_M(core, insn, src) PORTABLE_CORE_(core)
#define FP_IMM_TABLE(name, bytes) \
    void name##_by_imm(struct vcpu *v, void *d, const void *a, const void *s, u8 imm);
#define FP_IMM_CALL(v, name, imm, d, a, s) name##_by_imm(v, d, a, s, (u8)(imm))
#define CMP_CORE(core, insn, form, src) \
    void core(struct vcpu *v, void *d, const void *a, const void *s, u8 imm);
#define COMI_CORE(core, insn, src)   u16 core(struct vcpu *v, const void *d, const void *s);
#define TO_INT_CORE(core, insn, src) u64 core(struct vcpu *v, const void *s, bool wide);
#define FMA_CORE_X(sse)              PORTABLE_CORE_(sse##_core)
#define FMA_CORE_M(sse, src)         PORTABLE_CORE_(sse##_core)
#define FROM_MMX_CORE(core, insn)    PORTABLE_CORE_(core)
#define TO_MMX_CORE(core, insn)      u64 core(struct vcpu *v, const void *s);
#endif

#endif

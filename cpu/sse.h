// How the bodies of MMX and SSE are written: a *core* works on operands in memory (the register file, a temporary, or
// guest RAM itself) and is one asm statement around the same instruction on the host; wrappers fetch and check operands.
// Operand order decides which NaN survives, so no C operator and no intrinsic appears here.
//
// On hosts without SSE the cores do not exist; the features are not claimed there (fp_host_capable), so that no row is reached.
#ifndef CPU_SSE_H
#define CPU_SSE_H

#include <string.h>

#include "cpu/fast.h"
#include "cpu/fp.h"
#include "cpu/x87.h"

struct x128 {
    u64 q[2];
};

// A register is always written whole: a 16-byte load after two narrower stores would wait for them (no store forwarding).
typedef u64 whole128 __attribute__((vector_size(16), aligned(8), may_alias));
static inline __attribute__((always_inline)) void sse_put(void *d, u64 low, u64 high)
{
    *(whole128 *)d = (whole128){low, high};
}
static inline struct x128 *sse_reg(struct vcpu *v, unsigned n)
{
    return (struct x128 *)v->s.xmm[n];
}

// ---- operands ----
// Linear address of the memory operand, alignment checked as the row says.
RAISES laddr sse_linear(struct vcpu *v, const struct insn *in, unsigned size, u32 acc);
// The source operand: a register, or `size` bytes of memory brought into *tmp (the rest of it is zero).
RAISES const void *sse_source(struct vcpu *v, const struct insn *in, struct x128 *tmp, unsigned size);
RAISES void sse_store(struct vcpu *v, const struct insn *in, const void *from, unsigned size);
RAISES const void *mmx_source(struct vcpu *v, const struct insn *in, u64 *tmp, unsigned size);

// ---- MMX registers live in the significands of the x87 registers ----
static inline u64 *mmx_reg(struct vcpu *v, unsigned n)
{
    return &v->s.fpu.r[n & 7].m;
}
// Every MMX instruction makes all registers valid and TOP 0 (SDM Vol. 1, 9.5.1).
static inline void mmx_top(struct vcpu *v) // before a store, whose fault leaves TOP 0 and the tags as they were
{
    v->s.fpu.fsw &= (u16)~FSW_TOP;
}
static inline void mmx_enter(struct vcpu *v)
{
    mmx_top(v);
    v->s.fpu.ftw = 0;
}
// An x87 exception that is pending comes before anything else.
RAISES static inline void mmx_wait(struct vcpu *v)
{
    if (unlikely(v->s.fpu.fsw & FSW_ES)) x87_wait(v);
}
static inline void mmx_write(struct vcpu *v, unsigned n, u64 x)
{
    v->s.fpu.r[n & 7].m = x;
    v->s.fpu.r[n & 7].se = 0xFFFF;
}

#define THREADED(name, call) static void name(struct vcpu *v, const struct insn *in) { if (unlikely(!(call))) TAIL exec_slow(v, in); TAIL in[1].exec(v, in + 1); }
#define CALLABLE(name, call) __attribute__((section(".text.callable"))) static bool name(struct vcpu *v, const struct insn *in) { return call; }
#define FAST(name, call) THREADED(name, call) CALLABLE(name##_call, call)
#define LOOP(name, call) static void name(struct vcpu *v, const struct insn *in) { (void)(call); }

// ---- cores ----
#if FP_HOST_X86
#define CORE(name, ...)                                                                                                \
    static inline __attribute__((always_inline)) void core_##name(void *d, const void *s)                              \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }
#define D128 "+m"(*(struct x128 *)d)
#define S128 "m"(*(const struct x128 *)s)
#define S64  "m"(*(const u64 *)s)
#define S32  "m"(*(const u32 *)s)
#define S16  "m"(*(const u16 *)s)
#else
#define CORE(name, ...)                                                                                                \
    static inline void core_##name(void *d, const void *s)                                                             \
    {                                                                                                                  \
        panic("no host instruction for " #name);                                                                       \
    }
#endif
// 128-bit source; the same instruction on xmm0 and xmm1.
#define CORE_X(name)                                                                                                   \
    CORE(name, asm volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" #name " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"   \
                            : D128 : S128 : "xmm0", "xmm1");)
// Narrower sources, read by the instruction itself.
#define CORE_M(name, src)                                                                                              \
    CORE(name, asm volatile("movups %0, %%xmm0\n\t" #name " %1, %%xmm0\n\tmovups %%xmm0, %0" : D128 : src : "xmm0");)

// ---- loop bodies from cores ----
#define LOOP_INT(name, size)                                                                                           \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t;                                                                                                 \
        const void *s = sse_source(v, in, &t, size);                                                                   \
        core_##name(sse_reg(v, in->r), s);                                                                             \
    }
#define LOOP_FP(name, size, lanes)                                                                                     \
    void op_##name(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        struct x128 t, d = *sse_reg(v, in->r);                                                                         \
        const void *s = sse_source(v, in, &t, size);                                                                   \
        if (v->d.mode & MODE_FPUNMASK) {                                                                               \
            fp_begin(v);                                                                                               \
            core_##name(&d, s);                                                                                        \
            fp_end(v, &d, lanes);                                                                                      \
        } else {                                                                                                       \
            core_##name(&d, s);                                                                                        \
        }                                                                                                              \
        *sse_reg(v, in->r) = d;                                                                                        \
    }

// ---- tail-threaded wrappers from cores (cpu/fast.h); with MODE_FPUNMASK decoding does not choose them ----
ALWAYS_INLINE void *sse_fast_source(struct vcpu *v, const struct insn *in, unsigned form, unsigned size, bool align)
{
    if (form == FORM_REG) return sse_reg(v, in->m);
    u64 a = fast_ea(v, in, form);
    if (align && unlikely(a & 15)) return NULL;
    return fast_read(v, a, size);
}
ALWAYS_INLINE void *sse_fast_target(struct vcpu *v, const struct insn *in, unsigned form, unsigned size, bool align)
{
    u64 a = fast_ea(v, in, form);
    if (align && unlikely(a & 15)) return NULL;
    return fast_write(v, a, size);
}
// FN(v, in, form, ...) in all forms, and the body that joins them with the loop function.
#define FORMS(name, FN, ...)                                                                                           \
    FAST(name##_r, FN(v, in, FORM_REG, __VA_ARGS__))                                                                   \
    FAST(name##_b, FN(v, in, FORM_B, __VA_ARGS__))                                                                     \
    FAST(name##_x, FN(v, in, FORM_X, __VA_ARGS__))                                                                     \
    FAST(name##_s, FN(v, in, FORM_S, __VA_ARGS__))
#define FORMS_OF(name) {name##_r, name##_b, name##_x, name##_s}
#define CALLS_OF(name) {name##_r_call, name##_b_call, name##_x_call, name##_s_call}
#define BODY_OF(name, loopfn)                                                                                          \
    const struct body body_##name = {.loop = {loopfn, loopfn, loopfn, loopfn},                                         \
                                     .fast = {{{NULL}, FORMS_OF(name), FORMS_OF(name), FORMS_OF(name)}},               \
                                     .call = {{NULL}, CALLS_OF(name), CALLS_OF(name), CALLS_OF(name)}};
// Where the operand width counts: one set for 64 bits, one for everything else.
#define BODY_OF_WIDTHS(name, loopfn)                                                                                   \
    const struct body body_##name = {.loop = {loopfn, loopfn, loopfn, loopfn},                                         \
                                     .fast = {{{NULL}, FORMS_OF(name##_32), FORMS_OF(name##_32), FORMS_OF(name##_64)}},\
                                     .call = {{NULL}, CALLS_OF(name##_32), CALLS_OF(name##_32), CALLS_OF(name##_64)}};
#define FAST_CORE(name, size, align)                                                                                   \
    ALWAYS_INLINE bool fast_##name(struct vcpu *v, const struct insn *in, unsigned form, int unused)                   \
    {                                                                                                                  \
        const void *s = sse_fast_source(v, in, form, size, align);                                                     \
        if (form != FORM_REG && unlikely(!s)) return false;                                                            \
        core_##name(sse_reg(v, in->r), s);                                                                             \
        return true;                                                                                                   \
    }                                                                                                                  \
    FORMS(name, fast_##name, 0)                                                                                        \
    BODY_OF(name, op_##name)

// ---- instructions with an immediate: a table of 256 eight-byte stubs on xmm0 and xmm1, one an immediate ----
#if FP_HOST_X86
#define IMM_TABLE(name, bytes)                                                                                         \
    asm(".pushsection .text\n\t.balign 8\n" #name "_stubs:\n\t.set stub_imm, 0\n\t.rept 256\n\t.byte " bytes            \
        ", stub_imm, 0xC3\n\t.balign 8, 0xCC\n\t.set stub_imm, stub_imm + 1\n\t.endr\n\t.popsection");                 \
    extern const u8 name##_stubs[] __attribute__((visibility("hidden")));
// The stub's call must not land in the red zone of a leaf function.
#define IMM_CALL(name, imm, d, s)                                                                                      \
    asm volatile("movups (%0), %%xmm0\n\tmovups (%1), %%xmm1\n\tlea -128(%%rsp), %%rsp\n\tcall *%2\n\t"                \
                 "lea 128(%%rsp), %%rsp\n\tmovups %%xmm0, (%0)"                                                        \
                 : : "r"(d), "r"(s), "r"(name##_stubs + 8 * ((imm) & 0xFF)) : "xmm0", "xmm1", "memory", "cc")
#else
#define IMM_TABLE(name, bytes)
#define IMM_CALL(name, imm, d, s) ((void)(d), (void)(s), panic("no host instruction for " #name))
#endif

#endif

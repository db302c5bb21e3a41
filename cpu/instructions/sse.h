// How the bodies of MMX and SSE are written: a *core* works on operands in memory (the register file, a
// temporary, or guest RAM itself) and is one asm statement around the same instruction on the host; wrappers
// fetch and check operands. Operand order decides which NaN survives, so no C operator and no intrinsic
// appears here.
//
// On hosts without SSE the cores do not exist; the features are not claimed there (fp_host_capable), so that
// no row is reached.
#ifndef CPU_SSE_H
#define CPU_SSE_H

#include <string.h>

#include "cpu/engine/bodies.h"
#include "cpu/engine/fp.h"
#include "cpu/instructions/x87.h"

struct x128 {
    u64 q[2];
};

// A register is always written whole: a 16-byte load after two narrower stores would wait for them (no store
// forwarding).
typedef u64 whole128 __attribute__((vector_size(16), aligned(8), may_alias));
static inline __attribute__((always_inline)) void sse_put(void *d, u64 low, u64 high)
{
    *(whole128 *)d = (whole128){low, high};
}
static inline struct x128 *sse_reg(struct vcpu *v, unsigned n) { return (struct x128 *)v->s.xmm[n]; }

// ---- operands ----
// Linear address of the memory operand, alignment checked as the row says.
RAISES laddr sse_linear(struct vcpu *v, const struct insn *in, unsigned size, u32 acc);
// The source operand: a register, or `size` bytes of memory brought into *tmp (the rest of it is zero).
RAISES const void *sse_source(struct vcpu *v, const struct insn *in, struct x128 *tmp, unsigned size);
RAISES void sse_store(struct vcpu *v, const struct insn *in, const void *from, unsigned size);
RAISES const void *mmx_source(struct vcpu *v, const struct insn *in, u64 *tmp, unsigned size);

// The source operand, checked or at speed, aligned or not: in a register, or in memory (checked: brought into
// *tmp). sse_missed says whether it cannot be had at speed.
ALWAYS_INLINE const void *sse_operand(struct vcpu *v, const struct insn *in, struct how h, struct x128 *tmp,
                                      unsigned size, bool align)
{
    if (!h.fast) return sse_source(v, in, tmp, size);
    if (h.form == FORM_REG) return sse_reg(v, in->m);
    u64 a = fast_ea(v, in, h.form);
    if (align && unlikely(a & 15)) return NULL;
    return fast_read(v, a, size);
}
ALWAYS_INLINE bool sse_missed(struct how h, const void *operand)
{
    return h.fast && h.form != FORM_REG && unlikely(!operand);
}

// ---- MMX registers live in the significands of the x87 registers ----
static inline u64 *mmx_reg(struct vcpu *v, unsigned n) { return &v->s.fpu.r[n & 7].m; }
// Every MMX instruction makes all registers valid and TOP 0 (SDM Vol. 1, 9.5.1).

// before a store, whose fault leaves TOP 0 and the tags as they were
static inline void mmx_top(struct vcpu *v) { v->s.fpu.fsw &= (u16)~FSW_TOP; }
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

// ---- cores ----
typedef void sse_core(void *d, const void *s);
typedef void sse_core_imm(void *d, const void *s, u8 imm);
#if FP_HOST_X86
#define CORE(core, insn, ...) \
    ALWAYS_INLINE void core(void *d, const void *s) { __VA_ARGS__ }
#define D128 "+m"(*(struct x128 *)d)
#define S128 "m"(*(const struct x128 *)s)
#define S64  "m"(*(const u64 *)s)
#define S32  "m"(*(const u32 *)s)
#define S16  "m"(*(const u16 *)s)
#else
#define CORE(core, insn, ...) \
    static inline void core(void *d, const void *s) { panic("no host instruction for " insn); }
#endif
// 128-bit source; the same instruction on xmm0 and xmm1.
// clang-format off
#define CORE_X(core, insn)                                                                                             \
    CORE(core, insn, asm volatile("movups %0, %%xmm0\n\tmovups %1, %%xmm1\n\t" insn " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"\
                                  : D128 : S128 : "xmm0", "xmm1");)
// Narrower sources, read by the instruction itself.
#define CORE_M(core, insn, src)                                                                                        \
    CORE(core, insn, asm volatile("movups %0, %%xmm0\n\t" insn " %1, %%xmm0\n\tmovups %%xmm0, %0" : D128 : src : "xmm0");)
// clang-format on

// ---- bodies from cores; a source of 16 bytes must be aligned ----
ALWAYS_INLINE bool sse_plain(struct vcpu *v, const struct insn *in, struct how h, sse_core *core,
                             unsigned size) // no exceptions
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, size == 16);
    if (sse_missed(h, s)) return false;
    core(sse_reg(v, in->r), s);
    return true;
}
// With MODE_FPUNMASK decoding chooses no form at speed.
ALWAYS_INLINE bool sse_fp(struct vcpu *v, const struct insn *in, struct how h, sse_core *core, unsigned size,
                          enum fp_lanes lanes)
{
    struct x128 t, d;
    const void *s = sse_operand(v, in, h, &t, size, size == 16);
    if (sse_missed(h, s)) return false;
    if (h.fast || !(v->d.mode & MODE_FPUNMASK)) {
        core(sse_reg(v, in->r), s);
        return true;
    }
    d = *sse_reg(v, in->r);
    fp_begin(v);
    core(&d, s);
    fp_end(v, &d, lanes);
    *sse_reg(v, in->r) = d;
    return true;
}
// One line an instruction: the name of its struct body, and the host's for it.
#define SSE_PLAIN(name, insn) CORE_X(name##_core, insn) BODY_X(name, sse_plain, name##_core, 16)
#define SSE_PLAIN_M(name, insn, size, src) \
    CORE_M(name##_core, insn, src) BODY_X(name, sse_plain, name##_core, size)
#define SSE_FP(name, insn, lanes) CORE_X(name##_core, insn) BODY_X(name, sse_fp, name##_core, 16, lanes)
#define SSE_FP_M(name, insn, size, src, lanes) \
    CORE_M(name##_core, insn, src) BODY_X(name, sse_fp, name##_core, size, lanes)

// ---- instructions with an immediate: a table of 256 eight-byte stubs on xmm0 and xmm1, one an immediate
// ----
#if FP_HOST_X86
#define IMM_TABLE(name, bytes) \
    asm(".pushsection .text\n\t.balign 8\n" #name "_stubs:\n\t.set stub_imm, 0\n\t.rept 256\n\t.byte " bytes \
        ", stub_imm, 0xC3\n\t.balign 8, 0xCC\n\t.set stub_imm, stub_imm + 1\n\t.endr\n\t.popsection"); \
    extern const u8 name##_stubs[] __attribute__((visibility("hidden")));
// The stub's call must not land in the red zone of a leaf function.
#define IMM_CALL(name, imm, d, s) \
    asm volatile("movups (%0), %%xmm0\n\tmovups (%1), %%xmm1\n\tlea -128(%%rsp), %%rsp\n\tcall *%2\n\t" \
                 "lea 128(%%rsp), %%rsp\n\tmovups %%xmm0, (%0)" \
                 : \
                 : "r"(d), "r"(s), "r"(name##_stubs + 8 * ((imm)&0xFF)) \
                 : "xmm0", "xmm1", "memory", "cc")
#else
#define IMM_TABLE(name, bytes)
#define IMM_CALL(name, imm, d, s) ((void)(d), (void)(s), panic("no host instruction for " #name))
#endif
// The checked bodies of those without exceptions: by an immediate; with XMM0 as a third operand.
#define SSE_BY_IMM(name, bytes) \
    IMM_TABLE(name, bytes) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t; \
        const void *s = sse_source(v, in, &t, 16); \
        IMM_CALL(name, in->imm, sse_reg(v, in->r), s); \
    }
// clang-format off
#define SSE_BY_XMM0(name, host)                                                                                         \
    CORE(name##_core, host, asm volatile("movups %0, %%xmm1\n\tmovups %1, %%xmm2\n\tmovups %2, %%xmm0\n\t" host        \
                                         " %%xmm0, %%xmm2, %%xmm1\n\tmovups %%xmm1, %0"                                \
                                         : D128 : S128, "m"(*((const struct x128 *)s + 1)) : "xmm0", "xmm1", "xmm2");) \
    void name(struct vcpu *v, const struct insn *in)                                                                   \
    {                                                                                                                  \
        struct x128 t, pair[2];                                                                                        \
        pair[0] = *(const struct x128 *)sse_source(v, in, &t, 16);                                                     \
        pair[1] = *sse_reg(v, 0);                                                                                      \
        name##_core(sse_reg(v, in->r), pair);                                                                          \
    }
// clang-format on

#endif

// The host's instructions on its XMM and MMX registers, one macro a shape of operands. What they make is used
// by cpu/instructions/sse.h and the files that include it. The operands are in memory; d may be a or s.
//
// On hosts without SSE the cores do not exist; the features are not claimed there (fp_host_capable), so that
// no row is reached.
#ifndef CPU_HOST_SSE_H
#define CPU_HOST_SSE_H

#include "cpu/engine/fast.h"
#include "cpu/host/host.h"

struct x128 {
    u64 q[2];
};
struct string_result {
    struct x128 mask;
    u32 index;
    u16 fl;
};

#if HOST_X86
// ---- cores: *d becomes *a op *s ----
#define CORE(core, insn, ...) \
    ALWAYS_INLINE void core(struct vcpu *v, void *d, const void *a, const void *s) { __VA_ARGS__ }
#define D128 "=m"(*(struct x128 *)d)
#define A128 "m"(*(const struct x128 *)a)
#define S128 "m"(*(const struct x128 *)s)
#define S64  "m"(*(const u64 *)s)
#define S32  "m"(*(const u32 *)s)
#define S16  "m"(*(const u16 *)s)

// 128-bit source; the same instruction on xmm0 and xmm1.
// clang-format off
#define CORE_X(core, insn)                                                                                             \
    CORE(core, insn, asm volatile("movups %1, %%xmm0\n\tmovups %2, %%xmm1\n\t" insn " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0"\
                                  : D128 : A128, S128 : "xmm0", "xmm1");)
// Narrower sources, read by the instruction itself.
#define CORE_M(core, insn, src)                                                                                        \
    CORE(core, insn, asm volatile("movups %1, %%xmm0\n\t" insn " %2, %%xmm0\n\tmovups %%xmm0, %0" : D128 : A128, src : "xmm0");)
// clang-format on

// ---- instructions with an immediate: a table of 256 eight-byte stubs on xmm0 and xmm1, one an immediate
// ----
#define IMM_TABLE(name, bytes) \
    asm(".pushsection .text\n\t.balign 8\n" #name "_stubs:\n\t.set stub_imm, 0\n\t.rept 256\n\t.byte " bytes \
        ", stub_imm, 0xC3\n\t.balign 8, 0xCC\n\t.set stub_imm, stub_imm + 1\n\t.endr\n\t.popsection"); \
    extern const u8 name##_stubs[] __attribute__((visibility("hidden")));
// The stub's call must not land in the red zone of a leaf function.
#define IMM_CALL(name, imm, d, a, s) \
    asm volatile("movups (%1), %%xmm0\n\tmovups (%2), %%xmm1\n\tlea -128(%%rsp), %%rsp\n\tcall *%3\n\t" \
                 "lea 128(%%rsp), %%rsp\n\tmovups %%xmm0, (%0)" \
                 : \
                 : "r"(d), "r"(a), "r"(s), "r"(name##_stubs + 8 * ((imm)&0xFF)) \
                 : "xmm0", "xmm1", "memory", "cc")

// ---- with a mask as a third operand: blends, SHA256RNDS2 ----
#define MASK_CORE4(core, insn) \
    ALWAYS_INLINE void core(void *d, const void *a, const void *s, const void *mask) \
    { \
        asm volatile("movups %1, %%xmm1\n\tmovups %2, %%xmm2\n\tmovups %3, %%xmm0\n\t" insn \
                     " %%xmm0, %%xmm2, %%xmm1\n\tmovups %%xmm1, %0" \
                     : D128 \
                     : A128, S128, "m"(*(const struct x128 *)mask) \
                     : "xmm0", "xmm1", "xmm2"); \
    }

// ---- shifts by a count; PALIGNR by a constant; sign masks ----
#define SHIFT_CORE(core, insn) \
    ALWAYS_INLINE void core(void *d, const void *a, u64 count) \
    { \
        asm volatile("movups %1, %%xmm0\n\tmovq %2, %%xmm1\n\t" insn " %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
                     : D128 \
                     : A128, "r"(count) \
                     : "xmm0", "xmm1"); \
    }
#define ALIGN_CASE(k) \
    case k: \
        asm volatile("movups %1, %%xmm0\n\tmovups %2, %%xmm1\n\tpalignr $" #k \
                     ", %%xmm1, %%xmm0\n\tmovups %%xmm0, %0" \
                     : D128 \
                     : A128, S128 \
                     : "xmm0", "xmm1"); \
        break;
#define MASK_CORE(core, insn) \
    ALWAYS_INLINE u32 core(const void *s) \
    { \
        u32 x; \
        asm volatile("movups %1, %%xmm0\n\t" insn " %%xmm0, %0" : "=r"(x) : S128 : "xmm0"); \
        return x; \
    }

// ---- MMX; the x87 is empty afterwards (EMMS) ----
#define MMX_CORE(core, insn) \
    static inline void core(u64 *d, const void *s) \
    { \
        asm volatile("movq %0, %%mm0\n\tmovq %1, %%mm1\n\t" insn " %%mm1, %%mm0\n\tmovq %%mm0, %0\n\temms" \
                     : "+m"(*d) \
                     : S64 \
                     : "mm0", "mm1"); \
    }
// Stubs as in cpu/instructions/sse.h, on mm0 and mm1.
#define MMX_IMM_CALL(name, imm, d, s) \
    asm volatile("movq (%0), %%mm0\n\tmovq (%1), %%mm1\n\tlea -128(%%rsp), %%rsp\n\tcall *%2\n\t" \
                 "lea 128(%%rsp), %%rsp\n\tmovq %%mm0, (%0)\n\temms" \
                 : \
                 : "r"(d), "r"(s), "r"(name##_stubs + 8 * ((imm)&0xFF)) \
                 : "mm0", "mm1", "memory", "cc")

// ---- the string comparisons: stubs that take the lengths in EAX and EDX ----
static inline struct string_result string_run(const u8 *stubs, u8 imm, const void *d, const void *s, u64 la,
                                              u64 ld)
{
    struct string_result r;
    u64 rax = la, rcx, rdx = ld;
    asm volatile("movups (%4), %%xmm0\n\tmovups (%5), %%xmm1\n\tmovups %%xmm0, %%xmm2\n\t"
                 "lea -128(%%rsp), %%rsp\n\tcall *%6\n\tlea 128(%%rsp), %%rsp\n\t"
                 "movups %%xmm0, %0\n\tlahf\n\tseto %%al"
                 : "=m"(r.mask), "+a"(rax), "=&c"(rcx), "+d"(rdx)
                 : "r"(d), "r"(s), "r"(stubs + 8 * imm)
                 : "xmm0", "xmm1", "xmm2", "cc");
    r.index = (u32)rcx;
    r.fl = (u16)rax;
    return r;
}

#else
#define CORE(core, insn, ...) \
    static inline void core(struct vcpu *v, void *d, const void *a, const void *s) \
    { \
        panic("no host instruction for " insn); \
    }
#define CORE_X(core, insn)      CORE(core, insn)
#define CORE_M(core, insn, src) CORE(core, insn)
#define IMM_TABLE(name, bytes)
#define IMM_CALL(name, imm, d, a, s) \
    ((void)(d), (void)(a), (void)(s), panic("no host instruction for " #name))
#define MASK_CORE4(core, insn) \
    static inline void core(void *d, const void *a, const void *s, const void *mask) \
    { \
        panic("no host instruction for " insn); \
    }
#define SHIFT_CORE(core, insn) \
    static inline void core(void *d, const void *a, u64 count) { panic("no host instruction for " insn); }
#define ALIGN_CASE(k)
#define MASK_CORE(core, insn) \
    static inline u32 core(const void *s) { panic("no host instruction for " insn); }
#define MMX_CORE(core, insn) \
    static inline void core(u64 *d, const void *s) { panic("no host instruction for " insn); }
#define MMX_IMM_CALL(name, imm, d, s) ((void)(d), (void)(s), panic("no host instruction for " #name))
#define string_run(stubs, imm, d, s, la, ld) \
    ((void)(d), (void)(s), (void)(la), (void)(ld), panic("no host instruction for string comparison"), \
     (struct string_result){0})
#endif

#endif

// The string comparisons of SSE4.2: on the host's own, by a table of stubs that takes the lengths in EAX and
// EDX. PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI; VPCMPESTRM, VPCMPESTRI, VPCMPISTRM, VPCMPISTRI.
#include "cpu/instructions/sse.h"

#if FP_HOST_X86
IMM_TABLE(op_pcmpestrm, "0x66, 0x48, 0x0F, 0x3A, 0x60, 0xC1")
IMM_TABLE(op_pcmpestri, "0x66, 0x48, 0x0F, 0x3A, 0x61, 0xC1")
IMM_TABLE(op_pcmpistrm, "0x66, 0x0F, 0x3A, 0x62, 0xC1")
IMM_TABLE(op_pcmpistri, "0x66, 0x0F, 0x3A, 0x63, 0xC1")

struct string_result {
    struct x128 mask;
    u32 index;
    u16 fl;
};
static struct string_result run(const u8 *stubs, u8 imm, const void *d, const void *s, u64 la, u64 ld)
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
struct string_result {
    struct x128 mask;
    u32 index;
    u16 fl;
};
#define run(stubs, imm, d, s, la, ld) \
    ((void)(d), (void)(s), (void)(la), (void)(ld), panic("no host instruction for string comparison"), \
     (struct string_result){0})
#endif

// The lengths are EAX and EDX, or RAX and RDX with REX.W: sign-extended, the stubs with REX.W serve both.
static u64 length(const struct vcpu *v, const struct insn *in, unsigned r)
{
    return in->osz == W64 ? v->s.gpr[r] : (u64)(s64)(s32)v->s.gpr[r];
}

// PCMPESTRM, PCMPISTRM, PCMPESTRI, PCMPISTRI
#define STRING(name, writes_mask) \
    void name(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t; \
        const void *s = sse_source(v, in, &t, 16); \
        struct string_result r = \
            run(name##_stubs, (u8)in->imm, sse_reg(v, in->r), s, length(v, in, RAX), length(v, in, RDX)); \
        if (writes_mask) \
            *sse_reg(v, 0) = r.mask; \
        else \
            reg_set(v, GPR_OFF(RCX), W32, r.index); \
        if (writes_mask && rows[in->row].vex) sse_put(ymm_high(v, 0), 0, 0); \
        v->s.fl = r.fl; \
    }
STRING(op_pcmpestrm, true)
STRING(op_pcmpistrm, true)
STRING(op_pcmpestri, false)
STRING(op_pcmpistri, false)

// The string comparisons of SSE4.2: on the host's own, by a table of stubs that takes the lengths in EAX and
// EDX. PCMPESTRM, PCMPESTRI, PCMPISTRM, PCMPISTRI; VPCMPESTRM, VPCMPESTRI, VPCMPISTRM, VPCMPISTRI.
#include "cpu/instructions/sse.h"

IMM_TABLE(op_pcmpestrm, "0x66, 0x48, 0x0F, 0x3A, 0x60, 0xC1")
IMM_TABLE(op_pcmpestri, "0x66, 0x48, 0x0F, 0x3A, 0x61, 0xC1")
IMM_TABLE(op_pcmpistrm, "0x66, 0x0F, 0x3A, 0x62, 0xC1")
IMM_TABLE(op_pcmpistri, "0x66, 0x0F, 0x3A, 0x63, 0xC1")

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
        struct string_result r = string_run(name##_stubs, (u8)in->imm, sse_reg(v, in->r), s, \
                                            length(v, in, RAX), length(v, in, RDX)); \
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

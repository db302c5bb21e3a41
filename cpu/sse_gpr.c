// The instructions of SSE4.2 and its time on general registers: POPCNT and CRC32.
#include "cpu/sse.h"

ALWAYS_INLINE u64 count_bits(u64 x)
{
#if FP_HOST_X86
    u64 n;
    asm("popcntq %1, %0" : "=r"(n) : "r"(x) : "cc");
    return n;
#else
    return (u64)__builtin_popcountll(x);
#endif
}

// CRC-32C: polynomial 11EDC6F41h, reflected (SDM, CRC32).
ALWAYS_INLINE u32 crc32c(u32 crc, u64 x, unsigned w)
{
#if FP_HOST_X86
    switch (w) {
    case W8: asm("crc32b %1, %0" : "+r"(crc) : "q"((u8)x)); return crc;
    case W16: asm("crc32w %1, %0" : "+r"(crc) : "r"((u16)x)); return crc;
    case W32: asm("crc32l %1, %0" : "+r"(crc) : "r"((u32)x)); return crc;
    default: {
        u64 wide = crc;
        asm("crc32q %1, %0" : "+r"(wide) : "r"(x));
        return (u32)wide;
    }
    }
#else
    for (unsigned i = 0; i < 8 * W_BYTES(w); i++) {
        u32 low = (crc ^ (u32)(x >> i)) & 1;
        crc = crc >> 1 ^ (low ? 0x82F63B78u : 0);
    }
    return crc;
#endif
}

void op_popcnt(struct vcpu *v, const struct insn *in)
{
    u64 x = rm_load(v, in, in->osz);
    reg_set(v, in->r, in->osz, count_bits(x));
    v->s.fl = (u16)(0x200 | (x ? 0 : F_ZF));
}
void op_crc32_b(struct vcpu *v, const struct insn *in)
{
    REG64(v, in->r) = crc32c(REG32(v, in->r), rm_load(v, in, W8), W8);
}
void op_crc32(struct vcpu *v, const struct insn *in)
{
    REG64(v, in->r) = crc32c(REG32(v, in->r), rm_load(v, in, in->osz), in->osz);
}

// The operand of a wrapper: false on a miss.
#define OPERAND(x, w)                                                                                                  \
    u64 x;                                                                                                             \
    if (form == FORM_REG) {                                                                                            \
        x = reg_get(v, in->m, w);                                                                                      \
    } else {                                                                                                           \
        const void *p_ = fast_read(v, fast_ea(v, in, form), W_BYTES(w));                                               \
        if (unlikely(!p_)) return false;                                                                               \
        x = host_load(p_, w);                                                                                          \
    }
ALWAYS_INLINE bool popcnt(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)
{
    OPERAND(x, w)
    reg_set(v, in->r, w, count_bits(x));
    v->s.fl = (u16)(0x200 | (x ? 0 : F_ZF));
    return true;
}
ALWAYS_INLINE bool crc32(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)
{
    OPERAND(x, w)
    REG64(v, in->r) = crc32c(REG32(v, in->r), x, w);
    return true;
}
FORMS(popcnt_16, popcnt, W16)
FORMS(popcnt_32, popcnt, W32)
FORMS(popcnt_64, popcnt, W64)
const struct body body_popcnt = {.loop = {op_popcnt, op_popcnt, op_popcnt, op_popcnt},
                                 .fast = {{{NULL}, FORMS_OF(popcnt_16), FORMS_OF(popcnt_32), FORMS_OF(popcnt_64)}},
                                 .call = {{NULL}, CALLS_OF(popcnt_16), CALLS_OF(popcnt_32), CALLS_OF(popcnt_64)}};
FORMS(crc32_16, crc32, W16)
FORMS(crc32_32, crc32, W32)
FORMS(crc32_64, crc32, W64)
const struct body body_crc32 = {.loop = {op_crc32, op_crc32, op_crc32, op_crc32},
                                .fast = {{{NULL}, FORMS_OF(crc32_16), FORMS_OF(crc32_32), FORMS_OF(crc32_64)}},
                                .call = {{NULL}, CALLS_OF(crc32_16), CALLS_OF(crc32_32), CALLS_OF(crc32_64)}};
FORMS(crc32_b, crc32, W8)
BODY_OF(crc32_b, op_crc32_b)

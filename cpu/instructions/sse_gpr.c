// The instructions of SSE4.2 and its time on general registers: POPCNT and CRC32.
#include "cpu/instructions/sse.h"

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

ALWAYS_INLINE bool popcnt(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    reg_set(v, in->r, h.w, count_bits(x));
    v->s.fl = (u16)(0x200 | (x ? 0 : AX_ZF));
    return true;
}
BODY4(body_popcnt, popcnt)

ALWAYS_INLINE bool crc32_byte(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, W8, &x)) return false;
    REG64(v, in->r) = crc32c(REG32(v, in->r), x, W8);
    return true;
}
ALWAYS_INLINE bool crc32(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    REG64(v, in->r) = crc32c(REG32(v, in->r), x, h.w);
    return true;
}
BODY_X(body_crc32_b, crc32_byte)
BODY4(body_crc32, crc32)

// The instructions of SSE4.2 and its time on general registers: POPCNT and CRC32.
#include "cpu/host/bits.h"
#include "cpu/instructions/sse.h"

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

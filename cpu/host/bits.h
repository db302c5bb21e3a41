// POPCNT and CRC32.
#ifndef CPU_HOST_BITS_H
#define CPU_HOST_BITS_H

#include "cpu/engine/fast.h"
#include "cpu/host/host.h"

ALWAYS_INLINE u64 count_bits(u64 x)
{
#if HOST_X86
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
#if HOST_X86
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

#endif

// Integer arithmetic with its flags, by the host's own instruction, LAHF and SETO. Another host has
// alu_portable (cpu/instructions/alu.h, which includes this).
#ifndef CPU_HOST_ALU_H
#define CPU_HOST_ALU_H

#include "cpu/host/host.h"

#if HOST_X86
// clang-format off
#define ALU_ASM2(insn, T, sfx)                                                                                         \
    {                                                                                                                  \
        T x_ = (T)a;                                                                                                   \
        __asm__(insn sfx " %[b], %[x]\n\tlahf\n\tseto %%al" : "=&a"(f), [x] "+r"(x_) : [b] "r"((T)b) : "cc");          \
        r = x_;                                                                                                        \
    }
// clang-format on
#define ALU_ASM8(insn) \
    { \
        u8 x_ = (u8)a; \
        __asm__(insn "b %[b], %[x]\n\tlahf\n\tseto %%al" : "=&a"(f), [x] "+q"(x_) : [b] "q"((u8)b) : "cc"); \
        r = x_; \
    }
#define ALU_WIDTHS(insn) \
    switch (w) { \
    case 0: ALU_ASM8(insn) break; \
    case 1: ALU_ASM2(insn, u16, "w") break; \
    case 2: ALU_ASM2(insn, u32, "l") break; \
    default: ALU_ASM2(insn, u64, "q") break; \
    }
#define ALU_ASM2C(insn, T, sfx) \
    { \
        T x_ = (T)a; \
        __asm__("btl $8, %k[c]\n\t" insn sfx " %[b], %[x]\n\tlahf\n\tseto %%al" \
                : "=&a"(f), [x] "+&r"(x_) \
                : [b] "r"((T)b), [c] "r"((u32)*fl) \
                : "cc"); \
        r = x_; \
    }
#define ALU_WIDTHS_CARRY(insn) \
    switch (w) { \
    case 0: { \
        u8 x_ = (u8)a; \
        __asm__("btl $8, %k[c]\n\t" insn "b %[b], %[x]\n\tlahf\n\tseto %%al" \
                : "=&a"(f), [x] "+&q"(x_) \
                : [b] "q"((u8)b), [c] "r"((u32)*fl) \
                : "cc"); \
        r = x_; \
        break; \
    } \
    case 1: ALU_ASM2C(insn, u16, "w") break; \
    case 2: ALU_ASM2C(insn, u32, "l") break; \
    default: ALU_ASM2C(insn, u64, "q") break; \
    }
ALU_INLINE u64 alu(unsigned op, unsigned w, u64 a, u64 b, u16 *fl)
{
    u16 f;
    u64 r;
    switch (op) {
    case ALU_ADD: ALU_WIDTHS("add") break;
    case ALU_ADC: ALU_WIDTHS_CARRY("adc") break;
    case ALU_SBB: ALU_WIDTHS_CARRY("sbb") break;
    case ALU_SUB:
    case ALU_CMP: ALU_WIDTHS("sub") break;
    case ALU_AND:
    case ALU_TEST: ALU_WIDTHS("and") f &= (u16)~AX_AF; break;
    case ALU_OR: ALU_WIDTHS("or") f &= (u16)~AX_AF; break;
    default: ALU_WIDTHS("xor") f &= (u16)~AX_AF; break;
    }
    *fl = f;
    return r;
}
#else
#define alu alu_portable
#endif

#endif

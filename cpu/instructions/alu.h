// Integer arithmetic with flags. On x86-64 hosts the host's own instruction computes both (LAHF and SETO give
// the six flags in the layout of vcpu_state.fl); elsewhere the same bits come from carry vectors. Undefined
// flags: AF is 0 after logic; nothing here depends on the host's make.
#ifndef CPU_ALU_H
#define CPU_ALU_H

#include "cpu/state/vcpu.h"

#define ALU_INLINE static inline __attribute__((always_inline))

enum alu_op { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST };

ALU_INLINE u64 width_mask(unsigned w) { return w == 3 ? UINT64_MAX : (1ull << (8u << w)) - 1; }
ALU_INLINE unsigned width_bits(unsigned w) { return 8u << w; }

// SF, ZF, PF of a result; CF = OF = AF = 0.
ALU_INLINE u16 fl_result_portable(u64 r, unsigned w)
{
    r &= width_mask(w);
    u16 f = 0x200;
    if (!r) f |= AX_ZF;
    if (r >> (width_bits(w) - 1) & 1) f |= AX_SF;
    if (!__builtin_parity((unsigned)(r & 0xFF))) f |= AX_PF;
    return f;
}

ALU_INLINE u64 alu_portable(unsigned op, unsigned w, u64 a, u64 b, u16 *fl)
{
    u64 m = width_mask(w), cin = *fl >> 8 & 1, r, carry;
    a &= m, b &= m;
    switch (op) {
    case ALU_ADD: cin = 0; /* fall through */
    case ALU_ADC:
        r = (a + b + cin) & m;
        carry = (a & b) | ((a | b) & ~r);
        break;
    case ALU_SUB:
    case ALU_CMP: cin = 0; /* fall through */
    case ALU_SBB:
        r = (a - b - cin) & m;
        carry = (~a & b) | ((~a | b) & r);
        break;
    case ALU_AND:
    case ALU_TEST: r = a & b, carry = 0; break;
    case ALU_OR: r = a | b, carry = 0; break;
    default: r = a ^ b, carry = 0; break;
    }
    u16 f = fl_result_portable(r, w);
    unsigned top = width_bits(w) - 1;
    if (carry >> top & 1) f |= AX_CF;
    if ((carry >> top ^ carry >> (top - 1)) & 1) f |= AX_OF;
    if (carry >> 3 & 1) f |= AX_AF;
    *fl = f;
    return r;
}

// alu(op, w, a, b, fl): the result (of CMP and TEST too, to be thrown away); *fl is read by ADC and SBB,
// written by all.
#include "cpu/host/alu.h"

// Without flags.
ALU_INLINE u64 alu_plain(unsigned op, u64 a, u64 b, unsigned carry)
{
    switch (op) {
    case ALU_ADD: return a + b;
    case ALU_ADC: return a + b + carry;
    case ALU_SBB: return a - b - carry;
    case ALU_SUB:
    case ALU_CMP: return a - b;
    case ALU_AND:
    case ALU_TEST: return a & b;
    case ALU_OR: return a | b;
    default: return a ^ b;
    }
}
ALU_INLINE u16 fl_result(u64 r, unsigned w)
{
    u16 f = 0;
    alu(ALU_TEST, w, r, r, &f);
    return f;
}

ALU_INLINE bool cond(u16 fl, unsigned cc)
{
    bool c;
    switch (cc >> 1) {
    case 0: c = fl & AX_OF; break;
    case 1: c = fl & AX_CF; break;
    case 2: c = fl & AX_ZF; break;
    case 3: c = fl & (AX_CF | AX_ZF); break;
    case 4: c = fl & AX_SF; break;
    case 5: c = fl & AX_PF; break;
    case 6: c = ((fl >> 15) ^ fl) & 1; break;
    default: c = (fl & AX_ZF) || (((fl >> 15) ^ fl) & 1); break;
    }
    return c != (cc & 1);
}

#endif

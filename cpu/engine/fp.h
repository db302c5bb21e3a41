// Floating point's side of the run loop: who owns the host's MXCSR, and how an SSE exception is raised.
//
// On x86-64 hosts guest SSE arithmetic runs on the host's SSE under the guest's own MXCSR. While the guest
// has all six exceptions masked, the host's register *is* the guest's: bodies touch nothing, flags accumulate
// by themselves, and s.mxcsr lags behind until fp_sync. While a mask is clear (MODE_FPUNMASK), s.mxcsr is the
// truth and the host's register is scratch: fp_begin clears the flags with everything masked, fp_end tests
// them and raises before the body commits. The mask bits of s.mxcsr are current at all times.
#ifndef CPU_FP_H
#define CPU_FP_H

#include "cpu/state/mode.h"

#define MXCSR_RESET 0x1F80u
#define MXCSR_MASKS 0x1F80u
#define MXCSR_VALID 0xFFFFu // the MXCSR_MASK that FXSAVE reports
// clang-format off
enum { MXCSR_IE = 1, MXCSR_DE = 2, MXCSR_ZE = 4, MXCSR_OE = 8, MXCSR_UE = 16, MXCSR_PE = 32, MXCSR_DAZ = 64,
       MXCSR_UM = 1 << 11, MXCSR_FTZ = 1 << 15 };
// clang-format on

// Whether this host can run the rows of SSE, MMX and x87: if not, their features must not be claimed.
bool fp_host_capable(void);

void fp_enter(struct vcpu *v); // the run loop's slice begins: guest's MXCSR into the host's register
void fp_leave(struct vcpu *v); // it ends: s.mxcsr current, the host's own value back
void fp_sync(struct vcpu *v);  // s.mxcsr current
void fp_set_mxcsr(struct vcpu *v, u32 value); // LDMXCSR, FXRSTOR, XRSTOR, INIT: both, and the mode word

// Around an operation while MODE_FPUNMASK is set. `lanes` says which elements of the result may be tiny or
// too large, and how they come from the operands (FP_OP, FP_SIGN): so the exactness of one that is can be
// told.
enum fp_lanes {
    FP_NONE,
    FP_SS,
    FP_SD,
    FP_PS,
    FP_PD,
    FP_PS_256,
    FP_PD_256,
    FP_PH,
    FP_SHAPE = 0xF,
    FP_ADD = 1 << 4,    // a + s
    FP_MUL = 2 << 4,    // a * s
    FP_DIV = 3 << 4,    // a / s
    FP_NARROW = 4 << 4, // s, in fewer bits
    FP_PAIRS = 5 << 4,  // the sum of two elements next to each other, of a, then of s
    FP_132 = 6 << 4,    // d * s + a
    FP_213 = 7 << 4,    // a * d + s
    FP_231 = 8 << 4,    // a * s + d
    FP_OP = 0xF << 4,
    FP_SUB = 1 << 8,      // the sum is a difference
    FP_EVEN_SUB = 2 << 8, // in elements of even number
    FP_ODD_SUB = 3 << 8,
    FP_SIGN = 3 << 8,
};
// 128 bits, and the high halves of 256 (NULL: none). What an operation does not have may be NULL too.
struct fp_operands {
    const void *a[2], *s[2], *d[2];
};
static inline enum fp_lanes fp_lanes_256(enum fp_lanes half)
{
    unsigned shape = half & FP_SHAPE;
    if (shape == FP_PS) shape = FP_PS_256;
    if (shape == FP_PD) shape = FP_PD_256;
    return (enum fp_lanes)((half & ~(unsigned)FP_SHAPE) | shape);
}
void fp_begin(struct vcpu *v);
RAISES void fp_end(struct vcpu *v, const void *result, enum fp_lanes lanes, const struct fp_operands *from);
// An element of the result, were its exponent unbounded, would not be exact (cpu/engine/fp_exact.c).
bool fp_inexact(const struct fp_operands *from, enum fp_lanes lanes, bool daz);

#endif

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

#if defined(__x86_64__)
#define FP_HOST_X86 1
#else
#define FP_HOST_X86 0
#endif

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

// Around an operation while MODE_FPUNMASK is set. `lanes` says which elements of the result may be tiny.
enum fp_lanes { FP_NONE, FP_SS, FP_SD, FP_PS, FP_PD, FP_PS_256, FP_PD_256, FP_PH };
static inline enum fp_lanes fp_lanes_256(enum fp_lanes half)
{
    return half == FP_PS ? FP_PS_256 : half == FP_PD ? FP_PD_256 : half;
}
void fp_begin(struct vcpu *v);
RAISES void fp_end(struct vcpu *v, const void *result, enum fp_lanes lanes);

#endif

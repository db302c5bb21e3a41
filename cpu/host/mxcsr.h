// The host's register of SIMD floating point, which the guest has on loan during a slice (cpu/engine/fp.h),
// and whether the host can run SSE, MMX and x87 at all.
#ifndef CPU_HOST_MXCSR_H
#define CPU_HOST_MXCSR_H

#include "cpu/host/host.h"
#include "mmu/types.h"

#if HOST_X86
static inline bool host_has_sse(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}
static inline u32 host_get_mxcsr(void)
{
    u32 x;
    asm volatile("stmxcsr %0" : "=m"(x));
    return x;
}
static inline void host_set_mxcsr(u32 x) { asm volatile("ldmxcsr %0" : : "m"(x)); }
// The short way of cpu/instructions/x87.c wants no exception flags left over.
static inline void host_clear_x87(void) { asm volatile("fnclex"); }
#else
static inline bool host_has_sse(void) { return false; }
static inline u32 host_get_mxcsr(void) { return 0x1F80; }
static inline void host_set_mxcsr(u32 x) {}
static inline void host_clear_x87(void) {}
#endif

#endif

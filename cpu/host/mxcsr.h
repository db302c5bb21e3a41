// The register of SIMD floating point, which the guest has during a slice (cpu/engine/fp.h): the host's own,
// on loan, or (HOST_FP 0) the low half of d.host_mxcsr_valid, where cpu/instructions/sse_portable.c finds it.
// And whether the host can run SSE, MMX and x87 at all.
#ifndef CPU_HOST_MXCSR_H
#define CPU_HOST_MXCSR_H

#include "cpu/host/host.h"
#include "cpu/state/vcpu.h"

#if HOST_X86
static inline bool host_has_sse(void)
{
    return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
}
// The short way of cpu/instructions/x87.c wants no exception flags left over.
static inline void host_clear_x87(void) { asm volatile("fnclex"); }
#else
static inline bool host_has_sse(void) { return false; }
static inline void host_clear_x87(void) {}
#endif

#if HOST_FP
static inline u32 host_get_mxcsr(const struct vcpu *v)
{
    u32 x;
    asm volatile("stmxcsr %0" : "=m"(x));
    return x;
}
static inline void host_set_mxcsr(struct vcpu *v, u32 x) { asm volatile("ldmxcsr %0" : : "m"(x)); }
#else
static inline u32 host_get_mxcsr(const struct vcpu *v) { return (u32)v->d.host_mxcsr_valid; }
static inline void host_set_mxcsr(struct vcpu *v, u32 x)
{
    v->d.host_mxcsr_valid = (v->d.host_mxcsr_valid & ~(u64)UINT32_MAX) | x;
}
#endif

#endif

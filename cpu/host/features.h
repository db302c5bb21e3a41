// What the host's CPUID and XCR0 say. Another host says no to everything.
#ifndef CPU_HOST_FEATURES_H
#define CPU_HOST_FEATURES_H

#include "cpu/host/host.h"
#include "mmu/types.h"

#if HOST_X86
#include <cpuid.h>

// EAX, EBX, ECX, EDX of a leaf; zeros if there is none.
static inline void host_cpuid(u32 leaf, u32 subleaf, u32 reg[4])
{
    reg[0] = reg[1] = reg[2] = reg[3] = 0;
    __get_cpuid_count(leaf, subleaf, &reg[0], &reg[1], &reg[2], &reg[3]);
}
// XCR0, low half; CPUID.1:ECX.OSXSAVE must be set.
static inline u32 host_xcr0(void)
{
    u32 a, d;
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}
#else
static inline void host_cpuid(u32 leaf, u32 subleaf, u32 reg[4]) { reg[0] = reg[1] = reg[2] = reg[3] = 0; }
static inline u32 host_xcr0(void) { return 0; }
#endif

#endif

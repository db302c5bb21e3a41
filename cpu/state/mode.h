// The mode word: everything about the processor's mode that decoding resolves once, so that no body asks.
// Blocks are keyed by physical address and this word.
#ifndef CPU_MODE_H
#define CPU_MODE_H

#include "cpu/state/vcpu.h"

// clang-format off
enum {
    MODE_CODE16 = 0, MODE_CODE32 = 1, MODE_CODE64 = 2, MODE_CODE = 3, // code size
    MODE_PE = 1 << 2,       // CR0.PE
    MODE_VM = 1 << 3,       // EFLAGS.VM
    MODE_CPL_SHIFT = 4, MODE_CPL = 3 << 4,
    MODE_STACK32 = 1 << 6,  // SS.B (outside 64-bit code)
    MODE_FLAT = 1 << 7,     // ES, CS, SS, DS are flat: base 0, no limit, the data segments writable (always in 64-bit code)
    MODE_EM = 1 << 8, MODE_TS = 1 << 9,
    MODE_AVX = 1 << 10,     // CR4.OSXSAVE, and XCR0 enables SSE and AVX state
    MODE_OSFXSR = 1 << 11, MODE_OSXSAVE = 1 << 12, MODE_UMIP = 1 << 13,
    MODE_GUEST = 1 << 14,   // VMX non-root operation
    MODE_FPUNMASK = 1 << 15, // MXCSR has an exception unmasked
    MODE_AC = 1 << 16,      // alignment checks active (CR0.AM, EFLAGS.AC, CPL 3)
    MODE_STEP = 1 << 17,    // TF: every instruction runs in the loop, one at a time
    MODE_LMA = 1 << 18,     // IA-32e mode
    MODE_TSD = 1 << 19, MODE_PCE = 1 << 20, MODE_FSGSBASE = 1 << 21, MODE_PKE = 1 << 22, // bits of CR4
    MODE_MONITOR = 1 << 23, // IA32_MISC_ENABLE has MONITOR and MWAIT on
    MODE_BUS_LOCK = 1 << 26, // "VMM bus-lock detection": locked accesses are looked at
    MODE_FS_WHOLE = 1 << 24, MODE_GS_WHOLE = 1 << 25, // outside 64-bit code: FS, GS reach 4 GiB and are writable, from any base
};
// clang-format on
static inline bool mode_long64(u32 mode) { return (mode & MODE_CODE) == MODE_CODE64; }
static inline unsigned mode_cpl(u32 mode) { return mode >> MODE_CPL_SHIFT & 3; }
static inline bool mode_real(u32 mode) { return !(mode & MODE_PE); }
// protected or IA-32e, not v86
static inline bool mode_protected(u32 mode) { return (mode & (MODE_PE | MODE_VM)) == MODE_PE; }

u32 mode_compute(const struct vcpu *v); // from architectural state
static inline unsigned cpu_cpl(const struct vcpu *v) { return v->d.cpl; }
static inline bool cpu_long64(const struct vcpu *v) { return mode_long64(v->d.mode); }
// VIF and VIP are both set where they count: virtual-8086 mode with CR4.VME, or level 3 with CR4.PVI, below
// IOPL 3. The next instruction is a #GP(0) then (SDM 22.3.2).
static inline bool cpu_virtual_interrupt(const struct vcpu *v)
{
    u64 f = v->s.rflags;
    return (f & (FL_VIF | FL_VIP)) == (FL_VIF | FL_VIP) && (f & FL_IOPL) != FL_IOPL && v->d.cpl == 3 &&
           v->s.cr4 & (f & FL_VM ? CR4_VME : CR4_PVI);
}
static inline bool cpu_lma(const struct vcpu *v) { return v->s.msr.efer & EFER_LMA; }

#endif

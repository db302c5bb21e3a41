// What the host is. Its instructions are used in this folder and nowhere else (tests/host_seam): each of
// these headers says what it gives, and what takes its place on a host that has not the instruction.
#ifndef CPU_HOST_H
#define CPU_HOST_H

#if defined(__x86_64__) && !defined(HOST_NONE) // HOST_NONE: as if there were no such instructions, for a test
#define HOST_X86 1
#else
#define HOST_X86 0
#endif
// Whether its floating point is used: if not, that of cpu/float is (-DPORTABLE_FP=ON).
#if HOST_X86 && !defined(PORTABLE_FP)
#define HOST_FP 1
#else
#define HOST_FP 0
#endif

#endif

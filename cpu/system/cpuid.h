// Features: one list, from which CPUID, the guards of rows, the MSRs and control-register masks follow.
#ifndef CPU_CPUID_H
#define CPU_CPUID_H

#include "cpu/state/vcpu.h"
#include "cpu/system/topology.h"

// FEATURE(enumerator, command-line name, leaf, subleaf, register 0-3 = eax-edx, bit). Leaf 0x80000001 and 7
// as CPUID has them.
// clang-format off
#define FEATURES(X)                                                                                                    \
    X(FPU, "fpu", 1, 0, 3, 0) X(VME, "vme", 1, 0, 3, 1) X(DE, "de", 1, 0, 3, 2) X(PSE, "pse", 1, 0, 3, 3)             \
    X(TSC, "tsc", 1, 0, 3, 4) X(MSR, "msr", 1, 0, 3, 5) X(PAE, "pae", 1, 0, 3, 6) X(MCE, "mce", 1, 0, 3, 7)           \
    X(CX8, "cx8", 1, 0, 3, 8) X(APIC, "apic", 1, 0, 3, 9) X(SEP, "sep", 1, 0, 3, 11) X(MTRR, "mtrr", 1, 0, 3, 12)     \
    X(PGE, "pge", 1, 0, 3, 13) X(MCA, "mca", 1, 0, 3, 14) X(CMOV, "cmov", 1, 0, 3, 15) X(PAT, "pat", 1, 0, 3, 16)     \
    X(PSE36, "pse36", 1, 0, 3, 17) X(CLFLUSH, "clflush", 1, 0, 3, 19) X(MMX, "mmx", 1, 0, 3, 23)                      \
    X(FXSR, "fxsr", 1, 0, 3, 24) X(SSE, "sse", 1, 0, 3, 25) X(SSE2, "sse2", 1, 0, 3, 26) X(SS, "ss", 1, 0, 3, 27)     \
    X(SSE3, "sse3", 1, 0, 2, 0) X(MONITOR, "monitor", 1, 0, 2, 3)                                                     \
    X(VMX, "vmx", 1, 0, 2, 5) X(SSSE3, "ssse3", 1, 0, 2, 9) X(CX16, "cx16", 1, 0, 2, 13) X(XTPR, "xtpr", 1, 0, 2, 14)  \
    X(PCID, "pcid", 1, 0, 2, 17)                                                                                       \
    X(SSE41, "sse4.1", 1, 0, 2, 19) X(SSE42, "sse4.2", 1, 0, 2, 20) X(X2APIC, "x2apic", 1, 0, 2, 21)                  \
    X(MOVBE, "movbe", 1, 0, 2, 22) X(POPCNT, "popcnt", 1, 0, 2, 23) X(TSC_DEADLINE, "tsc-deadline", 1, 0, 2, 24)      \
    X(XSAVE, "xsave", 1, 0, 2, 26) X(RDRAND, "rdrand", 1, 0, 2, 30) X(HYPERVISOR, "hypervisor", 1, 0, 2, 31)          \
    X(FSGSBASE, "fsgsbase", 7, 0, 1, 0) X(TSC_ADJUST, "tsc_adjust", 7, 0, 1, 1) X(SMEP, "smep", 7, 0, 1, 7)           \
    X(ERMS, "erms", 7, 0, 1, 9) X(AVX, "avx", 1, 0, 2, 28) X(F16C, "f16c", 1, 0, 2, 29) X(FMA, "fma", 1, 0, 2, 12) X(AVX2, "avx2", 7, 0, 1, 5)                \
    X(VAES, "vaes", 7, 0, 2, 9) X(VPCLMULQDQ, "vpclmulqdq", 7, 0, 2, 10) X(AES, "aes", 1, 0, 2, 25) X(PCLMULQDQ, "pclmulqdq", 1, 0, 2, 1) X(SHA_NI, "sha-ni", 7, 0, 1, 29)                   \
    X(GFNI, "gfni", 7, 0, 2, 8) X(CLDEMOTE, "cldemote", 7, 0, 2, 25) X(MOVDIRI, "movdiri", 7, 0, 2, 27)                   \
    X(SERIALIZE, "serialize", 7, 0, 3, 14) X(BMI1, "bmi1", 7, 0, 1, 3) X(BMI2, "bmi2", 7, 0, 1, 8) X(ADX, "adx", 7, 0, 1, 19)                                 \
    X(LZCNT, "abm", 0x80000001, 0, 2, 5) X(INVPCID, "invpcid", 7, 0, 1, 10) X(RDSEED, "rdseed", 7, 0, 1, 18)                   \
    X(SMAP, "smap", 7, 0, 1, 20) X(CLFLUSHOPT, "clflushopt", 7, 0, 1, 23) X(CLWB, "clwb", 7, 0, 1, 24)                \
    X(UMIP, "umip", 7, 0, 2, 2) X(PKU, "pku", 7, 0, 2, 3) X(PKS, "pks", 7, 0, 2, 31) X(WAITPKG, "waitpkg", 7, 0, 2, 5) X(MOVDIR64B, "movdir64b", 7, 0, 2, 28) \
    X(MD_CLEAR, "md-clear", 7, 0, 3, 10) X(STIBP, "stibp", 7, 0, 3, 27) X(FLUSH_L1D, "flush-l1d", 7, 0, 3, 28) X(SSBD, "ssbd", 7, 0, 3, 31) X(LA57, "la57", 7, 0, 2, 16) X(RDPID, "rdpid", 7, 0, 2, 22) \
    X(WRMSRNS, "wrmsrns", 7, 1, 0, 19) X(MSRLIST, "msrlist", 7, 1, 0, 27) X(FSRM, "fsrm", 7, 0, 3, 4) X(SPEC_CTRL, "spec-ctrl", 7, 0, 3, 26)                                                \
    X(ARCH_CAPABILITIES, "arch-capabilities", 7, 0, 3, 29) X(BHI_CTRL, "bhi-ctrl", 7, 2, 3, 4)                        \
    X(XSAVEOPT, "xsaveopt", 0xD, 1, 0, 0) X(XSAVEC, "xsavec", 0xD, 1, 0, 1) X(XGETBV1, "xgetbv1", 0xD, 1, 0, 2)       \
    X(XSAVES, "xsaves", 0xD, 1, 0, 3) X(ARAT, "arat", 6, 0, 0, 2)                                                     \
    X(SYSCALL, "syscall", 0x80000001, 0, 3, 11) X(NX, "nx", 0x80000001, 0, 3, 20)                                     \
    X(PDPE1GB, "pdpe1gb", 0x80000001, 0, 3, 26) X(RDTSCP, "rdtscp", 0x80000001, 0, 3, 27)                             \
    X(LM, "lm", 0x80000001, 0, 3, 29) X(LAHF_LM, "lahf_lm", 0x80000001, 0, 2, 0)                                      \
    X(PREFETCHW, "prefetchw", 0x80000001, 0, 2, 8) X(INVTSC, "invtsc", 0x80000007, 0, 3, 8) X(WBNOINVD, "wbnoinvd", 0x80000008, 0, 1, 9)
// clang-format on

enum feature {
    FEATURE_NONE,
#define FEATURE_ENUM(e, n, l, s, r, b) FEATURE_##e,
    FEATURES(FEATURE_ENUM)
#undef FEATURE_ENUM
        FEATURE_COUNT
};
_Static_assert(FEATURE_COUNT <= 128, "as many bits as struct cpu_features has");

struct cpu_features {
    u64 bits[2];   // bit n: enum feature n is on
    u8 maxphyaddr; // default 40
    struct cpu_topology topology;
    u64 feature_control; // reset value of IA32_FEATURE_CONTROL: 5, or 0 by option
    u64 rng_seed;
};
static inline bool feature_on(const struct cpu_features *f, enum feature n)
{
    return n == FEATURE_NONE || (f->bits[n / 64] >> (n % 64) & 1);
}
// Whether the host's own CPUID reports the feature; false on a host that is not x86-64.
bool cpuid_host(enum feature n);
// Whether it can be offered on this host: some run on the host's own instructions
// (cpu/instructions/sse_crypto.c).
bool cpu_feature_possible(enum feature n);
void cpu_features_max(struct cpu_features *f); // everything that is implemented
// The features' names on the command line, from 0 on; NULL behind the last.
const char *cpu_feature_name(unsigned n);
// Turns a feature on; or off, with all that is built on it.
void cpu_feature_switch(struct cpu_features *f, unsigned n, bool on);
// False if a feature is on whose base is not: which.
bool cpu_features_complete(const struct cpu_features *f, unsigned *derived, unsigned *base);
// eax ebx ecx edx, live (OSXSAVE, APIC id ...)
void cpuid_query(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4]);

#endif

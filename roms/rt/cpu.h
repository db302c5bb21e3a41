/*
 * The processor as C functions: ports, MSRs, control registers, CPUID, flushes. One instruction each.
 */
#ifndef RT_CPU_H
#define RT_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CR0_PE                       (1u << 0)
#define CR0_MP                       (1u << 1)
#define CR0_EM                       (1u << 2)
#define CR0_TS                       (1u << 3)
#define CR0_ET                       (1u << 4)
#define CR0_NE                       (1u << 5)
#define CR0_WP                       (1u << 16)
#define CR0_AM                       (1u << 18)
#define CR0_NW                       (1u << 29)
#define CR0_CD                       (1u << 30)
#define CR0_PG                       (1u << 31)
#define CR4_VME                      (1u << 0)
#define CR4_TSD                      (1u << 2)
#define CR4_DE                       (1u << 3)
#define CR4_PSE                      (1u << 4)
#define CR4_PAE                      (1u << 5)
#define CR4_PGE                      (1u << 7)
#define CR4_PCE                      (1u << 8)
#define CR4_OSFXSR                   (1u << 9)
#define CR4_OSXMMEXCPT               (1u << 10)
#define CR4_UMIP                     (1u << 11)
#define CR4_VMXE                     (1u << 13)
#define CR4_FSGSBASE                 (1u << 16)
#define CR4_PCIDE                    (1u << 17)
#define CR4_OSXSAVE                  (1u << 18)
#define CR4_SMEP                     (1u << 20)
#define CR4_SMAP                     (1u << 21)
#define CR4_PKE                      (1u << 22)
#define CR4_PKS                      (1u << 24)

#define RFLAGS_CF                    (1u << 0)
#define RFLAGS_FIXED                 (1u << 1)
#define RFLAGS_PF                    (1u << 2)
#define RFLAGS_AF                    (1u << 4)
#define RFLAGS_ZF                    (1u << 6)
#define RFLAGS_SF                    (1u << 7)
#define RFLAGS_TF                    (1u << 8)
#define RFLAGS_IF                    (1u << 9)
#define RFLAGS_DF                    (1u << 10)
#define RFLAGS_OF                    (1u << 11)
#define RFLAGS_IOPL3                 (3u << 12)
#define RFLAGS_NT                    (1u << 14)
#define RFLAGS_RF                    (1u << 16)
#define RFLAGS_VM                    (1u << 17)
#define RFLAGS_AC                    (1u << 18)

#define IA32_TIME_STAMP_COUNTER      0x10
#define IA32_APIC_BASE               0x1b
#define IA32_FEATURE_CONTROL         0x3a
#define IA32_SYSENTER_CS             0x174
#define IA32_SYSENTER_ESP            0x175
#define IA32_SYSENTER_EIP            0x176
#define IA32_DEBUGCTL                0x1d9
#define IA32_SPEC_CTRL               0x048
#define IA32_PAT                     0x277
#define IA32_VMX_BASIC               0x480
#define IA32_VMX_PINBASED_CTLS       0x481
#define IA32_VMX_PROCBASED_CTLS      0x482
#define IA32_VMX_EXIT_CTLS           0x483
#define IA32_VMX_ENTRY_CTLS          0x484
#define IA32_VMX_MISC                0x485
#define IA32_VMX_CR0_FIXED0          0x486
#define IA32_VMX_CR0_FIXED1          0x487
#define IA32_VMX_CR4_FIXED0          0x488
#define IA32_VMX_CR4_FIXED1          0x489
#define IA32_VMX_VMCS_ENUM           0x48a
#define IA32_VMX_PROCBASED_CTLS2     0x48b
#define IA32_VMX_EPT_VPID_CAP        0x48c
#define IA32_VMX_TRUE_PINBASED_CTLS  0x48d
#define IA32_VMX_TRUE_PROCBASED_CTLS 0x48e
#define IA32_VMX_TRUE_EXIT_CTLS      0x48f
#define IA32_VMX_TRUE_ENTRY_CTLS     0x490
#define IA32_VMX_VMFUNC              0x491
#define IA32_VMX_PROCBASED_CTLS3     0x492
#define IA32_VMX_EXIT_CTLS2          0x493
#define IA32_TSC_DEADLINE            0x6e0
#define IA32_EFER                    0xc0000080
#define IA32_STAR                    0xc0000081
#define IA32_LSTAR                   0xc0000082
#define IA32_CSTAR                   0xc0000083
#define IA32_FMASK                   0xc0000084
#define IA32_FS_BASE                 0xc0000100
#define IA32_GS_BASE                 0xc0000101
#define IA32_KERNEL_GS_BASE          0xc0000102
#define IA32_TSC_AUX                 0xc0000103

#define EFER_SCE                     (1u << 0)
#define EFER_LME                     (1u << 8)
#define EFER_LMA                     (1u << 10)
#define EFER_NXE                     (1u << 11)

static inline void outb(uint16_t port, uint8_t v) { asm volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outw(uint16_t port, uint16_t v) { asm volatile("outw %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outl(uint16_t port, uint32_t v) { asm volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t v;
    asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    asm volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}

#define CPU_CONTROL_REGISTER(n) \
    static inline uint64_t read_cr##n(void) \
    { \
        uint64_t v; \
        asm volatile("mov %%cr" #n ", %0" : "=r"(v)::"memory"); \
        return v; \
    } \
    static inline void write_cr##n(uint64_t v) { asm volatile("mov %0, %%cr" #n ::"r"(v) : "memory"); }

CPU_CONTROL_REGISTER(0)
CPU_CONTROL_REGISTER(2)
CPU_CONTROL_REGISTER(3)
CPU_CONTROL_REGISTER(4)
CPU_CONTROL_REGISTER(8)

#define CPU_DEBUG_REGISTER(n) \
    static inline uint64_t read_dr##n(void) \
    { \
        uint64_t v; \
        asm volatile("mov %%dr" #n ", %0" : "=r"(v)); \
        return v; \
    } \
    static inline void write_dr##n(uint64_t v) { asm volatile("mov %0, %%dr" #n ::"r"(v)); }

CPU_DEBUG_REGISTER(0)
CPU_DEBUG_REGISTER(1)
CPU_DEBUG_REGISTER(6)
CPU_DEBUG_REGISTER(7)

static inline uint64_t read_rflags(void)
{
    uint64_t v;
    asm volatile("pushfq; popq %0" : "=r"(v)::"memory");
    return v;
}

static inline void invlpg(uint64_t address) { asm volatile("invlpg (%0)" ::"r"(address) : "memory"); }
static inline void cli(void) { asm volatile("cli" ::: "memory"); }
static inline void sti(void) { asm volatile("sti" ::: "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }

struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(subleaf));
    return r;
}

/* The leaf's registers, all zero where the processor has no such leaf. */
static inline struct cpuid cpuid_if_present(uint32_t leaf, uint32_t subleaf)
{
    if (cpuid(leaf & 0x80000000u, 0).eax < leaf) return (struct cpuid){0};
    return cpuid(leaf, subleaf);
}

#endif

// Included before the sources of roms/fuzz where they are built for the host: what is privileged there goes
// to the machine.
#ifndef ENTRIES_NATIVE_H
#define ENTRIES_NATIVE_H

#include "vmx.h"

#include "trap.h"

#include "tests/fuzz/entries/machine.h"

static inline enum vmx_status native_vmread(uint64_t field, uint64_t *value)
{
    return machine_vmread((uint32_t)field, value) ? VMX_SUCCEED : VMX_FAIL_VALID;
}
static inline enum vmx_status native_vmwrite(uint64_t field, uint64_t value)
{
    return machine_vmwrite((uint32_t)field, value) ? VMX_SUCCEED : VMX_FAIL_VALID;
}
static inline struct cpuid native_cpuid(uint32_t leaf, uint32_t subleaf)
{
    uint32_t r[4];
    machine_cpuid(leaf & 0x80000000u, 0, r);
    if (r[0] < leaf) return (struct cpuid){0};
    machine_cpuid(leaf, subleaf, r);
    return (struct cpuid){.eax = r[0], .ebx = r[1], .ecx = r[2], .edx = r[3]};
}

#define vmread_status                   native_vmread
#define vmwrite_status                  native_vmwrite
#define cpuid(leaf, subleaf)            native_cpuid(leaf, subleaf)
#define cpuid_if_present(leaf, subleaf) native_cpuid(leaf, subleaf)
#define rdmsr                           machine_rdmsr
#define read_cr0()                      machine_control_register(0)
#define read_cr3()                      machine_control_register(3)
#define read_cr4()                      machine_control_register(4)
#define write_cr2(v)                    ((void)(v))
#define panic                           native_panic // the library has one of its own
_Noreturn void native_panic(const char *format, ...);

#endif

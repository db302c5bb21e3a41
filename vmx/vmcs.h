// The VMCS region: 4 KiB of guest memory, the only truth about a VMCS. Its layout beyond the first 8 bytes is
// ours, and belongs to VMCS_REVISION.
#ifndef VMX_VMCS_H
#define VMX_VMCS_H

#include "mmu/phys.h"
#include "vmx/fields.h"

#define VMCS_REVISION 0x4D545231u // no processor that was ever sold has it
#define VMCS_SHADOW   0x80000000u // bit 31 of the first dword

enum { VMCS_LAUNCH_CLEAR = 0, VMCS_LAUNCH_LAUNCHED = 1 };
// clang-format off
enum { // VMX-abort indicator (SDM 30.7)
    VMX_ABORT_SAVE_MSR = 1, VMX_ABORT_HOST_PDPTE = 2, VMX_ABORT_VMCS_CORRUPT = 3, VMX_ABORT_LOAD_MSR = 4,
    VMX_ABORT_MACHINE_CHECK = 5, VMX_ABORT_HOST_MODE = 6,
};
// clang-format on

struct vmcs_region {
    u32 revision; // bits 30:0; bit 31: shadow VMCS
    u32 abort;
    u32 launch_state;
    u32 reserved[13];
    struct vmcs_fields f; // at 64
};
_Static_assert(offsetof(struct vmcs_region, f) == 64 && sizeof(struct vmcs_region) <= 4096,
               "a VMCS fits its region");

// The region at a page-aligned address, in host memory; NULL where there is no RAM (VMPTRLD refuses such a
// region, since what it reads there is not the revision identifier, so a current VMCS always lies in RAM).
static inline struct vmcs_region *vmcs_region_at(const struct phys *p, paddr a)
{
    return (struct vmcs_region *)(void *)phys_host(p, a);
}
u64 vmcs_read(const struct phys *p, paddr vmcs, enum vmcs_field field);
void vmcs_write(struct phys *p, unsigned cpu, paddr vmcs, enum vmcs_field field, u64 value);

#endif

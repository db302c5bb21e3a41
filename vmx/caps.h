// What the VMX capability MSRs report (SDM appendix A), computed from the rows of controls.def and fields.def
// and from the CPUID features.
#ifndef VMX_CAPS_H
#define VMX_CAPS_H

#include "cpu/system/cpuid.h"
#include "vmx/fields.h"

struct vmx_caps {
    u64 basic, misc, vmcs_enum, ept_vpid;
    u64 cr0_fixed0, cr0_fixed1, cr4_fixed0, cr4_fixed1;
    u32 allowed0[GROUP_COUNT];      // as the older MSR says: default1 controls must be 1
    u32 true_allowed0[GROUP_COUNT]; // as the TRUE MSR says; this is what VM entry checks
    u64 allowed1[GROUP_COUNT];      // may be 1
    bool exists[VMCS_FIELD_COUNT];
};
// clang-format off
enum { // IA32_VMX_BASIC and IA32_VMX_MISC, bits that checks ask for
    VMX_BASIC_ANY_ERROR_CODE = 56, VMX_BASIC_NESTED_EXCEPTION = 58,
    VMX_MISC_STORE_LMA = 5, VMX_MISC_ACTIVITY_SHIFT = 6, VMX_MISC_CR3_TARGETS_SHIFT = 16, VMX_MISC_MSR_LIST_SHIFT = 25,
    VMX_MISC_VMWRITE_ANY = 29, VMX_MISC_LENGTH_0 = 30,
};
enum { // IA32_VMX_EPT_VPID_CAP
    EPT_CAP_EXECUTE_ONLY = 0, EPT_CAP_WALK_4 = 6, EPT_CAP_WALK_5 = 7, EPT_CAP_UC = 8, EPT_CAP_WB = 14, EPT_CAP_2M = 16,
    EPT_CAP_1G = 17, EPT_CAP_INVEPT = 20, EPT_CAP_AD = 21, EPT_CAP_ADVANCED = 22, EPT_CAP_SHADOW_STACK = 23,
    EPT_CAP_INVEPT_SINGLE = 25, EPT_CAP_INVEPT_ALL = 26, EPT_CAP_INVVPID = 32, EPT_CAP_INVVPID_TYPES = 40,
    EPT_CAP_HLAT_PREFIX = 48,
};
// clang-format on

// `cr4_valid`: the bits of CR4 that this processor has.
void vmx_caps_init(struct vmx_caps *c, const struct cpu_features *features, u64 cr4_valid);
// The capabilities that these MSRs, 480H to 493H, report; `given`: it was read. NULL, or what is missing or
// cannot be.
const char *vmx_caps_of_msrs(struct vmx_caps *c, const u64 value[20], const bool given[20]);
bool vmx_caps_msr(const struct vmx_caps *c, u32 msr, u64 *value); // 480h-493h; false: absent
// the control may be set
static inline bool vmx_caps_control(const struct vmx_caps *c, enum vmx_control_id id)
{
    const struct vmx_control_row *r = &vmx_control_rows[id];
    return c->allowed1[r->group] >> r->bit & 1;
}

#endif

// The capability MSRs, computed: a control is reported if its row says that it is offered and the CPUID
// feature it goes with is on; a field exists if a control that gives it meaning may be set.
#include "vmx/caps.h"
#include "vmx/vmcs.h"

#include <string.h>

#define TIMER_RATE     5 // the preemption timer counts when bit 5 of the TSC changes
#define CR3_TARGETS    4
#define ACTIVITY_KINDS 7 // HLT, shutdown, wait-for-SIPI

// Reserved bits that must be 1 in either half.
#define CONTROL(group, bit, name, text, class, offered)
#define DEFAULT1(group, bit) {GROUP_##group, bit},
static const struct {
    u8 group, bit;
} reserved_ones[] = {
#include "vmx/controls.def"
};
#undef DEFAULT1
#undef CONTROL

static bool field_exists(const struct vmx_caps *c, enum vmcs_field field)
{
    const struct vmcs_field_row *r = &vmcs_field_rows[field];
    if (r->if1 == FIELD_ALWAYS) return true;
    if (r->if1 == FIELD_NEVER) return false;
    return vmx_caps_control(c, (enum vmx_control_id)r->if1) ||
           (r->if2 >= 0 && vmx_caps_control(c, (enum vmx_control_id)r->if2));
}

static bool offered(const struct vmx_caps *c, const struct cpu_features *features, unsigned how)
{
    if (how >= CONTROL_WITH_GROUP) return c->allowed1[how - CONTROL_WITH_GROUP];
    return how == 1 || (how > 1 && feature_on(features, (enum feature)(how - 2)));
}

static void offer_controls(struct vmx_caps *c, const struct cpu_features *features, bool activating)
{
    for (unsigned i = 0; i < CONTROL_COUNT; i++) {
        const struct vmx_control_row *r = &vmx_control_rows[i];
        if ((r->offered >= CONTROL_WITH_GROUP) != activating || !offered(c, features, r->offered)) continue;
        c->allowed1[r->group] |= BIT(r->bit);
        if (r->class == CONTROL_DEFAULT1) c->allowed0[r->group] |= 1u << r->bit;
    }
}

static void fields_follow(struct vmx_caps *c)
{
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        u64 index = vmcs_field_rows[i].encoding & 0x3FE;
        c->exists[i] = field_exists(c, (enum vmcs_field)i);
        if (c->exists[i] && index > c->vmcs_enum) c->vmcs_enum = index;
    }
}

void vmx_caps_init(struct vmx_caps *c, const struct cpu_features *features, u64 cr4_valid)
{
    memset(c, 0, sizeof *c);
    for (unsigned i = 0; i < ARRAY_LEN(reserved_ones); i++) {
        u32 bit = 1u << reserved_ones[i].bit;
        c->allowed0[reserved_ones[i].group] |= bit;
        c->true_allowed0[reserved_ones[i].group] |= bit;
        c->allowed1[reserved_ones[i].group] |= bit;
    }
    offer_controls(c, features, false);
    offer_controls(c, features, true); // what activates a group that has something now

    c->basic = VMCS_REVISION | PAGE_SIZE << 32 | 6ull << 50 /* write-back */ |
               BIT(54) /* INS/OUTS information */ | BIT(55) /* TRUE MSRs */;
    c->misc = TIMER_RATE | BIT(VMX_MISC_STORE_LMA) | ACTIVITY_KINDS << VMX_MISC_ACTIVITY_SHIFT |
              CR3_TARGETS << VMX_MISC_CR3_TARGETS_SHIFT | BIT(VMX_MISC_VMWRITE_ANY) | BIT(VMX_MISC_LENGTH_0);
    c->cr0_fixed0 = CR0_PE | CR0_NE | CR0_PG;
    c->cr0_fixed1 = 0xFFFFFFFF;
    c->cr4_fixed0 = CR4_VMXE;
    c->cr4_fixed1 = cr4_valid;
    if (vmx_caps_control(c, CONTROL_PROC2_ENABLE_EPT))
        c->ept_vpid |= BIT(EPT_CAP_EXECUTE_ONLY) | BIT(EPT_CAP_WALK_4) | BIT(EPT_CAP_UC) | BIT(EPT_CAP_WB) |
                       BIT(EPT_CAP_2M) | BIT(EPT_CAP_1G) | BIT(EPT_CAP_INVEPT) | BIT(EPT_CAP_AD) |
                       BIT(EPT_CAP_INVEPT_SINGLE) | BIT(EPT_CAP_INVEPT_ALL) | BIT(EPT_CAP_WALK_5) |
                       BIT(EPT_CAP_ADVANCED) | BIT(EPT_CAP_HLAT_PREFIX) /* the largest: 1 */;
    if (vmx_caps_control(c, CONTROL_PROC2_ENABLE_VPID))
        c->ept_vpid |= BIT(EPT_CAP_INVVPID) | 15ull << EPT_CAP_INVVPID_TYPES;

    fields_follow(c);
}

static u64 pair(const struct vmx_caps *c, unsigned group, bool true_msr)
{
    return (true_msr ? c->true_allowed0[group] : c->allowed0[group]) | c->allowed1[group] << 32;
}

bool vmx_caps_msr(const struct vmx_caps *c, u32 msr, u64 *value)
{
    switch (msr) {
    case 0x480: *value = c->basic; return true;
    case 0x481: *value = pair(c, GROUP_PIN, false); return true;
    case 0x482: *value = pair(c, GROUP_PROC, false); return true;
    case 0x483: *value = pair(c, GROUP_EXIT, false); return true;
    case 0x484: *value = pair(c, GROUP_ENTRY, false); return true;
    case 0x485: *value = c->misc; return true;
    case 0x486: *value = c->cr0_fixed0; return true;
    case 0x487: *value = c->cr0_fixed1; return true;
    case 0x488: *value = c->cr4_fixed0; return true;
    case 0x489: *value = c->cr4_fixed1; return true;
    case 0x48A: *value = c->vmcs_enum; return true;
    case 0x48B:
        *value = pair(c, GROUP_PROC2, false);
        return vmx_caps_control(c, CONTROL_PROC_ACTIVATE_SECONDARY_CONTROLS);
    case 0x48C:
        *value = c->ept_vpid;
        return vmx_caps_control(c, CONTROL_PROC2_ENABLE_EPT) ||
               vmx_caps_control(c, CONTROL_PROC2_ENABLE_VPID);
    case 0x48D: *value = pair(c, GROUP_PIN, true); return true;
    case 0x48E: *value = pair(c, GROUP_PROC, true); return true;
    case 0x48F: *value = pair(c, GROUP_EXIT, true); return true;
    case 0x490: *value = pair(c, GROUP_ENTRY, true); return true;
    case 0x491:
        *value = c->allowed1[GROUP_VMFUNC];
        return vmx_caps_control(c, CONTROL_PROC2_ENABLE_VM_FUNCTIONS);
    case 0x492:
        *value = c->allowed1[GROUP_PROC3];
        return vmx_caps_control(c, CONTROL_PROC_ACTIVATE_TERTIARY_CONTROLS);
    case 0x493:
        *value = c->allowed1[GROUP_EXIT2];
        return vmx_caps_control(c, CONTROL_EXIT_ACTIVATE_SECONDARY_CONTROLS);
    default: return false;
    }
}

const char *vmx_caps_of_msrs(struct vmx_caps *c, const u64 value[20], const bool given[20])
{
    enum {
        BASIC,
        MISC = 5,
        CR0_FIXED0,
        CR0_FIXED1,
        CR4_FIXED0,
        CR4_FIXED1,
        CTLS2 = 11,
        EPT_VPID,
        VMFUNC = 17,
        CTLS3,
        EXIT2
    };
    // clang-format off
    static const struct { u8 group, plain, exact; const char *missing; } pairs[] = {
        {GROUP_PIN, 1, 13, "IA32_VMX_PINBASED_CTLS (481H) or its TRUE form (48DH) is missing"},
        {GROUP_PROC, 2, 14, "IA32_VMX_PROCBASED_CTLS (482H) or its TRUE form (48EH) is missing"},
        {GROUP_EXIT, 3, 15, "IA32_VMX_EXIT_CTLS (483H) or its TRUE form (48FH) is missing"},
        {GROUP_ENTRY, 4, 16, "IA32_VMX_ENTRY_CTLS (484H) or its TRUE form (490H) is missing"},
    };
    static const struct { u8 msr; const char *missing; } single[] = {
        {BASIC, "IA32_VMX_BASIC (480H) is missing"}, {MISC, "IA32_VMX_MISC (485H) is missing"},
        {CR0_FIXED0, "IA32_VMX_CR0_FIXED0 (486H) is missing"}, {CR0_FIXED1, "IA32_VMX_CR0_FIXED1 (487H) is missing"},
        {CR4_FIXED0, "IA32_VMX_CR4_FIXED0 (488H) is missing"}, {CR4_FIXED1, "IA32_VMX_CR4_FIXED1 (489H) is missing"},
    };
    // clang-format on
    memset(c, 0, sizeof *c);
    for (unsigned i = 0; i < ARRAY_LEN(single); i++)
        if (!given[single[i].msr]) return single[i].missing;
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        // The TRUE MSRs exist if bit 55 of IA32_VMX_BASIC says so, and count then.
        unsigned exact = value[BASIC] >> 55 & 1 && given[pairs[i].exact] ? pairs[i].exact : pairs[i].plain;
        unsigned plain = given[pairs[i].plain] ? pairs[i].plain : exact;
        if (!given[exact]) return pairs[i].missing;
        c->allowed0[pairs[i].group] = (u32)value[plain];
        c->true_allowed0[pairs[i].group] = (u32)value[exact];
        c->allowed1[pairs[i].group] = value[exact] >> 32;
    }
    c->basic = value[BASIC], c->misc = value[MISC];
    c->cr0_fixed0 = value[CR0_FIXED0], c->cr0_fixed1 = value[CR0_FIXED1];
    c->cr4_fixed0 = value[CR4_FIXED0], c->cr4_fixed1 = value[CR4_FIXED1];
    if (vmx_caps_control(c, CONTROL_PROC_ACTIVATE_SECONDARY_CONTROLS)) {
        if (!given[CTLS2]) return "IA32_VMX_PROCBASED_CTLS2 (48BH) is missing";
        c->allowed1[GROUP_PROC2] = value[CTLS2] >> 32;
    }
    if (vmx_caps_control(c, CONTROL_PROC2_ENABLE_EPT) || vmx_caps_control(c, CONTROL_PROC2_ENABLE_VPID)) {
        if (!given[EPT_VPID]) return "IA32_VMX_EPT_VPID_CAP (48CH) is missing";
        c->ept_vpid = value[EPT_VPID];
    }
    if (vmx_caps_control(c, CONTROL_PROC2_ENABLE_VM_FUNCTIONS) && given[VMFUNC])
        c->allowed1[GROUP_VMFUNC] = value[VMFUNC];
    if (vmx_caps_control(c, CONTROL_PROC_ACTIVATE_TERTIARY_CONTROLS) && given[CTLS3])
        c->allowed1[GROUP_PROC3] = value[CTLS3];
    if (vmx_caps_control(c, CONTROL_EXIT_ACTIVATE_SECONDARY_CONTROLS) && given[EXIT2])
        c->allowed1[GROUP_EXIT2] = value[EXIT2];
    fields_follow(c);
    return NULL;
}

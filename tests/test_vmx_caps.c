// The capability MSRs: against the values that the manual's rules give by hand, for consistency among
// themselves, and with what Debian's KVM and Xen ask of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vmx/caps.h"
#include "vmx/vmcs.h"

static struct vmx_caps caps;

static u64 msr(u32 n)
{
    u64 x = 0;
    assert_true(vmx_caps_msr(&caps, n, &x));
    return x;
}

static int setup(void **state)
{
    (void)state;
    struct cpu_features f;
    memset(&f, 0, sizeof f);
    f.bits[0] = f.bits[1] = UINT64_MAX;
    f.maxphyaddr = 40;
    vmx_caps_init(&caps, &f, 0x3727FF);
    return 0;
}

// Worked out from SDM appendix A and the list of what is offered.
static void values(void **state)
{
    (void)state;
    assert_int_equal(msr(0x480) >> 32, 0x00D81000);
    assert_int_equal(msr(0x480) & 0x80000000, 0);
    assert_int_equal((u32)msr(0x480), VMCS_REVISION);
    assert_int_equal(msr(0x481), 0x000000FF00000016);
    assert_int_equal(msr(0x482), 0xFFFBFFFE0401E172);
    assert_int_equal(msr(0x483), 0xA07FEFFF00036DFF);
    assert_int_equal(msr(0x484), 0x0140DFFF000011FF);
    assert_int_equal(msr(0x485), 0x600401E5);
    assert_int_equal(msr(0x486), 0x80000021);
    assert_int_equal(msr(0x487), 0xFFFFFFFF);
    assert_int_equal(msr(0x488), 0x2000);
    assert_int_equal(msr(0x489), 0x3727FF);
    assert_int_equal(msr(0x48A), 0x4E); // the guest-deadline shadow's 204EH
    assert_int_equal(msr(0x48B), 0xC6D77FFF00000000);
    assert_int_equal(msr(0x48C), 0x00010F01067341C1);
    assert_int_equal(msr(0x48D), 0x000000FF00000016);
    assert_int_equal(msr(0x48E), 0xFFFBFFFE04006172);
    assert_int_equal(msr(0x48F), 0xA07FEFFF00036DFB);
    assert_int_equal(msr(0x490), 0x0140DFFF000011FB);
    assert_int_equal(msr(0x491), 1);
    assert_int_equal(msr(0x492), 0x1DE);
    assert_int_equal(msr(0x493), 4);
    u64 x;
    assert_false(vmx_caps_msr(&caps, 0x47F, &x));
    assert_false(vmx_caps_msr(&caps, 0x494, &x));
}

// The manual's tables of controls (SDM 27.6.1, 27.6.2, 27.6.14, 27.7.1, 27.8.1): every bit with its name,
// offered here or not.
static void bits_and_names(void **state)
{
    (void)state;
    // clang-format off
    static const struct { u8 group, bit; const char *name; } manual[] = {
        {GROUP_PIN, 0, "external-interrupt exiting"}, {GROUP_PIN, 3, "NMI exiting"}, {GROUP_PIN, 5, "virtual NMIs"},
        {GROUP_PIN, 6, "activate VMX-preemption timer"}, {GROUP_PIN, 7, "process posted interrupts"},
        {GROUP_PROC, 2, "interrupt-window exiting"}, {GROUP_PROC, 3, "use TSC offsetting"},
        {GROUP_PROC, 7, "HLT exiting"}, {GROUP_PROC, 9, "INVLPG exiting"}, {GROUP_PROC, 10, "MWAIT exiting"},
        {GROUP_PROC, 11, "RDPMC exiting"}, {GROUP_PROC, 12, "RDTSC exiting"}, {GROUP_PROC, 15, "CR3-load exiting"},
        {GROUP_PROC, 16, "CR3-store exiting"}, {GROUP_PROC, 17, "activate tertiary controls"},
        {GROUP_PROC, 19, "CR8-load exiting"}, {GROUP_PROC, 20, "CR8-store exiting"},
        {GROUP_PROC, 21, "use TPR shadow"}, {GROUP_PROC, 22, "NMI-window exiting"},
        {GROUP_PROC, 23, "MOV-DR exiting"}, {GROUP_PROC, 24, "unconditional I/O exiting"},
        {GROUP_PROC, 25, "use I/O bitmaps"}, {GROUP_PROC, 27, "monitor trap flag"},
        {GROUP_PROC, 28, "use MSR bitmaps"}, {GROUP_PROC, 29, "MONITOR exiting"}, {GROUP_PROC, 30, "PAUSE exiting"},
        {GROUP_PROC, 31, "activate secondary controls"},
        {GROUP_PROC2, 0, "virtualize APIC accesses"}, {GROUP_PROC2, 1, "enable EPT"},
        {GROUP_PROC2, 2, "descriptor-table exiting"}, {GROUP_PROC2, 3, "enable RDTSCP"},
        {GROUP_PROC2, 4, "virtualize x2APIC mode"}, {GROUP_PROC2, 5, "enable VPID"},
        {GROUP_PROC2, 6, "WBINVD exiting"}, {GROUP_PROC2, 7, "unrestricted guest"},
        {GROUP_PROC2, 8, "APIC-register virtualization"}, {GROUP_PROC2, 9, "virtual-interrupt delivery"},
        {GROUP_PROC2, 10, "PAUSE-loop exiting"}, {GROUP_PROC2, 11, "RDRAND exiting"},
        {GROUP_PROC2, 12, "enable INVPCID"}, {GROUP_PROC2, 13, "enable VM functions"},
        {GROUP_PROC2, 14, "VMCS shadowing"}, {GROUP_PROC2, 15, "enable ENCLS exiting"},
        {GROUP_PROC2, 16, "RDSEED exiting"}, {GROUP_PROC2, 17, "enable PML"}, {GROUP_PROC2, 18, "EPT-violation #VE"},
        {GROUP_PROC2, 19, "conceal VMX from PT"}, {GROUP_PROC2, 20, "enable XSAVES/XRSTORS"},
        {GROUP_PROC2, 21, "PASID translation"}, {GROUP_PROC2, 22, "mode-based execute control for EPT"},
        {GROUP_PROC2, 23, "sub-page write permissions for EPT"},
        {GROUP_PROC2, 24, "Intel PT uses guest physical addresses"}, {GROUP_PROC2, 25, "use TSC scaling"},
        {GROUP_PROC2, 26, "enable user wait and pause"}, {GROUP_PROC2, 27, "enable PCONFIG"},
        {GROUP_PROC2, 28, "enable ENCLV exiting"}, {GROUP_PROC2, 30, "VMM bus-lock detection"},
        {GROUP_PROC2, 31, "instruction timeout"},
        {GROUP_PROC3, 0, "LOADIWKEY exiting"}, {GROUP_PROC3, 1, "enable HLAT"},
        {GROUP_PROC3, 2, "EPT paging-write control"}, {GROUP_PROC3, 3, "guest-paging verification"},
        {GROUP_PROC3, 4, "IPI virtualization"}, {GROUP_PROC3, 5, "SEAM guest-physical address width"},
        {GROUP_PROC3, 6, "enable MSR-list instructions"}, {GROUP_PROC3, 7, "virtualize IA32_SPEC_CTRL"},
        {GROUP_PROC3, 8, "APIC-timer virtualization"}, {GROUP_PROC3, 9, "enable PBNDKB"},
        {GROUP_PROC3, 12, "PEBS uses guest physical addresses"},
        {GROUP_EXIT, 2, "save debug controls"}, {GROUP_EXIT, 9, "host address-space size"},
        {GROUP_EXIT, 12, "load IA32_PERF_GLOBAL_CTRL"}, {GROUP_EXIT, 15, "acknowledge interrupt on exit"},
        {GROUP_EXIT, 18, "save IA32_PAT"}, {GROUP_EXIT, 19, "load IA32_PAT"}, {GROUP_EXIT, 20, "save IA32_EFER"},
        {GROUP_EXIT, 21, "load IA32_EFER"}, {GROUP_EXIT, 22, "save VMX-preemption timer value"},
        {GROUP_EXIT, 23, "clear IA32_BNDCFGS"}, {GROUP_EXIT, 24, "conceal VMX from PT"},
        {GROUP_EXIT, 25, "clear IA32_RTIT_CTL"}, {GROUP_EXIT, 26, "clear IA32_LBR_CTL"},
        {GROUP_EXIT, 27, "clear UINV"}, {GROUP_EXIT, 28, "load CET state"}, {GROUP_EXIT, 29, "load PKRS"},
        {GROUP_EXIT, 30, "save IA32_PERF_GLOBAL_CTRL"}, {GROUP_EXIT, 31, "activate secondary controls"},
        {GROUP_EXIT2, 0, "save FRED"}, {GROUP_EXIT2, 1, "load FRED"}, {GROUP_EXIT2, 2, "load IA32_SPEC_CTRL"},
        {GROUP_EXIT2, 3, "prematurely busy shadow stack"},
        {GROUP_ENTRY, 2, "load debug controls"}, {GROUP_ENTRY, 9, "IA-32e mode guest"},
        {GROUP_ENTRY, 10, "entry to SMM"}, {GROUP_ENTRY, 11, "deactivate dual-monitor treatment"},
        {GROUP_ENTRY, 13, "load IA32_PERF_GLOBAL_CTRL"}, {GROUP_ENTRY, 14, "load IA32_PAT"},
        {GROUP_ENTRY, 15, "load IA32_EFER"}, {GROUP_ENTRY, 16, "load IA32_BNDCFGS"},
        {GROUP_ENTRY, 17, "conceal VMX from PT"}, {GROUP_ENTRY, 18, "load IA32_RTIT_CTL"},
        {GROUP_ENTRY, 19, "load UINV"}, {GROUP_ENTRY, 20, "load CET state"},
        {GROUP_ENTRY, 21, "load guest IA32_LBR_CTL"}, {GROUP_ENTRY, 22, "load PKRS"}, {GROUP_ENTRY, 23, "load FRED"},
        {GROUP_ENTRY, 24, "load IA32_SPEC_CTRL"}, {GROUP_ENTRY, 25, "allow SEAM-guest telemetry"},
        {GROUP_VMFUNC, 0, "EPTP switching"},
    };
    // clang-format on
    assert_int_equal(ARRAY_LEN(manual), CONTROL_COUNT);
    for (unsigned i = 0; i < CONTROL_COUNT; i++) {
        const struct vmx_control_row *r = &vmx_control_rows[i];
        assert_int_equal(r->group, manual[i].group);
        assert_int_equal(r->bit, manual[i].bit);
        assert_string_equal(r->text, manual[i].name);
    }
}

static void consistent(void **state)
{
    (void)state;
    static const u32 pairs[][2] = {{0x481, 0x48D}, {0x482, 0x48E}, {0x483, 0x48F}, {0x484, 0x490}};
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        u64 old = msr(pairs[i][0]), new = msr(pairs[i][1]);
        assert_int_equal((u32)old & ~(old >> 32), 0); // must-be-1 is a part of may-be-1
        assert_int_equal((u32) new & ~(u32)old, 0);   // the TRUE MSR only frees
        assert_int_equal(old >> 32, new >> 32);
    }
    assert_int_equal((u32)msr(0x48B), 0);
}

// A feature that is off takes its controls and fields with it.
static void follows_features(void **state)
{
    (void)state;
    struct cpu_features f;
    struct vmx_caps c;
    memset(&f, 0, sizeof f);
    f.bits[0] = f.bits[1] = UINT64_MAX;
    f.maxphyaddr = 36;
    f.bits[FEATURE_XSAVES / 64] &= ~BIT(FEATURE_XSAVES % 64);
    f.bits[FEATURE_INVPCID / 64] &= ~BIT(FEATURE_INVPCID % 64);
    f.bits[FEATURE_RDTSCP / 64] &= ~BIT(FEATURE_RDTSCP % 64);
    vmx_caps_init(&c, &f, 0x3727FF);
    assert_int_equal((caps.allowed1[GROUP_PROC2] ^ c.allowed1[GROUP_PROC2]), BIT(20) | BIT(12) | BIT(3));
    assert_true(caps.exists[VMCS_XSS_EXITING_BITMAP]);
    assert_false(c.exists[VMCS_XSS_EXITING_BITMAP]);
    assert_true(c.exists[VMCS_EPTP] && c.exists[VMCS_GUEST_PHYSICAL_ADDRESS] && c.exists[VMCS_TPR_THRESHOLD]);
    assert_true(c.exists[VMCS_APIC_ACCESS_ADDRESS] && c.exists[VMCS_GUEST_INTERRUPT_STATUS] &&
                c.exists[VMCS_EOI_EXIT3] && c.exists[VMCS_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS]);
    assert_true(c.exists[VMCS_PML_ADDRESS] && c.exists[VMCS_SPPTP] && c.exists[VMCS_HLATP]);
    assert_false(c.exists[VMCS_GUEST_SSP]);
}

// What activates a group of controls is offered as long as one of them is, and its MSR exists as long
// (SDM A.3.4, A.4.2).
static void activation_follows_the_group(void **state)
{
    (void)state;
    struct cpu_features f;
    struct vmx_caps c;
    u64 x;
    memset(&f, 0, sizeof f);
    f.maxphyaddr = 36;
    vmx_caps_init(&c, &f, 0x3727FF);
    assert_false(c.allowed1[GROUP_EXIT2] || c.allowed1[GROUP_EXIT] >> 31 & 1);
    assert_int_equal(c.allowed1[GROUP_PROC] >> 17 & 1, c.allowed1[GROUP_PROC3] != 0);
    assert_int_equal(vmx_caps_msr(&c, 0x492, &x), c.allowed1[GROUP_PROC3] != 0);
    assert_int_equal(c.exists[VMCS_TERTIARY_PROC_BASED_CONTROLS], c.allowed1[GROUP_PROC3] != 0);
    assert_false(vmx_caps_msr(&c, 0x493, &x) || c.exists[VMCS_SECONDARY_VM_EXIT_CONTROLS]);
    assert_false(c.allowed1[GROUP_PROC3] >> 7 & 1);
    assert_true(c.allowed1[GROUP_PROC] >> 31 && vmx_caps_msr(&c, 0x48B, &x));
    f.bits[FEATURE_SPEC_CTRL / 64] |= BIT(FEATURE_SPEC_CTRL % 64);
    vmx_caps_init(&c, &f, 0x3727FF);
    assert_true(c.allowed1[GROUP_EXIT2] == 4 && c.allowed1[GROUP_EXIT] >> 31 & 1);
    assert_true(c.allowed1[GROUP_PROC3] >> 7 & 1 && c.allowed1[GROUP_PROC] >> 17 & 1);
    assert_true(vmx_caps_msr(&c, 0x492, &x) && c.exists[VMCS_TERTIARY_PROC_BASED_CONTROLS]);
    assert_true(vmx_caps_msr(&c, 0x493, &x) && c.exists[VMCS_SECONDARY_VM_EXIT_CONTROLS]);
}

// As a hypervisor adjusts its wishes: must-be-1 added, may-not-be-1 removed; what it needs has to survive.
static u32 adjust(u32 minimum, u32 optional, u32 n)
{
    u64 x = msr(n);
    u32 ctl = ((minimum | optional) & (u32)(x >> 32)) | (u32)x;
    assert_int_equal(minimum & ~ctl, 0);
    return ctl;
}

static void kvm_is_satisfied(void **state)
{
    (void)state;
    const u32 proc_min = PROC_HLT_EXITING | PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING |
                         PROC_CR3_LOAD_EXITING | PROC_CR3_STORE_EXITING | PROC_UNCONDITIONAL_IO_EXITING |
                         PROC_MOV_DR_EXITING | PROC_USE_TSC_OFFSETTING | PROC_MWAIT_EXITING |
                         PROC_MONITOR_EXITING | PROC_INVLPG_EXITING | PROC_RDPMC_EXITING |
                         PROC_INTERRUPT_WINDOW_EXITING;
    u32 proc = adjust(proc_min,
                      PROC_USE_TPR_SHADOW | PROC_USE_MSR_BITMAPS | PROC_ACTIVATE_SECONDARY_CONTROLS |
                          PROC_ACTIVATE_TERTIARY_CONTROLS,
                      0x482);
    u32 pin =
        adjust(PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING,
               PIN_VIRTUAL_NMIS | PIN_PROCESS_POSTED_INTERRUPTS | PIN_ACTIVATE_VMX_PREEMPTION_TIMER, 0x481);
    u32 proc2 = adjust(0, UINT32_MAX, 0x48B);
    u32 exit =
        adjust(EXIT_SAVE_DEBUG_CONTROLS | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT | EXIT_HOST_ADDRESS_SPACE_SIZE,
               EXIT_LOAD_IA32_PERF_GLOBAL_CTRL | EXIT_LOAD_IA32_PAT | EXIT_LOAD_IA32_EFER |
                   EXIT_CLEAR_IA32_BNDCFGS | EXIT_CLEAR_IA32_RTIT_CTL,
               0x483);
    u32 entry = adjust(ENTRY_LOAD_DEBUG_CONTROLS,
                       ENTRY_IA32E_MODE_GUEST | ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL | ENTRY_LOAD_IA32_PAT |
                           ENTRY_LOAD_IA32_EFER | ENTRY_LOAD_IA32_BNDCFGS | ENTRY_LOAD_IA32_RTIT_CTL,
                       0x484);
    assert_true(proc & PROC_USE_TPR_SHADOW && proc & PROC_USE_MSR_BITMAPS &&
                proc & PROC_ACTIVATE_SECONDARY_CONTROLS);
    assert_true(pin & PIN_VIRTUAL_NMIS && pin & PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    assert_true(proc2 & PROC2_ENABLE_EPT && proc2 & PROC2_UNRESTRICTED_GUEST && proc2 & PROC2_ENABLE_VPID);
    // It compares these pairs, and refuses to load when one half is missing.
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL), !(exit & EXIT_LOAD_IA32_PERF_GLOBAL_CTRL));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_PAT), !(exit & EXIT_LOAD_IA32_PAT));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_EFER), !(exit & EXIT_LOAD_IA32_EFER));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_BNDCFGS), !(exit & EXIT_CLEAR_IA32_BNDCFGS));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_RTIT_CTL), !(exit & EXIT_CLEAR_IA32_RTIT_CTL));
    // A VMCS of at most one page, write-back, 64-bit addresses; EPT with 4 levels, write-back, INVEPT,
    // INVVPID.
    assert_true((msr(0x480) >> 32 & 0x1FFF) <= 4096);
    assert_int_equal(msr(0x480) >> 48 & 1, 0);
    assert_int_equal(msr(0x480) >> 50 & 15, 6);
    assert_int_equal(msr(0x48C) & 0x06104040, 0x06104040);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(bits_and_names),
        cmocka_unit_test(consistent),
        cmocka_unit_test(follows_features),
        cmocka_unit_test(activation_follows_the_group),
        cmocka_unit_test(kvm_is_satisfied),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}

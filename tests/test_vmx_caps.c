// The capability MSRs: against the values that the manual's rules give by hand, for consistency among themselves, and with
// what Debian's KVM and Xen ask of them.
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
    assert_int_equal(msr(0x481), 0x0000007F00000016);
    assert_int_equal(msr(0x482), 0xFFF9FFFE0401E172);
    assert_int_equal(msr(0x483), 0x007FEFFF00036DFF);
    assert_int_equal(msr(0x484), 0x0000DFFF000011FF);
    assert_int_equal(msr(0x485), 0x600401E5);
    assert_int_equal(msr(0x486), 0x80000021);
    assert_int_equal(msr(0x487), 0xFFFFFFFF);
    assert_int_equal(msr(0x488), 0x2000);
    assert_int_equal(msr(0x489), 0x3727FF);
    assert_int_equal(msr(0x48A), 0x2E); // the preemption timer's 482EH
    assert_int_equal(msr(0x48B), 0x00113CEE00000000);
    assert_int_equal(msr(0x48C), 0x00000F0106334141);
    assert_int_equal(msr(0x48D), 0x0000007F00000016);
    assert_int_equal(msr(0x48E), 0xFFF9FFFE04006172);
    assert_int_equal(msr(0x48F), 0x007FEFFF00036DFB);
    assert_int_equal(msr(0x490), 0x0000DFFF000011FB);
    assert_int_equal(msr(0x491), 1);
    u64 x;
    assert_false(vmx_caps_msr(&caps, 0x492, &x));
    assert_false(vmx_caps_msr(&caps, 0x493, &x));
    assert_false(vmx_caps_msr(&caps, 0x47F, &x));
    assert_false(vmx_caps_msr(&caps, 0x494, &x));
}

static void consistent(void **state)
{
    (void)state;
    static const u32 pairs[][2] = {{0x481, 0x48D}, {0x482, 0x48E}, {0x483, 0x48F}, {0x484, 0x490}};
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        u64 old = msr(pairs[i][0]), new = msr(pairs[i][1]);
        assert_int_equal((u32)old & ~(old >> 32), 0); // must-be-1 is a part of may-be-1
        assert_int_equal((u32)new & ~(u32)old, 0);    // the TRUE MSR only frees
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
    assert_false(c.exists[VMCS_APIC_ACCESS_ADDRESS] || c.exists[VMCS_PML_ADDRESS] || c.exists[VMCS_GUEST_SSP]);
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
    const u32 proc_min = PROC_HLT_EXITING | PROC_CR8_LOAD_EXITING | PROC_CR8_STORE_EXITING | PROC_CR3_LOAD_EXITING |
                         PROC_CR3_STORE_EXITING | PROC_UNCONDITIONAL_IO_EXITING | PROC_MOV_DR_EXITING |
                         PROC_USE_TSC_OFFSETTING | PROC_MWAIT_EXITING | PROC_MONITOR_EXITING | PROC_INVLPG_EXITING |
                         PROC_RDPMC_EXITING | PROC_INTERRUPT_WINDOW_EXITING;
    u32 proc = adjust(proc_min, PROC_USE_TPR_SHADOW | PROC_USE_MSR_BITMAPS | PROC_ACTIVATE_SECONDARY_CONTROLS |
                                    PROC_ACTIVATE_TERTIARY_CONTROLS, 0x482);
    u32 pin = adjust(PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING,
                     PIN_VIRTUAL_NMIS | PIN_PROCESS_POSTED_INTERRUPTS | PIN_ACTIVATE_VMX_PREEMPTION_TIMER, 0x481);
    u32 proc2 = adjust(0, UINT32_MAX, 0x48B);
    u32 exit = adjust(EXIT_SAVE_DEBUG_CONTROLS | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT | EXIT_HOST_ADDRESS_SPACE_SIZE,
                      EXIT_LOAD_IA32_PERF_GLOBAL_CTRL | EXIT_LOAD_IA32_PAT | EXIT_LOAD_IA32_EFER |
                          EXIT_CLEAR_IA32_BNDCFGS | EXIT_CLEAR_IA32_RTIT_CTL, 0x483);
    u32 entry = adjust(ENTRY_LOAD_DEBUG_CONTROLS, ENTRY_IA32E_MODE_GUEST | ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL |
                           ENTRY_LOAD_IA32_PAT | ENTRY_LOAD_IA32_EFER | ENTRY_LOAD_IA32_BNDCFGS |
                           ENTRY_LOAD_IA32_RTIT_CTL, 0x484);
    assert_true(proc & PROC_USE_TPR_SHADOW && proc & PROC_USE_MSR_BITMAPS && proc & PROC_ACTIVATE_SECONDARY_CONTROLS);
    assert_true(pin & PIN_VIRTUAL_NMIS && pin & PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    assert_true(proc2 & PROC2_ENABLE_EPT && proc2 & PROC2_UNRESTRICTED_GUEST && proc2 & PROC2_ENABLE_VPID);
    // It compares these pairs, and refuses to load when one half is missing.
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL), !(exit & EXIT_LOAD_IA32_PERF_GLOBAL_CTRL));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_PAT), !(exit & EXIT_LOAD_IA32_PAT));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_EFER), !(exit & EXIT_LOAD_IA32_EFER));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_BNDCFGS), !(exit & EXIT_CLEAR_IA32_BNDCFGS));
    assert_int_equal(!(entry & ENTRY_LOAD_IA32_RTIT_CTL), !(exit & EXIT_CLEAR_IA32_RTIT_CTL));
    // A VMCS of at most one page, write-back, 64-bit addresses; EPT with 4 levels, write-back, INVEPT, INVVPID.
    assert_true((msr(0x480) >> 32 & 0x1FFF) <= 4096);
    assert_int_equal(msr(0x480) >> 48 & 1, 0);
    assert_int_equal(msr(0x480) >> 50 & 15, 6);
    assert_int_equal(msr(0x48C) & 0x06104040, 0x06104040);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(consistent),
        cmocka_unit_test(follows_features),
        cmocka_unit_test(kvm_is_satisfied),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}

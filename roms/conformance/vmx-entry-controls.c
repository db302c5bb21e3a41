/*
 * The checks of VM entry on the control fields (SDM 29.2.1), a row a rule. The names are the rules' ids in
 * this project. A state that violates several rules names the one it is about first.
 *
 * Where Bochs 2.7 differs from the SDM, the row follows the SDM. Bochs has no check for CTL-ENTRY-006 (it
 * reports guest state).
 *
 * Missing: SMM, FRED, what roms/conformance has images of its own for (APIC virtualization, EPT features,
 * VMCS shadowing).
 */
#include "vmx-entry.h"

/* Each control field, with a bit that must be 1 taken away (-001) or a bit that must be 0 added (-002). */
static void fixed_bits(void)
{
    static struct vmx_vcpu v;
    static const struct {
        const char *must, *may; /* ids */
        uint32_t field, msr;
    } fields[] = {{"CTL-PIN-001", "CTL-PIN-002", PIN_FIELD, IA32_VMX_PINBASED_CTLS},
                  {"CTL-PROC1-001", "CTL-PROC1-002", PROC_FIELD, IA32_VMX_PROCBASED_CTLS},
                  {NULL, "CTL-PROC2-001", PROC2_FIELD, IA32_VMX_PROCBASED_CTLS2},
                  {"CTL-EXIT-001", "CTL-EXIT-002", EXIT_FIELD, IA32_VMX_EXIT_CTLS},
                  {"CTL-ENTRY-001", "CTL-ENTRY-002", ENTRY_FIELD, IA32_VMX_ENTRY_CTLS}};
    bool secondary = vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_ACTIVATE_SECONDARY_CONTROLS);
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (fields[i].field == PROC2_FIELD && !secondary) {
            skip_one(fields[i].may, "no secondary controls");
            continue;
        }
        uint32_t must = vmx_adjust(fields[i].msr, 0), may = vmx_allowed(fields[i].msr, 0xffffffff);
        uint32_t tried[2] = {0}, wrong[2] = {0};
        for (uint32_t bit = 1; bit; bit <<= 1) {
            if (!(must & bit) && (may & bit)) continue;
            plain(&v);
            vmwrite(fields[i].field, vmread(fields[i].field) ^ bit);
            struct vmx_exit e = vmx_run(&v);
            tried[!(must & bit)]++;
            if (e.status != VMX_FAIL_VALID || e.error != VMX_ERROR_ENTRY_CONTROLS)
                wrong[!(must & bit)] |= bit;
        }
        for (unsigned kind = 0; kind < 2; kind++) {
            const char *id = kind ? fields[i].may : fields[i].must;
            if (!id) continue;
            if (!ok(!wrong[kind], "%s: each of the bits that must be %u is checked", id, 1 - kind))
                tap_note("  %u tried; these are not: %x", tried[kind], wrong[kind]);
        }
    }
}

/* The fields of 64 bits, whose capability MSR says what may be 1. */
static void long_controls(void)
{
    static struct vmx_vcpu v;
    static const struct {
        const char *id;
        entry_setup *setup;
        uint32_t field, msr;
    } fields[] = {{"CTL-PROC3-001", tertiary, PROC3_FIELD, IA32_VMX_PROCBASED_CTLS3},
                  {"CTL-EXIT-003", secondary_exit, EXIT2_FIELD, IA32_VMX_EXIT_CTLS2}};
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!fields[i].setup(&v)) {
            skip_one(fields[i].id, "not offered by this processor");
            continue;
        }
        uint64_t may = rdmsr(fields[i].msr);
        unsigned bit = 0, tried = 0;
        for (; bit < 64; bit++) {
            if (may >> bit & 1) continue;
            fields[i].setup(&v);
            vmwrite(fields[i].field, 1ul << bit);
            tried++;
            struct vmx_exit e = vmx_run(&v);
            if (e.status != VMX_FAIL_VALID || e.error != VMX_ERROR_ENTRY_CONTROLS) break;
        }
        is(bit, 64, "%s: each of the %u bits that must be 0 is checked", fields[i].id, tried);
    }
}

/* Areas of two entries whose second one begins where physical addresses end (CTL-EXIT-007, -010,
 * CTL-ENTRY-005, CTL-IPIV-003). */
static void ends_of_areas(void)
{
    static struct vmx_vcpu v;
    static const struct {
        const char *id;
        uint32_t address, count;
    } areas[] = {{"CTL-EXIT-007", VM_EXIT_MSR_STORE_ADDRESS, VM_EXIT_MSR_STORE_COUNT},
                 {"CTL-EXIT-010", VM_EXIT_MSR_LOAD_ADDRESS, VM_EXIT_MSR_LOAD_COUNT},
                 {"CTL-ENTRY-005", VM_ENTRY_MSR_LOAD_ADDRESS, VM_ENTRY_MSR_LOAD_COUNT}};
    for (unsigned i = 0; i < 3; i++) {
        plain(&v);
        vmwrite(areas[i].address, (1ul << maxphyaddr()) - 16);
        vmwrite(areas[i].count, 2);
        entry_fails(&v, VMX_ERROR_ENTRY_CONTROLS, areas[i].id);
        vmwrite(areas[i].count, 0);
        done(&v, "  with a count of 0: passes");
    }
    if (!ipi_virtualization(&v)) {
        skip(2, "CTL-IPIV-003: no IPI virtualization");
        return;
    }
    vmwrite(PID_POINTER_TABLE_ADDRESS, (1ul << maxphyaddr()) - 8);
    vmwrite(LAST_PID_POINTER_INDEX, 1);
    entry_fails(&v, VMX_ERROR_ENTRY_CONTROLS, "CTL-IPIV-003");
    vmwrite(LAST_PID_POINTER_INDEX, 0);
    done(&v, "  CTL-IPIV-003 holds: the last address there is");
}

// clang-format off
static const struct row rows[] = {
    /* What passes: each set-up unbroken. */
    {"a VMCS with plain passes", plain, PASS, {}},
    {"a VMCS with io bitmaps passes", io_bitmaps, PASS, {}},
    {"a VMCS with msr bitmaps passes", msr_bitmaps, PASS, {}},
    {"a VMCS with tpr shadow passes", tpr_shadow, PASS, {}},
    {"a VMCS with x2apic mode passes", x2apic_mode, PASS, {}},
    {"a VMCS with apic accesses passes", apic_accesses, PASS, {}},
    {"a VMCS with apic registers passes", apic_registers, PASS, {}},
    {"a VMCS with virtual interrupts passes", virtual_interrupts, PASS, {}},
    {"a VMCS with posted interrupts passes", posted_interrupts, PASS, {}},
    {"a VMCS with ipi virtualization passes", ipi_virtualization, PASS, {}},
    {"a VMCS with virtual nmis passes", virtual_nmis, PASS, {}},
    {"a VMCS with timer passes", timer, PASS, {}},
    {"a VMCS with vpid passes", vpid, PASS, {}},
    {"a VMCS with ept passes", ept, PASS, {}},
    {"a VMCS with pml passes", pml, PASS, {}},
    {"a VMCS with #VE passes", virtualization_exceptions, PASS, {}},
    {"a VMCS with #VE and without EPT passes", virtualization_exceptions, PASS, {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"a VMCS with mode-based execute control passes", mbec, PASS, {}},
    {"a VMCS with sub-page permissions passes", subpages, PASS, {}},
    {"a VMCS with HLAT passes", hlat, PASS, {}},
    {"CTL-HLAT-002 holds: bits 4:3 of the HLATP", hlat, PASS, {{OR, HLATP, 0x18}}},
    {"a VMCS with EPT paging-write control passes", paging_write, PASS, {}},
    {"a VMCS with guest-paging verification passes", paging_verification, PASS, {}},
    {"a VMCS with five levels of EPT passes", ept5, PASS, {}},
    {"a VMCS with tsc scaling passes", tsc_scaling, PASS, {}},
    {"a VMCS with vm functions passes", vm_functions, PASS, {}},
    {"a VMCS with shadowing passes", shadowing, PASS, {}},
    {"a VMCS with unrestricted passes", unrestricted, PASS, {}},
    {"a VMCS with msr load passes", msr_load, PASS, {}},
    {"a VMCS with with length passes", with_length, PASS, {}},
    {"a VMCS with tertiary passes", tertiary, PASS, {}},
    {"a VMCS with secondary exit passes", secondary_exit, PASS, {}},
    /* VM-execution controls (SDM 29.2.1.1). */
    {"CTL-PROC3-001 holds: tertiary controls do not count when not activated", tertiary, PASS, {{CLEAR, PROC_FIELD, PROC_ACTIVATE_TERTIARY_CONTROLS}, {SET, PROC3_FIELD, ~0ul}}},
    {"CTL-EXIT-003 holds: secondary exit controls do not count when not activated", secondary_exit, PASS, {{CLEAR, EXIT_FIELD, EXIT_ACTIVATE_SECONDARY_CONTROLS}, {SET, EXIT2_FIELD, ~0ul}}},
    {"CTL-CR3T-001", plain, FAIL(7), {{SET, CR3_TARGET_COUNT, 257}}},
    {"CTL-IOA-001", io_bitmaps, FAIL(7), {{OR, ADDRESS_OF_IO_BITMAP_A, 0x800}}},
    {"CTL-IOA-002", io_bitmaps, FAIL(7), {{BEYOND, ADDRESS_OF_IO_BITMAP_A, 0}}},
    {"CTL-IOB-001", io_bitmaps, FAIL(7), {{OR, ADDRESS_OF_IO_BITMAP_B, 0x800}}},
    {"CTL-IOB-002", io_bitmaps, FAIL(7), {{BEYOND, ADDRESS_OF_IO_BITMAP_B, 0}}},
    {"CTL-MSRBM-001", msr_bitmaps, FAIL(7), {{OR, ADDRESS_OF_MSR_BITMAPS, 0x800}}},
    {"CTL-MSRBM-002", msr_bitmaps, FAIL(7), {{BEYOND, ADDRESS_OF_MSR_BITMAPS, 0}}},
    {"CTL-VAPIC-001", tpr_shadow, FAIL(7), {{OR, VIRTUAL_APIC_ADDRESS, 0x800}}},
    {"CTL-VAPIC-002", tpr_shadow, FAIL(7), {{BEYOND, VIRTUAL_APIC_ADDRESS, 0}}},
    {"CTL-APICACC-001", apic_accesses, FAIL(7), {{OR, APIC_ACCESS_ADDRESS, 0x800}}},
    {"CTL-APICACC-002", apic_accesses, FAIL(7), {{BEYOND, APIC_ACCESS_ADDRESS, 0}}},
    {"CTL-PML-001", pml, FAIL(7), {{OR, PML_ADDRESS, 0x800}}},
    {"CTL-PML-002", pml, FAIL(7), {{BEYOND, PML_ADDRESS, 0}}},
    {"CTL-VE-001", virtualization_exceptions, FAIL(7), {{OR, VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, 0x800}}},
    {"CTL-VE-002", virtualization_exceptions, FAIL(7), {{BEYOND, VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, 0}}},
    {"CTL-SPP-001", subpages, FAIL(7), {{OR, SPPTP, 0x800}}},
    {"CTL-SPP-002", subpages, FAIL(7), {{BEYOND, SPPTP, 0}}},
    {"CTL-HLAT-001", hlat, FAIL(7), {{OR, HLATP, 4}}},
    {"CTL-HLAT-002: bit 5", hlat, FAIL(7), {{OR, HLATP, 0x20}}},
    {"CTL-HLAT-002: bit 11", hlat, FAIL(7), {{OR, HLATP, 0x800}}},
    {"CTL-HLAT-003", hlat, FAIL(7), {{BEYOND, HLATP, 0}}},
    {"CTL-EPTPL-001", vm_functions, FAIL(7), {{OR, EPTP_LIST_ADDRESS, 0x800}}},
    {"CTL-EPTPL-002", vm_functions, FAIL(7), {{BEYOND, EPTP_LIST_ADDRESS, 0}}},
    {"CTL-VMRD-001", shadowing, FAIL(7), {{OR, VMREAD_BITMAP_ADDRESS, 0x800}}},
    {"CTL-VMRD-002", shadowing, FAIL(7), {{BEYOND, VMREAD_BITMAP_ADDRESS, 0}}},
    {"CTL-VMWR-001", shadowing, FAIL(7), {{OR, VMWRITE_BITMAP_ADDRESS, 0x800}}},
    {"CTL-VMWR-002", shadowing, FAIL(7), {{BEYOND, VMWRITE_BITMAP_ADDRESS, 0}}},
    {"CTL-TPR-001", tpr_shadow, FAIL(7), {{SET, TPR_THRESHOLD, 0x10}}},
    {"CTL-TPR-002", tpr_shadow, FAIL(7), {{SET, TPR_THRESHOLD, 1}}},
    {"CTL-APIC-001", x2apic_mode, FAIL(7), {{CLEAR, PROC_FIELD, PROC_USE_TPR_SHADOW}}},
    {"CTL-TPR-001 holds: not with virtual-interrupt delivery", virtual_interrupts, PASS, {{SET, TPR_THRESHOLD, 0xffffffff}}},
    {"CTL-APIC-002", apic_registers, FAIL(7), {{CLEAR, PROC_FIELD, PROC_USE_TPR_SHADOW}}},
    {"CTL-APIC-003", virtual_interrupts, FAIL(7), {{CLEAR, PROC_FIELD, PROC_USE_TPR_SHADOW}}},
    {"CTL-VID-001", virtual_interrupts, FAIL(7), {{CLEAR, PIN_FIELD, PIN_EXTERNAL_INTERRUPT_EXITING}}},
    {"CTL-PI-001", posted_interrupts, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_VIRTUAL_INTERRUPT_DELIVERY}}},
    {"CTL-PI-002", posted_interrupts, FAIL(7), {{CLEAR, EXIT_FIELD, EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT}}},
    {"CTL-PI-003", posted_interrupts, FAIL(7), {{SET, POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0x1f2}}},
    {"CTL-PI-004", posted_interrupts, FAIL(7), {{OR, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0x20}}},
    {"CTL-PI-005", posted_interrupts, FAIL(7), {{BEYOND, POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 0}}},
    {"CTL-APIC-004", ipi_virtualization, FAIL(7), {{CLEAR, PROC_FIELD, PROC_USE_TPR_SHADOW}}},
    {"CTL-IPIV-001", ipi_virtualization, FAIL(7), {{OR, PID_POINTER_TABLE_ADDRESS, 4}}},
    {"CTL-IPIV-002: with -003", ipi_virtualization, FAIL(7), {{BEYOND, PID_POINTER_TABLE_ADDRESS, 0}}},
    {"CTL-TIMER-001", apic_timer, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_VIRTUAL_INTERRUPT_DELIVERY}}},
    {"CTL-TIMER-002", apic_timer, FAIL(7), {{OR, PROC_FIELD, PROC_RDTSC_EXITING}}},
    {"CTL-TIMER-003: bit 8", apic_timer, FAIL(7), {{SET, VIRTUAL_TIMER_VECTOR, 0x1ff}}},
    {"CTL-TIMER-003: bit 15", apic_timer, FAIL(7), {{SET, VIRTUAL_TIMER_VECTOR, 0x8061}}},
    {"CTL-TIMER-003 holds: a vector of 0", apic_timer, PASS, {{SET, VIRTUAL_TIMER_VECTOR, 0}}},
    {"CTL-TIMER-003 holds: the vector does not count without APIC-timer virtualization", apic_timer, PASS, {{CLEAR, PROC3_FIELD, PROC3_APIC_TIMER_VIRTUALIZATION}, {SET, VIRTUAL_TIMER_VECTOR, 0xffff}}},
    {"CTL-APIC-005", apic_accesses, FAIL(7), {{OR, PROC2_FIELD, PROC2_VIRTUALIZE_X2APIC_MODE}}},
    {"CTL-NMI-001", virtual_nmis, FAIL(7), {{CLEAR, PIN_FIELD, PIN_NMI_EXITING}}},
    {"CTL-NMI-002", virtual_nmis, FAIL(7), {{CLEAR, PIN_FIELD, PIN_VIRTUAL_NMIS}, {OR, PROC_FIELD, PROC_NMI_WINDOW_EXITING}}},
    {"CTL-VPID-001", vpid, FAIL(7), {{SET, VPID, 0}}},
    {"CTL-EPT-001: memory type 1", ept, FAIL(7), {{CLEAR, EPTP, 7}, {OR, EPTP, 1}}},
    {"CTL-EPT-002: walk length 1", ept, FAIL(7), {{CLEAR, EPTP, 0x38}}},
    {"CTL-EPT-002: walk length 8", ept, FAIL(7), {{OR, EPTP, 0x38}}},
    {"CTL-EPT-003", ept_without_ad, FAIL(7), {{OR, EPTP, 0x40}}},
    {"CTL-EPT-005: bit 8", ept, FAIL(7), {{OR, EPTP, 0x100}}},
    {"CTL-EPT-005: bit 9", ept, FAIL(7), {{OR, EPTP, 0x200}}},
    {"CTL-EPT-005: bit 10", ept, FAIL(7), {{OR, EPTP, 0x400}}},
    {"CTL-EPT-005: bit 11", ept, FAIL(7), {{OR, EPTP, 0x800}}},
    {"CTL-EPT-006", ept, FAIL(7), {{BEYOND, EPTP, 0}}},
    {"CTL-EPTDEP-001", pml, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPTDEP-002", unrestricted, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPTDEP-003", mbec, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPTDEP-004", subpages, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPTDEP-007", hlat, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPTDEP-008", paging_write, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPTDEP-009", paging_verification, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-EPT-002: walk length 6", ept, FAIL(7), {{CLEAR, EPTP, 0x38}, {OR, EPTP, 0x28}}},
    {"CTL-EPT-002: five levels, not offered", ept_without_5, FAIL(7), {{CLEAR, EPTP, 0x38}, {OR, EPTP, 0x20}}},
    {"CTL-VMFUNC-001", vm_functions, FAIL(7), {{OR, VM_FUNCTION_CONTROLS, 1ul << 63}}},
    {"CTL-VMFUNC-002", vm_functions, FAIL(7), {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}}},
    {"CTL-TSC-001", tsc_scaling, FAIL(7), {{SET, TSC_MULTIPLIER, 0}}},
    {"CTL-PROC2-001 holds: secondary controls do not count when not activated", unrestricted, PASS, {{CLEAR, PROC_FIELD, PROC_ACTIVATE_SECONDARY_CONTROLS}, {SET, PROC2_FIELD, 0xffffffff}}},
    {"CTL-CR3T-001 holds: as many as IA32_VMX_MISC allows", plain, PASS, {{SET, CR3_TARGET_COUNT, 4}}},
    {"CTL-TPR-001 holds: a threshold of 15 with a VTPR of F0H", tpr_shadow, PASS, {{POKE, 0x80 / 8, 0xf0}, {SET, TPR_THRESHOLD, 15}}},
    {"CTL-TPR-002 holds: a threshold that is the VTPR's class", tpr_shadow, PASS, {{POKE, 0x80 / 8, 0x4f}, {SET, TPR_THRESHOLD, 4}}},
    {"CTL-TPR-002: one above the VTPR's class", tpr_shadow, FAIL(7), {{POKE, 0x80 / 8, 0x4f}, {SET, TPR_THRESHOLD, 5}}},
    {"CTL-NMI-001 holds: NMI exiting without virtual NMIs", virtual_nmis, PASS, {{CLEAR, PIN_FIELD, PIN_VIRTUAL_NMIS}}},
    {"CTL-VPID-001 holds: a VPID of 0 without enable VPID", vpid, PASS, {{CLEAR, PROC2_FIELD, PROC2_ENABLE_VPID}, {SET, VPID, 0}}},
    {"CTL-IOA-001 holds: addresses do not count without use I/O bitmaps", io_bitmaps, PASS, {{CLEAR, PROC_FIELD, PROC_USE_IO_BITMAPS}, {OR, ADDRESS_OF_IO_BITMAP_A, 0x800}, {BEYOND, ADDRESS_OF_IO_BITMAP_B, 0}}},
    {"CTL-MSRBM-001 holds: the address does not count without use MSR bitmaps", msr_bitmaps, PASS, {{CLEAR, PROC_FIELD, PROC_USE_MSR_BITMAPS}, {OR, ADDRESS_OF_MSR_BITMAPS, 0x800}}},
    {"CTL-VAPIC-001 holds: the address does not count without use TPR shadow", tpr_shadow, PASS, {{CLEAR, PROC_FIELD, PROC_USE_TPR_SHADOW}, {OR, VIRTUAL_APIC_ADDRESS, 0x800}, {SET, TPR_THRESHOLD, 0x10}}},
    {"CTL-EPT-001 holds: the EPTP does not count without enable EPT", ept, PASS, {{CLEAR, PROC2_FIELD, PROC2_ENABLE_EPT}, {SET, EPTP, ~0ul}}},
    {"CTL-EPT-004", no_shadow_stack_ept, FAIL(7), {{OR, EPTP, 0x80}}},
    {"CTL-EPTPL-001 holds: the address does not count without EPTP switching", vm_functions, PASS, {{SET, VM_FUNCTION_CONTROLS, 0}, {OR, EPTP_LIST_ADDRESS, 0x800}}},
    /* VM-exit controls (SDM 29.2.1.2). */
    {"CTL-EXIT-004", timer, FAIL(7), {{CLEAR, PIN_FIELD, PIN_ACTIVATE_VMX_PREEMPTION_TIMER}}},
    {"CTL-EXIT-005", plain, FAIL(7), {{SET, VM_EXIT_MSR_STORE_ADDRESS, 0x1008}, {SET, VM_EXIT_MSR_STORE_COUNT, 1}}},
    {"CTL-EXIT-006", plain, FAIL(7), {{SET, VM_EXIT_MSR_STORE_ADDRESS, 0}, {BEYOND, VM_EXIT_MSR_STORE_ADDRESS, 0}, {SET, VM_EXIT_MSR_STORE_COUNT, 1}}},
    {"CTL-EXIT-005 holds: an address with count 0 does not count", plain, PASS, {{SET, VM_EXIT_MSR_STORE_ADDRESS, 0x1008}, {SET, VM_EXIT_MSR_STORE_COUNT, 0}}},
    {"CTL-EXIT-008", plain, FAIL(7), {{SET, VM_EXIT_MSR_LOAD_ADDRESS, 0x1008}, {SET, VM_EXIT_MSR_LOAD_COUNT, 1}}},
    {"CTL-EXIT-009", plain, FAIL(7), {{SET, VM_EXIT_MSR_LOAD_ADDRESS, 0}, {BEYOND, VM_EXIT_MSR_LOAD_ADDRESS, 0}, {SET, VM_EXIT_MSR_LOAD_COUNT, 1}}},
    {"CTL-EXIT-008 holds: an address with count 0 does not count", plain, PASS, {{SET, VM_EXIT_MSR_LOAD_ADDRESS, 0x1008}, {SET, VM_EXIT_MSR_LOAD_COUNT, 0}}},
    /* VM-entry controls (SDM 29.2.1.3). */
    {"CTL-ENTRY-003", msr_load, FAIL(7), {{OR, VM_ENTRY_MSR_LOAD_ADDRESS, 8}}},
    {"CTL-ENTRY-004", msr_load, FAIL(7), {{BEYOND, VM_ENTRY_MSR_LOAD_ADDRESS, 0}}},
    {"CTL-ENTRY-006", plain, FAIL(7), {{OR, ENTRY_FIELD, ENTRY_ENTRY_TO_SMM}}},
    {"CTL-ENTRY-007", plain, FAIL(7), {{OR, ENTRY_FIELD, ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT}}},
    {"CTL-ENTRY-008: with -006 and -007", plain, FAIL(7), {{OR, ENTRY_FIELD, ENTRY_ENTRY_TO_SMM | ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT}}},
    {"CTL-ENTRY-003 holds: an address with count 0 does not count", msr_load, PASS, {{OR, VM_ENTRY_MSR_LOAD_ADDRESS, 8}, {SET, VM_ENTRY_MSR_LOAD_COUNT, 0}}},
};
// clang-format on

int rom_main(void)
{
    if (!vmx_test_begin("the checks of VM entry on control fields")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    entry_begin();
    fixed_bits();
    long_controls();
    ENTRY_ROWS(rows);
    ends_of_areas();
    return tap_end();
}

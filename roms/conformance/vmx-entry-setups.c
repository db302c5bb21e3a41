/* The VMCSs that tables of VM entries start from: each passes, and its guest executes VMCALL. See
 * vmx-entry.h. */
#include "vmx-entry.h"

PROBE(p_vmcall, "vmcall");
asm(".pushsection .text; code16: .code16; vmcall; .code64; code16_end: .popsection");
extern const uint8_t code16[], code16_end[];

bool plain(struct vmx_vcpu *v)
{
    guest_init(v, p_vmcall);
    return true;
}

bool io_bitmaps(struct vmx_vcpu *v)
{
    plain(v);
    vmx_set_proc(PROC_USE_IO_BITMAPS);
    vmwrite(ADDRESS_OF_IO_BITMAP_A, spare_page);
    vmwrite(ADDRESS_OF_IO_BITMAP_B, spare_page);
    return true;
}

bool msr_bitmaps(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) return false;
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, spare_page);
    return true;
}

bool tpr_shadow(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) return false;
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmwrite(VIRTUAL_APIC_ADDRESS, spare_page);
    vmwrite(TPR_THRESHOLD, 0);
    return true;
}

bool x2apic_mode(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_secondary(PROC2_VIRTUALIZE_X2APIC_MODE)) return false;
    vmx_set_proc2(PROC2_VIRTUALIZE_X2APIC_MODE);
    return true;
}

bool apic_accesses(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_secondary(PROC2_VIRTUALIZE_APIC_ACCESSES)) return false;
    vmx_set_proc2(PROC2_VIRTUALIZE_APIC_ACCESSES);
    vmwrite(APIC_ACCESS_ADDRESS, spare_page);
    return true;
}

bool apic_registers(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_secondary(PROC2_APIC_REGISTER_VIRTUALIZATION)) return false;
    vmx_set_proc2(PROC2_APIC_REGISTER_VIRTUALIZATION);
    return true;
}

bool virtual_interrupts(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_secondary(PROC2_VIRTUAL_INTERRUPT_DELIVERY)) return false;
    vmx_set_proc2(PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    return true;
}

bool posted_interrupts(struct vmx_vcpu *v)
{
    if (!virtual_interrupts(v) || !vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_PROCESS_POSTED_INTERRUPTS) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT))
        return false;
    vmx_set_pin(PIN_PROCESS_POSTED_INTERRUPTS);
    vmwrite(EXIT_FIELD, vmread(EXIT_FIELD) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    vmwrite(POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xf2);
    vmwrite(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, spare_page + 0x40);
    return true;
}

bool ipi_virtualization(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_tertiary(PROC3_IPI_VIRTUALIZATION)) return false;
    vmx_set_proc3(PROC3_IPI_VIRTUALIZATION);
    vmwrite(PID_POINTER_TABLE_ADDRESS, spare_page);
    vmwrite(LAST_PID_POINTER_INDEX, 0);
    return true;
}

bool apic_timer(struct vmx_vcpu *v)
{
    if (!virtual_interrupts(v) || !vmx_has_tertiary(PROC3_APIC_TIMER_VIRTUALIZATION)) return false;
    vmx_clear_proc(PROC_RDTSC_EXITING);
    vmx_set_proc3(PROC3_APIC_TIMER_VIRTUALIZATION);
    vmwrite(VIRTUAL_TIMER_VECTOR, 0xff);
    return true;
}

bool virtual_nmis(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS)) return false;
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    return true;
}

bool timer(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE))
        return false;
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(EXIT_FIELD, vmread(EXIT_FIELD) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
    return true;
}

bool vpid(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_secondary(PROC2_ENABLE_VPID)) return false;
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 1);
    return true;
}

bool ept(struct vmx_vcpu *v)
{
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) return false;
    guest_init_ept(v, p_vmcall);
    return true;
}

bool ept_without_ad(struct vmx_vcpu *v) { return ept(v) && !(rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 21); }

bool pml(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_ENABLE_PML)) return false;
    vmx_set_proc2(PROC2_ENABLE_PML);
    vmwrite(PML_ADDRESS, spare_page);
    vmwrite(PML_INDEX, 511);
    return true;
}

bool virtualization_exceptions(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_EPT_VIOLATION_VE)) return false;
    vmx_set_proc2(PROC2_EPT_VIOLATION_VE);
    vmwrite(VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, spare_page);
    return true;
}

bool mbec(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT)) return false;
    vmx_set_proc2(PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
    return true;
}

bool subpages(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT)) return false;
    vmx_set_proc2(PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
    vmwrite(SPPTP, spare_page);
    return true;
}

static bool ept_and_tertiary(struct vmx_vcpu *v, uint64_t bits)
{
    if (!ept(v) || !vmx_has_tertiary(bits)) return false;
    vmx_set_proc3(bits);
    return true;
}

bool hlat(struct vmx_vcpu *v)
{
    if (!ept_and_tertiary(v, PROC3_ENABLE_HLAT)) return false;
    vmwrite(HLATP, vmread(GUEST_CR3) & ~0xffful); /* a map without restart bits */
    vmwrite(HLAT_PREFIX_SIZE, 0);
    return true;
}

bool paging_write(struct vmx_vcpu *v) { return ept_and_tertiary(v, PROC3_EPT_PAGING_WRITE_CONTROL); }
bool paging_verification(struct vmx_vcpu *v) { return ept_and_tertiary(v, PROC3_GUEST_PAGING_VERIFICATION); }

/* EPT of five levels: the same four below one entry more. */
bool ept5(struct vmx_vcpu *v)
{
    if (!ept(v) || !(rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 7)) return false;
    *(uint64_t *)spare_page = v->ept | EPT_RWX;
    vmwrite(EPTP, spare_page | 4 << 3 | 6);
    return true;
}

bool ept_without_5(struct vmx_vcpu *v) { return ept(v) && !(rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 7); }

bool tsc_scaling(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_secondary(PROC2_USE_TSC_SCALING)) return false;
    vmx_set_proc2(PROC2_USE_TSC_SCALING);
    vmwrite(TSC_MULTIPLIER, 1ul << 48);
    return true;
}

bool vm_functions(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_ENABLE_VM_FUNCTIONS)) return false;
    vmx_set_proc2(PROC2_ENABLE_VM_FUNCTIONS);
    vmwrite(VM_FUNCTION_CONTROLS, 1);
    vmwrite(EPTP_LIST_ADDRESS, spare_page);
    return rdmsr(IA32_VMX_VMFUNC) & 1;
}

bool shadowing(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_secondary(PROC2_VMCS_SHADOWING)) return false;
    vmx_set_proc2(PROC2_VMCS_SHADOWING);
    vmwrite(VMREAD_BITMAP_ADDRESS, spare_page);
    vmwrite(VMWRITE_BITMAP_ADDRESS, spare_page);
    return true;
}

bool unrestricted(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_UNRESTRICTED_GUEST)) return false;
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    return true;
}

bool real_mode(struct vmx_vcpu *v)
{
    if (!unrestricted(v)) return false;
    guest_real_mode(v, code16, (size_t)(code16_end - code16));
    return true;
}

bool protected_mode(struct vmx_vcpu *v)
{
    if (!unrestricted(v)) return false;
    vmx_guest_protected_mode();
    return true;
}

bool v86_mode(struct vmx_vcpu *v)
{
    if (!protected_mode(v)) return false;
    memcpy((void *)0x8000, code16, (size_t)(code16_end - code16));
    for (unsigned i = 0; i < 6; i++) {
        vmwrite(GUEST_ES_SELECTOR + 2 * i, 0x800);
        vmwrite(GUEST_ES_BASE + 2 * i, 0x8000);
        vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
        vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0xf3);
    }
    vmwrite(GUEST_RIP, 0);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IOPL3);
    return true;
}

bool pae_paging(struct vmx_vcpu *v)
{
    if (!protected_mode(v)) return false;
    uint64_t *directory = page_alloc(1);
    for (unsigned i = 0; i < 32; i++) directory[i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    vmwrite(GUEST_PDPTE0, (uint64_t)directory | PTE_P);
    vmwrite(GUEST_PDPTE1, 0);
    vmwrite(GUEST_PDPTE2, 0);
    vmwrite(GUEST_PDPTE3, 0);
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PAE);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PG);
    return true;
}

static bool entry_control(struct vmx_vcpu *v, uint32_t bit, uint32_t field, uint64_t value)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_ENTRY_CTLS, bit)) return false;
    vmwrite(ENTRY_FIELD, vmread(ENTRY_FIELD) | bit);
    vmwrite(field, value);
    return true;
}

static bool exit_control(struct vmx_vcpu *v, uint32_t bit, uint32_t field, uint64_t value)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_EXIT_CTLS, bit)) return false;
    vmwrite(EXIT_FIELD, vmread(EXIT_FIELD) | bit);
    vmwrite(field, value);
    return true;
}

bool entry_efer(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_IA32_EFER, GUEST_IA32_EFER, rdmsr(IA32_EFER));
}
bool entry_pat(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_IA32_PAT, GUEST_IA32_PAT, rdmsr(IA32_PAT));
}
bool entry_debug(struct vmx_vcpu *v) { return entry_control(v, ENTRY_LOAD_DEBUG_CONTROLS, GUEST_DR7, 0x400); }
bool exit_efer(struct vmx_vcpu *v)
{
    return exit_control(v, EXIT_LOAD_IA32_EFER, HOST_IA32_EFER, rdmsr(IA32_EFER));
}
bool exit_pat(struct vmx_vcpu *v)
{
    return exit_control(v, EXIT_LOAD_IA32_PAT, HOST_IA32_PAT, rdmsr(IA32_PAT));
}

/* Three good entries in the MSR-load area of VM entry (on the spare page); rows break the third: words 4
 * and 5. */
bool msr_load(struct vmx_vcpu *v)
{
    plain(v);
    uint64_t *area = (uint64_t *)spare_page;
    for (unsigned i = 0; i < 3; i++) {
        area[2 * i] = IA32_SYSENTER_CS;
        area[2 * i + 1] = 0;
    }
    vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, spare_page);
    vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 3);
    return true;
}

bool idle(struct vmx_vcpu *v)
{
    plain(v);
    return rdmsr(IA32_VMX_MISC) & 1u << 6;
}

/* HLT state, woken at once by an injected interrupt. */
bool halted(struct vmx_vcpu *v)
{
    if (!idle(v)) return false;
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmwrite(INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40);
    return true;
}

/* Shutdown state, left at once by an injected NMI. */
bool shut_down(struct vmx_vcpu *v)
{
    plain(v);
    if (!(rdmsr(IA32_VMX_MISC) & 1u << 7)) return false;
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
    vmwrite(INJECT, EVENT_VALID | EVENT_NMI | 2);
    return true;
}

/* Error codes with injected exceptions are bound to the vector only if IA32_VMX_BASIC[56] is 0. */
bool strict_error_codes(struct vmx_vcpu *v)
{
    plain(v);
    return !(rdmsr(IA32_VMX_BASIC) & 1ul << 56);
}

bool strict_lengths(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 1);
    return !(rdmsr(IA32_VMX_MISC) & 1u << 30);
}

bool with_length(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 1);
    return true;
}

/* The region of another, ordinary VMCS. */
static uint64_t other_region(void)
{
    static uint64_t region;
    if (!region) region = vmx_new_region();
    *(uint32_t *)region &= 0x7fffffff;
    return region;
}

bool link_pointer(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(VMCS_LINK_POINTER, other_region());
    return true;
}

bool no_mtf(struct vmx_vcpu *v)
{
    plain(v);
    return !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_MONITOR_TRAP_FLAG);
}

/* No processor without FRED has IA32_VMX_BASIC[58]. */
bool no_nested_exceptions(struct vmx_vcpu *v)
{
    plain(v);
    return !(rdmsr(IA32_VMX_BASIC) & 1ul << 58);
}

bool no_shadow_stack_ept(struct vmx_vcpu *v) { return ept(v) && !(rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 23); }

bool entry_pkrs(struct vmx_vcpu *v) { return entry_control(v, ENTRY_LOAD_PKRS, GUEST_IA32_PKRS, 0xffffffff); }
bool exit_pkrs(struct vmx_vcpu *v) { return exit_control(v, EXIT_LOAD_PKRS, HOST_IA32_PKRS, 0); }
bool entry_perf(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL, GUEST_IA32_PERF_GLOBAL_CTRL, 0);
}
bool exit_perf(struct vmx_vcpu *v)
{
    return exit_control(v, EXIT_LOAD_IA32_PERF_GLOBAL_CTRL, HOST_IA32_PERF_GLOBAL_CTRL, 0);
}
bool entry_bndcfgs(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_IA32_BNDCFGS, GUEST_IA32_BNDCFGS, 0);
}

/* Link pointers by what "VMCS shadowing" makes of bit 31 of the region's first doubleword. */
bool link_shadow(struct vmx_vcpu *v)
{
    if (!shadowing(v)) return false;
    vmwrite(VMCS_LINK_POINTER, other_region());
    *(uint32_t *)other_region() |= 1u << 31;
    return true;
}

/* PAE paging without EPT: the PDPTEs are in memory (words 0 to 3 of the spare page). */
bool pae_in_memory(struct vmx_vcpu *v)
{
    plain(v);
    vmx_guest_protected_mode();
    uint64_t *directory = page_alloc(1);
    for (unsigned i = 0; i < 32; i++) directory[i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    ((uint64_t *)spare_page)[0] = (uint64_t)directory | PTE_P;
    vmwrite(GUEST_CR3, spare_page);
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PAE);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PG);
    return true;
}

/* LDTR usable. */
bool with_ldt(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(GUEST_LDTR_SELECTOR, SEL_SPARE);
    vmwrite(GUEST_LDTR_BASE, spare_page);
    vmwrite(GUEST_LDTR_LIMIT, 0xfff);
    vmwrite(GUEST_LDTR_ACCESS_RIGHTS, 0x82);
    return true;
}

bool wait_for_sipi(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(INJECT, 0);
    return rdmsr(IA32_VMX_MISC) & 1u << 8;
}

bool no_sgx(struct vmx_vcpu *v)
{
    plain(v);
    return !(cpuid_if_present(7, 0).ebx & 1u << 2);
}
bool no_rtm(struct vmx_vcpu *v)
{
    plain(v);
    return !(cpuid_if_present(7, 0).ebx & 1u << 11);
}
bool no_bus_lock_detection(struct vmx_vcpu *v)
{
    plain(v);
    return !(cpuid_if_present(7, 0).ecx & 1u << 24);
}

/* Bit 63 of IA32_SPEC_CTRL is reserved. */
bool entry_spec_ctrl(struct vmx_vcpu *v)
{
    plain(v);
    return vmx_allowed(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_IA32_SPEC_CTRL) &&
           entry_control(v, ENTRY_LOAD_IA32_SPEC_CTRL, GUEST_IA32_SPEC_CTRL, rdmsr(IA32_SPEC_CTRL));
}

bool tertiary(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_tertiary(0)) return false;
    vmx_set_proc3(0);
    return true;
}

bool secondary_exit(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_exit2(0)) return false;
    vmx_set_exit2(0);
    return true;
}

bool exit_spec_ctrl(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_exit2(EXIT2_LOAD_IA32_SPEC_CTRL)) return false;
    vmx_set_exit2(EXIT2_LOAD_IA32_SPEC_CTRL);
    vmwrite(HOST_IA32_SPEC_CTRL, rdmsr(IA32_SPEC_CTRL));
    return true;
}

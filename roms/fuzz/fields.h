/* The VMCS fields of a case, by rt/vmcs.h's names. FIELDS(X, G): X for those that we only set, G for the
   guest state, which is looked at again after an exit. Fields that the processor does not have stay as they
   are. */
#ifndef FUZZ_FIELDS_H
#define FUZZ_FIELDS_H

#define FIELDS(X, G) \
    X(VPID) \
    X(POSTED_INTERRUPT_NOTIFICATION_VECTOR) X(EPTP_INDEX) G(GUEST_ES_SELECTOR) G(GUEST_CS_SELECTOR) G( \
        GUEST_SS_SELECTOR) G(GUEST_DS_SELECTOR) G(GUEST_FS_SELECTOR) G(GUEST_GS_SELECTOR) G(GUEST_LDTR_SELECTOR) \
        G(GUEST_TR_SELECTOR) G(GUEST_INTERRUPT_STATUS) G(PML_INDEX) X(HOST_ES_SELECTOR) X(HOST_CS_SELECTOR) X( \
            HOST_SS_SELECTOR) X(HOST_DS_SELECTOR) X(HOST_FS_SELECTOR) X(HOST_GS_SELECTOR) X(HOST_TR_SELECTOR) \
            X(ADDRESS_OF_IO_BITMAP_A) X(ADDRESS_OF_IO_BITMAP_B) X(ADDRESS_OF_MSR_BITMAPS) X( \
                VM_EXIT_MSR_STORE_ADDRESS) X(VM_EXIT_MSR_LOAD_ADDRESS) X(VM_ENTRY_MSR_LOAD_ADDRESS) X(EXECUTIVE_VMCS_POINTER) \
                X(PML_ADDRESS) X(TSC_OFFSET) X(VIRTUAL_APIC_ADDRESS) X(APIC_ACCESS_ADDRESS) X( \
                    POSTED_INTERRUPT_DESCRIPTOR_ADDRESS) X(VM_FUNCTION_CONTROLS) X(EPTP) X(EOI_EXIT0) \
                    X(EOI_EXIT1) X(EOI_EXIT2) X(EOI_EXIT3) X(EPTP_LIST_ADDRESS) X(VMREAD_BITMAP_ADDRESS) X( \
                        VMWRITE_BITMAP_ADDRESS) X(VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS) X(XSS_EXITING_BITMAP) \
                        X(SPPTP) X(TSC_MULTIPLIER) G(VMCS_LINK_POINTER) G(GUEST_IA32_DEBUGCTL) G(GUEST_IA32_PAT) G( \
                            GUEST_IA32_EFER) G(GUEST_PDPTE0) G(GUEST_PDPTE1) G(GUEST_PDPTE2) G(GUEST_PDPTE3) G(GUEST_IA32_PKRS) \
                            X(HOST_IA32_PAT) X(HOST_IA32_EFER) X(HOST_IA32_PKRS) X(PIN_BASED_VM_EXECUTION_CONTROLS) X( \
                                PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) X(EXCEPTION_BITMAP) X(PAGE_FAULT_ERROR_CODE_MASK) \
                                X(PAGE_FAULT_ERROR_CODE_MATCH) X(CR3_TARGET_COUNT) X(PRIMARY_VM_EXIT_CONTROLS) X( \
                                    VM_EXIT_MSR_STORE_COUNT) X(VM_EXIT_MSR_LOAD_COUNT) G(VM_ENTRY_CONTROLS) X(VM_ENTRY_MSR_LOAD_COUNT) \
                                    G(INJECTED_EVENT_IDENTIFICATION) X(INJECTED_EVENT_ERROR_CODE) X( \
                                        VM_ENTRY_INSTRUCTION_LENGTH) X(TPR_THRESHOLD) X(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) \
                                        X(PLE_GAP) X(PLE_WINDOW) G(GUEST_ES_LIMIT) G(GUEST_CS_LIMIT) G( \
                                            GUEST_SS_LIMIT) G(GUEST_DS_LIMIT) G(GUEST_FS_LIMIT) \
                                            G(GUEST_GS_LIMIT) G(GUEST_LDTR_LIMIT) G( \
                                                GUEST_TR_LIMIT) G(GUEST_GDTR_LIMIT) G(GUEST_IDTR_LIMIT) G(GUEST_ES_ACCESS_RIGHTS) \
                                                G(GUEST_CS_ACCESS_RIGHTS) G( \
                                                    GUEST_SS_ACCESS_RIGHTS) G(GUEST_DS_ACCESS_RIGHTS) G(GUEST_FS_ACCESS_RIGHTS) \
                                                    G(GUEST_GS_ACCESS_RIGHTS) G(GUEST_LDTR_ACCESS_RIGHTS) G( \
                                                        GUEST_TR_ACCESS_RIGHTS) G(GUEST_INTERRUPTIBILITY_STATE) G(GUEST_ACTIVITY_STATE) \
                                                        G(GUEST_IA32_SYSENTER_CS) G(VMX_PREEMPTION_TIMER_VALUE) X( \
                                                            HOST_IA32_SYSENTER_CS) X(CR0_GUEST_HOST_MASK) X(CR4_GUEST_HOST_MASK) \
                                                            X(CR0_READ_SHADOW) X(CR4_READ_SHADOW) X( \
                                                                CR3_TARGET_VALUE_0) X(CR3_TARGET_VALUE_1) X(CR3_TARGET_VALUE_2) \
                                                                X(CR3_TARGET_VALUE_3) G(GUEST_CR0) G( \
                                                                    GUEST_CR3) G(GUEST_CR4) G(GUEST_ES_BASE) \
                                                                    G(GUEST_CS_BASE) G(GUEST_SS_BASE) G( \
                                                                        GUEST_DS_BASE) G(GUEST_FS_BASE) G(GUEST_GS_BASE) \
                                                                        G(GUEST_LDTR_BASE) G( \
                                                                            GUEST_TR_BASE) G(GUEST_GDTR_BASE) G(GUEST_IDTR_BASE) \
                                                                            G(GUEST_DR7) G(GUEST_RSP) G( \
                                                                                GUEST_RIP) G(GUEST_RFLAGS) \
                                                                                G(GUEST_PENDING_DEBUG_EXCEPTIONS) G( \
                                                                                    GUEST_IA32_SYSENTER_ESP) \
                                                                                    G(GUEST_IA32_SYSENTER_EIP) X( \
                                                                                        HOST_CR0) X(HOST_CR3) \
                                                                                        X( \
                                                                                            HOST_CR4) X(HOST_FS_BASE) \
                                                                                            X( \
                                                                                                HOST_GS_BASE) X(HOST_TR_BASE) \
                                                                                                X(HOST_GDTR_BASE) X( \
                                                                                                    HOST_IDTR_BASE) \
                                                                                                    X(HOST_IA32_SYSENTER_ESP) \
                                                                                                        X(HOST_IA32_SYSENTER_EIP)

#define FIELD_NUMBER(name) F_##name,
enum field { FIELDS(FIELD_NUMBER, FIELD_NUMBER) FIELD_COUNT };
#undef FIELD_NUMBER

struct field_row {
    const char *name;
    uint32_t encoding;
    bool guest; /* of the guest-state area, or changed by exits */
};
extern const struct field_row field_rows[FIELD_COUNT];

#endif

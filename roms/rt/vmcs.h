/*
 * The numbers of VT-x: VMCS field encodings (SDM appendix B), control bits (SDM 25.6-25.8), exit reasons (SDM
 * appendix C) and VM-instruction errors (SDM 31.4). Names are the manual's, in upper case.
 *
 * Missing on purpose: fields and controls of SEAM, PASID translation and FRED, which no guest here uses.
 */
#ifndef RT_VMCS_H
#define RT_VMCS_H

/* 16-bit control fields. */
#define VPID                                            0x0000
#define POSTED_INTERRUPT_NOTIFICATION_VECTOR            0x0002
#define EPTP_INDEX                                      0x0004
#define HLAT_PREFIX_SIZE                                0x0006
#define LAST_PID_POINTER_INDEX                          0x0008
#define VIRTUAL_TIMER_VECTOR                            0x000a

/* 16-bit guest-state fields. */
#define GUEST_ES_SELECTOR                               0x0800
#define GUEST_CS_SELECTOR                               0x0802
#define GUEST_SS_SELECTOR                               0x0804
#define GUEST_DS_SELECTOR                               0x0806
#define GUEST_FS_SELECTOR                               0x0808
#define GUEST_GS_SELECTOR                               0x080a
#define GUEST_LDTR_SELECTOR                             0x080c
#define GUEST_TR_SELECTOR                               0x080e
#define GUEST_INTERRUPT_STATUS                          0x0810
#define PML_INDEX                                       0x0812

/* 16-bit host-state fields. */
#define HOST_ES_SELECTOR                                0x0c00
#define HOST_CS_SELECTOR                                0x0c02
#define HOST_SS_SELECTOR                                0x0c04
#define HOST_DS_SELECTOR                                0x0c06
#define HOST_FS_SELECTOR                                0x0c08
#define HOST_GS_SELECTOR                                0x0c0a
#define HOST_TR_SELECTOR                                0x0c0c

/* 64-bit control fields. */
#define ADDRESS_OF_IO_BITMAP_A                          0x2000
#define ADDRESS_OF_IO_BITMAP_B                          0x2002
#define ADDRESS_OF_MSR_BITMAPS                          0x2004
#define VM_EXIT_MSR_STORE_ADDRESS                       0x2006
#define VM_EXIT_MSR_LOAD_ADDRESS                        0x2008
#define VM_ENTRY_MSR_LOAD_ADDRESS                       0x200a
#define EXECUTIVE_VMCS_POINTER                          0x200c
#define PML_ADDRESS                                     0x200e
#define TSC_OFFSET                                      0x2010
#define VIRTUAL_APIC_ADDRESS                            0x2012
#define APIC_ACCESS_ADDRESS                             0x2014
#define POSTED_INTERRUPT_DESCRIPTOR_ADDRESS             0x2016
#define VM_FUNCTION_CONTROLS                            0x2018
#define EPTP                                            0x201a
#define EOI_EXIT0                                       0x201c
#define EOI_EXIT1                                       0x201e
#define EOI_EXIT2                                       0x2020
#define EOI_EXIT3                                       0x2022
#define EPTP_LIST_ADDRESS                               0x2024
#define VMREAD_BITMAP_ADDRESS                           0x2026
#define VMWRITE_BITMAP_ADDRESS                          0x2028
#define VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS    0x202a
#define XSS_EXITING_BITMAP                              0x202c
#define ENCLS_EXITING_BITMAP                            0x202e
#define SPPTP                                           0x2030
#define TSC_MULTIPLIER                                  0x2032
#define TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS  0x2034
#define HLATP                                           0x2040
#define PID_POINTER_TABLE_ADDRESS                       0x2042
#define SECONDARY_VM_EXIT_CONTROLS                      0x2044
#define IA32_SPEC_CTRL_MASK                             0x204a
#define IA32_SPEC_CTRL_SHADOW                           0x204c
#define GUEST_DEADLINE_SHADOW                           0x204e

/* 64-bit read-only data fields. */
#define GUEST_PHYSICAL_ADDRESS                          0x2400

/* 64-bit guest-state fields. */
#define VMCS_LINK_POINTER                               0x2800
#define GUEST_IA32_DEBUGCTL                             0x2802
#define GUEST_IA32_PAT                                  0x2804
#define GUEST_IA32_EFER                                 0x2806
#define GUEST_IA32_PERF_GLOBAL_CTRL                     0x2808
#define GUEST_PDPTE0                                    0x280a
#define GUEST_PDPTE1                                    0x280c
#define GUEST_PDPTE2                                    0x280e
#define GUEST_PDPTE3                                    0x2810
#define GUEST_IA32_BNDCFGS                              0x2812
#define GUEST_IA32_RTIT_CTL                             0x2814
#define GUEST_IA32_PKRS                                 0x2818
#define GUEST_IA32_SPEC_CTRL                            0x282e
#define GUEST_DEADLINE                                  0x2830

/* 64-bit host-state fields. */
#define HOST_IA32_PAT                                   0x2c00
#define HOST_IA32_EFER                                  0x2c02
#define HOST_IA32_PERF_GLOBAL_CTRL                      0x2c04
#define HOST_IA32_PKRS                                  0x2c06
#define HOST_IA32_SPEC_CTRL                             0x2c1a

/* 32-bit control fields. */
#define PIN_BASED_VM_EXECUTION_CONTROLS                 0x4000
#define PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS   0x4002
#define EXCEPTION_BITMAP                                0x4004
#define PAGE_FAULT_ERROR_CODE_MASK                      0x4006
#define PAGE_FAULT_ERROR_CODE_MATCH                     0x4008
#define CR3_TARGET_COUNT                                0x400a
#define PRIMARY_VM_EXIT_CONTROLS                        0x400c
#define VM_EXIT_MSR_STORE_COUNT                         0x400e
#define VM_EXIT_MSR_LOAD_COUNT                          0x4010
#define VM_ENTRY_CONTROLS                               0x4012
#define VM_ENTRY_MSR_LOAD_COUNT                         0x4014
#define INJECTED_EVENT_IDENTIFICATION                   0x4016
#define INJECTED_EVENT_ERROR_CODE                       0x4018
#define VM_ENTRY_INSTRUCTION_LENGTH                     0x401a
#define TPR_THRESHOLD                                   0x401c
#define SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS 0x401e
#define PLE_GAP                                         0x4020
#define PLE_WINDOW                                      0x4022

/* 32-bit read-only data fields. */
#define VM_INSTRUCTION_ERROR                            0x4400
#define EXIT_REASON                                     0x4402
#define EXITING_EVENT_IDENTIFICATION                    0x4404
#define EXITING_EVENT_ERROR_CODE                        0x4406
#define ORIGINAL_EVENT_IDENTIFICATION                   0x4408
#define ORIGINAL_EVENT_ERROR_CODE                       0x440a
#define VM_EXIT_INSTRUCTION_LENGTH                      0x440c
#define VM_EXIT_INSTRUCTION_INFORMATION                 0x440e

/* 32-bit guest-state fields. */
#define GUEST_ES_LIMIT                                  0x4800
#define GUEST_CS_LIMIT                                  0x4802
#define GUEST_SS_LIMIT                                  0x4804
#define GUEST_DS_LIMIT                                  0x4806
#define GUEST_FS_LIMIT                                  0x4808
#define GUEST_GS_LIMIT                                  0x480a
#define GUEST_LDTR_LIMIT                                0x480c
#define GUEST_TR_LIMIT                                  0x480e
#define GUEST_GDTR_LIMIT                                0x4810
#define GUEST_IDTR_LIMIT                                0x4812
#define GUEST_ES_ACCESS_RIGHTS                          0x4814
#define GUEST_CS_ACCESS_RIGHTS                          0x4816
#define GUEST_SS_ACCESS_RIGHTS                          0x4818
#define GUEST_DS_ACCESS_RIGHTS                          0x481a
#define GUEST_FS_ACCESS_RIGHTS                          0x481c
#define GUEST_GS_ACCESS_RIGHTS                          0x481e
#define GUEST_LDTR_ACCESS_RIGHTS                        0x4820
#define GUEST_TR_ACCESS_RIGHTS                          0x4822
#define GUEST_INTERRUPTIBILITY_STATE                    0x4824
#define GUEST_ACTIVITY_STATE                            0x4826
#define GUEST_SMBASE                                    0x4828
#define GUEST_IA32_SYSENTER_CS                          0x482a
#define VMX_PREEMPTION_TIMER_VALUE                      0x482e

/* 32-bit host-state fields. */
#define HOST_IA32_SYSENTER_CS                           0x4c00

/* Natural-width control fields. */
#define CR0_GUEST_HOST_MASK                             0x6000
#define CR4_GUEST_HOST_MASK                             0x6002
#define CR0_READ_SHADOW                                 0x6004
#define CR4_READ_SHADOW                                 0x6006
#define CR3_TARGET_VALUE_0                              0x6008
#define CR3_TARGET_VALUE_1                              0x600a
#define CR3_TARGET_VALUE_2                              0x600c
#define CR3_TARGET_VALUE_3                              0x600e

/* Natural-width read-only data fields. */
#define EXIT_QUALIFICATION                              0x6400
#define IO_RCX                                          0x6402
#define IO_RSI                                          0x6404
#define IO_RDI                                          0x6406
#define IO_RIP                                          0x6408
#define GUEST_LINEAR_ADDRESS                            0x640a

/* Natural-width guest-state fields. */
#define GUEST_CR0                                       0x6800
#define GUEST_CR3                                       0x6802
#define GUEST_CR4                                       0x6804
#define GUEST_ES_BASE                                   0x6806
#define GUEST_CS_BASE                                   0x6808
#define GUEST_SS_BASE                                   0x680a
#define GUEST_DS_BASE                                   0x680c
#define GUEST_FS_BASE                                   0x680e
#define GUEST_GS_BASE                                   0x6810
#define GUEST_LDTR_BASE                                 0x6812
#define GUEST_TR_BASE                                   0x6814
#define GUEST_GDTR_BASE                                 0x6816
#define GUEST_IDTR_BASE                                 0x6818
#define GUEST_DR7                                       0x681a
#define GUEST_RSP                                       0x681c
#define GUEST_RIP                                       0x681e
#define GUEST_RFLAGS                                    0x6820
#define GUEST_PENDING_DEBUG_EXCEPTIONS                  0x6822
#define GUEST_IA32_SYSENTER_ESP                         0x6824
#define GUEST_IA32_SYSENTER_EIP                         0x6826
#define GUEST_IA32_S_CET                                0x6828
#define GUEST_SSP                                       0x682a
#define GUEST_IA32_INTERRUPT_SSP_TABLE_ADDR             0x682c

/* Natural-width host-state fields. */
#define HOST_CR0                                        0x6c00
#define HOST_CR3                                        0x6c02
#define HOST_CR4                                        0x6c04
#define HOST_FS_BASE                                    0x6c06
#define HOST_GS_BASE                                    0x6c08
#define HOST_TR_BASE                                    0x6c0a
#define HOST_GDTR_BASE                                  0x6c0c
#define HOST_IDTR_BASE                                  0x6c0e
#define HOST_IA32_SYSENTER_ESP                          0x6c10
#define HOST_IA32_SYSENTER_EIP                          0x6c12
#define HOST_RSP                                        0x6c14
#define HOST_RIP                                        0x6c16
#define HOST_IA32_S_CET                                 0x6c18
#define HOST_SSP                                        0x6c1a
#define HOST_IA32_INTERRUPT_SSP_TABLE_ADDR              0x6c1c

/* Pin-based VM-execution controls. */
#define PIN_EXTERNAL_INTERRUPT_EXITING                  (1u << 0)
#define PIN_NMI_EXITING                                 (1u << 3)
#define PIN_VIRTUAL_NMIS                                (1u << 5)
#define PIN_ACTIVATE_VMX_PREEMPTION_TIMER               (1u << 6)
#define PIN_PROCESS_POSTED_INTERRUPTS                   (1u << 7)

/* Primary processor-based VM-execution controls. */
#define PROC_INTERRUPT_WINDOW_EXITING                   (1u << 2)
#define PROC_USE_TSC_OFFSETTING                         (1u << 3)
#define PROC_HLT_EXITING                                (1u << 7)
#define PROC_INVLPG_EXITING                             (1u << 9)
#define PROC_MWAIT_EXITING                              (1u << 10)
#define PROC_RDPMC_EXITING                              (1u << 11)
#define PROC_RDTSC_EXITING                              (1u << 12)
#define PROC_CR3_LOAD_EXITING                           (1u << 15)
#define PROC_CR3_STORE_EXITING                          (1u << 16)
#define PROC_ACTIVATE_TERTIARY_CONTROLS                 (1u << 17)
#define PROC_CR8_LOAD_EXITING                           (1u << 19)
#define PROC_CR8_STORE_EXITING                          (1u << 20)
#define PROC_USE_TPR_SHADOW                             (1u << 21)
#define PROC_NMI_WINDOW_EXITING                         (1u << 22)
#define PROC_MOV_DR_EXITING                             (1u << 23)
#define PROC_UNCONDITIONAL_IO_EXITING                   (1u << 24)
#define PROC_USE_IO_BITMAPS                             (1u << 25)
#define PROC_MONITOR_TRAP_FLAG                          (1u << 27)
#define PROC_USE_MSR_BITMAPS                            (1u << 28)
#define PROC_MONITOR_EXITING                            (1u << 29)
#define PROC_PAUSE_EXITING                              (1u << 30)
#define PROC_ACTIVATE_SECONDARY_CONTROLS                (1u << 31)

/* Secondary processor-based VM-execution controls. */
#define PROC2_VIRTUALIZE_APIC_ACCESSES                  (1u << 0)
#define PROC2_ENABLE_EPT                                (1u << 1)
#define PROC2_DESCRIPTOR_TABLE_EXITING                  (1u << 2)
#define PROC2_ENABLE_RDTSCP                             (1u << 3)
#define PROC2_VIRTUALIZE_X2APIC_MODE                    (1u << 4)
#define PROC2_ENABLE_VPID                               (1u << 5)
#define PROC2_WBINVD_EXITING                            (1u << 6)
#define PROC2_UNRESTRICTED_GUEST                        (1u << 7)
#define PROC2_APIC_REGISTER_VIRTUALIZATION              (1u << 8)
#define PROC2_VIRTUAL_INTERRUPT_DELIVERY                (1u << 9)
#define PROC2_PAUSE_LOOP_EXITING                        (1u << 10)
#define PROC2_RDRAND_EXITING                            (1u << 11)
#define PROC2_ENABLE_INVPCID                            (1u << 12)
#define PROC2_ENABLE_VM_FUNCTIONS                       (1u << 13)
#define PROC2_VMCS_SHADOWING                            (1u << 14)
#define PROC2_ENABLE_ENCLS_EXITING                      (1u << 15)
#define PROC2_RDSEED_EXITING                            (1u << 16)
#define PROC2_ENABLE_PML                                (1u << 17)
#define PROC2_EPT_VIOLATION_VE                          (1u << 18)
#define PROC2_CONCEAL_VMX_FROM_PT                       (1u << 19)
#define PROC2_ENABLE_XSAVES_XRSTORS                     (1u << 20)
#define PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT        (1u << 22)
#define PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT        (1u << 23)
#define PROC2_INTEL_PT_USES_GUEST_PHYSICAL_ADDRESSES    (1u << 24)
#define PROC2_USE_TSC_SCALING                           (1u << 25)
#define PROC2_ENABLE_USER_WAIT_AND_PAUSE                (1u << 26)
#define PROC2_VMM_BUS_LOCK_DETECTION                    (1u << 30)
#define PROC2_INSTRUCTION_TIMEOUT                       (1u << 31)

/* Tertiary processor-based controls: a 64-bit field. */
#define PROC3_LOADIWKEY_EXITING                         (1ul << 0)
#define PROC3_ENABLE_HLAT                               (1ul << 1)
#define PROC3_EPT_PAGING_WRITE_CONTROL                  (1ul << 2)
#define PROC3_GUEST_PAGING_VERIFICATION                 (1ul << 3)
#define PROC3_IPI_VIRTUALIZATION                        (1ul << 4)
#define PROC3_ENABLE_MSR_LIST_INSTRUCTIONS              (1ul << 6)
#define PROC3_VIRTUALIZE_IA32_SPEC_CTRL                 (1ul << 7)
#define PROC3_APIC_TIMER_VIRTUALIZATION                 (1ul << 8)

/* Primary VM-exit controls. */
#define EXIT_SAVE_DEBUG_CONTROLS                        (1u << 2)
#define EXIT_HOST_ADDRESS_SPACE_SIZE                    (1u << 9)
#define EXIT_LOAD_IA32_PERF_GLOBAL_CTRL                 (1u << 12)
#define EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT              (1u << 15)
#define EXIT_SAVE_IA32_PAT                              (1u << 18)
#define EXIT_LOAD_IA32_PAT                              (1u << 19)
#define EXIT_SAVE_IA32_EFER                             (1u << 20)
#define EXIT_LOAD_IA32_EFER                             (1u << 21)
#define EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE            (1u << 22)
#define EXIT_CLEAR_IA32_BNDCFGS                         (1u << 23)
#define EXIT_CONCEAL_VMX_FROM_PT                        (1u << 24)
#define EXIT_CLEAR_IA32_RTIT_CTL                        (1u << 25)
#define EXIT_LOAD_CET_STATE                             (1u << 28)
#define EXIT_LOAD_PKRS                                  (1u << 29)
#define EXIT_SAVE_IA32_PERF_GLOBAL_CTRL                 (1u << 30)
#define EXIT_ACTIVATE_SECONDARY_CONTROLS                (1u << 31)

/* Secondary VM-exit controls: a 64-bit field. */
#define EXIT2_LOAD_IA32_SPEC_CTRL                       (1ul << 2)

/* VM-entry controls. */
#define ENTRY_LOAD_DEBUG_CONTROLS                       (1u << 2)
#define ENTRY_IA_32E_MODE_GUEST                         (1u << 9)
#define ENTRY_ENTRY_TO_SMM                              (1u << 10)
#define ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT         (1u << 11)
#define ENTRY_LOAD_IA32_PERF_GLOBAL_CTRL                (1u << 13)
#define ENTRY_LOAD_IA32_PAT                             (1u << 14)
#define ENTRY_LOAD_IA32_EFER                            (1u << 15)
#define ENTRY_LOAD_IA32_BNDCFGS                         (1u << 16)
#define ENTRY_CONCEAL_VMX_FROM_PT                       (1u << 17)
#define ENTRY_LOAD_IA32_RTIT_CTL                        (1u << 18)
#define ENTRY_LOAD_CET_STATE                            (1u << 20)
#define ENTRY_LOAD_PKRS                                 (1u << 22)
#define ENTRY_LOAD_IA32_SPEC_CTRL                       (1u << 24)

/* Basic exit reasons; bit 31 of the field says that the VM entry failed. */
#define EXIT_REASON_ENTRY_FAILURE                       (1u << 31)
#define EXIT_REASON_EXCEPTION_OR_NMI                    0
#define EXIT_REASON_EXTERNAL_INTERRUPT                  1
#define EXIT_REASON_TRIPLE_FAULT                        2
#define EXIT_REASON_INIT_SIGNAL                         3
#define EXIT_REASON_START_UP_IPI                        4
#define EXIT_REASON_IO_SMI                              5
#define EXIT_REASON_OTHER_SMI                           6
#define EXIT_REASON_INTERRUPT_WINDOW                    7
#define EXIT_REASON_NMI_WINDOW                          8
#define EXIT_REASON_TASK_SWITCH                         9
#define EXIT_REASON_CPUID                               10
#define EXIT_REASON_GETSEC                              11
#define EXIT_REASON_HLT                                 12
#define EXIT_REASON_INVD                                13
#define EXIT_REASON_INVLPG                              14
#define EXIT_REASON_RDPMC                               15
#define EXIT_REASON_RDTSC                               16
#define EXIT_REASON_RSM                                 17
#define EXIT_REASON_VMCALL                              18
#define EXIT_REASON_VMCLEAR                             19
#define EXIT_REASON_VMLAUNCH                            20
#define EXIT_REASON_VMPTRLD                             21
#define EXIT_REASON_VMPTRST                             22
#define EXIT_REASON_VMREAD                              23
#define EXIT_REASON_VMRESUME                            24
#define EXIT_REASON_VMWRITE                             25
#define EXIT_REASON_VMXOFF                              26
#define EXIT_REASON_VMXON                               27
#define EXIT_REASON_CONTROL_REGISTER_ACCESS             28
#define EXIT_REASON_MOV_DR                              29
#define EXIT_REASON_IO_INSTRUCTION                      30
#define EXIT_REASON_RDMSR                               31
#define EXIT_REASON_WRMSR                               32
#define EXIT_REASON_ENTRY_FAILURE_GUEST_STATE           33
#define EXIT_REASON_ENTRY_FAILURE_MSR_LOADING           34
#define EXIT_REASON_MWAIT                               36
#define EXIT_REASON_MONITOR_TRAP_FLAG                   37
#define EXIT_REASON_MONITOR                             39
#define EXIT_REASON_PAUSE                               40
#define EXIT_REASON_ENTRY_FAILURE_MACHINE_CHECK         41
#define EXIT_REASON_TPR_BELOW_THRESHOLD                 43
#define EXIT_REASON_APIC_ACCESS                         44
#define EXIT_REASON_VIRTUALIZED_EOI                     45
#define EXIT_REASON_GDTR_IDTR_ACCESS                    46
#define EXIT_REASON_LDTR_TR_ACCESS                      47
#define EXIT_REASON_EPT_VIOLATION                       48
#define EXIT_REASON_EPT_MISCONFIGURATION                49
#define EXIT_REASON_INVEPT                              50
#define EXIT_REASON_RDTSCP                              51
#define EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED        52
#define EXIT_REASON_INVVPID                             53
#define EXIT_REASON_WBINVD                              54
#define EXIT_REASON_XSETBV                              55
#define EXIT_REASON_APIC_WRITE                          56
#define EXIT_REASON_RDRAND                              57
#define EXIT_REASON_INVPCID                             58
#define EXIT_REASON_VMFUNC                              59
#define EXIT_REASON_ENCLS                               60
#define EXIT_REASON_RDSEED                              61
#define EXIT_REASON_PAGE_MODIFICATION_LOG_FULL          62
#define EXIT_REASON_XSAVES                              63
#define EXIT_REASON_XRSTORS                             64
#define EXIT_REASON_UMWAIT                              67
#define EXIT_REASON_TPAUSE                              68
#define EXIT_REASON_BUS_LOCK                            74

/* VM-instruction errors. */
#define VMX_ERROR_VMCALL_IN_ROOT                        1
#define VMX_ERROR_VMCLEAR_ADDRESS                       2
#define VMX_ERROR_VMCLEAR_VMXON_POINTER                 3
#define VMX_ERROR_VMLAUNCH_NON_CLEAR                    4
#define VMX_ERROR_VMRESUME_NON_LAUNCHED                 5
#define VMX_ERROR_VMRESUME_AFTER_VMXOFF                 6
#define VMX_ERROR_ENTRY_CONTROLS                        7
#define VMX_ERROR_ENTRY_HOST_STATE                      8
#define VMX_ERROR_VMPTRLD_ADDRESS                       9
#define VMX_ERROR_VMPTRLD_VMXON_POINTER                 10
#define VMX_ERROR_VMPTRLD_REVISION                      11
#define VMX_ERROR_UNSUPPORTED_COMPONENT                 12
#define VMX_ERROR_READ_ONLY_COMPONENT                   13
#define VMX_ERROR_VMXON_IN_ROOT                         15
#define VMX_ERROR_ENTRY_MOV_SS                          26
#define VMX_ERROR_INVEPT_INVVPID_OPERAND                28

/* Access rights of a segment (SDM 25.4.1). */
#define AR_UNUSABLE                                     (1u << 16)

/* Interruptibility state (SDM 25.4.2). */
#define INTERRUPTIBILITY_STI                            (1u << 0)
#define INTERRUPTIBILITY_MOV_SS                         (1u << 1)
#define INTERRUPTIBILITY_NMI                            (1u << 3)

/* Activity state (SDM 25.4.2). */
#define ACTIVITY_ACTIVE                                 0
#define ACTIVITY_HLT                                    1
#define ACTIVITY_SHUTDOWN                               2
#define ACTIVITY_WAIT_FOR_SIPI                          3

/* Event identification, for injection and in the exit information (SDM 25.8.3, 25.9.2). */
#define EVENT_VALID                                     (1u << 31)
#define EVENT_ERROR_CODE                                (1u << 11)
#define EVENT_TYPE(t)                                   ((uint32_t)(t) << 8)
#define EVENT_EXTERNAL_INTERRUPT                        EVENT_TYPE(0)
#define EVENT_NMI                                       EVENT_TYPE(2)
#define EVENT_HARDWARE_EXCEPTION                        EVENT_TYPE(3)
#define EVENT_SOFTWARE_INTERRUPT                        EVENT_TYPE(4)
#define EVENT_PRIVILEGED_SOFTWARE_EXCEPTION             EVENT_TYPE(5)
#define EVENT_SOFTWARE_EXCEPTION                        EVENT_TYPE(6)
#define EVENT_OTHER                                     EVENT_TYPE(7)

/* Exit qualification of an EPT violation (SDM 28.2.1). */
#define EPT_QUALIFICATION_READ                          (1u << 0)
#define EPT_QUALIFICATION_WRITE                         (1u << 1)
#define EPT_QUALIFICATION_FETCH                         (1u << 2)
#define EPT_QUALIFICATION_LINEAR_VALID                  (1u << 7)
#define EPT_QUALIFICATION_FINAL                         (1u << 8)

#endif

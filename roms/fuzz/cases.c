/* A case from its seed and number; what it uses of the processor; and its way on after an exit. (tests/fuzz
   has these run without a machine around them: nothing here but VMREAD, VMWRITE, RDMSR, CPUID and INVEPT is
   privileged.) */
#include "fuzz.h"
#include "trap.h"

struct offer offer;
struct guest_case kase;

void offer_own(uint32_t own[WORDS], bool debugctl)
{
    uint64_t cr4 = rdmsr(IA32_VMX_CR4_FIXED1);
    const uint32_t msrs[] = {IA32_VMX_PINBASED_CTLS, IA32_VMX_PROCBASED_CTLS, IA32_VMX_PROCBASED_CTLS2,
                             IA32_VMX_EXIT_CTLS, IA32_VMX_ENTRY_CTLS};
    struct cpuid one = cpuid(1, 0), seven = cpuid_if_present(7, 0), extended = cpuid(0x80000001, 0),
                 xsave = cpuid_if_present(13, 1);
    for (unsigned i = 0; i < 5; i++) own[i] = vmx_allowed(msrs[i], ~0u);
    own[W_EPT] = (uint32_t)rdmsr(IA32_VMX_EPT_VPID_CAP), own[W_MISC] = (uint32_t)rdmsr(IA32_VMX_MISC);
    own[W_CR4] = (uint32_t)cr4;
    own[W_1C] = one.ecx, own[W_7B] = seven.ebx, own[W_7C] = seven.ecx, own[W_E1C] = extended.ecx,
    own[W_E1D] = extended.edx;
    own[W_XSAVE] = xsave.eax;
    own[W_VMFUNC] = vmx_has_secondary(PROC2_ENABLE_VM_FUNCTIONS) ? (uint32_t)rdmsr(IA32_VMX_VMFUNC) : 0;
    own[W_BASIC] = (uint32_t)(rdmsr(IA32_VMX_BASIC) >> 32);
    own[W_MSRS] = debugctl;
    own[W_PROC3] =
        own[W_PROC] & PROC_ACTIVATE_TERTIARY_CONTROLS ? (uint32_t)rdmsr(IA32_VMX_PROCBASED_CTLS3) : 0;
    own[W_EXIT2] = own[W_EXIT] & EXIT_ACTIVATE_SECONDARY_CONTROLS ? (uint32_t)rdmsr(IA32_VMX_EXIT_CTLS2) : 0;
}

void make_case(uint64_t seed, uint64_t number)
{
    kase = (struct guest_case){.number = number};
    steps_begin();
    random_begin(seed, number, 0);
    kase.mode = below(MODES);
    kase.ept = !mode_paged(kase.mode) || odds(2);
    arena_reset();
    random_begin(seed, number, 1);
    guest_state();
    guest_changes();
    random_begin(seed, number, 2);
    host_state();
    random_begin(seed, number, 3);
    controls_choose();
    random_begin(seed, number, 4);
    arena_changes();
    random_begin(seed, number, 5);
    controls_agree();
    random_begin(seed, number, 10);
    extras_choose();
    random_begin(seed, number, 6);
    events_choose();
    random_begin(seed, number, 11);
    posting_choose();
    random_begin(seed, number, 7);
    program_make();
    random_begin(seed, number, 8);
    mutations();
    random_begin(seed, number, 9);
}

bool go_on(const struct vmx_exit *e)
{
    uint32_t event = (uint32_t)vmread(EXITING_EVENT_IDENTIFICATION),
             original = (uint32_t)vmread(ORIGINAL_EVENT_IDENTIFICATION);
    uint64_t *proc = &kase.f[F_PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS], entry = 0;
    unsigned choice = below(4);
    switch (e->reason) {
    case EXIT_REASON_EXCEPTION_OR_NMI:
        entry = original & EVENT_VALID ? original : event;
        if (original & EVENT_VALID || choice == 0) vmwrite(EXCEPTION_BITMAP, 0);
        if (entry == event && (event & 0xff) == VECTOR_PF) write_cr2(e->qualification);
        if ((entry & 0x7ff) == (EVENT_NMI | 2)) vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
        break;
    case EXIT_REASON_EXTERNAL_INTERRUPT: break;
    case EXIT_REASON_INTERRUPT_WINDOW: *proc &= ~(uint64_t)PROC_INTERRUPT_WINDOW_EXITING; break;
    case EXIT_REASON_NMI_WINDOW: *proc &= ~(uint64_t)PROC_NMI_WINDOW_EXITING; break;
    case EXIT_REASON_MONITOR_TRAP_FLAG:
        if (choice == 0) *proc &= ~(uint64_t)PROC_MONITOR_TRAP_FLAG;
        break;
    case EXIT_REASON_TPR_BELOW_THRESHOLD: vmwrite(TPR_THRESHOLD, 0); break;
    case EXIT_REASON_EPT_VIOLATION:
    case EXIT_REASON_EPT_MISCONFIGURATION:
        if (!arena_open_ept(vmread(GUEST_PHYSICAL_ADDRESS))) return false;
        invept(2, 0);
        entry = original;
        break;
    case EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED:
        if (kase.f[F_VMX_PREEMPTION_TIMER_VALUE]) return false;
        kase.f[F_VMX_PREEMPTION_TIMER_VALUE] = 65536 >> (rdmsr(IA32_VMX_MISC) & 31);
        break;
    case EXIT_REASON_VMCALL:
    case EXIT_REASON_TRIPLE_FAULT:
    case EXIT_REASON_TASK_SWITCH: return false;
    default:
        if (!report_has_length(e->reason, 0, 0)) return false;
        vmx_skip_instruction();
    }
    if (entry & EVENT_VALID) {
        vmwrite(INJECTED_EVENT_IDENTIFICATION, entry & ~(1u << 12));
        bool fault = (entry >> 8 & 7) == 3 && (entry & 0xff) != VECTOR_DB;
        if (fault && report_tolerates('r')) vmwrite(GUEST_RFLAGS, vmread(GUEST_RFLAGS) | RFLAGS_RF);
        bool delivered = entry == original;
        vmwrite(INJECTED_EVENT_ERROR_CODE,
                entry & EVENT_ERROR_CODE
                    ? vmread(delivered ? ORIGINAL_EVENT_ERROR_CODE : EXITING_EVENT_ERROR_CODE)
                    : 0);
        if ((entry >> 8 & 7) >= 4) vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, vmread(VM_EXIT_INSTRUCTION_LENGTH));
    }
    vmwrite(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, *proc);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, kase.f[F_VMX_PREEMPTION_TIMER_VALUE]);
    return true;
}

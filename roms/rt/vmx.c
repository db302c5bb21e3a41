/* VT-x for guest images. See vmx.h. */
#include "vmx.h"
#include "trap.h"

uint64_t vmx_enter(struct vmx_regs *regs, bool launched);

#define FEATURE_CONTROL_LOCK            (1u << 0)
#define FEATURE_CONTROL_VMX_OUTSIDE_SMX (1u << 2)
#define BASIC_TRUE_MSRS                 (1ull << 55)

static uint64_t on_region;

uint64_t vmread(uint64_t field)
{
    uint64_t v = 0;
    enum vmx_status s = vmread_status(field, &v);
    if (s != VMX_SUCCEED) panic("vmread of %lx failed (%d)", field, (int)s);
    return v;
}

void vmwrite(uint64_t field, uint64_t value)
{
    enum vmx_status s = vmwrite_status(field, value);
    if (s != VMX_SUCCEED) panic("vmwrite of %lx to %lx failed (%d)", value, field, (int)s);
}

enum vmx_status invept(uint64_t type, uint64_t eptp)
{
    struct {
        uint64_t eptp, reserved;
    } descriptor = {eptp, 0};
    bool cf, zf;
    asm volatile("invept %2, %3" : "=@ccc"(cf), "=@ccz"(zf) : "m"(descriptor), "r"(type) : "memory");
    return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;
}

enum vmx_status invvpid(uint64_t type, uint16_t vpid, uint64_t linear)
{
    struct {
        uint64_t vpid, linear;
    } descriptor = {vpid, linear};
    bool cf, zf;
    asm volatile("invvpid %2, %3" : "=@ccc"(cf), "=@ccz"(zf) : "m"(descriptor), "r"(type) : "memory");
    return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;
}

bool vmx_available(const char **why)
{
    *why = "the processor has no VMX (CPUID.01H:ECX[5])";
    if (!(cpuid(1, 0).ecx & 1u << 5)) return false;
    uint64_t feature = rdmsr(IA32_FEATURE_CONTROL);
    if (!(feature & FEATURE_CONTROL_LOCK)) {
        wrmsr(IA32_FEATURE_CONTROL, feature | FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX_OUTSIDE_SMX);
        feature = rdmsr(IA32_FEATURE_CONTROL);
    }
    *why = "the firmware has switched VMX off (IA32_FEATURE_CONTROL)";
    return feature & FEATURE_CONTROL_VMX_OUTSIDE_SMX;
}

uint64_t vmx_new_region(void)
{
    uint32_t *region = page_alloc(1);
    *region = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7fffffff;
    return (uint64_t)region;
}

uint64_t vmx_on_region(void) { return on_region; }

bool vmx_on(void)
{
    if (!on_region) on_region = vmx_new_region();
    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4((read_cr4() | CR4_VMXE | rdmsr(IA32_VMX_CR4_FIXED0)) & rdmsr(IA32_VMX_CR4_FIXED1));
    return vmxon(on_region) == VMX_SUCCEED;
}

void vmx_off(void)
{
    if (vmxoff() != VMX_SUCCEED) panic("vmxoff failed");
    write_cr4(read_cr4() & ~(uint64_t)CR4_VMXE);
}

static uint64_t capability(uint32_t msr)
{
    if (msr != IA32_VMX_PROCBASED_CTLS2 && (rdmsr(IA32_VMX_BASIC) & BASIC_TRUE_MSRS))
        msr += IA32_VMX_TRUE_PINBASED_CTLS - IA32_VMX_PINBASED_CTLS;
    return rdmsr(msr);
}

uint32_t vmx_allowed(uint32_t msr, uint32_t bits) { return bits & (uint32_t)(capability(msr) >> 32); }

uint32_t vmx_adjust(uint32_t msr, uint32_t wanted)
{
    uint64_t c = capability(msr);
    return (wanted | (uint32_t)c) & (uint32_t)(c >> 32);
}

bool vmx_has_secondary(uint32_t bits)
{
    return vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_ACTIVATE_SECONDARY_CONTROLS) &&
           vmx_allowed(IA32_VMX_PROCBASED_CTLS2, bits) == bits;
}

/* Their capability MSRs are what may be 1, in all 64 bits. */
bool vmx_has_tertiary(uint64_t bits)
{
    return vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_ACTIVATE_TERTIARY_CONTROLS) &&
           (rdmsr(IA32_VMX_PROCBASED_CTLS3) & bits) == bits;
}

bool vmx_has_exit2(uint64_t bits)
{
    return vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_ACTIVATE_SECONDARY_CONTROLS) &&
           (rdmsr(IA32_VMX_EXIT_CTLS2) & bits) == bits;
}

static void set_control(uint32_t field, uint32_t msr, uint32_t bits)
{
    if (vmx_allowed(msr, bits) != bits) panic("control %x: bits %x are not offered", field, bits);
    vmwrite(field, vmread(field) | bits);
}

void vmx_set_pin(uint32_t bits)
{
    set_control(PIN_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PINBASED_CTLS, bits);
}

void vmx_set_proc(uint32_t bits)
{
    set_control(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PROCBASED_CTLS, bits);
}

void vmx_set_proc2(uint32_t bits)
{
    vmx_set_proc(PROC_ACTIVATE_SECONDARY_CONTROLS);
    set_control(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PROCBASED_CTLS2, bits);
}

void vmx_set_proc3(uint64_t bits)
{
    if (!vmx_has_tertiary(bits)) panic("tertiary controls: bits %lx are not offered", bits);
    uint32_t proc = PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS;
    uint64_t old = vmread(proc) & PROC_ACTIVATE_TERTIARY_CONTROLS
                       ? vmread(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS)
                       : 0;
    vmwrite(proc, vmread(proc) | PROC_ACTIVATE_TERTIARY_CONTROLS);
    vmwrite(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, old | bits);
}

void vmx_set_exit2(uint64_t bits)
{
    if (!vmx_has_exit2(bits)) panic("secondary VM-exit controls: bits %lx are not offered", bits);
    uint64_t primary = vmread(PRIMARY_VM_EXIT_CONTROLS);
    uint64_t old = primary & EXIT_ACTIVATE_SECONDARY_CONTROLS ? vmread(SECONDARY_VM_EXIT_CONTROLS) : 0;
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, primary | EXIT_ACTIVATE_SECONDARY_CONTROLS);
    vmwrite(SECONDARY_VM_EXIT_CONTROLS, old | bits);
}

void vmx_clear_proc(uint32_t bits)
{
    vmwrite(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
            vmread(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) & ~bits);
}

static uint64_t table_base(bool interrupts)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) r;
    if (interrupts)
        asm volatile("sidt %0" : "=m"(r));
    else
        asm volatile("sgdt %0" : "=m"(r));
    return r.base;
}

/* Where a VM exit brings us: the state we are in now (SDM 28.5). HOST_RSP and HOST_RIP are vmx_enter's. */
static void host_state(void)
{
    vmwrite(HOST_CR0, read_cr0());
    vmwrite(HOST_CR3, read_cr3());
    vmwrite(HOST_CR4, read_cr4());
    vmwrite(HOST_CS_SELECTOR, SEL_CODE64);
    vmwrite(HOST_SS_SELECTOR, SEL_DATA);
    vmwrite(HOST_DS_SELECTOR, SEL_DATA);
    vmwrite(HOST_ES_SELECTOR, SEL_DATA);
    vmwrite(HOST_FS_SELECTOR, 0);
    vmwrite(HOST_GS_SELECTOR, 0);
    vmwrite(HOST_TR_SELECTOR, SEL_TSS);
    vmwrite(HOST_FS_BASE, rdmsr(IA32_FS_BASE));
    vmwrite(HOST_GS_BASE, rdmsr(IA32_GS_BASE));
    vmwrite(HOST_TR_BASE, (uint64_t)&rt_tss);
    vmwrite(HOST_GDTR_BASE, table_base(false));
    vmwrite(HOST_IDTR_BASE, table_base(true));
    vmwrite(HOST_IA32_SYSENTER_CS, rdmsr(IA32_SYSENTER_CS));
    vmwrite(HOST_IA32_SYSENTER_ESP, rdmsr(IA32_SYSENTER_ESP));
    vmwrite(HOST_IA32_SYSENTER_EIP, rdmsr(IA32_SYSENTER_EIP));
}

/* The eight segment registers in field order (ES CS SS DS FS GS LDTR TR); fields of a kind are 2 apart. */
static void guest_segment(unsigned i, uint16_t selector, uint64_t base, uint32_t limit, uint32_t rights)
{
    vmwrite(GUEST_ES_SELECTOR + 2 * i, selector);
    vmwrite(GUEST_ES_BASE + 2 * i, base);
    vmwrite(GUEST_ES_LIMIT + 2 * i, limit);
    vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, rights);
}

enum { ES, CS, SS, DS, FS, GS, LDTR, TR };

static void guest_long_mode(uint64_t rip, uint64_t rsp)
{
    for (unsigned i = ES; i <= GS; i++) guest_segment(i, SEL_DATA, 0, 0xffffffff, 0xc093);
    guest_segment(CS, SEL_CODE64, 0, 0xffffffff, 0xa09b);
    guest_segment(LDTR, 0, 0, 0, AR_UNUSABLE);
    guest_segment(TR, SEL_TSS, (uint64_t)&rt_tss, sizeof(rt_tss) - 1, 0x8b);
    vmwrite(GUEST_CR0, read_cr0());
    vmwrite(GUEST_CR3, read_cr3());
    vmwrite(GUEST_CR4, read_cr4());
    vmwrite(GUEST_GDTR_BASE, table_base(false));
    vmwrite(GUEST_GDTR_LIMIT, (uint64_t)((char *)rt_gdt_end - (char *)rt_gdt - 1));
    vmwrite(GUEST_IDTR_BASE, table_base(true));
    vmwrite(GUEST_IDTR_LIMIT, sizeof(rt_idt) - 1);
    vmwrite(GUEST_DR7, 0x400);
    vmwrite(GUEST_RIP, rip);
    vmwrite(GUEST_RSP, rsp);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
    vmwrite(GUEST_IA32_SYSENTER_CS, 0);
    vmwrite(GUEST_IA32_SYSENTER_ESP, 0);
    vmwrite(GUEST_IA32_SYSENTER_EIP, 0);
    vmwrite(GUEST_IA32_DEBUGCTL, 0);
    vmwrite(VMCS_LINK_POINTER, ~0ull);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
}

static void controls(void)
{
    vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS, vmx_adjust(IA32_VMX_PINBASED_CTLS, 0));
    uint32_t secondary = vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_ACTIVATE_SECONDARY_CONTROLS);
    vmwrite(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, vmx_adjust(IA32_VMX_PROCBASED_CTLS, secondary));
    if (secondary)
        vmwrite(SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, vmx_adjust(IA32_VMX_PROCBASED_CTLS2, 0));

    /* EFER is switched by the VMCS where that is possible: else a guest outside 64-bit mode would keep ours.
     */
    uint32_t exit_wanted = EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_SAVE_IA32_EFER | EXIT_LOAD_IA32_EFER;
    uint32_t exit_controls = vmx_adjust(IA32_VMX_EXIT_CTLS, exit_wanted);
    uint32_t entry_controls = vmx_adjust(IA32_VMX_ENTRY_CTLS, ENTRY_IA_32E_MODE_GUEST | ENTRY_LOAD_IA32_EFER);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, exit_controls);
    vmwrite(VM_ENTRY_CONTROLS, entry_controls);
    if (exit_controls & EXIT_LOAD_IA32_EFER) vmwrite(HOST_IA32_EFER, rdmsr(IA32_EFER));
    if (entry_controls & ENTRY_LOAD_IA32_EFER) vmwrite(GUEST_IA32_EFER, rdmsr(IA32_EFER));

    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(PAGE_FAULT_ERROR_CODE_MASK, 0);
    vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, 0);
    vmwrite(CR3_TARGET_COUNT, 0);
    vmwrite(CR0_GUEST_HOST_MASK, 0);
    vmwrite(CR4_GUEST_HOST_MASK, 0);
    vmwrite(CR0_READ_SHADOW, 0);
    vmwrite(CR4_READ_SHADOW, 0);
    vmwrite(VM_EXIT_MSR_STORE_COUNT, 0);
    vmwrite(VM_EXIT_MSR_LOAD_COUNT, 0);
    vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 0);
    vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
    vmwrite(TSC_OFFSET, 0);
}

void vmx_vcpu_init(struct vmx_vcpu *v, uint64_t rip, uint64_t rsp)
{
    *v = (struct vmx_vcpu){.vmcs = v->vmcs ? v->vmcs : vmx_new_region()};
    if (vmclear(v->vmcs) != VMX_SUCCEED || vmptrld(v->vmcs) != VMX_SUCCEED) panic("no VMCS at %lx", v->vmcs);
    host_state();
    guest_long_mode(rip, rsp);
    controls();
}

/* What VMX needs in CR0 beyond PE and PG, which unrestricted guest frees. */
static uint64_t cr0_outside_paging(void)
{
    return (rdmsr(IA32_VMX_CR0_FIXED0) & ~(uint64_t)(CR0_PE | CR0_PG)) | CR0_ET;
}

static void leave_long_mode(void)
{
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) & ~(uint64_t)ENTRY_IA_32E_MODE_GUEST);
    if (vmread(VM_ENTRY_CONTROLS) & ENTRY_LOAD_IA32_EFER) vmwrite(GUEST_IA32_EFER, 0);
    vmwrite(GUEST_CR3, 0);
    vmwrite(GUEST_CR4, rdmsr(IA32_VMX_CR4_FIXED0));
}

void vmx_guest_real_mode(uint16_t selector)
{
    leave_long_mode();
    vmwrite(GUEST_CR0, cr0_outside_paging());
    for (unsigned i = ES; i <= GS; i++) guest_segment(i, selector, (uint64_t)selector << 4, 0xffff, 0x93);
    guest_segment(CS, selector, (uint64_t)selector << 4, 0xffff, 0x9b);
    guest_segment(LDTR, 0, 0, 0xffff, 0x82);
    guest_segment(TR, 0, 0, 0xffff, 0x8b);
    vmwrite(GUEST_GDTR_BASE, 0);
    vmwrite(GUEST_GDTR_LIMIT, 0xffff);
    vmwrite(GUEST_IDTR_BASE, 0);
    vmwrite(GUEST_IDTR_LIMIT, 0x3ff);
}

void vmx_guest_protected_mode(void)
{
    leave_long_mode();
    vmwrite(GUEST_CR0, cr0_outside_paging() | CR0_PE);
    guest_segment(CS, SEL_CODE32, 0, 0xffffffff, 0xc09b);
}

struct vmx_exit vmx_run(struct vmx_vcpu *v)
{
    struct vmx_exit e = {0};
    e.status = (enum vmx_status)vmx_enter(&v->regs, v->launched);
    if (e.status == VMX_FAIL_VALID) e.error = (uint32_t)vmread(VM_INSTRUCTION_ERROR);
    if (e.status != VMX_SUCCEED) return e;
    e.reason = (uint32_t)vmread(EXIT_REASON);
    e.qualification = vmread(EXIT_QUALIFICATION);
    /* A failed entry leaves the launch state clear (SDM 27.8). */
    if (!(e.reason & EXIT_REASON_ENTRY_FAILURE)) v->launched = true;
    return e;
}

void vmx_skip_instruction(void)
{
    vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LENGTH));
    /* What STI or MOV SS blocked, it blocked for the instruction we just stood in for. */
    uint64_t blocking = vmread(GUEST_INTERRUPTIBILITY_STATE);
    if (blocking & (INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS))
        vmwrite(GUEST_INTERRUPTIBILITY_STATE,
                blocking & ~(uint64_t)(INTERRUPTIBILITY_STI | INTERRUPTIBILITY_MOV_SS));
}

const char *vmx_exit_name(uint32_t reason)
{
    static const char *const names[] = {
        [EXIT_REASON_EXCEPTION_OR_NMI] = "exception or NMI",
        [EXIT_REASON_EXTERNAL_INTERRUPT] = "external interrupt",
        [EXIT_REASON_TRIPLE_FAULT] = "triple fault",
        [EXIT_REASON_INTERRUPT_WINDOW] = "interrupt window",
        [EXIT_REASON_NMI_WINDOW] = "NMI window",
        [EXIT_REASON_TASK_SWITCH] = "task switch",
        [EXIT_REASON_CPUID] = "CPUID",
        [EXIT_REASON_HLT] = "HLT",
        [EXIT_REASON_INVLPG] = "INVLPG",
        [EXIT_REASON_RDTSC] = "RDTSC",
        [EXIT_REASON_VMCALL] = "VMCALL",
        [EXIT_REASON_CONTROL_REGISTER_ACCESS] = "control-register access",
        [EXIT_REASON_MOV_DR] = "MOV DR",
        [EXIT_REASON_IO_INSTRUCTION] = "I/O instruction",
        [EXIT_REASON_RDMSR] = "RDMSR",
        [EXIT_REASON_WRMSR] = "WRMSR",
        [EXIT_REASON_ENTRY_FAILURE_GUEST_STATE] = "entry failure: guest state",
        [EXIT_REASON_ENTRY_FAILURE_MSR_LOADING] = "entry failure: MSR loading",
        [EXIT_REASON_MONITOR_TRAP_FLAG] = "monitor trap flag",
        [EXIT_REASON_PAUSE] = "PAUSE",
        [EXIT_REASON_TPR_BELOW_THRESHOLD] = "TPR below threshold",
        [EXIT_REASON_EPT_VIOLATION] = "EPT violation",
        [EXIT_REASON_EPT_MISCONFIGURATION] = "EPT misconfiguration",
        [EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED] = "VMX-preemption timer expired",
        [EXIT_REASON_XSETBV] = "XSETBV",
    };
    reason &= 0xffff;
    return reason < sizeof(names) / sizeof(names[0]) && names[reason] ? names[reason] : "other";
}

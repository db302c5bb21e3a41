/*
 * Every control by itself: the same guest with the control off, where it does nothing, and on, where it does
 * what it says (SDM 27.6-27.8). One table; a row is a control, a guest, and what its run comes to in both
 * cases: mostly the exit reason (VMCALL: the guest got through), or what the row's own function reads.
 *
 * Not here, because off and on are whole tests of their own: APIC virtualization, posted interrupts and IPI
 * virtualization (vmx-apicv.c), PAUSE loops (vmx-modes.c), shadowing (vmx-shadowing.c), MBEC, SPP, HLAT,
 * paging-write control and verification (vmx-mbec.c, vmx-spp.c, vmx-hlat.c), VPIDs (vmx-tlb.c), bus locks and
 * instruction timeouts (vmx-bus-lock.c), host address-space size (vmx-host32.c), SPEC_CTRL and with it the
 * secondary exit controls (vmx-spec-ctrl.c), NMI exiting and virtual NMIs (vmx-nmi.c), the tertiary controls
 * and APIC-timer virtualization (vmx-apic-timer.c), MSR-list instructions (vmx-msr-list.c), EPTP switching
 * (vmx-ept.c), load PKRS of entry and exit (vmx-state.c).
 * Entry to SMM and the dual-monitor treatment have no on outside SMM (vmx-entry-controls.c).
 *
 * Bochs 2.7 passes all of it.
 */
#include "apic.h"
#include "vmx-playground.h"

enum group { PIN, PROC, PROC2, EXIT, ENTRY };
static const struct {
    uint32_t field, msr;
} groups[] = {{PIN_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PINBASED_CTLS},
              {PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PROCBASED_CTLS},
              {SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PROCBASED_CTLS2},
              {PRIMARY_VM_EXIT_CONTROLS, IA32_VMX_EXIT_CTLS},
              {VM_ENTRY_CONTROLS, IA32_VMX_ENTRY_CTLS}};

static uint8_t *page; /* bitmaps, or what a guest may write to */

/* Sets a control or takes it away. */
static void set(enum group g, uint32_t bits, bool on)
{
    if (g == PROC2 && on) vmx_set_proc(PROC_ACTIVATE_SECONDARY_CONTROLS);
    if (g == PROC2 &&
        !(vmread(PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) & PROC_ACTIVATE_SECONDARY_CONTROLS))
        return;
    uint64_t now = vmread(groups[g].field);
    vmwrite(groups[g].field, on ? now | bits : now & ~(uint64_t)bits);
}

CODE(c_hlt, "sti; hlt");
CODE(c_invlpg, "invlpg (%rdi)");
CODE(c_mwait, "xor %eax, %eax; xor %ecx, %ecx; mwait");
CODE(c_monitor, "mov %rdi, %rax; xor %ecx, %ecx; xor %edx, %edx; monitor");
CODE(c_rdpmc, "mov $0x7fff, %ecx; rdpmc");
CODE(c_rdtsc, "rdtsc; shl $32, %rdx; or %rdx, %rax");
CODE(c_to_cr3, "mov %cr3, %rax; mov %rax, %cr3");
CODE(c_from_cr3, "mov %cr3, %rax");
CODE(c_to_cr8, "xor %eax, %eax; mov %rax, %cr8");
CODE(c_from_cr8, "mov $0x55, %eax; mov %cr8, %rax");
CODE(c_from_dr, "mov %dr7, %rax");
CODE(c_in, "in $0xec, %al");
CODE(c_rdmsr, "mov $0x174, %ecx; rdmsr");
CODE(c_pause, "pause");
CODE(c_nop, "nop");
CODE(c_sti, "sti; nop; nop; cli");
CODE(c_sgdt, "sgdt (%rdi)");
CODE(c_sldt, "sldt %eax");
CODE(c_rdtscp, "rdtscp");
CODE(c_wbinvd, "wbinvd");
CODE(c_rdrand, "rdrand %eax");
CODE(c_rdseed, "rdseed %eax");
CODE(c_invpcid, "mov $2, %eax; movq $0, (%rdi); movq $0, 8(%rdi); invpcid (%rdi), %rax");
CODE(c_vmfunc, "mov $1, %eax; vmfunc");
CODE(c_xsaves, "xor %eax, %eax; xor %edx, %edx; xsaves (%rdi)");
CODE(c_tpause, "xor %eax, %eax; xor %edx, %edx; xor %ecx, %ecx; .byte 0x66, 0x0f, 0xae, 0xf1");
CODE(c_read, "mov (%rdi), %eax");
CODE(c_write, "mov %eax, (%rdi)");
CODE(c_spin, "mov $3000000, %ecx; 1: dec %ecx; jnz 1b");
CODE(c_to_dr7, "mov $0x455, %eax; mov %rax, %dr7");
CODE(c_to_pat, "mov $0x277, %ecx; mov $0x06060606, %eax; mov %eax, %edx; wrmsr");
CODE(c_from_pat, "mov $0x277, %ecx; rdmsr; mov %eax, %eax");
CODE(c_to_efer, "mov $0xc0000080, %ecx; rdmsr; xor $1, %eax; wrmsr");
CODE(c_from_efer, "mov $0xc0000080, %ecx; rdmsr; and $1, %eax");

/* What a run came to: an exit reason, unless the row says otherwise. */
static uint64_t reason(struct vmx_exit e) { return e.status == VMX_SUCCEED ? e.reason : 1000 + e.error; }
static uint64_t rax(struct vmx_exit e)
{
    return e.reason == EXIT_REASON_VMCALL ? v.regs.gpr[RAX] : 1000 + e.reason;
}
static uint64_t dr7_field(struct vmx_exit e) { return (void)e, vmread(GUEST_DR7); }
static uint64_t pat_field(struct vmx_exit e) { return (void)e, vmread(GUEST_IA32_PAT); }
static uint64_t pat_host(struct vmx_exit e) { return (void)e, rdmsr(IA32_PAT); }
static uint64_t efer_field(struct vmx_exit e) { return (void)e, vmread(GUEST_IA32_EFER) & EFER_SCE; }
static uint64_t efer_host(struct vmx_exit e) { return (void)e, rdmsr(IA32_EFER) & EFER_SCE; }
static uint64_t timer_field(struct vmx_exit e)
{
    return e.reason == EXIT_REASON_VMCALL ? vmread(VMX_PREEMPTION_TIMER_VALUE) == 0x7fffffff
                                          : 1000 + e.reason;
}
static uint64_t acknowledged(struct vmx_exit e)
{
    uint64_t event = vmread(EXITING_EVENT_IDENTIFICATION);
    return e.reason == EXIT_REASON_EXTERNAL_INTERRUPT ? (event & EVENT_VALID ? event & 0xff : 0)
                                                      : 1000 + e.reason;
}
static uint64_t logged(struct vmx_exit e)
{
    return e.reason == EXIT_REASON_VMCALL ? vmread(PML_INDEX) < 7 : 1000 + e.reason;
}
/* The guest's TSC: ours to a second or so, beyond 2^60, or half */
static uint64_t tsc(struct vmx_exit e)
{
    uint64_t own = rdmsr(IA32_TIME_STAMP_COUNTER), guest = v.regs.gpr[RAX];
    return e.reason != EXIT_REASON_VMCALL ? 1000 + e.reason : guest >> 60 ? 60 : guest < own / 4 * 3 ? 2 : 1;
}

/* What a row needs beside its control. */
static void timer(void)
{
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 65536 >> (rdmsr(IA32_VMX_MISC) & 31));
}
static void timer_at_0(void) { vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0); }
static void timer_long(void)
{
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0x7fffffff);
}
static void io_bitmap(void)
{
    memset(page, 0xff, 4096), memset(page + 4096, 0xff, 4096);
    vmwrite(ADDRESS_OF_IO_BITMAP_A, (uint64_t)page), vmwrite(ADDRESS_OF_IO_BITMAP_B, (uint64_t)page + 4096);
}
static void msr_bitmap(void)
{
    memset(page, 0, 4096);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)page);
}
static void tpr(void)
{
    memset(page, 0, 4096);
    page[0x80] = 0x70;
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)page), vmwrite(TPR_THRESHOLD, 0);
}
static void offset(void) { vmwrite(TSC_OFFSET, 1ul << 60); }
static void half(void)
{
    vmx_set_proc(PROC_USE_TSC_OFFSETTING);
    vmwrite(TSC_OFFSET, 0), vmwrite(TSC_MULTIPLIER, 1ul << 47);
}
static void virtual_nmis(void) { vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS); }
static void osxsave(void)
{
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_OSXSAVE), vmwrite(XSS_EXITING_BITMAP, 0);
}
static void interrupt(void)
{
    vmwrite(GUEST_RFLAGS, vmread(GUEST_RFLAGS) | RFLAGS_IF);
    apic_self_ipi(0x51);
}
static void interrupt_exits(void)
{
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    interrupt();
}
static void paging_off(void) { vmx_guest_protected_mode(); }
static void other_page(void) /* EPT leads to it */
{
    *(uint32_t *)playground = 1;
    *(uint32_t *)page = 2;
    set_entry((uint64_t)page | EPT_TYPE_WB | EPT_RWX);
}
static void pml(void)
{
    vmwrite(EPTP, vmread(EPTP) | 1 << 6);
    vmwrite(PML_ADDRESS, (uint64_t)page), vmwrite(PML_INDEX, 7);
}
static void violation(void)
{
    memset(page, 0, 4096);
    vmwrite(VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, (uint64_t)page);
    set_entry(0);
    vmwrite(EXCEPTION_BITMAP, 1u << 20);
}
static void guest_dr7(void) { vmwrite(GUEST_DR7, 0x400); }
static void field_dr7(void) { vmwrite(GUEST_DR7, 0x455); }
static void pat(void) { vmwrite(GUEST_IA32_PAT, 0x0007040600070406); }
static void pat_of_guest(void) { vmwrite(GUEST_IA32_PAT, 0x0606060606060606); }
static void pat_of_host(void) { vmwrite(HOST_IA32_PAT, 0x0606060606060606); }
static void efer_of_guest(void) { vmwrite(GUEST_IA32_EFER, rdmsr(IA32_EFER) ^ EFER_SCE); }
static void efer_of_host(void) { vmwrite(HOST_IA32_EFER, rdmsr(IA32_EFER) ^ EFER_SCE); }

#define VMCALL EXIT_REASON_VMCALL
#define UD     (EXIT_REASON_EXCEPTION_OR_NMI | 0x600) /* see run() */
#define EPT    1u

static const struct control {
    enum group group;
    uint32_t bits;
    const char *name;
    const uint8_t *code;
    uint64_t off, on;
    void (*before)(void);
    uint64_t (*outcome)(struct vmx_exit e);
    uint32_t flags, needs_proc2;
} controls[] = {
    // clang-format off
    {PIN, PIN_EXTERNAL_INTERRUPT_EXITING, "PIN_EXTERNAL_INTERRUPT_EXITING", c_nop, VMCALL, EXIT_REASON_EXTERNAL_INTERRUPT, interrupt, reason, 0, 0},
    {PIN, PIN_ACTIVATE_VMX_PREEMPTION_TIMER, "PIN_ACTIVATE_VMX_PREEMPTION_TIMER", c_spin, VMCALL, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, timer_at_0, reason, 0, 0},
    {PROC, PROC_INTERRUPT_WINDOW_EXITING, "PROC_INTERRUPT_WINDOW_EXITING", c_sti, VMCALL, EXIT_REASON_INTERRUPT_WINDOW, NULL, reason, 0, 0},
    {PROC, PROC_USE_TSC_OFFSETTING, "PROC_USE_TSC_OFFSETTING", c_rdtsc, 1, 60, offset, tsc, 0, 0},
    {PROC, PROC_HLT_EXITING, "PROC_HLT_EXITING", c_hlt, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, EXIT_REASON_HLT, timer, reason, 0, 0},
    {PROC, PROC_INVLPG_EXITING, "PROC_INVLPG_EXITING", c_invlpg, VMCALL, EXIT_REASON_INVLPG, NULL, reason, 0, 0},
    {PROC, PROC_MWAIT_EXITING, "PROC_MWAIT_EXITING", c_mwait, VMCALL, EXIT_REASON_MWAIT, NULL, reason, 0, 0},
    {PROC, PROC_RDPMC_EXITING, "PROC_RDPMC_EXITING", c_rdpmc, EXIT_REASON_EXCEPTION_OR_NMI | 0xd00, EXIT_REASON_RDPMC, NULL, reason, 0, 0},
    {PROC, PROC_RDTSC_EXITING, "PROC_RDTSC_EXITING", c_rdtsc, VMCALL, EXIT_REASON_RDTSC, NULL, reason, 0, 0},
    {PROC, PROC_CR3_LOAD_EXITING, "PROC_CR3_LOAD_EXITING", c_to_cr3, VMCALL, EXIT_REASON_CONTROL_REGISTER_ACCESS, NULL, reason, 0, 0},
    {PROC, PROC_CR3_STORE_EXITING, "PROC_CR3_STORE_EXITING", c_from_cr3, VMCALL, EXIT_REASON_CONTROL_REGISTER_ACCESS, NULL, reason, 0, 0},
    {PROC, PROC_CR8_LOAD_EXITING, "PROC_CR8_LOAD_EXITING", c_to_cr8, VMCALL, EXIT_REASON_CONTROL_REGISTER_ACCESS, NULL, reason, 0, 0},
    {PROC, PROC_CR8_STORE_EXITING, "PROC_CR8_STORE_EXITING", c_from_cr8, VMCALL, EXIT_REASON_CONTROL_REGISTER_ACCESS, NULL, reason, 0, 0},
    {PROC, PROC_USE_TPR_SHADOW, "PROC_USE_TPR_SHADOW", c_from_cr8, 0, 7, tpr, rax, 0, 0},
    {PROC, PROC_NMI_WINDOW_EXITING, "PROC_NMI_WINDOW_EXITING", c_nop, VMCALL, EXIT_REASON_NMI_WINDOW, virtual_nmis, reason, 0, 0},
    {PROC, PROC_MOV_DR_EXITING, "PROC_MOV_DR_EXITING", c_from_dr, VMCALL, EXIT_REASON_MOV_DR, NULL, reason, 0, 0},
    {PROC, PROC_UNCONDITIONAL_IO_EXITING, "PROC_UNCONDITIONAL_IO_EXITING", c_in, VMCALL, EXIT_REASON_IO_INSTRUCTION, NULL, reason, 0, 0},
    {PROC, PROC_USE_IO_BITMAPS, "PROC_USE_IO_BITMAPS", c_in, VMCALL, EXIT_REASON_IO_INSTRUCTION, io_bitmap, reason, 0, 0},
    {PROC, PROC_MONITOR_TRAP_FLAG, "PROC_MONITOR_TRAP_FLAG", c_nop, VMCALL, EXIT_REASON_MONITOR_TRAP_FLAG, NULL, reason, 0, 0},
    {PROC, PROC_USE_MSR_BITMAPS, "PROC_USE_MSR_BITMAPS", c_rdmsr, EXIT_REASON_RDMSR, VMCALL, msr_bitmap, reason, 0, 0},
    {PROC, PROC_MONITOR_EXITING, "PROC_MONITOR_EXITING", c_monitor, VMCALL, EXIT_REASON_MONITOR, NULL, reason, 0, 0},
    {PROC, PROC_PAUSE_EXITING, "PROC_PAUSE_EXITING", c_pause, VMCALL, EXIT_REASON_PAUSE, NULL, reason, 0, 0},
    {PROC, PROC_ACTIVATE_SECONDARY_CONTROLS, "PROC_ACTIVATE_SECONDARY_CONTROLS", c_wbinvd, VMCALL, EXIT_REASON_WBINVD, NULL, reason, 0, PROC2_WBINVD_EXITING},
    {PROC2, PROC2_ENABLE_EPT, "PROC2_ENABLE_EPT", c_read, 1, 2, other_page, rax, EPT, 0},
    {PROC2, PROC2_DESCRIPTOR_TABLE_EXITING, "PROC2_DESCRIPTOR_TABLE_EXITING", c_sgdt, VMCALL, EXIT_REASON_GDTR_IDTR_ACCESS, NULL, reason, 0, 0},
    {PROC2, PROC2_DESCRIPTOR_TABLE_EXITING, "PROC2_DESCRIPTOR_TABLE_EXITING, SLDT", c_sldt, VMCALL, EXIT_REASON_LDTR_TR_ACCESS, NULL, reason, 0, 0},
    {PROC2, PROC2_ENABLE_RDTSCP, "PROC2_ENABLE_RDTSCP", c_rdtscp, UD, VMCALL, NULL, reason, 0, 0},
    {PROC2, PROC2_WBINVD_EXITING, "PROC2_WBINVD_EXITING", c_wbinvd, VMCALL, EXIT_REASON_WBINVD, NULL, reason, 0, 0},
    {PROC2, PROC2_UNRESTRICTED_GUEST, "PROC2_UNRESTRICTED_GUEST", c_nop, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE, VMCALL, paging_off, reason, EPT, 0},
    {PROC2, PROC2_RDRAND_EXITING, "PROC2_RDRAND_EXITING", c_rdrand, VMCALL, EXIT_REASON_RDRAND, NULL, reason, 0, 0},
    {PROC2, PROC2_RDSEED_EXITING, "PROC2_RDSEED_EXITING", c_rdseed, VMCALL, EXIT_REASON_RDSEED, NULL, reason, 0, 0},
    {PROC2, PROC2_ENABLE_INVPCID, "PROC2_ENABLE_INVPCID", c_invpcid, UD, VMCALL, NULL, reason, 0, 0},
    {PROC2, PROC2_ENABLE_VM_FUNCTIONS, "PROC2_ENABLE_VM_FUNCTIONS", c_vmfunc, UD, EXIT_REASON_VMFUNC, NULL, reason, EPT, 0},
    {PROC2, PROC2_ENABLE_PML, "PROC2_ENABLE_PML", c_write, 0, 1, pml, logged, EPT, 0},
    {PROC2, PROC2_EPT_VIOLATION_VE, "PROC2_EPT_VIOLATION_VE", c_read, EXIT_REASON_EPT_VIOLATION, EXIT_REASON_EXCEPTION_OR_NMI | 0x1400, violation, reason, EPT, 0},
    {PROC2, PROC2_ENABLE_XSAVES_XRSTORS, "PROC2_ENABLE_XSAVES_XRSTORS", c_xsaves, UD, VMCALL, osxsave, reason, 0, 0},
    {PROC2, PROC2_USE_TSC_SCALING, "PROC2_USE_TSC_SCALING", c_rdtsc, 1, 2, half, tsc, 0, 0},
    {PROC2, PROC2_ENABLE_USER_WAIT_AND_PAUSE, "PROC2_ENABLE_USER_WAIT_AND_PAUSE", c_tpause, UD, VMCALL, NULL, reason, 0, 0},
    {EXIT, EXIT_SAVE_DEBUG_CONTROLS, "EXIT_SAVE_DEBUG_CONTROLS", c_to_dr7, 0x400, 0x455, guest_dr7, dr7_field, 0, 0},
    {EXIT, EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT, "EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT", c_nop, 0, 0x51, interrupt_exits, acknowledged, 0, 0},
    {EXIT, EXIT_SAVE_IA32_PAT, "EXIT_SAVE_IA32_PAT", c_to_pat, 0x0007040600070406, 0x0606060606060606, pat, pat_field, 0, 0},
    {EXIT, EXIT_LOAD_IA32_PAT, "EXIT_LOAD_IA32_PAT", c_nop, 0x0007040600070406, 0x0606060606060606, pat_of_host, pat_host, 0, 0},
    {EXIT, EXIT_SAVE_IA32_EFER, "EXIT_SAVE_IA32_EFER", c_to_efer, 0, 1, NULL, efer_field, 0, 0},
    {EXIT, EXIT_LOAD_IA32_EFER, "EXIT_LOAD_IA32_EFER", c_nop, 0, 1, efer_of_host, efer_host, 0, 0},
    {EXIT, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE, "EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE", c_spin, 1, 0, timer_long, timer_field, 0, 0},
    {ENTRY, ENTRY_LOAD_DEBUG_CONTROLS, "ENTRY_LOAD_DEBUG_CONTROLS", c_from_dr, 0x400, 0x455, field_dr7, rax, 0, 0},
    {ENTRY, ENTRY_IA_32E_MODE_GUEST, "ENTRY_IA_32E_MODE_GUEST", c_nop, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE, VMCALL, NULL, reason, 0, 0},
    {ENTRY, ENTRY_LOAD_IA32_PAT, "ENTRY_LOAD_IA32_PAT", c_from_pat, 0x00070406, 0x06060606, pat_of_guest, rax, 0, 0},
    {ENTRY, ENTRY_LOAD_IA32_EFER, "ENTRY_LOAD_IA32_EFER", c_from_efer, 0, 1, efer_of_guest, rax, 0, 0},
    // clang-format on
};

/* An exception's vector is part of the outcome. */
static uint64_t run(const struct control *c, bool on)
{
    static const uint64_t sce = EFER_SCE;
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~sce);
    wrmsr(IA32_PAT, 0x0007040600070406);
    (c->flags & EPT ? guest_init_ept : guest_init)(&v, c->code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)playground;
    set(PROC, PROC_CR3_LOAD_EXITING | PROC_CR3_STORE_EXITING, false);
    set(EXIT, EXIT_SAVE_DEBUG_CONTROLS, false);
    set(ENTRY, ENTRY_LOAD_DEBUG_CONTROLS, false);
    msr_bitmap(), set(PROC, PROC_USE_MSR_BITMAPS, true);
    if (c->needs_proc2) vmx_set_proc2(c->needs_proc2);
    if (c->before) c->before();
    set(c->group, c->bits, on);
    struct vmx_exit e = vmx_run(&v);
    uint64_t outcome = c->outcome(e);
    apic_eoi();
    asm volatile("sti; nop; cli"); /* an interrupt that is still there */
    wrmsr(IA32_PAT, 0x0007040600070406);
    if (c->outcome == reason && e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EXCEPTION_OR_NMI)
        outcome |= (vmread(EXITING_EVENT_IDENTIFICATION) & 0xff) << 8;
    return outcome;
}

static bool have(uint32_t leaf, uint32_t sub, unsigned word, unsigned bit)
{
    struct cpuid c = cpuid_if_present(leaf, sub);
    return (word == 1 ? c.ebx : word == 2 ? c.ecx : word == 3 ? c.edx : c.eax) >> bit & 1;
}

/* The instruction is there, and what the row needs. */
static bool possible(const struct control *c)
{
    if (c->flags & EPT && !vmx_has_secondary(PROC2_ENABLE_EPT)) return false;
    if (c->needs_proc2 && !vmx_has_secondary(c->needs_proc2)) return false;
    if (c->code == c_mwait || c->code == c_monitor) return have(1, 0, 2, 3);
    if (c->before == virtual_nmis) return vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS);
    if (c->bits == PROC2_ENABLE_PML && c->group == PROC2) return ept_cap >> 21 & 1;
    return vmx_allowed(groups[c->group].msr, c->bits) == c->bits;
}

/* May it be 0? */
static bool optional(const struct control *c) { return !(vmx_adjust(groups[c->group].msr, 0) & c->bits); }

static bool taken(struct trap_frame *f)
{
    (void)f;
    apic_eoi();
    return true;
}
static bool spurious(struct trap_frame *f) { return f != NULL; }

int rom_main(void)
{
    if (!vmx_test_begin("every control, off and on")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    playground_init();
    page = page_alloc(2);
    apic_enable();
    trap_on(0x51, taken), trap_on(APIC_SPURIOUS_VECTOR, spurious);
    for (unsigned i = 0; i < sizeof(controls) / sizeof(controls[0]); i++) {
        const struct control *c = &controls[i];
        if (!possible(c)) {
            skip_one(c->name, "not offered by this processor");
            skip_one(c->name, "not offered by this processor");
            continue;
        }
        if (optional(c))
            is(run(c, false), c->off, "%s off", c->name);
        else
            skip_one(c->name, "this processor cannot have it off");
        is(run(c, true), c->on, "%s on", c->name);
    }
    return tap_end();
}

/*
 * Debug exceptions of guests and the monitor trap flag: what an exit says of breakpoints, single steps and
 * general detect, what it leaves alone, what stays pending (SDM 28.2, 28.5.2, 30.2.1, 30.3.4); the monitor
 * trap flag in the cases of SDM 28.5.2 that vmx-events.c does not have.
 */
#include "apic.h"
#include "vmx-common.h"

#define CODE(name, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": " before "; " #name "_at: " instruction "; " #name \
        "_end: vmcall; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

#define DB        (EVENT_VALID | EVENT_HARDWARE_EXCEPTION | VECTOR_DB)
#define DEFINED   0x600ful /* of the qualification: B0-B3, BD, BS */
#define BS        (1ul << 14)
#define BD        (1ul << 13)
#define CLEAR_DR6 0xffff0ff0ul
#define NOWHERE   0x5000000000ul

CODE(d_store, "nop", "mov %eax, (%rsi); nop");
CODE(d_out, "mov $0xec, %edx", "out %al, %dx; nop");
CODE(d_nop, "nop", "nop; nop; nop");
CODE(d_branch, "nop; nop", "jmp 1f; nop; 1: nop; nop");
CODE(d_from_dr0, "nop", "mov %db0, %rax");
CODE(d_mov_ss, "nop", "mov (%rsi), %ss; cpuid");
CODE(d_hlt, "", "hlt; nop");
CODE(d_int, "", "int $0x80");
CODE(d_int3, "", "int3");
CODE(d_int1, "", ".byte 0xf1");
CODE(d_cpuid, "", "cpuid; nop; nop");
CODE(d_rep, "", "rep movsb");

static struct vmx_vcpu v;
static uint32_t cell[4] __attribute__((aligned(16)));

static void set_dr(unsigned n, uint64_t value)
{
    switch (n) {
    case 0: asm volatile("mov %0, %%dr0" ::"r"(value)); break;
    case 1: asm volatile("mov %0, %%dr1" ::"r"(value)); break;
    case 2: asm volatile("mov %0, %%dr2" ::"r"(value)); break;
    default: asm volatile("mov %0, %%dr3" ::"r"(value));
    }
}

static void start(const void *code, uint64_t dr7)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RSI] = (uint64_t)cell;
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_DB);
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_DEBUG_CONTROLS);
    vmwrite(GUEST_DR7, dr7 | 0x400);
    vmx_clear_proc(PROC_MOV_DR_EXITING);
    for (unsigned n = 0; n < 4; n++) set_dr(n, 0);
    write_dr6(CLEAR_DR6);
    cell[0] = SEL_DATA;
}

/* A #DB that exits, with DR6 and DR7 as they were. */
static void debug_is(uint64_t qualification, const uint8_t *rip, const char *name)
{
    uint64_t dr7 = vmread(GUEST_DR7);
    struct vmx_exit e = vmx_run(&v);
    uint64_t event = vmread(EXITING_EVENT_IDENTIFICATION);
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EXCEPTION_OR_NMI && event == DB &&
                (e.qualification & DEFINED) == qualification && vmread(GUEST_RIP) == (uint64_t)rip,
            "%s", name))
        tap_note("  reason %u, event %lx, qualification %lx (want %lx), rip off by %ld", e.reason, event,
                 e.qualification, qualification, (int64_t)(vmread(GUEST_RIP) - (uint64_t)rip));
    ok(read_dr6() == CLEAR_DR6 && vmread(GUEST_DR7) == dr7, "  SDM 28.1: DR6 and DR7 are as they were");
}

static void breakpoints(void)
{
    unsigned wrong = 0;
    for (unsigned n = 0; n < 4; n++) { /* 4 bytes, written */
        start(d_store, 1ul << 2 * n | 0xdul << (16 + 4 * n));
        set_dr(n, (uint64_t)cell);
        struct vmx_exit e = vmx_run(&v);
        bool good = e.reason == EXIT_REASON_EXCEPTION_OR_NMI && vmread(EXITING_EVENT_IDENTIFICATION) == DB &&
                    (e.qualification & DEFINED) == 1u << n && vmread(GUEST_RIP) == (uint64_t)d_store_at + 2;
        if (!good) tap_note("  %u: reason %u, qualification %lx", n, e.reason, e.qualification);
        wrong += !good;
    }
    is(wrong, 0, "SDM 30.2.1: B0 to B3, a data breakpoint each");
    start(d_store, 1 | 1 << 6 | 0xdul << 16 | 0xdul << 28);
    set_dr(0, (uint64_t)cell), set_dr(3, (uint64_t)cell);
    debug_is(1 | 8, d_store_at + 2, "SDM 30.2.1: two data breakpoints at once");
    start(d_store, 1 | 0xdul << 16);
    set_dr(0, (uint64_t)cell);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    vmwrite(GUEST_RIP, (uint64_t)d_store_at);
    debug_is(1 | BS, d_store_at + 2, "SDM 30.2.1: a data breakpoint and the single step of its instruction");
    start(d_out, 1 << 2 | 2ul << 20);
    set_dr(1, 0xec);
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_DE);
    debug_is(2, d_out_at + 1, "SDM 30.2.1: an I/O breakpoint");
    start(d_nop, 1 << 4);
    set_dr(2, (uint64_t)d_nop_at);
    debug_is(4, d_nop_at, "SDM 30.2.1: an instruction breakpoint, before its instruction");
    is(cell[0], SEL_DATA, "  which has done nothing");
    vmwrite(GUEST_RFLAGS, vmread(GUEST_RFLAGS) | RFLAGS_RF);
    done(&v, "  with RF it goes on");
    start(d_nop, 0);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    debug_is(BS, d_nop + 1, "SDM 30.2.1: a single step");
    start(d_from_dr0, 1 << 13);
    debug_is(BD, d_from_dr0_at, "SDM 30.2.1: general detect, before its instruction");
    /* Delivered, they change DR6 (and general detect DR7). */
    start(d_store, 1 | 0xdul << 16);
    set_dr(0, (uint64_t)cell);
    vmwrite(EXCEPTION_BITMAP, 0);
    delivery_is(&v, VECTOR_DB, "a data breakpoint that does not exit is delivered");
    is(read_dr6(), CLEAR_DR6 | 1, "  and DR6 says so");
    start(d_from_dr0, 1 << 13);
    vmwrite(EXCEPTION_BITMAP, 0);
    delivery_is(&v, VECTOR_DB, "general detect that does not exit is delivered");
    ok(read_dr6() == (CLEAR_DR6 | BD) && vmread(GUEST_DR7) == 0x400, "  DR6 says so, and DR7.GD is clear");
}

PROBE(read_debugctl, "mov $0x1d9, %ecx; rdmsr");

static void branches(void)
{
    if (trap_catch(read_debugctl, 0, 0).vector != TRAP_NONE) {
        skip(2, "no IA32_DEBUGCTL");
        return;
    }
    start(d_branch, 0);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    vmwrite(GUEST_IA32_DEBUGCTL, 2);
    debug_is(BS, d_branch_at + 3, "SDM 30.2.1: BS of a taken branch, with IA32_DEBUGCTL.BTF");
}

static void pending(void)
{
    for (unsigned tf = 0; tf < 2; tf++) {
        start(d_mov_ss, 1 | 0xful << 16);
        set_dr(0, (uint64_t)cell);
        vmwrite(GUEST_RIP, (uint64_t)d_mov_ss_at);
        if (tf) vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
        exit_is(&v, EXIT_REASON_CPUID,
                tf ? "  the same with TF" : "SDM 30.3.4: MOV SS that meets a breakpoint, then an exit");
        is(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0x1001 | (tf ? BS : 0),
           "  pending: B0, enabled breakpoint, BS");
        is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_MOV_SS, "  blocking by MOV SS");
        vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
        vmwrite(GUEST_RIP, (uint64_t)d_mov_ss_end);
        debug_is(1 | (tf ? BS : 0), d_mov_ss_end, "  and it comes with the next entry");
    }
    start(d_nop, 0);
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0x100f);
    debug_is(0xf, d_nop, "SDM 29.7.3: pending debug exceptions: B3 to B0 as the field has them");
    start(d_nop, 0);
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0xf);
    done(&v, "SDM 29.7.3: without enabled breakpoint and BS nothing is pending");
}

/* ---- monitor trap flag ---- */

static bool trapping(const void *code)
{
    start(code, 0);
    vmwrite(EXCEPTION_BITMAP, 0);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_MONITOR_TRAP_FLAG)) return false;
    vmx_set_proc(PROC_MONITOR_TRAP_FLAG);
    return true;
}

static void trap_is(uint64_t rip, const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_MONITOR_TRAP_FLAG && e.qualification == 0 &&
                vmread(GUEST_RIP) == rip,
            "%s", name))
        tap_note("  status %d, reason %u, rip off by %ld", (int)e.status, e.reason,
                 (int64_t)(vmread(GUEST_RIP) - rip));
}
/* Where vector n's handler begins: before its NOP (vmx-common.c). */
static uint64_t handler(unsigned vector) { return guest_handler(vector) - 1; }

static bool taken(struct trap_frame *f)
{
    (void)f;
    apic_eoi();
    return true;
}

static void monitor_trap_flag(void)
{
    if (!trapping(d_hlt)) {
        skip(13, "no monitor trap flag");
        return;
    }
    trap_is((uint64_t)d_hlt_at + 1, "SDM 28.5.2: MTF behind HLT");
    is(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT, "  from the HLT state");
    trapping(d_int);
    trap_is(handler(0x80), "SDM 28.5.2: MTF behind INT n: before the handler's first instruction");
    trapping(d_int3);
    trap_is(handler(VECTOR_BP), "  INT3");
    trapping(d_int1);
    trap_is(handler(VECTOR_DB), "  INT1");
    trapping(d_rep);
    v.regs.gpr[RCX] = 2, v.regs.gpr[RSI] = NOWHERE;
    trap_is(handler(VECTOR_PF),
            "SDM 28.5.2: MTF behind a string instruction that faults: before the handler");
    trapping(d_nop);
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, BS), vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    trap_is(handler(VECTOR_DB),
            "SDM 28.5.2: MTF with a debug exception that is delivered first: before its handler");
    trap_on(0x51, taken);
    apic_enable();
    trapping(d_nop);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    apic_self_ipi(0x51);
    trap_is(handler(0x51), "SDM 28.5.2: MTF with an interrupt that is delivered first: before its handler");
    apic_eoi();
    trapping(d_cpuid);
    exit_is(&v, EXIT_REASON_CPUID, "SDM 28.5.2: an exit that comes before MTF");
    vmx_skip_instruction();
    vmx_clear_proc(PROC_MONITOR_TRAP_FLAG);
    done(&v, "  leaves no MTF pending");
    if (!(rdmsr(IA32_VMX_MISC) & 1u << 7) ||
        !vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        skip(3, "no shutdown activity state");
        return;
    }
    trapping(d_nop);
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 65536 >> (rdmsr(IA32_VMX_MISC) & 31));
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
    exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "SDM 28.5.2: in shutdown there is no MTF");
    trapping(d_nop);
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_NMI | VECTOR_NMI);
    trap_is(handler(VECTOR_NMI), "  but behind an NMI that ends it");
    is(vmread(GUEST_ACTIVITY_STATE), 0, "  in the active state");
}

int rom_main(void)
{
    if (!vmx_test_begin("debug exceptions of guests, monitor trap flag")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    breakpoints();
    branches();
    pending();
    monitor_trap_flag();
    for (unsigned n = 0; n < 4; n++) set_dr(n, 0);
    write_dr6(CLEAR_DR6);
    return tap_end();
}

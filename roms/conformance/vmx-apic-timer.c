/*
 * APIC-timer virtualization: RDMSR and WRMSR of IA32_TSC_DEADLINE in a guest, the guest timer, its deadline
 * by the guest's clock and by the processor's, what its event does and what goes before it
 * (SDM 27.6.27, 28.3, 28.5.10, 29.3.2.5, 30.3.4, 30.5.5). The checks of VM entry are in vmx-entry-controls.c.
 *
 * SDM 28.5.10.2 has the event above interrupt windows and below external interrupts; 28.2 has windows above
 * external interrupts. What comes first of all three is not asked.
 *
 * Bochs 2.7 and QEMU do not have it.
 */
#include "vmx-common.h"
#include "apic.h"

#define CODE(name, instructions) \
    asm(".pushsection .text; .balign 16; " #name ": " instructions "; " #name "_end: vmcall; .popsection"); \
    extern const uint8_t name[], name##_end[]
/* RDI: the deadline to write, and where what RDMSR gives goes. RSI: ticks from now, by the guest's clock. */
#define DEADLINE "mov $0x6e0, %ecx; "
CODE(g_read, DEADLINE "rdmsr; mov %eax, (%rdi); mov %edx, 4(%rdi)");
CODE(g_write, DEADLINE "mov (%rdi), %eax; mov 4(%rdi), %edx; wrmsr; nop");
CODE(g_write_read,
     DEADLINE "mov (%rdi), %eax; mov 4(%rdi), %edx; wrmsr; rdmsr; mov %eax, (%rdi); mov %edx, 4(%rdi)");
#define SOON \
    "rdtsc; shl $32, %rdx; or %rdx, %rax; add %rsi, %rax; mov %rax, (%rdi); " \
    "mov %rax, %rdx; shr $32, %rdx; " DEADLINE "wrmsr; "
CODE(g_soon, SOON "1: pause; jmp 1b");
CODE(g_soon_hlt, SOON "1: hlt; jmp 1b");
CODE(g_nop, "nop; nop");
CODE(g_sti, "nop; sti; nop; nop");
CODE(g_hlt, "hlt");

enum { VECTOR = 0x61 };
static struct vmx_vcpu v;
static uint8_t *vapic, *msr_bitmaps;
static uint64_t word;
static unsigned host_interrupts;

static uint32_t get(unsigned offset) { return *(volatile uint32_t *)(vapic + offset); }

static void start(const void *code, bool interrupts)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)&word;
    vmx_clear_proc(PROC_RDTSC_EXITING | PROC_HLT_EXITING);
    vmx_set_proc(PROC_USE_MSR_BITMAPS | PROC_USE_TPR_SHADOW);
    vmx_set_proc2(PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    vmx_set_proc3(PROC3_APIC_TIMER_VIRTUALIZATION);
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    memset(vapic, 0, 4096);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)msr_bitmaps);
    vmwrite(GUEST_INTERRUPT_STATUS, 0);
    vmwrite(VIRTUAL_TIMER_VECTOR, VECTOR);
    vmwrite(GUEST_DEADLINE, 0);
    vmwrite(GUEST_DEADLINE_SHADOW, 0);
    vmwrite(GUEST_RFLAGS, interrupts ? RFLAGS_FIXED | RFLAGS_IF : RFLAGS_FIXED);
}

static void expired(const char *name)
{
    is(vmread(GUEST_DEADLINE), 0, "%s", name);
    is(vmread(GUEST_DEADLINE_SHADOW), 0, "  and its shadow");
}

static void accesses(void)
{
    uint64_t far = rdtsc() + (1ul << 44);
    start(g_write_read, false);
    word = far;
    done(&v, "SDM 28.3: WRMSR of a deadline to come");
    is(word, far, "  RDMSR gives it back");
    is(vmread(GUEST_DEADLINE_SHADOW), far, "  from the guest-deadline shadow");
    is(vmread(GUEST_DEADLINE), far, "SDM 30.3.4: VM exit saves the guest deadline");
    is(vmread(GUEST_INTERRUPT_STATUS), 0, "  nothing is requested");
    start(g_read, false);
    word = 0;
    vmwrite(GUEST_DEADLINE, far);
    vmwrite(GUEST_DEADLINE_SHADOW, 0x123456789abcdef);
    done(&v, "SDM 28.3: RDMSR");
    is(word, 0x123456789abcdef, "  gives the shadow, whatever the deadline is");
    is(vmread(GUEST_DEADLINE), far, "SDM 29.3.2.5: VM entry loads the guest deadline");
    start(g_write, false);
    vmwrite(GUEST_DEADLINE, far);
    vmwrite(GUEST_DEADLINE_SHADOW, far);
    word = 0;
    done(&v, "SDM 28.3: WRMSR of 0");
    expired("  disarms the timer");
    is(vmread(GUEST_INTERRUPT_STATUS), 0, "  and requests nothing");
    start(g_write, true);
    word = 1;
    uint64_t *frame = delivery_is(&v, VECTOR, "SDM 28.3: WRMSR of a deadline that is over");
    is(frame[0], (uint64_t)g_write_end - 1, "  the interrupt comes right behind it");
    expired("  the deadline is cleared");
    is(vmread(GUEST_INTERRUPT_STATUS), VECTOR << 8, "  it is in service");

    start(g_nop, false);
    vmwrite(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, 0);
    vmwrite(GUEST_DEADLINE, 1);
    done(&v, "without the control nothing happens at the deadline");
    is(vmread(GUEST_INTERRUPT_STATUS), 0, "  nothing is requested");
    is(vmread(GUEST_DEADLINE), 0, "SDM 30.3.4: VM exit saves that none is armed");

    msr_bitmaps[0x6e0 / 8] |= 1, msr_bitmaps[2048 + 0x6e0 / 8] |= 1;
    start(g_read, false);
    exit_is(&v, EXIT_REASON_RDMSR, "SDM 28.1.3: the MSR bitmaps go before it: RDMSR");
    start(g_write, false);
    exit_is(&v, EXIT_REASON_WRMSR, "  WRMSR");
    msr_bitmaps[0x6e0 / 8] &= 0xfe, msr_bitmaps[2048 + 0x6e0 / 8] &= 0xfe;
}

/* The guest's clock and the processor's. */
static void clocks(void)
{
    uint64_t far = rdtsc() + (1ul << 44), offset = 0xfff0000000000000;
    start(g_write, false);
    vmx_set_proc(PROC_USE_TSC_OFFSETTING);
    vmwrite(TSC_OFFSET, offset);
    word = far + offset;
    done(&v, "SDM 28.3: a deadline under TSC offsetting");
    is(vmread(GUEST_DEADLINE_SHADOW), far + offset, "  the shadow is the guest's");
    is(vmread(GUEST_DEADLINE), far, "  the deadline is the processor's");
    start(g_write, false);
    vmx_set_proc(PROC_USE_TSC_OFFSETTING);
    vmwrite(TSC_OFFSET, 1ul << 60);
    word = far;
    done(&v, "SDM 28.3: a deadline that the guest's clock has reached and the processor's not");
    is(vmread(GUEST_INTERRUPT_STATUS), VECTOR, "  is over");
    expired("  and cleared");
    if (!vmx_has_secondary(PROC2_USE_TSC_SCALING)) {
        skip(7, "no TSC scaling");
        return;
    }
    start(g_write, false);
    vmx_set_proc(PROC_USE_TSC_OFFSETTING);
    vmx_set_proc2(PROC2_USE_TSC_SCALING);
    vmwrite(TSC_OFFSET, 0x1000);
    vmwrite(TSC_MULTIPLIER, 1ul << 50);
    word = far * 4 + 0x1000;
    done(&v, "SDM 28.3: a deadline under TSC scaling by 4");
    is(vmread(GUEST_DEADLINE_SHADOW), far * 4 + 0x1000, "  the shadow is the guest's");
    is(vmread(GUEST_DEADLINE), far, "  the deadline is the processor's");
    start(g_soon, true);
    vmx_set_proc(PROC_USE_TSC_OFFSETTING);
    vmx_set_proc2(PROC2_USE_TSC_SCALING);
    vmwrite(TSC_OFFSET, 0x1000);
    vmwrite(TSC_MULTIPLIER, 1ul << 52);
    v.regs.gpr[RSI] = 1 << 22;
    uint64_t before = rdtsc();
    delivery_is(&v, VECTOR, "SDM 28.5.10: a timer of a guest whose clock is 16 times as fast");
    uint64_t passed = rdtsc() - before;
    ok(passed >= 1 << 18, "  does not come sooner than by its clock");
    ok(passed < 1 << 22, "  nor as late as by the processor's");
    ok(get(0x100 + VECTOR / 32 * 16) == 1u << VECTOR % 32, "  it is in service");
}

static void events(void)
{
    start(g_soon, true);
    v.regs.gpr[RSI] = 100000;
    delivery_is(&v, VECTOR, "SDM 28.5.10.2: a guest that runs gets the interrupt");
    ok(rdtsc() >= word, "  not before the deadline");
    expired("  the deadline is cleared");
    start(g_soon_hlt, true);
    v.regs.gpr[RSI] = 100000;
    delivery_is(&v, VECTOR, "SDM 28.5.10.2: in HLT too, which it ends");
    ok(rdtsc() >= word, "  not before the deadline");
    is(vmread(GUEST_ACTIVITY_STATE), 0, "  for good");
    start(g_nop, false);
    vmwrite(GUEST_DEADLINE, 1);
    vmwrite(GUEST_DEADLINE_SHADOW, 77);
    done(&v, "SDM 28.5.10.1: a deadline that is over at VM entry, IF=0");
    is(vmread(GUEST_INTERRUPT_STATUS), VECTOR, "  is requested in RVI");
    is(get(0x200 + VECTOR / 32 * 16), 1u << VECTOR % 32, "  and in VIRR");
    expired("  the deadline is cleared");
    start(g_sti, false);
    vmwrite(GUEST_DEADLINE, 1);
    uint64_t *frame = delivery_is(&v, VECTOR, "  STI");
    is(frame[0], (uint64_t)g_sti + 3, "  lets it in one instruction later");
    start(g_nop, false);
    vmwrite(GUEST_DEADLINE, 1);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x91);
    done(&v, "SDM 28.5.10.2: a higher vector that is requested");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x91, "  stays RVI");
    is(get(0x200 + VECTOR / 32 * 16), 1u << VECTOR % 32, "  the timer's is in VIRR");
    start(g_nop, true);
    vmwrite(GUEST_DEADLINE, 1);
    vmwrite(VIRTUAL_TIMER_VECTOR, 0);
    done(&v, "a virtual timer vector of 0");
    is(get(0x200), 1, "  is bit 0 of VIRR");
    expired("  and nothing is delivered");
    /* A guest that is halted with IF=0 stays so: the VMX-preemption timer ends it. */
    if (vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        start(g_hlt, false);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, (1 << 20) >> (rdmsr(IA32_VMX_MISC) & 31));
        vmwrite(GUEST_DEADLINE, rdtsc() + 50000);
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED,
                "SDM 28.5.10.2: a guest in HLT with IF=0 goes on waiting");
        is(vmread(GUEST_ACTIVITY_STATE), 1, "  in HLT");
        is(vmread(GUEST_INTERRUPT_STATUS), VECTOR, "  the interrupt is requested");
        is(vmread(GUEST_RIP), (uint64_t)g_hlt_end, "  behind HLT");
        start(g_nop, true);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
        vmwrite(GUEST_DEADLINE, 1);
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "the VMX-preemption timer goes before it");
        is(vmread(GUEST_DEADLINE), 1, "  the deadline is not cleared");
    } else
        skip(6, "no VMX-preemption timer");
}

static bool host_interrupt(struct trap_frame *f)
{
    (void)f;
    host_interrupts++;
    apic_eoi();
    return true;
}

static void priorities(void)
{
    start(g_nop, true);
    vmwrite(GUEST_DEADLINE, 1);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_INTERRUPT_WINDOW, "SDM 28.5.10.2: it goes before the interrupt window");
    is(vmread(GUEST_INTERRUPT_STATUS), VECTOR, "  the interrupt is requested");
    expired("  the deadline is cleared");
    start(g_nop, true);
    vmwrite(GUEST_DEADLINE, 1);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    *(volatile uint32_t *)(vapic + 0x220) = 1u << 0x11;
    delivery_is(&v, VECTOR, "SDM 28.5.10.2: and before a virtual interrupt");
    is(vmread(GUEST_INTERRUPT_STATUS), VECTOR << 8 | 0x51, "  which waits");
    start(g_nop, true);
    vmwrite(GUEST_DEADLINE, 1);
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | 0x77); /* its gate closes IF */
    delivery_is(&v, 0x77, "an injected event goes before it");
    is(vmread(GUEST_INTERRUPT_STATUS), VECTOR, "  the interrupt is requested");
    apic_enable();
    trap_on(0x62, host_interrupt);
    apic_self_ipi(0x62);
    start(g_nop, true);
    vmwrite(GUEST_DEADLINE, 1);
    vmwrite(GUEST_DEADLINE_SHADOW, 77);
    exit_is(&v, EXIT_REASON_EXTERNAL_INTERRUPT, "SDM 28.5.10.2: an external interrupt goes before it");
    is(vmread(GUEST_DEADLINE), 1, "  the deadline is not cleared");
    is(vmread(GUEST_DEADLINE_SHADOW), 77, "  nor its shadow");
    is(vmread(GUEST_INTERRUPT_STATUS), 0, "  nothing is requested");
    asm volatile("sti; nop; nop; cli");
    is(host_interrupts, 1, "  it is the host's");
    if (rdmsr(IA32_VMX_MISC) & 1 << 7) {
        start(g_nop, true);
        vmwrite(GUEST_ACTIVITY_STATE, 2);
        vmwrite(GUEST_DEADLINE, 1);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 1000);
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED,
                "SDM 28.5.10.2: the shutdown state suppresses it");
        is(vmread(GUEST_DEADLINE), 1, "  the deadline is not cleared");
    } else
        skip(2, "no shutdown state for guests");
}

int rom_main(void)
{
    if (!vmx_test_begin("APIC-timer virtualization")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_tertiary(PROC3_APIC_TIMER_VIRTUALIZATION)) {
        skip_one("APIC-timer virtualization", "IA32_VMX_PROCBASED_CTLS3 does not offer it");
        return tap_end();
    }
    vapic = page_alloc(1);
    msr_bitmaps = page_alloc(1);
    accesses();
    clocks();
    events();
    priorities();
    return tap_end();
}

/*
 * 5. Interrupt virtualization: IF decides when a kernel can be interrupted, and kernels change it all the
 * time. In ring 3, CLI and STI fault each time, and POPF does nothing and says nothing. Under VT-x IF is the
 * guest's own.
 *
 * The command line: interrupts=N, how many the guest waits for (20); period=N, the ticks of the local APIC's
 * timer between two (2000).
 */
#include "apic.h"
#include "lecture.h"

#define VECTOR                    0x40
#define EOI                       0x80b /* the x2APIC's, an MSR */

/* RDI interrupts, or RSI rounds. Word 0 counts the interrupts, word 1 the rounds. */
#define KERNEL(name, close, open) /* its handler is at 256 */ \
    GUEST(name, "lidt 0x40000200; sti;" \
                "1: " close "; incq 0x40000008; " open "; mov $20, %ecx; 2: loop 2b;" \
                "cmp %rdi, 0x40000000; jae 3f; cmp %rsi, 0x40000008; jb 1b; 3: cli" GUEST_ENDS \
                "; .fill 256 - (. - " #name "), 1, 0x90;" \
                "incq 0x40000000; push %rax; push %rcx; push %rdx; mov $0x80b, %ecx; xor %eax, %eax; " \
                "xor %edx, %edx; wrmsr; pop %rdx; pop %rcx; pop %rax; iretq")
KERNEL(kernel_cli_sti, "cli", "sti");
KERNEL(kernel_popf, "pushfq; cli", "popfq"); /* saves IF and restores it, as a careful kernel does */

static uint64_t wanted, period;
static bool pending, by_processor; /* by_processor: virtual-interrupt delivery */
static uint8_t *virtual_apic;

static void load(const uint8_t *kernel, const uint8_t *end)
{
    guest_load(kernel, end, NULL, NULL);
    uint64_t handler = GUEST_CODE + 256, idt = GUEST_IDT;
    struct idt_gate *gate = (struct idt_gate *)(guest_memory + (GUEST_IDT - GUEST_AT)) + VECTOR;
    *gate = (struct idt_gate){(uint16_t)handler, 8, 0, 0x8e, (uint16_t)(handler >> 16), 0, 0};
    memcpy(guest_memory + 0x200, "\xff\x0f", 2);
    memcpy(guest_memory + 0x202, &idt, 8);
    pending = false;
}

static void timer(bool on)
{
    apic_write(APIC_TIMER_DIVIDE, 0xb); /* by 1 */
    apic_write(APIC_LVT_TIMER, on ? 1u << 17 | VECTOR : 1u << 16);
    apic_write(APIC_TIMER_INITIAL, on ? (uint32_t)period : 0);
}

/* Without VT-x the monitor's IDT gets it, and the guest its copy. */
static bool timer_fired(struct trap_frame *f)
{
    apic_eoi();
    if (f->cs & 3) ring_interrupt(f, VECTOR);
    return true;
}

/* With VT-x it is an exit. The guest gets it at once, or as soon as its interrupt window opens; or the
   processor is told, and does the rest. */
static bool serve(const struct vmx_exit *e)
{
    if (e->reason == EXIT_REASON_EXTERNAL_INTERRUPT) {
        apic_eoi();
        if (by_processor) {
            *(uint32_t *)(virtual_apic + APIC_IRR + VECTOR / 32 * 16) |= 1u << VECTOR % 32;
            vmwrite(GUEST_INTERRUPT_STATUS, (vmread(GUEST_INTERRUPT_STATUS) & 0xff00) | VECTOR);
            return true;
        }
        pending = true;
    } else if (e->reason == EXIT_REASON_WRMSR) {
        vmx_skip_instruction(); /* the guest's EOI */
    } else if (e->reason != EXIT_REASON_INTERRUPT_WINDOW) {
        return false;
    }
    vmx_clear_proc(PROC_INTERRUPT_WINDOW_EXITING);
    if (pending && (vmread(GUEST_RFLAGS) & RFLAGS_IF) && !(vmread(GUEST_INTERRUPTIBILITY_STATE) & 3)) {
        vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | VECTOR);
        pending = false;
    } else if (pending) {
        vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    }
    return true;
}

static void tell(const char *how, const struct outcome *o)
{
    figure(guest_word(0), "interrupts taken, %s", how);
    figure(o->exits, "exits to the monitor, %s", how);
    tell_counts();
    ratio(o->exits, guest_word(0), "exits per interrupt, %s", how);
}

static struct outcome ring(uint64_t rounds)
{
    trap_on(VECTOR, timer_fired);
    timer(true);
    struct outcome o = ring_run(wanted, rounds);
    timer(false);
    sti(); /* one may be left */
    asm volatile("nop");
    cli();
    return o;
}

static struct outcome vtx(uint64_t rounds)
{
    vt_prepare();
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    vt_msr_bitmap[0x800 + EOI / 8] = by_processor ? 0 : 1 << EOI % 8; /* writes of MSRs below 2000h */
    if (by_processor) {
        virtual_apic = page_alloc(1);
        vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)virtual_apic);
        vmwrite(TPR_THRESHOLD, 0);
        vmx_set_proc(PROC_USE_TPR_SHADOW);
        vmx_set_proc2(PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_VIRTUAL_INTERRUPT_DELIVERY);
        vmwrite(GUEST_INTERRUPT_STATUS, 0);
        for (unsigned i = 0; i < 4; i++) vmwrite(EOI_EXIT0 + 2 * i, 0);
    }
    vt_hook = serve;
    timer(true);
    struct outcome o = vt_run(wanted, rounds);
    timer(false);
    return o;
}

int rom_main(void)
{
    wanted = cmdline_number("interrupts", 20);
    period = cmdline_number("period", 2000);
    const uint64_t patience = 400 * wanted + period, ever = ~0ul;
    lecture_begin(5, "interrupt virtualization");
    apic_enable();

    scene("without VT-x: a kernel that saves IF by PUSHF and restores it by POPF");
    load(kernel_popf, kernel_popf_end);
    struct outcome o = ring(patience);
    tell("ring 3, POPF", &o);
    say("After the first CLI the monitor holds interrupts back, until an STI; POPF in ring 3 changes no IF,");
    say("and does not fault: the monitor never hears that the guest wants interrupts again.");
    ok(o.finished && guest_word(0) <= 2,
       "POPF drops IF silently: the guest waits for its interrupts in vain");

    scene("without VT-x: the same kernel, rewritten to use CLI and STI");
    load(kernel_cli_sti, kernel_cli_sti_end);
    o = ring(ever);
    tell("ring 3, CLI and STI", &o);
    say("It works. Each CLI and each STI is an exit, needed or not; so are the interrupt and its EOI.");
    ok(o.finished && guest_word(0) >= wanted, "the guest gets its interrupts");
    ok(counted("CLI") >= guest_word(1) && counted("STI") >= guest_word(1),
       "each CLI and each STI came to the monitor");
    const struct outcome before = o;
    const uint64_t taken = guest_word(0);

    scene("with VT-x: external interrupts exit; the monitor injects, or waits for the interrupt window");
    if (vt_missing()) {
        skip(4, vt_missing());
        return lecture_end();
    }
    load(kernel_popf, kernel_popf_end);
    o = vtx(ever);
    tell("VT-x", &o);
    say("The kernel with POPF works as it was written. IF is its own: CLI, STI and POPF cost nothing.");
    ok(o.finished && guest_word(0) >= wanted, "the guest gets its interrupts");
    ok(o.exits * taken < before.exits * guest_word(0), "with fewer exits for each");

    scene("with VT-x: virtual-interrupt delivery");
    if (!vmx_has_secondary(PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_VIRTUAL_INTERRUPT_DELIVERY)) {
        skip(2, "the processor has no virtual-interrupt delivery");
        return lecture_end();
    }
    load(kernel_popf, kernel_popf_end);
    by_processor = true;
    o = vtx(ever);
    tell("virtual-interrupt delivery", &o);
    say("The monitor sets a bit in the virtual-APIC page and RVI; the processor waits for IF, delivers, and "
        "takes");
    say("the EOI. What is left is the exit for the host's own interrupt, which posted interrupts would spare "
        "too.");
    ok(o.finished && guest_word(0) >= wanted, "the guest gets its interrupts");
    ok(counted("external interrupt") == o.exits, "the only exits are the external interrupts themselves");
    return lecture_end();
}

/*
 * 8. Frequent access to privileged resources: some kernels write the task-priority register (TPR, CR8) at
 * each change of interrupt level, thousands of times a second. Trapping each is what costs; what a monitor
 * needs to know is only when TPR falls below an interrupt that waits.
 *
 * The command line: rounds=N, each raises and lowers TPR (1000); rate=N, an interrupt comes in one of N
 * rounds (50).
 */
#include "lecture.h"

#define VECTOR 0x40

/* RDI rounds; each RSI of them a device asks for an interrupt (VMCALL, EAX = 1) while TPR is high. Word 0
   counts interrupts. At 256 the handler, which ends with EOI. */
GUEST(kernel, "lidt 0x40000200; sti; mov %rsi, %rbx; mov $9, %r8d; xor %r9d, %r9d;"
              "1: mov %r8, %cr8; dec %rbx; jnz 2f; mov %rsi, %rbx; mov $1, %eax; vmcall; 2: mov %r9, %cr8;"
              "dec %rdi; jnz 1b; cli" GUEST_ENDS "; .fill 256 - (. - kernel), 1, 0x90;"
              "incq 0x40000000; mov $0x80b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr; sti; iretq");

static enum { RING, EXITING, SHADOW, DELIVERY } world;
static const char *const names[] = {"ring 3, each MOV to CR8 faults", "VT-x, CR8-load exiting",
                                    "VT-x, TPR shadow with threshold", "VT-x, virtual-interrupt delivery"};
static uint64_t rounds, rate, virtual_tpr;
static bool waiting;
static uint8_t *virtual_apic;

static void load(void)
{
    const uint64_t handler = GUEST_CODE + 256, idt = GUEST_IDT;
    GUEST_LOAD(kernel);
    struct idt_gate *gate = (struct idt_gate *)(guest_memory + (GUEST_IDT - GUEST_AT)) + VECTOR;
    *gate = (struct idt_gate){(uint16_t)handler, 8, 0, 0x8e, (uint16_t)(handler >> 16), 0, 0};
    memcpy(guest_memory + 0x200, "\xff\x0f", 2);
    memcpy(guest_memory + 0x202, &idt, 8);
    waiting = false;
}

/* Ring 3: the monitor emulates MOV to CR8, and looks whether an interrupt waits for it. */
static bool serve_ring(struct trap_frame *f)
{
    const uint8_t *at = (const uint8_t *)f->rip;
    if (f->vector == VECTOR_UD) { /* VMCALL: the device */
        count("the device");
        f->rip += 3;
        return waiting = true;
    }
    if (at[0] != 0x45 || at[1] != 0x0f || at[2] != 0x22) return false; /* MOV to CR8 from R8 to R15 */
    count("MOV to CR8");
    ring_vcpu.cr8 = *ring_register(f, 8 + (at[3] & 7));
    f->rip += 4;
    if (waiting && ring_vcpu.cr8 < VECTOR >> 4) {
        waiting = false;
        ring_interrupt(f, VECTOR);
    }
    return true;
}

/* VT-x: who waits is injected when TPR allows; the threshold makes that moment an exit. */
static bool serve(const struct vmx_exit *e)
{
    if (e->reason == EXIT_REASON_VMCALL) {
        waiting = true;
        if (world == SHADOW) vmwrite(TPR_THRESHOLD, VECTOR >> 4);
        if (world == DELIVERY) {
            *(uint32_t *)(virtual_apic + 0x200 + VECTOR / 32 * 16) |= 1u << VECTOR % 32; /* VIRR */
            vmwrite(GUEST_INTERRUPT_STATUS, (vmread(GUEST_INTERRUPT_STATUS) & 0xff00) | VECTOR);
        }
    } else if (e->reason == EXIT_REASON_CONTROL_REGISTER_ACCESS) {
        virtual_tpr = vt_vcpu.regs.gpr[e->qualification >> 8 & 15];
    } else if (e->reason == EXIT_REASON_TPR_BELOW_THRESHOLD) {
        virtual_tpr = 0;
        vmwrite(TPR_THRESHOLD, 0);
    } else if (e->reason != EXIT_REASON_WRMSR) {
        return false;
    }
    if (e->reason != EXIT_REASON_TPR_BELOW_THRESHOLD)
        vmx_skip_instruction(); /* that one is trap-like: it is done */
    if (waiting && world != DELIVERY && e->reason != EXIT_REASON_VMCALL && virtual_tpr < VECTOR >> 4) {
        vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | VECTOR);
        waiting = false;
    }
    return true;
}

static struct outcome run(void)
{
    load();
    if (world == RING) {
        ring_hook = serve_ring;
        struct outcome o = ring_run(rounds, rate);
        ring_hook = NULL;
        return o;
    }
    vt_prepare();
    vt_hook = serve;
    vt_msr_bitmap[0x800 + 0x80b / 8] = world == DELIVERY ? 0 : 1 << 0x80b % 8;
    if (world == EXITING) {
        vmx_set_proc(PROC_CR8_LOAD_EXITING);
    } else {
        virtual_apic = page_alloc(1);
        vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)virtual_apic);
        vmwrite(TPR_THRESHOLD, 0);
        vmx_set_proc(PROC_USE_TPR_SHADOW);
    }
    if (world == DELIVERY) {
        vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
        vmx_set_proc2(PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_VIRTUAL_INTERRUPT_DELIVERY);
        vmwrite(GUEST_INTERRUPT_STATUS, 0);
        for (unsigned i = 0; i < 4; i++) vmwrite(EOI_EXIT0 + 2 * i, 0);
    }
    return vt_run(rounds, rate);
}

int rom_main(void)
{
    rounds = cmdline_number("rounds", 1000);
    rate = cmdline_number("rate", 50);
    if (!rounds) rounds = 1;
    if (!rate) rate = 1;
    lecture_begin(8, "frequent access to privileged resources: TPR");
    say("A kernel raises and lowers TPR %lu times; one time in %lu an interrupt of priority %u comes while "
        "it is high.",
        rounds, rate, VECTOR >> 4);
    for (world = RING; world <= DELIVERY; world++) {
        const char *why = world == RING ? NULL : vt_missing();
        scene(names[world]);
        if (!why && world >= SHADOW && !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW))
            why = "the processor has no TPR shadow";
        if (!why && world == DELIVERY &&
            !vmx_has_secondary(PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_VIRTUAL_INTERRUPT_DELIVERY))
            why = "the processor has no virtual-interrupt delivery";
        if (why) {
            skip(3, why);
            continue;
        }
        struct outcome o = run();
        uint64_t devices = rounds / rate, tpr = counted("MOV to CR8") + counted("control-register access") +
                                                counted("TPR below threshold");
        static const uint64_t per_round[] = {2, 2, 0, 0};
        tell_counts();
        figure(guest_word(0), "interrupts taken, %s", names[world]);
        figure(tpr, "exits for TPR, %s", names[world]);
        ratio(o.ticks, 2 * rounds, "ticks of the TSC per write, %s", names[world]);
        ok(o.finished, "the guest ran to its end");
        is(guest_word(0), devices, "each interrupt was taken");
        is(tpr, per_round[world] * rounds + (world == SHADOW ? devices : 0), "exits for TPR: %s",
           world == DELIVERY ? "none"
           : world == SHADOW ? "one for each interrupt"
                             : "one for each write");
    }
    return lecture_end();
}

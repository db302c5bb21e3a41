/*
 * 11. Sharing resources. There are three ways: time multiplexing (the processor), partition (the memory),
 * mediated access (the serial line); and three demands on a hypervisor: it protects itself, it isolates its
 * guests, it offers them an interface. Three guests live here, and each tries to break each rule.
 *
 * The command line: slice=N, a guest's turn in ticks of the TSC (20000); spin=N, how long a guest keeps the
 * processor with interrupts off (50000 rounds).
 */
#include "lecture.h"

#define GUESTS             3
#define COM1               0x3f8

/* RDI is its number, RSI what it spins, RDX the physical address of another's memory, R8 of a VMCS. Each
   attempt that is not refused adds its bit to word 0; R15 is where it goes on otherwise. */
#define ATTEMPT(bit, code) "mov $(0x40001000 + 9f - breaker), %r15d; " code "; orq $" bit ", 0x40000000; 9:"
GUEST(breaker, "mov %rdx, %r14; mov $0x40200000, %ebx; mov $0x40012008, %ecx;"
               "mov %r14, %rax; or $0x83, %rax; mov %rax, (%rcx); invlpg (%rbx);" /* its page table: all that
                                                                                     is its own business */
      ATTEMPT("1", "mov (%rbx), %rax") /* read another guest's memory */
      ATTEMPT("2", "movq $0, (%rbx)")  /* write it */
      "mov %r8, %rax; and $-0x200000, %rax; or $0x83, %rax; mov %rax, (%rcx); invlpg (%rbx);"
      "mov %r8, %r9; and $0x1fffff, %r9d;" ATTEMPT("4",
                                                   "movq $0, (%rbx, %r9)") /* write the hypervisor's VMCS */
      ATTEMPT("8", "vmxoff")                                               /* leave VMX operation */
      ATTEMPT("16", "mov $0x1b, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr") /* switch the APIC off */
      ATTEMPT("32", "mov $0xf4, %edx; xor %eax, %eax; out %eax, %dx")         /* end the whole machine */
      "cli; mov %rsi, %rcx; 1: loop 1b; sti;"                                 /* keep the processor */
      "mov $0x3f8, %edx; mov %rdi, %rax; add $'A', %al; out %al, %dx;" /* the serial line: the hypervisor's,
                                                                          in fact */
      "mov $2, %eax; vmcall; mov %rax, 0x40000008"                     /* the interface: who am I? */
      GUEST_ENDS);

static struct guest {
    uint8_t *memory;
    uint64_t turns, preempted, refused[4], services;
    char serial[8];
    unsigned written;
    struct vmx_vcpu vcpu;
    bool finished;
} guests[GUESTS];
enum { MEMORY, VMX_INSTRUCTION, MSR, PORT };
static const char *const rules[] = {"memory of another guest, or of the hypervisor", "VMX instructions",
                                    "MSRs of the machine", "ports of the machine"};
static uint64_t slice;

static void create(unsigned i, uint64_t spin)
{
    struct guest *g = &guests[i];
    guest_memory = g->memory;
    GUEST_LOAD(breaker);
    memcpy(g->memory + 0x100, "secret ", 7);
    vt_vcpu.vmcs = 0;
    vt_prepare();
    uint64_t ept = ept_new(); /* partition: these 2 MiB and nothing else */
    ept_map_large(ept, 0, (uint64_t)g->memory, EPT_RWX);
    vmwrite(EPTP, ept_pointer(ept));
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    vmx_set_pin(
        PIN_ACTIVATE_VMX_PREEMPTION_TIMER); /* time multiplexing: the timer runs whatever the guest's IF is */
    vt_msr_bitmap[0x800 + IA32_APIC_BASE / 8] |= 1 << IA32_APIC_BASE % 8;
    vt_vcpu.regs.gpr[RDI] = i;
    vt_vcpu.regs.gpr[RSI] = spin;
    vt_vcpu.regs.gpr[RDX] = (uint64_t)guests[(i + 1) % GUESTS].memory;
    vt_vcpu.regs.gpr[R8] = vt_vcpu.vmcs;
    g->vcpu = vt_vcpu;
}

static void refuse(struct guest *g, unsigned rule)
{
    g->refused[rule]++;
    vmwrite(GUEST_RIP, g->vcpu.regs.gpr[R15]);
}

/* One exit. False: the turn is over. */
static bool serve(struct guest *g, const struct vmx_exit *e)
{
    uint64_t *rax = &g->vcpu.regs.gpr[RAX];
    switch (e->reason) {
    case EXIT_REASON_EPT_VIOLATION: refuse(g, MEMORY); return true;
    case EXIT_REASON_VMXOFF: refuse(g, VMX_INSTRUCTION); return true;
    case EXIT_REASON_WRMSR: refuse(g, MSR); return true;
    case EXIT_REASON_IO_INSTRUCTION:
        if (e->qualification >> 16 != COM1) return refuse(g, PORT), true;
        if (g->written < sizeof(g->serial) - 1) g->serial[g->written++] = (char)*rax; /* mediated access */
        break;
    case EXIT_REASON_VMCALL:
        if ((uint32_t)*rax == 0) return g->finished = true, false;
        g->services++;
        *rax = 1000 + (uint64_t)(g - guests);
        break;
    case EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED: g->preempted++; return false;
    default:
        panic("guest %u: %s at %lx", (unsigned)(g - guests), vmx_exit_name(e->reason), vmread(GUEST_RIP));
    }
    vmx_skip_instruction();
    return true;
}

static void turn(struct guest *g)
{
    if (vmptrld(g->vcpu.vmcs) != VMX_SUCCEED) panic("VMPTRLD");
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, slice >> (rdmsr(IA32_VMX_MISC) & 31));
    g->turns++;
    struct vmx_exit e;
    do {
        e = vmx_run(&g->vcpu);
        if (e.status != VMX_SUCCEED) panic("VM entry refused: error %u", e.error);
    } while (serve(g, &e));
}

int rom_main(void)
{
    slice = cmdline_number("slice", 20000);
    uint64_t spin = cmdline_number("spin", 50000);
    lecture_begin(11, "sharing resources");
    scene("a hypervisor with three guests, each of which tries to break each rule");
    const char *why = vt_missing();
    if (!why && !vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER))
        why = "the processor has no VMX-preemption timer";
    if (why) {
        skip(7 * GUESTS + 1, why);
        return lecture_end();
    }
    for (unsigned i = 0; i < GUESTS; i++)
        guests[i].memory = page_alloc_aligned(GUEST_SIZE / 4096, GUEST_SIZE);
    for (unsigned i = 0; i < GUESTS; i++) create(i, spin);
    for (unsigned i = 0, left = GUESTS; left; i = (i + 1) % GUESTS) { /* each in its turn */
        if (guests[i].finished) continue;
        turn(&guests[i]);
        left -= guests[i].finished;
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        struct guest *g = &guests[i];
        uint64_t got[2];
        memcpy(got, g->memory, sizeof(got));
        say("guest %u, memory at physical %lx", i, (uint64_t)g->memory);
        for (unsigned r = 0; r < 4; r++) figure(g->refused[r], "  guest %u refused: %s", i, rules[r]);
        figure(g->turns, "  guest %u: turns", i);
        figure(g->preempted, "  guest %u: turns that the timer ended", i);
        say("    on its serial line: \"%s\"; the interface told it %lu", g->serial, got[1]);
        is(got[0], 0, "guest %u: no attempt succeeded", i);
        is(g->refused[MEMORY], 3, "guest %u: isolation: three accesses to memory that is not its own", i);
        is(g->refused[VMX_INSTRUCTION] + g->refused[MSR] + g->refused[PORT], 3,
           "guest %u: protection: VMXOFF, an MSR, a port", i);
        ok(memcmp(g->memory + 0x100, "secret ", 7) == 0, "guest %u: its own memory is whole", i);
        ok(g->preempted > 0, "guest %u: it could not keep the processor, with interrupts off", i);
        is((uint8_t)g->serial[0], 'A' + i, "guest %u: mediated access: its letter is on its own line", i);
        is(got[1], 1000 + i, "guest %u: the interface: VMCALL is answered", i);
    }
    ok(guests[0].finished && guests[1].finished && guests[2].finished, "all three came to their end");
    say("Partition by EPT, time by the preemption timer, mediation by I/O exits; what a guest may ask, it "
        "asks by VMCALL.");
    return lecture_end();
}

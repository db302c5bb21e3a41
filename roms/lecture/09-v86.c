/*
 * 9. Virtual-8086 mode: the first hardware virtualization of x86, of the 8086 only. A real-mode program runs
 * in ring 3 under a monitor; what touches IF or the vector table faults. VME took most of those faults away:
 * a virtual IF in EFLAGS, and a bitmap of the INT n that go straight to the program. An unrestricted guest is
 * the same idea for all of the processor.
 *
 * The command line: rounds=N, how often the program does it all (200).
 */
#include "../conformance/low.h"
#include "lecture.h"

#define TSS 0xc000 /* for ring 0's stack, the bitmap of INT n and that of ports */

/* CX rounds: CLI, STI, PUSHF, POPF, INT 21h; DS:80h counts the services. Ends by HLT. At 64 the service. */
GUEST(program, ".code16; 1: cli; sti; pushf; popf; int $0x21; loop 1b; hlt; xor %eax, %eax; vmcall;"
               ".fill 64 - (. - program), 1, 0x90; incl 0x80; iret; .code64");

extern const uint8_t v86_monitor[], v86_monitor_end[];
LOW_CODE(call_monitor, 32, "mov 0x704c, %eax; mov $0x20000, %ecx; call *%ecx");

static volatile uint32_t *const seen = (volatile uint32_t *)LOW_DATA; /* struct seen of the monitor */
static const char *const names[] = {"exits to the monitor", "  of them CLI",  "  of them STI",
                                    "  of them PUSHF",      "  of them POPF", "  of them INT n",
                                    "  of them IRET",       "  of them HLT"};

/* Under the V86 monitor; returns how many services the program counted. */
static uint32_t in_v86(uint32_t rounds, uint32_t cr4)
{
    for (unsigned i = 0; i < 9; i++) seen[i] = 0;
    seen[0x40 / 4] = rounds;
    seen[0x4c / 4] = cr4;
    memcpy((void *)0x20000, v86_monitor, (size_t)(v86_monitor_end - v86_monitor));
    memcpy((void *)0xa000, program, (size_t)(program_end - program));
    *(volatile uint32_t *)0xb080 = 0;
    low_vector(0x21, 0xa00, 64);
    low_gate(13, 0x20010, 0xe);
    memset((void *)TSS, 0, 0x88);           /* the bitmap of INT n at +68h: 0, to the program */
    memset((void *)(TSS + 0x88), 0xff, 65); /* no port is the program's */
    *(volatile uint32_t *)(TSS + 4) = 0x6c00;
    *(volatile uint32_t *)(TSS + 8) = SEL_DATA;
    *(volatile uint16_t *)(TSS + 0x66) = 0x88;
    rt_gdt[SEL_SPARE / 8] = 0x0000890000000000 | (uint64_t)TSS << 16 | 0xff;
    LOW_RUN(LOW_PROTECTED32, call_monitor);
    rt_gdt[SEL_TSS / 8] &= ~(2ul << 40); /* not busy, so that it can be loaded again */
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
    for (unsigned i = 0; i < 8; i++)
        if (i == 0 || seen[i]) figure(seen[i], "%s%s", names[i], cr4 ? ", V86 with VME" : ", V86");
    return *(volatile uint32_t *)0xb080;
}

static uint64_t halted;
static bool serve(const struct vmx_exit *e)
{
    halted += e->reason == EXIT_REASON_HLT;
    return false;
}

int rom_main(void)
{
    uint32_t rounds = (uint32_t)cmdline_number("rounds", 200) & 0xffff;
    if (!rounds) rounds = 1;
    lecture_begin(9, "virtual-8086 mode, the first hardware virtualization");
    say("A real-mode program does CLI, STI, PUSHF, POPF and INT 21h, %u times; its service ends by IRET; "
        "then HLT.",
        rounds);
    scene("virtual-8086 mode, as on the 80386: IOPL is 0, and a monitor");
    is(in_v86(rounds, 0), rounds, "the program had its services");
    is(seen[0], 6 * rounds + 1, "each of the six faulted each time, and HLT");
    uint32_t without = seen[0];

    scene("the same with CR4.VME: a virtual IF in EFLAGS, and INT n by the bitmap");
    if (!(cpuid(1, 0).edx & 2))
        skip(2, "the processor has no VME");
    else {
        is(in_v86(rounds, CR4_VME), rounds, "the program had its services");
        is(seen[0], 1, "only HLT faulted");
        ratio(without, seen[0], "times as many exits without VME");
    }

    scene("with VT-x: an unrestricted guest, the same bytes in real mode");
    if (vt_missing() || !vmx_has_secondary(PROC2_UNRESTRICTED_GUEST)) {
        skip(3, vt_missing() ? vt_missing() : "the processor has no unrestricted guest");
        return lecture_end();
    }
    static const uint8_t nothing[1];
    guest_load(nothing, nothing, NULL, NULL);
    memcpy(guest_memory + 0xa000, program, (size_t)(program_end - program));
    memcpy(guest_memory + 0x21 * 4, "\x40\x00\x00\x0a", 4); /* 0A00:0040 */
    vt_prepare();
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_set_proc(PROC_HLT_EXITING);
    vmx_guest_real_mode(0xb00);
    vmwrite(GUEST_CS_SELECTOR, 0xa00);
    vmwrite(GUEST_CS_BASE, 0xa000);
    vmwrite(GUEST_RIP, 0);
    vmwrite(GUEST_RSP, 0x100);
    vt_vcpu.regs.gpr[RCX] = rounds;
    vt_hook = serve;
    struct outcome o = vt_run(0, 0);
    uint32_t services;
    memcpy(&services, guest_memory + 0xb080, 4);
    figure(services, "services, unrestricted guest");
    figure(o.exits, "exits to the monitor, unrestricted guest");
    tell_counts();
    say("IF, the vector table and INT are the guest's own. Ring 0 is too, which V86 mode cannot give.");
    ok(o.finished, "the guest ran to its end");
    is(services, rounds, "the program had its services");
    ok(o.exits == 1 && halted == 1, "only HLT exited, for it was asked to");
    return lecture_end();
}

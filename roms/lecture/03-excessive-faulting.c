/*
 * 3. Excessive faulting: SYSENTER and SYSEXIT were made to be fast, and know ring 0 only. With the guest's
 * kernel in ring 3, each SYSENTER lands in the monitor, and each SYSEXIT faults into it.
 *
 * The command line: calls=N, how many system calls the guest's application makes (1000).
 */
#include "lecture.h"

/* Tells the processor where its entry is, goes to the application; counts the calls in word 0. */
GUEST(guest_kernel, "xor %edx, %edx; mov $0x174, %ecx; mov $0x08, %eax; wrmsr;" /* IA32_SYSENTER_CS */
                    "mov $0x175, %ecx; mov $0x40008000, %eax; wrmsr;"           /* _ESP */
                    "mov $0x176, %ecx; mov $(0x40001000 + 1f - guest_kernel), %eax; wrmsr;" /* _EIP */
                    "mov $0x40004000, %edx; mov $0x40007000, %ecx; sysexitq;"
                    "1: incq 0x40000000; sysexitq");
/* SYSENTER saves nothing: by convention RDX and RCX say where to return. */
GUEST(guest_application, "1: mov $(0x40004000 + 2f - guest_application), %edx; mov %rsp, %rcx; sysenter;"
                         "2: dec %rdi; jnz 1b" GUEST_ENDS);

int rom_main(void)
{
    uint64_t calls = cmdline_number("calls", 1000);
    if (calls == 0) calls = 1;
    lecture_begin(3, "excessive faulting");
    say("An application makes %lu system calls. The kernel does nothing but count them.", calls);

    scene("without VT-x: kernel and application in ring 3");
    GUEST_LOAD_BOTH(guest_kernel, guest_application);
    struct outcome ring = ring_run(calls, 0);
    figure(guest_word(0), "system calls served, ring 3");
    figure(ring.exits, "exits to the monitor, ring 3");
    tell_counts();
    ratio(ring.exits, calls, "exits per system call, ring 3");
    ratio(ring.ticks, calls, "ticks of the TSC per system call, ring 3");
    say("SYSENTER goes to the monitor, which sends it on to ring 3; SYSEXIT faults, and is emulated.");
    ok(ring.finished && guest_word(0) == calls, "all calls were served");
    is(counted("SYSENTER"), calls, "one exit for each SYSENTER");
    is(counted("SYSEXIT"), calls + 1, "one for each SYSEXIT, and the first way into the application");

    scene("with VT-x: kernel in ring 0, application in ring 3, both in non-root operation");
    if (vt_missing()) {
        skip(3, vt_missing());
        return lecture_end();
    }
    GUEST_LOAD_BOTH(guest_kernel, guest_application);
    vt_prepare();
    struct outcome vt = vt_run(calls, 0);
    figure(guest_word(0), "system calls served, VT-x");
    figure(vt.exits, "exits to the monitor, VT-x");
    ratio(vt.ticks, calls, "ticks of the TSC per system call, VT-x");
    ratio(ring.ticks, vt.ticks, "ring 3 takes so many times as long");
    say("The three MSRs are in the guest-state area; the two instructions work as on the bare processor.");
    ok(vt.finished && guest_word(0) == calls, "all calls were served");
    is(vt.exits, 0, "without a single exit");
    ok(vt.ticks < ring.ticks, "and in less time");
    return lecture_end();
}

/*
 * 7. Ring compression: paging knows two kinds of pages, the user's and the supervisor's, and rings 0, 1 and 2
 * are all supervisors. So the guest's kernel must be where its applications are, in ring 3: they can
 * overwrite it. The older answer was the 0/1/3 model: the kernel in ring 1, and segment limits to keep it off
 * the monitor. 64-bit mode has no limits.
 *
 * The command line: value=N, what the application writes over the kernel's own (0xbad).
 */
#include "lecture.h"

/* The kernel keeps 600D in word 0 and goes to its application, which writes RDI there and ends. */
GUEST(kernel_ring3, "movq $0x600d, 0x40000000; mov $0x40004000, %eax; jmp *%rax");
GUEST(application, "mov %rdi, 0x40000000" GUEST_ENDS);
/* Under VT-x: to ring 3 by IRET. At 256 its handler for page faults: word 1 counts, word 2 is the error code.
 */
GUEST(kernel_ring0,
      "movq $0x600d, 0x40000000; push $0x33; push $0x40006f00; push $2; push $0x2b; push $0x40004000; iretq;"
      ".fill 256 - (. - kernel_ring0), 1, 0x90; incq 0x40000008; pop %rax; mov %rax, 0x40000010" GUEST_ENDS);

/* Guest's page tables with its own protection: 4 KiB pages, the application's are for ring 3, the rest is
 * not. */
static void protect_kernel(void)
{
    uint64_t *pd = (uint64_t *)(guest_memory + 0x12000), *pt = (uint64_t *)(guest_memory + 0x17000);
    pd[0] = 0x17000 | PTE_P | PTE_W | PTE_U;
    for (uint64_t i = 0; i < 512; i++)
        pt[i] = i << 12 | PTE_P | PTE_W |
                (i >= 4 && i < 7 ? PTE_U : 0); /* GUEST_APP to GUEST_STACK's last page */
    struct idt_gate *gate = (struct idt_gate *)(guest_memory + (GUEST_IDT - GUEST_AT)) + VECTOR_PF;
    *gate = (struct idt_gate){(uint16_t)(GUEST_CODE + 256), 8, 0, 0x8e, (GUEST_CODE + 256) >> 16, 0, 0};
}

/* ---- 0/1/3: a kernel in ring 1 that writes to the monitor ---- */
asm(".pushsection .text; writes32: .code32; mov %esi, %eax; mov %ax, %ds; movl $0xbad, (%edi); int $0x81; "
    ".code64;"
    "writes64: mov %esi, %eax; mov %ax, %ds; movl $0xbad, (%rdi); int $0x81; .popsection");
extern const char writes32[], writes64[];
enum {
    RING1_CODE32 = SEL_SPARE,
    RING1_CODE64 = SEL_SPARE + 8,
    RING1_FLAT = SEL_SPARE + 16,
    RING1_LIMITED = SEL_SPARE + 24
};

static volatile uint32_t *monitor_data; /* above 8 MiB; the limited segment ends there */
static bool overwrites(const char *code, unsigned cs, unsigned ds)
{
    static uint8_t stack[256] __attribute__((aligned(16)));
    *monitor_data = 0x600d;
    struct trap t = trap_user((uint64_t)code, (uint16_t)(cs | 1), (uint64_t)(stack + 128), RING1_FLAT | 1,
                              RFLAGS_FIXED, (uint64_t)monitor_data, ds | 1);
    bool written = *monitor_data != 0x600d;
    say("  ring 1, %s code, data segment with %s: %s", cs == RING1_CODE32 ? "32-bit" : "64-bit",
        ds == RING1_FLAT ? "all 4 GiB " : "a limit   ",
        written                 ? "it overwrites the monitor"
        : t.vector == VECTOR_GP ? "#GP"
                                : "another fault");
    return written;
}

int rom_main(void)
{
    uint64_t value = cmdline_number("value", 0xbad);
    lecture_begin(7, "ring compression");
    scene("without VT-x: kernel and application in ring 3, and the application writes over the kernel");
    GUEST_LOAD_BOTH(kernel_ring3, application);
    struct outcome o = ring_run(value, 0);
    say("  the kernel's word was 600d and is %lx now", guest_word(0));
    figure(o.exits, "exits to the monitor, ring 3");
    say("Both are users to the paging, so nothing stopped the application, and nobody was told.");
    ok(o.finished, "the guest ran to its end");
    is(guest_word(0), value, "the application has overwritten its kernel");
    is(o.exits, 0, "and the monitor did not see it");

    scene("the older answer: the kernel in ring 1, and segment limits between it and the monitor");
    monitor_data = page_alloc(1);
    rt_gdt[RING1_CODE32 / 8] = 0x00cfbb000000ffff;
    rt_gdt[RING1_CODE64 / 8] = 0x00afbb000000ffff;
    rt_gdt[RING1_FLAT / 8] = 0x00cfb3000000ffff;
    rt_gdt[RING1_LIMITED / 8] = 0x00c0b30000000000 | (((uint64_t)monitor_data >> 12) - 1);
    bool flat = overwrites(writes32, RING1_CODE32, RING1_FLAT),
         limited = overwrites(writes32, RING1_CODE32, RING1_LIMITED);
    bool long_mode = overwrites(writes64, RING1_CODE64, RING1_LIMITED);
    say("Ring 1 is a supervisor to the paging. Limits kept it away from the monitor; 64-bit mode ignores "
        "them.");
    ok(flat, "paging does not keep ring 1 from the monitor's pages");
    if (limited)
        skip(1, "this machine does not check segment limits");
    else
        ok(!limited, "a segment limit does, in 32-bit code");
    ok(long_mode, "in 64-bit mode the limit does nothing");

    scene("with VT-x: the guest has rings 0 and 3, and its own pages for each");
    if (vt_missing()) {
        skip(4, vt_missing());
        return lecture_end();
    }
    GUEST_LOAD_BOTH(kernel_ring0, application);
    protect_kernel();
    vt_prepare();
    vmwrite(EXCEPTION_BITMAP, 0xffffffff & ~(1u << VECTOR_PF)); /* page faults are the guest's own */
    o = vt_run(value, 0);
    say("  the kernel's word is %lx; its page-fault handler ran %lu time, error code %lx", guest_word(0),
        guest_word(1), guest_word(2));
    figure(o.exits, "exits to the monitor, VT-x");
    ok(o.finished, "the guest ran to its end");
    is(guest_word(0), 0x600d, "the application cannot overwrite its kernel");
    is(guest_word(2), 7, "the kernel got the page fault: a write, from ring 3, to a present page");
    is(o.exits, 0, "and the monitor had nothing to do");
    return lecture_end();
}

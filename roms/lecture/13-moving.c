/*
 * 13. Saving and restoring: a guest is its memory and its processor. A hypervisor moves a running guest: it
 * copies the memory, reads the guest-state area, makes a new VMCS and new EPT tables of that, and the guest
 * goes on, elsewhere in physical memory, without a sign of it. The monitor in ring 3 can do the same with
 * what it can read: program 6 shows what it cannot.
 *
 * (The whole machine, its hypervisor and its guests, is saved by matryoshka --savevm: docs/lecture.md.)
 *
 * The command line: count=N, how far the guest counts (100000); moves=N, how often it is moved (4).
 */
#include "lecture.h"

/* Adds up 1 to RDI in word 0, in steps; each RSI steps it says so by VMCALL, EAX = 1. RBX, R12 hold what it
 * is at. */
GUEST(adds, "xor %ebx, %ebx; mov %rsi, %r12; mov $0x5a5a, %r13d;"
            "1: inc %rbx; add %rbx, 0x40000000; dec %r12; jnz 2f; mov %rsi, %r12; mov $1, %eax; vmcall;"
            "2: cmp %rdi, %rbx; jb 1b; mov %r13, 0x40000008" GUEST_ENDS);

static unsigned moves_left, moved;
static uint8_t *homes[2];

/* The memory, as far as this guest has touched it, to its other home; what is left behind is spoilt. */
static void move_memory(void)
{
    uint8_t *old = guest_memory;
    guest_memory = homes[old == homes[0]];
    memcpy(guest_memory, old, 0x20000);
    memset(old, 0xcc, 0x20000);
    moves_left--;
    moved++;
}

/* Ring 3: the registers are the frame of the fault, and stay there; the linear address leads to the new home.
 */
static bool move_ring(struct trap_frame *f)
{
    if (f->vector != VECTOR_UD) return false;
    f->rip += 3; /* VMCALL */
    if (!moves_left) return true;
    move_memory();
    *paging_entry(GUEST_AT, 2) = (uint64_t)guest_memory | PTE_P | PTE_W | PTE_U | PTE_PS;
    invlpg(GUEST_AT);
    return true;
}

static bool move(const struct vmx_exit *e)
{
    static struct vt_saved saved;
    if (e->reason != EXIT_REASON_VMCALL) return false;
    vmx_skip_instruction();
    if (!moves_left) return true;
    uint8_t *old = guest_memory;
    uint64_t old_vmcs = vt_vcpu.vmcs;
    vt_save(&saved); /* the processor */
    vmclear(old_vmcs);
    move_memory();
    vt_load(&saved); /* a new VMCS */
    uint64_t ept = ept_new();
    ept_map_large(ept, 0, (uint64_t)guest_memory, EPT_RWX);
    vmwrite(EPTP, ept_pointer(ept));
    say("  at %lu: memory %lx to %lx, VMCS %lx to %lx", vt_vcpu.regs.gpr[RBX], (uint64_t)old,
        (uint64_t)guest_memory, old_vmcs, vt_vcpu.vmcs);
    return true;
}

int rom_main(void)
{
    uint64_t n = cmdline_number("count", 100000), wanted = cmdline_number("moves", 4);
    uint64_t step = n / (wanted + 1);
    if (!step) step = 1;
    lecture_begin(13, "saving and restoring");
    scene("without VT-x: the processor of the guest is a frame on the monitor's stack");
    GUEST_LOAD(adds);
    homes[0] = guest_memory;
    homes[1] = page_alloc_aligned(GUEST_SIZE / 4096, GUEST_SIZE);
    moves_left = (unsigned)wanted;
    ring_hook = move_ring;
    struct outcome o = ring_run(n, step);
    figure(moved, "times that it was moved, ring 3");
    figure(guest_word(0), "the sum, ring 3");
    is(guest_word(0), n * (n + 1) / 2, "1 to %lu: the sum is right", n);
    say("A frame has the registers, RIP, RFLAGS and selectors: no hidden part of a segment, no state of "
        "blocking. This");
    say("guest does not need them; the one of program 6 does.");
    ok(o.finished, "the guest ran to its end");

    scene("with VT-x: the guest is moved while it counts");
    if (vt_missing()) {
        skip(5, vt_missing());
        return lecture_end();
    }
    GUEST_LOAD(adds);
    moves_left = (unsigned)wanted;
    moved = 0;
    vt_hook = move;
    vt_prepare();
    o = vt_run(n, step);
    figure(moved, "times that it was moved, VT-x");
    figure(guest_word(0), "the sum, VT-x");
    ok(o.finished, "the guest ran to its end");
    is(moved, wanted, "it was moved as often as was asked");
    is(guest_word(0), n * (n + 1) / 2, "the sum is right: nothing was lost on the way");
    is(guest_word(1), 0x5a5a, "registers that it did not touch meanwhile, too");
    uint64_t left;
    memcpy(&left, homes[guest_memory == homes[0]], 8);
    ok(!wanted || left == 0xcccccccccccccccc, "where it was is empty");
    return lecture_end();
}

/*
 * 1. Ring aliasing: a kernel that was moved from ring 0 to ring 3 can see it.
 *
 * The low two bits of CS are the current privilege level, and reading CS is not privileged; nor is reading
 * the machine status word or RFLAGS. The guest looks and writes down what it found. (PUSH CS is not there in
 * 64-bit mode: MOV and a far CALL tell the same.)
 */
#include "lecture.h"

GUEST(guest_looks, "mov %cs, %eax; mov %rax, 0x40000000;" /* word 0: CS */
                   "mov %ss, %eax; mov %rax, 0x40000008;" /* word 1: SS */
                   "movl $(0x40001000 + 1f - guest_looks), 0x40000100; mov %cs, 0x40000104;"
                   "lcall *0x40000100; jmp 2f;"                        /* a far call pushes CS */
                   "1: mov 4(%rsp), %eax; mov %rax, 0x40000010; lret;" /* word 2: CS on the stack */
                   "2: smsw %rax; mov %rax, 0x40000018;" /* word 3: the machine status word, CR0's low half */
                   "mov %cr0, %rax; mov %rax, 0x40000020;"       /* word 4: CR0 as MOV tells it */
                   "cli; pushfq; pop %rax; mov %rax, 0x40000028" /* word 5: RFLAGS after CLI */
      GUEST_ENDS);

static void tell(void)
{
    say("  MOV EAX, CS gives %lx: ring %lu", guest_word(0), guest_word(0) & 3);
    say("  MOV EAX, SS gives %lx: ring %lu", guest_word(1), guest_word(1) & 3);
    say("  far CALL pushes CS = %lx: ring %lu", guest_word(2), guest_word(2) & 3);
    say("  SMSW gives %lx, MOV from CR0 gives %lx: %s", guest_word(3) & 0xffff, guest_word(4),
        (guest_word(3) & 0xffff) == (guest_word(4) & 0xffff) ? "the same" : "two answers to one question");
    say("  after CLI, PUSHF says that IF is %u", guest_word(5) & RFLAGS_IF ? 1 : 0);
}

int rom_main(void)
{
    lecture_begin(1, "ring aliasing");
    say("A kernel was written for ring 0. It looks where it is.");
    scene("without VT-x: the monitor has ring 0, the guest's kernel is in ring 3");
    GUEST_LOAD(guest_looks);
    struct outcome o = ring_run(0, 0);
    tell();
    figure(o.exits, "exits to the monitor");
    tell_counts();
    say("CS, SS, SMSW and PUSHF were read without a trap: the monitor could not lie. It was asked for");
    say("CR0 and CLI, so there the guest got its own, and the answers contradict one another.");
    ok(o.finished, "the guest ran to its end");
    is(guest_word(0) & 3, 3, "in ring 3 the guest reads ring 3 from CS");
    is(guest_word(2) & 3, 3, "and from what a far CALL pushed");
    is(guest_word(5) & RFLAGS_IF, RFLAGS_IF, "IF is still 1 after its CLI");
    is(o.exits, 2, "only MOV from CR0 and CLI came to the monitor");

    scene("with VT-x: the same bytes in VMX non-root operation, in ring 0");
    if (vt_missing()) {
        skip(5, vt_missing());
        return lecture_end();
    }
    GUEST_LOAD(guest_looks);
    vt_prepare();
    o = vt_run(0, 0);
    tell();
    figure(o.exits, "exits to the monitor");
    say("The guest found what it expects, and nobody was asked: non-root operation is a second set of");
    say("rings 0 to 3, not a ring. No register tells the guest in which set it is.");
    ok(o.finished, "the guest ran to its end");
    is(guest_word(0) & 3, 0, "under VT-x it reads ring 0");
    is(guest_word(3) & 0xffff, guest_word(4) & 0xffff, "SMSW and CR0 agree");
    is(guest_word(5) & RFLAGS_IF, 0, "IF is 0 after its CLI");
    is(o.exits, 0, "nothing came to the monitor");
    return lecture_end();
}

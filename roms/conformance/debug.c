/*
 * Debug registers and single steps: breakpoints on instructions, data and ports, RF, general detect, TF and
 * IA32_DEBUGCTL.BTF, the shadow of a MOV to SS (SDM volume 3 chapter 19, 7.8.3).
 *
 * A handler notes each #DB (DR6, RIP, RFLAGS), clears DR6, and returns with RF set.
 *
 * Where Bochs 2.7 differs, the manual is against it: RF is 1 in the frame of a trap between two iterations of
 * a REP and of general detect, a fault (19.3.1.1); what a MOV to SS held back comes at the handler of an INT3
 * (7.8.3). Of SYSCALL the manual says nothing: Bochs looks at TF before it, QEMU and processors after it.
 *
 * (An Intel processor of model 207 has that RF too, and holds back and merges as tested here.)
 *
 * QEMU's TCG has no RF in frames and keeps it at INT3, no general detect, no shadow of MOV to SS for data and
 * instruction breakpoints; ports strike without CR4.DE, of four ports only the first, and once for a REP; it
 * gets some accesses wrong that share only some bytes with the range, does not see the second operand of
 * MOVS, and reports an access of an instruction that then faulted (all 19.2.4, 19.2.5, 19.3.1.2). A data
 * breakpoint with TF is its end.
 *
 * Missing: task switches (tasks.c), real and 16-bit modes, pending debug exceptions of a VMCS.
 */
#include "tap.h"
#include "trap.h"

#define DR6_CLEAR 0xffff0ff0u
#define BD        (1u << 13)
#define BS        (1u << 14)
#define BTF       2

enum kind { EXECUTION, WRITE, PORT, ACCESS };
#define HITS 24
static struct {
    uint64_t dr6, rip, rflags, rcx;
} hits[HITS];
static unsigned hit_count;

/* B0-B3 may be set for breakpoints that are not enabled (table 19-2 does not say when): they are masked. */
static bool note(struct trap_frame *f)
{
    uint64_t dr7 = read_dr7(), enabled = 0;
    for (unsigned n = 0; n < 4; n++)
        if (dr7 >> 2 * n & 3) enabled |= 1u << n;
    if (hit_count < HITS) {
        hits[hit_count].dr6 = read_dr6() & (~15ull | enabled);
        hits[hit_count].rip = f->rip;
        hits[hit_count].rflags = f->rflags;
        hits[hit_count].rcx = f->rcx;
    }
    hit_count++;
    write_dr6(DR6_CLEAR);
    if (hit_count >= HITS) { /* on and on */
        f->rflags &= ~(uint64_t)RFLAGS_TF;
        write_dr7(0x400);
    }
    f->rflags |= RFLAGS_RF;
    return true;
}

#define WRITE_DR(n, v) asm volatile("mov %0, %%dr" #n ::"r"((uint64_t)(v)))
static void breakpoint(unsigned n, const volatile void *at, enum kind kind, unsigned size)
{
    uint64_t a = (uint64_t)at, len = size == 8 ? 2 : size - 1;
    if (n == 0) WRITE_DR(0, a);
    if (n == 1) WRITE_DR(1, a);
    if (n == 2) WRITE_DR(2, a);
    if (n == 3) WRITE_DR(3, a);
    write_dr7((read_dr7() & ~(15ull << (16 + 4 * n))) | (kind | len << 2) << (16 + 4 * n) | 2ull << 2 * n);
}

/* Runs it, and takes all breakpoints away. */
static struct trap run(const void *code, const void *a, const void *b)
{
    hit_count = 0;
    write_dr6(DR6_CLEAR);
    struct trap t = trap_catch3(code, (uint64_t)a, (uint64_t)b, 0);
    write_dr7(0x400);
    return t;
}

static void hit(unsigned n, uint64_t dr6, const void *rip, const char *name)
{
    bool there = n < hit_count && n < HITS;
    if (!ok(there && hits[n].dr6 == (DR6_CLEAR | dr6) && hits[n].rip == (uint64_t)rip, "%s", name)) {
        if (!there) tap_note("  %u in all", hit_count);
        if (there)
            tap_note("  DR6 %lx (want %lx), RIP off by %ld", hits[n].dr6, DR6_CLEAR | dr6,
                     hits[n].rip - (uint64_t)rip);
    }
}
static void count(unsigned n, const char *name) { is(hit_count, n, "%s", name); }

static uint8_t cells[3 * 4096] __attribute__((aligned(4096)));

/* ---- instructions ---- */
PROBE(d_inc, "xor %eax, %eax; nop; d_inc_at: inc %eax; d_inc_2: inc %eax; nop");
LABEL(d_inc_at);
LABEL(d_inc_2);
PROBE(d_ud2, "nop; d_ud2_at: ud2");
LABEL(d_ud2_at);
PROBE(d_loop,
      "mov $4, %ecx; xor %eax, %eax; 1: call 2f; cmp $3, %ecx; jne 3f; mov %rdi, %dr7; 3: loop 1b; ret;"
      "2: nop; d_loop_at: inc %eax; ret; nop");
LABEL(d_loop_at);
PROBE(d_iret, "mov %rsp, %rax; mov %ss, %ecx; push %rcx; push %rax; push %rdi; mov %cs, %ecx; push %rcx;"
              "push $d_iret_at; iretq; d_iret_at: nop");
LABEL(d_iret_at);

static void instructions(void)
{
    breakpoint(0, d_inc_at, EXECUTION, 1);
    is(run(d_inc, 0, 0).rax, 2, "an instruction breakpoint, let through by RF in the frame");
    count(1, "  strikes once");
    hit(0, 1, d_inc_at, "  before the instruction, with B0");
    is(hits[0].rflags & RFLAGS_RF, 0, "  RF is 0 in its frame");
    breakpoint(1, d_inc_at, EXECUTION, 1);
    breakpoint(2, d_inc_2, EXECUTION, 1);
    breakpoint(3, d_inc_at, EXECUTION, 1);
    run(d_inc, 0, 0);
    hit(0, 0xa, d_inc_at, "two on one instruction");
    hit(1, 4, d_inc_2, "  RF lasts for one instruction");
    count(2, "  and no more");
    breakpoint(0, d_inc_at + 1, EXECUTION, 1);
    run(d_inc, 0, 0);
    count(0, "inside an instruction it does not strike");
    breakpoint(0, d_ud2_at, EXECUTION, 1);
    struct trap t = run(d_ud2, 0, 0);
    hit(0, 1, d_ud2_at, "before #UD of the same instruction");
    is(t.vector, VECTOR_UD, "  which comes then");
    WRITE_DR(1, d_loop_at);
    is(run(d_loop, (void *)0x408, 0).rax, 4, "enabled while a loop runs");
    hit(0, 2, d_loop_at, "  it strikes at once");
    count(2, "  in each of two rounds"); /* of ECX = 2, 1: enabled after the call of 3 */
    breakpoint(2, d_iret_at, EXECUTION, 1);
    run(d_iret, (void *)(uint64_t)(RFLAGS_FIXED | RFLAGS_RF), 0);
    count(0, "IRET loads RF: none");
    breakpoint(2, d_iret_at, EXECUTION, 1);
    run(d_iret, (void *)(uint64_t)RFLAGS_FIXED, 0);
    count(1, "  without RF: one");
}

/* ---- data ---- */
PROBE(d_load1, "mov (%rdi), %al; d_load1_next: nop");
LABEL(d_load1_next);
PROBE(d_load8, "mov (%rdi), %rax; d_load8_next: nop");
LABEL(d_load8_next);
PROBE(d_store4, "movl $0x1234, (%rdi); d_store4_next: nop");
LABEL(d_store4_next);
PROBE(d_store8, "mov %rsi, (%rdi); d_store8_next: nop");
LABEL(d_store8_next);
PROBE(d_inc_memory, "incl (%rdi); d_inc_memory_next: nop");
LABEL(d_inc_memory_next);
PROBE(d_movs, "movsl; d_movs_next: nop");
LABEL(d_movs_next);
PROBE(d_stos, "mov $16, %ecx; xor %eax, %eax; cld; d_stos_at: rep stosb; d_stos_next: nop");
LABEL(d_stos_at);
LABEL(d_stos_next);
PROBE(d_read_fault, "mov %rdi, %rsi; mov $1, %rdi; shl $46, %rdi; d_read_fault_at: movsl");
LABEL(d_read_fault_at);

static void data(void)
{
    uint8_t *c = cells + 0x800;
    breakpoint(0, c, WRITE, 4);
    run(d_store4, c, 0);
    hit(0, 1, d_store4_next, "a data breakpoint is a trap");
    count(1, "  once");
    is(hits[0].rflags & RFLAGS_RF, 0, "  RF is 0 in its frame");
    is(*(uint32_t *)c, 0x1234, "  the store has happened");
    breakpoint(0, c, WRITE, 4);
    run(d_load8, c, 0);
    count(0, "one on writes does not mind reads");
    breakpoint(0, c, ACCESS, 4);
    run(d_load8, c, 0);
    hit(0, 1, d_load8_next, "one on accesses does");
    breakpoint(1, c, ACCESS, 4);
    run(d_inc_memory, c, 0);
    hit(0, 2, d_inc_memory_next, "a read-modify-write is one exception");
    count(1, "  and no more");

    static const uint8_t sizes[] = {1, 2, 4, 8};
    for (unsigned where = 0; where < 2; where++)
        for (unsigned s = 0; s < 4; s++) {
            uint8_t *cell = where ? cells + 4096 - 8 : c;
            unsigned bad = 0, first = 5 - 5 % sizes[s];
            for (int off = -12; off <= 12; off++)
                for (unsigned wide = 0; wide < 2; wide++) {
                    int size = wide ? 8 : 1;
                    bool want = off + size > (int)first && off < (int)(first + sizes[s]);
                    breakpoint(3, cell + 5, ACCESS, sizes[s]);
                    run(wide ? d_store8 : d_load1, cell + off, 0);
                    if (hit_count != want ||
                        (want && hits[0].rip != (uint64_t)(wide ? d_store8_next : d_load1_next)))
                        bad++;
                }
            is(bad, 0, "%u bytes%s: any byte in common strikes, the low bits of the address say nothing",
               sizes[s], where ? " at the end of a page" : "");
        }
    breakpoint(0, c, ACCESS, 1);
    breakpoint(2, c + 0x100, WRITE, 8);
    run(d_movs, c + 0x100, c);
    hit(0, 5, d_movs_next, "source and destination of MOVS in one exception");
    breakpoint(0, c, ACCESS, 8);
    struct trap t = run(d_read_fault, c, 0);
    is(t.vector, VECTOR_PF, "an instruction that faults after its read");
    count(0, "  has not completed: no exception");
    breakpoint(1, c + 5, WRITE, 1);
    run(d_stos, c, 0);
    hit(0, 2, d_stos_at, "REP STOS: after the iteration");
    is(hits[0].rcx, 10, "  RCX says which");
    is(hits[0].rflags & RFLAGS_RF, RFLAGS_RF, "  RF is 1 in the frame");
    count(1, "  once");
    breakpoint(1, c + 15, WRITE, 1);
    run(d_stos, c, 0);
    hit(0, 2, d_stos_next, "  after the last one behind the instruction");
    breakpoint(0, d_stos_at, EXECUTION, 1);
    breakpoint(1, c + 5, WRITE, 1);
    run(d_stos, c, 0);
    hit(0, 1, d_stos_at, "with one on the instruction, that first");
    hit(1, 2, d_stos_at, "  then the data");
    count(2, "  and it is not met again on return");
    breakpoint(0, c, WRITE, 8);
    breakpoint(1, d_store8, EXECUTION, 1);
    run(d_store8, c, 0);
    hit(0, 2, d_store8, "an instruction that has both: the fault");
    hit(1, 1, d_store8_next, "  and the trap, which RF does not hold back");
}

/* ---- ports ---- */
PROBE(d_out, "mov $0x80, %edx; mov $0, %eax; out %al, %dx; d_out_next: nop");
LABEL(d_out_next);
PROBE(d_out4, "mov $0x7e, %edx; mov $0, %eax; out %eax, %dx; d_out4_next: nop");
LABEL(d_out4_next);
PROBE(d_outs, "mov $0x80, %edx; mov $3, %ecx; mov %rdi, %rsi; cld; d_outs_at: rep outsb; d_outs_next: nop");
LABEL(d_outs_at);
LABEL(d_outs_next);

static void ports(void)
{
    breakpoint(2, (void *)0x80, PORT, 1);
    run(d_out, 0, 0);
    count(0, "R/W of 10 without CR4.DE: none on a port");
    write_cr4(read_cr4() | CR4_DE);
    breakpoint(2, (void *)0x80, PORT, 1);
    run(d_out, 0, 0);
    hit(0, 4, d_out_next, "with it: behind the OUT");
    breakpoint(2, (void *)0x80, PORT, 1);
    run(d_out4, 0, 0);
    hit(0, 4, d_out4_next, "a doubleword at 7Eh touches port 80h");
    breakpoint(2, (void *)0x83, PORT, 4);
    run(d_out, 0, 0);
    hit(0, 4, d_out_next, "four ports, aligned");
    breakpoint(2, (void *)0x84, PORT, 2);
    run(d_out4, 0, 0);
    count(0, "others do not");
    breakpoint(0, (void *)0x80, PORT, 1);
    run(d_outs, cells, 0);
    count(3, "REP OUTS: after each iteration");
    hit(0, 1, d_outs_at, "  at the instruction");
    hit(2, 1, d_outs_next, "  and behind it");
    write_cr4(read_cr4() & ~(uint64_t)CR4_DE);
}

/* ---- RF, general detect ---- */
PROBE(d_read_dr, "d_read_dr_at: mov %dr0, %rax; nop");
LABEL(d_read_dr_at);
PROBE(d_int3_rf,
      "mov %rsp, %rax; mov %ss, %ecx; push %rcx; push %rax; push $0x10002; mov %cs, %ecx; push %rcx;"
      "push $1f; iretq; 1: int3");

static void flags(void)
{
    is(run(d_int3_rf, 0, 0).rflags & RFLAGS_RF, 0, "INT3 pushes RF as 0, though it was 1");
    write_dr7(0x400);
    write_dr6(DR6_CLEAR);
    hit_count = 0;
    write_dr7(0x400 | 1 << 13);
    trap_catch(d_read_dr, 0, 0); /* the handler reads DR6: DR7.GD is clear by then */
    hit(0, BD, d_read_dr_at, "general detect: a fault with BD");
    is(hits[0].rflags & RFLAGS_RF, RFLAGS_RF, "  RF is 1 in its frame");
    count(1, "  DR7.GD is clear in the handler");
    is(read_dr7(), 0x400, "  and after it");
}

/* ---- TF ---- */
#define TF_ON  "pushfq; orl $0x100, (%rsp); popfq; "
#define TF_OFF "pushfq; andl $~0x100, (%rsp); popfq; "
PROBE(d_steps, TF_ON "d_steps_1: nop; d_steps_2: nop; d_steps_3: pushfq; d_steps_4: andl $~0x100, (%rsp);"
                     "d_steps_5: popfq; d_steps_6: nop; nop");
LABEL(d_steps_2);
LABEL(d_steps_3);
LABEL(d_steps_6);
PROBE(d_mov_ss, "mov %ss, %ecx; " TF_ON "mov %ecx, %ss; d_mov_ss_1: nop; d_mov_ss_2: " TF_OFF);
LABEL(d_mov_ss_2);
PROBE(d_step_ud2, TF_ON "ud2");
PROBE(d_step_rep, "mov $3, %ecx; cld; " TF_ON "d_step_rep_at: rep stosb; d_step_rep_next: " TF_OFF);
LABEL(d_step_rep_at);
LABEL(d_step_rep_next);
PROBE(d_step_data, TF_ON "mov %rax, (%rdi); d_step_data_next: " TF_OFF);
LABEL(d_step_data_next);
PROBE(d_step_sti, "cli; " TF_ON "sti; d_step_sti_next: cli; " TF_OFF);
LABEL(d_step_sti_next);
PROBE(d_syscall, TF_ON "syscall; ud2; d_syscall_at: nop; d_syscall_next: " TF_OFF);
LABEL(d_syscall_at);
LABEL(d_syscall_next);
PROBE(d_branches, "mov $0x1d9, %ecx; xor %edx, %edx; mov $2, %eax; wrmsr; " TF_ON
                  "nop; jmp 1f; nop; 1: d_branches_1: nop; " TF_OFF);
LABEL(d_branches_1);
PROBE(d_set_btf, "mov $0x1d9, %ecx; xor %edx, %edx; mov $2, %eax; wrmsr; rdmsr");
PROBE(d_no_branches, "mov $0x1d9, %ecx; xor %edx, %edx; mov $2, %eax; wrmsr; " TF_ON
                     "nop; test %eax, %eax; jz 1f; nop; 1: nop; " TF_OFF);

static void steps(void)
{
    run(d_steps, 0, 0);
    hit(0, BS, d_steps_2, "TF: the first trap behind the instruction after POPF");
    hit(1, BS, d_steps_3, "  then behind each");
    is(hits[1].rflags & (RFLAGS_TF | RFLAGS_RF), RFLAGS_TF, "  TF is 1 and RF is 0 in the frame");
    count(5, "  behind the POPF that ends it too");
    hit(4, BS, d_steps_6, "  which is the last");
    run(d_mov_ss, 0, 0);
    hit(0, BS, d_mov_ss_2, "no trap behind a MOV to SS, but behind the next");
    is(run(d_step_ud2, 0, 0).vector, VECTOR_UD, "a fault has no trap");
    count(0, "  indeed");
    run(d_step_rep, cells, 0);
    hit(0, BS, d_step_rep_at, "REP: between iterations");
    is(hits[0].rflags & RFLAGS_RF, RFLAGS_RF, "  with RF");
    hit(2, BS, d_step_rep_next, "  and behind the last");
    is(hits[2].rflags & RFLAGS_RF, 0, "  without");
    run(d_step_sti, 0, 0);
    hit(0, BS, d_step_sti_next, "STI holds back no trap");

    uint64_t efer = rdmsr(IA32_EFER), star = rdmsr(IA32_STAR), lstar = rdmsr(IA32_LSTAR),
             fmask = rdmsr(IA32_FMASK);
    wrmsr(IA32_EFER, efer | EFER_SCE);
    wrmsr(IA32_STAR, (uint64_t)SEL_CODE64 << 32);
    wrmsr(IA32_LSTAR, (uint64_t)d_syscall_at);
    wrmsr(IA32_FMASK, RFLAGS_TF);
    run(d_syscall, 0, 0);
    count(0, "SYSCALL with TF in IA32_FMASK: no trap");
    wrmsr(IA32_FMASK, 0);
    run(d_syscall, 0, 0);
    hit(0, BS, d_syscall_at, "  else one before the first instruction there");
    wrmsr(IA32_EFER, efer);
    wrmsr(IA32_STAR, star);
    wrmsr(IA32_LSTAR, lstar);
    wrmsr(IA32_FMASK, fmask);

    struct trap t = trap_catch(d_set_btf, 0, 0);
    if (t.vector != TRAP_NONE || t.rax != BTF) {
        skip(4, "no IA32_DEBUGCTL.BTF");
        return;
    }
    run(d_branches, 0, 0);
    hit(0, BS, d_branches_1, "BTF: behind the branch");
    is(rdmsr(IA32_DEBUGCTL) & BTF, 0, "  which clears BTF");
    run(d_no_branches, 0, 0);
    count(0, "  not behind what does not branch");
    is(rdmsr(IA32_DEBUGCTL) & BTF, BTF, "  and BTF stays");
    wrmsr(IA32_DEBUGCTL, 0);
}

/* ---- the shadow of a MOV to SS ---- */
PROBE(d_ss_data, "mov (%rdi), %ss; nop; d_ss_data_next: nop");
LABEL(d_ss_data_next);
PROBE(d_ss_data2, "mov (%rdi), %ss; mov 2(%rdi), %al; d_ss_data2_next: nop");
LABEL(d_ss_data2_next);
PROBE(d_ss_int3, "mov (%rdi), %ss; int3");
PROBE(d_ss_code, "mov %ss, %ecx; mov %ecx, %ss; d_ss_code_at: nop");
LABEL(d_ss_code_at);
extern const char trap_vectors[];

static void shadows(void)
{
    *(uint16_t *)cells = SEL_DATA;
    breakpoint(0, cells, ACCESS, 2);
    run(d_ss_data, cells, 0);
    hit(0, 1, d_ss_data_next, "a data breakpoint of a MOV to SS waits for the next instruction");
    breakpoint(0, cells, ACCESS, 2);
    breakpoint(1, cells + 2, ACCESS, 1);
    run(d_ss_data2, cells, 0);
    hit(0, 3, d_ss_data2_next, "  is one with that of the next");
    breakpoint(0, cells, ACCESS, 2);
    run(d_ss_int3, cells, 0);
    hit(0, 1, trap_vectors + 16 * VECTOR_BP, "  comes at the handler of an INT3");
    breakpoint(2, d_ss_code_at, EXECUTION, 1);
    run(d_ss_code, 0, 0);
    count(0, "an instruction breakpoint behind a MOV to SS does not strike");
}

static void both(void) /* last: QEMU's TCG never comes back */
{
    breakpoint(3, cells, WRITE, 1);
    run(d_step_data, cells, 0);
    hit(0, BS | 8, d_step_data_next, "a step and a data breakpoint are one exception");
}

int rom_main(void)
{
    tap_begin("debug registers and single steps");
    trap_on(VECTOR_DB, note);
    instructions();
    data();
    ports();
    flags();
    steps();
    shadows();
    both();
    return tap_end();
}

/*
 * Exceptions: each vector with its exact error code, the address to which it returns, RF in its frame; double
 * faults; bad selectors and gates; privilege; the I/O permission bitmap (SDM volume 3 chapter 6, volume 1
 * chapter 19).
 *
 * Bochs 2.7 passes all of it. QEMU's TCG has no RF in frames, no #AC, no #XM, no #GP for unknown MSRs, and
 * aborts at LTR of a NULL selector.
 *
 * Missing: machine checks, shadow stacks. Breakpoints are in debug.c, task gates and #TS in tasks.c.
 */
#include "low.h"
#include "tap.h"
#include "user.h"

static void expect(struct trap t, unsigned vector, uint64_t error, const void *rip, const char *name)
{
    if (!ok(t.vector == vector && (vector == TRAP_NONE || t.error == error) &&
                (!rip || t.rip == (uint64_t)rip),
            "%s", name))
        tap_note("  vector %x (want %x), error code %lx (want %lx), rip off by %ld", t.vector, vector,
                 t.error, error, rip ? (int64_t)(t.rip - (uint64_t)rip) : 0);
}

/* ---- every vector ---- */

PROBE(f_div0, "xor %ecx, %ecx; f_div0_at: div %ecx");
LABEL(f_div0_at);
PROBE(f_div_overflow, "mov $2, %edx; mov $2, %ecx; f_div_overflow_at: div %ecx");
LABEL(f_div_overflow_at);
PROBE(f_idiv_min, "mov $0x80000000, %eax; cltd; mov $-1, %ecx; f_idiv_min_at: idiv %ecx");
LABEL(f_idiv_min_at);
PROBE(f_int1, ".byte 0xf1; f_int1_next: nop");
LABEL(f_int1_next);
PROBE(f_step, "pushfq; orl $0x100, (%rsp); popfq; nop; f_step_next: nop");
LABEL(f_step_next);
PROBE(f_int3, "int3; f_int3_next: nop");
LABEL(f_int3_next);
PROBE(f_cd03, ".byte 0xcd, 3; f_cd03_next: nop");
LABEL(f_cd03_next);
PROBE(f_ud2, "f_ud2_at: ud2");
LABEL(f_ud2_at);
PROBE(f_ud1, "f_ud1_at: .byte 0x0f, 0xb9, 0xc0");
LABEL(f_ud1_at);
PROBE(f_x87, "f_x87_at: fnop");
LABEL(f_x87_at);
PROBE(f_wait, "f_wait_at: fwait");
LABEL(f_wait_at);
PROBE(f_sse, "f_sse_at: xorps %xmm0, %xmm0");
LABEL(f_sse_at);
PROBE(f_movnti, "mov $0x7000, %edx; movnti %eax, (%rdx)");
PROBE(f_gp_selector, "mov %edi, %eax; f_gp_selector_at: mov %eax, %ds");
LABEL(f_gp_selector_at);
PROBE(f_load_ss, "mov %edi, %eax; f_load_ss_at: mov %eax, %ss");
LABEL(f_load_ss_at);
PROBE(f_load_fs, "f_load_fs_at: mov %edi, %fs");
LABEL(f_load_fs_at);
PROBE(f_int_n, "int $0x40");
PROBE(f_far_jump, "push %rdi; push $0; f_far_jump_at: lretq");
LABEL(f_far_jump_at);
PROBE(f_ltr, "f_ltr_at: ltr %di");
LABEL(f_ltr_at);
PROBE(f_lldt, "f_lldt_at: lldt %di");
LABEL(f_lldt_at);
PROBE(f_rdmsr, "mov %edi, %ecx; f_rdmsr_at: rdmsr");
LABEL(f_rdmsr_at);
PROBE(f_wrmsr, "mov %edi, %ecx; mov %esi, %eax; shr $32, %rsi; mov %esi, %edx; f_wrmsr_at: wrmsr");
LABEL(f_wrmsr_at);
PROBE(f_mf, "fninit; fnstcw -8(%rsp); andw $~4, -8(%rsp); fldcw -8(%rsp); fldz; fld1; fdivp; f_mf_at: fwait");
LABEL(f_mf_at);
PROBE(f_mf_nowait, "fninit; fnstcw -8(%rsp); andw $~4, -8(%rsp); fldcw -8(%rsp); fldz; fld1; fdivp; fnstsw "
                   "%ax; fnclex; fninit");
PROBE(f_xm, "stmxcsr -8(%rsp); movl $0x1d80, -4(%rsp); ldmxcsr -4(%rsp); mov $1, %eax; cvtsi2ss %eax, %xmm0; "
            "xorps %xmm1, %xmm1; f_xm_at: divss %xmm1, %xmm0");
LABEL(f_xm_at);
PROBE(f_xm_reset, "movl $0x1f80, -4(%rsp); ldmxcsr -4(%rsp)");
PROBE(f_align, "f_align_at: mov 1(%rdi), %eax");
LABEL(f_align_at);
PROBE(f_movaps, "f_movaps_at: movaps 8(%rdi), %xmm0");
LABEL(f_movaps_at);

static void vectors(void)
{
    struct trap t = trap_catch(f_div0, 0, 0);
    expect(t, VECTOR_DE, 0, f_div0_at, "#DE by a divisor of 0");
    is(t.rflags & RFLAGS_RF, RFLAGS_RF, "  RF is set in a fault's frame");
    expect(trap_catch(f_div_overflow, 0, 0), VECTOR_DE, 0, f_div_overflow_at, "#DE by a quotient too large");
    expect(trap_catch(f_idiv_min, 0, 0), VECTOR_DE, 0, f_idiv_min_at, "#DE by -2^31 / -1");
    write_dr6(0xffff0ff0);
    t = trap_catch(f_step, 0, 0);
    expect(t, VECTOR_DB, 0, f_step_next, "#DB by single step comes behind the instruction after POPF");
    is(t.dr6 & 0xe00f, 1u << 14, "  DR6.BS");
    is(t.rflags & RFLAGS_RF, 0, "  RF is clear in a trap's frame");
    is(t.rflags & RFLAGS_TF, RFLAGS_TF, "  TF is set in it");
    write_dr6(0xffff0ff0);
    t = trap_catch(f_int1, 0, 0);
    expect(t, VECTOR_DB, 0, f_int1_next, "INT1 is a trap");
    is(t.dr6 & 0xe00f, 0, "  that leaves DR6 alone");
    expect(trap_catch(f_int3, 0, 0), VECTOR_BP, 0, f_int3_next, "INT3 is a trap");
    expect(trap_catch(f_cd03, 0, 0), VECTOR_BP, 0, f_cd03_next, "INT 3 (CD 03) returns behind itself");
    expect(trap_catch(f_ud2, 0, 0), VECTOR_UD, 0, f_ud2_at, "UD2");
    expect(trap_catch(f_ud1, 0, 0), VECTOR_UD, 0, f_ud1_at, "UD1");

    uint64_t cr0 = read_cr0();
    write_cr0(cr0 | CR0_TS);
    expect(trap_catch(f_x87, 0, 0), VECTOR_NM, 0, f_x87_at, "x87 with CR0.TS: #NM");
    expect(trap_catch(f_sse, 0, 0), VECTOR_NM, 0, f_sse_at, "SSE with CR0.TS: #NM");
    expect(trap_catch(f_movnti, 0, 0), TRAP_NONE, 0, NULL, "MOVNTI with CR0.TS runs");
    expect(trap_catch(f_wait, 0, 0), VECTOR_NM, 0, f_wait_at, "FWAIT with TS and MP: #NM");
    write_cr0((cr0 | CR0_TS) & ~(uint64_t)CR0_MP);
    expect(trap_catch(f_wait, 0, 0), TRAP_NONE, 0, NULL, "FWAIT with TS but not MP runs");
    write_cr0(cr0 | CR0_EM);
    expect(trap_catch(f_x87, 0, 0), VECTOR_NM, 0, f_x87_at, "x87 with CR0.EM: #NM");
    expect(trap_catch(f_sse, 0, 0), VECTOR_UD, 0, f_sse_at, "SSE with CR0.EM: #UD");
    write_cr0(cr0);
    write_cr4(read_cr4() & ~(uint64_t)CR4_OSFXSR);
    expect(trap_catch(f_sse, 0, 0), VECTOR_UD, 0, f_sse_at, "SSE with CR4.OSFXSR=0: #UD");
    write_cr4(read_cr4() | CR4_OSFXSR);

    expect(trap_catch(f_mf, 0, 0), VECTOR_MF, 0, f_mf_at,
           "an unmasked x87 exception waits for the next instruction: #MF");
    struct trap quiet = trap_catch(f_mf_nowait, 0, 0);
    expect(quiet, TRAP_NONE, 0, NULL, "  and no-wait instructions do not report it");
    is(quiet.rax & 0x84, 0x84, "  ES and ZE are in the status word");
    expect(trap_catch(f_xm, 0, 0), VECTOR_XM, 0, f_xm_at,
           "an unmasked SSE exception: #XM at the instruction");
    write_cr4(read_cr4() & ~(uint64_t)CR4_OSXMMEXCPT);
    expect(trap_catch(f_xm, 0, 0), VECTOR_UD, 0, f_xm_at, "  #UD with CR4.OSXMMEXCPT=0");
    write_cr4(read_cr4() | CR4_OSXMMEXCPT);
    trap_catch(f_xm_reset, 0, 0);
    expect(trap_catch(f_movaps, low_data(), 0), VECTOR_GP, 0, f_movaps_at,
           "MOVAPS of a misaligned address: #GP(0)");

    write_cr0(cr0 | CR0_AM);
    expect(trap_catch(f_align, low_data(), 0), TRAP_NONE, 0, NULL,
           "a misaligned access at CPL 0 never is #AC");
    t = user_run_flags(f_align, USER_STACK, 0, RFLAGS_AC);
    expect(t, VECTOR_AC, 0, (const void *)(USER_CODE + (uint64_t)(f_align_at - f_align)),
           "with AM and AC at CPL 3: #AC(0)");
    expect(user_run(f_align, USER_STACK, 0), TRAP_DONE, 0, NULL, "  not without AC");
    write_cr0(cr0 & ~(uint64_t)CR0_AM);
    expect(user_run_flags(f_align, USER_STACK, 0, RFLAGS_AC), TRAP_DONE, 0, NULL, "  not without AM");
    write_cr0(cr0);

    expect(trap_catch(f_rdmsr, 0x3fff0000, 0), VECTOR_GP, 0, f_rdmsr_at, "RDMSR of no MSR: #GP(0)");
    expect(trap_catch(f_wrmsr, IA32_FS_BASE, 1ul << 62), VECTOR_GP, 0, f_wrmsr_at,
           "WRMSR of a non-canonical FS base: #GP(0)");
    expect(trap_catch(f_wrmsr, IA32_LSTAR, 1ul << 62), VECTOR_GP, 0, f_wrmsr_at,
           "WRMSR of a non-canonical LSTAR: #GP(0)");
    expect(trap_catch(f_wrmsr, IA32_PAT, 2), VECTOR_GP, 0, f_wrmsr_at, "WRMSR of a bad PAT: #GP(0)");
}

LOW_CODE(c_into, 32, "mov $0x7fffffff, %eax; inc %eax; into; c_into_next: nop");
LABEL(c_into_next);
LOW_CODE(c_into_not, 32, "xor %eax, %eax; into; mov $77, %eax");
LOW_CODE(c_bound, 32, "movl $5, 0x7000; movl $9, 0x7004; mov $10, %eax; c_bound_at: bound %eax, 0x7000");
LABEL(c_bound_at);
LOW_CODE(c_bound_not, 32, "movl $5, 0x7000; movl $9, 0x7004; mov $9, %eax; bound %eax, 0x7000");

static struct trap catch_low(const uint8_t *begin, const uint8_t *end)
{
    return trap_catch3((const void *)low_run, LOW_COMPAT32, (uint64_t)begin, (uint64_t)end);
}

static void compatibility_vectors(void)
{
    struct trap t = catch_low(c_into, c_into_end);
    expect(t, VECTOR_OF, 0, (const void *)(uint64_t)LOW_ADDRESS(c_into, (const uint8_t *)c_into_next),
           "INTO with OF is a trap");
    expect(catch_low(c_into_not, c_into_not_end), TRAP_NONE, 0, NULL, "INTO without OF");
    t = catch_low(c_bound, c_bound_end);
    expect(t, VECTOR_BR, 0, (const void *)(uint64_t)LOW_ADDRESS(c_bound, (const uint8_t *)c_bound_at),
           "BOUND outside is a fault");
    expect(catch_low(c_bound_not, c_bound_not_end), TRAP_NONE, 0, NULL, "BOUND at the upper edge");
}

/* ---- selectors ---- */

#define DATA(attributes) (0xffffull | (uint64_t)(attributes) << 40)

static void selectors(void)
{
    uint64_t limit = (uint64_t)((char *)rt_gdt_end - (char *)rt_gdt);
    expect(trap_catch(f_gp_selector, limit, 0), VECTOR_GP, limit, f_gp_selector_at,
           "a selector beyond the GDT: #GP(selector)");
    expect(trap_catch(f_gp_selector, limit | 3, 0), VECTOR_GP, limit, f_gp_selector_at,
           "  whose RPL is not in the error code");
    expect(trap_catch(f_gp_selector, 0x10 | 4, 0), VECTOR_GP, 0x14, f_gp_selector_at,
           "a selector of an LDT that is not there");
    for (uint64_t null = 0; null < 4; null++)
        expect(trap_catch(f_load_fs, null, 0), TRAP_NONE, 0, NULL, "a NULL selector into FS");
    expect(trap_catch(f_load_ss, 0, 0), TRAP_NONE, 0, NULL,
           "a NULL selector into SS in 64-bit mode at CPL 0");
    asm volatile("mov %0, %%ss" ::"r"((uint64_t)SEL_DATA));
    expect(trap_catch(f_load_ss, 1, 0), VECTOR_GP, 0, f_load_ss_at, "  RPL 1: #GP(0)");
    expect(user_run(f_load_ss, 3, 0), VECTOR_GP, 0,
           (const void *)(USER_CODE + (uint64_t)(f_load_ss_at - f_load_ss)), "  at CPL 3: #GP(0)");

    rt_gdt[SEL_SPARE / 8] = DATA(0x13); /* data, not present */
    expect(trap_catch(f_gp_selector, SEL_SPARE, 0), VECTOR_NP, SEL_SPARE, f_gp_selector_at,
           "data not present: #NP(selector)");
    expect(trap_catch(f_load_ss, SEL_SPARE, 0), VECTOR_SS, SEL_SPARE, f_load_ss_at,
           "a stack not present: #SS(selector)");
    rt_gdt[SEL_SPARE / 8] = DATA(0x91); /* read-only data */
    expect(trap_catch(f_load_ss, SEL_SPARE, 0), VECTOR_GP, SEL_SPARE, f_load_ss_at,
           "a read-only stack: #GP(selector)");
    expect(trap_catch(f_load_fs, SEL_SPARE, 0), TRAP_NONE, 0, NULL, "  is fine as data");
    rt_gdt[SEL_SPARE / 8] = DATA(0x99); /* execute-only code */
    expect(trap_catch(f_load_fs, SEL_SPARE, 0), VECTOR_GP, SEL_SPARE, f_load_fs_at,
           "execute-only code as data: #GP(selector)");
    rt_gdt[SEL_SPARE / 8] = DATA(0x92); /* not accessed yet */
    expect(trap_catch(f_load_fs, SEL_SPARE, 0), TRAP_NONE, 0, NULL, "loading a segment");
    is(rt_gdt[SEL_SPARE / 8] >> 40 & 0xff, 0x93, "  sets its accessed bit");
    expect(trap_catch(f_load_ss, SEL_USER_DATA, 0), VECTOR_GP, SEL_USER_DATA & ~3, f_load_ss_at,
           "a stack of DPL 3 at CPL 0");
    expect(user_run(f_load_fs, SEL_DATA, 0), VECTOR_GP, SEL_DATA,
           (const void *)(USER_CODE + (uint64_t)(f_load_fs_at - f_load_fs)),
           "data of DPL 0 at CPL 3: #GP(selector)");
    expect(trap_catch(f_load_fs, SEL_DATA | 3, 0), VECTOR_GP, SEL_DATA, f_load_fs_at,
           "data of DPL 0 with RPL 3: #GP(selector)");
    expect(trap_catch(f_load_fs, SEL_TSS, 0), VECTOR_GP, SEL_TSS, f_load_fs_at,
           "a TSS as data: #GP(selector)");

    expect(trap_catch(f_far_jump, 0, 0), VECTOR_GP, 0, f_far_jump_at, "a far return to a NULL CS: #GP(0)");
    expect(trap_catch(f_far_jump, SEL_DATA, 0), VECTOR_GP, SEL_DATA, f_far_jump_at,
           "to a data segment: #GP(selector)");
    rt_gdt[SEL_SPARE / 8] = DATA(0x1b) | 1ull << 53;
    expect(trap_catch(f_far_jump, SEL_SPARE, 0), VECTOR_NP, SEL_SPARE, f_far_jump_at,
           "to code not present: #NP(selector)");
    rt_gdt[SEL_SPARE / 8] = DATA(0x9b) | 3ull << 53;
    expect(trap_catch(f_far_jump, SEL_SPARE, 0), VECTOR_GP, SEL_SPARE, f_far_jump_at,
           "to code with L and D: #GP(selector)");

    expect(trap_catch(f_ltr, SEL_TSS, 0), VECTOR_GP, SEL_TSS, f_ltr_at, "LTR of a busy TSS: #GP(selector)");
    expect(trap_catch(f_ltr, 0, 0), VECTOR_GP, 0, f_ltr_at, "LTR of NULL: #GP(0)");
    expect(trap_catch(f_ltr, SEL_DATA, 0), VECTOR_GP, SEL_DATA, f_ltr_at, "LTR of data: #GP(selector)");
    rt_gdt[SEL_SPARE / 8] = 0x67 | 0x09ull << 40;
    rt_gdt[SEL_SPARE / 8 + 1] = 0;
    expect(trap_catch(f_ltr, SEL_SPARE, 0), VECTOR_NP, SEL_SPARE, f_ltr_at,
           "LTR of a TSS not present: #NP(selector)");
    expect(trap_catch(f_lldt, SEL_DATA, 0), VECTOR_GP, SEL_DATA, f_lldt_at, "LLDT of data: #GP(selector)");
    expect(trap_catch(f_lldt, 0, 0), TRAP_NONE, 0, NULL, "LLDT of NULL");

    /* An LDT, and a segment in it. */
    static uint64_t ldt[2];
    ldt[1] = DATA(0x93);
    rt_gdt[SEL_SPARE / 8] =
        15 | ((uint64_t)ldt & 0xffffff) << 16 | 0x82ull << 40 | ((uint64_t)ldt >> 24 & 0xff) << 56;
    rt_gdt[SEL_SPARE / 8 + 1] = (uint64_t)ldt >> 32;
    expect(trap_catch(f_lldt, SEL_SPARE, 0), TRAP_NONE, 0, NULL, "LLDT of an LDT");
    expect(trap_catch(f_load_fs, 8 | 4, 0), TRAP_NONE, 0, NULL, "a selector into it");
    expect(trap_catch(f_load_fs, 0x10 | 4, 0), VECTOR_GP, 0x14, f_load_fs_at,
           "a selector beyond it: #GP(selector)");
    trap_catch(f_load_fs, 0, 0);
    trap_catch(f_lldt, 0, 0);
}

/* ---- gates and double faults ---- */

static void gates(void)
{
    struct idt_gate saved = rt_idt[0x40], saved_ud = rt_idt[VECTOR_UD], saved_gp = rt_idt[VECTOR_GP];
    rt_idt[0x40].attributes = 0x0e;
    expect(trap_catch(f_int_n, 0, 0), VECTOR_NP, 0x40 * 8 + 2, f_int_n,
           "INT n, gate not present: #NP(IDT entry)");
    rt_idt[0x40].attributes = 0x80;
    expect(trap_catch(f_int_n, 0, 0), VECTOR_GP, 0x40 * 8 + 2, f_int_n, "INT n, no gate: #GP(IDT entry)");
    rt_idt[0x40] = saved;
    rt_idt[0x40].selector = 0;
    expect(trap_catch(f_int_n, 0, 0), VECTOR_GP, 0, f_int_n, "INT n, gate to a NULL selector: #GP(0)");
    rt_idt[0x40].selector = SEL_DATA;
    expect(trap_catch(f_int_n, 0, 0), VECTOR_GP, SEL_DATA, f_int_n, "INT n, gate to data: #GP(selector)");
    rt_idt[0x40].selector = SEL_CODE32;
    expect(trap_catch(f_int_n, 0, 0), VECTOR_GP, SEL_CODE32, f_int_n,
           "INT n, gate to 32-bit code: #GP(selector)");
    rt_idt[0x40] = saved;
    expect(user_run(f_int_n, 0, 0), VECTOR_GP, 0x40 * 8 + 2, (const void *)USER_CODE,
           "INT n at CPL 3, gate of DPL 0: #GP(IDT entry)");
    rt_idt[0x40].attributes |= 0x60;
    expect(user_run(f_int_n, 0, 0), 0x40, 0, (const void *)(USER_CODE + 2), "INT n at CPL 3, gate of DPL 3");
    rt_idt[0x40] = saved;

    /* An exception's own gate is bad: EXT is set in the error code. */
    rt_idt[VECTOR_UD].attributes = 0x0e;
    expect(trap_catch(f_ud2, 0, 0), VECTOR_NP, VECTOR_UD * 8 + 2 + 1, f_ud2_at,
           "#UD, gate not present: #NP(IDT entry, EXT)");
    rt_idt[VECTOR_UD].attributes = 0x80;
    expect(trap_catch(f_ud2, 0, 0), VECTOR_GP, VECTOR_UD * 8 + 2 + 1, f_ud2_at,
           "#UD, no gate: #GP(IDT entry, EXT)");
    rt_idt[VECTOR_UD] = saved_ud;

    /* #GP whose gate is bad: two contributory exceptions. */
    rt_idt[VECTOR_GP].attributes = 0x80;
    struct trap t = trap_catch(f_gp_selector, 0x8000, 0);
    expect(t, VECTOR_DF, 0, f_gp_selector_at, "#GP, no gate: #DF(0)");
    rt_idt[VECTOR_GP] = saved_gp;

    /* The double-fault classes: benign then contributory is no double fault. */
    rt_idt[VECTOR_UD].attributes = 0x0e;
    expect(trap_catch(f_ud2, 0, 0), VECTOR_NP, VECTOR_UD * 8 + 2 + 1, f_ud2_at,
           "#UD then #NP is no double fault");
    rt_idt[VECTOR_UD] = saved_ud;

    /* #PF, then #PF by its stack: a stack that is not mapped. */
    uint64_t ist1 = rt_tss.ist[0];
    rt_tss.ist[0] = 0x6500000000;
    t = trap_catch(f_align, 0x6600000000, 0);
    expect(t, VECTOR_DF, 0, f_align_at, "#PF then #PF: #DF(0)");
    /* Contributory then #PF is no double fault, but the #PF has no stack either: that is one. */
    t = trap_catch(f_gp_selector, 0x8000, 0);
    expect(t, VECTOR_DF, 0, f_gp_selector_at, "#GP then #PF then #PF: #DF(0)");
    /* A non-canonical IST stack: #SS(0), with EXT. */
    rt_idt[VECTOR_SS].ist = 2;
    rt_tss.ist[0] = 1ull << 63;
    t = trap_catch(f_ud2, 0, 0);
    ok(t.vector == VECTOR_SS && t.rip == (uint64_t)f_ud2_at, "#UD onto a non-canonical stack: #SS");
    rt_idt[VECTOR_SS].ist = 1;
    rt_tss.ist[0] = ist1;

    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) shorter = {0x40 * 16 - 1, (uint64_t)rt_idt},
                              full = {sizeof(rt_idt) - 1, (uint64_t)rt_idt};
    asm volatile("lidt %0" ::"m"(shorter));
    expect(trap_catch(f_int_n, 0, 0), VECTOR_GP, 0x40 * 8 + 2, f_int_n,
           "INT n beyond the IDT: #GP(IDT entry)");
    asm volatile("lidt %0" ::"m"(full));
}

/* ---- what user mode may not do ---- */

PROBE(u_cli, "cli");
PROBE(u_sti, "sti");
PROBE(u_hlt, "hlt");
PROBE(u_in, "in $0x80, %al");
PROBE(u_rdmsr, "mov $0x10, %ecx; rdmsr");
PROBE(u_read_cr0, "mov %cr0, %rax");
PROBE(u_read_dr7, "mov %dr7, %rax");
PROBE(u_clts, "clts");
PROBE(u_lmsw, "lmsw %ax");
PROBE(u_smsw, "smsw %eax");
PROBE(u_lgdt, "lgdt (%rdi)");
PROBE(u_sgdt, "sgdt (%rdi)");
PROBE(u_sldt, "sldt %eax");
PROBE(u_invlpg, "invlpg (%rdi)");
PROBE(u_invd, "invd");
PROBE(u_wbinvd, "wbinvd");
PROBE(u_ltr, "ltr %ax");
PROBE(u_swapgs, "swapgs");
PROBE(u_rdtsc, "rdtsc");
PROBE(u_sysret, "sysretq");
PROBE(u_popf, "pushfq; orl $0x3200, (%rsp); popfq; pushfq; pop %rax");
PROBE(u_iret_up, "mov %ss, %eax; push %rax; push %rsp; pushfq; push $8; push $0; u_iret_up_at: iretq");
LABEL(u_iret_up_at);

static void user_mode(void)
{
    static const struct {
        const char *name, *probe;
    } refused[] = {{"CLI", u_cli},
                   {"STI", u_sti},
                   {"HLT", u_hlt},
                   {"IN", u_in},
                   {"MOV from CR0", u_read_cr0},
                   {"MOV from DR7", u_read_dr7},
                   {"CLTS", u_clts},
                   {"LMSW", u_lmsw},
                   {"LGDT", u_lgdt},
                   {"INVLPG", u_invlpg},
                   {"INVD", u_invd},
                   {"WBINVD", u_wbinvd},
                   {"LTR", u_ltr},
                   {"SWAPGS", u_swapgs},
                   {"SYSRET", u_sysret}};
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SCE); /* else SYSRET is #UD */
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        struct trap t = user_run(refused[i].probe, USER_STACK, 0);
        if (!ok(t.vector == VECTOR_GP && t.error == 0 && t.rip == USER_CODE, "%s at CPL 3: #GP(0)",
                refused[i].name))
            tap_note("  vector %x, error code %lx, rip %lx", t.vector, t.error, t.rip);
    }
    expect(user_run(u_rdmsr, 0, 0), VECTOR_GP, 0, NULL, "RDMSR at CPL 3: #GP(0)");
    expect(user_run(u_iret_up, 0, 0), VECTOR_GP, 8,
           (const void *)(USER_CODE + (uint64_t)(u_iret_up_at - u_iret_up)),
           "IRETQ to an inner ring: #GP(selector)");
    struct trap t = user_run(u_popf, 0, 0);
    is(t.rax & (RFLAGS_IF | RFLAGS_IOPL3), 0, "POPF at CPL 3 leaves IF and IOPL alone");
    expect(user_run(u_smsw, 0, 0), TRAP_DONE, 0, NULL, "SMSW at CPL 3");
    expect(user_run(u_sgdt, USER_STACK, 0), TRAP_DONE, 0, NULL, "SGDT at CPL 3");
    if (cpuid_if_present(7, 0).ecx & 1u << 2) {
        write_cr4(read_cr4() | CR4_UMIP);
        expect(user_run(u_smsw, 0, 0), VECTOR_GP, 0, NULL, "SMSW at CPL 3 with UMIP: #GP(0)");
        expect(user_run(u_sgdt, USER_STACK, 0), VECTOR_GP, 0, NULL, "SGDT at CPL 3 with UMIP: #GP(0)");
        expect(user_run(u_sldt, 0, 0), VECTOR_GP, 0, NULL, "SLDT at CPL 3 with UMIP: #GP(0)");
        write_cr4(read_cr4() & ~(uint64_t)CR4_UMIP);
    } else {
        skip(3, "no UMIP");
    }
    expect(user_run(u_rdtsc, 0, 0), TRAP_DONE, 0, NULL, "RDTSC at CPL 3");
    write_cr4(read_cr4() | CR4_TSD);
    expect(user_run(u_rdtsc, 0, 0), VECTOR_GP, 0, NULL, "RDTSC at CPL 3 with TSD: #GP(0)");
    expect(trap_catch(u_rdtsc, 0, 0), TRAP_NONE, 0, NULL, "RDTSC at CPL 0 with TSD");
    write_cr4(read_cr4() & ~(uint64_t)CR4_TSD);
}

/* ---- the I/O permission bitmap ---- */

PROBE(io_b, "mov %edi, %edx; in %dx, %al");
PROBE(io_w, "mov %edi, %edx; in %dx, %ax");
PROBE(io_l, "mov %edi, %edx; in %dx, %eax");

static void reload_tss(uint64_t limit)
{
    rt_gdt[SEL_TSS / 8] = (rt_gdt[SEL_TSS / 8] & ~0x0000020000ffffull & ~(2ull << 40)) | (limit & 0xffff);
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
}

static void io_permission(void)
{
    memset(rt_tss.iomap, 0xff, sizeof(rt_tss.iomap));
    expect(user_run(io_b, 0x80, 0), VECTOR_GP, 0, NULL, "IN AL at CPL 3, bit set: #GP(0)");
    rt_tss.iomap[0x80 / 8] = 0xfe;
    expect(user_run(io_b, 0x80, 0), TRAP_DONE, 0, NULL, "  bit clear");
    expect(user_run(io_w, 0x80, 0), VECTOR_GP, 0, NULL, "IN AX with one bit of two set: #GP(0)");
    rt_tss.iomap[0x80 / 8] = 0xfc;
    expect(user_run(io_w, 0x80, 0), TRAP_DONE, 0, NULL, "  both clear");
    expect(user_run(io_l, 0x80, 0), VECTOR_GP, 0, NULL, "IN EAX with two bits of four set: #GP(0)");
    rt_tss.iomap[0x80 / 8] = 0x7f;
    rt_tss.iomap[0x88 / 8] = 0xfe;
    expect(user_run(io_w, 0x87, 0), TRAP_DONE, 0, NULL, "IN AX across two bytes of the bitmap");
    rt_tss.iomap[0x88 / 8] = 0xff;
    expect(user_run(io_w, 0x87, 0), VECTOR_GP, 0, NULL, "  the second bit set: #GP(0)");
    expect(user_run_flags(io_b, 0x90, 0, RFLAGS_IOPL3), TRAP_DONE, 0, NULL,
           "IOPL 3: the bitmap does not count");

    /* The limit: both bytes that the processor reads must lie inside (SDM volume 1, 19.5.2). */
    memset(rt_tss.iomap, 0, sizeof(rt_tss.iomap));
    reload_tss(offsetof(struct tss, iomap) + 0x80 / 8);
    expect(user_run(io_b, 0x78, 0), TRAP_DONE, 0, NULL, "a bit whose two bytes are inside the TSS");
    expect(user_run(io_b, 0x80, 0), VECTOR_GP, 0, NULL, "the second byte beyond the limit: #GP(0)");
    rt_tss.iomap_base = 0xffff;
    expect(user_run(io_b, 0x10, 0), VECTOR_GP, 0, NULL, "no bitmap: #GP(0)");
    rt_tss.iomap_base = offsetof(struct tss, iomap);
    reload_tss(sizeof(rt_tss) - 1);
    memset(rt_tss.iomap, 0xff, sizeof(rt_tss.iomap));
    expect(user_run(u_cli, 0, 0), VECTOR_GP, 0, NULL, "CLI with IOPL 0: #GP(0)");
    expect(user_run_flags(u_cli, 0, 0, RFLAGS_IOPL3), TRAP_DONE, 0, NULL, "CLI with IOPL 3");
}

int rom_main(void)
{
    tap_begin("exceptions");
    vectors();
    compatibility_vectors();
    selectors();
    gates();
    user_mode();
    io_permission();
    return tap_end();
}

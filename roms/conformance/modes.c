/*
 * The processor's modes: real, "unreal", 16- and 32-bit protected, compatibility and 64-bit, and the ways
 * between them (SDM volume 1 chapter 3, volume 3 chapters 2, 9, 20).
 *
 * Bochs 2.7 passes all of it. QEMU's TCG checks neither segment limits nor the rules of CR0 in 64-bit mode,
 * and does not get to the end.
 *
 * Missing: SMM. Virtual-8086 mode is in v86.c, task switches are in tasks.c.
 */
#include "low.h"
#include "tap.h"
#include "user.h"

/* ---- real mode ---- */

LOW_CODE(r_smsw, 16, "smsw %eax");
LOW_CODE(r_segment, 16, "mov $0x1234, %ax; mov %ax, %ds; mov 0x10, %eax; xor %cx, %cx; mov %cx, %ds");
LOW_CODE(r_store_segment, 16,
         "mov $0xffff, %ax; mov %ax, %es; movl $0x12345678, %es:0x20; mov %es:0x20, %eax");
LOW_CODE(r_operand32, 16,
         "mov $0x11112222, %eax; push %eax; pop %dx; pop %cx; mov %cx, %ax; shl $16, %eax; mov %dx, %ax");
LOW_CODE(r_far_call, 16,
         "lcall $0x800, $(r_far_target - r_far_call + 0x1000); jmp 1f; r_far_target: mov %cs, %ax; "
         "shl $16, %eax; mov %sp, %bx; mov %ss:(%bx), %ax; lret; r_far_back: 1:");
LABEL(r_far_back);

/* A fault handler for real mode: records vector, IP, CS, FLAGS, SP and goes to 2f in the snippet. */
#define R_CATCH(name, vector, code) \
    LOW_CODE(name, 16, \
             "movl $0, 0x7000; movw $(2f - " #name " + 0x9000), 4 * " #vector "; movw $0, 4 * " #vector \
             " + 2; mov %sp, 0x7010; " code "; jmp 3f; 2: mov %sp, %ss:0x7014; pop %ss:0x7004; " \
             "pop %ss:0x7008; pop %ss:0x700c; movl $" #vector " + 1, %ss:0x7000; mov %ss:0x7010, %sp; " \
             "xor %ax, %ax; mov %ax, %ds; 3:")
R_CATCH(r_limit, 13, "mov $0xffff, %bx; r_limit_at: mov (%bx), %ax");
LABEL(r_limit_at);
R_CATCH(r_limit32, 13, "mov $0x10000, %ebx; r_limit32_at: mov (%ebx), %al");
LABEL(r_limit32_at);
R_CATCH(r_stack, 12, "mov $0xffff, %bp; r_stack_at: mov %ax, (%bp)");
LABEL(r_stack_at);
R_CATCH(r_divide, 0, "xor %cx, %cx; r_divide_at: div %cx");
LABEL(r_divide_at);
R_CATCH(r_bound, 5, "movl $0x00200010, 0x7020; mov $0x21, %ax; r_bound_at: bound %ax, 0x7020");
LABEL(r_bound_at);
R_CATCH(r_int, 0x21, "pushf; orw $0x300, (0x7010 - 0x7010)(%esp); pop %ax; r_int_at: int $0x21; r_int_next:");
LABEL(r_int_next);
R_CATCH(r_sldt, 6, "r_sldt_at: sldt %ax");
LABEL(r_sldt_at);
R_CATCH(r_arpl, 6, "r_arpl_at: .byte 0x63, 0xc0");
LABEL(r_arpl_at);
R_CATCH(r_ltr, 6, "r_ltr_at: ltr %ax");
LABEL(r_ltr_at);
R_CATCH(r_verr, 6, "r_verr_at: verr %ax");
LABEL(r_verr_at);
R_CATCH(r_lar, 6, "r_lar_at: lar %ax, %cx");
LABEL(r_lar_at);
R_CATCH(r_idt_limit, 13,
        "lidt r_idt_short - r_idt_limit + 0x9000; r_idt_limit_at: int $0x40; jmp 3f; r_idt_short: .word "
        "0xff; .long 0");
LABEL(r_idt_limit_at);

LOW_CODE(r_if, 16,
         "pushf; pop %cx; sti; pushf; pop %ax; cli; pushf; pop %bx; push %cx; popf; and $0x200, %ax; "
         "and $0x200, %bx; shl $1, %bx; or %bx, %ax; movzx %ax, %eax");

static void real_fault(const uint8_t *begin, const uint8_t *end, unsigned vector, const char *label,
                       const char *name)
{
    volatile uint32_t *d = low_data();
    low_run(LOW_REAL, begin, end);
    if (!ok(d[0] == vector + 1 && (uint16_t)d[1] == LOW_ADDRESS(begin, (const uint8_t *)label) &&
                (uint16_t)d[2] == 0,
            "real mode: %s", name))
        tap_note("  vector %d, ip %x, cs %x", (int)d[0] - 1, d[1] & 0xffff, d[2] & 0xffff);
    is((uint16_t)(d[4] - d[5]), 6, "  three words on the stack, no error code");
}

static void real_mode(void)
{
    is(LOW_RUN(LOW_REAL, r_smsw) & CR0_PE, 0, "real mode: CR0.PE is 0");
    *(volatile uint32_t *)0x12350 = 0xcafe0001;
    is(LOW_RUN(LOW_REAL, r_segment), 0xcafe0001, "real mode: a segment's base is its selector * 16");
    is(LOW_RUN(LOW_REAL, r_store_segment), 0x12345678, "real mode: FFFF:0020 is written and read");
    is(*(volatile uint32_t *)0x100010, 0x12345678, "  above 1 MiB (A20 is on)");
    is(LOW_RUN(LOW_REAL, r_operand32), 0x11112222, "real mode: 32-bit operands on a 16-bit stack");
    uint32_t far_call = LOW_RUN(LOW_REAL, r_far_call);
    is(far_call >> 16, 0x800, "real mode: far call loads CS");
    (void)r_far_back;
    is(LOW_RUN(LOW_REAL, r_if), 0x200, "real mode: STI and CLI");

    real_fault(r_limit, r_limit_end, 13, r_limit_at, "a word at offset FFFF: #GP");
    real_fault(r_limit32, r_limit32_end, 13, r_limit32_at, "an offset of 10000: #GP");
    real_fault(r_stack, r_stack_end, 12, r_stack_at, "a word at SS:FFFF: #SS");
    real_fault(r_divide, r_divide_end, 0, r_divide_at, "division by 0 returns to the instruction");
    real_fault(r_bound, r_bound_end, 5, r_bound_at, "BOUND");
    real_fault(r_int, r_int_end, 0x21, r_int_next, "INT returns behind the instruction");
    real_fault(r_sldt, r_sldt_end, 6, r_sldt_at, "SLDT: #UD");
    real_fault(r_arpl, r_arpl_end, 6, r_arpl_at, "ARPL: #UD");
    real_fault(r_ltr, r_ltr_end, 6, r_ltr_at, "LTR: #UD");
    real_fault(r_verr, r_verr_end, 6, r_verr_at, "VERR: #UD");
    real_fault(r_lar, r_lar_end, 6, r_lar_at, "LAR: #UD");
    real_fault(r_idt_limit, r_idt_limit_end, 13, r_idt_limit_at, "a vector beyond IDTR's limit: #GP");
}

static uint64_t descriptor(uint32_t base, uint32_t limit, uint32_t attributes)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attributes & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 0xf) << 48 | (uint64_t)(attributes >> 12 & 0xf) << 52 |
           (uint64_t)(base >> 24) << 56;
}

/* ---- unreal mode: the hidden part of a segment register outlives the mode ---- */

#define GO_UNREAL \
    "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x10, %dx; mov %dx, %es; and $0xfe, %al; " \
    "mov %eax, %cr0; "
LOW_CODE(u_big, 16, GO_UNREAL "mov $0x200000, %ebx; mov %es:(%ebx), %eax; xor %dx, %dx; mov %dx, %es");
LOW_CODE(u_reload, 16, GO_UNREAL "mov $0x100, %dx; mov %dx, %es; mov $0x200000, %ebx; mov %es:(%ebx), %eax");
LOW_CODE(u_small_again, 16,
         GO_UNREAL
         "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x28, %dx; mov %dx, %es; and $0xfe, %al; "
         "mov %eax, %cr0; movw $(2f - u_small_again + 0x9000), 4 * 13; movw $0, 4 * 13 + 2; mov %sp, %bp; "
         "mov $0x200000, %ebx; mov %es:(%ebx), %eax; jmp 3f; 2: mov %bp, %sp; mov $0xbad, %eax; 3:");

LOW_CODE(u_read_only, 16,
         "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x68, %dx; mov %dx, %es; and $0xfe, %al; "
         "mov %eax, %cr0; movw $(2f - u_read_only + 0x9000), 4 * 13; movw $0, 4 * 13 + 2; mov %sp, %bp; "
         "xor %ebx, %ebx; mov %es:0, %cl; inc %bx; mov %cl, %es:0; jmp 3f; "
         "2: mov %bp, %sp; or $0xbad0, %bx; 3: " GO_UNREAL "xor %dx, %dx; mov %dx, %es; mov %ebx, %eax");

static void unreal_mode(void)
{
    volatile uint32_t *far = (volatile uint32_t *)0x200000;
    far[0] = 0x0b16b16b;
    far[0x1000 / 4] = 0x0c16c16c;
    is(LOW_RUN(LOW_REAL, u_big), 0x0b16b16b, "unreal mode: a 4 GiB limit loaded in protected mode stays");
    is(LOW_RUN(LOW_REAL, u_reload), 0x0c16c16c, "  even when real mode loads a new base");
    is(LOW_RUN(LOW_REAL, u_small_again), 0xbad, "  until protected mode loads a small limit: #GP");
    rt_gdt[0x68 / 8] = descriptor(0x7000, 0xffff, 0x0091);
    is(LOW_RUN(LOW_REAL, u_read_only), 0xbad1, "  a data segment stays read-only too: a store is #GP");
}

/* ---- 16- and 32-bit protected mode ---- */

LOW_CODE(p16_smsw, 16, "smsw %eax");
LOW_CODE(p16_push, 16, "mov %sp, %cx; push %ax; sub %sp, %cx; pop %ax; movzx %cx, %eax");
LOW_CODE(p16_push32, 16, "mov %sp, %cx; push %eax; sub %sp, %cx; pop %eax; movzx %cx, %eax");
LOW_CODE(p32_push, 32, "mov %esp, %ecx; push %eax; sub %esp, %ecx; pop %eax; mov %ecx, %eax");
LOW_CODE(p32_push16, 32, "mov %esp, %ecx; push %ax; sub %esp, %ecx; pop %ax; mov %ecx, %eax");
LOW_CODE(p32_inc, 32, "xor %eax, %eax; .byte 0x40, 0x40");
LOW_CODE(p32_pusha, 32, "mov $7, %esi; pusha; mov 4(%esp), %eax; popa; mov %esi, %eax");
LOW_CODE(p32_daa, 32, "mov $0x19, %eax; add $0x28, %al; daa; movzx %al, %eax");
LOW_CODE(p32_aam, 32, "mov $47, %eax; aam; movzx %ax, %eax");
LOW_CODE(p32_cr0, 32, "mov %cr0, %eax");
LOW_CODE(p32_int, 32,
         "sti; int $0x1e; cli; jmp 3f; p32_int_handler: pushf; pop %eax; and $0x200, %eax; "
         "mov %eax, 0x7004; mov (%esp), %eax; mov %eax, 0x7008; mov 4(%esp), %eax; mov %eax, 0x700c; "
         "mov 8(%esp), %eax; mov %eax, 0x7010; iret; 3: mov $1, %eax");
LABEL(p32_int_handler);
/* Runs something that faults; the handler notes error code, EIP, CS and unwinds. */
#define P_CATCH(name, code) \
    LOW_CODE(name, 32, \
             "mov %esp, 0x7010; movl $0, 0x7000; " code "; jmp 3f; " #name "_handler: pop %ss:0x7004; " \
             "pop %ss:0x7008; pop %ss:0x700c; movl $1, %ss:0x7000; mov $0x10, %eax; mov %eax, %ds; mov " \
             "%eax, %es; " \
             "mov 0x7010, %esp; 3:"); \
    LABEL(name##_handler)
P_CATCH(p32_limit, "mov $0x58, %eax; mov %eax, %es; p32_limit_at: mov %es:0x1000, %al");
LABEL(p32_limit_at);
P_CATCH(p32_limit_ok, "mov $0x58, %eax; mov %eax, %es; mov %es:0xfff, %al");
P_CATCH(p32_limit_straddle, "mov $0x58, %eax; mov %eax, %es; p32_limit_straddle_at: mov %es:0xffd, %eax");
LABEL(p32_limit_straddle_at);
P_CATCH(p32_down, "mov $0x60, %eax; mov %eax, %es; p32_down_at: mov %es:0xfff, %al");
LABEL(p32_down_at);
P_CATCH(p32_down_ok, "mov $0x60, %eax; mov %eax, %es; mov %es:0x1000, %al; mov %es:0xfffff000, %al");
P_CATCH(p32_read_only, "mov $0x68, %eax; mov %eax, %es; mov %es:0, %al; p32_read_only_at: mov %al, %es:0");
LABEL(p32_read_only_at);
P_CATCH(p32_code_write, "p32_code_write_at: mov %al, %cs:0x7000");
LABEL(p32_code_write_at);
P_CATCH(p32_null, "xor %eax, %eax; mov %eax, %es; p32_null_at: mov %es:0, %al");
LABEL(p32_null_at);
P_CATCH(p32_not_present, "mov $0x70, %eax; p32_not_present_at: mov %eax, %es");
LABEL(p32_not_present_at);
P_CATCH(p32_execute_only, "mov $0x78, %eax; p32_execute_only_at: mov %eax, %es");
LABEL(p32_execute_only_at);

static void protected_fault(const uint8_t *begin, const uint8_t *end, unsigned vector, const char *handler,
                            uint32_t error, const char *at, const char *name)
{
    volatile uint32_t *d = low_data();
    low_gate(vector, LOW_ADDRESS(begin, (const uint8_t *)handler), 0xe);
    low_run(LOW_PROTECTED32, begin, end);
    uint32_t where = at ? LOW_ADDRESS(begin, (const uint8_t *)at) : 0;
    if (!ok(d[0] == (at != NULL) && (!at || (d[1] == error && d[2] == where && d[3] == SEL_CODE32)),
            "protected mode: %s", name))
        tap_note("  faulted %u, error code %x (want %x), eip %x (want %x), cs %x", d[0], d[1], error, d[2],
                 where, d[3]);
}

#define PROTECTED_FAULT(name, vector, error, text) \
    protected_fault(name, name##_end, vector, name##_handler, error, name##_at, text)
#define PROTECTED_FINE(name, text) protected_fault(name, name##_end, 13, name##_handler, 0, NULL, text)

static void protected_mode(void)
{
    is(LOW_RUN(LOW_PROTECTED16, p16_smsw) & CR0_PE, CR0_PE, "16-bit protected mode: CR0.PE is 1");
    is(LOW_RUN(LOW_PROTECTED16, p16_push), 2, "  PUSH AX pushes 2 bytes");
    is(LOW_RUN(LOW_PROTECTED16, p16_push32), 4, "  PUSH EAX pushes 4");
    is(LOW_RUN(LOW_PROTECTED32, p32_push), 4, "32-bit protected mode: PUSH EAX pushes 4 bytes");
    is(LOW_RUN(LOW_PROTECTED32, p32_push16), 2, "  PUSH AX pushes 2");
    is(LOW_RUN(LOW_PROTECTED32, p32_inc), 2, "  40h is INC EAX");
    is(LOW_RUN(LOW_PROTECTED32, p32_pusha), 7, "  PUSHA and POPA");
    is(LOW_RUN(LOW_PROTECTED32, p32_daa), 0x47, "  DAA");
    is(LOW_RUN(LOW_PROTECTED32, p32_aam), 0x407, "  AAM");
    is(LOW_RUN(LOW_PROTECTED32, p32_cr0) & (CR0_PE | CR0_PG), CR0_PE, "  paging is off");
    uint64_t efer = rdmsr(IA32_EFER);
    is(efer & (EFER_LMA | EFER_LME), EFER_LMA | EFER_LME, "  and back in IA-32e mode LMA is set");

    volatile uint32_t *d = low_data();
    for (unsigned type = 0xe; type <= 0xf; type++) {
        low_gate(0x1e, LOW_ADDRESS(p32_int, (const uint8_t *)p32_int_handler), type);
        is(LOW_RUN(LOW_PROTECTED32, p32_int), 1, "INT through a 32-bit %s gate",
           type == 0xe ? "interrupt" : "trap");
        is(d[1], type == 0xe ? 0 : RFLAGS_IF, "  IF in the handler");
        is(d[2], LOW_SNIPPET + 3, "  EIP in the frame");
        is(d[3], SEL_CODE32, "  CS in the frame");
        is(d[4] & RFLAGS_IF, RFLAGS_IF, "  EFLAGS in the frame");
    }

    rt_gdt[0x58 / 8] = descriptor(0x7000, 0xfff, 0x4093);   /* data, 4 KiB */
    rt_gdt[0x60 / 8] = descriptor(0, 0x0, 0xc097);          /* expand-down: above FFFh */
    rt_gdt[0x68 / 8] = descriptor(0x7000, 0xfffff, 0xc091); /* read-only */
    rt_gdt[0x70 / 8] = descriptor(0, 0xfffff, 0xc013);      /* not present */
    rt_gdt[0x78 / 8] = descriptor(0, 0xfffff, 0xc099);      /* execute-only code */
    PROTECTED_FINE(p32_limit_ok, "the last byte below the limit");
    PROTECTED_FAULT(p32_limit, 13, 0, "the byte behind the limit: #GP(0)");
    PROTECTED_FAULT(p32_limit_straddle, 13, 0, "an access across the limit: #GP(0)");
    PROTECTED_FINE(p32_down_ok, "above the limit of an expand-down segment");
    PROTECTED_FAULT(p32_down, 13, 0, "the last byte below it: #GP(0)");
    PROTECTED_FAULT(p32_read_only, 13, 0, "a write to a read-only segment: #GP(0)");
    PROTECTED_FAULT(p32_code_write, 13, 0, "a write to a code segment: #GP(0)");
    PROTECTED_FAULT(p32_null, 13, 0, "a NULL segment used: #GP(0)");
    PROTECTED_FAULT(p32_not_present, 11, 0x70, "a segment not present loaded: #NP(selector)");
    PROTECTED_FAULT(p32_execute_only, 13, 0x78, "an execute-only segment loaded: #GP(selector)");
}

/* ---- compatibility mode ---- */

LOW_CODE(c32_inc, 32, "xor %eax, %eax; .byte 0x40, 0x40");
LOW_CODE(c32_pusha, 32, "mov $9, %edi; pusha; pop %eax; add $28, %esp");
LOW_CODE(c32_push, 32, "mov %esp, %ecx; push %eax; sub %esp, %ecx; pop %eax; mov %ecx, %eax");
LOW_CODE(c16_push, 16, "mov %sp, %cx; push %ax; sub %sp, %cx; pop %ax; movzx %cx, %eax");
LOW_CODE(c32_wrap, 32, "mov $0xffffffff, %ebx; mov 0x7001(%ebx), %eax");
LOW_CODE(c32_mov_cr3, 32, "mov %cr3, %eax");
LOW_CODE(c32_ud, 32, "ud2");
LOW_CODE(c32_limit, 32, "mov $0x58, %eax; mov %eax, %es; c32_limit_at: mov %es:0x1000, %al");
LABEL(c32_limit_at);
LOW_CODE(c32_syscall64, 32, "mov $0x2b, %al; .byte 0x48; mov %ebx, %eax"); /* DEC EAX; MOV EAX, EBX */

static void compatibility_mode(void)
{
    is(LOW_RUN(LOW_COMPAT32, c32_inc), 2, "compatibility mode: 40h is INC EAX");
    is(LOW_RUN(LOW_COMPAT32, c32_pusha), 9, "  PUSHA works");
    is(LOW_RUN(LOW_COMPAT32, c32_push), 4, "  PUSH EAX pushes 4 bytes");
    is(LOW_RUN(LOW_COMPAT16, c16_push), 2, "16-bit compatibility mode: PUSH AX pushes 2");
    low_data()[0] = 0x31415926;
    is(LOW_RUN(LOW_COMPAT32, c32_wrap), 0x31415926, "  addresses wrap at 4 GiB");
    is(LOW_RUN(LOW_COMPAT32, c32_mov_cr3), (uint32_t)read_cr3(), "  CR3 reads as 32 bits");
    struct trap t = trap_catch3((const void *)low_run, LOW_COMPAT32, (uint64_t)c32_ud, (uint64_t)c32_ud_end);
    ok(t.vector == VECTOR_UD && t.rip == LOW_SNIPPET && t.cs == SEL_CODE32,
       "  a fault arrives in the 64-bit IDT");
    is(t.ss, SEL_DATA, "  with SS in its frame");
    t = trap_catch3((const void *)low_run, LOW_COMPAT32, (uint64_t)c32_limit, (uint64_t)c32_limit_end);
    ok(t.vector == VECTOR_GP && t.error == 0 &&
           t.rip == LOW_ADDRESS(c32_limit, (const uint8_t *)c32_limit_at),
       "  segment limits are checked");
    (void)c32_syscall64, (void)c32_syscall64_end;
}

/* ---- 64-bit mode ---- */

PROBE(l_zero_extend, "mov $-1, %rax; mov $1, %eax");
PROBE(l_keep16, "mov $-1, %rax; mov $1, %ax");
PROBE(l_keep8, "mov $-1, %rax; mov $1, %al");
PROBE(l_spl, "mov %rsp, %rcx; mov %spl, %al; movzx %al, %eax; movzx %cl, %ecx; sub %rcx, %rax");
PROBE(l_address32, "mov $0x7000, %ebx; mov $1, %eax; shl $32, %rax; or %rax, %rbx; mov (%ebx), %eax");
PROBE(l_ds_limit, "mov $0x58, %ecx; mov %ecx, %ds; mov 0x7000, %eax; mov $0x10, %ecx; mov %ecx, %ds");
PROBE(l_fs_base, "mov %fs:0, %eax");
PROBE(l_movsxd, "mov $0x80000000, %ecx; movslq %ecx, %rax");
PROBE(l_pusha, ".byte 0x60");
PROBE(l_into, ".byte 0xce");
PROBE(l_bound, ".byte 0x62, 0x00");
PROBE(l_lds, ".byte 0xc5, 0x00");
PROBE(l_far_imm, ".byte 0xea, 0, 0, 0, 0, 8, 0");
PROBE(l_push_cs, ".byte 0x0e");
PROBE(l_aaa, ".byte 0x37");
PROBE(l_noncanonical, "l_noncanonical_at: mov (%rdi), %al");
PROBE(l_noncanonical_stack, "mov %rsp, %rcx; mov %rdi, %rsp; push %rax; mov %rcx, %rsp");
PROBE(l_noncanonical_rbp, "mov %rdi, %rbp; mov 8(%rbp), %rax");
PROBE(l_noncanonical_jump, "l_noncanonical_jump_at: jmp *%rdi");
LABEL(l_noncanonical_jump_at);
PROBE(l_write_cr0, "mov %rdi, %cr0");
PROBE(l_write_cr3, "mov %rdi, %cr3");
PROBE(l_write_cr4, "mov %rdi, %cr4");
PROBE(l_write_cr8, "mov %rdi, %cr8");
PROBE(l_write_efer, "mov $0xc0000080, %ecx; mov %edi, %eax; xor %edx, %edx; wrmsr");
PROBE(l_cr1, ".byte 0x0f, 0x20, 0xc8");
PROBE(l_15_bytes,
      ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90");
PROBE(l_16_bytes,
      ".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90");
PROBE(l_lock_nop, ".byte 0xf0, 0x90");
PROBE(l_lock_register, ".byte 0xf0, 0x01, 0xc0");
PROBE(l_cr8_round, "mov %cr8, %rcx; mov $11, %eax; mov %rax, %cr8; mov %cr8, %rax; mov %rcx, %cr8");

static uint64_t value_of(const char *probe, uint64_t a)
{
    struct trap t = trap_catch(probe, a, 0);
    return t.vector == TRAP_NONE ? t.rax : 0xfa17000000000000 | t.vector;
}

static void faults(const char *probe, uint64_t a, unsigned vector, const char *name)
{
    struct trap t = trap_catch(probe, a, 0);
    if (!ok(t.vector == vector && t.error == 0, "%s", name))
        tap_note("  vector %x, error code %lx", t.vector, t.error);
}

static void long_mode(void)
{
    is(value_of(l_zero_extend, 0), 1, "64-bit mode: a 32-bit result clears the upper half");
    is(value_of(l_keep16, 0), 0xffffffffffff0001, "  a 16-bit result keeps the rest");
    is(value_of(l_keep8, 0), 0xffffffffffffff01, "  an 8-bit result keeps the rest");
    is(value_of(l_spl, 0), 0, "  SPL");
    low_data()[0] = 0x27182818;
    is(value_of(l_address32, 0), 0x27182818, "  a 67h prefix makes the address 32 bits");
    rt_gdt[0x58 / 8] = descriptor(0x123000, 0xf, 0x4093);
    is(value_of(l_ds_limit, 0), 0x27182818, "  base and limit of DS do not count");
    wrmsr(IA32_FS_BASE, 0x7000);
    is(value_of(l_fs_base, 0), 0x27182818, "  the base of FS does");
    wrmsr(IA32_FS_BASE, 0);
    is(value_of(l_movsxd, 0), 0xffffffff80000000, "  MOVSXD");
    is(value_of(l_cr8_round, 0), 11, "  CR8 keeps what is written");
    is(value_of(l_15_bytes, 0) >> 48 == 0xfa17, 0, "  an instruction of 15 bytes runs");
    faults(l_16_bytes, 0, VECTOR_GP, "  one of 16 is #GP");
    faults(l_lock_nop, 0, VECTOR_UD, "  LOCK NOP is #UD");
    faults(l_lock_register, 0, VECTOR_UD, "  LOCK ADD to a register is #UD");
    faults(l_pusha, 0, VECTOR_UD, "  PUSHA is #UD");
    faults(l_into, 0, VECTOR_UD, "  INTO is #UD");
    faults(l_push_cs, 0, VECTOR_UD, "  PUSH CS is #UD");
    faults(l_aaa, 0, VECTOR_UD, "  AAA is #UD");
    faults(l_far_imm, 0, VECTOR_UD, "  JMP ptr16:32 is #UD");
    (void)l_bound, (void)l_lds;

    uint64_t edge = 0x0000800000000000;
    faults(l_noncanonical, edge, VECTOR_GP, "  a non-canonical address: #GP(0)");
    faults(l_noncanonical_stack, edge + 8, VECTOR_SS, "  on the stack: #SS(0)");
    faults(l_noncanonical_rbp, edge, VECTOR_SS, "  by RBP: #SS(0)");
    struct trap t = trap_catch(l_noncanonical_jump, edge, 0);
    ok(t.vector == VECTOR_GP && t.rip == (uint64_t)l_noncanonical_jump_at,
       "  a jump there: #GP(0) at the jump");
}

static void control_registers(void)
{
    uint64_t cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4(), efer = rdmsr(IA32_EFER);
    faults(l_write_cr0, cr0 & ~(uint64_t)CR0_PG, VECTOR_GP, "64-bit mode: clearing CR0.PG: #GP");
    faults(l_write_cr0, cr0 & ~(uint64_t)CR0_PE, VECTOR_GP, "  clearing CR0.PE with PG set: #GP");
    faults(l_write_cr0, (cr0 | CR0_NW) & ~(uint64_t)CR0_CD, VECTOR_GP, "  CR0.NW without CD: #GP");
    faults(l_write_cr0, cr0 | 1ul << 32, VECTOR_GP, "  CR0 bit 32: #GP");
    faults(l_write_cr4, cr4 & ~(uint64_t)CR4_PAE, VECTOR_GP, "  clearing CR4.PAE: #GP");
    faults(l_write_cr4, cr4 | 1ul << 31, VECTOR_GP, "  a reserved bit of CR4: #GP");
    faults(l_write_cr3, cr3 | 1ul << 62, VECTOR_GP, "  a reserved bit of CR3: #GP");
    faults(l_write_cr8, 16, VECTOR_GP, "  CR8 of 16: #GP");
    faults(l_write_efer, efer & ~(uint64_t)EFER_LME, VECTOR_GP, "  clearing EFER.LME with paging on: #GP");
    faults(l_write_efer, efer | 1u << 1, VECTOR_GP, "  a reserved bit of EFER: #GP");
    faults(l_write_efer, (efer & ~(uint64_t)EFER_LMA) | 0, TRAP_NONE, "  a write of EFER.LMA is ignored");
    is(rdmsr(IA32_EFER), efer, "  it stays set");
    faults(l_cr1, 0, VECTOR_UD, "  MOV from CR1: #UD");
    faults(l_write_cr0, cr0 & ~(uint64_t)CR0_ET, TRAP_NONE, "  a write of 0 to CR0.ET");
    is(read_cr0(), cr0, "  is ignored: it reads as 1");
}

/* ---- privilege transitions in 64-bit mode ---- */

PROBE(s_cs, "mov %cs, %eax");
PROBE(s_nulls, "mov %ds, %eax; shl $4, %eax; mov %es, %ecx; or %ecx, %eax; shl $4, %eax; mov %fs, %ecx; "
               "or %ecx, %eax; shl $4, %eax; mov %gs, %ecx; or %ecx, %eax");
PROBE(s_fs_base, "movl $0x16180339, (%rdi); mov %fs:0, %eax");
PROBE(s_fs_load, "movl $0x16180339, (%rdi); mov %esi, %fs; mov %fs:(%rdi), %eax");
PROBE(s_syscall, "mov $5, %eax; syscall; s_syscall_next: add $100, %eax");
LABEL(s_syscall_next);
PROBE(s_syscall_only, "syscall; s_syscall_only_next: nop");
LABEL(s_syscall_only_next);
PROBE(s_sysenter, "sysenter");
/* The target of SYSCALL: notes RCX, R11, CS, SS and returns by SYSRET. */
asm(".pushsection .text; syscall_target: mov %rcx, 0x7008; mov %r11, 0x7010; mov %cs, %edx; mov %edx, "
    "0x7018; "
    "mov %ss, %edx; mov %edx, 0x701c; pushfq; pop 0x7020; add $1, %eax; sysretq; "
    "sysenter_target: mov %cs, %eax; mov %eax, 0x7018; mov %ss, %eax; mov %eax, 0x701c; ud2; "
    "syscall_here: mov $0x51, %eax; ud2; .popsection");
LABEL(syscall_target);
LABEL(sysenter_target);
static uint8_t kernel_stack[4096] __attribute__((aligned(16)));

static void privilege(void)
{
    struct trap t = user_run(s_cs, 0, 0);
    is(t.vector, TRAP_DONE, "IRETQ to user mode and INT back");
    is(t.rax, SEL_USER_CODE64, "  CS in user mode");
    is(t.cs, SEL_USER_CODE64, "  and in the frame");
    is(t.ss, SEL_USER_DATA, "  SS in the frame");

    /* QEMU's TCG leaves 1 to 3 as they are. */
    asm volatile("mov %0, %%ds; mov %1, %%es; mov %2, %%fs; mov %2, %%gs" ::"r"(1), "r"(2), "r"(3));
    is(user_run(s_nulls, 0, 0).rax, 0, "  IRETQ makes NULL selectors of 1 to 3 zero");
    asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs; mov %0, %%gs" ::"r"(SEL_DATA));
    is(user_run(s_nulls, 0, 0).rax, 0, "  and those of segments for CPL 0");
    wrmsr(IA32_FS_BASE, USER_STACK + 16);
    is(user_run(s_fs_base, USER_STACK + 16, 0).rax, 0x16180339, "  but leaves the base of FS");
    t = user_run(s_fs_load, USER_STACK + 16, 3);
    ok(t.vector == TRAP_DONE && t.rax == 0x16180339, "  which a load of NULL clears");
    wrmsr(IA32_FS_BASE, 0);
    asm volatile("mov %0, %%ds; mov %0, %%es; mov %1, %%fs; mov %1, %%gs" ::"r"(SEL_DATA), "r"(0));

    wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~(uint64_t)EFER_SCE);
    is(user_run(s_syscall, 0, 0).vector, VECTOR_UD, "SYSCALL with EFER.SCE=0: #UD");
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SCE);
    wrmsr(IA32_STAR, (uint64_t)(SEL_USER_CODE32) << 48 | (uint64_t)SEL_CODE64 << 32);
    wrmsr(IA32_LSTAR, (uint64_t)syscall_target);
    wrmsr(IA32_FMASK, RFLAGS_CF | RFLAGS_AC);
    /* SYSCALL does not switch stacks: the target's PUSHF writes to the user's. Supervisor code may (no SMAP).
     */
    volatile uint32_t *d = low_data();
    t = user_run_flags(s_syscall, 0, 0, RFLAGS_CF | RFLAGS_PF);
    is(t.vector, TRAP_DONE, "SYSCALL and SYSRET");
    is(t.rax, 106, "  go there and back");
    is(*(volatile uint64_t *)&d[2], USER_CODE + (uint64_t)(s_syscall_next - s_syscall),
       "  RCX holds the return address");
    is(*(volatile uint64_t *)&d[4] & 0x8d5, RFLAGS_CF | RFLAGS_PF, "  R11 holds the flags");
    is(d[6], SEL_CODE64, "  CS from STAR");
    is(d[7], SEL_DATA, "  SS is the next descriptor");
    is(d[8] & (RFLAGS_CF | RFLAGS_PF), RFLAGS_PF, "  FMASK clears flags");
    is(t.cs, SEL_USER_CODE64, "  SYSRET's CS from STAR + 16");
    is(t.ss, SEL_USER_DATA, "  and SS from STAR + 8");
    (void)s_syscall_only, (void)s_syscall_only_next;

    if (cpuid(1, 0).edx & 1u << 11) {
        wrmsr(IA32_SYSENTER_CS, 0);
        is(user_run(s_sysenter, 0, 0).vector, VECTOR_GP, "SYSENTER with IA32_SYSENTER_CS of 0: #GP");
        wrmsr(IA32_SYSENTER_CS, SEL_CODE64);
        wrmsr(IA32_SYSENTER_EIP, (uint64_t)sysenter_target);
        wrmsr(IA32_SYSENTER_ESP, (uint64_t)(kernel_stack + sizeof(kernel_stack)));
        t = user_run(s_sysenter, 0, 0);
        is(t.vector, VECTOR_UD, "SYSENTER arrives");
        is(t.rsp, (uint64_t)(kernel_stack + sizeof(kernel_stack)), "  on its stack");
        is(d[6], SEL_CODE64, "  with its CS");
        is(d[7], SEL_DATA, "  and SS behind it");
    } else {
        skip(5, "no SYSENTER");
    }
}

int rom_main(void)
{
    tap_begin("modes and the ways between them");
    real_mode();
    unreal_mode();
    protected_mode();
    compatibility_mode();
    long_mode();
    control_registers();
    privilege();
    return tap_end();
}

/*
 * Virtual-8086 mode: entering by IRET, leaving by exceptions and INT n, the instructions that IOPL guards,
 * and what CR4.VME and CR4.PVI make of them (SDM volume 3 chapter 22).
 *
 * A monitor in 32-bit protected mode without paging enters the 8086 program, and every vector leads back.
 * QEMU's TCG passes all of it but for the segment limit, which it does not check. Bochs 2.7 minds VIF and VIP
 * with IOPL 3 too, and does not at CPL 3 with PVI. Neither has linear FIP and FDP (volume 1, figure 8-12).
 *
 * Missing: entering by a task switch; paging.
 */
#include "low.h"
#include "tap.h"
#include "user.h"

#define CR4_VME    (1u << 0)
#define CR4_PVI    (1u << 1)
#define VIF        (1u << 19)
#define VIP        (1u << 20)
#define IOPL3      RFLAGS_IOPL3
#define IF         RFLAGS_IF
#define SEL_TSS32  0x58
#define V_TSS      0xc000
#define V_REDIRECT (V_TSS + 0x68)
#define V_IOMAP    (V_TSS + 0x88)
#define V_STACK0   0x6c00
#define V_CODE     0xa000 /* 0A00:0000 */
#define V_STACK    0xb000 /* 0B00:0000 */
#define V_SP       0x100

/* What the monitor is told, and what it says, at LOW_DATA. */
struct monitor {
    uint32_t cr4, esp;
    struct {
        uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs;
    } enter;
    uint32_t vector, eax, gs, fs, es, ds; /* registers in the handler */
    uint32_t stack[12];                   /* from its ESP: an error code perhaps, then the frame */
    uint32_t handler_eflags, handler_esp;
};
_Static_assert(offsetof(struct monitor, enter) == 8 && offsetof(struct monitor, vector) == 44 &&
                   offsetof(struct monitor, stack) == 68 && offsetof(struct monitor, handler_eflags) == 116,
               "the monitor's assembly knows these");

asm(".pushsection .text; .balign 16; monitor: .code32;"
    "pusha; mov %esp, 0x7004; mov 0x7000, %eax; mov %eax, %cr4; mov $0x58, %eax; ltr %ax;"
    "mov $9, %ecx; 1: pushl 0x7008 - 4(, %ecx, 4); loop 1b; iret;"
    ".balign 8; monitor_stubs: .set vector, 0; .rept 32; .balign 8; push $vector; jmp monitor_entry;"
    ".set vector, vector + 1; .endr;"
    "monitor_entry: push %eax; push %gs; push %fs; push %es; push %ds; pushf; mov $0x10, %eax; mov %eax, %ds;"
    "mov %eax, %es; popl 0x7074; popl 0x7040; popl 0x703c; popl 0x7038; popl 0x7034; popl 0x7030;"
    "popl 0x702c;"
    "mov %esp, 0x7078; mov %esp, %esi; mov $0x7044, %edi; mov $12, %ecx; cld; rep movsl;"
    "mov 0x7004, %esp; popa; ret; monitor_end: .code64; .popsection");
extern const uint8_t monitor[], monitor_stubs[], monitor_end[];

#define V86(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": .code16; " code "; ud2; .code64; " #name \
        "_end: .popsection"); \
    extern const uint8_t name[], name##_end[]

static volatile struct monitor *const m = (volatile struct monitor *)LOW_DATA;

/* Runs the program with these flags (and VM) and bits of CR4. */
static void run(const uint8_t *code, uint32_t flags, uint32_t cr4)
{
    uint64_t saved = read_cr4();
    memcpy((void *)V_CODE, code, 256);
    m->cr4 = (uint32_t)saved | cr4;
    m->enter.eip = 0;
    m->enter.cs = V_CODE >> 4;
    m->enter.eflags = RFLAGS_FIXED | RFLAGS_VM | flags;
    m->enter.esp = V_SP;
    m->enter.ss = V_STACK >> 4;
    m->enter.es = 0x1111;
    m->enter.ds = V_STACK >> 4;
    m->enter.fs = 0x2222;
    m->enter.gs = 0x3333;
    m->vector = 0xffff;
    rt_gdt[SEL_TSS32 / 8] = 0x0000890000000000 | (uint64_t)V_TSS << 16 | 0xff;
    low_run(LOW_PROTECTED32, monitor, monitor_end);
    write_cr4(saved);
    rt_gdt[SEL_TSS / 8] &= ~(2ul << 40); /* not busy */
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
}

static bool has_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

enum { EIP, CS, EFLAGS, ESP, SS, ES, DS, FS, GS };
static uint32_t frame(unsigned item) { return m->stack[has_error_code(m->vector) + item]; }
static uint32_t flags_out(void) /* without what every fault's frame has */
{
    return frame(EFLAGS) & ~(RFLAGS_VM | RFLAGS_RF | RFLAGS_FIXED);
}
static uint16_t stack_word(unsigned sp) { return *(volatile uint16_t *)(uintptr_t)(V_STACK + sp); }

static void left(unsigned vector, uint32_t ip, const char *name)
{
    bool good = m->vector == vector && frame(EIP) == ip && (!has_error_code(vector) || m->stack[0] == 0);
    if (!ok(good, "%s", name))
        tap_note("  vector %x (want %x), error code %x, ip %x (want %x), flags %x", m->vector, vector,
                 m->stack[0], frame(EIP), ip, frame(EFLAGS));
}

V86(v_ud, "");
V86(v_segments, "mov $0xb10, %ax; mov %ax, %es; movw $0x1234, %es:2; mov 0x102, %ax");
V86(v_limit, "mov $0xffff, %bx; mov (%bx), %ax");
V86(v_sldt, "sldt %ax");
V86(v_arpl, ".byte 0x63, 0xc0");
V86(v_hlt, "hlt");
V86(v_cr0, "mov %cr0, %eax");
V86(v_lgdt, "lgdt 0");
V86(v_smsw, "smsw %ax");
V86(v_int3, "int3");
V86(v_in, "in $0x80, %al");
V86(v_fpu, "fninit; flds 0x40; fnstenvs 0x50");
V86(v_far_call, "lcall $0xa01, $2; .fill 12, 1, 0x90; ud2");

static void entering_and_leaving(void)
{
    run(v_ud, IF | RFLAGS_NT | RFLAGS_CF | IOPL3, 0);
    left(6, 0, "UD2 leaves for the #UD handler");
    is(frame(CS), V_CODE >> 4, "  CS in the frame");
    is(frame(EFLAGS) & ~RFLAGS_RF, RFLAGS_VM | IF | RFLAGS_NT | RFLAGS_CF | IOPL3 | RFLAGS_FIXED,
       "  EFLAGS with VM");
    is(frame(ESP), V_SP, "  ESP");
    is(frame(SS), V_STACK >> 4, "  SS");
    is(frame(ES), 0x1111, "  ES");
    is(frame(DS), V_STACK >> 4, "  DS");
    is(frame(FS), 0x2222, "  FS");
    is(frame(GS), 0x3333, "  GS");
    is(m->handler_esp, V_STACK0 - 36, "  nine words on the stack of level 0");
    ok(!m->ds && !m->es && !m->fs && !m->gs, "  the data segments are NULL in the handler");
    is(m->handler_eflags & (RFLAGS_VM | IF | RFLAGS_NT | RFLAGS_TF), 0, "  VM, IF and NT are clear");
    is(m->handler_eflags & (IOPL3 | RFLAGS_CF), IOPL3 | RFLAGS_CF, "  IOPL stays");
    run(v_segments, 0, 0);
    is((uint16_t)m->eax, 0x1234, "a segment's base is its selector * 16");
    is(frame(ES), 0xb10, "  and its new selector is in the frame");
    run(v_limit, 0, 0);
    left(13, 3, "a word at offset FFFF: #GP");
    run(v_far_call, 0, 0);
    is(frame(CS), 0xa01, "a far call");
    is(stack_word(V_SP - 2), V_CODE >> 4, "  pushes CS");
    run(v_fpu, 0, 0);
    is(stack_word(0x56), V_CODE + 2, "the x87 environment is that of real mode: FIP is linear");
    is(stack_word(0x5a), V_STACK + 0x40, "  and FDP");
    run(v_sldt, 0, 0);
    left(6, 0, "SLDT: #UD");
    run(v_arpl, 0, 0);
    left(6, 0, "ARPL: #UD");
    run(v_hlt, IOPL3, 0);
    left(13, 0, "HLT: #GP");
    run(v_cr0, IOPL3, 0);
    left(13, 0, "MOV from CR0: #GP");
    run(v_lgdt, IOPL3, 0);
    left(13, 0, "LGDT: #GP");
    run(v_smsw, 0, 0);
    left(6, 3, "SMSW runs");
    run(v_int3, 0, 0);
    left(3, 1, "INT3 does not look at IOPL");
    run(v_ud, RFLAGS_TF, 0);
    left(6, 0, "a fault under TF");
    run(v_in, IOPL3, 0);
    left(13, 0, "IN: #GP by the permission bitmap, even with IOPL 3");
    *(volatile uint8_t *)(V_IOMAP + 0x10) = 0xfe;
    run(v_in, 0, 0);
    left(6, 2, "  which allows it with IOPL 0");
    *(volatile uint8_t *)(V_IOMAP + 0x10) = 0xff;
}

V86(v_cli, "cli");
V86(v_sti, "sti");
V86(v_pushf, "pushf");
V86(v_pushfd, "pushfl");
V86(v_popf_if, "pushw $0x202; popf");
V86(v_popf_none, "pushw $0x3002; popf");
V86(v_popf_tf, "pushw $0x102; popf");
V86(v_popfd, "pushl $0x80202; popfl");
V86(v_iret_if, "pushw $0x202; push %cs; pushw $7; iret");
V86(v_iret_none, "pushw $0x3002; push %cs; pushw $7; iret");
V86(v_iret_tf, "pushw $0x102; push %cs; pushw $7; iret");
V86(v_iretd, "pushl $0x202; pushl $0xa00; pushl $17; iretl");

static void sensitive(bool vme)
{
    static const struct {
        const char *name;
        const uint8_t *code;
        uint32_t flags, cr4, ip, out; /* out 1: #GP at ip; else the flags at the UD2 at ip */
    } rows[] = {
        {"IOPL 3: CLI clears IF", v_cli, IOPL3 | IF | VIF, CR4_VME, 1, IOPL3 | VIF},
        {"IOPL 3: STI sets IF, whatever VIP", v_sti, IOPL3 | VIP, CR4_VME, 1, IOPL3 | IF | VIP},
        {"IOPL 3: POPF loads IF", v_popf_if, IOPL3, 0, 4, IOPL3 | IF},
        {"IOPL 3: POPFD leaves VIF", v_popfd, IOPL3, 0, 8, IOPL3 | IF},
        {"IOPL 3: IRET loads IF", v_iret_if, IOPL3, 0, 7, IOPL3 | IF},
        {"IOPL 3: IRETD", v_iretd, IOPL3, 0, 17, IOPL3 | IF},
        {"IOPL 2: CLI: #GP", v_cli, 2 << 12, 0, 0, 1},
        {"IOPL 2: STI: #GP", v_sti, 2 << 12, CR4_PVI, 0, 1},
        {"IOPL 0: PUSHF: #GP", v_pushf, 0, 0, 0, 1},
        {"IOPL 0: POPF: #GP", v_popf_if, 0, 0, 3, 1},
        {"IOPL 0: IRET: #GP", v_iret_if, 0, 0, 6, 1},
        {"VME: CLI clears VIF", v_cli, IF | VIF, CR4_VME, 1, IF},
        {"VME: STI sets VIF", v_sti, 0, CR4_VME, 1, VIF},
        {"VME: STI with VIP: #GP", v_sti, VIP, CR4_VME, 0, 1},
        {"VME: PUSHFD: #GP", v_pushfd, 0, CR4_VME, 0, 1},
        {"VME: POPF sets VIF", v_popf_if, 0, CR4_VME, 4, VIF},
        {"VME: POPF clears VIF, and leaves IF and IOPL", v_popf_none, IF | VIF, CR4_VME, 4, IF},
        {"VME: POPF of IF with VIP: #GP", v_popf_if, VIP, CR4_VME, 3, 1},
        {"VME: POPF without IF with VIP", v_popf_none, VIP, CR4_VME, 4, VIP},
        {"VME: VIF and VIP at the beginning of an instruction: #GP", v_ud, VIF | VIP, CR4_VME, 0, 1},
        {"IOPL 3: VIF and VIP mean nothing", v_smsw, VIF | VIP | IOPL3, CR4_VME, 3, VIF | VIP | IOPL3},
        {"VME: POPF of TF: #GP", v_popf_tf, 0, CR4_VME, 3, 1},
        {"VME: POPFD: #GP", v_popfd, 0, CR4_VME, 6, 1},
        {"VME: IRET sets VIF", v_iret_if, 0, CR4_VME, 7, VIF},
        {"VME: IRET clears VIF", v_iret_none, IF | VIF, CR4_VME, 7, IF},
        {"VME: IRET of IF with VIP: #GP", v_iret_if, VIP, CR4_VME, 6, 1},
        {"VME: IRET of TF: #GP", v_iret_tf, 0, CR4_VME, 6, 1},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].cr4 && !vme) {
            skip_one(rows[i].name, "no VME");
            continue;
        }
        run(rows[i].code, rows[i].flags, rows[i].cr4);
        bool good = rows[i].out == 1 ? m->vector == 13 && flags_out() == rows[i].flags
                                     : m->vector == 6 && flags_out() == rows[i].out;
        if (!ok(good && frame(EIP) == rows[i].ip, "%s", rows[i].name))
            tap_note("  vector %x, ip %x (want %x), flags %x (want %x)", m->vector, frame(EIP), rows[i].ip,
                     flags_out(), rows[i].out);
    }
    run(v_pushf, IOPL3 | IF, 0);
    is(stack_word(V_SP - 2), IOPL3 | IF | 2, "IOPL 3: PUSHF pushes IF");
    if (!vme) {
        skip(2, "no VME");
        return;
    }
    run(v_pushf, IF, CR4_VME);
    is(stack_word(V_SP - 2), IOPL3 | 2, "VME: PUSHF pushes VIF in the place of IF, and IOPL 3");
    run(v_pushf, VIF, CR4_VME);
    is(stack_word(V_SP - 2), IOPL3 | IF | 2, "  and if it is set");
}

V86(v_int, "int $0x1c");
V86(v_handler, "nop");

static void software_interrupt(uint32_t flags, uint32_t cr4, bool redirect, unsigned vector, uint32_t image,
                               uint32_t after, const char *name)
{
    volatile uint8_t *bit = (volatile uint8_t *)(V_REDIRECT + 0x1c / 8);
    *bit = redirect ? (uint8_t) ~(1u << (0x1c & 7)) : 0xff;
    run(v_int, flags, cr4);
    *bit = 0xff;
    if (!redirect || vector == 13) {
        left(vector, vector == 13 ? 0 : 2, name);
        return;
    }
    if (!ok(m->vector == 6 && frame(CS) == 0xd00 && frame(EIP) == 0x11 && flags_out() == after &&
                frame(ESP) == V_SP - 6 && stack_word(V_SP - 6) == 2 && stack_word(V_SP - 4) == V_CODE >> 4 &&
                stack_word(V_SP - 2) == (image | 2),
            "%s", name))
        tap_note("  vector %x at %x:%x, flags %x (want %x), image %x (want %x)", m->vector, frame(CS),
                 frame(EIP), flags_out(), after, stack_word(V_SP - 2), image);
}

static void software_interrupts(bool vme)
{
    memcpy((void *)0xd010, v_handler, 16);
    low_vector(0x1c, 0xd00, 0x10);
    software_interrupt(IOPL3 | IF, 0, false, 0x1c, 0, 0, "INT n with IOPL 3 goes through the IDT");
    software_interrupt(0, 0, false, 13, 0, 0, "INT n with IOPL 0: #GP");
    software_interrupt(0, 0, true, 13, 0, 0, "  the bitmap is nothing without VME");
    if (!vme) {
        skip(7, "no VME");
        return;
    }
    software_interrupt(IOPL3, CR4_VME, false, 0x1c, 0, 0, "VME: INT n with its bit set and IOPL 3: the IDT");
    software_interrupt(0, CR4_VME, false, 13, 0, 0, "  and with IOPL 0: #GP");
    software_interrupt(IOPL3 | IF, CR4_VME, true, 0, IOPL3 | IF, IOPL3,
                       "VME: INT n with its bit clear and IOPL 3: the program's own handler, IF clear");
    software_interrupt(IOPL3 | VIF, CR4_VME, true, 0, IOPL3, IOPL3 | VIF, "  VIF stays");
    software_interrupt(VIF, CR4_VME, true, 0, IOPL3 | IF, 0,
                       "  with IOPL 0: VIF is pushed as IF, with IOPL 3, and cleared");
    software_interrupt(IF, CR4_VME, true, 0, IOPL3, IF, "  IF stays");
    *(volatile uint16_t *)(V_TSS + 0x66) = 0x10;
    software_interrupt(IOPL3, CR4_VME, true, 13, 0, 0, "  a TSS without a redirection bitmap: #GP");
    *(volatile uint16_t *)(V_TSS + 0x66) = V_IOMAP - V_TSS;
}

/* ---- CPL 3 of 64-bit mode with PVI ---- */

PROBE(u_cli, "cli; pushfq; pop %rax");
PROBE(u_sti, "sti; pushfq; pop %rax");

static void protected_virtual_interrupts(bool vme)
{
    is(user_run(u_cli, 0, 0).vector, VECTOR_GP, "CPL 3: CLI: #GP");
    is(user_run(u_sti, 0, 0).vector, VECTOR_GP, "  STI: #GP");
    if (!vme) {
        skip(5, "no VME");
        return;
    }
    write_cr4(read_cr4() | CR4_PVI);
    struct trap t = user_run_flags(u_cli, 0, 0, VIF);
    is(t.vector == TRAP_DONE ? t.rax & (VIF | VIP | IF) : 0xbad, 0, "PVI: CLI clears VIF");
    t = user_run(u_sti, 0, 0);
    is(t.vector == TRAP_DONE ? t.rax & (VIF | VIP | IF) : 0xbad, VIF, "  STI sets it");
    is(user_run_flags(u_sti, 0, 0, VIP).vector, VECTOR_GP, "  STI with VIP: #GP");
    t = user_run_flags(u_cli, 0, 0, VIF | VIP);
    ok(t.vector == VECTOR_GP && t.rip == USER_CODE, "  VIF and VIP at the beginning of an instruction: #GP");
    t = user_run_flags(u_cli, 0, 0, IOPL3 | VIF | IF);
    is(t.vector == TRAP_DONE ? t.rax & (VIF | VIP | IF) : 0xbad, VIF, "  with IOPL 3 CLI clears IF");
    write_cr4(read_cr4() & ~(uint64_t)CR4_PVI);
}

int rom_main(void)
{
    tap_begin("virtual-8086 mode");
    bool vme = cpuid(1, 0).edx & 1u << 1;
    memset((void *)V_TSS, 0, 0x88);
    memset((void *)V_REDIRECT, 0xff, 0x98);
    *(volatile uint32_t *)(V_TSS + 4) = V_STACK0;
    *(volatile uint16_t *)(V_TSS + 8) = SEL_DATA;
    *(volatile uint16_t *)(V_TSS + 0x66) = V_IOMAP - V_TSS;
    for (unsigned i = 0; i < 32; i++) {
        uint32_t stub = LOW_ADDRESS(monitor, monitor_stubs) + 8 * i;
        low_gate(i, stub, i == 3 || i == 0x1c ? 0x6e : 0xe);
    }
    entering_and_leaving();
    sensitive(vme);
    software_interrupts(vme);
    protected_virtual_interrupts(vme);
    return tap_end();
}

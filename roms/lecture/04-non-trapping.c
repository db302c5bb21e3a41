/*
 * 4. Sensitive instructions that do not trap. Popek and Goldberg: a processor can be virtualized by trap and
 * emulate if every sensitive instruction - one that reads or changes the machine's state, or depends on the
 * mode - traps outside the privileged mode. x86 has some twenty that do not.
 *
 * Each is tried: in ring 3, in ring 3 with CR4.UMIP, and in ring 0 under VT-x with the controls that concern
 * it. Nothing in the table is known beforehand.
 */
#include "lecture.h"

/* What to try: it must come to its end if nothing stops it. RBX points at the guest's scratch memory. */
#define TRY(name, code) GUEST(name, "mov $0x40000100, %ebx; mov %cs, %esi; mov %ss, %edi; " code GUEST_ENDS)
TRY(t_sgdt, "sgdt (%rbx)");
TRY(t_sidt, "sidt (%rbx)");
TRY(t_sldt, "sldt %eax");
TRY(t_str, "str %eax");
TRY(t_smsw, "smsw %eax");
TRY(t_pushf, "pushfq; pop %rax");
TRY(t_popf, "pushq $0x202; popfq; pushq $2; popfq");
TRY(t_lar, "lar %esi, %eax");
TRY(t_lsl, "lsl %esi, %eax");
TRY(t_verr, "verr %si");
TRY(t_verw, "verw %di");
TRY(t_push_fs, "pushq %fs; pop %rax");
TRY(t_pop_fs, "pushq %fs; popq %fs");
TRY(t_mov_from, "mov %cs, %eax");
TRY(t_mov_to, "mov %edi, %ss");
TRY(t_call, "movl $(0x40001000 + 1f - t_call), (%rbx); mov %cs, 4(%rbx); lcall *(%rbx); 1:");
TRY(t_jmp, "movl $(0x40001000 + 1f - t_jmp), (%rbx); mov %cs, 4(%rbx); ljmp *(%rbx); 1:");
TRY(t_ret, "push %rsi; lea 1f(%rip), %rax; push %rax; lretq; 1:");
TRY(t_iret,
    "mov %rsp, %rax; push %rdi; push %rax; pushfq; push %rsi; lea 1f(%rip), %rax; push %rax; iretq; 1:");
TRY(t_int, "int $0x90");
TRY(t_lgdt, "sgdt (%rbx); lgdt (%rbx)");
TRY(t_cli, "cli");
TRY(t_mov_cr, "mov %cr0, %rax");
TRY(t_hlt, "hlt");

static const struct row {
    const char *name, *why;
    const uint8_t *code, *end;
    char control; /* D: descriptor-table exiting, C: CR0 mask, H: HLT exiting, 0: none */
} rows[] = {
#define ROW(name, control, text, why) \
    { \
        text, why, name, name##_end, control \
    }
    ROW(t_sgdt, 'D', "SGDT", "reads where the GDT is"),
    ROW(t_sidt, 'D', "SIDT", "reads where the IDT is"),
    ROW(t_sldt, 'D', "SLDT", "reads LDTR"),
    ROW(t_str, 'D', "STR", "reads TR"),
    ROW(t_smsw, 0, "SMSW", "reads CR0"),
    ROW(t_pushf, 0, "PUSHF", "reads IF and IOPL"),
    ROW(t_popf, 0, "POPF", "drops IF and IOPL silently"),
    ROW(t_lar, 0, "LAR", "reads a descriptor, by CPL"),
    ROW(t_lsl, 0, "LSL", "reads a descriptor, by CPL"),
    ROW(t_verr, 0, "VERR", "asks for rights, by CPL"),
    ROW(t_verw, 0, "VERW", "asks for rights, by CPL"),
    ROW(t_push_fs, 0, "PUSH sreg", "reads a selector's RPL"),
    ROW(t_pop_fs, 0, "POP sreg", "loads a selector, by CPL"),
    ROW(t_mov_from, 0, "MOV from sreg", "reads CPL, as CS has it"),
    ROW(t_mov_to, 0, "MOV to sreg", "loads a selector, by CPL"),
    ROW(t_call, 0, "far CALL", "pushes CS, which has CPL"),
    ROW(t_jmp, 0, "far JMP", "loads CS, by CPL"),
    ROW(t_ret, 0, "far RET", "loads CS, by CPL"),
    ROW(t_iret, 0, "IRET", "loads IF, or drops it"),
    ROW(t_int, 0, "INT n", "goes through a gate, by CPL"),
    ROW(t_lgdt, 'D', "LGDT", "loads GDTR (privileged)"),
    ROW(t_cli, 0, "CLI", "clears IF (privileged)"),
    ROW(t_mov_cr, 0, "MOV from CR0", "reads CR0 (privileged)"),
    ROW(t_hlt, 'H', "HLT", "stops (privileged)"),
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* In ring 3: the exception that brought it to the monitor, or -1. */
static int seen;
static bool look(struct trap_frame *f)
{
    if (seen < 0) seen = (int)f->vector;
    return false; /* the monitor emulates it, or the guest ends here */
}
static int in_ring3(const struct row *r)
{
    guest_load(r->code, r->end, NULL, NULL);
    seen = -1;
    ring_hook = look;
    ring_run(0, 0);
    ring_hook = NULL;
    return seen;
}

static bool serve(const struct vmx_exit *e) { return vmx_skip_instruction(), e->reason != 0; }
/* Ring 0 under VT-x: the reason of its first exit, or -1. INT n finds an IRET in the guest's IDT. */
static int under_vtx(const struct row *r)
{
    static const uint8_t iretq[] = {0x48, 0xcf};
    guest_load(r->code, r->end, iretq, iretq + 2);
    struct idt_gate *gate = (struct idt_gate *)(guest_memory + (GUEST_IDT - GUEST_AT)) + 0x90;
    *gate = (struct idt_gate){(uint16_t)GUEST_APP, 8, 0, 0x8e, GUEST_APP >> 16, 0, 0};
    vt_prepare();
    if (r->control == 'D' && vmx_has_secondary(PROC2_DESCRIPTOR_TABLE_EXITING))
        vmx_set_proc2(PROC2_DESCRIPTOR_TABLE_EXITING);
    if (r->control == 'H') vmx_set_proc(PROC_HLT_EXITING);
    vt_hook = serve;
    struct outcome o = vt_run(0, 0);
    vt_hook = NULL;
    if (!o.finished) panic("%s: stopped by %s", r->name, vmx_exit_name(o.vector));
    return o.exits ? 1 : -1;
}

static const char *fault(int vector)
{
    return vector < 0 ? "runs" : vector == VECTOR_GP ? "#GP" : vector == VECTOR_UD ? "#UD" : "other";
}

int rom_main(void)
{
    lecture_begin(4, "sensitive instructions that do not trap");
    const char *no_vtx = vt_missing();
    if (!no_vtx) vmx_off(); /* for the first two columns */
    bool umip = cpuid_if_present(7, 0).ecx & 1u << 2;
    unsigned silent = 0, with_umip = 0, caught = 0, exiting = 0;
    scene("each is tried: ring 3, ring 3 with UMIP, ring 0 under VT-x with the controls for it");
    say("%-14s %-7s %-7s %-26s %s", "instruction", "ring 3", "UMIP", "VT-x", "it is sensitive, for it");
    for (unsigned i = 0; i < ROWS; i++) {
        const struct row *r = &rows[i];
        int plain = in_ring3(r), kept = 0, exits = 0;
        if (umip) {
            write_cr4(read_cr4() | CR4_UMIP);
            kept = in_ring3(r);
            write_cr4(read_cr4() & ~(uint64_t)CR4_UMIP);
        }
        if (!no_vtx) {
            if (!vmx_on()) panic("VMXON");
            exits = under_vtx(r);
            vmx_off();
        }
        silent += plain < 0;
        with_umip += umip && kept < 0;
        caught += plain < 0 && umip && kept >= 0;
        exiting += exits > 0;
        say("%-14s %-7s %-7s %-26s %s", r->name, fault(plain), umip ? fault(kept) : "absent",
            no_vtx      ? "absent"
            : exits > 0 ? "exits, as asked"
                        : "runs on the guest's state",
            r->why);
    }
    figure(ROWS, "instructions tried");
    figure(silent, "run in ring 3 without a trap");
    figure(with_umip, "still do with UMIP");
    figure(exiting, "exit under VT-x because a control says so");
    say("Sensitive and not trapping: the condition fails, and trap and emulate alone cannot virtualize x86.");
    say("VT-x does not make them trap. It gives them the guest's own state, so that they need not.");
    ok(silent > 0, "there are instructions that are sensitive and do not trap: x86 is not virtualizable by "
                   "trap and emulate");
    is(in_ring3(&rows[20]), VECTOR_GP, "LGDT is privileged: it traps");
    is(in_ring3(&rows[21]), VECTOR_GP, "so is CLI");
    if (umip)
        is(caught, 5, "UMIP makes five of them trap: SGDT, SIDT, SLDT, STR, SMSW");
    else
        skip_one("UMIP", "the processor has no UMIP");
    if (no_vtx)
        skip(1, no_vtx);
    else
        ok(exiting < silent, "under VT-x most need no exit: they run on the guest's own state");
    return lecture_end();
}

/*
 * Task switches in non-root operation (SDM 28.4.2): they exit, with reason 9, after the checks on gate and
 * new TSS and before anything is changed; what the qualification, the instruction's length and the original
 * event say (SDM 30.2.1, 30.2.4, 30.2.5), by instruction and by task gates in the IDT; and the faults that
 * come before the exit.
 *
 * The guest is in 32-bit protected mode without paging (unrestricted guest), in the task A; B is the other
 * one.
 *
 * Missing: virtual-8086 tasks, paging.
 */
#include "vmx-common.h"

#define CODE(name, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": .code32; " before "; " #name "_at: " instruction \
        "; " #name "_end: vmcall; .code64; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

/* Selectors of the guest's GDT. */
enum {
    CODE32 = 8,
    DATA32 = 16,
    TASK_A = 24,
    TASK_B = 32,
    GATE = 40,
    BUSY = 48,
    SMALL = 56,
    ABSENT = 64,
    GATE_ABSENT = 72,
    LIMIT = 80
};
enum { BY_CALL, BY_IRET, BY_JMP, BY_IDT };

CODE(t_jmp, "", "ljmp $0x20, $0");
CODE(t_jmp_gate, "", "ljmp $0x28, $0");
CODE(t_call, "nop", "lcall $0x20, $0");
CODE(t_call16, "", ".byte 0x66, 0x9a, 0, 0, 0x28, 0");
CODE(t_iret, "", "iret");
CODE(t_int, "", "int $0x30");
CODE(t_int3, "", "int3");
CODE(t_int1, "", ".byte 0xf1");
CODE(t_ud, "nop", "ud2");
CODE(t_gp, "mov $0x78, %ax", "mov %ax, %ds");
CODE(t_into, "movb $0x7f, %al; inc %al", "into");
CODE(t_nop, "", "nop");
CODE(t_jmp_busy, "", "ljmp $0x30, $0");
CODE(t_jmp_small, "", "ljmp $0x38, $0");
CODE(t_jmp_absent, "", "ljmp $0x40, $0");
CODE(t_jmp_gate_absent, "", "ljmp $0x48, $0");

static struct vmx_vcpu v;
static uint64_t *gdt, *idt;
static uint8_t *tss; /* A at 0, B at 100h */

static uint64_t system_segment(uint64_t base, uint64_t limit, uint64_t rights)
{
    return limit | (base & 0xffffff) << 16 | rights << 40 | (base >> 24) << 56;
}
static uint64_t task_gate(uint64_t selector, uint64_t rights) { return selector << 16 | rights << 40; }

static void start(const void *code, uint64_t flags)
{
    guest_init_ept(&v, code);
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_protected_mode();
    v.regs = (struct vmx_regs){0};
    gdt[CODE32 / 8] = 0x00cf9b000000ffff;
    gdt[DATA32 / 8] = 0x00cf93000000ffff;
    gdt[TASK_A / 8] = system_segment((uint64_t)tss, 0x67, 0x8b);
    gdt[TASK_B / 8] = system_segment((uint64_t)tss + 0x100, 0x67, 0x89);
    gdt[GATE / 8] = task_gate(TASK_B, 0x85);
    gdt[BUSY / 8] = system_segment((uint64_t)tss + 0x100, 0x67, 0x8b);
    gdt[SMALL / 8] = system_segment((uint64_t)tss + 0x100, 0x66, 0x89);
    gdt[ABSENT / 8] = system_segment((uint64_t)tss + 0x100, 0x67, 0x09);
    gdt[GATE_ABSENT / 8] = task_gate(TASK_B, 0x05);
    memset(tss, 0, 0x200);
    *(uint16_t *)tss = BUSY; /* where IRET goes */
    for (unsigned i = 0; i < 256; i++) idt[i] = task_gate(TASK_B, 0xe5);
    for (unsigned i = 0; i < 6; i++) vmwrite(GUEST_ES_SELECTOR + 2 * i, DATA32);
    vmwrite(GUEST_CS_SELECTOR, CODE32);
    vmwrite(GUEST_TR_SELECTOR, TASK_A);
    vmwrite(GUEST_TR_BASE, (uint64_t)tss);
    vmwrite(GUEST_TR_LIMIT, 0x67);
    vmwrite(GUEST_GDTR_BASE, (uint64_t)gdt);
    vmwrite(GUEST_GDTR_LIMIT, LIMIT - 1);
    vmwrite(GUEST_IDTR_BASE, (uint64_t)idt);
    vmwrite(GUEST_IDTR_LIMIT, 0x7ff);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | flags);
    vmwrite(EXCEPTION_BITMAP, 0);
}

/* Nothing of the switch has happened. */
static void untouched(void)
{
    bool zero = *(uint16_t *)tss == BUSY;
    for (unsigned i = 2; i < 0x200; i++) zero &= !tss[i];
    ok(zero && (gdt[TASK_A / 8] >> 40 & 0xff) == 0x8b && (gdt[TASK_B / 8] >> 40 & 0xff) == 0x89 &&
           (gdt[BUSY / 8] >> 40 & 0xff) == 0x8b && vmread(GUEST_TR_SELECTOR) == TASK_A &&
           !(vmread(GUEST_CR0) & CR0_TS),
       "  TSSs, descriptors, TR and CR0.TS are as they were");
}

static void switches(void)
{
    static const struct {
        const char *name;
        const uint8_t *code, *at, *end; /* end: NULL where the length is undefined */
        uint64_t flags;
        uint32_t inject, qualification, event, error;
    } rows[] = {
        {"JMP to a TSS", t_jmp, t_jmp_at, t_jmp_end, 0, 0, TASK_B | (uint32_t)BY_JMP << 30, 0, 0},
        {"JMP through a task gate", t_jmp_gate, t_jmp_gate_at, t_jmp_gate_end, RFLAGS_RF, 0,
         TASK_B | (uint32_t)BY_JMP << 30, 0, 0},
        {"CALL of a TSS", t_call, t_call_at, t_call_end, 0, 0, TASK_B | BY_CALL << 30, 0, 0},
        {"CALL with 16 bits through a task gate", t_call16, t_call16_at, t_call16_end, 0, 0,
         TASK_B | BY_CALL << 30, 0, 0},
        {"IRET with NT", t_iret, t_iret_at, t_iret_end, RFLAGS_NT, 0, BUSY | BY_IRET << 30, 0, 0},
        {"INT n", t_int, t_int_at, t_int_end, 0, 0, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x30, 0},
        {"INT3", t_int3, t_int3_at, t_int3_end, 0, 0, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | 3, 0},
        {"INTO", t_into, t_into_at, t_into_end, 0, 0, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | 4, 0},
        {"INT1", t_int1, t_int1_at, t_int1_end, 0, 0, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_PRIVILEGED_SOFTWARE_EXCEPTION | 1, 0},
        {"a fault", t_ud, t_ud_at, NULL, 0, 0, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6, 0},
        {"a fault with an error code", t_gp, t_gp_at, NULL, 0, 0, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 13, 0x78},
        {"an injected exception", t_nop, t_nop_at, NULL, 0, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6,
         TASK_B | (uint32_t)BY_IDT << 30, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6, 0},
        {"an injected interrupt", t_nop, t_nop_at, NULL, RFLAGS_IF,
         EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x51, TASK_B | (uint32_t)BY_IDT << 30,
         EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x51, 0},
        {"an injected NMI", t_nop, t_nop_at, NULL, 0, EVENT_VALID | EVENT_NMI | 2,
         TASK_B | (uint32_t)BY_IDT << 30, EVENT_VALID | EVENT_NMI | 2, 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        start(rows[i].code, rows[i].flags);
        vmwrite(INJECTED_EVENT_IDENTIFICATION, rows[i].inject);
        struct vmx_exit e = exit_is(&v, EXIT_REASON_TASK_SWITCH, rows[i].name);
        is(e.qualification & 0xc000ffff, rows[i].qualification,
           "  qualification: the new TSS, what wanted it");
        is(vmread(GUEST_RIP), (uint64_t)rows[i].at, "  RIP");
        if (rows[i].end)
            is(vmread(VM_EXIT_INSTRUCTION_LENGTH), (uint64_t)(rows[i].end - rows[i].at),
               "  the instruction's length");
        uint64_t event = vmread(ORIGINAL_EVENT_IDENTIFICATION);
        is(event & EVENT_VALID ? event & ~(1ul << 12) : 0, rows[i].event, "  original event");
        if (rows[i].error) is(vmread(ORIGINAL_EVENT_ERROR_CODE), rows[i].error, "  and its error code");
        ok(!(vmread(EXITING_EVENT_IDENTIFICATION) & EVENT_VALID), "  no exiting event");
        is(vmread(GUEST_RFLAGS) & RFLAGS_NT, rows[i].flags & RFLAGS_NT, "  NT");
        untouched();
    }
}

/* IRET ends blocking by NMI even if it comes to a VM exit. */
static void nmis(void)
{
    static const struct {
        const char *name;
        const uint8_t *code;
        uint32_t pin;
        uint64_t blocked;
    } rows[] = {
        {"SDM 30.2.3: a task switch of IRET exits without blocking by NMI", t_iret, 0, 0},
        {"SDM 30.2.3: and without virtual-NMI blocking", t_iret, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, 0},
        {"SDM 28.3: with NMI exiting alone IRET leaves blocking by NMI", t_iret, PIN_NMI_EXITING, 8},
        {"SDM 30.3.4: and so does a task switch of JMP", t_jmp, 0, 8},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (vmx_allowed(IA32_VMX_PINBASED_CTLS, rows[i].pin) != rows[i].pin) {
            skip_one(rows[i].name, "no virtual NMIs");
            continue;
        }
        start(rows[i].code, RFLAGS_NT);
        vmx_set_pin(rows[i].pin);
        vmwrite(GUEST_INTERRUPTIBILITY_STATE, 8);
        struct vmx_exit e = vmx_run(&v);
        bool right = e.status == VMX_SUCCEED && e.reason == EXIT_REASON_TASK_SWITCH;
        if (!ok(right && vmread(GUEST_INTERRUPTIBILITY_STATE) == rows[i].blocked, "%s", rows[i].name))
            tap_note("  reason %x, interruptibility %lx", e.reason, vmread(GUEST_INTERRUPTIBILITY_STATE));
    }
}

/* What is wrong with gate or TSS is a fault, and there is no exit for the switch. */
static void faults(void)
{
    static const struct {
        const char *name;
        const uint8_t *code;
        uint64_t flags;
        unsigned vector;
        uint32_t error;
    } rows[] = {
        {"JMP to a busy TSS: #GP(TSS)", t_jmp_busy, 0, VECTOR_GP, BUSY},
        {"JMP to a TSS that is not present: #NP(TSS)", t_jmp_absent, 0, VECTOR_NP, ABSENT},
        {"JMP through a gate that is not present: #NP(gate)", t_jmp_gate_absent, 0, VECTOR_NP, GATE_ABSENT},
        {"JMP to a TSS whose limit is too small: #TS(TSS)", t_jmp_small, 0, VECTOR_TS, SMALL},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        start(rows[i].code, rows[i].flags);
        vmwrite(EXCEPTION_BITMAP, 0xffffffff);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, rows[i].name);
        is(vmread(EXITING_EVENT_IDENTIFICATION),
           EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | rows[i].vector, "  the vector");
        is(vmread(EXITING_EVENT_ERROR_CODE), rows[i].error, "  the error code");
        ok(!(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_VALID), "  no original event");
        untouched();
    }
    start(t_iret, RFLAGS_NT);
    *(uint16_t *)tss = TASK_B; /* not busy */
    vmwrite(EXCEPTION_BITMAP, 0xffffffff);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "IRET to a TSS that is not busy: #TS(TSS)");
    is(vmread(EXITING_EVENT_IDENTIFICATION),
       EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | VECTOR_TS, "  the vector");
    is(vmread(EXITING_EVENT_ERROR_CODE), TASK_B, "  the error code");
    start(t_iret, RFLAGS_NT);
    *(uint16_t *)tss = TASK_B;
    vmwrite(EXCEPTION_BITMAP, 0xffffffff);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, 8);
    vmx_run(&v);
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), 0, "SDM 7.7.1: such an IRET ends blocking by NMI");

    /* Through the IDT: the event that was being delivered is the original one, EXT is set but for INT n. */
    start(t_int, 0);
    idt[0x30] = task_gate(BUSY, 0xe5);
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_GP);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "INT n through a gate to a busy TSS: #GP(TSS)");
    is(vmread(EXITING_EVENT_ERROR_CODE), BUSY, "  the error code");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x30,
       "  original event");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2, "  the instruction's length");
    start(t_ud, 0);
    idt[6] = task_gate(ABSENT, 0xe5);
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_NP);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI,
            "#UD through a gate to a TSS that is not present: #NP(TSS, EXT)");
    is(vmread(EXITING_EVENT_ERROR_CODE), ABSENT | 1, "  the error code");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6,
       "  original event");
}

/* A task gate in the IDT of an IA-32e guest is no gate. */
PROBE(t_int64, "int $0x30");

static void in_64_bit_mode(void)
{
    guest_init(&v, t_int64);
    memset(idt, 0, 4096);
    for (unsigned i = 0; i < 256; i++) idt[2 * i] = task_gate(SEL_TSS, 0xe5);
    vmwrite(GUEST_IDTR_BASE, (uint64_t)idt);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "IA-32e mode: a task gate is #GP(IDT entry)");
    is(vmread(EXITING_EVENT_IDENTIFICATION),
       EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | VECTOR_GP, "  the vector");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0x30 * 8 + 2, "  the error code");
}

int rom_main(void)
{
    if (!vmx_test_begin("task switches of guests")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    gdt = page_alloc(1);
    idt = page_alloc(1);
    tss = page_alloc(1);
    if (vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        switches();
        nmis();
        faults();
    } else {
        skip_one("task switches", "no unrestricted guest");
    }
    in_64_bit_mode();
    return tap_end();
}

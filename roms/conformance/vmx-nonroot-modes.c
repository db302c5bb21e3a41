/*
 * VMX non-root operation in each mode: which VMX instructions are #UD and which exit (SDM 28.1.2 and the
 * instructions' pages), software exceptions that exit (28.2), and what the exits of 16- and 32-bit code say
 * of their operands: segments, address and operand size (30.2.5).
 *
 * Bochs 2.7 has no operand size in the information of SGDT and the like (30.2.5), and an error code in the
 * original event of a real-mode guest (30.2.4).
 */
#include "user.h"
#include "vmx-common.h"

#define CODE(name, bits, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": .code" #bits "; " before "; " #name "_at: " instruction \
        "; " #name "_end: vmcall; .code64; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

#define HARDWARE(v) (EVENT_VALID | EVENT_HARDWARE_EXCEPTION | (v))

static struct vmx_vcpu v;

/* ---- every VMX instruction ---- */

/* Memory operands are [RDI], which is [BX] in 16-bit code. */
static const struct {
    const char *name, *bytes;
    unsigned length;
    uint32_t reason;
} vmx_instructions[] = {
    // clang-format off
    {"VMCLEAR", "\x66\x0f\xc7\x37", 4, EXIT_REASON_VMCLEAR}, {"VMPTRLD", "\x0f\xc7\x37", 3, EXIT_REASON_VMPTRLD},
    {"VMPTRST", "\x0f\xc7\x3f", 3, EXIT_REASON_VMPTRST}, {"VMXON", "\xf3\x0f\xc7\x37", 4, EXIT_REASON_VMXON},
    {"VMREAD", "\x0f\x78\x07", 3, EXIT_REASON_VMREAD}, {"VMWRITE", "\x0f\x79\x07", 3, EXIT_REASON_VMWRITE},
    {"VMLAUNCH", "\x0f\x01\xc2", 3, EXIT_REASON_VMLAUNCH}, {"VMRESUME", "\x0f\x01\xc3", 3, EXIT_REASON_VMRESUME},
    {"VMXOFF", "\x0f\x01\xc4", 3, EXIT_REASON_VMXOFF}, {"INVEPT", "\x66\x0f\x38\x80\x07", 5, EXIT_REASON_INVEPT},
    {"INVVPID", "\x66\x0f\x38\x81\x07", 5, EXIT_REASON_INVVPID}, {"VMCALL", "\x0f\x01\xc1", 3, EXIT_REASON_VMCALL},
    // clang-format on
};
/* #UD in real-address mode and virtual-8086 mode as well. */
static const struct {
    const char *name, *bytes;
} system_instructions[] = {
    {"LLDT", "\x0f\x00\xd0"}, {"LTR", "\x0f\x00\xd8"}, {"SLDT", "\x0f\x00\xc0"}, {"STR", "\x0f\x00\xc8"}};

enum where { REAL, V86, COMPATIBILITY, USER64, PLACES };
static uint8_t program[16];

static void enter(enum where where)
{
    if (where == USER64) {
        user_run(program, 0, 0); /* copies it there, and maps it; what it does out here is #UD or #GP */
        guest_init(&v, (const void *)USER_CODE);
        vmwrite(GUEST_RSP, USER_STACK_TOP);
        vmwrite(GUEST_CS_SELECTOR, SEL_USER_CODE64), vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xa0fb);
        vmwrite(GUEST_SS_SELECTOR, SEL_USER_DATA), vmwrite(GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
        for (unsigned i = 0; i < 6; i += i == 0 ? 3 : 1) {
            vmwrite(GUEST_ES_SELECTOR + 2 * i, SEL_USER_DATA),
                vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0xc0f3);
        }
    } else if (where == COMPATIBILITY) {
        guest_init(&v, program);
        vmwrite(GUEST_CS_SELECTOR, SEL_CODE32), vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
    } else {
        guest_init_ept(&v, program);
        guest_real_mode(&v, program, sizeof(program));
        if (where == V86) {
            vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PE);
            vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IOPL3);
            for (unsigned i = 0; i < 6; i++) {
                vmwrite(GUEST_ES_SELECTOR + 2 * i, 0), vmwrite(GUEST_ES_BASE + 2 * i, 0);
                vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff), vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0xf3);
            }
        }
    }
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = v.regs.gpr[RBX] = 0x7000;
}

static bool runs_to(enum where where, const char *name, const char *bytes, unsigned length, uint32_t reason)
{
    memset(program, 0x90, sizeof(program));
    memcpy(program, bytes, length);
    memcpy(program + length, "\x0f\x01\xc1", 3);
    enter(where);
    if (vmx_has_secondary(PROC2_DESCRIPTOR_TABLE_EXITING)) vmx_set_proc2(PROC2_DESCRIPTOR_TABLE_EXITING);
    uint64_t rip = vmread(GUEST_RIP), event = 0;
    struct vmx_exit e = vmx_run(&v);
    bool good = e.status == VMX_SUCCEED && vmread(GUEST_RIP) == rip;
    if (reason) {
        good = good && e.reason == reason && vmread(VM_EXIT_INSTRUCTION_LENGTH) == length;
    } else {
        event = vmread(EXITING_EVENT_IDENTIFICATION);
        good = good && e.reason == EXIT_REASON_EXCEPTION_OR_NMI && event == HARDWARE(VECTOR_UD);
    }
    if (!good) tap_note("  %s: status %d, reason %u, event %lx", name, (int)e.status, e.reason, event);
    return good;
}

static void vmx_in_each_mode(void)
{
    static const char *const names[PLACES] = {"real-address mode", "virtual-8086 mode", "compatibility mode",
                                              "CPL 3"};
    bool unrestricted = vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST);
    unsigned count = sizeof(vmx_instructions) / sizeof(vmx_instructions[0]);
    for (enum where where = REAL; where < PLACES; where++) {
        if (where <= V86 && !unrestricted) {
            skip(2, "no unrestricted guest");
            continue;
        }
        unsigned wrong = 0;
        for (unsigned i = 0; i < count; i++) {
            uint32_t reason = vmx_instructions[i].reason;
            if ((reason == EXIT_REASON_INVEPT || reason == EXIT_REASON_INVVPID) &&
                !vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_ENABLE_VPID))
                continue;
            if (where != USER64 && reason != EXIT_REASON_VMCALL) reason = 0;
            wrong += !runs_to(where, vmx_instructions[i].name, vmx_instructions[i].bytes,
                              vmx_instructions[i].length, reason);
        }
        is(wrong, 0, "SDM chapter 33: %s: VMCALL exits, the other VMX instructions %s", names[where],
           where == USER64 ? "do too" : "are #UD");
        if (where > V86) continue;
        wrong = 0;
        for (unsigned i = 0; i < 4; i++)
            wrong += !runs_to(where, system_instructions[i].name, system_instructions[i].bytes, 3, 0);
        is(wrong, 0,
           "SDM 28.1.1: %s: LLDT, LTR, SLDT and STR are #UD, whatever descriptor-table exiting says",
           names[where]);
    }
}

/* ---- exceptions of instructions ---- */

CODE(e_into, 32, "movb $0x7f, %al; incb %al", "into");
CODE(e_bound, 32, "mov $9, %eax", "bound %eax, (%edi)");
CODE(e_ud0, 32, "", ".byte 0x0f, 0xff, 0x07");
CODE(e_ud1, 32, "", ".byte 0x0f, 0xb9, 0x07");
CODE(e_int3, 32, "", "int3");
CODE(e_int1, 32, "", ".byte 0xf1");
CODE(e_cd03, 32, "", ".byte 0xcd, 0x03");
CODE(e_cd04, 32, "", ".byte 0xcd, 0x04");
CODE(e_cd06, 32, "", ".byte 0xcd, 0x06");

static void compatibility(const uint8_t *code)
{
    static uint32_t bounds[2] = {0, 8};
    guest_init(&v, code);
    vmwrite(GUEST_CS_SELECTOR, SEL_CODE32), vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc09b);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)bounds;
}

static void software_exceptions(void)
{
    static const struct {
        const char *name;
        const uint8_t *code, *at, *end;
        uint32_t event;
    } rows[] = {
        {"SDM 28.2: INTO exits as a software exception", e_into, e_into_at, e_into_end,
         EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | 4},
        {"SDM 28.2: INT3 exits as a software exception", e_int3, e_int3_at, e_int3_end,
         EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | 3},
        {"SDM 28.2: INT1 exits as a privileged one", e_int1, e_int1_at, e_int1_end,
         EVENT_VALID | EVENT_PRIVILEGED_SOFTWARE_EXCEPTION | 1},
        {"SDM 28.2: BOUND exits as #BR", e_bound, e_bound_at, NULL, HARDWARE(5)},
        {"SDM 28.2: UD0 exits as #UD", e_ud0, e_ud0_at, NULL, HARDWARE(VECTOR_UD)},
        {"SDM 28.2: UD1 exits as #UD", e_ud1, e_ud1_at, NULL, HARDWARE(VECTOR_UD)},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        compatibility(rows[i].code);
        struct vmx_exit e = vmx_run(&v);
        uint64_t event = vmread(EXITING_EVENT_IDENTIFICATION), length = vmread(VM_EXIT_INSTRUCTION_LENGTH);
        if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EXCEPTION_OR_NMI &&
                    event == rows[i].event && e.qualification == 0 &&
                    vmread(GUEST_RIP) == (uint64_t)rows[i].at &&
                    (!rows[i].end || length == (uint64_t)(rows[i].end - rows[i].at)),
                "%s", rows[i].name))
            tap_note("  reason %u, event %lx (want %x), qualification %lx, length %lu, rip off by %ld",
                     e.reason, event, rows[i].event, e.qualification, length,
                     (int64_t)(vmread(GUEST_RIP) - (uint64_t)rows[i].at));
    }
    static const struct {
        const char *name;
        const uint8_t *code, *end;
        unsigned vector;
    } numbers[] = {{"SDM 28.2: INT n of 3 is no exception, whatever the bitmap says", e_cd03, e_cd03_end, 3},
                   {"  of 4", e_cd04, e_cd04_end, 4},
                   {"  of 6", e_cd06, e_cd06_end, 6}};
    for (unsigned i = 0; i < 3; i++) {
        compatibility(numbers[i].code);
        uint64_t *frame = delivery_is(&v, numbers[i].vector, numbers[i].name);
        is(frame[0], (uint64_t)numbers[i].end, "  it returns behind itself");
    }
}

/* ---- operands in 16- and 32-bit code ---- */

#define SEGMENT(n) ((uint32_t)(n) << 15)
#define NO_INDEX   (1u << 22)
#define BASE(n)    ((uint32_t)(n) << 23)
#define ADDRESS32  (1u << 7)
#define WIDE       (1u << 11) /* of LGDT and the like: the operand size */
#define ID(n)      ((uint32_t)(n) << 28)
#define WHERE      (3u << 15 | 1u << 17 | 7u << 7 | 1u << 10 | NO_INDEX | 1u << 27)

CODE(o_outs_es, 32, "mov $0x3f8, %edx", "outsb %es:(%esi), %dx");
CODE(o_outs_cs, 32, "mov $0x3f8, %edx", "outsb %cs:(%esi), %dx");
CODE(o_outs_ss, 32, "mov $0x3f8, %edx", "outsb %ss:(%esi), %dx");
CODE(o_outs_ds, 32, "mov $0x3f8, %edx", "outsb");
CODE(o_outs_fs, 32, "mov $0x3f8, %edx", "outsb %fs:(%esi), %dx");
CODE(o_outs_gs, 32, "mov $0x3f8, %edx", "outsb %gs:(%esi), %dx");
CODE(o_outs_16, 32, "mov $0x3f8, %edx", "addr16 outsb");
CODE(o_outs_64, 64, "mov $0x3f8, %edx", "outsb");
CODE(o_ins_16, 32, "mov $0x3f8, %edx", "addr16 insb");
CODE(o_ins_32, 32, "mov $0x3f8, %edx", "insb");
CODE(o_ins_64, 64, "mov $0x3f8, %edx", "insb");

static void protected_guest(const uint8_t *code)
{
    guest_init_ept(&v, code);
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_protected_mode();
    for (unsigned i = 0; i < 6; i++) /* a base for each, but CS and SS */
        if (i != 1 && i != 2) vmwrite(GUEST_ES_BASE + 2 * i, 0x1000 * (i + 1));
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RSI] = v.regs.gpr[RDI] = 0x20;
}

static void strings(void)
{
    static const struct {
        const char *name;
        const uint8_t *code, *at, *end;
        uint32_t information, mask;
        uint64_t linear;
    } rows[] = {
        {"OUTS of ES", o_outs_es, o_outs_es_at, o_outs_es_end, SEGMENT(0) | ADDRESS32, 7u << 7 | SEGMENT(7),
         0x1020},
        {"OUTS of CS", o_outs_cs, o_outs_cs_at, o_outs_cs_end, SEGMENT(1) | ADDRESS32, 7u << 7 | SEGMENT(7),
         0x20},
        {"OUTS of SS", o_outs_ss, o_outs_ss_at, o_outs_ss_end, SEGMENT(2) | ADDRESS32, 7u << 7 | SEGMENT(7),
         0x20},
        {"OUTS of DS", o_outs_ds, o_outs_ds_at, o_outs_ds_end, SEGMENT(3) | ADDRESS32, 7u << 7 | SEGMENT(7),
         0x4020},
        {"OUTS of FS", o_outs_fs, o_outs_fs_at, o_outs_fs_end, SEGMENT(4) | ADDRESS32, 7u << 7 | SEGMENT(7),
         0x5020},
        {"OUTS of GS", o_outs_gs, o_outs_gs_at, o_outs_gs_end, SEGMENT(5) | ADDRESS32, 7u << 7 | SEGMENT(7),
         0x6020},
        {"OUTS with 16-bit addresses", o_outs_16, o_outs_16_at, o_outs_16_end, SEGMENT(3),
         7u << 7 | SEGMENT(7), 0x4020},
        {"INS with 16-bit addresses", o_ins_16, o_ins_16_at, o_ins_16_end, 0, 7u << 7, 0x1020},
        {"INS with 32-bit addresses", o_ins_32, o_ins_32_at, o_ins_32_end, ADDRESS32, 7u << 7, 0x1020},
        {"OUTS with 64-bit addresses", o_outs_64, o_outs_64_at, o_outs_64_end, SEGMENT(3) | 2u << 7,
         7u << 7 | SEGMENT(7), 0x20},
        {"INS with 64-bit addresses", o_ins_64, o_ins_64_at, o_ins_64_end, 2u << 7, 7u << 7, 0x20},
    };
    bool information = rdmsr(IA32_VMX_BASIC) & 1ul << 54;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (i < 9) {
            protected_guest(rows[i].code);
        } else {
            guest_init(&v, rows[i].code);
            v.regs.gpr[RSI] = v.regs.gpr[RDI] = 0x20;
        }
        vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
        struct vmx_exit e = vmx_run(&v);
        uint64_t got = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
        if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_IO_INSTRUCTION &&
                    vmread(GUEST_LINEAR_ADDRESS) == rows[i].linear &&
                    (!information || (got & rows[i].mask) == rows[i].information) &&
                    vmread(VM_EXIT_INSTRUCTION_LENGTH) == (uint64_t)(rows[i].end - rows[i].at),
                "SDM 30.2.5: %s: the segment, the address size, the guest-linear address", rows[i].name))
            tap_note("  reason %u, information %lx (want %x), linear %lx", e.reason, got, rows[i].information,
                     vmread(GUEST_LINEAR_ADDRESS));
    }
}

CODE(o_sgdt, 32, "", "sgdt 4(%edi)");
CODE(o_sgdt16, 32, "", "data16 sgdt 4(%edi)");
CODE(o_lidt_es, 32, "", "lidt %es:4(%edi)");
CODE(o_sidt_cs, 32, "", "sidt %cs:4(%edi)");
CODE(o_lgdt_gs, 32, "", "lgdt %gs:4(%edi, %ebx, 2)");
CODE(o_vmclear_es, 32, "", "vmclear %es:4(%edi, %ebp, 2)");
CODE(o_vmclear16, 32, "", "addr16 vmclear 4(%bp, %di)");
CODE(o_sldt_cs, 32, "", "sldt %cs:4(%edi)");
CODE(o_vmread_fs, 32, "", "vmread %ebx, %fs:4(%esp)");
CODE(o_vmread_direct, 32, "", "vmread %ebx, %esi");

static void operands(void)
{
    static const struct {
        const char *name;
        const uint8_t *code, *at, *end;
        uint32_t reason, information, mask;
        uint64_t qualification;
    } rows[] = {
        // clang-format off
        {"SGDT with an operand size of 32 bits", o_sgdt, o_sgdt_at, o_sgdt_end, EXIT_REASON_GDTR_IDTR_ACCESS,
         SEGMENT(3) | ADDRESS32 | NO_INDEX | BASE(RDI) | WIDE | ID(0), WHERE | BASE(15) | WIDE | ID(3), 4},
        {"SGDT with one of 16", o_sgdt16, o_sgdt16_at, o_sgdt16_end, EXIT_REASON_GDTR_IDTR_ACCESS,
         SEGMENT(3) | ADDRESS32 | NO_INDEX | BASE(RDI) | ID(0), WHERE | BASE(15) | WIDE | ID(3), 4},
        {"LIDT of ES", o_lidt_es, o_lidt_es_at, o_lidt_es_end, EXIT_REASON_GDTR_IDTR_ACCESS,
         SEGMENT(0) | ADDRESS32 | NO_INDEX | BASE(RDI) | WIDE | ID(3), WHERE | BASE(15) | WIDE | ID(3), 4},
        {"SIDT of CS", o_sidt_cs, o_sidt_cs_at, o_sidt_cs_end, EXIT_REASON_GDTR_IDTR_ACCESS,
         SEGMENT(1) | ADDRESS32 | NO_INDEX | BASE(RDI) | WIDE | ID(1), WHERE | BASE(15) | WIDE | ID(3), 4},
        {"LGDT of GS with an index times 2", o_lgdt_gs, o_lgdt_gs_at, o_lgdt_gs_end, EXIT_REASON_GDTR_IDTR_ACCESS,
         SEGMENT(5) | ADDRESS32 | 1 | RBX << 18 | BASE(RDI) | WIDE | ID(2), WHERE | 3 | 15u << 18 | BASE(15) | WIDE | ID(3), 4},
        {"VMCLEAR of ES", o_vmclear_es, o_vmclear_es_at, o_vmclear_es_end, EXIT_REASON_VMCLEAR,
         SEGMENT(0) | ADDRESS32 | 1 | RBP << 18 | BASE(RDI), WHERE | 3 | 15u << 18 | BASE(15), 4},
        {"VMCLEAR with 16-bit addresses", o_vmclear16, o_vmclear16_at, o_vmclear16_end, EXIT_REASON_VMCLEAR,
         SEGMENT(2) | RDI << 18 | BASE(RBP), WHERE | 3 | 15u << 18 | BASE(15), 4},
        {"SLDT of CS", o_sldt_cs, o_sldt_cs_at, o_sldt_cs_end, EXIT_REASON_LDTR_TR_ACCESS,
         SEGMENT(1) | ADDRESS32 | NO_INDEX | BASE(RDI) | ID(0), WHERE | BASE(15) | ID(3), 4},
        {"VMREAD to FS", o_vmread_fs, o_vmread_fs_at, o_vmread_fs_end, EXIT_REASON_VMREAD,
         SEGMENT(4) | ADDRESS32 | NO_INDEX | BASE(RSP) | RBX << 28, WHERE | BASE(15) | 15u << 28, 4},
        {"VMREAD to a register", o_vmread_direct, o_vmread_direct_at, o_vmread_direct_end, EXIT_REASON_VMREAD,
         1u << 10 | RSI << 3 | RBX << 28, 1u << 10 | 15 << 3 | 15u << 28, 0},
        // clang-format on
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t reason = rows[i].reason;
        if ((reason == EXIT_REASON_GDTR_IDTR_ACCESS || reason == EXIT_REASON_LDTR_TR_ACCESS) &&
            !vmx_has_secondary(PROC2_DESCRIPTOR_TABLE_EXITING)) {
            skip_one(rows[i].name, "no descriptor-table exiting");
            continue;
        }
        protected_guest(rows[i].code);
        if (vmx_has_secondary(PROC2_DESCRIPTOR_TABLE_EXITING)) vmx_set_proc2(PROC2_DESCRIPTOR_TABLE_EXITING);
        struct vmx_exit e = vmx_run(&v);
        uint64_t got = vmread(VM_EXIT_INSTRUCTION_INFORMATION), length = vmread(VM_EXIT_INSTRUCTION_LENGTH);
        if (!ok(e.status == VMX_SUCCEED && e.reason == reason && e.qualification == rows[i].qualification &&
                    (got & rows[i].mask) == rows[i].information &&
                    length == (uint64_t)(rows[i].end - rows[i].at),
                "SDM 30.2.5: 32-bit code: %s", rows[i].name))
            tap_note("  reason %u, qualification %lx, information %lx (want %x of %x), length %lu", e.reason,
                     e.qualification, got, rows[i].information, rows[i].mask, length);
    }
}

/* An event of a real-mode guest has no error code, whatever it would have elsewhere. */
CODE(r_gp, 16, "mov $0xffff, %bx", "mov (%bx), %ax");

static void real_mode_events(void)
{
    guest_init_ept(&v, r_gp);
    guest_real_mode(&v, r_gp, 32);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(GUEST_RSP, 0x6000);
    *ept_entry(v.ept, 0x5000, 1) = 0;
    struct vmx_exit e =
        exit_is(&v, EXIT_REASON_EPT_VIOLATION, "real-address mode: an EPT violation while #GP is delivered");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), HARDWARE(VECTOR_GP),
       "  SDM 30.2.4: its original event has no error code");
    is(e.qualification & 0x182, 0x182, "  a write with a guest-linear address");
    is(vmread(GUEST_LINEAR_ADDRESS), 0x5ffe, "  which is the stack's");
    is(vmread(GUEST_PHYSICAL_ADDRESS), 0x5ffe, "  as is the guest-physical one");
}

/* ---- INT n of virtual-8086 mode, which CR4.VME redirects by a bitmap of the TSS (SDM 30.2.4) ---- */

#define INT21 (EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x21)

/* A TSS whose redirection bitmap is the 32 bytes from 1000h on, on its second page; its last byte is `limit`.
 */
static uint8_t *redirecting(uint64_t iopl, uint64_t cr4, uint32_t limit)
{
    static uint8_t *tss;
    if (!tss) tss = (uint8_t *)page_alloc(3);
    memcpy(program, "\xcd\x21\x0f\x01\xc1", 5);
    enter(V86);
    memset(tss, 0, 3 * 4096);
    *(uint16_t *)(tss + 0x66) = 0x1020;
    vmwrite(GUEST_TR_BASE, (uint64_t)tss), vmwrite(GUEST_TR_LIMIT, limit);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM | iopl);
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | cr4);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS);
    return tss;
}

/* Blocking by MOV SS is over if it was being delivered (SDM 30.1). */
static void original_is(uint64_t want, const char *name)
{
    uint64_t got = vmread(ORIGINAL_EVENT_IDENTIFICATION), blocking = vmread(GUEST_INTERRUPTIBILITY_STATE);
    bool good = want ? got == want && vmread(VM_EXIT_INSTRUCTION_LENGTH) == 2 : !(got & EVENT_VALID);
    good = good && blocking == (want ? 0 : INTERRUPTIBILITY_MOV_SS) && vmread(GUEST_RIP) == 0x8000;
    if (!ok(good, "%s", name))
        tap_note("  original event %lx, rip %lx, blocking %lx", got, vmread(GUEST_RIP), blocking);
}

static void redirection(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        skip(12, "no unrestricted guest");
        return;
    }
    redirecting(0, 0, 0x2000);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "SDM 30.2.4: INT n below IOPL 3: #GP");
    original_is(0, "  not during the delivery of INT n");
    redirecting(0, CR4_VME, 0x2000)[0x1000 + 0x21 / 8] = 1 << (0x21 % 8);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "SDM 30.2.4: INT n below IOPL 3 that is not redirected: #GP");
    original_is(0, "  not during the delivery of INT n");
    for (unsigned iopl3 = 0; iopl3 < 2; iopl3++) {
        uint8_t *tss = redirecting(iopl3 ? RFLAGS_IOPL3 : 0, CR4_VME, 0x2000);
        *ept_entry(v.ept, (uint64_t)tss + 0x1000, 1) &= ~(uint64_t)EPT_RWX;
        exit_is(&v, EXIT_REASON_EPT_VIOLATION,
                iopl3 ? "SDM 30.2.4: an EPT violation at the redirection bitmap, IOPL 3"
                      : "SDM 30.2.4: an EPT violation at the redirection bitmap, below IOPL 3");
        original_is(INT21, "  during the delivery of INT n");
        redirecting(iopl3 ? RFLAGS_IOPL3 : 0, CR4_VME, 0xfff);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI,
                iopl3 ? "SDM 30.2.4: a redirection bitmap beyond the TSS's limit, IOPL 3: #GP"
                      : "SDM 30.2.4: a redirection bitmap beyond the TSS's limit, below IOPL 3: #GP");
        original_is(INT21, "  during the delivery of INT n");
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("non-root operation, mode by mode")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    vmx_in_each_mode();
    software_exceptions();
    if (vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        strings();
        operands();
        real_mode_events();
    } else {
        skip(26, "no unrestricted guest");
    }
    redirection();
    return tap_end();
}

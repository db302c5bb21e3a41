/*
 * What an exit says of the instruction's operand, to the bit (SDM 30.2.1, 30.2.5): qualification (the
 * displacement, or the address if it is relative to RIP) and instruction information (scale, address size,
 * segment, index and base, registers) of every instruction that has them, in every form of address; and the
 * registers of those that have none in memory.
 *
 * Bits that the manual leaves undefined are not looked at.
 *
 * Bochs 2.7 reports RDRAND and RDSEED of 16 bits as of 32.
 *
 * Missing: XSAVES and XRSTORS (vmx-xsaves.c), LOADIWKEY, 16- and 32-bit guests (vmx-modes.c).
 */
#include "vmx-common.h"

#define MEMORY_FORMS      10

/* The instruction in each form of address, then a VMCALL; and a table of where each begins and ends. */
#define FORM(id, n, text) #id "_" #n ": " text "; " #id "_" #n "e: vmcall; "
#define ENTRY(id, n)      ".quad " #id "_" #n ", " #id "_" #n "e; "
#define FORMS(id, pre, post) \
    asm(".pushsection .text; " FORM(id, 0, pre "(%rdi)" post) \
            FORM(id, 1, pre "0x12345678(%r13, %r14, 8)" post) FORM(id, 2, pre "-4(%rbp)" post) \
                FORM(id, 3, pre "%fs:8(%r12)" post) FORM(id, 4, pre "0x7fff0000(, %rax, 4)" post) FORM( \
                    id, 5, pre "0x7fff0000" post) FORM(id, 6, pre "scratch(%rip)" post) \
                    FORM(id, 7, pre "8(%edi)" post) FORM(id, 8, pre "%gs:-0x80000000(%rsp)" post) FORM( \
                        id, 9, \
                        pre "1(%r9, %rbp)" post) ".popsection; .pushsection .rodata; .balign 8; .globl " #id \
                                                 "_t; " #id "_t: " ENTRY(id, 0) ENTRY(id, 1) ENTRY(id, 2) \
                                                     ENTRY(id, 3) ENTRY(id, 4) ENTRY(id, 5) ENTRY(id, 6) \
                                                         ENTRY(id, 7) ENTRY(id, 8) \
                                                             ENTRY(id, 9) ".popsection"); \
    extern const uint64_t id##_t[MEMORY_FORMS][2]

FORMS(m_vmclear, "vmclear ", "");
FORMS(m_vmptrld, "vmptrld ", "");
FORMS(m_vmptrst, "vmptrst ", "");
FORMS(m_vmxon, "vmxon ", "");
FORMS(m_vmread, "vmread %r9, ", "");
FORMS(m_vmwrite, "vmwrite ", ", %rdx");
FORMS(m_invept, "invept ", ", %r11");
FORMS(m_invvpid, "invvpid ", ", %rsi");
FORMS(m_invpcid, "invpcid ", ", %r15");
FORMS(m_sgdt, "sgdt ", "");
FORMS(m_sidt, "sidt ", "");
FORMS(m_lgdt, "lgdt ", "");
FORMS(m_lidt, "lidt ", "");
FORMS(m_sldt, "sldt ", "");
FORMS(m_str, "str ", "");
FORMS(m_lldt, "lldt ", "");
FORMS(m_ltr, "ltr ", "");

#define SCALE(n)   ((uint32_t)(n))
#define ADDRESS32  (1u << 7)
#define ADDRESS64  (2u << 7)
#define SEGMENT(n) ((uint32_t)(n) << 15)
#define INDEX(n)   ((uint32_t)(n) << 18)
#define NO_INDEX   (1u << 22)
#define BASE(n)    ((uint32_t)(n) << 23)
#define NO_BASE    (1u << 27)
#define REG2(n)    ((uint32_t)(n) << 28)
#define REG1(n)    ((uint32_t)(n) << 3)
#define REGISTER   (1u << 10)
#define ALWAYS     (7u << 7 | REGISTER | SEGMENT(7) | NO_INDEX | NO_BASE)
#define WITH_INDEX (3u | INDEX(15))
#define WITH_BASE  BASE(15)
enum { S_ES, S_CS, S_SS, S_DS, S_FS, S_GS };

static uint64_t scratch[512] __attribute__((aligned(4096), used));
static struct vmx_vcpu v;

static const struct {
    const char *name;
    uint64_t qualification;
    uint32_t information, mask;
} forms[MEMORY_FORMS] = {
    {"(RDI)", 0, ADDRESS64 | SEGMENT(S_DS) | NO_INDEX | BASE(RDI), WITH_BASE},
    {"12345678(R13 + R14 * 8)", 0x12345678, SCALE(3) | ADDRESS64 | SEGMENT(S_DS) | INDEX(14) | BASE(13),
     WITH_BASE | WITH_INDEX},
    {"-4(RBP): SS", (uint64_t)-4, ADDRESS64 | SEGMENT(S_SS) | NO_INDEX | BASE(RBP), WITH_BASE},
    {"FS:8(R12)", 8, ADDRESS64 | SEGMENT(S_FS) | NO_INDEX | BASE(12), WITH_BASE},
    {"7FFF0000(RAX * 4): no base", 0x7fff0000, SCALE(2) | ADDRESS64 | SEGMENT(S_DS) | INDEX(RAX) | NO_BASE,
     WITH_INDEX},
    {"7FFF0000: neither base nor index", 0x7fff0000, ADDRESS64 | SEGMENT(S_DS) | NO_INDEX | NO_BASE, 0},
    {"relative to RIP: the address", 0, ADDRESS64 | SEGMENT(S_DS) | NO_INDEX | NO_BASE, 0},
    {"8(EDI): 32-bit address", 8, ADDRESS32 | SEGMENT(S_DS) | NO_INDEX | BASE(RDI), WITH_BASE},
    {"GS:-80000000(RSP)", (uint64_t)-0x80000000l, ADDRESS64 | SEGMENT(S_GS) | NO_INDEX | BASE(RSP),
     WITH_BASE},
    {"1(R9 + RBP)", 1, SCALE(0) | ADDRESS64 | SEGMENT(S_DS) | INDEX(RBP) | BASE(9), WITH_BASE | WITH_INDEX},
};

/* Controls without which the instruction does not exit, or does not exist. */
enum need { NOTHING, EPT, VPIDS, PCIDS, TABLES };

static bool start(const void *code, enum need need)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    switch (need) {
    case NOTHING: return true;
    case EPT: return vmx_has_secondary(PROC2_ENABLE_EPT) && (rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 20);
    case VPIDS: return vmx_has_secondary(PROC2_ENABLE_VPID) && (rdmsr(IA32_VMX_EPT_VPID_CAP) & 1ul << 32);
    case PCIDS:
        if (!vmx_has_secondary(PROC2_ENABLE_INVPCID) || !(cpuid_if_present(7, 0).ebx & 1u << 10))
            return false;
        vmx_set_proc2(PROC2_ENABLE_INVPCID);
        vmx_set_proc(PROC_INVLPG_EXITING);
        return true;
    case TABLES:
        if (!vmx_has_secondary(PROC2_DESCRIPTOR_TABLE_EXITING)) return false;
        vmx_set_proc2(PROC2_DESCRIPTOR_TABLE_EXITING);
        return true;
    }
    return false;
}

/* One exit: all of it. */
static void exits(const char *name, const char *form, uint32_t reason, uint64_t qualification,
                  uint64_t information, uint64_t mask, const uint64_t *at)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t got = vmread(VM_EXIT_INSTRUCTION_INFORMATION), length = vmread(VM_EXIT_INSTRUCTION_LENGTH);
    if (!ok(e.status == VMX_SUCCEED && e.reason == reason && e.qualification == qualification &&
                (got & mask) == information && vmread(GUEST_RIP) == at[0] && length == at[1] - at[0],
            "%s %s", name, form))
        tap_note("  reason %u, qualification %lx (want %lx), information %lx (want %lx of %lx), length %lu "
                 "(want %lu)",
                 e.reason, e.qualification, qualification, got, information, mask, length, at[1] - at[0]);
}

static void memory(void)
{
    static const struct {
        const char *name;
        const uint64_t (*code)[2];
        uint32_t reason;
        enum need need;
        uint32_t information, mask;
    } rows[] = {
        {"VMCLEAR", m_vmclear_t, EXIT_REASON_VMCLEAR, NOTHING, 0, 0},
        {"VMPTRLD", m_vmptrld_t, EXIT_REASON_VMPTRLD, NOTHING, 0, 0},
        {"VMPTRST", m_vmptrst_t, EXIT_REASON_VMPTRST, NOTHING, 0, 0},
        {"VMXON", m_vmxon_t, EXIT_REASON_VMXON, NOTHING, 0, 0},
        {"VMREAD by R9 to", m_vmread_t, EXIT_REASON_VMREAD, NOTHING, REG2(9), REG2(15)},
        {"VMWRITE by RDX from", m_vmwrite_t, EXIT_REASON_VMWRITE, NOTHING, REG2(RDX), REG2(15)},
        {"INVEPT by R11", m_invept_t, EXIT_REASON_INVEPT, EPT, REG2(11), REG2(15)},
        {"INVVPID by RSI", m_invvpid_t, EXIT_REASON_INVVPID, VPIDS, REG2(RSI), REG2(15)},
        {"INVPCID by R15", m_invpcid_t, EXIT_REASON_INVPCID, PCIDS, REG2(15), REG2(15)},
        {"SGDT", m_sgdt_t, EXIT_REASON_GDTR_IDTR_ACCESS, TABLES, 0, 3u << 28},
        {"SIDT", m_sidt_t, EXIT_REASON_GDTR_IDTR_ACCESS, TABLES, 1u << 28, 3u << 28},
        {"LGDT", m_lgdt_t, EXIT_REASON_GDTR_IDTR_ACCESS, TABLES, 2u << 28, 3u << 28},
        {"LIDT", m_lidt_t, EXIT_REASON_GDTR_IDTR_ACCESS, TABLES, 3u << 28, 3u << 28},
        {"SLDT", m_sldt_t, EXIT_REASON_LDTR_TR_ACCESS, TABLES, 0, 3u << 28},
        {"STR", m_str_t, EXIT_REASON_LDTR_TR_ACCESS, TABLES, 1u << 28, 3u << 28},
        {"LLDT", m_lldt_t, EXIT_REASON_LDTR_TR_ACCESS, TABLES, 2u << 28, 3u << 28},
        {"LTR", m_ltr_t, EXIT_REASON_LDTR_TR_ACCESS, TABLES, 3u << 28, 3u << 28},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (unsigned f = 0; f < MEMORY_FORMS; f++) {
            if (!start((const void *)rows[i].code[f][0], rows[i].need)) {
                skip_one(rows[i].name, "not offered by this processor");
                break;
            }
            exits(rows[i].name, forms[f].name, rows[i].reason,
                  f == 6 ? (uint64_t)scratch : forms[f].qualification,
                  forms[f].information | rows[i].information, ALWAYS | forms[f].mask | rows[i].mask,
                  rows[i].code[f]);
        }
    }
}

/* The instruction with each of the sixteen registers; what the assembler makes of % with 0 to 15 is their
 * 64-bit names. */
#define NAMES64 "rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15"
#define NAMES16 "ax, cx, dx, bx, sp, bp, si, di, r8w, r9w, r10w, r11w, r12w, r13w, r14w, r15w"
#define REGISTERS_BY(id, names, pre, post) \
    asm(".pushsection .text; .irp r, " names "; " #id "_\\r: " pre "%\\r" post "; " #id \
        "_\\r\\()e: vmcall; .endr; .popsection; " \
        ".pushsection .rodata; .balign 8; .globl " #id "_t; " #id "_t: .irp r, " names "; .quad " #id \
        "_\\r, " #id "_\\r\\()e; .endr; .popsection"); \
    extern const uint64_t id##_t[16][2]
#define REGISTERS(id, pre, post) REGISTERS_BY(id, NAMES64, pre, post)

REGISTERS(r_vmread_to, "vmread %rcx, ", "");
REGISTERS(r_vmread_by, "vmread ", ", %r10");
REGISTERS(r_vmwrite_from, "vmwrite ", ", %rsi");
REGISTERS(r_vmwrite_by, "vmwrite %r13, ", "");
REGISTERS(r_invept, "invept (%rdi), ", "");
REGISTERS(r_sldt, "sldt ", "");
REGISTERS(r_str, "str ", "");
REGISTERS_BY(r_lldt, NAMES16, "lldt ", "");
REGISTERS_BY(r_ltr, NAMES16, "ltr ", "");
REGISTERS(r_invvpid, "invvpid (%rdi), ", "");
REGISTERS(r_invpcid, "invpcid (%rdi), ", "");
REGISTERS(r_rdrand, "rdrand ", "");
REGISTERS(r_rdseed, "rdseed ", "");
REGISTERS(r_to_cr3, "mov ", ", %cr3");
REGISTERS(r_from_cr3, "mov %cr3, ", "");
REGISTERS(r_to_cr8, "mov ", ", %cr8");
REGISTERS(r_from_cr8, "mov %cr8, ", "");
REGISTERS(r_to_dr3, "mov ", ", %db3");
REGISTERS(r_from_dr6, "mov %db6, ", "");

/* MOV to and from each debug register; 4 and 5 have no names to the assembler. */
#define NUMBERED(id, byte) \
    asm(".pushsection .text; .irp n, 0, 1, 2, 3, 4, 5, 6, 7; " #id "_\\n: .byte 0x0f, " byte \
        ", 0xc1 + 8 * \\n; " #id \
        "_\\n\\()e: vmcall; .endr; .popsection; .pushsection .rodata; .balign 8; .globl " #id "_t; " #id \
        "_t: .irp n, 0, 1, 2, 3, 4, 5, 6, 7; .quad " #id "_\\n, " #id "_\\n\\()e; .endr; .popsection"); \
    extern const uint64_t id##_t[8][2]

NUMBERED(d_to, "0x23");
NUMBERED(d_from, "0x21");

/* Where the register stands in the information or the qualification; all sixteen are one point. */
static void registers_of(const char *name, const uint64_t (*code)[2], bool (*prepare)(const void *),
                         uint32_t reason, bool in_qualification, unsigned shift, uint64_t rest, uint64_t mask)
{
    unsigned wrong = 0;
    uint64_t seen = 0;
    for (unsigned r = 0; r < 16; r++) {
        if (!prepare((const void *)code[r][0])) {
            skip_one(name, "not offered by this processor");
            return;
        }
        struct vmx_exit e = vmx_run(&v);
        uint64_t got = in_qualification ? e.qualification : vmread(VM_EXIT_INSTRUCTION_INFORMATION);
        if (e.status == VMX_SUCCEED && e.reason == reason &&
            (got & (mask | 15ul << shift)) == (rest | (uint64_t)r << shift) &&
            vmread(VM_EXIT_INSTRUCTION_LENGTH) == code[r][1] - code[r][0])
            continue;
        wrong |= 1u << r;
        seen = got;
    }
    if (!ok(!wrong, "%s: each of the 16 registers", name))
        tap_note("  not %x; the last said %lx", wrong, seen);
}

static bool simply(const void *code) { return start(code, NOTHING); }
static bool with_ept(const void *code) { return start(code, EPT); }
static bool with_tables(const void *code) { return start(code, TABLES); }
static bool with_secondary(const void *code, uint32_t control)
{
    start(code, NOTHING);
    if (!vmx_has_secondary(control)) return false;
    vmx_set_proc2(control);
    return true;
}
static bool with_rdrand(const void *code)
{
    return (cpuid(1, 0).ecx & 1u << 30) && with_secondary(code, PROC2_RDRAND_EXITING);
}
static bool with_rdseed(const void *code)
{
    return (cpuid_if_present(7, 0).ebx & 1u << 18) && with_secondary(code, PROC2_RDSEED_EXITING);
}
static bool with_proc(const void *code, uint32_t control)
{
    start(code, NOTHING);
    vmx_set_proc(control);
    return true;
}
static bool with_cr3_load(const void *code) { return with_proc(code, PROC_CR3_LOAD_EXITING); }
static bool with_cr3_store(const void *code) { return with_proc(code, PROC_CR3_STORE_EXITING); }
static bool with_cr8_load(const void *code) { return with_proc(code, PROC_CR8_LOAD_EXITING); }
static bool with_cr8_store(const void *code) { return with_proc(code, PROC_CR8_STORE_EXITING); }
static bool with_vpids(const void *code) { return start(code, VPIDS); }
static bool with_pcids(const void *code) { return start(code, PCIDS); }
static bool with_mov_dr(const void *code) { return with_proc(code, PROC_MOV_DR_EXITING); }

static void registers(void)
{
    registers_of("VMREAD to a register, by RCX", r_vmread_to_t, simply, EXIT_REASON_VMREAD, false, 3,
                 REGISTER | REG2(RCX), REGISTER | REG2(15));
    registers_of("VMREAD by a register, to R10", r_vmread_by_t, simply, EXIT_REASON_VMREAD, false, 28,
                 REGISTER | REG1(10), REGISTER | REG1(15));
    registers_of("VMWRITE by RSI, from a register", r_vmwrite_from_t, simply, EXIT_REASON_VMWRITE, false, 3,
                 REGISTER | REG2(RSI), REGISTER | REG2(15));
    registers_of("VMWRITE by a register, from R13", r_vmwrite_by_t, simply, EXIT_REASON_VMWRITE, false, 28,
                 REGISTER | REG1(13), REGISTER | REG1(15));
    registers_of("INVEPT by a register", r_invept_t, with_ept, EXIT_REASON_INVEPT, false, 28, BASE(RDI),
                 WITH_BASE | REGISTER);
    registers_of("SLDT", r_sldt_t, with_tables, EXIT_REASON_LDTR_TR_ACCESS, false, 3, REGISTER,
                 REGISTER | 3u << 28);
    registers_of("STR", r_str_t, with_tables, EXIT_REASON_LDTR_TR_ACCESS, false, 3, REGISTER | 1u << 28,
                 REGISTER | 3u << 28);
    registers_of("LLDT", r_lldt_t, with_tables, EXIT_REASON_LDTR_TR_ACCESS, false, 3, REGISTER | 2u << 28,
                 REGISTER | 3u << 28);
    registers_of("LTR", r_ltr_t, with_tables, EXIT_REASON_LDTR_TR_ACCESS, false, 3, REGISTER | 3u << 28,
                 REGISTER | 3u << 28);
    registers_of("INVVPID by a register", r_invvpid_t, with_vpids, EXIT_REASON_INVVPID, false, 28, BASE(RDI),
                 WITH_BASE | REGISTER);
    registers_of("INVPCID by a register", r_invpcid_t, with_pcids, EXIT_REASON_INVPCID, false, 28, BASE(RDI),
                 WITH_BASE | REGISTER);
    registers_of("RDRAND of 64 bits", r_rdrand_t, with_rdrand, EXIT_REASON_RDRAND, false, 3, 2u << 11,
                 3u << 11);
    registers_of("RDSEED of 64 bits", r_rdseed_t, with_rdseed, EXIT_REASON_RDSEED, false, 3, 2u << 11,
                 3u << 11);
    registers_of("MOV to CR3", r_to_cr3_t, with_cr3_load, EXIT_REASON_CONTROL_REGISTER_ACCESS, true, 8, 3,
                 0xff);
    registers_of("MOV from CR3", r_from_cr3_t, with_cr3_store, EXIT_REASON_CONTROL_REGISTER_ACCESS, true, 8,
                 1u << 4 | 3, 0xff);
    registers_of("MOV to CR8", r_to_cr8_t, with_cr8_load, EXIT_REASON_CONTROL_REGISTER_ACCESS, true, 8, 8,
                 0xff);
    registers_of("MOV from CR8", r_from_cr8_t, with_cr8_store, EXIT_REASON_CONTROL_REGISTER_ACCESS, true, 8,
                 1u << 4 | 8, 0xff);
    registers_of("MOV to DR3", r_to_dr3_t, with_mov_dr, EXIT_REASON_MOV_DR, true, 8, 3, 0xff);
    registers_of("MOV from DR6", r_from_dr6_t, with_mov_dr, EXIT_REASON_MOV_DR, true, 8, 1u << 4 | 6, 0xff);
    unsigned wrong = 0;
    for (unsigned n = 0; n < 16; n++) {
        const uint64_t *at = n < 8 ? d_to_t[n] : d_from_t[n - 8];
        with_mov_dr((const void *)at[0]);
        struct vmx_exit e = vmx_run(&v);
        bool good = e.reason == EXIT_REASON_MOV_DR && vmread(GUEST_RIP) == at[0] &&
                    (e.qualification & 0xf17) == (RCX << 8 | (n < 8 ? 0 : 1u << 4) | (n & 7));
        if (!good)
            tap_note("  %s %u: reason %u, qualification %lx", n < 8 ? "to" : "from", n & 7, e.reason,
                     e.qualification);
        wrong += !good;
    }
    is(wrong, 0, "MOV DR: each of the 8 debug registers, to and from RCX");
}

asm(".pushsection .text; s_rdrand16: rdrand %r8w; s_rdrand16e: vmcall; s_rdrand32: rdrand %ebx; s_rdrand32e: "
    "vmcall; "
    "s_rdseed16: rdseed %dx; s_rdseed16e: vmcall; s_rdseed32: rdseed %r15d; s_rdseed32e: vmcall; "
    "s_umwait: umwait %r11d; s_umwaite: vmcall; s_tpause: tpause %esi; s_tpausee: vmcall; .popsection; "
    ".pushsection .rodata; .balign 8; s_t: .quad s_rdrand16, s_rdrand16e, s_rdrand32, s_rdrand32e, "
    "s_rdseed16, s_rdseed16e, "
    "s_rdseed32, s_rdseed32e, s_umwait, s_umwaite, s_tpause, s_tpausee; .popsection");
extern const uint64_t s_t[6][2];

static void sizes(void)
{
    if (with_rdrand((const void *)s_t[0][0])) {
        exits("RDRAND", "R8W", EXIT_REASON_RDRAND, 0, REG1(8), REG1(15) | 3u << 11, s_t[0]);
        with_rdrand((const void *)s_t[1][0]);
        exits("RDRAND", "EBX", EXIT_REASON_RDRAND, 0, REG1(RBX) | 1u << 11, REG1(15) | 3u << 11, s_t[1]);
    } else {
        skip(2, "no RDRAND exiting");
    }
    if (with_rdseed((const void *)s_t[2][0])) {
        exits("RDSEED", "DX", EXIT_REASON_RDSEED, 0, REG1(RDX), REG1(15) | 3u << 11, s_t[2]);
        with_rdseed((const void *)s_t[3][0]);
        exits("RDSEED", "R15D", EXIT_REASON_RDSEED, 0, REG1(15) | 1u << 11, REG1(15) | 3u << 11, s_t[3]);
    } else {
        skip(2, "no RDSEED exiting");
    }
    if ((cpuid_if_present(7, 0).ecx & 1u << 5) &&
        with_secondary((const void *)s_t[4][0], PROC2_ENABLE_USER_WAIT_AND_PAUSE)) {
        vmx_set_proc(PROC_RDTSC_EXITING);
        exits("UMWAIT with RDTSC exiting,", "R11D", EXIT_REASON_UMWAIT, 0, REG1(11), REG1(15), s_t[4]);
        with_secondary((const void *)s_t[5][0], PROC2_ENABLE_USER_WAIT_AND_PAUSE);
        vmx_set_proc(PROC_RDTSC_EXITING);
        exits("TPAUSE with RDTSC exiting,", "ESI", EXIT_REASON_TPAUSE, 0, REG1(RSI), REG1(15), s_t[5]);
        with_secondary((const void *)s_t[5][0], PROC2_ENABLE_USER_WAIT_AND_PAUSE);
        done(&v, "TPAUSE until a time that is past, without RDTSC exiting");
        start((const void *)s_t[5][0], NOTHING);
        vmx_set_proc(PROC_RDTSC_EXITING);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "TPAUSE, not enabled: #UD");
        is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | VECTOR_UD,
           "  it is #UD");
    } else {
        skip(5, "no user wait and pause");
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("instruction information and qualifications")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    memory();
    registers();
    sizes();
    return tap_end();
}

// Instructions that exit: reason, qualification, length, instruction information; and that do not when their
// control is 0.
#include "vmx_machine.h"

#define BASE(n)  ((u32)(n) << 23)
#define INDEX(n) ((u32)(n) << 18)
#define NO_INDEX (1u << 22)
#define NO_BASE  (1u << 27)
#define SEG(n)   ((u32)(n) << 15)
#define A32      (1u << 7)
#define A64      (2u << 7)
#define REG2(n)  ((u32)(n) << 28)
#define REG1(n)  ((u32)(n) << 3)
#define ISREG    (1u << 10)
#define ID(n)    ((u32)(n) << 28)
#define RDI_DS   (BASE(7) | NO_INDEX | SEG(3) | A64)
#define NO_INFO  UINT32_MAX
#define ALWAYS   0

// clang-format off
static const struct exit_case {
    const char *name, *code;
    u8 len;
    u32 proc, proc2; // the control(s) that make it exit
    u32 reason;
    u64 qualification;
    u32 info;
} cases[] = {
    {"CPUID", "\x0F\xA2", 2, ALWAYS, 0, EXIT_REASON_CPUID, 0, NO_INFO},
    {"INVD", "\x0F\x08", 2, ALWAYS, 0, EXIT_REASON_INVD, 0, NO_INFO},
    {"XSETBV", "\x0F\x01\xD1", 3, ALWAYS, 0, EXIT_REASON_XSETBV, 0, NO_INFO},
    {"VMCALL", I_VMCALL, 3, ALWAYS, 0, EXIT_REASON_VMCALL, 0, NO_INFO},
    {"VMLAUNCH", I_VMLAUNCH, 3, ALWAYS, 0, EXIT_REASON_VMLAUNCH, 0, NO_INFO},
    {"VMRESUME", I_VMRESUME, 3, ALWAYS, 0, EXIT_REASON_VMRESUME, 0, NO_INFO},
    {"VMXOFF", I_VMXOFF, 3, ALWAYS, 0, EXIT_REASON_VMXOFF, 0, NO_INFO},
    {"VMCLEAR [rdi+12345678h]", "\x66\x0F\xC7\xB7\x78\x56\x34\x12", 8, ALWAYS, 0, EXIT_REASON_VMCLEAR, 0x12345678, RDI_DS},
    {"VMPTRLD [rip+100h]", "\x0F\xC7\x35\x00\x01\x00\x00", 7, ALWAYS, 0, EXIT_REASON_VMPTRLD, M_GUEST + 7 + 0x100,
     NO_BASE | NO_INDEX | SEG(3) | A64},
    {"VMPTRST [rsp+rbx*4-8]", "\x0F\xC7\x7C\x9C\xF8", 5, ALWAYS, 0, EXIT_REASON_VMPTRST, 0xFFFFFFFFFFFFFFF8,
     2 | INDEX(3) | BASE(4) | SEG(2) | A64},
    {"VMXON fs:[eax]", "\x64\x67\xF3\x0F\xC7\x30", 6, ALWAYS, 0, EXIT_REASON_VMXON, 0, BASE(0) | NO_INDEX | SEG(4) | A32},
    {"VMREAD rax, rcx", "\x0F\x78\xC8", 3, ALWAYS, 0, EXIT_REASON_VMREAD, 0, ISREG | REG1(0) | REG2(1)},
    {"VMWRITE r9, [r10]", "\x45\x0F\x79\x0A", 4, ALWAYS, 0, EXIT_REASON_VMWRITE, 0,
     BASE(10) | NO_INDEX | SEG(3) | A64 | REG2(9)},
    {"INVEPT rcx, [rdi]", I_INVEPT, 5, ALWAYS, 0, EXIT_REASON_INVEPT, 0, RDI_DS | REG2(1)},
    {"INVVPID rcx, [rdi]", I_INVVPID, 5, ALWAYS, 0, EXIT_REASON_INVVPID, 0, RDI_DS | REG2(1)},
    {"HLT", "\xF4", 1, PROC_HLT_EXITING, 0, EXIT_REASON_HLT, 0, NO_INFO},
    {"INVLPG [rdi+8]", "\x0F\x01\x7F\x08", 4, PROC_INVLPG_EXITING, 0, EXIT_REASON_INVLPG, M_DATA + 8, NO_INFO},
    {"RDPMC", "\x0F\x33", 2, PROC_RDPMC_EXITING, 0, EXIT_REASON_RDPMC, 0, NO_INFO},
    {"RDTSC", "\x0F\x31", 2, PROC_RDTSC_EXITING, 0, EXIT_REASON_RDTSC, 0, NO_INFO},
    {"RDTSCP", "\x0F\x01\xF9", 3, PROC_RDTSC_EXITING, PROC2_ENABLE_RDTSCP, EXIT_REASON_RDTSCP, 0, NO_INFO},
    {"MONITOR", "\x0F\x01\xC8", 3, PROC_MONITOR_EXITING, 0, EXIT_REASON_MONITOR, 0, NO_INFO},
    {"MWAIT", "\x0F\x01\xC9", 3, PROC_MWAIT_EXITING, 0, EXIT_REASON_MWAIT, 0, NO_INFO},
    {"PAUSE", "\xF3\x90", 2, PROC_PAUSE_EXITING, 0, EXIT_REASON_PAUSE, 0, NO_INFO},
    {"MOV rax, DR7", "\x0F\x21\xF8", 3, PROC_MOV_DR_EXITING, 0, EXIT_REASON_MOV_DR, 7 | 1 << 4, NO_INFO},
    {"MOV DR6, r9", "\x41\x0F\x23\xF1", 4, PROC_MOV_DR_EXITING, 0, EXIT_REASON_MOV_DR, 6 | 9 << 8, NO_INFO},
    {"MOV CR3, rbx", "\x0F\x22\xDB", 3, PROC_CR3_LOAD_EXITING, 0, EXIT_REASON_CR_ACCESS, 3 | 3 << 8, NO_INFO},
    {"MOV rbx, CR3", "\x0F\x20\xDB", 3, PROC_CR3_STORE_EXITING, 0, EXIT_REASON_CR_ACCESS, 3 | 1 << 4 | 3 << 8, NO_INFO},
    {"MOV CR8, rcx", "\x44\x0F\x22\xC1", 4, PROC_CR8_LOAD_EXITING, 0, EXIT_REASON_CR_ACCESS, 8 | 1 << 8, NO_INFO},
    {"MOV rcx, CR8", "\x44\x0F\x20\xC1", 4, PROC_CR8_STORE_EXITING, 0, EXIT_REASON_CR_ACCESS, 8 | 1 << 4 | 1 << 8, NO_INFO},
    {"SGDT [rdi]", "\x0F\x01\x07", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0, RDI_DS | ID(0) | 1 << 11},
    {"SIDT [rdi]", "\x0F\x01\x0F", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0, RDI_DS | ID(1) | 1 << 11},
    {"LGDT [rdi]", "\x0F\x01\x17", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0, RDI_DS | ID(2) | 1 << 11},
    {"LIDT [rdi]", "\x0F\x01\x1F", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0, RDI_DS | ID(3) | 1 << 11},
    {"SLDT [rdi]", "\x0F\x00\x07", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, RDI_DS | ID(0)},
    {"STR ecx", "\x0F\x00\xC9", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, ISREG | REG1(1) | ID(1)},
    {"LLDT dx", "\x0F\x00\xD2", 3, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, ISREG | REG1(2) | ID(2)},
    {"WBINVD", "\x0F\x09", 2, 0, PROC2_WBINVD_EXITING, EXIT_REASON_WBINVD, 0, NO_INFO},
    {"WBNOINVD", "\xF3\x0F\x09", 3, 0, PROC2_WBINVD_EXITING, EXIT_REASON_WBINVD, 1, NO_INFO},
    {"RDRAND eax", "\x0F\xC7\xF0", 3, 0, PROC2_RDRAND_EXITING, EXIT_REASON_RDRAND, 0, REG1(0) | 1 << 11},
    {"RDSEED r9", "\x49\x0F\xC7\xF9", 4, 0, PROC2_RDSEED_EXITING, EXIT_REASON_RDSEED, 0, REG1(9) | 2 << 11},
    {"UMWAIT r9d", "\xF2\x41\x0F\xAE\xF1", 5, PROC_RDTSC_EXITING, PROC2_ENABLE_USER_WAIT_AND_PAUSE, EXIT_REASON_UMWAIT, 0, REG1(9)},
    {"TPAUSE ecx", "\x66\x0F\xAE\xF1", 4, PROC_RDTSC_EXITING, PROC2_ENABLE_USER_WAIT_AND_PAUSE, EXIT_REASON_TPAUSE, 0, REG1(1)},
    {"INVPCID rcx, [rdi]", "\x66\x0F\x38\x82\x0F", 5, PROC_INVLPG_EXITING, PROC2_ENABLE_INVPCID, EXIT_REASON_INVPCID, 0,
     RDI_DS | REG2(1)},
    {"OUT 80h, al", "\xE6\x80", 2, PROC_UNCONDITIONAL_IO_EXITING, 0, EXIT_REASON_IO_INSTRUCTION, 0x80 << 16 | 1 << 6, NO_INFO},
    {"OUT dx, ax", "\x66\xEF", 2, PROC_UNCONDITIONAL_IO_EXITING, 0, EXIT_REASON_IO_INSTRUCTION, 0x123 << 16 | 1, NO_INFO},
    {"IN eax, dx", "\xED", 1, PROC_UNCONDITIONAL_IO_EXITING, 0, EXIT_REASON_IO_INSTRUCTION, 0x123 << 16 | 8 | 3, NO_INFO},
    {"REP OUTSB", "\xF3\x6E", 2, PROC_UNCONDITIONAL_IO_EXITING, 0, EXIT_REASON_IO_INSTRUCTION,
     0x123 << 16 | 1 << 4 | 1 << 5, A64 | SEG(3)},
    {"INSD", "\x6D", 1, PROC_UNCONDITIONAL_IO_EXITING, 0, EXIT_REASON_IO_INSTRUCTION, 0x123 << 16 | 8 | 1 << 4 | 3, A64 | SEG(0)},
    {"RDMSR", "\x0F\x32", 2, ALWAYS, 0, EXIT_REASON_RDMSR, 0, NO_INFO}, // no MSR bitmaps
    {"WRMSR", "\x0F\x30", 2, ALWAYS, 0, EXIT_REASON_WRMSR, 0, NO_INFO},
};
// clang-format on

static void prepare(struct vmx_machine *m, u32 proc, u32 proc2)
{
    u64 *gpr = m->v->s.gpr;
    m_root_state(m);
    m_vmcs_64(m);
    m_write(m, VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE | CR4_OSXSAVE);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m->v->vmx->caps.true_allowed0[GROUP_PROC] | proc |
                (proc2 ? PROC_ACTIVATE_SECONDARY_CONTROLS : 0));
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, proc2);
    m_write(m, VMCS_EXIT_QUALIFICATION, 0xDEAD);
    m_write(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH, 99);
    m_write(m, VMCS_VM_EXIT_INSTRUCTION_INFORMATION, 0);
    m_write(m, VMCS_GUEST_LINEAR_ADDRESS, 0);
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP) gpr[i] = 0;
    gpr[RDI] = M_DATA, gpr[RSI] = M_DATA + 0x40, gpr[RDX] = 0x123, gpr[RCX] = 1, gpr[RBX] = M_PML4;
    memset(m->phys.ram + M_DATA, 0, 4096);
}

static void table(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        const struct exit_case *c = &cases[i];
        prepare(m, c->proc, c->proc2);
        s64 reason = m_enter(m, c->code, c->len);
        u64 q = m_read(m, VMCS_EXIT_QUALIFICATION), len = m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH);
        u32 info = (u32)m_read(m, VMCS_VM_EXIT_INSTRUCTION_INFORMATION);
        if (reason != c->reason || q != c->qualification || len != c->len ||
            (c->info != NO_INFO && info != c->info) || m_read(m, VMCS_GUEST_RIP) != M_GUEST)
            fail_msg("%s: reason %lld, qualification %llx, length %llu, information %x", c->name,
                     (long long)reason, (unsigned long long)q, (unsigned long long)len, info);
        if (c->proc == ALWAYS && c->proc2 == 0) continue;
        if (reason == EXIT_REASON_HLT) continue;
        // Without the controls (hidden instructions excepted) it runs: the exit is that of the HLT after it,
        // or a fault's.
        u32 keep = c->proc2 & (PROC2_ENABLE_RDTSCP | PROC2_ENABLE_INVPCID | PROC2_ENABLE_USER_WAIT_AND_PAUSE);
        prepare(m, PROC_HLT_EXITING, keep);
        m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
        reason = m_enter(m, c->code, c->len);
        if (reason != EXIT_REASON_HLT && reason != EXIT_REASON_EXCEPTION_NMI)
            fail_msg("%s: exits with reason %lld without its control", c->name, (long long)reason);
    }
    m_free(m);
}

static void hidden(void **state)
{
    // clang-format off
    static const struct { const char *code; unsigned len; } code[] = {
        {"\x0F\x01\xF9", 3}, {"\x66\x0F\x38\x82\x0F", 5}, {"\x0F\xC7\x2F", 3}, {"\x0F\xC7\x1F", 3}, {"\xF3\x0F\xC7\xF8", 4},
        {"\xF3\x0F\xAE\xF7", 4}, {"\xF2\x0F\xAE\xF1", 4}, {"\x66\x0F\xAE\xF1", 4},
    };
    // clang-format on
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < ARRAY_LEN(code);
         i++) { // RDTSCP, INVPCID, XSAVES, XRSTORS, RDPID, UMONITOR, UMWAIT, TPAUSE
        prepare(m, PROC_HLT_EXITING, 0);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_UD);
        assert_int_equal(m_enter(m, code[i].code, code[i].len), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000306);
        assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 0x10002); // RF
    }
    m_free(m);
}

static void control_registers(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    const u64 cr0 = 0x80010031;
    u64 *gpr = m->v->s.gpr;
    // Reads see the shadow under the mask; a write that differs from the shadow there exits, one that does
    // not keeps CR0's bit.
    prepare(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_CR0_GUEST_HOST_MASK, CR0_TS | CR0_MP), m_write(m, VMCS_CR0_READ_SHADOW, CR0_TS);
    assert_int_equal(M_ENTER(m, "\x0F\x20\xC0" /* mov rax, cr0 */), EXIT_REASON_HLT);
    assert_int_equal(gpr[RAX], cr0 | CR0_TS);
    prepare(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_CR0_GUEST_HOST_MASK, CR0_TS | CR0_MP), m_write(m, VMCS_CR0_READ_SHADOW, CR0_TS);
    gpr[RAX] = cr0 | CR0_TS | CR0_AM;
    assert_int_equal(M_ENTER(m, "\x0F\x22\xC0" /* mov cr0, rax */), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_CR0), cr0 | CR0_AM);
    prepare(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_CR0_GUEST_HOST_MASK, CR0_TS | CR0_MP), m_write(m, VMCS_CR0_READ_SHADOW, CR0_TS);
    gpr[RAX] = cr0;
    assert_int_equal(M_ENTER(m, "\x0F\x22\xC0"), EXIT_REASON_CR_ACCESS);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    assert_int_equal(M_ENTER(m, "\x0F\x06" /* clts */), EXIT_REASON_CR_ACCESS);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2 << 4);
    m_write(m, VMCS_CR0_READ_SHADOW, 0), m_write(m, VMCS_GUEST_CR0, cr0 | CR0_TS);
    assert_int_equal(M_ENTER(m, "\x0F\x06"), EXIT_REASON_HLT); // TS is the host's: stays
    assert_int_equal(m_read(m, VMCS_GUEST_CR0), cr0 | CR0_TS);
    // LMSW: register and memory.
    prepare(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_CR0_GUEST_HOST_MASK, CR0_TS);
    gpr[RAX] = 0x123B;
    assert_int_equal(M_ENTER(m, "\x0F\x01\xF0" /* lmsw ax */), EXIT_REASON_CR_ACCESS);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 3 << 4 | 0x123B << 16);
    m_poke64(m, M_DATA, 9);
    m->v->s.gpr[RDI] = M_DATA;
    assert_int_equal(M_ENTER(m, "\x0F\x01\x37" /* lmsw [rdi] */), EXIT_REASON_CR_ACCESS);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 3 << 4 | 1 << 6 | 9 << 16);
    assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), M_DATA);
    // PE alone: LMSW exits when it would set a masked PE whose shadow is 0; it never clears one, so a source
    // of 0 does not exit (SDM 28.1.3). The other three bits exit when they differ.
    // clang-format off
    static const struct { u32 mask, shadow, source; bool exits; } pe[] = {
        {CR0_PE, CR0_PE, 0, false}, {CR0_PE, 0, 0, false}, {CR0_PE, CR0_PE, 1, false}, {CR0_PE, 0, 1, true},
        {CR0_PE | CR0_MP, CR0_PE, 2, true}, {CR0_MP, 0, 1, false}, {CR0_MP, CR0_MP, 0, true}, {CR0_EM, CR0_EM, 0, true},
        {CR0_TS, 0, 8, true}, {CR0_TS, CR0_TS, 0, true}, {CR0_PE | CR0_MP | CR0_EM | CR0_TS, 0xF, 0xF, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(pe); i++) {
        prepare(m, PROC_HLT_EXITING, 0);
        m_write(m, VMCS_CR0_GUEST_HOST_MASK, pe[i].mask);
        m_write(m, VMCS_CR0_READ_SHADOW, pe[i].shadow);
        u64 cr0 = m_read(m, VMCS_GUEST_CR0);
        m->v->s.gpr[RAX] = pe[i].source;
        assert_int_equal(M_ENTER(m, "\x0F\x01\xF0"), pe[i].exits ? EXIT_REASON_CR_ACCESS : EXIT_REASON_HLT);
        if (pe[i].exits) {
            assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 3 << 4 | (u64)pe[i].source << 16);
            continue;
        }
        // PE is not cleared, host-owned bits stay, the others are written.
        u64 written = 0xE & ~pe[i].mask;
        assert_int_equal(m_read(m, VMCS_GUEST_CR0), (cr0 & ~written) | (pe[i].source & written));
        m_write(m, VMCS_GUEST_CR0, cr0);
    }
    // CR3 targets.
    prepare(m, PROC_HLT_EXITING | PROC_CR3_LOAD_EXITING, 0);
    m_write(m, VMCS_CR3_TARGET_COUNT, 2), m_write(m, VMCS_CR3_TARGET_VALUE_1, M_PML4);
    assert_int_equal(M_ENTER(m, "\x0F\x22\xDB"), EXIT_REASON_HLT);
    m_write(m, VMCS_CR3_TARGET_COUNT, 1), m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x0F\x22\xDB"), EXIT_REASON_CR_ACCESS);
    // CR4.VMXE cannot be cleared, nor CR0.NE, whatever the masks.
    prepare(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_GP);
    gpr[RAX] = CR4_PAE;
    assert_int_equal(M_ENTER(m, "\x0F\x22\xE0"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
    m_free(m);
}

static void virtual_tpr(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *gpr = m->v->s.gpr;
    prepare(m, PROC_HLT_EXITING | PROC_USE_TPR_SHADOW, 0);
    m_write(m, VMCS_VIRTUAL_APIC_ADDRESS, M_VAPIC);
    phys_write32(&m->phys, 0, M_VAPIC + 0x80, 0xFFFFFF50);
    m_write(m, VMCS_TPR_THRESHOLD, 4);
    assert_int_equal(M_ENTER(m, "\x44\x0F\x20\xC1"), EXIT_REASON_HLT);
    assert_int_equal(gpr[RCX], 5);
    gpr[RCX] = 4;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x44\x0F\x22\xC1"), EXIT_REASON_HLT);
    assert_int_equal(phys_read32(&m->phys, 0, M_VAPIC + 0x80), 0x40);
    gpr[RCX] = 3;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x44\x0F\x22\xC1"), EXIT_REASON_TPR_BELOW_THRESHOLD);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 4); // trap-like
    assert_int_equal(phys_read32(&m->phys, 0, M_VAPIC + 0x80), 0x30);
    m_root_state(m);
    assert_int_equal(M_VMX(m, "\x90" I_VMRESUME, 0), 7); // threshold above the virtual TPR
    assert_string_equal(m->failed_id, "CTL-TPR-002");
    assert_int_equal(m->last_failure.rip, M_CODE + 1);
    assert_int_equal(m->last_failure.fail, 7);
    m_free(m);
}

static void bitmaps(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *gpr = m->v->s.gpr;
    // clang-format off
    static const struct { u16 port; const char *code; unsigned len; bool exits; } io[] = {
        {0x7FFF, "\xEC", 1, false}, {0x7FFE, "\x66\xED", 2, false}, {0x7FFD, "\xED", 1, true}, // reaches port 8000h
        {0x8000, "\xEC", 1, true},  {0x7FFC, "\xED", 1, false},     {0xFFFF, "\x66\xED", 2, true}, // wraps
        {0xFFFF, "\xEC", 1, false}, {0x3F8, "\xEC", 1, true},       {0x3F5, "\xED", 1, true}, {0x3F9, "\xED", 1, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(io); i++) {
        prepare(m, PROC_HLT_EXITING | PROC_USE_IO_BITMAPS | PROC_UNCONDITIONAL_IO_EXITING, 0);
        m_write(m, VMCS_ADDRESS_OF_IO_BITMAP_A, M_BITMAP),
            m_write(m, VMCS_ADDRESS_OF_IO_BITMAP_B, M_BITMAP + 0x1000);
        m_poke(m, M_BITMAP + 0x3F8 / 8, "\x01", 1);
        m_poke(m, M_BITMAP + 0x1000, "\x01", 1);
        gpr[RDX] = io[i].port;
        s64 want = io[i].exits ? EXIT_REASON_IO_INSTRUCTION : EXIT_REASON_HLT;
        // 7FFDh: ports 7FFDh to 8000h.
        assert_int_equal(m_enter(m, io[i].code, io[i].len), want);
    }
    // clang-format off
    static const struct { u32 msr; bool read, write; } msrs[] = {
        {0x174, true, false}, {0xC0000082, false, true}, {0x175, false, false}, {0x2000, true, true},
        {0xC0002000, true, true}, {0xC0000081, false, false}, {0x40000000, true, true},
    };
    // clang-format on
    memset(m->phys.ram + M_BITMAP, 0, 0x2000);
    m_poke(m, M_BITMAP + 0x174 / 8, "\x10", 1);        // read 174h
    m_poke(m, M_BITMAP + 0xC00 + 0x82 / 8, "\x04", 1); // write C0000082h
    for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
        for (unsigned write = 0; write < 2; write++) {
            prepare(m, PROC_HLT_EXITING | PROC_USE_MSR_BITMAPS, 0);
            m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP);
            gpr[RCX] = msrs[i].msr, gpr[RDX] = gpr[RAX] = 0;
            s64 want = !(write ? msrs[i].write : msrs[i].read) ? EXIT_REASON_HLT
                       : write                                 ? EXIT_REASON_WRMSR
                                                               : EXIT_REASON_RDMSR;
            assert_int_equal(m_enter(m, write ? "\x0F\x30" : "\x0F\x32", 2), want);
        }
    }
    m_free(m);
}

// XSAVES and XRSTORS exit for the components that EDX:EAX, IA32_XSS and the XSS-exiting bitmap name
// (SDM 28.1.3). No bit of IA32_XSS can be set here, so it is set behind the processor's back.
static void xss_bitmap(void **state)
{
    // clang-format off
    static const struct { u64 mask, xss, bitmap; bool exits; } cases[] = {
        {0x100, 0x100, 0x100, true},  {0x100, 0x100, 0x800, false}, {0x100, 0x800, 0x900, false}, {0x800, 0x900, 0x800, true},
        {0x800, 0x900, 0x100, false}, {1ull << 40, 1ull << 40, 1ull << 40, true}, {0x100, 0, 0x100, false},
    };
    // clang-format on
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned restore = 0; restore < 2; restore++) {
            prepare(m, PROC_HLT_EXITING, PROC2_ENABLE_XSAVES_XRSTORS);
            m_write(m, VMCS_XSS_EXITING_BITMAP, cases[i].bitmap);
            m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX); // what comes of it without the exit
            m->v->s.gpr[RAX] = (u32)cases[i].mask, m->v->s.gpr[RDX] = cases[i].mask >> 32;
            m->v->s.msr.xss = cases[i].xss;
            // xrstors [rdi], xsaves [rdi]
            s64 reason = m_enter(m, restore ? "\x0F\xC7\x1F" : "\x0F\xC7\x2F", 3);
            assert_int_equal(reason == (restore ? EXIT_REASON_XRSTORS : EXIT_REASON_XSAVES), cases[i].exits);
            if (cases[i].exits) { // the operand is told of as VMCLEAR's is (SDM 30.2.1, 30.2.5)
                assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
                assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_INFORMATION), RDI_DS);
                assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 3);
                // CR4.OSXSAVE comes first.
                prepare(m, PROC_HLT_EXITING, PROC2_ENABLE_XSAVES_XRSTORS);
                m_write(m, VMCS_XSS_EXITING_BITMAP, cases[i].bitmap);
                m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
                m_write(m, VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE);
                m->v->s.gpr[RAX] = (u32)cases[i].mask, m->v->s.gpr[RDX] = cases[i].mask >> 32;
                m->v->s.msr.xss = cases[i].xss;
                assert_int_equal(m_enter(m, restore ? "\x0F\xC7\x1F" : "\x0F\xC7\x2F", 3),
                                 EXIT_REASON_EXCEPTION_NMI);
                assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000306);
            }
            m->v->s.msr.xss = 0;
        }
    }
    m_free(m);
}

// Instructions of features that are absent are #UD in a guest, and make no exit of their own.
static void absent_instructions(void **state)
{
    // clang-format off
    static const struct { const char *name, *code; unsigned n; } c[] = {
        {"GETSEC", "\x0F\x37", 2}, {"RSM", "\x0F\xAA", 2}, {"ENCLS", "\x0F\x01\xCF", 3}, {"ENCLV", "\x0F\x01\xC0", 3},
        {"PCONFIG", "\x0F\x01\xC5", 3}, {"PBNDKB", "\x0F\x01\xC7", 3}, {"LOADIWKEY", "\xF3\x0F\x38\xDC\xC1", 5},
        {"ENQCMD", "\xF2\x0F\x38\xF8\x07", 5}, {"ENQCMDS", "\xF3\x0F\x38\xF8\x07", 5}, {"URDMSR", "\xF2\x0F\x38\xF8\xC1", 5},
        {"UWRMSR", "\xF3\x0F\x38\xF8\xC1", 5}, {"SEAMCALL", "\x66\x0F\x01\xCF", 4}, {"TDCALL", "\x66\x0F\x01\xCC", 4},
        {"SENDUIPI", "\xF3\x0F\xC7\xF0", 4}, {"ERETS", "\xF2\x0F\x01\xCA", 4}, {"ERETU", "\xF3\x0F\x01\xCA", 4},
        {"XBEGIN", "\xC7\xF8\x00\x00\x00\x00", 6},
    };
    // clang-format on
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        prepare(m, PROC_HLT_EXITING, 0);
        m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
        s64 reason = m_enter(m, c[i].code, c[i].n);
        if (reason != EXIT_REASON_EXCEPTION_NMI ||
            m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION) != 0x80000306 ||
            m_read(m, VMCS_GUEST_RIP) != M_GUEST)
            fail_msg("%s: reason %lld", c[i].name, (long long)reason);
    }
    m_free(m);
}

static void vmfunc(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *gpr = m->v->s.gpr;
    const u64 eptp = M_EPT | 6 | 3 << 3, other = (M_EPT + 0x3000) | 6 | 3 << 3;
    for (unsigned k = 0; k < 2; k++) { // two identity maps of the first GiB; the second without write
        paddr a = M_EPT + 0x3000 * k;
        m_poke64(m, a, (a + 0x1000) | 7);
        m_poke64(m, a + 0x1000, 6 << 3 | 0x80 | (k ? 5 : 7));
    }
#define FUNC(eax, ecx, last) \
    prepare(m, PROC_HLT_EXITING, PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS), m_write(m, VMCS_EPTP, eptp), \
        m_write(m, VMCS_VM_FUNCTION_CONTROLS, VMFUNC_EPTP_SWITCHING), \
        m_write(m, VMCS_EPTP_LIST_ADDRESS, M_BITMAP), m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_UD), \
        m_poke64(m, M_BITMAP, eptp), m_poke64(m, M_BITMAP + 8, other), m_poke64(m, M_BITMAP + 16, 0x80), \
        gpr[RAX] = (eax), gpr[RCX] = (ecx), \
        assert_int_equal(M_ENTER(m, I_VMFUNC "\xC6\x07\x01" /* mov [rdi], 1 */), last)
    FUNC(0, 0, EXIT_REASON_HLT);
    FUNC(0, 1, EXIT_REASON_EPT_VIOLATION);
    assert_true(m_read(m, VMCS_EPTP) == other);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION) & 0x1FF, 2 | 1 << 3 | 1 << 5 | 3 << 7);
    assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), M_DATA);
    assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), M_DATA);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 3);
    FUNC(0, 2, EXIT_REASON_VMFUNC);
    FUNC(0, 512, EXIT_REASON_VMFUNC);
    FUNC(1, 0, EXIT_REASON_VMFUNC);
    FUNC(64, 0, EXIT_REASON_EXCEPTION_NMI);
    prepare(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_UD);
    assert_int_equal(M_ENTER(m, I_VMFUNC), EXIT_REASON_EXCEPTION_NMI);
#undef FUNC
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(hidden),
        cmocka_unit_test(control_registers),
        cmocka_unit_test(virtual_tpr),
        cmocka_unit_test(bitmaps),
        cmocka_unit_test(xss_bitmap),
        cmocka_unit_test(absent_instructions),
        cmocka_unit_test(vmfunc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

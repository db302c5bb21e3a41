// Task switches in non-root operation: after the checks on the gate and the new TSS they exit, with reason 9,
// and have done nothing (SDM 28.2, 30.2.1, 30.2.5, 30.3.3).
#include "vmx_machine.h"

enum { TABLES = M_DATA, IDT = M_GUEST_IDT, TSS_A = M_DATA + 0x1000, TSS_B = M_DATA + 0x1100 };
enum { CODE = 8, DATA = 16, TASK_A = 24, TASK_B = 32, GATE = 40, BUSY = 48, SMALL = 56 };
enum { CALL, IRET, JMP, BY_IDT };

static void task_gate(struct vmx_machine *m, u64 at, u16 tss, unsigned ar)
{
    m_poke64(m, at, (u64)tss << 16 | (u64)ar << 40);
}

// Protected mode of 32 bits without paging, in the task A.
static void again(struct vmx_machine *m)
{
    static const u64 table[] = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF};
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) m_poke64(m, TABLES + 8 * i, table[i]);
    static const struct {
        u16 sel;
        u32 base;
        u8 ar, limit;
    } tss[] = {{TASK_A, TSS_A, 0x8B, 0x67},
               {TASK_B, TSS_B, 0x89, 0x67},
               {BUSY, TSS_B, 0x8B, 0x67},
               {SMALL, TSS_B, 0x89, 0x66}};
    for (unsigned i = 0; i < ARRAY_LEN(tss); i++)
        m_poke64(m, TABLES + tss[i].sel,
                 tss[i].limit | (u64)(tss[i].base & 0xFFFFFF) << 16 | (u64)tss[i].ar << 40 |
                     (u64)(tss[i].base >> 24) << 56);
    task_gate(m, TABLES + GATE, TASK_B, 0x85);
    m_poke64(m, TSS_A, BUSY);
    for (unsigned i = 0; i < 256; i++) task_gate(m, IDT + 8 * i, TASK_B, 0xE5);
    m_root_state(m);
    for (unsigned i = 0; i < SEG_LDTR; i++) {
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_SELECTOR + i), i == SEG_CS ? CODE : DATA);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_BASE + i), 0);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + i), 0xFFFFFFFF);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_ACCESS_RIGHTS + i), i == SEG_CS ? 0xC09B : 0xC093);
    }
    m_write(m, VMCS_GUEST_TR_SELECTOR, TASK_A), m_write(m, VMCS_GUEST_TR_BASE, TSS_A);
    m_write(m, VMCS_GUEST_TR_LIMIT, 0x67), m_write(m, VMCS_GUEST_TR_ACCESS_RIGHTS, 0x8B);
    m_write(m, VMCS_GUEST_GDTR_BASE, TABLES), m_write(m, VMCS_GUEST_GDTR_LIMIT, 63);
    m_write(m, VMCS_GUEST_IDTR_BASE, IDT), m_write(m, VMCS_GUEST_IDTR_LIMIT, 0x7FF);
    m_write(m, VMCS_GUEST_RIP, M_GUEST), m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    m_write(m, VMCS_GUEST_RFLAGS, 2), m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, 0);
    m->v->s.intr_line = false;
}

static struct vmx_machine *guest(void)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_unrestricted(m);
    m_write(m, VMCS_GUEST_CR0, 0x31);
    m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_IA32_EFER, 0);
    return m;
}

static void they_exit(void **state)
{
    struct vmx_machine *m = guest();
    // clang-format off
    static const struct {
        const char *code; unsigned n; u32 flags, inject; bool line; // what is run, injected, raised
        u32 qualification, length /* 0: undefined */, event, error; u8 rip; u32 rf;
    } c[] = {
        {"\xEA\0\0\0\0\x20\0", 7, 0, 0, false, TASK_B | (u32)JMP << 30, 7, 0, 0, 0, 0},
        {"\xEA\0\0\0\0\x28\0", 7, FL_RF, 0, false, TASK_B | (u32)JMP << 30, 7, 0, 0, 0, 0},   // through a gate
        {"\x90\x9A\0\0\0\0\x20\0", 8, 0, 0, false, TASK_B | CALL << 30, 7, 0, 0, 1, 0},
        {"\x66\x9A\0\0\x28\0", 6, 0, 0, false, TASK_B | CALL << 30, 6, 0, 0, 0, 0},
        {"\xCF", 1, FL_NT, 0, false, BUSY | IRET << 30, 1, 0, 0, 0, 0},
        {"\xCD\x30", 2, 0, 0, false, TASK_B | (u32)BY_IDT << 30, 2, 0x80000430, 0, 0, 0},
        {"\xCC", 1, 0, 0, false, TASK_B | (u32)BY_IDT << 30, 1, 0x80000603, 0, 0, 0},
        {"\xF1", 1, FL_RF, 0, false, TASK_B | (u32)BY_IDT << 30, 1, 0x80000501, 0, 0, 0},
        {"\x90\x0F\x0B", 3, 0, 0, false, TASK_B | (u32)BY_IDT << 30, 0, 0x80000306, 0, 1, FL_RF}, // a fault
        {"\x66\xB8\x78\0\x8E\xD8", 6, 0, 0, false, TASK_B | (u32)BY_IDT << 30, 0, 0x80000B0D, 0x78, 4, FL_RF},
        {"\x90", 1, FL_IF, 0, true, TASK_B | (u32)BY_IDT << 30, 0, 0x80000051, 0, 0, 0},          // an interrupt
        {"\x90", 1, 0, 0x80000306, false, TASK_B | (u32)BY_IDT << 30, 0, 0x80000306, 0, 0, 0},    // injected
        {"\x90", 1, FL_RF, 0x80000202, false, TASK_B | (u32)BY_IDT << 30, 0, 0x80000202, 0, 0, FL_RF},
    };
    // clang-format on
    m->interrupt = 0x51;
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        again(m);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | c[i].flags);
        m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, c[i].inject);
        m->v->s.intr_line = c[i].line;
        u8 before[0x200];
        memcpy(before, m->phys.ram + TSS_A, sizeof before);
        assert_int_equal(m_enter(m, c[i].code, c[i].n), EXIT_REASON_TASK_SWITCH);
        m->v->s.intr_line = false;
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), c[i].qualification);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + c[i].rip);
        if (c[i].length) assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), c[i].length);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION) >> 31, 0);
        u32 event = (u32)m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION);
        if (c[i].event)
            assert_int_equal(event, c[i].event);
        else
            assert_int_equal(event >> 31, 0);
        if (c[i].error) assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_ERROR_CODE), c[i].error);
        assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2 | (c[i].flags & ~(u32)FL_RF) | c[i].rf);
        // Neither TSSs, descriptors nor TR are touched, nor CR0.TS.
        assert_memory_equal(before, m->phys.ram + TSS_A, sizeof before);
        assert_int_equal(phys_read8(&m->phys, 0, TABLES + TASK_A + 5), 0x8B);
        assert_int_equal(phys_read8(&m->phys, 0, TABLES + TASK_B + 5), 0x89);
        assert_int_equal(m_read(m, VMCS_GUEST_TR_SELECTOR), TASK_A);
        assert_int_equal(m_read(m, VMCS_GUEST_CR0), 0x31);
    }
    m_free(m);
}

// IRET of a nested task ends blocking by NMI as any other does: when it faults (SDM 7.7.1, 28.3), and when
// its task switch exits (30.2.3), which has no bit that tells of it. JMP leaves it alone, and so does IRET
// with NMI exiting alone.
static void iret_and_nmis(void **state)
{
    static const u32 pins[] = {0, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, PIN_NMI_EXITING};
    struct vmx_machine *m = guest();
    u32 pin = (u32)m_read(m, VMCS_PIN_BASED_CONTROLS);
    for (unsigned i = 0; i < 9; i++) {
        enum { FAULTS, SWITCHES, JUMPS } how = i / 3;
        again(m);
        m_write(m, VMCS_PIN_BASED_CONTROLS, pin | pins[i % 3]);
        if (how == FAULTS) m_poke64(m, TSS_A, TASK_B); // not busy
        m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_NT);
        m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
        m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
        u32 reason = how == JUMPS ? m_enter(m, "\xEA\0\0\0\0\x20\0", 7) : m_enter(m, "\xCF", 1);
        assert_int_equal(reason, how == FAULTS ? EXIT_REASON_EXCEPTION_NMI : EXIT_REASON_TASK_SWITCH);
        bool stays = how == JUMPS || pins[i % 3] == PIN_NMI_EXITING;
        assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), stays ? BLOCKING_BY_NMI : 0);
        if (how == SWITCHES) assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION) & ~0xC0000000ul, BUSY);
    }
    m_free(m);
}

// The checks come first; their faults exit as such.
static void checks_come_first(void **state)
{
    struct vmx_machine *m = guest();
    // clang-format off
    static const struct { const char *code; unsigned n; u32 flags; u16 link; u32 event, error; } c[] = {
        {"\xEA\0\0\0\0\x40\0", 7, 0, 0, 0x80000B0D, 0x40},  // beyond the GDT
        {"\xEA\0\0\0\0\x30\0", 7, 0, 0, 0x80000B0D, BUSY},
        {"\xEA\0\0\0\0\x38\0", 7, 0, 0, 0x80000B0A, SMALL}, // too small
        {"\xEA\0\0\0\0\x21\0", 7, 0, 0, 0x80000B0D, TASK_B}, // RPL
        {"\xCF", 1, FL_NT, TASK_B, 0x80000B0A, TASK_B},     // not busy
        {"\xCF", 1, FL_NT, 0, 0x80000B0A, 0},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        again(m);
        m_poke64(m, TSS_A, c[i].link);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | c[i].flags);
        m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
        assert_int_equal(m_enter(m, c[i].code, c[i].n), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), c[i].event);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), c[i].error);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    }
    // An exception that is intercepted exits before its gate is looked at.
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_UD);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_EXCEPTION_NMI);
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(they_exit), cmocka_unit_test(checks_come_first),
                                       cmocka_unit_test(iret_and_nmis)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// What a guest reads and writes instead of the processor's own (SDM 28.3): IA32_SPEC_CTRL under "virtualize
// IA32_SPEC_CTRL"; the TSC under "use TSC offsetting" and "use TSC scaling";
// lists of MSRs.
#include "vmx_machine.h"

#define RDMSR "\x0F\x32"
#define WRMSR "\x0F\x30"

static struct vmx_machine *fresh(u32 proc, u64 proc3)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_USE_MSR_BITMAPS | proc);
    m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP);
    m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, proc3);
    return m;
}

static s64 with_msr(struct vmx_machine *m, const char *code, u32 msr, u64 value)
{
    m->v->s.gpr[RCX] = msr;
    m->v->s.gpr[RAX] = (u32)value;
    m->v->s.gpr[RDX] = value >> 32;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    s64 reason = m_enter(m, code, 2);
    m_root_state(m);
    return reason;
}

static u64 result(const struct vmx_machine *m) { return m->v->s.gpr[RDX] << 32 | (u32)m->v->s.gpr[RAX]; }

static void spec_ctrl(void **state)
{
    struct vmx_machine *m = fresh(PROC_ACTIVATE_TERTIARY_CONTROLS, PROC3_VIRTUALIZE_IA32_SPEC_CTRL);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << 13);
    m_write(m, VMCS_IA32_SPEC_CTRL_MASK, 5);
    m_write(m, VMCS_IA32_SPEC_CTRL_SHADOW, 0x123456789ABCDEF0);
    m->v->s.msr.spec_ctrl = 1;
    assert_int_equal(with_msr(m, RDMSR, 0x48, 0), EXIT_REASON_HLT);
    assert_int_equal(result(m), 0x123456789ABCDEF0);
    assert_int_equal(m->v->s.msr.spec_ctrl, 1);

    // bits 0 and 2 are the host's: 1 and 0 stay
    assert_int_equal(with_msr(m, WRMSR, 0x48, 6), EXIT_REASON_HLT);
    assert_int_equal(m->v->s.msr.spec_ctrl, 3);
    assert_int_equal(m_read(m, VMCS_IA32_SPEC_CTRL_SHADOW), 6);
    assert_int_equal(with_msr(m, RDMSR, 0x48, 0), EXIT_REASON_HLT);
    assert_int_equal(result(m), 6);

    // a reserved bit faults and changes nothing; one in the mask is not written and does not fault
    assert_int_equal(with_msr(m, WRMSR, 0x48, 1ull << 40), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
    assert_int_equal(m->v->s.msr.spec_ctrl, 3);
    assert_int_equal(m_read(m, VMCS_IA32_SPEC_CTRL_SHADOW), 6);
    m_write(m, VMCS_IA32_SPEC_CTRL_MASK, 1ull << 40 | 2);
    assert_int_equal(with_msr(m, WRMSR, 0x48, 1ull << 40), EXIT_REASON_HLT);
    assert_int_equal(m->v->s.msr.spec_ctrl, 2);
    assert_int_equal(m_read(m, VMCS_IA32_SPEC_CTRL_SHADOW), 1ull << 40);
    // the MSR bitmap comes first
    phys_write8(&m->phys, 0, M_BITMAP + 0x48 / 8, 1);
    assert_int_equal(with_msr(m, RDMSR, 0x48, 0), EXIT_REASON_RDMSR);
    // VMX root operation sees the register
    m->v->s.gpr[RCX] = 0x48;
    assert_int_equal(M_RUN(m, RDMSR), -1);
    assert_int_equal(result(m), 2);
    m_free(m);
}

static void spec_ctrl_off(void **state) // not activated, or activated without it
{
    for (unsigned i = 0; i < 2; i++) {
        struct vmx_machine *m = i ? fresh(PROC_ACTIVATE_TERTIARY_CONTROLS, 0) : fresh(0, 0x80);
        m_write(m, VMCS_IA32_SPEC_CTRL_MASK, 5);
        m_write(m, VMCS_IA32_SPEC_CTRL_SHADOW, 4);
        assert_int_equal(with_msr(m, WRMSR, 0x48, 3), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.msr.spec_ctrl, 3);
        assert_int_equal(m_read(m, VMCS_IA32_SPEC_CTRL_SHADOW), 4);
        assert_int_equal(with_msr(m, RDMSR, 0x48, 0), EXIT_REASON_HLT);
        assert_int_equal(result(m), 3);
        m_free(m);
    }
}

// ---- MSR lists (SDM 28.1.3, 28.3, 30.2.1, 30.2.5) ----
#define RDMSRLIST "\xF2\x0F\x01\xC6"
#define WRMSRLIST "\xF3\x0F\x01\xC6"
#define WRMSRNS   "\x0F\x01\xC6"
enum { LIST = M_DATA, VALUES = M_DATA + 0x200 };

static s64 with_list(struct vmx_machine *m, const char *code, u64 which)
{
    m_root_state(m);
    m->v->s.gpr[RSI] = LIST, m->v->s.gpr[RDI] = VALUES, m->v->s.gpr[RCX] = which;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    return m_enter(m, code, 4);
}

static void list_of(struct vmx_machine *m, unsigned n, u64 msr, u64 value)
{
    m_poke64(m, LIST + 8 * n, msr), m_poke64(m, VALUES + 8 * n, value);
}

static void lists_enabled(void **state)
{
    const u32 read_low = M_BITMAP, read_high = M_BITMAP + 0x400, write_low = M_BITMAP + 0x800,
              write_high = M_BITMAP + 0xC00;
    struct vmx_machine *m = fresh(PROC_ACTIVATE_TERTIARY_CONTROLS, PROC3_ENABLE_MSR_LIST_INSTRUCTIONS);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << 13 | 1 << 6);
    m->v->s.msr.lstar = 0x1111, m->v->s.msr.cstar = 0x2222;
    for (unsigned write = 0; write < 2; write++) {
        const char *code = write ? WRMSRLIST : RDMSRLIST;
        u32 reason = write ? EXIT_REASON_WRMSRLIST : EXIT_REASON_RDMSRLIST;
        list_of(m, 1, 0xC0000082, 0x8888), list_of(m, 2, 0xC0000083, 0x9999), list_of(m, 9, 0x176, 0x7777);
        // no bit: it runs
        assert_int_equal(with_list(m, code, 2), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.gpr[RCX], 0);
        assert_int_equal(write ? m->v->s.msr.lstar : phys_read64(&m->phys, 0, VALUES + 8),
                         write ? 0x8888 : 0x1111);
        // one of the list exits: what is before it is done
        phys_write8(&m->phys, 0, (write ? write_high : read_high) + 0x83 / 8, 1 << (0x83 & 7));
        m_write(m, VMCS_MSR_DATA, 0x5555);
        assert_int_equal(with_list(m, code, 6), reason);
        assert_int_equal(m->v->s.gpr[RCX], 4);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0xC0000083);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
        assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 4);
        assert_int_equal(m_read(m, VMCS_MSR_DATA), write ? 0x9999 : 0x5555);
        assert_int_equal(m->v->s.msr.cstar, 0x2222);
        assert_int_equal(phys_read64(&m->phys, 0, VALUES + 16), 0x9999);
        // the other kind's bitmap does not matter
        assert_int_equal(with_list(m, write ? RDMSRLIST : WRMSRLIST, 4), EXIT_REASON_HLT);
        m->v->s.msr.cstar = 0x2222;
        phys_write8(&m->phys, 0, (write ? write_high : read_high) + 0x83 / 8, 0);
        // low ones; those that have no bit exit always
        phys_write8(&m->phys, 0, (write ? write_low : read_low) + 0x176 / 8, 1 << (0x176 & 7));
        assert_int_equal(with_list(m, code, 1 << 9), reason);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x176);
        phys_write8(&m->phys, 0, (write ? write_low : read_low) + 0x176 / 8, 0);
        static const u32 outside[] = {0x2000, 0x40000174, 0x80000174, 0xC0002000, 0xFFFFFFFF};
        for (unsigned i = 0; i < ARRAY_LEN(outside); i++) {
            list_of(m, 0, outside[i], 0);
            assert_int_equal(with_list(m, code, 1), reason);
            assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), outside[i]);
        }
        // reserved bits of an entry are no MSR's: #GP(0)
        list_of(m, 0, 1ull << 32, 0);
        assert_int_equal(with_list(m, code, 1), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
        // without the bitmaps they exit at once, whatever the registers hold
        u64 proc = m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS);
        m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc & ~(u64)PROC_USE_MSR_BITMAPS);
        list_of(m, 0, 0xC0000082, 0);
        assert_int_equal(with_list(m, code, 1), reason);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
        assert_int_equal(with_list(m, code, 0), reason);
        m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc);
        // not enabled: #UD
        m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, 0);
        assert_int_equal(with_list(m, code, 2), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000306);
        m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, PROC3_ENABLE_MSR_LIST_INSTRUCTIONS);
    }
    m_free(m);
}

// What is virtualized for RDMSR and WRMSR is for the lists; the monitor trap flag traps between two entries.
static void lists_and_the_rest(void **state)
{
    struct vmx_machine *m = fresh(PROC_ACTIVATE_TERTIARY_CONTROLS | PROC_USE_TSC_OFFSETTING,
                                  PROC3_ENABLE_MSR_LIST_INSTRUCTIONS | PROC3_VIRTUALIZE_IA32_SPEC_CTRL);
    m_write(m, VMCS_TSC_OFFSET, 1ull << 60);
    m_write(m, VMCS_IA32_SPEC_CTRL_SHADOW, 0x4444);
    m_write(m, VMCS_IA32_SPEC_CTRL_MASK, 2);
    list_of(m, 0, 0x10, 0), list_of(m, 1, 0x48, 0);
    assert_int_equal(with_list(m, RDMSRLIST, 3), EXIT_REASON_HLT);
    assert_int_equal(phys_read64(&m->phys, 0, VALUES) >> 60, 1);
    assert_int_equal(phys_read64(&m->phys, 0, VALUES + 8), 0x4444);
    list_of(m, 0, 0x48, 3);
    assert_int_equal(with_list(m, WRMSRLIST, 1), EXIT_REASON_HLT);
    assert_int_equal(m->v->s.msr.spec_ctrl, 1);
    assert_int_equal(m_read(m, VMCS_IA32_SPEC_CTRL_SHADOW), 3);

    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_MONITOR_TRAP_FLAG);
    list_of(m, 0, 0xC0000082, 0), list_of(m, 1, 0xC0000083, 0);
    assert_int_equal(with_list(m, RDMSRLIST, 3), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m->v->s.gpr[RCX], 2);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(with_list(m, RDMSRLIST, 2), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 4);
    m_free(m);
}

// WRMSRNS has the exit of WRMSR; the qualification tells them apart (SDM 30.2.1).
static void wrmsrns(void **state)
{
    struct vmx_machine *m = fresh(0, 0);
    for (unsigned i = 0; i < 2; i++) {
        phys_write8(&m->phys, 0, M_BITMAP + 0x800 + 0x174 / 8, i ? 1 << (0x174 & 7) : 0);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        m->v->s.gpr[RCX] = 0x174, m->v->s.gpr[RAX] = 0x99, m->v->s.gpr[RDX] = 0;
        assert_int_equal(M_ENTER(m, WRMSRNS), i ? EXIT_REASON_WRMSR : EXIT_REASON_HLT);
        assert_int_equal(m_read(m, VMCS_GUEST_IA32_SYSENTER_CS), 0x99);
        m_root_state(m);
    }
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 3);
    assert_int_equal(with_msr(m, WRMSR, 0x174, 5), EXIT_REASON_WRMSR);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    m_free(m);
}

// ---- the clock ----
#define RDTSC  "\x0F\x31"
#define TPAUSE "\x66\x0F\xAE\xF1" // tpause ecx

struct clock { // what a guest saw, and the processor's TSC when it did, to less than `slack` ticks
    u64 guest, before, after;
};

static struct clock look(struct vmx_machine *m, const char *code, unsigned n)
{
    struct clock c;
    char all[64];
    m->v->s.gpr[RCX] = 0x10;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    memcpy(all, code, n);
    c.before = cpu_vtime(m->v) + m->v->s.msr.tsc_offset;
    assert_int_equal(m_enter(m, all, n), EXIT_REASON_HLT);
    c.after = cpu_vtime(m->v) + m->v->s.msr.tsc_offset;
    c.guest = result(m);
    m_root_state(m);
    return c;
}
#define LOOK(m, code) look(m, code, sizeof(code) - 1)

static u64 scaled(u64 tsc, u64 multiplier, u64 offset)
{
    return (u64)((unsigned __int128)tsc * multiplier >> 48) + offset;
}

static void scaling(void **state)
{
    static const u64 multipliers[] = {1ull << 48, 1ull << 49,         3ull << 47,
                                      1,          0xFFFFFFFFFFFFFFFF, 0x123456789ABCD};
    struct vmx_machine *m = fresh(PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_USE_TSC_OFFSETTING, 0);
    m->v->s.msr.tsc_offset += 0x123456789ABCDEF0; // a product of more than 64 bits
    for (unsigned i = 0; i < 3 * ARRAY_LEN(multipliers); i++) {
        u64 mul = multipliers[i / 3], offset = i % 2 ? 0xFFFFFFFF00000000 : 0x10000;
        m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_USE_TSC_SCALING | PROC2_ENABLE_RDTSCP);
        m_write(m, VMCS_TSC_MULTIPLIER, mul);
        m_write(m, VMCS_TSC_OFFSET, offset);
        struct clock c = i % 3 == 0 ? LOOK(m, RDTSC) : i % 3 == 1 ? LOOK(m, "\x0F\x01\xF9") : LOOK(m, RDMSR);
        u64 low = scaled(c.before, mul, offset), high = scaled(c.after, mul, offset);
        assert_true(c.after - c.before < 2000);
        assert_true(c.guest - low <= high - low);
    }
    // without offsetting nothing is scaled; with RDTSC exiting RDMSR still is
    m_write(m, VMCS_TSC_MULTIPLIER, 1ull << 50);
    m_write(m, VMCS_TSC_OFFSET, 0);
    u64 proc = m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc & ~(u64)PROC_USE_TSC_OFFSETTING);
    struct clock c = LOOK(m, RDTSC);
    assert_true(c.guest - c.before <= c.after - c.before);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc | PROC_RDTSC_EXITING);
    c = LOOK(m, RDMSR);
    assert_true(c.guest - 4 * c.before <= 4 * (c.after - c.before));
    // not activated
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc & ~(u64)PROC_ACTIVATE_SECONDARY_CONTROLS);
    c = LOOK(m, RDTSC);
    assert_true(c.guest - c.before <= c.after - c.before);
    m_free(m);
}

// WRMSR to the TSC writes the processor's own; the preemption timer counts by it.
static void what_is_not_scaled(void **state)
{
    struct vmx_machine *m = fresh(PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_USE_TSC_OFFSETTING, 0);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_USE_TSC_SCALING);
    m_write(m, VMCS_TSC_MULTIPLIER, 1ull << 52);
    m_write(m, VMCS_TSC_OFFSET, 0x1000000);
    assert_int_equal(with_msr(m, WRMSR, 0x10, 0x50000000), EXIT_REASON_HLT);
    u64 now = cpu_vtime(m->v) + m->v->s.msr.tsc_offset;
    assert_true(now - 0x50000000 < 2000);

    m_write(m, VMCS_PIN_BASED_CONTROLS,
            m_read(m, VMCS_PIN_BASED_CONTROLS) | PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 1000); // of 32 ticks
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    u64 before = cpu_vtime(m->v);
    assert_int_equal(M_ENTER(m, "\xEB\xFE"), EXIT_REASON_PREEMPTION_TIMER);
    u64 passed = cpu_vtime(m->v) - before;
    assert_true(passed > 31900 && passed < 33000);
    m_free(m);
}

// The preemption timer counts the changes of TSC bit 5 that come of its increment: not the one that a write
// makes, but those that follow it (SDM 28.5.1).
static u64 timer_behind_write(struct vmx_machine *m, u32 tsc)
{
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 1000);
    m->v->s.msr.tsc_offset = -cpu_vtime(m->v); // the entry is the same each time
    m->v->s.gpr[RCX] = 0x10, m->v->s.gpr[RDX] = 0, m->v->s.gpr[RAX] = tsc;
    u64 before = cpu_vtime(m->v);
    assert_int_equal(M_ENTER(m, "\x0F\x30\xEB\xFE"), EXIT_REASON_PREEMPTION_TIMER); // WRMSR; jmp to itself
    return m->last_exit.vtime - before;
}

static void timer_and_writes_of_the_tsc(void **state)
{
    struct vmx_machine *m = fresh(PROC_ACTIVATE_SECONDARY_CONTROLS, 0);
    m_write(m, VMCS_PIN_BASED_CONTROLS,
            m_read(m, VMCS_PIN_BASED_CONTROLS) | PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    u64 late = timer_behind_write(m, 0x50000000), soon = timer_behind_write(m, 0x5000001F);
    assert_true(late - soon >= 28 && late - soon <= 32); // 31 ticks, seen by instructions of 4
    assert_int_equal(timer_behind_write(m, 0x70000020),
                     late); // a change of the bit by the write itself is none
    m_free(m);
}

// TPAUSE: the delay is as long as the guest's clock makes it (SDM 28.3).
static u64 pauses(struct vmx_machine *m, u64 multiplier, u64 ticks, bool *carry)
{
    static const char code[] =
        RDTSC "\x03\xC6\x83\xD2\x00\x31\xC9" TPAUSE "\x9C\x5B"; // add eax, esi; adc edx, 0; ecx = 0
    m_write(m, VMCS_TSC_MULTIPLIER, multiplier);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    m->v->s.gpr[RSI] = ticks;
    u64 before = cpu_vtime(m->v);
    assert_int_equal(m_enter(m, code, sizeof code - 1), EXIT_REASON_HLT);
    u64 passed = cpu_vtime(m->v) - before;
    *carry = m->v->s.gpr[RBX] & FL_CF;
    m_root_state(m);
    return passed;
}

static void user_waits(void **state)
{
    struct vmx_machine *m = fresh(PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_USE_TSC_OFFSETTING, 0);
    bool cf;
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_USE_TSC_SCALING | PROC2_ENABLE_USER_WAIT_AND_PAUSE);
    u64 none = pauses(m, 1ull << 48, 0, &cf);
    // the guest's clock runs at the same speed, eight times as fast, a quarter as fast
    static const struct {
        u64 multiplier, ticks, physical;
    } t[] = {{1ull << 48, 400, 400}, {1ull << 51, 3200, 400}, {1ull << 46, 100, 400}};
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        u64 passed = pauses(m, t[i].multiplier, t[i].ticks, &cf) - none;
        assert_false(cf);
        assert_true(passed <= t[i].physical && passed + 40 >= t[i].physical); // less what came after RDTSC
    }
    // The limit of IA32_UMWAIT_CONTROL is of the guest's clock too.
    m->v->s.msr.umwait_control = 800;
    u64 passed = pauses(m, 1ull << 50, 100000, &cf) - none;
    assert_true(cf && passed == 200);
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spec_ctrl),
        cmocka_unit_test(spec_ctrl_off),
        cmocka_unit_test(scaling),
        cmocka_unit_test(what_is_not_scaled),
        cmocka_unit_test(timer_and_writes_of_the_tsc),
        cmocka_unit_test(user_waits),
        cmocka_unit_test(lists_enabled),
        cmocka_unit_test(lists_and_the_rest),
        cmocka_unit_test(wrmsrns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

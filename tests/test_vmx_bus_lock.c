// "VMM bus-lock detection" and "instruction timeout" (SDM 28.2, 30.2.1, 27.6.24, 30.3.4).
#include "vmx_machine.h"

#define BUS_LOCK_BIT 0x04000000
enum { UC_PAGE = 0x200000, WB = M_DATA };

// Memory is write-back by the MTRRs; the second 2 MiB at UC_PAGE are uncacheable by their entry (PCD, PWT).
static struct vmx_machine *fresh(u32 proc2)
{
    struct vmx_machine *m = m_vmx_new();
    m->v->s.msr.mtrr_def_type = 6 | BIT(11);
    m_poke64(m, M_PDPT, (M_PDPT + 0x1000) | 7);
    m_poke64(m, M_PDPT + 0x1000, 0x87);
    m_poke64(m, M_PDPT + 0x1008, UC_PAGE | 0x9F);
    m_vmcs_64(m);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, proc2);
    return m;
}

static s64 at(struct vmx_machine *m, const char *code, unsigned n, u64 rdi)
{
    m_root_state(m);
    m->v->s.gpr[RDI] = rdi, m->v->s.gpr[RAX] = 1, m->v->s.gpr[RCX] = 5, m->v->s.gpr[RBX] = 64;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    return m_enter(m, code, n);
}
#define AT(m, code, rdi) at(m, code, sizeof(code) - 1, rdi)

static void which(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMM_BUS_LOCK_DETECTION);
    // clang-format off
    static const struct { const char *name, *code; unsigned n, size; } locked[] = {
        {"lock inc dword", "\xF0\xFF\x07", 3, 4}, {"lock add qword", "\xF0\x48\x01\x07", 4, 8}, {"xchg dword", "\x87\x07", 2, 4},
        {"xchg word", "\x66\x87\x07", 3, 2}, {"lock xchg qword", "\xF0\x48\x87\x07", 4, 8}, {"lock cmpxchg", "\xF0\x0F\xB1\x0F", 4, 4},
        {"lock xadd", "\xF0\x0F\xC1\x07", 4, 4}, {"lock cmpxchg8b", "\xF0\x0F\xC7\x0F", 4, 8}, {"lock bts imm", "\xF0\x0F\xBA\x2F\x03", 5, 4},
        {"lock not", "\xF0\xF7\x17", 3, 4}, {"lock neg word", "\x66\xF0\xF7\x1F", 4, 2},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(locked); i++) {
        for (unsigned offset = 64 - locked[i].size; offset <= 64; offset += 1) {
            bool split = offset % 64 + locked[i].size > 64;
            s64 reason = at(m, locked[i].code, locked[i].n, WB + offset);
            s64 want = split ? EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT : EXIT_REASON_HLT;
            if (reason != want) fail_msg("%s at %u: exit %llx", locked[i].name, offset, (long long)reason);
            if (split) { // it is done: RIP is behind it
                assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + locked[i].n);
                assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
            }
        }
        if (at(m, locked[i].code, locked[i].n, UC_PAGE) != (EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT))
            fail_msg("%s to uncacheable memory: no exit", locked[i].name);
    }
    // what does not lock, and a bit string's bit elsewhere
    static const struct {
        const char *code;
        unsigned n;
    } plain[] = {{"\xFF\x07", 2},     {"\x48\x01\x07", 3}, {"\x0F\xB1\x0F", 3}, {"\x89\x07", 2},
                 {"\x48\x8B\x07", 3}, {"\x87\xC1", 2},     {"\x0F\xC1\x07", 3}};
    for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
        assert_int_equal(at(m, plain[i].code, plain[i].n, WB + 61), EXIT_REASON_HLT);
        assert_int_equal(at(m, plain[i].code, plain[i].n, UC_PAGE + 61), EXIT_REASON_HLT);
    }
    assert_int_equal(AT(m, "\xF0\x0F\xAB\x1F", WB + 54),
                     EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT); // lock bts [rdi], ebx: at + 8
    assert_int_equal(AT(m, "\xF0\x0F\xAB\x1F", WB + 61), EXIT_REASON_HLT);
    // it is in memory all the same
    m_poke64(m, WB + 61, 41);
    assert_int_equal(AT(m, "\xF0\xFF\x07", WB + 61), EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT);
    assert_int_equal(phys_read32(&m->phys, 0, WB + 61), 42);
    // all memory is uncacheable without MTRRs; and nothing is looked at without the control
    m->v->s.msr.mtrr_def_type = 0;
    assert_int_equal(AT(m, "\xF0\xFF\x07", WB), EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, 0);
    assert_int_equal(AT(m, "\xF0\xFF\x07", WB + 61), EXIT_REASON_HLT);
    m_free(m);
}

// With EPT its leaf says the type, unless the PAT does.
static void types_by_ept(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMM_BUS_LOCK_DETECTION | PROC2_ENABLE_EPT);
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_write(m, VMCS_EPTP, M_EPT | 0x1E);
    m->v->s.msr.mtrr_def_type = 0; // not asked
    static const struct {
        u64 leaf;
        bool wb, uc;
    } t[] = {{0xB7, true, false},
             {0x87, false, false},
             {0xF7, true, true},
             {0xC7, false, false},
             {0xA7, false, false}};
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) { // WB, UC, WB ignoring PAT, UC ignoring PAT, WT
        m_poke64(m, M_EPT + 0x1000, t[i].leaf);
        tlb_invept_all(&m->v->s.itlb), tlb_invept_all(&m->v->s.dtlb);
        assert_int_equal(AT(m, "\xF0\xFF\x07", WB),
                         t[i].wb ? EXIT_REASON_HLT : (EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT));
        assert_int_equal(AT(m, "\xF0\xFF\x07", UC_PAGE),
                         t[i].uc ? EXIT_REASON_HLT : (EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT));
    }
    m_free(m);
}

// It comes before the debug trap of the same instruction, which stays pending, and before MTF, the preemption
// timer and windows; a fault of the next instruction is after it.
static void priority(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMM_BUS_LOCK_DETECTION);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_TF);
    m_write(m, VMCS_EXCEPTION_BITMAP, 0xFFFFFFFF);
    assert_int_equal(AT(m, "\xF0\xFF\x07\x0F\x0B", WB + 61), EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT);
    assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), BIT(14));
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_MONITOR_TRAP_FLAG);
    assert_int_equal(AT(m, "\xF0\xFF\x07", WB + 61), EXIT_REASON_BUS_LOCK | BUS_LOCK_BIT);
    assert_int_equal(AT(m, "\x90", WB + 61), EXIT_REASON_MONITOR_TRAP_FLAG); // it has not been left behind
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) & ~(u64)PROC_MONITOR_TRAP_FLAG);
    // a page fault of the locked instruction itself: nothing was locked
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << 14);
    assert_int_equal(AT(m, "\xF0\xFF\x07", 1ull << 40), EXIT_REASON_EXCEPTION_NMI);
    m_free(m);
}

// ---- instruction timeout ----

// A 32-bit guest at CPL 3 with alignment checks, whose #AC handler is at CPL 3 on the same misaligned stack:
// to deliver #AC is #AC, for ever. Without the control the processor never comes back.
static void alignment_for_ever(struct vmx_machine *m)
{
    m_unrestricted(m);
    m_poke64(m, M_GDT + 0x28, 0x00CFFB000000FFFF);
    m_poke64(m, M_GDT + 0x30, 0x00CFF3000000FFFF);
    m_poke64(m, M_GUEST_IDT + 17 * 8,
             (M_GUEST & 0xFFFF) | 0x28 << 16 | 0xEE00ull << 32 | (u64)(M_GUEST >> 16) << 48);
    m_write(m, VMCS_GUEST_CR0, 0x31 | CR0_AM);
    m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_IA32_EFER, 0);
    m_write(m, VMCS_GUEST_CS_SELECTOR, 0x2B), m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, 0xC0FB);
    m_write(m, VMCS_GUEST_SS_SELECTOR, 0x33), m_write(m, VMCS_GUEST_SS_ACCESS_RIGHTS, 0xC0F3);
    m_write(m, VMCS_GUEST_DS_ACCESS_RIGHTS, 0xC0F3);
    m_write(m, VMCS_GUEST_IDTR_BASE, M_GUEST_IDT);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_AC);
}

static void timeout(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        struct vmx_machine *m = fresh(0);
        alignment_for_ever(m);
        m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS,
                PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_INSTRUCTION_TIMEOUT);
        u32 crystal = i ? 2000 : 50; // 80 ticks of the TSC each (CPUID leaf 15H)
        m_write(m, VMCS_INSTRUCTION_TIMEOUT_CONTROL, crystal);
        m_write(m, VMCS_GUEST_RSP, M_STACK - 0x801);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        u64 before = cpu_vtime(m->v);
        assert_int_equal(M_ENTER(m, "\x8B\x04\x24"), EXIT_REASON_INSTRUCTION_TIMEOUT); // mov eax, [esp]
        u64 passed = cpu_vtime(m->v) - before;
        assert_true(passed >= 80 * crystal && passed < 80 * crystal + 4000);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
        assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000B11);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
        assert_int_equal(m_read(m, VMCS_GUEST_RSP), M_STACK - 0x801);
        m_free(m);
    }
}

// What reaches boundaries never times out; an exception that exits does so first.
static void no_timeout(void **state)
{
    struct vmx_machine *m = fresh(PROC2_INSTRUCTION_TIMEOUT);
    m_write(m, VMCS_INSTRUCTION_TIMEOUT_CONTROL, 1);
    m->v->s.gpr[RCX] = 0x10000, m->v->s.gpr[RDI] = M_DATA, m->v->s.gpr[RAX] = 0;
    assert_int_equal(M_ENTER(m, "\xF3\xAA"), EXIT_REASON_HLT); // rep stosb
    m_root_state(m);
    m_free(m);
    m = fresh(0);
    alignment_for_ever(m);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS,
            PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_INSTRUCTION_TIMEOUT);
    m_write(m, VMCS_INSTRUCTION_TIMEOUT_CONTROL, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << 17);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x801);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x8B\x04\x24"), EXIT_REASON_EXCEPTION_NMI);
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(which),   cmocka_unit_test(types_by_ept), cmocka_unit_test(priority),
        cmocka_unit_test(timeout), cmocka_unit_test(no_timeout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

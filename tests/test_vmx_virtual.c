// What a guest reads and writes instead of the processor's own: the tertiary control "virtualize
// IA32_SPEC_CTRL" (SDM 28.3).
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

    // a reserved bit faults and changes nothing, also one in the mask
    for (unsigned i = 0; i < 2; i++) {
        m_write(m, VMCS_IA32_SPEC_CTRL_MASK, i ? UINT64_MAX : 5);
        assert_int_equal(with_msr(m, WRMSR, 0x48, 1ull << 40), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m->v->s.msr.spec_ctrl, 3);
        assert_int_equal(m_read(m, VMCS_IA32_SPEC_CTRL_SHADOW), 6);
    }
    // the MSR bitmap comes first
    phys_write8(&m->phys, 0, M_BITMAP + 0x48 / 8, 1);
    assert_int_equal(with_msr(m, RDMSR, 0x48, 0), EXIT_REASON_RDMSR);
    // VMX root operation sees the register
    m->v->s.gpr[RCX] = 0x48;
    assert_int_equal(M_RUN(m, RDMSR), -1);
    assert_int_equal(result(m), 3);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(spec_ctrl), cmocka_unit_test(spec_ctrl_off)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// VMX aborts (SDM 30.7): the indicator in the VMCS region, and a shutdown state that nothing but RESET ends.
// Those of the MSR-store area (1) are in test_vmx_world.c, of a host's PDPTEs (2) in test_vmx_states.c.
#include "vmx_machine.h"

static struct vmx_machine *fresh(void)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_poke(m, M_GUEST, "\xF4", 1);
    m_poke(m, M_CODE, I_VMLAUNCH, 3);
    return m;
}

static void load_area(struct vmx_machine *m, u32 bad)
{
    m_write(m, VMCS_VM_EXIT_MSR_LOAD_ADDRESS, M_MSR_AREA), m_write(m, VMCS_VM_EXIT_MSR_LOAD_COUNT, 3);
    u32 index[] = {0xC0000082, bad, 0xC0000083}; // IA32_LSTAR, IA32_CSTAR
    for (unsigned i = 0; i < 3; i++) {
        m_poke64(m, M_MSR_AREA + 16 * i, index[i]);
        m_poke64(m, M_MSR_AREA + 16 * i + 8, 0x333000);
    }
}

static void is_aborted(struct vmx_machine *m, u32 indicator)
{
    struct vcpu_state *s = &m->v->s;
    assert_int_equal(phys_read32(&m->phys, 0, M_VMCS + 4), indicator);
    assert_int_equal(m->shutdowns, 1);
    assert_int_equal(s->activity, ACTIVITY_SHUTDOWN);
    assert_true(s->vmx.on && !s->vmx.guest);
    // INIT, NMI, SIPI and external interrupts do not end it
    cpu_set_rflags(m->v, 2 | FL_IF);
    s->blocking = 0;
    assert_int_equal(cpu_woken_by(m->v), 0);
    cpu_signal(m->v, CPU_SIGNAL_INIT, 0);
    cpu_signal(m->v, CPU_SIGNAL_NMI, 0);
    cpu_signal(m->v, CPU_SIGNAL_SIPI, 0x12);
    m->interrupt = 0x33;
    cpu_signal(m->v, CPU_SIGNAL_INTR_ON, 0);
    u64 rip = s->rip;
    assert_int_equal(vcpu_run(m->v, 1000), RUN_SHUTDOWN);
    assert_true(s->activity == ACTIVITY_SHUTDOWN && s->rip == rip && m->entries <= 1);
    vcpu_reset(m->v, false);
    assert_int_equal(s->activity, ACTIVITY_ACTIVE);
    assert_false(s->vmx.on);
}

// What the host cannot load: what came before it is loaded, what follows is not.
static void host_msrs(void **state)
{
    static const u32 bad[] = {0xC0000100, 0xC0000101, 0x80B, 0x9B, 0x79, 0x12345};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        struct vmx_machine *m = fresh();
        load_area(m, bad[i]);
        m->v->s.msr.cstar = 0x444000;
        assert_int_equal(m_go(m, M_CODE), -2);
        assert_int_equal(m_read(m, VMCS_EXIT_REASON), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.msr.lstar, 0x333000);
        assert_int_equal(m->v->s.msr.cstar, 0x444000);
        is_aborted(m, VMX_ABORT_LOAD_MSR);
        m_free(m);
    }
    // LME cannot change while there is paging (SDM 30.6)
    struct vmx_machine *m = fresh();
    load_area(m, 0xC0000080); // IA32_EFER
    m_poke64(m, M_MSR_AREA + 24, EFER_SCE);
    assert_int_equal(m_go(m, M_CODE), -2);
    is_aborted(m, VMX_ABORT_LOAD_MSR);
    m_free(m);
    // a failed entry loads them too (SDM 29.8)
    m = fresh();
    load_area(m, 0xC0000100);
    m_write(m, VMCS_GUEST_RFLAGS, 0);
    assert_int_equal(m_go(m, M_CODE), -2);
    assert_int_equal(m_read(m, VMCS_EXIT_REASON), 0x80000021);
    is_aborted(m, VMX_ABORT_LOAD_MSR);
    m_free(m);
}

// The control changes behind VM entry's back: an exit from IA-32e mode to a 32-bit host.
static void host_mode(void **state)
{
    struct vmx_machine *m = fresh();
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, m->v->vmx->caps.true_allowed0[GROUP_PROC]);
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | PIN_NMI_EXITING);
    assert_int_equal(m_go(m, M_CODE), -1); // HLT
    assert_true(m->v->s.vmx.guest);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) & ~(u64)EXIT_HOST_ADDRESS_SPACE_SIZE);
    cpu_signal(m->v, CPU_SIGNAL_NMI, 0);
    assert_int_equal(vcpu_run(m->v, 1000), RUN_SHUTDOWN);
    is_aborted(m, VMX_ABORT_HOST_MODE);
    m_free(m);
}

// The region is memory: what a guest, or a device, does to the host's state in it comes out at the exit.
static void corrupt_host(void **state)
{
    static const struct {
        u32 field;
        u64 flip;
    } t[] = {
        {VMCS_HOST_IA32_EFER, 1ull << 30},
        {VMCS_HOST_IA32_EFER, 1},
        {VMCS_HOST_IA32_PAT, 4},
        {VMCS_HOST_CR0, CR0_PE},
        {VMCS_HOST_CR0, 1ull << 40},
        {VMCS_HOST_CR4, CR4_VMXE},
        {VMCS_HOST_CR4, 1ull << 31},
        {VMCS_HOST_CR3, 1ull << 51},
        {VMCS_HOST_IA32_SPEC_CTRL, 1ull << 40},
    };
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        struct vmx_machine *m = fresh();
        m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, m->v->vmx->caps.true_allowed0[GROUP_PROC]);
        m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | PIN_NMI_EXITING);
        m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
                m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_LOAD_IA32_EFER | EXIT_LOAD_IA32_PAT |
                    EXIT_ACTIVATE_SECONDARY_CONTROLS);
        m_write(m, VMCS_SECONDARY_VM_EXIT_CONTROLS, EXIT2_LOAD_IA32_SPEC_CTRL);
        m_write(m, VMCS_HOST_IA32_EFER, m->v->s.msr.efer), m_write(m, VMCS_HOST_IA32_PAT, m->v->s.msr.pat);
        assert_int_equal(m_go(m, M_CODE), -1); // HLT
        assert_true(m->v->s.vmx.guest);
        m_write(m, t[i].field, m_read(m, t[i].field) ^ t[i].flip);
        cpu_signal(m->v, CPU_SIGNAL_NMI, 0);
        // SCE is a bit that there is; CR3 beyond the physical-address width is not loaded
        bool harmless = i == 1 || t[i].field == VMCS_HOST_CR3;
        enum run_exit why = vcpu_run(m->v, 1000);
        if ((why == RUN_SHUTDOWN) == harmless) fail_msg("corruption %u ended in %u", i, why);
        if (harmless) assert_false(m->v->s.vmx.guest); // in its handler
        assert_int_equal(m->v->s.cr3 >> m->features.maxphyaddr, 0);
        assert_null(cpu_state_impossible(m->v, &m->v->s));
        if (!harmless) is_aborted(m, VMX_ABORT_VMCS_CORRUPT);
        m_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(host_msrs), cmocka_unit_test(host_mode),
                                       cmocka_unit_test(corrupt_host)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

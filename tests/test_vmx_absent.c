// Each control and each field is there, or is in vmx/absent.def with the reason: then VM entry refuses the
// control with error 7, VMREAD and VMWRITE the field with error 12, and the capability MSRs do not report it.
#include "vmx_machine.h"

#define ABSENT(control, why) [CONTROL_##control] = why,
#define ABSENT_FIELD(field, why)
static const char *const control_reason[CONTROL_COUNT] = {
#include "vmx/absent.def"
};
#undef ABSENT
#undef ABSENT_FIELD
#define ABSENT(control, why)
#define ABSENT_FIELD(field, why) [VMCS_##field] = why,
static const char *const field_reason[VMCS_FIELD_COUNT] = {
#include "vmx/absent.def"
};

static void every_control_is_offered_or_excused(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < CONTROL_COUNT; i++) {
        const char *name = vmx_control_rows[i].name;
        bool offered = vmx_caps_control(&m->v->vmx->caps, i);
        if (offered && control_reason[i]) fail_msg("%s is offered, and in vmx/absent.def", name);
        if (!offered && !control_reason[i]) fail_msg("%s is not offered: no reason", name);
    }
    m_free(m);
}

static void set(struct vmx_machine *m, unsigned group, u64 bit)
{
    static const struct {
        enum vmcs_field field;
        int activate;
        u32 bit;
    } of[GROUP_COUNT] = {
        [GROUP_PIN] = {VMCS_PIN_BASED_CONTROLS, -1, 0},
        [GROUP_PROC] = {VMCS_PRIMARY_PROC_BASED_CONTROLS, -1, 0},
        [GROUP_PROC2] = {VMCS_SECONDARY_PROC_BASED_CONTROLS, VMCS_PRIMARY_PROC_BASED_CONTROLS,
                         PROC_ACTIVATE_SECONDARY_CONTROLS},
        [GROUP_PROC3] = {VMCS_TERTIARY_PROC_BASED_CONTROLS, VMCS_PRIMARY_PROC_BASED_CONTROLS,
                         PROC_ACTIVATE_TERTIARY_CONTROLS},
        [GROUP_EXIT] = {VMCS_PRIMARY_VM_EXIT_CONTROLS, -1, 0},
        [GROUP_EXIT2] = {VMCS_SECONDARY_VM_EXIT_CONTROLS, VMCS_PRIMARY_VM_EXIT_CONTROLS,
                         EXIT_ACTIVATE_SECONDARY_CONTROLS},
        [GROUP_ENTRY] = {VMCS_VM_ENTRY_CONTROLS, -1, 0},
        [GROUP_VMFUNC] = {VMCS_VM_FUNCTION_CONTROLS, -1, 0},
    };
    m_write(m, of[group].field, m_read(m, of[group].field) | bit);
    if (of[group].activate >= 0)
        m_write(m, (enum vmcs_field)of[group].activate,
                m_read(m, (enum vmcs_field)of[group].activate) | of[group].bit);
}

static void absent_controls_fail_the_entry(void **state)
{
    unsigned n = 0;
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < CONTROL_COUNT; i++) {
        const struct vmx_control_row *r = &vmx_control_rows[i];
        if (vmx_caps_control(&m->v->vmx->caps, i)) continue;
        assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
        memset(m->phys.ram + M_VMCS + 64, 0, sizeof(struct vmcs_fields));
        assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
        m_vmcs_64(m);
        set(m, r->group, BIT(r->bit));
        if (M_VMX(m, I_VMLAUNCH, 0) != 7) fail_msg("%s: the entry does not fail with error 7", r->name);
        n++;
    }
    assert_true(n >= 30); // those of absent.def
    m_free(m);
}

static void absent_fields_do_not_exist(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    unsigned n = 0;
    for (unsigned i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field_row *r = &vmcs_field_rows[i];
        bool exists = m->v->vmx->caps.exists[i];
        if (exists && field_reason[i]) fail_msg("%s exists, and is in vmx/absent.def", r->name);
        if (!exists && r->if1 < 0 && !field_reason[i])
            fail_msg("%s: no reason why it does not exist", r->name);
        for (unsigned high = 0; high <= (r->width == WIDTH_64); high++) {
            m->v->s.gpr[RCX] = r->encoding | high, m->v->s.gpr[RAX] = 0;
            if (M_VMX(m, I_VMREAD, 0) != (exists ? 0 : 12)) fail_msg("VMREAD of %s", r->name);
            m->v->s.gpr[RCX] = r->encoding | high, m->v->s.gpr[RAX] = 0;
            if (M_VMX(m, I_VMWRITE, 0) != (exists ? 0 : 12)) fail_msg("VMWRITE of %s", r->name);
        }
        n += !exists;
    }
    assert_true(n >= 30);
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_control_is_offered_or_excused),
        cmocka_unit_test(absent_controls_fail_the_entry),
        cmocka_unit_test(absent_fields_do_not_exist),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

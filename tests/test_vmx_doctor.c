// What the VM-entry checks say in short (log line, page of documentation), and that each row names all that
// it reads. (In full: test_vmx_explain.c.) With --page it prints docs/entry-checks.md instead.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/vmx_setup.h"
#include "tests/vmx_text.h"

// What is no field of the VMCS, as the doctor shows it.
static void inputs_beside_the_vmcs(void **state)
{
    struct setup *s = *state;
    setup_long(s);
    s->f.VMCS_LINK_POINTER = SETUP_OTHER;
    s->f.PRIMARY_PROC_BASED_CONTROLS |= PROC_USE_TPR_SHADOW;
    s->f.VIRTUAL_APIC_ADDRESS = SETUP_VAPIC;
    s->phys.ram[SETUP_VAPIC + 0x80] = 0x5F;
    setup_decode(s);
    s->e.blocking = BLOCKING_BY_STI;
    // clang-format off
    const struct { unsigned input; u64 value; } wanted[] = { // of vmx_setup.h
        {VMX_INPUT_MAXPHYADDR, 40}, {VMX_INPUT_LINEAR_BITS, 48}, {VMX_INPUT_EFER, 0xD01}, {VMX_INPUT_EFER_VALID, 0xD01},
        {VMX_INPUT_VMCS_POINTER, SETUP_VMCS}, {VMX_INPUT_VMCS_DWORD, SETUP_REVISION}, {VMX_INPUT_LAUNCH_STATE, s->e.launch_state},
        {VMX_INPUT_BLOCKING, BLOCKING_BY_STI}, {VMX_INPUT_IA32_VMX_BASIC, 0x00D8100000000000ull | SETUP_REVISION},
        {VMX_INPUT_IA32_VMX_MISC, 0x600401E5}, {VMX_INPUT_IA32_VMX_EPT_VPID_CAP, 0x10F01067341C1ull},
        {VMX_INPUT_IA32_VMX_CR0_FIXED0, 0x80000021}, {VMX_INPUT_IA32_VMX_CR0_FIXED1, 0xFFFFFFFF},
        {VMX_INPUT_IA32_VMX_CR4_FIXED0, 0x2000}, {VMX_INPUT_IA32_VMX_CR4_FIXED1, 0x772FFF},
        {VMX_INPUT_IA32_VMX_TRUE_PINBASED_CTLS, 0xFF00000016}, {VMX_INPUT_IA32_VMX_TRUE_PROCBASED_CTLS, 0xFFFBFFFE04006172},
        {VMX_INPUT_IA32_VMX_PROCBASED_CTLS2, 0xC6D77FFF00000000}, {VMX_INPUT_IA32_VMX_TRUE_EXIT_CTLS, 0xA07FEFFF00036DFB},
        {VMX_INPUT_IA32_VMX_TRUE_ENTRY_CTLS, 0x140DFFF000011FB}, {VMX_INPUT_IA32_VMX_VMFUNC, 1}, {VMX_INPUT_VTPR, 0x5F},
        {VMX_INPUT_LINK_DWORD, SETUP_REVISION}, {VMX_INPUT_IA32_VMX_PROCBASED_CTLS3, 0x1DE}, {VMX_INPUT_IA32_VMX_EXIT_CTLS2, 4},
        {VMX_INPUT_SPEC_CTRL_VALID, 3},
    };
    // clang-format on
    struct vmx_check_failure x = {0};
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
        assert_int_equal(vmx_check_input_value(&s->e, &x, wanted[i].input), wanted[i].value);
}

static void log_line(void **state)
{
    struct setup *s = *state;
    struct vmx_check_failure x;
    struct text t = {0};

    setup_long(s);
    s->f.GUEST_CR4 = 0x2000;
    setup_decode(s);
    assert_false(vmx_check_entry(&s->e, &x));
    clear(&t);
    vmx_check_describe(&s->e, &x, put, &t);
    assert_string_equal(
        t.s,
        "GUEST-CR-008 (SDM 29.3.1.1), exit 33, qualification 0: GUEST_CR4=0x2000 VM_ENTRY_CONTROLS=0x13ff; "
        "IA-32e mode guest needs guest CR4.PAE");

    setup_long(s);
    s->f.CR3_TARGET_COUNT = 5;
    setup_decode(s);
    assert_false(vmx_check_entry(&s->e, &x));
    clear(&t);
    vmx_check_describe(&s->e, &x, put, &t);
    assert_string_equal(
        t.s, "CTL-CR3T-001 (SDM 29.2.1.1), VMfailValid(7): CR3_TARGET_COUNT=0x5 IA32_VMX_MISC=0x600401e5; "
             "the CR3-target count must not exceed IA32_VMX_MISC bits 24:16");

    setup_long(s);
    s->f.VMCS_LINK_POINTER = SETUP_OTHER;
    s->phys.ram[SETUP_OTHER] = 0x77;
    setup_decode(s);
    assert_false(vmx_check_entry(&s->e, &x));
    clear(&t);
    vmx_check_describe(&s->e, &x, put, &t);
    assert_string_equal(
        t.s, "GUEST-NONREG-030 (SDM 29.3.1.5), exit 33, qualification 4: VMCS_LINK_POINTER=0x7000 "
             "LINK_DWORD=0x4d545277 IA32_VMX_BASIC=0xd810004d545231; "
             "bits 30:0 of the doubleword at the VMCS link pointer must be the VMCS revision identifier");

    struct vmx_msr_entry m = {0x802, 0, 0x1234};
    assert_false(vmx_check_msr_entry(&m, 7, NULL, NULL, &x));
    clear(&t);
    vmx_check_describe(&s->e, &x, put, &t);
    assert_string_equal(t.s,
                        "MSRLOAD-003 (SDM 29.4), exit 34, qualification 7: MSR_NUMBER=0x7 MSR_INDEX=0x802; "
                        "x2APIC MSRs (800H-8FFH) cannot be in the VM-entry MSR-load area");
    free(t.s);
}

static void everything_wrong(void **state)
{
    struct setup *s = *state;
    setup_long(s);
    memset(&s->f, 0xFF, sizeof s->f); // all of it is counted, and `max` is kept
    setup_decode(s);
    struct vmx_check_failure out[2];
    unsigned n = vmx_doctor(&s->e, out, 2);
    assert_in_range(n, 50, vmx_check_row_count);
    assert_string_equal(out[0].id, "CTL-PIN-002");
    assert_string_equal(out[1].id, "CTL-PROC1-002");
}

// No memory to look at (vmcs-lint): rows that need some do not apply.
static void without_memory(void **state)
{
    struct setup *s = *state;
    struct vmx_check_failure x;
    setup_long(s);
    s->f.VMCS_LINK_POINTER = 0x123000;
    s->f.PRIMARY_PROC_BASED_CONTROLS |= PROC_USE_TPR_SHADOW;
    s->f.TPR_THRESHOLD = 15;
    s->e.phys = NULL;
    setup_decode(s);
    assert_int_equal(vmx_doctor(&s->e, &x, 1), 0);
    setup_pae_memory(s);
    s->f.GUEST_CR3 = 0x7FFFF000;
    s->e.phys = NULL;
    setup_decode(s);
    assert_int_equal(vmx_doctor(&s->e, &x, 1), 0);
}

static void rows_are_well_formed(void **state)
{
    const char *last = "";
    for (unsigned n = 0; n < vmx_check_row_count; n++) {
        const struct vmx_check *c = &vmx_check_rows[n];
        unsigned i = 0;
        while (i < VMX_CHECK_INPUTS_MAX && c->inputs[i] != VMX_INPUT_END) {
            assert_in_range(c->inputs[i], 0, VMX_INPUT_END - 1);
            assert_non_null(vmx_check_input_name(c->inputs[i]));
            i++;
        }
        assert_true(i > 0 && c->inputs[i] == VMX_INPUT_END);
        assert_true(c->section[0] && c->words[0] && strlen(c->words) < 300);
        for (unsigned j = 0; j < n; j++) assert_string_not_equal(c->id, vmx_check_rows[j].id);
        // Sections in order: basic before controls before host before guest before the MSR area. (29.2.1.1
        // < 29.2.1.2 ... < 29.4)
        assert_true(strcmp(last, c->section) <= 0);
        last = c->section;
        bool host = !strncmp(c->id, "HOST-", 5), control = !strncmp(c->id, "CTL-", 4),
             msr = !strncmp(c->id, "MSR", 3);
        assert_string_equal(vmx_check_group(c), control                        ? "controls"
                                                : !strncmp(c->id, "BASIC-", 6) ? "basic"
                                                : host                         ? "host"
                                                : msr                          ? "msr-load"
                                                                               : "guest");
    }
}

static u64 seed;
static u64 random64(void) // xorshift64*: the same run every time
{
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1Dull;
}

static void (*const bases[])(struct setup *) = {setup_long,      setup_user, setup_ldtr,       setup_flexible,
                                                setup_protected, setup_pae,  setup_pae_memory, setup_host32,
                                                setup_real,      setup_v86};

static u64 mutate(u64 value) // what real mistakes look like: a bit, a few bits, a small number, anything
{
    switch (random64() % 6) {
    case 0: return value ^ BIT(random64() % 64);
    case 1: return value ^ BIT(random64() % 16) ^ BIT(random64() % 16);
    case 2: return value ^ BIT(random64() % 32) ^ BIT(random64() % 64);
    case 3: return random64() % 32;
    case 4: return random64() & random64();
    default: return 0x80000000u | (random64() & 0xFFF); // events
    }
}

static bool names(const struct vmx_check *c, unsigned field)
{
    bool secondary = false, function = false;
    for (const u16 *p = c->inputs; *p != VMX_INPUT_END; p++) {
        if (*p == field) return true;
        secondary |= *p == VMCS_SECONDARY_PROC_BASED_CONTROLS;
        function |= *p == VMCS_VM_FUNCTION_CONTROLS;
        // Reached through the field that points to it.
        if (*p == VMX_INPUT_VTPR && field == VMCS_VIRTUAL_APIC_ADDRESS) return true;
    }
    // A control acts only through the control that activates it.
    return (secondary && field == VMCS_PRIMARY_PROC_BASED_CONTROLS) ||
           (function &&
            (field == VMCS_SECONDARY_PROC_BASED_CONTROLS || field == VMCS_PRIMARY_PROC_BASED_CONTROLS));
}

// Change one field: whatever row changes its verdict must name the field.
static void inputs_are_complete(void **state)
{
    struct setup *s = *state;
    struct vmx_check_failure before[256], after[256];
    unsigned changes = 0;
    seed = 0x5EED0001;
    for (unsigned round = 0; round < 60000; round++) {
        if (round % 8 == 0) bases[random64() % ARRAY_LEN(bases)](s);
        setup_decode(s);
        unsigned nb = vmx_doctor(&s->e, before, 256);
        unsigned field = random64() % VMCS_FIELD_COUNT;
        vmcs_field_set(&s->f, field, mutate(vmcs_field_get(&s->f, field)));
        setup_decode(s);
        unsigned na = vmx_doctor(&s->e, after, 256);
        assert_true(na <= 256 && nb <= 256);
        for (unsigned n = 0; n < vmx_check_row_count; n++) {
            const struct vmx_check *c = &vmx_check_rows[n];
            bool was = false, is = false;
            if (!strcmp(vmx_check_group(c), "msr-load")) continue;
            for (unsigned i = 0; i < nb; i++) was |= before[i].check == c;
            for (unsigned i = 0; i < na; i++) is |= after[i].check == c;
            if (was == is) continue;
            changes++;
            if (!names(c, field))
                fail_msg("%s reads %s and does not say so", c->id, vmx_check_input_name(field));
        }
    }
    assert_true(changes > 10000);
}

static void page_is_current(void **state)
{
    char path[4096];
    struct text page = {0};
    vmx_check_document(put, &page);
    snprintf(path, sizeof path, "%.*s/../docs/entry-checks.md", (int)(strrchr(__FILE__, '/') - __FILE__),
             __FILE__);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s is missing", path);
    char *committed = calloc(1, page.used + 4096);
    size_t n = fread(committed, 1, page.used + 4095, f);
    fclose(f);
    committed[n] = 0;
    if (strcmp(committed, page.s))
        fail_msg("docs/entry-checks.md differs from the rows: build/test_vmx_doctor --page writes it anew");
    free(committed);
    free(page.s);
}

static void print(void *opaque, const char *s) { fputs(s, opaque); }

static int start(void **state)
{
    struct setup *s = calloc(1, sizeof *s);
    setup_once(s);
    *state = s;
    return 0;
}

static int stop(void **state)
{
    struct setup *s = *state;
    phys_free(&s->phys);
    free(s);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inputs_beside_the_vmcs), cmocka_unit_test(log_line),
        cmocka_unit_test(everything_wrong),       cmocka_unit_test(without_memory),
        cmocka_unit_test(rows_are_well_formed),   cmocka_unit_test(inputs_are_complete),
        cmocka_unit_test(page_is_current),
    };
    if (argc == 2 && !strcmp(argv[1], "--page")) {
        vmx_check_document(print, stdout);
        return 0;
    }
    return cmocka_run_group_tests_name("entry doctor", tests, start, stop);
}

// Why a VMX instruction was refused: each row of vmx/refusals.def is reached by an instruction that meets it,
// and says what the instruction did, which bits offend, and the values. Outcomes are of SDM 33.3 and 28.5.6.
#include "vmx_machine.h"

#include "vmx/refusals.h"

struct heard {
    struct vmx_refused last;
    u64 rip;
    unsigned n;
    bool seen[REFUSAL_COUNT];
    char text[600], outcome[40];
};

static void append(void *o, const char *s)
{
    char *text = o;
    strncat(text, s, 599 - strlen(text));
}

static void hear(void *o, const struct trace_event *e)
{
    struct heard *h = o;
    h->last = *e->refused;
    h->rip = e->rip;
    h->n++;
    h->seen[e->refused->row - vmx_refusal_rows] = true;
    h->text[0] = h->outcome[0] = 0;
    vmx_refused_describe(e->refused, append, h->text);
    vmx_refused_outcome(e->refused, append, h->outcome);
}

static struct heard heard; // of the machine at hand; `seen` adds up

static void listen(struct vmx_machine *m)
{
    trace_add(&m->trace, &(struct trace_sink){hear, &heard, 1 << TRACE_REFUSED});
    heard.n = 0;
}

// What the code came to (a vector, or as m_outcome), and that it told this row, these bits and this first
// value.
static void refused(struct vmx_machine *m, const char *code, unsigned n, int line, const char *id, int vector,
                    unsigned outcome, u64 bits, u64 value)
{
    unsigned before = heard.n;
    int got = m_run(m, code, n);
    if (got != vector) fail_msg("line %d: vector %d", line, got);
    if (vector < 0 && m_outcome(m) != outcome) fail_msg("line %d: outcome %u", line, m_outcome(m));
    if (heard.n != before + 1) fail_msg("line %d: told %u times", line, heard.n - before);
    const struct vmx_refused *r = &heard.last;
    if (strcmp(r->row->id, id)) fail_msg("line %d: %s, not %s", line, r->row->id, id);
    if (r->bits != bits || r->value[0] != value)
        fail_msg("line %d: %s: bits %#llx of %#llx", line, id, (unsigned long long)r->bits,
                 (unsigned long long)r->value[0]);
    char want[40];
    if (vector >= 0)
        snprintf(want, sizeof want, "%s", vector == VEC_UD ? "#UD" : "#GP(0)");
    else if (outcome == 'I')
        snprintf(want, sizeof want, "VMfailInvalid");
    else
        snprintf(want, sizeof want, "VMfailValid(%u)", outcome);
    if (strcmp(heard.outcome, want)) fail_msg("line %d: %s: said %s", line, id, heard.outcome);
    assert_int_equal(heard.rip, M_CODE);
}
#define REFUSED(code, id, vector, outcome, bits, value) \
    refused(m, code, sizeof(code) - 1, __LINE__, id, vector, outcome, bits, value)
#define FAULTS(code, id, vector, bits, value)   REFUSED(code, id, vector, 0, bits, value)
#define VMFAILS(code, id, outcome, bits, value) REFUSED(code, id, -1, outcome, bits, value)

static void user(struct vmx_machine *m) // at CPL 3
{
    m_root_state(m);
    m_poke64(m, M_TSS + 4, M_STACK);
    m->v->s.seg[SEG_CS] = m_seg(8 | 3, 0xA0FB);
    m->v->s.seg[SEG_SS] = m_seg(16 | 3, 0xC0F3);
    cpu_mode_changed(m->v);
}

static void vmxon(void **state)
{
    struct vmx_machine *m = m_new();
    struct vcpu_state *s = &m->v->s;
    u64 wide = 1ull << m->features.maxphyaddr;
    listen(m);
    m_operand(m, M_VMXON, 0);
    FAULTS(I_VMCLEAR, "VMX-001", VEC_UD, 0, s->cr4);
    m_root_state(m), m_operand(m, M_VMXON, 0);
    s->cr4 = CR4_PAE;
    FAULTS(I_VMXON, "VMXON-003", VEC_UD, 0x2000, 0x20);
    user(m), m_operand(m, M_VMXON, 0);
    FAULTS(I_VMXON, "VMXON-006", VEC_GP, 0, 3);
    m_root_state(m), m_operand(m, M_VMXON, 0);
    m->phys.a20_masked = true;
    FAULTS(I_VMXON, "VMXON-009", VEC_GP, 0, 1);
    m->phys.a20_masked = false;
    m_root_state(m), m_operand(m, M_VMXON, 0);
    s->cr0 &= ~(u64)CR0_NE;
    FAULTS(I_VMXON, "VMXON-010", VEC_GP, 0x20, s->cr0);
    m_root_state(m), m_operand(m, M_VMXON, 0);
    m->v->vmx->caps.cr0_fixed1 &= ~(u64)CR0_WP; // no such processor, but the row must hold
    FAULTS(I_VMXON, "VMXON-010B", VEC_GP, CR0_WP, s->cr0);
    m->v->vmx->caps.cr0_fixed1 |= CR0_WP;
    m_root_state(m), m_operand(m, M_VMXON, 0);
    m->v->vmx->caps.cr4_fixed0 |= CR4_PGE;
    FAULTS(I_VMXON, "VMXON-011", VEC_GP, CR4_PGE, s->cr4);
    m->v->vmx->caps.cr4_fixed0 &= ~(u64)CR4_PGE;
    m_root_state(m), m_operand(m, M_VMXON, 0);
    m->v->vmx->caps.cr4_fixed1 &= ~(u64)CR4_PAE;
    FAULTS(I_VMXON, "VMXON-011B", VEC_GP, CR4_PAE, s->cr4);
    m->v->vmx->caps.cr4_fixed1 |= CR4_PAE;
    m_root_state(m), m_operand(m, M_VMXON, 0);
    s->msr.feature_control = 4;
    FAULTS(I_VMXON, "VMXON-012", VEC_GP, 1, 4);
    m_root_state(m), m_operand(m, M_VMXON, 0);
    s->msr.feature_control = 3;
    FAULTS(I_VMXON, "VMXON-014", VEC_GP, 4, 3);
    s->msr.feature_control = 5;
    m_root_state(m), m_operand(m, M_VMXON + 8 + wide, 0);
    VMFAILS(I_VMXON, "VMXON-019", 'I', wide | 8, M_VMXON + 8 + wide);
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION ^ 6);
    m_operand(m, M_VMXON, 0);
    VMFAILS(I_VMXON, "VMXON-021", 'I', 6, VMCS_REVISION ^ 6);
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION | VMCS_SHADOW);
    m_operand(m, M_VMXON, 0);
    VMFAILS(I_VMXON, "VMXON-021", 'I', 0x80000000, VMCS_REVISION | VMCS_SHADOW);
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION);
    m_operand(m, M_VMXON, 0);
    assert_int_equal(M_RUN(m, I_VMXON), -1);
    m_operand(m, M_VMXON, 0);
    VMFAILS(I_VMXON, "VMXON-007", 'I', 0, M_VMXON);
    m_operand(m, M_VMCS, 0);
    assert_int_equal(M_RUN(m, I_VMPTRLD), -1);
    VMFAILS(I_VMXON, "VMXON-007", 15, 0, M_VMXON);
    user(m), m_operand(m, M_VMCS, 0);
    FAULTS(I_VMCLEAR, "VMX-003", VEC_GP, 0, 3);
    m_free(m);
}

static void pointers(void **state)
{
    struct vmx_machine *m = m_new();
    u64 wide = 1ull << m->features.maxphyaddr;
    listen(m);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 0);
    m_operand(m, 8, 0);
    VMFAILS(I_VMCLEAR, "VMCLEAR-010", 'I', 8, 8);
    VMFAILS(I_VMLAUNCH, "BASIC-006", 'I', 0, UINT64_MAX);
    VMFAILS(I_VMRESUME, "BASIC-006", 'I', 0, UINT64_MAX);
    VMFAILS(I_VMREAD, "VMCS-001", 'I', 0, UINT64_MAX);
    VMFAILS(I_VMWRITE, "VMCS-001", 'I', 0, UINT64_MAX);
    VMFAILS(I_VMCALL, "VMCALL-006", 'I', 0, 0);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
    m_operand(m, wide, 0);
    VMFAILS(I_VMCLEAR, "VMCLEAR-010", 2, wide, wide);
    VMFAILS(I_VMPTRLD, "VMPTRLD-010", 9, wide, wide);
    m_operand(m, M_VMXON, 0);
    VMFAILS(I_VMCLEAR, "VMCLEAR-011", 3, 0, M_VMXON);
    VMFAILS(I_VMPTRLD, "VMPTRLD-011", 10, 0, M_VMXON);
    phys_write32(&m->phys, 0, M_VMCS2, VMCS_REVISION ^ 0x110);
    m_operand(m, M_VMCS2, 0);
    VMFAILS(I_VMPTRLD, "VMPTRLD-012", 11, 0x110, VMCS_REVISION ^ 0x110);
    assert_int_equal(heard.last.value[2], M_VMCS2);
    assert_string_equal(heard.last.instruction, "vmptrld");
    m_operand(m, 0xFED00000, 0); // no RAM: what an open bus reads
    VMFAILS(I_VMPTRLD, "VMPTRLD-012", 11, (UINT32_MAX ^ VMCS_REVISION) & 0x7FFFFFFF, UINT32_MAX);
    m->v->vmx->caps.allowed1[GROUP_PROC2] &= ~BIT(14); // VMCS shadowing
    phys_write32(&m->phys, 0, M_VMCS2, VMCS_REVISION | VMCS_SHADOW);
    m_operand(m, M_VMCS2, 0);
    VMFAILS(I_VMPTRLD, "VMPTRLD-013", 11, 0x80000000, VMCS_REVISION | VMCS_SHADOW);
    VMFAILS(I_VMCALL, "VMCALL-006", 1, 0, 0);
    m_free(m);
}

static void fields(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *rcx = &m->v->s.gpr[RCX];
    listen(m);
    for (unsigned i = 0; i < 2; i++) {
#define NAMES(encoding, id, bits) \
    do { \
        *rcx = (encoding); \
        if (i) \
            VMFAILS(I_VMREAD, id, 12, bits, encoding); \
        else \
            VMFAILS(I_VMWRITE, id, 12, bits, encoding); \
        assert_string_equal(heard.last.instruction, i ? "vmread" : "vmwrite"); \
    } while (0)
        NAMES(0x100006800, "FIELD-001", 0x100000000);
        assert_null(vmx_refused_field(&heard.last));
        NAMES(0x482C, "FIELD-002", 0);
        assert_null(vmx_refused_field(&heard.last));
        NAMES(0x6801, "FIELD-003", 1);
        assert_string_equal(vmx_refused_field(&heard.last)->name, "GUEST_CR0");
        m->v->vmx->caps.exists[VMCS_EPTP] = false;
        NAMES(0x201A, "FIELD-004", 0);
        m->v->vmx->caps.exists[VMCS_EPTP] = true;
        assert_string_equal(heard.text,
                            "FIELD-004 (SDM 33.3), VMfailValid(12): ENCODING=0x201a(EPTP); the field exists "
                            "only on a processor that offers the control that gives it meaning");
    }
    m->v->vmx->caps.misc &= ~BIT(29);
    *rcx = 0x4402;
    VMFAILS(I_VMWRITE, "FIELD-005", 13, 0, 0x4402);
    assert_int_equal(heard.last.value[1], m->v->vmx->caps.misc);
    m_free(m);
}

// VMREAD and VMWRITE of a guest under VMCS shadowing, without a link pointer.
static void shadowing(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    listen(m);
    m_vmcs_64(m);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_VMCS_SHADOWING);
    m_write(m, VMCS_VMREAD_BITMAP_ADDRESS, M_BITMAP);
    m_write(m, VMCS_VMWRITE_BITMAP_ADDRESS, M_BITMAP);
    for (unsigned i = 0; i < 2; i++) {
        m_root_state(m);
        m->v->s.gpr[RCX] = 0x681E;
        assert_int_equal(i ? M_ENTER(m, I_VMWRITE) : M_ENTER(m, I_VMREAD), EXIT_REASON_HLT);
        assert_int_equal(heard.n, i + 1);
        assert_string_equal(heard.last.row->id, "VMCS-002");
        assert_string_equal(heard.outcome, "VMfailInvalid");
        assert_true(heard.last.value[0] == UINT64_MAX);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
    }
    m_free(m);
}

static void invalidations(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *rcx = &m->v->s.gpr[RCX], *cap = &m->v->vmx->caps.ept_vpid, all = *cap;
    u64 eptp = M_EPT | 6 | 3 << 3, wide = 1ull << m->features.maxphyaddr;
    listen(m);
    *rcx = 3, m_operand(m, eptp, 0);
    VMFAILS(I_INVEPT, "INVEPT-008", 28, 0, 3);
    *rcx = 1, m_operand(m, eptp | 1, 0); // type 7
    VMFAILS(I_INVEPT, "INVEPT-013", 28, 7, eptp | 1);
    *rcx = 1, m_operand(m, (eptp & ~0x38ull) | 0x900 | wide, 0); // walk length 1
    VMFAILS(I_INVEPT, "INVEPT-013", 28, 0x38 | 0x900 | wide, (eptp & ~0x38ull) | 0x900 | wide);
    *rcx = 4, m_operand(m, 1, 0);
    VMFAILS(I_INVVPID, "INVVPID-008", 28, 0, 4);
    *rcx = 1, m_operand(m, 0x30001, 0);
    VMFAILS(I_INVVPID, "INVVPID-012", 28, 0x30000, 0x30001);
    *rcx = 3, m_operand(m, 0, 0);
    VMFAILS(I_INVVPID, "INVVPID-013", 28, 0, 0);
    *rcx = 0, m_operand(m, 1, 1ull << 60);
    VMFAILS(I_INVVPID, "INVVPID-014", 28, 0, 1ull << 60);
    *cap = all & ~BIT(EPT_CAP_INVEPT), m_operand(m, eptp, 0);
    FAULTS(I_INVEPT, "INVEPT-004", VEC_UD, BIT(20), *cap);
    *cap = all & ~BIT(EPT_CAP_INVVPID);
    m_root_state(m), m_operand(m, 1, 0);
    FAULTS(I_INVVPID, "INVVPID-004", VEC_UD, BIT(32), *cap);
    *cap = all;
    m_root_state(m);
    FAULTS(I_VMFUNC, "VMFUNC-002", VEC_UD, 0, m->v->s.cr4);
    m_free(m);
}

static void vm_functions(void **state)
{
    enum { LIST = M_BITMAP };
    struct vmx_machine *m = m_vmx_new();
    u64 eptp = M_EPT | 6 | 3 << 3;
    listen(m);
    m_vmcs_64(m);
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_poke64(m, M_EPT + 0x1000, 0xB7);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_EPTP, eptp);
    m_write(m, VMCS_EPTP_LIST_ADDRESS, LIST);
    m_poke64(m, LIST, eptp);
    m_poke64(m, LIST + 8, eptp | 0x100);
    m_poke64(m, LIST + 16, (eptp & ~0x38ull) | 0x20);
    // clang-format off
    const struct { u64 secondary, functions; u32 eax, ecx; s64 reason; const char *id; u64 bits, value; const char *said; } runs[] = {
        {PROC2_ENABLE_EPT, 0, 0, 0, EXIT_REASON_HLT, "VMFUNC-003", PROC2_ENABLE_VM_FUNCTIONS, PROC2_ENABLE_EPT, "#UD"},
        {PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS, VMFUNC_EPTP_SWITCHING, 64, 0, EXIT_REASON_HLT, "VMFUNC-004", 0, 64, "#UD"},
        {PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS, 0, 0, 0, EXIT_REASON_VMFUNC, "VMFUNC-005", 1, 0, "exit 59"},
        {PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS, VMFUNC_EPTP_SWITCHING, 5, 0, EXIT_REASON_VMFUNC, "VMFUNC-005", 32, 1, "exit 59"},
        {PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS, VMFUNC_EPTP_SWITCHING, 0, 512, EXIT_REASON_VMFUNC, "VMFUNC-006", 0, 512, "exit 59"},
        {PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS, VMFUNC_EPTP_SWITCHING, 0, 1, EXIT_REASON_VMFUNC, "VMFUNC-008", 0x100, eptp | 0x100, "exit 59"},
        {PROC2_ENABLE_EPT | PROC2_ENABLE_VM_FUNCTIONS, VMFUNC_EPTP_SWITCHING, 0, 2, EXIT_REASON_VMFUNC, "VMFUNC-008B", 0x38, (eptp & ~0x38ull) | 0x20, "exit 59"},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(runs); i++) {
        u64 *cap = &m->v->vmx->caps.ept_vpid, all = *cap;
        if (i == 6) *cap |= BIT(EPT_CAP_WALK_5); // so that the length is one that an entry takes
        m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, runs[i].secondary);
        m_write(m, VMCS_VM_FUNCTION_CONTROLS, runs[i].functions);
        m_write(m, VMCS_GUEST_RIP, M_GUEST), m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
        m_root_state(m);
        m->v->s.gpr[RAX] = runs[i].eax, m->v->s.gpr[RCX] = runs[i].ecx;
        unsigned before = heard.n;
        assert_int_equal(M_ENTER(m, I_VMFUNC), runs[i].reason);
        assert_int_equal(heard.n, before + 1);
        assert_string_equal(heard.last.row->id, runs[i].id);
        assert_string_equal(heard.outcome, runs[i].said);
        assert_true(heard.last.bits == runs[i].bits && heard.last.value[0] == runs[i].value);
        assert_int_equal(heard.rip, M_GUEST);
        *cap = all;
    }
    m_free(m);
}

// Nobody listens: the same outcomes, and nothing is told.
static void untold(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m->v->trace = NULL;
    unsigned before = heard.n;
    m->v->s.gpr[RCX] = 0x482C;
    assert_int_equal(M_VMX(m, I_VMREAD, 0), 12);
    assert_int_equal(heard.n, before);
    m_free(m);
}

static void every_row(void **state)
{
    for (unsigned i = 0; i < REFUSAL_COUNT; i++) {
        const struct vmx_refusal *r = &vmx_refusal_rows[i];
        if (!heard.seen[i]) fail_msg("%s has no test", r->id);
        assert_true(r->words[0] && r->section[0] && r->value[0]);
        for (unsigned j = 0; j < i; j++) assert_string_not_equal(r->id, vmx_refusal_rows[j].id);
        for (unsigned j = 0; j < vmx_check_row_count; j++)
            assert_string_not_equal(r->id, vmx_check_rows[j].id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vmxon),         cmocka_unit_test(pointers),     cmocka_unit_test(fields),
        cmocka_unit_test(invalidations), cmocka_unit_test(vm_functions), cmocka_unit_test(untold),
        cmocka_unit_test(shadowing),     cmocka_unit_test(every_row),
    };
    return cmocka_run_group_tests_name("refusals of VMX instructions", tests, NULL, NULL);
}

// The world switches: what VM entry loads, what VM exit saves and loads, MSR areas, failed entries, aborts.
#include "vmx_machine.h"

static void poison(struct vmx_machine *m)
{
    for (int i = 0; i < VMCS_FIELD_COUNT; i++)
        if (vmcs_field_rows[i].area == AREA_GUEST) m_write(m, (enum vmcs_field)i, 0x5A5A5A5A5A5A5A5Aull);
}

static void poison_on_entry(void *o, const struct trace_event *e)
{
    if (e->kind == TRACE_ENTRY) poison(o);
}

// clang-format off
static const struct { enum vmcs_field field; u64 value; } guest_values[] = {
    {VMCS_GUEST_CR0, 0x80010033}, {VMCS_GUEST_CR4, CR4_PAE | CR4_VMXE | CR4_PGE}, {VMCS_GUEST_DR7, 0x700},
    {VMCS_GUEST_RSP, 0x8888}, {VMCS_GUEST_RFLAGS, 0x40AD7}, {VMCS_GUEST_IA32_SYSENTER_CS, 0x12345678},
    {VMCS_GUEST_IA32_SYSENTER_ESP, 0xFFFF800012345678}, {VMCS_GUEST_IA32_SYSENTER_EIP, 0x7FFF12345678},
    {VMCS_GUEST_IA32_PAT, 0x0105040600070106}, {VMCS_GUEST_IA32_EFER, 0xD01}, {VMCS_GUEST_IA32_DEBUGCTL, 1},
    {VMCS_GUEST_GDTR_BASE, 0xFFFF800000001000}, {VMCS_GUEST_GDTR_LIMIT, 0x123}, {VMCS_GUEST_IDTR_BASE, M_IDT},
    {VMCS_GUEST_IDTR_LIMIT, 0xFFE},
    {VMCS_GUEST_ES_SELECTOR, 0x1B}, {VMCS_GUEST_ES_BASE, 0x1000}, {VMCS_GUEST_ES_LIMIT, 0x12FFF}, {VMCS_GUEST_ES_ACCESS_RIGHTS, 0x40F3},
    {VMCS_GUEST_CS_SELECTOR, 0x28}, {VMCS_GUEST_CS_LIMIT, 0xFFFFFFFF}, {VMCS_GUEST_CS_ACCESS_RIGHTS, 0xB09B},
    {VMCS_GUEST_SS_SELECTOR, 0x30}, {VMCS_GUEST_SS_LIMIT, 0x7FFF}, {VMCS_GUEST_SS_ACCESS_RIGHTS, 0x4093},
    {VMCS_GUEST_DS_SELECTOR, 0x3B}, {VMCS_GUEST_DS_BASE, 0x2000}, {VMCS_GUEST_DS_LIMIT, 0x45FFF}, {VMCS_GUEST_DS_ACCESS_RIGHTS, 0xC0F7},
    {VMCS_GUEST_FS_SELECTOR, 0x43}, {VMCS_GUEST_FS_BASE, 0xFFFF812345678000}, {VMCS_GUEST_FS_LIMIT, 0x46FFF}, {VMCS_GUEST_FS_ACCESS_RIGHTS, 0x40F3},
    {VMCS_GUEST_GS_SELECTOR, 0x4B}, {VMCS_GUEST_GS_BASE, 0x7FFF87654000}, {VMCS_GUEST_GS_LIMIT, 0xFFFFFFFF}, {VMCS_GUEST_GS_ACCESS_RIGHTS, 0x80F1},
    {VMCS_GUEST_LDTR_SELECTOR, 0x50}, {VMCS_GUEST_LDTR_BASE, 0xFFFF800000056000}, {VMCS_GUEST_LDTR_LIMIT, 0x77}, {VMCS_GUEST_LDTR_ACCESS_RIGHTS, 0x82},
    {VMCS_GUEST_TR_SELECTOR, 0x58}, {VMCS_GUEST_TR_BASE, 0xFFFF800000078000}, {VMCS_GUEST_TR_LIMIT, 0x99}, {VMCS_GUEST_TR_ACCESS_RIGHTS, 0x8B},
};
// clang-format on

static void check_segment(const struct segment *s, const u64 *value) // selector, base, limit, rights
{
    assert_int_equal(s->sel, value[0]);
    assert_true(s->base == value[1]);
    assert_int_equal(s->limit, value[2]);
    assert_int_equal(s->ar, value[3]);
}

static void entry_loads_exit_saves(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    for (unsigned i = 0; i < ARRAY_LEN(guest_values); i++)
        m_write(m, guest_values[i].field, guest_values[i].value);
    u64 before[VMCS_FIELD_COUNT];
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) before[i] = m_read(m, (enum vmcs_field)i);
    trace_add(&m->trace, &(struct trace_sink){poison_on_entry, m, 1 << TRACE_ENTRY});
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);

    const struct vcpu_state *s = &m->entered;
    assert_true(s->vmx.guest);
    assert_int_equal(s->cr0, 0x80010033);
    assert_int_equal(s->cr3, M_PML4);
    assert_int_equal(s->cr4, CR4_PAE | CR4_VMXE | CR4_PGE);
    assert_int_equal(s->dr[7], 0x700);
    assert_int_equal(s->gpr[RSP], 0x8888);
    assert_int_equal(s->rflags | fl_unpack(s->fl), 0x40AD7);
    assert_int_equal(s->msr.sysenter_cs, 0x12345678);
    assert_true(s->msr.sysenter_esp == 0xFFFF800012345678 && s->msr.sysenter_eip == 0x7FFF12345678);
    assert_true(s->msr.pat == 0x0105040600070106 && s->msr.efer == 0xD01 && s->msr.debugctl == 1);
    assert_true(s->gdtr.base == 0xFFFF800000001000 && s->gdtr.limit == 0x123 && s->idtr.limit == 0xFFE);
    check_segment(&s->seg[SEG_ES], (u64[]){0x1B, 0x1000, 0x12FFF, 0x40F3});
    check_segment(&s->seg[SEG_CS], (u64[]){0x28, 0, 0xFFFFFFFF, 0xB09B});
    check_segment(&s->seg[SEG_SS], (u64[]){0x30, 0, 0x7FFF, 0x4093});
    check_segment(&s->seg[SEG_DS], (u64[]){0x3B, 0x2000, 0x45FFF, 0xC0F7});
    check_segment(&s->seg[SEG_FS], (u64[]){0x43, 0xFFFF812345678000, 0x46FFF, 0x40F3});
    check_segment(&s->seg[SEG_GS], (u64[]){0x4B, 0x7FFF87654000, 0xFFFFFFFF, 0x80F1});
    check_segment(&s->seg[SEG_LDTR], (u64[]){0x50, 0xFFFF800000056000, 0x77, 0x82});
    check_segment(&s->seg[SEG_TR], (u64[]){0x58, 0xFFFF800000078000, 0x99, 0x8B});

    // The guest did nothing but HLT: what is saved is what was loaded.
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        enum vmcs_field f = (enum vmcs_field)i;
        if (vmcs_field_rows[i].area != AREA_GUEST || !m->v->vmx->caps.exists[i]) continue;
        bool untouched = f == VMCS_VMCS_LINK_POINTER || f == VMCS_GUEST_SMBASE || f == VMCS_PML_INDEX ||
                         f == VMCS_VMX_PREEMPTION_TIMER_VALUE || f == VMCS_GUEST_INTERRUPT_STATUS ||
                         (f >= VMCS_GUEST_PDPTE0 && f <= VMCS_GUEST_PDPTE3);
        u64 x = m_read(m, f), want = untouched ? 0x5A5A5A5A5A5A5A5A : before[i];
        if (untouched && vmcs_field_rows[i].size == 4) want = (u32)want;
        if (untouched && vmcs_field_rows[i].size == 2) want = (u16)want;
        if (x != want)
            fail_msg("%s: %llx, not %llx", vmcs_field_rows[i].name, (unsigned long long)x,
                     (unsigned long long)want);
    }
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 1);

    // And the host's state is back.
    s = &m->v->s;
    assert_false(s->vmx.guest);
    assert_int_equal(s->cr0, 0x80010031);
    assert_int_equal(s->cr4, CR4_PAE | CR4_VMXE);
    assert_int_equal(s->dr[7], 0x400);
    assert_true(s->msr.debugctl == 0 && s->msr.efer == (EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE));
    assert_true(s->gpr[RSP] == M_STACK - 0x100);
    assert_int_equal(cpu_rflags(m->v), 2);
    check_segment(&s->seg[SEG_CS], (u64[]){8, 0, 0xFFFFFFFF, 0xA09B});
    check_segment(&s->seg[SEG_SS], (u64[]){16, 0, 0xFFFFFFFF, 0xC093});
    check_segment(&s->seg[SEG_DS], (u64[]){16, 0, 0xFFFFFFFF, 0xC093});
    check_segment(&s->seg[SEG_TR], (u64[]){24, M_TSS, 0x67, 0x8B});
    assert_true(s->seg[SEG_LDTR].ar & AR_UNUSABLE);
    assert_true(s->gdtr.base == M_GDT && s->gdtr.limit == 0xFFFF && s->idtr.base == M_IDT &&
                s->idtr.limit == 0xFFFF);
    m_free(m);
}

// DR7 as VM entry loads it: bits 12, 14 and 15 become 0 and bit 10 becomes 1, whatever the field says
// (SDM 29.3.2.1); the exit saves what was loaded.
static void entry_forces_bits_of_dr7(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_DEBUG_CONTROLS);
    for (unsigned bit = 0; bit < 32; bit++)
        for (unsigned others = 0; others < 2; others++) {
            if (others && bit == 13) continue; // without GD
            u64 dr7 = others ? 0xFFFFDFFF & ~BIT(bit) : BIT(bit), want = (dr7 & ~0xD000ull) | 0x400;
            m_write(m, VMCS_GUEST_DR7, dr7);
            m_write(m, VMCS_GUEST_RIP, M_GUEST);
            assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
            assert_int_equal(m->entered.dr[7], want);
            assert_int_equal(m_read(m, VMCS_GUEST_DR7), want);
        }
    m_free(m);
}

static void host_null_selectors_and_bases(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_HOST_SS_SELECTOR, 0), m_write(m, VMCS_HOST_DS_SELECTOR, 0),
        m_write(m, VMCS_HOST_FS_SELECTOR, 0);
    m_write(m, VMCS_HOST_FS_BASE, 0xFFFF800000123000), m_write(m, VMCS_HOST_GS_BASE, 0x7FFF00000000);
    m_write(m, VMCS_HOST_IA32_SYSENTER_CS, 0x33), m_write(m, VMCS_HOST_IA32_SYSENTER_ESP, 0xFFFF800000000010);
    m_write(m, VMCS_HOST_IA32_PAT, 0x0606060606060606);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
    const struct vcpu_state *s = &m->v->s;
    assert_true(s->seg[SEG_SS].ar & AR_UNUSABLE && s->seg[SEG_DS].ar & AR_UNUSABLE &&
                s->seg[SEG_FS].ar & AR_UNUSABLE);
    assert_true(s->seg[SEG_SS].ar & AR_DB);
    assert_true(s->seg[SEG_FS].base == 0xFFFF800000123000 && s->seg[SEG_GS].base == 0x7FFF00000000);
    assert_true(s->msr.sysenter_cs == 0x33 && s->msr.sysenter_esp == 0xFFFF800000000010);
    assert_true(s->msr.pat == 0x0606060606060606);
    m_free(m);
}

// IA32_PAT and IA32_EFER are saved with their controls alone (SDM 30.3.1): else the field keeps what was in
// it.
static void saved_by_control(void **state)
{
    static const struct {
        u32 save, load_entry;
        enum vmcs_field field;
        u64 other;
    } cases[] = {{EXIT_SAVE_IA32_PAT, ENTRY_LOAD_IA32_PAT, VMCS_GUEST_IA32_PAT, 0x0101010101010101},
                 {EXIT_SAVE_IA32_EFER, ENTRY_LOAD_IA32_EFER, VMCS_GUEST_IA32_EFER, 0x123}};
    for (unsigned i = 0; i < 2 * ARRAY_LEN(cases); i++) {
        bool on = i % 2;
        u32 save = cases[i / 2].save;
        struct vmx_machine *m = m_vmx_new();
        m_vmcs_64(m);
        u64 exits = m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS);
        m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) & ~(u64)cases[i / 2].load_entry);
        m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS, on ? exits | save : exits & ~(u64)save);
        m_write(m, cases[i / 2].field, cases[i / 2].other);
        u64 now = i / 2 ? m->v->s.msr.efer : m->v->s.msr.pat;
        assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
        assert_true(m_read(m, cases[i / 2].field) == (on ? now : cases[i / 2].other));
        m_free(m);
    }
}

// IA32_PKRS (SDM 29.3.2.1, 30.3.1, 30.5.1): loaded only with the controls, saved always.
static void protection_keys_of_supervisors(void **state)
{
    for (unsigned load = 0; load < 4; load++) {
        struct vmx_machine *m = m_vmx_new();
        m_vmcs_64(m);
        m->v->s.msr.pkrs = 0x11;
        m_write(m, VMCS_GUEST_IA32_PKRS, 0x22222222);
        m_write(m, VMCS_HOST_IA32_PKRS, 0xF0000003);
        if (load & 1) m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) | ENTRY_LOAD_PKRS);
        if (load & 2)
            m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
                    m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_LOAD_PKRS);
        assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
        u64 in_guest = load & 1 ? 0x22222222 : 0x11;
        assert_int_equal(m->entered.msr.pkrs, in_guest);
        assert_int_equal(m_read(m, VMCS_GUEST_IA32_PKRS), in_guest);
        assert_int_equal(m->v->s.msr.pkrs, load & 2 ? 0xF0000003 : in_guest);
        assert_int_equal(m->v->d.mmu.pkrs, m->v->s.msr.pkrs);
        m_free(m);
    }
}

// IA32_SPEC_CTRL likewise (SDM 29.3.2.1, 30.3.1, 30.5.1).
static void speculation_control(void **state)
{
    for (unsigned load = 0; load < 4; load++) {
        struct vmx_machine *m = m_vmx_new();
        m_vmcs_64(m);
        m->v->s.msr.spec_ctrl = 1;
        m_write(m, VMCS_GUEST_IA32_SPEC_CTRL, 2);
        m_write(m, VMCS_HOST_IA32_SPEC_CTRL, 4);
        m_write(m, VMCS_SECONDARY_VM_EXIT_CONTROLS, 4);
        if (load & 1) m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) | 1 << 24);
        if (load & 2)
            m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS, m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | 1u << 31);
        assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
        u64 in_guest = load & 1 ? 2 : 1;
        assert_int_equal(m->entered.msr.spec_ctrl, in_guest);
        assert_int_equal(m_read(m, VMCS_GUEST_IA32_SPEC_CTRL), in_guest);
        assert_int_equal(m->v->s.msr.spec_ctrl, load & 2 ? 4 : in_guest);
        m_free(m);
    }
}

static void launch_state(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_poke(m, M_GUEST, "\xF4", 1);
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 5);
    assert_int_equal(m->entries, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT); // VMLAUNCH
    m_root_state(m);
    assert_int_equal(M_VMX(m, I_VMLAUNCH, 0), 4);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT); // VMRESUME, from where it was
    assert_int_equal(m->entries, 2);
    m_free(m);
}

static void failed_checks(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_HOST_CR4, 0);
    assert_int_equal(M_VMX(m, I_VMLAUNCH, 0), 8);
    assert_string_equal(m->failed_id, "HOST-CR-003");
    m_write(m, VMCS_HOST_CR4, CR4_PAE | CR4_VMXE);
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0);
    assert_int_equal(M_VMX(m, I_VMLAUNCH, 0), 7);
    assert_string_equal(m->failed_id, "CTL-PIN-001");
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16);
    // Guest state: exit 33. Only reason and qualification are written, and the host's state is loaded.
    m_write(m, VMCS_GUEST_RFLAGS, 0);
    m_write(m, VMCS_EXITING_EVENT_IDENTIFICATION, 0x12345678);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0x80000300);
    m_write(m, VMCS_EXIT_QUALIFICATION, 77);
    assert_int_equal(M_ENTER(m, ""), 0x80000021);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x12345678);
    assert_int_equal(m_read(m, VMCS_INJECTED_EVENT_IDENTIFICATION), 0x80000300);
    assert_int_equal(phys_read32(&m->phys, 0, M_VMCS + 8), VMCS_LAUNCH_CLEAR);
    assert_int_equal(m->v->s.gpr[RSP], M_STACK - 0x100);
    assert_int_equal(m->entries, 0);
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0);
    m_write(m, VMCS_VMCS_LINK_POINTER, 8);
    assert_int_equal(M_ENTER(m, ""), 0x80000021);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 4);
    m_free(m);
}

static void msr_entry(struct vmx_machine *m, unsigned n, u32 msr, u64 data)
{
    m_poke64(m, M_MSR_AREA + 16 * n, msr);
    m_poke64(m, M_MSR_AREA + 16 * n + 8, data);
}

static bool any_msr_read(void *o, unsigned cpu, u32 msr, u64 *value)
{
    *value = 0x5555;
    return true;
}

static void msr_areas(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_VM_ENTRY_MSR_LOAD_ADDRESS, M_MSR_AREA), m_write(m, VMCS_VM_ENTRY_MSR_LOAD_COUNT, 2);
    m_write(m, VMCS_VM_EXIT_MSR_STORE_ADDRESS, M_MSR_AREA + 0x100),
        m_write(m, VMCS_VM_EXIT_MSR_STORE_COUNT, 2);
    m_write(m, VMCS_VM_EXIT_MSR_LOAD_ADDRESS, M_MSR_AREA + 0x200), m_write(m, VMCS_VM_EXIT_MSR_LOAD_COUNT, 1);
    msr_entry(m, 0, 0xC0000102, 0xFFFF800000111000); // KERNEL_GS_BASE
    msr_entry(m, 1, 0xC0000082, 0xFFFF800000222000); // LSTAR
    msr_entry(m, 16, 0xC0000102, 0);
    msr_entry(m, 17, 0xC0000082, 0);
    msr_entry(m, 32, 0xC0000102, 0x7F0000);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
    assert_true(m->entered.msr.kernel_gs_base == 0xFFFF800000111000 &&
                m->entered.msr.lstar == 0xFFFF800000222000);
    assert_true(phys_read64(&m->phys, 0, M_MSR_AREA + 0x108) == 0xFFFF800000111000);
    assert_true(phys_read64(&m->phys, 0, M_MSR_AREA + 0x118) == 0xFFFF800000222000);
    assert_true(m->v->s.msr.kernel_gs_base == 0x7F0000 && m->v->s.msr.lstar == 0xFFFF800000222000);

    // Failures: exit 34 with the number of the entry; the exit's load area is processed, its store area is
    // not.
    // clang-format off
    static const struct { u32 index, reserved; u64 data; } bad[] = {
        {0xC0000100, 0, 0}, {0xC0000101, 0, 0}, {0x808, 0, 0}, {0xC0000082, 1, 0}, {0xC0000082, 0, 0x100000000000000},
        {0x480, 0, 0}, {0x12345, 0, 0}, {0x9E, 0, 0},
    };
    // clang-format on
    m_poke64(m, M_MSR_AREA + 0x108, 0);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        m_root_state(m);
        m->v->s.msr.kernel_gs_base = 0;
        msr_entry(m, 1, bad[i].index, bad[i].data);
        phys_write32(&m->phys, 0, M_MSR_AREA + 20, bad[i].reserved);
        assert_int_equal(M_ENTER(m, ""), 0x80000022);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2);
        assert_true(m->v->s.msr.kernel_gs_base == 0x7F0000);
        assert_int_equal(phys_read64(&m->phys, 0, M_MSR_AREA + 0x108), 0);
    }
    // An entry of the store area that cannot be: VMX abort 1, what comes before it is stored (SDM 30.4).
    static const struct {
        u32 index, reserved;
    } unstorable[] = {
        {0xC0000082, 1}, {0xC0000082, 1u << 31}, {0x808, 0}, {0x9E, 0}, {0x9B, 0}, {0x12345, 0},
    };
    struct cpu_board_ops with_x2apic = m_board; // whose MSRs RDMSR can read, and a store area cannot
    with_x2apic.msr_read = any_msr_read;
    for (unsigned i = 0; i < ARRAY_LEN(unstorable); i++) {
        struct vmx_machine *n = m_vmx_new();
        m_vmcs_64(n);
        n->v->board = &with_x2apic;
        m_write(n, VMCS_VM_EXIT_MSR_STORE_ADDRESS, M_MSR_AREA), m_write(n, VMCS_VM_EXIT_MSR_STORE_COUNT, 3);
        n->v->s.msr.lstar = 0x222000;
        msr_entry(n, 0, 0xC0000082, 0), msr_entry(n, 1, unstorable[i].index, 0),
            msr_entry(n, 2, 0xC0000082, 0);
        phys_write32(&n->phys, 0, M_MSR_AREA + 20, unstorable[i].reserved);
        m_poke(n, M_GUEST, "\xF4", 1);
        m_poke(n, M_CODE, I_VMLAUNCH, 3);
        assert_int_equal(m_go(n, M_CODE), -2);
        assert_int_equal(n->shutdowns, 1);
        assert_int_equal(phys_read32(&n->phys, 0, M_VMCS + 4), VMX_ABORT_SAVE_MSR);
        assert_int_equal(phys_read64(&n->phys, 0, M_MSR_AREA + 8), 0x222000);
        assert_int_equal(phys_read64(&n->phys, 0, M_MSR_AREA + 24), 0);
        assert_int_equal(phys_read64(&n->phys, 0, M_MSR_AREA + 40), 0);
        m_free(n);
    }
    // IA32_VMX_MISC allows 512 entries.
    for (unsigned n = 0; n < 520; n++) msr_entry(m, n, 0xC0000082, 0x1000 + n);
    m_root_state(m);
    m_write(m, VMCS_VM_ENTRY_MSR_LOAD_COUNT, 513), m_write(m, VMCS_VM_EXIT_MSR_STORE_COUNT, 0);
    m_write(m, VMCS_VM_EXIT_MSR_LOAD_COUNT, 0);
    assert_int_equal(M_ENTER(m, ""), 0x80000022);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 513);
    m_root_state(m);
    m_write(m, VMCS_VM_ENTRY_MSR_LOAD_COUNT, 512);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
    assert_int_equal(m->v->s.msr.lstar, 0x1000 + 511);
    assert_int_equal(m->shutdowns, 0);
    m_write(m, VMCS_VM_EXIT_MSR_STORE_COUNT, 2);
    // A failure on the way out is a VMX abort.
    m_write(m, VMCS_VM_ENTRY_MSR_LOAD_COUNT, 0);
    m_write(m, VMCS_VM_EXIT_MSR_LOAD_COUNT, 0);
    msr_entry(m, 17, 0x12345, 0);
    m_root_state(m);
    m_poke(m, M_CODE, I_VMRESUME "\xF4", 4);
    assert_int_equal(m_go(m, M_CODE), -2);
    assert_int_equal(m->shutdowns, 1);
    assert_int_equal(phys_read32(&m->phys, 0, M_VMCS + 4), VMX_ABORT_SAVE_MSR);
    m_free(m);
}

static void nonregister_state(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
    assert_true(m->entered.virtual_nmi_blocked && m->entered.blocking == BLOCKING_BY_MOV_SS);
    // HLT itself exits
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS);
    assert_int_equal(m->v->s.blocking, 0);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI | BLOCKING_BY_MOV_SS);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    assert_true(!m->entered.virtual_nmi_blocked && m->entered.blocking == BLOCKING_BY_NMI);
    assert_int_equal(m->v->s.blocking, BLOCKING_BY_NMI); // unchanged by the exit
    // A guest in HLT, woken by the preemption timer.
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_PREEMPTION_TIMER);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    m_free(m);
}

// Without "load IA32_EFER" an exit changes LMA and LME only; with it the host's field counts (SDM 30.5.1).
static void exit_and_efer(void **state)
{
    for (unsigned load = 0; load < 2; load++) {
        struct vmx_machine *m = m_vmx_new();
        m_vmcs_64(m);
        u64 exit = m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS);
        m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS, load ? exit : exit & ~(u64)EXIT_LOAD_IA32_EFER);
        m_write(m, VMCS_GUEST_IA32_EFER, EFER_LME | EFER_LMA | EFER_SCE);
        m_write(m, VMCS_HOST_IA32_EFER, EFER_LME | EFER_LMA | EFER_NXE);
        assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.msr.efer, EFER_LME | EFER_LMA | (load ? EFER_NXE : EFER_SCE));
        m_free(m);
    }
}

// With VPIDs the host's translations live on; without them each world switch drops those of VPID 0
// (SDM 31.4.3.1).
static void translations_over_world_switches(void **state)
{
    for (unsigned vpid = 0; vpid < 2; vpid++) {
        struct vmx_machine *m = m_vmx_new();
        m_vmcs_64(m);
        m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
                m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
        m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, vpid ? PROC2_ENABLE_VPID : 0);
        m_write(m, VMCS_VPID, 5);
        struct walk_result r = {.page_shift = 12};
        struct tlb_entry evicted;
        for (unsigned at_exit = 0; at_exit < 2; at_exit++) {
            m_root_state(m);
            tlb_fill(&m->v->s.dtlb, laddr_of(0x123000), &r, &evicted);
            tlb_fill(&m->v->s.itlb, laddr_of(0x123000), &r, &evicted);
            assert_non_null(tlb_find(&m->v->s.dtlb, laddr_of(0x123000)));
            assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
            assert_int_equal(tlb_find(&m->v->s.dtlb, laddr_of(0x123000)) != NULL, vpid);
            assert_int_equal(tlb_find(&m->v->s.itlb, laddr_of(0x123000)) != NULL, vpid);
        }
        if (!vpid) { // what the guest, too in VPID 0, leaves is gone in the host: mov al, [rdi]
            m_root_state(m);
            m->v->s.gpr[RDI] = 0x124000;
            m_write(m, VMCS_GUEST_RIP, M_GUEST);
            assert_int_equal(M_ENTER(m, "\x8A\x07"), EXIT_REASON_HLT);
            assert_null(tlb_find(&m->v->s.dtlb, laddr_of(0x124000)));
        }
        m_free(m);
    }
}

static bool vmcs_dirty(struct vmx_machine *m)
{
    bool dirty = m->phys.dirty[M_VMCS >> PAGE_SHIFT >> 6] >> (M_VMCS >> PAGE_SHIFT & 63) & 1;
    phys_dirty_clear(&m->phys);
    return dirty;
}
static void dirty_clear_on_entry(void *o, const struct trace_event *e)
{
    phys_dirty_clear(&((struct vmx_machine *)o)->phys);
}

// The VMCS is memory: whatever the processor writes into it, the state hash and snapshots must learn of.
static void region_becomes_dirty(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    vmcs_dirty(m);
    m->v->s.gpr[RCX] = 0x681E, m->v->s.gpr[RAX] = M_GUEST;
    assert_int_equal(M_VMX(m, I_VMWRITE, 0), 0);
    assert_true(vmcs_dirty(m));
    assert_int_equal(M_VMX(m, I_VMREAD, 0), 0);
    assert_false(vmcs_dirty(m));
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 5); // the error number
    assert_true(vmcs_dirty(m));
    m_write(m, VMCS_GUEST_RFLAGS, 0);
    vmcs_dirty(m);
    assert_int_equal(M_ENTER(m, ""), 0x80000021); // reason and qualification
    assert_true(vmcs_dirty(m));
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    trace_add(&m->trace, &(struct trace_sink){dirty_clear_on_entry, m, 1 << TRACE_ENTRY});
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
    assert_true(vmcs_dirty(m));
    m_free(m);
}

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entry_loads_exit_saves), cmocka_unit_test(entry_forces_bits_of_dr7), cmocka_unit_test(host_null_selectors_and_bases),
        cmocka_unit_test(saved_by_control), cmocka_unit_test(protection_keys_of_supervisors), cmocka_unit_test(speculation_control), cmocka_unit_test(launch_state),           cmocka_unit_test(failed_checks),
        cmocka_unit_test(msr_areas),              cmocka_unit_test(nonregister_state),
        cmocka_unit_test(region_becomes_dirty), cmocka_unit_test(exit_and_efer),
        cmocka_unit_test(translations_over_world_switches),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}

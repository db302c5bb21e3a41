// VMCSs spoiled at random and guests of random bytes: whatever happens is an event, never the end of the
// program; and the threaded engine, the loop and a processor that keeps forgetting what is derived agree on
// all of the machine's state. MATRYOSHKA_FUZZ_RUNS and MATRYOSHKA_FUZZ_SEED change how many runs, and from
// which seed.
#include "vmx_machine.h"

static u64 next(u64 *x) // xorshift64*
{
    *x ^= *x >> 12, *x ^= *x << 25, *x ^= *x >> 27;
    return *x * 0x2545F4914F6CDD1D;
}

// clang-format off
static const char *const pieces[] = {
    "\x0F\xA2", "\x0F\x31", "\xF4", "\x0F\x01\xC1", "\xEC", "\xEE", "\xF3\x6C", "\xF3\xA4", "\xF3\xAA", "\x0F\x20\xC0",
    "\x0F\x22\xC0", "\x0F\x22\xD8", "\x0F\x22\xE0", "\x44\x0F\x22\xC0", "\x0F\x32", "\x0F\x30", "\xCC", "\xCD\x20", "\x0F\x0B",
    "\xFB", "\xFA", "\x9C", "\x9D", "\xCF", "\x48\xCF", "\x8E\xD0", "\xF3\x90", "\x0F\x01\x07", "\x0F\x00\xD8", "\x0F\x06",
    "\x0F\x01\xF0", "\x0F\x21\xF8", "\x0F\x23\xF8", "\x0F\x01\x3F", "\x0F\x09", "\x0F\x01\xD4", "\x48\x89\x07", "\x48\x8B\x06",
    "\xFF\xD0", "\xC3", "\x50", "\x58", "\xEB\xFE", "\x0F\xC7\xF0", "\x0F\x78\xC8", "\x0F\x01\xC8", "\x0F\x01\xC9", "\xF1",
};
// clang-format on

static u64 odd_value(struct vmx_machine *m, u64 *seed, u64 old)
{
    static const u64 interesting[] = {0,          1,          2,          0xFFF,      0x1000,
                                      0xFFFFFFFF, UINT64_MAX, 1ull << 47, 1ull << 52, 0x80000000};
    switch (next(seed) % 4) {
    case 0: return old ^ 1ull << next(seed) % 64;
    case 1: return interesting[next(seed) % ARRAY_LEN(interesting)];
    case 2: return next(seed) % m->phys.ram_size & (next(seed) & 1 ? PAGE_MASK : ~0ull);
    default: return next(seed) >> next(seed) % 64;
    }
}

// A guest in real-address mode, or in 32-bit protected mode with paging off: needs an unrestricted guest.
static void without_paging(struct vmx_machine *m, bool real)
{
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_SECONDARY_PROC_BASED_CONTROLS) | PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST);
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) & ~(u64)ENTRY_IA32E_MODE_GUEST);
    m_write(m, VMCS_GUEST_IA32_EFER, 0), m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_CR0, CR0_NE | CR0_ET | (real ? 0 : CR0_PE));
    m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, real ? 0x9B : 0xC09B);
    if (!real) return;
    m_write(m, VMCS_GUEST_CS_BASE, M_GUEST), m_write(m, VMCS_GUEST_CS_SELECTOR, M_GUEST >> 4),
        m_write(m, VMCS_GUEST_RIP, 0);
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) {
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + i), 0xFFFF);
        if (i != SEG_CS)
            m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_BASE + i),
                    m_read(m, (enum vmcs_field)(VMCS_GUEST_ES_SELECTOR + i)) << 4);
        if (i != SEG_CS) m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_ACCESS_RIGHTS + i), 0x93);
    }
}

static void spoil(struct vmx_machine *m, u64 *seed)
{
    static const u32 pin[] = {PIN_EXTERNAL_INTERRUPT_EXITING, PIN_NMI_EXITING,
                              PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER};
    const struct vmx_caps *c = &m->v->vmx->caps;
    m_vmcs_64(m);
    // Legal controls, then a few fields of any kind.
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | (next(seed) & 3 ? pin[next(seed) % ARRAY_LEN(pin)] : 0));
    u32 proc =
        c->true_allowed0[GROUP_PROC] | ((u32)next(seed) & (u32)next(seed) & (u32)c->allowed1[GROUP_PROC]);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc & ~(u32)PROC_NMI_WINDOW_EXITING);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, next(seed) & next(seed) & c->allowed1[GROUP_PROC2]);
    m_write(m, VMCS_EPTP, M_EPT | 6 | 3 << 3 | (next(seed) & 1 ? 64 : 0));
    m_write(m, VMCS_VPID, 1 + next(seed) % 3);
    m_write(m, VMCS_EXCEPTION_BITMAP, next(seed) & next(seed));
    m_write(m, VMCS_ADDRESS_OF_IO_BITMAP_A, M_BITMAP),
        m_write(m, VMCS_ADDRESS_OF_IO_BITMAP_B, M_BITMAP + 0x1000);
    m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP + 0x2000);
    m_write(m, VMCS_VIRTUAL_APIC_ADDRESS, M_VAPIC);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, next(seed) % 200);
    m_write(m, VMCS_VM_FUNCTION_CONTROLS, next(seed) & 1), m_write(m, VMCS_EPTP_LIST_ADDRESS, M_BITMAP);
    switch (next(seed) % 4) {
    case 0: without_paging(m, true); break;
    case 1: without_paging(m, false); break;
    default: break;
    }
    if (next(seed) % 4 == 0) {
        m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0x80000000 | (next(seed) & 0x7FF));
        m_write(m, VMCS_VM_ENTRY_INSTRUCTION_LENGTH, next(seed) % 16);
    }
    for (unsigned n = next(seed) % 4; n > 0; n--) {
        enum vmcs_field f = (enum vmcs_field)(next(seed) % VMCS_FIELD_COUNT);
        m_write(m, f, odd_value(m, seed, m_read(m, f)));
    }
}

static void one(struct vmx_machine *m, u64 run)
{
    u64 seed = (run + 1) * 0x9E3779B97F4A7C15;
    struct vcpu *v = m->v;
    memset(m->phys.ram, 0, 0x100000);
    cpu_drop_derived(v); // memory changed behind the processor's back
    vcpu_reset(v, false);
    m_tables(m);
    m_root_state(m);
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_poke64(m, M_EPT + 0x1000, 6 << 3 | 0x80 | (next(&seed) % 8 ? 7 : next(&seed) & 7));
    unsigned at = 0;
    while (at < 200) {
        const char *p = pieces[next(&seed) % ARRAY_LEN(pieces)];
        unsigned n = (unsigned)strlen(p);
        m_poke(m, M_GUEST + at, p, n ? n : 1);
        at += n ? n : 1;
        if (next(&seed) % 8 == 0) phys_write8(&m->phys, 0, M_GUEST + at++, (u8)next(&seed));
    }
    // Root: VMXON, VMCLEAR, VMPTRLD, VMLAUNCH; at the host's RIP: VMRESUME, again and again.
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 0);
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
    spoil(m, &seed);
    m_poke(m, M_HOST, I_VMRESUME "\xF4", 4);
    m_poke(m, M_CODE, I_VMLAUNCH "\xF4", 4);
    u64 *gpr = v->s.gpr;
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP) gpr[i] = next(&seed) % 0x100000;
    v->s.rip = M_CODE;
    v->s.activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(v);
    for (unsigned k = 0; k < 12; k++) {
        switch (next(&seed) % 8) {
        case 0: cpu_signal(v, CPU_SIGNAL_NMI, 0); break;
        case 1: m->interrupt = (int)(next(&seed) & 0xFF), cpu_signal(v, CPU_SIGNAL_INTR_ON, 0); break;
        case 2: cpu_signal(v, CPU_SIGNAL_INTR_OFF, 0); break;
        case 3: cpu_signal(v, CPU_SIGNAL_SIPI, 0x10); break;
        default: break;
        }
        if (vcpu_run(v, 300) == RUN_SHUTDOWN) break;
    }
    cpu_signal(v, CPU_SIGNAL_INTR_OFF, 0);
    assert_true(!v->s.vmx.guest || v->s.vmx.on);
}

static u64 setting(const char *name, u64 otherwise)
{
    const char *s = getenv(name);
    return s ? strtoull(s, NULL, 0) : otherwise;
}

static void engines_agree(void **state)
{
    struct vmx_machine *m[3] = {m_new(), m_new(), m_new()};
    u64 runs = setting("MATRYOSHKA_FUZZ_RUNS", 300), first = setting("MATRYOSHKA_FUZZ_SEED", 0);
    m[1]->v->loop_engine = true;
    m[2]->v->fuzz_drop = 50;
    for (u64 run = first; run < first + runs; run++) {
        for (unsigned k = 0; k < 3; k++) one(m[k], run);
        for (unsigned k = 1; k < 3; k++) {
            if (memcmp(&m[0]->v->s, &m[k]->v->s, sizeof m[0]->v->s)) {
                const u8 *a = (const u8 *)&m[0]->v->s, *b = (const u8 *)&m[k]->v->s;
                size_t i = 0;
                while (a[i] == b[i]) i++;
                fail_msg("seed %llu: the state of engine %u differs at byte %zu (rip %llx, %llx)",
                         (unsigned long long)run, k, i, (unsigned long long)m[0]->v->s.rip,
                         (unsigned long long)m[k]->v->s.rip);
            }
            if (memcmp(m[0]->phys.ram, m[k]->phys.ram, m[0]->phys.ram_size))
                fail_msg("seed %llu: the memory of engine %u differs", (unsigned long long)run, k);
        }
    }
    print_message(
        "%llu runs from seed %llu: %llu entries, %llu failed, %llu exits by exception, %llu EPT violations\n",
        (unsigned long long)runs, (unsigned long long)first, (unsigned long long)m[0]->v->vmx->entries,
        (unsigned long long)m[0]->v->vmx->entry_failures,
        (unsigned long long)m[0]->v->vmx->exits[EXIT_REASON_EXCEPTION_NMI],
        (unsigned long long)m[0]->v->vmx->exits[EXIT_REASON_EPT_VIOLATION]);
    if (runs >= 300) assert_true(m[0]->v->vmx->entries > runs && m[0]->v->vmx->entry_failures > runs / 10);
    for (unsigned k = 0; k < 3; k++) m_free(m[k]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(engines_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

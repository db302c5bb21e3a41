// The guest timer of "APIC-timer virtualization" (SDM 28.3 at IA32_TSC_DEADLINE, 28.5.10): what WRMSR makes
// of a deadline, when its event comes and what it does, what holds it back, and what entries and exits make
// of it.
#include "vmx_machine.h"

enum { VECTOR = 0x61 };
#define TIMER PROC3_APIC_TIMER_VIRTUALIZATION

static void pin(struct vmx_machine *m, u32 bits)
{
    m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | PIN_EXTERNAL_INTERRUPT_EXITING | bits);
}
static void proc(struct vmx_machine *m, u32 bits, u32 bits2)
{
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m->v->vmx->caps.true_allowed0[GROUP_PROC] | PROC_USE_TPR_SHADOW | PROC_USE_MSR_BITMAPS | bits |
                PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_ACTIVATE_TERTIARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_VIRTUAL_INTERRUPT_DELIVERY | bits2);
}
static struct vmx_machine *fresh(void)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_VIRTUAL_APIC_ADDRESS, M_VAPIC);
    m_write(m, VMCS_ADDRESS_OF_MSR_BITMAPS, M_BITMAP);
    m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, TIMER);
    m_write(m, VMCS_VIRTUAL_TIMER_VECTOR, VECTOR);
    pin(m, 0);
    proc(m, PROC_HLT_EXITING, 0);
    m->v->s.msr.tsc_offset = 0x100000000; // a TSC that is not the clock
    return m;
}
static s64 again(struct vmx_machine *m, const char *code, unsigned n)
{
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    return m_enter(m, code, n);
}
#define AGAIN(m, code) again(m, code, sizeof(code) - 1)
static u64 tsc(const struct vmx_machine *m) { return cpu_vtime(m->v) + m->v->s.msr.tsc_offset; }
static u64 deadline(struct vmx_machine *m) { return m_read(m, VMCS_GUEST_DEADLINE); }
static u64 shadow(struct vmx_machine *m) { return m_read(m, VMCS_GUEST_DEADLINE_SHADOW); }
static u16 status(struct vmx_machine *m) { return (u16)m_read(m, VMCS_GUEST_INTERRUPT_STATUS); }
static void arm(struct vmx_machine *m, u64 at)
{
    m_write(m, VMCS_GUEST_DEADLINE, at);
    m_write(m, VMCS_GUEST_DEADLINE_SHADOW, 0x5555);
}
static void interrupts_on(struct vmx_machine *m, bool on)
{
    m_write(m, VMCS_GUEST_RFLAGS, on ? 2 | FL_IF : 2);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    memset(m->phys.ram + M_VAPIC, 0, PAGE_SIZE);
}
// The handlers are HLTs, which exit: the one that the guest came to.
static u64 handler(struct vmx_machine *m) { return (m_read(m, VMCS_GUEST_RIP) - M_STUBS) / 16; }

// EDX:EAX is the operand: mov ecx, 6E0h; wrmsr; rdmsr
#define WRITE "\xB9\xE0\x06\x00\x00\x0F\x30\x31\xC0\x31\xD2\x0F\x32"
static s64 write(struct vmx_machine *m, u64 value)
{
    m->v->s.gpr[RAX] = (u32)value, m->v->s.gpr[RDX] = value >> 32;
    return AGAIN(m, WRITE);
}
static u64 result(struct vmx_machine *m) { return m->v->s.gpr[RDX] << 32 | (u32)m->v->s.gpr[RAX]; }

// ---- WRMSR and RDMSR ----

static void writes(void **state)
{
    struct vmx_machine *m = fresh();
    interrupts_on(m, false);
    u64 far = tsc(m) + (1ull << 40);
    assert_int_equal(write(m, far), EXIT_REASON_HLT);
    assert_true(shadow(m) == far && deadline(m) == far && result(m) == far);
    assert_true(m->v->s.vmx.guest_deadline == 0); // never outside of a guest
    // 0 disarms it; without the control the MSR is the processor's, which this one has not
    assert_int_equal(write(m, 0), EXIT_REASON_HLT);
    assert_true(shadow(m) == 0 && deadline(m) == 0 && status(m) == 0);
    m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_GP);
    arm(m, far);
    assert_int_equal(write(m, far), EXIT_REASON_EXCEPTION_NMI);
    assert_true(shadow(m) == 0x5555 && deadline(m) == 0); // the exit saves what is not armed
    m_free(m);
}

static void offset_and_scaling(void **state)
{
    struct vmx_machine *m = fresh();
    interrupts_on(m, false);
    u64 at = tsc(m) + (1ull << 40), offset = 0xFFFF000000000123;
    proc(m, PROC_HLT_EXITING | PROC_USE_TSC_OFFSETTING, 0);
    m_write(m, VMCS_TSC_OFFSET, offset);
    m_write(m, VMCS_TSC_MULTIPLIER, 3ull << 47);
    assert_int_equal(write(m, at + offset), EXIT_REASON_HLT);
    assert_true(shadow(m) == at + offset && result(m) == at + offset && deadline(m) == at);
    // what the guest's clock has reached is over, wherever the processor's is
    assert_int_equal(write(m, tsc(m) + offset), EXIT_REASON_HLT);
    assert_true(shadow(m) == 0 && deadline(m) == 0 && status(m) == VECTOR);
    interrupts_on(m, false);
    proc(m, PROC_HLT_EXITING | PROC_USE_TSC_OFFSETTING, PROC2_USE_TSC_SCALING);
    u64 guests = at * 3 / 2 + offset; // by 1.5
    assert_int_equal(write(m, guests), EXIT_REASON_HLT);
    assert_true(shadow(m) == guests && deadline(m) == (guests - offset) * 2 / 3);
    assert_true(deadline(m) == at || deadline(m) == at - 1);
    // a deadline that the processor's TSC never reaches: the multiplier is 2^-48
    m_write(m, VMCS_TSC_OFFSET, 0), m_write(m, VMCS_TSC_MULTIPLIER, 1);
    assert_int_equal(write(m, 1ull << 40), EXIT_REASON_HLT);
    assert_true(shadow(m) == 1ull << 40 && deadline(m) == UINT64_MAX && status(m) == 0);
    m_free(m);
}

static void past(void **state)
{
    struct vmx_machine *m = fresh();
    interrupts_on(m, true);
    u64 now = tsc(m);
    assert_int_equal(write(m, 1), EXIT_REASON_HLT); // delivered behind WRMSR
    assert_int_equal(handler(m), VECTOR);
    assert_true(shadow(m) == 0 && deadline(m) == 0);
    assert_int_equal(status(m), VECTOR << 8);
    assert_true(result(m) == 1 && tsc(m) > now);
    u64 rip;
    memcpy(&rip, m->phys.ram + m_read(m, VMCS_GUEST_RSP), 8);
    assert_int_equal(rip, M_GUEST + 7);
    // RVI stays the highest
    interrupts_on(m, false);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x91);
    assert_int_equal(write(m, 1), EXIT_REASON_HLT);
    assert_int_equal(status(m), 0x91);
    assert_int_equal(phys_read32(&m->phys, 0, M_VAPIC + 0x200 + 0x30), 1u << (VECTOR & 31));
    m_free(m);
}

// ---- the event ----

static void expires(void **state)
{
    struct vmx_machine *m = fresh();
    for (unsigned i = 0; i < 40; i++) { // at every place in the block
        interrupts_on(m, true);
        u64 at = tsc(m) + 1000 + i;
        arm(m, at);
        assert_int_equal(AGAIN(m, "\x90\x90\x90\xEB\xFB"), EXIT_REASON_HLT);
        assert_int_equal(handler(m), VECTOR);
        assert_true(shadow(m) == 0 && deadline(m) == 0);
        u64 seen = m->last_exit.vtime + m->v->s.msr.tsc_offset;
        assert_true(seen >= at && seen < at + 4 * 120); // processing, delivery and a HLT cost
    }
    // with IF=0 it is requested, and the guest goes on
    interrupts_on(m, false);
    u64 at = tsc(m) + 2000;
    arm(m, at);
    m->v->s.gpr[RCX] = 1000;
    assert_int_equal(AGAIN(m, "\xE2\xFE"), EXIT_REASON_HLT); // loop $
    assert_int_equal(m->v->s.gpr[RCX], 0);
    assert_true(status(m) == VECTOR && shadow(m) == 0 && deadline(m) == 0);
    // before it, nothing
    interrupts_on(m, true);
    at = tsc(m) + 100000;
    arm(m, at);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_true(status(m) == 0 && shadow(m) == 0x5555 && deadline(m) == at);
    // one that VM entry finds over, behind the event that it injects
    arm(m, 1);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0x80000033);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(handler(m), 0x33);
    assert_true(status(m) == VECTOR && shadow(m) == 0);
    // an entry that fails leaves the fields
    interrupts_on(m, true);
    arm(m, 1);
    m_write(m, VMCS_GUEST_RFLAGS, 0);
    assert_int_equal(AGAIN(m, "\x90"), 0x80000021);
    assert_true(deadline(m) == 1 && shadow(m) == 0x5555 && status(m) == 0);
    m_free(m);
}

// WRMSR to the TSC moves the clock that the deadline is of.
static void the_tsc_jumps(void **state)
{
    struct vmx_machine *m = fresh();
    interrupts_on(m, true);
    u64 at = tsc(m) + (1ull << 40);
    arm(m, at);
    m->v->s.gpr[RAX] = (u32)(at + 5), m->v->s.gpr[RDX] = (at + 5) >> 32, m->v->s.gpr[RCX] = 0x10;
    assert_int_equal(AGAIN(m, "\x0F\x30\x90\x90\x90"), EXIT_REASON_HLT);
    assert_int_equal(handler(m), VECTOR);
    m_free(m);
}

static void enter_and_stop(struct vmx_machine *m, const char *code, unsigned n)
{
    m_poke(m, M_GUEST, code, n);
    m_poke(m, M_CODE, phys_read32(&m->phys, 0, M_VMCS + 8) ? I_VMRESUME : I_VMLAUNCH, 3);
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m->v->s.rip = M_CODE;
    cpu_mode_changed(m->v);
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest);
}
static void pass(struct vmx_machine *m) // idle, until its own timer
{
    assert_true(cpu_own_deadline(m->v) != UINT64_MAX);
    cpu_skip_to(m->v, cpu_own_deadline(m->v));
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
}

static void inactive_states(void **state)
{
    for (unsigned on = 0; on < 2; on++) { // HLT goes on, unless the interrupt ends it
        struct vmx_machine *m = fresh();
        proc(m, 0, 0);
        interrupts_on(m, on);
        arm(m, tsc(m) + 100000);
        enter_and_stop(m, "\xF4\x0F\x01\xC1", 4); // hlt; vmcall
        assert_int_equal(m->v->s.rip, M_GUEST + 1);
        pass(m);
        assert_true(m->v->s.vmx.guest && m->v->s.activity == ACTIVITY_HLT && !m->v->s.vmx.guest_deadline);
        assert_int_equal(m->v->s.rip, on ? M_STUBS + 16 * VECTOR + 1 : M_GUEST + 1);
        assert_int_equal(m->v->s.vmx.rvi, on ? 0 : VECTOR);
        assert_true(cpu_own_deadline(m->v) == UINT64_MAX && shadow(m) == 0);
        m_free(m);
    }
    // MWAIT does not
    struct vmx_machine *m = fresh();
    proc(m, 0, 0);
    interrupts_on(m, false);
    arm(m, tsc(m) + 100000);
    m->v->s.gpr[RAX] = M_DATA, m->v->s.gpr[RCX] = m->v->s.gpr[RDX] = 0;
    enter_and_stop(m, "\x0F\x01\xC8\x0F\x01\xC9\xF4", 7); // monitor; mwait; hlt
    assert_int_equal(m->v->s.activity, ACTIVITY_MWAIT);
    pass(m);
    assert_int_equal(m->v->s.rip, M_GUEST + 7);
    assert_int_equal(m->v->s.vmx.rvi, VECTOR);
    m_free(m);
    // shutdown and wait-for-SIPI hold it
    for (u32 activity = ACTIVITY_SHUTDOWN; activity <= ACTIVITY_WAIT_SIPI; activity++) {
        m = fresh();
        proc(m, 0, 0);
        interrupts_on(m, true);
        arm(m, 1);
        m_write(m, VMCS_GUEST_ACTIVITY_STATE, activity);
        enter_and_stop(m, "\x90", 1);
        assert_int_equal(m->v->s.activity, activity);
        assert_true(cpu_own_deadline(m->v) == UINT64_MAX && m->v->s.vmx.guest_deadline == 1);
        assert_true(m->v->s.vmx.rvi == 0 && shadow(m) == 0x5555);
        cpu_signal(m->v, activity == ACTIVITY_SHUTDOWN ? CPU_SIGNAL_INIT : CPU_SIGNAL_SIPI, 0x12);
        assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
        assert_true(!m->v->s.vmx.guest && deadline(m) == 1);
        m_free(m);
    }
}

// MWAIT with ECX[0]=1 and IF=0 does not wait while a virtual interrupt is recognized (SDM 28.3).
static void mwait_and_a_virtual_interrupt(void **state)
{
    static const char code[] = "\x0F\x01\xC8\xB9\x01\x00\x00\x00\x0F\x01\xC9"; // monitor; mov ecx, 1; mwait
    for (unsigned i = 0; i < 3; i++) { // recognized; of too low a class; ECX[0]=0
        struct vmx_machine *m = fresh();
        interrupts_on(m, false);
        m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
        if (i == 1) phys_write32(&m->phys, 0, M_VAPIC + 0x80, 0x50);
        m->v->s.gpr[RAX] = M_DATA, m->v->s.gpr[RCX] = m->v->s.gpr[RDX] = 0;
        if (i == 0)
            assert_int_equal(AGAIN(m, code), EXIT_REASON_HLT);
        else {
            enter_and_stop(m, i == 1 ? code : "\x0F\x01\xC8\xB9\x00\x00\x00\x00\x0F\x01\xC9",
                           sizeof code - 1);
            assert_int_equal(m->v->s.activity, ACTIVITY_MWAIT);
        }
        m_free(m);
    }
}

// ---- priority: below NMIs and external interrupts, above windows and virtual interrupts ----

static void priorities(void **state)
{
    struct vmx_machine *m = fresh();
    interrupts_on(m, true);
    arm(m, 1);
    pin(m, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    proc(m, PROC_HLT_EXITING | PROC_NMI_WINDOW_EXITING, 0);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_NMI_WINDOW);
    assert_true(deadline(m) == 1 && status(m) == 0);
    pin(m, PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    proc(m, PROC_HLT_EXITING | PROC_INTERRUPT_WINDOW_EXITING, 0);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 0);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_PREEMPTION_TIMER);
    assert_true(deadline(m) == 1 && status(m) == 0);
    pin(m, 0);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_INTERRUPT_WINDOW);
    assert_true(deadline(m) == 0 && status(m) == VECTOR && shadow(m) == 0);
    // a virtual interrupt that was recognized before
    interrupts_on(m, true);
    arm(m, 1);
    proc(m, PROC_HLT_EXITING, 0);
    m_write(m, VMCS_GUEST_INTERRUPT_STATUS, 0x51);
    phys_write32(&m->phys, 0, M_VAPIC + 0x220, 1u << 17);
    assert_int_equal(AGAIN(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(handler(m), VECTOR); // the higher one
    assert_int_equal(status(m), VECTOR << 8 | 0x51);
    // an external interrupt goes first; with the window open, the window does
    m->interrupt = 0x30;
    for (unsigned window = 0; window < 2; window++) {
        interrupts_on(m, true);
        arm(m, 1);
        proc(m, PROC_HLT_EXITING | (window ? PROC_INTERRUPT_WINDOW_EXITING : 0), 0);
        m_root_state(m);
        m_poke(m, M_GUEST, "\xF4", 1);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        m_poke(m, M_CODE, I_VMRESUME, 3);
        m->v->s.rip = M_CODE;
        m->v->s.intr_line = true;
        assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
        m->v->s.intr_line = false;
        assert_int_equal(m_read(m, VMCS_EXIT_REASON),
                         window ? EXIT_REASON_INTERRUPT_WINDOW : EXIT_REASON_EXTERNAL_INTERRUPT);
        assert_true(deadline(m) == 1 && status(m) == 0 && shadow(m) == 0x5555);
    }
    // blocking by STI and MOV SS does not hold it, only what it requests
    for (u32 by = BLOCKING_BY_STI; by <= BLOCKING_BY_MOV_SS; by++) {
        interrupts_on(m, true);
        arm(m, 1);
        proc(m, PROC_HLT_EXITING, 0);
        m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, by);
        assert_int_equal(AGAIN(m, "\x0F\x01\xC1"), EXIT_REASON_VMCALL);
        assert_true(deadline(m) == 0 && status(m) == VECTOR);
        m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    }
    m_free(m);
}

// Between two iterations of a REP: registers as far as they are, RF=1 (SDM 28.5.10.2).
static void between_iterations(void **state)
{
    struct vmx_machine *m = fresh();
    for (unsigned on = 0; on < 2; on++) {
        interrupts_on(m, on);
        arm(m, tsc(m) + 4000);
        m->v->s.gpr[RDI] = M_DATA, m->v->s.gpr[RCX] = 64000, m->v->s.gpr[RAX] = 0;
        assert_int_equal(AGAIN(m, "\xF3\xAA"), EXIT_REASON_HLT); // rep stosb
        assert_true(shadow(m) == 0);
        if (!on) {
            assert_int_equal(m->v->s.gpr[RCX], 0);
            assert_int_equal(status(m), VECTOR);
            continue;
        }
        u64 frame[3];
        memcpy(frame, m->phys.ram + m_read(m, VMCS_GUEST_RSP), sizeof frame);
        assert_int_equal(handler(m), VECTOR);
        assert_int_equal(frame[0], M_GUEST);
        assert_int_equal(frame[2] & FL_RF, FL_RF);
        assert_true(m->v->s.gpr[RCX] > 0 && m->v->s.gpr[RCX] < 64000);
        assert_int_equal(m->v->s.gpr[RDI], M_DATA + 64000 - m->v->s.gpr[RCX]);
    }
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes),
        cmocka_unit_test(offset_and_scaling),
        cmocka_unit_test(past),
        cmocka_unit_test(expires),
        cmocka_unit_test(the_tsc_jumps),
        cmocka_unit_test(inactive_states),
        cmocka_unit_test(mwait_and_a_virtual_interrupt),
        cmocka_unit_test(priorities),
        cmocka_unit_test(between_iterations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

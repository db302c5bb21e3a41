// Activity states and signals, windows that end a HLT, the preemption timer to the tick, PAUSE loops, NMI
// unblocking by IRET, PAE guests, and a 32-bit host.
#include "vmx_machine.h"

static void pin(struct vmx_machine *m, u32 bits) { m_write(m, VMCS_PIN_BASED_CONTROLS, 0x16 | bits); }
static void proc(struct vmx_machine *m, u32 bits, u32 bits2)
{
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m->v->vmx->caps.true_allowed0[GROUP_PROC] | bits |
                (bits2 ? PROC_ACTIVATE_SECONDARY_CONTROLS : 0));
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, bits2);
}
static struct vmx_machine *fresh(void)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    return m;
}
// Enters with `code`; the guest is left where it stops without an exit.
static void enter_and_stop(struct vmx_machine *m, const char *code, unsigned n)
{
    m_poke(m, M_GUEST, code, n);
    m_poke(m, M_CODE, phys_read32(&m->phys, 0, M_VMCS + 8) ? I_VMRESUME : I_VMLAUNCH, 3);
    m->v->s.rip = M_CODE;
    m->v->s.activity = ACTIVITY_ACTIVE;
    cpu_mode_changed(m->v);
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest);
}
static u32 reason_after(struct vmx_machine *m) // of the exit that something outside causes
{
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_int_equal(m->v->s.rip, M_HOST + 1);
    return (u32)m_read(m, VMCS_EXIT_REASON);
}

// A debug trap wakes from HLT: its exit finds the HLT state, its delivery the active one (SDM 30.1).
static void debug_trap_in_hlt(void **state)
{
    for (unsigned i = 0; i < 3; i++) {
        struct vmx_machine *m = fresh();
        proc(m, 0, 0);
        if (i == 1) pin(m, PIN_ACTIVATE_VMX_PREEMPTION_TIMER); // is over: its exit follows the delivery
        m_write(m, VMCS_EXCEPTION_BITMAP, i == 1 ? 0 : 1 << VEC_DB);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | (i == 2 ? FL_TF : 0));
        m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, i == 2 ? 0 : 0x1001);
        m_write(m, VMCS_GUEST_ACTIVITY_STATE, i == 2 ? ACTIVITY_ACTIVE : ACTIVITY_HLT);
        m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 0);
        u32 want = i == 1 ? EXIT_REASON_PREEMPTION_TIMER : EXIT_REASON_EXCEPTION_NMI;
        assert_int_equal(M_ENTER(m, "\xF4"), want); // HLT, and a single step behind it
        assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), i == 1 ? ACTIVITY_ACTIVE : ACTIVITY_HLT);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP) - M_GUEST < 2, i != 1);
        m_free(m);
    }
}

// MWAIT with ECX[0]=1 and IF=0 does not wait while "interrupt-window exiting" is 1 (SDM 28.3).
static void mwait_and_the_window(void **state)
{
    static const char wait1[] = "\x0F\x01\xC8\xB9\x01\x00\x00\x00\x0F\x01\xC9", // monitor; mov ecx, 1; mwait
        wait0[] = "\x0F\x01\xC8\xB9\x00\x00\x00\x00\x0F\x01\xC9";
    for (unsigned i = 0; i < 3; i++) { // the control; without it; ECX[0]=0
        struct vmx_machine *m = fresh();
        proc(m, PROC_HLT_EXITING | (i == 1 ? 0 : PROC_INTERRUPT_WINDOW_EXITING), 0);
        m->v->s.gpr[RAX] = M_DATA, m->v->s.gpr[RCX] = m->v->s.gpr[RDX] = 0;
        if (i == 0)
            assert_int_equal(M_ENTER(m, wait1), EXIT_REASON_HLT);
        else {
            enter_and_stop(m, i == 1 ? wait1 : wait0, sizeof wait1 - 1);
            assert_int_equal(m->v->s.activity, ACTIVITY_MWAIT);
        }
        m_free(m);
    }
}

static void init_and_sipi(void **state)
{
    struct vmx_machine *m = fresh();
    proc(m, 0, 0);
    enter_and_stop(m, "\xF4", 1);            // HLT
    cpu_signal(m->v, CPU_SIGNAL_SIPI, 0x12); // dropped
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest);
    cpu_signal(m->v, CPU_SIGNAL_INIT, 0);
    assert_int_equal(reason_after(m), EXIT_REASON_INIT);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    // In root operation INIT waits.
    cpu_signal(m->v, CPU_SIGNAL_INIT, 0);
    m_root_state(m);
    assert_int_equal(M_RUN(m, "\x90"), -1);
    assert_true(m->v->s.init_pending && m->v->s.vmx.on);
    m->v->s.init_pending = false;
    // Wait-for-SIPI: a SIPI exits; INIT, NMI and interrupts do not.
    m_root_state(m);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_SIPI);
    pin(m, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 0);
    cpu_signal(m->v, CPU_SIGNAL_INTR_OFF, 0);
    enter_and_stop(m, "\xF4", 1);
    cpu_signal(m->v, CPU_SIGNAL_NMI, 0);
    cpu_signal(m->v, CPU_SIGNAL_INTR_ON, 0);
    cpu_signal(m->v, CPU_SIGNAL_INIT, 0);
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest);
    assert_int_equal(m->v->s.activity, ACTIVITY_WAIT_SIPI);
    assert_int_equal(m->v->s.rip, m_read(m, VMCS_GUEST_RIP));
    assert_true(cpu_own_deadline(m->v) == UINT64_MAX); // nor does the timer, which is over
    m->v->s.nmi_pending = false;
    cpu_signal(m->v, CPU_SIGNAL_INTR_OFF, 0);
    cpu_signal(m->v, CPU_SIGNAL_SIPI, 0xAB);
    assert_int_equal(reason_after(m), EXIT_REASON_SIPI);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0xAB);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_WAIT_SIPI);
    // The INIT was held: a guest that runs meets it.
    m_root_state(m);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE), m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_INIT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    m_free(m);
}

static void shutdown_state(void **state)
{
    struct vmx_machine *m = fresh();
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
    pin(m, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    proc(m, PROC_INTERRUPT_WINDOW_EXITING, 0);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    enter_and_stop(m, "\xF4", 1);
    cpu_signal(m->v, CPU_SIGNAL_INTR_ON, 0); // blocked, like the interrupt window
    assert_int_equal(vcpu_run(m->v, 1000), RUN_HALTED);
    assert_true(m->v->s.vmx.guest);
    cpu_signal(m->v, CPU_SIGNAL_INTR_OFF, 0);
    cpu_signal(m->v, CPU_SIGNAL_NMI, 0);
    assert_int_equal(reason_after(m), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000202);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_SHUTDOWN);
    assert_true(m->v->s.blocking & BLOCKING_BY_NMI); // the exit was by an NMI
    m_root_state(m);
    proc(m, PROC_NMI_WINDOW_EXITING, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_NMI_WINDOW);
    m_root_state(m);
    proc(m, 0, 0);
    pin(m, PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_PREEMPTION_TIMER);
    // A triple fault.
    m_root_state(m);
    pin(m, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    m_write(m, VMCS_GUEST_IDTR_LIMIT, 0);
    m_write(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION, 0x80000123);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_TRIPLE_FAULT);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_ACTIVE);
    assert_int_equal(m->shutdowns, 0);
    m_free(m);
}

static void windows_end_halt(void **state)
{
    struct vmx_machine *m = fresh();
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_IF);
    proc(m, PROC_INTERRUPT_WINDOW_EXITING, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_INTERRUPT_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    m_root_state(m);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_ACTIVE);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_STI); // one instruction first
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_INTERRUPT_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    m_root_state(m);
    m_write(m, VMCS_GUEST_RFLAGS, 2), m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    assert_int_equal(M_ENTER(m, "\xFB\x90\x90" /* sti; nop; nop */), EXIT_REASON_INTERRUPT_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 2);
    // An external interrupt wakes a halted guest whose IF is 0; with acknowledgement the vector is reported.
    m_root_state(m);
    proc(m, 0, 0);
    pin(m, PIN_EXTERNAL_INTERRUPT_EXITING);
    m_write(m, VMCS_GUEST_RFLAGS, 2), m_write(m, VMCS_GUEST_RIP, M_GUEST);
    enter_and_stop(m, "\xF4", 1);
    m->interrupt = 0x55;
    cpu_signal(m->v, CPU_SIGNAL_INTR_ON, 0);
    assert_int_equal(reason_after(m), EXIT_REASON_EXTERNAL_INTERRUPT);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    m_root_state(m);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_EXTERNAL_INTERRUPT);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000055);
    m_free(m);
}

// Counted by changes of TSC bit 5 (IA32_VMX_MISC says 5), from the entry on.
static void timer_to_the_tick(void **state)
{
    struct vmx_machine *m = fresh();
    pin(m, PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    for (u64 n = 0; n < 50; n++) {
        m_root_state(m);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, n);
        assert_int_equal(M_ENTER(m, "\xEB\xFE"), EXIT_REASON_PREEMPTION_TIMER);
        u64 from = m->entered.vmx.timer_deadline - n * 32; // the last change before the entry
        if (n > 0) assert_true(from % 32 == 0);
        assert_int_equal(m_read(m, VMCS_VMX_PREEMPTION_TIMER_VALUE), 0);
        // Exits at the first boundary at or after the deadline: an instruction is 4 ticks.
        assert_true(m->last_exit.vtime >= m->entered.vmx.timer_deadline);
        if (n > 1) assert_true(m->last_exit.vtime < m->entered.vmx.timer_deadline + 8 + 4 * 40);
    }
    // Another exit saves what is left.
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 1000);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_HLT);
    u64 left = m_read(m, VMCS_VMX_PREEMPTION_TIMER_VALUE);
    assert_true(left < 1000 && left > 980);
    // To the count: one is gone for every change of TSC bit 5 between the entry and the exit, wherever
    // between two changes they fall. Each further NOP moves the exit by an eighth of a period.
    for (unsigned nops = 0; nops < 20; nops++) {
        static const char code[] =
            "\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90";
        m_root_state(m);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 1000);
        assert_int_equal(m_enter(m, code, nops), EXIT_REASON_HLT);
        u64 changes = (m->last_exit.vtime >> 5) - ((m->entered.vmx.timer_deadline >> 5) - 1000);
        assert_int_equal(m_read(m, VMCS_VMX_PREEMPTION_TIMER_VALUE), 1000 - changes);
    }
    m_free(m);
}

static void pause_loop(void **state)
{
    struct vmx_machine *m = fresh();
    proc(m, PROC_HLT_EXITING, PROC2_PAUSE_LOOP_EXITING);
    m_write(m, VMCS_PLE_GAP, 128), m_write(m, VMCS_PLE_WINDOW, 4000);
    assert_int_equal(M_ENTER(m, "\xF3\x90\xEB\xFC" /* pause; jmp */), EXIT_REASON_PAUSE);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 2);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    // With more than the gap between them it is no loop.
    m_root_state(m);
    m_write(m, VMCS_PLE_GAP, 1);
    m->v->s.gpr[RCX] = 2000;
    assert_int_equal(M_ENTER(m, "\xF3\x90\x48\xFF\xC9\x75\xF9" /* pause; dec rcx; jnz */), EXIT_REASON_HLT);

    // To the tick: no loop if more than the gap has passed since the last PAUSE; an exit if more than the
    // window has passed since the loop's first (SDM 28.1.3). L: pause; mov ebx, eax; rdtsc; dec ecx; jnz L
    // measures its own period.
    static const char loop[] = "\xF3\x90\x89\xC3\x0F\x31\xFF\xC9\x75\xF6";
    u64 *gpr = m->v->s.gpr;
    for (unsigned run = 0; run < 5; run++) {
        u64 period = run ? gpr[RAX] - gpr[RBX] : 0;
        m_root_state(m);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        m_write(m, VMCS_PLE_GAP, run == 1 ? period - 1 : period);
        m_write(m, VMCS_PLE_WINDOW,
                run == 2   ? 10 * period
                : run == 3 ? 10 * period - 1
                : run == 4 ? 10 * period + 1
                           : 0);
        gpr[RCX] = 100;
        s64 reason = m_enter(m, loop, sizeof loop - 1);
        assert_int_equal(reason, run < 2 ? EXIT_REASON_HLT : EXIT_REASON_PAUSE);
        if (run >= 2) assert_int_equal(100 - gpr[RCX], run == 3 ? 10 : 11); // PAUSEs that did not exit
        assert_true(gpr[RAX] - gpr[RBX] > 10);
    }
    m_free(m);
}

// A virtual-APIC page that is not memory: a store into it raises INIT, so that this and what the store causes
// meet at one boundary.
static u64 vapic_read(void *o, unsigned cpu, paddr a, unsigned size) { return 0x30; } // as written
static void vapic_write(void *o, unsigned cpu, paddr a, unsigned size, u64 value)
{
    cpu_signal(((struct vmx_machine *)o)->v, CPU_SIGNAL_INIT, 0);
}

// TPR below threshold goes before all that waits at the boundary: INIT, the monitor trap flag, debug traps,
// the preemption timer, NMIs, interrupts (SDM table "Priority Among Concurrent Events", 29.7.7).
static void tpr_threshold_goes_first(void **state)
{
    static const struct phys_ops ops = {vapic_read, vapic_write};
    enum { MTF = 1, TF = 2, TIMER = 4, NMI = 8, INTERRUPT = 16, INIT = 32, ALL = 64 };
    for (unsigned with = 0; with < ALL; with++) {
        struct vmx_machine *m = fresh();
        if (with & INIT) {
            m->phys.ops = &ops;
            m->phys.ops_opaque = m;
        }
        proc(m, PROC_HLT_EXITING | PROC_USE_TPR_SHADOW | (with & MTF ? PROC_MONITOR_TRAP_FLAG : 0), 0);
        pin(m, PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING |
                   (with & TIMER ? PIN_ACTIVATE_VMX_PREEMPTION_TIMER : 0));
        m_write(m, VMCS_VIRTUAL_APIC_ADDRESS, with & INIT ? 0x10000000 : M_VAPIC);
        phys_write8(&m->phys, 0, M_VAPIC + 0x80, 0xF0);
        m_write(m, VMCS_TPR_THRESHOLD, 4);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_DB);
        m_write(m, VMCS_GUEST_RFLAGS, with & TF ? 2 | FL_TF : 2);
        m_write(m, VMCS_VMX_PREEMPTION_TIMER_VALUE, 1);
        // holds NMIs and interrupts until the instruction is done
        m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
        m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, with & TF ? 0x4000 : 0);
        if (with & NMI) m->v->s.nmi_pending = true, m->v->s.blocking = BLOCKING_BY_NMI;
        if (with & INTERRUPT) m->v->s.intr_line = true;
        m->v->s.gpr[RCX] = 3;
        m_poke(m, M_GUEST, "\x44\x0F\x22\xC1\xF4" /* mov cr8, rcx */, 5);
        assert_int_equal(M_RUN(m, I_VMLAUNCH), with & NMI ? 2 : -1); // the NMI waits for the host
        assert_int_equal(m_read(m, VMCS_EXIT_REASON), EXIT_REASON_TPR_BELOW_THRESHOLD);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 4);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
        assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
        // kept (SDM 30.3.4)
        assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), with & TF ? 0x4000 : 0);
        m_free(m);
    }
}

static void pae_guest(struct vmx_machine *m, u32 proc2);

// Outside 64-bit mode the guest-linear address of a string has 32 bits (SDM 30.2.1).
static void string_address_wraps(void **state)
{
    struct vmx_machine *m = fresh();
    pae_guest(m, 0);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_UNCONDITIONAL_IO_EXITING);
    m_write(m, VMCS_GUEST_DS_BASE, 0xFFFFF000);
    m->v->s.gpr[RSI] = 0x3000;
    assert_int_equal(M_ENTER(m, "\x6E"), EXIT_REASON_IO_INSTRUCTION);
    assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), 0x2000);
    m_free(m);
}

static void nmi_unblocking(void **state)
{
    struct vmx_machine *m = fresh();
    // IRET that faults on its stack: not mapped. Virtual NMIs were blocked and no longer are; bit 12 says so.
    pin(m, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
    m_write(m, VMCS_GUEST_RSP, 0x5000000000);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_PF);
    assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80001B0E);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x5000000000);
    // Without blocking the bit stays clear.
    m_root_state(m);
    assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0E);
    // NMI exiting without virtual NMIs: IRET does not end the blocking.
    m_root_state(m);
    pin(m, PIN_NMI_EXITING);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
    assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
    // bit 12 is not defined here: 0
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0E);
    // Neither: it ends the processor's own.
    m_root_state(m);
    m->v->s.blocking = 0;
    pin(m, 0);
    assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80001B0E);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    assert_int_equal(m->v->s.blocking, 0);
    // A fault before any access to memory: NMIs are unblocked all the same, and bit 12 is for accesses alone.
    for (unsigned virtual_nmis = 0; virtual_nmis < 2; virtual_nmis++) {
        m_root_state(m);
        m->v->s.blocking = 0;
        pin(m, virtual_nmis ? PIN_NMI_EXITING | PIN_VIRTUAL_NMIS : 0);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_GP);
        m_write(m, VMCS_GUEST_RSP, M_STACK);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_NT); // no task switches in IA-32e mode
        m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
        assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
        assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    }
    m_free(m);
}

enum { M_PDPT32 = M_DATA + 0x800, M_PD32 = M_DATA + 0x1000 };

// A 32-bit guest with PAE paging.
static void pae_guest(struct vmx_machine *m, u32 proc2)
{
    m_vmcs_64(m);
    m_poke64(m, M_PDPT32, M_PD32 | 1);
    for (unsigned i = 1; i < 4; i++) m_poke64(m, M_PDPT32 + 8 * i, 0);
    for (unsigned i = 0; i < 4; i++) m_poke64(m, M_PD32 + 8 * i, (u64)i << 21 | 0x83);
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) & ~(u64)ENTRY_IA32E_MODE_GUEST);
    m_write(m, VMCS_GUEST_IA32_EFER, 0);
    m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, 0xC09B);
    m_write(m, VMCS_GUEST_CR3, M_PDPT32);
    m_write(m, VMCS_EPTP, M_EPT | 6 | 3 << 3);
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_poke64(m, M_EPT + 0x1000, 6 << 3 | 0x80 | 7);
    proc(m, PROC_HLT_EXITING, proc2);
}

static void pdptes(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    pae_guest(m, 0); // from memory at CR3
    m_poke64(m, M_PDPT32 + 8, 0x7001), m_poke64(m, M_PDPT32 + 24, 0x8001);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(m->entered.pdpte[0], M_PD32 | 1);
    assert_true(m->entered.pdpte[1] == 0x7001 && m->entered.pdpte[2] == 0 && m->entered.pdpte[3] == 0x8001);
    m_poke64(m, M_PDPT32 + 8, 0), m_poke64(m, M_PDPT32 + 24, 0);
    m_root_state(m);
    m_poke64(m, M_PDPT32 + 16, 1 | 2); // present, with a reserved bit
    assert_int_equal(M_ENTER(m, ""), 0x80000021);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2);
    // With EPT from the fields, and back into them. What memory says does not count.
    m_root_state(m);
    pae_guest(m, PROC2_ENABLE_EPT);
    m_poke64(m, M_PDPT32, 0);
    m_write(m, VMCS_GUEST_PDPTE0, M_PD32 | 1), m_write(m, VMCS_GUEST_PDPTE1, 0),
        m_write(m, VMCS_GUEST_PDPTE3, 0);
    m_write(m, VMCS_GUEST_PDPTE2, M_PD32 | 1);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(m->entered.pdpte[2], M_PD32 | 1);
    m_poke64(m, M_PDPT32, M_PD32 | 1);
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, "\x0F\x20\xD8\x0F\x22\xD8" /* mov eax, cr3; mov cr3, eax */),
                     EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_PDPTE2), 0);
    m_free(m);
}

static void real_mode_guest(void **state)
{
    struct vmx_machine *m = fresh();
    pae_guest(m, PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST);
    m_write(m, VMCS_GUEST_CR0, CR0_NE | CR0_ET), m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, 0x9B), m_write(m, VMCS_GUEST_CS_BASE, M_GUEST);
    m_write(m, VMCS_GUEST_CS_SELECTOR, M_GUEST >> 4), m_write(m, VMCS_GUEST_RIP, 0);
    for (unsigned i = 0; i < SEG_TR; i++) {
        if (i != SEG_LDTR) m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + i), 0xFFFF);
        if (i != SEG_LDTR && i != SEG_CS)
            m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_ACCESS_RIGHTS + i), 0x93);
    }
    // mov ax, 1000h; mov ds, ax; mov eax, cr0; or al, 1; mov cr0, eax: PE may change, NE may not.
    assert_int_equal(M_ENTER(m, "\xB8\x00\x10\x8E\xD8\x0F\x20\xC0\x0C\x01\x0F\x22\xC0"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_DS_BASE), 0x10000);
    assert_int_equal(m_read(m, VMCS_GUEST_CR0) & (CR0_PE | CR0_PG | CR0_NE), CR0_PE | CR0_NE);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), 13);
    m_free(m);
}

// A VM exit costs the same time whatever causes it and however it comes about: in an instruction, at the
// boundary, instead of an exception, in a delivery, for want of one.
static void exits_cost_alike(void **state)
{
    struct vmx_machine *m = fresh();
    // clang-format off
    static const struct { const char *code; u32 inject, bitmap, reason; bool bad_idt; } cases[] = {
        {"\x0F\xA2", 0, 0, EXIT_REASON_CPUID, false},
        {"\x90", 0x80000700, 0, EXIT_REASON_MONITOR_TRAP_FLAG, false},
        {"\x0F\x0B", 0, 1 << VEC_UD, EXIT_REASON_EXCEPTION_NMI, false},
        {"\x90", 0x80000306, 1 << VEC_GP, EXIT_REASON_EXCEPTION_NMI, true},
        {"\x90", 0x80000B08, 0, EXIT_REASON_TRIPLE_FAULT, true},
    };
    // clang-format on
    u64 took[ARRAY_LEN(cases)];
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        m_root_state(m);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        m_write(m, VMCS_EXCEPTION_BITMAP, cases[i].bitmap);
        m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, cases[i].inject);
        m_write(m, VMCS_GUEST_IDTR_LIMIT, cases[i].bad_idt ? 0 : 0xFFF);
        assert_int_equal(m_enter(m, cases[i].code, 2), cases[i].reason);
        took[i] = m->last_exit.vtime - m->last_entry.vtime;
    }
    assert_true(took[0] > CPU_TICKS_PER_UNIT);
    assert_int_equal(took[1], took[0]);
    assert_int_equal(took[2], took[0]);
    assert_true(took[3] > took[0]); // and the injection before them
    assert_int_equal(took[4], took[3]);
    m_free(m);
}

// INVLPG's qualification is the linear address (SDM 30.2.1): 32 bits wide outside 64-bit mode; in it only FS
// and GS have a base.
static void invlpg_qualification(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *gpr = m->v->s.gpr;
    m_vmcs_64(m);
    proc(m, PROC_HLT_EXITING | PROC_INVLPG_EXITING, 0);
    m_write(m, VMCS_GUEST_FS_BASE, 0xFFFF812345678000), m_write(m, VMCS_GUEST_DS_BASE, 0x10000);
    gpr[RDI] = 0x123456789000;
    assert_int_equal(M_ENTER(m, "\x0F\x01\x3F" /* invlpg [rdi] */), EXIT_REASON_INVLPG);
    assert_true(m_read(m, VMCS_EXIT_QUALIFICATION) == 0x123456789000);
    m_root_state(m);
    assert_int_equal(M_ENTER(m, "\x64\x0F\x01\x3F" /* invlpg fs:[rdi] */), EXIT_REASON_INVLPG);
    assert_true(m_read(m, VMCS_EXIT_QUALIFICATION) == 0xFFFF812345678000 + 0x123456789000);
    m_root_state(m);
    pae_guest(m, 0);
    proc(m, PROC_HLT_EXITING | PROC_INVLPG_EXITING, 0);
    m_write(m, VMCS_GUEST_FS_BASE, 0xFFFFF000), m_write(m, VMCS_GUEST_DS_BASE, 0x10000);
    gpr[RDI] = 0x3456;
    assert_int_equal(M_ENTER(m, "\x0F\x01\x3F"), EXIT_REASON_INVLPG);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x13456);
    m_root_state(m);
    assert_int_equal(M_ENTER(m, "\x64\x0F\x01\x3F"), EXIT_REASON_INVLPG);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x2456);
    m_free(m);
}

// EPT by pages of 4 KiB, one to one but for a hole.
static void map_all_but(struct vmx_machine *m, u64 hole)
{
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7), m_poke64(m, M_EPT + 0x1000, (M_EPT + 0x2000) | 7);
    m_poke64(m, M_EPT + 0x2000, (M_EPT + 0x3000) | 7);
    for (unsigned i = 0; i < 512; i++)
        m_poke64(m, M_EPT + 0x3000 + 8 * i, i == hole >> 12 ? 0 : (u64)i << 12 | 6 << 3 | 7);
}

// A host in 32-bit mode with PAE paging; its PDPTEs are checked on the way back. They are at a physical
// address, whatever EPT says of it.
static void host_32(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    for (unsigned round = 0; round < 3; round++) {
        bool bad = round == 2;
        pae_guest(m, round == 1 ? PROC2_ENABLE_EPT : 0);
        if (round == 1) {
            m_write(m, VMCS_GUEST_PDPTE0, M_PD32 | 1);
            map_all_but(m, M_PDPT32);
        }
        m->v->s.cr3 = M_PDPT32;
        m->v->s.msr.efer = 0;
        m->v->s.seg[SEG_CS].ar = 0xC09B;
        m->v->s.pdpte[0] = M_PD32 | 1;
        cpu_mode_changed(m->v);
        m_write(m, VMCS_HOST_CR3, M_PDPT32), m_write(m, VMCS_HOST_IA32_EFER, 0);
        m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
                m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) & ~(u64)EXIT_HOST_ADDRESS_SPACE_SIZE);
        // mov dword [M_PDPT32+8], 3: spoils an entry of the host's
        const char *code =
            bad ? "\xC7\x05\x08\x08\x05\x00\x03\x00\x00\x00" : "\x90\x90\x90\x90\x90\x90\x90\x90\x90\x90";
        if (!bad) {
            assert_int_equal(m_enter(m, code, 10), EXIT_REASON_HLT);
            assert_false(m->v->s.msr.efer & (EFER_LMA | EFER_LME));
            assert_int_equal(m->v->s.seg[SEG_CS].ar, 0xC09B);
            assert_int_equal(m->v->s.pdpte[0], M_PD32 | 1);
            continue;
        }
        m_poke(m, M_GUEST, code, 10);
        m_poke(m, M_GUEST + 10, "\xF4", 1);
        m_poke(m, M_CODE, I_VMRESUME, 3);
        assert_int_equal(m_go(m, M_CODE), -2);
        assert_int_equal(phys_read32(&m->phys, 0, M_VMCS + 4), VMX_ABORT_HOST_PDPTE);
        assert_int_equal(m->shutdowns, 1);
    }
    m_free(m);
}

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(debug_trap_in_hlt),   cmocka_unit_test(string_address_wraps), cmocka_unit_test(mwait_and_the_window),
        cmocka_unit_test(init_and_sipi), cmocka_unit_test(shutdown_state),    cmocka_unit_test(windows_end_halt),
        cmocka_unit_test(timer_to_the_tick), cmocka_unit_test(pause_loop),    cmocka_unit_test(nmi_unblocking),
        cmocka_unit_test(pdptes),        cmocka_unit_test(real_mode_guest),   cmocka_unit_test(host_32),
        cmocka_unit_test(tpr_threshold_goes_first), cmocka_unit_test(invlpg_qualification), cmocka_unit_test(exits_cost_alike),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}

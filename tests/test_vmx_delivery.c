// Events across the world switches: what VM entry injects and how it is delivered (SDM 29.6), exceptions that
// exit and what the exit says (SDM 30.2, 30.3), delivery that leads to an exit, shadows, pending debug
// exceptions, MTF. The guest's handlers are the machine's stubs: a HLT at M_STUBS + 16 * vector, which exits.
#include "vmx_machine.h"

#define STUB(vector) (M_STUBS + 16 * (vector))
enum { RSP0 = M_STACK - 0x800 };

// Where the guest is and its stack's frame after a delivery.
static void frame(struct vmx_machine *m, u64 out[6])
{
    u64 sp = m_read(m, VMCS_GUEST_RSP);
    for (unsigned i = 0; i < 6; i++) out[i] = phys_read64(&m->phys, 0, sp + 8 * i);
}

static struct vmx_machine *guest(void)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    // A gate that is not present: 40h. One whose handler's segment does not exist: 41h.
    m_poke64(m, M_IDT + 16 * 0x40, 0x00030E0000080000ull);
    m_poke64(m, M_IDT + 16 * 0x41, 0x00038E0001080000ull);
    return m;
}

static void again(struct vmx_machine *m) // a fresh guest in the same machine
{
    m_root_state(m);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_GUEST_RSP, RSP0);
    m_write(m, VMCS_GUEST_RFLAGS, 2);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, 0);
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0);
}

static void inject(struct vmx_machine *m, u32 event, u32 error, u32 length)
{
    m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, event);
    m_write(m, VMCS_INJECTED_EVENT_ERROR_CODE, error);
    m_write(m, VMCS_VM_ENTRY_INSTRUCTION_LENGTH, length);
}

static void injection_delivers(void **state)
{
    struct vmx_machine *m = guest();
    // clang-format off
    static const struct { u32 event, error, length; bool has_error; } cases[] = {
        {0x80000030, 0, 0, false},        {0x80000202, 0, 0, false}, {0x80000B0D, 0x1230, 0, true}, {0x80000B0E, 7, 0, true},
        {0x80000301, 0, 0, false},        {0x80000306, 0, 5, false}, {0x80000480, 0, 2, false},     {0x80000501, 0, 1, false},
        {0x80000603, 0, 1, false},        {0x80000604, 0, 4, false}, {0x80000480, 0, 0, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
        for (unsigned rf = 0; rf < 2; rf++) {
            u64 f[6], flags = 0x202 | (rf ? FL_RF : 0);
            u32 vector = cases[i].event & 0xFF, type = cases[i].event >> 8 & 7;
            bool software = type >= 4;
            again(m);
            m_write(m, VMCS_GUEST_RFLAGS, flags);
            inject(m, cases[i].event, cases[i].error, cases[i].length);
            m->v->s.cr2 = 0x123456;
            m->v->s.dr[6] = 0xFFFF0FF1;
            m_write(m, VMCS_GUEST_DR7, 0x2400); // GD: an ordinary #DB would clear it
            assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
            assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(vector));
            frame(m, f);
            u64 *p = f;
            if (cases[i].has_error) assert_int_equal(*p++, cases[i].error);
            assert_int_equal(p[0], M_GUEST + (software ? cases[i].length : 0));
            assert_int_equal(p[1], 8);
            assert_int_equal(p[2], flags);
            assert_int_equal(p[3], RSP0);
            assert_int_equal(p[4], 16);
            assert_int_equal(m_read(m, VMCS_GUEST_RSP), RSP0 - (cases[i].has_error ? 48 : 40));
            assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2); // interrupt gate
            assert_int_equal(m->v->s.cr2, 0x123456);
            assert_int_equal(m->v->s.dr[6], 0xFFFF0FF1);
            assert_int_equal(m_read(m, VMCS_GUEST_DR7), 0x2400);
            // The log names what was injected.
            assert_int_equal(m->last_entry.intr_info, cases[i].event);
            assert_int_equal(m->last_entry.error, cases[i].error);
            assert_int_equal(m->last_entry.rip, M_GUEST);
            // An exit clears only the valid bit, and it did not happen during a delivery.
            assert_int_equal(m_read(m, VMCS_INJECTED_EVENT_IDENTIFICATION), cases[i].event & 0x7FFFFFFF);
            assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
            assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION) >> 31, 0);
            // An injected NMI blocks NMIs.
            assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE),
                             type == EVT_NMI ? BLOCKING_BY_NMI : 0);
            m->v->s.blocking = 0;
        }
    m_free(m);
}

// The injected event does not exit, whatever the controls say; what it meets on the way does, and names it.
static void injection_meets_faults(void **state)
{
    struct vmx_machine *m = guest();
    u64 f[6];
    m_write(m, VMCS_EXCEPTION_BITMAP, ~(1u << VEC_NP));
    again(m);
    inject(m, 0x80000306, 0, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_UD));

    // clang-format off
    static const struct { u32 event, length; bool ext; } cases[] = {
        {0x80000040, 0, true}, {0x80000440, 2, false}, {0x80000540, 1, true}, {0x80000640, 3, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        u32 error = 0x40 * 8 + 2 + cases[i].ext;
        bool software = (cases[i].event >> 8 & 7) >= 4;
        again(m);
        m_write(m, VMCS_EXCEPTION_BITMAP, 0);
        m_write(m, VMCS_GUEST_RFLAGS, 0x202);
        inject(m, cases[i].event, 0, cases[i].length);
        assert_int_equal(M_ENTER(m, ""), EXIT_REASON_HLT); // #NP is delivered
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_NP));
        frame(m, f);
        assert_int_equal(f[0], error);
        assert_int_equal(f[1], M_GUEST); // of the nested exception: not behind the "instruction"
        assert_int_equal(f[3], 0x202 | FL_RF);

        again(m);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_NP);
        m_write(m, VMCS_GUEST_RFLAGS, 0x202);
        m_write(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH, 0x77);
        inject(m, cases[i].event, 0, cases[i].length);
        assert_int_equal(M_ENTER(m, ""), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0B);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), error);
        assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), cases[i].event);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
        assert_int_equal(m_read(m, VMCS_GUEST_RSP), RSP0);
        if (software) assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), cases[i].length);
    }
    // #GP for the segment behind gate 41h, during a #NP that was injected: both contributory, so #DF.
    m_poke64(m, M_IDT + 16 * VEC_NP, 0x00038E0001080000ull);
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DF);
    inject(m, 0x80000B0B, 0x50, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B08);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), 0);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
    // The same #GP, if it exits itself: its error code has EXT, and the #NP is the original event.
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_GP);
    inject(m, 0x80000B0B, 0x50, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), 0x109);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000B0B);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_ERROR_CODE), 0x50);
    // A #DF that cannot be delivered: triple fault, which has no original event.
    m_poke64(m, M_IDT + 16 * VEC_DF, 0x00038E0001080000ull);
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 0);
    inject(m, 0x80000B0B, 0x50, 0);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_TRIPLE_FAULT);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
    assert_int_equal(m->shutdowns, 0);
    m_free(m);
}

static void exceptions_exit(void **state)
{
    struct vmx_machine *m = guest();
    m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
    assert_int_equal(M_ENTER(m, "\x90\x0F\x0B"), EXIT_REASON_EXCEPTION_NMI); // ud2
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000306);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2 | FL_RF); // as its frame would have it
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);

    again(m);
    assert_int_equal(M_ENTER(m, "\x90\xCC"), EXIT_REASON_EXCEPTION_NMI); // int3
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000603);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 1);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    again(m);
    assert_int_equal(M_ENTER(m, "\xF1"), EXIT_REASON_EXCEPTION_NMI); // int1
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000501);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 1);
    again(m);
    assert_int_equal(M_ENTER(m, "\xCD\x03"), EXIT_REASON_HLT); // int 3: no exception
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(3));

    // #PF: the linear address is in the qualification, not in CR2. mov [0x7fffffff0000], al
    again(m);
    m->v->s.cr2 = 0x5555;
    assert_int_equal(M_ENTER(m, "\x48\xA2\x00\x00\xFF\xFF\xFF\x7F\x00\x00"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0E);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), 2);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x7FFFFFFF0000);
    assert_int_equal(m->v->s.cr2, 0x5555);
    // Error-code mask and match turn the bit's meaning around.
    // clang-format off
    static const struct { u32 bit, mask, match; bool exits; } pf[] = {
        {1, 0, 0, true}, {1, 2, 2, true}, {1, 2, 0, false}, {0, 2, 0, true}, {0, 2, 2, false}, {0, 0, 1, true}, {1, 1, 1, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(pf); i++) {
        again(m);
        m->v->s.cr2 = 0;
        m_write(m, VMCS_EXCEPTION_BITMAP, pf[i].bit << VEC_PF);
        m_write(m, VMCS_PAGE_FAULT_ERROR_CODE_MASK, pf[i].mask);
        m_write(m, VMCS_PAGE_FAULT_ERROR_CODE_MATCH, pf[i].match);
        s64 reason = M_ENTER(m, "\x48\xA2\x00\x00\xFF\xFF\xFF\x7F\x00\x00");
        assert_int_equal(reason, pf[i].exits ? EXIT_REASON_EXCEPTION_NMI : EXIT_REASON_HLT);
        assert_int_equal(m->v->s.cr2, pf[i].exits ? 0 : 0x7FFFFFFF0000);
    }
    // Single step: #DB as a trap, DR6 untouched, BS in the qualification.
    again(m);
    m->v->s.dr[6] = 0xFFFF0FF0;
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DB);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_TF);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000301);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x4000);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2 | FL_TF);
    assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
    assert_int_equal(m->v->s.dr[6], 0xFFFF0FF0);
    // Not intercepted it is an ordinary #DB.
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 0);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_TF);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_DB));
    assert_int_equal(m->v->s.dr[6], 0xFFFF4FF0);
    m_free(m);
}

// A fault in the shadow of STI or MOV SS ends the shadow: its handler runs without, and so does an exit on
// the way.
static void events_end_shadows(void **state)
{
    struct vmx_machine *m = guest();
    assert_int_equal(M_ENTER(m, "\xFB\x0F\x0B"), EXIT_REASON_HLT); // sti; ud2
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_UD));
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2);
    again(m);
    assert_int_equal(M_ENTER(m, "\x8E\xD0\x0F\x0B"), EXIT_REASON_HLT); // mov ss, eax; ud2
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    // MOV SS in the shadow of STI, and STI in that of MOV SS: one shadow at a time, since no entry accepts
    // both.
    again(m);
    assert_int_equal(M_ENTER(m, "\xFB\x8E\xD0\x0F\xA2"), EXIT_REASON_CPUID);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_MOV_SS);
    again(m);
    assert_int_equal(M_ENTER(m, "\x8E\xD0\xFB\x0F\xA2"), EXIT_REASON_CPUID);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_STI);
    // An exit of the exception itself keeps it.
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_UD);
    assert_int_equal(M_ENTER(m, "\xFB\x0F\x0B"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_STI);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 0x202 | FL_RF);
    // An exit on the way of the delivery does not: #UD's gate is not present, #NP exits.
    again(m);
    m_poke64(m, M_IDT + 16 * VEC_UD, 0x00030E0000080000ull);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_NP);
    assert_int_equal(M_ENTER(m, "\xFB\x0F\x0B"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0B);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 0x202 | FL_RF);
    m_free(m);
}

static void pending_debug_exceptions(void **state)
{
    struct vmx_machine *m = guest();
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DB);
    // Loaded by the entry: delivered before the first instruction.
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0x4000);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x4000);
    again(m);
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0x1003);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 3);
    // Bits without 12 or 14 say nothing.
    again(m);
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 3);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    // Under blocking by MOV SS: after one instruction.
    again(m);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_TF);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_MOV_SS);
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0x4000);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    // Dropped by an injected interrupt or exception.
    again(m);
    m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0x4000);
    inject(m, 0x80000306, 0, 0);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_UD));
    // Injected under blocking by MOV SS (SDM 29.7.3): a software interrupt or exception comes first, then the
    // handler's first instruction meets the trap, as after MOV SS with a breakpoint and INT n. All else drops
    // what is pending, and so does a software interrupt without the blocking.
    // clang-format off
    static const struct { u32 event, blocking; bool kept; } meets[] = {
        {0x80000480, BLOCKING_BY_MOV_SS, true},  {0x80000603, BLOCKING_BY_MOV_SS, true},  {0x80000604, BLOCKING_BY_MOV_SS, true},
        {0x80000306, BLOCKING_BY_MOV_SS, false}, {0x80000480, 0, false},            {0x80000603, 0, false},
        {0x80000480, BLOCKING_BY_STI, false},    {0x80000306, 0, false},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(meets); i++) {
        again(m);
        m_write(m, VMCS_GUEST_RFLAGS, meets[i].blocking == BLOCKING_BY_STI ? 0x202 : 2);
        m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, meets[i].blocking);
        m_write(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0x1002);
        inject(m, meets[i].event, 0, 1);
        assert_int_equal(M_ENTER(m, "\x90"), meets[i].kept ? EXIT_REASON_EXCEPTION_NMI : EXIT_REASON_HLT);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(meets[i].event & 0xFF));
        if (meets[i].kept) {
            assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000301);
            assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2);
            assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
        }
    }
    // An MTF exit leaves the single step pending.
    again(m);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_MONITOR_TRAP_FLAG);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_TF);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), 0x4000);
    m_free(m);
}

// Breakpoints by the guest's DR7: they count from the entry to the exit, and what they say is the exit's or
// stays pending (SDM 30.2.1, 30.3.4). DR0-DR3 are no part of the VMCS.
static void breakpoints(void **state)
{
    enum { CELL = M_STACK - 0x400 };
    struct vmx_machine *m = guest();
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_DEBUG_CONTROLS);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DB);
    m->v->s.dr[0] = CELL, m->v->s.dr[1] = M_GUEST + 2, m->v->s.dr[6] = 0xFFFF0FF0;
    for (unsigned round = 0; round < 3; round++) {
        // Data: a trap.
        again(m);
        m->v->s.gpr[RSI] = CELL;
        m_write(m, VMCS_GUEST_DR7, 0x000F0401);
        assert_int_equal(M_ENTER(m, "\x90\x89\x06\x90"), EXIT_REASON_EXCEPTION_NMI); // mov [rsi],eax
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000301);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 3);
        assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2);
        assert_int_equal(m_read(m, VMCS_GUEST_DR7), 0x000F0401);
        assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
        assert_true(m->v->s.dr[7] == 0x400 && m->v->s.dr[6] == 0xFFFF0FF0 && m->v->d.breaks.any == 0);
        // An instruction: a fault, with RF as it is.
        again(m);
        m_write(m, VMCS_GUEST_DR7, 0x404);
        assert_int_equal(M_ENTER(m, "\x90\x90\x90\x90"), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 2);
        assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), 2);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_RF); // the hypervisor lets it through
        assert_int_equal(M_ENTER(m, "\x90\x90\x90\x90"), EXIT_REASON_HLT);
        // Held back by MOV SS when the next instruction exits: pending, and delivered by the entry.
        for (unsigned tf = 0; tf < 2; tf++) {
            again(m);
            m_poke64(m, CELL, 0), m->v->s.gpr[RSI] = CELL;
            m_write(m, VMCS_GUEST_DR7, 0x000F0401);
            m_write(m, VMCS_GUEST_RFLAGS, 2 | (tf ? FL_TF : 0));
            assert_int_equal(M_ENTER(m, "\x8E\x16\x0F\xA2"), EXIT_REASON_CPUID); // mov ss,[rsi]
            assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_MOV_SS);
            assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), 0x1001 | (tf ? 0x4000 : 0));
            m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0); // as the hypervisor goes on behind CPUID
            m_write(m, VMCS_GUEST_RIP, M_GUEST + 4);
            assert_int_equal(M_ENTER(m, "\x8E\x16\x0F\xA2"), EXIT_REASON_EXCEPTION_NMI);
            assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 | (tf ? 0x4000 : 0));
            assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 4);
        }
        // Behind an instruction that loads one and faults, nothing is pending.
        again(m);
        m->v->s.gpr[RSI] = CELL;
        m_write(m, VMCS_GUEST_DR7, 0x000F0401);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DB | 1u << VEC_GP);
        m_poke64(m, CELL, 0x7FF8);
        assert_int_equal(M_ENTER(m, "\x8E\x1E"), EXIT_REASON_EXCEPTION_NMI); // mov ds,[rsi]
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
        assert_int_equal(m_read(m, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS), 0);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DB);
    }
    m_free(m);
}

static void monitor_trap_flag(void **state)
{
    struct vmx_machine *m = guest();
    // Injected: before any instruction, with the control off.
    inject(m, 0x80000700, 0, 0);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);

    u32 proc = (u32)m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_MONITOR_TRAP_FLAG;
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc);
    again(m);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 2);
    // After an injected event: before its handler's first instruction.
    again(m);
    inject(m, 0x80000306, 0, 0);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_UD));
    // An instruction that faults: before the handler. One that is a software interrupt likewise.
    again(m);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_UD));
    again(m);
    assert_int_equal(M_ENTER(m, "\xCD\x80"), EXIT_REASON_MONITOR_TRAP_FLAG);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(0x80));
    m_free(m);
}

// The trap comes between the iterations of a REP too, with RIP at the instruction and EFLAGS as they were
// before it.
static void monitor_trap_flag_in_rep(void **state)
{
    static const char code[][5] = {"\xF3\xA4\x90\x90", "\xF3\xA6\x90\x90", "\xF3\xAA\x90\x90",
                                   "\xF3\xAC\x90\x90", "\xF3\xAE\x90\x90", "\xF3\x6C\x90\x90",
                                   "\xF3\x6E\x90\x90"};
    struct vmx_machine *m = guest();
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_MONITOR_TRAP_FLAG);
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        bool compares = i == 1 || i == 4;
        again(m);
        m_write(m, VMCS_GUEST_RFLAGS, 2 | FL_CF);
        u64 *r = m->v->s.gpr;
        r[RAX] = 0, r[RCX] = 3, r[RDX] = 0x10, r[RSI] = M_DATA, r[RDI] = M_DATA + 0x800;
        m_poke64(m, M_DATA, 0), m_poke64(m, M_DATA + 0x800, 0);
        for (u64 left = 3; left--;) {
            assert_int_equal(m_enter(m, code[i], 4), EXIT_REASON_MONITOR_TRAP_FLAG);
            assert_int_equal(r[RCX], left);
            assert_int_equal(m_read(m, VMCS_GUEST_RIP), left ? M_GUEST : M_GUEST + 2);
            assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS) & FL_ARITH,
                             !left && compares ? FL_ZF | FL_PF : FL_CF);
            assert_int_equal(r[RDI], M_DATA + 0x800 + (i == 3 || i == 6 ? 0 : 3 - left));
        }
        assert_int_equal(m_enter(m, code[i], 4), EXIT_REASON_MONITOR_TRAP_FLAG);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 3);
    }
    m_free(m);
}

static void interrupts_and_nmis(void **state)
{
    struct vmx_machine *m = guest();
    u32 pin = (u32)m_read(m, VMCS_PIN_BASED_CONTROLS), exit = (u32)m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS);
    m->interrupt = 0x51;
    // Through the guest's IDT without the control.
    m_write(m, VMCS_GUEST_RFLAGS, 0x202);
    m->v->s.intr_line = true;
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(0x51));
    // With it: whatever IF is; acknowledged or not.
    m_write(m, VMCS_PIN_BASED_CONTROLS, pin | PIN_EXTERNAL_INTERRUPT_EXITING);
    again(m);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_EXTERNAL_INTERRUPT);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION) >> 31, 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS, exit | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    again(m);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_EXTERNAL_INTERRUPT);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000051);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    m->v->s.intr_line = false;

    // An NMI exits and blocks NMIs in the host; delivered without the control it blocks them in the guest.
    m_write(m, VMCS_PIN_BASED_CONTROLS, pin | PIN_NMI_EXITING);
    again(m);
    m->v->s.blocking = BLOCKING_BY_NMI; // held until the guest runs
    m->v->s.nmi_pending = true;
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000202);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    assert_int_equal(m->v->s.blocking, BLOCKING_BY_NMI);
    m_write(m, VMCS_PIN_BASED_CONTROLS, pin);
    again(m);
    m->v->s.blocking = BLOCKING_BY_NMI;
    m->v->s.nmi_pending = true;
    assert_int_equal(M_ENTER(m, "\x90\x90"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(2));
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
    assert_int_equal(m->v->s.blocking, BLOCKING_BY_NMI);
    // Virtual NMIs: an injected one blocks virtual NMIs, IRET ends that, the window opens then.
    m_write(m, VMCS_PIN_BASED_CONTROLS, pin | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    again(m);
    m->v->s.blocking = 0;
    inject(m, 0x80000202, 0, 0);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), BLOCKING_BY_NMI);
    assert_int_equal(m->v->s.blocking, 0);
    u32 proc = (u32)m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc | PROC_NMI_WINDOW_EXITING);
    m_poke(m, STUB(2), "\x48\xCF\xF4", 3); // iretq
    again(m);
    inject(m, 0x80000202, 0, 0);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_NMI_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    // The interrupt window: after the shadow of STI.
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc | PROC_INTERRUPT_WINDOW_EXITING);
    again(m);
    assert_int_equal(M_ENTER(m, "\x90\xFB\x90\x90"), EXIT_REASON_INTERRUPT_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 3);
    again(m);
    m_write(m, VMCS_GUEST_RFLAGS, 0x202);
    m_write(m, VMCS_GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_INTERRUPT_WINDOW);
    assert_int_equal(m_read(m, VMCS_GUEST_ACTIVITY_STATE), ACTIVITY_HLT);
    m_free(m);
}

// In real-address mode, its code at offset 0 of CS.
static struct vmx_machine *real_mode_guest(void)
{
    struct vmx_machine *m = guest();
    m_unrestricted(m);
    m_write(m, VMCS_GUEST_CR0, 0x30);
    m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_CS_BASE, M_GUEST);
    m_write(m, VMCS_GUEST_CS_SELECTOR, M_GUEST >> 4);
    m_write(m, VMCS_GUEST_CS_LIMIT, 0xFFFF);
    m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, 0x9B);
    m_write(m, VMCS_GUEST_RIP, 0);
    return m;
}

// An unusable segment faults in every mode but 64-bit mode, until it is loaded (SDM 29.3.2.2).
static void unusable_in_real_mode(void **state)
{
    // clang-format off
    static const struct { enum vmcs_field rights; const char *code; unsigned n; u32 vector; } cases[] = {
        {VMCS_GUEST_DS_ACCESS_RIGHTS, "\xA0\x00\x10", 3, VEC_GP},     // mov al, [1000h]
        {VMCS_GUEST_DS_ACCESS_RIGHTS, "\xA2\x00\x10", 3, VEC_GP},     // mov [1000h], al
        {VMCS_GUEST_ES_ACCESS_RIGHTS, "\xAA\x90\x90", 3, VEC_GP},     // stosb
        {VMCS_GUEST_FS_ACCESS_RIGHTS, "\x64\x8A\x07", 3, VEC_GP},     // mov al, fs:[bx]
        {VMCS_GUEST_GS_ACCESS_RIGHTS, "\x65\x8A\x07", 3, VEC_GP},     // mov al, gs:[bx]
        {VMCS_GUEST_SS_ACCESS_RIGHTS, "\x50\x90\x90", 3, VEC_SS},     // push ax
        {VMCS_GUEST_SS_ACCESS_RIGHTS, "\x8A\x46\x00", 3, VEC_SS},     // mov al, [bp]
        {VMCS_GUEST_SS_ACCESS_RIGHTS, "\xCD\x21\x90", 3, VEC_SS},     // int 21h: its frame
        {VMCS_GUEST_DS_ACCESS_RIGHTS, "\x8E\xD8\xA0\x00\x10", 5, 0}, // mov ds, ax; mov al, [1000h]
        {VMCS_GUEST_DS_ACCESS_RIGHTS, "\x8C\xD8\x90", 3, 0},          // mov ax, ds: no access
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct vmx_machine *m = real_mode_guest();
        m_write(m, VMCS_GUEST_IDTR_BASE, M_GUEST_IDT);
        m_write(m, cases[i].rights, m_read(m, cases[i].rights) | AR_UNUSABLE);
        m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
        m->v->s.gpr[RAX] = m->v->s.gpr[RBX] = m->v->s.gpr[RBP] = 0x100, m->v->s.gpr[RDI] = M_DATA & 0xFFFF;
        s64 reason = m_enter(m, cases[i].code, cases[i].n);
        if (!cases[i].vector) {
            assert_int_equal(reason, EXIT_REASON_HLT);
        } else {
            assert_int_equal(reason, EXIT_REASON_EXCEPTION_NMI);
            assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000300 | cases[i].vector);
            assert_int_equal(m_read(m, VMCS_GUEST_RIP), 0);
        }
        m_free(m);
    }
}

// Real-address mode has no error codes, not even that of #DF.
static void real_mode_double_fault(void **state)
{
    struct vmx_machine *m = real_mode_guest();
    m_write(m, VMCS_GUEST_IDTR_BASE, 0);
    m_write(m, VMCS_GUEST_IDTR_LIMIT, 6 * 4 - 1); // no entry for #UD, none for #GP
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DF);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000308);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_GP);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x8000030D);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    m_free(m);
}

// General detect: a #DB whose exit says BD (qualification bit 13, SDM table 30-1), and leaves DR6 and DR7
// alone.
static void general_detect_exits(void **state)
{
    struct vmx_machine *m = guest();
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            m_read(m, VMCS_PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_DEBUG_CONTROLS);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1u << VEC_DB);
    m_write(m, VMCS_GUEST_DR7, 0x2400);
    m->v->s.dr[6] = 0xFFFF0FF0;
    assert_int_equal(M_ENTER(m, "\x90\x0F\x21\xC0"), EXIT_REASON_EXCEPTION_NMI); // mov rax,dr0
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000301);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0x2000);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 1); // a fault
    assert_int_equal(m_read(m, VMCS_GUEST_DR7), 0x2400);
    assert_int_equal(m->v->s.dr[6], 0xFFFF0FF0);
    // Not intercepted it is delivered: DR6.BD is set, DR7.GD is clear.
    again(m);
    m_write(m, VMCS_EXCEPTION_BITMAP, 0);
    assert_int_equal(M_ENTER(m, "\x90\x0F\x21\xC0"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_DB));
    assert_int_equal(m_read(m, VMCS_GUEST_DR7), 0x400);
    assert_int_equal(m->v->s.dr[6], 0xFFFF2FF0);
    m_free(m);
}

// An EPT violation during the delivery of an event: RFLAGS.RF is saved as the frame would have had it
// (SDM 30.3.3), 1 for a fault and as it was for all else; without a delivery it is saved as 1.
static void rf_of_ept_violations(void **state)
{
    struct vmx_machine *m = guest();
    // EPT: 4 KiB pages of the first 2 MiB, of which the page below the guest's stack is not writable.
    enum { PD = M_EPT + 0x2000, PT = M_EPT + 0x3000, STACK_PAGE = M_STACK - 0x1000 };
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_poke64(m, M_EPT + 0x1000, PD | 7);
    m_poke64(m, PD, PT | 7);
    for (unsigned i = 0; i < 512; i++) m_poke64(m, PT + 8 * i, (u64)i << 12 | 0x37);
    m_poke64(m, PT + 8 * (STACK_PAGE >> 12), STACK_PAGE | 0x35);
    u32 proc = (u32)m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS;
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, proc);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_ENABLE_EPT);
    m_write(m, VMCS_EPTP, M_EPT | 0x1E);
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m_read(m, VMCS_VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    m->interrupt = 0x51;
    // clang-format off
    struct { const char *code; unsigned n; u64 flags, dr7; u32 inject; bool line; u32 event; u64 rip, rf; } c[] = {
        {"\x0F\x0B", 2, 2, 0x400, 0, false, 0x80000306, 0, FL_RF},                 // #UD, a fault
        {"\x0F\x0B", 2, 2 | FL_RF, 0x400, 0, false, 0x80000306, 0, FL_RF},
        {"\x48\xA2\0\0\xFF\xFF\xFF\x7F\0\0", 10, 2, 0x400, 0, false, 0x80000B0E, 0, FL_RF}, // #PF
        {"\xCC", 1, 2, 0x400, 0, false, 0x80000603, 0, 0},                          // INT3
        {"\xCD\x30", 2, 2, 0x400, 0, false, 0x80000430, 0, 0},                     // INT n
        {"\xF1", 1, 2, 0x400, 0, false, 0x80000501, 0, 0},                          // INT1
        {"\x90", 1, 2 | FL_TF, 0x400, 0, false, 0x80000301, 1, 0},                  // a single step, a trap
        {"\x0F\x21\xC0", 3, 2, 0x2400, 0, false, 0x80000301, 0, FL_RF},           // general detect, a fault
        {"\x90", 1, 0x202, 0x400, 0, true, 0x80000051, 0, 0},                       // an interrupt
        {"\x90", 1, 0x202 | FL_RF, 0x400, 0, true, 0x80000051, 0, FL_RF},           // before the instruction that RF is for
        {"\x90", 1, 2, 0x400, 0x80000306, false, 0x80000306, 0, 0},                 // injected: as the entry loaded RF
        {"\x90", 1, 2 | FL_RF, 0x400, 0x80000306, false, 0x80000306, 0, FL_RF},
        {"\x90\x50", 2, 2, 0x400, 0, false, 0, 1, FL_RF},                          // PUSH: no delivery
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        again(m);
        m_write(m, VMCS_GUEST_RSP, STACK_PAGE + 0x1000 - 8 * 6);
        m_write(m, VMCS_GUEST_RFLAGS, c[i].flags);
        m_write(m, VMCS_GUEST_DR7, c[i].dr7);
        inject(m, c[i].inject, 0, 0);
        m->v->s.intr_line = c[i].line;
        assert_int_equal(m_enter(m, c[i].code, c[i].n), EXIT_REASON_EPT_VIOLATION);
        m->v->s.intr_line = false;
        if (c[i].event)
            assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), c[i].event);
        else
            assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + c[i].rip);
        assert_int_equal(m_read(m, VMCS_GUEST_RFLAGS), (c[i].flags & ~(u64)FL_RF) | c[i].rf);
    }
    m_free(m);
}

enum { V86_SP = 0x8000 };
static void v86_state(struct vmx_machine *m, u64 flags, u64 cr4) // at the beginning of the guest's code, IP 0
{
    static const u16 sel[] = {0x111, M_GUEST >> 4, 0, 0x333, 0x444, 0x555}; // from ES to GS
    m_root_state(m);
    for (unsigned k = 0; k < ARRAY_LEN(sel); k++) {
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_SELECTOR + k), sel[k]);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_BASE + k), (u64)sel[k] << 4);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + k), 0xFFFF);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_ACCESS_RIGHTS + k), 0xF3);
    }
    m_write(m, VMCS_GUEST_RIP, 0), m_write(m, VMCS_GUEST_RSP, V86_SP);
    m_write(m, VMCS_GUEST_RFLAGS, flags | FL_VM);
    m_write(m, VMCS_GUEST_CR4, CR4_VMXE | cr4);
}

// A guest in virtual-8086 mode: its exits save what the entry checks accept, and an injected INT n goes by
// CR4.VME and the redirection bitmap alone, whatever IOPL (SDM 29.6.1.1).
static void virtual_8086_guest(void **state)
{
    struct vmx_machine *m = guest();
    enum { N = 0x85, TSS32 = M_TSS };
    m_unrestricted(m);
    m_write(m, VMCS_GUEST_CR0, 0x31);
    m_write(m, VMCS_GUEST_IA32_EFER, 0);
    m_write(m, VMCS_EXCEPTION_BITMAP, UINT32_MAX);
    // Gates of 32 bits at M_GUEST_IDT, whose handlers are the HLTs of the stubs; a code segment of 32 bits
    // behind selector 40h.
    m_poke64(m, M_GDT + 0x40, 0x00CF9B000000FFFF);
    for (unsigned i = 0; i < 256; i++) {
        u64 at = STUB(i);
        m_poke64(m, M_GUEST_IDT + 8 * i, (at & 0xFFFF) | 0x40 << 16 | 0xEE00ull << 32 | (at >> 16) << 48);
        phys_write32(&m->phys, 0, 4 * i, 0x1234 << 16 | 0x10); // the program's own handlers: 1234:0010
    }
    m_poke(m, 0x12350, "\x0F\xA2", 2); // cpuid
    m_write(m, VMCS_GUEST_IDTR_BASE, M_GUEST_IDT);
    m_write(m, VMCS_GUEST_TR_LIMIT, 0xFF);
    m_poke64(m, TSS32 + 4, M_STACK | 16ull << 32);
    m_poke64(m, TSS32 + 0x60, 0x0088ull << 48);
    // clang-format off
    static const struct { u64 flags, cr4; bool keep; u32 event; u64 length; s64 reason; u64 cs, rip; } c[] = {
        {0x3002, 0, false, 0, 0, EXIT_REASON_CPUID, M_GUEST >> 4, 0},
        {0x3002, 0, false, 0x80000400 | N, 2, EXIT_REASON_HLT, 0x40, STUB(N)},
        {0x0002, 0, false, 0x80000400 | N, 2, EXIT_REASON_HLT, 0x40, STUB(N)},
        {0x0002, CR4_VME, true, 0x80000400 | N, 2, EXIT_REASON_HLT, 0x40, STUB(N)},
        {0x0002, CR4_VME, false, 0x80000400 | N, 2, EXIT_REASON_CPUID, 0x1234, 0x10},
        {0x3002, CR4_VME, false, 0x80000400 | N, 2, EXIT_REASON_CPUID, 0x1234, 0x10},
        {0x0002, CR4_VME, false, 0x80000300 | VEC_UD, 0, EXIT_REASON_HLT, 0x40, STUB(VEC_UD)}, // not an INT n
        {0x0202, CR4_VME, false, 0x80000000 | N, 0, EXIT_REASON_HLT, 0x40, STUB(N)},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(c); i++) {
        v86_state(m, c[i].flags, c[i].cr4);
        m_poke64(m, TSS32 + 0x68 + (N / 8 & ~7), c[i].keep ? UINT64_MAX : 0);
        inject(m, c[i].event, 0, (u32)c[i].length);
        assert_int_equal(m_enter(m, "\x0F\xA2", 2), c[i].reason);
        bool left = c[i].reason == EXIT_REASON_HLT;
        assert_int_equal(m_read(m, VMCS_GUEST_CS_SELECTOR), c[i].cs);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), c[i].rip);
        assert_int_equal(!!(m_read(m, VMCS_GUEST_RFLAGS) & FL_VM), !left);
        if (left) {
            assert_int_equal(m_read(m, VMCS_GUEST_RSP), M_STACK - 36);
            assert_int_equal(phys_read32(&m->phys, 0, M_STACK - 36), c[i].length);
            assert_int_equal(phys_read32(&m->phys, 0, M_STACK - 32), M_GUEST >> 4);
            assert_int_equal(phys_read32(&m->phys, 0, M_STACK - 28), c[i].flags | FL_VM);
            assert_int_equal(phys_read32(&m->phys, 0, M_STACK - 4), 0x555);
            assert_int_equal(m_read(m, VMCS_GUEST_GS_ACCESS_RIGHTS) >> 16, 1);
        } else if (c[i].event)
            assert_int_equal(m_read(m, VMCS_GUEST_RSP), V86_SP - 6);
        m_write(m, VMCS_INJECTED_EVENT_IDENTIFICATION, 0);
        // What was saved can be entered again: the HLT of the handler, or the CPUID.
        assert_int_equal(m_enter(m, "\x0F\xA2", 2), c[i].reason);
    }
    // INT n below IOPL 3 is a #GP of the instruction, and VMREAD is #UD; neither happens during a delivery.
    // clang-format off
    static const struct { const char *code; unsigned n; u32 event; } f[] = {
        {"\xCD\x85", 2, 0x80000B0D}, {"\x0F\x78\xC8", 3, 0x80000306},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(f); i++) {
        v86_state(m, 2, 0);
        assert_int_equal(m_enter(m, f[i].code, f[i].n), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), f[i].event);
        assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), 0);
    }
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(injection_delivers),       cmocka_unit_test(injection_meets_faults),
        cmocka_unit_test(exceptions_exit),          cmocka_unit_test(events_end_shadows),
        cmocka_unit_test(pending_debug_exceptions), cmocka_unit_test(breakpoints),
        cmocka_unit_test(monitor_trap_flag),        cmocka_unit_test(monitor_trap_flag_in_rep),
        cmocka_unit_test(interrupts_and_nmis),      cmocka_unit_test(real_mode_double_fault),
        cmocka_unit_test(unusable_in_real_mode),    cmocka_unit_test(virtual_8086_guest),
        cmocka_unit_test(general_detect_exits),     cmocka_unit_test(rf_of_ept_violations),
    };
    return cmocka_run_group_tests_name("events across world switches", tests, NULL, NULL);
}

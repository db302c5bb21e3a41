// What VM-execution controls add to EPT, in a guest that runs: the page-modification log, virtualization
// exceptions, mode-based execute control, sub-page write permissions, five levels, the advanced information
// of violations, paging writes, guest-paging verification, HLAT paging (SDM 5.5.1, 28.5.7, 28.5.8, 30.2.1,
// 31.3). The walks themselves are in test_mmu_ept.c and test_mmu_fuzz.c. Every test runs in both engines.
#include "vmx_machine.h"

enum { // pages; EPT maps the 4 MiB of memory onto themselves, in 4 KiB pages
    ROOT = 0x300000,
    PDPT = 0x301000,
    PD = 0x302000,
    PT = 0x303000, // PT: two pages
    ROOT5 = 0x306000,
    LOG = 0x310000,
    INFO = 0x320000,
    SPP = 0x330000,
    LIST = 0x340000,
    P = 0x1F0000,
    Q = 0x1F1000,
    STACK = 0x1F8000
};
#define STUB(vector) (M_STUBS + 16 * (vector))
#define WB           (6 << 3)
#define A            0x100
#define D            0x200
#define XU           0x400
#define SUPPRESS     (1ull << 63)
#define SUBPAGES     (1ull << 61)
// Of a violation's qualification: the linear address, the final access, a user-mode, writable, executable
// page.
#define FINAL        (0x180 | 0x600)

static u64 leaf_at(u64 gpa) { return PT + (gpa >> 12) * 8; }
static u64 leaf(struct vmx_machine *m, u64 gpa) { return phys_read64(&m->phys, 0, leaf_at(gpa)); }
static void set_leaf(struct vmx_machine *m, u64 gpa, u64 bits) { m_poke64(m, leaf_at(gpa), gpa | bits); }

static void fresh(struct vmx_machine *m, u64 eptp_bits, u32 proc2)
{
    for (unsigned i = 0; i < 1024; i++) m_poke64(m, PT + 8 * i, (u64)i << 12 | WB | 7);
    m_poke64(m, ROOT, PDPT | 7), m_poke64(m, PDPT, PD | 7);
    m_poke64(m, PD, PT | 7), m_poke64(m, PD + 8, (PT + 0x1000) | 7);
    for (unsigned i = 0; i < 512; i++) m_poke64(m, LOG + 8 * i, 0), m_poke64(m, INFO + 8 * i, 0);
    m_poke64(m, M_PDPT, 0x87); // flags that an earlier guest set
    m_poke64(m, M_PML4, M_PDPT | 7);
    m_vmcs_64(m);
    m_root_state(m);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_ENABLE_EPT | proc2);
    m_write(m, VMCS_EPTP, ROOT | 0x1E | eptp_bits);
    m_write(m, VMCS_PML_ADDRESS, LOG), m_write(m, VMCS_PML_INDEX, 511);
    m_write(m, VMCS_VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, INFO);
    m_write(m, VMCS_SPPTP, SPP);
    m_write(m, VMCS_EXCEPTION_BITMAP, 0);
    m_write(m, VMCS_GUEST_RSP, STACK);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, 0);
    m->v->s.gpr[RDI] = P;
    m->v->s.gpr[RAX] = 0x11223344;
}

static struct vmx_machine *machine(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m->v->loop_engine = *state != NULL;
    return m;
}

static u64 logged(struct vmx_machine *m, unsigned n) { return phys_read64(&m->phys, 0, LOG + 8 * n); }
static u64 info(struct vmx_machine *m, unsigned at) { return phys_read64(&m->phys, 0, INFO + at); }

#define WRITE "\x89\x07" // mov [rdi], eax
#define READ  "\x8B\x07" // mov eax, [rdi]
#define AGAIN "\x89\x87" // mov [rdi + disp32], eax
#define AD    0x40

static void log_order(void **state)
{
    struct vmx_machine *m = machine(state);
    fresh(m, AD, PROC2_ENABLE_PML);
    m->v->s.gpr[RDI] = P + 0x123;
    assert_int_equal(M_ENTER(m, WRITE WRITE AGAIN "\x00\x10\x00\x00"), EXIT_REASON_HLT);
    // The guest's tables, written by the walk of the first fetch; then the two pages, once each.
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 511 - 4);
    assert_int_equal(logged(m, 511), M_PML4);
    assert_int_equal(logged(m, 510), M_PDPT);
    assert_int_equal(logged(m, 509), P);
    assert_int_equal(logged(m, 508), Q);
    assert_int_equal(logged(m, 507), 0);
    assert_int_equal(leaf(m, P) & (A | D), A | D);
    assert_int_equal(leaf(m, M_GUEST) & (A | D), A); // fetched: accessed, not logged
    // All of it is dirty now: nothing more is logged, though the TLB is empty after an entry without VPIDs.
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, WRITE WRITE AGAIN "\x00\x10\x00\x00"), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 511 - 4);
    // A dirty flag that the host has cleared is set and logged again.
    set_leaf(m, P, WB | 7 | A);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, READ WRITE), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 511 - 5);
    assert_int_equal(logged(m, 507), P);
    // Without EPT's accessed and dirty flags there is nothing to log.
    fresh(m, 0, PROC2_ENABLE_PML);
    m_write(m, VMCS_PML_INDEX, 0xFFFF);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
    assert_int_equal(leaf(m, P) & (A | D), 0);
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 0xFFFF);
    // Nor without the control.
    fresh(m, AD, 0);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 511);
    assert_int_equal(leaf(m, P) & (A | D), A | D);
    m_free(m);
}

static void warm(struct vmx_machine *m) // what the guest needs to start has its flags
{
    set_leaf(m, M_PML4, WB | 7 | A | D), set_leaf(m, M_PDPT, WB | 7 | A | D);
    set_leaf(m, M_GUEST, WB | 7 | A);
    set_leaf(m, M_IDT, WB | 7 | A), set_leaf(m, M_GDT, WB | 7 | A | D), set_leaf(m, M_STUBS, WB | 7 | A);
    static const u64 upper[] = {ROOT, PDPT, PD};
    for (unsigned i = 0; i < 3; i++) m_poke64(m, upper[i], phys_read64(&m->phys, 0, upper[i]) | A);
}

static void log_full(void **state)
{
    struct vmx_machine *m = machine(state);
    fresh(m, AD, PROC2_ENABLE_PML);
    warm(m);
    m_write(m, VMCS_PML_INDEX, 0);
    assert_int_equal(M_ENTER(m, WRITE AGAIN "\x00\x10\x00\x00"), EXIT_REASON_PML_FULL);
    // Entry 0 was written, and the index went round; the second page did not get its flag.
    assert_int_equal(logged(m, 0), P);
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 0xFFFF);
    assert_int_equal(leaf(m, P) & (A | D), A | D);
    assert_int_equal(leaf(m, Q) & (A | D), 0);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 2);
    assert_true(m_read(m, VMCS_GUEST_RFLAGS) & FL_RF); // as for a fault (SDM 30.3.3)
    assert_int_equal(phys_read32(&m->phys, 0, Q), 0);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
    // With room again the same instruction goes on.
    m_write(m, VMCS_PML_INDEX, 100);
    assert_int_equal(M_RUN(m, I_VMRESUME), -1);
    assert_int_equal(m_read(m, VMCS_EXIT_REASON), EXIT_REASON_HLT);
    assert_int_equal(logged(m, 100), Q);
    assert_int_equal(m_read(m, VMCS_PML_INDEX), 99);
    assert_int_equal(phys_read32(&m->phys, 0, Q), 0x11223344);

    // An accessed flag alone wants the check, but no entry.
    for (unsigned index = 511; index <= 512; index++) {
        fresh(m, AD, PROC2_ENABLE_PML);
        warm(m);
        m_write(m, VMCS_PML_INDEX, index);
        assert_int_equal(M_ENTER(m, READ), index == 511 ? EXIT_REASON_HLT : EXIT_REASON_PML_FULL);
        assert_int_equal(leaf(m, P) & (A | D), index == 511 ? A : 0);
        assert_int_equal(m_read(m, VMCS_PML_INDEX), index);
    }
    // No flag to set: a full log is nobody's business (Bochs looks at it in every walk).
    fresh(m, AD, PROC2_ENABLE_PML);
    warm(m);
    set_leaf(m, P, WB | 7 | A | D);
    m_write(m, VMCS_PML_INDEX, 0x8000);
    assert_int_equal(M_ENTER(m, READ WRITE), EXIT_REASON_HLT);
    // A violation comes first: the access is not allowed, so there is no flag to set.
    fresh(m, AD, PROC2_ENABLE_PML);
    warm(m);
    set_leaf(m, P, WB | 1);
    m_write(m, VMCS_PML_INDEX, 0xFFFF);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(leaf(m, P) & (A | D), 0);
    m_free(m);
}

static void log_full_on_the_way(void **state)
{
    struct vmx_machine *m = machine(state);
    // While #UD is delivered, by the write of its frame.
    fresh(m, AD, PROC2_ENABLE_PML);
    warm(m);
    m_write(m, VMCS_PML_INDEX, 0xFFFF);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_PML_FULL);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(m_read(m, VMCS_GUEST_RSP), STACK);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    // INT n: the instruction's length is told (SDM 30.2.5).
    fresh(m, AD, PROC2_ENABLE_PML);
    warm(m);
    m_write(m, VMCS_PML_INDEX, 0xFFFF);
    assert_int_equal(M_ENTER(m, "\xCD\x50"), EXIT_REASON_PML_FULL);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000450);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 2);
    // IRET that unblocks NMIs, by its read of the stack.
    fresh(m, AD, PROC2_ENABLE_PML);
    warm(m);
    m_write(m, VMCS_PML_INDEX, 0xFFFF);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
    assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_PML_FULL);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 << 12);
    assert_int_equal(m_read(m, VMCS_GUEST_INTERRUPTIBILITY_STATE), 0);
    m_free(m);
}

// ---- #VE ----

static void convertible(void **state)
{
    struct vmx_machine *m = machine(state);
    static const struct {
        u64 leaf, upper; // upper: of the PDE
        const char *code;
        u64 qualification; // 0: a misconfiguration
        bool ve;
    } cases[] = {
        {0, 7, WRITE, 2 | FINAL, true},
        {SUPPRESS, 7, WRITE, 2 | FINAL, false},
        {0x7FFFFFFFFFFFF000, 7, READ, 1 | FINAL, true}, // bits 62:3 are ignored
        {WB | 1, 7, WRITE, 2 | 0x08 | FINAL, true},
        {WB | 1 | SUPPRESS, 7, WRITE, 2 | 0x08 | FINAL, false},
        {WB | 7, 5 | SUPPRESS, WRITE, 2 | 0x28 | FINAL,
         true}, // the leaf decides, not who took the right away
        {WB | 7 | SUPPRESS, 5, WRITE, 2 | 0x28 | FINAL, false},
        {WB | 2, 7, WRITE, 0, false},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++)
        for (unsigned on = 0; on < 2; on++) {
            u64 gpa = cases[i].upper == 7 ? P : 0x210000; // the code is not under the second PDE
            bool ve = on && cases[i].ve;
            fresh(m, 0, on ? PROC2_EPT_VIOLATION_VE : 0);
            m_write(m, VMCS_EPTP_INDEX, 0x1234);
            m_poke64(m, PD + 8, (PT + 0x1000) | cases[i].upper);
            m_poke64(m, leaf_at(gpa), cases[i].leaf | (cases[i].leaf & WB ? gpa : 0));
            m->v->s.gpr[RDI] = gpa + 0x30;
            s64 reason = m_enter(m, cases[i].code, 2);
            assert_int_equal(reason, ve                       ? EXIT_REASON_HLT
                                     : cases[i].qualification ? EXIT_REASON_EPT_VIOLATION
                                                              : EXIT_REASON_EPT_MISCONFIGURATION);
            if (!ve) {
                assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), cases[i].qualification);
                assert_int_equal(info(m, 0), 0);
                continue;
            }
            u64 sp = m_read(m, VMCS_GUEST_RSP);
            assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_VE));
            assert_int_equal(sp, STACK - 40); // no error code
            assert_int_equal(phys_read64(&m->phys, 0, sp), M_GUEST);
            assert_true(phys_read64(&m->phys, 0, sp + 16) & FL_RF);
            assert_true(info(m, 0) == (0xFFFFFFFF00000000 | 48));
            assert_int_equal(info(m, 8), cases[i].qualification);
            assert_int_equal(info(m, 16), gpa + 0x30);
            assert_int_equal(info(m, 24), gpa + 0x30);
            assert_int_equal(info(m, 32), 0x1234);
            assert_int_equal(m->last_exit.reason, EXIT_REASON_HLT); // there was no other
        }
    // A paging-structure access, and a fetch.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    m_poke64(m, leaf_at(Q), 0);
    assert_int_equal(M_ENTER(m, "\x48\x8D\x87\x00\x10\x00\x00\xFF\xD0"), EXIT_REASON_HLT); // call P + 1000h
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_VE));
    assert_int_equal(info(m, 8), 4 | FINAL);
    assert_int_equal(info(m, 24), Q);
    m_free(m);
}

static void not_converted(void **state)
{
    struct vmx_machine *m = machine(state);
    // As long as the word at offset 4 is not 0.
    for (unsigned bit = 0; bit < 32; bit += 31) {
        fresh(m, 0, PROC2_EPT_VIOLATION_VE);
        m_poke64(m, leaf_at(P), 0);
        m_poke64(m, INFO, BIT(32 + bit) | 0x77);
        assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
        assert_true(info(m, 0) == (BIT(32 + bit) | 0x77));
        assert_int_equal(info(m, 24), 0);
    }
    // A second one exits: the first made it busy.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    m_poke64(m, leaf_at(P), 0);
    m_poke(m, STUB(VEC_VE), "\x8B\x07", 2);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_VE));
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION) >> 31, 0);
    m_poke(m, STUB(VEC_VE), "\xF4", 1);
    // While an event is delivered.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    m_poke64(m, leaf_at(STACK - 8), 0);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    assert_int_equal(info(m, 0), 0);
    // Nor while #VE itself is.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    m_poke64(m, leaf_at(STACK - 8), 0), m_poke64(m, leaf_at(P), 0);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000314);
    assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), STACK - 8);
    assert_int_equal(info(m, 24), P);
    // In real-address mode.
    fresh(m, 0, 0);
    m_unrestricted(m);
    m_write(m, VMCS_EPTP, ROOT | 0x1E);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS,
            PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_EPT_VIOLATION_VE);
    m_write(m, VMCS_GUEST_CR0, 0x20);
    m_write(m, VMCS_GUEST_IA32_EFER, 0);
    m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_RIP, 0x100);
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        if (i == SEG_LDTR || i == SEG_TR) continue;
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_SELECTOR + i), 0x1000);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_BASE + i), 0x10000);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + i), 0xFFFF);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_ACCESS_RIGHTS + i), i == SEG_CS ? 0x9B : 0x93);
    }
    m_poke(m, 0x10100, "\x88\x07", 2); // mov [bx], al
    m_poke64(m, leaf_at(0x1C000), 0);
    m->v->s.gpr[RBX] = 0xC000;
    assert_int_equal(M_ENTER(m, ""), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(info(m, 0), 0);
    // CR0.PG = 0: a user-mode, read/write, executable page (SDM table 30-7).
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2 | FINAL);
    assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), 0x1C000);
    m_free(m);
}

static void delivery_of_ve(void **state)
{
    struct vmx_machine *m = machine(state);
    // The exception bitmap makes an exit of it, with the information written.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_VE);
    m_poke64(m, leaf_at(P), 0);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000314);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST);
    assert_int_equal(info(m, 24), P);
    // In an IRET that unblocked NMIs: bit 12, there and in the information.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_VE);
    m_write(m, VMCS_GUEST_INTERRUPTIBILITY_STATE, BLOCKING_BY_NMI);
    m_write(m, VMCS_GUEST_RSP, P);
    m_poke64(m, leaf_at(P), 0);
    assert_int_equal(M_ENTER(m, "\x48\xCF"), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80001314);
    assert_int_equal(info(m, 8), 1 | FINAL | 1 << 12);
    // With the severity of a page fault: a contributory exception on the way makes #DF of it.
    fresh(m, 0, PROC2_EPT_VIOLATION_VE);
    u64 gate = phys_read64(&m->phys, 0, M_IDT + 16 * VEC_VE);
    m_poke64(m, M_IDT + 16 * VEC_VE, gate & ~BIT(47));
    m_poke64(m, leaf_at(P), 0);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_DF));
    m_poke64(m, M_IDT + 16 * VEC_VE, gate);
    m_free(m);
}

// ---- VMFUNC and the EPTP index ----

static void eptp_index(void **state)
{
    struct vmx_machine *m = machine(state);
    fresh(m, 0, PROC2_EPT_VIOLATION_VE | PROC2_ENABLE_VM_FUNCTIONS);
    m_write(m, VMCS_VM_FUNCTION_CONTROLS, 1);
    m_write(m, VMCS_EPTP_LIST_ADDRESS, LIST);
    m_write(m, VMCS_EPTP_INDEX, 9);
    m_poke64(m, LIST + 8 * 511, ROOT | 0x1E | AD);
    m_poke64(m, leaf_at(P), 0);
    m->v->s.gpr[RAX] = 0;
    m->v->s.gpr[RCX] = 0xABCDEF00000001FF; // ECX counts
    assert_int_equal(M_ENTER(m, I_VMFUNC READ), EXIT_REASON_HLT);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_VE));
    assert_int_equal(m_read(m, VMCS_EPTP_INDEX), 511);
    assert_int_equal(m_read(m, VMCS_EPTP), ROOT | 0x1E | AD);
    assert_int_equal(info(m, 32), 511);
    assert_true(leaf(m, M_GUEST) & A); // by the new EPTP
    // What exits, and leaves the index as it was: 512, an invalid entry, another walk length.
    static const struct {
        u64 rax, rcx, entry;
    } bad[] = {
        {0, 512, ROOT | 0x1E},      {0, 0xFFFFFFFF, ROOT | 0x1E}, {0, 2, ROOT | 0x1D}, {0, 2, ROOT | 0x11E},
        {0, 2, ROOT | 0x1E | 0x80}, {0, 2, BIT(60) | 0x1E},       {0, 2, ROOT | 0x26}, {0, 2, 0},
        {1, 2, ROOT | 0x1E},        {63, 2, ROOT | 0x1E},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        fresh(m, 0, PROC2_EPT_VIOLATION_VE | PROC2_ENABLE_VM_FUNCTIONS);
        m_write(m, VMCS_EPTP_INDEX, 9);
        m_poke64(m, LIST + 16, bad[i].entry);
        m->v->s.gpr[RAX] = bad[i].rax, m->v->s.gpr[RCX] = bad[i].rcx;
        assert_int_equal(M_ENTER(m, I_VMFUNC), EXIT_REASON_VMFUNC);
        assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 3);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 0);
        assert_int_equal(m_read(m, VMCS_EPTP_INDEX), 9);
        assert_int_equal(m_read(m, VMCS_EPTP), ROOT | 0x1E);
    }
    // EAX above 63, or VM functions off: #UD.
    for (unsigned on = 0; on < 2; on++) {
        fresh(m, 0, on ? PROC2_ENABLE_VM_FUNCTIONS : 0);
        m->v->s.gpr[RAX] = on ? 64 : 0, m->v->s.gpr[RCX] = 2;
        assert_int_equal(M_ENTER(m, I_VMFUNC), EXIT_REASON_HLT);
        assert_int_equal(m_read(m, VMCS_GUEST_RIP), STUB(VEC_UD));
    }
    m_free(m);
}

// ---- mode-based execute control ----

static void mode_based(void **state)
{
    struct vmx_machine *m = machine(state);
    const u32 mbec = PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT;
    for (unsigned user = 0; user < 2; user++)
        for (unsigned x = 0; x < 4; x++) { // bit 0: supervisor-mode addresses, bit 1: user-mode ones
            bool runs = user ? x & 2 : x & 1;
            u64 bits = 3 | (x & 1 ? 4 : 0) | (x & 2 ? XU : 0);
            fresh(m, 0, mbec);
            m_poke64(m, M_PDPT, user ? 0x87 : 0x83);
            static const u64 upper[] = {ROOT, PDPT, PD};
            for (unsigned i = 0; i < 3; i++) m_poke64(m, upper[i], phys_read64(&m->phys, 0, upper[i]) | XU);
            set_leaf(m, M_GUEST, WB | bits);
            assert_int_equal(M_ENTER(m, "\x90"), runs ? EXIT_REASON_HLT : EXIT_REASON_EPT_VIOLATION);
            if (runs) continue;
            assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 4 | 0x18 | (x & 1 ? 0x20 : 0) |
                                                                     (x & 2 ? 0x40 : 0) | 0x180 | 0x400 |
                                                                     (user ? 0x200 : 0));
        }
    // An entry with nothing but bit 10 is present with the control, and not without.
    for (unsigned on = 0; on < 2; on++) {
        fresh(m, 0, on ? mbec : 0);
        set_leaf(m, P, WB | XU);
        for (unsigned i = 0; on && i < 3; i++) {
            static const u64 upper[] = {ROOT, PDPT, PD};
            m_poke64(m, upper[i], phys_read64(&m->phys, 0, upper[i]) | XU);
            set_leaf(m, M_GUEST, WB | 7 | XU);
        }
        assert_int_equal(M_ENTER(m, READ), EXIT_REASON_EPT_VIOLATION);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 | FINAL | (on ? 0x40 : 0));
    }
    // The control changes from one guest to the next, which share VPID and tables: what is cached is judged
    // by it anew.
    m_poke64(m, P, 0);
    for (unsigned on = 0; on < 4; on++) {
        fresh(m, 0, PROC2_ENABLE_VPID | (on & 1 ? mbec : 0));
        m_write(m, VMCS_VPID, 5);
        assert_int_equal(M_ENTER(m, "\x90"), on & 1 ? EXIT_REASON_EPT_VIOLATION : EXIT_REASON_HLT);
    }
    m_free(m);
}

// ---- sub-page write permissions ----

static void spp_tables(struct vmx_machine *m, u64 vector)
{
    m_poke64(m, SPP, (SPP + 0x1000) | 1);
    m_poke64(m, SPP + 0x1000, (SPP + 0x2000) | 1);
    m_poke64(m, SPP + 0x2000, (SPP + 0x3000) | 1);
    m_poke64(m, SPP + 0x3000 + (P >> 12) * 8, vector);
}

static void start_subpages(struct vmx_machine *m, u64 vector)
{
    fresh(m, AD, PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
    spp_tables(m, vector);
    set_leaf(m, P, WB | 5 | SUBPAGES);
}

static void subpages(void **state)
{
    struct vmx_machine *m = machine(state);
    for (unsigned s = 0; s < 32; s++) { // each sub-page's own bit
        start_subpages(m, BIT(2 * s));
        m->v->s.gpr[RDI] = P + 128 * s + 124;
        assert_int_equal(M_ENTER(m, WRITE WRITE), EXIT_REASON_HLT);
        assert_int_equal(phys_read32(&m->phys, 0, P + 128 * s + 124), 0x11223344);
        assert_int_equal(leaf(m, P) & (A | D), A | D);
        start_subpages(m, 0x5555555555555555 & ~BIT(2 * s));
        m->v->s.gpr[RDI] = P + 128 * s;
        assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2 | 0x28 | FINAL);
        assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), P + 128 * s);
        assert_int_equal(leaf(m, P) & (A | D), 0);
    }
    // After one that is granted the page is no more writable than before; reads always pass.
    start_subpages(m, 1);
    assert_int_equal(M_ENTER(m, WRITE READ AGAIN "\x80\x00\x00\x00"), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_GUEST_RIP), M_GUEST + 4);
    assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), P + 128);
    // An access to two sub-pages needs both; a read-modify-write is a write.
    start_subpages(m, 1);
    m->v->s.gpr[RDI] = P + 126;
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    start_subpages(m, 5);
    m->v->s.gpr[RDI] = P + 126;
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
    start_subpages(m, 1);
    m->v->s.gpr[RDI] = P + 126;
    assert_int_equal(M_ENTER(m, "\xF0\xFF\x07"), EXIT_REASON_EPT_VIOLATION); // lock inc dword [rdi]
    start_subpages(m, 1);
    m_poke64(m, P, 41);
    assert_int_equal(M_ENTER(m, "\xF0\xFF\x07"), EXIT_REASON_HLT);
    assert_int_equal(phys_read32(&m->phys, 0, P), 42);
    // REP STOSB goes as far as it may.
    start_subpages(m, 5);
    memset(m->phys.ram + P, 0, 4096);
    m->v->s.gpr[RCX] = 1000;
    assert_int_equal(M_ENTER(m, "\xF3\xAA"), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), P + 256);
    assert_int_equal(m->v->s.gpr[RCX], 1000 - 256);
    assert_int_equal(m->v->s.gpr[RDI], P + 256);
    assert_int_equal(m->phys.ram[P + 255], 0x44);
    assert_int_equal(m->phys.ram[P + 256], 0);
    // Not eligible: bit 61 clear; no right at all; a fetch; a large page; the control off.
    start_subpages(m, 1);
    set_leaf(m, P, WB | 5);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    start_subpages(m, 1);
    m_poke64(m, leaf_at(P), P | SUBPAGES);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    start_subpages(m, 1);
    set_leaf(m, P, WB | 1 | SUBPAGES);
    assert_int_equal(M_ENTER(m, "\xFF\xD7"), EXIT_REASON_EPT_VIOLATION);
    start_subpages(m, 1);
    m_poke64(m, PD + 8, 0x200000 | 0x80 | WB | 5 | SUBPAGES);
    m_poke64(m, SPP + 0x2000 + 8, (SPP + 0x3000) | 1);
    m->v->s.gpr[RDI] = 0x200000;
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    start_subpages(m, 1);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_ENABLE_EPT);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    // A right that an upper entry takes away is no less a write right (SDM 31.3.4.1).
    start_subpages(m, 1);
    set_leaf(m, P, WB | 7 | SUBPAGES);
    m_poke64(m, PT + 0x1000, 0); // nothing of ours is there
    m_poke64(m, PD, PT | 5);
    for (unsigned ad = 0; ad < 2; ad++) { // the guest's tables are not writable either now: not with A/D
        m_write(m, VMCS_EPTP, ROOT | 0x1E | (ad ? AD : 0));
        m_poke64(m, M_PML4, M_PDPT | 0x27), m_poke64(m, M_PDPT, 0xE7);
        m_write(m, VMCS_GUEST_RIP, M_GUEST);
        assert_int_equal(M_ENTER(m, WRITE), ad ? EXIT_REASON_EPT_VIOLATION : EXIT_REASON_HLT);
    }
    m_free(m);
}

static void subpage_events(void **state)
{
    struct vmx_machine *m = machine(state);
    static const u64 slot[] = {SPP, SPP + 0x1000, SPP + 0x2000, SPP + 0x3000 + (P >> 12) * 8};
    for (unsigned level = 0; level < 4; level++)
        for (unsigned bit = 0; bit < 64; bit++) {
            bool reserved = level == 3 ? bit & 1 : (bit >= 1 && bit <= 11) || bit >= m->features.maxphyaddr;
            bool miss = level < 3 && bit == 0;
            if (!reserved && !miss) continue;
            start_subpages(m, 1);
            m_poke64(m, slot[level], phys_read64(&m->phys, 0, slot[level]) ^ BIT(bit));
            m->v->s.gpr[RDI] = P + 0x18;
            assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_SPP);
            assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), miss ? 1 << 11 : 0);
            assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), P + 0x18);
            assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), P + 0x18);
            assert_true(m_read(m, VMCS_GUEST_RFLAGS) & FL_RF);
            assert_int_equal(leaf(m, P) & (A | D), 0);
        }
    // An entry that is not valid may hold anything else.
    start_subpages(m, 1);
    m_poke64(m, SPP, ~1ull);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_SPP);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 << 11);
    // During a delivery.
    start_subpages(m, 1);
    m_poke64(m, SPP, 0);
    m_write(m, VMCS_GUEST_RSP, P + 0x800);
    assert_int_equal(M_ENTER(m, "\x0F\x0B"), EXIT_REASON_SPP);
    assert_int_equal(m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION), 0x80000306);
    // Logged, as any write is.
    start_subpages(m, 1);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS,
            PROC2_ENABLE_EPT | PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT | PROC2_ENABLE_PML);
    warm(m);
    m_write(m, VMCS_PML_INDEX, 7);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
    assert_int_equal(logged(m, 7), P);
    m_free(m);
}

// ---- tertiary controls: paging writes, guest-paging verification, HLAT ----

static void tertiary(struct vmx_machine *m, u64 eptp_bits, u32 proc3)
{
    fresh(m, eptp_bits, 0);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_TERTIARY_CONTROLS);
    m_write(m, VMCS_TERTIARY_PROC_BASED_CONTROLS, proc3);
    m_write(m, VMCS_HLATP, 0), m_write(m, VMCS_HLAT_PREFIX_SIZE, 0);
}

static void paging_writes(void **state)
{
    struct vmx_machine *m = machine(state);
    enum { G4 = 0x354000, G3 = 0x355000 }; // tables that the root does not use
    const u64 pw = BIT(58);
    for (unsigned ad = 0; ad < 2; ad++)
        for (unsigned on = 0; on < 2; on++)
            for (unsigned bit = 0; bit < 2; bit++) {
                bool runs = on && bit; // the accessed flag of the PDPTE is to be set, A/D or not
                tertiary(m, ad ? AD : 0, on ? PROC3_EPT_PAGING_WRITE_CONTROL : 0);
                m_poke64(m, G4, G3 | 7), m_poke64(m, G3, 0x87);
                m_write(m, VMCS_GUEST_CR3, G4);
                set_leaf(m, G3, WB | 1 | (bit ? pw : 0));
                assert_int_equal(M_ENTER(m, "\x90"), runs ? EXIT_REASON_HLT : EXIT_REASON_EPT_VIOLATION);
                if (!runs) assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 3 | 0x08 | 0x80);
                assert_int_equal(phys_read64(&m->phys, 0, G3) & 0x20, runs ? 0x20 : 0);
                assert_int_equal(leaf(m, G3) & (A | D), runs && ad ? A | D : 0);
            }
    // It is no right for the guest's own writes.
    tertiary(m, 0, PROC3_EPT_PAGING_WRITE_CONTROL);
    set_leaf(m, P, WB | 1 | pw);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    // Entries above the leaf must be writable.
    tertiary(m, 0, PROC3_EPT_PAGING_WRITE_CONTROL);
    m_poke64(m, G4, G3 | 7), m_poke64(m, G3, 0x87);
    m_write(m, VMCS_GUEST_CR3, G4);
    set_leaf(m, G3, WB | 1 | pw), set_leaf(m, G4, WB | 1 | pw);
    m_poke64(m, PD + 8, (PT + 0x1000) | 5);
    assert_int_equal(M_ENTER(m, "\x90"), EXIT_REASON_EPT_VIOLATION);
    // On a page that cannot be read it is a misconfiguration, if the control is 1.
    for (unsigned on = 0; on < 2; on++) {
        tertiary(m, 0, on ? PROC3_EPT_PAGING_WRITE_CONTROL : 0);
        set_leaf(m, P, WB | 4 | pw);
        assert_int_equal(M_ENTER(m, READ), on ? EXIT_REASON_EPT_MISCONFIGURATION : EXIT_REASON_EPT_VIOLATION);
    }
    m_free(m);
}

static void verification(void **state)
{
    struct vmx_machine *m = machine(state);
    const u64 pw = BIT(58), verify = BIT(57);
    for (unsigned n = 0; n < 32; n++) {
        bool gpv = n & 1, pwc = n & 2, bit57 = n & 4, root58 = n & 8, table58 = n & 16;
        bool fails = gpv && pwc && bit57 && !(root58 && table58);
        tertiary(m, 0,
                 (gpv ? PROC3_GUEST_PAGING_VERIFICATION : 0) | (pwc ? PROC3_EPT_PAGING_WRITE_CONTROL : 0));
        set_leaf(m, M_PML4, WB | 7 | (root58 ? pw : 0));
        set_leaf(m, M_PDPT, WB | 7 | (table58 ? pw : 0));
        set_leaf(m, P, WB | 7 | (bit57 ? verify : 0));
        m->v->s.gpr[RDI] = P + 8;
        assert_int_equal(M_ENTER(m, READ), fails ? EXIT_REASON_EPT_VIOLATION : EXIT_REASON_HLT);
        if (!fails) continue;
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 | 0x38 | FINAL | 1 << 15);
        assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), P + 8);
        assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), P + 8);
    }
    m_free(m);
}

enum { H4 = 0x350000, H3 = 0x351000, H2 = 0x352000, HPT = 0x353000 }; // HLAT's tables
#define HIGH    0xFFFFFFFF80000000ull
#define RESTART 0x800

// Ordinary paging has guest-physical 0 at HIGH; HLAT has guest-physical 2 MiB there.
static void start_hlat(struct vmx_machine *m, bool on, u16 prefix)
{
    tertiary(m, 0, on ? PROC3_ENABLE_HLAT : 0);
    m_write(m, VMCS_HLATP, H4 | 0x18), m_write(m, VMCS_HLAT_PREFIX_SIZE, prefix);
    m_poke64(m, M_PML4 + 511 * 8, M_PDPT | 7), m_poke64(m, M_PDPT + 510 * 8, 0x87);
    m_poke64(m, H4, RESTART | 1), m_poke64(m, H4 + 511 * 8, H3 | 7);
    m_poke64(m, H3 + 510 * 8, H2 | 7);
    m_poke64(m, H2, 0x200087);
    m->v->s.gpr[RDI] = HIGH;
}

static void hlat(void **state)
{
    struct vmx_machine *m = machine(state);
    for (unsigned n = 0; n < 4; n++) {
        bool on = n & 1;
        start_hlat(m, on, n >> 1);
        m_poke64(m, 0x200000, 0x600D), m_poke64(m, 0, 0xBAD);
        assert_int_equal(M_ENTER(m, READ), EXIT_REASON_HLT);
        assert_int_equal((u32)m->v->s.gpr[RAX], on ? 0x600D : 0xBAD);
        assert_int_equal(phys_read64(&m->phys, 0, H2) & 0x20, on ? 0x20 : 0); // accessed
        // An address without bit 63: by HLAT only with prefix size 0. Its map has the next page at P.
        start_hlat(m, on, n >> 1);
        m_poke64(m, H4, H3 | 7), m_poke64(m, H3, (H2 + 0x2000) | 7), m_poke64(m, H2 + 0x2000, HPT | 7);
        for (u64 i = 0; i < 512; i++) m_poke64(m, HPT + 8 * i, i << 12 == P ? Q | 7 : RESTART | 1);
        m_poke64(m, P, 0x1111), m_poke64(m, Q, 0x2222);
        m->v->s.gpr[RDI] = P;
        assert_int_equal(M_ENTER(m, READ), EXIT_REASON_HLT);
        assert_int_equal((u32)m->v->s.gpr[RAX], on && !(n >> 1) ? 0x2222 : 0x1111);
        m_poke64(m, P, 0), m_poke64(m, Q, 0);
    }
    // #PF by HLAT: bit 7 of the error code, for what is not present or reserved, not for rights.
    static const struct {
        u64 pde;
        u32 error;
        const char *code;
    } faults[] = {
        {0, 0x80, READ},        {0, 0x82, WRITE},       {RESTART, 0x80, READ},
        {0x202087, 0x89, READ}, {0x202887, 0x89, READ}, {0x200085, 0x03, WRITE},
    };
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++) {
        start_hlat(m, true, 1);
        m_write(m, VMCS_EXCEPTION_BITMAP, 1 << VEC_PF);
        m_poke64(m, H2, faults[i].pde);
        assert_int_equal(m_enter(m, faults[i].code, 2), EXIT_REASON_EXCEPTION_NMI);
        assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), faults[i].error);
        assert_true(m_read(m, VMCS_EXIT_QUALIFICATION) == HIGH);
    }
    // A restart at each level; the rights are those of ordinary paging alone.
    for (unsigned level = 1; level < 4; level++) {
        start_hlat(m, true, 1);
        m_poke64(m, H4 + 511 * 8, level == 3 ? RESTART | 1 : H3 | 5);
        m_poke64(m, H3 + 510 * 8, level == 2 ? RESTART | 1 : H2 | 5);
        m_poke64(m, H2, RESTART | 0x81);
        m_poke64(m, 0, 0);
        assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
        assert_int_equal(phys_read32(&m->phys, 0, 0), 0x11223344);
    }
    // The HLATP is a guest-physical address.
    start_hlat(m, true, 1);
    m_poke64(m, leaf_at(H4), 0);
    assert_int_equal(M_ENTER(m, READ), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS), H4 + 511 * 8);
    assert_true(m_read(m, VMCS_GUEST_LINEAR_ADDRESS) == HIGH);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 | 0x80);
    m_poke64(m, M_PML4 + 511 * 8, 0), m_poke64(m, M_PDPT + 510 * 8, 0);
    m_free(m);
}

// ---- five levels ----

static void five_levels(void **state)
{
    struct vmx_machine *m = machine(state);
    fresh(m, 0, 0);
    m_poke64(m, ROOT5, ROOT | 7);
    m_write(m, VMCS_EPTP, ROOT5 | 0x26);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_HLT);
    m_poke64(m, ROOT5, ROOT | 5);
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_VIOLATION);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 2 | 0x28 | FINAL);
    m_poke64(m, ROOT5, ROOT | 0x87);
    assert_int_equal(M_ENTER(m, WRITE), EXIT_REASON_EPT_MISCONFIGURATION);
    m_free(m);
}

// ---- advanced information ----

static void advanced(void **state)
{
    struct vmx_machine *m = machine(state);
    for (unsigned n = 0; n < 8; n++) { // user-mode, writable, execute-disable
        fresh(m, 0, 0);
        // The second GiB of linear addresses is the first of guest-physical ones, with these rights.
        m_poke64(m, M_PDPT + 8, 0x81 | (n & 1 ? 4 : 0) | (n & 2 ? 2 : 0) | (n & 4 ? BIT(63) : 0));
        m_poke64(m, leaf_at(P), 0);
        m->v->s.gpr[RDI] = 0x40000000 + P;
        assert_int_equal(M_ENTER(m, READ), EXIT_REASON_EPT_VIOLATION);
        assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), 1 | 0x180 | n << 9);
        assert_int_equal(m_read(m, VMCS_GUEST_LINEAR_ADDRESS), 0x40000000 + P);
    }
    m_poke64(m, M_PDPT + 8, 0);
    m_free(m);
}

#define BOTH(f) cmocka_unit_test_prestate(f, NULL), cmocka_unit_test_prestate(f, &loop)
int main(void)
{
    static char loop;
    const struct CMUnitTest tests[] = {BOTH(log_order),      BOTH(log_full),      BOTH(log_full_on_the_way),
                                       BOTH(convertible),    BOTH(not_converted), BOTH(delivery_of_ve),
                                       BOTH(eptp_index),     BOTH(mode_based),    BOTH(subpages),
                                       BOTH(subpage_events), BOTH(five_levels),   BOTH(paging_writes),
                                       BOTH(verification),   BOTH(hlat),          BOTH(advanced)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

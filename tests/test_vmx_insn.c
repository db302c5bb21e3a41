// The VMX instructions: every outcome that the manual lists for them, in its order, each error number.
#include "vmx_machine.h"

static void vmxon(void **state)
{
    struct vmx_machine *m = m_new();
    m_operand(m, M_VMXON, 0);
    assert_int_equal(M_RUN(m, I_VMXOFF), VEC_UD); // outside VMX operation
    assert_int_equal(M_RUN(m, I_VMCALL), VEC_UD);
    assert_int_equal(M_RUN(m, I_VMREAD), VEC_UD);
    m_operand(m, M_VMXON, 0);
    m->v->s.cr4 &= ~(u64)CR4_VMXE;
    assert_int_equal(M_RUN(m, I_VMXON), VEC_UD);
    m_root_state(m), m_operand(m, M_VMXON, 0);
    m->v->s.cr0 &= ~(u64)CR0_NE;
    assert_int_equal(M_RUN(m, I_VMXON), VEC_GP);
    m_root_state(m), m_operand(m, M_VMXON, 0);
    m->v->s.msr.feature_control = 4; // not locked
    assert_int_equal(M_RUN(m, I_VMXON), VEC_GP);
    m->v->s.msr.feature_control = 1;
    m_root_state(m), m_operand(m, M_VMXON, 0);
    assert_int_equal(M_RUN(m, I_VMXON), VEC_GP);
    m->v->s.msr.feature_control = 5;
    m_root_state(m);
    m->v->s.gpr[RDI] = 0x5000000000; // beyond what is mapped
    assert_int_equal(M_RUN(m, I_VMXON), VEC_PF);
    m_root_state(m);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON + 8), 'I');
    assert_int_equal(M_VMX(m, I_VMXON, 1ull << m->features.maxphyaddr), 'I');
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION + 1);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 'I');
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION | VMCS_SHADOW);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 'I');
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION);
    assert_false(m->v->s.vmx.on);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 0);
    assert_true(m->v->s.vmx.on);
    assert_int_equal(M_VMX(m, I_VMPTRST, 0), 0);
    assert_true(phys_read64(&m->phys, 0, M_DATA) == UINT64_MAX);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 'I'); // again: no current VMCS
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 15);
    assert_int_equal(M_VMX(m, I_VMXOFF, 0), 0);
    assert_false(m->v->s.vmx.on);
    m_free(m);
}

static void pointers(void **state)
{
    struct vmx_machine *m = m_new();
    u64 wide = 1ull << m->features.maxphyaddr;
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 0);
    assert_int_equal(M_VMX(m, I_VMCLEAR, 8), 'I'); // errors without a current VMCS
    assert_int_equal(M_VMX(m, I_VMPTRLD, 8), 'I');
    assert_int_equal(M_VMX(m, I_VMCALL, 0), 'I');
    assert_int_equal(M_VMX(m, I_VMLAUNCH, 0), 'I');
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 'I');
    assert_int_equal(M_VMX(m, I_VMREAD, 0), 'I');
    assert_int_equal(M_VMX(m, I_VMWRITE, 0), 'I');
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS + 8), 2);
    assert_int_equal(M_VMX(m, I_VMCLEAR, wide), 2);
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMXON), 3);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS + 8), 9);
    assert_int_equal(M_VMX(m, I_VMPTRLD, wide), 9);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMXON), 10);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_DATA), 11);
    assert_int_equal(M_VMX(m, I_VMPTRLD, 0xFED00000), 11); // no RAM there
    assert_int_equal(M_VMX(m, I_VMPTRST, 0), 0);
    assert_int_equal(phys_read64(&m->phys, 0, M_DATA), M_VMCS);
    assert_int_equal(M_VMX(m, I_VMCALL, 0), 1);
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 5);
    m->v->s.blocking = BLOCKING_BY_MOV_SS, m->v->s.shadow_one = true;
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 26);
    phys_write32(&m->phys, 0, M_VMCS + 8, VMCS_LAUNCH_LAUNCHED);
    assert_int_equal(M_VMX(m, I_VMLAUNCH, 0), 4);
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 7);
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
    assert_true(m->v->s.vmx.vmcs_pointer == VMX_NO_POINTER);
    assert_int_equal(phys_read32(&m->phys, 0, M_VMCS + 8), VMCS_LAUNCH_CLEAR);
    m_free(m);
}

static void every_field(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *gpr = m->v->s.gpr;
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field_row *r = &vmcs_field_rows[i];
        bool exists = m->v->vmx->caps.exists[i];
        u64 x = 0x8123456789ABCDEFull ^ (u64)i << 12;
        gpr[RCX] = r->encoding, gpr[RAX] = x;
        unsigned o = M_VMX(m, I_VMWRITE, 0);
        assert_int_equal(o, exists ? 0 : 12);
        gpr[RAX] = 0x55;
        assert_int_equal(M_VMX(m, I_VMREAD, 0), exists ? 0 : 12);
        u64 want = r->size == 2 ? (u16)x : r->size == 4 ? (u32)x : x;
        if (i == VMCS_VM_INSTRUCTION_ERROR) want = (u32)x;
        assert_true(gpr[RAX] == (exists ? want : 0x55));
        // The high half.
        gpr[RCX] = r->encoding | 1, gpr[RAX] = 0x77;
        bool high = exists && r->width == WIDTH_64;
        assert_int_equal(M_VMX(m, I_VMREAD, 0), high ? 0 : 12);
        assert_true(gpr[RAX] == (high ? x >> 32 : 0x77));
        if (!high) continue;
        gpr[RAX] = 0xFFFFFFFF11223344;
        assert_int_equal(M_VMX(m, I_VMWRITE, 0), 0);
        gpr[RCX] = r->encoding;
        assert_int_equal(M_VMX(m, I_VMREAD, 0), 0);
        assert_true(gpr[RAX] == (0x1122334400000000 | (u32)x));
    }
    gpr[RCX] = 0x100006800; // bits 63:32
    assert_int_equal(M_VMX(m, I_VMREAD, 0), 12);
    gpr[RCX] = 0x482C;
    assert_int_equal(M_VMX(m, I_VMREAD, 0), 12);
    assert_int_equal(M_VMX(m, I_VMWRITE, 0), 12);
    // Memory operands: VMREAD checks the field before the operand, VMWRITE after.
    gpr[RCX] = 0x482C, gpr[RDI] = 0x5000000000;
    assert_int_equal(M_RUN(m, "\x0F\x78\x0F"), -1); // vmread [rdi], rcx
    assert_int_equal(m_outcome(m), 12);
    gpr[RDI] = 0x5000000000;
    assert_int_equal(M_RUN(m, "\x0F\x79\x0F"), VEC_PF); // vmwrite rcx, [rdi]
    m_root_state(m);
    gpr[RCX] = 0x6800, gpr[RDI] = M_DATA;
    m_poke64(m, M_DATA, 0x1234);
    assert_int_equal(M_RUN(m, "\x0F\x79\x0F"), -1);
    assert_int_equal(m_read(m, VMCS_GUEST_CR0), 0x1234);
    m_free(m);
}

static void invept_invvpid(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *rcx = &m->v->s.gpr[RCX];
    const u64 eptp = M_EPT | 6 | 3 << 3;
#define INV(code, type, a, b) \
    (*rcx = (type), m_operand(m, a, b), assert_int_equal(M_RUN(m, code), -1), m_outcome(m))
    assert_int_equal(INV(I_INVEPT, 0, eptp, 0), 28);
    assert_int_equal(INV(I_INVEPT, 3, eptp, 0), 28);
    assert_int_equal(INV(I_INVEPT, 0x100000001, eptp, 0), 28);
    assert_int_equal(INV(I_INVEPT, 1, eptp, 0), 0);
    assert_int_equal(INV(I_INVEPT, 1, eptp, 0x123), 0); // bits 127:64 are not looked at
    assert_int_equal(INV(I_INVEPT, 1, M_EPT | 5 | 3 << 3, 0), 28);
    assert_int_equal(INV(I_INVEPT, 1, M_EPT | 6 | 4 << 3, 0), 0); // five levels
    assert_int_equal(INV(I_INVEPT, 1, M_EPT | 6 | 2 << 3, 0), 28);
    assert_int_equal(INV(I_INVEPT, 1, M_EPT | 6 | 5 << 3, 0), 28);
    assert_int_equal(INV(I_INVEPT, 1, eptp | 1ull << m->features.maxphyaddr, 0), 28);
    assert_int_equal(INV(I_INVEPT, 2, 0xFFF, 0), 0);
    assert_int_equal(INV(I_INVVPID, 4, 1, 0), 28);
    assert_int_equal(INV(I_INVVPID, 0, 1, 0x1000), 0);
    assert_int_equal(INV(I_INVVPID, 0, 1, 0x100000000000000), 28);
    assert_int_equal(INV(I_INVVPID, 0, 0, 0x1000), 28);
    assert_int_equal(INV(I_INVVPID, 1, 0, 0), 28);
    assert_int_equal(INV(I_INVVPID, 1, 0x10001, 0), 28);
    assert_int_equal(INV(I_INVVPID, 1, 0xFFFF, 0), 0);
    assert_int_equal(INV(I_INVVPID, 2, 0, 0), 0);
    assert_int_equal(INV(I_INVVPID, 3, 7, 0x100000000000000), 0);
    assert_int_equal(INV(I_INVVPID, 3, 0, 0), 28);
#undef INV
    *rcx = 5, m->v->s.gpr[RDI] = 0x5000000000; // the type is judged before the operand is read
    assert_int_equal(M_RUN(m, I_INVEPT), -1);
    *rcx = 1, m->v->s.gpr[RDI] = 0x5000000000;
    assert_int_equal(M_RUN(m, I_INVEPT), VEC_PF);
    m_root_state(m);
    assert_int_equal(M_RUN(m, I_VMFUNC), VEC_UD); // root operation
    m_free(m);
}

// What each type drops and what it leaves, of data's and of instructions' translations (SDM 31.4.3.1).
static void invalidations_reach_both_tlbs(void **state)
{
    enum { X = 0x5000, G = 0x6000, Y = 0x7000 };
    // clang-format off
    static const struct { u16 vpid; u64 view; u64 la; u32 rights; } entries[] = {
        {5, 0, X, 0}, {5, 0, G, TLB_GLOBAL}, {5, M_EPT | 1, X, 0}, {6, M_BITMAP | 1, X, 0}, {5, M_EPT | 1, Y, 0},
    };
    static const struct { const char *code; u64 type, a, b; unsigned gone; } cases[] = {
        {I_INVEPT, 1, M_EPT | 6 | 3 << 3, 0, 1 << 2 | 1 << 4}, {I_INVEPT, 2, 0, 0, 1 << 2 | 1 << 3 | 1 << 4},
        {I_INVVPID, 0, 5, X, 1 << 0 | 1 << 2},                 {I_INVVPID, 1, 5, 0, 1 << 0 | 1 << 1 | 1 << 2 | 1 << 4},
        {I_INVVPID, 2, 0, 0, 31},                              {I_INVVPID, 3, 5, 0, 1 << 0 | 1 << 2 | 1 << 4},
        {I_INVVPID, 1, 7, 0, 0},
    };
    // clang-format on
    struct vmx_machine *m = m_vmx_new();
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct tlb *tlbs[] = {&m->v->s.itlb, &m->v->s.dtlb};
        for (unsigned k = 0; k < 2; k++) {
            for (unsigned n = 0; n < ARRAY_LEN(entries); n++) {
                struct walk_result r = {.page_shift = 12, .rights = entries[n].rights};
                struct tlb_entry evicted;
                tlb_select(tlbs[k], &(struct mmu_ctx){.vpid = entries[n].vpid, .ept_view = entries[n].view});
                tlb_fill(tlbs[k], laddr_of(entries[n].la), &r, &evicted);
            }
        }
        cpu_context_changed(m->v);
        m->v->s.gpr[RCX] = cases[i].type;
        m_operand(m, cases[i].a, cases[i].b);
        assert_int_equal(m_run(m, cases[i].code, 5), -1);
        assert_int_equal(m_outcome(m), 0);
        for (unsigned k = 0; k < 2; k++) {
            for (unsigned n = 0; n < ARRAY_LEN(entries); n++) {
                tlb_select(tlbs[k], &(struct mmu_ctx){.vpid = entries[n].vpid, .ept_view = entries[n].view});
                assert_int_equal(!tlb_find(tlbs[k], laddr_of(entries[n].la)), cases[i].gone >> n & 1);
            }
        }
        cpu_context_changed(m->v);
    }
    m_free(m);
}

// VMXON and VMXOFF clear address-range monitoring: an MWAIT after them does not wait.
static void monitoring_ends(void **state)
{
    static const char wait[] = "\x0F\x01\xC9", on[] = "\x0F\x01\xC8" I_VMXON "\x0F\x01\xC9",
                      off[] = "\x0F\x01\xC8" I_VMXOFF "\x0F\x01\xC9", both[] = "\x0F\x01\xC8\x90\x0F\x01\xC9";
    // clang-format off
    static const struct { const char *code; u64 length; bool waits; } cases[] = {
        {wait, sizeof wait - 1, false}, {both, sizeof both - 1, true}, {on, sizeof on - 1, false}, {off, sizeof off - 1, false},
    };
    // clang-format on
    struct vmx_machine *m = m_new();
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        m_operand(m, M_VMXON, 0);
        // monitor [rax] ... mwait; hlt
        m->v->s.gpr[RAX] = M_DATA + 0x800, m->v->s.gpr[RCX] = m->v->s.gpr[RDX] = 0;
        assert_int_equal(m_run(m, cases[i].code, (unsigned)cases[i].length), -1);
        assert_int_equal(m->v->s.rip, M_CODE + cases[i].length + !cases[i].waits);
    }
    assert_false(m->v->s.vmx.on);
    m_free(m);
}

static void fixed_bits(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    u64 *gpr = m->v->s.gpr;
    gpr[RAX] = m->v->s.cr0 & ~(u64)CR0_NE;
    assert_int_equal(M_RUN(m, "\x0F\x22\xC0"), VEC_GP); // mov cr0, rax
    m_root_state(m);
    gpr[RAX] = m->v->s.cr4 & ~(u64)CR4_VMXE;
    assert_int_equal(M_RUN(m, "\x0F\x22\xE0"), VEC_GP); // mov cr4, rax
    m_root_state(m);
    assert_int_equal(M_VMX(m, I_VMXOFF, 0), 0);
    gpr[RAX] = m->v->s.cr4 & ~(u64)CR4_VMXE;
    assert_int_equal(M_RUN(m, "\x0F\x22\xE0"), -1);
    m_free(m);
}

// The capability MSRs, as RDMSR gives them.
static void capability_msrs(void **state)
{
    struct vmx_machine *m = m_new();
    u64 *gpr = m->v->s.gpr;
    for (u32 n = 0x480; n <= 0x493; n++) {
        u64 want;
        bool there = vmx_caps_msr(&m->v->vmx->caps, n, &want);
        gpr[RCX] = n;
        assert_int_equal(M_RUN(m, "\x0F\x32"), there ? -1 : VEC_GP);
        if (there) assert_true((gpr[RAX] | gpr[RDX] << 32) == want);
        m_root_state(m);
        gpr[RCX] = n, gpr[RAX] = gpr[RDX] = 0;
        assert_int_equal(M_RUN(m, "\x0F\x30"), VEC_GP);
        m_root_state(m);
    }
    gpr[RCX] = 0x3A;
    assert_int_equal(M_RUN(m, "\x0F\x32"), -1);
    assert_int_equal(gpr[RAX], 5);
    gpr[RCX] = 0x3A;
    assert_int_equal(M_RUN(m, "\x0F\x30"), VEC_GP); // locked
    m_free(m);
}

int main(void)
{
    // clang-format off
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vmxon),          cmocka_unit_test(pointers),   cmocka_unit_test(every_field),
        cmocka_unit_test(invept_invvpid), cmocka_unit_test(invalidations_reach_both_tlbs),
        cmocka_unit_test(monitoring_ends), cmocka_unit_test(fixed_bits), cmocka_unit_test(capability_msrs),
    };
    // clang-format on
    return cmocka_run_group_tests(tests, NULL, NULL);
}

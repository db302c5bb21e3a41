// VMCS shadowing (SDM 27.10, 28.1.3, 33.3): VMREAD and VMWRITE in non-root operation, by the bitmaps and the
// link pointer; shadow VMCSs in the VMX instructions.
#include "vmx_machine.h"

enum { SHADOW = M_VMCS2, READ_BITMAP = M_BITMAP, WRITE_BITMAP = M_BITMAP + 0x1000 };
#define NO_LINK  UINT64_MAX
#define VM_FLAGS (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

static struct vmx_machine *fresh(u32 proc2)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, proc2);
    m_write(m, VMCS_VMREAD_BITMAP_ADDRESS, READ_BITMAP);
    m_write(m, VMCS_VMWRITE_BITMAP_ADDRESS, WRITE_BITMAP);
    if (proc2) {
        phys_write32(&m->phys, 0, SHADOW, VMCS_REVISION | VMCS_SHADOW);
        m_write(m, VMCS_VMCS_LINK_POINTER, SHADOW);
    }
    return m;
}

// Runs the guest with RCX = encoding, RAX = value; RDX gets its RFLAGS after the instruction.
static s64 run(struct vmx_machine *m, const char *code, unsigned n, u64 encoding, u64 value)
{
    char all[64];
    memcpy(all, code, n);
    memcpy(all + n, "\x9C\x5A", 2); // pushf; pop rdx
    m->v->s.gpr[RCX] = encoding;
    m->v->s.gpr[RAX] = value;
    m_write(m, VMCS_GUEST_RIP, M_GUEST);
    m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    m_write(m, VMCS_GUEST_RFLAGS, 2 | VM_FLAGS);
    s64 reason = m_enter(m, all, n + 2);
    u64 gpr[2] = {m->v->s.gpr[RAX], m->v->s.gpr[RDX]};
    m_root_state(m);
    m->v->s.gpr[RAX] = gpr[0], m->v->s.gpr[RDX] = gpr[1];
    return reason;
}
#define RUN(m, code, encoding, value) run(m, code, sizeof(code) - 1, encoding, value)

static void shadow_write(struct vmx_machine *m, enum vmcs_field f, u64 x)
{
    vmcs_write(&m->phys, 0, SHADOW, f, x);
}
static u64 shadow_read(struct vmx_machine *m, enum vmcs_field f) { return vmcs_read(&m->phys, SHADOW, f); }

static void without_it_they_exit(void **state)
{
    struct vmx_machine *m = fresh(0);
    assert_int_equal(RUN(m, I_VMREAD, 0x6800, 0), EXIT_REASON_VMREAD);
    assert_int_equal(m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH), 3);
    assert_int_equal(RUN(m, I_VMWRITE, 0x6800, 0), EXIT_REASON_VMWRITE);
    m_free(m);
}

// Each width, full and high, in and out.
static void fields_of_the_shadow(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMCS_SHADOWING);
    // clang-format off
    static const struct { u64 encoding, value, wanted; enum vmcs_field field; u64 before, after; } t[] = {
        {0x0800, 0xAAAABBBBCCCC1234, 0x1234, VMCS_GUEST_ES_SELECTOR, 0, 0x1234},
        {0x4802, 0xAAAABBBBCCCC1234, 0xCCCC1234, VMCS_GUEST_CS_LIMIT, 0, 0xCCCC1234},
        {0x2010, 0xAAAABBBBCCCC1234, 0xAAAABBBBCCCC1234, VMCS_TSC_OFFSET, 0, 0xAAAABBBBCCCC1234},
        {0x2011, 0xAAAABBBBCCCC1234, 0xCCCC1234, VMCS_TSC_OFFSET, 0x1111111122222222, 0xCCCC123422222222},
        {0x6820, 0xAAAABBBBCCCC1234, 0xAAAABBBBCCCC1234, VMCS_GUEST_RFLAGS, 0, 0xAAAABBBBCCCC1234},
        {0x4402, 0xAAAABBBBCCCC1234, 0xCCCC1234, VMCS_EXIT_REASON, 0, 0xCCCC1234}, // read-only where IA32_VMX_MISC[29] is 0
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(t); i++) {
        u64 own = m_read(m, t[i].field);
        shadow_write(m, t[i].field, t[i].before);
        assert_int_equal(RUN(m, I_VMWRITE, t[i].encoding, t[i].value), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.gpr[RDX] & VM_FLAGS, 0);
        assert_int_equal(shadow_read(m, t[i].field), t[i].after);
        assert_int_equal(RUN(m, I_VMREAD, t[i].encoding, ~0ull), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.gpr[RDX] & VM_FLAGS, 0);
        assert_int_equal(m->v->s.gpr[RAX], t[i].wanted);
        if (t[i].field == VMCS_TSC_OFFSET) assert_int_equal(m_read(m, t[i].field), own);
    }
    // what the guest writes there is no control of its own
    assert_int_equal(RUN(m, I_VMWRITE, 0x4002, 0xFFFFFFFF), EXIT_REASON_HLT);
    assert_int_equal(RUN(m, "\xF4" I_VMREAD, 0x4002, 0), EXIT_REASON_HLT);
    assert_int_equal(shadow_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS), 0xFFFFFFFF);
    m_free(m);
}

// Bit n stands for bits 14:0 of the register, high accesses and encodings without a field included.
static void bitmaps(void **state)
{
    static const u16 encodings[] = {0, 1, 7, 0x2010, 0x2011, 0x6800, 0x7FFF};
    struct vmx_machine *m = fresh(PROC2_VMCS_SHADOWING);
    for (unsigned i = 0; i < ARRAY_LEN(encodings); i++) {
        u16 n = encodings[i];
        for (unsigned write = 0; write < 2; write++) {
            phys_write8(&m->phys, 0, (write ? WRITE_BITMAP : READ_BITMAP) + n / 8, (u8)(1 << n % 8));
            assert_int_equal(RUN(m, I_VMREAD, n, 0), write ? EXIT_REASON_HLT : EXIT_REASON_VMREAD);
            assert_int_equal(RUN(m, I_VMWRITE, n, 0), write ? EXIT_REASON_VMWRITE : EXIT_REASON_HLT);
            phys_write8(&m->phys, 0, (write ? WRITE_BITMAP : READ_BITMAP) + n / 8, (u8) ~(1 << n % 8));
            assert_int_equal(RUN(m, I_VMREAD, n, 0), EXIT_REASON_HLT);
            assert_int_equal(RUN(m, I_VMWRITE, n, 0), EXIT_REASON_HLT);
            phys_write8(&m->phys, 0, (write ? WRITE_BITMAP : READ_BITMAP) + n / 8, 0);
        }
    }
    for (unsigned bit = 15; bit < 64; bit++) { // above 14:0 they exit always
        assert_int_equal(RUN(m, I_VMREAD, BIT(bit) | 0x6800, 0), EXIT_REASON_VMREAD);
        assert_int_equal(RUN(m, I_VMWRITE, BIT(bit) | 0x6800, 0), EXIT_REASON_VMWRITE);
    }
    m_free(m);
}

static void failures(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMCS_SHADOWING);
    // No such field, and high access to one that is not of 64 bits: the number goes to the current VMCS.
    static const u16 none[] = {0x7FFE, 0x4801, 0x6821, 0x2404};
    for (unsigned i = 0; i < 2 * ARRAY_LEN(none); i++) {
        m_write(m, VMCS_VM_INSTRUCTION_ERROR, 0);
        shadow_write(m, VMCS_VM_INSTRUCTION_ERROR, 77);
        assert_int_equal(i & 1 ? RUN(m, I_VMWRITE, none[i / 2], 5) : RUN(m, I_VMREAD, none[i / 2], 5),
                         EXIT_REASON_HLT);
        assert_int_equal(m->v->s.gpr[RDX] & VM_FLAGS, FL_ZF);
        assert_int_equal(m->v->s.gpr[RAX], 5);
        assert_int_equal(m_read(m, VMCS_VM_INSTRUCTION_ERROR), 12);
        assert_int_equal(shadow_read(m, VMCS_VM_INSTRUCTION_ERROR), 77);
    }
    // Exit information is read-only without IA32_VMX_MISC bit 29, here and in root operation.
    m->v->vmx->caps.misc &= ~BIT(29);
    assert_int_equal(RUN(m, I_VMWRITE, 0x4402, 5), EXIT_REASON_HLT);
    assert_int_equal(m->v->s.gpr[RDX] & VM_FLAGS, FL_ZF);
    assert_int_equal(m_read(m, VMCS_VM_INSTRUCTION_ERROR), 13);
    m->v->s.gpr[RCX] = 0x4402;
    assert_int_equal(M_VMX(m, I_VMWRITE, 0), 13);
    m->v->s.gpr[RCX] = 0x681E;
    assert_int_equal(M_VMX(m, I_VMWRITE, 0), 0);
    // Without a link pointer there is nothing to access; the bitmaps come first.
    m_write(m, VMCS_VMCS_LINK_POINTER, NO_LINK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(i ? RUN(m, I_VMWRITE, 0x7FFE, 5) : RUN(m, I_VMREAD, 0x7FFE, 5), EXIT_REASON_HLT);
        assert_int_equal(m->v->s.gpr[RDX] & VM_FLAGS, FL_CF);
    }
    phys_write8(&m->phys, 0, READ_BITMAP + 0xFFF, 0x40);
    assert_int_equal(RUN(m, I_VMREAD, 0x7FFE, 5), EXIT_REASON_VMREAD);
    m_free(m);
}

// At CPL 3: the exit comes before #GP(0), which comes before everything else.
static void privilege(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMCS_SHADOWING);
    m_write(m, VMCS_GUEST_CS_SELECTOR, 0x2B), m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, 0xA0FB);
    m_write(m, VMCS_GUEST_SS_SELECTOR, 0x23), m_write(m, VMCS_GUEST_SS_ACCESS_RIGHTS, 0xC0F3);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << 13);
    m_write(m, VMCS_VMCS_LINK_POINTER, NO_LINK);
    assert_int_equal(RUN(m, I_VMREAD, 0x7FFE, 0), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION), 0x80000B0D);
    assert_int_equal(m_read(m, VMCS_EXITING_EVENT_ERROR_CODE), 0);
    assert_int_equal(RUN(m, I_VMREAD, 0x8000, 0), EXIT_REASON_VMREAD);
    phys_write8(&m->phys, 0, WRITE_BITMAP, 1);
    assert_int_equal(RUN(m, I_VMWRITE, 0, 0), EXIT_REASON_VMWRITE);
    assert_int_equal(RUN(m, I_VMWRITE, 1, 0), EXIT_REASON_EXCEPTION_NMI);
    m_free(m);
}

// VMREAD checks the field before its destination, VMWRITE its source before the field (SDM 33.3).
static void memory_operands(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMCS_SHADOWING);
    m_write(m, VMCS_EXCEPTION_BITMAP, 1 << 14);
#define VMREAD_RAX  "\x0F\x78\x08" // vmread [rax], rcx
#define VMWRITE_RAX "\x0F\x79\x08" // vmwrite rcx, [rax]
    const u64 nowhere = 1ull << 40;
    shadow_write(m, VMCS_GUEST_RIP, 0x1122334455667788);
    assert_int_equal(RUN(m, VMREAD_RAX, 0x681E, M_DATA), EXIT_REASON_HLT);
    assert_int_equal(phys_read64(&m->phys, 0, M_DATA), 0x1122334455667788);
    m_poke64(m, M_DATA, 0x99);
    assert_int_equal(RUN(m, VMWRITE_RAX, 0x681E, M_DATA), EXIT_REASON_HLT);
    assert_int_equal(shadow_read(m, VMCS_GUEST_RIP), 0x99);
    assert_int_equal(RUN(m, VMREAD_RAX, 0x7FFE, nowhere), EXIT_REASON_HLT);
    assert_int_equal(m->v->s.gpr[RDX] & VM_FLAGS, FL_ZF);
    assert_int_equal(RUN(m, VMREAD_RAX, 0x681E, nowhere), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(RUN(m, VMWRITE_RAX, 0x7FFE, nowhere), EXIT_REASON_EXCEPTION_NMI);
    assert_int_equal(m_read(m, VMCS_EXIT_QUALIFICATION), nowhere);
    m_free(m);
}

// A guest that is not in 64-bit mode: 32 bits of the register count, and of the field.
static void outside_64_bit_mode(void **state)
{
    struct vmx_machine *m = fresh(PROC2_VMCS_SHADOWING);
    m_unrestricted(m);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS,
            PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_VMCS_SHADOWING);
    m_write(m, VMCS_GUEST_CR0, 0x31);
    m_write(m, VMCS_GUEST_CR4, CR4_VMXE);
    m_write(m, VMCS_GUEST_IA32_EFER, 0);
    m_write(m, VMCS_GUEST_CS_ACCESS_RIGHTS, 0xC09B);
    shadow_write(m, VMCS_GUEST_RIP, 0x1122334455667788);
    assert_int_equal(RUN(m, I_VMREAD, 0xFFFFFFFF0000681E, ~0ull), EXIT_REASON_HLT);
    assert_int_equal((u32)m->v->s.gpr[RAX], 0x55667788);
    assert_int_equal(RUN(m, I_VMWRITE, 0xFFFFFFFF0000681E, 0xAAAAAAAABBBBBBBB), EXIT_REASON_HLT);
    assert_int_equal(shadow_read(m, VMCS_GUEST_RIP), 0xBBBBBBBB);
    assert_int_equal(RUN(m, I_VMREAD, 0x8000681E, 0), EXIT_REASON_VMREAD);
    m_free(m);
}

static void instructions_on_a_shadow(void **state)
{
    struct vmx_machine *m = m_vmx_new();
    m_vmcs_64(m);
    phys_write32(&m->phys, 0, SHADOW, VMCS_REVISION | VMCS_SHADOW);
    assert_int_equal(M_VMX(m, I_VMCLEAR, SHADOW), 0);
    assert_int_equal(phys_read32(&m->phys, 0, SHADOW), VMCS_REVISION | VMCS_SHADOW);
    assert_int_equal(M_VMX(m, I_VMPTRLD, SHADOW), 0);
    assert_int_equal(m->v->s.vmx.vmcs_pointer, SHADOW);
    m->v->s.gpr[RCX] = 0x6800, m->v->s.gpr[RAX] = 0x1234;
    assert_int_equal(M_VMX(m, I_VMWRITE, 0), 0);
    m->v->s.gpr[RAX] = 0;
    assert_int_equal(M_VMX(m, I_VMREAD, 0), 0);
    assert_int_equal(m->v->s.gpr[RAX], 0x1234);
    assert_int_equal(M_VMX(m, I_VMLAUNCH, 0), 'I');
    assert_int_equal(M_VMX(m, I_VMRESUME, 0), 'I');
    // other revisions, and a processor without VMCS shadowing
    phys_write32(&m->phys, 0, M_VMCS2 + 0x1000, VMCS_REVISION ^ 1);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS2 + 0x1000), 11);
    phys_write32(&m->phys, 0, M_VMCS2 + 0x1000, (VMCS_REVISION ^ 1) | VMCS_SHADOW);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS2 + 0x1000), 11);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
    m->v->vmx->caps.allowed1[GROUP_PROC2] &= ~(u64)PROC2_VMCS_SHADOWING;
    assert_int_equal(M_VMX(m, I_VMPTRLD, SHADOW), 11);
    m_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_it_they_exit),
        cmocka_unit_test(fields_of_the_shadow),
        cmocka_unit_test(bitmaps),
        cmocka_unit_test(failures),
        cmocka_unit_test(privilege),
        cmocka_unit_test(memory_operands),
        cmocka_unit_test(outside_64_bit_mode),
        cmocka_unit_test(instructions_on_a_shadow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

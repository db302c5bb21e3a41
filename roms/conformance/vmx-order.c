/*
 * The order of the checks of VMX instructions in VMX root operation and outside (SDM chapter 33): two things
 * wrong at once, and the one that is looked at first wins. And the encodings that are none: LOCK, prefixes
 * where there may be none, register operands; and compatibility mode, where all of them are #UD.
 *
 * The order of VMLAUNCH and VMRESUME is in vmx-entry.c, that of exits and faults in vmx-modes.c.
 *
 * Bochs 2.7 reads the descriptor of INVEPT and INVVPID before it looks at the type.
 *
 * Missing: A20M, SMX, an unlocked IA32_FEATURE_CONTROL, SEAM.
 */
#include "low.h"
#include "user.h"
#include "vmx-common.h"

#define NONCANONICAL (1ul << 63)
#define UNMAPPED     0x123456789000ul
#define CLEAR_FLAGS  "xor %eax, %eax; "
#define GET_FLAGS    "; pushfq; pop %rax; and $0x41, %eax"

PROBE(p_vmxon, CLEAR_FLAGS "vmxon (%rdi)" GET_FLAGS);
PROBE(p_vmxoff, CLEAR_FLAGS "vmxoff" GET_FLAGS);
PROBE(p_vmclear, CLEAR_FLAGS "vmclear (%rdi)" GET_FLAGS);
PROBE(p_vmptrld, CLEAR_FLAGS "vmptrld (%rdi)" GET_FLAGS);
PROBE(p_vmptrst, CLEAR_FLAGS "vmptrst (%rdi)" GET_FLAGS);
PROBE(p_vmread, CLEAR_FLAGS "vmread %rsi, (%rdi)" GET_FLAGS);
PROBE(p_vmwrite, CLEAR_FLAGS "vmwrite (%rdi), %rsi" GET_FLAGS);
PROBE(p_vmlaunch, CLEAR_FLAGS "vmlaunch" GET_FLAGS);
PROBE(p_vmresume, CLEAR_FLAGS "vmresume" GET_FLAGS);
PROBE(p_vmcall, CLEAR_FLAGS "vmcall" GET_FLAGS);
PROBE(p_vmfunc, CLEAR_FLAGS "vmfunc" GET_FLAGS);
PROBE(p_invept, CLEAR_FLAGS "invept (%rdi), %rsi" GET_FLAGS);
PROBE(p_invvpid, CLEAR_FLAGS "invvpid (%rdi), %rsi" GET_FLAGS);

/* Outcomes: a vector, or how the instruction failed. */
#define INVALID  0x100
#define VALID(n) (0x200 | (n))

static void outcome(struct trap t, unsigned want, const char *name)
{
    unsigned got = t.vector;
    if (t.vector == TRAP_NONE || t.vector == TRAP_DONE)
        got = t.rax & RFLAGS_CF   ? INVALID
              : t.rax & RFLAGS_ZF ? VALID((unsigned)vmread(VM_INSTRUCTION_ERROR))
                                  : TRAP_NONE;
    if (!ok(got == want && (want >= INVALID || want == VECTOR_PF || t.error == 0), "%s", name))
        tap_note("  got %x (error code %lx), want %x", got, t.error, want);
}

static uint64_t pointer, descriptor[2];
static struct trap with_pointer(const char *probe, uint64_t value)
{
    pointer = value;
    return trap_catch(probe, &pointer, 0);
}

static void outside(void)
{
    uint64_t region = vmx_new_region();
    static const struct {
        const char *probe, *name;
    } all[] = {{p_vmclear, "VMCLEAR"},
               {p_vmptrld, "VMPTRLD"},
               {p_vmptrst, "VMPTRST"},
               {p_vmread, "VMREAD"},
               {p_vmwrite, "VMWRITE"},
               {p_vmlaunch, "BASIC-001: VMLAUNCH"},
               {p_vmresume, "BASIC-001: VMRESUME"},
               {p_vmcall, "VMCALL"},
               {p_vmxoff, "VMXOFF"},
               {p_invept, "INVEPT"},
               {p_invvpid, "INVVPID"},
               {p_vmfunc, "VMFUNC"}};
    write_cr4(read_cr4() & ~(uint64_t)CR4_VMXE);
    outcome(user_run(p_vmxon, USER_STACK, 0), VECTOR_UD, "VMXON: CR4.VMXE=0 before CPL 3");
    outcome(trap_catch(p_vmxon, NONCANONICAL, 0), VECTOR_UD,
            "VMXON: CR4.VMXE=0 before a non-canonical operand");
    outcome(trap_catch(p_vmxon, UNMAPPED, 0), VECTOR_UD, "VMXON: CR4.VMXE=0 before #PF");
    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4(read_cr4() | CR4_VMXE);
    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (!ok(user_run(all[i].probe, NONCANONICAL, 0).vector == VECTOR_UD &&
                    trap_catch(all[i].probe, UNMAPPED, 0).vector == VECTOR_UD,
                "%s: not being in VMX operation before CPL 3 and the operand", all[i].name))
            tap_note("  no #UD");
    outcome(user_run(p_vmxon, UNMAPPED, 0), VECTOR_GP, "VMXON: CPL 3 before #PF");
    write_cr0(read_cr0() & ~(uint64_t)CR0_NE);
    outcome(trap_catch(p_vmxon, UNMAPPED, 0), VECTOR_GP, "VMXON: fixed bits of CR0 before #PF");
    outcome(with_pointer(p_vmxon, region + 8), VECTOR_GP, "VMXON: fixed bits of CR0 before the pointer");
    write_cr0(read_cr0() | CR0_NE);
    outcome(trap_catch(p_vmxon, UNMAPPED, 0), VECTOR_PF, "VMXON: #PF");
}

static void in_root(void)
{
    if (!vmx_on()) panic("VMXON failed");
    uint64_t on = vmx_on_region(), region = vmx_new_region();
    outcome(trap_catch(p_vmread, NONCANONICAL, GUEST_RIP), INVALID,
            "VMREAD: no current VMCS before the operand");
    outcome(trap_catch(p_vmwrite, UNMAPPED, GUEST_RIP), INVALID,
            "VMWRITE: no current VMCS before the operand");
    outcome(user_run(p_vmread, USER_STACK, GUEST_RIP), VECTOR_GP, "VMREAD: CPL 3 before no current VMCS");
    outcome(user_run(p_vmlaunch, 0, 0), VECTOR_GP, "BASIC-005: VMLAUNCH: CPL 3 before no current VMCS");
    if (vmclear(region) != VMX_SUCCEED || vmptrld(region) != VMX_SUCCEED) panic("no VMCS");

    outcome(trap_catch(p_vmxon, NONCANONICAL, 0), VALID(VMX_ERROR_VMXON_IN_ROOT),
            "VMXON: in root operation before the operand");
    outcome(trap_catch(p_vmxon, UNMAPPED, 0), VALID(VMX_ERROR_VMXON_IN_ROOT),
            "VMXON: in root operation before #PF");
    outcome(user_run(p_vmxon, USER_STACK, 0), VECTOR_GP, "VMXON: CPL 3 before in root operation");
    outcome(user_run(p_vmptrld, UNMAPPED, 0), VECTOR_GP, "VMPTRLD: CPL 3 before #PF");
    outcome(user_run(p_vmclear, UNMAPPED, 0), VECTOR_GP, "VMCLEAR: CPL 3 before #PF");
    outcome(user_run(p_vmptrst, UNMAPPED, 0), VECTOR_GP, "VMPTRST: CPL 3 before #PF");
    outcome(user_run(p_vmread, UNMAPPED, 0x7ffe), VECTOR_GP, "VMREAD: CPL 3 before the field and #PF");
    outcome(user_run(p_vmwrite, UNMAPPED, 0x7ffe), VECTOR_GP, "VMWRITE: CPL 3 before the field and #PF");
    outcome(trap_catch(p_vmread, UNMAPPED, 0x7ffe), VALID(VMX_ERROR_UNSUPPORTED_COMPONENT),
            "VMREAD: the field before #PF");
    outcome(trap_catch(p_vmwrite, UNMAPPED, 0x7ffe), VECTOR_PF, "VMWRITE: #PF before the field");
    if (rdmsr(IA32_VMX_MISC) & 1u << 29)
        skip_one("VMWRITE: #PF before the read-only field", "there is none");
    else
        outcome(trap_catch(p_vmwrite, UNMAPPED, EXIT_REASON), VECTOR_PF,
                "VMWRITE: #PF before the read-only field");

    outcome(with_pointer(p_vmptrld, on | 8), VALID(VMX_ERROR_VMPTRLD_ADDRESS),
            "VMPTRLD: alignment before the VMXON pointer");
    outcome(with_pointer(p_vmclear, on | 8), VALID(VMX_ERROR_VMCLEAR_ADDRESS),
            "VMCLEAR: alignment before the VMXON pointer");
    uint32_t *revision = (uint32_t *)on, good = *revision;
    *revision ^= 1;
    outcome(with_pointer(p_vmptrld, on), VALID(VMX_ERROR_VMPTRLD_VMXON_POINTER),
            "VMPTRLD: the VMXON pointer before the revision");
    *revision = good;
    uint64_t other = vmx_new_region();
    *(uint32_t *)other ^= 1;
    outcome(with_pointer(p_vmptrld, other + 2048), VALID(VMX_ERROR_VMPTRLD_ADDRESS),
            "VMPTRLD: alignment before the revision");
    outcome(with_pointer(p_vmclear, other), TRAP_NONE, "VMCLEAR does not look at the revision");
    *(uint32_t *)other |= 1u << 31;
    outcome(with_pointer(p_vmptrld, other), VALID(VMX_ERROR_VMPTRLD_REVISION),
            "VMPTRLD: the revision, with bit 31 too");
    is(vmptrst(), region, "after all this the current VMCS is the same");

    bool invept = vmx_has_secondary(PROC2_ENABLE_EPT) && (rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 20);
    bool invvpid = vmx_has_secondary(PROC2_ENABLE_VPID) && (rdmsr(IA32_VMX_EPT_VPID_CAP) & 1ul << 32);
    unsigned operand = VALID(VMX_ERROR_INVEPT_INVVPID_OPERAND);
    if (invept) {
        outcome(user_run(p_invept, UNMAPPED, 7), VECTOR_GP, "INVEPT: CPL 3 before type and #PF");
        outcome(trap_catch(p_invept, UNMAPPED, 7), operand, "INVEPT: the type before #PF");
        outcome(trap_catch(p_invept, NONCANONICAL, 7), operand,
                "INVEPT: the type before a non-canonical operand");
        outcome(trap_catch(p_invept, UNMAPPED, 2), VECTOR_PF,
                "INVEPT of all contexts reads its descriptor: #PF");
        descriptor[0] = descriptor[1] = ~0ul;
        outcome(trap_catch(p_invept, descriptor, 2), TRAP_NONE, "  and does not look at it");
    } else {
        skip(5, "no INVEPT");
    }
    if (invvpid) {
        outcome(user_run(p_invvpid, UNMAPPED, 7), VECTOR_GP, "INVVPID: CPL 3 before type and #PF");
        outcome(trap_catch(p_invvpid, UNMAPPED, 7), operand, "INVVPID: the type before #PF");
        outcome(trap_catch(p_invvpid, UNMAPPED, 2), VECTOR_PF,
                "INVVPID of all contexts reads its descriptor: #PF");
        descriptor[0] = 1ul << 16 | 1;
        outcome(trap_catch(p_invvpid, descriptor, 2), operand,
                "INVVPID of all contexts looks at its reserved bits");
    } else {
        skip(4, "no INVVPID");
    }
    outcome(user_run(p_vmcall, 0, 0), VECTOR_GP, "VMCALL: CPL 3 before its failure in root operation");
    outcome(trap_catch(p_vmfunc, 0, 0), VECTOR_UD, "VMFUNC in root operation: #UD");
    outcome(user_run(p_vmfunc, 0, 0), VECTOR_UD, "VMFUNC in root operation at CPL 3: #UD");
}

/* Bytes that are no VMX instruction though they look like one. */
PROBE(e_lock_vmptrld, ".byte 0xf0, 0x0f, 0xc7, 0x37");
PROBE(e_lock_vmclear, ".byte 0xf0, 0x66, 0x0f, 0xc7, 0x37");
PROBE(e_lock_vmxon, ".byte 0xf0, 0xf3, 0x0f, 0xc7, 0x37");
PROBE(e_lock_vmptrst, ".byte 0xf0, 0x0f, 0xc7, 0x3f");
PROBE(e_lock_vmread, ".byte 0xf0, 0x0f, 0x78, 0x37");
PROBE(e_lock_vmwrite, ".byte 0xf0, 0x0f, 0x79, 0x37");
PROBE(e_lock_vmlaunch, ".byte 0xf0, 0x0f, 0x01, 0xc2");
PROBE(e_lock_vmcall, ".byte 0xf0, 0x0f, 0x01, 0xc1");
PROBE(e_lock_invept, ".byte 0xf0, 0x66, 0x0f, 0x38, 0x80, 0x37");
PROBE(e_66_vmread, ".byte 0x66, 0x0f, 0x78, 0x37");
PROBE(e_f3_vmread, ".byte 0xf3, 0x0f, 0x78, 0x37");
PROBE(e_f2_vmwrite, ".byte 0xf2, 0x0f, 0x79, 0x37");
PROBE(e_66_vmwrite, ".byte 0x66, 0x0f, 0x79, 0x37");
PROBE(e_66_vmptrst, ".byte 0x66, 0x0f, 0xc7, 0x3f");
PROBE(e_np_invept, ".byte 0x0f, 0x38, 0x80, 0x37");
PROBE(e_f3_invvpid, ".byte 0xf3, 0x0f, 0x38, 0x81, 0x37");
PROBE(e_reg_invept, ".byte 0x66, 0x0f, 0x38, 0x80, 0xf7");
PROBE(e_reg_invvpid, ".byte 0x66, 0x0f, 0x38, 0x81, 0xf7");
PROBE(e_66_vmlaunch, ".byte 0x66, 0x0f, 0x01, 0xc2");
PROBE(e_f3_vmresume, ".byte 0xf3, 0x0f, 0x01, 0xc3");
PROBE(e_66_vmxoff, ".byte 0x66, 0x0f, 0x01, 0xc4");
PROBE(e_66_vmcall, ".byte 0x66, 0x0f, 0x01, 0xc1");

static void encodings(void)
{
    static const struct {
        const char *probe, *name;
    } rows[] = {{e_lock_vmptrld, "LOCK VMPTRLD"},       {e_lock_vmclear, "LOCK VMCLEAR"},
                {e_lock_vmxon, "LOCK VMXON"},           {e_lock_vmptrst, "LOCK VMPTRST"},
                {e_lock_vmread, "LOCK VMREAD"},         {e_lock_vmwrite, "LOCK VMWRITE"},
                {e_lock_vmlaunch, "LOCK VMLAUNCH"},     {e_lock_vmcall, "LOCK VMCALL"},
                {e_lock_invept, "LOCK INVEPT"},         {e_66_vmread, "66 before VMREAD"},
                {e_f3_vmread, "F3 before VMREAD"},      {e_f2_vmwrite, "F2 before VMWRITE"},
                {e_66_vmwrite, "66 before VMWRITE"},    {e_66_vmptrst, "66 before VMPTRST"},
                {e_np_invept, "INVEPT without 66"},     {e_f3_invvpid, "INVVPID with F3"},
                {e_reg_invept, "INVEPT of a register"}, {e_reg_invvpid, "INVVPID of a register"},
                {e_66_vmlaunch, "66 before VMLAUNCH"},  {e_f3_vmresume, "F3 before VMRESUME"},
                {e_66_vmxoff, "66 before VMXOFF"},      {e_66_vmcall, "66 before VMCALL"}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        descriptor[0] = descriptor[1] = 0;
        struct trap t = trap_catch(rows[i].probe, descriptor, 1);
        if (!ok(t.vector == VECTOR_UD && t.rip == (uint64_t)rows[i].probe, "%s: #UD", rows[i].name))
            tap_note("  vector %x, rip off by %ld", t.vector, (int64_t)(t.rip - (uint64_t)rows[i].probe));
    }
}

LOW_CODE(c_vmread, 32, "xor %eax, %eax; vmread %eax, %ecx");
LOW_CODE(c_vmwrite, 32, "xor %eax, %eax; vmwrite %eax, %ecx");
LOW_CODE(c_vmptrst, 32, "vmptrst 0x7000");
LOW_CODE(c_vmptrld, 32, "vmptrld 0x7000");
LOW_CODE(c_vmclear, 32, "vmclear 0x7000");
LOW_CODE(c_vmlaunch, 32, "vmlaunch");
LOW_CODE(c_vmresume, 32, "vmresume");
LOW_CODE(c_vmxoff, 32, "vmxoff");
LOW_CODE(c_vmxon, 32, "vmxon 0x7000");
LOW_CODE(c_vmcall, 32, "vmcall");
LOW_CODE(c_invept, 32, "mov $2, %eax; invept 0x7000, %eax");

static void compatibility_mode(void)
{
    static const struct {
        const uint8_t *begin, *end;
        const char *name;
    } rows[] = {{c_vmread, c_vmread_end, "VMREAD"},
                {c_vmwrite, c_vmwrite_end, "VMWRITE"},
                {c_vmptrst, c_vmptrst_end, "VMPTRST"},
                {c_vmptrld, c_vmptrld_end, "VMPTRLD"},
                {c_vmclear, c_vmclear_end, "VMCLEAR"},
                {c_vmlaunch, c_vmlaunch_end, "VMLAUNCH (BASIC-003)"},
                {c_vmresume, c_vmresume_end, "VMRESUME (BASIC-003)"},
                {c_vmxoff, c_vmxoff_end, "VMXOFF"},
                {c_vmxon, c_vmxon_end, "VMXON"},
                {c_vmcall, c_vmcall_end, "VMCALL"},
                {c_invept, c_invept_end, "INVEPT"}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct trap t =
            trap_catch3((const void *)low_run, LOW_COMPAT32, (uint64_t)rows[i].begin, (uint64_t)rows[i].end);
        if (!ok(t.vector == VECTOR_UD, "compatibility mode: %s: #UD", rows[i].name))
            tap_note("  vector %x", t.vector);
    }
    outcome(trap_catch(p_vmread, &pointer, GUEST_RIP), TRAP_NONE, "and back in 64-bit mode VMREAD runs");
}

int rom_main(void)
{
    if (!vmx_test_begin("the order of checks of VMX instructions")) return 0;
    outside();
    in_root();
    encodings();
    compatibility_mode();
    return tap_end();
}

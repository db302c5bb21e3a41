/*
 * The VMX instructions outside guests: faults, VMfailInvalid, VMfailValid and its numbers (SDM chapter 31,
 * appendix of error numbers), VMREAD and VMWRITE of all widths.
 *
 * Bochs 2.7 fails one point: its VMCALL in root operation is not implemented.
 *
 * Missing: dual-monitor treatment, A20M, SMX.
 */
#include "vmx-common.h"
#include "user.h"

/* Each probe sets all six arithmetic flags, executes, and returns them: 0, CF or ZF is all that may come
 * back. */
#define FLAGS     0x8d5
#define SET_FLAGS "pushfq; orl $0x8d5, (%rsp); popfq; "
#define GET_FLAGS "; pushfq; pop %rax; and $0x8d5, %eax"

PROBE(p_vmxon, SET_FLAGS "vmxon (%rdi)" GET_FLAGS);
PROBE(p_vmxoff, SET_FLAGS "vmxoff" GET_FLAGS);
PROBE(p_vmclear, SET_FLAGS "vmclear (%rdi)" GET_FLAGS);
PROBE(p_vmptrld, SET_FLAGS "vmptrld (%rdi)" GET_FLAGS);
PROBE(p_vmptrst, SET_FLAGS "vmptrst (%rdi)" GET_FLAGS);
PROBE(p_vmread, SET_FLAGS "vmread %rdi, %rsi" GET_FLAGS);
PROBE(p_vmread_memory, SET_FLAGS "vmread %rdi, (%rsi)" GET_FLAGS);
PROBE(p_vmwrite, SET_FLAGS "vmwrite %rsi, %rdi" GET_FLAGS);
PROBE(p_vmwrite_memory, SET_FLAGS "vmwrite (%rsi), %rdi" GET_FLAGS);
PROBE(p_vmlaunch, SET_FLAGS "vmlaunch" GET_FLAGS);
PROBE(p_vmresume, SET_FLAGS "vmresume" GET_FLAGS);
PROBE(p_vmlaunch_mov_ss, "mov %ss, %ecx; " SET_FLAGS "mov %ecx, %ss; vmlaunch" GET_FLAGS);
PROBE(p_vmcall, SET_FLAGS "vmcall" GET_FLAGS);
PROBE(p_invept, SET_FLAGS "invept (%rdi), %rsi" GET_FLAGS);
PROBE(p_invvpid, SET_FLAGS "invvpid (%rdi), %rsi" GET_FLAGS);
PROBE(p_write_cr0, "mov %rdi, %cr0");
PROBE(p_write_cr4, "mov %rdi, %cr4");
PROBE(p_rdmsr, "mov %edi, %ecx; rdmsr");
PROBE(p_wrmsr, "mov %edi, %ecx; mov %esi, %eax; xor %edx, %edx; wrmsr");
PROBE(p_just_vmcall, "vmcall");

static void succeeds(struct trap t, const char *name)
{
    if (!ok(t.vector == TRAP_NONE && t.rax == 0, "%s", name))
        tap_note("  vector %x, flags %lx", t.vector, t.rax);
}

static void fails_invalid(struct trap t, const char *name)
{
    if (!ok(t.vector == TRAP_NONE && t.rax == RFLAGS_CF, "%s: VMfailInvalid", name))
        tap_note("  vector %x, flags %lx", t.vector, t.rax);
}

static void fails_valid(struct trap t, unsigned error, const char *name)
{
    uint64_t number = t.rax == RFLAGS_ZF ? vmread(VM_INSTRUCTION_ERROR) : 0;
    if (!ok(t.vector == TRAP_NONE && t.rax == RFLAGS_ZF && number == error, "%s: VMfailValid(%u)", name,
            error))
        tap_note("  vector %x, flags %lx, error %lu", t.vector, t.rax, number);
}

static void faults(struct trap t, unsigned vector, const char *name)
{
    if (!ok(t.vector == vector && t.error == 0, "%s: vector %u", name, vector))
        tap_note("  vector %x, error code %lx, flags %lx", t.vector, t.error, t.rax);
}

static uint64_t pointer; /* the operand of the pointer instructions */

static struct trap with_pointer(const char *probe, uint64_t value)
{
    pointer = value;
    return trap_catch(probe, &pointer, 0);
}

static void outside_vmx_operation(void)
{
    uint64_t region = vmx_new_region();
    write_cr4(read_cr4() & ~(uint64_t)CR4_VMXE);
    faults(with_pointer(p_vmxon, region), VECTOR_UD, "VMXON with CR4.VMXE=0");

    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4(read_cr4() | CR4_VMXE);
    faults(with_pointer(p_vmclear, region), VECTOR_UD, "VMCLEAR outside VMX operation");
    faults(with_pointer(p_vmptrld, region), VECTOR_UD, "VMPTRLD outside VMX operation");
    faults(with_pointer(p_vmptrst, region), VECTOR_UD, "VMPTRST outside VMX operation");
    faults(trap_catch(p_vmread, GUEST_RIP, 0), VECTOR_UD, "VMREAD outside VMX operation");
    faults(trap_catch(p_vmwrite, GUEST_RIP, 0), VECTOR_UD, "VMWRITE outside VMX operation");
    faults(trap_catch(p_vmlaunch, 0, 0), VECTOR_UD, "VMLAUNCH outside VMX operation");
    faults(trap_catch(p_vmresume, 0, 0), VECTOR_UD, "VMRESUME outside VMX operation");
    faults(trap_catch(p_vmxoff, 0, 0), VECTOR_UD, "VMXOFF outside VMX operation");
    faults(trap_catch(p_vmcall, 0, 0), VECTOR_UD, "VMCALL outside VMX operation");

    write_cr0(read_cr0() & ~(uint64_t)CR0_NE);
    faults(with_pointer(p_vmxon, region), VECTOR_GP, "VMXON with CR0.NE=0");
    write_cr0(read_cr0() | CR0_NE);
    faults(user_run(p_vmxon, USER_STACK, 0), VECTOR_GP, "VMXON at CPL 3");
    faults(trap_catch(p_vmxon, 1ul << 63, 0), VECTOR_GP, "VMXON with a non-canonical operand");
    struct trap t = trap_catch(p_vmxon, 0x123456789000ul, 0);
    ok(t.vector == VECTOR_PF && t.error == 0 && t.cr2 == 0x123456789000ul,
       "VMXON with an unmapped operand: #PF");

    fails_invalid(with_pointer(p_vmxon, region + 8), "VMXON, pointer not aligned");
    fails_invalid(with_pointer(p_vmxon, region | 1ul << maxphyaddr()), "VMXON, pointer beyond MAXPHYADDR");
    uint32_t *revision = (uint32_t *)region;
    *revision ^= 1;
    fails_invalid(with_pointer(p_vmxon, region), "VMXON, wrong revision");
    *revision ^= 1u << 31 | 1;
    fails_invalid(with_pointer(p_vmxon, region), "VMXON, bit 31 of the revision set");
    *revision ^= 1u << 31;
}

static void without_current_vmcs(void)
{
    if (!ok(vmx_on(), "VMXON")) panic("no VMX operation");
    uint64_t on = vmx_on_region();
    pointer = 0;
    succeeds(trap_catch(p_vmptrst, &pointer, 0), "VMPTRST without a current VMCS");
    is(pointer, ~0ul, "  stores all ones");
    fails_invalid(trap_catch(p_vmread, GUEST_RIP, 0), "VMREAD without a current VMCS");
    fails_invalid(trap_catch(p_vmread, 0xfffe, 0), "VMREAD of no field without a current VMCS");
    fails_invalid(trap_catch(p_vmwrite, GUEST_RIP, 0), "VMWRITE without a current VMCS");
    fails_invalid(trap_catch(p_vmlaunch, 0, 0), "VMLAUNCH without a current VMCS");
    fails_invalid(trap_catch(p_vmresume, 0, 0), "VMRESUME without a current VMCS");
    fails_invalid(trap_catch(p_vmcall, 0, 0), "VMCALL without a current VMCS");
    fails_invalid(with_pointer(p_vmxon, on), "VMXON in VMX root operation without a current VMCS");
    fails_invalid(with_pointer(p_vmclear, on + 8), "VMCLEAR, pointer not aligned, without a current VMCS");
    fails_invalid(with_pointer(p_vmclear, on), "VMCLEAR of the VMXON region without a current VMCS");
    fails_invalid(with_pointer(p_vmptrld, on), "VMPTRLD of the VMXON region without a current VMCS");

    faults(trap_catch(p_write_cr4, read_cr4() & ~(uint64_t)CR4_VMXE, 0), VECTOR_GP, "clearing CR4.VMXE");
    faults(trap_catch(p_write_cr0, read_cr0() & ~(uint64_t)CR0_NE, 0), VECTOR_GP, "clearing CR0.NE");
    faults(trap_catch(p_write_cr0, read_cr0() & ~(uint64_t)CR0_PG, 0), VECTOR_GP, "clearing CR0.PG");
}

static void pointers(uint64_t region)
{
    uint64_t beyond = region | 1ul << maxphyaddr(), on = vmx_on_region();
    succeeds(with_pointer(p_vmclear, region), "VMCLEAR");
    succeeds(with_pointer(p_vmptrld, region), "VMPTRLD");
    succeeds(trap_catch(p_vmptrst, &pointer, 0), "VMPTRST");
    is(pointer, region, "  stores the pointer");

    fails_valid(with_pointer(p_vmxon, on), VMX_ERROR_VMXON_IN_ROOT, "VMXON in VMX root operation");
    fails_valid(with_pointer(p_vmclear, region + 16), VMX_ERROR_VMCLEAR_ADDRESS, "VMCLEAR, not aligned");
    fails_valid(with_pointer(p_vmclear, beyond), VMX_ERROR_VMCLEAR_ADDRESS, "VMCLEAR, beyond MAXPHYADDR");
    fails_valid(with_pointer(p_vmclear, on), VMX_ERROR_VMCLEAR_VMXON_POINTER, "VMCLEAR of the VMXON region");
    fails_valid(with_pointer(p_vmptrld, region + 2048), VMX_ERROR_VMPTRLD_ADDRESS, "VMPTRLD, not aligned");
    fails_valid(with_pointer(p_vmptrld, beyond), VMX_ERROR_VMPTRLD_ADDRESS, "VMPTRLD, beyond MAXPHYADDR");
    fails_valid(with_pointer(p_vmptrld, on), VMX_ERROR_VMPTRLD_VMXON_POINTER, "VMPTRLD of the VMXON region");
    uint64_t other = vmx_new_region();
    *(uint32_t *)other ^= 1;
    fails_valid(with_pointer(p_vmptrld, other), VMX_ERROR_VMPTRLD_REVISION, "VMPTRLD, wrong revision");
    *(uint32_t *)other ^= 1;
    if (!vmx_has_secondary(PROC2_VMCS_SHADOWING)) {
        *(uint32_t *)other |= 1u << 31;
        fails_valid(with_pointer(p_vmptrld, other), VMX_ERROR_VMPTRLD_REVISION, "VMPTRLD, shadow VMCS");
        *(uint32_t *)other &= ~(1u << 31);
    } else {
        skip(1, "VMCS shadowing is there: bit 31 is legal");
    }
    succeeds(trap_catch(p_vmptrst, &pointer, 0), "VMPTRST after failed VMPTRLDs");
    is(pointer, region, "  still stores the old pointer");
    fails_valid(trap_catch(p_vmcall, 0, 0), VMX_ERROR_VMCALL_IN_ROOT, "VMCALL in VMX root operation");

    /* VMCLEAR of another region leaves the current one alone; of the current one, ends it. */
    succeeds(with_pointer(p_vmclear, other), "VMCLEAR of another VMCS");
    is(vmptrst(), region, "  leaves the current one");
    succeeds(with_pointer(p_vmclear, region), "VMCLEAR of the current VMCS");
    is(vmptrst(), ~0ul, "  ends it");
    succeeds(with_pointer(p_vmptrld, region), "VMPTRLD again");
}

static void privilege(void)
{
    faults(user_run(p_vmptrld, USER_STACK, 0), VECTOR_GP, "VMPTRLD at CPL 3");
    faults(user_run(p_vmclear, USER_STACK, 0), VECTOR_GP, "VMCLEAR at CPL 3");
    faults(user_run(p_vmptrst, USER_STACK, 0), VECTOR_GP, "VMPTRST at CPL 3");
    faults(user_run(p_vmread, 0xfffe, 0), VECTOR_GP, "VMREAD at CPL 3");
    faults(user_run(p_vmwrite, 0xfffe, 0), VECTOR_GP, "VMWRITE at CPL 3");
    faults(user_run(p_vmlaunch, 0, 0), VECTOR_GP, "VMLAUNCH at CPL 3");
    faults(user_run(p_vmresume, 0, 0), VECTOR_GP, "VMRESUME at CPL 3");
    faults(user_run(p_vmxoff, 0, 0), VECTOR_GP, "VMXOFF at CPL 3");
    faults(user_run(p_vmcall, 0, 0), VECTOR_GP, "VMCALL at CPL 3 in root");
    faults(user_run(p_vmxon, USER_STACK, 0), VECTOR_GP, "VMXON at CPL 3 in root");
}

static void fields(void)
{
    uint64_t value = 0;
    succeeds(trap_catch(p_vmwrite, GUEST_ES_SELECTOR, 0xfffffffffff81234), "VMWRITE of a 16-bit field");
    is(vmread(GUEST_ES_SELECTOR), 0x1234, "  keeps 16 bits");
    succeeds(trap_catch(p_vmwrite, GUEST_ES_LIMIT, 0xabcdef0112345678), "VMWRITE of a 32-bit field");
    is(vmread(GUEST_ES_LIMIT), 0x12345678, "  keeps 32 bits");
    succeeds(trap_catch(p_vmwrite, TSC_OFFSET, 0xabcdef0112345678), "VMWRITE of a 64-bit field");
    is(vmread(TSC_OFFSET), 0xabcdef0112345678, "  keeps 64 bits");
    is(vmread(TSC_OFFSET + 1), 0xabcdef01, "  whose high half reads alone");
    succeeds(trap_catch(p_vmwrite, TSC_OFFSET + 1, 0x9999999911111111), "VMWRITE of the high half");
    is(vmread(TSC_OFFSET), 0x1111111112345678, "  changes that half only");
    succeeds(trap_catch(p_vmwrite, GUEST_RIP, 0x8000000012345678), "VMWRITE of a natural-width field");
    is(vmread(GUEST_RIP), 0x8000000012345678, "  keeps 64 bits");
    succeeds(trap_catch(p_vmread_memory, GUEST_RIP, &value), "VMREAD to memory");
    is(value, 0x8000000012345678, "  stores 64 bits");
    value = 0x77;
    succeeds(trap_catch(p_vmwrite_memory, GUEST_RSP, &value), "VMWRITE from memory");
    is(vmread(GUEST_RSP), 0x77, "  takes it");

    unsigned unsupported = VMX_ERROR_UNSUPPORTED_COMPONENT;
    fails_valid(trap_catch(p_vmread, 0x7ffe, 0), unsupported, "VMREAD of no field");
    fails_valid(trap_catch(p_vmwrite, 0x7ffe, 0), unsupported, "VMWRITE to no field");
    fails_valid(trap_catch(p_vmread, GUEST_RIP | 1ul << 32, 0), unsupported,
                "VMREAD with bit 32 of the encoding");
    fails_valid(trap_catch(p_vmwrite, GUEST_RIP | 1ul << 40, 0), unsupported, "VMWRITE with bit 40");
    fails_valid(trap_catch(p_vmread, GUEST_RIP | 1ul << 16, 0), unsupported, "VMREAD with bit 16");
    fails_valid(trap_catch(p_vmread, GUEST_RIP + 1, 0), unsupported,
                "VMREAD, high half of a natural-width field");
    fails_valid(trap_catch(p_vmread, GUEST_ES_LIMIT + 1, 0), unsupported,
                "VMREAD, high half of a 32-bit field");

    if (rdmsr(IA32_VMX_MISC) & 1u << 29) {
        succeeds(trap_catch(p_vmwrite, EXIT_QUALIFICATION, 0x4711), "VMWRITE to an exit field (MISC[29]=1)");
        is(vmread(EXIT_QUALIFICATION), 0x4711, "  takes it");
    } else {
        fails_valid(trap_catch(p_vmwrite, EXIT_QUALIFICATION, 1), VMX_ERROR_READ_ONLY_COMPONENT,
                    "VMWRITE to an exit field (MISC[29]=0)");
        skip(1, "exit fields are read-only");
    }

    /* SDM, VMREAD and VMWRITE: a VMREAD looks at the field first, a VMWRITE fetches its operand first. */
    fails_valid(trap_catch(p_vmread_memory, 0x7ffe, 1ul << 63), unsupported,
                "VMREAD of no field to a bad address");
    faults(trap_catch(p_vmwrite_memory, 0x7ffe, 1ul << 63), VECTOR_GP,
           "VMWRITE to no field from a bad address");
    faults(trap_catch(p_vmread_memory, GUEST_RIP, 1ul << 63), VECTOR_GP, "VMREAD to a non-canonical address");
    struct trap t = trap_catch(p_vmread_memory, GUEST_RIP, 0x123456789000ul);
    ok(t.vector == VECTOR_PF && t.error == 2 && t.cr2 == 0x123456789000ul,
       "VMREAD to an unmapped page: #PF(2)");
    t = trap_catch(p_vmwrite_memory, GUEST_RIP, 0x123456789000ul);
    ok(t.vector == VECTOR_PF && t.error == 0 && t.cr2 == 0x123456789000ul,
       "VMWRITE from an unmapped page: #PF(0)");
}

static void launch_state(void)
{
    static struct vmx_vcpu v;
    guest_init(&v, p_just_vmcall);
    fails_valid(trap_catch(p_vmresume, 0, 0), VMX_ERROR_VMRESUME_NON_LAUNCHED, "VMRESUME of a clear VMCS");
    fails_valid(trap_catch(p_vmlaunch_mov_ss, 0, 0), VMX_ERROR_ENTRY_MOV_SS,
                "VMLAUNCH in the shadow of MOV SS");
    done(&v, "VMLAUNCH runs the guest");
    fails_valid(trap_catch(p_vmlaunch, 0, 0), VMX_ERROR_VMLAUNCH_NON_CLEAR, "VMLAUNCH of a launched VMCS");
    fails_valid(trap_catch(p_vmlaunch_mov_ss, 0, 0), VMX_ERROR_ENTRY_MOV_SS,
                "VMLAUNCH of a launched VMCS in the shadow of MOV SS");
    vmwrite(GUEST_RIP, (uint64_t)p_just_vmcall);
    done(&v, "VMRESUME runs it again");
    is(vmread(VM_INSTRUCTION_ERROR), VMX_ERROR_ENTRY_MOV_SS, "a VM exit leaves the instruction error alone");
    vmclear(v.vmcs);
    vmptrld(v.vmcs);
    fails_valid(trap_catch(p_vmresume, 0, 0), VMX_ERROR_VMRESUME_NON_LAUNCHED, "VMRESUME after VMCLEAR");
    v.launched = false;
    vmwrite(GUEST_RIP, (uint64_t)p_just_vmcall);
    done(&v, "VMLAUNCH after VMCLEAR: the data is still there");
}

static void invalidations(void)
{
    static uint64_t descriptor[2];
    unsigned error = VMX_ERROR_INVEPT_INVVPID_OPERAND;
    uint64_t cap = vmx_has_secondary(PROC2_ENABLE_EPT) || vmx_has_secondary(PROC2_ENABLE_VPID)
                       ? rdmsr(IA32_VMX_EPT_VPID_CAP)
                       : 0;
    if (vmx_has_secondary(PROC2_ENABLE_EPT) && (cap & 1u << 20)) {
        fails_valid(trap_catch(p_invept, descriptor, 0), error, "INVEPT type 0");
        fails_valid(trap_catch(p_invept, descriptor, 3), error, "INVEPT type 3");
        fails_valid(trap_catch(p_invept, descriptor, 1ul << 32 | 1), error, "INVEPT type with high bits");
        faults(user_run(p_invept, USER_STACK, 1), VECTOR_GP, "INVEPT at CPL 3");
        if (cap & 1u << 25) {
            descriptor[0] = ept_pointer(ept_new());
            succeeds(trap_catch(p_invept, descriptor, 1), "INVEPT single context");
            descriptor[0] |= 5ul << 3; /* walk length 6 or more */
            fails_valid(trap_catch(p_invept, descriptor, 1), error,
                        "INVEPT single context, EPTP with a bad length");
        } else {
            skip(2, "no single-context INVEPT");
        }
        if (cap & 1u << 26)
            succeeds(trap_catch(p_invept, descriptor, 2), "INVEPT all contexts");
        else
            skip(1, "no all-context INVEPT");
    } else {
        skip(7, "no INVEPT");
    }
    if (vmx_has_secondary(PROC2_ENABLE_VPID) && (cap & 1ul << 32) && (cap >> 40 & 15) == 15) {
        descriptor[0] = 5;
        descriptor[1] = (uint64_t)descriptor;
        succeeds(trap_catch(p_invvpid, descriptor, 0), "INVVPID address");
        succeeds(trap_catch(p_invvpid, descriptor, 1), "INVVPID single context");
        succeeds(trap_catch(p_invvpid, descriptor, 2), "INVVPID all contexts");
        succeeds(trap_catch(p_invvpid, descriptor, 3), "INVVPID single context but globals");
        fails_valid(trap_catch(p_invvpid, descriptor, 4), error, "INVVPID type 4");
        descriptor[1] = 1ul << 63;
        fails_valid(trap_catch(p_invvpid, descriptor, 0), error, "INVVPID of a non-canonical address");
        succeeds(trap_catch(p_invvpid, descriptor, 1), "INVVPID single context ignores the address");
        descriptor[0] = 0;
        descriptor[1] = 0;
        fails_valid(trap_catch(p_invvpid, descriptor, 0), error, "INVVPID address, VPID 0");
        fails_valid(trap_catch(p_invvpid, descriptor, 1), error, "INVVPID single context, VPID 0");
        succeeds(trap_catch(p_invvpid, descriptor, 2), "INVVPID all contexts ignores the VPID");
        fails_valid(trap_catch(p_invvpid, descriptor, 3), error, "INVVPID but globals, VPID 0");
        descriptor[0] = 1ul << 16 | 5;
        fails_valid(trap_catch(p_invvpid, descriptor, 1), error, "INVVPID with a reserved descriptor bit");
        faults(user_run(p_invvpid, USER_STACK, 1), VECTOR_GP, "INVVPID at CPL 3");
    } else {
        skip(13, "no INVVPID with all four types");
    }
}

static void capability_msrs(void)
{
    uint64_t basic = rdmsr(IA32_VMX_BASIC);
    ok(!(basic & 1ul << 31), "IA32_VMX_BASIC bit 31 is 0");
    uint64_t size = basic >> 32 & 0x1fff;
    ok(size > 0 && size <= 4096, "the VMCS region has at most 4 KiB");
    ok((rdmsr(IA32_VMX_CR0_FIXED0) & (CR0_PE | CR0_NE | CR0_PG)) == (CR0_PE | CR0_NE | CR0_PG),
       "CR0 needs PE, NE and PG");
    ok(rdmsr(IA32_VMX_CR4_FIXED0) & CR4_VMXE, "CR4 needs VMXE");
    for (unsigned i = 0; i < 4; i++) {
        uint64_t plain = rdmsr(IA32_VMX_PINBASED_CTLS + i);
        ok(((uint32_t)plain & ~(uint32_t)(plain >> 32)) == 0, "MSR %x: what must be 1 may be 1",
           IA32_VMX_PINBASED_CTLS + i);
        if (!(basic & 1ul << 55)) continue;
        uint64_t exact = rdmsr(IA32_VMX_TRUE_PINBASED_CTLS + i);
        ok((exact & ~plain & 0xffffffff) == 0 && exact >> 32 == plain >> 32,
           "MSR %x frees what %x demands, and allows the same", IA32_VMX_TRUE_PINBASED_CTLS + i,
           IA32_VMX_PINBASED_CTLS + i);
    }
    bool unrestricted = vmx_has_secondary(PROC2_UNRESTRICTED_GUEST);
    ok(!unrestricted || (rdmsr(IA32_VMX_MISC) & 1u << 5), "unrestricted guest comes with MISC[5]");
    ok((rdmsr(IA32_VMX_MISC) >> 16 & 0x1ff) <= 256, "the count of CR3 targets is sane");
    faults(trap_catch(p_wrmsr, IA32_VMX_BASIC, 0), VECTOR_GP, "WRMSR to IA32_VMX_BASIC");
    faults(trap_catch(p_wrmsr, IA32_FEATURE_CONTROL, 0), VECTOR_GP,
           "WRMSR to the locked IA32_FEATURE_CONTROL");
}

int rom_main(void)
{
    if (!vmx_test_begin("VMX instructions in root operation")) return 0;
    capability_msrs();
    outside_vmx_operation();
    without_current_vmcs();
    uint64_t region = vmx_new_region();
    pointers(region);
    privilege();
    fields();
    invalidations();
    launch_state();
    succeeds(trap_catch(p_vmxoff, 0, 0), "VMXOFF");
    faults(trap_catch(p_vmread, GUEST_RIP, 0), VECTOR_UD, "VMREAD after VMXOFF");
    struct trap t = trap_catch(p_write_cr4, read_cr4() & ~(uint64_t)CR4_VMXE, 0);
    is(t.vector, TRAP_NONE, "CR4.VMXE can be cleared after VMXOFF");
    return tap_end();
}

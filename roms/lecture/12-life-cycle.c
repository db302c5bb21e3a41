/*
 * 12. The answer: VMX. The life of a VMCS as a walk - VMXON, VMCLEAR, VMPTRLD, VMLAUNCH, exit, VMRESUME,
 * VMCLEAR, VMXOFF -, with what each step needs; the six groups of the VMCS and what each one did; and all
 * four rings, in VMX root operation and in non-root.
 *
 * The command line: resumes=N, how often the guest is resumed (3).
 */
#include "lecture.h"

/* Asks for CPUID, which always exits, RDI times; word 0 is how many it has had. */
GUEST(asks, "1: xor %eax, %eax; cpuid; incq 0x40000000; dec %rdi; jnz 1b" GUEST_ENDS);
GUEST(one_vmcall, "mov %cs, %eax; vmcall");

static const char *told(enum vmx_status s)
{
    return s == VMX_SUCCEED ? "VMsucceed" : s == VMX_FAIL_INVALID ? "VMfailInvalid" : "VMfailValid";
}

static uint32_t error_of(enum vmx_status s)
{
    return s == VMX_FAIL_VALID ? (uint32_t)vmread(VM_INSTRUCTION_ERROR) : 0;
}

static enum vmx_status step(const char *what, enum vmx_status s)
{
    if (s == VMX_FAIL_VALID)
        say("  %-34s %s, error %u", what, told(s), error_of(s));
    else
        say("  %-34s %s", what, told(s));
    return s;
}

static void walk(uint64_t resumes)
{
    uint64_t region = vmx_new_region(), ignored = 0;
    ok(step("VMREAD without a current VMCS", vmread_status(GUEST_RIP, &ignored)) == VMX_FAIL_INVALID,
       "VMREAD needs a current VMCS");
    step("VMCLEAR: the region is ready", vmclear(region));
    step("VMPTRLD: it is current", vmptrld(region));
    is(vmptrst(), region, "VMPTRST tells which is current");
    vt_vcpu.vmcs = region;
    GUEST_LOAD(asks);
    vt_prepare(); /* VMWRITEs */
    vt_vcpu.regs.gpr[RDI] = resumes + 1;
    vt_vcpu.launched = true; /* a lie: VMRESUME of one that was never launched */
    struct vmx_exit e = vmx_run(&vt_vcpu);
    step("VMRESUME before VMLAUNCH", e.status);
    is(e.error, 5, "VMRESUME wants a launched VMCS");
    vt_vcpu.launched = false;
    e = vmx_run(&vt_vcpu);
    step("VMLAUNCH: the guest runs", e.status);
    say("    it comes back by a VM exit: %s, at RIP %lx", vmx_exit_name(e.reason), vmread(GUEST_RIP));
    is(e.reason, EXIT_REASON_CPUID, "CPUID exits, always");
    vt_vcpu.launched = false;
    step("VMLAUNCH a second time", vmx_run(&vt_vcpu).status);
    is(vmread(VM_INSTRUCTION_ERROR), 4, "VMLAUNCH wants a clear VMCS");
    vt_vcpu.launched = true;
    uint64_t done = 0;
    while (e.reason == EXIT_REASON_CPUID) {
        vmx_skip_instruction();
        e = vmx_run(&vt_vcpu);
        done++;
    }
    figure(done, "VMRESUMEs, each up to the next exit");
    figure(guest_word(0), "times that the guest had CPUID");
    is(guest_word(0), resumes + 1, "the guest went on behind each exit");
    is(e.reason, EXIT_REASON_VMCALL, "and came to its VMCALL");
}

struct row {
    uint32_t field;
    const char *name, *did;
};
static void group(const char *title, const struct row *rows, unsigned n)
{
    say("  %s", title);
    for (unsigned i = 0; i < n; i++)
        say("    %-30s %16lx  %s", rows[i].name, vmread(rows[i].field), rows[i].did);
}
#define GROUP(title, ...) \
    group(title, (const struct row[]){__VA_ARGS__}, \
          sizeof((const struct row[]){__VA_ARGS__}) / sizeof(struct row))

static void groups(void)
{
    GROUP("1. guest-state area: loaded at each entry, written at each exit",
          {GUEST_RIP, "GUEST_RIP", "where the guest stood"}, {GUEST_CR3, "GUEST_CR3", "its own page tables"},
          {GUEST_CS_SELECTOR, "GUEST_CS_SELECTOR", "ring 0, its own GDT's"},
          {GUEST_CS_ACCESS_RIGHTS, "GUEST_CS_ACCESS_RIGHTS", "the hidden part, too"});
    GROUP("2. host-state area: loaded at each exit", {HOST_RIP, "HOST_RIP", "the monitor's exit handler"},
          {HOST_CR3, "HOST_CR3", "the monitor's page tables"}, {HOST_RSP, "HOST_RSP", "its stack"});
    GROUP("3. VM-execution controls: what exits",
          {PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, "PRIMARY_PROCESSOR_BASED",
           "MSR bitmaps, secondary controls"},
          {SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, "SECONDARY_PROCESSOR_BASED", "EPT"},
          {EXCEPTION_BITMAP, "EXCEPTION_BITMAP", "every exception"},
          {EPTP, "EPTP", "which memory is the guest's"});
    GROUP("4. VM-exit controls: what an exit does",
          {PRIMARY_VM_EXIT_CONTROLS, "PRIMARY_VM_EXIT_CONTROLS", "the host is in 64-bit mode"});
    GROUP("5. VM-entry controls: what an entry does",
          {VM_ENTRY_CONTROLS, "VM_ENTRY_CONTROLS", "so is the guest"},
          {INJECTED_EVENT_IDENTIFICATION, "INJECTED_EVENT", "nothing was injected"});
    GROUP("6. VM-exit information: why it exited", {EXIT_REASON, "EXIT_REASON", "VMCALL"},
          {EXIT_QUALIFICATION, "EXIT_QUALIFICATION", "nothing to add"},
          {VM_EXIT_INSTRUCTION_LENGTH, "VM_EXIT_INSTRUCTION_LENGTH", "of VMCALL"});
}

/* ---- four rings, twice ---- */
GUEST(reads_cs, "mov %cs, %eax; int $0x81");
static unsigned ring_in_root(unsigned ring)
{
    GUEST_LOAD(reads_cs); /* ring 3 needs a user's page */
    rt_gdt[SEL_SPARE / 8] = 0x00af9b000000ffff | (uint64_t)ring << 45;
    rt_gdt[SEL_SPARE / 8 + 1] = 0x00cf93000000ffff | (uint64_t)ring << 45;
    struct trap t = trap_user(GUEST_CODE, (uint16_t)(SEL_SPARE | ring), GUEST_STACK,
                              (uint16_t)((SEL_SPARE + 8) | ring), RFLAGS_FIXED, 0, 0);
    return t.vector == TRAP_DONE ? (unsigned)t.rax & 3 : 9;
}
static unsigned ring_in_guest(unsigned ring)
{
    GUEST_LOAD(one_vmcall);
    vt_prepare();
    uint64_t *gdt = (uint64_t *)(guest_memory + (GUEST_GDT - GUEST_AT));
    gdt[3] = 0x00af9b000000ffff | (uint64_t)ring << 45;
    vmwrite(GUEST_CS_SELECTOR, 0x18 | ring);
    vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xa09b | ring << 5);
    vmwrite(GUEST_SS_SELECTOR, 0x20 | ring);
    vmwrite(GUEST_SS_ACCESS_RIGHTS, 0xc093 | ring << 5);
    struct vmx_exit e = vmx_run(&vt_vcpu);
    return e.status == VMX_SUCCEED && e.reason == EXIT_REASON_VMCALL ? (unsigned)vt_vcpu.regs.gpr[RAX] & 3
                                                                     : 9;
}

int rom_main(void)
{
    uint64_t resumes = cmdline_number("resumes", 3);
    const char *why = vt_missing();
    lecture_begin(12, "VMX itself: life cycle, VMCS, rings");
    scene("the walk");
    if (why) {
        skip(16, why);
        return lecture_end();
    }
    say("  VMXON: CR4.VMXE is %u, VMCS revision %x: this is VMX root operation",
        read_cr4() & CR4_VMXE ? 1 : 0, (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7fffffff);
    walk(resumes);
    scene("the six groups of the VMCS, after that run");
    groups();
    is(vmread(EXIT_REASON), EXIT_REASON_VMCALL, "the exit information tells of the last exit");
    scene("all four rings, in root operation and in non-root operation");
    for (unsigned ring = 0; ring < 4; ring++) {
        unsigned root = ring_in_root(ring), guest = ring_in_guest(ring);
        say("  CS says ring %u in root operation, ring %u in non-root: two machines on one processor", root,
            guest);
        ok(root == ring && guest == ring, "ring %u is there in both", ring);
    }
    scene("the end");
    is(step("VMCLEAR: the VMCS is in memory, whole", vmclear(vt_vcpu.vmcs)), VMX_SUCCEED, "VMCLEAR");
    is(vmptrst(), ~0ul, "no VMCS is current");
    struct vmx_exit e = vmx_run(&vt_vcpu);
    step("VMLAUNCH without a current VMCS", e.status);
    is(e.status, VMX_FAIL_INVALID, "nothing to launch");
    vmx_off();
    say("  VMXOFF: CR4.VMXE is %u", read_cr4() & CR4_VMXE ? 1 : 0);
    is(read_cr4() & CR4_VMXE, 0, "the processor is as it was before VMXON");
    return lecture_end();
}

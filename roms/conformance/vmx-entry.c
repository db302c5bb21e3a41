/*
 * VM entry as a whole: what VMLAUNCH and VMRESUME look at before any field (SDM 29.1), which group of checks
 * comes first, and what a failed entry leaves behind (SDM 29.8). The checks of the fields, a row a rule, are
 * in vmx-entry-controls.c, -injection.c, -host.c, -guest.c, -segments.c and -state.c.
 *
 * Bochs 2.7 has no check for BASIC-007, and a failed entry changes more of the exit information there than
 * reason and qualification.
 *
 * Missing: machine checks during entry (MCE-001).
 */
#include "vmx-entry.h"

PROBE(g_vmcall, "vmcall");
PROBE(g_page_fault, "mov %rax, (%rdi)");
PROBE(p_vmresume, "vmresume; pushfq; pop %rax");
PROBE(p_mov_ss_launch, "mov %ss, %eax; mov %eax, %ss; vmlaunch; pushfq; pop %rax");
PROBE(p_mov_ss_resume, "mov %ss, %eax; mov %eax, %ss; vmresume; pushfq; pop %rax");
PROBE(p_sti_launch, "sti; vmlaunch; cli; pushfq; pop %rax");
PROBE(p_btf, "mov $0x1d9, %ecx; mov $2, %eax; xor %edx, %edx; wrmsr");
PROBE(p_launch_vm, "vmlaunch; pushfq; pop %rax");

static struct vmx_vcpu v;

static void fails(const char *probe, int error, const char *name) /* -1: VMfailInvalid */
{
    struct trap t = trap_catch(probe, 0, 0);
    uint64_t want = error < 0 ? RFLAGS_CF : RFLAGS_ZF, got = error < 0 ? 0 : vmread(VM_INSTRUCTION_ERROR);
    if (!ok(t.vector == TRAP_NONE && (t.rax & (RFLAGS_CF | RFLAGS_ZF)) == want &&
                (error < 0 || got == (uint64_t)error),
            "%s", name))
        tap_note("  vector %x, flags %lx, error %lu", t.vector, t.rax, got);
}

/* SDM 29.1, in its order; the control field that is broken beside is looked at later. */
static void basic(void)
{
    plain(&v);
    vmwrite(CR3_TARGET_COUNT, 1000);
    fails(p_vmresume, VMX_ERROR_VMRESUME_NON_LAUNCHED,
          "BASIC-010: VMRESUME of a clear VMCS, before the controls");
    fails(p_mov_ss_resume, VMX_ERROR_ENTRY_MOV_SS,
          "BASIC-008: VMRESUME under blocking by MOV SS, before the launch state");
    fails(p_mov_ss_launch, VMX_ERROR_ENTRY_MOV_SS,
          "BASIC-008: VMLAUNCH under blocking by MOV SS, before the controls");
    fails(p_sti_launch, VMX_ERROR_ENTRY_CONTROLS, "BASIC-008 holds: blocking by STI does not matter");
    vmwrite(CR3_TARGET_COUNT, 0);
    done(&v, "BASIC-009 holds: VMLAUNCH of a clear VMCS");
    vmwrite(CR3_TARGET_COUNT, 1000);
    fails(p_launch_vm, VMX_ERROR_VMLAUNCH_NON_CLEAR,
          "BASIC-009: VMLAUNCH of a launched VMCS, before the controls");
    fails(p_mov_ss_launch, VMX_ERROR_ENTRY_MOV_SS,
          "BASIC-008: VMLAUNCH of a launched VMCS under blocking by MOV SS");
    fails(p_vmresume, VMX_ERROR_ENTRY_CONTROLS,
          "BASIC-010 holds: VMRESUME of a launched VMCS comes to the controls");
    vmclear(v.vmcs);
    fails(p_launch_vm, -1, "BASIC-006: VMLAUNCH without a current VMCS");
    fails(p_vmresume, -1, "BASIC-006: VMRESUME without a current VMCS");
    fails(p_mov_ss_launch, -1, "BASIC-006: before blocking by MOV SS");

    if (!vmx_has_secondary(PROC2_VMCS_SHADOWING)) {
        skip_one("BASIC-007: a shadow VMCS", "no VMCS shadowing");
        skip_one("BASIC-007: before blocking by MOV SS", "no VMCS shadowing");
        return;
    }
    *(uint32_t *)v.vmcs |= 1u << 31;
    if (vmptrld(v.vmcs) != VMX_SUCCEED) panic("VMPTRLD of a shadow VMCS failed");
    fails(p_launch_vm, -1, "BASIC-007: a shadow VMCS");
    fails(p_mov_ss_launch, -1, "BASIC-007: before blocking by MOV SS");
    vmclear(v.vmcs);
    *(uint32_t *)v.vmcs &= 0x7fffffff;
}

/* Two faults at once: the manual lets controls and host state be checked in any order, but before guest
 * state. */
static void order(void)
{
    plain(&v);
    vmwrite(CR3_TARGET_COUNT, 1000);
    vmwrite(HOST_CS_SELECTOR, 0);
    struct vmx_exit e = vmx_run(&v);
    ok(e.status == VMX_FAIL_VALID && (e.error == 7 || e.error == 8),
       "a bad control and bad host state: 7 or 8");
    plain(&v);
    vmwrite(CR3_TARGET_COUNT, 1000);
    vmwrite(GUEST_RFLAGS, 0);
    entry_fails(&v, 7, "a bad control and bad guest state: 7");
    plain(&v);
    vmwrite(HOST_CS_SELECTOR, 0);
    vmwrite(GUEST_RFLAGS, 0);
    entry_fails(&v, 8, "bad host and bad guest state: 8");
    plain(&v);
    vmwrite(INJECT, EVENT_VALID | EVENT_TYPE(1));
    vmwrite(VMCS_LINK_POINTER, 0);
    entry_fails(&v, 7, "a bad event and a bad link pointer: 7");
    msr_load(&v);
    ((uint64_t *)spare_page)[4] = IA32_FS_BASE;
    vmwrite(GUEST_RFLAGS, 0);
    exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
            "bad guest state and a bad MSR area: guest state");
    memset((void *)spare_page, 0, 4096);
}

/* ---- what a failed entry leaves behind ---- */

static const uint32_t information[] = {GUEST_PHYSICAL_ADDRESS,
                                       EXITING_EVENT_IDENTIFICATION,
                                       EXITING_EVENT_ERROR_CODE,
                                       ORIGINAL_EVENT_IDENTIFICATION,
                                       ORIGINAL_EVENT_ERROR_CODE,
                                       VM_EXIT_INSTRUCTION_LENGTH,
                                       VM_EXIT_INSTRUCTION_INFORMATION,
                                       IO_RCX,
                                       IO_RSI,
                                       IO_RDI,
                                       IO_RIP,
                                       GUEST_LINEAR_ADDRESS};
#define FIELDS (sizeof(information) / sizeof(information[0]))

static void read_information(uint64_t *to)
{
    for (unsigned i = 0; i < FIELDS; i++) {
        to[i] = 0;
        vmread_status(information[i], &to[i]);
    }
}

static void information_is(const uint64_t *want, const char *name)
{
    uint64_t got[FIELDS];
    read_information(got);
    unsigned i = 0;
    while (i < FIELDS && got[i] == want[i]) i++;
    if (!ok(i == FIELDS, "%s", name))
        tap_note("  field %x: got %lx, want %lx", information[i], got[i], want[i]);
}

static void after_failure(void)
{
    uint64_t before[FIELDS];
    guest_init(&v, g_page_fault);
    v.regs.gpr[RDI] = 0x123456789000;
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "a page fault that exits");
    is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 14,
       "  fills in exit information");
    read_information(before);
    vmwrite(GUEST_RIP, (uint64_t)g_vmcall);
    vmwrite(CR3_TARGET_COUNT, 1000);
    entry_fails(&v, VMX_ERROR_ENTRY_CONTROLS, "VMRESUME with a bad control");
    is(vmread(EXIT_REASON), EXIT_REASON_EXCEPTION_OR_NMI, "  leaves the exit reason");
    is(vmread(EXIT_QUALIFICATION), 0x123456789000, "  and the qualification");
    information_is(before, "  and the other exit information");
    vmwrite(CR3_TARGET_COUNT, 0);

    uint64_t rip = vmread(GUEST_RIP), entry = vmread(ENTRY_FIELD);
    vmwrite(GUEST_RFLAGS, 0);
    vmwrite(INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
                                "VMRESUME with bad guest state");
    is(e.qualification, 0, "  qualification 0");
    is(vmread(VM_INSTRUCTION_ERROR), VMX_ERROR_ENTRY_CONTROLS, "  leaves the VM-instruction error");
    information_is(before, "  leaves the other exit information");
    is(vmread(GUEST_RIP), rip, "  leaves the guest state");
    is(vmread(ENTRY_FIELD), entry, "  leaves the entry controls");
    is(vmread(INJECT), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6, "  leaves the injected event valid");
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
    vmwrite(INJECT, 0);
    done(&v, "  leaves the VMCS launched: VMRESUME works");

    plain(&v);
    vmwrite(GUEST_RFLAGS, 0);
    exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
            "VMLAUNCH with bad guest state");
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
    done(&v, "  leaves the VMCS clear: VMLAUNCH works");
}

/* Host state after a failed entry: loaded as by any exit, the MSR-load area of VM exit included; nothing is
 * stored (SDM 29.8). */
static void host_after_failure(void)
{
    struct {
        uint64_t index, value;
    } *store = page_alloc(1), *load = page_alloc(1);
    uint64_t kernel_gs = rdmsr(0xc0000102), cs = rdmsr(IA32_SYSENTER_CS);
    plain(&v);
    store->index = IA32_SYSENTER_CS;
    store->value = 0x5a5a;
    load->index = 0xc0000102;
    load->value = 0x4711000;
    vmwrite(VM_EXIT_MSR_STORE_ADDRESS, (uint64_t)store);
    vmwrite(VM_EXIT_MSR_STORE_COUNT, 1);
    vmwrite(VM_EXIT_MSR_LOAD_ADDRESS, (uint64_t)load);
    vmwrite(VM_EXIT_MSR_LOAD_COUNT, 1);
    vmwrite(HOST_IA32_SYSENTER_CS, 0x77);
    vmwrite(HOST_IA32_SYSENTER_ESP, 0x7000);
    vmwrite(HOST_FS_BASE, 0x123000);
    vmwrite(GUEST_RFLAGS, 0);
    bool btf = trap_catch(p_btf, 0, 0).vector == TRAP_NONE;
    exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
            "a failed entry loads the host's state:");
    is(rdmsr(IA32_SYSENTER_CS), 0x77, "  IA32_SYSENTER_CS");
    is(rdmsr(IA32_SYSENTER_ESP), 0x7000, "  IA32_SYSENTER_ESP");
    is(rdmsr(IA32_FS_BASE), 0x123000, "  FS base");
    if (btf)
        is(rdmsr(IA32_DEBUGCTL), 0, "  IA32_DEBUGCTL");
    else
        skip_one("  IA32_DEBUGCTL", "it has no BTF");
    is(rdmsr(0xc0000102), 0x4711000, "  the VM-exit MSR-load area");
    is(store->value, 0x5a5a, "  and does not store the VM-exit MSR-store area");
    wrmsr(IA32_SYSENTER_CS, cs);
    wrmsr(IA32_FS_BASE, 0);
    wrmsr(0xc0000102, kernel_gs);
}

/* ---- RFLAGS.TF of VMLAUNCH (SDM 29): a trap behind it only where control passes to the next instruction
 * ---- */

static unsigned steps;
static uint64_t step_rip;

static bool stepped(struct trap_frame *f)
{
    steps++;
    step_rip = f->rip;
    f->rflags &= ~(uint64_t)RFLAGS_TF;
    return true;
}

/* VMLAUNCH of the current VMCS with TF set by the POPF before it. Returns what follows it, and an exit leads
   there as well, so a trap that an exit left pending strikes there too. */
static uint64_t stepping_launch(void)
{
    uint64_t behind;
    steps = 0, step_rip = 0;
    trap_on(VECTOR_DB, stepped);
    asm volatile("lea 1f(%%rip), %0; vmwrite %0, %2; vmwrite %%rsp, %1;"
                 "pushfq; orl $0x100, (%%rsp); popfq; vmlaunch; 1: nop; nop"
                 : "=&r"(behind)
                 : "r"((uint64_t)HOST_RSP), "r"((uint64_t)HOST_RIP)
                 : "cc", "memory");
    trap_on(VECTOR_DB, NULL);
    return behind;
}

static void single_step(void)
{
    plain(&v);
    vmwrite(CR3_TARGET_COUNT, 1000);
    uint64_t behind = stepping_launch();
    ok(steps == 1 && step_rip == behind, "SDM 29: TF and VMLAUNCH with a bad control: a trap behind it");
    is(vmread(VM_INSTRUCTION_ERROR), VMX_ERROR_ENTRY_CONTROLS, "  which was VMfailValid(7)");
    plain(&v);
    vmwrite(HOST_CS_SELECTOR, 0);
    behind = stepping_launch();
    ok(steps == 1 && step_rip == behind, "  with bad host state: a trap as well");
    plain(&v);
    vmwrite(GUEST_RFLAGS, 0);
    stepping_launch();
    is(steps, 0, "SDM 29: TF and VMLAUNCH with bad guest state: no trap");
    is(vmread(EXIT_REASON), EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
       "  the entry failed");
    msr_load(&v);
    ((uint64_t *)spare_page)[0] = IA32_FS_BASE;
    stepping_launch();
    is(steps, 0, "SDM 29: TF and VMLAUNCH with a bad MSR area: no trap");
    is(vmread(EXIT_REASON), EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_MSR_LOADING,
       "  the entry failed");
    memset((void *)spare_page, 0, 4096);
    plain(&v);
    stepping_launch();
    is(steps, 0, "SDM 29: TF and VMLAUNCH that enters: no trap, neither in the guest nor behind its exit");
    is(vmread(EXIT_REASON), EXIT_REASON_VMCALL, "  the guest ran");
}

int rom_main(void)
{
    if (!vmx_test_begin("VM entry: basic checks, order, failure")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    entry_begin();
    basic();
    order();
    after_failure();
    host_after_failure();
    single_step();
    return tap_end();
}

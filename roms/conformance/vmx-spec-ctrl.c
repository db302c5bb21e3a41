/*
 * IA32_SPEC_CTRL in VMX: "virtualize IA32_SPEC_CTRL" with its mask and shadow (SDM 28.3), and its loading by
 * VM entry and VM exit (SDM 29.3.2.1, 30.3.1, 30.5.1). Only the bits are looked at, not what they do.
 *
 * Bochs 2.7 has none of this; every point is skipped there.
 */
#include "vmx-common.h"

#define IBRS  1ul
#define STIBP 2ul

static struct vmx_vcpu v;
static uint64_t *seen;
static uint8_t msr_bitmaps[4096] __attribute__((aligned(4096)));

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
CODE(g_read, "mov $0x48, %ecx; rdmsr; mov %eax, (%rdi); mov %edx, 4(%rdi)");
CODE(g_write, "mov (%rdi), %eax; mov 4(%rdi), %edx; mov $0x48, %ecx; wrmsr");

static void start(const void *code, uint64_t value)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)seen;
    *seen = value;
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)msr_bitmaps);
}

static void start_virtual(const void *code, uint64_t value, uint64_t mask, uint64_t shadow)
{
    start(code, value);
    vmx_set_proc3(PROC3_VIRTUALIZE_IA32_SPEC_CTRL);
    vmwrite(IA32_SPEC_CTRL_MASK, mask);
    vmwrite(IA32_SPEC_CTRL_SHADOW, shadow);
}

static void virtualized(void)
{
    if (!vmx_has_tertiary(PROC3_VIRTUALIZE_IA32_SPEC_CTRL)) {
        skip(16, "no virtualize IA32_SPEC_CTRL");
        return;
    }
    wrmsr(IA32_SPEC_CTRL, IBRS);
    start_virtual(g_read, 0, 0, 0x123456789abcdef0);
    done(&v, "RDMSR with virtualize IA32_SPEC_CTRL");
    is(*seen, 0x123456789abcdef0, "  reads the shadow");
    is(rdmsr(IA32_SPEC_CTRL), IBRS, "  not the register");
    start_virtual(g_write, STIBP, IBRS, 0);
    done(&v, "WRMSR with virtualize IA32_SPEC_CTRL");
    is(rdmsr(IA32_SPEC_CTRL), IBRS | STIBP, "  changes the bits outside of the mask, and no others");
    is(vmread(IA32_SPEC_CTRL_SHADOW), STIBP, "  and the shadow as written");
    start_virtual(g_write, 1ul << 63, 0, STIBP);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "WRMSR of a reserved bit is #GP");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, 13, "  vector 13");
    is(vmread(IA32_SPEC_CTRL_SHADOW), STIBP, "  the shadow stays");
    is(rdmsr(IA32_SPEC_CTRL), IBRS | STIBP, "  and the register");
    start_virtual(g_write, 1ul << 63, 1ul << 63 | IBRS | STIBP, 0);
    done(&v, "WRMSR of a reserved bit that the mask covers is not");
    is(vmread(IA32_SPEC_CTRL_SHADOW), 1ul << 63, "  it gets into the shadow");
    is(rdmsr(IA32_SPEC_CTRL), IBRS | STIBP, "  and not into the register");
    start_virtual(g_read, 0, 0, 0);
    msr_bitmaps[0x48 / 8] = 1;
    exit_is(&v, EXIT_REASON_RDMSR, "the MSR bitmap comes before virtualize IA32_SPEC_CTRL");
    msr_bitmaps[0x48 / 8] = 0;
    start(g_read, 0);
    wrmsr(IA32_SPEC_CTRL, STIBP);
    done(&v, "RDMSR without virtualize IA32_SPEC_CTRL");
    is(*seen, STIBP, "  reads the register");
    wrmsr(IA32_SPEC_CTRL, 0);
}

static void loading(void)
{
    if (!vmx_allowed(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_IA32_SPEC_CTRL)) {
        skip(5, "no load IA32_SPEC_CTRL on entry");
    } else {
        wrmsr(IA32_SPEC_CTRL, IBRS);
        start(g_read, 0);
        vmwrite(GUEST_IA32_SPEC_CTRL, STIBP);
        done(&v, "VM entry without load IA32_SPEC_CTRL");
        is(*seen, IBRS, "  leaves the register");
        is(vmread(GUEST_IA32_SPEC_CTRL), IBRS, "  VM exit saves it all the same");
        start(g_read, 0);
        vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_IA32_SPEC_CTRL);
        vmwrite(GUEST_IA32_SPEC_CTRL, STIBP);
        done(&v, "VM entry with load IA32_SPEC_CTRL");
        is(*seen, STIBP, "  loads it");
    }
    if (!vmx_has_exit2(EXIT2_LOAD_IA32_SPEC_CTRL)) {
        skip(3, "no load IA32_SPEC_CTRL on exit");
        return;
    }
    wrmsr(IA32_SPEC_CTRL, IBRS);
    start(g_read, 0);
    vmx_set_exit2(EXIT2_LOAD_IA32_SPEC_CTRL);
    vmwrite(HOST_IA32_SPEC_CTRL, STIBP);
    done(&v, "VM exit with load IA32_SPEC_CTRL");
    is(*seen, IBRS, "  is not seen by the guest");
    is(rdmsr(IA32_SPEC_CTRL), STIBP, "  loads the host's");
    wrmsr(IA32_SPEC_CTRL, 0);
}

int rom_main(void)
{
    if (!vmx_test_begin("IA32_SPEC_CTRL: virtualized, loaded by entries and exits")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    seen = page_alloc(1);
    virtualized();
    loading();
    return tap_end();
}

/*
 * The monitor with VT-x: the guest has ring 0 and all the others, its own page tables and descriptor tables,
 * and the processor switches between it and us. What exits is what we asked to.
 */
#include "lecture.h"

struct vmx_vcpu vt_vcpu;
uint8_t *vt_msr_bitmap;
bool (*vt_hook)(const struct vmx_exit *e);

const char *vt_missing(void)
{
    static const char *why;
    static bool asked;
    if (asked) return why;
    asked = true;
    if (!vmx_available(&why)) return why;
    why = NULL;
    if (!vmx_has_secondary(PROC2_ENABLE_EPT))
        why = "the processor has no EPT";
    else if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS))
        why = "the processor has no MSR bitmaps";
    else if (!vmx_on())
        why = "VMXON failed";
    return why;
}

static void segment(uint32_t field, uint16_t selector, uint32_t rights)
{
    vmwrite(GUEST_ES_SELECTOR + field, selector);
    vmwrite(GUEST_ES_ACCESS_RIGHTS + field, rights);
}

void vt_prepare(void)
{
    static uint64_t ept;
    if (!ept) {
        ept = ept_new();
        ept_map_large(ept, 0, (uint64_t)guest_memory, EPT_RWX); /* all that it can reach: its own 2 MiB */
        vt_msr_bitmap = page_alloc(1);
    }
    vmx_vcpu_init(&vt_vcpu, GUEST_CODE, GUEST_STACK);
    vmx_set_proc2(PROC2_ENABLE_EPT);
    vmwrite(EPTP, ept_pointer(ept));
    vmx_set_proc(PROC_USE_MSR_BITMAPS); /* all bits 0: no MSR of the guest-state area exits */
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)vt_msr_bitmap);
    vmwrite(GUEST_CR3, GUEST_PAGES);
    vmwrite(GUEST_GDTR_BASE, GUEST_GDT);
    vmwrite(GUEST_GDTR_LIMIT, 0x4f);
    vmwrite(GUEST_IDTR_BASE, GUEST_IDT);
    vmwrite(GUEST_IDTR_LIMIT, 0xfff);
    segment(2 * 1, 0x08, 0xa09b); /* CS */
    segment(2 * 7, 0x40, 0x8b);   /* TR */
    vmwrite(GUEST_TR_BASE, GUEST_AT + 0x15000);
    vmwrite(GUEST_TR_LIMIT, 0x67);
    vmwrite(EXCEPTION_BITMAP, 0xffffffff);
}

/* What needs nothing but to be stepped over. */
static bool vt_emulate(const struct vmx_exit *e)
{
    if (e->reason == EXIT_REASON_CPUID) {
        struct cpuid c = cpuid((uint32_t)vt_vcpu.regs.gpr[RAX], (uint32_t)vt_vcpu.regs.gpr[RCX]);
        vt_vcpu.regs.gpr[RAX] = c.eax;
        vt_vcpu.regs.gpr[RBX] = c.ebx;
        vt_vcpu.regs.gpr[RCX] = c.ecx;
        vt_vcpu.regs.gpr[RDX] = c.edx;
    } else if (e->reason != EXIT_REASON_HLT && e->reason != EXIT_REASON_IO_INSTRUCTION) {
        return false;
    }
    vmx_skip_instruction();
    return true;
}

struct outcome vt_run(uint64_t a, uint64_t b)
{
    struct outcome o = {0};
    vt_vcpu.regs.gpr[RDI] = a;
    vt_vcpu.regs.gpr[RSI] = b;
    uint64_t begun = rdtsc();
    for (;;) {
        struct vmx_exit e = vmx_run(&vt_vcpu);
        o.ticks = rdtsc() - begun;
        if (e.status != VMX_SUCCEED) panic("VM entry refused: status %d, error %u", (int)e.status, e.error);
        o.vector = e.reason;
        if (e.reason == EXIT_REASON_VMCALL && (uint32_t)vt_vcpu.regs.gpr[RAX] == 0) {
            o.finished = true;
            break;
        }
        o.exits++;
        count(vmx_exit_name(e.reason));
        if (!(vt_hook && vt_hook(&e)) && !vt_emulate(&e)) break;
    }
    o.rip = vmread(GUEST_RIP);
    return o;
}

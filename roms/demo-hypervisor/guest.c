/*
 * Making a guest: memory of its own, EPT that shows it that memory and nothing else, and a VMCS whose
 * controls say what the hypervisor wants to hear of.
 */
#include "guest.h"

/* One bit a port; all set: every port access of a guest is a VM exit. The guests share the page pair. */
static uint8_t *all_ports(void)
{
    static uint8_t *bitmaps;
    if (!bitmaps) {
        bitmaps = page_alloc(2);
        memset(bitmaps, 0xff, 2 * 4096);
    }
    return bitmaps;
}

/* The page tables on which a 64-bit guest starts, inside its own memory: the first 4 MiB one to one, in 2 MiB
   pages. That is more than it has, on purpose: what lies beyond is for EPT to refuse, not for the guest's
   tables. */
static uint64_t guest_page_tables(struct guest *g)
{
    uint64_t *pml4 = (uint64_t *)(g->memory + 0x1000);
    uint64_t *pdpt = (uint64_t *)(g->memory + 0x2000);
    uint64_t *pd = (uint64_t *)(g->memory + 0x3000);
    pml4[0] = 0x2000 | PTE_P | PTE_W;
    pdpt[0] = 0x3000 | PTE_P | PTE_W;
    pd[0] = 0x000000 | PTE_P | PTE_W | PTE_PS;
    pd[1] = 0x200000 | PTE_P | PTE_W | PTE_PS;
    return 0x1000;
}

void guest_create(struct guest *g, const struct guest_plan *plan)
{
    *g = (struct guest){.plan = plan};
    g->memory = page_alloc_aligned((unsigned)(plan->memory_size / 4096), 0x200000);
    memcpy(g->memory + plan->image_at, plan->image, (size_t)(plan->image_end - plan->image));

    /* A VMCS with our host state, and a 64-bit guest for a start. */
    vmx_vcpu_init(&g->vcpu, plan->image_at, 0);

    /* Guest-physical 0 .. memory_size is its memory; everything else has no EPT entry and is an EPT
     * violation. */
    g->vcpu.ept = ept_new();
    ept_map(g->vcpu.ept, 0, (uint64_t)g->memory, plan->memory_size, EPT_RWX);
    vmwrite(EPTP, ept_pointer(g->vcpu.ept));
    vmx_set_proc2(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST);

    /* Our interrupts stay ours; the preemption timer bounds the guest's turn, and an exit in the middle of
       the turn keeps what is left of it. */
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING | PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS,
            vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);

    /* HLT hands over the processor; ports are mediated. CPUID exits always, and so do RDMSR and WRMSR as long
       as no MSR bitmap says otherwise. */
    vmx_set_proc(PROC_HLT_EXITING | PROC_USE_IO_BITMAPS);
    vmwrite(ADDRESS_OF_IO_BITMAP_A, (uint64_t)all_ports());
    vmwrite(ADDRESS_OF_IO_BITMAP_B, (uint64_t)all_ports() + 4096);

    /* VMX forces CR4.VMXE; the guest reads 0 instead, and may write that 0 back. */
    vmwrite(CR4_GUEST_HOST_MASK, CR4_VMXE);
    vmwrite(CR4_READ_SHADOW, 0);

    if (plan->real_mode) {
        /* As after a PC's boot: all segments 0, so that IP is the address. */
        vmx_guest_real_mode(0);
    } else {
        vmwrite(GUEST_CR3, guest_page_tables(g));
        /* The guest brings its own GDT and IDT; until then it has none. */
        vmwrite(GUEST_GDTR_BASE, 0);
        vmwrite(GUEST_GDTR_LIMIT, 0);
        vmwrite(GUEST_IDTR_BASE, 0);
        vmwrite(GUEST_IDTR_LIMIT, 0);
        vmwrite(GUEST_TR_BASE, 0);
    }
}

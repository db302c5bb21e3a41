/*
 * 2. Address-space compression: the monitor lives in the guest's linear address space, for interrupts and
 * faults do not switch it: the IDT, the GDT, the TSS and the handlers must be mapped whoever runs. The guest
 * wants its whole address space, that place too.
 *
 * The command line: at=ADDRESS, the linear address (below 1 GiB) that the guest wants; else the one where the
 * monitor's IDT is, which SIDT tells it.
 */
#include "lecture.h"

GUEST(guest_wants,
      "sidt 0x40000100; mov 0x40000102, %rax; mov %rax, 0x40000000;" /* word 0: where an IDT is */
      "mov $0x1234567, %eax; mov %rax, (%rdi);"                      /* the place that it wants */
      "mov (%rdi), %rax; mov %rax, 0x40000008"                       /* word 1: what it finds there */
      GUEST_ENDS);
GUEST(guest_reaches, "mov (%rdi), %rax; mov %rax, 0x40000008" GUEST_ENDS);

/* In the guest's own page tables: a linear address below 1 GiB. */
static void guest_maps(uint64_t linear, uint64_t guest_physical)
{
    uint64_t *t = (uint64_t *)(guest_memory + 0x11000);
    t[0] = 0x18000 | PTE_P | PTE_W | PTE_U;
    *(uint64_t *)(guest_memory + 0x18000 + (linear >> 21 & 511) * 8) = 0x19000 | PTE_P | PTE_W | PTE_U;
    *(uint64_t *)(guest_memory + 0x19000 + (linear >> 12 & 511) * 8) = guest_physical | PTE_P | PTE_W | PTE_U;
}

static uint64_t sum_of_idt(void)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < sizeof(rt_idt) / 8; i++) sum = sum * 31 + ((const uint64_t *)rt_idt)[i];
    return sum;
}

extern const char trap_vectors[];

int rom_main(void)
{
    uint64_t wanted = cmdline_number("at", (uint64_t)rt_idt) & 0x3ffffff8, before = sum_of_idt();
    lecture_begin(2, "address-space compression");
    scene("without VT-x: what the monitor must keep in every guest's address space");
    say("  IDT      at %lx, %lu bytes: each fault and interrupt begins there", (uint64_t)rt_idt,
        sizeof(rt_idt));
    say("  GDT      at %lx, %lu bytes: each handler's CS is loaded from it", (uint64_t)rt_gdt,
        (uint64_t)((char *)rt_gdt_end - (char *)rt_gdt));
    say("  TSS      at %lx, %lu bytes: has the stack of ring 0", (uint64_t)&rt_tss, sizeof(rt_tss));
    say("  handlers at %lx, %u bytes, and all that they call", (uint64_t)trap_vectors, 256 * 16);
    say("Ring 3 may not touch those pages, but they are taken: that much less is the guest's.");

    scene("the guest wants that place");
    GUEST_LOAD(guest_wants);
    struct outcome o = ring_run(wanted, 0);
    say("  the guest's SIDT did not trap and told it %lx: the monitor's own IDT", guest_word(0));
    say("  it wrote to linear address %lx: exception %u, error code from ring 3", wanted, o.vector);
    figure(o.exits, "exits to the monitor");
    say("The monitor may now move itself, copy itself, or emulate each access: there is no good answer.");
    is(guest_word(0), (uint64_t)rt_idt, "SIDT in ring 3 tells where the monitor is");
    is(o.vector, VECTOR_PF, "the place that the guest wants is taken: #PF");
    ok(sum_of_idt() == before, "the monitor's IDT is whole");

    scene("with VT-x: each transition loads CR3");
    if (vt_missing()) {
        skip(5, vt_missing());
        return lecture_end();
    }
    GUEST_LOAD(guest_wants);
    guest_maps(wanted, 0x30000);
    vt_prepare();
    o = vt_run(wanted, 0);
    say("  GUEST_CR3 = %lx, HOST_CR3 = %lx: a VM exit leaves one space for the other", vmread(GUEST_CR3),
        vmread(HOST_CR3));
    say("  the guest's SIDT told it %lx: its own", guest_word(0));
    say("  it mapped %lx, wrote there and read back %lx", wanted, guest_word(1));
    figure(o.exits, "exits to the monitor");
    ok(o.finished, "the guest ran to its end");
    is(guest_word(0), GUEST_IDT, "SIDT tells the guest's own IDT");
    is(guest_word(1), 0x1234567, "the whole linear address space is the guest's");
    ok(sum_of_idt() == before, "the monitor's IDT, at the same linear address, is whole");

    scene("the VMCS lies in physical memory, which EPT does not give to the guest");
    GUEST_LOAD(guest_reaches);
    guest_maps(wanted, vt_vcpu.vmcs);
    vt_prepare();
    o = vt_run(wanted, 0);
    say("  the guest maps the VMCS's physical address %lx and reads: %s at guest-physical %lx", vt_vcpu.vmcs,
        vmx_exit_name(o.vector), vmread(GUEST_PHYSICAL_ADDRESS));
    is(o.vector, EXIT_REASON_EPT_VIOLATION, "the guest cannot reach the VMCS");
    return lecture_end();
}

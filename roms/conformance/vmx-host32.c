/*
 * A host outside IA-32e mode: 32-bit paging, VMXON, VMLAUNCH and the exit back (SDM 29.2.4, 30.5); and the
 * checks of VM entry that need such a host, each alone.
 *
 * The VMCS is written in 64-bit mode, and launched by a snippet that has left it (low.h).
 *
 * Missing: PAE paging of the host, VMREAD and VMWRITE of 64-bit fields in halves.
 */
#include "low.h"
#include "vmx-common.h"

PROBE(g_vmcall, "vmcall");

/* What the snippet takes and leaves, at LOW_DATA. */
struct exchange {
    uint64_t vmxon, vmcs;
    uint32_t directory, reserved[3];
    uint32_t old_cr4, old_cr3, cr4, reserved2;
    uint32_t status; /* 0x40: VMfailValid, 1: VMfailInvalid, 0x1000: an exit, 0x2000: no VMXON or VMPTRLD */
    uint32_t number; /* VM-instruction error, or exit reason */
    uint32_t cs, cr0, cr3, new_cr4, rflags;
};

LOW_CODE(h_launch, 32,
         "push %ebx; mov %cr4, %eax; mov %eax, 0x7020; mov %cr3, %eax; mov %eax, 0x7024; mov 0x7028, %eax; "
         "mov %eax, %cr4; "
         "mov 0x7010, %eax; mov %eax, %cr3; mov %cr0, %eax; or $0x80000020, %eax; mov %eax, %cr0; jmp 1f; "
         "1: movl $0x2000, 0x7030; vmxon 0x7000; jbe 4f; vmptrld 0x7008; jbe 3f; mov $0x6c14, %eax; vmwrite "
         "%esp, %eax; vmlaunch; "
         "pushf; pop %ebx; and $0x41, %ebx; mov %ebx, 0x7030; mov $0x4400, %eax; vmread %eax, %ecx; mov "
         "%ecx, 0x7034; jmp 2f; "
         "h_exit: pushf; pop %ebx; mov %ebx, 0x7048; movl $0x1000, 0x7030; mov $0x4402, %eax; vmread %eax, "
         "%ecx; mov %ecx, 0x7034; "
         "mov %cs, %eax; mov %eax, 0x7038; mov %cr0, %eax; mov %eax, 0x703c; mov %cr3, %eax; mov %eax, "
         "0x7040; mov %cr4, %eax; "
         "mov %eax, 0x7044; 2: vmclear 0x7008; 3: vmxoff; 4: mov %cr0, %eax; and $0x7fffffff, %eax; mov "
         "%eax, %cr0; "
         "mov 0x7024, %eax; mov %eax, %cr3; mov 0x7020, %eax; and $~0x2000, %eax; mov %eax, %cr4; pop %ebx");
extern const uint8_t h_exit[];

static struct vmx_vcpu v;
static uint32_t *directory; /* 4 MiB pages, one to one */
static volatile struct exchange *const x = (volatile struct exchange *)LOW_DATA;

static void prepare(void)
{
    guest_init(&v, g_vmcall);
    vmx_guest_protected_mode();
    vmwrite(GUEST_CR3, (uint64_t)directory);
    vmwrite(GUEST_CR4, rdmsr(IA32_VMX_CR4_FIXED0) | CR4_PSE);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PG);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS,
            vmread(PRIMARY_VM_EXIT_CONTROLS) & ~(uint64_t)EXIT_HOST_ADDRESS_SPACE_SIZE);
    vmwrite(HOST_IA32_EFER, 0);
    vmwrite(HOST_CS_SELECTOR, SEL_CODE32);
    vmwrite(HOST_CR3, (uint64_t)directory);
    vmwrite(HOST_CR4, rdmsr(IA32_VMX_CR4_FIXED0) | CR4_PSE);
    vmwrite(HOST_RIP, LOW_ADDRESS(h_launch, h_exit));
}

/* Leaves VMX operation and 64-bit mode, launches, and comes back. */
static void launch(void)
{
    vmclear(v.vmcs);
    vmx_off();
    x->vmxon = vmx_on_region();
    x->vmcs = v.vmcs;
    x->directory = (uint32_t)(uint64_t)directory;
    x->cr4 = (uint32_t)rdmsr(IA32_VMX_CR4_FIXED0) | CR4_PSE | CR4_VMXE;
    x->status = x->number = 0;
    LOW_RUN(LOW_PROTECTED32, h_launch);
    if (!vmx_on()) panic("VMXON failed");
}

static void fails(const char *name)
{
    launch();
    if (!ok(x->status == RFLAGS_ZF && x->number == VMX_ERROR_ENTRY_HOST_STATE, "%s", name))
        tap_note("  status %x, number %x; want VMfailValid(8)", x->status, x->number);
}

static void passes(void)
{
    prepare();
    launch();
    if (!ok(x->status == 0x1000 && x->number == EXIT_REASON_VMCALL, "a 32-bit host: an entry and an exit"))
        tap_note("  status %x, number %x", x->status, x->number);
    is(x->cs, SEL_CODE32, "  CS");
    is(x->cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG, "  CR0.PE and PG");
    is(x->cr3, (uint64_t)directory, "  CR3");
    is(x->new_cr4 & (CR4_PAE | CR4_PSE | CR4_VMXE), CR4_PSE | CR4_VMXE, "  CR4: no PAE");
    is(x->rflags, RFLAGS_FIXED, "  RFLAGS");
}

int rom_main(void)
{
    if (!vmx_test_begin("a host outside IA-32e mode")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    directory = page_alloc(1);
    for (unsigned i = 0; i < 1024; i++) directory[i] = i << 22 | (uint32_t)(PTE_P | PTE_W | PTE_PS);
    passes();
    prepare();
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_IA_32E_MODE_GUEST);
    fails("HOST-AS-001: an IA-32e mode guest, with -004");
    prepare();
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_HOST_ADDRESS_SPACE_SIZE);
    vmwrite(HOST_CR4, vmread(HOST_CR4) | CR4_PAE);
    vmwrite(HOST_IA32_EFER, EFER_LMA | EFER_LME);
    fails("HOST-AS-002: a 64-bit host");
    prepare();
    vmwrite(HOST_CR4, vmread(HOST_CR4) | CR4_PCIDE);
    fails("HOST-AS-005: host CR4.PCIDE");
    prepare();
    vmwrite(HOST_RIP, vmread(HOST_RIP) | 1ul << 32);
    fails("HOST-AS-007: bit 32 of host RIP");
    prepare();
    vmwrite(HOST_SS_SELECTOR, 0);
    fails("HOST-SEG-010: host SS of 0");
    passes();
    return tap_end();
}

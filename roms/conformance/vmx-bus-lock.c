/*
 * "VMM bus-lock detection": the exit behind an instruction that locked the bus
 * (SDM 11.1.2, 28.2, 30.2.1, 30.3.4), also
 * where it writes the virtual APIC; "instruction timeout": the exit of a guest that reaches no instruction
 * boundary (SDM 27.6.24, 28.2).
 *
 * Bochs 2.7 has neither; every point is skipped there.
 */
#include "vmx-common.h"

#define EXIT_REASON_INSTRUCTION_TIMEOUT 75
#define AFTER_BUS_LOCK                  (1u << 26)
#define INSTRUCTION_TIMEOUT_CONTROL     0x4024
#define UNCACHED                        0x6000000000ul

static struct vmx_vcpu v;
static uint8_t *page, *vapic;

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
CODE(g_inc, "lock incl (%rdi)");
CODE(g_xchg, "xchg %rax, (%rdi)");
CODE(g_tpr, "xchg %eax, (%rdi)");
CODE(g_cmpxchg, "lock cmpxchg %ecx, (%rdi)");
CODE(g_plain, "incl (%rdi); mov %rax, (%rdi); mov (%rdi), %rax");
CODE(g_fault, "lock incl (%rdi); ud2");
CODE(g_unaligned, ".code32; mov (%esp), %eax; hlt; .code64");

static void start(const void *code, uint64_t rdi, bool detect)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = rdi;
    if (detect) vmx_set_proc2(PROC2_VMM_BUS_LOCK_DETECTION);
}

static void locks(const void *code, uint64_t rdi, unsigned length, const char *name)
{
    start(code, rdi, true);
    exit_is(&v, EXIT_REASON_BUS_LOCK | AFTER_BUS_LOCK, name);
    is(vmread(GUEST_RIP), (uint64_t)code + length, "  the instruction is done");
    is(vmread(EXIT_QUALIFICATION), 0, "  qualification 0");
    done(&v, "  and the guest goes on");
}

static void bus_locks(void)
{
    if (!vmx_has_secondary(PROC2_VMM_BUS_LOCK_DETECTION)) {
        skip(26, "no VMM bus-lock detection");
        return;
    }
    paging_map(UNCACHED, (uint64_t)page, PTE_P | PTE_W | 0x18); /* PCD and PWT */
    uint64_t split = (uint64_t)page + 61;
    locks(g_inc, split, 3, "LOCK INC across two cache lines");
    locks(g_xchg, split, 3, "XCHG across two cache lines");
    locks(g_cmpxchg, split, 4, "LOCK CMPXCHG across two cache lines");
    locks(g_inc, UNCACHED, 3, "LOCK INC of uncacheable memory");
    start(g_inc, (uint64_t)page + 60, true);
    done(&v, "LOCK INC within a cache line");
    start(g_plain, split, true);
    done(&v, "accesses across two cache lines that lock nothing");
    start(g_inc, split, false);
    done(&v, "LOCK INC across two cache lines without the control");
    *(uint32_t *)split = 41;
    start(g_fault, split, true);
    exit_is(&v, EXIT_REASON_BUS_LOCK | AFTER_BUS_LOCK, "it comes before the next instruction");
    is(*(uint32_t *)split, 42, "  with the store done");
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "  which is next, without bit 26");

    start(g_inc, split, true);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    exit_is(&v, EXIT_REASON_BUS_LOCK | AFTER_BUS_LOCK, "it comes before the single-step trap");
    is(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 1u << 14, "  which stays pending");
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "  and comes then");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_DB, "  #DB");
}

/* The APIC-access page, uncacheable as an APIC is: XCHG with the TPR is virtualized and locks the bus. What
 * the processor does when the operation is over (SDM 32.4.3.2) happens all the same; an exit that this causes
 * says by bit 26 that there was a lock (30.2.1). Which of the two exits comes is not written: neither may be
 * lost.
 */
static void apic_writes(void)
{
    if (!vmx_has_secondary(PROC2_VMM_BUS_LOCK_DETECTION | PROC2_VIRTUALIZE_APIC_ACCESSES) ||
        !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) {
        skip(6, "no VMM bus-lock detection, or no virtual TPR");
        return;
    }
    for (uint32_t threshold = 0; threshold < 4; threshold += 3) {
        memset(vapic, 0, 4096);
        vapic[0x80] = 0x50;
        start(g_tpr, UNCACHED + 0x80, true);
        v.regs.gpr[RAX] = 0x11111120;
        vmx_set_proc(PROC_USE_TPR_SHADOW);
        vmx_set_proc2(PROC2_VIRTUALIZE_APIC_ACCESSES);
        vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
        vmwrite(APIC_ACCESS_ADDRESS, (uint64_t)page);
        vmwrite(TPR_THRESHOLD, threshold);
        struct vmx_exit e = vmx_run(&v);
        ok(e.status == VMX_SUCCEED && e.reason & AFTER_BUS_LOCK && vmread(GUEST_RIP) == (uint64_t)g_tpr + 2,
           "a locked write of the virtual TPR%s", threshold ? ", below the threshold then" : "");
        is(*(uint32_t *)(vapic + 0x80), 0x20, "SDM 32.4.3.2:  bytes 3:1 are cleared");
        if (!threshold) {
            is(e.reason, EXIT_REASON_BUS_LOCK | AFTER_BUS_LOCK, "  the bus-lock exit");
        } else if ((e.reason & 0xffff) == EXIT_REASON_BUS_LOCK) {
            exit_is(&v, EXIT_REASON_TPR_BELOW_THRESHOLD, "  the exit by the threshold is not lost");
        } else {
            is(e.reason, EXIT_REASON_TPR_BELOW_THRESHOLD | AFTER_BUS_LOCK,
               "  the exit by the threshold is not lost");
        }
    }
}

static void timeouts(void)
{
    if (!vmx_has_secondary(PROC2_INSTRUCTION_TIMEOUT)) {
        skip(5, "no instruction timeout");
        return;
    }
    start(g_plain, (uint64_t)page, false);
    vmx_set_proc2(PROC2_INSTRUCTION_TIMEOUT);
    vmwrite(INSTRUCTION_TIMEOUT_CONTROL, 0x100000);
    done(&v, "a guest that reaches its instruction boundaries does not time out");
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        skip(4, "no unrestricted guest");
        return;
    }
    /* At level 3 with alignment checks, on a stack that is not aligned, and the handler of #AC is on it too:
       the delivery of #AC is #AC, for ever. */
    static uint64_t gdt[8], idt[18];
    uint64_t at = (uint64_t)g_unaligned;
    gdt[5] = 0x00cffb000000ffff, gdt[6] = 0x00cff3000000ffff;
    idt[VECTOR_AC] = (at & 0xffff) | 0x28 << 16 | 0xee00ul << 32 | at >> 16 << 48;
    guest_init_ept(&v, g_unaligned);
    vmx_guest_protected_mode();
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST | PROC2_INSTRUCTION_TIMEOUT);
    vmwrite(INSTRUCTION_TIMEOUT_CONTROL, 1000);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_AM);
    vmwrite(GUEST_CS_SELECTOR, 0x2b), vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xc0fb);
    vmwrite(GUEST_SS_SELECTOR, 0x33), vmwrite(GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
    vmwrite(GUEST_DS_ACCESS_RIGHTS, 0xc0f3);
    vmwrite(GUEST_GDTR_BASE, (uint64_t)gdt), vmwrite(GUEST_GDTR_LIMIT, sizeof(gdt) - 1);
    vmwrite(GUEST_IDTR_BASE, (uint64_t)idt), vmwrite(GUEST_IDTR_LIMIT, sizeof(idt) - 1);
    uint64_t rsp = vmread(GUEST_RSP) - 1;
    vmwrite(GUEST_RSP, rsp);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_AC);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_INSTRUCTION_TIMEOUT, "SDM 28.2: #AC for ever times out");
    is(e.qualification & 1, 0, "SDM 30.2.1:  the guest can go on");
    is(vmread(GUEST_RIP), at, "  it stands at the instruction");
    is(vmread(GUEST_RSP), rsp, "  on its stack");
}

int rom_main(void)
{
    if (!vmx_test_begin("bus locks, instruction timeout")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    page = page_alloc(1);
    vapic = page_alloc(1);
    bus_locks();
    apic_writes();
    timeouts();
    return tap_end();
}

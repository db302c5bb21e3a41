/*
 * The VM exits: what each guest did, and what the hypervisor makes of it.
 *
 * Missing: string I/O (a guest that tries gets #GP), MSRs (likewise).
 */
#include "guest.h"
#include "trap.h"

/* Exit qualification of an I/O instruction (SDM 28.2.1). */
#define IO_SIZE(q) (((q)&7) + 1)
#define IO_IN      (1u << 3)
#define IO_STRING  (1u << 4)
#define IO_PORT(q) ((q) >> 16 & 0xffff)

/* Queues an event for delivery at the next VM entry, through the guest's own IDT or IVT. */
static void inject(uint32_t event, uint32_t error)
{
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | event);
    vmwrite(INJECTED_EVENT_ERROR_CODE, error);
}

void guest_inject_exception(struct guest *g, unsigned vector, uint32_t error)
{
    (void)g;
    /* In real mode an exception pushes no error code, and asking for one makes the entry fail. */
    bool protected_mode = vmread(GUEST_CR0) & CR0_PE;
    inject(EVENT_HARDWARE_EXCEPTION | (protected_mode ? EVENT_ERROR_CODE : 0) | vector, error);
}

/* Replaces the low 32 bits and clears the high ones, as a 32-bit result does. */
static void set_result(uint64_t *reg, uint32_t value) { *reg = value; }

static void copy_name(uint32_t out[3], const char *name) { memcpy(out, name, 12); }

/* The guests see a processor of our own make. */
static void handle_cpuid(struct guest *g)
{
    uint64_t *r = g->vcpu.regs.gpr;
    uint32_t leaf = (uint32_t)r[RAX];
    struct cpuid c = {0};
    uint32_t name[3];
    switch (leaf) {
    case 0: /* highest leaf and vendor */
        copy_name(name, "MatryoshkaVM");
        c = (struct cpuid){1, name[0], name[2], name[1]};
        break;
    case 1: /* the real features without VMX, and the bit that says "you run under a hypervisor" */
        c = cpuid(1, 0);
        c.ecx = (c.ecx & ~(1u << 5)) | 1u << 31;
        break;
    case 0x40000000: /* the hypervisor's own leaf */
        copy_name(name, "MatryoshkaHV");
        c = (struct cpuid){0x40000000, name[0], name[1], name[2]};
        break;
    case 0x80000000:
    case 0x80000001:
    case 0x80000008: c = cpuid_if_present(leaf, 0); break;
    default: break;
    }
    set_result(&r[RAX], c.eax);
    set_result(&r[RBX], c.ebx);
    set_result(&r[RCX], c.ecx);
    set_result(&r[RDX], c.edx);
    vmx_skip_instruction();
}

static void handle_io(struct guest *g, uint64_t q)
{
    if (q & IO_STRING) {
        guest_inject_exception(g, VECTOR_GP, 0);
        return;
    }
    unsigned port = IO_PORT(q), size = IO_SIZE(q);
    uint64_t *rax = &g->vcpu.regs.gpr[RAX];
    bool ours = size == 1 && port >= UART_BASE && port < UART_BASE + 8;
    if (q & IO_IN) {
        /* Nothing answers at other ports: the bus reads as ones. */
        uint32_t mask = size == 4 ? 0xffffffff : (1u << 8 * size) - 1;
        uint32_t value = ours ? uart_read(g, port - UART_BASE) : mask;
        *rax = size == 4 ? value : (*rax & ~(uint64_t)mask) | value;
    } else if (ours) {
        uart_write(g, port - UART_BASE, (uint8_t)*rax);
    }
    vmx_skip_instruction();
}

static enum verdict handle_hlt(struct guest *g)
{
    vmx_skip_instruction();
    if (vmread(GUEST_RFLAGS) & RFLAGS_IF) {
        g->halted = true;
    } else {
        g->finished = true;
        print("[hypervisor] %s has finished: HLT with interrupts off\n", g->plan->name);
    }
    return GUEST_YIELDS;
}

/* The guest reached for memory that it does not have. It is told so by #GP, and lives on. */
static void handle_ept_violation(struct guest *g, uint64_t q)
{
    const char *what = q & EPT_QUALIFICATION_FETCH   ? "fetch from"
                       : q & EPT_QUALIFICATION_WRITE ? "write to"
                                                     : "read of";
    print("[hypervisor] EPT violation: %s at rip %lx, %s guest-physical %lx: not its memory; it gets #GP\n",
          g->plan->name, vmread(GUEST_RIP), what, vmread(GUEST_PHYSICAL_ADDRESS));
    guest_inject_exception(g, VECTOR_GP, 0);
}

/* If the exit came while an event was being delivered, the event is not delivered yet: put it back in line.
   Ours to do, for VMX does not (SDM 28.2.4). */
static void requeue_interrupted_event(void)
{
    uint64_t original = vmread(ORIGINAL_EVENT_IDENTIFICATION);
    if (!(original & EVENT_VALID) || (vmread(INJECTED_EVENT_IDENTIFICATION) & EVENT_VALID)) return;
    vmwrite(INJECTED_EVENT_IDENTIFICATION, original & ~(1ull << 12));
    if (original & EVENT_ERROR_CODE) vmwrite(INJECTED_EVENT_ERROR_CODE, vmread(ORIGINAL_EVENT_ERROR_CODE));
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, vmread(VM_EXIT_INSTRUCTION_LENGTH));
}

enum verdict guest_handle_exit(struct guest *g, const struct vmx_exit *e)
{
    enum verdict verdict = GUEST_CONTINUES;
    uint32_t reason = e->reason & 0xffff;
    if (reason < sizeof(g->exits) / sizeof(g->exits[0])) g->exits[reason]++;

    if (e->reason & EXIT_REASON_ENTRY_FAILURE)
        panic("%s: VM entry failed: %s, qualification %lx", g->plan->name, vmx_exit_name(reason),
              e->qualification);
    switch (reason) {
    case EXIT_REASON_CPUID: handle_cpuid(g); break;
    case EXIT_REASON_IO_INSTRUCTION: handle_io(g, e->qualification); break;
    case EXIT_REASON_HLT: verdict = handle_hlt(g); break;
    case EXIT_REASON_EPT_VIOLATION: handle_ept_violation(g, e->qualification); break;
    case EXIT_REASON_RDMSR:
    case EXIT_REASON_WRMSR: guest_inject_exception(g, VECTOR_GP, 0); break;
    case EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED: verdict = GUEST_YIELDS; break;
    case EXIT_REASON_INTERRUPT_WINDOW: vmx_clear_proc(PROC_INTERRUPT_WINDOW_EXITING); break;
    case EXIT_REASON_EXTERNAL_INTERRUPT:
        /* The interrupt controllers are masked; this would be a stray one. It stays pending for us, not the
         * guest. */
        if (g->exits[reason] > 1000) panic("the machine keeps interrupting");
        break;
    default:
        panic("%s: VM exit %u (%s) at rip %lx, qualification %lx", g->plan->name, reason,
              vmx_exit_name(reason), vmread(GUEST_RIP), e->qualification);
    }
    requeue_interrupted_event();
    return verdict;
}

/*
 * Two events at one boundary (SDM 28.2, 29.7, table 7-2): each of what can be pending right after a VM entry
 * against each that comes after it, the higher one first; and what is left for the next entry.
 *
 * In the manual's order: the pending MTF exit, debug traps of the previous instruction, the VMX-preemption
 * timer, the NMI window, the interrupt window, external interrupts, breakpoints on the next instruction, its
 * faults.
 *
 * Bochs 2.7 takes an instruction breakpoint before (or with) what is pending at the boundary (7.9).
 *
 * Missing: SMI, INIT, NMIs (which the host cannot keep waiting), APIC virtualization, bus locks.
 */
#include "apic.h"
#include "vmx-common.h"

#define VECTOR 0x61

asm(".pushsection .text; .balign 16; g_ud: ud2; vmcall; .popsection");
extern const uint8_t g_ud[];

static struct vmx_vcpu v;

static bool taken(struct trap_frame *f)
{
    (void)f;
    apic_eoi();
    return true;
}

/* Lets the host take what waits for it. */
static void drain(void) { asm volatile("sti; nop; nop; cli"); }

static bool mtf(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_MONITOR_TRAP_FLAG)) return false;
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_OTHER);
    return true;
}

static bool debug_trap(void) /* of breakpoint 0 */
{
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 12 | 1);
    return true;
}

static bool timer(void)
{
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) return false;
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
    return true;
}

static bool nmi_window(void)
{
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS)) return false;
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set_proc(PROC_NMI_WINDOW_EXITING);
    return true;
}

static bool interrupt_window(void)
{
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    return true;
}

static bool interrupt(void)
{
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    apic_self_ipi(VECTOR);
    return true;
}

static bool breakpoint(void) /* number 1, on the first instruction */
{
    if (!vmx_allowed(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_DEBUG_CONTROLS)) return false;
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    write_dr1((uint64_t)g_ud);
    vmwrite(GUEST_DR7, 0x400 | 1u << 2);
    return true;
}

static bool fault(void) { return true; } /* the guest's first instruction is UD2 */

static const struct {
    const char *name;
    bool (*prepare)(void);
    uint32_t reason, vector;
    uint64_t qualification;
} events[] = {
    {"MTF", mtf, EXIT_REASON_MONITOR_TRAP_FLAG, 0, 0},
    {"a debug trap", debug_trap, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_DB, 1},
    {"the preemption timer", timer, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, 0, 0},
    {"the NMI window", nmi_window, EXIT_REASON_NMI_WINDOW, 0, 0},
    {"the interrupt window", interrupt_window, EXIT_REASON_INTERRUPT_WINDOW, 0, 0},
    {"an external interrupt", interrupt, EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0},
    {"an instruction breakpoint", breakpoint, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_DB, 2},
    {"a fault", fault, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_UD, 0},
};
#define EVENTS (sizeof(events) / sizeof(events[0]))

static void start(void)
{
    guest_init(&v, g_ud);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
}

/* It exits with this, before the first instruction. */
static bool is_this(unsigned i, const struct vmx_exit *e)
{
    return e->status == VMX_SUCCEED && e->reason == events[i].reason &&
           e->qualification == events[i].qualification && vmread(GUEST_RIP) == (uint64_t)g_ud &&
           (!events[i].vector || (vmread(EXITING_EVENT_IDENTIFICATION) & 0xff) == events[i].vector);
}

static void explain(const struct vmx_exit *e)
{
    tap_note("  status %d, error %u, reason %u, qualification %lx, event %lx, rip off by %ld", (int)e->status,
             e->error, e->reason, e->qualification, vmread(EXITING_EVENT_IDENTIFICATION),
             (int64_t)(vmread(GUEST_RIP) - (uint64_t)g_ud));
}

static void pair(unsigned i, unsigned j)
{
    start();
    if (!events[i].prepare() || !events[j].prepare()) {
        drain();
        skip_one(events[i].name, "not offered by this processor");
        return;
    }
    struct vmx_exit e = vmx_run(&v);
    if (!ok(is_this(i, &e), "%s before %s", events[i].name, events[j].name)) {
        explain(&e);
        drain();
        return;
    }
    /* The one that is done with is taken away, the other one is still there. */
    vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
    if (events[i].prepare == timer)
        vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS,
                vmread(PIN_BASED_VM_EXECUTION_CONTROLS) & ~(uint64_t)PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    if (events[i].prepare == nmi_window) vmx_clear_proc(PROC_NMI_WINDOW_EXITING);
    if (events[i].prepare == interrupt_window) vmx_clear_proc(PROC_INTERRUPT_WINDOW_EXITING);
    if (events[i].prepare == debug_trap) vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
    if (events[i].prepare == breakpoint) vmwrite(GUEST_DR7, 0x400);
    if (events[i].prepare == interrupt) drain();
    e = vmx_run(&v);
    if (!ok(is_this(j, &e), "  and then %s", events[j].name)) explain(&e);
    drain();
}

/* What an injected event puts off: it is delivered, and then the rest is looked at, before the handler's
 * first instruction. */
static void behind_injection(void)
{
    static const unsigned kinds[] = {2, 3, 4, 5}; /* timer, windows, interrupt: IF is clear in the handler */
    for (unsigned k = 0; k < 4; k++) {
        unsigned i = kinds[k];
        start();
        vmwrite(EXCEPTION_BITMAP, 0);
        if (!events[i].prepare()) {
            drain();
            skip_one(events[i].name, "not offered by this processor");
            continue;
        }
        vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | VECTOR_DE);
        struct vmx_exit e = vmx_run(&v);
        uint64_t handler = vmread(GUEST_RIP);
        bool open = events[i].prepare != interrupt_window; /* closed: the handler's VMCALL comes */
        if (!ok(e.status == VMX_SUCCEED && e.reason == (open ? events[i].reason : EXIT_REASON_VMCALL) &&
                    handler != (uint64_t)g_ud && !(vmread(GUEST_RFLAGS) & RFLAGS_IF),
                "an injected exception is delivered before %s%s", events[i].name,
                open ? "" : ", which it closes"))
            explain(&e);
        ok(!(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_VALID), "  its delivery is over");
        drain();
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("priorities of events in guests")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    apic_enable();
    trap_on(VECTOR, taken);
    for (unsigned i = 0; i < EVENTS; i++)
        for (unsigned j = i + 1; j < EVENTS; j++) pair(i, j);
    behind_injection();
    return tap_end();
}

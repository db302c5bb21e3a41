/*
 * Two events at one boundary (SDM 28.2, 29.7, 32.2.2, table 7-2). First what can be pending right after a VM
 * entry: each by itself, each against each that comes after it, the higher one first; and what is left for
 * the next entry. INIT signals and NMIs are another processor's, sent while this one holds them back: INITs
 * are blocked in root operation, NMIs after a guest that had them blocked. Then the traps that need an
 * instruction (APIC writes, virtualized EOIs, bus locks), against what that instruction lets through.
 *
 * In the manual's order: trap-like exits, INIT, the pending MTF exit, debug traps of the previous
 * instruction, the VMX-preemption timer, the NMI window, NMIs, the interrupt window or virtual interrupts,
 * external interrupts, breakpoints on the next instruction, its faults.
 *
 * Wants two processors (-smp 2; PROCESSORS=2 tools/run-on-bochs); with one there are no INITs and NMIs.
 *
 * Bochs 2.7 takes an instruction breakpoint before (or with) what is pending at the boundary (7.9), loses an
 * INIT of root operation, keeps NMIs blocked in a guest that does not have them so (29.7.1), and saves the
 * blocking of before a MOV to CR8 (30.1). It has no MTF.
 *
 * Missing: SMI. The guest timer's place is in vmx-apic-timer.c.
 */
#include "apic.h"
#include "smp.h"
#include "vmx-common.h"

#define VECTOR  0x61
#define VIRTUAL 0x71 /* of the virtual interrupt */

asm(".pushsection .text; .balign 16; g_ud: ud2; vmcall; .popsection");
extern const uint8_t g_ud[];
asm(".pushsection .text; .balign 16; g_vmcall: vmcall; .popsection");
extern const uint8_t g_vmcall[];

static struct vmx_vcpu v;
static uint8_t *vapic, *access_page;
static unsigned processors;

static bool taken(struct trap_frame *f)
{
    (void)f;
    apic_eoi();
    return true;
}

/* Lets the host take what waits for it. */
static void drain(void) { asm volatile("sti; nop; nop; cli"); }

static volatile unsigned host_nmis;
static bool host_nmi(struct trap_frame *f)
{
    (void)f;
    host_nmis++;
    return true;
}

/* The other processor sends to this one. */
static void send(uint64_t command)
{
    apic_write(APIC_ICR_HIGH, smp_apic_id(0) << 24);
    apic_write(APIC_ICR, (uint32_t)command);
}
static void receive(uint32_t command)
{
    smp_run(1, send, command);
    smp_wait(1, 1000);
    smp_delay(100);
}

/* Of "use TPR shadow" and "virtualize APIC accesses". */
static bool tpr(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW) ||
        !vmx_has_secondary(PROC2_VIRTUALIZE_APIC_ACCESSES))
        return false;
    memset(vapic, 0, 4096);
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmx_set_proc2(PROC2_VIRTUALIZE_APIC_ACCESSES);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
    vmwrite(APIC_ACCESS_ADDRESS, (uint64_t)access_page);
    vmwrite(TPR_THRESHOLD, 1);
    return true;
}

static bool init(void) { return processors > 1; }
static void send_init(void) { receive(0x4500); }

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

static bool nmi(void)
{
    if (processors < 2 || !vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_NMI_EXITING)) return false;
    vmx_set_pin(PIN_NMI_EXITING);
    return true;
}
/* A guest with NMIs blocked leaves them so when it exits (SDM 30.5.5). */
static void send_nmi(void)
{
    guest_init(&v, g_vmcall);
    if (!nmi()) return;
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI);
    vmx_run(&v);
    host_nmis = 0;
    receive(0x400);
    if (host_nmis) tap_note("  the host has not kept NMIs blocked");
}

static bool interrupt_window(void)
{
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    return true;
}

static bool virtual_interrupt(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW) ||
        !vmx_has_secondary(PROC2_VIRTUAL_INTERRUPT_DELIVERY))
        return false;
    memset(vapic, 0, 4096);
    vapic[0x200 + VIRTUAL / 32 * 16 + VIRTUAL / 8 % 4] = 1u << VIRTUAL % 8;
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmx_set_proc2(PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
    vmwrite(GUEST_INTERRUPT_STATUS, VIRTUAL);
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

static const struct event {
    const char *name;
    bool (*prepare)(void); /* false: it is not offered */
    uint32_t reason, vector;
    uint64_t qualification;
    void (*before)(void); /* the VMCS is made */
} events[] = {
    {"a TPR-threshold exit", tpr, EXIT_REASON_TPR_BELOW_THRESHOLD, 0, 0, NULL},
    {"an INIT", init, EXIT_REASON_INIT_SIGNAL, 0, 0, send_init},
    {"MTF", mtf, EXIT_REASON_MONITOR_TRAP_FLAG, 0, 0, NULL},
    {"a debug trap", debug_trap, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_DB, 1, NULL},
    {"the preemption timer", timer, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, 0, 0, NULL},
    {"the NMI window", nmi_window, EXIT_REASON_NMI_WINDOW, 0, 0, NULL},
    {"an NMI", nmi, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_NMI, 0, send_nmi},
    {"the interrupt window", interrupt_window, EXIT_REASON_INTERRUPT_WINDOW, 0, 0, NULL},
    {"a virtual interrupt", virtual_interrupt, EXIT_REASON_VMCALL, 0, 0, NULL},
    {"an external interrupt", interrupt, EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0, NULL},
    {"an instruction breakpoint", breakpoint, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_DB, 2, NULL},
    {"a fault", fault, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_UD, 0, NULL},
};
#define EVENTS (sizeof(events) / sizeof(events[0]))

/* They exclude each other: without virtual-interrupt delivery, without interrupt-window exiting. */
static bool apart(const struct event *x, const struct event *y)
{
    return y->prepare == virtual_interrupt && (x->prepare == tpr || x->prepare == interrupt_window);
}

static void start(const uint8_t *code)
{
    guest_init(&v, code);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
}

/* Pending for the next entry, both or (y: NULL) one. False if this processor has not what it takes. */
static bool arrange(const struct event *x, const struct event *y)
{
    if (y && y->before) y->before(); /* the lower first: an INIT would exit from what blocks NMIs */
    if (x->before) x->before();
    start(g_ud);
    return x->prepare() && (!y || y->prepare());
}

/* Nothing may stay behind: NMIs unblocked, what waits taken. */
static void clean_up(void)
{
    unblock_nmis();
    drain();
}

/* It exits with this, before the first instruction; or the virtual interrupt has been delivered. */
static bool is_this(const struct event *x, const struct vmx_exit *e)
{
    if (e->status != VMX_SUCCEED) return false;
    if (x->prepare == virtual_interrupt)
        return vmread(GUEST_INTERRUPT_STATUS) == VIRTUAL << 8 &&
               guest_handler(VIRTUAL) - vmread(GUEST_RIP) <= 1;
    return e->reason == x->reason && e->qualification == x->qualification &&
           vmread(GUEST_RIP) == (uint64_t)g_ud &&
           (!x->vector || (vmread(EXITING_EVENT_IDENTIFICATION) & 0xff) == x->vector);
}

static void explain(const struct vmx_exit *e)
{
    tap_note("  status %d, error %u, reason %u, qualification %lx, event %lx, rip off by %ld", (int)e->status,
             e->error, e->reason, e->qualification, vmread(EXITING_EVENT_IDENTIFICATION),
             (int64_t)(vmread(GUEST_RIP) - (uint64_t)g_ud));
}

static bool there[EVENTS];

/* Where one does not come by itself, its pairs say nothing. */
static void alone(unsigned i)
{
    bool offered = arrange(&events[i], NULL);
    if (offered) {
        struct vmx_exit e = vmx_run(&v);
        there[i] = ok(is_this(&events[i], &e), "%s by itself", events[i].name);
        if (!there[i]) explain(&e);
    } else
        skip_one(events[i].name, "not offered by this processor");
    clean_up();
}

/* Takes the one away that is done with. */
static void done_with(const struct event *x)
{
    vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
    if (x->prepare == tpr) vmwrite(TPR_THRESHOLD, 0);
    if (x->prepare == timer)
        vmwrite(PIN_BASED_VM_EXECUTION_CONTROLS,
                vmread(PIN_BASED_VM_EXECUTION_CONTROLS) & ~(uint64_t)PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    if (x->prepare == nmi_window) vmx_clear_proc(PROC_NMI_WINDOW_EXITING);
    if (x->prepare == interrupt_window) vmx_clear_proc(PROC_INTERRUPT_WINDOW_EXITING);
    if (x->prepare == debug_trap) vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
    if (x->prepare == breakpoint) vmwrite(GUEST_DR7, 0x400);
    if (x->prepare == interrupt) drain();
    if (x->prepare == virtual_interrupt) {
        vmwrite(GUEST_INTERRUPT_STATUS, 0);
        vmwrite(GUEST_RIP, (uint64_t)g_ud);
        vmwrite(GUEST_RSP, vmread(GUEST_RSP) + 40);
        vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    }
}

static void pair(unsigned i, unsigned j)
{
    const struct event *x = &events[i], *y = &events[j];
    if (!there[i] || !there[j]) {
        skip_one(x->name, "one of the two does not come by itself");
        return;
    }
    arrange(x, y);
    struct vmx_exit e = vmx_run(&v);
    if (!ok(is_this(x, &e), "%s before %s", x->name, y->name)) {
        explain(&e);
    } else if (y->prepare == mtf) {
        /* An MTF exit that did not come is forgotten (28.5.2). */
    } else if (y->prepare == nmi) {
        ok(host_nmis == 1, "  and then %s, which the host takes", y->name);
    } else {
        done_with(x);
        e = vmx_run(&v);
        if (!ok(is_this(y, &e), "  and then %s", y->name)) explain(&e);
    }
    clean_up();
}

/* What an injected event puts off: it is delivered, and then the rest is looked at, before the handler's
 * first instruction. */
static void behind_injection(void)
{
    for (unsigned i = 0; i < EVENTS; i++) { /* IF is clear in the handler */
        if (events[i].prepare != timer && events[i].prepare != nmi_window &&
            events[i].prepare != interrupt_window && events[i].prepare != interrupt)
            continue;
        start(g_ud);
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

/* ---- behind an instruction that makes a trap-like exit pending ---- */

#define TRAP(name, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": " instruction "; " #name "_end: ud2; .popsection"); \
    extern const uint8_t name[], name##_end[]
TRAP(g_cr8, "mov %rax, %cr8");
TRAP(g_write, "mov %eax, 0xd0(%rdi)");
TRAP(g_eoi, "mov %eax, 0xb0(%rdi)");
TRAP(g_lock, "lock incl 62(%rdi)");

static bool cr8(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) return false;
    memset(vapic, 0, 4096);
    vapic[0x80] = 0x50;
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
    vmwrite(TPR_THRESHOLD, 3);
    return true;
}
static bool apic_write_exits(void)
{
    if (!tpr() || !vmx_has_secondary(PROC2_APIC_REGISTER_VIRTUALIZATION)) return false;
    vmwrite(TPR_THRESHOLD, 0);
    vmx_set_proc2(PROC2_APIC_REGISTER_VIRTUALIZATION);
    return true;
}
static bool eoi(void)
{
    if (!tpr() || !virtual_interrupt()) return false;
    memset(vapic, 0, 4096);
    vmwrite(TPR_THRESHOLD, 0);
    vapic[0x100 + VIRTUAL / 32 * 16 + VIRTUAL / 8 % 4] = 1u << VIRTUAL % 8;
    vmwrite(GUEST_INTERRUPT_STATUS, VIRTUAL << 8);
    vmwrite(EOI_EXIT0 + 2 * (VIRTUAL / 64), 1ul << VIRTUAL % 64);
    return true;
}
static bool lock(void)
{
    if (!vmx_has_secondary(PROC2_VMM_BUS_LOCK_DETECTION)) return false;
    vmx_set_proc2(PROC2_VMM_BUS_LOCK_DETECTION);
    return true;
}

static const struct {
    const char *name;
    const uint8_t *code, *end;
    bool (*prepare)(void);
    uint32_t reason;
    uint64_t qualification;
} traps[] = {
    {"a TPR-threshold exit of MOV CR8", g_cr8, g_cr8_end, cr8, EXIT_REASON_TPR_BELOW_THRESHOLD, 0},
    {"an APIC-write exit", g_write, g_write_end, apic_write_exits, EXIT_REASON_APIC_WRITE, 0xd0},
    {"a virtualized-EOI exit", g_eoi, g_eoi_end, eoi, EXIT_REASON_VIRTUALIZED_EOI, VIRTUAL},
    {"a bus-lock exit", g_lock, g_lock_end, lock, EXIT_REASON_BUS_LOCK, 0},
};

static bool mtf_on(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_MONITOR_TRAP_FLAG)) return false;
    vmx_set_proc(PROC_MONITOR_TRAP_FLAG);
    return true;
}
static bool single_step(void)
{
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    return true;
}
/* Blocking by STI ends with the instruction. */
static bool behind_sti(bool offered)
{
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI);
    return offered;
}
static bool sti_nmi_window(void) { return behind_sti(nmi_window()); }
static bool sti_interrupt_window(void) { return behind_sti(interrupt_window()); }
static bool sti_interrupt(void) { return behind_sti(interrupt()); }

static const struct event later[] = {
    {"MTF", mtf_on, EXIT_REASON_MONITOR_TRAP_FLAG, 0, 0, NULL},
    {"a single step", single_step, EXIT_REASON_EXCEPTION_OR_NMI, VECTOR_DB, 1u << 14, NULL},
    {"the NMI window", sti_nmi_window, EXIT_REASON_NMI_WINDOW, 0, 0, NULL},
    {"the interrupt window", sti_interrupt_window, EXIT_REASON_INTERRUPT_WINDOW, 0, 0, NULL},
    {"an external interrupt", sti_interrupt, EXIT_REASON_EXTERNAL_INTERRUPT, 0, 0, NULL},
};

static void behind_traps(void)
{
    for (unsigned i = 0; i < sizeof(traps) / sizeof(traps[0]); i++)
        for (unsigned j = 0; j < sizeof(later) / sizeof(later[0]); j++) {
            const struct event *y = &later[j];
            start(traps[i].code);
            v.regs = (struct vmx_regs){0};
            v.regs.gpr[RDI] = (uint64_t)access_page;
            if (!traps[i].prepare() || !y->prepare()) {
                skip_one(traps[i].name, "not offered by this processor");
                drain();
                continue;
            }
            struct vmx_exit e = vmx_run(&v);
            if (y->prepare == sti_interrupt && e.reason == y->reason &&
                vmread(GUEST_RIP) == (uint64_t)traps[i].code) {
                skip_one(y->name, "blocking by STI does not hold it (28.4.1)");
                drain();
                continue;
            }
            bool first = e.status == VMX_SUCCEED && (e.reason & 0xffff) == traps[i].reason &&
                         e.qualification == traps[i].qualification &&
                         vmread(GUEST_RIP) == (uint64_t)traps[i].end;
            if (!ok(first, "%s before %s", traps[i].name, y->name)) {
                explain(&e);
            } else if (y->prepare != mtf_on) {
                vmwrite(TPR_THRESHOLD, 0);
                e = vmx_run(&v);
                bool then = e.reason == y->reason && e.qualification == y->qualification &&
                            vmread(GUEST_RIP) == (uint64_t)traps[i].end;
                if (!ok(then, "  and then %s", y->name)) explain(&e);
            }
            drain();
        }
}

/* ---- the preemption timer, and a trap of the instruction during which it expires ---- */

/* Delays, in whose last ticks the timer may expire during the guest's instruction (SDM 28.5.1). */
#define DELAYS 256

TRAP(g_nop, "nop");

static void timer_against(const char *name, const uint8_t *code, const uint8_t *end, bool (*prepare)(void),
                          uint32_t reason)
{
    unsigned both = 0, wrong = 0, left = 0;
    bool offered = vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER) &&
                   vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    for (unsigned delay = 0; offered && delay < DELAYS; delay++) {
        start(code);
        v.regs = (struct vmx_regs){0};
        v.regs.gpr[RDI] = (uint64_t)access_page;
        offered = prepare();
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(PRIMARY_VM_EXIT_CONTROLS,
                vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 1);
        for (volatile unsigned i = 0; i < delay % 64; i++) asm volatile("nop");
        for (unsigned i = 0; i < delay / 64; i++) asm volatile("nop");
        struct vmx_exit e = vmx_run(&v);
        if (e.status != VMX_SUCCEED || vmread(GUEST_RIP) != (uint64_t)end) continue; /* before it */
        bool first = (e.reason & 0xffff) == reason;
        wrong += !first;
        if (!first || vmread(VMX_PREEMPTION_TIMER_VALUE)) continue;
        both++;
        vmwrite(TPR_THRESHOLD, 0);
        e = vmx_run(&v);
        left += e.reason == EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED && vmread(GUEST_RIP) == (uint64_t)end;
    }
    if (!offered || !both) {
        skip_one(name, offered ? "the timer does not expire just there" : "not offered by this processor");
        return;
    }
    ok(!wrong, "%s before the preemption timer that expires during its instruction", name);
    ok(left == both, "  and then the timer");
}

static void behind_instruction(void)
{
    timer_against("MTF", g_nop, g_nop_end, mtf_on, EXIT_REASON_MONITOR_TRAP_FLAG);
    timer_against("a single step", g_nop, g_nop_end, single_step, EXIT_REASON_EXCEPTION_OR_NMI);
    for (unsigned i = 0; i < sizeof(traps) / sizeof(traps[0]); i++)
        timer_against(traps[i].name, traps[i].code, traps[i].end, traps[i].prepare, traps[i].reason);
}

int rom_main(void)
{
    if (!vmx_test_begin("priorities of events in guests")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    vapic = page_alloc(1);
    access_page = page_alloc(1);
    apic_enable();
    processors = smp_start();
    trap_on(VECTOR, taken);
    trap_on(VECTOR_NMI, host_nmi);
    for (unsigned i = 0; i < EVENTS; i++) alone(i);
    for (unsigned i = 0; i < EVENTS; i++)
        for (unsigned j = i + 1; j < EVENTS; j++)
            if (!apart(&events[i], &events[j])) pair(i, j);
    behind_injection();
    behind_traps();
    behind_instruction();
    return tap_end();
}

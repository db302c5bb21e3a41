/*
 * Interrupts that one processor posts for a guest on another: posted-interrupt processing while the guest
 * runs, is halted, waits by MWAIT, and while its processor is in root operation (SDM 32.6); IPI
 * virtualization between two guests (SDM 32.1.6); INIT, SIPI and NMI for a processor that is in a guest, by
 * activity state (SDM 28.2, 29.7.2); the VMX-preemption timer while another processor reads the TSC (SDM
 * 28.5.1).
 *
 * Wants two processors (-smp 2; PROCESSORS=2 tools/run-on-bochs).
 *
 * Bochs 2.7 has no posted interrupts, makes no VM exit of an INIT that another processor sends (SDM 28.2),
 * saves the active state where a SIPI exits (30.3.4), and forgets an NMI that came in the wait-for-SIPI state
 * (29.7.2).
 */
#include "vmx-common.h"
#include "apic.h"
#include "smp.h"

enum { NOTIFICATION = 0x61, OTHER = 0x62, PLAIN = 0x41 };

/* Guests: a counter that runs, HLT, MWAIT; what they find afterwards tells the interrupt's handler. */
#define CODE(name, instructions) \
    asm(".pushsection .text; .balign 16; " #name ": " instructions "; vmcall; .popsection"); \
    extern const uint8_t name[]
CODE(g_run, "sti; 1: incl (%rdi); pause; jmp 1b");
CODE(g_closed, "1: incl (%rdi); pause; cmpl $0, (%rsi); je 1b");
CODE(g_hlt, "sti; movl $1, (%rdi); 1: hlt; jmp 1b");
CODE(g_hlt_closed, "movl $1, (%rdi); hlt");
CODE(g_mwait,
     "mov %rdi, %rax; xor %ecx, %ecx; xor %edx, %edx; monitor; movl $1, 64(%rdi); xor %eax, %eax; mwait");
CODE(g_send, "mov $0x830, %ecx; mov %esi, %eax; mov $1, %edx; wrmsr");

/* What the guest's processor and this one share. */
static struct vmx_vcpu v;
static uint8_t *vapic, *msr_bitmaps;
static volatile uint32_t beats[32] __attribute__((aligned(64)));
static volatile uint32_t stop;
static volatile uint64_t pid[8] __attribute__((aligned(64)));
static uint64_t on_region;
static struct vmx_exit outcome;
static struct {
    uint64_t rip, activity, status, event;
} after;
static volatile uint32_t host_took, host_ready, host_go;

static struct setup {
    const uint8_t *code;
    bool posting;
    uint32_t activity;
    bool in_root; /* first waits in root operation, until it is told to enter */
} how;

#define EVENTUALLY(condition) \
    for (unsigned wait_ = 0; wait_ < 2000 && !(condition); wait_++) smp_delay(50)

static bool host_interrupt(struct trap_frame *f)
{
    (void)f;
    host_took++;
    apic_eoi();
    return true;
}

static uint64_t own_tss(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) r;
    asm volatile("sgdt %0" : "=m"(r));
    const uint64_t *d = (const uint64_t *)(r.base + SEL_TSS);
    return (d[0] >> 16 & 0xffffff) | d[0] >> 56 << 24 | d[1] << 32;
}

static volatile uint32_t host_nmis;
static bool host_nmi(struct trap_frame *f)
{
    (void)f;
    host_nmis++;
    return true;
}

/* On the other processor. */
static void guest(uint64_t unused)
{
    (void)unused;
    const char *why;
    vmx_available(&why); /* IA32_FEATURE_CONTROL is each one's own */
    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4((read_cr4() | CR4_VMXE | rdmsr(IA32_VMX_CR4_FIXED0)) & rdmsr(IA32_VMX_CR4_FIXED1));
    vmxon(on_region);
    guest_init(&v, how.code);
    vmwrite(HOST_TR_BASE, own_tss());
    v.regs.gpr[RDI] = (uint64_t)beats;
    v.regs.gpr[RSI] = (uint64_t)&stop;
    vmwrite(EXCEPTION_BITMAP, 0);
    vmx_clear_proc(PROC_HLT_EXITING | PROC_MWAIT_EXITING | PROC_MONITOR_EXITING | PROC_PAUSE_EXITING);
    vmwrite(GUEST_ACTIVITY_STATE, how.activity);
    if (how.posting) {
        memset(vapic, 0, 4096);
        vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING | PIN_PROCESS_POSTED_INTERRUPTS);
        vmx_set_proc(PROC_USE_TPR_SHADOW | PROC_USE_MSR_BITMAPS);
        vmx_set_proc2(PROC2_VIRTUAL_INTERRUPT_DELIVERY);
        vmwrite(PRIMARY_VM_EXIT_CONTROLS,
                vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
        vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
        vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)msr_bitmaps);
        vmwrite(GUEST_INTERRUPT_STATUS, 0);
        vmwrite(POSTED_INTERRUPT_NOTIFICATION_VECTOR, NOTIFICATION);
        vmwrite(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, (uint64_t)pid);
    }
    host_ready = 1;
    if (how.in_root)
        while (!host_go) pause();
    outcome = vmx_run(&v);
    after.rip = vmread(GUEST_RIP);
    after.activity = vmread(GUEST_ACTIVITY_STATE);
    after.event = outcome.reason == EXIT_REASON_EXTERNAL_INTERRUPT ? vmread(EXITING_EVENT_IDENTIFICATION) : 0;
    after.status = how.posting ? vmread(GUEST_INTERRUPT_STATUS) : 0;
    if (outcome.reason == EXIT_REASON_EXTERNAL_INTERRUPT) apic_eoi();
    vmclear(v.vmcs);
    vmxoff();
    sti();
    for (unsigned i = 0; i < 100; i++) pause();
    cli();
}

static void start(const struct setup *s)
{
    how = *s;
    host_ready = host_go = stop = 0;
    for (unsigned i = 0; i < 32; i++) beats[i] = 0;
    for (unsigned i = 0; i < 8; i++) pid[i] = 0;
    pid[4] = (uint64_t)(apic_is_x2() ? smp_apic_id(1) : smp_apic_id(1) << 8) << 32 | NOTIFICATION << 16;
    outcome = (struct vmx_exit){.reason = 0xffffffff};
    smp_run(1, guest, 0);
    EVENTUALLY(host_ready);
    smp_delay(100);
}

/* An interrupt for the other processor: its vector, and a mode unless it is fixed. */
static void send(uint32_t command)
{
    apic_write(APIC_ICR_HIGH, smp_apic_id(1) << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & 1u << 12) pause();
}

static void post(unsigned vector)
{
    asm volatile("lock btsl %1, %0"
                 : "+m"(((volatile uint32_t *)pid)[vector / 32])
                 : "r"(vector & 31)
                 : "memory");
    asm volatile("lock btsl $0, %0" : "+m"(pid[4])::"memory");
    send(NOTIFICATION);
}

static bool ends(void)
{
    if (smp_wait(1, 200)) return true;
    unsigned before = smp_starts(1);
    tap_note("the guest's processor is stuck: started again");
    smp_send_init(1);
    smp_delay(10000);
    smp_send_init(1);
    smp_delay(10000);
    smp_send_sipi(1);
    EVENTUALLY(smp_starts(1) != before);
    return false;
}

/* The guest has come to the handler of this vector, which is a VMCALL. */
static void arrives(unsigned vector, const char *name)
{
    bool over = ends();
    if (!ok(over && outcome.reason == EXIT_REASON_VMCALL && after.rip == guest_handler(vector), "%s", name))
        tap_note("  reason %x, rip %lx, interrupt status %lx", outcome.reason, after.rip, after.status);
}

static void posted(void)
{
    start(&(struct setup){.code = g_run, .posting = true});
    post(PLAIN);
    arrives(PLAIN, "SDM 32.6: an interrupt posted for a guest that runs on another processor");
    ok(beats[0] != 0, "  it was running");
    is(after.status, PLAIN << 8, "  is in service");
    is(pid[1], 0, "  and no longer in PIR");
    ok(!(pid[4] & 1), "  ON is clear");
    start(&(struct setup){.code = g_closed, .posting = true});
    post(PLAIN), post(0x92);
    EVENTUALLY(!(pid[4] & 1));
    is(pid[1] | pid[2], 0, "SDM 32.6: two posted for a guest with IF=0 are taken over");
    uint32_t then = beats[0];
    smp_delay(100);
    ok(beats[0] != then, "  it goes on");
    stop = 1;
    ok(ends() && outcome.reason == EXIT_REASON_VMCALL, "  to its end");
    is(after.status, 0x92, "  the higher one is requested");
    start(&(struct setup){.code = g_hlt, .posting = true});
    EVENTUALLY(beats[0]);
    smp_delay(100);
    post(PLAIN);
    arrives(PLAIN, "SDM 32.6: it ends a guest's HLT");
    is(after.activity, 0, "  the state is active");
    start(&(struct setup){.code = g_hlt, .posting = true, .activity = 1});
    post(PLAIN);
    EVENTUALLY(!(pid[4] & 1));
    smp_delay(100);
    ok(outcome.reason == 0xffffffff, "SDM 32.6: a guest entered into HLT with IF=0 goes on waiting");
    send(OTHER);
    ok(ends() && outcome.reason == EXIT_REASON_EXTERNAL_INTERRUPT, "SDM 28.2: any other interrupt exits");
    is(after.event, EVENT_VALID | OTHER, "  acknowledged");
    is(after.activity, 1, "  in HLT");
    is(after.status, PLAIN, "  the posted one is requested");
    if (cpuid(1, 0).ecx & 1u << 3) {
        start(&(struct setup){.code = g_mwait, .posting = true});
        EVENTUALLY(beats[16]);
        smp_delay(100);
        post(PLAIN);
        ok(ends() && outcome.reason == EXIT_REASON_VMCALL, "SDM 32.6: it ends a guest's MWAIT, with IF=0");
        is(after.status, PLAIN, "  the interrupt is requested");
    } else
        skip(2, "no MWAIT");
    host_took = 0;
    start(&(struct setup){.code = g_run, .posting = true, .in_root = true});
    post(PLAIN);
    smp_delay(100);
    is(pid[1], 1ul << (PLAIN - 64), "SDM 32.6: in root operation nothing is processed");
    host_go = 1;
    arrives(PLAIN, "  the notification is taken when the guest is entered");
    is(host_took, 0, "  and not by the host");
}

/* ---- INIT, SIPI, NMI by activity state ---- */

static void signals(void)
{
    static const struct {
        uint32_t activity;
        const char *init, *sipi;
    } states[] = {{0, "SDM 28.2: an INIT exits from the active state",
                   "SDM 29.7.2: a SIPI is dropped in the active state"},
                  {1, "SDM 28.2: an INIT exits from HLT", "SDM 29.7.2: a SIPI is dropped in HLT"},
                  {2, "SDM 28.2: an INIT exits from shutdown", "SDM 29.7.2: a SIPI is dropped in shutdown"}};
    for (unsigned i = 0; i < 3; i++) {
        if (i && !(rdmsr(IA32_VMX_MISC) >> (5 + i) & 1)) {
            skip(4, "the activity state is not offered");
            continue;
        }
        start(&(struct setup){.code = g_run, .activity = states[i].activity});
        smp_send_sipi(1);
        smp_delay(100);
        ok(outcome.reason == 0xffffffff, "%s", states[i].sipi);
        smp_send_init(1);
        ok(ends() && outcome.reason == EXIT_REASON_INIT_SIGNAL, "%s", states[i].init);
        is(outcome.qualification, 0, "  without a qualification");
        is(after.activity, states[i].activity, "  which is saved");
    }
    if (!(rdmsr(IA32_VMX_MISC) >> 8 & 1)) {
        skip(9, "no wait-for-SIPI state");
        return;
    }
    start(&(struct setup){.code = g_run, .activity = 3});
    smp_send_init(1);
    smp_delay(100);
    ok(outcome.reason == 0xffffffff, "SDM 29.7.2: wait-for-SIPI blocks INIT");
    send(0x400); /* NMI */
    smp_delay(100);
    ok(outcome.reason == 0xffffffff, "  and NMI");
    send(OTHER);
    smp_delay(100);
    ok(outcome.reason == 0xffffffff, "  and external interrupts");
    unsigned before = smp_starts(1);
    smp_send_sipi(1);
    EVENTUALLY(outcome.reason != 0xffffffff);
    smp_delay(100);
    is(outcome.reason, EXIT_REASON_START_UP_IPI, "SDM 28.2: a SIPI exits from it");
    is(outcome.qualification, 8, "  with the vector in the qualification");
    is(after.activity, 3, "  wait-for-SIPI is saved");
    is(host_nmis, 1, "  the NMI is taken then");
    is(smp_starts(1), before, "SDM 26.5.1: the INIT behind VMXOFF: it waits for a SIPI");
    smp_send_sipi(1);
    EVENTUALLY(smp_starts(1) != before);
    is(smp_starts(1), before + 1, "  which starts it");
}

/* ---- IPI virtualization: from a guest on this processor to one on the other ---- */

static void virtual_ipi(void)
{
    if (!vmx_has_tertiary(PROC3_IPI_VIRTUALIZATION) || !vmx_has_secondary(PROC2_VIRTUALIZE_X2APIC_MODE)) {
        skip(4, "no IPI virtualization");
        return;
    }
    static struct vmx_vcpu w;
    static uint64_t table[2];
    void *own_vapic = page_alloc(1);
    table[1] = (uint64_t)pid | 1;
    start(&(struct setup){.code = g_run, .posting = true});
    guest_init(&w, g_send);
    vmx_set_proc(PROC_USE_TPR_SHADOW | PROC_USE_MSR_BITMAPS);
    vmx_set_proc2(PROC2_VIRTUALIZE_X2APIC_MODE);
    vmx_set_proc3(PROC3_IPI_VIRTUALIZATION);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)own_vapic);
    vmwrite(TPR_THRESHOLD, 0);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)msr_bitmaps);
    vmwrite(PID_POINTER_TABLE_ADDRESS, (uint64_t)table);
    vmwrite(LAST_PID_POINTER_INDEX, 1);
    w.regs.gpr[RSI] = PLAIN;
    done(&w, "SDM 32.1.6: a guest's IPI to another processor's guest does not exit");
    arrives(PLAIN, "  and comes to that one");
    is(after.status, PLAIN << 8, "  as a virtual interrupt");
    is(host_took, 0, "  no host sees anything");
}

/* ---- the VMX-preemption timer counts the TSC, which processors have in common ---- */

CODE(g_loop, "1: jmp 1b");
CODE(g_short, "mov $200, %ecx; 1: loop 1b");

static void reads_the_tsc(uint64_t unused)
{
    (void)unused;
    while (!stop) rdtsc();
}

static void timer(void)
{
    enum { ROUNDS = 300 };
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE)) {
        skip(4, "no VMX-preemption timer whose value is saved");
        return;
    }
    static struct vmx_vcpu w;
    unsigned rate = rdmsr(IA32_VMX_MISC) & 31, early = 0, other = 0, fast = 0;
    uint32_t count = rate < 12 ? 4096u >> rate : 2;
    stop = 0;
    smp_run(1, reads_the_tsc, 0);
    guest_init(&w, g_loop);
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS,
            vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    for (unsigned i = 0; i < ROUNDS; i++) {
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, count);
        uint64_t before = rdtsc();
        struct vmx_exit e = vmx_run(&w);
        early += rdtsc() - before < (uint64_t)(count - 1) << rate;
        other += e.status != VMX_SUCCEED || e.reason != EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED;
    }
    is(other, 0, "SDM 28.5.1: the VMX-preemption timer beside a processor that reads the TSC");
    is(early, 0, "  never ends before the TSC has counted so far");
    other = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        vmwrite(GUEST_RIP, (uint64_t)g_short);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffff);
        uint64_t before = rdtsc();
        struct vmx_exit e = vmx_run(&w);
        fast += (uint64_t)(0xffffff - vmread(VMX_PREEMPTION_TIMER_VALUE)) << rate >
                rdtsc() - before + (1u << rate);
        other += e.status != VMX_SUCCEED || e.reason != EXIT_REASON_VMCALL;
    }
    is(other, 0, "SDM 30.3.4: the value that another exit saves");
    is(fast, 0, "  is less by no more than the TSC has counted");
    stop = 1;
    smp_wait(1, 100);
}

int rom_main(void)
{
    if (!vmx_test_begin("posted interrupts and signals between processors")) return 0;
    if (smp_start() < 2) {
        skip_one("everything", "there is one processor");
        return tap_end();
    }
    if (!vmx_on()) panic("VMXON failed");
    on_region = vmx_new_region();
    v.vmcs = vmx_new_region();
    vapic = page_alloc(1);
    msr_bitmaps = page_alloc(1);
    trap_on(NOTIFICATION, host_interrupt);
    trap_on(OTHER, host_interrupt);
    trap_on(VECTOR_NMI, host_nmi);
    if (vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_PROCESS_POSTED_INTERRUPTS) &&
        vmx_has_secondary(PROC2_VIRTUAL_INTERRUPT_DELIVERY)) {
        posted();
        virtual_ipi();
    } else
        skip(25, "no posted interrupts");
    timer();
    signals();
    return tap_end();
}

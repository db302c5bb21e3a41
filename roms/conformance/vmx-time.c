/*
 * The time-stamp counter of a guest: TSC offsetting and TSC scaling in RDTSC, RDTSCP and RDMSR, and what they
 * do not touch: WRMSR to IA32_TIME_STAMP_COUNTER, IA32_TSC_DEADLINE, the VMX-preemption timer (SDM 27.6.5,
 * 28.3, 28.5.1); waits of UMWAIT and TPAUSE (SDM 28.3).
 */
#include "vmx-common.h"

#define IA32_TSC_DEADLINE 0x6e0

static struct vmx_vcpu v;
static uint64_t *seen;
static uint8_t msr_bitmaps[4096] __attribute__((aligned(4096)));

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
CODE(g_rdtsc, "rdtsc; mov %eax, (%rdi); mov %edx, 4(%rdi)");
CODE(g_rdtscp, "rdtscp; mov %eax, (%rdi); mov %edx, 4(%rdi); mov %ecx, 8(%rdi)");
CODE(g_rdmsr, "mov $0x10, %ecx; rdmsr; mov %eax, (%rdi); mov %edx, 4(%rdi)");
CODE(g_wrmsr, "mov (%rdi), %eax; mov 4(%rdi), %edx; mov $0x10, %ecx; wrmsr");
CODE(g_deadline, "mov $0x6e0, %ecx; rdmsr; mov %eax, (%rdi); mov %edx, 4(%rdi)");
CODE(g_spin, "1: pause; jmp 1b");
/* TPAUSE until ESI later, UMWAIT likewise, by a guest's own clock. */
#define UNTIL "rdtsc; add %esi, %eax; adc $0, %edx; "
CODE(g_tpause,
     UNTIL "xor %ecx, %ecx; .byte 0x66, 0x0f, 0xae, 0xf1; rdtsc; mov %eax, (%rdi); mov %edx, 4(%rdi)");
CODE(g_umwait,
     UNTIL "xor %ecx, %ecx; .byte 0xf2, 0x0f, 0xae, 0xf1; rdtsc; mov %eax, (%rdi); mov %edx, 4(%rdi)");

static void start(const void *code, uint32_t proc)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)seen;
    vmx_clear_proc(PROC_RDTSC_EXITING);
    vmx_set_proc(PROC_USE_MSR_BITMAPS | proc);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)msr_bitmaps);
}

static void start_scaled(const void *code, uint64_t multiplier, uint64_t offset)
{
    start(code, PROC_USE_TSC_OFFSETTING);
    vmx_set_proc2(PROC2_USE_TSC_SCALING);
    vmwrite(TSC_MULTIPLIER, multiplier);
    vmwrite(TSC_OFFSET, offset);
}

static uint64_t scaled(uint64_t tsc, uint64_t multiplier, uint64_t offset)
{
    return (uint64_t)((unsigned __int128)tsc * multiplier >> 48) + offset;
}

/* Runs; what the guest saw lies between what the multiplier and the offset make of the TSC before and after.
 */
static void reads(uint64_t multiplier, uint64_t offset, const char *name)
{
    uint64_t low = rdtsc();
    done(&v, name);
    uint64_t high = rdtsc();
    uint64_t from = scaled(low, multiplier, offset), to = scaled(high, multiplier, offset);
    if (!ok(seen[0] - from <= to - from, "  the clock that the guest reads"))
        tap_note("  read %lx, wanted %lx to %lx (TSC %lx to %lx)", seen[0], from, to, low, high);
}

static void offsetting(void)
{
    start(g_rdtsc, 0);
    vmwrite(TSC_OFFSET, 1ul << 60);
    reads(1ul << 48, 0, "RDTSC without TSC offsetting");
    static const struct {
        const void *code;
        const char *name;
    } kinds[] = {{g_rdtsc, "RDTSC with TSC offsetting"}, {g_rdmsr, "RDMSR with TSC offsetting"}};
    for (unsigned i = 0; i < 2; i++) {
        start(kinds[i].code, PROC_USE_TSC_OFFSETTING);
        vmwrite(TSC_OFFSET, 0xffff000000000000);
        reads(1ul << 48, 0xffff000000000000, kinds[i].name);
    }
    if (vmx_has_secondary(PROC2_ENABLE_RDTSCP)) {
        start(g_rdtscp, PROC_USE_TSC_OFFSETTING);
        vmx_set_proc2(PROC2_ENABLE_RDTSCP);
        vmwrite(TSC_OFFSET, 1ul << 40);
        reads(1ul << 48, 1ul << 40, "RDTSCP with TSC offsetting");
    } else {
        skip(2, "no RDTSCP for guests");
    }
    start(g_rdmsr, PROC_USE_TSC_OFFSETTING | PROC_RDTSC_EXITING);
    vmwrite(TSC_OFFSET, 1ul << 40);
    reads(1ul << 48, 1ul << 40, "RDMSR with TSC offsetting and RDTSC exiting");
    start(g_rdtsc, PROC_USE_TSC_OFFSETTING | PROC_RDTSC_EXITING);
    exit_is(&v, EXIT_REASON_RDTSC, "RDTSC with TSC offsetting and RDTSC exiting: the exit");
}

static void scaling(void)
{
    static const struct {
        const char *name;
        uint64_t multiplier, offset;
    } t[] = {
        {"TSC scaling by 1", 1ul << 48, 0},
        {"TSC scaling by 2 and an offset", 1ul << 49, 0x123456789a},
        {"TSC scaling by 1.5 and a negative offset", 3ul << 47, 0xfffffffffffff000},
        {"TSC scaling by 2 to the -48", 1, 0},
        {"TSC scaling by nearly 65536: a product of more than 64 bits", ~0ul, 0x1000},
    };
    if (!vmx_has_secondary(PROC2_USE_TSC_SCALING)) {
        skip(2 * (sizeof(t) / sizeof(t[0])) + 8, "no use TSC scaling");
        return;
    }
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        start_scaled(g_rdtsc, t[i].multiplier, t[i].offset);
        reads(t[i].multiplier, t[i].offset, t[i].name);
    }
    start_scaled(g_rdmsr, 1ul << 50, 77);
    reads(1ul << 50, 77, "RDMSR with TSC scaling");
    start_scaled(g_rdmsr, 1ul << 50, 77);
    vmx_set_proc(PROC_RDTSC_EXITING);
    reads(1ul << 50, 77, "RDMSR with TSC scaling and RDTSC exiting");
    if (vmx_has_secondary(PROC2_ENABLE_RDTSCP)) {
        start_scaled(g_rdtscp, 1ul << 50, 77);
        vmx_set_proc2(PROC2_ENABLE_RDTSCP);
        reads(1ul << 50, 77, "RDTSCP with TSC scaling");
    } else {
        skip(2, "no RDTSCP for guests");
    }
    start_scaled(g_rdtsc, 1ul << 50, 77);
    vmx_clear_proc(PROC_USE_TSC_OFFSETTING);
    reads(1ul << 48, 0, "TSC scaling without TSC offsetting does nothing");
}

/* The processor's own clock, whatever the guest reads. */
static void unscaled(void)
{
    bool scales = vmx_has_secondary(PROC2_USE_TSC_SCALING);
    uint64_t far = rdtsc() + (1ul << 40), offset = 1ul << 50;
    start(g_wrmsr, PROC_USE_TSC_OFFSETTING);
    if (scales) start_scaled(g_wrmsr, 1ul << 50, offset);
    vmwrite(TSC_OFFSET, offset);
    *seen = far;
    done(&v, "WRMSR to IA32_TIME_STAMP_COUNTER under TSC offsetting");
    uint64_t now = rdtsc();
    ok(now - far < 1ul << 36, "  writes the processor's own, as it is");

    if (cpuid(1, 0).ecx & 1u << 24) {
        volatile uint32_t *timer = (volatile uint32_t *)0xfee00320;
        uint32_t old = *timer;
        *timer = 0x10000 | 2u << 17; /* masked, TSC-deadline mode */
        asm volatile("mfence" ::: "memory");
        uint64_t deadline = rdtsc() + (1ul << 44);
        wrmsr(IA32_TSC_DEADLINE, deadline);
        start(g_deadline, PROC_USE_TSC_OFFSETTING);
        if (scales) start_scaled(g_deadline, 1ul << 50, offset);
        vmwrite(TSC_OFFSET, offset);
        done(&v, "RDMSR of IA32_TSC_DEADLINE under TSC offsetting");
        is(*seen, deadline, "  is neither scaled nor offset");
        wrmsr(IA32_TSC_DEADLINE, 0);
        *timer = old;
    } else {
        skip(2, "no TSC-deadline mode");
    }

    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        skip(4, "no VMX-preemption timer");
        return;
    }
    unsigned rate = rdmsr(IA32_VMX_MISC) & 31;
    uint64_t ticks = 1ul << 24;
    for (unsigned fast = 0; fast < 2; fast++) {
        start(g_spin, PROC_USE_TSC_OFFSETTING);
        if (scales) start_scaled(g_spin, fast ? 1ul << 60 : 1ul << 36, 0);
        vmwrite(TSC_OFFSET, fast ? 1ul << 62 : 0);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, ticks >> rate);
        uint64_t before = rdtsc();
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "the VMX-preemption timer");
        uint64_t passed = rdtsc() - before;
        if (!ok(passed >= ticks - (1ul << rate) && passed < 2 * ticks,
                "  counts by the processor's TSC, unscaled"))
            tap_note("  %lu ticks of it passed, wanted %lu", passed, ticks);
    }
}

/* A wait may end early, so all that can be held is that it does not last as long as it would unscaled: 2^32
 * ticks of a clock that is 2^14 times as fast are 2^18 of the processor's. */
static void waits(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_USER_WAIT_AND_PAUSE | PROC2_USE_TSC_SCALING)) {
        skip(4, "no user waits with TSC scaling for guests");
        return;
    }
    static const struct {
        const void *code;
        const char *name;
    } kinds[] = {{g_tpause, "TPAUSE"}, {g_umwait, "UMWAIT"}};
    for (unsigned i = 0; i < 2; i++) {
        start_scaled(kinds[i].code, 1ul << 62, 0);
        vmx_set_proc2(PROC2_ENABLE_USER_WAIT_AND_PAUSE);
        v.regs.gpr[RSI] = 0xffffffff;
        uint64_t before = rdtsc();
        done(&v, kinds[i].name);
        ok(rdtsc() - before < 1ul << 30, "  its delay is of the guest's clock");
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("the time-stamp counter of a guest")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        skip_one("the time-stamp counter of a guest", "no MSR bitmaps");
        return tap_end();
    }
    seen = page_alloc(1);
    offsetting();
    scaling();
    unscaled();
    waits();
    return tap_end();
}

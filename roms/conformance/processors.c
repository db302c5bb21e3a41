/*
 * Several processors: start, interrupts between them in each mode, atomic accesses, code and translations
 * that one changes for another, MONITOR and MWAIT, VMX on each (SDM volume 3, chapters 8 to 10; 23.8, 25.2
 * and 27.2 for VMX).
 *
 * Wants two processors at least (-smp 4; PROCESSORS=4 tools/run-on-bochs).
 *
 * Where peers differ: Bochs 2.7 does not wake MWAIT by the store of another processor (SDM 9.10.2 ends the
 * wait by it), forgets an INIT that came in VMX root operation (24.8: blocked, not lost) and makes no VM exit
 * of one in non-root operation (26.2); QEMU's TCG delivers lowest priority to the lowest ID whatever the task
 * priorities are (11.6.2.4).
 */
#include "apic.h"
#include "smp.h"
#include "tap.h"
#include "trap.h"
#include "vmx.h"

#define VECTOR_IPI   0x41
#define VECTOR_LOW   0x52
#define VECTOR_SHOOT 0x61

static unsigned processors;
static volatile unsigned taken[256][SMP_MAX]; /* by vector and processor */

static bool count(struct trap_frame *f)
{
    taken[f->vector][smp_self()]++;
    if (f->vector != VECTOR_NMI) apic_eoi();
    return true;
}

static void forget(unsigned vector)
{
    for (unsigned i = 0; i < SMP_MAX; i++) taken[vector][i] = 0;
}

/* Gives a slow peer time: until it is so, or for a fifth of a second. */
#define EVENTUALLY(condition) \
    for (unsigned wait_ = 0; wait_ < 400 && !(condition); wait_++) smp_delay(500)

/* Bit n: processor n has taken it, once. Bit 31: one of them more than once. Waits for those of `want`, and
   then a little for others. */
static uint32_t who(unsigned vector, uint32_t want)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < SMP_MAX; i++)
        if (want >> i & 1) EVENTUALLY(taken[vector][i]);
    smp_delay(300);
    for (unsigned i = 0; i < SMP_MAX; i++)
        mask |= taken[vector][i] == 1 ? 1u << i : taken[vector][i] ? 1u << 31 : 0;
    return mask;
}

static volatile bool go_on;
static void take_interrupts(uint64_t unused)
{
    (void)unused;
    sti();
    while (go_on) pause();
    cli();
}

static void all_listen(bool listen)
{
    go_on = listen;
    for (unsigned i = 1; i < processors; i++)
        if (listen)
            smp_run(i, take_interrupts, 0);
        else
            smp_wait(i, 100);
    if (listen)
        sti();
    else
        cli();
}

static void icr(uint32_t destination, uint32_t command)
{
    apic_write(APIC_ICR_HIGH, destination << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & 1u << 12) pause();
}

/* Lets a processor end what it runs; one that does not is started again, so that the next test is not
 * another's. */
static void finish(unsigned n)
{
    unsigned before = smp_starts(n);
    if (smp_wait(n, 200)) return;
    tap_note("processor %u is stuck: started again", n);
    smp_send_init(n);
    smp_delay(10000);
    smp_send_sipi(n);
    EVENTUALLY(smp_starts(n) != before);
}

/* ---- start ---- */

static volatile uint64_t seen[SMP_MAX];
static void read_base(uint64_t n) { seen[n] = rdmsr(IA32_APIC_BASE); }
static void read_topology(uint64_t n) { seen[n] = cpuid(0xb, 0).edx; }

static void start(void)
{
    bool different = true, bsp = true, topology = true;
    for (unsigned i = 0; i < processors; i++) {
        for (unsigned k = 0; k < i; k++) different &= smp_apic_id(i) != smp_apic_id(k);
        if (!i) continue;
        smp_run(i, read_base, i);
        smp_wait(i, 100);
        bsp &= !(seen[i] & 1u << 8);
    }
    ok(different, "the APIC IDs of %u processors differ", processors);
    ok(bsp && (rdmsr(IA32_APIC_BASE) & 1u << 8), "IA32_APIC_BASE: one is the bootstrap processor");
    if (cpuid(0, 0).eax >= 0xb && cpuid(0xb, 0).ebx) {
        for (unsigned i = 1; i < processors; i++) {
            smp_run(i, read_topology, i);
            smp_wait(i, 100);
            topology &= seen[i] == smp_apic_id(i);
        }
        ok(topology, "CPUID leaf 0Bh tells each its ID");
    } else
        skip_one("CPUID leaf 0Bh", "the leaf is not there");
    unsigned before = smp_starts(1);
    smp_send_sipi(1);
    smp_delay(500);
    is(smp_starts(1), before, "a SIPI to a processor that runs does nothing");
    smp_send_init(1);
    smp_delay(500);
    is(smp_starts(1), before, "INIT: it waits");
    smp_send_sipi(1);
    EVENTUALLY(smp_starts(1) != before);
    is(smp_starts(1), before + 1, "  for a SIPI, with which it starts again");
    smp_send_sipi(1);
    smp_delay(500);
    is(smp_starts(1), before + 1, "  and a second SIPI does nothing");
}

/* ---- interrupts between processors ---- */

static void interrupts(void)
{
    uint32_t all = (1u << processors) - 1;
    trap_on(VECTOR_IPI, count);
    trap_on(VECTOR_LOW, count);
    trap_on(VECTOR_NMI, count);
    all_listen(true);
    bool good = true;
    for (unsigned i = 0; i < processors; i++) {
        forget(VECTOR_IPI);
        icr(smp_apic_id(i), 0x4000 | VECTOR_IPI);
        good &= who(VECTOR_IPI, 1u << i) == 1u << i;
    }
    ok(good, "fixed, physical destination: the one named");
    forget(VECTOR_IPI);
    icr(0xff, 0x4000 | VECTOR_IPI);
    is(who(VECTOR_IPI, all), all, "  FFh: all");
    forget(VECTOR_IPI);
    icr(0, 0x84000 | VECTOR_IPI);
    is(who(VECTOR_IPI, all), all, "shorthand: all including self");
    forget(VECTOR_IPI);
    icr(0, 0xc4000 | VECTOR_IPI);
    is(who(VECTOR_IPI, all & ~1u), all & ~1u, "  all excluding self");
    forget(VECTOR_IPI);
    icr(0, 0x44000 | VECTOR_IPI);
    is(who(VECTOR_IPI, 1), 1, "  self");
    forget(VECTOR_NMI);
    icr(0, 0xc4400);
    is(who(VECTOR_NMI, all & ~1u), all & ~1u, "NMI to all others");
    all_listen(false);
    forget(VECTOR_NMI);
    icr(smp_apic_id(1), 0x4400);
    is(who(VECTOR_NMI, 2), 2, "  and to one whose interrupts are off");
}

static void set_logical(uint64_t ldr_dfr)
{
    apic_write(APIC_DFR, (uint32_t)(ldr_dfr >> 32));
    apic_write(APIC_LDR, (uint32_t)ldr_dfr);
}
static void set_priority(uint64_t tpr) { apic_write(APIC_TPR, (uint32_t)tpr); }

static void on(unsigned n, void (*f)(uint64_t), uint64_t argument)
{
    if (!n) {
        f(argument);
        return;
    }
    smp_run(n, f, argument);
    finish(n);
}

static void logical_destinations(void)
{
    unsigned n = processors < 4 ? processors : 4;
    for (unsigned i = 0; i < processors; i++)
        on(i, set_logical, 0xffffffffull << 32 | (i < 8 ? 1u << (24 + i) : 0));
    all_listen(true);
    bool good = true;
    for (uint32_t mask = 1; mask < 1u << n; mask++) {
        forget(VECTOR_IPI);
        icr(mask, 0x4800 | VECTOR_IPI);
        good &= who(VECTOR_IPI, mask) == mask;
    }
    ok(good, "logical destination, flat model: every set of %u processors", n);
    all_listen(false);
    /* Two clusters, processor i is member i / 2 of cluster i & 1. */
    for (unsigned i = 0; i < processors; i++)
        on(i, set_logical, 0x0fffffffull << 32 | (i & 1) << 28 | (i < 8 ? 1u << (24 + i / 2) : 0));
    all_listen(true);
    good = true;
    for (uint32_t cluster = 0; cluster < 2; cluster++)
        for (uint32_t members = 1; members < 4; members++) {
            uint32_t want = 0;
            for (unsigned i = 0; i < n; i++) want |= (i & 1) == cluster && members >> i / 2 & 1 ? 1u << i : 0;
            forget(VECTOR_IPI);
            icr(cluster << 4 | members, 0x4800 | VECTOR_IPI);
            good &= who(VECTOR_IPI, want) == want;
        }
    ok(good, "  cluster model");
    all_listen(false);
    for (unsigned i = 0; i < processors; i++)
        on(i, set_logical, 0xffffffffull << 32 | (i < 8 ? 1u << (24 + i) : 0));
    for (unsigned i = 0; i < processors; i++) on(i, set_priority, i == 1 ? 0x20 : 0x40);
    all_listen(true);
    forget(VECTOR_LOW);
    icr(3, 0x4900 | VECTOR_LOW);
    is(who(VECTOR_LOW, 2), 2, "lowest priority: the one with the lower task priority");
    all_listen(false);
    for (unsigned i = 0; i < processors; i++) on(i, set_priority, i == 0 ? 0x20 : 0x40);
    all_listen(true);
    forget(VECTOR_LOW);
    icr(3, 0x4900 | VECTOR_LOW);
    is(who(VECTOR_LOW, 1), 1, "  whichever that is");
    all_listen(false);
    for (unsigned i = 0; i < processors; i++) on(i, set_priority, 0);
}

/* ---- memory in common ---- */

#define ROUNDS 3000
static volatile uint32_t counters[4], lock_word;
static volatile bool start_line;

static uint32_t exchange(volatile uint32_t *at, uint32_t value)
{
    asm volatile("xchgl %1, %0" : "+m"(*at), "+r"(value)::"memory");
    return value;
}

static void contend(uint64_t unused)
{
    (void)unused;
    while (!start_line) pause();
    for (unsigned i = 0; i < ROUNDS; i++) {
        asm volatile("lock incl %0" : "+m"(counters[0])::"memory", "cc");
        uint32_t one = 1;
        asm volatile("lock xaddl %1, %0" : "+m"(counters[1]), "+r"(one)::"memory", "cc");
        for (uint32_t old = counters[2];;) {
            uint32_t found = old;
            asm volatile("lock cmpxchgl %2, %0"
                         : "+m"(counters[2]), "+a"(found)
                         : "r"(old + 1)
                         : "memory", "cc");
            if (found == old) break;
            old = found;
        }
        while (exchange(&lock_word, 1)) pause();
        counters[3] = counters[3] + 1;
        asm volatile("" ::: "memory");
        lock_word = 0;
    }
}

static void atomics(void)
{
    for (unsigned i = 1; i < processors; i++) smp_run(i, contend, 0);
    start_line = true;
    contend(0);
    for (unsigned i = 1; i < processors; i++) smp_wait(i, 10000);
    is(counters[0], ROUNDS * processors, "LOCK INC loses none");
    is(counters[1], ROUNDS * processors, "LOCK XADD");
    is(counters[2], ROUNDS * processors, "LOCK CMPXCHG");
    is(counters[3], ROUNDS * processors, "an XCHG lock lets in one at a time");
}

static uint8_t *code;
static volatile uint32_t ask, answer, wrong;
static void run_code(uint64_t rounds)
{
    for (uint32_t n = 1; n <= rounds; n++) {
        while (ask != n) pause();
        cpuid(0, 0); /* serializes, as cross-modifying code must (SDM 8.1.3) */
        uint32_t got = ((uint32_t(*)(void))(uintptr_t)code)();
        if (got != n) wrong++;
        answer = n;
    }
}

static void cross_modifying_code(void)
{
    code = page_alloc(1);
    static const uint8_t mov_ret[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov eax, imm32; ret */
    memcpy(code, mov_ret, sizeof(mov_ret));
    smp_run(1, run_code, 500);
    for (uint32_t n = 1; n <= 500; n++) {
        *(volatile uint32_t *)(code + 1) = n;
        ask = n;
        while (answer != n) pause();
    }
    smp_wait(1, 1000);
    is(wrong, 0, "code that one processor writes, another runs: 500 versions");
}

#define WINDOW 0x4000000000ull
static volatile unsigned shot;
static bool shoot(struct trap_frame *f)
{
    (void)f;
    asm volatile("invlpg %0" ::"m"(*(char *)WINDOW) : "memory");
    asm volatile("lock incl %0" : "+m"(shot)::"memory", "cc");
    apic_eoi();
    return true;
}
static volatile uint32_t read_back[SMP_MAX];
static void keep_reading(uint64_t n)
{
    sti();
    while (go_on) read_back[n] = *(volatile uint32_t *)WINDOW;
    cli();
}

static void shootdown(void)
{
    uint32_t *page[2] = {page_alloc(1), page_alloc(1)};
    *page[0] = 0x1111, *page[1] = 0x2222;
    trap_on(VECTOR_SHOOT, shoot);
    paging_map(WINDOW, (uint64_t)page[0], PTE_P | PTE_W);
    asm volatile("invlpg %0" ::"m"(*(char *)WINDOW) : "memory");
    go_on = true;
    for (unsigned i = 1; i < processors; i++) smp_run(i, keep_reading, i);
    bool good = true;
    for (unsigned round = 0; round < 20; round++) {
        smp_delay(50);
        *paging_entry(WINDOW, 1) = (uint64_t)page[(round + 1) & 1] | PTE_P | PTE_W;
        shot = 0;
        icr(0, 0xc4000 | VECTOR_SHOOT);
        while (shot != processors - 1) pause();
        smp_delay(50);
        for (unsigned i = 1; i < processors; i++) good &= read_back[i] == (round & 1 ? 0x1111u : 0x2222u);
    }
    go_on = false;
    for (unsigned i = 1; i < processors; i++) smp_wait(i, 100);
    ok(good, "after a shootdown by IPI all see the new translation");
}

/* ---- MONITOR and MWAIT ---- */

static volatile struct {
    uint32_t word[16];
} line __attribute__((aligned(64)));
static volatile uint32_t woken;
static void wait_for_line(uint64_t rounds)
{
    for (uint32_t n = 1; n <= rounds; n++) {
        for (;;) {
            asm volatile("monitor" ::"a"(&line), "c"(0), "d"(0));
            if (line.word[0] >= n) break;
            asm volatile("mwait" ::"a"(0), "c"(0));
        }
        woken = n;
    }
}

static void mwait(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 3)) {
        skip_one("MONITOR and MWAIT", "CPUID does not report them");
        return;
    }
    smp_run(1, wait_for_line, 50);
    for (uint32_t n = 1; n <= 50; n++) {
        smp_delay(n & 1 ? 0 : 100);
        line.word[0] = n;
        for (unsigned i = 0; i < 1000 && woken != n; i++) smp_delay(20);
    }
    is(woken, 50, "MWAIT: 50 stores, each wakes");
    finish(1);
}

/* ---- VMX on each ---- */

static uint64_t on_region[SMP_MAX], moving;
static volatile uint64_t result[SMP_MAX];

static bool vmx_on_here(unsigned n)
{
    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4((read_cr4() | CR4_VMXE | rdmsr(IA32_VMX_CR4_FIXED0)) & rdmsr(IA32_VMX_CR4_FIXED1));
    return vmxon(on_region[n]) == VMX_SUCCEED;
}

static void write_vmcs(uint64_t n)
{
    result[n] =
        vmx_on_here((unsigned)n) && vmclear(moving) == VMX_SUCCEED && vmptrld(moving) == VMX_SUCCEED &&
        vmwrite_status(GUEST_RSP, 0x123456789abcdef0) == VMX_SUCCEED && vmclear(moving) == VMX_SUCCEED;
    vmxoff();
}
static void read_vmcs(uint64_t n)
{
    uint64_t v = 0;
    result[n] = vmx_on_here((unsigned)n) && vmptrld(moving) == VMX_SUCCEED &&
                vmread_status(GUEST_RSP, &v) == VMX_SUCCEED && v == 0x123456789abcdef0;
    vmclear(moving);
    vmxoff();
}

static volatile unsigned beats;
static volatile bool leave_root;
static void in_root(uint64_t n)
{
    result[n] = vmx_on_here((unsigned)n);
    while (!leave_root) beats++;
    vmxoff();
    for (;;) beats++; /* an INIT that was held is taken now */
}

static uint8_t guest_stack[4096] __attribute__((aligned(16)));
static void spin(void)
{
    for (;;) beats++;
}
static struct vmx_vcpu guest;
static volatile struct vmx_exit guest_exit;
static void run_guest(uint64_t activity)
{
    if (!vmx_on_here(1)) return;
    vmx_vcpu_init(&guest, (uint64_t)spin, (uint64_t)(guest_stack + sizeof(guest_stack)));
    vmwrite(GUEST_ACTIVITY_STATE, activity);
    guest_exit = vmx_run(&guest);
    vmclear(guest.vmcs);
    vmxoff();
}

static void vmx(void)
{
    const char *why;
    if (!vmx_available(&why)) {
        skip(9, why);
        return;
    }
    for (unsigned i = 0; i < processors; i++) {
        on_region[i] = vmx_new_region();
        if (i)
            on(i, (void (*)(uint64_t))(void *)vmx_available,
               (uint64_t)&why); /* IA32_FEATURE_CONTROL is each one's own */
    }
    moving = vmx_new_region();
    on(1, write_vmcs, 1);
    ok(result[1], "VMX operation on another processor: VMPTRLD, VMWRITE, VMCLEAR");
    on(0, read_vmcs, 0);
    ok(result[0], "  the VMCS moves to this one");

    unsigned before = smp_starts(1);
    smp_run(1, in_root, 1);
    smp_delay(200);
    smp_send_init(1);
    smp_delay(200);
    unsigned then = beats;
    smp_delay(200);
    ok(beats != then, "INIT is held in VMX root operation");
    leave_root = true;
    smp_delay(200);
    then = beats;
    smp_delay(200);
    is(beats, then, "  and taken after VMXOFF");
    smp_send_sipi(1);
    EVENTUALLY(smp_starts(1) != before);
    is(smp_starts(1), before + 1, "  so that a SIPI starts it");

    smp_run(1, run_guest, 0);
    smp_delay(300);
    smp_send_init(1);
    bool ended = smp_wait(1, 100);
    ok(ended && guest_exit.reason == 3, "INIT in non-root operation is a VM exit (%x)", guest_exit.reason);
    finish(1);
    smp_delay(300); /* the INIT was consumed by the exit: the processor still runs */
    is(smp_starts(1), before + 1, "  and nothing else");
    if (rdmsr(IA32_VMX_MISC) & 1u << 8) {
        smp_run(1, run_guest, 3);
        smp_delay(300);
        smp_send_sipi(1);
        ended = smp_wait(1, 100);
        ok(ended && guest_exit.reason == 4, "SIPI in the wait-for-SIPI state is a VM exit (%x)",
           guest_exit.reason);
        is(guest_exit.qualification & 0xff, 8, "  with the vector as its qualification");
        finish(1);
    } else
        skip(2, "the wait-for-SIPI activity state is not offered");
}

int rom_main(void)
{
    tap_begin("several processors");
    processors = smp_start();
    if (processors < 2) {
        skip_one("everything", "there is one processor");
        return tap_end();
    }
    tap_note("%u processors", processors);
    start();
    interrupts();
    logical_destinations();
    atomics();
    cross_modifying_code();
    shootdown();
    mwait();
    vmx();
    return tap_end();
}

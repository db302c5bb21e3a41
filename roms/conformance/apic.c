/*
 * The local APIC's registers: identification, enabling, priorities, self interrupts, errors, x2APIC mode (SDM
 * volume 3 chapter 10).
 *
 * Bochs 2.7 fails at the derived logical ID of x2APIC mode and cannot enable a disabled APIC again; QEMU's
 * TCG at masking the LVT when software-disabled and at the error of an illegal vector.
 *
 * Missing: logical destinations, several processors, LINT pins, performance and thermal entries.
 */
#include "apic.h"
#include "tap.h"
#include "trap.h"

#define LOW_VECTOR  0x41
#define HIGH_VECTOR 0xa1

static volatile unsigned taken[256];
static volatile unsigned order[8], arrived;
static bool send_eoi = true;

static bool count(struct trap_frame *f)
{
    taken[f->vector]++;
    if (arrived < 8) order[arrived++] = (unsigned)f->vector;
    if (send_eoi) apic_eoi();
    return true;
}

static void forget(void)
{
    arrived = 0;
    for (unsigned i = 0; i < 256; i++) taken[i] = 0;
}

static void window(void)
{
    sti();
    for (unsigned i = 0; i < 1000; i++) pause();
    cli();
}

PROBE(p_rdmsr, "mov %edi, %ecx; rdmsr; shl $32, %rdx; or %rdx, %rax");
PROBE(p_wrmsr, "mov %edi, %ecx; mov %esi, %eax; shr $32, %rsi; mov %esi, %edx; wrmsr");

static void identification(void)
{
    uint64_t base = rdmsr(IA32_APIC_BASE);
    ok(base & APIC_BASE_ENABLE, "IA32_APIC_BASE: enabled");
    ok(base & 1u << 8, "  this is the bootstrap processor");
    is(base & PTE_ADDRESS, 0xfee00000, "  at FEE00000h");
    uint32_t version = apic_read(APIC_VERSION);
    ok((version & 0xff) >= 0x10 && (version & 0xff) <= 0x1f, "the version is that of an integrated APIC (%x)",
       version & 0xff);
    ok((version >> 16 & 0xff) >= 3, "it has %u LVT entries", (version >> 16 & 0xff) + 1);
    if (!apic_is_x2())
        is(apic_read(APIC_ID) >> 24, cpuid(1, 0).ebx >> 24, "the ID is that of CPUID");
    else
        skip(1, "already in x2APIC mode");
}

static void software_enable(void)
{
    apic_enable();
    apic_write(APIC_LVT_TIMER, 0x55);
    is(apic_read(APIC_LVT_TIMER) & 0x100ff, 0x55, "an LVT entry keeps what is written");
    apic_write(APIC_SPURIOUS, APIC_SPURIOUS_VECTOR);
    is(apic_read(APIC_LVT_TIMER) & 0x10000, 0x10000, "software-disabling masks the LVT");
    apic_write(APIC_LVT_TIMER, 0x55);
    is(apic_read(APIC_LVT_TIMER) & 0x10000, 0x10000, "  and it cannot be unmasked then");
    apic_write(APIC_SPURIOUS, 0x100 | APIC_SPURIOUS_VECTOR);
    apic_write(APIC_LVT_TIMER, 0x10055);
}

static void priorities(void)
{
    trap_on(LOW_VECTOR, count);
    trap_on(HIGH_VECTOR, count);
    forget();
    apic_self_ipi(LOW_VECTOR);
    apic_self_ipi(HIGH_VECTOR);
    window();
    ok(arrived == 2 && order[0] == HIGH_VECTOR && order[1] == LOW_VECTOR, "the higher vector comes first");

    apic_write(APIC_TPR, 0x50);
    is(read_cr8(), 5, "CR8 is the TPR's upper half");
    is(apic_read(APIC_PPR), 0x50, "the PPR follows the TPR");
    forget();
    apic_self_ipi(LOW_VECTOR);
    apic_self_ipi(HIGH_VECTOR);
    window();
    ok(taken[HIGH_VECTOR] == 1 && taken[LOW_VECTOR] == 0, "the TPR holds back what is not above it");
    write_cr8(0);
    is(apic_read(APIC_TPR), 0, "a write of CR8 is one of the TPR");
    window();
    is(taken[LOW_VECTOR], 1, "  and lets the rest in");
    apic_write(APIC_TPR, 0x40);
    forget();
    apic_self_ipi(LOW_VECTOR);
    window();
    is(taken[LOW_VECTOR], 0, "a TPR of the vector's own class holds it back");
    apic_write(APIC_TPR, 0x3f);
    window();
    is(taken[LOW_VECTOR], 1, "  one below does not");
    apic_write(APIC_TPR, 0);

    /* In service: an interrupt without EOI holds back its class and those below. */
    send_eoi = false;
    forget();
    apic_self_ipi(HIGH_VECTOR);
    window();
    ok(apic_bit(APIC_ISR, HIGH_VECTOR), "without an EOI the vector stays in ISR");
    is(apic_read(APIC_PPR), HIGH_VECTOR & 0xf0, "  and the PPR is its class");
    apic_self_ipi(LOW_VECTOR);
    window();
    is(taken[LOW_VECTOR], 0, "  lower ones wait");
    apic_eoi();
    ok(!apic_bit(APIC_ISR, HIGH_VECTOR), "  the EOI clears ISR");
    window();
    is(taken[LOW_VECTOR], 1, "  and they come");
    apic_eoi();
    send_eoi = true;
    forget();
    apic_self_ipi(LOW_VECTOR);
    apic_self_ipi(LOW_VECTOR);
    window();
    is(taken[LOW_VECTOR], 1, "two requests of one vector are one");
}

static void errors(void)
{
    if (apic_is_x2()) {
        skip(2, "in x2APIC mode a reserved vector is another matter");
        return;
    }
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ESR, 0);
    is(apic_read(APIC_ESR), 0, "no errors are reported");
    apic_write(APIC_ICR, 1u << 18 | 1u << 14 | 5); /* vectors below 16 are illegal */
    for (unsigned i = 0; i < 1000; i++) pause();
    apic_write(APIC_ESR, 0);
    ok(apic_read(APIC_ESR) & 0x60, "a self interrupt with vector 5 is an error (ESR %x)",
       apic_read(APIC_ESR));
    apic_write(APIC_ESR, 0);
    apic_write(APIC_ESR, 0);
}

static void x2apic(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 21)) {
        skip(19, "no x2APIC");
        return;
    }
    uint64_t base = rdmsr(IA32_APIC_BASE);
    if (!(base & APIC_BASE_X2)) {
        is(trap_catch(p_rdmsr, 0x802, 0).vector, VECTOR_GP, "x2APIC MSRs in xAPIC mode: #GP");
        is(trap_catch(p_wrmsr, IA32_APIC_BASE, (base & ~(uint64_t)APIC_BASE_ENABLE) | APIC_BASE_X2).vector,
           VECTOR_GP, "x2APIC without enable: #GP");
    } else {
        skip(2, "already in x2APIC mode");
    }
    uint32_t version = apic_read(APIC_VERSION);
    wrmsr(IA32_APIC_BASE, base | APIC_BASE_X2);
    ok(apic_is_x2(), "x2APIC mode");
    is(apic_read(APIC_VERSION) & 0xff, version & 0xff, "  the version is the same");
    is(rdmsr(0x802), cpuid_if_present(0xb, 0).edx, "  the ID is that of CPUID leaf 0BH");
    uint32_t id = (uint32_t)rdmsr(0x802);
    is(apic_read(APIC_LDR), (id & ~15u) << 12 | 1u << (id & 15), "  the logical ID derives from it");
    is(trap_catch(p_wrmsr, 0x802, 0).vector, VECTOR_GP, "  writing the ID: #GP");
    is(trap_catch(p_wrmsr, 0x80b, 1).vector, VECTOR_GP, "  an EOI that is not 0: #GP");
    is(trap_catch(p_rdmsr, 0x80b, 0).vector, VECTOR_GP, "  reading EOI: #GP");
    is(trap_catch(p_rdmsr, 0x831, 0).vector, VECTOR_GP, "  the high ICR does not exist: #GP");
    is(trap_catch(p_wrmsr, 0x808, 0x100).vector, VECTOR_GP, "  reserved bits of the TPR: #GP");
    is(trap_catch(p_wrmsr, IA32_APIC_BASE, base & ~(uint64_t)APIC_BASE_X2).vector, VECTOR_GP,
       "  straight back to xAPIC mode: #GP");
    apic_enable();
    forget();
    apic_self_ipi(LOW_VECTOR);
    ok(apic_bit(APIC_IRR, LOW_VECTOR), "  SELF IPI requests");
    window();
    is(taken[LOW_VECTOR], 1, "  and arrives");
    forget();
    wrmsr(0x830, (uint64_t)id << 32 | 1u << 14 | HIGH_VECTOR);
    window();
    is(taken[HIGH_VECTOR], 1, "  an ICR write in one piece arrives");
    forget();
    is(trap_catch(p_wrmsr, 0x830, (uint64_t)id << 32 | 1u << 14 | 1u << 12 | HIGH_VECTOR).vector, TRAP_NONE,
       "SDM 32.5: bit 12 of ICR is not reserved");
    window();
    is(taken[HIGH_VECTOR], 1, "  and unused: the interrupt arrives");
    unsigned faults = 0;
    for (unsigned bit = 13; bit < 32; bit++)
        faults +=
            (0xfff32000u >> bit & 1) &&
            trap_catch(p_wrmsr, 0x830, (uint64_t)id << 32 | 1u << bit | 1u << 14 | HIGH_VECTOR).vector ==
                VECTOR_GP;
    is(faults, 15, "SDM 32.5: bits 31:20, 17:16 and 13 of it are: #GP");
    if (!(base & APIC_BASE_X2)) {
        wrmsr(IA32_APIC_BASE, base & ~(uint64_t)(APIC_BASE_X2 | APIC_BASE_ENABLE));
        wrmsr(IA32_APIC_BASE, base);
        is(rdmsr(IA32_APIC_BASE), base, "back to xAPIC mode through disabled");
    } else {
        skip(1, "firmware wants x2APIC mode");
    }
}

int rom_main(void)
{
    tap_begin("the local APIC");
    if (!(cpuid(1, 0).edx & 1u << 9)) {
        skip(1, "no local APIC");
        return tap_end();
    }
    identification();
    software_enable();
    priorities();
    errors();
    x2apic();
    return tap_end();
}

// Local APICs, their timers and messages, and the I/O APIC. Expected values: SDM volume 3, chapter "Advanced
// Programmable Interrupt Controller" (sections by name in comments), 82093AA data sheet.
#include "tests/device_test.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"

#define CPUS 4

struct cpu {
    bool intr;
    unsigned nmis, inits, sipis;
    u8 sipi_vector;
    u64 tsc_offset;
    struct clock *clock;
};
static void cpu_intr(void *c, bool level) { ((struct cpu *)c)->intr = level; }
static void cpu_nmi(void *c) { ((struct cpu *)c)->nmis++; }
static void cpu_init(void *c) { ((struct cpu *)c)->inits++; }
static void cpu_sipi(void *c, u8 vector)
{
    ((struct cpu *)c)->sipis++;
    ((struct cpu *)c)->sipi_vector = vector;
}
static u64 cpu_tsc(void *c) { return ((struct cpu *)c)->clock->now + ((struct cpu *)c)->tsc_offset; }
static const struct lapic_cpu_ops ops = {cpu_intr, cpu_nmi, cpu_init, cpu_sipi, cpu_tsc};

struct fixture {
    struct board b;
    struct apic_bus bus;
    struct lapic l[CPUS];
    struct cpu cpu[CPUS];
    struct ioapic io;
    u8 extint_vector;
};
static u8 extint(void *to) { return ((struct fixture *)to)->extint_vector; }

static u32 rd(struct fixture *f, unsigned cpu, u32 offset) { return lapic_mmio_read(&f->l[cpu], offset, 4); }
static void wr(struct fixture *f, unsigned cpu, u32 offset, u32 v)
{
    lapic_mmio_write(&f->l[cpu], offset, 4, v);
}
static u64 rdmsr(struct fixture *f, unsigned cpu, u32 msr)
{
    u64 v = 0;
    assert_true(lapic_msr_read(&f->l[cpu], msr, &v));
    return v;
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    for (unsigned i = 0; i < CPUS; i++) {
        f->cpu[i].clock = &f->b.clock;
        lapic_init(&f->l[i], &f->bus, &f->b.clock, i, i, 40, &ops, &f->cpu[i]);
        f->l[i].dev.ops->reset(&f->l[i].dev);
    }
    ioapic_init(&f->io, &f->b.bus, &f->b.clock, &f->bus);
    f->io.dev.ops->reset(&f->io.dev);
    f->bus.extint_ack = extint;
    f->bus.extint_to = f;
}
static void begin_enabled(struct fixture *f)
{
    begin(f);
    for (unsigned i = 0; i < CPUS; i++) wr(f, i, 0xF0, 0x1FF);
}
static void begin_x2apic(struct fixture *f)
{
    begin_enabled(f);
    for (unsigned i = 0; i < CPUS; i++)
        assert_true(lapic_msr_write(&f->l[i], 0x1B, rdmsr(f, i, 0x1B) | 0x400));
}

// "Local APIC State After Power-Up or Reset".
static void power_up_state(void **state)
{
    struct fixture f;
    begin(&f);
    assert_int_equal(rdmsr(&f, 0, 0x1B), 0xFEE00900);
    assert_int_equal(rdmsr(&f, 1, 0x1B), 0xFEE00800);
    assert_int_equal(rd(&f, 2, 0x20), 0x02000000);
    assert_int_equal(rd(&f, 0, 0x30), 0x00050014); // six LVT entries
    assert_int_equal(rd(&f, 0, 0xE0), 0xFFFFFFFF);
    assert_int_equal(rd(&f, 0, 0xF0), 0xFF);
    assert_int_equal(rd(&f, 0, 0x80), 0);
    for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10) assert_int_equal(rd(&f, 0, lvt), 0x10000);
    wr(&f, 0, 0x350, 0x700); // cannot be unmasked while the APIC is disabled by software
    assert_int_equal(rd(&f, 0, 0x350), 0x10700);
    lapic_apply_fixed(&f.l[0], 0x40, false);
    assert_false(f.cpu[0].intr);
}

static void priority_and_eoi(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    lapic_apply_fixed(&f.l[0], 0x45, false);
    lapic_apply_fixed(&f.l[0], 0x51, false);
    assert_true(f.cpu[0].intr);
    assert_int_equal(rd(&f, 0, 0x220), 1u << 5 | 1u << 17); // IRR of 40h-5Fh
    assert_int_equal(lapic_ack(&f.l[0]), 0x51);
    assert_false(f.cpu[0].intr); // 45h is below 51h's class
    assert_int_equal(rd(&f, 0, 0xA0), 0x50);
    lapic_apply_fixed(&f.l[0], 0x5F, false); // the same class waits, too
    assert_false(f.cpu[0].intr);
    lapic_apply_fixed(&f.l[0], 0x60, false);
    assert_int_equal(lapic_ack(&f.l[0]), 0x60);
    wr(&f, 0, 0xB0, 0);
    assert_int_equal(rd(&f, 0, 0xA0), 0x50);
    wr(&f, 0, 0xB0, 0);
    assert_int_equal(lapic_ack(&f.l[0]), 0x5F);
    wr(&f, 0, 0xB0, 0);
    assert_int_equal(lapic_ack(&f.l[0]), 0x45);
    wr(&f, 0, 0xB0, 0);
    assert_int_equal(lapic_ack(&f.l[0]), -1);
}

static void task_priority(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    lapic_apply_fixed(&f.l[0], 0x45, false);
    lapic_set_tpr(&f.l[0], 0x4F);
    assert_false(f.cpu[0].intr);
    assert_int_equal(rd(&f, 0, 0xA0), 0x4F); // TPR's class is not below ISRV's: PPR is TPR, with its low bits
    lapic_set_tpr(&f.l[0], 0x3F);
    assert_true(f.cpu[0].intr);
    lapic_ack(&f.l[0]);
    assert_int_equal(rd(&f, 0, 0xA0), 0x40); // else ISRV's class, low bits 0
    wr(&f, 0, 0x80, 0x123);
    assert_int_equal(lapic_tpr(&f.l[0]), 0x23);
}

// "Spurious-Interrupt Vector Register", "Local APIC State After It Has Been Software Disabled": that masks
// all LVT entries; enabling it, once more or anew, unmasks none and masks none.
static void software_disable(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10) wr(&f, 0, lvt, 0x40);
    wr(&f, 0, 0xF0, 0x1FE);
    for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10) assert_int_equal(rd(&f, 0, lvt) & 0x100FF, 0x40);
    wr(&f, 0, 0xF0, 0xFE);
    for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10) assert_int_equal(rd(&f, 0, lvt) & 0x100FF, 0x10040);
    wr(&f, 0, 0x350, 0x41); // and they stay masked
    assert_int_equal(rd(&f, 0, 0x350) & 0x100FF, 0x10041);
    wr(&f, 0, 0xF0, 0x1FE);
    for (u32 lvt = 0x320; lvt <= 0x370; lvt += 0x10) assert_true(rd(&f, 0, lvt) & 0x10000);
}

// "Destination Format Register": bits 27:0 are 1. Narrow reads give the bytes of the register (the manual
// leaves them undefined).
static void formats_and_narrow_reads(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0xE0, 0);
    assert_int_equal(rd(&f, 0, 0xE0), 0x0FFFFFFF);
    wr(&f, 0, 0xE0, 0xF0000000);
    assert_int_equal(rd(&f, 0, 0xE0), 0xFFFFFFFF);
    u32 version = rd(&f, 0, 0x30);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(lapic_mmio_read(&f.l[0], 0x30 + i, 1), version >> 8 * i & 0xFF);
    assert_int_equal(lapic_mmio_read(&f.l[0], 0x32, 2), version >> 16);
    assert_int_equal(lapic_mmio_read(&f.l[0], 0x34, 4), 0);
}

// x2APIC mode, "Reserved Bit Checking": what is reserved is #GP, bit by bit.
static void x2apic_reserved_bits(void **state)
{
    // clang-format off
    static const struct { u32 msr; u64 allowed; } regs[] = {
        {0x808, 0xFF}, {0x80B, 0}, {0x828, 0}, {0x80F, 0x3FF}, {0x838, 0xFFFFFFFF}, {0x83E, 0x0B}, {0x830, 0xFFFFFFFF000CDFFF},
        {0x832, 0x710FF}, {0x834, 0x117FF}, {0x837, 0x110FF},
    };
    // clang-format on
    struct fixture f;
    for (unsigned i = 0; i < ARRAY_LEN(regs); i++) {
        for (unsigned bit = 0; bit < 64; bit++) {
            begin_x2apic(&f);
            // Bit 17 and 18 of the timer at once are a reserved mode, but no reserved bits. Lower bits of ICR
            // send what they say.
            assert_int_equal(lapic_msr_write(&f.l[3], regs[i].msr, 1ull << bit), regs[i].allowed >> bit & 1);
        }
    }
}

static void one_shot_timer_counts_the_crystal(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0x320, 0x40);
    wr(&f, 0, 0x3E0, 0xB);   // by 1
    wr(&f, 0, 0x380, 25000); // a millisecond of 25 MHz
    pass(&f.b, MICROSECONDS(400));
    assert_int_equal(rd(&f, 0, 0x390), 15000);
    go_to(&f.b, MICROSECONDS(1000) - 1);
    assert_false(f.cpu[0].intr);
    go_to(&f.b, MICROSECONDS(1000));
    assert_int_equal(lapic_ack(&f.l[0]), 0x40);
    assert_int_equal(rd(&f, 0, 0x390), 0);
    assert_true(f.b.clock.next_deadline == CLOCK_NEVER);
}

// "Divide Configuration Register": bits 3, 1, 0.
static void divide_configurations(void **state)
{
    static const struct {
        u8 dcr;
        unsigned by;
    } div[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
    for (unsigned i = 0; i < ARRAY_LEN(div); i++) {
        struct fixture f;
        begin_enabled(&f);
        wr(&f, 0, 0x320, 0x40);
        wr(&f, 0, 0x3E0, div[i].dcr);
        wr(&f, 0, 0x380, 1000);
        assert_int_equal(f.b.clock.next_deadline, 1000 * 80 * div[i].by);
    }
}

static void periodic_timer_reloads(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0x3E0, 0xB);
    wr(&f, 0, 0x320, 0x20040);
    wr(&f, 0, 0x380, 100);
    unsigned n = 0;
    while (f.b.clock.next_deadline <= 80 * 100 * 10) {
        go_to(&f.b, f.b.clock.next_deadline);
        assert_int_equal(lapic_ack(&f.l[0]), 0x40);
        wr(&f, 0, 0xB0, 0);
        n++;
    }
    assert_int_equal(n, 10);
    wr(&f, 0, 0x320, 0x30040); // masked: counts, and costs no deadline
    assert_true(f.b.clock.next_deadline == CLOCK_NEVER);
    pass(&f.b, 80 * 1030);
    assert_int_equal(rd(&f, 0, 0x390), 70);
    wr(&f, 0, 0x320, 0x20040);
    assert_int_equal(f.b.clock.next_deadline - f.b.clock.now, 80 * 70);
    wr(&f, 0, 0x380, 0); // 0 stops it
    assert_true(f.b.clock.next_deadline == CLOCK_NEVER);
}

// The manual says only what rate a divide configuration gives. On processors a change while the timer counts
// leaves the current count where it is and changes the rate from there (observed and reproduced by KVM's
// emulation).
static void divide_change_while_counting(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0x320, 0x20040); // periodic
    wr(&f, 0, 0x3E0, 0);       // by 2
    wr(&f, 0, 0x380, 1000);
    pass(&f.b, 80 * 2 * 300);
    assert_int_equal(rd(&f, 0, 0x390), 700);
    wr(&f, 0, 0x3E0, 3); // by 16
    assert_int_equal(rd(&f, 0, 0x390), 700);
    assert_int_equal(f.b.clock.next_deadline - f.b.clock.now, 80 * 16 * 700);
    pass(&f.b, 80 * 16 * 100);
    assert_int_equal(rd(&f, 0, 0x390), 600);
    wr(&f, 0, 0x3E0, 0xB); // by 1
    assert_int_equal(rd(&f, 0, 0x390), 600);
    u64 due = f.b.clock.now + 80 * 600;
    go_to(&f.b, due - 1);
    assert_false(f.cpu[0].intr);
    go_to(&f.b, due);
    assert_int_equal(lapic_ack(&f.l[0]), 0x40);
    assert_int_equal(f.b.clock.next_deadline - due, 80 * 1000); // the next period is whole
    assert_int_equal(rd(&f, 0, 0x390), 1000);
}

// "TSC-Deadline Mode".
static void tsc_deadline(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    assert_true(lapic_msr_write(&f.l[0], 0x6E0, 5000)); // ignored outside the mode
    assert_int_equal(rdmsr(&f, 0, 0x6E0), 0);
    wr(&f, 0, 0x320, 0x40040);
    f.cpu[0].tsc_offset = 1000;
    assert_true(lapic_msr_write(&f.l[0], 0x6E0, 5000));
    assert_int_equal(f.b.clock.next_deadline, 4000);
    go_to(&f.b, 3999);
    assert_false(f.cpu[0].intr);
    go_to(&f.b, 4000);
    assert_int_equal(lapic_ack(&f.l[0]), 0x40);
    assert_int_equal(rdmsr(&f, 0, 0x6E0), 0); // disarmed
    wr(&f, 0, 0xB0, 0);
    assert_true(lapic_msr_write(&f.l[0], 0x6E0, 100)); // already past: at once
    clock_run(&f.b.clock);
    assert_true(f.cpu[0].intr);
    wr(&f, 0, 0x380, 1000); // the initial count is ignored in this mode
    assert_int_equal(rd(&f, 0, 0x390), 0);
    assert_true(lapic_msr_write(&f.l[0], 0x6E0, 1000000));
    wr(&f, 0, 0x320, 0x00040); // leaving the mode disarms
    assert_int_equal(rdmsr(&f, 0, 0x6E0), 0);
    assert_true(f.b.clock.next_deadline == CLOCK_NEVER);
}

static void tsc_deadline_off(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    f.l[0].no_tsc_deadline = true;
    wr(&f, 0, 0x320, 0x40040);
    assert_int_equal(rd(&f, 0, 0x320), 0x40);
    assert_true(lapic_msr_write(&f.l[0], 0x1B, 0xFEE00D00));
    assert_false(lapic_msr_write(&f.l[0], 0x832, 0x40040)); // reserved
    assert_true(lapic_msr_write(&f.l[0], 0x832, 0x20040));
}

static void ipi_physical_and_shorthands(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0x310, 2u << 24);
    wr(&f, 0, 0x300, 0x4041);
    assert_int_equal(lapic_ack(&f.l[2]), 0x41);
    assert_false(f.cpu[1].intr || f.cpu[3].intr || f.cpu[0].intr);
    wr(&f, 0, 0x300, 0x44042); // self
    assert_int_equal(lapic_ack(&f.l[0]), 0x42);
    for (unsigned i = 0; i < CPUS; i++) wr(&f, i, 0xB0, 0);
    wr(&f, 1, 0x300, 0x84043); // all including self
    for (unsigned i = 0; i < CPUS; i++) assert_int_equal(lapic_ack(&f.l[i]), 0x43);
    wr(&f, 1, 0x300, 0xC4400); // NMI to all but self
    assert_int_equal(f.cpu[0].nmis, 1);
    assert_int_equal(f.cpu[1].nmis, 0);
    wr(&f, 0, 0x310, 0xFFu << 24); // physical broadcast
    wr(&f, 0, 0x300, 0x4400);
    assert_int_equal(f.cpu[1].nmis, 1);
    assert_int_equal(f.cpu[0].nmis, 2);
}

static void init_and_startup(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0x310, 1u << 24);
    wr(&f, 0, 0x300, 0xC500); // INIT, level assert
    wr(&f, 0, 0x300, 0x8500); // INIT level de-assert does nothing
    assert_int_equal(f.cpu[1].inits, 1);
    wr(&f, 0, 0x300, 0x4608);
    assert_int_equal(f.cpu[1].sipis, 1);
    assert_int_equal(f.cpu[1].sipi_vector, 8);
    wr(&f, 1, 0x20, 0x05000000);
    lapic_init_reset(&f.l[1]);
    assert_int_equal(rd(&f, 1, 0xF0), 0xFF);
    assert_int_equal(rd(&f, 1, 0x20), 0x05000000); // INIT keeps the ID
}

// "Logical Destination Mode": flat and cluster.
static void logical_destinations(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    for (unsigned i = 0; i < CPUS; i++) wr(&f, i, 0xD0, 1u << (24 + i));
    wr(&f, 0, 0x310, 0x0A000000);
    wr(&f, 0, 0x300, 0x4841);
    assert_true(!f.cpu[0].intr && f.cpu[1].intr && !f.cpu[2].intr && f.cpu[3].intr);

    begin_enabled(&f);
    static const u8 ldr[CPUS] = {0x11, 0x12, 0x21, 0x22};
    for (unsigned i = 0; i < CPUS; i++) {
        wr(&f, i, 0xE0, 0x0FFFFFFF);
        wr(&f, i, 0xD0, (u32)ldr[i] << 24);
    }
    wr(&f, 0, 0x310, 0x22000000); // cluster 2, member 2
    wr(&f, 0, 0x300, 0x4841);
    assert_true(!f.cpu[1].intr && !f.cpu[2].intr && f.cpu[3].intr);
    wr(&f, 0, 0x310, 0xF1000000); // member 1 of every cluster
    wr(&f, 0, 0x300, 0x4841);
    assert_true(f.cpu[0].intr && !f.cpu[1].intr && f.cpu[2].intr);
}

static void lowest_priority_goes_to_the_idlest(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    for (unsigned i = 0; i < CPUS; i++) wr(&f, i, 0xD0, 1u << (24 + i));
    lapic_set_tpr(&f.l[0], 0x30);
    lapic_set_tpr(&f.l[1], 0x20);
    lapic_set_tpr(&f.l[2], 0x10);
    lapic_set_tpr(&f.l[3], 0x40);
    wr(&f, 0, 0x310, 0xFF000000);
    wr(&f, 0, 0x300, 0x4980 | 0x71);
    for (unsigned i = 0; i < CPUS; i++) assert_int_equal(f.cpu[i].intr, i == 2);
}

// "Error Handling".
static void errors(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    wr(&f, 0, 0x370, 0xFE);
    wr(&f, 0, 0x300, 0x4005); // vector below 16
    assert_int_equal(lapic_ack(&f.l[0]), 0xFE);
    assert_int_equal(rd(&f, 0, 0x280), 0); // shown after a write
    wr(&f, 0, 0x280, 0);
    assert_int_equal(rd(&f, 0, 0x280), 0x20);
    wr(&f, 0, 0x280, 0);
    assert_int_equal(rd(&f, 0, 0x280), 0);
    lapic_apply_fixed(&f.l[0], 5, false);
    rd(&f, 0, 0x3F0);
    wr(&f, 0, 0x280, 0);
    assert_int_equal(rd(&f, 0, 0x280), 0xC0); // received illegal vector, illegal register
}

// "x2APIC State Transitions".
static void apic_base_transitions(void **state)
{
    struct fixture f;
    begin(&f);
    struct lapic *l = &f.l[0];
    assert_false(lapic_msr_write(l, 0x1B, 0xFEE00500));           // EXTD without EN
    assert_false(lapic_msr_write(l, 0x1B, 0xFEE00A00));           // bit 9 is reserved
    assert_false(lapic_msr_write(l, 0x1B, 0xFEE00901));           // so are 7:0
    assert_false(lapic_msr_write(l, 0x1B, BIT(40) | 0xFEE00900)); // beyond MAXPHYADDR
    assert_true(lapic_msr_write(l, 0x1B, 0xFEE00D00));            // xAPIC to x2APIC
    assert_false(lapic_msr_write(l, 0x1B, 0xFEE00900));           // and not straight back
    assert_true(lapic_msr_write(l, 0x1B, 0xFEE00100));            // disabled
    assert_false(lapic_msr_write(l, 0x1B, 0xFEE00D00));           // disabled to x2APIC
    assert_true(lapic_msr_write(l, 0x1B, 0xFEE00900));
    assert_int_equal(rd(&f, 0, 0xF0), 0xFF); // power-up state
    assert_true(lapic_msr_write(l, 0x1B, 0xFED40900));
    assert_true(lapic_claims(l, 0xFED40030));
    assert_false(lapic_claims(l, 0xFEE00030));
}

static void x2apic_registers(void **state)
{
    struct fixture f;
    begin_x2apic(&f);
    struct lapic *l = &f.l[3];
    u64 v;
    assert_false(lapic_claims(l, 0xFEE00030));
    assert_int_equal(rdmsr(&f, 3, 0x802), 3);
    assert_int_equal(rdmsr(&f, 3, 0x80D), 1u << 3); // (ID >> 4) << 16 | 1 << (ID & 15)
    assert_int_equal(rdmsr(&f, 3, 0x803), 0x00050014);
    assert_false(lapic_msr_read(l, 0x80B, &v)); // EOI is write-only
    assert_false(lapic_msr_write(l, 0x80B, 1)); // and takes 0 only
    assert_true(lapic_msr_write(l, 0x80B, 0));
    assert_false(lapic_msr_write(l, 0x802, 0)); // read-only
    assert_false(lapic_msr_read(l, 0x80E, &v)); // DFR is not there
    assert_false(lapic_msr_read(l, 0x831, &v)); // nor ICR's upper half
    assert_false(lapic_msr_write(l, 0x808, 0x100));
    assert_false(lapic_msr_write(l, 0x808, 1ull << 32));
    assert_true(lapic_msr_write(l, 0x808, 0x20));
    assert_int_equal(lapic_tpr(l), 0x20);
    assert_false(lapic_msr_write(l, 0x828, 1));
    assert_true(lapic_msr_write(l, 0x830, 1ull << 32 | 0x41)); // to ID 1
    assert_int_equal(lapic_ack(&f.l[1]), 0x41);
    assert_int_equal(rdmsr(&f, 3, 0x830), 1ull << 32 | 0x41);
    assert_true(lapic_msr_write(l, 0x830, 1ull << 32 | 0x1041)); // bit 12 is unused: it changes nothing
    assert_int_equal(rdmsr(&f, 3, 0x830), 1ull << 32 | 0x41);
    assert_true(lapic_msr_write(l, 0x830, 0x0Cull << 32 | 0x842)); // logical: members 2 and 3 of cluster 0
    assert_true(f.cpu[2].intr && f.cpu[3].intr);
    assert_true(lapic_msr_write(l, 0x83F, 0x77)); // SELF IPI
    assert_int_equal(lapic_ack(l), 0x77);
    assert_false(lapic_msr_read(l, 0x83F, &v));
    assert_true(lapic_msr_write(l, 0x830, 0xFFFFFFFFull << 32 | 0x4400)); // broadcast NMI
    for (unsigned i = 0; i < CPUS; i++) assert_int_equal(f.cpu[i].nmis, 1);
    begin_enabled(&f);
    assert_false(lapic_msr_read(&f.l[0], 0x802, &v)); // xAPIC mode has no such MSRs
}

// ExtINT by message (SDM, Message Data Register Format, delivery mode 111; 82093AA, redirection entries): an
// edge, whose vector is the 8259's. The ICR has no such mode.
static void extint_by_message(void **state)
{
    struct fixture f;
    const struct apic_message all = {.destination = 0xFF, .vector = 0x99, .delivery = DELIVER_EXTINT};
    begin(&f);
    f.extint_vector = 0x31;
    apic_bus_send(&f.bus, &all); // disabled by software, as at power-up
    for (unsigned i = 0; i < CPUS; i++) assert_false(f.cpu[i].intr);
    assert_int_equal(lapic_would_signal(&f.l[0], &all), 0);
    begin_enabled(&f);
    f.extint_vector = 0x31;
    struct apic_message one = all;
    one.destination = 1;
    assert_int_equal(lapic_would_signal(&f.l[1], &one), LAPIC_INTR);
    apic_bus_send(&f.bus, &one);
    assert_false(f.cpu[0].intr);
    lapic_set_tpr(&f.l[1], 0xFF);
    assert_true(f.cpu[1].intr);
    assert_int_equal(lapic_ack(&f.l[1]), 0x31);
    assert_false(f.cpu[1].intr); // once
    assert_int_equal(rd(&f, 1, 0x110), 0);
    lapic_set_tpr(&f.l[1], 0);
    apic_bus_send(&f.bus, &one);
    lapic_apply_fixed(&f.l[1], 0x80, false); // the APIC's own comes first, and the ExtINT is not lost
    assert_int_equal(lapic_ack(&f.l[1]), 0x80);
    assert_true(f.cpu[1].intr);
    assert_int_equal(lapic_ack(&f.l[1]), 0x31);
    apic_bus_send(&f.bus, &one);
    lapic_init_reset(&f.l[1]);
    assert_false(f.cpu[1].intr);
    wr(&f, 0, 0x310, 2u << 24);
    wr(&f, 0, 0x300, 0x4700);
    assert_false(f.cpu[2].intr);
}

static void virtual_wire(void **state)
{
    struct fixture f;
    begin(&f);
    f.extint_vector = 0x30;
    apic_bus_set_lint0(&f.bus, 0, true);
    assert_false(f.cpu[0].intr); // LINT0 is masked at power-up
    lapic_virtual_wire(&f.l[0]);
    assert_true(f.cpu[0].intr);
    assert_false(f.cpu[1].intr);
    lapic_set_tpr(&f.l[0], 0xFF); // ExtINT does not ask the task priority
    assert_true(f.cpu[0].intr);
    assert_int_equal(lapic_ack(&f.l[0]), 0x30);
    assert_int_equal(rd(&f, 0, 0x110), 0); // and sets no ISR bit
    lapic_set_tpr(&f.l[0], 0);
    lapic_apply_fixed(&f.l[0], 0x80, false); // the APIC's own comes first
    assert_int_equal(lapic_ack(&f.l[0]), 0x80);
    wr(&f, 0, 0x350, 0x10700);
    assert_false(f.cpu[0].intr);
    assert_true(lapic_msr_write(&f.l[0], 0x1B, 0xFEE00100)); // no APIC: the pin is INTR
    assert_true(f.cpu[0].intr);
    assert_true(lapic_msr_write(&f.l[0], 0x1B, 0xFEE00900)); // enabled again: as at power-up, LINT0 is masked
    assert_false(f.cpu[0].intr);
    assert_true(lapic_msr_write(&f.l[0], 0x1B, 0xFEE00100));
    assert_true(f.cpu[0].intr);
    lapic_set_lint(&f.l[0], 1, true); // and the other NMI
    assert_int_equal(f.cpu[0].nmis, 1);
}

// ---- I/O APIC ----

static u32 io_rd(struct fixture *f, u8 index)
{
    bus_mem_write(&f->b.bus, 0xFEC00000, 4, index);
    return (u32)bus_mem_read(&f->b.bus, 0xFEC00010, 4);
}
static void io_wr(struct fixture *f, u8 index, u32 v)
{
    bus_mem_write(&f->b.bus, 0xFEC00000, 4, index);
    bus_mem_write(&f->b.bus, 0xFEC00010, 4, v);
}

static void ioapic_identity_and_reset(void **state)
{
    struct fixture f;
    begin(&f);
    assert_int_equal(io_rd(&f, 1), 0x00170020);
    io_wr(&f, 0, 0x05000000);
    assert_int_equal(io_rd(&f, 0), 0x05000000);
    for (u8 pin = 0; pin < 24; pin++) assert_int_equal(io_rd(&f, (u8)(0x10 + 2 * pin)), 0x10000);
    io_wr(&f, 0x10, 0xFFFFFFFF); // status and remote IRR are read-only
    assert_int_equal(io_rd(&f, 0x10), 0x1AFFF);
    io_wr(&f, 0x11, 0xFFFFFFFF);
    assert_int_equal(io_rd(&f, 0x11), 0xFF000000);
}

static void ioapic_edges(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    io_wr(&f, 0x10 + 8, 0x10044);
    ioapic_set_line(&f.io, 4, true);
    io_wr(&f, 0x11 + 8, 0x01000000);
    io_wr(&f, 0x10 + 8, 0x00044); // an edge while masked is lost
    assert_false(f.cpu[1].intr);
    ioapic_set_line(&f.io, 4, false);
    ioapic_set_line(&f.io, 4, true);
    assert_int_equal(lapic_ack(&f.l[1]), 0x44);
    ioapic_set_line(&f.io, 4, true);
    assert_false(f.cpu[1].intr);
    assert_int_equal(io_rd(&f, 0x10 + 8), 0x44); // no remote IRR for edges
    wr(&f, 1, 0xB0, 0);
    assert_false(f.cpu[1].intr);
}

static void ioapic_levels(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    io_wr(&f, 0x10 + 18, 0x8049);
    ioapic_set_line(&f.io, 9, true);
    assert_int_equal(io_rd(&f, 0x10 + 18), 0xC049);
    assert_int_equal(rd(&f, 0, 0x1A0), 1u << 9); // TMR
    assert_int_equal(lapic_ack(&f.l[0]), 0x49);
    assert_false(f.cpu[0].intr);
    wr(&f, 0, 0xB0, 0); // still asserted: it comes again
    assert_int_equal(lapic_ack(&f.l[0]), 0x49);
    ioapic_set_line(&f.io, 9, false);
    wr(&f, 0, 0xB0, 0);
    assert_int_equal(io_rd(&f, 0x10 + 18), 0x8049);
    assert_false(f.cpu[0].intr);
    // Masked while asserted: delivered when unmasked.
    io_wr(&f, 0x10 + 18, 0x18049);
    ioapic_set_line(&f.io, 9, true);
    assert_false(f.cpu[0].intr);
    io_wr(&f, 0x10 + 18, 0x8049);
    assert_true(f.cpu[0].intr);
    // The EOI register acts as a local APIC's EOI; the switch to edge clears remote IRR.
    ioapic_set_line(&f.io, 9, false);
    bus_mem_write(&f.b.bus, 0xFEC00040, 4, 0x49);
    assert_int_equal(io_rd(&f, 0x10 + 18), 0x8049);
    ioapic_set_line(&f.io, 9, true);
    assert_int_equal(io_rd(&f, 0x10 + 18), 0xC049);
    ioapic_set_line(&f.io, 9, false);
    io_wr(&f, 0x10 + 18, 0x10049);
    io_wr(&f, 0x10 + 18, 0x18049);
    assert_int_equal(io_rd(&f, 0x10 + 18), 0x18049);
}

static void ioapic_nmi_and_logical(void **state)
{
    struct fixture f;
    begin_enabled(&f);
    for (unsigned i = 0; i < CPUS; i++) wr(&f, i, 0xD0, 1u << (24 + i));
    io_wr(&f, 0x11 + 4, 0x06000000);
    io_wr(&f, 0x10 + 4, 0x0C00); // NMI, logical
    ioapic_set_line(&f.io, 2, true);
    assert_true(!f.cpu[0].nmis && f.cpu[1].nmis && f.cpu[2].nmis && !f.cpu[3].nmis);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_up_state),
        cmocka_unit_test(priority_and_eoi),
        cmocka_unit_test(task_priority),
        cmocka_unit_test(software_disable),
        cmocka_unit_test(formats_and_narrow_reads),
        cmocka_unit_test(x2apic_reserved_bits),
        cmocka_unit_test(one_shot_timer_counts_the_crystal),
        cmocka_unit_test(divide_configurations),
        cmocka_unit_test(periodic_timer_reloads),
        cmocka_unit_test(divide_change_while_counting),
        cmocka_unit_test(tsc_deadline),
        cmocka_unit_test(tsc_deadline_off),
        cmocka_unit_test(ipi_physical_and_shorthands),
        cmocka_unit_test(init_and_startup),
        cmocka_unit_test(logical_destinations),
        cmocka_unit_test(lowest_priority_goes_to_the_idlest),
        cmocka_unit_test(errors),
        cmocka_unit_test(apic_base_transitions),
        cmocka_unit_test(x2apic_registers),
        cmocka_unit_test(extint_by_message),
        cmocka_unit_test(virtual_wire),
        cmocka_unit_test(ioapic_identity_and_reset),
        cmocka_unit_test(ioapic_edges),
        cmocka_unit_test(ioapic_levels),
        cmocka_unit_test(ioapic_nmi_and_logical),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

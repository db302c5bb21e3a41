// PCI configuration, BARs, interrupt routing, and PIIX4 power management. Expected values: PCI Local Bus
// Specification 2.1 (6.2.5.1 for BARs), PIIX3 and PIIX4 data sheets, ACPI specification 4.8.
#include "tests/device_test.h"
#include "devices/acpi_pm.h"
#include "devices/pci.h"

struct card { // a device with an I/O and a memory BAR
    struct device dev;
    struct pci_function fn;
    u64 last;
};
static u64 card_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    return region * 0x10 + offset;
}
static void card_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 v)
{
    ((struct card *)d)->last = v;
}
static const struct device_ops card_ops = {.name = "card", .read = card_read, .write = card_write};

struct fixture {
    struct board b;
    struct pci_bus pci;
    struct piix piix;
    struct acpi_pm pm;
    struct card card;
    struct wire irq[16], sci;
    unsigned offs, resets;
};
static void power_off(void *to) { ((struct fixture *)to)->offs++; }
static void reset_line(void *to) { ((struct fixture *)to)->resets++; }

static void cfg(struct fixture *f, unsigned devfn, unsigned reg)
{
    out32(&f->b, 0xCF8, 0x80000000u | devfn << 8 | (reg & 0xFC));
}
static u32 cfg_rd32(struct fixture *f, unsigned devfn, unsigned reg)
{
    return cfg(f, devfn, reg), in32(&f->b, 0xCFC);
}
static void cfg_wr32(struct fixture *f, unsigned devfn, unsigned reg, u32 v)
{
    cfg(f, devfn, reg), out32(&f->b, 0xCFC, v);
}

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    pci_init(&f->pci, &f->b.bus, &f->b.clock);
    f->pci.reset_line = reset_line;
    f->pci.reset_to = f;
    for (unsigned i = 0; i < 16; i++) f->pci.isa_irq[i] = wire_to(&f->irq[i]);
    piix_init(&f->piix, &f->pci, &f->b.clock);
    acpi_pm_init(&f->pm, &f->pci, &f->b.bus, &f->b.clock);
    f->pm.sci = wire_to(&f->sci);
    f->pm.power_off = power_off;
    f->pm.to = f;
    f->card.dev.ops = &card_ops;
    pci_add(&f->pci, &f->card.fn, PCI_DEVFN(3, 0), 0x1234, 0x5678, 0x020000, 1);
    f->card.fn.owner = &f->card.dev;
    pci_add_bar(&f->card.fn, 0, 0x20, true, 1);
    pci_add_bar(&f->card.fn, 1, 0x1000, false, 2);
    pci_allow(&f->card.fn, PCI_PIN, 1, 0, 1);
    struct device *all[] = {&f->pci.dev,   &f->piix.host.dev, &f->piix.isa.dev,
                            &f->pm.fn.dev, &f->pm.dev,        &f->card.fn.dev};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) all[i]->ops->reset(all[i]);
}

static void identities(void **state)
{
    struct fixture f;
    begin(&f);
    assert_int_equal(cfg_rd32(&f, 0, 0), 0x12378086);
    assert_int_equal(cfg_rd32(&f, 0, 8), 0x06000002);
    assert_int_equal(cfg_rd32(&f, PCI_DEVFN(1, 0), 0), 0x70008086);
    assert_int_equal(cfg_rd32(&f, PCI_DEVFN(1, 0), 0x0C) >> 16 & 0xFF, 0x80); // more than one function
    assert_int_equal(cfg_rd32(&f, PCI_DEVFN(1, 3), 0), 0x71138086);
    assert_int_equal(cfg_rd32(&f, PCI_DEVFN(1, 1), 0), 0xFFFFFFFF); // nothing there
    cfg_wr32(&f, 0, 0, 0);
    assert_int_equal(cfg_rd32(&f, 0, 0), 0x12378086); // read-only
    out32(&f.b, 0xCF8, 0x00000000);                   // not enabled
    assert_int_equal(in32(&f.b, 0xCFC), 0xFFFFFFFF);
    out32(&f.b, 0xCF8, 0x80010000); // another bus
    assert_int_equal(in32(&f.b, 0xCFC), 0xFFFFFFFF);
    out32(&f.b, 0xCF8, 0x80000000);
    assert_int_equal(in32(&f.b, 0xCF8), 0x80000000); // probes for mechanism 1 read it back
    assert_int_equal(in16(&f.b, 0xCFE), 0x1237);
    assert_int_equal(in8(&f.b, 0xCFD), 0x80);
}

// Registers that the bridges store: after reset, and which bits can be set (82441FX data sheet, chapter 3.2;
// PIIX3, chapter 2.2).
static void bridges_store_their_registers(void **state)
{
    static const struct {
        u8 devfn, first, last, reset, writable;
    } regs[] = {
        {0, 0x59, 0x5F, 0x00, 0xFF},               // PAM0-PAM6
        {0, 0x72, 0x72, 0x02, 0x7F},               // SMRAM
        {PCI_DEVFN(1, 0), 0x4C, 0x4C, 0x4D, 0xFF}, // I/O recovery
        {PCI_DEVFN(1, 0), 0x4E, 0x4E, 0x03, 0xFF}, // X-bus chip select
        {PCI_DEVFN(1, 0), 0x60, 0x63, 0x80, 0x8F}, // PIRQ routing
        {PCI_DEVFN(1, 0), 0x69, 0x69, 0x02, 0xFE}, // top of memory
        {PCI_DEVFN(1, 0), 0x82, 0x82, 0x00, 0xFF}, // deterministic latency
    };
    for (unsigned i = 0; i < ARRAY_LEN(regs); i++) {
        for (unsigned r = regs[i].first; r <= regs[i].last; r++) {
            struct fixture f;
            begin(&f);
            unsigned shift = r % 4 * 8;
            assert_int_equal(cfg_rd32(&f, regs[i].devfn, r) >> shift & 0xFF, regs[i].reset);
            for (unsigned v = 0; v < 0x100; v += 0xFF) {
                cfg(&f, regs[i].devfn, r);
                out8(&f.b, (u16)(0xCFC + r % 4), (u8)v);
                u8 kept = regs[i].reset & (u8)~regs[i].writable;
                assert_int_equal(cfg_rd32(&f, regs[i].devfn, r) >> shift & 0xFF,
                                 (v & regs[i].writable) | kept);
            }
        }
    }
}

static void bars_are_sized_and_mapped(void **state)
{
    struct fixture f;
    begin(&f);
    unsigned d = PCI_DEVFN(3, 0);
    cfg_wr32(&f, d, 0x10, 0xFFFFFFFF);
    cfg_wr32(&f, d, 0x14, 0xFFFFFFFF);
    cfg_wr32(&f, d, 0x18, 0xFFFFFFFF);
    assert_int_equal(cfg_rd32(&f, d, 0x10), 0xFFFFFFE1);
    assert_int_equal(cfg_rd32(&f, d, 0x14), 0xFFFFF000);
    assert_int_equal(cfg_rd32(&f, d, 0x18), 0); // not there
    cfg_wr32(&f, d, 0x10, 0xC001);
    cfg_wr32(&f, d, 0x14, 0xFEB00000);
    assert_int_equal(in8(&f.b, 0xC004), 0xFF); // decoding is off
    cfg_wr32(&f, d, PCI_COMMAND, 3);
    assert_int_equal(in8(&f.b, 0xC004), 0x14);
    assert_int_equal(bus_mem_read(&f.b.bus, 0xFEB00003, 1), 0x23);
    cfg_wr32(&f, d, 0x10, 0xD001); // moves
    assert_int_equal(in8(&f.b, 0xC004), 0xFF);
    assert_int_equal(in8(&f.b, 0xD004), 0x14);
    cfg_wr32(&f, d, PCI_COMMAND, 2);
    assert_int_equal(in8(&f.b, 0xD004), 0xFF);
    out32(&f.b, 0xD000, 1);
    assert_int_equal(f.card.last, 0);
}

static void interrupts_are_routed_by_the_isa_bridge(void **state)
{
    struct fixture f;
    begin(&f);
    pci_set_irq(&f.card.fn, true); // slot 3, INTA: PIRQ (3 - 1 + 0) mod 4 = C; not connected after reset
    for (unsigned i = 0; i < 16; i++) assert_false(f.irq[i].level);
    piix_firmware(&f.piix);
    assert_true(f.irq[11].level);
    cfg(&f, PCI_DEVFN(1, 0), 0x60);
    out8(&f.b, 0xCFE, 5); // PIRQC to 5
    assert_true(f.irq[5].level);
    assert_false(f.irq[11].level);
    pci_set_irq(&f.card.fn, false);
    assert_false(f.irq[5].level);
}

static void cf9_resets_on_a_rising_edge(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0xCF9, 0x02);
    assert_int_equal(f.resets, 0);
    out8(&f.b, 0xCF9, 0x06);
    assert_int_equal(f.resets, 1);
    assert_int_equal(in8(&f.b, 0xCF9), 0x06);
    out8(&f.b, 0xCF9, 0x0E);
    assert_int_equal(f.resets, 1);
}

// ---- power management ----

static void pm_begin(struct fixture *f)
{
    begin(f);
    assert_int_equal(in16(&f->b, ACPI_PM_BASE + 4), 0xFFFF); // not mapped before firmware
    acpi_pm_firmware(&f->pm);
}

static void pm_timer_is_24_bits_of_3579545_hz(void **state)
{
    struct fixture f;
    pm_begin(&f);
    assert_int_equal(in32(&f.b, ACPI_PM_BASE + 8), 0);
    pass(&f.b, CLOCK_HZ);
    assert_int_equal(in32(&f.b, ACPI_PM_BASE + 8), 3579545);
    pass(&f.b, 9 * CLOCK_HZ);
    assert_int_equal(in32(&f.b, ACPI_PM_BASE + 8), 35795450 & 0xFFFFFF);
}

// ACPI 4.8.4.1: status bits are set by hardware and cleared by a 1; enable bits are memory. B3h is memory,
// too.
static void general_purpose_events(void **state)
{
    struct fixture f;
    begin(&f);
    acpi_pm_firmware(&f.pm);
    out16(&f.b, ACPI_PM_GPE + 2, 0xBEEF);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE + 2), 0xBEEF);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE), 0);
    assert_int_equal(in32(&f.b, ACPI_PM_GPE), 0xBEEF0000);
    out8(&f.b, ACPI_PM_GPE + 3, 0x12);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE + 2), 0x12EF);
    out8(&f.b, 0xB2, 0xF1);
    f.pm.st.gpe_status = 0x1203;
    out16(&f.b, ACPI_PM_GPE, 0x0001);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE), 0x1202);
    assert_true(f.sci.level);
    out8(&f.b, ACPI_PM_GPE + 1, 0xFF);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE), 0x0002);
    out8(&f.b, ACPI_PM_GPE + 2, 0xED); // not enabled: no interrupt
    assert_false(f.sci.level);
    out8(&f.b, 0xB3, 0x5A);
    assert_int_equal(in8(&f.b, 0xB3), 0x5A);
    assert_int_equal(in8(&f.b, 0xB2), 0xF1);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE + 2), 0x12ED);
}

static void acpi_is_enabled_through_b2(void **state)
{
    struct fixture f;
    pm_begin(&f);
    assert_int_equal(in16(&f.b, ACPI_PM_BASE + 4), 0);
    out8(&f.b, 0xB2, 0xF1);
    assert_int_equal(in16(&f.b, ACPI_PM_BASE + 4), 1);
    out8(&f.b, 0xB2, 0xF0);
    assert_int_equal(in16(&f.b, ACPI_PM_BASE + 4), 0);
}

static void sci_for_events_that_are_enabled(void **state)
{
    struct fixture f;
    pm_begin(&f);
    out8(&f.b, 0xB2, 0xF1);
    acpi_pm_power_button(&f.pm);
    assert_false(f.sci.level);
    out16(&f.b, ACPI_PM_BASE + 2, 0x100);
    assert_true(f.sci.level);
    assert_int_equal(in16(&f.b, ACPI_PM_BASE), 0x100);
    out16(&f.b, ACPI_PM_BASE, 0x100); // writing 1 clears
    assert_int_equal(in16(&f.b, ACPI_PM_BASE), 0);
    assert_false(f.sci.level);
    // TMR_STS: when bit 23 of the timer changes.
    out16(&f.b, ACPI_PM_BASE + 2, 1);
    go_to(&f.b, clock_from_hz(1 << 23, 3579545) - 1);
    assert_false(f.sci.level);
    go_to(&f.b, clock_from_hz(1 << 23, 3579545));
    assert_true(f.sci.level);
    out8(&f.b, ACPI_PM_BASE, 1);
    assert_false(f.sci.level);
    go_to(&f.b, clock_from_hz(2 << 23, 3579545));
    assert_true(f.sci.level);
    out8(&f.b, 0xB2, 0xF0); // without SCI_EN there is no SCI
    assert_false(f.sci.level);
}

static void soft_off(void **state)
{
    struct fixture f;
    pm_begin(&f);
    out16(&f.b, ACPI_PM_BASE + 4, 0x0001);
    assert_int_equal(f.offs, 0);
    out16(&f.b, ACPI_PM_BASE + 4, 0x2001); // SLP_TYP 0 and SLP_EN
    assert_int_equal(f.offs, 1);
    assert_int_equal(in16(&f.b, ACPI_PM_BASE + 4), 0x0001); // SLP_EN reads 0
    out16(&f.b, ACPI_PM_BASE + 4, 0x2401);                  // another sleep type
    assert_int_equal(f.offs, 1);
}

static void gpe_block(void **state)
{
    struct fixture f;
    pm_begin(&f);
    out16(&f.b, ACPI_PM_GPE + 2, 0xFFFF);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE + 2), 0xFFFF);
    assert_int_equal(in16(&f.b, ACPI_PM_GPE), 0);
}

// Values of the UHCI Design Guide 1.1, chapter 2.
static void usb_controller_with_nothing_plugged_in(void **state)
{
    struct fixture f;
    begin(&f);
    struct device_board offers = board_offers(&f.b);
    offers.pci = &f.pci;
    struct device_config c = device_of("piix3-usb-uhci");
    void *u = make_device(&offers, &c);
    const unsigned fn = PCI_DEVFN(1, 2);
    const u16 io = 0xD000;
    assert_int_equal(cfg_rd32(&f, fn, 0), 0x70208086);
    assert_int_equal(cfg_rd32(&f, fn, 8) >> 8, 0x0C0300); // serial bus, USB, UHCI
    assert_int_equal(cfg_rd32(&f, fn, 4) >> 16, 0x0280);  // PIIX3: medium DEVSEL, fast back-to-back
    assert_int_equal(cfg_rd32(&f, fn, 0x3C) >> 8 & 0xFF, 4);
    assert_int_equal(cfg_rd32(&f, fn, 0x60) & 0xFF, 0x10); // SBRN: release 1.0
    assert_int_equal(in16(&f.b, io), 0xFFFF);
    cfg_wr32(&f, fn, 0x20, 0xFFFFFFFF);
    assert_int_equal(cfg_rd32(&f, fn, 0x20), 0xFFFFFFE1); // 32 ports
    cfg_wr32(&f, fn, 0x20, io);
    cfg_wr32(&f, fn, 4, 5);
    assert_int_equal(in16(&f.b, io + 2), 0x20); // halted
    out16(&f.b, io + 2, 0x3F);
    assert_int_equal(in16(&f.b, io + 2), 0x20); // HCHalted is not one that writing clears
    assert_int_equal(in8(&f.b, io + 0xC), 64);
    for (unsigned port = 0x10; port <= 0x12; port += 2) {
        out16(&f.b, io + port, 0x1205);                  // reset, suspended, enabled
        assert_int_equal(in16(&f.b, io + port), 0x1280); // no device: neither connected nor enabled
        out16(&f.b, io + port, 0);
        assert_int_equal(in16(&f.b, io + port), 0x80);
    }
    out32(&f.b, io + 8, 0x12345FFF);
    assert_int_equal(in32(&f.b, io + 8), 0x12345000);
    out16(&f.b, io + 4, 0xFFFF);
    assert_int_equal(in16(&f.b, io + 4), 0xF);
    out16(&f.b, io + 6, 0x7FE);
    pass(&f.b, MICROSECONDS(5000));
    assert_int_equal(in16(&f.b, io + 6), 0x7FE); // halted frames do not count
    out16(&f.b, io, 0xC1);
    assert_int_equal(in16(&f.b, io + 2), 0);
    pass(&f.b, MICROSECONDS(3100));
    assert_int_equal(in16(&f.b, io + 6), 1); // 11 bits
    out16(&f.b, io + 6, 0x100);
    assert_int_equal(in16(&f.b, io + 6), 1); // not while it runs
    out16(&f.b, io, 0xC0);
    assert_int_equal(in16(&f.b, io + 2), 0x20);
    pass(&f.b, MICROSECONDS(3000));
    assert_int_equal(in16(&f.b, io + 6), 1);
    out16(&f.b, io, 2); // HCRESET clears itself
    assert_int_equal(in16(&f.b, io), 0);
    assert_int_equal(in16(&f.b, io + 6), 0);
    assert_int_equal(in32(&f.b, io + 8), 0);
    assert_int_equal(in16(&f.b, io + 4), 0);
    for (unsigned i = 0; i < 16; i++) assert_false(f.irq[i].level);
    free(u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identities),
        cmocka_unit_test(bridges_store_their_registers),
        cmocka_unit_test(bars_are_sized_and_mapped),
        cmocka_unit_test(interrupts_are_routed_by_the_isa_bridge),
        cmocka_unit_test(cf9_resets_on_a_rising_edge),
        cmocka_unit_test(pm_timer_is_24_bits_of_3579545_hz),
        cmocka_unit_test(acpi_is_enabled_through_b2),
        cmocka_unit_test(general_purpose_events),
        cmocka_unit_test(sci_for_events_that_are_enabled),
        cmocka_unit_test(soft_off),
        cmocka_unit_test(gpe_block),
        cmocka_unit_test(usb_controller_with_nothing_plugged_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

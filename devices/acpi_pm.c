// clang-format off
// PIIX4 power management. Sources: PIIX4 data sheet (290562, chapter 7), ACPI specification (chapter 4.8).
//
//   PM block (configuration register 40h: base, 80h bit 0: decode)
//     +0  PM1 status (16): 0 timer, 5 global, 8 power button, 10 RTC, 15 wake; writing 1 clears
//     +2  PM1 enable (16): 0, 5, 8, 10
//     +4  PM1 control (16): 0 SCI_EN, 12:10 SLP_TYP, 13 SLP_EN (reads 0)
//     +8  PM timer (32, read-only): 24 bits at 3.579545 MHz
//   AFE0h GPE0 status (16), +2 enable (16)
//   B2h   APM control: F1h sets SCI_EN, F0h clears it (what firmware's SMI handler would do)      B3h  APM status
//
// SLP_TYP 0 is S5 (DSDT: \_S5). Not here: other sleeping states (counted), SMI, the SMBus host controller, throttling,
// device monitors; nothing raises a general-purpose event yet.
// clang-format on
#include "devices/acpi_pm.h"

#include <string.h>

enum { REGION_PM, REGION_GPE, REGION_APM };
enum { PM1_TMR = 1, PM1_GBL = 0x20, PM1_PWRBTN = 0x100, PM1_RTC = 0x400, PM1_WAK = 0x8000 };
enum { CONTROL_SCI_EN = 1, CONTROL_SLP_EN = 0x2000 };

#define PM1_STATUS_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC | PM1_WAK)
#define PM1_ENABLE_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC)
#define HALF_RANGE      BIT(23) // TMR_STS: bit 23 changes

static bool sci_pending(const struct acpi_pm_state *s)
{
    return s->pm1_status & s->pm1_enable & PM1_ENABLE_BITS || s->gpe_status & s->gpe_enable;
}

static void drive(struct acpi_pm *a)
{
    irq_set(&a->sci, sci_pending(&a->st) && a->st.pm1_control & CONTROL_SCI_EN);
}

static void arm(struct acpi_pm *a)
{
    const struct acpi_pm_state *s = &a->st;
    bool wanted = s->pm1_enable & PM1_TMR && !(s->pm1_status & PM1_TMR);
    u64 next = (s->timer_seen / HALF_RANGE + 1) * HALF_RANGE;
    clock_timer_set(a->dev.clock, a->timer, wanted ? clock_from_hz(next, ACPI_PM_TIMER_HZ) : CLOCK_NEVER);
}

static void update(struct acpi_pm *a)
{
    struct acpi_pm_state *s = &a->st;
    u64 ticks = clock_to_hz(a->dev.clock->now, ACPI_PM_TIMER_HZ);
    if (ticks / HALF_RANGE != s->timer_seen / HALF_RANGE) s->pm1_status |= PM1_TMR;
    s->timer_seen = ticks;

    drive(a);
    arm(a);
}

static u64 acpi_pm_raises(const struct device *d, unsigned id)
{
    const struct acpi_pm *a = (const struct acpi_pm *)d;
    return a->st.pm1_control & CONTROL_SCI_EN && !sci_pending(&a->st) ? DEVICE_ISA(a->sci.n) : 0;
}

static void write_control(struct acpi_pm *a, u16 v)
{
    a->st.pm1_control = v & (u16)~CONTROL_SLP_EN;
    if (!(v & CONTROL_SLP_EN)) return;
    if ((v >> 10 & 7) == 0) {
        if (a->power_off) a->power_off(a->to);
    } else {
        device_unimplemented(&a->dev, "acpi: a sleeping state other than S5");
    }
}

static u8 pm_byte(const struct acpi_pm *a, unsigned offset)
{
    const struct acpi_pm_state *s = &a->st;
    u16 word = 0;
    switch (offset & ~1u) {
    case 0: word = s->pm1_status; break;
    case 2: word = s->pm1_enable; break;
    case 4: word = s->pm1_control; break;
    case 8: word = (u16)s->timer_seen; break;
    case 10: word = (u16)(s->timer_seen >> 16 & 0xFF); break;
    default: break;
    }
    return (u8)(offset & 1 ? word >> 8 : word);
}

static u64 acpi_pm_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    struct acpi_pm *a = (struct acpi_pm *)d;
    struct acpi_pm_state *s = &a->st;
    update(a);
    u64 v = 0;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        u8 byte = 0;
        if (region == REGION_PM)
            byte = pm_byte(a, at);
        else if (region == REGION_GPE)
            byte = (u8)((at & 2 ? s->gpe_enable : s->gpe_status) >> (at & 1 ? 8 : 0));
        else
            byte = at ? s->apms : s->apmc;
        v |= (u64)byte << (i * 8);
    }
    return v;
}

// A byte of a 16-bit register; the other byte stays.
static u16 merge(u16 old, unsigned at, u8 byte)
{
    return (u16)(at & 1 ? (old & 0xFF) | byte << 8 : (old & 0xFF00) | byte);
}

static void acpi_pm_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    struct acpi_pm *a = (struct acpi_pm *)d;
    struct acpi_pm_state *s = &a->st;
    update(a);
    u16 control = s->pm1_control;
    bool control_written = false;
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        u8 byte = (u8)(value >> (i * 8));
        u16 ones = (u16)(at & 1 ? byte << 8 : byte);
        if (region == REGION_PM) {
            switch (at & ~1u) {
            case 0: s->pm1_status &= (u16) ~(ones & PM1_STATUS_BITS); break;
            case 2: s->pm1_enable = merge(s->pm1_enable, at, byte) & PM1_ENABLE_BITS; break;
            case 4:
                control = merge(control, at, byte);
                control_written = true;
                break;
            default: break;
            }
        } else if (region == REGION_GPE) {
            if (at & 2)
                s->gpe_enable = merge(s->gpe_enable, at, byte);
            else
                s->gpe_status &= (u16)~ones;
        } else if (at) {
            s->apms = byte;
        } else {
            s->apmc = byte;
            if (byte == ACPI_PM_ENABLE) s->pm1_control |= CONTROL_SCI_EN;
            if (byte == ACPI_PM_DISABLE) s->pm1_control &= (u16)~CONTROL_SCI_EN;
        }
    }
    if (control_written) write_control(a, control);
    update(a);
}

void acpi_pm_power_button(struct acpi_pm *a)
{
    a->st.pm1_status |= PM1_PWRBTN;
    update(a);
}

static void map_block(struct pci_function *f, unsigned reg, unsigned size)
{
    (void)reg, (void)size;
    struct acpi_pm *a = (struct acpi_pm *)f->owner;
    u16 base = pci_get16(f, 0x40) & 0xFFC0;
    u16 at = f->config[0x80] & 1 ? base : 0;
    if (at == a->mapped_at) return;
    if (at)
        bus_move_port(a->bus, &a->dev, REGION_PM, at, 64, pci_rank(f, PCI_BARS));
    else
        bus_unmap(a->bus, &a->dev, REGION_PM);
    a->mapped_at = at;
}

void acpi_pm_firmware(struct acpi_pm *a)
{
    pci_config_write(&a->fn, 0x40, 4, ACPI_PM_BASE | 1);
    pci_config_write(&a->fn, 0x80, 1, 1);
    pci_config_write(&a->fn, PCI_LINE, 1, ACPI_PM_SCI);
}

static void acpi_pm_tick(struct device *d, unsigned id)
{
    (void)id;
    update((struct acpi_pm *)d);
}

static void acpi_pm_reset(struct device *d)
{
    struct acpi_pm *a = (struct acpi_pm *)d;
    a->st = (struct acpi_pm_state){.timer_seen = clock_to_hz(d->clock->now, ACPI_PM_TIMER_HZ)};
    update(a);
}

static void acpi_pm_loaded(struct device *d)
{
    drive((struct acpi_pm *)d);
    arm((struct acpi_pm *)d);
}

static const struct device_ops acpi_pm_ops = {
    .name = "acpi-pm",
    .state_version = 1,
    .max_size = 4,
    .reset = acpi_pm_reset,
    .read = acpi_pm_read,
    .write = acpi_pm_write,
    .tick = acpi_pm_tick,
    .raises = acpi_pm_raises,
    .loaded = acpi_pm_loaded,
};

void acpi_pm_init(struct acpi_pm *a, struct pci_bus *p, struct bus *b, struct clock *c)
{
    memset(a, 0, sizeof *a);
    a->dev = (struct device){.ops = &acpi_pm_ops, .clock = c, .state = &a->st, .state_size = sizeof a->st};
    a->bus = b;
    a->timer = clock_timer_add(c, &a->dev, 0);
    pci_add(p, &a->fn, PCI_DEVFN(1, 3), 0x8086, 0x7113, 0x068000, 3);
    pci_allow(&a->fn, PCI_COMMAND, 2, 0x0001, 0);
    pci_allow(&a->fn, PCI_STATUS, 2, 0, 0x0280);
    pci_allow(&a->fn, 0x2C, 4, 0, 0x11001AF4);
    pci_allow(&a->fn, PCI_PIN, 1, 0, 1);
    pci_allow(&a->fn, 0x40, 4, 0xFFC0, 1);
    pci_allow(&a->fn, 0x80, 1, 1, 0);
    a->fn.owner = &a->dev;
    a->fn.written = map_block;
    bus_map_port(b, &a->dev, REGION_GPE, ACPI_PM_GPE, 4);
    bus_map_port(b, &a->dev, REGION_APM, 0xB2, 2);
}

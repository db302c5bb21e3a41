// Power management of PIIX4 (PCI function 00:01.3): PM1 block, PM timer, general-purpose events, ports B2h
// and B3h.
#ifndef DEVICES_ACPI_PM_H
#define DEVICES_ACPI_PM_H

#include "devices/bus.h"
#include "devices/pci.h"

#define ACPI_PM_BASE     0x600 // where firmware puts the block
#define ACPI_PM_GPE      0xAFE0
#define ACPI_PM_TIMER_HZ 3579545ull
#define ACPI_PM_SCI      9
#define ACPI_PM_ENABLE   0xF1 // written to port B2h
#define ACPI_PM_DISABLE  0xF0

STATE_BEGIN
struct acpi_pm_state {
    u64 timer_seen; // PM timer ticks up to which TMR_STS has been computed
    u16 pm1_status, pm1_enable, pm1_control;
    u16 gpe_status, gpe_enable;
    u8 apmc, apms;
    u8 unused[4];
};
STATE_END

struct acpi_pm {
    struct device dev;
    struct acpi_pm_state st;
    struct pci_function fn;
    struct bus *bus;
    struct irq_line sci;
    unsigned timer;
    u16 mapped_at;               // derived: where the PM block is; 0: nowhere
    void (*power_off)(void *to); // SLP_EN with the type of S5
    void *to;
};

void acpi_pm_init(struct acpi_pm *a, struct pci_bus *p, struct bus *b, struct clock *c);
void acpi_pm_firmware(struct acpi_pm *a); // maps the PM block at ACPI_PM_BASE
void acpi_pm_power_button(struct acpi_pm *a);

#endif

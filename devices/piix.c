// clang-format off
// The board's own PCI functions: i440FX host bridge (00:00.0) and PIIX3 ISA bridge (00:01.0); the power management
// function is in acpi_pm.c. Sources: Intel 82441FX data sheet (290549), PIIX3 data sheet (290550).
//
//   host  50-51 PMC control, 59-5F PAM, 60-67 DRAM boundaries, 72 SMRAM: stored
//   ISA   4C recovery, 4E X-bus select: stored; 60-63 PIRQ routing: 7 off, 3:0 ISA interrupt; 82 deterministic latency
//
// Not here: what the PAM and SMRAM registers do (C0000h-FFFFFh is plain RAM and always writable), memory controller
// settings, the IDE function of PIIX3 (absent).
// clang-format on
#include "devices/pci.h"

#include <string.h>

static void routing_written(struct pci_function *f, unsigned reg, unsigned size)
{
    if (reg <= 0x63 && reg + size > 0x60) pci_set_irq(f, false); // routes anew; this function has no pin
}

void piix_init(struct piix *x, struct pci_bus *p, struct clock *c)
{
    (void)c;
    pci_add(p, &x->host, PCI_DEVFN(0, 0), 0x8086, 0x1237, 0x060000, 2);
    pci_allow(&x->host, PCI_COMMAND, 2, 0x0100, 0x0006); // memory and bus master are always on
    pci_allow(&x->host, 0x2C, 4, 0, 0x11001AF4);         // subsystem as QEMU's
    pci_allow(&x->host, 0x50, 2, 0xFFFF, 0);
    for (unsigned r = 0x59; r < 0x68; r++) pci_allow(&x->host, r, 1, 0xFF, 0);
    pci_allow(&x->host, 0x72, 1, 0x7F, 0x02);

    pci_add(p, &x->isa, PCI_DEVFN(1, 0), 0x8086, 0x7000, 0x060100, 0);
    pci_allow(&x->isa, PCI_COMMAND, 2, 0x0108, 0x0007);
    pci_allow(&x->isa, PCI_STATUS, 2, 0, 0x0200);
    pci_allow(&x->isa, 0x0E, 1, 0, 0x80); // more than one function
    pci_allow(&x->isa, 0x2C, 4, 0, 0x11001AF4);
    pci_allow(&x->isa, 0x4C, 1, 0xFF, 0x4D);
    pci_allow(&x->isa, 0x4E, 2, 0xFFFF, 0x0003);
    for (unsigned r = 0x60; r < 0x64; r++) pci_allow(&x->isa, r, 1, 0x8F, 0x80);
    pci_allow(&x->isa, 0x69, 1, 0xFE, 0x02); // top of memory
    pci_allow(&x->isa, 0x82, 1, 0xFF, 0);
    x->isa.written = routing_written;
    p->piix_config = x->isa.config;
}

void piix_firmware(struct piix *x)
{
    static const u8 irq[4] = {10, 10, 11, 11};
    for (unsigned i = 0; i < 4; i++) pci_config_write(&x->isa, 0x60 + i, 1, irq[i]);
}

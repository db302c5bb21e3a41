// PCI bus 0 of an i440FX machine: configuration mechanism 1, functions with base address registers, INTx
// routing.
#ifndef DEVICES_PCI_H
#define DEVICES_PCI_H

#include "devices/bus.h"

#define PCI_DEVFN(dev, fn) ((dev) << 3 | (fn))
#define PCI_BARS           6

enum { PCI_COMMAND = 4, PCI_STATUS = 6, PCI_BAR0 = 0x10, PCI_LINE = 0x3C, PCI_PIN = 0x3D };

struct pci_bar {
    u32 size; // a power of two; 0: not there
    bool io;
    unsigned region; // under which the range is mapped on the bus
    bool mapped;     // derived
};

// A function. Its configuration space is its state; the device behind it has its own.
struct pci_function {
    struct device dev; // state: from config to writable
    u8 config[256];
    u8 intx; // level of the INTx pin
    u8 unused[7];
    u8 writable[256]; // bits that software can write
    u8 clears[256];   // bits that writing 1 clears
    u8 initial[256];  // after reset
    struct pci_bar bar[PCI_BARS];
    struct device *owner; // whose ranges the BARs are
    struct pci_bus *bus;
    void (*written)(struct pci_function *f, unsigned reg, unsigned size); // after a write; NULL: none
    unsigned devfn;
};

STATE_BEGIN
struct pci_state {
    u32 address;      // CF8h
    u8 reset_control; // CF9h
    u8 unused[3];
};
STATE_END

struct pci_bus {
    struct device dev;
    struct pci_state st;
    struct bus *bus;
    struct pci_function *fn[256];
    // where PIRQA-D lead by way of PIIX3's routing registers; the board ORs ISA's own
    struct irq_line isa_irq[16];
    u8 *piix_config;              // PIIX3's configuration space: routing registers at 60h-63h
    void (*reset_line)(void *to); // CF9h: a reset of the machine
    void *reset_to;
};

void pci_init(struct pci_bus *p, struct bus *b, struct clock *c);
// `class` is class, subclass and interface as in registers 0Bh-09h. Fills the header; BARs come with
// pci_add_bar.
void pci_add(struct pci_bus *p, struct pci_function *f, unsigned devfn, u16 vendor, u16 device, u32 class,
             u8 revision);
void pci_add_bar(struct pci_function *f, unsigned n, u32 size, bool io, unsigned region);
void pci_allow(struct pci_function *f, unsigned reg, unsigned size, u32 bits, u32 initial); // writable bits
static inline u16 pci_get16(const struct pci_function *f, unsigned reg)
{
    return (u16)(f->config[reg] | f->config[reg + 1] << 8);
}
static inline u32 pci_get32(const struct pci_function *f, unsigned reg)
{
    return pci_get16(f, reg) | (u32)pci_get16(f, reg + 2) << 16;
}
// The rank on the bus (bus_move_port) of a function's range n: a BAR, or PCI_BARS for one of the function's
// own kind.
static inline u16 pci_rank(const struct pci_function *f, unsigned n) { return (u16)(f->devfn * 8 + n + 1); }
void pci_set_irq(struct pci_function *f, bool level); // the function's INTx pin (register 3Dh)
void pci_config_write(struct pci_function *f, unsigned reg, unsigned size, u32 value);
u32 pci_config_read(const struct pci_function *f, unsigned reg, unsigned size);

// The board's own functions.
struct piix { // 00:00.0 host bridge, 00:01.0 ISA bridge
    struct pci_function host, isa;
};
void piix_init(struct piix *x, struct pci_bus *p, struct clock *c);
void piix_firmware(struct piix *x); // what firmware programs: PIRQA-D to IRQ 10, 10, 11, 11

#endif

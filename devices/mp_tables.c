// Source: MultiProcessor Specification 1.4 (242016), chapter 4. In the BIOS area (4, case c): an operating
// system scans F0000h to FFFFFh.
//
// Default: virtual wire mode (IMCRP clear), two buses (PCI 0, ISA 1), each ISA interrupt on the I/O APIC's
// input of the same number but for the 8254 on input 2, LINT0 = ExtINT, LINT1 = NMI.
//
// Not here: extended entries (address maps).
#include "devices/mp_tables.h"
#include "devices/table_bytes.h"

#include <string.h>

enum { PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT };
enum { INT, NMI, SMI, EXTINT };
enum { PCI_BUS, ISA_BUS, IOAPIC_ID = 0, ALL_APICS = 0xFF };
enum { CONFORMS = 0, ACTIVE_HIGH = 1 };
#define PCI_INTERRUPTS \
    0x0E20u // 5, 9, 10, 11: level triggered, as the interrupt source overrides of the MADT have it

static void text(struct table *t, const char *s, u32 n)
{
    for (u32 i = 0; i < n; i++) put8(t, (u8)s[i]);
}

static u8 checksum(const u8 *bytes, u32 n)
{
    u8 sum = 0;
    while (n--) sum = (u8)(sum + *bytes++);
    return (u8)-sum;
}

static unsigned processors(struct table *t, struct machine *m)
{
    unsigned n = 0;
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (m->cpu[i]->apic_id >= ALL_APICS) continue; // these tables know 8 bits of ID
        u32 id[4];
        cpuid_query(m->cpu[i], 1, 0, id);
        put8(t, PROCESSOR);
        put8(t, (u8)m->cpu[i]->apic_id);
        put8(t, (u8)lapic_mmio_read(&m->lapic[i], 0x30, 4)); // version
        put8(t, i == 0 ? 3 : 1);                             // enabled; the bootstrap processor
        put32(t, id[0]);
        put32(t, id[3]);
        put32(t, 0);
        put32(t, 0);
        n++;
    }
    return n;
}

static void interrupt(struct table *t, u8 entry, u8 type, u16 flags, u8 bus, u8 irq, u8 to, u8 input)
{
    put8(t, entry);
    put8(t, type);
    put16(t, flags);
    put8(t, bus);
    put8(t, irq);
    put8(t, to);
    put8(t, input);
}

static u32 config_read(struct machine *m, unsigned devfn, unsigned reg)
{
    bus_port_write(&m->bus, 0xCF8, 4, 0x80000000u | devfn << 8 | reg);
    return (u32)bus_port_read(&m->bus, 0xCFC, 4);
}

// Pins of PCI functions, each where its interrupt-line register says.
static unsigned pci_interrupts(struct table *t, struct machine *m)
{
    u8 seen[32] = {0}; // pins of each device
    unsigned n = 0;
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        if ((u16)config_read(m, devfn, 0) == 0xFFFF) continue;
        u32 r = config_read(m, devfn, 0x3C);
        unsigned line = r & 0xFF, pin = r >> 8 & 0xFF;
        if (pin < 1 || pin > 4 || line >= IOAPIC_PINS || seen[devfn >> 3] & 1 << pin) continue;
        seen[devfn >> 3] |= (u8)(1 << pin);
        interrupt(t, IO_INTERRUPT, INT, ACTIVE_HIGH, PCI_BUS, (u8)((devfn >> 3) << 2 | (pin - 1)), IOAPIC_ID,
                  (u8)line);
        n++;
    }
    bus_port_write(&m->bus, 0xCF8, 4, 0);
    return n;
}

void mp_tables_build(struct machine *m)
{
    paddr at = MP_TABLES + 16;
    struct table t = {.n = 0};
    text(&t, "PCMP", 4);
    put16(&t, 0); // length
    put8(&t, 4);  // MP 1.4
    put8(&t, 0);  // checksum
    text(&t, "MTRYSH  MATRYOSHKA  ", 20);
    put32(&t, 0); // OEM table
    put16(&t, 0);
    put16(&t, 0); // entries
    put32(&t, CPU_APIC_BASE);
    put16(&t, 0); // extended table
    put8(&t, 0);
    put8(&t, 0);

    unsigned entries = processors(&t, m) + 2 + 1 + 2;
    put8(&t, BUS), put8(&t, PCI_BUS), text(&t, "PCI   ", 6);
    put8(&t, BUS), put8(&t, ISA_BUS), text(&t, "ISA   ", 6);
    put8(&t, IOAPIC), put8(&t, IOAPIC_ID), put8(&t, 0x20), put8(&t, 1), put32(&t, (u32)IOAPIC_BASE);
    entries += pci_interrupts(&t, m);
    for (u8 i = 0; i < 16; i++) {
        if (i == 2 || PCI_INTERRUPTS >> i & 1) continue; // input 2 is the 8254's
        interrupt(&t, IO_INTERRUPT, INT, CONFORMS, ISA_BUS, i, IOAPIC_ID, i == 0 ? 2 : i);
        entries++;
    }
    interrupt(&t, LOCAL_INTERRUPT, EXTINT, CONFORMS, ISA_BUS, 0, 0, 0);
    interrupt(&t, LOCAL_INTERRUPT, NMI, CONFORMS, ISA_BUS, 0, ALL_APICS, 1);
    memcpy(t.bytes + 4, &t.n, 2);
    memcpy(t.bytes + 34, &entries, 2);
    t.bytes[7] = checksum(t.bytes, t.n);
    phys_write(&m->phys, 0, at, t.bytes, t.n);

    struct table f = {.n = 0};
    text(&f, "_MP_", 4);
    put32(&f, (u32)at);
    put8(&f, 1); // length in paragraphs
    put8(&f, 4); // MP 1.4
    put8(&f, 0);
    text(&f, "\0\0\0\0\0", 5); // a configuration table is there; virtual wire mode
    f.bytes[10] = checksum(f.bytes, f.n);
    phys_write(&m->phys, 0, MP_TABLES, f.bytes, f.n);
}

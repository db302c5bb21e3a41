// RSDP, RSDT, XSDT, FADT, FACS, MADT, HPET, SPCR, DBG2 and DSDT. Source: ACPI specification 6.4, chapter 5;
// offsets and field names in comments are its own. SPCR and DBG2: Microsoft's "Serial Port Console
// Redirection Table" (revision 2) and "Debug Port Table 2". The DSDT is devices/dsdt.asl.
//
// Not here: SRAT, MCFG (the host bridge has no memory-mapped configuration space), processors in the name
// space.
#include "devices/acpi_tables.h"
#include "devices/acpi_pm.h"
#include "devices/hpet.h"
#include "devices/ioapic.h"
#include "devices/table_bytes.h"

#include <string.h>

#include "dsdt_aml.h"

#define HEADER 36

static void zeros(struct table *t, unsigned n)
{
    while (n--) put8(t, 0);
}

enum { GAS_MEMORY, GAS_IO };
static void gas(struct table *t, u8 space, u8 bits, u8 access, u64 address)
{
    put8(t, space);
    put8(t, bits);
    put8(t, 0);
    put8(t, access);
    put64(t, address);
}

static u8 checksum(const u8 *bytes, u32 n)
{
    u8 sum = 0;
    while (n--) sum = (u8)(sum + *bytes++);
    return (u8)-sum;
}

static void begin(struct table *t, const char *signature, u8 revision)
{
    memset(t, 0, sizeof *t);
    memcpy(t->bytes, signature, 4);
    t->bytes[8] = revision;
    memcpy(t->bytes + 10, "MTRYSHMATRYOSH", 14); // OEM ID and OEM table ID
    t->bytes[24] = 1;                            // OEM revision
    memcpy(t->bytes + 28, "MTRY", 4);            // creator
    t->bytes[32] = 1;
    t->n = HEADER;
}

struct place { // where the next table goes
    struct phys *phys;
    paddr at;
};

static paddr place_bytes(struct place *p, const u8 *bytes, u32 n)
{
    paddr at = p->at;
    phys_write(p->phys, 0, at, bytes, n);
    p->at = (at + n + 63) & ~63ull;
    return at;
}

static paddr place_table(struct place *p, struct table *t)
{
    memcpy(t->bytes + 4, &t->n, 4);
    t->bytes[9] = 0;
    t->bytes[9] = checksum(t->bytes, t->n);
    return place_bytes(p, t->bytes, t->n);
}

static paddr facs(struct phys *p, paddr at)
{
    struct table t = {.n = 0};
    put(&t, 0x53434146, 4); // "FACS": no checksum, 64 bytes
    put32(&t, 64);
    zeros(&t, 24);
    put8(&t, 1); // version
    zeros(&t, 31);
    phys_write(p, 0, at, t.bytes, 64);
    return at;
}

static paddr fadt(struct place *p, paddr facs_at, paddr dsdt_at)
{
    enum { WBINVD = 1 << 0, PROC_C1 = 1 << 2, SLP_BUTTON = 1 << 5, RTC_S4 = 1 << 7, RESET_REG_SUP = 1 << 10 };
    enum { LEGACY_DEVICES = 1, HAS_8042 = 2, NO_VGA = 4 };
    struct table t;
    begin(&t, "FACP", 3);
    put32(&t, (u32)facs_at);
    put32(&t, (u32)dsdt_at);
    put8(&t, 0); // INT_MODEL of ACPI 1.0: reserved
    put8(&t, 1); // Preferred_PM_Profile: desktop
    put16(&t, ACPI_PM_SCI);
    put32(&t, 0xB2); // SMI_CMD
    put8(&t, ACPI_PM_ENABLE);
    put8(&t, ACPI_PM_DISABLE);
    put8(&t, 0); // S4BIOS_REQ
    put8(&t, 0); // PSTATE_CNT
    put32(&t, ACPI_PM_BASE);
    put32(&t, 0); // PM1b_EVT_BLK
    put32(&t, ACPI_PM_BASE + 4);
    put32(&t, 0); // PM1b_CNT_BLK
    put32(&t, 0); // PM2_CNT_BLK
    put32(&t, ACPI_PM_BASE + 8);
    put32(&t, ACPI_PM_GPE);
    put32(&t, 0);      // GPE1_BLK
    put8(&t, 4);       // PM1_EVT_LEN
    put8(&t, 2);       // PM1_CNT_LEN
    put8(&t, 0);       // PM2_CNT_LEN
    put8(&t, 4);       // PM_TMR_LEN
    put8(&t, 4);       // GPE0_BLK_LEN
    put8(&t, 0);       // GPE1_BLK_LEN
    put8(&t, 0);       // GPE1_BASE
    put8(&t, 0);       // CST_CNT
    put16(&t, 0x0FFF); // P_LVL2_LAT: above 100, no C2
    put16(&t, 0x0FFF); // P_LVL3_LAT: above 1000, no C3
    zeros(&t, 4);      // FLUSH_SIZE, FLUSH_STRIDE: WBINVD works
    zeros(&t, 4);      // DUTY_OFFSET, DUTY_WIDTH, DAY_ALRM, MON_ALRM
    put8(&t, 0x32);    // CENTURY
    put16(&t, LEGACY_DEVICES | HAS_8042 | NO_VGA);
    put8(&t, 0);
    put32(&t, WBINVD | PROC_C1 | SLP_BUTTON | RTC_S4 | RESET_REG_SUP); // the PM timer has 24 bits
    gas(&t, GAS_IO, 8, 1, 0xCF9);                                      // RESET_REG
    put8(&t, 0x0F); // RESET_VALUE: as QEMU's tables have it; bits 1 and 2 matter
    zeros(&t, 3);
    put64(&t, 0); // X_FIRMWARE_CTRL: the 32-bit field holds it
    put64(&t, dsdt_at);
    gas(&t, GAS_IO, 32, 2, ACPI_PM_BASE);
    gas(&t, 0, 0, 0, 0);
    gas(&t, GAS_IO, 16, 2, ACPI_PM_BASE + 4);
    gas(&t, 0, 0, 0, 0);
    gas(&t, 0, 0, 0, 0);
    gas(&t, GAS_IO, 32, 3, ACPI_PM_BASE + 8);
    gas(&t, GAS_IO, 32, 1, ACPI_PM_GPE);
    gas(&t, 0, 0, 0, 0);
    if (t.n != 244) panic("acpi: FADT of %u bytes", t.n);
    return place_table(p, &t);
}

static paddr madt(struct place *p, const u32 *apic_id, unsigned cpus)
{
    static const u8 level_irq[] = {5, 9, 10, 11}; // PCI interrupts and the SCI: level triggered, active high
    struct table t;
    begin(&t, "APIC", 3);
    put32(&t, CPU_APIC_BASE);
    put32(&t, 1); // PCAT_COMPAT: there is an 8259 pair
    bool wide = false;
    for (unsigned i = 0; i < cpus; i++) {
        if (apic_id[i] < 0xFF) {
            put16(&t, 8 << 8 | 0); // processor local APIC
            put8(&t, (u8)i);
            put8(&t, (u8)apic_id[i]);
            put32(&t, 1); // enabled
        } else {
            put16(&t, 16 << 8 | 9); // processor local x2APIC: for IDs that the other has no room for
            put16(&t, 0);
            put32(&t, apic_id[i]);
            put32(&t, 1);
            put32(&t, i);
            wide = true;
        }
    }
    put16(&t, 12 << 8 | 1); // I/O APIC
    put16(&t, 0);
    put32(&t, (u32)IOAPIC_BASE);
    put32(&t, 0);
    put16(&t, 10 << 8 | 2); // interrupt source override: the 8254 is on input 2
    put16(&t, 0);
    put32(&t, 2);
    put16(&t, 0);
    for (unsigned i = 0; i < ARRAY_LEN(level_irq); i++) {
        put16(&t, 10 << 8 | 2);
        put8(&t, 0);
        put8(&t, level_irq[i]);
        put32(&t, level_irq[i]);
        put16(&t, 0x0D); // active high, level
    }
    put16(&t, 6 << 8 | 4); // local APIC NMI: LINT1 of all processors
    put8(&t, 0xFF);
    put16(&t, 0);
    put8(&t, 1);
    if (wide) {
        put16(&t, 12 << 8 | 10); // the same for x2APICs
        put16(&t, 0);
        put32(&t, 0xFFFFFFFF);
        put8(&t, 1);
        zeros(&t, 3);
    }
    return place_table(p, &t);
}

static paddr hpet_table(struct place *p)
{
    struct table t;
    begin(&t, "HPET", 1);
    put32(&t, 0x8086A201); // as the capabilities register has it
    gas(&t, GAS_MEMORY, 0, 0, HPET_BASE);
    put8(&t, 0);  // HPET number
    put16(&t, 0); // minimum tick
    put8(&t, 0);  // page protection
    return place_table(p, &t);
}

#define COM1 0x3F8

// Where a system that asks nobody finds a console: COM1.
static paddr spcr(struct place *p)
{
    enum { FULL_16550 = 0, DUAL_8259 = 1, IO_APIC = 2, BAUD_115200 = 7, ANSI = 3 };
    struct table t;
    begin(&t, "SPCR", 2);
    put8(&t, FULL_16550);
    zeros(&t, 3);
    gas(&t, GAS_IO, 8, 1, COM1);
    put8(&t, DUAL_8259 | IO_APIC);
    put8(&t, 4);  // IRQ
    put32(&t, 4); // global system interrupt
    put8(&t, BAUD_115200);
    put8(&t, 0); // no parity
    put8(&t, 1); // one stop bit
    put8(&t, 0); // no flow control
    put8(&t, ANSI);
    put8(&t, 0);
    put16(&t, 0xFFFF); // no PCI device
    put16(&t, 0xFFFF);
    zeros(&t, 3 + 4 + 1); // bus, device, function; flags; segment
    zeros(&t, 4);
    if (t.n != 80) panic("acpi: SPCR of %u bytes", t.n);
    return place_table(p, &t);
}

static paddr dbg2(struct place *p)
{
    static const char name[] = "\\_SB.PCI0.ISA.COM1"; // as the DSDT has it
    // clang-format off
    enum { SERIAL = 0x8000, FULL_16550 = 0, INFO = HEADER + 8, GAS_AT = 22, SIZE_AT = GAS_AT + 12, NAME_AT = SIZE_AT + 4 };
    // clang-format on
    struct table t;
    begin(&t, "DBG2", 0);
    put32(&t, INFO);
    put32(&t, 1); // one device
    put8(&t, 0);  // its revision
    put16(&t, NAME_AT + sizeof name);
    put8(&t, 1); // one register block
    put16(&t, sizeof name);
    put16(&t, NAME_AT);
    put16(&t, 0); // OEM data
    put16(&t, 0);
    put16(&t, SERIAL);
    put16(&t, FULL_16550);
    put16(&t, 0);
    put16(&t, GAS_AT);
    put16(&t, SIZE_AT);
    gas(&t, GAS_IO, 8, 1, COM1);
    put32(&t, 8); // ports
    for (unsigned i = 0; i < sizeof name; i++) put8(&t, (u8)name[i]);
    return place_table(p, &t);
}

static void rsdp(u8 out[36], paddr rsdt, paddr xsdt)
{
    struct table t = {.n = 0};
    memcpy(t.bytes, "RSD PTR \0MTRYSH\2", 16); // signature, checksum, OEM ID, revision
    t.n = 16;
    put32(&t, (u32)rsdt);
    put32(&t, 36);
    put64(&t, xsdt);
    zeros(&t, 4); // extended checksum, reserved
    t.bytes[8] = checksum(t.bytes, 20);
    t.bytes[32] = checksum(t.bytes, 36);
    memcpy(out, t.bytes, 36);
}

static paddr tables_at(const struct phys *p)
{
    return (p->low_size & PAGE_MASK) - ACPI_NVS_SIZE - ACPI_TABLES_SIZE;
}

struct acpi_layout acpi_build(struct phys *phys, const u32 *apic_id, unsigned cpus, bool hpet)
{
    struct acpi_layout l = {.tables = tables_at(phys), .nvs = tables_at(phys) + ACPI_TABLES_SIZE};
    struct place p = {phys, l.tables + 64}; // the RSDP comes first
    paddr dsdt = place_bytes(&p, dsdt_aml, sizeof dsdt_aml);
    paddr listed[] = {fadt(&p, facs(phys, l.nvs), dsdt), madt(&p, apic_id, cpus), spcr(&p), dbg2(&p),
                      hpet ? hpet_table(&p) : 0};
    unsigned n = ARRAY_LEN(listed) - !hpet;

    struct table t;
    begin(&t, "RSDT", 1);
    for (unsigned i = 0; i < n; i++) put32(&t, (u32)listed[i]);
    paddr rsdt = place_table(&p, &t);
    begin(&t, "XSDT", 1);
    for (unsigned i = 0; i < n; i++) put64(&t, listed[i]);
    paddr xsdt = place_table(&p, &t);
    if (p.at > l.nvs) panic("acpi: tables of more than %u bytes", ACPI_TABLES_SIZE);

    u8 bytes[36];
    rsdp(bytes, rsdt, xsdt);
    l.rsdp = l.tables;
    phys_write(phys, 0, l.rsdp, bytes, sizeof bytes);
    phys_write(phys, 0, ACPI_RSDP_BIOS, bytes, sizeof bytes);
    return l;
}

unsigned acpi_e820(const struct phys *p, bool with_tables, struct e820_entry e[E820_MAX])
{
    paddr tables = tables_at(p), nvs = tables + ACPI_TABLES_SIZE;
    unsigned n = 0;
    e[n++] = (struct e820_entry){0, 0x9FC00, E820_RAM};
    e[n++] = (struct e820_entry){0x9FC00, 0x400, E820_RESERVED};   // extended BIOS data area
    e[n++] = (struct e820_entry){0xF0000, 0x10000, E820_RESERVED}; // BIOS area
    e[n++] = (struct e820_entry){0x100000, (with_tables ? tables : p->low_size) - 0x100000, E820_RAM};
    if (with_tables) {
        e[n++] = (struct e820_entry){tables, ACPI_TABLES_SIZE, E820_ACPI};
        e[n++] = (struct e820_entry){nvs, ACPI_NVS_SIZE, E820_NVS};
    }
    if (p->ram_size > p->low_size)
        e[n++] = (struct e820_entry){PHYS_HOLE_END, p->ram_size - p->low_size, E820_RAM};
    return n;
}

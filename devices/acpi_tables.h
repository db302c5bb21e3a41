// The ACPI tables of the board, written into guest memory as firmware would, and the memory map around them.
#ifndef DEVICES_ACPI_TABLES_H
#define DEVICES_ACPI_TABLES_H

#include "mmu/phys.h"

#define ACPI_TABLES_SIZE 0x10000 // below the top of low RAM: tables, typed ACPI data
#define ACPI_NVS_SIZE    0x1000  // and above them the FACS, typed ACPI NVS
#define ACPI_RSDP_BIOS   0xF0000 // a copy of the RSDP where a scan of the BIOS area finds it

enum { E820_RAM = 1, E820_RESERVED, E820_ACPI, E820_NVS };
struct e820_entry {
    u64 base, size;
    u32 type;
} __attribute__((packed));
#define E820_MAX 16

struct acpi_layout {
    paddr rsdp;   // the RSDP beside the tables
    paddr tables; // ACPI_TABLES_SIZE bytes
    paddr nvs;    // ACPI_NVS_SIZE bytes
};

// apic_id: of each processor.
struct acpi_layout acpi_build(struct phys *p, const u32 *apic_id, unsigned cpus, bool hpet);
// The memory map of a machine with these tables, or without. Returns the number of entries.
unsigned acpi_e820(const struct phys *p, bool tables, struct e820_entry e[E820_MAX]);

#endif

// Intel's MultiProcessor tables: what an operating system finds processors and interrupts by that does not
// read ACPI's.
#ifndef DEVICES_MP_TABLES_H
#define DEVICES_MP_TABLES_H

#include "devices/machine.h"

#define MP_TABLES 0xF0040 // the floating pointer structure; the configuration table follows

// Writes both. Processors' APIC IDs are 0 to cpus_n - 1; interrupts of PCI functions come from their
// configuration registers, so those must be set up.
void mp_tables_build(struct machine *m);

#endif

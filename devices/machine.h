// clang-format off
// The machine: processors and the board around them, wired. What the frontend, the tests and other programs create.
//
//   machine_init    gives memory, wires the board, makes the processors
//   machine_reset   power-up state, and what firmware leaves behind (ACPI tables, routing, virtual wire); the loader
//                   then puts a program into memory and sets processor 0
//   machine_run     runs until a budget is used, something asks for an end, or nothing can happen any more
// clang-format on
#ifndef DEVICES_MACHINE_H
#define DEVICES_MACHINE_H

#include "cpu/system/cpuid.h"
#include "cpu/state/vcpu.h"
#include "devices/acpi_pm.h"
#include "devices/acpi_tables.h"
#include "devices/cmos.h"
#include "devices/debug_ports.h"
#include "devices/device_table.h"
#include "devices/dma.h"
#include "devices/fw_cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/pci.h"
#include "devices/pic.h"
#include "devices/pit.h"
#include "devices/port92.h"
#include "devices/ferr.h"
#include "devices/uart.h"
#include "mmu/phys.h"

#define MACHINE_CPUS_MAX    64
#define MACHINE_SERIAL      2
#define MACHINE_DEVICES_MAX 16           // that the user adds
#define MACHINE_RAM_MIN     (2ull << 20) // 1 MiB of a PC, and room above it for the ACPI tables

struct machine_config {
    u64 ram_size;
    unsigned cpus;
    struct cpu_features features;
    s64 rtc_start; // seconds since 1970
    struct chardev serial[MACHINE_SERIAL];
    bool acpi_off; // neither tables nor the power management function
    bool hpet_off;
    // what is added, from the table; device_config_ports holds of them
    struct device_config device[MACHINE_DEVICES_MAX];
    unsigned devices;
};

enum machine_end {
    MACHINE_RUN,       // nothing asked for an end: the budget is used
    MACHINE_POWER_OFF, // ACPI soft-off
    MACHINE_RESET,     // a reset line
    MACHINE_EXIT,      // isa-debug-exit, with a status
    MACHINE_SHUTDOWN,  // triple fault or VMX abort; the processor's state is as before it
    MACHINE_STOPPED,   // machine_ask_stop
    MACHINE_IDLE, // all processors halted, and no deadline or input can wake them (machine_asleep says why)
};

struct machine_request {
    enum machine_end what;
    u32 status;      // MACHINE_EXIT
    unsigned cpu;    // MACHINE_SHUTDOWN
    const char *why; // who asked
};

STATE_BEGIN
struct machine_turns { // of the processors: devices/machine_run.c
    u64 target;        // time to which the one whose turn it is may run
    u64 asleep;        // bit n: processor n is halted, and nothing has reached it since
    u32 cpu;           // whose turn it is, or was
    bool going;        // it is under way
    u8 pad[3];
};
STATE_END
#define MACHINE_TURNS_VERSION 1

struct machine_cpu { // whose local APIC it is
    struct machine *m;
    unsigned index;
};

// clang-format off
enum machine_irq_source { // all but the last count as ISA interrupts, the last as inputs of the I/O APIC
    IRQ_FROM_ISA, IRQ_FROM_PCI, IRQ_FROM_TEST, IRQ_FROM_HPET_LEGACY, IRQ_FROM_HPET, IRQ_SOURCES
};
// clang-format on

struct machine {
    struct machine_config config;
    struct phys phys;
    struct bus bus;
    struct clock clock;
    struct device *devices; // in wiring order
    struct device_host host;

    struct vcpu *cpu[MACHINE_CPUS_MAX];
    struct machine_cpu cpu_side[MACHINE_CPUS_MAX];
    unsigned cpus_n;
    struct machine_turns turns;

    struct apic_bus apics;
    struct lapic lapic[MACHINE_CPUS_MAX];
    struct ioapic ioapic;
    struct pic pic;
    struct pit pit;
    struct cmos cmos;
    struct hpet hpet;
    struct uart uart[MACHINE_SERIAL];
    struct i8042 i8042;
    struct port92 port92;
    struct ferr ferr;
    struct dma dma;
    struct pci_bus pci;
    struct piix piix;
    struct acpi_pm pm;
    struct fw_cfg fw_cfg;
    struct debug_console port_e9;
    void *added[MACHINE_DEVICES_MAX]; // of config.device, the struct of each

    struct device irq_lines;     // the wires between devices and controllers, as a device: they have a state
    u32 irq_levels[IRQ_SOURCES]; // a bit an interrupt; the controllers' inputs are the OR
    struct e820_entry e820[E820_MAX];
    unsigned e820_n;
    struct acpi_layout acpi;

    struct machine_request request;
    volatile sig_atomic_t stop_asked;
    // Asked before idle time is skipped: how many of these ticks may pass (a frontend may wait in host time,
    // and return early when input came). NULL: all.
    u64 (*idle)(void *opaque, u64 ticks);
    void *idle_opaque;
    u32 input_open; // bit n: input may still come to serial line n, and `idle` waits for it
};

// False, and *why is a line for the user, if the host cannot give what is asked for.
bool machine_init(struct machine *m, const struct machine_config *c, const char **why);
void machine_free(struct machine *m);
void machine_reset(struct machine *m);
// Runs until the processors have used `units` more, all taken together, or an end. The request stays set
// until machine_reset.
enum machine_end machine_run(struct machine *m, u64 units);
// From outside, also in a signal handler of the host: machine_run returns MACHINE_STOPPED soon, at the
// boundary of an instruction (or of an iteration of REP), and can be called again. Nothing that the guest
// sees comes of it.
void machine_ask_stop(struct machine *m);
// phys_dirty_take, with the processors made to tell of their next stores.
u64 *machine_written(struct machine *m, enum phys_dirty_user user);
u64 machine_units(const struct machine *m);   // of all processors since the last reset
u64 machine_retired(const struct machine *m); // instructions, likewise
// Something for the processor has come that may end its sleep, or that it shall see soon.
void machine_signalled(struct machine *m, unsigned cpu);
// It executes a PAUSE, now.
void machine_paused(struct machine *m, unsigned cpu);
void machine_request_end(struct machine *m, enum machine_end what, u32 status, const char *why);

// What can still wake a machine whose processors are halted.
struct machine_wake {
    bool time, input;
};
struct machine_wake machine_wake(const struct machine *m);
// MACHINE_IDLE: why nothing does, in a few words
void machine_asleep(const struct machine *m, char *why, size_t n);

// Bytes arrive on a serial line now. Returns how many were taken.
u32 machine_serial_input(struct machine *m, unsigned port, const u8 *bytes, u32 n);
void machine_power_button(struct machine *m);

// After RAM and the state structs were restored: re-derives lines and deadlines.
void machine_loaded(struct machine *m);

#endif

// The command line: QEMU's names for what is shared with it.
//
// options.c walks the words; options_values.c understands the values; options_table.c holds what there is to
// say about each option, from which options_help.c prints --help, the manual page and the lists.
#ifndef FRONTEND_OPTIONS_H
#define FRONTEND_OPTIONS_H

#include <stdio.h>

#include "cpu/system/cpuid.h"
#include "devices/machine.h"
#include "frontend/symbols.h"
#include "frontend/trace_filter.h"

#define TRACE_FILES_MAX 4

// Exit statuses. A guest's own comes through isa-debug-exit as (value << 1) | 1: odd, so ours below 100 are
// even or listed.
enum exit_status {
    STATUS_POWER_OFF = 0,
    STATUS_USAGE = 2,        // an option that does not exist or cannot be
    STATUS_BAD_IMAGE = 4,    // a file that is missing, cut off, or no kernel
    STATUS_HOST = 6,         // the host refused (memory, a file to write)
    STATUS_TRIPLE_FAULT = 8, // shutdown with -no-reboot
    STATUS_LIMIT = 10,       // --stop-after reached
    STATUS_DEAD = 12,        // halted with nothing that could ever wake it
    STATUS_RESET = 14,       // the guest asked for a reset and -no-reboot was given
    STATUS_DIVERGED = 16,    // -replay: another run than the recorded one
    STATUS_BUG = 70,         // a bug in Matryoshka
};

#define MONITORS_MAX 4

enum serial_kind { SERIAL_NONE, SERIAL_STDIO, SERIAL_FILE };
struct device_line {     // where the bytes of an added device go
    u8 device, property; // in options.device
    enum serial_kind kind;
    const char *file;
    bool append;
};
// clang-format off
enum options_tell { // what is printed instead of a run
    TELL_NOTHING, TELL_HELP, TELL_VERSION, TELL_MANUAL, TELL_DEVICES, TELL_DEVICE, TELL_CPUS, TELL_MACHINES, TELL_ACCELERATORS,
    TELL_LOG_ITEMS, TELL_CHARDEVS, TELL_SERIALS, TELL_DISPLAYS,
};
// clang-format on
struct options {
    enum options_tell tell;
    const struct device_row *tell_of; // TELL_DEVICE
    const char *kernel, *initrd, *append;
    u64 memory; // bytes
    unsigned cpus;
    struct cpu_topology topology;
    struct cpu_features features;
    enum serial_kind serial[MACHINE_SERIAL];
    const char *serial_file[MACHINE_SERIAL];
    bool serial_append[MACHINE_SERIAL];
    enum tlb_mode tlb;
    bool no_reboot, no_shutdown, stats, state, loop_engine, acpi_off, hpet_off, usb;
    struct device_config device[MACHINE_DEVICES_MAX];
    unsigned devices;
    struct device_line line[MACHINE_DEVICES_MAX];
    unsigned lines;
    const char *pid_file;
    const char *gdb;                   // where a debugger connects; NULL: nowhere
    bool held;                         // stand still at the start
    const char *monitor[MONITORS_MAX]; // where people and programs give commands, as given
    unsigned monitors;
    u64 history; // bytes of the machine's past that a debugger or monitor keeps; 0: none
    bool history_given;
    u32 log_mask; // bits of enum log_item
    const char *log_file;
    enum { EXPLAIN_NOTHING, EXPLAIN_TEXT, EXPLAIN_JSON } explain; // --explain-entry
    const char *explain_file;                                     // NULL: where the log goes
    const char *symbols[SYMBOLS_FILES_MAX];                       // as given
    unsigned symbols_n;
    const char *trace[TRACE_FILES_MAX];
    unsigned traces;
    const char *report;
    u64 last_events; // to keep; 0: none
    struct trace_filter trace_filter;
    bool trace_filter_given;
    u64 stop_after; // instructions; UINT64_MAX: no limit
    u64 hash_every; // instructions; 0: never
    u64 drop_every; // drop all derived state about that often; 0: never
    s64 rtc_start;  // seconds since 1970
    u64 seed;
    const char *loadvm, *savevm, *record, *replay;
    bool embed;       // the images into the recording
    char text[16384]; // of values that had to be copied
    unsigned text_used;
};
// clang-format off
enum log_item { LOG_VMX = 1, LOG_FAULT = 2, LOG_INTERRUPT = 4, LOG_IO = 8, LOG_UNIMPLEMENTED = 16, LOG_MSR = 32, LOG_ALL = 63, LOG_WALK = 64 };
// clang-format on

// Fills *o. On an error returns false: one line is in `why`. Where o->tell is set, the rest is not to be
// used.
bool options_parse(struct options *o, int argc, char **argv, char *why, size_t why_size);
// Prints what o->tell asks for. False if it could not be written.
bool options_print(const struct options *o, FILE *out);
bool options_monitor_stdio(const struct options *o);
// The machine that they ask for, but for where its bytes go.
void options_configure(const struct options *o, struct machine_config *c);
// The candidate that `word` is a misspelling of, or NULL: one letter in three may be wrong, and words of two
// letters have none.
const char *options_nearest(const char *word, const char *const *candidates, unsigned n);

#endif

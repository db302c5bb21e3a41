// What there is to say about each option: data for the parser, --help, the manual page and the lists.
#ifndef FRONTEND_OPTIONS_TABLE_H
#define FRONTEND_OPTIONS_TABLE_H

#include "frontend/options.h"

// clang-format off
enum option_id {
    O_KERNEL, O_INITRD, O_APPEND, O_MEMORY, O_CPU, O_SMP, O_MACHINE, O_ACCEL, O_ENABLE_KVM, O_NO_ACPI, O_NO_HPET, O_USB, O_RTC, O_SEED, O_TLB,
    O_SERIAL, O_CHARDEV, O_DEBUGCON, O_DEVICE, O_DISPLAY, O_NOGRAPHIC, O_NODEFAULTS,
    O_NO_REBOOT, O_NO_SHUTDOWN, O_ACTION, O_STOP_AFTER, O_LOADVM, O_SAVEVM, O_RECORD, O_REPLAY, O_PIDFILE,
    O_GDB, O_GDB_SHORT, O_HELD, O_MONITOR, O_HISTORY,
    O_LOG, O_LOG_FILE, O_EXPLAIN, O_SYMBOLS, O_TRACE, O_TRACE_FILTER, O_REPORT, O_LAST_EVENTS, O_STATS, O_STATE, O_HASH_EVERY, O_ENGINE, O_DROP_EVERY, O_HELP, O_VERSION, O_MANUAL, O_GLOBAL,
};
enum option_group { GROUP_START, GROUP_MACHINE, GROUP_LINES, GROUP_END, GROUP_WATCH, GROUP_ENGINE, GROUP_HELP, GROUP_HIDDEN };
// clang-format on
extern const char *const option_groups[GROUP_HIDDEN];
struct option_row {
    const char *name;
    u8 id, group;
    const char *arg;  // NULL: takes no value; "[=...": may have one, in the same word
    const char *help; // NULL: another spelling of the row before
    bool ours;        // spelled with two dashes; the others are QEMU's
};
static inline bool option_value_optional(const struct option_row *r)
{
    return r->arg && r->arg[0] == '[' && r->arg[1] == '=';
}
extern const struct option_row option_rows[];
extern const unsigned option_rows_n;

// QEMU's options that are not there: refused with a reason, but for the values (or all, "*") that ask for
// nothing more than what is there anyway.
struct absent_row {
    const char *names; // one or more
    bool arg;
    const char *accept; // NULL: nothing
    const char *why;
};
extern const struct absent_row absent_rows[];
extern const unsigned absent_rows_n;

struct word_row {
    const char *name, *help;
};
// clang-format off
struct log_row { const char *name; u32 bits; const char *help; };
// clang-format on
extern const struct log_row log_rows[];
extern const unsigned log_rows_n;
extern const struct word_row serial_rows[], chardev_rows[], status_rows[], key_rows[];
extern const unsigned serial_rows_n, chardev_rows_n, status_rows_n, key_rows_n;

// A property of -machine, the values that can be had, and where it stores (in enum machine_property).
enum machine_property { MACHINE_NO_EFFECT, MACHINE_ACPI, MACHINE_HPET, MACHINE_USB };
struct machine_row {
    const char *name, *accept, *why;
    u8 property;
};
extern const struct machine_row machine_rows[];
extern const unsigned machine_rows_n;

#endif

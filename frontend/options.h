// The command line: QEMU's names for what is shared with it.
#ifndef FRONTEND_OPTIONS_H
#define FRONTEND_OPTIONS_H

#include <stdio.h>

#include "cpu/cpuid.h"

// Exit statuses. A guest's own comes through isa-debug-exit as (value << 1) | 1: odd, so ours below 100 are even or listed.
enum exit_status {
    EXIT_POWER_OFF = 0,
    EXIT_USAGE = 2,         // an option that does not exist or cannot be
    EXIT_BAD_IMAGE = 4,     // a file that is missing, cut off, or no kernel
    EXIT_HOST = 6,          // the host refused (memory, a file to write)
    EXIT_TRIPLE_FAULT = 8,  // shutdown with -no-reboot
    EXIT_LIMIT = 10,        // --stop-after reached
    EXIT_DEAD = 12,         // halted with nothing that could ever wake it
    EXIT_RESET = 14,        // the guest asked for a reset and -no-reboot was given
    EXIT_BUG = 70,          // a bug in Matryoshka
};

enum serial_kind { SERIAL_NONE, SERIAL_STDIO, SERIAL_FILE };
struct options {
    const char *kernel, *initrd, *append;
    u64 memory; // bytes
    unsigned cpus;
    struct cpu_features features;
    enum serial_kind serial[2];
    const char *serial_file[2];
    unsigned serials;
    bool no_reboot, stats, state, version, help, loop_engine, testdev;
    bool debug_exit;
    u16 debug_exit_port, debug_exit_size;
    const char *debugcon; // port E9h: "stdio" or NULL
    u32 log_mask;         // bits of enum log_item
    const char *log_file;
    u64 stop_after;       // instructions; UINT64_MAX: no limit
    u64 hash_every;       // instructions; 0: never
    u64 drop_every;       // drop all derived state about that often; 0: never
    s64 rtc_start;        // seconds since 1970
    u64 seed;
};
enum log_item { LOG_VMX = 1, LOG_FAULT = 2, LOG_INTERRUPT = 4, LOG_IO = 8, LOG_UNIMPLEMENTED = 16, LOG_MSR = 32 };

// Fills *o. On an error returns false: one line is in `why`.
bool options_parse(struct options *o, int argc, char **argv, char *why, size_t why_size);
void options_help(FILE *out);
void options_list_devices(FILE *out);
// The candidate nearest to `word` by edit distance, or NULL if none is near.
const char *options_nearest(const char *word, const char *const *candidates, unsigned n);

#endif

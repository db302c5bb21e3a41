#include "frontend/options_table.h"

const char *const option_groups[GROUP_HIDDEN] = {
    "What is started",    "The machine", "Lines to the outside", "How it ends", "Watching",
    "Testing the engine", "Help"};

// clang-format off
const struct option_row option_rows[] = {
    {"kernel", O_KERNEL, GROUP_START, "FILE", "Linux bzImage, multiboot 1 (ELF32, ELF64 or by its address fields), PVH or ELF64 image", false},
    {"initrd", O_INITRD, GROUP_START, "FILE", "initial RAM disk; for multiboot \"FILE WORDS,FILE2 WORDS\", one module each", false},
    {"append", O_APPEND, GROUP_START, "TEXT", "the kernel's command line", false},

    {"m", O_MEMORY, GROUP_MACHINE, "[size=]SIZE", "memory, 2M to 256G: a number of MiB, or with a suffix (b, k, M, G, T), as 1.5G; default 128M", false},
    {"cpu", O_CPU, GROUP_MACHINE, "MODEL[,+F][,-F]",
     "the processor: max with features added and taken away, phys-bits=32..52 (default 40); -cpu help lists models and features", false},
    {"smp", O_SMP, GROUP_MACHINE, "[cpus=]N", "processors, 64 at most; maxcpus=, sockets=, dies=, cores=, threads= give their topology (default: cores of one socket)", false},
    {"machine", O_MACHINE, GROUP_MACHINE, "[type=]pc[,...]", "the board: pc; acpi=off, hpet=off; -machine help lists what it takes", false},
    {"M", O_MACHINE, GROUP_MACHINE, "TYPE", NULL, false},
    {"accel", O_ACCEL, GROUP_MACHINE, "NAME", "tcg, which is taken for the engine here; of several options or names (kvm:tcg) one must be it", false},
    {"no-acpi", O_NO_ACPI, GROUP_MACHINE, NULL, "no ACPI: neither tables nor power management, so nothing that powers the machine off", false},
    {"no-hpet", O_NO_HPET, GROUP_MACHINE, NULL, "no HPET", false},
    {"usb", O_USB, GROUP_MACHINE, NULL, "a USB host controller (UHCI); nothing can be plugged into it yet", false},
    {"device", O_DEVICE, GROUP_MACHINE, "NAME[,P=V...]", "a device more; -device help lists them, -device NAME,help its properties", false},
    {"rtc", O_RTC, GROUP_MACHINE, "base=TIME", "where the real-time clock starts: YYYY-MM-DD, YYYY-MM-DDTHH:MM:SS or seconds since 1970; utc and localtime are "
     "the default, 2026-01-01, so that each run is the same (clock= and driftfix= change nothing: time is virtual)", false},
    {"seed", O_SEED, GROUP_MACHINE, "N", "seed of RDRAND and RDSEED; default 0x4d6174727975", false},
    {"tlb", O_TLB, GROUP_MACHINE, "MODE", "how long translations are kept after memory changed: strict, not at all; lazy, as long as the manual allows, and each use of such a one is told of "
     "(-d vmx, --stats); normal (the default), between the two. Correct software sees no difference", false},
    {"nodefaults", O_NODEFAULTS, GROUP_MACHINE, NULL, "nothing but what is asked for: without -serial, COM1 leads nowhere", false},

    {"serial", O_SERIAL, GROUP_LINES, "LINE", "COM1: stdio (the default), file:PATH, chardev:ID or none; a second time: COM2 (default none)", false},
    {"chardev", O_CHARDEV, GROUP_LINES, "KIND,id=ID[,...]", "a line by name, for -serial chardev:ID and the like: stdio, null, or file with path=PATH[,append=on]; "
     "mux=on: for several users", false},
    {"debugcon", O_DEBUGCON, GROUP_LINES, "LINE", "what the guest writes to port E9h: as -serial; default none", false},
    {"display", O_DISPLAY, GROUP_LINES, "none", "no window (the default)", false},
    {"nographic", O_NOGRAPHIC, GROUP_LINES, NULL, "as -display none, and with -nodefaults COM1 is still on stdio", false},

    {"loadvm", O_LOADVM, GROUP_START, "FILE", "go on with a saved machine; the other options must make one like it (a kernel is only needed for resets)", false},
    {"savevm", O_SAVEVM, GROUP_END, "FILE", "save the machine when --stop-after, Ctrl-A x or a signal ends the run; -loadvm goes on from there", true},
    {"record", O_RECORD, GROUP_END, "FILE[,images=embed]", "write what came from outside, and hashes of the state, so that -replay repeats the run; images=embed: with the kernel, initrds and the saved machine of -loadvm in it", false},
    {"replay", O_REPLAY, GROUP_START, "FILE", "run a recording again, with its own options, to its end, and compare; what is given beside it watches (-d, --stats, --stop-after)", false},

    {"no-reboot", O_NO_REBOOT, GROUP_END, NULL, "end at a reset or a triple fault instead of starting again", false},
    {"no-shutdown", O_NO_SHUTDOWN, GROUP_END, NULL, "stand still where the machine would end by power-off, reset or triple fault, until a signal or Ctrl-A x", false},
    {"action", O_ACTION, GROUP_END, "EVENT=WHAT", "reboot=shutdown is -no-reboot, shutdown=pause is -no-shutdown", false},
    {"stop-after", O_STOP_AFTER, GROUP_END, "N", "end after N instructions, or within a REP that takes the time of N and of 16 million; default: no limit", true},
    {"pidfile", O_PIDFILE, GROUP_END, "FILE", "write the process's number there; removed at the end", false},

    {"gdb", O_GDB, GROUP_WATCH, "WHERE", "a debugger may connect (gdb, LLDB): tcp:[HOST]:PORT, of this host alone unless HOST says otherwise, unix:PATH or stdio; "
     "in gdb: target remote :PORT, then monitor help", false},
    {"s", O_GDB_SHORT, GROUP_WATCH, NULL, "as -gdb tcp::1234", false},
    {"S", O_HELD, GROUP_WATCH, NULL, "stand still at the start, until a debugger or a monitor lets the machine go", false},
    {"monitor", O_MONITOR, GROUP_WATCH, "WHERE[,format=json]", "commands to look at the machine, stop it and go back: stdio, tcp:[HOST]:PORT (of this host alone unless HOST says otherwise), unix:PATH; "
     "help lists them; format=json: an object a line, for programs. On a terminal Ctrl-A c is always there", false},
    {"history", O_HISTORY, GROUP_WATCH, "SIZE|off", "memory for the machine's past, which is kept while a debugger or monitor is there, and for --last-events; default 1G", false},
    {"d", O_LOG, GROUP_WATCH, "ITEM[,ITEM...]", "log: vmx, fault, int, io, msr, unimp, all; -d help lists them", false},
    {"D", O_LOG_FILE, GROUP_WATCH, "FILE", "where the log goes; default: standard error", false},
    {"explain-entry", O_EXPLAIN, GROUP_WATCH, "[=json[:FILE]]", "explain each failed VM entry and VMX instruction, where the log goes: every rule that is broken, with its section, the values, "
     "the bits that are wrong, a hint; =json: an object a line, to FILE if one is named", true},
    {"symbols", O_SYMBOLS, GROUP_WATCH, "[LEVEL:]FILE[,offset=N]", "names for addresses, of an ELF file or a System.map; several times for several programs. LEVEL: root (the hypervisor) or guest, else both; "
     "offset= is added to its addresses (KASLR), vmcs=ADDRESS: of this VMCS's guest alone", true},
    {"trace", O_TRACE, GROUP_WATCH, "FILE", "what happens, into a file by its name: .json for Perfetto or Chrome (slices of guests and handlers, instants, counters), .txt for grep, a line an event; "
     "with .zst behind it, packed; time is virtual, so equal runs give equal files", true},
    {"trace-filter", O_TRACE_FILTER, GROUP_WATCH, "ITEM[,ITEM...]", "beside --trace, what it takes: kinds as -d has them, root or guest, cpu=N, reason=NAME of VM exits; default: all but walk", true},
    {"report", O_REPORT, GROUP_WATCH, "FILE.html", "the run as a page that needs no network: levels over time, exits by reason, a flame graph of handlers, failed entries with their rules, pages by EPT violation", true},
    {"last-events", O_LAST_EVENTS, GROUP_WATCH, "[=N]", "when a run ends by a triple fault, --stop-after, the guest's own failure, a halt for ever or a signal: the last N events and 32 branches (default 20 events: VM entries and exits, "
     "exceptions, interrupts), both levels with who called what ran, the registers, how to get there again", true},
    {"stats", O_STATS, GROUP_WATCH, NULL, "at the end, to standard error: instructions, rate, VM exits by reason, failed VM entries, what was not implemented", true},
    {"state", O_STATE, GROUP_WATCH, NULL, "at the end: registers, and a hash of each part of the machine's state", true},
    {"hash-every", O_HASH_EVERY, GROUP_WATCH, "N", "print a hash of the machine's state every N instructions; default 0: never", true},

    {"engine", O_ENGINE, GROUP_ENGINE, "NAME", "threaded (the default) or loop, which is slow; both give the same run", true},
    {"drop-derived-every", O_DROP_EVERY, GROUP_ENGINE, "N", "forget all that can be derived anew about every N instructions; default 0: never", true},

    {"help", O_HELP, GROUP_HELP, NULL, "this text", true},
    {"h", O_HELP, GROUP_HELP, NULL, NULL, false},
    {"version", O_VERSION, GROUP_HELP, NULL, "the version", true},

    {"man", O_MANUAL, GROUP_HIDDEN, NULL, NULL, true},
    {"enable-kvm", O_ENABLE_KVM, GROUP_HIDDEN, NULL, NULL, false},
    {"global", O_GLOBAL, GROUP_HIDDEN, "DRIVER.PROPERTY=VALUE", NULL, false},
};
// clang-format on
const unsigned option_rows_n = ARRAY_LEN(option_rows);

#define NO_DISKS   "there are no disks yet"
#define NO_NETWORK "there is no network yet (none is accepted)"
#define NO_MONITOR \
    "-monitor unix:PATH,format=json is there for programs, and speaks its own language (none is accepted)"
#define NO_WINDOW    "there is no display yet (none is accepted)"
#define NO_FIRMWARE  "no firmware runs yet: the loader of -kernel stands in for it"
#define NO_SOUND     "there is no sound yet"
#define NO_MIGRATION "a machine does not migrate (--savevm and -loadvm take it elsewhere in a file)"
#define NO_SANDBOX   "it does not confine itself: start it confined"
#define NO_SHARES    "no file systems are shared with the host yet"
#define NO_XEN       "it does not run on Xen; Xen runs in it"
#define NO_CONFIG    "options are given on the command line only"
#define NO_PLUGINS   "there are no plugins yet"

const struct absent_row absent_rows[] = {
    {"fda fdb hda hdb hdc hdd cdrom drive blockdev sd mtdblock iscsi", true, NULL, NO_DISKS},
    {"snapshot", false, NULL, NO_DISKS},
    {"bios pflash option-rom", true, NULL, NO_FIRMWARE},
    {"acpitable", true, NULL, "ACPI tables cannot be added yet"},
    {"smbios uuid", true, NULL, "there are no SMBIOS tables yet"},
    {"fw_cfg", true, NULL, "fw_cfg entries cannot be added yet"},
    {"dtb", true, NULL, "a PC has no device tree"},
    {"nic net", true, "none", NO_NETWORK},
    {"netdev", true, NULL, NO_NETWORK},
    {"qmp qmp-pretty", true, "none,null", NO_MONITOR},
    {"mon", true, NULL, NO_MONITOR},
    {"preconfig", false, NULL, "-S waits for a debugger or a monitor"},
    {"singlestep", false, NULL, "--engine loop takes one instruction at a time"},
    {"vga vnc", true, "none", NO_WINDOW},
    {"spice rotate", true, NULL, NO_WINDOW},
    {"full-screen portrait", false, NULL, NO_WINDOW},
    {"parallel", true, "none,null", "there is no parallel port yet (none is accepted)"},
    {"usbdevice", true, NULL, "there are no USB devices yet"},
    {"audio audiodev", true, "none,driver=none", NO_SOUND},
    {"audio-help", false, NULL, NO_SOUND},
    {"tpmdev", true, NULL, "there is no TPM yet"},
    {"watchdog", true, NULL, "there is no watchdog yet"},
    {"numa", true, NULL, "there is one NUMA node"},
    {"incoming dump-vmstate", true, NULL, NO_MIGRATION},
    {"only-migratable", false, NULL, NO_MIGRATION},
    {"icount", true, NULL,
     "time goes by instructions always, at a rate that is fixed (-record and -replay are options of their "
     "own)"},
    {"fsdev virtfs", true, NULL, NO_SHARES},
    {"mem-path", true, NULL, "memory cannot be given a file yet"},
    {"object", true, NULL, "there are no objects to make"},
    {"set readconfig writeconfig", true, NULL, NO_CONFIG},
    {"add-fd", true, NULL, "file descriptors cannot be handed over"},
    {"chroot runas", true, NULL, NO_SANDBOX},
    {"sandbox", true, "off", NO_SANDBOX},
    {"daemonize", false, NULL, "it stays in the foreground (put it in the background with the shell's &)"},
    {"echr", true, "1,0x1,0x01", "the terminal's escape is Ctrl-A"},
    {"dfilter", true, NULL, "the log cannot be filtered by address yet"},
    {"plugin", true, NULL, NO_PLUGINS},
    {"xen-domid", true, NULL, NO_XEN},
    {"xen-attach xen-domid-restrict", false, NULL, NO_XEN},
    // What follows asks for nothing that a guest or a user of this machine could miss.
    {"boot", true, "*", "with -kernel there is no order to boot in"},
    {"watchdog-action", true, "*", "there is no watchdog that could do it"},
    {"k", true, "*", "for a display's keyboard"},
    {"L", true, "*", "for firmware"},
    {"name", true, "*", "for windows and process lists"},
    {"no-user-config", false, "*", "there is none"},
    {"no-fd-bootchk win2k-hack", false, "*", "for disks"},
    {"overcommit", true, "*", "for the host's memory"},
    {"mem-prealloc", false, "*", "for the host's memory"},
    {"msg", true, "*", "for the form of messages"},
    {"compat", true, "*", "for management programs"},
    {"async-teardown enable-sync-profile", false, "*", "for the program, not for the machine"},
};
const unsigned absent_rows_n = ARRAY_LEN(absent_rows);

const struct log_row log_rows[] = {
    {"vmx", LOG_VMX,
     "VM entries, VM exits, and for each failed VM entry or VMX instruction the rules that were broken"},
    {"fault", LOG_FAULT, "exceptions, and how the processor shut down"},
    {"int", LOG_INTERRUPT | LOG_FAULT, "interrupts that were taken, and exceptions"},
    {"io", LOG_IO, "accesses to ports"},
    {"msr", LOG_MSR, "accesses to model-specific registers, with what they read or write"},
    {"unimp", LOG_UNIMPLEMENTED,
     "what the guest used that is not implemented, MSRs that are not known among it"},
    {"guest_errors", LOG_UNIMPLEMENTED, "the same"},
    {"all", LOG_ALL, "all of these"},
    {"events", LOG_ALL, "the same"},
    {"walk", LOG_WALK, "page walks, where the TLB misses; not in all"},
    {"cpu_reset", 0, "taken without effect: a triple fault always shows the registers"},
};
const unsigned log_rows_n = ARRAY_LEN(log_rows);

const struct word_row serial_rows[] = {
    {"stdio", "standard input and output; on a terminal it is raw. mon:stdio is the same"},
    {"file:PATH", "output to a file; no input"},
    {"chardev:ID", "a line made with -chardev"},
    {"none", "nowhere. null is the same"},
};
const unsigned serial_rows_n = ARRAY_LEN(serial_rows);
const struct word_row chardev_rows[] = {
    {"stdio", "standard input and output"},
    {"file", "output to the file of path=PATH; append=on keeps what is in it"},
    {"null", "nowhere"},
};
const unsigned chardev_rows_n = ARRAY_LEN(chardev_rows);

#define ANY "*"
const struct machine_row machine_rows[] = {
    {"acpi", "on,off,auto", NULL, MACHINE_ACPI},
    {"hpet", "on,off", NULL, MACHINE_HPET},
    {"usb", "on,off", NULL, MACHINE_USB},
    {"vmport", "off,auto", "there is no VMware port", MACHINE_NO_EFFECT},
    {"smm", "off,auto", "there is no system-management mode", MACHINE_NO_EFFECT},
    {"pit", "on", "the PIT cannot be left out", MACHINE_NO_EFFECT},
    {"i8042", "on", "the keyboard controller cannot be left out", MACHINE_NO_EFFECT},
    {"nvdimm", "off", "there are no NVDIMMs", MACHINE_NO_EFFECT},
    {"graphics", ANY, NULL, MACHINE_NO_EFFECT},
    {"kernel-irqchip", ANY, NULL, MACHINE_NO_EFFECT}, // KVM's
    {"kernel_irqchip", ANY, NULL, MACHINE_NO_EFFECT},
    {"dump-guest-core", ANY, NULL, MACHINE_NO_EFFECT},
    {"mem-merge", ANY, NULL, MACHINE_NO_EFFECT},
    {"suppress-vmdesc", ANY, NULL, MACHINE_NO_EFFECT},
    {"fd-bootchk", ANY, NULL, MACHINE_NO_EFFECT},
    {"igd-passthru", "off", "no device of the host is passed through", MACHINE_NO_EFFECT},
};
const unsigned machine_rows_n = ARRAY_LEN(machine_rows);

const struct word_row key_rows[] = {
    {"Ctrl-A x", "ends the machine"},
    {"Ctrl-A c", "changes between the machine and the monitor"},
    {"Ctrl-A h", "shows the keys"},
    {"Ctrl-A Ctrl-A", "sends Ctrl-A"},
};
const unsigned key_rows_n = ARRAY_LEN(key_rows);

const struct word_row status_rows[] = {
    {"0", "the guest powered the machine off, or Ctrl-A x"},
    {"odd", "the guest's own, through isa-debug-exit: (value << 1) | 1, of which the host keeps 8 bits"},
    {"2", "usage: an option that does not exist, or a value that cannot be"},
    {"4", "bad image: a file that is missing, cut off, or no kernel"},
    {"6", "the host refused: memory, a file to write"},
    {"8", "triple fault, with -no-reboot"},
    {"10", "--stop-after reached"},
    {"12", "halted, with nothing that could wake it"},
    {"14", "reset, with -no-reboot"},
    {"16", "-replay: the run is another than the recorded one"},
    {"70", "a bug in Matryoshka"},
    {"128+N", "signal N of the host ended it (130: Ctrl-C, 141: nobody reads its output)"},
};
const unsigned status_rows_n = ARRAY_LEN(status_rows);

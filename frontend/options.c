// Parsing the command line. What QEMU has and means nothing here is accepted where a script would pass it; anything else unknown
// is an error that suggests the nearest name.
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/options.h"

static bool fail(char *why, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static bool fail(char *why, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, n, fmt, ap);
    va_end(ap);
    return false;
}

static unsigned distance(const char *a, const char *b)
{
    unsigned row[64];
    size_t n = strlen(b);
    if (n > 62) return 99;
    for (unsigned j = 0; j <= n; j++) row[j] = j;
    for (unsigned i = 1; a[i - 1]; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= n; j++) {
            unsigned best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *options_nearest(const char *word, const char *const *candidates, unsigned n)
{
    const char *best = NULL;
    unsigned least = (unsigned)strlen(word) / 3 + 2;
    for (unsigned i = 0; i < n; i++) {
        unsigned d = distance(word, candidates[i]);
        if (d < least) least = d, best = candidates[i];
    }
    return best;
}

static bool parse_number(const char *s, u64 *x)
{
    char *end;
    errno = 0;
    if (*s < '0' || *s > '9') return false;
    *x = strtoull(s, &end, 0);
    return errno == 0 && *end == 0;
}

// "512", "512M", "2G", "262144K"; a bare number is MiB, as QEMU has it. Also "size=512M".
static bool parse_memory(const char *s, u64 *bytes)
{
    char *end;
    if (strncmp(s, "size=", 5) == 0) s += 5;
    errno = 0;
    if (*s < '0' || *s > '9') return false;
    u64 x = strtoull(s, &end, 10);
    unsigned shift = 20;
    switch (*end) {
    case 'k': case 'K': shift = 10, end++; break;
    case 'm': case 'M': shift = 20, end++; break;
    case 'g': case 'G': shift = 30, end++; break;
    case 'b': case 'B': shift = 0, end++; break;
    }
    if (errno || (*end && *end != ',') || x == 0 || x > UINT64_MAX >> shift) return false;
    *bytes = x << shift;
    return true;
}

static const char *const device_names[] = {"isa-debug-exit", "isa-debugcon", "pc-testdev"};

void options_list_devices(FILE *out)
{
    fprintf(out, "name \"isa-debug-exit\", bus ISA, desc \"a write ends the machine: status (value << 1) | 1\"\n"
                 "name \"isa-debugcon\", bus ISA, desc \"the debug console, port E9h\"\n"
                 "name \"pc-testdev\", bus ISA, desc \"interrupt lines, scratch port and memory for test programs\"\n");
}

// The value of key in "a=1,b=2", or NULL. Copied to buf.
static const char *sub_option(const char *text, const char *key, char *buf, size_t n)
{
    size_t k = strlen(key);
    for (const char *p = strchr(text, ','); p; p = strchr(p + 1, ',')) {
        if (strncmp(p + 1, key, k) == 0 && p[1 + k] == '=') {
            snprintf(buf, n, "%.*s", (int)strcspn(p + 2 + k, ","), p + 2 + k);
            return buf;
        }
    }
    return NULL;
}

// Every "key=..." behind the device's name must be one that the device has.
static bool known_keys(const char *text, const char *device, const char *const *keys, unsigned keys_n, char *why, size_t n)
{
    for (const char *p = strchr(text, ','); p; p = strchr(p + 1, ',')) {
        char key[64];
        snprintf(key, sizeof key, "%.*s", (int)strcspn(p + 1, ",="), p + 1);
        bool known = false;
        for (unsigned i = 0; i < keys_n; i++)
            if (strcmp(key, keys[i]) == 0) known = true;
        if (known) continue;
        const char *near = options_nearest(key, keys, keys_n);
        return fail(why, n, "-device %s has no property %s%s%s", device, key, near ? "; did you mean " : "", near ? near : "");
    }
    return true;
}

static bool parse_device(struct options *o, const char *text, char *why, size_t n)
{
    static const char *const exit_keys[] = {"iobase", "iosize", "id"}, *const console_keys[] = {"iobase", "chardev", "readback", "id"},
                      *const test_keys[] = {"id"};
    char name[64], value[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, ","), text);
    if (strcmp(name, "isa-debug-exit") == 0) {
        u64 port = 0x501, size = 2;
        if (!known_keys(text, name, exit_keys, ARRAY_LEN(exit_keys), why, n)) return false;
        if (sub_option(text, "iobase", value, sizeof value) && (!parse_number(value, &port) || port > 0xFFFF))
            return fail(why, n, "-device isa-debug-exit: iobase=%s is no port", value);
        if (sub_option(text, "iosize", value, sizeof value) && (!parse_number(value, &size) || (size != 1 && size != 2 && size != 4)))
            return fail(why, n, "-device isa-debug-exit: iosize=%s must be 1, 2 or 4", value);
        if (port + size > 0x10000) return fail(why, n, "-device isa-debug-exit: %u ports at iobase=%#x do not fit below 10000h", (unsigned)size, (unsigned)port);
        o->debug_exit = true;
        o->debug_exit_port = (u16)port;
        o->debug_exit_size = (u16)size;
        return true;
    }
    if (strcmp(name, "pc-testdev") == 0) {
        if (!known_keys(text, name, test_keys, ARRAY_LEN(test_keys), why, n)) return false;
        o->testdev = true;
        return true;
    }
    if (strcmp(name, "isa-debugcon") == 0) {
        u64 port = 0xE9;
        if (!known_keys(text, name, console_keys, ARRAY_LEN(console_keys), why, n)) return false;
        if (sub_option(text, "iobase", value, sizeof value) && (!parse_number(value, &port) || port != 0xE9))
            return fail(why, n, "-device isa-debugcon: iobase=%s: the console is at 0xe9 here", value);
        o->debugcon = "stdio";
        return true;
    }
    const char *near = options_nearest(name, device_names, ARRAY_LEN(device_names));
    return fail(why, n, "no device is called %s%s%s (-device help lists them)", name, near ? "; did you mean " : "", near ? near : "");
}

static bool parse_serial(struct options *o, const char *text, char *why, size_t n)
{
    if (o->serials == 2) return fail(why, n, "there are two serial ports: -serial was given a third time");
    unsigned i = o->serials++;
    if (strcmp(text, "stdio") == 0 || strcmp(text, "mon:stdio") == 0)
        o->serial[i] = SERIAL_STDIO;
    else if (strcmp(text, "none") == 0 || strcmp(text, "null") == 0)
        o->serial[i] = SERIAL_NONE;
    else if (strncmp(text, "file:", 5) == 0 && text[5]) {
        o->serial[i] = SERIAL_FILE;
        o->serial_file[i] = text + 5;
    } else
        return fail(why, n, "-serial %s: it takes stdio, file:PATH or none", text);
    if (i == 1 && o->serial[0] == SERIAL_STDIO && o->serial[1] == SERIAL_STDIO) return fail(why, n, "-serial stdio was given twice");
    return true;
}

static bool parse_log(struct options *o, const char *text, char *why, size_t n)
{
    static const struct { const char *name; u32 bits; } item[] = {
        {"vmx", LOG_VMX}, {"fault", LOG_FAULT}, {"int", LOG_INTERRUPT | LOG_FAULT}, {"io", LOG_IO},
        {"unimp", LOG_UNIMPLEMENTED}, {"msr", LOG_MSR}, {"guest_errors", LOG_UNIMPLEMENTED | LOG_MSR},
        {"all", 63}, {"events", 63}, {"cpu_reset", 0}};
    while (*text) {
        size_t k = strcspn(text, ",");
        bool known = false;
        for (unsigned i = 0; i < ARRAY_LEN(item); i++)
            if (strlen(item[i].name) == k && strncmp(text, item[i].name, k) == 0) o->log_mask |= item[i].bits, known = true;
        if (!known) return fail(why, n, "-d knows no item \"%.*s\" (vmx, fault, int, io, msr, unimp, all)", (int)k, text);
        text += k + (text[k] == ',');
    }
    return true;
}

// "tcg,thread=multi", "kvm:tcg": one of the names before the comma must be the one that exists here.
static bool parse_accelerator(const char *text, char *why, size_t n)
{
    size_t all = strcspn(text, ",");
    for (size_t at = 0; at <= all;) {
        size_t k = strcspn(text + at, ":,");
        if (k == 3 && strncmp(text + at, "tcg", 3) == 0) return true;
        at += k + 1;
    }
    return fail(why, n, "accelerator %.*s: the machine runs in software only (tcg is accepted)", (int)all, text);
}

// "pc", "pc-i440fx-7.2", "type=pc,accel=tcg", "accel=tcg". Other properties are QEMU's and mean nothing here.
static bool parse_machine(const char *text, char *why, size_t n)
{
    for (bool first = true; *text || first; first = false) {
        size_t k = strcspn(text, ",");
        const char *type = strncmp(text, "type=", 5) == 0 ? text + 5 : text;
        size_t length = k - (size_t)(type - text);
        if (strncmp(text, "accel=", 6) == 0) {
            if (!parse_accelerator(text + 6, why, n)) return false;
        } else if ((type != text || (first && !memchr(text, '=', k))) && !(length == 2 && strncmp(type, "pc", 2) == 0) &&
                   !(length > 9 && strncmp(type, "pc-i440fx", 9) == 0))
            return fail(why, n, "-machine %.*s: the machine here is pc", (int)length, type);
        text += k + (text[k] == ',');
    }
    return true;
}

enum option_id {
    O_KERNEL, O_INITRD, O_APPEND, O_MEMORY, O_CPU, O_SMP, O_SERIAL, O_DISPLAY, O_NOGRAPHIC, O_NO_REBOOT, O_DEVICE, O_NODEFAULTS,
    O_IGNORE0, O_IGNORE1, O_LOG, O_LOG_FILE, O_STOP_AFTER, O_HASH_EVERY, O_DROP_EVERY, O_ENGINE, O_RTC, O_SEED, O_STATE, O_STATS, O_HELP,
    O_VERSION, O_DEBUGCON, O_ACCEL, O_MACHINE,
};
static const struct option_row { const char *name; u8 id, args; const char *arg, *help; } option_rows[] = {
    {"kernel", O_KERNEL, 1, "FILE", "Linux bzImage, multiboot 1, PVH or ELF64 image"},
    {"initrd", O_INITRD, 1, "FILE", "initial RAM disk; for multiboot: \"file args,file2 args\", one module each"},
    {"append", O_APPEND, 1, "TEXT", "the kernel's command line"},
    {"m", O_MEMORY, 1, "SIZE", "memory: 512 (MiB), 2G ... (default 128M)"},
    {"cpu", O_CPU, 1, "MODEL", "max,+feature,-feature,phys-bits=N"},
    {"smp", O_SMP, 1, "N", "processors (1)"},
    {"machine", O_MACHINE, 1, "TYPE", "pc (accepted as QEMU spells it)"},
    {"M", O_MACHINE, 1, "TYPE", NULL},
    {"accel", O_ACCEL, 1, "NAME", "tcg is taken for the engine here; kvm, hvf, whpx are refused"},
    {"serial", O_SERIAL, 1, "DEV", "stdio, file:PATH or none; a second time: COM2"},
    {"display", O_DISPLAY, 1, "none", "no window (the default)"},
    {"vnc", O_DISPLAY, 1, "none", NULL},
    {"nographic", O_NOGRAPHIC, 0, NULL, "the same as -display none, and -serial stdio if no -serial is given"},
    {"no-reboot", O_NO_REBOOT, 0, NULL, "end on a reset or a triple fault instead of starting again"},
    {"device", O_DEVICE, 1, "NAME,...", "a device; -device help lists them"},
    {"debugcon", O_DEBUGCON, 1, "stdio", "what the guest writes to port E9h"},
    {"nodefaults", O_NODEFAULTS, 0, NULL, "no default devices (there are none to leave out but the serial console)"},
    {"rtc", O_RTC, 1, "base=SECONDS", "start of the real-time clock: seconds since 1970 or YYYY-MM-DDTHH:MM:SS"},
    {"seed", O_SEED, 1, "N", "seed of RDRAND and RDSEED"},
    {"d", O_LOG, 1, "ITEMS", "log: vmx, fault, int, io, msr, unimp, all"},
    {"D", O_LOG_FILE, 1, "FILE", "where the log goes (default: standard error)"},
    {"stop-after", O_STOP_AFTER, 1, "N", "end after N instructions"},
    {"hash-every", O_HASH_EVERY, 1, "N", "print the state hash every N instructions"},
    {"drop-derived-every", O_DROP_EVERY, 1, "N", "forget all derived state about every N instructions (a test of the engine)"},
    {"engine", O_ENGINE, 1, "NAME", "threaded (default) or loop"},
    {"state", O_STATE, 0, NULL, "at the end: registers, and a hash of each part of the machine's state"},
    {"stats", O_STATS, 0, NULL, "statistics at the end: instructions, rate, exits by reason, entry failures"},
    {"help", O_HELP, 0, NULL, "this text"},
    {"h", O_HELP, 0, NULL, NULL},
    {"version", O_VERSION, 0, NULL, "the version"},
    {"global", O_IGNORE1, 1, "", NULL}, {"monitor", O_IGNORE1, 1, "", NULL}, {"vga", O_IGNORE1, 1, "", NULL},
    {"net", O_IGNORE1, 1, "", NULL}, {"nic", O_IGNORE1, 1, "", NULL}, {"name", O_IGNORE1, 1, "", NULL},
    {"parallel", O_IGNORE1, 1, "", NULL}, {"boot", O_IGNORE1, 1, "", NULL}, {"no-user-config", O_IGNORE0, 0, NULL, NULL},
    {"no-hpet", O_IGNORE0, 0, NULL, NULL}, {"enable-kvm", O_ACCEL, 0, NULL, NULL}, {"overcommit", O_IGNORE1, 1, "", NULL},
    {"uuid", O_IGNORE1, 1, "", NULL}, {"k", O_IGNORE1, 1, "", NULL}, {"L", O_IGNORE1, 1, "", NULL},
};

void options_help(FILE *out)
{
    fprintf(out, "usage: matryoshka -kernel FILE [options]\n\n"
                 "A software x86-64 machine whose processor has Intel VT-x.\n\n");
    for (unsigned i = 0; i < ARRAY_LEN(option_rows); i++) {
        const struct option_row *r = &option_rows[i];
        char left[40];
        if (!r->help) continue;
        snprintf(left, sizeof left, "%s%s %s", strlen(r->name) > 1 && (r->id >= O_STOP_AFTER && r->id <= O_STATS && r->id != O_RTC && r->id != O_SEED) ? "--" : "-", r->name, r->arg ? r->arg : "");
        fprintf(out, "  %-26s %s\n", left, r->help);
    }
    fprintf(out, "\nOn a terminal the serial console is raw; Ctrl-A x ends the machine, Ctrl-A h shows the keys.\n"
                 "Options that QEMU has and that mean nothing here (-global, -nic, -monitor ...) are accepted.\n\n"
                 "exit status:\n"
                 "  0   the guest powered the machine off\n"
                 "  odd (value << 1) | 1, the guest's own, through isa-debug-exit\n"
                 "  2   usage                     4   bad image\n"
                 "  6   the host refused          8   triple fault (with -no-reboot)\n"
                 "  10  --stop-after reached      12  halted with nothing to wake it\n"
                 "  14  reset (with -no-reboot)   70  a bug in Matryoshka\n"
                 "  128+N  a signal of the host ended it (130: Ctrl-C)\n");
}

static bool parse_rtc(struct options *o, const char *text, char *why, size_t n)
{
    const char *b = strstr(text, "base=");
    int y, mo, d, h, mi, s;
    u64 x;
    if (!b) return true; // clock=, driftfix=: QEMU's, nothing here
    char value[64];
    snprintf(value, sizeof value, "%.*s", (int)strcspn(b + 5, ","), b + 5);
    if (strcmp(value, "utc") == 0 || strcmp(value, "localtime") == 0) return true; // the run stays deterministic
    const u64 most = 253402300799; // the last second of 9999: a CMOS clock has four digits for the year
    if (parse_number(value, &x)) {
        if (x > most) return fail(why, n, "-rtc base=%s is after the year 9999", value);
        o->rtc_start = (s64)x;
        return true;
    }
    if (sscanf(value, "%d-%d-%dT%d:%d:%d", &y, &mo, &d, &h, &mi, &s) != 6)
        return fail(why, n, "-rtc base=%s: neither seconds nor YYYY-MM-DDTHH:MM:SS", value);
    if (y < 1970 || y > 9999 || mo < 1 || mo > 12 || d < 1 || d > 31 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 59)
        return fail(why, n, "-rtc base=%s is no date from 1970 to 9999", value);
    s64 days = 0; // of the civil calendar since 1970
    y -= mo <= 2;
    s64 era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400, doy = (153 * (mo + (mo > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    days = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    o->rtc_start = ((days * 24 + h) * 60 + mi) * 60 + s;
    return true;
}

bool options_parse(struct options *o, int argc, char **argv, char *why, size_t n)
{
    memset(o, 0, sizeof *o);
    o->append = "";
    o->memory = 128ull << 20;
    o->cpus = 1;
    o->stop_after = UINT64_MAX;
    o->rtc_start = 1767225600; // 2026-01-01T00:00:00
    o->seed = 0x4D6174727975ull;
    cpu_features_max(&o->features);
    bool nodefaults = false, nographic = false;
    const char *cpu = NULL;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (*a != '-' || !a[1]) return fail(why, n, "\"%s\": a kernel is given with -kernel FILE", a);
        a += a[1] == '-' ? 2 : 1;
        const struct option_row *r = NULL;
        char name[64], *inline_value = NULL;
        snprintf(name, sizeof name, "%s", a);
        if (strchr(name, '=')) {
            inline_value = strchr(argv[i], '=') + 1;
            *strchr(name, '=') = 0;
        }
        for (unsigned k = 0; k < ARRAY_LEN(option_rows); k++)
            if (strcmp(option_rows[k].name, name) == 0) r = &option_rows[k];
        if (!r) {
            const char *names[ARRAY_LEN(option_rows)];
            for (unsigned k = 0; k < ARRAY_LEN(option_rows); k++) names[k] = option_rows[k].name;
            const char *near = options_nearest(name, names, ARRAY_LEN(names));
            return fail(why, n, "unknown option %s%s%s (--help lists them)", argv[i], near ? "; did you mean -" : "", near ? near : "");
        }
        const char *v = "";
        if (r->args) {
            if (inline_value)
                v = inline_value;
            else if (++i < argc)
                v = argv[i];
            else
                return fail(why, n, "-%s wants a value: %s", r->name, r->arg);
        }
        u64 x;
        switch ((enum option_id)r->id) {
        case O_KERNEL: o->kernel = v; break;
        case O_INITRD: o->initrd = v; break;
        case O_APPEND: o->append = v; break;
        case O_MEMORY:
            if (!parse_memory(v, &o->memory)) return fail(why, n, "-m %s is no size (512, 512M, 2G)", v);
            if (o->memory < 2 << 20) return fail(why, n, "-m %s: 2 MiB is the least", v);
            if (o->memory > 1ull << 38) return fail(why, n, "-m %s: 256 GiB is the most", v);
            o->memory &= PAGE_MASK;
            break;
        case O_CPU: cpu = v; break;
        case O_SMP:
            a = strncmp(v, "cpus=", 5) == 0 ? v + 5 : v;
            snprintf(name, sizeof name, "%.*s", (int)strcspn(a, ","), a);
            if (!parse_number(name, &x) || x == 0) return fail(why, n, "-smp %s is no number of processors", v);
            if (x != 1) return fail(why, n, "-smp %s: this version has one processor", v);
            break;
        case O_SERIAL:
            if (!parse_serial(o, v, why, n)) return false;
            break;
        case O_DISPLAY:
            if (strcmp(v, "none") != 0) return fail(why, n, "-%s %s: this version has no window (none)", r->name, v);
            break;
        case O_NOGRAPHIC:
            nographic = true;
            break;
        case O_NO_REBOOT: o->no_reboot = true; break;
        case O_DEVICE:
            if (strcmp(v, "help") == 0 || strcmp(v, "?") == 0) {
                options_list_devices(stdout);
                exit(0);
            }
            if (!parse_device(o, v, why, n)) return false;
            break;
        case O_DEBUGCON:
            if (strcmp(v, "stdio") != 0) return fail(why, n, "-debugcon %s: it takes stdio", v);
            o->debugcon = "stdio";
            break;
        case O_NODEFAULTS: nodefaults = true; break;
        case O_ACCEL:
            if (!parse_accelerator(r->args ? v : "kvm", why, n)) return false;
            break;
        case O_MACHINE:
            if (!parse_machine(v, why, n)) return false;
            break;
        case O_RTC:
            if (!parse_rtc(o, v, why, n)) return false;
            break;
        case O_SEED:
            if (!parse_number(v, &o->seed)) return fail(why, n, "-seed %s is no number", v);
            break;
        case O_LOG:
            if (!parse_log(o, v, why, n)) return false;
            break;
        case O_LOG_FILE: o->log_file = v; break;
        case O_STOP_AFTER:
            if (!parse_number(v, &o->stop_after)) return fail(why, n, "--stop-after %s is no number of instructions", v);
            break;
        case O_HASH_EVERY:
            if (!parse_number(v, &o->hash_every)) return fail(why, n, "--hash-every %s is no number of instructions", v);
            break;
        case O_DROP_EVERY:
            if (!parse_number(v, &o->drop_every)) return fail(why, n, "--drop-derived-every %s is no number of instructions", v);
            break;
        case O_ENGINE:
            if (strcmp(v, "loop") == 0)
                o->loop_engine = true;
            else if (strcmp(v, "threaded") != 0)
                return fail(why, n, "--engine %s: it takes threaded or loop", v);
            break;
        case O_STATE: o->state = true; break;
        case O_STATS: o->stats = true; break;
        case O_HELP: o->help = true; break;
        case O_VERSION: o->version = true; break;
        case O_IGNORE0:
        case O_IGNORE1: break;
        }
    }
    if (o->help || o->version) return true;
    if (cpu) {
        const char *line;
        char buf[256];
        if (!cpu_features_parse(&o->features, cpu, buf, sizeof buf, &line)) return fail(why, n, "-cpu %s: %s", cpu, line);
    }
    o->features.rng_seed = o->seed;
    if (!o->serials && (nographic || !nodefaults)) o->serial[0] = SERIAL_STDIO;
    if (!o->kernel) return fail(why, n, "no kernel: give one with -kernel FILE (--help lists the options)");
    return true;
}

// The values of options: sizes, times, lists of properties. Where QEMU has the option, it is QEMU's syntax;
// what QEMU takes and what cannot be had here is refused with the reason.
#include <string.h>

#include "frontend/options_parse.h"

int options_property(struct parser *p, const char *option, const char **text, struct property *out)
{
    const char *s = *text;
    size_t n = 0;
    out->value[0] = 0;
    out->has_value = false;
    if (!*s) return 0;
    for (; *s && *s != ',' && *s != '='; s++) {
        if (n + 1 == sizeof out->key)
            return options_fail(p, "%s: a word is too long: %.20s...", option, *text), -1;
        out->key[n++] = *s;
    }
    out->key[n] = 0;
    if (*s == '=') {
        out->has_value = true;
        for (s++, n = 0; *s && (*s != ',' || s[1] == ','); s++) {
            if (n + 1 == sizeof out->value)
                return options_fail(p, "%s: a word is too long: %.20s...", option, *text), -1;
            out->value[n++] = *s;
            s += *s == ',';
        }
        out->value[n] = 0;
    }
    *text = s + (*s == ',');
    return 1;
}

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

// Whether the word is in the list "a,b,c"; "*" has all.
static bool in_list(const char *list, const char *word)
{
    size_t k = strlen(word);
    if (is(list, "*")) return true;
    for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
        if (strcspn(at, ",") == k && strncmp(at, word, k) == 0) return true;
    return false;
}

// ---- -m ----

bool options_memory(struct parser *p, const char *text)
{
    const char *given = text;
    struct property q;
    u64 size = 0, most = 0, slots = 0;
    bool first = true, sized = false;
    for (int got; (got = options_property(p, "-m", &text, &q)) != 0;) {
        if (got < 0) return false;
        bool bare = first && !q.has_value;
        const char *value = bare ? q.key : q.value;
        first = false;
        if (bare || is(q.key, "size")) {
            if (!text_size(value, 20, &size))
                return options_fail(p, "-m %s is no size (512, 512M, 1.5G)", given);
            sized = true;
        } else if (is(q.key, "maxmem")) {
            if (!text_size(value, 0, &most)) return options_fail(p, "-m %s: maxmem is no size (4G)", given);
        } else if (is(q.key, "slots")) {
            if (!text_number(value, &slots)) return options_fail(p, "-m %s: slots is no number", given);
        } else
            return options_fail(p, "-m %s: it takes size=, slots= and maxmem=", given);
    }
    if (!sized && !most) return options_fail(p, "-m %s is no size (512, 512M, 1.5G)", given);
    if (!sized) size = p->o->memory;
    if (size < MACHINE_RAM_MIN) return options_fail(p, "-m %s: 2 MiB is the least", given);
    if (size > 1ull << 38) return options_fail(p, "-m %s: 256 GiB is the most", given);
    // Memory is never added later, so room for more asks for nothing.
    if (slots && !most) return options_fail(p, "-m %s: slots without maxmem", given);
    if (most && most < size) return options_fail(p, "-m %s: maxmem is below the size", given);
    p->o->memory = (size + 8191) & ~8191ull; // as QEMU rounds it
    return true;
}

// ---- -smp ----

enum { SMP_CPUS, SMP_MAXCPUS, SMP_SOCKETS, SMP_DIES, SMP_CLUSTERS, SMP_CORES, SMP_THREADS, SMP_KEYS };

// What was not given follows from what was, as QEMU has it since version 6.2: cores before sockets.
static bool smp_complete(struct parser *p, const char *given, u64 n[SMP_KEYS])
{
    u64 all = n[SMP_MAXCPUS] ? n[SMP_MAXCPUS] : n[SMP_CPUS], product = 1;
    unsigned follows = !n[SMP_CORES] ? SMP_CORES : !n[SMP_SOCKETS] ? SMP_SOCKETS : SMP_THREADS;
    bool open = !n[follows];
    for (unsigned k = SMP_SOCKETS; k < SMP_KEYS; k++) {
        if (!n[k]) n[k] = 1;
        product *= n[k];
    }
    if (n[SMP_CLUSTERS] != 1) return options_fail(p, "-smp %s: this machine has no clusters", given);
    if (open && all > product) {
        n[follows] = all / product;
        product *= n[follows];
    }
    if (!all) all = product;
    if (!n[SMP_CPUS]) n[SMP_CPUS] = all;
    if (product != all)
        return options_fail(p,
                            "-smp %s: %llu sockets of %llu dies of %llu cores of %llu threads are %llu "
                            "processors, not %llu",
                            given, (unsigned long long)n[SMP_SOCKETS], (unsigned long long)n[SMP_DIES],
                            (unsigned long long)n[SMP_CORES], (unsigned long long)n[SMP_THREADS],
                            (unsigned long long)product, (unsigned long long)all);
    if (n[SMP_CPUS] > all)
        return options_fail(p, "-smp %s: cpus=%llu are more than maxcpus=%llu", given,
                            (unsigned long long)n[SMP_CPUS], (unsigned long long)all);
    if (n[SMP_CPUS] > MACHINE_CPUS_MAX)
        return options_fail(p, "-smp %s: %u processors are the most", given, MACHINE_CPUS_MAX);
    return true;
}

bool options_smp(struct parser *p, const char *text)
{
    static const char *const keys[SMP_KEYS] = {"cpus",     "maxcpus", "sockets", "dies",
                                               "clusters", "cores",   "threads"};
    const u64 most = 4096; // of anything: products stay within 64 bits, and IDs within 32
    const char *given = text;
    struct property q;
    u64 n[SMP_KEYS] = {0};
    bool first = true;
    for (int got; (got = options_property(p, "-smp", &text, &q)) != 0;) {
        if (got < 0) return false;
        const char *key = first && !q.has_value ? "cpus" : q.key,
                   *value = first && !q.has_value ? q.key : q.value;
        unsigned k = 0;
        u64 x;
        first = false;
        while (k < SMP_KEYS && !is(key, keys[k])) k++;
        if (k == SMP_KEYS)
            return options_fail(
                p, "-smp %s: there is no \"%s\" (cpus, maxcpus, sockets, dies, clusters, cores, threads)",
                given, key);
        if (!text_number(value, &x) || x == 0 || x > most)
            return options_fail(p, "-smp %s: for %s a number from 1 on is expected, not \"%s\"", given, key,
                                value);
        n[k] = x;
    }
    if (first) return options_fail(p, "-smp wants a number of processors");
    if (!smp_complete(p, given, n)) return false;
    p->o->cpus = (unsigned)n[SMP_CPUS];
    p->o->topology = (struct cpu_topology){.sockets = (u16)n[SMP_SOCKETS],
                                           .dies = (u16)n[SMP_DIES],
                                           .cores = (u16)n[SMP_CORES],
                                           .threads = (u16)n[SMP_THREADS]};
    return true;
}

// ---- -rtc ----

static unsigned days_in(int year, int month)
{
    static const u8 days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

static bool parse_time(struct parser *p, const char *value)
{
    const u64 most = 253402300799; // the last second of 9999: a CMOS clock has four digits for the year
    int y, mo, d, h = 0, mi = 0, s = 0, day_end = -1, end = -1;
    u64 x;
    if (is(value, "utc") || is(value, "localtime")) return true; // the run stays the same every time
    if (text_number(value, &x)) {
        if (x > most) return options_fail(p, "-rtc base=%s is after the year 9999", value);
        p->o->rtc_start = (s64)x;
        return true;
    }
    bool plain = strspn(value, "0123456789-T:") == strlen(value) && strlen(value) < 32;
    int n = plain ? sscanf(value, "%d-%d-%d%nT%d:%d:%d%n", &y, &mo, &d, &day_end, &h, &mi, &s, &end) : 0;
    if (!(n == 3 && day_end == (int)strlen(value)) && !(n == 6 && end == (int)strlen(value)))
        return options_fail(p, "-rtc base=%s: neither seconds nor YYYY-MM-DD nor YYYY-MM-DDTHH:MM:SS", value);
    if (mo >= 1 && mo <= 12 && (d < 1 || d > (int)days_in(y, mo)))
        return options_fail(p, "-rtc base=%s: there is no such day", value);
    if (y < 1970 || y > 9999 || mo < 1 || mo > 12 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 59)
        return options_fail(p, "-rtc base=%s is no time from 1970 to 9999", value);
    y -= mo <= 2; // days of the civil calendar since 1970, in years that begin in March
    s64 era = y / 400, yoe = y - era * 400, doy = (153 * (mo + (mo > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    s64 days = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    p->o->rtc_start = ((days * 24 + h) * 60 + mi) * 60 + s;
    return true;
}

bool options_rtc(struct parser *p, const char *text)
{
    struct property q;
    if (!*text) return options_fail(p, "-rtc wants base=TIME");
    for (int got; (got = options_property(p, "-rtc", &text, &q)) != 0;) {
        if (got < 0) return false;
        if (is(q.key, "base")) {
            if (!parse_time(p, q.value)) return false;
        } else if (!(is(q.key, "clock") && in_list("host,rt,vm", q.value)) &&
                   !(is(q.key, "driftfix") && in_list("none,slew", q.value)))
            return options_fail(
                p, "-rtc takes base=TIME, clock=host, rt or vm, and driftfix=none or slew, not \"%s\"",
                q.key);
    }
    return true;
}

// ---- -d, -accel, -machine, -action, -global ----

bool options_explain(struct parser *p, const char *text)
{
    struct options *o = p->o;
    o->explain = EXPLAIN_TEXT;
    o->explain_file = NULL;
    if (!text || strcmp(text, "text") == 0) return true;
    if (strncmp(text, "json", 4) != 0 || (text[4] && text[4] != ':'))
        return options_fail(p, "--explain-entry=%s: it takes text, json or json:FILE", text);
    o->explain = EXPLAIN_JSON;
    if (text[4] && !text[5]) return options_fail(p, "--explain-entry=json: names no file");
    if (text[4]) o->explain_file = text + 5;
    return true;
}

bool options_trace(struct parser *p, const char *text)
{
    struct options *o = p->o;
    bool json, zstd;
    if (!trace_file_named(text, &json, &zstd))
        return options_fail(
            p, "--trace %s: the name says what it becomes, and ends with .json, .txt, .json.zst or .txt.zst",
            text);
    if (o->traces == ARRAY_LEN(o->trace))
        return options_fail(p, "--trace: %u files are the most", (unsigned)ARRAY_LEN(o->trace));
    for (unsigned i = 0; i < o->traces; i++)
        if (is(o->trace[i], text)) return options_fail(p, "--trace %s is given twice", text);
    o->trace[o->traces++] = text;
    return true;
}

bool options_log(struct parser *p, const char *text)
{
    while (*text) {
        size_t k = strcspn(text, ",");
        bool known = false;
        for (unsigned i = 0; i < log_rows_n; i++)
            if (strlen(log_rows[i].name) == k && strncmp(text, log_rows[i].name, k) == 0)
                p->o->log_mask |= log_rows[i].bits, known = true;
        if (!known)
            return options_fail(
                p,
                "-d knows no item \"%.*s\" (vmx, fault, int, io, msr, unimp, all, walk; -d help lists them)",
                (int)k, text);
        text += k + (text[k] == ',');
    }
    return true;
}

// "tcg,thread=multi", "kvm:tcg". Several options are a list too: what counts is that tcg is somewhere in it.
bool options_accelerator(struct parser *p, const char *text)
{
    const char *names = text;
    struct property q;
    bool first = true;
    for (int got; (got = options_property(p, "-accel", &text, &q)) != 0;) {
        if (got < 0) return false;
        if (first && (!q.has_value || is(q.key, "accel"))) {
            names = options_keep(p, q.has_value ? q.value : q.key);
            if (!names) return false;
        } else if (!in_list(
                       "thread,split-wx,tb-size,one-insn-per-tb,kernel-irqchip,dirty-ring-size,notify-vmexit",
                       q.key))
            return options_fail(p, "-accel has no property %s", q.key);
        first = false;
    }
    for (const char *at = names;; at++) {
        size_t k = strcspn(at, ":");
        if (k == 3 && strncmp(at, "tcg", 3) == 0) p->accelerator_found = true;
        at += k;
        if (!*at) break;
    }
    if (!p->accelerator_found) p->accelerator_refused = names;
    return true;
}

// "pc", "pc-i440fx-7.2", "type=pc,accel=tcg", "accel=tcg".
bool options_machine(struct parser *p, const char *text)
{
    struct property q;
    bool first = true;
    for (int got; (got = options_property(p, "-machine", &text, &q)) != 0;) {
        if (got < 0) return false;
        if ((first && !q.has_value) || is(q.key, "type")) {
            const char *type = q.has_value ? q.value : q.key;
            if (!is(type, "pc") && strncmp(type, "pc-i440fx-", 10) != 0)
                return options_fail(p, "-machine %s: the machine here is pc", type);
        } else if (is(q.key, "accel")) {
            if (!options_accelerator(p, q.value)) return false;
        } else {
            const struct machine_row *r = NULL;
            const char *names[64];
            for (unsigned i = 0; i < machine_rows_n; i++) {
                names[i] = machine_rows[i].name;
                if (is(q.key, machine_rows[i].name)) r = &machine_rows[i];
            }
            if (!r) {
                const char *near = options_nearest(q.key, names, machine_rows_n);
                return options_fail(p, "-machine: pc has no property %s%s%s (-machine help lists them)",
                                    q.key, near ? "; did you mean " : "", near ? near : "");
            }
            const char *value = q.has_value ? q.value : "on";
            if (!in_list(r->accept, value))
                return options_fail(p, "-machine %s=%s: %s", q.key, value,
                                    r->why ? r->why : "it takes on or off");
            if (r->property == MACHINE_ACPI) p->o->acpi_off = is(value, "off");
            if (r->property == MACHINE_HPET) p->o->hpet_off = is(value, "off");
            if (r->property == MACHINE_USB) p->o->usb = is(value, "on");
        }
        first = false;
    }
    return first ? options_fail(p, "-machine wants a type: pc") : true;
}

// FILE[,images=embed|hash]
bool options_record(struct parser *p, const char *text)
{
    const char *comma = strrchr(text, ',');
    p->o->embed = comma && strcmp(comma, ",images=embed") == 0;
    if (comma && !p->o->embed && strcmp(comma, ",images=hash") != 0)
        return options_fail(p, "-record %s: after the file comes nothing, images=hash or images=embed", text);
    if (!comma)
        p->o->record = text;
    else {
        char file[4096];
        if ((size_t)(comma - text) >= sizeof file)
            return options_fail(p, "-record: the file's name is too long");
        snprintf(file, sizeof file, "%.*s", (int)(comma - text), text);
        p->o->record = options_keep(p, file);
    }
    if (!p->o->record) return false;
    return *p->o->record || options_fail(p, "-record wants a file");
}

bool options_action(struct parser *p, const char *text)
{
    struct property q;
    if (!*text) return options_fail(p, "-action wants EVENT=WHAT");
    for (int got; (got = options_property(p, "-action", &text, &q)) != 0;) {
        if (got < 0) return false;
        if (is(q.key, "reboot") && in_list("reset,shutdown", q.value))
            p->o->no_reboot = is(q.value, "shutdown");
        else if (is(q.key, "shutdown") && in_list("poweroff,pause", q.value))
            p->o->no_shutdown = is(q.value, "pause");
        else if (!is(q.key, "panic") && !is(q.key, "watchdog")) // by devices that are not there
            return options_fail(
                p, "-action %s=%s: it takes reboot=reset or shutdown, and shutdown=poweroff or pause", q.key,
                q.value);
    }
    return true;
}

// "driver.property=value" or "driver=D,property=P,value=V". QEMU warns of drivers that it does not have, and
// goes on: so properties of devices that are not here change nothing. Those of devices that are here cannot
// be set in this way.
bool options_global(struct parser *p, const char *text)
{
    static const char ours[] =
        "isa-serial,hpet,mc146818rtc,isa-pit,isa-i8259,ioapic,apic,i8042,PIIX3,PIIX4_PM,"
        "i440FX,i440FX-pcihost,fw_cfg_io,port92,i8257";
    static const char harmless[] = "PIIX4_PM.disable_s3=1,PIIX4_PM.disable_s4=1,mc146818rtc.lost_tick_policy="
                                   "discard,mc146818rtc.lost_tick_policy=slew";
    const char *given = text;
    struct property q;
    char driver[64] = "";
    if (in_list(harmless, text)) return true; // there is no sleep but S5, and no tick is lost
    for (int got; (got = options_property(p, "-global", &text, &q)) != 0;) {
        if (got < 0) return false;
        const char *name = is(q.key, "driver") ? q.value : q.key;
        if (!*driver) snprintf(driver, sizeof driver, "%.*s", (int)strcspn(name, "."), name);
    }
    if (!*driver || !strpbrk(given, ".,") || !strchr(given, '='))
        return options_fail(p, "-global %s: it takes DRIVER.PROPERTY=VALUE", given);
    size_t k = strlen(driver);
    if (device_row_find(driver) || in_list(ours, driver) || (k > 11 && is(driver + k - 11, "-x86_64-cpu")))
        return options_fail(p, "-global %s: properties are set with -device and -cpu", given);
    return true;
}

// ---- -chardev, -device ----

static bool an_identifier(const char *s)
{
    bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
    return letter &&
           strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == strlen(s) &&
           strlen(s) < 64;
}

bool options_chardev(struct parser *p, const char *text)
{
    struct chardev_option c = {.kind = SERIAL_NONE};
    struct property q;
    bool first = true;
    char kind[64] = "";
    for (int got; (got = options_property(p, "-chardev", &text, &q)) != 0;) {
        if (got < 0) return false;
        if ((first && !q.has_value) || is(q.key, "backend")) {
            snprintf(kind, sizeof kind, "%.63s", q.has_value ? q.value : q.key);
            bool known = false;
            for (unsigned i = 0; i < chardev_rows_n; i++) known |= is(kind, chardev_rows[i].name);
            if (!known) return options_fail(p, "-chardev %s: it takes stdio, file or null", kind);
            if (is(kind, "stdio")) c.kind = SERIAL_STDIO;
            if (is(kind, "file")) c.kind = SERIAL_FILE;
        } else if (is(q.key, "id")) {
            if (!an_identifier(q.value))
                return options_fail(
                    p, "-chardev id=%s: an id is a letter, then letters, digits, '-', '.' and '_'", q.value);
            if (!(c.id = options_keep(p, q.value))) return false;
        } else if (is(q.key, "path") && c.kind == SERIAL_FILE) {
            if (!(c.path = options_keep(p, q.value))) return false;
        } else if (is(q.key, "mux") || (is(q.key, "append") && c.kind == SERIAL_FILE) ||
                   (is(q.key, "signal") && c.kind == SERIAL_STDIO)) {
            bool on;
            if (!text_switch(q.has_value ? q.value : "on", &on))
                return options_fail(p, "-chardev %s=%s: it takes on or off", q.key, q.value);
            if (is(q.key, "mux")) c.mux = on;
            if (is(q.key, "append")) c.append = on;
        } else
            return options_fail(p, "-chardev %s has no property %s", *kind ? kind : text, q.key);
        first = false;
    }
    if (!*kind) return options_fail(p, "-chardev wants a kind: stdio, file or null");
    if (!c.id) return options_fail(p, "-chardev %s: it needs an id=NAME", kind);
    if (c.kind == SERIAL_FILE && (!c.path || !*c.path))
        return options_fail(p, "-chardev file,id=%s: it needs a path=FILE", c.id);
    for (unsigned i = 0; i < p->chardevs; i++)
        if (is(p->chardev[i].id, c.id))
            return options_fail(p, "-chardev: there are two with the id %s", c.id);
    if (p->chardevs == CHARDEVS_MAX)
        return options_fail(p, "-chardev was given more than %d times", CHARDEVS_MAX);
    p->chardev[p->chardevs++] = c;
    return true;
}

static const struct device_row *find_device(struct parser *p, const char *name)
{
    const char *names[64];
    unsigned n = 0;
    const struct device_row *row = device_row_find(name);
    if (row && row->option) return options_fail(p, "-device %s: %s makes it", name, row->option), NULL;
    if (row) return row;
    for (unsigned i = 0; i < device_rows_n && n < ARRAY_LEN(names); i++)
        if (!device_rows[i]->option) names[n++] = device_rows[i]->name;
    const char *near = options_nearest(name, names, n);
    options_fail(p, "no device is called %s%s%s (-device help lists them)", name,
                 near ? "; did you mean " : "", near ? near : "");
    return NULL;
}

static bool no_such_property(struct parser *p, const struct device_row *row, const char *key)
{
    const char *keys[DEVICE_PROPERTIES + 1] = {"id"};
    unsigned n = 1;
    for (const struct device_property *d = row->property; d->type != PROPERTY_END; d++) keys[n++] = d->name;
    const char *near = options_nearest(key, keys, n);
    return options_fail(p, "-device %s has no property %s%s%s", row->name, key, near ? "; did you mean " : "",
                        near ? near : "");
}

static bool device_id(struct parser *p, const char *id)
{
    for (unsigned i = 0; i < p->device_ids; i++)
        if (is(p->device_id[i], id)) return options_fail(p, "-device: there are two with the id %s", id);
    if (!an_identifier(id))
        return options_fail(p, "-device id=%s: an id is a letter, then letters, digits, '-', '.' and '_'",
                            id);
    if (p->device_ids == ARRAY_LEN(p->device_id)) return options_fail(p, "-device was given too often");
    p->device_id[p->device_ids] = options_keep(p, id);
    return p->device_id[p->device_ids++] != NULL;
}

static bool add_device(struct parser *p, const char *option, const struct device_config *c)
{
    struct options *o = p->o;
    unsigned before = 0;
    for (unsigned i = 0; i < o->devices; i++) before += o->device[i].row == c->row;
    if (before == c->row->most && before == 1)
        return options_fail(p, "%s %s was given twice", option, c->row->name);
    if (before == c->row->most)
        return options_fail(p, "%s: there cannot be more than %u of %s", option, before, c->row->name);
    if (o->devices == MACHINE_DEVICES_MAX)
        return options_fail(p, "%s: there are %d devices already", option, MACHINE_DEVICES_MAX);
    o->device[o->devices++] = *c;
    return true;
}

// The device that was added last sends its bytes there, for its property of that number.
static bool add_line(struct parser *p, const char *option, unsigned property, const char *text)
{
    struct options *o = p->o;
    if (o->lines == ARRAY_LEN(o->line)) return options_fail(p, "%s: there are too many lines", option);
    p->line[o->lines].option = option;
    p->line[o->lines].text = text;
    o->line[o->lines++] = (struct device_line){.device = (u8)(o->devices - 1), .property = (u8)property};
    return true;
}

static bool set_property(struct parser *p, struct device_config *c, const struct property *q)
{
    char why[320];
    int property = device_row_property(c->row, q->key);
    if (property < 0) return no_such_property(p, c->row, q->key);
    enum property_type type = c->row->property[property].type;
    const char *value = type == PROPERTY_BOOL && !q->has_value ? "on" : q->value;
    if ((type == PROPERTY_STRING || type == PROPERTY_CHARDEV) && !(value = options_keep(p, value)))
        return false;
    if (device_config_set(c, (unsigned)property, value, why, sizeof why)) return true;
    return options_fail(p, "-device %s: %s", c->row->name, why);
}

// What a property wants, in a word, for what is missing.
static const char *const value_words[] = {
    [PROPERTY_BOOL] = "on|off", [PROPERTY_U8] = "N",        [PROPERTY_U16] = "N",
    [PROPERTY_U32] = "N",       [PROPERTY_U64] = "N",       [PROPERTY_SIZE] = "SIZE",
    [PROPERTY_PORT] = "PORT",   [PROPERTY_STRING] = "TEXT", [PROPERTY_CHARDEV] = "ID"};

bool options_device(struct parser *p, const char *text)
{
    struct device_config c = {.row = NULL};
    struct property q;
    for (int got; (got = options_property(p, "-device", &text, &q)) != 0;) {
        if (got < 0) return false;
        if (!c.row) {
            const struct device_row *row = find_device(p, is(q.key, "driver") ? q.value : q.key);
            if (!row) return false;
            device_config_begin(&c, row);
        } else if (is(q.key, "help") || is(q.key, "?")) {
            p->o->tell = TELL_DEVICE;
            p->o->tell_of = c.row;
            return true;
        } else if (is(q.key, "id") ? !device_id(p, q.value) : !set_property(p, &c, &q))
            return false;
    }
    if (!c.row) return options_fail(p, "-device wants a name (-device help lists them)");
    const struct device_property *missing = device_config_missing(&c);
    if (missing)
        return options_fail(p, "-device %s needs %s=%s: %s", c.row->name, missing->name,
                            value_words[missing->type], missing->help);
    if (!add_device(p, "-device", &c)) return false;
    for (unsigned i = 0; c.row->property[i].type != PROPERTY_END; i++)
        if (c.row->property[i].type == PROPERTY_CHARDEV && c.value[i].text &&
            !add_line(p, "-device", i, c.value[i].text))
            return false;
    return true;
}

bool options_debugcon(struct parser *p, const char *text)
{
    struct device_config c;
    if (p->debugcon) return options_fail(p, "-debugcon was given twice");
    p->debugcon = true;
    device_config_begin(&c, &debug_console_row);
    return add_device(p, "-debugcon", &c) &&
           add_line(p, "-debugcon", (unsigned)device_row_property(c.row, "chardev"), text);
}

bool options_usb(struct parser *p)
{
    struct device_config c;
    device_config_begin(&c, &uhci_row);
    return !p->o->usb || add_device(p, "-usb", &c);
}

// ---- lines ----

struct line {
    enum serial_kind kind;
    const char *path;
    bool append;
};

// `id` of -device, or the whole value of -serial or -debugcon.
static bool chardev_line(struct parser *p, const char *option, const char *id, struct line *l)
{
    for (unsigned i = 0; i < p->chardevs; i++) {
        struct chardev_option *c = &p->chardev[i];
        if (!is(c->id, id)) continue;
        if (c->used && !c->mux)
            return options_fail(p, "%s: the chardev %s is used already (mux=on shares one)", option, id);
        if (c->used && c->kind == SERIAL_FILE)
            return options_fail(p, "%s: the chardev %s is used already, and a file is not shared", option,
                                id);
        c->used = true;
        *l = (struct line){c->kind, c->path, c->append};
        return true;
    }
    return options_fail(p, "%s: there is no -chardev with the id %s", option, id);
}

static bool line(struct parser *p, const char *option, const char *text, struct line *l)
{
    *l = (struct line){SERIAL_NONE, NULL, false};
    if (strncmp(text, "chardev:", 8) == 0) return chardev_line(p, option, text + 8, l);
    if (in_list("none,null", text)) return true;
    if (in_list("stdio,mon:stdio", text))
        l->kind = SERIAL_STDIO;
    else if (strncmp(text, "file:", 5) == 0 && text[5]) {
        l->kind = SERIAL_FILE;
        l->path = text + 5;
    } else
        return options_fail(p, "%s %s: it takes stdio, file:PATH, chardev:ID or none", option, text);
    return true;
}

bool options_lines(struct parser *p)
{
    struct options *o = p->o;
    struct {
        const char *path, *what;
    } file[MACHINE_SERIAL + ARRAY_LEN(o->line) + ARRAY_LEN(o->trace) + 6];
    unsigned files = 0;
    struct line l;
    for (unsigned i = 0; i < p->serials; i++) {
        if (!line(p, "-serial", p->serial[i], &l)) return false;
        o->serial[i] = l.kind;
        o->serial_file[i] = l.path;
        o->serial_append[i] = l.append;
        if (l.path) file[files].path = l.path, file[files++].what = "-serial";
    }
    // Input can go to one only.
    if (o->serial[0] == SERIAL_STDIO && o->serial[1] == SERIAL_STDIO)
        return options_fail(p, "-serial stdio was given twice");
    for (unsigned i = 0; i < o->lines; i++) {
        struct device_line *d = &o->line[i];
        const char *option = p->line[i].option, *name = o->device[d->device].row->name;
        char of[80];
        snprintf(of, sizeof of, "%s %s", option, name);
        if (is(option, "-device") ? !chardev_line(p, of, p->line[i].text, &l)
                                  : !line(p, option, p->line[i].text, &l))
            return false;
        d->kind = l.kind;
        d->file = l.path;
        d->append = l.append;
        if (l.path) file[files].path = l.path, file[files++].what = is(option, "-device") ? name : option;
    }
    if (o->log_file) file[files].path = o->log_file, file[files++].what = "-D";
    if (o->pid_file) file[files].path = o->pid_file, file[files++].what = "-pidfile";
    if (o->explain_file) file[files].path = o->explain_file, file[files++].what = "--explain-entry";
    if (o->report) file[files].path = o->report, file[files++].what = "--report";
    if (o->record) file[files].path = o->record, file[files++].what = "-record";
    if (o->savevm) file[files].path = o->savevm, file[files++].what = "--savevm";
    for (unsigned i = 0; i < o->traces; i++) file[files].path = o->trace[i], file[files++].what = "--trace";
    for (unsigned i = 0; i < files; i++) // each would write over the other's output
        for (unsigned k = i + 1; k < files; k++)
            if (is(file[i].path, file[k].path) && strncmp(file[i].path, "/dev/", 5) != 0)
                return options_fail(p, "%s and %s have the same file %s", file[i].what, file[k].what,
                                    file[i].path);
    return true;
}

bool options_ports(struct parser *p)
{
    return device_config_ports(p->o->device, p->o->devices, p->why, p->why_size);
}

// The values of options: sizes, times, lists of properties. Where QEMU has the option, it is QEMU's syntax; what QEMU takes and what
// cannot be had here is refused with the reason.
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/options_parse.h"

bool options_number(const char *s, u64 *x)
{
    char *end;
    errno = 0;
    if (*s < '0' || *s > '9') return false;
    *x = strtoull(s, &end, 0);
    return errno == 0 && *end == 0;
}

int options_property(struct parser *p, const char *option, const char **text, struct property *out)
{
    const char *s = *text;
    size_t n = 0;
    out->value[0] = 0;
    out->has_value = false;
    if (!*s) return 0;
    for (; *s && *s != ',' && *s != '='; s++) {
        if (n + 1 == sizeof out->key) return options_fail(p, "%s: a word is too long: %.20s...", option, *text), -1;
        out->key[n++] = *s;
    }
    out->key[n] = 0;
    if (*s == '=') {
        out->has_value = true;
        for (s++, n = 0; *s && (*s != ',' || s[1] == ','); s++) {
            if (n + 1 == sizeof out->value) return options_fail(p, "%s: a word is too long: %.20s...", option, *text), -1;
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

static bool parse_switch(const char *s, bool *on)
{
    *on = in_list("on,yes,true,y", s);
    return *on || in_list("off,no,false,n", s);
}

// ---- -m ----

// "512" (units of `unit` bits), "0x200", "512M", "1.5G". False: no size. Too large for 64 bits: UINT64_MAX.
static bool parse_size(const char *s, unsigned unit, u64 *bytes)
{
    static const char suffixes[] = "bkmgtpe";
    char *end;
    if (*s < '0' || *s > '9') return false;
    errno = 0;
    bool hex = s[0] == '0' && (s[1] | 0x20) == 'x';
    u64 whole = strtoull(s, &end, hex ? 16 : 10), part = 0, scale = 1;
    bool huge = errno == ERANGE, fraction = *end == '.' && !hex;
    if (fraction) {
        if (end[1] < '0' || end[1] > '9') return false;
        for (end++; *end >= '0' && *end <= '9'; end++)
            if (scale < 1000000000000000000) scale *= 10, part = part * 10 + (u64)(*end - '0');
    }
    const char *suffix = *end ? strchr(suffixes, *end | 0x20) : NULL;
    if (*end && (!suffix || end[1] || hex)) return false;
    if (fraction && (!suffix || suffix == suffixes)) return false; // half a byte
    if (suffix) unit = 10 * (unsigned)(suffix - suffixes);
    huge = huge || whole > UINT64_MAX >> unit;
    unsigned __int128 more = ((unsigned __int128)part << unit) / scale;
    *bytes = huge ? UINT64_MAX : (whole << unit) + (u64)more;
    return true;
}

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
            if (!parse_size(value, 20, &size)) return options_fail(p, "-m %s is no size (512, 512M, 1.5G)", given);
            sized = true;
        } else if (is(q.key, "maxmem")) {
            if (!parse_size(value, 0, &most)) return options_fail(p, "-m %s: maxmem is no size (4G)", given);
        } else if (is(q.key, "slots")) {
            if (!options_number(value, &slots)) return options_fail(p, "-m %s: slots is no number", given);
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

bool options_smp(struct parser *p, const char *text)
{
    static const char *const keys[] = {"cpus", "maxcpus", "sockets", "dies", "clusters", "cores", "threads"};
    const char *given = text;
    struct property q;
    bool first = true;
    for (int got; (got = options_property(p, "-smp", &text, &q)) != 0;) {
        if (got < 0) return false;
        const char *key = first && !q.has_value ? "cpus" : q.key, *value = first && !q.has_value ? q.key : q.value;
        bool known = false;
        u64 x;
        first = false;
        for (unsigned i = 0; i < ARRAY_LEN(keys); i++) known |= is(key, keys[i]);
        if (!known) return options_fail(p, "-smp %s: there is no \"%s\" (cpus, maxcpus, sockets, dies, clusters, cores, threads)", given, key);
        if (!options_number(value, &x) || x == 0) return options_fail(p, "-smp %s: %s is no number of processors", given, key);
        if (x != 1) return options_fail(p, "-smp %s: this version has one processor", given);
    }
    return first ? options_fail(p, "-smp wants a number of processors") : true;
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
    if (options_number(value, &x)) {
        if (x > most) return options_fail(p, "-rtc base=%s is after the year 9999", value);
        p->o->rtc_start = (s64)x;
        return true;
    }
    bool plain = strspn(value, "0123456789-T:") == strlen(value) && strlen(value) < 32;
    int n = plain ? sscanf(value, "%d-%d-%d%nT%d:%d:%d%n", &y, &mo, &d, &day_end, &h, &mi, &s, &end) : 0;
    if (!(n == 3 && day_end == (int)strlen(value)) && !(n == 6 && end == (int)strlen(value)))
        return options_fail(p, "-rtc base=%s: neither seconds nor YYYY-MM-DD nor YYYY-MM-DDTHH:MM:SS", value);
    if (mo >= 1 && mo <= 12 && (d < 1 || d > (int)days_in(y, mo))) return options_fail(p, "-rtc base=%s: there is no such day", value);
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
        } else if (!(is(q.key, "clock") && in_list("host,rt,vm", q.value)) && !(is(q.key, "driftfix") && in_list("none,slew", q.value)))
            return options_fail(p, "-rtc takes base=TIME, clock=host, rt or vm, and driftfix=none or slew, not \"%s\"", q.key);
    }
    return true;
}

// ---- -d, -accel, -machine, -action, -global ----

bool options_log(struct parser *p, const char *text)
{
    while (*text) {
        size_t k = strcspn(text, ",");
        bool known = false;
        for (unsigned i = 0; i < log_rows_n; i++)
            if (strlen(log_rows[i].name) == k && strncmp(text, log_rows[i].name, k) == 0) p->o->log_mask |= log_rows[i].bits, known = true;
        if (!known) return options_fail(p, "-d knows no item \"%.*s\" (vmx, fault, int, io, msr, unimp, all; -d help lists them)", (int)k, text);
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
        } else if (!in_list("thread,split-wx,tb-size,one-insn-per-tb,kernel-irqchip,dirty-ring-size,notify-vmexit", q.key))
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
            if (!is(type, "pc") && strncmp(type, "pc-i440fx-", 10) != 0) return options_fail(p, "-machine %s: the machine here is pc", type);
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
                return options_fail(p, "-machine: pc has no property %s%s%s (-machine help lists them)", q.key, near ? "; did you mean " : "", near ? near : "");
            }
            const char *value = q.has_value ? q.value : "on";
            if (!in_list(r->accept, value)) return options_fail(p, "-machine %s=%s: %s", q.key, value, r->why ? r->why : "it takes on or off");
            if (r->property == MACHINE_ACPI) p->o->acpi_off = is(value, "off");
            if (r->property == MACHINE_HPET) p->o->hpet_off = is(value, "off");
            if (r->property == MACHINE_USB) p->o->usb = is(value, "on");
        }
        first = false;
    }
    return first ? options_fail(p, "-machine wants a type: pc") : true;
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
            return options_fail(p, "-action %s=%s: it takes reboot=reset or shutdown, and shutdown=poweroff or pause", q.key, q.value);
    }
    return true;
}

// "driver.property=value" or "driver=D,property=P,value=V". QEMU warns of drivers that it does not have, and goes on: so
// properties of devices that are not here change nothing. Those of devices that are here cannot be set in this way.
bool options_global(struct parser *p, const char *text)
{
    static const char ours[] = "isa-debug-exit,isa-debugcon,pc-testdev,isa-serial,hpet,mc146818rtc,isa-pit,isa-i8259,ioapic,apic,i8042,PIIX3,PIIX4_PM,"
                               "i440FX,i440FX-pcihost,fw_cfg_io,port92,i8257";
    static const char harmless[] = "PIIX4_PM.disable_s3=1,PIIX4_PM.disable_s4=1,mc146818rtc.lost_tick_policy=discard,mc146818rtc.lost_tick_policy=slew";
    const char *given = text;
    struct property q;
    char driver[64] = "";
    if (in_list(harmless, text)) return true; // there is no sleep but S5, and no tick is lost
    for (int got; (got = options_property(p, "-global", &text, &q)) != 0;) {
        if (got < 0) return false;
        const char *name = is(q.key, "driver") ? q.value : q.key;
        if (!*driver) snprintf(driver, sizeof driver, "%.*s", (int)strcspn(name, "."), name);
    }
    if (!*driver || !strpbrk(given, ".,") || !strchr(given, '=')) return options_fail(p, "-global %s: it takes DRIVER.PROPERTY=VALUE", given);
    size_t k = strlen(driver);
    if (in_list(ours, driver) || (k > 11 && is(driver + k - 11, "-x86_64-cpu")))
        return options_fail(p, "-global %s: properties are set with -device and -cpu", given);
    return true;
}

// ---- -chardev, -device ----

static bool an_identifier(const char *s)
{
    bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z');
    return letter && strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == strlen(s) && strlen(s) < 64;
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
            if (!an_identifier(q.value)) return options_fail(p, "-chardev id=%s: an id is a letter, then letters, digits, '-', '.' and '_'", q.value);
            if (!(c.id = options_keep(p, q.value))) return false;
        } else if (is(q.key, "path") && c.kind == SERIAL_FILE) {
            if (!(c.path = options_keep(p, q.value))) return false;
        } else if (is(q.key, "mux") || (is(q.key, "append") && c.kind == SERIAL_FILE) || (is(q.key, "signal") && c.kind == SERIAL_STDIO)) {
            bool on;
            if (!parse_switch(q.has_value ? q.value : "on", &on)) return options_fail(p, "-chardev %s=%s: it takes on or off", q.key, q.value);
            if (is(q.key, "mux")) c.mux = on;
            if (is(q.key, "append")) c.append = on;
        } else
            return options_fail(p, "-chardev %s has no property %s", *kind ? kind : text, q.key);
        first = false;
    }
    if (!*kind) return options_fail(p, "-chardev wants a kind: stdio, file or null");
    if (!c.id) return options_fail(p, "-chardev %s: it needs an id=NAME", kind);
    if (c.kind == SERIAL_FILE && (!c.path || !*c.path)) return options_fail(p, "-chardev file,id=%s: it needs a path=FILE", c.id);
    for (unsigned i = 0; i < p->chardevs; i++)
        if (is(p->chardev[i].id, c.id)) return options_fail(p, "-chardev: there are two with the id %s", c.id);
    if (p->chardevs == CHARDEVS_MAX) return options_fail(p, "-chardev was given more than %d times", CHARDEVS_MAX);
    p->chardev[p->chardevs++] = c;
    return true;
}

static const struct device_row *find_device(struct parser *p, const char *name)
{
    const char *names[8];
    for (unsigned i = 0; i < device_rows_n; i++) {
        if (is(device_rows[i].name, name)) return &device_rows[i];
        names[i] = device_rows[i].name;
    }
    const char *near = options_nearest(name, names, device_rows_n);
    options_fail(p, "no device is called %s%s%s (-device help lists them)", name, near ? "; did you mean " : "", near ? near : "");
    return NULL;
}

static bool has_property(struct parser *p, const struct device_row *d, const char *key)
{
    const char *keys[ARRAY_LEN(d->property)];
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(d->property) && d->property[i].name; i++) {
        if (is(d->property[i].name, key)) return true;
        keys[n++] = d->property[i].name;
    }
    const char *near = options_nearest(key, keys, n);
    return options_fail(p, "-device %s has no property %s%s%s", d->name, key, near ? "; did you mean " : "", near ? near : "");
}

static bool device_id(struct parser *p, const char *id)
{
    for (unsigned i = 0; i < p->device_ids; i++)
        if (is(p->device_id[i], id)) return options_fail(p, "-device: there are two with the id %s", id);
    if (!an_identifier(id)) return options_fail(p, "-device id=%s: an id is a letter, then letters, digits, '-', '.' and '_'", id);
    if (p->device_ids == ARRAY_LEN(p->device_id)) return options_fail(p, "-device was given too often");
    p->device_id[p->device_ids] = options_keep(p, id);
    return p->device_id[p->device_ids++] != NULL;
}

static bool no_room_for(struct parser *p, const char *device)
{
    return options_fail(p, "-device %s was given more than %d times", device, MACHINE_DEBUG_DEVICES);
}

bool options_device(struct parser *p, const char *text)
{
    struct options *o = p->o;
    const struct device_row *d = NULL;
    struct property q;
    u64 port = 0x501, size = 2, readback = DEBUG_CONSOLE_PORT;
    const char *line = NULL;
    for (int got; (got = options_property(p, "-device", &text, &q)) != 0;) {
        if (got < 0) return false;
        if (!d) {
            const char *name = is(q.key, "driver") ? q.value : q.key;
            d = find_device(p, name);
            if (!d) return false;
            if (is(name, "isa-debugcon")) port = DEBUG_CONSOLE_PORT;
            continue;
        }
        if (is(q.key, "help") || is(q.key, "?")) {
            o->tell = TELL_DEVICE;
            o->tell_of = d->name;
            return true;
        }
        if (!has_property(p, d, q.key)) return false;
        if (is(q.key, "id") && !device_id(p, q.value)) return false;
        if (is(q.key, "chardev") && !(line = options_keep(p, q.value))) return false;
        if (is(q.key, "iobase") && (!options_number(q.value, &port) || port > 0xFFFF))
            return options_fail(p, "-device %s: iobase=%s is no port", d->name, q.value);
        if (is(q.key, "iosize") && (!options_number(q.value, &size) || (size != 1 && size != 2 && size != 4)))
            return options_fail(p, "-device %s: iosize=%s must be 1, 2 or 4", d->name, q.value);
        if (is(q.key, "readback") && (!options_number(q.value, &readback) || readback > 0xFF))
            return options_fail(p, "-device %s: readback=%s is no byte", d->name, q.value);
    }
    if (!d) return options_fail(p, "-device wants a name (-device help lists them)");
    if (is(d->name, "isa-debug-exit")) {
        if (port + size > 0x10000) return options_fail(p, "-device %s: %u ports at iobase=%#x do not fit below 10000h", d->name, (unsigned)size, (unsigned)port);
        if (o->debug_exits == MACHINE_DEBUG_DEVICES) return no_room_for(p, d->name);
        o->debug_exit[o->debug_exits++] = (struct machine_debug_exit){(u16)port, (u8)size};
    } else if (is(d->name, "isa-debugcon")) {
        if (!line) return options_fail(p, "-device isa-debugcon: where to? It needs chardev=ID of a -chardev (-debugcon stdio is the short form)");
        if (o->debug_consoles == MACHINE_DEBUG_DEVICES) return no_room_for(p, d->name);
        p->console_option[o->debug_consoles] = NULL;
        p->console_line[o->debug_consoles] = line;
        o->debug_console[o->debug_consoles++] = (struct debug_console_option){.port = (u16)port, .readback = (u8)readback};
    } else {
        if (o->testdev) return options_fail(p, "-device %s was given twice", d->name);
        o->testdev = true;
    }
    return true;
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
        if (c->used && !c->mux) return options_fail(p, "%s: the chardev %s is used already (mux=on shares one)", option, id);
        if (c->used && c->kind == SERIAL_FILE) return options_fail(p, "%s: the chardev %s is used already, and a file is not shared", option, id);
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
    struct { const char *path, *what; } file[MACHINE_SERIAL + MACHINE_DEBUG_DEVICES + 2];
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
    if (o->serial[0] == SERIAL_STDIO && o->serial[1] == SERIAL_STDIO) return options_fail(p, "-serial stdio was given twice");
    for (unsigned i = 0; i < o->debug_consoles; i++) {
        struct debug_console_option *c = &o->debug_console[i];
        const char *option = p->console_option[i];
        if (!(option ? line(p, option, p->console_line[i], &l) : chardev_line(p, "-device isa-debugcon", p->console_line[i], &l))) return false;
        c->kind = l.kind;
        c->file = l.path;
        c->append = l.append;
        if (l.path) file[files].path = l.path, file[files++].what = "a debug console";
    }
    if (o->log_file) file[files].path = o->log_file, file[files++].what = "-D";
    if (o->pid_file) file[files].path = o->pid_file, file[files++].what = "-pidfile";
    for (unsigned i = 0; i < files; i++) // each would write over the other's output
        for (unsigned k = i + 1; k < files; k++)
            if (is(file[i].path, file[k].path) && strncmp(file[i].path, "/dev/", 5) != 0)
                return options_fail(p, "%s and %s have the same file %s", file[i].what, file[k].what, file[i].path);
    return true;
}

bool options_ports(struct parser *p)
{
    const struct options *o = p->o;
    struct { u32 first, n; const char *name; } at[2 * MACHINE_DEBUG_DEVICES + 2];
    unsigned n = 0;
    for (unsigned i = 0; i < o->debug_exits; i++) {
        at[n].first = o->debug_exit[i].port, at[n].n = o->debug_exit[i].size;
        at[n++].name = "isa-debug-exit";
    }
    for (unsigned i = 0; i < o->debug_consoles; i++) {
        at[n].first = o->debug_console[i].port, at[n].n = 1;
        at[n++].name = "isa-debugcon";
    }
    if (o->testdev) {
        at[n].first = 0xE0, at[n].n = 8, at[n++].name = "pc-testdev";
        at[n].first = 0x2000, at[n].n = 24, at[n++].name = "pc-testdev";
    }
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = i + 1; k < n; k++)
            if (at[i].first < at[k].first + at[k].n && at[k].first < at[i].first + at[i].n)
                return options_fail(p, "%s and %s are both at port %#x", at[i].name, at[k].name, at[i].first > at[k].first ? at[i].first : at[k].first);
    return true;
}

// Walks the command line. QEMU's options mean what they mean there, or are refused with what is not there
// yet; a few that could not change anything here are taken (options_table.c says which, and why). Anything
// else is an error that names the nearest option.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system/model.h"
#include "devices/history.h"
#include "frontend/options_parse.h"

bool options_fail(struct parser *p, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->why, p->why_size, fmt, ap);
    va_end(ap);
    return false;
}

const char *options_keep(struct parser *p, const char *text)
{
    struct options *o = p->o;
    size_t n = strlen(text) + 1;
    if (n > sizeof o->text - o->text_used) {
        options_fail(p, "the options' values are too long");
        return NULL;
    }
    char *copy = memcpy(o->text + o->text_used, text, n);
    o->text_used += (unsigned)n;
    return copy;
}

const char *options_nearest(const char *word, const char *const *candidates, unsigned n)
{
    const char *best = NULL;
    unsigned least = (unsigned)strlen(word) / 3 + 1;
    for (unsigned i = 0; i < n; i++) {
        unsigned d = word_distance(word, strlen(word), candidates[i]);
        if (strlen(candidates[i]) > 2 && d < least) least = d, best = candidates[i];
    }
    return best;
}

static const struct option_row *find_row(const char *name)
{
    for (unsigned i = 0; i < option_rows_n; i++)
        if (strcmp(option_rows[i].name, name) == 0) return &option_rows[i];
    return NULL;
}

static bool among(const char *list, char separator, const char *word)
{
    size_t k = strlen(word);
    for (const char *at = list; k && (at = strstr(at, word)) != NULL; at++)
        if ((at == list || at[-1] == separator) && (at[k] == separator || !at[k])) return true;
    return false;
}

static const struct absent_row *find_absent(const char *name)
{
    for (unsigned i = 0; i < absent_rows_n; i++)
        if (among(absent_rows[i].names, ' ', name)) return &absent_rows[i];
    return NULL;
}

static bool unknown(struct parser *p, const char *word, const char *name)
{
    const char *names[128];
    unsigned n = 0;
    for (unsigned i = 0; i < option_rows_n && n < ARRAY_LEN(names); i++)
        if (option_rows[i].group != GROUP_HIDDEN) names[n++] = option_rows[i].name;
    const char *near = options_nearest(name, names, n);
    const char *dashes = near && find_row(near)->ours ? "--" : "-";
    return options_fail(p, "unknown option %s%s%s%s (--help lists them)", word, near ? "; did you mean " : "",
                        near ? dashes : "", near ? near : "");
}

static bool asks_for_help(const char *v) { return strcmp(v, "help") == 0 || strcmp(v, "?") == 0; }

// What "help" as a value prints, for the options whose values come from a list.
static enum options_tell list_of(enum option_id id)
{
    switch (id) {
    case O_DEVICE: return TELL_DEVICES;
    case O_CPU: return TELL_CPUS;
    case O_MACHINE: return TELL_MACHINES;
    case O_ACCEL: return TELL_ACCELERATORS;
    case O_LOG: return TELL_LOG_ITEMS;
    case O_CHARDEV: return TELL_CHARDEVS;
    case O_SERIAL:
    case O_DEBUGCON: return TELL_SERIALS;
    case O_DISPLAY: return TELL_DISPLAYS;
    default: return TELL_NOTHING;
    }
}

static bool count(struct parser *p, const char *option, const char *v, u64 *n)
{
    return text_number(v, n) || options_fail(p, "%s %s is no number of instructions", option, v);
}

struct settings { // that are looked at when all options are known
    const char *cpu;
    bool nodefaults, nographic;
};

static bool apply(struct parser *p, struct settings *s, enum option_id id, const char *v)
{
    struct options *o = p->o;
    switch (id) {
    case O_KERNEL: o->kernel = v; break;
    case O_INITRD: o->initrd = v; break;
    case O_APPEND: o->append = v; break;
    case O_MEMORY: return options_memory(p, v);
    case O_CPU: s->cpu = v; break;
    case O_SMP: return options_smp(p, v);
    case O_MACHINE: return options_machine(p, v);
    case O_ACCEL: return options_accelerator(p, v);
    case O_ENABLE_KVM: return options_accelerator(p, "kvm");
    case O_NO_ACPI: o->acpi_off = true; break;
    case O_NO_HPET: o->hpet_off = true; break;
    case O_USB: o->usb = true; break;
    case O_DEVICE: return options_device(p, v);
    case O_RTC: return options_rtc(p, v);
    case O_SEED: return text_number(v, &o->seed) || options_fail(p, "-seed %s is no number", v);
    case O_NODEFAULTS: s->nodefaults = true; break;
    case O_SERIAL:
        if (p->serials == MACHINE_SERIAL)
            return options_fail(p, "there are two serial ports: -serial was given a third time");
        p->serial[p->serials++] = v;
        break;
    case O_CHARDEV: return options_chardev(p, v);
    case O_DEBUGCON: return options_debugcon(p, v);
    case O_DISPLAY:
        if (strcmp(v, "none") != 0)
            return options_fail(p, "-display %s: there is no display yet (none is accepted)", v);
        break;
    case O_NOGRAPHIC: s->nographic = true; break;
    case O_NO_REBOOT: o->no_reboot = true; break;
    case O_NO_SHUTDOWN: o->no_shutdown = true; break;
    case O_ACTION: return options_action(p, v);
    case O_STOP_AFTER: return count(p, "--stop-after", v, &o->stop_after);
    case O_GDB: o->gdb = strcmp(v, "none") == 0 ? NULL : v; break;
    case O_GDB_SHORT: o->gdb = "tcp::1234"; break;
    case O_HELD: o->held = true; break;
    case O_MONITOR:
        if (strcmp(v, "none") == 0 || strcmp(v, "null") == 0) break;
        if (o->monitors == MONITORS_MAX)
            return options_fail(p, "-monitor: there are %d already", MONITORS_MAX);
        o->monitor[o->monitors++] = v;
        break;
    case O_HISTORY:
        if (strcmp(v, "off") == 0)
            o->history = 0;
        else if (!text_size(v, 20, &o->history) || o->history < 1 << 20 || o->history == UINT64_MAX)
            return options_fail(p, "-history %s: off, or a size of 1M and more expected, as 512M", v);
        o->history_given = o->history != 0;
        break;
    case O_LOADVM: o->loadvm = v; break;
    case O_SAVEVM: o->savevm = v; break;
    case O_RECORD: return options_record(p, v);
    case O_REPLAY: o->replay = v; break;
    case O_PIDFILE: o->pid_file = v; break;
    case O_LOG: return options_log(p, v);
    case O_LOG_FILE: o->log_file = v; break;
    case O_EXPLAIN: return options_explain(p, v);
    case O_SYMBOLS:
        if (o->symbols_n == ARRAY_LEN(o->symbols))
            return options_fail(p, "--symbols: %u files are the most", (unsigned)ARRAY_LEN(o->symbols));
        o->symbols[o->symbols_n++] = v;
        break;
    case O_TRACE: return options_trace(p, v);
    case O_TRACE_FILTER:
        o->trace_filter_given = true;
        return trace_filter_parse(&o->trace_filter, v, p->why, p->why_size);
    case O_REPORT:
        o->report = v;
        if (strlen(v) < 6 || strcmp(v + strlen(v) - 5, ".html") != 0)
            return options_fail(p, "--report %s: it becomes a page, and its name ends with .html", v);
        break;
    case O_LAST_EVENTS:
        o->last_events = 20;
        if (v && (!text_number(v, &o->last_events) || !o->last_events || o->last_events > 100000))
            return options_fail(p, "--last-events=%s: 1 to 100000 are kept", v);
        break;
    case O_STATS: o->stats = true; break;
    case O_STATE: o->state = true; break;
    case O_HASH_EVERY: return count(p, "--hash-every", v, &o->hash_every);
    case O_TLB:
        o->tlb = strcmp(v, "strict") == 0 ? TLB_STRICT : strcmp(v, "lazy") == 0 ? TLB_LAZY : TLB_NORMAL;
        if (o->tlb == TLB_NORMAL && strcmp(v, "normal") != 0)
            return options_fail(p, "-tlb %s: it takes strict, normal or lazy", v);
        break;
    case O_ENGINE:
        o->loop_engine = strcmp(v, "loop") == 0;
        if (!o->loop_engine && strcmp(v, "threaded") != 0)
            return options_fail(p, "--engine %s: it takes threaded or loop", v);
        break;
    case O_DROP_EVERY: return count(p, "--drop-derived-every", v, &o->drop_every);
    case O_HELP: o->tell = TELL_HELP; break;
    case O_VERSION: o->tell = TELL_VERSION; break;
    case O_MANUAL: o->tell = TELL_MANUAL; break;
    case O_GLOBAL: return options_global(p, v);
    }
    return true;
}

// One option and its value: *used words.
static bool take(struct parser *p, struct settings *s, int words, char **word, int *used)
{
    const char *a = word[0], *value = NULL;
    char name[64];
    const char *before = p->may_have_value;
    p->may_have_value = NULL;
    if ((*a != '-' || !a[1]) && before)
        return options_fail(p, "\"%s\": a value of --%s stands in one word with it: --%s=%s", a, before,
                            before, a);
    if (*a != '-' || !a[1])
        return options_fail(p, "\"%s\": a kernel is given with -kernel FILE (--help lists the options)", a);
    a += a[1] == '-' ? 2 : 1;
    size_t k = strcspn(a, "=");
    snprintf(name, sizeof name, "%.*s", (int)k, a);
    if (a[k]) value = a + k + 1; // --option=value
    *used = 1;

    const struct option_row *r = find_row(name);
    const struct absent_row *absent = r ? NULL : find_absent(name);
    if (!r && !absent) return unknown(p, word[0], name);
    bool wants = r ? r->arg != NULL : absent->arg;
    if (value && !wants) return options_fail(p, "-%s takes no value", name);
    if (absent && !absent->accept) return options_fail(p, "-%s: %s", name, absent->why);
    if (wants && !value && !(r && option_value_optional(r))) {
        if (words < 2) return options_fail(p, "-%s wants a value%s%s", name, r ? ": " : "", r ? r->arg : "");
        value = word[1];
        *used = 2;
    }
    if (r && value && !*value && strncmp(r->arg, "FILE", 4) == 0)
        return options_fail(p, "-%s wants a file, and its name is empty", name);
    if (absent) {
        if (absent->accept[0] == '*' || among(absent->accept, ',', value)) return true;
        return options_fail(p, "-%s %s: %s", name, value, absent->why);
    }
    if (wants && value && list_of(r->id) != TELL_NOTHING && asks_for_help(value)) {
        p->o->tell = list_of(r->id);
        return true;
    }
    if (wants && !value) p->may_have_value = r->name;
    return apply(p, s, r->id, value);
}

// Whether all of memory has an address.
static bool memory_is_addressable(struct parser *p)
{
    const struct options *o = p->o;
    u64 top = o->memory > PHYS_HOLE_FIRST ? PHYS_HOLE_END + (o->memory - PHYS_HOLE_FIRST) : o->memory;
    if (top <= 1ull << o->features.maxphyaddr) return true;
    return options_fail(p,
                        "-m: %llu MiB of memory reach beyond %u bits of physical address (-cpu phys-bits=)",
                        (unsigned long long)(o->memory >> 20), o->features.maxphyaddr);
}

// What another option alone gives a meaning. (-D is none such: QEMU too makes an empty log without -d.)
static bool partners(struct parser *p)
{
    const struct options *o = p->o;
    if (o->trace_filter_given && !o->traces)
        return options_fail(p, "--trace-filter chooses what --trace takes: give --trace FILE too");
    if (!o->kernel && o->loadvm && (o->initrd || *o->append))
        return options_fail(p, "%s is for a kernel, which is loaded at a reset: give -kernel FILE too",
                            o->initrd ? "-initrd" : "-append");
    return true;
}

bool options_parse(struct options *o, int argc, char **argv, char *why, size_t why_size)
{
    // clang-format off
    static const struct options defaults = {
        .append = "", .memory = 128ull << 20, .cpus = 1, .history = HISTORY_DEFAULT, .stop_after = UINT64_MAX, .rtc_start = 1767225600 /* 2026-01-01T00:00:00 */,
        .seed = 0x4D6174727975ull};
    // clang-format on
    struct parser parser = {.o = o, .why = why, .why_size = why_size}, *p = &parser;
    struct settings s = {0};
    *o = defaults;
    trace_filter_parse(&o->trace_filter, NULL, why, why_size);
    cpu_features_max(&o->features);
    for (int i = 1, used = 1; i < argc; i += used) {
        if (!take(p, &s, argc - i, argv + i, &used)) return false;
        if (o->tell) return true;
    }
    if (p->accelerator_refused && !p->accelerator_found)
        return options_fail(p, "accelerator %s: the machine runs in software only (tcg is accepted)",
                            p->accelerator_refused);
    if (s.cpu) {
        const char *line;
        char buf[256];
        if (!cpu_features_parse(&o->features, s.cpu, buf, sizeof buf, &line))
            return options_fail(p, "-cpu %s: %s", s.cpu, line);
    }
    o->features.rng_seed = o->seed;
    if (!memory_is_addressable(p) || !options_usb(p) || !options_lines(p) || !options_ports(p)) return false;
    bool gdb_stdio = o->gdb && strcmp(o->gdb, "stdio") == 0;
    bool monitor_stdio = options_monitor_stdio(o);
    if (o->held && !o->gdb && !o->monitors)
        return options_fail(p, "-S: nobody could let the machine go: give -s, -gdb or -monitor too");
    if (gdb_stdio && monitor_stdio) return options_fail(p, "-monitor stdio: gdb is there already");
    if (!p->serials && (gdb_stdio || monitor_stdio)) s.nodefaults = true, s.nographic = false;
    if (!p->serials && (s.nographic || !s.nodefaults)) o->serial[0] = SERIAL_STDIO;
    if (gdb_stdio && (o->serial[0] == SERIAL_STDIO || o->serial[1] == SERIAL_STDIO))
        return options_fail(p, "-gdb stdio: the serial line is there already; give it a file or none");
    if (monitor_stdio && (o->serial[0] == SERIAL_STDIO || o->serial[1] == SERIAL_STDIO))
        return options_fail(
            p, "-monitor stdio: the serial line is there already, and Ctrl-A c changes to a monitor on "
               "a terminal; give the line a file or none");
    if (!partners(p)) return false;
    if (o->record && o->replay)
        return options_fail(p, "-record of a -replay would be the recording that it has (copy the file)");
    if (!o->kernel && !o->loadvm)
        return options_fail(p, "no kernel: give one with -kernel FILE (--help lists the options)");
    return true;
}

bool options_monitor_stdio(const struct options *o)
{
    for (unsigned i = 0; i < o->monitors; i++)
        if (strncmp(o->monitor[i], "stdio", 5) == 0) return true;
    return false;
}

void options_configure(const struct options *o, struct machine_config *c)
{
    c->ram_size = o->memory;
    c->cpus = o->cpus;
    c->features = o->features;
    c->features.topology = o->topology;
    c->rtc_start = o->rtc_start;
    c->acpi_off = o->acpi_off;
    c->hpet_off = o->hpet_off;
    c->devices = o->devices;
    memcpy(c->device, o->device, sizeof c->device);
}

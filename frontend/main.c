// The command line: makes a machine of the options, loads, runs, and says how it ended.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "devices/machine.h"
#include "devices/journal.h"
#include "devices/state_hash.h"
#include "frontend/container.h"
#include "frontend/debug.h"
#include "frontend/lecture.h"
#include "frontend/lint.h"
#include "frontend/gdb_registers.h"
#include "frontend/load.h"
#include "frontend/log.h"
#include "frontend/options.h"
#include "frontend/pid_file.h"
#include "frontend/plain.h"
#include "frontend/recording.h"
#include "frontend/report.h"
#include "frontend/signals.h"
#include "frontend/state_file.h"
#include "frontend/summary.h"
#include "frontend/symbols.h"
#include "frontend/terminal.h"
#include "frontend/trace_file.h"
#include "frontend/watch.h"

struct session {
    struct options o;
    struct machine *m;
    struct terminal terminal;
    FILE *serial_file[MACHINE_SERIAL], *line_file[MACHINE_DEVICES_MAX];
    struct load_files files;
    struct symbols symbols;
    struct watch watch;
    struct trace_file trace[TRACE_FILES_MAX];
    struct report report;
    struct last_events last;
    struct retrace before; // what led to the end
    struct log log;
    struct state_hash hash;
    struct journal journal;
    struct recording recording;     // that is made, or replayed
    struct gdb_registers registers; // by which a debugger's writes of them are kept; made when one comes
    u64 next_hash, next_drop, next_note;
    u64 owed; // idle time that the guest has had and the host not yet, in ticks: less than a millisecond
    struct {
        u64 n, shown; // all, and those told in full
        u64 pc;       // of the one told last, linear
        const char *cause;
    } shutdown;
    struct debug *debug; // NULL: nobody may command it
    int signal;          // of the host, that ended the run
    struct {
        u64 retired, units;
    } slow; // the instruction under way, and when it began: for --stop-after
    struct {
        bool is;
        u64 retired, units;
    } limit_met; // and somebody who is there let the machine go on
};

static struct session *current; // one a process: this is the program, not the library

// One line, whatever a file's name holds.
static int complain(const char *why, int status)
{
    fputs("matryoshka: ", stderr);
    plain_put(stderr, why);
    fputc('\n', stderr);
    return status;
}

static void to_stdout(void *opaque, const u8 *bytes, u32 n)
{
    if (journal_again(&current->journal)) return; // a debugger has gone back: it was written then
    terminal_write(&current->terminal, bytes, n);
    if (current->terminal.quit || current->terminal.gone) machine_ask_stop(current->m);
}
static void to_file(void *opaque, const u8 *bytes, u32 n)
{
    if (journal_again(&current->journal)) return;
    fwrite(bytes, 1, n, opaque);
    fflush(opaque);
}

// A stack that overflows ends as a bug of ours does; one that is too small is the host's.
static bool stack_suffices(char *why, size_t n)
{
    struct rlimit r;
    const rlim_t needed = 128 << 10;
    if (getrlimit(RLIMIT_STACK, &r) != 0 || r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= needed) return true;
    snprintf(why, n, "the host allows a stack of %u KiB (ulimit -s), and %u are needed",
             (unsigned)(r.rlim_cur >> 10), (unsigned)(needed >> 10));
    return false;
}

static double host_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// The serial line that standard input belongs to.
static unsigned input_line(const struct session *s) { return s->o.serial[1] == SERIAL_STDIO ? 1 : 0; }

static bool serial_input(const struct session *s) { return s->o.serial[input_line(s)] == SERIAL_STDIO; }

// Bytes from standard input go to their serial line. Waits up to `ms` milliseconds for them. Returns whether
// some came.
static bool take_input(struct session *s, int ms)
{
    struct terminal *t = &s->terminal;
    u8 buf[256];
    unsigned all = 0, line = input_line(s);
    terminal_poll(t, ms);
    if (t->quit) machine_ask_stop(s->m);
    if (!serial_input(s)) return false;
    if (s->debug && !journal_live(&s->journal))
        return false; // in its past nothing is taken: it waits for the present
    for (;;) {
        u32 room = uart_input_room(&s->m->uart[line]);
        unsigned n = terminal_take(t, buf, room < sizeof buf ? room : sizeof buf);
        if (!n) break;
        all += n;
        journal_serial(&s->journal, line, buf, n);
    }
    journal_input_open(&s->journal, terminal_open_ended(t) ? 1u << line : 0);
    return all != 0;
}

// Idle: while input may still come - somebody is at the keyboard, or holds the other end of a pipe -, virtual
// time passes no faster than the host's, which is waited for. Else nobody is there to wait for, and idle time
// is skipped.
static u64 idle(void *opaque, u64 ticks)
{
    struct session *s = opaque;
    const u64 per_ms = CPU_TSC_HZ / 1000, longest = 50 * per_ms;
    if (!serial_input(s) || !terminal_waits(&s->terminal)) return take_input(s, 0) ? 0 : ticks;
    u64 want = s->owed + ticks;
    if (want < ticks) want = UINT64_MAX;
    if (want < per_ms) { // too short for the host: waited for together with the next ones
        s->owed = want;
        return ticks;
    }
    double before = host_seconds();
    take_input(s, (int)((want < longest ? want : longest) / per_ms));
    u64 passed = (u64)((host_seconds() - before) * (double)CPU_TSC_HZ),
        debt = s->owed < passed ? s->owed : passed;
    s->owed -= debt;
    passed -= debt;
    return passed < ticks ? passed : ticks;
}

static bool load(struct session *s, char *why, size_t n)
{
    struct machine *m = s->m;
    machine_reset(m);
    if (!s->o.kernel) {
        snprintf(
            why, n,
            "the guest wants to start again, and there is nothing to start: give the kernel beside -loadvm");
        return false;
    }
    // clang-format off
    struct load_request r = {.phys = &m->phys, .cpu = m->cpu[0], .files = &s->files, .initrd = s->o.initrd, .append = s->o.append,
                             .acpi = m->acpi, .e820_n = m->e820_n, .why = why, .why_size = n};
    // clang-format on
    memcpy(r.e820, m->e820, sizeof r.e820);
    const char *outer = phys_writer_begin(&m->phys, "the loader");
    const char *kind = load_kernel(&r);
    phys_writer_end(&m->phys, outer);
    if (kind && s->o.stats) fprintf(stderr, "matryoshka: %s: %s\n", s->o.kernel, kind);
    return kind != NULL;
}

static u64 retired(const struct session *s) { return journal_retired(&s->journal); }

// After a reset. It counts as an instruction, so that a limit ends a loop of resets that get nowhere.
static bool reload(struct session *s, char *why, size_t n)
{
    u64 units = machine_units(s->m), counted = machine_retired(s->m), vtime = watch_vtime(&s->watch);
    if (!load(s, why, n)) return false;
    journal_restarted(&s->journal, units, counted);
    watch_restarted(&s->watch, vtime);
    return true;
}

static void print_hash(struct session *s)
{
    u64 h = state_hash(&s->hash, s->m);
    fprintf(stderr, "hash retired=%" PRIu64 " %016" PRIx64 "\n", retired(s), h);
}

static void put_part(void *opaque, const char *name, u64 hash)
{
    fprintf(opaque, "state %s %016" PRIx64 "\n", name, hash);
}

static struct summary summary(const struct session *s)
{
    return (struct summary){s->m, &s->symbols, s->last.room ? &s->last : NULL,
                            s->before.again ? &s->before : NULL, retired(s)};
}

// With --last-events an end that nobody wished for is told of.
static bool told_end(const struct session *s, int status)
{
    const int good = 1; // of a guest: isa-debug-exit with the value 0
    bool bad = status == STATUS_LIMIT || status == STATUS_DEAD || s->signal || (status & 1 && status != good);
    return s->last.room && bad;
}

// A kernel that faults on its way up does so again after every reset: the first one is told in full, the same
// one again is counted.
static void tell_shutdown(struct session *s)
{
    const struct vcpu *v = s->m->cpu[s->m->request.cpu];
    u64 pc = v->s.seg[SEG_CS].base + v->s.rip;
    const char *cause = s->m->request.why;
    bool again = s->shutdown.n++ && pc == s->shutdown.pc && strcmp(cause, s->shutdown.cause) == 0;
    if (!again && s->shutdown.shown < 10) {
        s->shutdown.shown++;
        fprintf(stderr, "matryoshka: shutdown (%s) at instruction %" PRIu64 "; the state before the reset:\n",
                cause, cpu_retired(v));
        if (s->o.kernel) symbols_add_kernel(&s->symbols, s->o.kernel);
        if (s->last.room) debug_retrace(s->debug, &s->before);
        struct summary what = summary(s);
        if (s->last.room)
            summary_tell(stderr, &what);
        else {
            log_registers(stderr, s->m);
            summary_levels(stderr, &what, s->m->request.cpu);
            summary_again(stderr, &what);
        }
    }
    s->shutdown.pc = pc, s->shutdown.cause = cause;
    if (s->shutdown.n == 2)
        fprintf(stderr,
                "matryoshka: shutdown again%s; from here on %s are counted, and told at the end (-no-reboot "
                "ends at the first)\n",
                again ? ", at the same place" : "", again ? "these" : "those at the same place");
}

// --stop-after, or no limit where it has been met. A debugger that goes back before that meets it again.
static u64 limit_ahead(struct session *s)
{
    u64 now = retired(s), units = journal_units(&s->journal), limit = s->o.stop_after;
    bool within = s->limit_met.retired < limit; // an instruction, which its count does not tell
    if (now < s->limit_met.retired || (within && units < s->limit_met.units)) s->limit_met.is = false;
    return s->limit_met.is ? UINT64_MAX : limit;
}

static bool limit_reached(struct session *s)
{
    u64 now = retired(s), units = journal_units(&s->journal), limit = limit_ahead(s);
    if (limit == UINT64_MAX) return false;
    if (now != s->slow.retired || units < s->slow.units) s->slow.retired = now, s->slow.units = units;
    if (now >= limit) return true;
    // A REP is one instruction, however long it takes: it may take as much time as all the others together.
    if (units - s->slow.units <= (limit > 1 << 24 ? limit : 1 << 24)) return false;
    fprintf(stderr,
            "matryoshka: --stop-after: one instruction, a REP, has taken the time of %" PRIu64
            "; this is within it\n",
            units - s->slow.units);
    return true;
}

// After a reset in the past that a debugger went back to.
static bool load_again(void *opaque)
{
    char why[512];
    return load(opaque, why, sizeof why);
}

// Whether whoever waits is to give up.
static bool wanted_over(void *opaque)
{
    struct session *s = opaque;
    terminal_poll(&s->terminal, 0);
    return signals_end || s->terminal.quit || s->terminal.gone;
}

// Of a debugger, now or in the run that is replayed.
static bool put_register(void *opaque, const struct journal_event *e)
{
    struct session *s = opaque;
    if (!s->registers.n && !gdb_registers_make(&s->registers, s->m->cpu[0])) return false;
    return gdb_register_put(&s->registers, s->m->cpu[e->line], e);
}

// Of the run that is recorded or replayed: a hash at each of the same instants. False: it is another run.
static bool note(struct session *s, char *why, size_t n)
{
    u64 now = retired(s);
    if (s->o.record && journal_live(&s->journal) && recording_forget(&s->recording, now))
        s->next_note = now - now % RECORDING_HASH_EVERY + RECORDING_HASH_EVERY;
    if (now < s->next_note) return true;
    s->next_note = now - now % RECORDING_HASH_EVERY + RECORDING_HASH_EVERY;
    u64 hash = state_hash(&s->hash, s->m);
    if (s->o.replay) return recording_agrees(&s->recording, now, hash, why, n);
    recording_note(&s->recording, now, hash);
    return true;
}

// A replay has come to where the recorded run was stopped. One that its guest ended ends by itself.
static bool replayed(const struct session *s)
{
    return s->o.replay && retired(s) >= s->recording.end.retired && journal_live(&s->journal);
}

// Runs until an end. Returns the exit status.
static int run(struct session *s)
{
    struct machine *m = s->m;
    char why[512];
    enum machine_end end = MACHINE_RUN;
    if (s->debug && !debug_attend(s->debug, &end)) return STATUS_POWER_OFF;
    for (;;) {
        take_input(s, 0);
        s->signal = signals_end ? signals_end : s->terminal.gone ? SIGPIPE : 0;
        if (s->signal) return 128 + s->signal;
        if (s->terminal.quit) return STATUS_POWER_OFF;
        u64 now = retired(s), until = limit_ahead(s);
        if (s->o.hash_every && s->next_hash < until) until = s->next_hash;
        if (s->o.drop_every && s->next_drop < until) until = s->next_drop;
        if (s->o.record || s->o.replay) until = s->next_note < until ? s->next_note : until;
        if (s->o.replay && s->recording.end.retired < until) until = s->recording.end.retired;
        u64 slice = until - now < 2000000 ? until - now : 2000000;
        if (s->o.report) {
            u64 due = report_sample(&s->report, journal_units(&s->journal));
            if (due < slice) slice = due;
        }
        if (!slice && s->o.replay) slice = 1; // it was stopped in a sleep: to there
        end = journal_run(&s->journal, slice);
        // before anything is changed by hand, which a replay does when it goes on
        if ((s->o.record || s->o.replay) && !note(s, why, sizeof why)) return complain(why, STATUS_DIVERGED);
        if (s->debug && !debug_attend(s->debug, &end)) return STATUS_POWER_OFF;
        switch (end) {
        case MACHINE_RUN:
        case MACHINE_STOPPED: break;
        case MACHINE_POWER_OFF: return STATUS_POWER_OFF;
        case MACHINE_EXIT: return (int)(m->request.status & 0xFF);
        case MACHINE_IDLE:
            machine_asleep(m, why, sizeof why);
            fprintf(stderr, "matryoshka: %s halted and nothing can wake %s: %s\n",
                    m->cpus_n > 1 ? "all processors are" : "the processor is", m->cpus_n > 1 ? "them" : "it",
                    why);
            if (!s->last.room) log_registers(stderr, m); // else tell_end has them
            return STATUS_DEAD;
        case MACHINE_SHUTDOWN:
            tell_shutdown(s);
            if (s->o.no_reboot) return STATUS_TRIPLE_FAULT;
            if (!reload(s, why, sizeof why)) goto bad_image;
            break;
        case MACHINE_RESET:
            if (s->o.no_reboot) return STATUS_RESET;
            if (!reload(s, why, sizeof why)) goto bad_image;
            break;
        }
        now = retired(s);
        if (s->o.drop_every && now >= s->next_drop) {
            for (unsigned i = 0; i < m->cpus_n; i++) cpu_drop_derived(m->cpu[i]);
            s->next_drop = now + s->o.drop_every;
        }
        if (s->o.hash_every && now >= s->next_hash) {
            print_hash(s);
            s->next_hash = now + s->o.hash_every;
        }
        if (limit_reached(s)) {
            if (!debug_holds(s->debug, "The run has come to --stop-after.")) return STATUS_LIMIT;
            s->limit_met.is = true;
            s->limit_met.retired = retired(s), s->limit_met.units = journal_units(&s->journal);
            if (!debug_attend(s->debug, &end)) return STATUS_LIMIT;
        }
        if (replayed(s)) return (int)s->recording.end.status;
    }
bad_image:
    return complain(why, STATUS_BAD_IMAGE);
}

// Where the bytes of a line go.
static bool open_line(enum serial_kind kind, const char *path, bool append, struct chardev *c, FILE **file)
{
    if (kind == SERIAL_STDIO) *c = (struct chardev){to_stdout, NULL};
    if (kind != SERIAL_FILE) return true;
    *file = fopen(path, append ? "ab" : "wb");
    if (*file) {
        *c = (struct chardev){to_file, *file};
        return true;
    }
    char why[512];
    snprintf(why, sizeof why, "cannot write %s: %s", path, strerror(errno));
    complain(why, STATUS_HOST);
    return false;
}

static int open_lines(struct session *s, struct machine_config *c)
{
    for (unsigned i = 0; i < MACHINE_SERIAL; i++)
        if (!open_line(s->o.serial[i], s->o.serial_file[i], s->o.serial_append[i], &c->serial[i],
                       &s->serial_file[i]))
            return STATUS_HOST;
    for (unsigned i = 0; i < s->o.lines; i++) {
        const struct device_line *d = &s->o.line[i];
        struct chardev *chr = &c->device[d->device].value[d->property].chr;
        if (!open_line(d->kind, d->file, d->append, chr, &s->line_file[i])) return STATUS_HOST;
    }
    return 0;
}

// False if not all of it could be written.
static bool close_line(FILE *file, const char *path)
{
    if (!file) return true;
    bool lost = ferror(file);
    if (fclose(file) != 0) lost = true;
    if (!lost) return true;
    char why[512];
    snprintf(why, sizeof why, "the serial output in %s is not whole: it could not be written to its end",
             path);
    complain(why, STATUS_HOST);
    return false;
}

// -no-shutdown: what would be an end is a standstill, until the user ends it.
static int stand_still(struct session *s, int status)
{
    fprintf(stderr, "matryoshka: the machine stands still (-no-shutdown)%s\n",
            s->terminal.is_tty ? "; Ctrl-A x ends it" : "");
    while (!signals_end && !s->terminal.quit) terminal_poll(&s->terminal, 50);
    s->signal = signals_end;
    return s->signal ? 128 + s->signal : status;
}

// The recording is written, or the replay compared with it.
static int end_recording(struct session *s, int argc, char **argv, int status)
{
    char why[512];
    struct recording *r = &s->recording;
    u64 hash = state_hash(&s->hash, s->m), now = retired(s);
    if (s->o.record) {
        r->end = (struct recording_end){.retired = now,
                                        .units = journal_units(&s->journal),
                                        .idles = s->journal.at.idles,
                                        .hash = hash,
                                        .status = (u32)status};
        if (!recording_write(r, &s->journal, &s->files, argc, argv, s->o.embed, s->o.record, why, sizeof why))
            return complain(why, STATUS_HOST);
        return status;
    }
    bool short_of_it = status == STATUS_LIMIT && now < r->end.retired; // a --stop-after of now
    if (status == STATUS_DIVERGED || short_of_it || s->signal || s->terminal.quit) return status;
    if (!recording_ends_so(r, now, hash, status, why, sizeof why)) return complain(why, STATUS_DIVERGED);
    fprintf(stderr,
            "matryoshka: -replay: the same run to its end, %" PRIu64 " instructions, hash %016" PRIx64 "\n",
            now, hash);
    return status;
}

// What is written at the end can be written: told before a long run, not behind it.
static bool end_possible(const struct session *s, char *why, size_t n)
{
    char reason[400];
    const char *const option[] = {"-record", "--savevm"}, *const path[] = {s->o.record, s->o.savevm};
    for (unsigned i = 0; i < 2; i++)
        if (path[i] && !container_possible(path[i], reason, sizeof reason)) {
            snprintf(why, n, "%s: %s", option[i], reason);
            return false;
        }
    return true;
}

static int save(struct session *s, int status)
{
    char why[512];
    if (state_file_save(&s->journal, s->o.savevm, why, sizeof why)) return status;
    char line[640];
    snprintf(line, sizeof line, "--savevm: nothing is saved: %s", why);
    return complain(line, STATUS_HOST);
}

// What a -replay on the command line names comes first: it holds a command line of its own.
static bool open_replay(struct session *s, const char *path, int *argc, char ***argv, char *why, size_t n)
{
    if (!recording_read(&s->recording, path, why, n)) return false;
    *argv = recording_words(&s->recording, *argc, *argv, argc);
    if (*argv && recording_images(&s->recording, &s->files)) return true;
    snprintf(why, n, "no memory for the recording");
    return false;
}

static bool begin_replay(struct session *s, char *why, size_t n)
{
    const struct recording *r = &s->recording;
    if (!recording_images_fit(r, &s->files, why, n)) return false;
    if (journal_load(&s->journal, r->event, r->events, r->end.units, r->end.idles)) return true;
    snprintf(why, n, "-replay: the recording's events cannot be");
    return false;
}

static bool open_traces(struct session *s, char *why, size_t n)
{
    if ((s->o.traces || s->o.report || s->o.last_events) && s->o.kernel)
        symbols_add_kernel(&s->symbols, s->o.kernel);
    for (unsigned i = 0; i < s->o.traces; i++)
        if (!trace_file_open(&s->trace[i], s->o.trace[i], &s->o.trace_filter, &s->watch, &s->symbols, why, n))
            return false;
    if (s->o.last_events && !last_events_keep(&s->last, (unsigned)s->o.last_events, &s->watch))
        return snprintf(why, n, "the host has no memory for --last-events"), false;
    return !s->o.report || report_open(&s->report, s->o.report, s->m, &s->watch, &s->symbols, why, n);
}

static int close_traces(struct session *s, int argc, char **argv, int status)
{
    if (s->o.report && !report_close(&s->report, retired(s), argc, argv)) {
        char why[512];
        snprintf(why, sizeof why, "the report %s is not whole: it could not be written to its end",
                 s->o.report);
        status = complain(why, STATUS_HOST);
    }
    for (unsigned i = 0; i < s->o.traces; i++) {
        if (trace_file_close(&s->trace[i], &s->watch)) continue;
        char why[512];
        snprintf(why, sizeof why, "the trace %s is not whole: it could not be written to its end",
                 s->o.trace[i]);
        status = complain(why, STATUS_HOST);
    }
    last_events_free(&s->last);
    watch_free(&s->watch);
    return status;
}

int main(int argc, char **argv)
{
    static struct session session;
    struct session *s = &session;
    char why[512];
    const char *line;
    current = s;
    signals_descriptors();
    signals_bugs();
    if (argc > 1 && strcmp(argv[1], "vmcs-lint") == 0) return lint_main(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "lecture") == 0) return lecture_main(argc - 1, argv + 1);
    terminal_init(&s->terminal, &signals_end);
    if (!stack_suffices(why, sizeof why)) return complain(why, STATUS_HOST);
    const char *replay = recording_named(argc, argv);
    if (replay && !open_replay(s, replay, &argc, &argv, why, sizeof why))
        return complain(why, STATUS_BAD_IMAGE);
    if (!options_parse(&s->o, argc, argv, why, sizeof why)) return complain(why, STATUS_USAGE);
    s->o.replay = replay;
    if (s->o.tell) {
        if (options_print(&s->o, stdout)) return 0;
        snprintf(why, sizeof why, "cannot write to standard output: %s", strerror(errno));
        return complain(why, STATUS_HOST);
    }
    if (replay && !recording_start_fits(&s->recording, s->o.loadvm, why, sizeof why))
        return complain(why, STATUS_BAD_IMAGE);
    if (s->o.kernel && !s->files.kernel.data &&
        !load_open(&s->files, s->o.kernel, s->o.memory, why, sizeof why))
        return complain(why, STATUS_BAD_IMAGE);
    if (!end_possible(s, why, sizeof why)) return complain(why, STATUS_HOST);
    struct machine_config c = {0};
    options_configure(&s->o, &c);
    int status = open_lines(s, &c);
    if (status) return status;
    s->m = calloc(1, sizeof *s->m);
    if (!s->m || !machine_init(s->m, &c, &line))
        return complain(s->m ? line : "the host has no memory for the machine", STATUS_HOST);
    if (s->o.tlb != TLB_NORMAL && !phys_tables_begin(&s->m->phys))
        return complain("the host has no memory for -tlb strict or lazy", STATUS_HOST);
    for (unsigned i = 0; s->o.tlb && i < s->m->cpus_n; i++) cpu_set_tlb(s->m->cpu[i], s->o.tlb);
    for (unsigned i = 0; s->o.loop_engine && i < s->m->cpus_n; i++) s->m->cpu[i]->loop_engine = true;
    for (unsigned i = 0; i < s->o.symbols_n; i++)
        if (!symbols_add(&s->symbols, s->o.symbols[i], why, sizeof why))
            return complain(why, STATUS_BAD_IMAGE);
    if (!log_open(&s->log, &s->o, s->m, &s->symbols, why, sizeof why)) return complain(why, STATUS_HOST);
    journal_begin(&s->journal, s->m);
    s->log.trace.again = &s->journal.again;
    watch_begin(&s->watch, &s->journal);
    if (!open_traces(s, why, sizeof why)) return complain(why, STATUS_HOST);
    watch_listen(&s->watch, &s->log.trace);
    if (s->o.loadvm) {
        machine_reset(s->m);
        bool loaded = s->o.record || replay ? recording_load_saved(&s->recording, &s->journal, s->o.loadvm,
                                                                   s->o.embed, replay, why, sizeof why)
                                            : state_file_load(&s->journal, s->o.loadvm, why, sizeof why);
        if (!loaded) return complain(why, STATUS_BAD_IMAGE);
    } else if (!load(s, why, sizeof why))
        return complain(why, STATUS_BAD_IMAGE);
    if (replay && !begin_replay(s, why, sizeof why)) return complain(why, STATUS_BAD_IMAGE);
    s->journal.keeps = s->o.record;
    s->journal.idle = idle;
    s->journal.idle_opaque = s;
    s->journal.put_register = put_register;
    s->journal.register_opaque = s;
    signals_catch(s->m, &s->terminal);
    bool alone = options_monitor_stdio(&s->o) && isatty(0);
    if (serial_input(s) || alone) terminal_open(&s->terminal);
    struct debug_config d = {&s->o,        &s->journal, &s->symbols, s->last.room ? &s->last : NULL,
                             &s->terminal, load_again,  wanted_over, s};
    bool debugged = s->o.gdb || s->o.monitors || s->terminal.is_tty || s->o.last_events;
    if (debugged && !(s->debug = debug_open(&d, why, sizeof why))) {
        terminal_close(&s->terminal);
        return complain(why, STATUS_HOST);
    }
    // Behind what another run may have already: its file is left alone then, too.
    if (s->o.pid_file && !pid_file_write(s->o.pid_file, why, sizeof why)) {
        debug_close(s->debug, STATUS_HOST);
        terminal_close(&s->terminal);
        return complain(why, STATUS_HOST);
    }
    if (s->o.history_given && !debugged)
        complain(
            "-history: nothing is kept, for nobody could go back: it is for -gdb, -monitor, a terminal or "
            "--last-events",
            0);
    if (s->terminal.is_tty || s->debug) signals_look_often();
    u64 begun = retired(s), every = s->o.hash_every ? s->o.hash_every : 1;
    s->next_hash =
        begun - begun % every + every; // a saved machine's hashes are at the counts of the whole run
    s->next_drop = begun + s->o.drop_every;
    s->next_note = begun - begun % RECORDING_HASH_EVERY + RECORDING_HASH_EVERY;

    double start = host_seconds();
    status = run(s);
    bool ended = status == STATUS_POWER_OFF || status == STATUS_RESET || status == STATUS_TRIPLE_FAULT;
    if (s->o.record || replay) status = end_recording(s, argc, argv, status);
    if (s->o.savevm) status = save(s, status);
    if (s->o.no_shutdown && ended && !s->terminal.quit && s->m->request.what != MACHINE_EXIT)
        status = stand_still(s, status);
    bool tell = told_end(s, status);
    if (tell) debug_retrace(s->debug, &s->before);
    debug_close(s->debug, status);
    terminal_close(&s->terminal);
    struct summary what = summary(s);
    if (tell) summary_tell(stderr, &what);
    if (s->shutdown.n > s->shutdown.shown)
        fprintf(stderr, "matryoshka: %" PRIu64 " shutdowns in all\n", s->shutdown.n);
    if (s->o.hash_every || s->o.state) print_hash(s);
    if (s->o.state) {
        log_registers(stderr, s->m);
        state_hash_parts(&s->hash, s->m, put_part, stderr);
    }
    if (s->o.stats) log_statistics(stderr, s->m, host_seconds() - start);
    status = close_traces(s, argc, argv, status);
    if (!log_close(&s->log)) {
        snprintf(why, sizeof why, "the log %s is not whole: it could not be written to its end",
                 s->o.log_file);
        status = complain(why, STATUS_HOST);
    }
    if (!s->log.explained) {
        snprintf(why, sizeof why, "%s is not whole: it could not be written to its end", s->o.explain_file);
        status = complain(why, STATUS_HOST);
    }
    for (unsigned i = 0; i < MACHINE_SERIAL; i++)
        if (!close_line(s->serial_file[i], s->o.serial_file[i])) status = STATUS_HOST;
    for (unsigned i = 0; i < s->o.lines; i++)
        if (!close_line(s->line_file[i], s->o.line[i].file)) status = STATUS_HOST;
    if (s->terminal.lost) {
        snprintf(why, sizeof why, "what the guest wrote to standard output is not whole: %s",
                 strerror(s->terminal.lost));
        status = complain(why, STATUS_HOST);
    }
    if (s->signal) status = 128 + s->signal; // which may be why output is not whole
    signals_machine_gone();
    symbols_free(&s->symbols);
    state_hash_free(&s->hash);
    recording_free(&s->recording);
    gdb_registers_free(&s->registers);
    journal_free(&s->journal);
    machine_free(s->m);
    free(s->m);
    load_close(&s->files);
    return status;
}

// The command line: makes a machine of the options, loads, runs, and says how it ended.
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "devices/machine.h"
#include "devices/state_hash.h"
#include "frontend/load.h"
#include "frontend/log.h"
#include "frontend/options.h"
#include "frontend/pid_file.h"
#include "frontend/terminal.h"

struct session {
    struct options o;
    struct machine *m;
    struct terminal terminal;
    bool interactive;
    FILE *serial_file[MACHINE_SERIAL], *line_file[MACHINE_DEVICES_MAX];
    struct load_files files;
    struct log log;
    struct state_hash hash;
    u64 next_hash, next_drop;
    u64 before; // instructions retired before the last reset, which counts from 0 again
};

static volatile sig_atomic_t interrupted; // by a signal of the host
static struct machine *volatile machine_in_use;
static void on_signal(int n)
{
    interrupted = n;
    if (machine_in_use) machine_ask_stop(machine_in_use);
}

// A bug of our own: panic() aborts, or the processor of the host stops us. The terminal is as before and the status is EXIT_BUG;
// where core files are on, a copy of the process leaves one with this stack.
static struct terminal *terminal_in_use;

static void on_bug(int n)
{
    static const char text[] = "matryoshka: bug: a signal of the host's processor\n";
    struct rlimit core;
    if (n != SIGABRT && write(2, text, sizeof text - 1) < 0) n = SIGABRT;
    if (terminal_in_use) terminal_close(terminal_in_use);
    if (getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur > 0 && fork() == 0) {
        signal(SIGABRT, SIG_DFL);
        abort();
    }
    _exit(EXIT_BUG);
}

static void catch_bugs(void)
{
    static u8 stack[65536]; // a stack that has overflowed holds no handler
    static const int bug[] = {
        SIGABRT,
#ifndef __SANITIZE_ADDRESS__ // which explains the others itself
        SIGSEGV, SIGBUS, SIGFPE, SIGILL,
#endif
    };
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, NULL);
    struct sigaction a = {.sa_handler = on_bug, .sa_flags = SA_ONSTACK | SA_RESETHAND};
    for (unsigned i = 0; i < ARRAY_LEN(bug); i++) sigaction(bug[i], &a, NULL);
}

// One line, whatever a file's name holds.
static int complain(const char *why, int status)
{
    fputs("matryoshka: ", stderr);
    for (; *why; why++) fputc((u8)*why < ' ' || *why == 127 ? '?' : *why, stderr);
    fputc('\n', stderr);
    return status;
}

static void to_stdout(void *opaque, const u8 *bytes, u32 n) { terminal_write(bytes, n); }
static void to_file(void *opaque, const u8 *bytes, u32 n)
{
    fwrite(bytes, 1, n, opaque);
    fflush(opaque);
}

static double host_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// Bytes that wait on standard input go to COM1.
static void take_input(struct session *s, int ms)
{
    u8 buf[64];
    u32 room = uart_input_room(&s->m->uart[0]);
    if (!room) return;
    unsigned n = terminal_read(&s->terminal, buf, room < sizeof buf ? room : sizeof buf, ms);
    if (n) machine_serial_input(s->m, 0, buf, n);
}

// Idle: with somebody at the keyboard, virtual time passes no faster than the host's.
static u64 idle(void *opaque, u64 ticks)
{
    struct session *s = opaque;
    if (!s->interactive) return ticks;
    const u64 per_ms = CPU_TSC_HZ / 1000;
    u64 ms = ticks / per_ms;
    if (ms > 50) ms = 50, ticks = 50 * per_ms;
    if (ms == 0) return ticks;
    double before = host_seconds();
    take_input(s, (int)ms);
    u64 passed = (u64)((host_seconds() - before) * (double)CPU_TSC_HZ);
    return passed < ticks ? passed : ticks;
}

static bool load(struct session *s, char *why, size_t n)
{
    struct machine *m = s->m;
    machine_reset(m);
    struct load_request r = {.phys = &m->phys, .cpu = m->cpu[0], .files = &s->files, .initrd = s->o.initrd, .append = s->o.append,
                             .acpi = m->acpi, .e820_n = m->e820_n, .why = why, .why_size = n};
    memcpy(r.e820, m->e820, sizeof r.e820);
    const char *kind = load_kernel(&r);
    if (kind && s->o.stats) fprintf(stderr, "matryoshka: %s: %s\n", s->o.kernel, kind);
    return kind != NULL;
}

static u64 retired(const struct session *s) { return s->before + cpu_retired(s->m->cpu[0]); }

// After a reset. It counts as an instruction, so that a limit ends a loop of resets that get nowhere.
static bool reload(struct session *s, char *why, size_t n)
{
    s->before = retired(s) + 1;
    return load(s, why, n);
}

static void print_hash(struct session *s)
{
    u64 h = state_hash(&s->hash, s->m);
    fprintf(stderr, "hash retired=%" PRIu64 " %016" PRIx64 "\n", retired(s), h);
}

static void put_part(void *opaque, const char *name, u64 hash) { fprintf(opaque, "state %s %016" PRIx64 "\n", name, hash); }

// Runs until an end. Returns the exit status.
static int run(struct session *s)
{
    struct machine *m = s->m;
    struct vcpu *v = m->cpu[0];
    char why[512];
    for (;;) {
        if (interrupted) return 128 + interrupted;
        if (s->interactive) {
            take_input(s, 0);
            if (s->terminal.quit) return EXIT_POWER_OFF;
        } else if (s->o.serial[0] == SERIAL_STDIO)
            take_input(s, 0);
        u64 now = retired(s), until = s->o.stop_after;
        if (s->o.hash_every && s->next_hash < until) until = s->next_hash;
        if (s->o.drop_every && s->next_drop < until) until = s->next_drop;
        u64 slice = until - now < 2000000 ? until - now : 2000000;
        switch (machine_run(m, slice)) {
        case MACHINE_RUN:
        case MACHINE_STOPPED: break;
        case MACHINE_POWER_OFF: return EXIT_POWER_OFF;
        case MACHINE_EXIT: return (int)(m->request.status & 0xFF);
        case MACHINE_IDLE:
            if (s->interactive && !s->terminal.eof) {
                take_input(s, 50);
                break;
            }
            machine_asleep(m, why, sizeof why);
            fprintf(stderr, "matryoshka: the processor is halted and nothing can wake it: %s\n", why);
            log_registers(stderr, v);
            return EXIT_DEAD;
        case MACHINE_SHUTDOWN:
            fprintf(stderr, "matryoshka: shutdown (%s) at instruction %" PRIu64 "; the state before the reset:\n", m->request.why, cpu_retired(v));
            log_registers(stderr, v);
            if (s->o.no_reboot) return EXIT_TRIPLE_FAULT;
            if (!reload(s, why, sizeof why)) goto bad_image;
            break;
        case MACHINE_RESET:
            if (s->o.no_reboot) return EXIT_RESET;
            if (!reload(s, why, sizeof why)) goto bad_image;
            break;
        }
        now = retired(s);
        if (s->o.drop_every && now >= s->next_drop) {
            cpu_drop_derived(v);
            s->next_drop = now + s->o.drop_every;
        }
        if (s->o.hash_every && now >= s->next_hash) {
            print_hash(s);
            s->next_hash = now + s->o.hash_every;
        }
        if (now >= s->o.stop_after) return EXIT_LIMIT;
    }
bad_image:
    return complain(why, EXIT_BAD_IMAGE);
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
    complain(why, EXIT_HOST);
    return false;
}

static int open_lines(struct session *s, struct machine_config *c)
{
    for (unsigned i = 0; i < MACHINE_SERIAL; i++)
        if (!open_line(s->o.serial[i], s->o.serial_file[i], s->o.serial_append[i], &c->serial[i], &s->serial_file[i])) return EXIT_HOST;
    for (unsigned i = 0; i < s->o.lines; i++) {
        const struct device_line *d = &s->o.line[i];
        struct chardev *chr = &c->device[d->device].value[d->property].chr;
        if (!open_line(d->kind, d->file, d->append, chr, &s->line_file[i])) return EXIT_HOST;
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
    snprintf(why, sizeof why, "the serial output in %s is not whole: it could not be written to its end", path);
    complain(why, EXIT_HOST);
    return false;
}

// -no-shutdown: what would be an end is a standstill, until the user ends it.
static int stand_still(struct session *s, int status)
{
    fprintf(stderr, "matryoshka: the machine stands still (-no-shutdown)%s\n", s->interactive ? "; Ctrl-A x ends it" : "");
    while (!interrupted && !s->terminal.quit) {
        u8 lost[64];
        if (s->interactive && !s->terminal.eof)
            terminal_read(&s->terminal, lost, sizeof lost, 100);
        else
            poll(NULL, 0, 100);
    }
    return interrupted ? 128 + interrupted : status;
}

int main(int argc, char **argv)
{
    static struct session session; // one a process: this is the program, not the library
    struct session *s = &session;
    char why[512];
    const char *line;
    catch_bugs();
    if (!options_parse(&s->o, argc, argv, why, sizeof why)) return complain(why, EXIT_USAGE);
    if (s->o.tell) {
        if (options_print(&s->o, stdout)) return 0;
        snprintf(why, sizeof why, "cannot write to standard output: %s", strerror(errno));
        return complain(why, EXIT_HOST);
    }
    if (!load_open(&s->files, s->o.kernel, s->o.memory, why, sizeof why)) return complain(why, EXIT_BAD_IMAGE);
    struct machine_config c = {0};
    options_configure(&s->o, &c);
    int status = open_lines(s, &c);
    if (status) return status;
    s->m = calloc(1, sizeof *s->m);
    if (!s->m || !machine_init(s->m, &c, &line)) return complain(s->m ? line : "the host has no memory for the machine", EXIT_HOST);
    if (s->o.loop_engine) s->m->cpu[0]->loop_engine = true;
    if (!log_open(&s->log, &s->o, s->m->cpu[0], why, sizeof why)) return complain(why, EXIT_HOST);
    if (!load(s, why, sizeof why)) return complain(why, EXIT_BAD_IMAGE);
    if (s->o.pid_file && !pid_file_write(s->o.pid_file, why, sizeof why)) return complain(why, EXIT_HOST);
    if (s->o.serial[0] == SERIAL_STDIO) {
        terminal_open(&s->terminal);
        s->interactive = s->terminal.is_tty;
        terminal_in_use = &s->terminal;
    }
    s->m->idle = idle;
    s->m->idle_opaque = s;
    machine_in_use = s->m;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    s->next_hash = s->o.hash_every;
    s->next_drop = s->o.drop_every;

    double start = host_seconds();
    status = run(s);
    bool ended = status == EXIT_POWER_OFF || status == EXIT_RESET || status == EXIT_TRIPLE_FAULT;
    if (s->o.no_shutdown && ended && !s->terminal.quit && s->m->request.what != MACHINE_EXIT) status = stand_still(s, status);
    terminal_close(&s->terminal);
    if (s->o.hash_every || s->o.state) print_hash(s);
    if (s->o.state) {
        log_registers(stderr, s->m->cpu[0]);
        state_hash_parts(&s->hash, s->m, put_part, stderr);
    }
    if (s->o.stats) log_statistics(stderr, s->m->cpu[0], host_seconds() - start);
    if (!log_close(&s->log)) {
        snprintf(why, sizeof why, "the log %s is not whole: it could not be written to its end", s->o.log_file);
        status = complain(why, EXIT_HOST);
    }
    for (unsigned i = 0; i < MACHINE_SERIAL; i++)
        if (!close_line(s->serial_file[i], s->o.serial_file[i])) status = EXIT_HOST;
    for (unsigned i = 0; i < s->o.lines; i++)
        if (!close_line(s->line_file[i], s->o.line[i].file)) status = EXIT_HOST;
    machine_in_use = NULL;
    state_hash_free(&s->hash);
    machine_free(s->m);
    free(s->m);
    load_close(&s->files);
    return status;
}

// clang-format off
// Golden runs: the same guest in several engines, compared by state hash.
//
//   golden [--from N] [--entries N] [--to N] [--length N] [--every N] [--jobs N] [--seed N] [--with VARIANTS]
//   --
//          the machine's options
//
// What is compared begins at instruction --from, or when --entries VM entries have been seen (whichever is
// later), and ends at instruction --to or --length instructions later, or with the guest.
//
// VARIANTS (comma-separated; the first is what the others are compared with):
//   threaded   the engine as users get it
//   loop       one instruction at a time through the checked bodies
//   dropped    threaded, all derived state forgotten at random instants
//   sliced     threaded, in slices of random length, so that blocks are cut anywhere
//   reloaded   threaded; twice in each sample, at random instants, all plain state is saved, a new machine is made, the
//              state is loaded into it, and it goes on in the place of the old one (how often is told on stderr)
//   back       threaded, with checkpoints of its past; twice in each sample, at random instants, it goes back to an instant
//              of the last three samples, drawn at random, and comes forward again by running
//   debugged   threaded, with a debugger that sets stops, steps and goes on at random (how often is told on stderr)
//
// From 0 on each variant is a program of its own. A later window is reached once, threaded, and the process
// then splits into the variants: what is compared is the window. The end of a run (how, when, what was
// printed) is compared too. Exit status: 0 all agree; 1 they differ; 2 usage; 3 a run could not be made.
// clang-format on
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/system/stops.h"
#include "devices/machine.h"
#include "devices/history.h"
#include "devices/machine_state.h"
#include "devices/state_hash.h"
#include "frontend/load.h"
#include "frontend/options.h"
#include "tests/rows_run.h"
#include "vmx/control.h"

enum {
    VARIANTS_MAX = 8,
    MEAN_DROP = 20000,
    MEAN_SLICE = 300,
    RELOADS = 2 /* a sample */,
    STOPS = 4,
    VISITS = 8 /* of the debugger, a sample */
};

struct golden {
    struct options o;
    struct machine *m;
    struct load_files files;
    struct state_hash hash;
    u64 from, to, every, seed, random, entries, length;
    u64 printed; // a hash of what the guest sent to its serial ports
    const char *variant[VARIANTS_MAX];
    unsigned variants, jobs;
    struct state_bytes saved;
    struct journal journal; // of the variant that goes back, and its past
    struct history history;
    bool again; // what is printed was printed before
    // in VMX non-root operation, with INTR, with a TSC deadline
    struct {
        unsigned all, guest, interrupt, timer;
    } reloads;
    struct cpu_stops stops; // of the debugger
    struct cpu_stop stop[STOPS];
    struct trace trace;
    unsigned stopped[STOPPED_ENTRY_FAILED + 1], budget; // by why; what it may still do in this sample
    bool ended;
    const char *end; // why the guest ended
};

static void take_serial(void *opaque, const u8 *bytes, u32 n)
{
    struct golden *g = opaque;
    for (u32 i = 0; i < n && !g->again; i++) g->printed = (g->printed ^ bytes[i]) * 0x100000001B3ull;
}

static u64 next_random(struct golden *g)
{
    g->random ^= g->random << 13, g->random ^= g->random >> 7, g->random ^= g->random << 17;
    return g->random;
}

// A machine as the options want it, with nothing in it.
static struct machine *bare_machine(struct golden *g, const char **why)
{
    struct machine_config c = {0};
    options_configure(&g->o, &c);
    c.serial[0] = (struct chardev){take_serial, g};
    struct machine *m = calloc(1, sizeof *m);
    *why = "no memory";
    if (!m || machine_init(m, &c, why)) return m;
    free(m);
    return NULL;
}

static const char *make_machine(struct golden *g)
{
    static char why[512];
    const char *line;
    if (!load_open(&g->files, g->o.kernel, g->o.memory, why, sizeof why)) return why;
    g->m = bare_machine(g, &line);
    if (!g->m) return line;
    machine_reset(g->m);
    struct load_request r = {.phys = &g->m->phys,
                             .cpu = g->m->cpu[0],
                             .files = &g->files,
                             .initrd = g->o.initrd,
                             .append = g->o.append,
                             .acpi = g->m->acpi,
                             .e820_n = g->m->e820_n,
                             .why = why,
                             .why_size = sizeof why};
    memcpy(r.e820, g->m->e820, sizeof r.e820);
    return load_kernel(&r) ? NULL : why;
}

// ---- the debugger ----
static void ask(void *m) { machine_ask_stop(m); }

static void debug_start(struct golden *g)
{
    g->stops = (struct cpu_stops){.list = g->stop, .stopped = ask, .opaque = g->m};
    trace_add(&g->trace, &(struct trace_sink){stops_trace, &g->stops, STOPS_TRACE});
    for (unsigned i = 0; i < g->m->cpus_n; i++)
        g->m->cpu[i]->stops = &g->stops, g->m->cpu[i]->trace = &g->trace;
}

// At a stop: a step, or other stops and on. They lie where the processors are, so that they are met; when its
// budget is used it does nothing more.
static void debug(struct golden *g)
{
    struct machine *m = g->m;
    struct vcpu *v = m->cpu[next_random(g) % 4 ? m->turns.cpu : next_random(g) % m->cpus_n];
    bool step = false;
    g->stopped[g->stops.met.why]++;
    if (g->budget) g->budget--;
    if (!g->budget || next_random(g) % 4 == 0) {
        g->stops.n = 0;
        g->stops.entry = g->stops.entry_failed = false;
        g->stops.exits[0] = 0;
    }
    if (g->budget && next_random(g) % 2)
        step = true;
    else if (g->budget) {
        static const u8 kinds[] = {STOP_ON_CODE, STOP_ON_READ, STOP_ON_WRITE, STOP_ON_READ | STOP_ON_WRITE};
        u64 r = next_random(g);
        struct cpu_stop *s = &g->stop[g->stops.n % STOPS];
        *s = (struct cpu_stop){.on = kinds[r % 4], .level = (u8)(r / 4 % 3), .size = 1 + r / 16 % 64};
        s->vmcs = r / 1024 % 2 ? VMX_NO_POINTER : v->s.vmx.vmcs_pointer;
        s->at = s->on == STOP_ON_CODE ? v->s.seg[SEG_CS].base + v->s.rip : v->s.gpr[RSP] - 64;
        s->physical = s->on != STOP_ON_CODE && r / 2048 % 2;
        if (s->physical) s->at = walk_peek(&m->phys, &v->d.mmu, laddr_of(s->at), ACC_READ, NULL).pa;
        if (g->stops.n < STOPS) g->stops.n++;
        g->stops.entry = r / 4096 % 4 == 0, g->stops.entry_failed = r / 16384 % 4 == 0;
        g->stops.exits[0] = r / 65536 % 4 == 0 ? r : 0;
    }
    stops_go_on(&g->stops, v, step);
    for (unsigned i = 0; i < m->cpus_n; i++) stops_changed(m->cpu[i]);
}

// To the first boundary at which `until` instructions have retired, in slices of at most `mean` * 2 units at
// random (0: as long as they get). The instant does not depend on the slices.
static void run_to(struct golden *g, u64 until, u64 mean)
{
    static const char *const names[] = {"run",        "power-off", "reset",
                                        "debug exit", "shutdown",  "idle for ever"};
    while (!g->ended && machine_retired(g->m) < until) {
        u64 left = until - machine_retired(g->m), slice = left < 2000000 ? left : 2000000;
        if (mean) {
            u64 r = 1 + next_random(g) % (2 * mean);
            if (r < slice) slice = r;
        }
        enum machine_end end = g->history.m ? journal_run(&g->journal, slice) : machine_run(g->m, slice);
        if (g->history.m) history_look(&g->history);
        if (end == MACHINE_RUN) continue;
        if (end == MACHINE_STOPPED) {
            debug(g);
            continue;
        }
        g->ended = true;
        g->end = names[end];
    }
}

// The same machine in another: nothing but its plain state goes over.
static void reload(struct golden *g)
{
    char why[256];
    const char *line = why;
    const struct vcpu *v = g->m->cpu[0];
    bool guest = v->s.vmx.guest, interrupt = v->s.intr_line, timer = g->m->lapic[0].st.tsc_deadline != 0;
    u64 entries = v->vmx->entries; // a statistic
    struct machine *m = NULL;
    if (machine_state_save(g->m, &g->saved, why, sizeof why)) m = bare_machine(g, &line);
    bool loaded = m && machine_state_load(m, g->saved.at, g->saved.size, why, sizeof why);
    if (!loaded) {
        fprintf(stderr, "golden: cannot reload: %s\n", m ? why : line);
        exit(3);
    }
    machine_free(g->m);
    free(g->m);
    g->m = m;
    m->cpu[0]->vmx->entries = entries;
    g->reloads.all++;
    g->reloads.guest += guest, g->reloads.interrupt += interrupt, g->reloads.timer += timer;
}

// Back, and to where it was. It may have slept there: the instant is the first at its count.
static void go_back(struct golden *g)
{
    u64 now = machine_retired(g->m), first = history_begins(&g->history), reach = 3 * g->every;
    u64 to = now - next_random(g) % (now - first < reach ? now - first + 1 : reach);
    g->again = true;
    if (!history_goto(&g->history, to, NULL) || machine_retired(g->m) < to ||
        !history_goto(&g->history, now, NULL)) {
        fprintf(stderr, "golden: cannot go from %" PRIu64 " back to %" PRIu64 "\n", now, to);
        exit(3);
    }
    g->again = false;
}

static void put(struct golden *g)
{
    printf("%" PRIu64 " %016" PRIx64 " %016" PRIx64 "%s%s\n", machine_retired(g->m),
           state_hash(&g->hash, g->m), g->printed, g->ended ? " " : "", g->ended ? g->end : "");
    fflush(stdout);
}

// One variant, from where the machine is now: a line for each sample.
static void run_variant(struct golden *g, const char *name)
{
    bool dropped = strcmp(name, "dropped") == 0, sliced = strcmp(name, "sliced") == 0;
    bool reloaded = strcmp(name, "reloaded") == 0, back = strcmp(name, "back") == 0;
    bool debugged = strcmp(name, "debugged") == 0;
    if (debugged) debug_start(g);
    for (unsigned i = 0; i < g->m->cpus_n; i++) {
        if (strcmp(name, "loop") == 0) g->m->cpu[i]->loop_engine = true;
        rows_run_watch(g->m->cpu[i]);
    }
    g->random = g->seed * 0x9E3779B97F4A7C15ull | 1;
    u64 next = g->from, drop = 0;
    if (back) {
        journal_begin(&g->journal, g->m);
        if (!history_begin(&g->history, &g->journal, HISTORY_DEFAULT)) exit(3);
        g->history.every = g->every / 4 + 1;
    }
    while (!g->ended && next < g->to) {
        next = g->to - next < g->every ? g->to : next + g->every;
        u64 now = machine_retired(g->m), parts = debugged ? VISITS : RELOADS,
            piece = next > now ? (next - now) / parts : 0;
        for (unsigned i = 0; reloaded && i < RELOADS && piece && !g->ended; i++) {
            run_to(g, now + piece * i + next_random(g) % piece, 0);
            if (!g->ended) reload(g);
        }
        for (unsigned i = 0; back && i < RELOADS && piece && !g->ended; i++) {
            run_to(g, now + piece * i + next_random(g) % piece, 0);
            if (!g->ended) go_back(g);
        }
        while (dropped && !g->ended && machine_retired(g->m) < next) {
            drop = machine_retired(g->m) + 1 + next_random(g) % (2 * MEAN_DROP);
            run_to(g, drop < next ? drop : next, 0);
            for (unsigned i = 0; i < g->m->cpus_n; i++) cpu_drop_derived(g->m->cpu[i]);
        }
        for (unsigned i = 0; debugged && i < VISITS && piece && !g->ended; i++) {
            run_to(g, now + piece * i + next_random(g) % piece, 0);
            g->budget = 50;
            debug(g);
        }
        run_to(g, next, sliced ? MEAN_SLICE : 0);
        put(g);
    }
    if (debugged)
        fprintf(stderr, "stopped at code %u times, accesses %u, steps %u, VM entries %u, exits %u\n",
                g->stopped[STOPPED_CODE], g->stopped[STOPPED_ACCESS], g->stopped[STOPPED_STEP],
                g->stopped[STOPPED_ENTRY], g->stopped[STOPPED_EXIT]);
    if (reloaded)
        fprintf(stderr,
                "reloaded %u times: %u in a guest, %u with an interrupt waiting, %u with a TSC deadline\n",
                g->reloads.all, g->reloads.guest, g->reloads.interrupt, g->reloads.timer);
    if (back)
        fprintf(stderr,
                "back: %" PRIu64 " instructions run again, %" PRIu64 " MiB of checkpoints, %" PRIu64
                " thinned out\n",
                g->history.replayed, g->history.used >> 20, g->history.thinned);
    if (g->history.m) history_forget(&g->history);
    if (g->journal.m) journal_free(&g->journal);
    state_bytes_free(&g->saved);
}

struct run { // of one variant, in a process of its own
    pid_t pid;
    FILE *out;
    char *text;
    size_t size;
    int status;
};

static bool start(struct golden *g, struct run *r, unsigned i, char **argv)
{
    int p[2];
    if (pipe(p)) return false;
    fflush(stdout);
    r->pid = fork();
    if (r->pid < 0) return false;
    if (r->pid == 0) {
        dup2(p[1], 1);
        close(p[0]), close(p[1]);
        if (!g->m) { // a new program, so that no address is the same
            setenv("GOLDEN_VARIANT", g->variant[i], 1);
            execv("/proc/self/exe", argv);
            _exit(3);
        }
        run_variant(g, g->variant[i]);
        _exit(0);
    }
    close(p[1]);
    r->out = fdopen(p[0], "r");
    return r->out != NULL;
}

static bool finish(struct run *r)
{
    FILE *text = open_memstream(&r->text, &r->size);
    char line[256];
    while (fgets(line, sizeof line, r->out)) fputs(line, text);
    fclose(text);
    fclose(r->out);
    waitpid(r->pid, &r->status, 0);
    return r->status == 0 && r->size > 0;
}

// The first line in which the two differ, or 0. Names the instants around it.
static bool compare(const struct golden *g, const struct run *a, const struct run *b, const char *name)
{
    const char *p = a->text, *q = b->text;
    u64 good = g->from;
    while (*p || *q) {
        size_t n = strcspn(p, "\n"), k = strcspn(q, "\n");
        if (n != k || memcmp(p, q, n) != 0) {
            printf("%s and %s agree at instruction %" PRIu64
                   " and differ at the next sample:\n  %-9s %.*s\n  %-9s %.*s\n",
                   g->variant[0], name, good, g->variant[0], (int)n, p, name, (int)k, q);
            return false;
        }
        good = strtoull(p, NULL, 10);
        p += n + 1, q += k + 1;
    }
    return true;
}

static int run_all(struct golden *g, char **argv)
{
    static struct run run[VARIANTS_MAX];
    unsigned begun = 0;
    bool good = true;
    for (unsigned i = 0; i < g->variants; i++) {
        for (; begun < g->variants && begun < i + g->jobs; begun++)
            if (!start(g, &run[begun], begun, argv)) return 3;
        if (!finish(&run[i])) {
            printf("%s: the run failed (status %#x)\n", g->variant[i], run[i].status);
            return 3;
        }
    }
    unsigned samples = 0;
    for (const char *p = run[0].text; *p; p++) samples += *p == '\n';
    for (unsigned i = 1; i < g->variants; i++) good &= compare(g, &run[0], &run[i], g->variant[i]);
    const char *last = run[0].text + run[0].size - 1;
    while (last > run[0].text && last[-1] != '\n') last--;
    printf("%u samples from %" PRIu64 "; the last: %s", samples, g->from, last);
    if (g->entries) printf("the window begins after %" PRIu64 " VM entries\n", g->m->cpu[0]->vmx->entries);
    if (good) printf("%u runs agree\n", g->variants);
    return good ? 0 : 1;
}

static bool take_option(struct golden *g, const char *name, char *value)
{
    if (strcmp(name, "--with") == 0) {
        g->variants = 0;
        for (char *s = strtok(value, ","); s; s = strtok(NULL, ",")) {
            static const char *const known[] = {"threaded", "loop", "dropped", "sliced",
                                                "reloaded", "back", "debugged"};
            unsigned k = 0;
            while (k < ARRAY_LEN(known) && strcmp(known[k], s) != 0) k++;
            if (k == ARRAY_LEN(known) || g->variants == VARIANTS_MAX) return false;
            g->variant[g->variants++] = known[k];
        }
        return g->variants > 0;
    }
    u64 x = strtoull(value, NULL, 0);
    if (strcmp(name, "--from") == 0)
        g->from = x;
    else if (strcmp(name, "--to") == 0)
        g->to = x;
    else if (strcmp(name, "--entries") == 0)
        g->entries = x;
    else if (strcmp(name, "--length") == 0)
        g->length = x;
    else if (strcmp(name, "--every") == 0)
        g->every = x;
    else if (strcmp(name, "--jobs") == 0)
        g->jobs = (unsigned)x;
    else if (strcmp(name, "--seed") == 0)
        g->seed = x;
    else
        return false;
    return x > 0 || strcmp(name, "--from") == 0;
}

int main(int argc, char **argv)
{
    static struct golden g = {.to = UINT64_MAX, .every = 50000000, .seed = 1, .jobs = 2};
    char why[512];
    static char **copy; // parsing cuts the lists
    copy = calloc((size_t)argc + 1, sizeof *copy);
    for (int i = 0; i < argc; i++) copy[i] = strdup(argv[i]);
    g.variants = 3, g.variant[0] = "threaded", g.variant[1] = "loop", g.variant[2] = "dropped";
    int i = 1;
    while (i + 1 < argc && strcmp(argv[i], "--") != 0) {
        if (!take_option(&g, argv[i], argv[i + 1])) {
            fprintf(stderr, "golden: %s %s is no option\n", argv[i], argv[i + 1]);
            return 2;
        }
        i += 2;
    }
    if (i >= argc || !options_parse(&g.o, argc - i, argv + i, why, sizeof why)) {
        fprintf(stderr, "golden: %s\n", i >= argc ? "the machine's options come after --" : why);
        return 2;
    }
    const char *variant = getenv("GOLDEN_VARIANT"), *error = NULL;
    bool later = g.from > 0 || g.entries > 0;
    if (!later && g.length) g.to = g.length;
    if (variant || later) error = make_machine(&g);
    if (error) {
        fprintf(stderr, "golden: %s\n", error);
        return 3;
    }
    if (variant) {
        run_variant(&g, variant);
        return 0;
    }
    if (later) {
        run_to(&g, g.from, 0);
        while (!g.ended && g.m->cpu[0]->vmx->entries < g.entries) run_to(&g, machine_retired(g.m) + 10000, 0);
        g.from = machine_retired(g.m);
        if (g.length) g.to = g.from + g.length;
        if (g.ended) {
            fprintf(stderr, "golden: the guest ended (%s) at instruction %" PRIu64 ", before the window\n",
                    g.end, g.from);
            return 3;
        }
    }
    return run_all(&g, copy);
}

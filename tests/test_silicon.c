// User-mode instructions against silicon: every eligible row of the instruction table, random encodings and
// inputs; registers, flags (but for those the row leaves undefined), x87 and SSE state, memory and exceptions
// compared. The silicon is the host's own, or that of a recording (tests/silicon/record.c draws the format),
// which every host can compare.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/engine/fp.h"
#include "cpu/system/model.h"
#include "tests/silicon/excuses.h"
#include "tests/silicon/record.h"

static const char usage[] =
    "usage: test_silicon [options]\n"
    "  --seed N|random        of encodings and inputs; default 1, or the environment variable SILICON_SEED\n"
    "  --count N              encodings a row, 80 times as many sequences; default 25\n"
    "  --row NAME             only rows of this name (\"sequence\": only sequences)\n"
    "  --engine loop|fast     only this engine\n"
    "  --bits 16|32|64        only code of so many bits\n"
    "  --record FILE          write encodings, inputs and the host's outcomes instead of comparing (a "
    "quarter of the sequences)\n"
    "  --compare FILE         compare with a recording instead of the host\n"
    "  --rows DIR             what holds each row of the instruction table: this test, or which other; DIR "
    "says "
    "what they\n"
    "                         ran (tests/rows_held makes it); status 1 if nothing does\n"
    "  --cpu FEATURES         compare: as -cpu of the machine; rows that need more are left out and counted\n"
    "Without --compare skipped where the host cannot do it. Status 1: something differs, or a file is "
    "damaged.\n";

struct options {
    const char *only, *engine, *record, *compare;
    u64 seed;
    unsigned count, bits;
    struct cpu_features features;
};

struct tally {
    unsigned rows, failed, without, damaged;
    u64 runs, faults, again, excused, left_out;
};

static bool wanted(const struct options *o, unsigned bits, const char *engine, const struct row *r)
{
    if ((o->bits && o->bits != bits) || (engine && o->engine && strcmp(o->engine, engine))) return false;
    return !o->only || !strcmp(o->only, r ? r->name : "sequence");
}

static const char *operands(const struct row *r)
{
    static char text[64];
    return row_operands(r, text, sizeof text);
}

static void say_where(const struct test *t, const char *engine, const struct outcome *silicon, const char *of)
{
    printf("# %u-bit, %s engine, %s, ", t->in.bits, engine, of);
    if (t->row)
        printf("row %s %s (map %u opcode %02x): ", t->row->name, operands(t->row), t->row->map,
               t->row->opcode);
    else
        printf("sequence: ");
    for (unsigned i = 0; i < t->n; i++) printf("%02x ", t->code[i]);
    printf(" at %llx, vector %u, rip %llx, cr2 %llx\n", (unsigned long long)t->in.rip, silicon->vector,
           (unsigned long long)silicon->s.rip, (unsigned long long)silicon->cr2);
}

static void run_ours(const struct test *t, struct guest *g, struct outcome *ours)
{
    memset(ours, 0, sizeof *ours);
    memcpy(guest_data(g), t->data, DATA_SIZE);
    guest_data_changed(g);
    guest_run(g, t->code, t->n, &t->in, ours);
}
static void run_native(const struct test *t, struct outcome *host)
{
    memset(host, 0, sizeof *host);
    memcpy(native_data(), t->data, DATA_SIZE);
    native_run(t->code, t->n, &t->in, host);
}

// ---- encodings ----
static u64 row_seed(u64 seed, unsigned row, unsigned round)
{
    return (seed * 0x9E3779B97F4A7C15ull) ^ ((u64)row << 32) ^ ((u64)round * 0xD1B54A32D192ED03ull) ^
           0x5DEECE66Dull;
}

// POPF with TF, NT or AC would change how the host runs the harness itself.
static void tame_flags(struct test *t)
{
    u64 at = t->in.gpr[RSP] - (t->in.bits == 16 ? 0 : DATA_BASE);
    if (strncmp(t->row->name, "popf", 4)) return;
    if (at + 1 < DATA_SIZE) t->data[at + 1] &= (u8)~0x41;
    if (at + 2 < DATA_SIZE) t->data[at + 2] &= (u8)~0x04;
}

static bool make_row(struct test *t, unsigned i, unsigned bits, u64 seed, unsigned round,
                     struct input_pool *pool)
{
    struct rng r = {row_seed(seed, i, round), pool};
    t->row = &rows[i];
    t->n = encode_random(t->row, bits, &r, t->code, &t->in, &t->undefined, &t->operand);
    if (!t->n) return false;
    inputs_data(&r, t->data);
    if (t->operand >= DATA_BASE && t->operand + 576 <= DATA_BASE + DATA_SIZE && compare_state_area(t->row))
        encode_prepare_area(t->row, &r, t->data + (t->operand - DATA_BASE));
    tame_flags(t);
    return true;
}
static void make_sequence(struct test *t, unsigned bits, u64 seed, unsigned round, struct input_pool *pool)
{
    struct rng r = {row_seed(seed, 0xFFFF, round), pool};
    t->row = NULL;
    t->operand = 0;
    t->n = encode_sequence(&r, bits, t->code, sizeof t->code, &t->in, &t->undefined, &t->used);
    inputs_data(&r, t->data);
}

// ---- the host's own silicon ----
static bool same_live(const struct test *t, struct guest *g, enum vendor vendor, const char *engine,
                      const char *of, struct tally *n)
{
    struct outcome host, ours;
    run_ours(t, g, &ours);
    n->runs++;
    // The host's kernel may come between (it has been seen to lose AC, and to load components that were in
    // their initial configuration): a difference counts when it comes again.
    for (unsigned again = 0; again < 3; again++) {
        run_native(t, &host);
        n->faults += again == 0 && host.vector != 3;
        u32 d = compare(t, &host, &ours, native_data(), guest_data(g), false);
        n->again += again != 0 && !d;
        if (!d) return true;
        if (!excused(vendor, t, &host, &ours, d)) continue;
        n->excused++;
        return true;
    }
    compare(t, &host, &ours, native_data(), guest_data(g), true);
    say_where(t, engine, &host, of);
    return false;
}

static void live_engine(const struct options *o, struct guest *g, unsigned bits, const char *engine,
                        enum vendor vendor, struct tally *n)
{
    static struct test t;
    char of[64];
    for (unsigned i = 0; i < rows_n; i++) {
        if (!encode_eligible(&rows[i], bits) || !wanted(o, bits, engine, &rows[i])) continue;
        unsigned bad = 0, done = 0;
        for (unsigned round = 0; round < o->count && bad < 3; round++) {
            if (!make_row(&t, i, bits, o->seed, round, NULL)) continue;
            snprintf(of, sizeof of, "seed %llu round %u", (unsigned long long)o->seed, round);
            done++;
            bad += !same_live(&t, g, vendor, engine, of, n);
        }
        n->rows += done != 0;
        if (!done) {
            n->without++;
            printf("# %s %s: no encoding tried\n", rows[i].name, operands(&rows[i]));
        }
        if (bad) {
            n->failed++;
            printf("not ok - %s %s (map %u opcode %02x, %u-bit, %s)\n", rows[i].name, operands(&rows[i]),
                   rows[i].map, rows[i].opcode, bits, engine);
        }
    }
    if (!wanted(o, bits, engine, NULL)) return;
    unsigned bad = 0;
    for (unsigned round = 0; round < 80 * o->count && bad < 5; round++) {
        make_sequence(&t, bits, o->seed, round, NULL);
        snprintf(of, sizeof of, "seed %llu round %u", (unsigned long long)o->seed, round);
        n->rows++;
        bad += !same_live(&t, g, vendor, engine, of, n);
    }
    if (bad) {
        n->failed++;
        printf("not ok - sequences (%u-bit, %s)\n", bits, engine);
    }
}

static int live(const struct options *o)
{
    struct tally n = {0};
    struct recording_cpu cpu;
    native_cpu(&cpu);
    printf("# seed %llu, %u encodings a row, against %s\n", (unsigned long long)o->seed, o->count,
           cpu.vendor);
    for (unsigned e = 0; e < 6; e++) {
        unsigned bits = 64 >> (e >> 1);
        if (o->bits && o->bits != bits) continue;
        if (!native_has(bits)) {
            if (e & 1) printf("# the host's kernel runs no %u-bit code: not compared\n", bits);
            continue;
        }
        struct guest *g = guest_new_cpu(!(e & 1), &o->features);
        if (!g) {
            printf("Bail out! no memory for the guest\n");
            return 1;
        }
        live_engine(o, g, bits, e & 1 ? "fast" : "loop", excuses_vendor(cpu.vendor), &n);
        guest_free(g);
    }
    excuses_report();
    printf(
        "# %u rows and sequences, %llu runs (%llu ended in a fault), %u rows failed, %u without encodings\n",
        n.rows, (unsigned long long)n.runs, (unsigned long long)n.faults, n.failed, n.without);
    printf("# %llu differences that did not come again, %llu excused by vendor\n",
           (unsigned long long)n.again, (unsigned long long)n.excused);
    if (!n.rows) printf("not ok - nothing was tested\n");
    bool ok = n.rows && !n.failed;
    printf("%s - silicon\n1..1\n", ok ? "ok 1" : "not ok 1");
    return !ok;
}

// ---- recording ----
enum { STATES = 384, PAGES = 12 };

static bool make_pool(struct input_pool *p, u64 seed)
{
    struct rng g = {row_seed(seed, 0xFFFE, 0), NULL};
    p->states = calloc(STATES, sizeof *p->states);
    p->pages = calloc(PAGES, sizeof *p->pages);
    if (!p->states || !p->pages) return false;
    for (unsigned i = 0; i < STATES; i++) inputs_random(&g, 64, &p->states[i]);
    for (unsigned i = 0; i < PAGES; i++) inputs_data(&g, p->pages[i]);
    p->states_n = STATES, p->pages_n = PAGES;
    return true;
}

// What comes twice running is the silicon's.
static bool record_one(struct record_writer *w, const struct test *t, const struct input_pool *pool)
{
    static u8 data[DATA_SIZE];
    struct outcome a, b;
    run_native(t, &a);
    for (unsigned tries = 0; tries < 8; tries++) {
        memcpy(data, native_data(), DATA_SIZE);
        run_native(t, &b);
        if (!memcmp(data, native_data(), DATA_SIZE) && !compare(t, &a, &b, data, native_data(), false)) {
            record_case(w, t, pool->state, pool->page, &b, native_data());
            return true;
        }
        a = b;
    }
    return false;
}

static int record(const struct options *o)
{
    static struct test t;
    struct input_pool pool = {0};
    struct recording_cpu cpu;
    struct record_writer *w = make_pool(&pool, o->seed) ? record_begin(&pool, o->seed, o->count) : NULL;
    if (!w) {
        printf("Bail out! no memory\n");
        return 1;
    }
    u64 cases = 0, unsteady = 0, bytes;
    for (unsigned bits = 64; bits >= 16; bits /= 2) {
        if (!native_has(bits)) continue;
        for (unsigned i = 0; i < rows_n; i++) {
            if (!encode_eligible(&rows[i], bits) || !wanted(o, bits, NULL, &rows[i])) continue;
            for (unsigned round = 0; round < o->count; round++) {
                if (!make_row(&t, i, bits, o->seed, round, &pool)) continue;
                record_one(w, &t, &pool) ? cases++ : unsteady++;
            }
        }
        for (unsigned round = 0; wanted(o, bits, NULL, NULL) && round < 20 * o->count; round++) {
            make_sequence(&t, bits, o->seed, round, &pool);
            record_one(w, &t, &pool) ? cases++ : unsteady++;
        }
    }
    const char *why;
    native_cpu(&cpu);
    if (!record_end(w, o->record, &cpu, &bytes, &why)) {
        fprintf(stderr, "test_silicon: cannot write '%s': %s\n", o->record, why);
        return 1;
    }
    printf("# %s: %s, %s; seed %llu, %llu cases, %llu bytes, %llu left out that did not come twice alike\n",
           o->record, cpu.vendor, cpu.brand, (unsigned long long)o->seed, (unsigned long long)cases,
           (unsigned long long)bytes, (unsigned long long)unsteady);
    free(pool.states), free(pool.pages);
    return 0;
}

// ---- comparing with a recording ----
static bool has_row(const struct options *o, const struct row *r, bool ymm)
{
    // Which components there are XSAVE and its like show in all they do; 256 bits may want another feature.
    bool avx = feature_on(&o->features, FEATURE_AVX);
    if (ymm && !avx && ((r->unit & UNIT_AVX) || (compare_state_area(r) && strncmp(r->name, "fx", 2))))
        return false;
    // A recording does not tell the register form of VBROADCASTSS from the other, which needs less.
    const struct row *next = r + 1 < rows + rows_n && !strcmp(r[1].name, r->name) ? r + 1 : r;
    return feature_on(&o->features, r->feature) && feature_on(&o->features, r->wide) &&
           feature_on(&o->features, next->feature);
}
static bool has_features(const struct options *o, const struct test *t, bool ymm)
{
    if (t->row) return has_row(o, t->row, ymm);
    for (unsigned i = 0; i < t->used.n; i++) {
        if (!has_row(o, t->used.row[i], ymm)) return false;
    }
    return true;
}

static void compare_engine(const struct options *o, struct record_reader *r, bool loop, struct guest *g,
                           enum vendor vendor, bool foreign, struct tally *n)
{
    static struct test t;
    static u8 data[DATA_SIZE];
    const char *engine = loop ? "loop" : "fast", *why = "";
    struct outcome silicon, ours;
    char of[64];
    const struct row *failed = NULL;
    unsigned shown = 0;
    bool ymm = record_cpu(r)->features[0] >> 28 & 1;
    record_rewind(r);
    int got = 1;
    for (unsigned i = 0; (got = record_next(r, &t, &silicon, data, &why)) > 0; i++) {
        if (t.unknown || !wanted(o, t.in.bits, engine, t.row)) {
            n->left_out += t.unknown;
            continue;
        }
        if (!has_features(o, &t, ymm)) {
            n->left_out++;
            continue;
        }
        run_ours(&t, g, &ours);
        n->runs++;
        n->faults += silicon.vector != 3;
        u32 d = compare(&t, &silicon, &ours, data, guest_data(g), false);
        if (!d) continue;
        if (excused(vendor, &t, &silicon, &ours, d) || (foreign && excused_by_host(&t, d))) {
            n->excused++;
            continue;
        }
        if (t.row != failed || !n->failed) n->failed++, failed = t.row, shown = 0;
        if (shown++ >= 3) continue;
        snprintf(of, sizeof of, "case %u", i);
        compare(&t, &silicon, &ours, data, guest_data(g), true);
        say_where(&t, engine, &silicon, of);
        printf("not ok - %s %s (%u-bit, %s)\n", t.row ? t.row->name : "sequence",
               t.row ? operands(t.row) : "", t.in.bits, engine);
    }
    if (got < 0) {
        n->damaged = 1;
        printf("not ok - '%s' %s\n", o->compare, why);
    }
}

static int compare_recording(const struct options *o)
{
    struct tally n = {0};
    const char *why;
    struct record_reader *r = record_open(o->compare, &why);
    if (!r) {
        fprintf(stderr, "test_silicon: '%s' %s\n", o->compare, why);
        return 1;
    }
    const struct recording_cpu *cpu = record_cpu(r);
    struct recording_cpu host;
    native_cpu(&host);
    // the stepping does not count
    bool foreign = strcmp(cpu->vendor, host.vendor) || cpu->signature >> 4 != host.signature >> 4;
    printf("# recorded on %s, %s (%05x), seed %llu, %u encodings a row, %u cases; compared on %s\n",
           cpu->vendor, cpu->brand, cpu->signature, (unsigned long long)record_seed(r), record_count(r),
           record_cases(r), host.vendor[0] ? host.vendor : "another architecture");
    for (unsigned e = 0; e < 2 && !n.damaged; e++) {
        if (o->engine && strcmp(o->engine, e ? "fast" : "loop")) continue;
        struct guest *g = guest_new_cpu(!e, &o->features);
        if (!g) {
            printf("Bail out! no memory for the guest\n");
            return 1;
        }
        compare_engine(o, r, !e, g, excuses_vendor(cpu->vendor), foreign, &n);
        guest_free(g);
    }
    record_close(r);
    excuses_report();
    printf("# %llu runs (%llu ended in a fault), %u rows failed, %llu excused, %llu left out: rows that this "
           "processor does not have\n",
           (unsigned long long)n.runs, (unsigned long long)n.faults, n.failed, (unsigned long long)n.excused,
           (unsigned long long)n.left_out);
    bool ok = n.runs && !n.failed && !n.damaged;
    if (!n.runs) printf("not ok - nothing was compared\n");
    printf("%s - silicon\n1..1\n", ok ? "ok 1" : "not ok 1");
    return !ok;
}

// ---- the command line ----
static int bad_usage(void)
{
    fputs(usage, stderr);
    return 2;
}

int main(int argc, char **argv)
{
    struct options o = {.count = 25};
    const char *seed = getenv("SILICON_SEED") ? getenv("SILICON_SEED") : "1", *why = "";
    char buf[256];
    cpu_features_max(&o.features);
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--help")) return fputs(usage, stdout), 0;
        if (!value) return bad_usage();
        if (!strcmp(name, "--seed"))
            seed = value;
        else if (!strcmp(name, "--row"))
            o.only = value;
        else if (!strcmp(name, "--count"))
            o.count = (unsigned)strtoul(value, NULL, 0);
        else if (!strcmp(name, "--engine"))
            o.engine = value;
        else if (!strcmp(name, "--bits"))
            o.bits = (unsigned)strtoul(value, NULL, 0);
        else if (!strcmp(name, "--record"))
            o.record = value;
        else if (!strcmp(name, "--rows"))
            return rows_list(value);
        else if (!strcmp(name, "--compare"))
            o.compare = value;
        else if (!strcmp(name, "--cpu")) {
            if (!cpu_features_parse(&o.features, value, buf, sizeof buf, &why)) {
                fprintf(stderr, "test_silicon: %s\n", why);
                return 2;
            }
        } else
            return bad_usage();
    }
    o.seed = !strcmp(seed, "random") ? (u64)time(NULL) : strtoull(seed, NULL, 0);
    if (o.compare) return compare_recording(&o);
    if (!native_possible || !fp_host_capable() || !native_init(&why)) {
        printf("1..0 # SKIP no silicon to compare with: %s\n",
               native_possible ? why : "the host is not x86-64 Linux");
        return 0;
    }
    return o.record ? record(&o) : live(&o);
}

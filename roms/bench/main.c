/*
 * The bench image. See bench.h. Words of the command line: names of workloads ("all" for all of them; without
 * any, the list is printed), scale=N.
 */
#include "bench.h"

static const struct workload *const groups[] = {bench_integer, bench_memory, bench_fp, bench_exits};
#define GROUPS (sizeof(groups) / sizeof(groups[0]))

static void run(const struct workload *w, unsigned scale)
{
    const char *why = w->unable ? w->unable() : NULL;
    if (why) {
        print("BENCH %s skipped: %s\n", w->name, why);
        return;
    }
    if (w->prepare) w->prepare();
    /* The marker must have left before the clock starts. */
    print("BENCH %s begin\n", w->name);
    console_drain();
    uint64_t sum = w->run(scale);
    print("BENCH %s end\n", w->name);
    print("BENCH %s checksum %016lx\n", w->name, sum);
}

int rom_main(void)
{
    unsigned scale = (unsigned)cmdline_number("scale", 1), ran = 0;
    bool all = cmdline_has("all");
    for (unsigned g = 0; g < GROUPS; g++)
        for (const struct workload *w = groups[g]; w->name; w++)
            if (all || cmdline_has(w->name)) {
                run(w, scale);
                ran++;
            }
    if (ran) return 0;
    print("words of the command line: all, scale=N, and\n");
    for (unsigned g = 0; g < GROUPS; g++)
        for (const struct workload *w = groups[g]; w->name; w++) print("  %-12s %s\n", w->name, w->what);
    return 1;
}

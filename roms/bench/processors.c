/*
 * What several busy processors cost: each runs the same integer loop over memory of its own. "use=N" on the
 * command line lets N of them work (default: all); the time of N divided by N times that of one, on a machine
 * with one, is the figure.
 */
#include "smp.h"

static uint64_t area[SMP_MAX][4096];

static void busy(uint64_t n)
{
    uint64_t x = n + 1, *a = area[n % SMP_MAX];
    for (unsigned round = 0; round < 4000; round++)
        for (unsigned i = 0; i < 4096; i++) {
            a[i] += x;
            x = x * 6364136223846793005ull + a[(i * 7) & 4095];
        }
}

int rom_main(void)
{
    unsigned n = smp_start(), use = (unsigned)cmdline_number("use", n);
    if (use > n) panic("there are %u processors", n);
    for (unsigned i = 1; i < use; i++) smp_run(i, busy, i);
    busy(0);
    for (unsigned i = 1; i < use; i++)
        while (!smp_wait(i, 1000)) {}
    print("%u of %u processors are done\n", use, n);
    return 0;
}

// What the comparisons of cpu/float with the host's own floating point share: random operands, the tale of
// what differs. `--count N`: N random cases of each operation, and special operands in every mode.
#ifndef TESTS_FLOAT_TEST_H
#define TESTS_FLOAT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/float/float.h"

static u64 seed = 0x243F6A8885A308D3;
static u64 rnd(void) // xorshift*
{
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1D;
}
static unsigned pick(unsigned n) { return (unsigned)(rnd() >> 32) % n; }

static unsigned long rounds = 60000; // random cases of each operation
static bool all_modes;               // special operands in every mode, not in one each
static unsigned long compared, wrong;
static inline void differ(const char *name, unsigned mode, const char *what, u64 a, u64 b, u64 c, u64 host,
                          u64 ours)
{
    static const char *told;
    static unsigned times;
    if (told != name) told = name, times = 0;
    wrong++;
    if (times++ < 8)
        print_error("%s, mode %04x: %s: %016llx %016llx %016llx: host %016llx, ours %016llx\n", name, mode,
                    what, (unsigned long long)a, (unsigned long long)b, (unsigned long long)c,
                    (unsigned long long)host, (unsigned long long)ours);
}

// ---- operands ----
struct widths {
    unsigned fraction, exponent;
};
static const struct widths widths[] = {{10, 5}, {23, 8}, {52, 11}};
static inline u64 random_fraction(unsigned bits)
{
    u64 x = rnd() & (BIT(bits) - 1);
    switch (pick(5)) {
    case 0: return x & ~(BIT(pick(bits)) - 1);
    case 1: return x | (BIT(pick(bits)) - 1);
    case 2: return (BIT(pick(bits)) + (pick(2) ? BIT(pick(bits)) : 0)) & (BIT(bits) - 1);
    case 3: return pick(2) ? 0 : BIT(bits) - 1;
    default: return x;
    }
}
enum { SPECIALS_MAX = 256 };
// `near`: an operand whose exponent this one's is near to.
static inline u64 random_operand(unsigned f, u64 near)
{
    const struct widths w = widths[f];
    u64 most = BIT(w.exponent) - 1, exponent;
    switch (pick(6)) {
    case 0: exponent = rnd() & most; break;
    case 1: exponent = pick(4); break;
    case 2: exponent = most - pick(4); break;
    case 3: exponent = ((most >> 1) - 4 + pick(w.fraction + 16)) & most; break;
    case 4: exponent = most - (near >> w.fraction & most) + pick(5) - 2; break; // its product is near to 1
    default: exponent = (near >> w.fraction & most) - w.fraction - 3 + pick(2 * w.fraction + 6); break;
    }
    return (rnd() & 1) << (w.fraction + w.exponent) | (exponent & most) << w.fraction |
           random_fraction(w.fraction);
}

static int float_main(int argc, char **argv, const struct CMUnitTest *tests, size_t n)
{
    if (argc > 2 && !strcmp(argv[1], "--count")) rounds = strtoul(argv[2], NULL, 0), all_modes = true;
    int failed = _cmocka_run_group_tests("float", tests, n, NULL, NULL);
    printf("# %lu results compared, %lu differ\n", compared, wrong);
    return failed;
}

#endif

/*
 * The bench image: workloads chosen by the words of the command line, with markers on the serial line, so
 * that whoever runs it can time from outside, on any machine.
 *
 *     BENCH sieve begin
 *     BENCH sieve end
 *     BENCH sieve checksum 0123456789abcdef
 *
 * The amount of work is fixed (times scale=N, 1 by default), and so is the checksum for a given scale: equal
 * on every machine that computes right.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "rt.h"

struct workload {
    const char *name, *what;
    /* Memory and tables, before the marker; may be NULL. */
    void (*prepare)(void);
    /* Does the work `scale` times; returns the checksum. */
    uint64_t (*run)(unsigned scale);
    /* Why it cannot run here, or NULL; may be NULL. */
    const char *(*unable)(void);
};

/* A generator of pseudo-random numbers: 64-bit state, xorshift. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Mixes a value into a checksum. */
static inline uint64_t bench_mix(uint64_t sum, uint64_t v)
{
    sum = (sum ^ v) * 0x9e3779b97f4a7c15;
    return sum ^ sum >> 29;
}

/* Each file's workloads, ended by one without a name. */
extern const struct workload bench_integer[], bench_memory[], bench_fp[], bench_exits[];

#endif

/* Memory workloads: a random pointer chase, copies, fills. */
#include "bench.h"

/* ---- a chase through 8 MiB: 4 million dependent loads, one to a cache line ---- */

#define CHASE_LINES (1u << 17)
#define LINE        64
static uint64_t *chase_lines;

static void chase_prepare(void)
{
    if (chase_lines) return;
    chase_lines = page_alloc(CHASE_LINES * LINE / 4096);
    /* One cycle through all lines (Sattolo's shuffle), in the second word; the pointers in the first. */
    uint64_t state = 362436069;
    uint64_t *order = page_alloc(CHASE_LINES * 8 / 4096);
    for (unsigned i = 0; i < CHASE_LINES; i++) order[i] = i;
    for (unsigned i = CHASE_LINES - 1; i > 0; i--) {
        unsigned j = (unsigned)(bench_random(&state) % i);
        uint64_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (unsigned i = 0; i < CHASE_LINES; i++) {
        uint64_t *line = chase_lines + order[i] * (LINE / 8);
        line[0] = (uint64_t)(chase_lines + order[(i + 1) % CHASE_LINES] * (LINE / 8));
        line[1] = order[i];
    }
}

static uint64_t chase_run(unsigned scale)
{
    uint64_t *at = chase_lines, sum = 0;
    for (unsigned i = 0; i < (4u << 20) * scale; i++) {
        sum += at[1];
        at = (uint64_t *)at[0];
    }
    return bench_mix(sum, at[1]);
}

/* ---- copies and fills of 1 MiB ---- */

#define BLOCK (1u << 20)
static uint64_t *copy_from, *copy_to;

static void copy_prepare(void)
{
    if (copy_from) return;
    copy_from = page_alloc(BLOCK / 4096);
    copy_to = page_alloc(BLOCK / 4096);
    uint64_t state = 521288629;
    for (unsigned i = 0; i < BLOCK / 8; i++) copy_from[i] = bench_random(&state);
}

static uint64_t block_sum(const uint64_t *p)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < BLOCK / 8; i += 511) sum = bench_mix(sum, p[i]);
    return sum;
}

/* 256 MiB, eight bytes at a time. The empty asm keeps the compiler from making it a string instruction. */
static uint64_t copy_run(unsigned scale)
{
    for (unsigned round = 0; round < 256 * scale; round++)
        for (unsigned i = 0; i < BLOCK / 8; i++) {
            copy_to[i] = copy_from[i];
            asm volatile("");
        }
    return block_sum(copy_to);
}

/* 128 MiB by REP MOVSB. */
static uint64_t copy_rep_run(unsigned scale)
{
    for (unsigned round = 0; round < 128 * scale; round++) memcpy(copy_to, copy_from, BLOCK);
    return block_sum(copy_to);
}

/* 256 MiB, eight bytes at a time. */
static uint64_t fill_run(unsigned scale)
{
    for (unsigned round = 0; round < 256 * scale; round++)
        for (unsigned i = 0; i < BLOCK / 8; i++) {
            copy_to[i] = i + round;
            asm volatile("");
        }
    return block_sum(copy_to);
}

/* 128 MiB by REP STOSB. */
static uint64_t fill_rep_run(unsigned scale)
{
    for (unsigned round = 0; round < 128 * scale; round++) memset(copy_to, (int)round, BLOCK);
    return block_sum(copy_to);
}

/* The other string instructions, 8 MiB each: copies downwards and onto themselves, comparisons, scans, loads.
 */
static uint64_t strings_run(unsigned scale)
{
    uint8_t *from = (uint8_t *)copy_from, *to = (uint8_t *)copy_to;
    uint64_t sum = 0;
    for (unsigned round = 0; round < 8 * scale; round++) {
        void *si = from + BLOCK - 1, *di = to + BLOCK - 1;
        uint64_t n = BLOCK, al = 0;
        asm volatile("std; rep movsb; cld" : "+S"(si), "+D"(di), "+c"(n) : : "memory");
        si = from, di = to, n = BLOCK;
        asm volatile("repe cmpsb" : "+S"(si), "+D"(di), "+c"(n) : : "memory", "cc");
        sum = bench_mix(sum, n);
        di = to, n = BLOCK - 1, to[0] = (uint8_t)round, si = to, di = to + 1;
        asm volatile("rep movsb" : "+S"(si), "+D"(di), "+c"(n) : : "memory");
        di = to, n = BLOCK, al = ~round & 0xFF;
        asm volatile("repne scasb" : "+D"(di), "+c"(n) : "a"(al) : "memory", "cc");
        sum = bench_mix(sum, n);
        di = to + BLOCK - 8, n = BLOCK / 8, al = round * 0x0101010101010101;
        asm volatile("std; rep stosq; cld" : "+D"(di), "+c"(n) : "a"(al) : "memory");
        si = from, n = BLOCK;
        asm volatile("rep lodsb" : "+S"(si), "+c"(n), "+a"(al) : : "memory");
        sum = bench_mix(sum, al);
    }
    return bench_mix(sum, block_sum(copy_to));
}

const struct workload bench_memory[] = {
    {"chase", "4 million dependent loads over 8 MiB", chase_prepare, chase_run, NULL},
    {"copy", "256 MiB copied by 8-byte moves", copy_prepare, copy_run, NULL},
    {"copy-rep", "128 MiB copied by REP MOVSB", copy_prepare, copy_rep_run, NULL},
    {"fill", "256 MiB filled by 8-byte moves", copy_prepare, fill_run, NULL},
    {"fill-rep", "128 MiB filled by REP STOSB", copy_prepare, fill_rep_run, NULL},
    {"strings", "8 MiB each: REP MOVSB downwards and overlapping, CMPSB, SCASB, LODSB", copy_prepare,
     strings_run, NULL},
    {0},
};

// Memory: a chain of dependent loads, and copies and fills written out, so that no library picks another way
// on another processor.
#include "bench.h"

u64 work_chase(void)
{
    enum { COUNT = 1 << 20, STEPS = 2000000 };
    u32 *next = get(COUNT * sizeof(*next));
    u64 state = 99;
    for (u32 i = 0; i < COUNT; i++) next[i] = i;
    for (u32 i = COUNT - 1; i; i--) { // one cycle through all (Sattolo)
        u32 j = (u32)(next_random(&state) % i), t = next[i];
        next[i] = next[j];
        next[j] = t;
    }
    u32 at = 0;
    u64 sum = 0;
    for (u32 i = 0; i < STEPS; i++) {
        at = next[at];
        sum += at;
    }
    free(next);
    return sum;
}

enum { WORDS = 1 << 20 }; // 8 MiB

u64 work_copy(void)
{
    u64 *from = get(WORDS * 8), *to = get(WORDS * 8), sum = 0;
    for (u32 i = 0; i < WORDS; i++) from[i] = i * 0x9e3779b97f4a7c15u;
    for (u32 round = 0; round < 50; round++) {
        const volatile u64 *f = from;
        volatile u64 *t = to;
        for (u32 i = 0; i < WORDS; i += 4) {
            t[i] = f[i];
            t[i + 1] = f[i + 1];
            t[i + 2] = f[i + 2];
            t[i + 3] = f[i + 3];
        }
        sum += to[round * 1000 + 7];
    }
    free(from);
    free(to);
    return sum;
}

u64 work_fill(void)
{
    u64 *to = get(WORDS * 8), sum = 0;
    for (u32 round = 0; round < 100; round++) {
        volatile u64 *t = to;
        for (u32 i = 0; i < WORDS; i += 4) {
            t[i] = round;
            t[i + 1] = round;
            t[i + 2] = round;
            t[i + 3] = round;
        }
        sum += to[round * 1000 + 7];
    }
    free(to);
    return sum;
}

u64 work_rep_movs(void)
{
    u8 *from = get(WORDS * 8), *to = get(WORDS * 8);
    u64 sum = 0;
    for (u32 i = 0; i < WORDS * 8; i++) from[i] = (u8)(i * 37);
    for (u32 round = 0; round < 2; round++) {
        void *s = from, *d = to;
        u64 n = WORDS * 8;
        __asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n) : : "memory");
        sum += to[round * 4099];
        d = to;
        n = WORDS * 4;
        __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(round) : "memory");
        sum += to[round * 4099];
    }
    free(from);
    free(to);
    return sum;
}

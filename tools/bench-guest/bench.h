// The bench's guest program: what its files share. Each workload does a fixed amount of work and returns a
// checksum that must be the same on every machine.
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define KEEP __attribute__((noinline, noclone))

// Integer
u64 work_sieve(void);
u64 work_sort(void);
u64 work_crc(void);
u64 work_sha256(void);
u64 work_lz(void);
// Memory
u64 work_chase(void);
u64 work_copy(void);
u64 work_fill(void);
u64 work_rep_movs(void);
// SSE2
u64 work_fp(void);
u64 work_simd(void);
// The kernel
u64 work_syscall(void);
u64 work_fork(void);
u64 work_faults(void);
u64 work_switch(void);
// KVM; "skip" says why not
u64 work_kvm_cpuid(void);
u64 work_kvm_io(void);
u64 work_kvm_ept(void);
const char *kvm_skip(void);

// The same numbers everywhere.
static inline u64 next_random(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static inline void *get(size_t size)
{
    void *p = malloc(size);
    if (!p) fail("malloc");
    return p;
}

#endif

// The bench's guest program: runs the named workloads (all, if none is named) and marks the beginning and the
// end of each on the serial line, where the host takes the time.
#include "bench.h"

#include <stdbool.h>
#include <termios.h>
#include <unistd.h>

static const struct workload {
    const char *name;
    u64 (*run)(void);
    const char *(*skip)(void);
} workloads[] = {
    {"sieve", work_sieve},
    {"sort", work_sort},
    {"crc", work_crc},
    {"sha256", work_sha256},
    {"lz", work_lz},
    {"chase", work_chase},
    {"copy", work_copy},
    {"fill", work_fill},
    {"rep-movs", work_rep_movs},
    {"fp", work_fp},
    {"simd", work_simd},
    {"syscall", work_syscall},
    {"fork", work_fork},
    {"faults", work_faults},
    {"switch", work_switch},
    {"kvm-cpuid", work_kvm_cpuid, kvm_skip},
    {"kvm-io", work_kvm_io, kvm_skip},
    {"kvm-ept", work_kvm_ept, kvm_skip},
};
#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

static void drain(void)
{
    fflush(stdout);
    tcdrain(1); // the marker is on the wire before the work begins
}

static bool wanted(const char *name, char **names)
{
    if (!*names) return true;
    for (; *names; names++)
        if (strcmp(*names, name) == 0) return true;
    return false;
}

int main(int argc, char **argv)
{
    (void)argc;
    for (size_t i = 0; i < WORKLOADS; i++) {
        const struct workload *w = &workloads[i];
        if (!wanted(w->name, argv + 1)) continue;
        const char *reason = w->skip ? w->skip() : NULL;
        if (reason) {
            printf("BENCH %s skipped %s\n", w->name, reason);
            drain();
            continue;
        }
        printf("BENCH %s begin\n", w->name);
        drain();
        u64 sum = w->run();
        printf("BENCH %s end %016llx\n", w->name, (unsigned long long)sum);
        drain();
    }
    return 0;
}

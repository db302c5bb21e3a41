#define _GNU_SOURCE
// Kernel files and initrds of any content: each is loaded and begun, or refused with one line. Nothing of the
// host is read behind a file's end.
//
// Input: what kind of machine, with what command line and initrd; the initrd's length; the initrd; the
// kernel.
#include <sys/mman.h>
#include <unistd.h>

#include "frontend/load.h"
#include "tests/fuzz/fuzz.h"
#include "tests/machine_test.h"

enum { RAM = 8 << 20 };

struct world {
    struct machine *m[3]; // all features; no 64-bit mode; no ACPI, and as little memory as there can be
    int fd[2];
    char path[2][32], list[128];
};

static void begin(struct world *w)
{
    for (unsigned i = 0; i < 3; i++) {
        struct machine_config c = {.ram_size = i == 2 ? MACHINE_RAM_MIN : RAM, .cpus = 1, .acpi_off = i == 2};
        cpu_features_max(&c.features);
        if (i == 1) cpu_feature_switch(&c.features, FEATURE_LM, false);
        w->m[i] = make_as(c);
    }
    for (unsigned i = 0; i < 2; i++) {
        w->fd[i] = memfd_create("input", 0);
        MUST(w->fd[i] >= 0, "no memfd");
        snprintf(w->path[i], sizeof w->path[i], "/proc/self/fd/%d", w->fd[i]);
    }
    snprintf(w->list, sizeof w->list, "%s one two,%s,%s x", w->path[1], w->path[1], w->path[1]);
}

static void put(int fd, const u8 *data, size_t n)
{
    MUST(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n, "the file cannot be made");
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct world w;
    static char long_line[70000];
    if (!w.m[0]) {
        begin(&w);
        memset(long_line, 'x', sizeof long_line - 1);
    }
    struct input in = {data, data + size};
    unsigned how = take8(&in);
    size_t initrd = take(&in, 2), left = (size_t)(in.end - in.at);
    if (initrd > left) initrd = left;
    put(w.fd[1], in.at, initrd);
    put(w.fd[0], in.at + initrd, left - initrd);

    struct machine *m = w.m[how % 3];
    char why[512] = "";
    madvise(m->phys.ram, m->phys.ram_size, MADV_DONTNEED); // zeros
    machine_reset(m);
    struct load_files files = {0};
    struct load_request r = {.phys = &m->phys,
                             .cpu = m->cpu[0],
                             .files = &files,
                             .acpi = m->acpi,
                             .e820_n = m->e820_n,
                             .why = why,
                             .why_size = sizeof why};
    memcpy(r.e820, m->e820, sizeof r.e820);
    r.append = how & 8 ? long_line + (how >> 4) * 4000 : how & 16 ? "console=ttyS0 quiet" : "";
    r.initrd = !(how & 4) ? NULL : how & 32 ? w.list : w.path[1];
    bool ok = load_open(&files, w.path[0], m->phys.ram_size, why, sizeof why);
    const char *kind = ok ? load_kernel(&r) : NULL;
    if (kind) {
        MUST(*kind, "a kernel of no kind");
        machine_run(m, 300);
    } else {
        MUST(*why && !strchr(why, '\n'), "refused without a reason, or with more than a line of it");
    }
    load_close(&files);
    return 0;
}

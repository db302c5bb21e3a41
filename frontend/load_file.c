// Files of the host. Each is looked at before it is read: what is no file, or cannot fit into the guest's
// memory, is refused at once; of an ELF file only what its segments need is read, and nothing more of a file
// that is no kernel.
//
// Pipes are read to their end, with the same bound: `-kernel <(zcat vmlinuz.gz)`, `-initrd /dev/stdin`. Who
// waits for one for a second is told so. What was read stays, because a reset loads anew and a pipe gives its
// bytes once.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "frontend/load.h"

#define HEAD 65536 // what tells one kind of kernel from another lies in it

struct reading {
    struct file *f;
    int fd;
    u64 room, most; // bytes that `f->data` has room for; that the guest could take
    bool kernel;    // or an initrd
    bool pipe, told;
    double start;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// NULL if it can be read, else what it is instead.
static const char *not_readable(mode_t mode)
{
    if (S_ISDIR(mode)) return strerror(EISDIR);
    if (S_ISCHR(mode)) return "it is a character device";
    if (S_ISSOCK(mode)) return "it is a socket";
    return NULL;
}

// Waits until there is something to read, or the end. False when a signal came.
static bool wait_for_input(struct reading *r)
{
    for (;;) {
        double left = r->start + 1 - seconds();
        struct pollfd p = {.fd = r->fd, .events = POLLIN};
        int n = poll(&p, 1, r->told ? -1 : left > 0 ? (int)(left * 1000) + 1 : 0);
        if (n < 0) return false;
        if (n > 0) return true;
        fprintf(stderr, "matryoshka: waiting for the %s '%s' (a pipe, %llu KiB so far); Ctrl-C ends it\n",
                r->kernel ? "kernel file" : "initrd", r->f->path, (unsigned long long)(r->f->size >> 10));
        r->told = true;
    }
}

// Reads up to `want` bytes of the file in all. False with errno; at the file's end `f->size` stays below.
static bool read_up_to(struct reading *r, u64 want)
{
    struct file *f = r->f;
    while (f->size < want) {
        if (f->size == r->room) {
            u64 room = r->room ? r->room * 2 : HEAD;
            if (room > want) room = want;
            u8 *more = realloc(f->data, room);
            if (!more) return false;
            f->data = more;
            r->room = room;
        }
        if (r->pipe && !wait_for_input(r)) return false;
        ssize_t got = read(r->fd, f->data + f->size, r->room - f->size);
        if (got < 0 && errno == EAGAIN && !r->pipe) { // some files of /proc wait, too
            r->pipe = true;
            continue;
        }
        if (got < 0 && errno == EAGAIN) continue;
        if (got < 0) return false;
        if (got == 0) break;
        f->size += (u64)got;
    }
    return true;
}

static u64 no_wrap(u64 a, u64 b) { return a + b < a ? UINT64_MAX : a + b; }

// How much of an ELF file, which begins with `n` bytes at `d`, is of use: up to the end of its last segment.
// The answer may grow when more of it is there.
static u64 elf_needs(const u8 *d, u64 n)
{
    Elf64_Ehdr h64;
    Elf32_Ehdr h32;
    bool is64 = n > EI_CLASS && d[EI_CLASS] == ELFCLASS64;
    u64 at, each, count, end;
    if (n < (is64 ? sizeof h64 : sizeof h32)) return n;
    if (is64) {
        memcpy(&h64, d, sizeof h64);
        at = h64.e_phoff, each = h64.e_phentsize, count = h64.e_phnum, end = sizeof h64;
        if (each != sizeof(Elf64_Phdr)) return UINT64_MAX;
    } else {
        memcpy(&h32, d, sizeof h32);
        at = h32.e_phoff, each = h32.e_phentsize, count = h32.e_phnum, end = sizeof h32;
        if (each != sizeof(Elf32_Phdr)) return UINT64_MAX;
    }
    if (count == PN_XNUM) return UINT64_MAX;
    u64 table = no_wrap(at, each * count);
    if (table > n) return table;
    if (table > end) end = table;
    for (u64 i = 0; i < count; i++) {
        Elf64_Phdr p;
        if (is64) {
            memcpy(&p, d + at + i * each, sizeof p);
        } else {
            Elf32_Phdr q;
            memcpy(&q, d + at + i * each, sizeof q);
            p.p_type = q.p_type, p.p_offset = q.p_offset, p.p_filesz = q.p_filesz;
        }
        u64 last = no_wrap(p.p_offset, p.p_filesz);
        if ((p.p_type == PT_LOAD || p.p_type == PT_NOTE) && last > end) end = last;
    }
    return end;
}

// The same for any kernel: all of it, or no more than is there when it is none.
static u64 kernel_needs(const u8 *d, u64 n)
{
    if (load_is_linux(d, n) || load_is_kludge(d, n)) return UINT64_MAX;
    return n >= SELFMAG && memcmp(d, ELFMAG, SELFMAG) == 0 ? elf_needs(d, n) : n;
}

enum trouble { OPENING, READING };

// The words are QEMU's, for scripts that look for them.
static bool fail(const struct reading *r, enum trouble where, const char *reason, char *why, size_t n)
{
    if (r->kernel)
        snprintf(why, n,
                 where == OPENING ? "could not open kernel file '%s': %s" : "could not load kernel '%s': %s",
                 r->f->path, reason);
    else
        snprintf(why, n, "error reading initrd %s: %s", r->f->path, reason);
    return false;
}

static bool too_large(const struct reading *r, char *why, size_t n)
{
    char reason[160];
    snprintf(reason, sizeof reason,
             "it does not fit into the %llu MiB of memory that there are for it (give more with -m)",
             (unsigned long long)(r->most >> 20));
    return fail(r, READING, reason, why, n);
}

// Reads what is needed of the open file.
static bool read_file(struct reading *r, u64 size, char *why, size_t n)
{
    struct file *f = r->f;
    u64 want = r->kernel ? HEAD : UINT64_MAX;
    for (;;) {
        u64 least = want < size ? want : size;
        // A byte more shows that a file of unknown size is too large.
        if (size != UINT64_MAX && least > r->most) return too_large(r, why, n);
        if (!read_up_to(r, least > r->most ? r->most + 1 : least))
            return fail(r, READING, errno == ENOMEM ? "the host has no memory for it" : strerror(errno), why,
                        n);
        if (f->size > r->most) return too_large(r, why, n);
        if (!r->kernel || f->size < least) return true; // all of it, or what was left of one that shrank
        u64 more = kernel_needs(f->data, f->size);
        if (more <= f->size || f->size == size) return true;
        want = more;
    }
}

static bool file_read(struct file *f, const char *path, bool kernel, u64 most, char *why, size_t n)
{
    struct reading r = {.f = f, .most = most, .kernel = kernel, .start = seconds()};
    struct stat st;
    *f = (struct file){.path = path};
    const char *reason = stat(path, &st) ? strerror(errno) : not_readable(st.st_mode);
    if (reason) return fail(&r, OPENING, reason, why, n);
    r.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); // a FIFO opens without its writer
    if (r.fd < 0) return fail(&r, OPENING, strerror(errno), why, n);
    reason = fstat(r.fd, &st) ? strerror(errno) : not_readable(st.st_mode);
    r.pipe = S_ISFIFO(st.st_mode);
    // A regular file of no size may be one of /proc.
    bool ok =
        reason ? fail(&r, OPENING, reason, why, n)
               : read_file(&r, S_ISREG(st.st_mode) && st.st_size > 0 ? (u64)st.st_size : UINT64_MAX, why, n);
    close(r.fd);
    if (!ok) free(f->data), f->data = NULL, f->size = 0;
    return ok;
}

bool load_open(struct load_files *files, const char *kernel, u64 ram_size, char *why, size_t n)
{
    return file_read(&files->kernel, kernel, true, ram_size, why, n);
}

const struct file *load_initrd(struct load_request *r, const char *path)
{
    struct load_files *files = r->files;
    for (unsigned i = 0; i < files->initrds; i++)
        if (strcmp(files->initrd[i].path, path) == 0) return &files->initrd[i];
    if (files->initrds == ARRAY_LEN(files->initrd)) {
        load_fail(r, "-initrd names more than %u files", (unsigned)ARRAY_LEN(files->initrd));
        return NULL;
    }
    struct file *f = &files->initrd[files->initrds];
    char *name = strdup(path);
    if (!name || !file_read(f, name, false, load_low_top(r), r->why, r->why_size)) {
        if (!name) load_fail(r, "the host has no memory for the name of %s", path);
        free(name);
        return NULL;
    }
    files->initrds++;
    return f;
}

void load_close(struct load_files *files)
{
    free(files->kernel.data);
    for (unsigned i = 0; i < files->initrds; i++) {
        free(files->initrd[i].data);
        free((char *)files->initrd[i].path);
    }
    *files = (struct load_files){0};
}

#include "frontend/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/text.h"
#include "frontend/symbols_read.h"

#define LAST_OF_MAP 4096 // bytes of a map's last symbol

static int by_address(const void *a, const void *b)
{
    const struct symbols_raw *x = a, *y = b;
    if (x->addr != y->addr) return x->addr < y->addr ? -1 : 1;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1; // the last one is found
    return x->name > y->name ? -1 : x->name < y->name;
}

// Sorted; each without a size reaches to the next address.
static bool settle(struct symbols_file *f, struct symbols_reading *r)
{
    f->symbol = malloc((r->n ? r->n : 1) * sizeof *f->symbol);
    if (!f->symbol || r->no_memory) return false;
    if (r->n) qsort(r->symbol, r->n, sizeof *r->symbol, by_address);
    for (size_t i = 0, next = 0; i < r->n; i++) {
        const struct symbols_raw *s = &r->symbol[i];
        while (next < r->n && r->symbol[next].addr == s->addr) next++;
        u64 limit = s->limit == UINT64_MAX && next == r->n ? s->addr + LAST_OF_MAP : s->limit,
            end = s->size                                       ? s->addr + s->size
                  : next < r->n && r->symbol[next].addr < limit ? r->symbol[next].addr
                                                                : limit;
        if (end <= s->addr) continue; // the end of a section
        f->symbol[f->n++] =
            (struct symbol){.addr = s->addr + f->offset, .end = end + f->offset, .name = r->names + s->name};
    }
    f->names = r->names;
    r->names = NULL;
    return true;
}

// The file's bytes, mapped; or NULL with errno, 0 for an empty one.
static char *map_file(const char *path, size_t *n)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char *bytes = NULL;
    *n = 0;
    if (fd < 0) return NULL;
    if (fstat(fd, &st) == 0) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : S_ISREG(st.st_mode) ? 0 : EINVAL;
        if (!errno && st.st_size > 0) {
            // libelf wants to write into what it is given.
            void *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
            if (p != MAP_FAILED) bytes = p, *n = (size_t)st.st_size;
        }
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return bytes;
}

bool symbols_add_file(struct symbols *s, const char *path, struct symbols_of of, u64 offset, char *why,
                      size_t size)
{
    size_t n;
    if (s->files == SYMBOLS_FILES_MAX)
        return snprintf(why, size, "no more than %d files of symbols", SYMBOLS_FILES_MAX), false;
    struct symbols_file *f = &s->file[s->files];
    *f = (struct symbols_file){.level = of.level, .vmcs = of.vmcs, .offset = offset};
    char *bytes = map_file(path, &n);
    if (!bytes) {
        snprintf(why, size, "cannot read the symbols of %s: %s", path,
                 errno ? strerror(errno) : "it is empty");
        return false;
    }
    struct symbols_reading r = {0};
    bool elf = n >= 4 && memcmp(bytes, "\177ELF", 4) == 0;
    const char *wrong = elf ? symbols_read_elf(&r, bytes, n) : symbols_read_map(&r, bytes, n);
    munmap(bytes, n);
    bool ok = !wrong && settle(f, &r);
    if (!wrong && !ok) wrong = "the host has no memory for them";
    if (ok && !f->n) wrong = "it has none (was it stripped?)";
    f->path = wrong ? NULL : strdup(path);
    free(r.symbol);
    free(r.names);
    if (!wrong && f->path) {
        s->files++;
        return true;
    }
    free(f->symbol);
    free(f->names);
    *f = (struct symbols_file){0};
    snprintf(why, size, "cannot read the symbols of %s: %s", path,
             wrong ? wrong : "the host has no memory for them");
    return false;
}

bool symbols_add(struct symbols *s, const char *spec, char *why, size_t size)
{
    struct symbols_of of = {SYMBOLS_ANY, SYMBOLS_NO_VMCS};
    u64 offset = 0;
    const char *file = spec;
    if (strncmp(spec, "root:", 5) == 0) of.level = SYMBOLS_ROOT, file += 5;
    if (strncmp(spec, "guest:", 6) == 0) of.level = SYMBOLS_GUEST, file += 6;
    char path[4096];
    if (snprintf(path, sizeof path, "%s", file) >= (int)sizeof path)
        return snprintf(why, size, "symbols: the file's name is too long"), false;
    for (char *comma; (comma = strrchr(path, ',')) != NULL; *comma = 0) { // from the end: a name may hold one
        u64 *to = strncmp(comma, ",offset=", 8) == 0 ? &offset
                  : strncmp(comma, ",vmcs=", 6) == 0 ? &of.vmcs
                                                     : NULL;
        if (!to) break;
        if (!text_number(strchr(comma, '=') + 1, to))
            return snprintf(why, size, "symbols: \"%s\" is no number", comma + 1), false;
    }
    if (of.vmcs != SYMBOLS_NO_VMCS && of.level == SYMBOLS_ROOT)
        return snprintf(why, size, "symbols: vmcs= tells guests apart: not with root:"), false;
    if (of.vmcs != SYMBOLS_NO_VMCS) of.level = SYMBOLS_GUEST;
    if (!*path)
        return snprintf(why, size, "symbols: a file is wanted: [root:|guest:]FILE[,offset=N][,vmcs=ADDRESS]"),
               false;
    return symbols_add_file(s, path, of, offset, why, size);
}

void symbols_add_kernel(struct symbols *s, const char *path)
{
    struct stat st;
    char why[512];
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return; // a pipe's bytes are the loader's
    for (unsigned i = 0; i < s->files; i++)
        if (s->file[i].level & SYMBOLS_ROOT) return;
    symbols_add_file(s, path, (struct symbols_of){SYMBOLS_ROOT, SYMBOLS_NO_VMCS}, 0, why, sizeof why);
}

void symbols_free(struct symbols *s)
{
    for (unsigned i = 0; i < s->files; i++) {
        free(s->file[i].path);
        free(s->file[i].names);
        free(s->file[i].symbol);
    }
    *s = (struct symbols){0};
}

static bool is_of(const struct symbols_file *f, struct symbols_of of)
{
    if (!(f->level & of.level)) return false;
    return f->vmcs == SYMBOLS_NO_VMCS || of.vmcs == SYMBOLS_NO_VMCS || f->vmcs == of.vmcs;
}

static const struct symbol *find_in(const struct symbols_file *f, u64 addr)
{
    unsigned low = 0, high = f->n; // file[low] is the first above it
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (f->symbol[middle].addr <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    // A small one may lie within a larger one, and end before the address.
    for (unsigned back = 0; back < 8 && low-- > 0; back++)
        if (addr < f->symbol[low].end) return &f->symbol[low];
    return NULL;
}

const struct symbol *symbols_find(const struct symbols *s, struct symbols_of of, u64 addr)
{
    for (unsigned i = s->files; i-- > 0;) {
        const struct symbol *found = is_of(&s->file[i], of) ? find_in(&s->file[i], addr) : NULL;
        if (found) return found;
    }
    return NULL;
}

bool symbols_text(const struct symbols *s, struct symbols_of of, u64 addr, char *text, size_t size)
{
    const struct symbol *at = symbols_find(s, of, addr);
    if (!at)
        *text = 0;
    else if (at->addr == addr)
        snprintf(text, size, "%s", at->name);
    else
        snprintf(text, size, "%s+%#" PRIx64, at->name, addr - at->addr);
    return at != NULL;
}

static const struct symbol *find_named(const struct symbols_file *f, const char *name, size_t n)
{
    for (unsigned k = 0; k < f->n; k++)
        if (strncmp(f->symbol[k].name, name, n) == 0 && !f->symbol[k].name[n]) return &f->symbol[k];
    return NULL;
}

bool symbols_address(const struct symbols *s, struct symbols_of of, const char *text, u64 *addr)
{
    const char *plus = strrchr(text, '+');
    u64 more = 0;
    if (plus && !text_number(plus + 1, &more)) return false;
    size_t n = plus ? (size_t)(plus - text) : strlen(text);
    for (unsigned i = s->files; i-- > 0;) {
        const struct symbol *found = is_of(&s->file[i], of) ? find_named(&s->file[i], text, n) : NULL;
        if (found) return *addr = found->addr + more, true;
    }
    return false;
}

const struct symbols_file *symbols_file_with(const struct symbols *s, const char *name, u64 *addr)
{
    for (unsigned i = s->files; i-- > 0;) {
        const struct symbol *found = find_named(&s->file[i], name, strlen(name));
        if (found) return *addr = found->addr, &s->file[i];
    }
    return NULL;
}

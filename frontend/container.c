// Files of our own. See the header.
#include "frontend/container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define FORMAT 1
#define LEVEL  1 // of zstd: a machine's memory is to be saved at the speed of the disk

static const char magic[8] = "MATRYBOX";
static const char *const kinds[] = {"?", "saved machine", "recording"};

struct header {
    char magic[8];
    u32 format, kind;
};
struct section_header {
    char name[CONTAINER_NAME_MAX];
    u32 index, version;
    u64 size, packed, check;
};

static bool fail(char *why, size_t n, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(why, n, format, list);
    va_end(list);
    return false;
}

// FNV-1a of the fields before it.
static u64 check_of(const struct section_header *h)
{
    const u8 *p = (const u8 *)h;
    u64 x = 0xCBF29CE484222325ull;
    for (size_t i = 0; i < offsetof(struct section_header, check); i++) x = (x ^ p[i]) * 0x100000001B3ull;
    return x;
}

// ---- writing ----

static void put_bytes(struct container_out *c, const void *data, size_t n)
{
    if (!c->error && fwrite(data, 1, n, c->f) != n) c->error = errno ? errno : EIO;
}

bool container_create(struct container_out *c, const char *path, enum container_kind kind, char *why,
                      size_t n)
{
    *c = (struct container_out){.path = path};
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) // as /dev/null: there is nothing beside it
        return fail(why, n, "cannot write %s: it is no file", path);
    if ((size_t)snprintf(c->beside, sizeof c->beside, "%s.%ld.part", path, (long)getpid()) >=
        sizeof c->beside)
        return fail(why, n, "cannot write %s: %s", path, strerror(ENAMETOOLONG));
    int fd = open(c->beside, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
    c->f = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (!c->f) return fail(why, n, "cannot write %s: %s", path, strerror(errno));
    struct header h = {.format = FORMAT, .kind = kind};
    memcpy(h.magic, magic, sizeof h.magic);
    put_bytes(c, &h, sizeof h);
    return true;
}

static void put_piece(struct container_out *c, const char *name, u32 index, u32 version, const void *data,
                      u64 size)
{
    size_t most = ZSTD_compressBound(size);
    if (most > c->room) {
        free(c->packed);
        c->packed = malloc(most);
        c->room = c->packed ? most : 0;
    }
    ZSTD_CCtx *z = ZSTD_createCCtx();
    if (!c->packed || !z) {
        c->error = c->error ? c->error : ENOMEM;
        ZSTD_freeCCtx(z);
        return;
    }
    ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
    size_t packed = ZSTD_compress2(z, c->packed, c->room, data, size);
    ZSTD_freeCCtx(z);
    if (ZSTD_isError(packed)) {
        c->error = c->error ? c->error : ENOMEM;
        return;
    }
    struct section_header h = {.index = index, .version = version, .size = size, .packed = packed};
    strncpy(h.name, name, sizeof h.name - 1);
    h.check = check_of(&h);
    put_bytes(c, &h, sizeof h);
    put_bytes(c, c->packed, packed);
}

bool container_possible(const char *path, char *why, size_t n)
{
    struct container_out c;
    if (!container_create(&c, path, 0, why, n)) return false;
    fclose(c.f);
    unlink(c.beside);
    free(c.packed);
    return true;
}

void container_put(struct container_out *c, const char *name, u32 version, const void *data, u64 size)
{
    const u8 *p = data;
    u32 index = 0;
    do {
        u64 piece = size < CONTAINER_PIECE ? size : CONTAINER_PIECE;
        put_piece(c, name, index++, version, p ? p : (const u8 *)"", piece);
        p = p ? p + piece : p, size -= piece;
    } while (size && !c->error);
}

bool container_finish(struct container_out *c, char *why, size_t n)
{
    if (!c->f) return false;
    container_put(c, "end", 0, NULL, 0);
    if (!c->error && (fflush(c->f) != 0 || fsync(fileno(c->f)) != 0)) c->error = errno;
    if (fclose(c->f) != 0 && !c->error) c->error = errno;
    if (!c->error && rename(c->beside, c->path) != 0) c->error = errno;
    if (c->error) unlink(c->beside);
    free(c->packed);
    int error = c->error;
    const char *path = c->path;
    *c = (struct container_out){0};
    return !error || fail(why, n, "cannot write %s: %s", path, strerror(error));
}

// ---- reading ----

bool container_of_bytes(struct container_in *c, const u8 *data, u64 size, enum container_kind kind, char *why,
                        size_t n)
{
    struct header h;
    if (!c->path) c->path = "these bytes";
    c->data = data, c->size = size, c->at = sizeof h;
    if (size < sizeof h || memcmp(data, magic, sizeof magic) != 0)
        return fail(why, n, "%s: it is no %s", c->path, kinds[kind]);
    memcpy(&h, data, sizeof h);
    if (h.format != FORMAT)
        return fail(why, n, "%s: it has format %u, and this program reads format %d", c->path, h.format,
                    FORMAT);
    if (h.kind != (u32)kind)
        return fail(why, n, "%s: it is a %s, not a %s", c->path,
                    h.kind < ARRAY_LEN(kinds) ? kinds[h.kind] : kinds[0], kinds[kind]);
    return true;
}

bool container_open(struct container_in *c, const char *path, enum container_kind kind, char *why, size_t n)
{
    *c = (struct container_in){.path = path};
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail(why, n, "cannot read %s: %s", path, strerror(errno));
    bool known = fstat(fd, &st) == 0;
    if (known && S_ISDIR(st.st_mode)) {
        close(fd);
        return fail(why, n, "cannot read %s: %s", path, strerror(EISDIR));
    }
    if (!known || !S_ISREG(st.st_mode) || !st.st_size) {
        close(fd);
        return fail(why, n, "%s: it is no %s", path, kinds[kind]);
    }
    void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (at == MAP_FAILED) return fail(why, n, "cannot read %s: %s", path, strerror(errno));
    c->mapped = true;
    if (container_of_bytes(c, at, (u64)st.st_size, kind, why, n)) return true;
    container_close(c);
    return false;
}

void container_close(struct container_in *c)
{
    if (c->mapped) munmap((void *)(uintptr_t)c->data, c->size);
    *c = (struct container_in){0};
}

u8 *container_bytes(const char *path, enum container_kind kind, u64 *size, char *why, size_t n)
{
    struct container_in c;
    if (!container_open(&c, path, kind, why, n)) return NULL;
    u8 *bytes = malloc(c.size);
    if (bytes)
        memcpy(bytes, c.data, c.size);
    else
        fail(why, n, "no memory to read %s", path);
    *size = c.size;
    container_close(&c);
    return bytes;
}

// Names are printed.
static bool name_good(const char name[CONTAINER_NAME_MAX])
{
    size_t n = strnlen(name, CONTAINER_NAME_MAX);
    for (size_t i = 0; i < n; i++)
        if (name[i] < ' ' || name[i] > '~') return false;
    return n < CONTAINER_NAME_MAX;
}

// The next section; false with a line if the file is damaged there or ends.
static bool next(struct container_in *c, struct container_section *s, char *why, size_t n)
{
    struct section_header h;
    u64 left = c->size - c->at;
    if (left < sizeof h)
        return fail(why, n, "%s: it is cut off after %llu bytes", c->path, (unsigned long long)c->size);
    memcpy(&h, c->data + c->at, sizeof h);
    if (h.check != check_of(&h) || !name_good(h.name) || h.size > CONTAINER_PIECE ||
        (strcmp(h.name, "end") == 0 && h.size))
        return fail(why, n, "%s: it is damaged at byte %llu", c->path, (unsigned long long)c->at);
    if (h.packed > left - sizeof h)
        return fail(why, n, "%s: it is cut off after %llu bytes, within its section \"%s\"", c->path,
                    (unsigned long long)c->size, h.name);
    *s = (struct container_section){.index = h.index,
                                    .version = h.version,
                                    .size = h.size,
                                    .packed_size = h.packed,
                                    .packed = c->data + c->at + sizeof h};
    memcpy(s->name, h.name, sizeof s->name);
    c->at += sizeof h + h.packed;
    return true;
}

static bool unpack(const struct container_in *c, const struct container_section *s, u8 *to, char *why,
                   size_t n)
{
    if (ZSTD_getFrameContentSize(s->packed, s->packed_size) == s->size &&
        ZSTD_decompress(to, s->size, s->packed, s->packed_size) == s->size)
        return true;
    return fail(why, n, "%s: its section \"%s\" %u is damaged", c->path, s->name, s->index);
}

static bool nothing_follows(const struct container_in *c, char *why, size_t n)
{
    return c->at == c->size || fail(why, n, "%s: more follows its end", c->path);
}

u8 *container_take(struct container_in *c, const char *name, u32 version, u64 most, u64 *size, char *why,
                   size_t n)
{
    struct container_section s;
    u8 *all = malloc(1);
    u32 index = 0;
    *size = 0;
    for (c->at = sizeof(struct header); all;) {
        if (!next(c, &s, why, n)) break;
        if (strcmp(s.name, "end") == 0) {
            if (!index) fail(why, n, "%s: it has no section \"%s\"", c->path, name);
            all[*size] = 0;
            if (index && unpack(c, &s, all + *size, why, n) && nothing_follows(c, why, n)) return all;
            break;
        }
        if (strcmp(s.name, name) != 0) continue;
        if (s.version != version || s.index != index) {
            fail(why, n, "%s: its section \"%s\" %u is of version %u, and this program has version %u",
                 c->path, name, s.index, s.version, version);
            break;
        }
        if (s.size > most - *size) {
            fail(why, n, "%s: its section \"%s\" is longer than can be", c->path, name);
            break;
        }
        u8 *more = realloc(all, *size + s.size + 1);
        if (!more) {
            fail(why, n, "no memory to read %s", c->path);
            break;
        }
        all = more;
        if (!unpack(c, &s, all + *size, why, n)) break;
        *size += s.size;
        index++;
    }
    if (!all) fail(why, n, "no memory to read %s", c->path);
    free(all);
    return NULL;
}

bool container_whole(struct container_in *c, char *why, size_t n)
{
    struct container_section s;
    u8 *to = malloc(CONTAINER_PIECE);
    bool good = to != NULL;
    if (!good) fail(why, n, "no memory to read %s", c->path);
    c->at = sizeof(struct header);
    do good = good && next(c, &s, why, n) && unpack(c, &s, to, why, n);
    while (good && strcmp(s.name, "end") != 0);
    good = good && nothing_follows(c, why, n);
    free(to);
    return good;
}

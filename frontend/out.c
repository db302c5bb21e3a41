#define _GNU_SOURCE // fopencookie
#include "frontend/out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

enum { PACKED = 1 << 17, LEVEL = 3 };
struct packed {
    FILE *f;
    ZSTD_CCtx *z;
    char buf[PACKED];
};

// All of `n` bytes; at the end the frame is closed too.
static bool pack(struct packed *p, const char *bytes, size_t n, ZSTD_EndDirective how)
{
    ZSTD_inBuffer in = {bytes, n, 0};
    size_t left;
    do {
        ZSTD_outBuffer to = {p->buf, sizeof p->buf, 0};
        left = ZSTD_compressStream2(p->z, &to, &in, how);
        if (ZSTD_isError(left)) return errno = EIO, false;
        if (fwrite(p->buf, 1, to.pos, p->f) != to.pos) return false;
    } while (how == ZSTD_e_end ? left : in.pos < in.size);
    return true;
}

static ssize_t packed_write(void *cookie, const char *bytes, size_t n)
{
    return pack(cookie, bytes, n, ZSTD_e_continue) ? (ssize_t)n : 0;
}

static int packed_close(void *cookie)
{
    struct packed *p = cookie;
    bool ok = pack(p, "", 0, ZSTD_e_end);
    if (fclose(p->f) != 0) ok = false;
    ZSTD_freeCCtx(p->z);
    free(p);
    return ok ? 0 : -1;
}

FILE *out_open(const char *path, bool zstd, char *why, size_t n)
{
    FILE *f = fopen(path, "wbe"), *outer = NULL;
    if (!f) {
        snprintf(why, n, "cannot write %s: %s", path, strerror(errno));
        return NULL;
    }
    if (!zstd) return f;
    struct packed *p = malloc(sizeof *p);
    if (p) {
        p->f = f;
        p->z = ZSTD_createCCtx();
        if (p->z) {
            ZSTD_CCtx_setParameter(p->z, ZSTD_c_compressionLevel, LEVEL);
            ZSTD_CCtx_setParameter(p->z, ZSTD_c_checksumFlag, 1);
            outer =
                fopencookie(p, "w", (cookie_io_functions_t){.write = packed_write, .close = packed_close});
        }
    }
    if (outer) return outer;
    if (p) ZSTD_freeCCtx(p->z);
    free(p);
    fclose(f);
    snprintf(why, n, "the host has no memory to pack %s", path);
    return NULL;
}

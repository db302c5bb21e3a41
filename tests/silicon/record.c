// clang-format off
// Recordings of the silicon test.
//
// A file is a header of 160 bytes and a zlib stream. All numbers are little-endian.
//
//   0  16  "matryoshka-sili\n"
//  16   4  version: 2
//  20   4  CRC-32 of the stream's contents
//  24   8  bytes of the stream's contents
//  32   8  seed
//  40   4  encodings a row
//  44   4  cases
//  48  12  vendor (CPUID leaf 0); 60: 4 signature (leaf 1, EAX)
//  64  24  features: leaf 1 ECX, EDX; leaf 7 EBX, ECX, EDX; leaf 0Dh subleaf 1 EAX
//  88  48  brand (leaves 80000002h to 80000004h)
// 136  20  zero
// 156   4  CRC-32 of the header's first 156 bytes
//
// The contents: rows, states, pages, cases. A varint has seven bits a byte, the low ones first, bit 7 set in all but the last.
//
//   varint rows;   each: name (ends in a zero byte), map (0 one byte, 1 0F, 2 0F 38, 3 0F 3A), prefix (' ' none, '6' 66h, '2' F2h, '3' F3h,
//                  'r' neither F2h nor F3h, 'a' any), opcode (bytes)
//   varint states; each an image of an input state (below)
//   varint pages;  each the DATA_SIZE bytes of the data pages
//   cases, each:
//     varint row + 1; 0: a sequence, then varint n and n rows that it uses
//     byte  bits (16, 32, 64)
//     byte  n, n bytes of code
//     varint state, then what the inputs differ in from it; in 16- and 32-bit code from its registers cut to 32 bits
//     varint page, then what the data differ in from it
//     varint undefined flags, low half; high half; address of the memory operand or 0
//     byte vector, varint error code, varint CR2
//     what the image of the state afterwards differs in from the inputs'; what the data differ in from those before
//
// An image of a state is GPRs (16 of 8 bytes), RIP, RFLAGS, XMM registers (16 of 16), MXCSR (4), FCW, FSW (2 each), tags (1),
// the x87 registers from ST(0) on (8 of 10), the high halves of the YMM registers (16 of 16). A list of differences is (varint bytes to skip, varint n, n bytes) repeatedly, ended by two zero
// varints.
// clang-format on
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "tests/silicon/record.h"

enum {
    VERSION = 2,
    HEADER = 160,
    IMAGE = 128 + 8 + 8 + 256 + 4 + 2 + 2 + 1 + 80 + 256,
    MAX_CONTENTS = 64 << 20
};
static const char magic[17] = "matryoshka-sili\n";

static void put32(u8 *p, u32 x)
{
    for (unsigned i = 0; i < 4; i++) p[i] = (u8)(x >> 8 * i);
}
static void put64(u8 *p, u64 x) { put32(p, (u32)x), put32(p + 4, (u32)(x >> 32)); }
static u32 get32(const u8 *p) { return p[0] | (u32)p[1] << 8 | (u32)p[2] << 16 | (u32)p[3] << 24; }
static u64 get64(const u8 *p) { return get32(p) | (u64)get32(p + 4) << 32; }

// ---- images of states ----
static void image_put(const struct side_state *s, u8 *b)
{
    for (unsigned i = 0; i < 16; i++, b += 8) put64(b, s->gpr[i]);
    put64(b, s->rip), put64(b + 8, s->rflags), b += 16;
    for (unsigned i = 0; i < 32; i++, b += 8) put64(b, s->xmm[i / 2][i % 2]);
    put32(b, s->mxcsr), b += 4;
    *b++ = (u8)s->fcw, *b++ = (u8)(s->fcw >> 8), *b++ = (u8)s->fsw, *b++ = (u8)(s->fsw >> 8), *b++ = s->tags;
    memcpy(b, s->st, 80), b += 80;
    for (unsigned i = 0; i < 32; i++, b += 8) put64(b, s->ymm_high[i / 2][i % 2]);
}
static void image_get(struct side_state *s, const u8 *b)
{
    for (unsigned i = 0; i < 16; i++, b += 8) s->gpr[i] = get64(b);
    s->rip = get64(b), s->rflags = get64(b + 8), b += 16;
    for (unsigned i = 0; i < 32; i++, b += 8) s->xmm[i / 2][i % 2] = get64(b);
    s->mxcsr = get32(b), b += 4;
    s->fcw = (u16)(b[0] | b[1] << 8), s->fsw = (u16)(b[2] | b[3] << 8), s->tags = b[4];
    memcpy(s->st, b + 5, 80), b += 85;
    for (unsigned i = 0; i < 32; i++, b += 8) s->ymm_high[i / 2][i % 2] = get64(b);
}
static void image_cut(u8 *b, unsigned bits) // to the registers that code of fewer bits has
{
    for (unsigned i = 0; i < 16 && bits != 64; i++) put32(b + 8 * i + 4, 0);
}

// ---- writing ----
struct buffer {
    u8 *p;
    size_t n, room;
};

static void put(struct buffer *b, const void *p, size_t n)
{
    if (b->n + n > b->room) {
        b->room = 2 * (b->n + n);
        b->p = realloc(b->p, b->room);
        if (!b->p) abort();
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void put_byte(struct buffer *b, u8 x) { put(b, &x, 1); }
static void put_varint(struct buffer *b, u64 x)
{
    for (; x >= 0x80; x >>= 7) put_byte(b, (u8)(x | 0x80));
    put_byte(b, (u8)x);
}
static void put_differences(struct buffer *b, const u8 *from, const u8 *to, size_t n)
{
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        if (from[i] == to[i]) continue;
        size_t end = i + 1, last = end; // up to two equal bytes are cheaper within a run
        for (; end < n && end < last + 3; end++) {
            if (from[end] != to[end]) last = end + 1;
        }
        put_varint(b, i - done), put_varint(b, last - i), put(b, to + i, last - i);
        done = last, i = last - 1;
    }
    put_varint(b, 0), put_varint(b, 0);
}

// What names a row in a file must outlive changes of the table.
static u8 map_code(const struct row *r)
{
    return r->map == MAP_1 ? 0 : r->map == MAP_0F ? 1 : r->map == MAP_0F38 ? 2 : 3;
}
static u8 prefix_code(const struct row *r)
{
    switch (r->prefix) {
    case PFX_NONE: return ' ';
    case PFX_66: return '6';
    case PFX_F2: return '2';
    case PFX_F3: return '3';
    case PFX_NO_REP: return 'r';
    default: return 'a';
    }
}

struct record_writer {
    struct buffer b;
    const struct input_pool *pool;
    u64 seed;
    u32 count, cases;
};

struct record_writer *record_begin(const struct input_pool *pool, u64 seed, u32 count)
{
    struct record_writer *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->pool = pool, w->seed = seed, w->count = count;
    put_varint(&w->b, rows_n);
    for (unsigned i = 0; i < rows_n; i++) {
        const struct row *r = &rows[i];
        put(&w->b, r->name, strlen(r->name) + 1),
            put(&w->b, (const u8[]){map_code(r), prefix_code(r), r->opcode}, 3);
    }
    u8 image[IMAGE];
    put_varint(&w->b, pool->states_n);
    for (unsigned i = 0; i < pool->states_n; i++)
        image_put(&pool->states[i], image), put(&w->b, image, IMAGE);
    put_varint(&w->b, pool->pages_n);
    put(&w->b, pool->pages, pool->pages_n * DATA_SIZE);
    return w;
}

void record_case(struct record_writer *w, const struct test *t, unsigned state, unsigned page,
                 const struct outcome *o, const u8 *data)
{
    u8 base[IMAGE], in[IMAGE], out[IMAGE];
    struct buffer *b = &w->b;
    put_varint(b, t->row ? (u64)(t->row - rows) + 1 : 0);
    if (!t->row) {
        put_varint(b, t->used.n);
        for (unsigned i = 0; i < t->used.n; i++) put_varint(b, (u64)(t->used.row[i] - rows));
    }
    put_byte(b, t->in.bits);
    put_byte(b, (u8)t->n), put(b, t->code, t->n);
    image_put(&w->pool->states[state], base), image_cut(base, t->in.bits);
    image_put(&t->in, in), image_put(&o->s, out), image_cut(out, t->in.bits);
    if (t->in.bits != 64) memcpy(out + 64, in + 64, 64); // R8 to R15 do not exist there
    put_varint(b, state), put_differences(b, base, in, IMAGE);
    put_varint(b, page), put_differences(b, w->pool->pages[page], t->data, DATA_SIZE);
    put_varint(b, (u32)t->undefined), put_varint(b, t->undefined >> 32), put_varint(b, t->operand);
    put_byte(b, (u8)o->vector), put_varint(b, o->error), put_varint(b, o->cr2);
    put_differences(b, in, out, IMAGE);
    put_differences(b, t->data, data, DATA_SIZE);
    w->cases++;
}

bool record_end(struct record_writer *w, const char *path, const struct recording_cpu *cpu, u64 *bytes,
                const char **why)
{
    u8 h[HEADER] = {0};
    uLongf n = compressBound(w->b.n);
    u8 *z = malloc(n);
    bool ok = z && compress2(z, &n, w->b.p, w->b.n, 9) == Z_OK;
    *why = "no memory";
    memcpy(h, magic, 16);
    put32(h + 16, VERSION), put32(h + 20, (u32)crc32(0, w->b.p, (uInt)w->b.n)), put64(h + 24, w->b.n);
    put64(h + 32, w->seed), put32(h + 40, w->count), put32(h + 44, w->cases);
    memcpy(h + 48, cpu->vendor, 12), put32(h + 60, cpu->signature);
    for (unsigned i = 0; i < 6; i++) put32(h + 64 + 4 * i, cpu->features[i]);
    memcpy(h + 88, cpu->brand, 48);
    put32(h + HEADER - 4, (u32)crc32(0, h, HEADER - 4));
    FILE *f = ok ? fopen(path, "wb") : NULL;
    if (ok && !f) ok = false, *why = strerror(errno);
    if (f) {
        errno = 0;
        if (fwrite(h, HEADER, 1, f) != 1 || fwrite(z, n, 1, f) != 1) ok = false;
        if (fclose(f)) ok = false;
        if (!ok) *why = strerror(errno);
    }
    *bytes = HEADER + n;
    free(z), free(w->b.p), free(w);
    return ok;
}

// ---- reading ----
struct record_reader {
    struct recording_cpu cpu;
    u64 seed;
    u32 count, cases, left;
    u8 *p; // the contents
    size_t n, at, first;
    bool bad; // ran over the end, or a number that cannot be
    unsigned rows_n, states_n, pages_n;
    const struct row **row; // NULL: this table has no such row
    size_t states, pages;   // where they are
};

static const u8 *take(struct record_reader *r, size_t n)
{
    if (n > r->n - r->at) {
        r->bad = true;
        return NULL;
    }
    r->at += n;
    return r->p + r->at - n;
}
static u8 take_byte(struct record_reader *r)
{
    const u8 *p = take(r, 1);
    return p ? *p : 0;
}
static u64 take_varint(struct record_reader *r, u64 max)
{
    u64 x = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        u8 b = take_byte(r);
        x |= (u64)(b & 0x7F) << shift;
        if (!(b & 0x80)) {
            if (x > max) r->bad = true;
            return r->bad ? 0 : x;
        }
    }
    r->bad = true;
    return 0;
}
static const char *take_text(struct record_reader *r)
{
    const u8 *p = r->p + r->at, *end = memchr(p, 0, r->n - r->at);
    if (!end) {
        r->bad = true;
        return "";
    }
    r->at += (size_t)(end - p) + 1;
    return (const char *)p;
}
static void take_differences(struct record_reader *r, u8 *b, size_t n)
{
    size_t at = 0;
    while (!r->bad) {
        u64 skip = take_varint(r, n - at), k = take_varint(r, n - at);
        if (!skip && !k) return;
        if (r->bad || !k || skip + k > n - at) {
            r->bad = true;
            return;
        }
        const u8 *p = take(r, k);
        if (p) memcpy(b + at + skip, p, k);
        at += skip + k;
    }
}

static const struct row *find_row(const char *name, const u8 *key)
{
    for (unsigned i = 0; i < rows_n; i++) {
        const struct row *x = &rows[i];
        if (!strcmp(x->name, name) && map_code(x) == key[0] && prefix_code(x) == key[1] &&
            x->opcode == key[2])
            return x;
    }
    return NULL;
}

static u8 *read_all(const char *path, size_t *n, const char **why)
{
    FILE *f = fopen(path, "rb");
    u8 *p = NULL;
    long size = -1;
    *why = f ? "cannot be read" : strerror(errno);
    if (f && !fseek(f, 0, SEEK_END)) size = ftell(f);
    if (size >= 0 && size <= MAX_CONTENTS && !fseek(f, 0, SEEK_SET)) p = malloc((size_t)size + 1);
    if (p && fread(p, 1, (size_t)size, f) != (size_t)size) free(p), p = NULL;
    if (f) fclose(f);
    *n = (size_t)size;
    return p;
}

static bool read_tables(struct record_reader *r)
{
    r->rows_n = (unsigned)take_varint(r, 0xFFFF);
    if (!r->rows_n) return false;
    r->row = calloc(r->rows_n + 1, sizeof *r->row);
    if (!r->row) return false;
    for (unsigned i = 0; i < r->rows_n && !r->bad; i++) {
        const char *name = take_text(r);
        const u8 *key = take(r, 3);
        if (key) r->row[i] = find_row(name, key);
    }
    r->states_n = (unsigned)take_varint(r, 0xFFFF);
    r->states = r->at, take(r, (size_t)r->states_n * IMAGE);
    r->pages_n = (unsigned)take_varint(r, 0xFFF);
    r->pages = r->at, take(r, (size_t)r->pages_n * DATA_SIZE);
    r->first = r->at;
    return !r->bad && r->states_n && r->pages_n;
}

struct record_reader *record_open(const char *path, const char **why)
{
    size_t n;
    u8 *file = read_all(path, &n, why);
    if (!file) return NULL;
    struct record_reader *r = calloc(1, sizeof *r);
    uLongf got = 0;
    *why = NULL;
    if (!r)
        *why = "no memory";
    else if (n < HEADER || memcmp(file, magic, 16))
        *why = "is no recording of the silicon test";
    else if (get32(file + 16) != VERSION)
        *why = "is a recording of another version than 2";
    else if ((u32)crc32(0, file, HEADER - 4) != get32(file + HEADER - 4))
        *why = "is damaged: the header's checksum is wrong";
    else if (get64(file + 24) > MAX_CONTENTS)
        *why = "is damaged: larger than a recording can be";
    else {
        r->n = got = get64(file + 24);
        r->p = malloc(got + 1);
        if (!r->p)
            *why = "no memory";
        else if (uncompress(r->p, &got, file + HEADER, n - HEADER) != Z_OK || got != r->n)
            *why = "is damaged: its contents do not unpack";
        else if ((u32)crc32(0, r->p, (uInt)got) != get32(file + 20))
            *why = "is damaged: the contents' checksum is wrong";
        else if (!read_tables(r))
            *why = "is damaged: its tables make no sense";
    }
    if (*why) {
        free(file);
        record_close(r);
        return NULL;
    }
    r->seed = get64(file + 32), r->count = get32(file + 40), r->cases = get32(file + 44);
    memcpy(r->cpu.vendor, file + 48, 12), r->cpu.signature = get32(file + 60);
    for (unsigned i = 0; i < 6; i++) r->cpu.features[i] = get32(file + 64 + 4 * i);
    memcpy(r->cpu.brand, file + 88, 48);
    free(file);
    record_rewind(r);
    return r;
}
const struct recording_cpu *record_cpu(const struct record_reader *r) { return &r->cpu; }
u64 record_seed(const struct record_reader *r) { return r->seed; }
u32 record_count(const struct record_reader *r) { return r->count; }
u32 record_cases(const struct record_reader *r) { return r->cases; }
void record_rewind(struct record_reader *r) { r->at = r->first, r->left = r->cases; }

int record_next(struct record_reader *r, struct test *t, struct outcome *o, u8 *data, const char **why)
{
    o->x87_known = 0;
    u8 image[IMAGE];
    *why = "is damaged: a case makes no sense";
    if (!r->left) return r->at == r->n ? 0 : -1;
    r->left--;
    memset(t, 0, sizeof *t), memset(o, 0, sizeof *o);
    unsigned row = (unsigned)take_varint(r, r->rows_n);
    if (row) {
        t->row = r->row[row - 1];
        t->unknown = !t->row;
    } else {
        t->used.n = (unsigned)take_varint(r, ARRAY_LEN(t->used.row));
        for (unsigned i = 0; i < t->used.n; i++) {
            u64 k = take_varint(r, r->rows_n - 1);
            t->used.row[i] = r->row[k];
            t->unknown |= !t->used.row[i];
        }
    }
    unsigned bits = take_byte(r);
    t->n = take_byte(r);
    if ((bits != 16 && bits != 32 && bits != 64) || !t->n || t->n > sizeof t->code) return -1;
    const u8 *code = take(r, t->n);
    if (!code) return -1;
    memcpy(t->code, code, t->n);

    memcpy(image, r->p + r->states + take_varint(r, r->states_n - 1) * IMAGE, IMAGE);
    image_cut(image, bits);
    take_differences(r, image, IMAGE);
    image_get(&t->in, image);
    t->in.bits = (u8)bits;
    u64 at = code_linear(t->in.bits, t->in.rip);
    if (at < CODE_BASE || at >= CODE_BASE + CODE_SIZE) return -1;
    memcpy(t->data, r->p + r->pages + take_varint(r, r->pages_n - 1) * DATA_SIZE, DATA_SIZE);
    take_differences(r, t->data, DATA_SIZE);
    t->undefined = take_varint(r, UINT32_MAX);
    t->undefined |= take_varint(r, UINT32_MAX) << 32;
    t->operand = take_varint(r, UINT64_MAX);
    o->vector = take_byte(r);
    o->error = (u32)take_varint(r, UINT32_MAX);
    o->cr2 = take_varint(r, UINT64_MAX);
    take_differences(r, image, IMAGE);
    image_get(&o->s, image);
    memcpy(data, t->data, DATA_SIZE);
    take_differences(r, data, DATA_SIZE);
    return r->bad ? -1 : 1;
}

void record_close(struct record_reader *r)
{
    if (!r) return;
    free(r->p);
    free(r->row);
    free(r);
}

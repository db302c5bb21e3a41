// Files of our own of any content: each is a saved machine or a recording that can be, or is refused with one
// line; nothing of the host is read behind a file's end, and a recording that was taken can be replayed.
// (What is in a saved machine: fuzz_state.)
//
// Input: what file; then either its bytes behind the magic number, or its sections, each with its name,
// version, index and content, to which the fuzzer makes good checksums; and last what of it is damaged.
#include <zstd.h>

#include "devices/machine_state.h"
#include "frontend/container.h"
#include "frontend/recording.h"
#include "frontend/state_file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/machine_test.h"

enum { ROOM = 1 << 20, CONTENT = 15 * 256 };

// The format as the head of frontend/container.h has it.
struct head {
    char magic[8];
    u32 format, kind;
};
struct section {
    char name[24];
    u32 index, version;
    u64 size, packed, check;
};
static const char *const names[] = {"devices", "counts", "machine", "words",   "images", "events",
                                    "hashes",  "ending", "image 0", "image 1", "end",    "?"};
static const char *const starts[] = {"start", "saved"};

struct world {
    struct machine *m;
    struct journal j;
    struct state_bytes good;
    u8 *saved; // a saved machine's file that can be
    size_t saved_size;
    u8 *file;
    size_t size;
};

static void put(struct world *w, const void *p, size_t n)
{
    MUST(w->size + n <= ROOM, "no room");
    memcpy(w->file + w->size, p, n);
    w->size += n;
}

static void put_section(struct world *w, struct section s, const void *content, size_t n)
{
    static u8 packed[ROOM];
    size_t size = ZSTD_compress(packed, sizeof packed, content, n, 1);
    MUST(!ZSTD_isError(size), "%s", ZSTD_getErrorName(size));
    if (w->size + sizeof s + size > ROOM) return;
    s.size = s.size ? s.size : n, s.packed = size;
    s.check = 0xCBF29CE484222325ull;
    for (size_t i = 0; i < offsetof(struct section, check); i++)
        s.check = (s.check ^ ((const u8 *)&s)[i]) * 0x100000001B3ull;
    put(w, &s, sizeof s);
    put(w, packed, size);
}

// The start of a recording that can be.
static void put_start(struct world *w, struct section s)
{
    struct recording_image start = {.size = w->saved_size, .path = "saved"};
    start.hash = state_hash_bytes(w->saved, w->saved_size);
    if (strcmp(s.name, "start") == 0)
        put_section(w, s, &start, sizeof start);
    else
        put_section(w, s, w->saved, w->saved_size);
}

static void make(struct world *w, struct input *in)
{
    static u8 content[CONTENT];
    for (unsigned k = 0; k < 16 && more(in); k++) {
        struct section s = {.version = 1};
        unsigned how = take8(in);
        bool start = how >= 0xE0 && how < 0xE8;
        snprintf(s.name, sizeof s.name, "%s", start ? starts[how % 2] : names[how % ARRAY_LEN(names)]);
        if (strcmp(s.name, "events") == 0) s.version = 2;
        if (how >= 0xF0) s.version = take8(in), s.index = take8(in), s.size = take_number(in);
        size_t n = take(in, 1), left = (size_t)(in->end - in->at);
        if (n >= 0xF0) n = (n & 15) * 256;
        memset(content, 0, n);
        memcpy(content, in->at, n < left ? n : left);
        in->at += n < left ? n : left;
        if (strcmp(s.name, "machine") == 0 && n == 0)
            put_section(w, s, w->good.at, w->good.size);
        else if (start && n == 0)
            put_start(w, s);
        else
            put_section(w, s, content, n);
    }
    put_section(w, (struct section){.name = "end"}, "", 0);
}

static void begin(struct world *w)
{
    struct machine_config c = {.ram_size = MACHINE_RAM_MIN, .cpus = 1};
    char why[256];
    cpu_features_max(&c.features);
    w->m = make_as(c);
    START(w->m, 0xE4, 0x61, 0xEB, 0xFC); // IN AL, 61H, for ever
    MUST(machine_state_save(w->m, &w->good, why, sizeof why), "%s", why);
    w->file = malloc(ROOM);
    w->saved = malloc(ROOM);
    struct head h = {"MATRYBOX", 1, CONTAINER_STATE};
    const u64 counts[2] = {0, 0};
    put(w, &h, sizeof h);
    put_section(w, (struct section){.name = "devices", .version = 1}, "", 0);
    put_section(w, (struct section){.name = "counts", .version = 1}, counts, sizeof counts);
    put_section(w, (struct section){.name = "machine", .version = 1}, w->good.at, w->good.size);
    put_section(w, (struct section){.name = "end"}, "", 0);
    memcpy(w->saved, w->file, w->saved_size = w->size);
}

static void replay(struct world *w, struct recording *r)
{
    char why[256];
    MUST(machine_state_load(w->m, w->good.at, w->good.size, why, sizeof why), "%s", why);
    journal_begin(&w->j, w->m);
    if (r->from_saved && r->saved && !recording_load_saved(r, &w->j, "start", false, true, why, sizeof why))
        MUST(*why && !strchr(why, '\n'), "%s", why);
    if (journal_load(&w->j, r->event, r->events, r->end.units, r->end.idles))
        for (unsigned k = 0; k < 4; k++)
            if (journal_run(&w->j, 500) != MACHINE_RUN) break;
    journal_free(&w->j);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct world w;
    if (!w.m) begin(&w);
    struct input in = {data, data + size};
    unsigned how = take8(&in);
    size_t cut = take(&in, 2), flip = take(&in, 2);
    struct head h = {"MATRYBOX", 1, how & 1 ? CONTAINER_RECORDING : CONTAINER_STATE};
    w.size = 0;
    put(&w, &h, sizeof h);
    if (how & 2)
        put(&w, in.at, (size_t)(in.end - in.at) < ROOM / 2 ? (size_t)(in.end - in.at) : ROOM / 2);
    else
        make(&w, &in);
    if (how & 4) w.file[flip % w.size] ^= (u8)(1 << (how >> 5));
    if (how & 8) w.size = cut % w.size;
    u8 *exact = malloc(w.size + !w.size); // what lies behind it is nobody's
    memcpy(exact, w.file, w.size);

    char why[512] = "";
    struct recording r;
    bool good;
    if (how & 1) {
        good = recording_read_bytes(&r, exact, w.size, why, sizeof why);
        if (good) replay(&w, &r), recording_free(&r);
    } else {
        journal_begin(&w.j, w.m);
        good = state_file_load_bytes(&w.j, exact, w.size, NULL, why, sizeof why);
        journal_free(&w.j);
    }
    MUST(good || (*why && !strchr(why, '\n')), "refused without a reason, or with more than a line of it: %s",
         why);
    free(exact);
    return 0;
}

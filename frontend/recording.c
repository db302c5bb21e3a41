#include "frontend/recording.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/container.h"
#include "frontend/state_file.h"

#define VERSION     1
#define EVENTS      2 // their version
#define WORDS_MOST  (1u << 20)
#define EVENTS_MOST (1ull << 32)

// ---- images ----

static unsigned image_list(const struct load_files *files, const struct file *list[LOAD_INITRDS + 1])
{
    unsigned n = 0;
    list[n++] = &files->kernel;
    for (unsigned i = 0; i < files->initrds; i++) list[n++] = &files->initrd[i];
    return n;
}

static struct recording_image image_named(const u8 *data, u64 size, const char *path)
{
    struct recording_image x = {.size = size, .hash = state_hash_bytes(size ? data : (const u8 *)"", size)};
    snprintf(x.path, sizeof x.path, "%s", path ? path : "");
    return x;
}

static struct recording_image image_of(const struct file *f)
{
    return image_named(f->data, f->size, f->path);
}

bool recording_images(struct recording *r, struct load_files *files)
{
    for (unsigned i = 0; i < r->images; i++) {
        struct file *f = i ? &files->initrd[files->initrds] : &files->kernel;
        if (!r->embedded[i]) continue;
        f->data = malloc(r->image[i].size ? r->image[i].size : 1);
        if (!f->data) return false;
        memcpy(f->data, r->embedded[i], r->image[i].size);
        f->size = r->image[i].size;
        f->path = i ? strdup(r->image[i].path) : r->image[i].path; // as load_close frees them
        if (!f->path) return false;
        if (i) files->initrds++;
    }
    return true;
}

bool recording_images_fit(const struct recording *r, const struct load_files *files, char *why, size_t n)
{
    const struct file *list[LOAD_INITRDS + 1];
    unsigned images = image_list(files, list);
    for (unsigned i = 0; i < r->images; i++) {
        struct recording_image here = i < images ? image_of(list[i]) : (struct recording_image){0};
        if (here.size == r->image[i].size && here.hash == r->image[i].hash) continue;
        snprintf(why, n,
                 "-replay: %s is not the file that was recorded as %s (its contents differ); give that one, "
                 "or record with images=embed",
                 i < images && list[i]->path ? list[i]->path : "nothing", r->image[i].path);
        return false;
    }
    if (images == r->images) return true;
    snprintf(why, n, "-replay: %u images are loaded, and %u were recorded", images, r->images);
    return false;
}

// ---- the saved machine that it starts from ----

bool recording_load_saved(struct recording *r, struct journal *j, const char *path, bool embed, bool replay,
                          char *why, size_t n)
{
    u64 size = r->start.size;
    u8 *data = replay ? r->saved : NULL, *read = NULL;
    if (!data && !(data = read = container_bytes(path, CONTAINER_STATE, &size, why, n))) return false;
    struct recording_image here = image_named(data, size, path);
    bool good = !replay || (here.size == r->start.size && here.hash == r->start.hash);
    if (!good)
        snprintf(
            why, n,
            "-replay: %s is not the saved machine that was recorded as %s (its contents differ); give that "
            "one with -loadvm, or record with images=embed",
            path, r->start.path);
    good = good && state_file_load_bytes(j, data, size, path, why, n);
    if (good && !replay) {
        r->from_saved = true;
        r->start = here;
        if (embed) r->saved = read, read = NULL;
    }
    free(read);
    return good;
}

bool recording_start_fits(const struct recording *r, const char *loadvm, char *why, size_t n)
{
    if (r->from_saved == (loadvm != NULL)) return true;
    snprintf(why, n, "-replay: the recorded run %s from a saved machine (-loadvm), and this one %s",
             r->from_saved ? "starts" : "does not start", loadvm ? "does" : "does not");
    return false;
}

// ---- making one ----

void recording_note(struct recording *r, u64 retired, u64 hash)
{
    if (r->hashes == r->room) {
        u64 room = r->room ? r->room * 2 : 64;
        struct recording_hash *more = realloc(r->hash, room * sizeof *more);
        if (!more) {
            r->no_room = true;
            return;
        }
        r->hash = more, r->room = room;
    }
    r->hash[r->hashes++] = (struct recording_hash){retired, hash};
}

bool recording_forget(struct recording *r, u64 retired)
{
    u64 before = r->hashes;
    while (r->hashes && r->hash[r->hashes - 1].retired > retired) r->hashes--;
    return r->hashes != before;
}

bool recording_write(struct recording *r, const struct journal *j, const struct load_files *files, int argc,
                     char **argv, bool embed, const char *path, char *why, size_t n)
{
    struct container_out c;
    if (j->full || r->no_room) {
        snprintf(why, n, "%s is not written: the host had no memory for all that came from outside", path);
        return false;
    }
    char *words = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&words, &size);
    for (int i = 1; f && i < argc; i++) fwrite(argv[i], 1, strlen(argv[i]) + 1, f);
    if (!f || fclose(f) != 0) {
        snprintf(why, n, "no memory to write %s", path);
        return false;
    }
    bool good = container_create(&c, path, CONTAINER_RECORDING, why, n);
    if (good) {
        const struct file *list[LOAD_INITRDS + 1];
        struct recording_image image[LOAD_INITRDS + 1];
        unsigned images = image_list(files, list);
        for (unsigned i = 0; i < images; i++) image[i] = image_of(list[i]);
        container_put(&c, "words", VERSION, words, size);
        container_put(&c, "images", VERSION, image, images * sizeof *image);
        for (unsigned i = 0; i < images && embed; i++) {
            char name[CONTAINER_NAME_MAX];
            snprintf(name, sizeof name, "image %u", i);
            container_put(&c, name, VERSION, list[i]->data, list[i]->size);
        }
        if (r->from_saved) container_put(&c, "start", VERSION, &r->start, sizeof r->start);
        if (r->saved) container_put(&c, "saved", VERSION, r->saved, r->start.size);
        container_put(&c, "events", EVENTS, j->event, j->events * sizeof *j->event);
        container_put(&c, "hashes", VERSION, r->hash, r->hashes * sizeof *r->hash);
        container_put(&c, "ending", VERSION, &r->end, sizeof r->end);
        good = container_finish(&c, why, n);
    }
    free(words);
    return good;
}

// ---- reading one ----

static bool odd(const struct container_in *c, const char *what, char *why, size_t n)
{
    snprintf(why, n, "%s: the recording's %s cannot be", c->path, what);
    return false;
}

// A section that is an array: *count elements.
static void *take_array(struct container_in *c, const char *name, u32 version, size_t each, u64 *count,
                        char *why, size_t n)
{
    u64 size;
    u8 *p = container_take(c, name, version, EVENTS_MOST, &size, why, n);
    *count = size / each;
    if (!p || size % each == 0) return p;
    free(p);
    odd(c, name, why, n);
    return NULL;
}

static bool split_words(struct recording *r, const struct container_in *c, u64 size, char *why, size_t n)
{
    for (u64 i = 0; i < size; i++) r->words_n += !r->all_words[i];
    if (size && r->all_words[size - 1]) return odd(c, "command line", why, n);
    r->words = calloc(r->words_n + 1, sizeof *r->words);
    if (!r->words) return odd(c, "command line", why, n);
    char *at = (char *)r->all_words;
    for (unsigned i = 0; i < r->words_n; i++, at += strlen(at) + 1) r->words[i] = at;
    return true;
}

// The saved machine, if the run starts from one. What is not there is of no other version: main compares it
// with the command line.
static bool read_start(struct recording *r, struct container_in *c, char *why, size_t n)
{
    u64 size;
    char none[512];
    u8 *p = container_take(c, "start", VERSION, sizeof r->start, &size, none, sizeof none);
    if (!p) return true;
    r->from_saved = size == sizeof r->start;
    if (r->from_saved) memcpy(&r->start, p, size);
    free(p);
    if (!r->from_saved) return odd(c, "start", why, n);
    r->start.path[sizeof r->start.path - 1] = 0;
    r->saved = container_take(c, "saved", VERSION, r->start.size, &size, none, sizeof none);
    bool whole = size == r->start.size && r->saved && state_hash_bytes(r->saved, size) == r->start.hash;
    return !r->saved || whole || odd(c, "saved machine", why, n);
}

static bool read_all(struct recording *r, struct container_in *c, char *why, size_t n)
{
    u64 size;
    u8 *p;
    if (!container_whole(c, why, n)) return false;
    if (!(r->all_words = container_take(c, "words", VERSION, WORDS_MOST, &size, why, n))) return false;
    if (!split_words(r, c, size, why, n)) return false;

    if (!(p = container_take(c, "images", VERSION, sizeof r->image, &size, why, n))) return false;
    memcpy(r->image, p, size);
    free(p);
    r->images = (unsigned)(size / sizeof *r->image);
    if (!r->images || size % sizeof *r->image) return odd(c, "list of images", why, n);
    for (unsigned i = 0; i < r->images; i++) {
        char name[CONTAINER_NAME_MAX], none[512];
        r->image[i].path[sizeof r->image[i].path - 1] = 0;
        snprintf(name, sizeof name, "image %u", i);
        r->embedded[i] = container_take(c, name, VERSION, r->image[i].size, &size, none, sizeof none);
        if (r->embedded[i] &&
            (size != r->image[i].size || state_hash_bytes(r->embedded[i], size) != r->image[i].hash))
            return odd(c, "image", why, n);
    }

    if (!read_start(r, c, why, n)) return false;

    if (!(r->event = take_array(c, "events", EVENTS, sizeof *r->event, &r->events, why, n))) return false;
    if (!(r->hash = take_array(c, "hashes", VERSION, sizeof *r->hash, &r->hashes, why, n))) return false;

    if (!(p = container_take(c, "ending", VERSION, sizeof r->end, &size, why, n))) return false;
    if (size == sizeof r->end) memcpy(&r->end, p, size);
    free(p);
    return size == sizeof r->end || odd(c, "ending", why, n);
}

bool recording_read_bytes(struct recording *r, const u8 *data, u64 size, char *why, size_t n)
{
    struct container_in c = {.path = NULL};
    *r = (struct recording){0};
    if (container_of_bytes(&c, data, size, CONTAINER_RECORDING, why, n) && read_all(r, &c, why, n))
        return true;
    recording_free(r);
    return false;
}

bool recording_read(struct recording *r, const char *path, char *why, size_t n)
{
    struct container_in c;
    *r = (struct recording){0};
    if (!container_open(&c, path, CONTAINER_RECORDING, why, n)) return false;
    bool good = read_all(r, &c, why, n);
    container_close(&c);
    if (!good) recording_free(r);
    return good;
}

void recording_free(struct recording *r)
{
    free(r->hash);
    free(r->event);
    free(r->words);
    free(r->all_words);
    free(r->line);
    free(r->saved);
    for (unsigned i = 0; i < ARRAY_LEN(r->embedded); i++) free(r->embedded[i]);
    *r = (struct recording){0};
}

// ---- the command line of a replay ----

static bool is_option(const char *word, const char *names)
{
    if (*word != '-') return false;
    word += word[1] == '-' ? 2 : 1;
    size_t k = strcspn(word, "=");
    for (const char *p = names; *p; p += strcspn(p, " "), p += *p == ' ')
        if (strcspn(p, " ") == k && strncmp(p, word, k) == 0) return true;
    return false;
}

// Copies words but for the options of `without` and their values.
static int copy_words(char **to, char *const *words, int n, const char *without)
{
    int k = 0;
    for (int i = 0; i < n; i++) {
        if (!is_option(words[i], without))
            to[k++] = words[i];
        else if (!strchr(words[i], '='))
            i++;
    }
    return k;
}

const char *recording_named(int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        if (!is_option(argv[i], "replay")) continue;
        if (value)
            path = value + 1;
        else if (i + 1 < argc)
            path = argv[++i];
    }
    return path;
}

char **recording_words(struct recording *r, int argc, char **argv, int *n)
{
    bool serial = false;
    for (int i = 1; i < argc; i++) serial |= is_option(argv[i], "serial");
    char **words = calloc((size_t)argc + r->words_n + 1, sizeof *words), **flagless;
    flagless = calloc(r->words_n + 1, sizeof *flagless);
    if (!words || !flagless) return NULL;
    int k = 0; // without the flags that take no value
    for (unsigned i = 0; i < r->words_n; i++)
        if (!is_option(r->words[i], "stats state s S")) flagless[k++] = r->words[i];
    words[0] = argv[0];
    *n = 1 + copy_words(words + 1, flagless, k,
                        serial ? "serial record savevm pidfile d D hash-every gdb monitor history"
                               : "record savevm pidfile d D hash-every gdb monitor history");
    *n += copy_words(words + *n, argv + 1, argc - 1, "replay");
    free(flagless);
    r->line = words;
    return words;
}

// ---- comparing ----

bool recording_agrees(struct recording *r, u64 retired, u64 hash, char *why, size_t n)
{
    if (r->next == r->hashes) return true;
    const struct recording_hash *x = &r->hash[r->next++];
    if (x->retired == retired && x->hash == hash) return true;
    u64 good = r->next > 1 ? r->hash[r->next - 2].retired : 0;
    snprintf(why, n,
             "-replay: the run is another than the recorded one: they agree at instruction %" PRIu64
             " and differ at %" PRIu64 " (hash %016" PRIx64 ", recorded %016" PRIx64 " at %" PRIu64 ")",
             good, retired, hash, x->hash, x->retired);
    return false;
}

bool recording_ends_so(const struct recording *r, u64 retired, u64 hash, int status, char *why, size_t n)
{
    if (r->end.retired == retired && r->end.hash == hash) return true;
    snprintf(why, n,
             "-replay: the run is another than the recorded one: it ends at instruction %" PRIu64
             " with status %d and hash %016" PRIx64 ", and the recorded one at %" PRIu64
             " with status %u and hash %016" PRIx64,
             retired, status, hash, r->end.retired, r->end.status, r->end.hash);
    return false;
}

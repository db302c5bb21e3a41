// A run in a file (-record, -replay): how the machine was made, what came from outside and when
// (devices/journal.h), hashes of its state on the way, and how it ended. The kernel and initial RAM disks are
// named by their contents' hash, or are in it (images=embed); so is the saved machine that the run starts
// from, if it does (-loadvm).
#ifndef FRONTEND_RECORDING_H
#define FRONTEND_RECORDING_H

#include "devices/journal.h"
#include "devices/state_hash.h"
#include "frontend/load.h"

#define RECORDING_HASH_EVERY 100000000ull // instructions

STATE_BEGIN
struct recording_hash {
    u64 retired, hash;
};
struct recording_end { // the instant, and the exit status
    u64 retired, units, idles, hash;
    u32 status, pad;
};
struct recording_image {
    u64 size, hash; // of what is read of it
    char path[240]; // as it was given; "" for none
};
STATE_END

struct recording {
    struct recording_hash *hash;
    u64 hashes, room, next; // `next`: when replaying, the one to compare
    struct recording_end end;
    char **words; // the command line, without argv[0]
    unsigned words_n;
    struct journal_event *event;
    u64 events;
    struct recording_image image[LOAD_INITRDS + 1]; // the kernel first
    unsigned images;
    bool from_saved; // the run starts from a saved machine, by this name:
    struct recording_image start;
    u8 *saved;                      // the file's bytes, or NULL
    u8 *embedded[LOAD_INITRDS + 1]; // their bytes, or NULL
    u8 *all_words;
    char **line;  // what recording_words made
    bool no_room; // the host had no memory for a hash more
};

// ---- where it starts ----
// The saved machine at `path` is loaded, and noted as the start; with `embed` kept for recording_write. With
// `replay` it must be the one of the recording, or comes from it. False with a line in `why`: nothing has
// changed.
bool recording_load_saved(struct recording *r, struct journal *j, const char *path, bool embed, bool replay,
                          char *why, size_t n);

// ---- making one ----
// At an instant of the run, whose state has this hash.
void recording_note(struct recording *r, u64 retired, u64 hash);
// The run goes on from here, and another way than before, if it has been further. True if it had.
bool recording_forget(struct recording *r, u64 retired);
// At the end. False with a line in `why` if the file could not be written.
bool recording_write(struct recording *r, const struct journal *j, const struct load_files *files, int argc,
                     char **argv, bool embed, const char *path, char *why, size_t n);

// ---- replaying one ----
// What -replay names on the command line; NULL: nothing.
const char *recording_named(int argc, char **argv);
bool recording_read(struct recording *r, const char *path, char *why, size_t n);
bool recording_read_bytes(struct recording *r, const u8 *data, u64 size, char *why, size_t n);
// The recorded words but for those that only watch (logs, statistics) or write (--savevm, -pidfile), then
// those of the command line but for -replay. A -serial given now takes the place of the recorded ones. NULL:
// no memory. *n words (argv[0] first), which
// live as long as the recording.
char **recording_words(struct recording *r, int argc, char **argv, int *n);
// Images that it holds are put where they would be read; before load_open. False: no memory.
bool recording_images(struct recording *r, struct load_files *files);
// Whether it starts from a saved machine as the command line does.
bool recording_start_fits(const struct recording *r, const char *loadvm, char *why, size_t n);
// After the first load: whether the images are those of the recording.
bool recording_images_fit(const struct recording *r, const struct load_files *files, char *why, size_t n);
// False, with a line in `why`, where the run is another than the recorded one.
bool recording_agrees(struct recording *r, u64 retired, u64 hash, char *why, size_t n);
bool recording_ends_so(const struct recording *r, u64 retired, u64 hash, int status, char *why, size_t n);

void recording_free(struct recording *r);

#endif

// Files of our own, saved machines and recordings: sections, each with name, version, size and a checksum,
// packed by zstd.
//
//   header   "MATRYBOX", format (32), kind (32)
//   section  name (24), index (32), version (32), size unpacked (64), size in the file (64), checksum of
//   these
//            fields (64), then one zstd frame with its own checksum
//   the last section is called "end" and is empty
//
// A file is written under another name beside it and takes its name when it is whole, so a save that is
// killed loses nothing. A reader checks a section when it takes it; nothing in a file is believed before.
#ifndef FRONTEND_CONTAINER_H
#define FRONTEND_CONTAINER_H

#include <stdio.h>

#include "mmu/types.h"

enum container_kind { CONTAINER_STATE = 1, CONTAINER_RECORDING = 2 };
#define CONTAINER_NAME_MAX 24
// what is longer is put as several sections of one name, index 0, 1 ...
#define CONTAINER_PIECE    (16u << 20)

struct container_out {
    FILE *f;
    const char *path;
    char beside[4096];
    u8 *packed;
    u64 room;
    int error; // errno of the first write that failed
};
// All return false with a line in `why`; nothing is left behind then.
bool container_create(struct container_out *c, const char *path, enum container_kind kind, char *why,
                      size_t n);
// Whether it could be created: a file of that name is left as it is.
bool container_possible(const char *path, char *why, size_t n);
void container_put(struct container_out *c, const char *name, u32 version, const void *data, u64 size);
bool container_finish(struct container_out *c, char *why, size_t n);

struct container_in {
    const u8 *data;
    u64 size, at;
    const char *path; // for messages
    bool mapped;
};
struct container_section {
    char name[CONTAINER_NAME_MAX];
    u32 index, version;
    u64 size, packed_size;
    const u8 *packed;
};
bool container_open(struct container_in *c, const char *path, enum container_kind kind, char *why, size_t n);
// The same for bytes in memory, which stay the caller's.
bool container_of_bytes(struct container_in *c, const u8 *data, u64 size, enum container_kind kind, char *why,
                        size_t n);
void container_close(struct container_in *c);
// The whole file, if it is one of this kind; free with free(). NULL: with a line in `why`.
u8 *container_bytes(const char *path, enum container_kind kind, u64 *size, char *why, size_t n);
// The pieces of this name, put together. NULL: there are none, they are of another version, longer than
// `most` bytes in all, or damaged, or the file is not whole to its end (sections of other names are passed
// over). Free with free(); it has a byte more than *size, which is 0.
u8 *container_take(struct container_in *c, const char *name, u32 version, u64 most, u64 *size, char *why,
                   size_t n);
// Every section is there to the end and whole.
bool container_whole(struct container_in *c, char *why, size_t n);

#endif

// What symbols.c and the readers of its files share.
#ifndef FRONTEND_SYMBOLS_READ_H
#define FRONTEND_SYMBOLS_READ_H

#include "frontend/symbols.h"

struct symbols_raw { // as a file has it
    u64 addr, size;  // 0: not said
    u64 limit;       // the end of what holds it (its section), UINT64_MAX: not known
    size_t name;     // in symbols_reading.names
    u8 rank;         // of several at one address the highest counts
};
struct symbols_reading {
    struct symbols_raw *symbol;
    size_t n, room;
    char *names;
    size_t names_n, names_room;
    bool no_memory;
};
void symbols_raw_add(struct symbols_reading *r, struct symbols_raw s, const char *name, size_t name_n);

// Each reads the file's bytes; NULL, or what is wrong with them.
const char *symbols_read_elf(struct symbols_reading *r, char *bytes, size_t n);
const char *symbols_read_map(struct symbols_reading *r, const char *bytes, size_t n);

#endif

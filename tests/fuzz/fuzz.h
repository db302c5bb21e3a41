// What the fuzz targets share: the input as numbers, and a check that ends the program.
//
// A target is LLVMFuzzerTestOneInput in a file of its own. Its bytes decide everything: the same bytes do the
// same thing in every build, so what a run found is a file of the corpus afterwards. Reading behind the end
// gives zeros: an input that is cut off is one, too.
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mmu/types.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct input {
    const u8 *at, *end;
};

static inline u64 take(struct input *in, unsigned bytes)
{
    u64 v = 0;
    for (unsigned i = 0; i < bytes && in->at < in->end; i++) v |= (u64)*in->at++ << 8 * i;
    return v;
}
static inline u8 take8(struct input *in) { return (u8)take(in, 1); }
static inline unsigned below(struct input *in, unsigned n) { return take8(in) % n; } // n up to 256
static inline bool more(const struct input *in) { return in->at < in->end; }

// A number of the kind that finds edges: the byte says which, and how many more bytes it takes.
static inline u64 take_number(struct input *in)
{
    u8 how = take8(in);
    switch (how >> 5) {
    case 0: return how & 31;
    case 1: return (u64)0 - (how & 31);
    case 2: return BIT((how & 31) * 2);
    case 3: return BIT((how & 31) * 2) - 1;
    case 4: return take(in, 1);
    case 5: return take(in, 2);
    case 6: return take(in, 4);
    default: return take(in, 8);
    }
}

#define MUST(condition, ...) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not so: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__); \
            fputc('\n', stderr); \
            abort(); \
        } \
    } while (0)

#endif

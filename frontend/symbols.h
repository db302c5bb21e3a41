// Names of the addresses of guests' programs: symbol tables of ELF files, and texts as System.map and
// /proc/kallsyms are ("ffffffff81000000 T _text"). Several files, each for the level that runs its program.
#ifndef FRONTEND_SYMBOLS_H
#define FRONTEND_SYMBOLS_H

#include <stddef.h>

#include "mmu/types.h"

#define SYMBOLS_FILES_MAX 16
#define SYMBOLS_NO_VMCS   UINT64_MAX // as VMX_NO_POINTER

struct symbol {
    u64 addr, end; // linear; end is behind its last byte
    const char *name;
};
enum symbols_level { SYMBOLS_ROOT = 1, SYMBOLS_GUEST = 2, SYMBOLS_ANY = 3 };
struct symbols_file {
    char *path, *names;
    enum symbols_level level;
    u64 vmcs;   // the guest of this VMCS alone; SYMBOLS_NO_VMCS: every guest
    u64 offset; // was added to all addresses: the kernel's, where it moved itself (KASLR)
    struct symbol *symbol;
    unsigned n;
};
struct symbols { // zeroed: none
    struct symbols_file file[SYMBOLS_FILES_MAX];
    unsigned files;
};
// Whose address it is: outside VMX non-root operation, or in it, with the VMCS that is current there.
struct symbols_of {
    enum symbols_level level;
    u64 vmcs;
};

// Adds what "[root:|guest:]FILE[,offset=N][,vmcs=ADDRESS]" names; without a level it is for both. False, with
// a line in `why`, for a file that cannot be read, has no symbols, or is one too many.
bool symbols_add(struct symbols *s, const char *spec, char *why, size_t why_size);
// The same of a file alone.
bool symbols_add_file(struct symbols *s, const char *path, struct symbols_of of, u64 offset, char *why,
                      size_t why_size);
// Those of the kernel file, for the root level, if it has any and no other file is for that level.
void symbols_add_kernel(struct symbols *s, const char *path);
void symbols_free(struct symbols *s);

// The symbol that holds the address, or NULL. The file that was added last is asked first.
const struct symbol *symbols_find(const struct symbols *s, struct symbols_of of, u64 addr);
// "name" or "name+0x12"; without a symbol the empty text, and false.
bool symbols_text(const struct symbols *s, struct symbols_of of, u64 addr, char *text, size_t size);
// Of "name" or "name+N". False if there is none.
bool symbols_address(const struct symbols *s, struct symbols_of of, const char *text, u64 *addr);
// The file that has this name, whatever its level, or NULL.
const struct symbols_file *symbols_file_with(const struct symbols *s, const char *name, u64 *addr);

#endif

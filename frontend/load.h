// Loading a kernel: which boot protocol the file speaks, its bytes into guest memory, the processor at its
// entry point.
#ifndef FRONTEND_LOAD_H
#define FRONTEND_LOAD_H

#include <gelf.h>
#include <stdio.h>

#include "cpu/state/vcpu.h"
#include "devices/acpi_tables.h"

struct file { // a file of the host, whole in memory
    u8 *data;
    u64 size;
    const char *path;
};

#define LOAD_INITRDS 32
struct load_files { // all that is read of the host's files; zeroed before the first use
    struct file kernel;
    struct file initrd[LOAD_INITRDS];
    unsigned initrds;
};
// Reads of the kernel file what the loaders look at. False, and one line in `why`, if it cannot be read or
// does not fit into `ram_size` bytes.
bool load_open(struct load_files *files, const char *kernel, u64 ram_size, char *why, size_t why_size);
void load_close(struct load_files *files);

struct load_request {
    struct phys *phys;
    struct vcpu *cpu; // reset; the loader sets its entry state
    // the kernel is read; initrds are read when the first load asks for them, and stay
    struct load_files *files;
    const char *initrd; // as given by -initrd: a path, or for multiboot "file args,file2 args"; NULL: none
    const char *append; // command line, "" if none
    struct acpi_layout acpi;
    struct e820_entry e820[E820_MAX];
    unsigned e820_n;
    char *why; // on failure: one line
    size_t why_size;
};

// Loads and returns the name of the protocol it took ("Linux bzImage, 64-bit boot protocol 2.15"), or NULL
// with *why set.
const char *load_kernel(struct load_request *r);

// One protocol each: 1 loaded, 0 not this kind of file, -1 failed with a reason.
int load_linux(struct load_request *r, const char **kind);
int load_multiboot(struct load_request *r, const char **kind);
int load_pvh(struct load_request *r, const char **kind);
int load_elf64(struct load_request *r, const char **kind);

// ---- shared ----
// returns -1
int load_fail(struct load_request *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// Checks that [a, a+size) is RAM and copies. False with a reason if it is not.
bool load_bytes(struct load_request *r, paddr a, const void *data, u64 size, const char *what);
bool load_zeros(struct load_request *r, paddr a, u64 size, const char *what);

// The initrd or module at this path. NULL, with *why set, if it cannot be read or does not fit into memory
// below 4 GiB.
const struct file *load_initrd(struct load_request *r, const char *path);
// What kind of kernel the first n bytes of a file belong to.
bool load_is_linux(const u8 *d, u64 n);
// multiboot with address fields: the header says what of the file is loaded
bool load_is_kludge(const u8 *d, u64 n);

struct elf_image { // of the kernel file
    Elf *elf;
    GElf_Ehdr header;
    size_t segments;
    bool is64;
};
// False if the file is no ELF file (*why untouched) or a broken one (*why set).
bool load_elf_open(struct load_request *r, struct elf_image *e);
void load_elf_close(struct elf_image *e);
// Puts the segments where their physical addresses say. *top receives the end of the highest, *entry e_entry
// as a physical address (through the segment that holds it, when e_entry is a virtual address).
bool load_elf_segments(struct load_request *r, struct elf_image *e, paddr *top, u64 *entry);
// The top of usable low memory (below the ACPI tables).
paddr load_low_top(const struct load_request *r);

// Entry states.
void boot_flat32(struct vcpu *v, u32 entry); // protected mode, paging off, flat segments
// 64-bit, identity map of 4 GiB built in 6 pages at `tables`
void boot_long64(struct vcpu *v, u64 entry, paddr tables);

#endif

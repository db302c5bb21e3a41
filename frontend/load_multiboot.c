// Multiboot 1 (specification 0.6.96): ELF32, ELF64 and a.out-kludge images, modules, memory map. Entered in
// 32-bit protected mode, paging off, EAX = 2BADB002h, EBX = the information structure.
#include <stdlib.h>
#include <string.h>

#include "frontend/load.h"

#define MB_MAGIC 0x1BADB002u
enum { MB_ALIGN = 1, MB_MEMORY = 2, MB_VIDEO = 4, MB_KLUDGE = 1 << 16 };
#define MB_MODULES LOAD_INITRDS

static u32 get32(const u8 *p)
{
    u32 x;
    memcpy(&x, p, 4);
    return x;
}

static const u8 *find_header(const u8 *d, u64 n, u64 *at)
{
    for (u64 i = 0; i + 12 <= n && i + 12 <= 8192; i += 4) {
        const u8 *p = d + i;
        if (get32(p) == MB_MAGIC && get32(p) + get32(p + 4) + get32(p + 8) == 0) {
            *at = i;
            return p;
        }
    }
    return NULL;
}

bool load_is_kludge(const u8 *d, u64 n)
{
    u64 at;
    const u8 *h = find_header(d, n, &at);
    return h && get32(h + 4) & MB_KLUDGE;
}

static bool load_kludge(struct load_request *r, const u8 *h, u64 at, paddr *top, u64 *entry)
{
    const struct file *f = &r->files->kernel;
    if (at + 32 > f->size) {
        load_fail(r, "%s is cut off within its multiboot header", f->path);
        return false;
    }
    u32 header = get32(h + 12), load = get32(h + 16), load_end = get32(h + 20), bss_end = get32(h + 24);
    *entry = get32(h + 28);
    u64 skip = header - load;
    if (header < load || skip > at) {
        load_fail(r, "%s: its multiboot header names load address %#x past the header at %#x", f->path, load,
                  header);
        return false;
    }
    u64 from = at - skip, size = load_end ? load_end - load : f->size - from;
    if ((load_end && load_end < load) || size > f->size - from) {
        load_fail(r, "%s is cut off: its multiboot header names more bytes than it has", f->path);
        return false;
    }
    if (!load_bytes(r, load, f->data + from, size, "the image")) return false;
    *top = load + size;
    if (bss_end > *top) {
        if (!load_zeros(r, *top, bss_end - *top, "its BSS")) return false;
        *top = bss_end;
    }
    return true;
}

struct place {
    paddr at;
}; // where the next piece of boot information goes

static paddr put(struct load_request *r, struct place *w, const void *data, u64 size, u64 align,
                 const char *what, bool *ok)
{
    w->at = (w->at + align - 1) & ~(align - 1);
    paddr at = w->at;
    if (at + size > load_low_top(r)) {
        load_fail(r, "%s does not fit beside the kernel (give more memory with -m)", what);
        *ok = false;
        return 0;
    }
    if (*ok) *ok = load_bytes(r, at, data, size, what);
    w->at += size;
    return at;
}

// "file args,file2 args": each a module whose string is the words as given.
static bool put_modules(struct load_request *r, struct place *w, u32 mods[MB_MODULES][4], u32 *n)
{
    char *list = r->initrd ? strdup(r->initrd) : NULL, *rest = list;
    bool ok = true;
    *n = 0;
    while (ok && rest && *rest) {
        char *one = rest, *comma = strchr(rest, ',');
        if (comma) *comma = 0;
        rest = comma ? comma + 1 : NULL;
        if (*n == MB_MODULES) {
            load_fail(r, "-initrd names more than %u modules", MB_MODULES);
            ok = false;
            break;
        }
        char *string = strdup(one), *space = strchr(one, ' ');
        if (!string) {
            load_fail(r, "the host has no memory for the modules");
            ok = false;
            break;
        }
        if (space) *space = 0;
        const struct file *f = load_initrd(r, one);
        if (!f) {
            free(string);
            ok = false;
            break;
        }
        paddr at = put(r, w, f->data, f->size, PAGE_SIZE, "a module", &ok);
        mods[*n][0] = (u32)at;
        mods[*n][1] = (u32)(at + f->size);
        mods[*n][2] = (u32)put(r, w, string, strlen(string) + 1, 4, "a module's string", &ok);
        free(string);
        mods[*n][3] = 0;
        (*n)++;
    }
    free(list);
    return ok;
}

int load_multiboot(struct load_request *r, const char **kind)
{
    u64 at, entry;
    const u8 *h = find_header(r->files->kernel.data, r->files->kernel.size, &at);
    if (!h) return 0;
    u32 flags = get32(h + 4);
    if (flags & 0xFFFF & ~(u32)(MB_ALIGN | MB_MEMORY | MB_VIDEO))
        return load_fail(r, "%s asks for multiboot features that are not known (flags %#x)",
                         r->files->kernel.path, flags);
    paddr top;
    struct elf_image elf;
    *r->why = 0;
    if (flags & MB_KLUDGE) {
        if (!load_kludge(r, h, at, &top, &entry)) return -1;
        *kind = "multiboot 1, a.out kludge";
    } else if (load_elf_open(r, &elf)) {
        bool ok = load_elf_segments(r, &elf, &top, &entry);
        *kind = elf.is64 ? "multiboot 1, ELF64" : "multiboot 1, ELF32";
        load_elf_close(&elf);
        if (!ok) return -1;
    } else if (*r->why)
        return -1;
    else
        return load_fail(r, "%s has a multiboot header but is neither ELF nor an address-field image",
                         r->files->kernel.path);
    if (entry >> 32)
        return load_fail(r, "%s: its entry point %#llx is above 4 GiB", r->files->kernel.path,
                         (unsigned long long)entry);

    struct place w = {top};
    u32 mods[MB_MODULES][4], mods_n, info[32] = {0};
    bool ok = put_modules(r, &w, mods, &mods_n);
    // The command line's first word is the file's name.
    char line[8192];
    int n = snprintf(line, sizeof line, "%s%s%s", r->files->kernel.path, *r->append ? " " : "", r->append);
    if (n < 0 || (size_t)n >= sizeof line)
        return load_fail(r, "-append is too long for multiboot (8,000 bytes)");
    if (!ok) return -1;
    w.at = (w.at + PAGE_SIZE - 1) & PAGE_MASK;
    info[0] = 1 << 0 | 1 << 2 | 1 << 6 | 1 << 9 | (mods_n ? 1 << 3 : 0);
    info[1] = 640 - 1;
    info[2] = (u32)((load_low_top(r) - 0x100000) / 1024);
    info[4] = (u32)put(r, &w, line, (u64)n + 1, 4, "the command line", &ok);
    info[5] = mods_n;
    info[6] = mods_n ? (u32)put(r, &w, mods, mods_n * 16ull, 4, "the module list", &ok) : 0;
    struct {
        u32 size;
        struct e820_entry e;
    } __attribute__((packed)) map[E820_MAX];
    for (unsigned i = 0; i < r->e820_n; i++) {
        map[i].size = sizeof r->e820[0];
        map[i].e = r->e820[i];
    }
    info[11] = r->e820_n * (u32)sizeof map[0];
    info[12] = (u32)put(r, &w, map, info[11], 4, "the memory map", &ok);
    info[16] = (u32)put(r, &w, "matryoshka", 11, 4, "the loader's name", &ok);
    paddr ebx = put(r, &w, info, sizeof info, 4, "the boot information", &ok);
    if (!ok) return -1;
    boot_flat32(r->cpu, (u32)entry);
    r->cpu->s.gpr[RAX] = 0x2BADB002;
    r->cpu->s.gpr[RBX] = ebx;
    return 1;
}

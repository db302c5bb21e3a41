// ELF kernels without a multiboot header: PVH (the XEN_ELFNOTE_PHYS32_ENTRY note, hvm_start_info in EBX) and plain ELF64, entered in
// 64-bit mode at its entry point with an identity map of 4 GiB, RSP below 512 KiB, RDI = the command line.
#include <elf.h>
#include <string.h>

#include "frontend/load.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18

static u64 align4(u64 x) { return (x + 3) & ~3ull; }

static bool scan_notes(const u8 *p, u64 size, u32 *entry)
{
    while (size >= 12) {
        u32 h[3];
        memcpy(h, p, 12);
        u64 name = align4(h[0]), desc = align4(h[1]);
        if (12 + name + desc > size) return false;
        if (h[2] == XEN_ELFNOTE_PHYS32_ENTRY && h[0] == 4 && memcmp(p + 12, "Xen", 4) == 0 && h[1] >= 4) {
            memcpy(entry, p + 12 + name, 4);
            return true;
        }
        p += 12 + name + desc, size -= 12 + name + desc;
    }
    return false;
}

static bool find_pvh_entry(const struct file *f, u32 *entry)
{
    bool is64 = f->data[EI_CLASS] == ELFCLASS64;
    if (is64 && f->size < sizeof(Elf64_Ehdr)) return false;
    unsigned n = is64 ? ((const Elf64_Ehdr *)(const void *)f->data)->e_phnum : ((const Elf32_Ehdr *)(const void *)f->data)->e_phnum;
    for (unsigned i = 0; i < n; i++) {
        u64 type, off, size;
        if (is64) {
            const Elf64_Ehdr *h = (const void *)f->data;
            u64 at = h->e_phoff + i * sizeof(Elf64_Phdr);
            if (at + sizeof(Elf64_Phdr) > f->size || at < h->e_phoff) return false;
            const Elf64_Phdr *p = (const void *)(f->data + at);
            type = p->p_type, off = p->p_offset, size = p->p_filesz;
        } else {
            const Elf32_Ehdr *h = (const void *)f->data;
            u64 at = h->e_phoff + i * sizeof(Elf32_Phdr);
            if (at + sizeof(Elf32_Phdr) > f->size) return false;
            const Elf32_Phdr *p = (const void *)(f->data + at);
            type = p->p_type, off = p->p_offset, size = p->p_filesz;
        }
        if (type == PT_NOTE && off + size <= f->size && off + size >= off && scan_notes(f->data + off, size, entry)) return true;
    }
    return false;
}

int load_pvh(struct load_request *r, const char **kind)
{
    u32 entry32;
    if (!elf_magic(r->kernel) || !find_pvh_entry(r->kernel, &entry32)) return 0;
    paddr top;
    u64 entry;
    bool is64;
    if (!load_elf_segments(r, &top, &entry, &is64)) return -1;

    struct { u32 magic, version, flags, nr_modules; u64 modlist, cmdline, rsdp, memmap; u32 memmap_n, reserved; } info = {
        .magic = 0x336EC578, .version = 1, .rsdp = r->acpi.rsdp, .memmap_n = r->e820_n};
    struct { u64 addr, size; u32 type, reserved; } map[E820_MAX] = {{0}};
    struct { u64 addr, size, cmdline, reserved; } module = {0};
    paddr at = (top + PAGE_SIZE - 1) & PAGE_MASK;
    if (r->initrd) {
        struct file f;
        if (!file_read(&f, r->initrd, r->why, r->why_size)) return -1;
        module.addr = (load_low_top(r) - f.size) & PAGE_MASK;
        module.size = f.size;
        bool ok = f.size < load_low_top(r) && module.addr > at + PAGE_SIZE * 4;
        if (!ok)
            load_fail(r, "-initrd %s does not fit beside the kernel (give more memory with -m)", r->initrd);
        else
            ok = load_bytes(r, module.addr, f.data, f.size, "the initrd");
        file_free(&f);
        if (!ok) return -1;
        info.nr_modules = 1;
    }
    for (unsigned i = 0; i < r->e820_n; i++)
        map[i].addr = r->e820[i].base, map[i].size = r->e820[i].size, map[i].type = r->e820[i].type;
    info.memmap = at + 0x100;
    info.modlist = info.nr_modules ? at + 0x80 : 0;
    info.cmdline = at + 0x400;
    if (!load_bytes(r, info.memmap, map, r->e820_n * sizeof map[0], "the memory map") ||
        !load_bytes(r, at + 0x80, &module, sizeof module, "the module list") ||
        !load_bytes(r, info.cmdline, r->append, strlen(r->append) + 1, "the command line") ||
        !load_bytes(r, at, &info, sizeof info, "the start information"))
        return -1;
    boot_flat32(r->cpu, entry32);
    r->cpu->s.gpr[RBX] = at;
    *kind = "PVH";
    return 1;
}

int load_elf64(struct load_request *r, const char **kind)
{
    if (!elf_magic(r->kernel)) return 0;
    if (r->kernel->data[EI_CLASS] != ELFCLASS64)
        return load_fail(r, "%s is ELF32 without a multiboot header or a PVH note: no way to start it is known", r->kernel->path);
    paddr top;
    u64 entry;
    bool is64;
    if (!load_elf_segments(r, &top, &entry, &is64)) return -1;
    if (!load_bytes(r, 0x20000, r->append, strlen(r->append) + 1, "the command line")) return -1;
    boot_long64(r->cpu, entry, 0x30000);
    r->cpu->s.gpr[RDI] = 0x20000;
    r->cpu->s.gpr[RSP] = 0x80000;
    *kind = "ELF64, 64-bit entry";
    return 1;
}

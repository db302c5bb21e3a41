// ELF kernels without a multiboot header: PVH (the XEN_ELFNOTE_PHYS32_ENTRY note, hvm_start_info in EBX) and
// plain ELF64, entered in 64-bit mode at its entry point with an identity map of 4 GiB, RSP below 512 KiB,
// RDI = the command line.
#include <string.h>

#include "cpu/system/cpuid.h"
#include "frontend/load.h"

#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define PVH_PAGES                4 // the start information and the command line, behind the kernel

// What a plain ELF64 kernel gets lies here; its own segments must not.
#define ELF64_CMDLINE            0x20000
#define ELF64_TABLES             0x30000
#define ELF64_STACK              0x80000

static bool find_pvh_entry(struct elf_image *e, u32 *entry)
{
    for (size_t i = 0; i < e->segments; i++) {
        GElf_Phdr p;
        if (!gelf_getphdr(e->elf, (int)i, &p) || p.p_type != PT_NOTE) continue;
        Elf_Data *d = elf_getdata_rawchunk(e->elf, (s64)p.p_offset, p.p_filesz,
                                           p.p_align == 8 ? ELF_T_NHDR8 : ELF_T_NHDR);
        GElf_Nhdr n;
        size_t name, desc;
        for (size_t at = 0, next; d && (next = gelf_getnote(d, at, &n, &name, &desc)) > 0; at = next)
            if (n.n_type == XEN_ELFNOTE_PHYS32_ENTRY && n.n_namesz == 4 &&
                memcmp((u8 *)d->d_buf + name, "Xen", 4) == 0 && n.n_descsz >= 4) {
                memcpy(entry, (u8 *)d->d_buf + desc, 4);
                return true;
            }
    }
    return false;
}

int load_pvh(struct load_request *r, const char **kind)
{
    struct elf_image elf;
    u32 entry32;
    *r->why = 0;
    if (!load_elf_open(r, &elf)) return *r->why ? -1 : 0;
    bool pvh = find_pvh_entry(&elf, &entry32);
    paddr top;
    u64 entry;
    bool ok = pvh && load_elf_segments(r, &elf, &top, &entry);
    load_elf_close(&elf);
    if (!pvh) return 0;
    if (!ok) return -1;

    // clang-format off
    struct { u32 magic, version, flags, nr_modules; u64 modlist, cmdline, rsdp, memmap; u32 memmap_n, reserved; } info = {
        .magic = 0x336EC578, .version = 1, .rsdp = r->acpi.rsdp, .memmap_n = r->e820_n};
    // clang-format on
    struct {
        u64 addr, size;
        u32 type, reserved;
    } map[E820_MAX] = {{0}};
    struct {
        u64 addr, size, cmdline, reserved;
    } module = {0};
    paddr at = (top + PAGE_SIZE - 1) & PAGE_MASK;
    if (top > load_low_top(r) || load_low_top(r) - top < PVH_PAGES * PAGE_SIZE)
        return load_fail(r, "the start information does not fit behind %s (give more memory with -m)",
                         r->files->kernel.path);
    if (strlen(r->append) >= (PVH_PAGES - 2) * PAGE_SIZE)
        return load_fail(r, "-append is too long for PVH (%u bytes)",
                         (unsigned)((PVH_PAGES - 2) * PAGE_SIZE - 1));
    if (r->initrd) {
        const struct file *f = load_initrd(r, r->initrd);
        if (!f) return -1;
        module.addr = (load_low_top(r) - f->size) & PAGE_MASK;
        module.size = f->size;
        if (f->size >= load_low_top(r) || module.addr < at + PVH_PAGES * PAGE_SIZE)
            return load_fail(r, "-initrd %s does not fit beside the kernel (give more memory with -m)",
                             r->initrd);
        if (!load_bytes(r, module.addr, f->data, f->size, "the initrd")) return -1;
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

static bool reaches_low(struct elf_image *e)
{
    for (size_t i = 0; i < e->segments; i++) {
        GElf_Phdr p;
        if (gelf_getphdr(e->elf, (int)i, &p) && p.p_type == PT_LOAD && p.p_memsz && p.p_paddr < ELF64_STACK &&
            p.p_paddr + p.p_memsz > ELF64_CMDLINE)
            return true;
    }
    return false;
}

int load_elf64(struct load_request *r, const char **kind)
{
    struct elf_image elf;
    *r->why = 0;
    if (!load_elf_open(r, &elf)) return *r->why ? -1 : 0;
    paddr top;
    u64 entry;
    bool is64 = elf.is64, ok = is64 && load_elf_segments(r, &elf, &top, &entry),
         low = ok && reaches_low(&elf);
    load_elf_close(&elf);
    if (!is64)
        return load_fail(r,
                         "%s is ELF32 without a multiboot header or a PVH note: no way to start it is known",
                         r->files->kernel.path);
    if (!ok) return -1;
    if (!feature_on(r->cpu->features, FEATURE_LM))
        return load_fail(r, "%s is entered in 64-bit mode, which -cpu without lm has not",
                         r->files->kernel.path);
    if (low)
        return load_fail(r, "%s has a segment between 128 and 512 KiB, where its stack and page tables go",
                         r->files->kernel.path);
    if (r->initrd)
        return load_fail(r, "%s is a plain ELF64 kernel: there is no way to hand it the -initrd %s",
                         r->files->kernel.path, r->initrd);
    if (strlen(r->append) >= ELF64_TABLES - ELF64_CMDLINE)
        return load_fail(r, "-append is too long for ELF64 (%u bytes)", ELF64_TABLES - ELF64_CMDLINE - 1);
    if (!load_bytes(r, ELF64_CMDLINE, r->append, strlen(r->append) + 1, "the command line")) return -1;
    boot_long64(r->cpu, entry, ELF64_TABLES);
    r->cpu->s.gpr[RDI] = ELF64_CMDLINE;
    r->cpu->s.gpr[RSP] = ELF64_STACK;
    *kind = "ELF64, 64-bit entry";
    return 1;
}

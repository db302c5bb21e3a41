// What the loaders share: copying into RAM, ELF segments, entry states, and the choice of protocol.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/load.h"

int load_fail(struct load_request *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(r->why, r->why_size, fmt, ap);
    va_end(ap);
    return -1;
}

// Within one range that the memory map gives to the kernel: neither the board's own tables nor the hole of
// the video memory.
static bool all_ram(const struct load_request *r, paddr a, u64 size)
{
    if (size == 0) return true;
    for (unsigned i = 0; i < r->e820_n; i++) {
        const struct e820_entry *e = &r->e820[i];
        if (e->type == E820_RAM && a >= e->base && a - e->base < e->size && size <= e->size - (a - e->base))
            return true;
    }
    return false;
}

bool load_bytes(struct load_request *r, paddr a, const void *data, u64 size, const char *what)
{
    if (!all_ram(r, a, size)) {
        load_fail(
            r, "%s: %s wants %#llx bytes at %#llx, where this machine has no RAM for it (give more with -m)",
            r->files->kernel.path, what, (unsigned long long)size, (unsigned long long)a);
        return false;
    }
    phys_write(r->phys, 0, a, data, size);
    return true;
}

bool load_zeros(struct load_request *r, paddr a, u64 size, const char *what)
{
    static const u8 zeros[4096];
    if (!all_ram(r, a, size)) return load_bytes(r, a, NULL, size, what);
    while (size) {
        u64 n = size < sizeof zeros ? size : sizeof zeros;
        phys_write(r->phys, 0, a, zeros, n);
        a += n, size -= n;
    }
    return true;
}

paddr load_low_top(const struct load_request *r)
{
    return r->acpi.tables ? r->acpi.tables : r->phys->low_size;
}

// ---- ELF, read by libelf ----

bool load_elf_open(struct load_request *r, struct elf_image *e)
{
    const struct file *f = &r->files->kernel;
    *e = (struct elf_image){0};
    if (f->size < SELFMAG || memcmp(f->data, ELFMAG, SELFMAG) != 0) return false;
    elf_version(EV_CURRENT);
    e->elf = elf_memory((char *)f->data, f->size);
    if (!e->elf || elf_kind(e->elf) != ELF_K_ELF || !gelf_getehdr(e->elf, &e->header) ||
        elf_getphdrnum(e->elf, &e->segments) != 0) {
        load_fail(r, "%s is cut off or broken: %s", f->path, elf_errmsg(-1));
        load_elf_close(e);
        return false;
    }
    e->is64 = gelf_getclass(e->elf) == ELFCLASS64;
    for (size_t i = 0; i < e->segments; i++) {
        GElf_Phdr s;
        if (gelf_getphdr(e->elf, (int)i, &s) &&
            (s.p_type != PT_LOAD ||
             (s.p_offset + s.p_filesz <= f->size && s.p_offset + s.p_filesz >= s.p_offset)))
            continue;
        load_fail(r, "%s is cut off: segment %zu lies past its end", f->path, i);
        load_elf_close(e);
        return false;
    }
    return true;
}

void load_elf_close(struct elf_image *e)
{
    if (e->elf) elf_end(e->elf);
    e->elf = NULL;
}

bool load_elf_segments(struct load_request *r, struct elf_image *e, paddr *top, u64 *entry)
{
    const struct file *f = &r->files->kernel;
    u64 start = e->header.e_entry;
    if (e->header.e_machine != EM_X86_64 && e->header.e_machine != EM_386) {
        load_fail(r, "%s is an ELF file for another processor (machine %u)", f->path, e->header.e_machine);
        return false;
    }
    *top = 0;
    *entry = start;
    bool any = false, entry_found = false;
    for (size_t i = 0; i < e->segments; i++) {
        GElf_Phdr s;
        if (!gelf_getphdr(e->elf, (int)i, &s) || s.p_type != PT_LOAD || s.p_memsz == 0) continue;
        if (s.p_filesz > s.p_memsz) {
            load_fail(r, "%s is broken: segment %zu has more bytes in the file than in memory", f->path, i);
            return false;
        }
        if (!load_bytes(r, s.p_paddr, f->data + s.p_offset, s.p_filesz, "a segment") ||
            !load_zeros(r, s.p_paddr + s.p_filesz, s.p_memsz - s.p_filesz, "a segment"))
            return false;
        if (s.p_paddr + s.p_memsz > *top) *top = s.p_paddr + s.p_memsz;
        if (!entry_found && start >= s.p_vaddr && start - s.p_vaddr < s.p_memsz) {
            entry_found = true;
            *entry = start - s.p_vaddr + s.p_paddr;
        }
        any = true;
    }
    if (!any) load_fail(r, "%s has no segment to load", f->path);
    return any;
}

// ---- entry states ----

static struct segment flat(u16 sel, u32 ar) { return (struct segment){0, 0xFFFFFFFF, ar, sel, {0}}; }

static void flat_segments(struct vcpu *v, bool long64)
{
    u32 code = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | AR_G | (long64 ? AR_L : AR_DB);
    u32 data = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_G | AR_DB;
    v->s.seg[SEG_CS] = flat(0x10, code);
    for (unsigned i = 0; i < 6; i++)
        if (i != SEG_CS) v->s.seg[i] = flat(0x18, data);
    v->s.seg[SEG_TR] = (struct segment){0, 0x67, AR_P | 11, 0, {0}};
    v->s.seg[SEG_LDTR] = (struct segment){0, 0, AR_UNUSABLE, 0, {0}};
    v->s.rflags = 2;
}

void boot_flat32(struct vcpu *v, u32 entry)
{
    flat_segments(v, false);
    v->s.cr0 = CR0_PE | CR0_ET;
    v->s.rip = entry;
    cpu_mode_changed(v);
    cpu_attention(v);
}

void boot_long64(struct vcpu *v, u64 entry, paddr t)
{
    struct phys *p = v->phys;
    u8 zero[4096] = {0};
    for (unsigned i = 0; i < 6; i++) phys_write(p, 0, t + i * PAGE_SIZE, zero, PAGE_SIZE);
    phys_write64(p, 0, t, (t + PAGE_SIZE) | 3);
    for (u64 i = 0; i < 4; i++) {
        phys_write64(p, 0, t + PAGE_SIZE + i * 8, (t + (2 + i) * PAGE_SIZE) | 3);
        for (u64 k = 0; k < 512; k++)
            phys_write64(p, 0, t + (2 + i) * PAGE_SIZE + k * 8, (i << 30 | k << 21) | 0x83);
    }
    flat_segments(v, true);
    v->s.cr3 = t;
    v->s.cr4 = CR4_PAE;
    v->s.msr.efer = EFER_LME | EFER_LMA;
    v->s.cr0 = CR0_PE | CR0_ET | CR0_PG;
    v->s.rip = entry;
    cpu_mode_changed(v);
    cpu_attention(v);
}

const char *load_kernel(struct load_request *r)
{
    static int (*const protocol[])(struct load_request *, const char **) = {load_linux, load_multiboot,
                                                                            load_pvh, load_elf64};
    for (unsigned i = 0; i < ARRAY_LEN(protocol); i++) {
        const char *kind = NULL;
        int got = protocol[i](r, &kind);
        if (got > 0) return kind;
        if (got < 0) return NULL;
    }
    load_fail(r,
              "%s is no kernel image that is known here (Linux bzImage, multiboot 1, PVH or ELF64 for x86)",
              r->files->kernel.path);
    return NULL;
}

// Linux bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst): protected-mode part at its preferred address, zero
// page, command line, initrd as high as the kernel allows, entry 200h into the image with an identity map.
#include <string.h>

#include "frontend/load.h"

enum { // offsets in the zero page and in the image's setup header
    ZP_ACPI_RSDP = 0x70, ZP_E820_N = 0x1E8, ZP_HDR = 0x1F1, ZP_E820 = 0x2D0,
    HDR_SETUP_SECTS = 0x1F1, HDR_BOOT_FLAG = 0x1FE, HDR_JUMP = 0x200, HDR_MAGIC = 0x202, HDR_VERSION = 0x206,
    HDR_LOADER = 0x210, HDR_LOADFLAGS = 0x211, HDR_RAMDISK = 0x218, HDR_RAMDISK_SIZE = 0x21C, HDR_HEAP_END = 0x224,
    HDR_CMDLINE = 0x228, HDR_INITRD_MAX = 0x22C, HDR_ALIGN = 0x230, HDR_RELOCATABLE = 0x234, HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238, HDR_PREF_ADDRESS = 0x258, HDR_INIT_SIZE = 0x260,
};
#define ZERO_PAGE   0x10000
#define GDT_PAGE    0x11000
#define CMDLINE     0x20000
#define PAGE_TABLES 0x30000

static u16 get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static u32 get32(const u8 *p) { return get16(p) | (u32)get16(p + 2) << 16; }
static u64 get64(const u8 *p) { return get32(p) | (u64)get32(p + 4) << 32; }
static void put32(u8 *p, u32 x) { memcpy(p, &x, 4); }

bool load_is_linux(const u8 *d, u64 n)
{
    return n >= HDR_VERSION + 2 && get16(d + HDR_BOOT_FLAG) == 0xAA55 && memcmp(d + HDR_MAGIC, "HdrS", 4) == 0;
}

int load_linux(struct load_request *r, const char **kind)
{
    const u8 *k = r->files->kernel.data;
    u64 size = r->files->kernel.size;
    const char *path = r->files->kernel.path;
    if (size < 0x270 || get16(k + HDR_BOOT_FLAG) != 0xAA55 || memcmp(k + HDR_MAGIC, "HdrS", 4) != 0) return 0;
    unsigned version = get16(k + HDR_VERSION);
    if (version < 0x20C) return load_fail(r, "%s: boot protocol %u.%02u is too old (2.12 is needed for 64-bit entry)", path, version >> 8, version & 255);
    if (!(k[HDR_LOADFLAGS] & 1)) return load_fail(r, "%s is a zImage, not a bzImage", path);
    if (!(get16(k + HDR_XLOADFLAGS) & 1)) return load_fail(r, "%s has no 64-bit entry point (a 32-bit kernel)", path);
    unsigned sects = k[HDR_SETUP_SECTS] ? k[HDR_SETUP_SECTS] : 4;
    u64 setup = (sects + 1) * 512ull;
    if (setup >= size || size < 0x270) return load_fail(r, "%s is cut off: no protected-mode part", path);
    // syssize counts paragraphs of the protected-mode part.
    u64 want = (u64)get32(k + 0x1F4) * 16;
    if (size - setup + 15 < want) return load_fail(r, "%s is cut off: %llu of %llu bytes of its protected-mode part", path, (unsigned long long)(size - setup), (unsigned long long)want);

    u64 init_size = get32(k + HDR_INIT_SIZE), base = get64(k + HDR_PREF_ADDRESS);
    paddr top = load_low_top(r);
    if (base < 0x100000) return load_fail(r, "%s wants to be loaded at %#llx, below 1 MiB", path, (unsigned long long)base);
    // Loaded lower, a relocatable kernel would still unpack itself at the address that it prefers.
    if (base + init_size > top || base + init_size < base)
        return load_fail(r, "%s needs %llu MiB of memory to start; this machine has %llu (give more with -m)", path,
                         (unsigned long long)((base + init_size) >> 20) + 1, (unsigned long long)(r->phys->ram_size >> 20));
    if (!load_bytes(r, base, k + setup, size - setup, "the kernel")) return -1;

    u8 zp[4096] = {0};
    u64 header = 0x202u + k[0x201] - HDR_SETUP_SECTS;
    if (header > 0x290 - HDR_SETUP_SECTS) header = 0x290 - HDR_SETUP_SECTS;
    memcpy(zp + ZP_HDR, k + HDR_SETUP_SECTS, header);
    zp[HDR_LOADER] = 0xFF;
    put32(zp + HDR_CMDLINE, CMDLINE);
    u64 length = strlen(r->append), most = get32(k + HDR_CMDLINE_SIZE);
    if (most >= PAGE_TABLES - CMDLINE) most = PAGE_TABLES - CMDLINE - 1; // what there is room for
    if (length > most) return load_fail(r, "-append is %llu bytes; this kernel takes %llu", (unsigned long long)length, (unsigned long long)most);
    if (!load_bytes(r, CMDLINE, r->append, length + 1, "the command line")) return -1;

    if (r->initrd) {
        const struct file *f = load_initrd(r, r->initrd);
        if (!f) return -1;
        u64 max = get32(k + HDR_INITRD_MAX);
        if (max + 1 < top) top = max + 1;
        paddr at = (top - f->size) & PAGE_MASK;
        bool fits = f->size < top && at >= base + init_size;
        if (!fits)
            load_fail(r, "-initrd %s (%llu MiB) does not fit beside the kernel (give more memory with -m)", r->initrd, (unsigned long long)(f->size >> 20));
        else
            fits = load_bytes(r, at, f->data, f->size, "the initrd");
        if (fits) {
            put32(zp + HDR_RAMDISK, (u32)at);
            put32(zp + HDR_RAMDISK_SIZE, (u32)f->size);
        }
        if (!fits) return -1;
    }
    memcpy(zp + ZP_E820, r->e820, r->e820_n * sizeof r->e820[0]);
    zp[ZP_E820_N] = (u8)r->e820_n;
    u64 rsdp = r->acpi.rsdp;
    memcpy(zp + ZP_ACPI_RSDP, &rsdp, 8);
    phys_write(r->phys, 0, ZERO_PAGE, zp, sizeof zp);

    // __BOOT_CS 10h and __BOOT_DS 18h, as the protocol wants them.
    const u64 gdt[4] = {0, 0, 0x00AF9B000000FFFFull, 0x00CF93000000FFFFull};
    phys_write(r->phys, 0, GDT_PAGE, gdt, sizeof gdt);
    boot_long64(r->cpu, base + 0x200, PAGE_TABLES);
    r->cpu->s.gdtr.base = GDT_PAGE;
    r->cpu->s.gdtr.limit = sizeof gdt - 1;
    r->cpu->s.gpr[RSI] = ZERO_PAGE;
    r->cpu->s.gpr[RSP] = 0x90000;
    *kind = "Linux bzImage, 64-bit boot protocol";
    return 1;
}

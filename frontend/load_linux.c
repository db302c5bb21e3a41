// Linux bzImage (Documentation/arch/x86/boot.rst), protocol 2.02 and later: protected-mode part at its
// preferred address, zero page, command line, initrd as high as the kernel allows. Entered by the 64-bit boot
// protocol, 200h into the image with an identity map, where image and processor have it; else by the 32-bit
// one, at its first byte with paging off (32-bit kernels, memtest86+).
//
// Missing: zImage, whose protected-mode part goes to 64 KiB; the real-mode part, which neither protocol runs.
#include <string.h>

#include "cpu/system/cpuid.h"
#include "frontend/load.h"

// clang-format off
enum { // offsets in the zero page and in the image's setup header
    ZP_ACPI_RSDP = 0x70, ZP_ALT_MEM_K = 0x1E0, ZP_E820_N = 0x1E8, ZP_HDR = 0x1F1, ZP_E820 = 0x2D0,
    HDR_SETUP_SECTS = 0x1F1, HDR_SYSSIZE = 0x1F4, HDR_BOOT_FLAG = 0x1FE, HDR_JUMP = 0x200, HDR_MAGIC = 0x202, HDR_VERSION = 0x206,
    HDR_LOADER = 0x210, HDR_LOADFLAGS = 0x211, HDR_CODE32 = 0x214, HDR_RAMDISK = 0x218, HDR_RAMDISK_SIZE = 0x21C, HDR_HEAP_END = 0x224,
    HDR_CMDLINE = 0x228, HDR_INITRD_MAX = 0x22C, HDR_ALIGN = 0x230, HDR_RELOCATABLE = 0x234, HDR_XLOADFLAGS = 0x236,
    HDR_CMDLINE_SIZE = 0x238, HDR_PREF_ADDRESS = 0x258, HDR_INIT_SIZE = 0x260,
    HDR_END = 0x290, // of what the zero page has room for
};
// clang-format on
#define BZIMAGE_BASE 0x100000 // where all went before 2.10
#define ZERO_PAGE    0x10000
#define GDT_PAGE     0x11000
#define CMDLINE      0x20000
#define PAGE_TABLES  0x30000

static u16 get16(const u8 *p) { return (u16)(p[0] | p[1] << 8); }
static u32 get32(const u8 *p) { return get16(p) | (u32)get16(p + 2) << 16; }
static u64 get64(const u8 *p) { return get32(p) | (u64)get32(p + 4) << 32; }
static void put32(u8 *p, u32 x) { memcpy(p, &x, 4); }

bool load_is_linux(const u8 *d, u64 n)
{
    return n >= HDR_VERSION + 2 && get16(d + HDR_BOOT_FLAG) == 0xAA55 &&
           memcmp(d + HDR_MAGIC, "HdrS", 4) == 0;
}

// Where the image goes, by the fields that its version of the protocol has.
struct image {
    const u8 *k;     // the file
    u64 setup, size; // bytes of the real-mode part, and of the rest
    unsigned version;
    bool entry64;
    paddr base;
    u64 init_size; // memory that it needs from `base` on until it can look at the memory map
    u64 start;     // offset of the 32-bit entry point
};

static bool look(struct load_request *r, struct image *m)
{
    const struct file *f = &r->files->kernel;
    const u8 *k = m->k = f->data;
    const char *path = f->path;
    if (f->size < HDR_END) return load_fail(r, "%s is cut off within its first two sectors", path), false;
    m->version = get16(k + HDR_VERSION);
    unsigned sects = k[HDR_SETUP_SECTS] ? k[HDR_SETUP_SECTS] : 4;
    m->setup = (sects + 1) * 512ull;
    if (m->version < 0x202)
        return load_fail(r, "%s: boot protocol %u.%02u is too old (2.02 is needed)", path, m->version >> 8,
                         m->version & 255),
               false;
    if (!(k[HDR_LOADFLAGS] & 1)) return load_fail(r, "%s is a zImage, not a bzImage", path), false;
    if (m->setup >= f->size) return load_fail(r, "%s is cut off: no protected-mode part", path), false;
    m->size = f->size - m->setup;
    // syssize counts paragraphs of the protected-mode part; before 2.04 it had 16 bits, too few to say.
    u64 want = m->version < 0x204 ? 0 : (u64)get32(k + HDR_SYSSIZE) * 16;
    if (m->size + 15 < want)
        return load_fail(r, "%s is cut off: %llu of %llu bytes of its protected-mode part", path,
                         (unsigned long long)m->size, (unsigned long long)want),
               false;
    bool lm = feature_on(r->cpu->features, FEATURE_LM);
    m->entry64 = m->version >= 0x20C && (get16(k + HDR_XLOADFLAGS) & 1) && lm;
    m->base = m->version >= 0x20A ? get64(k + HDR_PREF_ADDRESS) : 0;
    if (!m->base) m->base = BZIMAGE_BASE;
    m->start = get32(k + HDR_CODE32) - BZIMAGE_BASE; // as if it were loaded there
    if (!m->entry64 && m->start >= m->size)
        return load_fail(r, "%s: its entry point %#x lies outside of its protected-mode part", path,
                         get32(k + HDR_CODE32)),
               false;
    m->init_size = m->version >= 0x20A ? get32(k + HDR_INIT_SIZE) : 0;
    if (m->init_size < m->size) m->init_size = m->size;
    if (m->base < 0x100000)
        return load_fail(r, "%s wants to be loaded at %#llx, below 1 MiB", path, (unsigned long long)m->base),
               false;
    // Loaded lower, a relocatable kernel would still unpack itself at the address that it prefers.
    paddr top = load_low_top(r);
    if (m->base + m->init_size > top || m->base + m->init_size < m->base)
        return load_fail(r, "%s needs %llu MiB of memory to start; this machine has %llu (give more with -m)",
                         path, (unsigned long long)((m->base + m->init_size) >> 20) + 1,
                         (unsigned long long)(r->phys->ram_size >> 20)),
               false;
    return true;
}

static bool put_initrd(struct load_request *r, const struct image *m, u8 zp[4096])
{
    const struct file *f = load_initrd(r, r->initrd);
    if (!f) return false;
    paddr top = load_low_top(r);
    u64 max = m->version >= 0x203 ? get32(m->k + HDR_INITRD_MAX) : 0x37FFFFFF;
    if (max + 1 < top) top = max + 1;
    paddr at = (top - f->size) & PAGE_MASK;
    if (f->size >= top || at < m->base + m->init_size) {
        load_fail(r, "-initrd %s (%llu MiB) does not fit beside the kernel (give more memory with -m)",
                  r->initrd, (unsigned long long)(f->size >> 20));
        return false;
    }
    put32(zp + HDR_RAMDISK, (u32)at);
    put32(zp + HDR_RAMDISK_SIZE, (u32)f->size);
    return load_bytes(r, at, f->data, f->size, "the initrd");
}

static bool put_zero_page(struct load_request *r, const struct image *m)
{
    const u8 *k = m->k;
    u8 zp[4096] = {0};
    u64 header = 0x202u + k[0x201] - HDR_SETUP_SECTS;
    if (header > HDR_END - HDR_SETUP_SECTS) header = HDR_END - HDR_SETUP_SECTS;
    memcpy(zp + ZP_HDR, k + HDR_SETUP_SECTS, header);
    zp[HDR_LOADER] = 0xFF;
    put32(zp + HDR_CODE32, (u32)(m->base + m->start));
    put32(zp + HDR_CMDLINE, CMDLINE);
    u64 length = strlen(r->append), most = m->version >= 0x206 ? get32(k + HDR_CMDLINE_SIZE) : 255;
    if (most >= PAGE_TABLES - CMDLINE) most = PAGE_TABLES - CMDLINE - 1; // what there is room for
    if (length > most) {
        load_fail(r, "-append is %llu bytes; this kernel takes %llu", (unsigned long long)length,
                  (unsigned long long)most);
        return false;
    }
    if (!load_bytes(r, CMDLINE, r->append, length + 1, "the command line")) return false;
    if (r->initrd && !put_initrd(r, m, zp)) return false;
    memcpy(zp + ZP_E820, r->e820, r->e820_n * sizeof r->e820[0]);
    zp[ZP_E820_N] = (u8)r->e820_n;
    // for kernels that know no memory map
    put32(zp + ZP_ALT_MEM_K, (u32)((load_low_top(r) - 0x100000) >> 10));
    u64 rsdp = r->acpi.rsdp;
    memcpy(zp + ZP_ACPI_RSDP, &rsdp, 8);
    phys_write(r->phys, 0, ZERO_PAGE, zp, sizeof zp);
    return true;
}

int load_linux(struct load_request *r, const char **kind)
{
    if (!load_is_linux(r->files->kernel.data, r->files->kernel.size)) return 0;
    struct image m;
    if (!look(r, &m) || !load_bytes(r, m.base, m.k + m.setup, m.size, "the kernel") || !put_zero_page(r, &m))
        return -1;

    // __BOOT_CS 10h and __BOOT_DS 18h, as the protocol wants them.
    const u64 gdt[4] = {0, 0, m.entry64 ? 0x00AF9B000000FFFFull : 0x00CF9B000000FFFFull,
                        0x00CF93000000FFFFull};
    phys_write(r->phys, 0, GDT_PAGE, gdt, sizeof gdt);
    if (m.entry64)
        boot_long64(r->cpu, m.base + 0x200, PAGE_TABLES);
    else
        boot_flat32(r->cpu, (u32)(m.base + m.start));
    r->cpu->s.gdtr.base = GDT_PAGE;
    r->cpu->s.gdtr.limit = sizeof gdt - 1;
    r->cpu->s.gpr[RSI] = ZERO_PAGE;
    r->cpu->s.gpr[RSP] = 0x90000;
    *kind = m.entry64 ? "Linux bzImage, 64-bit boot protocol" : "Linux bzImage, 32-bit boot protocol";
    return 1;
}

// A tiny kernel that says how it was started, for tests/boot: built as 32-bit code (multiboot, PVH) or 64-bit
// code. The command line names what it then does: exit=N, off, reset (port CF9h), keyboard, fast (port 92h),
// triple, dead, loop.
typedef unsigned u32;
typedef unsigned long long u64;

static void out8(u32 port, u32 x) { __asm__ volatile("outb %b0, %w1" ::"a"(x), "d"(port)); }
static void out16(u32 port, u32 x) { __asm__ volatile("outw %w0, %w1" ::"a"(x), "d"(port)); }
static void text(const char *s, u32 n)
{
    for (; n && *s; n--) out8(0x3F8, (u32)*s++);
}
static void hex(u64 x)
{
    int i = 60;
    while (i > 0 && !(x >> i)) i -= 4;
    for (; i >= 0; i -= 4) out8(0x3F8, (u32) "0123456789abcdef"[x >> i & 15]);
}
static void say(const char *name, u64 x)
{
    text(name, 100);
    text("=", 1);
    hex(x);
    text("\n", 1);
}
static void quote(const char *name, const char *s, u32 n)
{
    text(name, 100);
    text("=[", 2);
    text(s, n);
    text("]\n", 2);
}
static char zeros[3000]; // BSS
static u32 initialised = 0x12345678;

static void act(const char *s)
{
    for (; *s; s++) {
        if (s[0] == 'e' && s[1] == 'x' && s[2] == 'i' && s[3] == 't' && s[4] == '=') {
            u32 n = 0;
            for (s += 5; *s >= '0' && *s <= '9'; s++) n = n * 10 + (u32)(*s - '0');
            out8(0xF4, n);
            out16(0x501, n);
        }
        if (s[0] == 'o' && s[1] == 'f' && s[2] == 'f') out16(PM1_CONTROL, 0x2000);
        if (s[0] == 'r' && s[1] == 'e' && s[2] == 's') out8(0xCF9, 6);
        if (s[0] == 'k' && s[1] == 'e' && s[2] == 'y') out8(0x64, 0xFE);
        if (s[0] == 'f' && s[1] == 'a' && s[2] == 's') out8(0x92, 3);
        if (s[0] == 't' && s[1] == 'r' && s[2] == 'i') {
            static const struct __attribute__((packed)) {
                unsigned short limit;
                u64 base;
            } none = {0, 0};
            __asm__ volatile("lidt %0; int3" ::"m"(none), "b"(0x600DF00D), "S"(0x1234));
        }
        if (s[0] == 'd' && s[1] == 'e' && s[2] == 'a') __asm__ volatile("cli; hlt");
        if (s[0] == 'l' && s[1] == 'o' && s[2] == 'o')
            for (;;) __asm__ volatile("pause");
    }
    out8(0xF4, 0);
}

// Where ACPI tells an operating system without firmware's help to look: E0000h to FFFFFh, on 16 bytes,
// checksum 0.
static u32 rsdp_in_bios_area(void)
{
    static const char signature[] = "RSD PTR ";
    for (unsigned long at = 0xE0000; at < 0x100000; at += 16) {
        const unsigned char *p = (const unsigned char *)at;
        u32 n = 0, sum = 0;
        while (n < 8 && p[n] == (unsigned char)signature[n]) n++;
        if (n < 8) continue;
        for (n = 0; n < 20; n++) sum += p[n];
        return (sum & 255) == 0;
    }
    return 0;
}

static void common(void)
{
    u32 dirty = 0;
    for (u32 i = 0; i < sizeof zeros; i++) dirty |= (u32)zeros[i];
    unsigned long flags, cr0;
    __asm__("pushf; pop %0; mov %%cr0, %1" : "=r"(flags), "=r"(cr0));
    say("bss", dirty);
    say("data", initialised);
    say("if", flags >> 9 & 1);
    say("pe", cr0 & 1);
    say("pg", cr0 >> 31 & 1);
    say("bios-rsdp", rsdp_in_bios_area());
    zeros[5] = 1, initialised = 0; // seen by a second start that did not load anew
}

#ifdef LINUX
// A bzImage's protected-mode part: entered in 64-bit mode 200h bytes in, RSI = the zero page, or in 32-bit
// mode at its first byte, ESI = the zero page, EBX = EBP = EDI = 0.
#ifdef __x86_64__
__asm__(".section .text.first, \"ax\"; .skip 0x200; .globl _start; _start: lea stack + 4096(%rip), %rsp; mov "
        "%rsi, %rdi; call main_linux; hlt; .text");
#else
__asm__(".section .text.first, \"ax\"; .globl _start; _start: mov %esp, %eax; mov $stack + 4096, %esp; or "
        "%ebp, %ebx; or %edi, %ebx;"
        "mov %ebx, zero; push %esi; call main_linux; hlt; .text");
u32 zero = 1;
#endif
char stack[4096];
void main_linux(const unsigned char *zp)
{
    u32 cs, ds, es, ss;
#ifndef __x86_64__
    say("ebx-ebp-edi", zero);
    say("code32", *(const u32 *)(zp + 0x214));
    say("alt-mem", *(const u32 *)(zp + 0x1E0) > 1024);
#endif
    __asm__("mov %%cs, %0; mov %%ds, %1; mov %%es, %2; mov %%ss, %3"
            : "=r"(cs), "=r"(ds), "=r"(es), "=r"(ss));
    common();
    say("cs", cs & 0xFFFF), say("ds", ds & 0xFFFF), say("es", es & 0xFFFF), say("ss", ss & 0xFFFF);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" ::"r"(ds)); // their descriptors are in a GDT
#ifndef __x86_64__
    __asm__ volatile("push %0; push $1f; lret; 1:" ::"r"(cs));
#endif
    quote("header", (const char *)zp + 0x202, 4);
    say("loader", zp[0x210]);
    say("map", zp[0x1E8] > 1);
    u64 ram = 0;
    for (u32 i = 0; i < zp[0x1E8]; i++) {
        const u32 *e = (const u32 *)(zp + 0x2D0 + i * 20);
        if (e[4] == 1) ram += e[2];
    }
    say("ram-MiB", (ram + 0xFFFFF) >> 20);
    u32 initrd = *(const u32 *)(zp + 0x218), size = *(const u32 *)(zp + 0x21C),
        line = *(const u32 *)(zp + 0x228);
    say("initrd-size", size);
    quote("initrd", (const char *)(unsigned long)initrd, size);
    say("aligned", (initrd & 0xFFF) == 0);
    quote("cmdline", (const char *)(unsigned long)line, 200);
    quote("rsdp", *(const char *const *)(zp + 0x70), 8);
    act((const char *)(unsigned long)line);
}
#elif defined(__x86_64__)
__asm__(".globl _start; _start: call main64; hlt");
void main64(const char *line)
{
    common();
    quote("cmdline", line, 200);
    act(line);
}
#elif defined(PVH)
__asm__(".pushsection .note.Xen, \"a\", @note; .long 4, 4, 18; .ascii \"Xen\\0\"; .long entry; .popsection");
__asm__(".globl _start; _start: ud2; entry: mov $stack + 4096, %esp; push %ebx; call main_pvh; hlt");
char stack[4096];
void main_pvh(const u32 *info)
{
    common();
    say("magic", info[0]);
    say("modules", info[3]);
    for (u32 i = 0; i < info[3]; i++) {
        const u32 *m = (const u32 *)info[4] + i * 8;
        quote("module", (const char *)m[0], m[2]);
    }
    say("map", info[12] > 1);
    quote("cmdline", (const char *)info[6], 200);
    quote("rsdp", (const char *)info[8], 8);
    act((const char *)info[6]);
}
#else
#ifdef KLUDGE
#define FLAGS "0x10003"
#else
#define FLAGS "3"
#endif
__asm__(".section .text.first, \"ax\"; .balign 4; header: .long 0x1BADB002, " FLAGS ", -(0x1BADB002 + " FLAGS
        ");"
        ".long header, header, 0, _end, _start; .text;"
        ".globl _start; _start: mov $stack + 4096, %esp; push %ebx; push %eax; call main_multiboot; hlt");
char stack[4096];
void main_multiboot(u32 magic, const u32 *info)
{
    common();
    say("magic", magic);
    say("wanted", (info[0] & 0x45) == 0x45); // memory sizes, command line, map
    say("low", info[1]);
    say("upper-MiB", (info[2] + 1023) >> 10);
    u32 entries = 0, ram = 0;
    for (u32 at = info[12]; at < info[12] + info[11]; at += *(const u32 *)at + 4, entries++)
        if (((const u32 *)at)[5] == 1) ram += ((const u32 *)at)[3] >> 10;
    say("map", entries > 1 && ram >= info[2]);
    say("modules", info[0] & 8 ? info[5] : 0);
    for (u32 i = 0; info[0] & 8 && i < info[5]; i++) {
        const u32 *m = (const u32 *)info[6] + i * 4;
        quote("module", (const char *)m[0], m[1] - m[0]);
        quote("string", (const char *)m[2], 200);
        say("aligned", (m[0] & 0xFFF) == 0);
    }
    quote("cmdline", (const char *)info[4], 200);
    act((const char *)info[4]);
}
#endif

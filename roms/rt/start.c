/*
 * The beginning and the end of an image: what boot.S calls, the command line, and the ways out.
 */
#include "rt.h"
#include "trap.h"

#define MULTIBOOT_LOADER_MAGIC 0x2badb002
#define MULTIBOOT_INFO_CMDLINE (1u << 2)

/* The head of the multiboot information. */
struct multiboot_info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
};

static const char *rt_cmdline = "";

_Noreturn void rt_start(uint32_t magic, const struct multiboot_info *info);

_Noreturn void rt_start(uint32_t magic, const struct multiboot_info *info)
{
    /* Firmware leaves the timer running; its interrupts are not for us until we ask for them. */
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    console_init();
    trap_init();
    if (magic == MULTIBOOT_LOADER_MAGIC && (info->flags & MULTIBOOT_INFO_CMDLINE))
        rt_cmdline = (const char *)(uintptr_t)info->cmdline;
    rt_exit((uint8_t)rom_main());
}

_Noreturn void rt_exit(uint8_t value)
{
    cli();
    console_drain();
    outl(0xf4, value);
    for (const char *s = "Shutdown"; *s; s++) outb(0x8900, (uint8_t)*s);
    for (;;) asm volatile("hlt");
}

_Noreturn void panic(const char *format, ...)
{
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    print("Bail out! ");
    vprint(format, ap);
    print("\n");
    rt_exit(0x7f);
}

const char *cmdline(void) { return rt_cmdline; }

/* The word of the command line that begins with `start`: what follows it, or NULL. */
static const char *find_word(const char *start)
{
    size_t n = strlen(start);
    for (const char *p = rt_cmdline; *p;) {
        while (*p == ' ') p++;
        if (strlen(p) >= n && memcmp(p, start, n) == 0) return p + n;
        while (*p && *p != ' ') p++;
    }
    return NULL;
}

bool cmdline_has(const char *word)
{
    const char *rest = find_word(word);
    return rest && (*rest == 0 || *rest == ' ');
}

const char *cmdline_text(const char *key)
{
    const char *p = find_word(key);
    return p && *p == '=' ? p + 1 : NULL;
}

uint64_t cmdline_number(const char *key, uint64_t otherwise)
{
    const char *p = find_word(key);
    if (!p || *p++ != '=' || *p < '0' || *p > '9') return otherwise;
    uint64_t v = 0;
    if (p[0] == '0' && p[1] == 'x') {
        for (p += 2;; p++) {
            int digit = *p >= '0' && *p <= '9' ? *p - '0' : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10 : 16;
            if (digit == 16) return v;
            v = v << 4 | (uint64_t)digit;
        }
    }
    for (; *p >= '0' && *p <= '9'; p++) v = v * 10 + (uint64_t)(*p - '0');
    return v;
}

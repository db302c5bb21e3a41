// clang-format off
// A tiny 32-bit multiboot kernel for tests/stop: the last word of the command line names what it does until somebody stops it.
//   loop           spins
//   echo           asleep; COM1's interrupt wakes it: it echoes, and ends with exit(0) at 'q'
//   echo2          the same on COM2
//   tick           the same, with the 8254 at 1 kHz, whose 3000th interrupt ends it with exit(1)
//   masked, dead   asleep with the 8254's interrupt masked and COM1's too, or with IF=0
//   ins, movs      one REP for a very long time, from a port, from and to where no memory is
//   spew           writes to COM1 without end
//   triple, two    a triple fault, at once; at one of two places in turn
//   hello          writes a line and ends with exit(0)
// clang-format on
typedef unsigned char u8;
typedef unsigned u32;
typedef unsigned long long u64;

__asm__(".section .text.first\n"
        ".globl _start\n"
        "_start: jmp 1f\n"
        ".balign 4\n"
        ".long 0x1BADB002, 0, -0x1BADB002\n"
        "1: mov $stack + 8192, %esp\n"
        "push %ebx\n"
        "call run\n"
        ".text\n"
        "serial_entry: pusha; call on_serial; popa; iret\n"
        "tick_entry: pusha; call on_tick; popa; iret\n");
__attribute__((used)) static u8 stack[8192];
static struct __attribute__((packed)) {
    unsigned short low, sel;
    u8 zero, type;
    unsigned short high;
} idt[64];
static volatile u32 ticks;
static u32 com = 0x3F8;

static void out8(u32 port, u32 x) { __asm__ volatile("outb %b0, %w1" ::"a"(x), "d"(port)); }
static u32 in8(u32 port)
{
    u8 x;
    __asm__ volatile("inb %w1, %0" : "=a"(x) : "d"(port));
    return x;
}
static void text(const char *s)
{
    while (*s) out8(com, (u32)*s++);
}
__attribute__((used)) static void on_serial(void)
{
    while (in8(com + 5) & 1) {
        u32 c = in8(com);
        out8(com, c);
        if (c == 'q') out8(0xF4, 0);
    }
    out8(0x20, 0x20);
}
__attribute__((used)) static void on_tick(void)
{
    if (!--ticks) out8(0xF4, 1);
    out8(0x20, 0x20);
}
void serial_entry(void), tick_entry(void);
static void gate(u32 n, void (*to)(void))
{
    idt[n].low = (u32)to, idt[n].high = (u32)to >> 16, idt[n].sel = 8, idt[n].type = 0x8E;
}
static void sleep_with(u32 timer, u32 open)
{
    static const u64 gdt[3] = {0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF};
    struct __attribute__((packed)) {
        unsigned short limit;
        u32 base;
    } d = {sizeof idt - 1, (u32)idt}, g = {sizeof gdt - 1, (u32)gdt};
    __asm__ volatile("lgdt %0; mov %1, %%ds; mov %1, %%es; mov %1, %%ss; ljmp $8, $1f; 1:" ::"m"(g), "r"(16));
    gate(0x20, tick_entry), gate(0x23, serial_entry), gate(0x24, serial_entry);
    __asm__ volatile("lidt %0" ::"m"(d));
    out8(0x20, 0x11), out8(0x21, 0x20), out8(0x21, 4), out8(0x21, 1), out8(0x21, ~open);
    out8(com + 4, 8), out8(com + 1, 1);
    ticks = 3000;
    out8(0x43, timer ? 0x34 : 0x30); // or no count: it stands still
    if (timer) out8(0x40, 0xA9), out8(0x40, 4);
    text("ready\n");
    for (;;) __asm__ volatile("sti; hlt");
}
static int is(const char *s, const char *word)
{
    while (*word && *s == *word) s++, word++;
    return !*word && !*s;
}
__attribute__((used)) static void run(const u32 *info)
{
    const char *s = (const char *)info[4], *last = s;
    static const struct __attribute__((packed)) {
        unsigned short limit;
        u32 base;
    } none = {0, 0};
    for (; *s; s++)
        if (*s == ' ') last = s + 1;
    if (is(last, "echo")) sleep_with(0, 0x10);
    if (is(last, "echo2")) {
        com = 0x2F8;
        sleep_with(0, 0x08);
    }
    if (is(last, "tick")) sleep_with(1, 0x11);
    if (is(last, "masked")) sleep_with(1, 0);
    if (is(last, "two")) { // a flag in the clock's CMOS memory outlives the reset
        out8(0x70, 0x50);
        u32 x = in8(0x71);
        out8(0x71, x ^ 1);
        text(x & 1 ? "a\n" : "b\n");
        if (x & 1) __asm__ volatile("lidt %0; int3" ::"m"(none));
        __asm__ volatile("lidt %0; nop; int3" ::"m"(none));
    }
    text(is(last, "hello") ? "hello\n" : "ready\n");
    if (is(last, "hello")) out8(0xF4, 0);
    if (is(last, "triple")) __asm__ volatile("lidt %0; int3" ::"m"(none));
    if (is(last, "dead")) __asm__ volatile("cli; hlt");
    if (is(last, "ins")) __asm__ volatile("cld; rep insb" ::"c"(1 << 28), "D"(0x80000000), "d"(0x71));
    if (is(last, "movs")) __asm__ volatile("cld; rep movsb" ::"c"(1 << 28), "S"(0xA0000000), "D"(0x80000000));
    while (is(last, "spew")) out8(0x3F8, 'x');
    for (;;) __asm__ volatile("pause");
}

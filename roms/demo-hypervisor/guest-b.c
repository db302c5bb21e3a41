/*
 * Guest B: a 64-bit program. It computes without ever giving up the processor, which is what the hypervisor's
 * preemption timer is for; its own timer interrupt counts in the background.
 */
#include "cpu.h"

#define COM1             0x3f8
#define SHARED_ADDRESS   0x6000
#define MY_VALUE         0xbbbbbbbb
#define BEYOND_MY_MEMORY 0x200000
#define TICKS_TO_SLEEP   3

extern volatile uint64_t ticks; /* counted by the interrupt handler */
bool write_byte(uint8_t *where, uint8_t value);
void guest_main(void);

static void putc(char c)
{
    while (!(inb(COM1 + 5) & 0x20)) pause();
    outb(COM1, (uint8_t)c);
}

static void puts(const char *s)
{
    while (*s) putc(*s++);
}

static void put_number(uint64_t v, unsigned base)
{
    if (v >= base) put_number(v / base, base);
    putc("0123456789ABCDEF"[v % base]);
}

static unsigned count_primes(unsigned below)
{
    unsigned found = 0;
    for (unsigned n = 2; n < below; n++) {
        unsigned d = 2;
        while (d * d <= n && n % d) d++;
        if (d * d > n) found++;
    }
    return found;
}

static void say_processor(void)
{
    struct cpuid c = cpuid(0, 0);
    uint32_t words[3] = {c.ebx, c.edx, c.ecx};
    puts("CPUID says that my processor is ");
    for (unsigned i = 0; i < 12; i++) putc((char)(words[i / 4] >> 8 * (i % 4)));
    puts(cpuid(1, 0).ecx & 1u << 31 ? ", under a hypervisor\n" : ", on bare metal\n");
}

void guest_main(void)
{
    puts("hello from 64-bit mode\n");
    say_processor();

    volatile uint32_t *mine = (volatile uint32_t *)SHARED_ADDRESS;
    *mine = MY_VALUE;

    sti();
    puts("there are ");
    put_number(count_primes(20000), 10);
    puts(" primes below 20000; meanwhile my timer ticked ");
    put_number(ticks, 10);
    puts(" times\n");

    uint64_t begin = ticks;
    while (ticks < begin + TICKS_TO_SLEEP) asm volatile("hlt");
    puts("slept from tick ");
    put_number(begin, 10);
    puts(" to tick ");
    put_number(ticks, 10);
    puts("\n");

    puts("I wrote BBBBBBBB at 6000 and read back ");
    put_number(*mine, 16);
    puts("\nwriting to 200000, beyond my memory\n");
    puts(write_byte((uint8_t *)BEYOND_MY_MEMORY, 1) ? "nothing stopped me\n" : "#GP: so that was not mine\n");
    puts("goodbye\n");
}

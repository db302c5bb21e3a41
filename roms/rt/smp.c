/* More than one processor. See smp.h. */
#include "smp.h"
#include "apic.h"
#include "trap.h"

#define TRAMPOLINE 0x8000
#define PIT_HZ     1193182

extern const char smp_trampoline[], smp_trampoline_end[];
volatile uint32_t smp_arrived = 1;
volatile uint8_t smp_number_of[256];
uint8_t smp_stacks[SMP_MAX][0x4000] __attribute__((aligned(16)));
_Noreturn void smp_main(unsigned self);

static struct processor {
    void (*volatile function)(uint64_t);
    volatile uint64_t argument;
    volatile uint32_t id, starts;
    uint64_t gdt[32];
    struct tss tss;
    uint8_t stacks[3][2048] __attribute__((aligned(16)));
} processors[SMP_MAX];

static void own_tables(struct processor *p)
{
    memcpy(p->gdt, rt_gdt, (size_t)((char *)rt_gdt_end - (char *)rt_gdt));
    memset(&p->tss, 0, offsetof(struct tss, iomap));
    p->tss.iomap_base = sizeof(p->tss);
    for (unsigned i = 0; i < 3; i++) p->tss.ist[i] = (uint64_t)(p->stacks[i] + sizeof(p->stacks[i]));
    uint64_t base = (uint64_t)&p->tss, limit = sizeof(p->tss) - 1;
    p->gdt[SEL_TSS / 8] =
        (limit & 0xffff) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    p->gdt[SEL_TSS / 8 + 1] = base >> 32;
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr = {sizeof(p->gdt) - 1, (uint64_t)p->gdt},
                              idtr = {sizeof(rt_idt) - 1, (uint64_t)rt_idt};
    asm volatile("lgdt %0" ::"m"(gdtr));
    asm volatile("lidt %0" ::"m"(idtr));
    asm volatile("ltr %w0; lldt %w1" ::"r"(SEL_TSS), "r"(0));
}

_Noreturn void smp_main(unsigned self)
{
    struct processor *p = &processors[self];
    own_tables(p);
    apic_enable();
    p->function = NULL;
    p->id = cpuid(1, 0).ebx >> 24;
    asm volatile("lock incl %0" : "+m"(p->starts)::"memory");
    for (;;) {
        void (*f)(uint64_t) = p->function;
        if (f) {
            f(p->argument);
            asm volatile("" ::: "memory");
            p->function = NULL;
        }
        pause();
    }
}

static unsigned pit_count(void)
{
    outb(0x43, 0);
    unsigned low = inb(0x40);
    return low | (unsigned)inb(0x40) << 8;
}

void smp_delay(unsigned microseconds)
{
    uint64_t left = (uint64_t)microseconds * PIT_HZ / 1000000 + 2;
    for (unsigned last = pit_count(); left;) {
        unsigned now = pit_count(), passed = (last - now) & 0xffff;
        left = passed < left ? left - passed : 0;
        last = now;
    }
}

static void send(uint32_t destination, uint32_t command)
{
    if (apic_is_x2()) {
        wrmsr(0x830, (uint64_t)destination << 32 | command);
        return;
    }
    apic_write(APIC_ICR_HIGH, destination << 24);
    apic_write(APIC_ICR, command);
    while (apic_read(APIC_ICR) & 1u << 12) pause();
}

void smp_send_init(unsigned n) { send(processors[n].id, 0x4500); }
void smp_send_sipi(unsigned n) { send(processors[n].id, 0x4600 | TRAMPOLINE >> 12); }
unsigned smp_starts(unsigned n) { return processors[n].starts; }
uint32_t smp_apic_id(unsigned n) { return processors[n].id; }
unsigned smp_self(void) { return smp_number_of[cpuid(1, 0).ebx >> 24 & 255]; }

unsigned smp_start(void)
{
    processors[0].id = cpuid(1, 0).ebx >> 24;
    apic_enable();
    outb(0x43, 0x34); /* counter 0 from 65536, as rate generator */
    outb(0x40, 0);
    outb(0x40, 0);
    memcpy((void *)TRAMPOLINE, smp_trampoline, (size_t)(smp_trampoline_end - smp_trampoline));
    send(0, 0xc4500); /* INIT to all others */
    smp_delay(10000);
    for (unsigned i = 0; i < 2; i++) {
        send(0, 0xc4600 | TRAMPOLINE >> 12);
        smp_delay(200);
    }
    unsigned n = 0;
    do { /* until nobody has come for 20 ms */
        n = smp_arrived;
        smp_delay(20000);
    } while (n != smp_arrived);
    if (n > SMP_MAX) n = SMP_MAX;
    for (unsigned i = 1; i < n; i++)
        while (!processors[i].starts) pause();
    return n;
}

void smp_run(unsigned n, void (*function)(uint64_t), uint64_t argument)
{
    processors[n].argument = argument;
    asm volatile("" ::: "memory");
    processors[n].function = function;
}

bool smp_wait(unsigned n, unsigned ms)
{
    for (unsigned i = 0; processors[n].function && i < ms * 10; i++) smp_delay(100);
    return !processors[n].function;
}

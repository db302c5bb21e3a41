/*
 * A monitor of virtual-8086 mode, as small as a DOS program lets it be (SDM volume 3, chapter 22): it has a
 * virtual interrupt flag, by VIF where it may use CR4.VME and by its own where not, reflects software
 * interrupts through the program's vectors, plays an 8259 and a printer, and brings the program the ticks of
 * the real timer. Paging maps the program's memory for level 3, the screen elsewhere, and the 64 KiB above 1
 * MiB to the first ones, as on an 8086.
 */
#include "dos.h"

#define CF_TF     (1u << 8)
#define FLAG_IF   (1u << 9)
#define FLAG_IOPL (3u << 12)
#define FLAG_VM   (1u << 17)
#define FLAG_VIF  (1u << 19)
#define FLAG_VIP  (1u << 20)
#define TIMER     0x20 /* the vector of IRQ 0 */

struct frame {
    uint32_t edi, esi, ebp, ignored, ebx, edx, ecx, eax;
    uint32_t vector, error, eip, cs, eflags, esp, ss, es, ds, fs, gs;
};

extern const uint8_t monitor_stubs[];
void monitor_leave(void) __attribute__((noreturn));

static volatile struct dos_report *const report = (volatile struct dos_report *)DOS_REPORT;
/* .data: nobody clears a .bss here */
static struct {
    uint32_t virtual_if, pending, in_service, mask;
} state __attribute__((section(".data"))) = {1, 0, 0, 0};

static void outb(uint16_t port, uint8_t x) { asm volatile("outb %0, %1" ::"a"(x), "Nd"(port)); }
static uint8_t *at(uint32_t segment, uint32_t offset)
{
    return (uint8_t *)((segment << 4) + (offset & 0xffff));
}
static uint16_t word_at(uint32_t segment, uint32_t offset) { return *(uint16_t *)at(segment, offset); }

/* ---- the program's flags and stack ---- */
static uint32_t vif(const struct frame *f) { return report->vme ? f->eflags & FLAG_VIF : state.virtual_if; }
static void set_vif(struct frame *f, uint32_t on)
{
    state.virtual_if = on != 0;
    if (report->vme) f->eflags = on ? f->eflags | FLAG_VIF : f->eflags & ~FLAG_VIF;
}
static void push(struct frame *f, uint32_t x)
{
    f->esp = (f->esp & 0xffff0000) | ((f->esp - 2) & 0xffff);
    *(uint16_t *)at(f->ss, f->esp) = (uint16_t)x;
}
static uint16_t pop(struct frame *f)
{
    uint16_t x = word_at(f->ss, f->esp);
    f->esp = (f->esp & 0xffff0000) | ((f->esp + 2) & 0xffff);
    return x;
}
static uint32_t flags_image(const struct frame *f)
{
    return (f->eflags & ~FLAG_IF) | (vif(f) ? FLAG_IF : 0) | FLAG_IOPL;
}
static void load_flags(struct frame *f, uint32_t image)
{
    uint32_t may = 0x4dd5; /* CF PF AF ZF SF TF DF OF NT */
    f->eflags = (f->eflags & ~may) | (image & may);
    set_vif(f, image & FLAG_IF);
}

static void reflect(struct frame *f, unsigned vector)
{
    push(f, flags_image(f));
    push(f, f->cs);
    push(f, f->eip);
    f->eip = word_at(0, 4 * vector);
    f->cs = word_at(0, 4 * vector + 2);
    f->eflags &= ~CF_TF;
    set_vif(f, 0);
}

/* A tick that waits, before the program goes on. */
static void bring_tick(struct frame *f)
{
    if (state.pending && !state.in_service && !(state.mask & 1)) {
        if (vif(f)) {
            state.pending = 0, state.in_service = 1;
            report->delivered++;
            f->eflags &= ~FLAG_VIP;
            reflect(f, 8);
            return;
        }
        report->held++;
        if (report->vme) f->eflags |= FLAG_VIP;
        return;
    }
    f->eflags &= ~FLAG_VIP;
}

/* ---- what it plays ---- */
static uint32_t port_in(uint32_t port)
{
    report->in++;
    return port == DOS_TICKS ? report->ticks & 0xff : port == 0x21 ? state.mask : 0xff;
}
static void port_out(uint32_t port, uint32_t x)
{
    report->out++;
    if (port == DOS_PRINTER && report->printed < sizeof report->text)
        report->text[report->printed++] = (char)x;
    if (port == 0x20 && (x & 0xff) == 0x20) state.in_service = 0;
    if (port == 0x21) state.mask = x & 0xff;
    if (port == DOS_EXIT) {
        report->done = 1, report->exit_code = x & 0xff;
        monitor_leave();
    }
}

static void fail(const struct frame *f)
{
    report->done = 2, report->vector = f->vector, report->error = f->error;
    report->cs = f->cs, report->eip = f->eip;
    report->byte = f->eflags & FLAG_VM ? *at(f->cs, f->eip) : 0;
    monitor_leave();
}

static void emulate(struct frame *f)
{
    const uint8_t *p = at(f->cs, f->eip);
    uint32_t mask = *p & 1 ? 0xffff : 0xff, port = *p & 8 ? f->edx & 0xffff : p[1], n = *p & 8 ? 1 : 2;
    if (f->eflags & FLAG_VIP && (*p == 0xfb || *p == 0x9d || *p == 0xcf)) report->with_vip++;
    switch (*p) {
    case 0xfa: report->cli++, set_vif(f, 0), f->eip += 1; return;
    case 0xfb: report->sti++, set_vif(f, 1), f->eip += 1; return;
    case 0x9c: report->pushf++, push(f, flags_image(f)), f->eip += 1; return;
    case 0x9d: report->popf++, load_flags(f, pop(f)), f->eip += 1; return;
    case 0xcf:
        report->iret++;
        f->eip = pop(f);
        f->cs = pop(f);
        load_flags(f, pop(f));
        return;
    case 0xcd:
        report->intn++;
        f->eip += 2;
        reflect(f, p[1]);
        return;
    case 0xe4:
    case 0xe5:
    case 0xec:
    case 0xed: f->eax = (f->eax & ~mask) | (port_in(port) & mask), f->eip += n; return;
    case 0xe6:
    case 0xe7:
    case 0xee:
    case 0xef: f->eip += n, port_out(port, f->eax & mask); return;
    case 0xf4:
        report->hlt++;
        f->eip += 1;
        while (!state.pending) asm volatile("sti; hlt; cli" ::: "memory");
        return;
    default: fail(f);
    }
}

void monitor_trap(struct frame *f)
{
    if (f->vector == TIMER) {
        outb(0x20, 0x20);
        report->ticks++;
        state.pending = 1;
        asm volatile("" ::: "memory");
    } else if (f->vector == 13 && f->error == 0 && f->eflags & FLAG_VM) {
        emulate(f);
    } else {
        fail(f);
    }
    if (f->eflags & FLAG_VM) bring_tick(f);
}

static void gate(unsigned vector, uint32_t to)
{
    uint32_t *g = (uint32_t *)(DOS_IDT + 8 * vector);
    g[0] = 0x180000 | (to & 0xffff);
    g[1] = (to & 0xffff0000) | 0x8e00;
}

struct __attribute__((packed)) table {
    uint16_t limit;
    uint32_t base;
};
extern struct table saved_gdt;

const uint32_t *monitor_prepare(void)
{
    static uint32_t enter[9] __attribute__((section(".data"))) = {
        0x100, 0x1000, FLAG_VM | FLAG_IF | 2, 0xfffe, 0x1000, 0x1000, 0x1000, 0, 0};
    /* The GDT may lie where the program's 64 KiB above 1 MiB are. */
    struct table idt = {0x30 * 8 - 1, DOS_IDT}, gdt = {saved_gdt.limit, DOS_GDT};
    for (unsigned i = 0; i <= gdt.limit; i++) ((uint8_t *)DOS_GDT)[i] = ((const uint8_t *)saved_gdt.base)[i];
    uint32_t *tr = (uint32_t *)(DOS_GDT + 0x58);
    tr[0] = (DOS_TSS & 0xffffu) << 16 | (DOS_TSS_SIZE - 1), tr[1] = 0x8900 | DOS_TSS >> 16;
    for (unsigned i = 0; i < 0x30; i++) gate(i, (uint32_t)monitor_stubs + 16 * i);
    uint8_t *tss = (uint8_t *)DOS_TSS;
    for (unsigned i = 0; i < DOS_TSS_SIZE; i++)
        tss[i] = i < 0x88 ? 0 : 0xff; /* the program's interrupts are its own */
    *(uint32_t *)(tss + 4) = DOS_STACK, *(uint16_t *)(tss + 8) = 0x10;
    *(uint16_t *)(tss + 0x66) = 0x88;
    tss[0x68 + DOS_VECTOR / 8] |= 1 << DOS_VECTOR % 8;
    tss[0x88 + 0x40 / 8] &= ~(1 << 0x40 % 8 | 1 << 0x43 % 8);

    uint32_t *pd = (uint32_t *)DOS_PD, *pt = (uint32_t *)DOS_PT;
    for (unsigned i = 0; i < 1024; i++) pd[i] = 0, pt[i] = 0;
    pd[0] = DOS_PT | 7;
    for (unsigned i = 0; i < 0x100; i++) pt[i] = i << 12 | (i < DOS_MONITOR >> 12 || i >= 0x40 ? 7 : 3);
    for (unsigned i = 0x100; i < 0x110; i++) pt[i] = (i - 0x100) << 12 | 7;
    pt[0xb8] = DOS_SCREEN | 7;
    uint32_t cr4, cr0;
    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    asm volatile("mov %0, %%cr4" ::"r"((cr4 & ~0xa3u) | (report->vme ? 1 : 0))); /* no PAE, PGE, PVI; VME */
    asm volatile("mov %0, %%cr3" ::"r"(DOS_PD));
    asm volatile("mov %%cr0, %0" : "=r"(cr0));
    asm volatile("mov %0, %%cr0" ::"r"(cr0 | 0x80000000));
    asm volatile("lgdt %0; lidt %1; ltr %w2" ::"m"(gdt), "m"(idt), "r"(0x58));

    outb(0x20, 0x11), outb(0x21, TIMER), outb(0x21, 4), outb(0x21, 1), outb(0x21, 0xfe); /* IRQ 0 alone */
    outb(0xa1, 0xff);
    outb(0x43, 0x34), outb(0x40, 1193 & 0xff), outb(0x40, 1193 >> 8); /* 1 kHz */
    state.virtual_if = 0, state.pending = state.in_service = state.mask = 0;
    enter[2] = FLAG_VM | FLAG_IF | 2;
    return enter;
}

/* The IDT, the TSS and the dispatch behind trap_catch. See trap.h. */
#include "trap.h"

extern const char trap_vectors[];
uint64_t trap_run(uint64_t *saved_rsp, const void *code, uint64_t a, uint64_t b, uint64_t c);
_Noreturn void trap_abandon(uint64_t saved_rsp);
_Noreturn void trap_iret(uint64_t rip, uint64_t cs, uint64_t rsp, uint64_t ss, uint64_t rflags, uint64_t a,
                         uint64_t b);
void trap_dispatch(struct trap_frame *f);

struct tss rt_tss;
struct idt_gate rt_idt[256] __attribute__((aligned(16)));

/* Catches nest: the innermost is here. */
struct catch
{
    uint64_t saved_rsp;
    struct trap *trap;
    struct catch *outer;
};

static struct catch *innermost;
static trap_handler *handlers[256];
static uint8_t stacks[4][8192] __attribute__((aligned(16)));

static void set_gate(unsigned vector, unsigned ist, unsigned dpl)
{
    uint64_t at = (uint64_t)trap_vectors + 16 * vector;
    rt_idt[vector] = (struct idt_gate){.offset0 = (uint16_t)at,
                                       .selector = SEL_CODE64,
                                       .ist = (uint8_t)ist,
                                       .attributes = (uint8_t)(0x8e | dpl << 5), /* present, interrupt gate */
                                       .offset1 = (uint16_t)(at >> 16),
                                       .offset2 = (uint32_t)(at >> 32)};
}

void trap_init(void)
{
    memset(&rt_tss, 0, offsetof(struct tss, iomap));
    memset(rt_tss.iomap, 0xff, sizeof(rt_tss.iomap));
    rt_tss.iomap_base = offsetof(struct tss, iomap);
    rt_tss.ist[0] = (uint64_t)(stacks[0] + sizeof(stacks[0]));
    rt_tss.ist[1] = (uint64_t)(stacks[1] + sizeof(stacks[1]));
    rt_tss.ist[2] = (uint64_t)(stacks[2] + sizeof(stacks[2]));
    rt_tss.rsp[0] = (uint64_t)(stacks[3] + sizeof(stacks[3]));

    uint64_t base = (uint64_t)&rt_tss, limit = sizeof(rt_tss) - 1;
    rt_gdt[SEL_TSS / 8] =
        (limit & 0xffff) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
    rt_gdt[SEL_TSS / 8 + 1] = base >> 32;
    asm volatile("ltr %w0; lldt %w1" ::"r"(SEL_TSS), "r"(0)); /* after RESET the LDTR is usable */

    for (unsigned v = 0; v < 256; v++) {
        unsigned ist = v == VECTOR_DF ? 2 : v == VECTOR_NMI ? 3 : v < 32 ? 1 : 0;
        set_gate(v, ist, v == VECTOR_BP || v == VECTOR_OF || v == TRAP_DONE ? 3 : 0);
    }
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = {sizeof(rt_idt) - 1, (uint64_t)rt_idt};
    asm volatile("lidt %0" ::"m"(idtr));
}

void trap_on(unsigned vector, trap_handler *handler) { handlers[vector] = handler; }

static _Noreturn void unexpected(const struct trap_frame *f)
{
    print("# rax %p rcx %p rdx %p rbx %p\n", (void *)f->rax, (void *)f->rcx, (void *)f->rdx, (void *)f->rbx);
    print("# rsp %p rbp %p rsi %p rdi %p\n", (void *)f->rsp, (void *)f->rbp, (void *)f->rsi, (void *)f->rdi);
    print("# rip %p cs %lx ss %lx rflags %lx cr2 %lx\n", (void *)f->rip, f->cs, f->ss, f->rflags, read_cr2());
    panic("unexpected vector %lu, error code %lx", f->vector, f->error);
}

void trap_dispatch(struct trap_frame *f)
{
    if (handlers[f->vector] && handlers[f->vector](f)) return;
    struct catch *c = innermost;
    if (!c) unexpected(f);
    *c->trap = (struct trap){.vector = (unsigned)f->vector,
                             .error = f->error,
                             .cr2 = read_cr2(),
                             .dr6 = read_dr6(),
                             .rip = f->rip,
                             .cs = f->cs,
                             .rflags = f->rflags,
                             .rsp = f->rsp,
                             .ss = f->ss,
                             .rax = f->rax,
                             .rcx = f->rcx,
                             .rdx = f->rdx,
                             .rbx = f->rbx};
    trap_abandon(c->saved_rsp);
}

struct trap trap_catch3(const void *code, uint64_t a, uint64_t b, uint64_t c)
{
    struct trap t = {.vector = TRAP_NONE};
    struct catch here = {.trap = &t, .outer = innermost};
    innermost = &here;
    uint64_t result = trap_run(&here.saved_rsp, code, a, b, c);
    innermost = here.outer;
    if (*(volatile unsigned *)&t.vector == TRAP_NONE) t.rax = result;
    return t;
}

struct user_start {
    uint64_t rip, cs, rsp, ss, rflags, a, b;
};

static void go_user(const struct user_start *u)
{
    trap_iret(u->rip, u->cs, u->rsp, u->ss, u->rflags, u->a, u->b);
}

struct trap trap_user(uint64_t rip, uint16_t cs, uint64_t rsp, uint16_t ss, uint64_t rflags, uint64_t a,
                      uint64_t b)
{
    struct user_start u = {rip, cs, rsp, ss, rflags, a, b};
    return trap_catch(go_user, &u, 0);
}

/*
 * The V86 monitor of program 9, in 32-bit protected mode: what faults in virtual-8086 mode (#GP) it does by
 * hand. Linked at 20000h: it begins at +0 (EAX = the flags of CR4 to add), #GP's handler is at +16.
 */
#include <stdint.h>

struct seen { /* at 7000h */
    uint32_t exits, cli, sti, pushf, popf, int_n, iret, hlt, other;
};
#define SEEN ((volatile struct seen *)0x7000)

/* What the stack holds at #GP: PUSHA, the error code, and the frame of virtual-8086 mode. */
struct frame {
    uint32_t edi, esi, ebp, esp0, ebx, edx, ecx, eax, error, eip, cs, eflags, esp, ss;
};
#define IF 0x200u

int v86_fault(struct frame *f);

/* To virtual-8086 mode by IRET; back when v86_fault says so. ECX, the program's, is at 7040h, its ring 0
 * stack 6C00h. */
asm(".pushsection .text; .globl _start; _start: jmp v86_begin; .balign 16; jmp v86_gp;"
    "v86_begin: pusha; mov %esp, 0x7044; mov %cr4, %edx; mov %edx, 0x7048; or %edx, %eax; mov %eax, %cr4;"
    "mov $0x58, %eax; ltr %ax; mov 0x7040, %ecx;"
    "push $0; push $0; push $0xb00; push $0; push $0xb00; push $0x100; push $0x20002; push $0xa00; push $0; "
    "iret;"
    "v86_gp: pusha; mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; push %esp; call v86_fault; add $4, %esp;"
    "test %eax, %eax; jnz 1f; popa; add $4, %esp; iret;"
    "1: mov 0x7048, %eax; mov %eax, %cr4; mov 0x7044, %esp; popa; ret; .popsection");

static uint32_t virtual_if;
static uint16_t *stack(struct frame *f) { return (uint16_t *)((f->ss << 4) + (f->esp & 0xffff)); }
static void push(struct frame *f, uint32_t v)
{
    f->esp = (f->esp - 2) & 0xffff;
    *stack(f) = (uint16_t)v;
}
static uint16_t pop(struct frame *f)
{
    uint16_t v = *stack(f);
    f->esp = (f->esp + 2) & 0xffff;
    return v;
}
static uint32_t flags_seen(const struct frame *f) { return (f->eflags & ~IF) | virtual_if; }
static void load_flags(struct frame *f, uint16_t v)
{
    virtual_if = v & IF;
    f->eflags = (f->eflags & ~0xcd5u) | (v & 0xcd5); /* the status flags and DF */
}

/* 1: the program ends. */
int v86_fault(struct frame *f)
{
    const uint8_t *at = (const uint8_t *)((f->cs << 4) + f->eip);
    SEEN->exits++;
    switch (at[0]) {
    case 0xfa: SEEN->cli++, virtual_if = 0, f->eip++; return 0;
    case 0xfb: SEEN->sti++, virtual_if = IF, f->eip++; return 0;
    case 0x9c: SEEN->pushf++, push(f, flags_seen(f)), f->eip++; return 0;
    case 0x9d: SEEN->popf++, load_flags(f, pop(f)), f->eip++; return 0;
    case 0xcd: { /* through the program's own vector table, as in real mode */
        const uint16_t *vector = (const uint16_t *)(4u * at[1]);
        SEEN->int_n++;
        push(f, flags_seen(f));
        push(f, f->cs);
        push(f, f->eip + 2);
        virtual_if = 0;
        f->eip = vector[0];
        f->cs = vector[1];
        return 0;
    }
    case 0xcf:
        SEEN->iret++;
        f->eip = pop(f);
        f->cs = pop(f);
        load_flags(f, pop(f));
        return 0;
    case 0xf4: SEEN->hlt++; return 1;
    default: SEEN->other++; return 1;
    }
}

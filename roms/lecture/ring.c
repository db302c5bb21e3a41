/*
 * The monitor of the time before VT-x, for a guest in ring 3: trap and emulate.
 *
 * The guest's kernel was written for ring 0. Here it runs in ring 3 with its applications; what is privileged
 * faults (#GP), and ring_emulate does it to ring_vcpu, the processor that the guest believes it has. What is
 * sensitive and does not fault, nobody sees: that is half of the lecture.
 *
 * Missing: everything that the lecture's guests do not use; page tables of the guest's own.
 */
#include "lecture.h"

struct ring_vcpu ring_vcpu;
bool (*ring_hook)(struct trap_frame *f);
static uint64_t exits, ended_at;
static bool finished;

uint64_t *ring_register(struct trap_frame *f, unsigned number)
{
    static const uint8_t at[16] = {14, 13, 12, 11, 0, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
    return number == RSP ? &f->rsp : &f->r15 + at[number];
}

static uint64_t *virtual_cr(unsigned n)
{
    static uint64_t other;
    struct ring_vcpu *v = &ring_vcpu;
    return n == 0 ? &v->cr0 : n == 3 ? &v->cr3 : n == 4 ? &v->cr4 : n == 8 ? &v->cr8 : &other;
}

static uint64_t *virtual_msr(uint32_t msr)
{
    static uint64_t other;
    struct ring_vcpu *v = &ring_vcpu;
    if (msr == IA32_SYSENTER_CS) return &v->sysenter_cs;
    if (msr == IA32_SYSENTER_ESP) return &v->sysenter_esp;
    return msr == IA32_SYSENTER_EIP ? &v->sysenter_eip : &other;
}

/* What the processor does for an interrupt, done by hand: a frame on the guest's stack, and its handler. */
static void deliver(struct trap_frame *f, unsigned vector)
{
    const struct idt_gate *gate = (const struct idt_gate *)ring_vcpu.idt + vector;
    uint64_t *stack = (uint64_t *)((f->rsp & ~15ul) - 40);
    stack[0] = f->rip;
    stack[1] = f->cs;
    stack[2] = f->rflags | RFLAGS_IF; /* the guest's IF, which was 1, or we would not be here */
    stack[3] = f->rsp;
    stack[4] = f->ss;
    f->rsp = (uint64_t)stack;
    f->rip = gate->offset0 | (uint64_t)gate->offset1 << 16 | (uint64_t)gate->offset2 << 32;
    ring_vcpu.interrupts = false;
    ring_vcpu.pending = 0;
}

void ring_interrupt(struct trap_frame *f, unsigned vector)
{
    exits++;
    count("external interrupt");
    ring_vcpu.pending = vector;
    if (ring_vcpu.interrupts) deliver(f, vector);
}

/* Does the instruction that faulted, if it is one that we know, and steps over it. */
static bool ring_emulate(struct trap_frame *f)
{
    struct ring_vcpu *v = &ring_vcpu;
    const uint8_t *at = (const uint8_t *)f->rip;
    uint8_t rex = (*at & 0xf0) == 0x40 ? *at++ : 0;
    uint8_t modrm = at[2];
    unsigned length = 1;
    switch (at[0]) {
    case 0xfa: count("CLI"), v->interrupts = false; break;
    case 0xfb: count("STI"), v->interrupts = true; break;
    case 0xf4: count("HLT"); break;
    case 0xe6: count("OUT"), length = 2; break;
    case 0xee: count("OUT"); break;
    case 0x0f:
        length = 2;
        if (at[1] == 0x30) {
            count("WRMSR"), *virtual_msr((uint32_t)f->rcx) = f->rdx << 32 | (uint32_t)f->rax;
        } else if (at[1] == 0x32) {
            uint64_t value = *virtual_msr((uint32_t)f->rcx);
            count("RDMSR"), f->rax = (uint32_t)value, f->rdx = value >> 32;
        } else if (at[1] == 0x35) { /* to the application, at RDX with the stack RCX */
            count("SYSEXIT"), v->application = true, f->rip = f->rdx, f->rsp = f->rcx;
            return true;
        } else if (at[1] == 0x20 || at[1] == 0x22) {
            uint64_t *gpr = ring_register(f, (modrm & 7) | (rex & 1) << 3);
            uint64_t *cr = virtual_cr((modrm >> 3 & 7) | (rex & 4) << 1);
            if (at[1] == 0x22)
                count("MOV to CR"), *cr = *gpr;
            else
                count("MOV from CR"), *gpr = *cr;
            length = 3;
        } else if (at[1] == 1 && modrm == 0x1c && at[3] == 0x25) { /* LIDT [address] */
            uint32_t operand;
            memcpy(&operand, at + 4, 4);
            memcpy(&v->idt, (const uint8_t *)(uint64_t)operand + 2, 8);
            count("LIDT"), length = 8;
        } else if (at[1] == 1 && (modrm & 0xf8) == 0x38) { /* INVLPG: we have nothing to forget */
            count("INVLPG"), length = 3;
        } else {
            return false;
        }
        break;
    default: return false;
    }
    f->rip = (uint64_t)at + length;
    if (v->interrupts && v->pending) deliver(f, v->pending);
    return true;
}

/* Every fault of the guest comes here, in ring 0. */
static bool ring_trap(struct trap_frame *f)
{
    if ((f->cs & 3) == 0) return false; /* ours: a bug, or something tried on purpose */
    exits++;
    const uint8_t *at = (const uint8_t *)f->rip;
    bool vmcall =
        (f->vector == VECTOR_UD || f->vector == VECTOR_GP) && at[0] == 0x0f && at[1] == 0x01 && at[2] == 0xc1;
    if (vmcall && (uint32_t)f->rax == 0) {
        ended_at = rdtsc();
        exits--;
        finished = true;
        return false;
    }
    if (ring_hook && ring_hook(f)) return true;
    return f->vector == VECTOR_GP && !ring_vcpu.application && ring_emulate(f);
}

/* SYSENTER knows one ring 0: ours. It saves nothing; by convention RDX and RCX say where to go back. */
asm(".pushsection .text; ring_sysenter: push $0x3b; push %rcx; pushfq; push $0x43; push %rdx; push $0; push "
    "$0x100;"
    "push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi; push %r8; push %r9; push "
    "%r10;"
    "push %r11; push %r12; push %r13; push %r14; push %r15; mov %rsp, %rdi; call ring_on_sysenter;"
    "pop %r15; pop %r14; pop %r13; pop %r12; pop %r11; pop %r10; pop %r9; pop %r8; pop %rdi; pop %rsi; pop "
    "%rbp;"
    "pop %rbx; pop %rdx; pop %rcx; pop %rax; add $16, %rsp; iretq; .popsection");
extern const char ring_sysenter[];
void ring_on_sysenter(struct trap_frame *f);

/* The guest's kernel gets it from us, in ring 3. */
void ring_on_sysenter(struct trap_frame *f)
{
    exits++;
    count("SYSENTER");
    ring_vcpu.application = ring_vcpu.interrupts = false;
    f->rip = ring_vcpu.sysenter_eip;
    f->rsp = ring_vcpu.sysenter_esp;
    f->rflags |= RFLAGS_IF;
}

struct outcome ring_run(uint64_t a, uint64_t b)
{
    static uint8_t *stack;
    if (!stack) stack = page_alloc(2);
    for (unsigned v = 0; v < 32; v++) trap_on(v, ring_trap);
    wrmsr(IA32_SYSENTER_CS, SEL_CODE64);
    wrmsr(IA32_SYSENTER_ESP, (uint64_t)stack + 8192);
    wrmsr(IA32_SYSENTER_EIP, (uint64_t)ring_sysenter);
    ring_vcpu = (struct ring_vcpu){.cr0 = CR0_PE | CR0_PG};
    exits = 0;
    finished = false;
    uint64_t begun = rdtsc();
    struct trap t =
        trap_user(GUEST_CODE, SEL_USER_CODE64, GUEST_STACK, SEL_USER_DATA, RFLAGS_FIXED | RFLAGS_IF, a, b);
    for (unsigned v = 0; v < 32; v++) trap_on(v, NULL);
    if (!finished) ended_at = rdtsc();
    return (struct outcome){
        .finished = finished, .vector = t.vector, .rip = t.rip, .exits = exits, .ticks = ended_at - begun};
}

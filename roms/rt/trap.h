/*
 * Exceptions and interrupts. A fault is a value: trap_catch runs a piece of code and says what stopped it.
 *
 *     struct trap t = trap_catch(divide, 1, 0);
 *     is(t.vector, 0, ...); is(t.rip, (uint64_t)divide_at, ...);
 *
 * Exceptions run on their own stack (IST 1, #DF on IST 2, NMI on IST 3), so a broken RSP is no trouble;
 * interrupts run on the interrupted stack. An exception outside trap_catch and without a handler ends the
 * image.
 */
#ifndef RT_TRAP_H
#define RT_TRAP_H

#include "rt.h"

#define TRAP_NONE  0x1000 /* nothing happened: the code returned */
#define TRAP_DONE  0x81   /* the vector by which user-mode code says that it is done */

#define VECTOR_DE  0
#define VECTOR_DB  1
#define VECTOR_NMI 2
#define VECTOR_BP  3
#define VECTOR_OF  4
#define VECTOR_BR  5
#define VECTOR_UD  6
#define VECTOR_NM  7
#define VECTOR_DF  8
#define VECTOR_TS  10
#define VECTOR_NP  11
#define VECTOR_SS  12
#define VECTOR_GP  13
#define VECTOR_PF  14
#define VECTOR_MF  16
#define VECTOR_AC  17
#define VECTOR_MC  18
#define VECTOR_XM  19

/* What trap_entry pushes, lowest address first. */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

struct trap {
    unsigned vector; /* or TRAP_NONE */
    uint64_t error, cr2, dr6;
    uint64_t rip, cs, rflags, rsp, ss;
    uint64_t rax, rcx, rdx, rbx; /* as they were when it stopped; rax is the result if it returned */
};

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap_base;
    uint8_t iomap[8192 + 1]; /* all ports but what a test opens: bit set = refused */
} __attribute__((packed));

struct idt_gate {
    uint16_t offset0, selector;
    uint8_t ist, attributes;
    uint16_t offset1;
    uint32_t offset2, reserved;
};

extern struct tss rt_tss;
extern struct idt_gate rt_idt[256];

void trap_init(void);

/* Calls `code` (any symbol that can be called with up to three integer arguments) and says how it ended. */
struct trap trap_catch3(const void *code, uint64_t a, uint64_t b, uint64_t c);
#define trap_catch(code, a, b) trap_catch3((const void *)(code), (uint64_t)(a), (uint64_t)(b), 0)

/* Continues at rip with these selectors and flags (RDI = a, RSI = b); always ends in a trap; TRAP_DONE by INT
 * 81h. */
struct trap trap_user(uint64_t rip, uint16_t cs, uint64_t rsp, uint16_t ss, uint64_t rflags, uint64_t a,
                      uint64_t b);

/* A handler for a vector, tried before trap_catch: it returns true if it dealt with the event (and may have
   changed the frame). NULL takes it away. */
typedef bool trap_handler(struct trap_frame *f);
void trap_on(unsigned vector, trap_handler *handler);

/* A code snippet with a name, callable: PROBE(divide, "divide_at: div %esi"). */
#define PROBE(name, code) \
    asm(".pushsection .text; .globl " #name "; .balign 16; " #name ": " code "; ret; .popsection"); \
    extern const char name[]
/* A label inside it. */
#define LABEL(name) extern const char name[]

#endif

/*
 * Other modes as a function call: copies a snippet below 64 KiB, leaves 64-bit mode for the mode wanted,
 * calls the snippet there, and comes back with its EAX.
 *
 * In every mode the code runs at LOW_SNIPPET with flat segments of base 0 (64 KiB limits in the 16-bit
 * modes), a stack below LOW_STACK, and interrupts off. Real mode takes its vectors from the IVT at 0, legacy
 * protected mode from an IDT of 32-bit interrupt gates at LOW_IDT (low_gate); compatibility mode uses the
 * runtime's own IDT, so trap_catch works.
 */
#ifndef TESTS_LOW_H
#define TESTS_LOW_H

#include "trap.h"

#define LOW_IDT     0x5000 /* 32 gates */
#define LOW_DATA    0x7000 /* for the snippets' results */
#define LOW_STACK   0x6ff0
#define LOW_RUNNER  0x8000
#define LOW_SNIPPET 0x9000 /* at most 4 KiB */

enum low_mode { LOW_REAL, LOW_PROTECTED16, LOW_PROTECTED32, LOW_COMPAT16, LOW_COMPAT32 };

/* A snippet in 16- or 32-bit code, with its extent. Its labels are relative: LOW_ADDRESS gives where one
 * runs. */
#define LOW_CODE(name, bits, code) \
    asm(".pushsection .text; .balign 16; " #name ": .code" #bits "; " code "; ret; .code64; " #name \
        "_end: .popsection"); \
    extern const uint8_t name[], name##_end[]
#define LOW_ADDRESS(snippet, label) (LOW_SNIPPET + (uint32_t)((label) - (snippet)))

uint32_t low_run(enum low_mode mode, const uint8_t *begin, const uint8_t *end);
#define LOW_RUN(mode, name) low_run(mode, name, name##_end)

/* Sets a gate of the protected-mode IDT: offset, and type 0xe (32-bit interrupt gate) or 0xf (trap gate). */
void low_gate(unsigned vector, uint32_t offset, unsigned type);
/* Sets a vector of the real-mode IVT. */
void low_vector(unsigned vector, uint16_t segment, uint16_t offset);

static inline volatile uint32_t *low_data(void) { return (volatile uint32_t *)LOW_DATA; }

#endif

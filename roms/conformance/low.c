/* Other modes as a function call. See low.h. */
#include "low.h"

extern const uint8_t low_begin[], low_end[];

uint32_t low_run(enum low_mode mode, const uint8_t *begin, const uint8_t *end)
{
    memcpy((void *)LOW_RUNNER, low_begin, (size_t)(low_end - low_begin));
    memcpy((void *)LOW_SNIPPET, begin, (size_t)(end - begin));
    uint32_t (*run)(uint32_t) = (uint32_t(*)(uint32_t))LOW_RUNNER;
    return run(mode);
}

void low_gate(unsigned vector, uint32_t offset, unsigned type)
{
    volatile uint16_t *gate = (volatile uint16_t *)(uintptr_t)(LOW_IDT + 8 * vector);
    gate[0] = (uint16_t)offset;
    gate[1] = SEL_CODE32;
    gate[2] = (uint16_t)(0x8000 | type << 8);
    gate[3] = (uint16_t)(offset >> 16);
}

void low_vector(unsigned vector, uint16_t segment, uint16_t offset)
{
    /* The address is computed so that the compiler does not take a store to page 0 for a mistake. */
    volatile uint16_t *entry = (volatile uint16_t *)((uint64_t)rt_pml4 - (uint64_t)rt_pml4 + 4 * vector);
    asm("" : "+r"(entry));
    entry[0] = offset;
    entry[1] = segment;
}

/* The event that a case injects, fit for the guest's mode and state for the most part; and the registers. */
#include "fuzz.h"

static bool has_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

void events_choose(void)
{
    static const uint8_t types[] = {0, 0, 2, 3, 3, 3, 3, 4, 4, 5, 6, 6, 7};
    static const uint8_t exceptions[] = {0, 1, 5, 6, 7, 8, 10, 11, 12, 13, 14, 14, 16, 17, 18, 19};
    static const uint8_t interrupts[] = {0x20, 0x21, 0x80, 0x90, 0x91, 0x92, 0xff, 0x30, 3, 13};
    bool yes = odds(4);
    unsigned type = PICK(types), exception = PICK(exceptions), interrupt = PICK(interrupts),
             other = odds(2) ? 3 : 4;
    unsigned vector = type == 2   ? 2
                      : type == 3 ? exception
                      : type == 5 ? 1
                      : type == 6 ? other
                      : type == 7 ? 0
                                  : interrupt;
    static const uint32_t codes[] = {0, 0, 1, 2, 4, 0x10, 0x48, 0x7fff, 0xffff};
    uint32_t event = EVENT_VALID | EVENT_TYPE(type) | vector, code = PICK(codes), length = 1 + below(3);
    if (type == 3 && has_error_code(vector) && kase.mode != REAL) event |= EVENT_ERROR_CODE;
    kase.f[F_VM_ENTRY_INSTRUCTION_LENGTH] = length;
    kase.f[F_INJECTED_EVENT_ERROR_CODE] = code;
    if (yes && step("INJECTED_EVENT_IDENTIFICATION", " ", event)) {
        kase.f[F_INJECTED_EVENT_IDENTIFICATION] = event;
        /* External interrupts want IF=1 and no blocking, NMIs no blocking. */
        if (type == 0) kase.f[F_GUEST_RFLAGS] |= RFLAGS_IF;
        if (type == 0) kase.f[F_GUEST_INTERRUPTIBILITY_STATE] &= 8;
        if (type == 2) kase.f[F_GUEST_INTERRUPTIBILITY_STATE] = 0;
    }
    bool pending = odds(12);
    if (pending && step("interrupt ", "pending", 0)) kase.interrupts[0] = INTERRUPT;

    static const uint64_t numbers[] = {0, 1, 2, 3, 0x10, 0x80000000, 0xffffffff, ~0ul, 0x123456789abcdef0,
                                       4, 8};
    for (unsigned i = 0; i < 16; i++) kase.regs.gpr[i] = PICK(numbers);
    static const uint64_t pointers[] = {
        A_DATA,     A_DATA + 8,     A_DATA + 0xffd, A_STACK, A_CODE + 0x800, A_NOTHING,        A_GDT,
        A_DATA + 1, A_DATA,         A_DATA,         0xffff,  0xffff0000,     A_LARGE + A_DATA, A_APIC + 0x80,
        A_DATA,     0x800000000000, 0x20000,        A_APIC};
    kase.regs.gpr[RBX] = PICK(pointers);
    kase.regs.gpr[RSI] = PICK(pointers);
    kase.regs.gpr[RDI] = PICK(pointers);
    kase.regs.gpr[RBP] = A_DATA + 16;
    kase.cr2 = PICK(numbers);
    kase.dr6 = 0xffff0ff0;
}

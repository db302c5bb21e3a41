/*
 * The checks of VM entry on the event that is to be injected (SDM 29.2.1.3), a row a rule; see
 * vmx-entry-controls.c.
 *
 * Bochs 2.7 has no check for CTL-INJ-002 and CTL-INJ-005.
 *
 * Missing: FRED (CTL-INJ-006, -018, -019).
 */
#include "vmx-entry.h"

// clang-format off
static const struct row rows[] = {
    {"CTL-INJ-001", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_TYPE(1) | 1}}},
    {"CTL-INJ-003", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_NMI | 3}}},
    {"CTL-INJ-004", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 32}}},
    {"CTL-INJ-005", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_OTHER | 1}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 1}}},
    {"CTL-INJ-007: vector 8", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 8}}},
    {"CTL-INJ-007: vector 10", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 10}}},
    {"CTL-INJ-007: vector 11", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 11}}},
    {"CTL-INJ-007: vector 12", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 12}}},
    {"CTL-INJ-007: vector 13", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 13}}},
    {"CTL-INJ-007: vector 14", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 14}}},
    {"CTL-INJ-007: vector 17", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 17}}},
    {"CTL-INJ-008: external interrupt", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | EVENT_ERROR_CODE | 13}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"CTL-INJ-008: NMI", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_NMI | EVENT_ERROR_CODE | 2}}},
    {"CTL-INJ-008: software interrupt", with_length, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | EVENT_ERROR_CODE | 13}}},
    {"CTL-INJ-009", real_mode, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 13}}},
    {"CTL-INJ-009 holds: an exception without error code in real mode", real_mode, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 13}}},
    {"CTL-INJ-010: vector 0", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 0}}},
    {"CTL-INJ-010: vector 1", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 1}}},
    {"CTL-INJ-010: vector 6", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 6}}},
    {"CTL-INJ-010: vector 7", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 7}}},
    {"CTL-INJ-010: vector 9", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 9}}},
    {"CTL-INJ-010: vector 16", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 16}}},
    {"CTL-INJ-010: vector 18", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 18}}},
    {"CTL-INJ-010: vector 19", strict_error_codes, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 19}}},
    {"CTL-INJ-013: bit 14", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1u << 14 | 6}}},
    {"CTL-INJ-013: bit 20", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1u << 20 | 6}}},
    {"CTL-INJ-013: bit 30", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1u << 30 | 6}}},
    {"CTL-INJ-014", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1u << 12 | 6}}},
    {"CTL-INJ-015", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 13}, {SET, INJECTED_EVENT_ERROR_CODE, 0x10000}}},
    {"CTL-INJ-016: software interrupt", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x80}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 16}}},
    {"CTL-INJ-017: software interrupt", strict_lengths, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x80}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 0}}},
    {"CTL-INJ-016: privileged software exception", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_PRIVILEGED_SOFTWARE_EXCEPTION | 1}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 16}}},
    {"CTL-INJ-017: privileged software exception", strict_lengths, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_PRIVILEGED_SOFTWARE_EXCEPTION | 1}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 0}}},
    {"CTL-INJ-016: software exception", plain, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | 3}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 16}}},
    {"CTL-INJ-017: software exception", strict_lengths, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | 3}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 0}}},
    {"CTL-INJ-001 holds: an invalid event does not count", plain, PASS, {{SET, INJECT, 0x7fffffff}}},
    {"CTL-INJ-001 holds: nothing is injected", plain, PASS, {{SET, INJECT, 0}}},
    {"CTL-INJ-002", no_mtf, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_OTHER | 0}}},
    {"CTL-INJ-003 holds: an NMI of vector 2", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_NMI | 2}}},
    {"CTL-INJ-004 holds: a hardware exception of vector 31", plain, PASS, {{SET, EXCEPTION_BITMAP, 0}, {SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 31}}},
    {"CTL-INJ-008 holds: an external interrupt of vector 13 without error code", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 13}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"CTL-INJ-010 holds: #GP with an error code", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 13}, {SET, INJECTED_EVENT_ERROR_CODE, 0}}},
    {"CTL-INJ-011: an external interrupt, with -012", no_nested_exceptions, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 1u << 13 | 0x40}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"CTL-INJ-011: an NMI, with -012", no_nested_exceptions, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_NMI | 1u << 13 | 2}}},
    {"CTL-INJ-012", no_nested_exceptions, FAIL(7), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1u << 13 | 6}}},
    {"CTL-INJ-015 holds: an error code of FFFFH", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 13}, {SET, INJECTED_EVENT_ERROR_CODE, 0xffff}}},
    {"CTL-INJ-016 holds: a length of 15", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x80}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 15}}},
    {"CTL-INJ-016 holds: lengths do not count for hardware exceptions", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 16}}},
};
// clang-format on

int rom_main(void)
{
    if (!vmx_test_begin("the checks of VM entry on event injection")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    entry_begin();
    ENTRY_ROWS(rows);
    return tap_end();
}

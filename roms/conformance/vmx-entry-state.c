/*
 * The checks of VM entry on guest non-register state (SDM 29.3.1.5), a row a rule; see vmx-entry-controls.c.
 *
 * Bochs 2.7 has no check for GUEST-NONREG-004, -005 (any type with vector 18), -018, -021 (the upper half),
 * -024 and -025, and reports qualification 0 for -014 (3 is what the manual gives, 29.8).
 *
 * Missing: SMM (-007, -008, -017, -033), SGX (-019), RTM (-026, -027).
 */
#include "vmx-entry.h"

// clang-format off
static const struct row rows[] = {
    {"a VMCS with halted passes", halted, PASS, {}},
    {"a VMCS with shut down passes", shut_down, PASS, {}},
    {"a VMCS with link pointer passes", link_pointer, PASS, {}},
    {"a VMCS with link shadow passes", link_shadow, PASS, {}},
    {"GUEST-NONREG-001", plain, EXIT33(0), {{SET, GUEST_ACTIVITY_STATE, 4}}},
    {"GUEST-NONREG-002", halted, EXIT33(0), {{SET, GUEST_SS_ACCESS_RIGHTS, 0xc0f3}, {SET, GUEST_SS_SELECTOR, 0x13}, {SET, GUEST_CS_ACCESS_RIGHTS, 0xa0fb}}},
    {"GUEST-NONREG-003", idle, EXIT33(0), {{SET, GUEST_ACTIVITY_STATE, ACTIVITY_HLT}, {SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}}},
    {"GUEST-NONREG-004: #UD", halted, EXIT33(0), {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6}}},
    {"GUEST-NONREG-004: software interrupt", halted, EXIT33(0), {{SET, INJECT, EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x80}, {SET, VM_ENTRY_INSTRUCTION_LENGTH, 2}}},
    {"GUEST-NONREG-004 holds: #DB is allowed", halted, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1}}},
    {"GUEST-NONREG-004 holds: #MC is allowed", halted, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 18}}},
    {"GUEST-NONREG-005: external interrupt", shut_down, EXIT33(0), {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-005: external interrupt, vector 18", shut_down, EXIT33(0), {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 18}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-009", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, 1u << 5}}},
    {"GUEST-NONREG-010", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, 3}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-011", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}}},
    {"GUEST-NONREG-012", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}, {SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-013", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-014", plain, EXIT33(3), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}, {SET, INJECT, EVENT_VALID | EVENT_NMI | 2}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-015", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {SET, INJECT, EVENT_VALID | EVENT_NMI | 2}}},
    {"GUEST-NONREG-016", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, 1u << 2}}},
    {"GUEST-NONREG-018", virtual_nmis, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI}, {SET, INJECT, EVENT_VALID | EVENT_NMI | 2}}},
    {"GUEST-NONREG-021: bit 4", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1ul << 4}}},
    {"GUEST-NONREG-021: bit 10", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1ul << 10}}},
    {"GUEST-NONREG-021: bit 13", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1ul << 13}}},
    {"GUEST-NONREG-021: bit 15", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1ul << 15}}},
    {"GUEST-NONREG-021: bit 17", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1ul << 17}}},
    {"GUEST-NONREG-021: bit 63", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1ul << 63}}},
    {"GUEST-NONREG-024", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {OR, GUEST_RFLAGS, RFLAGS_TF}}},
    {"GUEST-NONREG-025", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 14}}},
    {"GUEST-NONREG-028", link_pointer, EXIT33(4), {{OR, VMCS_LINK_POINTER, 8}}},
    {"GUEST-NONREG-029", link_pointer, EXIT33(4), {{BEYOND, VMCS_LINK_POINTER, 0}}},
    {"GUEST-NONREG-030", plain, EXIT33(4), {{SET, VMCS_LINK_POINTER, 0}}},
    {"GUEST-NONREG-001 holds: every activity state but the active one is another row's", plain, PASS, {}},
    {"GUEST-NONREG-003: blocking by STI", idle, EXIT33(0), {{SET, GUEST_ACTIVITY_STATE, ACTIVITY_HLT}, {SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-004 holds: an NMI wakes from HLT", halted, PASS, {{SET, INJECT, EVENT_VALID | EVENT_NMI | 2}}},
    {"GUEST-NONREG-005 holds: #MC leaves shutdown", shut_down, PASS, {{SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 18}}},
    {"GUEST-NONREG-006: an NMI", wait_for_sipi, EXIT33(0), {{SET, GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_FOR_SIPI}, {SET, INJECT, EVENT_VALID | EVENT_NMI | 2}}},
    {"GUEST-NONREG-006: #MC", wait_for_sipi, EXIT33(0), {{SET, GUEST_ACTIVITY_STATE, ACTIVITY_WAIT_FOR_SIPI}, {SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 18}}},
    {"GUEST-NONREG-009: bit 31", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, 1u << 31}}},
    {"GUEST-NONREG-010 holds: STI alone", plain, PASS, {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-010 holds: MOV SS alone", plain, PASS, {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-NONREG-015 holds: an exception under blocking by MOV SS", plain, PASS, {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {SET, INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6}}},
    {"GUEST-NONREG-018 holds: without virtual NMIs", plain, PASS, {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI}, {SET, INJECT, EVENT_VALID | EVENT_NMI | 2}}},
    {"GUEST-NONREG-020", no_sgx, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, 1u << 4}}},
    {"GUEST-NONREG-021: bit 5", plain, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 5}}},
    {"GUEST-NONREG-022", no_bus_lock_detection, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 11}}},
    {"GUEST-NONREG-023", no_rtm, EXIT33(0), {{SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 16}}},
    {"GUEST-NONREG-024: STI and TF without BS", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}, {OR, GUEST_RFLAGS, RFLAGS_TF | RFLAGS_IF}}},
    {"GUEST-NONREG-024: HLT state and TF without BS", halted, EXIT33(0), {{OR, GUEST_RFLAGS, RFLAGS_TF}}},
    {"GUEST-NONREG-025: STI and BS without TF", plain, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_STI}, {OR, GUEST_RFLAGS, RFLAGS_IF}, {SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 14}}},
    {"GUEST-NONREG-025: MOV SS, BS and TF with BTF", entry_debug, EXIT33(0), {{SET, GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS}, {OR, GUEST_RFLAGS, RFLAGS_TF}, {SET, GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 14}, {SET, GUEST_IA32_DEBUGCTL, 2}}},
    {"GUEST-NONREG-031: a shadow VMCS, not shadowing", link_shadow, EXIT33(4), {{CLEAR, PROC2_FIELD, PROC2_VMCS_SHADOWING}}},
};
// clang-format on

/* GUEST-NONREG-032 and both directions of -031, whose values only the running image knows. */
static void links(void)
{
    static struct vmx_vcpu v;
    plain(&v);
    vmwrite(VMCS_LINK_POINTER, v.vmcs);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
                                "GUEST-NONREG-032: the current VMCS");
    is(e.qualification, 4, "  qualification 4");
    link_pointer(&v);
    uint32_t *region = (uint32_t *)vmread(VMCS_LINK_POINTER);
    *region |= 1u << 31;
    e = exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
                "GUEST-NONREG-031: bit 31 without VMCS shadowing");
    is(e.qualification, 4, "  qualification 4");
    *region ^= 1u << 31 | 1;
    e = exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
                "GUEST-NONREG-030: another revision");
    is(e.qualification, 4, "  qualification 4");
    *region ^= 1;
    done(&v, "  the right one passes");
    if (!shadowing(&v)) {
        skip_one("GUEST-NONREG-031: an ordinary VMCS with VMCS shadowing", "no VMCS shadowing");
        return;
    }
    vmwrite(VMCS_LINK_POINTER, (uint64_t)region);
    e = exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
                "GUEST-NONREG-031: an ordinary VMCS with VMCS shadowing");
    is(e.qualification, 4, "  qualification 4");
}

int rom_main(void)
{
    if (!vmx_test_begin("the checks of VM entry on guest non-register state")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    entry_begin();
    ENTRY_ROWS(rows);
    links();
    return tap_end();
}

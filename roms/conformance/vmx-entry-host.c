/*
 * The checks of VM entry on the host-state area and on address-space size (SDM 29.2.2 to 29.2.4), a row a
 * rule; see vmx-entry-controls.c. Error 8 for address-space size is what processors and KVM say; the manual
 * gives no number.
 *
 * Bochs 2.7 has no check for HOST-MSR-003.
 *
 * Missing: CET, FRED; a host outside IA-32e mode (vmx-host32.c).
 */
#include "vmx-entry.h"

// clang-format off
static const struct row rows[] = {
    {"a VMCS with exit efer passes", exit_efer, PASS, {}},
    {"a VMCS with exit pat passes", exit_pat, PASS, {}},
    {"HOST-CR-001: NE", plain, FAIL(8), {{CLEAR, HOST_CR0, CR0_NE}}},
    {"HOST-CR-001: PG", plain, FAIL(8), {{CLEAR, HOST_CR0, CR0_PG}}},
    {"HOST-CR-002", plain, FAIL(8), {{OR, HOST_CR0, 1ul << 32}}},
    {"HOST-CR-003", plain, FAIL(8), {{CLEAR, HOST_CR4, CR4_VMXE}}},
    {"HOST-CR-004", plain, FAIL(8), {{OR, HOST_CR4, 1ul << 31}}},
    {"HOST-CR-006", plain, FAIL(8), {{BEYOND, HOST_CR3, 0}}},
    {"HOST-CR-006: bit 63", plain, FAIL(8), {{OR, HOST_CR3, 1ul << 63}}},
    {"HOST-MSR-001", plain, FAIL(8), {{SET, HOST_IA32_SYSENTER_ESP, NONCANONICAL}}},
    {"HOST-MSR-002", plain, FAIL(8), {{SET, HOST_IA32_SYSENTER_EIP, NONCANONICAL}}},
    {"HOST-MSR-004: type 2", exit_pat, FAIL(8), {{SET, HOST_IA32_PAT, 0x0007040600070402}}},
    {"HOST-MSR-004: type 8 in the last byte", exit_pat, FAIL(8), {{SET, HOST_IA32_PAT, 0x0807040600070406}}},
    {"HOST-MSR-005", exit_efer, FAIL(8), {{OR, HOST_IA32_EFER, 1ul << 1}}},
    {"HOST-MSR-006", exit_efer, FAIL(8), {{CLEAR, HOST_IA32_EFER, EFER_LMA}}},
    {"HOST-MSR-007", exit_efer, FAIL(8), {{CLEAR, HOST_IA32_EFER, EFER_LME}}},
    {"HOST-SEG-001: RPL", plain, FAIL(8), {{OR, HOST_CS_SELECTOR, 3}}},
    {"HOST-SEG-001: TI", plain, FAIL(8), {{OR, HOST_CS_SELECTOR, 4}}},
    {"HOST-SEG-002: RPL", plain, FAIL(8), {{OR, HOST_SS_SELECTOR, 3}}},
    {"HOST-SEG-002: TI", plain, FAIL(8), {{OR, HOST_SS_SELECTOR, 4}}},
    {"HOST-SEG-003: RPL", plain, FAIL(8), {{OR, HOST_DS_SELECTOR, 3}}},
    {"HOST-SEG-003: TI", plain, FAIL(8), {{OR, HOST_DS_SELECTOR, 4}}},
    {"HOST-SEG-004: RPL", plain, FAIL(8), {{OR, HOST_ES_SELECTOR, 3}}},
    {"HOST-SEG-004: TI", plain, FAIL(8), {{OR, HOST_ES_SELECTOR, 4}}},
    {"HOST-SEG-005: RPL", plain, FAIL(8), {{OR, HOST_FS_SELECTOR, 3}}},
    {"HOST-SEG-005: TI", plain, FAIL(8), {{OR, HOST_FS_SELECTOR, 4}}},
    {"HOST-SEG-006: RPL", plain, FAIL(8), {{OR, HOST_GS_SELECTOR, 3}}},
    {"HOST-SEG-006: TI", plain, FAIL(8), {{OR, HOST_GS_SELECTOR, 4}}},
    {"HOST-SEG-007: RPL", plain, FAIL(8), {{OR, HOST_TR_SELECTOR, 3}}},
    {"HOST-SEG-007: TI", plain, FAIL(8), {{OR, HOST_TR_SELECTOR, 4}}},
    {"HOST-SEG-008", plain, FAIL(8), {{SET, HOST_CS_SELECTOR, 0}}},
    {"HOST-SEG-009", plain, FAIL(8), {{SET, HOST_TR_SELECTOR, 0}}},
    {"HOST-SEG-011", plain, FAIL(8), {{SET, HOST_FS_BASE, NONCANONICAL}}},
    {"HOST-SEG-012", plain, FAIL(8), {{SET, HOST_GS_BASE, NONCANONICAL}}},
    {"HOST-SEG-013", plain, FAIL(8), {{SET, HOST_GDTR_BASE, NONCANONICAL}}},
    {"HOST-SEG-014", plain, FAIL(8), {{SET, HOST_IDTR_BASE, NONCANONICAL}}},
    {"HOST-SEG-015", plain, FAIL(8), {{SET, HOST_TR_BASE, NONCANONICAL}}},
    {"HOST-AS-003", plain, FAIL(8), {{CLEAR, EXIT_FIELD, EXIT_HOST_ADDRESS_SPACE_SIZE}, {CLEAR, HOST_IA32_EFER, EFER_LMA | EFER_LME}, {CLEAR, ENTRY_FIELD, ENTRY_IA_32E_MODE_GUEST}}},
    {"HOST-AS-010", plain, FAIL(8), {{CLEAR, HOST_CR4, CR4_PAE}}},
    {"HOST-CR-001 holds: NW and CD are not checked", plain, PASS, {{OR, HOST_CR0, CR0_CD}}},
    {"HOST-MSR-003", exit_perf, FAIL(8), {{OR, HOST_IA32_PERF_GLOBAL_CTRL, 1ul << 63}}},
    {"HOST-MSR-011", exit_pkrs, FAIL(8), {{SET, HOST_IA32_PKRS, 1ul << 32}}},
    {"HOST-SEG-009 holds: DS, ES, FS, GS and SS of 0", plain, PASS, {{SET, HOST_DS_SELECTOR, 0}, {SET, HOST_ES_SELECTOR, 0}, {SET, HOST_SS_SELECTOR, 0}}},
    {"HOST-SEG-010: with HOST-AS-003", plain, FAIL(8), {{CLEAR, EXIT_FIELD, EXIT_HOST_ADDRESS_SPACE_SIZE}, {CLEAR, HOST_IA32_EFER, EFER_LMA | EFER_LME}, {CLEAR, ENTRY_FIELD, ENTRY_IA_32E_MODE_GUEST}, {SET, HOST_SS_SELECTOR, 0}}},
    {"HOST-AS-004: with -003", plain, FAIL(8), {{CLEAR, EXIT_FIELD, EXIT_HOST_ADDRESS_SPACE_SIZE}, {CLEAR, HOST_IA32_EFER, EFER_LMA | EFER_LME}}},
    {"HOST-AS-005: with -003", plain, FAIL(8), {{CLEAR, EXIT_FIELD, EXIT_HOST_ADDRESS_SPACE_SIZE}, {CLEAR, HOST_IA32_EFER, EFER_LMA | EFER_LME}, {CLEAR, ENTRY_FIELD, ENTRY_IA_32E_MODE_GUEST}, {OR, HOST_CR4, CR4_PCIDE}}},
    {"HOST-AS-007: with -003", plain, FAIL(8), {{CLEAR, EXIT_FIELD, EXIT_HOST_ADDRESS_SPACE_SIZE}, {CLEAR, HOST_IA32_EFER, EFER_LMA | EFER_LME}, {CLEAR, ENTRY_FIELD, ENTRY_IA_32E_MODE_GUEST}, {SET, HOST_RIP, 1ul << 32}}},
    {"HOST-AS-011", plain, FAIL(8), {{SET, HOST_RIP, NONCANONICAL}}},
    {"a VMCS with exit spec ctrl passes", exit_spec_ctrl, PASS, {}},
    {"HOST-MSR-020", exit_spec_ctrl, FAIL(8), {{OR, HOST_IA32_SPEC_CTRL, 1ul << 63}}},
};
// clang-format on

int rom_main(void)
{
    if (!vmx_test_begin("the checks of VM entry on host state")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    entry_begin();
    ENTRY_ROWS(rows);
    return tap_end();
}

/*
 * The checks of VM entry on guest registers and PDPTEs (SDM 29.3.1.1, 29.3.1.3, 29.3.1.4, 29.3.1.6) and on
 * the MSR-load area (29.4), a row a rule; see vmx-entry-controls.c.
 *
 * Bochs 2.7 has no check for GUEST-CR-007, GUEST-MSR-001, GUEST-MSR-008 and GUEST-RIP-002. That
 * IA32_BIOS_UPDT_TRIG is refused in MSR areas (MSRLOAD-005) is what KVM does; the manual leaves it to the
 * model.
 *
 * Missing: CET, FRED, LBR, Intel PT.
 */
#include "vmx-entry.h"

// clang-format off
static const struct row rows[] = {
    {"a VMCS with real mode passes", real_mode, PASS, {}},
    {"a VMCS with protected mode passes", protected_mode, PASS, {}},
    {"a VMCS with v86 mode passes", v86_mode, PASS, {}},
    {"a VMCS with pae paging passes", pae_paging, PASS, {}},
    {"a VMCS with pae in memory passes", pae_in_memory, PASS, {}},
    {"a VMCS with entry efer passes", entry_efer, PASS, {}},
    {"a VMCS with entry pat passes", entry_pat, PASS, {}},
    {"a VMCS with entry debug passes", entry_debug, PASS, {}},
    {"GUEST-CR-001: NE", plain, EXIT33(0), {{CLEAR, GUEST_CR0, CR0_NE}}},
    {"GUEST-CR-001: PG", plain, EXIT33(0), {{CLEAR, GUEST_CR0, CR0_PG}}},
    {"GUEST-CR-001: NE, unrestricted guest", protected_mode, EXIT33(0), {{CLEAR, GUEST_CR0, CR0_NE}}},
    {"GUEST-CR-002", plain, EXIT33(0), {{OR, GUEST_CR0, 1ul << 32}}},
    {"GUEST-CR-003", real_mode, EXIT33(0), {{OR, GUEST_CR0, CR0_PG}}},
    {"GUEST-CR-004", plain, EXIT33(0), {{CLEAR, GUEST_CR4, CR4_VMXE}}},
    {"GUEST-CR-005", plain, EXIT33(0), {{OR, GUEST_CR4, 1ul << 31}}},
    {"GUEST-CR-007", unrestricted, EXIT33(0), {{CLEAR, GUEST_CR0, CR0_PG}}},
    {"GUEST-CR-008", plain, EXIT33(0), {{CLEAR, GUEST_CR4, CR4_PAE}}},
    {"GUEST-CR-011", plain, EXIT33(0), {{BEYOND, GUEST_CR3, 0}}},
    {"GUEST-DR-001", entry_debug, EXIT33(0), {{OR, GUEST_DR7, 1ul << 32}}},
    {"GUEST-MSR-001", entry_debug, EXIT33(0), {{SET, GUEST_IA32_DEBUGCTL, 1ul << 63}}},
    {"GUEST-MSR-002", plain, EXIT33(0), {{SET, GUEST_IA32_SYSENTER_ESP, NONCANONICAL}}},
    {"GUEST-MSR-003", plain, EXIT33(0), {{SET, GUEST_IA32_SYSENTER_EIP, NONCANONICAL}}},
    {"GUEST-MSR-009", entry_pat, EXIT33(0), {{SET, GUEST_IA32_PAT, 0x0307040600070406}}},
    {"GUEST-MSR-010", entry_efer, EXIT33(0), {{OR, GUEST_IA32_EFER, 1ul << 63}}},
    {"GUEST-MSR-011", entry_efer, EXIT33(0), {{CLEAR, GUEST_IA32_EFER, EFER_LMA}}},
    {"GUEST-MSR-012", entry_efer, EXIT33(0), {{CLEAR, GUEST_IA32_EFER, EFER_LME}}},
    {"GUEST-MSR-012 holds: LME without paging may differ from LMA", protected_mode, PASS, {{OR, GUEST_IA32_EFER, EFER_LME}}},
    {"GUEST-DT-001", plain, EXIT33(0), {{SET, GUEST_GDTR_BASE, NONCANONICAL}}},
    {"GUEST-DT-002", plain, EXIT33(0), {{SET, GUEST_IDTR_BASE, NONCANONICAL}}},
    {"GUEST-DT-003", plain, EXIT33(0), {{OR, GUEST_GDTR_LIMIT, 0x10000}}},
    {"GUEST-DT-004", plain, EXIT33(0), {{OR, GUEST_IDTR_LIMIT, 0x10000}}},
    {"GUEST-RIP-001", protected_mode, EXIT33(0), {{OR, GUEST_RIP, 1ul << 32}}},
    {"GUEST-RIP-002", plain, EXIT33(0), {{OR, GUEST_RIP, 1ul << 63}}},
    {"GUEST-RFLAGS-001: bit 3", plain, EXIT33(0), {{OR, GUEST_RFLAGS, 1ul << 3}}},
    {"GUEST-RFLAGS-001: bit 5", plain, EXIT33(0), {{OR, GUEST_RFLAGS, 1ul << 5}}},
    {"GUEST-RFLAGS-001: bit 15", plain, EXIT33(0), {{OR, GUEST_RFLAGS, 1ul << 15}}},
    {"GUEST-RFLAGS-001: bit 22", plain, EXIT33(0), {{OR, GUEST_RFLAGS, 1ul << 22}}},
    {"GUEST-RFLAGS-001: bit 63", plain, EXIT33(0), {{OR, GUEST_RFLAGS, 1ul << 63}}},
    {"GUEST-RFLAGS-002", plain, EXIT33(0), {{SET, GUEST_RFLAGS, 0}}},
    {"GUEST-RFLAGS-003", plain, EXIT33(0), {{OR, GUEST_RFLAGS, RFLAGS_VM}}},
    {"GUEST-RFLAGS-004", real_mode, EXIT33(0), {{OR, GUEST_RFLAGS, RFLAGS_VM}}},
    {"GUEST-RFLAGS-005", plain, EXIT33(0), {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40}}},
    {"GUEST-PDPTE-002: bit 1", pae_paging, EXIT33(2), {{OR, GUEST_PDPTE0, 2}}},
    {"GUEST-PDPTE-002: bit 5 of a present one", pae_paging, EXIT33(2), {{SET, GUEST_PDPTE3, 0x21}}},
    {"GUEST-PDPTE-002: beyond MAXPHYADDR", pae_paging, EXIT33(2), {{BEYOND, GUEST_PDPTE0, 0}}},
    {"GUEST-PDPTE-002 holds: a PDPTE that is not present may hold anything", pae_paging, PASS, {{SET, GUEST_PDPTE3, 0x1e6}}},
    {"GUEST-CR-001 holds: NW and CD are not checked", plain, PASS, {{OR, GUEST_CR0, CR0_CD | CR0_NW}}},
    {"GUEST-CR-001 holds: PE and PG with unrestricted guest", protected_mode, PASS, {}},
    {"GUEST-CR-009", pae_paging, EXIT33(0), {{OR, GUEST_CR4, CR4_PCIDE}}},
    {"GUEST-DR-001 holds: DR7 does not count without load debug controls", entry_debug, PASS, {{CLEAR, ENTRY_FIELD, ENTRY_LOAD_DEBUG_CONTROLS}, {OR, GUEST_DR7, 1ul << 32}}},
    {"GUEST-MSR-008", entry_perf, EXIT33(0), {{SET, GUEST_IA32_PERF_GLOBAL_CTRL, 1ul << 63}}},
    {"GUEST-MSR-009 holds: the PAT does not count without load IA32_PAT", entry_pat, PASS, {{CLEAR, ENTRY_FIELD, ENTRY_LOAD_IA32_PAT}, {SET, GUEST_IA32_PAT, 2}}},
    {"GUEST-MSR-013", entry_bndcfgs, EXIT33(0), {{SET, GUEST_IA32_BNDCFGS, 4}}},
    {"GUEST-MSR-014", entry_bndcfgs, EXIT33(0), {{SET, GUEST_IA32_BNDCFGS, NONCANONICAL}}},
    {"GUEST-MSR-017", entry_pkrs, EXIT33(0), {{OR, GUEST_IA32_PKRS, 1ul << 32}}},
    {"GUEST-DT-003 holds: a limit of FFFFH", plain, PASS, {{SET, GUEST_GDTR_LIMIT, 0xffff}}},
    {"GUEST-RFLAGS-001 holds: all that may be set", plain, PASS, {{OR, GUEST_RFLAGS, 0x3d7cd5 & ~(RFLAGS_TF | RFLAGS_AC)}}},
    {"GUEST-RFLAGS-005 holds: with IF", plain, PASS, {{SET, INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40}, {OR, GUEST_RFLAGS, RFLAGS_IF}}},
    {"GUEST-PDPTE-001: bit 1", pae_in_memory, EXIT33(2), {{POKE, 3, 3}}},
    {"GUEST-PDPTE-001: bit 5", pae_in_memory, EXIT33(2), {{POKE, 2, 0x21}}},
    {"GUEST-PDPTE-001: bit 63", pae_in_memory, EXIT33(2), {{POKE, 1, 1ul << 63 | 1}}},
    {"GUEST-PDPTE-001 holds: one that is not present may hold anything", pae_in_memory, PASS, {{POKE, 3, 0x1e6}}},
    {"a VMCS with entry spec ctrl passes", entry_spec_ctrl, PASS, {}},
    {"GUEST-MSR-027", entry_spec_ctrl, EXIT33(0), {{OR, GUEST_IA32_SPEC_CTRL, 1ul << 63}}},
    /* The MSR-load area (SDM 29.4); the qualification is the number of the entry, from 1. */
    {"MSRLOAD-001", msr_load, EXIT34(3), {{POKE, 4, IA32_FS_BASE}}},
    {"MSRLOAD-002", msr_load, EXIT34(3), {{POKE, 4, IA32_GS_BASE}}},
    {"MSRLOAD-003: 800H", msr_load, EXIT34(3), {{POKE, 4, 0x800}}},
    {"MSRLOAD-003: 808H", msr_load, EXIT34(3), {{POKE, 4, 0x808}}},
    {"MSRLOAD-003: 8FFH", msr_load, EXIT34(3), {{POKE, 4, 0x8ff}}},
    {"MSRLOAD-004", msr_load, EXIT34(3), {{POKE, 4, 0x9b}}},
    {"MSRLOAD-005: IA32_BIOS_UPDT_TRIG", msr_load, EXIT34(3), {{POKE, 4, 0x79}}},
    {"MSRLOAD-006", msr_load, EXIT34(3), {{POKE, 4, 1ul << 32 | IA32_SYSENTER_CS}}},
    {"MSRLOAD-007: no such MSR", msr_load, EXIT34(3), {{POKE, 4, 0x4b564d00}}},
    {"MSRLOAD-007: bad data", msr_load, EXIT34(3), {{POKE, 4, IA32_PAT}, {POKE, 5, 0x0202020202020202}}},
    {"MSRLOAD-007: a read-only MSR", msr_load, EXIT34(3), {{POKE, 4, IA32_VMX_BASIC}}},
    {"MSRLOAD-001: the first of three", msr_load, EXIT34(1), {{POKE, 0, IA32_FS_BASE}}},
    {"MSRLOAD-001: the second, though the third is bad too", msr_load, EXIT34(2), {{POKE, 2, IA32_FS_BASE}, {POKE, 4, IA32_GS_BASE}}},
    {"MSRLOAD-001 holds: it is beyond the count", msr_load, PASS, {{POKE, 6, IA32_FS_BASE}}},
    {"MSRLOAD-007 holds: the same MSR three times", msr_load, PASS, {{POKE, 5, 8}}},
};
// clang-format on

int rom_main(void)
{
    if (!vmx_test_begin("the checks of VM entry on guest registers")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    entry_begin();
    ENTRY_ROWS(rows);
    return tap_end();
}

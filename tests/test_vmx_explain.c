// Explanations in full: the bits that offend, the names of bits, the hints, the text and the JSON.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/vmx_setup.h"
#include "tests/vmx_text.h"
#include "vmx/explain.h"
#include "vmx/hints.h"
#include "vmx/offence.h"

// ---- the bits ----
static struct vmx_check_failure *violated(struct setup *s, const char *id)
{
    static struct vmx_check_failure found[300];
    setup_decode(s);
    unsigned n = vmx_doctor(&s->e, found, ARRAY_LEN(found));
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(found[i].id, id)) return &found[i];
    return NULL;
}

static void expect_bits(struct setup *s, int line, const char *id, unsigned input, u64 bits)
{
    struct vmx_offence o[VMX_OFFENCES_MAX];
    const struct vmx_check_failure *x = violated(s, id);
    if (!x) fail_msg("line %d: %s is not violated", line, id);
    unsigned n = vmx_offences(&s->e, x, o);
    if (n != (bits != 0)) fail_msg("line %d: %s: %u offences", line, id, n);
    if (n && (o[0].input != input || o[0].bits != bits))
        fail_msg("line %d: %s: %s %#llx", line, id, vmx_check_input_name(o[0].input),
                 (unsigned long long)o[0].bits);
}
#define BITS(base, id, input, bits, ...) \
    do { \
        setup_##base(s); \
        __VA_ARGS__; \
        expect_bits(s, __LINE__, id, input, bits); \
    } while (0)

static void bits(void **state)
{
    struct setup *s = *state;
    struct vmcs_fields *f = &s->f;
    BITS(long, "CTL-PIN-001", VMCS_PIN_BASED_CONTROLS, 0x12, f->PIN_BASED_CONTROLS = 4);
    BITS(long, "CTL-PIN-002", VMCS_PIN_BASED_CONTROLS, 0x80000100, f->PIN_BASED_CONTROLS |= 0x80000100);
    BITS(long, "CTL-PROC1-001", VMCS_PRIMARY_PROC_BASED_CONTROLS, 2, f->PRIMARY_PROC_BASED_CONTROLS &= ~2u);
    BITS(long, "CTL-NMI-001", VMCS_PIN_BASED_CONTROLS, 0x20, f->PIN_BASED_CONTROLS |= 0x20);
    BITS(long, "CTL-IOA-001", VMCS_ADDRESS_OF_IO_BITMAP_A, 0x801, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 25;
         f->ADDRESS_OF_IO_BITMAP_A = 0x4801);
    BITS(long, "CTL-EPT-005", VMCS_EPTP, 0x500, f->EPTP |= 0x500);
    BITS(long, "CTL-EPT-006", VMCS_EPTP, 1ull << 45 | 1ull << 40, f->EPTP |= 1ull << 45 | 1ull << 40);
    BITS(long, "CTL-EPTDEP-002", VMCS_SECONDARY_PROC_BASED_CONTROLS, 2,
         f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | SETUP_UNRESTRICTED);
    BITS(long, "CTL-INJ-013", VMCS_INJECTED_EVENT_IDENTIFICATION, 0x40004000,
         f->INJECTED_EVENT_IDENTIFICATION = 0xC0004306);
    BITS(long, "HOST-CR-001", VMCS_HOST_CR0, 0x80000021, f->HOST_CR0 = 0x50012);
    BITS(long, "HOST-CR-003", VMCS_HOST_CR4, 0x2000, f->HOST_CR4 = 0x20);
    BITS(long, "HOST-SEG-001", VMCS_HOST_CS_SELECTOR, 7, f->HOST_CS_SELECTOR = 0xF);
    BITS(long, "HOST-SEG-011", VMCS_HOST_FS_BASE, 1ull << 47, f->HOST_FS_BASE = 0xFFFF7FFFFFFFF000);
    BITS(long, "HOST-SEG-012", VMCS_HOST_GS_BASE, 0xFFull << 48, f->HOST_GS_BASE = 0xFF000000001000);
    BITS(long, "HOST-AS-010", VMCS_HOST_CR4, 0x20, f->HOST_CR4 = 0x2000);
    BITS(long, "GUEST-CR-008", VMCS_GUEST_CR4, 0x20, f->GUEST_CR4 = 0x2000);
    BITS(long, "GUEST-MSR-011", VMCS_GUEST_IA32_EFER, 0x400, f->VM_ENTRY_CONTROLS |= 1 << 15;
         f->GUEST_IA32_EFER = 0x100);
    BITS(long, "GUEST-RFLAGS-001", VMCS_GUEST_RFLAGS, 1ull << 63 | 0x8028,
         f->GUEST_RFLAGS = 1ull << 63 | 0x802A);
    BITS(long, "GUEST-RFLAGS-002", VMCS_GUEST_RFLAGS, 2, f->GUEST_RFLAGS = 0x200);
    BITS(long, "GUEST-SEG-030", VMCS_GUEST_CS_ACCESS_RIGHTS, 1, f->GUEST_CS_ACCESS_RIGHTS = 0xA09A);
    BITS(long, "GUEST-SEG-030", VMCS_GUEST_CS_ACCESS_RIGHTS, 9, f->GUEST_CS_ACCESS_RIGHTS = 0xA092);
    BITS(long, "GUEST-SEG-032", VMCS_GUEST_SS_ACCESS_RIGHTS, 2,
         f->GUEST_SS_ACCESS_RIGHTS = 0xC091); // not bit 16: unusable
    BITS(long, "GUEST-SEG-092", VMCS_GUEST_TR_ACCESS_RIGHTS, 2, f->GUEST_TR_ACCESS_RIGHTS = 0x89);
    BITS(long, "GUEST-SEG-098", VMCS_GUEST_TR_ACCESS_RIGHTS, 0x10000, f->GUEST_TR_ACCESS_RIGHTS |= 0x10000);
    BITS(long, "GUEST-NONREG-021", VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS, 0xA010,
         f->GUEST_PENDING_DEBUG_EXCEPTIONS = 0xA010);
    BITS(long, "BASIC-007", VMX_INPUT_VMCS_DWORD, 0x80000000, s->e.revision |= 0x80000000);
    BITS(long, "BASIC-008", VMX_INPUT_BLOCKING, 2, s->e.blocking = 3);
    // Not a matter of bits: a number that is too large, a value that must be another.
    BITS(long, "CTL-CR3T-001", 0, 0, f->CR3_TARGET_COUNT = 5);
    BITS(long, "CTL-VPID-001", 0, 0, f->VPID = 0);
    BITS(long, "HOST-SEG-009", 0, 0, f->HOST_TR_SELECTOR = 0);
    BITS(long, "BASIC-009", 0, 0, s->e.launch_state = 1);
    BITS(v86, "GUEST-SEG-004", 0, 0, f->GUEST_CS_BASE = 0x1234);
    // The entries of PAE, each by itself.
    setup_pae(s);
    f->GUEST_PDPTE0 = 3, f->GUEST_PDPTE2 = 1ull << 52 | 0x101,
    f->GUEST_PDPTE3 = 0x1E6; // the last is not present
    struct vmx_offence o[VMX_OFFENCES_MAX];
    const struct vmx_check_failure *x = violated(s, "GUEST-PDPTE-002");
    assert_non_null(x);
    assert_int_equal(vmx_offences(&s->e, x, o), 2);
    assert_true(o[0].input == VMCS_GUEST_PDPTE0 && o[0].bits == 2);
    assert_true(o[1].input == VMCS_GUEST_PDPTE2 && o[1].bits == (1ull << 52 | 0x100));
}

static u64 seed;
static u64 random64(void) // xorshift64*: the same run every time
{
    seed ^= seed >> 12, seed ^= seed << 25, seed ^= seed >> 27;
    return seed * 0x2545F4914F6CDD1Dull;
}

static void (*const bases[])(struct setup *) = {setup_long,     setup_user,      setup_ldtr,
                                                setup_flexible, setup_protected, setup_pae,
                                                setup_host32,   setup_real,      setup_v86};

// Whatever is blamed: with those bits turned the row holds, with one of them left it does not.
static void blamed_bits_are_to_blame(void **state)
{
    struct setup *s = *state;
    static struct vmx_check_failure found[300];
    unsigned blamed = 0, rows = 0;
    bool seen[512] = {false};
    seed = 0x5EED0002;
    for (unsigned round = 0; round < 4000; round++) {
        bases[random64() % ARRAY_LEN(bases)](s);
        unsigned field = random64() % VMCS_FIELD_COUNT;
        u64 value = vmcs_field_get(&s->f, field);
        vmcs_field_set(&s->f, field,
                       random64() % 2 ? value ^ BIT(random64() % 64) ^ BIT(random64() % 32) : random64());
        setup_decode(s);
        unsigned n = vmx_doctor(&s->e, found, ARRAY_LEN(found));
        for (unsigned i = 0; i < n; i++) {
            struct vmx_offence o[VMX_OFFENCES_MAX];
            unsigned k = vmx_offences(&s->e, &found[i], o);
            if (k != 1 || o[0].input >= VMCS_FIELD_COUNT) continue;
            blamed++;
            rows += !seen[found[i].check - vmx_check_rows];
            seen[found[i].check - vmx_check_rows] = true;
            assert_true(o[0].value == vmcs_field_get(&s->f, o[0].input));
            for (int b = -1; b < 64; b++) {
                if (b >= 0 && !(o[0].bits >> b & 1)) continue;
                struct vmx_entry e = s->e;
                struct vmcs_fields f = s->f;
                e.f = &f;
                vmcs_field_set(&f, o[0].input, o[0].value ^ o[0].bits ^ (b < 0 ? 0 : BIT(b)));
                vmx_entry_decode(&e);
                enum vmx_verdict v = vmx_check_judge(&e, found[i].check);
                if ((v == VMX_VERDICT_HOLDS) != (b < 0))
                    fail_msg("%s: bits %#llx of %#llx, without %d", found[i].id,
                             (unsigned long long)o[0].bits, (unsigned long long)o[0].value, b);
            }
        }
    }
    assert_in_range(blamed, 1000, 1000000);
    assert_in_range(rows, 100, vmx_check_row_count); // many a row is a matter of bits
}

static void names(void **state)
{
    // SDM volume 1 and 3 for registers, 27.6-27.8 for controls, 27.4.1 for access rights
    assert_string_equal(vmx_bit_name("GUEST_CR4", 13), "VMXE");
    assert_string_equal(vmx_bit_name("CR0", 5), "NE");
    assert_string_equal(vmx_bit_name("HOST_IA32_EFER", 10), "LMA");
    assert_string_equal(vmx_bit_name("GUEST_TR_ACCESS_RIGHTS", 16), "unusable");
    assert_string_equal(vmx_bit_name("PIN_BASED_CONTROLS", 5), "virtual NMIs");
    assert_string_equal(vmx_bit_name("PIN_BASED_CONTROLS", 31), "reserved");
    assert_string_equal(vmx_bit_name("SECONDARY_PROC_BASED_CONTROLS", 1), "enable EPT");
    assert_string_equal(vmx_bit_name("VM_ENTRY_CONTROLS", 9), "IA-32e mode guest");
    assert_null(vmx_bit_name("GUEST_CR3", 0));
    assert_null(vmx_bit_name("CR4_READ_SHADOW", 13)); // no CR4
}

// ---- the hints ----
static bool reached[512];

static void expect_hint(struct setup *s, int line, const char *id, const char *part)
{
    struct vmx_offence o[VMX_OFFENCES_MAX];
    const struct vmx_check_failure *x = violated(s, id);
    if (!x) fail_msg("line %d: %s is not violated", line, id);
    unsigned n = vmx_offences(&s->e, x, o);
    int hint = vmx_hint_of_check(&s->e, x, n ? o[0].bits : 0);
    if (hint < 0 || !strstr(vmx_hints[hint].text, part))
        fail_msg("line %d: %s: the hint is \"%s\"", line, id, hint < 0 ? "" : vmx_hints[hint].text);
    assert_string_equal(vmx_hints[hint].id, id);
    reached[hint] = true;
}
#define HINTS(id, part, base, ...) \
    do { \
        setup_##base(s); \
        __VA_ARGS__; \
        expect_hint(s, __LINE__, id, part); \
    } while (0)

static void hints_of_controls(void **state)
{
    struct setup *s = *state;
    struct vmcs_fields *f = &s->f;
    u64 kernel = 0xFFFF888012345000;
    HINTS("BASIC-007", "bit 31 is 0", long, s->e.revision |= 0x80000000);
    HINTS("BASIC-008", "MOV SS", long, s->e.blocking = 2);
    HINTS("BASIC-009", "VMRESUME", long, s->e.launch_state = 1);
    HINTS("BASIC-010", "VMLAUNCH", long, s->e.launch = false);
    HINTS("CTL-PIN-001", "low half of IA32_VMX_TRUE_PINBASED_CTLS", long, f->PIN_BASED_CONTROLS = 0);
    HINTS("CTL-PIN-002", "high half of IA32_VMX_TRUE_PINBASED_CTLS", long, f->PIN_BASED_CONTROLS |= 1u << 31);
    HINTS("CTL-PROC1-001", "low half", long, f->PRIMARY_PROC_BASED_CONTROLS = 0);
    HINTS("CTL-PROC1-002", "high half", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1);
    HINTS("CTL-PROC2-001", "IA32_VMX_PROCBASED_CTLS2", long, f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 29);
    HINTS("CTL-EXIT-001", "low half", long, f->PRIMARY_VM_EXIT_CONTROLS = 0x200);
    HINTS("CTL-EXIT-002", "high half", long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 12);
    HINTS("CTL-ENTRY-001", "low half", long, f->VM_ENTRY_CONTROLS = 0x200);
    HINTS("CTL-ENTRY-002", "high half", long, f->VM_ENTRY_CONTROLS |= 1u << 31);
    HINTS("CTL-IOA-002", "physical", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 25;
          f->ADDRESS_OF_IO_BITMAP_A = kernel);
    HINTS("CTL-IOB-002", "physical", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 25;
          f->ADDRESS_OF_IO_BITMAP_B = kernel);
    HINTS("CTL-MSRBM-002", "physical", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 28;
          f->ADDRESS_OF_MSR_BITMAPS = kernel);
    HINTS("CTL-VAPIC-002", "physical", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 21;
          f->VIRTUAL_APIC_ADDRESS = kernel);
    HINTS("CTL-EPT-006", "physical", long, f->EPTP = kernel | 0x1E);
    HINTS("CTL-EXIT-006", "physical", long, f->VM_EXIT_MSR_STORE_ADDRESS = kernel;
          f->VM_EXIT_MSR_STORE_COUNT = 1);
    HINTS("CTL-EXIT-009", "physical", long, f->VM_EXIT_MSR_LOAD_ADDRESS = kernel;
          f->VM_EXIT_MSR_LOAD_COUNT = 1);
    HINTS("CTL-ENTRY-004", "physical", long, f->VM_ENTRY_MSR_LOAD_ADDRESS = kernel;
          f->VM_ENTRY_MSR_LOAD_COUNT = 1);
    HINTS("HOST-CR-006", "physical", long, f->HOST_CR3 = kernel);
    HINTS("GUEST-CR-011", "physical", long, f->GUEST_CR3 = kernel);
    HINTS("CTL-TPR-002", "threshold", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 21;
          f->VIRTUAL_APIC_ADDRESS = SETUP_VAPIC; s->phys.ram[SETUP_VAPIC + 0x80] = 0; f->TPR_THRESHOLD = 1);
    HINTS("CTL-NMI-001", "bit 3", long, f->PIN_BASED_CONTROLS |= 0x20);
    HINTS("CTL-NMI-002", "bits 3 and 5", long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 22);
    HINTS("CTL-VPID-001", "another number", long, f->VPID = 0);
    HINTS("CTL-EPT-001", "more than an address", long, f->EPTP = 0x100000; s->caps.ept_vpid &= ~BIT(8));
    HINTS("CTL-EPT-001", "6 for write-back", long, f->EPTP = 0x10001F);
    HINTS("CTL-EPT-002", "five levels", long, f->EPTP = 0x100026; s->caps.ept_vpid &= ~BIT(7));
    HINTS("CTL-EPT-002", "3 for four levels", long, f->EPTP = 0x100006);
    HINTS("CTL-EPTDEP-002", "neither", long,
          f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | SETUP_UNRESTRICTED);
    HINTS("CTL-EXIT-004", "bit 6", long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 22);
#define EVENT f->INJECTED_EVENT_IDENTIFICATION
    HINTS("CTL-INJ-003", "80000202H", long, EVENT = 0x80000203);
    HINTS("CTL-INJ-007", "set bit 11", long, EVENT = 0x8000030E);
    HINTS("CTL-INJ-008", "clear bit 11", long, EVENT = 0x80000A02);
    HINTS("CTL-INJ-009", "real-address mode", real, EVENT = 0x80000B0D);
    HINTS("CTL-INJ-010", "clear bit 11", long, EVENT = 0x80000B06);
    HINTS("CTL-INJ-013", "handed back", long, EVENT = 0x80004306);
    HINTS("CTL-INJ-014", "NMI unblocking", long, EVENT = 0x80001306);
    HINTS("CTL-INJ-016", "length", long, EVENT = 0x80000480; f->VM_ENTRY_INSTRUCTION_LENGTH = 16);
    HINTS("CTL-INJ-017", "length", long, EVENT = 0x80000480; s->caps.misc &= ~BIT(30));
}

static void hints_of_host(void **state)
{
    struct setup *s = *state;
    struct vmcs_fields *f = &s->f;
    HINTS("HOST-CR-001", "CR0.NE", long, f->HOST_CR0 &= ~0x20ull);
    HINTS("HOST-CR-001", "VMXON", long, f->HOST_CR0 &= ~1ull);
    HINTS("HOST-CR-003", "before CR4.VMXE", long, f->HOST_CR4 = 0x20);
    HINTS("HOST-MSR-004", "PAT", long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 19; f->HOST_IA32_PAT = 2);
    HINTS("HOST-MSR-005", "RDMSR", long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 21; f->HOST_IA32_EFER = 0x1500);
    HINTS("HOST-MSR-006", "LMA", long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 21; f->HOST_IA32_EFER = 0x100);
    HINTS("HOST-MSR-007", "LME", long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 21; f->HOST_IA32_EFER = 0x400);
    HINTS("HOST-SEG-001", "FFF8H", long, f->HOST_CS_SELECTOR |= 3);
    HINTS("HOST-SEG-002", "FFF8H", long, f->HOST_SS_SELECTOR |= 3);
    HINTS("HOST-SEG-003", "FFF8H", long, f->HOST_DS_SELECTOR |= 3);
    HINTS("HOST-SEG-004", "FFF8H", long, f->HOST_ES_SELECTOR |= 3);
    HINTS("HOST-SEG-005", "FFF8H", long, f->HOST_FS_SELECTOR |= 3);
    HINTS("HOST-SEG-006", "FFF8H", long, f->HOST_GS_SELECTOR |= 3);
    HINTS("HOST-SEG-007", "FFF8H", long, f->HOST_TR_SELECTOR |= 4);
    HINTS("HOST-SEG-008", "CS", long, f->HOST_CS_SELECTOR = 0);
    HINTS("HOST-SEG-009", "LTR", long, f->HOST_TR_SELECTOR = 0);
    HINTS("HOST-SEG-011", "copies", long, f->HOST_FS_BASE = BIT(47));
    HINTS("HOST-SEG-012", "copies", long, f->HOST_GS_BASE = BIT(47));
    HINTS("HOST-SEG-013", "copies", long, f->HOST_GDTR_BASE = BIT(47));
    HINTS("HOST-SEG-014", "copies", long, f->HOST_IDTR_BASE = BIT(47));
    HINTS("HOST-SEG-015", "copies", long, f->HOST_TR_BASE = BIT(47));
    HINTS("HOST-AS-001", "64-bit mode only", long, s->e.efer = 0);
    HINTS("HOST-AS-003", "bit 9", long, f->PRIMARY_VM_EXIT_CONTROLS &= ~0x200u);
    HINTS("HOST-AS-004", "bit 9", long, f->PRIMARY_VM_EXIT_CONTROLS &= ~0x200u);
    HINTS("HOST-AS-010", "CR4", long, f->HOST_CR4 = 0x2000);
    HINTS("HOST-AS-011", "exit handler", long, f->HOST_RIP = BIT(47));
}

static void hints_of_guest(void **state)
{
    struct setup *s = *state;
    struct vmcs_fields *f = &s->f;
    HINTS("GUEST-CR-001", "unrestricted guest", protected, f->GUEST_CR0 &= ~0x80000001ull);
    HINTS("GUEST-CR-001", "CR0.NE", real, f->GUEST_CR0 &= ~0x20ull);
    HINTS("GUEST-CR-003", "PE", real, f->GUEST_CR0 |= 0x80000000ull);
    HINTS("GUEST-CR-004", "read shadow", long, f->GUEST_CR4 &= ~0x2000ull);
    HINTS("GUEST-CR-007", "reset", flexible, f->GUEST_CR0 &= ~0x80000000ull);
    HINTS("GUEST-CR-008", "reset", long, f->GUEST_CR4 &= ~0x20ull);
    HINTS("GUEST-CR-009", "PCIDE", protected, f->GUEST_CR4 |= 1 << 17);
    HINTS("GUEST-MSR-009", "PAT", long, f->VM_ENTRY_CONTROLS |= 1 << 14; f->GUEST_IA32_PAT = 2);
    HINTS("GUEST-MSR-011", "has LMA", long, f->VM_ENTRY_CONTROLS |= 1 << 15);
    HINTS("GUEST-MSR-011", "set IA-32e mode guest", protected, f->VM_ENTRY_CONTROLS |= 1 << 15;
          f->GUEST_IA32_EFER = 0x500);
    HINTS("GUEST-MSR-012", "LME", long, f->VM_ENTRY_CONTROLS |= 1 << 15; f->GUEST_IA32_EFER = 0x400);
    HINTS("GUEST-RIP-001", "CS.L is 0", long, f->GUEST_CS_ACCESS_RIGHTS = 0xC09B);
    HINTS("GUEST-RIP-001", "CS.L is 1", long, f->VM_ENTRY_CONTROLS &= ~0x200u);
    HINTS("GUEST-RIP-002", "canonical", long, f->GUEST_RIP = BIT(60));
    HINTS("GUEST-RFLAGS-002", "after a reset", long, f->GUEST_RFLAGS = 0);
    HINTS("GUEST-RFLAGS-005", "interrupt-window", long, EVENT = 0x80000030);
#define NULLED(seg, one, two, three) \
    HINTS("GUEST-SEG-" one, "10000H", long, f->GUEST_##seg##_ACCESS_RIGHTS = 0); \
    HINTS("GUEST-SEG-" two, "10000H", long, f->GUEST_##seg##_ACCESS_RIGHTS = 0); \
    HINTS("GUEST-SEG-" three, "10000H", long, f->GUEST_##seg##_ACCESS_RIGHTS = 0)
    NULLED(SS, "032", "042", "061");
    NULLED(DS, "033", "043", "062");
    NULLED(ES, "034", "044", "063");
    NULLED(FS, "035", "045", "064");
    NULLED(GS, "036", "046", "065");
    NULLED(LDTR, "100", "102", "102");
    HINTS("GUEST-SEG-003", "RPL", long, f->GUEST_SS_SELECTOR |= 3);
    HINTS("GUEST-SEG-014", "64-bit bases", long, f->GUEST_CS_BASE = BIT(32));
    HINTS("GUEST-SEG-030", "real-address mode", long, f->GUEST_CS_ACCESS_RIGHTS = 0xA093);
    HINTS("GUEST-SEG-030", "accessed", long, f->GUEST_CS_ACCESS_RIGHTS = 0xA09A);
    HINTS("GUEST-SEG-033", "accessed", long, f->GUEST_DS_ACCESS_RIGHTS = 0xC092);
    HINTS("GUEST-SEG-034", "accessed", long, f->GUEST_ES_ACCESS_RIGHTS = 0xC092);
    HINTS("GUEST-SEG-035", "accessed", long, f->GUEST_FS_ACCESS_RIGHTS = 0xC092);
    HINTS("GUEST-SEG-036", "accessed", long, f->GUEST_GS_ACCESS_RIGHTS = 0xC092);
    HINTS("GUEST-SEG-050", "CPL", long, f->GUEST_SS_ACCESS_RIGHTS |= 0x60);
#define WITH_LIMIT(id, seg) \
    HINTS("GUEST-SEG-" id, "limit 19:16", ldtr, f->GUEST_##seg##_ACCESS_RIGHTS |= 0xF00)
    WITH_LIMIT("066", CS);
    WITH_LIMIT("067", SS);
    WITH_LIMIT("068", DS);
    WITH_LIMIT("069", ES);
    WITH_LIMIT("070", FS);
    WITH_LIMIT("071", GS);
    WITH_LIMIT("095", TR);
    WITH_LIMIT("103", LDTR);
    HINTS("GUEST-SEG-072", "A09BH", long, f->GUEST_CS_ACCESS_RIGHTS |= 0x4000);
#define LIMITS(seg, clear, set) \
    HINTS("GUEST-SEG-" clear, "in bytes", long, f->GUEST_##seg##_LIMIT = 0xFFFF0; \
          f->GUEST_##seg##_ACCESS_RIGHTS |= 0x8000); \
    HINTS("GUEST-SEG-" set, "in bytes", long, f->GUEST_##seg##_LIMIT = UINT32_MAX; \
          f->GUEST_##seg##_ACCESS_RIGHTS &= ~0x8000u)
    LIMITS(CS, "073", "074");
    LIMITS(SS, "075", "076");
    LIMITS(DS, "077", "078");
    LIMITS(ES, "079", "080");
    LIMITS(FS, "081", "082");
    LIMITS(GS, "083", "084");
    LIMITS(TR, "096", "097");
    HINTS("GUEST-SEG-091", "busy", protected, f->GUEST_TR_ACCESS_RIGHTS = 0x89);
    HINTS("GUEST-SEG-091", "busy", protected, f->GUEST_TR_ACCESS_RIGHTS = 0x81);
    HINTS("GUEST-SEG-092", "8BH, not 89H", long, f->GUEST_TR_ACCESS_RIGHTS = 0x89);
    HINTS("GUEST-SEG-098", "never unusable", long, f->GUEST_TR_ACCESS_RIGHTS = 0x10000);
    HINTS("GUEST-DT-003", "16 bits", long, f->GUEST_GDTR_LIMIT = UINT32_MAX);
    HINTS("GUEST-DT-004", "16 bits", long, f->GUEST_IDTR_LIMIT = UINT32_MAX);
}

static void hints_of_the_rest(void **state)
{
    struct setup *s = *state;
    struct vmcs_fields *f = &s->f;
    struct vmx_check_failure x;
    u32 *state_ = &f->GUEST_INTERRUPTIBILITY_STATE;
    HINTS("GUEST-NONREG-002", "CPL 0", user, f->GUEST_ACTIVITY_STATE = 1);
    HINTS("GUEST-NONREG-003", "behind STI", long, f->GUEST_ACTIVITY_STATE = 1; *state_ = 1;
          f->GUEST_RFLAGS = 0x202);
    HINTS("GUEST-NONREG-004", "left over", long, f->GUEST_ACTIVITY_STATE = 1; EVENT = 0x8000030D | 0x800);
    HINTS("GUEST-NONREG-006", "SIPI", long, f->GUEST_ACTIVITY_STATE = 3; EVENT = 0x80000202);
    HINTS("GUEST-NONREG-010", "keep one", long, *state_ = 3; f->GUEST_RFLAGS = 0x202);
    HINTS("GUEST-NONREG-011", "IF was cleared", long, *state_ = 1);
    HINTS("GUEST-NONREG-012", "behind STI", long, *state_ = 1; f->GUEST_RFLAGS = 0x202; EVENT = 0x80000030);
    HINTS("GUEST-NONREG-013", "behind MOV SS", long, *state_ = 2; f->GUEST_RFLAGS = 0x202;
          EVENT = 0x80000030);
    HINTS("GUEST-NONREG-015", "NMI window", long, *state_ = 2; EVENT = 0x80000202);
    HINTS("GUEST-NONREG-018", "NMI handler", long, f->PIN_BASED_CONTROLS |= 0x28; *state_ = 8;
          EVENT = 0x80000202);
    HINTS("GUEST-NONREG-024", "set bit 14", long, *state_ = 2; f->GUEST_RFLAGS = 0x102);
    HINTS("GUEST-NONREG-025", "clear bit 14", long, *state_ = 2; f->GUEST_PENDING_DEBUG_EXCEPTIONS = BIT(14));
    HINTS("GUEST-NONREG-028", "low half", long, f->VMCS_LINK_POINTER = UINT32_MAX);
    HINTS("GUEST-NONREG-028", "FFFFFFFF_FFFFFFFFH", long, f->VMCS_LINK_POINTER = 8);
    HINTS("GUEST-NONREG-030", "0 is an address", long, f->VMCS_LINK_POINTER = 0);
    HINTS("GUEST-NONREG-030", "VMCS shadowing", long, f->VMCS_LINK_POINTER = SETUP_VAPIC);
    HINTS("GUEST-PDPTE-001", "no R/W", pae_memory, s->phys.ram[SETUP_PDPT + 0xE20] = 7);
    HINTS("GUEST-PDPTE-002", "four fields", pae, f->GUEST_PDPTE0 = 7);
    static const struct vmx_msr_entry entries[] = {{0xC0000100, 0, 0}, {0xC0000101, 0, 0}, {0x10, 1, 0}};
    static const char *const ids[] = {"MSRLOAD-001", "MSRLOAD-002", "MSRLOAD-006"};
    for (unsigned i = 0; i < 3; i++) {
        memcpy(s->phys.ram + SETUP_MSRS, &entries[i], 16);
        setup_long(s);
        memcpy(s->phys.ram + SETUP_MSRS, &entries[i], 16);
        f->VM_ENTRY_MSR_LOAD_ADDRESS = SETUP_MSRS, f->VM_ENTRY_MSR_LOAD_COUNT = 1;
        expect_hint(s, __LINE__, ids[i], i == 2 ? "16 bytes" : "field loads it");
    }
    memset(&x, 0, sizeof x);
    for (unsigned n = 0; n < vmx_check_row_count; n++)
        if (!strcmp(vmx_check_rows[n].id, "MSRLOAD-007")) x.check = &vmx_check_rows[n], x.id = x.check->id;
    int hint = vmx_hint_of_check(&s->e, &x, 0);
    assert_true(hint >= 0);
    reached[hint] = true;
}

static void hints_of_refusals(void **state)
{
    static const struct {
        enum vmx_refusal_id row;
        u64 bits, value;
        const char *part;
    } cases[] = {
        {REFUSED_OUTSIDE_VMX, 0, 0x20, "set CR4.VMXE"},
        {REFUSED_OUTSIDE_VMX, 0, 0x2020, "VMXON first"},
        {REFUSED_VMXON_CR4_VMXE, 0x2000, 0x20, "before VMXON"},
        {REFUSED_VMXON_AGAIN, 0, 0x1000, "once"},
        {REFUSED_VMXON_CR0_FIXED0, 0x20, 0x80000011, "CR0.NE"},
        {REFUSED_VMXON_UNLOCKED, 1, 0, "write 5"},
        {REFUSED_VMXON_DISABLED, 4, 1, "firmware"},
        {REFUSED_VMXON_ADDRESS, 0, 0xFFFF888000001000, "linear"},
        {REFUSED_VMXON_REVISION, 1, 0, "write the revision"},
        {REFUSED_VMXON_REVISION, 1, 5, "bit 31 clear"},
        {REFUSED_VMCLEAR_ADDRESS, 0, 0xFFFF888000001000, "linear"},
        {REFUSED_VMPTRLD_ADDRESS, 0, 0xFFFF888000001000, "linear"},
        {REFUSED_VMPTRLD_VMXON, 0, 0x1000, "own page"},
        {REFUSED_VMPTRLD_REVISION, 1, 0, "write the revision"},
        {REFUSED_VMPTRLD_REVISION, 1, UINT32_MAX, "nothing is"},
        {REFUSED_VMPTRLD_REVISION, 1, 7, "bits 30:0"},
        {REFUSED_NO_VMCS, 0, UINT64_MAX, "VMPTRLD"},
        {REFUSED_ENTRY_NO_VMCS, 0, UINT64_MAX, "VMPTRLD"},
        {REFUSED_FIELD_UNKNOWN, 0, 0x482C, "confused"},
        {REFUSED_FIELD_ABSENT, 0, 0x201A, "capability"},
        {REFUSED_INVEPT_TYPE, 0, 0, "all-context"},
        {REFUSED_INVVPID_ZERO, 0, 0, "type 2"},
        {REFUSED_VMFUNC_OFF, 1, 0, "bit 13"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct vmx_refused r = {
            .row = &vmx_refusal_rows[cases[i].row], .bits = cases[i].bits, .value = {cases[i].value}};
        int hint = vmx_hint_of_refusal(&r);
        if (hint < 0 || !strstr(vmx_hints[hint].text, cases[i].part) || strcmp(vmx_hints[hint].id, r.row->id))
            fail_msg("%s: the hint is \"%s\"", r.row->id, hint < 0 ? "" : vmx_hints[hint].text);
        reached[hint] = true;
    }
}

static void every_hint(void **state)
{
    for (unsigned i = 0; i < vmx_hints_n; i++) {
        const char *id = vmx_hints[i].id;
        bool there = false;
        for (unsigned n = 0; n < vmx_check_row_count; n++) there |= !strcmp(id, vmx_check_rows[n].id);
        for (unsigned n = 0; n < REFUSAL_COUNT; n++) there |= !strcmp(id, vmx_refusal_rows[n].id);
        if (!there) fail_msg("a hint is for %s, which no row is", id);
        if (!reached[i]) fail_msg("no VMCS here leads to the hint of %s: %s", id, vmx_hints[i].text);
        assert_in_range(strlen(vmx_hints[i].text), 10, 250);
    }
}

// ---- what is said ----
static void entry_text(void **state)
{
    struct setup *s = *state;
    struct text t = {0};
    setup_long(s);
    setup_decode(s);
    clear(&t);
    vmx_explain_entry(&s->e, NULL, put, &t);
    assert_string_equal(t.s, "No rule of VM entry is violated.\n");

    s->f.HOST_CR4 = 0x20;
    s->f.GUEST_RFLAGS = 0xFFFF00000000A000;
    setup_decode(s);
    clear(&t);
    vmx_explain_entry(&s->e, NULL, put, &t);
    assert_string_equal(
        t.s, "3 rules of VM entry are violated; the first one decides what the processor does.\n"
             "1. HOST-CR-003 (SDM 29.2.2): each host CR4 bit that IA32_VMX_CR4_FIXED0 fixes to 1 must be 1\n"
             "   gives VMfailValid(8)\n"
             "   HOST_CR4                           0x20\n"
             "   IA32_VMX_CR4_FIXED0                0x2000\n"
             "   wrong: HOST_CR4 bit 13 (VMXE) is 0\n"
             "   hint: host CR4 was copied before CR4.VMXE was set: read it after that\n"
             "2. GUEST-RFLAGS-001 (SDM 29.3.1.4): bits 63:22, 15, 5 and 3 of guest RFLAGS must be 0\n"
             "   gives exit 33, qualification 0\n"
             "   GUEST_RFLAGS                       0xffff00000000a000\n"
             "   wrong: GUEST_RFLAGS bits 63:48 are 1\n"
             "   wrong: GUEST_RFLAGS bit 15 is 1\n"
             "3. GUEST-RFLAGS-002 (SDM 29.3.1.4): bit 1 of guest RFLAGS must be 1\n"
             "   gives exit 33, qualification 0\n"
             "   GUEST_RFLAGS                       0xffff00000000a000\n"
             "   wrong: GUEST_RFLAGS bit 1 (always 1) is 0\n"
             "   hint: bit 1 of RFLAGS is 1 always: 2 is RFLAGS after a reset\n");

    // Long lines are wrapped, with nothing lost.
    setup_long(s);
    s->f.GUEST_TR_ACCESS_RIGHTS = 0x10000;
    setup_decode(s);
    clear(&t);
    vmx_explain_entry(&s->e, NULL, put, &t);
    for (const char *line = t.s; *line; line += strcspn(line, "\n") + 1)
        assert_in_range(strcspn(line, "\n"), 1, 100);
    assert_non_null(strstr(
        t.s, "TR is never unusable, not even of a guest that has loaded none: give it access rights 8BH,\n"
             "         base 0, limit FFFFH, as after a reset\n"));

    // What the processor found and the rows cannot: told first.
    struct vmx_check_failure x = {
        .number = 34, .outcome = VMX_OUTCOME_EXIT, .qualification = 2, .msr = {0x277, 0, 2}};
    x.check = &vmx_check_rows[vmx_check_row_count - 1], x.id = x.check->id;
    setup_long(s);
    setup_decode(s);
    clear(&t);
    vmx_explain_entry(&s->e, &x, put, &t);
    assert_non_null(strstr(t.s, "1 rule of VM entry is violated.\n1. MSRLOAD-007 (SDM 29.4): "));
    assert_non_null(strstr(t.s, "   gives exit 34, qualification 2\n"));
    assert_non_null(strstr(t.s, "   MSR_INDEX                          0x277\n"));
    free(t.s);
}

static void entry_json(void **state)
{
    struct setup *s = *state;
    struct text t = {0};
    setup_long(s);
    setup_decode(s);
    clear(&t);
    vmx_explain_entry_json(&s->e, NULL, put, &t);
    assert_string_equal(t.s, "\"violated\": [], \"violated_count\": 0");
    s->f.PIN_BASED_CONTROLS = 0x14;
    s->f.HOST_TR_SELECTOR = 0;
    setup_decode(s);
    clear(&t);
    vmx_explain_entry_json(&s->e, NULL, put, &t);
    assert_string_equal(
        t.s,
        "\"violated\": [{\"id\": \"CTL-PIN-001\", \"section\": \"29.2.1.1\", \"group\": \"controls\", "
        "\"outcome\": "
        "\"VMfailValid\", \"number\": 7, \"rule\": \"each pin-based control whose low capability bit is 1 "
        "must be 1\", "
        "\"fields\": {\"PIN_BASED_CONTROLS\": \"0x14\", \"IA32_VMX_TRUE_PINBASED_CTLS\": \"0xff00000016\"}, "
        "\"bits\": [{\"field\": \"PIN_BASED_CONTROLS\", \"bit\": 1, \"is\": 0, \"name\": \"reserved\"}], "
        "\"mask\": {\"PIN_BASED_CONTROLS\": \"0x2\"}, "
        "\"hint\": \"build the field as (wanted | low half of IA32_VMX_TRUE_PINBASED_CTLS) & its high "
        "half\"}, "
        "{\"id\": \"HOST-SEG-009\", \"section\": \"29.2.3\", \"group\": \"host\", \"outcome\": "
        "\"VMfailValid\", "
        "\"number\": 8, \"rule\": \"the host TR selector must not be 0\", \"fields\": {\"HOST_TR_SELECTOR\": "
        "\"0\"}, "
        "\"hint\": \"a host needs a task register: make a TSS and its descriptor, LTR, then write that "
        "selector\"}], "
        "\"violated_count\": 2");
    clear(&t);
    vmx_json_string("a\"b\\c\n\x80", put, &t);
    assert_string_equal(t.s, "\"a\\\"b\\\\c\\u000a\\u0080\"");
    free(t.s);
}

static void refusal(void **state)
{
    struct text t = {0};
    struct vmx_refused r = {.row = &vmx_refusal_rows[REFUSED_FIELD_ABSENT],
                            .instruction = "vmread",
                            .valid = true,
                            .value = {0x201A}};
    clear(&t);
    vmx_explain_refusal(&r, put, &t);
    assert_string_equal(
        t.s,
        "FIELD-004 (SDM 33.3): the field exists only on a processor that offers the control that gives it\n  "
        " meaning\n"
        "   gives VMfailValid(12)\n"
        "   ENCODING                           0x201a  EPTP\n"
        "   hint: ask the capability MSR for the control that the field belongs to before it is read or\n"
        "         written\n");
    clear(&t);
    vmx_explain_refusal_json(&r, put, &t);
    assert_string_equal(
        t.s, "\"id\": \"FIELD-004\", \"section\": \"33.3\", \"outcome\": \"VMfailValid\", \"number\": 12, "
             "\"rule\": "
             "\"the field exists only on a processor that offers the control that gives it meaning\", "
             "\"fields\": {\"ENCODING\": \"0x201a\"}, \"field\": \"EPTP\", \"hint\": \"ask the capability "
             "MSR for the "
             "control that the field belongs to before it is read or written\"");
    r = (struct vmx_refused){
        .row = &vmx_refusal_rows[REFUSED_VMXON_CR0_FIXED0], .bits = 0x20, .value = {0x80000011, 0x80000021}};
    clear(&t);
    vmx_explain_refusal_json(&r, put, &t);
    assert_non_null(strstr(t.s, "\"outcome\": \"#GP(0)\", \"rule\""));
    assert_non_null(strstr(t.s, "\"bits\": [{\"field\": \"CR0\", \"bit\": 5, \"is\": 0, \"name\": \"NE\"}], "
                                "\"mask\": {\"CR0\": \"0x20\"}"));
    free(t.s);
}

static int start(void **state)
{
    struct setup *s = calloc(1, sizeof *s);
    setup_once(s);
    *state = s;
    return 0;
}

static int stop(void **state)
{
    struct setup *s = *state;
    phys_free(&s->phys);
    free(s);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits),
        cmocka_unit_test(blamed_bits_are_to_blame),
        cmocka_unit_test(names),
        cmocka_unit_test(hints_of_controls),
        cmocka_unit_test(hints_of_host),
        cmocka_unit_test(hints_of_guest),
        cmocka_unit_test(hints_of_the_rest),
        cmocka_unit_test(hints_of_refusals),
        cmocka_unit_test(every_hint),
        cmocka_unit_test(entry_text),
        cmocka_unit_test(entry_json),
        cmocka_unit_test(refusal),
    };
    return cmocka_run_group_tests_name("explanations", tests, start, stop);
}

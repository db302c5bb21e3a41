// Each row of the VM-entry checks: a VMCS that passes, then one that violates exactly this row, or the
// smallest set of rows that must go with it (named). Expected ids and outcomes are from the SDM's wording,
// not from the rows.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/vmx_setup.h"

struct suite {
    struct setup s;
    bool tested[512]; // by index of the row
};

enum outcome { INVALID, FAIL4, FAIL5, FAIL26, FAIL7, FAIL8, EXIT33, EXIT33_PDPTE, EXIT33_NMI, EXIT33_LINK };
// clang-format off
static const struct { u8 outcome; u32 number; u64 qualification; } outcomes[] = {
    [INVALID] = {VMX_OUTCOME_FAIL_INVALID, 0, 0}, [FAIL4] = {VMX_OUTCOME_FAIL_VALID, 4, 0},
    [FAIL5] = {VMX_OUTCOME_FAIL_VALID, 5, 0},    [FAIL26] = {VMX_OUTCOME_FAIL_VALID, 26, 0},
    [FAIL7] = {VMX_OUTCOME_FAIL_VALID, 7, 0},    [FAIL8] = {VMX_OUTCOME_FAIL_VALID, 8, 0},
    [EXIT33] = {VMX_OUTCOME_EXIT, 33, 0},        [EXIT33_PDPTE] = {VMX_OUTCOME_EXIT, 33, 2},
    [EXIT33_NMI] = {VMX_OUTCOME_EXIT, 33, 3},    [EXIT33_LINK] = {VMX_OUTCOME_EXIT, 33, 4},
};
// clang-format on

static void violated_ids(struct setup *s, char *text, size_t size)
{
    struct vmx_check_failure found[64];
    unsigned n = vmx_doctor(&s->e, found, 64);
    size_t used = 0;
    text[0] = 0;
    for (unsigned i = 0; i < n && i < 64; i++)
        used +=
            (size_t)snprintf(text + used, used < size ? size - used : 0, "%s%s", i ? " " : "", found[i].id);
}

static void expect_pass(struct suite *t, int line, const char *what)
{
    char ids[2048];
    struct vmx_check_failure x;
    setup_decode(&t->s);
    violated_ids(&t->s, ids, sizeof ids);
    if (ids[0]) fail_msg("line %d: %s should pass, but violates %s", line, what, ids);
    if (!vmx_check_entry(&t->s.e, &x)) fail_msg("line %d: %s should pass, but %s fails", line, what, x.id);
}

static void expect_violation(struct suite *t, int line, const char *id, enum outcome o, const char *expected)
{
    char ids[2048];
    struct vmx_check_failure x;
    setup_decode(&t->s);
    violated_ids(&t->s, ids, sizeof ids);
    if (strcmp(ids, expected))
        fail_msg("line %d: %s: violated is \"%s\", expected \"%s\"", line, id, ids, expected);
    if (vmx_check_entry(&t->s.e, &x)) fail_msg("line %d: %s: the entry passes", line, id);
    if (strncmp(x.id, expected, strlen(x.id)) || strcmp(x.id, x.check->id))
        fail_msg("line %d: %s: reported first: %s", line, id, x.id);
    if (x.outcome != outcomes[o].outcome || x.number != outcomes[o].number ||
        x.qualification != outcomes[o].qualification)
        fail_msg("line %d: %s: outcome %u, number %u, qualification %llu", line, id, x.outcome, x.number,
                 (unsigned long long)x.qualification);
    for (unsigned n = 0; n < vmx_check_row_count; n++)
        if (!strcmp(vmx_check_rows[n].id, id)) {
            t->tested[n] = true;
            return;
        }
    fail_msg("line %d: no row %s", line, id);
}

// BAD: from the base (setup_...), do the statements; then exactly the rows `ids` are violated, `id` being the
// one on test.
#define BAD(id, base, outcome, ids, ...) \
    do { \
        setup_##base(&t->s); \
        expect_pass(t, __LINE__, #base); \
        __VA_ARGS__; \
        expect_violation(t, __LINE__, id, outcome, ids); \
    } while (0)
#define ONLY(id, base, outcome, ...) BAD(id, base, outcome, id, __VA_ARGS__)
#define GOOD(base, ...) \
    do { \
        setup_##base(&t->s); \
        __VA_ARGS__; \
        expect_pass(t, __LINE__, #base " with " #__VA_ARGS__); \
    } while (0)

static void passing_guests(void **state)
{
    struct suite *t = *state;
    GOOD(long, );
    GOOD(user, );
    GOOD(ldtr, );
    GOOD(flexible, );
    GOOD(protected, );
    GOOD(pae, );
    GOOD(pae_memory, );
    GOOD(host32, );
    GOOD(real, );
    GOOD(v86, );
}

static void basic(void **state)
{
    struct suite *t = *state;
    struct vmx_entry *e = &t->s.e;
    ONLY("BASIC-007", long, INVALID, e->revision |= 0x80000000);
    ONLY("BASIC-008", long, FAIL26, e->blocking = 2);
    GOOD(long, e->blocking = 1 | 8); // blocking by STI and by NMI do not matter
    ONLY("BASIC-009", long, FAIL4, e->launch_state = 1);
    ONLY("BASIC-010", long, FAIL5, e->launch = false);
    GOOD(long, e->launch = false; e->launch_state = 1);
    // MOV SS comes before the launch state; a wrong VMCS before both.
    BAD("BASIC-008", long, FAIL26, "BASIC-008 BASIC-009", e->blocking = 2; e->launch_state = 1);
    BAD("BASIC-007", long, INVALID, "BASIC-007 BASIC-008", e->blocking = 2; e->revision |= 0x80000000);
}

static void execution_controls(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    u64 *cap = &t->s.caps.ept_vpid;
    u8 *ram = t->s.phys.ram;
    ONLY("CTL-PIN-001", long, FAIL7, f->PIN_BASED_CONTROLS = 0x14);
    ONLY("CTL-PIN-002", long, FAIL7, f->PIN_BASED_CONTROLS |= 0x100);
    ONLY("CTL-PIN-002", long, FAIL7, f->PIN_BASED_CONTROLS |= 0x80000000);
    ONLY("CTL-PROC1-001", long, FAIL7, f->PRIMARY_PROC_BASED_CONTROLS &= ~2u);
    ONLY("CTL-PROC1-002", long, FAIL7, f->PRIMARY_PROC_BASED_CONTROLS |= 0x40000); // reserved
    // CR3 exiting: 0 and 1 are allowed with the TRUE MSRs
    GOOD(long, f->PRIMARY_PROC_BASED_CONTROLS |= 0x18000);
    ONLY("CTL-PROC2-001", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 24); // Intel PT
    GOOD(long, f->PRIMARY_PROC_BASED_CONTROLS &= 0x7FFFFFFF; f->SECONDARY_PROC_BASED_CONTROLS = 0xFFFFFFFF);
#define TERTIARY(value) f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 17, f->TERTIARY_PROC_BASED_CONTROLS = value
    GOOD(long, TERTIARY(0x80));
    ONLY("CTL-PROC3-001", long, FAIL7, TERTIARY(1)); // LOADIWKEY exiting
    ONLY("CTL-PROC3-001", long, FAIL7, TERTIARY(1ull << 63 | 0x80));
    ONLY("CTL-PROC3-001", long, FAIL7, TERTIARY(0x80); t->s.caps.allowed1[GROUP_PROC3] = 0);
    GOOD(long, f->TERTIARY_PROC_BASED_CONTROLS = UINT64_MAX);
    ONLY("CTL-CR3T-001", long, FAIL7, f->CR3_TARGET_COUNT = 5);
    ONLY("CTL-CR3T-001", long, FAIL7, f->CR3_TARGET_COUNT = 0x80000001);
    GOOD(long, f->CR3_TARGET_COUNT = 4);

#define IO_BITMAPS \
    f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 25, f->ADDRESS_OF_IO_BITMAP_A = 0xFFFFFFF000, \
                                               f->ADDRESS_OF_IO_BITMAP_B = 0x4000
    GOOD(long, IO_BITMAPS);
    ONLY("CTL-IOA-001", long, FAIL7, IO_BITMAPS; f->ADDRESS_OF_IO_BITMAP_A = 0x4800);
    ONLY("CTL-IOA-002", long, FAIL7, IO_BITMAPS; f->ADDRESS_OF_IO_BITMAP_A = 1ull << 40);
    ONLY("CTL-IOB-001", long, FAIL7, IO_BITMAPS; f->ADDRESS_OF_IO_BITMAP_B = 0x4001);
    ONLY("CTL-IOB-002", long, FAIL7, IO_BITMAPS; f->ADDRESS_OF_IO_BITMAP_B = 1ull << 63);
    GOOD(long, f->ADDRESS_OF_IO_BITMAP_A = f->ADDRESS_OF_IO_BITMAP_B = UINT64_MAX); // not in use
#define MSR_BITMAPS f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 28, f->ADDRESS_OF_MSR_BITMAPS = 0x4000
    GOOD(long, MSR_BITMAPS);
    ONLY("CTL-MSRBM-001", long, FAIL7, MSR_BITMAPS; f->ADDRESS_OF_MSR_BITMAPS = 0x4800);
    ONLY("CTL-MSRBM-002", long, FAIL7, MSR_BITMAPS; f->ADDRESS_OF_MSR_BITMAPS |= 1ull << 40);
    GOOD(long, f->ADDRESS_OF_MSR_BITMAPS = UINT64_MAX);
#define TPR_SHADOW \
    f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 21, f->VIRTUAL_APIC_ADDRESS = SETUP_VAPIC, \
                                               ram[SETUP_VAPIC + 0x80] = 0x4F
    GOOD(long, TPR_SHADOW; f->TPR_THRESHOLD = 4);
    GOOD(long, f->VIRTUAL_APIC_ADDRESS = UINT64_MAX; f->TPR_THRESHOLD = 0xFFFFFFFF);
    ONLY("CTL-VAPIC-001", long, FAIL7, TPR_SHADOW; f->VIRTUAL_APIC_ADDRESS |= 8);
    ONLY("CTL-VAPIC-002", long, FAIL7, TPR_SHADOW; f->VIRTUAL_APIC_ADDRESS |= 1ull << 51);
    ONLY("CTL-TPR-001", long, FAIL7, TPR_SHADOW; f->TPR_THRESHOLD = 0x14);
    ONLY("CTL-TPR-002", long, FAIL7, TPR_SHADOW; f->TPR_THRESHOLD = 5);
    GOOD(long, TPR_SHADOW; f->TPR_THRESHOLD = 5; f->SECONDARY_PROC_BASED_CONTROLS |= 1;
         f->APIC_ACCESS_ADDRESS = 0x4000);
#define DELIVERY TPR_SHADOW, f->SECONDARY_PROC_BASED_CONTROLS |= 0x200, f->PIN_BASED_CONTROLS |= 1
    GOOD(long, DELIVERY; f->TPR_THRESHOLD = 0xFFFFFFFF);
    ONLY("CTL-VID-001", long, FAIL7, DELIVERY; f->PIN_BASED_CONTROLS &= ~1u);
    ONLY("CTL-APIC-003", long, FAIL7, DELIVERY; f->PRIMARY_PROC_BASED_CONTROLS &= ~(1u << 21));
    GOOD(long, TPR_SHADOW; f->SECONDARY_PROC_BASED_CONTROLS |= 0x100);
    ONLY("CTL-APIC-002", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 0x100);
    GOOD(long, TPR_SHADOW; f->SECONDARY_PROC_BASED_CONTROLS |= 0x10);
    ONLY("CTL-APIC-001", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 0x10);
    ONLY("CTL-APIC-005", long, FAIL7, TPR_SHADOW; f->SECONDARY_PROC_BASED_CONTROLS |= 0x11);
#define ACCESSES f->SECONDARY_PROC_BASED_CONTROLS |= 1, f->APIC_ACCESS_ADDRESS = 0xFFFFFFF000
    GOOD(long, ACCESSES); // without a TPR shadow too
    ONLY("CTL-APICACC-001", long, FAIL7, ACCESSES; f->APIC_ACCESS_ADDRESS |= 0x10);
    ONLY("CTL-APICACC-002", long, FAIL7, ACCESSES; f->APIC_ACCESS_ADDRESS = 1ull << 40);
    GOOD(long, f->APIC_ACCESS_ADDRESS = UINT64_MAX);
#define POSTED \
    DELIVERY, f->PIN_BASED_CONTROLS |= 0x80, f->PRIMARY_VM_EXIT_CONTROLS |= 0x8000, \
        f->POSTED_INTERRUPT_NOTIFICATION_VECTOR = 0xF2, f->POSTED_INTERRUPT_DESCRIPTOR_ADDRESS = 0x4040
    GOOD(long, POSTED);
    GOOD(long, f->POSTED_INTERRUPT_NOTIFICATION_VECTOR = 0xFFFF;
         f->POSTED_INTERRUPT_DESCRIPTOR_ADDRESS = UINT64_MAX);
    ONLY("CTL-PI-001", long, FAIL7, POSTED; f->SECONDARY_PROC_BASED_CONTROLS &= ~0x200u);
    ONLY("CTL-PI-002", long, FAIL7, POSTED; f->PRIMARY_VM_EXIT_CONTROLS &= ~0x8000u);
    ONLY("CTL-PI-003", long, FAIL7, POSTED; f->POSTED_INTERRUPT_NOTIFICATION_VECTOR = 0x1F2);
    ONLY("CTL-PI-004", long, FAIL7, POSTED; f->POSTED_INTERRUPT_DESCRIPTOR_ADDRESS |= 0x20);
    ONLY("CTL-PI-005", long, FAIL7, POSTED; f->POSTED_INTERRUPT_DESCRIPTOR_ADDRESS = 1ull << 40);
#define IPIS \
    TPR_SHADOW, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 17, \
        f->TERTIARY_PROC_BASED_CONTROLS = 0x10, f->PID_POINTER_TABLE_ADDRESS = (1ull << 40) - 8 * 9, \
        f->LAST_PID_POINTER_INDEX = 8
    GOOD(long, IPIS);
    GOOD(long, f->PID_POINTER_TABLE_ADDRESS = UINT64_MAX);
    ONLY("CTL-APIC-004", long, FAIL7, IPIS; f->PRIMARY_PROC_BASED_CONTROLS &= ~(1u << 21));
    ONLY("CTL-IPIV-001", long, FAIL7, IPIS; f->PID_POINTER_TABLE_ADDRESS -= 4);
    BAD("CTL-IPIV-002", long, FAIL7, "CTL-IPIV-002 CTL-IPIV-003", IPIS;
        f->PID_POINTER_TABLE_ADDRESS = 1ull << 40);
    ONLY("CTL-IPIV-003", long, FAIL7, IPIS; f->LAST_PID_POINTER_INDEX = 9);
#define TIMER \
    TPR_SHADOW, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 17, f->SECONDARY_PROC_BASED_CONTROLS |= 0x200, \
        f->PIN_BASED_CONTROLS |= 1, f->TERTIARY_PROC_BASED_CONTROLS = 0x100, f->VIRTUAL_TIMER_VECTOR = 0xFF
    GOOD(long, TIMER);
    GOOD(long, f->VIRTUAL_TIMER_VECTOR = 0xFFFF);
    ONLY("CTL-TIMER-001", long, FAIL7, TIMER; f->SECONDARY_PROC_BASED_CONTROLS &= ~0x200u);
    ONLY("CTL-TIMER-002", long, FAIL7, TIMER; f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 12);
    ONLY("CTL-TIMER-003", long, FAIL7, TIMER; f->VIRTUAL_TIMER_VECTOR = 0x161);
    ONLY("CTL-TIMER-003", long, FAIL7, TIMER; f->VIRTUAL_TIMER_VECTOR = 0x8061);
    ONLY("CTL-NMI-001", long, FAIL7, f->PIN_BASED_CONTROLS |= 0x20);
    GOOD(long, f->PIN_BASED_CONTROLS |= 0x28);
    ONLY("CTL-NMI-002", long, FAIL7, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 22; f->PIN_BASED_CONTROLS |= 8);
    GOOD(long, f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 22; f->PIN_BASED_CONTROLS |= 0x28);
    ONLY("CTL-VPID-001", long, FAIL7, f->VPID = 0);
    GOOD(long, f->VPID = 0; f->SECONDARY_PROC_BASED_CONTROLS = SETUP_EPT);

    GOOD(long, f->EPTP = 0x100018); // uncacheable
    ONLY("CTL-EPT-001", long, FAIL7, f->EPTP = 0x100019);
    ONLY("CTL-EPT-001", long, FAIL7, f->EPTP = 0x10001F);
    ONLY("CTL-EPT-001", long, FAIL7, *cap &= ~(1ull << 14));
    ONLY("CTL-EPT-001", long, FAIL7, *cap &= ~(1ull << 8); f->EPTP = 0x100018);
    ONLY("CTL-EPT-002", long, FAIL7, f->EPTP = 0x100016);
    ONLY("CTL-EPT-002", long, FAIL7, *cap &= ~(1ull << 7); f->EPTP = 0x100026);
    ONLY("CTL-EPT-002", long, FAIL7, f->EPTP = 0x10002E);
    GOOD(long, f->EPTP = 0x100026);
    ONLY("CTL-EPT-002", long, FAIL7, *cap &= ~(1ull << 6));
    GOOD(long, f->EPTP |= 0x40);
    ONLY("CTL-EPT-003", long, FAIL7, f->EPTP |= 0x40; *cap &= ~(1ull << 21));
    ONLY("CTL-EPT-004", long, FAIL7, f->EPTP |= 0x80);
    ONLY("CTL-EPT-005", long, FAIL7, f->EPTP |= 0x100);
    ONLY("CTL-EPT-005", long, FAIL7, f->EPTP |= 0x800);
    ONLY("CTL-EPT-006", long, FAIL7, f->EPTP |= 1ull << 40);
    GOOD(protected, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID; f->EPTP = UINT64_MAX);
    ONLY("CTL-EPTDEP-002", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | SETUP_UNRESTRICTED);

#define EPT_PAGE(bit, field, what) \
    GOOD(long, f->SECONDARY_PROC_BASED_CONTROLS |= 1u << bit; f->field = 0xFFFFFFF000); \
    GOOD(long, f->field = UINT64_MAX); \
    ONLY(what "-001", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 1u << bit; f->field = 0x4001); \
    ONLY(what "-001", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 1u << bit; f->field = 0x4800); \
    ONLY(what "-002", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 1u << bit; f->field = 1ull << 40); \
    ONLY(what "-002", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= 1u << bit; f->field = 1ull << 63)
    EPT_PAGE(17, PML_ADDRESS, "CTL-PML");
    EPT_PAGE(18, VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, "CTL-VE");
    EPT_PAGE(23, SPPTP, "CTL-SPP");
#define WITH_PROC3(bit) f->PRIMARY_PROC_BASED_CONTROLS |= 1 << 17, f->TERTIARY_PROC_BASED_CONTROLS = 1 << bit
    GOOD(long, WITH_PROC3(1); f->HLATP = 0xFFFFFFF018;
         f->HLAT_PREFIX_SIZE = 0xFFFF); // the size is not checked
    GOOD(long, f->HLATP = UINT64_MAX);
    for (unsigned bit = 0; bit < 3; bit++)
        ONLY("CTL-HLAT-001", long, FAIL7, WITH_PROC3(1); f->HLATP = 1u << bit);
    for (unsigned bit = 5; bit < 12; bit++)
        ONLY("CTL-HLAT-002", long, FAIL7, WITH_PROC3(1); f->HLATP = 1u << bit);
    ONLY("CTL-HLAT-003", long, FAIL7, WITH_PROC3(1); f->HLATP = 1ull << 40);
    ONLY("CTL-HLAT-003", long, FAIL7, WITH_PROC3(1); f->HLATP = 1ull << 63);
    GOOD(long, WITH_PROC3(2));
    GOOD(long, WITH_PROC3(3)); // alone it has no effect
    ONLY("CTL-EPTDEP-007", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID; WITH_PROC3(1));
    ONLY("CTL-EPTDEP-008", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID; WITH_PROC3(2));
    ONLY("CTL-EPTDEP-009", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID; WITH_PROC3(3));
    ONLY("CTL-EPTDEP-001", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | 1 << 17);
    ONLY("CTL-EPTDEP-003", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | 1 << 22);
    ONLY("CTL-EPTDEP-004", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | 1 << 23);
    GOOD(long, f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 22);
    GOOD(long, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | 1 << 18); // #VE without EPT is legal, and idle

    GOOD(long, f->SECONDARY_PROC_BASED_CONTROLS |= SETUP_FUNCTIONS; f->VM_FUNCTION_CONTROLS = 1;
         f->EPTP_LIST_ADDRESS = 0x4000);
    ONLY("CTL-VMFUNC-001", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS |= SETUP_FUNCTIONS;
         f->VM_FUNCTION_CONTROLS = 1ull << 63);
    GOOD(long, f->VM_FUNCTION_CONTROLS = UINT64_MAX; f->EPTP_LIST_ADDRESS = UINT64_MAX);
    ONLY("CTL-VMFUNC-002", long, FAIL7, f->SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID | SETUP_FUNCTIONS;
         f->VM_FUNCTION_CONTROLS = 1);
#define SCALING(m) f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 25, f->TSC_MULTIPLIER = m
    GOOD(long, SCALING(1));
    GOOD(long, SCALING(1ull << 63));
    ONLY("CTL-TSC-001", long, FAIL7, SCALING(0)); // use TSC offsetting does not matter
    ONLY("CTL-TSC-001", long, FAIL7, SCALING(0); f->PRIMARY_PROC_BASED_CONTROLS |= PROC_USE_TSC_OFFSETTING);
#define SHADOWING \
    f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 14, f->VMREAD_BITMAP_ADDRESS = 0x4000, \
                                                 f->VMWRITE_BITMAP_ADDRESS = 0x5000
    GOOD(long, SHADOWING);
    GOOD(long, f->VMREAD_BITMAP_ADDRESS = f->VMWRITE_BITMAP_ADDRESS = UINT64_MAX);
    ONLY("CTL-VMRD-001", long, FAIL7, SHADOWING; f->VMREAD_BITMAP_ADDRESS |= 8);
    ONLY("CTL-VMRD-002", long, FAIL7, SHADOWING; f->VMREAD_BITMAP_ADDRESS |= 1ull << 40);
    ONLY("CTL-VMWR-001", long, FAIL7, SHADOWING; f->VMWRITE_BITMAP_ADDRESS |= 0x800);
    ONLY("CTL-VMWR-002", long, FAIL7, SHADOWING; f->VMWRITE_BITMAP_ADDRESS |= 1ull << 63);
#define EPTP_LIST f->SECONDARY_PROC_BASED_CONTROLS |= SETUP_FUNCTIONS, f->VM_FUNCTION_CONTROLS = 1
    ONLY("CTL-EPTPL-001", long, FAIL7, EPTP_LIST; f->EPTP_LIST_ADDRESS = 0x4008);
    ONLY("CTL-EPTPL-002", long, FAIL7, EPTP_LIST; f->EPTP_LIST_ADDRESS = 1ull << 40);
}

static void exit_controls(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("CTL-EXIT-001", long, FAIL7, f->PRIMARY_VM_EXIT_CONTROLS &= ~1u);
    ONLY("CTL-EXIT-002", long, FAIL7, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 12); // load IA32_PERF_GLOBAL_CTRL
    ONLY("CTL-EXIT-002", long, FAIL7, f->PRIMARY_VM_EXIT_CONTROLS |= 0x08000000);
#define EXIT_2(value) f->PRIMARY_VM_EXIT_CONTROLS |= 1u << 31, f->SECONDARY_VM_EXIT_CONTROLS = value
    GOOD(long, EXIT_2(4));
    ONLY("CTL-EXIT-003", long, FAIL7, EXIT_2(1)); // save FRED
    ONLY("CTL-EXIT-003", long, FAIL7, EXIT_2(1ull << 40 | 4));
    ONLY("CTL-EXIT-003", long, FAIL7, EXIT_2(4); t->s.caps.allowed1[GROUP_EXIT2] = 0);
    GOOD(long, f->SECONDARY_VM_EXIT_CONTROLS = UINT64_MAX);
    GOOD(long, f->PRIMARY_VM_EXIT_CONTROLS &= ~4u); // save debug controls: may be 0 with the TRUE MSR
    ONLY("CTL-EXIT-004", long, FAIL7, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 22);
    GOOD(long, f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 22; f->PIN_BASED_CONTROLS |= 0x40);
#define LISTS(which, low, address, beyond) \
    ONLY(low, long, FAIL7, f->which##_COUNT = 1; f->which##_ADDRESS = SETUP_MSRS + 8); \
    BAD(address, long, FAIL7, address " " beyond, f->which##_COUNT = 1; f->which##_ADDRESS = 1ull << 40); \
    BAD(address, long, FAIL7, address " " beyond, f->which##_COUNT = 2; f->which##_ADDRESS = -16ull); \
    ONLY(beyond, long, FAIL7, f->which##_COUNT = 2; f->which##_ADDRESS = (1ull << 40) - 16); \
    ONLY(beyond, long, FAIL7, f->which##_COUNT = 0x10000001; f->which##_ADDRESS = (1ull << 40) - 32); \
    GOOD(long, f->which##_COUNT = 1; f->which##_ADDRESS = (1ull << 40) - 16); \
    GOOD(long, f->which##_ADDRESS = UINT64_MAX)
    LISTS(VM_EXIT_MSR_STORE, "CTL-EXIT-005", "CTL-EXIT-006", "CTL-EXIT-007");
    LISTS(VM_EXIT_MSR_LOAD, "CTL-EXIT-008", "CTL-EXIT-009", "CTL-EXIT-010");
    LISTS(VM_ENTRY_MSR_LOAD, "CTL-ENTRY-003", "CTL-ENTRY-004", "CTL-ENTRY-005");
}

static void entry_controls(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("CTL-ENTRY-001", long, FAIL7, f->VM_ENTRY_CONTROLS &= ~1u);
    ONLY("CTL-ENTRY-002", long, FAIL7, f->VM_ENTRY_CONTROLS |= 1 << 13); // load IA32_PERF_GLOBAL_CTRL
    GOOD(long, f->VM_ENTRY_CONTROLS &= ~4u);                             // load debug controls
    ONLY("CTL-ENTRY-006", long, FAIL7, f->VM_ENTRY_CONTROLS |= 1 << 10);
    ONLY("CTL-ENTRY-007", long, FAIL7, f->VM_ENTRY_CONTROLS |= 1 << 11);
    // Both bits at once are against the two rows before as well.
    BAD("CTL-ENTRY-008", long, FAIL7, "CTL-ENTRY-006 CTL-ENTRY-007 CTL-ENTRY-008",
        f->VM_ENTRY_CONTROLS |= 3 << 10);
}

static void injection(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    u64 *basic = &t->s.caps.basic;
#define EVENT f->INJECTED_EVENT_IDENTIFICATION
    GOOD(long, EVENT = 0x7FFFFFFF); // not valid
    GOOD(long, EVENT = 0x130);
    GOOD(long, EVENT = 0x80000202; t->s.caps.allowed1[GROUP_PROC] &= ~(1ull << 27));
    GOOD(long, EVENT = 0x80000030; f->GUEST_RFLAGS |= 0x200);
    GOOD(long, EVENT = 0x80000202);
    GOOD(long, EVENT = 0x80000700);
    ONLY("CTL-INJ-001", long, FAIL7, EVENT = 0x80000130);
    ONLY("CTL-INJ-002", long, FAIL7, EVENT = 0x80000700; t->s.caps.allowed1[GROUP_PROC] &= ~(1ull << 27));
    ONLY("CTL-INJ-003", long, FAIL7, EVENT = 0x80000203);
    ONLY("CTL-INJ-004", long, FAIL7, EVENT = 0x80000320);
    ONLY("CTL-INJ-005", long, FAIL7, EVENT = 0x80000701);
    static const u8 with_error[] = {8, 10, 11, 12, 13, 14, 17};
    for (unsigned i = 0; i < ARRAY_LEN(with_error); i++) {
        u8 vector = with_error[i];
        GOOD(long, EVENT = 0x80000B00 | vector);
        ONLY("CTL-INJ-007", long, FAIL7, EVENT = 0x80000300 | vector);
        ONLY("CTL-INJ-009", real, FAIL7, EVENT = 0x80000B00 | vector);
        GOOD(real, EVENT = 0x80000300 | vector);
    }
    GOOD(long, EVENT = 0x8000030D; *basic |= 1ull << 56);
    ONLY("CTL-INJ-008", long, FAIL7, EVENT = 0x80000830; f->GUEST_RFLAGS |= 0x200);
    ONLY("CTL-INJ-008", long, FAIL7, EVENT = 0x80000A02);
    ONLY("CTL-INJ-008", long, FAIL7, EVENT = 0x80000C80; f->VM_ENTRY_INSTRUCTION_LENGTH = 2;
         *basic |= 1ull << 56);
    for (u8 vector = 0; vector < 32; vector++) {
        if (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17) continue;
        ONLY("CTL-INJ-010", long, FAIL7, EVENT = 0x80000B00 | vector);
        GOOD(long, EVENT = 0x80000300 | vector);
        GOOD(long, EVENT = 0x80000B00 | vector; *basic |= 1ull << 56);
    }
    ONLY("CTL-INJ-011", long, FAIL7, EVENT = 0x80002202; *basic |= 1ull << 58);
    GOOD(long, EVENT = 0x80002306; *basic |= 1ull << 58);
    ONLY("CTL-INJ-012", long, FAIL7, EVENT = 0x80002306);
    ONLY("CTL-INJ-013", long, FAIL7, EVENT = 0x80004306);
    ONLY("CTL-INJ-013", long, FAIL7, EVENT = 0xC0000306);
    ONLY("CTL-INJ-014", long, FAIL7, EVENT = 0x80001306);
    ONLY("CTL-INJ-015", long, FAIL7, EVENT = 0x80000B0E; f->INJECTED_EVENT_ERROR_CODE = 0x10000);
    GOOD(long, EVENT = 0x80000B0E; f->INJECTED_EVENT_ERROR_CODE = 0xFFFF);
    GOOD(long, EVENT = 0x80000306; f->INJECTED_EVENT_ERROR_CODE = 0xFFFFFFFF);
    static const u32 software[] = {0x80000480, 0x80000501, 0x80000603};
    for (unsigned i = 0; i < ARRAY_LEN(software); i++) {
        u32 event = software[i];
        GOOD(long, EVENT = event; f->VM_ENTRY_INSTRUCTION_LENGTH = 15);
        GOOD(long, EVENT = event); // length 0: IA32_VMX_MISC bit 30
        ONLY("CTL-INJ-016", long, FAIL7, EVENT = event; f->VM_ENTRY_INSTRUCTION_LENGTH = 16);
        ONLY("CTL-INJ-016", long, FAIL7, EVENT = event; f->VM_ENTRY_INSTRUCTION_LENGTH = 0x80000001);
        ONLY("CTL-INJ-017", long, FAIL7, EVENT = event; t->s.caps.misc &= ~(1ull << 30));
    }
    GOOD(long, EVENT = 0x80000306; f->VM_ENTRY_INSTRUCTION_LENGTH = 16);
}

static void host_registers(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("HOST-CR-001", long, FAIL8, f->HOST_CR0 &= ~0x20ull);
    ONLY("HOST-CR-001", long, FAIL8, f->HOST_CR0 &= ~1ull);
    // "unrestricted guest" is not about the host
    ONLY("HOST-CR-001", flexible, FAIL8, f->HOST_CR0 &= ~0x80000000ull);
    ONLY("HOST-CR-002", long, FAIL8, f->HOST_CR0 |= 1ull << 32);
    GOOD(long, f->HOST_CR0 |= 0x60000000; t->s.caps.cr0_fixed1 &= ~0x60000000ull);
    GOOD(long, t->s.caps.cr0_fixed0 |= 0x60000000);
    ONLY("HOST-CR-003", long, FAIL8, f->HOST_CR4 &= ~0x2000ull);
    ONLY("HOST-CR-004", long, FAIL8, f->HOST_CR4 |= 1 << 23);
    GOOD(long, f->HOST_CR3 = 0xFFFFFFFFFF);
    ONLY("HOST-CR-006", long, FAIL8, f->HOST_CR3 |= 1ull << 40);
    ONLY("HOST-CR-006", long, FAIL8, f->HOST_CR3 |= 1ull << 63; f->HOST_CR4 |= 1 << 17);
    ONLY("HOST-MSR-001", long, FAIL8, f->HOST_IA32_SYSENTER_ESP = 0x800000000000);
    ONLY("HOST-MSR-002", long, FAIL8, f->HOST_IA32_SYSENTER_EIP = 0xFFFF7FFFFFFFFFFF);
    GOOD(long, f->HOST_IA32_SYSENTER_ESP = 0x800000000000; t->s.e.linear_bits = 57);
#define HOST_PKRS(value) f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 29, f->HOST_IA32_PKRS = value
    GOOD(long, HOST_PKRS(0xFFFFFFFF));
    GOOD(long, f->HOST_IA32_PKRS = UINT64_MAX);
    ONLY("HOST-MSR-011", long, FAIL8, HOST_PKRS(1ull << 32));
    ONLY("HOST-MSR-011", long, FAIL8, HOST_PKRS(1ull << 63));
#define HOST_SPEC_CTRL(value) \
    f->PRIMARY_VM_EXIT_CONTROLS |= 1u << 31, f->SECONDARY_VM_EXIT_CONTROLS = 4, f->HOST_IA32_SPEC_CTRL = value
    GOOD(long, HOST_SPEC_CTRL(3));
    GOOD(long, f->HOST_IA32_SPEC_CTRL = UINT64_MAX);
    GOOD(long, f->HOST_IA32_SPEC_CTRL = UINT64_MAX; f->SECONDARY_VM_EXIT_CONTROLS = 4); // not activated
    ONLY("HOST-MSR-020", long, FAIL8, HOST_SPEC_CTRL(4));
    GOOD(long, HOST_SPEC_CTRL(4); t->s.features.bits[FEATURE_SSBD / 64] |= BIT(FEATURE_SSBD % 64));
    ONLY("HOST-MSR-020", long, FAIL8, HOST_SPEC_CTRL(1ull << 32));
#define HOST_PAT(value) f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 19, f->HOST_IA32_PAT = value
    GOOD(long, HOST_PAT(0x0007040600070605));
    GOOD(long, HOST_PAT(0x0101040506070000));
    GOOD(long, f->HOST_IA32_PAT = UINT64_MAX);
    for (unsigned i = 0; i < 8; i++) {
        static const u8 bad[] = {2, 3, 8, 0x10, 0x26, 0x40, 0x84};
        for (unsigned j = 0; j < ARRAY_LEN(bad); j++)
            ONLY("HOST-MSR-004", long, FAIL8, HOST_PAT((u64)bad[j] << 8 * i));
    }
#define HOST_EFER(value) f->PRIMARY_VM_EXIT_CONTROLS |= 1 << 21, f->HOST_IA32_EFER = value
    GOOD(long, HOST_EFER(0xD01));
    GOOD(long, f->HOST_IA32_EFER = UINT64_MAX);
    ONLY("HOST-MSR-005", long, FAIL8, HOST_EFER(0x1500));
    ONLY("HOST-MSR-005", long, FAIL8, HOST_EFER(0xD00);
         t->s.features.bits[FEATURE_NX / 64] &= ~BIT(FEATURE_NX % 64));
    // "XD Bit Disable" of IA32_MISC_ENABLE
    ONLY("HOST-MSR-005", long, FAIL8, HOST_EFER(0xD00); t->s.e.misc_enable = BIT(34));
    ONLY("HOST-MSR-006", long, FAIL8, HOST_EFER(0x100));
    ONLY("HOST-MSR-007", long, FAIL8, HOST_EFER(0x400));
    ONLY("HOST-MSR-006", host32, FAIL8, HOST_EFER(0x400));
    ONLY("HOST-MSR-007", host32, FAIL8, HOST_EFER(0x100));
}

static void host_segments(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("HOST-SEG-001", long, FAIL8, f->HOST_CS_SELECTOR |= 3);
    ONLY("HOST-SEG-001", long, FAIL8, f->HOST_CS_SELECTOR |= 4);
    ONLY("HOST-SEG-002", long, FAIL8, f->HOST_SS_SELECTOR |= 1);
    ONLY("HOST-SEG-003", long, FAIL8, f->HOST_DS_SELECTOR |= 2);
    ONLY("HOST-SEG-004", long, FAIL8, f->HOST_ES_SELECTOR |= 4);
    ONLY("HOST-SEG-005", long, FAIL8, f->HOST_FS_SELECTOR |= 1);
    ONLY("HOST-SEG-006", long, FAIL8, f->HOST_GS_SELECTOR |= 4);
    ONLY("HOST-SEG-007", long, FAIL8, f->HOST_TR_SELECTOR |= 4);
    ONLY("HOST-SEG-008", long, FAIL8, f->HOST_CS_SELECTOR = 0);
    ONLY("HOST-SEG-009", long, FAIL8, f->HOST_TR_SELECTOR = 0);
    GOOD(long, f->HOST_SS_SELECTOR = f->HOST_DS_SELECTOR = f->HOST_ES_SELECTOR = f->HOST_FS_SELECTOR =
                   f->HOST_GS_SELECTOR = 0);
    ONLY("HOST-SEG-010", host32, FAIL8, f->HOST_SS_SELECTOR = 0);
    ONLY("HOST-SEG-011", long, FAIL8, f->HOST_FS_BASE = 1ull << 47);
    ONLY("HOST-SEG-012", long, FAIL8, f->HOST_GS_BASE = 1ull << 63);
    ONLY("HOST-SEG-013", long, FAIL8, f->HOST_GDTR_BASE = 1ull << 48);
    ONLY("HOST-SEG-014", long, FAIL8, f->HOST_IDTR_BASE = 0xFFFF000000000000);
    ONLY("HOST-SEG-015", long, FAIL8, f->HOST_TR_BASE = 0x7FFF800000000000);
}

static void host_address_space(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    // A 64-bit guest needs a 64-bit host, which an entry from outside IA-32e mode cannot have: one of the two
    // goes along.
    BAD("HOST-AS-001", host32, FAIL8, "HOST-AS-001 HOST-AS-004", f->VM_ENTRY_CONTROLS |= 0x200;
        f->GUEST_CR4 = 0x2020);
    BAD("HOST-AS-001", long, FAIL8, "HOST-AS-001 HOST-AS-002", t->s.e.efer = 0x800);
    ONLY("HOST-AS-002", host32, FAIL8, f->PRIMARY_VM_EXIT_CONTROLS |= 0x200);
    ONLY("HOST-AS-003", host32, FAIL8, t->s.e.efer = 0xD01);
    // IA-32e mode guest with a 32-bit host: the entry is from inside or from outside IA-32e mode, and wrong
    // either way.
    BAD("HOST-AS-004", host32, FAIL8, "HOST-AS-003 HOST-AS-004", t->s.e.efer = 0xD01;
        f->VM_ENTRY_CONTROLS |= 0x200; f->GUEST_CR4 = 0x2020);
    ONLY("HOST-AS-005", host32, FAIL8, f->HOST_CR4 |= 1 << 17);
    GOOD(long, f->HOST_CR4 |= 1 << 17);
    ONLY("HOST-AS-007", host32, FAIL8, f->HOST_RIP |= 1ull << 32);
    ONLY("HOST-AS-010", long, FAIL8, f->HOST_CR4 &= ~0x20ull);
    GOOD(host32, f->HOST_CR4 &= ~0x20ull);
    ONLY("HOST-AS-011", long, FAIL8, f->HOST_RIP = 0x800000000000);
    ONLY("HOST-AS-011", long, FAIL8, f->HOST_RIP = 0x800000000000; t->s.e.linear_bits = 57);
    GOOD(long, f->HOST_RIP = 0x800000000000; f->HOST_CR4 |= 0x1000; t->s.caps.cr4_fixed1 |= 0x1000;
         t->s.e.linear_bits = 57);
}

static void guest_registers(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("GUEST-CR-001", long, EXIT33, f->GUEST_CR0 &= ~0x20ull);
    ONLY("GUEST-CR-001", protected, EXIT33, f->GUEST_CR0 &= ~0x80000000ull);
    ONLY("GUEST-CR-001", real, EXIT33, f->GUEST_CR0 &= ~0x20ull); // NE stays fixed for an unrestricted guest
    GOOD(flexible, f->VM_ENTRY_CONTROLS &= ~0x200u; f->GUEST_CR0 &= ~0x80000000ull; f->GUEST_RIP = 0);
    ONLY("GUEST-CR-002", long, EXIT33, f->GUEST_CR0 |= 1ull << 32);
    GOOD(long, f->GUEST_CR0 |= 0x60000000; t->s.caps.cr0_fixed1 &= ~0x60000000ull);
    ONLY("GUEST-CR-003", real, EXIT33, f->GUEST_CR0 |= 0x80000000ull);
    ONLY("GUEST-CR-004", long, EXIT33, f->GUEST_CR4 &= ~0x2000ull);
    ONLY("GUEST-CR-005", long, EXIT33, f->GUEST_CR4 |= 1 << 23);
    ONLY("GUEST-CR-005", long, EXIT33, f->GUEST_CR4 |= 1ull << 32);
    ONLY("GUEST-CR-007", flexible, EXIT33, f->GUEST_CR0 &= ~0x80000000ull);
    ONLY("GUEST-CR-008", long, EXIT33, f->GUEST_CR4 &= ~0x20ull);
    ONLY("GUEST-CR-009", protected, EXIT33, f->GUEST_CR4 |= 1 << 17);
    GOOD(long, f->GUEST_CR4 |= 1 << 17);
    ONLY("GUEST-CR-011", long, EXIT33, f->GUEST_CR3 |= 1ull << 40);
    ONLY("GUEST-CR-011", protected, EXIT33, f->GUEST_CR3 |= 1ull << 63);
    GOOD(protected, f->GUEST_CR3 |= 1ull << 39);
    ONLY("GUEST-DR-001", long, EXIT33, f->GUEST_DR7 |= 1ull << 32);
    GOOD(long, f->GUEST_DR7 = UINT64_MAX; f->VM_ENTRY_CONTROLS &= ~4u);
    ONLY("GUEST-MSR-001", long, EXIT33, f->GUEST_IA32_DEBUGCTL = 8);
    ONLY("GUEST-MSR-001", long, EXIT33, f->GUEST_IA32_DEBUGCTL = 1ull << 63);
    GOOD(long, f->GUEST_IA32_DEBUGCTL = 3);
    GOOD(long, f->GUEST_IA32_DEBUGCTL = UINT64_MAX; f->VM_ENTRY_CONTROLS &= ~4u);
    ONLY("GUEST-MSR-002", long, EXIT33, f->GUEST_IA32_SYSENTER_ESP = 1ull << 47);
    ONLY("GUEST-MSR-003", real, EXIT33, f->GUEST_IA32_SYSENTER_EIP = 1ull << 48);
#define GUEST_PKRS(value) f->VM_ENTRY_CONTROLS |= 1 << 22, f->GUEST_IA32_PKRS = value
    GOOD(long, GUEST_PKRS(0xFFFFFFFF));
    GOOD(long, f->GUEST_IA32_PKRS = UINT64_MAX);
    ONLY("GUEST-MSR-017", long, EXIT33, GUEST_PKRS(1ull << 32));
    ONLY("GUEST-MSR-017", long, EXIT33, GUEST_PKRS(1ull << 63));
#define GUEST_SPEC_CTRL(value) f->VM_ENTRY_CONTROLS |= 1 << 24, f->GUEST_IA32_SPEC_CTRL = value
    GOOD(long, GUEST_SPEC_CTRL(3));
    GOOD(long, f->GUEST_IA32_SPEC_CTRL = UINT64_MAX);
    ONLY("GUEST-MSR-027", long, EXIT33, GUEST_SPEC_CTRL(4));
    GOOD(long, GUEST_SPEC_CTRL(0x400);
         t->s.features.bits[FEATURE_BHI_CTRL / 64] |= BIT(FEATURE_BHI_CTRL % 64));
    ONLY("GUEST-MSR-027", long, EXIT33, GUEST_SPEC_CTRL(1ull << 63));
#define GUEST_PAT(value) f->VM_ENTRY_CONTROLS |= 1 << 14, f->GUEST_IA32_PAT = value
    GOOD(long, GUEST_PAT(0x0706050401000007));
    GOOD(long, f->GUEST_IA32_PAT = UINT64_MAX);
    ONLY("GUEST-MSR-009", long, EXIT33, GUEST_PAT(0x0007040600070402));
    ONLY("GUEST-MSR-009", long, EXIT33, GUEST_PAT(0x0300000000000000));
#define GUEST_EFER(value) f->VM_ENTRY_CONTROLS |= 1 << 15, f->GUEST_IA32_EFER = value
    GOOD(long, GUEST_EFER(0xD01));
    GOOD(long, f->GUEST_IA32_EFER = UINT64_MAX);
    GOOD(protected, GUEST_EFER(0x801));
    GOOD(real, GUEST_EFER(0x100)); // LME without LMA: paging is off
    ONLY("GUEST-MSR-010", long, EXIT33, GUEST_EFER(0x4500));
    // the XD bit disabled: NXE is reserved
    ONLY("GUEST-MSR-010", long, EXIT33, GUEST_EFER(0xD00); t->s.e.misc_enable = BIT(34));
    ONLY("GUEST-MSR-011", protected, EXIT33, GUEST_EFER(0x500));
    ONLY("GUEST-MSR-012", long, EXIT33, GUEST_EFER(0x400));
    ONLY("GUEST-MSR-012", protected, EXIT33, GUEST_EFER(0x100));
    // LMA = 0 for an IA-32e mode guest, paging on, LME = 1: both rows name it.
    BAD("GUEST-MSR-011", long, EXIT33, "GUEST-MSR-011 GUEST-MSR-012", GUEST_EFER(0x100));
}

#define RIGHTS(s)   f->GUEST_##s##_ACCESS_RIGHTS
#define SELECTOR(s) f->GUEST_##s##_SELECTOR
#define BASE(s)     f->GUEST_##s##_BASE
#define LIMIT(s)    f->GUEST_##s##_LIMIT

static void guest_selectors_and_bases(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("GUEST-SEG-001", long, EXIT33, SELECTOR(TR) |= 4);
    ONLY("GUEST-SEG-002", ldtr, EXIT33, SELECTOR(LDTR) |= 4);
    GOOD(long, SELECTOR(LDTR) = 4); // unusable
    ONLY("GUEST-SEG-003", long, EXIT33, SELECTOR(CS) |= 3);
    GOOD(flexible, SELECTOR(CS) |= 3);
    ONLY("GUEST-SEG-004", v86, EXIT33, BASE(CS) += 0x10);
    ONLY("GUEST-SEG-005", v86, EXIT33, BASE(SS) = 0);
    ONLY("GUEST-SEG-006", v86, EXIT33, BASE(DS) |= 1);
    ONLY("GUEST-SEG-007", v86, EXIT33, SELECTOR(ES)++);
    ONLY("GUEST-SEG-008", v86, EXIT33, BASE(FS) -= 0x10);
    ONLY("GUEST-SEG-009", v86, EXIT33, BASE(GS) = 0xFFF00);
    ONLY("GUEST-SEG-010", long, EXIT33, BASE(TR) = 1ull << 47);
    ONLY("GUEST-SEG-011", long, EXIT33, BASE(FS) = 1ull << 47);
    ONLY("GUEST-SEG-011", long, EXIT33, BASE(FS) = 1ull << 47; RIGHTS(FS) = 0x10000); // unusable as well
    BAD("GUEST-SEG-011", v86, EXIT33, "GUEST-SEG-008 GUEST-SEG-011", BASE(FS) |= 1ull << 47);
    ONLY("GUEST-SEG-012", long, EXIT33, BASE(GS) = 1ull << 63);
    GOOD(long, BASE(FS) = 0xFFFF800000000000; BASE(GS) = 0x7FFFFFFFFFFF);
    ONLY("GUEST-SEG-013", ldtr, EXIT33, BASE(LDTR) = 1ull << 47);
    GOOD(long, BASE(LDTR) = 1ull << 47);
    ONLY("GUEST-SEG-014", long, EXIT33, BASE(CS) = 1ull << 32);
    ONLY("GUEST-SEG-015", long, EXIT33, BASE(SS) = 1ull << 32);
    ONLY("GUEST-SEG-016", long, EXIT33, BASE(DS) = 1ull << 63);
    ONLY("GUEST-SEG-017", long, EXIT33, BASE(ES) = 0xFFFFFFFF00000000);
    GOOD(long, RIGHTS(SS) = RIGHTS(DS) = RIGHTS(ES) = 0x10000; BASE(SS) = BASE(DS) = BASE(ES) = 1ull << 32);
}

static void virtual_8086_segments(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("GUEST-SEG-018", v86, EXIT33, LIMIT(CS) = 0xFFFFF);
    ONLY("GUEST-SEG-019", v86, EXIT33, LIMIT(SS) = 0xFFFE);
    ONLY("GUEST-SEG-020", v86, EXIT33, LIMIT(DS) = 0);
    ONLY("GUEST-SEG-021", v86, EXIT33, LIMIT(ES) = 0x1FFFF);
    ONLY("GUEST-SEG-022", v86, EXIT33, LIMIT(FS) = 0xFFFFFFFF);
    ONLY("GUEST-SEG-023", v86, EXIT33, LIMIT(GS) = 0x7FFF);
    ONLY("GUEST-SEG-024", v86, EXIT33, RIGHTS(CS) = 0xFB);
    ONLY("GUEST-SEG-025", v86, EXIT33, RIGHTS(SS) = 0x93);
    ONLY("GUEST-SEG-026", v86, EXIT33, RIGHTS(DS) = 0x100F3);
    ONLY("GUEST-SEG-027", v86, EXIT33, RIGHTS(ES) = 0x10F3);
    ONLY("GUEST-SEG-028", v86, EXIT33, RIGHTS(FS) = 0xF2);
    ONLY("GUEST-SEG-029", v86, EXIT33, RIGHTS(GS) = 0x800000F3);
}

// What every usable one of SS, DS, ES, FS, GS must have, by id in that order; base `long`, or `flexible`
// where noted.
#define DATA_SEGMENTS(ss, ds, es, fs, gs, action) \
    ONLY(ss, long, EXIT33, action(SS)); \
    ONLY(ds, long, EXIT33, action(DS)); \
    ONLY(es, long, EXIT33, action(ES)); \
    ONLY(fs, long, EXIT33, action(FS)); \
    ONLY(gs, long, EXIT33, action(GS))

static void guest_segment_rights(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    // type
    for (u32 type = 0; type < 16; type++) {
        if (type == 9 || type == 11 || type == 13 || type == 15)
            GOOD(long, RIGHTS(CS) = 0xA090 | type);
        else
            ONLY("GUEST-SEG-030", long, EXIT33, RIGHTS(CS) = 0xA090 | type);
        if (type == 3 || type == 9 || type == 11 || type == 13 || type == 15)
            GOOD(flexible, RIGHTS(CS) = 0xA090 | type);
        else
            ONLY("GUEST-SEG-031", flexible, EXIT33, RIGHTS(CS) = 0xA090 | type);
        if (type == 3 || type == 7)
            GOOD(long, RIGHTS(SS) = 0xC090 | type);
        else
            ONLY("GUEST-SEG-032", long, EXIT33, RIGHTS(SS) = 0xC090 | type);
    }
    GOOD(long, RIGHTS(SS) = RIGHTS(DS) = RIGHTS(ES) = RIGHTS(FS) = RIGHTS(GS) = 0x1FF00;
         LIMIT(SS) = LIMIT(DS) = 0xFFFFF000);
#define NOT_ACCESSED(s) RIGHTS(s) = 0xC092
    ONLY("GUEST-SEG-033", long, EXIT33, NOT_ACCESSED(DS));
    ONLY("GUEST-SEG-034", long, EXIT33, NOT_ACCESSED(ES));
    ONLY("GUEST-SEG-035", long, EXIT33, NOT_ACCESSED(FS));
    ONLY("GUEST-SEG-036", long, EXIT33, NOT_ACCESSED(GS));
#define EXECUTE_ONLY(s) RIGHTS(s) = 0xC099
    ONLY("GUEST-SEG-037", long, EXIT33, EXECUTE_ONLY(DS));
    ONLY("GUEST-SEG-038", long, EXIT33, EXECUTE_ONLY(ES));
    ONLY("GUEST-SEG-039", long, EXIT33, EXECUTE_ONLY(FS));
    ONLY("GUEST-SEG-040", long, EXIT33, RIGHTS(GS) = 0xC09D);
    GOOD(long, RIGHTS(DS) = 0xC09B; RIGHTS(ES) = 0xC091; RIGHTS(FS) = 0xC095; RIGHTS(GS) = 0xC09F);
    // S
    ONLY("GUEST-SEG-041", long, EXIT33, RIGHTS(CS) = 0xA08B);
#define SYSTEM(s) RIGHTS(s) = 0xC083
    DATA_SEGMENTS("GUEST-SEG-042", "GUEST-SEG-043", "GUEST-SEG-044", "GUEST-SEG-045", "GUEST-SEG-046",
                  SYSTEM);
    // DPL
    ONLY("GUEST-SEG-047", flexible, EXIT33, RIGHTS(CS) = 0xA0F3);
    ONLY("GUEST-SEG-048", long, EXIT33, RIGHTS(CS) = 0xA0FB);
    ONLY("GUEST-SEG-048", user, EXIT33, RIGHTS(CS) = 0xA099);
    ONLY("GUEST-SEG-049", long, EXIT33, RIGHTS(CS) = 0xA0BF);
    GOOD(user, RIGHTS(CS) = 0xA09F);
    ONLY("GUEST-SEG-050", long, EXIT33, RIGHTS(SS) = 0xC0F3; RIGHTS(CS) = 0xA09F);
    ONLY("GUEST-SEG-050", long, EXIT33, RIGHTS(SS) = 0x10060; RIGHTS(CS) = 0xA09F); // unusable, and still
    GOOD(flexible, RIGHTS(SS) = 0xC0F3; RIGHTS(CS) = 0xA09F);
    ONLY("GUEST-SEG-051", flexible, EXIT33, RIGHTS(CS) = 0xA093; RIGHTS(SS) = 0xC0F3);
    ONLY("GUEST-SEG-051", real, EXIT33, RIGHTS(CS) = 0xFB; RIGHTS(SS) = 0xF3);
#define LOW_DPL(s) SELECTOR(s) |= 3
    ONLY("GUEST-SEG-056", long, EXIT33, LOW_DPL(DS));
    ONLY("GUEST-SEG-057", long, EXIT33, LOW_DPL(ES); RIGHTS(ES) = 0xC0D3);
    ONLY("GUEST-SEG-058", long, EXIT33, LOW_DPL(FS); RIGHTS(FS) = 0xC09B);
    ONLY("GUEST-SEG-059", long, EXIT33, SELECTOR(GS) |= 1);
    GOOD(long, LOW_DPL(DS); RIGHTS(DS) = 0xC0F3; LOW_DPL(ES); RIGHTS(ES) = 0xC09F; LOW_DPL(FS);
         RIGHTS(FS) = 0x10000);
    GOOD(flexible, LOW_DPL(DS); LOW_DPL(ES); LOW_DPL(FS); LOW_DPL(GS));
    // P
    ONLY("GUEST-SEG-060", long, EXIT33, RIGHTS(CS) = 0xA01B);
#define ABSENT(s) RIGHTS(s) = 0xC013
    DATA_SEGMENTS("GUEST-SEG-061", "GUEST-SEG-062", "GUEST-SEG-063", "GUEST-SEG-064", "GUEST-SEG-065",
                  ABSENT);
    // bits 11:8
    ONLY("GUEST-SEG-066", long, EXIT33, RIGHTS(CS) |= 0x100);
#define BIT_11(s) RIGHTS(s) |= 0x800
    DATA_SEGMENTS("GUEST-SEG-067", "GUEST-SEG-068", "GUEST-SEG-069", "GUEST-SEG-070", "GUEST-SEG-071",
                  BIT_11);
    // D/B
    ONLY("GUEST-SEG-072", long, EXIT33, RIGHTS(CS) = 0xE09B);
    GOOD(long, RIGHTS(CS) = 0xC09B; f->GUEST_RIP = 0x1000); // compatibility mode
    GOOD(protected, RIGHTS(CS) = 0xE09B);                   // L means nothing outside IA-32e mode
    // G
    ONLY("GUEST-SEG-073", long, EXIT33, LIMIT(CS) = 0xFFFFF000);
    ONLY("GUEST-SEG-073", long, EXIT33, LIMIT(CS) = 0xFFE);
    ONLY("GUEST-SEG-074", long, EXIT33, RIGHTS(CS) = 0x209B);
    GOOD(long, LIMIT(CS) = 0xFFF; RIGHTS(CS) = 0x209B);
    GOOD(long, LIMIT(CS) = 0xFFFFF);
    GOOD(long, LIMIT(CS) = 0xFFFFE; RIGHTS(CS) = 0x209B);
#define PARTIAL_PAGE(s) LIMIT(s) = 0xFFFFF7FF
#define BYTES(s)        RIGHTS(s) = 0x4093, LIMIT(s) = 0x100FFF
    DATA_SEGMENTS("GUEST-SEG-075", "GUEST-SEG-077", "GUEST-SEG-079", "GUEST-SEG-081", "GUEST-SEG-083",
                  PARTIAL_PAGE);
    DATA_SEGMENTS("GUEST-SEG-076", "GUEST-SEG-078", "GUEST-SEG-080", "GUEST-SEG-082", "GUEST-SEG-084", BYTES);
    // bits 31:17
    ONLY("GUEST-SEG-085", long, EXIT33, RIGHTS(CS) |= 0x20000);
#define BIT_31(s) RIGHTS(s) |= 0x80000000
    DATA_SEGMENTS("GUEST-SEG-086", "GUEST-SEG-087", "GUEST-SEG-088", "GUEST-SEG-089", "GUEST-SEG-090",
                  BIT_31);
}

// A mask is as good as each of its bits: all that must be 0, alone.
static void every_reserved_bit(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    for (unsigned bit = 8; bit <= 31; bit++) {
        u32 one = 1u << bit;
#define RIGHTS_BIT(s) RIGHTS(s) |= one
        if (bit <= 11) {
            ONLY("GUEST-SEG-066", long, EXIT33, RIGHTS_BIT(CS));
            DATA_SEGMENTS("GUEST-SEG-067", "GUEST-SEG-068", "GUEST-SEG-069", "GUEST-SEG-070", "GUEST-SEG-071",
                          RIGHTS_BIT);
            ONLY("GUEST-SEG-095", long, EXIT33, RIGHTS_BIT(TR));
            ONLY("GUEST-SEG-103", ldtr, EXIT33, RIGHTS_BIT(LDTR));
            ONLY("CTL-EPT-005", long, FAIL7, f->EPTP |= one);
        } else if (bit >= 17) {
            ONLY("GUEST-SEG-085", long, EXIT33, RIGHTS_BIT(CS));
            DATA_SEGMENTS("GUEST-SEG-086", "GUEST-SEG-087", "GUEST-SEG-088", "GUEST-SEG-089", "GUEST-SEG-090",
                          RIGHTS_BIT);
            ONLY("GUEST-SEG-099", long, EXIT33, RIGHTS_BIT(TR));
            ONLY("GUEST-SEG-106", ldtr, EXIT33, RIGHTS_BIT(LDTR));
        }
        ONLY("GUEST-SEG-024", v86, EXIT33, RIGHTS_BIT(CS));
        ONLY("GUEST-SEG-025", v86, EXIT33, RIGHTS_BIT(SS));
        if (bit >= 14 && bit <= 30) ONLY("CTL-INJ-013", long, FAIL7, EVENT = 0x80000306 | one);
        if (bit >= 16) {
            ONLY("CTL-INJ-015", long, FAIL7, EVENT = 0x80000B0E; f->INJECTED_EVENT_ERROR_CODE = one);
            ONLY("GUEST-DT-003", long, EXIT33, f->GUEST_GDTR_LIMIT = one);
            ONLY("GUEST-DT-004", long, EXIT33, f->GUEST_IDTR_LIMIT = one);
        }
    }
    // bits 31:20 of a limit want G, and each of bits 11:0 that is 0 forbids it
    for (unsigned bit = 20; bit <= 31; bit++)
        ONLY("GUEST-SEG-074", long, EXIT33, RIGHTS(CS) = 0x209B; LIMIT(CS) = 1u << bit | 0xFFF);
    for (unsigned bit = 0; bit <= 11; bit++) ONLY("GUEST-SEG-073", long, EXIT33, LIMIT(CS) = ~(1u << bit));
    for (unsigned bit = 4; bit <= 31; bit++) {
        if (bit >= 5) ONLY("GUEST-NONREG-009", long, EXIT33, f->GUEST_INTERRUPTIBILITY_STATE = 1u << bit);
        ONLY("CTL-INJ-016", long, FAIL7, EVENT = 0x80000603; f->VM_ENTRY_INSTRUCTION_LENGTH = 1u << bit);
    }
    for (unsigned bit = 0; bit <= 63; bit++) {
        u64 one = 1ull << bit;
        if (bit == 3 || bit == 5 || bit == 15 || bit >= 22)
            ONLY("GUEST-RFLAGS-001", long, EXIT33, f->GUEST_RFLAGS |= one);
        if ((bit >= 4 && bit <= 10) || bit == 13 || bit == 15 || bit >= 17)
            ONLY("GUEST-NONREG-021", long, EXIT33, f->GUEST_PENDING_DEBUG_EXCEPTIONS = one);
        if (bit < 3) ONLY("HOST-SEG-001", long, FAIL8, f->HOST_CS_SELECTOR |= one);
        if (bit < 12) ONLY("GUEST-NONREG-028", long, EXIT33_LINK, f->VMCS_LINK_POINTER = SETUP_OTHER + one);
        if (bit < 4)
            ONLY("CTL-ENTRY-003", long, FAIL7, f->VM_ENTRY_MSR_LOAD_COUNT = 1;
                 f->VM_ENTRY_MSR_LOAD_ADDRESS = 0x1000 + one);
        if (bit < 32) continue;
        ONLY("GUEST-DR-001", long, EXIT33, f->GUEST_DR7 |= one);
        ONLY("GUEST-RIP-001", protected, EXIT33, f->GUEST_RIP |= one);
        ONLY("GUEST-SEG-014", long, EXIT33, f->GUEST_CS_BASE = one);
        ONLY("GUEST-SEG-015", long, EXIT33, f->GUEST_SS_BASE = one);
        ONLY("HOST-AS-007", host32, FAIL8, f->HOST_RIP |= one);
        ONLY("HOST-CR-002", long, FAIL8, f->HOST_CR0 |= one);
        ONLY("GUEST-CR-002", long, EXIT33, f->GUEST_CR0 |= one);
        if (bit >= 40) {
            ONLY("HOST-CR-006", long, FAIL8, f->HOST_CR3 |= one);
            ONLY("GUEST-CR-011", long, EXIT33, f->GUEST_CR3 |= one);
            ONLY("CTL-EPT-006", long, FAIL7, f->EPTP |= one);
        }
    }
}

static void guest_system_segments(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    for (u32 type = 0; type < 16; type++) {
        if (type == 3 || type == 11)
            GOOD(protected, RIGHTS(TR) = 0x80 | type);
        else
            ONLY("GUEST-SEG-091", protected, EXIT33, RIGHTS(TR) = 0x80 | type);
        if (type == 11)
            GOOD(long, RIGHTS(TR) = 0x80 | type);
        else
            ONLY("GUEST-SEG-092", long, EXIT33, RIGHTS(TR) = 0x80 | type);
        if (type == 2)
            GOOD(ldtr, RIGHTS(LDTR) = 0x80 | type);
        else
            ONLY("GUEST-SEG-100", ldtr, EXIT33, RIGHTS(LDTR) = 0x80 | type);
    }
    ONLY("GUEST-SEG-093", long, EXIT33, RIGHTS(TR) = 0x9B);
    ONLY("GUEST-SEG-094", long, EXIT33, RIGHTS(TR) = 0x0B);
    ONLY("GUEST-SEG-095", long, EXIT33, RIGHTS(TR) = 0x28B);
    ONLY("GUEST-SEG-096", long, EXIT33, RIGHTS(TR) = 0x808B);
    ONLY("GUEST-SEG-097", long, EXIT33, LIMIT(TR) = 0x100FFF);
    ONLY("GUEST-SEG-098", long, EXIT33, RIGHTS(TR) = 0x1008B);
    ONLY("GUEST-SEG-099", long, EXIT33, RIGHTS(TR) = 0x2008B);
    ONLY("GUEST-SEG-101", ldtr, EXIT33, RIGHTS(LDTR) = 0x92);
    ONLY("GUEST-SEG-102", ldtr, EXIT33, RIGHTS(LDTR) = 0x02);
    ONLY("GUEST-SEG-103", ldtr, EXIT33, RIGHTS(LDTR) = 0x482);
    ONLY("GUEST-SEG-104", ldtr, EXIT33, RIGHTS(LDTR) = 0x8082);
    ONLY("GUEST-SEG-105", ldtr, EXIT33, LIMIT(LDTR) = 0xFFFFFFFF);
    ONLY("GUEST-SEG-106", ldtr, EXIT33, RIGHTS(LDTR) = 0x40000082);
    GOOD(long, RIGHTS(LDTR) = 0xFFFFFFFF; LIMIT(LDTR) = 0xFFFFF000);
}

static void guest_tables_and_flags(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    ONLY("GUEST-DT-001", long, EXIT33, f->GUEST_GDTR_BASE = 1ull << 47);
    ONLY("GUEST-DT-002", protected, EXIT33, f->GUEST_IDTR_BASE = 1ull << 63);
    ONLY("GUEST-DT-003", long, EXIT33, f->GUEST_GDTR_LIMIT = 0x10000);
    ONLY("GUEST-DT-004", long, EXIT33, f->GUEST_IDTR_LIMIT = 0x80000000);
    ONLY("GUEST-RIP-001", protected, EXIT33, f->GUEST_RIP = 1ull << 32);
    ONLY("GUEST-RIP-001", long, EXIT33, RIGHTS(CS) = 0xC09B);
    ONLY("GUEST-RIP-002", long, EXIT33, f->GUEST_RIP = 1ull << 48);
    ONLY("GUEST-RIP-002", long, EXIT33, f->GUEST_RIP = 0x7FFFFFFFFFFFFFFF);
    GOOD(long, f->GUEST_RIP = 1ull << 47); // not canonical, and legal
    GOOD(long, f->GUEST_RIP = 0xFFFF000000000000);
    GOOD(long, f->GUEST_RIP = 1ull << 48; t->s.e.linear_bits = 57);
    static const u8 reserved[] = {3, 5, 15, 22, 31, 32, 63};
    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++)
        ONLY("GUEST-RFLAGS-001", long, EXIT33, f->GUEST_RFLAGS |= 1ull << reserved[i]);
    GOOD(long, f->GUEST_RFLAGS = 0x3D7FD7);
    ONLY("GUEST-RFLAGS-002", long, EXIT33, f->GUEST_RFLAGS = 0);
    ONLY("GUEST-RFLAGS-003", v86, EXIT33, f->VM_ENTRY_CONTROLS |= 0x200; f->GUEST_CR4 |= 0x20);
    ONLY("GUEST-RFLAGS-004", v86, EXIT33, f->SECONDARY_PROC_BASED_CONTROLS |= SETUP_UNRESTRICTED;
         f->GUEST_CR0 = 0x30);
    ONLY("GUEST-RFLAGS-005", long, EXIT33, EVENT = 0x80000030);
}

static void guest_activity(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    enum { STI = 1, MOV_SS = 2, SMI = 4, NMI = 8, IF = 0x200, TF = 0x100, BS = 0x4000 };
    u32 *block = &f->GUEST_INTERRUPTIBILITY_STATE, *activity = &f->GUEST_ACTIVITY_STATE;
    u64 *flags = &f->GUEST_RFLAGS, *debug = &f->GUEST_PENDING_DEBUG_EXCEPTIONS;
    for (u32 a = 1; a <= 3; a++) {
        GOOD(long, *activity = a);
        ONLY("GUEST-NONREG-001", long, EXIT33, *activity = a; t->s.caps.misc &= ~(1ull << (5 + a)));
    }
    ONLY("GUEST-NONREG-001", long, EXIT33, *activity = 4);
    ONLY("GUEST-NONREG-001", long, EXIT33, *activity = 0x80000000);
    ONLY("GUEST-NONREG-002", user, EXIT33, *activity = 1);
    GOOD(user, *activity = 2);
    ONLY("GUEST-NONREG-003", long, EXIT33, *activity = 1; *block = STI; *flags |= IF);
    ONLY("GUEST-NONREG-003", long, EXIT33, *activity = 2; *block = MOV_SS);
    GOOD(long, *block = STI; *flags |= IF);
    GOOD(long, *block = MOV_SS);
    static const u32 hlt_takes[] = {0x80000030, 0x80000202, 0x80000301, 0x80000312, 0x80000700};
    static const u32 hlt_refuses[] = {0x80000480, 0x80000501, 0x80000603, 0x80000B0D, 0x80000306};
    for (unsigned i = 0; i < 5; i++) {
        GOOD(long, *activity = 1; *flags |= IF; EVENT = hlt_takes[i]);
        ONLY("GUEST-NONREG-004", long, EXIT33, *activity = 1; *flags |= IF; EVENT = hlt_refuses[i]);
        ONLY("GUEST-NONREG-005", long, EXIT33, *activity = 2; *flags |= IF; EVENT = hlt_refuses[i]);
        ONLY("GUEST-NONREG-006", long, EXIT33, *activity = 3; *flags |= IF; EVENT = hlt_takes[i]);
    }
    ONLY("GUEST-NONREG-005", long, EXIT33, *activity = 2; *flags |= IF; EVENT = 0x80000030);
    // vector 18 alone is not #MC
    ONLY("GUEST-NONREG-005", long, EXIT33, *activity = 2; *flags |= IF; EVENT = 0x80000412);
    GOOD(long, *activity = 2; EVENT = 0x80000202);
    GOOD(long, *activity = 2; EVENT = 0x80000312);
    ONLY("GUEST-NONREG-009", long, EXIT33, *block = 0x20);
    ONLY("GUEST-NONREG-009", long, EXIT33, *block = 0x80000000);
    ONLY("GUEST-NONREG-010", long, EXIT33, *block = STI | MOV_SS; *flags |= IF);
    ONLY("GUEST-NONREG-011", long, EXIT33, *block = STI);
    ONLY("GUEST-NONREG-012", long, EXIT33, *block = STI; *flags |= IF; EVENT = 0x80000030);
    ONLY("GUEST-NONREG-013", long, EXIT33, *block = MOV_SS; *flags |= IF; EVENT = 0x80000030);
    ONLY("GUEST-NONREG-014", long, EXIT33_NMI, *block = STI; *flags |= IF; EVENT = 0x80000202);
    ONLY("GUEST-NONREG-015", long, EXIT33, *block = MOV_SS; EVENT = 0x80000202);
    ONLY("GUEST-NONREG-016", long, EXIT33, *block = SMI);
    GOOD(long, *block = NMI; EVENT = 0x80000202); // without virtual NMIs
    ONLY("GUEST-NONREG-018", long, EXIT33, *block = NMI; EVENT = 0x80000202; f->PIN_BASED_CONTROLS |= 0x28);
    GOOD(long, *block = NMI; f->PIN_BASED_CONTROLS |= 0x28);
    ONLY("GUEST-NONREG-020", long, EXIT33, *block = 0x10);
    static const u8 reserved[] = {4, 5, 6, 7, 8, 9, 10, 13, 15, 17, 31, 32, 63};
    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++)
        ONLY("GUEST-NONREG-021", long, EXIT33, *debug = 1ull << reserved[i]);
    GOOD(long, *debug = 0x500F);
    ONLY("GUEST-NONREG-022", long, EXIT33, *debug = 1 << 11);
    ONLY("GUEST-NONREG-023", long, EXIT33, *debug = 1 << 16);
    ONLY("GUEST-NONREG-024", long, EXIT33, *block = MOV_SS; *flags |= TF);
    ONLY("GUEST-NONREG-024", long, EXIT33, *block = STI; *flags |= TF | IF);
    ONLY("GUEST-NONREG-024", long, EXIT33, *activity = 1; *flags |= TF);
    GOOD(long, *block = MOV_SS; *flags |= TF; *debug = BS);
    GOOD(long, *block = MOV_SS; *flags |= TF; f->GUEST_IA32_DEBUGCTL = 2);
    GOOD(long, *flags |= TF);
    ONLY("GUEST-NONREG-025", long, EXIT33, *block = MOV_SS; *debug = BS);
    ONLY("GUEST-NONREG-025", long, EXIT33, *activity = 1; *debug = BS);
    ONLY("GUEST-NONREG-025", long, EXIT33, *block = MOV_SS; *flags |= TF; f->GUEST_IA32_DEBUGCTL = 2;
         *debug = BS);
    GOOD(long, *debug = BS);
}

static void guest_link_and_pdptes(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    u8 *ram = t->s.phys.ram;
    u64 *link = &f->VMCS_LINK_POINTER;
    GOOD(long, *link = SETUP_OTHER);
    ONLY("GUEST-NONREG-028", long, EXIT33_LINK, *link = SETUP_OTHER + 8);
    ONLY("GUEST-NONREG-028", long, EXIT33_LINK, *link = SETUP_OTHER + 0x800);
    ONLY("GUEST-NONREG-029", long, EXIT33_LINK, *link = SETUP_OTHER | 1ull << 40);
    BAD("GUEST-NONREG-029", long, EXIT33_LINK, "GUEST-NONREG-028 GUEST-NONREG-029", *link = UINT64_MAX - 1);
    ONLY("GUEST-NONREG-030", long, EXIT33_LINK, *link = SETUP_OTHER; ram[SETUP_OTHER] ^= 1);
    ONLY("GUEST-NONREG-031", long, EXIT33_LINK, *link = SETUP_OTHER; ram[SETUP_OTHER + 3] |= 0x80);
    GOOD(long, f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 14); // VMCS shadowing, no link
    GOOD(long, f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 14; *link = SETUP_OTHER;
         ram[SETUP_OTHER + 3] |= 0x80);
    ONLY("GUEST-NONREG-031", long, EXIT33_LINK, f->SECONDARY_PROC_BASED_CONTROLS |= 1 << 14;
         *link = SETUP_OTHER);
    // Where there is no memory everything reads as ones: neither the revision identifier nor an ordinary
    // VMCS.
    BAD("GUEST-NONREG-030", long, EXIT33_LINK, "GUEST-NONREG-030 GUEST-NONREG-031", *link = 1ull << 39);
    ONLY("GUEST-NONREG-032", long, EXIT33_LINK, *link = SETUP_VMCS);

    static const u8 reserved[] = {1, 2, 5, 6, 7, 8, 40, 51, 63};
    for (unsigned i = 0; i < ARRAY_LEN(reserved); i++)
        for (unsigned n = 0; n < 4; n++) {
            u64 bad = 0x2001 | 1ull << reserved[i];
            ONLY("GUEST-PDPTE-002", pae, EXIT33_PDPTE,
                 n == 0   ? (f->GUEST_PDPTE0 = bad)
                 : n == 1 ? (f->GUEST_PDPTE1 = bad)
                 : n == 2 ? (f->GUEST_PDPTE2 = bad)
                          : (f->GUEST_PDPTE3 = bad));
            ONLY("GUEST-PDPTE-001", pae_memory, EXIT33_PDPTE,
                 memcpy(ram + SETUP_PDPT + 0xE20 + 8 * n, &bad, 8));
        }
    GOOD(long, f->GUEST_PDPTE0 = UINT64_MAX);      // four-level paging has none
    GOOD(protected, f->GUEST_PDPTE0 = UINT64_MAX); // nor has two-level paging
    GOOD(pae, f->SECONDARY_PROC_BASED_CONTROLS |= SETUP_UNRESTRICTED; f->GUEST_CR0 &= ~0x80000000ull;
         f->GUEST_PDPTE0 = UINT64_MAX);
    GOOD(pae, t->s.e.maxphyaddr = 52; f->GUEST_PDPTE0 |= 1ull << 51);
}

static bool refuse_zero(void *opaque, u32 msr, u64 data)
{
    ++*(unsigned *)opaque;
    return data != 0;
}

static void msr_load(void **state)
{
    struct suite *t = *state;
    struct vmcs_fields *f = &t->s.f;
    // clang-format off
    static const struct { const char *id; struct vmx_msr_entry m; } bad[] = {
        {"MSRLOAD-001", {0xC0000100, 0, 1}}, {"MSRLOAD-002", {0xC0000101, 0, 1}}, {"MSRLOAD-003", {0x800, 0, 1}},
        {"MSRLOAD-003", {0x8FF, 0, 1}},      {"MSRLOAD-004", {0x9B, 0, 1}},       {"MSRLOAD-005", {0x79, 0, 1}},
        {"MSRLOAD-005", {0x8B, 0, 1}},       {"MSRLOAD-006", {0x174, 1, 1}},      {"MSRLOAD-006", {0x174, 1u << 31, 1}},
        {"MSRLOAD-007", {0x174, 0, 0}},
    };
    // clang-format on
    static const struct vmx_msr_entry good[] = {
        {0xC0000080, 0, 1}, {0x7FF, 0, 1}, {0x900, 0, 1}, {0xC0000102, 0, 1}, {0, 0, 1}};
    struct vmx_check_failure x;
    unsigned writes = 0;
    for (unsigned i = 0; i < ARRAY_LEN(good); i++) {
        writes = 0;
        assert_true(vmx_check_msr_entry(&good[i], 1, refuse_zero, &writes, &x));
        assert_int_equal(writes, 1);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        writes = 0;
        assert_false(vmx_check_msr_entry(&bad[i].m, 3 + i, refuse_zero, &writes, &x));
        assert_string_equal(x.id, bad[i].id);
        assert_int_equal(x.outcome, VMX_OUTCOME_EXIT);
        assert_int_equal(x.number, 34);
        assert_int_equal(x.qualification, 3 + i);
        // A row that refuses the entry does so before anything is written.
        assert_int_equal(writes, !strcmp(bad[i].id, "MSRLOAD-007"));
        for (unsigned n = 0; n < vmx_check_row_count; n++)
            if (!strcmp(vmx_check_rows[n].id, x.id)) t->tested[n] = true;

        // The doctor finds it in the area, but for what only the write itself shows; the entry's own checks
        // pass.
        setup_long(&t->s);
        setup_decode(&t->s);
        f->VM_ENTRY_MSR_LOAD_COUNT = 3;
        f->VM_ENTRY_MSR_LOAD_ADDRESS = SETUP_MSRS;
        memcpy(t->s.phys.ram + SETUP_MSRS, &good[0], 16);
        memcpy(t->s.phys.ram + SETUP_MSRS + 16, &bad[i].m, 16);
        memcpy(t->s.phys.ram + SETUP_MSRS + 32, &good[1], 16);
        assert_true(vmx_check_entry(&t->s.e, &x));
        assert_int_equal(vmx_doctor(&t->s.e, &x, 1), !!strcmp(bad[i].id, "MSRLOAD-007"));
        if (strcmp(bad[i].id, "MSRLOAD-007")) {
            assert_string_equal(x.id, bad[i].id);
            assert_int_equal(x.qualification, 2);
            assert_int_equal(x.msr.index, bad[i].m.index);
        }
    }
}

// Runs last.
static void every_row_is_tested(void **state)
{
    struct suite *t = *state;
    for (unsigned n = 0; n < vmx_check_row_count; n++)
        if (!t->tested[n]) fail_msg("no test violates %s", vmx_check_rows[n].id);
}

static int start(void **state)
{
    struct suite *t = calloc(1, sizeof *t);
    setup_once(&t->s);
    *state = t;
    return 0;
}

static int stop(void **state)
{
    struct suite *t = *state;
    phys_free(&t->s.phys);
    free(t);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passing_guests),
        cmocka_unit_test(basic),
        cmocka_unit_test(execution_controls),
        cmocka_unit_test(exit_controls),
        cmocka_unit_test(entry_controls),
        cmocka_unit_test(injection),
        cmocka_unit_test(host_registers),
        cmocka_unit_test(host_segments),
        cmocka_unit_test(host_address_space),
        cmocka_unit_test(guest_registers),
        cmocka_unit_test(guest_selectors_and_bases),
        cmocka_unit_test(virtual_8086_segments),
        cmocka_unit_test(guest_segment_rights),
        cmocka_unit_test(every_reserved_bit),
        cmocka_unit_test(guest_system_segments),
        cmocka_unit_test(guest_tables_and_flags),
        cmocka_unit_test(guest_activity),
        cmocka_unit_test(guest_link_and_pdptes),
        cmocka_unit_test(msr_load),
        cmocka_unit_test(every_row_is_tested),
    };
    return cmocka_run_group_tests_name("VM-entry checks", tests, start, stop);
}

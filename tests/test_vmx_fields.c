// The VMCS field table: encodings against what their bits mean, against well-known numbers, and against each
// other.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "vmx/controls.h"
#include "vmx/vmcs.h"

static void rows_agree_with_their_encodings(void **state)
{
    (void)state;
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field_row *r = &vmcs_field_rows[i];
        unsigned size = r->width == WIDTH_16 ? 2 : r->width == WIDTH_32 ? 4 : 8;
        assert_int_equal(r->encoding & 1, 0);
        assert_int_equal(r->encoding >> 12 & 1, 0);
        assert_int_equal(r->encoding >> 10 & 3, r->area);
        assert_int_equal(r->encoding >> 13 & 3, r->width);
        assert_int_equal(r->size, size);
        assert_int_equal(r->offset % size, 0);
        assert_int_equal(vmcs_field_find(r->encoding), i);
        for (int k = 0; k < i; k++) assert_int_not_equal(vmcs_field_rows[k].encoding, r->encoding);
        if (i > 0) assert_true(vmcs_field_rows[i - 1].offset + vmcs_field_rows[i - 1].size <= r->offset);
    }
}

static void every_other_encoding_is_unknown(void **state)
{
    (void)state;
    unsigned known = 0;
    for (u32 e = 0; e < 0x20000; e += 2) {
        int n = vmcs_field_find(e);
        if (n < 0) continue;
        assert_int_equal(vmcs_field_rows[n].encoding, e);
        known++;
    }
    assert_int_equal(known, VMCS_FIELD_COUNT);
    assert_int_equal(vmcs_field_find(0x80006800), -1);
    assert_int_equal(vmcs_field_find(0x482C), -1); // never assigned
}

// Numbers as hypervisors' own headers have them.
static void known_encodings(void **state)
{
    (void)state;
    // clang-format off
    static const struct { u32 encoding; int field; } known[] = {
        {0x0000, VMCS_VPID}, {0x0800, VMCS_GUEST_ES_SELECTOR}, {0x0802, VMCS_GUEST_CS_SELECTOR},
        {0x0804, VMCS_GUEST_SS_SELECTOR}, {0x080C, VMCS_GUEST_LDTR_SELECTOR}, {0x080E, VMCS_GUEST_TR_SELECTOR},
        {0x0C00, VMCS_HOST_ES_SELECTOR}, {0x0C02, VMCS_HOST_CS_SELECTOR}, {0x0C0C, VMCS_HOST_TR_SELECTOR},
        {0x2000, VMCS_ADDRESS_OF_IO_BITMAP_A}, {0x2002, VMCS_ADDRESS_OF_IO_BITMAP_B},
        {0x2004, VMCS_ADDRESS_OF_MSR_BITMAPS}, {0x2006, VMCS_VM_EXIT_MSR_STORE_ADDRESS},
        {0x2008, VMCS_VM_EXIT_MSR_LOAD_ADDRESS}, {0x200A, VMCS_VM_ENTRY_MSR_LOAD_ADDRESS}, {0x2010, VMCS_TSC_OFFSET},
        {0x2012, VMCS_VIRTUAL_APIC_ADDRESS}, {0x2014, VMCS_APIC_ACCESS_ADDRESS}, {0x2018, VMCS_VM_FUNCTION_CONTROLS},
        {0x201A, VMCS_EPTP}, {0x2024, VMCS_EPTP_LIST_ADDRESS}, {0x202C, VMCS_XSS_EXITING_BITMAP},
        {0x2032, VMCS_TSC_MULTIPLIER}, {0x2400, VMCS_GUEST_PHYSICAL_ADDRESS}, {0x2800, VMCS_VMCS_LINK_POINTER},
        {0x2802, VMCS_GUEST_IA32_DEBUGCTL}, {0x2804, VMCS_GUEST_IA32_PAT}, {0x2806, VMCS_GUEST_IA32_EFER},
        {0x280A, VMCS_GUEST_PDPTE0}, {0x2810, VMCS_GUEST_PDPTE3}, {0x2C00, VMCS_HOST_IA32_PAT},
        {0x2C02, VMCS_HOST_IA32_EFER}, {0x4000, VMCS_PIN_BASED_CONTROLS}, {0x4002, VMCS_PRIMARY_PROC_BASED_CONTROLS},
        {0x4004, VMCS_EXCEPTION_BITMAP}, {0x4006, VMCS_PAGE_FAULT_ERROR_CODE_MASK},
        {0x4008, VMCS_PAGE_FAULT_ERROR_CODE_MATCH}, {0x400A, VMCS_CR3_TARGET_COUNT}, {0x400C, VMCS_PRIMARY_VM_EXIT_CONTROLS},
        {0x400E, VMCS_VM_EXIT_MSR_STORE_COUNT}, {0x4010, VMCS_VM_EXIT_MSR_LOAD_COUNT}, {0x4012, VMCS_VM_ENTRY_CONTROLS},
        {0x4014, VMCS_VM_ENTRY_MSR_LOAD_COUNT}, {0x4016, VMCS_INJECTED_EVENT_IDENTIFICATION},
        {0x4018, VMCS_INJECTED_EVENT_ERROR_CODE}, {0x401A, VMCS_VM_ENTRY_INSTRUCTION_LENGTH}, {0x401C, VMCS_TPR_THRESHOLD},
        {0x401E, VMCS_SECONDARY_PROC_BASED_CONTROLS}, {0x4020, VMCS_PLE_GAP}, {0x4022, VMCS_PLE_WINDOW},
        {0x4400, VMCS_VM_INSTRUCTION_ERROR}, {0x4402, VMCS_EXIT_REASON}, {0x4404, VMCS_EXITING_EVENT_IDENTIFICATION},
        {0x4406, VMCS_EXITING_EVENT_ERROR_CODE}, {0x4408, VMCS_ORIGINAL_EVENT_IDENTIFICATION},
        {0x440A, VMCS_ORIGINAL_EVENT_ERROR_CODE}, {0x440C, VMCS_VM_EXIT_INSTRUCTION_LENGTH},
        {0x440E, VMCS_VM_EXIT_INSTRUCTION_INFORMATION}, {0x4800, VMCS_GUEST_ES_LIMIT}, {0x4810, VMCS_GUEST_GDTR_LIMIT},
        {0x4814, VMCS_GUEST_ES_ACCESS_RIGHTS}, {0x4820, VMCS_GUEST_LDTR_ACCESS_RIGHTS},
        {0x4822, VMCS_GUEST_TR_ACCESS_RIGHTS}, {0x4824, VMCS_GUEST_INTERRUPTIBILITY_STATE},
        {0x4826, VMCS_GUEST_ACTIVITY_STATE}, {0x482A, VMCS_GUEST_IA32_SYSENTER_CS}, {0x482E, VMCS_VMX_PREEMPTION_TIMER_VALUE},
        {0x4C00, VMCS_HOST_IA32_SYSENTER_CS}, {0x6000, VMCS_CR0_GUEST_HOST_MASK}, {0x6002, VMCS_CR4_GUEST_HOST_MASK},
        {0x6004, VMCS_CR0_READ_SHADOW}, {0x6006, VMCS_CR4_READ_SHADOW}, {0x6008, VMCS_CR3_TARGET_VALUE_0},
        {0x600E, VMCS_CR3_TARGET_VALUE_3}, {0x6400, VMCS_EXIT_QUALIFICATION}, {0x6402, VMCS_IO_RCX},
        {0x640A, VMCS_GUEST_LINEAR_ADDRESS}, {0x6800, VMCS_GUEST_CR0}, {0x6802, VMCS_GUEST_CR3}, {0x6804, VMCS_GUEST_CR4},
        {0x6806, VMCS_GUEST_ES_BASE}, {0x6814, VMCS_GUEST_TR_BASE}, {0x6816, VMCS_GUEST_GDTR_BASE},
        {0x6818, VMCS_GUEST_IDTR_BASE}, {0x681A, VMCS_GUEST_DR7}, {0x681C, VMCS_GUEST_RSP}, {0x681E, VMCS_GUEST_RIP},
        {0x6820, VMCS_GUEST_RFLAGS}, {0x6822, VMCS_GUEST_PENDING_DEBUG_EXCEPTIONS},
        {0x6824, VMCS_GUEST_IA32_SYSENTER_ESP}, {0x6826, VMCS_GUEST_IA32_SYSENTER_EIP}, {0x6C00, VMCS_HOST_CR0},
        {0x6C02, VMCS_HOST_CR3}, {0x6C04, VMCS_HOST_CR4}, {0x6C06, VMCS_HOST_FS_BASE}, {0x6C08, VMCS_HOST_GS_BASE},
        {0x6C0A, VMCS_HOST_TR_BASE}, {0x6C0C, VMCS_HOST_GDTR_BASE}, {0x6C0E, VMCS_HOST_IDTR_BASE},
        {0x6C10, VMCS_HOST_IA32_SYSENTER_ESP}, {0x6C12, VMCS_HOST_IA32_SYSENTER_EIP}, {0x6C14, VMCS_HOST_RSP},
        {0x6C16, VMCS_HOST_RIP},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(known); i++)
        assert_int_equal(vmcs_field_find(known[i].encoding), known[i].field);
}

// Appendix B, with the fields that came later: every encoding, its name, and the control (one of the
// controls) with which it exists: group and bit.
#define ALWAYS \
    { \
        { \
            FIELD_ALWAYS, 0 \
        } \
    }
#define NEVER \
    { \
        { \
            FIELD_NEVER, 0 \
        } \
    }
#define IF(group, bit) \
    { \
        { \
            GROUP_##group, bit \
        } \
    }
#define IF2(g1, b1, g2, b2) \
    { \
        {GROUP_##g1, b1}, { GROUP_##g2, b2 } \
    }
// clang-format off
static const struct { u32 encoding; const char *name; struct { int group, bit; } with[2]; } appendix_b[] = {
    {0x0000, "virtual-processor identifier (VPID)", IF(PROC2, 5)},
    {0x0002, "posted-interrupt notification vector", IF(PIN, 7)}, {0x0004, "EPTP index", IF(PROC2, 18)},
    {0x0006, "HLAT prefix size", IF(PROC3, 1)}, {0x0008, "last PID-pointer index", IF(PROC3, 4)},
    {0x000A, "virtual timer vector", IF(PROC3, 8)}, {0x0800, "guest ES selector", ALWAYS},
    {0x0802, "guest CS selector", ALWAYS}, {0x0804, "guest SS selector", ALWAYS},
    {0x0806, "guest DS selector", ALWAYS}, {0x0808, "guest FS selector", ALWAYS},
    {0x080A, "guest GS selector", ALWAYS}, {0x080C, "guest LDTR selector", ALWAYS},
    {0x080E, "guest TR selector", ALWAYS}, {0x0810, "guest interrupt status", IF(PROC2, 9)},
    {0x0812, "PML index", IF(PROC2, 17)}, {0x0814, "guest UINV", IF2(EXIT, 27, ENTRY, 19)},
    {0x0C00, "host ES selector", ALWAYS}, {0x0C02, "host CS selector", ALWAYS}, {0x0C04, "host SS selector", ALWAYS},
    {0x0C06, "host DS selector", ALWAYS}, {0x0C08, "host FS selector", ALWAYS}, {0x0C0A, "host GS selector", ALWAYS},
    {0x0C0C, "host TR selector", ALWAYS}, {0x2000, "address of I/O bitmap A", ALWAYS},
    {0x2002, "address of I/O bitmap B", ALWAYS}, {0x2004, "address of MSR bitmaps", IF(PROC, 28)},
    {0x2006, "VM-exit MSR-store address", ALWAYS}, {0x2008, "VM-exit MSR-load address", ALWAYS},
    {0x200A, "VM-entry MSR-load address", ALWAYS}, {0x200C, "executive-VMCS pointer", ALWAYS},
    {0x200E, "PML address", IF(PROC2, 17)}, {0x2010, "TSC offset", ALWAYS},
    {0x2012, "virtual-APIC address", IF(PROC, 21)}, {0x2014, "APIC-access address", IF(PROC2, 0)},
    {0x2016, "posted-interrupt descriptor address", IF(PIN, 7)}, {0x2018, "VM-function controls", IF(PROC2, 13)},
    {0x201A, "EPT pointer (EPTP)", IF(PROC2, 1)}, {0x201C, "EOI-exit bitmap 0 (EOI_EXIT0)", IF(PROC2, 9)},
    {0x201E, "EOI-exit bitmap 1 (EOI_EXIT1)", IF(PROC2, 9)}, {0x2020, "EOI-exit bitmap 2 (EOI_EXIT2)", IF(PROC2, 9)},
    {0x2022, "EOI-exit bitmap 3 (EOI_EXIT3)", IF(PROC2, 9)}, {0x2024, "EPTP-list address", IF(VMFUNC, 0)},
    {0x2026, "VMREAD-bitmap address", IF(PROC2, 14)}, {0x2028, "VMWRITE-bitmap address", IF(PROC2, 14)},
    {0x202A, "virtualization-exception information address", IF(PROC2, 18)},
    {0x202C, "XSS-exiting bitmap", IF(PROC2, 20)}, {0x202E, "ENCLS-exiting bitmap", IF(PROC2, 15)},
    {0x2030, "sub-page-permission-table pointer (SPPTP)", IF(PROC2, 23)}, {0x2032, "TSC multiplier", IF(PROC2, 25)},
    {0x2034, "tertiary processor-based VM-execution controls", IF(PROC, 17)},
    {0x2038, "low PASID directory address", IF(PROC2, 21)}, {0x203A, "high PASID directory address", IF(PROC2, 21)},
    {0x203C, "SEAM shared EPT pointer", IF(PROC3, 5)}, {0x203E, "PCONFIG-exiting bitmap", IF(PROC2, 27)},
    {0x2040, "hypervisor-managed linear-address translation pointer (HLATP)", IF(PROC3, 1)},
    {0x2042, "PID-pointer table address", IF(PROC3, 4)}, {0x2044, "secondary VM-exit controls", IF(EXIT, 31)},
    {0x204A, "IA32_SPEC_CTRL mask", IF(PROC3, 7)}, {0x204C, "IA32_SPEC_CTRL shadow", IF(PROC3, 7)},
    {0x204E, "guest deadline shadow", IF(PROC3, 8)}, {0x2052, "injected-event data", NEVER},
    {0x2400, "guest-physical address", IF(PROC2, 1)}, {0x2402, "MSR data", IF(PROC3, 6)},
    {0x2404, "original-event data", NEVER}, {0x2800, "VMCS link pointer", ALWAYS},
    {0x2802, "guest IA32_DEBUGCTL", ALWAYS}, {0x2804, "guest IA32_PAT", IF2(ENTRY, 14, EXIT, 18)},
    {0x2806, "guest IA32_EFER", IF2(ENTRY, 15, EXIT, 20)}, {0x2808, "guest IA32_PERF_GLOBAL_CTRL", IF(ENTRY, 13)},
    {0x280A, "guest PDPTE0", IF(PROC2, 1)}, {0x280C, "guest PDPTE1", IF(PROC2, 1)},
    {0x280E, "guest PDPTE2", IF(PROC2, 1)}, {0x2810, "guest PDPTE3", IF(PROC2, 1)},
    {0x2812, "guest IA32_BNDCFGS", IF2(ENTRY, 16, EXIT, 23)},
    {0x2814, "guest IA32_RTIT_CTL", IF2(ENTRY, 18, EXIT, 25)},
    {0x2816, "guest IA32_LBR_CTL", IF2(ENTRY, 21, EXIT, 26)}, {0x2818, "guest IA32_PKRS", IF(ENTRY, 22)},
    {0x281A, "guest IA32_FRED_CONFIG", IF2(ENTRY, 23, EXIT2, 0)},
    {0x281C, "guest IA32_FRED_RSP1", IF2(ENTRY, 23, EXIT2, 0)},
    {0x281E, "guest IA32_FRED_RSP2", IF2(ENTRY, 23, EXIT2, 0)},
    {0x2820, "guest IA32_FRED_RSP3", IF2(ENTRY, 23, EXIT2, 0)},
    {0x2822, "guest IA32_FRED_STKLVLS", IF2(ENTRY, 23, EXIT2, 0)},
    {0x2824, "guest IA32_FRED_SSP1", IF2(ENTRY, 23, EXIT2, 0)},
    {0x2826, "guest IA32_FRED_SSP2", IF2(ENTRY, 23, EXIT2, 0)},
    {0x2828, "guest IA32_FRED_SSP3", IF2(ENTRY, 23, EXIT2, 0)}, {0x282E, "guest IA32_SPEC_CTRL", IF(ENTRY, 24)},
    {0x2830, "guest deadline", IF(PROC3, 8)}, {0x2C00, "host IA32_PAT", IF(EXIT, 19)},
    {0x2C02, "host IA32_EFER", IF(EXIT, 21)}, {0x2C04, "host IA32_PERF_GLOBAL_CTRL", IF(EXIT, 12)},
    {0x2C06, "host IA32_PKRS", IF(EXIT, 29)}, {0x2C08, "host IA32_FRED_CONFIG", IF(EXIT2, 1)},
    {0x2C0A, "host IA32_FRED_RSP1", IF(EXIT2, 1)}, {0x2C0C, "host IA32_FRED_RSP2", IF(EXIT2, 1)},
    {0x2C0E, "host IA32_FRED_RSP3", IF(EXIT2, 1)}, {0x2C10, "host IA32_FRED_STKLVLS", IF(EXIT2, 1)},
    {0x2C12, "host IA32_FRED_SSP1", IF(EXIT2, 1)}, {0x2C14, "host IA32_FRED_SSP2", IF(EXIT2, 1)},
    {0x2C16, "host IA32_FRED_SSP3", IF(EXIT2, 1)}, {0x2C1A, "host IA32_SPEC_CTRL", IF(EXIT2, 2)},
    {0x4000, "pin-based VM-execution controls", ALWAYS},
    {0x4002, "primary processor-based VM-execution controls", ALWAYS}, {0x4004, "exception bitmap", ALWAYS},
    {0x4006, "page-fault error-code mask", ALWAYS}, {0x4008, "page-fault error-code match", ALWAYS},
    {0x400A, "CR3-target count", ALWAYS}, {0x400C, "primary VM-exit controls", ALWAYS},
    {0x400E, "VM-exit MSR-store count", ALWAYS}, {0x4010, "VM-exit MSR-load count", ALWAYS},
    {0x4012, "VM-entry controls", ALWAYS}, {0x4014, "VM-entry MSR-load count", ALWAYS},
    {0x4016, "injected-event identification", ALWAYS}, {0x4018, "injected-event error code", ALWAYS},
    {0x401A, "VM-entry instruction length", ALWAYS}, {0x401C, "TPR threshold", IF(PROC, 21)},
    {0x401E, "secondary processor-based VM-execution controls", IF(PROC, 31)}, {0x4020, "PLE_Gap", IF(PROC2, 10)},
    {0x4022, "PLE_Window", IF(PROC2, 10)}, {0x4024, "instruction-timeout control", IF(PROC2, 31)},
    {0x4026, "SEAM-guest KeyID", IF(PROC3, 5)}, {0x4400, "VM-instruction error", ALWAYS},
    {0x4402, "exit reason", ALWAYS}, {0x4404, "exiting-event identification", ALWAYS},
    {0x4406, "exiting-event error code", ALWAYS}, {0x4408, "original-event identification", ALWAYS},
    {0x440A, "original-event error code", ALWAYS}, {0x440C, "VM-exit instruction length", ALWAYS},
    {0x440E, "VM-exit instruction information", ALWAYS}, {0x4800, "guest ES limit", ALWAYS},
    {0x4802, "guest CS limit", ALWAYS}, {0x4804, "guest SS limit", ALWAYS}, {0x4806, "guest DS limit", ALWAYS},
    {0x4808, "guest FS limit", ALWAYS}, {0x480A, "guest GS limit", ALWAYS}, {0x480C, "guest LDTR limit", ALWAYS},
    {0x480E, "guest TR limit", ALWAYS}, {0x4810, "guest GDTR limit", ALWAYS}, {0x4812, "guest IDTR limit", ALWAYS},
    {0x4814, "guest ES access rights", ALWAYS}, {0x4816, "guest CS access rights", ALWAYS},
    {0x4818, "guest SS access rights", ALWAYS}, {0x481A, "guest DS access rights", ALWAYS},
    {0x481C, "guest FS access rights", ALWAYS}, {0x481E, "guest GS access rights", ALWAYS},
    {0x4820, "guest LDTR access rights", ALWAYS}, {0x4822, "guest TR access rights", ALWAYS},
    {0x4824, "guest interruptibility state", ALWAYS}, {0x4826, "guest activity state", ALWAYS},
    {0x4828, "guest SMBASE", ALWAYS}, {0x482A, "guest IA32_SYSENTER_CS", ALWAYS},
    {0x482E, "VMX-preemption timer value", IF(PIN, 6)}, {0x4C00, "host IA32_SYSENTER_CS", ALWAYS},
    {0x6000, "CR0 guest/host mask", ALWAYS}, {0x6002, "CR4 guest/host mask", ALWAYS},
    {0x6004, "CR0 read shadow", ALWAYS}, {0x6006, "CR4 read shadow", ALWAYS}, {0x6008, "CR3-target value 0", ALWAYS},
    {0x600A, "CR3-target value 1", ALWAYS}, {0x600C, "CR3-target value 2", ALWAYS},
    {0x600E, "CR3-target value 3", ALWAYS}, {0x6400, "exit qualification", ALWAYS}, {0x6402, "I/O RCX", ALWAYS},
    {0x6404, "I/O RSI", ALWAYS}, {0x6406, "I/O RDI", ALWAYS}, {0x6408, "I/O RIP", ALWAYS},
    {0x640A, "guest-linear address", ALWAYS}, {0x6800, "guest CR0", ALWAYS}, {0x6802, "guest CR3", ALWAYS},
    {0x6804, "guest CR4", ALWAYS}, {0x6806, "guest ES base", ALWAYS}, {0x6808, "guest CS base", ALWAYS},
    {0x680A, "guest SS base", ALWAYS}, {0x680C, "guest DS base", ALWAYS}, {0x680E, "guest FS base", ALWAYS},
    {0x6810, "guest GS base", ALWAYS}, {0x6812, "guest LDTR base", ALWAYS}, {0x6814, "guest TR base", ALWAYS},
    {0x6816, "guest GDTR base", ALWAYS}, {0x6818, "guest IDTR base", ALWAYS}, {0x681A, "guest DR7", ALWAYS},
    {0x681C, "guest RSP", ALWAYS}, {0x681E, "guest RIP", ALWAYS}, {0x6820, "guest RFLAGS", ALWAYS},
    {0x6822, "guest pending debug exceptions", ALWAYS}, {0x6824, "guest IA32_SYSENTER_ESP", ALWAYS},
    {0x6826, "guest IA32_SYSENTER_EIP", ALWAYS}, {0x6828, "guest IA32_S_CET", IF(ENTRY, 20)},
    {0x682A, "guest SSP", IF(ENTRY, 20)}, {0x682C, "guest IA32_INTERRUPT_SSP_TABLE_ADDR", IF(ENTRY, 20)},
    {0x6C00, "host CR0", ALWAYS}, {0x6C02, "host CR3", ALWAYS}, {0x6C04, "host CR4", ALWAYS},
    {0x6C06, "host FS base", ALWAYS}, {0x6C08, "host GS base", ALWAYS}, {0x6C0A, "host TR base", ALWAYS},
    {0x6C0C, "host GDTR base", ALWAYS}, {0x6C0E, "host IDTR base", ALWAYS},
    {0x6C10, "host IA32_SYSENTER_ESP", ALWAYS}, {0x6C12, "host IA32_SYSENTER_EIP", ALWAYS},
    {0x6C14, "host RSP", ALWAYS}, {0x6C16, "host RIP", ALWAYS}, {0x6C18, "host IA32_S_CET", IF(EXIT, 28)},
    {0x6C1A, "host SSP", IF(EXIT, 28)}, {0x6C1C, "host IA32_INTERRUPT_SSP_TABLE_ADDR", IF(EXIT, 28)},
};
// clang-format on

static void every_field_of_appendix_b(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(appendix_b), VMCS_FIELD_COUNT);
    for (unsigned i = 0; i < ARRAY_LEN(appendix_b); i++) {
        int n = vmcs_field_find(appendix_b[i].encoding);
        assert_int_not_equal(n, -1);
        const struct vmcs_field_row *r = &vmcs_field_rows[n];
        assert_string_equal(r->text, appendix_b[i].name);
        int if_[2] = {r->if1, r->if2};
        for (unsigned k = 0; k < 2; k++) {
            int group = appendix_b[i].with[k].group, bit = appendix_b[i].with[k].bit;
            if (k == 0 && group < 0) {
                assert_int_equal(if_[0], group);
            } else if (k == 1 && !group && !bit) { // pin-based control 0 makes no field exist
                assert_int_equal(if_[1], -1);
            } else {
                assert_true(if_[k] >= 0 && if_[k] < CONTROL_COUNT);
                assert_int_equal(vmx_control_rows[if_[k]].group, group);
                assert_int_equal(vmx_control_rows[if_[k]].bit, bit);
            }
        }
    }
}

static void fields_keep_apart(void **state)
{
    (void)state;
    struct vmcs_fields f;
    memset(&f, 0, sizeof f);
    for (int i = 0; i < VMCS_FIELD_COUNT; i++)
        vmcs_field_set(&f, (enum vmcs_field)i, 0xFFFF000000000000ull | (u64)i << 8 | 0x5A);
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        u64 x = 0xFFFF000000000000ull | (u64)i << 8 | 0x5A;
        if (vmcs_field_rows[i].size == 2) x = (u16)x;
        if (vmcs_field_rows[i].size == 4) x = (u32)x;
        assert_int_equal(vmcs_field_get(&f, (enum vmcs_field)i), x);
    }
    f.GUEST_CR4 = 0x1234;
    assert_int_equal(vmcs_field_get(&f, VMCS_GUEST_CR4), 0x1234);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_agree_with_their_encodings),
        cmocka_unit_test(every_other_encoding_is_unknown),
        cmocka_unit_test(known_encodings),
        cmocka_unit_test(every_field_of_appendix_b),
        cmocka_unit_test(fields_keep_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

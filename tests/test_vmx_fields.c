// The VMCS field table: encodings against what their bits mean, against well-known numbers, and against each other.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) assert_int_equal(vmcs_field_find(known[i].encoding), known[i].field);
}

static void fields_keep_apart(void **state)
{
    (void)state;
    struct vmcs_fields f;
    memset(&f, 0, sizeof f);
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) vmcs_field_set(&f, (enum vmcs_field)i, 0xFFFF000000000000ull | (u64)i << 8 | 0x5A);
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
        cmocka_unit_test(fields_keep_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

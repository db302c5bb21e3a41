// The checks of a VM entry as rows (vmx/checks.def), their evaluation, and the entry doctor that lists all
// violated ones.
#ifndef VMX_CHECKS_H
#define VMX_CHECKS_H

#include "vmx/entry.h"

// What a row reads: an enum vmcs_field, or one of these.
// clang-format off
enum vmx_check_input {
    VMX_INPUT_MAXPHYADDR = VMCS_FIELD_COUNT,
    VMX_INPUT_LINEAR_BITS,
    VMX_INPUT_EFER,       // of the processor at the entry
    VMX_INPUT_EFER_VALID, // the bits of IA32_EFER that this processor has
    VMX_INPUT_SPEC_CTRL_VALID, // the bits of IA32_SPEC_CTRL that this processor has
    VMX_INPUT_VMCS_POINTER, VMX_INPUT_VMCS_DWORD, // the current VMCS: its address, its first doubleword
    VMX_INPUT_LAUNCH_STATE,
    VMX_INPUT_BLOCKING,   // of the processor at the entry, in the bits of the interruptibility state
    VMX_INPUT_IA32_VMX_BASIC, VMX_INPUT_IA32_VMX_MISC, VMX_INPUT_IA32_VMX_EPT_VPID_CAP,
    VMX_INPUT_IA32_VMX_CR0_FIXED0, VMX_INPUT_IA32_VMX_CR0_FIXED1,
    VMX_INPUT_IA32_VMX_CR4_FIXED0, VMX_INPUT_IA32_VMX_CR4_FIXED1,
    VMX_INPUT_IA32_VMX_TRUE_PINBASED_CTLS, VMX_INPUT_IA32_VMX_TRUE_PROCBASED_CTLS, VMX_INPUT_IA32_VMX_PROCBASED_CTLS2,
    VMX_INPUT_IA32_VMX_PROCBASED_CTLS3, VMX_INPUT_IA32_VMX_EXIT_CTLS2,
    VMX_INPUT_IA32_VMX_TRUE_EXIT_CTLS, VMX_INPUT_IA32_VMX_TRUE_ENTRY_CTLS, VMX_INPUT_IA32_VMX_VMFUNC,
    VMX_INPUT_VTPR,       // byte 80H of the virtual-APIC page
    VMX_INPUT_LINK_DWORD, // doubleword at the VMCS link pointer
    VMX_INPUT_PDPTE0, VMX_INPUT_PDPTE1, VMX_INPUT_PDPTE2, VMX_INPUT_PDPTE3, // in memory at guest CR3
    VMX_INPUT_MSR_NUMBER, VMX_INPUT_MSR_INDEX, VMX_INPUT_MSR_RESERVED, VMX_INPUT_MSR_DATA, // an MSR-load entry
    VMX_INPUT_END,
};
// clang-format on
#define VMX_CHECK_INPUTS_MAX 10

struct vmx_check { // a row
    const char *id, *section, *words;
    u8 outcome; // enum vmx_outcome, with number and qualification as in struct vmx_check_failure
    u8 number;
    u8 qualification;
    u16 inputs[VMX_CHECK_INPUTS_MAX + 1]; // ended by VMX_INPUT_END
};
extern const struct vmx_check vmx_check_rows[]; // in architectural order, the MSR-load rows last
extern const unsigned vmx_check_row_count;
const char *vmx_check_group(const struct vmx_check *c); // "basic", "controls", "host", "guest", "msr-load"

// Checks and performs entry `number` (from 1) of the VM-entry MSR-load area. `write` is WRMSR at CPL 0, false
// for #GP; NULL leaves out the row that needs it.
bool vmx_check_msr_entry(const struct vmx_msr_entry *m, u32 number,
                         bool (*write)(void *opaque, u32 msr, u64 data), void *opaque,
                         struct vmx_check_failure *first);

// The entry doctor: every violated row, in architectural order. The first `max` go to out[]; returns how many
// there are. It changes nothing, and reads memory only where there is RAM. Of the MSR-load area it checks all
// but the values.
unsigned vmx_doctor(const struct vmx_entry *e, struct vmx_check_failure *out, unsigned max);

// What one row, not of the MSR-load area, says of an entry.
enum vmx_verdict { VMX_VERDICT_DOES_NOT_APPLY, VMX_VERDICT_HOLDS, VMX_VERDICT_VIOLATED };
enum vmx_verdict vmx_check_judge(const struct vmx_entry *e, const struct vmx_check *c);

typedef void (*vmx_put)(void *opaque, const char *text);
// One violated row in one line without its end: id, section, outcome, fields with values, the rule in words.
// (In full: vmx/explain.h.)
void vmx_check_describe(const struct vmx_entry *e, const struct vmx_check_failure *x, vmx_put put,
                        void *opaque);
const char *vmx_check_input_name(unsigned input);
u64 vmx_check_input_value(const struct vmx_entry *e, const struct vmx_check_failure *x, unsigned input);
// All rows as a page of documentation (docs/entry-checks.md).
void vmx_check_document(vmx_put put, void *opaque);

#endif

// What the checks of a VM entry look at: the VMCS and the facts about the processor. The checks change
// nothing.
#ifndef VMX_ENTRY_H
#define VMX_ENTRY_H

#include "vmx/caps.h"
#include "vmx/vmcs.h"

struct vmx_entry {
    const struct vmcs_fields *f; // the fields by name: e->f->GUEST_CR4
    const struct vmx_caps *caps;
    const struct cpu_features *features;
    struct phys *phys; // for rows that look at memory; NULL: there is none to look at, and they do not apply
    unsigned cpu;
    u8 maxphyaddr;
    u8 linear_bits; // widest linear address: 57 with LA57, else 48
    bool launch;    // VMLAUNCH, else VMRESUME
    bool smm;       // never in this processor
    paddr vmcs_pointer, vmxon_pointer;
    u32 revision; // first dword of the region (bit 31: shadow VMCS)
    u32 launch_state;
    u64 cr0, cr3, cr4, efer, misc_enable, rflags; // of the processor now
    u32 blocking;                                 // BLOCKING_BY_* now
    u8 cpl;
    // The controls with "activate" applied: 0 where the field that holds them is not active.
    u32 pin, proc, proc2, exit, entry;
    u64 proc3, exit2, vmfunc;
};

enum vmx_outcome {
    VMX_OUTCOME_OK,
    VMX_OUTCOME_FAIL_INVALID, // VMfailInvalid
    VMX_OUTCOME_FAIL_VALID,   // VMfailValid(number)
    VMX_OUTCOME_EXIT,         // VM-entry failure: exit reason `number` with bit 31 set and `qualification`
};
struct vmx_msr_entry { // an entry of an MSR area, as it lies in memory
    u32 index, reserved;
    u64 data;
};
struct vmx_check; // a row: vmx/checks.h
struct vmx_check_failure {
    const struct vmx_check *check;
    const char *id; // "HOST-CR-001"
    u8 outcome;     // enum vmx_outcome
    u32 number;
    u64 qualification;        // exit 34: the number of the MSR-load entry, from 1
    struct vmx_msr_entry msr; // exit 34: that entry
};

// All of it, for the region r of a VMCS (vmcs_pointer is the current one's) and the processor as it stands.
struct vcpu;
struct vmcs_region;
void vmx_entry_fill(struct vcpu *v, struct vmx_entry *e, const struct vmcs_region *r, bool launch);
// Fills the derived members (pin ... vmfunc) from the fields.
void vmx_entry_decode(struct vmx_entry *e);
// All rows in architectural order up to the first violated one. True: the entry may load guest state.
bool vmx_check_entry(const struct vmx_entry *e, struct vmx_check_failure *first);

#endif

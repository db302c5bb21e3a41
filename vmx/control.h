// The decoded controls of the current VMCS, in the form in which guards and boundaries ask. Derived: rebuilt
// from the region in memory whenever something wrote to it. Also what is fixed for a processor (its
// capabilities), and statistics.
#ifndef VMX_CONTROL_H
#define VMX_CONTROL_H

#include "cpu/state/vcpu.h"
#include "vmx/caps.h"
#include "vmx/exit_reason.h"
#include "vmx/vmcs.h"

// What VMLAUNCH and VMRESUME cost beyond an instruction, in units of time. (The run loop charges for the
// exit.)
#define VMX_ENTRY_UNITS 40

struct vmx_control {
    struct vmx_caps caps;
    struct vmcs_region *region; // of the current VMCS; NULL: not decoded
    // Fields from here on are of the current VMCS.
    // The controls as they act: 0 where what holds them is not activated.
    u32 pin, proc, proc2, exit, entry;
    u64 proc3, exit2, vmfunc;
    u32 exception_bitmap, pfec_mask, pfec_match;
    u32 cr3_targets;
    u64 cr3_target[4];
    u64 cr0_mask, cr0_shadow, cr4_mask, cr4_shadow;
    u64 tsc_offset, tsc_multiplier; // 0: not used
    paddr io_bitmap[2], msr_bitmap, virtual_apic;
    u32 tpr_threshold;
    u64 eoi_exit[4];
    paddr posted_descriptor;
    u16 posted_vector;
    u8 timer_vector; // of the guest timer
    u16 pid_pointer_last;
    paddr pid_pointers;
    u32 ple_gap, ple_window;
    u64 instruction_timeout; // in ticks of vtime; UINT64_MAX without it
    u64 xss_bitmap;
    u64 spec_ctrl_mask;
    // Statistics, for the frontend: not of the machine.
    u64 entries, entry_failures, exits[EXIT_REASON_COUNT];
};

// What translations in a guest depend on (eptp, ept_use and what it needs, vpid, apic_access), as VM entry
// takes it from the fields.
void vmx_translation_of(struct vmx_state *s, const struct vmcs_fields *f);
void vmx_control_decode(struct vcpu *v);
// The controls of the current VMCS. One must exist (it does in non-root operation).
static inline const struct vmx_control *vmx_controls(const struct vcpu *v)
{
    if (unlikely(!v->vmx->region)) vmx_control_decode((struct vcpu *)v);
    return v->vmx;
}
static inline bool vmx_pin(const struct vcpu *v, u32 bit) { return vmx_controls(v)->pin & bit; }
static inline bool vmx_proc(const struct vcpu *v, u32 bit) { return vmx_controls(v)->proc & bit; }
static inline bool vmx_proc3(const struct vcpu *v, u64 bit) { return vmx_controls(v)->proc3 & bit; }
static inline bool vmx_proc2(const struct vcpu *v, u32 bit) { return vmx_controls(v)->proc2 & bit; }

void vmx_set_current(struct vcpu *v, paddr vmcs); // changes the current-VMCS pointer (VMX_NO_POINTER: none)
void vmx_region_written(struct vcpu *v);          // we wrote to the current region directly
const struct vmx_caps *vmx_capabilities(const struct vcpu *v);
// The bits of an EPTP that CTL-EPT-001 to 006 do not take; 0: it is valid.
u64 vmx_eptp_offence(const struct vmx_caps *c, unsigned maxphyaddr, u64 eptp);

#endif

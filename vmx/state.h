// VT-x state of a logical processor. Plain data; the VMX helpers' own derived data (decoded controls) is in
// vmx/control.h.
#ifndef VMX_STATE_H
#define VMX_STATE_H

#include "mmu/types.h"

#define VMX_NO_POINTER UINT64_MAX

STATE_BEGIN
struct vmx_state {          // architectural
    bool on;                // in VMX operation (after VMXON)
    bool guest;             // in VMX non-root operation
    bool mtf_pending;       // a monitor-trap-flag exit is pending for the next boundary
    bool timer_active;      // the VMX-preemption timer is counting
    bool detects_bus_locks; // "VMM bus-lock detection" of the running guest
    bool bus_lock;          // one was asserted: an exit is pending for the next boundary
    u8 pad[2];
    u64 vmxon_pointer;
    u64 vmcs_pointer;   // current VMCS, VMX_NO_POINTER if none
    u64 timer_deadline; // vtime at which the preemption timer reaches 0 (CLOCK_NEVER when inactive)
    // IDT-vectoring: the event whose delivery is in progress (0 if none), in the format of IDT-vectoring
    // information
    u32 original_event, original_event_error, original_event_insn_len;
    bool vectoring_rf; // its frame shows RF=1
    u8 pad2;
    u16 vpid;        // of the running guest, 0 without VPIDs
    u64 eptp;        // of the running guest, 0 without EPT
    u64 mtf_retired; // instructions retired at VM entry: the monitor trap flag traps after one more
    // PAUSE-loop exiting: vtime of the loop's first PAUSE at CPL 0 and of the last; 0: none
    u64 ple_first, ple_last;
    // APIC virtualization, of the running guest
    u64 apic_access;    // its APIC-access page, bit 0 set; 0: no such page
    u16 trap;           // the exit reason of a trap-like exit that is pending for the next boundary; 0: none
    u16 apic_write;     // page offset of a write to the APIC-access page whose emulation is due at the
    u8 apic_write_size; // next boundary, and its bytes; 0: none
    u8 rvi, svi;        // requesting and servicing virtual interrupt
    bool virtual_interrupt; // a pending virtual interrupt is recognized
    u32 trap_qualification;
    u8 pad3[4];
    // What the controls of the running guest add to EPT, as VM entry found them
    u64 pml_address, spptp, hlatp;
    u32 ept_use; // VMX_EPT_*
    u16 hlat_prefix;
    u16 pad4;
    u64 guest_deadline; // TSC at which the guest timer's event comes; 0: not armed
    u64 delivery_began; // vtime at which the event came whose delivery, with what it met, is in progress
};
STATE_END
enum { // vmx_state.ept_use
    VMX_EPT_PML = 1 << 0,
    VMX_EPT_MBEC = 1 << 1,
    VMX_EPT_SUBPAGES = 1 << 2,
    VMX_EPT_PAGING_WRITE = 1 << 3,
    VMX_EPT_VERIFY = 1 << 4,
    VMX_EPT_HLAT = 1 << 5,
};

#endif

// Between the files of the world switches: VM entry, VM exit, and what both use.
#ifndef VMX_WORLD_H
#define VMX_WORLD_H

#include "vmx/control.h"
#include "vmx/entry.h"

// Bits of the event fields (injected, exiting, original event).
enum { IDENT_ERROR_CODE = 1 << 11, IDENT_NMI_UNBLOCKING = 1 << 12 };
#define IDENT_VALID 0x80000000u
static inline unsigned event_vector(u32 info) { return info & 0xFF; }
static inline unsigned event_type(u32 info) { return info >> 8 & 7; }

// Bits of CR0 that neither entry nor exit changes: ET, CD, NW and the reserved 15:6, 17, 28:19
// (SDM 29.3.2.1, 30.5.1).
#define CR0_WORLD_KEEPS (CR0_ET | CR0_CD | CR0_NW | 0xFFC0u | 1u << 17 | 0x1FF80000u)

// ---- vmx/load_guest.c ----
// Loads the guest state (not RIP), which the checks have passed.
void vmx_load_guest(struct vcpu *v, const struct vmx_entry *e);
// ---- vmx/save_guest.c ----
void vmx_save_guest(struct vcpu *v, struct vmcs_fields *f, const struct event *e);
// ---- vmx/load_host.c ----
// Loads the host state, RIP included. False: a VMX abort has happened.
bool vmx_load_host(struct vcpu *v, struct vmcs_region *r);
void vmx_abort(struct vcpu *v, struct vmcs_region *r, u32 indicator, const char *why);
// ---- vmx/msr_area.c ----
// Each returns 0, or the 1-based number of the entry that failed.
u32 vmx_msr_area_load(struct vcpu *v, paddr area, u32 count, struct vmx_check_failure *why);
u32 vmx_msr_area_store(struct vcpu *v, paddr area, u32 count);

// ---- vmx/preemption_timer.c ----
u64 vmx_timer_ends(const struct vcpu *v, u32 count); // the vtime at which one that is started now ends
u32 vmx_timer_left(const struct vcpu *v);            // what is left of the one that runs

// ---- vmx/apic.c ----
void vmx_apic_entered(struct vcpu *v, const struct vmx_entry *e); // blocking and activity are loaded

void vmx_flush(struct vcpu *v, bool vpid); // what an entry or exit, with VPIDs or without, drops

#endif

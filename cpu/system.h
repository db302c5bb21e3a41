// System side of the processor, between files of cpu/ and for vmx/.
#ifndef CPU_SYSTEM_H
#define CPU_SYSTEM_H

#include "cpu/access.h"

// ---- segments (cpu/seg.c) ----
void seg_load_real(struct vcpu *v, unsigned seg, u16 sel); // real-address and virtual-8086 mode: base = sel * 16
RAISES void seg_load(struct vcpu *v, unsigned seg, u16 sel); // MOV/POP/LxS to a data segment or SS, all modes, all checks
struct descriptor { u64 raw, raw_hi; };
// Reads a descriptor (8 bytes; 16 for system ones in IA-32e mode). #vector(sel & ~3) beyond the limit.
RAISES void seg_read_descriptor(struct vcpu *v, u16 sel, struct descriptor *d, u8 vector);
void seg_from_descriptor(struct segment *s, u16 sel, const struct descriptor *d);
RAISES void far_jump(struct vcpu *v, u16 sel, u64 offset, unsigned w);
RAISES void far_call(struct vcpu *v, u16 sel, u64 offset, unsigned w);
RAISES void far_return(struct vcpu *v, unsigned w, unsigned pop_bytes);

// ---- control registers and MSRs (cpu/control.c, cpu/msr.c) ----
RAISES void cr0_write(struct vcpu *v, u64 value);
RAISES void cr3_write(struct vcpu *v, u64 value);
RAISES void cr4_write(struct vcpu *v, u64 value);
RAISES void xcr0_write(struct vcpu *v, u64 value);
// True if the write is allowed and done. MSR rows with masks; unknown ones are counted, named, and refused (#GP by the caller).
bool msr_read(struct vcpu *v, u32 msr, u64 *value);
bool msr_write(struct vcpu *v, u32 msr, u64 value);
u64 cr4_valid_mask(const struct vcpu *v); // bits of CR4 that this processor has
u64 efer_valid_mask(const struct vcpu *v);

// ---- delivery (cpu/deliver.c), from the run loop only, under its landing pad ----
// Delivers through the IVT or IDT: real, protected, IA-32e; CPL changes, IST; error codes. Faults on the way raise.
RAISES void deliver_event(struct vcpu *v, const struct event *e);
// Which event results when `second` occurs while `first` is being delivered (#DF table): false = shutdown.
bool deliver_combine(const struct event *first, const struct event *second, struct event *result);

#endif

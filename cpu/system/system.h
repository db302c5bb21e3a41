// System side of the processor, between files of cpu/ and for vmx/.
#ifndef CPU_SYSTEM_H
#define CPU_SYSTEM_H

#include "cpu/engine/access.h"

// ---- segments (cpu/system/seg.c) ----
// real-address and virtual-8086 mode: base = sel * 16
void seg_load_real(struct vcpu *v, unsigned seg, u16 sel);
// MOV/POP/LxS to a data segment or SS, all modes, all checks
RAISES void seg_load(struct vcpu *v, unsigned seg, u16 sel);
struct descriptor {
    u64 raw, raw_hi;
};
// Reads a descriptor (8 bytes; 16 for system ones in IA-32e mode). #vector(sel & ~3) beyond the limit.
RAISES void seg_read_descriptor(struct vcpu *v, u16 sel, struct descriptor *d, u8 vector);
void seg_from_descriptor(struct segment *s, u16 sel, const struct descriptor *d);
RAISES void far_jump(struct vcpu *v, u16 sel, u64 offset, unsigned w);
RAISES void far_call(struct vcpu *v, u16 sel, u64 offset, unsigned w);
RAISES void far_return(struct vcpu *v, unsigned w, unsigned pop_bytes);

// The same with the EXT bit for error codes (0 or 1), and the next steps of using one; for far.c, iret.c and
// deliver.c.
RAISES void seg_read_descriptor_ext(struct vcpu *v, u16 sel, struct descriptor *d, u8 vector, u32 ext);
// sets the accessed bit in memory and in d
RAISES void seg_mark_accessed(struct vcpu *v, u16 sel, struct descriptor *d);
laddr seg_descriptor_address(const struct vcpu *v, u16 sel);
// SS keeps DPL = CPL: give it the new one in sel's RPL
void seg_set_null(struct vcpu *v, unsigned seg, u16 sel);
// Offset in an arbitrary stack segment -> linear, as seg_linear does for SS; false: beyond the limit or not
// canonical.
bool seg_stack_linear(const struct vcpu *v, const struct segment *ss, bool long64, u64 offset, u64 size,
                      laddr *la);
bool cpu_canonical(const struct vcpu *v, u64 a); // as the paging in use has it: addresses that are used
// as the processor's widest: bases, MSRs, TLB invalidation
bool cpu_canonical_max(const struct vcpu *v, u64 a);

// POPF and IRET of virtual-8086 mode with CR4.VME below IOPL 3: #GP(0) instead of TF, or of IF with VIP set
// (SDM 22.3.2).
static inline bool cpu_virtual_if_refused(const struct vcpu *v, u64 flags)
{
    return flags & FL_TF || (flags & FL_IF && v->s.rflags & FL_VIP);
}

// I/O permission: IOPL, then the bitmap in the TSS. #GP(0). IN, OUT, and the string forms before their
// intercept.
RAISES void io_permission(struct vcpu *v, u16 port, unsigned size);

// ---- control registers and MSRs (cpu/system/control.c, cpu/system/msr.c) ----
RAISES void cr0_write(struct vcpu *v, u64 value);
RAISES void cr3_write(struct vcpu *v, u64 value);
RAISES void cr3_check(struct vcpu *v, u64 value); // what cr3_write raises outside IA-32e mode, and no more
RAISES void cr4_write(struct vcpu *v, u64 value);
void pkru_write(struct vcpu *v, u32 value);
u64 xsave_in_use(struct vcpu *v); // cpu/instructions/xsave.c: XINUSE
RAISES void xcr0_write(struct vcpu *v, u64 value);
// True if the write is allowed and done. MSR rows with masks; unknown ones are counted, named, and refused
// (#GP by the caller).
bool msr_read(struct vcpu *v, u32 msr, u64 *value);
bool msr_write(struct vcpu *v, u32 msr, u64 value);
// The same from outside: no consequence for anybody. False: that cannot be (*name is still its name), or
// there is no such MSR (*name stays as it is).
bool msr_peek(struct vcpu *v, u32 msr, u64 *value, const char **name);
u64 cr4_valid_mask(const struct vcpu *v); // bits of CR4 that this processor has
// the bits that IA32_EFER has; of NXE, IA32_MISC_ENABLE may take it away
u64 efer_valid(const struct cpu_features *f, u64 misc_enable);
u64 spec_ctrl_valid(const struct cpu_features *f); // the bits that IA32_SPEC_CTRL has
// power-up/RESET values; INIT changes EFER and the segment bases only
void msr_reset(struct vcpu *v, bool init);
// What firmware leaves behind and no firmware is there to do: MTRRs on, RAM write-back. For the loaders.
void msr_firmware_defaults(struct vcpu *v);

// ---- delivery (cpu/system/deliver.c), from the run loop only, under its landing pad ----
// Delivers through the IVT or IDT: real, protected, IA-32e; CPL changes, IST; error codes. Faults on the way
// raise.
RAISES void deliver_event(struct vcpu *v, const struct event *e);
// Virtual-8086 mode with CR4.VME: does the TSS leave INT n to the 8086 program? #GP(0) if it has no bitmap.
RAISES bool deliver_v86_redirects(struct vcpu *v, u8 vector);
// What a delivery leaves for the return: RIP (behind the instruction of a software event), RFLAGS; and the
// EXT bit of the error codes that it raises.
u64 event_return_rip(const struct vcpu *v, const struct event *e);
u64 event_return_flags(const struct vcpu *v, const struct event *e);
u32 event_ext(const struct event *e);
// Which event results when `second` occurs while `first` is being delivered (#DF table): false = shutdown.
bool deliver_combine(const struct event *first, const struct event *second, struct event *result);

#endif

// Between the files of the VMX instructions: outcomes, and the guards that their bodies share.
#ifndef VMX_INSN_H
#define VMX_INSN_H

#include "cpu/system/system.h"
#include "vmx/control.h"
#include "vmx/refusals.h"

// Outcomes (SDM 33.2): flags, and the VM-instruction error of the current VMCS.
static inline void vmx_succeed(struct vcpu *v) { v->s.fl = fl_pack(0); }
static inline void vmx_fail_invalid(struct vcpu *v) { v->s.fl = fl_pack(FL_CF); }
void vmx_fail_valid(struct vcpu *v, u32 number);
void vmx_fail(struct vcpu *v, u32 number); // VMfailValid if there is a current VMCS, else VMfailInvalid

// #UD outside VMX operation and in compatibility mode, then #GP(0) above CPL 0. Real and virtual-8086 mode
// are the row's.
RAISES void vmx_guard_mode(struct vcpu *v);
RAISES void vmx_guard(struct vcpu *v);
RAISES u64 vmx_operand64(struct vcpu *v, const struct insn *in); // the m64 operand
// What of the address of a VMXON region or VMCS cannot be.
static inline u64 vmx_address_offence(const struct vcpu *v, paddr a)
{
    return a & (~PAGE_MASK | ~(BIT(v->features->maxphyaddr) - 1));
}

#endif

// Breakpoints of the debug registers (SDM chapter 19): what DR0-DR3, DR7 and CR4.DE ask for, by kind.
//
// Nothing of it costs while no breakpoint is enabled. A page with an enabled data breakpoint is in no fast
// table, so accesses to it go through cpu/engine/access.c, which asks here; where an instruction breakpoint
// is enabled, block_find sends whoever comes to its page back to the run loop, which looks before each
// instruction there.
#ifndef CPU_DEBUG_H
#define CPU_DEBUG_H

#include "cpu/state/vcpu.h"

enum { DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15, DR7_ENABLES = 0xFF, DR7_GD = 1 << 13 };
enum { DEBUGCTL_LBR = 1, DEBUGCTL_BTF = 2 };
// Pending debug exceptions have the format of the VMCS field: B0-B3 and BS as in DR6, and this bit if one of
// the breakpoints is enabled. BT stands for a task switch, which is no business of a VMCS.
enum { PENDING_ENABLED = 1 << 12 };

// After a change of DR0-DR3, DR7 or CR4.DE: v->d.breaks follows, and what was derived for its pages goes.
void debug_changed(struct vcpu *v);
// RIP lies in a page with an instruction breakpoint.
bool debug_code_page(const struct vcpu *v);
// The page of `la`, which is that of `pa`, has a breakpoint on such accesses (ACC_READ, ACC_WRITE).
bool debug_data_page(const struct vcpu *v, laddr la, paddr pa, u32 acc);
// Before the instruction at RIP: #DB if a breakpoint is on it and RF is 0.
RAISES void debug_before_instruction(struct vcpu *v);
// The instruction (or the delivery) accesses these bytes, this port: a breakpoint on them is pending when it
// has completed.
void debug_access(struct vcpu *v, laddr la, u64 size, u32 acc);
void debug_port(struct vcpu *v, u16 port, unsigned size);
// It has completed: what it hit is pending.
void debug_completed(struct vcpu *v);

#endif

// Pieces of far transfers that RET, IRET and event delivery share.
#ifndef CPU_FAR_H
#define CPU_FAR_H

#include "cpu/system/system.h"

// The stack of a more privileged level, from the TSS (or IST entry `ist`, 1-7); checked, not yet in use.
struct far_stack {
    struct segment ss;
    struct descriptor d;
    u64 sp, mask;
    unsigned new_cpl;
    bool null; // IA-32e mode: SS becomes NULL
};
RAISES struct far_stack far_stack_from_tss(struct vcpu *v, unsigned cpl, unsigned ist, u32 ext);
RAISES void far_stack_commit(struct vcpu *v, struct far_stack *st, u64 sp);

// Offset inside the limit of the code segment, or canonical if it is a 64-bit one.
bool far_target_ok(const struct vcpu *v, const struct segment *cs, u64 offset);
// The code and stack segments that a return loads, with all their checks.
RAISES void far_read_return_code(struct vcpu *v, u16 sel, struct segment *cs, struct descriptor *d);
RAISES void far_read_return_stack(struct vcpu *v, u16 sel, const struct segment *cs, u8 absent,
                                  struct segment *ss, struct descriptor *d);
void far_commit_stack(struct vcpu *v, const struct segment *ss, struct descriptor *d, u64 sp);
// After a return to an outer level: data segments that the new CPL may not see, and NULL ones, get selector
// 0; bases stay.
void far_drop_privileged_data(struct vcpu *v, unsigned cpl);

#endif

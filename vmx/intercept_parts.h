// Between the files of the intercepts: whether an instruction exits, and what its exit qualification says.
#ifndef VMX_INTERCEPT_PARTS_H
#define VMX_INTERCEPT_PARTS_H

#include "cpu/engine/insn.h"

bool vmx_mov_to_cr_exits(struct vcpu *v, const struct insn *in);
bool vmx_mov_from_cr_exits(struct vcpu *v, const struct insn *in);
bool vmx_clts_exits(struct vcpu *v);
bool vmx_msr_exits(struct vcpu *v, bool write, u32 msr);
u64 vmx_cr_qualification(const struct insn *in, const struct row *r); // MOV CR, CLTS
u64 vmx_dr_qualification(const struct insn *in, const struct row *r);

#endif

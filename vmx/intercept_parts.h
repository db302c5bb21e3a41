// Between the files of the intercepts.
#ifndef VMX_INTERCEPT_PARTS_H
#define VMX_INTERCEPT_PARTS_H

#include "cpu/insn.h"

RAISES void intercept_mov_to_cr(struct vcpu *v, const struct insn *in);
RAISES void intercept_mov_from_cr(struct vcpu *v, const struct insn *in);
RAISES void intercept_clts(struct vcpu *v);
RAISES void intercept_mov_dr(struct vcpu *v, const struct insn *in);
RAISES void intercept_msr(struct vcpu *v, bool write);

#endif

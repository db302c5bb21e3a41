// Between decode, the block cache and the run loop.
#ifndef CPU_EXEC_H
#define CPU_EXEC_H

#include "cpu/engine.h"
#include "cpu/mode.h"

// Encodings that Zydis refuses though this processor has them or ignores them; else #UD (or #GP when over 15 bytes).
unsigned decode_without_zydis(struct vcpu *v, const u8 *bytes, unsigned n, u32 mode, struct insn *in);
void decode_bind(struct insn *in, u32 mode); // chooses in->exec
call_fn *decode_callable(const struct insn *in, u32 mode); // the form that emitted code calls, or NULL: exec_checked alone

exec_fn exec_fallthrough; // the pseudo-instruction that ends a block without a branch
exec_fn op_ud, op_nm, op_gp0;

// Leaves the block before `in`: RIP and budget become those of that boundary.
void block_leave(struct vcpu *v, const struct insn *in);
// Runs the instructions of a block in the loop, at most until the budget is used or something needs attention.
RAISES void block_run_loop(struct vcpu *v, struct block *b, bool one);

RAISES void exec_guard(struct vcpu *v, const struct insn *in);
// The guards that decoding could not resolve, then the body.
static inline void insn_run(struct vcpu *v, const struct insn *in)
{
    const struct row *r = &rows[in->row];
    if (unlikely(row_intercepted(r)) && v->s.vmx.guest) exec_guard(v, in);
    r->body->loop[in->osz](v, in);
}

// The checked form, for emitted code: raises, or returns whether to go on with the next instruction. If not, the block has been left.
RAISES bool exec_checked(struct vcpu *v, const struct insn *in);

#endif

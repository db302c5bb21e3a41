// Between decode, the block cache and the run loop.
#ifndef CPU_EXEC_H
#define CPU_EXEC_H

#include "mmu/invariant.h"
#include "cpu/engine/access.h"
#include "cpu/engine/engine.h"
#include "cpu/state/mode.h"

void decode_bind(struct insn *in, u32 mode); // chooses in->exec
// the form that emitted code calls, or NULL: exec_checked alone
call_fn *decode_callable(const struct insn *in, u32 mode);

// What runs `in` together with the Jcc behind it, both decoded and bound; NULL: nothing does.
exec_fn *fused_exec(const struct insn *in);

exec_fn exec_fallthrough; // the pseudo-instruction that ends a block without a branch
exec_fn op_ud, op_nm, op_gp0;

// Leaves the block before `in`: RIP and budget become those of that boundary.
void block_leave(struct vcpu *v, const struct insn *in);
// Runs the instructions of a block in the loop, at most until the budget is used or something needs
// attention.
RAISES void block_run_loop(struct vcpu *v, struct block *b, bool one);

// RIP behind the instruction. Outside 64-bit mode it has 32 bits, in 16-bit code too: what goes on behind
// FFFFh there meets the limit.
static inline u64 next_rip(const struct vcpu *v, const struct insn *in)
{
    u64 rip = v->s.rip + in->off + in->len;
    return mode_long64(v->d.mode) ? rip : (u32)rip;
}

RAISES void exec_guard(struct vcpu *v, const struct insn *in);
// Whether b can be the block at s.rip: decoded for the present mode, from these bytes of a page.
static inline bool block_is_at_rip(const struct vcpu *v, const struct block *b)
{
    return b->mode == v->d.mode && !((rip_linear(v).at ^ b->pa) & ~PAGE_MASK);
}

// The guards that decoding could not resolve, then the body. `ran` (or NULL): a bit for each row whose body
// began.
static inline void insn_run(struct vcpu *v, const struct insn *in, u64 *ran)
{
    const struct row *r = &rows[in->row];
    u32 mode = v->d.mode;
    u64 rip = v->s.rip;
    INVARIANT(v->d.in == in && block_is_at_rip(v, insn_block(in)));
    if (unlikely(row_intercepted(r)) && v->s.vmx.guest) exec_guard(v, in);
    if (unlikely(ran)) ran[in->row / 64] |= BIT(in->row % 64);
    r->body->checked[in->osz](v, in);
    INVARIANT(in->row >= ROW_FIXED);
    // of the block's start until the block is left; a body that branches writes d.npc
    INVARIANT(v->s.rip == rip);
    INVARIANT(v->d.mode == mode_compute(v));
    INVARIANT(v->d.mode == mode || in->term);
}

// The checked form, for emitted code: raises, or returns whether to go on with the next instruction. If not,
// the block has been left.
RAISES bool exec_checked(struct vcpu *v, const struct insn *in);

// After an iteration (or chunk) of a REP with work left: gives the boundary its turn, if it wants one, and
// then comes back to this instruction.
RAISES void exec_rep_pause(struct vcpu *v);

#endif

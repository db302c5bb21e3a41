// Near branches through a link: alone (int_branch.c), or behind a comparison (fused.c).
#ifndef CPU_INT_BRANCH_H
#define CPU_INT_BRANCH_H

#include "cpu/engine/exec.h"
#include "cpu/engine/fast.h"
#include "cpu/instructions/alu.h"

enum near { NEAR_JCC, NEAR_JMP, NEAR_CALL, NEAR_RET, NEAR_JMP_INDIRECT, NEAR_CALL_INDIRECT };

// An address in the width of code and stack.
ALWAYS_INLINE u64 cut(u64 x, unsigned w) { return w == W64 ? x : w == W32 ? (u32)x : (u16)x; }
ALWAYS_INLINE u64 relative_target(const struct vcpu *v, const struct insn *in, unsigned w)
{
    return cut(v->s.rip + (u64)(s64)in->disp, w);
}

// After the target was found good. Checked, a fault of the push leaves RIP at the CALL.
ALWAYS_INLINE bool near_stack(struct vcpu *v, const struct insn *in, struct how h, enum near k)
{
    switch (k) {
    case NEAR_CALL:
    case NEAR_CALL_INDIRECT: return push_at(v, h, h.fast ? v->s.rip + in->off + in->len : next_rip(v, in));
    case NEAR_RET: drop_at(v, h, W_BYTES(h.w) + (in->imm & 0xFFFF)); return true;
    default: return true;
    }
}

// Tail-threaded through a link, made by exec_branch. There is none to a target that is not good.
#define THROUGH_LINK(linkage, fn, k, W, slot) \
    linkage void fn(struct vcpu *v, const struct insn *in) \
    { \
        const struct how h = {.w = W, .fast = true}; \
        if (unlikely(!link_good(v, in, slot))) TAIL exec_branch(v, in); \
        struct block *b = insn_end(in)->b[slot]; \
        s64 left = v->d.budget - b->n_check; \
        if (unlikely(left < 0) || !near_stack(v, in, h, k)) TAIL exec_branch(v, in); \
        INVARIANT(b->mode == v->d.mode); \
        v->s.rip = slot ? v->s.rip + (u64)(s64)in->disp : v->s.rip + in->off + in->len; \
        v->d.budget = left; \
        TAIL b->in[0].exec(v, b->in); \
    }

// Jcc at speed, when its condition is false, or true.
THROUGH_LINK(ALWAYS_INLINE, jcc_falls, NEAR_JCC, W64, 0)
THROUGH_LINK(ALWAYS_INLINE, jcc_taken, NEAR_JCC, W64, 1)

#endif

// Going on: from a checked body to the next instruction, from block to block, and back to the run loop.
#include "cpu/engine/exec.h"
#include "cpu/engine/fast.h"
#include "cpu/system/system.h"
#include "vmx/intercept.h"

void block_leave(struct vcpu *v, const struct insn *in)
{
    const struct block *b = insn_block(in);
    v->d.budget += b->n - in->idx;
    v->s.rip += in->off;
    if (!mode_long64(v->d.mode)) v->s.rip = (u32)v->s.rip; // behind a block that ends at 4 GiB
    v->d.in = NULL;
}

void exec_guard(struct vcpu *v, const struct insn *in)
{
    const struct row *r = &rows[in->row];
    if (vmx_hides(v, r)) raise_ud(v);
    switch (row_guard(r, v->d.mode, in->r)) {
    case VERDICT_UD: raise_ud(v);
    case VERDICT_GP0: raise_gp0(v);
    default: break;
    }
    if (r->exit_stage == STAGE_BEFORE_PRIVILEGE) vmx_intercept(v, in);
    if (r->cpl0 && v->d.cpl != 0) raise_gp0(v);
    if (r->exit_stage == STAGE_AFTER_PRIVILEGE) vmx_intercept(v, in);
}

ALWAYS_INLINE bool run_checked(struct vcpu *v, const struct insn *in)
{
    INVARIANT(!v->d.in);
    v->d.in = in;
    v->d.npc = next_rip(v, in);
    insn_run(v, in, NULL);
    v->d.in = NULL;
    if (in->term) {
        v->s.rip = v->d.npc;
        return false;
    }
    if (likely(!v->d.attention && v->d.budget >= 0)) return true;
    block_leave(v, in + 1);
    return false;
}

bool exec_checked(struct vcpu *v, const struct insn *in) { return run_checked(v, in); }

void exec_slow(struct vcpu *v, const struct insn *in)
{
    if (likely(run_checked(v, in))) TAIL in[1].exec(v, in + 1);
    if (in->term) TAIL exec_goto(v, in);
}

void exec_goto(struct vcpu *v, const struct insn *in)
{
    if (unlikely(v->d.attention || v->d.budget <= 0)) return;
    struct block *b = block_find(v);
    v->d.budget -= b->n_check;
    if (unlikely(v->d.budget < 0)) TAIL exec_block_over(v, b->in);
    TAIL b->in[0].exec(v, b->in);
}

void exec_block_over(struct vcpu *v, const struct insn *first)
{
    v->d.budget += insn_block(first)->n_check; // back in the run loop at the block's start
}

// After the instruction `in`, in a block that began at `base`: the block at s.rip, which is linked in the
// slots of `ways` (bit 0: falls through; bit 1: taken), or NULL: back to the run loop.
static struct block *link_block(struct vcpu *v, const struct insn *in, u64 base, unsigned ways)
{
    if (unlikely(v->d.attention || v->d.budget <= 0)) return NULL;
    u64 flushes = v->d.engine->flushes;
    struct block *b = block_find(v);
    // What is not flat is found each time: its segment's base and limit are in no key.
    if (ways && !b->crosses && phys_is_ram(v->phys, b->pa) && flushes == v->d.engine->flushes &&
        (v->d.mode & MODE_FLAT)) {
        struct block_end *l = insn_end(in);
        v->d.engine->links++;
        if (l->rip != base) l->gen[0] = l->gen[1] = 0;
        l->rip = base;
        const struct block *from = insn_block(in);
        bool same_page = base >> PAGE_SHIFT == v->s.rip >> PAGE_SHIFT &&
                         from->pa >> PAGE_SHIFT == b->pa >> PAGE_SHIFT && !from->crosses;
        for (unsigned k = 0; k < 2; k++)
            if (ways >> k & 1) l->b[k] = b, l->gen[k] = same_page ? GEN_SAME_PAGE : v->d.found_gen;
    }
    v->d.budget -= b->n_check;
    return b;
}

void exec_branch(struct vcpu *v, const struct insn *in)
{
    u64 base = v->s.rip;
    v->d.in = in;
    v->d.npc = next_rip(v, in);
    insn_run(v, in, NULL);
    v->d.in = NULL;
    v->s.rip = v->d.npc;
    // What goes over the border at 4 GiB is not linked: whoever goes by a link cuts nothing off.
    unsigned ways = (v->s.rip == base + in->off + in->len) | (v->s.rip == base + (u64)(s64)in->disp) << 1;
    struct block *b = link_block(v, in, base, ways);
    if (!b) return;
    if (unlikely(v->d.budget < 0)) TAIL exec_block_over(v, b->in);
    TAIL b->in[0].exec(v, b->in);
}

static void fallthrough_link(struct vcpu *v, const struct insn *in)
{
    u64 base = v->s.rip, next = base + in->off;
    v->s.rip = mode_long64(v->d.mode) ? next : (u32)next;
    struct block *b = link_block(v, in, base, v->s.rip == next ? 1 : 0);
    if (!b) return;
    if (unlikely(v->d.budget < 0)) TAIL exec_block_over(v, b->in);
    TAIL b->in[0].exec(v, b->in);
}
// The end of a block that ends for its length or at the end of its page.
void exec_fallthrough(struct vcpu *v, const struct insn *in)
{
    if (unlikely(!link_good(v, in, 0))) TAIL fallthrough_link(v, in);
    struct block *b = insn_end(in)->b[0];
    s64 left = v->d.budget - b->n_check;
    if (unlikely(left < 0)) TAIL fallthrough_link(v, in);
    INVARIANT(b->mode == v->d.mode);
    v->s.rip += in->off;
    v->d.budget = left;
    TAIL b->in[0].exec(v, b->in);
}

void block_run_loop(struct vcpu *v, struct block *b, bool one)
{
    v->d.budget -= b->n;
    const struct insn *in = b->in;
    for (;;) {
        v->d.in = in;
        v->d.npc = next_rip(v, in);
        if (unlikely(v->path != NULL)) v->path->begun(v->path->opaque, v, v->d.npc - in->len, in);
        insn_run(v, in, v->rows_run);
        if (in->term) {
            v->d.in = NULL;
            v->s.rip = v->d.npc;
            return;
        }
        in++;
        s64 left = v->d.budget + (b->n - in->idx); // what the slice still holds before `in`
        if (one || v->d.attention || left <= 0 || in->idx == b->n) {
            block_leave(v, in);
            return;
        }
    }
}

// ---- rows that are a fault ----
void op_ud(struct vcpu *v, const struct insn *in) { raise_ud(v); }
void op_nm(struct vcpu *v, const struct insn *in) { raise_fault(v, VEC_NM); }
void op_gp0(struct vcpu *v, const struct insn *in) { raise_gp0(v); }

// "VMM bus-lock detection" (SDM 11.1.2, 28.2): which locked access of an instruction locks the bus. Here it
// is one that crosses a cache line, and one to memory whose type is not write-back: what an atomic access
// within a line of cached memory does not need. Locked are LOCK with a memory operand, and XCHG with one.
// (What the processor locks on its own, accessed and busy bits of descriptors, is not looked at.)
#include <string.h>

#include "cpu/engine/insn.h"
#include "mmu/mtype.h"
#include "mmu/walk.h"
#include "vmx/insn.h"
#include "vmx/intercept.h"

enum { LINE = 64 };

static enum mtype range_type(const struct vcpu *v, paddr a)
{
    const struct msr_state *s = &v->s.msr;
    struct mtype_mtrrs m = {.def_type = s->mtrr_def_type};
    memcpy(m.fixed, s->mtrr_fix, sizeof m.fixed);
    memcpy(m.base, s->mtrr_phys_base, sizeof m.base);
    memcpy(m.mask, s->mtrr_phys_mask, sizeof m.mask);
    return mtype_of_mtrrs(&m, a, v->features->maxphyaddr);
}

// The entries of a walk that has just succeeded say what type the page has.
static enum mtype access_type(const struct vcpu *v, laddr la)
{
    struct walk_steps steps = {0};
    struct walk_result r = walk_peek(v->phys, &v->d.mmu, la, ACC_READ, &steps);
    enum mtype pat = MTYPE_WB;
    const struct walk_step *ept = NULL;
    for (unsigned i = 0; i < steps.n; i++) {
        const struct walk_step *s = &steps.step[i];
        if (s->second)
            ept = s; // of what this stage says, the last is for the final address
        else
            pat = mtype_of_pat(v->s.msr.pat, s->value, s->level > 0);
    }
    bool cd = v->s.cr0 & CR0_CD;
    if (ept) return mtype_of_ept(ept->value, pat, cd);
    return cd ? MTYPE_UC : mtype_combine(range_type(v, r.pa), pat);
}

void vmx_locked_access(struct vcpu *v, laddr la, unsigned size)
{
    const struct insn *in = v->d.in;
    if (!in || !in->mem || !(in->lock || insn_is_xchg(in, &rows[in->row]))) return;
    bool split = la.at % LINE + size > LINE;
    if (!split && access_type(v, la) == MTYPE_WB) return;
    v->s.vmx.bus_lock = true;
    cpu_attention(v);
}

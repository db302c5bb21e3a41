// Operands of MMX and SSE instructions: addresses, alignment, loads and stores.
#include "cpu/instructions/sse.h"

laddr sse_linear(struct vcpu *v, const struct insn *in, unsigned size, u32 acc)
{
    laddr la = insn_linear(v, in, size, acc);
    const struct row *r = &rows[in->row];
    if ((la.at & (size - 1)) && row_aligned(r)) raise_gp0(v);
    // MOVUPS and its like raise no #AC: 16 unaligned bytes are what they are for
    if (size < 16 && !(r->vex && r->unaligned)) lin_align(v, la, size);
    return la;
}

const void *sse_source(struct vcpu *v, const struct insn *in, struct x128 *tmp, unsigned size)
{
    if (!in->mem) return sse_reg(v, in->m);
    laddr la = sse_linear(v, in, size, ACC_READ);
    tmp->q[0] = tmp->q[1] = 0;
    lin_load_n(v, la, tmp, size);
    return tmp;
}

void vex_source_checked(struct vcpu *v, const struct insn *in, void *tmp, unsigned size)
{
    laddr la = sse_linear(v, in, size, ACC_READ);
    memset(tmp, 0, 32);
    lin_load_n(v, la, tmp, size);
}

void sse_store(struct vcpu *v, const struct insn *in, const void *from, unsigned size)
{
    laddr la = sse_linear(v, in, size, ACC_WRITE);
    lin_store_n(v, la, from, size);
}

const void *mmx_source(struct vcpu *v, const struct insn *in, u64 *tmp, unsigned size)
{
    if (!in->mem) return mmx_reg(v, in->m);
    *tmp = 0;
    laddr la = insn_linear(v, in, size, ACC_READ);
    lin_align(v, la, size);
    lin_load_n(v, la, tmp, size);
    return tmp;
}

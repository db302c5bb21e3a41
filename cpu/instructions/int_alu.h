// The bodies of integer arithmetic: each alone (int_alu.c), some with the branch behind them (fused.c).
#ifndef CPU_INT_ALU_H
#define CPU_INT_ALU_H

#include "cpu/engine/fast.h"
#include "cpu/instructions/alu.h"

enum { DIR_EG, DIR_GE, DIR_EI }; // destination, source: r/m,reg  reg,r/m  r/m,imm

ALWAYS_INLINE bool alu_body(struct vcpu *v, const struct insn *in, struct how h, unsigned op, unsigned dir)
{
    bool writes = op != ALU_CMP && op != ALU_TEST, modifies = writes && dir != DIR_GE;
    struct target t;
    u64 e, a, b, r;
    u16 f = v->s.fl;
    if (!(modifies ? target_open(v, in, h, &t, &e) : source_rm(v, in, h, h.w, &e))) return false;
    if (dir == DIR_GE)
        a = reg_get(v, in->r, h.w), b = e;
    else
        a = e, b = dir == DIR_EI ? in->imm : reg_get(v, in->r, h.w);
    if (h.nf)
        r = alu_plain(op, a, b, op == ALU_ADC || op == ALU_SBB ? f >> 8 & 1 : 0);
    else
        r = alu(op, h.w, a, b, &f);
    if (modifies)
        target_commit(v, in, h, &t, r);
    else if (writes)
        reg_set(v, in->r, h.w, r);
    if (!h.nf) v->s.fl = f;
    return true;
}
// INC and DEC keep CF; NOT writes no flags.
enum { UN_INC, UN_DEC, UN_NOT, UN_NEG };
ALWAYS_INLINE u64 unary(unsigned op, unsigned w, u64 a, u16 *fl)
{
    u16 f = *fl, cf = f & AX_CF;
    u64 r;
    switch (op) {
    case UN_INC: r = alu(ALU_ADD, w, a, 1, &f); break;
    case UN_DEC: r = alu(ALU_SUB, w, a, 1, &f); break;
    case UN_NEG: r = alu(ALU_SUB, w, 0, a, &f); break;
    default: return ~a;
    }
    if (op != UN_NEG) f = (f & (u16)~AX_CF) | cf;
    *fl = f;
    return r;
}
ALWAYS_INLINE bool unary_body(struct vcpu *v, const struct insn *in, struct how h, unsigned op)
{
    struct target t;
    u64 a;
    u16 f = v->s.fl;
    if (!target_open(v, in, h, &t, &a)) return false;
    // the others leave flags, so theirs are never dead
    target_commit(v, in, h, &t, h.nf && op == UN_NEG ? -a : unary(op, h.w, a, &f));
    if (!h.nf) v->s.fl = f;
    return true;
}

#endif

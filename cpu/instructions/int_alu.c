// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT: one body each over width, form and direction.
#include "cpu/instructions/alu.h"
#include "cpu/engine/fast.h"
#include "cpu/engine/bodies.h"

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
// The accumulator forms (opcodes 04, 05 ... A8, A9).
ALWAYS_INLINE bool alu_acc(struct vcpu *v, const struct insn *in, struct how h, unsigned op)
{
    u64 a = reg_get(v, GPR_OFF(RAX), h.w), r;
    if (h.nf)
        r = alu_plain(op, a, in->imm, op == ALU_ADC || op == ALU_SBB ? v->s.fl >> 8 & 1 : 0);
    else
        r = alu(op, h.w, a, in->imm, &v->s.fl);
    if (op != ALU_CMP && op != ALU_TEST) reg_set(v, GPR_OFF(RAX), h.w, r);
    return true;
}
// ADD
BODY4(body_add_EG, alu_body, ALU_ADD, DIR_EG)
BODY4(body_add_GE, alu_body, ALU_ADD, DIR_GE)
BODY4(body_add_EI, alu_body, ALU_ADD, DIR_EI)
BODY4_REG(body_add_AI, alu_acc, ALU_ADD)
// OR
BODY4(body_or_EG, alu_body, ALU_OR, DIR_EG)
BODY4(body_or_GE, alu_body, ALU_OR, DIR_GE)
BODY4(body_or_EI, alu_body, ALU_OR, DIR_EI)
BODY4_REG(body_or_AI, alu_acc, ALU_OR)
// ADC
BODY4(body_adc_EG, alu_body, ALU_ADC, DIR_EG)
BODY4(body_adc_GE, alu_body, ALU_ADC, DIR_GE)
BODY4(body_adc_EI, alu_body, ALU_ADC, DIR_EI)
BODY4_REG(body_adc_AI, alu_acc, ALU_ADC)
// SBB
BODY4(body_sbb_EG, alu_body, ALU_SBB, DIR_EG)
BODY4(body_sbb_GE, alu_body, ALU_SBB, DIR_GE)
BODY4(body_sbb_EI, alu_body, ALU_SBB, DIR_EI)
BODY4_REG(body_sbb_AI, alu_acc, ALU_SBB)
// AND
BODY4(body_and_EG, alu_body, ALU_AND, DIR_EG)
BODY4(body_and_GE, alu_body, ALU_AND, DIR_GE)
BODY4(body_and_EI, alu_body, ALU_AND, DIR_EI)
BODY4_REG(body_and_AI, alu_acc, ALU_AND)
// SUB
BODY4(body_sub_EG, alu_body, ALU_SUB, DIR_EG)
BODY4(body_sub_GE, alu_body, ALU_SUB, DIR_GE)
BODY4(body_sub_EI, alu_body, ALU_SUB, DIR_EI)
BODY4_REG(body_sub_AI, alu_acc, ALU_SUB)
// XOR
BODY4(body_xor_EG, alu_body, ALU_XOR, DIR_EG)
BODY4(body_xor_GE, alu_body, ALU_XOR, DIR_GE)
BODY4(body_xor_EI, alu_body, ALU_XOR, DIR_EI)
BODY4_REG(body_xor_AI, alu_acc, ALU_XOR)
// CMP
BODY4(body_cmp_EG, alu_body, ALU_CMP, DIR_EG)
BODY4(body_cmp_GE, alu_body, ALU_CMP, DIR_GE)
BODY4(body_cmp_EI, alu_body, ALU_CMP, DIR_EI)
BODY4_REG(body_cmp_AI, alu_acc, ALU_CMP)
// TEST
BODY4(body_test_EG, alu_body, ALU_TEST, DIR_EG)
BODY4(body_test_EI, alu_body, ALU_TEST, DIR_EI)
BODY4_REG(body_test_AI, alu_acc, ALU_TEST)

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
// INC
BODY4(body_inc, unary_body, UN_INC)
// DEC
BODY4(body_dec, unary_body, UN_DEC)
// NOT
BODY4(body_not, unary_body, UN_NOT)
// NEG
BODY4(body_neg, unary_body, UN_NEG)

// 40-4F outside 64-bit mode: the register is in the opcode (r).
void op_inc_r(struct vcpu *v, const struct insn *in)
{
    reg_set(v, in->r, in->osz, unary(UN_INC, in->osz, reg_get(v, in->r, in->osz), &v->s.fl));
}
void op_dec_r(struct vcpu *v, const struct insn *in)
{
    reg_set(v, in->r, in->osz, unary(UN_DEC, in->osz, reg_get(v, in->r, in->osz), &v->s.fl));
}

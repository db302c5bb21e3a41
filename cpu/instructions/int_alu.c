// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT: one body each over width, form and direction.
#include "cpu/instructions/alu.h"
#include "cpu/instructions/int_alu.h"
#include "cpu/engine/bodies.h"

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

// ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT: one body each over width, form and direction.
#include "cpu/alu.h"
#include "cpu/fast.h"
#include "cpu/bodies.h"

enum { DIR_EG, DIR_GE, DIR_EI }; // destination, source: r/m,reg  reg,r/m  r/m,imm

ALWAYS_INLINE bool alu_body(struct vcpu *v, const struct insn *in, unsigned op, unsigned dir, unsigned w, unsigned form,
                            bool nf, bool fast)
{
    bool writes = op != ALU_CMP && op != ALU_TEST, rmw = writes && dir != DIR_GE;
    u64 e;
    void *p = NULL;
    struct rmw m;
    if (fast && form != FORM_REG) {
        laddr a = fast_ea(v, in, form);
        p = rmw ? fast_write(v, a, W_BYTES(w)) : fast_read(v, a, W_BYTES(w));
        if (!p) return false;
        e = host_load(p, w);
    } else if (fast)
        e = reg_get(v, in->m, w);
    else
        e = rmw ? rm_open(v, in, w, &m) : rm_load(v, in, w);
    u64 a, b, r;
    if (dir == DIR_GE)
        a = reg_get(v, in->r, w), b = e;
    else
        a = e, b = dir == DIR_EI ? in->imm : reg_get(v, in->r, w);
    if (nf)
        r = alu_plain(op, a, b, op == ALU_ADC || op == ALU_SBB ? v->s.fl >> 8 & 1 : 0);
    else {
        u16 f = v->s.fl;
        r = alu(op, w, a, b, &f);
        if (fast || !rmw) v->s.fl = f;
        if (!fast && rmw) {
            rm_commit(v, in, w, &m, r);
            v->s.fl = f;
            return true;
        }
    }
    if (!writes) return true;
    if (dir == DIR_GE)
        reg_set(v, in->r, w, r);
    else if (form == FORM_REG)
        reg_set(v, in->m, w, r);
    else
        host_store(p, w, r);
    return true;
}

#define ALU3(name, op)                                                                                                 \
    BODY4(name##_EG, alu_body, op, DIR_EG)                                                                             \
    BODY4(name##_GE, alu_body, op, DIR_GE)                                                                             \
    BODY4(name##_EI, alu_body, op, DIR_EI)
ALU3(add, ALU_ADD)
ALU3(or, ALU_OR)
ALU3(adc, ALU_ADC)
ALU3(sbb, ALU_SBB)
ALU3(and, ALU_AND)
ALU3(sub, ALU_SUB)
ALU3(xor, ALU_XOR)
ALU3(cmp, ALU_CMP)
BODY4(test_EG, alu_body, ALU_TEST, DIR_EG)
BODY4(test_EI, alu_body, ALU_TEST, DIR_EI)

// The accumulator forms (opcodes 04, 05 ... A8, A9).
ALWAYS_INLINE bool alu_acc(struct vcpu *v, const struct insn *in, unsigned op, unsigned w, unsigned form, bool nf, bool fast)
{
    u64 a = reg_get(v, GPR_OFF(RAX), w), r;
    if (nf)
        r = alu_plain(op, a, in->imm, op == ALU_ADC || op == ALU_SBB ? v->s.fl >> 8 & 1 : 0);
    else
        r = alu(op, w, a, in->imm, &v->s.fl);
    if (op != ALU_CMP && op != ALU_TEST) reg_set(v, GPR_OFF(RAX), w, r);
    return true;
}
BODY4R(add_AI, alu_acc, ALU_ADD)
BODY4R(or_AI, alu_acc, ALU_OR)
BODY4R(adc_AI, alu_acc, ALU_ADC)
BODY4R(sbb_AI, alu_acc, ALU_SBB)
BODY4R(and_AI, alu_acc, ALU_AND)
BODY4R(sub_AI, alu_acc, ALU_SUB)
BODY4R(xor_AI, alu_acc, ALU_XOR)
BODY4R(cmp_AI, alu_acc, ALU_CMP)
BODY4R(test_AI, alu_acc, ALU_TEST)

// INC, DEC keep CF; NOT writes no flags.
enum { UN_INC, UN_DEC, UN_NOT, UN_NEG };
ALWAYS_INLINE u64 unary(unsigned op, unsigned w, u64 a, u16 *fl)
{
    u16 f = *fl, cf = f & F_CF;
    u64 r;
    switch (op) {
    case UN_INC: r = alu(ALU_ADD, w, a, 1, &f); break;
    case UN_DEC: r = alu(ALU_SUB, w, a, 1, &f); break;
    case UN_NEG: r = alu(ALU_SUB, w, 0, a, &f); break;
    default: return ~a;
    }
    if (op != UN_NEG) f = (f & (u16)~F_CF) | cf;
    *fl = f;
    return r;
}
ALWAYS_INLINE bool unary_body(struct vcpu *v, const struct insn *in, unsigned op, unsigned w, unsigned form, bool nf,
                              bool fast)
{
    u16 f = v->s.fl;
    if (fast && form != FORM_REG) {
        void *p = fast_write(v, fast_ea(v, in, form), W_BYTES(w));
        if (!p) return false;
        host_store(p, w, unary(op, w, host_load(p, w), &f));
    } else if (fast) {
        u64 a = reg_get(v, in->m, w);
        reg_set(v, in->m, w, nf && op == UN_NEG ? -a : unary(op, w, a, &f)); // the others leave flags, so theirs are never dead
    } else {
        struct rmw m;
        u64 a = rm_open(v, in, w, &m);
        rm_commit(v, in, w, &m, unary(op, w, a, &f));
    }
    if (!nf) v->s.fl = f;
    return true;
}
BODY4(inc, unary_body, UN_INC)
BODY4(dec, unary_body, UN_DEC)
BODY4(not, unary_body, UN_NOT)
BODY4(neg, unary_body, UN_NEG)

// 40-4F outside 64-bit mode: the register is in the opcode (r).
void op_inc_r(struct vcpu *v, const struct insn *in)
{
    reg_set(v, in->r, in->osz, unary(UN_INC, in->osz, reg_get(v, in->r, in->osz), &v->s.fl));
}
void op_dec_r(struct vcpu *v, const struct insn *in)
{
    reg_set(v, in->r, in->osz, unary(UN_DEC, in->osz, reg_get(v, in->r, in->osz), &v->s.fl));
}

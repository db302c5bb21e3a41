// A comparison and the Jcc behind it, at the end of a block, in one body: it goes on to the branch without a
// jump through memory, and asks the flags that it has just made. The branch stays an instruction of its own:
// whoever begins there, or comes there from the comparison's checked form, runs it alone.
#include "cpu/engine/bodies.h"
#include "cpu/instructions/int_alu.h"
#include "cpu/instructions/int_branch.h"

extern const struct body body_cmp_EG, body_cmp_GE, body_cmp_EI, body_test_EG, body_test_EI, body_sub_EG,
    body_sub_EI, body_add_EI, body_and_EI, body_dec;
extern const struct body body_jb, body_jae, body_je, body_jne, body_jbe, body_ja, body_js, body_jns, body_jl,
    body_jge, body_jle, body_jg;

// Those of Jcc that compilers use, by condition.
static const struct body *const jcc[16] = {NULL,      NULL,      &body_jb,  &body_jae, &body_je, &body_jne,
                                           &body_jbe, &body_ja,  &body_js,  &body_jns, NULL,     NULL,
                                           &body_jl,  &body_jge, &body_jle, &body_jg};

#define FUSED(name, W, FORM, cc, f, ...) \
    static void name(struct vcpu *v, const struct insn *in) \
    { \
        const struct how h = {.w = W, .form = FORM, .fast = true}; \
        if (unlikely(!f(v, in, h, __VA_ARGS__))) TAIL exec_slow(v, in); \
        if (likely(cond(v->s.fl, cc))) TAIL jcc_taken(v, in + 1); \
        TAIL jcc_falls(v, in + 1); \
    }
// All of one comparison, and the table of them by condition.
#define WITH_EACH(name, W, FORM, f, ...) \
    FUSED(name##_jb, W, FORM, 2, f, __VA_ARGS__) \
    FUSED(name##_jae, W, FORM, 3, f, __VA_ARGS__) \
    FUSED(name##_je, W, FORM, 4, f, __VA_ARGS__) \
    FUSED(name##_jne, W, FORM, 5, f, __VA_ARGS__) \
    FUSED(name##_jbe, W, FORM, 6, f, __VA_ARGS__) \
    FUSED(name##_ja, W, FORM, 7, f, __VA_ARGS__) \
    FUSED(name##_js, W, FORM, 8, f, __VA_ARGS__) \
    FUSED(name##_jns, W, FORM, 9, f, __VA_ARGS__) \
    FUSED(name##_jl, W, FORM, 12, f, __VA_ARGS__) \
    FUSED(name##_jge, W, FORM, 13, f, __VA_ARGS__) \
    FUSED(name##_jle, W, FORM, 14, f, __VA_ARGS__) \
    FUSED(name##_jg, W, FORM, 15, f, __VA_ARGS__) \
    static exec_fn *const name[16] = {NULL,       NULL,       name##_jb,  name##_jae, name##_je, name##_jne, \
                                      name##_jbe, name##_ja,  name##_js,  name##_jns, NULL,      NULL, \
                                      name##_jl,  name##_jge, name##_jle, name##_jg};

#define PAIRS(PAIR) \
    PAIR(cmp_EG_32_r, body_cmp_EG, W32, FORM_REG, alu_body, ALU_CMP, DIR_EG) \
    PAIR(cmp_EG_32_b, body_cmp_EG, W32, FORM_B, alu_body, ALU_CMP, DIR_EG) \
    PAIR(cmp_EG_64_r, body_cmp_EG, W64, FORM_REG, alu_body, ALU_CMP, DIR_EG) \
    PAIR(cmp_EG_64_b, body_cmp_EG, W64, FORM_B, alu_body, ALU_CMP, DIR_EG) \
    PAIR(cmp_GE_32_b, body_cmp_GE, W32, FORM_B, alu_body, ALU_CMP, DIR_GE) \
    PAIR(cmp_GE_64_b, body_cmp_GE, W64, FORM_B, alu_body, ALU_CMP, DIR_GE) \
    PAIR(cmp_EI_8_r, body_cmp_EI, W8, FORM_REG, alu_body, ALU_CMP, DIR_EI) \
    PAIR(cmp_EI_8_b, body_cmp_EI, W8, FORM_B, alu_body, ALU_CMP, DIR_EI) \
    PAIR(cmp_EI_32_r, body_cmp_EI, W32, FORM_REG, alu_body, ALU_CMP, DIR_EI) \
    PAIR(cmp_EI_32_b, body_cmp_EI, W32, FORM_B, alu_body, ALU_CMP, DIR_EI) \
    PAIR(cmp_EI_64_r, body_cmp_EI, W64, FORM_REG, alu_body, ALU_CMP, DIR_EI) \
    PAIR(cmp_EI_64_b, body_cmp_EI, W64, FORM_B, alu_body, ALU_CMP, DIR_EI) \
    PAIR(test_EG_8_r, body_test_EG, W8, FORM_REG, alu_body, ALU_TEST, DIR_EG) \
    PAIR(test_EG_32_r, body_test_EG, W32, FORM_REG, alu_body, ALU_TEST, DIR_EG) \
    PAIR(test_EG_64_r, body_test_EG, W64, FORM_REG, alu_body, ALU_TEST, DIR_EG) \
    PAIR(test_EI_8_r, body_test_EI, W8, FORM_REG, alu_body, ALU_TEST, DIR_EI) \
    PAIR(test_EI_8_b, body_test_EI, W8, FORM_B, alu_body, ALU_TEST, DIR_EI) \
    PAIR(test_EI_32_r, body_test_EI, W32, FORM_REG, alu_body, ALU_TEST, DIR_EI) \
    PAIR(and_EI_32_r, body_and_EI, W32, FORM_REG, alu_body, ALU_AND, DIR_EI) \
    PAIR(add_EI_64_r, body_add_EI, W64, FORM_REG, alu_body, ALU_ADD, DIR_EI) \
    PAIR(sub_EG_64_r, body_sub_EG, W64, FORM_REG, alu_body, ALU_SUB, DIR_EG) \
    PAIR(sub_EI_32_r, body_sub_EI, W32, FORM_REG, alu_body, ALU_SUB, DIR_EI) \
    PAIR(sub_EI_64_r, body_sub_EI, W64, FORM_REG, alu_body, ALU_SUB, DIR_EI) \
    PAIR(dec_32_r, body_dec, W32, FORM_REG, unary_body, UN_DEC) \
    PAIR(dec_64_r, body_dec, W64, FORM_REG, unary_body, UN_DEC)

#define MAKE(name, first, W, FORM, f, ...) WITH_EACH(name, W, FORM, f, __VA_ARGS__)
PAIRS(MAKE)

static const struct pair {
    const struct body *first;
    u8 w, form;
    exec_fn *const *with;
} pairs[] = {
#define ENTRY(name, first, W, FORM, f, ...) {&first, W, FORM, name},
    PAIRS(ENTRY)
#undef ENTRY
};

exec_fn *fused_exec(const struct insn *in)
{
    const struct insn *branch = in + 1;
    unsigned cc = branch->op & 15;
    if (!jcc[cc] || rows[branch->row].body != jcc[cc] || branch->exec != jcc[cc]->fast[0][W64][FORM_REG])
        return NULL;
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        const struct pair *p = &pairs[i];
        if (rows[in->row].body == p->first && in->exec == p->first->fast[0][p->w][p->form])
            return p->with[cc];
    }
    return NULL;
}

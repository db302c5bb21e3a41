// Near branches: Jcc, JMP, CALL, RET, LOOP, JCXZ. At speed there are forms for 64-bit operands, which 64-bit
// code has, and for 32-bit ones, which flat 32-bit code with a 32-bit stack has (decode chooses no others). A
// link never leads over the 4 GiB border.
#include "cpu/instructions/int_branch.h"
#include "cpu/engine/bodies.h"
#include "cpu/engine/exec.h"
#include "cpu/state/mode.h"

// ---- whether it is taken, and where it leads to ----
ALWAYS_INLINE bool near_target(struct vcpu *v, const struct insn *in, struct how h, enum near k, u64 *to)
{
    switch (k) {
    case NEAR_JMP_INDIRECT:
    case NEAR_CALL_INDIRECT: return source_rm(v, in, h, h.w, to);
    case NEAR_RET: return stack_top(v, h, to);
    default: *to = relative_target(v, in, h.w); return true;
    }
}
// ---- the forms ----
// A condition is in the opcode's low bits.
ALWAYS_INLINE void near_checked(struct vcpu *v, const struct insn *in, enum near k, unsigned w)
{
    const struct how h = {.w = w & 3};
    u64 to;
    if (k == NEAR_JCC && !cond(v->s.fl, in->op & 15)) return;
    near_target(v, in, h, k, &to);
    branch_to(v, to);
    near_stack(v, in, h, k);
}
// Callable: the target in d.npc.
ALWAYS_INLINE bool near_call(struct vcpu *v, const struct insn *in, struct how h, enum near k)
{
    u64 to;
    if (k == NEAR_JCC && !cond(v->s.fl, in->op & 15)) {
        v->d.npc = next_rip(v, in);
        return true;
    }
    if (!near_target(v, in, h, k, &to) || !branch_good(v, to) || !near_stack(v, in, h, k)) return false;
    v->d.npc = to;
    return true;
}

// clang-format off
#define CHECKED(fn, k)                                                                                                 \
    static void fn(struct vcpu *v, const struct insn *in)                                                              \
    {                                                                                                                  \
        if (in->osz == W64) near_checked(v, in, k, W64);                                                               \
        else if (in->osz == W32) near_checked(v, in, k, W32);                                                          \
        else near_checked(v, in, k, W16);                                                                              \
    }
// clang-format on
#define CALLABLE(fn, k, W, FORM) \
    __attribute__((section(".text.unlikely.callable"))) static bool fn(struct vcpu *v, \
                                                                       const struct insn *in) \
    { \
        return near_call(v, in, (struct how){.w = W, .form = FORM, .fast = true}, k); \
    }
// Tail-threaded through the jump cache, which knows good targets only.
#define THROUGH_CACHE(fn, k, W, FORM) \
    static void fn(struct vcpu *v, const struct insn *in) \
    { \
        const struct how h = {.w = W, .form = FORM, .fast = true}; \
        u64 to; \
        if (unlikely(!near_target(v, in, h, k, &to))) TAIL exec_slow(v, in); \
        const struct jump_entry *j = &v->d.engine->jump[jump_hash(to)]; \
        if (unlikely(j->rip != to || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in); \
        if (unlikely(!near_stack(v, in, h, k))) TAIL exec_slow(v, in); \
        struct block *b = j->b; \
        INVARIANT(b->mode == v->d.mode || b->n_check == BLOCK_DROPPED); \
        v->s.rip = to; \
        v->d.budget -= b->n_check; \
        if (unlikely(v->d.budget < 0)) TAIL exec_block_over(v, b->in); \
        TAIL b->in[0].exec(v, b->in); \
    }

// ---- JO to JG ----
CHECKED(jcc_checked, NEAR_JCC)
CALLABLE(jcc_call_32, NEAR_JCC, W32, FORM_REG)
CALLABLE(jcc_call_64, NEAR_JCC, W64, FORM_REG)
#define JCC(name, cc) \
    static void name##_r(struct vcpu *v, const struct insn *in) \
    { \
        if (likely(cond(v->s.fl, cc))) TAIL jcc_taken(v, in); /* loops go round more often than they end */ \
        TAIL jcc_falls(v, in); \
    } \
    const struct body name = {.checked = {jcc_checked, jcc_checked, jcc_checked, jcc_checked}, \
                              .fast = {{{NULL}, {NULL}, {name##_r}, {name##_r}}}, \
                              .call = {{NULL}, {NULL}, {jcc_call_32}, {jcc_call_64}}};
JCC(body_jo, 0)   // JO
JCC(body_jno, 1)  // JNO
JCC(body_jb, 2)   // JB
JCC(body_jae, 3)  // JAE
JCC(body_je, 4)   // JE
JCC(body_jne, 5)  // JNE
JCC(body_jbe, 6)  // JBE
JCC(body_ja, 7)   // JA
JCC(body_js, 8)   // JS
JCC(body_jns, 9)  // JNS
JCC(body_jp, 10)  // JP
JCC(body_jnp, 11) // JNP
JCC(body_jl, 12)  // JL
JCC(body_jge, 13) // JGE
JCC(body_jle, 14) // JLE
JCC(body_jg, 15)  // JG

// ---- JMP and CALL, relative; RET ----
#define RELATIVE(name, k) \
    CHECKED(name##_l, k) \
    THROUGH_LINK(static, name##_32_r, k, W32, 1) \
    THROUGH_LINK(static, name##_64_r, k, W64, 1) \
    CALLABLE(name##_32_call, k, W32, FORM_REG) \
    CALLABLE(name##_64_call, k, W64, FORM_REG) \
    const struct body name = {.checked = {name##_l, name##_l, name##_l, name##_l}, \
                              .fast = {{{NULL}, {NULL}, {name##_32_r}, {name##_64_r}}}, \
                              .call = {{NULL}, {NULL}, {name##_32_call}, {name##_64_call}}};
RELATIVE(body_jmp_rel, NEAR_JMP)
RELATIVE(body_call_rel, NEAR_CALL)

CHECKED(body_ret_l, NEAR_RET)
THROUGH_CACHE(body_ret_32_r, NEAR_RET, W32, FORM_REG)
THROUGH_CACHE(body_ret_64_r, NEAR_RET, W64, FORM_REG)
CALLABLE(body_ret_32_call, NEAR_RET, W32, FORM_REG)
CALLABLE(body_ret_64_call, NEAR_RET, W64, FORM_REG)
const struct body body_ret = {.checked = {body_ret_l, body_ret_l, body_ret_l, body_ret_l},
                              .fast = {{{NULL}, {NULL}, {body_ret_32_r}, {body_ret_64_r}}},
                              .call = {{NULL}, {NULL}, {body_ret_32_call}, {body_ret_64_call}}};

// ---- JMP and CALL, indirect ----
#define INDIRECT_FORM(name, k, W, FORM) THROUGH_CACHE(name, k, W, FORM) CALLABLE(name##_call, k, W, FORM)
#define INDIRECT_FORMS(name, k, W) \
    INDIRECT_FORM(name##_r, k, W, FORM_REG) \
    INDIRECT_FORM(name##_b, k, W, FORM_B) \
    INDIRECT_FORM(name##_x, k, W, FORM_X) \
    INDIRECT_FORM(name##_s, k, W, FORM_S)
#define INDIRECT(name, k) \
    CHECKED(name##_l, k) \
    INDIRECT_FORMS(name##_32, k, W32) \
    INDIRECT_FORMS(name##_64, k, W64) \
    const struct body name = {.checked = {name##_l, name##_l, name##_l, name##_l}, \
                              .fast = {{{NULL}, {NULL}, BODY_FORMS_(name##_32), BODY_FORMS_(name##_64)}}, \
                              .call = {{NULL}, {NULL}, BODY_CALLS_(name##_32), BODY_CALLS_(name##_64)}};
INDIRECT(body_jmp_ind, NEAR_JMP_INDIRECT)
INDIRECT(body_call_ind, NEAR_CALL_INDIRECT)

// LOOPNE, LOOPE, LOOP, JCXZ: the count register has the address size.
void op_loop(struct vcpu *v, const struct insn *in)
{
    u64 c = reg_get(v, GPR_OFF(RCX), in->asz), to = relative_target(v, in, in->osz);
    unsigned op = in->op & 3;
    if (op == 3) {
        if (c == 0) branch_to(v, to);
        return;
    }
    c--;
    c &= width_mask(in->asz);
    bool zf = v->s.fl & AX_ZF;
    if (c != 0 && (op == 2 || (op == 1) == zf)) branch_to(v, to);
    reg_set(v, GPR_OFF(RCX), in->asz, c);
}

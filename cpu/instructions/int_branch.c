// Near branches: Jcc, JMP, CALL, RET, LOOP, JCXZ. At speed there are forms for 64-bit operands, which 64-bit
// code has, and for 32-bit ones, which flat 32-bit code with a 32-bit stack has (decode chooses no others). A
// link never leads over the 4 GiB border.
#include "cpu/instructions/alu.h"
#include "cpu/engine/bodies.h"
#include "cpu/engine/exec.h"
#include "cpu/state/mode.h"

// ---- the bodies: whether it is taken, where it leads to, and what it does to the stack ----
enum near { NEAR_JCC, NEAR_JMP, NEAR_CALL, NEAR_RET, NEAR_JMP_INDIRECT, NEAR_CALL_INDIRECT };

// An address in the width of code and stack.
ALWAYS_INLINE u64 cut(u64 x, unsigned w) { return w == W64 ? x : w == W32 ? (u32)x : (u16)x; }
ALWAYS_INLINE u64 relative_target(const struct vcpu *v, const struct insn *in, unsigned w)
{
    return cut(v->s.rip + (u64)(s64)in->disp, w);
}

ALWAYS_INLINE bool near_target(struct vcpu *v, const struct insn *in, struct how h, enum near k, u64 *to)
{
    switch (k) {
    case NEAR_JMP_INDIRECT:
    case NEAR_CALL_INDIRECT: return source_rm(v, in, h, h.w, to);
    case NEAR_RET: return stack_top(v, h, to);
    default: *to = relative_target(v, in, h.w); return true;
    }
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
    THROUGH_LINK(ALWAYS_INLINE, name##_0, NEAR_JCC, W64, 0) \
    THROUGH_LINK(ALWAYS_INLINE, name##_1, NEAR_JCC, W64, 1) \
    static void name##_r(struct vcpu *v, const struct insn *in) \
    { \
        if (likely(cond(v->s.fl, cc))) TAIL name##_1(v, in); /* loops go round more often than they end */ \
        TAIL name##_0(v, in); \
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

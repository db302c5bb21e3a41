// Near branches: Jcc, JMP, CALL, RET, LOOP, JCXZ. The tail-threaded forms are for 64-bit operands, which 64-bit code has, and 32-bit
// ones, which flat 32-bit code with a 32-bit stack has (decode binds no others). A link never leads over the 4 GiB border.
#include "cpu/alu.h"
#include "cpu/bodies.h"
#include "cpu/exec.h"

// The target of a relative branch, cut to the operand size.
static u64 relative_target(const struct vcpu *v, const struct insn *in)
{
    u64 t = v->s.rip + (u64)(s64)in->disp;
    return in->osz == W64 ? t : in->osz == W32 ? (u32)t : (u16)t;
}

void op_jcc(struct vcpu *v, const struct insn *in)
{
    if (cond(v->s.fl, in->op & 15)) branch_to(v, relative_target(v, in));
}

// A relative branch stays within 2 GiB of canonical code: the target is checked when the block there is found.
#define JCC(cc)                                                                                                        \
    static void jcc_##cc(struct vcpu *v, const struct insn *in)                                                        \
    {                                                                                                                  \
        if (cond(v->s.fl, cc)) ENTER_LINK(v, in, 1, v->s.rip + (u64)(s64)in->disp);                                    \
        ENTER_LINK(v, in, 0, v->s.rip + in->off + in->len);                                                            \
    }
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7) JCC(8) JCC(9) JCC(10) JCC(11) JCC(12) JCC(13) JCC(14) JCC(15)
#define JCC_BODY(cc) const struct body body_jcc_##cc = {.loop = {op_jcc, op_jcc, op_jcc, op_jcc}, .fast = {{{0}, {0}, {jcc_##cc}, {jcc_##cc}}}};
JCC_BODY(0) JCC_BODY(1) JCC_BODY(2) JCC_BODY(3) JCC_BODY(4) JCC_BODY(5) JCC_BODY(6) JCC_BODY(7)
JCC_BODY(8) JCC_BODY(9) JCC_BODY(10) JCC_BODY(11) JCC_BODY(12) JCC_BODY(13) JCC_BODY(14) JCC_BODY(15)

static void op_jmp_rel(struct vcpu *v, const struct insn *in) { branch_to(v, relative_target(v, in)); }
static void jmp_rel_fast(struct vcpu *v, const struct insn *in) { ENTER_LINK(v, in, 1, v->s.rip + (u64)(s64)in->disp); }
const struct body body_jmp_rel = {.loop = {op_jmp_rel, op_jmp_rel, op_jmp_rel, op_jmp_rel}, .fast = {{{0}, {0}, {jmp_rel_fast}, {jmp_rel_fast}}}};

static void call_to(struct vcpu *v, const struct insn *in, u64 target)
{
    u64 back = v->d.npc;
    branch_to(v, target);
    stack_push(v, in->osz, back); // a fault here leaves RIP at the call: npc is not used then
}
static void op_call_rel(struct vcpu *v, const struct insn *in) { call_to(v, in, relative_target(v, in)); }
// RSP moved by n, and a return address or target, in the width of code and stack.
ALWAYS_INLINE u64 cut(u64 x, unsigned w) { return w == W64 ? x : (u32)x; }
#define CALL_REL(bits, W)                                                                                              \
    static void call_rel_##bits(struct vcpu *v, const struct insn *in)                                                 \
    {                                                                                                                  \
        u64 sp = cut(v->s.gpr[RSP] - W_BYTES(W), W);                                                                   \
        void *p = fast_write(v, sp, W_BYTES(W));                                                                       \
        if (unlikely(!p)) TAIL exec_slow(v, in);                                                                       \
        host_store(p, W, v->s.rip + in->off + in->len);                                                                \
        v->s.gpr[RSP] = sp;                                                                                            \
        ENTER_LINK(v, in, 1, v->s.rip + (u64)(s64)in->disp);                                                           \
    }
CALL_REL(32, W32) CALL_REL(64, W64)
const struct body body_call_rel = {.loop = {op_call_rel, op_call_rel, op_call_rel, op_call_rel},
                                   .fast = {{{0}, {0}, {call_rel_32}, {call_rel_64}}}};

static void op_ret(struct vcpu *v, const struct insn *in)
{
    u64 t = stack_peek(v, in->osz, 0);
    branch_to(v, t);
    stack_add(v, W_BYTES(in->osz) + (s64)(in->imm & 0xFFFF));
}
#define RET(bits, W)                                                                                                   \
    static void ret_##bits(struct vcpu *v, const struct insn *in)                                                      \
    {                                                                                                                  \
        u64 sp = cut(v->s.gpr[RSP], W);                                                                                \
        const void *p = fast_read(v, sp, W_BYTES(W));                                                                  \
        if (unlikely(!p)) TAIL exec_slow(v, in);                                                                       \
        u64 t = host_load(p, W);                                                                                       \
        const struct jump_entry *j = &v->d.engine->jump[jump_hash(t)];                                                 \
        if (unlikely(j->rip != t || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in); /* checks the target too */    \
        v->s.gpr[RSP] = cut(sp + W_BYTES(W) + (in->imm & 0xFFFF), W);                                                  \
        ENTER_BLOCK(v, j->b, t);                                                                                       \
    }
RET(32, W32) RET(64, W64)
const struct body body_ret = {.loop = {op_ret, op_ret, op_ret, op_ret}, .fast = {{{0}, {0}, {ret_32}, {ret_64}}}};

ALWAYS_INLINE void *indirect_source(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)
{
    if (form == FORM_REG) return &REG64(v, in->m);
    return fast_read(v, fast_ea(v, in, form), W_BYTES(w));
}
static void op_jmp_ind(struct vcpu *v, const struct insn *in) { branch_to(v, rm_load(v, in, in->osz)); }
static void op_call_ind(struct vcpu *v, const struct insn *in) { call_to(v, in, rm_load(v, in, in->osz)); }
#define INDIRECT(form, bits, W)                                                                                        \
    static void jmp_ind_##form##_##bits(struct vcpu *v, const struct insn *in)                                         \
    {                                                                                                                  \
        const void *from = indirect_source(v, in, form, W);                                                            \
        if (unlikely(!from)) TAIL exec_slow(v, in);                                                                    \
        u64 t = host_load(from, W);                                                                                    \
        const struct jump_entry *j = &v->d.engine->jump[jump_hash(t)];                                                 \
        if (unlikely(j->rip != t || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in);                                \
        ENTER_BLOCK(v, j->b, t);                                                                                       \
    }                                                                                                                  \
    static void call_ind_##form##_##bits(struct vcpu *v, const struct insn *in)                                        \
    {                                                                                                                  \
        const void *from = indirect_source(v, in, form, W);                                                            \
        if (unlikely(!from)) TAIL exec_slow(v, in);                                                                    \
        u64 t = host_load(from, W);                                                                                    \
        const struct jump_entry *j = &v->d.engine->jump[jump_hash(t)];                                                 \
        if (unlikely(j->rip != t || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in);                                \
        u64 sp = cut(v->s.gpr[RSP] - W_BYTES(W), W);                                                                   \
        void *p = fast_write(v, sp, W_BYTES(W));                                                                       \
        if (unlikely(!p)) TAIL exec_slow(v, in);                                                                       \
        host_store(p, W, v->s.rip + in->off + in->len);                                                                \
        v->s.gpr[RSP] = sp;                                                                                            \
        ENTER_BLOCK(v, j->b, t);                                                                                       \
    }
#define INDIRECT_BOTH(form) INDIRECT(form, 32, W32) INDIRECT(form, 64, W64)
INDIRECT_BOTH(FORM_REG) INDIRECT_BOTH(FORM_B) INDIRECT_BOTH(FORM_X) INDIRECT_BOTH(FORM_S)
#define INDIRECT_FORMS(n, bits) {n##_FORM_REG_##bits, n##_FORM_B_##bits, n##_FORM_X_##bits, n##_FORM_S_##bits}
#define INDIRECT_BODY(n)                                                                                               \
    const struct body body_##n = {.loop = {op_##n, op_##n, op_##n, op_##n},                                            \
                                  .fast = {{{0}, {0}, INDIRECT_FORMS(n, 32), INDIRECT_FORMS(n, 64)}}};
INDIRECT_BODY(jmp_ind)
INDIRECT_BODY(call_ind)

// LOOPNE, LOOPE, LOOP, JCXZ: the count register has the address size.
void op_loop(struct vcpu *v, const struct insn *in)
{
    u64 c = reg_get(v, GPR_OFF(RCX), in->asz);
    unsigned op = in->op & 3;
    if (op == 3) {
        if (c == 0) branch_to(v, relative_target(v, in));
        return;
    }
    c--;
    c &= width_mask(in->asz);
    bool zf = v->s.fl & F_ZF;
    if (c != 0 && (op == 2 || (op == 1) == zf)) branch_to(v, relative_target(v, in));
    reg_set(v, GPR_OFF(RCX), in->asz, c);
}

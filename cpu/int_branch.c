// Near branches: Jcc, JMP, CALL, RET, LOOP, JCXZ. The tail-threaded forms are for 64-bit code (decode binds no other).
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
#define JCC_BODY(cc) const struct body body_jcc_##cc = {.loop = {op_jcc, op_jcc, op_jcc, op_jcc}, .fast = {{{0}, {0}, {0}, {jcc_##cc}}}};
JCC_BODY(0) JCC_BODY(1) JCC_BODY(2) JCC_BODY(3) JCC_BODY(4) JCC_BODY(5) JCC_BODY(6) JCC_BODY(7)
JCC_BODY(8) JCC_BODY(9) JCC_BODY(10) JCC_BODY(11) JCC_BODY(12) JCC_BODY(13) JCC_BODY(14) JCC_BODY(15)

static void op_jmp_rel(struct vcpu *v, const struct insn *in) { branch_to(v, relative_target(v, in)); }
static void jmp_rel_fast(struct vcpu *v, const struct insn *in) { ENTER_LINK(v, in, 1, v->s.rip + (u64)(s64)in->disp); }
const struct body body_jmp_rel = {.loop = {op_jmp_rel, op_jmp_rel, op_jmp_rel, op_jmp_rel}, .fast = {{{0}, {0}, {0}, {jmp_rel_fast}}}};

static void call_to(struct vcpu *v, const struct insn *in, u64 target)
{
    u64 back = v->d.npc;
    branch_to(v, target);
    stack_push(v, in->osz, back); // a fault here leaves RIP at the call: npc is not used then
}
static void op_call_rel(struct vcpu *v, const struct insn *in) { call_to(v, in, relative_target(v, in)); }
static void call_rel_fast(struct vcpu *v, const struct insn *in)
{
    u64 sp = v->s.gpr[RSP] - 8;
    void *p = fast_write(v, sp, 8);
    if (unlikely(!p)) TAIL exec_slow(v, in);
    *(u64 *)p = v->s.rip + in->off + in->len;
    v->s.gpr[RSP] = sp;
    ENTER_LINK(v, in, 1, v->s.rip + (u64)(s64)in->disp);
}
const struct body body_call_rel = {.loop = {op_call_rel, op_call_rel, op_call_rel, op_call_rel}, .fast = {{{0}, {0}, {0}, {call_rel_fast}}}};

static void op_ret(struct vcpu *v, const struct insn *in)
{
    u64 t = stack_peek(v, in->osz, 0);
    branch_to(v, t);
    stack_add(v, W_BYTES(in->osz) + (s64)(in->imm & 0xFFFF));
}
static void ret_fast(struct vcpu *v, const struct insn *in)
{
    u64 sp = v->s.gpr[RSP];
    const void *p = fast_read(v, sp, 8);
    if (unlikely(!p)) TAIL exec_slow(v, in);
    u64 t = *(const u64 *)p;
    const struct jump_entry *j = &v->d.engine->jump[jump_hash(t)];
    if (unlikely(j->rip != t || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in); // checks the target too
    v->s.gpr[RSP] = sp + 8 + (in->imm & 0xFFFF);
    ENTER_BLOCK(v, j->b, t);
}
const struct body body_ret = {.loop = {op_ret, op_ret, op_ret, op_ret}, .fast = {{{0}, {0}, {0}, {ret_fast}}}};

ALWAYS_INLINE u64 *indirect_source(struct vcpu *v, const struct insn *in, unsigned form)
{
    if (form == FORM_REG) return &REG64(v, in->m);
    return fast_read(v, fast_ea(v, in, form), 8);
}
static void op_jmp_ind(struct vcpu *v, const struct insn *in) { branch_to(v, rm_load(v, in, in->osz)); }
static void op_call_ind(struct vcpu *v, const struct insn *in) { call_to(v, in, rm_load(v, in, in->osz)); }
#define INDIRECT(form)                                                                                                 \
    static void jmp_ind_##form(struct vcpu *v, const struct insn *in)                                                  \
    {                                                                                                                  \
        const u64 *s = indirect_source(v, in, form);                                                                   \
        if (unlikely(!s)) TAIL exec_slow(v, in);                                                                       \
        u64 t = *s;                                                                                                    \
        const struct jump_entry *j = &v->d.engine->jump[jump_hash(t)];                                                 \
        if (unlikely(j->rip != t || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in);                                  \
        ENTER_BLOCK(v, j->b, t);                                                                                       \
    }                                                                                                                  \
    static void call_ind_##form(struct vcpu *v, const struct insn *in)                                                 \
    {                                                                                                                  \
        const u64 *s = indirect_source(v, in, form);                                                                   \
        if (unlikely(!s)) TAIL exec_slow(v, in);                                                                       \
        u64 t = *s;                                                                                                    \
        const struct jump_entry *j = &v->d.engine->jump[jump_hash(t)];                                                 \
        if (unlikely(j->rip != t || !fetch_gen_good(v, j->gen))) TAIL exec_slow(v, in);                                  \
        u64 sp = v->s.gpr[RSP] - 8;                                                                                    \
        void *p = fast_write(v, sp, 8);                                                                                \
        if (unlikely(!p)) TAIL exec_slow(v, in);                                                                       \
        *(u64 *)p = v->s.rip + in->off + in->len;                                                                      \
        v->s.gpr[RSP] = sp;                                                                                            \
        ENTER_BLOCK(v, j->b, t);                                                                                       \
    }
INDIRECT(FORM_REG) INDIRECT(FORM_B) INDIRECT(FORM_X) INDIRECT(FORM_S)
#define INDIRECT_BODY(n)                                                                                               \
    const struct body body_##n = {.loop = {op_##n, op_##n, op_##n, op_##n},                                            \
                                  .fast = {{{0}, {0}, {0}, {n##_FORM_REG, n##_FORM_B, n##_FORM_X, n##_FORM_S}}}};
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

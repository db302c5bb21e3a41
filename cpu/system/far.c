// Far transfers: JMP, CALL and RET between code segments.
#include "cpu/system/system.h"
#include "cpu/system/frame.h"
#include "cpu/system/far.h"
#include "cpu/system/task.h"
#include "vmx/intercept.h"

bool far_target_ok(const struct vcpu *v, const struct segment *cs, u64 offset)
{
    if (cpu_lma(v) && (cs->ar & AR_L)) return cpu_canonical(v, offset);
    return offset <= cs->limit;
}

static u64 cut(u64 offset, unsigned w) { return w == W16 ? (u16)offset : w == W32 ? (u32)offset : offset; }

// ---- real-address and virtual-8086 mode ----

static void check_real_target(struct vcpu *v, u64 offset)
{
    if (offset > v->s.seg[SEG_CS].limit) raise_gp0(v);
}

static void go_real(struct vcpu *v, u16 sel, u64 offset)
{
    seg_load_real(v, SEG_CS, sel);
    v->d.npc = offset;
    cpu_mode_changed(v);
}

// ---- code segments and gates ----

// What a far pointer of JMP or CALL leads to.
struct target {
    struct segment cs; // with CPL after the transfer in sel's RPL
    struct descriptor d;
    u64 offset;
    u16 sel;
    bool gate, inner; // through a call gate; to a more privileged level
    bool wide64;      // a 64-bit gate
    bool task;        // to a task, of the TSS that sel names, by itself or through a task gate
    u8 gate_w, params;
};

static void check_code(struct vcpu *v, struct target *t, bool call)
{
    u32 error = t->sel & 0xFFFC, ar = t->cs.ar;
    unsigned cpl = v->d.cpl, dpl = ar_dpl(ar);
    if (!t->gate) {
        if (ar & AR_CONFORMING) {
            if (dpl > cpl) raise_error(v, VEC_GP, error);
        } else if ((t->sel & 3u) > cpl || dpl != cpl)
            raise_error(v, VEC_GP, error);
    } else if (dpl > cpl || (!call && !(ar & AR_CONFORMING) && dpl != cpl))
        raise_error(v, VEC_GP, error);
    if (cpu_lma(v) && (ar & AR_L) && (ar & AR_DB)) raise_error(v, VEC_GP, error);
    if (!(ar & AR_P)) raise_error(v, VEC_NP, error);
    t->inner = t->gate && call && !(ar & AR_CONFORMING) && dpl < cpl;
    t->cs.sel = (t->sel & 0xFFFC) | (t->inner ? dpl : cpl);
}

// A call gate: its own checks, then the code segment that it names. SDM 6.8.3 and JMP, CALL.
static void through_gate(struct vcpu *v, struct target *t, bool call)
{
    u32 ar = (u32)(t->d.raw >> 40) & 0xFF, error = t->sel & 0xFFFC;
    bool lma = cpu_lma(v);
    if (ar_dpl(ar) < v->d.cpl || (t->sel & 3u) > ar_dpl(ar)) raise_error(v, VEC_GP, error);
    if (!(ar & AR_P)) raise_error(v, VEC_NP, error);
    if (lma && (t->d.raw_hi >> 40 & 0x1F)) raise_error(v, VEC_GP, error);
    t->gate = true;
    t->gate_w = lma ? W64 : (ar & 8) ? W32 : W16;
    t->params = lma ? 0 : t->d.raw >> 32 & 0x1F;
    t->offset = (t->d.raw & 0xFFFF) | (t->d.raw >> 32 & 0xFFFF0000);
    if (lma) t->offset |= t->d.raw_hi << 32;
    if (t->gate_w == W16) t->offset &= 0xFFFF;
    t->sel = (u16)(t->d.raw >> 16);
    if (!(t->sel & 0xFFFC)) raise_gp0(v);
    error = t->sel & 0xFFFC;
    seg_read_descriptor(v, t->sel, &t->d, VEC_GP);
    seg_from_descriptor(&t->cs, t->sel, &t->d);
    if ((t->cs.ar & (AR_S | AR_CODE)) != (AR_S | AR_CODE)) raise_error(v, VEC_GP, error);
    if (lma && (!(t->cs.ar & AR_L) || (t->cs.ar & AR_DB))) raise_error(v, VEC_GP, error);
}

static struct target resolve(struct vcpu *v, u16 sel, u64 offset, unsigned w, bool call)
{
    struct target t = {.sel = sel, .offset = cut(offset, w), .gate_w = (u8)w};
    if (!(sel & 0xFFFC)) raise_gp0(v);
    seg_read_descriptor(v, sel, &t.d, VEC_GP);
    seg_from_descriptor(&t.cs, sel, &t.d);
    u32 ar = t.cs.ar, error = sel & 0xFFFC;
    if (ar & AR_S) {
        if (!(ar & AR_CODE)) raise_error(v, VEC_GP, error);
    } else {
        unsigned type = ar & 0xF;
        bool lma = cpu_lma(v);
        if (type == 12 || (type == 4 && !lma)) {
            through_gate(v, &t, call);
        } else {
            bool task = !lma && (type == 1 || type == 5 || type == 9);
            if (!task || ar_dpl(ar) < v->d.cpl || ar_dpl(ar) < (sel & 3u)) raise_error(v, VEC_GP, error);
            if (!(ar & AR_P)) raise_error(v, VEC_NP, error);
            t.task = true;
            if (type == 5) t.sel = (u16)(t.d.raw >> 16);
            return t;
        }
    }
    check_code(v, &t, call);
    return t;
}

static void enter_code(struct vcpu *v, struct target *t)
{
    u16 sel = t->cs.sel;
    seg_mark_accessed(v, t->sel, &t->d);
    seg_from_descriptor(&v->s.seg[SEG_CS], sel, &t->d);
    v->d.npc = t->offset;
}

void far_jump(struct vcpu *v, u16 sel, u64 offset, unsigned w)
{
    if (!mode_protected(v->d.mode)) {
        offset = cut(offset, w);
        check_real_target(v, offset);
        go_real(v, sel, offset);
        return;
    }
    struct target t = resolve(v, sel, offset, w, false);
    if (t.task) {
        task_switch(v, t.sel, TASK_BY_JMP, NULL);
        return;
    }
    if (!far_target_ok(v, &t.cs, t.offset)) raise_gp0(v);
    enter_code(v, &t);
    cpu_mode_changed(v);
}

// ---- CALL to an inner level ----

struct far_stack far_stack_from_tss(struct vcpu *v, unsigned cpl, unsigned ist, u32 ext)
{
    const struct segment *tr = &v->s.seg[SEG_TR];
    struct far_stack st = {.new_cpl = cpl};
    u32 tr_error = (tr->sel & 0xFFFC) | ext;
    if (cpu_lma(v)) {
        u32 at = ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl;
        if (at + 7 > tr->limit) raise_error(v, VEC_TS, tr_error);
        st.sp = sys_load(v, linear_at(v, tr->base + at), 8);
        st.mask = ~0ull;
        st.null = true;
        st.ss = (struct segment){.sel = (u16)cpl, .ar = AR_UNUSABLE | cpl << 5};
        return st;
    }
    u16 sel;
    if (tr->ar & 8) { // 32-bit TSS
        u32 at = 4 + 8 * cpl;
        if (at + 5 > tr->limit) raise_error(v, VEC_TS, tr_error);
        st.sp = sys_load(v, linear_at(v, tr->base + at), 4);
        sel = (u16)sys_load(v, linear_at(v, tr->base + at + 4), 2);
    } else {
        u32 at = 2 + 4 * cpl;
        if (at + 3 > tr->limit) raise_error(v, VEC_TS, tr_error);
        st.sp = sys_load(v, linear_at(v, tr->base + at), 2);
        sel = (u16)sys_load(v, linear_at(v, tr->base + at + 2), 2);
    }
    if (!(sel & 0xFFFC)) raise_error(v, VEC_TS, ext);
    u32 error = (sel & 0xFFFC) | ext;
    seg_read_descriptor_ext(v, sel, &st.d, VEC_TS, ext);
    seg_from_descriptor(&st.ss, sel, &st.d);
    u32 ar = st.ss.ar;
    if ((sel & 3u) != cpl || ar_dpl(ar) != cpl || !(ar & AR_S) || (ar & AR_CODE) || !(ar & AR_WRITABLE))
        raise_error(v, VEC_TS, error);
    if (!(ar & AR_P)) raise_error(v, VEC_SS, error);
    st.mask = ar & AR_DB ? 0xFFFFFFFF : 0xFFFF;
    return st;
}

void far_stack_commit(struct vcpu *v, struct far_stack *st, u64 sp)
{
    if (!st->null) {
        seg_mark_accessed(v, st->ss.sel, &st->d);
        st->ss.ar |= AR_ACCESSED;
    }
    v->s.seg[SEG_SS] = st->ss;
    v->s.gpr[RSP] = sp;
}

static void call_inner(struct vcpu *v, struct target *t)
{
    unsigned cpl = t->cs.sel & 3, n = W_BYTES(t->gate_w);
    struct far_stack st = far_stack_from_tss(v, cpl, 0, 0);
    // clang-format off
    struct frame f = {.ss = &st.ss, .sp = st.sp, .mask = st.mask, .w = t->gate_w, .long64 = cpu_lma(v),
                      .error = st.ss.sel & 0xFFFC,
                      .acc = ACC_WRITE | (cpl == 3 ? ACC_USER : 0) | (v->s.rflags & FL_AC ? ACC_AC : 0)};
    // clang-format on
    frame_push(&f, v->s.seg[SEG_SS].sel);
    frame_push(&f, v->s.gpr[RSP]);
    for (unsigned i = t->params; i-- > 0;) frame_push(&f, stack_peek(v, t->gate_w, i * n));
    frame_push(&f, v->s.seg[SEG_CS].sel);
    frame_push(&f, v->d.npc);
    frame_prepare(v, &f);
    if (!far_target_ok(v, &t->cs, t->offset)) raise_gp0(v);
    seg_mark_accessed(v, t->sel, &t->d);
    if (!st.null) seg_mark_accessed(v, st.ss.sel, &st.d);
    u64 sp = frame_store(v, &f);
    far_stack_commit(v, &st,
                     f.long64 ? sp : (st.mask == 0xFFFF ? (v->s.gpr[RSP] & ~0xFFFFull) | (sp & 0xFFFF) : sp));
    enter_code(v, t);
    cpu_mode_changed(v);
}

void far_call(struct vcpu *v, u16 sel, u64 offset, unsigned w)
{
    if (!mode_protected(v->d.mode)) {
        struct frame f = frame_here(v, w);
        frame_push(&f, v->s.seg[SEG_CS].sel);
        frame_push(&f, v->d.npc);
        frame_prepare(v, &f);
        offset = cut(offset, w);
        check_real_target(v, offset);
        v->s.gpr[RSP] = frame_store(v, &f);
        go_real(v, sel, offset);
        return;
    }
    struct target t = resolve(v, sel, offset, w, true);
    if (t.task) {
        task_switch(v, t.sel, TASK_BY_CALL, NULL);
        return;
    }
    if (t.inner) {
        call_inner(v, &t);
        return;
    }
    // to compatibility mode by 32 bits of the offset (SDM CALL; JMP and RET have the whole within the limit)
    if (!t.gate && cpu_lma(v) && !(t.cs.ar & AR_L)) t.offset = (u32)t.offset;
    struct frame f = frame_here(v, t.gate ? t.gate_w : w);
    frame_push(&f, v->s.seg[SEG_CS].sel);
    frame_push(&f, v->d.npc);
    frame_prepare(v, &f);
    if (!far_target_ok(v, &t.cs, t.offset)) raise_gp0(v);
    seg_mark_accessed(v, t.sel, &t.d);
    v->s.gpr[RSP] = frame_store(v, &f);
    enter_code(v, &t);
    cpu_mode_changed(v);
}

// ---- returning: shared by RET and IRET ----

void far_read_return_code(struct vcpu *v, u16 sel, struct segment *cs, struct descriptor *d)
{
    if (!(sel & 0xFFFC)) raise_gp0(v);
    u32 error = sel & 0xFFFC;
    unsigned rpl = sel & 3;
    seg_read_descriptor(v, sel, d, VEC_GP);
    seg_from_descriptor(cs, sel, d);
    u32 ar = cs->ar;
    if ((ar & (AR_S | AR_CODE)) != (AR_S | AR_CODE) || rpl < v->d.cpl) raise_error(v, VEC_GP, error);
    if (ar & AR_CONFORMING ? ar_dpl(ar) > rpl : ar_dpl(ar) != rpl) raise_error(v, VEC_GP, error);
    if (cpu_lma(v) && (ar & AR_L) && (ar & AR_DB)) raise_error(v, VEC_GP, error);
    if (!(ar & AR_P)) raise_error(v, VEC_NP, error);
}

// `absent`: the vector for one that is not present: #SS of a RET, #NP of an IRET.
void far_read_return_stack(struct vcpu *v, u16 sel, const struct segment *cs, u8 absent, struct segment *ss,
                           struct descriptor *d)
{
    unsigned rpl = cs->sel & 3;
    u32 error = sel & 0xFFFC;
    if (!error) {
        if (!cpu_lma(v) || !(cs->ar & AR_L) || rpl == 3) raise_gp0(v);
        *ss = (struct segment){.sel = sel, .ar = AR_UNUSABLE | rpl << 5};
        return;
    }
    seg_read_descriptor(v, sel, d, VEC_GP);
    seg_from_descriptor(ss, sel, d);
    u32 ar = ss->ar;
    if ((sel & 3u) != rpl || !(ar & AR_S) || (ar & AR_CODE) || !(ar & AR_WRITABLE) || ar_dpl(ar) != rpl)
        raise_error(v, VEC_GP, error);
    if (!(ar & AR_P)) raise_error(v, absent, error);
}

void far_commit_stack(struct vcpu *v, const struct segment *ss, struct descriptor *d, u64 sp)
{
    bool null = ss->ar & AR_UNUSABLE;
    v->s.seg[SEG_SS] = *ss;
    if (!null) v->s.seg[SEG_SS].ar |= AR_ACCESSED;
    bool long64 = cpu_lma(v) && (v->s.seg[SEG_CS].ar & AR_L);
    if (long64)
        v->s.gpr[RSP] = sp;
    else if (ss->ar & AR_DB)
        v->s.gpr[RSP] = (u32)sp;
    else // a 16-bit stack: only SP is loaded
        v->s.gpr[RSP] = (v->s.gpr[RSP] & ~0xFFFFull) | (u16)sp;
}

// SDM RET and IRET, return to outer privilege level. Only the selector is cleared, of segments that were NULL
// before too; the base stays, so FS and GS outlive the return to 64-bit code (test_cpu_segments holds what an
// Intel processor does).
void far_drop_privileged_data(struct vcpu *v, unsigned cpl)
{
    static const u8 segs[] = {SEG_ES, SEG_FS, SEG_GS, SEG_DS};
    for (unsigned i = 0; i < ARRAY_LEN(segs); i++) {
        struct segment *s = &v->s.seg[segs[i]];
        bool conforming = (s->ar & (AR_CODE | AR_CONFORMING)) == (AR_CODE | AR_CONFORMING);
        if (!(s->sel & 0xFFFC) || (!conforming && ar_dpl(s->ar) < cpl)) {
            s->sel = 0;
            s->ar = AR_UNUSABLE;
        }
    }
}

void far_return(struct vcpu *v, unsigned w, unsigned pop_bytes)
{
    unsigned n = W_BYTES(w);
    u64 rip = stack_peek(v, w, 0);
    u16 sel = (u16)stack_peek(v, w, n);
    if (!mode_protected(v->d.mode)) {
        check_real_target(v, rip);
        stack_add(v, (s64)(2 * n + pop_bytes));
        go_real(v, sel, rip);
        return;
    }
    struct segment cs = {0}, ss = {0};
    struct descriptor cd, sd;
    far_read_return_code(v, sel, &cs, &cd);
    unsigned rpl = sel & 3;
    bool outer = rpl > v->d.cpl;
    u64 sp = 0;
    if (outer) {
        sp = stack_peek(v, w, 2 * n + pop_bytes);
        u16 ss_sel = (u16)stack_peek(v, w, 3 * n + pop_bytes);
        far_read_return_stack(v, ss_sel, &cs, VEC_SS, &ss, &sd);
    }
    if (!far_target_ok(v, &cs, rip)) raise_gp0(v);
    seg_mark_accessed(v, sel, &cd);
    if (outer && !(ss.ar & AR_UNUSABLE)) seg_mark_accessed(v, ss.sel, &sd);
    if (!outer) stack_add(v, (s64)(2 * n + pop_bytes));
    seg_from_descriptor(&v->s.seg[SEG_CS], sel, &cd);
    v->d.npc = rip;
    if (outer) {
        far_commit_stack(v, &ss, &sd, sp);
        cpu_mode_changed(v);
        stack_add(v, pop_bytes);
        far_drop_privileged_data(v, rpl);
    }
    cpu_mode_changed(v);
    cpu_attention(v); // VIF and VIP count at level 3
}

// ---- the instructions ----

static void far_operand(struct vcpu *v, const struct insn *in, u16 *sel, u64 *offset)
{
    unsigned n = W_BYTES(in->osz);
    u64 ea = insn_ea(v, in), mask = in->asz == W64 ? ~0ull : in->asz == W32 ? 0xFFFFFFFF : 0xFFFF;
    *offset = lin_load(v, seg_linear(v, in->seg, ea, n, ACC_READ), n);
    *sel = (u16)lin_load(v, seg_linear(v, in->seg, (ea + n) & mask, 2, ACC_READ), 2);
}
void op_jmp_far(struct vcpu *v, const struct insn *in) { far_jump(v, (u16)in->imm2, in->imm1, in->osz); }
void op_call_far(struct vcpu *v, const struct insn *in) { far_call(v, (u16)in->imm2, in->imm1, in->osz); }
void op_jmp_far_mem(struct vcpu *v, const struct insn *in)
{
    u16 sel;
    u64 offset;
    far_operand(v, in, &sel, &offset);
    far_jump(v, sel, offset, in->osz);
}
void op_call_far_mem(struct vcpu *v, const struct insn *in)
{
    u16 sel;
    u64 offset;
    far_operand(v, in, &sel, &offset);
    far_call(v, sel, offset, in->osz);
}
// RETF
void op_ret_far(struct vcpu *v, const struct insn *in)
{
    far_return(v, in->osz, in->op == 0xCA ? (u16)in->imm : 0);
}

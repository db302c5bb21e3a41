// Moves: MOV, MOVZX, MOVSX, LEA, XCHG, CMOV, SETcc, BSWAP, CBW and CWD families, MOVBE, XLAT, flag
// instructions, and the stack.
#include "cpu/instructions/alu.h"
#include "cpu/engine/bodies.h"

// ---- MOV ----
ALWAYS_INLINE bool mov_store(struct vcpu *v, const struct insn *in, struct how h, bool imm)
{
    return store_rm(v, in, h, h.w, imm ? in->imm : reg_get(v, in->r, h.w));
}
BODY4(body_mov_EG, mov_store, false)
BODY4(body_mov_EI, mov_store, true)

ALWAYS_INLINE bool mov_load(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    reg_set(v, in->r, h.w, x);
    return true;
}
BODY4(body_mov_GE, mov_load)

ALWAYS_INLINE bool mov_ri(struct vcpu *v, const struct insn *in, struct how h)
{
    reg_set(v, in->r, h.w, in->imm);
    return true;
}
BODY4_REG(body_mov_RI, mov_ri)

// MOVZX, MOVSX, MOVSXD: source width constant, destination by operand size.
ALWAYS_INLINE bool mov_extend(struct vcpu *v, const struct insn *in, struct how h, bool sign, unsigned from)
{
    u64 x;
    if (!source_rm(v, in, h, from, &x)) return false;
    if (sign) x = from == W8 ? (u64)(s64)(s8)x : from == W16 ? (u64)(s64)(s16)x : (u64)(s64)(s32)x;
    reg_set(v, in->r, h.w, x);
    return true;
}
BODY4(body_movzx8, mov_extend, false, W8)
BODY4(body_movzx16, mov_extend, false, W16)
BODY4(body_movsx8, mov_extend, true, W8)
BODY4(body_movsx16, mov_extend, true, W16)
// With a 16-bit operand size MOVSXD reads a word and moves it.
ALWAYS_INLINE bool movsxd(struct vcpu *v, const struct insn *in, struct how h)
{
    return mov_extend(v, in, h, true, h.w == W16 ? W16 : W32);
}
BODY4(body_movsxd, movsxd)

// LEA: the offset alone; the forms are only address arithmetic, so the slow one serves nowhere.
ALWAYS_INLINE bool lea_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 a;
    if (h.fast && h.form == FORM_B)
        a = REG64(v, in->m) + (u64)(s64)in->disp;
    else if (h.fast && h.form == FORM_X)
        a = REG64(v, in->m) + (REG64(v, in->x) << in->scale) + (u64)(s64)in->disp;
    else {
        a = REG64(v, in->m) + (REG64(v, in->x) << in->scale) + (u64)(s64)in->disp;
        a = in->asz == W64 ? a : in->asz == W32 ? (u32)a : (u16)a;
    }
    reg_set(v, in->r, h.w, a);
    return true;
}
BODY4(body_lea, lea_body)

// MOV with an absolute offset (A0-A3). At speed these are loads and stores of a memory operand without
// registers, if 32 bits hold the offset; decode says so.
ALWAYS_INLINE bool mov_load_at(struct vcpu *v, const struct insn *in, struct how h)
{
    unsigned n = W_BYTES(h.w);
    if (h.fast) return h.form != FORM_REG && mov_load(v, in, h);
    reg_set(v, GPR_OFF(RAX), h.w, lin_load(v, seg_linear(v, in->seg, in->imm, n, ACC_READ), n));
    return true;
}
ALWAYS_INLINE bool mov_store_at(struct vcpu *v, const struct insn *in, struct how h)
{
    unsigned n = W_BYTES(h.w);
    if (h.fast) return h.form != FORM_REG && mov_store(v, in, h, false);
    lin_store(v, seg_linear(v, in->seg, in->imm, n, ACC_WRITE), n, reg_get(v, GPR_OFF(RAX), h.w));
    return true;
}
BODY4(body_mov_ao, mov_load_at)
BODY4(body_mov_oa, mov_store_at)

// ---- CMOV: a load that happens whatever the condition; a 32-bit destination is always zero-extended ----
ALWAYS_INLINE bool cmov_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    reg_set(v, in->r, h.w, cond(v->s.fl, in->op & 15) ? x : reg_get(v, in->r, h.w));
    return true;
}
// CMOVcc
BODY4(body_cmov, cmov_body)

ALWAYS_INLINE bool setcc_body(struct vcpu *v, const struct insn *in, struct how h)
{
    return store_rm(v, in, h, W8, cond(v->s.fl, in->op & 15));
}
BODY4(body_setcc, setcc_body)

// ---- exchange ----
void op_xchg_EG(struct vcpu *v, const struct insn *in)
{
    struct rmw m;
    u64 a = rm_open(v, in, in->osz, &m), b = reg_get(v, in->r, in->osz);
    rm_commit(v, in, in->osz, &m, b);
    reg_set(v, in->r, in->osz, a);
}
// 90h is NOP: it does not even clear the upper half of RAX.
ALWAYS_INLINE bool xchg_ra_body(struct vcpu *v, const struct insn *in, struct how h)
{
    if (in->r == GPR_OFF(RAX)) return true;
    u64 a = reg_get(v, GPR_OFF(RAX), h.w), b = reg_get(v, in->r, h.w);
    reg_set(v, GPR_OFF(RAX), h.w, b);
    reg_set(v, in->r, h.w, a);
    return true;
}
BODY4_REG(body_xchg_ra, xchg_ra_body)
// XADD
void op_xadd(struct vcpu *v, const struct insn *in)
{
    struct rmw m;
    unsigned w = in->osz;
    u16 f = v->s.fl;
    u64 a = rm_open(v, in, w, &m), b = reg_get(v, in->r, w);
    u64 r = alu(ALU_ADD, w, a, b, &f);
    if (in->mem) { // the store can fault: it comes first
        rm_commit(v, in, w, &m, r);
        reg_set(v, in->r, w, a);
    } else {
        reg_set(v, in->r, w, a);
        reg_set(v, in->m, w, r);
    }
    v->s.fl = f;
}
// CMPXCHG
void op_cmpxchg(struct vcpu *v, const struct insn *in)
{
    struct rmw m;
    unsigned w = in->osz;
    u16 f = v->s.fl;
    u64 a = rm_open(v, in, w, &m), acc = reg_get(v, GPR_OFF(RAX), w);
    alu(ALU_CMP, w, acc, a, &f);
    if (f & AX_ZF)
        rm_commit(v, in, w, &m, reg_get(v, in->r, w));
    else {
        // memory is written in both cases; a register keeps even its upper half
        if (in->mem) rm_commit(v, in, w, &m, a);
        reg_set(v, GPR_OFF(RAX), w, a);
    }
    v->s.fl = f;
}
// CMPXCHG8B
void op_cmpxchg8b(struct vcpu *v, const struct insn *in)
{
    u64 *g = v->s.gpr;
    if (in->osz == W64) { // CMPXCHG16B
        laddr la = insn_linear(v, in, 16, ACC_WRITE);
        if (la.at & 15) raise_gp0(v);
        u64 x[2];
        lin_probe_write(v, la, 16);
        lin_load_n(v, la, x, 16);
        if (x[0] == g[RAX] && x[1] == g[RDX]) {
            u64 y[2] = {g[RBX], g[RCX]};
            lin_store_n(v, la, y, 16);
            v->s.fl |= AX_ZF;
        } else {
            lin_store_n(v, la, x, 16);
            g[RAX] = x[0], g[RDX] = x[1];
            v->s.fl &= (u16)~AX_ZF;
        }
        return;
    }
    struct rmw m;
    u64 x = rmw_open(v, insn_linear(v, in, 8, ACC_WRITE), 8, &m);
    if (x == ((u64)(u32)g[RDX] << 32 | (u32)g[RAX])) {
        rmw_commit(v, &m, (u64)(u32)g[RCX] << 32 | (u32)g[RBX]);
        v->s.fl |= AX_ZF;
    } else {
        rmw_commit(v, &m, x);
        g[RAX] = (u32)x, g[RDX] = x >> 32;
        v->s.fl &= (u16)~AX_ZF;
    }
}

// ---- register-only ----
ALWAYS_INLINE bool bswap_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x = reg_get(v, in->r, h.w);
    // 16 bits: undefined, 0
    reg_set(v, in->r, h.w, h.w == W64 ? __builtin_bswap64(x) : h.w == W32 ? __builtin_bswap32((u32)x) : 0);
    return true;
}
BODY4_REG(body_bswap, bswap_body)
ALWAYS_INLINE bool cbw_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 a = v->s.gpr[RAX];
    reg_set(v, GPR_OFF(RAX), h.w,
            h.w == W16   ? (u64)(s64)(s8)a
            : h.w == W32 ? (u64)(s64)(s16)a
                         : (u64)(s64)(s32)a);
    return true;
}
BODY4_REG(body_cbw, cbw_body)
ALWAYS_INLINE bool cwd_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 a = v->s.gpr[RAX];
    reg_set(v, GPR_OFF(RDX), h.w, (a >> (width_bits(h.w) - 1) & 1) ? UINT64_MAX : 0);
    return true;
}
BODY4_REG(body_cwd, cwd_body)
ALWAYS_INLINE bool nop_body(struct vcpu *v, const struct insn *in, struct how h) { return true; }
// NOP, and the hints: PREFETCH, PREFETCHW
BODY4(body_nop, nop_body)

enum { FLAG_CLC, FLAG_STC, FLAG_CMC, FLAG_CLD, FLAG_STD };
ALWAYS_INLINE bool flag_body(struct vcpu *v, const struct insn *in, struct how h, unsigned op)
{
    switch (op) {
    case FLAG_CLC: v->s.fl &= (u16)~AX_CF; break;
    case FLAG_STC: v->s.fl |= AX_CF; break;
    case FLAG_CMC: v->s.fl ^= AX_CF; break;
    case FLAG_CLD: v->s.rflags &= ~(u64)FL_DF; break;
    default: v->s.rflags |= FL_DF; break;
    }
    return true;
}
// CLC
BODY4_REG(body_clc, flag_body, FLAG_CLC)
// STC
BODY4_REG(body_stc, flag_body, FLAG_STC)
// CMC
BODY4_REG(body_cmc, flag_body, FLAG_CMC)
// CLD
BODY4_REG(body_cld, flag_body, FLAG_CLD)
// STD
BODY4_REG(body_std, flag_body, FLAG_STD)

// SAHF
void op_sahf(struct vcpu *v, const struct insn *in)
{
    u16 ah = REG8(v, 1);
    v->s.fl = (u16)((ah & 0xD5) << 8 | 0x200 | (v->s.fl & AX_OF));
}
void op_lahf(struct vcpu *v, const struct insn *in)
{
    REG8(v, 1) = (u8)(fl_unpack(v->s.fl & (u16)~AX_OF) | 2);
}

void op_movbe_load(struct vcpu *v, const struct insn *in)
{
    u64 x = rm_load(v, in, in->osz);
    reg_set(v, in->r, in->osz, __builtin_bswap64(x) >> (64 - width_bits(in->osz)));
}
void op_movbe_store(struct vcpu *v, const struct insn *in)
{
    rm_store(v, in, in->osz, __builtin_bswap64(reg_get(v, in->r, in->osz)) >> (64 - width_bits(in->osz)));
}
void op_xlat(struct vcpu *v, const struct insn *in)
{
    u64 a = v->s.gpr[RBX] + REG8(v, 0);
    a = in->asz == W64 ? a : in->asz == W32 ? (u32)a : (u16)a;
    REG8(v, 0) = (u8)lin_load(v, seg_linear(v, in->seg, a, 1, ACC_READ), 1);
}
// SALC
void op_salc(struct vcpu *v, const struct insn *in) { REG8(v, 0) = v->s.fl & AX_CF ? 0xFF : 0; }

// ---- the stack ----
ALWAYS_INLINE bool push_body(struct vcpu *v, const struct insn *in, struct how h, bool imm)
{
    return push_at(v, h, imm ? in->imm : reg_get(v, in->r, h.w));
}
BODY4_REG(body_push_r, push_body, false)
BODY4_REG(body_push_i, push_body, true)
ALWAYS_INLINE bool pop_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (!stack_top(v, h, &x)) return false;
    drop_at(v, h, W_BYTES(h.w));
    reg_set(v, in->r, h.w, x);
    return true;
}
BODY4_REG(body_pop_r, pop_body)

void op_push_m(struct vcpu *v, const struct insn *in) { stack_push(v, in->osz, rm_load(v, in, in->osz)); }
// POP m: the address is computed with RSP already incremented.
void op_pop_m(struct vcpu *v, const struct insn *in)
{
    unsigned w = in->osz;
    u64 x = stack_peek(v, w, 0), sp = v->s.gpr[RSP];
    if (!in->mem) {
        stack_add(v, W_BYTES(w));
        reg_set(v, in->m, w, x);
        return;
    }
    stack_add(v, W_BYTES(w));
    u64 after = v->s.gpr[RSP];
    u64 ea = insn_ea(v, in);
    v->s.gpr[RSP] = sp; // until the store has succeeded
    lin_store(v, seg_linear(v, in->seg, ea, W_BYTES(w), ACC_WRITE), W_BYTES(w), x);
    v->s.gpr[RSP] = after;
}
// PUSHA
void op_pusha(struct vcpu *v, const struct insn *in)
{
    unsigned n = W_BYTES(in->osz);
    u64 m = stack_mask(v), sp = v->s.gpr[RSP];
    laddr at[8];
    for (unsigned i = 0; i < 8; i++) { // all eight must succeed before any is stored
        at[i] = seg_linear(v, SEG_SS, (sp - (i + 1) * n) & m, n, ACC_WRITE);
        lin_probe_write(v, at[i], n);
    }
    for (unsigned i = 0; i < 8; i++) lin_store(v, at[i], n, v->s.gpr[i]);
    stack_add(v, -(s64)(8 * n));
}
// POPA
void op_popa(struct vcpu *v, const struct insn *in)
{
    unsigned n = W_BYTES(in->osz);
    u64 x[8];
    for (unsigned i = 0; i < 8; i++) x[i] = stack_peek(v, in->osz, i * n);
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != RSP) reg_set(v, GPR_OFF(7 - i), in->osz, x[i]);
    stack_add(v, 8 * n);
}
void op_enter(struct vcpu *v, const struct insn *in)
{
    unsigned w = in->osz, n = W_BYTES(w), level = in->imm2 & 31, size = in->imm1 & 0xFFFF;
    u64 m = stack_mask(v), sp = v->s.gpr[RSP], bp = v->s.gpr[RBP], frame = (sp - n) & m;
    u64 word[33];
    unsigned count = 0;
    // Pushes and reads alternate: a read sees what was pushed before it. Nothing is stored until all may be.
    lin_probe_write(v, seg_linear(v, SEG_SS, (sp - n) & m, n, ACC_WRITE), n);
    word[count++] = reg_get(v, GPR_OFF(RBP), w);
    for (unsigned i = 1; i < level; i++) {
        u64 from = (bp - i * n) & m, x = lin_load(v, seg_linear(v, SEG_SS, from, n, ACC_READ), n);
        for (unsigned k = 0; k < count; k++) {
            for (unsigned byte = 0; byte < n; byte++) {
                u64 at = (from + byte - (sp - (k + 1) * n)) & m; // position within the pushed word
                if (at < n) x = (x & ~(0xFFull << 8 * byte)) | (word[k] >> 8 * at & 0xFF) << 8 * byte;
            }
        }
        lin_probe_write(v, seg_linear(v, SEG_SS, (sp - (i + 1) * n) & m, n, ACC_WRITE), n);
        word[count++] = x;
    }
    if (level) {
        lin_probe_write(v, seg_linear(v, SEG_SS, (sp - (count + 1) * n) & m, n, ACC_WRITE), n);
        word[count++] = frame;
    }
    u64 end = (sp - count * n - size) & m;
    // the new top must be writable
    laddr top = seg_linear(v, SEG_SS, end, n, ACC_WRITE);
    lin_probe_write(v, top, n);
    if (size && v->d.mmu.apic_access) lin_touch(v, top, n);
    for (unsigned i = 0; i < count; i++)
        lin_store(v, seg_linear(v, SEG_SS, (sp - (i + 1) * n) & m, n, ACC_WRITE), n, word[i]);
    reg_set(v, GPR_OFF(RBP), w, frame); // on a 16-bit stack EBP's upper half becomes 0
    stack_add(v, -(s64)(count * n + size));
}
ALWAYS_INLINE bool leave_body(struct vcpu *v, const struct insn *in, struct how h)
{
    u64 x;
    if (h.fast) {
        u64 bp = fast_sp(v->s.gpr[RBP], h.w);
        const void *p = fast_read(v, laddr_of(bp), W_BYTES(h.w));
        if (!p) return false;
        x = host_load(p, h.w);
        v->s.gpr[RSP] = fast_sp(bp + W_BYTES(h.w), h.w);
    } else {
        u64 m = stack_mask(v), bp = v->s.gpr[RBP];
        unsigned n = W_BYTES(h.w);
        x = lin_load(v, seg_linear(v, SEG_SS, bp & m, n, ACC_READ), n);
        u64 sp = (v->s.gpr[RSP] & ~m) | ((bp + n) & m);
        v->s.gpr[RSP] = m == 0xFFFFFFFF ? (u32)sp : sp;
    }
    reg_set(v, GPR_OFF(RBP), h.w, x);
    return true;
}
BODY4_REG(body_leave, leave_body)

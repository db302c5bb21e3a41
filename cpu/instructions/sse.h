// How the bodies of MMX and SSE are written: a *core* works on operands in memory (the register file, a
// temporary, or guest RAM itself) and is one asm statement around the same instruction on the host, made by
// the macros of cpu/host/sse.h; wrappers fetch and check operands. Operand order decides which NaN survives,
// so no C operator and no intrinsic appears here.
#ifndef CPU_SSE_H
#define CPU_SSE_H

#include <string.h>

#include "cpu/engine/bodies.h"
#include "cpu/engine/fp.h"
#include "cpu/host/sse_fp.h"
#include "cpu/instructions/x87.h"

// A register is always written whole: a 16-byte load after two narrower stores would wait for them (no store
// forwarding).
typedef u64 whole128 __attribute__((vector_size(16), aligned(8), may_alias));
static inline __attribute__((always_inline)) void sse_put(void *d, u64 low, u64 high)
{
    *(whole128 *)d = (whole128){low, high};
}
static inline struct x128 *sse_reg(struct vcpu *v, unsigned n) { return (struct x128 *)v->s.xmm[n]; }

// Linear address of the memory operand, alignment checked as the row says.
RAISES laddr sse_linear(struct vcpu *v, const struct insn *in, unsigned size, u32 acc);
// The high half of a YMM register.
static inline struct x128 *ymm_high(struct vcpu *v, unsigned n) { return (struct x128 *)v->s.ymm_high[n]; }

// ---- operands ----
// The source operand: a register, or `size` bytes of memory brought into *tmp (the rest of it is zero).
RAISES const void *sse_source(struct vcpu *v, const struct insn *in, struct x128 *tmp, unsigned size);
RAISES void sse_store(struct vcpu *v, const struct insn *in, const void *from, unsigned size);
RAISES const void *mmx_source(struct vcpu *v, const struct insn *in, u64 *tmp, unsigned size);

// The source operand, checked or at speed, aligned or not: in a register, or in memory (checked: brought into
// *tmp). sse_missed says whether it cannot be had at speed.
ALWAYS_INLINE const void *sse_operand(struct vcpu *v, const struct insn *in, struct how h, struct x128 *tmp,
                                      unsigned size, bool align)
{
    if (!h.fast) return sse_source(v, in, tmp, size);
    if (h.form == FORM_REG) return sse_reg(v, in->m);
    laddr a = fast_ea(v, in, h.form);
    if (align && unlikely(a.at & 15)) return NULL;
    return fast_read(v, a, size);
}
ALWAYS_INLINE bool sse_missed(struct how h, const void *operand)
{
    return h.fast && h.form != FORM_REG && unlikely(!operand);
}

// ---- MMX registers live in the significands of the x87 registers ----
static inline u64 *mmx_reg(struct vcpu *v, unsigned n) { return &v->s.fpu.r[n & 7].m; }
// Every MMX instruction makes all registers valid and TOP 0 (SDM Vol. 1, 9.5.1).

// before a store, whose fault leaves TOP 0 and the tags as they were
static inline void mmx_top(struct vcpu *v) { v->s.fpu.fsw &= (u16)~FSW_TOP; }
static inline void mmx_enter(struct vcpu *v)
{
    mmx_top(v);
    v->s.fpu.ftw = 0;
}
// An x87 exception that is pending comes before anything else.
RAISES static inline void mmx_wait(struct vcpu *v)
{
    if (unlikely(v->s.fpu.fsw & FSW_ES)) x87_wait(v);
}
static inline void mmx_write(struct vcpu *v, unsigned n, u64 x)
{
    v->s.fpu.r[n & 7].m = x;
    v->s.fpu.r[n & 7].se = 0xFFFF;
}

// ---- cores ----
// *d becomes *a op *s; d and a are one register without VEX.
typedef void sse_core(struct vcpu *v, void *d, const void *a, const void *s);
typedef void sse_core_imm(void *d, const void *a, const void *s, u8 imm);

// ---- bodies from cores; a source of 16 bytes must be aligned ----
ALWAYS_INLINE bool sse_plain(struct vcpu *v, const struct insn *in, struct how h, sse_core *core,
                             unsigned size) // no exceptions
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, size == 16);
    if (sse_missed(h, s)) return false;
    core(v, sse_reg(v, in->r), sse_reg(v, in->r), s);
    return true;
}
// With MODE_FPUNMASK decoding chooses no form at speed.
ALWAYS_INLINE bool sse_fp(struct vcpu *v, const struct insn *in, struct how h, sse_core *core, unsigned size,
                          enum fp_lanes lanes)
{
    struct x128 t, d;
    const void *s = sse_operand(v, in, h, &t, size, size == 16);
    if (sse_missed(h, s)) return false;
    if (h.fast || !(v->d.mode & MODE_FPUNMASK)) {
        core(v, sse_reg(v, in->r), sse_reg(v, in->r), s);
        return true;
    }
    fp_begin(v);
    core(v, &d, sse_reg(v, in->r), s);
    fp_end(v, &d, lanes, &(struct fp_operands){.a = {sse_reg(v, in->r)}, .s = {s}});
    *sse_reg(v, in->r) = d;
    return true;
}

// ---- the same with VEX: a third operand, and 256 bits, which are two times 128 ----
struct vex_shape { // of a source operand
    u8 size;       // bytes that the low 128 bits of the result come from
    u8 stride;     // how much further on those of the high 128 bits are: 16 the high half of the register
    u8 total;      // bytes of memory for 256 bits
};
#define SHAPE_X            ((struct vex_shape){16, 16, 32}) // half by half
#define SHAPE_WIDEN(size)  ((struct vex_shape){size, size, 2 * (size)})
#define SHAPE_DUP(size)    ((struct vex_shape){size, 16, 32})
#define SHAPE_SAME         ((struct vex_shape){16, 0, 16}) // one operand for both halves
#define SHAPE_SCALAR(size) ((struct vex_shape){size, 0, size})
#define VEX_256(h)         ((h).w == W64) // rows with both lengths have VEX.L in their operand size
struct vex_source {
    const u8 *low, *high;
};
RAISES void vex_source_checked(struct vcpu *v, const struct insn *in, void *tmp, unsigned size);
// As sse_operand; .low is NULL where it cannot be had at speed.
ALWAYS_INLINE struct vex_source vex_operand(struct vcpu *v, const struct insn *in, struct how h, void *tmp,
                                            struct vex_shape k, bool align)
{
    unsigned size = VEX_256(h) ? k.total : k.size;
    const u8 *p = tmp;
    if (!how_mem(in, h)) {
        p = (const u8 *)sse_reg(v, in->m);
        return (struct vex_source){p, k.stride == 16 ? (const u8 *)ymm_high(v, in->m) : p + k.stride};
    }
    if (h.fast) {
        laddr a = fast_ea(v, in, h.form);
        if (align && unlikely(a.at & (size - 1))) return (struct vex_source){NULL, NULL};
        p = fast_read(v, a, size);
    } else {
        vex_source_checked(v, in, tmp, size);
    }
    return (struct vex_source){p, p + k.stride};
}
ALWAYS_INLINE bool vex_missed(struct how h, struct vex_source s) { return sse_missed(h, s.low); }
// The high half first: what the low half of the operand is for it has not been overwritten then.
ALWAYS_INLINE bool vex_plain(struct vcpu *v, const struct insn *in, struct how h, sse_core *core,
                             struct vex_shape k)
{
    struct x128 t[2];
    struct vex_source s = vex_operand(v, in, h, t, k, false);
    if (vex_missed(h, s)) return false;
    if (VEX_256(h))
        core(v, ymm_high(v, in->r), ymm_high(v, in->v), s.high);
    else
        sse_put(ymm_high(v, in->r), 0, 0);
    core(v, sse_reg(v, in->r), sse_reg(v, in->v), s.low);
    return true;
}
ALWAYS_INLINE bool vex_fp(struct vcpu *v, const struct insn *in, struct how h, sse_core *core,
                          struct vex_shape k, enum fp_lanes lanes)
{
    if (h.fast || !(v->d.mode & MODE_FPUNMASK)) return vex_plain(v, in, h, core, k);
    struct x128 t[2], d[2] = {*sse_reg(v, in->r)};
    struct vex_source s = vex_operand(v, in, h, t, k, false);
    if (VEX_256(h)) d[1] = *ymm_high(v, in->r);
    fp_begin(v);
    if (VEX_256(h)) core(v, &d[1], ymm_high(v, in->v), s.high);
    core(v, &d[0], sse_reg(v, in->v), s.low);
    struct fp_operands from = {{sse_reg(v, in->v)}, {s.low}, {sse_reg(v, in->r)}};
    if (VEX_256(h)) from.a[1] = ymm_high(v, in->v), from.s[1] = s.high, from.d[1] = ymm_high(v, in->r);
    fp_end(v, d, VEX_256(h) ? fp_lanes_256(lanes) : lanes, &from);
    *sse_reg(v, in->r) = d[0];
    *ymm_high(v, in->r) = d[1];
    return true;
}

// Two halves narrowed into the low one.
RAISES ALWAYS_INLINE void vex_narrow(struct vcpu *v, const struct insn *in, sse_core *core,
                                     enum fp_lanes lanes)
{
    struct x128 t[2], d = {{0}}, high = {{0}};
    const struct how h = {.w = in->osz};
    struct vex_source s = vex_operand(v, in, h, t, SHAPE_X, false);
    bool unmasked = v->d.mode & MODE_FPUNMASK;
    if (unmasked) fp_begin(v);
    core(v, &d, &d, s.low);
    if (VEX_256(h)) core(v, &high, &high, s.high);
    d.q[1] |= high.q[0];
    if (unmasked) fp_end(v, &d, lanes, &(struct fp_operands){.s = {s.low, VEX_256(h) ? s.high : NULL}});
    *sse_reg(v, in->r) = d;
    sse_put(ymm_high(v, in->r), 0, 0);
}

// One line an instruction: what the host calls it too, and its name with VEX. SSE_ONLY: there is no such.
#define SSE_PLAIN(sse, vex) SSE_ONLY(sse) BODY_L(body_##vex, vex_plain, sse##_core, SHAPE_X)
#define SSE_ONLY(insn)      CORE_X(insn##_core, #insn) BODY_X(body_##insn, sse_plain, insn##_core, 16)
// one operand of 128 bits for both halves
#define SSE_COUNT(sse, vex) SSE_ONLY(sse) BODY_L(body_##vex, vex_plain, sse##_core, SHAPE_SAME)
#define SSE_PLAIN_M(sse, vex, size, src, body, shape) \
    CORE_M(sse##_core, #sse, src) \
    BODY_X(body_##sse, sse_plain, sse##_core, size) \
    body(body_##vex, vex_plain, sse##_core, shape(size))
#define SSE_WIDEN(sse, vex, size, src) SSE_PLAIN_M(sse, vex, size, src, BODY_L, SHAPE_WIDEN)
#define SSE_FP_EXACT(sse, vex, size, src) \
    FP_CORE_M(sse##_core, #sse, src) \
    BODY_X(body_##sse, sse_plain, sse##_core, size) \
    BODY_L(body_##vex, vex_plain, sse##_core, SHAPE_WIDEN(size))
#define SSE_SCALAR(sse, vex, size, src) SSE_PLAIN_M(sse, vex, size, src, BODY_LIG, SHAPE_SCALAR)
#define SSE_FP(sse, vex, lanes) \
    FP_CORE_X(sse##_core, #sse) \
    BODY_X(body_##sse, sse_fp, sse##_core, 16, lanes) \
    BODY_L(body_##vex, vex_fp, sse##_core, SHAPE_X, lanes)
#define SSE_FP_NARROW(sse, vex, lanes) \
    FP_CORE_X(sse##_core, #sse) \
    BODY_X(body_##sse, sse_fp, sse##_core, 16, lanes) \
    void op_##vex(struct vcpu *v, const struct insn *in) { vex_narrow(v, in, sse##_core, lanes); }
#define SSE_FP_M(sse, vex, size, src, lanes, body, shape) \
    FP_CORE_M(sse##_core, #sse, src) \
    BODY_X(body_##sse, sse_fp, sse##_core, size, lanes) \
    body(body_##vex, vex_fp, sse##_core, shape(size), lanes)
#define SSE_FP_SCALAR(sse, vex, size, src, lanes) SSE_FP_M(sse, vex, size, src, lanes, BODY_LIG, SHAPE_SCALAR)
#define SSE_FP_WIDEN(sse, vex, size, src)         SSE_FP_M(sse, vex, size, src, FP_NONE, BODY_L, SHAPE_WIDEN)

// ---- instructions with an immediate: a table of 256 eight-byte stubs on xmm0 and xmm1, one an immediate
// ----
// The checked bodies of those without exceptions: by an immediate; with XMM0 as a third operand. With VEX the
// high half of the result goes by the immediate shifted right.
#define SSE_BY_IMM(sse, bytes) \
    IMM_TABLE(sse, bytes) \
    void op_##sse(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t; \
        const void *s = sse_source(v, in, &t, 16); \
        IMM_CALL(sse, in->imm, sse_reg(v, in->r), sse_reg(v, in->r), s); \
    }
#define VEX_BY_IMM(sse, vex, shift) \
    void op_##vex(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t[2]; \
        const struct how h = {.w = in->osz}; \
        struct vex_source s = vex_operand(v, in, h, t, SHAPE_X, false); \
        if (VEX_256(h)) \
            IMM_CALL(sse, (u8)in->imm >> (shift), ymm_high(v, in->r), ymm_high(v, in->v), s.high); \
        else \
            sse_put(ymm_high(v, in->r), 0, 0); \
        IMM_CALL(sse, in->imm, sse_reg(v, in->r), sse_reg(v, in->v), s.low); \
    }
typedef void sse_core_mask(void *d, const void *a, const void *s, const void *mask);
#define SSE_BY_XMM0(sse) \
    MASK_CORE4(sse##_core, #sse) \
    void op_##sse(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t; \
        const void *s = sse_source(v, in, &t, 16); \
        sse##_core(sse_reg(v, in->r), sse_reg(v, in->r), s, sse_reg(v, 0)); \
    }
// with VEX the mask is in the register that the immediate names
#define VEX_BY_MASK(sse, vex) \
    void op_##vex(struct vcpu *v, const struct insn *in) \
    { \
        struct x128 t[2]; \
        const struct how h = {.w = in->osz}; \
        struct vex_source s = vex_operand(v, in, h, t, SHAPE_X, false); \
        unsigned mask = vex_is4(v, in); \
        if (VEX_256(h)) \
            sse##_core(ymm_high(v, in->r), ymm_high(v, in->v), s.high, ymm_high(v, mask)); \
        else \
            sse_put(ymm_high(v, in->r), 0, 0); \
        sse##_core(sse_reg(v, in->r), sse_reg(v, in->v), s.low, sse_reg(v, mask)); \
    }
static inline unsigned vex_is4(const struct vcpu *v, const struct insn *in)
{
    return in->imm >> 4 & (mode_long64(v->d.mode) ? 15 : 7);
}

#endif

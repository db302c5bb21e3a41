// The tail-threaded wrappers of the moves in cpu/sse_mov.c. A miss of the fast table, an operand across two pages and an
// unaligned operand of an aligned instruction go to the loop body.
#include "cpu/sse.h"

exec_fn op_xmm_load, op_xmm_store, op_movss_load, op_movss_store, op_movsd_load, op_movsd_store, op_movlp_load, op_movhp_load,
    op_movlp_store, op_movhp_store, op_movq_load, op_movq_store, op_movd_load, op_movd_store, op_movmskps, op_movmskpd, op_pmovmskb, op_pextrw, op_pinsrw;

// How the destination register changes; memory forms and register forms differ for scalars and halves.
enum kind { WHOLE, SCALAR4, SCALAR8, LOW, HIGH, QUAD };

ALWAYS_INLINE bool load(struct vcpu *v, const struct insn *in, unsigned form, enum kind k, bool align)
{
    unsigned size = k == WHOLE ? 16 : k == SCALAR4 ? 4 : 8;
    const u64 *s = sse_fast_source(v, in, form, size, align);
    u64 *d = sse_reg(v, in->r)->q;
    bool reg = form == FORM_REG;
    if (!reg && unlikely(!s)) return false;
    switch (k) {
    case WHOLE: *(whole128 *)d = *(const whole128 *)s; break;
    case SCALAR4:
        if (reg) sse_put(d, (d[0] & ~0xFFFFFFFFull) | *(const u32 *)s, d[1]);
        else sse_put(d, *(const u32 *)s, 0);
        break;
    case SCALAR8: sse_put(d, s[0], reg ? d[1] : 0); break;
    case LOW: sse_put(d, s[reg ? 1 : 0], d[1]); break;
    case HIGH: sse_put(d, d[0], s[0]); break;
    case QUAD: sse_put(d, s[0], 0); break;
    }
    return true;
}

ALWAYS_INLINE bool store(struct vcpu *v, const struct insn *in, unsigned form, enum kind k, bool align)
{
    unsigned size = k == WHOLE ? 16 : k == SCALAR4 ? 4 : 8;
    const u64 *s = sse_reg(v, in->r)->q;
    bool reg = form == FORM_REG;
    u64 *d = reg ? sse_reg(v, in->m)->q : sse_fast_target(v, in, form, size, align);
    if (!reg && unlikely(!d)) return false;
    switch (k) {
    case WHOLE: *(whole128 *)d = *(const whole128 *)s; break;
    case SCALAR4:
        if (reg) sse_put(d, (d[0] & ~0xFFFFFFFFull) | *(const u32 *)s, d[1]);
        else *(u32 *)d = *(const u32 *)s;
        break;
    case SCALAR8:
    case LOW:
        if (reg) sse_put(d, s[0], d[1]);
        else d[0] = s[0];
        break;
    case HIGH: d[0] = s[1]; break;
    case QUAD:
        if (reg) sse_put(d, s[0], 0);
        else d[0] = s[0];
        break;
    }
    return true;
}

#define LOAD(name, loopfn, kind, align) FORMS(name, load, kind, align) BODY_OF(name, loopfn)
#define STORE(name, loopfn, kind, align) FORMS(name, store, kind, align) BODY_OF(name, loopfn)
LOAD(xmm_load, op_xmm_load, WHOLE, false)
LOAD(xmm_load_aligned, op_xmm_load, WHOLE, true)
STORE(xmm_store, op_xmm_store, WHOLE, false)
STORE(xmm_store_aligned, op_xmm_store, WHOLE, true)
LOAD(movss_load, op_movss_load, SCALAR4, false)
STORE(movss_store, op_movss_store, SCALAR4, false)
LOAD(movsd_load, op_movsd_load, SCALAR8, false)
STORE(movsd_store, op_movsd_store, SCALAR8, false)
LOAD(movlp_load, op_movlp_load, LOW, false)
LOAD(movhp_load, op_movhp_load, HIGH, false)
STORE(movlp_store, op_movlp_store, LOW, false)
STORE(movhp_store, op_movhp_store, HIGH, false)
LOAD(movq_load, op_movq_load, QUAD, false)
STORE(movq_store, op_movq_store, QUAD, false)

// MOVD and MOVQ with general registers.
ALWAYS_INLINE bool load_int(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)
{
    u64 x;
    if (form == FORM_REG) {
        x = reg_get(v, in->m, w);
    } else {
        const void *s = sse_fast_source(v, in, form, W_BYTES(w), false);
        if (unlikely(!s)) return false;
        x = host_load(s, w);
    }
    sse_put(sse_reg(v, in->r), x, 0);
    return true;
}
ALWAYS_INLINE bool store_int(struct vcpu *v, const struct insn *in, unsigned form, unsigned w)
{
    u64 x = sse_reg(v, in->r)->q[0];
    if (form == FORM_REG) {
        reg_set(v, in->m, w, x);
    } else {
        void *d = sse_fast_target(v, in, form, W_BYTES(w), false);
        if (unlikely(!d)) return false;
        host_store(d, w, x);
    }
    return true;
}
FORMS(movd_load_32, load_int, W32)
FORMS(movd_load_64, load_int, W64)
BODY_OF_WIDTHS(movd_load, op_movd_load)
FORMS(movd_store_32, store_int, W32)
FORMS(movd_store_64, store_int, W64)
BODY_OF_WIDTHS(movd_store, op_movd_store)

// ---- register forms only ----
#if FP_HOST_X86
#define MASK_CORE(name)                                                                                                \
    u32 x;                                                                                                             \
    asm volatile("movups %1, %%xmm0\n\t" #name " %%xmm0, %0" : "=r"(x) : "m"(*sse_reg(v, in->m)) : "xmm0");            \
    REG64(v, in->r) = x;                                                                                               \
    return true;
#else
#define MASK_CORE(name) return false;
#endif
#define REGISTER_ONLY(name, ...)                                                                                       \
    ALWAYS_INLINE bool name##_only(struct vcpu *v, const struct insn *in)                                              \
    {                                                                                                                  \
        __VA_ARGS__                                                                                                    \
    }                                                                                                                  \
    FAST(name##_r, name##_only(v, in))                                                                                 \
    const struct body body_##name = {.loop = {op_##name, op_##name, op_##name, op_##name},                             \
                                     .fast = {{{NULL}, {name##_r}, {name##_r}, {name##_r}}},                       \
                                     .call = {{NULL}, {name##_r_call}, {name##_r_call}, {name##_r_call}}};
REGISTER_ONLY(pmovmskb, MASK_CORE(pmovmskb)) // what every string search reads
REGISTER_ONLY(movmskps, MASK_CORE(movmskps))
REGISTER_ONLY(movmskpd, MASK_CORE(movmskpd))
REGISTER_ONLY(pextrw, REG64(v, in->r) = ((const u16 *)sse_reg(v, in->m))[in->imm & 7]; return true;)
REGISTER_ONLY(pinsrw, ((u16 *)sse_reg(v, in->r))[in->imm & 7] = REG16(v, in->m); return true;)

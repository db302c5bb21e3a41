// Moves of XMM registers, insertions and extractions, MXCSR, and the SSE instructions on general registers.
#include "cpu/instructions/sse.h"

// ---- loads and stores: which part of the register, and what becomes of the rest ----
// Stores `size` bytes of *from to the memory operand.
ALWAYS_INLINE bool store_mem(struct vcpu *v, const struct insn *in, struct how h, const u64 *from,
                             unsigned size, bool align)
{
    if (!h.fast) {
        sse_store(v, in, from, size);
        return true;
    }
    laddr a = fast_ea(v, in, h.form);
    if (align && unlikely(a.at & 15)) return false;
    void *p = fast_write(v, a, size);
    if (unlikely(!p)) return false;
    if (size == 16)
        *(whole128 *)p = *(const whole128 *)from;
    else if (size == 8)
        *(u64 *)p = *from;
    else
        *(u32 *)p = (u32)*from;
    return true;
}
// What VEX does to the high half of its destination; `done` passes through.
ALWAYS_INLINE bool clear_high(struct vcpu *v, unsigned n, bool vex, bool done)
{
    if (vex && done) sse_put(ymm_high(v, n), 0, 0);
    return done;
}
// The low doubleword replaced.
ALWAYS_INLINE u64 low32(u64 old, u64 x) { return (old & ~0xFFFFFFFFull) | (u32)x; }

// MOVAPS, MOVAPD, MOVDQA, MOVNTPS, MOVNTPD, MOVNTDQ, MOVNTDQA; MOVUPS, MOVUPD, MOVDQU, LDDQU
ALWAYS_INLINE bool xmm_load(struct vcpu *v, const struct insn *in, struct how h, bool align)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, 16, align);
    if (sse_missed(h, s)) return false;
    *(whole128 *)sse_reg(v, in->r) = *(const whole128 *)s;
    return true;
}
ALWAYS_INLINE bool xmm_store(struct vcpu *v, const struct insn *in, struct how h, bool align)
{
    if (how_mem(in, h)) return store_mem(v, in, h, sse_reg(v, in->r)->q, 16, align);
    *(whole128 *)sse_reg(v, in->m) = *(const whole128 *)sse_reg(v, in->r);
    return true;
}
// VMOVAPS, VMOVAPD, VMOVDQA, VMOVNTDQA; VMOVUPS, VMOVUPD, VMOVDQU, VLDDQU
ALWAYS_INLINE bool vex_load(struct vcpu *v, const struct insn *in, struct how h, bool align)
{
    struct x128 t[2];
    struct vex_source s = vex_operand(v, in, h, t, SHAPE_X, align);
    if (vex_missed(h, s)) return false;
    if (VEX_256(h))
        *(whole128 *)ymm_high(v, in->r) = *(const whole128 *)s.high;
    else
        sse_put(ymm_high(v, in->r), 0, 0);
    *(whole128 *)sse_reg(v, in->r) = *(const whole128 *)s.low;
    return true;
}
// VMOVAPS, VMOVAPD, VMOVDQA, VMOVNTPS, VMOVNTPD, VMOVNTDQ; VMOVUPS, VMOVUPD, VMOVDQU
ALWAYS_INLINE bool vex_store(struct vcpu *v, const struct insn *in, struct how h, bool align)
{
    const whole128 *low = (whole128 *)sse_reg(v, in->r), *high = (whole128 *)ymm_high(v, in->r);
    if (!how_mem(in, h)) {
        *(whole128 *)ymm_high(v, in->m) = VEX_256(h) ? *high : (whole128){0, 0};
        *(whole128 *)sse_reg(v, in->m) = *low;
        return true;
    }
    if (!VEX_256(h)) return store_mem(v, in, h, (const u64 *)low, 16, align);
    if (!h.fast) {
        whole128 t[2] = {*low, *high};
        sse_store(v, in, t, 32);
        return true;
    }
    laddr a = fast_ea(v, in, h.form);
    if (align && unlikely(a.at & 31)) return false;
    whole128 *p = fast_write(v, a, 32);
    if (unlikely(!p)) return false;
    p[0] = *low;
    p[1] = *high;
    return true;
}
// MOVSS and MOVSD: a load from memory clears the rest of the register, a move between registers keeps it, or
// takes it from a third (VMOVSS, VMOVSD).
ALWAYS_INLINE bool scalar_load(struct vcpu *v, const struct insn *in, struct how h, unsigned size, bool vex)
{
    struct x128 t;
    const void *s = sse_operand(v, in, h, &t, size, false);
    u64 *d = sse_reg(v, in->r)->q, *a = vex ? sse_reg(v, in->v)->q : d;
    if (sse_missed(h, s)) return false;
    u64 x = size == 4 ? *(const u32 *)s : *(const u64 *)s;
    if (how_mem(in, h))
        sse_put(d, x, 0);
    else
        sse_put(d, size == 4 ? low32(a[0], x) : x, a[1]);
    return clear_high(v, in->r, vex, true);
}
ALWAYS_INLINE bool scalar_store(struct vcpu *v, const struct insn *in, struct how h, unsigned size, bool vex)
{
    const u64 *s = sse_reg(v, in->r)->q;
    if (how_mem(in, h)) return store_mem(v, in, h, s, size, false);
    u64 *d = sse_reg(v, in->m)->q, *a = vex ? sse_reg(v, in->v)->q : d;
    sse_put(d, size == 4 ? low32(a[0], s[0]) : s[0], a[1]);
    return clear_high(v, in->m, vex, true);
}
// MOVLPS, MOVLPD from memory; MOVHLPS; VMOVLPS, VMOVLPD, VMOVHLPS
ALWAYS_INLINE bool low_load(struct vcpu *v, const struct insn *in, struct how h, bool vex)
{
    struct x128 t;
    const u64 *s = sse_operand(v, in, h, &t, 8, false);
    u64 *d = sse_reg(v, in->r)->q, *a = vex ? sse_reg(v, in->v)->q : d;
    if (sse_missed(h, s)) return false;
    sse_put(d, s[how_mem(in, h) ? 0 : 1], a[1]);
    return clear_high(v, in->r, vex, true);
}
// MOVHPS, MOVHPD from memory; MOVLHPS; VMOVHPS, VMOVHPD, VMOVLHPS
ALWAYS_INLINE bool high_load(struct vcpu *v, const struct insn *in, struct how h, bool vex)
{
    struct x128 t;
    const u64 *s = sse_operand(v, in, h, &t, 8, false);
    u64 *d = sse_reg(v, in->r)->q, *a = vex ? sse_reg(v, in->v)->q : d;
    if (sse_missed(h, s)) return false;
    sse_put(d, a[0], s[0]);
    return clear_high(v, in->r, vex, true);
}
// MOVLPS, MOVLPD; MOVHPS, MOVHPD to memory; VMOVLPS and the rest
ALWAYS_INLINE bool half_store(struct vcpu *v, const struct insn *in, struct how h, unsigned half)
{
    if (h.fast && h.form == FORM_REG) return false; // there is none
    return store_mem(v, in, h, &sse_reg(v, in->r)->q[half], 8, false);
}
// MOVQ, VMOVQ: the rest becomes 0
ALWAYS_INLINE bool quad_load(struct vcpu *v, const struct insn *in, struct how h, bool vex)
{
    struct x128 t;
    const u64 *s = sse_operand(v, in, h, &t, 8, false);
    if (sse_missed(h, s)) return false;
    sse_put(sse_reg(v, in->r), s[0], 0);
    return clear_high(v, in->r, vex, true);
}
ALWAYS_INLINE bool quad_store(struct vcpu *v, const struct insn *in, struct how h, bool vex)
{
    const u64 *s = sse_reg(v, in->r)->q;
    if (how_mem(in, h)) return store_mem(v, in, h, s, 8, false);
    sse_put(sse_reg(v, in->m), s[0], 0);
    return clear_high(v, in->m, vex, true);
}
// MOVD, VMOVD, and MOVQ with general registers
ALWAYS_INLINE bool int_load(struct vcpu *v, const struct insn *in, struct how h, bool vex)
{
    u64 x;
    if (!source_rm(v, in, h, h.w, &x)) return false;
    sse_put(sse_reg(v, in->r), x, 0);
    return clear_high(v, in->r, vex, true);
}
ALWAYS_INLINE bool int_store(struct vcpu *v, const struct insn *in, struct how h)
{
    return store_rm(v, in, h, h.w, sse_reg(v, in->r)->q[0]);
}
BODY_X(body_xmm_load, xmm_load, false)
BODY_X(body_xmm_load_aligned, xmm_load, true)
BODY_X(body_xmm_store, xmm_store, false)
BODY_X(body_xmm_store_aligned, xmm_store, true)
BODY_L(body_vmov_load, vex_load, false)
BODY_L(body_vmov_load_aligned, vex_load, true)
BODY_L(body_vmov_store, vex_store, false)
BODY_L(body_vmov_store_aligned, vex_store, true)
BODY_X(body_movss_load, scalar_load, 4, false)
BODY_X(body_movss_store, scalar_store, 4, false)
BODY_X(body_movsd_load, scalar_load, 8, false)
BODY_X(body_movsd_store, scalar_store, 8, false)
BODY_LIG(body_vmovss_load, scalar_load, 4, true)
BODY_LIG(body_vmovss_store, scalar_store, 4, true)
BODY_LIG(body_vmovsd_load, scalar_load, 8, true)
BODY_LIG(body_vmovsd_store, scalar_store, 8, true)
BODY_X(body_movlp_load, low_load, false)
BODY_X(body_movhp_load, high_load, false)
BODY_LIG(body_vmovlp_load, low_load, true)
BODY_LIG(body_vmovhp_load, high_load, true)
BODY_X(body_movlp_store, half_store, 0)
BODY_X(body_movhp_store, half_store, 1)
BODY_X(body_movq_load, quad_load, false)
BODY_X(body_movq_store, quad_store, false)
BODY_LIG(body_vmovq_load, quad_load, true)
BODY_LIG(body_vmovq_store, quad_store, true)
BODY_Y(body_movd_load, int_load, false)
BODY_Y(body_vmovd_load, int_load, true)
BODY_Y(body_movd_store, int_store)

static unsigned int_width(const struct insn *in) { return in->osz == W64 ? W64 : W32; }
// MOVNTI, MOVDIRI
// MOVDIR64B: 64 bytes from memory to ES:reg, in one
void op_movdir64b(struct vcpu *v, const struct insn *in)
{
    u8 b[64];
    u64 to = REG64(v, in->r);
    if (in->asz != W64) to = in->asz == W32 ? (u32)to : (u16)to;
    laddr la = seg_linear(v, SEG_ES, to, sizeof b, ACC_WRITE);
    if (la.at & 63) raise_gp0(v);
    lin_load_n(v, insn_linear(v, in, sizeof b, ACC_READ), b, sizeof b);
    lin_store_n(v, la, b, sizeof b);
}
void op_movnti(struct vcpu *v, const struct insn *in) { rm_store(v, in, int_width(in), REG64(v, in->r)); }

// ---- sign masks: MOVMSKPS, MOVMSKPD, PMOVMSKB ----
typedef u32 mask_core(const void *s);
ALWAYS_INLINE bool sign_mask(struct vcpu *v, const struct insn *in, struct how h, mask_core *core)
{
    REG64(v, in->r) = core(sse_reg(v, in->m));
    return true;
}
MASK_CORE(movmskps, "movmskps")
MASK_CORE(movmskpd, "movmskpd")
MASK_CORE(pmovmskb, "pmovmskb") // what every string search reads
// VMOVMSKPS, VMOVMSKPD, VPMOVMSKB: `elements` in 128 bits
ALWAYS_INLINE bool vex_sign_mask(struct vcpu *v, const struct insn *in, struct how h, mask_core *core,
                                 unsigned elements)
{
    u32 x = core(sse_reg(v, in->m));
    if (VEX_256(h)) x |= core(ymm_high(v, in->m)) << elements;
    REG64(v, in->r) = x;
    return true;
}
BODY_L_REG(body_vmovmskps, vex_sign_mask, movmskps, 4)
BODY_L_REG(body_vmovmskpd, vex_sign_mask, movmskpd, 2)
BODY_L_REG(body_vpmovmskb, vex_sign_mask, pmovmskb, 16)
BODY_X_REG(body_movmskps, sign_mask, movmskps)
BODY_X_REG(body_movmskpd, sign_mask, movmskpd)
BODY_X_REG(body_pmovmskb, sign_mask, pmovmskb)

// ---- elements ----
// An element is inserted into the destination itself, with VEX into what a third register holds.
static inline void insert_into(struct vcpu *v, const struct insn *in, bool vex)
{
    if (!vex) return;
    *sse_reg(v, in->r) = *sse_reg(v, in->v);
    sse_put(ymm_high(v, in->r), 0, 0);
}
static bool is_vex(const struct insn *in) { return rows[in->row].vex; }
// PINSRB, VPINSRB
void op_pinsrb(struct vcpu *v, const struct insn *in)
{
    u64 x = in->mem ? rm_load(v, in, W8) : REG64(v, in->m);
    insert_into(v, in, is_vex(in));
    ((u8 *)sse_reg(v, in->r))[in->imm & 15] = (u8)x;
}
// PINSRW, VPINSRW
ALWAYS_INLINE bool pinsrw(struct vcpu *v, const struct insn *in, struct how h, bool vex)
{
    u64 x;
    if (!source_rm(v, in, h, W16, &x)) return false;
    insert_into(v, in, vex);
    ((u16 *)sse_reg(v, in->r))[in->imm & 7] = (u16)x;
    return true;
}
BODY_X(body_pinsrw, pinsrw, false)
BODY_LIG(body_vpinsrw, pinsrw, true)
// PINSRD, VPINSRD
void op_pinsrd(struct vcpu *v, const struct insn *in)
{
    u64 x = rm_load(v, in, int_width(in));
    insert_into(v, in, is_vex(in));
    if (in->osz == W64)
        sse_reg(v, in->r)->q[in->imm & 1] = x;
    else
        ((u32 *)sse_reg(v, in->r))[in->imm & 3] = (u32)x;
}
// An element to a general register, zero-extended whatever REX.W says, or to memory in its own size.
static void extract(struct vcpu *v, const struct insn *in, unsigned w, u64 x)
{
    if (in->mem)
        rm_store(v, in, w, x);
    else
        reg_set(v, in->m, W64, x);
}
// PEXTRB, VPEXTRB
void op_pextrb(struct vcpu *v, const struct insn *in)
{
    extract(v, in, W8, ((u8 *)sse_reg(v, in->r))[in->imm & 15]);
}
// PEXTRW, VPEXTRW
void op_pextrw_store(struct vcpu *v, const struct insn *in)
{
    extract(v, in, W16, ((u16 *)sse_reg(v, in->r))[in->imm & 7]);
}
// PEXTRD, VPEXTRD
void op_pextrd(struct vcpu *v, const struct insn *in)
{
    if (in->osz == W64)
        extract(v, in, W64, sse_reg(v, in->r)->q[in->imm & 1]);
    else
        extract(v, in, W32, ((u32 *)sse_reg(v, in->r))[in->imm & 3]);
}
// EXTRACTPS, VEXTRACTPS
void op_extractps(struct vcpu *v, const struct insn *in)
{
    extract(v, in, W32, ((u32 *)sse_reg(v, in->r))[in->imm & 3]);
}
ALWAYS_INLINE bool pextrw(struct vcpu *v, const struct insn *in, struct how h)
{
    REG64(v, in->r) = ((const u16 *)sse_reg(v, in->m))[in->imm & 7];
    return true;
}
BODY_X_REG(body_pextrw, pextrw)
// INSERTPS, VINSERTPS
void op_insertps(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const u32 *s = sse_source(v, in, &t, 4);
    u32 x = s[in->mem ? 0 : in->imm >> 6 & 3], *d = (u32 *)sse_reg(v, in->r);
    insert_into(v, in, is_vex(in));
    d[in->imm >> 4 & 3] = x;
    for (unsigned i = 0; i < 4; i++) {
        if (in->imm >> i & 1) d[i] = 0;
    }
}

// MASKMOVDQU, VMASKMOVDQU and MASKMOVQ: bytes whose mask has bit 7 set, to DS:rDI (or another segment). All
// of them or none: the span that will be written is checked first. With an empty mask only the segment is.
RAISES static void masked_store(struct vcpu *v, const struct insn *in, const u8 *data, const u8 *mask,
                                unsigned n)
{
    unsigned first = 0, end = n;
    u64 ea = v->s.gpr[RDI];
    if (in->asz == W32)
        ea = (u32)ea;
    else if (in->asz == W16)
        ea = (u16)ea;
    laddr la = seg_linear(v, in->seg, ea, n, ACC_WRITE);
    lin_align(v, la, 8); // by quadwords, whatever the mask and the register
    while (first < n && !(mask[first] & 0x80)) first++;
    if (first == n) return;
    while (!(mask[end - 1] & 0x80)) end--;
    acc_probe(v, linear_plus(v, la, first), end - first, acc_current(v) | ACC_WRITE);
    for (unsigned i = first; i < end; i++) {
        if (mask[i] & 0x80) lin_store(v, linear_plus(v, la, i), 1, data[i]);
    }
}
void op_maskmovdqu(struct vcpu *v, const struct insn *in)
{
    masked_store(v, in, (const u8 *)sse_reg(v, in->r), (const u8 *)sse_reg(v, in->m), 16);
}
void op_maskmovq(struct vcpu *v, const struct insn *in)
{
    mmx_wait(v);
    mmx_enter(v); // stays even if the store faults
    masked_store(v, in, (const u8 *)mmx_reg(v, in->r), (const u8 *)mmx_reg(v, in->m), 8);
}

// ---- MXCSR: LDMXCSR, STMXCSR, VLDMXCSR, VSTMXCSR ----
void op_ldmxcsr(struct vcpu *v, const struct insn *in)
{
    u32 x = (u32)lin_load(v, insn_linear(v, in, 4, ACC_READ), 4);
    if (x & ~MXCSR_VALID) raise_gp0(v);
    fp_set_mxcsr(v, x);
}
void op_stmxcsr(struct vcpu *v, const struct insn *in)
{
    laddr la = insn_linear(v, in, 4, ACC_WRITE);
    fp_sync(v);
    lin_store(v, la, 4, v->s.mxcsr);
}

// LFENCE, MFENCE, SFENCE
// Memory is strongly ordered here: every access is done when its instruction is, which SERIALIZE asks too.
void op_fence(struct vcpu *v, const struct insn *in) {}

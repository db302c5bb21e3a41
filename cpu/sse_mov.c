// Moves of XMM registers, insertions and extractions, MXCSR, and the SSE instructions on general registers.
#include "cpu/sse.h"

// ---- whole registers; alignment by the row ----
void op_xmm_load(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    *sse_reg(v, in->r) = *(const struct x128 *)sse_source(v, in, &t, 16);
}
void op_xmm_store(struct vcpu *v, const struct insn *in)
{
    if (in->mem) sse_store(v, in, sse_reg(v, in->r), 16);
    else *sse_reg(v, in->m) = *sse_reg(v, in->r);
}

// ---- scalars: a load from memory clears the rest of the register, a move between registers keeps it ----
void op_movss_load(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const struct x128 *s = sse_source(v, in, &t, 4);
    struct x128 *d = sse_reg(v, in->r);
    if (in->mem) *d = *s;
    else memcpy(d, s, 4);
}
void op_movss_store(struct vcpu *v, const struct insn *in)
{
    if (in->mem) sse_store(v, in, sse_reg(v, in->r), 4);
    else memcpy(sse_reg(v, in->m), sse_reg(v, in->r), 4);
}
void op_movsd_load(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const struct x128 *s = sse_source(v, in, &t, 8);
    struct x128 *d = sse_reg(v, in->r);
    if (in->mem) *d = *s;
    else d->q[0] = s->q[0];
}
void op_movsd_store(struct vcpu *v, const struct insn *in)
{
    if (in->mem) sse_store(v, in, sse_reg(v, in->r), 8);
    else sse_reg(v, in->m)->q[0] = sse_reg(v, in->r)->q[0];
}

// ---- halves ----
void op_movlp_load(struct vcpu *v, const struct insn *in) // MOVLPS/MOVLPD xmm, m64; MOVHLPS xmm, xmm
{
    struct x128 t;
    const struct x128 *s = sse_source(v, in, &t, 8);
    sse_reg(v, in->r)->q[0] = s->q[in->mem ? 0 : 1];
}
void op_movhp_load(struct vcpu *v, const struct insn *in) // MOVHPS/MOVHPD xmm, m64; MOVLHPS xmm, xmm
{
    struct x128 t;
    const struct x128 *s = sse_source(v, in, &t, 8);
    sse_reg(v, in->r)->q[1] = s->q[0];
}
void op_movlp_store(struct vcpu *v, const struct insn *in)
{
    sse_store(v, in, &sse_reg(v, in->r)->q[0], 8);
}
void op_movhp_store(struct vcpu *v, const struct insn *in)
{
    sse_store(v, in, &sse_reg(v, in->r)->q[1], 8);
}

// ---- MOVQ and MOVD ----
void op_movq_load(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const struct x128 *s = sse_source(v, in, &t, 8);
    *sse_reg(v, in->r) = (struct x128){{s->q[0], 0}};
}
void op_movq_store(struct vcpu *v, const struct insn *in)
{
    if (in->mem) sse_store(v, in, sse_reg(v, in->r), 8);
    else *sse_reg(v, in->m) = (struct x128){{sse_reg(v, in->r)->q[0], 0}};
}
static unsigned int_width(const struct insn *in)
{
    return in->osz == W64 ? W64 : W32;
}
void op_movd_load(struct vcpu *v, const struct insn *in)
{
    u64 x = rm_load(v, in, int_width(in));
    *sse_reg(v, in->r) = (struct x128){{x, 0}};
}
void op_movd_store(struct vcpu *v, const struct insn *in)
{
    u64 x = sse_reg(v, in->r)->q[0];
    rm_store(v, in, int_width(in), int_width(in) == W64 ? x : (u32)x);
}
void op_movnti(struct vcpu *v, const struct insn *in)
{
    rm_store(v, in, int_width(in), REG64(v, in->r));
}

// ---- sign masks ----
void op_movmskps(struct vcpu *v, const struct insn *in)
{
    const struct x128 *s = sse_reg(v, in->m);
    u64 x = (s->q[0] >> 31 & 1) | (s->q[0] >> 63) << 1 | (s->q[1] >> 31 & 1) << 2 | (s->q[1] >> 63) << 3;
    reg_set(v, in->r, W32, x);
}
void op_movmskpd(struct vcpu *v, const struct insn *in)
{
    const struct x128 *s = sse_reg(v, in->m);
    reg_set(v, in->r, W32, (s->q[0] >> 63) | (s->q[1] >> 63) << 1);
}
void op_pmovmskb(struct vcpu *v, const struct insn *in)
{
    const u8 *s = (const u8 *)sse_reg(v, in->m);
    u32 x = 0;
    for (unsigned i = 0; i < 16; i++) x |= (u32)(s[i] >> 7) << i;
    reg_set(v, in->r, W32, x);
}

// ---- elements ----
void op_pinsrb(struct vcpu *v, const struct insn *in)
{
    u64 x = in->mem ? rm_load(v, in, W8) : REG64(v, in->m);
    ((u8 *)sse_reg(v, in->r))[in->imm & 15] = (u8)x;
}
void op_pinsrw(struct vcpu *v, const struct insn *in)
{
    u64 x = in->mem ? rm_load(v, in, W16) : REG64(v, in->m);
    ((u16 *)sse_reg(v, in->r))[in->imm & 7] = (u16)x;
}
void op_pinsrd(struct vcpu *v, const struct insn *in)
{
    u64 x = rm_load(v, in, int_width(in));
    if (in->osz == W64) sse_reg(v, in->r)->q[in->imm & 1] = x;
    else ((u32 *)sse_reg(v, in->r))[in->imm & 3] = (u32)x;
}
// An element to a general register, zero-extended whatever REX.W says, or to memory in its own size.
static void extract(struct vcpu *v, const struct insn *in, unsigned w, u64 x)
{
    if (in->mem) rm_store(v, in, w, x);
    else reg_set(v, in->m, W64, x);
}
void op_pextrb(struct vcpu *v, const struct insn *in)
{
    extract(v, in, W8, ((u8 *)sse_reg(v, in->r))[in->imm & 15]);
}
void op_pextrw_store(struct vcpu *v, const struct insn *in)
{
    extract(v, in, W16, ((u16 *)sse_reg(v, in->r))[in->imm & 7]);
}
void op_pextrd(struct vcpu *v, const struct insn *in)
{
    if (in->osz == W64) extract(v, in, W64, sse_reg(v, in->r)->q[in->imm & 1]);
    else extract(v, in, W32, ((u32 *)sse_reg(v, in->r))[in->imm & 3]);
}
void op_extractps(struct vcpu *v, const struct insn *in)
{
    extract(v, in, W32, ((u32 *)sse_reg(v, in->r))[in->imm & 3]);
}
void op_pextrw(struct vcpu *v, const struct insn *in)
{
    reg_set(v, in->r, W32, ((u16 *)sse_reg(v, in->m))[in->imm & 7]);
}
void op_insertps(struct vcpu *v, const struct insn *in)
{
    struct x128 t;
    const u32 *s = sse_source(v, in, &t, 4);
    u32 x = s[in->mem ? 0 : in->imm >> 6 & 3], *d = (u32 *)sse_reg(v, in->r);
    d[in->imm >> 4 & 3] = x;
    for (unsigned i = 0; i < 4; i++) {
        if (in->imm >> i & 1) d[i] = 0;
    }
}

// MASKMOVDQU and MASKMOVQ: bytes whose mask has bit 7 set, to DS:rDI (or another segment). All of them or none: the
// span that will be written is checked first. With an empty mask only the segment is.
RAISES static void masked_store(struct vcpu *v, const struct insn *in, const u8 *data, const u8 *mask, unsigned n)
{
    unsigned first = 0, end = n;
    u64 ea = v->s.gpr[RDI];
    if (in->asz == W32) ea = (u32)ea;
    else if (in->asz == W16) ea = (u16)ea;
    laddr la = seg_linear(v, in->seg, ea, n, ACC_WRITE);
    lin_align(v, la, 8); // by quadwords, whatever the mask and the register
    while (first < n && !(mask[first] & 0x80)) first++;
    if (first == n) return;
    while (!(mask[end - 1] & 0x80)) end--;
    acc_probe(v, la + first, end - first, acc_current(v) | ACC_WRITE);
    for (unsigned i = first; i < end; i++) {
        if (mask[i] & 0x80) lin_store(v, la + i, 1, data[i]);
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

// ---- MXCSR ----
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

// Memory is strongly ordered here: every access is done when its instruction is.
void op_fence(struct vcpu *v, const struct insn *in)
{
}

// FXSAVE and FXRSTOR, and the XSAVE family, whose components beyond x87 and SSE are lines of
// cpu/state/xcomponent.h.
//
// What the processor tracks (SDM Vol. 1, 13.6) is made by comparing. XINUSE: a component is in use when it
// differs from its initial configuration, or was loaded by XRSTOR and not initialized since. XMODIFIED: it
// differs from what the last XRSTOR loaded. Silicon counts any write, also of the value that was there, which
// the manual allows and does not ask for.
#include <string.h>

#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "cpu/state/xcomponent.h"
#include "cpu/engine/fp.h"
#include "cpu/instructions/x87.h"

#define XCOMP_COMPACT (1ull << 63)

// ---- the 512-byte legacy region ----
enum { OFF_MXCSR = 24, OFF_ST = 32, OFF_XMM = 160, LEGACY = XSAVE_LEGACY, HEADER = XSAVE_HEADER };

static void x87_fill(const struct vcpu *v, const struct insn *in, u8 *b)
{
    const struct fpu_state *f = &v->s.fpu;
    bool wide = in->osz == W64; // REX.W: 64-bit pointers instead of selector and offset
    memset(b, 0, 24);
    memcpy(b, &f->fcw, 2);
    memcpy(b + 2, &f->fsw, 2);
    b[4] = x87_tags_abridged(f);
    u16 fop = f->fop & 0x7FF;
    memcpy(b + 6, &fop, 2);
    memcpy(b + 8, &f->fip, wide ? 8 : 4);
    memcpy(b + 16, &f->fdp, wide ? 8 : 4);
    if (!wide) {
        memcpy(b + 12, &f->fcs, 2);
        memcpy(b + 20, &f->fds, 2);
    }
    for (unsigned i = 0; i < 8; i++) {
        u8 *st = b + OFF_ST + 16 * i;
        memset(st, 0, 16);
        memcpy(st, &f->r[(x87_top(f) + i) & 7].m, 8);
        memcpy(st + 8, &f->r[(x87_top(f) + i) & 7].se, 2);
    }
}

static void x87_take(struct vcpu *v, const struct insn *in, const u8 *b)
{
    struct fpu_state *f = &v->s.fpu;
    bool wide = in->osz == W64;
    memcpy(&f->fcw, b, 2);
    f->fcw = (u16)((f->fcw & 0x1F3F) | 0x40);
    memcpy(&f->fsw, b + 2, 2);
    f->ftw = x87_tags_full(b[4]);
    memcpy(&f->fop, b + 6, 2);
    f->fop &= 0x7FF;
    f->fip = f->fdp = 0;
    f->fcs = f->fds = 0;
    memcpy(&f->fip, b + 8, wide ? 8 : 4);
    // Intel's processors keep FIP as wide as linear addresses are, and all of FDP.
    unsigned unused_bits = feature_on(v->features, FEATURE_LA57) ? 64 - 57 : 64 - 48;
    f->fip = (u64)((s64)(f->fip << unused_bits) >> unused_bits);
    memcpy(&f->fdp, b + 16, wide ? 8 : 4);
    if (!wide) {
        memcpy(&f->fcs, b + 12, 2);
        memcpy(&f->fds, b + 20, 2);
    }
    for (unsigned i = 0; i < 8; i++) {
        memcpy(&f->r[(x87_top(f) + i) & 7].m, b + OFF_ST + 16 * i, 8);
        memcpy(&f->r[(x87_top(f) + i) & 7].se, b + OFF_ST + 16 * i + 8, 2);
    }
    x87_update_es(f);
}

static void x87_clear(struct fpu_state *f) // the initial configuration (SDM Vol. 1, 13.6)
{
    memset(f->r, 0, sizeof(f->r));
    x87_init(f);
}

static bool x87_in_use(const struct fpu_state *f)
{
    struct fpu_state init;
    memset(&init, 0, sizeof(init));
    x87_init(&init);
    init.pad = f->pad;
    for (unsigned i = 0; i < 8; i++) {
        if (f->r[i].m || f->r[i].se) return true;
    }
    return f->fcw != init.fcw || f->fsw || f->ftw != init.ftw || f->fop || f->fcs || f->fds || f->fip ||
           f->fdp;
}

static unsigned xmm_count(const struct vcpu *v) { return mode_long64(v->d.mode) ? 16 : 8; }
static bool xmm_in_use(const struct vcpu *v)
{
    u64 any = 0;
    for (unsigned i = 0; i < xmm_count(v); i++) any |= v->s.xmm[i][0] | v->s.xmm[i][1];
    return any;
}

// ---- extended components: two functions each. The first writes what the component holds in this mode, and
// says how many bytes that is; the second takes as much, or makes the initial configuration (b == NULL).
enum { EXTENDED_MAX = XSAVE_EXTENDED }; // bytes of one

static unsigned xcomp_AVX_fill(const struct vcpu *v, u8 *b) // bits 255:128 of the YMM registers
{
    memcpy(b, v->s.ymm_high, 16 * xmm_count(v));
    return 16 * xmm_count(v);
}

static void xcomp_AVX_take(struct vcpu *v, const u8 *b)
{
    if (b)
        memcpy(v->s.ymm_high, b, 16 * xmm_count(v));
    else
        memset(v->s.ymm_high, 0, 16 * xmm_count(v));
}

static unsigned xcomp_PKRU_fill(const struct vcpu *v, u8 *b)
{
    memset(b, 0, 8);
    memcpy(b, &v->s.pkru, 4);
    return 8;
}

static void xcomp_PKRU_take(struct vcpu *v, const u8 *b)
{
    u32 pkru = 0;
    if (b) memcpy(&pkru, b, 4);
    pkru_write(v, pkru);
}

static const struct extended { // in the order of xcomponents[]
    unsigned (*fill)(const struct vcpu *v, u8 *b);
    void (*take)(struct vcpu *v, const u8 *b);
} extended[] = {
#define XCOMPONENT(number, name, ...) {xcomp_##name##_fill, xcomp_##name##_take},
    XCOMPONENTS(XCOMPONENT)
#undef XCOMPONENT
};

static bool any_set(const u8 *b, unsigned n) // a multiple of 8
{
    u64 any = 0, x;
    for (unsigned i = 0; i < n; i += sizeof x) {
        memcpy(&x, b + i, sizeof x);
        any |= x;
    }
    return any;
}

// XINUSE but for MXCSR: all zero is the initial configuration of every extended component.
static u64 components_in_use(const struct vcpu *v)
{
    u64 m = v->s.xrstor.in_use;
    u8 b[EXTENDED_MAX];
    if (x87_in_use(&v->s.fpu)) m |= XCOMP_X87;
    if (xmm_in_use(v)) m |= XCOMP_SSE;
    for (unsigned i = 0; i < xcomponents_n; i++)
        if (any_set(b, extended[i].fill(v, b))) m |= BIT(xcomponents[i].number);
    return m;
}

u64 xsave_in_use(struct vcpu *v) // XINUSE as XGETBV with ECX = 1 shows it
{
    fp_sync(v);
    return components_in_use(v) | (v->s.mxcsr != MXCSR_RESET ? XCOMP_SSE : 0);
}

// ---- the modified optimization (SDM Vol. 1, 13.6) ----

// The images of the components in `loaded`, which XRSTOR or XRSTORS has just loaded or initialized.
static void note_xrstor(struct vcpu *v, laddr la, u64 xcomp_bv, u64 rfbm)
{
    struct xrstor_state *x = &v->s.xrstor;
    x->linear = la.at;
    x->xcomp_bv = xcomp_bv;
    x->loaded = rfbm;
    x->cpl = v->d.cpl;
    x->guest = v->s.vmx.guest;
    x->registers = xmm_count(v);
    fp_sync(v);
    x->mxcsr = v->s.mxcsr;
    x->fpu = v->s.fpu;
    memcpy(x->xmm, v->s.xmm, sizeof x->xmm);
    u8 *b = x->extended;
    for (unsigned i = 0; i < xcomponents_n; b += xcomponents[i++].bytes) extended[i].fill(v, b);
}

// The components that a save to this area need not write: they are as the area's last XRSTOR loaded them.
static u64 not_modified(const struct vcpu *v, laddr la, u64 xcomp_bv)
{
    const struct xrstor_state *x = &v->s.xrstor;
    if (x->linear != la.at || x->xcomp_bv != xcomp_bv || x->cpl != v->d.cpl || x->guest != v->s.vmx.guest ||
        x->registers != xmm_count(v))
        return 0;
    u64 m = 0;
    u8 now[EXTENDED_MAX];
    if (memcmp(&x->fpu, &v->s.fpu, sizeof x->fpu) == 0) m |= XCOMP_X87;
    if (memcmp(x->xmm, v->s.xmm, sizeof x->xmm) == 0 && x->mxcsr == v->s.mxcsr) m |= XCOMP_SSE;
    const u8 *b = x->extended;
    for (unsigned i = 0; i < xcomponents_n; b += xcomponents[i++].bytes)
        if (memcmp(b, now, extended[i].fill(v, now)) == 0) m |= BIT(xcomponents[i].number);
    return m & x->loaded;
}

static void mxcsr_fill(struct vcpu *v, u8 *b)
{
    u32 mask = MXCSR_VALID;
    fp_sync(v);
    memcpy(b + OFF_MXCSR, &v->s.mxcsr, 4);
    memcpy(b + OFF_MXCSR + 4, &mask, 4);
}

// ---- FXSAVE, FXRSTOR ----
RAISES static laddr fx_linear(struct vcpu *v, const struct insn *in, u32 acc)
{
    laddr la = insn_linear(v, in, LEGACY, acc);
    lin_align(v, la, 16); // #AC where it is enabled, else #GP
    if (la.at & 15) raise_gp0(v);
    return la;
}

void op_fxsave(struct vcpu *v, const struct insn *in)
{
    u8 b[LEGACY];
    unsigned end = OFF_XMM;
    laddr la = fx_linear(v, in, ACC_WRITE);
    x87_fill(v, in, b);
    mxcsr_fill(v, b);
    if (v->d.mode & MODE_OSFXSR) {
        memcpy(b + OFF_XMM, v->s.xmm, 16 * xmm_count(v));
        end += 16 * xmm_count(v);
    }
    lin_probe_write(v, la, LEGACY);
    lin_store_n(v, la, b, end);
}

void op_fxrstor(struct vcpu *v, const struct insn *in)
{
    u8 b[LEGACY];
    u32 mxcsr;
    laddr la = fx_linear(v, in, ACC_READ);
    lin_load_n(v, la, b, LEGACY);
    memcpy(&mxcsr, b + OFF_MXCSR, 4);
    if (mxcsr & ~MXCSR_VALID) raise_gp0(v);
    x87_take(v, in, b);
    x87_ferr(v);
    if (v->d.mode & MODE_OSFXSR) memcpy(v->s.xmm, b + OFF_XMM, 16 * xmm_count(v));
    fp_set_mxcsr(v, mxcsr);
}

// ---- XSAVE and its relatives ----
enum variant { XSAVE, XSAVEOPT, XSAVEC, XSAVES };

RAISES static void xsave_guard(struct vcpu *v)
{
    if (v->d.mode & MODE_TS) raise_fault(v, VEC_NM);
}
static u64 requested(const struct vcpu *v, u64 enabled)
{
    return enabled & ((u64)(u32)v->s.gpr[RDX] << 32 | (u32)v->s.gpr[RAX]);
}

RAISES static void xsave(struct vcpu *v, const struct insn *in, enum variant kind)
{
    bool compact = kind == XSAVEC || kind == XSAVES;
    xsave_guard(v);
    u64 rfbm = requested(v, kind == XSAVES ? v->s.xcr0 | v->s.msr.xss : v->s.xcr0);
    u64 xcomp_bv = compact ? XCOMP_COMPACT | rfbm : 0;
    laddr la = insn_linear(v, in, LEGACY + HEADER, ACC_WRITE);
    if (la.at & 63) raise_gp0(v);
    fp_sync(v);
    u64 in_use = components_in_use(v);
    // MXCSR is outside XINUSE, but XSAVEC and XSAVES count it with SSE (SDM Vol. 1, 13.10, 13.11).
    bool mxcsr_counts = compact && v->s.mxcsr != MXCSR_RESET;
    if (mxcsr_counts) in_use |= XCOMP_SSE;
    u64 write = kind == XSAVE ? rfbm : rfbm & in_use;
    if (kind == XSAVEOPT || kind == XSAVES) write &= ~not_modified(v, la, xcomp_bv);
    if (mxcsr_counts) write |= rfbm & XCOMP_SSE;

    // all of it can be written before any of it is
    for (unsigned i = 0; i < xcomponents_n; i++)
        if (write >> xcomponents[i].number & 1)
            seg_linear(v, in->seg, insn_ea(v, in),
                       xcomponent_offset(&xcomponents[i], xcomp_bv) + xcomponents[i].bytes, ACC_WRITE);
    lin_probe_write(v, linear_plus(v, la, LEGACY), HEADER);
    // whether or not it will be written
    if (rfbm & (XCOMP_X87 | (compact ? XCOMP_SSE : XCOMP_MXCSR_USERS))) lin_probe_write(v, la, LEGACY);
    for (unsigned i = 0; i < xcomponents_n; i++)
        if (write >> xcomponents[i].number & 1)
            lin_probe_write(v, linear_plus(v, la, xcomponent_offset(&xcomponents[i], xcomp_bv)),
                            xcomponents[i].bytes);

    u8 b[LEGACY];
    if (write & XCOMP_X87) {
        x87_fill(v, in, b);
        lin_store_n(v, la, b, OFF_MXCSR);
        lin_store_n(v, linear_plus(v, la, OFF_ST), b + OFF_ST, OFF_XMM - OFF_ST);
    }
    if (compact ? write & XCOMP_SSE : rfbm & XCOMP_MXCSR_USERS) {
        mxcsr_fill(v, b);
        lin_store_n(v, linear_plus(v, la, OFF_MXCSR), b + OFF_MXCSR, 8);
    }
    if (write & XCOMP_SSE) lin_store_n(v, linear_plus(v, la, OFF_XMM), v->s.xmm, 16 * xmm_count(v));
    for (unsigned i = 0; i < xcomponents_n; i++)
        if (write >> xcomponents[i].number & 1) {
            u8 e[EXTENDED_MAX];
            unsigned n = extended[i].fill(v, e);
            lin_store_n(v, linear_plus(v, la, xcomponent_offset(&xcomponents[i], xcomp_bv)), e, n);
        }

    if (compact) {
        u64 header[2] = {rfbm & in_use, xcomp_bv};
        lin_store_n(v, linear_plus(v, la, LEGACY), header, 16);
    } else {
        u64 old = lin_load(v, linear_plus(v, la, LEGACY), 8);
        lin_store(v, linear_plus(v, la, LEGACY), 8, (old & ~rfbm) | (rfbm & in_use));
    }
}
void op_xsave(struct vcpu *v, const struct insn *in) { xsave(v, in, XSAVE); }
void op_xsaveopt(struct vcpu *v, const struct insn *in) { xsave(v, in, XSAVEOPT); }
void op_xsavec(struct vcpu *v, const struct insn *in) { xsave(v, in, XSAVEC); }
void op_xsaves(struct vcpu *v, const struct insn *in) { xsave(v, in, XSAVES); }

// Rules of the header: SDM Vol. 1, 13.8 and 13.12. Everything is read and checked before anything is loaded,
// but for MXCSR in the compacted form. The manual leaves the order of #GP and #PF open; this is that of
// Intel's silicon (the recording that the silicon test compares).
RAISES static void xrstor(struct vcpu *v, const struct insn *in, bool supervisor)
{
    u8 b[LEGACY];
    u64 header[8];
    u32 mxcsr;
    xsave_guard(v);
    u64 enabled = supervisor ? v->s.xcr0 | v->s.msr.xss : v->s.xcr0;
    u64 rfbm = requested(v, enabled);
    laddr la = insn_linear(v, in, LEGACY + HEADER, ACC_READ);
    if (la.at & 63) raise_gp0(v);
    lin_load_n(v, linear_plus(v, la, LEGACY), header, sizeof(header));
    u64 bv = header[0], comp = header[1];
    bool compact = comp & XCOMP_COMPACT;
    if (supervisor && !compact) raise_gp0(v);
    if (compact && ((comp & ~XCOMP_COMPACT) & ~enabled)) raise_gp0(v);
    // The legacy region is read if it may be needed, by what is in the area: its page faults come before the
    // other rules.
    u64 listed = compact ? rfbm & comp : rfbm;
    if (listed & (XCOMP_X87 | (compact ? XCOMP_SSE : XCOMP_MXCSR_USERS)))
        lin_load_n(v, la, b, LEGACY);
    else
        memset(b, 0, sizeof(b));
    if (compact) {
        u64 rest = 0;
        for (unsigned i = 2; i < 8; i++) rest |= header[i];
        if ((bv & ~comp) || rest || bv >> 63) raise_gp0(v);
    } else if ((bv & ~v->s.xcr0) || comp || header[2]) {
        raise_gp0(v);
    }
    memcpy(&mxcsr, b + OFF_MXCSR, 4);
    u8 parts[XSAVE_EXTENDED], *part = parts;
    for (unsigned i = 0; i < xcomponents_n; part += xcomponents[i++].bytes) {
        const struct xcomponent *c = &xcomponents[i];
        if (!((rfbm & bv) >> c->number & 1)) continue;
        u64 at = insn_ea(v, in) + xcomponent_offset(c, comp);
        lin_load_n(v, seg_linear(v, in->seg, at, c->bytes, ACC_READ), part, c->bytes);
    }
    bool load_mxcsr = compact ? rfbm & bv & XCOMP_SSE : rfbm & XCOMP_MXCSR_USERS;
    bool mxcsr_bad = load_mxcsr && (mxcsr & ~MXCSR_VALID);
    if (mxcsr_bad && !compact) raise_gp0(v);

    if (rfbm & XCOMP_X87) {
        if (bv & XCOMP_X87)
            x87_take(v, in, b);
        else
            x87_clear(&v->s.fpu);
        x87_ferr(v);
    }
    if (rfbm & XCOMP_SSE) {
        if (bv & XCOMP_SSE)
            memcpy(v->s.xmm, b + OFF_XMM, 16 * xmm_count(v));
        else
            memset(v->s.xmm, 0, 16 * xmm_count(v));
    }
    for (unsigned i = 0; i < xcomponents_n; i++)
        if ((rfbm & ~bv) >> xcomponents[i].number & 1) extended[i].take(v, NULL);
    // the compacted form has loaded the x87 and XMM registers and initialized the others by then, as Intel's
    // processors do
    if (mxcsr_bad) raise_gp0(v);
    part = parts;
    for (unsigned i = 0; i < xcomponents_n; part += xcomponents[i++].bytes)
        if ((rfbm & bv) >> xcomponents[i].number & 1) extended[i].take(v, part);
    if (load_mxcsr)
        fp_set_mxcsr(v, mxcsr);
    else if (compact && (rfbm & XCOMP_SSE))
        fp_set_mxcsr(v, MXCSR_RESET);
    v->s.xrstor.in_use = (v->s.xrstor.in_use & ~rfbm) | (rfbm & bv);
    note_xrstor(v, la, comp, rfbm);
}
void op_xrstor(struct vcpu *v, const struct insn *in) { xrstor(v, in, false); }
void op_xrstors(struct vcpu *v, const struct insn *in) { xrstor(v, in, true); }

// FXSAVE and FXRSTOR, and the XSAVE family for the x87, SSE, AVX and PKRU components (XCR0 bits 0, 1, 2 and
// 9).
//
// The init optimisation is exact: a component counts as in use when it differs from its initial
// configuration. The modified optimisation of XSAVEOPT and XSAVES is not made: everything in use is written
// (SDM Vol. 1, 13.9 allows it). Missing: all other components; IA32_XSS has no bit.
#include <string.h>

#include "cpu/system/system.h"
#include "cpu/engine/fp.h"
#include "cpu/instructions/x87.h"

enum { XCOMP_X87 = 1, XCOMP_SSE = 2, XCOMP_AVX = 4, XCOMP_PKRU = 1 << 9 };
// in the standard format (CPUID leaf 0Dh, subleaves 2 and 9)
enum { OFF_AVX = 0x240, OFF_PKRU = 0xA80, AVX_SIZE = 0x100 };
#define XCOMP_COMPACT (1ull << 63)

// ---- the 512-byte legacy region ----
enum { OFF_MXCSR = 24, OFF_ST = 32, OFF_XMM = 160, LEGACY = 512, HEADER = 64 };

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

static bool ymm_in_use(const struct vcpu *v)
{
    u64 any = 0;
    for (unsigned i = 0; i < xmm_count(v); i++) any |= v->s.ymm_high[i][0] | v->s.ymm_high[i][1];
    return any;
}
static u64 extended_in_use(const struct vcpu *v) // of the components beyond the legacy region
{
    return (ymm_in_use(v) ? XCOMP_AVX : 0) | (v->s.pkru ? XCOMP_PKRU : 0);
}

u64 xsave_in_use(struct vcpu *v) // XINUSE as XGETBV with ECX = 1 shows it
{
    fp_sync(v);
    bool sse = xmm_in_use(v) || v->s.mxcsr != MXCSR_RESET;
    return (x87_in_use(&v->s.fpu) ? XCOMP_X87 : 0) | (sse ? XCOMP_SSE : 0) | extended_in_use(v);
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
    if (la & 15) raise_gp0(v);
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
    if (v->d.mode & MODE_OSFXSR) memcpy(v->s.xmm, b + OFF_XMM, 16 * xmm_count(v));
    fp_set_mxcsr(v, mxcsr);
}

// ---- XSAVE and its relatives ----
enum variant { XSAVE, XSAVEOPT, XSAVEC, XSAVES };
// Where PKRU is: the compacted format has it behind what it lists before it. (AVX is first in both.)
static u32 pkru_offset(bool compact, u64 listed)
{
    return !compact ? OFF_PKRU : LEGACY + HEADER + (listed & XCOMP_AVX ? AVX_SIZE : 0);
}

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
    laddr la = insn_linear(v, in, LEGACY + HEADER, ACC_WRITE);
    if (la & 63) raise_gp0(v);
    u32 pkru_at = pkru_offset(compact, rfbm);
    u64 in_use = extended_in_use(v), extended = kind == XSAVE ? rfbm : rfbm & in_use;
    bool avx = extended & XCOMP_AVX, pkru = extended & XCOMP_PKRU;
    if (avx) seg_linear(v, in->seg, insn_ea(v, in), OFF_AVX + AVX_SIZE, ACC_WRITE);
    if (pkru) seg_linear(v, in->seg, insn_ea(v, in), pkru_at + 8, ACC_WRITE);
    lin_probe_write(v, la + LEGACY, HEADER);
    // whether or not it will be written
    if (rfbm & (XCOMP_X87 | XCOMP_SSE | XCOMP_AVX)) lin_probe_write(v, la, LEGACY);
    if (avx) lin_probe_write(v, la + OFF_AVX, AVX_SIZE);
    if (pkru) lin_probe_write(v, la + pkru_at, 8);
    fp_sync(v);
    in_use |= (x87_in_use(&v->s.fpu) ? XCOMP_X87 : 0) | (xmm_in_use(v) ? XCOMP_SSE : 0);
    // MXCSR is outside XINUSE, but XSAVEC and XSAVES count it with SSE (SDM Vol. 1, 13.10, 13.11).
    if (compact && v->s.mxcsr != MXCSR_RESET) in_use |= XCOMP_SSE;
    u64 write = kind == XSAVE ? rfbm : rfbm & in_use;

    u8 b[LEGACY];
    if (write & XCOMP_X87) {
        x87_fill(v, in, b);
        lin_store_n(v, la, b, OFF_MXCSR);
        lin_store_n(v, la + OFF_ST, b + OFF_ST, OFF_XMM - OFF_ST);
    }
    if (compact ? write & XCOMP_SSE : rfbm & (XCOMP_SSE | XCOMP_AVX)) {
        mxcsr_fill(v, b);
        lin_store_n(v, la + OFF_MXCSR, b + OFF_MXCSR, 8);
    }
    if (write & XCOMP_SSE) lin_store_n(v, la + OFF_XMM, v->s.xmm, 16 * xmm_count(v));
    if (avx) lin_store_n(v, la + OFF_AVX, v->s.ymm_high, 16 * xmm_count(v));
    if (pkru) lin_store(v, la + pkru_at, 8, v->s.pkru);

    if (compact) {
        u64 header[2] = {rfbm & in_use, XCOMP_COMPACT | rfbm};
        lin_store_n(v, la + LEGACY, header, 16);
    } else {
        u64 old = lin_load(v, la + LEGACY, 8);
        lin_store(v, la + LEGACY, 8, (old & ~rfbm) | (rfbm & in_use));
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
    if (la & 63) raise_gp0(v);
    lin_load_n(v, la + LEGACY, header, sizeof(header));
    u64 bv = header[0], comp = header[1];
    bool compact = comp & XCOMP_COMPACT;
    if (supervisor && !compact) raise_gp0(v);
    if (compact && ((comp & ~XCOMP_COMPACT) & ~enabled)) raise_gp0(v);
    // The legacy region is read if it may be needed, by what is in the area: its page faults come before the
    // other rules.
    u64 listed = compact ? rfbm & comp : rfbm;
    if (listed & (XCOMP_X87 | XCOMP_SSE | XCOMP_AVX))
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
    u64 ymm_high[16][2] = {{0}};
    if (rfbm & bv & XCOMP_AVX)
        lin_load_n(v, seg_linear(v, in->seg, insn_ea(v, in) + OFF_AVX, AVX_SIZE, ACC_READ), ymm_high,
                   AVX_SIZE);
    u32 pkru = 0;
    if (rfbm & bv & XCOMP_PKRU) {
        u32 at = pkru_offset(compact, comp);
        pkru = (u32)lin_load(v, seg_linear(v, in->seg, insn_ea(v, in) + at, 8, ACC_READ), 8);
    }
    bool load_mxcsr = compact ? rfbm & bv & XCOMP_SSE : rfbm & (XCOMP_SSE | XCOMP_AVX);
    bool mxcsr_bad = load_mxcsr && (mxcsr & ~MXCSR_VALID);
    if (mxcsr_bad && !compact) raise_gp0(v);

    if (rfbm & XCOMP_X87) {
        if (bv & XCOMP_X87)
            x87_take(v, in, b);
        else
            x87_clear(&v->s.fpu);
    }
    if (rfbm & XCOMP_SSE) {
        if (bv & XCOMP_SSE)
            memcpy(v->s.xmm, b + OFF_XMM, 16 * xmm_count(v));
        else
            memset(v->s.xmm, 0, 16 * xmm_count(v));
    }
    if (rfbm & XCOMP_AVX) memcpy(v->s.ymm_high, ymm_high, 16 * xmm_count(v));
    // the compacted form has loaded the registers by then, as Intel's processors do
    if (mxcsr_bad) raise_gp0(v);
    if (rfbm & XCOMP_PKRU) pkru_write(v, pkru);
    if (load_mxcsr)
        fp_set_mxcsr(v, mxcsr);
    else if (compact && (rfbm & XCOMP_SSE))
        fp_set_mxcsr(v, MXCSR_RESET);
}
void op_xrstor(struct vcpu *v, const struct insn *in) { xrstor(v, in, false); }
void op_xrstors(struct vcpu *v, const struct insn *in) { xrstor(v, in, true); }

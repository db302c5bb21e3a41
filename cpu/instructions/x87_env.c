// x87 control: FNINIT, FNCLEX, the control and status words, the environment and the whole state in the
// formats of 16- and 32-bit real and protected mode.
//
// FCS and FDS are stored (CPUID.7:EBX[13] is 0).
#include <string.h>

#include "cpu/instructions/x87.h"

// ---- the state ----
void x87_init(struct fpu_state *f)
{
    f->fcw = FCW_RESET;
    f->fsw = 0;
    f->ftw = 0xFFFF;
    f->fop = f->fcs = f->fds = 0;
    f->fip = f->fdp = 0;
}

u16 x87_tags(const struct fpu_state *f)
{
    u16 x = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned tag = 0, exponent = f->r[i].se & 0x7FFF;
        if ((f->ftw >> 2 * i & 3) == 3)
            tag = 3;
        else if (exponent == 0 && f->r[i].m == 0)
            tag = 1;
        else if (exponent == 0 || exponent == 0x7FFF || !(f->r[i].m >> 63))
            tag = 2;
        x |= (u16)(tag << 2 * i);
    }
    return x;
}

void op_fninit(struct vcpu *v, const struct insn *in)
{
    x87_init(&v->s.fpu);
    x87_ferr(v);
}
void op_fnclex(struct vcpu *v, const struct insn *in)
{
    v->s.fpu.fsw &= 0x7F00;
    x87_ferr(v);
}
void op_x87_nop(struct vcpu *v, const struct insn *in) // FENI, FDISI, FSETPM: of the 8087 and the 287
{
}
// FNSTCW
void op_fnstcw(struct vcpu *v, const struct insn *in)
{
    lin_store(v, insn_linear(v, in, 2, ACC_WRITE), 2, v->s.fpu.fcw);
}
// FNSTSW
void op_fnstsw(struct vcpu *v, const struct insn *in)
{
    lin_store(v, insn_linear(v, in, 2, ACC_WRITE), 2, v->s.fpu.fsw);
}
// FNSTSW
void op_fnstsw_ax(struct vcpu *v, const struct insn *in) { reg_set(v, GPR_OFF(RAX), W16, v->s.fpu.fsw); }
static u16 fcw_fixed(u16 fcw) // bits 7, 13-15 are 0, bit 6 reads as 1
{
    return (u16)((fcw & 0x1F3F) | 0x40);
}
void op_fldcw(struct vcpu *v, const struct insn *in)
{
    x87_wait(v);
    v->s.fpu.fcw = fcw_fixed((u16)lin_load(v, insn_linear(v, in, 2, ACC_READ), 2));
    x87_update_es(&v->s.fpu);
    x87_ferr(v);
}

// ---- the environment: four formats (SDM Vol. 1, figures 8-9 to 8-12) ----
// Without protection the pointers are linear addresses.
static bool real_format(const struct vcpu *v) { return !mode_protected(v->d.mode); }
RAISES static laddr env_linear(struct vcpu *v, const struct insn *in, unsigned n, u32 acc)
{
    laddr la = insn_linear(v, in, n, acc);
    lin_align(v, la, in->osz == W16 ? 2 : 4);
    return la;
}
static unsigned env_size(const struct insn *in) { return in->osz == W16 ? 14 : 28; }

static void env_fill(const struct vcpu *v, const struct insn *in, u8 *buf)
{
    const struct fpu_state *f = &v->s.fpu;
    u16 ftw = x87_tags(f), fop = f->fop & 0x7FF;
    u32 ip = (u32)f->fip, dp = (u32)f->fdp;
    bool real = real_format(v);
    if (real) {
        ip = (u32)(((u32)f->fcs << 4) + f->fip);
        dp = (u32)(((u32)f->fds << 4) + f->fdp);
    }
    if (in->osz == W16) {
        u16 e[7] = {f->fcw, f->fsw, ftw, (u16)ip, f->fcs, (u16)dp, f->fds};
        if (real) {
            e[4] = (u16)((ip >> 16 & 0xF) << 12 | fop);
            e[6] = (u16)((dp >> 16 & 0xF) << 12);
        }
        memcpy(buf, e, sizeof(e));
        return;
    }
    u32 e[7] = {
        0xFFFF0000u | f->fcw, 0xFFFF0000u | f->fsw, 0xFFFF0000u | ftw, ip, f->fcs | (u32)fop << 16, dp,
        0xFFFF0000u | f->fds};
    if (real) {
        e[3] = 0xFFFF0000u | (ip & 0xFFFF);
        e[4] = (ip >> 16) << 12 | fop;
        e[5] = 0xFFFF0000u | (dp & 0xFFFF);
        e[6] = (dp >> 16) << 12;
    }
    memcpy(buf, e, sizeof(e));
}

static void env_take(struct vcpu *v, const struct insn *in, const u8 *buf)
{
    struct fpu_state *f = &v->s.fpu;
    bool real = real_format(v);
    u32 e[7];
    if (in->osz == W16) {
        u16 h[7];
        memcpy(h, buf, sizeof(h));
        for (unsigned i = 0; i < 7; i++) e[i] = h[i];
    } else {
        memcpy(e, buf, sizeof(e));
    }
    f->fcw = fcw_fixed((u16)e[0]);
    f->fsw = (u16)e[1];
    f->ftw = x87_tags_normal((u16)e[2]);
    if (real) {
        f->fop = e[4] & 0x7FF;
        f->fcs = f->fds = 0;
        f->fip = (e[3] & 0xFFFF) | (e[4] >> 12 << 16);
        f->fdp = (e[5] & 0xFFFF) | (e[6] >> 12 << 16);
    } else {
        f->fip = e[3];
        f->fcs = (u16)e[4];
        if (in->osz != W16) f->fop = e[4] >> 16 & 0x7FF;
        f->fdp = e[5];
        f->fds = (u16)e[6];
    }
    x87_update_es(f);
    x87_ferr(v);
}

void op_fnstenv(struct vcpu *v, const struct insn *in)
{
    u8 buf[28];
    env_fill(v, in, buf);
    lin_store_n(v, env_linear(v, in, env_size(in), ACC_WRITE), buf, env_size(in));
    v->s.fpu.fcw |= 0x3F;
    x87_update_es(&v->s.fpu);
    x87_ferr(v);
}

// FLDENV
void op_fldenv(struct vcpu *v, const struct insn *in)
{
    u8 buf[28];
    x87_wait(v);
    lin_load_n(v, env_linear(v, in, env_size(in), ACC_READ), buf, env_size(in));
    env_take(v, in, buf);
}

void op_fnsave(struct vcpu *v, const struct insn *in)
{
    struct fpu_state *f = &v->s.fpu;
    u8 buf[108];
    unsigned n = env_size(in);
    env_fill(v, in, buf);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(buf + n + 10 * i, &f->r[(x87_top(f) + i) & 7].m, 8);
        memcpy(buf + n + 10 * i + 8, &f->r[(x87_top(f) + i) & 7].se, 2);
    }
    lin_store_n(v, env_linear(v, in, n + 80, ACC_WRITE), buf, n + 80);
    x87_init(f);
    x87_ferr(v);
}

void op_frstor(struct vcpu *v, const struct insn *in)
{
    struct fpu_state *f = &v->s.fpu;
    u8 buf[108];
    unsigned n = env_size(in);
    x87_wait(v);
    lin_load_n(v, env_linear(v, in, n + 80, ACC_READ), buf, n + 80);
    env_take(v, in, buf);
    for (unsigned i = 0; i < 8; i++) {
        memcpy(&f->r[(x87_top(f) + i) & 7].m, buf + n + 10 * i, 8);
        memcpy(&f->r[(x87_top(f) + i) & 7].se, buf + n + 10 * i + 8, 2);
    }
}

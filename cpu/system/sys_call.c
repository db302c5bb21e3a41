// SYSCALL and SYSENTER with their returns; SWAPGS and the FS and GS bases.
#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "vmx/intercept.h"

enum {
    FLAT_CODE = AR_G | AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED,
    FLAT_DATA = AR_G | AR_DB | AR_P | AR_S | AR_WRITABLE | AR_ACCESSED,
};

// These instructions load CS and SS without looking at a descriptor.
static void set_flat(struct vcpu *v, u16 cs, u16 ss, unsigned cpl, bool long64)
{
    u32 dpl = cpl << 5;
    v->s.seg[SEG_CS] =
        (struct segment){.sel = cs, .limit = 0xFFFFFFFF, .ar = FLAT_CODE | dpl | (long64 ? AR_L : AR_DB)};
    v->s.seg[SEG_SS] = (struct segment){.sel = ss, .limit = 0xFFFFFFFF, .ar = FLAT_DATA | dpl};
}

// SYSCALL and SYSRET look at TF after they have loaded it: a SYSCALL that IA32_FMASK clears it for does not
// trap, a SYSRET that sets it does at once (what system software knows of processors; the manual is silent).
static void step_by_new_tf(struct vcpu *v)
{
    v->d.looked_at_tf = true;
    if (v->s.rflags & FL_TF) v->s.pending_dbg |= DR6_BS;
}

static void check_canonical(struct vcpu *v, u64 a)
{
    if (!cpu_canonical(v, a)) raise_gp0(v);
}

void op_syscall(struct vcpu *v, const struct insn *in)
{
    struct msr_state *m = &v->s.msr;
    if (!(m->efer & EFER_SCE)) raise_ud(v);
    u64 flags = cpu_rflags(v) & ~(u64)FL_RF;
    v->s.gpr[RCX] = v->d.npc;
    v->s.gpr[R11] = flags;
    u16 base = (u16)(m->star >> 32); // its RPL is not in CS, but it is in SS
    set_flat(v, base & 0xFFFC, base + 8, 0, true);
    cpu_set_rflags(v, flags & ~m->fmask);
    v->d.npc = m->lstar;
    step_by_new_tf(v);
    cpu_mode_changed(v);
    cpu_attention(v);
}

// SYSRET
void op_sysret(struct vcpu *v, const struct insn *in)
{
    struct msr_state *m = &v->s.msr;
    if (!(m->efer & EFER_SCE)) raise_ud(v);
    if (v->d.cpl != 0) raise_gp0(v);
    bool long64 = in->osz == W64;
    u64 rip = long64 ? v->s.gpr[RCX] : (u32)v->s.gpr[RCX];
    check_canonical(v, rip);
    u16 base = (u16)(m->star >> 48);
    set_flat(v, (u16)(base + (long64 ? 16 : 0)) | 3, (u16)(base + 8) | 3, 3, long64);
    cpu_set_rflags(v, v->s.gpr[R11] & 0x3C7FD7);
    v->d.npc = rip;
    step_by_new_tf(v);
    cpu_mode_changed(v);
    cpu_attention(v);
}

void op_sysenter(struct vcpu *v, const struct insn *in)
{
    struct msr_state *m = &v->s.msr;
    if (!(v->s.cr0 & CR0_PE) || !(m->sysenter_cs & 0xFFFC)) raise_gp0(v);
    bool lma = cpu_lma(v);
    v->s.rflags &= ~(u64)(FL_VM | FL_IF | FL_RF);
    u16 cs = m->sysenter_cs & 0xFFFC;
    set_flat(v, cs, cs + 8, 0, lma);
    v->s.gpr[RSP] = lma ? m->sysenter_esp : (u32)m->sysenter_esp;
    v->d.npc = lma ? m->sysenter_eip : (u32)m->sysenter_eip;
    cpu_mode_changed(v);
    cpu_attention(v);
}

// SYSEXIT
void op_sysexit(struct vcpu *v, const struct insn *in)
{
    struct msr_state *m = &v->s.msr;
    if (!(v->s.cr0 & CR0_PE) || !(m->sysenter_cs & 0xFFFC) || v->d.cpl != 0) raise_gp0(v);
    bool long64 = in->osz == W64;
    u16 base = (u16)m->sysenter_cs;
    u64 rip = v->s.gpr[RDX], rsp = v->s.gpr[RCX];
    if (long64) {
        check_canonical(v, rip);
        check_canonical(v, rsp);
    } else
        rip = (u32)rip, rsp = (u32)rsp;
    set_flat(v, (u16)(base + (long64 ? 32 : 16)) | 3, (u16)(base + (long64 ? 40 : 24)) | 3, 3, long64);
    v->s.gpr[RSP] = rsp;
    v->d.npc = rip;
    cpu_mode_changed(v);
    cpu_attention(v);
}

void op_swapgs(struct vcpu *v, const struct insn *in)
{
    u64 x = v->s.seg[SEG_GS].base;
    v->s.seg[SEG_GS].base = v->s.msr.kernel_gs_base;
    v->s.msr.kernel_gs_base = x;
}

// RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: ModRM.reg 0 to 3; bit 0 chooses GS.
static struct segment *base_segment(struct vcpu *v, bool gs) { return &v->s.seg[gs ? SEG_GS : SEG_FS]; }
static void read_base(struct vcpu *v, const struct insn *in, bool gs)
{
    reg_set(v, in->m, in->osz == W64 ? W64 : W32, base_segment(v, gs)->base);
}
static void write_base(struct vcpu *v, const struct insn *in, bool gs)
{
    struct segment *s = base_segment(v, gs);
    u64 x = in->osz == W64 ? REG64(v, in->m) : REG32(v, in->m);
    if (!cpu_canonical_max(v, x)) raise_gp0(v);
    s->base = x;
}
void op_rdfsbase(struct vcpu *v, const struct insn *in) { read_base(v, in, false); }
void op_rdgsbase(struct vcpu *v, const struct insn *in) { read_base(v, in, true); }
void op_wrfsbase(struct vcpu *v, const struct insn *in) { write_base(v, in, false); }
void op_wrgsbase(struct vcpu *v, const struct insn *in) { write_base(v, in, true); }

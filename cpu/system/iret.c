// IRET: real-address mode, virtual-8086 mode and into it, protected mode to the same and to an outer level,
// IA-32e mode.
#include "cpu/system/system.h"
#include "cpu/system/far.h"
#include "cpu/system/task.h"
#include "vmx/intercept.h"

// Writes the flags that an image of this width may change; `old` is what stays.
static void set_flags(struct vcpu *v, u64 image, u64 may, unsigned w)
{
    u64 old = cpu_rflags(v);
    if (w == W16) may &= 0xFFFF;
    cpu_set_rflags(v, (old & ~may) | (image & may));
    v->d.rf_loaded = image & may & FL_RF;
}

// Blocking by NMI ends even if the instruction then faults or makes a VM exit (SDM 7.7.1, 28.3, 30.2.3).
static void unblock_nmi(struct vcpu *v)
{
    v->d.iret_unblocked = v->s.vmx.guest && vmx_iret_unblocks(v);
    if (!v->s.vmx.guest) v->s.blocking &= ~(u32)BLOCKING_BY_NMI;
}

// A fault before the first access to memory: nothing tells a hypervisor of the unblocking (SDM 30.2.3).
static _Noreturn void refuse(struct vcpu *v)
{
    unblock_nmi(v);
    v->d.iret_unblocked = false;
    raise_gp0(v);
}

static void finish(struct vcpu *v)
{
    v->d.iret_unblocked = false;
    cpu_mode_changed(v);
    cpu_attention(v);
}

// Real-address and virtual-8086 mode. In the latter IOPL stays, and below IOPL 3 CR4.VME lets a 16-bit IRET
// load VIF in place of IF.
static void iret_real(struct vcpu *v, unsigned w)
{
    unsigned n = W_BYTES(w);
    bool vm = v->d.mode & MODE_VM, virtual_if = vm && (v->s.rflags & FL_IOPL) != FL_IOPL;
    if (virtual_if && (w != W16 || !(v->s.cr4 & CR4_VME))) refuse(v);
    unblock_nmi(v);
    u64 rip = stack_peek(v, w, 0), flags;
    u16 sel = (u16)stack_peek(v, w, n);
    flags = stack_peek(v, w, 2 * n);
    if (virtual_if && cpu_virtual_if_refused(v, flags)) raise_gp0(v);
    if (rip > v->s.seg[SEG_CS].limit) raise_gp0(v);
    stack_add(v, 3 * (s64)n);
    seg_load_real(v, SEG_CS, sel);
    v->d.npc = rip;
    u64 may = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
    if (!vm) may |= FL_IOPL;
    if (!virtual_if) may |= FL_IF;
    set_flags(v, flags, may, w);
    if (virtual_if) v->s.rflags = (v->s.rflags & ~(u64)FL_VIF) | (flags & FL_IF ? FL_VIF : 0);
    finish(v);
}

// From level 0 of protected mode into virtual-8086 mode: nine words of 32 bits.
static void iret_to_v86(struct vcpu *v, u64 eip, u16 cs, u64 flags)
{
    static const u8 segs[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    u16 sel[4];
    u32 esp = (u32)stack_peek(v, W32, 12);
    u16 ss = (u16)stack_peek(v, W32, 16);
    for (unsigned i = 0; i < 4; i++) sel[i] = (u16)stack_peek(v, W32, 20 + 4 * i);
    if (eip > 0xFFFF) raise_gp0(v);
    set_flags(v, flags,
              FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP |
                  FL_ID,
              W32);
    seg_load_real(v, SEG_CS, cs);
    seg_load_real(v, SEG_SS, ss);
    for (unsigned i = 0; i < 4; i++) seg_load_real(v, segs[i], sel[i]);
    v->s.gpr[RSP] = esp;
    v->d.npc = eip;
    finish(v);
}

void op_iret(struct vcpu *v, const struct insn *in)
{
    unsigned w = in->osz, n = W_BYTES(w);
    if (!mode_protected(v->d.mode)) {
        iret_real(v, w);
        return;
    }
    unsigned cpl = v->d.cpl;
    if (v->s.rflags & FL_NT) {
        if (cpu_lma(v)) refuse(v);
        unblock_nmi(v);
        task_return(v);
        finish(v);
        return;
    }
    unblock_nmi(v);
    u64 rip = stack_peek(v, w, 0);
    u16 sel = (u16)stack_peek(v, w, n);
    u64 flags = stack_peek(v, w, 2 * n);
    if ((flags & FL_VM) && w != W16 && cpl == 0 && !cpu_lma(v)) {
        iret_to_v86(v, rip, sel, flags);
        return;
    }
    struct segment cs = {0}, ss = {0};
    struct descriptor cd, sd;
    far_read_return_code(v, sel, &cs, &cd);
    unsigned rpl = sel & 3;
    bool stack = rpl > cpl || cpu_long64(v); // 64-bit mode pops SS:RSP always
    u64 sp = 0;
    if (stack) {
        sp = stack_peek(v, w, 3 * n);
        far_read_return_stack(v, (u16)stack_peek(v, w, 4 * n), &cs, VEC_NP, &ss, &sd);
    }
    if (!far_target_ok(v, &cs, rip)) raise_gp0(v);
    seg_mark_accessed(v, sel, &cd);
    if (stack && !(ss.ar & AR_UNUSABLE)) seg_mark_accessed(v, ss.sel, &sd);

    u64 may = FL_ARITH | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
    if (cpl <= (v->s.rflags & FL_IOPL) >> 12) may |= FL_IF;
    if (cpl == 0) may |= FL_IOPL | FL_VIF | FL_VIP;
    if (!stack) stack_add(v, 3 * (s64)n);
    seg_from_descriptor(&v->s.seg[SEG_CS], sel, &cd);
    v->d.npc = rip;
    if (stack) {
        far_commit_stack(v, &ss, &sd, sp);
        if (rpl > cpl) far_drop_privileged_data(v, rpl);
    }
    set_flags(v, flags, may, w);
    finish(v);
}

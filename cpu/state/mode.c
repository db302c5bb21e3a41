// The mode word, and what else follows from the control state: the translation context and what waits at the
// boundary.
#include "cpu/state/mode.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "vmx/intercept.h"

// Whole: limit 4 GiB, expand-up, present and usable; `write` asks for a writable data segment. Flat: from
// base 0.
static bool segment_whole(const struct segment *s, bool write)
{
    if (s->limit != 0xFFFFFFFF || (s->ar & AR_UNUSABLE) || !(s->ar & AR_P)) return false;
    if (s->ar & AR_CODE) return !write;
    return !(s->ar & AR_EXPAND_DOWN) && (s->ar & AR_WRITABLE);
}

static bool segment_flat(const struct segment *s, bool write)
{
    return s->base == 0 && segment_whole(s, write);
}

u32 mode_compute(const struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    u32 m = 0;
    bool pe = s->cr0 & CR0_PE, vm = s->rflags & FL_VM, lma = s->msr.efer & EFER_LMA;
    unsigned cpl = !pe ? 0 : vm ? 3 : ar_dpl(s->seg[SEG_SS].ar);
    u32 cs = s->seg[SEG_CS].ar;
    if (lma && (cs & AR_L))
        m |= MODE_CODE64;
    else if (cs & AR_DB)
        m |= MODE_CODE32;
    if (pe) m |= MODE_PE;
    if (vm) m |= MODE_VM;
    m |= cpl << MODE_CPL_SHIFT;
    if (s->seg[SEG_SS].ar & AR_DB) m |= MODE_STACK32;
    if ((m & MODE_CODE) == MODE_CODE64 ||
        (segment_flat(&s->seg[SEG_CS], false) && segment_flat(&s->seg[SEG_DS], true) &&
         segment_flat(&s->seg[SEG_ES], true) && segment_flat(&s->seg[SEG_SS], true)))
        m |= MODE_FLAT;
    if ((m & MODE_CODE) != MODE_CODE64) {
        if (segment_whole(&s->seg[SEG_FS], true)) m |= MODE_FS_WHOLE;
        if (segment_whole(&s->seg[SEG_GS], true)) m |= MODE_GS_WHOLE;
    }
    if (s->cr0 & CR0_EM) m |= MODE_EM;
    if (s->cr0 & CR0_TS) m |= MODE_TS;
    if (s->cr4 & CR4_OSFXSR) m |= MODE_OSFXSR;
    if (s->cr4 & CR4_OSXSAVE) m |= MODE_OSXSAVE | ((s->xcr0 & 6) == 6 ? MODE_AVX : 0);
    if (s->cr4 & CR4_UMIP) m |= MODE_UMIP;
    if (s->cr4 & CR4_TSD) m |= MODE_TSD;
    if (s->cr4 & CR4_PCE) m |= MODE_PCE;
    if (s->cr4 & CR4_FSGSBASE) m |= MODE_FSGSBASE;
    if (s->cr4 & CR4_PKE) m |= MODE_PKE;
    if (s->msr.misc_enable & BIT(18)) m |= MODE_MONITOR;
    if (s->vmx.guest) m |= MODE_GUEST | (s->vmx.detects_bus_locks ? MODE_BUS_LOCK : 0);
    if ((s->mxcsr & 0x1F80) != 0x1F80) m |= MODE_FPUNMASK;
    if ((s->cr0 & CR0_AM) && (s->rflags & FL_AC) && cpl == 3) m |= MODE_AC;
    if (s->rflags & FL_TF) m |= MODE_STEP;
    if (lma) m |= MODE_LMA;
    return m;
}

void cpu_mode_changed(struct vcpu *v)
{
    v->d.mode = mode_compute(v);
    v->d.cpl = mode_cpl(v->d.mode);
    if (unlikely((v->s.dr[7] & DR7_ENABLES) | v->d.breaks.any)) debug_changed(v);
    cpu_context_changed(v);
}

void cpu_segment_loaded(struct vcpu *v)
{
    if (mode_compute(v) != v->d.mode) cpu_mode_changed(v);
}

void cpu_attention(struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    bool a = v->stop || v->d.leave || s->inject.kind || s->init_pending || s->sipi_pending ||
             s->pending_dbg || v->d.break_hit || s->nmi_pending || s->activity != ACTIVITY_ACTIVE ||
             (s->blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) || (v->d.mode & MODE_STEP) ||
             (s->rflags & FL_RF) || cpu_virtual_interrupt(v);
    if (v->s.intr_line && ((s->rflags & FL_IF) || s->vmx.guest)) a = true;
    if (s->vmx.guest && vmx_boundary_wanted(v)) a = true;
    v->d.attention = a;
    // asked by a signal handler, perhaps since `a` was computed
    if (unlikely(v->stop_asked)) v->d.attention = true;
}

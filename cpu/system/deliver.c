// Delivery of events through the interrupt-vector table and the IDT, and the double-fault table.
//
// Runs from the run loop under its landing pad: a fault on the way is raised and combined there. All pushes
// are checked and translated before the first is made; RSP, RIP and the segments change last.
//
// Out of virtual-8086 mode a gate leads to level 0, with the data segments on its stack and NULL in the
// registers. With CR4.VME an INT n may stay there and go through the vectors at linear address 0: the
// redirection bitmap of the TSS decides.
#include "cpu/system/debug.h"
#include "cpu/system/system.h"
#include "cpu/system/frame.h"
#include "cpu/system/far.h"
#include "cpu/system/task.h"
#include "vmx/intercept.h"

static bool is_software(const struct event *e)
{
    return e->type == EVT_SW_INTERRUPT || e->type == EVT_SW_EXCEPTION || e->type == EVT_PRIV_SW_EXCEPTION;
}

// RIP that the handler returns to: software events lie behind their instruction.
u64 event_return_rip(const struct vcpu *v, const struct event *e)
{
    u64 rip = v->s.rip + (is_software(e) ? e->insn_len : 0);
    return cpu_long64(v) ? rip : (u32)rip;
}

u64 event_return_flags(const struct vcpu *v, const struct event *e) // RFLAGS as pushed
{
    return cpu_rflags(v) | (event_sets_rf(e) ? FL_RF : 0);
}

u32 event_ext(const struct event *e)
{
    return e->type == EVT_SW_INTERRUPT || e->type == EVT_SW_EXCEPTION ? 0 : 1;
}

// What the event leaves in registers before its handler is looked for.
static void note_cause(struct vcpu *v, const struct event *e)
{
    if (e->type != EVT_HW_EXCEPTION || e->injected) return;
    if (e->vector == VEC_PF) v->s.cr2 = e->cr2;
    if (e->vector == VEC_DB) {
        // what a MOV to SS held back comes with it
        v->s.dr[6] = (v->s.dr[6] & ~0xFull) | ((e->dr6 | (v->s.pending_dbg & 0xF)) & 0xE00F);
        v->s.dr[7] &= ~(u64)DR7_GD;
        v->s.msr.debugctl &= ~(u64)(DEBUGCTL_LBR | DEBUGCTL_BTF); // SDM 19.4.2, 19.4.3
        v->s.pending_dbg = 0;
    }
}

static void deliver_real(struct vcpu *v, const struct event *e)
{
    if (e->vector * 4u + 3 > v->s.idtr.limit) raise_error(v, VEC_GP, 0);
    u64 entry = sys_load(v, linear_at(v, v->s.idtr.base + e->vector * 4u), 4);
    struct frame f = frame_here(v, W16);
    frame_push(&f, event_return_flags(v, e) & ~(u64)FL_RF);
    frame_push(&f, v->s.seg[SEG_CS].sel);
    frame_push(&f, event_return_rip(v, e));
    frame_prepare(v, &f);
    u16 ip = (u16)entry;
    if (ip > v->s.seg[SEG_CS].limit) raise_error(v, VEC_GP, 0);
    v->s.gpr[RSP] = frame_store(v, &f);
    seg_load_real(v, SEG_CS, (u16)(entry >> 16));
    v->s.rip = ip;
    v->s.rflags &= ~(u64)(FL_IF | FL_TF | FL_AC | FL_RF);
}

// ---- software interrupts of virtual-8086 mode with CR4.VME (SDM 22.3.3) ----

// The bitmap is the 32 bytes before the I/O permission bitmap. #GP(0) where the TSS has none.
bool deliver_v86_redirects(struct vcpu *v, u8 vector)
{
    const struct segment *tr = &v->s.seg[SEG_TR];
    unsigned type = tr->ar & 0xF;
    if ((tr->ar & AR_UNUSABLE) || (type != 9 && type != 11) || tr->limit < 0x67) raise_gp0(v);
    u32 at = (u32)sys_load(v, linear_at(v, tr->base + 0x66), 2) - 32 + vector / 8;
    if (at > tr->limit) raise_gp0(v); // also for a map that lies below byte 32
    return !(sys_load(v, linear_at(v, tr->base + at), 1) >> (vector & 7) & 1);
}

// To the 8086 program's own handler, as the 8086 would; below IOPL 3 its IF is VIF, and it believes in
// IOPL 3.
static void deliver_redirected(struct vcpu *v, const struct event *e)
{
    bool virtual_if = (v->s.rflags & FL_IOPL) != FL_IOPL;
    u64 image = cpu_rflags(v);
    if (virtual_if) image = (image & ~(u64)FL_IF) | FL_IOPL | (image & FL_VIF ? FL_IF : 0);
    u64 entry = sys_load(v, laddr_of(e->vector * 4u), 4);
    struct frame f = frame_here(v, W16);
    frame_push(&f, image);
    frame_push(&f, v->s.seg[SEG_CS].sel);
    frame_push(&f, event_return_rip(v, e));
    frame_prepare(v, &f);
    v->s.gpr[RSP] = frame_store(v, &f);
    seg_load_real(v, SEG_CS, (u16)(entry >> 16));
    v->s.rip = (u16)entry;
    v->s.rflags &= ~(u64)(FL_TF | FL_RF | (virtual_if ? FL_VIF : FL_IF));
}

struct gate {
    u64 offset;
    u16 sel;
    u8 type, ist, w; // type 5: a task gate, which has no offset
};

static struct gate read_gate(struct vcpu *v, const struct event *e, u32 ext)
{
    bool lma = cpu_lma(v);
    u32 size = lma ? 16 : 8, error = e->vector * 8u + 2 + ext;
    u64 low, high = 0;
    if (e->vector * size + size - 1 > v->s.idtr.limit) raise_error(v, VEC_GP, error);
    laddr at = linear_at(v, v->s.idtr.base + e->vector * size);
    if (!sys_canonical(v, at, size)) raise_error(v, VEC_GP, error);
    low = sys_load(v, at, 8);
    if (lma) high = sys_load(v, linear_plus(v, at, 8), 8);
    u32 ar = (u32)(low >> 40) & 0xFF;
    struct gate g = {.type = ar & 0x1F, .sel = (u16)(low >> 16)};
    bool task = g.type == 5 && !lma;
    if (!task && g.type != 14 && g.type != 15 && (lma || (g.type != 6 && g.type != 7)))
        raise_error(v, VEC_GP, error);
    if (is_software(e) && e->type != EVT_PRIV_SW_EXCEPTION && ar_dpl(ar) < v->d.cpl)
        raise_error(v, VEC_GP, error);
    if (!(ar & AR_P)) raise_error(v, VEC_NP, error);
    if (task) return g;
    g.offset = (low & 0xFFFF) | (low >> 32 & 0xFFFF0000) | high << 32;
    g.w = lma ? W64 : g.type >= 14 ? W32 : W16;
    if (g.w == W16) g.offset &= 0xFFFF;
    g.ist = lma ? low >> 32 & 7 : 0;
    return g;
}

static void deliver_protected(struct vcpu *v, const struct event *e)
{
    u32 ext = event_ext(e);
    bool lma = cpu_lma(v);
    unsigned cpl = v->d.cpl;
    struct gate g = read_gate(v, e, ext);
    if (g.type == 5) {
        task_switch(v, g.sel, TASK_BY_IDT, e);
        return;
    }
    if (!(g.sel & 0xFFFC)) raise_error(v, VEC_GP, ext);
    u32 error = (g.sel & 0xFFFC) | ext;
    struct descriptor cd;
    struct segment cs = {0};
    seg_read_descriptor_ext(v, g.sel, &cd, VEC_GP, ext);
    seg_from_descriptor(&cs, g.sel, &cd);
    unsigned dpl = ar_dpl(cs.ar);
    if ((cs.ar & (AR_S | AR_CODE)) != (AR_S | AR_CODE) || dpl > cpl) raise_error(v, VEC_GP, error);
    if (lma && (!(cs.ar & AR_L) || (cs.ar & AR_DB))) raise_error(v, VEC_GP, error);
    if (!(cs.ar & AR_P)) raise_error(v, VEC_NP, error);
    bool inner = !(cs.ar & AR_CONFORMING) && dpl < cpl;
    bool vm = v->s.rflags & FL_VM; // CPL 3; only a gate to a nonconforming segment of level 0 leads out
    if (vm && (!inner || dpl != 0)) raise_error(v, VEC_GP, error);
    unsigned new_cpl = inner ? dpl : cpl;
    cs.sel = (g.sel & 0xFFFC) | (u16)new_cpl;

    struct far_stack st = {.new_cpl = new_cpl};
    struct frame f = frame_here(v, g.w);
    f.error = ext;
    f.long64 = lma;
    f.acc = ACC_WRITE | (new_cpl == 3 ? ACC_USER : 0) | (v->s.rflags & FL_AC ? ACC_AC : 0);
    bool switched = inner || g.ist;
    if (switched) {
        st = far_stack_from_tss(v, new_cpl, g.ist, ext);
        if (inner) f.ss = &st.ss;
        f.sp = st.sp;
        f.mask = st.mask;
        f.error = lma ? ext : (st.ss.sel & 0xFFFC) | ext;
    }
    if (lma) {
        if (!cpu_canonical(v, f.sp)) raise_error(v, VEC_SS, ext);
        f.sp &= ~0xFull;
        f.mask = ~0ull;
    }
    static const u8 data[] = {SEG_GS, SEG_FS, SEG_DS, SEG_ES};
    for (unsigned i = 0; vm && i < ARRAY_LEN(data); i++) frame_push(&f, v->s.seg[data[i]].sel);
    if (switched || lma) {
        frame_push(&f, v->s.seg[SEG_SS].sel);
        frame_push(&f, v->s.gpr[RSP]);
    }
    frame_push(&f, event_return_flags(v, e));
    frame_push(&f, v->s.seg[SEG_CS].sel);
    frame_push(&f, event_return_rip(v, e));
    if (e->has_error) frame_push(&f, e->error);
    frame_prepare(v, &f);
    if (!far_target_ok(v, &cs, g.offset)) raise_error(v, VEC_GP, ext);

    seg_mark_accessed(v, g.sel, &cd);
    if (inner && !st.null) seg_mark_accessed(v, st.ss.sel, &st.d);
    u64 sp = frame_store(v, &f);
    if (f.mask == 0xFFFF && inner) sp = (v->s.gpr[RSP] & ~0xFFFFull) | (sp & 0xFFFF);
    if (inner)
        far_stack_commit(v, &st, sp);
    else
        v->s.gpr[RSP] = sp;
    for (unsigned i = 0; vm && i < ARRAY_LEN(data); i++) seg_set_null(v, data[i], 0);
    seg_from_descriptor(&v->s.seg[SEG_CS], cs.sel, &cd);
    v->s.rip = g.offset;
    v->s.rflags &= ~(u64)(FL_TF | FL_NT | FL_RF | FL_VM);
    if (!(g.type & 1)) v->s.rflags &= ~(u64)FL_IF;
}

void deliver_event(struct vcpu *v, const struct event *e)
{
    v->d.iret_unblocked = false;
    cpu_monitor_disarm(v);
    // an event ends the shadow, also when its delivery leads elsewhere
    v->s.blocking &= ~(u32)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    note_cause(v, e);
    // Data breakpoints of a MOV to SS strike behind the delivery; its single step does not (SDM 7.8.3).
    v->s.pending_dbg &= ~(u64)DR6_BS;
    bool vme = v->s.rflags & FL_VM && v->s.cr4 & CR4_VME;
    if (!(v->s.cr0 & CR0_PE))
        deliver_real(v, e);
    else if (vme && e->type == EVT_SW_INTERRUPT && deliver_v86_redirects(v, e->vector))
        deliver_redirected(v, e);
    else
        deliver_protected(v, e);
    cpu_mode_changed(v);
    cpu_attention(v);
}

// ---- SDM table 7-5 ----

enum event_class { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum event_class class_of(const struct event *e)
{
    if (e->type != EVT_HW_EXCEPTION) return BENIGN;
    switch (e->vector) {
    case VEC_DE:
    case VEC_TS:
    case VEC_NP:
    case VEC_SS:
    case VEC_GP:
    case VEC_CP: return CONTRIBUTORY;
    case VEC_PF:
    case VEC_VE: return PAGE_FAULT;
    case VEC_DF: return DOUBLE_FAULT;
    default: return BENIGN;
    }
}

bool deliver_combine(const struct event *first, const struct event *second, struct event *result)
{
    enum event_class a = class_of(first), b = class_of(second);
    *result = *second;
    bool serious = b == CONTRIBUTORY || b == PAGE_FAULT;
    if (a == DOUBLE_FAULT && serious) return false;
    if ((a == CONTRIBUTORY && b == CONTRIBUTORY) || (a == PAGE_FAULT && serious))
        *result = (struct event){
            .kind = EVENT_INTERRUPTION, .vector = VEC_DF, .type = EVT_HW_EXCEPTION, .has_error = true};
    return true;
}

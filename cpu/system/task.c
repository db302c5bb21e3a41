// The task switch, in the steps of SDM 9.3: checks and translations of all that will be stored, the old
// task's state, the busy bits, the new task's state; then its segments, whose faults are the new task's.
//
// Where the manual leaves the order of checks to the model ("the order used in the P6 family processors"), it
// is that of table 9-1, but for an LDT that is not present: it is refused before anything is looked up in it.
// The manual is silent on the upper halves of the general registers that a 16-bit TSS does not have: they
// become FFFFh, as in Bochs, and FS and GS NULL.
#include <string.h>

#include "cpu/state/cost.h"
#include "cpu/system/debug.h"
#include "cpu/system/frame.h"
#include "cpu/system/task.h"
#include "vmx/intercept.h"

enum { TSS_BUSY = 2, TSS_32 = 8, TSS_LIMIT_16 = 0x2B, TSS_LIMIT_32 = 0x67, TSS_T = 0x64 };

// Where a TSS keeps what a task switch saves and loads.
struct layout {
    u8 w; // of a register
    u8 eip, eflags, gpr, segments, segment_step, segment_count, ldt, cr3;
    u8 saved, saved_end; // what is stored
    u8 limit;
};
static const struct layout layout_16 = {.w = W16,
                                        .eip = 0x0E,
                                        .eflags = 0x10,
                                        .gpr = 0x12,
                                        .segments = 0x22,
                                        .segment_step = 2,
                                        .segment_count = 4,
                                        .ldt = 0x2A,
                                        .saved = 0x0E,
                                        .saved_end = 0x2A,
                                        .limit = TSS_LIMIT_16};
static const struct layout layout_32 = {.w = W32,
                                        .eip = 0x20,
                                        .eflags = 0x24,
                                        .gpr = 0x28,
                                        .segments = 0x48,
                                        .segment_step = 4,
                                        .segment_count = 6,
                                        .ldt = 0x60,
                                        .cr3 = 0x1C,
                                        .saved = 0x20,
                                        .saved_end = 0x5E,
                                        .limit = TSS_LIMIT_32};
static const struct layout *layout_of(u32 ar) { return ar & TSS_32 ? &layout_32 : &layout_16; }

static const u8 segments[] = {SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS}; // in a TSS's order

static laddr at(u64 base, u32 offset) { return laddr_of((u32)(base + offset)); }

// ---- which task ----

// The TSS descriptor: what is wrong with it is #GP, of an IRET #TS.
static void read_tss(struct vcpu *v, u16 sel, enum task_source source, u32 ext, struct segment *tss,
                     struct descriptor *d)
{
    bool iret = source == TASK_BY_IRET;
    u8 vector = iret ? VEC_TS : VEC_GP;
    u32 error = (sel & 0xFFFC) | ext;
    if (sel & 4 || !(sel & 0xFFFC)) raise_error(v, vector, error);
    seg_read_descriptor_ext(v, sel, d, vector, ext);
    seg_from_descriptor(tss, sel, d);
    if ((tss->ar & (AR_S | (0xF & ~TSS_32))) != (iret ? 1 | TSS_BUSY : 1)) raise_error(v, vector, error);
    if (!(tss->ar & AR_P)) raise_error(v, VEC_NP, error);
    if (tss->limit < layout_of(tss->ar)->limit) raise_error(v, VEC_TS, error);
}

// ---- the old task ----

static void store_old(struct vcpu *v, const struct layout *l, u64 eip, u64 flags)
{
    u64 base = v->s.seg[SEG_TR].base;
    unsigned n = W_BYTES(l->w);
    sys_store(v, at(base, l->eip), n, eip);
    sys_store(v, at(base, l->eflags), n, flags);
    for (unsigned i = 0; i < 8; i++) sys_store(v, at(base, l->gpr + n * i), n, v->s.gpr[i]);
    for (unsigned i = 0; i < l->segment_count; i++)
        sys_store(v, at(base, l->segments + l->segment_step * i), 2, v->s.seg[segments[i]].sel);
}

static laddr busy_byte(const struct vcpu *v, u16 sel)
{
    return at(seg_descriptor_address(v, sel & 0xFFF8).at, 5);
}

static void set_busy(struct vcpu *v, u16 sel, bool busy)
{
    laddr a = busy_byte(v, sel);
    u64 x = sys_load(v, a, 1);
    sys_store(v, a, 1, busy ? x | TSS_BUSY : x & ~(u64)TSS_BUSY);
}

// Whatever could fault on the way to the new task, in the old one. (The manual's step 5.)
static void check_old(struct vcpu *v, const struct segment *tss, enum task_source source, u32 ext)
{
    const struct segment *tr = &v->s.seg[SEG_TR];
    const struct layout *l = layout_of(tr->ar);
    u32 error = (tr->sel & 0xFFFC) | ext;
    bool leaves = source == TASK_BY_JMP || source == TASK_BY_IRET;
    if (tr->limit < l->saved_end - 1u || (leaves && (tr->sel | 7u) > v->s.gdtr.limit))
        raise_error(v, VEC_TS, error);
    acc_probe(v, at(tss->base, 0), layout_of(tss->ar)->limit + 1u, ACC_IMPLICIT | ACC_READ);
    if (tss->ar & TSS_32) cr3_check(v, sys_load(v, at(tss->base, layout_32.cr3), 4));
    if (!leaves) acc_probe(v, at(tss->base, 0), 2, ACC_IMPLICIT | ACC_WRITE);
    acc_probe(v, at(tr->base, l->saved), l->saved_end - l->saved, ACC_IMPLICIT | ACC_WRITE);
    if (leaves) acc_probe(v, busy_byte(v, tr->sel), 1, ACC_IMPLICIT | ACC_WRITE);
    if (source != TASK_BY_IRET) acc_probe(v, busy_byte(v, tss->sel), 1, ACC_IMPLICIT | ACC_WRITE);
}

// ---- the new task ----

struct image { // of a TSS
    u64 cr3, eip, flags, gpr[8];
    u16 sel[6], ldt; // as `segments`
    bool trap;
};

static void load_image(struct vcpu *v, u64 base, const struct layout *l, struct image *im)
{
    unsigned n = W_BYTES(l->w);
    *im = (struct image){.cr3 = l->cr3 ? sys_load(v, at(base, l->cr3), 4) : v->s.cr3,
                         .eip = sys_load(v, at(base, l->eip), n),
                         .flags = sys_load(v, at(base, l->eflags), n),
                         .ldt = (u16)sys_load(v, at(base, l->ldt), 2),
                         .trap = l->w == W32 && sys_load(v, at(base, TSS_T), 1) & 1};
    for (unsigned i = 0; i < 8; i++)
        im->gpr[i] = sys_load(v, at(base, l->gpr + n * i), n) | (l->w == W16 ? 0xFFFF0000 : 0);
    for (unsigned i = 0; i < l->segment_count; i++)
        im->sel[i] = (u16)sys_load(v, at(base, l->segments + l->segment_step * i), 2);
}

// The registers. Segment registers have their selectors and nothing behind them yet.
static void load_registers(struct vcpu *v, const struct image *im, enum task_source source)
{
    struct vcpu_state *s = &v->s;
    const u64 known =
        FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_RF | FL_VM | FL_AC | FL_VIF | FL_VIP | FL_ID;
    bool nested = source == TASK_BY_CALL || source == TASK_BY_IDT;
    cpu_set_rflags(v, (im->flags & known) | (nested ? FL_NT : 0));
    v->d.rf_loaded = s->rflags & FL_RF;
    for (unsigned i = 0; i < 8; i++) s->gpr[i] = im->gpr[i];
    for (unsigned i = 0; i < 6; i++)
        s->seg[segments[i]] = (struct segment){.sel = im->sel[i], .ar = AR_UNUSABLE};
    unsigned cpl = s->rflags & FL_VM ? 3 : im->sel[1] & 3;
    s->seg[SEG_SS].ar |= cpl << 5;
    s->seg[SEG_LDTR] = (struct segment){.sel = im->ldt, .ar = AR_UNUSABLE};
    s->cr0 |= CR0_TS;
    s->dr[7] &= ~0x155ull; // L0-L3; and LE, as the manual of the 80386 says
    s->rip = im->eip;
    cpu_mode_changed(v);
    if ((s->cr0 & CR0_PG) && im->cr3 != s->cr3) cr3_write(v, im->cr3);
}

static void load_ldt(struct vcpu *v, u16 sel, u32 ext)
{
    u32 error = (sel & 0xFFFC) | ext;
    struct descriptor d;
    struct segment s = {0};
    if (!(sel & 0xFFFC)) return;
    if (sel & 4) raise_error(v, VEC_TS, error);
    seg_read_descriptor_ext(v, sel, &d, VEC_TS, ext);
    seg_from_descriptor(&s, sel, &d);
    if ((s.ar & (AR_S | 0xF)) != 2 || !(s.ar & AR_P)) raise_error(v, VEC_TS, error);
    v->s.seg[SEG_LDTR] = s;
}

static void take(struct vcpu *v, unsigned seg, u16 sel, struct descriptor *d)
{
    seg_mark_accessed(v, sel, d);
    seg_from_descriptor(&v->s.seg[seg], sel, d);
    cpu_mode_changed(v);
}

// DPL of the code segment and RPL of its selector agree.
static bool code_level_good(u16 sel, u32 ar)
{
    return ar & AR_CONFORMING ? ar_dpl(ar) <= (sel & 3u) : ar_dpl(ar) == (sel & 3u);
}

static void load_stack(struct vcpu *v, u16 sel, u32 ext)
{
    u32 error = (sel & 0xFFFC) | ext;
    struct descriptor d;
    struct segment s = {0};
    if (!(sel & 0xFFFC)) raise_error(v, VEC_TS, error);
    seg_read_descriptor_ext(v, sel, &d, VEC_TS, ext);
    seg_from_descriptor(&s, sel, &d);
    if ((s.ar & (AR_S | AR_CODE | AR_WRITABLE)) != (AR_S | AR_WRITABLE)) raise_error(v, VEC_TS, error);
    if (!(s.ar & AR_P)) raise_error(v, VEC_SS, error);
    if (ar_dpl(s.ar) != v->d.cpl || (sel & 3u) != v->d.cpl) raise_error(v, VEC_TS, error);
    take(v, SEG_SS, sel, &d);
}

static void load_code(struct vcpu *v, u16 sel, struct descriptor *d, u32 ext)
{
    u32 error = (sel & 0xFFFC) | ext;
    struct segment s = {0};
    seg_from_descriptor(&s, sel, d);
    if ((s.ar & (AR_S | AR_CODE)) != (AR_S | AR_CODE)) raise_error(v, VEC_TS, error);
    if (!(s.ar & AR_P)) raise_error(v, VEC_NP, error);
    take(v, SEG_CS, sel, d);
}

static void load_data(struct vcpu *v, unsigned seg, u16 sel, u32 ext)
{
    u32 error = (sel & 0xFFFC) | ext;
    struct descriptor d;
    struct segment s = {0};
    if (!(sel & 0xFFFC)) return;
    seg_read_descriptor_ext(v, sel, &d, VEC_TS, ext);
    seg_from_descriptor(&s, sel, &d);
    if (!(s.ar & AR_S) || (s.ar & (AR_CODE | AR_READABLE)) == AR_CODE) raise_error(v, VEC_TS, error);
    if (!(s.ar & AR_P)) raise_error(v, VEC_NP, error);
    bool conforming = (s.ar & (AR_CODE | AR_CONFORMING)) == (AR_CODE | AR_CONFORMING);
    if (!conforming && (ar_dpl(s.ar) < v->d.cpl || ar_dpl(s.ar) < (sel & 3u))) raise_error(v, VEC_TS, error);
    take(v, seg, sel, &d);
}

static void load_segments(struct vcpu *v, const struct image *im, u32 ext)
{
    load_ldt(v, im->ldt, ext);
    if (v->s.rflags & FL_VM) {
        for (unsigned i = 0; i < 6; i++) seg_load_real(v, segments[i], im->sel[i]);
        cpu_mode_changed(v);
        return;
    }
    u16 cs = im->sel[1];
    struct descriptor d;
    struct segment s = {0};
    if (!(cs & 0xFFFC)) raise_error(v, VEC_TS, ext);
    seg_read_descriptor_ext(v, cs, &d, VEC_TS, ext);
    seg_from_descriptor(&s, cs, &d);
    if ((s.ar & AR_S) && (s.ar & AR_CODE) && !code_level_good(cs, s.ar))
        raise_error(v, VEC_TS, (cs & 0xFFFC) | ext);
    load_stack(v, im->sel[2], ext);
    load_code(v, cs, &d, ext);
    static const u8 data[] = {3, 0, 4, 5}; // DS, ES, FS, GS
    for (unsigned i = 0; i < ARRAY_LEN(data); i++) load_data(v, segments[data[i]], im->sel[data[i]], ext);
}

static void push_error(struct vcpu *v, unsigned w, u32 error, u32 ext)
{
    struct frame f = frame_here(v, w);
    f.error = ext;
    frame_push(&f, error);
    frame_prepare(v, &f);
    v->s.gpr[RSP] = frame_store(v, &f);
}

void task_switch(struct vcpu *v, u16 sel, enum task_source source, const struct event *e)
{
    const struct insn *in = v->d.in;
    u64 block_rip = v->s.rip, eip = e ? event_return_rip(v, e) : v->d.npc;
    u64 flags = e ? event_return_flags(v, e) : cpu_rflags(v) & ~(u64)FL_RF;
    u32 ext = e ? event_ext(e) : 0;
    struct segment tss = {0};
    struct descriptor d;
    struct image im;

    read_tss(v, sel, source, ext, &tss, &d);
    vmx_intercept_task_switch(v, sel, source);
    check_old(v, &tss, source, ext);
    const struct layout *from = layout_of(v->s.seg[SEG_TR].ar), *to = layout_of(tss.ar);
    u16 old = v->s.seg[SEG_TR].sel;
    cpu_charge(v, COST_TASK_SWITCH);
    if (source == TASK_BY_JMP || source == TASK_BY_IRET) set_busy(v, old, false);
    if (source == TASK_BY_IRET) flags &= ~(u64)FL_NT;
    store_old(v, from, eip, flags);
    if (source == TASK_BY_CALL || source == TASK_BY_IDT) sys_store(v, at(tss.base, 0), 2, old);
    load_image(v, tss.base, to, &im);
    if (source != TASK_BY_IRET) set_busy(v, sel, true);

    // From here on the switch is done, and a fault is the new task's, at its first instruction.
    tss.ar |= TSS_BUSY;
    v->s.seg[SEG_TR] = tss;
    v->d.in = NULL;
    load_registers(v, &im, source);
    load_segments(v, &im, ext);
    if (e && e->has_error) push_error(v, to->w, e->error, ext);
    if (v->s.rip > v->s.seg[SEG_CS].limit) raise_error(v, VEC_GP, ext);
    if (im.trap) v->s.pending_dbg |= DR6_BT;
    cpu_attention(v);
    if (!in) return;
    // and is not single-stepped, whatever TF and BTF were (SDM 19.4.3, footnote)
    v->d.looked_at_tf = true;
    v->s.pending_dbg &= ~(u64)DR6_BS;
    v->d.in = in; // it comes to its end
    v->d.npc = v->s.rip;
    v->s.rip = block_rip;
}

void task_return(struct vcpu *v)
{
    task_switch(v, (u16)sys_load(v, at(v->s.seg[SEG_TR].base, 0), 2), TASK_BY_IRET, NULL);
}

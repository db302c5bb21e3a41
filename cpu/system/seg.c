// Segment registers: reading descriptors, the checks of a load, the hidden part; the instructions that load
// and inspect them.
//
// CPL is the DPL of SS at all times, so a NULL SS keeps its DPL. In real-address mode a load, of CS too,
// changes selector and base and leaves limit and access rights as they are: that is "unreal" mode, and why
// the manual has software load fitting descriptors before it leaves protected mode (SDM 11.9.2).
#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "vmx/intercept.h"

enum { ZF_BIT = AX_ZF };
static void set_zf(struct vcpu *v, bool on) { v->s.fl = on ? v->s.fl | ZF_BIT : v->s.fl & (u16)~ZF_BIT; }

void seg_load_real(struct vcpu *v, unsigned seg, u16 sel)
{
    struct segment *s = &v->s.seg[seg];
    s->sel = sel;
    s->base = (u64)sel << 4;
    if (v->s.rflags & FL_VM && v->s.cr0 & CR0_PE) {
        s->limit = 0xFFFF;
        s->ar = AR_P | 3 << 5 | AR_S | AR_WRITABLE | AR_ACCESSED;
        return;
    }
    if (s->ar & AR_UNUSABLE) { // NULL before: there is nothing to keep
        s->ar = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED;
        s->limit = 0xFFFF;
    }
}

laddr seg_descriptor_address(const struct vcpu *v, u16 sel)
{
    u64 base = sel & 4 ? v->s.seg[SEG_LDTR].base : v->s.gdtr.base;
    return linear_at(v, base + (sel & 0xFFF8));
}

static u64 table_limit(const struct vcpu *v, u16 sel, bool *usable)
{
    const struct segment *ldt = &v->s.seg[SEG_LDTR];
    *usable = !(sel & 4) || (!(ldt->ar & AR_UNUSABLE) && (ldt->ar & AR_P));
    return sel & 4 ? ldt->limit : v->s.gdtr.limit;
}

// Reads a descriptor; false: beyond the table.
static bool fetch(struct vcpu *v, u16 sel, struct descriptor *d)
{
    bool usable;
    u64 limit = table_limit(v, sel, &usable);
    if (!usable || (sel | 7u) > limit) return false;
    laddr a = seg_descriptor_address(v, sel);
    if (!sys_canonical(v, a, 8)) return false; // #GP(selector), as beyond the limit
    d->raw = sys_load(v, a, 8);
    d->raw_hi = 0;
    if (cpu_lma(v) && !(d->raw >> 44 & 1)) { // a system descriptor of IA-32e mode
        if ((sel | 7u) + 8 > limit || !sys_canonical(v, a, 16)) return false;
        d->raw_hi = sys_load(v, linear_plus(v, a, 8), 8);
    }
    return true;
}

void seg_read_descriptor_ext(struct vcpu *v, u16 sel, struct descriptor *d, u8 vector, u32 ext)
{
    if (!fetch(v, sel, d)) raise_error(v, vector, (sel & 0xFFFC) | ext);
}
void seg_read_descriptor(struct vcpu *v, u16 sel, struct descriptor *d, u8 vector)
{
    seg_read_descriptor_ext(v, sel, d, vector, 0);
}

void seg_mark_accessed(struct vcpu *v, u16 sel, struct descriptor *d)
{
    if (d->raw & BIT(40)) return;
    d->raw |= BIT(40);
    sys_store(v, linear_plus(v, seg_descriptor_address(v, sel), 5), 1, (u8)(d->raw >> 40));
}

static u32 descriptor_limit(u64 raw)
{
    u32 limit = (u32)(raw & 0xFFFF) | (u32)(raw >> 32 & 0xF0000);
    return raw & BIT(55) ? limit << 12 | 0xFFF : limit;
}
static u32 descriptor_ar(u64 raw) { return (u32)(raw >> 40) & 0xF0FF; }

void seg_from_descriptor(struct segment *s, u16 sel, const struct descriptor *d)
{
    s->sel = sel;
    s->base = (d->raw >> 16 & 0xFFFFFF) | (d->raw >> 32 & 0xFF000000);
    if (!(d->raw & BIT(44))) s->base |= d->raw_hi << 32;
    s->limit = descriptor_limit(d->raw);
    s->ar = descriptor_ar(d->raw);
}

void seg_set_null(struct vcpu *v, unsigned seg, u16 sel)
{
    u32 ar = AR_UNUSABLE;
    if (seg == SEG_SS) ar |= (sel & 3u) << 5;
    v->s.seg[seg] = (struct segment){.sel = sel, .ar = ar};
}

bool seg_stack_linear(const struct vcpu *v, const struct segment *ss, bool long64, u64 offset, u64 size,
                      laddr *la)
{
    if (long64) {
        *la = laddr_of(offset);
        return cpu_canonical(v, offset) && cpu_canonical(v, offset + size - 1);
    }
    *la = laddr_of((u32)(ss->base + offset));
    u64 last = offset + size - 1;
    if (ss->ar & AR_UNUSABLE) return false;
    if ((v->s.cr0 & CR0_PE) && !(v->s.rflags & FL_VM) && ((ss->ar & AR_CODE) || !(ss->ar & AR_WRITABLE)))
        return false;
    if ((ss->ar & (AR_CODE | AR_EXPAND_DOWN)) == AR_EXPAND_DOWN)
        return offset > ss->limit && last <= ((ss->ar & AR_DB) ? 0xFFFFFFFF : 0xFFFF);
    return last <= ss->limit;
}

// ---- loads ----

static void load_ss(struct vcpu *v, u16 sel)
{
    unsigned cpl = v->d.cpl, rpl = sel & 3;
    if (!(sel & 0xFFFC)) {
        if (!cpu_long64(v) || cpl == 3 || rpl != cpl) raise_gp0(v);
        seg_set_null(v, SEG_SS, sel);
        return;
    }
    struct descriptor d;
    u32 error = sel & 0xFFFC;
    seg_read_descriptor(v, sel, &d, VEC_GP);
    u32 ar = descriptor_ar(d.raw);
    if (rpl != cpl || !(ar & AR_S) || (ar & AR_CODE) || !(ar & AR_WRITABLE) || ar_dpl(ar) != cpl)
        raise_error(v, VEC_GP, error);
    if (!(ar & AR_P)) raise_error(v, VEC_SS, error);
    seg_mark_accessed(v, sel, &d);
    seg_from_descriptor(&v->s.seg[SEG_SS], sel, &d);
}

void seg_load(struct vcpu *v, unsigned seg, u16 sel)
{
    if (!mode_protected(v->d.mode)) {
        seg_load_real(v, seg, sel);
    } else if (seg == SEG_SS) {
        load_ss(v, sel);
    } else if (!(sel & 0xFFFC)) {
        seg_set_null(v, seg, sel);
    } else {
        struct descriptor d;
        u32 error = sel & 0xFFFC;
        seg_read_descriptor(v, sel, &d, VEC_GP);
        u32 ar = descriptor_ar(d.raw);
        unsigned dpl = ar_dpl(ar);
        if (!(ar & AR_S) || (ar & (AR_CODE | AR_READABLE)) == AR_CODE) raise_error(v, VEC_GP, error);
        bool conforming = (ar & (AR_CODE | AR_CONFORMING)) == (AR_CODE | AR_CONFORMING);
        if (!conforming && ((sel & 3u) > dpl || v->d.cpl > dpl)) raise_error(v, VEC_GP, error);
        if (!(ar & AR_P)) raise_error(v, VEC_NP, error);
        seg_mark_accessed(v, sel, &d);
        seg_from_descriptor(&v->s.seg[seg], sel, &d);
    }
    cpu_segment_loaded(v);
}

static void shadow_mov_ss(struct vcpu *v)
{
    v->s.blocking = (v->s.blocking & ~(u32)BLOCKING_BY_STI) |
                    BLOCKING_BY_MOV_SS; // in the shadow of STI: that one ends here
    v->s.shadow_one = true;
    cpu_attention(v);
}

void op_mov_to_sreg(struct vcpu *v, const struct insn *in)
{
    if (in->r == SEG_CS || in->r > SEG_GS) raise_ud(v);
    u16 sel = in->mem ? (u16)lin_load(v, insn_linear(v, in, 2, ACC_READ), 2) : REG16(v, in->m);
    seg_load(v, in->r, sel);
    if (in->r == SEG_SS) shadow_mov_ss(v);
}

void op_mov_from_sreg(struct vcpu *v, const struct insn *in)
{
    if (in->r > SEG_GS) raise_ud(v);
    u16 sel = v->s.seg[in->r].sel;
    if (in->mem)
        lin_store(v, insn_linear(v, in, 2, ACC_WRITE), 2, sel);
    else
        reg_set(v, in->m, in->osz, sel);
}

// PUSH of a segment register stores 16 bits and moves the stack by the operand size; the rest of the slot is
// kept, as this family of processors does (SDM PUSH).
static void push_sreg(struct vcpu *v, const struct insn *in, unsigned seg)
{
    unsigned n = W_BYTES(in->osz);
    u16 sel = v->s.seg[seg].sel;
    if (in->osz == W64) {
        stack_push(v, W64, sel); // 64-bit mode: zero-extended
        return;
    }
    u64 sp = (v->s.gpr[RSP] - n) & stack_mask(v);
    lin_store(v, seg_linear(v, SEG_SS, sp, 2, ACC_WRITE), 2, sel);
    stack_add(v, -(s64)n);
}
static void pop_sreg(struct vcpu *v, const struct insn *in, unsigned seg)
{
    u16 sel = (u16)stack_peek(v, in->osz, 0);
    u64 sp = v->s.gpr[RSP], mask = stack_mask(v); // the width is that of the stack before SS changes
    seg_load(v, seg, sel);
    u64 next = (sp & ~mask) | ((sp + W_BYTES(in->osz)) & mask);
    v->s.gpr[RSP] = mask == 0xFFFFFFFF ? (u32)next : next;
    if (seg == SEG_SS) shadow_mov_ss(v);
}
void op_push_sreg(struct vcpu *v, const struct insn *in) // 06 0E 16 1E, 0F A0, 0F A8
{
    push_sreg(v, in, in->op >= 0xA0 ? SEG_FS + (in->op >> 3 & 1) : in->op >> 3 & 3);
}
void op_pop_sreg(struct vcpu *v, const struct insn *in) // 07 17 1F, 0F A1, 0F A9
{
    pop_sreg(v, in, in->op >= 0xA0 ? SEG_FS + (in->op >> 3 & 1) : in->op >> 3 & 3);
}

// LES, LDS, LSS, LFS, LGS: the offset first in memory, then the selector; nothing changes before both are
// read.
void op_load_far(struct vcpu *v, const struct insn *in)
{
    static const u8 segs[8] = {[2] = SEG_SS, [4] = SEG_FS, [5] = SEG_GS};
    unsigned seg = in->op == 0xC4 ? SEG_ES : in->op == 0xC5 ? SEG_DS : segs[in->op & 7];
    unsigned n = W_BYTES(in->osz);
    u64 ea = insn_ea(v, in);
    u64 mask = in->asz == W64 ? ~0ull : in->asz == W32 ? 0xFFFFFFFF : 0xFFFF;
    u64 offset = lin_load(v, seg_linear(v, in->seg, ea, n, ACC_READ), n);
    u16 sel = (u16)lin_load(v, seg_linear(v, in->seg, (ea + n) & mask, 2, ACC_READ), 2);
    seg_load(v, seg, sel);
    reg_set(v, in->r, in->osz, offset);
}

// ---- LDTR, TR ----

static u16 load_selector(struct vcpu *v, const struct insn *in)
{
    return in->mem ? (u16)lin_load(v, insn_linear(v, in, 2, ACC_READ), 2) : REG16(v, in->m);
}
static void store_selector(struct vcpu *v, const struct insn *in, u16 sel)
{
    if (in->mem)
        lin_store(v, insn_linear(v, in, 2, ACC_WRITE), 2, sel);
    else
        reg_set(v, in->m, in->osz, sel);
}
// SLDT
void op_sldt(struct vcpu *v, const struct insn *in) { store_selector(v, in, v->s.seg[SEG_LDTR].sel); }
// STR
void op_str(struct vcpu *v, const struct insn *in) { store_selector(v, in, v->s.seg[SEG_TR].sel); }

// The upper half of a 16-byte descriptor: its type field must be zero and the base canonical.
static void check_upper(struct vcpu *v, const struct segment *s, const struct descriptor *d, u32 error)
{
    if (!cpu_lma(v)) return;
    if ((d->raw_hi >> 40 & 0x1F) || !cpu_canonical_max(v, s->base)) raise_error(v, VEC_GP, error);
}

// LLDT
void op_lldt(struct vcpu *v, const struct insn *in)
{
    u16 sel = load_selector(v, in);
    u32 error = sel & 0xFFFC;
    if (!error) {
        seg_set_null(v, SEG_LDTR, sel);
        return;
    }
    struct descriptor d;
    struct segment s = {0};
    if (sel & 4) raise_error(v, VEC_GP, error);
    seg_read_descriptor(v, sel, &d, VEC_GP);
    seg_from_descriptor(&s, sel, &d);
    if ((s.ar & (AR_S | 0xF)) != 2) raise_error(v, VEC_GP, error);
    if (!(s.ar & AR_P)) raise_error(v, VEC_NP, error);
    check_upper(v, &s, &d, error);
    v->s.seg[SEG_LDTR] = s;
}

// LTR
void op_ltr(struct vcpu *v, const struct insn *in)
{
    u16 sel = load_selector(v, in);
    u32 error = sel & 0xFFFC;
    struct descriptor d;
    struct segment s = {0};
    if (!error) raise_gp0(v);
    if (sel & 4) raise_error(v, VEC_GP, error);
    seg_read_descriptor(v, sel, &d, VEC_GP);
    seg_from_descriptor(&s, sel, &d);
    unsigned type = s.ar & (AR_S | 0xF);
    if (type != 9 && (type != 1 || cpu_lma(v))) raise_error(v, VEC_GP, error);
    if (!(s.ar & AR_P)) raise_error(v, VEC_NP, error);
    check_upper(v, &s, &d, error);
    sys_store(v, linear_plus(v, seg_descriptor_address(v, sel), 5), 1, (u8)(d.raw >> 40 | 2)); // busy
    s.ar |= 2;
    v->s.seg[SEG_TR] = s;
}

// ---- LGDT, LIDT, SGDT, SIDT ----

static void load_table(struct vcpu *v, const struct insn *in, struct dtable *t)
{
    bool long64 = cpu_long64(v);
    unsigned n = long64 ? 10 : 6;
    u8 b[10] = {0};
    lin_load_n(v, insn_linear(v, in, n, ACC_READ), b, n);
    u64 base = 0;
    for (unsigned i = 0; i < n - 2; i++) base |= (u64)b[2 + i] << 8 * i;
    if (!long64 && in->osz == W16) base &= 0xFFFFFF;
    if (long64 && !cpu_canonical_max(v, base)) raise_gp0(v);
    t->base = base;
    t->limit = b[0] | (u32)b[1] << 8;
}
static void store_table(struct vcpu *v, const struct insn *in, const struct dtable *t)
{
    unsigned n = cpu_long64(v) ? 10 : 6;
    u8 b[10] = {(u8)t->limit, (u8)(t->limit >> 8)};
    for (unsigned i = 0; i < n - 2; i++) b[2 + i] = (u8)(t->base >> 8 * i);
    laddr la = insn_linear(v, in, n, ACC_WRITE);
    lin_align(v, la, 2); // a word, and a doubleword or quadword behind it (SDM 3.5.1)
    lin_align(v, linear_plus(v, la, 2), n - 2);
    lin_store_n(v, la, b, n);
}
void op_lgdt(struct vcpu *v, const struct insn *in) { load_table(v, in, &v->s.gdtr); }
void op_lidt(struct vcpu *v, const struct insn *in) { load_table(v, in, &v->s.idtr); }
void op_sgdt(struct vcpu *v, const struct insn *in) { store_table(v, in, &v->s.gdtr); }
void op_sidt(struct vcpu *v, const struct insn *in) { store_table(v, in, &v->s.idtr); }

// ---- VERR, VERW, LAR, LSL, ARPL ----

static bool visible(const struct vcpu *v, u16 sel, u32 ar)
{
    bool conforming = (ar & (AR_S | AR_CODE | AR_CONFORMING)) == (AR_S | AR_CODE | AR_CONFORMING);
    return conforming || (v->d.cpl <= ar_dpl(ar) && (sel & 3u) <= ar_dpl(ar));
}

static void verify(struct vcpu *v, const struct insn *in, bool write)
{
    u16 sel = load_selector(v, in);
    struct descriptor d;
    bool ok = (sel & 0xFFFC) && fetch(v, sel, &d);
    if (ok) {
        u32 ar = descriptor_ar(d.raw);
        ok = (ar & AR_S) && visible(v, sel, ar);
        if (write)
            ok = ok && !(ar & AR_CODE) && (ar & AR_WRITABLE);
        else
            ok = ok && (!(ar & AR_CODE) || (ar & AR_READABLE));
    }
    set_zf(v, ok);
}
void op_verr(struct vcpu *v, const struct insn *in) { verify(v, in, false); }
void op_verw(struct vcpu *v, const struct insn *in) { verify(v, in, true); }

// Which system descriptors LAR and LSL look at, a bit a type (SDM tables of LAR and LSL).
enum { LAR_TYPES = 0x1A3E, LAR_TYPES_LMA = 0x1A04, LSL_TYPES = 0x0A0E, LSL_TYPES_LMA = 0x0A04 };

static bool inspect(struct vcpu *v, u16 sel, u32 types, u32 types_lma, struct descriptor *d)
{
    if (!(sel & 0xFFFC) || !fetch(v, sel, d)) return false;
    u32 ar = descriptor_ar(d->raw);
    if (!(ar & AR_S)) {
        if (!((cpu_lma(v) ? types_lma : types) >> (ar & 0xF) & 1)) return false;
        if (cpu_lma(v) && (d->raw_hi >> 40 & 0x1F)) return false;
    }
    return visible(v, sel, ar);
}
void op_lar(struct vcpu *v, const struct insn *in)
{
    u16 sel = load_selector(v, in);
    struct descriptor d;
    bool ok = inspect(v, sel, LAR_TYPES, LAR_TYPES_LMA, &d);
    if (ok) reg_set(v, in->r, in->osz, d.raw >> 32 & (in->osz == W16 ? 0xFF00 : 0xF0FF00));
    set_zf(v, ok);
}
void op_lsl(struct vcpu *v, const struct insn *in)
{
    u16 sel = load_selector(v, in);
    struct descriptor d;
    bool ok = inspect(v, sel, LSL_TYPES, LSL_TYPES_LMA, &d);
    if (ok) reg_set(v, in->r, in->osz, descriptor_limit(d.raw));
    set_zf(v, ok);
}

void op_arpl(struct vcpu *v, const struct insn *in)
{
    u16 x = (u16)rm_load(v, in, W16), rpl = REG16(v, in->r) & 3;
    bool raise = (x & 3) < rpl;
    if (raise) rm_store(v, in, W16, (x & 0xFFFC) | rpl); // a selector that stays is only read
    set_zf(v, raise);
}

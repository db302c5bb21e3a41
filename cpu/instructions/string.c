// String instructions and their REP forms. Each iteration commits; an interruption leaves the registers at
// the iteration that has not happened, RIP at the instruction, and EFLAGS as they were before it: SCAS and
// CMPS write them when they end, by the last iteration (SDM "REP/REPE/REPZ/REPNE/REPNZ" says so of faults;
// silicon does it between single-stepped iterations too). Time: a unit per 16 bytes of MOVS and STOS, per
// iteration of the others.
//
// Where operands are RAM, as many iterations as stay in their pages are done at once. How a REP is cut into
// such chunks must not show: it depends on the slice, which is the caller's affair. So what a chunk
// translates it could translate again without a trace.
#include <string.h>

#include "cpu/instructions/alu.h"
#include "cpu/engine/access.h"
#include "cpu/state/cost.h"
#include "cpu/engine/exec.h"
#include "cpu/engine/fast.h"
#include "cpu/engine/tlbops.h"
#include "cpu/system/debug.h"
#include "cpu/system/system.h"
#include "vmx/intercept.h"

static u64 index_get(const struct vcpu *v, const struct insn *in, unsigned r)
{
    return reg_get(v, GPR_OFF(r), in->asz);
}
static void index_add(struct vcpu *v, const struct insn *in, unsigned r, s64 n)
{
    reg_set(v, GPR_OFF(r), in->asz, index_get(v, in, r) + (u64)n);
}
static bool downwards(const struct vcpu *v) { return v->s.rflags & FL_DF; }
static s64 step_of(const struct vcpu *v, const struct insn *in)
{
    s64 n = W_BYTES(in->osz);
    return downwards(v) ? -n : n;
}
static bool segment_expands_down(const struct segment *s)
{
    return (s->ar & (AR_CODE | AR_EXPAND_DOWN)) == AR_EXPAND_DOWN;
}
static u64 least(u64 a, u64 b) { return a < b ? a : b; }

// What MOVS and STOS cost for the bytes [a, a+n): a unit for each 16-byte boundary that they reach, going up.
// The sum does not depend on how a REP is cut into chunks.
static u64 move_cost(u64 a, u64 n) { return (a % 16 + n) / 16; }

static u64 units_left(const struct vcpu *v)
{
    u64 now = cpu_units(v);
    return v->d.units_end > now ? v->d.units_end - now : 0;
}
// One iteration at a time: TF and the monitor trap flag trap after each.
static bool stepping(const struct vcpu *v)
{
    return (v->s.rflags & FL_TF) || (v->s.vmx.guest && vmx_single_steps(v));
}

// How many of `count` elements until the slice's end is reached, for a deadline or the caller's limit: then
// the boundary must look. Stopping there changes nothing that the guest sees.
static u64 fit_iterations(const struct vcpu *v, u64 count)
{
    u64 left = units_left(v);
    return left == 0 || stepping(v) ? 1 : least(left, count);
}
static u64 fit_moves(const struct vcpu *v, const struct insn *in, u64 a, u64 count)
{
    u64 left = units_left(v), n = W_BYTES(in->osz), bytes;
    if (left == 0 || stepping(v)) return 1;
    if (left > PAGE_SIZE) return count;
    if (downwards(v))
        bytes = (a + n) % 16 + 16 * (left - 1) + 1;
    else
        bytes = 16 * left - a % 16;
    return least((bytes + n - 1) >> in->osz, count);
}

void exec_rep_pause(struct vcpu *v)
{
    struct event e = {.kind = EVENT_RESTART};
    if (v->s.rflags & FL_TF && !(v->s.msr.debugctl & DEBUGCTL_BTF)) v->s.pending_dbg |= DR6_BS;
    vmx_iteration_done(v);
    if (v->d.attention || v->stop_asked || stepping(v) || cpu_units(v) >= v->d.units_end ||
        insn_block(v->d.in)->crosses) // in what it goes on may be another instruction by now
        raise_event(v, &e);
}

// A REP with 32-bit addresses clears the upper halves of RCX, and of the index registers that it writes
// memory by (MOVS: both), before its first iteration, though that fault or there be none (silicon; the manual
// is silent).
static void rep_begin(struct vcpu *v, const struct insn *in, u32 registers)
{
    if (!in->rep || in->asz != W32) return;
    for (; registers; registers &= registers - 1) index_add(v, in, (unsigned)__builtin_ctz(registers), 0);
}

// ---- operands ----
struct operand { // its next element
    laddr la;
    u8 *host; // NULL: a device's memory, or `spans`
    paddr pa; // of a device's
    // it lies in two pages, or in one with a breakpoint, or with sub-page permissions, or in the
    // APIC-access page: accessed by its linear address
    bool spans;
};

static void translate(struct vcpu *v, const struct insn *in, u32 acc, struct operand *o)
{
    unsigned n = W_BYTES(in->osz);
    o->spans = (o->la.at & ~PAGE_MASK) + n > PAGE_SIZE;
    o->host = NULL;
    if (!o->spans) {
        o->host = lin_host(v, o->la, acc | acc_span(n), &o->pa);
        if (mmu_apic_access(&v->d.mmu, o->pa)) {
            vmx_apic_check(v, o->la, n, acc);
            o->host = NULL, o->spans = true;
        }
        if (unlikely(v->d.mmu.ept_subpages) && acc == ACC_WRITE && !tlbops_whole_page(v, o->la))
            o->host = NULL, o->spans = true;
        if (unlikely(v->d.breaks.write) && debug_data_page(v, o->la, o->pa, acc))
            o->host = NULL, o->spans = true;
    } else if (acc == ACC_WRITE)
        lin_probe_write(v, o->la, n);
    else
        lin_probe_read(v, o->la, n);
}
// Translates the next element; its faults are those of an access to it.
ALWAYS_INLINE void operand(struct vcpu *v, const struct insn *in, unsigned seg, unsigned reg, u32 acc,
                           struct operand *o)
{
    unsigned n = W_BYTES(in->osz);
    o->la = seg_linear(v, seg, index_get(v, in, reg), n, acc);
    if (unlikely(v->d.mode & MODE_AC)) lin_align(v, o->la, n);
    o->host = acc == ACC_WRITE ? fast_write(v, o->la, n) : fast_read(v, o->la, n);
    if (unlikely(!o->host)) translate(v, in, acc, o);
}
// DS:rSI (DS overridable) and ES:rDI.
static void source(struct vcpu *v, const struct insn *in, struct operand *o)
{
    operand(v, in, in->seg, RSI, ACC_READ, o);
}
static void destination_read(struct vcpu *v, const struct insn *in, struct operand *o)
{
    operand(v, in, SEG_ES, RDI, ACC_READ, o);
}
static void destination(struct vcpu *v, const struct insn *in, struct operand *o)
{
    operand(v, in, SEG_ES, RDI, ACC_WRITE, o);
}

// Of two in RAM, the second's translation may have taken the TLB's entry of the first. With both there,
// translating them again leaves no trace.
static void keep(struct vcpu *v, const struct operand *first)
{
    if (unlikely(!fast_read(v, first->la, 1))) lin_probe_read(v, first->la, 1);
}

// How many of k elements from this one on, which is in RAM, are like it: in its page, in the segment, before
// the index wraps.
static u64 fit(const struct vcpu *v, const struct insn *in, unsigned seg, unsigned reg,
               const struct operand *o, u64 k)
{
    u64 offset = index_get(v, in, reg), at = o->la.at & ~PAGE_MASK;
    u64 last = in->asz == W64 ? UINT64_MAX : in->asz == W32 ? 0xFFFFFFFF : 0xFFFF;
    const struct segment *s = &v->s.seg[seg];
    if (downwards(v)) {
        k = least(k, (at >> in->osz) + 1);
        k = least(k - 1, offset >> in->osz) + 1;
        if (!mode_long64(v->d.mode) && segment_expands_down(s))
            k = least(k - 1, (offset - s->limit - 1) >> in->osz) + 1;
        return k;
    }
    k = least(k, (PAGE_SIZE - at) >> in->osz);
    k = least(k - 1, (last - offset) >> in->osz) + 1;
    if (!mode_long64(v->d.mode)) {
        u64 top = !segment_expands_down(s) ? s->limit : (s->ar & AR_DB) ? 0xFFFFFFFF : 0xFFFF;
        k = least(k, (top + 1 - offset) >> in->osz);
    }
    return k;
}

// The first of k elements from pa on that has bytes in common with [own, own + n): it is the last.
static u64 fit_until(const struct vcpu *v, const struct insn *in, paddr pa, paddr own, u64 n, u64 k)
{
    u64 size = W_BYTES(in->osz);
    if (n == 0) return k;
    if (pa + size > own && pa < own + n) return 1;
    if (downwards(v)) return pa < own ? k : least(k, (pa - own - n) / size + 2);
    return pa > own ? k : least(k, (own - pa) / size + 1);
}
// How many of them until something comes of it that depends on when it is done. A REP that overwrites itself
// is fetched anew behind that iteration (SDM 10.1.3; it might as well have been interrupted there); a store
// to a page that somebody watches may end another's sleep.
static u64 fit_noticed(const struct vcpu *v, const struct insn *in, const struct operand *to, u64 k)
{
    const struct block *b = insn_block(in);
    paddr pa = (paddr)(to->host - v->phys->ram), own = b->pa + in->off;
    if (likely(!phys_code_or_watch(v->phys, pa) && !b->crosses)) return k;
    if (phys_watched(v->phys, pa)) return 1;
    u64 n = in->len, here = b->crosses ? PAGE_SIZE - (own & ~PAGE_MASK) : n;
    k = fit_until(v, in, pa, own, here, k);
    return b->crosses ? fit_until(v, in, pa, b->pa2, n - here, k) : k;
}

static u64 operand_load(struct vcpu *v, const struct insn *in, const struct operand *o)
{
    if (likely(o->host != NULL)) return host_load(o->host, in->osz);
    return o->spans ? lin_load(v, o->la, W_BYTES(in->osz)) : device_load(v, o->pa, W_BYTES(in->osz));
}
static void operand_store(struct vcpu *v, const struct insn *in, const struct operand *o, u64 x)
{
    if (o->spans)
        lin_store(v, o->la, W_BYTES(in->osz), x);
    else
        device_store(v, o->pa, W_BYTES(in->osz), x);
}

static void changing(struct vcpu *v, const u8 *host, u64 size) // before a store to RAM
{
    paddr pa = (paddr)(host - v->phys->ram);
    if (unlikely(phys_code_or_watch(v->phys, pa)))
        phys_changing(v->phys, pa, size);
    else
        phys_mark_dirty(v->phys, pa);
}

// k elements, the first at p: the lowest of their addresses.
static u64 lowest(const struct vcpu *v, const struct insn *in, u64 p, u64 k)
{
    return downwards(v) ? p - ((k - 1) << in->osz) : p;
}

// ---- MOVS ----
ALWAYS_INLINE void copy_each(u8 *to, const u8 *from, unsigned w, s64 step, u64 k)
{
    for (; k; k--, to += step, from += step) host_store(to, w, host_load(from, w));
}

static void copy(const struct vcpu *v, const struct insn *in, u8 *to, u8 *from, u64 k)
{
    u64 bytes = k << in->osz;
    s64 step = step_of(v, in);
    // Bytes already written are read again: the copy makes a pattern.
    bool again = step > 0 ? from < to && to < from + bytes : to < from && from < to + bytes;
    if (!again) {
        memmove((u8 *)lowest(v, in, (u64)to, k), (u8 *)lowest(v, in, (u64)from, k), bytes);
        return;
    }
    switch (in->osz) {
    case W8: copy_each(to, from, W8, step, k); break;
    case W16: copy_each(to, from, W16, step, k); break;
    case W32: copy_each(to, from, W32, step, k); break;
    default: copy_each(to, from, W64, step, k); break;
    }
}

void op_movs(struct vcpu *v, const struct insn *in)
{
    rep_begin(v, in, BIT(RCX) | BIT(RSI) | BIT(RDI));
    for (;;) {
        u64 count = in->rep ? index_get(v, in, RCX) : 1, k = 1;
        if (count == 0) return;
        struct operand from, to;
        // the source's faults, also its #AC, come before those of the destination's segment
        source(v, in, &from);
        destination(v, in, &to);
        if (likely(from.host && to.host)) {
            if (count > 1) {
                keep(v, &from);
                k = fit_moves(v, in, to.la.at, count);
                k = fit(v, in, SEG_ES, RDI, &to, fit(v, in, in->seg, RSI, &from, k));
                k = fit_noticed(v, in, &to, k);
            }
            changing(v, (u8 *)lowest(v, in, (u64)to.host, k), k << in->osz);
            copy(v, in, to.host, from.host, k);
        } else {
            u64 x = operand_load(v, in, &from);
            if (to.host) {
                changing(v, to.host, W_BYTES(in->osz));
                host_store(to.host, in->osz, x);
            } else
                operand_store(v, in, &to, x);
        }
        s64 moved = (s64)k * step_of(v, in);
        index_add(v, in, RSI, moved);
        index_add(v, in, RDI, moved);
        if (!in->rep) return;
        index_add(v, in, RCX, -(s64)k);
        cpu_charge(v, move_cost(lowest(v, in, to.la.at, k), k << in->osz));
        if (count != k) exec_rep_pause(v);
    }
}

// ---- STOS ----
static void fill(u8 *p, u64 x, unsigned w, u64 count)
{
    switch (w) {
    case W8: memset(p, (int)(u8)x, count); break;
    case W16:
        for (u64 i = 0; i < count; i++) ((u16 *)p)[i] = (u16)x;
        break;
    case W32:
        for (u64 i = 0; i < count; i++) ((u32 *)p)[i] = (u32)x;
        break;
    default:
        if (x == 0)
            memset(p, 0, count * 8);
        else
            for (u64 i = 0; i < count; i++) ((u64 *)p)[i] = x;
        break;
    }
}

void op_stos(struct vcpu *v, const struct insn *in)
{
    u64 x = reg_get(v, GPR_OFF(RAX), in->osz);
    rep_begin(v, in, BIT(RCX) | BIT(RDI));
    for (;;) {
        u64 count = in->rep ? index_get(v, in, RCX) : 1, k = 1;
        if (count == 0) return;
        struct operand to;
        destination(v, in, &to);
        if (likely(to.host != NULL)) {
            if (count > 1)
                k = fit_noticed(v, in, &to, fit(v, in, SEG_ES, RDI, &to, fit_moves(v, in, to.la.at, count)));
            u8 *p = (u8 *)lowest(v, in, (u64)to.host, k);
            changing(v, p, k << in->osz);
            fill(p, x, in->osz, k);
        } else
            operand_store(v, in, &to, x);
        index_add(v, in, RDI, (s64)k * step_of(v, in));
        if (!in->rep) return;
        index_add(v, in, RCX, -(s64)k);
        cpu_charge(v, move_cost(lowest(v, in, to.la.at, k), k << in->osz));
        if (count != k) exec_rep_pause(v);
    }
}

// ---- LODS ----
void op_lods(struct vcpu *v, const struct insn *in)
{
    rep_begin(v, in, BIT(RCX));
    for (;;) {
        u64 count = in->rep ? index_get(v, in, RCX) : 1, k = 1;
        if (count == 0) return;
        struct operand from;
        source(v, in, &from);
        if (from.host && count > 1) {
            k = fit(v, in, in->seg, RSI, &from, fit_iterations(v, count));
            from.host += (s64)(k - 1) * step_of(v, in); // only the last one counts
        }
        reg_set(v, GPR_OFF(RAX), in->osz, operand_load(v, in, &from));
        index_add(v, in, RSI, (s64)k * step_of(v, in));
        if (!in->rep) return;
        index_add(v, in, RCX, -(s64)k);
        cpu_charge(v, k);
        if (count != k) exec_rep_pause(v);
    }
}

// ---- SCAS, CMPS ----
// The first of k pairs that are equal, or that are not; the last if there is none.
ALWAYS_INLINE u64 scan_each(const u8 *a, s64 step_a, const u8 *b, s64 step_b, unsigned w, bool equal, u64 k)
{
    for (u64 i = 0; i < k - 1; i++, a += step_a, b += step_b)
        if ((host_load(a, w) == host_load(b, w)) == equal) return i;
    return k - 1;
}
static u64 scan(const u8 *a, s64 step_a, const u8 *b, s64 step_b, unsigned w, bool equal, u64 k)
{
    switch (w) {
    case W8: return scan_each(a, step_a, b, step_b, W8, equal, k);
    case W16: return scan_each(a, step_a, b, step_b, W16, equal, k);
    case W32: return scan_each(a, step_a, b, step_b, W32, equal, k);
    default: return scan_each(a, step_a, b, step_b, W64, equal, k);
    }
}

// SCAS compares RAX with all, so its first operand does not step.
static inline void compare(struct vcpu *v, const struct insn *in, bool scas)
{
    s64 step = step_of(v, in), step_a = scas ? 0 : step;
    bool until_equal = in->rep == 2; // REPNE ends on equal, REPE on unequal
    rep_begin(v, in, BIT(RCX));
    for (;;) {
        u64 count = in->rep ? index_get(v, in, RCX) : 1, k = 1, a = v->s.gpr[RAX], b;
        if (count == 0) return;
        struct operand first = {.host = (u8 *)&v->s.gpr[RAX]}, second;
        destination_read(v, in, &second); // of two that fault, ES:rDI is first (silicon)
        if (!scas) source(v, in, &first);
        if (likely(first.host && second.host)) {
            if (count > 1) {
                k = fit(v, in, SEG_ES, RDI, &second, fit_iterations(v, count));
                if (!scas) {
                    keep(v, &second);
                    k = fit(v, in, in->seg, RSI, &first, k);
                }
                k = 1 + scan(first.host, step_a, second.host, step, in->osz, until_equal, k);
            }
            a = host_load(first.host + (s64)(k - 1) * step_a, in->osz);
            b = host_load(second.host + (s64)(k - 1) * step, in->osz);
        } else {
            b = operand_load(v, in, &second);
            a = operand_load(v, in, &first);
        }
        index_add(v, in, RDI, (s64)k * step);
        if (!scas) index_add(v, in, RSI, (s64)k * step);
        if (in->rep) {
            index_add(v, in, RCX, -(s64)k);
            cpu_charge(v, k);
        }
        if (count == k || (a == b) == until_equal) {
            alu(ALU_CMP, in->osz, a, b, &v->s.fl);
            return;
        }
        exec_rep_pause(v);
    }
}
void op_scas(struct vcpu *v, const struct insn *in) { compare(v, in, true); }
void op_cmps(struct vcpu *v, const struct insn *in) { compare(v, in, false); }

// ---- INS, OUTS: permission first, then the intercept, then the operand ----
static void port_check(struct vcpu *v, const struct insn *in, bool input)
{
    unsigned n = in->osz == W64 ? 4 : W_BYTES(in->osz), seg = input ? SEG_ES : in->seg;
    u16 port = (u16)v->s.gpr[RDX];
    u64 base = mode_long64(v->d.mode) && seg < SEG_FS ? 0 : v->s.seg[seg].base;
    io_permission(v, port, n);
    vmx_intercept_io(v, in, port, n, input, true, in->rep != 0, false,
                     laddr_of(base + index_get(v, in, input ? RDI : RSI)));
}
static void ins_once(struct vcpu *v, const struct insn *in)
{
    unsigned n = in->osz == W64 ? 4 : W_BYTES(in->osz);
    laddr to = seg_linear(v, SEG_ES, index_get(v, in, RDI), n, ACC_WRITE);
    lin_probe_write(v, to, n); // the destination is translated before the port is read
    lin_store(v, to, n, port_in(v, (u16)v->s.gpr[RDX], n));
    index_add(v, in, RDI, v->s.rflags & FL_DF ? -(s64)n : (s64)n);
}
static void outs_once(struct vcpu *v, const struct insn *in)
{
    unsigned n = in->osz == W64 ? 4 : W_BYTES(in->osz);
    u64 x = lin_load(v, seg_linear(v, in->seg, index_get(v, in, RSI), n, ACC_READ), n);
    port_out(v, (u16)v->s.gpr[RDX], n, x);
    index_add(v, in, RSI, v->s.rflags & FL_DF ? -(s64)n : (s64)n);
}
// Permission and the I/O intercept come before the count is looked at: REP INS with a count of 0 faults and
// exits all the same.
static void port_string(struct vcpu *v, const struct insn *in, bool input,
                        void (*once)(struct vcpu *, const struct insn *))
{
    port_check(v, in, input);
    if (!in->rep) {
        once(v, in);
        cpu_charge(v, COST_PORT_STRING);
        return;
    }
    rep_begin(v, in, BIT(RCX));
    for (u64 count; (count = index_get(v, in, RCX)) != 0;) {
        once(v, in);
        index_add(v, in, RCX, -1);
        cpu_charge(v, COST_PORT_STRING);
        if (count != 1) exec_rep_pause(v);
    }
}
void op_ins(struct vcpu *v, const struct insn *in) { port_string(v, in, true, ins_once); }
void op_outs(struct vcpu *v, const struct insn *in) { port_string(v, in, false, outs_once); }

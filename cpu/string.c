// String instructions and their REP forms. Each iteration commits; an interruption leaves the registers at the iteration that
// has not happened, RIP at the instruction. Time: a unit per 16 bytes of MOVS and STOS, per iteration of the others.
// Guest memory is moved by pages where both sides are plain RAM.
#include <string.h>

#include "cpu/alu.h"
#include "cpu/access.h"
#include "cpu/cost.h"
#include "cpu/exec.h"
#include "cpu/system.h"
#include "vmx/intercept.h"


static u64 index_get(const struct vcpu *v, const struct insn *in, unsigned r) { return reg_get(v, GPR_OFF(r), in->asz); }
static void index_add(struct vcpu *v, const struct insn *in, unsigned r, s64 n)
{
    reg_set(v, GPR_OFF(r), in->asz, index_get(v, in, r) + (u64)n);
}
static s64 step_of(const struct vcpu *v, const struct insn *in)
{
    s64 n = W_BYTES(in->osz);
    return v->s.rflags & FL_DF ? -n : n;
}
static laddr source(struct vcpu *v, const struct insn *in) // DS:rSI, DS overridable
{
    return seg_linear(v, in->seg, index_get(v, in, RSI), W_BYTES(in->osz), ACC_READ);
}
static laddr destination(struct vcpu *v, const struct insn *in, u32 acc) // ES:rDI
{
    return seg_linear(v, SEG_ES, index_get(v, in, RDI), W_BYTES(in->osz), acc);
}

// What MOVS, STOS and LODS cost: a unit for each 16-byte boundary that the bytes [a, a+n) reach. The sum does not depend on how
// a REP is cut into chunks, which derived state decides.
static u64 move_cost(laddr a, u64 n) { return (a % 16 + n) / 16; }

// How many elements of n bytes from `a` until the slice's end is reached, for a deadline or the caller's limit: then the
// boundary must look. Stopping there changes nothing that the guest sees.
static u64 fit_time(const struct vcpu *v, laddr a, u64 n)
{
    u64 now = cpu_units(v), left = v->d.units_end > now ? v->d.units_end - now : 0;
    if (left > PAGE_SIZE) return PAGE_SIZE;
    u64 bytes = left * 16 > a % 16 ? left * 16 - a % 16 : 1;
    return (bytes + n - 1) / n;
}

// One iteration at a time: TF and the monitor trap flag trap after each.
static bool stepping(const struct vcpu *v) { return (v->s.rflags & FL_TF) || vmx_single_steps(v); }

// After an iteration (or chunk) with work left: give the boundary its turn? Then come back to this instruction.
static void rep_pause(struct vcpu *v)
{
    struct event e = {.kind = EVENT_RESTART};
    if (v->s.rflags & FL_TF) v->s.pending_dbg |= BIT(14);
    vmx_iteration_done(v);
    if (v->d.attention || stepping(v) || cpu_units(v) >= v->d.units_end) raise_event(v, &e);
}

// How many whole iterations fit before the page ends of `la`, going up (forward only).
static u64 fit(laddr la, u64 n) { return (PAGE_SIZE - (la & ~PAGE_MASK)) / n; }
static u64 min3(u64 a, u64 b, u64 c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }
// The index registers must not wrap inside a chunk, nor leave the segment.
static u64 fit_index(const struct vcpu *v, const struct insn *in, unsigned r, u64 n)
{
    u64 left = in->asz == W64 ? UINT64_MAX : in->asz == W32 ? 0x100000000ull - index_get(v, in, r) : 0x10000 - index_get(v, in, r);
    return left / n;
}
static bool chunks(const struct vcpu *v)
{
    return (v->d.mode & (MODE_FLAT | MODE_AC)) == MODE_FLAT && !(v->s.rflags & FL_DF) && !stepping(v);
}

void op_movs(struct vcpu *v, const struct insn *in)
{
    unsigned n = W_BYTES(in->osz);
    if (!in->rep) {
        laddr from = source(v, in);
        lin_probe_read(v, from, n); // both are translated before the source is read; its faults come first, also its #AC
        laddr to = destination(v, in, ACC_WRITE); // before the destination's segment
        lin_probe_write(v, to, n);
        lin_store(v, to, n, lin_load(v, from, n));
        s64 s = step_of(v, in);
        index_add(v, in, RSI, s);
        index_add(v, in, RDI, s);
        return;
    }
    for (;;) {
        u64 count = index_get(v, in, RCX);
        if (count == 0) return;
        laddr from = source(v, in);
        lin_probe_read(v, from, n);
        laddr to = destination(v, in, ACC_WRITE);
        u64 k = 0;
        if (chunks(v)) {
            u64 a = min3(fit(to, n), fit(from, n), count), b = min3(fit_index(v, in, RSI, n), fit_index(v, in, RDI, n), fit_time(v, to, n));
            k = a < b ? a : b;
        }
        if (k > 1) {
            paddr pt, pf;
            const u8 *f = lin_host(v, from, ACC_READ, &pf);
            u8 *t = lin_host(v, to, ACC_WRITE, &pt);
            u64 bytes = k * n;
            if (t && f && pt > pf && pt < pf + bytes) { // overlap: bytes already written are read again
                u64 gap = (pt - pf) / n;
                if ((pt - pf) % n) gap = 0;
                k = gap < k ? gap : k;
                bytes = k * n;
            }
            if (t && f && k > 0) {
                memmove(t, f, bytes);
                index_add(v, in, RSI, (s64)bytes);
                index_add(v, in, RDI, (s64)bytes);
                index_add(v, in, RCX, -(s64)k);
                cpu_charge(v, move_cost(to, bytes));
                if (count != k) rep_pause(v);
                continue;
            }
        }
        lin_probe_write(v, to, n);
        lin_store(v, to, n, lin_load(v, from, n));
        s64 s = step_of(v, in);
        index_add(v, in, RSI, s);
        index_add(v, in, RDI, s);
        index_add(v, in, RCX, -1);
        cpu_charge(v, move_cost(to, n));
        if (count != 1) rep_pause(v);
    }
}

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
    unsigned n = W_BYTES(in->osz);
    u64 x = reg_get(v, GPR_OFF(RAX), in->osz);
    if (!in->rep) {
        lin_store(v, destination(v, in, ACC_WRITE), n, x);
        index_add(v, in, RDI, step_of(v, in));
        return;
    }
    for (;;) {
        u64 count = index_get(v, in, RCX);
        if (count == 0) return;
        laddr to = destination(v, in, ACC_WRITE);
        u64 k = 0;
        if (chunks(v)) {
            u64 a = min3(fit(to, n), fit_index(v, in, RDI, n), count), b = fit_time(v, to, n);
            k = a < b ? a : b;
        }
        if (k > 1) {
            paddr pa;
            u8 *t = lin_host(v, to, ACC_WRITE, &pa);
            if (t) {
                fill(t, x, in->osz, k);
                index_add(v, in, RDI, (s64)(k * n));
                index_add(v, in, RCX, -(s64)k);
                cpu_charge(v, move_cost(to, k * n));
                if (count != k) rep_pause(v);
                continue;
            }
        }
        lin_store(v, to, n, x);
        index_add(v, in, RDI, step_of(v, in));
        index_add(v, in, RCX, -1);
        cpu_charge(v, move_cost(to, n));
        if (count != 1) rep_pause(v);
    }
}

static void lods_once(struct vcpu *v, const struct insn *in)
{
    u64 x = lin_load(v, source(v, in), W_BYTES(in->osz));
    reg_set(v, GPR_OFF(RAX), in->osz, x);
    index_add(v, in, RSI, step_of(v, in));
}
static bool scas_once(struct vcpu *v, const struct insn *in) // returns ZF
{
    u64 x = lin_load(v, destination(v, in, ACC_READ), W_BYTES(in->osz));
    alu(ALU_CMP, in->osz, reg_get(v, GPR_OFF(RAX), in->osz), x, &v->s.fl);
    index_add(v, in, RDI, step_of(v, in));
    return v->s.fl & F_ZF;
}
static bool cmps_once(struct vcpu *v, const struct insn *in)
{
    unsigned n = W_BYTES(in->osz);
    u64 a = lin_load(v, source(v, in), n), b = lin_load(v, destination(v, in, ACC_READ), n);
    alu(ALU_CMP, in->osz, a, b, &v->s.fl);
    s64 s = step_of(v, in);
    index_add(v, in, RSI, s);
    index_add(v, in, RDI, s);
    return v->s.fl & F_ZF;
}

void op_lods(struct vcpu *v, const struct insn *in)
{
    if (!in->rep) {
        lods_once(v, in);
        return;
    }
    for (u64 count; (count = index_get(v, in, RCX)) != 0;) {
        lods_once(v, in);
        index_add(v, in, RCX, -1);
        cpu_charge(v, 1);
        if (count != 1) rep_pause(v);
    }
}

static void compare(struct vcpu *v, const struct insn *in, bool (*once)(struct vcpu *, const struct insn *))
{
    if (!in->rep) {
        once(v, in);
        return;
    }
    for (u64 count; (count = index_get(v, in, RCX)) != 0;) {
        bool equal = once(v, in);
        index_add(v, in, RCX, -1);
        cpu_charge(v, 1);
        if (equal != (in->rep == 3)) return; // REPE ends on unequal, REPNE on equal
        if (count != 1) rep_pause(v);
    }
}
void op_scas(struct vcpu *v, const struct insn *in) { compare(v, in, scas_once); }
void op_cmps(struct vcpu *v, const struct insn *in) { compare(v, in, cmps_once); }

// ---- INS, OUTS: permission first, then the intercept, then the operand ----
static void port_check(struct vcpu *v, const struct insn *in, bool input)
{
    unsigned n = in->osz == W64 ? 4 : W_BYTES(in->osz), seg = input ? SEG_ES : in->seg;
    u16 port = (u16)v->s.gpr[RDX];
    u64 base = mode_long64(v->d.mode) && seg < SEG_FS ? 0 : v->s.seg[seg].base;
    io_permission(v, port, n);
    vmx_intercept_io(v, in, port, n, input, true, in->rep != 0, false, base + index_get(v, in, input ? RDI : RSI));
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
// Permission and the I/O intercept come before the count is looked at: REP INS with a count of 0 faults and exits all the same.
static void port_string(struct vcpu *v, const struct insn *in, bool input, void (*once)(struct vcpu *, const struct insn *))
{
    port_check(v, in, input);
    if (!in->rep) {
        once(v, in);
        cpu_charge(v, COST_PORT_STRING);
        return;
    }
    for (u64 count; (count = index_get(v, in, RCX)) != 0;) {
        once(v, in);
        index_add(v, in, RCX, -1);
        cpu_charge(v, COST_PORT_STRING);
        if (count != 1) rep_pause(v);
    }
}
void op_ins(struct vcpu *v, const struct insn *in) { port_string(v, in, true, ins_once); }
void op_outs(struct vcpu *v, const struct insn *in) { port_string(v, in, false, outs_once); }

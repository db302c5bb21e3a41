// Memory and operand access for checked bodies: segmentation, translation, spans over two pages, MMIO.
#include <string.h>

#include "cpu/engine/access.h"
#include "cpu/engine/tlbops.h"
#include "cpu/state/trace.h"
#include "cpu/system/debug.h"
#include "cpu/system/stops.h"
#include "cpu/system/system.h"
#include "vmx/intercept.h"

// ---- segmentation ----

u64 insn_ea(const struct vcpu *v, const struct insn *in)
{
    u64 a = REG64(v, in->m) + (REG64(v, in->x) << in->scale) + (u64)(s64)in->disp;
    return in->asz == W64 ? a : in->asz == W32 ? (u32)a : (u16)a;
}

_Noreturn static void segment_fault(struct vcpu *v, unsigned seg)
{
    raise_error(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

static bool limit_ok(const struct segment *s, u64 offset, u64 size)
{
    u64 last = offset + size - 1;
    if ((s->ar & (AR_CODE | AR_EXPAND_DOWN)) == AR_EXPAND_DOWN) { // expand-down data
        u64 top = (s->ar & AR_DB) ? 0xFFFFFFFF : 0xFFFF;
        return offset > s->limit && last <= top;
    }
    return last <= s->limit;
}

laddr seg_linear(struct vcpu *v, unsigned seg, u64 offset, u64 size, u32 acc)
{
    const struct segment *s = &v->s.seg[seg];
    u32 mode = v->d.mode;
    if (mode_long64(mode)) {
        u64 la = seg >= SEG_FS ? s->base + offset : offset;
        unsigned bits = (v->s.cr4 & CR4_LA57) ? 57 : 48;
        if (unlikely(!laddr_canonical(la, bits) || !laddr_canonical(la + size - 1, bits)))
            segment_fault(v, seg);
        return laddr_of(la);
    }
    if (s->ar & AR_UNUSABLE) segment_fault(v, seg); // in real-address mode too, where VM entry makes them so
    bool write = (acc & ACC_KIND) == ACC_WRITE;
    if (s->ar & AR_CODE) {
        if (mode_protected(mode) && (write || !(s->ar & AR_READABLE))) segment_fault(v, seg);
    } else if (write && !(s->ar & AR_WRITABLE))
        segment_fault(v, seg); // in real-address mode what protected mode loaded holds on (SDM 11.9.2)
    if (unlikely(!limit_ok(s, offset, size))) segment_fault(v, seg);
    return laddr_of((u32)(s->base + offset));
}

static inline void check_alignment(struct vcpu *v, laddr la, unsigned size)
{
    if (unlikely(v->d.mode & MODE_AC) && (size & (size - 1)) == 0 && (la.at & (size - 1)))
        raise_error(v, VEC_AC, 0);
}

laddr insn_linear(struct vcpu *v, const struct insn *in, u64 size, u32 acc)
{
    return seg_linear(v, in->seg, insn_ea(v, in), size, acc);
}

u32 acc_current(const struct vcpu *v)
{
    return (v->d.cpl == 3 ? ACC_USER : 0) | (v->s.rflags & FL_AC ? ACC_AC : 0);
}

// ---- spans ----

static inline bool apic_page(const struct vcpu *v, const struct tlb_entry *e)
{
    return mmu_apic_access(&v->d.mmu, e->page << PAGE_SHIFT);
}

// Translates n bytes. True: they are in the APIC-access page, all of them; in two pages of which it is one is
// a VM exit.
RAISES static bool probe(struct vcpu *v, laddr la, unsigned n, u32 acc)
{
    unsigned first = (unsigned)(PAGE_SIZE - (la.at & ~PAGE_MASK));
    bool apic = apic_page(v, tlbops_data(v, la, acc | acc_span(n <= first ? n : first)));
    if (likely(n <= first)) return apic;
    laddr second = linear_plus(v, la, first);
    bool also = apic_page(v, tlbops_data(v, second, acc | acc_span(n - first)));
    if (unlikely(apic || also)) vmx_apic_exit(v, apic ? la : second, acc);
    return false;
}

static void part_load(struct vcpu *v, laddr la, void *buf, unsigned n, u32 acc)
{
    const struct tlb_entry *e = tlbops_data(v, la, acc | ACC_READ);
    paddr pa = e->page << PAGE_SHIFT | (la.at & ~PAGE_MASK);
    if (apic_page(v, e)) {
        vmx_apic_read(v, la, buf, n);
        return;
    }
    if (unlikely(v->d.breaks.read & BREAKS_HOST)) stops_physical_access(v, pa, n, ACC_READ);
    tlbops_fill_fast(v, la, e, acc | ACC_READ);
    const u8 *h = phys_host(v->phys, pa);
    if (likely(h != NULL))
        memcpy(buf, h, n);
    else {
        phys_read(v->phys, v->index, pa, buf, n);
        board_done(v);
    }
}

static void part_store(struct vcpu *v, paddr pa, const void *buf, unsigned n)
{
    u8 *h = phys_host(v->phys, pa);
    if (unlikely(v->d.breaks.write & BREAKS_HOST)) stops_physical_access(v, pa, n, ACC_WRITE);
    if (likely(h && !phys_code_or_watch(v->phys, pa))) {
        phys_mark_dirty(v->phys, pa);
        memcpy(h, buf, n);
        return;
    }
    phys_write(v->phys, v->index, pa, buf, n);
    if (!h) board_done(v);
}

void acc_load_n(struct vcpu *v, laddr la, void *buf, unsigned n, u32 acc)
{
    unsigned first = (unsigned)(PAGE_SIZE - (la.at & ~PAGE_MASK));
    if (unlikely(v->d.breaks.read)) debug_access(v, la, n, ACC_READ);
    if (likely(n <= first)) {
        part_load(v, la, buf, n, acc);
        return;
    }
    laddr second = linear_plus(v, la, first);
    probe(v, la, n, acc | ACC_READ);
    part_load(v, la, buf, first, acc);
    part_load(v, second, (u8 *)buf + first, n - first, acc);
}

void acc_probe(struct vcpu *v, laddr la, unsigned n, u32 acc)
{
    if (probe(v, la, n, acc)) vmx_apic_check(v, la, n, acc);
}

void acc_store_n(struct vcpu *v, laddr la, const void *buf, unsigned n, u32 acc)
{
    unsigned first = (unsigned)(PAGE_SIZE - (la.at & ~PAGE_MASK));
    if (unlikely(v->d.breaks.write)) debug_access(v, la, n, ACC_WRITE);
    const struct tlb_entry *e = tlbops_data(v, la, acc | ACC_WRITE | acc_span(n <= first ? n : first));
    paddr pa = e->page << PAGE_SHIFT | (la.at & ~PAGE_MASK);
    if (likely(n <= first)) {
        if (apic_page(v, e)) {
            vmx_apic_write(v, la, buf, n);
            return;
        }
        tlbops_fill_fast(v, la, e, acc | ACC_WRITE);
        part_store(v, pa, buf, n);
        return;
    }
    if (unlikely(v->d.mmu.apic_access)) probe(v, la, n, acc | ACC_WRITE);
    u32 rest = acc | ACC_WRITE | acc_span(n - first);
    paddr pa2 = tlbops_data(v, linear_plus(v, la, first), rest)->page << PAGE_SHIFT;
    part_store(v, pa, buf, first);
    part_store(v, pa2, (const u8 *)buf + first, n - first);
}

// ---- explicit accesses at the current privilege ----

u64 lin_load(struct vcpu *v, laddr la, unsigned size)
{
    u64 x = 0;
    check_alignment(v, la, size);
    acc_load_n(v, la, &x, size, acc_current(v));
    return x;
}

void lin_store(struct vcpu *v, laddr la, unsigned size, u64 x)
{
    check_alignment(v, la, size);
    acc_store_n(v, la, &x, size, acc_current(v));
}

void lin_align(struct vcpu *v, laddr la, unsigned n) { check_alignment(v, la, n); }
void lin_load_n(struct vcpu *v, laddr la, void *buf, unsigned n)
{
    acc_load_n(v, la, buf, n, acc_current(v));
}
void lin_store_n(struct vcpu *v, laddr la, const void *buf, unsigned n)
{
    acc_store_n(v, la, buf, n, acc_current(v));
}
void lin_probe_write(struct vcpu *v, laddr la, unsigned n)
{
    if (n <= 8) check_alignment(v, la, n);
    acc_probe(v, la, n, acc_current(v) | ACC_WRITE);
}
void lin_touch(struct vcpu *v, laddr la, unsigned n)
{
    if (probe(v, la, n, acc_current(v) | ACC_WRITE)) vmx_apic_exit(v, la, ACC_WRITE);
}
void lin_probe_read(struct vcpu *v, laddr la, unsigned n)
{
    if (n <= 8) check_alignment(v, la, n);
    acc_probe(v, la, n, acc_current(v) | ACC_READ);
}

bool sys_canonical(const struct vcpu *v, laddr la, unsigned size)
{
    return !cpu_lma(v) || (cpu_canonical(v, la.at) && cpu_canonical(v, la.at + size - 1));
}
static void check_system(struct vcpu *v, laddr la, unsigned size)
{
    if (unlikely(!sys_canonical(v, la, size))) raise_gp0(v);
}
u64 sys_load(struct vcpu *v, laddr la, unsigned size)
{
    u64 x = 0;
    check_system(v, la, size);
    acc_load_n(v, la, &x, size, ACC_IMPLICIT);
    return x;
}
void sys_store(struct vcpu *v, laddr la, unsigned size, u64 x)
{
    check_system(v, la, size);
    acc_store_n(v, la, &x, size, ACC_IMPLICIT);
}
void sys_load_n(struct vcpu *v, laddr la, void *buf, unsigned n)
{
    check_system(v, la, n);
    acc_load_n(v, la, buf, n, ACC_IMPLICIT);
}

u8 *lin_host(struct vcpu *v, laddr la, u32 acc, paddr *pa)
{
    const struct tlb_entry *e = tlbops_data(v, la, acc_current(v) | acc);
    *pa = e->page << PAGE_SHIFT | (la.at & ~PAGE_MASK);
    tlbops_fill_fast(v, la, e, acc_current(v) | acc);
    return phys_host(v->phys, *pa);
}

u64 device_load(struct vcpu *v, paddr pa, unsigned size)
{
    u64 x = 0;
    phys_read(v->phys, v->index, pa, &x, size);
    board_done(v);
    return x;
}

void device_store(struct vcpu *v, paddr pa, unsigned size, u64 x)
{
    phys_write(v->phys, v->index, pa, &x, size);
    board_done(v);
}

// ---- read-modify-write ----

u64 rmw_open(struct vcpu *v, laddr la, unsigned size, struct rmw *m)
{
    u64 x = 0;
    check_alignment(v, la, size);
    m->la = la, m->size = size, m->host = NULL;
    bool apic = probe(v, la, size, acc_current(v) | ACC_WRITE);
    acc_load_n(v, la, &x, size, acc_current(v));
    if (unlikely(apic)) vmx_apic_check(v, la, size, ACC_WRITE);
    return x;
}

void rmw_commit(struct vcpu *v, struct rmw *m, u64 x)
{
    acc_store_n(v, m->la, &x, m->size, acc_current(v));
    if (unlikely(v->d.mode & MODE_BUS_LOCK)) vmx_locked_access(v, m->la, m->size);
}

// ---- operands ----

u64 rm_load(struct vcpu *v, const struct insn *in, unsigned w)
{
    if (!in->mem) return reg_get(v, in->m, w);
    return lin_load(v, insn_linear(v, in, W_BYTES(w), ACC_READ), W_BYTES(w));
}

void rm_store(struct vcpu *v, const struct insn *in, unsigned w, u64 x)
{
    if (!in->mem)
        reg_set(v, in->m, w, x);
    else
        lin_store(v, insn_linear(v, in, W_BYTES(w), ACC_WRITE), W_BYTES(w), x);
}

u64 rm_open(struct vcpu *v, const struct insn *in, unsigned w, struct rmw *m)
{
    if (!in->mem) return reg_get(v, in->m, w);
    return rmw_open(v, insn_linear(v, in, W_BYTES(w), ACC_WRITE), W_BYTES(w), m);
}

void rm_commit(struct vcpu *v, const struct insn *in, unsigned w, struct rmw *m, u64 x)
{
    if (!in->mem)
        reg_set(v, in->m, w, x);
    else
        rmw_commit(v, m, x);
}

// ---- stack ----

u64 stack_mask(const struct vcpu *v)
{
    if (mode_long64(v->d.mode)) return UINT64_MAX;
    return (v->d.mode & MODE_STACK32) ? 0xFFFFFFFF : 0xFFFF;
}

void stack_push(struct vcpu *v, unsigned w, u64 x)
{
    u64 m = stack_mask(v);
    unsigned n = W_BYTES(w);
    lin_store(v, seg_linear(v, SEG_SS, (v->s.gpr[RSP] - n) & m, n, ACC_WRITE), n, x);
    stack_add(v, -(s64)n);
}

u64 stack_peek(struct vcpu *v, unsigned w, unsigned offset)
{
    unsigned n = W_BYTES(w);
    return lin_load(v, seg_linear(v, SEG_SS, (v->s.gpr[RSP] + offset) & stack_mask(v), n, ACC_READ), n);
}

// ---- branches ----

bool branch_good(const struct vcpu *v, u64 rip)
{
    if (mode_long64(v->d.mode)) return laddr_canonical(rip, (v->s.cr4 & CR4_LA57) ? 57 : 48);
    return rip <= v->s.seg[SEG_CS].limit;
}
void branch_to(struct vcpu *v, u64 rip)
{
    if (unlikely(!branch_good(v, rip))) raise_gp0(v);
    v->d.npc = rip;
    v->d.branched = true;
}

// ---- board ----

void board_done(struct vcpu *v)
{
    // A device may have moved a deadline to before the end of this slice: the run loop computes the slice
    // anew.
    if (v->clock_next && (*v->clock_next != v->d.slice_deadline || v->stop))
        v->d.leave = v->d.attention = true;
}

static void trace_port(const struct vcpu *v, u16 port, unsigned size, u64 x, bool write)
{
    if (likely(!trace_wants(v, TRACE_IO))) return;
    struct trace_event t;
    trace_begin(v, &t, TRACE_IO);
    t.rip = insn_rip(v, v->d.in);
    t.addr = port, t.size = (u8)size, t.value = x, t.write = write;
    trace_emit(v, &t);
}

u64 port_in(struct vcpu *v, u16 port, unsigned size)
{
    if (unlikely(v->d.breaks.port)) debug_port(v, port, size);
    u64 x = v->board ? v->board->port_read(v->board_opaque, v->index, port, size) : UINT64_MAX;
    board_done(v);
    x = size == 4 ? (u32)x : size == 2 ? (u16)x : (u8)x;
    trace_port(v, port, size, x, false);
    return x;
}

void port_out(struct vcpu *v, u16 port, unsigned size, u64 x)
{
    trace_port(v, port, size, x, true);
    if (unlikely(v->d.breaks.port)) debug_port(v, port, size);
    if (v->board) v->board->port_write(v->board_opaque, v->index, port, size, x);
    board_done(v);
}

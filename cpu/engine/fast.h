// What bodies at speed are made of (cpu/engine/bodies.h): addresses of flat segments, the fast TLB, operands,
// the stack, links.
#ifndef CPU_FAST_H
#define CPU_FAST_H

#include "mmu/invariant.h"
#include "cpu/engine/access.h"
#include "cpu/engine/engine.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define TAIL __attribute__((musttail)) return
#else
#define TAIL return
#endif

// The form of a body that is being made. All of it is constant.
struct how {
    u8 w;      // width of its operands
    u8 form;   // at speed: FORM_REG..FORM_S
    bool nf;   // at speed: its flags are dead
    bool fast; // at speed: goes on or returns false; otherwise checked: may raise
};
// Whether the r/m operand is in memory.
ALWAYS_INLINE bool how_mem(const struct insn *in, struct how h)
{
    return h.fast ? h.form != FORM_REG : in->mem;
}

// ---- effective addresses (flat segments) ----
ALWAYS_INLINE laddr fast_ea(const struct vcpu *v, const struct insn *in, unsigned form)
{
    u64 a = REG64(v, in->m) + (u64)(s64)in->disp;
    if (form == FORM_B) return laddr_of(a);
    a += REG64(v, in->x) << in->scale;
    if (form == FORM_X) return laddr_of(a);
    if (in->asz == W16)
        a = (u16)a;
    else if (in->asz == W32)
        a = (u32)a;
    if (in->seg >= SEG_FS) a += v->s.seg[in->seg].base;
    // with a base, 32-bit addresses are those of code that is not 64-bit
    return laddr_of(in->asz == W64 ? a : (u32)a);
}

// ---- host pointers for an access of `size` bytes, or NULL on a miss (also when it crosses a page) ----
// A hit is no NULL: told to gcc, which then looks at the tag alone. (clang knows a way without, and with this
// word it runs out of registers.)
ALWAYS_INLINE void *fast_hit(const struct fast_entry *f, laddr a)
{
    u8 *p = f->host + a.at;
#if !defined(__clang__)
    if (!p) __builtin_unreachable();
#endif
    return p;
}
ALWAYS_INLINE void *fast_read(const struct vcpu *v, laddr a, unsigned size)
{
    const struct fast_entry *f = &v->d.ft->e[fast_index(a)];
    return likely(f->read == ((a.at + size - 1) & PAGE_MASK)) ? fast_hit(f, a) : NULL;
}
ALWAYS_INLINE void *fast_write(const struct vcpu *v, laddr a, unsigned size)
{
    const struct fast_entry *f = &v->d.ft->e[fast_index(a)];
    return likely(f->write == ((a.at + size - 1) & PAGE_MASK)) ? fast_hit(f, a) : NULL;
}
ALWAYS_INLINE u64 host_load(const void *p, unsigned w)
{
    switch (w) {
    case W8: return *(const u8 *)p;
    case W16: return *(const u16 *)p;
    case W32: return *(const u32 *)p;
    default: return *(const u64 *)p;
    }
}
ALWAYS_INLINE void host_store(void *p, unsigned w, u64 x)
{
    switch (w) {
    case W8: *(u8 *)p = (u8)x; break;
    case W16: *(u16 *)p = (u16)x; break;
    case W32: *(u32 *)p = (u32)x; break;
    default: *(u64 *)p = x; break;
    }
}

// ---- the r/m operand, checked or at speed: false on a miss of the fast path ----
// A source of width w.
ALWAYS_INLINE bool source_rm(struct vcpu *v, const struct insn *in, struct how h, unsigned w, u64 *x)
{
    if (!h.fast) {
        *x = rm_load(v, in, w);
        return true;
    }
    if (h.form == FORM_REG) {
        *x = reg_get(v, in->m, w);
        return true;
    }
    const void *p = fast_read(v, fast_ea(v, in, h.form), W_BYTES(w));
    if (unlikely(!p)) return false;
    *x = host_load(p, w);
    return true;
}
// A destination of width w that is not read.
ALWAYS_INLINE bool store_rm(struct vcpu *v, const struct insn *in, struct how h, unsigned w, u64 x)
{
    if (!h.fast) {
        rm_store(v, in, w, x);
        return true;
    }
    if (h.form == FORM_REG) {
        reg_set(v, in->m, w, x);
        return true;
    }
    void *p = fast_write(v, fast_ea(v, in, h.form), W_BYTES(w));
    if (unlikely(!p)) return false;
    host_store(p, w, x);
    return true;
}
// One that is read and written. target_commit cannot fail.
struct target {
    void *host;
    struct rmw m;
};
ALWAYS_INLINE bool target_open(struct vcpu *v, const struct insn *in, struct how h, struct target *t, u64 *x)
{
    if (!h.fast) {
        *x = rm_open(v, in, h.w, &t->m);
        return true;
    }
    if (h.form == FORM_REG) {
        *x = reg_get(v, in->m, h.w);
        return true;
    }
    t->host = fast_write(v, fast_ea(v, in, h.form), W_BYTES(h.w));
    if (unlikely(!t->host)) return false;
    *x = host_load(t->host, h.w);
    return true;
}
ALWAYS_INLINE void target_commit(struct vcpu *v, const struct insn *in, struct how h, struct target *t, u64 x)
{
    if (!h.fast)
        rm_commit(v, in, h.w, &t->m, x);
    else if (h.form == FORM_REG)
        reg_set(v, in->m, h.w, x);
    else
        host_store(t->host, h.w, x);
}

// ---- the stack. At speed operands of 32 bits are those of flat 32-bit code, whose stack pointer has 32
// bits; all others 64 ----
ALWAYS_INLINE u64 fast_sp(u64 sp, unsigned w) { return w == W32 ? (u32)sp : sp; }
ALWAYS_INLINE bool push_at(struct vcpu *v, struct how h, u64 x)
{
    if (!h.fast) {
        stack_push(v, h.w, x);
        return true;
    }
    u64 sp = fast_sp(v->s.gpr[RSP] - W_BYTES(h.w), h.w);
    void *p = fast_write(v, laddr_of(sp), W_BYTES(h.w));
    if (unlikely(!p)) return false;
    host_store(p, h.w, x);
    v->s.gpr[RSP] = sp;
    return true;
}
ALWAYS_INLINE bool stack_top(struct vcpu *v, struct how h, u64 *x)
{
    if (!h.fast) {
        *x = stack_peek(v, h.w, 0);
        return true;
    }
    const void *p = fast_read(v, laddr_of(fast_sp(v->s.gpr[RSP], h.w)), W_BYTES(h.w));
    if (unlikely(!p)) return false;
    *x = host_load(p, h.w);
    return true;
}
ALWAYS_INLINE void drop_at(struct vcpu *v, struct how h, unsigned n)
{
    if (h.fast)
        v->s.gpr[RSP] = fast_sp(v->s.gpr[RSP] + n, h.w);
    else
        stack_add(v, n);
}

// ---- branches ----
ALWAYS_INLINE bool fetch_gen_good(const struct vcpu *v, u32 gen)
{
    return gen == v->d.fetch_gen || gen == v->d.fetch_gen_global;
}
// the slice cannot hold a block that was charged, or it was dropped; given its first instruction
exec_fn exec_block_over;
// The link behind a direct branch (struct block_end). exec_branch makes the link and goes there,
// when it is not made, was made under another generation, leads to a block that was dropped, or the slice
// cannot hold the block.
ALWAYS_INLINE bool link_good(const struct vcpu *v, const struct insn *in, unsigned k)
{
    const struct block_end *l = insn_end(in);
    return l->gen[k] == GEN_SAME_PAGE || likely(fetch_gen_good(v, l->gen[k]) && l->rip == v->s.rip);
}
exec_fn exec_branch; // runs a branch checked, makes its link, goes there

#endif

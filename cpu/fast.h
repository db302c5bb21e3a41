// Tail-threaded wrappers: how a body runs at speed.
//
// A body is an always-inline function of constants (width, form ...) that returns false if it cannot go on without leaving
// the fast path (a miss of the fast TLB). Nothing may have changed by then. From it come
//   FAST(name, call)   the wrapper: body, then a sibling call to the next instruction; on false a sibling call to exec_slow;
//                      and name_call, which returns what the body does
//   LOOP(name, call)   the same body with the out-of-line accessors, which raise; it never returns false
// A wrapper has no frame: at most four register arguments, no local whose address escapes, every call a sibling call.
#ifndef CPU_FAST_H
#define CPU_FAST_H

#include "mmu/invariant.h"
#include "cpu/access.h"
#include "cpu/engine.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define TAIL __attribute__((musttail)) return
#else
#define TAIL return
#endif

#define NEXT(v, in) TAIL (in)[1].exec(v, (in) + 1)

#define THREADED(name, call)                                                                                           \
    static void name(struct vcpu *v, const struct insn *in)                                                            \
    {                                                                                                                  \
        if (unlikely(!(call))) TAIL exec_slow(v, in);                                                                  \
        NEXT(v, in);                                                                                                   \
    }
// Away from the wrappers: who runs those does not run these.
#define CALLABLE(name, call)                                                                                           \
    __attribute__((section(".text.callable"))) static bool name(struct vcpu *v, const struct insn *in) { return call; }
#define FAST(name, call) THREADED(name, call) CALLABLE(name##_call, call)
#define LOOP(name, call)                                                                                               \
    static void name(struct vcpu *v, const struct insn *in) { (void)(call); }

// ---- effective addresses (flat segments) ----
ALWAYS_INLINE u64 fast_ea(const struct vcpu *v, const struct insn *in, unsigned form)
{
    u64 a = REG64(v, in->m) + (u64)(s64)in->disp;
    if (form == FORM_B) return a;
    a += REG64(v, in->x) << in->scale;
    if (form == FORM_X) return a;
    if (in->asz == W16) a = (u16)a;
    else if (in->asz == W32) a = (u32)a;
    if (in->seg >= SEG_FS) a += v->s.seg[in->seg].base;
    return in->asz == W64 ? a : (u32)a; // with a base, 32-bit addresses are those of code that is not 64-bit
}

// ---- host pointers for an access of `size` bytes, or NULL on a miss (also when it crosses a page) ----
ALWAYS_INLINE void *fast_read(const struct vcpu *v, laddr a, unsigned size)
{
    const struct fast_entry *f = &v->d.ft->e[fast_index(a)];
    return likely(f->read == ((a + size - 1) & PAGE_MASK)) ? f->host + a : NULL;
}
ALWAYS_INLINE void *fast_write(const struct vcpu *v, laddr a, unsigned size)
{
    const struct fast_entry *f = &v->d.ft->e[fast_index(a)];
    return likely(f->write == ((a + size - 1) & PAGE_MASK)) ? f->host + a : NULL;
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

// The r/m operand as a source of width w: false on a miss of the fast path.
ALWAYS_INLINE bool source_rm(struct vcpu *v, const struct insn *in, unsigned form, bool fast, unsigned w, u64 *x)
{
    if (!fast) {
        *x = rm_load(v, in, w);
        return true;
    }
    if (form == FORM_REG) {
        *x = reg_get(v, in->m, w);
        return true;
    }
    const void *p = fast_read(v, fast_ea(v, in, form), W_BYTES(w));
    if (!p) return false;
    *x = host_load(p, w);
    return true;
}

// ---- branches ----
ALWAYS_INLINE bool fetch_gen_good(const struct vcpu *v, u32 gen)
{
    return gen == v->d.fetch_gen || gen == v->d.fetch_gen_global;
}
// Goes to block b at `rip`: charges it, or hands over to the run loop when the slice cannot hold it or it was dropped.
exec_fn exec_block_over; // given the block's first instruction
#define ENTER_BLOCK(v, blk, target)                                                                                    \
    do {                                                                                                               \
        struct block *b_ = (blk);                                                                                      \
        INVARIANT(b_->mode == (v)->d.mode || b_->n_check == BLOCK_DROPPED);                                            \
        (v)->s.rip = (target);                                                                                         \
        (v)->d.budget -= b_->n_check;                                                                                  \
        if (unlikely((v)->d.budget < 0)) TAIL exec_block_over(v, b_->in);                                                  \
        TAIL b_->in[0].exec(v, b_->in);                                                                                \
    } while (0)
// Through the jump cache (RET, indirect branches).
#define ENTER_RIP(v, target)                                                                                           \
    do {                                                                                                               \
        u64 t_ = (target);                                                                                             \
        const struct jump_entry *j_ = &(v)->d.engine->jump[jump_hash(t_)];                                             \
        if (likely(j_->rip == t_ && fetch_gen_good(v, j_->gen))) ENTER_BLOCK(v, j_->b, t_);                           \
        (v)->s.rip = t_;                                                                                               \
        TAIL exec_goto(v, NULL);                                                                                             \
    } while (0)
// Through link slot `k` after a direct branch. exec_link takes over when the link is not made, was made under another generation,
// leads to a block that was dropped, or the slice cannot hold the block.
#define ENTER_LINK(v, in, k, target)                                                                                   \
    do {                                                                                                               \
        const struct link *l_ = (const struct link *)((in) + 1);                                                       \
        if (l_->gen[k] != GEN_SAME_PAGE && unlikely(!fetch_gen_good(v, l_->gen[k]) || l_->rip != (v)->s.rip))          \
            TAIL exec_link_##k(v, in);                                                                             \
        struct block *b_ = l_->b[k];                                                                                   \
        s64 left_ = (v)->d.budget - b_->n_check;                                                                       \
        if (unlikely(left_ < 0)) TAIL exec_link_##k(v, in);                                                        \
        INVARIANT(b_->mode == (v)->d.mode);                                                                            \
        (v)->s.rip = (target);                                                                                         \
        (v)->d.budget = left_;                                                                                         \
        TAIL b_->in[0].exec(v, b_->in);                                                                                \
    } while (0)
// Finds the block of the target (fall through: k = 0; taken: k = 1), stores it in the link, goes there.
exec_fn exec_link_0, exec_link_1;

#endif

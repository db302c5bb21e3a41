// A frame that a gate, a far call or an event pushes: every item is checked and translated before the first
// is stored.
#ifndef CPU_FRAME_H
#define CPU_FRAME_H

#include "cpu/system/system.h"

struct frame {
    const struct segment *ss;
    u64 sp, mask; // stack pointer so far, and its width
    u64 error;    // error code of #SS for a stack that has no room
    u32 acc;      // ACC_WRITE with the privilege of the stack
    u8 w;         // of an item
    u8 n;         // items
    bool long64;
    u64 item[40]; // a 32-bit call gate copies up to 31 parameters
};

// A frame on the present stack of the processor, at its present privilege.
static inline struct frame frame_here(const struct vcpu *v, unsigned w)
{
    return (struct frame){.ss = &v->s.seg[SEG_SS],
                          .sp = v->s.gpr[RSP],
                          .mask = stack_mask(v),
                          .w = (u8)w,
                          .acc = acc_current(v) | ACC_WRITE,
                          .long64 = cpu_long64(v)};
}
static inline void frame_push(struct frame *f, u64 x) { f->item[f->n++] = x; }
// faults as the pushes would; changes nothing
RAISES void frame_prepare(struct vcpu *v, const struct frame *f);
RAISES u64 frame_store(struct vcpu *v, const struct frame *f); // after frame_prepare; the new RSP

#endif

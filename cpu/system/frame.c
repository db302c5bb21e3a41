// Pushing a frame whole: see cpu/system/frame.h.
#include <string.h>

#include "cpu/system/frame.h"

static u64 item_offset(const struct frame *f, unsigned i)
{
    return (f->sp - (u64)(i + 1) * W_BYTES(f->w)) & f->mask;
}

static laddr item_linear(struct vcpu *v, const struct frame *f, unsigned i)
{
    laddr la;
    if (!seg_stack_linear(v, f->ss, f->long64, item_offset(f, i), W_BYTES(f->w), &la))
        raise_error(v, VEC_SS, (u32)f->error);
    return la;
}

void frame_prepare(struct vcpu *v, const struct frame *f)
{
    laddr high = laddr_of(0), low = high; // of the first push and of the last
    bool one_page = true;
    bool aligned = v->d.mode & MODE_AC && f->acc & ACC_USER; // level 3 pushes on its own stack
    for (unsigned i = 0; i < f->n; i++) {
        low = item_linear(v, f, i);
        if (unlikely(aligned)) lin_align(v, low, W_BYTES(f->w));
        if (i == 0) high = low;
        if ((low.at ^ (high.at + W_BYTES(f->w) - 1)) & PAGE_MASK || low.at > high.at) one_page = false;
    }
    if (f->n == 0) return;
    if (one_page) {
        acc_probe(v, high, W_BYTES(f->w), f->acc); // a fault names the first push
        return;
    }
    for (unsigned i = 0; i < f->n; i++) acc_probe(v, item_linear(v, f, i), W_BYTES(f->w), f->acc);
}

u64 frame_store(struct vcpu *v, const struct frame *f)
{
    for (unsigned i = 0; i < f->n; i++)
        acc_store_n(v, item_linear(v, f, i), &f->item[i], W_BYTES(f->w), f->acc);
    u64 sp = f->sp - (u64)f->n * W_BYTES(f->w);
    if (f->mask == 0xFFFFFFFF) return (u32)sp;
    return (f->sp & ~f->mask) | (sp & f->mask);
}

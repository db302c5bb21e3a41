// The x87 state: conversions between its forms, shared by x87.c, x87_env.c and xsave.c.
#ifndef CPU_X87_H
#define CPU_X87_H

#include "cpu/engine/access.h"

enum { FSW_IE = 1, FSW_SF = 0x40, FSW_ES = 0x80, FSW_TOP = 0x3800, FSW_B = 0x8000 };
#define FCW_RESET 0x37F

static inline unsigned x87_top(const struct fpu_state *f) { return f->fsw >> 11 & 7; }
static inline u16 x87_pending(const struct fpu_state *f) // exceptions that are not masked
{
    return f->fsw & ~f->fcw & 0x3F;
}
// ES and B follow from flags and masks; to be called after either changed.
static inline void x87_update_es(struct fpu_state *f)
{
    f->fsw &= (u16) ~(FSW_ES | FSW_B);
    if (x87_pending(f)) f->fsw |= FSW_ES | FSW_B;
}
void x87_init(struct fpu_state *f); // FNINIT; the registers keep their contents
// Of a pending exception that is not masked: #MF, or FERR# and IGNNE#.
RAISES void x87_wait(struct vcpu *v);
void x87_error_gone(struct vcpu *v);
// After ES may have become 0: FERR# falls with it.
static inline void x87_ferr(struct vcpu *v)
{
    if (unlikely(!(v->s.cr0 & CR0_NE)) && !(v->s.fpu.fsw & FSW_ES)) x87_error_gone(v);
}
// full tag word, classes by contents (what FNSTENV and FNSAVE store)
u16 x87_tags(const struct fpu_state *f);
static inline u16 x87_tags_normal(u16 ftw) // as state keeps it: 3 empty, 0 not
{
    u16 empty = ftw & ftw >> 1 & 0x5555;
    return (u16)(empty | empty << 1);
}
// FXSAVE: a bit a physical register, 1 = not empty
static inline u8 x87_tags_abridged(const struct fpu_state *f)
{
    u8 x = 0;
    for (unsigned i = 0; i < 8; i++) x |= (u8)(((f->ftw >> 2 * i & 3) != 3) << i);
    return x;
}
static inline u16 x87_tags_full(u8 abridged)
{
    u16 x = 0;
    for (unsigned i = 0; i < 8; i++) x |= (u16)((abridged >> i & 1 ? 0 : 3) << 2 * i);
    return x;
}

// ---- two ways through an instruction that computes (cpu/instructions/x87.c). `flags`: the arithmetic flags
// in the layout of vcpu_state.fl ---- The short way says false if the long one is needed; then nothing has
// changed. `mem` holds the operand, or receives it.
bool x87_short_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags);
bool x87_short_load(struct fpu_state *f, u8 op, u8 digit, void *mem);
bool x87_short_store(struct fpu_state *f, u8 op, u8 digit, void *mem, u16 *sw); // changes nothing yet:
void x87_short_stored(struct fpu_state *f, u8 digit, u16 sw);                   // when memory has it
void x87_long_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags);
void x87_long_load(struct fpu_state *f, u8 op, u8 digit, void *mem);
// whether there is something to be stored
bool x87_long_store(struct fpu_state *f, u8 op, u8 digit, void *mem);
// The same by cpu/float (cpu/instructions/portable_x87.c), where the host's floating point is not used.
void portable_x87_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags);
void portable_x87_load(struct fpu_state *f, u8 op, u8 digit, const void *mem);
bool portable_x87_store(struct fpu_state *f, u8 op, u8 digit, void *mem);

#endif

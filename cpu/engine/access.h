// Memory and operand access for checked bodies. All of these may unwind.
//
// Order of checks: segment (type, limit, canonical), alignment, then translation. A store of more than one
// page, and every read-modify-write, translates all it will touch for writing before anything changes.
#ifndef CPU_ACCESS_H
#define CPU_ACCESS_H

#include "cpu/engine/insn.h"
#include "cpu/state/mode.h"

// ---- effective address of the instruction's memory operand ----
u64 insn_ea(const struct vcpu *v, const struct insn *in); // offset in its segment, address-size mask applied
// Offset -> linear with segment checks for an access of `size` bytes (ACC_READ or ACC_WRITE). #GP or #SS.
RAISES laddr seg_linear(struct vcpu *v, unsigned seg, u64 offset, u64 size, u32 acc);
// Both at once for the instruction's memory operand.
// Behind another address, and where the system structures are: outside IA-32e mode they wrap at 4 GiB.
static inline laddr linear_at(const struct vcpu *v, u64 at) { return laddr_of(cpu_lma(v) ? at : (u32)at); }
static inline laddr linear_plus(const struct vcpu *v, laddr la, u64 n) { return linear_at(v, la.at + n); }
RAISES laddr insn_linear(struct vcpu *v, const struct insn *in, u64 size, u32 acc);

// ---- linear memory, with the privilege of the current CPL (explicit accesses) ----
RAISES u64 lin_load(struct vcpu *v, laddr la, unsigned size); // 1, 2, 4, 8; zero-extended
RAISES void lin_store(struct vcpu *v, laddr la, unsigned size, u64 value);
// #AC if alignment is checked and la is no multiple of n
RAISES void lin_align(struct vcpu *v, laddr la, unsigned n);
RAISES void lin_load_n(struct vcpu *v, laddr la, void *buf, unsigned n); // n <= 4096
RAISES void lin_store_n(struct vcpu *v, laddr la, const void *buf, unsigned n);
// faults exactly as a store of n bytes would; changes nothing
RAISES void lin_probe_write(struct vcpu *v, laddr la, unsigned n);
// ENTER's, of memory that it does not write: in the APIC-access page it always exits
RAISES void lin_touch(struct vcpu *v, laddr la, unsigned n);
RAISES void lin_probe_read(struct vcpu *v, laddr la, unsigned n);
// ---- implicit supervisor accesses: descriptor tables, TSS, IDT ----
// In IA-32e mode an address that is not canonical is #GP(0) of the three below, if its caller has not asked
// before.
bool sys_canonical(const struct vcpu *v, laddr la, unsigned size);
RAISES u64 sys_load(struct vcpu *v, laddr la, unsigned size);
RAISES void sys_store(struct vcpu *v, laddr la, unsigned size, u64 value);
RAISES void sys_load_n(struct vcpu *v, laddr la, void *buf, unsigned n);
// ---- with an explicit ACC_* word, e.g. a gate that pushes with the new CPL ----
RAISES void acc_load_n(struct vcpu *v, laddr la, void *buf, unsigned n, u32 acc);
RAISES void acc_store_n(struct vcpu *v, laddr la, const void *buf, unsigned n, u32 acc);
RAISES void acc_probe(struct vcpu *v, laddr la, unsigned n, u32 acc);
u32 acc_current(const struct vcpu *v); // ACC_USER and ACC_AC of the present CPL and EFLAGS

// One translation: host pointer to RAM valid to the end of the 4 KiB page, or NULL where there is none; *pa
// receives the physical address (which the caller holds against the APIC-access page). Before a store through
// the pointer: phys_changing. For REP by pages.
RAISES u8 *lin_host(struct vcpu *v, laddr la, u32 acc, paddr *pa);
// at a translated address that is no RAM, within a page
u64 device_load(struct vcpu *v, paddr pa, unsigned size);
void device_store(struct vcpu *v, paddr pa, unsigned size, u64 x);

// ---- read-modify-write of a memory operand up to 8 bytes (or 16) ----
// clang-format off
struct rmw { laddr la; unsigned size; u8 *host; }; // host: direct pointer, or NULL
// clang-format on
RAISES u64 rmw_open(struct vcpu *v, laddr la, unsigned size, struct rmw *m);
void rmw_commit(struct vcpu *v, struct rmw *m, u64 value); // cannot fault

// ---- operands of the instruction ----
static inline u64 reg_get(const struct vcpu *v, u8 off, unsigned w)
{
    switch (w) {
    case W8: return REG8(v, off);
    case W16: return REG16(v, off);
    case W32: return REG32(v, off);
    default: return REG64(v, off);
    }
}
static inline void reg_set(struct vcpu *v, u8 off, unsigned w, u64 x) // a 32-bit write clears the upper half
{
    switch (w) {
    case W8: REG8(v, off) = (u8)x; break;
    case W16: REG16(v, off) = (u16)x; break;
    case W32: REG64(v, off) = (u32)x; break;
    default: REG64(v, off) = x; break;
    }
}
RAISES u64 rm_load(struct vcpu *v, const struct insn *in, unsigned w); // GPR or memory
RAISES void rm_store(struct vcpu *v, const struct insn *in, unsigned w, u64 x);
// read-modify-write of r/m
RAISES u64 rm_open(struct vcpu *v, const struct insn *in, unsigned w, struct rmw *m);
void rm_commit(struct vcpu *v, const struct insn *in, unsigned w, struct rmw *m, u64 x);

// ---- the stack, in the width of the stack segment ----
u64 stack_mask(const struct vcpu *v);                               // of RSP
RAISES void stack_push(struct vcpu *v, unsigned w, u64 x);          // commits RSP after the store
RAISES u64 stack_peek(struct vcpu *v, unsigned w, unsigned offset); // at RSP + offset
static inline void stack_add(struct vcpu *v, s64 n)
{
    u64 m = stack_mask(v), sp = v->s.gpr[RSP];
    u64 r = (sp & ~m) | ((sp + (u64)n) & m);
    v->s.gpr[RSP] = m == 0xFFFFFFFF ? (u32)r : r;
}

// ---- branches from checked bodies: checks the target (canonical, CS limit: #GP(0)), then sets d.npc ----
static inline laddr rip_linear(const struct vcpu *v) // of s.rip
{
    return laddr_of(mode_long64(v->d.mode) ? v->s.rip : (u32)(v->s.seg[SEG_CS].base + v->s.rip));
}
bool branch_good(const struct vcpu *v, u64 rip); // the check alone
RAISES void branch_to(struct vcpu *v, u64 rip);

// ---- board ----
void board_done(struct vcpu *v);                      // after it: a new deadline or request ends the block
u64 port_in(struct vcpu *v, u16 port, unsigned size); // no permission checks
void port_out(struct vcpu *v, u16 port, unsigned size, u64 value);

#endif

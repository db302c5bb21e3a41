// What a debugger looks at: a processor as it stands, or the level behind it that a VMCS holds.
#ifndef FRONTEND_VIEW_H
#define FRONTEND_VIEW_H

#include "cpu/state/vcpu.h"

enum view_level {
    LEVEL_HERE,
    LEVEL_ROOT, // of a VMCS's host area: what the next VM exit goes back to
    LEVEL_GUEST // of a VMCS's guest area: what the next VM entry goes on with
};

struct view {
    struct vcpu *v;
    u8 level; // enum view_level
    paddr vmcs;
    // A VMCS holds RSP alone. Behind a guest the others are the guest's as they are, since a VM exit leaves
    // them; behind a handler they are where it has saved them: not known.
    u32 gpr_known; // a bit a register
    u64 gpr[16], rip, rflags, cr0, cr2, cr3, cr4, efer, dr7;
    bool cr2_known;
    struct segment seg[SEG_COUNT];
    struct dtable gdtr, idtr;
    struct mmu_ctx mmu;
};

void view_here(struct view *w, struct vcpu *v);
// Of the VMCS at this address. False: there is none; *why says so.
bool view_root(struct view *w, struct vcpu *v, paddr vmcs, const char **why);
bool view_guest(struct view *w, struct vcpu *v, paddr vmcs, const char **why);

// Memory by linear address, as the supervisor has it and with no consequences; how many bytes from the first
// on are there. (Who writes: debugger_write.)
size_t view_read(const struct view *w, laddr la, u8 *to, size_t n);
// By physical address.
size_t view_physical_read(const struct view *w, paddr pa, u8 *to, size_t n);
// How many of n bytes from a linear address on lie in one page of memory, and where; 0: none is there.
size_t view_place(const struct view *w, laddr la, size_t n, paddr *pa);

#endif

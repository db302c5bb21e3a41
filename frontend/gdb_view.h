// What a debugger looks at: a processor as it stands, or the level behind it that a VMCS holds.
#ifndef FRONTEND_GDB_VIEW_H
#define FRONTEND_GDB_VIEW_H

#include "cpu/state/vcpu.h"

enum gdb_level {
    LEVEL_HERE,
    LEVEL_ROOT, // of a VMCS's host area: what the next VM exit goes back to
    LEVEL_GUEST // of a VMCS's guest area: what the next VM entry goes on with
};

struct gdb_view {
    struct vcpu *v;
    u8 level; // enum gdb_level
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

void gdb_view_here(struct gdb_view *w, struct vcpu *v);
// Of the VMCS at this address. False: there is none; *why says so.
bool gdb_view_root(struct gdb_view *w, struct vcpu *v, paddr vmcs, const char **why);
bool gdb_view_guest(struct gdb_view *w, struct vcpu *v, paddr vmcs, const char **why);

// Memory by linear address, as the supervisor has it and with no consequences; how many bytes from the first
// on are there. Writes change what is there whatever its rights.
size_t gdb_view_read(const struct gdb_view *w, laddr la, u8 *to, size_t n);
size_t gdb_view_write(const struct gdb_view *w, laddr la, const u8 *from, size_t n);
// By physical address.
size_t gdb_physical_read(const struct gdb_view *w, paddr pa, u8 *to, size_t n);
size_t gdb_physical_write(const struct gdb_view *w, paddr pa, const u8 *from, size_t n);

#endif

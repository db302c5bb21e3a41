// The registers as gdb and LLDB see them: one layout for every mode of the processor, described to them in
// XML. Numbers are places in the table.
#ifndef FRONTEND_GDB_REGISTERS_H
#define FRONTEND_GDB_REGISTERS_H

#include "devices/journal.h"
#include "frontend/view.h"

#define GDB_REGISTER_BYTES 16 // the longest
#define GDB_REGISTER_RIP   16 // its number

struct gdb_register {
    const char *name, *type, *feature, *group;
    u8 kind, bytes;
    u16 n; // which of its kind
};
struct gdb_registers {
    struct gdb_register row[512];
    unsigned n;
    char *xml; // the target description
    size_t xml_size;
};

// Those that this processor has: a VMCS field is one if its controls may be set.
bool gdb_registers_make(struct gdb_registers *r, const struct vcpu *v);
void gdb_registers_free(struct gdb_registers *r);
// False: not known at this level, or there is no VMCS.
bool gdb_register_read(const struct gdb_registers *r, const struct view *w, unsigned n, u8 *to);
// JOURNAL_REGISTER, of the processor as it stands. False, and nothing has changed: there is no such register,
// or it cannot have that value.
bool gdb_register_put(const struct gdb_registers *r, struct vcpu *v, const struct journal_event *e);

#endif

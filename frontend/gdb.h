// -gdb: a debugger on a line, between the slices of the run loop.
#ifndef FRONTEND_GDB_H
#define FRONTEND_GDB_H

#include "devices/journal.h"

struct gdb;
// Listens. `restart` loads the images again after a reset in the machine's past (history.restart). `held`:
// the machine waits for somebody to let it go (-S). NULL, with a line for the user.
struct gdb *gdb_open(struct journal *j, bool (*restart)(void *opaque), void *opaque, const char *where,
                     bool held, char *why, size_t n);
// After a slice ended so: tells the client, answers it, and waits as long as it lets the machine stand or
// `over` says that this is the end of it. False: the client ended the machine.
bool gdb_attend(struct gdb *g, enum machine_end end, bool (*over)(void *opaque), void *opaque);
void gdb_close(struct gdb *g, int status);

#endif

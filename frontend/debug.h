// Who watches and commands a run, between the slices of the run loop: gdb's client (-gdb), monitors
// (-monitor), the terminal's (Ctrl-A c).
#ifndef FRONTEND_DEBUG_H
#define FRONTEND_DEBUG_H

#include "devices/journal.h"
#include "frontend/options.h"
#include "frontend/retrace.h"
#include "frontend/symbols.h"
#include "frontend/terminal.h"

struct debug;
struct debug_config {
    const struct options *o;
    struct journal *journal;
    const struct symbols *symbols;
    const struct last_events *last; // that somebody keeps; NULL
    struct terminal *terminal;
    bool (*restart)(
        void *opaque); // loads the images again after a reset in the machine's past (history.restart)
    bool (*over)(void *opaque); // whoever waits is to give up
    void *opaque;
};
// Listens. With -S the machine waits for somebody to let it go. NULL, with a line for the user.
struct debug *debug_open(const struct debug_config *c, char *why, size_t n);
// After a slice ended so: tells those who are there, answers them, and waits as long as they let the machine
// stand. False: one of them ends the run. *end becomes MACHINE_RUN where the machine was taken to another
// instant.
bool debug_attend(struct debug *d, enum machine_end *end);
// The run would end, for this reason. True: somebody is at a prompt, where it stands now.
bool debug_holds(struct debug *d, const char *why);
// What led to where the machine is, if its history is kept (somebody is there, or --last-events). False: not
// known.
bool debug_retrace(struct debug *d, struct retrace *r);
void debug_close(struct debug *d, int status);

#endif

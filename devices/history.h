// The machine's own past: checkpoints in memory, from which any instant since the first of them is reached
// again, by running from the nearest one before it with what came from outside (devices/journal.h).
//
// A checkpoint is a copy of all plain state but RAM, and a note of the pages that changed since the one
// before. A page is copied when it is about to be written again, so what is filled once is never copied. The
// older the checkpoints are, the fewer are kept; so a step back is quick near the present and possible to the
// beginning. Going somewhere leaves a few on the way, ever nearer to where it goes: the next step back has
// not far to run. An instant is a count of instructions (journal_retired).
#ifndef DEVICES_HISTORY_H
#define DEVICES_HISTORY_H

#include "devices/journal.h"
#include "devices/pool.h"

#define HISTORY_DEFAULT (1ull << 30) // bytes
#define HISTORY_EVERY   30000000ull  // instructions between two checkpoints

struct history_checkpoint;
struct history {
    struct machine *m;
    struct journal *journal;
    u64 limit;    // bytes; from there on checkpoints are thinned out to stay below
    u64 every;    // instructions
    u64 used;     // bytes
    u64 copied;   // pages
    u64 inserted; // checkpoints between others
    u64 thinned;  // checkpoints given up
    u64 replayed; // instructions run again
    bool lost;    // the host had no memory for a copy: it begins anew, at the next look
    // called when a run in the past comes to a reset: resets the machine and loads its images again, as the
    // frontend did. False: it cannot.
    bool (*restart)(void *opaque);
    void *restart_opaque;
    bool restarting; // it is under way,
    u64 restarts_at; // at this instant
    // in the order of their instants
    struct history_checkpoint *first, *last, *base; // RAM is that of `base`, but for pages written since
    struct page_version **page;                     // a page's contents, newest checkpoint first
    u64 *in_ram;                  // bitmap, a bit a page: RAM itself holds its newest version yet (phys.keep)
    struct pool versions, copies; // where versions and the pages' copies are
};

// Takes the first checkpoint, now. False: the host has no memory.
bool history_begin(struct history *h, struct journal *j, u64 limit);
void history_forget(struct history *h);
// Between runs, whenever it suits: takes a checkpoint if it is time for one. Memory for copies is counted
// when they are made, and held below the limit here.
void history_look(struct history *h);
// A checkpoint of this instant, if there is none yet.
bool history_checkpoint(struct history *h);
// The first instant that can be reached.
u64 history_begins(const struct history *h);
// Takes the machine to the boundary at which `retired` instructions have been retired, into the past or
// forwards to where the journal ends. With several processors or a REP the boundary is the first at which
// it is so. False: it lies before the beginning or cannot be reached (the machine then is where its run
// ends), or `*stop` became true meanwhile.
bool history_goto(struct history *h, u64 retired, const volatile sig_atomic_t *stop);
// Forwards to there through every instruction, where history_goto takes the shortest way.
bool history_run_to(struct history *h, u64 retired, const volatile sig_atomic_t *stop);
// Whoever has changed the machine's state by hand: the run goes another way from here, and what was later is
// forgotten.
bool history_changed(struct history *h);

#endif

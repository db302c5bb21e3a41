// What comes to a machine from outside, with the instant at which it came: enough to run the same run again.
// A run is a function of its beginning and of this: bytes on serial lines, the power and the reset button,
// whether more input may come, how much of an idle time passed, and what a debugger writes by hand. Resets
// follow from the run itself.
//
// A journal stands between the frontend and machine_run: whoever has one runs the machine by journal_run and
// brings input by journal_serial and the like, never past it. It is live from its horizon on, the latest
// instant that the run has seen: what comes is applied, and kept if asked for. Before that it replays: what
// is kept is applied at its instant, and what comes is not taken.
//
// An instant is the units that the processors have used since the machine's first start, and the number of
// idle times since then: no two things that a guest could tell apart have the same.
#ifndef DEVICES_JOURNAL_H
#define DEVICES_JOURNAL_H

#include "devices/machine.h"

// clang-format off
enum journal_kind {
    JOURNAL_SERIAL,     // `n` bytes, in `value`, on line `line`
    JOURNAL_INPUT_OPEN, // machine.input_open = value
    JOURNAL_POWER,      // the power button
    JOURNAL_IDLE,       // of this idle time no more than `value` ticks passed
    JOURNAL_RESET,      // the reset button
    JOURNAL_MEMORY,     // by hand: `n` bytes, in `value`, are put at physical address `at`; by processor `line`
    JOURNAL_REGISTER,   // by hand: bytes `first` to `first + n` of register `at` of processor `line`
    JOURNAL_KINDS,
};
// clang-format on

STATE_BEGIN
struct journal_event {
    u64 units, idles; // its instant
    u64 value, at;
    u8 kind, line, n;
    bool in_idle; // it came within that idle time, not between two runs
    u8 first, pad[3];
};
struct journal_place {  // where a run is: what a checkpoint keeps besides the machine's state
    u64 units, retired; // used up before the last reset
    u64 idles, event;   // idle times so far; events so far
};
STATE_END

struct journal {
    struct machine *m;
    struct journal_place at;
    struct journal_event *event;
    u64 events, room;
    u64 horizon_units, horizon_idles; // live from this instant on
    u64 seen_units, seen_idles;       // the latest instant that this run has been at, by journal_seen
    bool again;                       // what runs lies before that
    bool in_idle;
    bool keeps; // what comes is kept
    bool bad;   // what was to be replayed does not fit this run: an instant never came
    bool full;  // the host had no memory for more: the run goes on, the journal is not whole
    // the frontend's: how much of an idle time passes, while live; may bring input
    u64 (*idle)(void *opaque, u64 ticks);
    void *idle_opaque;
    // the frontend's: JOURNAL_REGISTER. False: it cannot have that value.
    bool (*put_register)(void *opaque, const struct journal_event *e);
    void *register_opaque;
};

// The machine's idle hook becomes the journal's; the one that it had is asked while live.
void journal_begin(struct journal *j, struct machine *m);
void journal_free(struct journal *j); // the machine's hook is as it was before
bool journal_live(const struct journal *j);
// What runs now has run before (the history is there to look at): what comes out of it has come out already.
static inline bool journal_again(const struct journal *j) { return j->again; }
// The horizon is no nearer than this instant, and what lies before it is journal_again's.
void journal_seen(struct journal *j);
// Events to replay, from the beginning, and the horizon, up to which nothing else came. False if they cannot
// be of a run (order, kinds, sizes) or there is no memory; nothing has changed then.
bool journal_load(struct journal *j, const struct journal_event *event, u64 n, u64 units, u64 idles);
// As machine_run. While it replays it ends no later than at the instant of the next event, and where it
// becomes live.
enum machine_end journal_run(struct journal *j, u64 units);
// The machine was reset and its images loaded again; counts like an instruction, so that a loop of resets
// gets somewhere.
void journal_restarted(struct journal *j, u64 units, u64 retired);
// All instructions since the first start.
u64 journal_retired(const struct journal *j);
u64 journal_units(const struct journal *j);

// From outside. While it replays they do nothing.
void journal_serial(struct journal *j, unsigned line, const u8 *bytes, u32 n);
void journal_input_open(struct journal *j, u32 lines);
void journal_power_button(struct journal *j);
void journal_reset_button(struct journal *j); // the next run ends with MACHINE_RESET
// JOURNAL_MEMORY and JOURNAL_REGISTER, in the past too: the run goes another way from here, so that what was
// kept of later is no more. False: it cannot be, and nothing has changed.
bool journal_by_hand(struct journal *j, struct journal_event e);
// What was kept and is later than now is no more: the run goes another way from here.
void journal_cut(struct journal *j);

#endif

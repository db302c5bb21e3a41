// A machine under a debugger: where it is to stop, whether it stands, what is looked at, and its past.
// Whoever commands it (gdb's client, the terminal, a socket) does so here, so all of them see the same
// machine.
#ifndef FRONTEND_DEBUGGER_H
#define FRONTEND_DEBUGGER_H

#include "cpu/system/stops.h"
#include "devices/history.h"
#include "frontend/breaks.h"
#include "frontend/retrace.h"
#include "frontend/symbols.h"
#include "frontend/view.h"
#include "vmx/vmcs.h"

#define DEBUGGER_STOPS_MAX  256
#define DEBUGGER_LIMITS_MAX 64
#define DEBUGGER_TYPE_OWN   5 // of a stop: a command's, not one of gdb's Z0-Z4
#define DEBUGGER_TYPE_BREAK 6 // of one of the breakpoints below

// What the machine runs to when it goes on, besides breakpoints.
enum debugger_plan {
    PLAN_NONE,
    PLAN_ENTRY,  // the next VM entry
    PLAN_EXIT,   // the next VM exit, of one reason or any
    PLAN_NEXT_1, // a VM exit, and
    PLAN_NEXT_2  // the VM entry after it
};

struct debugger_limit { // of code and access stops at this address
    u64 at;
    u8 level; // STOP_*
    u64 vmcs;
};

struct debugger_found { // the latest stop before an instant, while the machine's past is run through for it
    bool searching, any;
    bool events;        // VM entries and exits are looked for, not accesses and instructions
    u64 met_n, at;      // events so far in the window; that of the latest one, from 1
    u64 arriving;       // no search: the machine stops at this one
    u64 before, count;  // the instant to search to; that of the stop
    const char *writer; // who wrote, where it was no instruction; NULL: an instruction
    struct cpu_stop_met met;
};

struct debugger {
    struct machine *m;
    struct journal *journal;        // NULL: no history, and nothing is written by hand
    const struct symbols *symbols;  // NULL: none
    const struct last_events *last; // that somebody keeps; NULL: nobody does
    struct history history;
    u64 history_limit;                                                      // bytes; 0: none is kept
    bool keeps;                                                             // it is
    bool keeps_always;                                                      // though nobody is there
    bool journal_kept;                                                      // by somebody else, before
    const volatile sig_atomic_t *give_up;                                   // NULL: never
    bool (*save)(struct journal *j, const char *path, char *why, size_t n); // state_file_save

    unsigned users;    // who are there
    bool client_holds; // gdb's client has stopped the machine: it alone lets it go
    bool running;
    bool moved;           // to another instant: what ended the last slice is no more
    bool held;            // it stands from the start, until somebody lets it go
    unsigned cpu;         // that registers and memory are of
    unsigned stopped_cpu; // that stopped last
    struct view view;
    u64 stood;     // how often it has come to a stand
    u8 signal;     // why, as gdb has it
    char why[256]; // and in a line; empty: a step, or somebody asked
    bool badly;    // where it should not: what led there is told too

    struct cpu_stops stops;
    struct cpu_stop list[DEBUGGER_STOPS_MAX];
    u8 type[DEBUGGER_STOPS_MAX]; // of Z, or DEBUGGER_TYPE_OWN
    struct debugger_limit limit[DEBUGGER_LIMITS_MAX];
    unsigned limits;
    bool entries, failures; // what is stopped at always
    u64 exits[2];
    u8 plan; // enum debugger_plan
    u64 plan_exits[2];
    unsigned plan_cpu; // whose entry or exit it is,
    bool plan_all;     // or any processor's
    bool plan_one;     // or this one's, whichever goes on
    u64 steps;         // that are left, with the one under way
    struct {           // the VMCS as it was after the latest VM entry that was heard of
        bool any;
        u64 vmcs, retired;
        struct vmcs_fields f;
    } entered;
    bool keeps_entries; // entries are listened to for it
    struct breaks breaks;
    int broke; // which of them it stands at; -1: none
    struct debugger_found found;
    struct { // the write before which debugger_back_to_write left the machine, and the instant of that place
        paddr at;
        u64 size, count, n, units, event;
    } wrote;
    struct trace trace; // for processors that nobody else listens to
};

// Of a machine that is not running; `d` is zeroed. No history and no symbols unless they are set.
void debugger_make(struct debugger *d, struct machine *m);
// Somebody is there: from the first on the machine can be stopped, and its history is kept. Gone: with the
// last one, nothing of it is left.
void debugger_attach(struct debugger *d);
void debugger_gone(struct debugger *d);
// Its history is kept from now on, whoever comes and goes. False: it is not (-history off, no memory).
bool debugger_keep(struct debugger *d);
void debugger_forget(struct debugger *d); // no longer

// Between slices. The machine stands still, on this processor.
void debugger_stand(struct debugger *d, unsigned cpu, u8 signal, const char *why);
void debugger_interrupt(struct debugger *d); // if it runs: stands
// On from here; with `step`, by one instruction of that processor.
void debugger_go_on(struct debugger *d, unsigned cpu, bool step);
// machine_run returned MACHINE_STOPPED. If it is a stop that somebody waits for, the machine stands.
void debugger_stopped(struct debugger *d);
// A processor shut down, or all are halted for ever; as MACHINE_SHUTDOWN and MACHINE_IDLE say.
void debugger_trouble(struct debugger *d, const char *text);

struct vcpu *debugger_cpu(const struct debugger *d);
void debugger_look(struct debugger *d); // the view: of d->cpu as it stands
void debugger_level_name(const struct debugger *d, unsigned cpu, char *to, size_t n);
struct symbols_of debugger_symbols_of(const struct view *w); // whose addresses are those of the view

bool debugger_add_stop(struct debugger *d, u8 type, u8 on, u64 at, u64 size, bool physical);
void debugger_remove_stops(struct debugger *d, u8 type, u64 at, u64 size); // size 0: all of this type
void debugger_remove_type(struct debugger *d, u8 type);                    // while it runs, too

// After breakpoints were set or taken away, while it runs, too. False: there are too many stops; not all are
// set.
bool debugger_breaks_changed(struct debugger *d);

// ---- the past ----
// What led to where it stands. False: not known, for there is no history.
bool debugger_retrace(struct debugger *d, struct retrace *r);
// By hand: memory that is looked at, by linear or physical address, whatever its rights; how many bytes from
// the first on are there. And bytes of a register by its number among gdb's. The run goes another way from
// here, which its journal has. False: it cannot be, and nothing has changed.
size_t debugger_write(struct debugger *d, bool physical, u64 at, const u8 *from, size_t n);
bool debugger_write_register(struct debugger *d, unsigned cpu, unsigned number, const u8 *from, unsigned n);
u64 debugger_now(const struct debugger *d); // instructions retired by all processors
// To an instant, which is looked at then. False: it cannot be.
bool debugger_goto(struct debugger *d, u64 count);
// Back by an instruction, or to the latest stop before now. False: no history is kept; the machine is at the
// beginning of it, or (no such instant can be reached) where it was.
bool debugger_step_back(struct debugger *d);
bool debugger_continue_back(struct debugger *d);
// To the latest VM entry, or VM exit for one of these reasons (NULL: VM entries), before now: to where it is
// stopped at.
bool debugger_back_to_event(struct debugger *d, const u64 exits[2]);
// To before one of these bytes of physical memory was written last, in one page of RAM: by an instruction, or
// by whom d->found.writer names.
bool debugger_back_to_write(struct debugger *d, paddr at, u64 size);

// ---- between its files ----
void debugger_listen(struct debugger *d);
void debugger_found_stop(struct debugger *d); // at a stop, while searching
bool debugger_run_past(struct debugger *d); // on to the next stop that lies in the past; false: there is none

#endif

// gdb's remote protocol for a machine: bytes in, bytes out, and what becomes of the machine in between.
#ifndef FRONTEND_GDB_SERVER_H
#define FRONTEND_GDB_SERVER_H

#include "cpu/system/stops.h"
#include "devices/machine.h"
#include "frontend/gdb_packet.h"
#include "frontend/gdb_registers.h"
#include "frontend/gdb_view.h"

#define GDB_STOPS_MAX  256
#define GDB_LIMITS_MAX 64
#define GDB_TYPE_OWN   5 // of a stop: the monitor's, not one of Z0-Z4

// What the next continue runs to, besides breakpoints.
enum gdb_plan {
    PLAN_NONE,
    PLAN_ENTRY,  // the next VM entry
    PLAN_EXIT,   // the next VM exit, of one reason or any
    PLAN_NEXT_1, // a VM exit, and
    PLAN_NEXT_2  // the VM entry after it
};

struct gdb_limit { // of code and access stops at this address
    u64 at;
    u8 level; // STOP_*
    u64 vmcs;
};

// The seam to the machine's history, for who has one: reverse execution is made of it.
struct gdb_history {
    void *opaque;
    u64 (*begin)(void *opaque);          // the first count that can be gone to
    u64 (*now)(void *opaque);            // instructions retired by all processors
    bool (*go)(void *opaque, u64 count); // there; false: it cannot be
    bool (*run)(void *opaque);           // on from here to the next stop; false: there is none
    void (*changed)(void *opaque);       // the client has changed the machine by hand
};
struct gdb_found { // the latest stop before an instant, while the machine's past is run through for it
    bool searching, any;
    u64 before, count; // the instant to search to; that of the stop
    struct cpu_stop_met met;
};

struct gdb_server {
    struct machine *m;
    void (*put)(void *opaque, const u8 *bytes, size_t n);
    void *opaque;
    const struct gdb_history *history; // NULL: none
    struct gdb_found found;
    struct gdb_parser parser;
    struct gdb_registers registers;
    struct gdb_reply reply;
    u8 frame[GDB_FRAME_MAX];
    bool attached; // somebody is there
    bool running;  // the client waits for a stop
    bool no_ack, physical, killed;
    unsigned cpu;         // that registers and memory are of
    unsigned stopped_cpu; // that stopped last
    struct gdb_view view;

    struct cpu_stops stops;
    struct cpu_stop list[GDB_STOPS_MAX];
    u8 type[GDB_STOPS_MAX]; // of Z, or GDB_TYPE_OWN
    struct gdb_limit limit[GDB_LIMITS_MAX];
    unsigned limits;
    // What the monitor was asked to stop at always.
    bool entries, failures;
    u64 exits[2];
    u8 plan; // enum gdb_plan
    u64 plan_exits[2];
    unsigned plan_cpu;
    struct trace trace; // for processors that nobody else listens to
};

// Of a machine that is not running. `s` is zeroed. False: no memory.
bool gdb_server_make(struct gdb_server *s, struct machine *m);
void gdb_server_free(struct gdb_server *s);
// Somebody connected: the machine stands still until told otherwise. Gone: no stop of theirs is left.
void gdb_server_attach(struct gdb_server *s);
void gdb_server_gone(struct gdb_server *s);
void gdb_server_input(struct gdb_server *s, const u8 *bytes, size_t n);
// machine_run returned MACHINE_STOPPED: if it is a stop of ours, the client is told, and `running` is false.
void gdb_server_stopped(struct gdb_server *s);
// Something happened that a client wants to look at before it goes on.
void gdb_server_trouble(struct gdb_server *s, const char *text);
void gdb_server_exited(struct gdb_server *s, int status);

// ---- between its files ----
struct vcpu *gdb_cpu(const struct gdb_server *s);
void gdb_say(struct gdb_server *s, const char *text); // to the user: console output
void gdb_sayf(struct gdb_server *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gdb_look(struct gdb_server *s); // the view: of s->cpu as it stands
void gdb_level_name(const struct gdb_server *s, unsigned cpu, char *to, size_t n);
bool gdb_add_stop(struct gdb_server *s, u8 type, u8 on, u64 at, u64 size, bool physical);
void gdb_remove_stops(struct gdb_server *s, u8 type, u64 at,
                      u64 size);           // type GDB_TYPE_OWN: all of the monitor's
void gdb_found_stop(struct gdb_server *s); // at a stop, while searching
// Back by an instruction, or to the latest stop before now. False: the history holds none; the machine is at
// its beginning, or (no such instant can be reached) where it was.
bool gdb_step_back(struct gdb_server *s);
bool gdb_continue_back(struct gdb_server *s);
void gdb_monitor(struct gdb_server *s, const char *command);
void gdb_monitor_walk(struct gdb_server *s, u64 at, u32 acc);

#endif

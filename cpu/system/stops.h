// Where a debugger outside wants the machine to stop: instructions, accesses, single steps, VM entries and VM
// exits. One struct for all processors, of which v->stops is NULL while nobody debugs.
//
// A stop is at the boundary between two instructions: before the instruction of a code stop, after the one
// that made an access (within a REP: after the iteration), at the guest's first instruction after a VM entry,
// before what the entry injects, and at the host's first after a VM exit. It is a stop from outside: no part
// of the machine's state, and a run that goes on from it goes as if it had not been. The guest can see
// nothing of it.
//
// It costs on its pages alone, by the way of the breakpoints of the debug registers (cpu/system/debug.h).
#ifndef CPU_STOPS_H
#define CPU_STOPS_H

#include "cpu/state/trace.h"

enum { STOP_ON_READ = 1, STOP_ON_WRITE = 2, STOP_ON_CODE = 4 };
enum { STOP_ANY_LEVEL, STOP_ROOT, STOP_GUEST }; // not in VMX non-root operation; in it

struct cpu_stop {
    u8 on;         // STOP_ON_*; one on code is none on accesses
    u8 level;      // STOP_*
    bool physical; // of accesses: by the physical address that comes of the translation, else linear
    u64 at, size;  // bytes; of code: the address of the instruction, whatever the size
    u64 vmcs;      // this one is current, by its address; VMX_NO_POINTER: any or none
};

// clang-format off
enum cpu_stop_why { STOPPED_NOT, STOPPED_CODE, STOPPED_ACCESS, STOPPED_STEP, STOPPED_ENTRY, STOPPED_EXIT, STOPPED_ENTRY_FAILED, STOPPED_EVENT };
// clang-format on
struct cpu_stop_met {
    u8 why;       // enum cpu_stop_why
    bool write;   // STOPPED_ACCESS
    unsigned cpu; // whose
    unsigned
        n;  // STOPPED_CODE, STOPPED_ACCESS: which of the list; STOPPED_EVENT (another listener's): its own
    u64 at; // STOPPED_ACCESS: the first byte that both have in common (linear, or physical)
    u32 reason;  // STOPPED_EXIT: of the VMCS, all 32 bits
    u64 retired; // instructions of this processor before the stop
};

struct cpu_stops {
    const struct cpu_stop *list;
    unsigned n;
    bool entry, entry_failed; // VM entries; VM entries that fail, of either kind
    u64 exits[2];             // VM exits, a bit a basic reason (0-127)
    // Called at a stop, from within a slice: is to make every processor leave its run loop
    // (machine_ask_stop).
    void (*stopped)(void *opaque);
    void *opaque;
    struct cpu_stop_met met;    // the first since stops_go_on
    struct cpu_stop_met access; // what the instruction under way has met
    // The processor that goes on, and from where: its step ends elsewhere, and the code stop there has struck
    // already.
    struct {
        bool step, code;
        bool guest;
        unsigned cpu;
        u64 retired, rip, linear;
    } from;
};

// Between two slices. After v->stops, or the list, was changed: what was derived for its pages is made anew.
void stops_changed(struct vcpu *v);
// What met the last stop is forgotten. v, if there is one, goes on behind a code stop at its RIP; with `step`
// it stops after one instruction (all of a REP), the delivery of an event, or a VM exit.
void stops_go_on(struct cpu_stops *s, struct vcpu *v, bool step);
// A trace_sink's event(), of kinds STOPS_TRACE: VM entries and exits.
#define STOPS_TRACE (1u << TRACE_ENTRY | 1u << TRACE_EXIT | 1u << TRACE_ENTRY_FAILED)
void stops_trace(void *stops, const struct trace_event *e);

// ---- for the engine ----
// The bit of struct breakpoints and v->d.break_hit that stands for all of these.
enum { BREAKS_HOST = 0x80 };
void stops_derive(const struct vcpu *v, struct breakpoints *b);
bool stops_code_page(const struct vcpu *v, laddr la);                     // it is to be gone through by steps
bool stops_data_page(const struct vcpu *v, laddr la, paddr pa, u32 acc);  // no access of this kind at speed
bool stops_access(struct vcpu *v, laddr la, u64 size, u32 acc, u64 wrap); // true: it is met
void stops_physical_access(struct vcpu *v, paddr pa, u64 size, u32 acc);
void stops_completed(struct vcpu *v); // the access's instruction
void stops_boundary(struct vcpu *v);  // v->stops is there: has a step ended?
bool stops_before_instruction(struct vcpu *v);

#endif

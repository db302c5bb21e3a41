// What led to where the machine is: the events and branches before it, found by running its past again
// (devices/history.h). That happens in a child process, which has the machine as it is now and tells what it
// saw, so the machine itself goes nowhere; and until somebody asks nothing is kept and nothing costs.
#ifndef FRONTEND_RETRACE_H
#define FRONTEND_RETRACE_H

#include "devices/history.h"
#include "frontend/last_events.h"
#include "vmx/vmcs.h"

#define RETRACE_EVENTS   20
#define RETRACE_BRANCHES 32

// Control went from one instruction to another that does not follow it.
struct retrace_branch {
    u64 from, to; // RIP
    u64 vmcs;     // current before it
    bool from_guest, to_guest;
    u8 cpu;
    u8 event;         // enum trace_kind of what took it there; TRACE_KINDS: the instruction itself
    u8 vector;        // of a fault or interrupt
    u32 reason;       // of a VM exit
    const char *name; // the instruction's mnemonic
};
struct retrace { // both oldest first
    struct last_event event[RETRACE_EVENTS];
    struct retrace_branch branch[RETRACE_BRANCHES];
    u64 events, branches; // that many there are
    bool again;           // there is a past: what is missing has not happened in it, or not lately
};

struct retrace_entry { // a VM entry, and the VMCS as it was behind it
    bool any;
    u64 retired; // of its processor
    struct vmcs_fields f;
};

// False: the past could not be run again; nothing is known then. `give_up`: as history_goto's.
bool retrace(struct retrace *r, struct history *h, const volatile sig_atomic_t *give_up);
// The latest VM entry by this VMCS; any is false if there was none since the history began.
bool retrace_entry(struct retrace_entry *r, paddr vmcs, struct history *h,
                   const volatile sig_atomic_t *give_up);
// "call", "#UD", "interrupt 32", "VM exit CPUID", "VM entry"
void retrace_branch_text(const struct retrace_branch *b, char *to, size_t n);

#endif

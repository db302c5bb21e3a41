// Events: what interrupts the flow of instructions. A body raises one and unwinds to the run loop, which
// delivers it through the IDT or turns it into a VM exit.
#ifndef CPU_EVENT_H
#define CPU_EVENT_H

#include "mmu/types.h"

struct vcpu;

// clang-format off
enum vector {
    VEC_DE = 0, VEC_DB = 1, VEC_NMI = 2, VEC_BP = 3, VEC_OF = 4, VEC_BR = 5, VEC_UD = 6, VEC_NM = 7, VEC_DF = 8,
    VEC_TS = 10, VEC_NP = 11, VEC_SS = 12, VEC_GP = 13, VEC_PF = 14, VEC_MF = 16, VEC_AC = 17, VEC_MC = 18,
    VEC_XM = 19, VEC_VE = 20, VEC_CP = 21,
};

// The SDM's interruption types (VM-exit and VM-entry interruption information, bits 10:8).
enum event_type {
    EVT_EXTERNAL = 0, EVT_NMI = 2, EVT_HW_EXCEPTION = 3, EVT_SW_INTERRUPT = 4, EVT_PRIV_SW_EXCEPTION = 5 /* INT1 */,
    EVT_SW_EXCEPTION = 6 /* INT3, INTO */, EVT_OTHER = 7 /* MTF */,
};
// clang-format on

enum event_kind {
    EVENT_NONE,
    EVENT_INTERRUPTION, // vector/type/error below: deliver
    EVENT_VMEXIT,       // reason/qualification below
    EVENT_SHUTDOWN,     // triple fault outside VMX non-root operation
    EVENT_RESTART, // leave the slice at this instruction, nothing happened (a REP that used its time, a stop
                   // request)
    EVENT_WAITING, // leave the slice at this instruction, which waits for an interrupt (FERR#)
};

STATE_BEGIN
struct event {
    u8 kind; // enum event_kind
    u8 vector;
    u8 type; // enum event_type
    bool has_error;
    // length of the instruction, for software interrupts/exceptions and for exits that report it
    u8 insn_len;
    bool injected; // by VM entry: delivery leaves CR2, DR6 and DR7 as they are
    bool trap;     // state is after the instruction (#DB trap, INT n): RIP to push is the next one
    u8 pad[5];
    u32 error;
    u64 cr2; // #PF
    u64 dr6; // #DB: bits to OR into DR6 (B0-B3, BD, BS), also the "pending debug exception" payload
    // EVENT_VMEXIT
    u32 exit_reason;
    u32 exit_insn_info;
    u64 exit_qualification;
    u64 exit_gla, exit_gpa; // guest-linear and guest-physical address fields
    u32 exit_valid;         // WITH_* below
    u32 pad2;
};
STATE_END
enum {
    WITH_INSN_LEN = 1, // VM-exit instruction length is defined
    WITH_INSN_INFO = 2,
    WITH_GLA = 4,
    WITH_GPA = 8,
    WITH_VECTOR = 16, // an external interrupt that has been acknowledged
};

// RFLAGS.RF is 1 in the image that a fault pushes, so that an instruction breakpoint does not strike again on
// return; not in that of the breakpoint itself, whose handler sets it (SDM 19.3.1.1). What VM entry injects
// is pushed with RFLAGS as the entry loaded it (SDM 29.6.1.1).
static inline bool event_sets_rf(const struct event *e)
{
    return e->type == EVT_HW_EXCEPTION && !e->trap && !e->injected &&
           (e->vector != VEC_DB || e->dr6 & BIT(13) /* BD */);
}

// Raise and unwind; RIP is that of the instruction being executed (a fault).
_Noreturn void raise_fault(struct vcpu *v, u8 vector);            // no error code
_Noreturn void raise_error(struct vcpu *v, u8 vector, u32 error); // with error code
_Noreturn void raise_pf(struct vcpu *v, laddr la, u32 error);
_Noreturn void raise_event(struct vcpu *v, const struct event *e);
static inline _Noreturn void raise_gp0(struct vcpu *v) { raise_error(v, VEC_GP, 0); }
static inline _Noreturn void raise_ud(struct vcpu *v) { raise_fault(v, VEC_UD); }
// VM exit from inside an instruction.
_Noreturn void raise_vmexit(struct vcpu *v, u32 reason, u64 qualification, u32 insn_info, u32 valid);

#endif

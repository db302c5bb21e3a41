// The event stream: what the log, the timeline, statistics and breakpoints are made from. Free when nobody
// listens: v->trace is NULL then, and no event is emitted from an instruction's path, only from the run loop
// and the world switches.
#ifndef CPU_TRACE_H
#define CPU_TRACE_H

#include "cpu/state/vcpu.h"

enum trace_kind {
    TRACE_ENTRY,         // VM entry done: rip is the guest's
    TRACE_EXIT,          // VM exit: rip is the guest's, as saved
    TRACE_ENTRY_FAILED,  // VMfail or entry-failure exit; check is the row, if one was violated
    TRACE_FAULT,         // exception about to be delivered: vector, error, has_error, addr = CR2 for #PF
    TRACE_INTERRUPT,     // interrupt, NMI or software interrupt about to be delivered
    TRACE_IO,            // port I/O: port in addr, size, value, write
    TRACE_MSR,           // RDMSR, WRMSR and the like: MSR in addr, value, write; has_error: it raises #GP(0)
    TRACE_UNIMPLEMENTED, // name, addr = detail
    TRACE_SHUTDOWN,      // name = why
    TRACE_REFUSED,       // a VMX instruction refused before it did anything: refused says why
    TRACE_MISUSE,        // what the manual forbids software, and the processor does not notice: name, addr
    TRACE_STALE, // a kept translation of addr to value is used, though memory says: name (`-tlb lazy`)
    // A page walk, where the TLB misses: linear address in addr, physical in value, size: log2 of the page,
    // write, type: ACC_FETCH or 0, gpa with EPT; name: how it failed
    TRACE_WALK,
    TRACE_CR,      // a control register was written by MOV, CLTS, LMSW: number in addr, value
    TRACE_VMWRITE, // a field of the current VMCS was written: encoding in addr, value
    TRACE_KINDS
};

struct vmx_check_failure;
struct vmx_refused;

struct trace_event {
    u8 kind; // enum trace_kind
    u8 cpu;
    u8 vector, type; // enum event_type
    bool has_error, write;
    u8 size, insn_len;
    u32 error;
    u32 reason; // full exit reason field (bit 31: entry failure); ENTRY_FAILED: see `fail`
    // ENTRY_FAILED: 0 VMfailInvalid, 1..: VMfailValid error; UINT32_MAX: an exit with `reason`
    u32 fail;
    u32 intr_info, original_event; // EXIT: exiting and original event; ENTRY: injected event in intr_info
    u64 retired, vtime, rip;
    u64 vmcs; // the current VMCS, VMX_NO_POINTER if none: tells guests apart
    u64 qualification, gpa, gla;
    u64 addr, value;
    u64 cr3;
    u32 insn_info; // VM-exit instruction information
    bool gpa_valid, gla_valid, insn_len_valid, insn_info_valid;
    bool guest; // in VMX non-root operation: ENTRY and EXIT have the guest's side
    const char *name;
    const struct vmx_check_failure *check; // and the VMCS that failed, for the doctor:
    const struct vmx_entry *entry;
    const struct vmx_refused *refused; // vmx/refusals.h
};

struct trace_sink {
    void (*event)(void *opaque, const struct trace_event *e);
    void *opaque;
    u32 mask; // bits 1 << enum trace_kind, and TRACE_AGAIN
};
#define TRACE_AGAIN     BIT(31) // of a sink that hears of what runs again, too (struct trace.again)
#define TRACE_SINKS_MAX 8
struct trace {
    struct trace_sink sink[TRACE_SINKS_MAX];
    unsigned n;
    u32 mask; // of all sinks
    // NULL, or whether what runs has run before, its events with it: a debugger has gone back. Those who
    // write them down have them already.
    const bool *again;
};

static inline bool trace_wants(const struct vcpu *v, enum trace_kind k)
{
    return unlikely(v->trace != NULL) && (v->trace->mask >> k & 1);
}
void trace_add(struct trace *t, const struct trace_sink *s);
// clears, and fills kind, cpu, retired, vtime, rip, vmcs, cr3, guest
void trace_begin(const struct vcpu *v, struct trace_event *e, enum trace_kind k);
void trace_emit(const struct vcpu *v, const struct trace_event *e);

#endif

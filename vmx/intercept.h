// What exits in VMX non-root operation, and what behaves otherwise there. A row of the instruction table says
// its exit's reason, on what condition it is taken (enum exit_when) and when that is asked (enum exit_stage).
#ifndef VMX_INTERCEPT_H
#define VMX_INTERCEPT_H

#include "cpu/state/event.h"
#include "mmu/walk.h"
#include "vmx/state.h"

struct insn;
struct row;

// clang-format off
enum exit_when {
    EXIT_NEVER,
    EXIT_ALWAYS,
    EXIT_BY_CONTROL, // the row names it
    EXIT_BY_PAUSE,   // PAUSE exiting, or PAUSE-loop exiting
    EXIT_BY_MSR_BITMAP, EXIT_BY_NO_MSR_BITMAP, EXIT_BY_XSS_BITMAP, EXIT_BY_VM_FUNCTION,
    EXIT_BY_VMCS_BITMAP, // VMREAD and VMWRITE: VMCS shadowing
    EXIT_BY_MOV_TO_CR, EXIT_BY_MOV_FROM_CR, EXIT_BY_CLTS, EXIT_BY_LMSW, // guest/host masks, shadows and their controls
    EXIT_BY_IO,      // unconditional I/O exiting, I/O bitmaps
};
// clang-format on
enum exit_stage {
    STAGE_AFTER_PRIVILEGE,  // after #UD and the privilege checks, before operands and values (SDM 28.1.1)
    STAGE_BEFORE_PRIVILEGE, // MOV DR and the VMX instructions exit at every CPL
    STAGE_AFTER_IO_PERMISSION,
    STAGE_AFTER_OPERAND, // the body asks, by its hook below
};

// The guard's hook, at its stage. v->s.vmx.guest is true. Returns if the instruction is to run; else raises a
// VM exit.
RAISES void vmx_intercept(struct vcpu *v, const struct insn *in);

// Whether a control that the row needs is off: #UD, before any other check.
bool vmx_hides(const struct vcpu *v, const struct row *r);

// Hooks at other stages; bodies call them always, they return at once outside non-root operation.
RAISES void vmx_intercept_io(struct vcpu *v, const struct insn *in, u16 port, unsigned size, bool input,
                             bool string, bool rep, bool immediate,
                             laddr string_address); // after IOPL and the TSS bitmap
// after the operand
RAISES void vmx_intercept_lmsw(struct vcpu *v, const struct insn *in, u16 source, bool memory, laddr la);
// before each MSR of a list; of WRMSRLIST after its data have been read
RAISES void vmx_intercept_msr_list(struct vcpu *v, bool write, u32 msr, u64 data);
RAISES void vmx_intercept_task_switch(struct vcpu *v, u16 selector,
                                      unsigned source /* qualification 31:30 */);

// CR masks and shadows, CR8 under TPR shadow, TSC: modified bodies. Outside non-root they are the identity.
u64 vmx_read_cr0(const struct vcpu *v); // as MOV from CR and SMSW see it
u64 vmx_read_cr4(const struct vcpu *v);
// what MOV to CR0/LMSW/CLTS writes: host-owned bits keep the real value
u64 vmx_merge_cr0(const struct vcpu *v, u64 value);
u64 vmx_merge_cr4(const struct vcpu *v, u64 value);
bool vmx_read_cr8(struct vcpu *v, u64 *value);  // true: handled by the virtual TPR
bool vmx_write_cr8(struct vcpu *v, u64 value);  // true: handled, with what TPR virtualization does
u64 vmx_tsc(const struct vcpu *v, u64 tsc);     // TSC that RDTSC, RDTSCP and RDMSR 10h return
u64 vmx_delay(const struct vcpu *v, u64 ticks); // as long a time in ticks of the processor's own TSC
// RDMSR and WRMSR of what the controls virtualize: true if handled
RAISES bool vmx_msr_virtual(struct vcpu *v, u32 msr, bool write, u64 *value);

// The APIC-access page (mmu_ctx.apic_access): accesses whose translation leads there, for which `la` gives
// the offset. n bytes in one page, to be judged before anything changes: returns if the access is
// virtualized, else exits.
RAISES void vmx_apic_check(struct vcpu *v, laddr la, unsigned n, u32 acc);
RAISES void vmx_apic_read(struct vcpu *v, laddr la, void *buf, unsigned n); // both judge, too
RAISES void vmx_apic_write(struct vcpu *v, laddr la, const void *buf, unsigned n);
paddr vmx_apic_redirect(const struct vcpu *v, u64 address);      // the same offset in the virtual-APIC page
_Noreturn void vmx_apic_exit(struct vcpu *v, laddr la, u32 acc); // one that is never virtualized
_Noreturn void vmx_apic_fetch(struct vcpu *v, laddr la);         // an instruction fetch
_Noreturn void vmx_apic_guest_physical(struct vcpu *v);          // WALK_APIC_ACCESS

// CR0/CR4 bits that VMX operation fixes: #GP when violated (no change to PE/PG under unrestricted guest).
bool vmx_cr0_allowed(const struct vcpu *v, u64 value);
bool vmx_cr4_allowed(const struct vcpu *v, u64 value);

// Delivery. The run loop asks before it delivers `e` in non-root operation: true if it is to be a VM exit
// instead, and then *exit is filled (EVENT_VMEXIT). External interrupts and NMIs included.
bool vmx_event_exits(struct vcpu *v, const struct event *e, struct event *exit);
// Around delivery through the IDT, so that a VM exit on the way reports the IDT-vectoring information.
void vmx_vectoring_begin(struct vcpu *v, const struct event *e);
void vmx_vectoring_end(struct vcpu *v);
// Instead of the end: what was begun is begun again, or not at all.
void vmx_vectoring_put_off(struct vcpu *v);

// IRET begins in non-root operation: removes blocking by NMI, or by virtual NMI, or neither, as "NMI exiting"
// and "virtual NMIs" say (SDM 27.3). True if there was blocking that it removed ("NMI unblocking due to
// IRET").
bool vmx_iret_unblocks(struct vcpu *v);

// A read-modify-write is done, under "VMM bus-lock detection" (MODE_BUS_LOCK): if it locked the bus, an exit
// is pending.
void vmx_locked_access(struct vcpu *v, laddr la, unsigned size);

// The boundary between instructions, in the order of SDM table "Priority Among Simultaneous Events": what VMX
// adds. Each returns true and fills *exit if a VM exit is due now.

// emulation of a write to the APIC-access page; TPR below threshold, virtualized EOI, APIC write: before INIT
bool vmx_boundary_trap(struct vcpu *v, struct event *exit);
bool vmx_boundary_mtf(struct vcpu *v, struct event *exit);
bool vmx_boundary_timer(struct vcpu *v, struct event *exit); // preemption timer
bool vmx_boundary_nmi_window(struct vcpu *v, struct event *exit);
// The event of the guest timer, in the place of the interrupt window too. True: it was there and is done
// with.
bool vmx_boundary_guest_timer(struct vcpu *v);
bool vmx_boundary_interrupt_window(struct vcpu *v, struct event *exit);
// A virtual interrupt, in the place of the interrupt window: recognized and not blocked; and its vector, from
// then on in service.
bool vmx_virtual_interrupt_due(const struct vcpu *v);
u8 vmx_virtual_interrupt_taken(struct vcpu *v);
// INTR with external-interrupt exiting. False: it was the notification of posted interrupts, and is
// processed.
bool vmx_external_interrupt(struct vcpu *v, struct event *exit);
// monitor trap flag: one instruction (or REP iteration) at a time
bool vmx_single_steps(const struct vcpu *v);
void vmx_iteration_done(struct vcpu *v);        // a REP iteration has been committed and more follow
bool vmx_boundary_wanted(const struct vcpu *v); // anything of the above may be due: run the boundary now
// MWAIT that a masked interrupt ends does not wait: interrupt-window exiting, or a virtual interrupt is
// recognized
bool vmx_mwait_goes_on(const struct vcpu *v);
bool vmx_interrupt_exits(const struct vcpu *v); // external-interrupt exiting: taken whatever EFLAGS.IF says
u64 vmx_timer_deadline(const struct vcpu *v);   // the next of its own timers: vtime, UINT64_MAX if none
void vmx_tsc_jumps(struct vcpu *v, u64 by);     // the TSC will be written: what counts or waits by it

// The world switch; runs only from the run loop. Consumes an EVENT_VMEXIT.
void vmx_exit(struct vcpu *v, const struct event *e);
// The VM exit that an INIT or a SIPI causes in non-root operation.
void vmx_init_exit(struct event *exit);
void vmx_sipi_exit(u8 vector, struct event *exit);
// Fills the EPT and VPID parts of the translation context of a guest, from what its entry found
// (vmx_translation_of).
void vmx_fill_mmu(const struct vcpu *v, const struct vmx_state *s, struct mmu_ctx *c);
// A WALK_EPT_* result becomes a VM exit (also sets "NMI unblocking due to IRET" and vectoring as the manual
// says).
_Noreturn void vmx_raise_ept(struct vcpu *v, const struct walk_result *r, laddr la, bool la_valid);
// Reset, and any write to guest memory that holds the current VMCS (drops decoded controls).
struct vmx_state;
// cpu_state_impossible: the part that is VT-x's
const char *vmx_state_impossible(const struct vcpu *v, const struct vmx_state *s);
void vmx_reset(struct vcpu *v); // allocates v->vmx the first time
void vmx_free(struct vcpu *v);
void vmx_drop(struct vcpu *v); // drops decoded controls
void vmx_memory_written(struct vcpu *v, paddr a, u64 size);
bool vmx_watches(const struct vcpu *v, paddr page);     // its current VMCS is there
void vmx_unwatch(struct vcpu *v);                       // it has none from now on, whoever else has it
bool vmx_msr_read(struct vcpu *v, u32 msr, u64 *value); // 480h-493h; false: not a VMX MSR or #GP

#endif

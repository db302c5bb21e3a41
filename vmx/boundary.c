// What VMX adds to the boundary between instructions (SDM table "Priority Among Concurrent Events"):
// emulation of writes to the APIC-access page and other trap-like exits, MTF, preemption timer, NMI window,
// interrupt window (the guest timer, just before that one, is in vmx/guest_timer.c).
#include "vmx/apic.h"
#include "vmx/insn.h"
#include "vmx/intercept.h"

static bool due(struct event *x, u32 reason)
{
    *x = (struct event){.kind = EVENT_VMEXIT, .exit_reason = reason};
    return true;
}

static bool shadowed(const struct vcpu *v) { return v->s.blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS); }

static bool mtf_due(const struct vcpu *v)
{
    const struct vmx_state *x = &v->s.vmx;
    if (v->s.activity == ACTIVITY_SHUTDOWN || v->s.activity == ACTIVITY_WAIT_SIPI) return false;
    return x->mtf_pending || (vmx_proc(v, PROC_MONITOR_TRAP_FLAG) && cpu_retired(v) > x->mtf_retired);
}

bool vmx_boundary_trap(struct vcpu *v, struct event *exit)
{
    const struct vmx_state *x = &v->s.vmx;
    if (!x->guest) return false;
    if (x->apic_write_size) vmx_apic_write_emulation(v);
    // one of VM entry into the shutdown state is kept until an NMI has ended that (SDM 29.7.7)
    if (x->trap && v->s.activity != ACTIVITY_SHUTDOWN) {
        // Before that of a bus lock, which bit 26 tells too: the other way round this one would be lost.
        due(exit, x->trap);
        exit->exit_qualification = x->trap_qualification;
        return true;
    }
    return x->bus_lock && due(exit, EXIT_REASON_BUS_LOCK);
}

bool vmx_boundary_mtf(struct vcpu *v, struct event *exit)
{
    return v->s.vmx.guest && mtf_due(v) && due(exit, EXIT_REASON_MONITOR_TRAP_FLAG);
}

bool vmx_boundary_timer(struct vcpu *v, struct event *exit)
{
    const struct vmx_state *x = &v->s.vmx;
    if (!x->guest || !x->timer_active || v->s.activity == ACTIVITY_WAIT_SIPI) return false;
    return cpu_vtime(v) >= x->timer_deadline && due(exit, EXIT_REASON_PREEMPTION_TIMER);
}

static bool nmi_window(const struct vcpu *v)
{
    return vmx_proc(v, PROC_NMI_WINDOW_EXITING) && !v->s.virtual_nmi_blocked && !shadowed(v) &&
           v->s.activity != ACTIVITY_WAIT_SIPI;
}

static bool interrupt_window(const struct vcpu *v)
{
    return vmx_proc(v, PROC_INTERRUPT_WINDOW_EXITING) && v->s.rflags & FL_IF && !shadowed(v) &&
           v->s.activity != ACTIVITY_SHUTDOWN && v->s.activity != ACTIVITY_WAIT_SIPI;
}

bool vmx_mwait_goes_on(const struct vcpu *v)
{
    return v->s.vmx.guest && (vmx_proc(v, PROC_INTERRUPT_WINDOW_EXITING) || v->s.vmx.virtual_interrupt);
}

bool vmx_boundary_nmi_window(struct vcpu *v, struct event *exit)
{
    return v->s.vmx.guest && nmi_window(v) && due(exit, EXIT_REASON_NMI_WINDOW);
}

bool vmx_boundary_interrupt_window(struct vcpu *v, struct event *exit)
{
    return v->s.vmx.guest && interrupt_window(v) && due(exit, EXIT_REASON_INTERRUPT_WINDOW);
}

bool vmx_single_steps(const struct vcpu *v) { return v->s.vmx.guest && vmx_proc(v, PROC_MONITOR_TRAP_FLAG); }

void vmx_iteration_done(struct vcpu *v)
{
    if (vmx_single_steps(v)) v->s.vmx.mtf_pending = true;
}

bool vmx_boundary_wanted(const struct vcpu *v)
{
    const struct vmx_state *x = &v->s.vmx;
    if (!x->guest) return false;
    return x->mtf_pending || x->trap || x->bus_lock || x->apic_write_size ||
           vmx_proc(v, PROC_MONITOR_TRAP_FLAG) || nmi_window(v) || interrupt_window(v) ||
           vmx_virtual_interrupt_due(v) || vmx_guest_timer_due(v) ||
           (x->timer_active && cpu_vtime(v) >= x->timer_deadline);
}

u64 vmx_timer_deadline(const struct vcpu *v)
{
    if (v->s.activity == ACTIVITY_WAIT_SIPI) return UINT64_MAX;
    u64 guest = v->s.vmx.guest_deadline ? vmx_guest_timer_at(v) : UINT64_MAX, own = v->s.vmx.timer_deadline;
    return guest < own ? guest : own;
}

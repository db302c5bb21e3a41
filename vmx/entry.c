// VM entry (SDM chapter 29): VMLAUNCH and VMRESUME. Basic checks, then the check rows, then guest state,
// MSR-load area, and the event to inject.
#include <string.h>

#include "cpu/state/trace.h"
#include "vmx/insn.h"
#include "vmx/intercept.h"
#include "vmx/world.h"

void vmx_entry_decode(struct vmx_entry *e)
{
    const struct vmcs_fields *f = e->f;
    e->pin = f->PIN_BASED_CONTROLS;
    e->proc = f->PRIMARY_PROC_BASED_CONTROLS;
    e->proc2 = vmcs_proc2(f);
    e->proc3 = vmcs_proc3(f);
    e->exit = f->PRIMARY_VM_EXIT_CONTROLS;
    e->exit2 = vmcs_exit2(f);
    e->entry = f->VM_ENTRY_CONTROLS;
    e->vmfunc = vmcs_vmfunc(f);
}

void vmx_entry_fill(struct vcpu *v, struct vmx_entry *e, const struct vmcs_region *r, bool launch)
{
    *e = (struct vmx_entry){
        .f = &r->f,
        .caps = vmx_capabilities(v),
        .features = v->features,
        .phys = v->phys,
        .cpu = v->index,
        .maxphyaddr = v->features->maxphyaddr,
        .linear_bits = feature_on(v->features, FEATURE_LA57) ? 57 : 48,
        .launch = launch,
        .vmcs_pointer = v->s.vmx.vmcs_pointer,
        .vmxon_pointer = v->s.vmx.vmxon_pointer,
        .revision = r->revision,
        .launch_state = r->launch_state,
        .cr0 = v->s.cr0,
        .cr3 = v->s.cr3,
        .cr4 = v->s.cr4,
        .efer = v->s.msr.efer,
        .misc_enable = v->s.msr.misc_enable,
        .rflags = cpu_rflags(v),
        .blocking = v->s.blocking,
        .cpl = (u8)cpu_cpl(v),
    };
    vmx_entry_decode(e);
}

static void trace_failure(struct vcpu *v, const struct vmx_entry *e, const struct vmx_check_failure *why,
                          u32 fail, u32 reason, u64 qualification)
{
    struct trace_event t;
    if (!trace_wants(v, TRACE_ENTRY_FAILED)) return;
    trace_begin(v, &t, TRACE_ENTRY_FAILED);
    t.rip = insn_rip(v, v->d.in);
    t.fail = fail;
    t.reason = reason;
    t.qualification = qualification;
    t.check = why->check ? why : NULL;
    t.entry = e;
    trace_emit(v, &t);
}

// A VM-entry failure after the control and host checks: reason and qualification are written, host state is
// loaded (SDM 29.8). Nothing else of the VMCS changes.
static void fail_by_exit(struct vcpu *v, struct vmcs_region *r, const struct vmx_entry *e,
                         const struct vmx_check_failure *why, u32 basic_reason, u64 qualification)
{
    u32 reason = basic_reason | EXIT_REASON_ENTRY_FAILURE;
    trace_failure(v, e, why, UINT32_MAX, reason, qualification);
    v->vmx->entry_failures++;
    r->f.EXIT_REASON = reason;
    r->f.EXIT_QUALIFICATION = qualification;
    vmx_region_written(v);
    cpu_charge(v, VMX_ENTRY_UNITS);
    v->d.looked_at_tf = true; // no single step: control does not pass to the next instruction (SDM 29)

    u64 block_rip = v->s.rip;          // the slice still counts from it
    bool loaded = vmx_load_host(v, r); // if not, RIP may be the host's all the same
    u64 host_rip = v->s.rip;
    v->s.rip = block_rip;
    v->d.npc = loaded ? host_rip : insn_rip(v, v->d.in);
}

// Of NMIs, or of virtual NMIs.
static void block_nmis(struct vcpu *v, const struct vmx_entry *e)
{
    if (e->pin & PIN_VIRTUAL_NMIS)
        v->s.virtual_nmi_blocked = true;
    else
        v->s.blocking |= BLOCKING_BY_NMI;
}

// Blocking, activity and pending debug exceptions after the entry (SDM 29.7).
static void load_nonregister_state(struct vcpu *v, const struct vmx_entry *e, bool vectored)
{
    const struct vmcs_fields *f = e->f;
    struct vcpu_state *s = &v->s;
    u32 in = f->GUEST_INTERRUPTIBILITY_STATE, info = f->INJECTED_EVENT_IDENTIFICATION;
    unsigned type = event_type(info);

    s->blocking = vectored ? 0 : in & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    s->shadow_one = s->blocking != 0;
    s->virtual_nmi_blocked = false;
    if (in & BLOCKING_BY_NMI) block_nmis(v, e);
    s->activity = vectored ? ACTIVITY_ACTIVE : f->GUEST_ACTIVITY_STATE;

    u64 pending = f->GUEST_PENDING_DEBUG_EXCEPTIONS;
    if (vectored) {
        bool software = type == EVT_SW_INTERRUPT || type == EVT_SW_EXCEPTION;
        if (!software || !(in & BLOCKING_BY_MOV_SS)) pending = 0;
    } else if (s->activity == ACTIVITY_SHUTDOWN || s->activity == ACTIVITY_WAIT_SIPI)
        pending = 0;
    s->pending_dbg = pending & (BIT(12) | BIT(14)) ? pending : 0;
}

static void inject(struct vcpu *v, const struct vmx_entry *e, bool vectored)
{
    const struct vmcs_fields *f = e->f;
    u32 info = f->INJECTED_EVENT_IDENTIFICATION;

    v->s.inject.kind = EVENT_NONE;
    v->s.vmx.mtf_pending = info & IDENT_VALID && !vectored; // type 7, vector 0
    if (!vectored) return;
    v->s.inject = (struct event){
        .kind = EVENT_INTERRUPTION,
        .vector = (u8)event_vector(info),
        .type = (u8)event_type(info),
        .has_error = info & IDENT_ERROR_CODE,
        .error = f->INJECTED_EVENT_ERROR_CODE,
        .insn_len = (u8)f->VM_ENTRY_INSTRUCTION_LENGTH,
        .injected = true,
    };
    if (v->s.inject.type == EVT_NMI) block_nmis(v, e);
}

static void start_timer(struct vcpu *v, const struct vmx_entry *e)
{
    struct vmx_state *x = &v->s.vmx;
    x->timer_active = e->pin & PIN_ACTIVATE_VMX_PREEMPTION_TIMER;
    x->timer_deadline = x->timer_active ? vmx_timer_ends(v, e->f->VMX_PREEMPTION_TIMER_VALUE) : UINT64_MAX;
}

static void commit(struct vcpu *v, struct vmcs_region *r, const struct vmx_entry *e)
{
    u32 info = r->f.INJECTED_EVENT_IDENTIFICATION;
    bool vectored = info & IDENT_VALID && event_type(info) != EVT_OTHER;

    vmx_load_guest(v, e);
    vmx_flush(v, e->proc2 & PROC2_ENABLE_VPID);
    if (r->f.VM_ENTRY_MSR_LOAD_COUNT) {
        struct vmx_check_failure why = {0}; // stays empty if the area is too long
        cpu_mode_changed(v);
        u32 bad = vmx_msr_area_load(v, r->f.VM_ENTRY_MSR_LOAD_ADDRESS, r->f.VM_ENTRY_MSR_LOAD_COUNT, &why);
        if (bad) {
            fail_by_exit(v, r, e, &why, EXIT_REASON_MSR_LOADING, bad);
            return;
        }
    }
    v->s.vmx.guest = true;
    if (e->launch) {
        r->launch_state = VMCS_LAUNCH_LAUNCHED;
        vmx_region_written(v);
    }
    load_nonregister_state(v, e, vectored);
    inject(v, e, vectored);
    cpu_charge(v, VMX_ENTRY_UNITS);
    start_timer(v, e);
    vmx_apic_entered(v, e);
    v->s.vmx.mtf_retired = cpu_retired(v) + 1; // this instruction
    v->vmx->entries++;
    v->d.npc = r->f.GUEST_RIP;
    if (trace_wants(v, TRACE_ENTRY)) {
        struct trace_event t;
        trace_begin(v, &t, TRACE_ENTRY);
        t.rip = r->f.GUEST_RIP;
        t.intr_info = info;
        t.error = r->f.INJECTED_EVENT_ERROR_CODE;
        trace_emit(v, &t);
    }
    cpu_mode_changed(v);
    v->d.leave = true; // the slice may end sooner now
    cpu_attention(v);
}

static void enter(struct vcpu *v, bool launch)
{
    vmx_guard(v);
    if (v->s.vmx.vmcs_pointer == VMX_NO_POINTER) { // BASIC-006
        vmx_refuse(v, REFUSED_ENTRY_NO_VMCS, 0, VMX_NO_POINTER, 0, 0);
        return;
    }
    struct vmcs_region *r = vmcs_region_at(v->phys, v->s.vmx.vmcs_pointer);
    struct vmx_entry e;
    struct vmx_check_failure why = {0};
    vmx_entry_fill(v, &e, r, launch);
    if (!vmx_check_entry(&e, &why)) {
        if (why.outcome == VMX_OUTCOME_EXIT) {
            fail_by_exit(v, r, &e, &why, why.number, why.qualification);
            return;
        }
        v->vmx->entry_failures++;
        if (why.outcome == VMX_OUTCOME_FAIL_INVALID)
            vmx_fail_invalid(v);
        else
            vmx_fail_valid(v, why.number);
        trace_failure(v, &e, &why, why.outcome == VMX_OUTCOME_FAIL_INVALID ? 0 : why.number, 0, 0);
        return;
    }
    vmx_control_decode(v);
    commit(v, r, &e);
}

void op_vmlaunch(struct vcpu *v, const struct insn *in) { enter(v, true); }
void op_vmresume(struct vcpu *v, const struct insn *in) { enter(v, false); }

// VM exit (SDM chapter 30): information fields, guest state, MSR-store area, host state. Runs from the run
// loop only.
#include "vmx/insn.h"
#include "cpu/state/trace.h"
#include "vmx/intercept.h"
#include "vmx/world.h"

// The exiting event (SDM 30.2.2): exceptions, NMIs, acknowledged external interrupts.
static void save_exiting_event(struct vcpu *v, struct vmcs_fields *f, const struct event *e)
{
    f->EXITING_EVENT_IDENTIFICATION = 0;
    switch (e->exit_reason) {
    case EXIT_REASON_EXTERNAL_INTERRUPT:
        if (e->exit_valid & WITH_VECTOR)
            f->EXITING_EVENT_IDENTIFICATION = IDENT_VALID | EVT_EXTERNAL << 8 | e->vector;
        else if (vmx_controls(v)->exit & EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT) {
            int vector = v->board->intr_ack(v->board_opaque, v->index);
            if (vector >= 0) f->EXITING_EVENT_IDENTIFICATION = IDENT_VALID | EVT_EXTERNAL << 8 | (u32)vector;
        }
        break;
    case EXIT_REASON_EXCEPTION_NMI: {
        u32 info = IDENT_VALID | (u32)e->type << 8 | e->vector;
        if (e->has_error && v->s.cr0 & CR0_PE) { // none in real-address mode, not even for #DF
            info |= IDENT_ERROR_CODE;
            f->EXITING_EVENT_ERROR_CODE = e->error;
        }
        // Not defined during delivery and for #DF: 0 there.
        if (v->d.iret_unblocked && !v->s.vmx.original_event && e->vector != VEC_DF)
            info |= IDENT_NMI_UNBLOCKING;
        f->EXITING_EVENT_IDENTIFICATION = info;
        break;
    }
    default: break;
    }
}

// The original event (SDM 30.2.4): what was being delivered. A #DF that exits itself, and a triple fault,
// have none.
static void save_original_event(struct vcpu *v, struct vmcs_fields *f, const struct event *e)
{
    u32 info = v->s.vmx.original_event;
    if (e->exit_reason == EXIT_REASON_TRIPLE_FAULT ||
        (e->exit_reason == EXIT_REASON_EXCEPTION_NMI && e->type == EVT_HW_EXCEPTION && e->vector == VEC_DF))
        info = 0;
    f->ORIGINAL_EVENT_IDENTIFICATION = info;
    if (info & IDENT_ERROR_CODE) f->ORIGINAL_EVENT_ERROR_CODE = v->s.vmx.original_event_error;
}

// NMI unblocking due to IRET is bit 12 of the qualification (SDM 30.2.3).
static bool reports_unblocking(u32 reason)
{
    return reason == EXIT_REASON_EPT_VIOLATION || reason == EXIT_REASON_PML_FULL || reason == EXIT_REASON_SPP;
}

static void save_information(struct vcpu *v, struct vmcs_fields *f, const struct event *e)
{
    u64 qualification = e->exit_qualification;
    u32 vectoring = v->s.vmx.original_event;

    f->EXIT_REASON = e->exit_reason | (v->s.vmx.bus_lock ? EXIT_REASON_AFTER_BUS_LOCK : 0);
    if (v->d.iret_unblocked && !vectoring && reports_unblocking(e->exit_reason)) qualification |= BIT(12);
    f->EXIT_QUALIFICATION = qualification;
    save_exiting_event(v, f, e);
    save_original_event(v, f, e);
    if (e->exit_valid & WITH_INSN_INFO) f->VM_EXIT_INSTRUCTION_INFORMATION = e->exit_insn_info;
    if (e->exit_valid & WITH_GLA) f->GUEST_LINEAR_ADDRESS = e->exit_gla;
    if (e->exit_valid & WITH_GPA) f->GUEST_PHYSICAL_ADDRESS = e->exit_gpa;
    if (vectoring & IDENT_VALID && event_type(vectoring) >= EVT_SW_INTERRUPT &&
        event_type(vectoring) <= EVT_SW_EXCEPTION)
        f->VM_EXIT_INSTRUCTION_LENGTH = v->s.vmx.original_event_insn_len;
    else if (e->exit_valid & WITH_INSN_LEN)
        f->VM_EXIT_INSTRUCTION_LENGTH = e->insn_len;
    f->INJECTED_EVENT_IDENTIFICATION &= ~IDENT_VALID;
}

static void trace_exit(const struct vcpu *v, const struct vmcs_fields *f, const struct event *e)
{
    struct trace_event t;
    trace_begin(v, &t, TRACE_EXIT);
    t.reason = f->EXIT_REASON;
    t.qualification = f->EXIT_QUALIFICATION;
    t.intr_info = f->EXITING_EVENT_IDENTIFICATION;
    t.error = f->EXITING_EVENT_ERROR_CODE;
    t.has_error = t.intr_info & IDENT_ERROR_CODE;
    t.original_event = f->ORIGINAL_EVENT_IDENTIFICATION;
    t.insn_len_valid = e->exit_valid & WITH_INSN_LEN;
    t.insn_len = (u8)f->VM_EXIT_INSTRUCTION_LENGTH;
    t.insn_info_valid = e->exit_valid & WITH_INSN_INFO;
    t.insn_info = f->VM_EXIT_INSTRUCTION_INFORMATION;
    t.gpa_valid = e->exit_valid & WITH_GPA;
    t.gpa = f->GUEST_PHYSICAL_ADDRESS;
    t.gla_valid = e->exit_valid & WITH_GLA;
    t.gla = f->GUEST_LINEAR_ADDRESS;
    trace_emit(v, &t);
}

static void leave(struct vcpu *v, const struct event *e)
{
    vmx_controls(v); // decoded
    struct vmcs_region *r = v->vmx->region;
    const bool by_nmi = e->exit_reason == EXIT_REASON_EXCEPTION_NMI && e->type == EVT_NMI;
    const bool by_mf =
        e->exit_reason == EXIT_REASON_EXCEPTION_NMI && e->type == EVT_HW_EXCEPTION && e->vector == VEC_MF;

    // The instruction has waited for it, and what STI or MOV SS blocked is over before the exit (SDM 30.1).
    if (by_mf) v->s.blocking &= ~(u32)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    save_information(v, &r->f, e);
    vmx_save_guest(v, &r->f, e);
    if (e->exit_reason < EXIT_REASON_COUNT) v->vmx->exits[e->exit_reason]++;
    if (trace_wants(v, TRACE_EXIT)) trace_exit(v, &r->f, e);
    vmx_region_written(v);
    v->d.iret_unblocked = false;

    v->s.vmx.guest = false; // RDMSR and WRMSR from here on are those of root operation
    if (vmx_msr_area_store(v, r->f.VM_EXIT_MSR_STORE_ADDRESS, r->f.VM_EXIT_MSR_STORE_COUNT)) {
        vmx_abort(v, r, VMX_ABORT_SAVE_MSR, "VMX abort 1: saving a guest MSR failed");
        return;
    }
    if (!vmx_load_host(v, r)) return;
    if (by_nmi) v->s.blocking |= BLOCKING_BY_NMI;
    v->vmx->region = NULL; // the entry controls have changed
}

void vmx_exit(struct vcpu *v, const struct event *e)
{
    const char *outer = phys_writer_begin(v->phys, "a VM exit");
    leave(v, e);
    phys_writer_end(v->phys, outer);
}

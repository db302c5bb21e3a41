// VM exit: saving guest state (SDM 30.3).
#include "cpu/system/system.h"
#include "vmx/world.h"

static void save_segments(const struct vcpu *v, struct vmcs_fields *f)
{
    const struct segment *s = v->s.seg;
#define SAVE(seg) \
    f->GUEST_##seg##_SELECTOR = s[SEG_##seg].sel, f->GUEST_##seg##_BASE = s[SEG_##seg].base, \
    f->GUEST_##seg##_LIMIT = s[SEG_##seg].limit, f->GUEST_##seg##_ACCESS_RIGHTS = s[SEG_##seg].ar & 0x1F0FF
    SAVE(ES);
    SAVE(CS);
    SAVE(SS);
    SAVE(DS);
    SAVE(FS);
    SAVE(GS);
    SAVE(LDTR);
    SAVE(TR);
#undef SAVE
}

// RFLAGS.RF as saved (SDM 30.3.3): set where the instruction will be restarted after a fault.
static u64 saved_rf(const struct vcpu *v, const struct event *e)
{
    u32 vectoring = v->s.vmx.original_event;
    u64 current = v->s.rflags & FL_RF;

    switch (e->exit_reason) {
    case EXIT_REASON_EXCEPTION_NMI: return event_sets_rf(e) ? FL_RF : current; // as it would be pushed
    case EXIT_REASON_APIC_ACCESS:
    case EXIT_REASON_EPT_VIOLATION:
    case EXIT_REASON_EPT_MISCONFIGURATION:
    case EXIT_REASON_PML_FULL:
    case EXIT_REASON_SPP:
        if (!(vectoring & IDENT_VALID)) return FL_RF;
        return v->s.vmx.vectoring_rf ? FL_RF : current;
    case EXIT_REASON_TASK_SWITCH: // as the old TSS would have had it
        return !(vectoring & IDENT_VALID) ? 0 : v->s.vmx.vectoring_rf ? FL_RF : current;
    default: return e->exit_valid & WITH_INSN_LEN ? 0 : current;
    }
}

// Exits that leave pending debug exceptions for the next entry (SDM 30.3.4).
static bool keeps_pending_debug(const struct vcpu *v, const struct event *e)
{
    switch (e->exit_reason) {
    case EXIT_REASON_INIT:
    case EXIT_REASON_MONITOR_TRAP_FLAG:
    case EXIT_REASON_BUS_LOCK:
    case EXIT_REASON_TPR_BELOW_THRESHOLD:
    case EXIT_REASON_VIRTUALIZED_EOI:
    case EXIT_REASON_APIC_WRITE: return true;
    case EXIT_REASON_EXCEPTION_NMI:
        if (e->type == EVT_HW_EXCEPTION && e->vector == VEC_MC) return true;
        if (e->vector == VEC_DB) return false;
        return v->s.blocking & BLOCKING_BY_MOV_SS;
    default: return v->s.blocking & BLOCKING_BY_MOV_SS;
    }
}

void vmx_save_guest(struct vcpu *v, struct vmcs_fields *f, const struct event *e)
{
    const struct vmx_control *c = vmx_controls(v);
    const struct vcpu_state *s = &v->s;
    bool virtual_nmis = c->pin & PIN_VIRTUAL_NMIS;

    f->GUEST_CR0 = s->cr0;
    f->GUEST_CR3 = s->cr3;
    f->GUEST_CR4 = s->cr4;
    if (c->exit & EXIT_SAVE_DEBUG_CONTROLS) {
        f->GUEST_DR7 = s->dr[7];
        f->GUEST_IA32_DEBUGCTL = s->msr.debugctl;
    }
    f->GUEST_IA32_SYSENTER_CS = (u32)s->msr.sysenter_cs;
    f->GUEST_IA32_SYSENTER_ESP = s->msr.sysenter_esp;
    f->GUEST_IA32_SYSENTER_EIP = s->msr.sysenter_eip;
    if (c->exit & EXIT_SAVE_IA32_PAT) f->GUEST_IA32_PAT = s->msr.pat;
    if (c->exit & EXIT_SAVE_IA32_EFER) f->GUEST_IA32_EFER = s->msr.efer;
    // on processors that can load them at an entry, whatever the controls are
    if (vmx_caps_control(&c->caps, CONTROL_ENTRY_LOAD_PKRS)) f->GUEST_IA32_PKRS = s->msr.pkrs;
    if (vmx_caps_control(&c->caps, CONTROL_ENTRY_LOAD_IA32_SPEC_CTRL))
        f->GUEST_IA32_SPEC_CTRL = s->msr.spec_ctrl;
    save_segments(v, f);
    f->GUEST_GDTR_BASE = s->gdtr.base;
    f->GUEST_GDTR_LIMIT = s->gdtr.limit;
    f->GUEST_IDTR_BASE = s->idtr.base;
    f->GUEST_IDTR_LIMIT = s->idtr.limit;
    f->GUEST_RIP = s->rip;
    f->GUEST_RSP = s->gpr[RSP];
    f->GUEST_RFLAGS = (cpu_rflags(v) & ~(u64)FL_RF) | saved_rf(v, e);
    f->GUEST_ACTIVITY_STATE = s->activity == ACTIVITY_MWAIT ? ACTIVITY_ACTIVE : s->activity;
    bool nmi = virtual_nmis ? s->virtual_nmi_blocked : s->blocking & BLOCKING_BY_NMI;
    f->GUEST_INTERRUPTIBILITY_STATE =
        (s->blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) | (nmi ? BLOCKING_BY_NMI : 0);
    f->GUEST_PENDING_DEBUG_EXCEPTIONS = keeps_pending_debug(v, e) ? s->pending_dbg : 0;
    if (c->exit & EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE) f->VMX_PREEMPTION_TIMER_VALUE = vmx_timer_left(v);
    if (c->proc2 & PROC2_ENABLE_EPT && s->cr0 & CR0_PG && s->cr4 & CR4_PAE && !(s->msr.efer & EFER_LMA)) {
        f->GUEST_PDPTE0 = s->pdpte[0];
        f->GUEST_PDPTE1 = s->pdpte[1];
        f->GUEST_PDPTE2 = s->pdpte[2];
        f->GUEST_PDPTE3 = s->pdpte[3];
    }
    if (c->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY)
        f->GUEST_INTERRUPT_STATUS = (u16)(s->vmx.svi << 8 | s->vmx.rvi);
    if (vmx_caps_control(&c->caps, CONTROL_PROC3_APIC_TIMER_VIRTUALIZATION))
        f->GUEST_DEADLINE = s->vmx.guest_deadline; // 0 without the control
    f->VM_ENTRY_CONTROLS =
        (c->entry & ~(u32)ENTRY_IA32E_MODE_GUEST) | (s->msr.efer & EFER_LMA ? ENTRY_IA32E_MODE_GUEST : 0);
}

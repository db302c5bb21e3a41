// Events in non-root operation: which exit instead of being delivered, what a VM exit on the way of a
// delivery reports, NMI blocking, signals, and EPT events (SDM 28.2, 28.3, 30.2.4).
#include "vmx/insn.h"
#include "vmx/intercept.h"
#include "vmx/world.h"

static bool exception_exits(const struct vmx_control *c, const struct event *e)
{
    bool bit = c->exception_bitmap >> (e->vector & 31) & 1;
    if (e->vector == VEC_PF && (e->error & c->pfec_mask) != c->pfec_match) bit = !bit;
    return bit;
}

// "Instruction timeout" (SDM 27.6.24, 28.2): what keeps a processor from ever reaching an instruction
// boundary here is a delivery that meets an exception whose delivery meets one, and so on. So it is asked for
// each of them.
static bool timed_out(const struct vcpu *v, struct event *x)
{
    const struct vmx_state *s = &v->s.vmx;
    if (!s->original_event || cpu_vtime(v) - s->delivery_began < vmx_controls(v)->instruction_timeout)
        return false;
    *x = (struct event){.kind = EVENT_VMEXIT, .exit_reason = EXIT_REASON_INSTRUCTION_TIMEOUT};
    return true;
}

bool vmx_event_exits(struct vcpu *v, const struct event *e, struct event *x)
{
    if (!v->s.vmx.guest) return false;
    const struct vmx_control *c = vmx_controls(v);
    bool exits = false;

    *x = *e;
    x->kind = EVENT_VMEXIT;
    x->exit_reason = EXIT_REASON_EXCEPTION_NMI;
    switch (e->type) {
    case EVT_EXTERNAL:
        exits = c->pin & PIN_EXTERNAL_INTERRUPT_EXITING;
        x->exit_reason = EXIT_REASON_EXTERNAL_INTERRUPT;
        break;
    case EVT_NMI: exits = c->pin & PIN_NMI_EXITING; break;
    case EVT_HW_EXCEPTION:
        exits = exception_exits(c, e);
        // SDM 30.2.1 clears bits 63:32 outside 64-bit mode. Only the processor's own accesses to its tables
        // can have them, in compatibility mode; they are told as they are: hypervisors with shadow page
        // tables (KVM without EPT) take the address of the fault from here, and run such guests on
        // processors.
        if (e->vector == VEC_PF) x->exit_qualification = e->cr2;
        // with what a MOV to SS held back
        if (e->vector == VEC_DB) x->exit_qualification = (e->dr6 | (v->s.pending_dbg & 0xF)) & 0x600F;
        break;
    case EVT_PRIV_SW_EXCEPTION:
    case EVT_SW_EXCEPTION:
        exits = exception_exits(c, e);
        x->exit_valid = WITH_INSN_LEN;
        break;
    default: break; // INT n does not consult the bitmap
    }
    return exits || timed_out(v, x);
}

bool vmx_interrupt_exits(const struct vcpu *v)
{
    return v->s.vmx.guest && vmx_pin(v, PIN_EXTERNAL_INTERRUPT_EXITING);
}

void vmx_vectoring_begin(struct vcpu *v, const struct event *e)
{
    struct vmx_state *x = &v->s.vmx;
    if (!x->guest) return;
    if (!x->original_event) x->delivery_began = cpu_vtime(v);
    bool error = e->has_error && v->s.cr0 & CR0_PE; // never in real-address mode, not even for #DF
    x->original_event = IDENT_VALID | (u32)e->type << 8 | e->vector | (error ? IDENT_ERROR_CODE : 0);
    x->original_event_error = e->error;
    x->original_event_insn_len = e->insn_len;
    x->vectoring_rf = event_sets_rf(e);
}

void vmx_vectoring_end(struct vcpu *v)
{
    struct vmx_state *x = &v->s.vmx;
    if (!x->guest) return;
    x->original_event = 0;
    // before the handler's first instruction (SDM 28.5.2)
    if (vmx_proc(v, PROC_MONITOR_TRAP_FLAG)) x->mtf_pending = true;
}

void vmx_vectoring_put_off(struct vcpu *v) { v->s.vmx.original_event = 0; }

bool vmx_iret_unblocks(struct vcpu *v)
{
    bool blocked = false;
    if (vmx_pin(v, PIN_VIRTUAL_NMIS)) {
        blocked = v->s.virtual_nmi_blocked;
        v->s.virtual_nmi_blocked = false;
    } else if (!vmx_pin(v, PIN_NMI_EXITING)) {
        blocked = v->s.blocking & BLOCKING_BY_NMI;
        v->s.blocking &= ~(u32)BLOCKING_BY_NMI;
    }
    return blocked;
}

void vmx_init_exit(struct event *x)
{
    *x = (struct event){.kind = EVENT_VMEXIT, .exit_reason = EXIT_REASON_INIT};
}

void vmx_sipi_exit(u8 vector, struct event *x)
{
    *x = (struct event){.kind = EVENT_VMEXIT, .exit_reason = EXIT_REASON_SIPI, .exit_qualification = vector};
}

// EPT violations that become a virtualization exception (SDM 28.5.8.1, 28.5.8.2). Not during the delivery of
// an event, and not before software has cleared the second doubleword of the information area.
static void virtualize_violation(struct vcpu *v, const struct walk_result *r, laddr la)
{
    const struct vmx_control *c = vmx_controls(v);
    const struct vmcs_fields *f = &c->region->f;
    paddr area = f->VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS;
    u64 qualification = r->qualification | (v->d.iret_unblocked ? BIT(12) : 0);

    if (!(c->proc2 & PROC2_EPT_VIOLATION_VE) || !r->convertible || !(v->s.cr0 & CR0_PE)) return;
    if (v->s.vmx.original_event & IDENT_VALID || phys_read32(v->phys, v->index, area + 4)) return;
    u16 index = f->EPTP_INDEX; // before the writes, which may be to the VMCS
    const char *outer = phys_writer_begin(v->phys, "a virtualization exception");
    phys_write64(v->phys, v->index, area, EXIT_REASON_EPT_VIOLATION | (u64)0xFFFFFFFF << 32);
    phys_write64(v->phys, v->index, area + 8, qualification);
    phys_write64(v->phys, v->index, area + 16, r->qualification & EPT_Q_LINEAR ? la.at : 0);
    phys_write64(v->phys, v->index, area + 24, r->gpa.at);
    phys_write16(v->phys, v->index, area + 32, index);
    phys_writer_end(v->phys, outer);
    raise_fault(v, VEC_VE);
}

_Noreturn void vmx_raise_ept(struct vcpu *v, const struct walk_result *r, laddr la, bool la_valid)
{
    if (r->status == WALK_APIC_ACCESS) vmx_apic_guest_physical(v);
    // The instruction length is not promised for these, but processors write it, and KVM's MMIO path uses it.
    struct event e = {.kind = EVENT_VMEXIT, .exit_gpa = r->gpa.at, .exit_valid = WITH_GPA | WITH_INSN_LEN};
    if (v->d.in) e.insn_len = v->d.in->len;
    switch (r->status) {
    case WALK_EPT_MISCONFIG: e.exit_reason = EXIT_REASON_EPT_MISCONFIGURATION; break;
    case WALK_PML_FULL:
        e.exit_reason = EXIT_REASON_PML_FULL;
        e.exit_valid &= ~(u32)WITH_GPA;
        break;
    case WALK_SPP:
        e.exit_reason = EXIT_REASON_SPP;
        e.exit_qualification = r->qualification;
        e.exit_gla = la.at;
        e.exit_valid |= WITH_GLA;
        break;
    default:
        virtualize_violation(v, r, la);
        e.exit_reason = EXIT_REASON_EPT_VIOLATION;
        e.exit_qualification = r->qualification;
        if (la_valid && r->qualification & EPT_Q_LINEAR) {
            e.exit_gla = la.at;
            e.exit_valid |= WITH_GLA;
        }
    }
    raise_event(v, &e);
}

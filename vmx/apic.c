// The virtual-APIC page as a local APIC: TPR, PPR, EOI and self-IPI virtualization (SDM 32.1), the evaluation
// and the delivery of virtual interrupts (SDM 32.2), CR8 (SDM 32.3).
//
// RVI and SVI are state of the processor in non-root operation, and the guest interrupt status of the VMCS
// outside of it. VTPR, VPPR, VISR and VIRR are where the manual has them, in the page: software may change
// them any time, and what was recognized stays recognized until the next evaluation.
#include "vmx/apic.h"

#include "vmx/intercept.h"
#include "vmx/world.h"

void vmx_trap(struct vcpu *v, u32 reason, u32 qualification)
{
    v->s.vmx.trap = (u16)reason;
    v->s.vmx.trap_qualification = qualification;
    cpu_attention(v);
}

// ---- VISR and VIRR ----

static u8 highest(const struct vcpu *v, unsigned base)
{
    for (unsigned word = 8; word-- > 0;) {
        u32 bits = vapic_read(v, base + 16 * word);
        if (bits) return (u8)(32 * word + 31u - (unsigned)__builtin_clz(bits));
    }
    return 0;
}

static void put_vector(struct vcpu *v, unsigned base, u8 vector, bool set)
{
    unsigned at = vapic_vector_at(base, vector);
    u32 bit = 1u << (vector & 31), old = vapic_read(v, at);
    vapic_write(v, at, set ? old | bit : old & ~bit);
}

void vmx_virtual_request(struct vcpu *v, unsigned word, u32 vectors)
{
    unsigned at = VAPIC_IRR + 16 * word, top;
    if (!vectors) return;
    vapic_write(v, at, vapic_read(v, at) | vectors);
    top = 32 * word + 31u - (unsigned)__builtin_clz(vectors);
    if (top > v->s.vmx.rvi) v->s.vmx.rvi = (u8)top;
}

// ---- SDM 32.1.2 to 32.1.5, 32.2.1 ----

void vmx_evaluate_virtual_interrupts(struct vcpu *v)
{
    struct vmx_state *x = &v->s.vmx;
    x->virtual_interrupt =
        !vmx_proc(v, PROC_INTERRUPT_WINDOW_EXITING) && x->rvi >> 4 > (vapic_read(v, VAPIC_PPR) >> 4 & 15);
    cpu_attention(v);
}

static void ppr_virtualization(struct vcpu *v)
{
    u32 vtpr = vapic_read(v, VAPIC_TPR) & 0xFF, svi = v->s.vmx.svi;
    vapic_write(v, VAPIC_PPR, vtpr >> 4 >= svi >> 4 ? vtpr : svi & 0xF0);
}

static bool below_threshold(const struct vcpu *v)
{
    return (vapic_read(v, VAPIC_TPR) >> 4 & 15) < vmx_controls(v)->tpr_threshold;
}

void vmx_tpr_virtualization(struct vcpu *v)
{
    if (vmx_proc2(v, PROC2_VIRTUAL_INTERRUPT_DELIVERY)) {
        ppr_virtualization(v);
        vmx_evaluate_virtual_interrupts(v);
    } else if (below_threshold(v))
        vmx_trap(v, EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
}

void vmx_eoi_virtualization(struct vcpu *v)
{
    struct vmx_state *x = &v->s.vmx;
    u8 vector = x->svi;
    put_vector(v, VAPIC_ISR, vector, false);
    x->svi = highest(v, VAPIC_ISR);
    ppr_virtualization(v);
    if (vmx_controls(v)->eoi_exit[vector / 64] >> (vector % 64) & 1)
        vmx_trap(v, EXIT_REASON_VIRTUALIZED_EOI, vector);
    else
        vmx_evaluate_virtual_interrupts(v);
}

void vmx_self_ipi_virtualization(struct vcpu *v, u8 vector)
{
    vmx_virtual_request(v, vector / 32, 1u << (vector & 31));
    vmx_evaluate_virtual_interrupts(v);
}

// ---- at VM entry (SDM 29.3.2.5, 29.7.7) ----

void vmx_apic_entered(struct vcpu *v, const struct vmx_entry *e)
{
    struct vmx_state *x = &v->s.vmx;
    x->trap = 0, x->apic_write_size = 0;
    x->virtual_interrupt = false;
    x->guest_deadline = e->proc3 & PROC3_APIC_TIMER_VIRTUALIZATION ? e->f->GUEST_DEADLINE : 0;
    if (!(e->proc & PROC_USE_TPR_SHADOW)) return;
    if (e->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY) {
        x->rvi = (u8)e->f->GUEST_INTERRUPT_STATUS;
        x->svi = (u8)(e->f->GUEST_INTERRUPT_STATUS >> 8);
        ppr_virtualization(v);
        vmx_evaluate_virtual_interrupts(v);
    } else if (e->proc2 & PROC2_VIRTUALIZE_APIC_ACCESSES && below_threshold(v) &&
               v->s.activity != ACTIVITY_WAIT_SIPI)
        vmx_trap(v, EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
}

// ---- delivery (SDM 32.2.2) ----

bool vmx_virtual_interrupt_due(const struct vcpu *v)
{
    return v->s.vmx.virtual_interrupt && v->s.rflags & FL_IF &&
           !(v->s.blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) && v->s.activity != ACTIVITY_SHUTDOWN &&
           v->s.activity != ACTIVITY_WAIT_SIPI;
}

u8 vmx_virtual_interrupt_taken(struct vcpu *v)
{
    struct vmx_state *x = &v->s.vmx;
    u8 vector = x->rvi;
    put_vector(v, VAPIC_ISR, vector, true);
    x->svi = vector;
    vapic_write(v, VAPIC_PPR, vector & 0xF0);
    put_vector(v, VAPIC_IRR, vector, false);
    x->rvi = highest(v, VAPIC_IRR);
    x->virtual_interrupt = false;
    return vector;
}

// ---- CR8 (SDM 32.3) ----

bool vmx_read_cr8(struct vcpu *v, u64 *value)
{
    if (!v->s.vmx.guest || !vmx_proc(v, PROC_USE_TPR_SHADOW)) return false;
    *value = vapic_read(v, VAPIC_TPR) >> 4 & 15;
    return true;
}

bool vmx_write_cr8(struct vcpu *v, u64 value)
{
    if (!v->s.vmx.guest || !vmx_proc(v, PROC_USE_TPR_SHADOW)) return false;
    vapic_write(v, VAPIC_TPR, (u32)(value & 15) << 4);
    vmx_tpr_virtualization(v);
    return true;
}

// The guest timer: "APIC-timer virtualization" (SDM 28.3 at IA32_TSC_DEADLINE, 28.5.10). Its deadline is a
// value of the processor's own TSC, the shadow in the VMCS is what the guest wrote, by the guest's clock.
//
// SDM 28.5.10.2 has the event below external interrupts and above interrupt windows and virtual
// interrupts, 28.2 and 29.7.5 have these two above external interrupts. Each pair of them is in its order
// here: the event comes before them, unless there is an external interrupt that is not blocked.
#include "vmx/apic.h"
#include "vmx/intercept.h"

u64 vmx_guest_timer_at(const struct vcpu *v)
{
    u64 deadline = v->s.vmx.guest_deadline, now = cpu_vtime(v), tsc = now + v->s.msr.tsc_offset;
    bool suppressed = v->s.activity == ACTIVITY_SHUTDOWN || v->s.activity == ACTIVITY_WAIT_SIPI;
    if (!deadline || suppressed) return UINT64_MAX;
    if (deadline <= tsc) return now;
    return deadline - tsc > UINT64_MAX - now ? UINT64_MAX : now + (deadline - tsc);
}

bool vmx_guest_timer_due(const struct vcpu *v) { return vmx_guest_timer_at(v) <= cpu_vtime(v); }

static void put_shadow(struct vcpu *v, u64 x)
{
    vmx_controls(v)->region->f.GUEST_DEADLINE_SHADOW = x;
    vmx_region_written(v);
}

static void expire(struct vcpu *v)
{
    u8 vector = vmx_controls(v)->timer_vector;
    const char *outer = phys_writer_begin(v->phys, "the guest timer");
    vmx_virtual_request(v, vector / 32, 1u << (vector & 31));
    vmx_evaluate_virtual_interrupts(v);
    v->s.vmx.guest_deadline = 0;
    put_shadow(v, 0);
    phys_writer_end(v->phys, outer);
}

static bool external_interrupt(const struct vcpu *v)
{
    return v->s.intr_line && (v->s.rflags & FL_IF || vmx_interrupt_exits(v)) &&
           !(v->s.blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS));
}

bool vmx_boundary_guest_timer(struct vcpu *v)
{
    if (!vmx_guest_timer_due(v) || external_interrupt(v)) return false;
    expire(v);
    cpu_end_mwait(v); // HLT goes on
    return true;
}

void vmx_deadline_read(const struct vcpu *v, u64 *value)
{
    *value = vmx_controls(v)->region->f.GUEST_DEADLINE_SHADOW;
}

void vmx_deadline_write(struct vcpu *v, u64 value)
{
    v->d.leave = true; // the slice may end sooner now
    put_shadow(v, value);
    if (!value) {
        v->s.vmx.guest_deadline = 0;
    } else if (value > vmx_tsc(v, cpu_clock(v) + v->s.msr.tsc_offset)) {
        v->s.vmx.guest_deadline = vmx_delay(v, value - vmx_controls(v)->tsc_offset);
    } else {
        expire(v);
    }
    cpu_attention(v);
}

// The VMX-preemption timer (SDM 28.5.1): one is gone of it at each change of TSC bit `rate` that is due to
// the TSC's increment, not at one that a write of the TSC makes. It is kept as the vtime of its end. What it
// counts is the TSC, which a processor behind the others reads further than its own time is (cpu_clock).
#include "vmx/intercept.h"
#include "vmx/world.h"

static unsigned rate(const struct vcpu *v) { return v->vmx->caps.misc & 31; }

// Ticks from `tsc` to the change number `count` from there.
static u64 until(const struct vcpu *v, u64 tsc, u32 count)
{
    return ((u64)count << rate(v)) - (tsc & (BIT(rate(v)) - 1));
}

u64 vmx_timer_ends(const struct vcpu *v, u32 count)
{
    u64 now = cpu_clock_now(v);
    return count ? now + until(v, now + v->s.msr.tsc_offset, count) : cpu_vtime(v);
}

u32 vmx_timer_left(const struct vcpu *v)
{
    u64 now = cpu_clock_now(v), left = v->s.vmx.timer_deadline > now ? v->s.vmx.timer_deadline - now : 0;
    return (u32)((left + BIT(rate(v)) - 1) >> rate(v));
}

void vmx_tsc_jumps(struct vcpu *v, u64 by)
{
    struct vmx_state *x = &v->s.vmx;
    if (!x->guest) return;
    if (x->timer_active) {
        u32 left = vmx_timer_left(v);
        u64 now = cpu_clock_now(v);
        if (left) x->timer_deadline = now + until(v, now + v->s.msr.tsc_offset + by, left);
    }
    // The slice may end sooner now, for the guest timer too.
    v->d.leave = v->d.attention = true;
}

// The local APIC's timer: one-shot, periodic and TSC-deadline. Source: SDM volume 3, "APIC Timer" and
// "TSC-Deadline Mode". It counts the core crystal clock (CPUID leaf 15h: 25 MHz) divided by the divide
// configuration.
//
// The count is a function of the clock since it was started. A deadline is kept only while its interrupt
// could be delivered: a masked timer costs nothing and counts all the same.
#include "devices/lapic_internal.h"

#define TICKS_PER_CRYSTAL (CLOCK_HZ / CPU_CRYSTAL_HZ)
_Static_assert(CLOCK_HZ % CPU_CRYSTAL_HZ == 0, "the crystal's period is a whole number of clock ticks");

static u64 ticks_per_count(const struct lapic *l)
{
    u32 d = l->st.timer_divide;
    unsigned code = (d & 3) | (d >> 1 & 4); // 0: by 2 ... 6: by 128, 7: by 1
    return TICKS_PER_CRYSTAL << ((code + 1) & 7);
}

static u64 elapsed(const struct lapic *l)
{
    return (l->dev.clock->now - l->st.timer_start) / ticks_per_count(l);
}

u32 lapic_timer_count(const struct lapic *l)
{
    const struct lapic_state *s = &l->st;
    if (!s->timer_from || lapic_timer_mode(l) == TIMER_TSC_DEADLINE) return 0;
    u64 e = elapsed(l);
    if (e < s->timer_from) return s->timer_from - (u32)e;
    if (lapic_timer_mode(l) != TIMER_PERIODIC || !s->timer_initial) return 0;
    return s->timer_initial - (u32)((e - s->timer_from) % s->timer_initial);
}

// Moves the origin past the expiries that nobody waited for.
static void settle(struct lapic *l)
{
    struct lapic_state *s = &l->st;
    if (!s->timer_from || elapsed(l) < s->timer_from) return;
    if (lapic_timer_mode(l) != TIMER_PERIODIC || !s->timer_initial) {
        s->timer_from = 0;
        return;
    }
    u64 past = elapsed(l) - s->timer_from;
    s->timer_start += (s->timer_from + past / s->timer_initial * s->timer_initial) * ticks_per_count(l);
    s->timer_from = s->timer_initial;
}

void lapic_timer_arm(struct lapic *l)
{
    const struct lapic_state *s = &l->st;
    u64 at = CLOCK_NEVER, now = l->dev.clock->now;
    if (lapic_timer_mode(l) == TIMER_TSC_DEADLINE) {
        if (s->tsc_deadline) { // armed even if masked: reaching it disarms it
            u64 tsc = l->ops->tsc(l->cpu), past = tsc - s->tsc_deadline, ahead = s->tsc_deadline - tsc;
            if (s->tsc_deadline <= tsc)
                at = past > now ? 0 : now - past;
            else if (ahead < CLOCK_NEVER - now)
                at = now + ahead;
        }
    } else if (s->timer_from && !(s->lvt[LAPIC_LVT_TIMER] & LVT_MASKED)) {
        at = s->timer_start + s->timer_from * ticks_per_count(l);
    }
    clock_timer_set(l->dev.clock, l->timer, at);
}

void lapic_timer_due(struct lapic *l)
{
    struct lapic_state *s = &l->st;
    if (lapic_timer_mode(l) == TIMER_TSC_DEADLINE) {
        s->tsc_deadline = 0;
    } else if (lapic_timer_mode(l) == TIMER_PERIODIC && s->timer_initial) {
        s->timer_start += s->timer_from * ticks_per_count(l);
        s->timer_from = s->timer_initial;
    } else {
        s->timer_from = 0;
    }
    lapic_timer_arm(l);
    lapic_local(l, LAPIC_LVT_TIMER);
}

void lapic_timer_start(struct lapic *l, u32 initial)
{
    if (lapic_timer_mode(l) == TIMER_TSC_DEADLINE) return; // ignored in this mode
    l->st.timer_initial = initial;
    l->st.timer_from = initial; // 0 stops it
    l->st.timer_start = l->dev.clock->now;
    lapic_timer_arm(l);
}

void lapic_timer_set_divide(struct lapic *l, u32 divide)
{
    l->st.timer_from = lapic_timer_count(l); // goes on from here at the new rate
    l->st.timer_start = l->dev.clock->now;
    l->st.timer_divide = divide;
    lapic_timer_arm(l);
}

void lapic_timer_set_lvt(struct lapic *l, u32 lvt)
{
    bool deadline = lapic_timer_mode(l) == TIMER_TSC_DEADLINE;
    settle(l);
    l->st.lvt[LAPIC_LVT_TIMER] = lvt;
    if ((lapic_timer_mode(l) == TIMER_TSC_DEADLINE) != deadline) { // either way the timer is disarmed
        l->st.timer_from = l->st.timer_initial = 0;
        l->st.tsc_deadline = 0;
    }
    lapic_timer_arm(l);
}

void lapic_timer_set_deadline(struct lapic *l, u64 deadline)
{
    if (lapic_timer_mode(l) != TIMER_TSC_DEADLINE) return; // a write in another mode is ignored
    l->st.tsc_deadline = deadline;
    lapic_timer_arm(l);
}

const char *lapic_timer_impossible(const struct lapic *l, const struct lapic_state *s)
{
    u64 now = l->dev.clock->now;
    if (!s->timer_from) return NULL;
    if (s->timer_start > now) return "its timer began in the future";
    // Every period from there on is made up for, but while the timer is masked.
    struct lapic other = {.st = *s};
    u64 due = s->timer_start + s->timer_from * ticks_per_count(&other);
    bool counts = lapic_timer_mode(&other) == TIMER_PERIODIC && !(s->lvt[LAPIC_LVT_TIMER] & LVT_MASKED);
    return counts && due + BIT(24) < now ? "its timer has stood still" : NULL;
}

void lapic_tsc_changed(struct lapic *l) { lapic_timer_arm(l); }

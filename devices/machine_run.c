// The run loop over the processors. They take turns on one host thread, by virtual time: the turn is always
// that of the processor which is furthest behind, and it ends when that one is a quantum ahead of the next.
// With one processor a turn has no end. The board's deadlines fire between slices, when no processor is
// behind them any more.
//
// A turn ends sooner where others wait for what was done in it: at HLT and MWAIT, at a PAUSE while somebody
// is well behind, and when an interrupt, INIT, SIPI or NMI for another processor, or a store to the line
// which that one monitors, was made: it runs no further than to the other's time. So such a signal is seen at
// most one quantum of the receiver's time after it was sent, and by one that sleeps at once.
//
// All clocks that processors have in common read m->clock.now, which never runs backwards whoever asks: what
// one processor has read of the TSC, no other reads less of later, though its own time is up to a quantum
// behind.
//
// Whose turn it is and how far it goes is state (struct machine_turns): a run that was stopped from outside
// anywhere goes on as if it had not been.
#include "devices/machine.h"

#define QUANTUM 40000 // ticks: 20 microseconds
#define PAUSE_LEAD \
    (QUANTUM / 8) // by how much somebody is behind where PAUSE gives way: several that spin must not take
                  // turns at each

static u64 asleep(const struct machine *m, unsigned cpu) { return m->turns.asleep >> cpu & 1; }

u64 machine_units(const struct machine *m)
{
    u64 units = 0;
    for (unsigned i = 0; i < m->cpus_n; i++) units += m->cpu[i]->s.units;
    return units;
}

u64 machine_retired(const struct machine *m)
{
    u64 n = 0;
    for (unsigned i = 0; i < m->cpus_n; i++) n += cpu_retired(m->cpu[i]);
    return n;
}

// ---- who sleeps, and what wakes ----

static void wake(struct machine *m, unsigned cpu, u64 time)
{
    m->turns.asleep &= ~BIT(cpu);
    cpu_skip_to(m->cpu[cpu], time);
}

void machine_signalled(struct machine *m, unsigned cpu)
{
    struct machine_turns *t = &m->turns;
    if (asleep(m, cpu)) wake(m, cpu, m->clock.now);
    if (!t->going || cpu == t->cpu) return;
    u64 time = cpu_vtime(m->cpu[cpu]);
    if (time >= t->target) return;
    t->target = time;
    cpu_signal(m->cpu[t->cpu], CPU_SIGNAL_STOP, 0); // which looks at the new target
}

void machine_paused(struct machine *m, unsigned cpu)
{
    struct machine_turns *t = &m->turns;
    u64 time = cpu_vtime(m->cpu[cpu]);
    if (!t->going || cpu != t->cpu) return;
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (i == cpu || asleep(m, i) || cpu_vtime(m->cpu[i]) + PAUSE_LEAD >= time) continue;
        t->target = 0;
        cpu_signal(m->cpu[cpu], CPU_SIGNAL_STOP, 0);
        return;
    }
}

// The time of the processor that is furthest behind of those that are awake; UINT64_MAX if all sleep.
static u64 least_time(const struct machine *m)
{
    u64 least = UINT64_MAX;
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (!asleep(m, i) && cpu_vtime(m->cpu[i]) < least) least = cpu_vtime(m->cpu[i]);
    return least;
}

// Those whose own timer (the VMX-preemption timer) is due.
static void wake_by_own_timers(struct machine *m)
{
    for (unsigned i = 0; m->turns.asleep >> i && i < m->cpus_n; i++)
        if (asleep(m, i) && cpu_own_deadline(m->cpu[i]) <= m->clock.now)
            wake(m, i, cpu_own_deadline(m->cpu[i]));
}

// All processors sleep: time passes to the next deadline, or while input is waited for. False if nothing can
// wake them.
static bool pass_idle_time(struct machine *m)
{
    u64 next = m->clock.next_deadline, now = m->clock.now;
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (cpu_own_deadline(m->cpu[i]) < next) next = cpu_own_deadline(m->cpu[i]);
        if (cpu_vtime(m->cpu[i]) > now) now = cpu_vtime(m->cpu[i]);
    }
    struct machine_wake by = machine_wake(m);
    if (!by.time && !by.input) return false;
    u64 ticks = next == CLOCK_NEVER ? CLOCK_HZ : next > now ? next - now : 0;
    if (ticks && m->idle) {
        u64 passed = m->idle(m->idle_opaque, ticks);
        if (passed < ticks) ticks = passed;
    }
    m->clock.now = now + ticks;
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_skip_to(m->cpu[i], m->clock.now);
    return true;
}

// ---- turns ----

// Of equals the next one in the order of numbers after whose turn it was. False if all sleep.
static bool begin_turn(struct machine *m)
{
    struct machine_turns *t = &m->turns;
    u64 least = UINT64_MAX;
    unsigned next = 0;
    for (unsigned k = 1; k <= m->cpus_n; k++) {
        unsigned i = (t->cpu + k) % m->cpus_n;
        if (asleep(m, i) || cpu_vtime(m->cpu[i]) >= least) continue;
        least = cpu_vtime(m->cpu[i]);
        next = i;
    }
    if (least == UINT64_MAX) return false;
    t->target = UINT64_MAX;
    for (unsigned i = 0; i < m->cpus_n; i++) {
        if (i == next) continue;
        u64 to = asleep(m, i) ? cpu_own_deadline(m->cpu[i]) : cpu_vtime(m->cpu[i]) + QUANTUM;
        if (to < t->target) t->target = to;
    }
    t->cpu = next;
    t->going = true;
    return true;
}

static void go_on(struct machine *m, u64 units)
{
    struct machine_turns *t = &m->turns;
    struct vcpu *v = m->cpu[t->cpu];
    u64 time = cpu_vtime(v);
    if (t->target != UINT64_MAX && t->target > time) {
        u64 left = (t->target - time + CPU_TICKS_PER_UNIT - 1) / CPU_TICKS_PER_UNIT;
        if (left < units) units = left;
    }
    if (t->target > time) {
        if (vcpu_run(v, units) == RUN_HALTED) {
            t->asleep |= BIT(t->cpu);
            t->going = false;
        }
        v->stop = false;
    }
    // at a deadline of the board it waits for the others, who must come to it before it fires
    if (cpu_vtime(v) >= t->target || cpu_vtime(v) >= m->clock.next_deadline) t->going = false;
}

void machine_ask_stop(struct machine *m)
{
    m->stop_asked = 1;
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_ask_stop(m->cpu[i]);
}

static enum machine_end stopped(struct machine *m)
{
    m->stop_asked = 0;
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_stop_taken(m->cpu[i]);
    return MACHINE_STOPPED;
}

enum machine_end machine_run(struct machine *m, u64 units)
{
    u64 used = machine_units(m), end = used + units < units ? UINT64_MAX : used + units;
    for (;;) {
        u64 now = least_time(m);
        if (now != UINT64_MAX && now > m->clock.now) m->clock.now = now;
        if (m->clock.next_deadline <= m->clock.now) clock_run(&m->clock);
        if (m->turns.asleep) wake_by_own_timers(m);
        if (m->request.what != MACHINE_RUN) return m->request.what;
        if (m->stop_asked) return stopped(m);
        used = machine_units(m);
        if (used >= end) return MACHINE_RUN;
        if (m->turns.going || begin_turn(m))
            go_on(m, end - used);
        else if (!pass_idle_time(m))
            return MACHINE_IDLE;
    }
}

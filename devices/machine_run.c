// The run loop over the processors: round-robin on one host thread, each to the same time in small quanta;
// deadlines of the board fire between slices, in the order of the clock. With one processor the quantum has
// no end.
//
// Not here: the end of a quantum by an IPI (a processor sees it when its turn comes, a quantum later at most)
// or by a store to a line that another processor monitors; and time stamps in the order of the turns: a
// processor may read one that is up to a quantum behind what another has read before (an operating system
// then calls the TSC unstable).
#include "devices/machine.h"

#define QUANTUM 20000 // ticks: 10 microseconds

static u64 least_time(const struct machine *m)
{
    u64 least = UINT64_MAX;
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (cpu_vtime(m->cpu[i]) < least) least = cpu_vtime(m->cpu[i]);
    return least;
}

// All processors halt: time passes to the next deadline, or while input is waited for. False if nothing can
// wake them.
static bool pass_idle_time(struct machine *m)
{
    u64 next = CLOCK_NEVER, now = least_time(m);
    for (unsigned i = 0; i < m->cpus_n; i++) {
        u64 d = cpu_idle_deadline(m->cpu[i]);
        if (d < next) next = d;
    }
    struct machine_wake by = machine_wake(m);
    if (!by.time && !by.input) return false;
    u64 ticks = next == CLOCK_NEVER ? CLOCK_HZ : next > now ? next - now : 0;
    if (ticks && m->idle) {
        u64 passed = m->idle(m->idle_opaque, ticks);
        if (passed < ticks) ticks = passed;
    }
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_skip_to(m->cpu[i], now + ticks);
    return true;
}

// One turn of every processor that is not ahead of the others. Returns whether one of them ran to its limit.
static bool turns(struct machine *m, u64 now, u64 end_units)
{
    u64 target = m->cpus_n == 1 ? UINT64_MAX : now + QUANTUM, reached = UINT64_MAX;
    bool halted[MACHINE_CPUS_MAX] = {false}, awake = false;
    for (unsigned i = 0; i < m->cpus_n && m->request.what == MACHINE_RUN; i++) {
        struct vcpu *v = m->cpu[i];
        u64 time = cpu_vtime(v);
        if (time >= target) {
            awake = true;
            continue;
        }
        u64 units =
            target == UINT64_MAX ? UINT64_MAX : (target - time + CPU_TICKS_PER_UNIT - 1) / CPU_TICKS_PER_UNIT;
        if (i == 0 && units > end_units - v->s.units) units = end_units - v->s.units;
        halted[i] = vcpu_run(v, units) == RUN_HALTED;
        v->stop = false;
        if (halted[i]) continue;
        awake = true;
        if (cpu_vtime(v) < reached) reached = cpu_vtime(v);
    }
    if (!awake || m->request.what != MACHINE_RUN) return awake;
    for (unsigned i = 0; i < m->cpus_n; i++) // a halted processor keeps the others' time
        if (halted[i] && reached != UINT64_MAX) cpu_skip_to(m->cpu[i], reached);
    return true;
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
    struct vcpu *first = m->cpu[0];
    u64 end_units = first->s.units + units < units ? UINT64_MAX : first->s.units + units;
    for (;;) {
        u64 now = least_time(m);
        if (now > m->clock.now) m->clock.now = now;
        if (m->clock.next_deadline <= m->clock.now) clock_run(&m->clock);
        if (m->request.what != MACHINE_RUN) return m->request.what;
        if (m->stop_asked) return stopped(m);
        if (first->s.units >= end_units) return MACHINE_RUN;
        if (!turns(m, now, end_units) && m->request.what == MACHINE_RUN && !pass_idle_time(m))
            return MACHINE_IDLE;
    }
}

// The machine's one clock: a short list of deadlines, searched linearly (a machine has about twenty timers,
// and the run loop looks at next_deadline only). Missing: nothing.
#include "devices/clock.h"
#include "devices/device.h"

__extension__ typedef unsigned __int128 u128;

static void find_next(struct clock *c)
{
    u64 next = CLOCK_NEVER;
    for (unsigned i = 0; i < c->timers_n; i++)
        if (c->timers[i].deadline < next) next = c->timers[i].deadline;
    c->next_deadline = next;
}

void clock_init(struct clock *c)
{
    c->now = 0;
    c->next_deadline = CLOCK_NEVER;
    c->timers_n = 0;
}

unsigned clock_timer_add(struct clock *c, struct device *dev, unsigned id)
{
    if (c->timers_n == CLOCK_TIMERS) panic("clock: more than %d timers", CLOCK_TIMERS);
    c->timers[c->timers_n] = (struct clock_timer){.dev = dev, .id = id, .deadline = CLOCK_NEVER};
    return c->timers_n++;
}

void clock_timer_set(struct clock *c, unsigned timer, u64 deadline)
{
    if (deadline >= CLOCK_END) deadline = CLOCK_NEVER;
    u64 old = c->timers[timer].deadline;
    c->timers[timer].deadline = deadline;
    if (deadline <= c->next_deadline)
        c->next_deadline = deadline;
    else if (old == c->next_deadline)
        find_next(c);
}

void clock_run(struct clock *c)
{
    while (c->next_deadline <= c->now && c->next_deadline != CLOCK_NEVER) {
        unsigned due = 0;
        while (c->timers[due].deadline != c->next_deadline) due++;
        struct clock_timer *t = &c->timers[due];
        t->deadline = CLOCK_NEVER;
        find_next(c);
        t->dev->ops->tick(t->dev, t->id);
    }
}

u64 clock_to_hz(u64 t, u64 hz) { return (u64)((u128)t * hz / CLOCK_HZ); }

u64 clock_from_hz(u64 n, u64 hz)
{
    u128 t = ((u128)n * CLOCK_HZ + hz - 1) / hz;
    return t >= CLOCK_NEVER ? CLOCK_NEVER : (u64)t;
}

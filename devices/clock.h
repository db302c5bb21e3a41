// The machine's one clock: virtual ticks, and the deadlines that devices keep in it.
//
// `now` is in ticks of CPU_TSC_HZ (cpu/state/vcpu.h: 2 GHz). The board sets it from the processor's own time
// at each access to a device and before deadlines fire, never devices: every device clock (PIT, PM timer,
// HPET, RTC, APIC timer) is a pure function of `now`. Deadlines are state of the devices that own them; this
// list is derived and is rebuilt from them on restore.
#ifndef DEVICES_CLOCK_H
#define DEVICES_CLOCK_H

#include "cpu/state/vcpu.h"

#define CLOCK_HZ     CPU_TSC_HZ
#define CLOCK_NEVER  UINT64_MAX
// 73 years: no time reaches it, so that sums of a few do not wrap; a deadline from there on is none
#define CLOCK_END    BIT(62)
#define CLOCK_TIMERS 128 // of the local APICs, and of the rest of the board

struct device;

#define CLOCK_STATE_VERSION 1 // of `now`, which is the clock's state

struct clock {
    u64 now;           // ticks since reset of the machine's time
    u64 next_deadline; // minimum of all armed timers, CLOCK_NEVER if none
    struct clock_timer {
        struct device *dev;
        unsigned id;  // handed to ops->tick
        u64 deadline; // CLOCK_NEVER: not armed
    } timers[CLOCK_TIMERS];
    unsigned timers_n;
};

void clock_init(struct clock *c);
// Reserves a timer at wiring time; equal deadlines fire in the order of these calls. Returns the timer's
// handle.
unsigned clock_timer_add(struct clock *c, struct device *dev, unsigned id);
void clock_timer_set(struct clock *c, unsigned timer, u64 deadline); // absolute ticks, or CLOCK_NEVER
// Fires every timer whose deadline is <= now, earliest first, wiring order for equal ones (a tick may
// re-arm).
void clock_run(struct clock *c);
// Scales exactly without overflow: ticks of `hz` that have passed at clock time t, and the first clock time
// at which `n` ticks of `hz` have passed.
u64 clock_to_hz(u64 t, u64 hz);
u64 clock_from_hz(u64 n, u64 hz);

#endif

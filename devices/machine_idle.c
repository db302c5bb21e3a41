// What can wake a halted machine. While every processor is halted only time and input change anything, so
// what is masked now stays masked: if no running timer and no input has a way to a processor that would take
// it, the machine sleeps for ever.
#include "devices/machine.h"

#include <stdio.h>
#include <string.h>

// What the processor gets if one of these lines rises.
static u32 signals_of(const struct machine *m, unsigned cpu, u64 lines)
{
    const struct lapic *l = &m->lapic[cpu];
    u32 signals = 0;
    for (unsigned n = 0; n < 32 + IOAPIC_PINS; n++) {
        struct apic_message to;
        bool isa = n < 32;
        unsigned pin = !isa ? n - 32 : n ? n : 2; // as drive_irq leads them
        if (!(lines >> n & 1)) continue;
        if (pin < IOAPIC_PINS && ioapic_would_send(&m->ioapic, pin, &to))
            signals |= lapic_would_signal(l, &to);
        if (isa && n < 16 && pic_would_interrupt(&m->pic, n))
            signals |= lapic_would_signal_local(l, LAPIC_LVT_LINT0);
    }
    return signals;
}

static bool woken_by(const struct machine *m, unsigned cpu, u32 signals)
{
    u32 by = cpu_woken_by(m->cpu[cpu]);
    return (signals & LAPIC_INTR && by & BIT(CPU_SIGNAL_INTR_ON)) ||
           (signals & LAPIC_NMI && by & BIT(CPU_SIGNAL_NMI)) ||
           (signals & LAPIC_INIT && by & BIT(CPU_SIGNAL_INIT)) ||
           (signals & LAPIC_SIPI && by & BIT(CPU_SIGNAL_SIPI));
}

// The lines that somebody else than this device holds up: they do not rise.
static u64 held(const struct machine *m, const struct device *d)
{
    const u32 *by = m->irq_levels;
    return by[IRQ_FROM_PCI] | by[IRQ_FROM_TEST] | by[d == &m->hpet.dev ? IRQ_FROM_ISA : IRQ_FROM_HPET_LEGACY];
}

static bool lines_wake(const struct machine *m, const struct device *d, u64 lines)
{
    lines &= ~held(m, d);
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (woken_by(m, i, signals_of(m, i, lines))) return true;
    return false;
}

static bool timer_wakes(const struct machine *m, const struct clock_timer *t)
{
    if (t->deadline == CLOCK_NEVER) return false;
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (t->dev == &m->lapic[i].dev)
            return woken_by(m, i, lapic_would_signal_local(&m->lapic[i], LAPIC_LVT_TIMER));
    return t->dev->ops->raises && lines_wake(m, t->dev, t->dev->ops->raises(t->dev, t->id));
}

struct machine_wake machine_wake(const struct machine *m)
{
    struct machine_wake w = {0};
    for (unsigned i = 0; i < m->cpus_n; i++) w.time |= cpu_own_deadline(m->cpu[i]) != UINT64_MAX;
    for (unsigned i = 0; i < m->clock.timers_n && !w.time; i++) w.time = timer_wakes(m, &m->clock.timers[i]);
    for (unsigned i = 0; i < MACHINE_SERIAL; i++)
        if (m->input_open >> i & 1 && uart_input_interrupts(&m->uart[i]))
            w.input |= lines_wake(m, &m->uart[i].dev, DEVICE_ISA(m->uart[i].irq.n));
    return w;
}

// The timers that run, by their devices' names.
static void running(const struct machine *m, char *names, size_t n)
{
    const struct device *last = NULL;
    size_t at = 0;
    names[0] = 0;
    for (unsigned i = 0; i < m->clock.timers_n; i++) {
        const struct clock_timer *t = &m->clock.timers[i];
        if (t->deadline == CLOCK_NEVER || t->dev == last) continue;
        last = t->dev;
        if (at < n) at += (size_t)snprintf(names + at, n - at, "%s%s", at ? ", " : "", t->dev->ops->name);
    }
}

void machine_asleep(const struct machine *m, char *why, size_t n)
{
    const struct vcpu *v = m->cpu[0];
    const char *input =
        m->input_open ? "serial input raises no interrupt that it takes" : "no serial input can come";
    char names[128];
    running(m, names, sizeof names);
    if (v->s.activity == ACTIVITY_WAIT_SIPI)
        snprintf(why, n, "it waits for a start-up IPI, which nobody sends");
    else if (v->s.activity == ACTIVITY_SHUTDOWN)
        snprintf(why, n, "it is in the shutdown state, and no NMI can come");
    else if (!(cpu_woken_by(v) & BIT(CPU_SIGNAL_INTR_ON)))
        snprintf(why, n, "interrupts are off (IF=0), and no NMI can come");
    else if (!names[0])
        snprintf(why, n, "no timer runs, and %s", input);
    else
        snprintf(why, n,
                 "the interrupts of the timers that run (%s) cannot reach it (masked, or an EOI is missing), "
                 "and %s",
                 names, input);
}

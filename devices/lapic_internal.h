// Shared by the local APIC's files only.
#ifndef DEVICES_LAPIC_INTERNAL_H
#define DEVICES_LAPIC_INTERNAL_H

#include "devices/lapic.h"

#define LVT_MASKED     0x10000u
#define LVT_LEVEL      0x8000u
#define LVT_REMOTE_IRR 0x4000u
#define SVR_ENABLE     0x100u
#define ICR_ASSERT     0x4000u
#define ICR_LEVEL      0x8000u

enum { ESR_SEND_ILLEGAL = 0x20, ESR_RECEIVE_ILLEGAL = 0x40, ESR_ILLEGAL_REGISTER = 0x80 };
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE }; // LVT timer bits 18:17

static inline u32 lapic_x2apic_ldr(u32 id) { return (id >> 4) << 16 | 1u << (id & 15); }
static inline unsigned lapic_timer_mode(const struct lapic *l)
{
    return l->st.lvt[LAPIC_LVT_TIMER] >> 17 & 3;
}

u32 lapic_ppr(const struct lapic *l);
void lapic_update(struct lapic *l);
void lapic_error(struct lapic *l, u32 bit);
void lapic_local(struct lapic *l, unsigned lvt);
void lapic_send_ipi(struct lapic *l);
void lapic_power_up(struct lapic *l);

u32 lapic_timer_count(const struct lapic *l);
const char *lapic_timer_impossible(const struct lapic *l,
                                   const struct lapic_state *s); // device_ops.impossible
void lapic_timer_arm(struct lapic *l);                           // recomputes the deadline from the state
void lapic_timer_due(struct lapic *l);
void lapic_timer_start(struct lapic *l, u32 initial);
void lapic_timer_set_divide(struct lapic *l, u32 divide);
void lapic_timer_set_lvt(struct lapic *l, u32 lvt);
void lapic_timer_set_deadline(struct lapic *l, u64 deadline);

#endif

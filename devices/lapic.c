// Local APIC: state, interrupts in and out of it, and the bus. Its registers are in lapic_regs.c, its timer
// in lapic_timer.c. Source: SDM volume 3, chapter 11 ("Advanced Programmable Interrupt Controller", numbered
// 10 in older editions); section names are given where a rule is not obvious.
//
// Not here: SMI (counted), the performance and thermal LVTs' sources (the registers are there, nothing raises
// them), LVT CMCI, directed EOI (not reported in the version register), cluster hierarchies of physical APIC
// buses.
#include "devices/lapic.h"
#include "devices/lapic_internal.h"

#include <string.h>

static int highest(const u32 *bits)
{
    for (int i = 7; i >= 0; i--)
        if (bits[i]) return i * 32 + 31 - __builtin_clz(bits[i]);
    return -1;
}
static bool test_bit(const u32 *bits, unsigned n) { return bits[n / 32] >> (n % 32) & 1; }
static void put_bit(u32 *bits, unsigned n, bool v)
{
    bits[n / 32] = (bits[n / 32] & ~(1u << (n % 32))) | (u32)v << (n % 32);
}

u32 lapic_ppr(const struct lapic *l)
{
    int isrv = highest(l->st.isr);
    u32 serving = isrv < 0 ? 0 : (u32)isrv;
    return l->st.tpr >> 4 >= serving >> 4 ? l->st.tpr : serving & 0xF0;
}

// The vector that would be delivered now, or -1.
static int deliverable(const struct lapic *l)
{
    int irrv = lapic_enabled(l) ? highest(l->st.irr) : -1;
    return irrv >= 0 && (u32)irrv >> 4 > lapic_ppr(l) >> 4 ? irrv : -1;
}

// The 8259's request reaches the processor: through LINT0 as ExtINT, by a message of the I/O APIC or a
// device, which is an edge (section Message Data Register Format), or straight if there is no APIC.
static bool extint(const struct lapic *l)
{
    if (l->st.extint && lapic_enabled(l)) return true;
    if (!l->st.lint[0]) return false;
    u32 lvt = l->st.lvt[LAPIC_LVT_LINT0];
    return !lapic_enabled(l) || (!(lvt & LVT_MASKED) && (lvt >> 8 & 7) == DELIVER_EXTINT);
}

bool lapic_pending(const struct lapic *l) { return deliverable(l) >= 0 || extint(l); }

void lapic_update(struct lapic *l) { l->ops->intr(l->cpu, lapic_pending(l)); }

int lapic_ack(struct lapic *l)
{
    int vector = deliverable(l);
    if (vector >= 0) {
        put_bit(l->st.irr, (unsigned)vector, false);
        put_bit(l->st.isr, (unsigned)vector, true);
    } else if (extint(l) && l->bus->extint_ack) {
        l->st.extint = 0;
        vector = l->bus->extint_ack(l->bus->extint_to);
    }
    lapic_update(l);
    return vector;
}

void lapic_error(struct lapic *l, u32 bit)
{
    if (l->st.errors & bit) return;
    l->st.errors |= bit;
    lapic_local(l, LAPIC_LVT_ERROR);
}

void lapic_apply_fixed(struct lapic *l, u8 vector, bool level)
{
    if (!lapic_enabled(l) || !(l->st.svr & SVR_ENABLE)) return;
    if (vector < 16) {
        lapic_error(l, ESR_RECEIVE_ILLEGAL);
        return;
    }
    put_bit(l->st.irr, vector, true);
    put_bit(l->st.tmr, vector, level);
    lapic_update(l);
}

// An interrupt of one of the APIC's own sources, as its LVT entry says.
void lapic_local(struct lapic *l, unsigned lvt)
{
    u32 e = l->st.lvt[lvt];
    if (e & LVT_MASKED || !lapic_enabled(l)) return;
    switch (e >> 8 & 7) {
    case DELIVER_FIXED: {
        // LINT1 is always edge (SDM, Local Vector Table)
        bool level = lvt == LAPIC_LVT_LINT0 && e & LVT_LEVEL;
        if (level) l->st.lvt[lvt] |= LVT_REMOTE_IRR;
        lapic_apply_fixed(l, (u8)e, level);
        break;
    }
    case DELIVER_NMI: l->ops->nmi(l->cpu); break;
    case DELIVER_INIT: l->ops->init(l->cpu); break;
    case DELIVER_SMI: device_unimplemented(&l->dev, "lapic: SMI"); break;
    default: break; // ExtINT follows the pin's level: extint()
    }
}

void lapic_set_lint(void *lapic, unsigned pin, bool level)
{
    struct lapic *l = lapic;
    bool was = l->st.lint[pin];
    l->st.lint[pin] = level;
    if (level && !was) {
        if (lapic_enabled(l))
            lapic_local(l, pin ? LAPIC_LVT_LINT1 : LAPIC_LVT_LINT0);
        else if (pin) // without an APIC the pins are INTR and NMI
            l->ops->nmi(l->cpu);
    }
    lapic_update(l);
}

u8 lapic_tpr(const struct lapic *l) { return (u8)l->st.tpr; }

void lapic_set_tpr(struct lapic *l, u8 tpr)
{
    l->st.tpr = tpr;
    lapic_update(l);
}

void lapic_eoi(struct lapic *l)
{
    int vector = highest(l->st.isr);
    if (vector < 0) return;
    put_bit(l->st.isr, (unsigned)vector, false);
    if (test_bit(l->st.tmr, (unsigned)vector)) {
        u32 *lint0 = &l->st.lvt[LAPIC_LVT_LINT0];
        if (*lint0 & LVT_REMOTE_IRR && (*lint0 & 0xFF) == (u32)vector) {
            *lint0 &= ~LVT_REMOTE_IRR;
            if (l->st.lint[0]) lapic_local(l, LAPIC_LVT_LINT0);
        }
        if (l->bus->eoi) l->bus->eoi(l->bus->eoi_to, (u8)vector);
    }
    lapic_update(l);
}

static bool addressed(const struct lapic *l, const struct apic_message *m)
{
    const struct lapic_state *s = &l->st;
    if (!lapic_enabled(l)) return false;
    if (m->destination == (m->wide ? 0xFFFFFFFFu : 0xFFu)) return true;
    if (!m->logical) return s->id == m->destination;
    // cluster in the upper half, members in the lower (SDM, Logical Destination Mode in x2APIC)
    if (lapic_x2apic(l)) return m->destination >> 16 == s->ldr >> 16 && (m->destination & s->ldr & 0xFFFF);
    u32 own = s->ldr >> 24, dest = m->destination;
    if (dest > 0xFF) return false;
    if (s->dfr >> 28 == 15) return own & dest;                              // flat
    return (dest >> 4 == 15 || dest >> 4 == own >> 4) && (own & dest & 15); // cluster
}

static void deliver(struct lapic *l, const struct apic_message *m)
{
    switch (m->delivery) {
    case DELIVER_FIXED:
    case DELIVER_LOWEST: lapic_apply_fixed(l, m->vector, m->level); break;
    case DELIVER_NMI: l->ops->nmi(l->cpu); break;
    case DELIVER_INIT: l->ops->init(l->cpu); break;
    case DELIVER_SIPI: l->ops->sipi(l->cpu, m->vector); break;
    case DELIVER_SMI: device_unimplemented(&l->dev, "lapic: SMI"); break;
    case DELIVER_EXTINT: // like any that is no NMI, SMI, INIT or SIPI: not while disabled by software
        l->st.extint |= (l->st.svr & SVR_ENABLE) != 0;
        lapic_update(l);
        break;
    default:
        break; // 011b is reserved (once remote read, which later processors do not have): nothing arrives
    }
}

void apic_bus_send(struct apic_bus *b, const struct apic_message *m)
{
    struct lapic *lowest = NULL;
    for (unsigned i = 0; i < b->n; i++) {
        struct lapic *l = b->lapic[i];
        if (!addressed(l, m)) continue;
        if (m->delivery != DELIVER_LOWEST) {
            deliver(l, m);
        } else if (l->st.svr & SVR_ENABLE && (!lowest || lapic_ppr(l) < lapic_ppr(lowest))) {
            lowest = l; // of equal priorities the lowest number: the manual leaves the choice to the model
        }
    }
    if (lowest) deliver(lowest, m);
}

void apic_bus_set_lint0(void *bus, unsigned n, bool level)
{
    (void)n;
    struct apic_bus *b = bus;
    for (unsigned i = 0; i < b->n; i++) lapic_set_lint(b->lapic[i], 0, level);
}

static u32 would_apply_fixed(const struct lapic *l, u8 vector)
{
    if (!lapic_enabled(l) || !(l->st.svr & SVR_ENABLE)) return 0;
    if (vector < 16) { // an error, which has an interrupt of its own the first time
        u32 e = l->st.lvt[LAPIC_LVT_ERROR];
        bool silent = l->st.errors & ESR_RECEIVE_ILLEGAL || e & LVT_MASKED || (e & 0xFF) < 16;
        return silent ? 0 : would_apply_fixed(l, (u8)e);
    }
    return vector >> 4 > (int)(lapic_ppr(l) >> 4) ? LAPIC_INTR : 0;
}

static u32 would_deliver(const struct lapic *l, unsigned delivery, u8 vector)
{
    switch (delivery) {
    case DELIVER_FIXED:
    case DELIVER_LOWEST: return would_apply_fixed(l, vector);
    case DELIVER_NMI: return LAPIC_NMI;
    case DELIVER_INIT: return LAPIC_INIT;
    case DELIVER_SIPI: return LAPIC_SIPI;
    case DELIVER_EXTINT: return l->st.svr & SVR_ENABLE ? LAPIC_INTR : 0;
    default: return 0;
    }
}

u32 lapic_would_signal_local(const struct lapic *l, unsigned lvt)
{
    u32 e = l->st.lvt[lvt], delivery = e >> 8 & 7;
    if (!lapic_enabled(l))
        return lvt == LAPIC_LVT_LINT0 ? LAPIC_INTR : lvt == LAPIC_LVT_LINT1 ? LAPIC_NMI : 0;
    if (e & LVT_MASKED) return 0;
    if (delivery == DELIVER_EXTINT) return lvt == LAPIC_LVT_LINT0 ? LAPIC_INTR : 0;
    return delivery == DELIVER_LOWEST || delivery == DELIVER_SIPI ? 0 : would_deliver(l, delivery, (u8)e);
}

u32 lapic_would_signal(const struct lapic *l, const struct apic_message *m)
{
    return addressed(l, m) ? would_deliver(l, m->delivery, m->vector) : 0;
}

// ICR: shorthands first, then the destination (SDM, Interrupt Command Register).
void lapic_send_ipi(struct lapic *l)
{
    u32 low = l->st.icr_low;
    struct apic_message m = {
        .destination = lapic_x2apic(l) ? l->st.icr_high : l->st.icr_high >> 24,
        .vector = (u8)low,
        .delivery = low >> 8 & 7,
        .logical = low >> 11 & 1,
        .level = false, // IPIs are edge triggered whatever ICR bit 15 says
        .wide = lapic_x2apic(l),
    };
    unsigned shorthand = low >> 18 & 3;
    if (m.delivery == DELIVER_EXTINT) return; // reserved in the ICR
    // INIT level de-assert: no effect
    if (m.delivery == DELIVER_INIT && !(low & ICR_ASSERT) && low & ICR_LEVEL) return;
    if ((m.delivery == DELIVER_FIXED || m.delivery == DELIVER_LOWEST) && m.vector < 16) {
        lapic_error(l, ESR_SEND_ILLEGAL);
        return;
    }
    if (!shorthand) {
        apic_bus_send(l->bus, &m);
    } else if (shorthand == 1) {
        deliver(l, &m);
    } else {
        for (unsigned i = 0; i < l->bus->n; i++) {
            struct lapic *to = l->bus->lapic[i];
            if (lapic_enabled(to) && (to != l || shorthand == 2)) deliver(to, &m);
        }
    }
}

void lapic_send_fixed(struct lapic *l, u32 destination, u8 vector)
{
    struct apic_message m = {.destination = lapic_x2apic(l) ? destination : destination >> 8 & 0xFF,
                             .vector = vector,
                             .delivery = DELIVER_FIXED,
                             .wide = lapic_x2apic(l)};
    if (vector < 16)
        lapic_error(l, ESR_SEND_ILLEGAL);
    else
        apic_bus_send(l->bus, &m);
}

// The power-up state of everything but the ID and IA32_APIC_BASE (SDM, Local APIC State After Power-Up or
// Reset).
void lapic_power_up(struct lapic *l)
{
    struct lapic_state *s = &l->st;
    u64 base = s->apic_base;
    u32 id = s->id;
    u8 lint0 = s->lint[0], lint1 = s->lint[1];
    *s = (struct lapic_state){
        .apic_base = base, .id = id, .lint = {lint0, lint1}, .dfr = 0xFFFFFFFF, .svr = 0xFF};
    for (unsigned i = 0; i < LAPIC_LVTS; i++) s->lvt[i] = LVT_MASKED;
    if (lapic_x2apic(l)) s->ldr = lapic_x2apic_ldr(id);
    lapic_timer_arm(l);
    lapic_update(l);
}

void lapic_init_reset(struct lapic *l) { lapic_power_up(l); }

void lapic_virtual_wire(struct lapic *l)
{
    l->st.svr |= SVR_ENABLE;
    l->st.lvt[LAPIC_LVT_LINT0] = DELIVER_EXTINT << 8;
    l->st.lvt[LAPIC_LVT_LINT1] = DELIVER_NMI << 8;
    lapic_update(l);
}

static void lapic_reset(struct device *d)
{
    struct lapic *l = (struct lapic *)d;
    l->st.apic_base = CPU_APIC_BASE | BIT(11) | (l->index == 0 ? BIT(8) : 0);
    l->st.id = (u8)l->initial_id;
    lapic_power_up(l);
}

static void lapic_loaded(struct device *d)
{
    lapic_timer_arm((struct lapic *)d);
    lapic_update((struct lapic *)d);
}

static void lapic_tick(struct device *d, unsigned id)
{
    (void)id;
    lapic_timer_due((struct lapic *)d);
}

static const char *lapic_impossible(const struct device *d, const void *state)
{
    return lapic_timer_impossible((const struct lapic *)d, state);
}

static const struct device_ops lapic_ops = {
    .name = "lapic",
    .impossible = lapic_impossible,
    .state_version = 2,
    .reset = lapic_reset,
    .tick = lapic_tick,
    .loaded = lapic_loaded,
};

void lapic_init(struct lapic *l, struct apic_bus *bus, struct clock *c, unsigned index, u32 id,
                unsigned phys_bits, const struct lapic_cpu_ops *ops, void *cpu)
{
    memset(l, 0, sizeof *l);
    l->dev = (struct device){.ops = &lapic_ops, .clock = c, .state = &l->st, .state_size = sizeof l->st};
    l->bus = bus;
    l->index = index;
    l->initial_id = id;
    l->ops = ops;
    l->cpu = cpu;
    l->base_reserved = ~(BIT(phys_bits) - 1) | 0x2FF;
    l->timer = clock_timer_add(c, &l->dev, 0);
    if (bus->n == LAPIC_MAX) panic("lapic: more than %d processors", LAPIC_MAX);
    bus->lapic[bus->n++] = l;
}

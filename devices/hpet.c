// clang-format off
// HPET. Source: IA-PC HPET specification 1.0a; identity as QEMU's (10 ns, three timers, input 2 of the I/O APIC only).
//
//   000  capabilities: 63:32 period in femtoseconds, 31:16 vendor 8086h, 15 legacy route, 13 64 bits, 12:8 timers - 1
//   010  configuration: 0 enable, 1 legacy replacement      020  interrupt status: a bit a timer, writing 1 clears
//   0F0  main counter (written while halted)
//   100 + 20h * n  timer n: 1 level, 2 interrupt enable, 3 periodic, 4 can be periodic, 5 64 bits, 6 set accumulator,
//                  8 32-bit mode, 13:9 route, 63:32 inputs that it can be routed to
//   108 + 20h * n  comparator; in periodic mode a write is the period, and the accumulator too after bit 6 was set
//   110 + 20h * n  FSB route: reads 0
//
// Accesses of 4 and 8 bytes. A comparator that is set to what the counter has passed matches when the counter comes
// round again. Not here: FSB (message) delivery, which is not reported.
// clang-format on
#include "devices/hpet.h"

#include <string.h>

#define PERIOD_FS       10000000ull
#define TICKS_PER_COUNT 20 // 2 GHz to 100 MHz
#define CAPABILITIES    (PERIOD_FS << 32 | 0x8086A001 | (HPET_TIMERS - 1) << 8)
#define ROUTES          (1ull << 2)
_Static_assert(TICKS_PER_COUNT * 100000000ull == CLOCK_HZ, "the counter runs at 100 MHz");

enum { CONFIG_ENABLE = 1, CONFIG_LEGACY = 2 };
// clang-format off
enum { T_LEVEL = 1 << 1, T_ENABLE = 1 << 2, T_PERIODIC = 1 << 3, T_CAN = 3 << 4, T_SET = 1 << 6, T_32 = 1 << 8 };
// clang-format on
#define T_WRITABLE (T_LEVEL | T_ENABLE | T_PERIODIC | T_SET | T_32 | 0x3E00)

static bool enabled(const struct hpet *h) { return h->st.config & CONFIG_ENABLE; }

static u64 counter(const struct hpet *h)
{
    return h->st.offset + (enabled(h) ? (h->dev.clock->now - h->st.start) / TICKS_PER_COUNT : 0);
}

static u64 mask_of(const struct hpet_timer *t) { return t->config & T_32 ? 0xFFFFFFFF : UINT64_MAX; }
static u64 period_of(const struct hpet_timer *t)
{
    return t->config & T_PERIODIC ? t->period & mask_of(t) : 0;
}

// The first counter value after c that matches, in a count that does not wrap.
static void find_due(struct hpet_timer *t, u64 c)
{
    u64 ahead = (t->comparator - c) & mask_of(t);
    if (t->config & T_32 && !ahead) ahead = BIT(32);
    t->due = !ahead || ahead > CLOCK_NEVER - 1 - c ? CLOCK_NEVER : c + ahead;
}

// Passes the matches up to counter value c; returns whether there was one.
static bool settle(struct hpet_timer *t, u64 c)
{
    if (t->due == CLOCK_NEVER || t->due > c) return false;
    u64 period = period_of(t);
    if (period) {
        t->due += ((c - t->due) / period + 1) * period;
        t->comparator = t->due & mask_of(t);
    } else {
        find_due(t, c);
    }
    return true;
}

static const struct irq_line *line_of(const struct hpet *h, unsigned n)
{
    if (h->st.config & CONFIG_LEGACY && n < 2) return n ? &h->irq8 : &h->irq0;
    unsigned route = h->st.timer[n].config >> 9 & 31;
    return ROUTES >> route & 1 ? &h->irq[route] : NULL;
}

static bool held(const struct hpet *h, const struct irq_line *l)
{
    bool level = false;
    for (unsigned i = 0; i < HPET_TIMERS; i++) level |= h->st.status >> i & 1 && line_of(h, i) == l;
    return level;
}

// Level-triggered timers hold their lines while their status is set; two may share one.
static void drive(const struct hpet *h)
{
    const struct irq_line *line[] = {&h->irq0, &h->irq8, &h->irq[2]};
    for (unsigned k = 0; k < ARRAY_LEN(line); k++) irq_set(line[k], held(h, line[k]));
}

static u64 hpet_raises(const struct device *d, unsigned n)
{
    const struct hpet *h = (const struct hpet *)d;
    const struct irq_line *l = line_of(h, n);
    if (!l || held(h, l)) return 0;
    return l == &h->irq0 || l == &h->irq8 ? DEVICE_ISA(l->n) : DEVICE_APIC_INPUT(l->n);
}

static void arm(struct hpet *h)
{
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        const struct hpet_timer *t = &h->st.timer[i];
        u64 at = CLOCK_NEVER;
        if (enabled(h) && t->config & T_ENABLE && t->due != CLOCK_NEVER) {
            u64 counts = t->due - h->st.offset;
            if (counts < (CLOCK_NEVER - h->st.start) / TICKS_PER_COUNT)
                at = h->st.start + counts * TICKS_PER_COUNT;
        }
        clock_timer_set(h->dev.clock, h->clock_timer[i], at);
    }
}

static void hpet_tick(struct device *d, unsigned n)
{
    struct hpet *h = (struct hpet *)d;
    struct hpet_timer *t = &h->st.timer[n];
    if (settle(t, counter(h)) && t->config & T_ENABLE) {
        const struct irq_line *l = line_of(h, n);
        if (t->config & T_LEVEL) h->st.status |= 1u << n;
        if (l) irq_set(l, true);
        drive(h); // ends the pulse of an edge
    }
    arm(h);
}

static void settle_all(struct hpet *h)
{
    u64 c = counter(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++) settle(&h->st.timer[i], c);
}

static void find_all(struct hpet *h)
{
    u64 c = counter(h);
    for (unsigned i = 0; i < HPET_TIMERS; i++) find_due(&h->st.timer[i], c);
}

static void write_config(struct hpet *h, u64 v)
{
    u64 c = counter(h), changed = (h->st.config ^ v) & (CONFIG_ENABLE | CONFIG_LEGACY);
    h->st.config = v & (CONFIG_ENABLE | CONFIG_LEGACY);
    if (changed & CONFIG_ENABLE) {
        h->st.offset = c;
        h->st.start = h->dev.clock->now;
    }
    if (changed & CONFIG_LEGACY && h->legacy) h->legacy(h->to, h->st.config & CONFIG_LEGACY);
    drive(h);
}

static void write_status(struct hpet *h, u64 v)
{
    h->st.status &= ~v;
    drive(h);
}

static void write_timer_config(struct hpet *h, unsigned n, u64 v)
{
    struct hpet_timer *t = &h->st.timer[n];
    t->config = (v & T_WRITABLE) | T_CAN | ROUTES << 32;
    t->set_accumulator = t->config & T_SET ? 1 : 0;
    t->config &= ~(u64)T_SET;
    t->comparator &= mask_of(t);
    if (!(t->config & T_LEVEL && t->config & T_ENABLE)) h->st.status &= ~BIT(n);
    drive(h);
    find_due(t, counter(h));
}

static void write_comparator(struct hpet *h, unsigned n, u64 v)
{
    struct hpet_timer *t = &h->st.timer[n];
    if (t->config & T_PERIODIC) t->period = v & mask_of(t);
    if (!(t->config & T_PERIODIC) || t->set_accumulator) {
        t->comparator = v & mask_of(t);
        find_due(t, counter(h));
    }
    t->set_accumulator = 0;
}

static u64 read64(struct hpet *h, u64 reg)
{
    switch (reg) {
    case 0x000: return CAPABILITIES;
    case 0x010: return h->st.config;
    case 0x020: return h->st.status;
    case 0x0F0: return counter(h);
    default: break;
    }
    if (reg < 0x100 || reg >= 0x100 + 0x20 * HPET_TIMERS) return 0;
    const struct hpet_timer *t = &h->st.timer[(reg - 0x100) / 0x20];
    return (reg & 0x18) == 0 ? t->config : (reg & 0x18) == 8 ? t->comparator : 0;
}

static u64 hpet_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region;
    struct hpet *h = (struct hpet *)d;
    if (size < 4 || offset % size) return UINT64_MAX;
    settle_all(h);
    return read64(h, offset & ~7ull) >> (offset & 4) * 8;
}

static void hpet_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region;
    struct hpet *h = (struct hpet *)d;
    if (size < 4 || offset % size) return;
    settle_all(h);
    u64 reg = offset & ~7ull, v = value;
    if (size == 4) { // the other half stays; of the status, writing 0 leaves it
        u64 old = reg == 0x20 ? 0 : read64(h, reg);
        v = offset & 4 ? (old & 0xFFFFFFFF) | value << 32 : (old & ~0xFFFFFFFFull) | value;
    }
    if (reg == 0x010) {
        write_config(h, v);
    } else if (reg == 0x020) {
        write_status(h, v);
    } else if (reg == 0x0F0) {
        if (!enabled(h)) {
            h->st.offset = v;
            find_all(h);
        }
    } else if (reg >= 0x100 && reg < 0x100 + 0x20 * HPET_TIMERS) {
        unsigned n = (unsigned)(reg - 0x100) / 0x20;
        if ((reg & 0x18) == 0) write_timer_config(h, n, v);
        if ((reg & 0x18) == 8) write_comparator(h, n, v);
    }
    arm(h);
}

static void hpet_reset(struct device *d)
{
    struct hpet *h = (struct hpet *)d;
    bool legacy = h->st.config & CONFIG_LEGACY;
    write_status(h, 7);
    h->st = (struct hpet_state){.start = d->clock->now};
    for (unsigned i = 0; i < HPET_TIMERS; i++) {
        h->st.timer[i].config = T_CAN | ROUTES << 32;
        h->st.timer[i].comparator = UINT64_MAX;
        find_due(&h->st.timer[i], 0);
    }
    if (legacy && h->legacy) h->legacy(h->to, false);
    arm(h);
}

static void hpet_loaded(struct device *d)
{
    struct hpet *h = (struct hpet *)d;
    if (h->legacy) h->legacy(h->to, h->st.config & CONFIG_LEGACY);
    arm(h);
}

static const struct device_ops hpet_ops = {
    .name = "hpet",
    .state_version = 1,
    .max_size = 8,
    .reset = hpet_reset,
    .read = hpet_read,
    .write = hpet_write,
    .tick = hpet_tick,
    .raises = hpet_raises,
    .loaded = hpet_loaded,
};

void hpet_init(struct hpet *h, struct bus *b, struct clock *c)
{
    memset(h, 0, sizeof *h);
    h->dev = (struct device){.ops = &hpet_ops, .clock = c, .state = &h->st, .state_size = sizeof h->st};
    for (unsigned i = 0; i < HPET_TIMERS; i++) h->clock_timer[i] = clock_timer_add(c, &h->dev, i);
    bus_map_mem(b, &h->dev, 0, HPET_BASE, 0x400);
}

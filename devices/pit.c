// clang-format off
// 8254. Source: Intel 8254 data sheet (231164); port 61h as in the PIIX data sheets (290550).
//
//   40h-42h  counters 0-2: read count, latched count or status; write count
//   43h      control word, counter latch, read-back (write only; reads FFh)
//   61h      bit 0 gate of channel 2, bit 1 speaker, bits 2-3 stored, bit 4 refresh toggle, bit 5 output of channel 2
//
// Counters count ticks of the machine's clock at PIT_HZ; each is a function of the tick at which it was loaded.
// Channel 0's output is IRQ 0. Channel 1's output (refresh) goes nowhere.
//
// Not here: the speaker's sound; SERR#/IOCHK# (port 61h bits 6-7 read 0); the gates of channels 0 and 1 (always high).
// clang-format on
#include "devices/pit.h"

#include <string.h>

enum { REGION_COUNTERS, REGION_PORT61 };

static u64 now_ticks(const struct pit *p) { return clock_to_hz(p->dev.clock->now, PIT_HZ); }

static u64 since(u64 t, u64 start) { return (s64)(t - start) < 0 ? 0 : t - start; }

static u64 elapsed(const struct pit_channel *c, u64 t)
{
    switch (c->mode) {
    case 0:
    case 4: return c->gate && !c->halted ? since(t, c->start) : c->held;
    case 1:
    case 5: return c->triggered ? since(t, c->start) : 0;
    default: return c->gate ? since(t, c->start) : 0;
    }
}

static u32 high_half(u32 n) { return (n + 1) / 2; }

static bool out_at(const struct pit_channel *c, u64 t)
{
    if (!c->count) return c->mode != 0;
    u64 e = elapsed(c, t);
    switch (c->mode) {
    case 0: return !c->halted && e >= c->count;
    case 1: return !c->triggered || e >= c->count;
    case 2: return !c->gate || e % c->count != c->count - 1;
    case 3: return !c->gate || e % c->count < high_half(c->count);
    case 4: return e != c->count;
    default: return !c->triggered || e != c->count;
    }
}

// The first tick after t at which the output differs; 0 if it stays.
static u64 next_change(const struct pit_channel *c, u64 t)
{
    if (!c->count || c->halted || !c->gate) return 0;
    u64 e = elapsed(c, t), base = (s64)(t - c->start) < 0 ? c->start : t, n = c->count, r = e % n;
    switch (c->mode) {
    case 0: return e < n ? base + (n - e) : 0;
    case 2: return n == 1 ? 0 : r < n - 1 ? base + (n - 1 - r) : base + 1;
    case 3: return n == 1 ? 0 : r < high_half(c->count) ? base + (high_half(c->count) - r) : base + (n - r);
    case 4: return e < n ? base + (n - e) : e == n ? base + 1 : 0;
    case 1:
    case 5: // channel 2's gate only, and no interrupt hangs on channel 2
    default: return 0;
    }
}

static u16 value_at(const struct pit_channel *c, u64 t)
{
    u64 e = elapsed(c, t), n = c->count, v;
    u64 modulus = c->bcd ? 10000 : 65536;
    if (!n) return 0;
    if (c->mode == 2) {
        v = n - e % n;
    } else if (c->mode == 3) { // down by two; an odd count is loaded less one (data sheet, mode 3)
        u64 r = e % n, half = high_half(c->count);
        v = n - n % 2 - 2 * (r < half ? r : r - half);
    } else {
        v = (n + modulus - e % modulus) % modulus;
    }
    v %= modulus;
    return (u16)(c->bcd ? v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10 : v);
}

// Modes 2 and 3 take a new count at the end of the cycle (mode 3: of the half cycle) during which it was
// written.
static void sync(struct pit_channel *c, u64 t)
{
    if (!c->switch_at || t < c->switch_at) return;
    bool middle = (c->switch_at - c->start) % c->count != 0;
    c->count = c->next;
    c->start = c->switch_at - (middle ? high_half(c->count) : 0);
    c->switch_at = 0;
}

static void drive(struct pit *p) { irq_set(&p->irq0, p->st.out0 && !p->st.irq_off); }

static void arm(struct pit *p)
{
    u64 edge = p->st.edge;
    clock_timer_set(p->dev.clock, p->timer, edge ? clock_from_hz(edge, PIT_HZ) : CLOCK_NEVER);
}

static void output_edge(struct pit *p, u64 t)
{
    struct pit_channel *c = &p->st.ch[0];
    sync(c, t);
    p->st.out0 = out_at(c, t);
    drive(p);
    p->st.edge = next_change(c, t);
}

// Everything that happened up to t, edge by edge, so that no interrupt is lost.
static void catch_up(struct pit *p, u64 t)
{
    while (p->st.edge && p->st.edge <= t) output_edge(p, p->st.edge);
    for (unsigned i = 0; i < 3; i++) sync(&p->st.ch[i], t);
}

static void pit_tick(struct device *d, unsigned id)
{
    (void)id;
    struct pit *p = (struct pit *)d;
    output_edge(p, p->st.edge);
    arm(p);
}

static u64 pit_raises(const struct device *d, unsigned id)
{
    const struct pit *p = (const struct pit *)d;
    return p->st.irq_off ? 0 : DEVICE_ISA(p->irq0.n);
}

static void load(struct pit_channel *c, u32 raw, u64 t)
{
    u32 n = c->bcd ? (raw >> 12) * 1000 + (raw >> 8 & 15) * 100 + (raw >> 4 & 15) * 10 + (raw & 15) : raw;
    if (!n) n = c->bcd ? 10000 : 65536;
    c->next = n;
    switch (c->mode) {
    case 1:
    case 5: // taken at the next trigger
        if (!c->count) c->count = n;
        break;
    case 2:
    case 3:
        if (c->count && c->gate && (s64)(t - c->start) >= 0) {
            u64 r = (t - c->start) % c->count, half = high_half(c->count);
            c->switch_at = t + (c->mode == 3 && r < half ? half - r : c->count - r);
            break;
        }
        c->count = n;
        c->start = t + 1;
        break;
    default:
        c->count = n;
        c->start = t + 1;
        c->held = 0;
        c->halted = 0;
    }
}

static void write_count(struct pit_channel *c, u8 v, u64 t)
{
    switch (c->rw) {
    case 1: load(c, v, t); break;
    case 2: load(c, (u32)v << 8, t); break;
    default:
        if (c->write_high) {
            c->write_high = 0;
            load(c, c->write_low | (u32)v << 8, t);
            break;
        }
        c->write_low = v;
        c->write_high = 1;
        if (c->mode == 0) { // the first byte stops the count and the output is low (data sheet, mode 0)
            c->held = elapsed(c, t);
            c->halted = 1;
        }
    }
}

static void latch_count(struct pit_channel *c, u64 t)
{
    if (c->count_latched) return;
    c->latched_count = value_at(c, t);
    c->count_latched = c->rw == 3 ? 2 : 1;
}

static bool null_count(const struct pit_channel *c, u64 t)
{
    if (!c->count || c->switch_at || c->halted) return true;
    if (c->mode == 1 || c->mode == 5) return !c->triggered || c->next != c->count;
    return (s64)(t - c->start) < 0;
}

static void latch_status(struct pit_channel *c, u64 t)
{
    if (c->status_latched) return;
    c->status_latch =
        (u8)(out_at(c, t) << 7 | null_count(c, t) << 6 | (c->rw & 3) << 4 | (c->mode & 7) << 1 | c->bcd);
    c->status_latched = 1;
}

static void control_word(struct pit *p, u8 v, u64 t)
{
    if (v >> 6 == 3) { // read-back: bit 5 low latches counts, bit 4 low latches statuses
        for (unsigned i = 0; i < 3; i++) {
            if (!(v >> (i + 1) & 1)) continue;
            if (!(v & 0x20)) latch_count(&p->st.ch[i], t);
            if (!(v & 0x10)) latch_status(&p->st.ch[i], t);
        }
        return;
    }
    struct pit_channel *c = &p->st.ch[v >> 6];
    if (!(v >> 4 & 3)) {
        latch_count(c, t);
        return;
    }
    u8 mode = v >> 1 & 7;
    *c = (struct pit_channel){
        .gate = c->gate,
        .rw = v >> 4 & 3,
        .mode = mode > 5 ? mode & 3 : mode, // bit 2 of the mode is ignored in modes 2 and 3
        .bcd = v & 1,
    };
}

static u8 read_counter(struct pit_channel *c, u64 t)
{
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status_latch;
    }
    if (c->count_latched) {
        c->count_latched--;
        bool high = c->rw == 2 || (c->rw == 3 && !c->count_latched);
        return (u8)(high ? c->latched_count >> 8 : c->latched_count);
    }
    u16 v = value_at(c, t);
    bool high = c->rw == 2 || (c->rw == 3 && c->read_high);
    if (c->rw == 3) c->read_high = !c->read_high;
    return (u8)(high ? v >> 8 : v);
}

static void set_gate(struct pit_channel *c, bool level, u64 t)
{
    if (level == c->gate) return;
    if (c->mode == 0 || c->mode == 4) {
        if (level)
            c->start = t - c->held;
        else if (!c->halted)
            c->held = elapsed(c, t);
    } else if (level) {
        if (c->count) c->count = c->next;
        c->triggered = c->count != 0;
        c->start = t + 1;
        c->switch_at = 0;
    }
    c->gate = level;
}

static u64 pit_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)size;
    struct pit *p = (struct pit *)d;
    u64 t = now_ticks(p);
    catch_up(p, t);
    arm(p);
    if (region == REGION_PORT61) // a refresh every 18 ticks, about 15 microseconds
        return (u64)(p->st.port61 | (t / 18 & 1) << 4 | (u64)out_at(&p->st.ch[2], t) << 5);
    return offset == 3 ? 0xFF : read_counter(&p->st.ch[offset], t);
}

static void pit_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)size;
    struct pit *p = (struct pit *)d;
    u64 t = now_ticks(p);
    catch_up(p, t);
    if (region == REGION_PORT61) {
        p->st.port61 = value & 0x0F;
        set_gate(&p->st.ch[2], value & 1, t);
    } else if (offset == 3) {
        control_word(p, (u8)value, t);
    } else {
        write_count(&p->st.ch[offset], (u8)value, t);
    }
    output_edge(p, t);
    arm(p);
}

bool pit_out(const struct pit *p, unsigned channel)
{
    struct pit_channel c = p->st.ch[channel];
    u64 t = now_ticks(p);
    sync(&c, t);
    return out_at(&c, t);
}

void pit_set_irq_off(struct pit *p, bool off)
{
    p->st.irq_off = off;
    drive(p);
}

// The data sheet leaves the state after power-up undefined: here nothing is programmed and the outputs are
// low.
static void pit_reset(struct device *d)
{
    struct pit *p = (struct pit *)d;
    p->st = (struct pit_state){0};
    for (unsigned i = 0; i < 3; i++) p->st.ch[i].gate = i < 2, p->st.ch[i].rw = 3;
    drive(p);
    arm(p);
}

static void pit_loaded(struct device *d)
{
    drive((struct pit *)d);
    arm((struct pit *)d);
}

static const char *pit_impossible(const struct device *d, const void *state)
{
    const struct pit_state *s = state;
    u64 now = clock_to_hz(d->clock->now, PIT_HZ);
    for (unsigned i = 0; i < 3; i++) {
        const struct pit_channel *c = &s->ch[i];
        if (c->mode > 5 || c->bcd > 1 || c->rw < 1 || c->rw > 3)
            return "a counter has a mode that there is not";
        if (c->count > 65536 || c->next > 65536 || (c->switch_at && (!c->count || !c->next)))
            return "a count is longer than a counter";
    }
    // every edge from there on is made up for
    return s->edge && s->edge + BIT(20) < now ? "counter 0 has stood still" : NULL;
}

static const struct device_ops pit_ops = {
    .name = "pit",
    .impossible = pit_impossible,
    .state_version = 1,
    .max_size = 1,
    .reset = pit_reset,
    .read = pit_read,
    .write = pit_write,
    .tick = pit_tick,
    .raises = pit_raises,
    .loaded = pit_loaded,
};

void pit_init(struct pit *p, struct bus *b, struct clock *c)
{
    memset(p, 0, sizeof *p);
    p->dev = (struct device){.ops = &pit_ops, .clock = c, .state = &p->st, .state_size = sizeof p->st};
    p->timer = clock_timer_add(c, &p->dev, 0);
    bus_map_port(b, &p->dev, REGION_COUNTERS, 0x40, 4);
    bus_map_port(b, &p->dev, REGION_PORT61, 0x61, 1);
}

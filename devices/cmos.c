// clang-format off
// Real-time clock and CMOS memory. Source: Motorola MC146818A data sheet; layout of the memory as QEMU's PC fills it.
//
//   70h  index (bits 6:0; bit 7, the NMI mask, is stored only); reads FFh      71h  data
//   00-09  seconds, alarm, minutes, alarm, hours, alarm, day of week, day, month, year;  32h  century
//   0A  7 UIP, 6:4 divider (010 runs, 11x reset), 3:0 rate      0B  7 SET, 6 PIE, 5 AIE, 4 UIE, 2 binary, 1 24 hours
//   0C  7 IRQF, 6 PF, 5 AF, 4 UF, cleared by reading             0D  80h: the battery is good
//   0F  shutdown status      14  equipment      15-18, 30-31, 34-35, 5B-5D  memory sizes      5F  processors - 1
//
// The time is a function of the machine's clock; the flags are computed when somebody looks, and a deadline is kept
// only for an interrupt that is enabled. Not here: daylight saving (bit 0 of 0B is stored), the square wave, the NMI
// mask, other time bases of the divider than 32.768 kHz.
// clang-format on
#include "devices/cmos.h"

#include <string.h>

enum { REG_A = 0x0A, REG_B, REG_C, REG_D, REG_CENTURY = 0x32 };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_BINARY = 4, B_24H = 2 };
enum { C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };

struct date { // as the registers count: month and day from 1
    unsigned sec, min, hour, day, month, weekday;
    s64 year;
};

static bool divider_runs(const struct cmos_state *s) { return (s->reg[REG_A] & 0x70) == 0x20; }
static bool updates(const struct cmos_state *s) { return divider_runs(s) && !(s->reg[REG_B] & B_SET); }

static s64 seconds_at(const struct cmos_state *s, u64 t)
{
    return s->base + (s64)((t - s->base_time) / CLOCK_HZ);
}
static u64 time_of_second(const struct cmos_state *s, s64 sec)
{
    return s->base_time + (u64)(sec - s->base) * CLOCK_HZ;
}

static u8 encode(const struct cmos_state *s, unsigned v)
{
    return (u8)(s->reg[REG_B] & B_BINARY ? v : v / 10 << 4 | v % 10);
}

static unsigned decode(const struct cmos_state *s, u8 v)
{
    return s->reg[REG_B] & B_BINARY ? v : (unsigned)(v >> 4) * 10 + (v & 15);
}

static u8 encode_hour(const struct cmos_state *s, unsigned hour)
{
    if (s->reg[REG_B] & B_24H) return encode(s, hour);
    return (u8)(encode(s, (hour + 11) % 12 + 1) | (hour >= 12 ? 0x80 : 0));
}

static unsigned decode_hour(const struct cmos_state *s, u8 v)
{
    if (s->reg[REG_B] & B_24H) return decode(s, v);
    return decode(s, v & 0x7F) % 12 + (v & 0x80 ? 12 : 0);
}

// The proleptic Gregorian calendar in eras of 400 years (146097 days) that begin on 1 March.
static struct date date_of(s64 sec)
{
    s64 days = sec / 86400, rest = sec % 86400;
    if (rest < 0) days--, rest += 86400;
    struct date d = {
        .sec = (unsigned)(rest % 60), .min = (unsigned)(rest / 60 % 60), .hour = (unsigned)(rest / 3600)};
    d.weekday = (unsigned)(((days + 4) % 7 + 7) % 7 + 1); // 1 January 1970 was a Thursday; Sunday is 1
    days += 719468;                                       // from 1 March of year 0
    s64 era = (days >= 0 ? days : days - 146096) / 146097;
    s64 of_era = days - era * 146097;
    s64 year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    s64 of_year = of_era - (365 * year + year / 4 - year / 100);
    s64 month = (5 * of_year + 2) / 153; // 0 = March
    d.day = (unsigned)(of_year - (153 * month + 2) / 5 + 1);
    d.month = (unsigned)(month < 10 ? month + 3 : month - 9);
    d.year = year + era * 400 + (d.month <= 2);
    return d;
}

static s64 seconds_of(const struct date *d)
{
    s64 year = d->year - (d->month <= 2);
    s64 era = (year >= 0 ? year : year - 399) / 400, of_era = year - era * 400;
    s64 month = d->month > 2 ? d->month - 3 : d->month + 9;
    s64 days =
        era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + d->day - 1 - 719468;
    return days * 86400 + d->hour * 3600 + d->min * 60 + d->sec;
}

static void store_date(struct cmos_state *s, s64 sec)
{
    struct date d = date_of(sec);
    s->reg[0] = encode(s, d.sec);
    s->reg[2] = encode(s, d.min);
    s->reg[4] = encode_hour(s, d.hour);
    s->reg[6] = encode(s, d.weekday);
    s->reg[7] = encode(s, d.day);
    s->reg[8] = encode(s, d.month);
    s->reg[9] = encode(s, (unsigned)(d.year % 100));
    s->reg[REG_CENTURY] = encode(s, (unsigned)(d.year / 100 % 100));
}

static s64 stored_seconds(const struct cmos_state *s)
{
    struct date d = {
        .sec = decode(s, s->reg[0]),
        .min = decode(s, s->reg[2]),
        .hour = decode_hour(s, s->reg[4]),
        .day = decode(s, s->reg[7]),
        .month = decode(s, s->reg[8]),
        .year = (s64)decode(s, s->reg[9]) + 100 * (s64)decode(s, s->reg[REG_CENTURY]),
    };
    if (d.month < 1 || d.month > 12) d.month = 1;
    return seconds_of(&d);
}

static u64 period(const struct cmos_state *s) // in ticks of 32768 Hz; 0: no periodic interrupt
{
    unsigned rate = s->reg[REG_A] & 15;
    return !rate ? 0 : rate <= 2 ? 64ull << rate : 1ull << (rate - 1);
}

static bool alarm_field(const struct cmos_state *s, unsigned reg, unsigned value)
{
    u8 want = s->reg[reg];
    if (want >= 0xC0) return true; // "don't care"
    return (reg == 5 ? decode_hour(s, want) : decode(s, want)) == value;
}

// The first second after `sec` at which the alarm matches, or a day and more later if it never does.
static s64 next_alarm(const struct cmos_state *s, s64 sec)
{
    s64 end = sec + 86400 + 1;
    for (sec++; sec < end;) {
        unsigned day = (unsigned)((sec % 86400 + 86400) % 86400);
        if (!alarm_field(s, 5, day / 3600))
            sec += 3600 - day % 3600;
        else if (!alarm_field(s, 3, day / 60 % 60))
            sec += 60 - day % 60;
        else if (!alarm_field(s, 1, day % 60))
            sec++;
        else
            return sec;
    }
    return INT64_MAX;
}

// Sets the flags of everything that happened between the last look and t.
static void sync(struct cmos *m, u64 t)
{
    struct cmos_state *s = &m->st;
    u8 *c = &s->reg[REG_C];
    if (divider_runs(s) && period(s)) {
        u64 before = clock_to_hz(s->seen - s->base_time, 32768) / period(s);
        if (clock_to_hz(t - s->base_time, 32768) / period(s) > before) *c |= C_PF;
    }
    if (updates(s)) {
        s64 before = seconds_at(s, s->seen), now = seconds_at(s, t);
        if (now > before) *c |= C_UF;
        if (now > before && next_alarm(s, before) <= now) *c |= C_AF;
    }
    s->seen = t;
    if (*c & s->reg[REG_B] & (C_PF | C_AF | C_UF)) *c |= C_IRQF; // enables and flags share bit positions
    irq_set(&m->irq8, *c & C_IRQF && !m->st.irq_off);
}

static void arm(struct cmos *m)
{
    const struct cmos_state *s = &m->st;
    u64 at = CLOCK_NEVER, t = s->seen;
    u8 b = s->reg[REG_B];
    if (!(s->reg[REG_C] & C_IRQF)) {
        if (b & B_PIE && divider_runs(s) && period(s)) {
            u64 n = clock_to_hz(t - s->base_time, 32768) / period(s) + 1;
            at = s->base_time + clock_from_hz(n * period(s), 32768);
        }
        s64 sec = INT64_MAX;
        if (b & B_AIE && updates(s)) sec = next_alarm(s, seconds_at(s, t));
        if (b & B_UIE && updates(s)) sec = seconds_at(s, t) + 1;
        if (sec != INT64_MAX && time_of_second(s, sec) < at) at = time_of_second(s, sec);
    }
    clock_timer_set(m->dev.clock, m->timer, at);
}

static void cmos_tick(struct device *d, unsigned id)
{
    (void)id;
    struct cmos *m = (struct cmos *)d;
    sync(m, d->clock->now);
    arm(m);
}

static u64 cmos_raises(const struct device *d, unsigned id)
{
    const struct cmos *m = (const struct cmos *)d;
    return m->st.irq_off || m->st.reg[REG_C] & C_IRQF ? 0 : DEVICE_ISA(m->irq8.n);
}

static bool is_time(u8 index)
{
    return index == 0 || index == 2 || index == 4 || (index >= 6 && index <= 9) || index == REG_CENTURY;
}

// Registers A and B start and stop the clock; while it stands, the time is in the registers themselves.
static void write_control(struct cmos_state *s, u8 index, u8 v, u64 t)
{
    bool ran = updates(s), divided = divider_runs(s);
    if (ran) store_date(s, seconds_at(s, t));
    if (index == REG_A) {
        s->reg[REG_A] = v & 0x7F;
    } else {
        if (v & B_SET) v &= (u8)~B_UIE; // SET clears UIE
        s->reg[REG_B] = v;
    }
    if (divider_runs(s) && !divided) { // the first update comes half a second after the divider is released
        s->base = stored_seconds(s);
        s->base_time = t - CLOCK_HZ / 2;
    } else if (updates(s) && !ran) {
        s->base_time += (t - s->base_time) / CLOCK_HZ * CLOCK_HZ;
        s->base = stored_seconds(s);
    }
    // A change of format (BCD, 12 hours) re-interprets nothing: a running clock keeps its time.
}

static void write_register(struct cmos *m, u8 index, u8 v, u64 t)
{
    struct cmos_state *s = &m->st;
    if (index == REG_C || index == REG_D) return;
    if (index == REG_A || index == REG_B) {
        write_control(s, index, v, t);
        return;
    }
    if (is_time(index) && updates(s)) { // into the running clock, keeping the fraction of the second
        store_date(s, seconds_at(s, t));
        s->reg[index] = v;
        s->base_time += (t - s->base_time) / CLOCK_HZ * CLOCK_HZ;
        s->base = stored_seconds(s);
        return;
    }
    s->reg[index] = v;
}

static u8 read_register(struct cmos *m, u8 index, u64 t)
{
    struct cmos_state *s = &m->st;
    if (is_time(index) && updates(s)) store_date(s, seconds_at(s, t));
    if (index == REG_A) { // UIP goes up 244 microseconds before the update
        bool uip = updates(s) && (t - s->base_time) % CLOCK_HZ >= CLOCK_HZ - CLOCK_HZ / 1000000 * 244;
        return (u8)(s->reg[REG_A] | uip << 7);
    }
    u8 v = s->reg[index];
    if (index == REG_C) {
        s->reg[REG_C] = 0;
        irq_set(&m->irq8, false);
    }
    return v;
}

static u64 cmos_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region, (void)size;
    struct cmos *m = (struct cmos *)d;
    if (offset == 0) return 0xFF;
    sync(m, d->clock->now);
    u8 v = read_register(m, m->st.index & 0x7F, d->clock->now);
    arm(m);
    return v;
}

static void cmos_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)size;
    struct cmos *m = (struct cmos *)d;
    if (offset == 0) {
        m->st.index = (u8)value;
        return;
    }
    sync(m, d->clock->now);
    write_register(m, m->st.index & 0x7F, (u8)value, d->clock->now);
    sync(m, d->clock->now); // an enable may meet a flag that is already set
    arm(m);
}

void cmos_set_irq_off(struct cmos *m, bool off)
{
    m->st.irq_off = off;
    irq_set(&m->irq8, m->st.reg[REG_C] & C_IRQF && !off);
}

static void put16(u8 *reg, u64 v, u64 max)
{
    if (v > max) v = max;
    reg[0] = (u8)v;
    reg[1] = (u8)(v >> 8);
}

// What firmware finds in a PC's CMOS memory: sizes of memory in KiB and in 64 KiB units.
static void fill_memory(struct cmos *m)
{
    u8 *r = m->st.reg;
    u64 low = m->ram_low;
    put16(r + 0x15, 640, 640);
    put16(r + 0x17, low > 0x100000 ? (low - 0x100000) >> 10 : 0, 65535);
    put16(r + 0x30, low > 0x100000 ? (low - 0x100000) >> 10 : 0, 65535);
    put16(r + 0x34, low > 0x1000000 ? (low - 0x1000000) >> 16 : 0, 65535);
    put16(r + 0x5B, m->ram_high >> 16, UINT64_MAX);
    r[0x5D] = (u8)(m->ram_high >> 32);
    r[0x5F] = (u8)(m->cpus - 1);
    r[0x14] = 0x06; // a mathematics coprocessor and a PS/2 mouse
}

// Reset clears the enables and flags; the battery keeps the rest.
static void cmos_reset(struct device *d)
{
    struct cmos *m = (struct cmos *)d;
    sync(m, d->clock->now);
    m->st.reg[REG_B] &= (u8) ~(B_PIE | B_AIE | B_UIE | 8);
    m->st.reg[REG_C] = 0;
    m->st.index = 0;
    m->st.irq_off = false;
    irq_set(&m->irq8, false);
    arm(m);
}

static void cmos_loaded(struct device *d)
{
    struct cmos *m = (struct cmos *)d;
    irq_set(&m->irq8, m->st.reg[REG_C] & C_IRQF && !m->st.irq_off);
    arm(m);
}

static const char *cmos_impossible(const struct device *d, const void *state)
{
    const struct cmos_state *s = state;
    return s->base_time > s->seen || s->seen >= CLOCK_END ? "its clock began after it was last looked at"
                                                          : NULL;
}

static const struct device_ops cmos_ops = {
    .name = "cmos",
    .impossible = cmos_impossible,
    .state_version = 1,
    .max_size = 1,
    .reset = cmos_reset,
    .read = cmos_read,
    .write = cmos_write,
    .tick = cmos_tick,
    .raises = cmos_raises,
    .loaded = cmos_loaded,
};

void cmos_init(struct cmos *m, struct bus *b, struct clock *c, s64 start, u64 ram_low, u64 ram_high,
               unsigned cpus)
{
    memset(m, 0, sizeof *m);
    m->dev = (struct device){.ops = &cmos_ops, .clock = c, .state = &m->st, .state_size = sizeof m->st};
    m->timer = clock_timer_add(c, &m->dev, 0);
    m->start = start;
    m->ram_low = ram_low;
    m->ram_high = ram_high;
    m->cpus = cpus;
    m->st.base = start;
    m->st.base_time = m->st.seen = c->now;
    m->st.reg[REG_A] = 0x26;
    m->st.reg[REG_B] = B_24H;
    m->st.reg[REG_D] = 0x80;
    fill_memory(m);
    bus_map_port(b, &m->dev, 0, 0x70, 2);
}

// clang-format off
// I/O APIC. Sources: Intel 82093AA data sheet (290566); version 20h with its EOI register as in later chip sets.
//
//   FEC00000  IOREGSEL (8 bits)      FEC00010  IOWIN (32 bits)      FEC00040  EOI (write: a vector)
//   index 00 ID (27:24)   01 version: 20h, 24 entries   02 arbitration ID   10-3F redirection entries, low and high
//   entry: 7:0 vector, 10:8 delivery mode, 11 logical, 12 status (0), 13 polarity, 14 remote IRR, 15 level, 16 mask,
//          63:56 destination
//
// Lines are logical (true = asserted), so the polarity bit is stored and not looked at. Not here: extended
// destination IDs and interrupt remapping.
// clang-format on
#include "devices/ioapic.h"

#include <string.h>

#define ENTRY_MASKED     BIT(16)
#define ENTRY_LEVEL      BIT(15)
#define ENTRY_REMOTE_IRR BIT(14)
#define ENTRY_READ_ONLY  (BIT(14) | BIT(12))
#define ENTRY_WRITABLE   0xFF0000000001FFFFull

static struct apic_message message(u64 e)
{
    return (struct apic_message){
        .destination = (u32)(e >> 56),
        .vector = (u8)e,
        .delivery = e >> 8 & 7,
        .logical = e >> 11 & 1,
        .level = e & ENTRY_LEVEL,
    };
}

bool ioapic_would_send(const struct ioapic *a, unsigned pin, struct apic_message *m)
{
    u64 e = a->st.entry[pin];
    *m = message(e);
    return !(e & ENTRY_MASKED) && !(m->level && e & ENTRY_REMOTE_IRR);
}

static void service(struct ioapic *a, unsigned pin)
{
    struct ioapic_state *s = &a->st;
    u64 e = s->entry[pin];
    if (!(s->irr >> pin & 1) || e & ENTRY_MASKED) return;
    struct apic_message m = message(e);
    if (m.level && e & ENTRY_REMOTE_IRR) return; // until the end of interrupt
    if (!m.level)
        s->irr &= ~(1u << pin);
    else if (m.delivery == DELIVER_FIXED || m.delivery == DELIVER_LOWEST)
        s->entry[pin] |= ENTRY_REMOTE_IRR;
    apic_bus_send(a->bus, &m);
}

void ioapic_set_line(void *ioapic, unsigned pin, bool level)
{
    struct ioapic *a = ioapic;
    struct ioapic_state *s = &a->st;
    if (pin >= IOAPIC_PINS) return;
    u32 bit = 1u << pin;
    // no event: a driver may say again what holds, also when a saved state was loaded
    if (level == (bool)(s->lines & bit)) return;
    s->lines = level ? s->lines | bit : s->lines & ~bit;
    if (s->entry[pin] & ENTRY_LEVEL)
        s->irr = level ? s->irr | bit : s->irr & ~bit;
    else if (level &&
             !(s->entry[pin] & ENTRY_MASKED)) // an edge on a masked pin is ignored (data sheet, mask bit)
        s->irr |= bit;
    service(a, pin);
}

void ioapic_eoi(void *ioapic, u8 vector)
{
    struct ioapic *a = ioapic;
    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        u64 *e = &a->st.entry[pin];
        if ((u8)*e != vector || !(*e & ENTRY_LEVEL) || !(*e & ENTRY_REMOTE_IRR)) continue;
        *e &= ~ENTRY_REMOTE_IRR;
        service(a, pin);
    }
}

static void write_entry(struct ioapic *a, unsigned n, u32 v)
{
    struct ioapic_state *s = &a->st;
    unsigned pin = n / 2;
    u64 *e = &s->entry[pin];
    u64 kept = *e & ENTRY_READ_ONLY;
    u64 now = n & 1 ? (*e & 0xFFFFFFFF) | (u64)v << 32 : (*e & ~0xFFFFFFFFull) | v;
    *e = (now & ENTRY_WRITABLE & ~ENTRY_READ_ONLY) | kept;
    u32 bit = 1u << pin;
    if (*e & ENTRY_LEVEL)
        s->irr = s->lines & bit ? s->irr | bit : s->irr & ~bit;
    else
        *e &= ~ENTRY_REMOTE_IRR; // meaningless for edges; software clears a stuck one by this switch
    service(a, pin);
}

static u32 read_index(const struct ioapic_state *s)
{
    switch (s->select) {
    case 0: return (u32)s->id << 24;
    case 1: return 0x20 | (IOAPIC_PINS - 1) << 16;
    case 2: return (u32)s->id << 24; // no arbitration on this bus
    default: break;
    }
    unsigned n = s->select - 0x10u;
    return n < 2 * IOAPIC_PINS ? (u32)(s->entry[n / 2] >> (n & 1 ? 32 : 0)) : 0;
}

static u64 ioapic_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region, (void)size;
    const struct ioapic_state *s = &((struct ioapic *)d)->st;
    switch (offset) {
    case 0x00: return s->select;
    case 0x10: return read_index(s);
    default: return 0;
    }
}

static void ioapic_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region, (void)size;
    struct ioapic *a = (struct ioapic *)d;
    struct ioapic_state *s = &a->st;
    switch (offset) {
    case 0x00: s->select = (u8)value; break;
    case 0x10:
        if (s->select == 0)
            s->id = value >> 24 & 15;
        else if (s->select >= 0x10 && s->select < 0x10 + 2 * IOAPIC_PINS)
            write_entry(a, s->select - 0x10u, (u32)value);
        break;
    case 0x40: ioapic_eoi(a, (u8)value); break;
    default: break;
    }
}

static void ioapic_reset(struct device *d)
{
    struct ioapic *a = (struct ioapic *)d;
    u32 lines = a->st.lines;
    a->st = (struct ioapic_state){.lines = lines};
    for (unsigned i = 0; i < IOAPIC_PINS; i++) a->st.entry[i] = ENTRY_MASKED;
}

static const struct device_ops ioapic_ops = {
    .name = "ioapic",
    .state_version = 1,
    .max_size = 4,
    .reset = ioapic_reset,
    .read = ioapic_read,
    .write = ioapic_write,
};

void ioapic_init(struct ioapic *a, struct bus *b, struct clock *c, struct apic_bus *apics)
{
    memset(a, 0, sizeof *a);
    a->dev = (struct device){.ops = &ioapic_ops, .clock = c, .state = &a->st, .state_size = sizeof a->st};
    a->bus = apics;
    apics->eoi = ioapic_eoi;
    apics->eoi_to = a;
    bus_map_mem(b, &a->dev, 0, IOAPIC_BASE, 0x1000);
}

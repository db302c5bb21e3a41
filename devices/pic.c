// 8259A pair. Sources: Intel 8259A data sheet (231468), PIIX3 data sheet (290550) for ELCR.
//
//   20h/A0h  A0=0  write: ICW1 (bit 4), OCW2 (bits 4-3 = 0), OCW3 (bits 4-3 = 01); read: IRR or ISR, or poll
//   21h/A1h  A0=1  write: ICW2, ICW3, ICW4 in sequence after ICW1, else OCW1 (IMR); read: IMR
//   4D0h/4D1h      ELCR: a bit an input, 1 = level triggered; inputs 0, 1, 2, 8 and 13 are always edge
//
// Not here: MCS-80/85 vectors (ICW4 bit 0 = 0 is taken as 8086 mode), buffered mode (no bus buffers), and the
// withdrawal of an edge request whose line falls before it is acknowledged: the request stays latched, as in
// QEMU's and KVM's controllers. A spurious vector (IR7) comes when a request is masked or its level gone.
#include "devices/pic.h"

#include <string.h>

enum { REGION_FIRST, REGION_SECOND, REGION_ELCR };

#define CASCADE 2

static const u8 elcr_mask[2] = {0xF8, 0xDE};

// 0 is the highest priority; 8 if no bit is set.
static unsigned priority_of(const struct pic_chip *c, u8 bits)
{
    unsigned n = 0;
    while (n < 8 && !(bits >> ((n + c->first) & 7) & 1)) n++;
    return n;
}

static unsigned highest(const struct pic_chip *c, u8 bits) { return (priority_of(c, bits) + c->first) & 7; }

// The input that this chip asks for, or -1.
static int requested(const struct pic_chip *c, bool first)
{
    unsigned want = priority_of(c, c->irr & ~c->imr);
    if (want == 8) return -1;
    u8 blocking = c->isr;
    if (c->special_mask) blocking &= ~c->imr;
    if (c->special_nested && first) blocking &= (u8) ~(1u << CASCADE);
    return want < priority_of(c, blocking) ? (int)((want + c->first) & 7) : -1;
}

static bool is_level(const struct pic_chip *c, unsigned input)
{
    return c->level_all || (c->elcr >> input & 1);
}

static void follow_levels(struct pic_chip *c)
{
    u8 level = c->level_all ? 0xFF : c->elcr;
    c->irr = (u8)((c->irr & ~level) | (c->lines & level));
}

static void update(struct pic *p)
{
    struct pic_chip *first = &p->st.chip[0], *second = &p->st.chip[1];
    follow_levels(first);
    follow_levels(second);
    // The cascade follows the second chip's output: a request that is still there after an INTA is seen
    // again.
    u8 cascade = requested(second, false) >= 0 ? 1u << CASCADE : 0;
    first->irr = (u8)((first->irr & ~(1u << CASCADE)) | cascade);
    bool out = requested(first, true) >= 0;
    p->st.out = out;
    irq_set(&p->intr, out);
}

static void set_input(struct pic_chip *c, unsigned input, bool level)
{
    u8 bit = (u8)(1u << input);
    bool was = c->lines & bit;
    c->lines = (u8)(level ? c->lines | bit : c->lines & ~bit);
    if (level && !was && !is_level(c, input)) c->irr |= bit; // update() follows the levels
}

void pic_set_line(void *pic, unsigned irq, bool level)
{
    struct pic *p = pic;
    if (irq == CASCADE || irq > 15) return;
    set_input(&p->st.chip[irq >> 3], irq & 7, level);
    update(p);
}

bool pic_would_interrupt(const struct pic *p, unsigned irq)
{
    struct pic trial = *p;
    trial.intr = (struct irq_line){0};
    pic_set_line(&trial, irq, false);
    pic_set_line(&trial, irq, true);
    return trial.st.out && !p->st.out;
}

static void end_of_interrupt(struct pic_chip *c, unsigned input, bool rotate)
{
    c->isr &= (u8) ~(1u << input);
    if (rotate) c->first = (input + 1) & 7;
}

static void in_service(struct pic_chip *c, unsigned input)
{
    if (!is_level(c, input)) c->irr &= (u8) ~(1u << input);
    c->isr |= (u8)(1u << input);
    if (c->auto_eoi) end_of_interrupt(c, input, c->auto_rotate);
}

u8 pic_ack(struct pic *p)
{
    struct pic_chip *first = &p->st.chip[0], *second = &p->st.chip[1];
    int input = requested(first, true);
    if (input < 0) return first->base + 7; // the request has gone: IR7, with no ISR bit
    in_service(first, (unsigned)input);
    u8 vector = (u8)(first->base + input);
    if (input == CASCADE) {
        int input2 = requested(second, false);
        if (input2 >= 0) in_service(second, (unsigned)input2);
        vector = (u8)(second->base + (input2 >= 0 ? input2 : 7));
    }
    update(p);
    return vector;
}

static void init_word_1(struct pic_chip *c, u8 value)
{
    for (unsigned i = 0; i < 8; i++) // the edge sense circuits are reset: an edge must come anew
        if (!(c->elcr >> i & 1)) c->irr &= (u8) ~(1u << i);
    c->imr = c->isr = 0;
    c->first = 0;
    c->read_isr = c->poll = c->special_mask = 0;
    c->special_nested = c->auto_eoi = c->auto_rotate = 0;
    c->icw4_follows = value & 1;
    c->single = value >> 1 & 1;
    c->level_all = value >> 3 & 1;
    c->expect = 2;
}

static void command_2(struct pic_chip *c, u8 value)
{
    unsigned named = value & 7;
    // A masked input's ISR bit is not cleared by a non-specific EOI in special mask mode (data sheet, OCW3).
    u8 seen = c->special_mask ? c->isr & ~c->imr : c->isr;
    switch (value >> 5) {
    case 0: c->auto_rotate = 0; break;
    case 4: c->auto_rotate = 1; break;
    case 1:
    case 5:
        if (seen) end_of_interrupt(c, highest(c, seen), value >> 5 == 5);
        break;
    case 3: end_of_interrupt(c, named, false); break;
    case 7: end_of_interrupt(c, named, true); break;
    case 6: c->first = (named + 1) & 7; break;
    default: break; // 2: no operation
    }
}

static void command_3(struct pic_chip *c, u8 value)
{
    if (value & 4) c->poll = 1;
    if (value & 2) c->read_isr = value & 1;
    if (value & 0x40) c->special_mask = value >> 5 & 1;
}

static void write_data(struct pic_chip *c, u8 value)
{
    switch (c->expect) {
    case 0: c->imr = value; break;
    case 2:
        c->base = value & 0xF8;
        c->expect = !c->single ? 3 : c->icw4_follows ? 4 : 0;
        break;
    case 3:
        c->icw3 = value;
        c->expect = c->icw4_follows ? 4 : 0;
        break;
    default:
        c->special_nested = value >> 4 & 1;
        c->auto_eoi = value >> 1 & 1;
        c->expect = 0;
    }
}

static u64 pic_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)size;
    struct pic *p = (struct pic *)d;
    if (region == REGION_ELCR) return p->st.chip[offset].elcr;
    struct pic_chip *c = &p->st.chip[region];
    if (c->poll) {
        c->poll = 0;
        int input = requested(c, region == REGION_FIRST);
        if (input < 0) return 0;
        in_service(c, (unsigned)input);
        update(p);
        return 0x80u | (unsigned)input;
    }
    return offset == 1 ? c->imr : c->read_isr ? c->isr : c->irr;
}

static void pic_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)size;
    struct pic *p = (struct pic *)d;
    u8 v = (u8)value;
    if (region == REGION_ELCR) {
        p->st.chip[offset].elcr = v & elcr_mask[offset];
    } else {
        struct pic_chip *c = &p->st.chip[region];
        if (offset == 1)
            write_data(c, v);
        else if (v & 0x10)
            init_word_1(c, v);
        else if (v & 8)
            command_3(c, v);
        else
            command_2(c, v);
    }
    update(p);
}

static void pic_reset(struct device *d)
{
    struct pic *p = (struct pic *)d;
    for (unsigned i = 0; i < 2; i++) {
        u8 lines = p->st.chip[i].lines; // the inputs are other devices' outputs
        p->st.chip[i] = (struct pic_chip){.lines = lines};
    }
    update(p);
}

static void pic_loaded(struct device *d) { update((struct pic *)d); }

static const char *pic_impossible(const struct device *d, const void *state)
{
    const struct pic_state *s = state;
    return s->chip[0].first > 7 || s->chip[1].first > 7 ? "no input has the highest priority" : NULL;
}

static const struct device_ops pic_ops = {
    .name = "pic",
    .impossible = pic_impossible,
    .state_version = 1,
    .max_size = 1,
    .reset = pic_reset,
    .read = pic_read,
    .write = pic_write,
    .loaded = pic_loaded,
};

void pic_init(struct pic *p, struct bus *b, struct clock *c)
{
    memset(p, 0, sizeof *p);
    p->dev = (struct device){.ops = &pic_ops, .clock = c, .state = &p->st, .state_size = sizeof p->st};
    bus_map_port(b, &p->dev, REGION_FIRST, 0x20, 2);
    bus_map_port(b, &p->dev, REGION_SECOND, 0xA0, 2);
    bus_map_port(b, &p->dev, REGION_ELCR, 0x4D0, 2);
}

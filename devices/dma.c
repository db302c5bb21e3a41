// clang-format off
// 8237A pair and page registers. Sources: Intel 8237A data sheet (231466), PIIX3 data sheet (290550).
//
//   00-07 / C0-CE  address and count of channels 0-3 / 4-7, low byte then high byte (the second pair on even ports)
//   08 / D0  status (0), command     09 / D2  request      0A / D4  one mask bit     0B / D6  mode
//   0C / D8  clear flip-flop         0D / DA  master clear 0E / DC  clear mask       0F / DE  all mask bits
//   80-8F    page registers; 80h is the diagnostic (POST) port and the usual place to wait by writing
//
// Addresses, counts, masks and pages can be written and read back. Not here: transfers (a request is counted).
// clang-format on
#include "devices/dma.h"

#include <string.h>

enum { REGION_FIRST, REGION_SECOND, REGION_PAGE };

static u64 dma_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)size;
    struct dma_state *s = &((struct dma *)d)->st;
    if (region == REGION_PAGE) return s->page[offset];
    if (region == REGION_SECOND && offset & 1) return 0xFF;
    unsigned reg = (unsigned)(region == REGION_SECOND ? offset / 2 : offset);
    if (reg < 8) {
        u16 v = s->base[region][reg];
        bool high = s->high[region];
        s->high[region] = !high;
        return high ? v >> 8 : v & 0xFF;
    }
    return reg == 15 ? s->mask[region] | 0xF0u : 0;
}

static void dma_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)size;
    struct dma_state *s = &((struct dma *)d)->st;
    u8 v = (u8)value;
    if (region == REGION_PAGE) {
        s->page[offset] = v;
        return;
    }
    if (region == REGION_SECOND && offset & 1) return;
    unsigned reg = (unsigned)(region == REGION_SECOND ? offset / 2 : offset);
    if (reg < 8) {
        u16 *b = &s->base[region][reg];
        *b = s->high[region] ? (u16)((*b & 0xFF) | v << 8) : (u16)((*b & 0xFF00) | v);
        s->high[region] = !s->high[region];
        return;
    }
    switch (reg) {
    case 9:
        if (v & 4) device_unimplemented(d, "dma: software request");
        break;
    case 10:
        s->mask[region] = (u8)(v & 4 ? s->mask[region] | 1u << (v & 3) : s->mask[region] & ~(1u << (v & 3)));
        break;
    case 12: s->high[region] = 0; break;
    case 13:
        s->high[region] = 0;
        s->mask[region] = 15;
        break;
    case 14: s->mask[region] = 0; break;
    case 15: s->mask[region] = v & 15; break;
    default: break; // command and mode matter to transfers only
    }
}

static void dma_reset(struct device *d) { ((struct dma *)d)->st = (struct dma_state){.mask = {15, 15}}; }

// clang-format off
static const struct device_ops dma_ops = {
    .name = "dma", .state_version = 1, .max_size = 1, .reset = dma_reset, .read = dma_read, .write = dma_write};
// clang-format on

void dma_init(struct dma *m, struct bus *b, struct clock *c)
{
    memset(m, 0, sizeof *m);
    m->dev = (struct device){.ops = &dma_ops, .clock = c, .state = &m->st, .state_size = sizeof m->st};
    bus_map_port(b, &m->dev, REGION_FIRST, 0x00, 16);
    bus_map_port(b, &m->dev, REGION_SECOND, 0xC0, 32);
    bus_map_port(b, &m->dev, REGION_PAGE, 0x80, 16);
}

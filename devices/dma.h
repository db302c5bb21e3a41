// The DMA controllers' registers, the page registers and port 80h, as storage: no device of this board uses
// ISA DMA.
#ifndef DEVICES_DMA_H
#define DEVICES_DMA_H

#include "devices/bus.h"

STATE_BEGIN
struct dma_state {
    u16 base[2][8]; // address and count of the four channels of each controller, in turn
    u8 high[2];     // the byte pointer flip-flop
    u8 mask[2];     // all channels are masked after reset
    u8 page[16];    // 80h-8Fh; 80h is the POST code
    u8 unused[12];
};
STATE_END

struct dma {
    struct device dev;
    struct dma_state st;
};

void dma_init(struct dma *m, struct bus *b, struct clock *c);

#endif

// The USB host controller of PIIX3, with nothing plugged in.
#ifndef DEVICES_UHCI_H
#define DEVICES_UHCI_H

#include "devices/pci.h"

#define UHCI_PORTS    2
#define UHCI_FIRMWARE 0xC040 // where firmware puts its registers

STATE_BEGIN
struct uhci_state {
    u64 started; // when the frames began to count
    u32 base;    // FRBASEADD
    u16 command, status, interrupts, frame; // frame: FRNUM at `started`, or while halted
    u16 port[UHCI_PORTS];
    u8 sof;      // SOFMOD
    u8 unused[7];
};
STATE_END
struct uhci {
    struct device dev;
    struct pci_function fn;
    struct uhci_state st;
};

void uhci_init(struct uhci *u, struct pci_bus *p, struct clock *c);
void uhci_firmware(struct uhci *u); // its ports, I/O decoding, the interrupt line

#endif

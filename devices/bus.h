// The port and memory buses: ranges mapped to devices at wiring time. An access that no device claims reads
// all ones and drops writes (and is counted).
#ifndef DEVICES_BUS_H
#define DEVICES_BUS_H

#include "devices/device.h"

#define BUS_RANGES 64

struct bus_range {
    u64 first, last;
    struct device *dev;
    unsigned region;
    bool over; // keeps its ports, whatever is mapped later
    u16 rank;  // of a range that software moves; 0: wired
};

struct bus {
    struct bus_range port[BUS_RANGES], mem[BUS_RANGES];
    unsigned ports_n, mems_n; // in the order of ranks
    // number of the range that claims the port, plus 1; where ranges overlap the later one in `port`, but for
    // `over`
    u8 port_owner[65536];
    u64 unclaimed_reads, unclaimed_writes;
};

void bus_init(struct bus *b);
void bus_map_port(struct bus *b, struct device *d, unsigned region, u16 first, unsigned count);
// The same, over what lies there now and over what is mapped there later (a PCI function's ports move): for
// the ports that the user chose.
void bus_map_port_over(struct bus *b, struct device *d, unsigned region, u16 first, unsigned count);
void bus_map_mem(struct bus *b, struct device *d, unsigned region, paddr first, u64 size);
// The same for ranges that software moves. They lie over what is wired; where two of them overlap the higher
// rank (from 1 on) claims, whichever was mapped later: who claims what follows from where the ranges are, and
// not from how they came there.
void bus_move_port(struct bus *b, struct device *d, unsigned region, u16 first, unsigned count, u16 rank);
void bus_move_mem(struct bus *b, struct device *d, unsigned region, paddr first, u64 size, u16 rank);
// all ranges of that region, ports and memory
void bus_unmap(struct bus *b, struct device *d, unsigned region);
// An access wider than its device decodes (device_ops.max_size) is split into pieces of that size, and one
// that reaches beyond the range that claims its first port is split into bytes, as a PC's bus does.
u64 bus_port_read(struct bus *b, u16 port, unsigned size);
void bus_port_write(struct bus *b, u16 port, unsigned size, u64 value);
u64 bus_mem_read(struct bus *b, paddr a, unsigned size);
void bus_mem_write(struct bus *b, paddr a, unsigned size, u64 value);

#endif

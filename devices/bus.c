// The port and memory buses. Missing: nothing; there are no wait states and no bus errors on a PC's I/O bus.
#include "devices/bus.h"

#include <string.h>

static u64 all_ones(unsigned size) { return size >= 8 ? UINT64_MAX : BIT(size * 8) - 1; }

void bus_init(struct bus *b) { memset(b, 0, sizeof *b); }

static void claim(struct bus *b, unsigned n)
{
    const struct bus_range *r = &b->port[n];
    memset(b->port_owner + r->first, (int)(n + 1), r->last - r->first + 1);
}

static void claim_all(struct bus *b, bool over)
{
    for (unsigned i = 0; i < b->ports_n; i++)
        if (b->port[i].over == over) claim(b, i);
}

static void claim_anew(struct bus *b)
{
    memset(b->port_owner, 0, sizeof b->port_owner);
    claim_all(b, false);
    claim_all(b, true);
}

// Behind all of its rank and below.
static void insert(struct bus_range *list, unsigned *n, struct bus_range r)
{
    unsigned at = (*n)++;
    for (; at > 0 && list[at - 1].rank > r.rank; at--) list[at] = list[at - 1];
    list[at] = r;
}

static void map_port(struct bus *b, struct bus_range r)
{
    if (b->ports_n == BUS_RANGES || r.last > 65535)
        panic("bus: cannot map ports %xh to %xh", (u32)r.first, (u32)r.last);
    insert(b->port, &b->ports_n, r);
    claim_anew(b);
}

static void map_mem(struct bus *b, struct bus_range r)
{
    if (b->mems_n == BUS_RANGES) panic("bus: more than %d memory ranges", BUS_RANGES);
    insert(b->mem, &b->mems_n, r);
}

void bus_map_port(struct bus *b, struct device *d, unsigned region, u16 first, unsigned count)
{
    map_port(b, (struct bus_range){first, first + count - 1, d, region, false, 0});
}

void bus_map_port_over(struct bus *b, struct device *d, unsigned region, u16 first, unsigned count)
{
    map_port(b, (struct bus_range){first, first + count - 1, d, region, true, 0});
}

void bus_map_mem(struct bus *b, struct device *d, unsigned region, paddr first, u64 size)
{
    map_mem(b, (struct bus_range){first, first + size - 1, d, region, false, 0});
}

void bus_move_port(struct bus *b, struct device *d, unsigned region, u16 first, unsigned count, u16 rank)
{
    bus_unmap(b, d, region);
    map_port(b, (struct bus_range){first, first + count - 1, d, region, false, rank});
}

void bus_move_mem(struct bus *b, struct device *d, unsigned region, paddr first, u64 size, u16 rank)
{
    bus_unmap(b, d, region);
    map_mem(b, (struct bus_range){first, first + size - 1, d, region, false, rank});
}

static unsigned drop(struct bus_range *r, unsigned n, const struct device *d, unsigned region)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < n; i++)
        if (r[i].dev != d || r[i].region != region) r[kept++] = r[i];
    return kept;
}

void bus_unmap(struct bus *b, struct device *d, unsigned region)
{
    b->mems_n = drop(b->mem, b->mems_n, d, region);
    b->ports_n = drop(b->port, b->ports_n, d, region);
    claim_anew(b);
}

static const struct bus_range *port_range(const struct bus *b, u16 port)
{
    unsigned n = b->port_owner[port];
    return n ? &b->port[n - 1] : NULL;
}

static const struct bus_range *mem_range(const struct bus *b, paddr a)
{
    for (unsigned i = b->mems_n; i-- > 0;)
        if (a >= b->mem[i].first && a <= b->mem[i].last) return &b->mem[i];
    return NULL;
}

// The piece that one call to the device takes.
static unsigned piece_of(const struct bus_range *r, u64 a, unsigned size)
{
    unsigned max = r->dev->ops->max_size;
    if (a + size - 1 > r->last) return 1;
    return max && size > max ? max : size;
}

static u64 range_read(struct bus *b, const struct bus_range *r, u64 a, unsigned size)
{
    if (!r || !r->dev->ops->read) {
        b->unclaimed_reads++;
        return all_ones(size);
    }
    return r->dev->ops->read(r->dev, r->region, a - r->first, size) & all_ones(size);
}

static void range_write(struct bus *b, const struct bus_range *r, u64 a, unsigned size, u64 value)
{
    if (!r || !r->dev->ops->write) {
        b->unclaimed_writes++;
        return;
    }
    r->dev->ops->write(r->dev, r->region, a - r->first, size, value & all_ones(size));
}

u64 bus_port_read(struct bus *b, u16 port, unsigned size)
{
    const struct bus_range *r = port_range(b, port);
    unsigned piece = r ? piece_of(r, port, size) : 1;
    if (piece == size) return range_read(b, r, port, size);
    u64 value = 0;
    for (unsigned i = 0; i < size; i += piece) {
        u16 at = (u16)(port + i);
        value |= range_read(b, port_range(b, at), at, piece) << (i * 8);
    }
    return value;
}

void bus_port_write(struct bus *b, u16 port, unsigned size, u64 value)
{
    const struct bus_range *r = port_range(b, port);
    unsigned piece = r ? piece_of(r, port, size) : 1;
    if (piece == size) {
        range_write(b, r, port, size, value);
        return;
    }
    for (unsigned i = 0; i < size; i += piece) {
        u16 at = (u16)(port + i);
        range_write(b, port_range(b, at), at, piece, value >> (i * 8));
    }
}

u64 bus_mem_read(struct bus *b, paddr a, unsigned size)
{
    const struct bus_range *r = mem_range(b, a);
    unsigned piece = r ? piece_of(r, a, size) : size;
    u64 value = 0;
    for (unsigned i = 0; i < size; i += piece)
        value |= range_read(b, mem_range(b, a + i), a + i, piece) << (i * 8);
    return value;
}

void bus_mem_write(struct bus *b, paddr a, unsigned size, u64 value)
{
    const struct bus_range *r = mem_range(b, a);
    unsigned piece = r ? piece_of(r, a, size) : size;
    for (unsigned i = 0; i < size; i += piece)
        range_write(b, mem_range(b, a + i), a + i, piece, value >> (i * 8));
}

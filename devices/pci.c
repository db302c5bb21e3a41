// clang-format off
// PCI configuration mechanism 1 and interrupt routing. Sources: PCI Local Bus Specification 2.1 (chapter 6, 3.7.4.1),
// PIIX3 data sheet (290550) for PIRQ routing and the reset control register.
//
//   CF8h  CONFIG_ADDRESS (32 bits): 31 enable, 23:16 bus, 15:8 device and function, 7:2 register
//   CF9h  reset control (8 bits): 1 hard, 2 a rising edge resets
//   CFCh  CONFIG_DATA (8, 16 and 32 bits)
//
// Not here: buses other than 0, PCI-to-PCI bridges, MSI, 64-bit BARs, expansion ROMs, error bits of the status register.
// clang-format on
#include "devices/pci.h"

#include <string.h>

enum { REGION_ADDRESS, REGION_DATA };
enum { COMMAND_IO = 1, COMMAND_MEM = 2 };

static u32 get(const u8 *at, unsigned size)
{
    u32 v = 0;
    for (unsigned i = 0; i < size; i++) v |= (u32)at[i] << (i * 8);
    return v;
}

static void put(u8 *at, unsigned size, u32 v)
{
    for (unsigned i = 0; i < size; i++) at[i] = (u8)(v >> (i * 8));
}

// ---- functions ----

void pci_allow(struct pci_function *f, unsigned reg, unsigned size, u32 bits, u32 initial)
{
    put(f->writable + reg, size, bits);
    put(f->initial + reg, size, initial);
    put(f->config + reg, size, initial);
}

void pci_add_bar(struct pci_function *f, unsigned n, u32 size, bool io, unsigned region)
{
    f->bar[n] = (struct pci_bar){.size = size, .io = io, .region = region};
    pci_allow(f, PCI_BAR0 + n * 4, 4, ~(size - 1), io);
    u8 decode = f->writable[PCI_COMMAND] | (io ? COMMAND_IO : COMMAND_MEM);
    f->writable[PCI_COMMAND] = decode;
}

static void map_bars(struct pci_function *f)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        struct pci_bar *b = &f->bar[i];
        if (!b->size) continue;
        if (b->mapped) bus_unmap(f->bus->bus, f->owner, b->region);
        u32 base = pci_get32(f, PCI_BAR0 + i * 4) & ~(b->size - 1);
        bool decodes = f->config[PCI_COMMAND] & (b->io ? COMMAND_IO : COMMAND_MEM);
        b->mapped = decodes && base && (u64)base + b->size <= (b->io ? 0x10000 : 0x100000000ull);
        if (!b->mapped) continue;
        if (b->io)
            bus_move_port(f->bus->bus, f->owner, b->region, (u16)base, b->size, pci_rank(f, i));
        else
            bus_move_mem(f->bus->bus, f->owner, b->region, base, b->size, pci_rank(f, i));
    }
}

u32 pci_config_read(const struct pci_function *f, unsigned reg, unsigned size)
{
    return get(f->config + reg, size);
}

void pci_config_write(struct pci_function *f, unsigned reg, unsigned size, u32 value)
{
    for (unsigned i = 0; i < size; i++) {
        u8 v = (u8)(value >> (i * 8)), w = f->writable[reg + i];
        u8 *c = &f->config[reg + i];
        *c = (u8)((*c & ~w) | (v & w));
        *c &= (u8) ~(v & f->clears[reg + i]);
    }
    if (reg < PCI_BAR0 + 4 * PCI_BARS && (reg >= PCI_BAR0 || reg == PCI_COMMAND)) map_bars(f);
    if (f->written) f->written(f, reg, size);
}

static void function_reset(struct device *d)
{
    struct pci_function *f = (struct pci_function *)d;
    memcpy(f->config, f->initial, sizeof f->config);
    map_bars(f);
    if (f->written) f->written(f, 0, sizeof f->config);
}

static void function_loaded(struct device *d)
{
    struct pci_function *f = (struct pci_function *)d;
    map_bars(f);
    if (f->written) f->written(f, 0, sizeof f->config);
}

static const struct device_ops function_ops = {
    .name = "pci-function", .state_version = 1, .reset = function_reset, .loaded = function_loaded};

void pci_add(struct pci_bus *p, struct pci_function *f, unsigned devfn, u16 vendor, u16 device, u32 class,
             u8 revision)
{
    memset(f, 0, sizeof *f);
    f->dev = (struct device){.ops = &function_ops,
                             .clock = p->dev.clock,
                             .state = f->config,
                             .state_size = offsetof(struct pci_function, writable) -
                                           offsetof(struct pci_function, config)};
    f->bus = p;
    f->devfn = devfn;
    p->fn[devfn] = f;
    pci_allow(f, 0x00, 2, 0, vendor);
    pci_allow(f, 0x02, 2, 0, device);
    pci_allow(f, PCI_COMMAND, 2, 0x0104, 0); // bus master, SERR#; decoding with the BARs
    pci_allow(f, 0x08, 4, 0, class << 8 | revision);
    pci_allow(f, 0x0C, 2, 0xFFFF, 0); // cache line size, latency timer
    pci_allow(f, PCI_LINE, 1, 0xFF, 0);
}

// ---- interrupts ----

// PIRQA-D lead to the ISA interrupt that PIIX3's registers 60h-63h name; bit 7 of them disconnects. A line is
// the OR of all functions' pins that lead to it.
static void route(struct pci_bus *p)
{
    u16 levels = 0;
    for (unsigned i = 0; i < 256; i++) {
        const struct pci_function *f = p->fn[i];
        if (!f || !f->intx || !f->config[PCI_PIN]) continue;
        unsigned pirq = ((i >> 3) - 1 + f->config[PCI_PIN] - 1) & 3; // as the board's slots are wired
        u8 r = p->piix_config[0x60 + pirq];
        if (!(r & 0x80)) levels |= (u16)(1u << (r & 15));
    }
    for (unsigned n = 0; n < 16; n++) irq_set(&p->isa_irq[n], levels >> n & 1);
}

void pci_set_irq(struct pci_function *f, bool level)
{
    f->intx = level;
    if (f->bus->piix_config) route(f->bus);
}

// ---- configuration mechanism 1 ----

static struct pci_function *selected(const struct pci_bus *p)
{
    u32 a = p->st.address;
    return a >> 31 && !(a >> 16 & 0xFF) ? p->fn[a >> 8 & 0xFF] : NULL;
}

static u64 pci_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    struct pci_bus *p = (struct pci_bus *)d;
    if (region == REGION_ADDRESS) {
        if (offset == 0 && size == 4) return p->st.address;
        if (offset == 1 && size == 1) return p->st.reset_control;
        return UINT64_MAX;
    }
    const struct pci_function *f = selected(p);
    if (!f || offset + size > 4) return UINT64_MAX;
    return pci_config_read(f, (p->st.address & 0xFC) + (unsigned)offset, size);
}

static void pci_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    struct pci_bus *p = (struct pci_bus *)d;
    if (region == REGION_ADDRESS) {
        if (offset == 0 && size == 4) p->st.address = (u32)value & 0x80FFFFFC;
        if (offset == 1 && size == 1) {
            bool rises = value & 4 && !(p->st.reset_control & 4);
            p->st.reset_control = value & 0x06;
            if (rises && p->reset_line) p->reset_line(p->reset_to);
        }
        return;
    }
    struct pci_function *f = selected(p);
    if (f && offset + size <= 4)
        pci_config_write(f, (p->st.address & 0xFC) + (unsigned)offset, size, (u32)value);
}

static void pci_reset(struct device *d) { ((struct pci_bus *)d)->st = (struct pci_state){0}; }

// clang-format off
static const struct device_ops pci_ops = {
    .name = "pci", .state_version = 1, .max_size = 4, .reset = pci_reset, .read = pci_read, .write = pci_write};
// clang-format on

void pci_init(struct pci_bus *p, struct bus *b, struct clock *c)
{
    memset(p, 0, sizeof *p);
    p->dev = (struct device){.ops = &pci_ops, .clock = c, .state = &p->st, .state_size = sizeof p->st};
    p->bus = b;
    bus_map_port(b, &p->dev, REGION_ADDRESS, 0xCF8, 4);
    bus_map_port(b, &p->dev, REGION_DATA, 0xCFC, 4);
}

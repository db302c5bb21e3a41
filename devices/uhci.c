// clang-format off
// 00:01.2, the USB host controller of PIIX3. Sources: Universal Host Controller Interface Design Guide 1.1 (register names are its
// own), PIIX3 data sheet (290550) for the configuration space.
//
//   00 USBCMD, 02 USBSTS, 04 USBINTR, 06 FRNUM, 08 FRBASEADD, 0C SOFMOD, 10 PORTSC1, 12 PORTSC2, within the range of BAR 4
//
// Not here: devices, and so transfers. The schedule is not walked: what a driver puts there for a device that it has not found
// would not time out.
// clang-format on
#include "devices/device_table.h"
#include "devices/pci.h"

#define UHCI_PORTS    2
#define UHCI_FIRMWARE 0xC040 // where firmware puts its registers

STATE_BEGIN
struct uhci_state {
    u64 started;                            // when the frames began to count
    u32 base;                               // FRBASEADD
    u16 command, status, interrupts, frame; // frame: FRNUM at `started`, or while halted
    u16 port[UHCI_PORTS];
    u8 sof; // SOFMOD
    u8 unused[7];
};
STATE_END
struct uhci {
    struct device dev;
    struct pci_function fn;
    struct uhci_state st;
};

enum { CMD_RUN = 1 << 0, CMD_HCRESET = 1 << 1, CMD_GRESET = 1 << 2, CMD_BITS = 0xFD };
enum { STS_HALTED = 1 << 5, STS_CLEARS = 0x1F };
// clang-format off
enum { PORT_CONNECTED = 1 << 0, PORT_ENABLED = 1 << 2, PORT_ONE = 1 << 7, PORT_BITS = 1 << 6 | 1 << 9 | 1 << 12 };
// clang-format on

static bool running(const struct uhci *u) { return u->st.command & CMD_RUN; }

static u16 frame_now(const struct uhci *u) // one a millisecond
{
    u64 n = running(u) ? clock_to_hz(u->dev.clock->now - u->st.started, 1000) : 0;
    return (u16)((u->st.frame + n) & 0x7FF);
}

static u16 get(const struct uhci *u, u64 reg)
{
    const struct uhci_state *s = &u->st;
    switch (reg) {
    case 0x00: return s->command;
    case 0x02: return s->status;
    case 0x04: return s->interrupts;
    case 0x06: return frame_now(u);
    case 0x08: return (u16)s->base;
    case 0x0A: return (u16)(s->base >> 16);
    case 0x0C: return s->sof;
    case 0x10:
    case 0x12: return s->port[(reg - 0x10) / 2];
    default: return reg < 0x10 ? 0 : 0xFFFF; // drivers count the ports by bit 7
    }
}

static void clear(struct uhci *u)
{
    u->st = (struct uhci_state){.status = STS_HALTED, .sof = 64, .port = {PORT_ONE, PORT_ONE}};
}

static void command(struct uhci *u, u16 v)
{
    struct uhci_state *s = &u->st;
    if (v & (CMD_HCRESET | CMD_GRESET)) {
        clear(u);
        s->command = v & CMD_GRESET;
        return;
    }
    s->frame = frame_now(u);
    s->started = u->dev.clock->now;
    s->command = v & CMD_BITS;
    s->status = (u16)(running(u) ? s->status & ~STS_HALTED : s->status | STS_HALTED);
}

// `mask` has the bits that are written.
static void put(struct uhci *u, u64 reg, u16 v, u16 mask)
{
    struct uhci_state *s = &u->st;
    u16 merged = (u16)((get(u, reg) & ~mask) | (v & mask));
    switch (reg) {
    case 0x00: command(u, merged); break;
    case 0x02: s->status &= (u16) ~(v & mask & STS_CLEARS); break;
    case 0x04: s->interrupts = merged & 0xF; break;
    case 0x06:
        if (!running(u)) s->frame = merged & 0x7FF;
        break;
    case 0x08: s->base = (s->base & 0xFFFF0000) | (merged & 0xF000); break;
    case 0x0A: s->base = (s->base & 0xFFFF) | (u32)merged << 16; break;
    case 0x0C: s->sof = merged & 0x7F; break;
    case 0x10:
    case 0x12:
        s->port[(reg - 0x10) / 2] = PORT_ONE | (merged & PORT_BITS);
        break; // enabled: with a device only
    default: break;
    }
}

static u64 uhci_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    (void)region;
    u16 v = get((struct uhci *)d, offset & ~1ull);
    return size == 1 && offset & 1 ? v >> 8 : v;
}

static void uhci_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    (void)region;
    unsigned shift = offset & 1 ? 8 : 0;
    put((struct uhci *)d, offset & ~1ull, (u16)(value << shift), (u16)((size == 1 ? 0xFF : 0xFFFF) << shift));
}

static void uhci_reset(struct device *d) { clear((struct uhci *)d); }

// clang-format off
static const struct device_ops uhci_ops = {.name = "uhci", .state_version = 1, .max_size = 2, .reset = uhci_reset, .read = uhci_read, .write = uhci_write};
// clang-format on

static void uhci_create(void *self, const struct device_board *b, const struct property_value *v)
{
    (void)v;
    struct uhci *u = self;
    u->dev =
        (struct device){.ops = &uhci_ops, .clock = b->clock, .state = &u->st, .state_size = sizeof u->st};
    pci_add(b->pci, &u->fn, PCI_DEVFN(1, 2), 0x8086, 0x7020, 0x0C0300, 1);
    pci_allow(&u->fn, PCI_COMMAND, 2, 0x0004, 0); // bus master; I/O comes with the BAR
    pci_allow(&u->fn, PCI_STATUS, 2, 0, 0x0280);
    pci_allow(&u->fn, 0x2C, 4, 0, 0x11001AF4);  // subsystem as QEMU's
    pci_allow(&u->fn, PCI_PIN, 1, 0, 4);        // INTD
    pci_allow(&u->fn, 0x60, 1, 0, 0x10);        // SBRN: USB 1.0
    pci_allow(&u->fn, 0xC0, 2, 0x20BF, 0x2000); // LEGSUP: no emulation of a keyboard, interrupts pass
    u->fn.owner = &u->dev;
    pci_add_bar(&u->fn, 4, 32, true, 0);
    b->add(b->to, &u->fn.dev);
    b->add(b->to, &u->dev);
}

// Its ports, I/O decoding, the interrupt line.
static void uhci_firmware(void *self)
{
    struct uhci *u = self;
    pci_config_write(&u->fn, PCI_BAR0 + 4 * 4, 4, UHCI_FIRMWARE);
    pci_config_write(&u->fn, PCI_COMMAND, 2, 0x0005);
    pci_config_write(&u->fn, PCI_LINE, 1, 11); // PIRQD, as piix_firmware routes it
}

const struct device_row uhci_row = {
    .name = "piix3-usb-uhci",
    .help = "a USB host controller with nothing plugged in",
    .bus = DEVICE_ON_PCI,
    .option = "-usb", // its place is PIIX3's; QEMU's -device would put it at the next free one
    .most = 1,
    .size = sizeof(struct uhci),
    .create = uhci_create,
    .firmware = uhci_firmware,
};

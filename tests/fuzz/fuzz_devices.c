// Ports, device memory and APIC MSRs of a board with everything on it: reads and writes of every size, with
// time passing in between. Nothing stops the program or hangs it; and a machine that was given the plain
// state of another at some instant goes on as that one does.
//
// Input: one operation after the other.
#include "devices/machine_state.h"
#include "tests/fuzz/fuzz.h"
#include "tests/machine_test.h"

struct world {
    struct machine *m[2];
    u8 *blank[STATE_PARTS_MAX]; // its state before anything happens
    u8 *ram;
    struct state_bytes copy[2];
};
enum { RAM = 2 << 20 };

static void begin(struct world *w)
{
    struct machine_config c = {.ram_size = RAM,
                               .cpus = 2,
                               .devices = 4,
                               .device = {device_of("pc-testdev"), device_of("piix3-usb-uhci"),
                                          device_of("isa-debug-exit,iobase=0xf4,iosize=4"),
                                          device_of("isa-debugcon,iobase=0x402")}};
    cpu_features_max(&c.features);
    for (unsigned i = 0; i < 2; i++) w->m[i] = make_as(c);
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(w->m[0], part);
    for (unsigned i = 0; i < n; i++) w->blank[i] = memcpy(malloc(part[i].size), part[i].data, part[i].size);
    w->ram = memcpy(malloc(RAM), w->m[0]->phys.ram, RAM);
}

static void begin_again(struct world *w)
{
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(w->m[0], part);
    for (unsigned i = 0; i < n; i++) memcpy(part[i].data, w->blank[i], part[i].size);
    memcpy(w->m[0]->phys.ram, w->ram, RAM);
    machine_loaded(w->m[0]);
}

static void pass_time(struct machine *m, u64 ticks)
{
    u64 t = m->clock.now + ticks;
    for (unsigned n = 0; m->clock.next_deadline <= t && n < 16; n++) {
        u64 before = m->clock.now;
        if (m->clock.next_deadline > m->clock.now) m->clock.now = m->clock.next_deadline;
        clock_run(&m->clock);
        MUST(m->clock.now >= before, "time ran backwards");
    }
    if (t > m->clock.now && m->clock.next_deadline > t) m->clock.now = t; // no deadline is passed over
}

static void step(struct machine *m, struct input *in)
{
    static const u16 ports[] = {0x00,  0x08,  0x20,  0x40,  0x60,   0x64,  0x70,  0x72,   0x80,  0x92,  0xA0,
                                0xB2,  0xC0,  0xD0,  0xE0,  0xE9,   0xF4,  0x2F8, 0x3F8,  0x402, 0x4D0, 0x510,
                                0x514, 0x600, 0x608, 0x700, 0xAFE0, 0xCF8, 0xCFC, 0x2000, 0xC000};
    static const u64 page[] = {0xFEC00000, 0xFED00000, 0xFEE00000, 0xFF000000, 0xF0000000, 0xFED00400};
    unsigned what = take8(in), size = 1u << (what >> 4 & 3), cpu = what >> 6 & 1;
    u64 got;
    switch (what & 15) {
    case 0:
    case 1:
    case 2: {
        u16 port = (u16)(ports[below(in, ARRAY_LEN(ports))] + below(in, 16));
        u64 x = take_number(in);
        bus_port_write(&m->bus, port, size > 4 ? 4 : size, size < 4 ? x & (BIT(8 * size) - 1) : (u32)x);
        break;
    }
    case 3:
    case 4:
        bus_port_read(&m->bus, (u16)(ports[below(in, ARRAY_LEN(ports))] + below(in, 16)),
                      size > 4 ? 4 : size);
        break;
    case 5: {
        u16 port = (u16)take(in, 2);
        bus_port_write(&m->bus, port, size > 4 ? 4 : size,
                       take_number(in) & (size >= 4 ? 0xFFFFFFFF : BIT(8 * size) - 1));
        break;
    }
    case 6:
    case 7: {
        paddr a = page[below(in, ARRAY_LEN(page))] + (take(in, 2) & 0xFFF & ~(u64)(size - 1));
        u64 x = take_number(in);
        m->phys.ops->mmio_write(m, cpu, a, size, size == 8 ? x : x & (BIT(8 * size) - 1));
        break;
    }
    case 8:
        m->phys.ops->mmio_read(
            m, cpu, page[below(in, ARRAY_LEN(page))] + (take(in, 2) & 0xFFF & ~(u64)(size - 1)), size);
        break;
    case 9: {
        u8 n = take8(in);
        u32 msr = n >= 0xF0 ? 0x6E0 : n >= 0xE0 ? 0x1B : 0x800 + (n & 0x7F);
        lapic_msr_write(&m->lapic[cpu], msr, take_number(in));
        break;
    }
    case 10: lapic_msr_read(&m->lapic[cpu], 0x800 + (take8(in) & 0x7F), &got); break;
    case 11: lapic_ack(&m->lapic[cpu]); break;
    case 12: {
        u8 bytes[4];
        for (unsigned i = 0; i < 4; i++) bytes[i] = take8(in);
        machine_serial_input(m, cpu, bytes, 1 + (what >> 4 & 3));
        break;
    }
    case 13: phys_write64(&m->phys, 0, 0x1000 + 8 * below(in, 64), take_number(in)); break; // for DMA
    case 14: pass_time(m, take_number(in) >> (20 + (what >> 4))); break;
    default:
        if (what == 0xFF) {
            if (take8(in) == 0xA5) machine_reset(m); // slow: not by every byte
        } else if (what & 0x80)
            machine_power_button(m);
        else
            pass_time(m, take(in, 3));
    }
    m->request.what = MACHINE_RUN;
}

static void copy(struct machine *to, struct machine *from, struct state_bytes *b)
{
    char why[256];
    bool ok = machine_state_save(from, b, why, sizeof why) &&
              machine_state_load(to, b->at, b->size, why, sizeof why);
    MUST(ok, "%s", why);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct world w;
    if (!w.m[0]) begin(&w);
    struct input in = {data, data + size};
    char why[256];
    bool two = false;
    begin_again(&w);
    for (unsigned n = 0; n < 300 && more(&in); n++) {
        if (!two && *in.at == 0x7F) { // from here on there are two
            in.at++;
            copy(w.m[1], w.m[0], &w.copy[0]);
            two = true;
            continue;
        }
        struct input again = in;
        step(w.m[0], &in);
        if (two) step(w.m[1], &again);
    }
    if (!two) return 0;
    for (unsigned i = 0; i < 2; i++) MUST(machine_state_save(w.m[i], &w.copy[i], why, sizeof why), "%s", why);
    MUST(w.copy[0].size == w.copy[1].size, "the copy has another size");
    for (u64 i = 0; i < w.copy[0].size; i++)
        MUST(w.copy[0].at[i] == w.copy[1].at[i], "the copy has another state, at byte %llu of it",
             (unsigned long long)i);
    return 0;
}

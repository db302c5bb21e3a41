// Random accesses to every port, MMIO register and APIC MSR of a machine, with time passing in between:
// nothing that a guest writes may stop the program, hang it, or make time run backwards; the same seed gives
// the same state.
#include <stdio.h>

#include "tests/device_test.h"
#include "devices/machine_state.h"

struct random {
    u64 x;
};
static u64 next(struct random *r)
{
    r->x ^= r->x << 13, r->x ^= r->x >> 7, r->x ^= r->x << 17;
    return r->x * 0x2545F4914F6CDD1Dull;
}

static const u16 ports[] = {0x00,  0x08,  0x20,   0x21,  0x40,  0x42,  0x43,  0x60,  0x61,  0x64,  0x70,
                            0x71,  0x80,  0x92,   0xA0,  0xA1,  0xB2,  0xC0,  0xD0,  0xE0,  0xE9,  0x2F8,
                            0x2FA, 0x3F8, 0x3F9,  0x3FA, 0x3FC, 0x4D0, 0x510, 0x511, 0x514, 0x518, 0x600,
                            0x602, 0x608, 0xAFE0, 0xCF8, 0xCF9, 0xCFC, 0xCFE, 0x2000};

static u64 value(struct random *r)
{
    u64 v = next(r);
    switch (v & 3) {
    case 0: return v >> 8 & 0xFF;
    case 1: return BIT(v >> 8 & 63);
    case 2: return v >> 60 ? v >> 8 : UINT64_MAX;
    default: return v;
    }
}

static void step(struct machine *m, struct random *r)
{
    u64 what = next(r);
    unsigned size = 1u << (what >> 8 & 3), port_size = size > 4 ? 4 : size;
    u16 port =
        what >> 16 & 7 ? (u16)(ports[(what >> 20) % ARRAY_LEN(ports)] + (what >> 40 & 3)) : (u16)(what >> 20);
    static const u64 page[] = {0xFEC00000, 0xFED00000, 0xFF000000, 0xFEE00000, 0xF0000000};
    paddr mem = page[(what >> 20) % ARRAY_LEN(page)] + (what >> 32 & 0x3FF & ~(u64)(size - 1));
    unsigned cpu = what >> 44 & 1;
    u64 got;
    if (what >> 50 & 1) { // to somewhere in RAM, so that DMA has sane and insane targets
        phys_write64(&m->phys, 0, 0x1000 + (what >> 52 & 0xF8), next(r));
    }
    switch (what & 7) {
    case 0:
    case 1: bus_port_write(&m->bus, port, port_size, value(r)); break;
    case 2: bus_port_read(&m->bus, port, port_size); break;
    case 3: m->phys.ops->mmio_write(m, cpu, mem, size, value(r)); break;
    case 4: m->phys.ops->mmio_read(m, cpu, mem, size); break;
    case 5:
        lapic_msr_write(&m->lapic[cpu],
                        what >> 60       ? 0x800 + (what >> 20 & 0x7F)
                        : what >> 20 & 1 ? 0x1B
                                         : 0x6E0,
                        value(r));
        break;
    case 6: lapic_msr_read(&m->lapic[cpu], 0x800 + (what >> 20 & 0x7F), &got); break;
    default: {
        if (what >> 20 & 1) lapic_ack(&m->lapic[cpu]);
        u8 byte = (u8)what;
        if (what >> 21 & 1) machine_serial_input(m, what >> 22 & 1, &byte, 1);
        u64 t = m->clock.now + (next(r) >> (40 + (what >> 24 & 15)));
        for (unsigned n = 0; m->clock.next_deadline <= t && n < 1000; n++) {
            if (m->clock.next_deadline > m->clock.now) m->clock.now = m->clock.next_deadline;
            clock_run(&m->clock);
        }
        if (t > m->clock.now && m->clock.next_deadline > t) m->clock.now = t;
    }
    }
    m->request.what = MACHINE_RUN;
}

static u64 hash(const struct machine *m)
{
    u64 h = 0xCBF29CE484222325ull ^ m->clock.now;
    for (const struct device *d = m->devices; d; d = d->next)
        for (u32 i = 0; i < d->state_size; i++) h = (h ^ ((const u8 *)d->state)[i]) * 0x100000001B3ull;
    return h;
}

static u64 run(u64 seed)
{
    struct machine *m = calloc(1, sizeof *m);
    // clang-format off
    struct machine_config config = {.ram_size = 2 << 20, .cpus = 2, .devices = 3,
        .device = {device_of("pc-testdev"), device_of("piix3-usb-uhci"), device_of("isa-debug-exit,iobase=0xf4,iosize=4")}};
    // clang-format on
    cpu_features_max(&config.features);
    const char *why;
    assert_true(machine_init(m, &config, &why));
    struct random r = {seed};
    for (unsigned i = 0; i < 60000; i++) {
        step(m, &r);
        if (i % 20000 == 9999) machine_reset(m);
        if (i % 5000 == 4999) machine_loaded(m); // re-deriving changes nothing that is state
    }
    u64 h = hash(m);
    machine_free(m);
    free(m);
    return h;
}

static void nothing_breaks(void **state)
{
    for (u64 seed = 1; seed <= 8; seed++) {
        u64 first = run(seed * 0x9E3779B97F4A7C15ull), second = run(seed * 0x9E3779B97F4A7C15ull);
        if (first != second) fail_msg("seed %llu: two runs differ", (unsigned long long)seed);
    }
}

// A snapshot is the states and RAM: going on from it in a new machine gives the same as in the old one.
static void a_snapshot_is_the_states(void **state)
{
    struct machine_config config = {.ram_size = 2 << 20,
                                    .cpus = 2,
                                    .devices = 2,
                                    .device = {device_of("pc-testdev"), device_of("piix3-usb-uhci")}};
    cpu_features_max(&config.features);
    struct machine *m[2];
    const char *line;
    char why[256];
    for (unsigned i = 0; i < 2; i++) assert_non_null(m[i] = calloc(1, sizeof *m[i]));
    assert_true(machine_init(m[0], &config, &line));
    struct random r = {0x853C49E6748FEA9Bull};
    struct state_bytes s = {0};
    for (unsigned round = 0; round < 60; round++) {
        for (unsigned i = 0; i < 2000; i++) step(m[0], &r);
        assert_true(machine_init(m[1], &config, &line));
        if (!machine_state_save(m[0], &s, why, sizeof why) ||
            !machine_state_load(m[1], s.at, s.size, why, sizeof why))
            fail_msg("%s", why);
        struct random from = r;
        u64 h[2];
        for (unsigned go = 0; go < 2; go++) {
            r = from;
            for (unsigned i = 0; i < 1500; i++) step(m[go], &r);
            h[go] = hash(m[go]);
        }
        if (h[0] != h[1]) fail_msg("round %u: another future after the restore", round);
        machine_free(m[1]);
    }
    state_bytes_free(&s);
    machine_free(m[0]);
    free(m[0]), free(m[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_breaks),
                                       cmocka_unit_test(a_snapshot_is_the_states)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

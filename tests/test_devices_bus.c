// The clock's deadlines and scales, and how the buses split accesses.
#include "tests/device_test.h"

struct probe {
    struct device dev;
    unsigned ticks[8], n;
    u64 offset[8], value[8];
    unsigned size[8], accesses;
};

static void probe_tick(struct device *d, unsigned id)
{
    struct probe *p = (struct probe *)d;
    p->ticks[p->n++] = id;
}
static u64 probe_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    struct probe *p = (struct probe *)d;
    p->offset[p->accesses] = offset;
    p->size[p->accesses++] = size;
    return 0x8877665544332211ull >> offset * 8;
}
static void probe_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    struct probe *p = (struct probe *)d;
    p->offset[p->accesses] = offset;
    p->size[p->accesses] = size;
    p->value[p->accesses++] = value;
}
static const struct device_ops bytes = {
    .name = "b", .max_size = 1, .read = probe_read, .write = probe_write, .tick = probe_tick};
static const struct device_ops any = {
    .name = "a", .read = probe_read, .write = probe_write, .tick = probe_tick};

static void deadlines_fire_in_time_then_in_wiring_order(void **state)
{
    struct board b;
    board_begin(&b);
    struct probe p = {.dev.ops = &any};
    unsigned t[4];
    for (unsigned i = 0; i < 4; i++) t[i] = clock_timer_add(&b.clock, &p.dev, i);
    assert_true(b.clock.next_deadline == CLOCK_NEVER);
    clock_timer_set(&b.clock, t[3], 50);
    clock_timer_set(&b.clock, t[1], 100);
    clock_timer_set(&b.clock, t[0], 100);
    clock_timer_set(&b.clock, t[2], 101);
    assert_int_equal(b.clock.next_deadline, 50);
    b.clock.now = 100;
    clock_run(&b.clock);
    assert_int_equal(p.n, 3);
    assert_int_equal(p.ticks[0], 3);
    assert_int_equal(p.ticks[1], 0);
    assert_int_equal(p.ticks[2], 1);
    assert_int_equal(b.clock.next_deadline, 101);
    clock_timer_set(&b.clock, t[2], CLOCK_NEVER);
    assert_true(b.clock.next_deadline == CLOCK_NEVER);
}

static void scales_are_exact(void **state)
{
    assert_int_equal(clock_to_hz(CLOCK_HZ, 1193182), 1193182);
    assert_int_equal(clock_to_hz(CLOCK_HZ - 1, 1193182), 1193181);
    assert_int_equal(clock_to_hz(1000000 * CLOCK_HZ, 3579545), 3579545000000ull); // eleven days: no overflow
    for (u64 n = 0; n < 100000; n += 37) { // the first instant at which n have passed
        u64 t = clock_from_hz(n, 1193182);
        assert_int_equal(clock_to_hz(t, 1193182), n);
        if (t) assert_int_equal(clock_to_hz(t - 1, 1193182), n - 1);
    }
    assert_true(clock_from_hz(UINT64_MAX, 1) == CLOCK_NEVER);
}

static void unclaimed_ports_float_high(void **state)
{
    struct board b;
    board_begin(&b);
    assert_int_equal(in8(&b, 0x300), 0xFF);
    assert_int_equal(in32(&b, 0x300), 0xFFFFFFFF);
    out16(&b, 0x300, 1);
    assert_true(b.bus.unclaimed_reads && b.bus.unclaimed_writes);
    assert_true(bus_mem_read(&b.bus, 0xF0000000, 8) == UINT64_MAX);
}

static void wide_accesses_are_split(void **state)
{
    struct board b;
    board_begin(&b);
    struct probe p = {.dev.ops = &bytes};
    bus_map_port(&b.bus, &p.dev, 0, 0x70, 2);
    assert_int_equal(in16(&b, 0x70), 0x2211);
    assert_int_equal(p.accesses, 2);
    assert_int_equal(p.offset[1], 1);
    assert_int_equal(in32(&b, 0x70), 0xFFFF2211); // two ports beyond the device
    p.accesses = 0;
    out16(&b, 0x70, 0xBEEF);
    assert_int_equal(p.value[0], 0xEF);
    assert_int_equal(p.value[1], 0xBE);
    p.accesses = 0;
    out16(&b, 0x6F, 0xBEEF); // begins before it
    assert_int_equal(p.accesses, 1);
    assert_int_equal(p.value[0], 0xBE);

    struct probe q = {.dev.ops = &any};
    bus_map_port(&b.bus, &q.dev, 0, 0xCF8, 8);
    assert_int_equal(in32(&b, 0xCF8), 0x44332211);
    assert_int_equal(q.accesses, 1);
    assert_int_equal(q.size[0], 4);
}

static void the_later_range_wins_and_goes(void **state)
{
    struct board b;
    board_begin(&b);
    struct probe p = {.dev.ops = &any}, q = {.dev.ops = &any};
    bus_map_port(&b.bus, &p.dev, 0, 0xF0, 8);
    bus_map_port(&b.bus, &q.dev, 0, 0xF4, 1);
    out8(&b, 0xF4, 1);
    assert_int_equal(q.accesses, 1);
    bus_unmap(&b.bus, &q.dev, 0);
    out8(&b, 0xF4, 1);
    assert_int_equal(q.accesses, 1);
    assert_int_equal(p.accesses, 1);
    bus_map_mem(&b.bus, &q.dev, 1, 0xFED00000, 0x400);
    assert_true(bus_mem_read(&b.bus, 0xFED00000, 8) == 0x8877665544332211ull);
    assert_true(bus_mem_read(&b.bus, 0xFED00400, 4) == 0xFFFFFFFF);
}

// What lies over others stays there when ranges come and when they go.
static void what_lies_over_stays_over(void **state)
{
    struct board b;
    board_begin(&b);
    struct probe over = {.dev.ops = &any}, p = {.dev.ops = &any}, q = {.dev.ops = &any};
    bus_map_port_over(&b.bus, &over.dev, 0, 0x604, 2);
    bus_map_port(&b.bus, &p.dev, 0, 0x600, 8);
    bus_map_port(&b.bus, &q.dev, 0, 0x602, 4);
    out8(&b, 0x604, 1);
    assert_int_equal(over.accesses, 1);
    bus_unmap(&b.bus, &q.dev, 0);
    out8(&b, 0x604, 1);
    assert_int_equal(over.accesses, 2);
    out8(&b, 0x603, 1);
    assert_int_equal(p.accesses, 1);
    bus_unmap(&b.bus, &over.dev, 0);
    out8(&b, 0x604, 1);
    assert_int_equal(p.accesses, 2);
}

// Ranges that software moves lie over wired ones; among themselves the rank decides, whatever moved last.
static void ranks_decide_where_moved_ranges_overlap(void **state)
{
    static const unsigned order[][4] = {{0, 1, 2, 0}, {2, 1, 0, 2}, {1, 2, 0, 1}, {2, 0, 1, 1}, {0, 2, 1, 2}};
    for (unsigned k = 0; k < ARRAY_LEN(order); k++) {
        struct board b;
        board_begin(&b);
        struct probe p[3], wired = {.dev.ops = &any};
        for (unsigned i = 0; i < 3; i++) p[i] = (struct probe){.dev.ops = &any};
        for (unsigned i = 0; i < 4; i++) {
            unsigned n = order[k][i];
            bus_move_port(&b.bus, &p[n].dev, 0, (u16)(0x100 + 8 * n), 16, (u16)(n + 1));
            bus_move_mem(&b.bus, &p[n].dev, 1, 0xE0000000 + 8 * n, 16, (u16)(n + 1));
            if (i == 2)
                bus_map_port(&b.bus, &wired.dev, 0, 0x100, 64),
                    bus_map_mem(&b.bus, &wired.dev, 1, 0xE0000000, 64);
        }
        assert_int_equal(b.bus.ports_n, 4); // who moves is no longer where it was
        assert_int_equal(b.bus.mems_n, 4);
        // 0: first; 8, 16: the higher rank of two; 24: third; then the wired one
        for (unsigned at = 0; at < 64; at += 8) {
            struct probe *owner = at < 8 ? &p[0] : at < 16 ? &p[1] : at < 32 ? &p[2] : &wired;
            unsigned before = owner->accesses;
            in8(&b, (u16)(0x100 + at));
            bus_mem_read(&b.bus, 0xE0000000 + at, 1);
            assert_int_equal(owner->accesses, before + 2);
        }
    }
}

static void one_of_many_ranges_goes(void **state)
{
    for (unsigned gone = 0; gone < 4; gone++) {
        struct board b;
        board_begin(&b);
        struct probe p[4];
        for (unsigned i = 0; i < 4; i++) {
            p[i] = (struct probe){.dev.ops = &any};
            bus_map_port(&b.bus, &p[i].dev, i & 1, (u16)(0x100 + 8 * i), 8);
            bus_map_mem(&b.bus, &p[i].dev, i & 1, 0xE0000000 + 0x1000 * i, 0x1000);
        }
        bus_unmap(&b.bus, &p[gone].dev, !(gone & 1)); // another region of it: nothing goes
        bus_unmap(&b.bus, &p[gone].dev, gone & 1);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(in8(&b, (u16)(0x100 + 8 * i)), i == gone ? 0xFF : 0x11);
            assert_int_equal(bus_mem_read(&b.bus, 0xE0000000 + 0x1000 * i, 1), i == gone ? 0xFF : 0x11);
            assert_int_equal(p[i].accesses, i == gone ? 0 : 2);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadlines_fire_in_time_then_in_wiring_order),
        cmocka_unit_test(scales_are_exact),
        cmocka_unit_test(unclaimed_ports_float_high),
        cmocka_unit_test(wide_accesses_are_split),
        cmocka_unit_test(the_later_range_wins_and_goes),
        cmocka_unit_test(what_lies_over_stays_over),
        cmocka_unit_test(ranks_decide_where_moved_ranges_overlap),
        cmocka_unit_test(one_of_many_ranges_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

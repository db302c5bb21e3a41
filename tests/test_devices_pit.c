// 8254. Expected values: Intel 8254 data sheet (231164), mode definitions and their timing diagrams.
#include "tests/device_test.h"
#include "devices/pit.h"

struct fixture {
    struct board b;
    struct pit pit;
    struct wire irq;
};

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    pit_init(&f->pit, &f->b.bus, &f->b.clock);
    f->pit.irq0 = wire_to(&f->irq);
    f->pit.dev.ops->reset(&f->pit.dev);
}
static void at_tick(struct fixture *f, u64 tick) { go_to(&f->b, clock_from_hz(tick, PIT_HZ)); }
static void program(struct fixture *f, unsigned ch, unsigned mode, u16 count)
{
    out8(&f->b, 0x43, (u8)(ch << 6 | 0x30 | mode << 1));
    out8(&f->b, (u16)(0x40 + ch), (u8)count);
    out8(&f->b, (u16)(0x40 + ch), (u8)(count >> 8));
}
static unsigned latched(struct fixture *f, unsigned ch)
{
    out8(&f->b, 0x43, (u8)(ch << 6));
    unsigned low = in8(&f->b, (u16)(0x40 + ch));
    return low | in8(&f->b, (u16)(0x40 + ch)) << 8;
}

static void mode_0_interrupts_n_plus_1_after_the_write(void **state)
{
    struct fixture f;
    begin(&f);
    at_tick(&f, 1000);
    program(&f, 0, 0, 50);
    at_tick(&f, 1050);
    assert_false(f.irq.level);
    at_tick(&f, 1051);
    assert_true(f.irq.level);
    assert_int_equal(latched(&f, 0), 0);
    at_tick(&f, 1052);
    assert_int_equal(latched(&f, 0), 0xFFFF); // counts on
    at_tick(&f, 200000);
    assert_int_equal(f.irq.rises, 1);
    program(&f, 0, 0, 10); // output goes low with the control word
    assert_false(f.irq.level);
}

static void mode_0_first_byte_stops_the_count(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 0, 100);
    at_tick(&f, 50);
    out8(&f.b, 0x40, 20);
    at_tick(&f, 500);
    assert_false(f.irq.level);
    out8(&f.b, 0x40, 0);
    at_tick(&f, 520);
    assert_false(f.irq.level);
    at_tick(&f, 521);
    assert_true(f.irq.level);
}

static void mode_2_divides_by_n(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 2, 100);
    assert_true(f.irq.level); // high until the count is 1
    unsigned rises = f.irq.rises;
    at_tick(&f, 1 + 99);
    assert_false(f.irq.level);
    assert_int_equal(latched(&f, 0), 1);
    at_tick(&f, 1 + 100);
    assert_true(f.irq.level);
    assert_int_equal(latched(&f, 0), 100);
    at_tick(&f, 1 + 1000);
    assert_int_equal(f.irq.rises - rises, 10);
}

static void mode_2_takes_a_new_count_at_the_end_of_the_cycle(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 2, 100);
    unsigned rises = f.irq.rises;
    at_tick(&f, 1 + 30);
    out8(&f.b, 0x40, 40);
    out8(&f.b, 0x40, 0);
    assert_int_equal(latched(&f, 0), 70);
    at_tick(&f, 1 + 100);
    assert_int_equal(f.irq.rises - rises, 1);
    assert_int_equal(latched(&f, 0), 40);
    at_tick(&f, 1 + 140);
    assert_int_equal(f.irq.rises - rises, 2);
}

static void mode_3_is_a_square_wave(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 3, 100);
    at_tick(&f, 1 + 10);
    assert_int_equal(latched(&f, 0), 80); // down by two
    assert_true(f.irq.level);
    at_tick(&f, 1 + 50);
    assert_false(f.irq.level);
    assert_int_equal(latched(&f, 0), 100);
    at_tick(&f, 1 + 100);
    assert_true(f.irq.level);
    program(&f, 0, 3, 5); // odd: high (N+1)/2, low (N-1)/2
    u64 t = clock_to_hz(f.b.clock.now, PIT_HZ) + 1;
    static const bool out[] = {1, 1, 1, 0, 0, 1, 1, 1, 0, 0};
    for (unsigned i = 0; i < 10; i++) {
        at_tick(&f, t + i);
        assert_int_equal(f.irq.level, out[i]);
    }
}

// "Writing a new count while counting": loaded at the end of the current half-cycle.
static void mode_3_takes_a_new_count_at_the_end_of_the_half_cycle(void **state)
{
    // clang-format off
    static const struct { unsigned written, ends[3]; } cases[] = { // in ticks of a cycle of 100, then 40 or 41
        {0, {50, 50 + 20, 50 + 20 + 21}},
        {30, {50, 50 + 20, 50 + 20 + 21}}, // in the high half: the low one is 20 long, the next high one 21
        {50, {100, 100 + 21, 100 + 21 + 20}},
        {80, {100, 100 + 21, 100 + 21 + 20}},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        begin(&f);
        program(&f, 0, 3, 100);
        at_tick(&f, 1 + cases[i].written);
        out8(&f.b, 0x40, 41);
        out8(&f.b, 0x40, 0);
        bool level = cases[i].ends[0] == 50; // the half-cycle that goes on
        for (unsigned k = 0; k < 3; k++, level = !level) {
            at_tick(&f, cases[i].ends[k]); // the tick before
            assert_int_equal(f.irq.level, level);
            at_tick(&f, 1 + cases[i].ends[k]);
            assert_int_equal(f.irq.level, !level);
        }
    }
}

static void mode_3_of_65536_ticks_18_times_a_second(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 3, 0);
    unsigned rises = f.irq.rises;
    pass(&f.b, 10 * CLOCK_HZ);
    assert_int_equal(f.irq.rises - rises, 182);
}

static void mode_4_strobes_once(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 4, 10);
    assert_true(f.irq.level);
    at_tick(&f, 11);
    assert_false(f.irq.level);
    at_tick(&f, 12);
    assert_true(f.irq.level);
    unsigned rises = f.irq.rises;
    at_tick(&f, 300000);
    assert_int_equal(f.irq.rises, rises);
}

static void channel_2_gate_and_output_at_port_61(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x61, 1); // as Linux calibrates: gate on, mode 0, wait for the output
    program(&f, 2, 0, 0x1000);
    assert_int_equal(in8(&f.b, 0x61) & 0x21, 0x01);
    at_tick(&f, 0x1000);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0x00);
    at_tick(&f, 0x1001);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0x20);

    program(&f, 2, 0, 1000); // a low gate stops mode 0 where it is
    u64 t = 0x1001 + 1;
    at_tick(&f, t + 100);
    out8(&f.b, 0x61, 0);
    assert_int_equal(latched(&f, 2), 900);
    at_tick(&f, t + 5000);
    assert_int_equal(latched(&f, 2), 900);
    out8(&f.b, 0x61, 1);
    at_tick(&f, t + 5000 + 900);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0x20);
}

static void mode_1_is_triggered_by_the_gate(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 2, 1, 20);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0x20);
    at_tick(&f, 100);
    out8(&f.b, 0x61, 1);
    at_tick(&f, 102);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0);
    at_tick(&f, 120);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0);
    at_tick(&f, 121);
    assert_int_equal(in8(&f.b, 0x61) & 0x20, 0x20);
}

static void refresh_bit_toggles(void **state)
{
    struct fixture f;
    begin(&f);
    unsigned changes = 0;
    u8 last = in8(&f.b, 0x61) & 0x10;
    for (unsigned us = 0; us < 1000; us++) {
        pass(&f.b, MICROSECONDS(1));
        u8 now = in8(&f.b, 0x61) & 0x10;
        changes += now != last;
        last = now;
    }
    assert_in_range(changes, 60, 70); // every 15.085 microseconds
}

static void read_back_and_latches(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x43, 0x34);                  // channel 0, low and high, mode 2
    out8(&f.b, 0x43, 0xE2);                  // status of channel 0
    assert_int_equal(in8(&f.b, 0x40), 0xF4); // output high, null count, 3, mode 2
    out8(&f.b, 0x40, 0x34);
    out8(&f.b, 0x40, 0x12);
    at_tick(&f, 5);
    out8(&f.b, 0x43, 0xC2); // status and count
    at_tick(&f, 50);
    assert_int_equal(in8(&f.b, 0x40), 0xB4);
    assert_int_equal(in8(&f.b, 0x40), 0x30); // 1234h - 4, latched
    assert_int_equal(in8(&f.b, 0x40), 0x12);
    out8(&f.b, 0x43, 0x00);
    at_tick(&f, 60);
    out8(&f.b, 0x43, 0x00); // a second latch is ignored until the first is read
    assert_int_equal(in8(&f.b, 0x40), 0x34 - 49);
    in8(&f.b, 0x40);
}

static void bcd_counts_in_decimal(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x43, 0x31); // mode 0, BCD
    out8(&f.b, 0x40, 0x00);
    out8(&f.b, 0x40, 0x10); // 1000
    at_tick(&f, 2);
    assert_int_equal(latched(&f, 0), 0x0999);
    at_tick(&f, 1001);
    assert_true(f.irq.level);
    at_tick(&f, 1002);
    assert_int_equal(latched(&f, 0), 0x9999);
}

// A 16-bit access is one of each port.
static void wide_accesses_reach_both_ports(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 2, 0, 0x1234);
    out8(&f.b, 0x61, 1);
    assert_int_equal(in16(&f.b, 0x42) >> 8, 0xFF); // the control word is write-only
    out16(&f.b, 0x42, 0x9001); // a byte of a count, then the control word: channel 2, low byte only, mode 0
    out8(&f.b, 0x42, 5);
    at_tick(&f, 3);
    assert_int_equal(in8(&f.b, 0x42), 5 - 2);
    assert_int_equal(in8(&f.b, 0x42), 5 - 2); // low byte only
}

static void legacy_replacement_silences_irq_0(void **state)
{
    struct fixture f;
    begin(&f);
    program(&f, 0, 2, 100);
    pit_set_irq_off(&f.pit, true);
    unsigned rises = f.irq.rises;
    at_tick(&f, 1000);
    assert_int_equal(f.irq.rises, rises);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mode_0_interrupts_n_plus_1_after_the_write),
        cmocka_unit_test(mode_0_first_byte_stops_the_count),
        cmocka_unit_test(mode_2_divides_by_n),
        cmocka_unit_test(mode_2_takes_a_new_count_at_the_end_of_the_cycle),
        cmocka_unit_test(mode_3_is_a_square_wave),
        cmocka_unit_test(mode_3_takes_a_new_count_at_the_end_of_the_half_cycle),
        cmocka_unit_test(mode_3_of_65536_ticks_18_times_a_second),
        cmocka_unit_test(mode_4_strobes_once),
        cmocka_unit_test(channel_2_gate_and_output_at_port_61),
        cmocka_unit_test(mode_1_is_triggered_by_the_gate),
        cmocka_unit_test(refresh_bit_toggles),
        cmocka_unit_test(read_back_and_latches),
        cmocka_unit_test(bcd_counts_in_decimal),
        cmocka_unit_test(wide_accesses_reach_both_ports),
        cmocka_unit_test(legacy_replacement_silences_irq_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Real-time clock. Expected values: MC146818A data sheet; dates from the host's C library as the second
// source.
#include <time.h>

#include "tests/device_test.h"
#include "devices/cmos.h"

struct fixture {
    struct board b;
    struct cmos cmos;
    struct wire irq;
};

#define START 1709207999ll // 29 February 2024, 11:59:59 UTC, a Thursday (date -u -d @1709207999)

static void begin_at(struct fixture *f, s64 start)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    cmos_init(&f->cmos, &f->b.bus, &f->b.clock, start, 0xC0000000, 0x40000000, 3);
    f->cmos.irq8 = wire_to(&f->irq);
    f->cmos.dev.ops->reset(&f->cmos.dev);
}
static u8 get(struct fixture *f, u8 reg)
{
    out8(&f->b, 0x70, reg);
    return in8(&f->b, 0x71);
}
static void set(struct fixture *f, u8 reg, u8 v)
{
    out8(&f->b, 0x70, reg);
    out8(&f->b, 0x71, v);
}

static void shows_the_date_in_bcd(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    static const struct {
        u8 reg, value;
    } want[] = {{0, 0x59}, {2, 0x59}, {4, 0x11},    {6, 5},       {7, 0x29},
                {8, 0x02}, {9, 0x24}, {0x32, 0x20}, {0x0D, 0x80}, {0x0A, 0x26}};
    for (unsigned i = 0; i < ARRAY_LEN(want); i++) assert_int_equal(get(&f, want[i].reg), want[i].value);
    pass(&f.b, CLOCK_HZ);
    assert_int_equal(get(&f, 0), 0);
    assert_int_equal(get(&f, 4), 0x12);
    set(&f, 0x0B, 0x04); // binary, 12 hours
    assert_int_equal(get(&f, 4), 0x80 | 12);
    pass(&f.b, 12 * 3600 * CLOCK_HZ);
    assert_int_equal(get(&f, 4), 12); // midnight
    assert_int_equal(get(&f, 7), 1);
    assert_int_equal(get(&f, 8), 3);
}

static void dates_agree_with_the_c_library(void **state)
{
    u64 x = 88172645463325252ull; // xorshift
    for (unsigned i = 0; i < 3000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        time_t t = (time_t)(x % 8000000000ull); // 1970 to 2223
        struct tm tm;
        gmtime_r(&t, &tm);
        struct fixture f;
        begin_at(&f, t);
        set(&f, 0x0B, 0x06); // binary, 24 hours
        assert_int_equal(get(&f, 0), tm.tm_sec);
        assert_int_equal(get(&f, 2), tm.tm_min);
        assert_int_equal(get(&f, 4), tm.tm_hour);
        assert_int_equal(get(&f, 6), tm.tm_wday + 1);
        assert_int_equal(get(&f, 7), tm.tm_mday);
        assert_int_equal(get(&f, 8), tm.tm_mon + 1);
        assert_int_equal(get(&f, 0x32) * 100 + get(&f, 9), tm.tm_year + 1900);
    }
}

static void setting_the_time(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    set(&f, 0x0B, 0x82); // SET
    static const struct {
        u8 reg, value;
    } to[] = {{0, 0x58}, {2, 0x59}, {4, 0x23}, {7, 0x31}, {8, 0x12}, {9, 0x99}, {0x32, 0x19}};
    for (unsigned i = 0; i < ARRAY_LEN(to); i++) set(&f, to[i].reg, to[i].value);
    pass(&f.b, 5 * CLOCK_HZ);
    assert_int_equal(get(&f, 0), 0x58); // stands while SET
    set(&f, 0x0B, 0x02);
    pass(&f.b, 2 * CLOCK_HZ);
    assert_int_equal(get(&f, 0), 0x00);
    assert_int_equal(get(&f, 9), 0x00);
    assert_int_equal(get(&f, 0x32), 0x20);
    assert_int_equal(get(&f, 6), 7); // 1 January 2000 was a Saturday
}

// Bytes written into the running clock take the place of the register's, and the clock goes on from there.
static void writing_the_running_clock(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    pass(&f.b, CLOCK_HZ / 2);
    static const struct {
        u8 reg, value;
    } to[] = {{0, 0x58}, {2, 0x34}, {4, 0x21}, {7, 0x05}, {8, 0x10}, {9, 0x31}, {0x32, 0x21}};
    for (unsigned i = 0; i < ARRAY_LEN(to); i++) {
        set(&f, to[i].reg, to[i].value);
        for (unsigned k = 0; k <= i; k++) assert_int_equal(get(&f, to[k].reg), to[k].value);
    }
    pass(&f.b, 2 * CLOCK_HZ);
    assert_int_equal(get(&f, 0), 0x00);
    assert_int_equal(get(&f, 2), 0x35);
    assert_int_equal(get(&f, 6), 6); // 5 October 2131 is a Friday (date -d 2131-10-05)
    // Again and again, and the fraction of the second stays: it is half past still.
    for (unsigned i = 0; i < 3; i++) {
        pass(&f.b, 7 * CLOCK_HZ);
        u8 second = get(&f, 0);
        set(&f, 2, 0x10);
        assert_int_equal(get(&f, 0), second);
        pass(&f.b, CLOCK_HZ / 2 - 1);
        assert_int_equal(get(&f, 0), second);
        pass(&f.b, 1);
        assert_int_equal(get(&f, 0), second + 1 + (second % 16 == 9) * 6);
        pass(&f.b, CLOCK_HZ / 2);
    }
}

static void divider_reset_gives_half_a_second(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    set(&f, 0x0A, 0x70);
    pass(&f.b, 3 * CLOCK_HZ + 12345);
    set(&f, 0x0A, 0x26);
    pass(&f.b, CLOCK_HZ / 2 - 1);
    assert_int_equal(get(&f, 0), 0x59);
    pass(&f.b, 1);
    assert_int_equal(get(&f, 0), 0x00);
}

static void update_in_progress_for_244_microseconds(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    pass(&f.b, MICROSECONDS(1000000 - 245));
    assert_int_equal(get(&f, 0x0A), 0x26);
    pass(&f.b, MICROSECONDS(2));
    assert_int_equal(get(&f, 0x0A), 0xA6);
    pass(&f.b, MICROSECONDS(243));
    assert_int_equal(get(&f, 0x0A), 0x26);
}

static void periodic_interrupt(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    set(&f, 0x0B, 0x42);
    unsigned n = 0;
    u64 end = CLOCK_HZ;
    while (f.b.clock.next_deadline <= end) { // rate 6: 1024 Hz
        go_to(&f.b, f.b.clock.next_deadline);
        assert_true(f.irq.level);
        assert_int_equal(get(&f, 0x0C) & 0xC0, 0xC0);
        assert_false(f.irq.level);
        n++;
    }
    assert_int_equal(n, 1024);
    set(&f, 0x0A, 0x2F); // rate 15: 2 Hz
    u64 from = f.b.clock.now;
    go_to(&f.b, f.b.clock.next_deadline);
    assert_int_equal(f.b.clock.now - from, CLOCK_HZ / 2);
    set(&f, 0x0A, 0x21); // rate 1: 256 Hz
    get(&f, 0x0C);
    from = f.b.clock.now;
    go_to(&f.b, f.b.clock.next_deadline);
    assert_int_equal(f.b.clock.now - from, CLOCK_HZ / 256);
}

static void update_and_alarm_interrupts(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    set(&f, 0x0B, 0x12);
    go_to(&f.b, CLOCK_HZ - 1);
    assert_false(f.irq.level);
    go_to(&f.b, CLOCK_HZ);
    assert_true(f.irq.level);
    assert_int_equal(get(&f, 0x0C), 0x90 | 0x40); // UF, and PF of the 1024 Hz that nobody asked for
    set(&f, 0x0B, 0x22);
    set(&f, 1, 0x30);
    set(&f, 3, 0x02);
    set(&f, 5, 0xFF); // any hour: 12:02:30
    go_to(&f.b, (1 + 150) * CLOCK_HZ - 1);
    assert_false(f.irq.level);
    go_to(&f.b, (1 + 150) * CLOCK_HZ);
    assert_true(f.irq.level);
    assert_int_equal(get(&f, 0x0C) & 0xA0, 0xA0);
    set(&f, 5, 0x12);
    go_to(&f.b, (1 + 150 + 86400) * CLOCK_HZ); // now once a day
    assert_true(f.irq.level);
}

static void flags_are_there_for_who_polls(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    get(&f, 0x0C);
    pass(&f.b, CLOCK_HZ);
    assert_int_equal(get(&f, 0x0C), 0x50);
    assert_int_equal(get(&f, 0x0C), 0x00);
    pass(&f.b, CLOCK_HZ);
    set(&f, 0x0B, 0x12); // enabling a flag that is set raises the interrupt at once
    assert_true(f.irq.level);
}

static void memory_sizes(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    assert_int_equal(get(&f, 0x15) | get(&f, 0x16) << 8, 640);
    assert_int_equal(get(&f, 0x17) | get(&f, 0x18) << 8, 65535);
    assert_int_equal(get(&f, 0x34) | get(&f, 0x35) << 8, (0xC0000000 - 0x1000000) >> 16);
    assert_int_equal(get(&f, 0x5B) | get(&f, 0x5C) << 8 | get(&f, 0x5D) << 16, 0x40000000 >> 16);
    assert_int_equal(get(&f, 0x5F), 2);
}

static void reset_keeps_the_battery_s_part(void **state)
{
    struct fixture f;
    begin_at(&f, START);
    set(&f, 0x0F, 0x0A);
    set(&f, 0x0B, 0x72);
    pass(&f.b, 10 * CLOCK_HZ);
    f.cmos.dev.ops->reset(&f.cmos.dev);
    assert_int_equal(get(&f, 0x0B), 0x02);
    assert_int_equal(get(&f, 0x0F), 0x0A);
    assert_int_equal(get(&f, 0), 0x09);
    assert_false(f.irq.level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_the_date_in_bcd),
        cmocka_unit_test(dates_agree_with_the_c_library),
        cmocka_unit_test(setting_the_time),
        cmocka_unit_test(writing_the_running_clock),
        cmocka_unit_test(divider_reset_gives_half_a_second),
        cmocka_unit_test(update_in_progress_for_244_microseconds),
        cmocka_unit_test(periodic_interrupt),
        cmocka_unit_test(update_and_alarm_interrupts),
        cmocka_unit_test(flags_are_there_for_who_polls),
        cmocka_unit_test(memory_sizes),
        cmocka_unit_test(reset_keeps_the_battery_s_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

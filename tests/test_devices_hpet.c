// HPET. Expected values: IA-PC HPET specification 1.0a, section 2.3.
#include "tests/device_test.h"
#include "devices/hpet.h"

struct fixture {
    struct board b;
    struct hpet h;
    struct wire irq0, irq8, pin2;
    unsigned switched;
    bool legacy;
};
static void legacy(void *to, bool on)
{
    struct fixture *f = to;
    f->switched++;
    f->legacy = on;
}
static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    hpet_init(&f->h, &f->b.bus, &f->b.clock);
    f->h.irq0 = wire_to(&f->irq0);
    f->h.irq8 = wire_to(&f->irq8);
    f->h.irq[2] = wire_to(&f->pin2);
    f->h.legacy = legacy;
    f->h.to = f;
    f->h.dev.ops->reset(&f->h.dev);
}
static u64 rd(struct fixture *f, u32 reg) { return bus_mem_read(&f->b.bus, HPET_BASE + reg, 8); }
static u32 rd32(struct fixture *f, u32 reg) { return (u32)bus_mem_read(&f->b.bus, HPET_BASE + reg, 4); }
static void wr(struct fixture *f, u32 reg, u64 v) { bus_mem_write(&f->b.bus, HPET_BASE + reg, 8, v); }
static void wr32(struct fixture *f, u32 reg, u32 v) { bus_mem_write(&f->b.bus, HPET_BASE + reg, 4, v); }

static void identity(void **state)
{
    struct fixture f;
    begin(&f);
    assert_int_equal(rd32(&f, 0), 0x8086A201);
    assert_int_equal(rd32(&f, 4), 10000000);      // 10 ns in femtoseconds
    assert_int_equal(rd(&f, 0x100), 0x400000030); // input 2 only; 64 bits, periodic
}

static void counter_runs_while_enabled(void **state)
{
    struct fixture f;
    begin(&f);
    pass(&f.b, 1000);
    assert_int_equal(rd(&f, 0xF0), 0);
    wr(&f, 0xF0, 0xFFFFFFF0);
    wr32(&f, 0x10, 1);
    pass(&f.b, MICROSECONDS(1));
    assert_int_equal(rd(&f, 0xF0), 0xFFFFFFF0ull + 100);
    assert_int_equal(rd32(&f, 0xF4), 1);
    wr(&f, 0xF0, 0); // ignored while it runs
    assert_int_equal(rd(&f, 0xF0), 0xFFFFFFF0ull + 100);
    wr32(&f, 0x10, 0);
    pass(&f.b, MICROSECONDS(1));
    assert_int_equal(rd(&f, 0xF0), 0xFFFFFFF0ull + 100);
}

static void one_shot_on_its_route(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x108, 500);
    wr(&f, 0x100, 2u << 9 | 4);
    wr32(&f, 0x10, 1);
    go_to(&f.b, 500 * 20 - 1);
    assert_int_equal(f.pin2.rises, 0);
    go_to(&f.b, 500 * 20);
    assert_int_equal(f.pin2.rises, 1);
    assert_false(f.pin2.level); // an edge
    pass(&f.b, CLOCK_HZ);
    assert_int_equal(f.pin2.rises, 1);
}

static void one_shot_of_32_bits_comes_round(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x100, 2u << 9 | 0x104);
    wr(&f, 0x108, 100);
    wr32(&f, 0x10, 1);
    pass(&f.b, (0x100000000ull + 100) * 20);
    assert_int_equal(f.pin2.rises, 2);
}

static void periodic_adds_the_period(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x100, 2u << 9 | 0x4C); // periodic, enabled, set accumulator
    wr(&f, 0x108, 1000);           // the first match, and a period
    wr(&f, 0x108, 250);            // then the period alone
    wr32(&f, 0x10, 1);
    go_to(&f.b, 1000 * 20 - 1);
    assert_int_equal(f.pin2.rises, 0);
    go_to(&f.b, 1000 * 20);
    assert_int_equal(f.pin2.rises, 1);
    assert_int_equal(rd(&f, 0x108), 1250);
    go_to(&f.b, 2000 * 20);
    assert_int_equal(f.pin2.rises, 5);
}

static void level_sets_status_until_written(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x100, 2u << 9 | 6);
    wr(&f, 0x108, 10);
    wr32(&f, 0x10, 1);
    pass(&f.b, 1000);
    assert_true(f.pin2.level);
    assert_int_equal(rd32(&f, 0x20), 1);
    wr32(&f, 0x20, 0);
    assert_true(f.pin2.level);
    wr32(&f, 0x20, 1);
    assert_false(f.pin2.level);
    assert_int_equal(rd32(&f, 0x20), 0);
}

static void shared_level_line(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x100, 2u << 9 | 6);
    wr(&f, 0x120, 2u << 9 | 6);
    wr(&f, 0x108, 10);
    wr(&f, 0x128, 20);
    wr32(&f, 0x10, 1);
    pass(&f.b, 1000);
    assert_int_equal(rd32(&f, 0x20), 3);
    wr32(&f, 0x20, 1);
    assert_true(f.pin2.level); // the other timer holds it
    wr32(&f, 0x10, 3);         // legacy replacement moves it to IRQ 8
    assert_false(f.pin2.level);
    assert_true(f.irq8.level);
    wr32(&f, 0x20, 2);
    assert_false(f.irq8.level);
}

static void legacy_replacement(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x100, 4);
    wr(&f, 0x120, 4);
    wr(&f, 0x108, 100);
    wr(&f, 0x128, 200);
    wr32(&f, 0x10, 3);
    assert_true(f.legacy && f.switched == 1);
    go_to(&f.b, 100 * 20);
    assert_int_equal(f.irq0.rises, 1);
    go_to(&f.b, 200 * 20);
    assert_int_equal(f.irq8.rises, 1);
    assert_int_equal(f.pin2.rises, 0);
    f.h.dev.ops->reset(&f.h.dev);
    assert_false(f.legacy);
}

static void nothing_is_armed_for_disabled_timers(void **state)
{
    struct fixture f;
    begin(&f);
    wr(&f, 0x108, 100);
    wr32(&f, 0x10, 1);
    assert_true(f.b.clock.next_deadline == CLOCK_NEVER);
    wr(&f, 0x100, 2u << 9 | 4);
    assert_int_equal(f.b.clock.next_deadline, 2000);
    wr32(&f, 0x10, 0);
    assert_true(f.b.clock.next_deadline == CLOCK_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(identity),
        cmocka_unit_test(counter_runs_while_enabled),
        cmocka_unit_test(one_shot_on_its_route),
        cmocka_unit_test(one_shot_of_32_bits_comes_round),
        cmocka_unit_test(periodic_adds_the_period),
        cmocka_unit_test(level_sets_status_until_written),
        cmocka_unit_test(shared_level_line),
        cmocka_unit_test(legacy_replacement),
        cmocka_unit_test(nothing_is_armed_for_disabled_timers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

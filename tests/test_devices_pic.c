// 8259A pair. Expected values: Intel 8259A data sheet (231468), sections named in comments.
#include "tests/device_test.h"
#include "devices/pic.h"

struct fixture {
    struct board b;
    struct pic pic;
    struct wire intr;
};

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    pic_init(&f->pic, &f->b.bus, &f->b.clock);
    f->pic.intr = wire_to(&f->intr);
    f->pic.dev.ops->reset(&f->pic.dev);
    static const u8 first[] = {0x11, 0x20, 0x04, 0x01}, second[] = {0x11, 0x28, 0x02, 0x01};
    out8(&f->b, 0x20, first[0]);
    out8(&f->b, 0xA0, second[0]);
    for (unsigned i = 1; i < 4; i++) {
        out8(&f->b, 0x21, first[i]);
        out8(&f->b, 0xA1, second[i]);
    }
}
static void pulse(struct fixture *f, unsigned irq)
{
    pic_set_line(&f->pic, irq, true);
    pic_set_line(&f->pic, irq, false);
}

// "Initialization Command Words": a single one (SNGL) takes no ICW3, and without IC4 none takes ICW4.
static void initialization_sequences(void **state)
{
    static const struct {
        u8 icw[4], n;
    } cases[] = {
        {{0x13, 0x40, 0x01}, 3}, {{0x12, 0x40}, 2}, {{0x11, 0x40, 0x04, 0x01}, 4}, {{0x10, 0x40, 0x04}, 3}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        begin(&f);
        out8(&f.b, 0x20, cases[i].icw[0]);
        for (unsigned k = 1; k < cases[i].n; k++) out8(&f.b, 0x21, cases[i].icw[k]);
        out8(&f.b, 0x21, 0xA5); // the next is OCW1
        assert_int_equal(in8(&f.b, 0x21), 0xA5);
    }
}

// "Automatic EOI", "Automatic Rotation": OCW2 80h turns rotation on, 00h off.
static void rotation_in_automatic_eoi_mode(void **state)
{
    for (unsigned rotate = 0; rotate < 2; rotate++) {
        struct fixture f;
        begin(&f);
        static const u8 icw[] = {0x11, 0x20, 0x04, 0x03};
        out8(&f.b, 0x20, icw[0]);
        for (unsigned i = 1; i < 4; i++) out8(&f.b, 0x21, icw[i]);
        out8(&f.b, 0x20, 0x80);
        if (!rotate) out8(&f.b, 0x20, 0x00);
        pulse(&f, 3);
        assert_int_equal(pic_ack(&f.pic), 0x23);
        pulse(&f, 1);
        pulse(&f, 4);
        assert_int_equal(pic_ack(&f.pic), rotate ? 0x24 : 0x21); // 3 has become the lowest
    }
}

static void fully_nested_mode(void **state)
{
    struct fixture f;
    begin(&f);
    pulse(&f, 4);
    assert_true(f.intr.level);
    assert_int_equal(pic_ack(&f.pic), 0x24);
    assert_false(f.intr.level);
    pulse(&f, 5); // lower priority waits
    assert_false(f.intr.level);
    pulse(&f, 1); // higher priority interrupts
    assert_true(f.intr.level);
    assert_int_equal(pic_ack(&f.pic), 0x21);
    out8(&f.b, 0x20, 0x0B); // OCW3: read ISR
    assert_int_equal(in8(&f.b, 0x20), 0x12);
    out8(&f.b, 0x20, 0x20); // non-specific EOI: the highest
    assert_int_equal(in8(&f.b, 0x20), 0x10);
    out8(&f.b, 0x20, 0x20);
    assert_int_equal(pic_ack(&f.pic), 0x25);
    out8(&f.b, 0x20, 0x65); // specific EOI of 5
    assert_int_equal(in8(&f.b, 0x20), 0);
}

static void cascade_gives_the_second_chips_vector(void **state)
{
    struct fixture f;
    begin(&f);
    pulse(&f, 12);
    assert_int_equal(pic_ack(&f.pic), 0x2C);
    out8(&f.b, 0x20, 0x0B);
    assert_int_equal(in8(&f.b, 0x20), 0x04);
    // Without special fully nested mode the cascade input is in service: a higher one of the second chip
    // waits for both EOIs.
    pulse(&f, 8);
    assert_false(f.intr.level);
    out8(&f.b, 0xA0, 0x20);
    assert_false(f.intr.level);
    out8(&f.b, 0x20, 0x20);
    assert_true(f.intr.level);
    assert_int_equal(pic_ack(&f.pic), 0x28);
}

static void special_fully_nested_mode_lets_the_second_chip_nest(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x20, 0x11);
    out8(&f.b, 0x21, 0x20);
    out8(&f.b, 0x21, 0x04);
    out8(&f.b, 0x21, 0x11); // ICW4 bit 4
    pulse(&f, 12);
    assert_int_equal(pic_ack(&f.pic), 0x2C);
    pulse(&f, 8);
    assert_true(f.intr.level);
    assert_int_equal(pic_ack(&f.pic), 0x28);
}

static void masks_and_spurious(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x21, 0x10);
    assert_int_equal(in8(&f.b, 0x21), 0x10);
    pulse(&f, 4);
    assert_false(f.intr.level);
    out8(&f.b, 0x21, 0x00); // the request was kept
    assert_true(f.intr.level);
    out8(&f.b, 0x21, 0x10);
    assert_int_equal(pic_ack(&f.pic), 0x27); // nothing there any more: IR7 ...
    out8(&f.b, 0x20, 0x0B);
    assert_int_equal(in8(&f.b, 0x20), 0); // ... without an ISR bit
}

static void level_inputs_follow_their_line(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x4D0, 0xFF);
    out8(&f.b, 0x4D1, 0xFF);
    assert_int_equal(in8(&f.b, 0x4D0), 0xF8); // 0, 1, 2 stay edge (PIIX3 data sheet)
    assert_int_equal(in8(&f.b, 0x4D1), 0xDE); // so do 8 and 13
    pic_set_line(&f.pic, 9, true);
    assert_int_equal(pic_ack(&f.pic), 0x29);
    out8(&f.b, 0xA0, 0x20);
    out8(&f.b, 0x20, 0x20);
    assert_true(f.intr.level); // still asserted
    pic_set_line(&f.pic, 9, false);
    assert_false(f.intr.level);
}

static void requests_follow_a_change_to_level(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x21, 0xFB);
    out8(&f.b, 0xA1, 0xFF);
    pulse(&f, 11); // latched as an edge
    out8(&f.b, 0x4D1, 0x08);
    out8(&f.b, 0xA1, 0x00);
    assert_false(f.intr.level); // its line is low
    pic_set_line(&f.pic, 11, true);
    assert_true(f.intr.level);
}

static void automatic_eoi_and_rotation(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x20, 0x11);
    out8(&f.b, 0x21, 0x20);
    out8(&f.b, 0x21, 0x04);
    out8(&f.b, 0x21, 0x03); // ICW4: automatic EOI
    out8(&f.b, 0x20, 0x80); // rotate in automatic EOI mode
    pulse(&f, 3);
    assert_int_equal(pic_ack(&f.pic), 0x23);
    out8(&f.b, 0x20, 0x0B);
    assert_int_equal(in8(&f.b, 0x20), 0);
    pulse(&f, 3);
    pulse(&f, 5);
    assert_int_equal(pic_ack(&f.pic), 0x25); // 3 has become the lowest
    assert_int_equal(pic_ack(&f.pic), 0x23);
}

static void set_priority_command(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x20, 0xC4); // 4 becomes the lowest, 5 the highest
    pulse(&f, 0);
    pulse(&f, 5);
    assert_int_equal(pic_ack(&f.pic), 0x25);
}

static void special_mask_mode(void **state)
{
    struct fixture f;
    begin(&f);
    pulse(&f, 1);
    assert_int_equal(pic_ack(&f.pic), 0x21);
    out8(&f.b, 0x20, 0x68); // set special mask mode
    out8(&f.b, 0x21, 0x02); // a masked input in service blocks nobody
    pulse(&f, 6);
    assert_true(f.intr.level);
    assert_int_equal(pic_ack(&f.pic), 0x26);
}

static void poll_command(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x20, 0x0C);
    assert_int_equal(in8(&f.b, 0x20), 0x00);
    pulse(&f, 6);
    out8(&f.b, 0x20, 0x0C);
    assert_int_equal(in8(&f.b, 0x20), 0x86);
    out8(&f.b, 0x20, 0x0B);
    assert_int_equal(in8(&f.b, 0x20), 0x40);
}

static void icw1_clears_requests_and_masks(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, 0x21, 0xFF);
    pulse(&f, 4);
    out8(&f.b, 0x20, 0x11);
    out8(&f.b, 0x21, 0x20);
    out8(&f.b, 0x21, 0x04);
    out8(&f.b, 0x21, 0x01);
    assert_int_equal(in8(&f.b, 0x21), 0);
    assert_false(f.intr.level);
    assert_int_equal(in8(&f.b, 0x20), 0); // IRR is selected
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initialization_sequences),
        cmocka_unit_test(rotation_in_automatic_eoi_mode),
        cmocka_unit_test(fully_nested_mode),
        cmocka_unit_test(cascade_gives_the_second_chips_vector),
        cmocka_unit_test(special_fully_nested_mode_lets_the_second_chip_nest),
        cmocka_unit_test(masks_and_spurious),
        cmocka_unit_test(level_inputs_follow_their_line),
        cmocka_unit_test(requests_follow_a_change_to_level),
        cmocka_unit_test(automatic_eoi_and_rotation),
        cmocka_unit_test(set_priority_command),
        cmocka_unit_test(special_mask_mode),
        cmocka_unit_test(poll_command),
        cmocka_unit_test(icw1_clears_requests_and_masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Keyboard controller, port 92h, DMA registers, fw_cfg and the debug ports. Sources: IBM PS/2 Hardware
// Interface Technical Reference, 8237A data sheet, QEMU's documentation of fw_cfg and isa-debug-exit.
#include "tests/device_test.h"
#include "devices/debug_ports.h"
#include "devices/dma.h"
#include "devices/ferr.h"
#include "devices/fw_cfg.h"
#include "devices/i8042.h"
#include "devices/port92.h"

// ---- keyboard controller ----

struct keyboard {
    struct board b;
    struct i8042 k;
    struct wire irq1, irq12;
    unsigned resets, a20s;
};
static void kbd_reset_line(void *to) { ((struct keyboard *)to)->resets++; }
static void kbd_a20(void *to) { ((struct keyboard *)to)->a20s++; }
static void kbd_begin(struct keyboard *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    i8042_init(&f->k, &f->b.bus, &f->b.clock);
    f->k.irq1 = wire_to(&f->irq1);
    f->k.irq12 = wire_to(&f->irq12);
    f->k.reset_line = kbd_reset_line;
    f->k.a20 = kbd_a20;
    f->k.to = f;
    f->k.dev.ops->reset(&f->k.dev);
}
static void expect(struct keyboard *f, bool aux, u8 byte)
{
    assert_int_equal(in8(&f->b, 0x64) & 0x21, aux ? 0x21 : 0x01);
    assert_int_equal(in8(&f->b, 0x60), byte);
}
static void expect_nothing(struct keyboard *f) { assert_int_equal(in8(&f->b, 0x64) & 1, 0); }

static void controller_commands(void **state)
{
    struct keyboard f;
    kbd_begin(&f);
    expect_nothing(&f);
    out8(&f.b, 0x64, 0xAA);
    expect(&f, false, 0x55);
    out8(&f.b, 0x64, 0xAB);
    expect(&f, false, 0x00);
    out8(&f.b, 0x64, 0xA9);
    expect(&f, false, 0x00);
    out8(&f.b, 0x64, 0x60);
    out8(&f.b, 0x60, 0x47);
    out8(&f.b, 0x64, 0x20);
    expect(&f, false, 0x47);
    out8(&f.b, 0x64, 0xA7);
    out8(&f.b, 0x64, 0x20);
    expect(&f, false, 0x67); // the aux port's clock is off
    out8(&f.b, 0x64, 0xA8);
    out8(&f.b, 0x64, 0xD3); // how drivers look for an aux port
    out8(&f.b, 0x60, 0x5A);
    expect(&f, true, 0x5A);
    out8(&f.b, 0x64, 0xD2);
    out8(&f.b, 0x60, 0xA5);
    expect(&f, false, 0xA5);
}

static void keyboard_answers(void **state)
{
    struct keyboard f;
    kbd_begin(&f);
    out8(&f.b, 0x64, 0x60);
    out8(&f.b, 0x60, 0x05); // interrupt 1, no translation
    out8(&f.b, 0x60, 0xFF);
    assert_int_equal(f.irq1.rises, 1);
    expect(&f, false, 0xFA);
    assert_int_equal(f.irq1.rises, 2); // an edge for each byte
    expect(&f, false, 0xAA);
    assert_false(f.irq1.level);
    out8(&f.b, 0x60, 0xF2);
    expect(&f, false, 0xFA);
    expect(&f, false, 0xAB);
    expect(&f, false, 0x83);
    out8(&f.b, 0x60, 0xED);
    expect(&f, false, 0xFA);
    out8(&f.b, 0x60, 0x02);
    expect(&f, false, 0xFA);
    out8(&f.b, 0x60, 0xEE);
    expect(&f, false, 0xEE);
    out8(&f.b, 0x60, 0x99);
    expect(&f, false, 0xFE);
    out8(&f.b, 0x64, 0x60);
    out8(&f.b, 0x60, 0x45); // with translation the ID is set 1's
    out8(&f.b, 0x60, 0xF2);
    expect(&f, false, 0xFA);
    expect(&f, false, 0xAB);
    expect(&f, false, 0x41);
}

static void mouse_answers(void **state)
{
    struct keyboard f;
    kbd_begin(&f);
    out8(&f.b, 0x64, 0x60);
    out8(&f.b, 0x60, 0x02);
    // clang-format off
    static const struct { u8 send, n, answer[4]; } talk[] = {
        {0xFF, 3, {0xFA, 0xAA, 0x00}}, {0xF2, 2, {0xFA, 0x00}}, {0xE8, 1, {0xFA}}, {0x03, 1, {0xFA}},
        {0xF3, 1, {0xFA}},             {0x50, 1, {0xFA}},       {0xE7, 1, {0xFA}}, {0xF4, 1, {0xFA}},
        {0xE9, 4, {0xFA, 0x30, 0x03, 0x50}}, {0xF5, 1, {0xFA}}, {0x11, 1, {0xFE}}};
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(talk); i++) {
        out8(&f.b, 0x64, 0xD4);
        out8(&f.b, 0x60, talk[i].send);
        assert_true(f.irq12.level);
        for (unsigned n = 0; n < talk[i].n; n++) expect(&f, true, talk[i].answer[n]);
        assert_false(f.irq12.level);
    }
    assert_int_equal(f.irq1.rises, 0);
}

// As firmware leaves it: tested, translating, without interrupts.
static void controller_as_firmware_leaves_it(void **state)
{
    struct keyboard f;
    kbd_begin(&f);
    out8(&f.b, 0x64, 0x20);
    expect(&f, false, 0x44); // system flag, translate
    assert_int_equal(in8(&f.b, 0x64) & 4, 4);
}

// After the parameter of a command comes a command again: 05h is none, so FEh.
static void one_parameter_only(void **state)
{
    struct keyboard f;
    kbd_begin(&f);
    static const struct {
        u8 send, answer;
    } talk[] = {{0xED, 0xFA}, {0x02, 0xFA}, {0x05, 0xFE}, {0xF3, 0xFA}, {0x20, 0xFA}, {0x20, 0xFE}};
    for (unsigned i = 0; i < ARRAY_LEN(talk); i++) {
        out8(&f.b, 0x60, talk[i].send);
        expect(&f, false, talk[i].answer);
    }
}

static void output_port(void **state)
{
    struct keyboard f;
    kbd_begin(&f);
    assert_true(i8042_a20(&f.k));
    out8(&f.b, 0x64, 0xD1);
    out8(&f.b, 0x60, 0x01);
    assert_false(i8042_a20(&f.k));
    assert_int_equal(f.a20s, 1);
    out8(&f.b, 0x64, 0xD0);
    expect(&f, false, 0x01);
    out8(&f.b, 0x64, 0xDF);
    assert_true(i8042_a20(&f.k));
    assert_int_equal(f.resets, 0);
    out8(&f.b, 0x64, 0xFE); // pulses bit 0
    assert_int_equal(f.resets, 1);
    out8(&f.b, 0x64, 0xFF);
    assert_int_equal(f.resets, 1);
    out8(&f.b, 0x64, 0xD1);
    out8(&f.b, 0x60, 0x02);
    assert_int_equal(f.resets, 2);
}

// ---- port 92h, DMA ----

static void count(void *to) { ++*(unsigned *)to; }

static void port_92(void **state)
{
    struct board b;
    board_begin(&b);
    struct port92 p;
    unsigned resets = 0;
    port92_init(&p, &b.bus, &b.clock);
    p.reset_line = count;
    p.to = &resets;
    p.dev.ops->reset(&p.dev);
    assert_int_equal(in8(&b, 0x92), 2);
    out8(&b, 0x92, 0);
    assert_false(port92_a20(&p));
    out8(&b, 0x92, 3);
    assert_int_equal(resets, 1);
    out8(&b, 0x92, 3); // no edge
    assert_int_equal(resets, 1);
}

// 82371SB data sheet: FERR# raises IRQ 13; a write to F0h ends it and asserts IGNNE# while FERR# is asserted,
// and not otherwise.
static void x87_errors(void **state)
{
    struct board b;
    struct wire irq13 = {0};
    struct ferr f;
    board_begin(&b);
    ferr_init(&f, &b.bus, &b.clock);
    f.irq13 = wire_to(&irq13);
    f.dev.ops->reset(&f.dev);
    assert_false(ferr_set(&f, 0, true));
    assert_true(irq13.level);
    assert_false(ferr_set(&f, 0, true));
    out8(&b, 0xF0, 0);
    assert_false(irq13.level);
    assert_true(ferr_set(&f, 0, true)); // IGNNE#
    assert_false(irq13.level);
    assert_false(ferr_set(&f, 0, false)); // falls with FERR#
    assert_false(ferr_set(&f, 0, true));  // the next error
    assert_true(irq13.level);
    ferr_set(&f, 0, false);
    assert_true(irq13.level); // latched
    out8(&b, 0xF0, 0xFF);
    assert_false(irq13.level);
    assert_false(ferr_set(&f, 0, true)); // FERR# was not asserted at the write
    assert_true(irq13.level);
    // The pins of several processors are one line.
    assert_false(ferr_set(&f, 1, true));
    out8(&b, 0xF0, 0);
    ferr_set(&f, 0, false);
    assert_true(ferr_set(&f, 1, true));
    f.dev.ops->reset(&f.dev);
    assert_false(ferr_set(&f, 1, true));
}

static void dma_registers(void **state)
{
    struct board b;
    board_begin(&b);
    struct dma m;
    dma_init(&m, &b.bus, &b.clock);
    m.dev.ops->reset(&m.dev);
    assert_int_equal(in8(&b, 0x0F) & 0x0F, 0x0F);
    out8(&b, 0x0C, 0);
    out8(&b, 0x02, 0x34);
    out8(&b, 0x02, 0x12);
    assert_int_equal(in8(&b, 0x02), 0x34);
    assert_int_equal(in8(&b, 0x02), 0x12);
    in8(&b, 0x02);
    out8(&b, 0x0C, 0); // the flip-flop back to the low byte
    assert_int_equal(in8(&b, 0x02), 0x34);
    out8(&b, 0x0A, 0x01);
    assert_int_equal(in8(&b, 0x0F) & 0x0F, 0x0D);
    out8(&b, 0xC4, 0x78); // second controller: even ports
    out8(&b, 0xC4, 0x56);
    out8(&b, 0xD8, 0);
    assert_int_equal(in8(&b, 0xC4), 0x78);
    for (u16 port = 0x80; port < 0x90; port++) out8(&b, port, (u8)(port ^ 0x5A));
    for (u16 port = 0x80; port < 0x90; port++) assert_int_equal(in8(&b, port), (port ^ 0x5A) & 0xFF);
}

// ---- fw_cfg ----

static void fw_cfg_ports_and_dma(void **state)
{
    struct board b;
    board_begin(&b);
    struct phys phys;
    const char *why;
    assert_true(phys_init(&phys, 1 << 20, &why));
    static struct fw_cfg f;
    fw_cfg_init(&f, &b.bus, &b.clock, &phys);
    fw_cfg_add_u16(&f, FW_CFG_NB_CPUS, 3);
    fw_cfg_add_file(&f, "etc/one", "first", 5);
    fw_cfg_add_file(&f, "etc/two", "the second", 10);
    fw_cfg_add_u16(&f, FW_CFG_NB_CPUS, 4); // replaces

    out16(&b, 0x510, 0);
    char s[65] = {0};
    for (unsigned i = 0; i < 5; i++) s[i] = (char)in8(&b, 0x511);
    assert_memory_equal(s, "QEMU\0", 5); // zeros beyond the end
    out16(&b, 0x510, 1);
    assert_int_equal(in8(&b, 0x511), 3); // ports and DMA
    out16(&b, 0x510, FW_CFG_NB_CPUS);
    assert_int_equal(in8(&b, 0x511), 4);
    out16(&b, 0x510, FW_CFG_FILE_DIR);
    static const u8 count_be[] = {0, 0, 0, 2};
    for (unsigned i = 0; i < 4; i++) assert_int_equal(in8(&b, 0x511), count_be[i]);
    for (unsigned i = 0; i < 64; i++) in8(&b, 0x511);
    for (unsigned i = 0; i < 64; i++) s[i] = (char)in8(&b, 0x511);
    static const u8 entry[] = {0, 0, 0, 10, 0, 0x21, 0, 0, 'e', 't', 'c', '/', 't', 'w', 'o', 0};
    assert_memory_equal(s, entry, sizeof entry);

    assert_int_equal(in32(&b, 0x514), __builtin_bswap32(0x51454D55)); // "QEMU CFG", big-endian
    assert_int_equal(in32(&b, 0x518), __builtin_bswap32(0x20434647));
    // Select file two, skip 4, then read 8 of the 6 bytes left.
    struct {
        u32 control, length;
        u64 address;
    } d = {__builtin_bswap32(0x00210000 | 8 | 4), __builtin_bswap32(4), 0};
    phys_write(&phys, 0, 0x1000, &d, 16);
    out32(&b, 0x514, 0);
    out32(&b, 0x518, __builtin_bswap32(0x1000));
    assert_int_equal(phys_read32(&phys, 0, 0x1000), 0);
    // across a page
    d.control = __builtin_bswap32(2), d.length = __builtin_bswap32(8), d.address = __builtin_bswap64(0x2FFE);
    phys_write(&phys, 0, 0x1000, &d, 16);
    phys_write(&phys, 0, 0x2FFE, "##########", 10);
    out32(&b, 0x514, 0);
    out32(&b, 0x518, __builtin_bswap32(0x1000));
    char got[10];
    phys_read(&phys, 0, 0x2FFE, got, 10);
    assert_memory_equal(got, "second\0\0##", 10);
    d.control = __builtin_bswap32(16); // a write is refused
    phys_write(&phys, 0, 0x1000, &d, 16);
    out32(&b, 0x518, __builtin_bswap32(0x1000));
    assert_int_equal(phys_read32(&phys, 0, 0x1000), __builtin_bswap32(1));
    phys_free(&phys);
}

// ---- debug ports ----

struct debug_fixture {
    struct board b; // comes first: board_add
    u32 status;
    const char *who;
    u8 byte;
    bool level[24];
    unsigned flushes;
};
static void note_exit(void *to, u32 status, const char *who)
{
    struct debug_fixture *f = to;
    f->status = status;
    f->who = who;
}
static void note_byte(void *to, const u8 *bytes, u32 n) { *(u8 *)to = *bytes; }
static void note_level(void *to, unsigned n, bool level) { ((struct debug_fixture *)to)->level[n] = level; }
static void note_flush(void *to) { ((struct debug_fixture *)to)->flushes++; }

static void debug_devices(void **state)
{
    struct debug_fixture f = {.status = 0};
    struct board *b = &f.b;
    board_begin(b);
    struct device_board offers = board_offers(b);
    offers.end = note_exit;
    offers.test_irq = note_level;
    offers.drop_derived = note_flush;
    struct device_config exit = device_of("isa-debug-exit,iobase=0xf4,iosize=4"),
                         test = device_of("pc-testdev"),
                         con = device_of("isa-debugcon,iobase=0x402,readback=7");
    void *made[] = {make_device(&offers, &exit), make_device(&offers, &test), NULL};
    out32(b, 0xF4, 0x10);
    assert_int_equal(f.status, 0x21); // (value << 1) | 1
    assert_string_equal(f.who, "isa-debug-exit");
    out8(b, 0xF4, 0);
    assert_int_equal(f.status, 1);

    struct debug_console p; // the board's
    debug_console_init(&p, &b->bus, &b->clock);
    p.chr = (struct chardev){note_byte, &f.byte};
    out8(b, 0xE9, 'M');
    assert_int_equal(f.byte, 'M');
    assert_int_equal(in8(b, 0xE9), 0xE9);
    con.value[device_row_property(con.row, "chardev")].chr = p.chr;
    made[2] = make_device(&offers, &con);
    out8(b, 0x402, 'N');
    assert_int_equal(f.byte, 'N');
    assert_int_equal(in8(b, 0x402), 7);

    out8(b, 0x2005, 1);
    assert_true(f.level[5]);
    out8(b, 0x2005, 0);
    assert_false(f.level[5]);
    out8(b, 0x2017, 1);
    assert_true(f.level[23]);
    assert_int_equal(in32(b, 0xE0), 0); // after reset
    out32(b, 0xE0, 0x11223344);
    assert_int_equal(in16(b, 0xE2), 0x1122);
    out8(b, 0xE4, 0);
    assert_int_equal(f.flushes, 1);
    bus_mem_write(&b->bus, 0xFF000008, 8, 0x0102030405060708);
    assert_int_equal(bus_mem_read(&b->bus, 0xFF00000A, 2), 0x0506);
    for (unsigned i = 0; i < ARRAY_LEN(made); i++) free(made[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(controller_commands),
        cmocka_unit_test(keyboard_answers),
        cmocka_unit_test(mouse_answers),
        cmocka_unit_test(controller_as_firmware_leaves_it),
        cmocka_unit_test(one_parameter_only),
        cmocka_unit_test(output_port),
        cmocka_unit_test(port_92),
        cmocka_unit_test(x87_errors),
        cmocka_unit_test(dma_registers),
        cmocka_unit_test(fw_cfg_ports_and_dma),
        cmocka_unit_test(debug_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

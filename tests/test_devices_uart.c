// 16550A. Expected values: PC16550D data sheet, table IV (interrupt control functions) and sections 8.4
// to 8.9.
#include "tests/device_test.h"
#include "devices/uart.h"

struct fixture {
    struct board b;
    struct uart uart;
    struct wire irq;
    u8 sent[64];
    unsigned sent_n;
};

static void sink(void *opaque, const u8 *bytes, u32 n)
{
    struct fixture *f = opaque;
    while (n--) f->sent[f->sent_n++] = *bytes++;
}

enum { RBR = 0x3F8, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static void begin(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    board_begin(&f->b);
    uart_init(&f->uart, &f->b.bus, &f->b.clock, 0x3F8);
    f->uart.irq = wire_to(&f->irq);
    f->uart.chr = (struct chardev){sink, f};
    f->uart.dev.ops->reset(&f->uart.dev);
    out8(&f->b, MCR, 8); // OUT2
}
static void type(struct fixture *f, const char *s) { uart_input(&f->uart, (const u8 *)s, (u32)strlen(s)); }

static void reset_values(void **state)
{
    struct fixture f;
    begin(&f);
    assert_int_equal(in8(&f.b, IER), 0);
    assert_int_equal(in8(&f.b, IIR), 1);
    assert_int_equal(in8(&f.b, LCR), 0);
    assert_int_equal(in8(&f.b, LSR), 0x60);
    assert_int_equal(in8(&f.b, MSR), 0xB0); // ready, no changes
}

static void registers_keep_their_bits(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, IER, 0xFF);
    assert_int_equal(in8(&f.b, IER), 0x0F);
    out8(&f.b, MCR, 0xFF);
    assert_int_equal(in8(&f.b, MCR), 0x1F);
    out8(&f.b, SCR, 0xA5);
    assert_int_equal(in8(&f.b, SCR), 0xA5);
    out8(&f.b, LCR, 0x83);
    out8(&f.b, RBR, 0x01);
    out8(&f.b, IER, 0x02);
    assert_int_equal(in8(&f.b, RBR), 0x01);
    assert_int_equal(in8(&f.b, IER), 0x02);
    out8(&f.b, LCR, 0x03);
    assert_int_equal(in8(&f.b, IER), 0x0F);
    assert_int_equal(f.sent_n, 0);
}

static void thre_interrupt_on_enable_and_after_each_byte(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, IER, 2);
    assert_true(f.irq.level);
    assert_int_equal(in8(&f.b, IIR), 2);
    assert_false(f.irq.level); // reading IIR resets it, since it was the source shown
    assert_int_equal(in8(&f.b, IIR), 1);
    out8(&f.b, IER, 2); // no new edge: already enabled
    assert_false(f.irq.level);
    out8(&f.b, IER, 0);
    out8(&f.b, IER, 2); // drivers test for this
    assert_true(f.irq.level);
    unsigned rises = f.irq.rises;
    out8(&f.b, RBR, 'x');
    assert_int_equal(f.irq.rises, rises + 1); // dropped and rose again: an edge for the controller
    assert_true(f.irq.level);
    assert_int_equal(f.sent_n, 1);
    assert_int_equal(f.sent[0], 'x');
    assert_int_equal(in8(&f.b, LSR) & 0x60, 0x60);
}

// Looped back, with nobody who reads: the second byte overruns the first. The line status comes before
// received data; reading it ends that interrupt.
static void overrun_interrupts_as_line_status(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, MCR, 0x10 | 8);
    out8(&f.b, IER, 5); // received data, line status
    for (unsigned i = 0; i < 2; i++) {
        out8(&f.b, RBR, (u8)(0x41 + i));
        pass(&f.b, MICROSECONDS(20000));
    }
    assert_int_equal(in8(&f.b, IIR), 6);
    assert_int_equal(in8(&f.b, LSR) & 3, 3);
    assert_int_equal(in8(&f.b, LSR) & 3, 1); // read once
    assert_int_equal(in8(&f.b, IIR), 4);
    assert_int_equal(in8(&f.b, RBR), 0x42);
    assert_int_equal(in8(&f.b, IIR), 1);
}

static void reading_iir_keeps_thre_behind_a_higher_source(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, IER, 3);
    type(&f, "a");
    assert_int_equal(in8(&f.b, IIR), 4); // received data first
    assert_int_equal(in8(&f.b, RBR), 'a');
    assert_int_equal(in8(&f.b, IIR), 2); // still there
    assert_int_equal(in8(&f.b, IIR), 1);
}

static void received_data_without_fifo(void **state)
{
    struct fixture f;
    begin(&f);
    type(&f, "ab");
    assert_int_equal(in8(&f.b, LSR), 0x61);
    assert_false(f.irq.level);
    out8(&f.b, IER, 1);
    assert_true(f.irq.level);
    unsigned rises = f.irq.rises;
    assert_int_equal(in8(&f.b, RBR), 'a');
    assert_int_equal(f.irq.rises, rises + 1); // the second one is an edge of its own
    assert_int_equal(in8(&f.b, RBR), 'b');
    assert_false(f.irq.level);
    assert_int_equal(in8(&f.b, LSR), 0x60);
}

static void fifo_trigger_and_timeout(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, LCR, 0x83);
    out8(&f.b, RBR, 1); // 115200 baud
    out8(&f.b, IER, 0);
    out8(&f.b, LCR, 0x03);
    out8(&f.b, FCR, 0x81); // trigger at 8
    out8(&f.b, IER, 1);
    assert_int_equal(in8(&f.b, IIR), 0xC1);
    type(&f, "1234567");
    assert_false(f.irq.level);
    // Four characters of ten bits at 115200 baud: 347 microseconds.
    pass(&f.b, MICROSECONDS(347));
    assert_false(f.irq.level);
    pass(&f.b, MICROSECONDS(1));
    assert_true(f.irq.level);
    assert_int_equal(in8(&f.b, IIR), 0xCC);
    assert_int_equal(in8(&f.b, RBR), '1');
    assert_false(f.irq.level); // reading a character resets the timeout
    type(&f, "8");
    assert_false(f.irq.level);
    type(&f, "9");
    assert_int_equal(in8(&f.b, IIR), 0xC4);
    for (char c = '2'; c <= '9'; c++) assert_int_equal(in8(&f.b, RBR), c);
    assert_int_equal(in8(&f.b, LSR), 0x60);
    pass(&f.b, MICROSECONDS(1000));
    assert_false(f.irq.level); // an empty FIFO has no timeout
}

static void fifo_clears(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, FCR, 1);
    type(&f, "abc");
    out8(&f.b, FCR, 3);
    assert_int_equal(in8(&f.b, LSR), 0x60);
    type(&f, "d");
    out8(&f.b, FCR, 0); // turning it off clears as well
    assert_int_equal(in8(&f.b, LSR), 0x60);
    assert_int_equal(in8(&f.b, IIR) & 0xC0, 0);
}

static void host_input_waits_for_room(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, FCR, 1);
    for (unsigned i = 0; i < 100; i++) type(&f, (char[]){(char)(' ' + i % 90), 0});
    for (unsigned i = 0; i < 100; i++) assert_int_equal(in8(&f.b, RBR), ' ' + i % 90);
    assert_int_equal(in8(&f.b, LSR), 0x60); // nothing overran
}

static void loop_back(void **state)
{
    struct fixture f;
    begin(&f);
    in8(&f.b, MSR);
    out8(&f.b, MCR, 0x1A);                         // loop, OUT2, RTS
    assert_int_equal(in8(&f.b, MSR) & 0xF0, 0x90); // DCD = OUT2, CTS = RTS
    out8(&f.b, MCR, 0x15);                         // loop, OUT1, DTR
    assert_int_equal(in8(&f.b, MSR) & 0xF0, 0x60); // RI = OUT1, DSR = DTR
    out8(&f.b, MCR, 0x10);
    assert_int_equal(in8(&f.b, MSR) & 0x0F, 0x06); // DDSR, and the trailing edge of RI
    out8(&f.b, RBR, 'q');
    assert_int_equal(f.sent_n, 0);
    assert_int_equal(in8(&f.b, RBR), 'q');
    out8(&f.b, RBR, '1');
    out8(&f.b, RBR, '2');
    assert_int_equal(in8(&f.b, LSR), 0x63); // overrun, once
    assert_int_equal(in8(&f.b, LSR), 0x61);
    assert_int_equal(in8(&f.b, RBR), '2');
}

static void modem_status_interrupt(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, IER, 8);
    out8(&f.b, MCR, 0x18);
    assert_true(f.irq.level);
    assert_int_equal(in8(&f.b, IIR), 0);
    in8(&f.b, MSR);
    assert_int_equal(in8(&f.b, IIR), 1);
    assert_false(f.irq.level);
}

static void out2_connects_the_interrupt(void **state)
{
    struct fixture f;
    begin(&f);
    out8(&f.b, MCR, 0);
    out8(&f.b, IER, 2);
    assert_false(f.irq.level);
    out8(&f.b, MCR, 8);
    assert_true(f.irq.level);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reset_values),
        cmocka_unit_test(registers_keep_their_bits),
        cmocka_unit_test(thre_interrupt_on_enable_and_after_each_byte),
        cmocka_unit_test(overrun_interrupts_as_line_status),
        cmocka_unit_test(reading_iir_keeps_thre_behind_a_higher_source),
        cmocka_unit_test(received_data_without_fifo),
        cmocka_unit_test(fifo_trigger_and_timeout),
        cmocka_unit_test(fifo_clears),
        cmocka_unit_test(host_input_waits_for_room),
        cmocka_unit_test(loop_back),
        cmocka_unit_test(modem_status_interrupt),
        cmocka_unit_test(out2_connects_the_interrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

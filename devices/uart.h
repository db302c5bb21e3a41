// 16550A serial port.
#ifndef DEVICES_UART_H
#define DEVICES_UART_H

#include "devices/bus.h"
#include "devices/chardev.h"

#define UART_FIFO  16
#define UART_QUEUE 4096 // input of the host that waits for room in the receiver

STATE_BEGIN
struct uart_state {
    u64 timeout_at; // clock time of the character timeout; CLOCK_NEVER: none runs
    u16 divisor;
    u8 ier, fcr, lcr, mcr, lsr, msr, scr;
    u8 thre_pending;    // the transmitter-empty interrupt waits to be read from IIR
    u8 timeout_pending; // character timeout interrupt
    u8 fifo_n;          // characters received and not yet read (at most 1 with the FIFO off)
    u8 unused[4];
    u8 fifo[UART_FIFO];
    u32 queue_first, queue_n;
    u8 queue[UART_QUEUE];
};
STATE_END

struct uart {
    struct device dev;
    struct uart_state st;
    struct irq_line irq;
    struct chardev chr;
    unsigned timer;
};

void uart_init(struct uart *u, struct bus *b, struct clock *c, u16 port);
// Bytes from the line. Returns how many were taken; the rest is for the caller to keep. The queue is state,
// so a byte that was taken arrives at an instant of the machine's time that is the same in each replay.
u32 uart_input(struct uart *u, const u8 *bytes, u32 n);
u32 uart_input_room(const struct uart *u);
// a byte from the line would raise the interrupt, at once or after the timeout
bool uart_input_interrupts(const struct uart *u);

#endif

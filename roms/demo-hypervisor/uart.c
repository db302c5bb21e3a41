/*
 * The mediated serial port. The guests believe that they own COM1; every access is a VM exit (the I/O bitmap
 * says so) and ends here. A guest's bytes are kept until its line is complete, so lines of two guests never
 * mix.
 *
 * Missing: receiving, interrupts, the divisor latch.
 */
#include "guest.h"

enum { THR = 0, LSR = 5, SCRATCH = 7 };
#define LSR_TRANSMITTER_EMPTY 0x60

uint8_t uart_read(struct guest *g, unsigned reg)
{
    if (reg == LSR) return LSR_TRANSMITTER_EMPTY;
    return reg == SCRATCH ? g->uart.scratch : 0;
}

void uart_write(struct guest *g, unsigned reg, uint8_t value)
{
    struct uart *u = &g->uart;
    if (reg == SCRATCH) u->scratch = value;
    if (reg != THR || value == '\r') return;
    if (value != '\n') u->line[u->length++] = (char)value;
    if (value == '\n' || u->length == UART_LINE_SIZE - 1) {
        u->line[u->length] = 0;
        print("[%s] %s\n", g->plan->name, u->line);
        u->length = 0;
    }
}

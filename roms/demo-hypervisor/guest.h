/*
 * A guest of the demo hypervisor: what it owns, and what the hypervisor remembers about it.
 */
#ifndef DEMO_GUEST_H
#define DEMO_GUEST_H

#include "vmx.h"

#define UART_BASE      0x3f8
#define UART_LINE_SIZE 100

/* What a guest is to be. */
struct guest_plan {
    const char *name;        /* "guest A" */
    const char *description; /* "16-bit real mode" */
    bool real_mode;          /* else 64-bit */
    uint64_t memory_size;    /* guest-physical memory, from address 0 */
    const uint8_t *image, *image_end;
    uint64_t image_at;    /* guest-physical; execution starts there */
    uint8_t timer_vector; /* where it expects its timer interrupt */
};

/* The serial port that a guest sees. It sends only; what it sends is printed line by line. */
struct uart {
    char line[UART_LINE_SIZE];
    unsigned length;
    uint8_t scratch;
};

struct guest {
    const struct guest_plan *plan;
    struct vmx_vcpu vcpu;
    uint8_t *memory; /* host-physical (= linear here) address of its memory */
    struct uart uart;

    bool halted;       /* waits in HLT for an interrupt */
    bool finished;     /* HLT with interrupts off: nothing can wake it */
    bool tick_pending; /* a timer interrupt is due */
    uint64_t next_tick;

    uint64_t exits[65]; /* by basic exit reason */
    uint64_t slices, ticks;
};

/* What to do after an exit. */
enum verdict {
    GUEST_CONTINUES,
    GUEST_YIELDS, /* let the other guest run */
};

/* guest.c */
void guest_create(struct guest *g, const struct guest_plan *plan);
/* exits.c: deals with one VM exit. */
enum verdict guest_handle_exit(struct guest *g, const struct vmx_exit *e);
/* exits.c: queues an exception for the next VM entry. */
void guest_inject_exception(struct guest *g, unsigned vector, uint32_t error);
/* uart.c */
uint8_t uart_read(struct guest *g, unsigned reg);
void uart_write(struct guest *g, unsigned reg, uint8_t value);

#endif

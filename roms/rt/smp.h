/*
 * More than one processor: the others are started by INIT and SIPI, each gets a stack, a GDT and a TSS of its
 * own, and waits for a function to run. Processors are numbered in the order in which they arrive; 0 is the
 * bootstrap processor.
 *
 * Functions run on the others with interrupts off, share the IDT and the page tables, and must not use
 * trap_catch, page_alloc or print (the runtime's own state is the bootstrap processor's).
 */
#ifndef RT_SMP_H
#define RT_SMP_H

#include "rt.h"

#define SMP_MAX 16

/* Starts all that there are, 15 at most; returns how many processors there are now, this one counted. */
unsigned smp_start(void);
/* Which one this is, from its APIC ID. */
unsigned smp_self(void);
uint32_t smp_apic_id(unsigned processor);
/* Has `function` called there; returns at once. */
void smp_run(unsigned processor, void (*function)(uint64_t), uint64_t argument);
/* Until the function has returned. False if it did not in about `ms` milliseconds. */
bool smp_wait(unsigned processor, unsigned ms);
/* INIT, or SIPI with the vector that smp_start used, to one processor. One that starts again keeps its
   number, and what it was running is gone. */
void smp_send_init(unsigned processor);
void smp_send_sipi(unsigned processor);
/* How often it has come through the start-up code. */
unsigned smp_starts(unsigned processor);
/* By the 8254's counter 0, which firmware leaves running. */
void smp_delay(unsigned microseconds);

#endif

// The pair of 8259A interrupt controllers of a PC, cascaded on input 2 of the first, with PIIX edge/level
// control.
#ifndef DEVICES_PIC_H
#define DEVICES_PIC_H

#include "devices/bus.h"

STATE_BEGIN
struct pic_chip { // one 8259A
    u8 lines;     // levels of the inputs IR0-IR7
    u8 irr, imr, isr;
    u8 elcr;           // bit n: input n is level triggered
    u8 base;           // ICW2: vector of input 0
    u8 icw3;           // cascade wiring as told by software; the wiring is fixed, so it is stored only
    u8 expect;         // 0: operational; 2, 3, 4: the ICW that the next write of A0=1 is
    u8 icw4_follows;   // ICW1 bit 0
    u8 single;         // ICW1 bit 1
    u8 level_all;      // ICW1 bit 3: all inputs level triggered
    u8 first;          // the input of the highest priority (rotation)
    u8 read_isr;       // OCW3: A0=0 reads ISR instead of IRR
    u8 poll;           // OCW3: the next read is a poll
    u8 special_mask;   // OCW3
    u8 special_nested; // ICW4 bit 4
    u8 auto_eoi;       // ICW4 bit 1
    u8 auto_rotate;    // OCW2: rotate in automatic EOI
};

struct pic_state {
    struct pic_chip chip[2]; // 0: the first ("master"), 1: the second ("slave")
    u8 out;                  // level of the first chip's INT output
};
STATE_END

struct pic {
    struct device dev;
    struct pic_state st;
    struct irq_line intr; // INT of the first chip: INTR of the processor, through LINT0
};

void pic_init(struct pic *p, struct bus *b, struct clock *c);
void pic_set_line(void *pic, unsigned irq, bool level);      // irq 0-15; a struct irq_line's set
bool pic_would_interrupt(const struct pic *p, unsigned irq); // if that line rose, INTR would
u8 pic_ack(struct pic *p);                                   // an INTA cycle pair: the vector

#endif

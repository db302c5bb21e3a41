/*
 * A DOS-like program and its monitor: what both sides of dos.c know. The monitor is 32-bit code, the test
 * around it 64-bit code, so nothing here has another width in either.
 */
#ifndef TESTS_DOS_H
#define TESTS_DOS_H

#include <stdint.h>

#define DOS_REPORT   0x7000  /* struct dos_report */
#define DOS_PROGRAM  0x10000 /* 1000:0000; the BIOS and DOS of it at 1100:0000 */
#define DOS_MONITOR  0x20000
#define DOS_IDT      0x28000
#define DOS_STACK    0x2a000 /* end of the stack of level 0 */
#define DOS_TSS      0x2b000 /* with redirection bitmap and a bit for each port: to 2D08Ah */
#define DOS_TSS_SIZE (0x68 + 32 + 8192 + 1)
#define DOS_GDT      0x2d800
#define DOS_PD       0x2e000
#define DOS_PT       0x2f000
#define DOS_SCREEN   0x38000 /* what the program sees at B8000h */
#define DOS_VECTOR   0x60    /* INT 60h: the one that the redirection bitmap does not leave to the program */

/* Ports that the monitor plays; all but the timer's 40h and 43h are. */
#define DOS_PRINTER  0x378
#define DOS_EXIT     0xf1
#define DOS_TICKS    0xf2 /* of the real timer so far, modulo 256 */

struct dos_report {
    uint32_t vme;  /* asked for */
    uint32_t done; /* 1: the program has ended by itself; 2: on what follows */
    uint32_t exit_code, vector, error, cs, eip, byte;
    uint32_t cli, sti, pushf, popf, iret, intn, in, out,
        hlt;                         /* #GP that the monitor emulated, by instruction */
    uint32_t with_vip;               /* of these, because VIP was set */
    uint32_t ticks, delivered, held; /* of the timer; held back by the program's IF */
    uint32_t printed;
    char text[256];
};

#endif

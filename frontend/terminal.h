// Standard input and output as a serial line: raw on a terminal, with Ctrl-A as the escape key.
#ifndef FRONTEND_TERMINAL_H
#define FRONTEND_TERMINAL_H

#include <termios.h>

#include "mmu/types.h"

struct terminal {
    bool is_tty, raw, escape, quit, eof;
    struct termios old;
};
void terminal_open(struct terminal *t);
void terminal_close(struct terminal *t);
// Bytes typed since the last call (escape keys taken out), at most n. Waits up to `ms` for the first (0: not at all).
unsigned terminal_read(struct terminal *t, u8 *buf, unsigned n, int ms);
void terminal_write(const u8 *bytes, u32 n);

#endif

// Standard input and output as a serial line: raw on a terminal, with Ctrl-A as the escape key.
#ifndef FRONTEND_TERMINAL_H
#define FRONTEND_TERMINAL_H

#include <signal.h>
#include <termios.h>

#include "mmu/types.h"

#define TERMINAL_HELD 4096

struct terminal {
    bool is_tty, regular; // standard input is a terminal; a regular file, which keeps nobody waiting
    bool raw, escape, quit, eof;
    bool gone;                          // nobody reads standard output any more (a closed pipe)
    int lost;                           // errno of output that could not be written; 0: all of it was
    const volatile sig_atomic_t *ended; // a signal: whatever waits gives up
    struct termios old, set;
    u32 first, held_n;
    u8 held[TERMINAL_HELD]; // read, and not yet taken
    bool monitor;           // what is typed is for the monitor (Ctrl-A c)
    bool monitor_alone;     // there is no serial line to change to
    u32 commands_n;
    u8 commands[512];
};
// `ended` is looked at whenever the terminal would wait. Output works from here on; terminal_open is for who
// takes input.
void terminal_init(struct terminal *t, const volatile sig_atomic_t *ended);
void terminal_open(struct terminal *t);
void terminal_close(struct terminal *t);
// For signal handlers: the terminal as it was, for as long as the process is stopped; and raw again, if it is
// in the foreground.
void terminal_suspend(struct terminal *t);
void terminal_resume(struct terminal *t);
// Reads what was typed, escape keys taken out. Waits up to `ms` milliseconds for it (0: not at all), or until
// a signal comes.
void terminal_poll(struct terminal *t, int ms);
unsigned terminal_take(struct terminal *t, u8 *buf, unsigned n);    // at most n bytes of what was read
unsigned terminal_command(struct terminal *t, u8 *buf, unsigned n); // likewise, of what is for the monitor
bool terminal_open_ended(const struct terminal *t);                 // more bytes are there or may come
bool terminal_waits(const struct terminal *t);                      // more bytes may come, but later
// Waits while nobody takes the bytes, but for no longer than until `ended` or Ctrl-A x.
void terminal_write(struct terminal *t, const u8 *bytes, u32 n);

#endif

// The line to a debugger or to who is at a monitor: a TCP port, a socket of the file system, or standard
// input and output. One client at a time; nothing here waits for one that does not read.
#ifndef FRONTEND_LINE_H
#define FRONTEND_LINE_H

#include <sys/types.h>

#include "mmu/types.h"

struct line {
    int listener, in, out; // -1: none
    bool socket;           // in and out are one
    char path[108];        // of a socket in the file system: removed at the end,
    dev_t device;          // if it still is this one
    ino_t inode;
    char name[128]; // for the user: "127.0.0.1:1234"
};

// WHERE as in -gdb. False, with a line for the user, who gave it to `option`.
bool line_open(struct line *l, const char *option, const char *where, char *why, size_t n);
void line_close(struct line *l);
bool line_connected(const struct line *l);
int line_fd(const struct line *l); // to poll; -1: none
// Waits up to ms milliseconds for somebody to connect, or to say something. False if nothing came.
bool line_wait(const struct line *l, int ms);
bool line_accept(struct line *l); // somebody has connected
// Bytes that are there; 0: none; -1: the client is gone.
int line_read(struct line *l, u8 *buf, size_t n);
bool line_write(struct line *l, const u8 *bytes, size_t n); // false: the client is gone
void line_hang_up(struct line *l);

#endif

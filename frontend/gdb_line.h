// The line to a debugger: a TCP port, a socket of the file system, or standard input and output. One client
// at a time; nothing here waits for one that does not read.
#ifndef FRONTEND_GDB_LINE_H
#define FRONTEND_GDB_LINE_H

#include "mmu/types.h"

struct gdb_line {
    int listener, in, out; // -1: none
    bool socket;           // in and out are one
    const char *path;      // of a socket in the file system: removed at the end
    char name[128];        // for the user: "127.0.0.1:1234"
};

// WHERE as in -gdb. False, with a line for the user.
bool gdb_line_open(struct gdb_line *l, const char *where, char *why, size_t n);
void gdb_line_close(struct gdb_line *l);
bool gdb_line_connected(const struct gdb_line *l);
// Waits up to ms milliseconds for somebody to connect, or to say something. False if nothing came.
bool gdb_line_wait(const struct gdb_line *l, int ms);
bool gdb_line_accept(struct gdb_line *l); // somebody has connected
// Bytes that are there; 0: none; -1: the client is gone.
int gdb_line_read(struct gdb_line *l, u8 *buf, size_t n);
bool gdb_line_write(struct gdb_line *l, const u8 *bytes, size_t n); // false: the client is gone
void gdb_line_hang_up(struct gdb_line *l);

#endif

// gdb's remote protocol for a machine: bytes in, bytes out, and what becomes of the machine in between.
#ifndef FRONTEND_GDB_SERVER_H
#define FRONTEND_GDB_SERVER_H

#include "frontend/debugger.h"
#include "frontend/gdb_packet.h"
#include "frontend/gdb_registers.h"
#include "frontend/monitor.h"

struct gdb_server {
    struct debugger *d;
    struct monitor monitor; // its commands
    void (*put)(void *opaque, const u8 *bytes, size_t n);
    void *opaque;
    struct gdb_parser parser;
    struct gdb_registers registers;
    struct gdb_reply reply;
    u8 frame[GDB_FRAME_MAX];
    bool attached; // somebody is there
    bool waits;    // for a stop
    bool no_ack, physical, killed;
    char exec_file[4096]; // the program's whole path; empty: there is none to tell
    char refusal[1024];   // what the last command of the monitor that failed has said
};

// `s` is zeroed. False: no memory.
bool gdb_server_make(struct gdb_server *s, struct debugger *d);
void gdb_server_free(struct gdb_server *s);
// Somebody connected: the machine stands still until told otherwise. Gone: no stop of theirs is left.
void gdb_server_attach(struct gdb_server *s);
void gdb_server_gone(struct gdb_server *s);
void gdb_server_input(struct gdb_server *s, const u8 *bytes, size_t n);
// If the machine has come to a stand, a client that waits is told.
void gdb_server_look(struct gdb_server *s);
void gdb_server_exited(struct gdb_server *s, int status);

// ---- between its files ----
void gdb_say(struct gdb_server *s, const char *text); // to the user: console output
void gdb_sayf(struct gdb_server *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

// The framing of gdb's remote protocol: bytes of the line become packets, and packets bytes.
#ifndef FRONTEND_GDB_PACKET_H
#define FRONTEND_GDB_PACKET_H

#include "mmu/types.h"

#define GDB_PACKET_MAX 16384 // bytes between $ and #, both ways: what PacketSize promises

enum gdb_token {
    GDB_MORE,      // nothing yet
    GDB_PACKET,    // data[0..n), escapes undone, ended by a 0
    GDB_BAD,       // one that is too long, or whose checksum is wrong
    GDB_INTERRUPT, // 03h between packets: stop
    GDB_ACK,
    GDB_NAK
};
struct gdb_parser {
    u8 state, sum, told;
    bool escaped, too_long;
    u32 n;
    u8 data[GDB_PACKET_MAX + 1];
};
enum gdb_token gdb_parse(struct gdb_parser *p, u8 byte);

// What goes out: a reply under way. Text that does not fit is cut, and `cut` says so.
struct gdb_reply {
    u32 n;
    bool cut;
    u8 data[GDB_PACKET_MAX];
};
void gdb_add(struct gdb_reply *r, const void *bytes, size_t n);
void gdb_addf(struct gdb_reply *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gdb_add_hex(struct gdb_reply *r, const void *bytes, size_t n);
// Frames it, escaped where it must be; `out` holds GDB_FRAME_MAX. Returns how many bytes.
#define GDB_FRAME_MAX (2 * GDB_PACKET_MAX + 4)
size_t gdb_frame(const struct gdb_reply *r, u8 *out);

// Hexadecimal digits at *p, which moves behind them; false if there is none, or more than fit.
bool gdb_number(const char **p, u64 *x);
// 2 * n digits; false if there are not as many
bool gdb_bytes(const char **p, u8 *to, size_t n);

#endif

#include "frontend/gdb_packet.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BETWEEN, INSIDE, SUM_1, SUM_2 };

static int digit(u8 c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void start(struct gdb_parser *p)
{
    p->state = INSIDE;
    p->n = 0;
    p->sum = p->told = 0;
    p->escaped = p->too_long = false;
}

static void inside(struct gdb_parser *p, u8 byte)
{
    p->sum += byte;
    if (byte == '}' && !p->escaped) {
        p->escaped = true;
        return;
    }
    if (p->escaped) byte ^= 0x20;
    p->escaped = false;
    if (p->n < GDB_PACKET_MAX)
        p->data[p->n++] = byte;
    else
        p->too_long = true;
}

enum gdb_token gdb_parse(struct gdb_parser *p, u8 byte)
{
    switch (p->state) {
    case BETWEEN:
        if (byte == '$') start(p);
        return byte == 3 ? GDB_INTERRUPT : byte == '+' ? GDB_ACK : byte == '-' ? GDB_NAK : GDB_MORE;
    case INSIDE:
        if (byte == '#')
            p->state = SUM_1;
        else if (byte == '$') // the one before was cut off
            start(p);
        else
            inside(p, byte);
        return GDB_MORE;
    case SUM_1:
    default:
        if (digit(byte) < 0) {
            p->state = BETWEEN;
            return GDB_BAD;
        }
        p->told = (u8)(p->told << 4 | digit(byte));
        if (p->state++ == SUM_1) return GDB_MORE;
        p->state = BETWEEN;
        p->data[p->n] = 0;
        return p->told == p->sum && !p->too_long ? GDB_PACKET : GDB_BAD;
    }
}

void gdb_add(struct gdb_reply *r, const void *bytes, size_t n)
{
    size_t room = sizeof r->data - r->n;
    if (n > room) r->cut = true, n = room;
    memcpy(r->data + r->n, bytes, n);
    r->n += (u32)n;
}

void gdb_addf(struct gdb_reply *r, const char *format, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    if (n >= (int)sizeof text) r->cut = true, n = sizeof text - 1;
    if (n > 0) gdb_add(r, text, (size_t)n);
}

void gdb_add_hex(struct gdb_reply *r, const void *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (const u8 *b = bytes; n; n--, b++) gdb_add(r, (char[]){digits[*b >> 4], digits[*b & 15]}, 2);
}

size_t gdb_frame(const struct gdb_reply *r, u8 *out)
{
    u8 *o = out, sum = 0;
    *o++ = '$';
    for (u32 i = 0; i < r->n; i++) {
        u8 c = r->data[i];
        if (c == '$' || c == '#' || c == '}' || c == '*') {
            *o++ = '}';
            sum += '}';
            c ^= 0x20;
        }
        *o++ = c;
        sum += c;
    }
    return (size_t)(o - out) + (size_t)sprintf((char *)o, "#%02x", sum);
}

bool gdb_number(const char **p, u64 *x)
{
    const char *begin = *p;
    u64 n = 0;
    for (int d; (d = digit((u8) * *p)) >= 0; (*p)++) {
        if (n >> 60) return false;
        n = n << 4 | (u64)d;
    }
    *x = n;
    return *p > begin;
}

bool gdb_bytes(const char **p, u8 *to, size_t n)
{
    for (; n; n--, *p += 2) {
        int high = digit((u8)(*p)[0]), low = high < 0 ? -1 : digit((u8)(*p)[1]);
        if (low < 0) return false;
        *to++ = (u8)(high << 4 | low);
    }
    return true;
}

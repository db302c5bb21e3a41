// Text into a buffer, quickly: what is too long is cut, and stays a string.
#ifndef FRONTEND_JSON_TEXT_H
#define FRONTEND_JSON_TEXT_H

#include <string.h>

#include "mmu/types.h"

struct json_text {
    char *at, *end; // end: room is kept behind it for what closes a string and an object
};
static inline void json_raw(struct json_text *t, const char *s)
{
    size_t n = strlen(s);
    if (n > (size_t)(t->end - t->at)) return;
    memcpy(t->at, s, n);
    t->at += n;
}
static inline void json_decimal(struct json_text *t, u64 x)
{
    char digits[24], *p = digits + sizeof digits - 1;
    *p = 0;
    do *--p = (char)('0' + x % 10);
    while (x /= 10);
    json_raw(t, p);
}
static inline void json_hex(struct json_text *t, u64 x) // "0x12"
{
    char digits[24], *p = digits + sizeof digits - 1;
    *p = 0;
    *--p = '"';
    do *--p = "0123456789abcdef"[x & 15];
    while (x >>= 4);
    *--p = 'x', *--p = '0', *--p = '"';
    json_raw(t, p);
}
// A time in nanoseconds as microseconds.
static inline void json_us(struct json_text *t, u64 ns)
{
    char part[5] = {'.', (char)('0' + ns / 100 % 10), (char)('0' + ns / 10 % 10), (char)('0' + ns % 10)};
    json_decimal(t, ns / 1000);
    json_raw(t, part);
}
static inline void json_string(struct json_text *t, const char *s)
{
    json_raw(t, "\"");
    for (; *s && t->end - t->at > 8; s++) {
        if (*s == '"' || *s == '\\')
            *t->at++ = '\\', *t->at++ = *s;
        else if ((u8)*s >= ' ')
            *t->at++ = *s;
        else
            json_raw(t, *s == '\n' ? "\\n" : " ");
    }
    *t->at++ = '"';
}
// ,"key":
static inline void json_key(struct json_text *t, const char *key)
{
    if (t->at[-1] != '{') json_raw(t, ",");
    json_raw(t, "\"");
    json_raw(t, key);
    json_raw(t, "\":");
}

#endif

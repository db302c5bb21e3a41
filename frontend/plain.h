// Text for a person's terminal that holds what others wrote: names of files, lines of a log.
#ifndef FRONTEND_PLAIN_H
#define FRONTEND_PLAIN_H

#include <stdarg.h>
#include <stdio.h>

// Control characters become question marks, so that it is one line and no terminal obeys it.
static inline void plain_put(FILE *f, const char *text)
{
    for (; *text; text++) fputc((unsigned char)*text < ' ' || *text == 127 ? '?' : *text, f);
}
// A line of it.
static inline __attribute__((format(printf, 2, 3))) void plain_line(FILE *f, const char *format, ...)
{
    char text[8192];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    plain_put(f, text);
    fputc('\n', f);
}

#endif

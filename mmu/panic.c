// The end of the road for the impossible: says what and where, and aborts so that a debugger or a core file
// sees the stack; the program makes exit status 70 of it (frontend/main.c). Nothing that a guest does may
// come here.
#include "mmu/types.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void panic(const char *fmt, ...)
{
    va_list ap;

    fputs("matryoshka: bug: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    fflush(stderr);
    abort();
}

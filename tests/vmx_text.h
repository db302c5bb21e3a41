// Text as it is put by what reports of VT-x, collected for a test.
#ifndef TESTS_VMX_TEXT_H
#define TESTS_VMX_TEXT_H

#include <stdlib.h>
#include <string.h>

struct text {
    char *s;
    size_t used, size;
};

static inline void put(void *opaque, const char *s)
{
    struct text *t = opaque;
    size_t n = strlen(s);
    if (t->used + n + 1 > t->size) t->s = realloc(t->s, t->size = 2 * (t->used + n + 1));
    memcpy(t->s + t->used, s, n + 1);
    t->used += n;
}

static inline void clear(struct text *t)
{
    t->used = 0;
    put(t, "");
}

#endif

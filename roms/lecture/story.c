/* The story of a run: comments of TAP, so that the same output is a lecture and a test. */
#include "lecture.h"

/* Which scene it is. A debugger that watches it stops at each (matryoshka lecture N --debug). */
volatile unsigned lecture_scene;

#define SAY(prefix, suffix) \
    __builtin_va_list ap; \
    __builtin_va_start(ap, format); \
    print(prefix); \
    vprint(format, ap); \
    suffix; \
    __builtin_va_end(ap)

void lecture_begin(unsigned number, const char *title)
{
    print("TAP version 13\n# Lecture %u: %s\n", number, title);
}

void scene(const char *title)
{
    print("#\n# == Scene %u: %s\n", lecture_scene + 1, title);
    console_drain();
    lecture_scene++;
}

void say(const char *format, ...) { SAY("# ", print("\n")); }

void figure(uint64_t value, const char *format, ...) { SAY("#   ", print(" = %lu\n", value)); }

void ratio(uint64_t a, uint64_t b, const char *format, ...)
{
    uint64_t hundredths = b ? (a * 100 + b / 2) / b : 0;
    SAY("#   ", print(" = %lu.%02lu\n", hundredths / 100, hundredths % 100));
}

int lecture_end(void) { return tap_end(); }

/* ---- what brought the monitor in ---- */
static struct {
    const char *name;
    uint64_t n;
} counts[40];

void counts_clear(void) { memset(counts, 0, sizeof(counts)); }

void count(const char *name)
{
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (!counts[i].name) counts[i].name = name;
        if (counts[i].name != name) continue;
        counts[i].n++;
        return;
    }
}

uint64_t counted(const char *name)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]) && counts[i].name; i++)
        if (strcmp(counts[i].name, name) == 0) n += counts[i].n;
    return n;
}

void tell_counts(void)
{
    for (unsigned i = 0; i < sizeof(counts) / sizeof(counts[0]) && counts[i].name; i++)
        figure(counts[i].n, "  of them %s", counts[i].name);
}

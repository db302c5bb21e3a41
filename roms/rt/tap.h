/*
 * The Test Anything Protocol, version 13: a line a test point, the plan at the end.
 */
#ifndef RT_TAP_H
#define RT_TAP_H

#include "rt.h"

/* The first line. `what` says what the image is about. */
void tap_begin(const char *what);
/* A comment line. */
void tap_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A test point; the name is the format. Both return whether it passed. */
bool ok(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A test point that wants a value, and says what came instead. */
bool is(uint64_t got, uint64_t want, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* `count` test points that this machine cannot run. */
void skip(unsigned count, const char *reason);
/* One named test point that this machine cannot run. */
void skip_one(const char *name, const char *reason);
/* The plan; the value for rom_main to return: 0 if all passed, else 1. */
int tap_end(void);

#endif

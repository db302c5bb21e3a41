/* TAP output. See tap.h. */
#include "tap.h"

static unsigned points, failures;

void tap_begin(const char *what) { print("TAP version 13\n# %s\n", what); }

void tap_note(const char *format, ...)
{
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    print("# ");
    vprint(format, ap);
    print("\n");
    __builtin_va_end(ap);
}

static void point(bool passed, const char *format, __builtin_va_list ap)
{
    if (!passed) failures++;
    print("%s %u - ", passed ? "ok" : "not ok", ++points);
    vprint(format, ap);
    print("\n");
}

bool ok(bool passed, const char *format, ...)
{
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    point(passed, format, ap);
    __builtin_va_end(ap);
    return passed;
}

bool is(uint64_t got, uint64_t want, const char *format, ...)
{
    __builtin_va_list ap;
    __builtin_va_start(ap, format);
    point(got == want, format, ap);
    __builtin_va_end(ap);
    if (got != want) print("#   got  0x%lx\n#   want 0x%lx\n", got, want);
    return got == want;
}

void skip(unsigned count, const char *reason)
{
    while (count--) print("ok %u # SKIP %s\n", ++points, reason);
}

void skip_one(const char *name, const char *reason)
{
    print("ok %u - %s # SKIP %s\n", ++points, name, reason);
}

int tap_end(void)
{
    print("1..%u\n", points);
    if (failures) print("# %u of %u failed\n", failures, points);
    return failures != 0;
}

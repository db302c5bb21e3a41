// What silicon of different vendors does differently, each by row and reason: the table is in excuses.c.
#ifndef TESTS_EXCUSES_H
#define TESTS_EXCUSES_H

#include "tests/silicon/silicon.h"

enum vendor { VENDOR_OTHER, VENDOR_INTEL, VENDOR_AMD };
enum vendor excuses_vendor(const char *name); // by CPUID leaf 0

// Whether outcomes of that vendor's silicon may differ so from ours. Counted.
bool excused(enum vendor silicon, const struct test *t, const struct outcome *theirs,
             const struct outcome *ours, u32 differences);
// Whether the difference may come from the instruction's having run on this host, which is of another vendor.
// Counted.
bool excused_by_host(const struct test *t, u32 differences);
void excuses_report(void); // as comments: each that was used, and how often

#endif

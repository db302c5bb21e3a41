// A recording: encodings, inputs and what a host's silicon made of them, so that any host can compare. The
// format is drawn in record.c.
#ifndef TESTS_RECORD_H
#define TESTS_RECORD_H

#include "tests/silicon/silicon.h"

struct recording_cpu { // whose outcomes they are
    char vendor[13];   // CPUID leaf 0
    char brand[49];    // leaves 80000002h to 80000004h
    u32 signature;     // leaf 1: EAX
    u32 features[6];   // leaf 1: ECX, EDX; leaf 7: EBX, ECX, EDX; leaf 0Dh, subleaf 1: EAX
};

// ---- writing ----
struct record_writer;
struct record_writer *record_begin(const struct input_pool *pool, u64 seed, u32 count);
void record_case(struct record_writer *w, const struct test *t, unsigned state, unsigned page,
                 const struct outcome *o, const u8 *data);
// Writes the file and frees the writer. False with *why (errno's text or zlib's) if that did not work.
bool record_end(struct record_writer *w, const char *path, const struct recording_cpu *cpu, u64 *bytes,
                const char **why);

// ---- reading ----
struct record_reader;
// NULL with *why: no such file, no recording, another version, or damaged. Everything is checked here but the
// cases themselves.
struct record_reader *record_open(const char *path, const char **why);
const struct recording_cpu *record_cpu(const struct record_reader *r);
u64 record_seed(const struct record_reader *r);
u32 record_count(const struct record_reader *r); // encodings a row
u32 record_cases(const struct record_reader *r);
void record_rewind(struct record_reader *r);
// The next case: 1; 0 at the end; -1 with *why if it makes no sense. A row that the table does not have (any
// more) leaves t->row NULL, t->unknown set. `data` is DATA_SIZE bytes: what the data pages hold afterwards.
int record_next(struct record_reader *r, struct test *t, struct outcome *o, u8 *data, const char **why);
void record_close(struct record_reader *r);

#endif

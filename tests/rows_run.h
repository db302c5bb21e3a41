// Which rows of the instruction table a test runs: with ROWS_RUN=FILE in its environment its processors run
// in the loop engine, which notes each row that it begins, and the numbers of all of them go into FILE at the
// end. For tests/rows_held.
#ifndef TESTS_ROWS_RUN_H
#define TESTS_ROWS_RUN_H

#include <stdio.h>
#include <stdlib.h>

#include "cpu/engine/insn.h"
#include "cpu/state/vcpu.h"

static u64 *rows_run_bits;

static inline void rows_run_write(void)
{
    FILE *f = fopen(getenv("ROWS_RUN"), "w");
    if (!f) return;
    for (unsigned i = 0; i < rows_n; i++)
        if (rows_run_bits[i / 64] >> (i % 64) & 1) fprintf(f, "%u\n", i);
    fclose(f);
}

static inline void rows_run_watch(struct vcpu *v)
{
    if (!getenv("ROWS_RUN")) return;
    if (!rows_run_bits) {
        rows_run_bits = calloc(rows_n / 64 + 1, sizeof *rows_run_bits);
        atexit(rows_run_write);
    }
    v->loop_engine = true;
    v->rows_run = rows_run_bits;
}

#endif

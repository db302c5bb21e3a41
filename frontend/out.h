// A file that is written as it comes, packed by zstd if its name says so.
#ifndef FRONTEND_OUT_H
#define FRONTEND_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

// NULL, with a line in `why`, if it cannot be written. ferror and fclose tell what was lost.
FILE *out_open(const char *path, bool zstd, char *why, size_t why_size);

#endif

// The words of -cpu.
#ifndef CPU_MODEL_H
#define CPU_MODEL_H

#include <stdbool.h>
#include <stddef.h>

struct cpu_features;

// Parses "max,+x,-y,phys-bits=40" (also those model names of QEMU whose features are all there). On an error
// false, and *why is a line that names the word and suggests the nearest name (static or in buf).
bool cpu_features_parse(struct cpu_features *f, const char *text, char *buf, size_t buf_size,
                        const char **why);
// The models that it takes, from 0 on; NULL behind the last.
const char *cpu_model_name(unsigned n);

// Edit distance of two words, of n bytes and to its end, whatever their case: how many letters to insert,
// leave out or replace. 99 for words of more than 64 bytes.
unsigned word_distance(const char *a, size_t n, const char *b);

#endif

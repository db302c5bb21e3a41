// Invariants as assertions, in builds configured with -DCHECKS=ON (the sanitizers' builds are): what the code
// relies on without asking. A check has no side effects: with and without it a guest sees the same.
#ifndef MMU_INVARIANT_H
#define MMU_INVARIANT_H

#include "mmu/types.h"

#ifdef MATRYOSHKA_CHECKS
#define INVARIANT(condition) \
    do { \
        if (unlikely(!(condition))) panic("%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
    } while (0)
#else
#define INVARIANT(condition) ((void)sizeof(!(condition))) // seen by the compiler, never evaluated
#endif

#endif

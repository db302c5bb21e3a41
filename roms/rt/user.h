/*
 * User mode as a value: runs a snippet at CPL 3 on a page of its own and says what stopped it.
 */
#ifndef RT_USER_H
#define RT_USER_H

#include "trap.h"

#define USER_CODE      0x7000000000ul /* the snippet lands here */
#define USER_STACK     0x7000001000ul /* one page */
#define USER_STACK_TOP (USER_STACK + 4096 - 64)

/* Copies the snippet (position-independent, ends in ret, at most 1 KiB) to USER_CODE and runs it in 64-bit
   user mode with RDI = a, RSI = b. If it returns, the trap's vector is TRAP_DONE and rax its result. */
struct trap user_run(const void *code, uint64_t a, uint64_t b);
/* The same with more bits in RFLAGS. */
struct trap user_run_flags(const void *code, uint64_t a, uint64_t b, uint64_t rflags);

#endif

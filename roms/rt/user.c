/* User mode as a value. See user.h. */
#include "user.h"

#define SNIPPET_SIZE 1024

struct trap user_run_flags(const void *code, uint64_t a, uint64_t b, uint64_t rflags)
{
    static uint8_t *pages;
    if (!pages) {
        pages = page_alloc(2);
        paging_map(USER_CODE, (uint64_t)pages, PTE_P | PTE_W | PTE_U);
        paging_map(USER_STACK, (uint64_t)pages + 4096, PTE_P | PTE_W | PTE_U);
    }
    /* Through the supervisor's own addresses: SMAP does not mind. */
    memcpy(pages, code, SNIPPET_SIZE);
    uint8_t *end = pages + SNIPPET_SIZE;
    end[0] = 0xcd; /* INT 81h */
    end[1] = TRAP_DONE;
    *(uint64_t *)(pages + 4096 + (USER_STACK_TOP - USER_STACK)) = USER_CODE + SNIPPET_SIZE;
    return trap_user(USER_CODE, SEL_USER_CODE64, USER_STACK_TOP, SEL_USER_DATA, RFLAGS_FIXED | rflags, a, b);
}

struct trap user_run(const void *code, uint64_t a, uint64_t b) { return user_run_flags(code, a, b, 0); }

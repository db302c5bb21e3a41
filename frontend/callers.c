#include "frontend/callers.h"

#include <string.h>

enum { STACK = 2048, INDIRECT = 256 }; // bytes that are looked at; for the second kind

// What the instruction before `ret` calls: 1 this function, 2 something indirect, 0 it is no CALL.
static int calls(const struct symbols *symbols, const struct view *w, struct symbols_of of, u64 ret,
                 u64 function)
{
    u8 b[7];
    s32 to;
    if (view_read(w, laddr_of(ret - 7), b, 7) != 7) return 0;
    memcpy(&to, b + 3, 4);
    if (b[2] == 0xE8) {
        if (ret + (u64)(s64)to == function) return 1;
        const struct symbol *s = symbols_find(symbols, of, ret + (u64)(s64)to);
        if (s && strncmp(s->name, "__x86_indirect_thunk", 20) == 0) return 2;
    }
    for (unsigned n = 2; n <= 7; n++) // FF /2
        if (n != 4 && n != 5 && b[7 - n] == 0xFF && (b[8 - n] >> 3 & 7) == 2) return 2;
    return 0;
}

unsigned callers_find(const struct symbols *symbols, struct symbols_of of, const struct view *w,
                      const struct symbol **stack, unsigned max)
{
    unsigned depth = 0;
    u64 words[STACK / 8];
    u64 rsp = w->gpr[RSP], at = 0, count = view_read(w, laddr_of(rsp), (u8 *)words, sizeof words) / 8;
    stack[depth] = symbols_find(symbols, of, w->rip);
    if (!stack[depth]) return 0;
    while (++depth < max) {
        u64 found = count;
        const struct symbol *caller = NULL;
        for (u64 i = at; i < count; i++) {
            const struct symbol *s = symbols_find(symbols, of, words[i]);
            int kind = s ? calls(symbols, w, of, words[i], stack[depth - 1]->addr) : 0;
            if (kind == 2 && (caller || i - at > INDIRECT / 8)) continue;
            if (kind) found = i, caller = s;
            if (kind == 1) break;
        }
        if (!caller) break;
        stack[depth] = caller;
        at = found + 1;
    }
    return depth;
}

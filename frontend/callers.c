#include "frontend/callers.h"

#include <string.h>

enum {
    STACK = 2048,
    INDIRECT = 256,
    CODE = 2048
}; // bytes that are looked at; for the second kind; of a function

// Whether the code of `from` has a jump (JMP or Jcc) with four bytes of distance to where `function` begins.
static bool jumps_to(const struct view *w, const struct symbol *from, u64 function)
{
    u8 code[CODE];
    u64 n = from->end - from->addr;
    n = view_read(w, laddr_of(from->addr), code, n < sizeof code ? n : sizeof code);
    for (u64 i = 1; i + 4 <= n; i++) {
        s32 to;
        memcpy(&to, code + i, 4);
        if (from->addr + i + 4 + (u64)(s64)to != function) continue;
        if (code[i - 1] == 0xE9 || (i > 1 && code[i - 2] == 0x0F && code[i - 1] >> 4 == 8)) return true;
    }
    return false;
}

// What the instruction before `ret` calls: 1 this function, or *jumper, which jumps to it; 2 something
// indirect; 0 it is no CALL.
static int calls(const struct symbols *symbols, const struct view *w, struct symbols_of of, u64 ret,
                 u64 function, const struct symbol **jumper)
{
    u8 b[7];
    s32 to;
    if (view_read(w, laddr_of(ret - 7), b, 7) != 7) return 0;
    memcpy(&to, b + 3, 4);
    if (b[2] == 0xE8) {
        if (ret + (u64)(s64)to == function) return 1;
        const struct symbol *s = symbols_find(symbols, of, ret + (u64)(s64)to);
        if (s && strncmp(s->name, "__x86_indirect_thunk", 20) == 0) return 2;
        if (s && s->addr == ret + (u64)(s64)to && jumps_to(w, s, function)) {
            *jumper = s;
            return 1;
        }
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
        const struct symbol *caller = NULL, *jumper = NULL;
        for (u64 i = at; i < count; i++) {
            const struct symbol *s = symbols_find(symbols, of, words[i]);
            int kind = s ? calls(symbols, w, of, words[i], stack[depth - 1]->addr, &jumper) : 0;
            if (kind == 2 && (caller || i - at > INDIRECT / 8)) continue;
            if (kind) found = i, caller = s;
            if (kind == 1) break;
        }
        if (!caller) break;
        if (jumper && depth + 1 < max) stack[depth++] = jumper;
        stack[depth] = caller;
        at = found + 1;
    }
    return depth;
}

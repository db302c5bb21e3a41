// The bytes of a VEX prefix, and of a whole row of the instruction table.
#ifndef TESTS_ENCODE_VEX_H
#define TESTS_ENCODE_VEX_H

#include "cpu/engine/insn.h"

// C4, then R X B (inverted) and the map, then W, the third register (inverted), L and pp. `rex` has W R X B
// as a REX prefix has them; L and W are the row's where it says so. Returns how many bytes: 3.
static inline unsigned encode_vex(const struct row *r, u8 rex, unsigned third, bool l, u8 *code)
{
    static const u8 pp[] = {[PFX_NONE] = 0, [PFX_66] = 1, [PFX_F3] = 2, [PFX_F2] = 3};
    static const u8 map[] = {[MAP_0F] = 1, [MAP_0F38] = 2, [MAP_0F3A] = 3};
    code[0] = 0xC4;
    code[1] = (u8)((~rex & 7) << 5 | map[r->map]);
    if (r->l) l = r->l - 1;
    if (r->w) rex = (u8)((rex & 7) | (r->w - 1) << 3);
    code[2] = (u8)((rex & 8) << 4 | (~third & 15) << 3 | l << 2 | pp[r->prefix]);
    return 3;
}

// A short encoding of the row for code of 64 bits (32 for a row that is invalid there): its ModRM names
// memory at rSI, or registers. Returns how many bytes come before an immediate; zeros follow. `code` has 16.
static inline unsigned encode_row(const struct row *r, bool memory, u8 *code)
{
    static const u8 prefix[] = {[PFX_66] = 0x66, [PFX_F2] = 0xF2, [PFX_F3] = 0xF3, [PFX_NO_REP] = 0};
    unsigned n = 0;
    for (unsigned i = 0; i < 16; i++) code[i] = 0;
    if (r->vex) {
        n = encode_vex(r, 0, row_has(r, 1 << KIND_B | 1 << KIND_H) ? 3 : 0, false, code);
    } else {
        if (prefix[r->prefix]) code[n++] = prefix[r->prefix];
        if (r->map != MAP_1) code[n++] = 0x0F;
        if (r->map == MAP_0F38) code[n++] = 0x38;
        if (r->map == MAP_0F3A) code[n++] = 0x3A;
    }
    code[n++] = r->opcode;
    unsigned reg = r->modrm == MODRM_ANY ? 2 : row_digit(r);
    if (r->vsib) code[n + 1] = 0x08; // [rax + xmm1]
    code[n] = (u8)(r->vsib                  ? reg << 3 | 4
                   : r->modrm & MODRM_EXACT ? r->modrm & 0xFF
                   : memory                 ? reg << 3 | 6
                                            : 0xC0 | reg << 3 | 1);
    return n + 1;
}

#endif

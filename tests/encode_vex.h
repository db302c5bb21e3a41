// The bytes of a VEX prefix, for who encodes rows of the instruction table.
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

#endif

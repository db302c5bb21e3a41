// Memory types (SDM chapter "Memory cache control"; for EPT the section "EPT and memory typing").
#include "mmu/mtype.h"

static bool range_type_valid(unsigned type)
{
    return type == MTYPE_UC || type == MTYPE_WC || type == MTYPE_WT || type == MTYPE_WP || type == MTYPE_WB;
}

bool mtype_def_type_valid(u64 value)
{
    return !(value & ~0xCFFull) && range_type_valid(value & 0xFF); // E = bit 11, FE = bit 10
}

bool mtype_fixed_valid(u64 value)
{
    for (unsigned i = 0; i < 8; i++) {
        if (!range_type_valid(value >> i * 8 & 0xFF)) return false;
    }
    return true;
}

static bool above(u64 value, unsigned maxphyaddr) { return value >> maxphyaddr; }

bool mtype_base_valid(u64 value, unsigned maxphyaddr)
{
    return !above(value, maxphyaddr) && !(value & 0xF00) && range_type_valid(value & 0xFF);
}

bool mtype_mask_valid(u64 value, unsigned maxphyaddr)
{
    return !above(value, maxphyaddr) && !(value & 0x7FF); // bit 11: valid
}

bool mtype_pat_valid(u64 value)
{
    const u64 ones = 0x0101010101010101;
    u64 two_or_three = value >> 1 & ~(value >> 2) & ones; // bit 1 without bit 2
    return !(value & 0xF8 * ones) && !two_or_three;       // every byte is 0, 1, 4, 5, 6 or 7
}

static enum mtype fixed_range(const struct mtype_mtrrs *m, paddr a)
{
    unsigned reg, field;

    if (a < 0x80000) {
        reg = 0, field = (unsigned)(a >> 16);
    } else if (a < 0xC0000) {
        reg = 1 + (unsigned)((a - 0x80000) >> 17), field = (unsigned)(a >> 14 & 7);
    } else {
        reg = 3 + (unsigned)((a - 0xC0000) >> 15), field = (unsigned)(a >> 12 & 7);
    }
    return (enum mtype)(m->fixed[reg] >> field * 8 & 0xFF);
}

enum mtype mtype_of_mtrrs(const struct mtype_mtrrs *m, paddr a, unsigned maxphyaddr)
{
    u64 width = (BIT(maxphyaddr) - 1) & PAGE_MASK;
    bool found = false;
    enum mtype type = MTYPE_UC;

    if (!(m->def_type & BIT(11))) return MTYPE_UC;
    if ((m->def_type & BIT(10)) && a < 0x100000) return fixed_range(m, a);
    for (unsigned i = 0; i < MTYPE_VARIABLE; i++) {
        u64 mask = m->mask[i] & width;
        enum mtype here = (enum mtype)(m->base[i] & 0xFF);

        if (!(m->mask[i] & BIT(11)) || (a & mask) != (m->base[i] & mask)) continue;
        if (!found || type == here)
            type = here;
        else if ((type == MTYPE_WT && here == MTYPE_WB) || (type == MTYPE_WB && here == MTYPE_WT))
            type = MTYPE_WT;
        else
            type = MTYPE_UC; // UC wins; other overlaps are undefined, and UC is the careful answer
        found = true;
        if (type == MTYPE_UC) return type;
    }
    return found ? type : (enum mtype)(m->def_type & 0xFF);
}

enum mtype mtype_of_pat(u64 ia32_pat, u64 pte, bool large)
{
    unsigned index = (unsigned)(pte >> 3 & 3) | (unsigned)(pte >> (large ? 12 : 7) & 1) << 2; // PAT, PCD, PWT

    return (enum mtype)(ia32_pat >> index * 8 & 7);
}

enum mtype mtype_combine(enum mtype range, enum mtype pat)
{
    if (pat == MTYPE_UC) return MTYPE_UC;
    if (pat == MTYPE_WC) return MTYPE_WC;
    switch (range) {
    case MTYPE_WB: return pat == MTYPE_UC_MINUS ? MTYPE_UC : pat;
    case MTYPE_WT: return pat == MTYPE_UC_MINUS ? MTYPE_UC : pat == MTYPE_WP ? MTYPE_WP : MTYPE_WT;
    case MTYPE_WP: return pat == MTYPE_UC_MINUS ? MTYPE_WC : pat == MTYPE_WT ? MTYPE_WT : MTYPE_WP;
    case MTYPE_WC: return pat == MTYPE_UC_MINUS || pat == MTYPE_WB ? MTYPE_WC : MTYPE_UC;
    default: return MTYPE_UC;
    }
}

enum mtype mtype_of_ept(u64 ept_leaf, enum mtype pat, bool cd)
{
    enum mtype type = (enum mtype)(ept_leaf >> 3 & 7);

    if (cd) return MTYPE_UC;
    return ept_leaf & BIT(6) ? type : mtype_combine(type, pat);
}

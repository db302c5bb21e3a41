// What the mode refuses, by row: resolved at decode, because the mode word is part of a block's key; in
// non-root operation, where an exit or a hidden instruction may come between, asked by the guard
// (exec_guard).
#include "cpu/engine/insn.h"
#include "cpu/state/mode.h"

enum verdict row_guard(const struct row *r, u32 mode, unsigned reg)
{
    bool user = mode_cpl(mode) > 0;
    switch ((enum guard_kind)r->guard) {
    case GUARD_NONE: break;
    case GUARD_CR:
        return reg <= 8 && (1u << reg & 0x11D) ? VERDICT_PASS : VERDICT_UD; // CR0, CR2, CR3, CR4, CR8
    case GUARD_DR:
        return reg < 8 ? VERDICT_PASS
                       : VERDICT_UD; // DR4 and DR5 come after the privilege check, as on silicon
    case GUARD_OSXSAVE: return mode & MODE_OSXSAVE ? VERDICT_PASS : VERDICT_UD;
    case GUARD_FSGSBASE: return mode & MODE_FSGSBASE ? VERDICT_PASS : VERDICT_UD;
    case GUARD_PKE: return mode & MODE_PKE ? VERDICT_PASS : VERDICT_UD;
    case GUARD_MONITOR: return !user && mode & MODE_MONITOR ? VERDICT_PASS : VERDICT_UD;
    case GUARD_NOT_COMPATIBILITY: return mode & MODE_LMA && !mode_long64(mode) ? VERDICT_UD : VERDICT_PASS;
    case GUARD_TSD: return user && mode & MODE_TSD ? VERDICT_GP0 : VERDICT_PASS;
    case GUARD_PCE: return user && !(mode & MODE_PCE) ? VERDICT_GP0 : VERDICT_PASS;
    case GUARD_UMIP: return user && mode & MODE_UMIP ? VERDICT_GP0 : VERDICT_PASS;
    }
    return VERDICT_PASS;
}

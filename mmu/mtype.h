// Memory types: what the MTRRs, the PAT and EPT say of an address. Pure functions: nothing in this machine
// runs faster or slower by a memory type, but software sets them, reads them back, and must see bad values
// refused.
#ifndef MMU_MTYPE_H
#define MMU_MTYPE_H

#include "mmu/types.h"

enum mtype { // the encodings of MTRRs, PAT entries and EPT leaf entries
    MTYPE_UC = 0,
    MTYPE_WC = 1,
    MTYPE_WT = 4,
    MTYPE_WP = 5,
    MTYPE_WB = 6,
    MTYPE_UC_MINUS = 7, // PAT only
};

#define MTYPE_VARIABLE  10
#define MTYPE_FIXED     11
#define MTYPE_PAT_RESET 0x0007040600070406ull

// The MTRRs as the MSRs hold them.
struct mtype_mtrrs {
    u64 def_type;             // IA32_MTRR_DEF_TYPE
    u64 fixed[MTYPE_FIXED];   // 64K_00000, 16K_80000, 16K_A0000, 4K_C0000 ... 4K_F8000
    u64 base[MTYPE_VARIABLE]; // IA32_MTRR_PHYSBASEn
    u64 mask[MTYPE_VARIABLE]; // IA32_MTRR_PHYSMASKn
};

// Whether WRMSR takes the value (else #GP).
bool mtype_def_type_valid(u64 value);
bool mtype_fixed_valid(u64 value);
bool mtype_base_valid(u64 value, unsigned maxphyaddr);
bool mtype_mask_valid(u64 value, unsigned maxphyaddr);
bool mtype_pat_valid(u64 value);

enum mtype mtype_of_mtrrs(const struct mtype_mtrrs *m, paddr a, unsigned maxphyaddr);
// The PAT entry that a leaf paging-structure entry chooses: `pte` with its PAT bit at 7 (4 KiB) or 12
// (large).
enum mtype mtype_of_pat(u64 ia32_pat, u64 pte, bool large);
// Effective type of a page: `range` from the MTRRs, or from an EPT leaf that does not ignore the PAT.
enum mtype mtype_combine(enum mtype range, enum mtype pat);
// Effective type of an access through EPT. `ept_leaf` is the leaf entry, `pat` the type that stage 1 chose
// (WB where CR0.PG = 0), `cd` is CR0.CD.
enum mtype mtype_of_ept(u64 ept_leaf, enum mtype pat, bool cd);

#endif

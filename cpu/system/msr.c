// Model-specific registers: rows of number, name, feature, writable bits, and what is special about one.
//
// Registers of the local APIC belong to the board, those of VMX (480h-493h) to vmx/. A register without a row
// is #GP(0), counted and named: that includes everything of performance monitoring (CPUID leaf 0Ah says
// version 0), of thermal and power control, and TSX_CTRL (122h), whose features CPUID does not report.
//
// Missing: last-branch records, of which nothing tells a guest that they are there (no PDCM with the format
// of their addresses, no architectural ones in CPUID; their registers are #GP): DEBUGCTL.LBR is stored and
// named when set; machine-check banks (MCG_CAP says there are none).
#include <string.h>

#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "cpu/state/xcomponent.h"
#include "mmu/mtype.h"
#include "vmx/intercept.h"

struct msr_row {
    u32 first, last;
    const char *name;
    u8 feature;
    u64 writable;    // bits that may be 1 in a write; others are #GP
    u64 fixed_or_ro; // bits that a write may hold and that do not change
    u32 offset;      // of the field in struct msr_state; NONE: no field, reads as `constant`
    u64 constant;
    bool (*read)(struct vcpu *v, u32 msr, u64 *value);
    bool (*write)(struct vcpu *v, u32 msr, u64 value);
};
#define NONE                 0xFFFFFFFFu
#define FIELD(f)             ((u32)offsetof(struct msr_state, f))

#define MISC_ENABLE_WRITABLE (BIT(0) | BIT(3) | BIT(16) | BIT(18) | BIT(22) | BIT(23) | BIT(34))
// Bits 63:32 of IA32_SYSENTER_CS and IA32_FMASK are reserved to the manual; processors ignore what a write
// holds there (a probe of MSRs on some twenty models, in VirtualBox's data base of processors, found no #GP),
// and there is software that writes all ones.
#define HIGH                 0xFFFFFFFF00000000ull

enum { MTRR_VARIABLE = MTYPE_VARIABLE };

// ---- special reads and writes: false is #GP(0) ----

static bool refuse(struct vcpu *v, u32 msr, u64 value) { return (void)v, (void)msr, (void)value, false; }
static bool refuse_read(struct vcpu *v, u32 msr, u64 *value)
{
    return (void)v, (void)msr, (void)value, false;
}

static bool tsc_read(struct vcpu *v, u32 msr, u64 *value)
{
    return *value = cpu_clock(v) + v->s.msr.tsc_offset, true;
}

// The APIC's TSC deadline is a value of the TSC: when the TSC jumps, it is armed anew.
static void tsc_jump(struct vcpu *v, u64 by)
{
    u64 deadline = 0;
    bool armed = v->board && feature_on(v->features, FEATURE_TSC_DEADLINE) &&
                 v->board->msr_read(v->board_opaque, v->index, 0x6E0, &deadline) && deadline;
    vmx_tsc_jumps(v, by);
    v->s.msr.tsc_offset += by;
    v->s.msr.tsc_adjust += by;
    if (!armed) return;
    v->board->msr_write(v->board_opaque, v->index, 0x6E0, deadline);
    board_done(v);
}
static bool tsc_write(struct vcpu *v, u32 msr, u64 value)
{
    tsc_jump(v, value - (cpu_clock(v) + v->s.msr.tsc_offset));
    return true;
}
static bool tsc_adjust_write(struct vcpu *v, u32 msr, u64 value)
{
    tsc_jump(v, value - v->s.msr.tsc_adjust);
    return true;
}

static bool board_read(struct vcpu *v, u32 msr, u64 *value)
{
    if (!v->board) return false;
    bool ok = v->board->msr_read(v->board_opaque, v->index, msr, value);
    board_done(v);
    return ok;
}
static bool board_write(struct vcpu *v, u32 msr, u64 value)
{
    if (!v->board) return false;
    bool ok = v->board->msr_write(v->board_opaque, v->index, msr, value);
    if (ok && msr == 0x1B) { // the page moved, or the APIC came or went
        v->board->msr_read(v->board_opaque, v->index, msr, &v->s.msr.apic_base);
        cpu_drop_fast(v);
    }
    board_done(v);
    return ok;
}

static bool feature_control_write(struct vcpu *v, u32 msr, u64 value)
{
    if (v->s.msr.feature_control & 1) return false; // locked until reset
    if (value & ~(feature_on(v->features, FEATURE_VMX) ? 5ull : 1ull)) return false;
    v->s.msr.feature_control = value;
    return true;
}

static bool canonical_write(struct vcpu *v, u32 msr, u64 value)
{
    if (!cpu_canonical_max(v, value)) return false;
    struct msr_state *m = &v->s.msr;
    switch (msr) {
    case 0x175: m->sysenter_esp = value; break;
    case 0x176: m->sysenter_eip = value; break;
    case 0xC0000082: m->lstar = value; break;
    case 0xC0000083: m->cstar = value; break;
    case 0xC0000100: v->s.seg[SEG_FS].base = value; break;
    case 0xC0000101: v->s.seg[SEG_GS].base = value; break;
    case 0xC0000102: m->kernel_gs_base = value; break;
    }
    return true;
}
static bool fs_gs_read(struct vcpu *v, u32 msr, u64 *value)
{
    *value = v->s.seg[msr == 0xC0000100 ? SEG_FS : SEG_GS].base;
    return true;
}

static bool debugctl_write(struct vcpu *v, u32 msr, u64 value)
{
    if (value & ~v->s.msr.debugctl & 1) unimplemented(v, "debugctl.lbr", value);
    v->s.msr.debugctl = value;
    return true;
}

// What a bit does: 18 takes MONITOR away, 22 CPUID's leaves above 2, 34 the NX of CPUID and of WRMSR to
// IA32_EFER (an NXE that is set stays: the manual has nothing that clears it). Fast strings (0), the thermal
// circuit (3), SpeedStep (16) and xTPR messages (23) are switches of what cannot be seen here.
static bool misc_enable_write(struct vcpu *v, u32 msr, u64 value)
{
    u64 toggles = MISC_ENABLE_WRITABLE;
    if (!feature_on(v->features, FEATURE_MONITOR)) toggles &= ~BIT(18);
    if (!feature_on(v->features, FEATURE_XTPR) && (value & BIT(23))) return false;
    if (!feature_on(v->features, FEATURE_NX) && (value & BIT(34))) return false;
    v->s.msr.misc_enable = (v->s.msr.misc_enable & ~toggles) | (value & toggles);
    cpu_mode_changed(v); // MONITOR
    return true;
}

// Bit 15 locks bits 15:0 until the next reset. A change of them is #GP(0) then, as software on locked boards
// knows.
static bool pkg_cst_config_write(struct vcpu *v, u32 msr, u64 value)
{
    u64 locked = v->s.msr.pkg_cst_config & BIT(15) ? 0xFFFF : 0;
    if ((value ^ v->s.msr.pkg_cst_config) & locked) return false;
    v->s.msr.pkg_cst_config = value;
    return true;
}

static u64 arch_capabilities(void)
{
    // RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO,
    // FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO: nothing is executed ahead of time here.
    return BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) |
           BIT(20) | BIT(24) | BIT(26) | BIT(27) | BIT(62);
}
static bool arch_capabilities_read(struct vcpu *v, u32 msr, u64 *value)
{
    *value = arch_capabilities();
    if (!feature_on(v->features, FEATURE_SPEC_CTRL)) *value &= ~BIT(1);
    return true;
}

u64 spec_ctrl_valid(const struct cpu_features *f)
{
    // IBRS, STIBP (writable also where it is not reported), SSBD, BHI_DIS_S
    return 3 | (feature_on(f, FEATURE_SSBD) ? BIT(2) : 0) | (feature_on(f, FEATURE_BHI_CTRL) ? BIT(10) : 0);
}
static bool spec_ctrl_write(struct vcpu *v, u32 msr, u64 value)
{
    if (value & ~spec_ctrl_valid(v->features)) return false;
    v->s.msr.spec_ctrl = value;
    return true;
}

static bool pkrs_write(struct vcpu *v, u32 msr, u64 value)
{
    v->s.msr.pkrs = value;
    cpu_context_changed(v);
    return true;
}

static bool xss_write(struct vcpu *v, u32 msr, u64 value)
{
    if (value & ~xcomponents_supervisor(v->features)) return false;
    v->s.msr.xss = value;
    return true;
}

// ---- memory types ----

static bool pat_write(struct vcpu *v, u32 msr, u64 value)
{
    if (!mtype_pat_valid(value)) return false;
    v->s.msr.pat = value;
    cpu_drop_fast(v);
    return true;
}

static int mtrr_fixed_index(u32 msr)
{
    return msr == 0x250 ? 0 : msr <= 0x259 ? (int)msr - 0x258 + 1 : (int)msr - 0x268 + 3;
}
static bool mtrr_fixed_read(struct vcpu *v, u32 msr, u64 *value)
{
    *value = v->s.msr.mtrr_fix[mtrr_fixed_index(msr)];
    return true;
}
static bool mtrr_fixed_write(struct vcpu *v, u32 msr, u64 value)
{
    if (!mtype_fixed_valid(value)) return false;
    v->s.msr.mtrr_fix[mtrr_fixed_index(msr)] = value;
    cpu_drop_fast(v);
    return true;
}
static bool mtrr_variable_read(struct vcpu *v, u32 msr, u64 *value)
{
    unsigned i = (msr - 0x200) / 2;
    *value = msr & 1 ? v->s.msr.mtrr_phys_mask[i] : v->s.msr.mtrr_phys_base[i];
    return true;
}
static bool mtrr_variable_write(struct vcpu *v, u32 msr, u64 value)
{
    unsigned i = (msr - 0x200) / 2;
    if (msr & 1) {
        if (!mtype_mask_valid(value, v->features->maxphyaddr)) return false;
        v->s.msr.mtrr_phys_mask[i] = value;
    } else {
        if (!mtype_base_valid(value, v->features->maxphyaddr)) return false;
        v->s.msr.mtrr_phys_base[i] = value;
    }
    cpu_drop_fast(v);
    return true;
}
static bool mtrr_def_type_write(struct vcpu *v, u32 msr, u64 value)
{
    if (!mtype_def_type_valid(value)) return false;
    v->s.msr.mtrr_def_type = value;
    cpu_drop_fast(v);
    return true;
}

// ---- EFER ----

u64 efer_valid(const struct cpu_features *f, u64 misc_enable)
{
    u64 m = 0;
    if (feature_on(f, FEATURE_SYSCALL)) m |= EFER_SCE;
    if (feature_on(f, FEATURE_LM)) m |= EFER_LME | EFER_LMA;
    if (feature_on(f, FEATURE_NX) && !(misc_enable & BIT(34))) m |= EFER_NXE;
    return m;
}
static bool efer_write(struct vcpu *v, u32 msr, u64 value)
{
    u64 old = v->s.msr.efer;
    if (value & ~efer_valid(v->features, v->s.msr.misc_enable)) return false;
    if (((value ^ old) & EFER_LME) && (v->s.cr0 & CR0_PG)) return false;
    value = (value & ~(u64)EFER_LMA) | (old & EFER_LMA); // LMA is the processor's: a write of it is ignored
    v->s.msr.efer = value;
    cpu_mode_changed(v);
    return true;
}

static bool vmx_range_read(struct vcpu *v, u32 msr, u64 *value) { return vmx_msr_read(v, msr, value); }

// Sorted by number.
// clang-format off
static const struct msr_row msr_rows[] = {
    {0x10, 0x10, "IA32_TIME_STAMP_COUNTER", FEATURE_TSC, ~0ull, 0, NONE, 0, tsc_read, tsc_write},
    {0x17, 0x17, "IA32_PLATFORM_ID", 0, 0, 0, NONE, 0, NULL, refuse},
    {0x1B, 0x1B, "IA32_APIC_BASE", FEATURE_APIC, ~0ull, 0, NONE, 0, board_read, board_write},
    {0x2F, 0x2F, "IA32_BARRIER", FEATURE_MSRLIST, 0, 0, NONE, 0, NULL, refuse}, // a read in a list: LFENCE
    {0x3A, 0x3A, "IA32_FEATURE_CONTROL", FEATURE_VMX, ~0ull, 0, FIELD(feature_control), 0, NULL, feature_control_write},
    {0x3B, 0x3B, "IA32_TSC_ADJUST", FEATURE_TSC_ADJUST, ~0ull, 0, FIELD(tsc_adjust), 0, NULL, tsc_adjust_write},
    {0x48, 0x48, "IA32_SPEC_CTRL", FEATURE_SPEC_CTRL, ~0ull, 0, FIELD(spec_ctrl), 0, NULL, spec_ctrl_write},
    {0x49, 0x49, "IA32_PRED_CMD", FEATURE_SPEC_CTRL, 1, 0, NONE, 0, refuse_read, NULL},       // IBPB: nothing to flush
    {0x79, 0x79, "IA32_BIOS_UPDT_TRIG", 0, ~0ull, 0, NONE, 0, refuse_read, NULL}, // no update is for this processor
    {0x8B, 0x8B, "IA32_BIOS_SIGN_ID", 0, ~0ull, 0, FIELD(bios_sign_id), 0, NULL, NULL},
    {0xCE, 0xCE, "MSR_PLATFORM_INFO", 0, 0, 0, NONE, (CPU_TSC_HZ / 100000000) << 8, NULL, refuse}, // non-turbo ratio
    {0xE1, 0xE1, "IA32_UMWAIT_CONTROL", FEATURE_WAITPKG, 0xFFFFFFFD, 0, FIELD(umwait_control), 0, NULL, NULL},
    // Limit of package C-states (3:0: none), I/O MWAIT redirection, lock, demotion and undemotion: nothing here goes so deep.
    {0xE2, 0xE2, "MSR_PKG_CST_CONFIG_CONTROL", FEATURE_MONITOR, 0x7E00840F, 0, FIELD(pkg_cst_config), 0, NULL, pkg_cst_config_write},
    {0xFE, 0xFE, "IA32_MTRRCAP", FEATURE_MTRR, 0, 0, NONE, MTRR_VARIABLE | 1 << 8 | 1 << 10, NULL, refuse},
    {0x10A, 0x10A, "IA32_ARCH_CAPABILITIES", FEATURE_ARCH_CAPABILITIES, 0, 0, NONE, 0, arch_capabilities_read, refuse},
    {0x10B, 0x10B, "IA32_FLUSH_CMD", FEATURE_FLUSH_L1D, 1, 0, NONE, 0, refuse_read, NULL}, // no cache holds anything
    {0x174, 0x174, "IA32_SYSENTER_CS", FEATURE_SEP, 0xFFFFFFFF, HIGH, FIELD(sysenter_cs), 0, NULL, NULL},
    {0x175, 0x175, "IA32_SYSENTER_ESP", FEATURE_SEP, ~0ull, 0, FIELD(sysenter_esp), 0, NULL, canonical_write},
    {0x176, 0x176, "IA32_SYSENTER_EIP", FEATURE_SEP, ~0ull, 0, FIELD(sysenter_eip), 0, NULL, canonical_write},
    {0x179, 0x179, "IA32_MCG_CAP", FEATURE_MCA, 0, 0, NONE, 0, NULL, refuse}, // no banks, no MCG_CTL
    {0x17A, 0x17A, "IA32_MCG_STATUS", FEATURE_MCA, 7, 0, FIELD(mcg_status), 0, NULL, NULL},
    {0x1A0, 0x1A0, "IA32_MISC_ENABLE", 0, MISC_ENABLE_WRITABLE, BIT(7) | BIT(11) | BIT(12), FIELD(misc_enable), 0, NULL,
     misc_enable_write},
    {0x1D9, 0x1D9, "IA32_DEBUGCTL", 0, 3, 0, FIELD(debugctl), 0, NULL, debugctl_write},
    // Bidirectional PROCHOT, C1E, energy-efficiency optimization and race to halt off.
    {0x1FC, 0x1FC, "MSR_POWER_CTL", FEATURE_MONITOR, BIT(0) | BIT(1) | BIT(19) | BIT(20), 0, FIELD(power_ctl), 0, NULL, NULL},
    {0x200, 0x200 + 2 * MTRR_VARIABLE - 1, "IA32_MTRR_PHYS", FEATURE_MTRR, ~0ull, 0, NONE, 0, mtrr_variable_read,
     mtrr_variable_write},
    {0x250, 0x250, "IA32_MTRR_FIX64K", FEATURE_MTRR, ~0ull, 0, NONE, 0, mtrr_fixed_read, mtrr_fixed_write},
    {0x258, 0x259, "IA32_MTRR_FIX16K", FEATURE_MTRR, ~0ull, 0, NONE, 0, mtrr_fixed_read, mtrr_fixed_write},
    {0x268, 0x26F, "IA32_MTRR_FIX4K", FEATURE_MTRR, ~0ull, 0, NONE, 0, mtrr_fixed_read, mtrr_fixed_write},
    {0x277, 0x277, "IA32_PAT", FEATURE_PAT, ~0ull, 0, FIELD(pat), 0, NULL, pat_write},
    {0x2FF, 0x2FF, "IA32_MTRR_DEF_TYPE", FEATURE_MTRR, ~0ull, 0, FIELD(mtrr_def_type), 0, NULL, mtrr_def_type_write},
    {0x480, 0x493, "IA32_VMX", FEATURE_VMX, 0, 0, NONE, 0, vmx_range_read, refuse},
    {0x6E0, 0x6E0, "IA32_TSC_DEADLINE", FEATURE_TSC_DEADLINE, ~0ull, 0, NONE, 0, board_read, board_write},
    {0x6E1, 0x6E1, "IA32_PKRS", FEATURE_PKS, 0xFFFFFFFF, 0, FIELD(pkrs), 0, NULL, pkrs_write},
    {0x800, 0x8FF, "x2APIC", FEATURE_X2APIC, ~0ull, 0, NONE, 0, board_read, board_write},
    {0xDA0, 0xDA0, "IA32_XSS", FEATURE_XSAVES, ~0ull, 0, FIELD(xss), 0, NULL, xss_write},
    {0xC0000080, 0xC0000080, "IA32_EFER", FEATURE_NONE, ~0ull, 0, FIELD(efer), 0, NULL, efer_write},
    {0xC0000081, 0xC0000081, "IA32_STAR", FEATURE_SYSCALL, ~0ull, 0, FIELD(star), 0, NULL, NULL},
    {0xC0000082, 0xC0000082, "IA32_LSTAR", FEATURE_LM, ~0ull, 0, FIELD(lstar), 0, NULL, canonical_write},
    {0xC0000083, 0xC0000083, "IA32_CSTAR", FEATURE_LM, ~0ull, 0, FIELD(cstar), 0, NULL, canonical_write},
    {0xC0000084, 0xC0000084, "IA32_FMASK", FEATURE_SYSCALL, 0xFFFFFFFF, HIGH, FIELD(fmask), 0, NULL, NULL},
    {0xC0000100, 0xC0000101, "IA32_FS_BASE", FEATURE_LM, ~0ull, 0, NONE, 0, fs_gs_read, canonical_write},
    {0xC0000102, 0xC0000102, "IA32_KERNEL_GS_BASE", FEATURE_LM, ~0ull, 0, FIELD(kernel_gs_base), 0, NULL, canonical_write},
    {0xC0000103, 0xC0000103, "IA32_TSC_AUX", FEATURE_RDTSCP, 0xFFFFFFFF, 0, FIELD(tsc_aux), 0, NULL, NULL},
};
// clang-format on

static const struct msr_row *find_row(const struct vcpu *v, u32 msr)
{
    size_t low = 0, high = ARRAY_LEN(msr_rows);
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (msr_rows[mid].last < msr)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == ARRAY_LEN(msr_rows) || msr < msr_rows[low].first) return NULL;
    return feature_on(v->features, msr_rows[low].feature) ? &msr_rows[low] : NULL;
}

static u64 *row_field(struct vcpu *v, const struct msr_row *r)
{
    return (u64 *)((u8 *)&v->s.msr + r->offset);
}

bool msr_read(struct vcpu *v, u32 msr, u64 *value)
{
    const struct msr_row *r = find_row(v, msr);
    if (!r) {
        unimplemented(v, "rdmsr", msr);
        return false;
    }
    if (r->read) return r->read(v, msr, value);
    *value = r->offset == NONE ? r->constant : *row_field(v, r);
    return true;
}

bool msr_peek(struct vcpu *v, u32 msr, u64 *value, const char **name)
{
    const struct msr_row *r = find_row(v, msr);
    if (!r) return false;
    *name = r->name;
    if (r->read == board_read || r->read == tsc_read) return false; // the board's clock moves on
    return msr_read(v, msr, value);
}

bool msr_write(struct vcpu *v, u32 msr, u64 value)
{
    const struct msr_row *r = find_row(v, msr);
    if (!r) {
        unimplemented(v, "wrmsr", msr);
        return false;
    }
    if (value & ~(r->writable | r->fixed_or_ro)) return false;
    if (r->write) return r->write(v, msr, value);
    if (r->offset != NONE) *row_field(v, r) = (*row_field(v, r) & ~r->writable) | (value & r->writable);
    return true;
}

void msr_reset(struct vcpu *v, bool init)
{
    struct msr_state *m = &v->s.msr;
    m->efer = 0; // INIT clears this one too (SDM table 11-1)
    if (init) return;
    memset(m, 0, sizeof *m);
    m->pat = 0x0007040600070406ull;
    // Fast strings on, BTS and PEBS unavailable, MONITOR on.
    m->misc_enable = BIT(0) | BIT(11) | BIT(12) | (feature_on(v->features, FEATURE_MONITOR) ? BIT(18) : 0);
    m->bios_sign_id = 1ull << 32;
    m->feature_control = v->features->feature_control;
    m->apic_base = CPU_APIC_BASE | BIT(11) | (v->index == 0 ? BIT(8) : 0);
    m->tsc_offset = -(v->s.units * CPU_TICKS_PER_UNIT + v->s.skipped); // the TSC starts from 0
}

void msr_firmware_defaults(struct vcpu *v)
{
    struct msr_state *m = &v->s.msr;
    if (!feature_on(v->features, FEATURE_MTRR)) return;
    u64 mask = BIT(v->features->maxphyaddr) - 1;
    for (unsigned i = 0; i < 3; i++) m->mtrr_fix[i] = 0x0606060606060606ull;  // RAM below 640 KiB
    m->mtrr_fix[2] = 0;                                                       // A0000h: display memory
    for (unsigned i = 3; i < 11; i++) m->mtrr_fix[i] = 0x0505050505050505ull; // C0000h: read-only images
    // Everything is write-back but the hole for devices below 4 GiB.
    m->mtrr_phys_base[0] = PHYS_HOLE_FIRST;
    m->mtrr_phys_mask[0] = (mask & ~(PHYS_HOLE_END - PHYS_HOLE_FIRST - 1)) | BIT(11);
    m->mtrr_def_type = 6 | BIT(10) | BIT(11);
    cpu_drop_fast(v);
}

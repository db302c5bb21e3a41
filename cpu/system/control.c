// Control registers: what may be written, and what a write does to mode, translations and PDPTEs.
//
// Callers merge guest/host masks first (vmx_merge_cr0, vmx_merge_cr4): what arrives here is the real value.
#include "cpu/system/system.h"
#include "cpu/system/cpuid.h"
#include "cpu/instructions/x87.h"
#include "cpu/state/xcomponent.h"
#include "vmx/intercept.h"

bool cpu_canonical(const struct vcpu *v, u64 a)
{
    return laddr_canonical(a, (v->s.cr4 & CR4_LA57) ? 57 : 48);
}
bool cpu_canonical_max(const struct vcpu *v, u64 a)
{
    return laddr_canonical(a, feature_on(v->features, FEATURE_LA57) ? 57 : 48);
}

// All entries of this VPID and view; fast tables follow.
static void flush_all(struct vcpu *v)
{
    tlb_flush_pcids(&v->s.itlb, &v->d.mmu, true);
    tlb_flush_pcids(&v->s.dtlb, &v->d.mmu, true);
}
static void flush_pcid(struct vcpu *v, u16 pcid)
{
    tlb_flush_context(&v->s.itlb, &v->d.mmu, pcid);
    tlb_flush_context(&v->s.dtlb, &v->d.mmu, pcid);
}

// Reads the PDPTEs at `cr3` for PAE paging. #GP(0) if one is bad; an EPT violation or misconfiguration exits.
static void read_pdptes(struct vcpu *v, u64 cr3, u64 pdpte[4])
{
    struct walk_result r = {.status = WALK_OK};
    if (walk_load_pdptes(v->phys, &v->d.mmu, cr3, pdpte, &r)) return;
    if (r.status != WALK_OK) vmx_raise_ept(v, &r, laddr_of(0), false);
    raise_gp0(v);
}

static void set_pdptes(struct vcpu *v, const u64 pdpte[4])
{
    for (unsigned i = 0; i < 4; i++) v->s.pdpte[i] = pdpte[i];
}

// SDM "MOV—Move to/from Control Registers" and 2.5; consistency of IA-32e mode: 11.8.5.
void cr0_write(struct vcpu *v, u64 value)
{
    struct vcpu_state *s = &v->s;
    u64 old = s->cr0, pdpte[4];
    if (value >> 32) raise_gp0(v);
    // reserved: ignored
    value &= CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
    value |= CR0_ET;
    if ((value & CR0_NW) && !(value & CR0_CD)) raise_gp0(v);
    if ((value & CR0_PG) && !(value & CR0_PE)) raise_gp0(v);
    if (!vmx_cr0_allowed(v, value)) raise_gp0(v);
    u64 changed = old ^ value, efer = s->msr.efer;
    if (changed & CR0_PG) {
        if (value & CR0_PG) {
            if (efer & EFER_LME) {
                if (!(s->cr4 & CR4_PAE) || (s->seg[SEG_CS].ar & AR_L)) raise_gp0(v);
                if (!(s->seg[SEG_TR].ar & 8)) raise_gp0(v); // a 16-bit TSS
                efer |= EFER_LMA;
            }
        } else {
            if ((s->cr4 & CR4_PCIDE) || cpu_long64(v)) raise_gp0(v);
            efer &= ~(u64)EFER_LMA;
        }
    }
    bool pae = (value & CR0_PG) && (s->cr4 & CR4_PAE) && !(efer & EFER_LMA);
    bool load = pae && (changed & (CR0_PG | CR0_CD | CR0_NW));
    if (load) read_pdptes(v, s->cr3, pdpte);

    s->cr0 = value;
    s->msr.efer = efer;
    if (load) set_pdptes(v, pdpte);
    if (changed & CR0_PG) flush_all(v);
    cpu_mode_changed(v);
    if (changed & CR0_PG) cpu_tlb_flushed(v);
    if (value & ~old & CR0_NE) x87_error_gone(v); // FERR# is not asserted then
}

// Raises what cr3_write would for the PDPTEs of a task's CR3.
void cr3_check(struct vcpu *v, u64 value)
{
    u64 pdpte[4];
    if ((v->s.cr0 & CR0_PG) && (v->s.cr4 & CR4_PAE) && !cpu_lma(v)) read_pdptes(v, value, pdpte);
}

void cr3_write(struct vcpu *v, u64 value)
{
    struct vcpu_state *s = &v->s;
    bool pcide = s->cr4 & CR4_PCIDE, lma = cpu_lma(v), keep = false;
    u64 pdpte[4];
    if (cpu_long64(v) || lma) {
        if (pcide) {
            keep = value >> 63;
            value &= ~BIT(63);
        }
        if (value >> v->features->maxphyaddr) raise_gp0(v);
    } else
        value = (u32)value;
    bool pae = (s->cr0 & CR0_PG) && (s->cr4 & CR4_PAE) && !lma;
    if (pae) {
        read_pdptes(v, value, pdpte);
        set_pdptes(v, pdpte);
    }
    s->cr3 = value;
    if (unlikely(v->tlb_mode == TLB_STRICT)) keep = false; // it may be ignored
    if (!keep) flush_pcid(v, pcide ? value & 0xFFF : 0);
    cpu_context_changed(v);
    if (!keep) cpu_tlb_flushed(v);
}

u64 cr4_valid_mask(const struct vcpu *v)
{
    // clang-format off
    static const struct { u8 feature; u32 bits; } t[] = {
        {FEATURE_VME, CR4_VME | CR4_PVI}, {FEATURE_TSC, CR4_TSD}, {FEATURE_DE, CR4_DE}, {FEATURE_PSE, CR4_PSE},
        {FEATURE_PAE, CR4_PAE}, {FEATURE_MCE, CR4_MCE}, {FEATURE_PGE, CR4_PGE}, {FEATURE_NONE, CR4_PCE},
        {FEATURE_FXSR, CR4_OSFXSR}, {FEATURE_SSE, CR4_OSXMMEXCPT}, {FEATURE_UMIP, CR4_UMIP}, {FEATURE_LA57, CR4_LA57},
        {FEATURE_VMX, CR4_VMXE}, {FEATURE_FSGSBASE, CR4_FSGSBASE}, {FEATURE_PCID, CR4_PCIDE}, {FEATURE_XSAVE, CR4_OSXSAVE},
        {FEATURE_SMEP, CR4_SMEP}, {FEATURE_SMAP, CR4_SMAP}, {FEATURE_PKU, CR4_PKE}, {FEATURE_PKS, CR4_PKS}};
    // clang-format on
    u64 m = 0;
    for (unsigned i = 0; i < ARRAY_LEN(t); i++)
        if (feature_on(v->features, t[i].feature)) m |= t[i].bits;
    return m;
}

void cr4_write(struct vcpu *v, u64 value)
{
    struct vcpu_state *s = &v->s;
    u64 old = s->cr4, changed = old ^ value, pdpte[4];
    if (value & ~cr4_valid_mask(v)) raise_gp0(v);
    bool lma = cpu_lma(v);
    if (lma && (!(value & CR4_PAE) || (changed & CR4_LA57))) raise_gp0(v);
    if ((value & ~old & CR4_PCIDE) && (!lma || (s->cr3 & 0xFFF))) raise_gp0(v);
    if (!vmx_cr4_allowed(v, value)) raise_gp0(v);
    // SDM 5.4.1: what reloads the PDPTEs.
    bool load = (s->cr0 & CR0_PG) && (value & CR4_PAE) && !lma &&
                (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP));
    if (load) {
        read_pdptes(v, s->cr3, pdpte);
        set_pdptes(v, pdpte);
    }
    // SDM 5.10.4.1. PSE and LA57 change how entries are read, so they flush as PAE does.
    bool flush = (changed & (CR4_PGE | CR4_PAE | CR4_PSE | CR4_LA57)) || (old & ~value & CR4_PCIDE) ||
                 (value & ~old & CR4_SMEP);
    if (flush) flush_all(v);
    s->cr4 = value;
    cpu_mode_changed(v);
    if (flush) cpu_tlb_flushed(v);
}

void xcr0_write(struct vcpu *v, u64 value)
{
    if (!(value & XCOMP_X87) || value & ~xcomponents_user(v->features)) raise_gp0(v);
    // AVX state wants SSE state (SDM Vol. 1, 13.3)
    if ((value & (XCOMP_SSE | XCOMP_AVX)) == XCOMP_AVX) raise_gp0(v);
    v->s.xcr0 = value;
    cpu_mode_changed(v);
}

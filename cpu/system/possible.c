// Whether a saved state can be a processor's: what the code relies on without asking is asked here, before
// the state is put in place. A guest never makes another one; the state of a file may be anything.
#include "cpu/state/mode.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/system.h"
#include "mmu/mtype.h"
#include "vmx/intercept.h"

// A bool is 0 or 1; reading another byte as one is undefined.
static bool is_bool(const bool *b) { return *(const u8 *)b <= 1; }

static const char *flags_impossible(const struct vcpu_state *s)
{
    const struct event *e = &s->inject;
    if (s->zero) return "the register that is always 0 is not";
    if (s->fl != fl_pack(fl_unpack(s->fl)) || (s->rflags & ~0x3F7F00ull) != 2) return "RFLAGS";
    if (!is_bool(&s->nmi_pending) || !is_bool(&s->init_pending) || !is_bool(&s->sipi_pending) ||
        !is_bool(&s->virtual_nmi_blocked) || !is_bool(&s->shadow_one) || !is_bool(&s->intr_line) ||
        !is_bool(&s->mwait_masked))
        return "what waits at its boundary";
    if (s->blocking & ~15u || s->activity > ACTIVITY_MWAIT) return "its activity, or what it blocks";
    if (!is_bool(&e->has_error) || !is_bool(&e->injected) || !is_bool(&e->trap) ||
        e->kind > EVENT_INTERRUPTION || e->insn_len > 15 || e->type > EVT_OTHER)
        return "the event that is injected";
    return NULL;
}

static const char *control_impossible(const struct vcpu *v, const struct vcpu_state *s)
{
    bool pe = s->cr0 & CR0_PE, pg = s->cr0 & CR0_PG, lma = s->msr.efer & EFER_LMA;
    if (s->cr0 & ~0xE005003Full || (pg && !pe) || (s->cr0 & CR0_NW && !(s->cr0 & CR0_CD))) return "CR0";
    if (s->cr4 & ~cr4_valid_mask(v)) return "CR4";
    if (s->msr.efer & ~efer_valid(v->features, 0)) return "IA32_EFER"; // NXE may be older than XD Bit Disable
    if (lma != (pg && s->msr.efer & EFER_LME) || (lma && !(s->cr4 & CR4_PAE)))
        return "IA-32e mode without what it needs";
    if (s->rflags & FL_VM && (!pe || lma))
        return "virtual-8086 mode without protected mode, or in IA-32e mode";
    if (s->mxcsr & ~0xFFFFu) return "MXCSR";
    bool avx_alone = (s->xcr0 & (XCOMP_SSE | XCOMP_AVX)) == XCOMP_AVX;
    if (s->xcr0 & ~xcomponents_user(v->features) || !(s->xcr0 & XCOMP_X87) || avx_alone) return "XCR0";
    if (!mtype_pat_valid(s->msr.pat)) return "IA32_PAT";
    return NULL;
}

static const char *segments_impossible(const struct vcpu *v, const struct vcpu_state *s)
{
    bool lma = s->msr.efer & EFER_LMA;
    u32 cs = s->seg[SEG_CS].ar;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        if (s->seg[i].ar & ~0x1F0FFu || !cpu_canonical_max(v, s->seg[i].base)) return "a segment";
    if (cs & AR_UNUSABLE || (lma && cs & AR_L && cs & AR_DB)) return "CS";
    if (!(lma && cs & AR_L) && s->rip >> 32) return "RIP beyond 4 GiB, outside of 64-bit mode";
    if (s->gdtr.limit > 0xFFFF || s->idtr.limit > 0xFFFF) return "GDTR or IDTR";
    return NULL;
}

const char *cpu_state_impossible(const struct vcpu *v, const struct vcpu_state *s)
{
    const char *bad = flags_impossible(s);
    if (!bad) bad = control_impossible(v, s);
    if (!bad) bad = segments_impossible(v, s);
    if (!bad) bad = vmx_state_impossible(v, &s->vmx);
    if (!bad && !(tlb_possible(&s->itlb) && tlb_possible(&s->dtlb))) bad = "a TLB's contexts";
    return bad;
}

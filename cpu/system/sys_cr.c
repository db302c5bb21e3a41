// Instructions that read and write control and debug registers, and that invalidate translations.
#include "cpu/system/system.h"
#include "cpu/state/trace.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "cpu/state/cost.h"
#include "vmx/intercept.h"

static u64 gpr_mask(const struct vcpu *v, u64 x) { return cpu_long64(v) ? x : (u32)x; }

void op_mov_from_cr(struct vcpu *v, const struct insn *in)
{
    u64 x = 0;
    switch (in->r) {
    case 0: x = vmx_read_cr0(v); break;
    case 2: x = v->s.cr2; break;
    case 3: x = v->s.cr3; break;
    case 4: x = vmx_read_cr4(v); break;
    case 8:
        if (vmx_read_cr8(v, &x)) break;
        x = v->board ? v->board->tpr_get(v->board_opaque, v->index) >> 4 : 0;
        break;
    }
    REG64(v, in->m) = gpr_mask(v, x);
}

// The register has its new value.
static void written(const struct vcpu *v, unsigned n, u64 value)
{
    struct trace_event t;
    if (likely(!trace_wants(v, TRACE_CR))) return;
    trace_begin(v, &t, TRACE_CR);
    t.addr = n, t.value = value, t.write = true;
    trace_emit(v, &t);
}

void op_mov_to_cr(struct vcpu *v, const struct insn *in)
{
    u64 x = gpr_mask(v, REG64(v, in->m));
    switch (in->r) {
    case 0: cr0_write(v, vmx_merge_cr0(v, x)); break;
    case 2: v->s.cr2 = x; break;
    case 3: cr3_write(v, x); break;
    case 4: cr4_write(v, vmx_merge_cr4(v, x)); break;
    case 8:
        if (x >> 4) raise_gp0(v);
        if (!vmx_write_cr8(v, x) && v->board) {
            v->board->tpr_set(v->board_opaque, v->index, (u8)(x << 4));
            board_done(v);
        }
        break;
    }
    written(v, in->r, x);
}

void op_lmsw(struct vcpu *v, const struct insn *in)
{
    laddr la = laddr_of(0);
    u16 x;
    if (in->mem) {
        la = insn_linear(v, in, 2, ACC_READ);
        x = (u16)lin_load(v, la, 2);
    } else
        x = REG16(v, in->m);
    vmx_intercept_lmsw(v, in, x, in->mem, la);
    // PE can be set and not cleared; the host's bits keep their value.
    u64 old = vmx_read_cr0(v), value = (old & ~(u64)(CR0_MP | CR0_EM | CR0_TS)) | (x & 0xF);
    cr0_write(v, (vmx_merge_cr0(v, value) & 0xF) | (v->s.cr0 & ~0xFull));
    written(v, 0, value);
}

void op_smsw(struct vcpu *v, const struct insn *in)
{
    u64 x = vmx_read_cr0(v);
    if (in->mem)
        lin_store(v, insn_linear(v, in, 2, ACC_WRITE), 2, x & 0xFFFF);
    else
        reg_set(v, in->m, in->osz, x);
}

void op_clts(struct vcpu *v, const struct insn *in)
{
    u64 value = vmx_merge_cr0(v, vmx_read_cr0(v) & ~(u64)CR0_TS);
    v->s.cr0 = (v->s.cr0 & ~(u64)CR0_TS) | (value & CR0_TS);
    cpu_mode_changed(v);
    written(v, 0, value);
}

// ---- debug registers ----

static unsigned dr_number(struct vcpu *v, const struct insn *in)
{
    unsigned n = in->r;
    if (n == 4 || n == 5) {
        if (v->s.cr4 & CR4_DE) raise_ud(v);
        n += 2; // aliases
    }
    if (v->s.dr[7] & DR7_GD) { // general detect
        struct event e = {
            .kind = EVENT_INTERRUPTION, .vector = VEC_DB, .type = EVT_HW_EXCEPTION, .dr6 = DR6_BD};
        raise_event(v, &e);
    }
    return n;
}

void op_mov_from_dr(struct vcpu *v, const struct insn *in)
{
    REG64(v, in->m) = gpr_mask(v, v->s.dr[dr_number(v, in)]);
}

void op_mov_to_dr(struct vcpu *v, const struct insn *in)
{
    unsigned n = dr_number(v, in);
    u64 x = gpr_mask(v, REG64(v, in->m));
    if (n >= 6 && x >> 32) raise_gp0(v);
    if (n == 6)
        x = (x & 0xE00F) | 0xFFFF0FF0;
    else if (n == 7)
        x = (x & 0xFFFF23FF) | 0x400;
    v->s.dr[n] = x;
    debug_changed(v);
}

// ---- translations ----

void op_invlpg(struct vcpu *v, const struct insn *in)
{
    u64 at = insn_ea(v, in);
    if (!cpu_long64(v))
        at = (u32)(at + v->s.seg[in->seg].base);
    else if (in->seg >= SEG_FS)
        at += v->s.seg[in->seg].base;
    if (cpu_long64(v) && !cpu_canonical_max(v, at)) return; // no operation
    laddr la = laddr_of(at);
    tlb_invlpg(&v->s.itlb, la);
    tlb_invlpg(&v->s.dtlb, la);
    if (unlikely(v->d.mmu.cache != NULL)) kept_directories_drop(&v->s.kept, cpu_tlb_tag(v));
    cpu_tlb_flushed(v);
}

void op_invpcid(struct vcpu *v, const struct insn *in)
{
    u64 type = gpr_mask(v, REG64(v, in->r)), d[2];
    if (type > 3) raise_gp0(v);
    lin_load_n(v, insn_linear(v, in, 16, ACC_READ), d, 16);
    u16 pcid = d[0] & 0xFFF;
    if (d[0] >> 12) raise_gp0(v);
    if (type < 2 && pcid && !(v->s.cr4 & CR4_PCIDE)) raise_gp0(v);
    if (type == 0 && !cpu_canonical_max(v, d[1])) raise_gp0(v);
    struct tlb *t[2] = {&v->s.itlb, &v->s.dtlb};
    // (Types 1 to 3 change the tags.)
    if (unlikely(v->d.mmu.cache != NULL) && type == 0) kept_directories_drop(&v->s.kept, 0);
    for (unsigned i = 0; i < 2; i++) switch (type) {
        case 0: tlb_flush_address(t[i], &v->d.mmu, pcid, laddr_of(d[1])); break;
        case 1: tlb_flush_context(t[i], &v->d.mmu, pcid); break;
        case 2: tlb_flush_pcids(t[i], &v->d.mmu, true); break;
        default: tlb_flush_pcids(t[i], &v->d.mmu, false); break;
        }
    cpu_tlb_flushed(v);
}

// Caches are coherent with memory here: nothing to write back, nothing to lose.
void op_wbinvd(struct vcpu *v, const struct insn *in) { cpu_charge(v, COST_WBINVD); }

void op_clflush(struct vcpu *v, const struct insn *in)
{
    lin_probe_read(v, insn_linear(v, in, 1, ACC_READ), 1); // checked as a load of a byte
}

// ---- PKRU, XCR0 ----

void pkru_write(struct vcpu *v, u32 value)
{
    v->s.pkru = value;
    cpu_context_changed(v);
}

// RDPKRU
void op_rdpkru(struct vcpu *v, const struct insn *in)
{
    if ((u32)v->s.gpr[RCX]) raise_gp0(v);
    v->s.gpr[RAX] = v->s.pkru;
    v->s.gpr[RDX] = 0;
}

// WRPKRU
void op_wrpkru(struct vcpu *v, const struct insn *in)
{
    if ((u32)v->s.gpr[RCX] || (u32)v->s.gpr[RDX]) raise_gp0(v);
    pkru_write(v, (u32)v->s.gpr[RAX]);
}

void op_xgetbv(struct vcpu *v, const struct insn *in)
{
    u32 index = (u32)v->s.gpr[RCX];
    u64 x;
    if (index == 0)
        x = v->s.xcr0;
    else if (index == 1 && feature_on(v->features, FEATURE_XGETBV1))
        x = v->s.xcr0 & xsave_in_use(v);
    else
        raise_gp0(v);
    v->s.gpr[RAX] = (u32)x;
    v->s.gpr[RDX] = x >> 32;
}

void op_xsetbv(struct vcpu *v, const struct insn *in)
{
    if ((u32)v->s.gpr[RCX] != 0) raise_gp0(v);
    xcr0_write(v, (u64)(u32)v->s.gpr[RDX] << 32 | (u32)v->s.gpr[RAX]);
}

// The host's MXCSR on loan to the guest, and SIMD floating-point exceptions with a mask clear.
#include "cpu/engine/fp.h"

#include "cpu/host/mxcsr.h"

#define HOST_VALID (1ull << 32) // d.host_mxcsr_valid: this bit and the host's own value below it

bool fp_host_capable(void) { return host_has_sse(); }

static bool all_masked(const struct vcpu *v) { return (v->s.mxcsr & MXCSR_MASKS) == MXCSR_MASKS; }

void fp_enter(struct vcpu *v)
{
    v->d.host_mxcsr_valid = HOST_VALID | host_get_mxcsr(v);
    host_set_mxcsr(v, v->s.mxcsr | MXCSR_MASKS);
    host_clear_x87();
}

void fp_sync(struct vcpu *v)
{
    if (v->d.host_mxcsr_valid && all_masked(v)) v->s.mxcsr = host_get_mxcsr(v) & MXCSR_VALID;
}

void fp_leave(struct vcpu *v)
{
    fp_sync(v);
    if (v->d.host_mxcsr_valid) host_set_mxcsr(v, (u32)v->d.host_mxcsr_valid);
    v->d.host_mxcsr_valid = 0;
}

void fp_set_mxcsr(struct vcpu *v, u32 value)
{
    bool was = all_masked(v);
    v->s.mxcsr = value;
    if (v->d.host_mxcsr_valid) host_set_mxcsr(v, value | MXCSR_MASKS);
    if (all_masked(v) != was) cpu_mode_changed(v);
}

void fp_begin(struct vcpu *v)
{
    u32 x = (v->s.mxcsr | MXCSR_MASKS) & ~0x3Fu;
    // flush-to-zero needs a masked underflow (SDM Vol. 1, 10.2.3.3)
    if (!(v->s.mxcsr & MXCSR_UM)) x &= ~(u32)MXCSR_FTZ;
    host_set_mxcsr(v, x);
}

static bool tiny16(u16 x) { return !(x & 0x7C00) && (x & 0x3FF); }
static bool tiny32(u32 x) { return !(x & 0x7F800000) && (x & 0x7FFFFF); }
static bool tiny64(u64 x) { return !(x & 0x7FF0000000000000ull) && (x & 0xFFFFFFFFFFFFFull); }

static bool result_tiny(const void *result, enum fp_lanes lanes)
{
    const u32 *s = result;
    const u64 *d = result;
    switch ((unsigned)lanes & FP_SHAPE) {
    case FP_SS: return tiny32(s[0]);
    case FP_PS: return tiny32(s[0]) || tiny32(s[1]) || tiny32(s[2]) || tiny32(s[3]);
    case FP_SD: return tiny64(d[0]);
    case FP_PD: return tiny64(d[0]) || tiny64(d[1]);
    case FP_PS_256:
    case FP_PD_256: {
        enum fp_lanes half = (lanes & FP_SHAPE) == FP_PS_256 ? FP_PS : FP_PD;
        return result_tiny(s, half) || result_tiny(s + 4, half);
    }
    case FP_PH:
        for (unsigned i = 0; i < 8; i++)
            if (tiny16(((const u16 *)result)[i])) return true;
        break;
    default: break;
    }
    return false;
}

void fp_end(struct vcpu *v, const void *result, enum fp_lanes lanes, const struct fp_operands *from)
{
    enum { PRE = MXCSR_IE | MXCSR_DE | MXCSR_ZE };
    u32 flags = host_get_mxcsr(v) & 0x3F, masks = v->s.mxcsr >> 7 & 0x3F;
    // Unmasked, underflow is signalled for a tiny result even if it is exact (SDM Vol. 1, 4.9.1.5).
    if (!(masks & MXCSR_UE) && result_tiny(result, lanes)) flags |= MXCSR_UE;
    u32 bad = flags & ~masks;
    // the operation did not run: nothing of its result is reported (SDM Vol. 1, 11.5.3)
    if (bad & PRE) flags &= PRE;
    // Masked, an overflow and an underflow that is signalled are inexact, which is what the host's PE says.
    // Unmasked, it is about the result as it is with an exponent without bounds (SDM Vol. 1, 4.9.1.4-6).
    if (bad & (MXCSR_OE | MXCSR_UE) && !(flags & masks & (MXCSR_OE | MXCSR_UE)) && !(bad & PRE)) {
        flags &= ~(u32)MXCSR_PE;
        if (fp_inexact(from, lanes, v->s.mxcsr & MXCSR_DAZ)) flags |= MXCSR_PE;
    }
    v->s.mxcsr |= flags;
    if (!bad) return;
    if (v->s.cr4 & CR4_OSXMMEXCPT) raise_fault(v, VEC_XM);
    raise_ud(v);
}

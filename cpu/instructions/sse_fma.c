// FMA and F16C: the host's own instructions, and not offered where it has them not (cpu_feature_possible). As
// those of SSE they work on 128 bits, and 256 are two times that.
#include "cpu/instructions/sse.h"

#define FMA_PACKED(ps, pd, op) \
    FMA_CORE_X(ps) \
    FMA_CORE_X(pd) \
    BODY_L(body_##ps, vex_fp, ps##_core, SHAPE_X, FP_PS | (op)) \
    BODY_L(body_##pd, vex_fp, pd##_core, SHAPE_X, FP_PD | (op))
#define FMA(ps, pd, ss, sd, op) \
    FMA_PACKED(ps, pd, op) \
    FMA_CORE_M(ss, S32) \
    FMA_CORE_M(sd, S64) \
    BODY_LIG(body_##ss, vex_fp, ss##_core, SHAPE_SCALAR(4), FP_SS | (op)) \
    BODY_LIG(body_##sd, vex_fp, sd##_core, SHAPE_SCALAR(8), FP_SD | (op))

FMA_PACKED(vfmaddsub132ps, vfmaddsub132pd, FP_132 | FP_EVEN_SUB)
FMA_PACKED(vfmsubadd132ps, vfmsubadd132pd, FP_132 | FP_ODD_SUB)
FMA(vfmadd132ps, vfmadd132pd, vfmadd132ss, vfmadd132sd, FP_132)
FMA(vfmsub132ps, vfmsub132pd, vfmsub132ss, vfmsub132sd, FP_132 | FP_SUB)
FMA(vfnmadd132ps, vfnmadd132pd, vfnmadd132ss, vfnmadd132sd, FP_132 | FP_SUB)
FMA(vfnmsub132ps, vfnmsub132pd, vfnmsub132ss, vfnmsub132sd, FP_132)
FMA_PACKED(vfmaddsub213ps, vfmaddsub213pd, FP_213 | FP_EVEN_SUB)
FMA_PACKED(vfmsubadd213ps, vfmsubadd213pd, FP_213 | FP_ODD_SUB)
FMA(vfmadd213ps, vfmadd213pd, vfmadd213ss, vfmadd213sd, FP_213)
FMA(vfmsub213ps, vfmsub213pd, vfmsub213ss, vfmsub213sd, FP_213 | FP_SUB)
FMA(vfnmadd213ps, vfnmadd213pd, vfnmadd213ss, vfnmadd213sd, FP_213 | FP_SUB)
FMA(vfnmsub213ps, vfnmsub213pd, vfnmsub213ss, vfnmsub213sd, FP_213)
FMA_PACKED(vfmaddsub231ps, vfmaddsub231pd, FP_231 | FP_EVEN_SUB)
FMA_PACKED(vfmsubadd231ps, vfmsubadd231pd, FP_231 | FP_ODD_SUB)
FMA(vfmadd231ps, vfmadd231pd, vfmadd231ss, vfmadd231sd, FP_231)
FMA(vfmsub231ps, vfmsub231pd, vfmsub231ss, vfmsub231sd, FP_231 | FP_SUB)
FMA(vfnmadd231ps, vfnmadd231pd, vfnmadd231ss, vfnmadd231sd, FP_231 | FP_SUB)
FMA(vfnmsub231ps, vfnmsub231pd, vfnmsub231ss, vfnmsub231sd, FP_231)

// ---- half precision ----
FP_CORE_M(vcvtph2ps_core, "vcvtph2ps", S64)
BODY_L(body_vcvtph2ps, vex_fp, vcvtph2ps_core, SHAPE_WIDEN(8), FP_NONE)

FP_IMM_TABLE(vcvtps2ph, "0xC4, 0xE3, 0x79, 0x1D, 0xC8")
void op_vcvtps2ph(struct vcpu *v, const struct insn *in)
{
    struct x128 d = {{0}}, high = {{0}};
    bool wide = in->osz == W64, unmasked = v->d.mode & MODE_FPUNMASK;
    unsigned size = wide ? 16 : 8;
    if (unmasked) fp_begin(v);
    FP_IMM_CALL(v, vcvtps2ph, in->imm, &d, &d, sse_reg(v, in->r));
    if (wide) FP_IMM_CALL(v, vcvtps2ph, in->imm, &high, &high, ymm_high(v, in->r));
    d.q[1] |= high.q[0];
    if (unmasked)
        fp_end(v, &d, FP_PH | FP_NARROW,
               &(struct fp_operands){.s = {sse_reg(v, in->r), wide ? ymm_high(v, in->r) : NULL}});
    // On silicon the conversion is done when its store faults, and MXCSR has its flags; and no #AC comes.
    if (in->mem) {
        lin_store_n(v, insn_linear(v, in, size, ACC_WRITE), &d, size);
        return;
    }
    *sse_reg(v, in->m) = d;
    sse_put(ymm_high(v, in->m), 0, 0);
}

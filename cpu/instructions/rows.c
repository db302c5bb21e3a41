// clang-format off
// The instruction table: one row a form, gathered from the .def files by area. Decoding looks rows up by opcode map,
// opcode, mandatory prefix, ModRM and feature (cpu/engine/decode.c); a row that does not match, is not in the mode,
// or whose feature is off is #UD (or the row that the opcode means without that feature, listed after it).
//
// A line reads like the manual's opcode map:
//   ROW(mnemonic, operands, opcode, body, what else there is to say, by name)
// with a body that runs in the checked form only, or FAST_ROW with one that has tail-threaded wrappers too.
// clang-format on
#include <stdio.h>

#include "cpu/engine/insn.h"
#include "cpu/system/cpuid.h"
#include "vmx/controls.h"
#include "vmx/exit_reason.h"
#include "vmx/intercept.h"

// ---- operands: kind and size, then what is done with it (read, unless it says W: written, or RW) ----
// clang-format off
enum {
    Eb = OPERAND_CODE(KIND_E, SIZE_B), Ew = OPERAND_CODE(KIND_E, SIZE_W), Ed = OPERAND_CODE(KIND_E, SIZE_D), Ev = OPERAND_CODE(KIND_E, SIZE_V),
    Ey = OPERAND_CODE(KIND_E, SIZE_Y), E = OPERAND_CODE(KIND_E, SIZE_NONE), RdMb = OPERAND_CODE(KIND_E, SIZE_D_OR_B),
    RdMw = OPERAND_CODE(KIND_E, SIZE_D_OR_W),
    Gb = OPERAND_CODE(KIND_G, SIZE_B), Gw = OPERAND_CODE(KIND_G, SIZE_W), Gd = OPERAND_CODE(KIND_G, SIZE_D), Gv = OPERAND_CODE(KIND_G, SIZE_V),
    Gy = OPERAND_CODE(KIND_G, SIZE_Y), By = OPERAND_CODE(KIND_B, SIZE_Y), Hx = OPERAND_CODE(KIND_H, SIZE_X), Lx = OPERAND_CODE(KIND_L, SIZE_X),
    Rd = OPERAND_CODE(KIND_R, SIZE_D), Rv = OPERAND_CODE(KIND_R, SIZE_V), Ry = OPERAND_CODE(KIND_R, SIZE_Y),
    Zb = OPERAND_CODE(KIND_Z, SIZE_B), Zv = OPERAND_CODE(KIND_Z, SIZE_V), // the opcode's low bits name a register
    Ib = OPERAND_CODE(KIND_I, SIZE_B), Iw = OPERAND_CODE(KIND_I, SIZE_W), Iz = OPERAND_CODE(KIND_I, SIZE_Z), Iv = OPERAND_CODE(KIND_I, SIZE_V),
    Jb = OPERAND_CODE(KIND_J, SIZE_B), Jz = OPERAND_CODE(KIND_J, SIZE_Z), Ap = OPERAND_CODE(KIND_A, SIZE_P),
    Ob = OPERAND_CODE(KIND_O, SIZE_B), Ov = OPERAND_CODE(KIND_O, SIZE_V), Fv = OPERAND_CODE(KIND_F, SIZE_V),
    M = OPERAND_CODE(KIND_M, SIZE_NONE), Mb = OPERAND_CODE(KIND_M, SIZE_B), Mw = OPERAND_CODE(KIND_M, SIZE_W), Md = OPERAND_CODE(KIND_M, SIZE_D),
    Mq = OPERAND_CODE(KIND_M, SIZE_Q), Mdq = OPERAND_CODE(KIND_M, SIZE_DQ), Mx = OPERAND_CODE(KIND_M, SIZE_X), Mv = OPERAND_CODE(KIND_M, SIZE_V),
    My = OPERAND_CODE(KIND_M, SIZE_Y), Mt = OPERAND_CODE(KIND_M, SIZE_T), Mp = OPERAND_CODE(KIND_M, SIZE_P), Ma = OPERAND_CODE(KIND_M, SIZE_A),
    Ms = OPERAND_CODE(KIND_M, SIZE_S),
    Sw = OPERAND_CODE(KIND_S, SIZE_W), Cd = OPERAND_CODE(KIND_C, SIZE_D), Dd = OPERAND_CODE(KIND_D, SIZE_D),
    Xb = OPERAND_CODE(KIND_X, SIZE_B), Xv = OPERAND_CODE(KIND_X, SIZE_V), Xz = OPERAND_CODE(KIND_X, SIZE_Z),
    Yb = OPERAND_CODE(KIND_Y, SIZE_B), Yv = OPERAND_CODE(KIND_Y, SIZE_V), Yz = OPERAND_CODE(KIND_Y, SIZE_Z),
    Vx = OPERAND_CODE(KIND_V, SIZE_X), Vq = OPERAND_CODE(KIND_V, SIZE_Q), Ux = OPERAND_CODE(KIND_U, SIZE_X), Uq = OPERAND_CODE(KIND_U, SIZE_Q),
    Wx = OPERAND_CODE(KIND_W, SIZE_X), Wdq = OPERAND_CODE(KIND_W, SIZE_DQ), Wb = OPERAND_CODE(KIND_W, SIZE_B), Wq = OPERAND_CODE(KIND_W, SIZE_Q), Wd = OPERAND_CODE(KIND_W, SIZE_D), Ww = OPERAND_CODE(KIND_W, SIZE_W),
    Pq = OPERAND_CODE(KIND_P, SIZE_Q), Pd = OPERAND_CODE(KIND_P, SIZE_D), Qq = OPERAND_CODE(KIND_Q, SIZE_Q), Qd = OPERAND_CODE(KIND_Q, SIZE_D),
    Nq = OPERAND_CODE(KIND_N, SIZE_Q), STi = OPERAND_CODE(KIND_STI, SIZE_T), ST0 = OPERAND_CODE(KIND_REG, SIZE_T),
    AL = OPERAND_CODE(KIND_REG, SIZE_B), AX = OPERAND_CODE(KIND_REG, SIZE_W), eAX = OPERAND_CODE(KIND_REG, SIZE_V), CL = OPERAND_CODE(KIND_REG, SIZE_NONE),
    ES = CL, CS = CL, SS = CL, DS = CL, FS = CL, GS = CL, XMM0 = OPERAND_CODE(KIND_REG, SIZE_X), DX = OPERAND_CODE(KIND_PORT, SIZE_W),
    ONE = OPERAND_CODE(KIND_I, SIZE_NONE), // the constant 1
    W = OPERAND_WRITTEN, RW = OPERAND_MODIFIED,
};
// clang-format on
#define OPERANDS(...)       .operand = {__VA_ARGS__}
#define NO_OPERANDS         .operand = {KIND_NONE}

// ---- opcodes: any of 66h, F2h, F3h; NP none of them; NFX no F2h, F3h; P66 ... a mandatory one ----
#define OPCODE_(m, p, byte) .map = m, .prefix = p, .opcode = byte
#define OP(byte)            OPCODE_(MAP_1, PFX_ANY, byte)
#define PF3(byte)           OPCODE_(MAP_1, PFX_F3, byte)
#define OP_0F(byte)         OPCODE_(MAP_0F, PFX_ANY, byte)
#define NP_0F(byte)         OPCODE_(MAP_0F, PFX_NONE, byte)
#define NFX_0F(byte)        OPCODE_(MAP_0F, PFX_NO_REP, byte)
#define P66_0F(byte)        OPCODE_(MAP_0F, PFX_66, byte)
#define PF2_0F(byte)        OPCODE_(MAP_0F, PFX_F2, byte)
#define PF3_0F(byte)        OPCODE_(MAP_0F, PFX_F3, byte)
#define NP_0F38(byte)       OPCODE_(MAP_0F38, PFX_NONE, byte)
#define NFX_0F38(byte)      OPCODE_(MAP_0F38, PFX_NO_REP, byte)
#define P66_0F38(byte)      OPCODE_(MAP_0F38, PFX_66, byte)
#define PF3_0F38(byte)      OPCODE_(MAP_0F38, PFX_F3, byte)
#define PF2_0F38(byte)      OPCODE_(MAP_0F38, PFX_F2, byte)
#define NP_0F3A(byte)       OPCODE_(MAP_0F3A, PFX_NONE, byte)
#define P66_0F3A(byte)      OPCODE_(MAP_0F3A, PFX_66, byte)
// with VEX, whose pp stands for the mandatory prefix
#define VEX_(m, p, byte)    OPCODE_(m, p, byte), .vex = 1, .protected_mode = 1
#define VNP_0F(byte)        VEX_(MAP_0F, PFX_NONE, byte)
#define V66_0F(byte)        VEX_(MAP_0F, PFX_66, byte)
#define VF3_0F(byte)        VEX_(MAP_0F, PFX_F3, byte)
#define VF2_0F(byte)        VEX_(MAP_0F, PFX_F2, byte)
#define V66_0F3A(byte)      VEX_(MAP_0F3A, PFX_66, byte)
#define VNP_0F38(byte)      VEX_(MAP_0F38, PFX_NONE, byte)
#define V66_0F38(byte)      VEX_(MAP_0F38, PFX_66, byte)
#define VF3_0F38(byte)      VEX_(MAP_0F38, PFX_F3, byte)
#define VF2_0F38(byte)      VEX_(MAP_0F38, PFX_F2, byte)
#define VF2_0F3A(byte)      VEX_(MAP_0F3A, PFX_F2, byte)
#define DIGIT(n)            .modrm = MODRM_DIGIT | (n)
#define MODRM(byte)         .modrm = MODRM_EXACT | (byte)

// ---- the other columns: see struct row ----
// clang-format off
enum {
    CF = FL_CF, PF = FL_PF, AF = FL_AF, ZF = FL_ZF, SF = FL_SF, OF = FL_OF, OSZAPC = FL_ARITH, OSZAP = FL_ARITH & ~FL_CF,
    SZAPC = FL_ARITH & ~FL_OF, SZAP = SZAPC & ~FL_CF, OSAP = OSZAP & ~FL_ZF,
    X87 = UNIT_X87, X87_WAITS = UNIT_X87 | UNIT_X87_WAITS, MMX = UNIT_MMX, SSE = UNIT_SSE, AVX = UNIT_AVX,
};
// clang-format on
#define FEATURE(f)          .feature = FEATURE_##f
#define NEEDS(control)      .needs = 1 + CONTROL_##control
#define EXITS(reason)       .exit_reason = EXIT_REASON_##reason, .exit_when = EXIT_ALWAYS
#define EXITS_IF(reason, c) \
    .exit_reason = EXIT_REASON_##reason, .exit_when = EXIT_BY_CONTROL, .exit_control = CONTROL_##c
#define EXITS_BY(reason, by)                    .exit_reason = EXIT_REASON_##reason, .exit_when = EXIT_BY_##by
#define BEFORE_PRIVILEGE                        .exit_stage = STAGE_BEFORE_PRIVILEGE
#define AFTER_IO_PERMISSION                     .exit_stage = STAGE_AFTER_IO_PERMISSION
#define AFTER_OPERAND                           .exit_stage = STAGE_AFTER_OPERAND
#define GUARD(g)                                .guard = GUARD_##g
#define UNIT(u)                                 .unit = u
#define READS(f)                                .reads = f
#define WRITES(f)                               .writes = f
#define CHANGES(f)                              .changes = f
#define UNDEFINED(f)                            .undefined = f
#define I64                                     .i64 = 1
#define O64                                     .o64 = 1
#define D64                                     .d64 = 1
#define F64                                     .f64 = 1
#define REGISTER_FORM                           .register_form = 1
#define WIDE(f)                                 .wide = FEATURE_##f
#define L0                                      .l = 1
#define L1                                      .l = 2
#define W0                                      .w = 1
#define W1                                      .w = 2
#define LIG                                     .lig = 1
#define VSIB                                    .vsib = 1
#define ALIGNED                                 .aligned = 1
#define UNALIGNED                               .unaligned = 1
#define CONDITIONS                              .conditions = 1
#define REPEATS                                 .repeats = 1
#define LOCKABLE                                .lockable = 1
#define CPL0                                    .cpl0 = 1
#define PROTECTED                               .protected_mode = 1
#define ENDS_BLOCK                              .ends_block = 1
#define PURE                                    .pure = 1
#define XM                                      .xm = 1

#define ROW(name, operands, code, fn, ...)      extern exec_fn fn;
#define FAST_ROW(name, operands, code, bd, ...) extern const struct body bd;
#include "cpu/instructions/rows.def"
#undef ROW
#undef FAST_ROW

#define ROW(mnemonic, operands, code, fn, ...) \
    {.name = mnemonic, \
     operands, \
     code, \
     .body = &(const struct body){.checked = {fn, fn, fn, fn}}, \
     __VA_ARGS__},
#define FAST_ROW(mnemonic, operands, code, bd, ...) \
    {.name = mnemonic, operands, code, .body = &bd, __VA_ARGS__},
const struct row rows[] = {
#include "cpu/instructions/rows.def"
};

const unsigned rows_n = ARRAY_LEN(rows);

// ---- what follows from the operands ----
bool row_has(const struct row *r, u32 kinds)
{
    for (unsigned i = 0; i < OPERANDS_MAX; i++)
        if (kinds >> operand_kind(r->operand[i]) & 1 && r->operand[i]) return true;
    return false;
}

bool row_is_byte(const struct row *r)
{
    for (unsigned i = 0; i < OPERANDS_MAX && r->operand[i]; i++) {
        enum operand_kind k = operand_kind(r->operand[i]);
        if (k != KIND_I && k != KIND_J && k != KIND_PORT) return operand_size(r->operand[i]) == SIZE_B;
    }
    return false;
}

bool row_aligned(const struct row *r)
{
    for (unsigned i = 0; i < OPERANDS_MAX; i++) {
        enum operand_kind k = operand_kind(r->operand[i]);
        if ((k == KIND_W || k == KIND_M) && operand_size(r->operand[i]) == SIZE_X)
            return r->vex ? r->aligned : !r->unaligned;
    }
    return false;
}

enum row_mod row_mod(const struct row *r)
{
    if (row_has(r, 1 << KIND_M)) return MOD_MEM;
    if (r->register_form || r->modrm & MODRM_EXACT || row_has(r, 1 << KIND_U | 1 << KIND_N | 1 << KIND_STI))
        return MOD_REG;
    // MOV to and from control and debug registers takes ModRM.rm as a register whatever mod says.
    return row_has(r, 1 << KIND_R) && !row_has(r, 1 << KIND_C | 1 << KIND_D) ? MOD_REG : MOD_ANY;
}

unsigned row_span(const struct row *r) { return r->conditions ? 16 : row_has(r, 1 << KIND_Z) ? 8 : 1; }

const char *row_operands(const struct row *r, char *buf, size_t n)
{
    static const char *const kind[] = {"",  "G", "E", "R", "Z",  "V",   "W", "U", "P", "Q",
                                       "N", "M", "S", "C", "D",  "STi", "I", "J", "A", "O",
                                       "X", "Y", "F", "r", "DX", "B",   "H", "L"};
    static const char *const size[] = {"",   "b", "w", "d", "q", "v", "z",   "y",
                                       "dq", "x", "t", "p", "a", "s", "d/b", "d/w"};
    size_t at = 0;
    buf[0] = 0;
    for (unsigned i = 0; i < OPERANDS_MAX && r->operand[i]; i++) {
        enum operand_kind k = operand_kind(r->operand[i]);
        at += (size_t)snprintf(buf + at, n - at, "%s%s%s", i ? "," : "", kind[k],
                               k == KIND_STI || k == KIND_PORT ? "" : size[operand_size(r->operand[i])]);
    }
    return buf;
}

// Decoding: Zydis parses the bytes, the table says what they mean here.
//
// Zydis gives prefixes, opcode, ModRM, SIB, displacement, immediates and the length. Which row runs is
// decided by our table alone, by mode and feature: a feature that is off is not always #UD (ENDBR64, RDSSP,
// F3 BSF are what they are on a processor without CET or BMI1), and Zydis does not know what this processor
// has.
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "cpu/engine/engine.h"
#include "cpu/state/mode.h"
#include "cpu/system/cpuid.h"
#include "cpu/engine/exec.h"
#include "vmx/intercept.h"

struct decoder {
    u16 row_first[4][256]; // index into row_list; 0xFFFF: none
    u16 *row_list;         // rows by (map, opcode), each list ended by 0xFFFF
    ZydisDecoder zydis[3]; // by code size
};

// Lists of rows by (map, opcode), in table order. False if the host has no memory.
static bool index_rows(struct decoder *d)
{
    size_t n = 0;
    for (unsigned i = ROW_FIXED; i < rows_n; i++) n += row_span(&rows[i]);
    d->row_list = malloc((n + 4 * 256) * sizeof *d->row_list);
    if (!d->row_list) return false;
    u16 at = 0;
    for (unsigned map = 0; map < 4; map++)
        for (unsigned op = 0; op < 256; op++) {
            u16 first = at;
            for (unsigned i = ROW_FIXED; i < rows_n; i++) {
                const struct row *r = &rows[i];
                if (r->map == map && op >= r->opcode && op < r->opcode + row_span(r))
                    d->row_list[at++] = (u16)i;
            }
            if (at == first)
                d->row_first[map][op] = 0xFFFF;
            else {
                d->row_first[map][op] = first;
                d->row_list[at++] = 0xFFFF;
            }
        }
    return true;
}

struct decoder *decoder_new(void)
{
    INVARIANT(rows[ROW_UD].body->checked[W32] == op_ud && rows[ROW_NM].body->checked[W32] == op_nm &&
              rows[ROW_GP0].body->checked[W32] == op_gp0);
    struct decoder *d = calloc(1, sizeof *d);
    if (!d) return NULL;
    if (!index_rows(d)) {
        free(d);
        return NULL;
    }
    static const ZydisMachineMode machine[3] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
                                                ZYDIS_MACHINE_MODE_LONG_64};
    static const ZydisStackWidth width[3] = {ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32,
                                             ZYDIS_STACK_WIDTH_64};
    static const ZydisDecoderMode off[] = {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET,
                                           ZYDIS_DECODER_MODE_LZCNT, ZYDIS_DECODER_MODE_TZCNT,
                                           ZYDIS_DECODER_MODE_CLDEMOTE};
    for (unsigned i = 0; i < 3; i++) {
        ZydisDecoderInit(&d->zydis[i], machine[i], width[i]);
        for (unsigned k = 0; k < ARRAY_LEN(off); k++)
            ZydisDecoderEnableMode(&d->zydis[i], off[k], ZYAN_FALSE);
    }
    return d;
}

void decoder_free(struct decoder *d)
{
    if (!d) return;
    free(d->row_list);
    free(d);
}

static bool prefix_matches(u8 pfx, unsigned rep, bool p66)
{
    switch (pfx) {
    case PFX_NONE: return !rep && !p66;
    case PFX_66: return !rep && p66;
    case PFX_F3: return rep == 3;
    case PFX_F2: return rep == 2;
    case PFX_NO_REP: return !rep;
    default: return true;
    }
}

// The bits of a VEX prefix that rows differ in.
struct vex_bits {
    bool vex, l, w;
};

static bool row_matches(const struct row *r, const struct cpu_features *f, u32 mode, struct vex_bits vex,
                        unsigned rep, bool p66, bool modrm, u8 mrm)
{
    if (r->vex != vex.vex || (r->l && r->l - 1 != vex.l) || (r->w && r->w - 1 != vex.w)) return false;
    if (!prefix_matches(r->prefix, rep, p66)) return false;
    bool reg_form = modrm && mrm >> 6 == 3;
    enum row_mod mod = row_mod(r);
    if (mod == MOD_MEM && (!modrm || reg_form)) return false;
    if (mod == MOD_REG && !reg_form) return false;
    if (!row_matches_modrm(r, mrm)) return false;
    if (mode_long64(mode) ? r->i64 : r->o64) return false;
    return feature_on(f, vex.l && r->wide ? r->wide : r->feature);
}

// What the mode makes of the row: #UD before #NM before #GP(0).
static unsigned guard_row(unsigned i, u32 mode, bool lock, bool mem, unsigned reg)
{
    const struct row *r = &rows[i];
    if (r->protected_mode && !mode_protected(mode)) return ROW_UD;
    if (lock && !(r->lockable && mem)) return ROW_UD;
    enum verdict verdict = row_guard(r, mode, reg);
    if (verdict == VERDICT_UD) return ROW_UD;
    if (r->unit & UNIT_SSE) {
        if ((mode & MODE_EM) || !(mode & MODE_OSFXSR)) return ROW_UD;
        if (mode & MODE_TS) return ROW_NM;
    }
    if (r->unit & UNIT_AVX) {
        if (!(mode & MODE_AVX)) return ROW_UD;
        if (mode & MODE_TS) return ROW_NM;
    }
    if (r->unit & UNIT_MMX) {
        if (mode & MODE_EM) return ROW_UD;
        if (mode & MODE_TS) return ROW_NM;
    }
    if ((r->unit & UNIT_X87) && (mode & (MODE_EM | MODE_TS))) return ROW_NM;
    // In a guest the guard decides where an exit or #UD comes before the privilege check.
    bool privileged = verdict == VERDICT_GP0 || (r->cpl0 && mode_cpl(mode) != 0);
    if (privileged && !(row_intercepted(r) && (mode & MODE_GUEST))) return ROW_GP0;
    return i;
}

static bool byte_operand(const struct row *r, enum operand_kind kind)
{
    for (unsigned i = 0; i < OPERANDS_MAX; i++)
        if (operand_kind(r->operand[i]) == kind && operand_size(r->operand[i]) == SIZE_B) return true;
    return false;
}

// A general register or its like is among its operands, or VEX.L is 0.
static bool sized_by_w(const struct row *r)
{
    if (r->l == 1) return true;
    for (unsigned i = 0; i < OPERANDS_MAX; i++)
        if (operand_size(r->operand[i]) == SIZE_Y) return true;
    return false;
}

static u8 byte_reg(unsigned n, bool rex)
{
    return !rex && n >= 4 && n < 8 ? (u8)((n - 4) * 8 + 1) : (u8)(n * 8);
}

// What REX or VEX adds: the operand size, and the high bits of ModRM.reg, SIB.index, and ModRM.rm or
// SIB.base.
struct extension {
    u8 w, r, x, b;
};

// The memory operand of ModRM: base, index, scale, displacement, default segment. vsib: the index is the
// number of an SSE register.
static void memory_operand(const ZydisDecodedInstruction *z, struct extension ext, struct insn *in, u32 mode,
                           bool vsib)
{
    in->mem = 1;
    in->m = in->x = GPR_ZERO_OFF;
    in->disp = (s32)z->raw.disp.value;
    unsigned mod = z->raw.modrm.mod, rm = z->raw.modrm.rm;
    bool stack = false;
    if (in->asz == W16) {
        static const u8 base[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX},
                        index[8] = {RSI, RDI, RSI, RDI, 16, 16, 16, 16};
        if (mod != 0 || rm != 6) {
            in->m = GPR_OFF(base[rm]);
            in->x = GPR_OFF(index[rm]);
            stack = base[rm] == RBP;
        }
    } else if (rm == 4) { // SIB
        unsigned b = z->raw.sib.base, x = z->raw.sib.index | ext.x << 3;
        if (b != 5 || mod != 0) {
            stack = b == RSP || b == RBP;
            b |= ext.b << 3;
            if (b >= 8) stack = false;
            in->m = GPR_OFF(b);
        }
        if (x != 4 || vsib) {
            in->x = vsib ? (u8)x : GPR_OFF(x);
            in->scale = z->raw.sib.scale & 3;
        }
    } else if (mod == 0 && rm == 5) {
        if (mode_long64(mode)) { // relative to the next instruction
            in->m = GPR_RIP_OFF;
            in->disp += in->off + in->len;
        }
    } else {
        unsigned b = rm | ext.b << 3;
        in->m = GPR_OFF(b);
        stack = b == RBP;
    }
    if (stack) in->seg = SEG_SS;
}

static void segment_prefix(const ZydisDecodedInstruction *z, struct insn *in, u32 mode)
{
    // Taken from the bytes: Zydis sets its attributes only where it deems the prefix effective.
    for (unsigned i = 0; i < z->raw.prefix_count; i++) {
        unsigned seg;
        switch (z->raw.prefixes[i].value) {
        case 0x26: seg = SEG_ES; break;
        case 0x2E: seg = SEG_CS; break;
        case 0x36: seg = SEG_SS; break;
        case 0x3E: seg = SEG_DS; break;
        case 0x64: seg = SEG_FS; break;
        case 0x65: seg = SEG_GS; break;
        default: continue;
        }
        if (mode_long64(mode) && seg < SEG_FS) continue; // ignored, an earlier FS or GS stays
        in->seg = seg & 7;
    }
}

enum { FORM_NONE = -1 };
// The addressing form for which the row's fast bodies serve in this mode, or FORM_NONE.
static int choose_form(const struct insn *in, const struct row *r, u32 mode)
{
    if ((row_intercepted(r) && (mode & MODE_GUEST)) || (mode & (MODE_AC | MODE_STEP)) || !(mode & MODE_FLAT))
        return FORM_NONE;
    if ((mode & MODE_BUS_LOCK) && in->mem && (in->lock || insn_is_xchg(in, r))) return FORM_NONE;
    // Branches and the stack: in 64-bit code, and in 32-bit code with a 32-bit stack.
    if ((r->d64 || r->f64) && !mode_long64(mode) &&
        (in->osz != W32 || (mode & (MODE_CODE | MODE_STACK32)) != (MODE_CODE32 | MODE_STACK32)))
        return FORM_NONE;
    if (r->xm && (mode & MODE_FPUNMASK)) return FORM_NONE;
    if (in->lock && !in->mem) return FORM_NONE;
    if (!in->mem) return FORM_REG;
    if (mode_long64(mode) && in->seg < SEG_FS && in->asz == W64)
        return in->x == GPR_ZERO_OFF ? FORM_B : FORM_X;
    if (mode_long64(mode)   ? in->seg < SEG_FS || in->asz == W64
        : in->seg == SEG_FS ? mode & MODE_FS_WHOLE
        : in->seg == SEG_GS ? mode & MODE_GS_WHOLE
                            : in->seg != SEG_CS) // CS is never writable
        return FORM_S;
    return FORM_NONE;
}

static void choose_exec(struct insn *in, const struct row *r, u32 mode)
{
    int form = choose_form(in, r, mode);
    exec_fn *f = NULL;
    if (form != FORM_NONE) {
        f = r->body->fast[in->nf][in->osz][form];
        if (!f) f = r->body->fast[0][in->osz][form];
    }
    in->exec = f ? f : exec_slow;
}

call_fn *decode_callable(const struct insn *in, u32 mode)
{
    const struct row *r = &rows[in->row];
    int form = choose_form(in, r, mode);
    return form == FORM_NONE ? NULL : r->body->call[in->osz][form];
}

void decode_bind(struct insn *in, u32 mode) { choose_exec(in, &rows[in->row], mode); }

// An instruction that is a fault and nothing else.
static unsigned fault_insn(struct insn *in, unsigned row, unsigned len)
{
    INVARIANT(row < ROW_FIXED);
    in->row = (u16)row;
    in->len = (u8)len;
    in->term = 1;
    in->mem = 0;
    in->exec = exec_slow;
    return len ? len : 1;
}

// What this processor has and Zydis 4 does not know: 0F 01 C6 (WRMSRNS, and with F2 and F3 RDMSRLIST and
// WRMSRLIST). As Zydis would say it; false if it is something else.
static bool parse_unknown(const u8 *bytes, unsigned n, u32 mode, ZydisDecodedInstruction *z)
{
    unsigned i = 0;
    memset(z, 0, sizeof *z);
    for (; i < n; i++) {
        u8 b = bytes[i];
        bool legacy = b == 0x66 || b == 0x67 || b == 0xF0 || b == 0xF2 || b == 0xF3 || (b & 0xE7) == 0x26 ||
                      b == 0x64 || b == 0x65;
        if (!legacy) break;
        z->raw.prefixes[z->raw.prefix_count++].value = b;
    }
    if (mode_long64(mode) && i < n && (bytes[i] & 0xF0) == 0x40) {
        z->raw.rex.W = bytes[i] >> 3 & 1;
        z->attributes |= ZYDIS_ATTRIB_HAS_REX;
        i++;
    }
    if (i + 3 > n || bytes[i] != 0x0F || bytes[i + 1] != 0x01 || bytes[i + 2] != 0xC6) return false;
    z->encoding = ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    z->opcode_map = ZYDIS_OPCODE_MAP_0F;
    z->opcode = 0x01;
    z->attributes |= ZYDIS_ATTRIB_HAS_MODRM;
    z->raw.modrm.mod = 3;
    z->raw.modrm.rm = 6;
    z->length = (u8)(i + 3);
    return true;
}

unsigned decode_insn(struct vcpu *v, const u8 *bytes, unsigned n, u32 mode, struct insn *in)
{
    const struct decoder *d = v->d.engine->decoder;
    ZydisDecodedInstruction z;
    u16 off = in->off;
    u8 idx = in->idx;
    memset(in, 0, sizeof *in);
    in->off = off, in->idx = idx;
    in->seg = SEG_DS;
    in->osz = W32;
    if (n > 15) n = 15;
    ZydisDecoderContext ctx;
    ZyanStatus st = ZydisDecoderDecodeInstruction(&d->zydis[mode & MODE_CODE], &ctx, bytes, n, &z);
    if (st == ZYDIS_STATUS_NO_MORE_DATA) return n == 15 ? fault_insn(in, ROW_GP0, 15) : 0;
    if (st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG) return fault_insn(in, ROW_GP0, 15);
    if (!ZYAN_SUCCESS(st) && !parse_unknown(bytes, n, mode, &z)) return fault_insn(in, ROW_UD, 1);
    bool vex = z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    if (z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && !vex)
        return fault_insn(in, ROW_UD, z.length); // EVEX, XOP, 3DNow!: no feature that has them

    unsigned rep = 0;
    bool p66 = false, p67 = false, lock = false;
    for (unsigned i = 0; i < z.raw.prefix_count; i++) switch (z.raw.prefixes[i].value) {
        case 0xF2: rep = 2; break;
        case 0xF3: rep = 3; break;
        case 0x66: p66 = true; break;
        case 0x67: p67 = true; break;
        case 0xF0: lock = true; break;
        }
    struct vex_bits vex_bits = {.vex = vex};
    struct extension x = {z.raw.rex.W, z.raw.rex.R, z.raw.rex.X, z.raw.rex.B};
    if (vex) { // inverted; Zydis has refused any other prefix before it
        static const u8 rep_of[4] = {0, 0, 3, 2};
        x = (struct extension){z.raw.vex.W, !z.raw.vex.R, !z.raw.vex.X, !z.raw.vex.B};
        rep = rep_of[z.raw.vex.pp & 3];
        p66 = z.raw.vex.pp == 1;
        vex_bits.l = z.raw.vex.L;
        vex_bits.w = x.w;
        if (!mode_long64(mode)) x = (struct extension){0, 0, 0, 0};
    }
    unsigned map;
    switch (z.opcode_map) {
    case ZYDIS_OPCODE_MAP_DEFAULT: map = MAP_1; break;
    case ZYDIS_OPCODE_MAP_0F: map = MAP_0F; break;
    case ZYDIS_OPCODE_MAP_0F38: map = MAP_0F38; break;
    case ZYDIS_OPCODE_MAP_0F3A: map = MAP_0F3A; break;
    default: return fault_insn(in, ROW_UD, z.length);
    }
    bool modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
    u8 mrm = (u8)(z.raw.modrm.mod << 6 | z.raw.modrm.reg << 3 | z.raw.modrm.rm);
    unsigned row = ROW_UD;
    u16 at = d->row_first[map][z.opcode];
    if (at != 0xFFFF)
        for (; d->row_list[at] != 0xFFFF; at++)
            if (row_matches(&rows[d->row_list[at]], v->features, mode, vex_bits, rep, p66, modrm, mrm)) {
                row = d->row_list[at];
                break;
            }
    if (row == ROW_UD) return fault_insn(in, ROW_UD, z.length);
    const struct row *r = &rows[row];
    bool mem = modrm && z.raw.modrm.mod != 3 && !row_has(r, 1 << KIND_C | 1 << KIND_D);
    row = guard_row(row, mode, lock, mem, z.raw.modrm.reg | x.r << 3);
    if (row < ROW_FIXED) return fault_insn(in, row, z.length);

    in->row = (u16)row;
    in->len = z.length;
    in->op = z.opcode;
    in->rep = vex ? 0 : rep & 3;
    in->lock = lock;
    in->rex = z.raw.rex.offset != 0 || (z.attributes & ZYDIS_ATTRIB_HAS_REX) != 0;
    in->term = r->ends_block;
    bool w = x.w, long64 = mode_long64(mode);
    bool code32 = (mode & MODE_CODE) == MODE_CODE32;
    // Operand size.
    bool size16 = p66 && r->prefix != PFX_66; // a mandatory prefix is no size prefix
    bool byte = row_is_byte(r);
    if (byte)
        in->osz = W8;
    else if (vex && (r->unit & UNIT_AVX) && !sized_by_w(r))
        in->osz = vex_bits.l && !r->lig ? W64 : W32;
    else if (vex)
        in->osz = w ? W64 : W32;
    else if (long64)
        in->osz = r->f64 || w ? W64 : size16 ? W16 : r->d64 ? W64 : W32;
    else
        in->osz = code32 != size16 ? W32 : W16;
    in->asz = long64 ? (p67 ? W32 : W64) : (code32 != p67) ? W32 : W16;
    // Registers.
    if (vex) {
        unsigned third = ~z.raw.vex.vvvv & (long64 ? 15 : 7);
        in->v = r->unit & UNIT_AVX ? (u8)third : GPR_OFF(third);
    }
    bool in_opcode = row_has(r, 1 << KIND_Z);
    if (in_opcode) {
        unsigned reg = (z.opcode & 7) | x.b << 3;
        in->r = byte ? byte_reg(reg, in->rex) : GPR_OFF(reg);
    }
    if (modrm) {
        unsigned reg = z.raw.modrm.reg | x.r << 3;
        if (!in_opcode) {
            if (row_has(r, 1 << KIND_V | 1 << KIND_C | 1 << KIND_D))
                in->r = (u8)reg;
            else if (row_has(r, 1 << KIND_P | 1 << KIND_S))
                in->r = (u8)(reg & 7);
            else
                in->r = byte ? byte_reg(reg, in->rex) : GPR_OFF(reg);
        }
        if (mem)
            memory_operand(&z, x, in, mode, r->vsib);
        else {
            unsigned rm = z.raw.modrm.rm | x.b << 3;
            if (row_has(r, 1 << KIND_W | 1 << KIND_U))
                in->m = (u8)rm;
            else if (row_has(r, 1 << KIND_Q | 1 << KIND_N | 1 << KIND_STI))
                in->m = (u8)(rm & 7);
            else
                in->m = byte || byte_operand(r, KIND_E) ? byte_reg(rm, in->rex) : GPR_OFF(rm);
        }
    } else
        in->m = in->x = GPR_ZERO_OFF;
    segment_prefix(&z, in, mode); // over the default of the operand's base
    // Immediates.
    if (z.raw.imm[0].size) {
        if (z.raw.imm[1].size) { // ENTER: level in imm2; far pointer: selector in imm2
            in->imm1 = (u32)z.raw.imm[0].value.u;
            in->imm2 = (u32)z.raw.imm[1].value.u;
        } else {
            unsigned bits = z.raw.imm[0].size;
            u64 imm = z.raw.imm[0].value.u;
            if (bits < 64) imm = (u64)((s64)(imm << (64 - bits)) >> (64 - bits));
            in->imm = imm;
            if (row_has(r, 1 << KIND_J)) in->disp = (s32)imm + in->off + in->len;
        }
    } else if (!modrm && z.raw.disp.size) { // moffs
        in->imm = (u64)z.raw.disp.value;
        if (in->asz == W32) in->imm = (u32)in->imm;
        if (in->asz == W16) in->imm = (u16)in->imm;
        in->disp = (s32)in->imm;
        in->mem = in->asz != W64 || (u64)(s64)in->disp == in->imm; // then the forms of a memory operand serve
    }
    choose_exec(in, r, mode);
    return in->len;
}

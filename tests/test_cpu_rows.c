// The instruction table against Zydis's: what each row says of its operands (how many, how large, which are
// written) and of the arithmetic flags (read, written, left undefined). Where the two differ and ours is
// right, the row stands below with the reason.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include <cmocka.h>

#include "cpu/engine/insn.h"
#include "cpu/state/vcpu.h"
#include "cpu/system/cpuid.h"
#include "tests/encode_vex.h"

struct excuse {
    const char *name;     // a prefix when it ends in *
    const char *operands; // NULL: any
    const char *why;
};

static bool excused(const struct excuse *list, unsigned n, const struct row *r, bool *used)
{
    char text[64];
    row_operands(r, text, sizeof text);
    for (unsigned i = 0; i < n; i++) {
        size_t k = strcspn(list[i].name, "*");
        bool same = list[i].name[k] ? !strncmp(r->name, list[i].name, k) : !strcmp(r->name, list[i].name);
        if (!same || (list[i].operands && strcmp(list[i].operands, text))) continue;
        used[i] = true;
        return true;
    }
    return false;
}

// An encoding of the row: its ModRM names memory, or registers.
static bool parse(const struct row *r, bool memory, ZydisDecodedInstruction *z, ZydisDecodedOperand *op)
{
    u8 code[16];
    encode_row(r, memory, code);
    ZydisDecoder d;
    if (r->i64)
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    static const ZydisDecoderMode off[] = {ZYDIS_DECODER_MODE_MPX, ZYDIS_DECODER_MODE_CET,
                                           ZYDIS_DECODER_MODE_LZCNT, ZYDIS_DECODER_MODE_TZCNT,
                                           ZYDIS_DECODER_MODE_CLDEMOTE};
    for (unsigned i = 0; i < ARRAY_LEN(off); i++)
        ZydisDecoderEnableMode(&d, off[i],
                               (off[i] == ZYDIS_DECODER_MODE_LZCNT && r->feature == FEATURE_LZCNT) ||
                                   (off[i] == ZYDIS_DECODER_MODE_TZCNT && r->feature == FEATURE_BMI1));
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, code, sizeof code, z, op));
}

static unsigned operands_of(const struct row *r)
{
    unsigned n = 0;
    while (n < OPERANDS_MAX && r->operand[n]) n++;
    return n;
}

// Bits of an operand whose size does not depend on the mode; 0 for the others.
static unsigned fixed_bits(const struct row *r, operand_code o, bool memory)
{
    switch (operand_size(o)) {
    case SIZE_B: return 8;
    case SIZE_W: return 16;
    case SIZE_D: return 32;
    case SIZE_Q: return 64;
    case SIZE_DQ: return 128;
    case SIZE_X: return r->l == 2 ? 256 : 128;
    case SIZE_T: return 80;
    case SIZE_D_OR_B: return memory ? 8 : 32;
    case SIZE_D_OR_W: return memory ? 16 : 32;
    default: return 0;
    }
}

static const struct excuse operand_excuses[] = {
    {"xlat", NULL, "Zydis hides AL"},
    {"ins", NULL, "Zydis hides the operands of string instructions"},
    {"outs", NULL, "the same"},
    {"movs", NULL, "the same"},
    {"cmps", NULL, "the same"},
    {"stos", NULL, "the same"},
    {"lods", NULL, "the same"},
    {"scas", NULL, "the same"},
    {"pushf", NULL, "Zydis hides FLAGS"},
    {"popf", NULL, "the same"},
    {"pblendvb", NULL, "Zydis hides XMM0"},
    {"blendvp*", NULL, "the same"},
    {"sha256rnds2", NULL, "the same"},
    {"fcom*", NULL, "Zydis hides ST0"},
    {"fucomp", NULL, "Zydis shows ST0"},
    {"xchg", "Zv,rv", "90h without REX.B is NOP to Zydis"},
    {"prefetch*", NULL, "with a register it is a NOP of two operands to Zydis"},
    {"nop", NULL, "of two operands to Zydis"},
    {"movdir64b", NULL, "its register is an address: to Zydis the memory behind it"},
};

static void operands(void **unused)
{
    static bool used[ARRAY_LEN(operand_excuses)];
    unsigned compared = 0;
    for (unsigned i = ROW_FIXED; i < rows_n; i++) {
        const struct row *r = &rows[i];
        char text[64];
        if (excused(operand_excuses, ARRAY_LEN(operand_excuses), r, used)) continue;
        for (unsigned memory = 0; memory < 2; memory++) {
            ZydisDecodedInstruction z;
            ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
            if (row_mod(r) == (memory ? MOD_REG : MOD_MEM) || !parse(r, memory, &z, op)) continue;
            row_operands(r, text, sizeof text);
            if (z.operand_count_visible != operands_of(r))
                fail_msg("%s %s: %u operands, Zydis has %u", r->name, text, operands_of(r),
                         z.operand_count_visible);
            for (unsigned k = 0; k < z.operand_count_visible; k++) {
                operand_code o = r->operand[k];
                bool written = op[k].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
                bool read = (op[k].actions & ZYDIS_OPERAND_ACTION_MASK_READ) ||
                            (op[k].actions & ZYDIS_OPERAND_ACTION_CONDWRITE); // not always overwritten
                if (written != !!(o & (OPERAND_WRITTEN | OPERAND_MODIFIED)) ||
                    (written && read != !!(o & OPERAND_MODIFIED)))
                    fail_msg("%s %s: operand %u is %s%s to Zydis", r->name, text, k, read ? "read " : "",
                             written ? "written" : "");
                unsigned bits = fixed_bits(r, o, memory);
                bool in_memory = op[k].type == ZYDIS_OPERAND_TYPE_MEMORY;
                if (in_memory && bits && bits != op[k].size)
                    fail_msg("%s %s: operand %u has %u bits, to Zydis %u", r->name, text, k, bits,
                             op[k].size);
                compared++;
            }
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(used); i++)
        if (!used[i]) fail_msg("no row needs the excuse of %s", operand_excuses[i].name);
    assert_true(compared > rows_n);
}

static u16 flags(ZydisAccessedFlagsMask f)
{
    return (u16)((f & ZYDIS_CPUFLAG_CF ? FL_CF : 0) | (f & ZYDIS_CPUFLAG_PF ? FL_PF : 0) |
                 (f & ZYDIS_CPUFLAG_AF ? FL_AF : 0) | (f & ZYDIS_CPUFLAG_ZF ? FL_ZF : 0) |
                 (f & ZYDIS_CPUFLAG_SF ? FL_SF : 0) | (f & ZYDIS_CPUFLAG_OF ? FL_OF : 0));
}

static const struct excuse flag_excuses[] = {
    {"sbb", NULL, "AF is defined (SDM, SBB)"},
    {"rol", NULL,
     "OF is defined for a count of 1 (SDM, RCL/RCR/ROL/ROR); Zydis has one entry for all counts"},
    {"ror", NULL, "the same"},
    {"rcl", NULL, "the same"},
    {"rcr", NULL, "the same"},
    {"shl", NULL, "OF is defined for a count of 1 (SDM, SAL/SAR/SHL/SHR)"},
    {"shr", NULL, "the same"},
    {"sar", NULL, "the same"},
    {"syscall", NULL, "reads all flags into R11, which Zydis does not say"},
    {"fucomi*", NULL, "keeps the flags when an unmasked exception stops it"},
    {"fcomi*", NULL, "the same"},
    {"cmovcc", NULL, "the row is 16 conditions"},
    {"setcc", NULL, "the same"},
    {"vptest", NULL, "all but ZF and CF are cleared (SDM, VPTEST)"},
    {"vtestp*", NULL, "the same (SDM, VTESTPD/VTESTPS)"},
    {"bextr", NULL, "CF and OF are cleared (SDM, BEXTR)"},
    {"wrmsrns", NULL, "unknown to Zydis 4; none (SDM, WRMSRNS)"},
    {"rdmsrlist", NULL, "the same (SDM, RDMSRLIST)"},
    {"wrmsrlist", NULL, "the same (SDM, WRMSRLIST)"},
};

static void arithmetic_flags(void **unused)
{
    static bool used[ARRAY_LEN(flag_excuses)];
    unsigned compared = 0;
    for (unsigned i = ROW_FIXED; i < rows_n; i++) {
        const struct row *r = &rows[i];
        ZydisDecodedInstruction z;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        char text[64];
        row_operands(r, text, sizeof text);
        // Whatever is stored always cannot be stored sometimes, and what is undefined need not be stored at
        // all.
        if (r->writes & r->changes) fail_msg("%s %s: flags both always and sometimes stored", r->name, text);
        if (excused(flag_excuses, ARRAY_LEN(flag_excuses), r, used)) continue;
        if (!parse(r, row_mod(r) == MOD_MEM, &z, op)) fail_msg("%s %s: unknown to Zydis", r->name, text);
        u16 reads = 0, stores = 0, undefined = 0;
        if (z.cpu_flags) {
            reads = flags(z.cpu_flags->tested);
            undefined = flags(z.cpu_flags->undefined);
            stores = flags(z.cpu_flags->modified | z.cpu_flags->set_0 | z.cpu_flags->set_1);
        }
        if (r->reads != reads)
            fail_msg("%s %s: reads flags %03x, to Zydis %03x", r->name, text, r->reads, reads);
        if (r->undefined != undefined)
            fail_msg("%s %s: leaves flags %03x undefined, to Zydis %03x", r->name, text, r->undefined,
                     undefined);
        u16 ours = r->writes | r->changes | r->undefined;
        if (ours != (stores | undefined))
            fail_msg("%s %s: stores flags %03x, to Zydis %03x", r->name, text, ours, stores | undefined);
        compared++;
    }
    for (unsigned i = 0; i < ARRAY_LEN(used); i++)
        if (!used[i]) fail_msg("no row needs the excuse of %s", flag_excuses[i].name);
    assert_true(compared > 800);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(operands), cmocka_unit_test(arithmetic_flags)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Which encodings exist: every opcode of the four maps with every mandatory prefix and ModRM.reg, with a
// register and with memory, given to Zydis and to our decoder. What Zydis knows and we refuse must belong to
// an extension that this processor has not; what we take and Zydis does not know must be a NOP; lengths
// agree.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include <cmocka.h>

#include "cpu/engine/engine.h"
#include "cpu/engine/fp.h"
#include "cpu/state/mode.h"
#include "tests/silicon/silicon.h"

// Extensions by Zydis's names for them.
static bool foreign(const ZydisDecodedInstruction *z)
{
    // clang-format off
    static const char *const names[] = {
        "PADLOCK", "SVM", "SHA", "KEYLOCKER", "KEYLOCKER_WIDE", "CET", "AES", "SSE4A", "RTM", "WAITPKG", "GFNI", "UINTR", "TDX",
        "SNP", "TSX_LDTRK", "SGX", "SGX_ENCLV", "MOVDIR", "MONITORX", "ENQCMD", "AMD_INVLPGB", "ADOX_ADCX", "SMX", "SERIALIZE",
        "RDPRU", "PT", "PCONFIG", "PCLMULQDQ", "MCOMMIT", "HRESET", "CLZERO", "AMD3DNOW", "AMD3DNOW_PREFETCH", "CLDEMOTE"};
    // clang-format on
    const char *ext = ZydisISAExtGetString(z->meta.isa_ext);
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcmp(ext, names[i])) return true;
    }
    return false;
}

// What is #UD by its nature, and SYSCALL and SYSRET, which Intel's processors have in 64-bit mode only.
static bool undefined_anyway(const ZydisDecodedInstruction *z, unsigned bits)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_UD0:
    case ZYDIS_MNEMONIC_UD1:
    case ZYDIS_MNEMONIC_UD2: return true;
    case ZYDIS_MNEMONIC_SYSCALL:
    case ZYDIS_MNEMONIC_SYSRET: return bits == 32;
    default: return false;
    }
}

static bool newer_than_zydis(const char *name) // Zydis 4
{
    return !strcmp(name, "wrmsrns") || !strcmp(name, "rdmsrlist") || !strcmp(name, "wrmsrlist");
}

struct tally {
    unsigned tried, taken;
};

static void one(struct vcpu *v, const ZydisDecoder *d, unsigned bits, const u8 *code, unsigned n,
                struct tally *t)
{
    ZydisDecodedInstruction z;
    ZydisDecoderContext c;
    struct insn in;
    memset(&in, 0, sizeof in);
    bool known = ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(d, &c, code, n, &z)) &&
                 z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    // What CR4 and IA32_MISC_ENABLE can refuse is on.
    u32 mode = (v->d.mode & ~(u32)(MODE_CODE | MODE_CPL)) | (bits == 64 ? MODE_CODE64 : MODE_CODE32) |
               MODE_OSXSAVE | MODE_FSGSBASE | MODE_PKE | MODE_MONITOR;
    if (bits == 32) mode &= ~(u32)MODE_LMA; // not compatibility mode, where VMX instructions are #UD
    unsigned len = decode_insn(v, code, n, mode, &in);
    bool refused = in.row == 0; // the row of #UD
    t->tried++;
    t->taken += !refused;
    const char *what = NULL;
    if (known && refused && !foreign(&z) && !undefined_anyway(&z, bits)) what = "refused";
    if (!known && !refused && strcmp(rows[in.row].name, "nop") && !newer_than_zydis(rows[in.row].name))
        what = "taken";
    if (known && !refused && len != z.length) what = "of another length";
    if (!what) return;
    char bytes[64] = "";
    for (unsigned i = 0; i < 6; i++) snprintf(bytes + 3 * i, sizeof bytes - 3 * i, "%02x ", code[i]);
    fail_msg("%u-bit %s: %s (row %s, Zydis says %s)", bits, bytes, what, rows[in.row].name,
             known ? ZydisMnemonicGetString(z.mnemonic) : "undefined");
}

static void encodings(unsigned bits, struct tally *t)
{
    static const u8 prefix[4] = {0, 0x66, 0xF3, 0xF2};
    struct guest *g = guest_new(true);
    ZydisDecoder d;
    if (bits == 64)
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else
        ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    for (unsigned x = 0; x < 4 * 256 * 4 * 8 * 9; x++) {
        unsigned map = x & 3, op = x >> 2 & 255, p = x >> 10 & 3, reg = x >> 12 & 7, rm = x >> 15;
        u8 code[15] = {0};
        unsigned n = 0;
        if (prefix[p]) code[n++] = prefix[p];
        if (map) code[n++] = 0x0F;
        if (map == MAP_0F38) code[n++] = 0x38;
        if (map == MAP_0F3A) code[n++] = 0x3A;
        code[n++] = (u8)op;
        code[n] = (u8)(rm < 8 ? 0xC0 | reg << 3 | rm : reg << 3 | 6);
        one(guest_vcpu(g), &d, bits, code, sizeof code, t);
    }
    guest_free(g);
}

static void every_encoding_of_64_bit_code(void **unused)
{
    struct tally t = {0, 0};
    encodings(64, &t);
    assert_true(t.taken > t.tried / 8);
}
static void every_encoding_of_32_bit_code(void **unused)
{
    struct tally t = {0, 0};
    encodings(32, &t);
    assert_true(t.taken > t.tried / 8);
}

int main(void)
{
    if (!fp_host_capable()) {
        printf("1..0 # SKIP without floating point the table is another\n");
        return 0;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_encoding_of_64_bit_code),
                                       cmocka_unit_test(every_encoding_of_32_bit_code)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

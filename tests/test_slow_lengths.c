// The decoder against Capstone: lengths of all instructions in the executable sections of the host's
// programs, and that none is #UD whose feature CPUID claims. Skipped, with a message, where Capstone is not
// installed.
//
// Both decoders start at the same byte of each section; where their lengths differ, the difference is counted
// by opcode and must be explained in the table below. Then both go on after Capstone's length, so that one
// difference stays one.
#include <dirent.h>
#include <elf.h>
#include <stdio.h>

#include "cpu_machine.h"

#include "cpu/engine/exec.h"

#ifndef HAVE_CAPSTONE
int main(void)
{
    puts("skipped: Capstone is not installed (Debian's libcapstone-dev)");
    return 0;
}
#else
#include <capstone/capstone.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MINIMUM = 1000000 }; // instructions, or the corpus is no corpus

// Where the two may differ, by the opcode after its prefixes ("lock": a LOCK that is not allowed), and why.
// All but one are #UD here, where the length says nothing; `ud` holds them to it. They are data between the
// functions of libcrypto.
static const struct {
    const char *opcode;
    bool ud;
    const char *why;
} explained[] = {
    {"lock", true, "LOCK without a destination in memory that it may lock is #UD; Capstone decodes on"},
    {"8e", true, "MOV to CS is #UD; Capstone decodes it"},
    {"62", true, "EVEX after a legacy prefix is #UD; Capstone decodes it"},
    {"0f b9", true, "UD1 has a ModRM byte (SDM 2B, UD); Capstone gives it none"},
    {"0f ff", true, "UD0 has a ModRM byte (SDM 2B, UD); Capstone gives it none"},
    {"e9", false,
     "66h before a near JMP is ignored in 64-bit mode on Intel's processors: rel32; Capstone takes rel16, as "
     "AMD's do"},
};

struct difference {
    char key[32], example[160];
    bool ud; // each time
    u64 count;
};
static struct {
    u64 instructions, files, skipped; // skipped: bytes that Capstone does not decode
    struct difference length[256], row[256];
    unsigned lengths, rows;
} found;

static void count(struct difference *d, unsigned *n, const char *key, bool ud, const char *example)
{
    unsigned i = 0;
    while (i < *n && strcmp(d[i].key, key) != 0) i++;
    if (i == 256) i--;
    if (i == *n) {
        (*n)++;
        snprintf(d[i].key, sizeof d[i].key, "%s", key);
        snprintf(d[i].example, sizeof d[i].example, "%s", example);
        d[i].ud = true;
    }
    d[i].ud &= ud;
    d[i].count++;
}

static void describe(char *out, size_t n, const u8 *bytes, unsigned len, const cs_insn *c, unsigned ours,
                     const char *file)
{
    int k = 0;
    for (unsigned i = 0; i < len && i < 16; i++) k += snprintf(out + k, n - (size_t)k, "%02x ", bytes[i]);
    snprintf(out + k, n - (size_t)k, "Capstone %u \"%s %s\", here %u; %s", c->size, c->mnemonic, c->op_str,
             ours, file);
}

// Features of Capstone's groups that CPUID does not claim.
static bool claimed(const cs_insn *c)
{
    static const u8 beyond[] = {
        X86_GRP_AVX, X86_GRP_AVX2, X86_GRP_AVX512, X86_GRP_FMA,      X86_GRP_FMA4, X86_GRP_BMI, X86_GRP_BMI2,
        X86_GRP_TBM, X86_GRP_XOP,  X86_GRP_AES,    X86_GRP_PCLMUL,   X86_GRP_SHA,  X86_GRP_ADX, X86_GRP_HLE,
        X86_GRP_RTM, X86_GRP_F16C, X86_GRP_3DNOW,  X86_GRP_SSE4A,    X86_GRP_CDI,  X86_GRP_DQI, X86_GRP_BWI,
        X86_GRP_VLX, X86_GRP_ERI,  X86_GRP_PFI,    X86_GRP_FSGSBASE, X86_GRP_SGX,
    };
    for (unsigned i = 0; i < c->detail->groups_count; i++)
        for (unsigned k = 0; k < sizeof beyond; k++)
            if (c->detail->groups[i] == beyond[k]) return false;
    if (c->id == X86_INS_XTEST) return false; // RTM: Capstone has it in no group
    return c->bytes[0] != 0xC4 && c->bytes[0] != 0xC5 && c->bytes[0] != 0x62;
}

static void compare(struct tm *t, csh cs, cs_insn *c, const u8 *bytes, size_t size, const char *file)
{
    const u32 mode = MODE_CODE64 | MODE_PE | MODE_LMA | MODE_FLAT | MODE_OSFXSR | MODE_OSXSAVE |
                     MODE_FSGSBASE | MODE_PKE | MODE_MONITOR;
    size_t at = 0;
    while (at < size) {
        const u8 *p = bytes + at;
        size_t left = size - at;
        uint64_t address = at;
        const u8 *q = p;
        size_t rest = left;
        if (!cs_disasm_iter(cs, &q, &rest, &address, c)) {
            found.skipped++;
            at++;
            continue;
        }
        struct insn in = {0};
        unsigned ours = decode_insn(t->v, p, left < 15 ? (unsigned)left : 15, mode, &in);
        char key[32], example[160];
        unsigned k = 0;
        bool lock = false, is_ud = rows[in.row].body == rows[0].body;
        for (; k + 1u < c->size && p[k] && strchr("\x66\x67\xF2\xF3\xF0\x2E\x36\x3E\x26\x64\x65", p[k]); k++)
            lock |= p[k] == 0xF0;
        if (k + 1u < c->size && (p[k] & 0xF0) == 0x40) k++;
        lock |= p[k] == 0xF0; // after a REX prefix, which then counts for nothing
        snprintf(key, sizeof key, p[k] == 0x0F ? "%02x %02x" : "%02x", p[k],
                 p[k] == 0x0F && k + 1u < c->size ? p[k + 1] : 0);
        if (lock && is_ud) snprintf(key, sizeof key, "lock");
        describe(example, sizeof example, p, c->size, c, ours, file);
        if (ours != c->size) count(found.length, &found.lengths, key, is_ud, example);
        if (is_ud && claimed(c) && c->id != X86_INS_UD2 && c->id != X86_INS_UD0)
            count(found.row, &found.rows, key, true, example);
        found.instructions++;
        at += c->size;
    }
}

static void corpus_file(struct tm *t, csh cs, cs_insn *c, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 64) {
        const u8 *f = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        const Elf64_Ehdr *h = (const void *)f;
        if (f != MAP_FAILED) {
            if (memcmp(f, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
                h->e_machine == EM_X86_64 &&
                h->e_shoff + (u64)h->e_shnum * sizeof(Elf64_Shdr) <= (u64)st.st_size) {
                const Elf64_Shdr *s = (const void *)(f + h->e_shoff);
                found.files++;
                for (unsigned i = 0; i < h->e_shnum; i++)
                    if (s[i].sh_type == SHT_PROGBITS && s[i].sh_flags & SHF_EXECINSTR &&
                        s[i].sh_offset + s[i].sh_size <= (u64)st.st_size)
                        compare(t, cs, c, f + s[i].sh_offset, s[i].sh_size, path);
            }
            munmap((void *)(uintptr_t)f, (size_t)st.st_size);
        }
    }
    close(fd);
}

// Lists them; how many are not explained?
static unsigned report(const char *what, const struct difference *d, unsigned n)
{
    unsigned bad = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *why = NULL;
        for (unsigned k = 0; k < ARRAY_LEN(explained); k++)
            if (strcmp(explained[k].opcode, d[i].key) == 0 && (d[i].ud || !explained[k].ud))
                why = explained[k].why;
        printf("%s: %s, %lu times (%s): %s\n", what, d[i].key, (unsigned long)d[i].count,
               why ? why : "NOT EXPLAINED", d[i].example);
        bad += why == NULL;
    }
    return bad;
}

static void lengths_of_real_code(void **state)
{
    static const char *const corpus[] = {
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/x86_64-linux-gnu/libm.so.6",
        "/lib64/ld-linux-x86-64.so.2",
        "/bin/bash",
        "/usr/bin/python3",
        "/usr/bin/perl",
        "/usr/bin/git",
        "/usr/bin/cmake",
        "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
        "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
        "/usr/lib/x86_64-linux-gnu/libgmp.so.10",
        "/usr/lib/x86_64-linux-gnu/libzstd.so.1",
        "/usr/bin/qemu-system-x86_64",
    };
    struct tm *t = tm_new(TM_LONG);
    csh cs;
    assert_int_equal(cs_open(CS_ARCH_X86, CS_MODE_64, &cs), CS_ERR_OK);
    cs_option(cs, CS_OPT_DETAIL, CS_OPT_ON);
    cs_insn *c = cs_malloc(cs);
    for (unsigned i = 0; i < ARRAY_LEN(corpus); i++) corpus_file(t, cs, c, corpus[i]);
    cs_free(c, 1);
    cs_close(&cs);
    tm_free(t);
    printf("%lu instructions in %lu files; Capstone skipped %lu bytes\n", (unsigned long)found.instructions,
           (unsigned long)found.files, (unsigned long)found.skipped);
    unsigned bad =
        report("length differs", found.length, found.lengths) + report("no row", found.row, found.rows);
    assert_int_equal(bad, 0);
    assert_true(found.instructions >= MINIMUM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lengths_of_real_code)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif

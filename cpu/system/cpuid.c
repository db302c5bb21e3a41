// CPUID: every leaf follows from the one feature list, live where the architecture says so.
//
// Who we say we are: GenuineIntel, family 6, model 80h, stepping 0, a model number that no processor carries.
// The errata lists of Linux, KVM, Xen and Windows go by model: an unlisted one gets no workaround for
// another's bug (a TSC-deadline erratum, a broken preemption timer, a microcode revision to be at least),
// while family 6 keeps everything that is keyed to the family (constant TSC, SEP, fast strings) and keeps the
// P4 and P6 performance-counter drivers away. So the hypervisor bit can stay clear, as it does on the bare
// machine that this is; +hypervisor sets it.
//
// IA32_ARCH_CAPABILITIES says which speculation flaws an interpreter does not have, so that kernels leave out
// what would only cost time here (page-table isolation, buffer clearing, retpolines); BHI_CTRL spares them
// the loops that clear the branch history, which Linux runs at each system call whatever BHI_NO says.
//
// Leaf 5 reports MONITOR/MWAIT without extensions: MWAIT then waits as HLT does, and kernels use the form
// "STI; MWAIT".
//
// Missing: leaf 0Ah beyond version 0 (no performance counters), leaf 18h, processor serial number, thermal
// leaf 6 bits.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system/cpuid.h"
#include "cpu/engine/fp.h"
#include "cpu/state/mode.h"

enum { BASIC_MAX = 0x16, EXTENDED_MAX = 0x80000008 };
enum { XCR0_PKRU = 1 << 9, PKRU_OFFSET = 0xA80 };
enum { FAMILY = 6, MODEL = 0x80, STEPPING = 0 };
static const char brand[48] = "Matryoshka x86-64 processor @ 2.00GHz";

static const struct feature_row {
    const char *name;
    u32 leaf;
    u8 subleaf, reg, bit;
} feature_rows[FEATURE_COUNT] = {
#define FEATURE_ROW(e, n, l, s, r, b) [FEATURE_##e] = {n, l, s, r, b},
    FEATURES(FEATURE_ROW)
#undef FEATURE_ROW
};

// Turning the first off turns the second off: the second is built on it.
// clang-format off
static const struct { u8 base, derived; } depends[] = {
    {FEATURE_FXSR, FEATURE_SSE}, {FEATURE_MMX, FEATURE_SSE}, {FEATURE_SSE, FEATURE_SSE2}, {FEATURE_SSE2, FEATURE_SSE3},
    {FEATURE_SSE3, FEATURE_SSSE3}, {FEATURE_SSSE3, FEATURE_SSE41}, {FEATURE_SSE41, FEATURE_SSE42},
    {FEATURE_FXSR, FEATURE_XSAVE}, {FEATURE_XSAVE, FEATURE_XSAVEOPT}, {FEATURE_XSAVE, FEATURE_XSAVEC},
    {FEATURE_XSAVE, FEATURE_XGETBV1}, {FEATURE_XSAVE, FEATURE_PKU}, {FEATURE_XSAVEC, FEATURE_XSAVES}, {FEATURE_APIC, FEATURE_X2APIC},
    {FEATURE_APIC, FEATURE_TSC_DEADLINE}, {FEATURE_TSC, FEATURE_TSC_DEADLINE}, {FEATURE_TSC, FEATURE_TSC_ADJUST},
    {FEATURE_TSC, FEATURE_RDTSCP}, {FEATURE_RDTSCP, FEATURE_RDPID}, {FEATURE_TSC, FEATURE_INVTSC}, {FEATURE_PAE, FEATURE_NX}, {FEATURE_PAE, FEATURE_LM},
    {FEATURE_LM, FEATURE_SYSCALL}, {FEATURE_LM, FEATURE_LAHF_LM}, {FEATURE_LM, FEATURE_LA57}, {FEATURE_LM, FEATURE_PCID},
    {FEATURE_LM, FEATURE_FSGSBASE}, {FEATURE_LM, FEATURE_PKU}, {FEATURE_LM, FEATURE_PDPE1GB}, {FEATURE_LM, FEATURE_CX16},
    {FEATURE_SPEC_CTRL, FEATURE_BHI_CTRL}, {FEATURE_CX8, FEATURE_CX16}, {FEATURE_PCID, FEATURE_INVPCID}, {FEATURE_PSE, FEATURE_PSE36}, {FEATURE_MCE, FEATURE_MCA},
};
// clang-format on

const char *cpu_feature_name(unsigned n) { return n + 1 < FEATURE_COUNT ? feature_rows[n + 1].name : NULL; }

static void feature_set(struct cpu_features *f, unsigned n, bool on)
{
    if (on)
        f->bits[n / 64] |= 1ull << (n % 64);
    else
        f->bits[n / 64] &= ~(1ull << (n % 64));
}

static void feature_off(struct cpu_features *f, unsigned n)
{
    feature_set(f, n, false);
    for (unsigned i = 0; i < ARRAY_LEN(depends); i++)
        if (depends[i].base == n && feature_on(f, depends[i].derived)) feature_off(f, depends[i].derived);
}

void cpu_features_max(struct cpu_features *f)
{
    memset(f, 0, sizeof *f);
    f->maxphyaddr = 40;
    f->feature_control = 5; // locked, VMX outside SMX
    f->rng_seed = 1;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) feature_set(f, i, true);
    feature_set(f, FEATURE_HYPERVISOR, false); // see the head of this file
    if (!fp_host_capable()) {
        feature_off(f, FEATURE_FPU);
        feature_off(f, FEATURE_MMX);
        feature_off(f, FEATURE_FXSR);
    }
}

// ---- the -cpu option ----

// Words that scripts pass and that ask for nothing which is not so: what is wrong is an error always, and
// nothing is the host's.
static const char *const no_effect[] = {
    "enforce",         "check", "migratable", "host-phys-bits",      "l3-cache",
    "host-cache-info", "kvm",   "tcg-cpuid",  "kvm-pv-enforce-cpuid"};
// What the processor says of itself.
static const char *const fixed[] = {"family", "model",     "stepping",   "model-id", "level",
                                    "xlevel", "min-level", "min-xlevel", "xlevel2"};
// Bits of IA32_ARCH_CAPABILITIES, which come together.
// clang-format off
static const char *const immunities[] = {"rdctl-no", "ibrs-all", "skip-l1dfl-vmentry", "ssb-no", "mds-no", "pschange-mc-no", "taa-no", "sbdr-ssdp-no",
                                         "fbsdp-no", "psdp-no", "bhi-no", "pbrsb-no", "gds-no", "rfds-no", "its-no"};
// Features that other machines have and this one has not: turning one off is no news, turning one on is an error.
static const char *const foreign[] = {
    "avx", "avx2", "fma", "f16c", "aes", "pclmulqdq", "sha-ni", "rtm", "hle", "mpx", "waitpkg", "cet-ss", "cet-ibt",
    "lam", "pks", "svm", "svme", "sse4a", "3dnow", "3dnowext", "mmxext", "misalignsse", "fma4", "xop", "tbm", "lwp", "dca", "pdcm", "pmu", "est", "tm", "tm2",
    "ds", "ds-cpl", "acpi", "ht", "htt", "smx", "sgx", "dtes64", "pbe", "pn", "cid", "ia64", "ssbd", "stibp", "ibpb", "ibrs", "amd-ssbd", "amd-stibp", "virt-ssbd",
    "amd-no-ssb", "md-clear", "serialize", "movdiri", "movdir64b", "cldemote", "vaes", "vpclmulqdq", "gfni", "topoext", "arch-lbr", "rdpru", "clzero", "wbnoinvd",
    "xsaveerptr", "xfd", "amx-tile", "amx-int8", "amx-bf16", "fred", "intel-pt", "core-capability", "split-lock-detect", "bus-lock-detect", "tsx-ctrl", "tsx-ldtrk",
    "avx-vnni", "avx512f", "avx512dq", "avx512ifma", "avx512pf", "avx512er", "avx512cd", "avx512bw", "avx512vl", "avx512vbmi", "avx512vbmi2", "avx512vnni",
    "avx512bitalg", "avx512vpopcntdq", "avx512-4vnniw", "avx512-4fmaps", "avx512-vp2intersect", "avx512-bf16", "avx512-fp16", "full-width-write", "fxsr-opt",
    "cmp-legacy", "cr8legacy", "extapic", "ibs", "osvw", "skinit", "wdt", "tce", "nodeid-msr", "perfctr-core", "perfctr-nb", "rsba", "pcommit", "kvmclock"};
// clang-format on
static const struct {
    const char *name, *ours;
} aliases[] = {{"pni", "sse3"}, {"3dnowprefetch", "prefetchw"}, {"xd", "nx"}, {"lzcnt", "abm"}};

// QEMU's model names that scripts pass and whose features are all here: each gives the one processor that
// there is. The others would leave their users without what they asked for.
static const char *const models[] = {"max",      "host",   "qemu64", "kvm64",
                                     "core2duo", "Conroe", "Penryn", "Nehalem"};
static const char *const newer[] = {"Westmere",    "SandyBridge",    "IvyBridge",      "Haswell",
                                    "Broadwell",   "Skylake-Client", "Skylake-Server", "Cascadelake-Server",
                                    "Cooperlake",  "Icelake-Client", "Icelake-Server", "Denverton",
                                    "Snowridge",   "KnightsMill",    "SapphireRapids", "GraniteRapids",
                                    "SierraForest"};
static const char *const narrow[] = {"base",     "qemu32",   "kvm32",   "486",  "pentium",
                                     "pentium2", "pentium3", "coreduo", "n270", "athlon"};
static const char *const amd[] = {"phenom",     "Opteron_G1", "Opteron_G2", "Opteron_G3",
                                  "Opteron_G4", "Opteron_G5", "EPYC",       "EPYC-Rome",
                                  "EPYC-Milan", "EPYC-Genoa", "Dhyana"};

const char *cpu_model_name(unsigned n) { return n < ARRAY_LEN(models) ? models[n] : NULL; }

static bool same_word(const char *a, size_t n, const char *b) // '-', '_' and '.' do not matter
{
    size_t i = 0;
    for (;;) {
        while (i < n && (a[i] == '-' || a[i] == '_' || a[i] == '.')) i++;
        while (*b == '-' || *b == '_' || *b == '.') b++;
        if (i == n || !*b) return i == n && !*b;
        if ((a[i] | 0x20) != (*b | 0x20)) return false;
        i++, b++;
    }
}

static unsigned find_feature(const char *word, size_t n)
{
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
        if (same_word(word, n, aliases[i].name)) word = aliases[i].ours, n = strlen(word);
    for (unsigned i = 1; i < FEATURE_COUNT; i++)
        if (same_word(word, n, feature_rows[i].name)) return i;
    return 0;
}

// Edit distance of two short words.
static unsigned distance(const char *a, size_t n, const char *b)
{
    unsigned row[33];
    size_t m = strlen(b);
    if (n > 32 || m > 32) return 99;
    for (size_t j = 0; j <= m; j++) row[j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned up = row[j], best = diagonal + ((a[i - 1] | 0x20) != (b[j - 1] | 0x20));
            if (up + 1 < best) best = up + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            diagonal = up;
            row[j] = best;
        }
    }
    return row[m];
}

static bool in_list(const char *const *list, size_t count, const char *word, size_t n)
{
    for (size_t i = 0; i < count; i++)
        if (same_word(word, n, list[i])) return true;
    return false;
}

// A model's name, less what QEMU hangs on it: -IBRS, -noTSX, -v2.
static size_t model_length(const char *word, size_t n)
{
    static const char *const tails[] = {"-IBRS", "-IBPB", "-noTSX"};
    if (n > 3 && word[n - 3] == '-' && word[n - 2] == 'v') n -= 3;
    for (unsigned i = 0; i < ARRAY_LEN(tails); i++) {
        size_t k = strlen(tails[i]);
        if (n > k && same_word(word + n - k, k, tails[i])) n -= k;
    }
    return n;
}

static bool fail(char *buf, size_t buf_size, const char **why, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static bool fail(char *buf, size_t buf_size, const char **why, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, buf_size, fmt, ap);
    va_end(ap);
    *why = buf;
    return false;
}

static bool parse_model(const char *word, size_t n, char *buf, size_t buf_size, const char **why)
{
    size_t k = model_length(word, n);
    int shown = (int)n;
    if (in_list(models, ARRAY_LEN(models), word, k)) return true;
    if (in_list(newer, ARRAY_LEN(newer), word, k))
        return fail(buf, buf_size, why,
                    "'%.*s' has features that are not there yet, as AES or AVX; max has all that are", shown,
                    word);
    if (in_list(narrow, ARRAY_LEN(narrow), word, k))
        return fail(buf, buf_size, why,
                    "'%.*s' is less than the processor that is there; take features away from max", shown,
                    word);
    if (in_list(amd, ARRAY_LEN(amd), word, k))
        return fail(buf, buf_size, why, "'%.*s' is AMD's, and the processor is Intel's; use max", shown,
                    word);
    unsigned best = 99, at = 0;
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        unsigned d = distance(word, n, models[i]);
        if (d < best) best = d, at = i;
    }
    if (best > 1 + n / 4)
        return fail(buf, buf_size, why, "unknown model '%.*s' (-cpu help lists them)", shown, word);
    return fail(buf, buf_size, why, "unknown model '%.*s'; did you mean '%s'?", shown, word, models[at]);
}

static bool unknown(const char *word, size_t n, char *buf, size_t buf_size, const char **why)
{
    unsigned best = 99, at = 0;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) {
        unsigned d = distance(word, n, feature_rows[i].name);
        if (d < best) best = d, at = i;
    }
    if (best > n / 3)
        return fail(buf, buf_size, why, "unknown feature '%.*s' (-cpu help lists them)", (int)n, word);
    return fail(buf, buf_size, why, "unknown feature '%.*s'; did you mean '%s'?", (int)n, word,
                feature_rows[at].name);
}

static bool parse_switch(const char *value, size_t n, bool *on)
{
    if (same_word(value, n, "on") || same_word(value, n, "yes") || same_word(value, n, "true"))
        *on = true;
    else if (same_word(value, n, "off") || same_word(value, n, "no") || same_word(value, n, "false"))
        *on = false;
    else
        return false;
    return true;
}

bool cpu_features_parse(struct cpu_features *f, const char *text, char *buf, size_t buf_size,
                        const char **why)
{
    cpu_features_max(f);
    bool first = true;
    while (*text || first) {
        size_t n = strcspn(text, ",");
        const char *word = text;
        text += n + (text[n] == ',');
        if (first) { // the model
            first = false;
            bool named = n != 0;
            for (size_t i = 0; i < n; i++)
                if (word[i] == '+' || word[i] == '=') named = false;
            if (n == 0) return fail(buf, buf_size, why, "no model; use 'max'");
            if (named) {
                if (!parse_model(word, n, buf, buf_size, why)) return false;
                continue;
            }
        }
        if (n == 0) continue;
        bool on = true, plus = word[0] == '+', minus = word[0] == '-';
        if (plus || minus) word++, n--, on = plus;
        const char *equals = memchr(word, '=', n), *value = equals ? equals + 1 : "";
        size_t key = equals ? (size_t)(equals - word) : n, value_n = equals ? n - key - 1 : 0;
        int key_shown = (int)key;
        if (equals && (same_word(word, key, "phys-bits") || same_word(word, key, "host-phys-bits-limit"))) {
            char *end;
            unsigned long bits = strtoul(value, &end, 10);
            if (end != word + n || bits < 32 || bits > 52)
                return fail(buf, buf_size, why, "phys-bits must be 32 to 52, not '%.*s'", (int)value_n,
                            value);
            f->maxphyaddr = (u8)bits;
            continue;
        }
        if (equals && same_word(word, key, "vendor")) {
            if (value_n == 12 && memcmp(value, "GenuineIntel", 12) == 0) continue;
            return fail(buf, buf_size, why, "vendor '%.*s': the processor is GenuineIntel", (int)value_n,
                        value);
        }
        if (in_list(fixed, ARRAY_LEN(fixed), word, key))
            return fail(buf, buf_size, why, "'%.*s' cannot be set", key_shown, word);
        bool is_switch = !equals || parse_switch(value, value_n, &on);
        if (key > 4 && memcmp(word, "vmx-", 4) == 0)
            return fail(buf, buf_size, why, "'%.*s': VMX's features cannot be switched one by one yet",
                        key_shown, word);
        if ((key > 3 && (memcmp(word, "hv-", 3) == 0 || memcmp(word, "hv_", 3) == 0)) ||
            (key > 4 && memcmp(word, "kvm-", 4) == 0 &&
             !in_list(no_effect, ARRAY_LEN(no_effect), word, key))) { // another hypervisor's
            if (is_switch && !on) continue;
            return fail(buf, buf_size, why, "this processor has no '%.*s'", key_shown, word);
        }
        if (!is_switch) return fail(buf, buf_size, why, "'%.*s' wants on or off", (int)n, word);
        if (in_list(no_effect, ARRAY_LEN(no_effect), word, key)) continue;
        if (in_list(immunities, ARRAY_LEN(immunities), word, key)) {
            if (on) continue;
            return fail(buf, buf_size, why,
                        "'%.*s' cannot be switched off by itself; -arch-capabilities takes all of them",
                        key_shown, word);
        }
        unsigned feature = find_feature(word, key);
        if (feature) {
            if (on)
                feature_set(f, feature, true);
            else
                feature_off(f, feature);
            continue;
        }
        if (in_list(foreign, ARRAY_LEN(foreign), word, key)) {
            if (!on) continue;
            return fail(buf, buf_size, why, "this processor has no '%.*s'", key_shown, word);
        }
        return unknown(word, key, buf, buf_size, why);
    }
    for (unsigned i = 0; i < ARRAY_LEN(depends); i++)
        if (feature_on(f, depends[i].derived) && !feature_on(f, depends[i].base))
            return fail(buf, buf_size, why, "'%s' needs '%s'", feature_rows[depends[i].derived].name,
                        feature_rows[depends[i].base].name);
    return true;
}

// ---- leaves ----

u64 cpuid_xcr0_mask(const struct cpu_features *f)
{
    return (feature_on(f, FEATURE_SSE) ? 3 : 1) | (feature_on(f, FEATURE_PKU) ? XCR0_PKRU : 0);
}

static u32 feature_bits(const struct cpu_features *f, u32 leaf, u32 subleaf, unsigned reg)
{
    u32 bits = 0;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) {
        const struct feature_row *r = &feature_rows[i];
        if (r->leaf == leaf && r->subleaf == subleaf && r->reg == reg && feature_on(f, i))
            bits |= 1u << r->bit;
    }
    return bits;
}

// Area that XSAVE needs for these components: legacy region and header, and PKRU at its place in the standard
// format or right behind the header in the compacted one.
static u32 xsave_size(u64 components, bool compact)
{
    if (!(components & XCR0_PKRU)) return 512 + 64;
    return (compact ? 512 + 64 : PKRU_OFFSET) + 8;
}

static void leaf_1(const struct vcpu *v, u32 out[4])
{
    const struct cpu_features *f = v->features;
    u32 cpus = f->cpus ? f->cpus : 1;
    out[0] = STEPPING | (MODEL & 0xF) << 4 | FAMILY << 8 | (MODEL >> 4) << 16;
    // CLFLUSH line in quadwords, logical processors, initial APIC ID
    out[1] = 8 << 8 | cpus << 16 | v->index << 24;
    out[2] = feature_bits(f, 1, 0, 2);
    out[3] = feature_bits(f, 1, 0, 3);
    if (cpus > 1) out[3] |= 1u << 28; // HTT: the count above is valid
    if (feature_on(f, FEATURE_XSAVE) && (v->s.cr4 & CR4_OSXSAVE)) out[2] |= 1u << 27;
    // the APIC switched off is an APIC that is not there
    if (!(v->s.msr.apic_base & BIT(11))) out[3] &= ~(1u << 9);
    if (!(v->s.msr.misc_enable & BIT(18))) out[2] &= ~(1u << 3); // MONITOR
}

// Deterministic cache parameters: two first-level caches, a second and a third level.
static void leaf_4(const struct vcpu *v, u32 subleaf, u32 out[4])
{
    // clang-format off
    static const struct { u8 type, level; u16 ways; u32 sets; bool shared; } cache[] = {
        {1, 1, 8, 64, false}, {2, 1, 8, 64, false}, {3, 2, 8, 1024, false}, {3, 3, 16, 8192, true}};
    // clang-format on
    if (subleaf >= ARRAY_LEN(cache)) return;
    u32 cpus = v->features->cpus ? v->features->cpus : 1, cores = 1;
    while (cores < cpus) cores *= 2;
    out[0] = cache[subleaf].type | cache[subleaf].level << 5 | 1 << 8 | (cores - 1) << 26;
    if (cache[subleaf].shared) out[0] |= (cores - 1) << 14;
    out[1] = 63 | (u32)(cache[subleaf].ways - 1) << 22;
    out[2] = cache[subleaf].sets - 1;
}

static void leaf_0b(const struct vcpu *v, u32 subleaf, u32 out[4])
{
    u32 cpus = v->features->cpus ? v->features->cpus : 1, shift = 0;
    while (1u << shift < cpus) shift++;
    out[2] = subleaf & 0xFF;
    out[3] = v->index;
    if (subleaf == 0) { // threads: one a core
        out[1] = 1;
        out[2] |= 1 << 8;
    } else if (subleaf == 1) {
        out[0] = shift;
        out[1] = cpus;
        out[2] |= 2 << 8;
    }
}

static void leaf_0d(const struct vcpu *v, u32 subleaf, u32 out[4])
{
    const struct cpu_features *f = v->features;
    if (!feature_on(f, FEATURE_XSAVE)) return;
    u64 all = cpuid_xcr0_mask(f);
    if (subleaf == 0) {
        out[0] = (u32)all;
        out[1] = xsave_size(v->s.xcr0, false);
        out[2] = xsave_size(all, false);
        out[3] = (u32)(all >> 32);
    } else if (subleaf == 1) {
        out[0] = feature_bits(f, 0xD, 1, 0);
        if (feature_on(f, FEATURE_XSAVEC)) out[1] = xsave_size(v->s.xcr0 | v->s.msr.xss, true);
    } else if (subleaf == 9 && (all & XCR0_PKRU)) {
        out[0] = 8;
        out[1] = PKRU_OFFSET;
    }
}

// IA32_MISC_ENABLE[22] hides the leaves above 2 from software that cannot take a greater answer.
static u32 basic_max(const struct vcpu *v) { return v->s.msr.misc_enable & BIT(22) ? 2 : BASIC_MAX; }

static void basic(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4])
{
    const struct cpu_features *f = v->features;
    switch (leaf) {
    case 0:
        out[0] = basic_max(v);
        memcpy(&out[1], "Genu", 4);
        memcpy(&out[3], "ineI", 4);
        memcpy(&out[2], "ntel", 4);
        break;
    case 1: leaf_1(v, out); break;
    case 2: // look at leaf 4 for caches; instruction TLB 4-way 64, data TLB 4-way 64, second level 512
        out[0] = 0x03B2FF01;
        out[3] = 0xCA;
        break;
    case 4: leaf_4(v, subleaf, out); break;
    case 5:
        if (!feature_on(f, FEATURE_MONITOR)) break;
        out[0] = out[1] = 64;
        break;
    case 6: out[0] = feature_bits(f, 6, 0, 0); break;
    case 7:
        if (subleaf == 0) out[0] = 2; // the highest subleaf
        out[1] = feature_bits(f, 7, subleaf, 1);
        out[2] = feature_bits(f, 7, subleaf, 2);
        out[3] = feature_bits(f, 7, subleaf, 3);
        if (subleaf == 0 && feature_on(f, FEATURE_PKU) && (v->s.cr4 & CR4_PKE)) out[2] |= 1u << 4;
        break;
    case 0xB: leaf_0b(v, subleaf, out); break;
    case 0xD: leaf_0d(v, subleaf, out); break;
    case 0x15: // TSC = crystal * EBX / EAX
        out[0] = 1;
        out[1] = (u32)(CPU_TSC_HZ / CPU_CRYSTAL_HZ);
        out[2] = (u32)CPU_CRYSTAL_HZ;
        break;
    case 0x16: // MHz: base, maximum, bus
        out[0] = out[1] = (u32)(CPU_TSC_HZ / 1000000);
        out[2] = 100;
        break;
    default: break;
    }
}

static void extended(const struct vcpu *v, u32 leaf, u32 out[4])
{
    const struct cpu_features *f = v->features;
    switch (leaf) {
    case 0x80000000: out[0] = EXTENDED_MAX; break;
    case 0x80000001:
        out[2] = feature_bits(f, leaf, 0, 2);
        out[3] = feature_bits(f, leaf, 0, 3);
        if (v->s.msr.misc_enable & BIT(34)) out[3] &= ~(1u << 20); // XD Bit Disable
        // SYSCALL: shown in 64-bit mode only (SDM CPUID, note to EDX[11])
        if (!cpu_long64(v)) out[3] &= ~(1u << 11);
        break;
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: memcpy(out, brand + 16 * (leaf - 0x80000002), 16); break;
    case 0x80000006: out[2] = 64 | 6 << 12 | 512 << 16; break; // L2: line, 8 ways, KiB
    case 0x80000007: out[3] = feature_bits(f, leaf, 0, 3); break;
    case 0x80000008: out[0] = f->maxphyaddr | (feature_on(f, FEATURE_LA57) ? 57 : 48) << 8; break;
    default: break;
    }
}

void cpuid_query(const struct vcpu *v, u32 leaf, u32 subleaf, u32 out[4])
{
    memset(out, 0, 4 * sizeof *out);
    if (leaf >= 0x80000000 && leaf <= EXTENDED_MAX)
        extended(v, leaf, out);
    else // a leaf beyond the highest answers as the highest basic one (SDM CPUID)
        basic(v, leaf > basic_max(v) ? basic_max(v) : leaf, subleaf, out);
}

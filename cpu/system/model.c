// The words of -cpu: models, features and what other machines call them, and what is said of a word that is
// none.
#include "cpu/system/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system/cpuid.h"

unsigned word_distance(const char *a, size_t n, const char *b)
{
    unsigned row[65];
    size_t m = strlen(b);
    if (n > 64 || m > 64) return 99;
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
    "rtm", "hle", "mpx", "cet-ss", "cet-ibt",
    "lam", "svm", "svme", "sse4a", "3dnow", "3dnowext", "mmxext", "misalignsse", "fma4", "xop", "tbm", "lwp", "dca", "pdcm", "pmu", "est", "tm", "tm2",
    "ds", "ds-cpl", "acpi", "ht", "htt", "smx", "sgx", "dtes64", "pbe", "pn", "cid", "ia64", "ibpb", "ibrs", "amd-ssbd", "amd-stibp", "virt-ssbd",
    "amd-no-ssb", "topoext", "arch-lbr", "rdpru", "clzero", "wbnoinvd",
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
static const struct model {
    const char *name;
    u8 by_host[5]; // features that the host must have: enum feature
} models[] = {
    {"max", {0}},
    {"host", {0}},
    {"qemu64", {0}},
    {"kvm64", {0}},
    {"core2duo", {0}},
    {"Conroe", {0}},
    {"Penryn", {0}},
    {"Nehalem", {0}},
    {"Westmere", {FEATURE_AES, FEATURE_PCLMULQDQ}},
    {"SandyBridge", {FEATURE_AES, FEATURE_PCLMULQDQ, FEATURE_AVX}},
    {"IvyBridge", {FEATURE_AES, FEATURE_PCLMULQDQ, FEATURE_AVX, FEATURE_F16C}},
    {"Haswell-noTSX", {FEATURE_AES, FEATURE_PCLMULQDQ, FEATURE_AVX, FEATURE_F16C, FEATURE_FMA}},
    {"Broadwell-noTSX", {FEATURE_AES, FEATURE_PCLMULQDQ, FEATURE_AVX, FEATURE_F16C, FEATURE_FMA}},
};
static const char *const newer[] = {
    "Haswell",     "Broadwell",      "Skylake-Client", "Skylake-Server", "Cascadelake-Server",
    "Cooperlake",  "Icelake-Client", "Icelake-Server", "Denverton",      "Snowridge",
    "KnightsMill", "SapphireRapids", "GraniteRapids",  "SierraForest"};
static const char *const narrow[] = {"base",     "qemu32",   "kvm32",   "486",  "pentium",
                                     "pentium2", "pentium3", "coreduo", "n270", "athlon"};
static const char *const amd[] = {"phenom",     "Opteron_G1", "Opteron_G2", "Opteron_G3",
                                  "Opteron_G4", "Opteron_G5", "EPYC",       "EPYC-Rome",
                                  "EPYC-Milan", "EPYC-Genoa", "Dhyana"};

const char *cpu_model_name(unsigned n) { return n < ARRAY_LEN(models) ? models[n].name : NULL; }

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

static const char *feature_name(unsigned feature) { return cpu_feature_name(feature - 1); }

static unsigned find_feature(const char *word, size_t n)
{
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
        if (same_word(word, n, aliases[i].name)) word = aliases[i].ours, n = strlen(word);
    for (unsigned i = 1; i < FEATURE_COUNT; i++)
        if (same_word(word, n, feature_name(i))) return i;
    return 0;
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

static bool without_tsx(const char *word, size_t n)
{
    for (size_t i = 0; i + 5 <= n; i++)
        if (same_word(word + i, 5, "noTSX")) return true;
    return false;
}
// Whether the word names the model, one of those without TSX as such.
static bool same_model(const char *word, size_t n, const char *model)
{
    char base[32] = {0};
    size_t k = model_length(model, strlen(model));
    if (k >= sizeof base || (strlen(model) != k && !without_tsx(word, n))) return false;
    memcpy(base, model, k);
    return same_word(word, model_length(word, n), base);
}

static bool parse_model(const char *word, size_t n, char *buf, size_t buf_size, const char **why)
{
    size_t k = model_length(word, n);
    int shown = (int)n;
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        if (!same_model(word, n, models[i].name)) continue;
        for (unsigned f = 0; f < ARRAY_LEN(models[i].by_host); f++) {
            enum feature wanted = (enum feature)models[i].by_host[f];
            if (!cpu_feature_possible(wanted))
                return fail(buf, buf_size, why, "'%.*s' wants a host that has '%s'", shown, word,
                            feature_name(wanted));
        }
        return true;
    }
    if (in_list(newer, ARRAY_LEN(newer), word, k))
        return fail(buf, buf_size, why,
                    "'%.*s' has features that are not there yet, as TSX; max has all that are", shown, word);
    if (in_list(narrow, ARRAY_LEN(narrow), word, k))
        return fail(buf, buf_size, why,
                    "'%.*s' is less than the processor that is there; take features away from max", shown,
                    word);
    if (in_list(amd, ARRAY_LEN(amd), word, k))
        return fail(buf, buf_size, why, "'%.*s' is AMD's, and the processor is Intel's; use max", shown,
                    word);
    unsigned best = 99, at = 0;
    for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
        unsigned d = word_distance(word, n, models[i].name);
        if (d < best) best = d, at = i;
    }
    if (best > 1 + n / 4)
        return fail(buf, buf_size, why, "unknown model '%.*s' (-cpu help lists them)", shown, word);
    return fail(buf, buf_size, why, "unknown model '%.*s'; did you mean '%s'?", shown, word, models[at].name);
}

static bool unknown(const char *word, size_t n, char *buf, size_t buf_size, const char **why)
{
    unsigned best = 99, at = 0;
    for (unsigned i = 1; i < FEATURE_COUNT; i++) {
        unsigned d = word_distance(word, n, feature_name(i));
        if (d < best) best = d, at = i;
    }
    if (best > n / 3)
        return fail(buf, buf_size, why, "unknown feature '%.*s' (-cpu help lists them)", (int)n, word);
    return fail(buf, buf_size, why, "unknown feature '%.*s'; did you mean '%s'?", (int)n, word,
                feature_name(at));
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
            if (on && !cpu_feature_possible((enum feature)feature))
                return fail(buf, buf_size, why, "'%.*s' wants a host that has it", key_shown, word);
            cpu_feature_switch(f, feature, on);
            continue;
        }
        if (in_list(foreign, ARRAY_LEN(foreign), word, key)) {
            if (!on) continue;
            return fail(buf, buf_size, why, "this processor has no '%.*s'", key_shown, word);
        }
        return unknown(word, key, buf, buf_size, why);
    }
    unsigned derived, base;
    if (!cpu_features_complete(f, &derived, &base))
        return fail(buf, buf_size, why, "'%s' needs '%s'", feature_name(derived), feature_name(base));
    return true;
}

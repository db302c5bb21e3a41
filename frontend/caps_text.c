// Reads capability MSRs in text.
#include "frontend/caps_text.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system/model.h"
#include "vmx/control.h"

enum { FIRST = 0x480, LAST = 0x493, LINE_MAX_ = 400 };

// clang-format off
static const struct { u32 msr; const char *name; } msr_names[] = {
    {0x480, "BASIC"}, {0x481, "PINBASED_CTLS"}, {0x482, "PROCBASED_CTLS"}, {0x483, "EXIT_CTLS"}, {0x484, "ENTRY_CTLS"},
    {0x485, "MISC"}, {0x486, "CR0_FIXED0"}, {0x487, "CR0_FIXED1"}, {0x488, "CR4_FIXED0"}, {0x489, "CR4_FIXED1"},
    {0x48A, "VMCS_ENUM"}, {0x48B, "PROCBASED_CTLS2"}, {0x48C, "EPT_VPID_CAP"}, {0x48D, "TRUE_PINBASED_CTLS"},
    {0x48E, "TRUE_PROCBASED_CTLS"}, {0x48F, "TRUE_EXIT_CTLS"}, {0x490, "TRUE_ENTRY_CTLS"}, {0x491, "VMFUNC"},
    {0x492, "PROCBASED_CTLS3"}, {0x493, "EXIT_CTLS2"},
};
static const struct { const char *name, *source; u8 maxphyaddr, linear; u64 msr[18]; } named[] = {
#define PROCESSOR(name, physical, linear, source, ...) {name, source, physical, linear, {__VA_ARGS__}},
#include "frontend/processors.def"
#undef PROCESSOR
};
// clang-format on

static void features_for_efer(
    struct cpu_features *f) // a 64-bit processor with NX and SYSCALL, as all with VMX and EPT are
{
    memset(f, 0, sizeof *f);
    static const enum feature has[] = {FEATURE_SYSCALL, FEATURE_LM, FEATURE_NX, FEATURE_VMX};
    for (unsigned i = 0; i < ARRAY_LEN(has); i++) f->bits[has[i] / 64] |= BIT(has[i] % 64);
}

bool processor_own(struct processor *p, const char *model, char *why, size_t n)
{
    struct phys phys;
    const char *line = "";
    char text[256];
    memset(p, 0, sizeof *p);
    cpu_features_max(&p->features);
    if (model && !cpu_features_parse(&p->features, model, text, sizeof text, &line)) {
        snprintf(why, n, "--cpu %s: %s", model, line);
        return false;
    }
    if (!feature_on(&p->features, FEATURE_VMX)) {
        snprintf(why, n, "--cpu %s: a processor without VMX has no VMCS", model);
        return false;
    }
    if (!phys_init(&phys, 1 << 20, &line)) {
        snprintf(why, n, "%s", line);
        return false;
    }
    struct vcpu *v = vcpu_new(0, &phys, &p->features);
    if (v) p->caps = *vmx_capabilities(v);
    p->name = "matryoshka", p->source = "this program's own processor";
    p->maxphyaddr = p->features.maxphyaddr;
    p->linear_bits = feature_on(&p->features, FEATURE_LA57) ? 57 : 48;
    p->own = true;
    if (v) vcpu_free(v);
    phys_free(&phys);
    if (!v) snprintf(why, n, "the host has no memory for a processor");
    return v != NULL;
}

bool processor_named(struct processor *p, unsigned n)
{
    if (n >= ARRAY_LEN(named)) return false;
    memset(p, 0, sizeof *p);
    features_for_efer(&p->features);
    p->name = named[n].name, p->source = named[n].source;
    p->maxphyaddr = named[n].maxphyaddr, p->linear_bits = named[n].linear;
    bool given[LAST - FIRST + 1] = {false};
    u64 value[LAST - FIRST + 1] = {0};
    for (unsigned i = 0; i < ARRAY_LEN(named[n].msr); i++)
        value[i] = named[n].msr[i], given[i] = value[i] != 0;
    return vmx_caps_of_msrs(&p->caps, value, given) == NULL;
}

// ---- text ----
struct reader {
    struct vmcs_text_to to;
    u64 value[LAST - FIRST + 1];
    bool given[LAST - FIRST + 1];
    bool waits; // "rdmsr 0x480" was read: its value comes
    u64 waiting_for;
};

static bool name_is(const char *s, size_t n, const char *wanted)
{
    static const char *const prefixes[] = {"MSR_", "IA32_", "VMX_", "vmx_", "ia32_", "msr_"};
    for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t p = strlen(prefixes[i]);
        if (n > p && !strncmp(s, prefixes[i], p)) s += p, n -= p, i = UINT32_MAX; // again from the first
    }
    return n == strlen(wanted) && !strncasecmp(s, wanted, n);
}

// The MSR that a word names, by number or by name.
static bool msr_of(const char *s, size_t n, u64 *msr)
{
    char word[40];
    if (!n || n >= sizeof word) return false;
    memcpy(word, s, n);
    word[n] = 0;
    const char *end = isdigit((u8)word[0]) ? vmcs_text_number(word, msr) : NULL;
    if (end && !*end) return true;
    for (unsigned i = 0; i < ARRAY_LEN(msr_names); i++) {
        if (!name_is(s, n, msr_names[i].name)) continue;
        *msr = msr_names[i].msr;
        return true;
    }
    return false;
}

static void store(struct reader *r, u64 msr, u64 value)
{
    if (msr < FIRST || msr > LAST) {
        vmcs_text_say(&r->to, false, "MSR %llXH is no capability of VMX and is left alone",
                      (unsigned long long)msr);
        return;
    }
    if (r->given[msr - FIRST] && r->value[msr - FIRST] != value)
        vmcs_text_say(&r->to, false, "MSR %llXH was given already, with another value: this one counts",
                      (unsigned long long)msr);
    r->given[msr - FIRST] = true;
    r->value[msr - FIRST] = value;
}

static bool width_line(struct reader *r, struct processor *p, const char *s)
{
    unsigned physical, linear, n;
    char word[24];
    if (sscanf(s, "address sizes : %u bits physical, %u bits virtual", &physical, &linear) == 2) {
    } else if (sscanf(s, "%20[a-z_-] %*[=:] %u", word, &n) == 2) {
        bool is_physical = !strcmp(word, "maxphyaddr") || !strcmp(word, "phys-bits");
        if (!is_physical && strcmp(word, "linear") != 0) return false;
        physical = is_physical ? n : p->maxphyaddr, linear = is_physical ? p->linear_bits : n;
    } else
        return false;
    if (physical < 32 || physical > 52 || (linear != 48 && linear != 57)) {
        vmcs_text_say(&r->to, true, "physical addresses have 32 to 52 bits, linear ones 48 or 57");
        return true;
    }
    p->maxphyaddr = (u8)physical, p->linear_bits = (u8)linear;
    return true;
}

static void one_line(struct reader *r, struct processor *p, char *line)
{
    static const char between[] = " \t=:[]";
    u64 msr, value;
    if (strchr(line, '#')) *strchr(line, '#') = 0;
    if (strstr(line, "//")) *strstr(line, "//") = 0;
    for (size_t k = strlen(line); k && isspace((u8)line[k - 1]);) line[--k] = 0;
    char *s = line + strspn(line, " \t$");
    if (!*s || width_line(r, p, s)) return;
    if (!strncmp(s, "rdmsr", 5) || !strncmp(s, "sudo ", 5) || !strncmp(s, "wrmsr", 5)) {
        char *last = strrchr(s, ' ');
        if (strncmp(s, "wrmsr", 5) != 0 && last && msr_of(last + 1, strlen(last + 1), &msr)) {
            r->waits = true, r->waiting_for = msr;
            return;
        }
    }
    if (!strncasecmp(s, "msr", 3) && strchr(between, s[3])) s += 3;
    s += strspn(s, between);
    size_t n = strcspn(s, between);
    const char *rest = s + n + strspn(s + n, between);
    if (!*rest && r->waits) {
        const char *end = vmcs_text_number(s, &value);
        r->waits = false;
        if (end && !*end)
            store(r, r->waiting_for, value);
        else
            vmcs_text_say(&r->to, true, "\"%.40s\" is no value (up to 16 hexadecimal digits)", s);
        return;
    }
    if (!msr_of(s, n, &msr)) {
        vmcs_text_say(&r->to, true, "this is no MSR with its value: \"%.60s\"", line);
        return;
    }
    const char *end = vmcs_text_number(rest, &value);
    if (!end || *end)
        vmcs_text_say(&r->to, true, "\"%.40s\" is no value (up to 16 hexadecimal digits)", rest);
    else
        store(r, msr, value);
}

bool processor_parse(struct processor *p, const char *text, size_t n, vmcs_text_tell say, void *opaque)
{
    struct reader r = {.to = {.tell = say, .opaque = opaque}};
    const char *end = text + n;
    memset(p, 0, sizeof *p);
    features_for_efer(&p->features);
    p->maxphyaddr = 52, p->linear_bits = 57;
    while (text < end) {
        char line[LINE_MAX_ + 1];
        const char *next = memchr(text, '\n', (size_t)(end - text));
        size_t k = (size_t)((next ? next : end) - text);
        r.to.line++;
        if (k > LINE_MAX_ || memchr(text, 0, k)) {
            vmcs_text_say(&r.to, true, "a line that is no text, or of more than %d bytes", LINE_MAX_);
            return false;
        }
        memcpy(line, text, k);
        line[k] = 0;
        one_line(&r, p, line);
        text = next ? next + 1 : end;
    }
    r.to.line = 0;
    if (r.to.failed) return false;
    const char *missing = vmx_caps_of_msrs(&p->caps, r.value, r.given);
    if (missing) vmcs_text_say(&r.to, true, "%s", missing);
    return !r.to.failed;
}

// Names of VMCS fields, as hypervisors and people write them.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cpu/system/model.h"
#include "frontend/vmcs_text.h"

enum { LONGEST = 80 };

// clang-format off
static const struct { u16 field; const char *names; } others[] = {
#define NAMES(field, names) {VMCS_##field, names},
#include "frontend/vmcs_names.def"
#undef NAMES
};
// clang-format on

// Letters and digits alone, in capitals, without VMCS or VMX_VMCS16 in front. Returns how many; 0: too long,
// or nothing.
static unsigned plain(const char *name, size_t n, char out[LONGEST])
{
    static const char *const prefixes[] = {"VMXVMCS16", "VMXVMCS32", "VMXVMCS64", "VMXVMCS", "VMCS"};
    unsigned k = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((u8)name[i])) continue;
        if (k == LONGEST - 1) return 0;
        out[k++] = (char)toupper((u8)name[i]);
    }
    out[k] = 0;
    for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++) {
        size_t p = strlen(prefixes[i]);
        if (strncmp(out, prefixes[i], p) != 0 || !strncmp(out, "VMCSLINK", 8) || k == p) continue;
        memmove(out, out + p, k + 1 - p);
        return k - (unsigned)p;
    }
    return k;
}

static bool is(const char *wanted, const char *name, size_t n)
{
    char text[LONGEST];
    return plain(name, n, text) && !strcmp(wanted, text);
}

// "virtual-processor identifier (VPID)": without what is in parentheses.
static size_t before_parenthesis(const char *text) { return strcspn(text, "("); }

static int find_plain(const char *wanted)
{
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field_row *r = &vmcs_field_rows[i];
        if (is(wanted, r->name, strlen(r->name)) || is(wanted, r->text, before_parenthesis(r->text)))
            return i;
    }
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        for (const char *s = others[i].names; *s; s += strcspn(s, " "), s += *s == ' ')
            if (is(wanted, s, strcspn(s, " "))) return others[i].field;
    }
    return -1;
}

int vmcs_name_find(const char *name, size_t n, bool *high)
{
    char text[LONGEST];
    *high = false;
    unsigned k = plain(name, n, text);
    if (!k) return -1;
    int field = find_plain(text);
    if (field >= 0 || k < 5) return field;
    bool upper = !strcmp(text + k - 4, "HIGH");
    if (!upper && strcmp(text + k - 4, "FULL") != 0) return -1;
    text[k - 4] = 0;
    field = find_plain(text);
    if (field >= 0 && vmcs_field_rows[field].width != WIDTH_64) return -1;
    *high = upper;
    return field;
}

const char *vmcs_name_nearest(const char *name, size_t n)
{
    static _Thread_local char found[LONGEST];
    unsigned least = (unsigned)n / 4 + 1;
    const char *best = NULL;
    for (int i = 0; i < VMCS_FIELD_COUNT; i++) {
        unsigned d = word_distance(name, n, vmcs_field_rows[i].name);
        if (d < least) least = d, best = vmcs_field_rows[i].name;
    }
    for (unsigned i = 0; i < ARRAY_LEN(others); i++) {
        for (const char *s = others[i].names; *s; s += strcspn(s, " "), s += *s == ' ') {
            char one[LONGEST];
            snprintf(one, sizeof one, "%.*s", (int)strcspn(s, " "), s);
            unsigned d = word_distance(name, n, one);
            if (d >= least) continue;
            least = d;
            memcpy(found, one, sizeof found);
            best = found;
        }
    }
    return best;
}

// Reads a VMCS in text. Two shapes, which may be mixed: "field = value", the field by name or encoding; and
// the dumps of Linux and Xen, whose pieces (vmcs_dumps.def) mean something by the section in which they
// stand. What a log puts in front of its lines is left out; lines of a log that are no part of a dump are
// told and left alone.
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "frontend/vmcs_text.h"

enum { G = 1, H = 2, C = 4, GHC = 7, NONE = VMCS_FIELD_COUNT };
enum { LONGEST_LINE = 1000 };

// clang-format off
#define VMCS_NONE NONE
#define PIECE_1(a)       {VMCS_##a, NONE, NONE, NONE}
#define PIECE_2(a, b)    {VMCS_##a, VMCS_##b, NONE, NONE}
#define PIECE_3(a, b, c) {VMCS_##a, VMCS_##b, VMCS_##c, NONE}
#define PIECE_4(a, b, c, d) {VMCS_##a, VMCS_##b, VMCS_##c, VMCS_##d}
#define PICK(a, b, c, d, n, ...) n
#define PIECE(sections, text, ...) {sections, text, PICK(__VA_ARGS__, PIECE_4, PIECE_3, PIECE_2, PIECE_1, )(__VA_ARGS__)},
static const struct piece { u8 sections; const char *text; u16 field[4]; } pieces[] = {
#include "frontend/vmcs_dumps.def"
};
// clang-format on

struct reader {
    struct vmcs_text *t;
    struct vmcs_text_to to;
    unsigned section; // G, H, C; 0 before the first
    bool log;         // the line has what a log puts in front
};

static const char *skip(const char *s)
{
    while (*s == ' ' || *s == '\t') s++;
    return s;
}

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : isxdigit((u8)c) ? (c | 32) - 'a' + 10 : -1;
}

void vmcs_text_say(struct vmcs_text_to *to, bool error, const char *format, ...)
{
    char what[300];
    va_list ap;
    va_start(ap, format);
    vsnprintf(what, sizeof what, format, ap);
    va_end(ap);
    to->failed |= error;
    to->tell(to->opaque, error, to->line, what);
}

const char *vmcs_text_number(const char *s, u64 *value)
{
    if (!strncmp(s, "~0", 2) || !strncmp(s, "-1", 2)) {
        *value = UINT64_MAX;
        s += 2 + strspn(s + 2, "uUlL");
        return isalnum((u8)*s) ? NULL : s;
    }
    unsigned digits = 0;
    if (s[0] == '0' && (s[1] | 32) == 'x') s += 2;
    *value = 0;
    for (; digit(*s) >= 0 || (*s == '_' && digits); s++) {
        if (*s == '_') continue;
        if (*value >> 60) return NULL;
        *value = *value << 4 | (unsigned)digit(*s);
        digits++;
    }
    if (digits && s[-1] == '_') return NULL;
    if (digits) s += *s == 'H' || *s == 'h' ? 1 : strspn(s, "uUlL"); // the manual's and C's
    return digits && !isalnum((u8)*s) && *s != '_' ? s : NULL;
}

static void store(struct reader *r, unsigned field, bool high, u64 value)
{
    struct vmcs_text *t = r->t;
    const struct vmcs_field_row *row = &vmcs_field_rows[field];
    unsigned bits = row->size * 8u;
    u64 old = vmcs_field_get(&t->f, (enum vmcs_field)field);
    // All ones are meant for as many bits as there are.
    if (value == UINT64_MAX && bits < 64) value = (1ull << bits) - 1;
    if ((high && value >> 32) || (bits < 64 && value >> bits)) {
        vmcs_text_say(&r->to, true, "%#llx does not fit %s, which has %u bits", (unsigned long long)value,
                      row->name, high ? 32 : bits);
        return;
    }
    if (high) value = value << 32 | (u32)old;
    if (t->line[field] && !high && old != value)
        vmcs_text_say(&r->to, false, "%s was given in line %u already, with another value: this one counts",
                      row->name, t->line[field]);
    if (!t->line[field]) t->fields++;
    t->line[field] = r->to.line;
    vmcs_field_set(&t->f, (enum vmcs_field)field, value);
}

// ---- dumps ----
static const char *take_piece(const struct piece *p, const char *s, u64 value[4], unsigned *n)
{
    *n = 0;
    for (const char *w = p->text; *w; w++) {
        if (*w == ' ') continue;
        s = skip(s);
        if (*w == '%') {
            if (*n == 4 || *s == '~' || *s == '-') return NULL;
            s = vmcs_text_number(s, &value[(*n)++]);
            if (!s) return NULL;
        } else if (*s++ != *w)
            return NULL;
    }
    return s;
}

// Whether all of a line is pieces of a dump; with `keep` their values are stored.
static bool pieces_of(struct reader *r, const char *s, bool keep)
{
    while (*(s = skip(s))) {
        const char *end = NULL;
        u64 value[4];
        unsigned n;
        for (unsigned i = 0; i < ARRAY_LEN(pieces) && !end; i++) {
            if (!(pieces[i].sections & r->section) || !(end = take_piece(&pieces[i], s, value, &n))) continue;
            for (unsigned k = 0; keep && k < n; k++)
                if (pieces[i].field[k] != NONE) store(r, pieces[i].field[k], false, value[k]);
        }
        if (!end) return false;
        s = skip(end);
        while (*s == '(' && strchr(s, ')'))
            s = skip(strchr(s, ')') + 1); // what an address is called, and the like
        if (*s == ',') s++;
    }
    return true;
}

// A line of a dump counts as a whole or not at all.
static bool dump_line(struct reader *r, const char *line)
{
    return pieces_of(r, line, false) && pieces_of(r, line, true);
}

static bool section_line(struct reader *r, const char *s)
{
    static const struct {
        const char *head;
        u8 section;
    } heads[] = {{"*** Guest State ***", G}, {"*** Host State ***", H}, {"*** Control State ***", C}};
    for (unsigned i = 0; i < ARRAY_LEN(heads); i++) {
        if (!strstr(s, heads[i].head)) continue;
        if (heads[i].section == G && r->section)
            vmcs_text_say(&r->to, false, "a second VMCS begins here; its fields replace those before");
        r->section = heads[i].section;
        return true;
    }
    return false;
}

// What logs put in front: quotes of mail, syslog's date and host, the kernel's time, a priority, "(XEN)", the
// module.
static const char *without_log(const char *s, bool *log)
{
    const char *kernel = strstr(s, " kernel: ");
    if (kernel) s = kernel + 9, *log = true;
    for (;;) {
        s = skip(s);
        size_t n;
        if (*s == '>')
            n = 1;
        else if (!strncmp(s, "(XEN)", 5))
            n = 5;
        else if (*s == '[' && strchr(s, ']'))
            n = (size_t)(strchr(s, ']') - s) + 1;
        else if (*s == '<' && isdigit((u8)s[1]) && s[2] == '>')
            n = 3;
        else if (!strncmp(s, "kvm_intel: ", 11))
            n = 11;
        else if (!strncmp(s, "kvm: ", 5))
            n = 5;
        else
            return s;
        if (*s != '>') *log = true;
        s += n;
    }
}

// ---- "field = value" ----
// The end of the words before '=', ':' or, where there is neither, before the last word; NULL: the line has
// not this shape.
static const char *end_of_name(const char *s, const char **value)
{
    const char *sign = s + strcspn(s, "=:");
    if (*sign) {
        *value = skip(sign + 1 + (sign[0] == ':' && sign[1] == '='));
        return sign;
    }
    const char *last = strrchr(s, ' ');
    if (!last) last = strrchr(s, '\t');
    if (!last || last == s) return NULL;
    *value = last + 1;
    return last;
}

static bool encoding_of(const char *name, size_t n, u64 *encoding)
{
    char text[32];
    if (n >= sizeof text) return false;
    memcpy(text, name, n);
    text[n] = 0;
    const char *end = vmcs_text_number(text, encoding);
    return end && !*end && digit(text[0]) >= 0 && text[0] <= '9'; // "ACE" is a word
}

// One assignment; where the next one begins, NULL after an error.
static const char *assignment(struct reader *r, const char *s)
{
    const char *value_at, *end = end_of_name(s, &value_at);
    u64 value, encoding;
    bool high = false;
    if (!end || end == s) {
        vmcs_text_say(&r->to, true, "this is neither FIELD = VALUE nor a line of a dump: \"%.60s\"", s);
        return NULL;
    }
    size_t n = (size_t)(end - s);
    if (memchr(s, '(', n)) n = (size_t)((const char *)memchr(s, '(', n) - s); // GUEST_CR0 (6800H) = ...
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\t')) n--;
    int field;
    if (encoding_of(s, n, &encoding)) {
        field = encoding >> 32 ? -1 : vmcs_field_find((u32)encoding);
        high = encoding & 1;
        if (field < 0 || (high && vmcs_field_rows[field].width != WIDTH_64)) {
            vmcs_text_say(&r->to, true, "no VMCS field has the encoding %#llx", (unsigned long long)encoding);
            return NULL;
        }
    } else if ((field = vmcs_name_find(s, n, &high)) < 0) {
        const char *near = vmcs_name_nearest(s, n);
        vmcs_text_say(&r->to, true, "no VMCS field is called %.*s%s%s", (int)(n < 60 ? n : 60), s,
                      near ? "; did you mean " : "", near ? near : "");
        return NULL;
    }
    end = vmcs_text_number(value_at, &value);
    if (!end) {
        vmcs_text_say(&r->to, true, "%s: \"%.*s\" is no value (up to 16 hexadecimal digits)",
                      vmcs_field_rows[field].name, (int)strcspn(value_at, " \t,;"), value_at);
        return NULL;
    }
    store(r, (unsigned)field, high, value);
    end = skip(end);
    while (*end == ',' || *end == ';') end = skip(end + 1);
    return end;
}

static void comment_off(char *line)
{
    for (char *s = line; *s; s++)
        if (*s == '#' || (s[0] == '/' && s[1] == '/')) *s = 0;
    size_t n = strlen(line);
    while (n && isspace((u8)line[n - 1])) line[--n] = 0;
}

static void one_line(struct reader *r, char *line)
{
    r->log = false;
    const char *s = without_log(line, &r->log);
    if (section_line(r, s)) return;
    if (r->section && dump_line(r, s)) return;
    comment_off(line);
    s = without_log(line, &r->log);
    if (!*s) return;
    if (r->section || r->log) {
        vmcs_text_say(&r->to, false, "not understood, and left alone: \"%.60s\"", s);
        return;
    }
    while (s && *(s = skip(s))) s = assignment(r, s);
}

bool vmcs_text_parse(struct vmcs_text *t, const char *text, size_t n, vmcs_text_tell say, void *opaque)
{
    struct reader r = {.t = t, .to = {.tell = say, .opaque = opaque}};
    const char *end = text + n;
    memset(t, 0, sizeof *t);
    while (text < end) {
        char line[LONGEST_LINE + 1];
        const char *next = memchr(text, '\n', (size_t)(end - text));
        size_t k = (size_t)((next ? next : end) - text);
        r.to.line++;
        if (memchr(text, 0, k)) {
            vmcs_text_say(&r.to, true, "a NUL byte: this is no text");
            return false;
        }
        if (k > LONGEST_LINE) {
            vmcs_text_say(&r.to, true, "a line of more than %d bytes: this is no VMCS in text", LONGEST_LINE);
            return false;
        }
        memcpy(line, text, k);
        line[k] = 0;
        for (char *c = line; *c; c++)
            if (*c == '\r') *c = ' ';
        one_line(&r, line);
        text = next ? next + 1 : end;
    }
    r.to.line = 0;
    if (!t->fields && !r.to.failed) vmcs_text_say(&r.to, true, "there is no VMCS field in it");
    return !r.to.failed;
}

// Explanations of failed VM entries and VMX instructions, as text and as JSON. Everything goes through a
// callback that takes text.
#include "vmx/explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmx/hints.h"
#include "vmx/offence.h"

enum { WIDTH = 100, NAME = 34 };

struct sink {
    vmx_put put;
    void *opaque;
};

static void put(const struct sink *s, const char *text) { s->put(s->opaque, text); }

static __attribute__((format(printf, 2, 3))) void say(const struct sink *s, const char *format, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    put(s, text);
}

// Words from column `at` on, in lines indented by `indent`.
static void wrap(const struct sink *s, const char *text, unsigned at, unsigned indent)
{
    while (*text) {
        unsigned n = (unsigned)strcspn(text, " ");
        if (at + n > WIDTH && at > indent) {
            say(s, "\n%*s", (int)indent, "");
            at = indent;
        }
        say(s, "%.*s", (int)n, text);
        at += n;
        text += n;
        if (*text == ' ') {
            text++;
            if (*text && at + 1 + strcspn(text, " ") <= WIDTH) put(s, " "), at++;
        }
    }
    put(s, "\n");
}

static void labelled(const struct sink *s, const char *label, const char *text)
{
    say(s, "   %s: ", label);
    unsigned at = 5 + (unsigned)strlen(label);
    wrap(s, text, at, at);
}

static void value_line(const struct sink *s, const char *name, u64 value, const char *more)
{
    say(s, "   %-*s %#llx%s%s\n", NAME, name, (unsigned long long)value, *more ? "  " : "", more);
}

// ---- the bits that offend ----
// The highest run of bits of `bits` that are all the same in `value` and have the same name: *top and its
// end.
static int run_of(const char *of, u64 bits, u64 value, int *top)
{
    *top = 63 - __builtin_clzll(bits);
    const char *name = vmx_bit_name(of, (unsigned)*top);
    int end = *top;
    while (end > 0 && bits >> (end - 1) & 1 && (value >> (end - 1) & 1) == (value >> *top & 1)) {
        const char *next = vmx_bit_name(of, (unsigned)end - 1);
        if ((name || next) && (!name || !next || strcmp(name, next) != 0)) break;
        end--;
    }
    return end;
}

static void bits_text(const struct sink *s, const char *of, u64 bits, u64 value)
{
    char text[120];
    while (bits) {
        int top, end = run_of(of, bits, value, &top);
        const char *name = vmx_bit_name(of, (unsigned)top);
        int n = snprintf(text, sizeof text, top == end ? "%s bit %d" : "%s bits %d:%d", of, top, end);
        snprintf(text + n, sizeof text - (size_t)n, "%s%s%s %s %d", name ? " (" : "", name ? name : "",
                 name ? ")" : "", top == end ? "is" : "are", (int)(value >> top & 1));
        labelled(s, "wrong", text);
        bits &= end ? BIT(end) - 1 : 0;
    }
}

static void bits_json(const struct sink *s, const char *of, u64 bits, u64 value, bool first)
{
    for (int b = 63; b >= 0; b--) {
        if (!(bits >> b & 1)) continue;
        say(s, "%s{\"field\": \"%s\", \"bit\": %d, \"is\": %d", first ? "" : ", ", of, b,
            (int)(value >> b & 1));
        const char *name = vmx_bit_name(of, (unsigned)b);
        if (name) put(s, ", \"name\": "), vmx_json_string(name, s->put, s->opaque);
        put(s, "}");
        first = false;
    }
}

void vmx_json_string(const char *text, vmx_put to, void *opaque)
{
    const struct sink s = {to, opaque};
    put(&s, "\"");
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            say(&s, "\\%c", *text);
        else if ((u8)*text < ' ' || (u8)*text >= 127) // what is shown of a file may hold anything
            say(&s, "\\u%04x", (u8)*text);
        else
            say(&s, "%c", *text);
    }
    put(&s, "\"");
}

// ---- entries ----
struct found {
    struct vmx_check_failure *x; // told first what the processor found, then the others in their order
    unsigned n, total;
};

static struct found find(const struct vmx_entry *e, const struct vmx_check_failure *first)
{
    struct vmx_check_failure probe;
    struct found f = {.total = vmx_doctor(e, &probe, 1)};
    // A long MSR-load area may break a rule with each entry; a thousand are enough for anybody.
    unsigned room = f.total < 1000 ? f.total : 1000;
    f.x = calloc(room + 1, sizeof *f.x);
    if (!f.x) panic("out of memory");
    vmx_doctor(e, f.x, room);
    f.n = room;
    bool there = !first || !first->check;
    for (unsigned i = 0; i < f.n && !there; i++)
        there = f.x[i].check == first->check && f.x[i].qualification == first->qualification;
    if (!there) {
        memmove(f.x + 1, f.x, f.n * sizeof *f.x);
        f.x[0] = *first;
        f.n++, f.total++;
    }
    return f;
}

static void outcome_text(const struct sink *s, const struct vmx_check_failure *x)
{
    if (x->outcome == VMX_OUTCOME_FAIL_VALID)
        say(s, "VMfailValid(%u)", x->number);
    else if (x->outcome == VMX_OUTCOME_FAIL_INVALID)
        put(s, "VMfailInvalid");
    else
        say(s, "exit %u, qualification %llu", x->number, (unsigned long long)x->qualification);
}

void vmx_explain_entry(const struct vmx_entry *e, const struct vmx_check_failure *first, vmx_put to,
                       void *opaque)
{
    const struct sink s = {to, opaque};
    struct found f = find(e, first);
    if (!f.total) {
        put(&s, "No rule of VM entry is violated.\n");
        free(f.x);
        return;
    }
    say(&s, "%u rule%s of VM entry %s violated", f.total, f.total == 1 ? "" : "s",
        f.total == 1 ? "is" : "are");
    put(&s, f.total == 1 ? ".\n" : "; the first one decides what the processor does.\n");
    for (unsigned i = 0; i < f.n; i++) {
        const struct vmx_check_failure *x = &f.x[i];
        const struct vmx_check *c = x->check;
        struct vmx_offence o[VMX_OFFENCES_MAX];
        unsigned n = vmx_offences(e, x, o);
        char head[80];
        snprintf(head, sizeof head, "%u. %s (SDM %s): ", i + 1, c->id, c->section);
        put(&s, head);
        wrap(&s, c->words, (unsigned)strlen(head), 3);
        put(&s, "   gives ");
        outcome_text(&s, x);
        put(&s, "\n");
        for (const u16 *p = c->inputs; *p != VMX_INPUT_END; p++)
            value_line(&s, vmx_check_input_name(*p), vmx_check_input_value(e, x, *p), "");
        for (unsigned k = 0; k < n; k++)
            bits_text(&s, vmx_check_input_name(o[k].input), o[k].bits, o[k].value);
        int hint = vmx_hint_of_check(e, x, n ? o[0].bits : 0);
        if (hint >= 0) labelled(&s, "hint", vmx_hints[hint].text);
    }
    if (f.n < f.total) say(&s, "... and %u more.\n", f.total - f.n);
    free(f.x);
}

static void row_json(const struct sink *s, const struct vmx_entry *e, const struct vmx_check_failure *x)
{
    const struct vmx_check *c = x->check;
    struct vmx_offence o[VMX_OFFENCES_MAX];
    unsigned n = vmx_offences(e, x, o);
    say(s, "{\"id\": \"%s\", \"section\": \"%s\", \"group\": \"%s\", ", c->id, c->section,
        vmx_check_group(c));
    if (x->outcome == VMX_OUTCOME_FAIL_INVALID)
        put(s, "\"outcome\": \"VMfailInvalid\", ");
    else if (x->outcome == VMX_OUTCOME_FAIL_VALID)
        say(s, "\"outcome\": \"VMfailValid\", \"number\": %u, ", x->number);
    else
        say(s, "\"outcome\": \"exit\", \"number\": %u, \"qualification\": %llu, ", x->number,
            (unsigned long long)x->qualification);
    put(s, "\"rule\": ");
    vmx_json_string(c->words, s->put, s->opaque);
    put(s, ", \"fields\": {");
    for (const u16 *p = c->inputs; *p != VMX_INPUT_END; p++)
        say(s, "%s\"%s\": \"%#llx\"", p == c->inputs ? "" : ", ", vmx_check_input_name(*p),
            (unsigned long long)vmx_check_input_value(e, x, *p));
    put(s, "}");
    if (n) {
        put(s, ", \"bits\": [");
        for (unsigned k = 0; k < n; k++)
            bits_json(s, vmx_check_input_name(o[k].input), o[k].bits, o[k].value, k == 0);
        put(s, "], \"mask\": {");
        for (unsigned k = 0; k < n; k++)
            say(s, "%s\"%s\": \"%#llx\"", k ? ", " : "", vmx_check_input_name(o[k].input),
                (unsigned long long)o[k].bits);
        put(s, "}");
    }
    int hint = vmx_hint_of_check(e, x, n ? o[0].bits : 0);
    if (hint >= 0) put(s, ", \"hint\": "), vmx_json_string(vmx_hints[hint].text, s->put, s->opaque);
    put(s, "}");
}

void vmx_explain_entry_json(const struct vmx_entry *e, const struct vmx_check_failure *first, vmx_put to,
                            void *opaque)
{
    const struct sink s = {to, opaque};
    struct found f = find(e, first);
    put(&s, "\"violated\": [");
    for (unsigned i = 0; i < f.n; i++) {
        if (i) put(&s, ", ");
        row_json(&s, e, &f.x[i]);
    }
    say(&s, "], \"violated_count\": %u", f.total);
    free(f.x);
}

// ---- instructions ----
void vmx_explain_refusal(const struct vmx_refused *r, vmx_put to, void *opaque)
{
    const struct sink s = {to, opaque};
    const struct vmcs_field_row *field = vmx_refused_field(r);
    char head[80];
    snprintf(head, sizeof head, "%s (SDM %s): ", r->row->id, r->row->section);
    put(&s, head);
    wrap(&s, r->row->words, (unsigned)strlen(head), 3);
    put(&s, "   gives ");
    vmx_refused_outcome(r, to, opaque);
    put(&s, "\n");
    for (unsigned i = 0; i < REFUSAL_VALUES_MAX && r->row->value[i]; i++)
        value_line(&s, r->row->value[i], r->value[i], i == 0 && field ? field->name : "");
    bits_text(&s, r->row->value[0], r->bits, r->value[0]);
    int hint = vmx_hint_of_refusal(r);
    if (hint >= 0) labelled(&s, "hint", vmx_hints[hint].text);
}

void vmx_explain_refusal_json(const struct vmx_refused *r, vmx_put to, void *opaque)
{
    static const char *const outcome[] = {"#UD", "#GP(0)", "VMfailInvalid", "VMfailValid", NULL, "exit"};
    const struct sink s = {to, opaque};
    const struct vmcs_field_row *field = vmx_refused_field(r);
    const char *what = r->row->outcome == REFUSE_FAIL ? outcome[r->valid ? REFUSE_VALID : REFUSE_INVALID]
                                                      : outcome[r->row->outcome];
    say(&s, "\"id\": \"%s\", \"section\": \"%s\", \"outcome\": \"%s\", ", r->row->id, r->row->section, what);
    if (r->valid || r->row->outcome == REFUSE_EXIT) say(&s, "\"number\": %u, ", r->row->number);
    put(&s, "\"rule\": ");
    vmx_json_string(r->row->words, to, opaque);
    put(&s, ", \"fields\": {");
    for (unsigned i = 0; i < REFUSAL_VALUES_MAX && r->row->value[i]; i++)
        say(&s, "%s\"%s\": \"%#llx\"", i ? ", " : "", r->row->value[i], (unsigned long long)r->value[i]);
    put(&s, "}");
    if (field) say(&s, ", \"field\": \"%s\"", field->name);
    if (r->bits) {
        put(&s, ", \"bits\": [");
        bits_json(&s, r->row->value[0], r->bits, r->value[0], true);
        say(&s, "], \"mask\": {\"%s\": \"%#llx\"}", r->row->value[0], (unsigned long long)r->bits);
    }
    int hint = vmx_hint_of_refusal(r);
    if (hint >= 0) put(&s, ", \"hint\": "), vmx_json_string(vmx_hints[hint].text, to, opaque);
}

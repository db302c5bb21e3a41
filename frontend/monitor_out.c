// What a command answers: words for a person, and the members of an object for a program.
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/monitor.h"

void monitor_answer_begin(struct monitor *c)
{
    c->failed = false;
    if (c->kind != MONITOR_JSON) return;
    c->text = open_memstream(&c->text_at, &c->text_n);
    c->members = open_memstream(&c->members_at, &c->members_n);
    c->depth = 0;
    c->any[0] = false;
}

void say_text(void *monitor, const char *text)
{
    struct monitor *c = monitor;
    if (c->kind != MONITOR_JSON)
        c->put(c->opaque, text);
    else if (c->text)
        fputs(text, c->text);
}

static void vsay(struct monitor *c, const char *format, va_list ap)
{
    char text[2048];
    vsnprintf(text, sizeof text, format, ap);
    say_text(c, text);
}

void say(struct monitor *c, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsay(c, format, ap);
    va_end(ap);
}

void fail(struct monitor *c, const char *format, ...)
{
    va_list ap;
    c->failed = true;
    va_start(ap, format);
    vsay(c, format, ap);
    va_end(ap);
}

// A string of JSON. What is no UTF-8 (a path, a symbol) becomes a question mark.
static void put_string(FILE *f, const char *s)
{
    fputc('"', f);
    for (; *s; s++) {
        u8 b = (u8)*s;
        if (b == '"' || b == '\\')
            fprintf(f, "\\%c", b);
        else if (b == '\n')
            fputs("\\n", f);
        else if (b < ' ' || b > 126)
            fputc('?', f);
        else
            fputc(b, f);
    }
    fputc('"', f);
}

static FILE *member(struct monitor *c, const char *key)
{
    FILE *f = c->members;
    if (c->kind != MONITOR_JSON || !f) return NULL;
    if (c->any[c->depth] || !c->depth) fputs(", ", f);
    c->any[c->depth] = true;
    if (key) put_string(f, key), fputs(": ", f);
    return f;
}

void json_open(struct monitor *c, const char *key, char kind)
{
    FILE *f = member(c, key);
    if (!f || c->depth + 1u >= sizeof c->any) return;
    fputc(kind, f);
    c->any[++c->depth] = false;
    c->ends[c->depth] = kind == '{' ? '}' : ']';
}

void json_close(struct monitor *c)
{
    if (c->kind != MONITOR_JSON || !c->members || !c->depth) return;
    fputc(c->ends[c->depth--], c->members);
}

void json_text(struct monitor *c, const char *key, const char *text)
{
    FILE *f = member(c, key);
    if (f) put_string(f, text);
}

void json_hex(struct monitor *c, const char *key, u64 x)
{
    FILE *f = member(c, key);
    if (f) fprintf(f, "\"0x%llx\"", (unsigned long long)x);
}

void json_number(struct monitor *c, const char *key, u64 x)
{
    FILE *f = member(c, key);
    if (f) fprintf(f, "%llu", (unsigned long long)x);
}

void json_flag(struct monitor *c, const char *key, bool x)
{
    FILE *f = member(c, key);
    if (f) fputs(x ? "true" : "false", f);
}

static void put_file(void *file, const char *text) { fputs(text, file); }

void json_raw(struct monitor *c,
              void (*explain)(const struct vmx_entry *e, const struct vmx_check_failure *first,
                              void (*put)(void *opaque, const char *text), void *opaque),
              const struct vmx_entry *e)
{
    FILE *f = member(c, NULL);
    if (f) explain(e, NULL, put_file, f);
}

void monitor_answer(struct monitor *c, const char *line, bool event)
{
    char *all = NULL;
    size_t n = 0;
    while (c->depth) json_close(c);
    if (c->text) fclose(c->text);
    if (c->members) fclose(c->members);
    FILE *f = open_memstream(&all, &n);
    if (f && c->text && c->members) {
        fprintf(f, "{\"%s\": ", event ? "event" : "command");
        put_string(f, line);
        size_t k = c->text_n;
        if (c->failed && k && c->text_at[k - 1] == '\n') c->text_at[k - 1] = 0;
        fputs(c->failed ? ", \"error\": " : ", \"text\": ", f);
        put_string(f, c->text_at);
        if (!c->failed) fputs(c->members_at, f);
        fputs("}\n", f);
    }
    if (f) fclose(f);
    if (all && n) c->put(c->opaque, all);
    free(all);
    if (c->text) free(c->text_at);
    if (c->members) free(c->members_at);
    c->text = c->members = NULL;
}

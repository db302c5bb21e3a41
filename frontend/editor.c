#include "frontend/editor.h"

#include <histedit.h>
#include <string.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 // as gcc has it
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#define LEAKS_BEGIN() __lsan_disable()
#define LEAKS_END()   __lsan_enable()
#else
#define LEAKS_BEGIN() (void)0
#define LEAKS_END()   (void)0
#endif

static EditLine *el(const struct editor *e) { return e->line; }

static void put(void *editor, const char *text)
{
    struct editor *e = editor;
    terminal_write(e->terminal, (const u8 *)text, (u32)strlen(text));
}

static struct editor *editor_of(EditLine *line)
{
    void *e = NULL;
    el_get(line, EL_CLIENTDATA, &e);
    return e;
}

static char *prompt(EditLine *line)
{
    static char text[] = "(matryoshka) ";
    return text;
}

// libedit asks for a character only when there is one, or within a sequence of a key, whose others follow at
// once.
static int next_character(EditLine *line, wchar_t *to)
{
    struct terminal *t = editor_of(line)->terminal;
    u8 byte;
    if (!terminal_command(t, &byte, 1)) {
        terminal_poll(t, 100);
        if (!terminal_command(t, &byte, 1)) return 0;
    }
    *to = byte < 128 ? byte : L'?';
    return 1;
}

static unsigned char complete(EditLine *line, int key)
{
    const LineInfo *now = el_line(line);
    char beginning[64];
    const char *first = NULL, *name;
    size_t n = (size_t)(now->cursor - now->buffer), common = 0;
    unsigned found = 0;
    if (n >= sizeof beginning || now->cursor != now->lastchar) return CC_ERROR;
    memcpy(beginning, now->buffer, n), beginning[n] = 0;
    for (; (name = monitor_complete(beginning, found)) != NULL; found++) {
        size_t k = 0;
        if (!first) first = name, common = strlen(name);
        while (k < common && first[k] == name[k]) k++;
        common = k;
    }
    if (!found) return CC_ERROR;
    char more[64] = "";
    if (common - n < sizeof more - 1) memcpy(more, first + n, common - n), more[common - n] = 0;
    if (found == 1) strcat(more, " ");
    if (*more) {
        el_insertstr(line, more);
        return CC_REFRESH;
    }
    struct editor *e = editor_of(line);
    put(e, "\n");
    for (unsigned i = 0; (name = monitor_complete(beginning, i)) != NULL; i++)
        put(e, name), put(e, i % 6 == 5 ? "\n" : "  ");
    put(e, "\n");
    return CC_REDISPLAY;
}

static bool begin(struct editor *e)
{
    HistEvent ev;
    History *h = history_init();
    EditLine *line = h ? el_init("matryoshka", stdin, stdout, stderr) : NULL;
    if (!line) {
        if (h) history_end(h);
        return false;
    }
    history(h, &ev, H_SETSIZE, 500);
    history(h, &ev, H_SETUNIQUE, 1);
    el_set(line, EL_CLIENTDATA, e);
    el_set(line, EL_PROMPT, prompt);
    el_set(line, EL_EDITOR, "emacs");
    el_set(line, EL_SIGNAL, 0);
    el_set(line, EL_HIST, history, h);
    el_set(line, EL_GETCFN, next_character);
    LEAKS_BEGIN(); // libedit keeps the two texts, and forgets them in el_end
    el_set(line, EL_ADDFN, "complete", "completes a command", complete);
    LEAKS_END();
    el_set(line, EL_BIND, "^I", "complete", NULL);
    el_set(line, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_set(line, EL_SETTY, "-d", "-isig", NULL);
    e->line = line, e->history = h;
    return true;
}

void editor_make(struct editor *e, struct debugger *d, struct terminal *t)
{
    *e = (struct editor){.terminal = t};
    monitor_make(&e->monitor, d, MONITOR_TEXT, put, e);
}

static void show(struct editor *e, bool on)
{
    if (e->shown == on) return;
    el_set(el(e), EL_UNBUFFERED, on ? 1 : 0);
    e->shown = on;
    if (!on) terminal_resume(e->terminal); // libedit leaves it as a shell has it
}

static void typed(struct editor *e)
{
    int n = 0;
    HistEvent ev;
    char text[2048];
    const char *got = el_gets(el(e), &n);
    if (!got || n <= 0 || (got[n - 1] != '\n' && got[n - 1] != '\r')) return;
    show(e, false);
    snprintf(text, sizeof text, "%.*s", n - 1, got);
    if (text[strspn(text, " \t")]) history(e->history, &ev, H_ENTER, text);
    monitor_command(&e->monitor, text);
}

void editor_attend(struct editor *e)
{
    struct terminal *t = e->terminal;
    struct monitor *c = &e->monitor;
    if (!t->monitor) {
        if (e->shown) {
            show(e, false);
            put(e, "\n");
        }
        return;
    }
    if (!e->line && !begin(e)) {
        t->monitor = false;
        return;
    }
    for (;;) {
        if (c->told != c->d->stood && !c->d->running) {
            put(e, e->shown ? "\n" : "\r");
            show(e, false);
            monitor_look(c);
            c->waits = false;
        }
        if (c->waits && c->d->running) { // any key ends the wait
            u8 byte;
            if (!terminal_command(t, &byte, 1)) return;
            c->waits = false;
        }
        show(e, true);
        if (!t->commands_n || !t->monitor) return;
        typed(e);
        if (c->quit) return;
    }
}

void editor_free(struct editor *e)
{
    if (!e->line) return;
    show(e, false);
    el_end(el(e));
    history_end(e->history);
    e->line = NULL;
}

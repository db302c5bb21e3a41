#include "frontend/debug.h"

#include <elf.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "frontend/debugger.h"
#include "frontend/editor.h"
#include "frontend/gdb_server.h"
#include "frontend/line.h"
#include "frontend/monitor.h"
#include "frontend/signals.h"
#include "frontend/state_file.h"

enum { LOOK_AGAIN = 50, ROOM = 4096 }; // milliseconds, for who wants the machine to end meanwhile

struct port { // a monitor on a line
    struct line line;
    struct monitor monitor;
    char buf[ROOM];
    unsigned n;
    bool ended; // nobody says more
    bool skips; // what is left of a line that was too long
    bool broken;
};

struct debug {
    struct debug_config c;
    struct debugger d;
    struct {
        struct line line;
        struct gdb_server server;
        bool there, broken;
    } gdb;
    struct port port[MONITORS_MAX];
    unsigned ports;
    struct editor editor; // the terminal's
};

static bool text_port(const struct port *p) { return p->monitor.kind == MONITOR_TEXT; }

static void put_gdb(void *opaque, const u8 *bytes, size_t n)
{
    struct debug *g = opaque;
    if (!g->gdb.broken && !line_write(&g->gdb.line, bytes, n)) g->gdb.broken = true;
}

static void put_port(void *opaque, const char *text)
{
    struct port *p = opaque;
    if (!p->broken && !line_write(&p->line, (const u8 *)text, strlen(text))) p->broken = true;
}

// ---- coming and going ----
static void attach(struct debug *g, struct monitor *c)
{
    if (c->attached) return;
    c->attached = true;
    debugger_attach(&g->d);
    g->d.failures = true;
    debugger_listen(&g->d);
    c->told = g->d.stood;
    if (!g->d.running) c->told--;
}

static void detach(struct debug *g, struct monitor *c)
{
    if (!c->attached) return;
    c->attached = c->waits = false;
    for (unsigned i = 0; i < BREAKS_MAX; i++)
        if (g->d.breaks.b[i].owner == c) g->d.breaks.b[i].owner = NULL;
    debugger_gone(&g->d);
}

static void prompt(struct port *p)
{
    if (text_port(p) && p->line.socket) put_port(p, "(matryoshka) ");
}

static void greet(struct debug *g, struct port *p)
{
    p->n = 0;
    p->ended = p->broken = p->skips = false;
    attach(g, &p->monitor);
    monitor_look(&p->monitor);
    prompt(p);
}

static bool open_port(struct debug *g, const char *spec, char *why, size_t n)
{
    struct port *p = &g->port[g->ports];
    char where[512];
    const char *format = strstr(spec, ",format=");
    enum monitor_kind kind = MONITOR_TEXT;
    size_t k = format ? (size_t)(format - spec) : strlen(spec);
    if (format && strcmp(format, ",format=json") == 0) kind = MONITOR_JSON;
    if (format && kind == MONITOR_TEXT && strcmp(format, ",format=text") != 0) {
        snprintf(why, n, "-monitor %s: format=text or format=json expected, at the end", spec);
        return false;
    }
    if (k >= sizeof where) {
        snprintf(why, n, "-monitor: an address of less than %zu characters expected", sizeof where);
        return false;
    }
    memcpy(where, spec, k), where[k] = 0;
    if (strcmp(where, "stdio") == 0 && kind == MONITOR_TEXT && isatty(0)) {
        g->c.terminal->monitor = g->c.terminal->monitor_alone = true;
        return true;
    }
    monitor_make(&p->monitor, &g->d, kind, put_port, p);
    if (!line_open(&p->line, "-monitor", where, why, n)) return false;
    g->ports++;
    if (line_connected(&p->line))
        greet(g, p);
    else
        fprintf(stderr, "matryoshka: monitor: waiting on %s%s\n", p->line.name,
                g->c.o->held ? " (-S: the machine stands still)" : "");
    return true;
}

// gdb takes it for the program that runs, and its processor for the one that runs it: of a 32-bit ELF file,
// as multiboot's are, gdb 13 dies. What is no ELF file is of no use to it.
static void name_program(const char *kernel, char *to, size_t n)
{
    u8 head[20] = {0};
    char *path = kernel ? realpath(kernel, NULL) : NULL;
    FILE *f = path ? fopen(path, "rb") : NULL;
    bool read = f && fread(head, 1, sizeof head, f) == sizeof head;
    if (read && memcmp(head, "\177ELF\2\1", 6) == 0 && head[18] == EM_X86_64 && strlen(path) < n)
        snprintf(to, n, "%s", path);
    if (f) fclose(f);
    free(path);
}

struct debug *debug_open(const struct debug_config *c, char *why, size_t n)
{
    struct debug *g = calloc(1, sizeof *g);
    if (!g) {
        snprintf(why, n, "the host has no memory for the debugger");
        return NULL;
    }
    const struct options *o = c->o;
    g->c = *c;
    debugger_make(&g->d, c->journal->m);
    g->d.journal = c->journal;
    g->d.symbols = c->symbols;
    g->d.history.restart = c->restart, g->d.history.restart_opaque = c->opaque;
    g->d.history_limit = o->history;
    g->d.give_up = &signals_end;
    g->d.save = state_file_save;
    g->d.last = c->last;
    if (o->last_events) debugger_keep(&g->d);
    if (o->held) {
        g->d.held = true;
        debugger_stand(&g->d, 0, 5, "");
    }
    if (o->gdb) {
        if (!gdb_server_make(&g->gdb.server, &g->d)) {
            snprintf(why, n, "the host has no memory for the GDB server");
            goto failed;
        }
        g->gdb.there = true;
        name_program(o->kernel, g->gdb.server.exec_file, sizeof g->gdb.server.exec_file);
        g->gdb.server.put = put_gdb, g->gdb.server.opaque = g;
        if (!line_open(&g->gdb.line, "-gdb", o->gdb, why, n)) goto failed;
        if (line_connected(&g->gdb.line))
            gdb_server_attach(&g->gdb.server);
        else
            fprintf(stderr, "matryoshka: gdb: waiting on %s%s\n", g->gdb.line.name,
                    o->held ? " (-S: the machine stands still)" : "");
    }
    for (unsigned i = 0; i < o->monitors; i++)
        if (!open_port(g, o->monitor[i], why, n)) goto failed;
    editor_make(&g->editor, &g->d, c->terminal);
    return g;
failed:
    debug_close(g, 0);
    return NULL;
}

// ---- gdb's client ----
// By standard input nobody comes again: without a word of farewell, that is the end.
static void lose_gdb(struct debug *g)
{
    struct gdb_server *s = &g->gdb.server;
    if (s->attached && g->gdb.line.listener < 0) s->killed = true;
    gdb_server_gone(s);
    line_hang_up(&g->gdb.line);
    g->gdb.broken = false;
}

static void hear_gdb(struct debug *g)
{
    struct gdb_server *s = &g->gdb.server;
    u8 buf[4096];
    if (!line_connected(&g->gdb.line)) {
        if (line_accept(&g->gdb.line)) gdb_server_attach(s);
        return;
    }
    gdb_server_look(s);
    int n = line_read(&g->gdb.line, buf, sizeof buf);
    if (n > 0) gdb_server_input(s, buf, (size_t)n);
    if (!s->killed && (n < 0 || g->gdb.broken || !s->attached)) lose_gdb(g);
}

// ---- monitors on lines ----
// The next line, if there is one and it is its turn.
static bool next_line(struct debug *g, struct port *p, char *to)
{
    const char *end = memchr(p->buf, '\n', p->n);
    if (p->skips) {
        unsigned rest = end ? (unsigned)(end + 1 - p->buf) : p->n;
        p->skips = !end;
        p->n -= rest;
        memmove(p->buf, p->buf + rest, p->n);
        end = memchr(p->buf, '\n', p->n);
    }
    unsigned n = end ? (unsigned)(end - p->buf) : p->n;
    if (!end && p->n < ROOM && !(p->ended && p->n)) return false;
    if (p->monitor.waits && g->d.running && strncmp(p->buf, "stop", 4) != 0) return false;
    p->monitor.waits = false;
    p->skips = n == ROOM;
    memcpy(to, p->buf, n), to[n] = 0;
    for (unsigned i = 0; i < n; i++)
        if (!to[i]) to[i] = ' ';
    n += end != NULL;
    memmove(p->buf, p->buf + n, p->n -= n);
    return true;
}

// False: the run is to end.
static bool hear_port(struct debug *g, struct port *p)
{
    struct monitor *c = &p->monitor;
    char text[ROOM + 1];
    if (!line_connected(&p->line)) {
        if (line_accept(&p->line)) greet(g, p);
        return true;
    }
    u64 told = c->told;
    monitor_look(c);
    if (told != c->told) prompt(p);
    if (p->n < ROOM && !p->ended) {
        int n = line_read(&p->line, (u8 *)p->buf + p->n, ROOM - p->n);
        if (n < 0) p->ended = true;
        if (n > 0) p->n += (unsigned)n;
    }
    while (!p->broken && next_line(g, p, text)) {
        if (text_port(p) && !p->line.socket)
            put_port(p, "(matryoshka) "), put_port(p, text), put_port(p, "\n");
        monitor_command(c, text);
        if (c->quit) return false;
        monitor_look(c);
        prompt(p);
    }
    if (!p->broken && (!p->ended || p->n)) return true;
    // By standard input nobody comes again, who could let a machine go that stands.
    if (p->line.listener < 0 && !g->d.running) return false;
    detach(g, c);
    line_hang_up(&p->line);
    return true;
}

// ---- the terminal ----
static bool hear_terminal(struct debug *g)
{
    struct editor *e = &g->editor;
    struct terminal *t = g->c.terminal;
    if (t->monitor && !e->monitor.attached) attach(g, &e->monitor);
    // at a stop the prompt comes to who has been there before
    if (e->monitor.attached && e->monitor.told != g->d.stood && !g->d.running) t->monitor = true;
    editor_attend(e);
    return !e->monitor.quit;
}

// ---- between slices ----
static void wait(struct debug *g)
{
    struct pollfd p[MONITORS_MAX + 2];
    unsigned n = 0;
    if (g->gdb.there) p[n++] = (struct pollfd){.fd = line_fd(&g->gdb.line), .events = POLLIN};
    for (unsigned i = 0; i < g->ports; i++)
        p[n++] = (struct pollfd){.fd = g->port[i].ended ? -1 : line_fd(&g->port[i].line), .events = POLLIN};
    if (g->c.terminal->is_tty) p[n++] = (struct pollfd){.fd = 0, .events = POLLIN};
    poll(p, n, LOOK_AGAIN);
}

// The guest says that it has failed, and the machine ends: it is as if it stood still, for as long as that is
// told.
static void tell_failure(struct debug *g)
{
    char text[256];
    u32 status = g->d.m->request.status & 0xFF;
    if (!(status & 1) || status == 1) return; // isa-debug-exit: the value 0 is success
    snprintf(text, sizeof text, "The guest reports a failure: status %u.", status);
    debugger_trouble(&g->d, text);
    for (unsigned i = 0; i < g->ports; i++)
        if (g->port[i].monitor.attached) monitor_look(&g->port[i].monitor);
    if (g->editor.monitor.attached) editor_attend(&g->editor);
    g->d.running = true;
}

static void tell(struct debug *g, enum machine_end end)
{
    char text[256];
    if (end == MACHINE_STOPPED) debugger_stopped(&g->d);
    if (end == MACHINE_EXIT) tell_failure(g);
    if (end == MACHINE_SHUTDOWN) {
        snprintf(text, sizeof text, "The processor shut down: %s.", g->d.m->request.why);
        debugger_trouble(&g->d, text);
    }
    if (end == MACHINE_IDLE) debugger_trouble(&g->d, "All processors are halted, and nothing can wake them.");
}

bool debug_retrace(struct debug *g, struct retrace *r) { return g && debugger_retrace(&g->d, r); }

bool debug_attend(struct debug *g, enum machine_end *end)
{
    if (g->d.keeps) history_look(&g->d.history);
    tell(g, *end);
    g->d.moved = false;
    for (;;) {
        if (g->gdb.there) {
            hear_gdb(g);
            if (g->gdb.server.killed) return false;
        }
        for (unsigned i = 0; i < g->ports; i++)
            if (!hear_port(g, &g->port[i])) return false;
        if (!hear_terminal(g)) return false;
        if (g->c.over(g->c.opaque) || g->d.running) break;
        wait(g);
    }
    if (g->d.moved) *end = MACHINE_RUN;
    return true;
}

bool debug_holds(struct debug *g, const char *why)
{
    if (!g || !g->d.users || (g->d.users == 1 && g->gdb.server.attached)) return false;
    if (g->d.running) debugger_stand(&g->d, g->d.m->turns.cpu, 5, why);
    g->d.badly = true;
    return true;
}

void debug_close(struct debug *g, int status)
{
    if (!g) return;
    if (g->gdb.there) {
        if (!g->gdb.server.killed) gdb_server_exited(&g->gdb.server, status);
        lose_gdb(g);
        line_close(&g->gdb.line);
        gdb_server_free(&g->gdb.server);
    }
    for (unsigned i = 0; i < g->ports; i++) {
        detach(g, &g->port[i].monitor);
        line_close(&g->port[i].line);
    }
    detach(g, &g->editor.monitor);
    debugger_forget(&g->d);
    editor_free(&g->editor);
    free(g);
}

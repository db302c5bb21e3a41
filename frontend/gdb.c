#include "frontend/gdb.h"

#include <stdio.h>
#include <stdlib.h>

#include "devices/history.h"
#include "frontend/gdb_line.h"
#include "frontend/gdb_server.h"
#include "frontend/signals.h"

enum { LOOK_AGAIN = 50 }; // milliseconds, for who wants the machine to end meanwhile

struct gdb {
    struct gdb_line line;
    struct gdb_server server;
    bool held, broken;
    struct journal *journal;
    bool kept; // the journal was, before there was a debugger
    struct history history;
    struct gdb_history seam;
};

// ---- the machine's history, while somebody is there ----
static u64 first_count(void *opaque) { return history_begins(&((struct gdb *)opaque)->history); }
static u64 present(void *opaque) { return journal_retired(((struct gdb *)opaque)->journal); }
static bool go(void *opaque, u64 count)
{
    return history_goto(&((struct gdb *)opaque)->history, count, &signals_end);
}
static bool run(void *opaque)
{
    struct gdb *g = opaque;
    while (!signals_end) {
        enum machine_end end = journal_run(g->journal, 2000000);
        if (end == MACHINE_STOPPED && g->server.stops.met.why) return true;
        if ((end != MACHINE_RUN && end != MACHINE_STOPPED) || journal_live(g->journal)) break;
    }
    return false;
}
static void changed(void *opaque) { history_changed(&((struct gdb *)opaque)->history); }

static void attach(struct gdb *g)
{
    g->kept = g->journal->keeps;
    g->journal->keeps = true;
    if (history_begin(&g->history, g->journal, HISTORY_DEFAULT)) g->server.history = &g->seam;
    gdb_server_attach(&g->server);
}

static void put(void *opaque, const u8 *bytes, size_t n)
{
    struct gdb *g = opaque;
    if (!g->broken && !gdb_line_write(&g->line, bytes, n)) g->broken = true;
}

struct gdb *gdb_open(struct journal *j, bool (*restart)(void *opaque), void *opaque, const char *where,
                     bool held, char *why, size_t n)
{
    struct gdb *g = calloc(1, sizeof *g);
    if (!g || !gdb_server_make(&g->server, j->m)) {
        snprintf(why, n, "the host has no memory for the GDB server");
        free(g);
        return NULL;
    }
    g->server.put = put, g->server.opaque = g;
    g->held = held;
    g->journal = j;
    g->history.restart = restart, g->history.restart_opaque = opaque;
    g->seam = (struct gdb_history){g, first_count, present, go, run, changed};
    if (!gdb_line_open(&g->line, where, why, n)) {
        gdb_server_free(&g->server);
        free(g);
        return NULL;
    }
    if (gdb_line_connected(&g->line))
        attach(g);
    else
        fprintf(stderr, "matryoshka: gdb: waiting on %s%s\n", g->line.name,
                held ? " (-S: the machine stands still)" : "");
    return g;
}

// By standard input nobody comes again: without a word of farewell, that is the end.
static void lost(struct gdb *g)
{
    if (g->server.attached && g->line.listener < 0) g->server.killed = true;
    if (g->server.attached) gdb_server_gone(&g->server);
    if (g->server.history) {
        g->server.history = NULL;
        history_end(&g->history);
        g->journal->keeps = g->kept;
    }
    gdb_line_hang_up(&g->line);
    g->broken = false;
}

static void tell(struct gdb *g, enum machine_end end)
{
    struct gdb_server *s = &g->server;
    char text[256];
    if (end == MACHINE_STOPPED) gdb_server_stopped(s);
    if (end == MACHINE_SHUTDOWN) {
        snprintf(text, sizeof text, "The processor shut down: %s.", s->m->request.why);
        gdb_server_trouble(s, text);
    }
    if (end == MACHINE_IDLE) gdb_server_trouble(s, "All processors are halted, and nothing can wake them.");
}

bool gdb_attend(struct gdb *g, enum machine_end end, bool (*over)(void *opaque), void *opaque)
{
    struct gdb_server *s = &g->server;
    if (s->history) history_look(&g->history);
    tell(g, end);
    for (;;) {
        bool stands = s->attached ? !s->running : g->held;
        if (!gdb_line_connected(&g->line)) {
            if (g->line.listener < 0) return true; // standard input is at its end
            if (stands) gdb_line_wait(&g->line, LOOK_AGAIN);
            if (gdb_line_accept(&g->line)) attach(g);
        } else {
            u8 buf[4096];
            if (stands) gdb_line_wait(&g->line, LOOK_AGAIN);
            int n = gdb_line_read(&g->line, buf, sizeof buf);
            if (n > 0) gdb_server_input(s, buf, (size_t)n);
            if (s->killed) return false;
            if (s->attached && s->running) g->held = false;
            if (n < 0 || g->broken || !s->attached) {
                if (!s->attached) g->held = false; // detached in order
                lost(g);
                if (s->killed) return false;
            }
        }
        if (over(opaque)) return true;
        if (s->attached ? s->running : !g->held) return true;
    }
}

void gdb_close(struct gdb *g, int status)
{
    if (!g) return;
    if (!g->server.killed) gdb_server_exited(&g->server, status);
    lost(g);
    gdb_line_close(&g->line);
    gdb_server_free(&g->server);
    free(g);
}

#include "frontend/gdb.h"

#include <stdio.h>
#include <stdlib.h>

#include "frontend/gdb_line.h"
#include "frontend/gdb_server.h"

enum { LOOK_AGAIN = 50 }; // milliseconds, for who wants the machine to end meanwhile

struct gdb {
    struct gdb_line line;
    struct gdb_server server;
    bool held, broken;
};

static void put(void *opaque, const u8 *bytes, size_t n)
{
    struct gdb *g = opaque;
    if (!g->broken && !gdb_line_write(&g->line, bytes, n)) g->broken = true;
}

struct gdb *gdb_open(struct machine *m, const char *where, bool held, char *why, size_t n)
{
    struct gdb *g = calloc(1, sizeof *g);
    if (!g || !gdb_server_make(&g->server, m)) {
        snprintf(why, n, "the host has no memory for the GDB server");
        free(g);
        return NULL;
    }
    g->server.put = put, g->server.opaque = g;
    g->held = held;
    if (!gdb_line_open(&g->line, where, why, n)) {
        gdb_server_free(&g->server);
        free(g);
        return NULL;
    }
    if (gdb_line_connected(&g->line))
        gdb_server_attach(&g->server);
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
    tell(g, end);
    for (;;) {
        bool stands = s->attached ? !s->running : g->held;
        if (!gdb_line_connected(&g->line)) {
            if (g->line.listener < 0) return true; // standard input is at its end
            if (stands) gdb_line_wait(&g->line, LOOK_AGAIN);
            if (gdb_line_accept(&g->line)) gdb_server_attach(s);
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

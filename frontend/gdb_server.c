// The packets: what each asks for, and its answer. One that is not known is answered empty.
#include "frontend/gdb_server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/state/mode.h"
#include "vmx/exit_reason.h"

enum { E_SYNTAX = 1, E_MEMORY = 14, E_VALUE = 22 };

// ---- out ----
static void send_reply(struct gdb_server *s) { s->put(s->opaque, s->frame, gdb_frame(&s->reply, s->frame)); }
static void begin(struct gdb_server *s) { s->reply.n = 0, s->reply.cut = false; }
static void answer(struct gdb_server *s, const char *text)
{
    begin(s);
    gdb_addf(&s->reply, "%s", text);
    send_reply(s);
}
static void error(struct gdb_server *s, unsigned n)
{
    begin(s);
    gdb_addf(&s->reply, "E%02x", n);
    send_reply(s);
}

void gdb_say(struct gdb_server *s, const char *text)
{
    for (size_t n = strlen(text), part; n; n -= part, text += part) {
        part = n < GDB_PACKET_MAX / 2 - 1 ? n : GDB_PACKET_MAX / 2 - 1;
        begin(s);
        gdb_add(&s->reply, "O", 1);
        gdb_add_hex(&s->reply, text, part);
        send_reply(s);
    }
}

void gdb_sayf(struct gdb_server *s, const char *format, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    gdb_say(s, text);
}

// Z TYPE,ADDRESS,KIND and z.
static void breakpoint(struct gdb_server *s, const char *p)
{
    static const u8 on[] = {STOP_ON_CODE, STOP_ON_CODE, STOP_ON_WRITE, STOP_ON_READ,
                            STOP_ON_READ | STOP_ON_WRITE};
    bool insert = *p++ == 'Z';
    u64 type, at, size;
    if (!gdb_number(&p, &type) || *p++ != ',' || !gdb_number(&p, &at) || *p++ != ',' ||
        !gdb_number(&p, &size)) {
        error(s, E_SYNTAX);
        return;
    }
    if (type >= ARRAY_LEN(on)) {
        answer(s, "");
        return;
    }
    if (on[type] == STOP_ON_CODE) size = 1; // gdb's kind of a breakpoint: no size
    if (!size || size > 1 << 20) {
        error(s, E_VALUE);
        return;
    }
    if (!insert)
        debugger_remove_stops(s->d, (u8)type, at, size);
    else if (!debugger_add_stop(s->d, (u8)type, on[type], at, size, s->physical && type >= 2)) {
        error(s, E_VALUE);
        return;
    }
    answer(s, "OK");
}

// ---- threads: a processor each, from 1 ----
static bool thread_of(const struct gdb_server *s, const char **p, unsigned *cpu) // -1 and 0: any
{
    u64 n;
    if (strncmp(*p, "-1", 2) == 0) {
        *p += 2;
        *cpu = s->d->stopped_cpu;
        return true;
    }
    if (!gdb_number(p, &n) || n > s->d->m->cpus_n) return false;
    *cpu = n ? (unsigned)n - 1 : s->d->stopped_cpu;
    return true;
}

// ---- going on, and stopping ----
static void tell_stop(struct gdb_server *s, unsigned signal)
{
    const struct cpu_stop_met *m = &s->d->stops.met;
    begin(s);
    char name[96];
    debugger_level_name(s->d, s->d->stopped_cpu, name, sizeof name);
    gdb_addf(&s->reply, "T%02xthread:%x;hexname:", signal, s->d->stopped_cpu + 1);
    gdb_add_hex(&s->reply, name, strlen(name));
    gdb_add(&s->reply, ";", 1);
    if (m->why == STOPPED_CODE && m->n < s->d->stops.n)
        gdb_addf(&s->reply, "%s:;", s->d->type[m->n] == 1 ? "hwbreak" : "swbreak");
    if (m->why == STOPPED_ACCESS && m->n < s->d->stops.n && s->d->type[m->n] != DEBUGGER_TYPE_OWN)
        gdb_addf(&s->reply, "%s:%llx;",
                 s->d->type[m->n] == 2   ? "watch"
                 : s->d->type[m->n] == 3 ? "rwatch"
                                         : "awatch",
                 (unsigned long long)m->at);
    send_reply(s);
}

static void tell_stand(struct gdb_server *s)
{
    const struct debugger *d = s->d;
    s->waits = false;
    s->d->client_holds = true;
    if (*d->why) gdb_sayf(s, "%s\n", d->why);
    tell_stop(s, d->signal);
}

static void go_on(struct gdb_server *s, unsigned cpu, bool step)
{
    debugger_go_on(s->d, cpu, step);
    s->waits = true;
    s->d->client_holds = false;
}

void gdb_server_look(struct gdb_server *s)
{
    if (s->attached && s->waits && !s->d->running) tell_stand(s);
}

static void interrupt(struct gdb_server *s)
{
    debugger_interrupt(s->d);
    gdb_server_look(s);
}

void gdb_server_exited(struct gdb_server *s, int status)
{
    if (!s->attached) return;
    begin(s);
    gdb_addf(&s->reply, "W%02x", (u8)status);
    send_reply(s);
}

// vCont;ACTION[:THREAD]...: processors go on all together, since time is one. The first that is to step does.
static void v_cont(struct gdb_server *s, const char *p)
{
    unsigned cpu = s->d->stopped_cpu;
    bool step = false, any = false;
    while (*p == ';') {
        char action = *++p;
        unsigned of = s->d->stopped_cpu;
        u64 signal;
        if (!action || !strchr("cCsS", action)) break;
        p++;
        if ((action == 'C' || action == 'S') && !gdb_number(&p, &signal)) break;
        if (*p == ':' && (p++, !thread_of(s, &p, &of))) break;
        any = true;
        if ((action == 's' || action == 'S') && !step) step = true, cpu = of;
    }
    if (!any || *p)
        error(s, E_SYNTAX);
    else
        go_on(s, cpu, step);
}

// c, s, C, S with an address to go on from.
static void go_from(struct gdb_server *s, const char *p, bool step, bool signal)
{
    u64 at;
    if (signal && (!gdb_number(&p, &at) || (*p == ';' && !p++))) {
        error(s, E_SYNTAX);
        return;
    }
    if (gdb_number(&p, &at)) {
        bool good = debugger_write_register(s->d, s->d->stopped_cpu, GDB_REGISTER_RIP, (const u8 *)&at, 8);
        debugger_look(s->d);
        if (!good) {
            error(s, E_VALUE);
            return;
        }
    }
    go_on(s, s->d->stopped_cpu, step);
}

// ---- registers ----
static void add_register(struct gdb_server *s, unsigned n)
{
    u8 value[GDB_REGISTER_BYTES];
    unsigned bytes = s->registers.row[n].bytes;
    if (gdb_register_read(&s->registers, &s->d->view, n, value))
        gdb_add_hex(&s->reply, value, bytes);
    else
        for (unsigned i = 0; i < bytes; i++) gdb_add(&s->reply, "xx", 2);
}

static void read_registers(struct gdb_server *s, const char *p) // g, p
{
    u64 n = 0;
    bool one = *p++ == 'p';
    if (one && (!gdb_number(&p, &n) || n >= s->registers.n)) {
        error(s, E_SYNTAX);
        return;
    }
    begin(s);
    for (; n < s->registers.n; n++) {
        add_register(s, (unsigned)n);
        if (one) break;
    }
    send_reply(s);
}

static bool write_one(struct gdb_server *s, unsigned n, const char **p)
{
    u8 value[GDB_REGISTER_BYTES], now[GDB_REGISTER_BYTES];
    unsigned bytes = s->registers.row[n].bytes;
    if ((*p)[0] == 'x') { // not known when it was read: not to be written
        for (unsigned i = 0; i < 2 * bytes; i++)
            if (*(*p)++ != 'x') return false;
        return true;
    }
    if (!gdb_bytes(p, value, bytes)) return false;
    if (gdb_register_read(&s->registers, &s->d->view, n, now) && memcmp(now, value, bytes) == 0) return true;
    return s->d->view.level == LEVEL_HERE && debugger_write_register(s->d, s->d->cpu, n, value, bytes);
}

static void write_registers(struct gdb_server *s, const char *p) // G, P
{
    bool one = *p++ == 'P', good = true;
    u64 n = 0;
    if (one)
        good = gdb_number(&p, &n) && n < s->registers.n && *p++ == '=' && write_one(s, (unsigned)n, &p);
    else
        for (; good && n < s->registers.n; n++) good = write_one(s, (unsigned)n, &p);
    if (s->d->view.level == LEVEL_HERE) debugger_look(s->d);
    if (good)
        answer(s, "OK");
    else
        error(s, E_VALUE);
}

// ---- memory ----
static void read_memory(struct gdb_server *s, const char *p)
{
    static const u64 most = GDB_PACKET_MAX / 2;
    u64 at, n;
    if (!gdb_number(&p, &at) || *p++ != ',' || !gdb_number(&p, &n)) {
        error(s, E_SYNTAX);
        return;
    }
    u8 buf[GDB_PACKET_MAX / 2];
    if (n > most) n = most;
    size_t got = s->physical ? view_physical_read(&s->d->view, at, buf, n)
                             : view_read(&s->d->view, laddr_of(at), buf, n);
    if (n && !got) {
        error(s, E_MEMORY);
        return;
    }
    begin(s);
    gdb_add_hex(&s->reply, buf, got);
    send_reply(s);
}

static void write_memory(struct gdb_server *s, const char *p, const char *end) // M hex, X binary
{
    bool binary = *p++ == 'X';
    u64 at, n;
    u8 buf[GDB_PACKET_MAX];
    bool good = gdb_number(&p, &at) && *p++ == ',' && gdb_number(&p, &n) && *p++ == ':' && n <= sizeof buf;
    if (good && binary) good = n == (u64)(end - p);
    if (good && binary) memcpy(buf, p, n);
    if (good && !binary) good = gdb_bytes(&p, buf, n);
    if (!good) {
        error(s, E_SYNTAX);
        return;
    }
    if (debugger_write(s->d, s->physical, at, buf, n) < n)
        error(s, E_MEMORY);
    else
        answer(s, "OK");
}

// ---- queries ----
static void transfer(struct gdb_server *s, const char *p, const char *text,
                     size_t size) // OFFSET,LENGTH of it
{
    u64 offset, n;
    if (!gdb_number(&p, &offset) || *p++ != ',' || !gdb_number(&p, &n)) {
        error(s, E_SYNTAX);
        return;
    }
    if (offset > size) offset = size;
    if (n > GDB_PACKET_MAX / 2 - 1) n = GDB_PACKET_MAX / 2 - 1; // each byte may need an escape
    bool last = n >= size - offset;
    if (last) n = size - offset;
    begin(s);
    gdb_add(&s->reply, last ? "l" : "m", 1);
    gdb_add(&s->reply, text + offset, n);
    send_reply(s);
}

static void threads(struct gdb_server *s, const char *p)
{
    char *text = NULL, name[96];
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) {
        error(s, E_VALUE);
        return;
    }
    fputs("<?xml version=\"1.0\"?>\n<threads>\n", f);
    for (unsigned i = 0; i < s->d->m->cpus_n; i++) {
        debugger_level_name(s->d, i, name, sizeof name);
        fprintf(f, "<thread id=\"%x\" core=\"%u\" name=\"%s\"/>\n", i + 1, i, name);
    }
    fputs("</threads>\n", f);
    fclose(f);
    transfer(s, p, text, size);
    free(text);
}

static void memory_region(struct gdb_server *s, const char *p) // LLDB's way to ask for the map below
{
    static const u64 half = BIT(56);
    u64 at;
    if (!gdb_number(&p, &at)) {
        error(s, E_SYNTAX);
        return;
    }
    bool low = at < half, high = at >= -half;
    begin(s);
    gdb_addf(&s->reply, "start:%llx;size:%llx;%s", low ? 0ull : (unsigned long long)(high ? -half : half),
             (unsigned long long)(low || high ? half : -half - half), low || high ? "permissions:rwx;" : "");
    send_reply(s);
}

static void query(struct gdb_server *s, const char *p)
{
    // Addresses are linear, so anything may be anywhere but between the canonical halves; gdb takes what no
    // region holds for absent.
    static const char map[] =
        "<?xml version=\"1.0\"?>\n<memory-map>\n"
        "<memory type=\"ram\" start=\"0x0\" length=\"0x100000000000000\"/>\n"
        "<memory type=\"ram\" start=\"0xff00000000000000\" length=\"0x100000000000000\"/>\n"
        "</memory-map>\n";
    static const char features[] = "qXfer:features:read:target.xml:", map_[] = "qXfer:memory-map:read::",
                      threads_[] = "qXfer:threads:read::", exec_[] = "qXfer:exec-file:read:";
    char name[96];
    unsigned cpu;
    begin(s);
#define IS(text) (strncmp(p, text, strlen(text)) == 0)
    if (IS("qSupported")) {
        gdb_addf(
            &s->reply,
            "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;qXfer:memory-map:read+;"
            "vContSupported+;swbreak+;hwbreak+%s%s",
            GDB_PACKET_MAX - 8, s->d->keeps ? ";ReverseStep+;ReverseContinue+" : "",
            *s->exec_file ? ";qXfer:exec-file:read+" : "");
        send_reply(s);
    } else if (IS("QStartNoAckMode")) {
        answer(s, "OK");
        s->no_ack = true;
    } else if (IS(features))
        transfer(s, p + strlen(features), s->registers.xml, s->registers.xml_size);
    else if (IS(map_))
        transfer(s, p + strlen(map_), map, sizeof map - 1);
    else if (IS(threads_))
        threads(s, p + strlen(threads_));
    else if (IS(exec_) && *s->exec_file &&
             strchr(p + strlen(exec_), ':')) // of whatever process: there is one
        transfer(s, strchr(p + strlen(exec_), ':') + 1, s->exec_file, strlen(s->exec_file));
    else if (IS("qMemoryRegionInfo:"))
        memory_region(s, p + strlen("qMemoryRegionInfo:"));
    else if (IS("qfThreadInfo")) {
        for (unsigned i = 0; i < s->d->m->cpus_n; i++) gdb_addf(&s->reply, "%s%x", i ? "," : "m", i + 1);
        send_reply(s);
    } else if (IS("qsThreadInfo"))
        answer(s, "l");
    else if (IS("qThreadExtraInfo,")) {
        p += strlen("qThreadExtraInfo,");
        if (!thread_of(s, &p, &cpu)) {
            error(s, E_SYNTAX);
            return;
        }
        debugger_level_name(s->d, cpu, name, sizeof name);
        gdb_add_hex(&s->reply, name, strlen(name));
        send_reply(s);
    } else if (strcmp(p, "qC") == 0) {
        gdb_addf(&s->reply, "QC%x", s->d->cpu + 1);
        send_reply(s);
    } else if (IS("qAttached"))
        answer(s, "1");
    else if (IS("qRcmd,")) {
        char text[1024] = {0};
        p += strlen("qRcmd,");
        size_t n = strlen(p) / 2;
        if (n >= sizeof text || !gdb_bytes(&p, (u8 *)text, n) || *p) {
            error(s, E_SYNTAX);
            return;
        }
        *s->refusal = 0;
        monitor_command(&s->monitor, text);
        if (s->monitor.failed)
            error(s, E_VALUE);
        else
            answer(s, "OK");
    } else if (strcmp(p, "qMatryoshka.Refusal") ==
               0) { // ours: gdb's Python does not see what a refused one said
        gdb_add_hex(&s->reply, s->refusal, strlen(s->refusal));
        send_reply(s);
    } else if (IS("qqemu.PhyMemMode"))
        answer(s, s->physical ? "1" : "0");
    else if (IS("Qqemu.PhyMemMode:")) {
        s->physical = p[strlen("Qqemu.PhyMemMode:")] == '1';
        answer(s, "OK");
    } else
        answer(s, "");
#undef IS
}

// ---- one packet ----
static void reverse(struct gdb_server *s, bool step)
{
    if (!s->d->keeps) {
        answer(s, "");
        return;
    }
    bool there = step ? debugger_step_back(s->d) : debugger_continue_back(s->d);
    debugger_stand(s->d, there && !step ? s->d->stops.met.cpu : s->d->m->turns.cpu, 5, "");
    if (there) {
        tell_stop(s, 5);
        return;
    }
    begin(s);
    gdb_addf(&s->reply, "T05thread:%x;replaylog:begin;", s->d->stopped_cpu + 1);
    send_reply(s);
}

static void packet(struct gdb_server *s, const char *p, const char *end)
{
    unsigned cpu;
    switch (*p) {
    case '?': tell_stop(s, 5); break;
    case 'g':
    case 'p': read_registers(s, p); break;
    case 'G':
    case 'P': write_registers(s, p); break;
    case 'm': read_memory(s, p + 1); break;
    case 'M':
    case 'X': write_memory(s, p, end); break;
    case 'Z':
    case 'z': breakpoint(s, p); break;
    case 'c':
    case 's': go_from(s, p + 1, *p == 's', false); break;
    case 'C':
    case 'S': go_from(s, p + 1, *p == 'S', true); break;
    case 'q':
    case 'Q': query(s, p); break;
    case 'H':
        if (p[1] != 'g' && p[1] != 'c') {
            answer(s, "");
            break;
        }
        p += 2;
        if (!thread_of(s, &p, &cpu)) {
            error(s, E_SYNTAX);
            break;
        }
        if (cpu != s->d->cpu) {
            s->d->cpu = cpu;
            debugger_look(s->d);
        }
        answer(s, "OK");
        break;
    case 'T':
        p++;
        if (thread_of(s, &p, &cpu))
            answer(s, "OK");
        else
            error(s, E_SYNTAX);
        break;
    case 'v':
        if (strcmp(p, "vCont?") == 0)
            answer(s, "vCont;c;C;s;S");
        else if (strncmp(p, "vCont", 5) == 0)
            v_cont(s, p + 5);
        else if (strncmp(p, "vKill", 5) == 0) {
            answer(s, "OK");
            s->killed = true;
        } else
            answer(s, "");
        break;
    case 'k': s->killed = true; break;
    case 'D':
        answer(s, "OK");
        s->d->held = false;
        gdb_server_gone(s);
        break;
    case 'b':
        if (strcmp(p, "bs") == 0 || strcmp(p, "bc") == 0)
            reverse(s, p[1] == 's');
        else
            answer(s, "");
        break;
    default: answer(s, "");
    }
}

void gdb_server_input(struct gdb_server *s, const u8 *bytes, size_t n)
{
    for (; n; n--) {
        switch (gdb_parse(&s->parser, *bytes++)) {
        case GDB_INTERRUPT: interrupt(s); break;
        case GDB_NAK: send_reply(s); break;
        case GDB_BAD:
            if (!s->no_ack) s->put(s->opaque, (const u8 *)"-", 1);
            break;
        case GDB_PACKET:
            if (!s->no_ack) s->put(s->opaque, (const u8 *)"+", 1);
            packet(s, (const char *)s->parser.data, (const char *)s->parser.data + s->parser.n);
            break;
        default: break;
        }
        if (!s->attached || s->killed) return;
    }
}

// ---- life ----
static void put_console(void *server, const char *text)
{
    struct gdb_server *s = server;
    gdb_say(s, text);
    size_t n = strlen(s->refusal);
    if (s->monitor.failed) snprintf(s->refusal + n, sizeof s->refusal - n, "%s", text);
}

bool gdb_server_make(struct gdb_server *s, struct debugger *d)
{
    s->d = d;
    monitor_make(&s->monitor, d, MONITOR_GDB, put_console, s);
    s->monitor.physical = &s->physical;
    return gdb_registers_make(&s->registers, d->m->cpu[0]);
}

void gdb_server_free(struct gdb_server *s) { gdb_registers_free(&s->registers); }

void gdb_server_attach(struct gdb_server *s)
{
    memset(&s->parser, 0, sizeof s->parser);
    s->attached = true;
    s->no_ack = s->physical = s->waits = false;
    debugger_attach(s->d);
    s->d->client_holds = true;
    if (s->d->running) debugger_stand(s->d, s->d->m->turns.cpu, 5, "");
}

void gdb_server_gone(struct gdb_server *s)
{
    if (!s->attached) return;
    s->attached = false;
    for (unsigned type = 0; type < DEBUGGER_TYPE_OWN; type++) debugger_remove_type(s->d, (u8)type);
    s->d->client_holds = false;
    debugger_gone(s->d);
}

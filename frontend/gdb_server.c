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

struct vcpu *gdb_cpu(const struct gdb_server *s) { return s->m->cpu[s->cpu]; }
void gdb_look(struct gdb_server *s) { gdb_view_here(&s->view, gdb_cpu(s)); }

// ---- stops ----
static void ask(void *opaque)
{
    struct gdb_server *s = opaque;
    if (s->found.searching)
        gdb_found_stop(s);
    else
        machine_ask_stop(s->m);
}

static void stops_set(struct gdb_server *s)
{
    for (unsigned i = 0; i < s->m->cpus_n; i++) stops_changed(s->m->cpu[i]);
}

// Which VM entries and exits are asked for, by the monitor and by the plan.
static void listen(struct gdb_server *s)
{
    struct cpu_stops *t = &s->stops;
    t->entry = s->entries || s->plan == PLAN_ENTRY || s->plan == PLAN_NEXT_2;
    t->entry_failed = s->failures || s->plan == PLAN_ENTRY || s->plan == PLAN_NEXT_2;
    for (unsigned i = 0; i < 2; i++) {
        t->exits[i] = s->exits[i];
        if (s->plan == PLAN_EXIT) t->exits[i] |= s->plan_exits[i];
        if (s->plan == PLAN_NEXT_1) t->exits[i] = UINT64_MAX;
    }
    bool wants = t->entry || t->entry_failed || t->exits[0] || t->exits[1];
    // Whoever listens to all processors has one struct for them.
    struct trace *all = s->m->cpu[0]->trace ? s->m->cpu[0]->trace : &s->trace;
    all->mask = 0;
    for (unsigned i = 0; i < all->n; i++) {
        if (all->sink[i].opaque == t) all->sink[i].mask = wants ? STOPS_TRACE : 0;
        all->mask |= all->sink[i].mask;
    }
    if (all != &s->trace) return;
    for (unsigned i = 0; wants && i < s->m->cpus_n; i++) s->m->cpu[i]->trace = all;
}

bool gdb_add_stop(struct gdb_server *s, u8 type, u8 on, u64 at, u64 size, bool physical)
{
    if (s->stops.n == GDB_STOPS_MAX) return false;
    struct cpu_stop stop = {.on = on, .at = at, .size = size, .physical = physical, .vmcs = VMX_NO_POINTER};
    for (unsigned i = 0; i < s->limits; i++)
        if (s->limit[i].at == at) stop.level = s->limit[i].level, stop.vmcs = s->limit[i].vmcs;
    for (unsigned i = 0; i < s->stops.n; i++)
        if (s->type[i] == type && s->list[i].at == at && s->list[i].size == size) return true;
    s->type[s->stops.n] = type;
    s->list[s->stops.n++] = stop;
    return true;
}

void gdb_remove_stops(struct gdb_server *s, u8 type, u64 at, u64 size)
{
    unsigned n = 0;
    for (unsigned i = 0; i < s->stops.n; i++) {
        if (s->type[i] == type && (type == GDB_TYPE_OWN || (s->list[i].at == at && s->list[i].size == size)))
            continue;
        s->list[n] = s->list[i];
        s->type[n++] = s->type[i];
    }
    s->stops.n = n;
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
        gdb_remove_stops(s, (u8)type, at, size);
    else if (!gdb_add_stop(s, (u8)type, on[type], at, size, s->physical && type >= 2)) {
        error(s, E_VALUE);
        return;
    }
    answer(s, "OK");
}

// ---- threads: a processor each, from 1 ----
static const char *activity_name(const struct vcpu *v)
{
    static const char *const names[] = {"", " halted", " shut down", " waits for SIPI", " in MWAIT"};
    return v->s.activity < ARRAY_LEN(names) ? names[v->s.activity] : "";
}

void gdb_level_name(const struct gdb_server *s, unsigned cpu, char *to, size_t n)
{
    const struct vcpu *v = s->m->cpu[cpu];
    if (v->s.vmx.guest)
        snprintf(to, n, "CPU %u [L2 vmcs %#llx%s]", cpu, (unsigned long long)v->s.vmx.vmcs_pointer,
                 activity_name(v));
    else
        snprintf(to, n, "CPU %u [L1%s%s]", cpu, v->s.vmx.on ? " root" : "", activity_name(v));
}

static bool thread_of(const struct gdb_server *s, const char **p, unsigned *cpu) // -1 and 0: any
{
    u64 n;
    if (strncmp(*p, "-1", 2) == 0) {
        *p += 2;
        *cpu = s->stopped_cpu;
        return true;
    }
    if (!gdb_number(p, &n) || n > s->m->cpus_n) return false;
    *cpu = n ? (unsigned)n - 1 : s->stopped_cpu;
    return true;
}

// ---- going on, and stopping ----
static void tell_stop(struct gdb_server *s, unsigned signal)
{
    const struct cpu_stop_met *m = &s->stops.met;
    begin(s);
    char name[96];
    gdb_level_name(s, s->stopped_cpu, name, sizeof name);
    gdb_addf(&s->reply, "T%02xthread:%x;hexname:", signal, s->stopped_cpu + 1);
    gdb_add_hex(&s->reply, name, strlen(name));
    gdb_add(&s->reply, ";", 1);
    if (m->why == STOPPED_CODE && m->n < s->stops.n)
        gdb_addf(&s->reply, "%s:;", s->type[m->n] == 1 ? "hwbreak" : "swbreak");
    if (m->why == STOPPED_ACCESS && m->n < s->stops.n && s->type[m->n] != GDB_TYPE_OWN)
        gdb_addf(&s->reply, "%s:%llx;",
                 s->type[m->n] == 2   ? "watch"
                 : s->type[m->n] == 3 ? "rwatch"
                                      : "awatch",
                 (unsigned long long)m->at);
    send_reply(s);
}

static void stand(struct gdb_server *s, unsigned cpu)
{
    s->running = false;
    s->plan = PLAN_NONE;
    s->cpu = s->stopped_cpu = cpu;
    gdb_look(s);
}

static void go_on(struct gdb_server *s, unsigned cpu, bool step)
{
    if (s->plan) s->plan_cpu = cpu;
    listen(s);
    stops_go_on(&s->stops, s->m->cpu[cpu], step);
    stops_set(s);
    s->running = true;
}

static void interrupt(struct gdb_server *s)
{
    if (!s->running) return;
    s->stops.met.why = STOPPED_NOT;
    stand(s, s->m->turns.cpu);
    tell_stop(s, 2);
}

// Whether a VM entry or exit is what somebody waits for; if not, the machine goes on without a word.
static bool wanted(struct gdb_server *s)
{
    const struct cpu_stop_met *m = &s->stops.met;
    unsigned basic = m->reason & 0x7F;
    bool ours = m->cpu == s->plan_cpu;
    switch (m->why) {
    case STOPPED_ENTRY:
        if (s->entries) return true;
        return ours && (s->plan == PLAN_ENTRY || s->plan == PLAN_NEXT_2);
    case STOPPED_ENTRY_FAILED:
        if (s->failures) return true;
        return ours && (s->plan == PLAN_ENTRY || s->plan == PLAN_NEXT_2);
    case STOPPED_EXIT:
        if (s->exits[basic / 64] >> basic % 64 & 1) return true;
        if (ours && s->plan == PLAN_NEXT_1) {
            s->plan = PLAN_NEXT_2;
            listen(s);
            return false;
        }
        return ours && s->plan == PLAN_EXIT && s->plan_exits[basic / 64] >> basic % 64 & 1;
    default: return true;
    }
}

static void explain(struct gdb_server *s)
{
    const struct cpu_stop_met *m = &s->stops.met;
    const char *of = vmx_exit_reason_name(m->reason & 0xFFFF);
    if (m->why == STOPPED_EXIT) gdb_sayf(s, "VM exit %u (%s)\n", m->reason & 0xFFFF, of);
    if (m->why == STOPPED_ENTRY) gdb_say(s, "VM entry\n");
    if (m->why == STOPPED_ENTRY_FAILED) gdb_say(s, "VM entry failed (monitor check says why)\n");
    if (m->why == STOPPED_ACCESS && m->n < s->stops.n && s->type[m->n] == GDB_TYPE_OWN)
        gdb_sayf(s, "%s of %s address %#llx\n", m->write ? "write" : "read",
                 s->list[m->n].physical ? "physical" : "linear", (unsigned long long)m->at);
}

void gdb_server_stopped(struct gdb_server *s)
{
    if (!s->running || s->stops.met.why == STOPPED_NOT) return;
    if (!wanted(s)) {
        s->stops.met.why = STOPPED_NOT;
        stops_set(s); // a step goes on
        return;
    }
    explain(s);
    stand(s, s->stops.met.cpu);
    tell_stop(s, 5);
}

void gdb_server_trouble(struct gdb_server *s, const char *text)
{
    if (!s->attached || !s->running) return;
    gdb_sayf(s, "%s\n", text);
    s->stops.met.why = STOPPED_NOT;
    stand(s, s->m->request.what == MACHINE_SHUTDOWN ? s->m->request.cpu : s->m->turns.cpu);
    tell_stop(s, 6);
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
    unsigned cpu = s->stopped_cpu;
    bool step = false, any = false;
    while (*p == ';') {
        char action = *++p;
        unsigned of = s->stopped_cpu;
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
    struct vcpu *v = s->m->cpu[s->stopped_cpu];
    if (gdb_number(&p, &at)) {
        v->s.rip = mode_long64(v->d.mode) ? at : (u32)at;
        gdb_look(s);
        if (s->history) s->history->changed(s->history->opaque);
    }
    go_on(s, s->stopped_cpu, step);
}

// ---- registers ----
static void add_register(struct gdb_server *s, unsigned n)
{
    u8 value[GDB_REGISTER_BYTES];
    unsigned bytes = s->registers.row[n].bytes;
    if (gdb_register_read(&s->registers, &s->view, n, value))
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
    if (gdb_register_read(&s->registers, &s->view, n, now) && memcmp(now, value, bytes) == 0) return true;
    return s->view.level == LEVEL_HERE && gdb_register_write(&s->registers, gdb_cpu(s), n, value);
}

static void write_registers(struct gdb_server *s, const char *p) // G, P
{
    bool one = *p++ == 'P', good = true;
    u64 n = 0;
    if (one)
        good = gdb_number(&p, &n) && n < s->registers.n && *p++ == '=' && write_one(s, (unsigned)n, &p);
    else
        for (; good && n < s->registers.n; n++) good = write_one(s, (unsigned)n, &p);
    if (s->view.level == LEVEL_HERE) gdb_look(s);
    if (s->history) s->history->changed(s->history->opaque);
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
    size_t got =
        s->physical ? gdb_physical_read(&s->view, at, buf, n) : gdb_view_read(&s->view, laddr_of(at), buf, n);
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
    if (n && s->history) s->history->changed(s->history->opaque);
    size_t put = s->physical ? gdb_physical_write(&s->view, at, buf, n)
                             : gdb_view_write(&s->view, laddr_of(at), buf, n);
    if (put < n)
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
    for (unsigned i = 0; i < s->m->cpus_n; i++) {
        gdb_level_name(s, i, name, sizeof name);
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
                      threads_[] = "qXfer:threads:read::";
    char name[96];
    unsigned cpu;
    begin(s);
#define IS(text) (strncmp(p, text, strlen(text)) == 0)
    if (IS("qSupported")) {
        gdb_addf(
            &s->reply,
            "PacketSize=%x;QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;qXfer:memory-map:read+;"
            "vContSupported+;swbreak+;hwbreak+%s",
            GDB_PACKET_MAX - 8, s->history ? ";ReverseStep+;ReverseContinue+" : "");
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
    else if (IS("qMemoryRegionInfo:"))
        memory_region(s, p + strlen("qMemoryRegionInfo:"));
    else if (IS("qfThreadInfo")) {
        for (unsigned i = 0; i < s->m->cpus_n; i++) gdb_addf(&s->reply, "%s%x", i ? "," : "m", i + 1);
        send_reply(s);
    } else if (IS("qsThreadInfo"))
        answer(s, "l");
    else if (IS("qThreadExtraInfo,")) {
        p += strlen("qThreadExtraInfo,");
        if (!thread_of(s, &p, &cpu)) {
            error(s, E_SYNTAX);
            return;
        }
        gdb_level_name(s, cpu, name, sizeof name);
        gdb_add_hex(&s->reply, name, strlen(name));
        send_reply(s);
    } else if (strcmp(p, "qC") == 0) {
        gdb_addf(&s->reply, "QC%x", s->cpu + 1);
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
        gdb_monitor(s, text);
        answer(s, "OK");
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
    if (!s->history) {
        answer(s, "");
        return;
    }
    s->plan = PLAN_NONE;
    listen(s);
    bool there = step ? gdb_step_back(s) : gdb_continue_back(s);
    stand(s, there && !step ? s->stops.met.cpu : s->m->turns.cpu);
    if (there) {
        tell_stop(s, 5);
        return;
    }
    begin(s);
    gdb_addf(&s->reply, "T05thread:%x;replaylog:begin;", s->stopped_cpu + 1);
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
        if (cpu != s->cpu) {
            s->cpu = cpu;
            gdb_look(s);
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
bool gdb_server_make(struct gdb_server *s, struct machine *m)
{
    s->m = m;
    s->stops = (struct cpu_stops){.list = s->list, .stopped = ask, .opaque = s};
    s->running = true;
    if (!gdb_registers_make(&s->registers, m->cpu[0])) return false;
    struct trace *all = m->cpu[0]->trace ? m->cpu[0]->trace : &s->trace;
    trace_add(all, &(struct trace_sink){stops_trace, &s->stops, 0});
    gdb_look(s);
    return true;
}

void gdb_server_free(struct gdb_server *s) { gdb_registers_free(&s->registers); }

void gdb_server_attach(struct gdb_server *s)
{
    memset(&s->parser, 0, sizeof s->parser);
    s->attached = true;
    s->no_ack = s->physical = false;
    s->stops.met.why = STOPPED_NOT;
    for (unsigned i = 0; i < s->m->cpus_n; i++) s->m->cpu[i]->stops = &s->stops;
    stand(s, s->m->turns.cpu);
}

void gdb_server_gone(struct gdb_server *s)
{
    s->attached = false;
    s->stops.n = s->limits = 0;
    s->entries = s->failures = false;
    s->exits[0] = s->exits[1] = 0;
    s->plan = PLAN_NONE;
    listen(s);
    stops_go_on(&s->stops, NULL, false);
    for (unsigned i = 0; i < s->m->cpus_n; i++) {
        struct vcpu *v = s->m->cpu[i];
        v->stops = NULL;
        if (v->trace == &s->trace) v->trace = NULL;
        stops_changed(v);
    }
    s->running = true;
}

// The GDB server: whatever a client sends, it answers in packets, and the machine is a machine.
//
// Input: bytes of the line; 00h lets the machine run for a few instructions, if the client has let it go; 01h
// hangs up, and the next one connects. Checksums that say "**" are put right, so that mutation gets inside.
#include "frontend/gdb_server.h"
#include "tests/fuzz/fuzz.h"

enum { MEMORY = 2 << 20 };

static void put(void *opaque, const u8 *bytes, size_t n)
{
    MUST(n && (bytes[0] == '$' || bytes[0] == '+' || bytes[0] == '-'), "no packet went out");
    MUST(bytes[0] != '$' || (n >= 4 && bytes[n - 3] == '#'), "a packet without an end");
}

static void repair(u8 *data, size_t size) // checksums that are to be
{
    static const char digits[] = "0123456789abcdef";
    u8 sum = 0;
    for (size_t i = 0; i + 2 < size; i++) {
        if (data[i] == '$') {
            sum = 0;
        } else if (data[i] == '#' && data[i + 1] == '*' && data[i + 2] == '*') {
            data[i + 1] = (u8)digits[sum >> 4];
            data[i + 2] = (u8)digits[sum & 15];
        } else
            sum += data[i];
    }
}

static bool put_register(void *server, const struct journal_event *e)
{
    struct gdb_server *s = server;
    return gdb_register_put(&s->registers, s->d->m->cpu[e->line], e);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static struct machine *m;
    struct machine_config c = {.ram_size = MEMORY, .cpus = 2};
    const char *why;
    u8 *bytes = malloc(size + 1);
    struct gdb_server *s = calloc(1, sizeof *s);
    struct debugger *d = calloc(1, sizeof *d);
    m = calloc(1, sizeof *m);
    cpu_features_max(&c.features);
    MUST(machine_init(m, &c, &why), "no machine");
    m->cpu[0]->s.rip = 0x7C00; // of zeros: add [bx+si],al
    m->cpu[0]->s.seg[SEG_CS].base = m->cpu[0]->s.seg[SEG_CS].sel = 0;
    cpu_mode_changed(m->cpu[0]);
    debugger_make(d, m);
    struct journal j;
    journal_begin(&j, m);
    j.put_register = put_register, j.register_opaque = s;
    d->journal = &j;
    MUST(gdb_server_make(s, d), "no server");
    s->put = put;
    gdb_server_attach(s);
    memcpy(bytes, data, size);
    repair(bytes, size);
    for (size_t i = 0; i < size && !s->killed; i++) {
        if (bytes[i] == 1 || !s->attached) {
            if (s->attached) gdb_server_gone(s);
            gdb_server_attach(s);
        } else if (bytes[i] == 0) {
            enum machine_end end = d->running ? machine_run(m, 50) : MACHINE_RUN;
            if (end == MACHINE_STOPPED) debugger_stopped(d);
            if (end == MACHINE_SHUTDOWN || end == MACHINE_IDLE) debugger_trouble(d, "shut down");
            gdb_server_look(s);
            if (end == MACHINE_SHUTDOWN || end == MACHINE_RESET) break;
        } else
            gdb_server_input(s, &bytes[i], 1);
        MUST(d->stops.n <= DEBUGGER_STOPS_MAX && d->cpu < 2 && d->stopped_cpu < 2,
             "no such stop, or processor");
    }
    for (unsigned i = 0; i < 2; i++)
        MUST(!cpu_state_impossible(m->cpu[i], &m->cpu[i]->s), "a state that cannot be");
    gdb_server_free(s);
    journal_free(&j);
    machine_free(m);
    free(m), free(s), free(d), free(bytes);
    return 0;
}

// What comes from outside, kept and brought again. See the header.
#include "devices/journal.h"

#include <stdlib.h>
#include <string.h>

u64 journal_units(const struct journal *j) { return j->at.units + machine_units(j->m); }
u64 journal_retired(const struct journal *j) { return j->at.retired + machine_retired(j->m); }

bool journal_live(const struct journal *j)
{
    u64 units = journal_units(j);
    if (j->at.event != j->events || units < j->horizon_units) return false;
    if (units > j->horizon_units) return true;
    // the idle time that the horizon is behind of is to be had again
    return j->in_idle ? j->at.idles > j->horizon_idles : j->at.idles >= j->horizon_idles;
}

void journal_seen(struct journal *j)
{
    u64 units = journal_units(j);
    if (units > j->seen_units || (units == j->seen_units && j->at.idles > j->seen_idles))
        j->seen_units = units, j->seen_idles = j->at.idles;
    if (units < j->horizon_units || (units == j->horizon_units && j->at.idles <= j->horizon_idles)) return;
    j->horizon_units = units, j->horizon_idles = j->at.idles;
}

static void keep(struct journal *j, struct journal_event e)
{
    if (!j->keeps) return;
    if (j->events == j->room) {
        u64 room = j->room ? j->room * 2 : 256;
        struct journal_event *event = realloc(j->event, room * sizeof *event);
        if (!event) {
            j->full = true;
            return;
        }
        j->event = event, j->room = room;
    }
    e.units = journal_units(j);
    e.idles = j->at.idles;
    e.in_idle = j->in_idle;
    j->event[j->events++] = e;
    j->at.event = j->events;
}

// Of a debugger's. To a device it would not be without consequences.
static bool put_memory(struct journal *j, const struct journal_event *e)
{
    struct phys *p = &j->m->phys;
    if (!phys_host(p, e->at) || !phys_host(p, e->at + e->n - 1)) return false;
    const char *outer = phys_writer_begin(p, "a debugger");
    phys_write(p, e->line, e->at, &e->value, e->n);
    phys_writer_end(p, outer);
    return true;
}

static bool apply(struct journal *j, const struct journal_event *e)
{
    u8 bytes[8];
    switch (e->kind) {
    case JOURNAL_SERIAL:
        memcpy(bytes, &e->value, sizeof bytes);
        machine_serial_input(j->m, e->line, bytes, e->n);
        break;
    case JOURNAL_INPUT_OPEN: j->m->input_open = (u32)e->value; break;
    case JOURNAL_POWER: machine_power_button(j->m); break;
    case JOURNAL_RESET: machine_request_end(j->m, MACHINE_RESET, 0, "the reset button"); break;
    case JOURNAL_MEMORY: return put_memory(j, e);
    case JOURNAL_REGISTER: return j->put_register && j->put_register(j->register_opaque, e);
    default: break;
    }
    return true;
}

// ---- live ----

void journal_serial(struct journal *j, unsigned line, const u8 *bytes, u32 n)
{
    if (!journal_live(j)) return;
    while (n) {
        struct journal_event e = {.kind = JOURNAL_SERIAL, .line = (u8)line, .n = (u8)(n < 8 ? n : 8)};
        memcpy(&e.value, bytes, e.n);
        keep(j, e);
        apply(j, &e);
        bytes += e.n, n -= e.n;
    }
}

void journal_input_open(struct journal *j, u32 lines)
{
    struct journal_event e = {.kind = JOURNAL_INPUT_OPEN, .value = lines};
    if (!journal_live(j) || j->m->input_open == lines) return;
    keep(j, e);
    apply(j, &e);
}

void journal_power_button(struct journal *j)
{
    struct journal_event e = {.kind = JOURNAL_POWER};
    if (!journal_live(j)) return;
    keep(j, e);
    apply(j, &e);
}

void journal_reset_button(struct journal *j)
{
    struct journal_event e = {.kind = JOURNAL_RESET};
    if (!journal_live(j)) return;
    keep(j, e);
    apply(j, &e);
}

bool journal_by_hand(struct journal *j, struct journal_event e)
{
    if (!apply(j, &e)) return false;
    journal_cut(j);
    keep(j, e);
    return true;
}

// ---- again ----

// The next event, if its instant has come.
static const struct journal_event *due(const struct journal *j)
{
    const struct journal_event *e = &j->event[j->at.event];
    if (j->at.event == j->events || e->in_idle != j->in_idle || e->idles != j->at.idles ||
        e->units != journal_units(j))
        return NULL;
    return e;
}

static void again(struct journal *j, const struct journal_event *e)
{
    if (!apply(j, e)) j->bad = true;
    j->at.event++;
}

static bool before_seen(const struct journal *j)
{
    u64 units = journal_units(j);
    return units < j->seen_units || (units == j->seen_units && j->at.idles < j->seen_idles);
}

// An idle time begins: the next one. It ends with what was kept of it.
static u64 idle(void *opaque, u64 ticks)
{
    struct journal *j = opaque;
    const struct journal_event *e;
    u64 passed = ticks;
    j->at.idles++;
    j->in_idle = true;
    if (journal_live(j)) {
        if (j->idle) passed = j->idle(j->idle_opaque, ticks);
        if (passed < ticks) keep(j, (struct journal_event){.kind = JOURNAL_IDLE, .value = passed});
    } else {
        while ((e = due(j)) && e->kind != JOURNAL_IDLE) again(j, e);
        if (e) passed = e->value < ticks ? e->value : ticks, j->at.event++;
    }
    j->in_idle = false;
    // what was brought between two runs, in the middle of a sleep; or all that is known of the run ends in
    // one
    if (due(j) || (j->at.idles == j->horizon_idles && journal_units(j) == j->horizon_units) ||
        (j->again && !before_seen(j)))
        machine_ask_stop(j->m);
    return passed;
}

enum machine_end journal_run(struct journal *j, u64 units)
{
    const struct journal_event *e;
    bool applied = false;
    j->again = before_seen(j);
    while ((e = due(j))) {
        again(j, e);
        applied = true;
    }
    if (applied && journal_live(j)) return MACHINE_RUN; // all of it was run again: not an instruction further
    if (j->at.event != j->events) {
        const struct journal_event *next = &j->event[j->at.event];
        u64 now = journal_units(j);
        if (next->units < now || next->idles < j->at.idles) {
            j->bad = true; // its instant never came
            journal_cut(j);
        } else if (next->units - now < units) {
            // a sleep begins at the very instant where the units are used up: one more finds it
            units = next->units > now ? next->units - now : 1;
        }
    }
    if (j->again) { // and no further, since that is said of all of it
        u64 left = j->seen_units - journal_units(j);
        if (left < units) units = left ? left : 1;
    }
    return machine_run(j->m, units);
}

void journal_restarted(struct journal *j, u64 units, u64 retired)
{
    j->at.units += units;
    j->at.retired += retired + 1;
}

void journal_cut(struct journal *j)
{
    j->events = j->at.event;
    j->horizon_units = j->horizon_idles = 0;
    j->seen_units = j->seen_idles = 0;
    journal_seen(j);
}

static bool by_hand(const struct journal_event *e)
{
    return e->kind == JOURNAL_MEMORY || e->kind == JOURNAL_REGISTER;
}

bool journal_load(struct journal *j, const struct journal_event *event, u64 n, u64 units, u64 idles)
{
    struct journal_event last = {0};
    for (u64 i = 0; i < n; i++) {
        const struct journal_event *e = &event[i];
        bool order = e->units > last.units || (e->units == last.units && e->idles >= last.idles);
        bool flag = *(const u8 *)&e->in_idle <= 1;
        if (!order || !flag || e->kind >= JOURNAL_KINDS || (e->kind == JOURNAL_IDLE && !e->in_idle) ||
            (e->kind == JOURNAL_SERIAL && (e->line >= MACHINE_SERIAL || !e->n || e->n > 8)) ||
            (e->kind == JOURNAL_INPUT_OPEN && e->value >> MACHINE_SERIAL) ||
            (by_hand(e) && (e->line >= j->m->cpus_n || !e->n || e->n > 8 || e->first > 8 || e->in_idle)))
            return false;
        last = *e;
    }
    if (last.units > units || (last.units == units && last.idles > idles)) return false;
    struct journal_event *copy = malloc((n ? n : 1) * sizeof *copy);
    if (!copy) return false;
    memcpy(copy, event, n * sizeof *copy);
    free(j->event);
    j->event = copy, j->events = j->room = n;
    j->at.event = 0;
    j->horizon_units = units, j->horizon_idles = idles;
    return true;
}

// ---- life ----

void journal_begin(struct journal *j, struct machine *m)
{
    *j = (struct journal){.m = m, .idle = m->idle, .idle_opaque = m->idle_opaque};
    m->idle = idle;
    m->idle_opaque = j;
}

void journal_free(struct journal *j)
{
    if (j->m && j->m->idle_opaque == j) j->m->idle = j->idle, j->m->idle_opaque = j->idle_opaque;
    free(j->event);
    *j = (struct journal){0};
}

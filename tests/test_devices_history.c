// The machine's past: what came from outside comes again at its instant, in the same machine or in another,
// and any instant is reached from the checkpoints with the state that it had. The second source is the run
// itself, hashed as it went.
#include <stdio.h>

#include "tests/machine_test.h"
#include "devices/history.h"
#include "devices/state_hash.h"

// Interrupts of the PIT count in memory, those of COM1 store what came; between them it computes, writes to
// pages here and there, and sleeps.
static const u8 code[] = {
    0xFA,                                           // cli
    0xB0, 0x11, 0xE6, 0x20, 0xB0, 0x20, 0xE6, 0x21, // ICW1, ICW2: vectors from 20h
    0xB0, 0x04, 0xE6, 0x21, 0xB0, 0x01, 0xE6, 0x21, // ICW3, ICW4
    0xB0, 0xEE, 0xE6, 0x21,                         // all masked but IRQ 0 and 4
    0xB0, 0x34, 0xE6, 0x43, 0xB0, 0x00, 0xE6, 0x40, // the PIT, mode 2
    0xB0, 0x20, 0xE6, 0x40,                         // 2000h of its ticks
    0xBA, 0xF9, 0x03, 0xB0, 0x01, 0xEE,             // COM1: interrupts on input
    0xBA, 0xFC, 0x03, 0xB0, 0x08, 0xEE,             // OUT2
    0xFB,                                           // sti
    0xB9, 0x00, 0x04,                               // again: mov cx, 400h
    0x69, 0xDB, 0x6D, 0x4E,                         // loop: imul bx, bx, 4E6Dh
    0x81, 0xC3, 0x39, 0x30,                         // add bx, 3039h
    0x89, 0xDF, 0x80, 0xCF, 0x80,                   // mov di, bx; or bh, 80h
    0x88, 0x0F,                                     // mov [bx], cl
    0xE2, 0xEF,                                     // loop
    0xF4,                                           // hlt
    0xEB, 0xE9,                                     // jmp again
};
static const u8 timer[] = {0x50, 0xFF, 0x06, 0x00, 0x50, 0xB0, 0x20, 0xE6, 0x20, 0x58, 0xCF};
static const u8 serial[] = {0x50, 0x52, 0xBA, 0xF8, 0x03, 0xEC, 0x00, 0x06, 0x02, 0x50, 0xD0, 0x06, 0x02,
                            0x50, 0xBA, 0xFA, 0x03, 0xEC, 0xB0, 0x20, 0xE6, 0x20, 0x5A, 0x58, 0xCF};

struct world {
    struct machine *m;
    struct journal j;
    struct history h;
    u64 random, brought, waited, resets;
};

static u64 draw(struct world *w, u64 n)
{
    w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
    return (w->random * 0x2545F4914F6CDD1D >> 33) % n;
}

static void bring(struct world *w)
{
    u8 bytes[20];
    u32 n = (u32)draw(w, sizeof bytes) + 1;
    for (u32 i = 0; i < n; i++) bytes[i] = (u8)draw(w, 256);
    journal_serial(&w->j, 0, bytes, n);
    w->brought += n;
}

// As a debugger does, between two runs. (In a register's place: the low byte of R12.)
static void write_by_hand(struct world *w)
{
    struct journal_event e = {
        .kind = JOURNAL_MEMORY, .at = 0x6800 + draw(w, 64), .value = draw(w, ~0u), .n = 3};
    assert_true(journal_by_hand(&w->j, e));
    e = (struct journal_event){
        .kind = JOURNAL_REGISTER, .line = 0, .at = 4711, .value = draw(w, 256), .n = 1};
    assert_true(journal_by_hand(&w->j, e));
    e.value = 256;
    assert_false(journal_by_hand(&w->j, e)); // refused, and not kept
    w->brought++;
}

static bool put_register(void *opaque, const struct journal_event *e)
{
    struct world *w = opaque;
    if (e->at != 4711 || e->value > 255) return false;
    w->m->cpu[e->line]->s.gpr[R12] = e->value;
    return true;
}

static u64 wait(void *opaque, u64 ticks)
{
    struct world *w = opaque;
    w->waited++;
    if (draw(w, 4) == 0) bring(w);
    if (draw(w, 16) == 0) journal_input_open(&w->j, (u32)draw(w, 4));
    return draw(w, 2) ? ticks : draw(w, ticks + 1);
}

static void load_code(struct machine *m)
{
    const u16 at[][2] = {{0x20, 0x6000}, {0x24, 0x6100}};
    phys_write(&m->phys, 0, 0x6000, timer, sizeof timer);
    phys_write(&m->phys, 0, 0x6100, serial, sizeof serial);
    for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
        phys_write16(&m->phys, 0, at[i][0] * 4u, at[i][1]);
        phys_write16(&m->phys, 0, at[i][0] * 4u + 2u, 0);
    }
    start(m, code, sizeof code);
}

static void world(struct world *w, unsigned cpus, bool waits)
{
    *w = (struct world){.random = 88172645463325252ull + cpus};
    w->m = make_as((struct machine_config){.ram_size = 2 << 20, .cpus = cpus});
    machine_reset(w->m);
    if (waits) w->m->idle = wait, w->m->idle_opaque = w;
    load_code(w->m);
    journal_begin(&w->j, w->m);
    w->j.keeps = true;
    w->j.put_register = put_register, w->j.register_opaque = w;
}

static void end(struct world *w)
{
    if (w->h.first) history_forget(&w->h);
    journal_free(&w->j);
    destroy(w->m);
}

static u64 hash(struct machine *m)
{
    struct state_hash h = {0};
    u64 x = state_hash(&h, m);
    state_hash_free(&h);
    return x;
}

static void run_to(struct world *w, u64 retired)
{
    u64 at;
    while ((at = journal_retired(&w->j)) < retired) {
        enum machine_end end = journal_run(&w->j, 1 + draw(w, retired - at));
        assert_true(end == MACHINE_RUN || end == MACHINE_STOPPED);
        bool more = journal_live(&w->j) && journal_retired(&w->j) < retired;
        if (more && draw(w, 8) == 0) bring(w);
        if (more && draw(w, 8) == 0) write_by_hand(w);
        if (w->h.first) history_look(&w->h);
    }
}

enum { SAMPLES = 60, STEP = 1777 };

// ---- again, in another machine ----

// A sample is the first boundary at its count, as history_goto promises it: nothing was brought there.
static void live(struct world *w, u64 *seen)
{
    for (unsigned i = 0; i < SAMPLES; i++) {
        u64 at, to = (i + 1) * STEP;
        while ((at = journal_retired(&w->j)) < to) {
            journal_run(&w->j, 1 + draw(w, to - at));
            if (journal_retired(&w->j) < to && draw(w, 8) == 0) bring(w);
            if (journal_retired(&w->j) < to && draw(w, 8) == 0) write_by_hand(w);
            if (w->h.first) history_look(&w->h);
        }
        seen[i] = hash(w->m);
    }
}

static void replayed(void **state)
{
    (void)state;
    for (unsigned cpus = 1; cpus <= 2; cpus++) {
        struct world a, b;
        u64 seen[SAMPLES];
        world(&a, cpus, true);
        live(&a, seen);
        assert_true(a.waited > 20 && a.brought > 100);
        assert_true(phys_read16(&a.m->phys, 0, 0x5000) >= 8); // the timer has ticked
        assert_true(phys_read16(&a.m->phys, 0, 0x5002) != 0); // and bytes have come
        world(&b, cpus, false);
        b.random = 4711;
        assert_true(journal_load(&b.j, a.j.event, a.j.events, journal_units(&a.j), a.j.at.idles));
        for (unsigned i = 0; i < SAMPLES; i++) {
            run_to(&b, (i + 1) * STEP);
            if (hash(b.m) != seen[i]) fail_msg("%u processors, sample %u", cpus, i);
        }
        assert_false(b.j.bad);
        assert_int_equal(b.brought, 0);
        end(&a), end(&b);
    }
}

// ---- back and forth in one machine ----

static void visit(struct world *w, const u64 *seen, unsigned visits)
{
    for (unsigned k = 0; k < visits; k++) {
        unsigned i = (unsigned)draw(w, SAMPLES);
        if (!history_goto(&w->h, (i + 1) * STEP, NULL)) fail_msg("sample %u cannot be reached", i);
        if (hash(w->m) != seen[i]) fail_msg("sample %u is another", i);
        if (draw(w, 2)) cpu_drop_derived(w->m->cpu[0]);
    }
}

static void reached(void **state)
{
    (void)state;
    static const u64 limits[] = {HISTORY_DEFAULT, 0}; // all checkpoints; none but the first and the last
    for (unsigned k = 0; k < 4; k++) {
        struct world w;
        u64 seen[SAMPLES];
        world(&w, 1 + k % 2, true);
        run_to(&w, 500);
        assert_true(history_begin(&w.h, &w.j, limits[k / 2]));
        w.h.every = 2500;
        live(&w, seen);
        u64 now = journal_retired(&w.j), waited = w.waited, brought = w.brought;
        visit(&w, seen, 100);
        assert_true(history_goto(&w.h, now, NULL));
        assert_int_equal(hash(w.m), seen[SAMPLES - 1]);
        assert_true(w.waited == waited && w.brought == brought); // nobody was asked again
        assert_false(w.j.bad);
        assert_true(k / 2 ? w.h.thinned > 10 : w.h.thinned == 0 && w.h.used > 20 * sizeof(struct vcpu_state));
        assert_true(history_begins(&w.h) >= 500);
        assert_false(history_goto(&w.h, history_begins(&w.h) - 1, NULL));
        // it goes on from the present, and what comes is taken again
        assert_true(history_goto(&w.h, now, NULL));
        run_to(&w, now + 20000);
        assert_true(w.waited > waited && w.brought > brought);
        visit(&w, seen, 10);
        end(&w);
    }
}

// Steps backwards, one after another: on the average they have not far to run, and each comes where a machine
// comes that runs there once.
static void steps_back(void **state)
{
    (void)state;
    enum { STEPS = 300 };
    for (unsigned k = 0; k < 4; k++) {
        struct world a, b;
        u64 seen[STEPS];
        world(&a, 1 + k % 2, true);
        assert_true(history_begin(&a.h, &a.j, k < 2 ? HISTORY_DEFAULT : 0));
        run_to(&a, 50000);
        u64 now = journal_retired(&a.j), units = journal_units(&a.j), idles = a.j.at.idles;
        for (unsigned i = 0; i < STEPS; i++) {
            if (i == 2) a.h.replayed = 0;
            assert_true(history_goto(&a.h, now - 7 * i, NULL));
            seen[i] = hash(a.m);
            if (i == 0) a.h.every = 4000; // there was no checkpoint on the way
        }
        assert_true(a.h.inserted > 3);
        if (k < 2) assert_true(a.h.replayed < STEPS * a.h.every / 8); // and 20 times that without
        assert_true(k < 2 ? a.h.thinned == 0 : a.h.thinned > 3);
        world(&b, 1 + k % 2, false);
        assert_true(journal_load(&b.j, a.j.event, a.j.events, units, idles));
        for (unsigned i = STEPS; i-- > 0;) {
            run_to(&b, now - 7 * i);
            if (hash(b.m) != seen[i]) fail_msg("%u steps before the end: another state", i);
        }
        assert_true(history_goto(&a.h, now, NULL)); // through all of them, and on
        assert_int_equal(hash(a.m), seen[0]);
        run_to(&a, now + 20000);
        end(&a), end(&b);
    }
}

// What runs again is told apart from what runs for the first time, to the instant, in the middle of a sleep
// too: of each run it is said whether all of it, and no more, has been before.
static void told_again(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 6; k++) {
        struct world w;
        u64 seen[SAMPLES];
        world(&w, 1 + k % 2, true);
        w.random += k;
        assert_true(history_begin(&w.h, &w.j, HISTORY_DEFAULT));
        w.h.every = 20000;
        live(&w, seen);
        run_to(&w, journal_retired(&w.j) + draw(&w, 3000)); // and on, to anywhere
        assert_false(journal_again(&w.j));
        u64 units = journal_units(&w.j), idles = w.j.at.idles, before = 0, behind = 0;
        assert_true(history_goto(&w.h, (1 + draw(&w, SAMPLES)) * STEP, NULL));
        while (behind < 20) {
            u64 now = journal_units(&w.j);
            bool earlier = now < units || (now == units && w.j.at.idles < idles);
            journal_run(&w.j, 1 + draw(&w, 2000));
            assert_int_equal(journal_again(&w.j), earlier);
            now = journal_units(&w.j);
            if (earlier) assert_true(now < units || (now == units && w.j.at.idles <= idles));
            before += earlier, behind += !earlier;
        }
        assert_true(before > 0);
        assert_true(history_goto(&w.h, 5 * STEP, NULL)); // from further on: that has run, too
        assert_int_equal(hash(w.m), seen[4]);
        history_changed(&w.h); // another run from here
        journal_run(&w.j, 100);
        assert_false(journal_again(&w.j));
        end(&w);
    }
}

// A change by hand in the past: what was later is forgotten, and the run is that of a machine with the
// change.
static void changed(void **state)
{
    (void)state;
    struct world a, b;
    world(&a, 1, false), world(&b, 1, false);
    assert_true(history_begin(&a.h, &a.j, HISTORY_DEFAULT));
    a.h.every = 5000;
    while (journal_retired(&b.j) < 30000) machine_run(b.m, 30000 - journal_retired(&b.j));
    while (journal_retired(&a.j) < 60000) {
        journal_run(&a.j, 1000);
        history_look(&a.h);
    }
    assert_true(history_goto(&a.h, 30000, NULL));
    a.m->cpu[0]->s.gpr[RBX] ^= 0x55;
    b.m->cpu[0]->s.gpr[RBX] ^= 0x55;
    assert_true(history_changed(&a.h));
    u64 there = hash(a.m);
    assert_int_equal(there, hash(b.m));
    journal_run(&a.j, 50000);
    assert_true(history_goto(&a.h, 30001, NULL) && history_goto(&a.h, 70000, NULL));
    while (journal_retired(&b.j) < 70000) machine_run(b.m, 70000 - journal_retired(&b.j));
    assert_int_equal(hash(a.m), hash(b.m));
    end(&a), end(&b);
}

// A page is copied when it is written again behind a checkpoint: once for each of them, whoever writes; and
// what nobody writes again is not copied at all.
static void copied_when_written(void **state)
{
    (void)state;
    struct world w;
    world(&w, 1, false);
    struct phys *p = &w.m->phys;
    for (u64 a = 1 << 20; a < 2 << 20; a += PAGE_SIZE) phys_write32(p, 0, a, (u32)a);
    u64 seen = hash(w.m);
    assert_true(history_begin(&w.h, &w.j, HISTORY_DEFAULT));
    assert_int_equal(w.h.copied, 0);
    for (u64 i = 0; i < 5; i++) phys_write32(p, 0, (1 << 20) + 8 * i, 4711); // one page
    phys_write64(p, 0, (1 << 20) + 3 * PAGE_SIZE - 4, 4711);                 // across two
    assert_int_equal(w.h.copied, 3);
    assert_true(history_changed(&w.h)); // a checkpoint, which notes those three
    assert_int_equal(w.h.copied, 3);
    u64 then = hash(w.m);
    assert_true(history_goto(&w.h, history_begins(&w.h), NULL));
    assert_ptr_equal(w.h.base, w.h.first);
    assert_int_equal(hash(w.m), seen);
    assert_int_not_equal(seen, then);
    end(&w);
}

// The host had no memory for a copy: what was is given up, and from here on there is a past.
static void lost(void **state)
{
    (void)state;
    struct world w;
    u64 seen[SAMPLES];
    world(&w, 1, true);
    assert_true(history_begin(&w.h, &w.j, HISTORY_DEFAULT));
    w.h.every = 2500;
    run_to(&w, 20000);
    u64 now = journal_retired(&w.j), there = hash(w.m);
    w.h.lost = true;
    history_look(&w.h);
    assert_false(w.h.lost);
    assert_int_equal(history_begins(&w.h), now);
    assert_false(history_goto(&w.h, now - 1, NULL));
    assert_int_equal(hash(w.m), there);
    u64 used = w.h.used; // what was given back with the past is no longer counted
    history_forget(&w.h);
    assert_true(history_begin(&w.h, &w.j, HISTORY_DEFAULT));
    assert_int_equal(w.h.used, used);
    w.h.every = 2500;
    for (unsigned i = 0; i < SAMPLES; i++) {
        run_to(&w, now + (i + 1) * STEP);
        seen[i] = hash(w.m);
    }
    w.h.lost = false;
    for (unsigned k = 0; k < 20; k++) {
        unsigned i = (unsigned)draw(&w, SAMPLES);
        if (!history_goto(&w.h, now + (i + 1) * STEP, NULL)) fail_msg("sample %u cannot be reached", i);
        if (hash(w.m) != seen[i]) fail_msg("sample %u is another", i);
    }
    end(&w);
}

static bool restart(void *opaque)
{
    struct world *w = opaque;
    w->resets++;
    machine_reset(w->m);
    load_code(w->m);
    return true;
}

// Through a reset and back before it.
static void over_resets(void **state)
{
    (void)state;
    struct world w;
    u64 seen[2 * SAMPLES];
    world(&w, 1, false);
    w.h.restart = restart, w.h.restart_opaque = &w;
    assert_true(history_begin(&w.h, &w.j, HISTORY_DEFAULT));
    w.h.every = 4000;
    for (unsigned i = 0; i < 2 * SAMPLES; i++) {
        if (i == SAMPLES) { // the triple fault of an empty IDT
            phys_write(&w.m->phys, 0, w.m->cpu[0]->s.rip, "\x0F\x01\x1E\x00\x70\xCD\x03",
                       7); // lidt [7000h]; int3
            assert_true(history_changed(&w.h));
        }
        while (journal_retired(&w.j) < (i + 1) * STEP) {
            enum machine_end end = journal_run(&w.j, (i + 1) * STEP - journal_retired(&w.j));
            if (end == MACHINE_SHUTDOWN || end == MACHINE_RESET) {
                u64 units = machine_units(w.m), retired = machine_retired(w.m);
                restart(&w);
                journal_restarted(&w.j, units, retired);
            }
            history_look(&w.h);
        }
        seen[i] = hash(w.m);
    }
    assert_int_equal(w.resets, 1);
    for (unsigned k = 0; k < 60; k++) {
        unsigned i =
            (unsigned)draw(&w, SAMPLES) + SAMPLES; // the change by hand is no event: not from before it
        if (!history_goto(&w.h, (i + 1) * STEP, NULL)) fail_msg("sample %u cannot be reached", i);
        if (hash(w.m) != seen[i]) fail_msg("sample %u is another", i);
    }
    assert_true(w.resets > 1);
    end(&w);
}

// Events that are of no run.
static void refused(void **state)
{
    (void)state;
    struct world w;
    world(&w, 1, false);
    const struct journal_event good[] = {{.units = 10, .kind = JOURNAL_SERIAL, .n = 1},
                                         {.units = 10, .idles = 1, .kind = JOURNAL_IDLE, .in_idle = true}};
    const struct journal_event bad[] = {
        {.units = 9, .kind = JOURNAL_SERIAL, .n = 1},
        {.units = 10, .idles = 0, .kind = JOURNAL_SERIAL, .n = 0},
        {.units = 10, .kind = JOURNAL_SERIAL, .n = 9},
        {.units = 10, .kind = JOURNAL_SERIAL, .n = 1, .line = MACHINE_SERIAL},
        {.units = 10, .kind = JOURNAL_KINDS},
        {.units = 10, .kind = JOURNAL_MEMORY, .n = 9},
        {.units = 10, .kind = JOURNAL_MEMORY, .n = 1, .line = 1},
        {.units = 10, .kind = JOURNAL_REGISTER, .n = 0},
        {.units = 10, .kind = JOURNAL_REGISTER, .n = 1, .first = 9},
        {.units = 10, .idles = 1, .kind = JOURNAL_REGISTER, .n = 1, .in_idle = true},
        {.units = 10, .kind = JOURNAL_IDLE},
        {.units = 10, .kind = JOURNAL_INPUT_OPEN, .value = 4},
        {.units = 21, .kind = JOURNAL_POWER},
        {.units = 20, .idles = 9, .kind = JOURNAL_POWER},
    };
    assert_true(journal_load(&w.j, good, 2, 20, 8));
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        const struct journal_event both[] = {good[0], bad[i]};
        if (journal_load(&w.j, both, 2, 20, 8)) fail_msg("event %u was taken", i);
        assert_int_equal(w.j.events, 2);
    }
    // what came at the very end is there when the run is at its end, and nothing after it is run
    const struct journal_event last[] = {{.units = 2, .kind = JOURNAL_INPUT_OPEN, .value = 2}};
    assert_true(journal_load(&w.j, last, 1, 2, 0));
    for (unsigned i = 0; i < 9 && !journal_live(&w.j); i++) journal_run(&w.j, 1000);
    assert_true(journal_live(&w.j) && journal_units(&w.j) == 2 && w.m->input_open == 2);
    // and memory by hand where none is, as a register that cannot be, is told
    for (unsigned i = 0; i < 2; i++) {
        const struct journal_event nowhere[] = {
            {.units = 2, .kind = i ? JOURNAL_REGISTER : JOURNAL_MEMORY, .n = 2, .at = (2 << 20) - 1}};
        struct world x;
        world(&x, 1, false);
        assert_true(journal_load(&x.j, nowhere, 1, 2, 0));
        for (unsigned k = 0; k < 9 && !journal_live(&x.j); k++) journal_run(&x.j, 1000);
        assert_true(x.j.bad);
        end(&x);
    }
    // one whose instant does not come is told
    struct journal_event late[] = {{.units = 30, .idles = 7, .kind = JOURNAL_POWER}};
    assert_true(journal_load(&w.j, late, 1, 40, 8));
    while (journal_retired(&w.j) < 5000) journal_run(&w.j, 1000);
    assert_true(w.j.bad);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(replayed),    cmocka_unit_test(reached),
                                       cmocka_unit_test(told_again),  cmocka_unit_test(changed),
                                       cmocka_unit_test(steps_back),  cmocka_unit_test(copied_when_written),
                                       cmocka_unit_test(lost),

                                       cmocka_unit_test(over_resets), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

// Several processors: their IDs, how they start, take turns, wait for each other, and what a stop leaves.
// The programs are real-mode code; sources of expected values: SDM volume 3 (APIC IDs, INIT and SIPI,
// MONITOR and MWAIT), and the topologies as QEMU gives them.
#include "tests/machine_test.h"
#include "devices/machine_state.h"
#include "devices/state_hash.h"

#define AP 0x8000 // where SIPI vector 8 begins

// x2APIC on; INIT, and a SIPI with vector 8, to APIC ID 1; and on behind it, at 7C2Ch.
static const u8 wake_second[] = {
    0x66, 0xB9, 0x1B, 0,    0, 0, 0x0F, 0x32,                   // mov ecx, 1Bh; rdmsr
    0x66, 0x0D, 0,    0x0C, 0, 0, 0x0F, 0x30,                   // or eax, C00h; wrmsr
    0x66, 0xB9, 0x30, 0x08, 0, 0, 0x66, 0xBA, 1,    0,    0, 0, // mov ecx, 830h; mov edx, 1
    0x66, 0xB8, 0,    0x45, 0, 0, 0x0F, 0x30, 0x66, 0xB8, 8, 0x46,
    0,    0,     // mov eax, 4500h; wrmsr; mov eax, 4608h
    0x0F, 0x30}; // wrmsr
#define BEHIND (0x7C00 + sizeof wake_second)

// 2000 times: takes the lock at 610h, counts at 630h if the time is before the one at 620h, puts it there;
// then waits until both have counted themselves at 640h, and halts.
static const u8 stamps[] = {
    0xBD, 0xD0, 0x07, // mov bp, 2000
    0xB0, 0x01,       // 1: mov al, 1
    0x86, 0x06, 0x10, 0x06, 0x84, 0xC0, 0x74, 0x04, 0xF3,
    0x90, 0xEB, 0xF4,                                     // 2: xchg al, [610h]; test; jz 3; pause; jmp 2
    0x0F, 0x31,                                           // 3: rdtsc
    0x66, 0x3B, 0x16, 0x24, 0x06, 0x77, 0x0D, 0x72, 0x07, // cmp edx, [624h]; ja 5; jb 4
    0x66, 0x3B, 0x06, 0x20, 0x06, 0x73, 0x04,             // cmp eax, [620h]; jae 5
    0xFF, 0x06, 0x30, 0x06,                               // 4: inc word [630h]
    0x66, 0xA3, 0x20, 0x06, 0x66, 0x89, 0x16, 0x24, 0x06, // 5: mov [620h], eax; mov [624h], edx
    0xC6, 0x06, 0x10, 0x06, 0x00, 0x4D, 0x75, 0xCB,       // mov byte [610h], 0; dec bp; jnz 1
    0xF0, 0xFF, 0x06, 0x40, 0x06,                         // lock inc word [640h]
    0xF3, 0x90, 0x83, 0x3E, 0x40, 0x06, 0x02, 0x75, 0xF7, // 6: pause; cmp word [640h], 2; jne 6
    0xFA, 0xF4};                                          // cli; hlt

// For ever: monitors the line at 680h, waits, counts at 700h.
static const u8 sleeper[] = {0xFA, 0xB8, 0x80, 0x06, 0x66, 0x31,
                             0xC9, 0x66, 0x31, 0xD2, // cli; mov ax, 680h; xor ecx, ecx; xor edx, edx
                             0x0F, 0x01, 0xC8, 0x66, 0x31, 0xC0,
                             0x0F, 0x01, 0xC9,                    // monitor; xor eax, eax; mwait
                             0xFF, 0x06, 0x00, 0x07, 0xEB, 0xE8}; // inc word [700h]; jmp

static struct machine *make(unsigned cpus, const u8 *second, u32 n)
{
    struct machine *m =
        make_as((struct machine_config){.ram_size = 4 << 20,
                                        .cpus = cpus,
                                        .device = {device_of("isa-debug-exit,iobase=0xf4,iosize=4")},
                                        .devices = 1});
    start(m, wake_second, sizeof wake_second);
    if (n) phys_write(&m->phys, 0, AP, second, n);
    return m;
}
// Its plain state in another machine.
static struct machine *moved(struct machine *m)
{
    struct state_bytes b = {0};
    char why[256];
    if (!machine_state_save(m, &b, why, sizeof why)) fail_msg("%s", why);
    struct machine *to = make(2, NULL, 0);
    if (!machine_state_load(to, b.at, b.size, why, sizeof why)) fail_msg("%s", why);
    state_bytes_free(&b);
    destroy(m);
    return to;
}
static u16 word(struct machine *m, paddr a) { return phys_read16(&m->phys, 0, a); }

// ---- IDs ----

static void ids_by_topology(void **state)
{
    // clang-format off
    static const struct { struct cpu_topology t; u8 n; u8 id[12]; u32 thread, core, package; } row[] = {
        {{1, 1, 4, 1}, 4, {0, 1, 2, 3}, 0, 2, 2},
        {{2, 1, 2, 2}, 8, {0, 1, 2, 3, 4, 5, 6, 7}, 1, 2, 2},
        {{2, 1, 3, 1}, 6, {0, 1, 2, 4, 5, 6}, 0, 2, 2},
        {{1, 1, 2, 3}, 6, {0, 1, 2, 4, 5, 6}, 2, 3, 3},
        {{2, 2, 3, 1}, 12, {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14}, 0, 2, 3},
        {{3, 1, 1, 1}, 3, {0, 1, 2}, 0, 0, 0}, {{0, 0, 0, 0}, 3, {0, 1, 2}, 0, 0, 0}};
    // clang-format on
    for (unsigned k = 0; k < ARRAY_LEN(row); k++) {
        for (unsigned i = 0; i < row[k].n; i++)
            assert_int_equal(topology_apic_id(&row[k].t, i), row[k].id[i]);
        assert_int_equal(topology_shift(&row[k].t, TOPOLOGY_THREAD), row[k].thread);
        assert_int_equal(topology_shift(&row[k].t, TOPOLOGY_CORE), row[k].core);
        assert_int_equal(topology_shift(&row[k].t, TOPOLOGY_DIE), row[k].package);
    }
    const struct cpu_topology wide = {.sockets = 3, .dies = 1, .cores = 65, .threads = 2};
    assert_int_equal(topology_apic_id(&wide, 131),
                     256 + 1); // the first core of the second package, second thread
}

// What CPUID, the local APICs and the MADT say is the same.
static void ids_are_told(void **state)
{
    struct machine_config c = {.ram_size = 4 << 20, .cpus = 12};
    cpu_features_max(&c.features);
    c.features.topology = (struct cpu_topology){.sockets = 2, .dies = 1, .cores = 3, .threads = 2};
    struct machine *m = make_as(c);
    u32 r[4];
    for (unsigned i = 0; i < 12; i++) {
        u32 id = i % 2 | i / 2 % 3 << 1 | i / 6 << 3;
        cpuid_query(m->cpu[i], 1, 0, r);
        assert_int_equal(r[1] >> 24, id);
        assert_int_equal(r[1] >> 16 & 0xFF, 8); // IDs of a package, those that no processor has among them
        assert_true(r[3] >> 28 & 1);
        for (u32 leaf = 0xB; leaf <= 0x1F; leaf += 0x14) {
            cpuid_query(m->cpu[i], leaf, 0, r);
            assert_true(r[0] == 1 && r[1] == 2 && r[2] == 0x100 && r[3] == id);
            cpuid_query(m->cpu[i], leaf, 1, r);
            assert_true(r[0] == 3 && r[1] == 6 && r[2] == 0x201 && r[3] == id);
            cpuid_query(m->cpu[i], leaf, 2, r);
            assert_true(r[0] == 0 && r[1] == 0 && r[2] == 2 && r[3] == id);
        }
        cpuid_query(m->cpu[i], 4, 0, r);
        assert_int_equal(r[0] >> 14 & 0xFFF, 1); // first level: the two threads of a core
        assert_int_equal(r[0] >> 26, 3);         // core IDs of the package, less one
        cpuid_query(m->cpu[i], 4, 3, r);
        assert_int_equal(r[0] >> 14 & 0xFFF, 7); // third level: the package
        assert_int_equal(lapic_mmio_read(&m->lapic[i], 0x20, 4), id << 24);
    }
    destroy(m);
}

static void dies_have_a_level(void **state)
{
    struct machine_config c = {.ram_size = 4 << 20, .cpus = 8};
    cpu_features_max(&c.features);
    c.features.topology = (struct cpu_topology){.sockets = 1, .dies = 2, .cores = 2, .threads = 2};
    struct machine *m = make_as(c);
    u32 r[4];
    cpuid_query(m->cpu[5], 0x1F, 1, r);
    assert_true(r[0] == 2 && r[1] == 4 && r[2] == 0x201 && r[3] == 5);
    cpuid_query(m->cpu[5], 0x1F, 2, r);
    assert_true(r[0] == 3 && r[1] == 8 && r[2] == 0x502 && r[3] == 5);
    cpuid_query(m->cpu[5], 0xB, 1, r); // which knows no dies: the whole package
    assert_true(r[0] == 3 && r[1] == 8 && r[2] == 0x201);
    cpuid_query(m->cpu[5], 4, 3, r);
    assert_int_equal(r[0] >> 14 & 0xFFF, 3); // the third level is a die's
    destroy(m);
}

// ---- start ----

// The SIPI follows the INIT at once, as newer kernels send it, wherever the other processor stands.
static void init_and_sipi(void **state)
{
    static const u8 second[] = {0xB0, 0x07, 0xE6, 0xF4}; // mov al, 7; out F4h, al
    struct machine *m = make(3, second, sizeof second);
    phys_write(&m->phys, 0, BEHIND, (const u8[]){0xEB, 0xFE}, 2);
    assert_int_equal(machine_run(m, 10000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 15);
    assert_int_equal(m->cpu[0]->s.activity, ACTIVITY_ACTIVE);
    assert_int_equal(m->cpu[2]->s.activity, ACTIVITY_WAIT_SIPI);
    destroy(m);
    m = make_as((struct machine_config){.ram_size = 4 << 20, .cpus = 2});
    struct vcpu *v = m->cpu[1];
    cpu_signal(v, CPU_SIGNAL_SIPI, 9); // before the INIT: lost
    cpu_signal(v, CPU_SIGNAL_INIT, 0);
    assert_int_equal(vcpu_run(v, 100), RUN_HALTED);
    assert_int_equal(v->s.activity, ACTIVITY_WAIT_SIPI);
    cpu_signal(v, CPU_SIGNAL_INIT, 0);
    cpu_signal(v, CPU_SIGNAL_SIPI, 9); // after it, though the processor has not seen it yet
    phys_write(&m->phys, 0, 0x9000, (const u8[]){0xF4}, 1);
    assert_int_equal(vcpu_run(v, 100), RUN_HALTED);
    assert_int_equal(v->s.activity, ACTIVITY_HLT);
    assert_int_equal(v->s.rip, 1);
    destroy(m);
}

// ---- turns ----

static void time_is_one(void **state)
{
    for (unsigned loop = 0; loop < 2; loop++) {
        struct machine *m = make(2, stamps, sizeof stamps);
        phys_write(&m->phys, 0, BEHIND, stamps, sizeof stamps);
        m->cpu[0]->loop_engine = m->cpu[1]->loop_engine = loop;
        phys_write16(&m->phys, 0, 0x630, 0);
        assert_int_equal(machine_run(m, 10000000), MACHINE_IDLE);
        assert_int_equal(word(m, 0x640), 2);
        assert_int_equal(word(m, 0x630), 0); // no time stamp before one that was taken earlier
        destroy(m);
    }
}

// A run that is stopped every few units, whose state moves into another machine now and then, is the run that
// was not; in both engines. Here for two that spin, and for one that sleeps until the other's plain store.
static void stops_leave_no_trace(void **state)
{
    static const u8 storing[] = {
        0xBD, 0x2C, 0x01, 0xC6, 0x06, 0x80, 0x06, 0,    // mov bp, 300; 1: mov byte [680h], 0
        0xB9, 0x32, 0x00, 0xE2, 0xFE, 0x4D, 0x75, 0xF3, // mov cx, 50; loop $; dec bp; jnz 1
        0xFA, 0xF4};                                    // cli; hlt
    // clang-format off
    static const struct { const u8 *first, *second; u32 first_n, second_n; } program[] = {
        {stamps, stamps, sizeof stamps, sizeof stamps}, {storing, sleeper, sizeof storing, sizeof sleeper}};
    // clang-format on
    static const u64 stop_every[] = {100000000, 1, 7, 1000, 12345};
    for (unsigned which = 0; which < ARRAY_LEN(program); which++) {
        u64 whole = 0;
        for (unsigned k = 0; k < 2 * ARRAY_LEN(stop_every); k++) {
            struct machine *m = make(2, program[which].second, program[which].second_n);
            phys_write(&m->phys, 0, BEHIND, program[which].first, program[which].first_n);
            u64 every = stop_every[k / 2];
            enum machine_end end = MACHINE_RUN;
            while (end == MACHINE_RUN) {
                m->cpu[0]->loop_engine = m->cpu[1]->loop_engine = k % 2;
                end = machine_run(m, every);
                if (every >= 100 && end == MACHINE_RUN) m = moved(m);
            }
            assert_int_equal(end, MACHINE_IDLE);
            struct state_hash h = {0};
            u64 x = state_hash(&h, m);
            state_hash_free(&h);
            if (!k) whole = x;
            assert_true(x == whole);
            destroy(m);
        }
    }
}

// ---- MONITOR and MWAIT ----

static void mwait_waits_for_a_store(void **state)
{
    struct machine *m = make(2, sleeper, sizeof sleeper);
    struct phys *p = &m->phys;
    phys_write(p, 0, BEHIND, (const u8[]){0xFA, 0xF3, 0x90, 0xEB, 0xFC}, 5); // cli; pause; jmp
    phys_write16(p, 0, 0x700, 0);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    struct vcpu *v = m->cpu[1];
    assert_int_equal(v->s.activity, ACTIVITY_MWAIT);
    assert_int_equal(word(m, 0x700), 0);
    phys_write8(p, 0, 0x67F, 1); // beside the line
    phys_write8(p, 0, 0x6C0, 1);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(word(m, 0x700), 0);
    for (unsigned i = 0; i < 4; i++) {
        phys_write8(p, 0, 0x680 + 21 * i, 0); // in it; that the bytes stay the same does not matter
        assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
        assert_int_equal(word(m, 0x700), i + 1);
        assert_int_equal(v->s.activity, ACTIVITY_MWAIT);
    }
    // by the other processor: mov byte [69Fh], 0; cli; pause; jmp
    u64 slept = v->s.units;
    phys_write(p, 0, m->cpu[0]->s.rip & ~0ull,
               (const u8[]){0xC6, 0x06, 0x9F, 0x06, 0, 0xF3, 0x90, 0xEB, 0xFC}, 9);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(word(m, 0x700), 5);
    assert_int_equal(v->s.units - slept, 8); // once round: it does not spin
    // With IF=0 an interrupt does not end the wait, unless ECX[0] asked for it; it stays pending then.
    lapic_mmio_write(&m->lapic[1], 0xF0, 4, 0x1FF);
    lapic_apply_fixed(&m->lapic[1], 0x40, false);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(v->s.activity, ACTIVITY_MWAIT);
    assert_int_equal(word(m, 0x700), 5);
    v->s.mwait_masked = true;
    lapic_apply_fixed(&m->lapic[1], 0x50, false);
    machine_signalled(m, 1);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(word(m, 0x700), 6);
    assert_true(lapic_pending(&m->lapic[1]));
    destroy(m);
}

static void mwait_extensions(void **state)
{
    static const u8 second[] = {0x66, 0xB9, 1,    0,    0,    0,
                                0xB8, 0x80, 0x06,                   // mov ecx, 1; mov ax, 680h
                                0x66, 0x31, 0xC9, 0x0F, 0x01, 0xC8, // xor ecx, ecx; monitor
                                0xB1, 1,    0x0F, 0x01, 0xC9,       // mov cl, 1; mwait: waits
                                0x0F, 0x01, 0xC9};                  // mwait: not armed, so it does not
    struct machine *m = make(2, second, sizeof second);
    phys_write(&m->phys, 0, BEHIND, (const u8[]){0xFA, 0xF3, 0x90, 0xEB, 0xFC}, 5);
    phys_write(&m->phys, 0, AP + sizeof second, (const u8[]){0xB1, 2, 0x0F, 0x01, 0xC9},
               5); // mov cl, 2; mwait: #GP(0)
    phys_write32(&m->phys, 0, 13 * 4, 0xA000);
    phys_write(&m->phys, 0, 0xA000, (const u8[]){0xFA, 0xF4}, 2);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(m->cpu[1]->s.activity, ACTIVITY_MWAIT);
    assert_true(m->cpu[1]->s.mwait_masked);
    phys_write8(&m->phys, 0, 0x680, 1);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(m->cpu[1]->s.activity, ACTIVITY_HLT);
    assert_int_equal(m->cpu[1]->s.rip, 0xA002);
    u32 r[4];
    cpuid_query(m->cpu[1], 5, 0, r);
    assert_true(r[0] == 64 && r[1] == 64 && (r[2] & 3) == 3);
    destroy(m);
}

// The page of a monitored line is a page like others again once nobody waits for it, and after a load it is
// watched.
static void monitored_page(void **state)
{
    struct machine *m = make(2, sleeper, sizeof sleeper);
    phys_write(&m->phys, 0, BEHIND, (const u8[]){0xFA, 0xF3, 0x90, 0xEB, 0xFC}, 5);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_true(m->phys.watch[0] & 1);
    m = moved(m);
    phys_write16(&m->phys, 0, 0x700, 0);
    phys_write8(&m->phys, 0, 0x680, 0);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(word(m, 0x700), 1);
    cpu_signal(m->cpu[1], CPU_SIGNAL_INIT, 0);
    machine_signalled(m, 1);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    assert_int_equal(m->cpu[1]->s.activity, ACTIVITY_WAIT_SIPI);
    assert_false(m->phys.watch[0] & 1);
    destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_by_topology),
        cmocka_unit_test(ids_are_told),
        cmocka_unit_test(dies_have_a_level),
        cmocka_unit_test(init_and_sipi),
        cmocka_unit_test(time_is_one),
        cmocka_unit_test(stops_leave_no_trace),
        cmocka_unit_test(mwait_waits_for_a_store),
        cmocka_unit_test(mwait_extensions),
        cmocka_unit_test(monitored_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

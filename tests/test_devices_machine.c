// The board as a whole, under programs of a few instructions: lines lead where they should, ends are
// reported, and two machines share nothing.
#include "tests/machine_test.h"
#include "devices/machine_state.h"
#include "devices/state_hash.h"

#include <signal.h>
#include <sys/time.h>

struct console {
    u8 bytes[256];
    unsigned n;
};
static void console_write(void *opaque, const u8 *bytes, u32 n)
{
    struct console *c = opaque;
    while (n-- && c->n < sizeof c->bytes) c->bytes[c->n++] = *bytes++;
}

static struct machine *make(struct console *c, unsigned cpus)
{
    struct machine_config config = {.ram_size = 4 << 20,
                                    .cpus = cpus,
                                    .device = {device_of("isa-debug-exit,iobase=0xf4,iosize=4")},
                                    .devices = 1};
    if (c) config.serial[0] = (struct chardev){console_write, c};
    return make_as(config);
}
static void vector_to(struct machine *m, u8 vector, u16 offset)
{
    phys_write16(&m->phys, 0, vector * 4u, offset);
    phys_write16(&m->phys, 0, vector * 4u + 2u, 0);
}

static void exit_and_serial(void **state)
{
    struct console c = {.n = 0};
    struct machine *m = make(&c, 1);
    START(m, 0xBA, 0xF8, 0x03, 0xB0, 'o', 0xEE, 0xB0, 'k', 0xEE, // mov dx, 3F8h; out 'o'; out 'k'
          0xB0, 0x15, 0xE6, 0xF4);                               // mov al, 15h; out F4h, al
    assert_int_equal(machine_run(m, 1000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 0x2B);
    assert_int_equal(c.n, 2);
    assert_memory_equal(c.bytes, "ok", 2);
    assert_int_equal(machine_run(m, 1000), MACHINE_EXIT); // stays until reset
    machine_reset(m);
    START(m, 0xBA, 0x04, 0x06, 0xB8, 0x00, 0x20, 0xEF); // mov dx, 604h; mov ax, 2000h; out dx, ax: soft off
    assert_int_equal(machine_run(m, 1000), MACHINE_POWER_OFF);
    destroy(m);
}

// ---- a stop from outside ----

struct stopper {
    struct machine *m;
    unsigned bytes;
};
static void stopping_write(void *opaque, const u8 *bytes, u32 n)
{
    struct stopper *s = opaque;
    s->bytes += n;
    if (s->bytes % 10 == 0) machine_ask_stop(s->m);
}

// It lands between two iterations of REP, loses none, and changes no time.
static void stop_in_rep(void **state)
{
    // mov dx, 3F8h; mov cx, 256; cld; rep outsb; hlt
    static const u8 code[] = {0xBA, 0xF8, 0x03, 0xB9, 0x00, 0x01, 0xFC, 0xF3, 0x6E, 0xF4};
    u64 units[2];
    for (unsigned loop = 0; loop < 2; loop++) {
        for (unsigned stops = 0; stops < 2; stops++) {
            struct stopper s = {.bytes = 0};
            struct console c = {.n = 0};
            s.m = make(&c, 1);
            s.m->cpu[0]->loop_engine = loop;
            if (stops) s.m->uart[0].chr = (struct chardev){stopping_write, &s};
            start(s.m, code, sizeof code);
            for (unsigned k = 1; stops && k <= 25; k++) {
                assert_int_equal(machine_run(s.m, 1000000), MACHINE_STOPPED);
                assert_int_equal(s.bytes, 10 * k);
                assert_int_equal((u16)s.m->cpu[0]->s.gpr[RCX], 256 - 10 * k);
                assert_int_equal(s.m->cpu[0]->s.rip, 0x7C07);
                assert_int_equal(cpu_retired(s.m->cpu[0]), 3);
            }
            assert_int_equal(machine_run(s.m, 1000000), MACHINE_IDLE);
            assert_int_equal(stops ? s.bytes : c.n, 256);
            assert_int_equal(cpu_retired(s.m->cpu[0]), 5);
            assert_false(s.m->cpu[0]->s.rflags & FL_RF);
            units[stops] = s.m->cpu[0]->s.units;
            destroy(s.m);
        }
        assert_int_equal(units[0], units[1]);
    }
}

static struct machine *alarmed;
static void on_alarm(int n) { machine_ask_stop(alarmed); }

// By a signal, wherever it strikes: fast code, slow code, code that decodes anew all the time, REP over a
// device.
static void stop_by_signal(void **state)
{
    // clang-format off
    static const struct { u8 n, code[14]; } program[] = {
        {2, {0xEB, 0xFE}},                                                 // jmp $
        {5, {0x0F, 0x20, 0xD8, 0xEB, 0xFB}},                               // mov eax, cr3; jmp
        {7, {0xFE, 0x06, 0x05, 0x7C, 0xB0, 0x00, 0xEB}},                   // inc byte [7C05h]: the operand of mov al; jmp (to itself below)
        {8, {0xBA, 0x71, 0x00, 0xB9, 0xFF, 0xFF, 0xF3, 0x6C}},             // mov dx, 71h; mov cx, FFFFh; rep insb ...
        {9, {0x66, 0xB9, 0xFF, 0xFF, 0xFF, 0xFF, 0x67, 0xF3, 0xAC}},       // mov ecx, -1; addr32 rep lodsb
    };
    // clang-format on
    signal(SIGALRM, on_alarm);
    for (unsigned i = 0; i < ARRAY_LEN(program); i++) {
        for (unsigned loop = 0; loop < 2; loop++) {
            u8 code[16] = {0};
            unsigned n = program[i].n;
            memcpy(code, program[i].code, n);
            if (i == 2) code[7] = 0xF8, n = 8;
            if (i >= 3) code[n] = 0xEB, code[n + 1] = (u8) - (n + 2), n += 2;
            alarmed = make(NULL, 1);
            alarmed->cpu[0]->loop_engine = loop;
            start(alarmed, code, n);
            setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 20000}, NULL);
            assert_int_equal(machine_run(alarmed, UINT64_MAX), MACHINE_STOPPED);
            assert_int_equal(machine_run(alarmed, 1000), MACHINE_RUN); // and goes on
            machine_ask_stop(alarmed);
            machine_ask_stop(alarmed);
            u64 before = cpu_vtime(alarmed->cpu[0]);
            // asked before it began: nothing happens
            assert_int_equal(machine_run(alarmed, 1000), MACHINE_STOPPED);
            assert_int_equal(cpu_vtime(alarmed->cpu[0]), before);
            assert_int_equal(machine_run(alarmed, 1000), MACHINE_RUN);
            destroy(alarmed);
        }
    }
}

static void resets(void **state)
{
    struct machine *m = make(NULL, 1);
    START(m, 0xB0, 0xFE, 0xE6, 0x64); // out 64h, FEh
    assert_int_equal(machine_run(m, 1000), MACHINE_RESET);
    machine_reset(m);
    START(m, 0xB0, 0x03, 0xE6, 0x92); // out 92h, 3
    assert_int_equal(machine_run(m, 1000), MACHINE_RESET);
    machine_reset(m);
    START(m, 0xBA, 0xF9, 0x0C, 0xB0, 0x06, 0xEE); // out CF9h, 6
    assert_int_equal(machine_run(m, 1000), MACHINE_RESET);
    machine_reset(m);
    m->cpu[0]->s.idtr.limit = 0; // no vector can be read: #GP, #DF, shutdown
    START(m, 0x0F, 0x0B);        // ud2
    assert_int_equal(machine_run(m, 1000), MACHINE_SHUTDOWN);
    assert_int_equal(m->request.cpu, 0);
    assert_int_equal(m->cpu[0]->s.rip, 0x7C00);
    destroy(m);
}

static void halts(void **state)
{
    struct machine *m = make(NULL, 1);
    START(m, 0xB0, 0xFF, 0xE6, 0x21, 0xFB, 0xF4); // mov al, FFh; out 21h, al; sti; hlt: nobody takes the tick
    assert_int_equal(machine_run(m, 1000), MACHINE_IDLE);
    machine_reset(m);
    START(m, 0xB0, 0x34, 0xE6, 0x43, 0xE6, 0x40, 0xE6, 0x40, 0xFA, 0xF4); // the 8254 runs, but IF is 0
    assert_int_equal(machine_run(m, 1000), MACHINE_IDLE);
    destroy(m);
}

// ---- what can wake a halted processor, and what cannot ----

enum { WAKES = MACHINE_EXIT, DEAD = MACHINE_IDLE };

// Vectors 20h (IRQ 0), 28h (IRQ 8), 40h, 50h and NMI end the machine with exit. STI (or CLI); HLT.
static void sleeps_at(struct machine *m, bool sti, int end, const char *why, unsigned line)
{
    static const u8 vector[] = {0x20, 0x24, 0x28, 0x40, 0x50, 2};
    char said[256];
    for (unsigned i = 0; i < sizeof vector; i++) vector_to(m, vector[i], 0x7D00);
    phys_write(&m->phys, 0, 0x7D00, (const u8[]){0xB0, 0x02, 0xE6, 0xF4}, 4);
    START(m, sti ? 0xFB : 0xFA, 0xF4);
    alarmed = m;
    signal(SIGALRM, on_alarm);
    // a machine that spins: MACHINE_STOPPED
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_sec = 2}, NULL);
    int is = (int)machine_run(m, 100000);
    setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
    machine_asleep(m, said, sizeof said);
    if (is != end) fail_msg("line %u: it ends with %d, not %d (%s)", line, is, end, said);
    if (end == DEAD) {
        machine_asleep(m, said, sizeof said);
        if (!strstr(said, why)) fail_msg("line %u: said \"%s\" and not \"%s\"", line, said, why);
    }
    destroy(m);
}

#define sleeps(...) sleeps_at(__VA_ARGS__, __LINE__)

static void out(struct machine *m, u16 port, u8 x) { bus_port_write(&m->bus, port, 1, x); }

// The 8254 ticks at 1 kHz; of the 8259 pair, with vectors from 20h and 28h, only `open` is not masked.
static struct machine *ticking(u16 open)
{
    struct machine *m = make(NULL, 1);
    // clang-format off
    static const struct { u16 port; u8 x; } init[] = {
        {0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0xA0, 0x11}, {0xA1, 0x28}, {0xA1, 2}, {0xA1, 1}, {0x43, 0x34}, {0x40, 0xA9}, {0x40, 4}};
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(init); i++) out(m, init[i].port, init[i].x);
    out(m, 0x21, (u8)~open);
    out(m, 0xA1, (u8)(~open >> 8));
    if (open & 1) pic_ack(&m->pic), out(m, 0x20, 0x20); // nothing is requested yet
    return m;
}
static void lapic(struct machine *m, u32 reg, u32 x) { lapic_mmio_write(&m->lapic[0], reg, 4, x); }
static void ioapic(struct machine *m, unsigned pin, u32 low)
{
    for (unsigned half = 0; half < 2; half++) {
        bus_mem_write(&m->bus, IOAPIC_BASE, 4, 0x10 + 2 * pin + half);
        bus_mem_write(&m->bus, IOAPIC_BASE + 0x10, 4, half ? 0 : low);
    }
}
static void no_tick(struct machine *m) { out(m, 0x43, 0x30); } // mode 0 and no count: the 8254 stands still
static struct machine *apic_timer(u32 lvt)                     // periodic, 1 ms
{
    struct machine *m = make(NULL, 1);
    no_tick(m);
    lapic(m, 0x3E0, 0xB);
    lapic(m, 0x320, lvt | 1 << 17);
    lapic(m, 0x380, 25000);
    return m;
}
static struct machine *hpet_periodic(u32 config, u32 timer) // 1 ms
{
    struct machine *m = make(NULL, 1);
    no_tick(m);
    bus_mem_write(&m->bus, HPET_BASE + 0x100, 4, timer | 1 << 2 | 1 << 3 | 1 << 6 | 2 << 9);
    bus_mem_write(&m->bus, HPET_BASE + 0x108, 8, 100000);
    bus_mem_write(&m->bus, HPET_BASE + 0x10, 4, config | 1);
    return m;
}

static void what_wakes(void **state)
{
    struct machine *m;
    sleeps(ticking(1), true, WAKES, NULL);
    sleeps(ticking(1), false, DEAD, "IF=0");
    sleeps(ticking(0), true, DEAD, "(pit) cannot reach it");
    // another line is open, but its device has no timer
    sleeps(ticking(0x10), true, DEAD, "(pit) cannot reach it");
    m = ticking(1); // somebody else holds the line up, so it never rises
    m->irq_levels[IRQ_FROM_TEST] = 1;
    sleeps(m, true, DEAD, "(pit)");
    m = ticking(1); // another line
    m->irq_levels[IRQ_FROM_TEST] = 2;
    sleeps(m, true, WAKES, NULL);
    m = ticking(1); // the first interrupt was taken, and no EOI given
    m->pic.st.chip[0].isr = 1;
    sleeps(m, true, DEAD, "EOI is missing");
    m = ticking(1); // of a lower priority: the 8254's still comes
    m->pic.st.chip[0].isr = 0x10;
    sleeps(m, true, WAKES, NULL);
    m = ticking(1); // LINT0 masked
    lapic(m, 0x350, 0x10700);
    sleeps(m, true, DEAD, "pit");
    m = ticking(1); // TPR does not hold back an ExtINT
    lapic(m, 0x080, 0xF0);
    sleeps(m, true, WAKES, NULL);
    // LINT0 as NMI: IF does not matter, the 8259's masks do, and so does blocking by NMI.
    for (unsigned open = 0; open < 2; open++) {
        m = ticking((u16)open);
        lapic(m, 0x350, 0x400);
        sleeps(m, false, open ? WAKES : DEAD, "no NMI");
    }
    m = ticking(1);
    lapic(m, 0x350, 0x400);
    m->cpu[0]->s.blocking |= BLOCKING_BY_NMI;
    sleeps(m, false, DEAD, "no NMI");
    // The I/O APIC: the 8254 is on input 2.
    for (unsigned pin = 2; pin <= 5; pin += 3) {
        m = ticking(0);
        ioapic(m, pin, 0x450); // NMI
        sleeps(m, false, pin == 2 ? WAKES : DEAD, "no NMI");
        m = ticking(0);
        ioapic(m, pin, 0x050);
        sleeps(m, true, pin == 2 ? WAKES : DEAD, "pit");
        m = ticking(0);
        ioapic(m, pin, 0x10050); // masked
        sleeps(m, true, DEAD, "pit");
        m = ticking(0);
        ioapic(m, pin, 0x050);
        lapic(m, 0x080, 0x50);
        sleeps(m, true, DEAD, "pit");
        m = ticking(0);
        ioapic(m, pin, 0x850); // logical destination 0: nobody
        sleeps(m, true, DEAD, "pit");
    }
    // The local APIC's timer.
    sleeps(apic_timer(0x40), true, WAKES, NULL);
    sleeps(apic_timer(0x40), false, DEAD, "IF=0");
    sleeps(apic_timer(0x10040), true, DEAD, "no timer runs");
    sleeps(apic_timer(0x0F), true, DEAD, "lapic"); // an illegal vector: an error, whose interrupt is masked
    m = apic_timer(0x0F);
    lapic(m, 0x370, 0x50);
    sleeps(m, true, WAKES, NULL);
    m = apic_timer(0x40);
    lapic(m, 0x080, 0xF0); // TPR
    sleeps(m, true, DEAD, "(lapic) cannot reach it");
    m = apic_timer(0x40);
    m->lapic[0].st.isr[2] = 1; // 40h is in service
    sleeps(m, true, DEAD, "EOI is missing");
    m = apic_timer(0x50);
    m->lapic[0].st.isr[2] = 1;
    sleeps(m, true, WAKES, NULL);
    // The HPET: input 2 alone, or the 8254's line.
    m = hpet_periodic(0, 0);
    ioapic(m, 2, 0x050);
    sleeps(m, true, WAKES, NULL);
    sleeps(hpet_periodic(0, 0), true, DEAD, "hpet");
    m = ticking(1); // legacy replacement takes the 8254's line away
    bus_mem_write(&m->bus, HPET_BASE + 0x10, 4, 3);
    sleeps(m, true, DEAD, "pit");
    m = ticking(1);
    bus_mem_write(&m->bus, HPET_BASE + 0x100, 4, 1 << 2 | 1 << 3 | 1 << 6);
    bus_mem_write(&m->bus, HPET_BASE + 0x108, 8, 100000);
    bus_mem_write(&m->bus, HPET_BASE + 0x10, 4, 3);
    sleeps(m, true, WAKES, NULL);
    m = hpet_periodic(0, 1 << 1); // level, and its status was not cleared after the last one
    ioapic(m, 2, 0x050);
    m->hpet.st.status = 1;
    sleeps(m, true, DEAD, "hpet");
    // The clock: IRQ 8. Nothing more comes until register C is read.
    for (unsigned again = 0; again < 2; again++) {
        m = make(NULL, 1);
        no_tick(m);
        out(m, 0x21, 0xFB), out(m, 0xA1, 0xFE);
        m->pic.st.chip[1].base = 0x28;
        out(m, 0x70, 0x0B), out(m, 0x71, 0x42); // PIE
        if (again) {
            m->cmos.st.reg[0xC] = 0xC0;
            out(m, 0x70, 0x0A), out(m, 0x71, 0x26); // its interrupt comes
            pic_ack(&m->pic), out(m, 0xA0, 0x20), out(m, 0x20, 0x20);
        }
        sleeps(m, true, again ? DEAD : WAKES, "no timer runs");
    }
    // One that waits for a start-up IPI.
    m = ticking(1);
    START(m, 0xFB, 0xF4);
    m->cpu[0]->s.activity = ACTIVITY_WAIT_SIPI;
    assert_int_equal(machine_run(m, 100000), MACHINE_IDLE);
    destroy(m);
}

struct waiter {
    struct machine *m;
    unsigned calls;
};
static u64 waiting(void *opaque, u64 ticks)
{
    struct waiter *w = opaque;
    if (++w->calls == 3) machine_serial_input(w->m, 0, (const u8 *)"x", 1);
    if (w->calls == 100) machine_ask_stop(w->m);
    return ticks;
}

// Input that may come keeps a machine waiting, if it could wake it.
static void input_wakes_or_not(void **state)
{
    for (unsigned k = 0; k < 4; k++) {
        struct machine *m = ticking(k == 1 ? 0 : 0x10);
        struct waiter w = {.m = m};
        m->idle = waiting, m->idle_opaque = &w;
        m->input_open = 1;
        out(m, 0x3FC, k == 2 ? 0 : 8); // OUT2
        out(m, 0x3F9, k == 3 ? 8 : 1); // received data
        sleeps(m, true, k ? DEAD : WAKES, "serial input raises no interrupt");
        if (!k) assert_int_equal(w.calls, 3);
    }
}

// The 8254 by way of the 8259 and LINT0: HLT until channel 0's interrupt, virtual wire as firmware left it.
static void timer_interrupt_through_the_virtual_wire(void **state)
{
    struct machine *m = make(NULL, 1);
    vector_to(m, 0x20, 0x7D00);
    START(m, 0xB0, 0x11, 0xE6, 0x20, 0xB0, 0x20, 0xE6, 0x21, 0xB0, 0x04, 0xE6, 0x21, 0xB0, 0x01, 0xE6,
          0x21,                                                               // ICW1-4
          0xB0, 0xFE, 0xE6, 0x21,                                             // IMR
          0xB0, 0x30, 0xE6, 0x43, 0xB0, 0xFF, 0xE6, 0x40, 0xE6, 0x40,         // mode 0, FFFFh
          0xFB, 0xF4, 0xB0, 0x01, 0xE6, 0xF4);                                // sti; hlt; exit
    phys_write(&m->phys, 0, 0x7D00, (const u8[]){0xB0, 0x02, 0xE6, 0xF4}, 4); // handler: exit with 2
    assert_int_equal(machine_run(m, 100000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 5);
    // 65536 ticks of 1.193182 MHz are 54.925 ms.
    assert_in_range(m->clock.now, MICROSECONDS(54925), MICROSECONDS(54960));
    destroy(m);
}

static void serial_input_wakes(void **state)
{
    struct machine *m = make(NULL, 1);
    vector_to(m, 0x24, 0x7D00);
    START(m, 0xB0, 0x11, 0xE6, 0x20, 0xB0, 0x20, 0xE6, 0x21, 0xB0, 0x04, 0xE6, 0x21, 0xB0, 0x01, 0xE6, 0x21,
          0xB0, 0xEF, 0xE6, 0x21, // IRQ 4
          0xBA, 0xFC, 0x03, 0xB0, 0x08, 0xEE, 0xBA, 0xF9, 0x03, 0xB0, 0x01,
          0xEE,                    // MCR = OUT2, IER = received data
          0xFB, 0xF4, 0xEB, 0xFD); // sti; hlt; again
    // in al, RBR; out F4h, al
    phys_write(&m->phys, 0, 0x7D00, (const u8[]){0xBA, 0xF8, 0x03, 0xEC, 0xE6, 0xF4}, 6);
    assert_int_equal(machine_run(m, 100000), MACHINE_IDLE);
    assert_int_equal(machine_serial_input(m, 0, (const u8 *)"\x21", 1), 1);
    assert_int_equal(machine_run(m, 100000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 0x43);
    destroy(m);
}

// clang-format off
static struct { const struct phys_ops *board; unsigned walks; bool late; } spy;
// clang-format on
static u64 spy_read(void *to, unsigned cpu, paddr a, unsigned size)
{
    struct machine *m = to;
    u64 x = spy.board->mmio_read(m, cpu, a, size);
    spy.walks++;
    if (m->clock.now != cpu_vtime(m->cpu[cpu])) spy.late = true;
    return x;
}
static void spy_write(void *to, unsigned cpu, paddr a, unsigned size, u64 v)
{
    spy.board->mmio_write(to, cpu, a, size, v);
}

// An access to a device happens at its processor's time, also where the walk of page tables makes it and no
// instruction does.
static void an_access_has_its_processor_s_time(void **state)
{
    struct machine *m = make_as((struct machine_config){
        .ram_size = 2 << 20, .cpus = 1, .devices = 1, .device = {device_of("pc-testdev")}});
    static const struct phys_ops ops = {spy_read, spy_write};
    phys_write32(&m->phys, 0, 0xFF000000, 0xFF001003); // page tables in a device's memory
    phys_write32(&m->phys, 0, 0xFF00101C, 0x7003);
    spy.board = m->phys.ops, spy.walks = 0, spy.late = false;
    m->phys.ops = &ops;
    START(m, 0xB9, 0x00, 0x40, 0xE2, 0xFE,                             // mov cx, 4000h; loop $
          0x66, 0xB8, 0, 0, 0, 0xFF, 0x0F, 0x22, 0xD8,                 // mov cr3, FF000000h
          0x66, 0xB8, 0x11, 0, 0, 0x80, 0x0F, 0x22, 0xC0, 0xEB, 0xFE); // mov cr0, 80000011h; jmp $
    assert_int_equal(machine_run(m, 50000), MACHINE_RUN);
    assert_true(spy.walks > 0);
    assert_false(spy.late);
    m->phys.ops = spy.board;
    destroy(m);
}

// A TSC deadline at the end of 64 bits is one that never comes: what is before it goes on, and who halts
// stays halted.
static void a_deadline_that_never_comes(void **state)
{
    struct machine *m = make_as((struct machine_config){.ram_size = 2 << 20, .cpus = 1});
    m->lapic[0].st.lvt[LAPIC_LVT_TIMER] = 2 << 17 | 0x40;
    START(m, 0x66, 0xB9, 0xE0, 0x06, 0, 0,          // mov ecx, 6E0h
          0x66, 0xB8, 0xFD, 0xFF, 0xFF, 0xFF,       // mov eax, FFFFFFFDh
          0x66, 0xBA, 0xFF, 0xFF, 0xFF, 0xFF,       // mov edx, FFFFFFFFh
          0x0F, 0x30, 0xB9, 0x00, 0x10, 0xE2, 0xFE, // wrmsr; mov cx, 1000h; loop $
          0xFB, 0xF4);                              // sti; hlt
    assert_int_equal(machine_run(m, 1000), MACHINE_RUN);
    assert_true(m->lapic[0].st.tsc_deadline == 0xFFFFFFFFFFFFFFFDull);
    assert_true(cpu_retired(m->cpu[0]) > 900);
    m->pic.st.chip[0].imr = 0xFF;
    assert_int_equal(machine_run(m, 1000000), MACHINE_IDLE);
    destroy(m);
}

static void a20_masks_bit_20(void **state)
{
    struct machine *m = make(NULL, 1);
    assert_false(m->phys.a20_masked);
    bus_port_write(&m->bus, 0x92, 1, 0);
    assert_false(m->phys.a20_masked); // the keyboard controller's half is still open
    bus_port_write(&m->bus, 0x64, 1, 0xDD);
    assert_true(m->phys.a20_masked);
    bus_port_write(&m->bus, 0x92, 1, 2);
    assert_false(m->phys.a20_masked);
    destroy(m);
}

static void firmware_s_work_is_done(void **state)
{
    struct machine *m = make(NULL, 1);
    assert_int_equal(bus_port_read(&m->bus, 0x600 + 4, 2), 0);                    // the PM block is mapped
    assert_int_equal(lapic_mmio_read(&m->lapic[0], 0x350, 4) & 0x107FF, 0x00700); // virtual wire
    assert_int_equal(phys_read16(&m->phys, 0, 0x40E), 0x9FC0);
    assert_int_equal(phys_read32(&m->phys, 0, ACPI_RSDP_BIOS), 0x20445352); // "RSD "
    assert_true(m->cpu[0]->s.msr.mtrr_def_type & BIT(11));
    destroy(m);
}

// After a reset the board's time goes on from where it was, and the processor's with it; its TSC begins anew.
static void time_goes_on_over_a_reset(void **state)
{
    struct machine *m = make(NULL, 1);
    START(m, 0xEB, 0xFE);
    assert_int_equal(machine_run(m, 100000), MACHINE_RUN);
    u64 before = m->clock.now;
    assert_true(before >= 100000 * CPU_TICKS_PER_UNIT - 100);
    machine_reset(m);
    START(m, 0x0F, 0x31, 0xEB, 0xFE); // rdtsc; jmp to itself
    assert_int_equal(machine_run(m, 1000), MACHINE_RUN);
    assert_in_range(m->clock.now, before + 1000, before + 10000);
    assert_in_range(m->cpu[0]->s.gpr[RAX], 0, 100);
    assert_int_equal(m->cpu[0]->s.gpr[RDX], 0);
    destroy(m);
}

// Boot programs ask a BIOS in real mode: it refuses with the carry flag, and tells the memory below 640 KiB.
static void bios_calls_return(void **state)
{
    struct machine *m = make(NULL, 1);
    START(m, 0xB8, 0x20, 0xE8, 0xF8, 0xCD, 0x15, // mov ax, E820h; clc; int 15h
          0xE6, 0x80, 0x88, 0xE0, 0xE6, 0x81,    // out 80h, al; mov al, ah; out 81h, al
          0x18, 0xC0, 0xE6, 0x82,                // sbb al, al; out 82h, al: FFh if the carry is set
          0xCD, 0x12, 0xE7, 0x83,                // int 12h; out 83h, ax
          0xB0, 0x00, 0xE6, 0xF4);
    assert_int_equal(machine_run(m, 1000), MACHINE_EXIT);
    assert_int_equal(m->dma.st.page[0], 0x20);
    assert_int_equal(m->dma.st.page[1], 0x86);
    assert_int_equal(m->dma.st.page[2], 0xFF);
    assert_int_equal(m->dma.st.page[3] | m->dma.st.page[4] << 8, 639);
    destroy(m);
}

// A program in real mode HLTs for ticks. The tick is counted at 40:6Ch, from the time of day, and handed on
// to INT 1Ch; what is open, and the 8254's mode and count, are what SeaBIOS leaves (QEMU 7.2, -kernel).
static void bios_ticks(void **state)
{
    struct machine *m = make(NULL, 1);
    assert_int_equal(bus_port_read(&m->bus, 0x21, 1), 0xF8);
    assert_int_equal(bus_port_read(&m->bus, 0xA1, 1), 0xCE);
    bus_port_write(&m->bus, 0x43, 1, 0xE2);
    assert_int_equal(bus_port_read(&m->bus, 0x40, 1) & 0x3F, 0x34);
    bus_port_write(&m->bus, 0x43, 1, 0x00);
    u32 count = (u32)bus_port_read(&m->bus, 0x40, 1);
    count |= (u32)bus_port_read(&m->bus, 0x40, 1) << 8;
    assert_true(count == 0 || count > 0xFFF0);
    bus_port_write(&m->bus, 0x70, 1, 4); // the hour
    u32 hour = (u32)bus_port_read(&m->bus, 0x71, 1), before = phys_read32(&m->phys, 0, 0x46C);
    assert_in_range(before, (hour / 16 * 10 + hour % 16) * 65543, (hour / 16 * 10 + hour % 16 + 1) * 65544);

    static const u8 hook[] = {0x43, 0xCF}; // inc bx; iret
    // xor bx, bx; sti; hlt three times; bl to F4h
    static const u8 wait[] = {0x31, 0xDB, 0xFB, 0xF4, 0xF4, 0xF4, 0x88, 0xD8, 0xE6, 0xF4};
    phys_write(&m->phys, 0, 0x7D00, hook, sizeof hook);
    vector_to(m, 0x1C, 0x7D00);
    u64 start_at = m->clock.now;
    start(m, wait, sizeof wait);
    assert_int_equal(machine_run(m, 100000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 3 << 1 | 1);
    assert_int_equal(phys_read32(&m->phys, 0, 0x46C), before + 3);
    assert_int_equal(phys_read8(&m->phys, 0, 0x470), 0);
    assert_in_range(m->clock.now - start_at, MICROSECONDS(3 * 54925 - 5), MICROSECONDS(3 * 54926 + 20));

    phys_write32(&m->phys, 0, 0x46C, 0x1800AE); // two ticks to midnight
    m->request.what = MACHINE_RUN;
    start(m, wait, sizeof wait);
    assert_int_equal(machine_run(m, 100000), MACHINE_EXIT);
    assert_int_equal(phys_read32(&m->phys, 0, 0x46C), 1);
    assert_int_equal(phys_read8(&m->phys, 0, 0x470), 1);
    destroy(m);
}

// Two machines in one process, run in turns: neither sees anything of the other.
static void two_machines_share_nothing(void **state)
{
    struct console ca = {.n = 0}, cb = {.n = 0};
    struct machine *a = make(&ca, 1), *b = make(&cb, 1);
    bus_port_write(&a->bus, 0x3FF, 1, 0x5A); // scratch register of COM1
    bus_port_write(&a->bus, 0x21, 1, 0xA5);
    lapic_set_tpr(&a->lapic[0], 0x80);
    assert_int_equal(bus_port_read(&b->bus, 0x3FF, 1), 0);
    assert_int_equal(bus_port_read(&b->bus, 0x21, 1), 0xF8); // as firmware left it
    assert_int_equal(lapic_tpr(&b->lapic[0]), 0);
    lapic_set_tpr(&a->lapic[0], 0);
    // Each counts in BX and prints its own letter at every 256th.
#define COUNTER(c) 0xBA, 0xF8, 0x03, 0xB0, c, 0x43, 0x84, 0xDB, 0x75, 0xFB, 0xEE, 0xEB, 0xF8
    START(a, COUNTER('a'));
    START(b, COUNTER('b'));
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(machine_run(a, 997), MACHINE_RUN);
        if (i & 1) assert_int_equal(machine_run(b, 997), MACHINE_RUN);
    }
    assert_in_range(ca.n, 2 * cb.n - 2, 2 * cb.n + 2);
    assert_true(cb.n > 10);
    for (unsigned i = 0; i < ca.n; i++) assert_int_equal(ca.bytes[i], 'a');
    for (unsigned i = 0; i < cb.n; i++) assert_int_equal(cb.bytes[i], 'b');
    assert_true(a->clock.now > b->clock.now);
    bus_port_write(&a->bus, 0xF4, 4, 1);
    assert_int_equal(machine_run(a, 1000), MACHINE_EXIT);
    assert_int_equal(machine_run(b, 1000), MACHINE_RUN);
    destroy(a);
    assert_int_equal(machine_run(b, 1000), MACHINE_RUN);
    destroy(b);
}

// A second processor waits for INIT and SIPI, then runs the trampoline that the vector names.
static void a_second_processor_starts(void **state)
{
    struct machine *m = make(NULL, 2);
    phys_write(&m->phys, 0, 0x9000, (const u8[]){0xB0, 0x07, 0xE6, 0xF4}, 4); // exit with 7
    START(m, 0xEB, 0xFE);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    lapic_mmio_write(&m->lapic[0], 0x310, 4, 1u << 24);
    lapic_mmio_write(&m->lapic[0], 0x300, 4, 0x4500);
    assert_int_equal(machine_run(m, 10000), MACHINE_RUN);
    lapic_mmio_write(&m->lapic[0], 0x300, 4, 0x4609);
    assert_int_equal(machine_run(m, 10000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 15);
    destroy(m);
}

// Each at its ports, port 0 too, over the board's own devices and over one that is mapped later: the power
// management block comes to 600h with each reset.
static void debug_devices_lie_over_the_board(void **state)
{
    struct console c[3] = {{.n = 0}};
    // clang-format off
    struct machine_config config = {
        .ram_size = 4 << 20, .cpus = 1, .serial = {{console_write, &c[2]}}, .devices = 5,
        .device = {device_of("isa-debugcon,readback=0x5a"), device_of("isa-debugcon,iobase=0x402"), device_of("isa-debug-exit,iobase=0,iosize=1"),
                   device_of("isa-debug-exit,iobase=0x604"), device_of("isa-debug-exit,iobase=0x3f8,iosize=4")}};
    // clang-format on
    for (unsigned i = 0; i < 2; i++)
        config.device[i].value[device_row_property(config.device[i].row, "chardev")].chr =
            (struct chardev){console_write, &c[i]};
    struct machine *m = make_as(config);
    static const u16 exits[] = {0, 0x604, 0x3F8};
    for (unsigned i = 0; i < ARRAY_LEN(exits); i++) {
        machine_reset(m);
        bus_port_write(&m->bus, exits[i], 1, i + 1);
        assert_int_equal(m->request.what, MACHINE_EXIT);
        assert_int_equal(m->request.status, (i + 1) << 1 | 1);
    }
    bus_port_write(&m->bus, 0xE9, 1, 'a');
    bus_port_write(&m->bus, 0x402, 1, 'b');
    assert_int_equal(bus_port_read(&m->bus, 0xE9, 1), 0x5A);
    assert_int_equal(bus_port_read(&m->bus, 0x402, 1), 0xE9);
    assert_int_equal(c[0].n, 1);
    assert_int_equal(c[0].bytes[0], 'a');
    assert_int_equal(c[1].n, 1);
    assert_int_equal(c[1].bytes[0], 'b');
    assert_int_equal(c[2].n, 0); // its port is taken
    // the rest of the block is where it was: the PM timer
    assert_int_equal(bus_port_read(&m->bus, 0x608, 4) >> 24, 0);
    destroy(m);
}

static u64 e820_of(const struct machine *m, u32 type)
{
    u64 size = 0;
    for (unsigned i = 0; i < m->e820_n; i++)
        if (m->e820[i].type == type) size += m->e820[i].size;
    return size;
}

// Nothing by which a guest would find ACPI, and the memory is its own.
static void without_acpi(void **state)
{
    const u64 ram = 4 << 20;
    struct machine *m = make_as((struct machine_config){.ram_size = ram, .cpus = 1, .acpi_off = true});
    // "RSD PTR "
    for (paddr a = 0; a < ram; a += 16) assert_false(phys_read64(&m->phys, 0, a) == 0x2052545020445352ull);
    assert_int_equal(m->acpi.rsdp, 0);
    assert_int_equal(e820_of(m, E820_ACPI) + e820_of(m, E820_NVS), 0);
    assert_int_equal(e820_of(m, E820_RAM), ram - 0x100000 + 0x9FC00);
    bus_port_write(&m->bus, 0xCF8, 4, 0x80000B00); // 00:01.3
    assert_int_equal(bus_port_read(&m->bus, 0xCFC, 4), 0xFFFFFFFF);
    bus_port_write(&m->bus, 0x604, 2, 0x2000); // soft-off
    assert_int_equal(m->request.what, MACHINE_RUN);
    assert_int_equal(bus_port_read(&m->bus, 0x608, 4), 0xFFFFFFFF);
    machine_power_button(m);
    machine_reset(m);
    destroy(m);
}

static bool lists(const struct machine *m, u32 signature)
{
    paddr rsdt = phys_read32((struct phys *)&m->phys, 0, m->acpi.rsdp + 16);
    for (u32 i = 36; i < phys_read32((struct phys *)&m->phys, 0, rsdt + 4); i += 4)
        if (phys_read32((struct phys *)&m->phys, 0, phys_read32((struct phys *)&m->phys, 0, rsdt + i)) ==
            signature)
            return true;
    return false;
}

static void without_hpet(void **state)
{
    struct machine *with = make(NULL, 1),
                   *m = make_as((struct machine_config){.ram_size = 4 << 20, .cpus = 1, .hpet_off = true});
    assert_int_equal(bus_mem_read(&with->bus, 0xFED00000, 4), 0x8086A201);
    assert_int_equal(bus_mem_read(&m->bus, 0xFED00000, 4), 0xFFFFFFFF);
    assert_true(lists(with, 0x54455048)); // "HPET"
    assert_false(lists(m, 0x54455048));
    assert_true(lists(m, 0x43495041)); // "APIC"
    destroy(with);
    destroy(m);
}

// Every device of docs/board.md is in the list that resets, hashes and snapshots go by, in the order of its
// wiring.
static void all_devices_are_listed(void **state)
{
    static const char *const wanted[] = {
        "lapic",        "irq-lines", "ioapic",       "pic",           "pit",          "cmos",
        "hpet",         "uart",      "uart",         "i8042",         "port92",       "ferr",
        "dma",          "pci",       "pci-function", "pci-function",  "pci-function", "uhci",
        "pci-function", "acpi-pm",   "fw_cfg",       "debug-console", "pc-testdev",   "isa-debug-exit"};
    struct machine *m = make_as((struct machine_config){
        .ram_size = 4 << 20,
        .cpus = 1,
        .devices = 3,
        .device = {device_of("pc-testdev"), device_of("isa-debug-exit"), device_of("piix3-usb-uhci")}});
    unsigned n = 0;
    for (const struct device *d = m->devices; d; d = d->next, n++) {
        assert_true(n < ARRAY_LEN(wanted));
        assert_string_equal(d->ops->name, wanted[n]);
        assert_ptr_equal(d->host, &m->host);
    }
    assert_int_equal(n, ARRAY_LEN(wanted));
    destroy(m);
}

// Lines and the inputs of the 8259 pair and the I/O APIC that docs/board.md gives them.
static void lines_lead_where_they_should(void **state)
{
    struct machine *m = make(NULL, 1);
    // clang-format off
    const struct { struct irq_line *line; unsigned irq, pin; } wires[] = {
        {&m->pit.irq0, 0, 2}, {&m->i8042.irq1, 1, 1}, {&m->i8042.irq12, 12, 12}, {&m->cmos.irq8, 8, 8},
        {&m->uart[0].irq, 4, 4}, {&m->uart[1].irq, 3, 3}, {&m->pm.sci, 9, 9},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(wires); i++) {
        unsigned irq = wires[i].irq;
        u16 chip = irq < 8 ? 0x20 : 0xA0;
        bus_port_write(&m->bus, chip, 1, 0x0A); // read the requests
        u64 before = bus_port_read(&m->bus, chip, 1);
        irq_set(wires[i].line, false);
        u32 lines = m->ioapic.st.lines;
        irq_set(wires[i].line, true);
        assert_int_equal(bus_port_read(&m->bus, chip, 1), before | 1u << (irq & 7));
        assert_int_equal(m->ioapic.st.lines, lines | 1u << wires[i].pin);
    }
    // memory that is not RAM goes to the board
    assert_int_equal(phys_read32(&m->phys, 0, 0xFEE00030), 0x00050014);
    destroy(m);
}

// The stubs behind a BIOS's vectors end the interrupt: of the first chip, and of both.
static void bios_interrupts_are_ended(void **state)
{
    struct machine *m = make(NULL, 1);
    no_tick(m);
    // unmask all; mov ax, 1234h; sti; hlt; again
    START(m, 0x31, 0xC0, 0xE6, 0x21, 0xE6, 0xA1, 0xB8, 0x34, 0x12, 0xFB, 0xF4, 0xEB, 0xFD);
    assert_int_equal(machine_run(m, 1000), MACHINE_IDLE);
    struct irq_line *lines[] = {&m->i8042.irq1, &m->i8042.irq12, &m->uart[0].irq, &m->pm.sci};
    for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
        u64 before = m->cpu[0]->s.units;
        irq_set(lines[i], true);
        assert_int_equal(machine_run(m, 1000), MACHINE_IDLE);
        assert_true(m->cpu[0]->s.units > before);
        for (u16 chip = 0x20; chip <= 0xA0; chip += 0x80) {
            bus_port_write(&m->bus, chip, 1, 0x0B); // in service: none
            assert_int_equal(bus_port_read(&m->bus, chip, 1), 0);
            bus_port_write(&m->bus, chip, 1, 0x0A); // nor requested
            assert_int_equal(bus_port_read(&m->bus, chip, 1), 0);
        }
        assert_int_equal(m->cpu[0]->s.gpr[RAX], 0x1234);
        assert_int_equal(m->cpu[0]->s.gpr[RSP], 0x7C00);
    }
    destroy(m);
}

// A store to a device happens at its own instruction's time: the count of the APIC timer starts there.
static void stores_to_devices_see_the_time(void **state)
{
    u64 deadline[2];
    for (unsigned later = 0; later < 2; later++) {
        struct machine *m = make(NULL, 1);
        u8 code[] = {0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x66, 0xC7,
                     0x06, 0x80, 0x03, 0x00, 0x10, 0x00, 0x00, 0xEB, 0xFE};
        phys_write32(&m->phys, 0, 0xFEE000F0, 0x1FF);
        phys_write32(&m->phys, 0, 0xFEE003E0, 0xB);
        phys_write32(&m->phys, 0, 0xFEE00320, 0x40);
        // nops; mov dword [380h], 1000h; jmp to itself
        start(m, code + (later ? 0 : 7), sizeof code - (later ? 0 : 7));
        m->cpu[0]->s.seg[SEG_DS].base = 0xFEE00000;
        cpu_mode_changed(m->cpu[0]);
        u64 begin = m->clock.now;
        assert_int_equal(machine_run(m, 100), MACHINE_RUN);
        deadline[later] = m->clock.next_deadline - begin;
        destroy(m);
    }
    assert_int_equal(deadline[1] - deadline[0], 7 * CPU_TICKS_PER_UNIT);
}

static void count_part(void *opaque, const char *name, u64 hash)
{
    unsigned *n = opaque;
    (void)hash;
    n[strncmp(name, "page ", 5) == 0]++;
}

// The state hash tells apart whatever differs, down to a byte of memory, of a device, of a processor, and
// nothing else.
static void state_hash_sees_everything(void **state)
{
    struct machine *m = make(NULL, 1);
    struct state_hash h = {0}, fresh = {0};
    u64 first = state_hash(&h, m);
    assert_true(state_hash(&h, m) == first);
    for (unsigned i = 0; i < PAGE_SIZE; i += 1 + (i % 64 == 63 ? 61 : 0)) { // each byte, in a page of zeros
        phys_write8(&m->phys, 0, 0x200000 + i, 1);
        assert_true(state_hash(&h, m) != first);
        phys_write8(&m->phys, 0, 0x200000 + i, 0);
        assert_true(state_hash(&h, m) == first);
    }
    phys_write8(&m->phys, 0, 0x200000, 1);
    u64 one = state_hash(&h, m);
    phys_write8(&m->phys, 0, 0x200000, 0);
    phys_write8(&m->phys, 0, 0x201000, 1); // the same page elsewhere
    assert_true(state_hash(&h, m) != one);
    phys_write8(&m->phys, 0, 0x201000, 0);
    phys_write8(&m->phys, 0, m->phys.ram_size - 1, 1); // the last page
    assert_true(state_hash(&h, m) != first);
    assert_true(state_hash(&h, m) == state_hash(&fresh, m)); // page by page as all at once
    phys_write8(&m->phys, 0, m->phys.ram_size - 1, 0);
    for (struct device *d = m->devices; d; d = d->next) {
        for (u32 i = 0; i < d->state_size; i += 1 + d->state_size / 50) {
            ((u8 *)d->state)[i] ^= 1;
            assert_true(state_hash(&h, m) != first);
            ((u8 *)d->state)[i] ^= 1;
        }
    }
    u8 *cpu = (u8 *)&m->cpu[0]->s;
    for (u32 i = 0; i < sizeof m->cpu[0]->s; i += 97) {
        // flags: one form of two
        if (i >= offsetof(struct vcpu_state, fl) && i < offsetof(struct vcpu_state, gdtr)) continue;
        cpu[i] ^= 1;
        assert_true(state_hash(&h, m) != first);
        cpu[i] ^= 1;
    }
    assert_true(state_hash(&h, m) == first);
    unsigned parts[2] = {0}, pages = 0;
    state_hash_parts(&h, m, count_part, parts);
    for (u64 a = 0; a < m->phys.ram_size; a += PAGE_SIZE) {
        bool zero = true;
        for (unsigned i = 0; i < PAGE_SIZE; i++) zero = zero && !m->phys.ram[a + i];
        pages += !zero;
    }
    assert_int_equal(parts[1], pages);
    unsigned devices = 0;
    for (const struct device *d = m->devices; d; d = d->next) devices += d->state_size > 0;
    assert_int_equal(parts[0], 14 + devices);
    state_hash_free(&h);
    state_hash_free(&fresh);
    destroy(m);
}

// What is derived from a device's state comes back from the state alone: lines, deadlines, mapped ranges. The
// timers run, and the copy goes on like the original.
static void a_copy_of_the_state_goes_on_alike(void **state)
{
    struct machine *a = make(NULL, 1), *b = make(NULL, 1);
    // clang-format off
    static const struct { u16 port; u8 value; } setup[] = {
        {0x43, 0x34}, {0x40, 0x00}, {0x40, 0x10},                               // the 8254, mode 2
        {0x70, 0x0A}, {0x71, 0x26}, {0x70, 0x0B}, {0x71, 0x42},                 // the clock's periodic interrupt
        {0xB2, 0xF1}, {0x602, 0x01}, {0x603, 0x01},                             // ACPI on; timer and power button enabled
        {0x3FA, 0x41}, {0x3FB, 0x03}, {0x3FC, 0x0B}, {0x64, 0x60}, {0x60, 0x47}, {0x92, 0x00}, // UART, keyboard controller, A20
        {0x64, 0xDD}, {0x21, 0x00}, {0xA1, 0x00},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(setup); i++) bus_port_write(&a->bus, setup[i].port, 1, setup[i].value);
    phys_write32(&a->phys, 0, 0xFEE003E0, 0xB); // the APIC timer, periodic
    phys_write32(&a->phys, 0, 0xFEE000F0, 0x1FF);
    phys_write32(&a->phys, 0, 0xFEE00320, 0x200EF);
    phys_write32(&a->phys, 0, 0xFEE00380, 100000);
    phys_write64(&a->phys, 0, 0xFED00100, 0x4); // HPET: timer 0 enabled, route 0; a comparator; run
    phys_write64(&a->phys, 0, 0xFED00108, 500000);
    phys_write64(&a->phys, 0, 0xFED00010, 1);
    machine_power_button(a);
    assert_int_equal(machine_serial_input(a, 0, (const u8 *)"x", 1), 1); // its character timeout runs
    START(a, 0x40, 0xEB, 0xFD);                                          // inc ax; jmp
    assert_int_equal(machine_run(a, 20000), MACHINE_RUN);
    assert_true(a->phys.a20_masked);

    struct state_part from[STATE_PARTS_MAX], to[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(a, from);
    assert_int_equal(machine_state_parts(b, to), n);
    for (unsigned i = 0; i < n; i++) memcpy(to[i].data, from[i].data, from[i].size);
    memcpy(b->phys.ram, a->phys.ram, a->phys.ram_size);
    for (u64 at = 0; at < b->phys.ram_size; at += PAGE_SIZE) phys_mark_dirty(&b->phys, at);
    machine_loaded(b);
    assert_true(b->phys.a20_masked);
    assert_int_equal(b->cpu[0]->s.intr_line, lapic_pending(&a->lapic[0]));
    assert_int_equal(b->clock.timers_n, a->clock.timers_n);
    for (unsigned i = 0; i < a->clock.timers_n; i++)
        assert_true(b->clock.timers[i].deadline == a->clock.timers[i].deadline);
    assert_true(b->clock.next_deadline == a->clock.next_deadline);
    struct state_hash ha = {0}, hb = {0};
    for (unsigned i = 0; i < 20; i++) {
        assert_true(state_hash(&ha, a) == state_hash(&hb, b));
        assert_int_equal(machine_run(a, 10000), MACHINE_RUN);
        assert_int_equal(machine_run(b, 10000), MACHINE_RUN);
    }
    state_hash_free(&ha), state_hash_free(&hb);
    destroy(a);
    destroy(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_and_serial),
        cmocka_unit_test(stop_in_rep),
        cmocka_unit_test(stop_by_signal),
        cmocka_unit_test(resets),
        cmocka_unit_test(halts),
        cmocka_unit_test(what_wakes),
        cmocka_unit_test(input_wakes_or_not),
        cmocka_unit_test(timer_interrupt_through_the_virtual_wire),
        cmocka_unit_test(serial_input_wakes),
        cmocka_unit_test(an_access_has_its_processor_s_time),
        cmocka_unit_test(a_deadline_that_never_comes),
        cmocka_unit_test(a20_masks_bit_20),
        cmocka_unit_test(firmware_s_work_is_done),
        cmocka_unit_test(time_goes_on_over_a_reset),
        cmocka_unit_test(bios_calls_return),
        cmocka_unit_test(bios_ticks),
        cmocka_unit_test(two_machines_share_nothing),
        cmocka_unit_test(a_second_processor_starts),
        cmocka_unit_test(debug_devices_lie_over_the_board),
        cmocka_unit_test(without_acpi),
        cmocka_unit_test(without_hpet),
        cmocka_unit_test(all_devices_are_listed),
        cmocka_unit_test(lines_lead_where_they_should),
        cmocka_unit_test(bios_interrupts_are_ended),
        cmocka_unit_test(stores_to_devices_see_the_time),
        cmocka_unit_test(state_hash_sees_everything),
        cmocka_unit_test(a_copy_of_the_state_goes_on_alike),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

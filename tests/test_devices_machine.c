// The board as a whole, under programs of a few instructions: lines lead where they should, ends are reported, and two
// machines share nothing.
#include "tests/device_test.h"
#include "devices/machine.h"

struct console {
    u8 bytes[256];
    unsigned n;
};
static void console_write(void *opaque, const u8 *bytes, u32 n)
{
    struct console *c = opaque;
    while (n-- && c->n < sizeof c->bytes) c->bytes[c->n++] = *bytes++;
}

static struct machine *make_as(struct machine_config config)
{
    struct machine *m = calloc(1, sizeof *m);
    cpu_features_max(&config.features);
    const char *why = NULL;
    assert_non_null(m);
    if (!machine_init(m, &config, &why)) fail_msg("%s", why);
    return m;
}
static struct machine *make(struct console *c, unsigned cpus)
{
    struct machine_config config = {.ram_size = 4 << 20, .cpus = cpus, .debug_exit = {{0xF4, 4}}, .debug_exits = 1};
    if (c) config.serial[0] = (struct chardev){console_write, c};
    return make_as(config);
}
static void destroy(struct machine *m)
{
    machine_free(m);
    free(m);
}
// Real-mode code at 0:7C00, stack below it.
static void start(struct machine *m, const u8 *code, u32 n)
{
    struct vcpu_state *s = &m->cpu[0]->s;
    phys_write(&m->phys, 0, 0x7C00, code, n);
    s->seg[SEG_CS].base = 0;
    s->seg[SEG_CS].sel = 0;
    s->rip = 0x7C00;
    s->gpr[RSP] = 0x7C00;
    cpu_mode_changed(m->cpu[0]);
}
#define START(m, ...) start(m, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))
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
    START(m, 0xFB, 0xF4); // sti; hlt, with no deadline
    assert_int_equal(machine_run(m, 1000), MACHINE_IDLE);
    machine_reset(m);
    START(m, 0xB0, 0x34, 0xE6, 0x43, 0xE6, 0x40, 0xE6, 0x40, 0xFA, 0xF4); // the 8254 runs, but IF is 0
    assert_int_equal(machine_run(m, 1000), MACHINE_IDLE);
    destroy(m);
}

// The 8254 by way of the 8259 and LINT0: HLT until channel 0's interrupt, virtual wire as firmware left it.
static void timer_interrupt_through_the_virtual_wire(void **state)
{
    struct machine *m = make(NULL, 1);
    vector_to(m, 0x20, 0x7D00);
    START(m,
          0xB0, 0x11, 0xE6, 0x20, 0xB0, 0x20, 0xE6, 0x21, 0xB0, 0x04, 0xE6, 0x21, 0xB0, 0x01, 0xE6, 0x21, // ICW1-4
          0xB0, 0xFE, 0xE6, 0x21,                                                                         // IMR
          0xB0, 0x30, 0xE6, 0x43, 0xB0, 0xFF, 0xE6, 0x40, 0xE6, 0x40,                                     // mode 0, FFFFh
          0xFB, 0xF4, 0xB0, 0x01, 0xE6, 0xF4);                                                            // sti; hlt; exit
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
    START(m,
          0xB0, 0x11, 0xE6, 0x20, 0xB0, 0x20, 0xE6, 0x21, 0xB0, 0x04, 0xE6, 0x21, 0xB0, 0x01, 0xE6, 0x21,
          0xB0, 0xEF, 0xE6, 0x21,                                                   // IRQ 4
          0xBA, 0xFC, 0x03, 0xB0, 0x08, 0xEE, 0xBA, 0xF9, 0x03, 0xB0, 0x01, 0xEE,   // MCR = OUT2, IER = received data
          0xFB, 0xF4, 0xEB, 0xFD);                                                  // sti; hlt; again
    phys_write(&m->phys, 0, 0x7D00, (const u8[]){0xBA, 0xF8, 0x03, 0xEC, 0xE6, 0xF4}, 6); // in al, RBR; out F4h, al
    assert_int_equal(machine_run(m, 100000), MACHINE_IDLE);
    assert_int_equal(machine_serial_input(m, 0, (const u8 *)"\x21", 1), 1);
    assert_int_equal(machine_run(m, 100000), MACHINE_EXIT);
    assert_int_equal(m->request.status, 0x43);
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
    assert_int_equal(bus_port_read(&m->bus, 0x600 + 4, 2), 0);                     // the PM block is mapped
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

// Two machines in one process, run in turns: neither sees anything of the other.
static void two_machines_share_nothing(void **state)
{
    struct console ca = {.n = 0}, cb = {.n = 0};
    struct machine *a = make(&ca, 1), *b = make(&cb, 1);
    bus_port_write(&a->bus, 0x3FF, 1, 0x5A); // scratch register of COM1
    bus_port_write(&a->bus, 0x21, 1, 0xA5);
    lapic_set_tpr(&a->lapic[0], 0x80);
    assert_int_equal(bus_port_read(&b->bus, 0x3FF, 1), 0);
    assert_int_equal(bus_port_read(&b->bus, 0x21, 1), 0xFB); // as firmware left it
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

// Each at its ports, port 0 too, over the board's own devices and over one that is mapped later: the power management block
// comes to 600h with each reset.
static void debug_devices_lie_over_the_board(void **state)
{
    struct console c[3] = {{.n = 0}};
    struct machine *m = make_as((struct machine_config){
        .ram_size = 4 << 20, .cpus = 1, .debug_exit = {{0, 1}, {0x604, 2}, {0x3F8, 4}}, .debug_exits = 3,
        .debug_console = {{0xE9, 0x5A, {console_write, &c[0]}}, {0x402, 0xE9, {console_write, &c[1]}}}, .debug_consoles = 2,
        .serial = {{console_write, &c[2]}}});
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
    assert_int_equal(bus_port_read(&m->bus, 0x608, 4) >> 24, 0); // the rest of the block is where it was: the PM timer
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
    for (paddr a = 0; a < ram; a += 16) assert_false(phys_read64(&m->phys, 0, a) == 0x2052545020445352ull); // "RSD PTR "
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
        if (phys_read32((struct phys *)&m->phys, 0, phys_read32((struct phys *)&m->phys, 0, rsdt + i)) == signature) return true;
    return false;
}

static void without_hpet(void **state)
{
    struct machine *with = make(NULL, 1), *m = make_as((struct machine_config){.ram_size = 4 << 20, .cpus = 1, .hpet_off = true});
    assert_int_equal(bus_mem_read(&with->bus, 0xFED00000, 4), 0x8086A201);
    assert_int_equal(bus_mem_read(&m->bus, 0xFED00000, 4), 0xFFFFFFFF);
    assert_true(lists(with, 0x54455048)); // "HPET"
    assert_false(lists(m, 0x54455048));
    assert_true(lists(m, 0x43495041)); // "APIC"
    destroy(with);
    destroy(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exit_and_serial),
        cmocka_unit_test(resets),
        cmocka_unit_test(halts),
        cmocka_unit_test(timer_interrupt_through_the_virtual_wire),
        cmocka_unit_test(serial_input_wakes),
        cmocka_unit_test(a20_masks_bit_20),
        cmocka_unit_test(firmware_s_work_is_done),
        cmocka_unit_test(time_goes_on_over_a_reset),
        cmocka_unit_test(bios_calls_return),
        cmocka_unit_test(two_machines_share_nothing),
        cmocka_unit_test(a_second_processor_starts),
        cmocka_unit_test(debug_devices_lie_over_the_board),
        cmocka_unit_test(without_acpi),
        cmocka_unit_test(without_hpet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

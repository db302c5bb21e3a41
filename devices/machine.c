// Wires the board, in order. Top to bottom: what a processor asks of the board, how interrupt lines lead, who
// may end the run, construction, reset. The run loop over the processors is in machine_run.c.
//
// Not here: firmware. machine_reset leaves what it would have set up (firmware.c); the reset vector's code
// does not exist.
#include "devices/machine.h"
#include "devices/firmware.h"

#include <stdlib.h>
#include <string.h>

// ---- what a processor asks of the board ----

// An access happens at its processor's own time. The board's clock never runs backwards, though processors
// take turns.
static void clock_sync(struct machine *m, unsigned cpu)
{
    u64 now = cpu_vtime(m->cpu[cpu]);
    if (now > m->clock.now) m->clock.now = now;
}

static u64 board_port_read(void *opaque, unsigned cpu, u16 port, unsigned size)
{
    clock_sync(opaque, cpu);
    return bus_port_read(&((struct machine *)opaque)->bus, port, size);
}

static void board_port_write(void *opaque, unsigned cpu, u16 port, unsigned size, u64 value)
{
    clock_sync(opaque, cpu);
    bus_port_write(&((struct machine *)opaque)->bus, port, size, value);
}

static u64 board_mmio_read(void *opaque, unsigned cpu, paddr a, unsigned size)
{
    struct machine *m = opaque;
    clock_sync(m, cpu);
    if (lapic_claims(&m->lapic[cpu], a)) return lapic_mmio_read(&m->lapic[cpu], a & 0xFFF, size);
    return bus_mem_read(&m->bus, a, size);
}

static void board_mmio_write(void *opaque, unsigned cpu, paddr a, unsigned size, u64 value)
{
    struct machine *m = opaque;
    clock_sync(m, cpu);
    if (lapic_claims(&m->lapic[cpu], a))
        lapic_mmio_write(&m->lapic[cpu], a & 0xFFF, size, (u32)value);
    else
        bus_mem_write(&m->bus, a, size, value);
}

static int board_intr_ack(void *opaque, unsigned cpu)
{
    clock_sync(opaque, cpu);
    return lapic_ack(&((struct machine *)opaque)->lapic[cpu]);
}

static void board_eoi(void *opaque, unsigned cpu)
{
    clock_sync(opaque, cpu);
    lapic_eoi(&((struct machine *)opaque)->lapic[cpu]);
}

static void board_ipi(void *opaque, unsigned cpu, u32 destination, u8 vector)
{
    clock_sync(opaque, cpu);
    lapic_send_fixed(&((struct machine *)opaque)->lapic[cpu], destination, vector);
}

static u8 board_tpr_get(void *opaque, unsigned cpu)
{
    return lapic_tpr(&((struct machine *)opaque)->lapic[cpu]);
}

static void board_tpr_set(void *opaque, unsigned cpu, u8 tpr)
{
    lapic_set_tpr(&((struct machine *)opaque)->lapic[cpu], tpr);
}

static bool board_msr_read(void *opaque, unsigned cpu, u32 msr, u64 *value)
{
    clock_sync(opaque, cpu);
    return lapic_msr_read(&((struct machine *)opaque)->lapic[cpu], msr, value);
}

static bool board_msr_write(void *opaque, unsigned cpu, u32 msr, u64 value)
{
    clock_sync(opaque, cpu);
    return lapic_msr_write(&((struct machine *)opaque)->lapic[cpu], msr, value);
}

static void board_shutdown(void *opaque, unsigned cpu, const char *why)
{
    struct machine *m = opaque;
    machine_request_end(m, MACHINE_SHUTDOWN, 0, why);
    m->request.cpu = cpu;
}

static void board_init_taken(void *opaque, unsigned cpu)
{
    clock_sync(opaque, cpu);
    lapic_init_reset(&((struct machine *)opaque)->lapic[cpu]);
}

static void board_pause(void *opaque, unsigned cpu) { machine_paused(opaque, cpu); }

// A store is an access at its processor's own time too, and that is when the other one wakes.
static void board_monitor_hit(void *opaque, unsigned cpu)
{
    struct machine *m = opaque;
    if (m->turns.going) clock_sync(m, m->turns.cpu);
    machine_signalled(m, cpu);
}

static bool board_ferr(void *opaque, unsigned cpu, bool level)
{
    clock_sync(opaque, cpu);
    return ferr_set(&((struct machine *)opaque)->ferr, cpu, level);
}

static int board_vmcs_elsewhere(void *opaque, unsigned cpu, paddr vmcs)
{
    const struct machine *m = opaque;
    for (unsigned i = 0; i < m->cpus_n; i++)
        if (i != cpu && m->cpu[i]->s.vmx.vmcs_pointer == vmcs) return (int)i;
    return -1;
}

static const struct cpu_board_ops board_ops = {
    .port_read = board_port_read,
    .port_write = board_port_write,
    .intr_ack = board_intr_ack,
    .eoi = board_eoi,
    .ipi = board_ipi,
    .tpr_get = board_tpr_get,
    .tpr_set = board_tpr_set,
    .msr_read = board_msr_read,
    .msr_write = board_msr_write,
    .shutdown = board_shutdown,
    .init_taken = board_init_taken,
    .pause = board_pause,
    .monitor_hit = board_monitor_hit,
    .vmcs_elsewhere = board_vmcs_elsewhere,
    .ferr = board_ferr,
};

static const struct phys_ops phys_ops = {.mmio_read = board_mmio_read, .mmio_write = board_mmio_write};

// ---- what the local APICs do to their processors ----

static struct vcpu *vcpu_of(void *cpu)
{
    struct machine_cpu *c = cpu;
    return c->m->cpu[c->index];
}

static void signal_to(void *cpu, enum cpu_signal what, u8 vector)
{
    struct machine_cpu *c = cpu;
    cpu_signal(c->m->cpu[c->index], what, vector);
    if (what != CPU_SIGNAL_INTR_OFF) machine_signalled(c->m, c->index);
}
static void to_cpu_intr(void *cpu, bool level)
{
    if (level != vcpu_of(cpu)->s.intr_line)
        signal_to(cpu, level ? CPU_SIGNAL_INTR_ON : CPU_SIGNAL_INTR_OFF, 0);
}
static void to_cpu_nmi(void *cpu) { signal_to(cpu, CPU_SIGNAL_NMI, 0); }
static void to_cpu_init(void *cpu) { signal_to(cpu, CPU_SIGNAL_INIT, 0); }
static void to_cpu_sipi(void *cpu, u8 vector) { signal_to(cpu, CPU_SIGNAL_SIPI, vector); }
static u64 cpu_tsc(void *cpu)
{
    return ((struct machine_cpu *)cpu)->m->clock.now + vcpu_of(cpu)->s.msr.tsc_offset;
}

static const struct lapic_cpu_ops lapic_ops = {to_cpu_intr, to_cpu_nmi, to_cpu_init, to_cpu_sipi, cpu_tsc};

// ---- interrupt lines ----

// ISA interrupt n is input n of the 8259 pair and of the I/O APIC, but for 0, which is input 2 of the latter.
static void drive_irq(struct machine *m, unsigned n)
{
    const u32 *from = m->irq_levels;
    u32 levels = from[IRQ_FROM_ISA] | from[IRQ_FROM_PCI] | from[IRQ_FROM_TEST] | from[IRQ_FROM_HPET_LEGACY];
    u32 inputs = (levels & ~1u) | (levels & 1) << 2 | from[IRQ_FROM_HPET];
    if (n < 16) pic_set_line(&m->pic, n, levels >> n & 1);
    if (n == 0) n = 2;
    ioapic_set_line(&m->ioapic, n, inputs >> n & 1);
}

static void set_irq(struct machine *m, enum machine_irq_source source, unsigned n, bool level)
{
    u32 *levels = &m->irq_levels[source];
    *levels = level ? *levels | 1u << n : *levels & ~(1u << n);
    drive_irq(m, n);
}

static void isa_irq(void *to, unsigned n, bool level) { set_irq(to, IRQ_FROM_ISA, n, level); }
static void pci_irq(void *to, unsigned n, bool level) { set_irq(to, IRQ_FROM_PCI, n, level); }
static void hpet_legacy_irq(void *to, unsigned n, bool level) { set_irq(to, IRQ_FROM_HPET_LEGACY, n, level); }
static void hpet_irq(void *to, unsigned n, bool level) { set_irq(to, IRQ_FROM_HPET, n, level); }
static void test_irq(void *to, unsigned n, bool level) { set_irq(to, IRQ_FROM_TEST, n, level); }

// LEG_RT_CNF: the HPET takes the interrupts of the 8254 and of the real-time clock.
static void hpet_legacy(void *to, bool on)
{
    struct machine *m = to;
    pit_set_irq_off(&m->pit, on);
    cmos_set_irq_off(&m->cmos, on);
}

static u8 extint_ack(void *to) { return pic_ack(&((struct machine *)to)->pic); }

// ---- requests ----

void machine_request_end(struct machine *m, enum machine_end what, u32 status, const char *why)
{
    if (m->request.what != MACHINE_RUN) return; // the first one counts
    m->request = (struct machine_request){.what = what, .status = status, .why = why};
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_signal(m->cpu[i], CPU_SIGNAL_STOP, 0);
}

static void reset_by_keyboard(void *to) { machine_request_end(to, MACHINE_RESET, 0, "keyboard controller"); }
static void reset_by_port92(void *to) { machine_request_end(to, MACHINE_RESET, 0, "port 92h"); }
static void reset_by_cf9(void *to)
{
    machine_request_end(to, MACHINE_RESET, 0, "reset control register CF9h");
}
static void soft_off(void *to) { machine_request_end(to, MACHINE_POWER_OFF, 0, "ACPI soft-off"); }
static void exit_by(void *to, u32 status, const char *who)
{
    machine_request_end(to, MACHINE_EXIT, status, who);
}

static bool a20_masked(const struct machine *m) { return !i8042_a20(&m->i8042) && !port92_a20(&m->port92); }

static void a20_changed(void *to)
{
    struct machine *m = to;
    bool masked = a20_masked(m);
    if (masked == m->phys.a20_masked) return;
    m->phys.a20_masked = masked;
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_a20_changed(m->cpu[i]);
}

static void drop_derived(void *to)
{
    struct machine *m = to;
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_drop_derived(m->cpu[i]);
}

static void not_implemented(void *to, const char *what)
{
    unimplemented(((struct machine *)to)->cpu[0], what, 0);
}

// ---- construction ----

static void add(struct machine *m, struct device *d)
{
    struct device **last = &m->devices;
    if (d->state_size && !d->ops->state_version) panic("%s: its state has no version", d->ops->name);
    while (*last) last = &(*last)->next;
    d->host = &m->host;
    *last = d;
}

static bool make_cpus(struct machine *m, const char **why)
{
    for (unsigned i = 0; i < m->config.cpus; i++) {
        m->cpu_side[i] = (struct machine_cpu){.m = m, .index = i};
        struct vcpu *v = vcpu_new(i, &m->phys, &m->config.features);
        if (!v) {
            *why = "no memory for a processor";
            return false;
        }
        v->board = &board_ops;
        v->board_opaque = m;
        v->clock_next = &m->clock.next_deadline;
        if (m->config.cpus > 1) v->clock_now = &m->clock.now;
        m->cpu[m->cpus_n++] = v;
    }
    return true;
}

static void add_to(void *to, struct device *d) { add(to, d); }

static bool allocate_added(struct machine *m, const char **why)
{
    for (unsigned i = 0; i < m->config.devices; i++) {
        m->added[i] = calloc(1, m->config.device[i].row->size);
        if (m->added[i]) continue;
        *why = "no memory for a device";
        return false;
    }
    return true;
}

// What the user adds to a bus.
static void wire_added(struct machine *m, enum device_bus bus)
{
    // clang-format off
    const struct device_board board = {.bus = &m->bus, .clock = &m->clock, .pci = &m->pci, .to = m, .add = add_to,
                                       .test_irq = test_irq, .end = exit_by, .drop_derived = drop_derived};
    // clang-format on
    for (unsigned i = 0; i < m->config.devices; i++) {
        const struct device_config *c = &m->config.device[i];
        if (c->row->bus == bus) c->row->create(m->added[i], &board, c->value);
    }
}

static void wire_interrupt_controllers(struct machine *m)
{
    const struct cpu_features *f = &m->config.features;
    for (unsigned i = 0; i < m->cpus_n; i++) {
        lapic_init(&m->lapic[i], &m->apics, &m->clock, i, m->cpu[i]->apic_id, f->maxphyaddr, &lapic_ops,
                   &m->cpu_side[i]);
        if (!feature_on(f, FEATURE_X2APIC)) m->lapic[i].base_reserved |= BIT(10);
        m->lapic[i].no_tsc_deadline = !feature_on(f, FEATURE_TSC_DEADLINE);
        add(m, &m->lapic[i].dev);
    }
    static const struct device_ops lines_ops = {.name = "irq-lines", .state_version = 1};
    m->irq_lines = (struct device){
        .ops = &lines_ops, .clock = &m->clock, .state = m->irq_levels, .state_size = sizeof m->irq_levels};
    add(m, &m->irq_lines);
    ioapic_init(&m->ioapic, &m->bus, &m->clock, &m->apics);
    add(m, &m->ioapic.dev);
    pic_init(&m->pic, &m->bus, &m->clock);
    m->pic.intr = (struct irq_line){apic_bus_set_lint0, &m->apics, 0};
    m->apics.extint_ack = extint_ack;
    m->apics.extint_to = m;
    add(m, &m->pic.dev);
}

static void wire_timers(struct machine *m)
{
    const struct phys *p = &m->phys;
    pit_init(&m->pit, &m->bus, &m->clock);
    m->pit.irq0 = (struct irq_line){isa_irq, m, 0};
    add(m, &m->pit.dev);
    cmos_init(&m->cmos, &m->bus, &m->clock, m->config.rtc_start, p->low_size, p->ram_size - p->low_size,
              m->cpus_n);
    m->cmos.irq8 = (struct irq_line){isa_irq, m, 8};
    add(m, &m->cmos.dev);
    if (m->config.hpet_off) return;
    hpet_init(&m->hpet, &m->bus, &m->clock);
    m->hpet.irq0 = (struct irq_line){hpet_legacy_irq, m, 0};
    m->hpet.irq8 = (struct irq_line){hpet_legacy_irq, m, 8};
    for (unsigned i = 0; i < ARRAY_LEN(m->hpet.irq); i++) m->hpet.irq[i] = (struct irq_line){hpet_irq, m, i};
    m->hpet.legacy = hpet_legacy;
    m->hpet.to = m;
    add(m, &m->hpet.dev);
}

static void wire_isa(struct machine *m)
{
    static const u16 port[MACHINE_SERIAL] = {0x3F8, 0x2F8};
    static const u8 irq[MACHINE_SERIAL] = {4, 3};
    for (unsigned i = 0; i < MACHINE_SERIAL; i++) {
        uart_init(&m->uart[i], &m->bus, &m->clock, port[i]);
        m->uart[i].irq = (struct irq_line){isa_irq, m, irq[i]};
        m->uart[i].chr = m->config.serial[i];
        add(m, &m->uart[i].dev);
    }
    i8042_init(&m->i8042, &m->bus, &m->clock);
    m->i8042.irq1 = (struct irq_line){isa_irq, m, 1};
    m->i8042.irq12 = (struct irq_line){isa_irq, m, 12};
    m->i8042.reset_line = reset_by_keyboard;
    m->i8042.a20 = a20_changed;
    m->i8042.to = m;
    add(m, &m->i8042.dev);
    port92_init(&m->port92, &m->bus, &m->clock);
    m->port92.reset_line = reset_by_port92;
    m->port92.a20 = a20_changed;
    m->port92.to = m;
    add(m, &m->port92.dev);
    ferr_init(&m->ferr, &m->bus, &m->clock);
    m->ferr.irq13 = (struct irq_line){isa_irq, m, 13};
    add(m, &m->ferr.dev);
    dma_init(&m->dma, &m->bus, &m->clock);
    add(m, &m->dma.dev);
}

static void wire_pci(struct machine *m)
{
    pci_init(&m->pci, &m->bus, &m->clock);
    m->pci.reset_line = reset_by_cf9;
    m->pci.reset_to = m;
    for (unsigned i = 0; i < 16; i++) m->pci.isa_irq[i] = (struct irq_line){pci_irq, m, i};
    add(m, &m->pci.dev);
    piix_init(&m->piix, &m->pci, &m->clock);
    add(m, &m->piix.host.dev);
    add(m, &m->piix.isa.dev);
    wire_added(m, DEVICE_ON_PCI);
    if (m->config.acpi_off) return;
    acpi_pm_init(&m->pm, &m->pci, &m->bus, &m->clock);
    m->pm.sci = (struct irq_line){isa_irq, m, ACPI_PM_SCI};
    m->pm.power_off = soft_off;
    m->pm.to = m;
    add(m, &m->pm.fn.dev);
    add(m, &m->pm.dev);
}

static void wire_firmware_interface(struct machine *m)
{
    fw_cfg_init(&m->fw_cfg, &m->bus, &m->clock, &m->phys);
    fw_cfg_add_u64(&m->fw_cfg, FW_CFG_RAM_SIZE, m->phys.ram_size);
    fw_cfg_add_u16(&m->fw_cfg, FW_CFG_NB_CPUS, (u16)m->cpus_n);
    fw_cfg_add_u16(&m->fw_cfg, FW_CFG_MAX_CPUS, (u16)m->cpus_n);
    fw_cfg_add_u16(&m->fw_cfg, FW_CFG_BOOT_MENU, 0);
    fw_cfg_add_u32(&m->fw_cfg, FW_CFG_IRQ0_OVERRIDE, 1);
    m->e820_n = acpi_e820(&m->phys, !m->config.acpi_off, m->e820);
    fw_cfg_add_file(&m->fw_cfg, "etc/e820", m->e820, m->e820_n * (u32)sizeof m->e820[0]);
    add(m, &m->fw_cfg.dev);
}

bool machine_init(struct machine *m, const struct machine_config *c, const char **why)
{
    memset(m, 0, sizeof *m);
    m->config = *c;
    if (c->cpus < 1 || c->cpus > MACHINE_CPUS_MAX) {
        *why = "the number of processors must be 1 to 64";
        return false;
    }
    struct cpu_topology *t = &m->config.features.topology;
    if (topology_members(t, TOPOLOGY_SOCKET) < c->cpus)
        *t = (struct cpu_topology){.sockets = 1, .dies = 1, .cores = (u16)c->cpus, .threads = 1};
    if (c->ram_size < MACHINE_RAM_MIN) {
        *why = "the machine needs 2 MiB of memory at least";
        return false;
    }
    if (!phys_init(&m->phys, c->ram_size, why)) return false;
    m->phys.ops = &phys_ops;
    m->phys.ops_opaque = m;
    m->host = (struct device_host){not_implemented, m};
    bus_init(&m->bus);
    clock_init(&m->clock);
    if (!make_cpus(m, why) || !allocate_added(m, why)) {
        machine_free(m);
        return false;
    }
    wire_interrupt_controllers(m);
    wire_timers(m);
    wire_isa(m);
    wire_pci(m);
    wire_firmware_interface(m);
    debug_console_init(&m->port_e9, &m->bus, &m->clock);
    add(m, &m->port_e9.dev);
    wire_added(m, DEVICE_ON_ISA);
    machine_reset(m);
    return true;
}

void machine_free(struct machine *m)
{
    for (unsigned i = 0; i < m->cpus_n; i++) vcpu_free(m->cpu[i]);
    m->cpus_n = 0;
    for (unsigned i = 0; i < m->config.devices; i++) free(m->added[i]);
    m->config.devices = 0;
    phys_free(&m->phys);
}

// ---- reset ----

// Time goes on over a reset (the real-time clock must), and the processors' time stamps start from 0.
void machine_reset(struct machine *m)
{
    m->request = (struct machine_request){.what = MACHINE_RUN};
    m->turns = (struct machine_turns){.cpu = m->cpus_n - 1}; // so that processor 0 is the first
    for (unsigned i = 0; i < m->cpus_n; i++) {
        struct vcpu *v = m->cpu[i];
        v->stop = false;
        vcpu_reset(v, false);
        cpu_skip_to(v, m->clock.now);
        v->s.msr.tsc_offset = -m->clock.now;
    }
    for (struct device *d = m->devices; d; d = d->next)
        if (d->ops->reset) d->ops->reset(d);
    a20_changed(m);
    firmware_leave(m);
}

void machine_loaded(struct machine *m)
{
    m->phys.a20_masked = a20_masked(m); // a change of the gate would empty the TLBs, which are state
    for (unsigned i = 0; i < m->cpus_n; i++) cpu_loaded(m->cpu[i]);
    for (unsigned i = 0; i < m->clock.timers_n; i++) clock_timer_set(&m->clock, i, CLOCK_NEVER);
    for (struct device *d = m->devices; d; d = d->next)
        if (d->ops->loaded) d->ops->loaded(d);
}

// ---- from outside ----

u32 machine_serial_input(struct machine *m, unsigned port, const u8 *bytes, u32 n)
{
    return port < MACHINE_SERIAL ? uart_input(&m->uart[port], bytes, n) : 0;
}

u64 *machine_written(struct machine *m, enum phys_dirty_user user)
{
    u64 *dirty = phys_dirty_take(&m->phys, user);
    for (unsigned i = 0; i < m->cpus_n; i++) tlbops_drop_writes(m->cpu[i]);
    return dirty;
}

void machine_power_button(struct machine *m)
{
    if (!m->config.acpi_off) acpi_pm_power_button(&m->pm);
}

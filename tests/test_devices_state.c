// A machine's plain state is all there is of it: what is saved and loaded goes on like the original, at every
// instruction boundary of small programs that wait, are interrupted and use timers; what is derived may be
// garbage before cpu_loaded. Guests with VMX, Linux and KVM: the "reloaded" runs of golden.c.
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/machine_test.h"
#include "devices/machine_state.h"
#include "devices/state_hash.h"
#include "vmx/control.h"

static struct machine *make(unsigned cpus)
{
    return make_as((struct machine_config){.ram_size = 2 << 20, .cpus = cpus});
}
static struct machine *make_full(void)
{
    return make_as((struct machine_config){
        .ram_size = 2 << 20,
        .cpus = 2,
        .devices = 3,
        .device = {device_of("pc-testdev"), device_of("isa-debug-exit"), device_of("piix3-usb-uhci")}});
}
static void handler(struct machine *m, u8 vector, u16 offset, const u8 *code, u32 n)
{
    phys_write16(&m->phys, 0, vector * 4u, offset);
    phys_write16(&m->phys, 0, vector * 4u + 2u, 0);
    phys_write(&m->phys, 0, offset, code, n);
}
#define HANDLER(m, vector, offset, ...) \
    handler(m, vector, offset, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void save(struct machine *m, struct state_bytes *b)
{
    char why[256];
    if (!machine_state_save(m, b, why, sizeof why)) fail_msg("%s", why);
}
static void load(struct machine *m, const struct state_bytes *b)
{
    char why[256];
    if (!machine_state_load(m, b->at, b->size, why, sizeof why)) fail_msg("%s", why);
}

// ---- going on elsewhere ----

// The board's side of what is derived is the same too: which deadlines are armed and when.
static void assert_same_derived(const struct machine *a, const struct machine *b)
{
    assert_int_equal(a->clock.timers_n, b->clock.timers_n);
    for (unsigned i = 0; i < a->clock.timers_n; i++)
        assert_true(a->clock.timers[i].deadline == b->clock.timers[i].deadline);
    assert_true(a->clock.next_deadline == b->clock.next_deadline);
    assert_true(memcmp(a->bus.port_owner, b->bus.port_owner, sizeof a->bus.port_owner) == 0);
    assert_int_equal(a->phys.a20_masked, b->phys.a20_masked);
    for (unsigned i = 0; i < a->cpus_n; i++) {
        assert_int_equal(a->cpu[i]->d.mode, b->cpu[i]->d.mode);
        assert_int_equal(a->cpu[i]->s.intr_line, lapic_pending(&b->lapic[i]));
        assert_true(cpu_vtime(a->cpu[i]) == cpu_vtime(b->cpu[i]));
        assert_true(cpu_retired(a->cpu[i]) == cpu_retired(b->cpu[i]));
    }
}

struct seen {
    unsigned halted, waiting, deadline, blocked;
};

// Runs `m` for `steps` slices of `units`, and beside it a machine that is another one before each slice. Ends
// both.
static struct seen go_on_in_many(struct machine *m, struct machine *(*another)(void), unsigned steps,
                                 u64 units)
{
    struct state_hash h = {0}, fresh;
    struct state_bytes bytes = {0};
    struct machine *copy = another();
    struct seen seen = {0};
    save(m, &bytes);
    load(copy, &bytes);
    for (unsigned i = 0; i < steps; i++) {
        save(copy, &bytes);
        destroy(copy);
        copy = another();
        load(copy, &bytes);
        assert_same_derived(m, copy);
        const struct vcpu_state *s = &m->cpu[0]->s;
        seen.halted += s->activity == ACTIVITY_HLT;
        seen.waiting += s->intr_line && !(s->rflags & FL_IF);
        seen.deadline += m->lapic[0].st.tsc_deadline != 0;
        seen.blocked += (s->blocking & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) != 0;
        enum machine_end a = machine_run(m, units), b = machine_run(copy, units);
        assert_int_equal(a, b);
        fresh = (struct state_hash){0};
        u64 hash = state_hash(&h, m);
        if (hash != state_hash(&fresh, copy)) fail_msg("they differ after slice %u", i);
        state_hash_free(&fresh);
        if (a != MACHINE_RUN) break;
    }
    state_hash_free(&h);
    state_bytes_free(&bytes);
    destroy(copy);
    destroy(m);
    return seen;
}

static struct machine *make_one(void) { return make(1); }
static struct machine *make_two(void) { return make(2); }

// The 8254 interrupts HLT; CLI holds interrupts back for a while; STI and MOV SS block them.
static struct machine *ticking(u8 loops) // times 256, with interrupts off
{
    struct machine *m = make(1);
    // inc word [6000h]; EOI; iret
    HANDLER(m, 8, 0x7000, 0x50, 0xFF, 0x06, 0x00, 0x60, 0xB0, 0x20, 0xE6, 0x20, 0x58, 0xCF);
    // mode 2, 64 ticks of 1.19 MHz
    START(m, 0xB0, 0x34, 0xE6, 0x43, 0xB0, 0x40, 0xE6, 0x40, 0xB0, 0x00, 0xE6, 0x40, 0xB0, 0xFA, 0xE6,
          0x21,                          // open IRQ 0
          0xFB, 0xF4, 0xFA,              // sti; hlt; cli
          0xB9, 0x10, loops, 0xE2, 0xFE, // mov cx, loops; loop $
          0x8C, 0xD0, 0xFB, 0x90, 0x8E, 0xD0, 0x90, 0xEB,
          0xEF); // mov ax, ss; sti; nop; mov ss, ax; nop; to sti hlt
    return m;
}

static void ticks_and_halts(void **state)
{
    struct seen each = go_on_in_many(ticking(0), make_one, 100, 1),
                now_and_then = go_on_in_many(ticking(0x80), make_one, 40, 3001);
    assert_true(each.halted && each.blocked && now_and_then.waiting);
}

// A TSC deadline wakes HLT again and again; FS reaches the local APIC, for the end of interrupt.
static void tsc_deadlines(void **state)
{
    struct machine *m = make(1);
    phys_write32(&m->phys, 0, 0xFEE000F0, 0x1FF);
    phys_write32(&m->phys, 0, 0xFEE00320, 0x40040);
    m->cpu[0]->s.seg[SEG_FS].limit = 0xFFFFFFFF;
    HANDLER(m, 0x40, 0x7000, 0xFF, 0x06, 0x00, 0x60, 0x67, 0x66, 0x64, 0xC7, 0x05, 0xB0, 0x00, 0xE0, 0xFE, 0,
            0, 0, 0, 0xCF);
    // TSC + 800 to 6E0h
    START(m, 0xFA, 0x66, 0xB9, 0xE0, 0x06, 0, 0, 0x0F, 0x31, 0x66, 0x05, 0x20, 0x03, 0, 0, 0x0F, 0x30, 0xFB,
          0xF4, 0xEB, 0xEA);
    struct seen seen = go_on_in_many(m, make_one, 80, 1);
    assert_true(seen.halted && seen.deadline);
}

// Two processors: one is started by the other's APIC, and both read the 8254. How far the turns came is state
// as well.
static void two_processors(void **state)
{
    struct machine *m = make(2);
    static const u8 reads[] = {0x40, 0xE4, 0x40, 0xEB, 0xFB}; // inc ax; in al, 40h; jmp
    phys_write(&m->phys, 0, 0x8000, reads, sizeof reads);
    start(m, reads, sizeof reads);
    phys_write32(&m->phys, 0, 0xFEE00310, 1 << 24);
    phys_write32(&m->phys, 0, 0xFEE00300, 0x4500);
    phys_write32(&m->phys, 0, 0xFEE00300, 0x4608);
    go_on_in_many(m, make_two, 40, 777);
}

// Everything of the processor's derived part may be garbage before cpu_loaded.
static void derived_state_is_made_anew(void **state)
{
    struct machine *a = ticking(0x80), *b = ticking(0x80);
    struct state_hash ha = {0}, hb = {0};
    for (unsigned i = 0; i < 200; i++) {
        struct vcpu *v = b->cpu[0];
        struct engine *e = v->d.engine;
        memset(&v->d, 0xA5, sizeof v->d);
        v->d.engine = e;
        memset(&v->vmx->pin, 0xA5, offsetof(struct vmx_control, entries) - offsetof(struct vmx_control, pin));
        cpu_loaded(v);
        assert_int_equal(machine_run(a, 37 * i), machine_run(b, 37 * i));
        assert_true(state_hash(&ha, a) == state_hash(&hb, b));
    }
    state_hash_free(&ha), state_hash_free(&hb);
    destroy(a), destroy(b);
}

// A line that is up is no event when a state is loaded, not even where the I/O APIC makes an NMI of its
// level.
static void lines_that_are_up_stay_up(void **state)
{
    struct machine *a = make_full(), *b = make_full();
    struct state_bytes bytes = {0};
    phys_write32(&a->phys, 0, 0xFEC00000, 0x10 + 2 * 10);
    phys_write32(&a->phys, 0, 0xFEC00010, DELIVER_NMI << 8 | 1 << 15);
    bus_port_write(&a->bus, 0x200A, 1, 1);
    assert_true(a->cpu[0]->s.nmi_pending);
    a->cpu[0]->s.nmi_pending = false; // taken
    save(a, &bytes);
    load(b, &bytes);
    assert_false(b->cpu[0]->s.nmi_pending);
    assert_true(b->ioapic.st.lines >> 10 & 1);
    state_bytes_free(&bytes);
    destroy(a), destroy(b);
}

// Who claims a port where software put two ranges over each other follows from where they are, not from which
// came last.
static void ranges_that_overlap(void **state)
{
    struct machine *a = make_full(), *b = make_full();
    struct state_bytes bytes = {0};
    struct pci_function *usb = a->pci.fn[PCI_DEVFN(1, 2)];
    const struct device *of_a = usb->owner, *of_b = b->pci.fn[PCI_DEVFN(1, 2)]->owner;
    pci_config_write(usb, PCI_BAR0 + 4 * 4, 4, ACPI_PM_BASE | 1);
    pci_config_write(&a->pm.fn, 0x80, 1, 0);
    pci_config_write(&a->pm.fn, 0x80, 1, 1);
    save(a, &bytes);
    load(b, &bytes);
    for (u16 port = ACPI_PM_BASE; port < ACPI_PM_BASE + 64; port++)
        assert_int_equal(b->bus.port[b->bus.port_owner[port] - 1].dev == of_b,
                         a->bus.port[a->bus.port_owner[port] - 1].dev == of_a);
    state_bytes_free(&bytes);
    destroy(a), destroy(b);
}

// ---- what the structs are ----

// A struct whose size changed has another version; a change of meaning alone nobody but its author can see.
static void each_has_a_version(void **state)
{
    // clang-format off
    static const struct { const char *name; u32 version, size; } known[] = {
        {"clock", 1, 8},      {"cpu", 11, 171856},     {"turns", 1, 24},        {"lapic", 2, 200},        {"irq-lines", 1, 20}, {"ioapic", 1, 208},
        {"pic", 1, 37},       {"pit", 1, 160},        {"cmos", 1, 160},         {"hpet", 1, 176},     {"uart", 1, 4144},
        {"i8042", 1, 155},    {"port92", 1, 1},       {"ferr", 1, 16},       {"dma", 1, 64},           {"pci", 1, 8},        {"pci-function", 1, 264},
        {"uhci", 1, 32},      {"acpi-pm", 1, 24},     {"fw_cfg", 1, 16},        {"pc-testdev", 1, 65540}};
    // clang-format on
    struct machine *m = make_full();
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(m, part), seen[ARRAY_LEN(known)] = {0};
    for (unsigned i = 0; i < n; i++) {
        unsigned k = 0;
        while (k < ARRAY_LEN(known) && strcmp(known[k].name, part[i].name) != 0) k++;
        if (k == ARRAY_LEN(known)) fail_msg("%s is not in this test's list", part[i].name);
        if (part[i].version != known[k].version || part[i].size != known[k].size)
            fail_msg("%s is version %u of %u bytes; known is version %u of %u", part[i].name, part[i].version,
                     part[i].size, known[k].version, known[k].size);
        assert_int_equal(part[i].index, seen[k]);
        seen[k]++;
    }
    for (unsigned k = 0; k < ARRAY_LEN(known); k++) assert_true(seen[k] > 0);
    unsigned devices = 0;
    for (const struct device *d = m->devices; d; d = d->next) devices += d->state_size > 0;
    assert_int_equal(n, 2 + m->cpus_n + devices); // and the clock and the turns
    destroy(m);
}

// No word of the state is an address of this process, and two machines that stand elsewhere in memory have
// the same state.
static void no_pointers(void **state)
{
    struct {
        u64 first, last;
    } range[4096];
    unsigned ranges = 0;
    struct machine *a = make_full(), *b = make_full();
    static const u8 work[] = {0x40, 0xE4, 0x40, 0xE6, 0x80, 0xEB, 0xF9};
    start(a, work, sizeof work), start(b, work, sizeof work);
    assert_int_equal(machine_run(a, 50000), machine_run(b, 50000));
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) skip();
    char line[512];
    while (fgets(line, sizeof line, maps)) {
        unsigned long long first, last;
        bool range_read = sscanf(line, "%llx-%llx", &first, &last) == 2;
        // AddressSanitizer's shadow is most of the address space: any number would be an address there.
        if (ranges < ARRAY_LEN(range) && range_read && first >= BIT(32) && last - first < BIT(40)) {
            range[ranges].first = first;
            range[ranges++].last = last;
        }
    }
    fclose(maps);
    assert_true(ranges > 2 && ranges < ARRAY_LEN(range));
    struct state_part pa[STATE_PARTS_MAX], pb[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(a, pa);
    assert_int_equal(n, machine_state_parts(b, pb));
    for (unsigned i = 0; i < n; i++) {
        assert_ptr_not_equal(pa[i].data, pb[i].data);
        assert_memory_equal(pa[i].data, pb[i].data, pa[i].size);
        for (u32 at = 0; at + 8 <= pa[i].size; at += 4) {
            u64 word;
            memcpy(&word, (const u8 *)pa[i].data + at, sizeof word);
            for (unsigned k = 0; k < ranges; k++)
                if (word >= range[k].first && word < range[k].last)
                    fail_msg("%s has an address of the host at %u", pa[i].name, at);
        }
    }
    destroy(a), destroy(b);
}

// ---- what is refused ----

static u64 hash_of(struct machine *m)
{
    struct state_hash h = {0};
    u64 x = state_hash(&h, m);
    state_hash_free(&h);
    return x;
}

static void refuses(struct machine *m, const u8 *bytes, u64 size, const char *reason)
{
    char why[256] = "";
    u64 before = hash_of(m);
    if (machine_state_load(m, bytes, size, why, sizeof why)) fail_msg("loaded, though %s", reason);
    if (!strstr(why, reason)) fail_msg("\"%s\" does not say \"%s\"", why, reason);
    assert_true(hash_of(m) == before);
}

// The offset of a section's fields in the bytes: name, and behind it index, version, size.
static u64 section(const struct state_bytes *b, const char *name)
{
    for (u64 i = 16; i + 40 < b->size; i += 8)
        if (strcmp((const char *)b->at + i, name) == 0) return i;
    fail_msg("no section \"%s\"", name);
    return 0;
}

static void what_is_refused(void **state)
{
    struct machine *m = ticking(0x80), *to = make(1);
    struct state_bytes b = {0};
    machine_run(m, 5000);
    save(m, &b);
    for (u64 n = 0; n < b.size; n += n < 600 ? 1 : 997) {
        char why[256];
        assert_false(machine_state_load(to, b.at, n, why, sizeof why));
    }
    u64 pit = section(&b, "pit"), uart = section(&b, "uart"), ram = section(&b, "ram");
    // clang-format off
    const struct { u64 at; u8 change; const char *reason; } change[] = {
        {0, 1, "no saved state"},
        {8, 3, "format"},
        {12, 64, "ends in its section"}, // the number of sections
        {16 + 40, 1, "bytes of memory"},
        {16 + 40 + 8, 1, "other features"},
        {16 + 40 + 32, 2, "processors"},
        {pit, 1, "this machine has no"},
        {pit + 24, 7, "this machine has no"},
        {pit + 28, 2, "\"pit\" 0 was saved as version 3 of 160 bytes; here it is version 1 of 160"},
        {pit + 32, 7, "bytes; here it is version 1"},
        {uart + 24, 1, "twice"},
        {ram + 28, 2, "memory is not as"},
        {ram + 32, 8, "memory is not as"},
        {ram + 40 + 7, 1, "not memory or comes twice"},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(change); i++) {
        b.at[change[i].at] ^= change[i].change;
        refuses(to, b.at, b.size, change[i].reason);
        b.at[change[i].at] ^= change[i].change;
    }
    b.at[12]--;
    refuses(to, b.at, b.size, "no memory in it");
    b.at[12]++;
    struct machine *larger = make_as((struct machine_config){.ram_size = 4 << 20, .cpus = 1}),
                   *more = make_full(), *two = make(2);
    refuses(larger, b.at, b.size, "4194304");
    refuses(two, b.at, b.size, "-smp 1 saved, -smp 2 here");
    struct machine *usb = make_as((struct machine_config){
        .ram_size = 2 << 20, .cpus = 1, .devices = 1, .device = {device_of("piix3-usb-uhci")}});
    refuses(usb, b.at, b.size, "the saved machine has no \"uhci\" 0");
    struct machine *no_hpet =
        make_as((struct machine_config){.ram_size = 2 << 20, .cpus = 1, .hpet_off = true});
    refuses(no_hpet, b.at, b.size, "this machine has no \"hpet\" 0");
    load(to, &b);
    assert_true(hash_of(to) == hash_of(m));

    char why[256];
    machine_request_end(m, MACHINE_RESET, 0, "a test");
    assert_false(machine_state_save(m, &b, why, sizeof why));
    assert_non_null(strstr(why, "a test"));
    state_bytes_free(&b);
    destroy(m), destroy(to), destroy(larger), destroy(more), destroy(two), destroy(usb), destroy(no_hpet);
}

// Parts of the right size, with what the code relies on without asking: indices, counts, modes, times, bools.
static void what_cannot_be(void **state)
{
    struct machine *m = ticking(0x80), *to = make(1);
    struct state_bytes b = {0};
    machine_run(m, 5000);
    save(m, &b);
    u64 cpu = section(&b, "cpu") + 40;
#define CPU(field) cpu + offsetof(struct vcpu_state, field), sizeof(((struct vcpu_state *)0)->field)
#define PART(name, of, field) \
    section(&b, name) + 40 + offsetof(struct of, field), sizeof(((struct of *)0)->field)
    // clang-format off
    const struct { u64 at; u32 size; u64 value; const char *reason; } change[] = {
        {CPU(zero), 1, "always 0"},
        {CPU(fl), 0, "RFLAGS"},
        {CPU(rflags), 0, "RFLAGS"},
        {CPU(rflags), BIT(22) | 2, "RFLAGS"},
        {CPU(rflags), FL_VM | 2, "virtual-8086"},
        {CPU(nmi_pending), 2, "waits"},
        {CPU(intr_line), 2, "waits"},
        {CPU(activity), ACTIVITY_MWAIT + 1, "activity"},
        {CPU(blocking), 16, "blocks"},
        {CPU(inject.kind), EVENT_VMEXIT, "injected"},
        {CPU(inject.trap), 3, "injected"},
        {CPU(cr0), CR0_PG, "CR0"},
        {CPU(cr0), CR0_NW, "CR0"},
        {CPU(cr4), BIT(31), "CR4"},
        {CPU(msr.efer), EFER_LMA, "IA-32e"},
        {CPU(msr.efer), BIT(3), "EFER"},
        {CPU(msr.pat), 2, "PAT"},
        {CPU(mxcsr), 0x11F80, "MXCSR"},
        {CPU(xcr0), 0, "XCR0"},
        {CPU(xcr0), 5, "XCR0"},
        {CPU(xcr0), BIT(40) | 1, "XCR0"},
        {CPU(seg[SEG_FS].ar), 0x20000, "a segment"},
        {CPU(seg[SEG_GS].base), BIT(62), "a segment"},
        {CPU(seg[SEG_CS].ar), AR_UNUSABLE, "CS"},
        {CPU(rip), BIT(32), "RIP"},
        {CPU(gdtr.limit), 0x10000, "GDTR"},
        {CPU(vmx.on), 2, "VMX"},
        {CPU(vmx.guest), 1, "VMCS"},
        {CPU(vmx.vmcs_pointer), 0x1000, "outside of VMX"},
        {CPU(vmx.vmxon_pointer), 0x1001, "pointer"},
        {CPU(vmx.eptp), 0x1000, "EPT"},
        {CPU(itlb.current_global), TLB_CONTEXTS, "context"},
        {CPU(dtlb.current), TLB_CONTEXTS, "context"},
        {CPU(units), BIT(61), "processor 0"},
        {CPU(skipped), BIT(40), "processor 0"},
        {PART("turns", machine_turns, going), 2, "turn"},
        {PART("turns", machine_turns, cpu), 1, "turn"},
        {PART("turns", machine_turns, asleep), 2, "turn"},
        {section(&b, "clock") + 40, 8, BIT(62), "clock"},
        {PART("pit", pit_state, ch[1].mode), 6, "mode"},
        {PART("pit", pit_state, ch[2].rw), 0, "mode"},
        {PART("pit", pit_state, ch[0].count), 65537, "count"},
        {PART("pit", pit_state, ch[2].switch_at), 1, "count"},
        {PART("pic", pic_state, chip[1].first), 8, "priority"},
        {PART("uart", uart_state, fifo_n), UART_FIFO + 1, "queue"},
        {PART("uart", uart_state, queue_first), UART_QUEUE, "queue"},
        {PART("uart", uart_state, queue_n), UART_QUEUE + 1, "queue"},
        {PART("i8042", i8042_state, own.first), I8042_QUEUE, "queue"},
        {PART("i8042", i8042_state, aux.out.n), I8042_QUEUE + 1, "queue"},
        {PART("cmos", cmos_state, base_time), BIT(61), "clock began"},
        {PART("cmos", cmos_state, seen), BIT(62), "clock began"},
    };
    // clang-format on
#undef CPU
#undef PART
    for (unsigned i = 0; i < ARRAY_LEN(change); i++) {
        u64 old = 0;
        memcpy(&old, b.at + change[i].at, change[i].size);
        memcpy(b.at + change[i].at, &change[i].value, change[i].size);
        refuses(to, b.at, b.size, change[i].reason);
        memcpy(b.at + change[i].at, &old, change[i].size);
    }
    load(to, &b);
    state_bytes_free(&b);
    destroy(m), destroy(to);
}

// Deadlines that were missed are made up for one by one, so none may lie far behind the clock.
static void timers_do_not_stand_still(void **state)
{
    struct machine *m = make(1), *to = make(1);
    struct state_bytes b = {0};
    m->lapic[0].st.lvt[LAPIC_LVT_TIMER] = 1 << 17 | 0x40; // periodic
    m->lapic[0].st.timer_initial = m->lapic[0].st.timer_from = 10;
    save(m, &b);
    load(to, &b);
    m->lapic[0].st.timer_start = 1;
    save(m, &b);
    refuses(to, b.at, b.size, "in the future");
    m->lapic[0].st.timer_start = 0;
    m->clock.now = BIT(50);
    m->pit.st.edge = 0;
    save(m, &b);
    refuses(to, b.at, b.size, "stood still");
    m->lapic[0].st.lvt[LAPIC_LVT_TIMER] |= 1 << 16; // masked: it fires nothing
    save(m, &b);
    load(to, &b);
    m->pit.st.edge = 5;
    save(m, &b);
    refuses(to, b.at, b.size, "counter 0 has stood still");
    state_bytes_free(&b);
    destroy(m), destroy(to);
}

// Into a machine that was in use: its memory, its code and its end are forgotten, and who hashes it is told.
static void into_a_machine_in_use(void **state)
{
    struct machine *m = ticking(0x80), *used = make(1);
    struct state_bytes b = {0};
    struct state_hash h = {0};
    machine_run(m, 5000);
    save(m, &b);
    START(used, 0x40, 0x40, 0x40, 0xEB, 0xFB); // other code in the same place
    machine_run(used, 5000);
    phys_write64(&used->phys, 0, 0x100000, 1);
    state_hash(&h, used);
    machine_request_end(used, MACHINE_RESET, 0, "a test");
    load(used, &b);
    assert_true(state_hash(&h, used) == hash_of(m));
    assert_int_equal(machine_run(used, 20000), MACHINE_RUN);
    assert_int_equal(machine_run(m, 20000), MACHINE_RUN);
    assert_true(state_hash(&h, used) == hash_of(m));
    state_hash_free(&h);
    state_bytes_free(&b);
    destroy(m), destroy(used);
}

// How many pages of the host's memory the machine's RAM takes.
static unsigned resident(const struct machine *m)
{
    u64 page = (u64)sysconf(_SC_PAGESIZE), n = m->phys.ram_size / page;
    unsigned char *map = malloc(n);
    unsigned k = 0;
    assert_int_equal(mincore(m->phys.ram, m->phys.ram_size, map), 0);
    for (u64 i = 0; i < n; i++) k += map[i] & 1;
    free(map);
    return k;
}

// RAM that was never written is not even read: that would take memory of the host.
static void what_was_never_written(void **state)
{
    const struct machine_config c = {.ram_size = 256 << 20, .cpus = 1};
    struct machine *m = make_as(c), *to = make_as(c);
    struct state_bytes b = {0};
    struct state_hash h = {0};
    madvise(m->phys.ram, c.ram_size, MADV_NOHUGEPAGE);
    madvise(to->phys.ram, c.ram_size, MADV_NOHUGEPAGE);
    phys_write64(&m->phys, 0, 0x100000, 1);
    phys_write64(&m->phys, 0, 0xFFFF000, 1);
    phys_write64(&m->phys, 0, 0x8000000, 1);
    phys_write64(&m->phys, 0, 0x8000000, 0); // written, and zeros
    unsigned before = resident(m), empty = resident(to);
    assert_true(before < 8 * 512); // large pages of the host, with what firmware wrote
    u64 x = hash_of(m);
    save(m, &b);
    assert_int_equal(resident(m), before);
    assert_true(state_hash(&h, to) != x);
    load(to, &b);
    assert_true(resident(to) <= empty + before);
    assert_true(state_hash(&h, to) == x && hash_of(to) == x);
    phys_write64(&to->phys, 0, 0x4000000, 1); // of a page that neither had
    assert_true(state_hash(&h, to) != x);
    load(to, &b);
    assert_true(state_hash(&h, to) == x);
    assert_true(phys_read64(&to->phys, 0, 0x4000000) == 0);
    state_hash_free(&h);
    state_bytes_free(&b);
    destroy(m), destroy(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_and_halts),
        cmocka_unit_test(tsc_deadlines),
        cmocka_unit_test(two_processors),
        cmocka_unit_test(derived_state_is_made_anew),
        cmocka_unit_test(lines_that_are_up_stay_up),
        cmocka_unit_test(ranges_that_overlap),
        cmocka_unit_test(each_has_a_version),
        cmocka_unit_test(no_pointers),
        cmocka_unit_test(what_is_refused),
        cmocka_unit_test(what_cannot_be),
        cmocka_unit_test(timers_do_not_stand_still),
        cmocka_unit_test(into_a_machine_in_use),
        cmocka_unit_test(what_was_never_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

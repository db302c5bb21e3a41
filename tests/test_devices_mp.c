// The MP tables, read as an operating system reads them. Source: MultiProcessor Specification 1.4, chapter 4;
// which interrupts there are, and where they go: as SeaBIOS writes it for QEMU's pc. Second source: Linux
// with acpi=off (tests/boot_debian).
#include "tests/device_test.h"
#include "devices/machine.h"

#define CPUS 3

static u8 sum(struct machine *m, paddr at, u32 n)
{
    u8 s = 0;
    while (n--) s = (u8)(s + phys_read8(&m->phys, 0, at++));
    return s;
}

static bool is(struct machine *m, paddr at, const char *text)
{
    for (; *text; text++)
        if (phys_read8(&m->phys, 0, at++) != (u8)*text) return false;
    return true;
}

static paddr floating_pointer(struct machine *m)
{
    for (paddr at = 0xF0000; at < 0x100000; at += 16)
        if (is(m, at, "_MP_") && !sum(m, at, 16)) return at;
    fail();
    return 0;
}

static struct machine *make(unsigned cpus)
{
    struct machine_config c = {.ram_size = 16 << 20, .cpus = cpus};
    const char *why;
    struct machine *m = calloc(1, sizeof *m);
    cpu_features_max(&c.features);
    assert_true(machine_init(m, &c, &why));
    return m;
}

static void all_entries(void **state)
{
    static const u8 size[] = {20, 8, 8, 8, 8};
    struct machine *m = make(CPUS);
    struct phys *p = &m->phys;
    paddr f = floating_pointer(m);
    assert_int_equal(phys_read8(p, 0, f + 8), 1);   // a paragraph
    assert_int_equal(phys_read8(p, 0, f + 9), 4);   // 1.4
    assert_int_equal(phys_read32(p, 0, f + 11), 0); // a configuration table; virtual wire mode
    paddr t = phys_read32(p, 0, f + 4), at = t + 44;
    assert_true(is(m, t, "PCMP"));
    for (unsigned i = 40; i < 44; i++) assert_int_equal(m->phys.ram[t + i], 0); // no extended table; reserved
    u16 length = phys_read16(p, 0, t + 4), entries = phys_read16(p, 0, t + 34);
    assert_int_equal(sum(m, t, length), 0);
    assert_int_equal(phys_read8(p, 0, t + 6), 4);
    assert_int_equal(phys_read32(p, 0, t + 36), 0xFEE00000);
    u8 cpus = 0, buses = 0, last = 0, to[2][256];
    bool extint = false, nmi = false, ioapic = false;
    memset(to, 0xEE, sizeof to);
    for (u16 i = 0; i < entries; i++) {
        u8 type = phys_read8(p, 0, at), b[20];
        assert_true(type <= 4 && type >= last); // in ascending order of their types
        last = type;
        phys_read(p, 0, at, b, size[type]);
        switch (type) {
        case 0:
            assert_int_equal(b[1], cpus);
            assert_int_equal(b[2], 0x14); // an APIC of today: below 14h, systems assign I/O APIC IDs anew
            assert_int_equal(b[3], cpus++ == 0 ? 3 : 1);
            assert_int_equal(phys_read32(p, 0, at + 4) >> 8 & 15, 6); // the family
            assert_true(phys_read32(p, 0, at + 8) & 1u << 9);         // an APIC
            break;
        case 1:
            assert_int_equal(b[1], buses);
            assert_true(is(m, at + 2, buses++ ? "ISA   " : "PCI   "));
            break;
        case 2:
            assert_int_equal(phys_read32(p, 0, at + 4), 0xFEC00000);
            assert_int_equal(b[1], m->ioapic.st.id);
            assert_int_equal(b[3], 1);
            ioapic = true;
            break;
        case 3:
            assert_true(b[1] == 0 && b[4] < 2 && b[6] == 0);
            // ISA: as the bus has it; PCI: level by the bus, active high by the board
            assert_int_equal(b[2] | b[3] << 8, b[4] ? 0 : 1);
            assert_int_equal(to[b[4]][b[5]], 0xEE);
            to[b[4]][b[5]] = b[7];
            break;
        case 4:
            assert_true(b[4] == 1 && b[5] == 0);
            if (b[1] == 3 && b[6] == 0 && b[7] == 0) extint = true;
            if (b[1] == 1 && b[6] == 0xFF && b[7] == 1) nmi = true;
        }
        at += size[type];
    }
    assert_int_equal(at, t + length);
    assert_int_equal(cpus, CPUS);
    assert_int_equal(buses, 2);
    assert_true(extint && nmi && ioapic);
    for (unsigned i = 0; i < 256; i++) {
        bool pci = i == 2 || i == 5 || (i >= 9 && i <= 11);
        assert_int_equal(to[1][i], i > 15 || pci ? 0xEE : i == 0 ? 2 : i);
        assert_int_equal(to[0][i], i == 4 ? 9 : 0xEE); // power management: device 1, INTA
    }
    machine_free(m);
    free(m);
}

static void fit_for_any_number(void **state)
{
    for (unsigned cpus = 1; cpus <= MACHINE_CPUS_MAX; cpus++) {
        struct machine *m = make(cpus);
        paddr t = phys_read32(&m->phys, 0, floating_pointer(m) + 4);
        u16 n = phys_read16(&m->phys, 0, t + 4);
        assert_int_equal(sum(m, t, n), 0);
        assert_true(t + n <= 0xFFE00);
        assert_true(is(m, ACPI_RSDP_BIOS, "RSD PTR "));
        machine_free(m);
        free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_entries), cmocka_unit_test(fit_for_any_number)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

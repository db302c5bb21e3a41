// ACPI tables in guest memory, read as an operating system reads them. Offsets: ACPI specification 6.4,
// chapter 5 (5.2.5.3 RSDP, 5.2.7 RSDT, 5.2.8 XSDT, 5.2.9 FADT, 5.2.10 FACS, 5.2.12 MADT), IA-PC HPET
// specification 3.2.4, Microsoft's SPCR (revision 2) and DBG2. Second source: ACPICA's disassembler.
#include <stdio.h>
#include <unistd.h>

#include "tests/device_test.h"
#include "devices/acpi_tables.h"

#define RAM (256ull << 20)

static const u32 apic_ids[] = {0, 1, 2};

static u8 sum(struct phys *p, paddr at, u32 n)
{
    u8 s = 0;
    for (u32 i = 0; i < n; i++) s = (u8)(s + phys_read8(p, 0, at + i));
    return s;
}
static bool is(struct phys *p, paddr at, const char *signature)
{
    char s[32];
    assert_true(strlen(signature) <= sizeof s);
    phys_read(p, 0, at, s, strlen(signature));
    return !memcmp(s, signature, strlen(signature));
}
static paddr find(struct phys *p, paddr xsdt, const char *signature)
{
    u32 n = (phys_read32(p, 0, xsdt + 4) - 36) / 8;
    for (u32 i = 0; i < n; i++) {
        paddr at = phys_read64(p, 0, xsdt + 36 + 8 * i);
        if (!is(p, at, signature)) continue;
        assert_int_equal(sum(p, at, phys_read32(p, 0, at + 4)), 0);
        return at;
    }
    fail_msg("no %s", signature);
    return 0;
}

static int setup(void **state)
{
    struct phys *p = calloc(1, sizeof *p);
    const char *why;
    if (!phys_init(p, RAM, &why)) return -1;
    *state = p;
    return 0;
}
static int teardown(void **state)
{
    phys_free(*state);
    free(*state);
    return 0;
}

static void rsdp_and_roots(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 1, true);
    paddr rsdp = 0;
    // as without a boot protocol that names it (5.2.5.1)
    for (paddr a = 0xE0000; a < 0x100000 && !rsdp; a += 16)
        if (is(p, a, "RSD PTR ") && !sum(p, a, 20)) rsdp = a;
    assert_int_equal(rsdp, ACPI_RSDP_BIOS);
    assert_true(is(p, l.rsdp, "RSD PTR "));
    assert_int_equal(l.rsdp & 15, 0);
    for (unsigned i = 0; i < 36; i++)
        assert_int_equal(phys_read8(p, 0, l.rsdp + i), phys_read8(p, 0, rsdp + i));
    assert_int_equal(phys_read8(p, 0, rsdp + 15), 2);
    assert_int_equal(phys_read32(p, 0, rsdp + 20), 36);
    assert_int_equal(sum(p, rsdp, 36), 0);
    paddr rsdt = phys_read32(p, 0, rsdp + 16), xsdt = phys_read64(p, 0, rsdp + 24);
    assert_true(is(p, rsdt, "RSDT") && is(p, xsdt, "XSDT"));
    u32 n = (phys_read32(p, 0, xsdt + 4) - 36) / 8;
    assert_int_equal((phys_read32(p, 0, rsdt + 4) - 36) / 4, n);
    for (u32 i = 0; i < n; i++)
        assert_int_equal(phys_read32(p, 0, rsdt + 36 + 4 * i), phys_read64(p, 0, xsdt + 36 + 8 * i));
    assert_int_equal(sum(p, rsdt, phys_read32(p, 0, rsdt + 4)), 0);
    assert_int_equal(sum(p, xsdt, phys_read32(p, 0, xsdt + 4)), 0);
}

static void fadt_names_the_power_management_block(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 1, true);
    paddr f = find(p, phys_read64(p, 0, l.rsdp + 24), "FACP");
    // SMI_CMD, ACPI_ENABLE, ACPI_DISABLE; no S4BIOS_REQ, PSTATE_CNT: nothing takes them
    static const u8 at_48[] = {0xB2, 0, 0, 0, 0xF1, 0xF0, 0, 0};
    // GPE1_BLK; lengths of the blocks; GPE1_BASE, CST_CNT; no C2, no C3; no flush, no duty; no alarm
    // registers; century
    static const u8 at_84[] = {0,    0,    0,    0, 4, 2, 0, 4, 4, 0, 0, 0,   0xFF,
                               0x0F, 0xFF, 0x0F, 0, 0, 0, 0, 0, 0, 0, 0, 0x32};
    for (unsigned i = 0; i < ARRAY_LEN(at_48); i++) assert_int_equal(phys_read8(p, 0, f + 48 + i), at_48[i]);
    for (unsigned i = 0; i < ARRAY_LEN(at_84); i++) assert_int_equal(phys_read8(p, 0, f + 84 + i), at_84[i]);
    paddr facs = phys_read32(p, 0, f + 36), dsdt = phys_read32(p, 0, f + 40);
    assert_true(is(p, facs, "FACS") && is(p, dsdt, "DSDT"));
    assert_int_equal(facs & 63, 0);
    assert_true(facs >= l.nvs && facs < l.nvs + ACPI_NVS_SIZE);
    assert_int_equal(phys_read32(p, 0, facs + 4), 64);
    assert_int_equal(sum(p, dsdt, phys_read32(p, 0, dsdt + 4)), 0);
    assert_int_equal(phys_read16(p, 0, f + 46), 9);     // SCI_INT
    assert_int_equal(phys_read32(p, 0, f + 48), 0xB2);  // SMI_CMD
    assert_int_equal(phys_read8(p, 0, f + 52), 0xF1);   // ACPI_ENABLE
    assert_int_equal(phys_read8(p, 0, f + 53), 0xF0);   // ACPI_DISABLE
    assert_int_equal(phys_read32(p, 0, f + 56), 0x600); // PM1a_EVT_BLK
    assert_int_equal(phys_read32(p, 0, f + 64), 0x604); // PM1a_CNT_BLK
    assert_int_equal(phys_read32(p, 0, f + 76), 0x608); // PM_TMR_BLK
    assert_int_equal(phys_read8(p, 0, f + 88), 4);
    assert_int_equal(phys_read8(p, 0, f + 89), 2);
    assert_int_equal(phys_read8(p, 0, f + 91), 4);
    assert_int_equal(phys_read8(p, 0, f + 108), 0x32);  // CENTURY
    assert_true(phys_read32(p, 0, f + 112) & 1u << 10); // RESET_REG_SUP
    assert_false(phys_read32(p, 0, f + 112) & 1u << 8); // TMR_VAL_EXT: the timer has 24 bits
    assert_int_equal(phys_read8(p, 0, f + 116), 1);     // RESET_REG: I/O ...
    assert_int_equal(phys_read64(p, 0, f + 120), 0xCF9);
    assert_int_equal(phys_read8(p, 0, f + 128) & 6, 6); // RESET_VALUE makes the edge
    assert_int_equal(phys_read64(p, 0, f + 140), dsdt); // X_DSDT
    assert_int_equal(phys_read64(p, 0, f + 148 + 4), 0x600);
    assert_int_equal(phys_read64(p, 0, f + 172 + 4), 0x604);
    assert_int_equal(phys_read64(p, 0, f + 208 + 4), 0x608);
}

static void madt_lists_processors_and_overrides(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 3, true);
    paddr m = find(p, phys_read64(p, 0, l.rsdp + 24), "APIC");
    assert_int_equal(phys_read32(p, 0, m + 36), 0xFEE00000);
    assert_int_equal(phys_read32(p, 0, m + 40), 1); // an 8259 pair, too
    unsigned cpus = 0, ioapics = 0, nmis = 0, timer_to = 0, sci_flags = 0;
    paddr end = m + phys_read32(p, 0, m + 4);
    for (paddr e = m + 44; e < end; e += phys_read8(p, 0, e + 1)) {
        switch (phys_read8(p, 0, e)) {
        case 0:
            assert_int_equal(phys_read8(p, 0, e + 3), cpus++);
            assert_int_equal(phys_read32(p, 0, e + 4), 1);
            break;
        case 1:
            ioapics++;
            assert_int_equal(phys_read32(p, 0, e + 4), 0xFEC00000);
            assert_int_equal(phys_read32(p, 0, e + 8), 0);
            break;
        case 2:
            if (phys_read8(p, 0, e + 3) == 0) timer_to = phys_read32(p, 0, e + 4);
            if (phys_read8(p, 0, e + 3) == 9) sci_flags = phys_read16(p, 0, e + 8);
            break;
        case 4:
            nmis++;
            assert_int_equal(phys_read8(p, 0, e + 2), 0xFF);
            assert_int_equal(phys_read8(p, 0, e + 5), 1);
            break;
        default: fail_msg("entry type %u", phys_read8(p, 0, e));
        }
    }
    assert_int_equal(cpus, 3);
    assert_int_equal(ioapics, 1);
    assert_int_equal(nmis, 1);
    assert_int_equal(timer_to, 2);
    assert_int_equal(sci_flags, 0x0D); // level, active high
}

// IDs for which the local APIC's entry has no room (ACPI 6.4, 5.2.12.12 and 5.2.12.13): its own kind, and
// their NMI.
static void madt_has_x2apics(void **state)
{
    struct phys *p = *state;
    static const u32 ids[] = {0, 254, 255, 300, 70000};
    struct acpi_layout l = acpi_build(p, ids, ARRAY_LEN(ids), true);
    paddr m = find(p, phys_read64(p, 0, l.rsdp + 24), "APIC");
    unsigned seen = 0, nmis = 0;
    paddr end = m + phys_read32(p, 0, m + 4);
    for (paddr e = m + 44; e < end; e += phys_read8(p, 0, e + 1)) {
        switch (phys_read8(p, 0, e)) {
        case 0:
            assert_in_range(seen, 0, 1);
            assert_int_equal(phys_read8(p, 0, e + 1), 8);
            assert_int_equal(phys_read8(p, 0, e + 2), seen);
            assert_int_equal(phys_read8(p, 0, e + 3), ids[seen++]);
            assert_int_equal(phys_read32(p, 0, e + 4), 1);
            break;
        case 9:
            assert_in_range(seen, 2, 4);
            assert_int_equal(phys_read8(p, 0, e + 1), 16);
            assert_int_equal(phys_read32(p, 0, e + 4), ids[seen]);
            assert_int_equal(phys_read32(p, 0, e + 8), 1);
            assert_int_equal(phys_read32(p, 0, e + 12), seen++); // the processor's UID
            break;
        case 10:
            nmis++;
            assert_int_equal(phys_read8(p, 0, e + 1), 12);
            assert_int_equal(phys_read32(p, 0, e + 4), UINT32_MAX); // all
            assert_int_equal(phys_read8(p, 0, e + 8), 1);           // LINT1
            break;
        default: break;
        }
    }
    assert_int_equal(seen, ARRAY_LEN(ids));
    assert_int_equal(nmis, 1);
}

static void hpet_table(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 1, true);
    paddr h = find(p, phys_read64(p, 0, l.rsdp + 24), "HPET");
    assert_int_equal(phys_read32(p, 0, h + 4), 56);
    assert_int_equal(phys_read32(p, 0, h + 36), 0x8086A201);
    assert_int_equal(phys_read64(p, 0, h + 44), 0xFED00000);
}

static void console_is_com1(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 1, true);
    paddr s = find(p, phys_read64(p, 0, l.rsdp + 24), "SPCR");
    assert_int_equal(phys_read32(p, 0, s + 4), 80);
    assert_int_equal(phys_read8(p, 0, s + 36), 0); // a full 16550
    assert_int_equal(phys_read8(p, 0, s + 40), 1); // at a port
    assert_int_equal(phys_read64(p, 0, s + 44), 0x3F8);
    assert_int_equal(phys_read8(p, 0, s + 52), 3); // through the 8259s or the I/O APIC
    assert_int_equal(phys_read8(p, 0, s + 53), 4);
    assert_int_equal(phys_read32(p, 0, s + 54), 4);
    assert_int_equal(phys_read8(p, 0, s + 58), 7);           // 115,200 baud
    assert_int_equal(phys_read32(p, 0, s + 64), 0xFFFFFFFF); // no PCI device

    paddr d = find(p, phys_read64(p, 0, l.rsdp + 24), "DBG2");
    assert_int_equal(phys_read32(p, 0, d + 40), 1);
    paddr i = d + phys_read32(p, 0, d + 36);
    assert_int_equal(i + phys_read16(p, 0, i + 1), d + phys_read32(p, 0, d + 4));
    assert_int_equal(phys_read8(p, 0, i + 3), 1);
    assert_true(is(p, i + phys_read16(p, 0, i + 6), "\\_SB.PCI0.ISA.COM1"));
    assert_int_equal(phys_read8(p, 0, i + phys_read16(p, 0, i + 6) + phys_read16(p, 0, i + 4) - 1), 0);
    assert_int_equal(phys_read16(p, 0, i + 12), 0x8000); // serial
    assert_int_equal(phys_read16(p, 0, i + 14), 0);      // a 16550
    paddr r = i + phys_read16(p, 0, i + 18);
    assert_int_equal(phys_read8(p, 0, r), 1);
    assert_int_equal(phys_read64(p, 0, r + 4), 0x3F8);
    assert_int_equal(phys_read32(p, 0, i + phys_read16(p, 0, i + 20)), 8);
}

// What ACPICA reads in each table without a word of complaint.
static void tables_disassemble(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 2, true);
    if (system("iasl -v >/dev/null 2>&1")) skip();
    char folder[] = "/tmp/matryoshka-acpi.XXXXXX", path[64], command[256];
    assert_non_null(mkdtemp(folder));
    paddr xsdt = phys_read64(p, 0, l.rsdp + 24);
    u32 n = (phys_read32(p, 0, xsdt + 4) - 36) / 8;
    assert_int_equal(n, 5);
    for (u32 i = 0; i < n; i++) {
        static u8 bytes[4096];
        paddr at = phys_read64(p, 0, xsdt + 36 + 8 * i);
        u32 size = phys_read32(p, 0, at + 4);
        assert_true(size <= sizeof bytes);
        phys_read(p, 0, at, bytes, size);
        snprintf(path, sizeof path, "%s/%.4s.dat", folder, (char *)bytes);
        FILE *f = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, size, f), size);
        fclose(f);
        snprintf(command, sizeof command,
                 "cd %s && iasl -d %s >log 2>&1 && ! grep -iE 'error|warning|invalid' log *.dsl", folder,
                 path);
        if (system(command)) fail_msg("%.4s does not disassemble", (char *)bytes);
    }
    snprintf(command, sizeof command,
             "cd %s && grep -q 'Namepath.*COM1' DBG2.dsl && grep -q 'Baud Rate : 07' SPCR.dsl", folder);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void memory_map_is_sorted_and_types_the_tables(void **state)
{
    struct phys *p = *state;
    struct acpi_layout l = acpi_build(p, apic_ids, 1, true);
    struct e820_entry e[E820_MAX];
    unsigned n = acpi_e820(p, true, e);
    u64 ram = 0, end = 0;
    bool data = false, nvs = false;
    for (unsigned i = 0; i < n; i++) {
        assert_true(e[i].base >= end);
        end = e[i].base + e[i].size;
        if (e[i].type == E820_RAM) ram += e[i].size;
        if (e[i].type == E820_ACPI && e[i].base == l.tables && l.rsdp < end) data = true;
        if (e[i].type == E820_NVS && e[i].base == l.nvs) nvs = true;
    }
    assert_true(data && nvs);
    assert_int_equal(end, RAM);
    assert_int_equal(ram, RAM - 0x100000 + 0x9FC00 - ACPI_TABLES_SIZE - ACPI_NVS_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rsdp_and_roots, setup, teardown),
        cmocka_unit_test_setup_teardown(fadt_names_the_power_management_block, setup, teardown),
        cmocka_unit_test_setup_teardown(madt_lists_processors_and_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(madt_has_x2apics, setup, teardown),
        cmocka_unit_test_setup_teardown(hpet_table, setup, teardown),
        cmocka_unit_test_setup_teardown(console_is_com1, setup, teardown),
        cmocka_unit_test_setup_teardown(tables_disassemble, setup, teardown),
        cmocka_unit_test_setup_teardown(memory_map_is_sorted_and_types_the_tables, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

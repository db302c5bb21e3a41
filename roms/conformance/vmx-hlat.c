/*
 * The tertiary controls of address translation: EPT paging-write control, guest-paging verification
 * (SDM 31.3.3.2), HLAT paging (SDM 5.5.1).
 */
#include "vmx-playground.h"

#define PAGING_WRITE (1ul << 58)
#define VERIFY       (1ul << 57)
#define RESTART      (1ul << 11)

CODE(i_read, "mov (%rdi), %eax");
CODE(i_write, "mov %eax, (%rdi)");

/* The EPT entry of the guest's table number n, with these rights. */
static void table_rights(unsigned n, uint64_t rights)
{
    uint64_t at = (uint64_t)(guest_tables + 512 * n);
    *ept_entry(v.ept, at, 1) = at | EPT_TYPE_WB | rights;
}

static void controlled(const void *code, uint64_t proc3)
{
    start(code);
    own_tables(PTE_W);
    vmx_set_proc3(proc3);
}

static void paging_writes(void)
{
    if (!vmx_has_tertiary(PROC3_EPT_PAGING_WRITE_CONTROL)) {
        skip_one("EPT paging-write control", "not offered by this processor");
        return;
    }
    controlled(i_read, PROC3_EPT_PAGING_WRITE_CONTROL);
    table_rights(2, EPT_R | PAGING_WRITE);
    done(&v, "violation-paging write: bit 58 lets accessed flags be set in a page without bit 1");
    ok(guest_tables[1024 + ((uint64_t)i_read >> 21)] & PTE_A, "  and they are");
    controlled(i_read, PROC3_EPT_PAGING_WRITE_CONTROL);
    table_rights(2, EPT_R);
    exit_with(EXIT_REASON_EPT_VIOLATION, W | EPT_R << 3 | EPT_QUALIFICATION_LINEAR_VALID, 0x1fe,
              "violation-paging write: without bit 58 they cannot");
    controlled(i_read, 0);
    table_rights(2, EPT_R | PAGING_WRITE);
    exit_with(EXIT_REASON_EPT_VIOLATION, W | EPT_R << 3 | EPT_QUALIFICATION_LINEAR_VALID, 0x1fe,
              "violation-paging write: with the control 0, bit 58 is ignored");
    controlled(i_write, PROC3_EPT_PAGING_WRITE_CONTROL);
    set_entry(leaf(EPT_R | PAGING_WRITE));
    exit_with(EXIT_REASON_EPT_VIOLATION, W | EPT_R << 3 | FINAL, 0x1ff,
              "violation-paging write: it is no right for the guest's own writes");
}

static void verification(void)
{
    const uint64_t both = PROC3_EPT_PAGING_WRITE_CONTROL | PROC3_GUEST_PAGING_VERIFICATION;
    if (!vmx_has_tertiary(both)) {
        skip_one("guest-paging verification", "not offered by this processor");
        return;
    }
    for (unsigned missing = 0; missing < 4; missing++) {
        static const char *const names[] = {
            "violation-guest-paging verification: the root's page without bit 58", "  the next table's page",
            "  the last table's page", "violation-guest-paging verification: all of them have it"};
        controlled(i_read, both);
        for (unsigned n = 0; n < 3; n++) table_rights(n, EPT_RWX | (n == missing ? 0 : PAGING_WRITE));
        set_entry(leaf(EPT_RWX | VERIFY));
        if (missing == 3)
            done(&v, names[missing]);
        else
            exit_with(EXIT_REASON_EPT_VIOLATION, R | EPT_RWX << 3 | FINAL | 1u << 15, 0x81ff, names[missing]);
    }
    controlled(i_read, both);
    done(&v, "violation-guest-paging verification: only where bit 57 asks for it");
    controlled(i_read, PROC3_GUEST_PAGING_VERIFICATION);
    set_entry(leaf(EPT_RWX | VERIFY));
    done(&v, "violation-guest-paging verification: only with EPT paging-write control");
}

static uint64_t *hlat_tables; /* four: PML4, PDPT, PD, PT */

/* HLAT leads the playground's first page to its second; all else restarts. */
static void hlat(const void *code, uint64_t pte)
{
    controlled(code, PROC3_ENABLE_HLAT);
    memset(hlat_tables, 0, 4 * 4096);
    for (unsigned i = 0; i < 4 * 512; i++) hlat_tables[i] = RESTART | PTE_P;
    for (unsigned n = 0; n < 3; n++)
        hlat_tables[512 * n + (GPA >> (39 - 9 * n) & 511)] =
            (uint64_t)(hlat_tables + 512 * (n + 1)) | PTE_P | PTE_W;
    hlat_tables[1536 + (GPA >> 12 & 511)] = pte;
    vmwrite(HLATP, (uint64_t)hlat_tables);
    vmwrite(HLAT_PREFIX_SIZE, 0);
    *(uint32_t *)playground = 0x1111;
    *(uint32_t *)(playground + 4096) = 0x2222;
}

static void hlat_paging(void)
{
    if (!vmx_has_tertiary(PROC3_ENABLE_HLAT)) {
        skip_one("HLAT", "not offered by this processor");
        return;
    }
    uint64_t other = (GPA + 4096) | PTE_P | PTE_W;
    hlat(i_read, other);
    done(&v, "HLAT-use: with prefix size 0, every address");
    is((uint32_t)v.regs.gpr[RAX], 0x2222, "  the page that the HLATP leads to");
    hlat(i_read, other);
    vmwrite(HLAT_PREFIX_SIZE, 1);
    done(&v, "HLAT-use: with prefix size 1, not an address without bit 63");
    is((uint32_t)v.regs.gpr[RAX], 0x1111, "  the page that CR3 leads to");
    hlat(i_read, RESTART | PTE_P);
    done(&v, "HLAT-restart");
    is((uint32_t)v.regs.gpr[RAX], 0x1111, "  is ordinary paging");
    hlat(i_write, (GPA + 4096) | PTE_P);
    vmwrite(EXCEPTION_BITMAP, 1u << 14);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "HLAT: a write to a page that HLAT makes read-only");
    is(vmread(EXITING_EVENT_ERROR_CODE), 3, "  error code");
    hlat(i_read, 0);
    vmwrite(EXCEPTION_BITMAP, 1u << 14);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "HLAT: an entry that is not present");
    is(vmread(EXITING_EVENT_ERROR_CODE), 1u << 7, "  error code: bit 7");
    hlat(i_read, other);
    vmx_set_proc3(0);
    vmwrite(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, 0);
    done(&v, "HLAT: with the control 0");
    is((uint32_t)v.regs.gpr[RAX], 0x1111, "  ordinary paging");
}

int rom_main(void)
{
    if (!vmx_test_begin("EPT paging-write control, guest-paging verification, HLAT paging")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_secondary(PROC2_ENABLE_EPT) || !vmx_has_tertiary(0)) {
        skip_one("tertiary controls", "not offered by this processor");
        return tap_end();
    }
    playground_init();
    hlat_tables = page_alloc(4);
    paging_writes();
    verification();
    hlat_paging();
    return tap_end();
}

/*
 * Page-modification logging: what is logged in which order, the index and its end, the flags, events and
 * IRET on the way (SDM 31.3.6, 30.2.1, 30.2.3). The names are those of the facts: PML-order and so on.
 *
 * Bochs 2.7 fails at: bits 11:0 of an entry (it logs the address; SDM 31.3.6: they are 0); RF in the saved
 * flags (SDM 30.3.3); the index where no flag is to be set, a violation, and what comes on the way of an
 * event or of an IRET (it looks at the index in every walk, so that the first fetch exits; SDM 31.3.6).
 */
#include "vmx-playground.h"

CODE(i_write, "mov %eax, (%rdi)");
CODE(i_write_two, "mov %eax, 8(%rdi); mov %eax, 16(%rdi); mov %eax, 4096(%rdi)");
CODE(i_read, "mov (%rdi), %eax");
CODE(i_ud2, "ud2");
CODE(i_iret, "iretq");

static uint64_t *log_page;

static void logging(const void *code, uint16_t index)
{
    start(code);
    vmx_set_proc2(PROC2_ENABLE_PML);
    vmwrite(EPTP, vmread(EPTP) | 1u << 6);
    vmwrite(PML_ADDRESS, (uint64_t)log_page);
    vmwrite(PML_INDEX, index);
    memset(log_page, 0, 4096);
}

/* All flags of all pages but the playground's two are set, so that nothing else is logged. */
static void all_dirty(void)
{
    for (uint64_t at = 0; at < 16 << 20; at += 4096) *ept_entry(v.ept, at, 1) |= EPT_A | EPT_D;
    for (uint64_t at = 0; at < 64 << 20; at += 2 << 20) *ept_entry(v.ept, at, 2) |= EPT_A | EPT_D;
    *ept_entry(v.ept, 0, 3) |= EPT_A;
    *ept_entry(v.ept, 0, 4) |= EPT_A;
    set_entry(leaf(EPT_RWX));
    *ept_entry(v.ept, GPA + 4096, 1) = (GPA + 4096) | EPT_TYPE_WB | EPT_RWX;
}

static uint64_t flags(unsigned page) { return *ept_entry(v.ept, GPA + 4096 * page, 1) & (EPT_A | EPT_D); }

static void order(void)
{
    logging(i_write_two, 511);
    all_dirty();
    done(&v, "PML: three writes to two pages");
    is(vmread(PML_INDEX), 509, "PML-index: a decrement for each entry");
    is(log_page[511], GPA, "PML-log: the first page, bits 11:0 cleared");
    is(log_page[510], GPA + 4096, "PML-log: the second page");
    is(log_page[509], 0, "PML-log: nothing more");
    is(flags(0), EPT_A | EPT_D, "  its dirty flag is set");

    logging(i_read, 511);
    all_dirty();
    done(&v, "PML: a read");
    is(flags(0), EPT_A, "  sets the accessed flag");
    is(vmread(PML_INDEX), 511, "PML-A-only: nothing is logged");

    logging(i_write, 511);
    all_dirty();
    set_entry(leaf(EPT_RWX | EPT_A | EPT_D));
    done(&v, "PML: a write to a page that is dirty");
    is(vmread(PML_INDEX), 511, "  is not logged");

    logging(i_read, 511);
    all_dirty();
    own_tables(PTE_W);
    for (unsigned i = 0; i < 3; i++) *ept_entry(v.ept, (uint64_t)(guest_tables + 512 * i), 1) &= ~EPT_D;
    done(&v, "PML: a guest walk");
    is(log_page[511], (uint64_t)guest_tables, "PML-walk: the root is logged first");
    is(log_page[510], (uint64_t)(guest_tables + 512), "  then the table below");
    is(log_page[509], (uint64_t)(guest_tables + 1024), "  and the next");
    is(vmread(PML_INDEX), 508, "  once each");

    logging(i_write, 511);
    all_dirty();
    vmwrite(EPTP, vmread(EPTP) & ~(uint64_t)(1u << 6));
    vmwrite(PML_INDEX, 0xffff);
    done(&v, "PML without EPTP[6] does nothing");
    is(flags(0), 0, "  not even with a full log");
}

static void full(void)
{
    logging(i_write_two, 0);
    all_dirty();
    exit_is(&v, EXIT_REASON_PAGE_MODIFICATION_LOG_FULL, "PML-check: entry 0 was the last one");
    is(vmread(PML_INDEX), 0xffff, "  the index went round to FFFFH");
    is(log_page[0], GPA, "  entry 0 was written");
    is(flags(1), 0, "  no flag of the second page is set");
    is(vmread(EXIT_QUALIFICATION) & 1u << 12, 0, "  qualification bit 12 is 0");
    ok(vmread(GUEST_RFLAGS) & RFLAGS_RF, "  RF is set in the saved flags");
    vmwrite(PML_INDEX, 511);
    done(&v, "  with room the guest goes on");
    is(log_page[511], GPA + 4096, "  and the write is logged");

    logging(i_read, 512);
    all_dirty();
    exit_is(&v, EXIT_REASON_PAGE_MODIFICATION_LOG_FULL, "PML-A-only: an accessed flag wants room too");
    is(flags(0), 0, "  and is not set");

    logging(i_write, 0xffff);
    all_dirty();
    set_entry(leaf(EPT_RWX | EPT_A | EPT_D));
    done(&v, "PML-check: no flag to set, no look at the index");

    logging(i_write, 0xffff);
    all_dirty();
    set_entry(leaf(EPT_R));
    exit_with(EXIT_REASON_EPT_VIOLATION, W | EPT_R << 3 | FINAL, 0x1ff, "PML: an EPT violation comes first");

    logging(i_ud2, 0xffff);
    all_dirty();
    vmwrite(GUEST_RSP, GPA + 0x800);
    exit_is(&v, EXIT_REASON_PAGE_MODIFICATION_LOG_FULL, "PML: full while #UD is delivered");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6,
       "  original event: #UD");
    is(vmread(GUEST_RIP), (uint64_t)i_ud2, "  RIP has not moved");

    logging(i_iret, 0xffff);
    all_dirty();
    vmwrite(GUEST_RSP, GPA + 0x800);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, 1u << 3);
    exit_is(&v, EXIT_REASON_PAGE_MODIFICATION_LOG_FULL, "PML: full in an IRET");
    is(vmread(EXIT_QUALIFICATION) & 1u << 12, 1u << 12, "  bit 12: NMI unblocking due to IRET");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE) & 1u << 3, 0, "  NMIs are not blocked any more");
}

int rom_main(void)
{
    if (!vmx_test_begin("page-modification logging")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_ENABLE_PML)) {
        skip_one("PML", "not offered by this processor");
        return tap_end();
    }
    playground_init();
    log_page = page_alloc(1);
    order();
    full();
    return tap_end();
}

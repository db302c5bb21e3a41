/*
 * Sub-page write permissions: the vector of a page, which writes are eligible, misses and misconfigurations
 * (SDM 31.3.4).
 */
#include "vmx-playground.h"

#define EXIT_REASON_SPP 66

CODE(i_write, "mov %eax, (%rdi)");
CODE(i_two, "mov %eax, (%rdi); mov %eax, 128(%rdi)");
CODE(i_read, "mov (%rdi), %eax");
CODE(i_lock, "lock incl (%rdi)");
CODE(i_ud2, "ud2");

static uint64_t *table; /* four levels, a page each */

static uint64_t *slot(unsigned level) { return &table[512 * (3 - level) + (GPA >> (12 + 9 * level) & 511)]; }

static void permitting(const void *code, uint64_t vector)
{
    start(code);
    vmx_set_proc2(PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
    vmwrite(SPPTP, (uint64_t)table);
    memset(table, 0, 4 * 4096);
    for (unsigned level = 3; level > 0; level--) *slot(level) = (uint64_t)(table + 512 * (4 - level)) | 1;
    *slot(0) = vector;
    set_entry(leaf(EPT_R | EPT_SUBPAGES));
}

static void denied(const char *name)
{
    exit_with(EXIT_REASON_EPT_VIOLATION, W | EPT_R << 3 | FINAL, 0x1fe, name);
}

static void vectors(void)
{
    bool good = true;
    for (unsigned s = 0; s < 32; s++) {
        permitting(i_write, 1ul << 2 * s);
        v.regs.gpr[RDI] = GPA + 128 * s + 0x7c;
        good &= vmx_run(&v).reason == EXIT_REASON_VMCALL;
    }
    ok(good, "SPP-vector: bit 2S lets sub-page S be written");
    good = true;
    for (unsigned s = 0; s < 32; s++) {
        permitting(i_write, 0x5555555555555555 & ~(1ul << 2 * s));
        v.regs.gpr[RDI] = GPA + 128 * s;
        good &= vmx_run(&v).reason == EXIT_REASON_EPT_VIOLATION &&
                vmread(GUEST_PHYSICAL_ADDRESS) == GPA + 128 * s;
    }
    ok(good, "SPP-vector: and no other bit does");
    permitting(i_two, 1);
    denied("SPP: the page is no more writable after a write that was granted");
    is(vmread(GUEST_PHYSICAL_ADDRESS), GPA + 128, "  at the second address");
    permitting(i_write, 1);
    v.regs.gpr[RDI] = GPA + 126;
    denied("SPP: a write to two sub-pages wants both");
    permitting(i_write, 5);
    v.regs.gpr[RDI] = GPA + 126;
    done(&v, "  and passes with both");
    permitting(i_read, 0);
    done(&v, "SPP: reads are not its business");
    permitting(i_lock, 0);
    denied("SPP: a read-modify-write is a write");
}

static void eligibility(void)
{
    permitting(i_write, 1);
    set_entry(leaf(EPT_R));
    denied("SPP-eligibility: bit 61 of the PTE");
    permitting(i_write, 0);
    set_entry(leaf(EPT_R | EPT_W | EPT_SUBPAGES));
    done(&v, "SPP-eligibility: not for a page that may be written");
    permitting(i_write, 1);
    set_entry(GPA | EPT_SUBPAGES);
    exit_with(EXIT_REASON_EPT_VIOLATION, W | FINAL, 0x1ff,
              "SPP-eligibility: not for an entry that is not there");
    permitting(i_write, 1);
    *ept_entry(v.ept, 0x2000000, 2) = 0x2000000 | EPT_TYPE_WB | EPT_LARGE | EPT_R | EPT_SUBPAGES;
    v.regs.gpr[RDI] = 0x2000000;
    denied("SPP-eligibility: not in a large page");
    permitting(i_read, 0x5555555555555555);
    own_tables(PTE_W);
    uint64_t pd = (uint64_t)(guest_tables + 1024);
    *ept_entry(v.ept, pd, 1) = pd | EPT_TYPE_WB | EPT_R | EPT_SUBPAGES;
    exit_with(EXIT_REASON_EPT_VIOLATION, W | EPT_R << 3 | EPT_QUALIFICATION_LINEAR_VALID, 0x1fe,
              "SPP-eligibility: never for the guest's accessed and dirty flags");
    start(i_write);
    set_entry(leaf(EPT_R | EPT_SUBPAGES));
    denied("SPP: with the control 0, bit 61 is ignored");
}

static void events(void)
{
    for (unsigned level = 1; level < 4; level++) {
        permitting(i_write, 1);
        *slot(level) &= ~1ul;
        v.regs.gpr[RDI] = GPA + 4;
        exit_with(EXIT_REASON_SPP, 1u << 11, 1u << 11 | 1u << 12,
                  "SPP-events: an entry that is not valid: a miss");
        ok(vmread(GUEST_PHYSICAL_ADDRESS) == GPA + 4 && vmread(GUEST_LINEAR_ADDRESS) == GPA + 4,
           "  guest-physical and guest-linear address");
        permitting(i_write, 1);
        *slot(level) |= 1u << 11;
        exit_with(EXIT_REASON_SPP, 0, 1u << 11, "SPP-events: bit 11 of an entry: a misconfiguration");
        permitting(i_write, 1);
        *slot(level) |= 1ul << maxphyaddr();
        exit_with(EXIT_REASON_SPP, 0, 1u << 11, "SPP-events: a bit at MAXPHYADDR");
    }
    permitting(i_write, 3);
    exit_with(EXIT_REASON_SPP, 0, 1u << 11, "SPP-events: an odd bit of the vector");
    ok(vmread(GUEST_RFLAGS) & RFLAGS_RF, "  RF is set in the saved flags");
    permitting(i_ud2, 2);
    vmwrite(GUEST_RSP, GPA + 0x800);
    exit_with(EXIT_REASON_SPP, 0, 1u << 11, "SPP-events: while #UD is delivered");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6,
       "  original event: #UD");
}

int rom_main(void)
{
    if (!vmx_test_begin("sub-page write permissions")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT)) {
        skip_one("SPP", "not offered by this processor");
        return tap_end();
    }
    playground_init();
    table = page_alloc(4);
    vectors();
    eligibility();
    events();
    return tap_end();
}

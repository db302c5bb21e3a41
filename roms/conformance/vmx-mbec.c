/*
 * Mode-based execute control for EPT, and the advanced information of EPT violations (SDM 31.3.2, 31.3.3.2,
 * table 30-7).
 */
#include "vmx-playground.h"

CODE(i_read, "mov (%rdi), %eax");
CODE(i_call, "call *%rdi");

/* Bit 10 in every entry, so that the guest runs whatever its addresses' mode. */
static void all_modes(void)
{
    for (uint64_t at = 0; at < 16 << 20; at += 4096) *ept_entry(v.ept, at, 1) |= EPT_XU;
    for (uint64_t at = 0; at < 64 << 20; at += 2 << 20) *ept_entry(v.ept, at, 2) |= EPT_XU;
    *ept_entry(v.ept, 0, 3) |= EPT_XU;
    *ept_entry(v.ept, 0, 4) |= EPT_XU;
}

static void fetches(void)
{
    static const struct {
        const char *name;
        uint64_t rights;
        bool user, allowed;
    } rows[] = {
        {"a supervisor-mode address wants bit 2", EPT_R | EPT_X, false, true},
        {"a supervisor-mode address, bit 10 alone", EPT_R | EPT_XU, false, false},
        {"a supervisor-mode address, neither", EPT_R, false, false},
        {"a user-mode address wants bit 10", EPT_R | EPT_XU, true, true},
        {"a user-mode address, bit 2 alone", EPT_R | EPT_X, true, false},
        {"a user-mode address, neither", EPT_R, true, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        start(i_call);
        playground[0] = 0xc3;
        all_modes();
        vmx_set_proc2(PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
        own_tables(PTE_W | (rows[i].user ? PTE_U : 0));
        set_entry(leaf(rows[i].rights));
        if (rows[i].allowed)
            done(&v, rows[i].name);
        else
            exit_with(EXIT_REASON_EPT_VIOLATION,
                      X | (rows[i].rights & EPT_RWX) << 3 | (rows[i].rights & EPT_XU ? 1u << 6 : 0) | FINAL,
                      0x1ff, rows[i].name);
    }
    start(i_call);
    set_entry(leaf(EPT_R | EPT_XU));
    exit_with(EXIT_REASON_EPT_VIOLATION, X | EPT_R << 3 | FINAL, 0x1bf,
              "with the control 0, bit 10 is ignored");
    start(i_read);
    all_modes();
    vmx_set_proc2(PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT);
    set_entry(leaf(EPT_XU));
    if (ept_cap & 1)
        exit_with(EXIT_REASON_EPT_VIOLATION, R | 1u << 6 | FINAL, 0x1ff,
                  "an entry with bit 10 alone is present");
    else
        exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION,
                "an entry with bit 10 alone: execute-only is not offered");
}

static void advanced(void)
{
    if (!(ept_cap & 1u << 22)) {
        skip(9, "no advanced information");
        return;
    }
    static const char *const names[] = {
        "Q-EPT-9, -10, -11: 0 0 0", "Q-EPT-9, -10, -11: 1 0 0", "Q-EPT-9, -10, -11: 0 1 0",
        "Q-EPT-9, -10, -11: 1 1 0", "Q-EPT-9, -10, -11: 0 0 1", "Q-EPT-9, -10, -11: 1 0 1",
        "Q-EPT-9, -10, -11: 0 1 1", "Q-EPT-9, -10, -11: 1 1 1",
    };
    wrmsr(IA32_EFER, rdmsr(IA32_EFER) | 1u << 11); /* NXE, which the guest gets too */
    for (unsigned n = 0; n < 8; n++) {             /* user-mode, writable, execute-disable page */
        start(i_read);
        own_tables(PTE_W);
        guest_tables[1024 + 31] = (GPA & ~0x1ffffful) | PTE_P | PTE_PS | (n & 1 ? PTE_U : 0) |
                                  (n & 2 ? PTE_W : 0) | (n & 4 ? PTE_NX : 0);
        v.regs.gpr[RDI] = (31ul << 21) + (GPA & 0x1fffff);
        set_entry(0);
        exit_with(EXIT_REASON_EPT_VIOLATION, R | FINAL | n << 9, 0xfff, names[n]);
    }
    if (!vmx_has_secondary(PROC2_UNRESTRICTED_GUEST)) {
        skip(1, "no unrestricted guest");
        return;
    }
    static const uint8_t code[] = {0xa1, 0x00, 0x60, 0x00, 0x00}; /* mov eax, [6000h] */
    start(i_read);
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_protected_mode();
    memcpy(playground, code, sizeof(code));
    vmwrite(GUEST_RIP, GPA);
    *ept_entry(v.ept, 0x6000, 1) = 0;
    exit_with(EXIT_REASON_EPT_VIOLATION, R | FINAL | 3u << 9, 0xfff,
              "Q-EPT-9, -10, -11 with CR0.PG=0: 1 1 0");
}

int rom_main(void)
{
    if (!vmx_test_begin("mode-based execute control, and advanced information of EPT violations")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) {
        skip_one("EPT", "not offered by this processor");
        return tap_end();
    }
    playground_init();
    if (vmx_has_secondary(PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT))
        fetches();
    else
        skip_one("MBEC", "not offered by this processor");
    advanced();
    return tap_end();
}

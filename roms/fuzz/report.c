/*
 * What a line says of an entry: only what the architecture defines, so that two machines can be compared.
 *
 * Undefined and left out: the base, limit and most access rights of an unusable segment, bits of
 * qualifications and of the instruction information, lengths of exits that are not for an instruction
 * (SDM 30.2.5, 30.3.2).
 */
#include "fuzz.h"

#define X(n) {#n, n, false},
#define G(n) {#n, n, true},
const struct field_row field_rows[FIELD_COUNT] = {
#include "fields.def"
};
#undef X
#undef G

static const char *tolerated;

void report_tolerate(const char *list) { tolerated = list; }

uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15;
    return h ^ h >> 29;
}

bool report_tolerates(char what)
{
    for (const char *p = tolerated; p && *p && *p != ' '; p++)
        if (*p == what) return true;
    return false;
}

static bool software(uint32_t event)
{
    unsigned type = event >> 8 & 7;
    return (event & EVENT_VALID) && type >= 4 && type <= 6;
}

/* SDM 30.2.5: exits of instructions, software exceptions, and what is met while a software event is
   delivered. */
bool report_has_length(uint32_t reason, uint32_t event, uint32_t original)
{
    if (software(original)) return reason == 0 || reason == 9 || reason == 48 || reason == 44;
    if (reason == EXIT_REASON_TASK_SWITCH) return !(original & EVENT_VALID);
    if (reason == 0) return software(event);
    if (reason >= 10 && reason <= 32 && reason != 17) return true;
    return reason == 36 || reason == 39 || reason == 40 || reason == 46 || reason == 47 || reason == 50 ||
           reason == 51 || (reason >= 53 && reason <= 55) || (reason >= 57 && reason <= 61) ||
           (reason >= 63 && reason <= 65) || reason == 67 || reason == 68;
}

/* The bits of the instruction information that are defined (SDM 30.2.5, tables 30-8 to 30-14). */
static uint32_t information_mask(uint32_t reason, uint32_t information)
{
    /* With an index or a base, its number; without, nothing. */
    uint32_t memory = 3 << 15 | 1 << 17 | 7 << 7 | 1 << 10 | 1 << 22 | 1 << 27 |
                      (information & 1 << 22 ? 0 : 3 | 15 << 18) | (information & 1 << 27 ? 0 : 15 << 23);
    bool direct = information & 1 << 10;
    switch (reason) {
    case 19:
    case 21:
    case 22:
    case 27:
    case 63:
    case 64: return memory;
    case 46: return memory | 3u << 28 | (mode_long(kase.mode) ? 0 : 1 << 11);
    case 47: return direct ? 1 << 10 | 15 << 3 | 3u << 28 : memory | 3u << 28;
    case 23:
    case 25: return direct ? 1 << 10 | 15 << 3 | 15u << 28 : memory | 15u << 28;
    case 50:
    case 53:
    case 58: return memory | 15u << 28;
    case 57:
    case 61: return 15 << 3 | 3 << 11;
    default: return 0;
    }
}

/* Is "NMI unblocking due to IRET" defined (SDM 30.2.3)? */
static bool unblocking_defined(void)
{
    uint64_t pin = kase.f[F_PIN_BASED_VM_EXECUTION_CONTROLS];
    return !(pin & PIN_NMI_EXITING) || (pin & PIN_VIRTUAL_NMIS);
}

/* Bits 9 to 11 are there with advanced information, and not for paging structures; without a linear address
   there is no bit 8. */
static uint64_t ept_mask(uint64_t q)
{
    if (!(q & 1 << 7)) return 0x10bf;
    return q & 1 << 8 && have(W_EPT, 1u << 22) ? 0x1fbf : 0x11bf;
}

static uint64_t qualification_mask(uint32_t reason, uint64_t q, uint32_t event)
{
    switch (reason) {
    case 0:
        if ((event & 0xff) == 14 && (event >> 8 & 7) == 3) return ~0ul;
        return (event & 0xff) == 1 ? 0x1600f : ~0ul;
    case 9: return 0xc000ffff;
    case 28: return 0xffff0f7f;
    case 29: return 0xf17;
    case 30: return 0xffff007f;
    case 48: return (unblocking_defined() ? ~0ul : ~(1ul << 12)) & ept_mask(q);
    case 62: return 0x11000;
    default: return ~0ul;
    }
}

static uint32_t rights_mask(unsigned segment, uint32_t rights)
{
    if (!(rights & AR_UNUSABLE)) return segment == 1 ? ~0u : ~(1u << 13); /* L is CS's alone */
    return segment == 1 ? 0x1e000 : segment == 2 ? 0x10060 : 0x10000;
}

static bool pae_paging(void)
{
    return (vmread(GUEST_CR0) & CR0_PG) && (vmread(GUEST_CR4) & CR4_PAE) &&
           !(vmread(VM_ENTRY_CONTROLS) & ENTRY_IA_32E_MODE_GUEST);
}

/* Is the field's value after this exit defined? Masks what is not. */
static bool defined(enum field f, uint64_t *v, uint32_t reason)
{
    if (f >= F_GUEST_ES_ACCESS_RIGHTS && f <= F_GUEST_TR_ACCESS_RIGHTS) {
        *v &= rights_mask(f - F_GUEST_ES_ACCESS_RIGHTS, (uint32_t)*v);
        return true;
    }
    if ((f >= F_GUEST_ES_BASE && f <= F_GUEST_TR_BASE) || (f >= F_GUEST_ES_LIMIT && f <= F_GUEST_TR_LIMIT)) {
        bool base = f >= F_GUEST_ES_BASE && f <= F_GUEST_TR_BASE;
        unsigned s = base ? f - F_GUEST_ES_BASE : f - F_GUEST_ES_LIMIT;
        if (s == 1 || !(vmread(GUEST_ES_ACCESS_RIGHTS + 2 * s) & AR_UNUSABLE)) return true;
        return base && (s == 4 || s == 5);
    }
    if (f >= F_GUEST_PDPTE0 && f <= F_GUEST_PDPTE3) return kase.ept && pae_paging();
    if (f == F_VMX_PREEMPTION_TIMER_VALUE)
        return reason == EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED ||
               !(kase.f[F_PRIMARY_VM_EXIT_CONTROLS] & EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    /* A triple fault's is what a processor in shutdown would have, of which the manual says no more. */
    if (f == F_GUEST_RFLAGS && (reason == EXIT_REASON_TRIPLE_FAULT || report_tolerates('r')))
        *v &= ~(uint64_t)RFLAGS_RF;
    return true;
}

/* Has every machine that takes part the field? */
static bool exists(enum field f)
{
    if (f == F_GUEST_INTERRUPT_STATUS) return have(W_PROC2, PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    if (f == F_PML_INDEX) return have(W_PROC2, PROC2_ENABLE_PML);
    if (f == F_GUEST_IA32_DEBUGCTL) return have(W_MSRS, 1);
    if (f == F_GUEST_IA32_PKRS) return have(W_ENTRY, ENTRY_LOAD_PKRS);
    return field_rows[f].guest;
}

static uint64_t guest_digest(uint32_t reason, bool failed, bool details)
{
    uint64_t h = 0;
    for (unsigned f = 0; f < FIELD_COUNT; f++) {
        uint64_t v = 0;
        if (!exists(f) || vmread_status(field_rows[f].encoding, &v) != VMX_SUCCEED) continue;
        if (f == F_VMX_PREEMPTION_TIMER_VALUE && v == kase.f[f]) v = v != 0; /* in the machine's own unit */
        if (!failed && !defined(f, &v, reason)) continue;
        h = mix(h, v);
        if (details) print("  %s %lx\n", field_rows[f].name, v);
    }
    return h;
}

/* The processor after the exit: what the guest left, and what the exit loaded. */
static uint64_t host_digest(bool details)
{
    static const uint32_t msrs[] = {IA32_EFER,    IA32_PAT,         IA32_STAR,           IA32_LSTAR,
                                    IA32_CSTAR,   IA32_FMASK,       IA32_KERNEL_GS_BASE, IA32_FS_BASE,
                                    IA32_GS_BASE, IA32_SYSENTER_CS, IA32_SYSENTER_ESP,   IA32_SYSENTER_EIP};
    uint64_t h = 0;
    for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++) {
        uint64_t v = rdmsr(msrs[i]);
        h = mix(h, v);
        if (details) print("  host MSR %x %lx\n", msrs[i], v);
    }
    if (have(W_MSRS, 1)) {
        h = mix(h, rdmsr(IA32_DEBUGCTL));
        if (details) print("  host MSR IA32_DEBUGCTL %lx\n", rdmsr(IA32_DEBUGCTL));
    }
    uint64_t dr1, dr2, dr3;
    uint16_t ds, es, ss, fs, gs, ldtr, tr;
    asm volatile("mov %%dr1, %0; mov %%dr2, %1; mov %%dr3, %2" : "=r"(dr1), "=r"(dr2), "=r"(dr3));
    asm volatile("mov %%ds, %0; mov %%es, %1; mov %%ss, %2; mov %%fs, %3; mov %%gs, %4; sldt %5; str %6"
                 : "=r"(ds), "=r"(es), "=r"(ss), "=r"(fs), "=r"(gs), "=r"(ldtr), "=r"(tr));
    const uint64_t registers[] = {read_cr0(), read_cr2(), read_cr4(), read_cr8(), read_dr0(), dr1,
                                  dr2,        dr3,        read_dr6(), read_dr7(), ds,         es,
                                  ss,         fs,         gs,         ldtr,       tr};
    static const char *const names[] = {"CR0", "CR2", "CR4", "CR8", "DR0", "DR1", "DR2",  "DR3", "DR6",
                                        "DR7", "DS",  "ES",  "SS",  "FS",  "GS",  "LDTR", "TR"};
    for (unsigned i = 0; i < sizeof(registers) / sizeof(registers[0]); i++) {
        h = mix(h, registers[i]);
        if (details) print("  host %s %lx\n", names[i], registers[i]);
    }
    bool narrow = kase.mode != LONG && kase.mode != LONG_USER;
    for (unsigned i = 0; i < 16; i++) {
        if (i == RSP || (kase.time && (i == RAX || i == RDX)) || (kase.chance && i == RCX)) continue;
        if (narrow && i > 7) continue; /* out of reach, and the upper halves of the others undefined */
        uint64_t v = narrow ? (uint32_t)kase.regs.gpr[i] : kase.regs.gpr[i];
        h = mix(h, v);
        if (details) print("  register %u %lx\n", i, v);
    }
    return h;
}

void report_details(const struct vmx_exit *e)
{
    if (e->status != VMX_SUCCEED) return;
    guest_digest(e->reason & 0xffff, e->reason & EXIT_REASON_ENTRY_FAILURE, true);
    host_digest(true);
    arena_digest(0, true);
}

void report(const struct vmx_exit *e)
{
    if (e->status == VMX_FAIL_INVALID) {
        print(" invalid\n");
        return;
    }
    if (e->status == VMX_FAIL_VALID) {
        print(" valid %u\n", e->error);
        return;
    }
    uint32_t reason = e->reason & 0xffff;
    bool failed = e->reason & EXIT_REASON_ENTRY_FAILURE;
    if (failed) {
        print(" %x q %lx guest %x", e->reason, e->qualification, (uint32_t)guest_digest(reason, true, false));
        print(" host %x\n", (uint32_t)host_digest(false));
        return;
    }
    uint32_t event = (uint32_t)vmread(EXITING_EVENT_IDENTIFICATION),
             original = (uint32_t)vmread(ORIGINAL_EVENT_IDENTIFICATION);
    if (!(event & EVENT_VALID)) event = 0;
    if (!(original & EVENT_VALID)) original = 0;
    uint64_t q = e->qualification & qualification_mask(reason, e->qualification, event);
    print(" %x q %lx", e->reason, q);
    bool timer = reason == EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED;
    if (timer && kase.f[F_VMX_PREEMPTION_TIMER_VALUE] && vmread(GUEST_ACTIVITY_STATE) == ACTIVITY_ACTIVE) {
        print(" time\n"); /* how far it came is not the same everywhere */
        return;
    }
    if (report_has_length(reason, event, original)) print(" len %lu", vmread(VM_EXIT_INSTRUCTION_LENGTH));
    uint32_t information = (uint32_t)vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    uint32_t mask = information_mask(reason, information);
    bool strings = reason == EXIT_REASON_IO_INSTRUCTION && (q & 1 << 4);
    if (strings && have(W_BASIC, 1u << 22)) mask = 7 << 7 | (q & 1 << 3 ? 0 : 7 << 15);
    if (mask) print(" info %x", information & mask);
    if (event)
        print(" event %x",
              event & (original || (event & 0xff) == 8 || !unblocking_defined() ? ~(1u << 12) : ~0u));
    if (event & EVENT_ERROR_CODE) print("/%lx", vmread(EXITING_EVENT_ERROR_CODE));
    if (original) print(" original %x", original & ~(1u << 12));
    if (original & EVENT_ERROR_CODE) print("/%lx", vmread(ORIGINAL_EVENT_ERROR_CODE));
    /* INS goes to ES, OUTS comes from DS or what a prefix says; no address if that is unusable. */
    unsigned segment = q & 1 << 3 ? 0 : information >> 15 & 7;
    bool string_address = strings && !(vmread(GUEST_ES_ACCESS_RIGHTS + 2 * segment) & AR_UNUSABLE);
    if ((reason == 48 && (q & 1 << 7)) || string_address || (reason == 28 && (q & 0x70) == 0x70))
        print(" gla %lx", vmread(GUEST_LINEAR_ADDRESS));
    if (reason == 48 || reason == 49) print(" gpa %lx", vmread(GUEST_PHYSICAL_ADDRESS));
    print(" rip %lx guest %x", vmread(GUEST_RIP), (uint32_t)guest_digest(reason, false, false));
    print(" host %x", (uint32_t)host_digest(false));
    print(" memory %x\n", (uint32_t)arena_digest(0, false));
}

/* The controls of a case: any that both machines have, each a step, made to agree with each other; masks,
   shadows and bitmaps to go with them. */
#include "fuzz.h"

static const struct group {
    const char *name;
    enum field field;
    enum word word;
    uint32_t msr;
    uint32_t never; /* bits that other code decides, or that a case does not survive */
} groups[] = {
    {"PIN", F_PIN_BASED_VM_EXECUTION_CONTROLS, W_PIN, IA32_VMX_PINBASED_CTLS,
     PIN_ACTIVATE_VMX_PREEMPTION_TIMER | PIN_PROCESS_POSTED_INTERRUPTS},
    {"PROC", F_PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, W_PROC, IA32_VMX_PROCBASED_CTLS,
     PROC_ACTIVATE_SECONDARY_CONTROLS | PROC_ACTIVATE_TERTIARY_CONTROLS},
    {"PROC2", F_SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, W_PROC2, IA32_VMX_PROCBASED_CTLS2,
     PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST},
    {"EXIT", F_PRIMARY_VM_EXIT_CONTROLS, W_EXIT, IA32_VMX_EXIT_CTLS,
     EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_LOAD_IA32_EFER | EXIT_ACTIVATE_SECONDARY_CONTROLS},
    {"ENTRY", F_VM_ENTRY_CONTROLS, W_ENTRY, IA32_VMX_ENTRY_CTLS,
     ENTRY_IA_32E_MODE_GUEST | ENTRY_ENTRY_TO_SMM | ENTRY_DEACTIVATE_DUAL_MONITOR_TREATMENT |
         ENTRY_LOAD_IA32_EFER},
};

static bool in(enum field field, uint32_t bits) { return (kase.f[field] & bits) == bits; }
#define PIN   F_PIN_BASED_VM_EXECUTION_CONTROLS
#define PROC  F_PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC2 F_SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define EXITS F_PRIMARY_VM_EXIT_CONTROLS
#define ENTRY F_VM_ENTRY_CONTROLS

void controls_choose(void)
{
    for (unsigned g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
        const struct group *x = &groups[g];
        uint32_t must = vmx_adjust(x->msr, 0);
        kase.f[x->field] = must;
        unsigned one_in = 3 + below(8); /* many controls, or few */
        for (uint32_t left = offer.have[x->word] & ~must; left; left &= left - 1) {
            uint32_t bit = left & -left;
            if (odds(one_in) && !(x->never & bit) && step(x->name, "^", bit)) kase.f[x->field] |= bit;
        }
    }
    kase.f[PIN] |= PIN_ACTIVATE_VMX_PREEMPTION_TIMER;
    kase.f[PROC] |= PROC_ACTIVATE_SECONDARY_CONTROLS;
    kase.f[EXITS] |= EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_LOAD_IA32_EFER | EXIT_SAVE_IA32_EFER;
    kase.f[ENTRY] |= ENTRY_LOAD_IA32_EFER | (mode_long(kase.mode) ? ENTRY_IA_32E_MODE_GUEST : 0);
    bool unrestricted = odds(2);
    if (kase.ept) {
        kase.f[PROC2] |= PROC2_ENABLE_EPT;
        if (!mode_paged(kase.mode) || (unrestricted && step("PROC2", "^", PROC2_UNRESTRICTED_GUEST)))
            kase.f[PROC2] |= PROC2_UNRESTRICTED_GUEST;
    }
    bool dirty = odds(2);
    kase.f[F_EPTP] = areas_ept | 3 << 3 | 6;
    if (dirty && have(W_EPT, 1u << 21) && step("EPTP", "^", 1 << 6)) kase.f[F_EPTP] |= 1 << 6;
    kase.f[F_VPID] = 1 + below(3);
    /* It ends what does not end by itself; 0 comes before the first instruction. */
    bool now = odds(12);
    kase.f[F_VMX_PREEMPTION_TIMER_VALUE] = 65536 >> (rdmsr(IA32_VMX_MISC) & 31);
    if (now && step("VMX_PREEMPTION_TIMER_VALUE", "", 0)) kase.f[F_VMX_PREEMPTION_TIMER_VALUE] = 0;

    static const uint32_t exceptions[] = {0,      0xffffffff, 1 << 14, 1 << 6 | 1 << 13, 1 << 1 | 1 << 3,
                                          1 << 8, 0xffffbfff, 1 << 13};
    uint32_t bitmap = odds(3) ? (uint32_t)random64() : PICK(exceptions);
    if (step("EXCEPTION_BITMAP", " ", bitmap)) kase.f[F_EXCEPTION_BITMAP] = bitmap;
    static const uint32_t codes[] = {0, 0, 0, 1, 2, 3, 0x10, 0x1f, 4};
    uint32_t mask = PICK(codes), match = PICK(codes);
    if (step("PAGE_FAULT_ERROR_CODE_MASK and MATCH", " ", mask << 16 | match))
        kase.f[F_PAGE_FAULT_ERROR_CODE_MASK] = mask, kase.f[F_PAGE_FAULT_ERROR_CODE_MATCH] = match;

    static const uint64_t masks[] = {
        0, 0, ~0ul, 1, CR0_TS, CR0_TS | CR0_MP | CR0_PE, CR0_PG | CR0_CD | CR0_NW, 0xe};
    static const uint64_t masks4[] = {0, 0, ~0ul, CR4_VMXE, CR4_PAE, CR4_PGE | CR4_TSD, CR4_SMEP | CR4_SMAP};
    static const uint64_t shadows[] = {0,         ~0ul, CR0_PE, CR0_PE | CR0_TS, CR0_PG | CR0_PE | CR0_NE,
                                       0xffffffff};
    uint64_t m0 = PICK(masks), m4 = PICK(masks4), s0 = PICK(shadows), s4 = PICK(shadows);
    if (step("CR0_GUEST_HOST_MASK", " ", m0)) kase.f[F_CR0_GUEST_HOST_MASK] = m0;
    if (step("CR4_GUEST_HOST_MASK", " ", m4)) kase.f[F_CR4_GUEST_HOST_MASK] = m4;
    if (step("CR0_READ_SHADOW", " ", s0)) kase.f[F_CR0_READ_SHADOW] = s0;
    if (step("CR4_READ_SHADOW", " ", s4)) kase.f[F_CR4_READ_SHADOW] = s4;
    unsigned targets = below(6);
    if (targets <= 4 && step("CR3_TARGET_COUNT", " ", targets)) {
        kase.f[F_CR3_TARGET_COUNT] = targets;
        kase.f[F_CR3_TARGET_VALUE_0] = kase.f[F_GUEST_CR3] | PTE_PCD;
        kase.f[F_CR3_TARGET_VALUE_3] = kase.f[F_GUEST_CR3];
    }
    static const uint64_t offsets[] = {0, 1, ~0ul, 1ul << 40};
    kase.f[F_TSC_OFFSET] = PICK(offsets);
    kase.f[F_TSC_MULTIPLIER] = 1ul << 48;
    uint32_t threshold = below(4);
    if (step("TPR_THRESHOLD", " ", threshold)) kase.f[F_TPR_THRESHOLD] = threshold;
    kase.f[F_PLE_GAP] = 0xffffffff, kase.f[F_PLE_WINDOW] = 0xffffffff; /* time: no two machines agree */
    kase.f[F_XSS_EXITING_BITMAP] = odds(2) ? ~0ul : 0;
}

static void clear(enum field field, uint32_t bits) { kase.f[field] &= ~(uint64_t)bits; }

/* Takes out the controls whose condition is not there (SDM 29.2.1.1). */
void controls_agree(void)
{
    bool leave = odds(32);
    if (leave && step("controls ", "need not agree", 0)) return;
    if (!in(PIN, PIN_NMI_EXITING)) clear(PIN, PIN_VIRTUAL_NMIS);
    if (!in(PIN, PIN_VIRTUAL_NMIS)) clear(PROC, PROC_NMI_WINDOW_EXITING);
    if (!in(PIN, PIN_EXTERNAL_INTERRUPT_EXITING)) clear(PROC2, PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    if (!in(PROC, PROC_USE_TPR_SHADOW))
        clear(PROC2, PROC2_VIRTUALIZE_X2APIC_MODE | PROC2_APIC_REGISTER_VIRTUALIZATION |
                         PROC2_VIRTUAL_INTERRUPT_DELIVERY);
    if (in(PROC2, PROC2_VIRTUALIZE_X2APIC_MODE)) clear(PROC2, PROC2_VIRTUALIZE_APIC_ACCESSES);
    if (!in(PROC2, PROC2_ENABLE_EPT))
        clear(PROC2, PROC2_ENABLE_PML | PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT |
                         PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT);
    if (!(kase.f[F_EPTP] & 1 << 6)) clear(PROC2, PROC2_ENABLE_PML);
    unsigned vtpr = *(uint8_t *)(areas_virtual_apic + 0x80) >> 4;
    if (in(PROC, PROC_USE_TPR_SHADOW) && !in(PROC2, PROC2_VIRTUAL_INTERRUPT_DELIVERY) &&
        !in(PROC2, PROC2_VIRTUALIZE_APIC_ACCESSES) && kase.f[F_TPR_THRESHOLD] > vtpr)
        kase.f[F_TPR_THRESHOLD] = vtpr;
}

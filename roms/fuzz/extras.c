/* What stands behind the newer controls: tertiary and secondary exit controls, a VMCS that is linked,
   sub-page permissions, the page-modification log, virtualization exceptions, APIC virtualization, TSC
   scaling, posted interrupts. */
#include "fuzz.h"

#define PROC  F_PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC2 F_SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC3 F_TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
static bool in(enum field field, uint32_t bits) { return (kase.f[field] & bits) == bits; }

static void more_controls(enum field field, enum word word, enum field activated_by, uint32_t bit,
                          const char *name)
{
    unsigned one_in = 2 + below(6);
    for (uint32_t left = offer.have[word]; left; left &= left - 1) {
        uint32_t control = left & -left;
        if (odds(one_in) && step(name, "^", control)) kase.f[field] |= control;
    }
    if (kase.f[field] || (offer.have[word] && odds(8))) kase.f[activated_by] |= bit;
}

static void tertiary(void)
{
    more_controls(PROC3, W_PROC3, PROC, PROC_ACTIVATE_TERTIARY_CONTROLS, "PROC3");
    bool leave = odds(32);
    if (!(leave && step("tertiary controls ", "need not agree", 0))) {
        if (!in(PROC2, PROC2_ENABLE_EPT))
            kase.f[PROC3] &=
                ~(PROC3_ENABLE_HLAT | PROC3_EPT_PAGING_WRITE_CONTROL | PROC3_GUEST_PAGING_VERIFICATION);
        if (!in(PROC, PROC_USE_TPR_SHADOW)) kase.f[PROC3] &= ~PROC3_IPI_VIRTUALIZATION;
        if (!in(PROC2, PROC2_VIRTUAL_INTERRUPT_DELIVERY) || in(PROC, PROC_RDTSC_EXITING))
            kase.f[PROC3] &= ~PROC3_APIC_TIMER_VIRTUALIZATION;
    }
    kase.f[F_HLATP] = arena_physical() + A_PML4; /* the same tables */
    kase.f[F_PID_POINTER_TABLE_ADDRESS] = (uint64_t)areas_pid_pointers();
    uint64_t prefix = below(3), last = below(3);
    if (step("HLAT_PREFIX_SIZE", " ", prefix)) kase.f[F_HLAT_PREFIX_SIZE] = prefix;
    if (step("LAST_PID_POINTER_INDEX", " ", last)) kase.f[F_LAST_PID_POINTER_INDEX] = last;
    static const uint16_t vectors[] = {0x30, 0x30, 0x80, 0xff, 5, 0x100};
    static const uint64_t deadlines[] = {0, 1, 1, ~0ul, 1ul << 62};
    uint64_t vector = PICK(vectors), deadline = PICK(deadlines);
    if (step("VIRTUAL_TIMER_VECTOR", " ", vector)) kase.f[F_VIRTUAL_TIMER_VECTOR] = vector;
    if (step("GUEST_DEADLINE", " ", deadline)) kase.f[F_GUEST_DEADLINE] = deadline;
    static const uint64_t masks[] = {0, 1, 7, ~0ul};
    uint64_t mask = PICK(masks);
    if (step("IA32_SPEC_CTRL_MASK", " ", mask)) kase.f[F_IA32_SPEC_CTRL_MASK] = mask;
    more_controls(F_SECONDARY_VM_EXIT_CONTROLS, W_EXIT2, F_PRIMARY_VM_EXIT_CONTROLS,
                  EXIT_ACTIVATE_SECONDARY_CONTROLS, "EXIT2");
}

static void shadow(void)
{
    bool link = odds(2), plain = odds(8);
    uint32_t *region = (uint32_t *)areas_shadow;
    memset(region, 0, 4096);
    region[0] = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7fffffff;
    if (!(link && in(PROC2, PROC2_VMCS_SHADOWING) && step("VMCS_LINK_POINTER ", "to a shadow VMCS", 0)))
        return;
    if (!(plain && step("VMCS_LINK_POINTER ", "to an ordinary VMCS", 0))) region[0] |= 1u << 31;
    kase.f[F_VMCS_LINK_POINTER] = areas_shadow;
}

static void ept_extras(void)
{
    static const uint64_t indices[] = {511, 511, 510, 505, 512, 0xffff};
    uint64_t index = PICK(indices);
    if (step("PML_INDEX", " ", index)) kase.f[F_PML_INDEX] = index;
    bool busy = odds(6), suppress = odds(4), sub = odds(2), broken = odds(8);
    if (busy && step("#VE ", "information area in use", 0)) *(uint32_t *)(areas_spare + 4) = ~0u;
    static const uint32_t pages[] = {A_DATA, A_STACK, A_CODE, A_NOTHING, A_IDT};
    uint32_t page = PICK(pages);
    if (suppress && step("suppress #VE", " ", page)) *arena_ept_entry(page) |= EPT_SUPPRESS_VE;
    uint64_t vector = random64() & 0x5555555555555555, spoil = below(3);
    uint64_t *level = (uint64_t *)areas_sppt;
    if (sub && in(PROC2, PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT) &&
        step("sub-page permissions", " ", vector)) {
        level[0] = (areas_sppt + 4096) | 1, level[512] = (areas_sppt + 8192) | 1,
        level[1024] = (areas_sppt + 12288) | 1;
        level[1536 + (A_DATA >> 12)] = vector;
        *arena_ept_entry(A_DATA) = (*arena_ept_entry(A_DATA) & ~EPT_W) | EPT_SUBPAGES;
        if (broken && step("SPPT ", "spoilt", spoil)) level[512 * spoil] ^= spoil ? 1 : 1ul << 62;
    }
}

static void apic_extras(void)
{
    static const uint16_t status[] = {0, 0, 0x30, 0x50, 0x3050, 0x80, 0xff, 0x2130};
    static const uint64_t eoi[] = {0, 0, ~0ul, 1ul << 48, 0xffff0000};
    uint64_t s = PICK(status), e = PICK(eoi);
    bool requested = odds(2);
    if (step("GUEST_INTERRUPT_STATUS", " ", s)) kase.f[F_GUEST_INTERRUPT_STATUS] = s;
    if (requested && step("VIRR and VISR ", "to it", 0)) {
        uint32_t rvi = s & 0xff, svi = s >> 8;
        if (rvi) *(uint32_t *)(areas_virtual_apic + 0x200 + rvi / 32 * 16) |= 1u << rvi % 32;
        if (svi) *(uint32_t *)(areas_virtual_apic + 0x100 + svi / 32 * 16) |= 1u << svi % 32;
    }
    if (step("EOI_EXIT", " ", e))
        kase.f[F_EOI_EXIT0] = kase.f[F_EOI_EXIT1] = kase.f[F_EOI_EXIT2] = kase.f[F_EOI_EXIT3] = e;
}

void extras_choose(void)
{
    tertiary();
    shadow();
    ept_extras();
    apic_extras();
    static const uint64_t multipliers[] = {1ul << 48, 1ul << 48, 1ul << 47, 3ul << 47, 1, ~0ul, 0};
    uint64_t multiplier = PICK(multipliers);
    if (step("TSC_MULTIPLIER", " ", multiplier)) kase.f[F_TSC_MULTIPLIER] = multiplier;
}

/* Posted interrupts: the control with all that it wants, a descriptor, and the notification, which waits in
   the local APIC when the guest is entered. */
void posting_choose(void)
{
    static const uint16_t notifications[] = {NOTIFY, NOTIFY, NOTIFY, NOTIFY, NOTIFY_LOW, INTERRUPT, 5};
    static const uint8_t requests[] = {0x30, 0x41, 0x50, 0x51, 0x80, 0xff, 0x21, 0x10, 0x92, 5};
    uint64_t *pid = areas_posted();
    bool wanted = odds(6), sent = !odds(4), halted = odds(4), open = odds(2), pointed = odds(2);
    unsigned count = below(4), spoil = below(24);
    uint64_t notification = PICK(notifications) | (spoil == 4   ? 1 << 8
                                                   : spoil == 5 ? 1 << 15
                                                                : 0),
             on = odds(6) ? below(4) : 1, activity = 1;
    uint8_t vectors[3] = {PICK(requests), PICK(requests), PICK(requests)};
    if (!wanted || !have(W_PIN, PIN_PROCESS_POSTED_INTERRUPTS) ||
        !have(W_PROC2, PROC2_VIRTUAL_INTERRUPT_DELIVERY))
        return;
    if (step("PIN ", "posted interrupts", spoil)) {
        kase.f[F_PIN_BASED_VM_EXECUTION_CONTROLS] |= PIN_PROCESS_POSTED_INTERRUPTS;
        if (spoil != 0) kase.f[F_PIN_BASED_VM_EXECUTION_CONTROLS] |= PIN_EXTERNAL_INTERRUPT_EXITING;
        if (spoil != 1)
            kase.f[PROC] |= PROC_USE_TPR_SHADOW, kase.f[PROC2] |= PROC2_VIRTUAL_INTERRUPT_DELIVERY;
        if (spoil != 2) kase.f[F_PRIMARY_VM_EXIT_CONTROLS] |= EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT;
        if (spoil == 3) kase.f[F_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS] += 32;
        kase.f[F_POSTED_INTERRUPT_NOTIFICATION_VECTOR] = NOTIFY;
    }
    if (step("POSTED_INTERRUPT_NOTIFICATION_VECTOR", " ", notification))
        kase.f[F_POSTED_INTERRUPT_NOTIFICATION_VECTOR] = notification;
    pid[4] = (notification & 0xff) << 16;
    for (unsigned i = 0; i < count; i++)
        if (step("PIR", "^", vectors[i])) pid[vectors[i] / 64] ^= 1ul << vectors[i] % 64;
    if (step("ON and SN", " ", on)) pid[4] |= on;
    if (pointed && step("PID pointer 0 ", "valid", 0)) areas_pid_pointers()[0] = (uint64_t)pid | 1;
    if (sent && (notification & 0xff) >= 16 && step("notification ", "pending", notification & 0xff))
        kase.interrupts[1] = notification & 0xff;
    if (halted && step("GUEST_ACTIVITY_STATE", " ", activity)) kase.f[F_GUEST_ACTIVITY_STATE] = activity;
    if (open && step("GUEST_RFLAGS", " |", RFLAGS_IF)) {
        kase.f[F_GUEST_RFLAGS] |= RFLAGS_IF;
        kase.f[F_GUEST_INTERRUPTIBILITY_STATE] = 0;
    }
}

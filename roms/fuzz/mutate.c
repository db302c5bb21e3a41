/* What makes a VMCS invalid, or valid in an unusual way: one to three fields changed without regard. */
#include "fuzz.h"

enum kind {
    FLIP,    /* a bit within `width` */
    CONTROL, /* a bit that both machines have, or that neither has (`width`: its word) */
    CHOICE,
    EVENT,
};

struct row {
    enum field field;
    enum kind kind;
    unsigned width;
    uint64_t choices[6];
};

#define NONCANONICAL 0x8000000000000000ul
#define POINTERS     NONCANONICAL, 0, 1ul << 47, ~0ul << 47, 1ul << 46, 1ul << 48
#define RIGHTS(s) \
    {F_GUEST_##s##_ACCESS_RIGHTS, FLIP, 17, {0}}, \
    { \
        F_GUEST_##s##_ACCESS_RIGHTS, CHOICE, 0, { 0x93, 0xc093, 0xa09b, 0x10000, 0xf3, 0xc09b } \
    }
#define SELECTOR(s) \
    { \
        F_GUEST_##s##_SELECTOR, FLIP, 4, { 0 } \
    }
#define LIMIT(s) \
    { \
        F_GUEST_##s##_LIMIT, CHOICE, 0, { 0, 0xffff, 0xfffff, 0x100000, 0xffffffff, 0xfffff000 } \
    }
#define BASE(s) \
    { \
        F_GUEST_##s##_BASE, FLIP, 64, { 0 } \
    }
#define ADDRESS(f) \
    { \
        F_##f, CHOICE, 0, { 1, 0x808, 1ul << 52, 8, 1ul << 41, 1ul << 63 } \
    }

static const struct row rows[] = {
    // clang-format off
    RIGHTS(ES), RIGHTS(CS), RIGHTS(SS), RIGHTS(DS), RIGHTS(FS), RIGHTS(GS), RIGHTS(LDTR), RIGHTS(TR),
    SELECTOR(CS), SELECTOR(SS), SELECTOR(DS), SELECTOR(ES), SELECTOR(LDTR), SELECTOR(TR), SELECTOR(FS),
    LIMIT(CS), LIMIT(SS), LIMIT(DS), LIMIT(GS), LIMIT(LDTR), LIMIT(TR),
    BASE(CS), BASE(SS), BASE(ES), BASE(FS), BASE(GS), BASE(LDTR), BASE(TR),
    {F_GUEST_GDTR_LIMIT, FLIP, 20, {0}}, {F_GUEST_IDTR_LIMIT, FLIP, 20, {0}},
    {F_GUEST_GDTR_BASE, CHOICE, 0, {POINTERS}}, {F_GUEST_IDTR_BASE, CHOICE, 0, {POINTERS}},
    {F_GUEST_CR0, FLIP, 34, {0}}, {F_GUEST_CR0, CHOICE, 0, {0x31, 0x21, 0x20, 0x80000031, 0xe0000031, 0xa0000031}},
    {F_GUEST_CR4, CONTROL, W_CR4, {0}}, {F_GUEST_CR4, FLIP, 64, {0}}, {F_GUEST_DR7, FLIP, 36, {0}},
    {F_GUEST_CR3, CHOICE, 0, {1ul << 52, 1ul << 45, 1ul << 63, 1ul << 41, 1ul << 62, 1ul << 60}},
    {F_GUEST_RIP, CHOICE, 0, {NONCANONICAL, 1ul << 32, 1ul << 47, ~0ul << 47, 1ul << 48, 1ul << 33}},
    {F_GUEST_RFLAGS, FLIP, 26, {0}}, {F_GUEST_RFLAGS, FLIP, 64, {0}},
    {F_GUEST_PENDING_DEBUG_EXCEPTIONS, FLIP, 20, {0}},
    {F_GUEST_PENDING_DEBUG_EXCEPTIONS, CHOICE, 0, {1ul << 32, 1 << 14, 1 << 12, 0x100f, 1 << 16, 1}},
    {F_GUEST_ACTIVITY_STATE, CHOICE, 0, {0, 1, 2, 4, 5, 0x80000000}},
    {F_GUEST_INTERRUPTIBILITY_STATE, CHOICE, 0, {1, 2, 3, 4, 8, 0x20}}, {F_GUEST_INTERRUPTIBILITY_STATE, FLIP, 32, {0}},
    {F_GUEST_IA32_DEBUGCTL, CHOICE, 0, {1, 2, 4, 1 << 5, 1 << 16, 1ul << 32}},
    {F_GUEST_IA32_PAT, CHOICE, 0, {2, 3, 0x0800000000000000, 0x0400000000000000, 0x0101010101010102, 0xff}},
    {F_GUEST_IA32_EFER, FLIP, 16, {0}}, {F_GUEST_IA32_EFER, FLIP, 64, {0}},
    {F_GUEST_IA32_SYSENTER_ESP, CHOICE, 0, {POINTERS}}, {F_GUEST_IA32_SYSENTER_EIP, CHOICE, 0, {POINTERS}},
    {F_VMCS_LINK_POINTER, CHOICE, 0, {0x1000, 8, 1ul << 63, ~0ul << 12, 1ul << 41, 0}},
    {F_GUEST_PDPTE0, FLIP, 64, {0}}, {F_GUEST_PDPTE1, CHOICE, 0, {1, 3, 0x21, 0x1e7, 1ul << 63 | 1, 1ul << 41 | 1}},
    {F_CR3_TARGET_COUNT, CHOICE, 0, {0, 4, 5, 257, 1000, 0x80000000}},
    {F_TPR_THRESHOLD, CHOICE, 0, {0, 1, 15, 16, 0x100, 0x80000000}},
    {F_EPTP, FLIP, 12, {0}}, {F_EPTP, CHOICE, 0, {0, 1ul << 41 | 0x1e, 0x1016, 0x1c, 0x1f, 1ul << 52 | 0x1e}},
    {F_VM_ENTRY_INSTRUCTION_LENGTH, CHOICE, 0, {0, 1, 15, 16, 100, 0x80000001}},
    {F_INJECTED_EVENT_ERROR_CODE, CHOICE, 0, {0, 1, 0xffff, 0x10000, 0x8000, 0x80000000}},
    {F_INJECTED_EVENT_IDENTIFICATION, EVENT, 0, {0}}, {F_INJECTED_EVENT_IDENTIFICATION, EVENT, 0, {0}},
    {F_INJECTED_EVENT_IDENTIFICATION, EVENT, 0, {0}}, {F_INJECTED_EVENT_IDENTIFICATION, FLIP, 32, {0}},
    {F_PIN_BASED_VM_EXECUTION_CONTROLS, CONTROL, W_PIN, {0}},
    {F_PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, CONTROL, W_PROC, {0}},
    {F_SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, CONTROL, W_PROC2, {0}},
    {F_PRIMARY_VM_EXIT_CONTROLS, CONTROL, W_EXIT, {0}}, {F_VM_ENTRY_CONTROLS, CONTROL, W_ENTRY, {0}},
    {F_VM_FUNCTION_CONTROLS, CHOICE, 0, {0, 1, 2, 3, 1ul << 63, 1}},
    ADDRESS(ADDRESS_OF_IO_BITMAP_A), ADDRESS(ADDRESS_OF_IO_BITMAP_B), ADDRESS(ADDRESS_OF_MSR_BITMAPS),
    ADDRESS(VIRTUAL_APIC_ADDRESS), ADDRESS(APIC_ACCESS_ADDRESS), ADDRESS(PML_ADDRESS), ADDRESS(EPTP_LIST_ADDRESS),
    ADDRESS(VMREAD_BITMAP_ADDRESS), ADDRESS(VMWRITE_BITMAP_ADDRESS), ADDRESS(VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS),
    ADDRESS(VM_ENTRY_MSR_LOAD_ADDRESS), ADDRESS(VM_EXIT_MSR_STORE_ADDRESS), ADDRESS(VM_EXIT_MSR_LOAD_ADDRESS),
    ADDRESS(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS),
    {F_POSTED_INTERRUPT_NOTIFICATION_VECTOR, CHOICE, 0, {0x30, 0xff, 0x100, 0x8000, 0, 0x51}},
    {F_VPID, CHOICE, 0, {0, 1, 2, 0xffff, 0, 7}},
    {F_HOST_CS_SELECTOR, CHOICE, 0, {9, 0, 9, 12, 11, 0xb}}, {F_HOST_SS_SELECTOR, CHOICE, 0, {0x11, 0x13, 0x14, 0x12, 0, 0x11}},
    {F_HOST_DS_SELECTOR, CHOICE, 0, {0x11, 0x13, 0x14, 0, 4, 1}}, {F_HOST_ES_SELECTOR, CHOICE, 0, {0x11, 0x13, 0x14, 0, 4, 1}},
    {F_HOST_TR_SELECTOR, CHOICE, 0, {0, 0, 0x4c, 0x49, 0x4a, 0x4b}},
    {F_HOST_FS_BASE, CHOICE, 0, {POINTERS}}, {F_HOST_GS_BASE, CHOICE, 0, {POINTERS}},
    {F_HOST_TR_BASE, CHOICE, 0, {NONCANONICAL, 1ul << 62, 1ul << 58, NONCANONICAL, 1ul << 60, 1ul << 57}},
    {F_HOST_GDTR_BASE, CHOICE, 0, {NONCANONICAL, 1ul << 62, 1ul << 58, NONCANONICAL, 1ul << 60, 1ul << 57}},
    {F_HOST_IDTR_BASE, CHOICE, 0, {NONCANONICAL, 1ul << 62, 1ul << 58, NONCANONICAL, 1ul << 60, 1ul << 57}},
    {F_HOST_IA32_SYSENTER_ESP, CHOICE, 0, {POINTERS}}, {F_HOST_IA32_SYSENTER_EIP, CHOICE, 0, {POINTERS}},
    {F_HOST_CR0, CHOICE, 0, {0x31, 0x80000011, 0x80000030, 0x180000031, 0x80000010, 0}},
    {F_HOST_CR4, CHOICE, 0, {0x2000, 0x20, 0x80002020, 0x100002020, 0, 0x2000}},
    {F_HOST_CR3, CHOICE, 0, {1ul << 52, 1ul << 45, 1ul << 63, 1ul << 41, 1ul << 62, 1ul << 60}},
    {F_HOST_IA32_PAT, CHOICE, 0, {3, 2, 0x0800000000000000, 0xff, 0x0300000000000000, 8}},
    {F_HOST_IA32_EFER, CHOICE, 0, {0, 0x100, 0x400, 0x502, 0x10500, 0x100000500}},
    // clang-format on
};

/* Mostly of a legal type, sometimes with a stray bit. */
static uint64_t random_event(void)
{
    static const uint8_t vectors[] = {0, 1, 2, 3, 4, 6, 8, 10, 13, 14, 17, 18, 31, 32, 0x80, 0xff};
    uint64_t e = below(8) ? EVENT_VALID : 0;
    e |= EVENT_TYPE(below(8)) | PICK(vectors);
    if (odds(3)) e |= EVENT_ERROR_CODE;
    if (odds(8)) e |= 1ul << (12 + below(19));
    return e;
}

/* Draws a change of a field: its new value, and the bit that is flipped if it is one. NULL if it is one that
 * a case would not come back from. */
static const struct row *draw(uint64_t (*value)(enum field f), uint64_t *flip, uint64_t *v)
{
    const struct row *r = &rows[below(sizeof(rows) / sizeof(rows[0]))];
    unsigned choice = below(6), bit = below(64);
    uint64_t event = random_event();
    *flip = 0;
    switch (r->kind) {
    case FLIP: *flip = 1ul << bit % r->width; break;
    case CONTROL: *flip = random_bit(offer.have[r->width] | (uint64_t)offer.lack[r->width]); break;
    case CHOICE: *v = r->choices[choice]; break;
    case EVENT: *v = event; break;
    }
    if (*flip) *v = value(r->field) ^ *flip;
    /* Without the timer a guest may not end; without these an exit would not come back to us. */
    if (r->field == F_PIN_BASED_VM_EXECUTION_CONTROLS && *flip == PIN_ACTIVATE_VMX_PREEMPTION_TIMER)
        return NULL;
    if (r->field == F_PRIMARY_VM_EXIT_CONTROLS && *flip == EXIT_LOAD_IA32_EFER) return NULL;
    if (r->field == F_SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS && *flip == PROC2_ENABLE_EPT)
        return NULL;
    if (r->field == F_GUEST_CR4 && *flip >> 32 == 0 && !((offer.have[W_CR4] | offer.lack[W_CR4]) & *flip))
        return NULL;
    return r;
}

static uint64_t of_case(enum field f) { return kase.f[f]; }

static void mutate(void)
{
    uint64_t flip, v = 0;
    const struct row *r = draw(of_case, &flip, &v);
    if (r && step(field_rows[r->field].name, flip ? "^" : " ", flip ? flip : v))
        kase.f[r->field] = flip ? kase.f[r->field] ^ flip : v;
}

static uint64_t of_vmcs(enum field f)
{
    uint64_t v = 0;
    vmread_status(field_rows[f].encoding, &v);
    return v;
}

bool mutation_live(enum field *field, uint64_t *old)
{
    uint64_t flip, v = 0;
    const struct row *r = draw(of_vmcs, &flip, &v);
    if (!r) return false;
    *field = r->field, *old = of_vmcs(r->field);
    return vmwrite_status(field_rows[r->field].encoding, v) == VMX_SUCCEED;
}

void mutations(void)
{
    unsigned n = below(8); /* most cases stay valid */
    for (; n >= 6; n--) mutate();
}

/* The guest and host state of a case: a valid guest in each mode, and steps that leave it valid for the most
   part. */
#include "fuzz.h"
#include "trap.h"

enum { ES, CS, SS, DS, FS, GS, LDTR, TR };

static void segment(unsigned i, uint16_t selector, uint64_t base, uint32_t limit, uint32_t rights)
{
    kase.f[F_GUEST_ES_SELECTOR + i] = selector;
    kase.f[F_GUEST_ES_BASE + i] = base;
    kase.f[F_GUEST_ES_LIMIT + i] = limit;
    kase.f[F_GUEST_ES_ACCESS_RIGHTS + i] = rights;
}

static void data_segments(uint16_t selector, uint32_t limit, uint32_t rights)
{
    for (unsigned i = ES; i <= GS; i++)
        if (i != CS) segment(i, selector, 0, limit, rights);
}

static void segments(void)
{
    enum mode m = kase.mode;
    segment(LDTR, S_LDT, A_LDT, 0x17, 0x82);
    segment(TR, SEL_TSS, A_TSS, 0x67, 0x8b);
    switch (m) {
    case REAL:
        data_segments(0, 0xffff, 0x93);
        segment(CS, 0, 0, 0xffff, 0x93);
        segment(TR, 0, A_TSS, 0xffff, 0x8b);
        break;
    case PROTECTED16:
        data_segments(SEL_DATA16, 0xffff, 0x93);
        segment(CS, SEL_CODE16, 0, 0xffff, 0x9b);
        break;
    case V86:
        data_segments(0, 0xffff, 0xf3);
        segment(CS, 0, 0, 0xffff, 0xf3);
        break;
    case PAGED_USER:
    case LONG_USER:
        data_segments(SEL_USER_DATA, 0xffffffff, 0xc0f3);
        segment(CS, m == LONG_USER ? SEL_USER_CODE64 : SEL_USER_CODE32, 0, 0xffffffff,
                m == LONG_USER ? 0xa0fb : 0xc0fb);
        break;
    default:
        data_segments(SEL_DATA, 0xffffffff, 0xc093);
        segment(CS, m == LONG ? SEL_CODE64 : SEL_CODE32, 0, 0xffffffff, m == LONG ? 0xa09b : 0xc09b);
    }
}

void guest_state(void)
{
    uint64_t *f = kase.f, base = arena_physical();
    bool is_long = mode_long(kase.mode), paged = mode_paged(kase.mode);
    segments();
    f[F_GUEST_CR0] = CR0_NE | CR0_ET | (kase.mode == REAL ? 0 : CR0_PE) | (paged ? CR0_PG | CR0_WP : 0);
    f[F_GUEST_CR4] = CR4_VMXE | (is_long || kase.mode == PAE ? CR4_PAE : 0);
    f[F_GUEST_CR3] = base + (is_long ? A_PML4 : kase.mode == PAE ? A_PDPT_PAE : A_PD32);
    f[F_GUEST_IA32_EFER] = is_long ? EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE : EFER_NXE;
    for (unsigned i = 0; i < 4; i++) f[F_GUEST_PDPTE0 + i] = *(uint64_t *)arena_at(A_PDPT_PAE + 8 * i);
    f[F_GUEST_GDTR_BASE] = A_GDT, f[F_GUEST_GDTR_LIMIT] = S_GDT_LIMIT;
    f[F_GUEST_IDTR_BASE] = kase.mode == REAL ? A_IVT : A_IDT;
    f[F_GUEST_IDTR_LIMIT] = kase.mode == REAL ? 0x3ff : is_long ? 0xfff : 0x7ff;
    f[F_GUEST_DR7] = 0x400;
    f[F_GUEST_RIP] = A_CODE + 0x800;
    f[F_GUEST_RSP] = A_RSP;
    f[F_GUEST_RFLAGS] = RFLAGS_FIXED | (kase.mode == V86 ? RFLAGS_VM : 0);
    f[F_VMCS_LINK_POINTER] = ~0ul;
    f[F_GUEST_IA32_PAT] = 0x0007040600070406;
    f[F_GUEST_IA32_SYSENTER_CS] = 8;
    f[F_GUEST_IA32_SYSENTER_ESP] = A_RSP, f[F_GUEST_IA32_SYSENTER_EIP] = A_STUBS + 8 * 70;
    f[F_PML_INDEX] = 511;
}

/* Flips bits of `among`, one step a bit. */
static void flips(const char *name, enum field field, uint64_t among, unsigned count, unsigned one_in)
{
    for (unsigned i = 0; i < count; i++) {
        bool yes = odds(one_in);
        uint64_t bits = random_bit(among);
        if (yes && bits && step(name, "^", bits)) kase.f[field] ^= bits;
    }
}

static void choose(const char *name, enum field field, unsigned one_in, const uint64_t *list, unsigned count)
{
    bool yes = odds(one_in);
    uint64_t v = list[below(count)];
    if (yes && step(name, " ", v)) kase.f[field] = v;
}
#define CHOOSE(field, one_in, ...) \
    choose(#field, F_##field, one_in, (const uint64_t[]){__VA_ARGS__}, \
           sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

static void segment_changes(void)
{
    static const uint16_t selectors[] = {0, SEL_DATA, SEL_USER_DATA, S_LDT, S_READ_ONLY, S_EXPAND_DOWN,
                                         4, 7,        0xfff8};
    static const uint32_t limits[] = {0xfff, 0x3fff, 0x47ff, 0xffff, 0xfffff, 0xffffffff, 0x4fff};
    static const uint32_t rights[] = {0x10000, 0x10000, 0x93, 0xc091, 0xc0f3,  0xc097,
                                      0x97,    0x99,    0x9d, 0xc09b, 0x1c093, 0xd093};
    static const uint64_t bases[] = {0, 0x10, 0x1000, 0xfffff000, 0x10, 0x123456789000};
    static const uint8_t which[] = {ES, DS, FS, GS, DS, ES, SS, CS};
    for (unsigned i = 0; i < 2; i++) {
        bool yes = odds(8);
        unsigned s = PICK(which), kind = below(4);
        uint64_t selector = PICK(selectors), limit = PICK(limits), right = PICK(rights), b = PICK(bases);
        if (!yes) continue;
        if (kind == 0 && step("selector ", "of segment", s << 16 | selector))
            kase.f[F_GUEST_ES_SELECTOR + s] = selector;
        if (kind == 1 && step("limit ", "of segment", (uint64_t)s << 32 | limit))
            kase.f[F_GUEST_ES_LIMIT + s] = limit;
        if (kind == 2 && step("rights ", "of segment", (uint64_t)s << 32 | right))
            kase.f[F_GUEST_ES_ACCESS_RIGHTS + s] = right;
        if (kind == 3 && step("base ", "of segment", (uint64_t)s << 56 | b)) kase.f[F_GUEST_ES_BASE + s] = b;
    }
    bool no_ldtr = odds(4);
    if (no_ldtr && step("LDTR ", "unusable", AR_UNUSABLE)) segment(LDTR, 0, 0, 0, AR_UNUSABLE);
    bool task = odds(8);
    uint32_t type = odds(2) ? 0x83 : 0x8b;
    if (task && !mode_long(kase.mode) && step("rights ", "of TR", type))
        kase.f[F_GUEST_TR_ACCESS_RIGHTS] = type;
}

void guest_changes(void)
{
    static const uint32_t cr4 = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_OSFXSR |
                                CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE |
                                CR4_SMEP | CR4_SMAP | 3;
    flips("GUEST_CR0", F_GUEST_CR0, CR0_MP | CR0_EM | CR0_TS | CR0_WP | CR0_AM | CR0_NW | CR0_CD, 2, 5);
    flips("GUEST_CR4", F_GUEST_CR4, cr4 & offer.have[W_CR4], 2, 4);
    flips("GUEST_EFER", F_GUEST_IA32_EFER, EFER_SCE | EFER_NXE, 1, 12);
    flips("GUEST_RFLAGS", F_GUEST_RFLAGS,
          RFLAGS_CF | RFLAGS_ZF | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_OF | RFLAGS_IOPL3 | RFLAGS_NT |
              RFLAGS_RF | RFLAGS_AC,
          3, 3);
    bool interrupts = odds(3);
    if (interrupts && step("GUEST_RFLAGS", "^", RFLAGS_IF)) kase.f[F_GUEST_RFLAGS] ^= RFLAGS_IF;
    segment_changes();
    CHOOSE(GUEST_DR7, 6, 0x400, 0x401, 0x402, 0x455, 0xf0401, 0xd0402, 0x2400, 0x10403, 0x600, 0xe0408,
           0x304ff, 0x1d0700);
    CHOOSE(GUEST_IA32_DEBUGCTL, 12, 0, 1, 2, 3, 0x4000);
    CHOOSE(GUEST_PENDING_DEBUG_EXCEPTIONS, 8, 0x4000, 0x1000, 0x1001, 1, 0xf, 0x5001, 0x10000);
    CHOOSE(GUEST_INTERRUPTIBILITY_STATE, 6, 1, 2, 8, 9, 10, 3);
    CHOOSE(GUEST_ACTIVITY_STATE, 10, 1, 1, 1, 2);
    CHOOSE(GUEST_RSP, 16, A_RSP + 1, 0x3008, 0x3ffc, 4, 0x10000, 0x5004);
    CHOOSE(GUEST_IDTR_LIMIT, 24, 0, 0x6f, 0xff, 0x10, 0x3ff);
    CHOOSE(GUEST_IA32_SYSENTER_CS, 8, 0, 0x10, 0xffffffff, 0xb);
    CHOOSE(GUEST_IA32_SYSENTER_EIP, 12, 0, 0x7fffffffffff, 0xffffffff80000000);
    CHOOSE(GUEST_IA32_PAT, 8, 0x0606060606060606, 0, 0x0101010101010101);
    CHOOSE(GUEST_TR_LIMIT, 16, 0x67, 0x66, 0x23, 0xffff);
    static const uint64_t debug_addresses[] = {A_CODE + 0x800, A_CODE + 0x802, A_DATA, A_DATA + 4,
                                               A_STUBS + 8,    A_RSP - 8,      0x80};
    for (unsigned i = 0; i < 4; i++) {
        bool yes = odds(4);
        uint64_t v = PICK(debug_addresses);
        if (yes && step("DR", "0-3", i << 16 | v)) kase.dr[i] = v;
    }
}

void host_state(void)
{
    static const enum field same[] = {F_HOST_DS_SELECTOR, F_HOST_ES_SELECTOR, F_HOST_SS_SELECTOR};
    uint64_t *f = kase.f;
    host_tables(&f[F_HOST_GDTR_BASE], &f[F_HOST_IDTR_BASE]);
    for (unsigned i = 0; i < 3; i++) f[same[i]] = SEL_DATA;
    f[F_HOST_CS_SELECTOR] = SEL_CODE64, f[F_HOST_TR_SELECTOR] = SEL_TSS;
    f[F_HOST_CR0] = read_cr0(), f[F_HOST_CR3] = read_cr3(), f[F_HOST_CR4] = read_cr4();
    f[F_HOST_TR_BASE] = (uint64_t)&rt_tss;
    f[F_HOST_IA32_PAT] = 0x0007040600070406;
    f[F_HOST_IA32_EFER] = rdmsr(IA32_EFER);
    f[F_HOST_IA32_SYSENTER_EIP] = 0x5000, f[F_HOST_IA32_SYSENTER_ESP] = 0x6000,
    f[F_HOST_IA32_SYSENTER_CS] = 0x10;
    /* What an exit may load without harm. */
    CHOOSE(HOST_FS_BASE, 12, 0x1234, 0xffff800000000000, 0x7fffffffffff);
    CHOOSE(HOST_GS_BASE, 12, 0x1234, 0xffff800000000000, 0x7fffffffffff);
    CHOOSE(HOST_IA32_SYSENTER_ESP, 12, 0, 0xffff800000000000, 0x7fffffffffff);
    CHOOSE(HOST_IA32_PAT, 12, 0x0606060606060606, 0x0007040600070406);
    CHOOSE(HOST_DS_SELECTOR, 16, 0, SEL_DATA);
    CHOOSE(HOST_SS_SELECTOR, 24, 0, SEL_DATA);
    CHOOSE(HOST_FS_SELECTOR, 16, SEL_DATA, 0xfff8);
    CHOOSE(HOST_GS_SELECTOR, 16, SEL_DATA);
}

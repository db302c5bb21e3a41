/*
 * The guest's memory: code, stack, data, descriptor tables and page tables, EPT, and the areas that the VMCS
 * points to (bitmaps, MSR areas, the virtual-APIC page).
 *
 * Linear addresses from 0 on are mapped to physical ones in the arena, by the guest's tables; guest-physical
 * ones from 0 on and those of the arena both lead there by EPT. So the same tables serve with EPT and
 * without, and addresses fit 16-bit code. Only stack, data and the GDT's page can be written to, so little
 * has to be put back.
 */
#include "fuzz.h"

static uint8_t *arena, *original, *idts;
static uint64_t *ept_root, *ept_pdpt, *ept_pd, *ept_pt;
uint64_t areas_msr_store, areas_virtual_apic, areas_ept, areas_spare, areas_sppt, areas_shadow;
static uint64_t area_a, area_b, area_msr, area_load, area_exit_load, area_eptp_list;

uint64_t arena_physical(void) { return (uint64_t)arena; }
uint8_t *arena_at(uint32_t offset) { return arena + offset; }

/* Vector n comes to A_STUBS + 8 n: a NOP (Bochs saves a stale RIP if the first instruction of an NMI's
   handler exits) and a VMCALL, in every mode. */
static void stubs(uint8_t *at)
{
    for (unsigned i = 0; i < 256; i++) memcpy(at + 8 * i, "\x90\x0f\x01\xc1\xcc\xcc\xcc\xcc", 8);
}

static void gdt(uint8_t *page)
{
    static const uint64_t entries[] = {
        0,
        0x00af9b000000ffff,
        0x00cf93000000ffff,
        0x00cf9b000000ffff,
        0x00009b000000ffff,
        0x000093000000ffff,
        0x00cffb000000ffff,
        0x00cff3000000ffff,
        0x00affb000000ffff,
        0x0000890062000067, /* 48: the TSS */
        0,
        0x0000820066000017, /* 58: the LDT */
        0,
        0x0000ec0000188800, /* 68: a call gate to the stub of vector 0 of the second half; its upper half is
                               zero */
        0,
        0x0000890064000067, /* 78: the other TSS */
        0x00cf13000000ffff, /* 80: not present */
        0x00cf91000000ffff, /* 88: read-only */
        0x00cf99000000ffff, /* 90: execute-only */
        0x00cf9f000000ffff, /* 98: conforming */
        0x00cf97000000ffff, /* a0: expand-down, no limit left */
    };
    memcpy(page, entries, sizeof(entries));
    uint64_t task_gate = 0x0000850000000000 | (uint64_t)S_TSS2 << 16;
    memcpy(page + S_TASK_GATE, &task_gate, 8);
    memcpy(page + (A_LDT - A_GDT), &entries[2], 16); /* 04: data, 0c: 32-bit code */
    for (unsigned i = 0; i < 2; i++) {
        uint32_t *tss = (uint32_t *)(page + (i ? A_TSS2 : A_TSS) - A_GDT);
        memset(tss, 0, 104);
        tss[1] = A_RSP; /* ESP0, or RSP0's low half */
        if (i) {        /* a task that can be switched to */
            tss[2] = SEL_DATA;
            tss[8] = A_STUBS + 8 * 64, tss[9] = 2, tss[14] = A_RSP;
            tss[18] = SEL_DATA, tss[19] = SEL_CODE32, tss[20] = tss[21] = SEL_DATA;
        }
        tss[25] = 104 << 16;
    }
}

/* The IDT's gates are of the mode's size. */
static void idt(uint8_t *page, bool wide)
{
    unsigned size = wide ? 16 : 8;
    for (unsigned i = 0; i < 256; i++) {
        unsigned at = A_STUBS + 8 * i, dpl = i == 3 || i == 4 || i >= 0x80 ? 3 : 0;
        struct gate_half {
            uint16_t offset, selector;
            uint8_t ist, attributes;
            uint16_t offset1;
        } g = {(uint16_t)at, wide ? SEL_CODE64 : SEL_CODE32, 0, (uint8_t)(0x8e | dpl << 5), 0};
        if (i == 0x90) g.attributes = 0xef;                                    /* a trap gate */
        if (i == 0x91) g.attributes = 0x6e;                                    /* not present */
        if (i == 0x92 && !wide) g = (struct gate_half){0, S_TSS2, 0, 0xe5, 0}; /* a task gate */
        memcpy(page + size * i, &g, 8);
    }
}

static void for_mode(void)
{
    bool wide = mode_long(kase.mode);
    /* SS0 lies where the upper half of RSP0 does. */
    ((uint32_t *)(arena + A_TSS))[2] = wide ? 0 : SEL_DATA;
    memcpy(arena + A_IDT, idts + 4096 * wide, 4096);
}

#define TABLE PTE_P | PTE_W | PTE_U
static void guest_tables(uint8_t *at)
{
    uint64_t base = (uint64_t)arena, *pt = (uint64_t *)(at + A_PT), *pae = (uint64_t *)(at + A_PDPT_PAE);
    uint32_t *pt32 = (uint32_t *)(at + A_PT32);
    *(uint64_t *)(at + A_PML4) = (base + A_PDPT) | TABLE;
    *(uint64_t *)(at + A_PDPT) = (base + A_PD) | TABLE;
    *(uint64_t *)(at + A_PD) = (base + A_PT) | TABLE;
    *(uint32_t *)(at + A_PD32) = (uint32_t)(base + A_PT32) | TABLE;
    pae[0] = (base + A_PD) | PTE_P;
    pae[1] = pae[2] = pae[3] = 0;
    for (unsigned i = 0; i < A_MAPPED; i++) {
        bool absent = i == A_NOTHING >> 12;
        bool written = i == A_STACK >> 12 || i == A_DATA >> 12 || i == (A_DATA >> 12) + 1 || i == A_GDT >> 12;
        uint64_t flags = (absent ? 0 : PTE_P) | PTE_U | (written ? PTE_W : 0);
        pt[i] = (base + 4096 * i) | flags;
        pt32[i] = (uint32_t)(base + 4096 * i) | (uint32_t)flags;
    }
}

static void ept_tables(void)
{
    uint64_t base = (uint64_t)arena;
    ept_root[0] = (uint64_t)ept_pdpt | EPT_RWX;
    ept_pdpt[0] = (uint64_t)ept_pd | EPT_RWX;
    if (have(W_EPT, 1u << 17)) ept_pdpt[1] = EPT_TYPE_WB | EPT_LARGE | EPT_R | EPT_X;
    ept_pd[0] = ept_pd[base >> 21] = (uint64_t)ept_pt | EPT_RWX;
    if (have(W_EPT, 1u << 16)) ept_pd[1] = base | EPT_TYPE_WB | EPT_LARGE | EPT_R | EPT_X;
    for (unsigned i = 0; i < A_SIZE >> 12; i++) {
        bool written = i == A_STACK >> 12 || i == A_DATA >> 12 || i == (A_DATA >> 12) + 1 ||
                       i == A_GDT >> 12 || i >= A_PML4 >> 12;
        bool absent = i == A_NOTHING >> 12;
        ept_pt[i] = (base + 4096 * i) | EPT_TYPE_WB | (absent ? 0 : EPT_R | EPT_X) | (written ? EPT_W : 0);
    }
}

static uint32_t opened; /* pages that the guest could write to and cannot by itself */

bool arena_open_ept(uint64_t guest_physical)
{
    uint64_t at = guest_physical >= (uint64_t)arena ? guest_physical - (uint64_t)arena : guest_physical;
    ept_tables();
    if (at < A_SIZE) ept_pt[at >> 12] |= EPT_RWX, opened |= 1u << (at >> 12);
    return at < A_SIZE;
}

static void bitmaps_and_areas(void)
{
    area_a = (uint64_t)page_alloc(1), area_b = (uint64_t)page_alloc(1), area_msr = (uint64_t)page_alloc(1);
    area_load = (uint64_t)page_alloc(1), area_exit_load = (uint64_t)page_alloc(1);
    areas_msr_store = (uint64_t)page_alloc(1), areas_virtual_apic = (uint64_t)page_alloc(1);
    area_eptp_list = (uint64_t)page_alloc(1), areas_spare = (uint64_t)page_alloc(1);
    areas_sppt = (uint64_t)page_alloc(4);
}

void arena_init(void)
{
    original = page_alloc(A_SIZE >> 12);
    ept_root = page_alloc(1), ept_pdpt = page_alloc(1), ept_pd = page_alloc(1), ept_pt = page_alloc(1);
    areas_ept = (uint64_t)ept_root;
    idts = page_alloc(2);
    idt(idts, false), idt(idts + 4096, true);
    bitmaps_and_areas();
    arena = page_alloc_aligned(A_SIZE >> 12, 16 << 20);
    memset(original, 0xcc, A_PML4);
    memset(original + A_STACK, 0, 0x3000);
    stubs(original + A_STUBS);
    memcpy(original + A_STUBS + 0x800, original + A_STUBS, 0x800);
    memset(original + A_GDT, 0, 4096);
    gdt(original + A_GDT);
    for (unsigned i = 0; i < 256; i++) {
        uint16_t vector[2] = {(uint16_t)(A_STUBS + 8 * i), 0};
        memcpy(original + A_IVT + 4 * i, vector, 4);
    }
    guest_tables(original);
    memcpy(arena, original, A_SIZE);
}

/* A table register's operand, a TSS's selector, and the like, for instructions that read the data page. */
static void data(uint8_t *at)
{
    static const uint8_t pattern[] = {0xff, 0x00, 0x00, 0x60, 0, 0, 0, 0, 0, 0, 0x48, 0, 0x78, 0, 0x21, 0x43};
    for (unsigned i = 0; i < 16; i++) memcpy(at + 16 * i, pattern, sizeof(pattern));
}

void arena_reset(void)
{
    /* A supervisor with CR0.WP=0 writes where only the guest's tables forbid it. */
    memcpy(arena + A_IVT, original + A_IVT, 1024);
    memcpy(arena + A_CODE, original + A_CODE, A_IDT - A_CODE);
    memcpy(arena + A_STUBS, original + A_STUBS, 4096);
    memcpy(arena + A_APIC, original + A_APIC, 256);
    for (unsigned i = 0; opened; i++, opened >>= 1)
        if (opened & 1) memcpy(arena + 4096 * i, original + 4096 * i, 4096);
    for (unsigned at = A_PML4; at <= A_PDPT_PAE; at += 4096) memcpy(arena + at, original + at, 128);
    data(arena + A_DATA);
    for_mode();
    ept_tables();
    memset((void *)areas_virtual_apic, 0, 1024);
    memset((void *)areas_msr_store, 0, 128);
    memset((void *)areas_spare, 0, 64), memset((void *)(areas_spare + 4032), 0, 64);
    memset(areas_posted(), 0, 64), memset(areas_pid_pointers(), 0, 64);
    for (unsigned i = 0; i < 4; i++) memset((void *)(areas_sppt + 4096 * i), 0, 64);
}

/* --- steps --- */

static void guest_paging_changes(void)
{
    if (!odds(4)) return;
    static const uint8_t pages[] = {1, 1, 3, 3, 4, 4, 4, 5, 6, 7, 8, 2};
    static const uint8_t bits[] = {0, 0, 1, 1, 2, 5, 6, 3, 4, 7, 8, 11, 62, 63};
    unsigned page = PICK(pages), bit = PICK(bits), level = below(8);
    if (!step("PTE^", "", (uint64_t)page << 8 | bit) || !mode_paged(kase.mode)) return;
    uint64_t *entry = (uint64_t *)(arena + (level == 0 ? A_PD : level == 1 ? A_PDPT : A_PT));
    uint32_t *entry32 = (uint32_t *)(arena + (level == 0 ? A_PD32 : A_PT32));
    unsigned at = level <= 1 ? 0 : page;
    if (level == 1 && kase.mode == PAE) entry = (uint64_t *)(arena + A_PDPT_PAE);
    if (level <= 1 && (bit == 7 || bit == 11)) return; /* a large page would show the host's memory */
    entry[at] ^= 1ul << bit;
    if (bit < 32) entry32[level == 1 ? page : at] ^= 1u << bit;
}

static void ept_changes(void)
{
    if (!odds(3)) return;
    static const uint8_t pages[] = {1, 1, 3, 3, 4, 4, 4, 5, 6, 7, 8, 16, 17, 18, 19, 20, 21, 22};
    static const uint8_t bits[] = {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 45, 50, 62, 63};
    unsigned page = PICK(pages), bit = PICK(bits), again = PICK(bits), level = below(12);
    bool two = odds(2);
    if (!step("EPT^", "", (uint64_t)level << 16 | page << 8 | bit)) return;
    uint64_t *entry = level == 0   ? ept_root
                      : level == 1 ? ept_pdpt
                      : level == 2 ? ept_pd
                      : level == 3 ? &ept_pd[1]
                                   : &ept_pt[page];
    if (bit == 7 && (level == 1 || level == 2)) return; /* the host's memory again */
    *entry ^= 1ul << bit;
    if (two && again < 7) *entry ^= 1ul << again;
}

static const uint32_t msr_list[] = {IA32_KERNEL_GS_BASE, IA32_STAR,         IA32_LSTAR, IA32_FMASK, IA32_PAT,
                                    IA32_SYSENTER_CS,    IA32_SYSENTER_EIP, IA32_CSTAR};

static uint64_t msr_value(uint32_t msr)
{
    static const uint64_t values[] = {0, 1, 0x12345, 0xffffffff80000000, 0x7fffffffffff, 8};
    uint64_t v = PICK(values);
    return msr == IA32_PAT ? (odds(4) ? 0x0007040600070406 : 0x0606060606060606) : v;
}

/* MSR areas: `bad` where a wrong entry makes the entry fail; in those of an exit it would be a VMX abort. */
static void msr_area(const char *name, enum field address, enum field count, uint64_t at, bool bad)
{
    if (!odds(8)) return;
    unsigned n = 1 + below(3);
    struct {
        uint32_t msr, reserved;
        uint64_t value;
    } *entry = (void *)at;
    bool apply = step(name, "", n);
    for (unsigned i = 0; i < n; i++) {
        uint32_t msr = PICK(msr_list), spoil = below(24);
        uint64_t value = msr_value(msr);
        static const uint32_t refused[] = {IA32_FS_BASE,   IA32_GS_BASE, 0x80b,      0x12345678,
                                           IA32_VMX_BASIC, 0x9b,         IA32_LSTAR, 0x79};
        if (apply) entry[i].msr = msr, entry[i].reserved = 0, entry[i].value = value;
        if (!bad || spoil > 9 || !step(name, " spoilt", i << 8 | spoil)) continue;
        if (spoil < 8) entry[i].msr = refused[spoil], entry[i].value = 0x8000000000000000;
        if (spoil == 8) entry[i].reserved = 1;
        if (spoil == 9) entry[i].value = 1ul << 63;
    }
    if (apply) kase.f[address] = at, kase.f[count] = n;
}

static void bitmap(uint8_t *at, uint32_t offset, uint32_t bit)
{
    at[offset + bit / 8] |= (uint8_t)(1u << bit % 8);
}

static void bitmap_changes(void)
{
    static const uint16_t ports[] = {0xec, 0xee, 0xe4, 0x1234, 0x1235, 0x7fff, 0x8000, 0xfffe, 0xfffc, 0x60};
    static const uint32_t low[] = {
        IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_PAT, IA32_DEBUGCTL, 0x10, 0x1b, 0x1fff};
    static const uint32_t high[] = {0x80, 0x81, 0x82, 0x84, 0x100, 0x101, 0x102, 0x103, 0x1fff};
    static unsigned dirty[16];
    static uint8_t *map[16];
    static unsigned used;
    for (; used; used--) map[used - 1][dirty[used - 1]] = 0;
    for (unsigned i = 0; i < 4; i++) {
        uint16_t port = PICK(ports);
        uint8_t *at = (uint8_t *)(port & 0x8000 ? area_b : area_a);
        map[used] = at, dirty[used++] = (port & 0x7fff) / 8;
        if (odds(2)) bitmap(at, 0, port & 0x7fff);
    }
    for (unsigned i = 0; i < 4; i++) {
        unsigned half = below(4) * 0x400, bit = half & 0x400 ? PICK(high) : PICK(low);
        map[used] = (uint8_t *)area_msr, dirty[used++] = half + bit / 8;
        if (odds(2)) bitmap((uint8_t *)area_msr, half, bit);
    }
}

void arena_changes(void)
{
    kase.f[F_ADDRESS_OF_IO_BITMAP_A] = area_a, kase.f[F_ADDRESS_OF_IO_BITMAP_B] = area_b;
    kase.f[F_ADDRESS_OF_MSR_BITMAPS] = area_msr;
    kase.f[F_VIRTUAL_APIC_ADDRESS] = areas_virtual_apic,
    kase.f[F_APIC_ACCESS_ADDRESS] = (uint64_t)arena + A_APIC;
    kase.f[F_EPTP_LIST_ADDRESS] = area_eptp_list;
    kase.f[F_VMREAD_BITMAP_ADDRESS] = kase.f[F_VMWRITE_BITMAP_ADDRESS] = area_a;
    kase.f[F_PML_ADDRESS] = kase.f[F_VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS] = areas_spare;
    kase.f[F_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS] = (uint64_t)areas_posted();
    kase.f[F_SPPTP] = areas_sppt;
    guest_paging_changes();
    ept_changes();
    msr_area("ENTRY_MSR_LOAD", F_VM_ENTRY_MSR_LOAD_ADDRESS, F_VM_ENTRY_MSR_LOAD_COUNT, area_load, true);
    msr_area("EXIT_MSR_STORE", F_VM_EXIT_MSR_STORE_ADDRESS, F_VM_EXIT_MSR_STORE_COUNT, areas_msr_store,
             false);
    msr_area("EXIT_MSR_LOAD", F_VM_EXIT_MSR_LOAD_ADDRESS, F_VM_EXIT_MSR_LOAD_COUNT, area_exit_load, false);
    bitmap_changes();
    static const uint8_t tprs[] = {0, 0, 0x10, 0x30, 0xf0, 0x2f};
    uint8_t tpr = PICK(tprs);
    if (step("VTPR", "", tpr)) *(uint8_t *)(areas_virtual_apic + 0x80) = tpr;
}

uint64_t *areas_pid_pointers(void) { return (uint64_t *)(areas_spare + 1024); }
uint64_t *areas_posted(void) { return (uint64_t *)(areas_spare + 2048); }
uint64_t *arena_ept_entry(uint32_t offset) { return &ept_pt[offset >> 12]; }

uint64_t arena_digest(uint64_t h, bool details)
{
    static const struct {
        const char *name;
        uint32_t at, size;
    } windows[] = {{"stack", A_RSP - 0x100, 0x120},
                   {"data", A_DATA, 0x100},
                   {"data2", A_DATA + 0x1000, 0x40},
                   {"GDT", A_GDT, 0xa8},
                   {"TSS", A_TSS, 0x68},
                   {"TSS2", A_TSS2, 0x68},
                   {"PML4", A_PML4, 8},
                   {"PDPT", A_PDPT, 8},
                   {"PD", A_PD, 8},
                   {"PT", A_PT, 8 * A_MAPPED},
                   {"PD32", A_PD32, 8},
                   {"PT32", A_PT32, 4 * A_MAPPED},
                   {"PDPT PAE", A_PDPT_PAE, 32},
                   {"APIC page", A_APIC, 64}};
    for (unsigned i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        const uint64_t *p = (const uint64_t *)(arena + windows[i].at);
        uint64_t part = 0;
        for (unsigned n = 0; n < windows[i].size / 8; n++) {
            part = mix(part, p[n]);
            if (details && p[n] != ((const uint64_t *)(original + windows[i].at))[n])
                print("  %s+%x %lx\n", windows[i].name, 8 * n, p[n]);
        }
        h = mix(h, part);
    }
    const struct {
        const char *name;
        const uint64_t *at;
        unsigned count;
    } tables[] = {{"EPT PML4", ept_root, 1},
                  {"EPT PDPT", ept_pdpt, 2},
                  {"EPT PD", ept_pd, 2},
                  {"EPT PT", ept_pt, A_SIZE >> 12},
                  {"MSR store", (const uint64_t *)areas_msr_store, 6},
                  {"#VE", (const uint64_t *)areas_spare, 5},
                  {"PML", (const uint64_t *)(areas_spare + 4032), 8},
                  {"posted", areas_posted(), 5}};
    for (unsigned i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        for (unsigned n = 0; n < tables[i].count; n++) {
            uint64_t entry = tables[i].at[n];
            if (i == 5 && n == 1 && !have(W_EPT, 1u << 22)) entry &= ~0xe00ul; /* #VE's qualification */
            if (i == 6 && report_tolerates('p')) entry &= ~0xffful;
            h = mix(h, entry);
            if (details && (i < 4 ? tables[i].at[n] & (EPT_A | EPT_D) : tables[i].at[n]))
                print("  %s[%u] %lx\n", tables[i].name, n, tables[i].at[n]);
        }
    for (unsigned at = 0x80; at < 0x280; at += 16) {
        uint32_t v = *(uint32_t *)(areas_virtual_apic + at);
        h = mix(h, v);
        if (details && v) print("  virtual APIC+%x %x\n", at, v);
    }
    return h;
}

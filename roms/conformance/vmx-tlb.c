/*
 * What must drop translations, and which ones must never be mixed (SDM 5.10, 31.4): page faults, INVLPG and
 * MOV CR3 with paging-structure caches, PCIDs, global pages, CR4, CR0.PG (in a guest, too, where it may
 * change it: unrestricted guest); VPIDs, EP4TA tags, EPT violations, INVEPT by EP4TA. What only may be kept
 * is no point but a note, "kept" or "dropped": hypervisors that rely on either have a bug. (paging.c has
 * INVLPG, INVPCID and CR4.PGE; vmx-ept.c INVVPID and entries without VPIDs.)
 *
 * Bochs 2.7 passes all points.
 */
#include "vmx-playground.h"

CODE(i_read, "mov (%rdi), %eax");
CODE(i_write, "mov %eax, (%rdi)");
CODE(i_twice, "mov (%rdi), %eax; vmcall; mov (%rdi), %ebx");
CODE(i_cr3, "mov (%rdi), %eax; vmcall; mov %rsi, %cr3; mov (%rdi), %ebx");
CODE(i_cr3_unlike, "mov (%rdi), %eax; mov %rsi, %cr3; mov (%rdi), %ebx; mov %rdx, %cr3; mov (%rdi), %ecx");
CODE(i_invlpg, "mov (%rdi), %eax; vmcall; invlpg (%rdi); mov (%rdi), %ebx");
PROBE(store, "movl $7, (%rdi)");

/* CR0.PG off and on again: from 64-bit mode by way of a 32-bit code segment. The upper halves of registers do
   not survive. */
#define PG_OFF "mov %cr0, %ecx; btr $31, %ecx; mov %ecx, %cr0; jmp 1f; 1:"
#define PG_ON  "mov %cr0, %ecx; bts $31, %ecx; mov %ecx, %cr0; jmp 1f; 1:"
PROBE(paging_off_and_on, "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15;"
                         "push $0x18; lea 2f(%rip), %rax; push %rax; lretq;" /* SEL_CODE32 */
                         ".code32; 2: " PG_OFF PG_ON "ljmp $8, $3f; .code64; 3: mov %esp, %esp;"
                         "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx");
/* 32-bit guests: ESI is where the PTE of EDI is, EDX what comes there. */
#define CODE32(name, code) CODE(name, ".code32; " code "; .code64")
CODE32(i_pg_flush, "mov (%edi), %eax; mov %edx, (%esi);" PG_OFF PG_ON "mov (%edi), %ebx");
CODE32(i_pg_apart, "mov (%edi), %eax;" PG_OFF "mov (%edi), %ebx;" PG_ON "mov (%edi), %ebp");
CODE32(i_pg_ept, "mov (%edi), %eax; vmcall;" PG_OFF PG_ON "mov (%edi), %ebx");
CODE32(i_pg_entry, "mov (%edi), %eax; vmcall; mov (%edi), %ebx");

#define PAGE 0xd000000000ul /* linear, with a PML4 entry of its own */
static uint64_t *page1, *page2;
static uint64_t cap;

static uint64_t read_at(uint64_t a) { return *(volatile uint64_t *)a; }
static const char *seen(uint64_t value) { return value == 1 ? "kept" : "dropped"; }

/* PAGE leads to page1, and the processor has used that. */
static void used(uint64_t flags)
{
    page1[0] = 1, page2[0] = 2;
    paging_map(PAGE, (uint64_t)page1, PTE_P | PTE_W | flags);
    invlpg(PAGE);
    read_at(PAGE);
}
static void to_page2(uint64_t flags)
{
    *(volatile uint64_t *)paging_entry(PAGE, 1) = (uint64_t)page2 | PTE_P | PTE_W | flags;
}

/* A second page table, in which all of the 2 MiB are page2. */
static uint64_t other_table(void)
{
    uint64_t *table = page_alloc(1);
    for (unsigned i = 0; i < 512; i++) table[i] = (uint64_t)page2 | PTE_P | PTE_W;
    return (uint64_t)table | PTE_P | PTE_W | PTE_U;
}

static bool spoil(struct trap_frame *f)
{
    (void)f;
    to_page2(0);
    return true;
}

static void root(void)
{
    used(0);
    to_page2(0);
    tap_note("a changed PTE without INVLPG: %s", seen(read_at(PAGE)));
    invlpg(PAGE);

    /* A fault drops what is kept of its address: the same access does not fault again (SDM 5.10.4.1). */
    used(0);
    *paging_entry(PAGE, 1) = (uint64_t)page1 | PTE_P;
    invlpg(PAGE);
    read_at(PAGE);
    trap_on(VECTOR_PF, spoil);
    struct trap t = trap_catch(store, PAGE, 0);
    trap_on(VECTOR_PF, NULL);
    ok(t.vector == TRAP_NONE && (uint32_t)page2[0] == 7 && page1[0] == 1,
       "SDM 5.10.4.1: a page fault drops the translation of its address");

    /* Page-directory entries: an address whose own translation was never used. */
    uint64_t other = other_table();
    paging_map(PAGE + 8 * 4096, (uint64_t)page1, PTE_P | PTE_W);
    used(0);
    uint64_t *pde = paging_entry(PAGE, 2), own = *pde;
    *(volatile uint64_t *)pde = other;
    tap_note("a changed PDE without INVLPG, another page: %s", seen(read_at(PAGE + 8 * 4096)));
    *(volatile uint64_t *)pde = own;
    paging_map(PAGE + 9 * 4096, (uint64_t)page1, PTE_P | PTE_W);
    used(0);
    *(volatile uint64_t *)pde = other;
    invlpg(0x7000000);
    is(read_at(PAGE + 9 * 4096), 2,
       "SDM 5.10.4.1: INVLPG drops paging-structure caches, whatever its address");
    *(volatile uint64_t *)pde = own;
    used(0);
    *(volatile uint64_t *)pde = other;
    write_cr3(read_cr3());
    is(read_at(PAGE), 2, "SDM 5.10.4.1: MOV to CR3 drops paging-structure caches");
    *(volatile uint64_t *)pde = own;
    used(0);

    uint64_t cr4 = read_cr4();
    if (cpuid_if_present(7, 0).ebx & 1u << 7) {
        used(0);
        to_page2(0);
        write_cr4(cr4 | CR4_SMEP);
        is(read_at(PAGE), 2, "SDM 5.10.4.1: CR4.SMEP from 0 to 1 drops translations");
        write_cr4(cr4);
    } else
        skip(1, "no SMEP");

    write_cr4(cr4 | CR4_PGE);
    for (unsigned i = 0; i < 2; i++) {
        used(i ? PTE_G : 0);
        to_page2(i ? PTE_G : 0);
        ((void (*)(void))paging_off_and_on)();
        is(read_at(PAGE), 2, "SDM 5.10.4.1: CR0.PG from 1 to 0 drops %s", i ? "global ones" : "translations");
    }
    write_cr4(cr4);
}

/* Roots of page tables like the present one but for PAGE, which leads to `page`. */
static uint64_t *root_with(const uint64_t *page, uint64_t flags)
{
    uint64_t *t = page_alloc(4), *now = (uint64_t *)(read_cr3() & ~0xffful);
    for (unsigned i = 0; i < 512; i++) t[i] = now[i];
    t[PAGE >> 39 & 511] = (uint64_t)(t + 512) | PTE_P | PTE_W;
    t[512 + (PAGE >> 30 & 511)] = (uint64_t)(t + 1024) | PTE_P | PTE_W;
    t[1024 + (PAGE >> 21 & 511)] = (uint64_t)(t + 1536) | PTE_P | PTE_W;
    t[1536 + (PAGE >> 12 & 511)] = (uint64_t)page | PTE_P | PTE_W | flags;
    return t;
}

static void pcids(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 17)) {
        skip(5, "no PCIDs");
        return;
    }
    uint64_t cr3 = read_cr3(), cr4 = read_cr4(), keep = 1ul << 63;
    uint64_t *a = root_with(page1, 0), *b = root_with(page2, 0);
    page1[0] = 1, page2[0] = 2;
    write_cr4(cr4 | CR4_PCIDE);
    write_cr3((uint64_t)a | 1);
    uint64_t first = read_at(PAGE);
    write_cr3((uint64_t)b | 2);
    uint64_t second = read_at(PAGE);
    write_cr3((uint64_t)a | 1 | keep);
    uint64_t third = read_at(PAGE);
    write_cr3((uint64_t)b | 2 | keep);
    ok(first == 1 && second == 2 && third == 1 && read_at(PAGE) == 2,
       "SDM 5.10.2.2: translations of one PCID are not used by another");
    write_cr3((uint64_t)a | 1 | keep);
    read_at(PAGE);
    a[1536 + (PAGE >> 12 & 511)] = (uint64_t)page2 | PTE_P | PTE_W;
    write_cr3((uint64_t)a | 1 | keep);
    tap_note("MOV to CR3 with bit 63: %s", seen(read_at(PAGE)));
    write_cr3((uint64_t)a | 1);
    is(read_at(PAGE), 2, "SDM 5.10.4.1: MOV to CR3 without bit 63 drops the new PCID's");
    a[1536 + (PAGE >> 12 & 511)] = (uint64_t)page1 | PTE_P | PTE_W;
    write_cr3((uint64_t)a | 1);
    read_at(PAGE);
    write_cr3(cr3);
    a[1536 + (PAGE >> 12 & 511)] = (uint64_t)page2 | PTE_P | PTE_W;
    write_cr3((uint64_t)a | 1 | keep);
    tap_note("MOV to CR3 of PCID 0, then back with bit 63: %s", seen(read_at(PAGE)));
    write_cr3(cr3);
    write_cr4(cr4);
    write_cr4(cr4 | CR4_PCIDE);
    write_cr3((uint64_t)a | 1 | keep);
    is(read_at(PAGE), 2, "SDM 5.10.4.1: CR4.PCIDE from 1 to 0 drops those of every PCID");
    /* Global pages are all PCIDs'. */
    write_cr3(cr3);
    write_cr4(cr4 | CR4_PCIDE | CR4_PGE);
    a[1536 + (PAGE >> 12 & 511)] = (uint64_t)page1 | PTE_P | PTE_W | PTE_G;
    b[1536 + (PAGE >> 12 & 511)] = (uint64_t)page2 | PTE_P | PTE_W | PTE_G;
    write_cr3((uint64_t)a | 1);
    read_at(PAGE);
    write_cr3((uint64_t)b | 2);
    tap_note("a global page in another PCID: %s", seen(read_at(PAGE)));
    invlpg(PAGE);
    is(read_at(PAGE), 2, "SDM 5.10.4.1: INVLPG drops a global page in whatever PCID");
    b[1536 + (PAGE >> 12 & 511)] = (uint64_t)page1 | PTE_P | PTE_W | PTE_G;
    write_cr4(cr4 | CR4_PCIDE);
    is(read_at(PAGE), 1, "SDM 5.10.4.1: CR4.PGE from 1 to 0 drops global pages of every PCID");
    write_cr3(cr3);
    write_cr4(cr4);
    invlpg(PAGE);
}

static void next(void)
{
    vmx_skip_instruction();
    vmx_run(&v);
}

static void read_twice(const void *code)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = PAGE;
}

static void worlds(void)
{
    bool vpid = vmx_has_secondary(PROC2_ENABLE_VPID) && cap >> 32 & 1;
    uint64_t cr4 = read_cr4();
    write_cr4(cr4 | CR4_PGE);

    /* Without VPIDs, root and guest share VPID 0: every entry and exit drops all of it, global pages too. */
    used(PTE_G);
    read_twice(i_read);
    to_page2(PTE_G);
    vmx_run(&v);
    is(v.regs.gpr[RAX], 2, "SDM 31.4.3.1: entry without VPID drops global pages");
    *paging_entry(PAGE, 1) = (uint64_t)page1 | PTE_P | PTE_W | PTE_G;
    is(read_at(PAGE), 1, "SDM 31.4.3.1: and so does exit");
    if (!vpid) {
        skip(6, "no VPIDs");
        write_cr4(cr4);
        return;
    }
    uint64_t *a = root_with(page1, PTE_G), *b = root_with(page2, PTE_G);
    page1[0] = 1, page2[0] = 2;
    uint64_t values[4];
    invvpid(2, 0, 0);
    for (unsigned i = 0; i < 4; i++) {
        read_twice(i_read);
        vmx_set_proc2(PROC2_ENABLE_VPID);
        vmwrite(VPID, 5 + i % 2);
        vmwrite(GUEST_CR3, (uint64_t)(i % 2 ? b : a));
        vmx_run(&v);
        values[i] = v.regs.gpr[RAX];
    }
    ok(values[0] == 1 && values[1] == 2 && values[2] == 1 && values[3] == 2,
       "SDM 31.4.1: translations of one VPID are not used by another, nor its global pages");
    used(PTE_G);
    read_twice(i_read);
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 6);
    vmx_run(&v);
    is(read_at(PAGE), 1, "SDM 31.4.1: a guest's VPID is not the root's");

    /* In a guest with a VPID the processor's own instructions work on that VPID. */
    used(0);
    invvpid(2, 0, 0);
    read_twice(i_cr3);
    v.regs.gpr[RSI] = read_cr3();
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    vmx_run(&v);
    to_page2(0);
    next();
    ok(v.regs.gpr[RAX] == 1 && v.regs.gpr[RBX] == 2, "SDM 31.4.3.1: MOV to CR3 in a guest drops its VPID's");
    used(0);
    invvpid(2, 0, 0);
    read_twice(i_invlpg);
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    vmx_run(&v);
    to_page2(0);
    next();
    ok(v.regs.gpr[RAX] == 1 && v.regs.gpr[RBX] == 2, "SDM 31.4.3.1: INVLPG in a guest drops its VPID's");
    used(0);
    invvpid(2, 0, 0);
    read_twice(i_twice);
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    vmx_run(&v);
    to_page2(0);
    invlpg(PAGE);
    next();
    tap_note("INVLPG of the host, to a guest with a VPID: %s", seen(v.regs.gpr[RBX]));
    /* Two address spaces within a VPID, without PCIDs. */
    a = root_with(page1, 0), b = root_with(page2, 0);
    invvpid(2, 0, 0);
    read_twice(i_cr3_unlike);
    v.regs.gpr[RSI] = (uint64_t)b, v.regs.gpr[RDX] = (uint64_t)a;
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    vmwrite(GUEST_CR3, (uint64_t)a);
    vmx_run(&v);
    ok(v.regs.gpr[RAX] == 1 && v.regs.gpr[RBX] == 2 && v.regs.gpr[RCX] == 1,
       "SDM 31.4.3.1: address spaces of a guest are apart");
    /* Another CR3 by VM entry drops nothing. */
    invvpid(2, 0, 0);
    read_twice(i_twice);
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    vmwrite(GUEST_CR3, (uint64_t)a);
    vmx_run(&v);
    vmwrite(GUEST_CR3, (uint64_t)b);
    next();
    tap_note("another guest CR3 by VM entry without INVVPID: %s", seen(v.regs.gpr[RBX]));
    invvpid(1, 7, 0);
    read_twice(i_read);
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    vmwrite(GUEST_CR3, (uint64_t)b);
    vmx_run(&v);
    is(v.regs.gpr[RAX], 2, "SDM 31.4.3.3: INVVPID drops it");
    write_cr4(cr4);
}

static void run_ept(const void *code, bool vpid)
{
    start(code);
    if (vpid) vmx_set_proc2(PROC2_ENABLE_VPID), vmwrite(VPID, 9);
    set_entry((uint64_t)page1 | EPT_TYPE_WB | EPT_RWX);
    vmx_run(&v);
    set_entry((uint64_t)page2 | EPT_TYPE_WB | EPT_RWX);
}

static void guest_physical(void)
{
    bool single = cap >> 25 & 1, all = cap >> 26 & 1,
         vpid = vmx_has_secondary(PROC2_ENABLE_VPID) && cap >> 32 & 1;
    page1[0] = 1, page2[0] = 2;
    for (unsigned i = 0; i < 2; i++) {
        if (i && !vpid) {
            skip(2, "no VPIDs");
            break;
        }
        const char *with = i ? "with" : "without";
        run_ept(i_twice, i);
        next();
        tap_note("a changed EPT entry without INVEPT, %s VPID: %s", with, seen((uint32_t)v.regs.gpr[RBX]));
        if (i) {
            run_ept(i_twice, true);
            invvpid(2, 0, 0);
            next();
            tap_note("a changed EPT entry with INVVPID in place of INVEPT: %s",
                     seen((uint32_t)v.regs.gpr[RBX]));
        }
        if (single) {
            run_ept(i_twice, i);
            invept(1, vmread(EPTP));
            next();
            is((uint32_t)v.regs.gpr[RBX], 2, "SDM 31.4.3.2: INVEPT type 1, %s VPID", with);
        } else
            skip(1, "no INVEPT type 1");
        if (all) {
            run_ept(i_twice, i);
            invept(2, 0);
            next();
            is((uint32_t)v.regs.gpr[RBX], 2, "SDM 31.4.3.2: INVEPT type 2, %s VPID", with);
        } else
            skip(1, "no INVEPT type 2");
    }
    /* The tag is the EP4TA: bits 51:12 of the EPTP. */
    if (single && cap >> 21 & 1) {
        run_ept(i_twice, vpid);
        invept(1, vmread(EPTP) ^ 1u << 6);
        next();
        is((uint32_t)v.regs.gpr[RBX], 2, "SDM 31.4.3.2: INVEPT type 1 goes by bits 51:12 of the EPTP alone");
    } else
        skip(1, "no INVEPT type 1 or no accessed and dirty flags");

    /* Two EPTPs, one VPID: each sees its own. */
    uint64_t other = ept_new();
    ept_map(other, 0, 0, 16 << 20, EPT_RWX);
    *ept_entry(other, GPA, 1) = (uint64_t)page2 | EPT_TYPE_WB | EPT_RWX;
    start(i_twice);
    set_entry((uint64_t)page1 | EPT_TYPE_WB | EPT_RWX);
    if (vpid) vmx_set_proc2(PROC2_ENABLE_VPID), vmwrite(VPID, 9);
    uint64_t own = vmread(EPTP), rip = vmread(GUEST_RIP);
    invept(all ? 2 : 1, own);
    vmx_run(&v);
    vmwrite(EPTP, ept_pointer(other));
    next();
    ok((uint32_t)v.regs.gpr[RAX] == 1 && (uint32_t)v.regs.gpr[RBX] == 2,
       "SDM 31.4.1: translations of one EP4TA are not used with another");
    vmwrite(EPTP, own);
    vmwrite(GUEST_RIP, rip);
    vmx_run(&v);
    is((uint32_t)v.regs.gpr[RAX], 1, "SDM 31.4.1: nor after coming back");

    /* An EPT violation drops what is kept of its addresses (SDM 31.4.3.1). */
    for (unsigned i = 0; i < 2; i++) {
        start(i_twice);
        if (i && vpid) vmx_set_proc2(PROC2_ENABLE_VPID), vmwrite(VPID, 9);
        set_entry((uint64_t)page1 | EPT_TYPE_WB | EPT_R);
        invept(all ? 2 : 1, vmread(EPTP));
        vmx_run(&v);
        vmwrite(GUEST_RIP, (uint64_t)i_write);
        v.regs.gpr[RAX] = 9;
        struct vmx_exit e = vmx_run(&v);
        set_entry((uint64_t)page2 | EPT_TYPE_WB | EPT_RWX);
        page1[0] = 1;
        vmx_run(&v);
        ok(e.reason == EXIT_REASON_EPT_VIOLATION && page1[0] == 1 && (uint32_t)page2[0] == 9,
           "SDM 31.4.3.1: an EPT violation drops the mappings of its address%s", i ? ", with VPID" : "");
        page2[0] = 2;
    }
}

/* A guest with 32-bit paging, one to one but for the playground: its linear address leads to page1. */
static void paged_32(const void *code, bool vpid, uint32_t flags)
{
    static uint32_t *directory; /* and a page table behind it */
    if (!directory) directory = page_alloc(2);
    uint32_t *table = directory + 1024, large = (uint32_t)(GPA >> 22), small = GPA >> 12 & 1023;
    for (uint32_t i = 0; i < 16; i++) directory[i] = i << 22 | PTE_P | PTE_W | PTE_PS;
    directory[large] = (uint32_t)(uint64_t)table | PTE_P | PTE_W;
    for (uint32_t i = 0; i < 1024; i++) table[i] = large << 22 | i << 12 | PTE_P | PTE_W;
    table[small] = (uint32_t)(uint64_t)page1 | PTE_P | PTE_W | flags;
    page1[0] = 1, page2[0] = 2, *playground = 3;
    start(code);
    invept(cap >> 26 & 1 ? 2 : 1, vmread(EPTP));
    if (vpid) {
        vmx_set_proc2(PROC2_ENABLE_VPID), vmwrite(VPID, 11);
        invvpid(2, 0, 0);
    }
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_protected_mode();
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PG);
    vmwrite(GUEST_CR3, (uint64_t)directory);
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PSE | CR4_PGE);
    v.regs.gpr[RSI] = (uint64_t)&table[small];
    v.regs.gpr[RDX] = (uint32_t)(uint64_t)page2 | PTE_P | PTE_W | flags;
}

static void guest_paging(void)
{
    bool vpid = vmx_has_secondary(PROC2_ENABLE_VPID) && cap >> 32 & 1;
    for (unsigned i = 0; i < 2; i++) {
        const char *with = i ? ", with VPID" : "";
        if (!vmx_has_secondary(PROC2_UNRESTRICTED_GUEST) || (i && !vpid)) {
            skip(3, "no unrestricted guest, or no VPIDs");
            continue;
        }
        for (unsigned global = 0; global < 2; global++) {
            paged_32(i_pg_flush, i, global ? PTE_G : 0);
            vmx_run(&v);
            ok(v.regs.gpr[RAX] == 1 && v.regs.gpr[RBX] == 2,
               "SDM 31.4.3.1: CR0.PG from 1 to 0 in a guest drops %s%s",
               global ? "global ones" : "translations", with);
        }
        paged_32(i_pg_apart, i, PTE_G);
        vmx_run(&v);
        ok(v.regs.gpr[RAX] == 1 && v.regs.gpr[RBX] == 3 && v.regs.gpr[RBP] == 1,
           "SDM 28.6: while CR0.PG is 0 a linear address is the guest-physical one%s", with);
    }
    if (!vmx_has_secondary(PROC2_UNRESTRICTED_GUEST) || !vpid) return;
    paged_32(i_pg_entry, true, 0);
    vmx_run(&v);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(uint64_t)CR0_PG);
    next();
    tap_note("another CR0.PG by VM entry without INVVPID: %s", seen(v.regs.gpr[RBX]));
    paged_32(i_pg_ept, true, 0);
    vmx_run(&v);
    *ept_entry(v.ept, (uint64_t)page1, 1) = (uint64_t)page2 | EPT_TYPE_WB | EPT_RWX;
    next();
    tap_note("a changed EPT entry, and CR0.PG off and on in place of INVEPT: %s", seen(v.regs.gpr[RBX]));
    invept(cap >> 26 & 1 ? 2 : 1, vmread(EPTP));
}

int rom_main(void)
{
    if (!vmx_test_begin("translations: what drops them")) return 0;
    page1 = page_alloc(1), page2 = page_alloc(1);
    playground_init();
    cap = vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_ENABLE_VPID) ? rdmsr(IA32_VMX_EPT_VPID_CAP) : 0;
    root();
    pcids();
    if (!vmx_on()) panic("VMXON failed");
    worlds();
    if (vmx_has_secondary(PROC2_ENABLE_EPT))
        guest_physical();
    else
        skip(9, "no EPT");
    guest_paging();
    return tap_end();
}

/*
 * Paging: rights and error codes, accessed and dirty flags, reserved bits, large pages, SMEP, SMAP,
 * protection keys, invalidation, PCIDs; and 32-bit and PAE paging (SDM volume 3 chapter 4).
 *
 * Bochs 2.7 passes all of it. QEMU's TCG reports reserved bits without P, and does not check PDPTEs.
 *
 * Missing: 5-level paging, PSE-36, memory types. What else drops translations, and what may be kept:
 * vmx-tlb.c.
 */
#include "low.h"
#include "tap.h"
#include "user.h"

/* The page under test, under a PML4 entry of its own, for what is done to that must not be done to the code
   here (a processor that keeps no translations is lost else); and two physical pages for it. */
#define PAGE 0xd000000000ul
static uint8_t *frame; /* two pages */

#define P            1u
#define W            2u
#define U            4u
#define RSVD         8u
#define I            16u
#define PK           32u
#define NONE         (~0u)

#define PTE_RESERVED (1ull << 51)

PROBE(a_read, "mov (%rdi), %al");
PROBE(a_write, "movb $1, (%rdi)");
PROBE(a_fetch, "call *%rdi");
PROBE(a_rmw, "lock incb (%rdi)");
PROBE(a_rmw_plain, "orb $0, (%rdi)");
PROBE(a_read8, "mov (%rdi), %rax");
PROBE(a_write8, "mov %rax, (%rdi)");
PROBE(a_cmpxchg, "xor %eax, %eax; lock cmpxchg %cl, (%rdi)");

static uint64_t *pte(void) { return paging_entry(PAGE, 1); }

static void map(uint64_t flags)
{
    paging_map(PAGE, (uint64_t)frame, flags);
    paging_map(PAGE + 4096, 0, 0);
    frame[0] = 0xc3; /* RET, for a_fetch */
}

/* One access to PAGE + offset; its error code, or NONE. CR2 must be `address` if it faults. */
static void expect_at(struct trap t, uint64_t address, unsigned error, const char *name)
{
    bool faulted = t.vector == VECTOR_PF;
    bool fine = t.vector == TRAP_NONE || t.vector == TRAP_DONE;
    if (!ok(error == NONE ? fine : faulted && t.error == error && t.cr2 == address, "%s", name))
        tap_note("  vector %x, error code %lx (want %x), cr2 %lx", t.vector, t.error, error, t.cr2);
}

static void expect(struct trap t, unsigned error, const char *name) { expect_at(t, PAGE, error, name); }
static struct trap super(const char *access) { return trap_catch(access, PAGE, 0); }
static struct trap user(const char *access) { return user_run(access, PAGE, 0); }

static bool has_nx, has_1g;

static void rights(void)
{
    unsigned i = has_nx ? I : 0;
    static const uint64_t kinds[] = {0, PTE_P, PTE_P | PTE_W, PTE_P | PTE_U, PTE_P | PTE_W | PTE_U};
    static const char *const names[] = {"not present", "supervisor read-only", "supervisor writable",
                                        "user read-only", "user writable"};
    for (unsigned k = 0; k < 5; k++) {
        uint64_t f = kinds[k];
        unsigned p = f & PTE_P ? P : 0;
        tap_note("%s", names[k]);
        map(f);
        expect(super(a_read), p ? NONE : 0, "  read at CPL 0");
        expect(super(a_write), f & PTE_W ? NONE : p | W, "  write at CPL 0");
        map(f);
        expect(super(a_fetch), p ? NONE : i, "  fetch at CPL 0");
        expect(user(a_read), f & PTE_U ? NONE : p | U, "  read at CPL 3");
        expect(user(a_write), f & PTE_U && f & PTE_W ? NONE : p | U | W, "  write at CPL 3");
        map(f);
        expect(user(a_fetch), f & PTE_U ? NONE : p | U | i, "  fetch at CPL 3");
    }
    map(PTE_P);
    expect(super(a_rmw), P | W, "a read-modify-write of a read-only page reports a write");
    expect(super(a_rmw_plain), P | W, "  so does OR with 0");
    expect(super(a_cmpxchg), P | W, "  so does a CMPXCHG that would fail");
    map(0);
    expect(super(a_rmw), W, "a read-modify-write of no page reports a write");

    write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
    map(PTE_P);
    expect(super(a_write), NONE, "CR0.WP=0: CPL 0 writes to read-only pages");
    map(PTE_P | PTE_U);
    expect(user(a_write), P | W | U, "  CPL 3 does not");
    write_cr0(read_cr0() | CR0_WP);

    if (has_nx) {
        map(PTE_P | PTE_U | PTE_NX);
        expect(super(a_read), NONE, "read of a no-execute page");
        expect(super(a_fetch), P | I, "fetch from it at CPL 0");
        expect(user(a_fetch), P | U | I, "fetch from it at CPL 3");
    } else {
        skip(3, "no NX");
    }

    /* Upper levels: the rights are those that all levels grant. */
    for (unsigned level = 2; level <= 4; level++) {
        map(PTE_P | PTE_W | PTE_U);
        *paging_entry(PAGE, level) &= ~PTE_W;
        invlpg(PAGE);
        expect(super(a_write), P | W, "an entry above without W");
        *paging_entry(PAGE, level) = (*paging_entry(PAGE, level) | PTE_W) & ~PTE_U;
        invlpg(PAGE);
        expect(user(a_read), P | U, "an entry above without U");
        *paging_entry(PAGE, level) |= PTE_U;
        if (has_nx) {
            *paging_entry(PAGE, level) |= PTE_NX;
            invlpg(PAGE);
            expect(super(a_fetch), P | I, "an entry above with NX");
            *paging_entry(PAGE, level) &= ~PTE_NX;
        }
        *paging_entry(PAGE, level) &= ~PTE_P;
        invlpg(PAGE);
        expect(super(a_read), 0, "an entry above not present");
        *paging_entry(PAGE, level) |= PTE_P;
        invlpg(PAGE);
    }
}

static void crossing(void)
{
    map(PTE_P | PTE_W | PTE_U);
    expect_at(trap_catch(a_read8, PAGE + 4093, 0), PAGE + 4096, 0,
              "a read that crosses into no page: CR2 is its start");
    memset(frame, 0x55, 4096);
    expect_at(trap_catch(a_write8, PAGE + 4093, 0), PAGE + 4096, W, "a write that crosses into no page");
    is(frame[4095], 0x55, "  has written nothing");
    paging_map(PAGE + 4096, (uint64_t)frame + 4096, PTE_P);
    expect_at(trap_catch(a_write8, PAGE + 4093, 0), PAGE + 4096, P | W,
              "a write that crosses into a read-only page");
    is(frame[4095], 0x55, "  has written nothing");
    paging_map(PAGE + 4096, (uint64_t)frame, PTE_P | PTE_W);
    frame[0] = 1, frame[1] = 2, frame[2] = 3, frame[3] = 4, frame[4] = 5;
    is(trap_catch(a_read8, PAGE + 4093, 0).rax, 0x0504030201555555, "a read across two pages");
}

static void flags(void)
{
    map(PTE_P | PTE_W | PTE_U);
    for (unsigned level = 2; level <= 4; level++) *paging_entry(PAGE, level) &= ~(PTE_A | PTE_D);
    invlpg(PAGE);
    super(a_read);
    is(*pte() & (PTE_A | PTE_D), PTE_A, "a read sets the accessed flag of the PTE");
    for (unsigned level = 2; level <= 4; level++)
        is(*paging_entry(PAGE, level) & PTE_A, PTE_A, "  and of level %u", level);
    super(a_write);
    is(*pte() & (PTE_A | PTE_D), PTE_A | PTE_D, "a write sets the dirty flag");
    map(PTE_P);
    super(a_write);
    is(*pte() & PTE_D, 0, "a write that faults does not");
    map(PTE_P | PTE_W | PTE_U);
    super(a_fetch);
    is(*pte() & (PTE_A | PTE_D), PTE_A, "a fetch sets the accessed flag");
    map(PTE_P | PTE_W | PTE_U);
    user(a_write);
    is(*pte() & (PTE_A | PTE_D), PTE_A | PTE_D, "a write at CPL 3 sets both");
    /* The dirty flag cleared behind the TLB's back: after INVLPG a write must set it again. */
    *pte() &= ~PTE_D;
    invlpg(PAGE);
    super(a_write);
    is(*pte() & PTE_D, PTE_D, "a dirty flag cleared and invalidated is set again");
}

static void reserved_bits(void)
{
    if ((cpuid(0x80000008, 0).eax & 0xff) < 52) {
        map(PTE_P | PTE_W | PTE_U | PTE_RESERVED);
        expect(super(a_read), P | RSVD, "bit 51 of a PTE");
        expect(super(a_write), P | W | RSVD, "  by a write");
        expect(user(a_read), P | U | RSVD, "  at CPL 3");
        map(PTE_RESERVED);
        expect(super(a_read), 0, "  of a PTE that is not present");
        map(PTE_P | PTE_W | PTE_U);
        for (unsigned level = 2; level <= 4; level++) {
            *paging_entry(PAGE, level) |= PTE_RESERVED;
            invlpg(PAGE);
            expect(super(a_read), P | RSVD, "bit 51 of an upper level");
            *paging_entry(PAGE, level) &= ~PTE_RESERVED;
        }
    } else {
        skip(7, "52 physical address bits");
    }
    map(PTE_P | PTE_W | PTE_U);
    *paging_entry(PAGE, 4) |= PTE_PS;
    invlpg(PAGE);
    expect(super(a_read), P | RSVD, "bit 7 of a PML4E");
    *paging_entry(PAGE, 4) &= ~PTE_PS;
    uint64_t *pdpte = paging_entry(PAGE, 3), saved = *pdpte;
    *pdpte |= PTE_PS;
    if (!has_1g) {
        invlpg(PAGE);
        expect(super(a_read), P | RSVD, "bit 7 of a PDPTE without 1 GiB pages");
    } else {
        *pdpte = PTE_P | PTE_PS | 1ul << 13;
        invlpg(PAGE);
        expect(super(a_read), P | RSVD, "a low address bit of a 1 GiB page");
    }
    *pdpte = saved;
    uint64_t *pde = paging_entry(PAGE, 2);
    saved = *pde;
    *pde = PTE_P | PTE_PS | 1ul << 13;
    invlpg(PAGE);
    expect(super(a_read), P | RSVD, "a low address bit of a 2 MiB page");
    *pde = saved;
    if (has_nx) {
        map(PTE_P | PTE_W | PTE_NX);
        wrmsr(IA32_EFER, rdmsr(IA32_EFER) & ~(uint64_t)EFER_NXE);
        invlpg(PAGE);
        expect(super(a_read), P | RSVD, "NX with EFER.NXE=0");
        map(0);
        expect(super(a_fetch), 0, "  and a fetch reports no I without NXE and SMEP");
        wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
    } else {
        skip(2, "no NX");
    }
}

static void large_pages(void)
{
    static const uint64_t linear = 0x5100000000ul;
    uint64_t *pde = paging_entry(linear, 2);
    *pde = 0x2000000 | PTE_P | PTE_W | PTE_PS;
    *(volatile uint32_t *)0x2123450 = 0x2222;
    invlpg(linear);
    is((uint32_t)trap_catch(a_read8, linear + 0x123450, 0).rax, 0x2222, "a 2 MiB page");
    is(*pde & (PTE_A | PTE_D), PTE_A, "  sets the accessed flag of the PDE");
    trap_catch(a_write8, linear + 0x1ffff8, 0);
    is(*pde & (PTE_A | PTE_D), PTE_A | PTE_D, "  and the dirty flag");
    *pde = 0x2000000 | PTE_P | PTE_PS;
    invlpg(linear);
    expect_at(trap_catch(a_write8, linear + 0x1000, 0), linear + 0x1000, P | W, "a read-only 2 MiB page");
    if (!has_1g) {
        skip(3, "no 1 GiB pages");
        return;
    }
    uint64_t big = 0x5200000000ul, *pdpte = paging_entry(big, 3);
    *pdpte = PTE_P | PTE_W | PTE_PS;
    invlpg(big);
    is((uint32_t)trap_catch(a_read8, big + 0x2123450, 0).rax, 0x2222, "a 1 GiB page");
    is(*pdpte & (PTE_A | PTE_D), PTE_A, "  sets the accessed flag of the PDPTE");
    trap_catch(a_write8, big + 0x2000008, 0);
    is(*pdpte & (PTE_A | PTE_D), PTE_A | PTE_D, "  and the dirty flag");
}

PROBE(s_read_ac,
      "pushfq; orl $0x40000, (%rsp); popfq; mov (%rdi), %al; pushfq; andl $~0x40000, (%rsp); popfq");
PROBE(s_stac, "stac; mov (%rdi), %al; clac");
PROBE(s_stac_only, "stac");

static void smep_smap(void)
{
    struct cpuid c = cpuid_if_present(7, 0);
    if (c.ebx & 1u << 7) {
        map(PTE_P | PTE_W | PTE_U);
        write_cr4(read_cr4() | CR4_SMEP);
        expect(super(a_fetch), P | I, "SMEP: CPL 0 does not fetch from user pages");
        expect(super(a_read), NONE, "  but reads them");
        expect(user(a_fetch), NONE, "  and CPL 3 fetches");
        map(PTE_P | PTE_W);
        expect(super(a_fetch), NONE, "  supervisor pages are fetched from");
        write_cr4(read_cr4() & ~(uint64_t)CR4_SMEP);
    } else {
        skip(4, "no SMEP");
    }
    if (c.ebx & 1u << 20) {
        map(PTE_P | PTE_W | PTE_U);
        write_cr4(read_cr4() | CR4_SMAP);
        expect(super(a_read), P, "SMAP: CPL 0 does not read user pages");
        expect(super(a_write), P | W, "  nor write them");
        expect(super(s_read_ac), NONE, "  unless AC is set");
        expect(super(s_stac), NONE, "  as STAC does");
        expect(super(a_fetch), NONE, "  fetching is SMEP's affair");
        is(user(a_read).vector, TRAP_DONE, "  CPL 3 reads");
        is(user(s_stac_only).vector, VECTOR_UD, "STAC at CPL 3: #UD");
        write_cr4(read_cr4() & ~(uint64_t)CR4_SMAP);
    } else {
        skip(7, "no SMAP");
    }
}

PROBE(k_rdpkru, "mov %edi, %ecx; rdpkru");
PROBE(k_wrpkru, "mov %edi, %eax; xor %ecx, %ecx; xor %edx, %edx; wrpkru");

static void protection_keys(void)
{
    if (!(cpuid_if_present(7, 0).ecx & 1u << 3)) {
        skip(12, "no protection keys");
        return;
    }
    is(trap_catch(k_rdpkru, 0, 0).vector, VECTOR_UD, "RDPKRU with CR4.PKE=0: #UD");
    write_cr4(read_cr4() | CR4_PKE);
    is(trap_catch(k_rdpkru, 1, 0).vector, VECTOR_GP, "RDPKRU with ECX=1: #GP");
    map(PTE_P | PTE_W | PTE_U | 5ull << 59);
    trap_catch(k_wrpkru, 1u << 10, 0); /* key 5: access disabled */
    is((uint32_t)trap_catch(k_rdpkru, 0, 0).rax, 1u << 10, "RDPKRU reads what WRPKRU wrote");
    expect(super(a_read), P | PK, "key with AD: CPL 0 does not read a user page");
    expect(user(a_read), P | U | PK, "  nor does CPL 3");
    expect(user(a_write), P | U | W | PK, "  a write says so");
    expect(super(a_fetch), NONE, "  fetches do not ask");
    trap_catch(k_wrpkru, 2u << 10, 0); /* key 5: writes disabled */
    map(PTE_P | PTE_W | PTE_U | 5ull << 59);
    expect(user(a_read), NONE, "key with WD: reads pass");
    expect(user(a_write), P | U | W | PK, "  writes at CPL 3 do not");
    expect(super(a_write), P | W | PK, "  nor at CPL 0 with WP=1");
    write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
    expect(super(a_write), NONE, "  but with WP=0");
    write_cr0(read_cr0() | CR0_WP);
    map(PTE_P | PTE_W | 5ull << 59);
    trap_catch(k_wrpkru, 3u << 10, 0);
    expect(super(a_write), NONE, "keys mean nothing on supervisor pages");
    trap_catch(k_wrpkru, 0, 0);
    write_cr4(read_cr4() & ~(uint64_t)CR4_PKE);
}

static void supervisor_keys(void)
{
    if (!(cpuid_if_present(7, 0).ecx & 1u << 31)) {
        skip(6, "no supervisor protection keys");
        return;
    }
    write_cr4(read_cr4() | CR4_PKS);
    map(PTE_P | PTE_W | 5ull << 59);
    wrmsr(0x6E1, 1u << 10);
    expect(super(a_read), P | PK, "IA32_PKRS, key with AD: CPL 0 does not read a supervisor page");
    expect(super(a_fetch), NONE, "  fetches do not ask");
    wrmsr(0x6E1, 2u << 10);
    expect(super(a_read), NONE, "key with WD: reads pass");
    expect(super(a_write), P | W | PK, "  writes with WP=1 do not");
    write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
    expect(super(a_write), NONE, "  but with WP=0");
    write_cr0(read_cr0() | CR0_WP);
    wrmsr(0x6E1, 3u << 10);
    map(PTE_P | PTE_W | PTE_U | 5ull << 59);
    expect(super(a_write), NONE, "IA32_PKRS means nothing on user pages");
    wrmsr(0x6E1, 0);
    write_cr4(read_cr4() & ~(uint64_t)CR4_PKS);
}

/* Changes the page under a cached translation, does `what`, and looks. */
static uint64_t read_page(void) { return trap_catch(a_read8, PAGE, 0).rax; }

static void changed(uint64_t flags_of_page)
{
    *(uint64_t *)frame = 1;
    *(uint64_t *)(frame + 4096) = 2;
    paging_map(PAGE, (uint64_t)frame, flags_of_page);
    read_page();
    *pte() = ((uint64_t)frame + 4096) | flags_of_page;
}

PROBE(i_invpcid, "invpcid (%rdi), %rsi");

static void invalidation(void)
{
    changed(PTE_P | PTE_W);
    invlpg(PAGE + 0xabc);
    is(read_page(), 2, "INVLPG anywhere in the page drops its translation");
    changed(PTE_P | PTE_W);
    write_cr3(read_cr3());
    is(read_page(), 2, "MOV to CR3 drops it");
    changed(PTE_P | PTE_W | PTE_G);
    invlpg(PAGE);
    is(read_page(), 2, "INVLPG drops a global one too");
    if (cpuid(1, 0).edx & 1u << 13) {
        write_cr4(read_cr4() | CR4_PGE);
        changed(PTE_P | PTE_W | PTE_G);
        write_cr4(read_cr4() & ~(uint64_t)CR4_PGE);
        is(read_page(), 2, "a change of CR4.PGE drops global ones");
    } else {
        skip(1, "no global pages");
    }
    changed(PTE_P | PTE_W);
    write_cr0(read_cr0() & ~(uint64_t)CR0_WP);
    write_cr0(read_cr0() | CR0_WP);
    invlpg(PAGE);
    is(read_page(), 2, "and again after a change of CR0");

    static uint64_t descriptor[2];
    bool invpcid = cpuid_if_present(7, 0).ebx & 1u << 10;
    if (invpcid) {
        changed(PTE_P | PTE_W);
        descriptor[0] = 0;
        descriptor[1] = PAGE;
        trap_catch(i_invpcid, descriptor, 0);
        is(read_page(), 2, "INVPCID type 0");
        changed(PTE_P | PTE_W);
        trap_catch(i_invpcid, descriptor, 1);
        is(read_page(), 2, "INVPCID type 1");
        changed(PTE_P | PTE_W | PTE_G);
        trap_catch(i_invpcid, descriptor, 2);
        is(read_page(), 2, "INVPCID type 2");
        changed(PTE_P | PTE_W);
        trap_catch(i_invpcid, descriptor, 3);
        is(read_page(), 2, "INVPCID type 3");
        is(trap_catch(i_invpcid, descriptor, 4).vector, VECTOR_GP, "INVPCID type 4: #GP");
        descriptor[1] = 1ul << 63;
        is(trap_catch(i_invpcid, descriptor, 0).vector, VECTOR_GP, "INVPCID of a non-canonical address: #GP");
        descriptor[0] = 1ul << 12;
        is(trap_catch(i_invpcid, descriptor, 1).vector, VECTOR_GP, "INVPCID with a reserved bit: #GP");
        descriptor[0] = 5;
        descriptor[1] = PAGE;
        is(trap_catch(i_invpcid, descriptor, 1).vector, VECTOR_GP, "INVPCID of PCID 5 with CR4.PCIDE=0: #GP");
    } else {
        skip(8, "no INVPCID");
    }
}

PROBE(c_write_cr3, "mov %rdi, %cr3");
PROBE(c_write_cr4, "mov %rdi, %cr4");
PROBE(c_write_cr0, "mov %rdi, %cr0");

static void pcid(void)
{
    if (!(cpuid(1, 0).ecx & 1u << 17)) {
        skip(7, "no PCID");
        return;
    }
    uint64_t cr3 = read_cr3(), cr4 = read_cr4();
    write_cr3(cr3 | 0x18);
    is(trap_catch(c_write_cr4, cr4 | CR4_PCIDE, 0).vector, VECTOR_GP,
       "setting CR4.PCIDE with CR3[11:0] not 0: #GP");
    write_cr3(cr3);
    is(trap_catch(c_write_cr3, cr3 | 1ul << 63, 0).vector, VECTOR_GP, "CR3 bit 63 with PCIDE=0: #GP");
    write_cr4(cr4 | CR4_PCIDE);
    is(trap_catch(c_write_cr3, cr3 | 1ul << 63 | 3, 0).vector, TRAP_NONE, "CR3 bit 63 with PCIDE=1");
    is(read_cr3(), cr3 | 3, "  is not stored");
    /* A change made under PCID 3 while its translation may be cached there; a plain MOV to CR3 of PCID 3
     * drops it. */
    write_cr3(cr3 | 3);
    changed(PTE_P | PTE_W);
    write_cr3(cr3 | 4);
    write_cr3(cr3 | 3);
    is(read_page(), 2, "MOV to CR3 without bit 63 drops that PCID's translations");
    changed(PTE_P | PTE_W);
    write_cr3(cr3);
    is(trap_catch(c_write_cr0, read_cr0() & ~(uint64_t)CR0_PG, 0).vector, VECTOR_GP,
       "clearing CR0.PG with PCIDE=1: #GP");
    write_cr4(cr4);
    is(read_page(), 2, "clearing CR4.PCIDE drops all");
}

/* ---- 32-bit and PAE paging, from legacy protected mode ---- */

/* Loads CR3 from LOW_DATA, CR4 bits from +4, reads the linear address at +8, writes to the one at +12 if it
   is not 0; an exception notes vector and error code at +0x20. */
#define LEGACY_PAGING \
    "mov %cr4, %esi; mov %cr3, %edi; mov %esi, %eax; and $~0x30, %eax; or 0x7004, %eax; mov %eax, %cr4; " \
    "mov 0x7000, %eax; mov %eax, %cr3; movl $-1, 0x7020; mov %esp, 0x7030; " \
    "mov %cr0, %eax; or $0x80010000, %eax; mov %eax, %cr0; jmp 1f; 1: mov 0x7008, %ebx; mov (%ebx), %edx; " \
    "mov 0x700c, %ebx; test %ebx, %ebx; jz 2f; movb $1, (%ebx); jmp 2f; "
LOW_CODE(legacy, 32,
         LEGACY_PAGING
         "legacy_gp: mov $13, %ecx; jmp 3f; legacy_pf: mov $14, %ecx; 3: mov %ecx, 0x7020; pop 0x7024; "
         "mov %cr2, %eax; mov %eax, 0x7028; mov 0x7030, %esp; 2: mov %cr0, %eax; and $0x7fffffff, %eax; "
         "mov %eax, %cr0; mov %esi, %cr4; mov %edi, %cr3; mov %edx, %eax");
LABEL(legacy_gp);
LABEL(legacy_pf);

static uint32_t run_legacy(uint64_t cr3, uint32_t cr4, uint32_t read, uint32_t write)
{
    volatile uint32_t *d = low_data();
    low_gate(13, LOW_ADDRESS(legacy, (const uint8_t *)legacy_gp), 0xe);
    low_gate(14, LOW_ADDRESS(legacy, (const uint8_t *)legacy_pf), 0xe);
    d[0] = (uint32_t)cr3;
    d[1] = cr4;
    d[2] = read;
    d[3] = write;
    return LOW_RUN(LOW_PROTECTED32, legacy);
}

static void legacy_fault(unsigned vector, unsigned error, uint32_t address, const char *name)
{
    volatile uint32_t *d = low_data();
    if (!ok(d[8] == vector && d[9] == error && (vector != 14 || d[10] == address), "%s", name))
        tap_note("  vector %d, error code %x, cr2 %x", (int)d[8], d[9], d[10]);
}

static void paging_32bit(void)
{
    uint32_t *directory = page_alloc(2), *table = directory + 1024;
    volatile uint32_t *d = low_data();
    directory[0] = 0x83; /* the first 4 MiB, where everything lives that runs */
    directory[1] = 0x2000000 | 0x83;
    directory[2] = (uint32_t)(uint64_t)table | 7;
    table[5] = 0x2005000 | 3;
    table[6] = 0x2006000 | 1;
    *(volatile uint32_t *)0x2005678 = 0x32320000;
    is(run_legacy((uint64_t)directory, CR4_PSE, 0x405678, 0), 0x32320000, "32-bit paging: a 4 MiB page");
    is(directory[1] & 0x60, 0x20, "  sets the accessed flag");
    is(run_legacy((uint64_t)directory, CR4_PSE, 0x805678, 0x805000), 0x32320000,
       "32-bit paging: a 4 KiB page");
    is(d[8], ~0u, "  without a fault");
    is(table[5] & 0x60, 0x60, "  sets accessed and dirty flag");
    is(directory[2] & 0x60, 0x20, "  and the accessed flag of the PDE");
    run_legacy((uint64_t)directory, CR4_PSE, 0x805678, 0x806000);
    legacy_fault(14, P | W, 0x806000, "32-bit paging: a read-only page");
    run_legacy((uint64_t)directory, CR4_PSE, 0xc00004, 0);
    legacy_fault(14, 0, 0xc00004, "32-bit paging: no page");
    directory[1] |= 1u << 21;
    run_legacy((uint64_t)directory, CR4_PSE, 0x405678, 0);
    legacy_fault(14, P | RSVD, 0x405678, "32-bit paging: a reserved bit of a 4 MiB page");
}

static void paging_pae(void)
{
    uint64_t *pdpt = page_alloc(3), *pd = pdpt + 512, *pt = pdpt + 1024;
    volatile uint32_t *d = low_data();
    pdpt[0] = (uint64_t)pd | 1;
    for (unsigned i = 0; i < 4; i++) pd[i] = (uint64_t)i << 21 | 0x83;
    pd[4] = 0x2000000 | 0x83;
    pd[5] = (uint64_t)pt | 7;
    pt[5] = 0x2005000 | 3;
    pt[6] = 0x2006000 | 1;
    *(volatile uint32_t *)0x2005678 = 0x9ae0000;
    is(run_legacy((uint64_t)pdpt, CR4_PAE, 0x805678, 0), 0x9ae0000, "PAE paging: a 2 MiB page");
    is(run_legacy((uint64_t)pdpt, CR4_PAE, 0xa05678, 0xa05000), 0x9ae0000, "PAE paging: a 4 KiB page");
    is(d[8], ~0u, "  without a fault");
    is(pt[5] & 0x60, 0x60, "  sets accessed and dirty flag");
    is(pdpt[0], (uint64_t)pd | 1, "  and leaves the PDPTE alone");
    run_legacy((uint64_t)pdpt, CR4_PAE, 0xa05678, 0xa06000);
    legacy_fault(14, P | W, 0xa06000, "PAE paging: a read-only page");
    run_legacy((uint64_t)pdpt, CR4_PAE, 0x40000004, 0);
    legacy_fault(14, 0, 0x40000004, "PAE paging: a PDPTE that is not present");
    pt[5] |= PTE_RESERVED;
    run_legacy((uint64_t)pdpt, CR4_PAE, 0xa05678, 0);
    legacy_fault(14, P | RSVD, 0xa05678, "PAE paging: a reserved bit of a PTE");
    pdpt[3] = 0x1e7; /* reserved bits of a present PDPTE */
    run_legacy((uint64_t)pdpt, CR4_PAE, 0x805678, 0);
    legacy_fault(13, 0, 0, "PAE paging: a reserved bit of a PDPTE: #GP where paging is switched on");
}

int rom_main(void)
{
    tap_begin("paging");
    frame = page_alloc(2);
    struct cpuid c = cpuid_if_present(0x80000001, 0);
    has_nx = c.edx & 1u << 20;
    has_1g = c.edx & 1u << 26;
    if (has_nx) wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_NXE);
    rights();
    crossing();
    flags();
    reserved_bits();
    large_pages();
    smep_smap();
    protection_keys();
    supervisor_keys();
    invalidation();
    pcid();
    paging_32bit();
    paging_pae();
    return tap_end();
}

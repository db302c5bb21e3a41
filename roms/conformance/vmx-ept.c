/*
 * EPT: violations and their qualifications, misconfigurations, accessed and dirty flags, large pages, the
 * guest's own page-table accesses, page-modification logging, VPIDs and INVVPID, EPTP switching; and the MSR
 * areas, which live here because they too are memory that the processor touches at entry and exit
 * (SDM 29.3, 29.4, 27.4, 28.4).
 *
 * Bochs 2.7 fails at: RF in the saved flags of an EPT violation (SDM 28.3.3), writes of the guest's accessed
 * and dirty flags through read-only EPT (it lets them pass), bit 0 of the qualification of a guest walk with
 * EPTP[6]=1 (SDM 28.2.1: bits 0 and 1), and PML entries (it logs the address, not the page).
 *
 * Elsewhere: vmx-pml.c, vmx-ve.c, vmx-mbec.c, vmx-spp.c. Missing: 1 GiB EPT pages.
 */
#include "apic.h"
#include "vmx-common.h"

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]

CODE(i_read, "mov (%rdi), %eax");
CODE(i_write, "mov %eax, (%rdi)");
CODE(i_rmw, "lock incl (%rdi)");
CODE(i_call, "call *%rdi");
CODE(i_ud2, "ud2");
CODE(i_vmfunc_as_is, "vmfunc");
CODE(i_vmfunc, "xor %eax, %eax; mov $1, %ecx; vmfunc; mov (%rdi), %ebx");
CODE(i_read_twice, "mov (%rdi), %eax; vmcall; mov (%rdi), %ebx");

/* A guest-physical page that nothing else uses, at GPA and linear address PLAYGROUND (identity-mapped by the
   guest's page tables, which are ours), below 16 MiB so that EPT maps it by 4 KiB. */
static uint8_t *playground;
static struct vmx_vcpu v;
static uint64_t cap;

#define GPA   ((uint64_t)playground)
#define R     EPT_QUALIFICATION_READ
#define W     EPT_QUALIFICATION_WRITE
#define X     EPT_QUALIFICATION_FETCH
#define FINAL (EPT_QUALIFICATION_LINEAR_VALID | EPT_QUALIFICATION_FINAL)
#define WALK  EPT_QUALIFICATION_LINEAR_VALID

static void start(const void *code)
{
    guest_init_ept(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = GPA;
    playground[0] = 0xc3; /* RET, for i_call */
}

/* Expects an EPT violation at guest-physical `gpa`, with these qualification bits (of those in `mask`). */
static void masked_violation(uint64_t gpa, uint64_t linear, uint64_t qualification, uint64_t mask,
                             const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t q = e.qualification & mask;
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EPT_VIOLATION && q == qualification &&
                vmread(GUEST_PHYSICAL_ADDRESS) == gpa && vmread(GUEST_LINEAR_ADDRESS) == linear,
            "%s", name))
        tap_note("  reason %u, qualification %lx (want %lx), gpa %lx (want %lx), linear %lx", e.reason,
                 e.qualification, qualification, vmread(GUEST_PHYSICAL_ADDRESS), gpa,
                 vmread(GUEST_LINEAR_ADDRESS));
}

static void violation(uint64_t gpa, uint64_t linear, uint64_t qualification, const char *name)
{
    masked_violation(gpa, linear, qualification, 0x1ff, name);
}

/* A read-modify-write reports a write; whether it reports a read too is the processor's choice (SDM 28.2.1).
 */
static void rmw_violation(uint64_t gpa, uint64_t linear, uint64_t qualification, const char *name)
{
    masked_violation(gpa, linear, qualification, 0x1fe, name);
}

static void set_entry(uint64_t value) { *ept_entry(v.ept, GPA, 1) = value; }
static uint64_t leaf(uint64_t rights) { return GPA | EPT_TYPE_WB | rights; }

static void violations(void)
{
    static const struct {
        const char *name;
        const void *code;
        uint64_t rights, qualification; /* ~0: no violation */
    } rows[] = {
        {"read of a page that is not there", i_read, 0, R | FINAL},
        {"write to a page that is not there", i_write, 0, W | FINAL},
        {"fetch from a page that is not there", i_call, 0, X | FINAL},
        {"write to a read-only page", i_write, EPT_R, W | EPT_R << 3 | FINAL},
        {"write to a read-execute page", i_write, EPT_R | EPT_X, W | (EPT_R | EPT_X) << 3 | FINAL},
        {"fetch from a read-write page", i_call, EPT_R | EPT_W, X | (EPT_R | EPT_W) << 3 | FINAL},
        {"fetch from a read-only page", i_call, EPT_R, X | EPT_R << 3 | FINAL},
        {"read of a read-only page", i_read, EPT_R, ~0ul},
        {"write to a read-write page", i_write, EPT_R | EPT_W, ~0ul},
        {"fetch from a read-execute page", i_call, EPT_R | EPT_X, ~0ul},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        start(rows[i].code);
        set_entry(rows[i].rights ? leaf(rows[i].rights) : 0);
        if (rows[i].qualification == ~0ul)
            done(&v, rows[i].name);
        else
            violation(GPA, GPA, rows[i].qualification, rows[i].name);
    }
    start(i_read);
    v.regs.gpr[RDI] = GPA + 0x123;
    set_entry(0);
    violation(GPA + 0x123, GPA + 0x123, R | FINAL, "the addresses reported are exact");
    is(vmread(GUEST_RIP), (uint64_t)i_read, "  RIP is at the instruction");
    ok(vmread(GUEST_RFLAGS) & RFLAGS_RF, "  RF is set in the saved flags");
    set_entry(leaf(EPT_RWX));
    done(&v, "after mending the entry the guest goes on: violations are not cached");

    start(i_rmw);
    set_entry(leaf(EPT_R));
    struct vmx_exit e = vmx_run(&v);
    is(e.qualification & (0x1ff & ~(uint64_t)R), W | EPT_R << 3 | FINAL,
       "read-modify-write of a read-only page: a write");

    if (cap & 1) {
        start(i_call);
        set_entry(leaf(EPT_X));
        done(&v, "fetch from an execute-only page");
        start(i_read);
        set_entry(leaf(EPT_X));
        violation(GPA, GPA, R | EPT_X << 3 | FINAL, "read of an execute-only page");
    } else {
        skip(2, "no execute-only pages");
    }

    /* The rights are the AND over the levels. */
    start(i_write);
    uint64_t *pde = ept_entry(v.ept, GPA, 2);
    *pde &= ~EPT_W;
    /* Our own stack and data are under the same entry: write only what the guest writes first. */
    violation(GPA, GPA, W | (EPT_R | EPT_X) << 3 | FINAL, "a right that an upper level takes away");
    start(i_read);
    v.regs.gpr[RDI] = 0x7f000000;
    violation(0x7f000000, 0x7f000000, R | FINAL, "an upper-level entry that is not there");

    /* A page of 2 MiB. */
    start(i_read);
    v.regs.gpr[RDI] = 0x2001234;
    *ept_entry(v.ept, 0x2000000, 2) = 0x2200000 | EPT_TYPE_WB | EPT_LARGE | EPT_RWX;
    *(volatile uint32_t *)0x2201234 = 0x600d;
    done(&v, "a 2 MiB page");
    is((uint32_t)v.regs.gpr[RAX], 0x600d, "  leads where it says");
}

/* Guest page tables of our own making, so that EPT rights on them can be taken away. */
static uint64_t *guest_tables;

static void start_with_tables(const void *code)
{
    start(code);
    if (!guest_tables) guest_tables = page_alloc(3);
    uint64_t *pml4 = guest_tables, *pdpt = guest_tables + 512, *pd = guest_tables + 1024;
    pml4[0] = (uint64_t)pdpt | PTE_P | PTE_W;
    pdpt[0] = (uint64_t)pd | PTE_P | PTE_W;
    for (unsigned i = 0; i < 32; i++) pd[i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    vmwrite(GUEST_CR3, (uint64_t)guest_tables);
}

static void walks(void)
{
    uint64_t pml4 = (uint64_t)guest_tables, rip = (uint64_t)i_read;
    start_with_tables(i_read);
    pml4 = (uint64_t)guest_tables;
    done(&v, "a guest with page tables of its own");
    start_with_tables(i_read);
    *ept_entry(v.ept, pml4, 1) = 0;
    violation(pml4, rip, R | WALK, "reading the PML4E for the first fetch");
    start_with_tables(i_read);
    *ept_entry(v.ept, pml4 + 4096, 1) = 0;
    violation(pml4 + 4096, rip, R | WALK, "reading the PDPTE");
    start_with_tables(i_read);
    *ept_entry(v.ept, pml4 + 8192, 1) = (pml4 + 8192) | EPT_TYPE_WB | EPT_R;
    rmw_violation(pml4 + 8192 + 8 * (rip >> 21), rip, W | EPT_R << 3 | WALK,
                  "setting the accessed flag of a PDE");
    /* The accessed flags set beforehand, no write is needed. */
    start_with_tables(i_read);
    guest_tables[0] |= PTE_A;
    guest_tables[512] |= PTE_A;
    for (unsigned i = 0; i < 32; i++) guest_tables[1024 + i] |= PTE_A | PTE_D;
    for (unsigned i = 0; i < 3; i++)
        *ept_entry(v.ept, pml4 + 4096 * i, 1) = (pml4 + 4096 * i) | EPT_TYPE_WB | EPT_R;
    done(&v, "read-only page tables with all flags set");
    start_with_tables(i_write);
    for (unsigned i = 0; i < 32; i++) guest_tables[1024 + i] |= PTE_A;
    guest_tables[0] |= PTE_A;
    guest_tables[512] |= PTE_A;
    *ept_entry(v.ept, pml4 + 8192, 1) = (pml4 + 8192) | EPT_TYPE_WB | EPT_R;
    rmw_violation(pml4 + 8192 + 8 * (GPA >> 21), GPA, W | EPT_R << 3 | WALK,
                  "setting the dirty flag of a PDE");

    /* With four levels an address of more than 48 bits has no entries at all (SDM 31.3.2). */
    if (maxphyaddr() > 48) {
        start_with_tables(i_read);
        guest_tables[512 + 1] = 1ul << 48 | PTE_P | PTE_W | PTE_PS;
        v.regs.gpr[RDI] = 0x40000123;
        violation(1ul << 48 | 0x123, 0x40000123, R | FINAL,
                  "a guest-physical address of 49 bits has no rights");
        guest_tables[512 + 1] = 0;
    } else {
        skip(1, "no guest-physical addresses of 49 bits");
    }

    /* Guest faults come before the EPT's say on the final page. */
    start_with_tables(i_write);
    vmwrite(EXCEPTION_BITMAP, 1u << 14);
    *ept_entry(v.ept, GPA, 1) = 0;
    v.regs.gpr[RDI] = 0x7f00000000;
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "a guest page fault is not an EPT violation");
}

static void misconfiguration(const char *name, uint64_t entry)
{
    start(i_read);
    set_entry(entry);
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, name);
    is(vmread(GUEST_PHYSICAL_ADDRESS), GPA, "  at the address");
}

static void misconfigurations(void)
{
    misconfiguration("write without read", leaf(EPT_W));
    misconfiguration("write and execute without read", leaf(EPT_W | EPT_X));
    if (!(cap & 1))
        misconfiguration("execute-only, not offered", leaf(EPT_X));
    else
        skip(2, "execute-only is offered");
    misconfiguration("memory type 2", GPA | 2 << 3 | EPT_RWX);
    misconfiguration("memory type 3", GPA | 3 << 3 | EPT_RWX);
    misconfiguration("memory type 7", GPA | 7 << 3 | EPT_RWX);
    if (maxphyaddr() < 52)
        misconfiguration("an address beyond MAXPHYADDR", leaf(EPT_RWX) | 1ul << maxphyaddr());
    else
        skip(2, "52 physical-address bits");
    start(i_read);
    *ept_entry(v.ept, GPA, 2) |= 1u << 3;
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, "a reserved bit in a PDE that refers to a table");
    start(i_read);
    *ept_entry(v.ept, GPA, 4) |= 1u << 7;
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, "bit 7 of a PML4E");
    start(i_read);
    v.regs.gpr[RDI] = 0x2000000;
    *ept_entry(v.ept, 0x2000000, 2) |= 1u << 13;
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, "a low address bit of a 2 MiB page");
    start(i_read);
    set_entry(1ul << maxphyaddr() | 2 << 3);
    violation(GPA, GPA, R | FINAL, "an entry that is not present may hold anything");
    /* SDM 29.3.3.3: rights are looked at when the address is known, so a bad lower entry comes first. */
    start(i_write);
    *ept_entry(v.ept, GPA, 2) &= ~EPT_W;
    set_entry(leaf(EPT_W));
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, "a bad entry below one without the right");
}

static void accessed_and_dirty(void)
{
    if (!(cap & 1u << 21)) {
        skip(13, "no accessed and dirty flags for EPT");
        return;
    }
    uint64_t ad = 1u << 6;
    start(i_read);
    done(&v, "without EPTP[6]");
    is(*ept_entry(v.ept, GPA, 1) & (EPT_A | EPT_D), 0, "  no flag is set");
    start(i_read);
    vmwrite(EPTP, vmread(EPTP) | ad);
    done(&v, "a read");
    is(*ept_entry(v.ept, GPA, 1) & (EPT_A | EPT_D), EPT_A, "  sets the accessed flag of the leaf");
    is(*ept_entry(v.ept, GPA, 2) & (EPT_A | EPT_D), EPT_A, "  and of the PDE");
    is(*ept_entry(v.ept, GPA, 4) & EPT_A, EPT_A, "  and of the PML4E");
    start(i_write);
    vmwrite(EPTP, vmread(EPTP) | ad);
    done(&v, "a write");
    is(*ept_entry(v.ept, GPA, 1) & (EPT_A | EPT_D), EPT_A | EPT_D, "  sets the dirty flag too");
    /* With the flags on, the guest's walks count as writes to its tables (SDM 29.3.3.2). */
    start_with_tables(i_read);
    vmwrite(EPTP, vmread(EPTP) | ad);
    uint64_t pml4 = (uint64_t)guest_tables;
    done(&v, "a guest walk");
    is(*ept_entry(v.ept, pml4, 1) & (EPT_A | EPT_D), EPT_A | EPT_D, "  makes the page tables dirty");
    start_with_tables(i_read);
    vmwrite(EPTP, vmread(EPTP) | ad);
    *ept_entry(v.ept, pml4, 1) = pml4 | EPT_TYPE_WB | EPT_R;
    violation(pml4, (uint64_t)i_read, R | W | EPT_R << 3 | WALK, "a guest walk through read-only tables");

    if (!vmx_has_secondary(PROC2_ENABLE_PML)) {
        skip(4, "no page-modification logging");
        return;
    }
    uint64_t *log = page_alloc(1);
    start(i_write);
    vmx_set_proc2(PROC2_ENABLE_PML);
    vmwrite(EPTP, vmread(EPTP) | ad);
    vmwrite(PML_ADDRESS, (uint64_t)log);
    vmwrite(PML_INDEX, 511);
    v.regs.gpr[RDI] = GPA + 8;
    done(&v, "PML");
    unsigned index = (unsigned)vmread(PML_INDEX);
    bool found = false;
    for (unsigned i = index + 1; i < 512; i++) found |= log[i] == GPA;
    if (!ok(index < 511 && found, "  logs the page that was written"))
        tap_note("  index %u, newest entry %lx, want %lx", index, log[(index + 1) & 511], GPA);
    start(i_write);
    vmx_set_proc2(PROC2_ENABLE_PML);
    vmwrite(EPTP, vmread(EPTP) | ad);
    vmwrite(PML_ADDRESS, (uint64_t)log);
    vmwrite(PML_INDEX, 0xffff);
    exit_is(&v, EXIT_REASON_PAGE_MODIFICATION_LOG_FULL, "PML with a full log exits");
    is(*ept_entry(v.ept, GPA, 1) & EPT_D, 0, "  before the dirty flag is set");
}

/* Exits in the middle of delivering an event. */
static void in_delivery(void)
{
    start(i_ud2);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(GUEST_RSP, GPA + 0x800);
    set_entry(0);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_EPT_VIOLATION, "an EPT violation while #UD is delivered");
    is(e.qualification & 0x187, W | FINAL, "  by the write of the frame");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6,
       "  original event: #UD");
    is(vmread(GUEST_RIP), (uint64_t)i_ud2, "  RIP has not moved");
    is(vmread(GUEST_RSP), GPA + 0x800, "  nor has RSP");
    set_entry(leaf(EPT_RWX));
    vmwrite(INJECTED_EVENT_IDENTIFICATION, vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12));
    uint64_t *frame = delivery_is(&v, 6, "injected again it arrives");
    is(frame[0], (uint64_t)i_ud2, "  with the right frame");
}

/* What an event has changed when its delivery leads to an exit, the frame being nowhere to go (SDM 30.1). */
CODE(i_nops, "nop; nop");
CODE(i_mov_ss_int3, "mov %ss, %eax; mov %eax, %ss; int3");

static void undeliverable(const void *code)
{
    start(code);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(GUEST_RSP, GPA + 0x800);
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_DEBUG_CONTROLS);
    set_entry(0);
}

static void undelivered(uint64_t event, uint64_t rip, const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t original = vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12);
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EPT_VIOLATION &&
                original == (EVENT_VALID | event) && vmread(GUEST_RIP) == rip &&
                vmread(GUEST_RSP) == GPA + 0x800,
            "SDM 30.1: an exit on the way of %s", name))
        tap_note("  reason %x, original event %lx, rip %lx", e.reason, original, vmread(GUEST_RIP));
}

static void on_the_way(void)
{
    undeliverable(i_nops);
    write_dr6(0xffff0ff0);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    vmwrite(GUEST_DR7, 0x2400); /* GD */
    undelivered(EVENT_HARDWARE_EXCEPTION | 1, (uint64_t)i_nops + 1, "a single step");
    is(read_dr6(), 0xffff4ff0, "  DR6 has BS");
    is(vmread(GUEST_DR7), 0x400, "  DR7.GD is clear");
    is(vmread(GUEST_PENDING_DEBUG_EXCEPTIONS), 0, "  nothing is pending");
    is(vmread(GUEST_RFLAGS), RFLAGS_FIXED | RFLAGS_TF, "  RFLAGS is as it was");
    write_dr6(0xffff0ff0);

    undeliverable(i_read);
    v.regs.gpr[RDI] = 0x5000000000;
    undelivered(EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | 14, (uint64_t)i_read, "a page fault");
    is(read_cr2(), 0x5000000000, "  CR2 has the address");

    undeliverable(i_mov_ss_int3);
    undelivered(EVENT_SOFTWARE_EXCEPTION | 3, (uint64_t)i_mov_ss_int3 + 4, "INT3 behind MOV SS");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), 0, "  nothing is blocked");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 1, "  the length is the instruction's");

    undeliverable(i_nops);
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_NMI | 2);
    undelivered(EVENT_NMI | 2, (uint64_t)i_nops, "an injected NMI");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  NMIs are blocked");
    unblock_nmis();
    if (vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_NMI_EXITING | PIN_VIRTUAL_NMIS)) {
        undeliverable(i_nops);
        vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
        vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_NMI | 2);
        undelivered(EVENT_NMI | 2, (uint64_t)i_nops, "an injected NMI with virtual NMIs");
        is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  virtual NMIs are blocked");
    } else {
        skip(2, "no virtual NMIs");
    }

    if (!(rdmsr(IA32_VMX_MISC) & 1u << 6)) {
        skip(4, "no HLT activity state");
        return;
    }
    apic_enable();
    undeliverable(i_nops);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    apic_self_ipi(0x61);
    undelivered(EVENT_EXTERNAL_INTERRUPT | 0x61, (uint64_t)i_nops, "an interrupt that wakes from HLT");
    is(vmread(GUEST_ACTIVITY_STATE), 0, "  the state is active");
    ok(apic_bit(APIC_ISR, 0x61) && !apic_bit(APIC_IRR, 0x61), "  it is acknowledged");
    is(vmread(GUEST_RFLAGS), RFLAGS_FIXED | RFLAGS_IF, "  IF is as it was");
    apic_eoi();
}

static void vpids(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_VPID) || !(cap & 1ul << 32) || !(cap & 1ul << 41)) {
        skip(6, "no VPID with INVVPID");
        return;
    }
    /* A linear address above 4 GiB whose mapping the host changes behind the guest's back. Whether the guest
       sees the old page before the invalidation is the processor's affair; afterwards it must see the new
       one. */
    uint64_t *two = page_alloc(2), linear = 0x6000000000;
    two[0] = 1;
    two[512] = 2;
    for (unsigned type = 0; type < 4; type++) {
        paging_map(linear, (uint64_t)two, PTE_P | PTE_W);
        guest_init(&v, i_read_twice);
        v.regs.gpr[RDI] = linear;
        vmx_set_proc2(PROC2_ENABLE_VPID);
        vmwrite(VPID, 8 + type); /* what an earlier round left is another VPID's */
        struct vmx_exit e = vmx_run(&v);
        uint64_t first = v.regs.gpr[RAX];
        *paging_entry(linear, 1) = ((uint64_t)two + 4096) | PTE_P | PTE_W;
        if (cap & 1ul << (40 + type))
            invvpid(type, (uint16_t)(8 + type), linear);
        else
            invvpid(1, 7, linear);
        vmx_skip_instruction();
        e = vmx_run(&v);
        ok(e.reason == EXIT_REASON_VMCALL && first == 1 && (uint32_t)v.regs.gpr[RBX] == 2,
           "INVVPID type %u drops a stale translation", type);
    }
    /* Without VPIDs, the entry itself drops it. */
    paging_map(linear, (uint64_t)two, PTE_P | PTE_W);
    guest_init(&v, i_read_twice);
    v.regs.gpr[RDI] = linear;
    vmx_run(&v);
    *paging_entry(linear, 1) = ((uint64_t)two + 4096) | PTE_P | PTE_W;
    vmx_skip_instruction();
    vmx_run(&v);
    ok((uint32_t)v.regs.gpr[RAX] == 1 && (uint32_t)v.regs.gpr[RBX] == 2, "without VPID, VM entry drops it");

    /* And the same through EPT, with INVEPT. */
    guest_init_ept(&v, i_read_twice);
    v.regs.gpr[RDI] = GPA;
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 7);
    set_entry((uint64_t)two | EPT_TYPE_WB | EPT_RWX);
    vmx_run(&v);
    set_entry(((uint64_t)two + 4096) | EPT_TYPE_WB | EPT_RWX);
    invept(cap & 1u << 25 ? 1 : 2, vmread(EPTP));
    vmx_skip_instruction();
    vmx_run(&v);
    ok((uint32_t)v.regs.gpr[RAX] == 1 && (uint32_t)v.regs.gpr[RBX] == 2,
       "INVEPT drops a stale EPT translation");
}

static void vm_functions(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_VM_FUNCTIONS) || !(rdmsr(IA32_VMX_VMFUNC) & 1)) {
        skip(13, "no EPTP switching");
        return;
    }
    uint64_t *list = page_alloc(1), *other_page = page_alloc(1);
    other_page[0] = 0x77;
    start(i_vmfunc);
    uint64_t first = v.ept;
    /* The second view: the same but for the playground. */
    uint64_t second = ept_new();
    ept_map(second, 0, 0, 16 << 20, EPT_RWX);
    *ept_entry(second, GPA, 1) = (uint64_t)other_page | EPT_TYPE_WB | EPT_RWX;
    list[0] = ept_pointer(first);
    list[1] = ept_pointer(second);
    vmx_set_proc2(PROC2_ENABLE_VM_FUNCTIONS);
    vmwrite(VM_FUNCTION_CONTROLS, 1);
    vmwrite(EPTP_LIST_ADDRESS, (uint64_t)list);
    done(&v, "VMFUNC leaf 0 switches the EPTP without an exit");
    is((uint32_t)v.regs.gpr[RBX], 0x77, "  and the guest sees the other memory");
    is(vmread(EPTP), list[1], "  and the VMCS holds the new EPTP");
    start(i_vmfunc);
    list[1] = 0;
    vmx_set_proc2(PROC2_ENABLE_VM_FUNCTIONS);
    vmwrite(VM_FUNCTION_CONTROLS, 1);
    vmwrite(EPTP_LIST_ADDRESS, (uint64_t)list);
    exit_is(&v, EXIT_REASON_VMFUNC, "VMFUNC to a bad EPTP exits");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 3, "  with its length");
    static const struct {
        const char *id;
        uint64_t eax, ecx, functions, entry;
        bool enabled, ud;
    } t[] = {
        {"VMFUNC-003: without enable VM functions: #UD", 0, 1, 1, 0, false, true},
        {"VMFUNC-004: EAX of 64: #UD", 64, 1, 1, 0, true, true},
        {"VMFUNC-004: EAX of FFFFFFFFH: #UD", 0xffffffff, 1, 1, 0, true, true},
        {"VMFUNC-005: a function that is not enabled exits", 0, 1, 0, 0, true, false},
        {"VMFUNC-005: function 63 exits", 63, 1, 1, 0, true, false},
        {"VMFUNC-006: ECX of 512 exits", 0, 512, 1, 0, true, false},
        {"VMFUNC-006: ECX of FFFFFFFFH exits", 0, 0xffffffff, 1, 0, true, false},
        {"VMFUNC-008B: an EPTP of five levels from one of four exits", 0, 1, 1, 1 << 3, true, false},
    };
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        start(i_vmfunc_as_is);
        list[1] = ept_pointer(second) + t[i].entry;
        v.regs.gpr[RAX] = t[i].eax, v.regs.gpr[RCX] = t[i].ecx;
        if (t[i].enabled) vmx_set_proc2(PROC2_ENABLE_VM_FUNCTIONS);
        vmwrite(VM_FUNCTION_CONTROLS, t[i].functions);
        vmwrite(EPTP_LIST_ADDRESS, (uint64_t)list);
        uint64_t before = vmread(EPTP);
        struct vmx_exit e = vmx_run(&v);
        bool good = t[i].ud ? e.reason == EXIT_REASON_EXCEPTION_OR_NMI &&
                                  (vmread(EXITING_EVENT_IDENTIFICATION) & 0xff) == VECTOR_UD
                            : e.reason == EXIT_REASON_VMFUNC && e.qualification == 0;
        if (!ok(good && vmread(EPTP) == before && vmread(GUEST_RIP) == (uint64_t)i_vmfunc_as_is, "%s",
                t[i].id))
            tap_note("  reason %u, qualification %lx", e.reason, e.qualification);
    }
}

CODE(i_rdmsr_star, "mov $0xc0000082, %ecx; rdmsr");

static void msr_areas(void)
{
    uint64_t *areas = page_alloc(3), *load = areas, *store = areas + 512, *back = areas + 1024;
    uint64_t star = rdmsr(IA32_STAR), lstar = rdmsr(IA32_LSTAR);
    wrmsr(IA32_STAR, 0x1111);
    wrmsr(IA32_LSTAR, 0x2222);
    guest_init(&v, i_rdmsr_star);
    static uint8_t no_exits[4096] __attribute__((aligned(4096)));
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)no_exits);
    load[0] = IA32_STAR, load[1] = 0x3333;
    load[2] = IA32_LSTAR, load[3] = 0x4444;
    store[0] = IA32_LSTAR, store[2] = IA32_STAR, store[4] = IA32_LSTAR;
    back[0] = IA32_STAR, back[1] = 0x5555;
    back[2] = IA32_STAR, back[3] = 0x6666;
    vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, (uint64_t)load);
    vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 2);
    vmwrite(VM_EXIT_MSR_STORE_ADDRESS, (uint64_t)store);
    vmwrite(VM_EXIT_MSR_STORE_COUNT, 2);
    vmwrite(VM_EXIT_MSR_LOAD_ADDRESS, (uint64_t)back);
    vmwrite(VM_EXIT_MSR_LOAD_COUNT, 2);
    done(&v, "a guest with MSR areas");
    is((uint32_t)v.regs.gpr[RAX], 0x4444, "  sees what the entry loaded");
    is(store[1], 0x4444, "  the exit stores what the guest had");
    is(store[3], 0x3333, "  in each entry");
    is(store[5], 0, "  up to the count");
    is(rdmsr(IA32_STAR), 0x6666, "  the exit loads in order: the last one stands");
    is(rdmsr(IA32_LSTAR), 0x4444, "  an MSR that is in no exit list keeps the guest's value");
    wrmsr(IA32_STAR, star);
    wrmsr(IA32_LSTAR, lstar);

    /* LME cannot change with CR0.PG = 1, by no WRMSR and so by no list (SDM 29.4). */
    uint64_t efer = rdmsr(IA32_EFER);
    guest_init(&v, i_rdmsr_star);
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)no_exits);
    load[0] = IA32_LSTAR, load[1] = 0x4444;
    load[2] = IA32_EFER, load[3] = efer & ~(uint64_t)EFER_LME;
    vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, (uint64_t)load);
    vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 2);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_MSR_LOADING,
                                "SDM 29.4: IA32_EFER in the list of a VM entry, without LME");
    is(e.qualification, 2, "  the entry is named");
    is(rdmsr(IA32_EFER), efer, "  the host has its own");
    is(rdmsr(IA32_LSTAR), 0x4444, "  what came before it is loaded");
    load[3] = efer ^ EFER_SCE;
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) & ~(uint64_t)EXIT_LOAD_IA32_EFER);
    done(&v, "SDM 29.4: IA32_EFER in the list of a VM entry, with LME");
    is(rdmsr(IA32_EFER), efer ^ EFER_SCE, "  is loaded, and but for LMA and LME no exit changes it");
    wrmsr(IA32_EFER, efer);
    wrmsr(IA32_LSTAR, lstar);
}

int rom_main(void)
{
    if (!vmx_test_begin("EPT, VPID and the MSR areas")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    msr_areas();
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) {
        tap_note("no EPT");
        return tap_end();
    }
    cap = rdmsr(IA32_VMX_EPT_VPID_CAP);
    playground = page_alloc(1);
    violations();
    walks();
    misconfigurations();
    accessed_and_dirty();
    in_delivery();
    on_the_way();
    vpids();
    vm_functions();
    return tap_end();
}

/*
 * The VMCS fuzzer: from a seed, VMCSs at random, mostly valid, with a guest that runs a few instructions; a
 * line for each VM entry. The same seed makes the same cases on every machine, so two outputs can be compared
 * line by line. tools/fuzz-vmcs does that; by hand:
 *
 *     tools/run-on-bochs build/roms/fuzz-vmcs.elf seed=7 count=2000 have=LIST lack=LIST > a
 *     build/matryoshka -kernel build/roms/fuzz-vmcs.elf -append "seed=7 ..." -serial stdio > b
 *
 * Words of the command line: seed=N; first=N (0), count=N (1000) cases; only=N,...: these cases, with their
 * steps and all that the digests are made of; keep=N,... or skip=N,...: only these steps of a case, or all
 * but these; each: the case once more without each of its steps; have=HEX,... the bits of the line "# offer"
 * that both machines have, lack=HEX,... those that neither has: nothing else is used; tolerate=LETTERS:
 * leaves known differences out of the digests (report.c); quiet: a line for every 100 cases; again=N: after
 * each case N more entries of its VMCS, each with one field changed and put back, which print nothing.
 *
 * A line: case.entry, mode, "ept" if there is one, "->", then "invalid" (VMfailInvalid), "valid N"
 * (VMfailValid), or the exit reason (hexadecimal, bit 31 set for a failed entry), the qualification and what
 * else the exit defines; then digests of the guest-state area, of the processor as the exit left it, and of
 * memory.
 *
 * A case is entered several times if its exits let it go on: what exited is passed over or taken away, and an
 * event that was interrupted is injected again, as a hypervisor does.
 *
 * Missing: 32-bit hosts, SMM, the wait-for-SIPI state, more than one processor, VMX aborts.
 */
#include "apic.h"
#include "fuzz.h"
#include "trap.h"

static struct vmx_vcpu vcpu;
static uint64_t host_cr0, host_efer;

PROBE(read_debugctl, "mov $0x1d9, %ecx; rdmsr");

void host_tables(uint64_t *gdt, uint64_t *idt)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr, idtr;
    asm volatile("sgdt %0; sidt %1" : "=m"(gdtr), "=m"(idtr));
    *gdt = gdtr.base, *idt = idtr.base;
}

static void offer_read(void)
{
    uint32_t own[WORDS];
    offer_own(own, trap_catch(read_debugctl, 0, 0).vector == TRAP_NONE);
    uint64_t list[WORDS];
    unsigned both = list_read("have", 16, list, WORDS);
    for (unsigned i = 0; i < WORDS; i++) offer.have[i] = both == WORDS ? (uint32_t)list[i] : own[i];
    unsigned neither = list_read("lack", 16, list, WORDS);
    for (unsigned i = 0; i < WORDS; i++) offer.lack[i] = neither == WORDS ? (uint32_t)list[i] : ~own[i];
    print("# offer ");
    for (unsigned i = 0; i < WORDS; i++) print("%x%s", own[i], i + 1 < WORDS ? "," : "\n");
    const uint32_t msrs[] = {IA32_VMX_PINBASED_CTLS, IA32_VMX_PROCBASED_CTLS, IA32_VMX_PROCBASED_CTLS2,
                             IA32_VMX_EXIT_CTLS, IA32_VMX_ENTRY_CTLS};
    print("# must ");
    for (unsigned i = 0; i < 5; i++) print("%x%s", vmx_adjust(msrs[i], 0), i < 4 ? "," : "");
    uint32_t widths = cpuid(0x80000008, 0).eax;
    print("; %u physical and %u linear address bits; memory at %lx\n", widths & 0xff, widths >> 8 & 0xff,
          arena_physical());
}

static bool spurious(struct trap_frame *f)
{
    (void)f;
    return true;
}

static bool interrupt(struct trap_frame *f)
{
    (void)f;
    apic_eoi();
    return true;
}

/* An exit leaves NMIs blocked as the guest had them; IRET ends that. */
static void unblock_nmi(void)
{
    asm volatile("mov %%rsp, %%rax; push %0; push %%rax; pushf; push %1; push $1f; iretq; 1:" ::"i"(SEL_DATA),
                 "i"(SEL_CODE64)
                 : "rax", "memory", "cc");
}

asm(".pushsection .text; cleaner_code: mov %rsp, %rax; push $0x10; push %rax; pushfq; push $0x08; push $1f; "
    "iretq; 1: vmcall;"
    ".popsection");
extern const char cleaner_code[];

/* Bochs keeps virtual NMIs blocked through entries that say otherwise, up to an IRET of a guest that has
 * them. */
static void unblock_virtual_nmi(void)
{
    static struct vmx_vcpu cleaner;
    static uint8_t stack[256];
    if (!(kase.f[F_PIN_BASED_VM_EXECUTION_CONTROLS] & PIN_VIRTUAL_NMIS)) return;
    vmx_vcpu_init(&cleaner, (uint64_t)cleaner_code, (uint64_t)(stack + sizeof(stack)));
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_run(&cleaner);
}

/* What VM exits leave as the guest had it. */
static void put_back_processor(void)
{
    write_cr0(host_cr0);
    write_cr8(0);
    wrmsr(IA32_STAR, 0x0030000800000000), wrmsr(IA32_LSTAR, A_STUBS + 8 * 71), wrmsr(IA32_CSTAR, 0),
        wrmsr(IA32_FMASK, 0x700);
    wrmsr(IA32_KERNEL_GS_BASE, 0x777), wrmsr(IA32_PAT, 0x0007040600070406), wrmsr(IA32_EFER, host_efer);
    write_cr2(kase.cr2);
    asm volatile("mov %0, %%dr0; mov %1, %%dr1; mov %2, %%dr2; mov %3, %%dr3" ::"r"(kase.dr[0]),
                 "r"(kase.dr[1]), "r"(kase.dr[2]), "r"(kase.dr[3]));
    write_dr6(kase.dr6);
}

/* The host takes those that are left; those that the guest has taken, or an exit has acknowledged, end here.
 */
static void take_interrupts(void)
{
    static const uint8_t vectors[] = {NOTIFY, INTERRUPT, NOTIFY_LOW};
    write_cr8(0);
    asm volatile("sti; nop; nop; cli");
    for (unsigned i = 0; i < sizeof(vectors); i++) /* from the highest, which is the one that an EOI ends */
        if (apic_bit(APIC_ISR, vectors[i])) apic_eoi();
    asm volatile("sti; nop; nop; cli"); /* what they held back */
}

/* True if it ended in an exit. */
static bool run_case(const char *label, bool details, bool quiet)
{
    static const char *const modes[] = {"real", "protected", "protected16", "paged",     "user",
                                        "pae",  "v86",       "long",        "long-user", "compat"};
    if (vmclear(vcpu.vmcs) != VMX_SUCCEED || vmptrld(vcpu.vmcs) != VMX_SUCCEED)
        panic("VMCLEAR or VMPTRLD failed");
    vcpu.launched = false;
    for (unsigned i = 0; i < FIELD_COUNT; i++) vmwrite_status(field_rows[i].encoding, kase.f[i]);
    put_back_processor();
    for (unsigned i = 0; i < 2; i++)
        if (kase.interrupts[i]) apic_self_ipi(kase.interrupts[i]);
    vcpu.regs = kase.regs;
    invept(2, 0), invvpid(2, 0, 0);
    bool entered = false;
    for (unsigned n = 0; n < ENTRIES; n++) {
        unblock_nmi();
        struct vmx_exit e = vmx_run(&vcpu);
        kase.regs = vcpu.regs;
        if (!quiet || details) {
            print("%lu.%u%s %s%s ->", kase.number, n, label, modes[kase.mode], kase.ept ? " ept" : "");
            report(&e);
            if (details) report_details(&e);
        }
        entered = e.status == VMX_SUCCEED && !(e.reason & EXIT_REASON_ENTRY_FAILURE);
        if (!entered || !go_on(&e)) break;
    }
    if (report_tolerates('n')) unblock_virtual_nmi();
    take_interrupts();
    return entered;
}

/* More entries of what a case left, each with one field changed: for numbers, without a line. */
static void run_again(uint64_t times)
{
    for (uint64_t n = 0; n < times; n++) {
        static const uint32_t places[] = {A_CODE + 0x800, A_CODE + 0x800, A_CODE + 0x802, A_CODE + 0x805,
                                          A_STUBS + 8};
        enum field field;
        uint64_t old, rip = PICK(places);
        if (!mutation_live(&field, &old)) continue;
        if (field != F_GUEST_RIP) vmwrite(GUEST_RIP, rip);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 2048 >> (rdmsr(IA32_VMX_MISC) & 31));
        vmx_run(&vcpu);
        vmwrite_status(field_rows[field].encoding, old);
        vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
        if (n % 16 == 0) put_back_processor();
    }
}

int rom_main(void)
{
    const char *why;
    if (!vmx_available(&why) ||
        !vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST | PROC2_ENABLE_VPID) ||
        !vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        print("this needs VMX with EPT, VPID, unrestricted guest and the preemption timer\n");
        return 1;
    }
    if (!vmx_on()) panic("VMXON failed");
    host_cr0 = read_cr0(), host_efer = rdmsr(IA32_EFER);
    vcpu.vmcs = vmx_new_region();
    arena_init();
    areas_shadow = vmx_new_region();
    apic_enable();
    trap_on(INTERRUPT, interrupt);
    trap_on(NOTIFY, interrupt);
    trap_on(NOTIFY_LOW, interrupt);
    trap_on(APIC_SPURIOUS_VECTOR, spurious);
    offer_read();
    report_tolerate(cmdline_text("tolerate"));
    steps_read();
    static uint64_t cases[256]; /* one by one, with all details; or a range */
    unsigned singles = list_read("only", 10, cases, 256);
    uint64_t seed = cmdline_number("seed", 1), first = cmdline_number("first", 0),
             count = cmdline_number("count", 1000), again = cmdline_number("again", 0);
    bool each = cmdline_has("each"), quiet = cmdline_has("quiet");
    if (singles) first = 0, count = singles;
    for (uint64_t i = first; i < first + count; i++) {
        uint64_t n = singles ? cases[i] : i;
        steps_print(singles && !each);
        make_case(seed, n);
        steps_print(false);
        if (quiet && n % 100 == 0) print("%lu\n", n);
        if (run_case("", singles && !each, quiet)) run_again(again);
        for (int left_out = 0, steps = (int)kase.steps; each && left_out < steps; left_out++) {
            steps_leave_out(left_out);
            make_case(seed, n);
            char label[] = "-000";
            for (int k = 3, number = left_out; k; k--, number /= 10) label[k] = (char)('0' + number % 10);
            run_case(label, false, false);
            steps_leave_out(-1);
        }
    }
    print("# end\n");
    return 0;
}

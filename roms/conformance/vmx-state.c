/*
 * What VM entry loads (SDM 27.3.2), what VM exit saves (SDM 28.3) and what it loads for the host (SDM 28.5);
 * and a guest that walks from real mode to 64-bit mode by itself, with its state seen at each stop
 * (unrestricted guest).
 *
 * Bochs 2.7 fails one point: it saves a real-mode guest's CS as a data segment although nothing has loaded
 * it.
 *
 * Missing: CET, performance counters, 32-bit hosts.
 */
#include "vmx-common.h"

static struct vmx_vcpu v;
static uint64_t *seen; /* a page where guests note what they see */
static uint8_t no_exits[4096] __attribute__((aligned(4096)));

static void start(const void *code)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)seen;
    memset(seen, 0, 4096);
    if (vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        vmx_set_proc(PROC_USE_MSR_BITMAPS);
        vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)no_exits);
    }
}

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
#define READ_MSR(number, at) \
    "mov $" #number ", %ecx; rdmsr; mov %eax, " #at "(%rdi); mov %edx, " #at " + 4(%rdi); "

#define IA32_PKRS 0x6e1
CODE(g_pkrs, READ_MSR(0x6e1, 0) "mov $0x44444444, %eax; xor %edx, %edx; wrmsr");
CODE(g_pat, "mov $0x277, %ecx; mov $0x00010007, %eax; mov $0x00040006, %edx; wrmsr");

/* ---- what entry loads ---- */

CODE(g_look,
     "sgdt 0(%rdi); sidt 16(%rdi); str 32(%rdi); sldt 40(%rdi); mov %cs, 48(%rdi); mov %ss, 50(%rdi); "
     "mov %ds, 52(%rdi); mov %es, 54(%rdi); mov %fs, 56(%rdi); mov %gs, 58(%rdi); pushfq; pop 64(%rdi); "
     "mov %rsp, 72(%rdi); mov %cr0, %rax; mov %rax, 80(%rdi); mov %cr3, %rax; mov %rax, 88(%rdi); "
     "mov %cr4, %rax; mov %rax, 96(%rdi); mov %dr7, %rax; mov %rax, 104(%rdi); mov %fs:0, %rax; "
     "mov %rax, 112(%rdi); " READ_MSR(0x174, 120) READ_MSR(0x175, 128) READ_MSR(0x176, 136)
         READ_MSR(0xc0000080, 144) READ_MSR(0x277, 152) READ_MSR(0xc0000100, 160) READ_MSR(0xc0000101, 168));

static void entry_loads(void)
{
    static uint64_t fs_word = 0xf5f5f5f5;
    start(g_look);
    bool load_pat = vmx_allowed(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_IA32_PAT) &&
                    vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_LOAD_IA32_PAT);
    uint64_t pat = rdmsr(IA32_PAT), efer = rdmsr(IA32_EFER);
    if (load_pat) {
        vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_IA32_PAT);
        vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_LOAD_IA32_PAT);
        vmwrite(GUEST_IA32_PAT, 0x0006060606060606);
        vmwrite(HOST_IA32_PAT, pat);
    }
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    vmwrite(GUEST_GDTR_LIMIT, 0x1234);
    vmwrite(GUEST_IDTR_LIMIT, 0x0fff);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF | RFLAGS_OF);
    vmwrite(GUEST_DR7, 0x400 | 1u << 4);
    vmwrite(GUEST_FS_SELECTOR, 0);
    vmwrite(GUEST_FS_BASE, (uint64_t)&fs_word);
    vmwrite(GUEST_GS_BASE, 0xffff800000001000);
    vmwrite(GUEST_ES_SELECTOR, 0);
    vmwrite(GUEST_ES_ACCESS_RIGHTS, AR_UNUSABLE);
    vmwrite(GUEST_IA32_SYSENTER_CS, 0x77);
    vmwrite(GUEST_IA32_SYSENTER_ESP, 0xffffffff80001234);
    vmwrite(GUEST_IA32_SYSENTER_EIP, 0x5678);
    vmwrite(GUEST_IA32_EFER, efer | EFER_SCE);
    done(&v, "a guest that looks around");
    const uint8_t *b = (const uint8_t *)seen;
    is(*(const uint16_t *)b, 0x1234, "  GDTR limit");
    is(*(const uint64_t *)(b + 2), (uint64_t)rt_gdt, "  GDTR base");
    is(*(const uint16_t *)(b + 16), 0xfff, "  IDTR limit");
    is((uint16_t)seen[4], SEL_TSS, "  TR");
    is((uint16_t)seen[5], 0, "  LDTR");
    is((uint16_t)seen[6], SEL_CODE64, "  CS");
    is(*(const uint16_t *)(b + 54), 0, "  ES, unusable");
    is(seen[8] & ~(uint64_t)RFLAGS_RF, RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF | RFLAGS_OF, "  RFLAGS");
    is(seen[9], vmread(GUEST_RSP), "  RSP");
    is(seen[10], read_cr0(), "  CR0");
    is(seen[11], read_cr3(), "  CR3");
    is(seen[12], read_cr4(), "  CR4");
    is(seen[13], 0x400 | 1u << 4, "  DR7");
    is(seen[14], fs_word, "  memory at FS:0");
    is(seen[15], 0x77, "  IA32_SYSENTER_CS");
    is(seen[16], 0xffffffff80001234, "  IA32_SYSENTER_ESP");
    is(seen[17], 0x5678, "  IA32_SYSENTER_EIP");
    is(seen[18], efer | EFER_SCE, "  IA32_EFER");
    if (load_pat)
        is(seen[19], 0x0006060606060606, "  IA32_PAT");
    else
        skip(1, "no load IA32_PAT");
    is(seen[20], (uint64_t)&fs_word, "  IA32_FS_BASE");
    is(seen[21], 0xffff800000001000, "  IA32_GS_BASE");

    /* And the host's state is back. */
    is(rdmsr(IA32_PAT), pat, "after the exit: IA32_PAT");
    is(rdmsr(IA32_EFER), efer, "  IA32_EFER");
    is(rdmsr(IA32_SYSENTER_CS), vmread(HOST_IA32_SYSENTER_CS), "  IA32_SYSENTER_CS");
    is(rdmsr(IA32_FS_BASE), vmread(HOST_FS_BASE), "  IA32_FS_BASE");
    is(read_dr7(), 0x400, "  DR7 is 400h");
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) table;
    asm volatile("sgdt %0" : "=m"(table));
    is(table.limit, 0xffff, "  GDTR limit is FFFFh");
    is(table.base, (uint64_t)rt_gdt, "  GDTR base");
    asm volatile("sidt %0" : "=m"(table));
    is(table.limit, 0xffff, "  IDTR limit is FFFFh");
    uint16_t ldtr, tr;
    asm volatile("sldt %0; str %1" : "=m"(ldtr), "=m"(tr));
    is(ldtr, 0, "  LDTR");
    is(tr, SEL_TSS, "  TR");
}

/* Unusable segments: what is defined of them goes in and comes out; of the bases of SS, DS and ES the high
   halves are 0 (SDM 29.3.2.2, 30.3.2). */
CODE(g_nothing, "nop");

static void unusable_segments(void)
{
    static const struct {
        unsigned segment;
        uint64_t kept; /* of the base */
        const char *name;
    } rows[] = {{0, 0, "ES"}, {2, 0, "SS"}, {3, 0, "DS"}, {4, ~0ul, "FS"}, {5, ~0ul, "GS"}};
    const uint64_t base = 0x123456789abc;
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t n = 2 * rows[i].segment;
        start(g_nothing);
        vmwrite(GUEST_ES_SELECTOR + n, 0x1238);
        vmwrite(GUEST_ES_BASE + n, base);
        vmwrite(GUEST_ES_ACCESS_RIGHTS + n, AR_UNUSABLE);
        done(&v, "a guest with an unusable segment");
        uint64_t got = vmread(GUEST_ES_BASE + n), rights = vmread(GUEST_ES_ACCESS_RIGHTS + n);
        if (!ok(rows[i].kept ? got == base : !(got >> 32), "  %s: the base", rows[i].name))
            tap_note("  base %lx", got);
        ok(vmread(GUEST_ES_SELECTOR + n) == 0x1238 && (rights & AR_UNUSABLE) && !(rights & 0xfffe0f00),
           "  %s: the selector, unusable, no reserved bits", rows[i].name);
    }
}

/* ---- what exit saves ---- */

CODE(g_segments,
     "xor %eax, %eax; mov %eax, %es; mov $0x5b, %eax; mov %eax, %fs; mov $0x10, %eax; mov %eax, %gs; "
     "lgdt (%rdi); lidt 16(%rdi); std; stc");
CODE(g_registers,
     "mov $0x11, %eax; mov $0x22, %ecx; mov $0x33, %edx; mov $0x44, %ebx; mov $0x55, %ebp; mov $0x66, %esi; "
     "mov $0x77, %edi; mov $8, %r8d; mov $9, %r9d; mov $10, %r10d; mov $11, %r11d; mov $12, %r12d; "
     "mov $13, %r13d; mov $14, %r14d; mov $15, %r15d");
CODE(g_msrs,
     "mov $0x174, %ecx; mov $0x99, %eax; xor %edx, %edx; wrmsr; mov $0x175, %ecx; mov $0xaa, %eax; wrmsr; "
     "mov $0xc0000101, %ecx; mov $0x12345678, %eax; mov $0xffff8000, %edx; wrmsr; "
     "mov $0xc0000080, %ecx; rdmsr; or $1, %eax; wrmsr; mov $0x501, %eax; mov %rax, %dr7");
CODE(g_sti, "sti");
CODE(g_mov_ss, "mov %ss, %eax; mov %eax, %ss");
CODE(g_cr, "mov %cr4, %rax; or $4, %rax; mov %rax, %cr4; mov %cr0, %rax; or $0x40000, %rax; mov %rax, %cr0; "
           "mov %cr3, %rax; or $8, %rax; mov %rax, %cr3; mov $0x1234, %eax; mov %rax, %cr2; mov $3, %eax; "
           "mov %rax, %dr0");

static void exit_saves(void)
{
    start(g_registers);
    done(&v, "a guest that sets all registers");
    static const uint64_t want[16] = {0x11, 0x22, 0x33, 0x44, 0,  0x55, 0x66, 0x77,
                                      8,    9,    10,   11,   12, 13,   14,   15};
    bool same = true;
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP) same &= v.regs.gpr[i] == want[i];
    ok(same, "  the exit leaves them alone");

    start(g_segments);
    rt_gdt[SEL_SPARE / 8] = 0xffffull | 0x1234ull << 16 | 0xf3ull << 40 | 0x40ull << 48;
    *(uint16_t *)seen = 0x77f;
    *(uint64_t *)((uint8_t *)seen + 2) = (uint64_t)rt_gdt;
    *(uint16_t *)((uint8_t *)seen + 16) = 0x1ff;
    *(uint64_t *)((uint8_t *)seen + 18) = 0x1000;
    done(&v, "a guest that loads segments");
    ok(vmread(GUEST_ES_ACCESS_RIGHTS) & AR_UNUSABLE, "  a NULL selector is saved as unusable");
    is(vmread(GUEST_ES_SELECTOR), 0, "  with its selector");
    is(vmread(GUEST_FS_SELECTOR), SEL_SPARE | 3, "  FS selector");
    is(vmread(GUEST_FS_BASE), 0x1234, "  FS base");
    is(vmread(GUEST_FS_LIMIT), 0xffff, "  FS limit");
    is(vmread(GUEST_FS_ACCESS_RIGHTS), 0x40f3, "  FS access rights");
    is(vmread(GUEST_GS_LIMIT), 0xffffffff, "  GS limit, with its granularity applied");
    is(vmread(GUEST_GS_ACCESS_RIGHTS), 0xc093, "  GS access rights");
    is(vmread(GUEST_CS_ACCESS_RIGHTS), 0xa09b, "  CS access rights");
    is(vmread(GUEST_GDTR_LIMIT), 0x77f, "  GDTR limit");
    is(vmread(GUEST_IDTR_LIMIT), 0x1ff, "  IDTR limit");
    is(vmread(GUEST_IDTR_BASE), 0x1000, "  IDTR base");
    is(vmread(GUEST_RFLAGS) & ~(uint64_t)(RFLAGS_ZF | RFLAGS_PF), RFLAGS_FIXED | RFLAGS_CF | RFLAGS_DF,
       "  RFLAGS");

    if (vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        start(g_msrs);
        vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_DEBUG_CONTROLS);
        uint64_t efer = rdmsr(IA32_EFER);
        done(&v, "a guest that writes MSRs");
        is(vmread(GUEST_IA32_SYSENTER_CS), 0x99, "  IA32_SYSENTER_CS");
        is(vmread(GUEST_IA32_SYSENTER_ESP), 0xaa, "  IA32_SYSENTER_ESP");
        is(vmread(GUEST_GS_BASE), 0xffff800012345678, "  GS base");
        if (vmread(PRIMARY_VM_EXIT_CONTROLS) & EXIT_SAVE_IA32_EFER)
            is(vmread(GUEST_IA32_EFER), efer | EFER_SCE, "  IA32_EFER");
        else
            skip(1, "no save IA32_EFER");
        is(vmread(GUEST_DR7), 0x501, "  DR7");
        uint64_t pat = rdmsr(IA32_PAT);
        for (unsigned save = 0; save < 2; save++) {
            if (!vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_IA32_PAT) ||
                !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_LOAD_IA32_PAT)) {
                skip(2, "no save IA32_PAT");
                continue;
            }
            start(g_pat);
            vmwrite(GUEST_IA32_PAT, 0x0101010101010101);
            vmwrite(HOST_IA32_PAT, pat);
            vmwrite(PRIMARY_VM_EXIT_CONTROLS,
                    vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_LOAD_IA32_PAT | (save ? EXIT_SAVE_IA32_PAT : 0));
            done(&v, save ? "a guest that writes IA32_PAT, with save IA32_PAT" : "  and without");
            is(vmread(GUEST_IA32_PAT), save ? 0x0004000600010007 : 0x0101010101010101, "  the field");
        }
    } else {
        skip(10, "no MSR bitmaps");
    }

    start(g_sti);
    done(&v, "an exit behind STI");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_STI, "  saves blocking by STI");
    start(g_mov_ss);
    done(&v, "an exit behind MOV SS");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_MOV_SS, "  saves blocking by MOV SS");

    uint64_t cr0 = read_cr0(), cr3 = read_cr3(), cr4 = read_cr4();
    start(g_cr);
    vmx_clear_proc(PROC_MOV_DR_EXITING);
    done(&v, "a guest that writes control registers");
    is(vmread(GUEST_CR0), cr0 | CR0_AM, "  CR0");
    is(vmread(GUEST_CR3), cr3 | 8, "  CR3");
    is(vmread(GUEST_CR4), cr4 | CR4_TSD, "  CR4");
    is(read_cr0(), cr0, "after the exit: CR0");
    is(read_cr3(), cr3, "  CR3");
    is(read_cr4(), cr4, "  CR4");
    is(read_cr2(), 0x1234, "  CR2 is the guest's: no field holds it");
    is(read_dr0(), 3, "  so is DR0");
    write_dr0(0);
}

/* Load PKRS, of entry and of exit, off and on. The exit always saves it (28.3.1). */
static void pkrs(void)
{
    if (!vmx_allowed(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_PKRS) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_LOAD_PKRS) ||
        !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        skip(16, "no load PKRS");
        return;
    }
    for (unsigned i = 0; i < 4; i++) {
        bool entry = i & 1, exit = i & 2;
        start(g_pkrs);
        wrmsr(IA32_PKRS, 0x11111110);
        vmwrite(GUEST_IA32_PKRS, 0x22222220);
        vmwrite(HOST_IA32_PKRS, 0x33333330);
        if (entry) vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_PKRS);
        if (exit) vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_LOAD_PKRS);
        done(&v, entry  ? exit ? "load PKRS at entry and exit" : "load PKRS at entry"
                 : exit ? "load PKRS at exit"
                        : "no load PKRS");
        is(seen[0], entry ? 0x22222220 : 0x11111110, "  IA32_PKRS in the guest");
        is(vmread(GUEST_IA32_PKRS), 0x44444444, "  what the guest wrote is saved");
        is(rdmsr(IA32_PKRS), exit ? 0x33333330 : 0x44444444, "  IA32_PKRS of the host");
    }
    wrmsr(IA32_PKRS, 0);
}

/* ---- from real mode to 64-bit mode inside a guest ---- */

/* Runs at 8000h. Tables by the host: GDT at 9000h, PML4 at A000h. */
asm(".pushsection .text; .balign 16; climb: .code16; cpuid; lgdt climb_gdtr - climb + 0x8000; mov %cr0, "
    "%eax; or $1, %eax; "
    "mov %eax, %cr0; ljmpl $0x18, $(climb32 - climb + 0x8000); climb32: .code32; mov $0x10, %eax; mov %eax, "
    "%ds; "
    "mov %eax, %es; mov %eax, %ss; cpuid; mov %cr4, %eax; or $0x20, %eax; mov %eax, %cr4; mov $0xa000, %eax; "
    "mov %eax, %cr3; mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr; mov %cr0, %eax; or $0x80000000, "
    "%eax; "
    "mov %eax, %cr0; cpuid; ljmp $8, $(climb64 - climb + 0x8000); climb64: .code64; cpuid; mov "
    "$0x123456789a, %rax; "
    "vmcall; climb_gdtr: .word 0x1f; .long 0x9000; climb_end: .popsection");
extern const uint8_t climb[], climb32[], climb64[], climb_end[];

static void stop(const char *where, uint64_t cr0_bits, uint64_t lma, uint64_t cs_rights)
{
    exit_is(&v, EXIT_REASON_CPUID, where);
    uint64_t cr0 = vmread(GUEST_CR0), entry = vmread(VM_ENTRY_CONTROLS);
    is(cr0 & (CR0_PE | CR0_PG), cr0_bits, "  CR0.PE and PG");
    is(entry & ENTRY_IA_32E_MODE_GUEST, lma ? ENTRY_IA_32E_MODE_GUEST : 0,
       "  \"IA-32e mode guest\" follows EFER.LMA");
    is(vmread(GUEST_IA32_EFER) & (EFER_LMA | EFER_LME), lma, "  EFER.LMA and LME");
    is(vmread(GUEST_CS_ACCESS_RIGHTS), cs_rights, "  CS access rights");
    vmx_skip_instruction();
}

static void climbing(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_IA32_EFER) ||
        !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        skip(22, "no unrestricted guest");
        return;
    }
    memcpy((void *)0x9000, rt_gdt, 32);
    memset((void *)0xa000, 0, 0x3000);
    volatile uint64_t *tables = (volatile uint64_t *)0xa000;
    tables[0] = 0xb000 | PTE_P | PTE_W;
    tables[512] = 0xc000 | PTE_P | PTE_W;
    tables[1024] = PTE_P | PTE_W | PTE_PS;
    guest_init_ept(&v, climb);
    guest_real_mode(&v, climb, (size_t)(climb_end - climb));
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)no_exits);
    stop("real mode", 0, 0, 0x9b);
    is(vmread(GUEST_CS_BASE), 0, "  CS base");
    stop("32-bit protected mode", CR0_PE, 0, 0xc09b);
    is(vmread(GUEST_CS_SELECTOR), 0x18, "  CS");
    stop("compatibility mode", CR0_PE | CR0_PG, EFER_LMA | EFER_LME, 0xc09b);
    stop("64-bit mode", CR0_PE | CR0_PG, EFER_LMA | EFER_LME, 0xa09b);
    done(&v, "and the end");
    is(v.regs.gpr[RAX], 0x123456789a, "  with a 64-bit register");
}

int rom_main(void)
{
    if (!vmx_test_begin("what VM entries load and VM exits save")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    seen = page_alloc(1);
    entry_loads();
    unusable_segments();
    exit_saves();
    pkrs();
    climbing();
    return tap_end();
}

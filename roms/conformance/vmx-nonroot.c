/*
 * Instructions that do something else in VMX non-root operation, and the faults that come before their exits
 * (SDM 28.1.1, 28.1.3, 28.3): LMSW, SMSW and MOV to control registers under masks and shadows, MOV CR8 with
 * and without a TPR shadow, what is #UD until a control enables it, string I/O, MOV DR.
 *
 * The same in other modes: vmx-nonroot-modes.c. Exits by each control: vmx-exits.c.
 */
#include "vmx-common.h"

#define CODE(name, bits, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": .code" #bits "; " before "; " #name "_at: " instruction \
        "; " #name "_end: vmcall; .code64; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

#define HARDWARE(v) (EVENT_VALID | EVENT_HARDWARE_EXCEPTION | (v))
#define GP          (HARDWARE(VECTOR_GP) | EVENT_ERROR_CODE)
#define EDGE        0x6100000000ul
#define NOWHERE     0x5000000000ul /* a linear address that is not mapped */

static struct vmx_vcpu v;
static uint64_t *scratch;

static void start(const void *code)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)scratch;
}

/* An exit by this exception with an error code of 0 if it has one, at `at`. */
static void fault_is(uint32_t event, const uint8_t *at, const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t got = vmread(EXITING_EVENT_IDENTIFICATION), error = vmread(EXITING_EVENT_ERROR_CODE);
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EXCEPTION_OR_NMI && got == event &&
                (!(event & EVENT_ERROR_CODE) || error == 0) && vmread(GUEST_RIP) == (uint64_t)at,
            "%s", name))
        tap_note("  status %d, reason %u, event %lx (want %x), error code %lx, rip off by %ld", (int)e.status,
                 e.reason, got, event, error, (int64_t)(vmread(GUEST_RIP) - (uint64_t)at));
}

/* ---- LMSW and SMSW ---- */

CODE(n_lmsw, 64, "", "lmsw %si");
CODE(n_smsw16, 64, "", "smsw %si");
CODE(n_smsw32, 64, "", "smsw %esi");
CODE(n_smsw64, 64, "", "smsw %rsi");
CODE(n_smsw_memory, 64, "", "smsw (%rdi)");

/* Every mask, shadow and source of CR0's low four bits. */
static void lmsw(void)
{
    unsigned exits = 0, exits_wrong = 0, written = 0, written_wrong = 0;
    start(n_lmsw);
    uint64_t cr0 = vmread(GUEST_CR0), rsp = vmread(GUEST_RSP);
    for (unsigned i = 0; i < 4096; i++) {
        uint64_t mask = i & 15, shadow = i >> 4 & 15, source = i >> 8, before = cr0 & ~0xeul;
        if (i & 0x222) before |= 0xa; /* MP and TS */
        vmwrite(GUEST_RIP, (uint64_t)n_lmsw), vmwrite(GUEST_RSP, rsp), vmwrite(GUEST_CR0, before);
        vmwrite(CR0_GUEST_HOST_MASK, mask), vmwrite(CR0_READ_SHADOW, shadow);
        v.regs.gpr[RSI] = 0xfff0 | source;
        struct vmx_exit e = vmx_run(&v);
        if ((mask & source & ~shadow & 1) || (mask & (source ^ shadow) & 0xe)) {
            exits++;
            exits_wrong += e.reason != EXIT_REASON_CONTROL_REGISTER_ACCESS ||
                           e.qualification != ((0xfff0 | source) << 16 | 3 << 4) ||
                           vmread(GUEST_CR0) != before;
        } else {
            uint64_t owned = 0xe & ~mask, want = (before & ~owned) | (source & owned) | (source & ~mask & 1);
            written++;
            written_wrong += e.reason != EXIT_REASON_VMCALL || vmread(GUEST_CR0) != want;
        }
    }
    is(exits_wrong, 0, "SDM 28.1.3: LMSW exits for a PE that it would set and for other bits that differ");
    is(written_wrong, 0, "SDM 28.3: all other LMSW write what the guest owns, and leave PE set");
    ok(exits > 1000 && written > 500, "  of every mask, shadow and source");
}

static void smsw(void)
{
    const uint64_t mask = CR0_MP | CR0_NE | CR0_AM | CR0_PG, shadow = CR0_MP | CR0_AM;
    static const struct {
        const void *code;
        const char *name;
        uint64_t width;
    } forms[] = {{n_smsw16, "SDM 28.3: SMSW with 16 bits reads the shadow under the mask", 0xffff},
                 {n_smsw32, "  with 32 bits", ~0ul},
                 {n_smsw64, "  with 64 bits", ~0ul}};
    for (unsigned i = 0; i < 3; i++) {
        start(forms[i].code);
        v.regs.gpr[RSI] = 0x1122334455667788;
        uint64_t want = (vmread(GUEST_CR0) & ~mask) | (shadow & mask);
        vmwrite(CR0_GUEST_HOST_MASK, mask), vmwrite(CR0_READ_SHADOW, shadow);
        vmx_run(&v);
        is(v.regs.gpr[RSI], (0x1122334455667788 & ~forms[i].width) | (want & forms[i].width), "%s",
           forms[i].name);
    }
    start(n_smsw_memory);
    *scratch = 0x1122334455667788;
    uint64_t want = (vmread(GUEST_CR0) & ~mask) | (shadow & mask);
    vmwrite(CR0_GUEST_HOST_MASK, mask), vmwrite(CR0_READ_SHADOW, shadow);
    vmx_run(&v);
    is(*scratch, 0x1122334455660000 | (want & 0xffff), "  into memory, of which it writes two bytes");
}

/* ---- MOV to control registers ---- */

CODE(n_to_cr0, 64, "", "mov %rsi, %cr0");
CODE(n_to_cr0_32, 32, "", "mov %esi, %cr0");
CODE(n_to_cr3, 64, "", "mov %rsi, %cr3");
CODE(n_to_cr4, 64, "", "mov %rsi, %cr4");
CODE(n_to_cr8, 64, "", "mov %rsi, %cr8");
CODE(n_from_cr8, 64, "", "mov %cr8, %rsi");

static void cr0(void)
{
    start(n_to_cr0);
    uint64_t own = vmread(GUEST_CR0);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS | CR0_NE), vmwrite(CR0_READ_SHADOW, CR0_TS);
    v.regs.gpr[RSI] = (own & ~(uint64_t)CR0_NE) | CR0_TS | CR0_MP | CR0_AM;
    done(&v, "SDM 28.3: MOV to CR0 of the shadow's value runs");
    is(vmread(GUEST_CR0), own | CR0_MP | CR0_AM, "  writes the guest's bits and leaves the host's, NE too");
    static const struct {
        const char *name;
        uint64_t clear, set;
    } rows[] = {{"SDM 28.3: MOV to CR0 that clears NE: #GP", CR0_NE, 0},
                {"  that clears PG, without unrestricted guest", CR0_PG, 0},
                {"  that clears PG and PE", CR0_PG | CR0_PE, 0},
                {"  that sets NW without CD", CR0_CD, CR0_NW},
                {"  that sets bit 32", 0, 1ul << 32}};
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        start(n_to_cr0);
        v.regs.gpr[RSI] = (own & ~rows[i].clear) | rows[i].set;
        fault_is(GP, n_to_cr0_at, rows[i].name);
    }
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        skip(5, "no unrestricted guest");
        return;
    }
    static const struct {
        const char *name;
        uint64_t clear, set, efer;
        bool runs;
    } unrestricted[] = {
        {"SDM 28.3: with unrestricted guest PE can be cleared", CR0_PE, 0, 0, true},
        {"  PG=1 with PE=0: #GP", CR0_PE, CR0_PG, 0, false},
        {"  NE=0: #GP", CR0_NE, 0, 0, false},
        {"  PG=1 with PAE=0 and EFER.LME=1: #GP", 0, CR0_PG, EFER_LME, false},
    };
    for (unsigned i = 0; i < sizeof(unrestricted) / sizeof(unrestricted[0]); i++) {
        guest_init_ept(&v, n_to_cr0_32);
        vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
        vmx_guest_protected_mode();
        vmwrite(GUEST_CR4, vmread(GUEST_CR4) & ~(uint64_t)CR4_PAE);
        vmwrite(GUEST_IA32_EFER, unrestricted[i].efer);
        uint64_t before = vmread(GUEST_CR0);
        v.regs.gpr[RSI] = (before & ~unrestricted[i].clear) | unrestricted[i].set;
        if (unrestricted[i].runs) {
            done(&v, unrestricted[i].name);
            is(vmread(GUEST_CR0), before & ~(uint64_t)CR0_PE, "  and is");
        } else {
            fault_is(GP, n_to_cr0_32_at, unrestricted[i].name);
        }
    }
}

static void cr3(void)
{
    uint64_t own = read_cr3(), beyond = 1ul << maxphyaddr();
    if (rdmsr(IA32_VMX_MISC) >> 16 & 0x1ff) {
        start(n_to_cr3);
        vmx_set_proc(PROC_CR3_LOAD_EXITING);
        vmwrite(CR3_TARGET_COUNT, 1), vmwrite(CR3_TARGET_VALUE_0, own | 1ul << 32);
        v.regs.gpr[RSI] = own;
        struct vmx_exit e = exit_is(&v, EXIT_REASON_CONTROL_REGISTER_ACCESS,
                                    "SDM 28.1.3: a CR3-target value is compared with 64 bits");
        is(e.qualification, RSI << 8 | 3, "  the qualification");
    } else {
        skip(2, "no CR3 targets");
    }
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) {
        skip(3, "no EPT");
        return;
    }
    if (maxphyaddr() < 52) {
        guest_init_ept(&v, n_to_cr3);
        vmx_clear_proc(PROC_CR3_LOAD_EXITING);
        v.regs.gpr[RSI] = own | beyond;
        fault_is(GP, n_to_cr3_at, "SDM 28.3: with EPT, MOV to CR3 of a reserved bit: #GP");
    } else {
        skip(1, "52 physical-address bits");
    }
    guest_init_ept(&v, n_to_cr3);
    vmx_clear_proc(PROC_CR3_LOAD_EXITING);
    v.regs.gpr[RSI] = 0x7ffff000; /* which EPT does not map */
    struct vmx_exit e = exit_is(&v, EXIT_REASON_EPT_VIOLATION, "SDM 28.3: MOV to CR3 translates nothing");
    ok(vmread(GUEST_RIP) == (uint64_t)n_to_cr3_end && (e.qualification & 0x181) == 0x81 &&
           vmread(GUEST_PHYSICAL_ADDRESS) >> 12 == 0x7ffff,
       "  the next fetch does");
}

/* PAE paging behind EPT: MOV to CR3 reads the PDPTEs, and nothing else. */
CODE(n_pae_to_cr3, 32, "", "mov %esi, %cr3");

static uint64_t pae_guest(uint64_t *pdpt)
{
    uint64_t pd = (uint64_t)(scratch + 512);
    for (unsigned i = 0; i < 8; i++) ((uint64_t *)pd)[i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    memset(pdpt, 0, 4096);
    pdpt[0] = pd | PTE_P;
    guest_init_ept(&v, n_pae_to_cr3);
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_protected_mode();
    vmx_clear_proc(PROC_CR3_LOAD_EXITING);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PG), vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PAE);
    vmwrite(GUEST_CR3, (uint64_t)pdpt);
    vmwrite(GUEST_PDPTE0, pd | PTE_P);
    vmwrite(GUEST_PDPTE1, 0), vmwrite(GUEST_PDPTE2, 0), vmwrite(GUEST_PDPTE3, 0);
    v.regs.gpr[RSI] = (uint64_t)pdpt + 0x20;
    memcpy(pdpt + 4, pdpt, 32);
    return pd;
}

static void pae(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        skip(9, "no unrestricted guest");
        return;
    }
    uint64_t *pdpt = page_alloc(1), pd = pae_guest(pdpt);
    pdpt[5] = 0x7ffff000 | PTE_P;
    done(&v, "SDM 28.3: PAE paging: MOV to CR3 does not translate what the PDPTEs hold");
    ok(vmread(GUEST_PDPTE0) == (pd | PTE_P) && vmread(GUEST_PDPTE1) == (0x7ffff000 | PTE_P) &&
           vmread(GUEST_PDPTE2) == 0,
       "  it loads them");
    pae_guest(pdpt);
    pdpt[6] = pd | PTE_P | PTE_W;
    fault_is(GP, n_pae_to_cr3_at, "  a reserved bit of a PDPTE is #GP");
    pae_guest(pdpt);
    *ept_entry(v.ept, (uint64_t)pdpt, 1) = 0;
    struct vmx_exit e = exit_is(&v, EXIT_REASON_EPT_VIOLATION, "  that EPT does not let read exit");
    is(e.qualification & 0x1bf, 1, "  SDM 30.2.1: a read, without a linear address");
    is(vmread(GUEST_PHYSICAL_ADDRESS) >> 5, (uint64_t)pdpt / 32 + 1, "  the guest-physical address");
    is(vmread(GUEST_RIP), (uint64_t)n_pae_to_cr3_at, "  RIP is at the instruction");
    is(vmread(GUEST_CR3), (uint64_t)pdpt, "  and CR3 as it was");
    *ept_entry(v.ept, (uint64_t)pdpt, 1) = (uint64_t)pdpt | EPT_TYPE_WB | EPT_RWX;
    done(&v, "  with the entry mended it runs");
}

static void cr4(void)
{
    start(n_to_cr4);
    uint64_t own = vmread(GUEST_CR4);
    v.regs.gpr[RSI] = own & ~(uint64_t)CR4_VMXE;
    fault_is(GP, n_to_cr4_at, "SDM 28.3: MOV to CR4 that clears VMXE: #GP");
    start(n_to_cr4);
    v.regs.gpr[RSI] = own | 1ul << 31;
    fault_is(GP, n_to_cr4_at, "  that sets a reserved bit");
    start(n_to_cr4);
    vmwrite(CR4_GUEST_HOST_MASK, CR4_VMXE | CR4_TSD), vmwrite(CR4_READ_SHADOW, CR4_TSD);
    v.regs.gpr[RSI] = (own & ~(uint64_t)CR4_VMXE) | CR4_TSD | CR4_DE;
    done(&v, "SDM 28.3: MOV to CR4 of the shadow's value runs");
    is(vmread(GUEST_CR4), own | CR4_DE, "  writes the guest's bits and leaves the host's, VMXE too");
}

static void cr8(void)
{
    uint64_t ours = read_cr8();
    start(n_to_cr8);
    v.regs.gpr[RSI] = 5;
    done(&v, "SDM 28.3: MOV to CR8 without a TPR shadow");
    is(read_cr8(), 5, "  writes the processor's own TPR");
    start(n_from_cr8);
    write_cr8(9);
    done(&v, "  MOV from CR8");
    is(v.regs.gpr[RSI], 9, "  reads it");
    write_cr8(ours);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) {
        skip(5, "no TPR shadow");
        return;
    }
    uint8_t *page = (uint8_t *)page_alloc(1);
    uint32_t *vtpr = (uint32_t *)(page + 0x80);
    for (unsigned bit = 4; bit < 64; bit += 59) {
        start(n_to_cr8);
        vmx_set_proc(PROC_USE_TPR_SHADOW);
        vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)page), vmwrite(TPR_THRESHOLD, 0);
        *vtpr = 0x12345678;
        v.regs.gpr[RSI] = 1ul << bit | 3;
        fault_is(GP, n_to_cr8_at, "SDM 28.3: MOV to CR8 of a reserved bit under a TPR shadow: #GP");
        is(*vtpr, 0x12345678, "  VTPR is left alone");
    }
    start(n_to_cr8);
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)page), vmwrite(TPR_THRESHOLD, 0);
    v.regs.gpr[RSI] = 9;
    vmx_run(&v);
    is(*vtpr, 0x90, "SDM 28.3: MOV to CR8 writes VTPR[7:4] and clears the rest");
}

/* ---- what comes first ---- */

CODE(n_lock_cpuid, 64, "", ".byte 0xf0; cpuid");
CODE(n_lmsw_nowhere, 64, "", "lmsw (%rdi)");
CODE(n_outs, 64, "mov $0x3f8, %edx", "outsb");
CODE(n_ins, 64, "mov $0x3f8, %edx", "insb");
CODE(n_outs_32, 32, "mov $0x3f8, %edx", "outsb");
CODE(n_ins_32, 32, "mov $0x3f8, %edx", "insb");
CODE(n_to_dr6, 64, "", "mov %rsi, %db6");

static void string_exits(uint64_t qualification, const uint8_t *at, const char *name)
{
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_IO_INSTRUCTION, name);
    ok(e.qualification == qualification && vmread(GUEST_RIP) == (uint64_t)at, "  as ever");
}

static void order(void)
{
    const uint64_t out = 0x3f8u << 16 | 1u << 4, in = out | 1u << 3;
    start(n_lock_cpuid);
    fault_is(HARDWARE(VECTOR_UD), n_lock_cpuid_at, "SDM 28.1.1: LOCK CPUID is #UD before it exits");
    uint8_t *edge = page_alloc(1); /* LOCK and half an opcode, and no page behind them */
    edge[0xffe] = 0xf0, edge[0xfff] = 0x0f;
    paging_map(EDGE, (uint64_t)edge, PTE_P | PTE_W);
    start((const void *)(EDGE + 0xffe));
    struct vmx_exit f =
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI,
                "SDM table 7-2: a fault on fetching an instruction comes before those of decoding it");
    ok(vmread(EXITING_EVENT_IDENTIFICATION) == (HARDWARE(VECTOR_PF) | EVENT_ERROR_CODE) &&
           f.qualification == EDGE + 0x1000 && vmread(GUEST_RIP) == EDGE + 0xffe,
       "  a page fault at the next page");
    start(n_lmsw_nowhere);
    v.regs.gpr[RDI] = NOWHERE;
    vmwrite(CR0_GUEST_HOST_MASK, 0xe), vmwrite(CR0_READ_SHADOW, 0xe);
    fault_is(HARDWARE(VECTOR_PF) | EVENT_ERROR_CODE, n_lmsw_nowhere_at,
             "SDM 28.1.1: LMSW faults on its operand before it can exit");
    start(n_outs);
    v.regs.gpr[RSI] = NOWHERE;
    string_exits(out, n_outs_at, "SDM 28.1.1: OUTS exits before a page fault");
    is(vmread(GUEST_LINEAR_ADDRESS), NOWHERE, "  with the guest-linear address");
    start(n_ins);
    v.regs.gpr[RDI] = NOWHERE;
    string_exits(in, n_ins_at, "SDM 28.1.1: INS exits before a page fault");
    if (vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        for (unsigned i = 0; i < 4; i++) {
            static const char *const names[] = {"SDM 28.1.1: OUTS exits before #GP of an unusable DS",
                                                "SDM 28.1.1: OUTS exits before #GP of DS's limit",
                                                "SDM 28.1.1: INS exits before #GP of an unusable ES",
                                                "SDM 28.1.1: INS exits before #GP of ES's limit"};
            bool ins = i >= 2;
            guest_init_ept(&v, ins ? n_ins_32 : n_outs_32);
            vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
            vmx_guest_protected_mode();
            v.regs.gpr[RSI] = v.regs.gpr[RDI] = 0x10000;
            if (i & 1)
                vmwrite(ins ? GUEST_ES_LIMIT : GUEST_DS_LIMIT, 0xfff),
                    vmwrite(ins ? GUEST_ES_ACCESS_RIGHTS : GUEST_DS_ACCESS_RIGHTS, 0x4093);
            else
                vmwrite(ins ? GUEST_ES_ACCESS_RIGHTS : GUEST_DS_ACCESS_RIGHTS, AR_UNUSABLE);
            string_exits(ins ? in : out, ins ? n_ins_32_at : n_outs_32_at, names[i]);
        }
    } else {
        skip(8, "no unrestricted guest");
    }
    start(n_to_dr6);
    vmx_set_proc(PROC_MOV_DR_EXITING);
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    vmwrite(GUEST_DR7, 0x2400);
    struct vmx_exit e =
        exit_is(&v, EXIT_REASON_MOV_DR, "SDM 28.1.3: MOV to DR6 exits before DR7.GD is looked at");
    is(e.qualification, RSI << 8 | 6, "  the qualification");
    start(n_to_dr6);
    vmwrite(VM_ENTRY_CONTROLS, vmread(VM_ENTRY_CONTROLS) | ENTRY_LOAD_DEBUG_CONTROLS);
    vmwrite(GUEST_DR7, 0x2400);
    fault_is(HARDWARE(VECTOR_DB), n_to_dr6_at, "  and is #DB without the control");
}

/* ---- enabled by a control ---- */

CODE(n_rdpid, 64, "", ".byte 0xf3, 0x0f, 0xc7, 0xf8");
CODE(n_rdtscp, 64, "", "rdtscp");
CODE(n_umonitor, 64, "", ".byte 0xf3, 0x0f, 0xae, 0xf7");
CODE(n_umwait, 64, "", ".byte 0xf2, 0x0f, 0xae, 0xf6");
CODE(n_update, 64, "mov $0x79, %ecx; mov %edi, %eax; xor %edx, %edx", "wrmsr");
CODE(n_wbnoinvd, 64, "", ".byte 0xf3, 0x0f, 0x09");
CODE(n_mwait, 64, "mov %rdi, %rax; xor %ecx, %ecx; xor %edx, %edx; monitor; xor %eax, %eax; mov $1, %ecx",
     "mwait");

static void enabled(void)
{
    if (vmx_has_secondary(PROC2_ENABLE_RDTSCP) && (cpuid_if_present(7, 0).ecx & 1u << 22)) {
        start(n_rdpid);
        fault_is(HARDWARE(VECTOR_UD), n_rdpid_at, "SDM 28.3: RDPID without enable RDTSCP: #UD");
        start(n_rdpid);
        vmx_set_proc2(PROC2_ENABLE_RDTSCP), vmx_set_proc(PROC_RDTSC_EXITING);
        wrmsr(IA32_TSC_AUX, 0x87654321);
        done(&v, "  with it, it never exits");
        is(v.regs.gpr[RAX], 0x87654321, "  and reads IA32_TSC_AUX");
    } else {
        skip(3, "no RDPID");
    }
    if (vmx_has_secondary(PROC2_ENABLE_RDTSCP)) {
        start(n_rdtscp);
        vmx_set_proc2(PROC2_ENABLE_RDTSCP);
        wrmsr(IA32_TSC_AUX, 0x87654321);
        v.regs.gpr[RCX] = ~0ul;
        done(&v, "SDM 28.3: RDTSCP");
        is(v.regs.gpr[RCX], 0x87654321, "  reads IA32_TSC_AUX into ECX");
    } else {
        skip(2, "no enable RDTSCP");
    }
    if (vmx_has_secondary(PROC2_ENABLE_USER_WAIT_AND_PAUSE) && (cpuid_if_present(7, 0).ecx & 1u << 5)) {
        start(n_umonitor);
        fault_is(HARDWARE(VECTOR_UD), n_umonitor_at,
                 "SDM 28.3: UMONITOR without enable user wait and pause: #UD");
        start(n_umonitor);
        vmx_set_proc2(PROC2_ENABLE_USER_WAIT_AND_PAUSE);
        done(&v, "  with it, it runs");
        start(n_umwait);
        vmx_set_proc(PROC_RDTSC_EXITING);
        fault_is(HARDWARE(VECTOR_UD), n_umwait_at, "  UMWAIT without it: #UD, whatever RDTSC exiting says");
    } else {
        skip(3, "no user wait and pause");
    }
    if (vmx_has_secondary(PROC2_WBINVD_EXITING) && cpuid(0x80000000, 0).eax >= 0x80000008 &&
        (cpuid(0x80000008, 0).ebx & 1u << 9)) {
        start(n_wbnoinvd);
        vmx_set_proc2(PROC2_WBINVD_EXITING);
        struct vmx_exit e = exit_is(&v, EXIT_REASON_WBINVD, "SDM 30.2.1: WBNOINVD exits as WBINVD");
        is(e.qualification, 1, "  with qualification 1");
    } else {
        skip(2, "no WBNOINVD");
    }
    if (vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        static uint8_t no_exits[4096] __attribute__((aligned(4096)));
        start(n_update);
        vmx_set_proc(PROC_USE_MSR_BITMAPS);
        vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)no_exits);
        done(&v, "SDM 28.3: WRMSR to IA32_BIOS_UPDT_TRIG that does not exit completes, and loads nothing");
    } else {
        skip(1, "no MSR bitmaps");
    }
    if ((cpuid(1, 0).ecx & 1u << 3) && (cpuid(5, 0).ecx & 2)) {
        start(n_mwait);
        vmx_clear_proc(PROC_MWAIT_EXITING | PROC_MONITOR_EXITING);
        vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
        done(&v, "SDM 28.3: MWAIT with ECX[0]=1, IF=0 and interrupt-window exiting does not wait");
    } else {
        skip(1, "no MWAIT that interrupts end");
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("what instructions do in non-root operation, and what comes before an exit"))
        return 0;
    if (!vmx_on()) panic("VMXON failed");
    scratch = page_alloc(2);
    lmsw();
    smsw();
    cr0();
    cr3();
    pae();
    cr4();
    cr8();
    order();
    enabled();
    return tap_end();
}

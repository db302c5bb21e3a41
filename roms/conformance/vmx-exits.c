/*
 * VM exits by instructions (SDM 26.1, 28.2): which control makes which instruction exit, the exit reason, the
 * qualification, the instruction's length and information, where RIP stands; and that the same instruction
 * does not exit with the control off.
 *
 * Bochs 2.7 passes all of it.
 *
 * Missing: task switches, SGX, PCONFIG, UMWAIT, exits in 16- and 32-bit guests.
 */
#include "vmx-common.h"

/* A guest program: some preparation, then the instruction under test between two labels, then VMCALL. */
#define CODE(name, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": " before "; " #name "_at: " instruction "; " #name \
        "_end: vmcall; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

/* Any qualification will do (the manual leaves it undefined). */
#define ANY 0xdeadul

static struct vmx_vcpu v;
static uint8_t *bitmap;   /* 8 KiB for I/O or MSR bitmaps */
static uint64_t *scratch; /* a page that guests may use */

/* Runs to the expected exit; checks all that every instruction exit has in common. */
static bool expect(const char *name, uint32_t reason, uint64_t qualification, const uint8_t *at,
                   const uint8_t *end)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t rip = vmread(GUEST_RIP), length = vmread(VM_EXIT_INSTRUCTION_LENGTH);
    bool good = e.status == VMX_SUCCEED && e.reason == reason && rip == (uint64_t)at &&
                length == (uint64_t)(end - at) &&
                (qualification == ANY || e.qualification == qualification) &&
                !(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_VALID) &&
                !(vmread(EXITING_EVENT_IDENTIFICATION) & EVENT_VALID);
    if (!ok(good, "%s", name))
        tap_note("  status %d, error %u, reason %u (want %u), qualification %lx (want %lx), rip off by %ld, "
                 "length %lu",
                 (int)e.status, e.error, e.reason, reason, e.qualification, qualification,
                 (int64_t)(rip - (uint64_t)at), length);
    return good;
}

#define EXPECT(name, code, reason, qualification) expect(name, reason, qualification, code##_at, code##_end)

static void start(const void *code)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)scratch;
}

/* With the secondary controls that the instruction needs; false if they are not offered. */
static bool start2(const void *code, uint32_t secondary)
{
    start(code);
    if (!vmx_has_secondary(secondary)) return false;
    vmx_set_proc2(secondary);
    return true;
}

CODE(i_cpuid, "", "cpuid");
CODE(i_invd, "", "invd");
CODE(i_xsetbv, "xor %ecx, %ecx; xor %edx, %edx; mov $1, %eax", "xsetbv");
CODE(i_vmcall, "", "vmcall");
CODE(i_vmclear, "", "vmclear 0x1234(%rdi)");
CODE(i_vmptrld, "", "vmptrld -8(%rdi, %rax, 4)");
CODE(i_vmptrst, "", "vmptrst scratch(%rip)");
CODE(i_vmxon, "", "vmxon 0x10(%rsp)");
CODE(i_vmread, "", "vmread %rsi, %r9");
CODE(i_vmread_memory, "", "vmread %rcx, 0x40(%rdi)");
CODE(i_vmwrite, "", "vmwrite %r10, %rbx");
CODE(i_vmlaunch, "", "vmlaunch");
CODE(i_vmresume, "", "vmresume");
CODE(i_vmxoff, "", "vmxoff");
CODE(i_invept, "", "invept 0x20(%rdi), %r11");
CODE(i_invvpid, "", "invvpid 0x28(%rdi), %rdx");

static void unconditional(void)
{
    start(i_cpuid);
    EXPECT("CPUID", i_cpuid, EXIT_REASON_CPUID, 0);
    vmx_skip_instruction();
    done(&v, "  and the guest goes on behind it");
    start(i_invd);
    EXPECT("INVD", i_invd, EXIT_REASON_INVD, 0);
    if (cpuid(1, 0).ecx & 1u << 26) {
        start(i_xsetbv);
        vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_OSXSAVE);
        EXPECT("XSETBV", i_xsetbv, EXIT_REASON_XSETBV, 0);
        start(i_xsetbv);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "XSETBV with CR4.OSXSAVE=0: #UD comes first");
    } else {
        skip(2, "no XSAVE");
    }
    start(i_vmcall);
    EXPECT("VMCALL", i_vmcall, EXIT_REASON_VMCALL, 0);

    start(i_vmclear);
    EXPECT("VMCLEAR: the qualification is the displacement", i_vmclear, EXIT_REASON_VMCLEAR, 0x1234);
    uint64_t info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    is(info & 0x0fc38380, 7u << 23 | 1u << 22 | 3u << 15 | 2u << 7,
       "  information: base RDI, no index, DS, 64-bit");
    start(i_vmptrld);
    EXPECT("VMPTRLD: a negative displacement", i_vmptrld, EXIT_REASON_VMPTRLD, (uint64_t)-8);
    info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    is(info & 0x0fff8383, 7u << 23 | 0u << 18 | 3u << 15 | 2u << 7 | 2, "  information: RDI + RAX * 4");
    start(i_vmptrst);
    EXPECT("VMPTRST: RIP-relative gives the address", i_vmptrst, EXIT_REASON_VMPTRST, (uint64_t)&scratch);
    start(i_vmxon);
    EXPECT("VMXON", i_vmxon, EXIT_REASON_VMXON, 0x10);
    info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    is(info & 0x0fc38380, 4u << 23 | 1u << 22 | 2u << 15 | 2u << 7, "  information: base RSP, SS");
    start(i_vmread);
    EXPECT("VMREAD to a register", i_vmread, EXIT_REASON_VMREAD, 0);
    info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    is(info & 0xf0000478, 6u << 28 | 1u << 10 | 9u << 3, "  information: RSI, R9");
    start(i_vmread_memory);
    EXPECT("VMREAD to memory", i_vmread_memory, EXIT_REASON_VMREAD, 0x40);
    info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    is(info & 0xffc38780, 1u << 28 | 7u << 23 | 1u << 22 | 3u << 15 | 2u << 7,
       "  information: RCX, memory at RDI");
    start(i_vmwrite);
    EXPECT("VMWRITE from a register", i_vmwrite, EXIT_REASON_VMWRITE, 0);
    info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
    is(info & 0xf0000478, 3u << 28 | 1u << 10 | 10u << 3, "  information: RBX, R10");
    start(i_vmlaunch);
    EXPECT("VMLAUNCH", i_vmlaunch, EXIT_REASON_VMLAUNCH, 0);
    start(i_vmresume);
    EXPECT("VMRESUME", i_vmresume, EXIT_REASON_VMRESUME, 0);
    start(i_vmxoff);
    EXPECT("VMXOFF", i_vmxoff, EXIT_REASON_VMXOFF, 0);
    if (vmx_has_secondary(PROC2_ENABLE_EPT)) {
        start(i_invept);
        EXPECT("INVEPT", i_invept, EXIT_REASON_INVEPT, 0x20);
        info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
        is(info & 0xffc38380, 11u << 28 | 7u << 23 | 1u << 22 | 3u << 15 | 2u << 7,
           "  information: R11, RDI");
    } else {
        skip(2, "no EPT");
    }
    if (vmx_has_secondary(PROC2_ENABLE_VPID)) {
        start(i_invvpid);
        EXPECT("INVVPID", i_invvpid, EXIT_REASON_INVVPID, 0x28);
        info = vmread(VM_EXIT_INSTRUCTION_INFORMATION);
        is(info >> 28, 2, "  information: RDX");
    } else {
        skip(2, "no VPID");
    }
}

CODE(i_hlt, "", "hlt");
CODE(i_invlpg, "", "invlpg 0x1230(%rdi)");
CODE(i_rdpmc, "", "rdpmc");
CODE(i_rdtsc, "", "rdtsc");
CODE(i_rdtscp, "", "rdtscp");
CODE(i_mwait, "xor %eax, %eax; xor %ecx, %ecx", "mwait");
CODE(i_monitor, "mov %rdi, %rax; xor %ecx, %ecx; xor %edx, %edx", "monitor");
CODE(i_monitor_mwait, "mov %rdi, %rax; xor %ecx, %ecx; xor %edx, %edx; monitor; xor %eax, %eax", "mwait");
CODE(i_pause, "", "pause");
CODE(i_from_dr, "", "mov %dr7, %r9");
CODE(i_to_dr, "", "mov %rcx, %dr2");
CODE(i_wbinvd, "", "wbinvd");
CODE(i_rdrand, "", "rdrand %r12d");
CODE(i_rdseed, "", "rdseed %rbp");
CODE(i_invpcid, "mov $2, %eax", "invpcid 8(%rdi), %rax");

/* One primary control, one instruction: exits with it, and not without it (unless `always_off` would harm).
 */
static void by_control(const char *name, const uint8_t *code, const uint8_t *at, const uint8_t *end,
                       uint32_t control, uint32_t reason, uint64_t qualification, bool run_without)
{
    start(code);
    vmx_set_proc(control);
    expect(name, reason, qualification, at, end);
    if (!run_without) return;
    start(code);
    if (control & vmx_adjust(IA32_VMX_PROCBASED_CTLS, 0)) {
        skip_one(name, "the control cannot be 0");
        return;
    }
    done(&v, "  not without the control");
}

#define BY_CONTROL(name, code, control, reason, qualification, run_without) \
    by_control(name, code, code##_at, code##_end, control, reason, qualification, run_without)

static void conditional(void)
{
    BY_CONTROL("HLT", i_hlt, PROC_HLT_EXITING, EXIT_REASON_HLT, 0, false);
    BY_CONTROL("INVLPG: the qualification is the address", i_invlpg, PROC_INVLPG_EXITING, EXIT_REASON_INVLPG,
               (uint64_t)scratch + 0x1230, true);
    BY_CONTROL("RDPMC", i_rdpmc, PROC_RDPMC_EXITING, EXIT_REASON_RDPMC, 0, false);
    BY_CONTROL("RDTSC", i_rdtsc, PROC_RDTSC_EXITING, EXIT_REASON_RDTSC, 0, true);
    BY_CONTROL("PAUSE", i_pause, PROC_PAUSE_EXITING, EXIT_REASON_PAUSE, 0, true);
    BY_CONTROL("MOV from DR7 to R9", i_from_dr, PROC_MOV_DR_EXITING, EXIT_REASON_MOV_DR,
               9u << 8 | 1u << 4 | 7, true);
    BY_CONTROL("MOV to DR2 from RCX", i_to_dr, PROC_MOV_DR_EXITING, EXIT_REASON_MOV_DR, 1u << 8 | 2, true);
    if (cpuid(1, 0).ecx & 1u << 3) {
        BY_CONTROL("MONITOR", i_monitor, PROC_MONITOR_EXITING, EXIT_REASON_MONITOR, 0, true);
        BY_CONTROL("MWAIT, not armed", i_mwait, PROC_MWAIT_EXITING, EXIT_REASON_MWAIT, 0, false);
        BY_CONTROL("MWAIT, armed", i_monitor_mwait, PROC_MWAIT_EXITING, EXIT_REASON_MWAIT, 1, false);
    } else {
        skip(4, "no MONITOR");
    }

    if (start2(i_rdtscp, PROC2_ENABLE_RDTSCP)) {
        done(&v, "RDTSCP enabled");
        start2(i_rdtscp, PROC2_ENABLE_RDTSCP);
        vmx_set_proc(PROC_RDTSC_EXITING);
        EXPECT("RDTSCP with RDTSC exiting", i_rdtscp, EXIT_REASON_RDTSCP, 0);
        start(i_rdtscp);
        vmx_set_proc(PROC_RDTSC_EXITING);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "RDTSCP not enabled: #UD, whatever RDTSC exiting says");
        is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | VECTOR_UD,
           "  it is #UD");
    } else {
        skip(4, "no enable RDTSCP");
    }
    if (start2(i_wbinvd, PROC2_WBINVD_EXITING)) {
        EXPECT("WBINVD", i_wbinvd, EXIT_REASON_WBINVD, 0);
        start(i_wbinvd);
        done(&v, "  not without the control");
    } else {
        skip(2, "no WBINVD exiting");
    }
    if (start2(i_rdrand, PROC2_RDRAND_EXITING) && (cpuid(1, 0).ecx & 1u << 30)) {
        EXPECT("RDRAND", i_rdrand, EXIT_REASON_RDRAND, 0);
        is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x1878, 1u << 11 | 12u << 3,
           "  information: R12, 32 bits");
        start(i_rdrand);
        done(&v, "  not without the control");
    } else {
        skip(3, "no RDRAND exiting");
    }
    if (start2(i_rdseed, PROC2_RDSEED_EXITING) && (cpuid_if_present(7, 0).ebx & 1u << 18)) {
        EXPECT("RDSEED", i_rdseed, EXIT_REASON_RDSEED, 0);
        is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x1878, 2u << 11 | 5u << 3,
           "  information: RBP, 64 bits");
    } else {
        skip(2, "no RDSEED exiting");
    }
    if (start2(i_invpcid, PROC2_ENABLE_INVPCID) && (cpuid_if_present(7, 0).ebx & 1u << 10)) {
        done(&v, "INVPCID enabled");
        start2(i_invpcid, PROC2_ENABLE_INVPCID);
        vmx_set_proc(PROC_INVLPG_EXITING);
        EXPECT("INVPCID with INVLPG exiting", i_invpcid, EXIT_REASON_INVPCID, 8);
        start(i_invpcid);
        vmx_set_proc(PROC_INVLPG_EXITING);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "INVPCID not enabled: #UD, whatever INVLPG exiting says");
    } else {
        skip(3, "no INVPCID");
    }
}

CODE(i_sgdt, "", "sgdt 0x10(%rdi)");
CODE(i_sidt, "", "sidt 0x18(%rdi)");
CODE(i_lgdt, "sgdt (%rdi)", "lgdt (%rdi)");
CODE(i_lidt, "sidt (%rdi)", "lidt (%rdi)");
CODE(i_sldt, "", "sldt %r8d");
CODE(i_str, "", "str 0x30(%rdi)");
CODE(i_lldt, "xor %eax, %eax", "lldt %ax");

static void descriptor_tables(void)
{
    if (!start2(i_sgdt, PROC2_DESCRIPTOR_TABLE_EXITING)) {
        skip(10, "no descriptor-table exiting");
        return;
    }
    EXPECT("SGDT", i_sgdt, EXIT_REASON_GDTR_IDTR_ACCESS, 0x10);
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x3fc38380,
       0u << 28 | 7u << 23 | 1u << 22 | 3u << 15 | 2u << 7, "  information: SGDT, RDI");
    start2(i_sidt, PROC2_DESCRIPTOR_TABLE_EXITING);
    EXPECT("SIDT", i_sidt, EXIT_REASON_GDTR_IDTR_ACCESS, 0x18);
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) >> 28 & 3, 1, "  information: SIDT");
    start2(i_sldt, PROC2_DESCRIPTOR_TABLE_EXITING);
    EXPECT("SLDT to a register", i_sldt, EXIT_REASON_LDTR_TR_ACCESS, 0);
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x30000478, 0u << 28 | 1u << 10 | 8u << 3,
       "  information: SLDT, R8");
    start2(i_str, PROC2_DESCRIPTOR_TABLE_EXITING);
    EXPECT("STR to memory", i_str, EXIT_REASON_LDTR_TR_ACCESS, 0x30);
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) >> 28 & 3, 1, "  information: STR");
    start2(i_lldt, PROC2_DESCRIPTOR_TABLE_EXITING);
    EXPECT("LLDT", i_lldt, EXIT_REASON_LDTR_TR_ACCESS, 0);
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) >> 28 & 3, 2, "  information: LLDT");
    start(i_lgdt);
    done(&v, "LGDT without the control");
    start(i_lidt);
    done(&v, "LIDT without the control");
    start(i_sldt);
    done(&v, "SLDT without the control");
}

CODE(i_to_cr3, "mov %cr3, %r11", "mov %r11, %cr3");
CODE(i_from_cr3, "", "mov %cr3, %rsi");
CODE(i_to_cr8, "mov $5, %eax", "mov %rax, %cr8");
CODE(i_from_cr8, "", "mov %cr8, %rbx");
CODE(i_to_cr0_ts, "mov %cr0, %rax; or $8, %rax", "mov %rax, %cr0");
CODE(i_to_cr0_same, "mov %cr0, %rax", "mov %rax, %cr0");
CODE(i_clts, "", "clts");
CODE(i_lmsw_memory, "movw $0xb, (%rdi)", "lmsw (%rdi)");
CODE(i_lmsw_register, "mov $0xb, %ax", "lmsw %ax");
CODE(i_smsw, "", "smsw %eax");
CODE(i_from_cr0, "", "mov %cr0, %rax");
CODE(i_to_cr4, "mov %cr4, %rdx; xor $4, %rdx", "mov %rdx, %cr4");
CODE(i_from_cr4, "", "mov %cr4, %rax");

static void control_registers(void)
{
    BY_CONTROL("MOV to CR3 from R11", i_to_cr3, PROC_CR3_LOAD_EXITING, EXIT_REASON_CONTROL_REGISTER_ACCESS,
               11u << 8 | 3, true);
    BY_CONTROL("MOV from CR3 to RSI", i_from_cr3, PROC_CR3_STORE_EXITING, EXIT_REASON_CONTROL_REGISTER_ACCESS,
               6u << 8 | 1u << 4 | 3, true);
    BY_CONTROL("MOV to CR8 from RAX", i_to_cr8, PROC_CR8_LOAD_EXITING, EXIT_REASON_CONTROL_REGISTER_ACCESS,
               0u << 8 | 8, false);
    BY_CONTROL("MOV from CR8 to RBX", i_from_cr8, PROC_CR8_STORE_EXITING, EXIT_REASON_CONTROL_REGISTER_ACCESS,
               3u << 8 | 1u << 4 | 8, true);

    unsigned targets = rdmsr(IA32_VMX_MISC) >> 16 & 0x1ff;
    if (targets >= 2) {
        start(i_to_cr3);
        vmx_set_proc(PROC_CR3_LOAD_EXITING);
        vmwrite(CR3_TARGET_COUNT, 2);
        vmwrite(CR3_TARGET_VALUE_0, 0x1000);
        vmwrite(CR3_TARGET_VALUE_1, read_cr3());
        done(&v, "MOV to CR3 of a target value does not exit");
        start(i_to_cr3);
        vmx_set_proc(PROC_CR3_LOAD_EXITING);
        vmwrite(CR3_TARGET_COUNT, 1);
        vmwrite(CR3_TARGET_VALUE_0, 0x1000);
        vmwrite(CR3_TARGET_VALUE_1, read_cr3());
        EXPECT("MOV to CR3 of a target beyond the count exits", i_to_cr3, EXIT_REASON_CONTROL_REGISTER_ACCESS,
               11u << 8 | 3);
    } else {
        skip(2, "fewer than two CR3 targets");
    }
    static const uint32_t values[] = {CR3_TARGET_VALUE_0, CR3_TARGET_VALUE_1, CR3_TARGET_VALUE_2,
                                      CR3_TARGET_VALUE_3};
    unsigned matched = 0, tried = 0;
    for (; tried < targets && tried < 4; tried++) {
        start(i_to_cr3);
        vmx_set_proc(PROC_CR3_LOAD_EXITING);
        vmwrite(CR3_TARGET_COUNT, targets < 4 ? targets : 4);
        for (unsigned i = 0; i < targets && i < 4; i++)
            vmwrite(values[i], i == tried ? read_cr3() : 0x1000 * (i + 1));
        matched += vmx_run(&v).reason == EXIT_REASON_VMCALL;
    }
    is(matched, tried, "SDM 28.1.3: MOV to CR3 of each of the target values does not exit");

    /* CR0.TS owned by the host; the guest sees the shadow. */
    uint64_t cr0 = read_cr0();
    start(i_to_cr0_ts);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
    vmwrite(CR0_READ_SHADOW, 0);
    EXPECT("MOV to CR0 that changes a masked bit", i_to_cr0_ts, EXIT_REASON_CONTROL_REGISTER_ACCESS, 0);
    start(i_to_cr0_ts);
    done(&v, "  not if the bit is the guest's");
    ok(vmread(GUEST_CR0) & CR0_TS, "  which then changes it");
    start(i_to_cr0_same);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
    vmwrite(CR0_READ_SHADOW, CR0_TS);
    done(&v, "MOV to CR0 that writes the shadow's value");
    is(vmread(GUEST_CR0) & CR0_TS, cr0 & CR0_TS, "  leaves the masked bit alone");
    start(i_clts);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
    vmwrite(CR0_READ_SHADOW, CR0_TS);
    EXPECT("CLTS with mask and shadow set", i_clts, EXIT_REASON_CONTROL_REGISTER_ACCESS, 2u << 4);
    start(i_clts);
    vmwrite(GUEST_CR0, cr0 | CR0_TS);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
    vmwrite(CR0_READ_SHADOW, 0);
    done(&v, "CLTS with the mask set and the shadow clear");
    ok(vmread(GUEST_CR0) & CR0_TS, "  leaves TS");
    start(i_clts);
    vmwrite(GUEST_CR0, cr0 | CR0_TS);
    done(&v, "CLTS with the mask clear");
    ok(!(vmread(GUEST_CR0) & CR0_TS), "  clears TS");
    start(i_lmsw_register);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
    EXPECT("LMSW from a register", i_lmsw_register, EXIT_REASON_CONTROL_REGISTER_ACCESS,
           0xbu << 16 | 3u << 4);
    start(i_lmsw_memory);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS);
    EXPECT("LMSW from memory", i_lmsw_memory, EXIT_REASON_CONTROL_REGISTER_ACCESS,
           0xbu << 16 | 1u << 6 | 3u << 4);
    is(vmread(GUEST_LINEAR_ADDRESS), (uint64_t)scratch, "  with its guest-linear address");
    start(i_smsw);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_TS | CR0_MP);
    vmwrite(CR0_READ_SHADOW, CR0_TS);
    done(&v, "SMSW");
    is(v.regs.gpr[RAX], (cr0 & ~(uint64_t)CR0_MP) | CR0_TS, "  reads masked bits from the shadow");
    start(i_from_cr0);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_NE | CR0_AM);
    vmwrite(CR0_READ_SHADOW, CR0_AM);
    done(&v, "MOV from CR0");
    is(v.regs.gpr[RAX], (cr0 & ~(uint64_t)CR0_NE) | CR0_AM, "  reads masked bits from the shadow");

    start(i_to_cr4);
    vmwrite(CR4_GUEST_HOST_MASK, CR4_TSD);
    vmwrite(CR4_READ_SHADOW, 0);
    EXPECT("MOV to CR4 that changes a masked bit", i_to_cr4, EXIT_REASON_CONTROL_REGISTER_ACCESS,
           2u << 8 | 4);
    start(i_to_cr4);
    done(&v, "  not if the bit is the guest's");
    ok((vmread(GUEST_CR4) ^ read_cr4()) == CR4_TSD, "  which then changes it");
    start(i_from_cr4);
    vmwrite(CR4_GUEST_HOST_MASK, CR4_VMXE);
    done(&v, "MOV from CR4");
    is(v.regs.gpr[RAX], read_cr4() & ~(uint64_t)CR4_VMXE, "  reads masked bits from the shadow");
}

CODE(i_in_imm, "", "in $0x60, %al");
CODE(i_in_dx, "mov $0x3f8, %edx", "in %dx, %eax");
CODE(i_out_imm, "", "out %ax, $0x80");
CODE(i_out_dx, "mov $0xffff, %edx", "out %al, %dx");
CODE(i_in_wrap, "mov $0xffff, %edx", "in %dx, %ax");
CODE(i_in_7fff, "mov $0x7fff, %edx", "in %dx, %ax");
CODE(i_outs, "mov %rdi, %rsi; mov $0x3f8, %edx", "outsb");
CODE(i_rep_ins, "mov $4, %ecx; mov $0x3f8, %edx", "rep insw");
CODE(i_outs_fs, "mov %rdi, %rsi; mov $0x3f8, %edx", "outsl %fs:(%esi), %dx");

static void io_bitmaps(const void *code)
{
    start(code);
    memset(bitmap, 0, 8192);
    vmx_set_proc(PROC_USE_IO_BITMAPS);
    vmwrite(ADDRESS_OF_IO_BITMAP_A, (uint64_t)bitmap);
    vmwrite(ADDRESS_OF_IO_BITMAP_B, (uint64_t)bitmap + 4096);
}

static void set_port(unsigned port) { bitmap[port >> 3] |= (uint8_t)(1u << (port & 7)); }

static void io(void)
{
    uint32_t u = PROC_UNCONDITIONAL_IO_EXITING;
    BY_CONTROL("IN AL, imm8", i_in_imm, u, EXIT_REASON_IO_INSTRUCTION, 0x60u << 16 | 1u << 6 | 1u << 3 | 0,
               true);
    BY_CONTROL("IN EAX, DX", i_in_dx, u, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 3 | 3, false);
    BY_CONTROL("OUT imm8, AX", i_out_imm, u, EXIT_REASON_IO_INSTRUCTION, 0x80u << 16 | 1u << 6 | 1, true);
    BY_CONTROL("OUT DX, AL", i_out_dx, u, EXIT_REASON_IO_INSTRUCTION, 0xffffu << 16, true);
    BY_CONTROL("OUTSB", i_outs, u, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 4, false);
    is(vmread(GUEST_LINEAR_ADDRESS), (uint64_t)scratch, "  with its guest-linear address");
    is(v.regs.gpr[RSI], (uint64_t)scratch, "  RSI has not moved");
    BY_CONTROL("REP INSW", i_rep_ins, u, EXIT_REASON_IO_INSTRUCTION,
               0x3f8u << 16 | 1u << 5 | 1u << 4 | 1u << 3 | 1, false);
    is(vmread(GUEST_LINEAR_ADDRESS), (uint64_t)scratch, "  with its guest-linear address");
    bool information = rdmsr(IA32_VMX_BASIC) & 1ul << 54;
    BY_CONTROL("OUTSD with FS and 32-bit addresses", i_outs_fs, u, EXIT_REASON_IO_INSTRUCTION,
               0x3f8u << 16 | 1u << 4 | 3, false);
    if (information)
        is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x38380, 4u << 15 | 1u << 7,
           "  information: FS, 32 bits");
    else
        skip(1, "no information for INS and OUTS");
    io_bitmaps(i_in_dx);
    set_port(0x3f7);
    set_port(0x3fc);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    done(&v, "bitmaps: the neighbours do not count, nor does unconditional I/O exiting");
    for (unsigned i = 0; i < 4; i++) {
        io_bitmaps(i_in_dx);
        set_port(0x3f8 + i);
        expect("bitmaps: each port of a 4-byte access counts", EXIT_REASON_IO_INSTRUCTION,
               0x3f8u << 16 | 1u << 3 | 3, i_in_dx_at, i_in_dx_end);
    }
    io_bitmaps(i_in_7fff);
    set_port(0x8000);
    EXPECT("bitmaps: an access across A and B", i_in_7fff, EXIT_REASON_IO_INSTRUCTION,
           0x7fffu << 16 | 1u << 3 | 1);
    io_bitmaps(i_out_dx);
    set_port(0xffff);
    EXPECT("bitmaps: port FFFF", i_out_dx, EXIT_REASON_IO_INSTRUCTION, 0xffffu << 16);
    io_bitmaps(i_in_wrap);
    EXPECT("bitmaps: an access that wraps exits, whatever they say", i_in_wrap, EXIT_REASON_IO_INSTRUCTION,
           0xffffu << 16 | 1u << 3 | 1);
    io_bitmaps(i_in_imm);
    set_port(0x60);
    EXPECT("bitmaps: IN AL, imm8", i_in_imm, EXIT_REASON_IO_INSTRUCTION, 0x60u << 16 | 1u << 6 | 1u << 3);
    io_bitmaps(i_rep_ins);
    set_port(0x3f9);
    EXPECT("bitmaps: REP INSW", i_rep_ins, EXIT_REASON_IO_INSTRUCTION,
           0x3f8u << 16 | 1u << 5 | 1u << 4 | 1u << 3 | 1);
}

CODE(i_rdmsr, "mov %esi, %ecx", "rdmsr");
CODE(i_wrmsr, "mov %esi, %ecx; rdmsr", "wrmsr");
CODE(i_wrmsr_only, "mov %esi, %ecx; xor %eax, %eax; xor %edx, %edx", "wrmsr");

static void msr_start(const void *code, uint32_t msr)
{
    start(code);
    memset(bitmap, 0, 4096);
    v.regs.gpr[RSI] = msr;
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)bitmap);
}

static void set_msr(unsigned part, uint32_t msr)
{
    bitmap[part + ((msr & 0x1fff) >> 3)] |= (uint8_t)(1u << (msr & 7));
}

static void msrs(void)
{
    start(i_rdmsr);
    v.regs.gpr[RSI] = IA32_SYSENTER_CS;
    EXPECT("RDMSR without MSR bitmaps", i_rdmsr, EXIT_REASON_RDMSR, 0);
    start(i_wrmsr_only);
    v.regs.gpr[RSI] = IA32_SYSENTER_CS;
    EXPECT("WRMSR without MSR bitmaps", i_wrmsr_only, EXIT_REASON_WRMSR, 0);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        skip(10, "no MSR bitmaps");
        return;
    }
    msr_start(i_rdmsr, IA32_SYSENTER_CS);
    set_msr(0x400, IA32_SYSENTER_CS);
    set_msr(0x800, IA32_SYSENTER_CS);
    set_msr(0xc00, IA32_SYSENTER_CS);
    set_msr(0x000, IA32_SYSENTER_CS + 1);
    done(&v, "bitmaps: RDMSR looks at its own bit only");
    msr_start(i_rdmsr, IA32_SYSENTER_CS);
    set_msr(0x000, IA32_SYSENTER_CS);
    EXPECT("bitmaps: RDMSR, low range", i_rdmsr, EXIT_REASON_RDMSR, 0);
    msr_start(i_rdmsr, IA32_LSTAR);
    set_msr(0x400, IA32_LSTAR);
    EXPECT("bitmaps: RDMSR, high range", i_rdmsr, EXIT_REASON_RDMSR, 0);
    msr_start(i_wrmsr, IA32_SYSENTER_CS);
    set_msr(0x800, IA32_SYSENTER_CS);
    EXPECT("bitmaps: WRMSR, low range", i_wrmsr, EXIT_REASON_WRMSR, 0);
    msr_start(i_wrmsr, IA32_LSTAR);
    set_msr(0xc00, IA32_LSTAR);
    EXPECT("bitmaps: WRMSR, high range", i_wrmsr, EXIT_REASON_WRMSR, 0);
    msr_start(i_rdmsr, 0x2000);
    EXPECT("bitmaps: RDMSR between the ranges exits", i_rdmsr, EXIT_REASON_RDMSR, 0);
    msr_start(i_wrmsr_only, 0xc0002000);
    EXPECT("bitmaps: WRMSR above the ranges exits", i_wrmsr_only, EXIT_REASON_WRMSR, 0);
    msr_start(i_rdmsr, 0xffffffff);
    EXPECT("bitmaps: RDMSR of FFFFFFFF exits", i_rdmsr, EXIT_REASON_RDMSR, 0);
    msr_start(i_rdmsr, 0x1ffe);
    set_msr(0x000, 0x1ffe);
    EXPECT("a missing MSR whose bit is set exits before #GP", i_rdmsr, EXIT_REASON_RDMSR, 0);
    msr_start(i_rdmsr, 0x1ffe);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "a missing MSR whose bit is clear gives #GP");
}

/* TSC offsetting, seen from inside. */
static void tsc(void)
{
    start(i_rdtsc);
    vmx_set_proc(PROC_USE_TSC_OFFSETTING);
    vmwrite(TSC_OFFSET, 1ul << 60);
    uint64_t before = rdtsc();
    done(&v, "RDTSC with an offset");
    uint64_t after = rdtsc(), seen = v.regs.gpr[RDX] << 32 | (uint32_t)v.regs.gpr[RAX];
    ok(seen >= before + (1ul << 60) && seen <= after + (1ul << 60),
       "  lies between the host's readings plus the offset");
    if (vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        msr_start(i_rdmsr, IA32_TIME_STAMP_COUNTER);
        vmx_set_proc(PROC_USE_TSC_OFFSETTING);
        vmwrite(TSC_OFFSET, 1ul << 60);
        before = rdtsc();
        done(&v, "RDMSR of the TSC with an offset");
        seen = v.regs.gpr[RDX] << 32 | (uint32_t)v.regs.gpr[RAX];
        ok(seen >= before + (1ul << 60), "  has the offset too");
    } else {
        skip(2, "no MSR bitmaps");
    }
    if (vmx_has_secondary(PROC2_USE_TSC_SCALING)) {
        start2(i_rdtsc, PROC2_USE_TSC_SCALING);
        vmx_set_proc(PROC_USE_TSC_OFFSETTING);
        vmwrite(TSC_OFFSET, 1000);
        vmwrite(TSC_MULTIPLIER, 3ul << 47); /* 1.5 */
        before = rdtsc();
        done(&v, "RDTSC with scaling");
        after = rdtsc(), seen = v.regs.gpr[RDX] << 32 | (uint32_t)v.regs.gpr[RAX];
        ok(seen >= before / 2 * 3 + 1000 && seen <= after / 2 * 3 + 1003,
           "  is 1.5 times the TSC plus the offset");
    } else {
        skip(2, "no TSC scaling");
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("VM exits by instructions")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    bitmap = page_alloc(2);
    scratch = page_alloc(1);
    unconditional();
    conditional();
    descriptor_tables();
    control_registers();
    io();
    msrs();
    tsc();
    return tap_end();
}

/*
 * VM exits of guests that are not in 64-bit mode: real mode under unrestricted guest, 32-bit protected mode;
 * and PAUSE-loop exiting (SDM 26.1, 26.3, 28.2).
 *
 * Missing: guests in virtual-8086 mode, 16-bit protected mode, task switches.
 */
#include "user.h"
#include "vmx-common.h"

static struct vmx_vcpu v;

#define CODE(name, bits, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": .code" #bits "; " before "; " #name "_at: " instruction \
        "; " #name "_end: vmcall; .code64; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

/* ---- real mode: the code is copied to 8000h ---- */

static void real(const uint8_t *code, const uint8_t *end)
{
    guest_init_ept(&v, code);
    v.regs = (struct vmx_regs){0};
    guest_real_mode(&v, code, (size_t)(end + 16 - code));
}

static bool expect(const uint8_t *code, const uint8_t *at, const uint8_t *end, bool in_real_mode,
                   uint32_t reason, uint64_t qualification, const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t rip = in_real_mode ? 0x8000 + (uint64_t)(at - code) : (uint64_t)at;
    uint64_t length = vmread(VM_EXIT_INSTRUCTION_LENGTH);
    bool good = e.status == VMX_SUCCEED && e.reason == reason && e.qualification == qualification &&
                vmread(GUEST_RIP) == rip && length == (uint64_t)(end - at);
    if (!ok(good, "%s", name))
        tap_note(
            "  status %d, reason %u (want %u), qualification %lx (want %lx), rip %lx (want %lx), length %lu",
            (int)e.status, e.reason, reason, e.qualification, qualification, vmread(GUEST_RIP), rip, length);
    return good;
}

#define REAL(code, reason, qualification, name) \
    expect(code, code##_at, code##_end, true, reason, qualification, name)

static void exception_is(uint32_t identification, const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t got = vmread(EXITING_EVENT_IDENTIFICATION);
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EXCEPTION_OR_NMI && got == identification,
            "%s", name))
        tap_note("  reason %u, event %lx (want %x), rip %lx", e.reason, got, identification,
                 vmread(GUEST_RIP));
}

#define HARDWARE(v) (EVENT_VALID | EVENT_HARDWARE_EXCEPTION | (v))

CODE(r_cpuid, 16, "nop", "cpuid");
CODE(r_hlt, 16, "", "hlt");
CODE(r_outsb, 16, "mov $0x2000, %ax; mov %ax, %ds; mov $0x1234, %si; mov $0x3f8, %dx", "outsb");
CODE(r_outs_high, 16, "mov $0x3000, %si; mov $0x3f8, %dx", "outsb");
CODE(r_outs_es, 16, "mov $0x2000, %ax; mov %ax, %es; mov $0x10, %esi; mov $0x3f8, %dx",
     "addr32 outsl %es:(%esi), %dx");
CODE(r_rep_insb, 16, "mov $0x3000, %ax; mov %ax, %es; mov $0x20, %di; mov $2, %cx; mov $0x3f8, %dx",
     "rep insb");
CODE(r_in, 16, "", "inw $0x60, %ax");
CODE(r_sgdt, 16, "", "sgdt 0x7100");
CODE(r_lmsw, 16, "mov $1, %ax", "lmsw %ax");
CODE(r_to_cr0, 16, "mov %cr0, %ecx; or $1, %ecx", "mov %ecx, %cr0");
CODE(r_vmxoff, 16, "", "vmxoff");
CODE(r_vmread, 16, "", "vmread %eax, %ebx");
CODE(r_vmptrld, 16, "", "vmptrld 0x7000");
CODE(r_sldt, 16, "", "sldt %ax");
CODE(r_str, 16, "", "str %ax");
CODE(r_gp, 16, "mov $0xffff, %bx", "mov (%bx), %ax");
CODE(r_int, 16, "", "int $0x21");
CODE(r_load, 16, "", "movb 0x7000, %al");
CODE(r_store, 16, "mov $0x7000, %di", "stosb");
CODE(r_push, 16, "", "push %ax");
CODE(r_reload, 16, "xor %ax, %ax; mov %ax, %ds", "movb 0x7000, %al");
CODE(r_ud, 16, "", "ud2");
CODE(r_divide, 16, "xor %cx, %cx", "div %cx");

/* From 16-bit protected mode to real mode and back without a far jump, with a VMCALL in each. Bochs 2.7 marks
   CS as data (93h) when PE is cleared; other emulators keep it, and Xen, whose emulator fetches from code
   segments only, runs such option ROMs on processors. */
asm(".pushsection .text; .balign 16; .code16; r_rights: mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0; "
    "ljmp $0x800, $(1f - r_rights); 1: lcall $0x7ff, $(2f - r_rights + 0x10); 2: mov $0x100, %ax; "
    "mov %ax, %ds; push %ax; pop %fs; vmcall; "
    "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; vmcall; r_rights_end: .code64; .popsection");
extern const uint8_t r_rights[], r_rights_end[];

static void segments_are(uint32_t cs, uint32_t ds, const char *name)
{
    uint64_t rights[] = {vmread(GUEST_CS_ACCESS_RIGHTS), vmread(GUEST_DS_ACCESS_RIGHTS),
                         vmread(GUEST_FS_ACCESS_RIGHTS)};
    if (!ok(rights[0] == cs && rights[1] == ds && rights[2] == ds && vmread(GUEST_CS_SELECTOR) == 0x7ff &&
                vmread(GUEST_CS_BASE) == 0x7ff0 && vmread(GUEST_CS_LIMIT) == 0xffff &&
                vmread(GUEST_DS_SELECTOR) == 0x100 && vmread(GUEST_DS_BASE) == 0x1000 &&
                vmread(GUEST_DS_LIMIT) == 0xfffff && vmread(GUEST_FS_BASE) == 0x1000,
            "%s", name))
        tap_note("  CS %lx, DS %lx, FS %lx, limits %lx, %lx", rights[0], rights[1], rights[2],
                 vmread(GUEST_CS_LIMIT), vmread(GUEST_DS_LIMIT));
}

static void real_mode_rights(void)
{
    const uint32_t cs = 0x9b, ds = 0x1093;
    real(r_rights, r_rights_end);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PE);
    vmwrite(GUEST_CS_ACCESS_RIGHTS, cs);
    vmwrite(GUEST_DS_ACCESS_RIGHTS, ds);
    vmwrite(GUEST_DS_LIMIT, 0xfffff);
    vmwrite(GUEST_FS_ACCESS_RIGHTS, ds);
    vmwrite(GUEST_FS_LIMIT, 0xfffff);
    exit_is(&v, EXIT_REASON_VMCALL, "from 16-bit protected mode to real mode");
    segments_are(cs, ds, "  loads in real mode leave limits and rights");
    vmx_skip_instruction();
    exit_is(&v, EXIT_REASON_VMCALL, "  and with PE set again, without a far jump");
    segments_are(cs, ds, "  CS is still code");
}

/* SDM 29.3.2.2: outside 64-bit mode the use of a segment that VM entry made unusable faults. */
static void unusable(void)
{
    real(r_load, r_load_end);
    vmwrite(GUEST_DS_ACCESS_RIGHTS, AR_UNUSABLE);
    exception_is(HARDWARE(VECTOR_GP), "SDM 29.3.2.2: real mode: a read by an unusable DS is #GP");
    real(r_store, r_store_end);
    vmwrite(GUEST_ES_ACCESS_RIGHTS, AR_UNUSABLE);
    exception_is(HARDWARE(VECTOR_GP), "  a write by an unusable ES");
    real(r_push, r_push_end);
    vmwrite(GUEST_SS_ACCESS_RIGHTS, AR_UNUSABLE);
    exception_is(HARDWARE(VECTOR_SS), "  PUSH with an unusable SS is #SS");
    real(r_int, r_int_end);
    vmwrite(GUEST_SS_ACCESS_RIGHTS, AR_UNUSABLE);
    exception_is(HARDWARE(VECTOR_SS), "  and so is the frame of INT");
    real(r_reload, r_reload_end);
    vmwrite(GUEST_DS_ACCESS_RIGHTS, AR_UNUSABLE);
    done(&v, "  MOV to DS makes it usable");
}

static void real_mode(void)
{
    real_mode_rights();
    unusable();
    real(r_cpuid, r_cpuid_end);
    REAL(r_cpuid, EXIT_REASON_CPUID, 0, "real mode: CPUID");
    vmx_skip_instruction();
    done(&v, "  and on behind it");
    real(r_hlt, r_hlt_end);
    vmx_set_proc(PROC_HLT_EXITING);
    REAL(r_hlt, EXIT_REASON_HLT, 0, "real mode: HLT");
    real(r_in, r_in_end);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    REAL(r_in, EXIT_REASON_IO_INSTRUCTION, 0x60u << 16 | 1u << 6 | 1u << 3 | 1, "real mode: IN AX");
    real(r_outsb, r_outsb_end);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    REAL(r_outsb, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 4, "real mode: OUTSB");
    is(vmread(GUEST_LINEAR_ADDRESS), 0x21234, "  its guest-linear address is DS * 16 + SI");
    bool information = rdmsr(IA32_VMX_BASIC) & 1ul << 54;
    if (information)
        is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x38380, 3u << 15, "  information: DS, 16 bits");
    else
        skip(1, "no information for INS and OUTS");
    real(r_outs_es, r_outs_es_end);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    REAL(r_outs_es, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 4 | 3,
         "real mode: OUTSD with ES and 32-bit addresses");
    is(vmread(GUEST_LINEAR_ADDRESS), 0x20010, "  its guest-linear address");
    if (information)
        is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x38380, 0u << 15 | 1u << 7,
           "  information: ES, 32 bits");
    else
        skip(1, "no information for INS and OUTS");
    real(r_outs_high, r_outs_high_end);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    vmwrite(GUEST_DS_BASE, 0xfffff000);
    REAL(r_outs_high, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 4, "real mode: OUTSB across 4 GiB");
    is(vmread(GUEST_LINEAR_ADDRESS), 0x2000, "  its guest-linear address has 32 bits (SDM 30.2.1)");
    real(r_rep_insb, r_rep_insb_end);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    REAL(r_rep_insb, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 5 | 1u << 4 | 1u << 3,
         "real mode: REP INSB");
    is(vmread(GUEST_LINEAR_ADDRESS), 0x30020, "  its guest-linear address is ES * 16 + DI");

    real(r_lmsw, r_lmsw_end);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_PE);
    REAL(r_lmsw, EXIT_REASON_CONTROL_REGISTER_ACCESS, 1u << 16 | 3u << 4,
         "real mode: LMSW that sets a masked PE");
    real(r_to_cr0, r_to_cr0_end);
    vmwrite(CR0_GUEST_HOST_MASK, CR0_PE);
    REAL(r_to_cr0, EXIT_REASON_CONTROL_REGISTER_ACCESS, 1u << 8,
         "real mode: MOV to CR0 that sets a masked PE");

    static const struct {
        const char *name;
        const uint8_t *code, *end;
    } undefined[] = {{"VMXOFF", r_vmxoff, r_vmxoff_end},
                     {"VMREAD", r_vmread, r_vmread_end},
                     {"VMPTRLD", r_vmptrld, r_vmptrld_end},
                     {"SLDT", r_sldt, r_sldt_end},
                     {"STR", r_str, r_str_end}};
    bool tables = vmx_has_secondary(PROC2_DESCRIPTOR_TABLE_EXITING);
    for (unsigned i = 0; i < sizeof(undefined) / sizeof(undefined[0]); i++) {
        real(undefined[i].code, undefined[i].end);
        if (tables) vmx_set_proc2(PROC2_DESCRIPTOR_TABLE_EXITING);
        exception_is(HARDWARE(VECTOR_UD), undefined[i].name);
    }
    if (tables) {
        real(r_sgdt, r_sgdt_end);
        vmx_set_proc2(PROC2_DESCRIPTOR_TABLE_EXITING);
        REAL(r_sgdt, EXIT_REASON_GDTR_IDTR_ACCESS, 0x7100,
             "real mode: SGDT exits with descriptor-table exiting");
        is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x30478380, 3u << 15 | 1u << 22,
           "  information: DS, no index, 16 bits");
        ok(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 1u << 27, "  and no base");
    } else {
        skip(3, "no descriptor-table exiting");
    }
    real(r_gp, r_gp_end);
    exception_is(HARDWARE(VECTOR_GP), "real mode: #GP exits without an error code");
    real(r_divide, r_divide_end);
    exception_is(HARDWARE(VECTOR_DE), "real mode: #DE exits");
    real(r_int, r_int_end);
    vmwrite(EXCEPTION_BITMAP, 0);
    uint64_t *stack = delivery_is(&v, 0x21, "real mode: INT goes through the IVT");
    is(*(uint16_t *)stack, 0x8002, "  and returns behind itself");
    real(r_ud, r_ud_end);
    vmwrite(EXCEPTION_BITMAP, 0);
    stack = delivery_is(&v, VECTOR_UD, "real mode: #UD goes through the IVT");
    is(*(uint16_t *)stack, 0x8000, "  and returns to the instruction");
    real(r_ud, r_ud_end);
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_DF);
    vmwrite(GUEST_IDTR_LIMIT, 3);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "real mode: vectors beyond IDTR's limit lead to #DF");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & ~(1ul << 12), HARDWARE(VECTOR_DF), "  without an error code");
    real(r_ud, r_ud_end);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmwrite(GUEST_IDTR_LIMIT, 3);
    exit_is(&v, EXIT_REASON_TRIPLE_FAULT, "  and then to a triple fault");
}

/* ---- 32-bit protected mode without paging: the code runs where it is linked ---- */

CODE(p_cpuid, 32, "", "cpuid");
CODE(p_vmptrld, 32, "mov $0x7000, %ebx", "vmptrld 0x10(%ebx)");
CODE(p_vmread, 32, "", "vmread %eax, %edx");
CODE(p_outsb16, 32, "mov $0x3f8, %edx; mov $0x7000, %esi", "addr16 outsb");
CODE(p_in_cr3, 32, "", "mov %cr3, %edi");
CODE(p_cli, 32, "", "hlt");

#define PROTECTED(code, reason, qualification, name) \
    expect(code, code##_at, code##_end, false, reason, qualification, name)

static void protected_guest(const uint8_t *code)
{
    guest_init_ept(&v, code);
    v.regs = (struct vmx_regs){0};
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_protected_mode();
}

static void protected_mode(void)
{
    protected_guest(p_cpuid);
    PROTECTED(p_cpuid, EXIT_REASON_CPUID, 0, "protected mode: CPUID");
    protected_guest(p_vmptrld);
    PROTECTED(p_vmptrld, EXIT_REASON_VMPTRLD, 0x10, "protected mode: VMPTRLD");
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x0fc38380, 3u << 23 | 1u << 22 | 3u << 15 | 1u << 7,
       "  information: EBX, DS, 32 bits");
    protected_guest(p_vmread);
    PROTECTED(p_vmread, EXIT_REASON_VMREAD, 0, "protected mode: VMREAD");
    protected_guest(p_outsb16);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    PROTECTED(p_outsb16, EXIT_REASON_IO_INSTRUCTION, 0x3f8u << 16 | 1u << 4,
              "protected mode: OUTSB with 16-bit addresses");
    is(vmread(GUEST_LINEAR_ADDRESS), 0x7000, "  its guest-linear address");
    protected_guest(p_in_cr3);
    vmx_set_proc(PROC_CR3_STORE_EXITING);
    PROTECTED(p_in_cr3, EXIT_REASON_CONTROL_REGISTER_ACCESS, 7u << 8 | 1u << 4 | 3,
              "protected mode: MOV from CR3 to EDI");
    protected_guest(p_cli);
    vmx_set_proc(PROC_HLT_EXITING);
    PROTECTED(p_cli, EXIT_REASON_HLT, 0, "protected mode: HLT");
}

/* ---- CPL 3 in 64-bit mode: the code is copied to USER_CODE ---- */

#define USER(name, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": " instruction "; vmcall; .popsection"); \
    extern const uint8_t name[]
USER(u_nop, "nop");
USER(u_cpuid, "cpuid");
USER(u_hlt, "hlt");
USER(u_invd, "invd");
USER(u_wbinvd, "wbinvd");
USER(u_invlpg, "invlpg (%rsp)");
USER(u_rdmsr, "rdmsr");
USER(u_rdtsc, "rdtsc");
USER(u_rdpmc, "rdpmc");
USER(u_from_cr3, "mov %cr3, %rax");
USER(u_to_cr8, "mov %rax, %cr8");
USER(u_clts, "clts");
USER(u_lmsw, "lmsw %ax");
USER(u_smsw, "smsw %eax");
USER(u_from_dr7, "mov %dr7, %rax");
USER(u_from_dr4, ".byte 0x0f, 0x21, 0xe0");
USER(u_in, "in $0x80, %al");
USER(u_pause, "pause");
USER(u_vmread, "vmread %rax, %rcx");
USER(u_vmxoff, "vmxoff");
USER(u_lgdt, "lgdt (%rsp)");
USER(u_sgdt, "sgdt (%rsp)");
USER(u_str, "str %eax");
USER(u_xsetbv, "xsetbv");
USER(u_monitor, "monitor");
USER(u_mwait, "mwait");
USER(u_invpcid, "invpcid (%rsp), %rax");
USER(u_lidt, "lidt (%rsp)");
USER(u_lldt, "lldt %ax");
USER(u_ltr, "ltr %ax");
USER(u_sidt, "sidt (%rsp)");
USER(u_sldt, "sldt %eax");
USER(u_rdseed, "rdseed %eax");
USER(u_rdtscp, "rdtscp");
USER(u_vmcall, "vmcall");
USER(u_rdrand, "rdrand %eax");
USER(u_int, "int $0x21");
USER(u_pauses, "mov $20000, %ecx; 1: pause; dec %ecx; jnz 1b");

static void user(const uint8_t *code)
{
    user_run((const void *)code, 0, 0); /* copies it there, and maps it */
    guest_init(&v, (const void *)USER_CODE);
    v.regs = (struct vmx_regs){0};
    vmwrite(GUEST_RSP, USER_STACK_TOP);
    vmwrite(GUEST_CS_SELECTOR, SEL_USER_CODE64);
    vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xa0fb);
    for (unsigned i = 0; i < 6; i++) {
        if (i == 1) continue;
        vmwrite(GUEST_ES_SELECTOR + 2 * i, SEL_USER_DATA);
        vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0xc0f3);
    }
}

static void user_mode(void)
{
    /* What happens with the control on. 0: exception `vector`; else the exit reason. */
    static const struct {
        const char *name;
        const uint8_t *code;
        uint32_t proc, proc2, reason, vector;
        uint64_t cr4, iopl;
    } rows[] = {
        {"CPUID exits", u_cpuid, 0, 0, EXIT_REASON_CPUID, 0, 0, 0},
        {"VMREAD exits before its CPL is looked at", u_vmread, 0, 0, EXIT_REASON_VMREAD, 0, 0, 0},
        {"VMXOFF exits before its CPL is looked at", u_vmxoff, 0, 0, EXIT_REASON_VMXOFF, 0, 0, 0},
        {"HLT: #GP before the exit", u_hlt, PROC_HLT_EXITING, 0, 0, VECTOR_GP, 0, 0},
        {"INVD: #GP before the exit", u_invd, 0, 0, 0, VECTOR_GP, 0, 0},
        {"WBINVD: #GP before the exit", u_wbinvd, 0, PROC2_WBINVD_EXITING, 0, VECTOR_GP, 0, 0},
        {"INVLPG: #GP before the exit", u_invlpg, PROC_INVLPG_EXITING, 0, 0, VECTOR_GP, 0, 0},
        {"RDMSR: #GP before the exit", u_rdmsr, 0, 0, 0, VECTOR_GP, 0, 0},
        {"RDTSC exits", u_rdtsc, PROC_RDTSC_EXITING, 0, EXIT_REASON_RDTSC, 0, 0, 0},
        {"RDTSC with CR4.TSD: #GP before the exit", u_rdtsc, PROC_RDTSC_EXITING, 0, 0, VECTOR_GP, CR4_TSD, 0},
        {"RDPMC with CR4.PCE=0: #GP before the exit", u_rdpmc, PROC_RDPMC_EXITING, 0, 0, VECTOR_GP, 0, 0},
        {"RDPMC with CR4.PCE=1 exits", u_rdpmc, PROC_RDPMC_EXITING, 0, EXIT_REASON_RDPMC, 0, CR4_PCE, 0},
        {"MOV from CR3: #GP before the exit", u_from_cr3, PROC_CR3_STORE_EXITING, 0, 0, VECTOR_GP, 0, 0},
        {"MOV to CR8: #GP before the exit", u_to_cr8, PROC_CR8_LOAD_EXITING, 0, 0, VECTOR_GP, 0, 0},
        {"CLTS: #GP", u_clts, 0, 0, 0, VECTOR_GP, 0, 0},
        {"LMSW: #GP", u_lmsw, 0, 0, 0, VECTOR_GP, 0, 0},
        {"SMSW runs", u_smsw, 0, 0, EXIT_REASON_VMCALL, 0, 0, 0},
        {"MOV from DR7 exits before its CPL is looked at", u_from_dr7, PROC_MOV_DR_EXITING, 0,
         EXIT_REASON_MOV_DR, 0, 0, 0},
        {"MOV from DR7 without the control: #GP", u_from_dr7, 0, 0, 0, VECTOR_GP, 0, 0},
        {"MOV from DR4 with CR4.DE exits before its #UD", u_from_dr4, PROC_MOV_DR_EXITING, 0,
         EXIT_REASON_MOV_DR, 0, CR4_DE, 0},
        {"IN that the TSS refuses: #GP before the exit", u_in, PROC_UNCONDITIONAL_IO_EXITING, 0, 0, VECTOR_GP,
         0, 0},
        {"IN with IOPL 3 exits", u_in, PROC_UNCONDITIONAL_IO_EXITING, 0, EXIT_REASON_IO_INSTRUCTION, 0, 0,
         RFLAGS_IOPL3},
        {"PAUSE exits", u_pause, PROC_PAUSE_EXITING, 0, EXIT_REASON_PAUSE, 0, 0, 0},
        {"LGDT: #GP before the exit", u_lgdt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP, 0, 0},
        {"SGDT exits", u_sgdt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR_ACCESS, 0, 0, 0},
        {"STR exits", u_str, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR_ACCESS, 0, 0, 0},
        {"SGDT with UMIP: #GP before the exit", u_sgdt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP,
         CR4_UMIP, 0},
        {"XSETBV: #GP before the exit", u_xsetbv, 0, 0, 0, VECTOR_GP, CR4_OSXSAVE, 0},
        {"MONITOR: #UD before the exit", u_monitor, PROC_MONITOR_EXITING, 0, 0, VECTOR_UD, 0, 0},
        {"MWAIT: #UD before the exit", u_mwait, PROC_MWAIT_EXITING, 0, 0, VECTOR_UD, 0, 0},
        {"INVPCID not enabled: #UD, not #GP", u_invpcid, PROC_INVLPG_EXITING, 0, 0, VECTOR_UD, 0, 0},
        {"INVPCID: #GP before the exit", u_invpcid, PROC_INVLPG_EXITING, PROC2_ENABLE_INVPCID, 0, VECTOR_GP,
         0, 0},
        {"LIDT: #GP before the exit", u_lidt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP, 0, 0},
        {"LLDT: #GP before the exit", u_lldt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP, 0, 0},
        {"LTR: #GP before the exit", u_ltr, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP, 0, 0},
        {"SIDT with UMIP: #GP before the exit", u_sidt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP,
         CR4_UMIP, 0},
        {"SLDT with UMIP: #GP before the exit", u_sldt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP,
         CR4_UMIP, 0},
        {"STR with UMIP: #GP before the exit", u_str, 0, PROC2_DESCRIPTOR_TABLE_EXITING, 0, VECTOR_GP,
         CR4_UMIP, 0},
        {"SMSW with UMIP: #GP", u_smsw, 0, 0, 0, VECTOR_GP, CR4_UMIP, 0},
        {"RDSEED exits", u_rdseed, 0, PROC2_RDSEED_EXITING, EXIT_REASON_RDSEED, 0, 0, 0},
        {"RDTSCP exits", u_rdtscp, PROC_RDTSC_EXITING, PROC2_ENABLE_RDTSCP, EXIT_REASON_RDTSCP, 0, 0, 0},
        {"RDTSCP with CR4.TSD: #GP before the exit", u_rdtscp, PROC_RDTSC_EXITING, PROC2_ENABLE_RDTSCP, 0,
         VECTOR_GP, CR4_TSD, 0},
        {"VMCALL exits", u_vmcall, 0, 0, EXIT_REASON_VMCALL, 0, 0, 0},
        {"RDRAND exits", u_rdrand, 0, PROC2_RDRAND_EXITING, EXIT_REASON_RDRAND, 0, 0, 0},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        user(rows[i].code);
        uint64_t possible = rdmsr(IA32_VMX_CR4_FIXED1);
        if ((rows[i].cr4 & ~possible) || (rows[i].proc2 && !vmx_has_secondary(rows[i].proc2)) ||
            (rows[i].proc2 == PROC2_RDRAND_EXITING && !(cpuid(1, 0).ecx & 1u << 30)) ||
            (rows[i].proc2 == PROC2_RDSEED_EXITING && !(cpuid_if_present(7, 0).ebx & 1u << 18)) ||
            (rows[i].code == u_mwait && !(cpuid(1, 0).ecx & 1u << 3))) {
            skip_one(rows[i].name, "not offered by this processor");
            continue;
        }
        if (rows[i].proc) vmx_set_proc(rows[i].proc);
        if (rows[i].proc2) vmx_set_proc2(rows[i].proc2);
        vmwrite(GUEST_CR4, vmread(GUEST_CR4) | rows[i].cr4);
        vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | rows[i].iopl);
        struct vmx_exit e = vmx_run(&v);
        uint64_t event = vmread(EXITING_EVENT_IDENTIFICATION), rip = vmread(GUEST_RIP);
        uint64_t want = HARDWARE(rows[i].vector) | (rows[i].vector == VECTOR_GP ? EVENT_ERROR_CODE : 0);
        bool good = e.status == VMX_SUCCEED && e.reason == rows[i].reason &&
                    (rows[i].reason || (event == want && rip == USER_CODE));
        if (!ok(good, "CPL 3: %s", rows[i].name))
            tap_note("  status %d, error %u, reason %u (want %u), event %lx, rip %lx", (int)e.status, e.error,
                     e.reason, rows[i].reason, event, rip);
    }
    user(u_int);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "CPL 3: INT through a gate of DPL 0: #GP");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0x21 * 8 + 2, "  its error code: the IDT entry");
    user(u_nop);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40);
    uint64_t *stack = delivery_is(&v, 0x40, "CPL 3: an injected interrupt switches to CPL 0");
    is(stack[0], USER_CODE, "  RIP in the frame");
    is(stack[1], SEL_USER_CODE64, "  CS in the frame");
    is(stack[3], USER_STACK_TOP, "  RSP in the frame");
    is(stack[4], SEL_USER_DATA, "  SS in the frame");
    is((uint64_t)(stack + 5), rt_tss.rsp[0], "  on the stack of the TSS");
    is(vmread(GUEST_SS_SELECTOR), 0, "  with a NULL SS");
}

/* ---- PAUSE-loop exiting ---- */

asm(".pushsection .text; .balign 16; pause_loop: mov $2000000, %ecx; pause_loop_at: pause; dec %ecx; jnz "
    "pause_loop_at; vmcall;"
    "pause_rarely: mov $20, %ecx; 1: pause; mov $2000, %edx; 2: dec %edx; jnz 2b; dec %ecx; jnz 1b; vmcall; "
    ".popsection");
extern const uint8_t pause_loop[], pause_loop_at[], pause_rarely[];

static void pause_loops(void)
{
    if (!vmx_has_secondary(PROC2_PAUSE_LOOP_EXITING)) {
        skip(5, "no PAUSE-loop exiting");
        return;
    }
    guest_init(&v, pause_loop);
    vmx_set_proc2(PROC2_PAUSE_LOOP_EXITING);
    vmwrite(PLE_GAP, 500);
    vmwrite(PLE_WINDOW, 5000);
    exit_is(&v, EXIT_REASON_PAUSE, "a tight loop of PAUSEs exits");
    is(vmread(GUEST_RIP), (uint64_t)pause_loop_at, "  at the PAUSE");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2, "  with its length");
    guest_init(&v, pause_rarely);
    vmx_set_proc2(PROC2_PAUSE_LOOP_EXITING);
    vmwrite(PLE_GAP, 500);
    vmwrite(PLE_WINDOW, 5000);
    done(&v, "PAUSEs farther apart than the gap do not");
    user(u_pauses);
    vmx_set_proc2(PROC2_PAUSE_LOOP_EXITING);
    vmwrite(PLE_GAP, 500);
    vmwrite(PLE_WINDOW, 5000);
    done(&v, "SDM 28.1.3: nor does a tight loop of PAUSEs at CPL 3");
}

int rom_main(void)
{
    if (!vmx_test_begin("VM exits outside 64-bit mode")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST)) {
        real_mode();
        protected_mode();
    } else {
        skip(1, "no unrestricted guest");
    }
    user_mode();
    pause_loops();
    return tap_end();
}

/*
 * VM exits: a guest that does nothing but exit, and the smallest hypervisor that lets it go on. 200,000 exits
 * each; the checksum is computed by the guest from what the hypervisor answers.
 */
#include "bench.h"
#include "vmx.h"

#define EXITS 200000

/* Each loop: RDI counts down, RBX is the checksum; the answer comes in EAX. Ends with VMCALL. */
#define GUEST(name, prepare, exiting) \
    asm(".pushsection .text; .balign 16; " #name ": xor %ebx, %ebx; " prepare " 1: " exiting \
        "; imul $0x01000193, %rbx, %rbx; xor %rax, %rbx; dec %rdi; jnz 1b; vmcall; .popsection"); \
    extern const uint8_t name[]
GUEST(exit_cpuid_guest, "", "mov $0x40000000, %eax; mov %rbx, %r8; cpuid; mov %r8, %rbx");
GUEST(exit_io_guest, "mov $0x80, %edx;", "in %dx, %eax");
/* 70000000h is guest-physical memory that EPT does not map. */
GUEST(exit_ept_guest, "mov $0x70000000, %esi;", "mov (%rsi), %eax");
GUEST(exit_vmcall_guest, "", "mov $1, %eax; vmcall");
#define EXIT_EPT_LENGTH 2 /* of MOV EAX, [RSI]: an EPT violation does not report it */

static const char *unable(void)
{
    const char *why;
    if (!vmx_available(&why)) return why;
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) return "no EPT";
    return NULL;
}

static uint64_t run_guest(const uint8_t *code, unsigned count, uint32_t reason)
{
    static struct vmx_vcpu v;
    static uint64_t ept;
    static uint8_t stack[4096] __attribute__((aligned(16)));
    if (!vmx_on()) return 0;
    vmx_vcpu_init(&v, (uint64_t)code, (uint64_t)(stack + sizeof(stack) - 64));
    if (!ept) {
        ept = ept_new();
        for (uint64_t at = 0; at < 64 << 20; at += 2 << 20) ept_map_large(ept, at, at, EPT_RWX);
    }
    vmwrite(EPTP, ept_pointer(ept));
    vmx_set_proc2(PROC2_ENABLE_EPT);
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    v.regs.gpr[RDI] = count;
    uint32_t answer = 1;
    uint64_t exits = 0;
    for (;;) {
        struct vmx_exit e = vmx_run(&v);
        if (e.status != VMX_SUCCEED || e.reason != reason) {
            /* The VMCALL at the end; where VMCALL is what is measured, the count says so. */
            if (e.status == VMX_SUCCEED && e.reason == EXIT_REASON_VMCALL) break;
            panic("status %d, error %u, exit reason %u", (int)e.status, e.error, e.reason);
        }
        if (reason == EXIT_REASON_VMCALL && exits == count) break;
        exits++;
        v.regs.gpr[RAX] = answer = answer * 1664525 + 1013904223;
        if (reason == EXIT_REASON_EPT_VIOLATION)
            vmwrite(GUEST_RIP, vmread(GUEST_RIP) + EXIT_EPT_LENGTH);
        else
            vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LENGTH));
    }
    uint64_t sum = bench_mix(v.regs.gpr[RBX], exits);
    vmx_off();
    return sum;
}

static uint64_t cpuid_run(unsigned scale)
{
    return run_guest(exit_cpuid_guest, EXITS * scale, EXIT_REASON_CPUID);
}
static uint64_t io_run(unsigned scale)
{
    return run_guest(exit_io_guest, EXITS * scale, EXIT_REASON_IO_INSTRUCTION);
}
static uint64_t ept_run(unsigned scale)
{
    return run_guest(exit_ept_guest, EXITS * scale, EXIT_REASON_EPT_VIOLATION);
}
static uint64_t vmcall_run(unsigned scale)
{
    return run_guest(exit_vmcall_guest, EXITS * scale, EXIT_REASON_VMCALL);
}

const struct workload bench_exits[] = {
    {"exit-cpuid", "200,000 VM exits by CPUID", NULL, cpuid_run, unable},
    {"exit-io", "200,000 VM exits by IN", NULL, io_run, unable},
    {"exit-ept", "200,000 VM exits by EPT violation", NULL, ept_run, unable},
    {"exit-vmcall", "200,000 VM exits by VMCALL", NULL, vmcall_run, unable},
    {0},
};

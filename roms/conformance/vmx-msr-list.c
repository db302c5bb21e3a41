/*
 * RDMSRLIST, WRMSRLIST and WRMSRNS: what they do, and in VMX non-root operation the control "enable MSR-list
 * instructions", the MSR bitmaps, the exits with their qualification, the MSR-data field (SDM volume
 * 2; 28.1.3, 28.3, 30.2.1, 30.2.5).
 *
 * Bochs 2.7 has none of the three; every point is skipped there.
 */
#include "vmx-common.h"

#define WRMSRNS               ".byte 0x0f, 0x01, 0xc6"
#define RDMSRLIST             ".byte 0xf2, 0x0f, 0x01, 0xc6"
#define WRMSRLIST             ".byte 0xf3, 0x0f, 0x01, 0xc6"

#define IA32_LSTAR            0xc0000082
#define IA32_KERNEL_GS_BASE   0xc0000102
#define EXIT_WRMSR_NS         1
#define EXIT_REASON_RDMSRLIST 78
#define EXIT_REASON_WRMSRLIST 79
#define MSR_DATA_FIELD        0x2402

static struct vmx_vcpu v;
static uint64_t *list, *values;
static uint8_t *bitmaps;

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
CODE(g_read, RDMSRLIST);
CODE(g_write, WRMSRLIST);
CODE(g_ns, WRMSRNS);
/* For trap_catch(code, list, values): RDI and RSI are its arguments, RCX is what the list's first word says.
 */
PROBE(p_read, "xchg %rdi, %rsi; mov $0x8000000000000005, %rcx; " RDMSRLIST "; mov %rcx, %rax");
PROBE(p_write, "xchg %rdi, %rsi; mov $0x8000000000000005, %rcx; " WRMSRLIST "; mov %rcx, %rax");
PROBE(p_ns, "mov %rdi, %rcx; mov %rsi, %rax; mov %rsi, %rdx; shr $32, %rdx; " WRMSRNS);

static void fill(uint64_t a, uint64_t b, uint64_t c)
{
    for (unsigned i = 0; i < 64; i++) list[i] = ~0ul, values[i] = 0xeeee;
    list[0] = a;
    list[2] = b;
    list[63] = c;
}

static void outside(void)
{
    uint64_t gs = rdmsr(IA32_KERNEL_GS_BASE);
    wrmsr(IA32_KERNEL_GS_BASE, 0x12345000);
    fill(IA32_SYSENTER_CS, IA32_KERNEL_GS_BASE, IA32_SYSENTER_EIP);
    wrmsr(IA32_SYSENTER_CS, 0x77);
    wrmsr(IA32_SYSENTER_EIP, 0x5678);
    struct trap t = trap_catch(p_read, (uint64_t)list, (uint64_t)values);
    is(t.vector, TRAP_NONE, "RDMSRLIST of entries 0, 2 and 63");
    is(t.rax, 0, "  clears the bits of RCX");
    is(values[0], 0x77, "  reads the first");
    is(values[2], 0x12345000, "  the second");
    is(values[63], 0x5678, "  the last");
    is(values[1], 0xeeee, "  and no others");
    values[0] = 0x78;
    values[2] = 0x23456000;
    values[63] = 0x6789;
    t = trap_catch(p_write, (uint64_t)list, (uint64_t)values);
    is(t.vector, TRAP_NONE, "WRMSRLIST of entries 0, 2 and 63");
    is(t.rax, 0, "  clears the bits of RCX");
    is(rdmsr(IA32_SYSENTER_CS), 0x78, "  writes the first");
    is(rdmsr(IA32_KERNEL_GS_BASE), 0x23456000, "  the second");
    is(rdmsr(IA32_SYSENTER_EIP), 0x6789, "  the last");

    list[2] = 1ul << 32 | IA32_KERNEL_GS_BASE;
    values[0] = 0x79;
    t = trap_catch(p_write, (uint64_t)list, (uint64_t)values);
    is(t.vector, VECTOR_GP, "WRMSRLIST with a reserved bit in the second entry: #GP(0)");
    is(t.rcx, 0x8000000000000004, "  what is not done stays in RCX");
    is(rdmsr(IA32_SYSENTER_CS), 0x79, "  the first is done");
    is(rdmsr(IA32_SYSENTER_EIP), 0x6789, "  the last is not");
    list[2] = 0x4b564d00;
    t = trap_catch(p_read, (uint64_t)list, (uint64_t)values);
    is(t.vector, VECTOR_GP, "RDMSRLIST of an MSR that is not there: #GP(0)");
    is(t.rcx, 0x8000000000000004, "  what is not done stays in RCX");
    t = trap_catch(p_read, (uint64_t)list + 4, (uint64_t)values);
    is(t.vector, VECTOR_GP, "RDMSRLIST with RSI not aligned: #GP(0)");
    t = trap_catch(p_write, (uint64_t)list, (uint64_t)values + 1);
    is(t.vector, VECTOR_GP, "WRMSRLIST with RDI not aligned: #GP(0)");
    is(t.rcx, 0x8000000000000005, "  and nothing done");
    wrmsr(IA32_KERNEL_GS_BASE, gs);
}

static void start(const void *code, uint64_t which)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RSI] = (uint64_t)list;
    v.regs.gpr[RDI] = (uint64_t)values;
    v.regs.gpr[RCX] = which;
    memset(bitmaps, 0, 4096);
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)bitmaps);
    vmx_set_proc3(PROC3_ENABLE_MSR_LIST_INSTRUCTIONS);
}

static void set_bit(bool write, uint32_t msr)
{
    uint32_t low = msr & 0x1fff;
    bitmaps[(write ? 0x800 : 0) + (msr >> 31 ? 0x400 : 0) + low / 8] |= (uint8_t)(1 << low % 8);
}

static void in_a_guest(bool write)
{
    const void *code = write ? g_write : g_read;
    const char *name = write ? "WRMSRLIST" : "RDMSRLIST";
    uint32_t reason = write ? EXIT_REASON_WRMSRLIST : EXIT_REASON_RDMSRLIST;
    wrmsr(IA32_KERNEL_GS_BASE, 0x12345000);
    wrmsr(IA32_LSTAR, 0x1000);
    fill(IA32_KERNEL_GS_BASE, IA32_LSTAR, IA32_SYSENTER_CS);
    values[0] = 0x4000;
    values[2] = 0x5000;
    start(code, 5);
    tap_note("%s in a guest", name);
    done(&v, "enabled, no bit of the bitmaps: it runs");
    is(write ? rdmsr(IA32_LSTAR) : values[2], write ? 0x5000 : 0x1000, "  to the end");
    is(v.regs.gpr[RCX], 0, "  RCX");

    wrmsr(IA32_LSTAR, 0x1000);
    values[2] = 0x5000;
    start(code, 5);
    set_bit(write, IA32_LSTAR);
    struct vmx_exit e = exit_is(&v, reason, "an MSR whose bit is 1: the exit");
    is(e.qualification, IA32_LSTAR, "  the qualification names it");
    is(v.regs.gpr[RCX], 4, "  its bit stays in RCX, those of the ones before are gone");
    is(rdmsr(IA32_LSTAR), 0x1000, "  it is not written");
    is(values[2], 0x5000, "  nor is memory");
    if (write)
        is(vmread(MSR_DATA_FIELD), 0x5000, "  the data are in the MSR-data field");
    else
        skip(1, "no data without a write");
    start(code, 5);
    set_bit(!write, IA32_LSTAR);
    done(&v, "the other bitmap does not matter");

    static const uint32_t beyond[] = {0x2000, 0x80000174, 0xc0002000};
    unsigned exits = 0;
    for (unsigned i = 0; i < 3; i++) {
        list[0] = beyond[i];
        start(code, 1);
        e = vmx_run(&v);
        exits += e.reason == reason && e.qualification == beyond[i];
    }
    is(exits, 3, "MSRs without a bit exit always");
    list[0] = 1ul << 32 | IA32_LSTAR;
    start(code, 1);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "a reserved bit of an entry");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP, "  is #GP");

    list[0] = IA32_LSTAR;
    start(code, 1);
    vmx_clear_proc(PROC_USE_MSR_BITMAPS);
    v.regs.gpr[RSI] = 1; /* not looked at */
    e = exit_is(&v, reason, "without use MSR bitmaps: the exit, before all else");
    is(e.qualification, 0, "  qualification 0");
    is(v.regs.gpr[RCX], 1, "  RCX as it was");

    start(code, 1);
    vmwrite(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, 0);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "not enabled");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_UD, "  is #UD");
}

static void wrmsrns(void)
{
    if (!(cpuid(7, 1).eax & 1u << 19)) {
        skip(5, "no WRMSRNS");
        return;
    }
    struct trap t = trap_catch(p_ns, IA32_SYSENTER_CS, 0x66);
    is(t.vector, TRAP_NONE, "WRMSRNS");
    is(rdmsr(IA32_SYSENTER_CS), 0x66, "  writes");
    t = trap_catch(p_ns, 0x4b564d00, 0);
    is(t.vector, VECTOR_GP, "  an MSR that is not there: #GP(0)");
    guest_init(&v, g_ns);
    v.regs.gpr[RCX] = IA32_SYSENTER_CS;
    struct vmx_exit e = exit_is(&v, EXIT_REASON_WRMSR, "WRMSRNS in a guest exits as WRMSR");
    is(e.qualification, EXIT_WRMSR_NS, "  with qualification 1");
}

int rom_main(void)
{
    if (!vmx_test_begin("lists of MSRs, WRMSRNS")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    list = page_alloc(1);
    values = page_alloc(1);
    bitmaps = page_alloc(1);
    bool lists = cpuid(7, 0).eax >= 1 && (cpuid(7, 1).eax & 1u << 27);
    if (cpuid(7, 0).eax >= 1)
        wrmsrns();
    else
        skip(5, "no WRMSRNS");
    if (lists)
        outside();
    else
        skip(20, "no RDMSRLIST and WRMSRLIST");
    for (unsigned write = 0; write < 2; write++) {
        if (lists && vmx_has_tertiary(PROC3_ENABLE_MSR_LIST_INSTRUCTIONS))
            in_a_guest(write);
        else
            skip(18, "no enable MSR-list instructions");
    }
    return tap_end();
}

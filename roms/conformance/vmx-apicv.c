/*
 * APIC virtualization (SDM chapter 32): the APIC-access page offset by offset, for each size and kind of
 * access; the virtual-APIC page by MSRs; TPR, PPR, EOI and self-IPI virtualization; delivery of virtual
 * interrupts; posted interrupts.
 *
 * The APIC-access page is mapped by 4-KByte EPT entries (SDM 32.4.5), so all of this needs EPT.
 *
 * Where the manual leaves room nothing is asked: accesses of registers that are not general ones (below 64
 * bits), CLFLUSH, MONITOR, the page offset of guest-physical accesses.
 *
 * Bochs 2.7 has no posted interrupts. It fails at: reads of 0B0h with virtual-interrupt delivery alone (SDM
 * 32.4.2: virtualized), writes of 0B1h, 0B2h and the like there (SDM 32.4.3.1 names the offset 0B0h alone:
 * they exit at the access), the access type of a paging structure in the APIC-access page (SDM table 30-6:
 * 15). It panics when an instruction is fetched from the page, and never ends a HLT by a virtual interrupt
 * (SDM 32.2.2): both come last.
 *
 * Missing: user interrupts. The timer is in vmx-apic-timer.c, several processors in vmx-posting.c.
 */
#include "vmx-common.h"
#include "apic.h"

/* A guest program and where it ends: a VMCALL. */
#define CODE(name, instructions) \
    asm(".pushsection .text; .balign 16; " #name ": " instructions "; " #name "_end: vmcall; .popsection"); \
    extern const uint8_t name[], name##_end[]

/* RDI: the address. */
CODE(i_read1, "movb (%rdi), %al");
CODE(i_read2, "movw (%rdi), %ax");
CODE(i_read4, "movl (%rdi), %eax");
CODE(i_read8, "movq (%rdi), %rax");
CODE(i_write1, "movb %al, (%rdi)");
CODE(i_write2, "movw %ax, (%rdi)");
CODE(i_write4, "movl %eax, (%rdi)");
CODE(i_write8, "movq %rax, (%rdi)");
CODE(i_read16, "movups (%rdi), %xmm0");
CODE(i_write16, "movups %xmm0, (%rdi)");
CODE(i_jump, "jmp *%rdi");
CODE(i_and, "andl %eax, (%rdi)");
CODE(i_xchg, "xchg %eax, (%rdi)");
CODE(i_cmpxchg8b, "lock cmpxchg8b (%rdi)");
CODE(i_push, "mov %rdi, %rsp; push %rax");
CODE(i_int, "mov %rdi, %rsp; int $0x33");
CODE(i_ud, "mov %rdi, %rsp; ud2");
CODE(i_stos, "rep stosl");
CODE(i_prefetch, "prefetcht0 (%rdi)");
CODE(i_cr8, "mov %rax, %cr8; mov %cr8, %rbx");
CODE(i_rdmsr, "rdmsr");
CODE(i_wrmsr, "wrmsr");
CODE(i_nop, "nop; nop");
CODE(i_write_nop, "movl %eax, (%rdi); nop; nop");
CODE(i_sti, "nop; sti; nop; nop");
CODE(i_hlt, "sti; hlt");

static struct vmx_vcpu v;
static uint8_t *page;  /* APIC-access */
static uint8_t *vapic; /* virtual-APIC */
static uint64_t stack;

#define ACCESSES  PROC2_VIRTUALIZE_APIC_ACCESSES
#define X2APIC    PROC2_VIRTUALIZE_X2APIC_MODE
#define REGISTERS PROC2_APIC_REGISTER_VIRTUALIZATION
#define DELIVERY  PROC2_VIRTUAL_INTERRUPT_DELIVERY

static uint32_t get(unsigned offset) { return *(volatile uint32_t *)(vapic + offset); }
static void put(unsigned offset, uint32_t x) { *(volatile uint32_t *)(vapic + offset) = x; }

/* A guest with these controls; false if they are not offered. */
static bool scene(bool shadow, uint32_t secondary)
{
    if (!vmx_has_secondary(PROC2_ENABLE_EPT) || !vmx_has_secondary(secondary)) return false;
    if (shadow && !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) return false;
    guest_init_ept(&v, i_nop);
    stack = vmread(GUEST_RSP);
    if (shadow) {
        vmx_set_proc(PROC_USE_TPR_SHADOW);
        vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)vapic);
        vmwrite(TPR_THRESHOLD, 0);
    }
    if (secondary) vmx_set_proc2(secondary);
    if (secondary & ACCESSES) vmwrite(APIC_ACCESS_ADDRESS, (uint64_t)page);
    if (secondary & DELIVERY) {
        vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
        vmwrite(GUEST_INTERRUPT_STATUS, 0);
        for (unsigned i = 0; i < 4; i++) vmwrite(EOI_EXIT0 + 2 * i, 0);
    }
    memset(vapic, 0, 4096);
    v.regs = (struct vmx_regs){0};
    return true;
}

static void at(const uint8_t *code)
{
    vmwrite(GUEST_RIP, (uint64_t)code);
    vmwrite(GUEST_RSP, stack);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
    vmwrite(GUEST_ACTIVITY_STATE, 0);
}

/* Runs `code` on an offset of the APIC-access page and expects this exit, with this qualification if the
   reason has one here, and RIP where it must be. */
static void expect(const uint8_t *code, unsigned offset, uint32_t reason, uint64_t qualification,
                   const uint8_t *rip, const char *name)
{
    at(code);
    v.regs.gpr[RDI] = (uint64_t)page + offset;
    struct vmx_exit e = vmx_run(&v);
    bool good = e.status == VMX_SUCCEED && e.reason == reason && e.qualification == qualification &&
                (!rip || vmread(GUEST_RIP) == (uint64_t)rip);
    if (!ok(good, "%s", name))
        tap_note("  status %d, error %u, reason %u (want %u), qualification %lx (want %lx), rip off by %ld",
                 (int)e.status, e.error, e.reason, reason, e.qualification, qualification,
                 rip ? (int64_t)(vmread(GUEST_RIP) - (uint64_t)rip) : 0);
}

/* ---- offset by offset (SDM 32.4.2, 32.4.3.1) ---- */

static const uint16_t readable[] = {
    0x020, 0x030, 0x080, 0x0b0, 0x0d0, 0x0e0, 0x0f0, 0x100, 0x110, 0x120, 0x130, 0x140, 0x150, 0x160,
    0x170, 0x180, 0x190, 0x1a0, 0x1b0, 0x1c0, 0x1d0, 0x1e0, 0x1f0, 0x200, 0x210, 0x220, 0x230, 0x240,
    0x250, 0x260, 0x270, 0x280, 0x300, 0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0};
static const uint16_t writable[] = {0x020, 0x080, 0x0b0, 0x0d0, 0x0e0, 0x0f0, 0x280, 0x300, 0x310,
                                    0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0};

static bool virtualized(bool shadow, uint32_t secondary, unsigned offset, unsigned size, bool write)
{
    if (!shadow || size > 4 || offset & 0xc || (offset + size - 1) & 0xc) return false;
    if (offset == 0x080) return true;
    if (secondary & DELIVERY && (offset == 0x0b0 || offset == 0x300)) return true;
    if (!(secondary & REGISTERS)) return false;
    const uint16_t *list = write ? writable : readable;
    unsigned n = write ? sizeof(writable) / 2 : sizeof(readable) / 2;
    for (unsigned i = 0; i < n; i++)
        if (offset >= list[i] && offset + size <= list[i] + 4u) return true;
    return false;
}

static const char *wrong; /* what the latest access did that it should not have */

static bool right(uint32_t secondary, unsigned offset, unsigned size, bool write, bool is_virtual,
                  const uint8_t *code, const uint8_t *end)
{
    uint32_t before = get(offset & 0xffc), mask = size >= 4 ? ~0u : (1u << 8 * size) - 1;
    v.regs.gpr[RAX] = write ? 0x00f0b1b2 : 0x5555555555555555;
    struct vmx_exit e = vmx_run(&v);
    wrong = "the entry";
    if (e.status != VMX_SUCCEED) return false;
    wrong = "RIP";
    if (vmread(GUEST_RIP) != (uint64_t)(is_virtual ? end : code)) return false;
    wrong = "the exit";
    if (!is_virtual) {
        if (e.reason != EXIT_REASON_APIC_ACCESS || e.qualification != (offset | (write ? 0x1000u : 0)))
            return false;
        wrong = "what the virtual-APIC page holds";
        return get(offset & 0xffc) == before;
    }
    if (!write) {
        uint32_t want = before >> 8 * (offset & 3);
        if (e.reason != EXIT_REASON_VMCALL) return false;
        wrong = "what was read";
        return (uint32_t)((v.regs.gpr[RAX] ^ want) & mask) == 0;
    }
    bool quiet = offset == 0x080 || (offset & 0xffc) == 0x310 || (secondary & DELIVERY && offset == 0x0b0);
    if (quiet ? e.reason != EXIT_REASON_VMCALL
              : e.reason != EXIT_REASON_APIC_WRITE || e.qualification != offset)
        return false;
    wrong = "what the virtual-APIC page holds";
    if (offset == 0x080) return get(0x080) == 0xb2;
    if (secondary & DELIVERY && offset == 0x0b0) return get(0x0b0) == 0;
    if ((offset & 0xffc) == 0x310) return (get(0x310) & 0xffffff) == 0;
    return (uint32_t)(((get(offset & 0xffc) >> 8 * (offset & 3)) ^ 0x00f0b1b2) & mask) == 0;
}

static void offsets(bool shadow, uint32_t secondary, const char *controls)
{
    static const uint8_t *const code[2][4] = {{i_read1, i_read2, i_read4, i_read8},
                                              {i_write1, i_write2, i_write4, i_write8}};
    static const uint8_t *const end[2][4] = {{i_read1_end, i_read2_end, i_read4_end, i_read8_end},
                                             {i_write1_end, i_write2_end, i_write4_end, i_write8_end}};
    for (unsigned write = 0; write < 2; write++)
        for (unsigned k = 0; k < 4; k++) {
            unsigned size = 1u << k, bad = 0;
            const char *what = write ? "SDM 32.4.3.1: writes" : "SDM 32.4.2: reads";
            if (!scene(shadow, secondary | ACCESSES)) {
                skip(1, "the controls are not offered");
                continue;
            }
            for (unsigned offset = 0; offset + size <= 4096; offset += offset < 0x400 ? 1 : 0x3d) {
                put(offset & 0xffc, 0xa1c2e384);
                at(code[write][k]);
                v.regs.gpr[RDI] = (uint64_t)page + offset;
                if (offset <= 0xa3 && offset + size > 0xa0 && secondary & DELIVERY) continue; /* VPPR moves */
                if (right(secondary, offset, size, write, virtualized(shadow, secondary, offset, size, write),
                          code[write][k], end[write][k]))
                    continue;
                if (!bad++)
                    tap_note("  %x: not right is %s (reason %lu, qualification %lx)", offset, wrong,
                             vmread(EXIT_REASON), vmread(EXIT_QUALIFICATION));
            }
            ok(bad == 0, "%s of %u bytes at every offset, %s", what, size, controls);
        }
}

/* ---- kinds of access ---- */

static void kinds(void)
{
    if (!scene(true, ACCESSES)) {
        skip(14, "no virtualization of APIC accesses");
        return;
    }
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_OSFXSR);
    expect(i_read16, 0x80, EXIT_REASON_APIC_ACCESS, 0x0080, i_read16, "SDM 32.4.2: a read of 128 bits exits");
    expect(i_write16, 0x80, EXIT_REASON_APIC_ACCESS, 0x1080, i_write16,
           "SDM 32.4.3.1: a write of 128 bits exits");
    expect(i_read4, 0xffe, EXIT_REASON_APIC_ACCESS, 0x0ffe, i_read4, "a read that leaves the page exits");
    put(0x80, 0x77);
    v.regs.gpr[RAX] = 0x0f;
    expect(i_and, 0x080, EXIT_REASON_VMCALL, 0, i_and_end, "AND of the TPR is virtualized");
    is(get(0x80), 0x07, "  and done in the virtual-APIC page");
    v.regs.gpr[RAX] = 0xffffff30;
    expect(i_xchg, 0x080, EXIT_REASON_VMCALL, 0, i_xchg_end, "XCHG with the TPR");
    is(get(0x80), 0x30, "SDM 32.4.3.2:  and bytes 3:1 of VTPR are cleared behind it");
    expect(i_and, 0x0a0, EXIT_REASON_APIC_ACCESS, 0x00a0, i_and, "AND of another register exits at its read");
    expect(i_cmpxchg8b, 0x080, EXIT_REASON_APIC_ACCESS, 0x0080, i_cmpxchg8b, "CMPXCHG8B exits at its read");
    expect(i_push, 0x088, EXIT_REASON_APIC_ACCESS, 0x1080, NULL, "PUSH of 64 bits exits");
    expect(i_prefetch, 0x090, EXIT_REASON_VMCALL, 0, i_prefetch_end, "SDM 32.4.4: PREFETCH does not exit");
    vmwrite(EXCEPTION_BITMAP, 0);
    expect(i_int, 0x400, EXIT_REASON_APIC_ACCESS, 0x33f8, NULL,
           "the push of an event's delivery exits as type 3");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION), EVENT_VALID | 4u << 8 | 0x33, "  with the event");
    expect(i_ud, 0x400, EXIT_REASON_APIC_ACCESS, 0x33f8, NULL, "  also of a fault");
}

static void registers(void)
{
    if (!scene(true, ACCESSES | REGISTERS)) {
        skip(5, "no APIC-register virtualization");
        return;
    }
    v.regs.gpr[RCX] = 3;
    v.regs.gpr[RAX] = 0x0b;
    expect(i_stos, 0x3e0, EXIT_REASON_APIC_WRITE, 0x3e0, i_stos,
           "SDM 32.4.3.2: an iteration of REP STOS is an operation");
    is(v.regs.gpr[RCX], 2, "  of which there was one");
    v.regs.gpr[RAX] = 0;
    expect(i_and, 0x100, EXIT_REASON_APIC_ACCESS, 0x1100, i_and,
           "AND of what can only be read exits at its write");
    v.regs.gpr[RAX] = 0x12345678;
    expect(i_write4, 0x310, EXIT_REASON_VMCALL, 0, i_write4_end,
           "SDM 32.4.3.2: a write of ICR_HI does not exit");
    is(get(0x310), 0x12000000, "  and leaves byte 3 alone");
}

static void priority(void)
{
    if (!scene(true, ACCESSES)) {
        skip(8, "no virtualization of APIC accesses");
        return;
    }
    uint64_t *leaf = ept_entry(v.ept, (uint64_t)page, 1);
    uint64_t all = *leaf;
    *leaf = all & ~EPT_W;
    expect(i_read4, 0x90, EXIT_REASON_APIC_ACCESS, 0x90, i_read4,
           "a page that EPT makes read-only: a read exits");
    at(i_write4);
    exit_is(&v, EXIT_REASON_EPT_VIOLATION, "SDM 32.4.1: a write is an EPT violation first");
    *leaf = 0;
    invept(2, 0);
    at(i_read4);
    exit_is(&v, EXIT_REASON_EPT_VIOLATION, "SDM 32.4.1: so is a read of one that is not there");
    *leaf = all;

    /* A page table of ours in the APIC-access page: the walk's accesses are guest-physical. */
    if (!scene(true, ACCESSES)) return;
    uint64_t *top = (uint64_t *)(read_cr3() & ~0xffful);
    top[100] = (uint64_t)page | 7;
    at(i_read4);
    v.regs.gpr[RDI] = 100ul << 39;
    struct vmx_exit e = exit_is(&v, EXIT_REASON_APIC_ACCESS, "SDM 32.4.6.1: a paging structure in the page");
    is(e.qualification >> 12 & 15, 15, "  exits as a guest-physical access");
    vmwrite(EXCEPTION_BITMAP, 0);
    at(i_ud);
    v.regs.gpr[RDI] = (100ul << 39) + 0x800;
    e = exit_is(&v, EXIT_REASON_APIC_ACCESS, "SDM 32.4.6.1: the same for the frame of an exception");
    is(e.qualification >> 12 & 15, 10, "  exits as a guest-physical access during event delivery");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12),
       EVENT_VALID | EVENT_HARDWARE_EXCEPTION | VECTOR_UD, "  with the event");
    top[100] = 0;
}

/* ---- TPR ---- */

static void tpr(void)
{
    if (!scene(true, ACCESSES)) {
        skip(9, "no virtualization of APIC accesses");
        return;
    }
    vmwrite(TPR_THRESHOLD, 4);
    put(0x80, 0x40);
    v.regs.gpr[RAX] = 0x3f;
    expect(i_write4, 0x80, EXIT_REASON_TPR_BELOW_THRESHOLD, 0, i_write4_end,
           "SDM 32.1.2: a TPR below the threshold exits");
    is(get(0x80), 0x3f, "  behind the write");
    expect(i_nop, 0, EXIT_REASON_TPR_BELOW_THRESHOLD, 0, i_nop, "SDM 29.7.7: and right after the next entry");
    at(i_nop);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS);
    exit_is(&v, EXIT_REASON_TPR_BELOW_THRESHOLD, "  whatever blocks interrupts");
    put(0x80, 0x40);
    v.regs.gpr[RAX] = 0x40;
    expect(i_write4, 0x80, EXIT_REASON_VMCALL, 0, i_write4_end, "a TPR at the threshold does not exit");
    v.regs.gpr[RAX] = 4;
    expect(i_cr8, 0, EXIT_REASON_VMCALL, 0, i_cr8_end, "SDM 32.3: MOV to CR8 at the threshold does not exit");
    is(v.regs.gpr[RBX], 4, "  and reads back");
    v.regs.gpr[RAX] = 3;
    at(i_cr8);
    exit_is(&v, EXIT_REASON_TPR_BELOW_THRESHOLD, "SDM 32.3: MOV to CR8 below it exits");
    is(get(0x80), 0x30, "  with VTPR written");
}

/* ---- MSRs (SDM 32.5) ---- */

static uint8_t *msr_bitmaps;

static bool msr_scene(uint32_t secondary)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) return false;
    if (!scene(true, secondary | X2APIC)) return false;
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)msr_bitmaps);
    return true;
}

static void msr(bool write, uint32_t n, uint64_t x, uint32_t reason, const char *name)
{
    at(write ? i_wrmsr : i_rdmsr);
    v.regs.gpr[RCX] = n;
    v.regs.gpr[RAX] = (uint32_t)x;
    v.regs.gpr[RDX] = x >> 32;
    exit_is(&v, reason, name);
}
static uint64_t msr_value(void) { return v.regs.gpr[RDX] << 32 | (uint32_t)v.regs.gpr[RAX]; }

static void msrs(void)
{
    enum { FAULT = EXIT_REASON_EXCEPTION_OR_NMI, DONE = EXIT_REASON_VMCALL };
    if (msr_scene(0)) {
        put(0x80, 0x55667788), put(0x84, 0x11223344);
        msr(false, 0x808, 0, DONE, "SDM 32.5: RDMSR 808h");
        is(msr_value(), 0x1122334455667788, "  reads 8 bytes of the virtual-APIC page");
        msr(true, 0x808, 0x100, FAULT, "SDM 32.5: WRMSR 808h of a reserved bit: #GP");
        msr(true, 0x808, 1ul << 32, FAULT, "  of another one");
        msr(true, 0x808, 0x5a, DONE, "  of a priority");
        is(get(0x80), 0x5a, "  which is in the virtual-APIC page");
        is(get(0x84), 0, "  as 8 bytes");
        msr_bitmaps[0x808 / 8] = msr_bitmaps[0x800 + 0x808 / 8] = 1;
        msr(false, 0x808, 0, EXIT_REASON_RDMSR, "SDM 32.5: RDMSR that the bitmap makes exit");
        msr(true, 0x808, 0xfff, EXIT_REASON_WRMSR, "SDM 32.5: WRMSR that the bitmap makes exit");
        msr_bitmaps[0x808 / 8] = msr_bitmaps[0x800 + 0x808 / 8] = 0;
    } else
        skip(9, "no virtualization of x2APIC mode");
    if (msr_scene(REGISTERS)) {
        unsigned bad = 0;
        for (uint32_t n = 0x800; n <= 0x8ff; n++) {
            put((n & 0xff) * 16, n), put((n & 0xff) * 16 + 4, ~n);
            at(i_rdmsr);
            v.regs.gpr[RCX] = n;
            struct vmx_exit e = vmx_run(&v);
            if (e.status != VMX_SUCCEED || e.reason != DONE || msr_value() != ((uint64_t)~n << 32 | n))
                if (!bad++) tap_note("  %x: reason %u, %lx", n, e.reason, msr_value());
        }
        ok(bad == 0, "SDM 32.5: RDMSR of 800h-8FFh with APIC-register virtualization");
    } else
        skip(1, "no virtualization of x2APIC mode and registers");
    if (msr_scene(DELIVERY)) {
        msr(true, 0x80b, 1, FAULT, "SDM 32.5: WRMSR 80Bh of 1: #GP");
        put(0xb0, 1);
        msr(true, 0x80b, 0, DONE, "SDM 32.5: WRMSR 80Bh of 0");
        is(get(0xb0), 0, "  is stored");
        msr(true, 0x83f, 0x100, FAULT, "SDM 32.5: WRMSR 83Fh of a reserved bit: #GP");
        msr(true, 0x83f, 0x0f, EXIT_REASON_APIC_WRITE, "SDM 32.5: WRMSR 83Fh of an illegal vector");
        is(vmread(EXIT_QUALIFICATION), 0x3f0, "  exits as a write of 3F0h");
        is(vmread(GUEST_RIP), (uint64_t)i_wrmsr_end, "  behind it");
        msr(true, 0x83f, 0x61, DONE, "SDM 32.5: WRMSR 83Fh of a vector");
        is(vmread(GUEST_INTERRUPT_STATUS), 0x61, "  is a request");
        is(get(0x230), 2, "  in VIRR");
    } else
        skip(10, "no virtual-interrupt delivery");
}

/* ---- virtual interrupts (SDM 32.1.3 to 32.1.5, 32.2) ---- */

static void request(uint8_t vector)
{
    unsigned word = 0x200 + vector / 32 * 16;
    put(word, get(word) | 1u << (vector & 31));
}

static void open_at(const uint8_t *code) /* with interrupts on */
{
    at(code);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
}

static void interrupts(void)
{
    if (!scene(true, DELIVERY | ACCESSES)) {
        skip(34, "no virtual-interrupt delivery");
        return;
    }
    vmwrite(EXCEPTION_BITMAP, 0);
    request(0x51), request(0x33);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    open_at(i_nop);
    uint64_t *frame = delivery_is(&v, 0x51, "SDM 32.2.1: VM entry evaluates; the interrupt is delivered");
    is(frame[0], (uint64_t)i_nop, "  before the first instruction");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x5133, "SDM 32.2.2: SVI is it, RVI the next");
    is(get(0x120), 1u << 17, "  VISR");
    is(get(0x220), 0, "  VIRR");
    is(get(0xa0), 0x50, "  VPPR");
    put(0xa0, 0xffffff00);
    open_at(i_nop);
    done(&v, "what is in service holds back the other one");
    is(get(0xa0), 0x50, "SDM 32.1.3: VM entry makes VPPR anew");

    open_at(i_write_nop);
    v.regs.gpr[RDI] = (uint64_t)page + 0xb0;
    frame = delivery_is(&v, 0x33, "SDM 32.1.4: EOI lets it through");
    is(frame[0], (uint64_t)i_write_nop + 2, "  right behind the write");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x3300, "  status");
    is(get(0xb0), 0, "  VEOI is 0");
    vmwrite(EOI_EXIT0, 1ul << 0x33);
    request(0x20);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x3320);
    open_at(i_write_nop);
    struct vmx_exit e =
        exit_is(&v, EXIT_REASON_VIRTUALIZED_EOI, "SDM 32.1.4: EOI of a vector in the bitmap exits");
    is(e.qualification, 0x33, "  with the vector");
    is(vmread(GUEST_RIP), (uint64_t)i_write_nop + 2, "  behind the write");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x20, "  and nothing else happens");

    memset(vapic, 0, 4096);
    vmwrite(GUEST_INTERRUPT_STATUS, 0);
    open_at(i_write_nop);
    v.regs.gpr[RDI] = (uint64_t)page + 0x300;
    v.regs.gpr[RAX] = 0x40062;
    frame = delivery_is(&v, 0x62, "SDM 32.1.5: a self-IPI by ICR_LO");
    is(frame[0], (uint64_t)i_write_nop + 2, "  right behind the write");
    vmwrite(GUEST_INTERRUPT_STATUS, 0);
    static const uint32_t others[] = {0x40005, 0x62,    0x80062, 0xc0062, 0x48062,
                                      0x40162, 0x41062, 0x42062, 0x50062, 0x140062};
    unsigned bad = 0;
    for (unsigned i = 0; i < sizeof(others) / 4; i++) {
        open_at(i_write_nop);
        v.regs.gpr[RAX] = others[i];
        e = vmx_run(&v);
        if (e.status != VMX_SUCCEED || e.reason != EXIT_REASON_APIC_WRITE || e.qualification != 0x300)
            if (!bad++) tap_note("  %x: reason %u", others[i], e.reason);
    }
    ok(bad == 0, "SDM 32.4.3.2: any other command exits");

    /* blocking */
    memset(vapic, 0, 4096);
    request(0x51);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    at(i_nop);
    done(&v, "SDM 32.2.2: with IF=0 it waits");
    at(i_sti);
    frame = delivery_is(&v, 0x51, "  and for the instruction behind STI");
    is(frame[0], (uint64_t)i_sti + 3, "  but no longer");
    put(0x120, 0), request(0x51);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    open_at(i_nop);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS);
    frame = delivery_is(&v, 0x51, "SDM 32.2.2: blocking by MOV SS");
    is(frame[0], (uint64_t)i_nop + 1, "  holds for one instruction");
    put(0x120, 0), request(0x51);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    put(0x80, 0x5f);
    open_at(i_cr8);
    v.regs.gpr[RAX] = 5;
    done(&v, "a TPR of its class holds it back");
    open_at(i_cr8);
    v.regs.gpr[RAX] = 4;
    frame = delivery_is(&v, 0x51, "SDM 32.1.2: MOV to CR8 below it lets it through");
    put(0x80, 0);
    put(0x120, 0), request(0x51);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    open_at(i_nop);
    exit_is(&v, EXIT_REASON_INTERRUPT_WINDOW, "SDM 32.2.1: with interrupt-window exiting the window exits");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x51, "  and nothing was delivered");
    vmx_clear_proc(PROC_INTERRUPT_WINDOW_EXITING);
    open_at(i_nop);
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | 0x77); /* its gate closes IF */
    delivery_is(&v, 0x77, "an injected event goes before it");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x51, "  and it waits");
    put(0x120, 0);
    vmwrite(GUEST_INTERRUPT_STATUS, 0);
    at(i_nop);
    put(0x80, 0xa5);
    done(&v, "SDM 32.1.3: without anything in service");
    is(get(0xa0), 0xa5, "  VPPR is VTPR, its low bits too");
}

/* SDM 32.1.4: a bit for each vector, in four fields. */
static void eoi_exits(void)
{
    if (!scene(true, DELIVERY | ACCESSES)) {
        skip(2, "no virtual-interrupt delivery");
        return;
    }
    static const uint32_t fields[] = {EOI_EXIT0, EOI_EXIT1, EOI_EXIT2, EOI_EXIT3};
    unsigned exits = 0, others = 0;
    for (unsigned vector = 16; vector < 256; vector++)
        for (unsigned inverted = 0; inverted < 2; inverted++) {
            memset(vapic, 0, 4096);
            put(0x100 + vector / 32 * 16, 1u << vector % 32);
            vmwrite(GUEST_INTERRUPT_STATUS, vector << 8);
            for (unsigned i = 0; i < 4; i++) {
                uint64_t bit = vector / 64 == i ? 1ul << vector % 64 : 0;
                vmwrite(fields[i], inverted ? ~bit : bit);
            }
            at(i_write_nop);
            v.regs.gpr[RDI] = (uint64_t)page + 0xb0;
            struct vmx_exit e = vmx_run(&v);
            if (e.status != VMX_SUCCEED || get(0x100 + vector / 32 * 16)) continue;
            if (inverted)
                others += e.reason == EXIT_REASON_VMCALL;
            else
                exits += e.reason == EXIT_REASON_VIRTUALIZED_EOI && e.qualification == vector;
        }
    is(exits, 240, "SDM 32.1.4: the EOI of each vector exits by its bit");
    is(others, 240, "  and by no other");
    for (unsigned i = 0; i < 4; i++) vmwrite(fields[i], 0);
}

/* ---- posted interrupts (SDM 32.6) ---- */

static unsigned host_interrupts;

static bool host_interrupt(struct trap_frame *f)
{
    (void)f;
    host_interrupts++;
    apic_eoi();
    return true;
}

static void posted(void)
{
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_PROCESS_POSTED_INTERRUPTS) || !scene(true, DELIVERY)) {
        skip(13, "no posted interrupts");
        return;
    }
    static uint64_t pid[8] __attribute__((aligned(64)));
    apic_enable();
    trap_on(0x61, host_interrupt);
    trap_on(0x62, host_interrupt);
    vmwrite(EXCEPTION_BITMAP, 0);
    vmx_set_pin(PIN_PROCESS_POSTED_INTERRUPTS);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    vmwrite(POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0x61);
    vmwrite(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, (uint64_t)pid);
    pid[0] = 1ul << 0x32, pid[1] = 1ul << 0x11, pid[3] = 1ul << 63;
    pid[4] = 0x1234567800006103;
    apic_self_ipi(0x61);
    open_at(i_nop);
    delivery_is(&v, 0xff, "SDM 32.6: the highest posted interrupt is delivered without an exit");
    is(vmread(GUEST_INTERRUPT_STATUS), 0xff51, "  the next one is requested");
    ok(get(0x210) == 1u << 0x12 && get(0x220) == 1u << 0x11 && get(0x270) == 0, "  PIR is in VIRR");
    is(pid[0] | pid[1] | pid[2] | pid[3], 0, "  and empty");
    is(pid[4], 0x1234567800006102, "  ON is clear, and nothing else is touched");
    ok(!apic_bit(APIC_ISR, 0x61) && !apic_bit(APIC_IRR, 0x61), "  the notification has had its EOI");
    asm volatile("sti; nop; nop; cli");
    is(host_interrupts, 0, "  and the host sees nothing of it");

    memset(vapic, 0, 4096);
    pid[1] = 1ul << 0x11;
    vmwrite(GUEST_INTERRUPT_STATUS, 0);
    apic_self_ipi(0x61);
    open_at(i_nop);
    vmwrite(GUEST_ACTIVITY_STATE, 1);
    delivery_is(&v, 0x51, "SDM 32.6: it ends HLT");
    pid[1] = 1ul << 0x12;
    vmwrite(GUEST_INTERRUPT_STATUS, 0);
    apic_self_ipi(0x61);
    at(i_nop);
    done(&v, "SDM 32.6: with the guest's IF=0 it is processed");
    is(vmread(GUEST_INTERRUPT_STATUS), 0x52, "  and waits");
    apic_self_ipi(0x62);
    at(i_nop);
    exit_is(&v, EXIT_REASON_EXTERNAL_INTERRUPT, "SDM 32.6: any other vector exits");
    is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x62, "  acknowledged");
    ok(apic_bit(APIC_ISR, 0x62), "  without an EOI");
    apic_eoi();
}

/* ---- IPI virtualization (SDM 32.1.6): the notification goes to this processor, which is in the guest ----
 */

static void ipis(void)
{
    if (!vmx_has_tertiary(PROC3_IPI_VIRTUALIZATION) || !scene(true, ACCESSES)) {
        skip(8, "no IPI virtualization");
        return;
    }
    static uint64_t pid[8] __attribute__((aligned(64))), table[2];
    apic_enable();
    trap_on(0x61, host_interrupt);
    host_interrupts = 0;
    vmx_set_proc3(PROC3_IPI_VIRTUALIZATION);
    vmwrite(PID_POINTER_TABLE_ADDRESS, (uint64_t)table);
    vmwrite(LAST_PID_POINTER_INDEX, 1);
    table[1] = (uint64_t)pid | 1;
    uint64_t id = apic_is_x2() ? apic_read(APIC_ID) : apic_read(APIC_ID) >> 24 << 8;
    memset(pid, 0, sizeof(pid));
    pid[4] = id << 32 | 0x610000;
    put(0x310, 1u << 24);
    v.regs.gpr[RAX] = 0x51;
    expect(i_write4, 0x300, EXIT_REASON_VMCALL, 0, i_write4_end, "SDM 32.1.6: a fixed IPI does not exit");
    is(pid[1], 1ul << 0x11, "  it is posted");
    is(pid[4], id << 32 | 0x610001, "  ON is set");
    asm volatile("sti; nop; nop; cli");
    is(host_interrupts, 1, "  and the notification sent");
    v.regs.gpr[RAX] = 0x52;
    expect(i_write4, 0x300, EXIT_REASON_VMCALL, 0, i_write4_end, "SDM 32.1.6: another one while ON is set");
    asm volatile("sti; nop; nop; cli");
    is(host_interrupts, 1, "  sends no notification");
    v.regs.gpr[RAX] = 0x0f;
    expect(i_write4, 0x300, EXIT_REASON_APIC_WRITE, 0x300, i_write4_end,
           "SDM 32.1.6: an illegal vector exits");
    put(0x310, 2u << 24);
    v.regs.gpr[RAX] = 0x51;
    expect(i_write4, 0x300, EXIT_REASON_APIC_WRITE, 0x300, i_write4_end,
           "SDM 32.1.6: a target beyond the table exits");
}

/* Last, since Bochs panics. */
static void fetch(void)
{
    if (!scene(true, ACCESSES)) {
        skip(1, "no virtualization of APIC accesses");
        return;
    }
    expect(i_jump, 0x080, EXIT_REASON_APIC_ACCESS, 0x2080, page + 0x80,
           "SDM 32.4.2: an instruction fetch exits");
}

static void wake(void)
{
    if (!scene(true, DELIVERY)) {
        skip(2, "no virtual-interrupt delivery");
        return;
    }
    vmwrite(EXCEPTION_BITMAP, 0);
    request(0x51);
    vmwrite(GUEST_INTERRUPT_STATUS, 0x51);
    open_at(i_nop);
    vmwrite(GUEST_ACTIVITY_STATE, 1);
    delivery_is(&v, 0x51, "SDM 32.2.2: a virtual interrupt ends HLT");
    is(vmread(GUEST_ACTIVITY_STATE), 0, "  for good");
}

int rom_main(void)
{
    if (!vmx_test_begin("APIC virtualization")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    page = page_alloc(1);
    vapic = page_alloc(1);
    msr_bitmaps = page_alloc(1);
    offsets(false, 0, "no TPR shadow");
    offsets(true, 0, "TPR shadow");
    offsets(true, REGISTERS, "APIC-register virtualization");
    offsets(true, DELIVERY, "virtual-interrupt delivery");
    offsets(true, REGISTERS | DELIVERY, "both");
    kinds();
    registers();
    priority();
    tpr();
    msrs();
    interrupts();
    eoi_exits();
    posted();
    ipis();
    fetch();
    wake();
    return tap_end();
}

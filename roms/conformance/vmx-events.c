/*
 * Events: exceptions that exit and that do not, event injection, interrupt and NMI windows, virtual NMIs, the
 * monitor trap flag, the preemption timer, activity states, external interrupts, the TPR shadow
 * (SDM 26.2, 26.5, 27.6, 28.2).
 *
 * The guest's IDT is made of VMCALLs (vmx-common.c), so a delivered vector is seen as the place of the next
 * VMCALL, and the frame on the guest's stack can be read.
 *
 * Bochs 2.7 fails at: RF in the saved flags of an exception that exits (SDM 28.3.3), the
 * interrupt window in the HLT state (SDM 26.2: it wakes), and external interrupts while the guest's IF is 0
 * (lost).
 *
 * Missing: debug exceptions by breakpoints. SIPI and INIT are in vmx-posting.c, virtual interrupts in
 * vmx-apicv.c.
 */
#include "vmx-common.h"
#include "apic.h"

#define CODE(name, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": " before "; " #name "_at: " instruction "; " #name \
        "_end: vmcall; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

static struct vmx_vcpu v;
static uint64_t *scratch;

static void start(const void *code)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)scratch;
}

/* The same with no exception exiting. */
static void start_open(const void *code)
{
    start(code);
    vmwrite(EXCEPTION_BITMAP, 0);
}

static void inject(uint32_t event, uint32_t error, uint32_t length)
{
    vmwrite(INJECTED_EVENT_IDENTIFICATION, EVENT_VALID | event);
    vmwrite(INJECTED_EVENT_ERROR_CODE, error);
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, length);
}

#define HARDWARE(v) (EVENT_VALID | EVENT_HARDWARE_EXCEPTION | (v))

CODE(i_ud2, "", "ud2");
CODE(i_int3, "nop", "int3");
CODE(i_int1, "", ".byte 0xf1");
CODE(i_int80, "", "int $0x80");
CODE(i_div0, "xor %ecx, %ecx", "div %ecx");
CODE(i_gp, "mov $0x8123, %eax", "mov %eax, %ds");
CODE(i_pf_write, "mov $0x123456789, %rax; shl $12, %rax; shr $4, %rax", "movb $0, (%rax)");
CODE(i_pf_read, "mov $0x123456789, %rax; shl $8, %rax", "mov (%rax), %bl");
CODE(i_nop, "", "nop; nop; nop");
CODE(i_trap_flag, "pushf; orl $0x100, (%rsp); popf", "nop; nop");

static void exception_is(uint32_t identification, uint64_t qualification, const uint8_t *at, const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    uint64_t got = vmread(EXITING_EVENT_IDENTIFICATION), rip = vmread(GUEST_RIP);
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_EXCEPTION_OR_NMI && got == identification &&
                e.qualification == qualification && rip == (uint64_t)at &&
                !(vmread(ORIGINAL_EVENT_IDENTIFICATION) & EVENT_VALID),
            "%s", name))
        tap_note("  reason %x, event %lx (want %x), qualification %lx (want %lx), rip off by %ld", e.reason,
                 got, identification, e.qualification, qualification, (int64_t)(rip - (uint64_t)at));
}

static void exceptions(void)
{
    start(i_ud2);
    exception_is(HARDWARE(VECTOR_UD), 0, i_ud2_at, "#UD exits");
    ok(vmread(GUEST_RFLAGS) & RFLAGS_RF, "  with RF set, as its frame would have it");
    start_open(i_ud2);
    vmwrite(EXCEPTION_BITMAP, ~(1u << VECTOR_UD));
    uint64_t *frame = delivery_is(&v, VECTOR_UD, "#UD is delivered with its bit clear");
    is(frame[0], (uint64_t)i_ud2_at, "  at the instruction");
    start(i_div0);
    exception_is(HARDWARE(VECTOR_DE), 0, i_div0_at, "#DE exits");
    start(i_gp);
    exception_is(HARDWARE(VECTOR_GP) | EVENT_ERROR_CODE, 0, i_gp_at, "#GP exits with an error code");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0x8120, "  which is the selector");
    start_open(i_gp);
    frame = delivery_is(&v, VECTOR_GP, "#GP is delivered");
    is(frame[0], 0x8120, "  with its error code");

    start(i_int3);
    exception_is(EVENT_VALID | EVENT_SOFTWARE_EXCEPTION | VECTOR_BP, 0, i_int3_at,
                 "INT3 exits as software exception");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 1, "  with its length");
    start(i_int1);
    exception_is(EVENT_VALID | EVENT_PRIVILEGED_SOFTWARE_EXCEPTION | VECTOR_DB, 0, i_int1_at,
                 "INT1 exits as privileged software exception");
    start(i_int80);
    frame = delivery_is(&v, 0x80, "INT 80h does not exit");
    is(frame[0], (uint64_t)i_int80_end, "  and returns behind itself");

    start(i_trap_flag);
    struct vmx_exit e = exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "single step exits");
    is(vmread(EXITING_EVENT_IDENTIFICATION), HARDWARE(VECTOR_DB), "  as #DB");
    is(e.qualification & 0x600f, 1u << 14, "  with BS in the qualification");
    is(vmread(GUEST_RIP), (uint64_t)i_trap_flag_at + 1, "  behind the first instruction after POPF");

    /* Page faults: CR2 is not loaded by an exit; the address is the qualification. */
    uint64_t address = 0x12345678900;
    write_cr2(0x5555);
    start(i_pf_write);
    exception_is(HARDWARE(VECTOR_PF) | EVENT_ERROR_CODE, address, i_pf_write_at,
                 "#PF exits, the address in the qualification");
    is(vmread(EXITING_EVENT_ERROR_CODE), 2, "  error code: write, not present");
    is(read_cr2(), 0x5555, "  CR2 is untouched");
    start_open(i_pf_write);
    frame = delivery_is(&v, VECTOR_PF, "#PF is delivered");
    is(frame[0], 2, "  with its error code");
    is(read_cr2(), address, "  and CR2");

    /* PFEC mask and match turn the meaning of bit 14 around where they differ (SDM 26.2). */
    static const struct {
        const char *name;
        const void *code;
        uint32_t bit, mask, match;
        bool exits;
    } rows[] = {
        {"match, bit set: exits", i_pf_write, 1, 2, 2, true},
        {"match, bit clear: delivered", i_pf_write, 0, 2, 2, false},
        {"no match, bit set: delivered", i_pf_read, 1, 2, 2, false},
        {"no match, bit clear: exits", i_pf_read, 0, 2, 2, true},
        {"match cannot be met, bit clear: exits", i_pf_read, 0, 0, 1, true},
        {"match cannot be met, bit set: delivered", i_pf_read, 1, 0, 1, false},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        start_open(rows[i].code);
        vmwrite(EXCEPTION_BITMAP, rows[i].bit << VECTOR_PF);
        vmwrite(PAGE_FAULT_ERROR_CODE_MASK, rows[i].mask);
        vmwrite(PAGE_FAULT_ERROR_CODE_MATCH, rows[i].match);
        e = vmx_run(&v);
        is(e.reason, rows[i].exits ? EXIT_REASON_EXCEPTION_OR_NMI : EXIT_REASON_VMCALL, "PFEC %s",
           rows[i].name);
    }

    /* A handler that cannot be reached: #GP while delivering #UD, then #DF, then nothing. */
    start_open(i_ud2);
    vmwrite(GUEST_IDTR_LIMIT, 0xf);
    exit_is(&v, EXIT_REASON_TRIPLE_FAULT, "triple fault");
    is(vmread(GUEST_RIP), (uint64_t)i_ud2_at, "  at the instruction that began it");
    start_open(i_ud2);
    vmwrite(GUEST_IDTR_LIMIT, 0xf);
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_DF);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "the double fault before it, if #DF exits");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & ~(1ul << 12), HARDWARE(VECTOR_DF) | EVENT_ERROR_CODE,
       "  as #DF with error code");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0, "  which is 0");
    start_open(i_ud2);
    vmwrite(GUEST_IDTR_LIMIT, 0xf);
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_GP);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "the #GP of the delivery, if #GP exits");
    is(vmread(EXITING_EVENT_ERROR_CODE), VECTOR_UD * 8 + 2 + 1, "  its error code: IDT entry 6, EXT");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), HARDWARE(VECTOR_UD), "  original event: #UD");
    start_open(i_int80);
    vmwrite(GUEST_IDTR_LIMIT, 0x7ff);
    vmwrite(EXCEPTION_BITMAP, 1u << VECTOR_GP);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "the #GP of INT 80h beyond the IDT");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0x80 * 8 + 2, "  its error code: IDT entry 80h, no EXT");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_SOFTWARE_INTERRUPT | 0x80,
       "  original event: software interrupt 80h");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 2, "  with the length of INT 80h");
}

static void injection(void)
{
    start_open(i_nop);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    inject(EVENT_EXTERNAL_INTERRUPT | 0x41, 0, 0);
    uint64_t *frame = delivery_is(&v, 0x41, "external interrupt");
    is(frame[0], (uint64_t)i_nop, "  its frame returns to RIP");
    is(frame[2], RFLAGS_FIXED | RFLAGS_IF, "  with the flags");
    is(vmread(GUEST_RFLAGS) & RFLAGS_IF, 0, "  and IF is clear in the handler");
    is(vmread(INJECTED_EVENT_IDENTIFICATION) & EVENT_VALID, 0, "  the exit has cleared the valid bit");

    start(i_nop);
    inject(EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | VECTOR_GP, 0xabc0, 0);
    frame = delivery_is(&v, VECTOR_GP, "#GP, though its bit in the exception bitmap is set");
    is(frame[0], 0xabc0, "  with its error code");
    is(frame[1], (uint64_t)i_nop, "  at RIP");
    start_open(i_nop);
    inject(EVENT_HARDWARE_EXCEPTION | VECTOR_UD, 0, 0);
    frame = delivery_is(&v, VECTOR_UD, "#UD");
    is(frame[0], (uint64_t)i_nop, "  without error code");
    write_cr2(0x7777);
    start_open(i_nop);
    inject(EVENT_HARDWARE_EXCEPTION | EVENT_ERROR_CODE | VECTOR_PF, 7, 0);
    frame = delivery_is(&v, VECTOR_PF, "#PF");
    is(read_cr2(), 0x7777, "  leaves CR2");
    start_open(i_int80);
    inject(EVENT_SOFTWARE_INTERRUPT | 0x80, 0, 2);
    frame = delivery_is(&v, 0x80, "software interrupt");
    is(frame[0], (uint64_t)i_int80_end, "  returns behind an instruction of the given length");
    start_open(i_int3);
    vmwrite(GUEST_RIP, (uint64_t)i_int3_at);
    inject(EVENT_SOFTWARE_EXCEPTION | VECTOR_BP, 0, 1);
    frame = delivery_is(&v, VECTOR_BP, "software exception");
    is(frame[0], (uint64_t)i_int3_end, "  returns behind an instruction of the given length");

    /* An injected event whose delivery fails tells about itself. */
    start(i_nop);
    vmwrite(GUEST_IDTR_LIMIT, 0x1ff);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    inject(EVENT_EXTERNAL_INTERRUPT | 0x41, 0, 0);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "an external interrupt beyond the IDT: #GP");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0x41 * 8 + 2 + 1, "  its error code: IDT entry 41h, EXT");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x41,
       "  original event: the interrupt");
    is(vmread(GUEST_RIP), (uint64_t)i_nop, "  RIP has not moved");

    /* Pending debug exceptions are delivered after the entry, but behind an injected event. */
    start_open(i_nop);
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 1u << 14);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    frame = delivery_is(&v, VECTOR_DB, "a pending single-step trap is delivered at once");
    is(frame[0], (uint64_t)i_nop, "  before the first instruction");

    if (!vmx_has_secondary(PROC2_UNRESTRICTED_GUEST)) {
        skip(4, "no unrestricted guest");
        return;
    }
    guest_init_ept(&v, i_nop);
    guest_real_mode(&v, i_nop, 16);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    inject(EVENT_EXTERNAL_INTERRUPT | 8, 0, 0);
    frame = delivery_is(&v, 8, "external interrupt into real mode, through the IVT");
    is((uint64_t)frame, 0x7000 - 6, "  with a frame of three words");
    uint16_t *words = (uint16_t *)frame;
    is(words[0], 0x8000, "  IP");
    is(words[2], RFLAGS_FIXED | RFLAGS_IF, "  FLAGS");
}

/* An unmasked x87 error waits for the next x87 instruction, here behind STI or MOV SS. */
#define X87_ERROR "fninit; push $0x33b; fldcw (%rsp); pop %rax; fldz; fld1; fdivp %st, %st(1); mov %ss, %eax;"
CODE(i_mf, X87_ERROR, "fwait");
CODE(i_mf_sti, X87_ERROR "sti", "fwait");
CODE(i_mf_mov_ss, X87_ERROR "mov %eax, %ss", "fwait");
CODE(i_ud2_sti, "sti", "ud2");
CODE(i_ud2_mov_ss, "mov %ss, %eax; mov %eax, %ss", "ud2");

static void shadowed_exception(const void *code, unsigned vector, const uint8_t *at, uint64_t blocking,
                               const char *name)
{
    start(code);
    vmwrite(EXCEPTION_BITMAP, 0xffffffff);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) & ~(uint64_t)(CR0_EM | CR0_TS));
    exception_is(HARDWARE(vector), 0, at, name);
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), blocking, "  and the blocking that it saves");
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, 0);
}

/* The instruction has waited when #MF comes: nothing is blocked then, unlike by other faults (SDM 30.1). */
static void shadows(void)
{
    shadowed_exception(i_ud2_sti, VECTOR_UD, i_ud2_sti_at, INTERRUPTIBILITY_STI, "#UD behind STI exits");
    shadowed_exception(i_ud2_mov_ss, VECTOR_UD, i_ud2_mov_ss_at, INTERRUPTIBILITY_MOV_SS,
                       "#UD behind MOV SS exits");
    shadowed_exception(i_mf, VECTOR_MF, i_mf_at, 0, "#MF exits");
    shadowed_exception(i_mf_sti, VECTOR_MF, i_mf_sti_at, 0, "SDM 30.1: #MF behind STI exits");
    shadowed_exception(i_mf_mov_ss, VECTOR_MF, i_mf_mov_ss_at, 0, "SDM 30.1: #MF behind MOV SS exits");
}

CODE(i_sti, "nop", "sti; nop; nop; cli");
CODE(i_sti_hlt, "", "sti; hlt");
CODE(i_hlt, "", "hlt");
CODE(i_iret, "", "iretq");
CODE(i_mov_ss, "mov %ss, %eax", "mov %eax, %ss; nop; nop");
CODE(i_iretq,
     "mov %ss, %eax; mov %rsp, %rcx; push %rax; push %rcx; pushf; mov %cs, %eax; push %rax; lea 1f(%rip), "
     "%rax; push %rax",
     "iretq; 1: nop");

static void windows(void)
{
    start(i_nop);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_INTERRUPT_WINDOW, "interrupt window, open at entry");
    is(vmread(GUEST_RIP), (uint64_t)i_nop, "  before the first instruction");
    start(i_sti);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_INTERRUPT_WINDOW, "interrupt window, opened by STI");
    is(vmread(GUEST_RIP), (uint64_t)i_sti_at + 2, "  one instruction after STI");
    start(i_nop);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_MOV_SS);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_INTERRUPT_WINDOW, "interrupt window under MOV SS blocking");
    is(vmread(GUEST_RIP), (uint64_t)i_nop + 1, "  one instruction later");
    start(i_nop);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    done(&v, "no interrupt window with IF=0");
    start(i_nop);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
    inject(EVENT_EXTERNAL_INTERRUPT | 0x41, 0, 0);
    delivery_is(&v, 0x41, "an injected interrupt closes the window");
    if ((rdmsr(IA32_VMX_MISC) & 1u << 6) &&
        vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        start(i_nop);
        vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
        vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
        /* Should nothing wake it, the timer will. */
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100000);
        vmx_set_proc(PROC_INTERRUPT_WINDOW_EXITING);
        exit_is(&v, EXIT_REASON_INTERRUPT_WINDOW, "interrupt window in the HLT state");
        is(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT, "  the state is saved as HLT");
    } else {
        skip(2, "no HLT activity state");
    }

    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS)) {
        skip(8, "no virtual NMIs");
        return;
    }
    start(i_nop);
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set_proc(PROC_NMI_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_NMI_WINDOW, "NMI window, open at entry, whatever IF");
    start(i_nop);
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set_proc(PROC_NMI_WINDOW_EXITING);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI);
    done(&v, "no NMI window under virtual-NMI blocking");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  which the exit saves");
    start(i_iretq);
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    vmx_set_proc(PROC_NMI_WINDOW_EXITING);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI);
    exit_is(&v, EXIT_REASON_NMI_WINDOW, "IRET opens the NMI window");
    is(vmread(GUEST_RIP), (uint64_t)i_iretq_at + 2, "  at its target");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), 0, "  and ends the blocking");
    start(i_nop);
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    inject(EVENT_NMI | VECTOR_NMI, 0, 0);
    delivery_is(&v, VECTOR_NMI, "an injected NMI");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  begins virtual-NMI blocking");
}

CODE(i_rep, "mov $3, %ecx; mov %rdi, %rsi", "rep movsb");

static void monitor_trap_flag(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_MONITOR_TRAP_FLAG)) {
        skip(10, "no monitor trap flag");
        return;
    }
    start(i_nop);
    vmx_set_proc(PROC_MONITOR_TRAP_FLAG);
    exit_is(&v, EXIT_REASON_MONITOR_TRAP_FLAG, "MTF");
    is(vmread(GUEST_RIP), (uint64_t)i_nop_at + 1, "  after one instruction");
    exit_is(&v, EXIT_REASON_MONITOR_TRAP_FLAG, "MTF again");
    is(vmread(GUEST_RIP), (uint64_t)i_nop_at + 2, "  after the next");
    start(i_rep);
    vmwrite(GUEST_RIP, (uint64_t)i_rep_at);
    v.regs.gpr[RCX] = 3;
    v.regs.gpr[RSI] = (uint64_t)scratch;
    vmx_set_proc(PROC_MONITOR_TRAP_FLAG);
    exit_is(&v, EXIT_REASON_MONITOR_TRAP_FLAG, "MTF in REP MOVSB");
    is(v.regs.gpr[RCX], 2, "  after one iteration");
    start_open(i_nop);
    vmx_set_proc(PROC_MONITOR_TRAP_FLAG);
    inject(EVENT_HARDWARE_EXCEPTION | VECTOR_UD, 0, 0);
    exit_is(&v, EXIT_REASON_MONITOR_TRAP_FLAG, "MTF with an injected event");
    ok(vmread(GUEST_RIP) != (uint64_t)i_nop, "  comes before the handler's first instruction");
    start_open(i_ud2);
    vmx_set_proc(PROC_MONITOR_TRAP_FLAG);
    exit_is(&v, EXIT_REASON_MONITOR_TRAP_FLAG, "MTF with a fault");
    ok(vmread(GUEST_RIP) != (uint64_t)i_ud2_at, "  comes after its delivery");
    start(i_nop);
    inject(EVENT_OTHER | 0, 0, 0);
    exit_is(&v, EXIT_REASON_MONITOR_TRAP_FLAG, "an injected pending MTF exits");
    is(vmread(GUEST_RIP), (uint64_t)i_nop, "  before the first instruction");
}

/* Long enough for whatever is to come, and bounded for where it does not. */
CODE(i_spin, "mov $1000000, %ecx", "1: loop 1b");

static void preemption_timer(void)
{
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        skip(9, "no VMX-preemption timer");
        return;
    }
    start(i_nop);
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
    exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "preemption timer of 0");
    is(vmread(GUEST_RIP), (uint64_t)i_nop, "  before the first instruction");
    start(i_spin);
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    unsigned rate = rdmsr(IA32_VMX_MISC) & 31;
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 20000 >> rate);
    uint64_t before = rdtsc();
    exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "preemption timer ends a loop");
    ok(rdtsc() - before >= (20000ul >> rate << rate) - (1ul << rate), "  not before its time");
    bool save = vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    if (save) {
        start(i_nop);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(PRIMARY_VM_EXIT_CONTROLS,
                vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 1000000);
        done(&v, "another exit before it");
        uint64_t left = vmread(VMX_PREEMPTION_TIMER_VALUE);
        ok(left <= 1000000 && left > 900000, "  saves what is left");
        start(i_spin);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(PRIMARY_VM_EXIT_CONTROLS,
                vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100);
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "after expiry");
        is(vmread(VMX_PREEMPTION_TIMER_VALUE), 0, "  what is left is 0");
    } else {
        skip(4, "no save VMX-preemption timer value");
    }
    if (rdmsr(IA32_VMX_MISC) & 1u << 6) {
        start(i_nop);
        vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 1000 >> rate);
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED,
                "it runs and wakes in the HLT state, whatever IF");
        is(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT, "  which is saved");
    } else {
        skip(2, "no HLT activity state");
    }
}

/* A guest that halts without HLT exiting, and is woken by an injected event later. */
static void activity(void)
{
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        skip(5, "no VMX-preemption timer");
        return;
    }
    start(i_sti_hlt);
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 5000);
    exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED, "HLT without HLT exiting");
    is(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT, "  is the HLT state");
    is(vmread(GUEST_RIP), (uint64_t)i_sti_hlt_end, "  behind the instruction");
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
    inject(EVENT_EXTERNAL_INTERRUPT | 0x50, 0, 0);
    uint64_t *frame = delivery_is(&v, 0x50, "an injected interrupt wakes it");
    is(frame[0], (uint64_t)i_sti_hlt_end, "  and returns behind HLT");
}

/* Bochs does not look at debug exceptions in the HLT state until something else wakes it. */
static void wake_up_call(void)
{
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 5000);
}

/* An event that wakes from HLT by an exit leaves the state as it was (SDM 30.1). */
static void woken_by_exit(void)
{
    if (!(rdmsr(IA32_VMX_MISC) & 1u << 6) ||
        !vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        skip(6, "no HLT activity state, or no VMX-preemption timer");
        return;
    }
    start(i_hlt);
    wake_up_call();
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_TF);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "a single step behind HLT exits");
    is(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT, "  from the HLT state");
    is(vmread(GUEST_RIP), (uint64_t)i_hlt_end, "  behind the instruction");
    start(i_nop);
    wake_up_call();
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    vmwrite(GUEST_PENDING_DEBUG_EXCEPTIONS, 0x1001); /* breakpoint 0, enabled */
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "a pending debug exception wakes from the HLT state");
    is(vmread(GUEST_ACTIVITY_STATE), ACTIVITY_HLT, "  which is saved");
    is(vmread(GUEST_RIP), (uint64_t)i_nop, "  before the first instruction");
}

/* IRET unblocks NMIs even if it faults at once (SDM 30.2.3). */
static void faulting_iret(void)
{
    start(i_iret);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_NT);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "IRET with NT in IA-32e mode exits by its #GP");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP, "  of this vector");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), 0, "  and has unblocked NMIs");
}

static unsigned host_interrupts;

static bool host_interrupt(struct trap_frame *f)
{
    (void)f;
    host_interrupts++;
    apic_eoi();
    return true;
}

static void open_host_window(void) { asm volatile("sti; nop; nop; cli"); }

static void external_interrupts(void)
{
    apic_enable();
    trap_on(0x61, host_interrupt);
    for (unsigned with_if = 0; with_if < 2; with_if++) {
        start(i_spin);
        vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
        if (with_if) vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
        apic_self_ipi(0x61);
        exit_is(&v, EXIT_REASON_EXTERNAL_INTERRUPT,
                with_if ? "external interrupt, guest IF=1" : "external interrupt, guest IF=0");
        is(vmread(EXITING_EVENT_IDENTIFICATION) & EVENT_VALID, 0,
           "  without acknowledgement there is no vector");
        host_interrupts = 0;
        open_host_window();
        is(host_interrupts, 1, "  and it still waits for the host");
    }
    start(i_spin);
    vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING);
    vmwrite(PRIMARY_VM_EXIT_CONTROLS, vmread(PRIMARY_VM_EXIT_CONTROLS) | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    apic_self_ipi(0x61);
    exit_is(&v, EXIT_REASON_EXTERNAL_INTERRUPT, "external interrupt with acknowledgement");
    is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x61,
       "  gives the vector");
    apic_eoi();
    host_interrupts = 0;
    open_host_window();
    is(host_interrupts, 0, "  and takes it from the APIC");

    start_open(i_spin);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    apic_self_ipi(0x61);
    delivery_is(&v, 0x61, "without external-interrupt exiting the guest takes it");
    apic_eoi();

    /* Priority (SDM 26.2, 6.9): the preemption timer comes before an external interrupt. */
    if (vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) {
        start(i_spin);
        vmx_set_pin(PIN_EXTERNAL_INTERRUPT_EXITING | PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0);
        apic_self_ipi(0x61);
        exit_is(&v, EXIT_REASON_VMX_PREEMPTION_TIMER_EXPIRED,
                "the preemption timer goes before an external interrupt");
        open_host_window();
    } else {
        skip(1, "no VMX-preemption timer");
    }
}

static unsigned host_nmis;

static bool host_nmi(struct trap_frame *f)
{
    (void)f;
    host_nmis++;
    return true;
}

static void nmis(void)
{
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_NMI_EXITING)) {
        skip(5, "no NMI exiting");
        return;
    }
    /* The guest sends this processor an NMI by its own access to the APIC. */
    trap_on(VECTOR_NMI, host_nmi);
    extern const uint8_t i_send_nmi[];
    start(i_send_nmi);
    v.regs.gpr[RDI] = apic_icr_address();
    v.regs.gpr[RSI] = apic_is_x2();
    v.regs.gpr[RBX] = apic_nmi_command();
    vmx_set_pin(PIN_NMI_EXITING);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "NMI exits");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_NMI | VECTOR_NMI, "  as NMI");
    is(host_nmis, 0, "  and is not delivered to the host as well");
    start_open(i_send_nmi);
    v.regs.gpr[RDI] = apic_icr_address();
    v.regs.gpr[RSI] = apic_is_x2();
    v.regs.gpr[RBX] = apic_nmi_command();
    unblock_nmis();
    delivery_is(&v, VECTOR_NMI, "without NMI exiting the guest takes it");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE) & INTERRUPTIBILITY_NMI, INTERRUPTIBILITY_NMI,
       "  and blocks NMIs");
    unblock_nmis();
    trap_on(VECTOR_NMI, NULL);
}
/* Sends itself an NMI: xAPIC (ESI=0) at RDI, or x2APIC's ICR; then spins a little. */
asm(".pushsection .text; .balign 16; i_send_nmi: test %esi, %esi; jnz 1f; mov %ebx, (%rdi); jmp 2f;"
    "1: mov $0x830, %ecx; mov %ebx, %eax; xor %edx, %edx; wrmsr; 2: mov $10000, %ecx; 3: loop 3b;"
    "vmcall; .popsection");

CODE(i_cr8_down, "mov $5, %eax; mov %rax, %cr8; mov %cr8, %rbx; mov $2, %eax", "mov %rax, %cr8");

static void tpr_shadow(void)
{
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) {
        skip(6, "no TPR shadow");
        return;
    }
    uint8_t *page = page_alloc(1);
    uint64_t ours = read_cr8();
    start(i_cr8_down);
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)page);
    vmwrite(TPR_THRESHOLD, 0);
    done(&v, "MOV to and from CR8 with a TPR shadow");
    is(v.regs.gpr[RBX], 5, "  reads back what was written");
    is(page[0x80], 0x20, "  which is in the virtual-APIC page");
    is(read_cr8(), ours, "  and not in the APIC");
    start(i_cr8_down);
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmwrite(VIRTUAL_APIC_ADDRESS, (uint64_t)page);
    page[0x80] = 0x40;
    vmwrite(TPR_THRESHOLD, 4);
    exit_is(&v, EXIT_REASON_TPR_BELOW_THRESHOLD, "a TPR below the threshold exits");
    is(vmread(GUEST_RIP), (uint64_t)i_cr8_down_end, "  behind the MOV to CR8");
}

int rom_main(void)
{
    if (!vmx_test_begin("events in and around guests")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    scratch = page_alloc(1);
    exceptions();
    shadows();
    injection();
    windows();
    monitor_trap_flag();
    preemption_timer();
    activity();
    woken_by_exit();
    faulting_iret();
    external_interrupts();
    nmis();
    tpr_shadow();
    return tap_end();
}

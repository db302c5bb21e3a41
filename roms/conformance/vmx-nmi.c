/*
 * NMIs of guests: what IRET does to their blocking under each pair of the NMI controls, and where "NMI
 * unblocking due to IRET" is told (SDM 28.3, 30.2.1, 30.2.3); an NMI that waits for a guest's IRET, one that
 * comes while virtual NMIs are blocked; the NMI window (28.2).
 *
 * Bochs 2.7 reports the unblocking for an IRET that faults before it reads memory (30.2.3), and saves the
 * active state where the window wakes (30.1).
 */
#include "apic.h"
#include "vmx-common.h"

#define CODE(name, before, instruction) \
    asm(".pushsection .text; .balign 16; " #name ": " before "; " #name "_at: " instruction "; " #name \
        "_end: vmcall; .popsection"); \
    extern const uint8_t name[], name##_at[], name##_end[]

#define NOWHERE     0x5000000000ul
#define UNBLOCKING  (1u << 12)
#define HARDWARE(v) (EVENT_VALID | EVENT_HARDWARE_EXCEPTION | (v))
#define PF          (HARDWARE(VECTOR_PF) | EVENT_ERROR_CODE)

CODE(n_iret, "", "iretq");
CODE(n_iret_runs,
     "mov %ss, %eax; mov %rsp, %rcx; push %rax; push %rcx; pushf; mov %cs, %eax; push %rax; lea 1f(%rip), "
     "%rax; "
     "push %rax",
     "iretq; 1: nop");
CODE(n_read, "", "mov (%rdi), %eax");
CODE(n_nop, "", "nop; nop");
CODE(n_mov_ss, "mov %ss, %eax", "mov %eax, %ss; nop; nop");
CODE(n_sti, "", "sti; nop; nop; cli");
/* Sends itself an NMI: xAPIC (ESI=0) at RDI, or x2APIC's ICR; waits a little; IRET. */
CODE(n_send,
     "test %esi, %esi; jnz 1f; mov %ebx, (%rdi); jmp 2f; 1: mov $0x830, %ecx; mov %ebx, %eax; xor %edx, "
     "%edx; wrmsr; "
     "2: mov $10000, %ecx; 3: dec %ecx; jnz 3b; movl $1, n_waited(%rip); mov %ss, %eax; mov %rsp, %rcx; push "
     "%rax; "
     "push %rcx; pushf; mov %cs, %eax; push %rax; lea 4f(%rip), %rax; push %rax",
     "iretq; 4: nop");

static struct vmx_vcpu v;
static uint32_t n_waited __attribute__((used));

static void start(const void *code, uint32_t pin, uint32_t blocking)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    vmx_set_pin(pin);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocking);
}

static const struct kind {
    const char *name, *iret, *reading, *ept;
    uint32_t pin, left; /* of blocking by NMI after IRET */
    bool defined;       /* is "NMI unblocking due to IRET"? */
} kinds[] = {
#define KIND(name) \
    name, "SDM 28.3: " name ": IRET under blocking by NMI", \
        "SDM 30.2.3: " name ": another instruction's #PF under blocking by NMI", \
        "SDM 30.2.1: " name ": an EPT violation of IRET"
    {KIND("NMI exiting 0"), 0, 0, true},
    {KIND("NMI exiting 1, virtual NMIs 0"), PIN_NMI_EXITING, INTERRUPTIBILITY_NMI, false},
    {KIND("virtual NMIs 1"), PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, 0, true},
};

static void iret(const struct kind *k)
{
    uint32_t pin = k->pin, left = k->left;
    bool defined = k->defined;
    start(n_iret_runs, pin, INTERRUPTIBILITY_NMI);
    done(&v, k->iret);
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), left, left ? "  leaves it" : "  ends it");
    unblock_nmis();
    for (unsigned blocked = 2; blocked--;) {
        start(n_iret, pin, blocked ? INTERRUPTIBILITY_NMI : 0);
        vmwrite(GUEST_RSP, NOWHERE);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI,
                blocked ? "  that faults at its stack: #PF" : "  the same without blocking");
        uint64_t event = vmread(EXITING_EVENT_IDENTIFICATION);
        is(defined ? event : event & ~(uint64_t)UNBLOCKING, PF | (defined && blocked ? UNBLOCKING : 0),
           defined && blocked ? "  SDM 30.2.3: bit 12 is set" : "  SDM 30.2.3: bit 12");
        is(vmread(GUEST_INTERRUPTIBILITY_STATE), blocked ? left : 0, "  the blocking");
        unblock_nmis();
    }
    start(n_iret, pin, INTERRUPTIBILITY_NMI);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_NT);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "  that faults before it reads memory: #GP");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & ~(defined ? 0 : (uint64_t)UNBLOCKING),
       HARDWARE(VECTOR_GP) | EVENT_ERROR_CODE, "  SDM 30.2.3: bit 12 is for accesses to memory alone");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), left, "  the blocking");
    unblock_nmis();
    start(n_read, pin, INTERRUPTIBILITY_NMI);
    v.regs.gpr[RDI] = NOWHERE;
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, k->reading);
    is(vmread(EXITING_EVENT_IDENTIFICATION) & ~(defined ? 0 : (uint64_t)UNBLOCKING), PF,
       "  SDM 30.2.3: bit 12 is IRET's alone");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  the blocking stays");
    unblock_nmis();
}

static uint8_t *away; /* a page that EPT does not map */

static void iret_behind_ept(const struct kind *k)
{
    uint32_t pin = k->pin, left = k->left;
    bool defined = k->defined;
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) {
        skip(8, "no EPT");
        return;
    }
    for (unsigned blocked = 2; blocked--;) {
        guest_init_ept(&v, n_iret);
        vmx_set_pin(pin);
        vmwrite(GUEST_INTERRUPTIBILITY_STATE, blocked ? INTERRUPTIBILITY_NMI : 0);
        *ept_entry(v.ept, (uint64_t)away, 1) = 0;
        vmwrite(GUEST_RSP, (uint64_t)away + 0x800);
        struct vmx_exit e =
            exit_is(&v, EXIT_REASON_EPT_VIOLATION, blocked ? k->ept : "  the same without blocking");
        is(e.qualification & (defined ? 0x11bf : 0x1bf), 0x181u | (defined && blocked ? UNBLOCKING : 0),
           "  SDM 30.2.1: a read, and bit 12 for the unblocking");
        is(vmread(GUEST_INTERRUPTIBILITY_STATE), blocked ? left : 0, "  the blocking");
        unblock_nmis();
    }
    guest_init_ept(&v, n_iret);
    vmx_set_pin(pin);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, INTERRUPTIBILITY_NMI);
    *ept_entry(v.ept, (uint64_t)away, 1) = (uint64_t)away | EPT_W;
    vmwrite(GUEST_RSP, (uint64_t)away + 0x800);
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, "  an EPT misconfiguration of IRET");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), left, "  the blocking, which nothing tells");
    unblock_nmis();
}

/* ---- NMIs that come ---- */

static unsigned host_nmis;
static bool host_nmi(struct trap_frame *f)
{
    (void)f;
    host_nmis++;
    return true;
}

static void start_sender(uint32_t pin, uint32_t blocking)
{
    start(n_send, pin, blocking);
    n_waited = 0;
    v.regs.gpr[RDI] = apic_icr_address();
    v.regs.gpr[RSI] = apic_is_x2();
    v.regs.gpr[RBX] = apic_nmi_command();
    if (vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) {
        static uint8_t no_exits[4096] __attribute__((aligned(4096)));
        vmx_set_proc(PROC_USE_MSR_BITMAPS);
        vmwrite(ADDRESS_OF_MSR_BITMAPS, (uint64_t)no_exits);
    }
}

static void nmis(void)
{
    trap_on(VECTOR_NMI, host_nmi);
    start_sender(0, INTERRUPTIBILITY_NMI);
    vmwrite(EXCEPTION_BITMAP, 0);
    uint64_t *frame =
        delivery_is(&v, VECTOR_NMI, "SDM 28.3: NMI exiting 0: an NMI waits for the guest's IRET");
    is(frame[0], (uint64_t)n_send_at + 2, "  and comes right behind it");
    is(n_waited, 1, "  not before");
    is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  and blocks them again");
    unblock_nmis();
    if (vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS)) {
        start_sender(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS, INTERRUPTIBILITY_NMI);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "SDM 28.2: blocking of virtual NMIs holds no NMI back");
        is(vmread(EXITING_EVENT_IDENTIFICATION) & ~(uint64_t)UNBLOCKING, EVENT_VALID | EVENT_NMI | VECTOR_NMI,
           "  it exits");
        is(n_waited, 0, "  at once");
        is(vmread(GUEST_INTERRUPTIBILITY_STATE), INTERRUPTIBILITY_NMI, "  and virtual NMIs stay blocked");
        unblock_nmis();
    } else {
        skip(4, "no virtual NMIs");
    }
    is(host_nmis, 0, "  the host has taken none");
    trap_on(VECTOR_NMI, NULL);
}

static void windows(void)
{
    const uint32_t pin = PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS)) {
        skip(10, "no virtual NMIs");
        return;
    }
    /* Bochs keeps virtual NMIs blocked through an entry that says otherwise, up to an IRET. */
    start(n_iret_runs, pin, 0);
    vmx_run(&v);
    start(n_nop, pin, INTERRUPTIBILITY_MOV_SS);
    vmx_set_proc(PROC_NMI_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_NMI_WINDOW, "SDM 28.2: the NMI window opens behind blocking by MOV SS");
    is(vmread(GUEST_RIP), (uint64_t)n_nop + 1, "  one instruction later");
    start(n_nop, pin, INTERRUPTIBILITY_STI);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmx_set_proc(PROC_NMI_WINDOW_EXITING);
    exit_is(&v, EXIT_REASON_NMI_WINDOW, "SDM 28.2: the NMI window opens behind blocking by STI");
    is(vmread(GUEST_RIP), (uint64_t)n_nop + 1, "  one instruction later");
    static const struct {
        uint32_t state, bit;
        const char *name;
    } states[] = {{ACTIVITY_HLT, 1u << 6, "SDM 28.2: the NMI window wakes from HLT"},
                  {ACTIVITY_SHUTDOWN, 1u << 7, "SDM 28.2: the NMI window wakes from shutdown"}};
    for (unsigned i = 0; i < 2; i++) {
        if (!(rdmsr(IA32_VMX_MISC) & states[i].bit)) {
            skip(3, "the activity state is not offered");
            continue;
        }
        start(n_nop, pin, 0);
        vmx_set_proc(PROC_NMI_WINDOW_EXITING);
        if (vmx_allowed(IA32_VMX_PINBASED_CTLS,
                        PIN_ACTIVATE_VMX_PREEMPTION_TIMER)) { /* should nothing wake it */
            vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
            vmwrite(VMX_PREEMPTION_TIMER_VALUE, 100000);
        }
        vmwrite(GUEST_ACTIVITY_STATE, states[i].state);
        exit_is(&v, EXIT_REASON_NMI_WINDOW, states[i].name);
        is(vmread(GUEST_ACTIVITY_STATE), states[i].state, "  which is saved");
        is(vmread(GUEST_RIP), (uint64_t)n_nop, "  before the first instruction");
    }
}

int rom_main(void)
{
    if (!vmx_test_begin("NMIs of guests, and IRET")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    apic_enable();
    away = page_alloc(1);
    for (unsigned i = 0; i < 3; i++) {
        if (vmx_allowed(IA32_VMX_PINBASED_CTLS, kinds[i].pin) != kinds[i].pin) {
            skip_one(kinds[i].name, "not offered by this processor");
            continue;
        }
        iret(&kinds[i]);
        iret_behind_ept(&kinds[i]);
    }
    nmis();
    windows();
    return tap_end();
}

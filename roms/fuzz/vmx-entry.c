/*
 * Breaks VMCSs at random, from a seed, and prints what each VM entry did: one line each. The same seed on two
 * machines gives the same VMCSs, so their outputs can be compared line by line:
 *
 *     tools/run-on-bochs build/roms/fuzz-vmx-entry.elf seed=7 count=2000 > a
 *     build/matryoshka -kernel build/roms/fuzz-vmx-entry.elf -append "seed=7 count=2000" -serial stdio > b
 *     diff a b
 *
 * A line: number, kind of guest, fields changed, "->", outcome ("invalid", "valid N" for VMfailValid(N),
 * "exit N qQ" for a failed entry, "ran N" for an entry that came back with exit reason N). Changes that this
 * processor does not offer are left out of the VMCS and make the outcome "-": such lines compare with
 * nothing.
 *
 * Missing: host state that would still be valid but not ours, MSR areas of the exit, the wait-for-SIPI state.
 */
#include "../conformance/vmx-common.h"

static uint64_t state;

static uint64_t random64(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned n) { return (unsigned)(random64() >> 33) % n; }

PROBE(p_vmcall, "vmcall");
asm(".pushsection .text; code16: .code16; vmcall; .code64; code16_end: .popsection");
extern const uint8_t code16[], code16_end[];

static struct vmx_vcpu v;
static uint64_t scratch;

enum kind {
    BITS,    /* flip bits of the value, within `width` */
    CONTROL, /* flip one of the bits in `mask`, if the capability MSR `msr` offers it */
    CHOICE,  /* one of `choices`, or flipped bits */
    EVENT,   /* an event identification, mostly plausible */
};

struct field {
    const char *name;
    uint32_t encoding;
    enum kind kind;
    unsigned width;
    uint32_t msr, mask;
    uint64_t choices[6];
};

#define AR(seg) \
    { \
        "AR_" #seg, GUEST_##seg##_ACCESS_RIGHTS, CHOICE, 17, 0, 0, \
        { \
            0x93, 0xc093, 0xa09b, 0x10000, 0xf3, 0xc09b \
        } \
    }
#define SEL(seg) \
    { \
        "SEL_" #seg, GUEST_##seg##_SELECTOR, BITS, 4, 0, 0, { 0 } \
    }
#define LIMIT(seg) \
    { \
        "LIMIT_" #seg, GUEST_##seg##_LIMIT, CHOICE, 32, 0, 0, \
        { \
            0, 0xffff, 0xfffff, 0x100000, 0xffffffff, 0xfffff000 \
        } \
    }
#define BASE(seg) \
    { \
        "BASE_" #seg, GUEST_##seg##_BASE, BITS, 64, 0, 0, { 0 } \
    }
#define NONCANONICAL 0x8000000000000000ul

static const struct field fields[] = {
    AR(ES),
    AR(CS),
    AR(SS),
    AR(DS),
    AR(FS),
    AR(GS),
    AR(LDTR),
    AR(TR),
    SEL(CS),
    SEL(SS),
    SEL(DS),
    SEL(ES),
    SEL(LDTR),
    SEL(TR),
    LIMIT(CS),
    LIMIT(SS),
    LIMIT(DS),
    LIMIT(GS),
    LIMIT(LDTR),
    LIMIT(TR),
    BASE(CS),
    BASE(SS),
    BASE(ES),
    BASE(FS),
    BASE(GS),
    BASE(LDTR),
    BASE(TR),
    {"GDTR_LIMIT", GUEST_GDTR_LIMIT, BITS, 20, 0, 0, {0}},
    {"IDTR_LIMIT", GUEST_IDTR_LIMIT, BITS, 20, 0, 0, {0}},
    {"GDTR_BASE", GUEST_GDTR_BASE, CHOICE, 0, 0, 0, {NONCANONICAL, 0, 1ul << 47, ~0ul, 1ul << 46, 1ul << 48}},
    {"IDTR_BASE", GUEST_IDTR_BASE, CHOICE, 0, 0, 0, {NONCANONICAL, 0, 1ul << 47, ~0ul, 1ul << 46, 1ul << 48}},
    {"CR0", GUEST_CR0, BITS, 34, 0, 0, {0}},
    {"CR3", GUEST_CR3, BITS, 64, 0, 0, {0}},
    {"CR4", GUEST_CR4, BITS, 34, 0, 0, {0}},
    {"DR7", GUEST_DR7, BITS, 36, 0, 0, {0}},
    {"RIP",
     GUEST_RIP,
     CHOICE,
     0,
     0,
     0,
     {NONCANONICAL, 1ul << 32, 1ul << 47, ~0ul << 47, 1ul << 48, 1ul << 33}},
    {"RFLAGS", GUEST_RFLAGS, BITS, 26, 0, 0, {0}},
    {"PENDING_DEBUG",
     GUEST_PENDING_DEBUG_EXCEPTIONS,
     CHOICE,
     20,
     0,
     0,
     {0, 1 << 14, 1 << 12, 0x100f, 1 << 16, 1}},
    {"ACTIVITY", GUEST_ACTIVITY_STATE, CHOICE, 0, 0, 0, {0, 1, 1, 4, 5, 1}},
    {"INTERRUPTIBILITY", GUEST_INTERRUPTIBILITY_STATE, CHOICE, 6, 0, 0, {0, 1, 2, 3, 8, 9}},
    {"DEBUGCTL", GUEST_IA32_DEBUGCTL, CHOICE, 0, 0, 0, {0, 1, 2, 0, 1, 3}},
    {"PAT",
     GUEST_IA32_PAT,
     CHOICE,
     64,
     0,
     0,
     {0, 0x0007040600070406, 0x0101010101010101, 0x0606060606060606, 2, 0x0400000000000000}},
    {"EFER", GUEST_IA32_EFER, BITS, 16, 0, 0, {0}},
    {"SYSENTER_ESP",
     GUEST_IA32_SYSENTER_ESP,
     CHOICE,
     0,
     0,
     0,
     {NONCANONICAL, 1ul << 47, ~0ul << 47, 5, 0, 1ul << 63 | 1}},
    {"LINK", VMCS_LINK_POINTER, CHOICE, 0, 0, 0, {0x1000, 8, 1ul << 63, ~0ul, ~0ul, ~0ul - 4095}},
    {"PDPTE0", GUEST_PDPTE0, BITS, 64, 0, 0, {0}},
    {"CR3_TARGETS", CR3_TARGET_COUNT, CHOICE, 0, 0, 0, {0, 1, 4, 257, 1000, 0x80000000}},
    {"TPR_THRESHOLD", TPR_THRESHOLD, CHOICE, 0, 0, 0, {0, 1, 15, 16, 0x100, 0x80000000}},
    {"EPTP", EPTP, BITS, 12, 0, 0, {0}},
    {"ENTRY_LENGTH", VM_ENTRY_INSTRUCTION_LENGTH, CHOICE, 0, 0, 0, {0, 1, 2, 15, 16, 100}},
    {"ERROR_CODE", INJECTED_EVENT_ERROR_CODE, CHOICE, 0, 0, 0, {0, 1, 0xffff, 0x10000, 0x8000, 0x80000000}},
    {"INJECT", INJECTED_EVENT_IDENTIFICATION, EVENT, 0, 0, 0, {0}},
    {"INJECT", INJECTED_EVENT_IDENTIFICATION, EVENT, 0, 0, 0, {0}},
    {"INJECT", INJECTED_EVENT_IDENTIFICATION, EVENT, 0, 0, 0, {0}},
    {"PIN",
     PIN_BASED_VM_EXECUTION_CONTROLS,
     CONTROL,
     0,
     IA32_VMX_PINBASED_CTLS,
     PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS | 0x116,
     {0}},
    {"PROC",
     PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
     CONTROL,
     0,
     IA32_VMX_PROCBASED_CTLS,
     PROC_INTERRUPT_WINDOW_EXITING | PROC_USE_TSC_OFFSETTING | PROC_HLT_EXITING | PROC_CR3_LOAD_EXITING |
         PROC_USE_TPR_SHADOW | PROC_NMI_WINDOW_EXITING | PROC_MOV_DR_EXITING | PROC_USE_IO_BITMAPS |
         PROC_MONITOR_TRAP_FLAG | PROC_USE_MSR_BITMAPS | 0x72,
     {0}},
    {"PROC2",
     SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS,
     CONTROL,
     0,
     IA32_VMX_PROCBASED_CTLS2,
     PROC2_ENABLE_EPT | PROC2_DESCRIPTOR_TABLE_EXITING | PROC2_ENABLE_RDTSCP | PROC2_ENABLE_VPID |
         PROC2_WBINVD_EXITING | PROC2_UNRESTRICTED_GUEST | PROC2_RDRAND_EXITING | PROC2_ENABLE_INVPCID,
     {0}},
    {"ENTRY",
     VM_ENTRY_CONTROLS,
     CONTROL,
     0,
     IA32_VMX_ENTRY_CTLS,
     ENTRY_LOAD_DEBUG_CONTROLS | ENTRY_IA_32E_MODE_GUEST | ENTRY_ENTRY_TO_SMM | ENTRY_LOAD_IA32_PAT |
         ENTRY_LOAD_IA32_EFER | 1,
     {0}},
    {"EXIT",
     PRIMARY_VM_EXIT_CONTROLS,
     CONTROL,
     0,
     IA32_VMX_EXIT_CTLS,
     EXIT_SAVE_DEBUG_CONTROLS | EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT |
         EXIT_SAVE_IA32_PAT | EXIT_LOAD_IA32_PAT | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE | 3,
     {0}},
    {"IO_BITMAP_B", ADDRESS_OF_IO_BITMAP_B, CHOICE, 0, 0, 0, {0, 1, 0x800, 1ul << 52, 0x1000, 1ul << 63}},
    {"MSR_BITMAPS", ADDRESS_OF_MSR_BITMAPS, CHOICE, 0, 0, 0, {0, 1, 0x800, 1ul << 52, 0x1000, 1ul << 63}},
    {"VIRTUAL_APIC", VIRTUAL_APIC_ADDRESS, CHOICE, 0, 0, 0, {1, 0x10, 0x800, 1ul << 52, 4, 1ul << 63}},
    {"VPID", VPID, CHOICE, 0, 0, 0, {0, 1, 2, 0xffff, 0, 7}},
    {"HOST_CS", HOST_CS_SELECTOR, CHOICE, 0, 0, 0, {8, 0, 9, 12, 11, 8}},
    {"HOST_SS", HOST_SS_SELECTOR, CHOICE, 0, 0, 0, {0x10, 0x13, 0x14, 0x10, 0x10, 0x11}},
    {"HOST_TR", HOST_TR_SELECTOR, CHOICE, 0, 0, 0, {0x48, 0, 0x4c, 0x49, 0x48, 0x48}},
    {"HOST_FS_BASE", HOST_FS_BASE, CHOICE, 0, 0, 0, {0, NONCANONICAL, 1ul << 47, ~0ul << 47, 5, 1ul << 46}},
    {"HOST_PAT",
     HOST_IA32_PAT,
     CHOICE,
     0,
     0,
     0,
     {0x0007040600070406, 0x0007040600070406, 3, 0x0800000000000000, 2, 0x0007040600070406}},
};
#define FIELDS (sizeof(fields) / sizeof(fields[0]))

/* An event: mostly of a legal type, sometimes with a stray bit. */
static uint64_t random_event(void)
{
    static const uint8_t vectors[] = {0, 1, 2, 3, 4, 6, 8, 10, 13, 14, 17, 18, 31, 32, 0x80, 0xff};
    uint64_t e = below(8) ? EVENT_VALID : 0;
    e |= EVENT_TYPE(below(8)) | vectors[below(16)];
    if (below(3) == 0) e |= EVENT_ERROR_CODE;
    if (below(8) == 0) e |= 1ul << (12 + below(19));
    return e;
}

/* Draws always the same numbers, whatever the machine offers. */
static bool mutate(const struct field *f)
{
    uint64_t old = 0, new;
    unsigned choice = below(6), bit = below(64), again = below(64), style = below(4);
    uint64_t event = random_event();
    bool there = vmread_status(f->encoding, &old) == VMX_SUCCEED;
    switch (f->kind) {
    case CONTROL: {
        /* The bit'th of the mask's bits. */
        uint32_t pick = f->mask;
        unsigned bits = 0;
        for (uint32_t m = f->mask; m; m &= m - 1) bits++;
        for (unsigned i = bit % bits; i; i--) pick &= pick - 1;
        pick &= -pick;
        print(" %s^%x", f->name, pick);
        if (!there || (!vmx_allowed(f->msr, pick) && !(old & pick) && pick > 0x400)) return false;
        new = old ^ pick;
        break;
    }
    case EVENT: new = event; break;
    case CHOICE:
        if (!f->width || style) {
            new = f->choices[choice];
            break;
        }
        /* fall through */
    default:
        new = old ^ 1ul << bit % f->width;
        if (style == 1) new ^= 1ul << again % f->width;
    }
    if (f->kind != CONTROL) print(" %s=%lx", f->name, new);
    if (there) vmwrite(f->encoding, new);
    return there;
}

static const char *base_guest(unsigned kind)
{
    if (kind == 0) {
        guest_init(&v, p_vmcall);
    } else {
        static uint64_t ept; /* one for all: memory is not given back */
        if (!ept) {
            guest_init_ept(&v, p_vmcall);
            ept = v.ept;
        }
        guest_init(&v, p_vmcall);
        v.ept = ept;
        vmwrite(EPTP, ept_pointer(ept));
        vmx_set_proc2(PROC2_ENABLE_EPT);
        if (kind > 1) vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
        if (kind == 3) guest_real_mode(&v, code16, (size_t)(code16_end - code16));
        if (kind == 4) vmx_guest_protected_mode();
    }
    /* Optional things have sane values, in case a control comes to need them. */
    vmwrite(ADDRESS_OF_IO_BITMAP_A, scratch);
    vmwrite(ADDRESS_OF_IO_BITMAP_B, scratch);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, scratch);
    vmwrite(VIRTUAL_APIC_ADDRESS, scratch);
    vmwrite(VPID, 1);
    vmwrite(TPR_THRESHOLD, 0);
    vmwrite(GUEST_IA32_PAT, rdmsr(IA32_PAT));
    vmwrite(HOST_IA32_PAT, rdmsr(IA32_PAT));
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 1);
    vmwrite(INJECTED_EVENT_ERROR_CODE, 0);
    /* Nothing runs for long. */
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 8192 >> (rdmsr(IA32_VMX_MISC) & 31)); /* as long on every machine */
    static const char *const names[] = {"plain", "ept", "unrestricted", "real", "protected"};
    return names[kind];
}

static bool dangerous(void)
{
    /* A guest that waits for a SIPI, or is shut down, may wait for ever. */
    uint64_t activity = vmread(GUEST_ACTIVITY_STATE);
    return activity == ACTIVITY_SHUTDOWN || activity == ACTIVITY_WAIT_FOR_SIPI;
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
    scratch = (uint64_t)page_alloc(1);
    uint64_t seed = cmdline_number("seed", 1), count = cmdline_number("count", 1000),
             first = cmdline_number("first", 0);
    uint32_t widths = cpuid(0x80000008, 0).eax;
    print("# seed %lu count %lu; %u physical and %u linear address bits\n", seed, count, widths & 0xff,
          widths >> 8 & 0xff);
    for (uint64_t n = 0; n < count; n++) {
        /* Each line has its own seed, so that one can be run alone: first=N count=N+1. */
        state = (seed << 32 | n) * 0x9e3779b97f4a7c15 + 1;
        for (unsigned i = 0; i < 8; i++) random64();
        if (n < first) continue;
        const char *name = base_guest(below(5));
        print("%lu %s", n, name);
        bool offered = true;
        for (unsigned changes = 1 + below(3); changes; changes--) offered &= mutate(&fields[below(FIELDS)]);
        if (!offered || dangerous()) {
            print(" -> -\n");
            continue;
        }
        struct vmx_exit e = vmx_run(&v);
        if (e.status == VMX_FAIL_INVALID)
            print(" -> invalid\n");
        else if (e.status == VMX_FAIL_VALID)
            print(" -> valid %u\n", e.error);
        else if (e.reason & EXIT_REASON_ENTRY_FAILURE)
            print(" -> exit %u q%lx\n", e.reason & 0xffff, e.qualification);
        else if (e.reason == EXIT_REASON_EXCEPTION_OR_NMI)
            print(" -> ran 0 event %lx\n", vmread(EXITING_EVENT_IDENTIFICATION));
        else
            print(" -> ran %u\n", e.reason);
    }
    print("# end\n");
    return 0;
}

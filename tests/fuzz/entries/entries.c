// VM entries without end, in one process: the generator of roms/fuzz, the very code that a guest runs against
// other machines (tools/fuzz-vmcs), built for the host and driving the library. Nothing is compared: what
// must not happen is a crash, a leak or a report of the sanitizers'.
//
// usage: fuzz_entries [SEED [COUNT [again=N] [loop]]]
//
//   COUNT cases of a seed (default: 1, 1000), of one to six entries, each then entered N more times (default:
//   0) with one field changed and put back; loop: in the loop engine
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "roms/fuzz/fuzz.h"

struct tss rt_tss;
static uint64_t next_page = SHARED_AT;

void *page_alloc_aligned(unsigned count, uint64_t alignment)
{
    uint64_t at = (next_page + alignment - 1) & ~(alignment - 1);
    next_page = at + 4096ul * count;
    if (next_page > SHARED_AT + SHARED_SIZE) native_panic("the generator wants more memory");
    return (void *)at;
}
void *page_alloc(unsigned count) { return page_alloc_aligned(count, 4096); }

void native_panic(const char *format, ...)
{
    fprintf(stderr, "fuzz_entries: %s\n", format);
    exit(2);
}
void print(const char *format, ...) { (void)format; }
const char *cmdline(void) { return ""; }
bool cmdline_has(const char *word) { return word == NULL; }
void host_tables(uint64_t *gdt, uint64_t *idt) { *gdt = 0x1000, *idt = 0x2000; }

uint64_t vmread(uint64_t field)
{
    uint64_t v = 0;
    machine_vmread((uint32_t)field, &v);
    return v;
}
void vmwrite(uint64_t field, uint64_t value) { machine_vmwrite((uint32_t)field, value); }
enum vmx_status invept(uint64_t type, uint64_t eptp)
{
    (void)type, (void)eptp;
    machine_invept();
    return VMX_SUCCEED;
}
void vmx_skip_instruction(void)
{
    vmwrite(GUEST_RIP, vmread(GUEST_RIP) + vmread(VM_EXIT_INSTRUCTION_LENGTH));
}

static uint64_t capability(uint32_t msr) // the TRUE one where there is one
{
    static const uint32_t plain[] = {IA32_VMX_PINBASED_CTLS, IA32_VMX_PROCBASED_CTLS, IA32_VMX_EXIT_CTLS,
                                     IA32_VMX_ENTRY_CTLS};
    for (unsigned i = 0; i < 4; i++)
        if (plain[i] == msr) return rdmsr(IA32_VMX_TRUE_PINBASED_CTLS + i);
    return rdmsr(msr);
}
uint32_t vmx_allowed(uint32_t msr, uint32_t bits) { return bits & (uint32_t)(capability(msr) >> 32); }
uint32_t vmx_adjust(uint32_t msr, uint32_t wanted)
{
    uint64_t c = capability(msr);
    return (wanted | (uint32_t)c) & (uint32_t)(c >> 32);
}
bool vmx_has_secondary(uint32_t bits) { return vmx_allowed(IA32_VMX_PROCBASED_CTLS2, bits) == bits; }

static void give(void)
{
    machine_new_case();
    for (unsigned i = 0; i < FIELD_COUNT; i++) machine_vmwrite(field_rows[i].encoding, kase.f[i]);
    machine_vmwrite(HOST_RIP, 0), machine_vmwrite(HOST_RSP, 0x9000);
    machine_vmwrite(VMX_PREEMPTION_TIMER_VALUE, kase.f[F_VMX_PREEMPTION_TIMER_VALUE] / 8); // not to wait long
    machine_registers((uint64_t[]){kase.cr2, kase.dr[0], kase.dr[1], kase.dr[2], kase.dr[3], kase.dr6});
    for (unsigned i = 0; i < 2; i++)
        if (kase.interrupts[i]) machine_interrupt(kase.interrupts[i]);
    machine_forget_code(arena_physical(), A_SIZE);
}

// Whoever has processed a notification has emptied the descriptor (SDM 32.6), and nothing fills it again but
// IPI virtualization.
static void descriptor_is_empty(uint64_t notifications)
{
    const uint64_t *pid = areas_posted();
    if (machine_counts().notifications == notifications) return;
    if (vmread(TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS) & PROC3_IPI_VIRTUALIZATION) return;
    if (vmread(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS) != (uint64_t)pid)
        return; // a field changed without regard
    if (pid[0] | pid[1] | pid[2] | pid[3] | (pid[4] & 1)) native_panic("posted interrupts are left behind");
}

static struct vmx_exit enter(bool launched)
{
    uint64_t notifications = machine_counts().notifications;
    int how = machine_enter(launched, kase.regs.gpr);
    descriptor_is_empty(notifications);
    return (struct vmx_exit){.status = how == 3 ? VMX_FAIL_VALID : (enum vmx_status)how,
                             .reason = how ? 0 : (uint32_t)vmread(EXIT_REASON),
                             .qualification = how ? 0 : vmread(EXIT_QUALIFICATION)};
}

static void run_case(uint64_t again)
{
    static const uint32_t places[] = {A_CODE + 0x800, A_CODE + 0x800, A_CODE + 0x802, A_CODE + 0x805,
                                      A_STUBS + 8};
    struct vmx_exit e = {0};
    unsigned n = 0;
    give();
    do e = enter(n > 0);
    while (e.status == VMX_SUCCEED && !(e.reason & EXIT_REASON_ENTRY_FAILURE) && go_on(&e) && ++n < ENTRIES);
    for (; again; again--) {
        enum field field;
        uint64_t old, rip = PICK(places);
        if (!mutation_live(&field, &old)) continue;
        if (field != F_GUEST_RIP) vmwrite(GUEST_RIP, rip);
        vmwrite(VMX_PREEMPTION_TIMER_VALUE, 256 >> (rdmsr(IA32_VMX_MISC) & 31));
        if (machine_enter(n > 0 || e.status == VMX_SUCCEED, kase.regs.gpr) == 3) return;
        machine_vmwrite(field_rows[field].encoding, old);
        vmwrite(INJECTED_EVENT_IDENTIFICATION, 0);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1,
             count = argc > 2 ? strtoull(argv[2], NULL, 0) : 1000, again = 0;
    bool loop = false;
    for (int i = 3; i < argc; i++) {
        if (strncmp(argv[i], "again=", 6) == 0)
            again = strtoull(argv[i] + 6, NULL, 0);
        else if (strcmp(argv[i], "loop") == 0)
            loop = true;
        else
            native_panic("usage: fuzz_entries [SEED [COUNT [again=N] [loop]]]");
    }
    if (!machine_open(loop)) {
        fprintf(stderr, "fuzz_entries: the host does not give the memory at %#lx\n", SHARED_AT);
        return 77;
    }
    machine_new_case();
    offer_own(offer.have, true);
    for (unsigned i = 0; i < WORDS; i++) offer.lack[i] = ~offer.have[i];
    arena_init();
    areas_shadow = (uint64_t)page_alloc(1);
    for (uint64_t i = 0; i < count; i++) {
        make_case(seed, i);
        run_case(again);
    }
    struct machine_counts c = machine_counts();
    printf("seed %lu: %lu cases, %lu entries, %lu refused, %lu VMX aborts, %lu without an end, %lu "
           "notifications\n",
           seed, count, c.entries, c.failures, c.aborts, c.endless, c.notifications);
    machine_close();
    return c.entries > count / 4 || count == 0 ? 0 : 1;
}

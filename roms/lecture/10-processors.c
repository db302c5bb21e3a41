/*
 * 10. Several logical processors: how software finds out how many there are and what they share (CPUID, ACPI,
 * APIC IDs), how it starts them (INIT-SIPI-SIPI), how they talk (IPIs) and agree (LOCK); and that each has
 * VMX of its own, so that a VMCS can be active on one of them only: it moves by VMCLEAR and VMPTRLD.
 *
 * The command line: adds=N, what each processor adds to a shared counter (2000).
 */
#include "apic.h"
#include "lecture.h"
#include "smp.h"

#define IPI 0x41

/* ---- what the firmware says: the MADT ---- */
static const uint8_t *find_table(const char *signature)
{
    for (uint64_t at = 0xe0000; at < 0x100000; at += 16) {
        if (memcmp((const void *)at, "RSD PTR ", 8) != 0) continue;
        const uint32_t *rsdt = (const uint32_t *)(uint64_t) * (const uint32_t *)(at + 16);
        for (unsigned i = 9; i < rsdt[1] / 4; i++)
            if (memcmp((const void *)(uint64_t)rsdt[i], signature, 4) == 0)
                return (const uint8_t *)(uint64_t)rsdt[i];
    }
    return NULL;
}

static unsigned madt_processors(void)
{
    const uint8_t *madt = find_table("APIC");
    unsigned n = 0;
    for (uint32_t at = 44; madt && at < *(const uint32_t *)(madt + 4);
         at += madt[at + 1] ? madt[at + 1] : 1000)
        n += (madt[at] == 0 && madt[at + 4] & 1) ||
             (madt[at] == 9 && madt[at + 8] & 1); /* local APIC, x2APIC: enabled */
    return n;
}

/* ---- LOCK ---- */
static volatile uint64_t with_lock, without_lock, adds;
static void add(uint64_t unused)
{
    (void)unused;
    for (uint64_t i = 0; i < adds; i++) {
        asm volatile("lock incq %0" : "+m"(with_lock));
        uint64_t v = without_lock; /* read, then write: what comes between is lost */
        pause();
        without_lock = v + 1;
    }
}

/* ---- IPIs ---- */
static volatile uint64_t ipis;
static bool on_ipi(struct trap_frame *f)
{
    (void)f;
    ipis++;
    apic_eoi();
    return true;
}
static void wait_for_ipi(uint64_t n)
{
    while (ipis < n) asm volatile("sti; hlt; cli" ::: "memory");
}

/* ---- VMX of its own, and a VMCS that moves ---- */
GUEST(counts, "1: incq 0x40000000; mov $1, %eax; vmcall; jmp 1b");
static uint64_t other_region;
static volatile struct vmx_exit on_other;
static volatile enum vmx_status other_vmxon;

static void descriptor_tables_of_this_processor(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) gdtr;
    asm volatile("sgdt %0" : "=m"(gdtr));
    const uint64_t *gdt = (const uint64_t *)gdtr.base, low = gdt[SEL_TSS / 8];
    vmwrite(HOST_GDTR_BASE, gdtr.base);
    vmwrite(HOST_TR_BASE, (low >> 16 & 0xffffff) | (low >> 56) << 24 | gdt[SEL_TSS / 8 + 1] << 32);
}

static void run_there(uint64_t vmcs)
{
    write_cr0((read_cr0() | rdmsr(IA32_VMX_CR0_FIXED0)) & rdmsr(IA32_VMX_CR0_FIXED1));
    write_cr4((read_cr4() | CR4_VMXE | rdmsr(IA32_VMX_CR4_FIXED0)) & rdmsr(IA32_VMX_CR4_FIXED1));
    if (!(rdmsr(IA32_FEATURE_CONTROL) & 1)) wrmsr(IA32_FEATURE_CONTROL, rdmsr(IA32_FEATURE_CONTROL) | 5);
    other_vmxon = vmxon(other_region);
    vmptrld(vmcs);
    descriptor_tables_of_this_processor();
    vt_vcpu.launched = false; /* VMCLEAR said so */
    struct vmx_exit e = vmx_run(&vt_vcpu);
    if (e.status == VMX_SUCCEED) vmx_skip_instruction();
    vmclear(vmcs);
    on_other = e;
    vmxoff();
}

int rom_main(void)
{
    adds = cmdline_number("adds", 2000);
    lecture_begin(10, "several logical processors");
    scene("how many there are");
    unsigned reported = madt_processors();
    struct cpuid leaf1 = cpuid(1, 0), core = cpuid_if_present(0xb, 1);
    figure(reported, "processors in ACPI's MADT");
    figure(leaf1.ebx >> 16 & 0xff, "APIC IDs that a package takes (CPUID 1)");
    figure(core.ebx & 0xffff, "logical processors of a package (CPUID 0BH)");
    ok(reported > 0, "firmware reports processors");

    scene("INIT-SIPI-SIPI: they are started");
    unsigned n = smp_start();
    /* CPUID 0BH says how many low bits of the ID are the thread, and how many thread and core. */
    unsigned thread_bits = cpuid_if_present(0xb, 0).eax & 31, core_bits = core.eax & 31;
    for (unsigned i = 0; i < n; i++) {
        uint32_t id = smp_apic_id(i);
        say("  processor %u has APIC ID %u: package %u, core %u, thread %u", i, id, id >> core_bits,
            (id & ((1u << core_bits) - 1)) >> thread_bits, id & ((1u << thread_bits) - 1));
    }
    figure(n, "processors that came");
    is(n, reported, "as many came as firmware reported");
    if (n < 2) {
        skip(7, "one processor only");
        return lecture_end();
    }

    scene("LOCK: all add to the same two counters");
    for (unsigned i = 1; i < n; i++) smp_run(i, add, 0);
    add(0);
    for (unsigned i = 1; i < n; i++) smp_wait(i, 5000);
    figure(with_lock, "the sum with LOCK");
    figure(without_lock, "the sum without, where reads and writes of two processors may cross");
    is(with_lock, adds * n, "LOCK loses nothing");
    ok(without_lock <= with_lock, "and without it there are never too many");

    scene("an IPI: processor 0 wakes processor 1");
    trap_on(IPI, on_ipi);
    smp_run(1, wait_for_ipi, 1);
    apic_write(APIC_ICR_HIGH, smp_apic_id(1) << 24);
    apic_write(APIC_ICR, 1u << 14 | IPI);
    smp_wait(1, 1000);
    figure(ipis, "IPIs that processor 1 took");
    is(ipis, 1, "one was sent and one was taken");

    scene("each has VMX of its own; a VMCS moves from one to the other");
    if (vt_missing()) {
        skip(4, vt_missing());
        return lecture_end();
    }
    other_region = vmx_new_region();
    GUEST_LOAD(counts);
    vt_prepare();
    struct vmx_exit e = vmx_run(&vt_vcpu);
    vmx_skip_instruction();
    say("  on processor 0: exit by %s, the guest has counted %lu", vmx_exit_name(e.reason), guest_word(0));
    vmclear(vt_vcpu.vmcs); /* else its state may still be in processor 0 */
    smp_run(1, run_there, vt_vcpu.vmcs);
    ok(smp_wait(1, 1000), "processor 1 came back");
    say("  on processor 1: VMXON and VMPTRLD of the same VMCS; exit by %s, the guest has counted %lu",
        vmx_exit_name(on_other.reason), guest_word(0));
    is(other_vmxon, VMX_SUCCEED, "VMXON on processor 1, with a region of its own");
    is(on_other.reason, EXIT_REASON_VMCALL, "the guest exits there");
    is(guest_word(0), 2, "it is one guest, that went on");
    return lecture_end();
}

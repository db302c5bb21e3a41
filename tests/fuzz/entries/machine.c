// The machine of machine.h: one processor in 64-bit root mode, identity-mapped, with a few bytes of code that
// enter.
#define _GNU_SOURCE // memfd_create
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/system/cpuid.h"
#include "cpu/system/system.h"
#include "tests/fuzz/entries/machine.h"
#include "vmx/control.h"
#include "vmx/intercept.h"
#include "vmx/vmcs.h"

#define RAM_SIZE 0x8000000ull
enum {
    AT_PML4 = 0x4000,
    AT_PDPT = 0x5000,
    AT_CODE = 0x10000,
    AT_VMXON = 0x40000,
    AT_VMCS = 0x41000,
    AT_STACK = 0x9000
};

static struct {
    struct vcpu *v;
    struct phys phys;
    struct cpu_features features;
    u64 requested[4]; // vectors of interrupts that wait
    bool loop;
    struct machine_counts counts;
} m;

static u64 port_read(void *o, unsigned cpu, u16 port, unsigned size) { return UINT64_MAX; }
static void port_write(void *o, unsigned cpu, u16 port, unsigned size, u64 value) {}
static int highest(void)
{
    for (unsigned i = 4; i--;)
        if (m.requested[i]) return (int)(64 * i) + 63 - __builtin_clzll(m.requested[i]);
    return -1;
}
static int intr_ack(void *o, unsigned cpu)
{
    int vector = highest();
    if (vector >= 0) m.requested[vector / 64] &= ~(1ull << vector % 64);
    if (highest() < 0) cpu_signal(m.v, CPU_SIGNAL_INTR_OFF, 0);
    return vector;
}
static u8 tpr_get(void *o, unsigned cpu) { return 0; }
static void tpr_set(void *o, unsigned cpu, u8 tpr) {}
static bool board_msr_read(void *o, unsigned cpu, u32 msr, u64 *value) { return false; }
static bool board_msr_write(void *o, unsigned cpu, u32 msr, u64 value) { return false; }
static void eoi(void *o, unsigned cpu) { m.counts.notifications++; } // no guest has a local APIC to write to
static void ipi(void *o, unsigned cpu, u32 destination, u8 vector)
{
    if (destination == 0) machine_interrupt(vector);
}
static void shutdown(void *o, unsigned cpu, const char *why) { m.counts.aborts++; }
static const struct cpu_board_ops board = {.port_read = port_read,
                                           .port_write = port_write,
                                           .intr_ack = intr_ack,
                                           .tpr_get = tpr_get,
                                           .tpr_set = tpr_set,
                                           .msr_read = board_msr_read,
                                           .msr_write = board_msr_write,
                                           .eoi = eoi,
                                           .ipi = ipi,
                                           .shutdown = shutdown};

static bool share(void)
{
    int fd = memfd_create("entries", MFD_CLOEXEC);
    bool ok = fd >= 0 && ftruncate(fd, SHARED_SIZE) == 0 &&
              mmap(m.phys.ram + SHARED_AT, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                   0) != MAP_FAILED &&
              mmap((void *)SHARED_AT, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
                   fd, 0) == (void *)SHARED_AT;
    if (fd >= 0) close(fd);
    return ok;
}

bool machine_open(bool loop)
{
    const char *why;
    if (!phys_init(&m.phys, RAM_SIZE, &why) || !share()) return false;
    cpu_features_max(&m.features);
    m.features.feature_control = 5;
    m.loop = loop;
    m.v = vcpu_new(0, &m.phys, &m.features);
    if (!m.v) return false;
    if (loop) m.v->loop_engine = true;
    m.v->board = &board;
    return true;
}

void machine_close(void)
{
    vcpu_free(m.v);
    phys_free(&m.phys);
    munmap((void *)SHARED_AT, SHARED_SIZE);
}

void machine_forget_code(uint64_t at, uint64_t size)
{
    for (paddr a = at & PAGE_MASK; a < at + size; a += PAGE_SIZE) phys_changing(&m.phys, a, PAGE_SIZE);
}

static void root(u64 rip)
{
    struct vcpu_state *s = &m.v->s;
    s->rip = rip;
    s->activity = ACTIVITY_ACTIVE;
    s->blocking = 0;
    s->shadow_one = s->virtual_nmi_blocked = s->nmi_pending = false;
    s->pending_dbg = 0;
    s->inject.kind = EVENT_NONE;
    cpu_set_rflags(m.v, 2);
    cpu_mode_changed(m.v);
    cpu_attention(m.v);
}

// Until the code halts; false: it never did.
static bool run(void)
{
    for (unsigned i = 0; i < 64; i++) {
        enum run_exit why = vcpu_run(m.v, 20000);
        if (why == RUN_SHUTDOWN) return false;
        if (why != RUN_HALTED) continue;
        if (!m.v->s.vmx.guest) return m.v->s.rip >> 12 == AT_CODE >> 12;
        u64 next = cpu_own_deadline(m.v); // a guest that halts has its timer
        if (next == UINT64_MAX) break;
        cpu_skip_to(m.v, next);
    }
    m.counts.endless++;
    return false;
}

// A guest may have written to any of it.
static void tables_and_code(void)
{
    phys_write64(&m.phys, 0, AT_PML4, AT_PDPT | 7);
    phys_write64(&m.phys, 0, AT_PDPT, 0x87);
    phys_write(&m.phys, 0, AT_CODE, "\x0F\x01\xC2\xF4", 4);        // VMLAUNCH; HLT
    phys_write(&m.phys, 0, AT_CODE + 0x10, "\x0F\x01\xC3\xF4", 4); // VMRESUME; HLT
    phys_write(&m.phys, 0, AT_CODE + 0x20, "\xF4", 1);             // where exits come to
    phys_write(&m.phys, 0, AT_CODE + 0x30, "\xF3\x0F\xC7\x37\x66\x0F\xC7\x36\x0F\xC7\x36\xF4",
               12); // VMXON, VMCLEAR ...
    phys_write32(&m.phys, 0, AT_VMXON, VMCS_REVISION);
    phys_write32(&m.phys, 0, AT_VMCS, VMCS_REVISION);
}

static void power_up(void)
{
    struct vcpu_state *s = &m.v->s;
    const struct segment code = {.sel = 8, .limit = UINT32_MAX, .ar = 0xA09B},
                         data = {.sel = 16, .limit = UINT32_MAX, .ar = 0xC093};
    vcpu_reset(m.v, false);
    s->cr0 = 0x80000031 | CR0_WP, s->cr3 = AT_PML4, s->cr4 = CR4_PAE | CR4_VMXE | CR4_OSFXSR | CR4_OSXSAVE;
    s->msr.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    for (unsigned i = SEG_ES; i <= SEG_GS; i++) s->seg[i] = i == SEG_CS ? code : data;
    s->seg[SEG_TR] = (struct segment){.sel = 0x48, .base = 0x3000, .limit = 0x67, .ar = 0x8B};
    s->seg[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
    s->gpr[RSP] = AT_STACK;
}

void machine_new_case(void)
{
    struct vcpu_state *s = &m.v->s;
    memset(m.requested, 0, sizeof m.requested);
    tables_and_code();
    power_up();
    phys_write64(&m.phys, 0, 0x8000, AT_VMXON), phys_write64(&m.phys, 0, 0x8008, AT_VMCS);
    s->gpr[RDI] = 0x8000, s->gpr[RSI] = 0x8008;
    root(AT_CODE + 0x30);
    if (!run() || s->vmx.vmcs_pointer != AT_VMCS) panic("the fuzzer's machine is not in VMX operation");
    memset(m.phys.ram + AT_VMCS + offsetof(struct vmcs_region, f), 0, sizeof(struct vmcs_fields));
    vmx_drop(m.v);
}

bool machine_vmread(uint32_t encoding, uint64_t *value)
{
    int f = vmcs_field_find(encoding);
    if (f < 0) return false;
    *value = vmcs_read(&m.phys, AT_VMCS, (enum vmcs_field)f);
    return true;
}

bool machine_vmwrite(uint32_t encoding, uint64_t value)
{
    static const u64 host_rip = AT_CODE + 0x20;
    int f = vmcs_field_find(encoding);
    if (f < 0) return false;
    // An exit has to come back to us.
    switch (f) {
    case VMCS_HOST_CR3: value = value < 4096 << 4 || value >> 52 ? value : AT_PML4; break;
    case VMCS_HOST_RIP: value = host_rip; break;
    default: break;
    }
    vmcs_write(&m.phys, 0, AT_VMCS, (enum vmcs_field)f, value);
    return true;
}

uint64_t machine_rdmsr(uint32_t msr)
{
    u64 v = 0;
    msr_read(m.v, msr, &v);
    return v;
}

void machine_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) { cpuid_query(m.v, leaf, subleaf, out); }

void machine_registers(const uint64_t r[6])
{
    struct vcpu_state *s = &m.v->s;
    s->cr2 = r[0];
    for (unsigned i = 0; i < 4; i++) s->dr[i] = r[1 + i];
    s->dr[6] = r[5];
}

uint64_t machine_control_register(unsigned n)
{
    const struct vcpu_state *s = &m.v->s;
    return n == 0 ? s->cr0 : n == 3 ? s->cr3 : s->cr4;
}

void machine_interrupt(uint8_t vector)
{
    m.requested[vector / 64] |= 1ull << vector % 64;
    cpu_signal(m.v, CPU_SIGNAL_INTR_ON, 0);
}

void machine_invept(void) { cpu_tlb_forget(m.v); }

int machine_enter(bool launched, uint64_t gpr[16])
{
    struct vcpu_state *s = &m.v->s;
    u64 before = m.v->vmx->entries;
    for (unsigned i = 0; i < 16; i++)
        if (i != RSP) s->gpr[i] = gpr[i];
    root(AT_CODE + (launched ? 0x10 : 0));
    bool back = run();
    m.counts.entries += m.v->vmx->entries - before;
    if (!back) return 3;
    memcpy(gpr, s->gpr, sizeof s->gpr);
    if (s->rip == AT_CODE + 0x21) return 0;
    m.counts.failures++;
    return cpu_rflags(m.v) & FL_CF ? 1 : 2;
}

struct machine_counts machine_counts(void) { return m.counts; }

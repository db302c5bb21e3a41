/* What the VMX tests share. See vmx-common.h. */
#include "vmx-common.h"

#define STUB_SIZE 8
#define IVT_STUBS 0x1000 /* where the real-mode handlers live */

/* Vector n is delivered to guest_vectors + 8 n, which is a NOP (Bochs saves a stale RIP if the first
   instruction of an NMI's handler exits) and a VMCALL. */
asm(".pushsection .text; .balign 16; guest_vectors: .rept 256; nop; vmcall; .balign 8; .endr; .popsection");
extern const uint8_t guest_vectors[];

static struct idt_gate guest_idt[256] __attribute__((aligned(16)));
static uint8_t guest_stack[8192] __attribute__((aligned(16)));

bool vmx_test_begin(const char *what)
{
    tap_begin(what);
    const char *why;
    if (vmx_available(&why)) return true;
    print("1..0 # SKIP %s\n", why);
    return false;
}

void guest_init(struct vmx_vcpu *v, const void *code)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t at = (uint64_t)guest_vectors + STUB_SIZE * i;
        guest_idt[i] = (struct idt_gate){(uint16_t)at,         SEL_CODE64,           0, 0x8e,
                                         (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0};
    }
    vmx_vcpu_init(v, (uint64_t)code, (uint64_t)(guest_stack + sizeof(guest_stack) - 64));
    vmwrite(GUEST_IDTR_BASE, (uint64_t)guest_idt);
    vmwrite(EXCEPTION_BITMAP, 0xffffffff);
}

void guest_init_ept(struct vmx_vcpu *v, const void *code)
{
    guest_init(v, code);
    v->ept = ept_new();
    ept_map(v->ept, 0, 0, 16 << 20, EPT_RWX);
    for (uint64_t at = 16 << 20; at < 64 << 20; at += 2 << 20) ept_map_large(v->ept, at, at, EPT_RWX);
    vmwrite(EPTP, ept_pointer(v->ept));
    vmx_set_proc2(PROC2_ENABLE_EPT);
}

void guest_real_mode(struct vmx_vcpu *v, const void *code, size_t size)
{
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_real_mode(0);
    memcpy((void *)0x8000, code, size);
    memcpy((void *)IVT_STUBS, guest_vectors, 256 * STUB_SIZE);
    /* Not through the host's page 0: it may hold nothing that we need, and it is mapped. */
    volatile uint16_t *ivt = (volatile uint16_t *)page_alloc(1);
    for (unsigned i = 0; i < 256; i++) {
        ivt[2 * i] = (uint16_t)(IVT_STUBS + STUB_SIZE * i);
        ivt[2 * i + 1] = 0;
    }
    *ept_entry(v->ept, 0, 1) = (uint64_t)ivt | EPT_TYPE_WB | EPT_RWX;
    vmwrite(GUEST_RIP, 0x8000);
    vmwrite(GUEST_RSP, 0x7000);
}

static const char *outcome(const struct vmx_exit *e)
{
    if (e->status == VMX_FAIL_INVALID) return "VMfailInvalid";
    if (e->status == VMX_FAIL_VALID) return "VMfailValid";
    return vmx_exit_name(e->reason);
}

static void explain(const struct vmx_exit *e)
{
    tap_note("  %s: error %u, reason %x, qualification %lx", outcome(e), e->error, e->reason,
             e->qualification);
    if (e->status != VMX_SUCCEED) return;
    tap_note("  rip %lx, exiting event %lx, error code %lx, gpa %lx", vmread(GUEST_RIP),
             vmread(EXITING_EVENT_IDENTIFICATION), vmread(EXITING_EVENT_ERROR_CODE),
             vmx_has_secondary(PROC2_ENABLE_EPT) ? vmread(GUEST_PHYSICAL_ADDRESS) : 0);
}

struct vmx_exit exit_is(struct vmx_vcpu *v, uint32_t reason, const char *name)
{
    struct vmx_exit e = vmx_run(v);
    if (!ok(e.status == VMX_SUCCEED && e.reason == reason, "%s", name)) explain(&e);
    return e;
}

uint64_t guest_handler(unsigned vector) { return (uint64_t)guest_vectors + STUB_SIZE * vector + 1; }

uint64_t *delivery_is(struct vmx_vcpu *v, unsigned vector, const char *name)
{
    struct vmx_exit e = vmx_run(v);
    uint64_t rip = vmread(GUEST_RIP), rsp = vmread(GUEST_RSP);
    uint64_t stubs = vmread(GUEST_CR0) & CR0_PE ? (uint64_t)guest_vectors : IVT_STUBS;
    if (!ok(e.status == VMX_SUCCEED && e.reason == EXIT_REASON_VMCALL &&
                rip == stubs + STUB_SIZE * vector + 1,
            "%s", name))
        explain(&e);
    return (uint64_t *)rsp;
}

void done(struct vmx_vcpu *v, const char *name) { exit_is(v, EXIT_REASON_VMCALL, name); }

void entry_fails(struct vmx_vcpu *v, unsigned error, const char *name)
{
    struct vmx_exit e = vmx_run(v);
    if (!ok(e.status == VMX_FAIL_VALID && e.error == error, "%s", name)) {
        explain(&e);
        tap_note("  wanted error %u", error);
    }
}

void unblock_nmis(void)
{
    asm volatile(
        "mov %%ss, %%eax; mov %%rsp, %%rcx; push %%rax; push %%rcx; pushfq; mov %%cs, %%eax; push %%rax;"
        "lea 1f(%%rip), %%rax; push %%rax; iretq; 1:" ::
            : "rax", "rcx", "memory");
}

uint8_t maxphyaddr(void) { return (uint8_t)cpuid(0x80000008, 0).eax; }

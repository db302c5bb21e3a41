// The APIC-access page (SDM 32.4): which accesses by linear address are virtualized and which exit, and what
// a virtualized write does when its operation is over.
//
// Where the manual leaves room, this processor does the following; the tests hold it.
// - The register that the data comes from or goes to does not matter: SSE accesses of at most 32 bits are
//   virtualized like those of general registers.
// - A read-modify-write is a read and then a write, each judged by itself, the write before anything changes.
// - CLFLUSH and MONITOR read a byte. ENTER's look at the final stack pointer is a write that always exits.
// - An access that lies in two pages exits with the offset of its first byte in the APIC-access page.
// - Pages of any size are looked at in pieces of 4 KiB, and the translation is compared at each access: what
// a
//   TLB holds from before the control was turned on exits like anything else.
// - Physical accesses (paging structures without EPT, EPT's own, the VMCS) go to the page itself.
#include "vmx/apic.h"

#include "vmx/insn.h"
#include "vmx/intercept.h"
#include "vmx/world.h"

enum {
    APIC_READ,
    APIC_WRITE,
    APIC_FETCH,
    APIC_DELIVERY,
    APIC_GPA_DELIVERY = 10,
    APIC_GPA = 15
}; // bits 15:12

static _Noreturn void exits(struct vcpu *v, unsigned offset, unsigned type)
{
    // The instruction length is not promised, but processors write it, and KVM skips a write of EOI by it.
    struct event e = {.kind = EVENT_VMEXIT,
                      .exit_reason = EXIT_REASON_APIC_ACCESS,
                      .exit_qualification = offset | (u64)type << 12};
    if (v->d.in) e.insn_len = v->d.in->len, e.exit_valid = WITH_INSN_LEN;
    raise_event(v, &e);
}

static bool delivering(const struct vcpu *v) { return v->s.vmx.original_event & IDENT_VALID; }

static _Noreturn void data_exits(struct vcpu *v, unsigned offset, u32 acc)
{
    bool write = (acc & ACC_KIND) == ACC_WRITE;
    exits(v, offset, delivering(v) ? APIC_DELIVERY : write ? APIC_WRITE : APIC_READ);
}

// The registers that "APIC-register virtualization" takes from the virtual-APIC page, a bit for each 16 bytes
// (SDM 32.4.2, 32.4.3.1).
#define RANGE(first, last) (BIT((last) / 16 + 1) - BIT((first) / 16))
#define WRITABLE \
    (RANGE(0x020, 0x020) | RANGE(0x080, 0x080) | RANGE(0x0B0, 0x0B0) | RANGE(0x0D0, 0x0F0) | \
     RANGE(0x280, 0x280) | RANGE(0x300, 0x380) | RANGE(0x3E0, 0x3E0))
#define READABLE (WRITABLE | RANGE(0x030, 0x030) | RANGE(0x100, 0x270))

static bool virtualized(const struct vcpu *v, unsigned offset, unsigned n, bool write)
{
    const struct vmx_control *c = vmx_controls(v);
    const struct vmx_state *x = &v->s.vmx;
    if (!(c->proc & PROC_USE_TPR_SHADOW) || n > 4 || (offset & 15) + n > 4) return false;
    // the operation has virtualized a write: nothing more, but the same again
    if (x->apic_write_size && !(write && x->apic_write == offset && x->apic_write_size == n)) return false;
    if (offset == VAPIC_TPR) return true;
    if (c->proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY && (offset == VAPIC_EOI || offset == VAPIC_ICR_LO))
        return true;
    if (write && c->proc3 & PROC3_IPI_VIRTUALIZATION && offset == VAPIC_ICR_LO) return true;
    if (!(c->proc2 & PROC2_APIC_REGISTER_VIRTUALIZATION) || offset >= 0x400) return false;
    return (write ? WRITABLE : READABLE) >> offset / 16 & 1;
}

void vmx_apic_check(struct vcpu *v, laddr la, unsigned n, u32 acc)
{
    unsigned offset = (unsigned)(la.at & ~PAGE_MASK);
    if (!virtualized(v, offset, n, (acc & ACC_KIND) == ACC_WRITE)) data_exits(v, offset, acc);
}

void vmx_apic_read(struct vcpu *v, laddr la, void *buf, unsigned n)
{
    vmx_apic_check(v, la, n, ACC_READ);
    phys_read(v->phys, v->index, vmx_apic_redirect(v, la.at), buf, n);
}

void vmx_apic_write(struct vcpu *v, laddr la, const void *buf, unsigned n)
{
    vmx_apic_check(v, la, n, ACC_WRITE);
    phys_write(v->phys, v->index, vmx_apic_redirect(v, la.at), buf, n);
    v->s.vmx.apic_write = (u16)(la.at & ~PAGE_MASK);
    v->s.vmx.apic_write_size = (u8)n;
    cpu_attention(v); // when the operation is over
}

paddr vmx_apic_redirect(const struct vcpu *v, u64 address)
{
    return vmx_controls(v)->virtual_apic | (address & ~PAGE_MASK);
}

_Noreturn void vmx_apic_exit(struct vcpu *v, laddr la, u32 acc)
{
    data_exits(v, (unsigned)(la.at & ~PAGE_MASK), acc);
}

_Noreturn void vmx_apic_fetch(struct vcpu *v, laddr la)
{
    exits(v, (unsigned)(la.at & ~PAGE_MASK), APIC_FETCH);
}

_Noreturn void vmx_apic_guest_physical(struct vcpu *v)
{
    exits(v, 0, delivering(v) ? APIC_GPA_DELIVERY : APIC_GPA); // the offset is undefined
}

// ---- emulation of writes (SDM 32.4.3.2) ----

// Fixed, edge-triggered, to nobody but itself, of a legal vector, and nothing reserved.
static bool is_self_ipi(u32 icr) { return (icr & 0xFFFFB700) == 0x40000 && icr & 0xF0; }

// The same to one by its physical APIC ID; the vector is looked at later.
static bool is_plain_ipi(u32 icr) { return (icr & 0xFFFFBF00) == 0; }

static void command(struct vcpu *v)
{
    u32 icr = vapic_read(v, VAPIC_ICR_LO);
    if (vmx_proc2(v, PROC2_VIRTUAL_INTERRUPT_DELIVERY) && is_self_ipi(icr))
        vmx_self_ipi_virtualization(v, (u8)icr);
    else if (vmx_proc3(v, PROC3_IPI_VIRTUALIZATION) && is_plain_ipi(icr))
        vmx_ipi_virtualization(v, (u8)icr, vapic_read(v, VAPIC_ICR_HI) >> 24);
    else
        vmx_trap(v, EXIT_REASON_APIC_WRITE, VAPIC_ICR_LO);
}

void vmx_apic_write_emulation(struct vcpu *v)
{
    struct vmx_state *x = &v->s.vmx;
    unsigned offset = x->apic_write;
    x->apic_write_size = 0;
    if (offset == VAPIC_TPR) {
        vapic_write(v, VAPIC_TPR, vapic_read(v, VAPIC_TPR) & 0xFF);
        vmx_tpr_virtualization(v);
    } else if (offset == VAPIC_EOI && vmx_proc2(v, PROC2_VIRTUAL_INTERRUPT_DELIVERY)) {
        vapic_write(v, VAPIC_EOI, 0);
        vmx_eoi_virtualization(v);
    } else if (offset == VAPIC_ICR_LO)
        command(v);
    else if (offset >> 4 == VAPIC_ICR_HI >> 4)
        vapic_write(v, VAPIC_ICR_HI, vapic_read(v, VAPIC_ICR_HI) & 0xFF000000);
    else
        vmx_trap(v, EXIT_REASON_APIC_WRITE, offset);
}

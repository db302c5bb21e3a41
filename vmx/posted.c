// External interrupts in non-root operation, the posted ones among them, and those that a guest posts for
// another (SDM 28.2, 32.6, 32.1.6).
#include "cpu/system/cpuid.h"
#include "vmx/apic.h"
#include "vmx/intercept.h"

// The descriptor: requests (PIR) in bytes 0-31, then the notification information.
enum { PID_ON = 32 }; // the byte with the outstanding-notification bit
enum { NOTIFY_ON = 1, NOTIFY_SN = 2, NOTIFY_NV_SHIFT = 16, NOTIFY_NDST_SHIFT = 32 }; // of the 8 bytes there

// Steps 3 to 7 of SDM 32.6. Nobody else runs meanwhile, so they are atomic.
static void process(struct vcpu *v)
{
    paddr pid = vmx_controls(v)->posted_descriptor;
    const char *outer = phys_writer_begin(v->phys, "posted-interrupt processing");
    phys_write8(v->phys, v->index, pid + PID_ON, phys_read8(v->phys, v->index, pid + PID_ON) & 0xFE);
    if (v->board->eoi) v->board->eoi(v->board_opaque, v->index);
    for (unsigned word = 0; word < 8; word++) {
        u32 vectors = phys_read32(v->phys, v->index, pid + 4 * word);
        if (!vectors) continue;
        phys_write32(v->phys, v->index, pid + 4 * word, 0);
        vmx_virtual_request(v, word, vectors);
    }
    phys_writer_end(v->phys, outer);
    vmx_evaluate_virtual_interrupts(v);
    cpu_end_mwait(v); // HLT goes on
}

bool vmx_external_interrupt(struct vcpu *v, struct event *exit)
{
    struct event e = {.kind = EVENT_INTERRUPTION, .type = EVT_EXTERNAL};
    if (vmx_pin(v, PIN_PROCESS_POSTED_INTERRUPTS)) {
        int vector = v->board->intr_ack(v->board_opaque, v->index);
        if (vector == vmx_controls(v)->posted_vector) {
            process(v);
            return false;
        }
        if (vector >= 0) e.vector = (u8)vector, e.exit_valid = WITH_VECTOR;
    }
    return vmx_event_exits(v, &e, exit);
}

void vmx_ipi_virtualization(struct vcpu *v, u8 vector, u32 target)
{
    const struct vmx_control *c = vmx_controls(v);
    u64 entry = 0;
    if (vector >= 16 && target <= c->pid_pointer_last)
        entry = phys_read64(v->phys, v->index, c->pid_pointers + 8ull * target);
    if (entry >> v->features->maxphyaddr || (entry & 0x3F) != 1) {
        vmx_trap(v, EXIT_REASON_APIC_WRITE, VAPIC_ICR_LO);
        return;
    }
    paddr pid = entry & ~1ull, word = pid + vector / 32 * 4;
    const char *outer = phys_writer_begin(v->phys, "IPI virtualization");
    phys_write32(v->phys, v->index, word, phys_read32(v->phys, v->index, word) | 1u << (vector & 31));
    u64 notify = phys_read64(v->phys, v->index, pid + PID_ON);
    bool tell = !(notify & (NOTIFY_ON | NOTIFY_SN));
    if (tell) phys_write64(v->phys, v->index, pid + PID_ON, notify | NOTIFY_ON);
    phys_writer_end(v->phys, outer);
    if (tell && v->board->ipi)
        v->board->ipi(v->board_opaque, v->index, (u32)(notify >> NOTIFY_NDST_SHIFT),
                      (u8)(notify >> NOTIFY_NV_SHIFT));
}

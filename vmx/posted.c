// External interrupts in non-root operation, and the posted ones among them (SDM 28.2, 32.6).
#include "vmx/apic.h"
#include "vmx/intercept.h"

enum { PID_ON = 32 }; // the byte with the outstanding-notification bit; the requests (PIR) are bytes 0-31

// Steps 3 to 7 of SDM 32.6. Nobody else runs meanwhile, so they are atomic.
static void process(struct vcpu *v)
{
    paddr pid = vmx_controls(v)->posted_descriptor;
    phys_write8(v->phys, v->index, pid + PID_ON, phys_read8(v->phys, v->index, pid + PID_ON) & 0xFE);
    if (v->board->eoi) v->board->eoi(v->board_opaque, v->index);
    for (unsigned word = 0; word < 8; word++) {
        u32 vectors = phys_read32(v->phys, v->index, pid + 4 * word);
        if (!vectors) continue;
        phys_write32(v->phys, v->index, pid + 4 * word, 0);
        vmx_virtual_request(v, word, vectors);
    }
    vmx_evaluate_virtual_interrupts(v);
    if (v->s.activity == ACTIVITY_MWAIT) {
        v->s.activity = ACTIVITY_ACTIVE;
        cpu_monitor_disarm(v);
    }
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

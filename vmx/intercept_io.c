// Port I/O, MSRs and task switches in non-root operation.
#include "vmx/insn.h"
#include "vmx/intercept.h"
#include "vmx/intercept_parts.h"
#include "vmx/operand.h"

static bool port_exits(struct vcpu *v, u16 port, unsigned size)
{
    const struct vmx_control *c = vmx_controls(v);
    if (!(c->proc & PROC_USE_IO_BITMAPS)) return c->proc & PROC_UNCONDITIONAL_IO_EXITING;
    if (port + size > 0x10000) return true; // wraps
    for (unsigned n = port; n < port + size; n++) {
        paddr map = c->io_bitmap[n >> 15];
        if (phys_read8(v->phys, v->index, map + (n >> 3 & 0xFFF)) >> (n & 7) & 1) return true;
    }
    return false;
}

void vmx_intercept_io(struct vcpu *v, const struct insn *in, u16 port, unsigned size, bool input, bool string,
                      bool rep, bool immediate, laddr string_address)
{
    if (!v->s.vmx.guest || !port_exits(v, port, size)) return;
    struct event e = {.kind = EVENT_VMEXIT,
                      .insn_len = in->len,
                      .exit_reason = EXIT_REASON_IO_INSTRUCTION,
                      .exit_qualification = (size - 1) | (input ? BIT(3) : 0) | (string ? BIT(4) : 0) |
                                            (rep ? BIT(5) : 0) | (immediate ? BIT(6) : 0) | (u64)port << 16,
                      .exit_valid = WITH_INSN_LEN};
    if (string) {
        unsigned seg = input ? SEG_ES : in->seg;
        e.exit_insn_info = (u32)(in->asz - W16) << 7 | (u32)seg << 15;
        e.exit_valid |= WITH_INSN_INFO;
        if (cpu_long64(v) || !(v->s.seg[seg].ar & AR_UNUSABLE)) {
            e.exit_gla = cpu_long64(v) ? string_address.at : (u32)string_address.at; // SDM 30.2.1
            e.exit_valid |= WITH_GLA;
        }
    }
    raise_event(v, &e);
}

bool vmx_msr_exits(struct vcpu *v, bool write, u32 msr)
{
    const struct vmx_control *c = vmx_controls(v);
    u32 low = msr & 0x1FFF;

    if (c->proc & PROC_USE_MSR_BITMAPS && (msr == low || msr == (low | 0xC0000000u))) {
        paddr map = c->msr_bitmap + (msr >> 31 ? 0x400 : 0) + (write ? 0x800 : 0);
        return phys_read8(v->phys, v->index, map + (low >> 3)) >> (low & 7) & 1;
    }
    return true;
}

void vmx_intercept_msr_list(struct vcpu *v, bool write, u32 msr, u64 data)
{
    if (!v->s.vmx.guest || !vmx_msr_exits(v, write, msr)) return;
    if (write) {
        vmx_controls(v)->region->f.MSR_DATA = data;
        vmx_region_written(v);
    }
    raise_vmexit(v, write ? EXIT_REASON_WRMSRLIST : EXIT_REASON_RDMSRLIST, msr, 0, WITH_INSN_LEN);
}

void vmx_intercept_task_switch(struct vcpu *v, u16 selector, unsigned source)
{
    if (!v->s.vmx.guest) return;
    // CALL, IRET and JMP report their length here; an IDT task gate reached by software reports it from the
    // vectoring.
    raise_vmexit(v, EXIT_REASON_TASK_SWITCH, selector | (u64)source << 30, 0, source < 3 ? WITH_INSN_LEN : 0);
}

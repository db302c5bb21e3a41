// IN and OUT, and the permission to use a port.
#include "cpu/system/system.h"
#include "cpu/state/cost.h"
#include "vmx/intercept.h"

void io_permission(struct vcpu *v, u16 port, unsigned size)
{
    u32 mode = v->d.mode;
    if (!(mode & MODE_PE)) return;
    if (!(mode & MODE_VM) && v->d.cpl <= (v->s.rflags & FL_IOPL) >> 12) return;
    // SDM volume 1, 19.5.2: two bytes are read whatever the size; both must lie in the limit.
    const struct segment *tr = &v->s.seg[SEG_TR];
    unsigned type = tr->ar & 0xF;
    if ((tr->ar & AR_UNUSABLE) || (type != 9 && type != 11) || tr->limit < 0x67) raise_gp0(v);
    u64 at = sys_load(v, linear_at(v, tr->base + 0x66), 2) + port / 8;
    if (at + 1 > tr->limit) raise_gp0(v);
    u64 bits = sys_load(v, linear_at(v, tr->base + at), 2) >> (port & 7);
    if (bits & ((1u << size) - 1)) raise_gp0(v);
}

static void do_in(struct vcpu *v, const struct insn *in, u16 port, bool immediate)
{
    unsigned w = in->osz == W64 ? W32 : in->osz, size = W_BYTES(w);
    io_permission(v, port, size);
    vmx_intercept_io(v, in, port, size, true, false, false, immediate, laddr_of(0));
    cpu_charge(v, COST_PORT);
    reg_set(v, GPR_OFF(RAX), w, port_in(v, port, size));
}

static void do_out(struct vcpu *v, const struct insn *in, u16 port, bool immediate)
{
    unsigned w = in->osz == W64 ? W32 : in->osz, size = W_BYTES(w);
    io_permission(v, port, size);
    vmx_intercept_io(v, in, port, size, false, false, false, immediate, laddr_of(0));
    cpu_charge(v, COST_PORT);
    port_out(v, port, size, reg_get(v, GPR_OFF(RAX), w));
}

void op_in_imm(struct vcpu *v, const struct insn *in) { do_in(v, in, (u8)in->imm, true); }
void op_in_dx(struct vcpu *v, const struct insn *in) { do_in(v, in, REG16(v, GPR_OFF(RDX)), false); }
void op_out_imm(struct vcpu *v, const struct insn *in) { do_out(v, in, (u8)in->imm, true); }
void op_out_dx(struct vcpu *v, const struct insn *in) { do_out(v, in, REG16(v, GPR_OFF(RDX)), false); }

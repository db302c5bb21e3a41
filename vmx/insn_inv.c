// INVEPT, INVVPID and VMFUNC.
#include "vmx/insn.h"
#include "vmx/intercept.h"

static u64 type_operand(const struct vcpu *v, const struct insn *in)
{
    return reg_get(v, in->r, cpu_long64(v) ? W64 : W32);
}

static void load_descriptor(struct vcpu *v, const struct insn *in, u64 d[2])
{
    lin_load_n(v, insn_linear(v, in, 16, ACC_READ), d, 16);
}

void op_invept(struct vcpu *v, const struct insn *in)
{
    const struct vmx_caps *c = vmx_capabilities(v);
    u64 d[2];

    vmx_guard_mode(v);
    if (!(c->ept_vpid >> EPT_CAP_INVEPT & 1)) raise_ud(v);
    if (cpu_cpl(v) > 0) raise_gp0(v);
    u64 type = type_operand(v, in);
    if (type < 1 || type > 2 || !(c->ept_vpid >> (EPT_CAP_INVEPT_SINGLE - 1 + type) & 1)) {
        vmx_fail(v, 28);
        return;
    }
    load_descriptor(v, in, d);
    if (type == 1) {
        if (!vmx_eptp_valid(c, v->features->maxphyaddr, d[0])) {
            vmx_fail(v, 28);
            return;
        }
        u64 view = (d[0] & (BIT(52) - BIT(12))) | 1;
        tlb_invept(&v->s.itlb, view);
        tlb_invept(&v->s.dtlb, view);
    } else {
        tlb_invept_all(&v->s.itlb);
        tlb_invept_all(&v->s.dtlb);
    }
    cpu_tlb_flushed(v);
    vmx_succeed(v);
}

void op_invvpid(struct vcpu *v, const struct insn *in)
{
    const struct vmx_caps *c = vmx_capabilities(v);
    enum { ADDRESS, SINGLE, ALL, SINGLE_KEEP_GLOBALS };
    u64 d[2];

    vmx_guard_mode(v);
    if (!(c->ept_vpid >> EPT_CAP_INVVPID & 1)) raise_ud(v);
    if (cpu_cpl(v) > 0) raise_gp0(v);
    u64 type = type_operand(v, in);
    if (type > 3 || !(c->ept_vpid >> (EPT_CAP_INVVPID_TYPES + type) & 1)) {
        vmx_fail(v, 28);
        return;
    }
    load_descriptor(v, in, d);
    if (d[0] >> 16 || (type != ALL && d[0] == 0) || (type == ADDRESS && !cpu_canonical_max(v, d[1]))) {
        vmx_fail(v, 28);
        return;
    }
    struct tlb *tlbs[2] = {&v->s.itlb, &v->s.dtlb};
    for (unsigned i = 0; i < 2; i++) {
        if (type == ADDRESS)
            tlb_invvpid_address(tlbs[i], (u16)d[0], laddr_of(d[1]));
        else if (type == ALL)
            tlb_invvpid_all(tlbs[i]);
        else
            tlb_invvpid(tlbs[i], (u16)d[0], type == SINGLE_KEEP_GLOBALS);
    }
    cpu_tlb_flushed(v);
    vmx_succeed(v);
}

// Leaf 0, EPTP switching. Before this, the intercept has given #UD outside "enable VM functions" and exit 59
// for functions that are not enabled. (In VMX root operation and outside VMX operation it is #UD.)
void op_vmfunc(struct vcpu *v, const struct insn *in)
{
    if (!v->s.vmx.guest) raise_ud(v);
    const struct vmx_control *c = vmx_controls(v);
    struct vmcs_fields *f = &c->region->f;
    u32 index = (u32)v->s.gpr[RCX];
    u64 eptp = 0;

    bool valid = index < 512;
    if (valid) {
        eptp = phys_read64(v->phys, v->index, f->EPTP_LIST_ADDRESS + 8 * index);
        valid = vmx_eptp_valid(&c->caps, v->features->maxphyaddr, eptp) && !((eptp ^ v->s.vmx.eptp) & 0x38);
    }
    if (!valid) raise_vmexit(v, EXIT_REASON_VMFUNC, 0, 0, WITH_INSN_LEN);
    f->EPTP = eptp;
    vmx_region_written(v);
    v->s.vmx.eptp = eptp;
    if (v->s.vmx.vpid == 0) {
        tlb_invvpid(&v->s.itlb, 0, false);
        tlb_invvpid(&v->s.dtlb, 0, false);
        cpu_tlb_flushed(v);
    }
    cpu_context_changed(v);
}

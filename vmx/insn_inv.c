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
    if (!(c->ept_vpid >> EPT_CAP_INVEPT & 1))
        vmx_refuse_by_event(v, REFUSED_INVEPT_ABSENT, BIT(EPT_CAP_INVEPT), c->ept_vpid, 0, 0);
    if (cpu_cpl(v) > 0) vmx_refuse_by_event(v, REFUSED_CPL, 0, cpu_cpl(v), 0, 0);
    u64 type = type_operand(v, in);
    if (type < 1 || type > 2 || !(c->ept_vpid >> (EPT_CAP_INVEPT_SINGLE - 1 + type) & 1)) {
        vmx_refuse(v, REFUSED_INVEPT_TYPE, 0, type, c->ept_vpid, 0);
        return;
    }
    load_descriptor(v, in, d);
    if (type == 1) {
        u64 bits = vmx_eptp_offence(c, v->features->maxphyaddr, d[0]);
        if (bits) {
            vmx_refuse(v, REFUSED_INVEPT_EPTP, bits, d[0], c->ept_vpid, v->features->maxphyaddr);
            return;
        }
        u64 view = (d[0] & (BIT(52) - BIT(12))) | 1;
        tlb_invept(&v->s.itlb, view);
        tlb_invept(&v->s.dtlb, view);
        if (unlikely(v->tlb_mode == TLB_LAZY)) kept_pages_drop(&v->s.kept, view);
    } else {
        tlb_invept_all(&v->s.itlb);
        tlb_invept_all(&v->s.dtlb);
        if (unlikely(v->tlb_mode == TLB_LAZY)) kept_pages_drop(&v->s.kept, 0);
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
    if (!(c->ept_vpid >> EPT_CAP_INVVPID & 1))
        vmx_refuse_by_event(v, REFUSED_INVVPID_ABSENT, BIT(EPT_CAP_INVVPID), c->ept_vpid, 0, 0);
    if (cpu_cpl(v) > 0) vmx_refuse_by_event(v, REFUSED_CPL, 0, cpu_cpl(v), 0, 0);
    u64 type = type_operand(v, in);
    if (type > 3 || !(c->ept_vpid >> (EPT_CAP_INVVPID_TYPES + type) & 1)) {
        vmx_refuse(v, REFUSED_INVVPID_TYPE, 0, type, c->ept_vpid, 0);
        return;
    }
    load_descriptor(v, in, d);
    if (d[0] >> 16) {
        vmx_refuse(v, REFUSED_INVVPID_RESERVED, d[0] & ~0xFFFFull, d[0], 0, 0);
        return;
    }
    if (type != ALL && d[0] == 0) {
        vmx_refuse(v, REFUSED_INVVPID_ZERO, 0, d[0], type, 0);
        return;
    }
    if (type == ADDRESS && !cpu_canonical_max(v, d[1])) {
        vmx_refuse(v, REFUSED_INVVPID_LINEAR, 0, d[1], 0, 0);
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
    if (unlikely(v->tlb_mode == TLB_LAZY) && type == ADDRESS)
        kept_directories_drop(&v->s.kept, 0); // (The others change the tags.)
    cpu_tlb_flushed(v);
    vmx_succeed(v);
}

// Leaf 0, EPTP switching. Before this, the intercept has given #UD outside "enable VM functions" and exit 59
// for functions that are not enabled. (In VMX root operation and outside VMX operation it is #UD.)
void op_vmfunc(struct vcpu *v, const struct insn *in)
{
    if (!v->s.vmx.guest) vmx_refuse_by_event(v, REFUSED_VMFUNC_ROOT, 0, v->s.cr4, 0, 0);
    const struct vmx_control *c = vmx_controls(v);
    struct vmcs_fields *f = &c->region->f;
    u32 index = (u32)v->s.gpr[RCX];

    if (index >= 512) vmx_refuse_by_event(v, REFUSED_VMFUNC_INDEX, 0, index, 0, 0);
    u64 eptp = phys_read64(v->phys, v->index, f->EPTP_LIST_ADDRESS + 8 * index);
    u64 bits = vmx_eptp_offence(&c->caps, v->features->maxphyaddr, eptp);
    if (bits) vmx_refuse_by_event(v, REFUSED_VMFUNC_EPTP, bits, eptp, index, f->EPTP_LIST_ADDRESS);
    bits = (eptp ^ v->s.vmx.eptp) & 0x38;
    if (bits) vmx_refuse_by_event(v, REFUSED_VMFUNC_LENGTH, bits, eptp, v->s.vmx.eptp, 0);
    f->EPTP = eptp;
    if (vmx_caps_control(&c->caps, CONTROL_PROC2_EPT_VIOLATION_VE)) f->EPTP_INDEX = (u16)index;
    vmx_region_written(v);
    v->s.vmx.eptp = eptp;
    if (v->s.vmx.vpid == 0 || unlikely(v->tlb_mode == TLB_STRICT)) {
        tlb_invvpid(&v->s.itlb, 0, false);
        tlb_invvpid(&v->s.dtlb, 0, false);
        cpu_tlb_flushed(v);
    }
    cpu_context_changed(v);
}

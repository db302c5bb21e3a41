// The VMX instructions that manage VMX operation and VMCSs: VMXON, VMXOFF, VMCLEAR, VMPTRLD, VMPTRST, VMREAD,
// VMWRITE, VMCALL (SDM chapter 33). In non-root operation they exit before a body runs (vmx/intercept.c), but
// for VMREAD and VMWRITE under VMCS shadowing.
//
// Missing: the dual-monitor treatment of SMM (not reported: VMCALL fails with error 1).
#include "cpu/state/trace.h"
#include "vmx/insn.h"

#include "vmx/intercept.h"

void vmx_fail_valid(struct vcpu *v, u32 number)
{
    v->s.fl = fl_pack(FL_ZF);
    vmcs_region_at(v->phys, v->s.vmx.vmcs_pointer)->f.VM_INSTRUCTION_ERROR = number;
    vmx_region_written(v);
}

void vmx_fail(struct vcpu *v, u32 number)
{
    if (v->s.vmx.vmcs_pointer == VMX_NO_POINTER)
        vmx_fail_invalid(v);
    else
        vmx_fail_valid(v, number);
}

void vmx_guard_mode(struct vcpu *v)
{
    if (!v->s.vmx.on) vmx_refuse_by_event(v, REFUSED_OUTSIDE_VMX, 0, v->s.cr4, 0, 0);
    if (v->s.rflags & FL_VM || (cpu_lma(v) && !cpu_long64(v))) raise_ud(v); // the guard has seen to it
}

void vmx_guard(struct vcpu *v)
{
    vmx_guard_mode(v);
    if (cpu_cpl(v) > 0) vmx_refuse_by_event(v, REFUSED_CPL, 0, cpu_cpl(v), 0, 0);
}

u64 vmx_operand64(struct vcpu *v, const struct insn *in)
{
    return lin_load(v, insn_linear(v, in, 8, ACC_READ), 8);
}

static void guard_fixed_bits(struct vcpu *v, const struct vmx_caps *c)
{
    u64 cr0 = v->s.cr0, cr4 = v->s.cr4, bits;
    if ((bits = c->cr0_fixed0 & ~cr0) != 0)
        vmx_refuse_by_event(v, REFUSED_VMXON_CR0_FIXED0, bits, cr0, c->cr0_fixed0, 0);
    if ((bits = cr0 & ~c->cr0_fixed1) != 0)
        vmx_refuse_by_event(v, REFUSED_VMXON_CR0_FIXED1, bits, cr0, c->cr0_fixed1, 0);
    if ((bits = c->cr4_fixed0 & ~cr4) != 0)
        vmx_refuse_by_event(v, REFUSED_VMXON_CR4_FIXED0, bits, cr4, c->cr4_fixed0, 0);
    if ((bits = cr4 & ~c->cr4_fixed1) != 0)
        vmx_refuse_by_event(v, REFUSED_VMXON_CR4_FIXED1, bits, cr4, c->cr4_fixed1, 0);
}

void op_vmxon(struct vcpu *v, const struct insn *in)
{
    const struct vmx_caps *c = vmx_capabilities(v);
    const struct vcpu_state *s = &v->s;

    if (!(s->cr4 & CR4_VMXE)) vmx_refuse_by_event(v, REFUSED_VMXON_CR4_VMXE, CR4_VMXE, s->cr4, 0, 0);
    if (cpu_lma(v) && !cpu_long64(v)) raise_ud(v); // the guard has seen to it
    if (cpu_cpl(v) > 0) vmx_refuse_by_event(v, REFUSED_VMXON_CPL, 0, cpu_cpl(v), 0, 0);
    if (s->vmx.on) {
        vmx_refuse(v, REFUSED_VMXON_AGAIN, 0, s->vmx.vmxon_pointer, 0, 0);
        return;
    }
    if (v->phys->a20_masked) vmx_refuse_by_event(v, REFUSED_VMXON_A20M, 0, 1, 0, 0);
    guard_fixed_bits(v, c);
    u64 control = s->msr.feature_control;
    if (!(control & 1)) vmx_refuse_by_event(v, REFUSED_VMXON_UNLOCKED, 1, control, 0, 0);
    if (!(control & 4)) vmx_refuse_by_event(v, REFUSED_VMXON_DISABLED, 4, control, 0, 0);

    paddr a = vmx_operand64(v, in);
    u64 bits = vmx_address_offence(v, a);
    if (bits) {
        vmx_refuse(v, REFUSED_VMXON_ADDRESS, bits, a, v->features->maxphyaddr, 0);
        return;
    }
    u32 dword = phys_read32(v->phys, v->index, a);
    if (dword != VMCS_REVISION) {
        vmx_refuse(v, REFUSED_VMXON_REVISION, dword ^ VMCS_REVISION, dword, c->basic, a);
        return;
    }
    v->s.vmx.on = true;
    v->s.vmx.vmxon_pointer = a;
    vmx_set_current(v, VMX_NO_POINTER);
    cpu_monitor_disarm(v);
    vmx_succeed(v);
}

void op_vmxoff(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    v->s.vmx.on = false;
    v->s.vmx.vmxon_pointer = VMX_NO_POINTER;
    vmx_set_current(v, VMX_NO_POINTER);
    cpu_monitor_disarm(v);
    vmx_succeed(v);
    cpu_attention(v); // an INIT that was held is due
}

void op_vmclear(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    paddr a = vmx_operand64(v, in);
    u64 bits = vmx_address_offence(v, a);
    if (bits) {
        vmx_refuse(v, REFUSED_VMCLEAR_ADDRESS, bits, a, v->features->maxphyaddr, 0);
        return;
    }
    if (a == v->s.vmx.vmxon_pointer) {
        vmx_refuse(v, REFUSED_VMCLEAR_VMXON, 0, a, a, 0);
        return;
    }
    // All of its data is in memory already.
    if (a == v->s.vmx.vmcs_pointer) vmx_set_current(v, VMX_NO_POINTER);
    phys_write32(v->phys, v->index, a + offsetof(struct vmcs_region, launch_state), VMCS_LAUNCH_CLEAR);
    vmx_succeed(v);
}

// A VMCS may be active on one processor at a time (SDM 27.1): who moves it makes it inactive by VMCLEAR on
// the one where it was. Here both see each other's writes; on a real one the VMCS is corrupted.
static void tell_shared(const struct vcpu *v, paddr vmcs)
{
    int other =
        v->board && v->board->vmcs_elsewhere ? v->board->vmcs_elsewhere(v->board_opaque, v->index, vmcs) : -1;
    if (other < 0 || !trace_wants(v, TRACE_MISUSE)) return;
    struct trace_event t;
    trace_begin(v, &t, TRACE_MISUSE);
    t.name = "VMCS current on two processors";
    t.addr = vmcs;
    t.value = (u64)other;
    trace_emit(v, &t);
}

void op_vmptrld(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    paddr a = vmx_operand64(v, in);
    u64 bits = vmx_address_offence(v, a);
    if (bits) {
        vmx_refuse(v, REFUSED_VMPTRLD_ADDRESS, bits, a, v->features->maxphyaddr, 0);
        return;
    }
    if (a == v->s.vmx.vmxon_pointer) {
        vmx_refuse(v, REFUSED_VMPTRLD_VMXON, 0, a, a, 0);
        return;
    }
    u32 dword = phys_is_ram(v->phys, a) ? phys_read32(v->phys, v->index, a) : UINT32_MAX;
    bits = (dword ^ VMCS_REVISION) & ~VMCS_SHADOW;
    if (bits) {
        vmx_refuse(v, REFUSED_VMPTRLD_REVISION, bits, dword, vmx_capabilities(v)->basic, a);
        return;
    }
    if (dword & VMCS_SHADOW && !vmx_caps_control(vmx_capabilities(v), CONTROL_PROC2_VMCS_SHADOWING)) {
        vmx_refuse(v, REFUSED_VMPTRLD_SHADOW, VMCS_SHADOW, dword, a, 0);
        return;
    }
    vmx_set_current(v, a);
    vmx_succeed(v);
    tell_shared(v, a);
}

void op_vmptrst(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    lin_store(v, insn_linear(v, in, 8, ACC_WRITE), 8, v->s.vmx.vmcs_pointer);
    vmx_succeed(v);
}

// The field that the register operand names: its index, or -1, and the instruction is refused. *high: access
// type "high".
static int field_named(struct vcpu *v, u64 encoding, bool *high)
{
    enum vmx_refusal_id why;
    u64 bits = 0;
    int n = encoding >> 32 ? -1 : vmcs_field_find((u32)encoding);
    *high = encoding & 1;
    if (encoding >> 32)
        why = REFUSED_FIELD_UPPER, bits = encoding & 0xFFFFFFFF00000000;
    else if (n < 0)
        why = REFUSED_FIELD_UNKNOWN;
    else if (*high && vmcs_field_rows[n].width != WIDTH_64)
        why = REFUSED_FIELD_HIGH, bits = 1;
    else if (!v->vmx->caps.exists[n])
        why = REFUSED_FIELD_ABSENT;
    else
        return n;
    vmx_refuse(v, why, bits, encoding, 0, 0);
    return -1;
}

// The VMCS that VMREAD and VMWRITE access: in non-root operation the shadow VMCS. (VM entry has checked the
// link pointer, but the region of the current VMCS can be written to.)
static paddr accessed_vmcs(const struct vcpu *v)
{
    if (likely(!v->s.vmx.guest)) return v->s.vmx.vmcs_pointer;
    paddr link = vmx_controls(v)->region->f.VMCS_LINK_POINTER;
    return link == VMX_NO_POINTER ? link : link & PAGE_MASK;
}

static void refuse_no_vmcs(struct vcpu *v)
{
    vmx_refuse(v, v->s.vmx.guest ? REFUSED_NO_LINK : REFUSED_NO_VMCS, 0, VMX_NO_POINTER, 0, 0);
}

void op_vmread(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    paddr vmcs = accessed_vmcs(v);
    if (vmcs == VMX_NO_POINTER) {
        refuse_no_vmcs(v);
        return;
    }
    unsigned w = cpu_long64(v) ? W64 : W32;
    bool high;
    int n = field_named(v, reg_get(v, in->r, w), &high);
    if (n < 0) return;
    u64 x = vmcs_read(v->phys, vmcs, (enum vmcs_field)n);
    rm_store(v, in, w, high ? x >> 32 : x);
    vmx_succeed(v);
}

// Into the current VMCS.
static void write_field(struct vcpu *v, enum vmcs_field n, u64 x)
{
    vmcs_field_set(&vmcs_region_at(v->phys, v->s.vmx.vmcs_pointer)->f, n, x);
    if (vmcs_field_rows[n].area == AREA_CONTROL) v->vmx->region = NULL;
    vmx_region_written(v);
}

void op_vmwrite(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    paddr vmcs = accessed_vmcs(v);
    if (vmcs == VMX_NO_POINTER) {
        refuse_no_vmcs(v);
        return;
    }
    unsigned w = cpu_long64(v) ? W64 : W32;
    u64 x = rm_load(v, in, w);
    bool high;
    u64 encoding = reg_get(v, in->r, w);
    int n = field_named(v, encoding, &high);
    if (n < 0) return;
    if (vmcs_field_rows[n].area == AREA_INFO && !(v->vmx->caps.misc >> VMX_MISC_VMWRITE_ANY & 1)) {
        vmx_refuse(v, REFUSED_FIELD_READ_ONLY, 0, encoding, vmx_capabilities(v)->misc, 0);
        return;
    }
    enum vmcs_field field = (enum vmcs_field)n;
    if (high) x = x << 32 | (u32)vmcs_read(v->phys, vmcs, field);
    if (likely(!v->s.vmx.guest))
        write_field(v, field, x);
    else
        vmcs_write(v->phys, v->index, vmcs, field, x);
    if (trace_wants(v, TRACE_VMWRITE)) {
        struct trace_event t;
        trace_begin(v, &t, TRACE_VMWRITE);
        t.addr = vmcs_field_rows[field].encoding, t.value = x, t.write = true;
        trace_emit(v, &t);
    }
    vmx_succeed(v);
}

void op_vmcall(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    vmx_refuse(v, REFUSED_VMCALL_ROOT, 0, 0, 0, 0);
}

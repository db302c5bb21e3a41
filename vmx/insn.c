// The VMX instructions that manage VMX operation and VMCSs: VMXON, VMXOFF, VMCLEAR, VMPTRLD, VMPTRST, VMREAD,
// VMWRITE, VMCALL (SDM chapter 32). In non-root operation they exit before a body runs (vmx/intercept.c).
//
// Missing: VMCS shadowing (not reported); the dual-monitor treatment of SMM (not reported: VMCALL fails with
// error 1).
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
    if (!v->s.vmx.on || v->s.rflags & FL_VM || (cpu_lma(v) && !cpu_long64(v))) raise_ud(v);
}

void vmx_guard(struct vcpu *v)
{
    vmx_guard_mode(v);
    if (cpu_cpl(v) > 0) raise_gp0(v);
}

u64 vmx_operand64(struct vcpu *v, const struct insn *in)
{
    return lin_load(v, insn_linear(v, in, 8, ACC_READ), 8);
}

void op_vmxon(struct vcpu *v, const struct insn *in)
{
    const struct vmx_caps *c = vmx_capabilities(v);

    if (!(v->s.cr4 & CR4_VMXE) || (cpu_lma(v) && !cpu_long64(v))) raise_ud(v);
    if (cpu_cpl(v) > 0) raise_gp0(v);
    if (v->s.vmx.on) {
        vmx_fail(v, 15);
        return;
    }
    if (v->phys->a20_masked) raise_gp0(v);
    if ((v->s.cr0 & c->cr0_fixed0) != c->cr0_fixed0 || v->s.cr0 & ~c->cr0_fixed1) raise_gp0(v);
    if ((v->s.cr4 & c->cr4_fixed0) != c->cr4_fixed0 || v->s.cr4 & ~c->cr4_fixed1) raise_gp0(v);
    if ((v->s.msr.feature_control & 5) != 5) raise_gp0(v); // locked, VMX outside SMX

    paddr a = vmx_operand64(v, in);
    if (!vmx_address_valid(v, a) || phys_read32(v->phys, v->index, a) != VMCS_REVISION) {
        vmx_fail_invalid(v);
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
    if (!vmx_address_valid(v, a)) {
        vmx_fail(v, 2);
        return;
    }
    if (a == v->s.vmx.vmxon_pointer) {
        vmx_fail(v, 3);
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
    if (!vmx_address_valid(v, a))
        vmx_fail(v, 9);
    else if (a == v->s.vmx.vmxon_pointer)
        vmx_fail(v, 10);
    else if (!phys_is_ram(v->phys, a) ||
             phys_read32(v->phys, v->index, a) != VMCS_REVISION) // bit 31: no shadow VMCSs
        vmx_fail(v, 11);
    else {
        vmx_set_current(v, a);
        vmx_succeed(v);
        tell_shared(v, a);
    }
}

void op_vmptrst(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    lin_store(v, insn_linear(v, in, 8, ACC_WRITE), 8, v->s.vmx.vmcs_pointer);
    vmx_succeed(v);
}

// The field that the register operand names: its index, or -1. *high: access type "high".
static int field_named(const struct vcpu *v, u64 encoding, bool *high)
{
    if (encoding >> 32) return -1;
    int n = vmcs_field_find((u32)encoding);
    if (n < 0 || !v->vmx->caps.exists[n]) return -1;
    *high = encoding & 1;
    return *high && vmcs_field_rows[n].width != WIDTH_64 ? -1 : n;
}

void op_vmread(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    if (v->s.vmx.vmcs_pointer == VMX_NO_POINTER) {
        vmx_fail_invalid(v);
        return;
    }
    unsigned w = cpu_long64(v) ? W64 : W32;
    bool high;
    int n = field_named(v, reg_get(v, in->r, w), &high);
    if (n < 0) {
        vmx_fail_valid(v, 12);
        return;
    }
    u64 x = vmcs_field_get(&vmcs_region_at(v->phys, v->s.vmx.vmcs_pointer)->f, (enum vmcs_field)n);
    rm_store(v, in, w, high ? x >> 32 : x);
    vmx_succeed(v);
}

void op_vmwrite(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    if (v->s.vmx.vmcs_pointer == VMX_NO_POINTER) {
        vmx_fail_invalid(v);
        return;
    }
    unsigned w = cpu_long64(v) ? W64 : W32;
    u64 x = rm_load(v, in, w);
    bool high;
    int n = field_named(v, reg_get(v, in->r, w), &high);
    if (n < 0) {
        vmx_fail_valid(v, 12);
        return;
    }
    // Exit-information fields may be written too (IA32_VMX_MISC bit 29).
    struct vmcs_fields *f = &vmcs_region_at(v->phys, v->s.vmx.vmcs_pointer)->f;
    if (high) x = x << 32 | (u32)vmcs_field_get(f, (enum vmcs_field)n);
    vmcs_field_set(f, (enum vmcs_field)n, x);
    if (vmcs_field_rows[n].area == AREA_CONTROL) v->vmx->region = NULL;
    vmx_region_written(v);
    vmx_succeed(v);
}

void op_vmcall(struct vcpu *v, const struct insn *in)
{
    vmx_guard(v);
    vmx_fail(v, 1);
}

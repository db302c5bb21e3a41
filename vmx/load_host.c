// VM exit: loading host state (SDM 30.5), also after a VM-entry failure; VMX aborts.
#include "cpu/system/system.h"
#include "cpu/state/trace.h"
#include "mmu/mtype.h"
#include "vmx/world.h"

void vmx_abort(struct vcpu *v, struct vmcs_region *r, u32 indicator, const char *why)
{
    r->abort = indicator;
    vmx_region_written(v);
    v->s.vmx.guest = false;
    v->s.activity = ACTIVITY_SHUTDOWN; // nothing but RESET ends it
    cpu_mode_changed(v);
    cpu_attention(v);
    if (v->board) v->board->shutdown(v->board_opaque, v->index, why);
}

// The caller changes the context next, which chooses fast tables by the new serials.
void vmx_flush(struct vcpu *v, bool vpid)
{
    if (unlikely(v->tlb_mode == TLB_STRICT)) cpu_tlb_forget(v);
    if (vpid) return;
    tlb_invvpid(&v->s.itlb, 0, false);
    tlb_invvpid(&v->s.dtlb, 0, false);
}

static u64 extend(u64 a, unsigned bits) { return (u64)((s64)(a << (64 - bits)) >> (64 - bits)); }

static void load_segment(struct segment *s, u16 sel, u64 base, u32 ar)
{
    *s = (struct segment){.sel = sel, .base = base, .limit = 0xFFFFFFFF, .ar = ar};
    if (sel == 0) s->ar |= AR_UNUSABLE;
}

static void load_segments(struct vcpu *v, const struct vmcs_fields *f, bool host64, unsigned bits)
{
    const u32 data = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_DB | AR_G;
    const u32 code = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | AR_G;
    struct segment *s = v->s.seg;

    s[SEG_CS] = (struct segment){
        .sel = f->HOST_CS_SELECTOR, .limit = 0xFFFFFFFF, .ar = code | (host64 ? AR_L : AR_DB)};
    load_segment(&s[SEG_SS], f->HOST_SS_SELECTOR, 0, data);
    load_segment(&s[SEG_DS], f->HOST_DS_SELECTOR, 0, data);
    load_segment(&s[SEG_ES], f->HOST_ES_SELECTOR, 0, data);
    load_segment(&s[SEG_FS], f->HOST_FS_SELECTOR, extend(f->HOST_FS_BASE, bits), data);
    load_segment(&s[SEG_GS], f->HOST_GS_SELECTOR, extend(f->HOST_GS_BASE, bits), data);
    s[SEG_TR] = (struct segment){
        .sel = f->HOST_TR_SELECTOR, .base = extend(f->HOST_TR_BASE, bits), .limit = 0x67, .ar = AR_P | 11};
    s[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
}

// VM entry has checked this, but since then the region may have been written as memory. What no processor can
// be set to ends in a VMX abort (SDM 30.7, indicator 3).
static bool host_corrupt(const struct vcpu *v, const struct vmcs_fields *f, bool host64)
{
    const struct vmx_caps *c = &v->vmx->caps;
    u32 ctl = f->PRIMARY_VM_EXIT_CONTROLS;
    return (f->HOST_CR0 & c->cr0_fixed0) != c->cr0_fixed0 || f->HOST_CR0 & ~c->cr0_fixed1 ||
           (f->HOST_CR4 & c->cr4_fixed0) != c->cr4_fixed0 || f->HOST_CR4 & ~c->cr4_fixed1 ||
           (ctl & EXIT_LOAD_IA32_EFER && f->HOST_IA32_EFER & ~efer_valid(v->features, 0)) ||
           (ctl & EXIT_LOAD_IA32_PAT && !mtype_pat_valid(f->HOST_IA32_PAT)) ||
           (vmcs_exit2(f) & EXIT2_LOAD_IA32_SPEC_CTRL &&
            f->HOST_IA32_SPEC_CTRL & ~spec_ctrl_valid(v->features)) ||
           (!host64 && f->HOST_RIP >> 32);
}

bool vmx_load_host(struct vcpu *v, struct vmcs_region *r)
{
    const struct vmcs_fields *f = &r->f;
    struct vcpu_state *s = &v->s;
    const u32 ctl = f->PRIMARY_VM_EXIT_CONTROLS;
    const bool host64 = ctl & EXIT_HOST_ADDRESS_SPACE_SIZE;
    const unsigned bits = feature_on(v->features, FEATURE_LA57) ? 57 : 48;
    const bool vpid = vmcs_proc2(f) & PROC2_ENABLE_VPID;

    if ((s->msr.efer & EFER_LMA) && !host64) {
        vmx_abort(v, r, VMX_ABORT_HOST_MODE, "VMX abort 6: VM exit from IA-32e mode to a 32-bit host");
        return false;
    }
    if (unlikely(host_corrupt(v, f, host64))) {
        vmx_abort(v, r, VMX_ABORT_VMCS_CORRUPT, "VMX abort 3: the host state in the VMCS is corrupt");
        return false;
    }
    s->vmx.guest = false;
    s->vmx.vpid = 0;
    s->vmx.eptp = 0;
    s->vmx.apic_access = 0;
    s->vmx.trap = 0;
    s->vmx.apic_write = s->vmx.apic_write_size = s->vmx.rvi = s->vmx.svi = 0;
    s->vmx.trap_qualification = 0;
    s->vmx.ept_use = 0;
    s->vmx.pml_address = s->vmx.spptp = s->vmx.hlatp = 0;
    s->vmx.hlat_prefix = 0;
    s->vmx.timer_active = false;
    s->vmx.timer_deadline = UINT64_MAX;
    s->vmx.guest_deadline = 0;
    s->vmx.detects_bus_locks = s->vmx.bus_lock = false;
    s->vmx.mtf_pending = s->vmx.virtual_interrupt = s->virtual_nmi_blocked = false;
    s->vmx.original_event = 0;
    s->vmx.mtf_retired = s->vmx.ple_first = s->vmx.ple_last = 0;
    s->inject.kind = EVENT_NONE;

    s->cr0 = (f->HOST_CR0 & ~(u64)CR0_WORLD_KEEPS & 0xFFFFFFFF) | (s->cr0 & CR0_WORLD_KEEPS);
    s->cr3 = f->HOST_CR3 & (BIT(v->features->maxphyaddr) - 1); // those beyond are not modified
    s->cr4 = f->HOST_CR4;
    if (host64)
        s->cr4 |= CR4_PAE;
    else
        s->cr4 &= ~(u64)CR4_PCIDE;
    s->dr[7] = 0x400;
    s->msr.debugctl = 0;
    s->msr.sysenter_cs = f->HOST_IA32_SYSENTER_CS;
    s->msr.sysenter_esp = extend(f->HOST_IA32_SYSENTER_ESP, bits);
    s->msr.sysenter_eip = extend(f->HOST_IA32_SYSENTER_EIP, bits);
    if (ctl & EXIT_LOAD_IA32_EFER) s->msr.efer = f->HOST_IA32_EFER;
    s->msr.efer = (s->msr.efer & ~(u64)(EFER_LMA | EFER_LME)) | (host64 ? EFER_LMA | EFER_LME : 0);
    if (ctl & EXIT_LOAD_IA32_PAT) s->msr.pat = f->HOST_IA32_PAT;
    if (ctl & EXIT_LOAD_PKRS) s->msr.pkrs = (u32)f->HOST_IA32_PKRS;
    if (vmcs_exit2(f) & EXIT2_LOAD_IA32_SPEC_CTRL) s->msr.spec_ctrl = f->HOST_IA32_SPEC_CTRL;
    load_segments(v, f, host64, bits);
    s->gdtr = (struct dtable){.base = extend(f->HOST_GDTR_BASE, bits), .limit = 0xFFFF};
    s->idtr = (struct dtable){.base = extend(f->HOST_IDTR_BASE, bits), .limit = 0xFFFF};
    s->gpr[RSP] = f->HOST_RSP;
    s->rip = f->HOST_RIP;
    cpu_set_rflags(v, 2);
    s->activity = ACTIVITY_ACTIVE;
    s->blocking &= ~(u32)(BLOCKING_BY_STI | BLOCKING_BY_MOV_SS);
    s->shadow_one = false;
    s->pending_dbg = 0;
    cpu_monitor_disarm(v);
    vmx_flush(v, vpid);

    if (!host64 && s->cr4 & CR4_PAE) { // the registers hold the guest's
        struct walk_result w = {.status = WALK_OK};
        cpu_mode_changed(v);
        if (!walk_load_pdptes(v->phys, &v->d.mmu, s->cr3, s->pdpte, &w) || w.status != WALK_OK) {
            vmx_abort(v, r, VMX_ABORT_HOST_PDPTE,
                      "VMX abort 2: a reserved bit is set in a PDPTE of the host");
            return false;
        }
    }
    cpu_mode_changed(v);
    if (f->VM_EXIT_MSR_LOAD_COUNT) {
        struct vmx_check_failure why;
        if (vmx_msr_area_load(v, f->VM_EXIT_MSR_LOAD_ADDRESS, f->VM_EXIT_MSR_LOAD_COUNT, &why)) {
            vmx_abort(v, r, VMX_ABORT_LOAD_MSR, "VMX abort 4: loading a host MSR failed");
            return false;
        }
        cpu_mode_changed(v);
    }
    cpu_attention(v);
    return true;
}

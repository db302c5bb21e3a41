// Decoding the current VMCS, and what the rest of the processor asks about VT-x outside of instructions:
// capability MSRs, the EPT and VPID part of the translation context, writes into the region.
#include "vmx/control.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/system/system.h"
#include "vmx/intercept.h"

const struct vmx_caps *vmx_capabilities(const struct vcpu *v) { return &v->vmx->caps; }

void vmx_reset(struct vcpu *v)
{
    if (!v->vmx) {
        v->vmx = calloc(1, sizeof *v->vmx);
        if (!v->vmx) panic("out of memory");
        vmx_caps_init(&v->vmx->caps, v->features, cr4_valid_mask(v));
    }
    v->vmx->region = NULL;
    v->s.vmx = (struct vmx_state){
        .vmxon_pointer = VMX_NO_POINTER, .vmcs_pointer = VMX_NO_POINTER, .timer_deadline = UINT64_MAX};
}

void vmx_free(struct vcpu *v)
{
    vmx_unwatch(v);
    free(v->vmx);
    v->vmx = NULL;
}

void vmx_drop(struct vcpu *v) { v->vmx->region = NULL; }

void vmx_control_decode(struct vcpu *v)
{
    struct vmx_control *c = v->vmx;
    struct vmcs_region *r = vmcs_region_at(v->phys, v->s.vmx.vmcs_pointer);
    if (!r) panic("no current VMCS to decode");
    const struct vmcs_fields *f = &r->f;

    phys_watch(v->phys, v->s.vmx.vmcs_pointer);
    c->region = r;
    c->pin = f->PIN_BASED_CONTROLS;
    c->proc = f->PRIMARY_PROC_BASED_CONTROLS;
    c->proc2 = vmcs_proc2(f);
    c->proc3 = vmcs_proc3(f);
    c->exit = f->PRIMARY_VM_EXIT_CONTROLS;
    c->exit2 = vmcs_exit2(f);
    c->entry = f->VM_ENTRY_CONTROLS;
    c->vmfunc = vmcs_vmfunc(f);
    c->exception_bitmap = f->EXCEPTION_BITMAP;
    c->pfec_mask = f->PAGE_FAULT_ERROR_CODE_MASK;
    c->pfec_match = f->PAGE_FAULT_ERROR_CODE_MATCH;
    c->cr3_targets =
        f->CR3_TARGET_COUNT < ARRAY_LEN(c->cr3_target) ? f->CR3_TARGET_COUNT : ARRAY_LEN(c->cr3_target);
    c->cr3_target[0] = f->CR3_TARGET_VALUE_0;
    c->cr3_target[1] = f->CR3_TARGET_VALUE_1;
    c->cr3_target[2] = f->CR3_TARGET_VALUE_2;
    c->cr3_target[3] = f->CR3_TARGET_VALUE_3;
    c->cr0_mask = f->CR0_GUEST_HOST_MASK;
    c->cr0_shadow = f->CR0_READ_SHADOW;
    c->cr4_mask = f->CR4_GUEST_HOST_MASK;
    c->cr4_shadow = f->CR4_READ_SHADOW;
    bool offsetting = c->proc & PROC_USE_TSC_OFFSETTING;
    c->tsc_offset = offsetting ? f->TSC_OFFSET : 0;
    c->tsc_multiplier = offsetting && c->proc2 & PROC2_USE_TSC_SCALING ? f->TSC_MULTIPLIER : 0;
    c->io_bitmap[0] = f->ADDRESS_OF_IO_BITMAP_A;
    c->io_bitmap[1] = f->ADDRESS_OF_IO_BITMAP_B;
    c->msr_bitmap = f->ADDRESS_OF_MSR_BITMAPS;
    c->virtual_apic = f->VIRTUAL_APIC_ADDRESS;
    c->tpr_threshold = f->TPR_THRESHOLD & 15;
    c->eoi_exit[0] = f->EOI_EXIT0;
    c->eoi_exit[1] = f->EOI_EXIT1;
    c->eoi_exit[2] = f->EOI_EXIT2;
    c->eoi_exit[3] = f->EOI_EXIT3;
    c->posted_descriptor = f->POSTED_INTERRUPT_DESCRIPTOR_ADDRESS;
    c->posted_vector = f->POSTED_INTERRUPT_NOTIFICATION_VECTOR;
    c->timer_vector = (u8)f->VIRTUAL_TIMER_VECTOR;
    c->instruction_timeout = c->proc2 & PROC2_INSTRUCTION_TIMEOUT
                                 ? (u64)f->INSTRUCTION_TIMEOUT_CONTROL * (CPU_TSC_HZ / CPU_CRYSTAL_HZ)
                                 : UINT64_MAX;
    c->pid_pointer_last = f->LAST_PID_POINTER_INDEX;
    c->pid_pointers = f->PID_POINTER_TABLE_ADDRESS;
    c->ple_gap = f->PLE_GAP;
    c->ple_window = f->PLE_WINDOW;
    c->xss_bitmap = f->XSS_EXITING_BITMAP;
    c->spec_ctrl_mask = f->IA32_SPEC_CTRL_MASK;
}

void vmx_set_current(struct vcpu *v, paddr vmcs)
{
    if (v->s.vmx.vmcs_pointer != vmcs) vmx_unwatch(v);
    if (vmcs != VMX_NO_POINTER) phys_mark_dirty(v->phys, vmcs); // fields are written first and marked then
    v->s.vmx.vmcs_pointer = vmcs;
    v->vmx->region = NULL;
    if (vmcs != VMX_NO_POINTER) vmx_control_decode(v);
}

void vmx_region_written(struct vcpu *v)
{
    paddr a = v->s.vmx.vmcs_pointer;
    // somebody else may want to know
    if (unlikely(v->phys->code[a >> PAGE_SHIFT] || v->phys->subscribers->next)) {
        struct vmcs_region *own = v->vmx->region;
        phys_changing(v->phys, a, PAGE_SIZE);
        v->vmx->region = own;
    }
    phys_mark_dirty(v->phys, a);
}

bool vmx_watches(const struct vcpu *v, paddr page)
{
    return v->s.vmx.vmcs_pointer != VMX_NO_POINTER &&
           v->s.vmx.vmcs_pointer >> PAGE_SHIFT == page >> PAGE_SHIFT;
}

void vmx_memory_written(struct vcpu *v, paddr a, u64 size)
{
    paddr r = v->s.vmx.vmcs_pointer;
    if (r != VMX_NO_POINTER && a < r + PAGE_SIZE && a + size > r) v->vmx->region = NULL;
}

void vmx_unwatch(struct vcpu *v)
{
    paddr old = v->s.vmx.vmcs_pointer;
    v->s.vmx.vmcs_pointer = VMX_NO_POINTER;
    if (phys_is_ram(v->phys, old)) phys_release(v->phys, old);
}

void vmx_translation_of(struct vmx_state *s, const struct vmcs_fields *f)
{
    u32 proc2 = vmcs_proc2(f);
    u64 proc3 = vmcs_proc3(f);
    s->eptp = proc2 & PROC2_ENABLE_EPT ? f->EPTP : 0;
    s->ept_use = (proc2 & PROC2_ENABLE_PML ? VMX_EPT_PML : 0) |
                 (proc2 & PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT ? VMX_EPT_MBEC : 0) |
                 (proc2 & PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT ? VMX_EPT_SUBPAGES : 0) |
                 (proc3 & PROC3_EPT_PAGING_WRITE_CONTROL ? VMX_EPT_PAGING_WRITE : 0) |
                 (proc3 & PROC3_GUEST_PAGING_VERIFICATION ? VMX_EPT_VERIFY : 0) |
                 (proc3 & PROC3_ENABLE_HLAT ? VMX_EPT_HLAT : 0);
    s->hlatp = s->ept_use & VMX_EPT_HLAT ? f->HLATP : 0;
    s->hlat_prefix = s->ept_use & VMX_EPT_HLAT ? f->HLAT_PREFIX_SIZE : 0;
    s->pml_address = s->ept_use & VMX_EPT_PML ? f->PML_ADDRESS : 0;
    s->spptp = s->ept_use & VMX_EPT_SUBPAGES ? f->SPPTP : 0;
    s->vpid = proc2 & PROC2_ENABLE_VPID ? f->VPID : 0;
    s->apic_access = proc2 & PROC2_VIRTUALIZE_APIC_ACCESSES ? f->APIC_ACCESS_ADDRESS | 1 : 0;
}

void vmx_fill_mmu(const struct vcpu *v, const struct vmx_state *s, struct mmu_ctx *m)
{
    const struct vmx_caps *caps = &v->vmx->caps;
    u64 eptp = s->eptp;
    m->vpid = s->vpid;
    m->apic_access = s->apic_access;
    m->ept = eptp != 0;
    if (!m->ept) return;
    m->eptp = eptp;
    m->ept_view = (eptp & (BIT(52) - BIT(12))) | 1;
    m->ept_ad = eptp >> 6 & 1;
    m->ept_mbec = s->ept_use & VMX_EPT_MBEC;
    m->ept_pml = s->ept_use & VMX_EPT_PML;
    m->pml_log = s->pml_address;
    m->pml_index = s->vmcs_pointer + offsetof(struct vmcs_region, f.PML_INDEX);
    m->ept_subpages = s->ept_use & VMX_EPT_SUBPAGES;
    m->spp_root = s->spptp;
    m->ept_paging_write = s->ept_use & VMX_EPT_PAGING_WRITE;
    m->ept_verify = s->ept_use & VMX_EPT_VERIFY;
    m->hlat = s->ept_use & VMX_EPT_HLAT;
    m->hlatp = s->hlatp;
    m->hlat_upper = s->hlat_prefix != 0;
    m->ept_advanced = caps->ept_vpid >> EPT_CAP_ADVANCED & 1;
    m->ept_gib = caps->ept_vpid >> EPT_CAP_1G & 1;
    m->ept_exec_only = caps->ept_vpid >> EPT_CAP_EXECUTE_ONLY & 1;
}

u64 vmx_eptp_offence(const struct vmx_caps *c, unsigned maxphyaddr, u64 eptp)
{
    unsigned type = eptp & 7, length = eptp >> 3 & 7;
    u64 bits = eptp & (0xF00 | ~(BIT(maxphyaddr) - 1));
    if (!(type == 0 && c->ept_vpid >> EPT_CAP_UC & 1) && !(type == 6 && c->ept_vpid >> EPT_CAP_WB & 1))
        bits |= 7;
    if (!(length == 3 && c->ept_vpid >> EPT_CAP_WALK_4 & 1) &&
        !(length == 4 && c->ept_vpid >> EPT_CAP_WALK_5 & 1))
        bits |= 0x38;
    if (!(c->ept_vpid >> EPT_CAP_AD & 1)) bits |= eptp & BIT(6);
    if (!(c->ept_vpid >> EPT_CAP_SHADOW_STACK & 1)) bits |= eptp & BIT(7);
    return bits;
}

static bool page_possible(const struct vcpu *v, paddr a)
{
    return !(a & ~PAGE_MASK) && !(a >> v->features->maxphyaddr);
}

static bool pointer_possible(const struct vcpu *v, paddr a)
{
    return a == VMX_NO_POINTER || page_possible(v, a);
}

// As the checks of VM entry let them be; they all need EPT.
static bool ept_use_possible(const struct vcpu *v, const struct vmx_state *s)
{
    const struct vmx_caps *c = &v->vmx->caps;
    u32 may = (vmx_caps_control(c, CONTROL_PROC2_ENABLE_PML) ? VMX_EPT_PML : 0) |
              (vmx_caps_control(c, CONTROL_PROC2_MODE_BASED_EXECUTE_CONTROL_FOR_EPT) ? VMX_EPT_MBEC : 0) |
              (vmx_caps_control(c, CONTROL_PROC2_SUB_PAGE_WRITE_PERMISSIONS_FOR_EPT) ? VMX_EPT_SUBPAGES : 0) |
              (vmx_caps_control(c, CONTROL_PROC3_EPT_PAGING_WRITE_CONTROL) ? VMX_EPT_PAGING_WRITE : 0) |
              (vmx_caps_control(c, CONTROL_PROC3_GUEST_PAGING_VERIFICATION) ? VMX_EPT_VERIFY : 0) |
              (vmx_caps_control(c, CONTROL_PROC3_ENABLE_HLAT) ? VMX_EPT_HLAT : 0);
    if (s->ept_use & ~may || (s->ept_use && !s->eptp)) return false;
    return page_possible(v, s->pml_address) && page_possible(v, s->spptp) &&
           page_possible(v, s->hlatp & ~(u64)0x18);
}

const char *vmx_state_impossible(const struct vcpu *v, const struct vmx_state *s)
{
    const u8 *flag = (const u8 *)s; // as bytes: a bool that is neither 0 nor 1 must not be read as one
    if (flag[offsetof(struct vmx_state, on)] > 1 || flag[offsetof(struct vmx_state, guest)] > 1 ||
        flag[offsetof(struct vmx_state, mtf_pending)] > 1 ||
        flag[offsetof(struct vmx_state, timer_active)] > 1 ||
        flag[offsetof(struct vmx_state, vectoring_rf)] > 1 ||
        flag[offsetof(struct vmx_state, virtual_interrupt)] > 1 ||
        flag[offsetof(struct vmx_state, detects_bus_locks)] > 1 ||
        flag[offsetof(struct vmx_state, bus_lock)] > 1)
        return "a flag of VMX operation";
    if (s->on && !feature_on(v->features, FEATURE_VMX)) return "VMX operation, which it has not";
    if (!pointer_possible(v, s->vmxon_pointer) || !pointer_possible(v, s->vmcs_pointer))
        return "a VMCS pointer";
    if (s->vmcs_pointer != VMX_NO_POINTER && (!s->on || !vmcs_region_at(v->phys, s->vmcs_pointer)))
        return "a current VMCS outside of VMX operation or of memory";
    if (s->guest && (!s->on || s->vmcs_pointer == VMX_NO_POINTER))
        return "VMX non-root operation without a VMCS";
    if (s->apic_access && ((s->apic_access & ~PAGE_MASK) != 1 || s->apic_access >> v->features->maxphyaddr))
        return "the APIC-access page in use";
    if (s->trap && s->trap != EXIT_REASON_TPR_BELOW_THRESHOLD && s->trap != EXIT_REASON_VIRTUALIZED_EOI &&
        s->trap != EXIT_REASON_APIC_WRITE)
        return "a trap-like VM exit that there is not";
    if (s->apic_write_size > 4 || s->apic_write + s->apic_write_size > PAGE_SIZE)
        return "a write to the APIC-access page that is not virtualized";
    if (s->guest_deadline && !s->guest) return "a guest timer that runs outside of a guest";
    if (!ept_use_possible(v, s)) return "the EPT features in use";
    if (s->eptp && vmx_eptp_offence(&v->vmx->caps, v->features->maxphyaddr, s->eptp))
        return "the EPT pointer in use";
    return NULL;
}

bool vmx_msr_read(struct vcpu *v, u32 msr, u64 *value)
{
    if (!feature_on(v->features, FEATURE_VMX)) return false;
    return vmx_caps_msr(&v->vmx->caps, msr, value);
}

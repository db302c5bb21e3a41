// VM entry: loading guest state (SDM 29.3.2). All checks have passed.
#include "cpu/system/system.h"
#include "vmx/world.h"

static void load_segment(struct segment *s, u16 sel, u64 base, u32 limit, u32 ar)
{
    s->sel = sel;
    s->base = base;
    s->limit = limit;
    s->ar = ar & 0x1F0FF;
}

static void load_segments(struct vcpu *v, const struct vmcs_fields *f)
{
    struct segment *s = v->s.seg;
#define LOAD(seg) \
    load_segment(&s[SEG_##seg], f->GUEST_##seg##_SELECTOR, f->GUEST_##seg##_BASE, f->GUEST_##seg##_LIMIT, \
                 f->GUEST_##seg##_ACCESS_RIGHTS)
    LOAD(ES);
    LOAD(CS);
    LOAD(SS);
    LOAD(DS);
    LOAD(FS);
    LOAD(GS);
    LOAD(LDTR);
    LOAD(TR);
#undef LOAD
    // What the manual says of unusable segments; the rest it leaves undefined, and we load the fields.
    if (s[SEG_SS].ar & AR_UNUSABLE) {
        s[SEG_SS].base &= 0xFFFFFFF0;
        s[SEG_SS].ar |= AR_DB;
    }
    if (s[SEG_DS].ar & AR_UNUSABLE) s[SEG_DS].base &= 0xFFFFFFFF;
    if (s[SEG_ES].ar & AR_UNUSABLE) s[SEG_ES].base &= 0xFFFFFFFF;
    if (s[SEG_LDTR].ar & AR_UNUSABLE && !laddr_canonical(s[SEG_LDTR].base, 48)) s[SEG_LDTR].base = 0;
}

static void load_control_registers(struct vcpu *v, const struct vmx_entry *e)
{
    const struct vmcs_fields *f = e->f;
    struct vcpu_state *s = &v->s;

    s->cr0 = (f->GUEST_CR0 & ~(u64)CR0_WORLD_KEEPS & 0xFFFFFFFF) | (s->cr0 & CR0_WORLD_KEEPS);
    s->cr3 = f->GUEST_CR3;
    s->cr4 = f->GUEST_CR4;
    if (e->entry & ENTRY_LOAD_DEBUG_CONTROLS) {
        s->dr[7] = (f->GUEST_DR7 & 0xFFFF2FFF) | 0x400;
        s->msr.debugctl = f->GUEST_IA32_DEBUGCTL;
    }
    s->msr.sysenter_cs = f->GUEST_IA32_SYSENTER_CS;
    s->msr.sysenter_esp = f->GUEST_IA32_SYSENTER_ESP;
    s->msr.sysenter_eip = f->GUEST_IA32_SYSENTER_EIP;
    if (e->entry & ENTRY_LOAD_IA32_EFER)
        s->msr.efer = f->GUEST_IA32_EFER;
    else {
        bool ia32e = e->entry & ENTRY_IA32E_MODE_GUEST;
        s->msr.efer = (s->msr.efer & ~(u64)EFER_LMA) | (ia32e ? EFER_LMA : 0);
        if (s->cr0 & CR0_PG) s->msr.efer = (s->msr.efer & ~(u64)EFER_LME) | (ia32e ? EFER_LME : 0);
    }
    if (e->entry & ENTRY_LOAD_IA32_PAT) s->msr.pat = f->GUEST_IA32_PAT;
    if (e->entry & ENTRY_LOAD_PKRS) s->msr.pkrs = f->GUEST_IA32_PKRS;
    if (e->entry & ENTRY_LOAD_IA32_SPEC_CTRL) s->msr.spec_ctrl = f->GUEST_IA32_SPEC_CTRL;
}

// With EPT from the fields, else from memory: the checks have looked at the same words.
static void load_pdptes(struct vcpu *v, const struct vmx_entry *e)
{
    struct vcpu_state *s = &v->s;
    if (!(s->cr0 & CR0_PG) || !(s->cr4 & CR4_PAE) || (s->msr.efer & EFER_LMA)) return;
    if (e->proc2 & PROC2_ENABLE_EPT) {
        s->pdpte[0] = e->f->GUEST_PDPTE0;
        s->pdpte[1] = e->f->GUEST_PDPTE1;
        s->pdpte[2] = e->f->GUEST_PDPTE2;
        s->pdpte[3] = e->f->GUEST_PDPTE3;
    } else {
        for (unsigned i = 0; i < 4; i++)
            s->pdpte[i] = phys_read64(v->phys, v->index, (s->cr3 & 0xFFFFFFE0) + 8 * i);
    }
}

void vmx_load_guest(struct vcpu *v, const struct vmx_entry *e)
{
    const struct vmcs_fields *f = e->f;
    struct vcpu_state *s = &v->s;

    load_control_registers(v, e);
    load_segments(v, f);
    load_pdptes(v, e);
    s->gdtr = (struct dtable){.base = f->GUEST_GDTR_BASE, .limit = f->GUEST_GDTR_LIMIT};
    s->idtr = (struct dtable){.base = f->GUEST_IDTR_BASE, .limit = f->GUEST_IDTR_LIMIT};
    s->gpr[RSP] = f->GUEST_RSP;
    cpu_set_rflags(v, f->GUEST_RFLAGS);
    cpu_monitor_disarm(v);
    vmx_translation_of(&s->vmx, f);
    s->vmx.detects_bus_locks = e->proc2 & PROC2_VMM_BUS_LOCK_DETECTION;
}

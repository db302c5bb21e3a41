#include "frontend/view.h"

#include <string.h>

#include "vmx/control.h"
#include "vmx/entry.h"
#include "vmx/intercept.h"

void view_here(struct view *w, struct vcpu *v)
{
    const struct vcpu_state *s = &v->s;
    *w = (struct view){.v = v, .level = LEVEL_HERE, .vmcs = s->vmx.vmcs_pointer, .gpr_known = 0xFFFF};
    memcpy(w->gpr, s->gpr, sizeof w->gpr);
    w->rip = s->rip, w->rflags = cpu_rflags(v);
    w->cr0 = s->cr0, w->cr2 = s->cr2, w->cr3 = s->cr3, w->cr4 = s->cr4, w->efer = s->msr.efer;
    w->cr2_known = true;
    w->dr7 = s->dr[7];
    memcpy(w->seg, s->seg, sizeof w->seg);
    w->gdtr = s->gdtr, w->idtr = s->idtr;
    w->mmu = v->d.mmu;
}

// The fields, or NULL.
static const struct vmcs_fields *fields_of(const struct vcpu *v, paddr vmcs, const char **why)
{
    *why = "there is no current VMCS (VMPTRLD makes one current)";
    if (vmcs == VMX_NO_POINTER) return NULL;
    *why = "no VMCS is there: it takes the physical address of a page of memory that begins with the VMCS "
           "revision identifier";
    const struct vmcs_region *r = vmcs & ~PAGE_MASK ? NULL : vmcs_region_at(v->phys, vmcs);
    return r && (r->revision & ~VMCS_SHADOW) == VMCS_REVISION ? &r->f : NULL;
}

// PAE: from memory, as MOV to CR3 reads them.
static void pdptes_from_memory(struct view *w)
{
    for (unsigned i = 0; i < 4; i++) {
        struct view flat = *w;
        u64 x = 0;
        flat.mmu.paging = PAGING_OFF;
        view_read(&flat, laddr_of((w->cr3 & 0xFFFFFFE0) + 8 * i), (u8 *)&x, 8);
        w->mmu.pdpte[i] = x;
    }
}

bool view_root(struct view *w, struct vcpu *v, paddr vmcs, const char **why)
{
    const struct vmcs_fields *f = fields_of(v, vmcs, why);
    if (!f) return false;
    view_here(w, v); // the general registers, which an exit leaves
    w->level = LEVEL_ROOT, w->vmcs = vmcs;
    bool host64 = f->PRIMARY_VM_EXIT_CONTROLS & EXIT_HOST_ADDRESS_SPACE_SIZE;
    w->gpr[RSP] = f->HOST_RSP, w->rip = f->HOST_RIP, w->rflags = 2, w->dr7 = 0x400;
    w->cr0 = f->HOST_CR0, w->cr3 = f->HOST_CR3, w->cr4 = f->HOST_CR4 | (host64 ? CR4_PAE : 0);
    if (f->PRIMARY_VM_EXIT_CONTROLS & EXIT_LOAD_IA32_EFER) w->efer = f->HOST_IA32_EFER;
    w->efer = (w->efer & ~(u64)(EFER_LMA | EFER_LME)) | (host64 ? EFER_LMA | EFER_LME : 0);
    const u32 data = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_DB | AR_G;
    const u32 code = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | AR_G;
    const struct {
        u16 sel;
        u64 base;
        u32 limit, ar;
    } seg[SEG_COUNT] = {
        [SEG_ES] = {f->HOST_ES_SELECTOR, 0, UINT32_MAX, data},
        [SEG_CS] = {f->HOST_CS_SELECTOR, 0, UINT32_MAX, code | (host64 ? AR_L : AR_DB)},
        [SEG_SS] = {f->HOST_SS_SELECTOR, 0, UINT32_MAX, data},
        [SEG_DS] = {f->HOST_DS_SELECTOR, 0, UINT32_MAX, data},
        [SEG_FS] = {f->HOST_FS_SELECTOR, f->HOST_FS_BASE, UINT32_MAX, data},
        [SEG_GS] = {f->HOST_GS_SELECTOR, f->HOST_GS_BASE, UINT32_MAX, data},
        [SEG_LDTR] = {0, 0, 0, AR_UNUSABLE},
        [SEG_TR] = {f->HOST_TR_SELECTOR, f->HOST_TR_BASE, 0x67, AR_P | 11},
    };
    for (unsigned i = 0; i < SEG_COUNT; i++)
        w->seg[i] =
            (struct segment){.sel = seg[i].sel, .base = seg[i].base, .limit = seg[i].limit, .ar = seg[i].ar};
    w->gdtr = (struct dtable){.base = f->HOST_GDTR_BASE, .limit = 0xFFFF};
    w->idtr = (struct dtable){.base = f->HOST_IDTR_BASE, .limit = 0xFFFF};
    mmu_of_registers(&w->mmu, w->cr0, w->cr3, w->cr4, w->efer);
    if (w->mmu.paging == PAGING_PAE) pdptes_from_memory(w);
    return true;
}

bool view_guest(struct view *w, struct vcpu *v, paddr vmcs, const char **why)
{
    const struct vmcs_fields *f = fields_of(v, vmcs, why);
    if (!f) return false;
    view_here(w, v);
    w->level = LEVEL_GUEST, w->vmcs = vmcs;
    w->gpr_known = BIT(RSP);
    w->cr2_known = false;
    w->gpr[RSP] = f->GUEST_RSP, w->rip = f->GUEST_RIP, w->rflags = f->GUEST_RFLAGS;
    w->cr0 = f->GUEST_CR0, w->cr3 = f->GUEST_CR3, w->cr4 = f->GUEST_CR4, w->dr7 = f->GUEST_DR7;
    bool ia32e = f->VM_ENTRY_CONTROLS & ENTRY_IA32E_MODE_GUEST;
    if (f->VM_ENTRY_CONTROLS & ENTRY_LOAD_IA32_EFER)
        w->efer = f->GUEST_IA32_EFER;
    else
        w->efer = (w->efer & ~(u64)(EFER_LMA | EFER_LME)) | (ia32e ? EFER_LMA | EFER_LME : 0);
#define SEGMENT(seg_) \
    w->seg[SEG_##seg_] = (struct segment){.sel = f->GUEST_##seg_##_SELECTOR, \
                                          .base = f->GUEST_##seg_##_BASE, \
                                          .limit = f->GUEST_##seg_##_LIMIT, \
                                          .ar = f->GUEST_##seg_##_ACCESS_RIGHTS}
    SEGMENT(ES), SEGMENT(CS), SEGMENT(SS), SEGMENT(DS), SEGMENT(FS), SEGMENT(GS), SEGMENT(LDTR), SEGMENT(TR);
#undef SEGMENT
    w->gdtr = (struct dtable){.base = f->GUEST_GDTR_BASE, .limit = f->GUEST_GDTR_LIMIT};
    w->idtr = (struct dtable){.base = f->GUEST_IDTR_BASE, .limit = f->GUEST_IDTR_LIMIT};
    struct mmu_ctx *c = &w->mmu;
    struct vmx_state entered = {.vmcs_pointer = vmcs};
    vmx_translation_of(&entered, f);
    mmu_of_registers(c, w->cr0, w->cr3, w->cr4, w->efer);
    vmx_fill_mmu(v, &entered, c);
    if (c->paging != PAGING_PAE) return true;
    if (c->ept) {
        c->pdpte[0] = f->GUEST_PDPTE0, c->pdpte[1] = f->GUEST_PDPTE1;
        c->pdpte[2] = f->GUEST_PDPTE2, c->pdpte[3] = f->GUEST_PDPTE3;
    } else
        pdptes_from_memory(w);
    return true;
}

// ---- memory ----
// As for who may all: what is not there is all that fails.
static bool translate(const struct view *w, laddr la, paddr *pa)
{
    struct mmu_ctx c = w->mmu;
    c.smap = c.smep = c.pke = c.pks = c.wp = false;
    struct walk_result r = walk_peek(w->v->phys, &c, la, ACC_READ, NULL);
    if (r.status == WALK_EPT_VIOLATION) r = walk_peek(w->v->phys, &c, la, ACC_FETCH, NULL); // execute alone
    *pa = r.pa;
    return r.status == WALK_OK;
}

size_t view_physical_read(const struct view *w, paddr pa, u8 *to, size_t n)
{
    size_t done = 0;
    while (done < n) {
        size_t part = PAGE_SIZE - ((pa + done) & ~PAGE_MASK);
        if (part > n - done) part = n - done;
        const u8 *h = phys_host(w->v->phys, pa + done);
        if (!h) break; // a device: an access would not be without consequences
        memcpy(to + done, h, part);
        done += part;
    }
    return done;
}

size_t view_place(const struct view *w, laddr la, size_t n, paddr *pa)
{
    size_t part = PAGE_SIZE - (la.at & ~PAGE_MASK);
    return !translate(w, la, pa) || !phys_host(w->v->phys, *pa) ? 0 : part < n ? part : n;
}

size_t view_read(const struct view *w, laddr la, u8 *to, size_t n)
{
    size_t done = 0, part;
    paddr pa;
    while (done < n) {
        laddr at = laddr_of(w->efer & EFER_LMA ? la.at + done : (u32)(la.at + done));
        if (!(part = view_place(w, at, n - done, &pa))) break;
        view_physical_read(w, pa, to + done, part);
        done += part;
    }
    return done;
}

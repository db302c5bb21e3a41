// Evaluation of the VM-entry checks. The rows are in checks.def and the files that it names; here is what
// their expressions use, and the one function that runs them: straight-line code made from the rows, because
// it runs at every VMLAUNCH and VMRESUME. Missing: what the head of checks.def lists as left out.
#include "vmx/checks.h"

#include <string.h>

#include "cpu/system/cpuid.h"
#include "cpu/system/system.h"
#include "mmu/mtype.h"
#include "mmu/walk.h"

// IA32_DEBUGCTL as this processor has it.
enum { DEBUGCTL_LBR = 1, DEBUGCTL_BTF = 2, VMX_DEBUGCTL_VALID = DEBUGCTL_LBR | DEBUGCTL_BTF };

// What several rows ask for, computed once an entry. Memory is read only where there is RAM: an all-ones
// answer stands for the rest, as from a bus that nobody claims, so the checks have no side effect on a
// device.
struct facts {
    bool unrestricted, ia32e; // unrestricted guest; IA-32e mode guest
    bool v86;                 // the guest will be in virtual-8086 mode
    bool pae;                 // the guest will use PAE paging
    bool inject;              // an event is injected
    u8 inject_type, inject_vector;
    bool holds_traps;          // a single-step trap of the last instruction may be held back
    bool vtpr_read, link_read; // the address allowed to look
    bool link;                 // there is a VMCS link pointer
    u8 vtpr;
    u32 link_dword;
    u64 pdpte[4]; // if pae: from memory without EPT, else the fields
    u64 efer_valid;
};

// ---- what the expressions of the rows use ----
static inline bool page_aligned(u64 a) { return !(a & ~PAGE_MASK); }
static inline bool fits(const struct vmx_entry *e, u64 a) { return !(a >> e->maxphyaddr); }
static inline bool canonical(const struct vmx_entry *e, u64 a) { return laddr_canonical(a, e->linear_bits); }

static inline bool list_fits(const struct vmx_entry *e, u64 a, u32 count) // an MSR area: no wrap at 64 bits
{
    unsigned __int128 last = (unsigned __int128)a + 16ull * count - 1;
    return !(last >> e->maxphyaddr);
}

static inline bool must_be_1(const struct vmx_entry *e, u32 value, enum vmx_control_group g)
{
    return !(e->caps->true_allowed0[g] & ~value);
}
static inline bool may_be_1(const struct vmx_entry *e, u64 value, enum vmx_control_group g)
{
    return !(value & ~e->caps->allowed1[g]);
}

#define ERROR_CODE_VECTORS (1u << 8 | 0x1Fu << 10 | 1u << 17)
static inline bool vector_in(u8 vector, u32 set) { return vector < 32 && (set >> vector & 1); }

static inline bool pdptes_valid(const struct vmx_entry *e, const struct facts *k)
{
    bool good = true;
    for (unsigned i = 0; i < 4; i++) good &= walk_pdpte_valid(k->pdpte[i], e->maxphyaddr);
    return good;
}

static u64 peek(const struct vmx_entry *e, paddr a, unsigned size)
{
    u64 value = UINT64_MAX;
    const u8 *p = phys_host(e->phys, a);
    if (p) memcpy(&value, p, size); // naturally aligned: it does not leave the page
    return value;
}

static inline void gather(const struct vmx_entry *e, struct facts *k)
{
    const struct vmcs_fields *f = e->f;
    u32 event = f->INJECTED_EVENT_IDENTIFICATION;
    k->unrestricted = e->proc2 & PROC2_UNRESTRICTED_GUEST;
    k->ia32e = e->entry & ENTRY_IA32E_MODE_GUEST;
    k->v86 = f->GUEST_RFLAGS & FL_VM;
    k->pae = (f->GUEST_CR0 & CR0_PG) && (f->GUEST_CR4 & CR4_PAE) && !k->ia32e;
    k->inject = event >> 31;
    k->inject_type = event >> 8 & 7;
    k->inject_vector = (u8)event;
    k->holds_traps = (f->GUEST_INTERRUPTIBILITY_STATE & (BLOCKING_BY_STI | BLOCKING_BY_MOV_SS)) ||
                     f->GUEST_ACTIVITY_STATE == ACTIVITY_HLT;
    k->vtpr_read = e->phys && (e->proc & PROC_USE_TPR_SHADOW) && page_aligned(f->VIRTUAL_APIC_ADDRESS) &&
                   fits(e, f->VIRTUAL_APIC_ADDRESS);
    k->vtpr = k->vtpr_read ? (u8)peek(e, f->VIRTUAL_APIC_ADDRESS + 0x80, 1) : 0;
    k->link = f->VMCS_LINK_POINTER != VMX_NO_POINTER;
    k->link_read = e->phys && k->link && page_aligned(f->VMCS_LINK_POINTER) && fits(e, f->VMCS_LINK_POINTER);
    k->link_dword = k->link_read ? (u32)peek(e, f->VMCS_LINK_POINTER, 4) : 0;
    if (k->pae && (e->proc2 & PROC2_ENABLE_EPT)) {
        k->pdpte[0] = f->GUEST_PDPTE0;
        k->pdpte[1] = f->GUEST_PDPTE1;
        k->pdpte[2] = f->GUEST_PDPTE2;
        k->pdpte[3] = f->GUEST_PDPTE3;
    } else {
        for (unsigned i = 0; i < 4; i++)
            k->pdpte[i] = k->pae && e->phys ? peek(e, (f->GUEST_CR3 & 0xFFFFFFE0) + 8 * i, 8) : 0;
    }
    k->efer_valid = efer_valid(e->features, e->misc_enable);
}

// ---- the rows as data ----
#define IN(field)    VMCS_##field
#define ALSO(input)  VMX_INPUT_##input
#define FAIL_INVALID VMX_OUTCOME_FAIL_INVALID, 0, 0
#define FAIL(n)      VMX_OUTCOME_FAIL_VALID, n, 0
#define EXIT_33(q)   VMX_OUTCOME_EXIT, 33, q
#define EXIT_34      VMX_OUTCOME_EXIT, 34, 0
#define BARE(...)    __VA_ARGS__
#define CHECK(id, section, outcome, when, rule, inputs, words) \
    {id, section, words, outcome, {BARE inputs, VMX_INPUT_END}},
const struct vmx_check vmx_check_rows[] = {
#include "vmx/checks.def"
#include "vmx/checks_msr.def"
};
#undef CHECK
const unsigned vmx_check_row_count = ARRAY_LEN(vmx_check_rows);

// ---- the rows as code ----
#define CHECK(...) +1
enum {
    FIRST_MSR_ROW = 0
#include "vmx/checks.def"
};
#undef CHECK

#define PIN(x)    (e->pin & PIN_##x)
#define PROC(x)   (e->proc & PROC_##x)
#define PROC2(x)  (e->proc2 & PROC2_##x)
#define PROC3(x)  (e->proc3 & PROC3_##x)
#define EXIT(x)   (e->exit & EXIT_##x)
#define EXIT2(x)  (e->exit2 & EXIT2_##x)
#define ENTRY(x)  (e->entry & ENTRY_##x)
#define VMFUNC(x) (e->vmfunc & VMFUNC_##x)

// The index of the first violated row, or FIRST_MSR_ROW. With `all`, notes each violated row there and goes
// on.
static inline __attribute__((always_inline)) unsigned scan(const struct vmx_entry *e, const struct facts *k,
                                                           u64 *all)
{
    const struct vmcs_fields *f = e->f;
    unsigned n = 0;
#define CHECK(id, section, outcome, when, rule, inputs, words) \
    if ((when) && unlikely(!(rule))) { \
        if (!all) return n; \
        all[n / 64] |= BIT(n % 64); \
    } \
    n++;
#include "vmx/checks.def"
#undef CHECK
    return n;
}

static bool fail(const struct vmx_check *c, struct vmx_check_failure *x)
{
    memset(x, 0, sizeof *x);
    x->check = c;
    x->id = c->id;
    x->outcome = c->outcome;
    x->number = c->number;
    x->qualification = c->qualification;
    return false;
}

bool vmx_check_entry(const struct vmx_entry *e, struct vmx_check_failure *first)
{
    struct facts k;
    gather(e, &k);
    unsigned n = scan(e, &k, NULL);
    return n == FIRST_MSR_ROW || fail(&vmx_check_rows[n], first);
}

static unsigned first_violated_msr_row(const struct vmx_msr_entry *m,
                                       bool (*write)(void *opaque, u32 msr, u64 data), void *opaque)
{
    unsigned n = FIRST_MSR_ROW;
#define CHECK(id, section, outcome, when, rule, inputs, words) \
    if ((when) && !(rule)) return n; \
    n++;
#include "vmx/checks_msr.def"
#undef CHECK
    return n;
}

static bool accept_any(void *opaque, u32 msr, u64 data) { return true; }

bool vmx_check_msr_entry(const struct vmx_msr_entry *m, u32 number,
                         bool (*write)(void *opaque, u32 msr, u64 data), void *opaque,
                         struct vmx_check_failure *first)
{
    unsigned n = first_violated_msr_row(m, write ? write : accept_any, opaque);
    if (n == vmx_check_row_count) return true;
    fail(&vmx_check_rows[n], first);
    first->qualification = number;
    first->msr = *m;
    return false;
}

enum vmx_verdict vmx_check_judge(const struct vmx_entry *e, const struct vmx_check *c)
{
    const struct vmcs_fields *f = e->f;
    struct facts facts, *k = &facts;
    ptrdiff_t wanted = c - vmx_check_rows, n = 0;
    gather(e, k);
#define CHECK(id, section, outcome, when, rule, inputs, words) \
    if (n++ == wanted) \
        return !(when) ? VMX_VERDICT_DOES_NOT_APPLY : (rule) ? VMX_VERDICT_HOLDS : VMX_VERDICT_VIOLATED;
#include "vmx/checks.def"
#undef CHECK
    return VMX_VERDICT_DOES_NOT_APPLY;
}

unsigned vmx_doctor(const struct vmx_entry *e, struct vmx_check_failure *out, unsigned max)
{
    struct facts k;
    u64 violated[FIRST_MSR_ROW / 64 + 1] = {0};
    struct vmx_check_failure x;
    unsigned count = 0;
    gather(e, &k);
    scan(e, &k, violated);
    for (unsigned n = 0; n < FIRST_MSR_ROW; n++) {
        if (!(violated[n / 64] >> (n % 64) & 1)) continue;
        if (count < max) fail(&vmx_check_rows[n], &out[count]);
        count++;
    }
    // The MSR-load area, as far as its length is defined (IA32_VMX_MISC) and it lies in RAM.
    u64 limit = 512 * ((e->caps->misc >> VMX_MISC_MSR_LIST_SHIFT & 7) + 1);
    u64 entries = e->f->VM_ENTRY_MSR_LOAD_COUNT < limit ? e->f->VM_ENTRY_MSR_LOAD_COUNT : limit;
    paddr a = e->f->VM_ENTRY_MSR_LOAD_ADDRESS;
    if ((a & 15) || !list_fits(e, a, e->f->VM_ENTRY_MSR_LOAD_COUNT)) entries = 0;
    for (u32 number = 1; number <= entries; number++, a += sizeof(struct vmx_msr_entry)) {
        struct vmx_msr_entry m;
        const u8 *p = e->phys ? phys_host(e->phys, a) : NULL;
        if (!p) continue;
        memcpy(&m, p, sizeof m);
        if (vmx_check_msr_entry(&m, number, NULL, NULL, &x)) continue;
        if (count < max) out[count] = x;
        count++;
    }
    return count;
}

// ---- what rows read ----
static u64 capability(const struct vmx_entry *e, enum vmx_control_group g)
{
    return e->caps->allowed1[g] << 32 | e->caps->true_allowed0[g];
}

u64 vmx_check_input_value(const struct vmx_entry *e, const struct vmx_check_failure *x, unsigned input)
{
    struct facts k;
    if (input < VMCS_FIELD_COUNT) return vmcs_field_get(e->f, input);
    gather(e, &k);
    switch (input) {
    case VMX_INPUT_MAXPHYADDR: return e->maxphyaddr;
    case VMX_INPUT_LINEAR_BITS: return e->linear_bits;
    case VMX_INPUT_EFER: return e->efer;
    case VMX_INPUT_EFER_VALID: return k.efer_valid;
    case VMX_INPUT_SPEC_CTRL_VALID: return spec_ctrl_valid(e->features);
    case VMX_INPUT_VMCS_DWORD: return e->revision;
    case VMX_INPUT_LAUNCH_STATE: return e->launch_state;
    case VMX_INPUT_BLOCKING: return e->blocking;
    case VMX_INPUT_VMCS_POINTER: return e->vmcs_pointer;
    case VMX_INPUT_IA32_VMX_BASIC: return e->caps->basic;
    case VMX_INPUT_IA32_VMX_MISC: return e->caps->misc;
    case VMX_INPUT_IA32_VMX_EPT_VPID_CAP: return e->caps->ept_vpid;
    case VMX_INPUT_IA32_VMX_CR0_FIXED0: return e->caps->cr0_fixed0;
    case VMX_INPUT_IA32_VMX_CR0_FIXED1: return e->caps->cr0_fixed1;
    case VMX_INPUT_IA32_VMX_CR4_FIXED0: return e->caps->cr4_fixed0;
    case VMX_INPUT_IA32_VMX_CR4_FIXED1: return e->caps->cr4_fixed1;
    case VMX_INPUT_IA32_VMX_TRUE_PINBASED_CTLS: return capability(e, GROUP_PIN);
    case VMX_INPUT_IA32_VMX_TRUE_PROCBASED_CTLS: return capability(e, GROUP_PROC);
    case VMX_INPUT_IA32_VMX_PROCBASED_CTLS2: return capability(e, GROUP_PROC2);
    case VMX_INPUT_IA32_VMX_PROCBASED_CTLS3: return e->caps->allowed1[GROUP_PROC3];
    case VMX_INPUT_IA32_VMX_EXIT_CTLS2: return e->caps->allowed1[GROUP_EXIT2];
    case VMX_INPUT_IA32_VMX_TRUE_EXIT_CTLS: return capability(e, GROUP_EXIT);
    case VMX_INPUT_IA32_VMX_TRUE_ENTRY_CTLS: return capability(e, GROUP_ENTRY);
    case VMX_INPUT_IA32_VMX_VMFUNC: return e->caps->allowed1[GROUP_VMFUNC];
    case VMX_INPUT_VTPR: return k.vtpr;
    case VMX_INPUT_LINK_DWORD: return k.link_dword;
    case VMX_INPUT_PDPTE0:
    case VMX_INPUT_PDPTE1:
    case VMX_INPUT_PDPTE2:
    case VMX_INPUT_PDPTE3: return k.pdpte[input - VMX_INPUT_PDPTE0];
    case VMX_INPUT_MSR_NUMBER: return x->qualification;
    case VMX_INPUT_MSR_INDEX: return x->msr.index;
    case VMX_INPUT_MSR_RESERVED: return x->msr.reserved;
    case VMX_INPUT_MSR_DATA: return x->msr.data;
    }
    panic("vmx_check_input_value: %u", input);
}

/*
 * The checks of VM entry (SDM 27.2, 27.3, 27.4), a row a rule: a VMCS that passes, with one thing broken,
 * must be refused in the way the manual says. The names are the rules' ids in this project.
 *
 * Where Bochs 2.7 differs from the SDM, the row follows the SDM. Bochs fails CTL-ENTRY-006 (it reports guest
 * state), CTL-INJ-005, GUEST-CR-007, GUEST-MSR-001, GUEST-RIP-002, GUEST-NONREG-004, -005 (any type with
 * vector 18), -014 (qualification 0), -018, -021 (the upper half), -024 and -025: it has no such check.
 *
 * Missing: SMM, FRED, CET, posted interrupts.
 */
#include "vmx-common.h"

PROBE(p_vmcall, "vmcall");
asm(".pushsection .text; code16: .code16; vmcall; .code64; code16_end: .popsection");
extern const uint8_t code16[], code16_end[];

enum op { NOTHING, SET, OR, CLEAR, BEYOND /* set the bit at MAXPHYADDR */ };

struct change {
    enum op op;
    uint32_t field;
    uint64_t value;
};

/* Outcomes. */
#define PASS          0
#define FAIL(n)       (n)               /* VMfailValid(n) */
#define EXIT33(q)     (0x100 | (q))     /* entry failure by guest state, exit qualification q */
#define EXIT34(index) (0x200 | (index)) /* entry failure by MSR loading */

struct row {
    const char *id;
    bool (*setup)(struct vmx_vcpu *); /* makes a VMCS that passes; false if the processor cannot */
    uint32_t outcome;
    struct change change[3];
};

#define PROC_FIELD  PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC2_FIELD SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC3_FIELD TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define EXIT2_FIELD SECONDARY_VM_EXIT_CONTROLS
#define PIN_FIELD   PIN_BASED_VM_EXECUTION_CONTROLS
#define EXIT_FIELD  PRIMARY_VM_EXIT_CONTROLS
#define ENTRY_FIELD VM_ENTRY_CONTROLS
#define INJECT      INJECTED_EVENT_IDENTIFICATION

static uint64_t spare_page;

static bool plain(struct vmx_vcpu *v)
{
    guest_init(v, p_vmcall);
    return true;
}

static bool io_bitmaps(struct vmx_vcpu *v)
{
    plain(v);
    vmx_set_proc(PROC_USE_IO_BITMAPS);
    vmwrite(ADDRESS_OF_IO_BITMAP_A, spare_page);
    vmwrite(ADDRESS_OF_IO_BITMAP_B, spare_page);
    return true;
}

static bool msr_bitmaps(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_MSR_BITMAPS)) return false;
    vmx_set_proc(PROC_USE_MSR_BITMAPS);
    vmwrite(ADDRESS_OF_MSR_BITMAPS, spare_page);
    return true;
}

static bool tpr_shadow(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_USE_TPR_SHADOW)) return false;
    vmx_set_proc(PROC_USE_TPR_SHADOW);
    vmwrite(VIRTUAL_APIC_ADDRESS, spare_page);
    vmwrite(TPR_THRESHOLD, 0);
    return true;
}

static bool x2apic_mode(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_secondary(PROC2_VIRTUALIZE_X2APIC_MODE)) return false;
    vmx_set_proc2(PROC2_VIRTUALIZE_X2APIC_MODE);
    return true;
}

static bool apic_accesses(struct vmx_vcpu *v)
{
    if (!tpr_shadow(v) || !vmx_has_secondary(PROC2_VIRTUALIZE_APIC_ACCESSES)) return false;
    vmx_set_proc2(PROC2_VIRTUALIZE_APIC_ACCESSES);
    vmwrite(APIC_ACCESS_ADDRESS, spare_page);
    return true;
}

static bool virtual_nmis(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_VIRTUAL_NMIS)) return false;
    vmx_set_pin(PIN_NMI_EXITING | PIN_VIRTUAL_NMIS);
    return true;
}

static bool timer(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_PINBASED_CTLS, PIN_ACTIVATE_VMX_PREEMPTION_TIMER) ||
        !vmx_allowed(IA32_VMX_EXIT_CTLS, EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE))
        return false;
    vmx_set_pin(PIN_ACTIVATE_VMX_PREEMPTION_TIMER);
    vmwrite(EXIT_FIELD, vmread(EXIT_FIELD) | EXIT_SAVE_VMX_PREEMPTION_TIMER_VALUE);
    vmwrite(VMX_PREEMPTION_TIMER_VALUE, 0xffffffff);
    return true;
}

static bool vpid(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_secondary(PROC2_ENABLE_VPID)) return false;
    vmx_set_proc2(PROC2_ENABLE_VPID);
    vmwrite(VPID, 1);
    return true;
}

static bool ept(struct vmx_vcpu *v)
{
    if (!vmx_has_secondary(PROC2_ENABLE_EPT)) return false;
    guest_init_ept(v, p_vmcall);
    return true;
}

static bool ept_without_ad(struct vmx_vcpu *v)
{
    return ept(v) && !(rdmsr(IA32_VMX_EPT_VPID_CAP) & 1u << 21);
}

static bool pml(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_ENABLE_PML)) return false;
    vmx_set_proc2(PROC2_ENABLE_PML);
    vmwrite(PML_ADDRESS, spare_page);
    vmwrite(PML_INDEX, 511);
    return true;
}

static bool tsc_scaling(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_secondary(PROC2_USE_TSC_SCALING)) return false;
    vmx_set_proc2(PROC2_USE_TSC_SCALING);
    vmwrite(TSC_MULTIPLIER, 1ul << 48);
    return true;
}

static bool vm_functions(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_ENABLE_VM_FUNCTIONS)) return false;
    vmx_set_proc2(PROC2_ENABLE_VM_FUNCTIONS);
    vmwrite(VM_FUNCTION_CONTROLS, 1);
    vmwrite(EPTP_LIST_ADDRESS, spare_page);
    return rdmsr(IA32_VMX_VMFUNC) & 1;
}

static bool shadowing(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_secondary(PROC2_VMCS_SHADOWING)) return false;
    vmx_set_proc2(PROC2_VMCS_SHADOWING);
    vmwrite(VMREAD_BITMAP_ADDRESS, spare_page);
    vmwrite(VMWRITE_BITMAP_ADDRESS, spare_page);
    return true;
}

static bool unrestricted(struct vmx_vcpu *v)
{
    if (!ept(v) || !vmx_has_secondary(PROC2_UNRESTRICTED_GUEST)) return false;
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    return true;
}

static bool real_mode(struct vmx_vcpu *v)
{
    if (!unrestricted(v)) return false;
    guest_real_mode(v, code16, (size_t)(code16_end - code16));
    return true;
}

static bool protected_mode(struct vmx_vcpu *v)
{
    if (!unrestricted(v)) return false;
    vmx_guest_protected_mode();
    return true;
}

static bool v86_mode(struct vmx_vcpu *v)
{
    if (!protected_mode(v)) return false;
    memcpy((void *)0x8000, code16, (size_t)(code16_end - code16));
    for (unsigned i = 0; i < 6; i++) {
        vmwrite(GUEST_ES_SELECTOR + 2 * i, 0x800);
        vmwrite(GUEST_ES_BASE + 2 * i, 0x8000);
        vmwrite(GUEST_ES_LIMIT + 2 * i, 0xffff);
        vmwrite(GUEST_ES_ACCESS_RIGHTS + 2 * i, 0xf3);
    }
    vmwrite(GUEST_RIP, 0);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IOPL3);
    return true;
}

static bool pae_paging(struct vmx_vcpu *v)
{
    if (!protected_mode(v)) return false;
    uint64_t *directory = page_alloc(1);
    for (unsigned i = 0; i < 32; i++) directory[i] = (uint64_t)i << 21 | PTE_P | PTE_W | PTE_PS;
    vmwrite(GUEST_PDPTE0, (uint64_t)directory | PTE_P);
    vmwrite(GUEST_PDPTE1, 0);
    vmwrite(GUEST_PDPTE2, 0);
    vmwrite(GUEST_PDPTE3, 0);
    vmwrite(GUEST_CR4, vmread(GUEST_CR4) | CR4_PAE);
    vmwrite(GUEST_CR0, vmread(GUEST_CR0) | CR0_PG);
    return true;
}

static bool entry_control(struct vmx_vcpu *v, uint32_t bit, uint32_t field, uint64_t value)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_ENTRY_CTLS, bit)) return false;
    vmwrite(ENTRY_FIELD, vmread(ENTRY_FIELD) | bit);
    vmwrite(field, value);
    return true;
}

static bool exit_control(struct vmx_vcpu *v, uint32_t bit, uint32_t field, uint64_t value)
{
    plain(v);
    if (!vmx_allowed(IA32_VMX_EXIT_CTLS, bit)) return false;
    vmwrite(EXIT_FIELD, vmread(EXIT_FIELD) | bit);
    vmwrite(field, value);
    return true;
}

static bool entry_efer(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_IA32_EFER, GUEST_IA32_EFER, rdmsr(IA32_EFER));
}
static bool entry_pat(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_IA32_PAT, GUEST_IA32_PAT, rdmsr(IA32_PAT));
}
static bool entry_debug(struct vmx_vcpu *v)
{
    return entry_control(v, ENTRY_LOAD_DEBUG_CONTROLS, GUEST_DR7, 0x400);
}
static bool exit_efer(struct vmx_vcpu *v)
{
    return exit_control(v, EXIT_LOAD_IA32_EFER, HOST_IA32_EFER, rdmsr(IA32_EFER));
}
/* Bit 63 of IA32_SPEC_CTRL is reserved. */
static bool entry_spec_ctrl(struct vmx_vcpu *v)
{
    plain(v);
    return vmx_allowed(IA32_VMX_ENTRY_CTLS, ENTRY_LOAD_IA32_SPEC_CTRL) &&
           entry_control(v, ENTRY_LOAD_IA32_SPEC_CTRL, GUEST_IA32_SPEC_CTRL, rdmsr(IA32_SPEC_CTRL));
}
static bool tertiary(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_tertiary(0)) return false;
    vmx_set_proc3(0);
    return true;
}
static bool secondary_exit(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_exit2(0)) return false;
    vmx_set_exit2(0);
    return true;
}
static bool exit_spec_ctrl(struct vmx_vcpu *v)
{
    plain(v);
    if (!vmx_has_exit2(EXIT2_LOAD_IA32_SPEC_CTRL)) return false;
    vmx_set_exit2(EXIT2_LOAD_IA32_SPEC_CTRL);
    vmwrite(HOST_IA32_SPEC_CTRL, rdmsr(IA32_SPEC_CTRL));
    return true;
}
static bool exit_pat(struct vmx_vcpu *v)
{
    return exit_control(v, EXIT_LOAD_IA32_PAT, HOST_IA32_PAT, rdmsr(IA32_PAT));
}

/* Three good entries in the MSR-load area of VM entry; rows break the third. */
static bool msr_load(struct vmx_vcpu *v)
{
    plain(v);
    uint64_t *area = (uint64_t *)spare_page;
    for (unsigned i = 0; i < 3; i++) {
        area[2 * i] = IA32_SYSENTER_CS;
        area[2 * i + 1] = 0;
    }
    vmwrite(VM_ENTRY_MSR_LOAD_ADDRESS, spare_page);
    vmwrite(VM_ENTRY_MSR_LOAD_COUNT, 3);
    return true;
}

#define MSR_LOAD_ROW(name, index, data) \
    static bool name(struct vmx_vcpu *v) \
    { \
        msr_load(v); \
        ((uint64_t *)spare_page)[4] = (index); \
        ((uint64_t *)spare_page)[5] = (data); \
        return true; \
    }
MSR_LOAD_ROW(msr_fs_base, IA32_FS_BASE, 0)
MSR_LOAD_ROW(msr_gs_base, IA32_GS_BASE, 0)
MSR_LOAD_ROW(msr_x2apic, 0x808, 0)
MSR_LOAD_ROW(msr_reserved, 1ul << 32 | IA32_SYSENTER_CS, 0)
MSR_LOAD_ROW(msr_unknown, 0x4b564d00, 0)
MSR_LOAD_ROW(msr_bad_data, IA32_PAT, 0x0202020202020202)

static bool idle(struct vmx_vcpu *v)
{
    plain(v);
    return rdmsr(IA32_VMX_MISC) & 1u << 6;
}

/* HLT state, woken at once by an injected interrupt. */
static bool halted(struct vmx_vcpu *v)
{
    if (!idle(v)) return false;
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_HLT);
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | RFLAGS_IF);
    vmwrite(INJECT, EVENT_VALID | EVENT_EXTERNAL_INTERRUPT | 0x40);
    return true;
}

/* Shutdown state, left at once by an injected NMI. */
static bool shut_down(struct vmx_vcpu *v)
{
    plain(v);
    if (!(rdmsr(IA32_VMX_MISC) & 1u << 7)) return false;
    vmwrite(GUEST_ACTIVITY_STATE, ACTIVITY_SHUTDOWN);
    vmwrite(INJECT, EVENT_VALID | EVENT_NMI | 2);
    return true;
}

/* Error codes with injected exceptions are bound to the vector only if IA32_VMX_BASIC[56] is 0. */
static bool strict_error_codes(struct vmx_vcpu *v)
{
    plain(v);
    return !(rdmsr(IA32_VMX_BASIC) & 1ul << 56);
}

static bool strict_lengths(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 1);
    return !(rdmsr(IA32_VMX_MISC) & 1u << 30);
}

static bool with_length(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(VM_ENTRY_INSTRUCTION_LENGTH, 1);
    return true;
}

static bool link_pointer(struct vmx_vcpu *v)
{
    plain(v);
    static uint64_t region;
    if (!region) region = vmx_new_region();
    vmwrite(VMCS_LINK_POINTER, region);
    return true;
}

#define NONCANONICAL 0x8000000000000000ul

static const struct row rows[] = {
#include "vmx-entry-rows.h"
};

static void apply(const struct change *c)
{
    uint64_t v = c->op == NOTHING ? 0 : vmread(c->field);
    switch (c->op) {
    case NOTHING: return;
    case SET: v = c->value; break;
    case OR: v |= c->value; break;
    case CLEAR: v &= ~c->value; break;
    case BEYOND: v |= 1ul << maxphyaddr(); break;
    }
    vmwrite(c->field, v);
}

static void judge(const struct row *r, const struct vmx_exit *e)
{
    uint32_t reason = e->reason & 0xffff;
    bool good;
    if (r->outcome == PASS)
        good = e->status == VMX_SUCCEED && e->reason == EXIT_REASON_VMCALL;
    else if (r->outcome < 0x100)
        good = e->status == VMX_FAIL_VALID && e->error == r->outcome;
    else
        good = e->status == VMX_SUCCEED && (e->reason & EXIT_REASON_ENTRY_FAILURE) &&
               reason == (r->outcome & 0x200 ? EXIT_REASON_ENTRY_FAILURE_MSR_LOADING
                                             : EXIT_REASON_ENTRY_FAILURE_GUEST_STATE) &&
               e->qualification == (r->outcome & 0xff);
    if (!ok(good, "%s", r->id))
        tap_note("  want %x; got status %d, error %u, reason %x, qualification %lx, rip %lx", r->outcome,
                 (int)e->status, e->error, e->reason, e->qualification, vmread(GUEST_RIP));
}

/* Each control field, with a bit that must be 1 taken away and a bit that must be 0 added. */
static void reserved_control_bits(struct vmx_vcpu *v)
{
    static const struct {
        const char *id;
        uint32_t field, msr;
    } fields[] = {{"CTL-PIN", PIN_FIELD, IA32_VMX_PINBASED_CTLS},
                  {"CTL-PROC1", PROC_FIELD, IA32_VMX_PROCBASED_CTLS},
                  {"CTL-PROC2", PROC2_FIELD, IA32_VMX_PROCBASED_CTLS2},
                  {"CTL-EXIT", EXIT_FIELD, IA32_VMX_EXIT_CTLS},
                  {"CTL-ENTRY", ENTRY_FIELD, IA32_VMX_ENTRY_CTLS}};
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        uint32_t must = vmx_adjust(fields[i].msr, 0), may = vmx_allowed(fields[i].msr, 0xffffffff);
        unsigned tried = 0;
        for (uint32_t bit = 1; bit; bit <<= 1) {
            if (fields[i].field == PROC2_FIELD &&
                !vmx_allowed(IA32_VMX_PROCBASED_CTLS, PROC_ACTIVATE_SECONDARY_CONTROLS))
                break;
            if (!(must & bit) && (may & bit)) continue;
            plain(v);
            vmwrite(fields[i].field, vmread(fields[i].field) ^ bit);
            struct vmx_exit e = vmx_run(v);
            if (e.status != VMX_FAIL_VALID || e.error != VMX_ERROR_ENTRY_CONTROLS) {
                ok(false, "%s: bit %x %s", fields[i].id, bit, must & bit ? "must be 1" : "must be 0");
                tap_note("  got status %d, error %u, reason %x", (int)e.status, e.error, e.reason);
                tried = 0;
                break;
            }
            tried++;
        }
        if (tried) ok(true, "%s-001 and -002: each of the %u fixed bits is checked", fields[i].id, tried);
    }
}

/* The fields of 64 bits, whose capability MSR says what may be 1. */
static void reserved_long_controls(struct vmx_vcpu *v)
{
    static const struct {
        const char *id;
        bool (*setup)(struct vmx_vcpu *);
        uint32_t field, msr;
    } fields[] = {
        {"CTL-PROC3-001", tertiary, TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS, IA32_VMX_PROCBASED_CTLS3},
        {"CTL-EXIT-003", secondary_exit, SECONDARY_VM_EXIT_CONTROLS, IA32_VMX_EXIT_CTLS2}};
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!fields[i].setup(v)) {
            skip_one(fields[i].id, "not offered by this processor");
            continue;
        }
        uint64_t may = rdmsr(fields[i].msr);
        unsigned bit = 0, tried = 0;
        for (; bit < 64; bit++) {
            if (may >> bit & 1) continue;
            fields[i].setup(v);
            vmwrite(fields[i].field, 1ul << bit);
            tried++;
            struct vmx_exit e = vmx_run(v);
            if (e.status != VMX_FAIL_VALID || e.error != VMX_ERROR_ENTRY_CONTROLS) break;
        }
        is(bit, 64, "%s: each of the %u bits that must be 0 is checked", fields[i].id, tried);
    }
}

/* What a failed entry leaves behind (SDM 27.8). */
static void after_failure(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(GUEST_RFLAGS, 0);
    vmwrite(INJECT, EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6);
    uint64_t rip = vmread(GUEST_RIP), entry = vmread(ENTRY_FIELD);
    struct vmx_exit e = vmx_run(v);
    is(e.reason, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE, "a failed entry");
    is(vmread(GUEST_RIP), rip, "  leaves the guest state");
    is(vmread(ENTRY_FIELD), entry, "  leaves the entry controls");
    is(vmread(INJECT), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6, "  leaves the injected event valid");
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED);
    vmwrite(INJECT, 0);
    done(v, "  leaves the VMCS clear: VMLAUNCH works");
}

/* Two faults at once: the manual lets controls and host state be checked in any order, but before guest
 * state. */
static void order(struct vmx_vcpu *v)
{
    plain(v);
    vmwrite(CR3_TARGET_COUNT, 1000);
    vmwrite(HOST_CS_SELECTOR, 0);
    struct vmx_exit e = vmx_run(v);
    ok(e.status == VMX_FAIL_VALID && (e.error == 7 || e.error == 8),
       "bad control and bad host state: 7 or 8");
    plain(v);
    vmwrite(CR3_TARGET_COUNT, 1000);
    vmwrite(GUEST_RFLAGS, 0);
    entry_fails(v, 7, "bad control and bad guest state: 7");
    plain(v);
    vmwrite(HOST_CS_SELECTOR, 0);
    vmwrite(GUEST_RFLAGS, 0);
    entry_fails(v, 8, "bad host and bad guest state: 8");
    msr_fs_base(v);
    vmwrite(GUEST_RFLAGS, 0);
    exit_is(v, EXIT_REASON_ENTRY_FAILURE | EXIT_REASON_ENTRY_FAILURE_GUEST_STATE,
            "bad guest state and bad MSR area: guest state");
}

int rom_main(void)
{
    static struct vmx_vcpu v;
    if (!vmx_test_begin("the checks of VM entry")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    spare_page = (uint64_t)page_alloc(1);

    reserved_control_bits(&v);
    reserved_long_controls(&v);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *r = &rows[i];
        if (!r->setup(&v)) {
            skip_one(r->id, "not offered by this processor");
            continue;
        }
        for (unsigned c = 0; c < 3; c++) apply(&r->change[c]);
        struct vmx_exit e = vmx_run(&v);
        judge(r, &e);
        memset((void *)spare_page, 0, 4096);
    }
    after_failure(&v);
    order(&v);
    return tap_end();
}

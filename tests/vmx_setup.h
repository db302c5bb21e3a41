// VMCSs that pass every check of VM entry, for tests to spoil: a 64-bit guest, a 32-bit protected-mode guest
// (with and without PAE), an unrestricted real-mode guest, a virtual-8086 guest; under a 64-bit host, or a
// 32-bit one. The capabilities are written down here from the manual, not taken from vmx_caps_init().
#ifndef TESTS_VMX_SETUP_H
#define TESTS_VMX_SETUP_H

#include <string.h>

#include "vmx/checks.h"

#define SETUP_REVISION 0x4D545231u
#define SETUP_VMCS     0x8000ull // where the current VMCS would lie
#define SETUP_OTHER    0x7000ull // a second VMCS, for link pointers
#define SETUP_VAPIC    0x5000ull
#define SETUP_PDPT     0x9000ull
#define SETUP_MSRS     0x6000ull

struct setup {
    struct vmcs_fields f;
    struct vmx_caps caps;
    struct cpu_features features;
    struct phys phys;
    struct vmx_entry e;
};

static inline void setup_once(struct setup *s)
{
    const char *why;
    if (!phys_init(&s->phys, 16 << 20, &why)) panic("%s", why);
}

// SDM appendix A, for a processor with the controls that Matryoshka offers.
static inline void setup_caps(struct vmx_caps *c)
{
    memset(c, 0, sizeof *c);
    c->basic = 0x00D8100000000000ull | SETUP_REVISION;
    c->misc = 0x600401E5;
    c->ept_vpid = 0x10F01067341C1ull;
    c->cr0_fixed0 = 0x80000021;
    c->cr0_fixed1 = 0xFFFFFFFF;
    c->cr4_fixed0 = 0x2000;
    c->cr4_fixed1 = 0x772FFF;
    c->true_allowed0[GROUP_PIN] = 0x16, c->allowed1[GROUP_PIN] = 0xFF;
    c->true_allowed0[GROUP_PROC] = 0x04006172, c->allowed1[GROUP_PROC] = 0xFFFBFFFE;
    c->true_allowed0[GROUP_PROC2] = 0, c->allowed1[GROUP_PROC2] = 0xC6D77FFF;
    c->true_allowed0[GROUP_EXIT] = 0x36DFB, c->allowed1[GROUP_EXIT] = 0xA07FEFFF;
    c->true_allowed0[GROUP_ENTRY] = 0x11FB, c->allowed1[GROUP_ENTRY] = 0x140DFFF;
    c->allowed1[GROUP_PROC3] = 0x1DE, c->allowed1[GROUP_EXIT2] = 4;
    c->allowed1[GROUP_VMFUNC] = 1;
}

// clang-format off
enum { SETUP_EPT = 0x02, SETUP_VPID = 0x20, SETUP_UNRESTRICTED = 0x80, SETUP_FUNCTIONS = 0x2000 }; // secondary controls
// clang-format on

// A 64-bit guest of a 64-bit host, with EPT and VPID, not unrestricted.
static inline void setup_long(struct setup *s)
{
    struct vmcs_fields *f = &s->f;
    memset(f, 0, sizeof *f);
    setup_caps(&s->caps);
    memset(s->phys.ram, 0, 0x10000);
    memcpy(s->phys.ram + SETUP_VMCS, &(u32){SETUP_REVISION}, 4);
    memcpy(s->phys.ram + SETUP_OTHER, &(u32){SETUP_REVISION}, 4);
    memset(&s->features, 0, sizeof s->features);
    static const enum feature has[] = {FEATURE_SYSCALL, FEATURE_LM, FEATURE_NX, FEATURE_VMX};
    for (unsigned i = 0; i < ARRAY_LEN(has); i++) s->features.bits[has[i] / 64] |= BIT(has[i] % 64);
    // clang-format off
    s->e = (struct vmx_entry){.f = f, .caps = &s->caps, .features = &s->features, .phys = &s->phys, .maxphyaddr = 40,
                              .linear_bits = 48, .launch = true, .vmcs_pointer = SETUP_VMCS, .vmxon_pointer = 0xA000,
                              .revision = SETUP_REVISION, .cr0 = 0x80050033, .cr4 = 0x2020, .efer = 0xD01, .rflags = 2};
    // clang-format on

    f->PIN_BASED_CONTROLS = 0x16;
    f->PRIMARY_PROC_BASED_CONTROLS = 0x84006172;
    f->SECONDARY_PROC_BASED_CONTROLS = SETUP_EPT | SETUP_VPID;
    f->PRIMARY_VM_EXIT_CONTROLS = 0x36DFF | 0x200;
    f->VM_ENTRY_CONTROLS = 0x11FF | 0x200;
    f->VPID = 1;
    f->EPTP = 0x10001E; // write-back, four levels
    f->VMCS_LINK_POINTER = UINT64_MAX;

    f->HOST_CR0 = 0x80050033;
    f->HOST_CR3 = 0x2000;
    f->HOST_CR4 = 0x2020;
    f->HOST_CS_SELECTOR = 0x08;
    f->HOST_SS_SELECTOR = f->HOST_DS_SELECTOR = f->HOST_ES_SELECTOR = 0x10;
    f->HOST_FS_SELECTOR = f->HOST_GS_SELECTOR = 0x10;
    f->HOST_TR_SELECTOR = 0x18;
    f->HOST_RIP = 0xFFFFFFFF80001000ull;
    f->HOST_RSP = 0xFFFFFFFF80009000ull;
    f->HOST_IA32_SYSENTER_EIP = 0xFFFFFFFF80003000ull;

    f->GUEST_CR0 = 0x80050033;
    f->GUEST_CR3 = SETUP_PDPT;
    f->GUEST_CR4 = 0x2020;
    f->GUEST_DR7 = 0x400;
    f->GUEST_RFLAGS = 2;
    f->GUEST_RIP = 0xFFFFFFFF80002000ull;
    f->GUEST_CS_SELECTOR = 0x08;
    f->GUEST_CS_ACCESS_RIGHTS = 0xA09B;
    f->GUEST_CS_LIMIT = 0xFFFFFFFF;
    f->GUEST_SS_SELECTOR = f->GUEST_DS_SELECTOR = f->GUEST_ES_SELECTOR = 0x10;
    f->GUEST_FS_SELECTOR = f->GUEST_GS_SELECTOR = 0x10;
    f->GUEST_SS_ACCESS_RIGHTS = f->GUEST_DS_ACCESS_RIGHTS = f->GUEST_ES_ACCESS_RIGHTS = 0xC093;
    f->GUEST_FS_ACCESS_RIGHTS = f->GUEST_GS_ACCESS_RIGHTS = 0xC093;
    f->GUEST_SS_LIMIT = f->GUEST_DS_LIMIT = f->GUEST_ES_LIMIT = f->GUEST_FS_LIMIT = f->GUEST_GS_LIMIT =
        0xFFFFFFFF;
    f->GUEST_LDTR_ACCESS_RIGHTS = 0x10000;
    f->GUEST_TR_SELECTOR = 0x18;
    f->GUEST_TR_ACCESS_RIGHTS = 0x8B;
    f->GUEST_TR_LIMIT = 0x67;
    f->GUEST_GDTR_LIMIT = f->GUEST_IDTR_LIMIT = 0xFFFF;
}

static inline void setup_ldtr(struct setup *s) // a 64-bit guest with a usable LDTR
{
    setup_long(s);
    s->f.GUEST_LDTR_SELECTOR = 0x20;
    s->f.GUEST_LDTR_ACCESS_RIGHTS = 0x82;
    s->f.GUEST_LDTR_LIMIT = 0x67;
}

static inline void setup_user(struct setup *s) // a 64-bit guest at CPL 3
{
    setup_long(s);
    s->f.GUEST_CS_SELECTOR = 0x2B, s->f.GUEST_CS_ACCESS_RIGHTS = 0xA0FB;
    s->f.GUEST_SS_SELECTOR = 0x23, s->f.GUEST_SS_ACCESS_RIGHTS = 0xC0F3;
}

static inline void setup_flexible(struct setup *s) // a 64-bit guest with "unrestricted guest"
{
    setup_long(s);
    s->f.SECONDARY_PROC_BASED_CONTROLS |= SETUP_UNRESTRICTED;
}

static inline void setup_protected(struct setup *s) // 32-bit, two-level paging
{
    setup_long(s);
    s->f.VM_ENTRY_CONTROLS = 0x11FF;
    s->f.GUEST_CR4 = 0x2000;
    s->f.GUEST_RIP = 0x80002000;
    s->f.GUEST_CS_ACCESS_RIGHTS = 0xC09B;
}

static inline void setup_pae(struct setup *s) // 32-bit, PAE paging, EPT
{
    setup_protected(s);
    s->f.GUEST_CR4 = 0x2020;
    // the highest address, PCD, PWT, ignored bits
    s->f.GUEST_PDPTE0 = 0x1001, s->f.GUEST_PDPTE1 = 0xFFFFFFFE19ull;
    s->f.GUEST_PDPTE2 = 0xFFFFFFFFFFFFFFFEull; // not present: nothing is reserved
}

static inline void setup_pae_memory(struct setup *s) // 32-bit, PAE paging, PDPTEs in memory
{
    setup_pae(s);
    s->f.SECONDARY_PROC_BASED_CONTROLS = SETUP_VPID;
    s->f.GUEST_CR3 = SETUP_PDPT + 0xE20 + 0x1F; // bits 4:0 are ignored
    memcpy(s->phys.ram + SETUP_PDPT + 0xE20,
           (u64[]){s->f.GUEST_PDPTE0, s->f.GUEST_PDPTE1, s->f.GUEST_PDPTE2, 0}, 32);
    s->f.GUEST_PDPTE0 = s->f.GUEST_PDPTE3 = UINT64_MAX; // not looked at
}

static inline void setup_host32(struct setup *s) // a 32-bit guest of a 32-bit host
{
    setup_protected(s);
    s->e.efer = 0x800;
    s->f.PRIMARY_VM_EXIT_CONTROLS &= ~0x200u;
    s->f.HOST_RIP = 0xC0001000;
    s->f.HOST_RSP = 0xC0009000;
    s->f.HOST_IA32_SYSENTER_EIP = 0xC0003000;
}

static inline void setup_real(struct setup *s) // unrestricted, CR0.PE=0
{
    setup_protected(s);
    s->f.SECONDARY_PROC_BASED_CONTROLS |= SETUP_UNRESTRICTED;
    s->f.GUEST_CR0 = 0x30;
    s->f.GUEST_RIP = 0xFFF0;
    s->f.GUEST_CS_SELECTOR = 0xF000;
    s->f.GUEST_CS_BASE = 0xFFFF0000;
    s->f.GUEST_CS_ACCESS_RIGHTS = 0x9B;
    s->f.GUEST_SS_ACCESS_RIGHTS = s->f.GUEST_DS_ACCESS_RIGHTS = s->f.GUEST_ES_ACCESS_RIGHTS = 0x93;
    s->f.GUEST_FS_ACCESS_RIGHTS = s->f.GUEST_GS_ACCESS_RIGHTS = 0x93;
    s->f.GUEST_CS_LIMIT = s->f.GUEST_SS_LIMIT = s->f.GUEST_DS_LIMIT = 0xFFFF;
    s->f.GUEST_ES_LIMIT = s->f.GUEST_FS_LIMIT = s->f.GUEST_GS_LIMIT = 0xFFFF;
}

static inline void setup_v86(struct setup *s)
{
    struct vmcs_fields *f = &s->f;
    setup_protected(s);
    f->GUEST_RFLAGS = 0x20002;
    f->GUEST_RIP = 0x100;
#define V86(seg, sel) \
    f->GUEST_##seg##_SELECTOR = sel, f->GUEST_##seg##_BASE = sel * 16, f->GUEST_##seg##_LIMIT = 0xFFFF, \
    f->GUEST_##seg##_ACCESS_RIGHTS = 0xF3
    V86(CS, 0x1003);
    V86(SS, 0x2000);
    V86(DS, 0x3001);
    V86(ES, 0x4007);
    V86(FS, 0x0005);
    V86(GS, 0xFFFF);
#undef V86
}

// "As they act": secondary and tertiary controls only while activated, VM functions only while enabled
// (SDM 27.6.2, 27.6.14).
static inline void setup_decode(struct setup *s)
{
    struct vmx_entry *e = &s->e;
    e->pin = s->f.PIN_BASED_CONTROLS;
    e->proc = s->f.PRIMARY_PROC_BASED_CONTROLS;
    e->proc2 = e->proc >> 31 ? s->f.SECONDARY_PROC_BASED_CONTROLS : 0;
    e->exit = s->f.PRIMARY_VM_EXIT_CONTROLS;
    e->entry = s->f.VM_ENTRY_CONTROLS;
    e->vmfunc = e->proc2 & SETUP_FUNCTIONS ? s->f.VM_FUNCTION_CONTROLS : 0;
    e->proc3 = e->proc >> 17 & 1 ? s->f.TERTIARY_PROC_BASED_CONTROLS : 0;
    e->exit2 = e->exit >> 31 ? s->f.SECONDARY_VM_EXIT_CONTROLS : 0;
}

#endif

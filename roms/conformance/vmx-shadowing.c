/*
 * VMCS shadowing: VMREAD and VMWRITE in VMX non-root operation, by the bitmaps and the VMCS link pointer
 * (SDM 27.10, 28.1.3, chapter 33: VMREAD, VMWRITE), and shadow VMCSs in the VMX instructions (SDM 27.10,
 * chapter 33: VMPTRLD, VMCLEAR, VMXON, VMLAUNCH, VMRESUME).
 *
 * Bochs 2.7 fails BASIC-007 (SDM chapter 33, VMLAUNCH/VMRESUME): it does not look whether the current VMCS is
 * a shadow VMCS.
 */
#include "user.h"
#include "vmx-common.h"

#define SHADOW_INDICATOR (1u << 31)
#define VM_FLAGS         0x8d5u /* CF, PF, AF, ZF, SF, OF */
#define CF               1u
#define ZF               0x40u
#define UNSUPPORTED      0x7ffeul /* no field has index 511 in the host-state area of natural width */

static struct vmx_vcpu v;
static uint64_t *seen;
static uint8_t *read_bitmap, *write_bitmap;
static uint32_t *shadow; /* the region of the shadow VMCS */
static uint32_t revision;

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
/* RCX: encoding, RAX: value; RDX: the flags after it. */
CODE(g_vmread, "vmread %rcx, %rax; pushfq; pop %rdx");
CODE(g_vmwrite, "vmwrite %rax, %rcx; pushfq; pop %rdx");
CODE(g_vmread_memory, "vmread %rcx, 0x10(%rdi,%rbx,2); pushfq; pop %rdx");
CODE(g_vmwrite_memory, "vmwrite 0x10(%rdi,%rbx,2), %rcx; pushfq; pop %rdx");
CODE(g_vmread_nowhere, "mov $1 << 40, %rax; vmread %rcx, (%rax); pushfq; pop %rdx");
CODE(g_vmwrite_nowhere, "mov $1 << 40, %rax; vmwrite (%rax), %rcx; pushfq; pop %rdx");

static void start_plain(const void *code, uint64_t encoding, uint64_t value)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RCX] = encoding;
    v.regs.gpr[RAX] = value;
    v.regs.gpr[RDI] = (uint64_t)seen;
    vmwrite(GUEST_RFLAGS, RFLAGS_FIXED | VM_FLAGS);
}

static void start(const void *code, uint64_t encoding, uint64_t value)
{
    start_plain(code, encoding, value);
    vmx_set_proc2(PROC2_VMCS_SHADOWING);
    vmwrite(VMREAD_BITMAP_ADDRESS, (uint64_t)read_bitmap);
    vmwrite(VMWRITE_BITMAP_ADDRESS, (uint64_t)write_bitmap);
    vmwrite(VMCS_LINK_POINTER, (uint64_t)shadow);
}

/* A field of the shadow VMCS, from the outside. */
static uint64_t shadow_field(uint64_t field)
{
    uint64_t own = vmptrst();
    if (vmptrld((uint64_t)shadow) != VMX_SUCCEED) panic("VMPTRLD of the shadow VMCS failed");
    uint64_t x = vmread(field);
    vmclear((uint64_t)shadow);
    vmptrld(own);
    return x;
}

static void set_shadow_field(uint64_t field, uint64_t value)
{
    uint64_t own = vmptrst();
    if (vmptrld((uint64_t)shadow) != VMX_SUCCEED) panic("VMPTRLD of the shadow VMCS failed");
    vmwrite(field, value);
    vmclear((uint64_t)shadow);
    vmptrld(own);
}

static void without_it(void)
{
    start_plain(g_vmread_memory, GUEST_RIP, 0);
    v.regs.gpr[RBX] = 4;
    struct vmx_exit e = exit_is(&v, EXIT_REASON_VMREAD, "VMREAD exits without VMCS shadowing");
    is(e.qualification, 0x10, "  the qualification is the displacement");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 5, "  the instruction length");
    /* scale 2, 64-bit address, memory, DS, index RBX, base RDI, register RCX */
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0xffff8783,
       1u | 2u << 7 | 3u << 15 | 3u << 18 | 7u << 23 | 1u << 28, "  the instruction information");
    start_plain(g_vmwrite, GUEST_RIP, 0);
    exit_is(&v, EXIT_REASON_VMWRITE, "VMWRITE exits without VMCS shadowing");
    /* register RAX in 6:3, register RCX in 31:28 */
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0xf0000478, 1u << 10 | 1u << 28,
       "  the instruction information");
    is(vmread(GUEST_RFLAGS) & VM_FLAGS, VM_FLAGS, "  the flags are not written");
}

/* ---- what is accessed ---- */

static void accesses(void)
{
    static const struct {
        const char *what;
        uint64_t encoding, field, before, after, read;
    } t[] = {
        {"a 16-bit field", GUEST_ES_SELECTOR, GUEST_ES_SELECTOR, 0, 0x5678, 0x5678},
        {"a 32-bit field", GUEST_CS_LIMIT, GUEST_CS_LIMIT, 0, 0x12345678, 0x12345678},
        {"a 64-bit field", TSC_OFFSET, TSC_OFFSET, 0, 0x9abcdef012345678, 0x9abcdef012345678},
        {"the high half of a 64-bit field", TSC_OFFSET + 1, TSC_OFFSET, 0x1111111122222222,
         0x1234567822222222, 0x12345678},
        {"a field of natural width", GUEST_RFLAGS, GUEST_RFLAGS, 0, 0x9abcdef012345678, 0x9abcdef012345678},
    };
    for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        start(g_vmwrite, t[i].encoding, 0x9abcdef012345678);
        set_shadow_field(t[i].field, t[i].before);
        done(&v, "VMWRITE with VMCS shadowing does not exit");
        is(v.regs.gpr[RDX] & VM_FLAGS, 0, "  succeeds");
        is(shadow_field(t[i].field), t[i].after, "  writes %s of the shadow VMCS", t[i].what);
        start(g_vmread, t[i].encoding, ~0ul);
        done(&v, "VMREAD with VMCS shadowing does not exit");
        is(v.regs.gpr[RDX] & VM_FLAGS, 0, "  succeeds");
        is(v.regs.gpr[RAX], t[i].read, "  reads %s of the shadow VMCS", t[i].what);
    }
    start(g_vmwrite, CR3_TARGET_COUNT, 77);
    done(&v, "a guest that writes a control field of the shadow VMCS");
    is(vmread(CR3_TARGET_COUNT), 0, "  leaves that of its own VMCS");
    is(shadow_field(CR3_TARGET_COUNT), 77, "  and writes the other, unchecked");

    set_shadow_field(GUEST_RIP, 0x1122334455667788);
    start(g_vmread_memory, GUEST_RIP, 0);
    done(&v, "VMREAD to memory");
    is(seen[2], 0x1122334455667788, "  writes it");
    seen[2] = 0x77;
    start(g_vmwrite_memory, GUEST_RIP, 0);
    done(&v, "VMWRITE from memory");
    is(shadow_field(GUEST_RIP), 0x77, "  reads it");
}

/* ---- what exits ---- */

static void bitmaps(void)
{
    static const uint16_t encodings[] = {0, 1, 7, TSC_OFFSET, TSC_OFFSET + 1, GUEST_RIP, 0x7fff};
    unsigned n = sizeof(encodings) / sizeof(encodings[0]), exits = 0, others = 0, other_kind = 0;
    for (unsigned i = 0; i < 2 * n; i++) {
        bool write = i & 1;
        uint16_t e = encodings[i / 2];
        uint8_t *own = write ? write_bitmap : read_bitmap, *other = write ? read_bitmap : write_bitmap;
        const void *code = write ? g_vmwrite : g_vmread;
        uint32_t reason = write ? EXIT_REASON_VMWRITE : EXIT_REASON_VMREAD;
        own[e / 8] = (uint8_t)(1 << e % 8);
        start(code, e, 0);
        exits += vmx_run(&v).reason == reason;
        own[e / 8] = (uint8_t)~own[e / 8];
        start(code, e, 0);
        others += vmx_run(&v).reason == EXIT_REASON_VMCALL;
        own[e / 8] = 0;
        other[e / 8] = 0xff;
        start(code, e, 0);
        other_kind += vmx_run(&v).reason == EXIT_REASON_VMCALL;
        other[e / 8] = 0;
    }
    is(exits, 2 * n, "an access whose bit is 1 exits, of an encoding with a field or without");
    is(others, 2 * n, "  the other bits of the byte do not matter");
    is(other_kind, 2 * n, "  nor does the other bitmap");
    exits = 0;
    for (unsigned bit = 15; bit < 64; bit++) {
        start(g_vmread, 1ul << bit | GUEST_RIP, 0);
        exits += vmx_run(&v).reason == EXIT_REASON_VMREAD;
        start(g_vmwrite, 1ul << bit | GUEST_RIP, 0);
        exits += vmx_run(&v).reason == EXIT_REASON_VMWRITE;
    }
    is(exits, 98, "with one of bits 63:15 of the register they exit always");
}

/* ---- what fails ---- */

static void fails(const void *code, uint64_t encoding, uint64_t flag, uint64_t error, const char *name)
{
    start(code, encoding, 5);
    done(&v, name);
    is(v.regs.gpr[RDX] & VM_FLAGS, flag, "  its flags");
    is(v.regs.gpr[RAX], 5, "  the register stays");
    if (error) is(vmread(VM_INSTRUCTION_ERROR), error, "  the error number goes to the current VMCS");
}

static void failures(void)
{
    fails(g_vmread, UNSUPPORTED, ZF, 12, "VMREAD of no field: VMfailValid");
    fails(g_vmwrite, UNSUPPORTED, ZF, 12, "VMWRITE of no field: VMfailValid");
    fails(g_vmread, GUEST_RIP + 1, ZF, 12, "VMREAD, high access to a field of natural width: VMfailValid");
    if (rdmsr(IA32_VMX_MISC) & 1u << 29) {
        start(g_vmwrite, EXIT_REASON, 0x1234);
        done(&v, "VMWRITE of the exit reason (IA32_VMX_MISC[29]=1)");
        is(v.regs.gpr[RDX] & VM_FLAGS, 0, "  succeeds");
        is(shadow_field(EXIT_REASON), 0x1234, "  in the shadow VMCS");
        skip(1, "IA32_VMX_MISC[29] is 1");
    } else {
        fails(g_vmwrite, EXIT_REASON, ZF, 13,
              "VMWRITE of the exit reason (IA32_VMX_MISC[29]=0): VMfailValid");
    }
    start(g_vmread, UNSUPPORTED, 5);
    vmwrite(VMCS_LINK_POINTER, ~0ul);
    done(&v, "VMREAD without a link pointer");
    is(v.regs.gpr[RDX] & VM_FLAGS, CF, "  VMfailInvalid, before the field is looked at");
    start(g_vmwrite, UNSUPPORTED, 5);
    vmwrite(VMCS_LINK_POINTER, ~0ul);
    done(&v, "VMWRITE without a link pointer");
    is(v.regs.gpr[RDX] & VM_FLAGS, CF, "  VMfailInvalid, before the field is looked at");

    start(g_vmread_nowhere, UNSUPPORTED, 0);
    done(&v, "VMREAD looks at the field before its destination");
    is(v.regs.gpr[RDX] & VM_FLAGS, ZF, "  VMfailValid");
    start(g_vmread_nowhere, GUEST_RIP, 0);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "  and then faults on it");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, 14, "  #PF");
    start(g_vmwrite_nowhere, UNSUPPORTED, 0);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "VMWRITE loads its source before it looks at the field");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, 14, "  #PF");
}

static void at_cpl3(const void *code, uint64_t encoding)
{
    static uint8_t *page;
    if (!page) {
        page = page_alloc(1);
        paging_map(USER_CODE, (uint64_t)page, PTE_P | PTE_W | PTE_U);
    }
    memcpy(page, code, 64);
    start(code, encoding, 0);
    vmwrite(GUEST_RIP, USER_CODE);
    vmwrite(GUEST_CS_SELECTOR, SEL_USER_CODE64);
    vmwrite(GUEST_CS_ACCESS_RIGHTS, 0xa0fb);
    vmwrite(GUEST_SS_SELECTOR, SEL_USER_DATA);
    vmwrite(GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
}

static void privilege(void)
{
    at_cpl3(g_vmread, UNSUPPORTED);
    vmwrite(VMCS_LINK_POINTER, ~0ul);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "VMREAD that does not exit at CPL 3");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, 13, "  #GP, before the link pointer and the field");
    is(vmread(EXITING_EVENT_ERROR_CODE), 0, "  (0)");
    at_cpl3(g_vmwrite_nowhere, UNSUPPORTED);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "VMWRITE that does not exit at CPL 3");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, 13, "  #GP, before its source");
    at_cpl3(g_vmread, 0x8000);
    exit_is(&v, EXIT_REASON_VMREAD,
            "VMREAD at CPL 3 by a reserved bit of the register: the exit comes first");
    write_bitmap[0] = 1;
    at_cpl3(g_vmwrite, 0);
    exit_is(&v, EXIT_REASON_VMWRITE, "VMWRITE at CPL 3 by its bitmap: the exit comes first");
    write_bitmap[0] = 0;
}

/* ---- the VMX instructions on a shadow VMCS ---- */

static void instructions(void)
{
    start_plain(g_vmread, GUEST_RIP, 0); /* a VMCS that would enter */
    v.launched = false;
    uint64_t own = vmptrst();
    is(vmclear((uint64_t)shadow), VMX_SUCCEED, "VMCLEAR of a shadow VMCS");
    is(*shadow, revision | SHADOW_INDICATOR, "  leaves the indicator");
    is(vmptrld((uint64_t)shadow), VMX_SUCCEED, "VMPTRLD of a shadow VMCS");
    is(vmptrst(), (uint64_t)shadow, "  makes it current");
    is(vmwrite_status(GUEST_RIP, 0x1234), VMX_SUCCEED, "  VMWRITE");
    uint64_t x = 0;
    is(vmread_status(GUEST_RIP, &x), VMX_SUCCEED, "  VMREAD");
    is(x, 0x1234, "  what was written");
    v.launched = false;
    is(vmx_run(&v).status, VMX_FAIL_INVALID, "BASIC-007: VMLAUNCH of a shadow VMCS: VMfailInvalid");
    v.launched = true;
    is(vmx_run(&v).status, VMX_FAIL_INVALID, "BASIC-007: VMRESUME of a shadow VMCS: VMfailInvalid");
    v.launched = false;
    vmclear((uint64_t)shadow);
    vmptrld(own);
    *shadow = (revision ^ 1) | SHADOW_INDICATOR;
    is(vmptrld((uint64_t)shadow), VMX_FAIL_VALID, "VMPTRLD of a shadow VMCS with another revision");
    is(vmread(VM_INSTRUCTION_ERROR), VMX_ERROR_VMPTRLD_REVISION, "  error 11");
    *shadow = revision | SHADOW_INDICATOR;
    vmx_off();
    write_cr4(read_cr4() | CR4_VMXE);
    is(vmxon((uint64_t)shadow), VMX_FAIL_INVALID, "VMXON of a region with bit 31: VMfailInvalid");
    if (!vmx_on()) panic("VMXON failed");
}

int rom_main(void)
{
    if (!vmx_test_begin("VMCS shadowing")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_secondary(PROC2_VMCS_SHADOWING)) {
        skip_one("VMCS shadowing", "not offered by this processor");
        return tap_end();
    }
    revision = (uint32_t)rdmsr(IA32_VMX_BASIC) & 0x7fffffff;
    seen = page_alloc(1);
    read_bitmap = page_alloc(1);
    write_bitmap = page_alloc(1);
    shadow = (uint32_t *)vmx_new_region();
    *shadow = revision | SHADOW_INDICATOR;
    vmclear((uint64_t)shadow);
    without_it();
    accesses();
    bitmaps();
    failures();
    privilege();
    instructions();
    return tap_end();
}

/*
 * XSAVES and XRSTORS in a guest: "enable XSAVES/XRSTORS", and the exit for a component that EDX:EAX, IA32_XSS
 * and the XSS-exiting bitmap name together (SDM 27.6.20, 28.1.3, 28.3, 30.2.1, 30.2.5).
 *
 * Without supervisor state there is no bit that could make them exit.
 */
#include "vmx-common.h"

#define IA32_XSS 0xda0
#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]
CODE(g_xsaves, "xsaves 0x40(%rdi)");
CODE(g_xrstors, "xrstors 0x40(%rdi)");
CODE(g_both, "xsaves 0x40(%rdi); xrstors 0x40(%rdi)");

static struct vmx_vcpu v;
static uint8_t area[8192] __attribute__((aligned(64)));

static void start(const void *code, bool enable, uint64_t bitmap, uint64_t components)
{
    guest_init(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = (uint64_t)area;
    v.regs.gpr[RAX] = (uint32_t)components, v.regs.gpr[RDX] = components >> 32;
    memset(area, 0, sizeof(area));
    if (enable) vmx_set_proc2(PROC2_ENABLE_XSAVES_XRSTORS);
    vmwrite(XSS_EXITING_BITMAP, bitmap);
}

static void exits(const void *code, uint32_t reason, uint64_t component, const char *name)
{
    start(code, true, component, component | 1);
    struct vmx_exit e = exit_is(&v, reason, name);
    is(e.qualification, 0x40, "  its qualification is the displacement");
    is(vmread(VM_EXIT_INSTRUCTION_INFORMATION) & 0x0fc38380,
       2u << 7 | 3u << 15 | 1u << 22 | (uint32_t)RDI << 23, "  its instruction information the address");
    is(vmread(VM_EXIT_INSTRUCTION_LENGTH), 4, "  its length");
}

int rom_main(void)
{
    if (!vmx_test_begin("XSAVES and XRSTORS in a guest")) return 0;
    bool there = cpuid(1, 0).ecx & 1u << 26 && cpuid(0xd, 1).eax & 1u << 3;
    if (there) write_cr4(read_cr4() | CR4_OSXSAVE);
    if (!vmx_on()) panic("VMXON failed");
    if (!there || !vmx_has_secondary(PROC2_ENABLE_XSAVES_XRSTORS)) {
        skip_one("XSAVES and XRSTORS in a guest", "no enable XSAVES/XRSTORS");
        return tap_end();
    }
    static const struct {
        const void *code;
        uint32_t reason;
        const char *name;
    } kinds[] = {{g_xsaves, EXIT_REASON_XSAVES, "XSAVES"}, {g_xrstors, EXIT_REASON_XRSTORS, "XRSTORS"}};
    for (unsigned i = 0; i < 2; i++) {
        start(kinds[i].code, false, 0, 1);
        exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, kinds[i].name);
        is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | VECTOR_UD,
           "SDM 28.3:  is #UD without the control");
    }
    start(g_both, true, ~0ul, 1);
    done(&v, "SDM 28.1.3: with IA32_XSS = 0 no bit of the bitmap makes them exit");
    uint64_t supervisor = (uint64_t)cpuid(0xd, 1).edx << 32 | cpuid(0xd, 1).ecx;
    if (!supervisor) {
        skip(11, "no supervisor state");
        return tap_end();
    }
    uint64_t component = supervisor & -supervisor;
    wrmsr(IA32_XSS, component);
    for (unsigned i = 0; i < 2; i++) exits(kinds[i].code, kinds[i].reason, component, kinds[i].name);
    start(g_both, true, ~component, component | 1);
    done(&v, "SDM 28.1.3: without the component's bit in the bitmap they do not exit");
    start(g_both, true, ~0ul, 1);
    done(&v, "  nor without it in EDX:EAX");
    wrmsr(IA32_XSS, 0);
    start(g_both, true, component, component | 1);
    done(&v, "  nor without it in IA32_XSS");
    return tap_end();
}

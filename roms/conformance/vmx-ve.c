/*
 * EPT-violation #VE: which violations are converted, what the information area gets, how vector 20 is
 * delivered; EPTP switching and the EPTP index (SDM 28.5.7, 28.5.8).
 *
 * Bochs 2.7 fails at the information area: it has the EPTP index of the last VMFUNC there, not the field's
 * value (SDM table 28-23).
 */
#include "vmx-playground.h"

CODE(i_read, "mov (%rdi), %eax");
CODE(i_write, "mov %eax, (%rdi)");
CODE(i_call, "call *%rdi");
CODE(i_ud2, "ud2");
CODE(i_iret, "iretq");
CODE(i_switch, "xor %eax, %eax; mov $3, %ecx; vmfunc; mov (%rdi), %ebx");

static uint64_t *area;

static void converting(const void *code)
{
    start(code);
    vmx_set_proc2(PROC2_EPT_VIOLATION_VE);
    vmwrite(VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS, (uint64_t)area);
    vmwrite(EPTP_INDEX, 0x1234);
    memset(area, 0, 4096);
    memset(playground, 0, 4096);
    playground[0] = 0xc3;
}

static void information(uint64_t qualification, const char *name)
{
    if (!ok(area[0] == (0xffffffff00000000ul | 48) && (area[1] & 0x1ff) == qualification && area[2] == GPA &&
                area[3] == GPA && (uint16_t)area[4] == 0x1234,
            "%s", name))
        tap_note("  %lx %lx %lx %lx %lx", area[0], area[1], area[2], area[3], area[4]);
}

static void conversions(void)
{
    static const struct {
        const char *name;
        const void *code;
        uint64_t entry, qualification;
        bool present, converted;
    } rows[] = {
        {"#VE-convertible: an entry that is not there", i_read, 0, R | FINAL, false, true},
        {"#VE-convertible: the same with bit 63", i_read, EPT_SUPPRESS_VE, R | FINAL, false, false},
        {"#VE-convertible: all other bits of it are ignored", i_write, 0x7ffffffffffff000, W | FINAL, false,
         true},
        {"#VE-convertible: a write to a read-only page", i_write, EPT_R, W | EPT_R << 3 | FINAL, true, true},
        {"#VE-convertible: the same with bit 63", i_write, EPT_R | EPT_SUPPRESS_VE, W | EPT_R << 3 | FINAL,
         true, false},
        {"#VE-convertible: a fetch", i_call, EPT_R | EPT_W, X | (EPT_R | EPT_W) << 3 | FINAL, true, true},
    };
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        converting(rows[i].code);
        set_entry(rows[i].present ? leaf(rows[i].entry) : rows[i].entry);
        if (rows[i].converted) {
            uint64_t *frame = delivery_is(&v, 20, rows[i].name);
            information(rows[i].qualification, "  and the information area");
            is(frame[0], (uint64_t)rows[i].code == (uint64_t)i_call ? GPA : (uint64_t)rows[i].code,
               "  the frame begins with RIP: there is no error code");
            ok(frame[2] & RFLAGS_RF, "  RF is set in it");
        } else {
            exit_with(EXIT_REASON_EPT_VIOLATION, rows[i].qualification, 0x1ff, rows[i].name);
            is(area[0], 0, "  and the information area is left alone");
        }
    }
    converting(i_write);
    *ept_entry(v.ept, GPA, 2) = (*ept_entry(v.ept, GPA, 2) & ~EPT_W) | EPT_SUPPRESS_VE;
    set_entry(leaf(EPT_RWX));
    delivery_is(&v, 20, "#VE-convertible: bit 63 of an entry that refers to a table does not count");
    converting(i_write);
    set_entry(leaf(EPT_W));
    exit_is(&v, EXIT_REASON_EPT_MISCONFIGURATION, "#VE: a misconfiguration is never converted");
    start(i_read);
    set_entry(0);
    exit_with(EXIT_REASON_EPT_VIOLATION, R | FINAL, 0x1ff, "#VE: with the control 0 all violations exit");
}

static void not_taken(void)
{
    converting(i_read);
    set_entry(0);
    area[0] = 1ul << 63;
    exit_is(&v, EXIT_REASON_EPT_VIOLATION, "#VE-taken when: the doubleword at offset 4 is 0");
    is(area[3], 0, "  else nothing is written");
    converting(i_ud2);
    set_entry(0);
    vmwrite(GUEST_RSP, GPA + 0x800);
    exit_is(&v, EXIT_REASON_EPT_VIOLATION, "#VE-taken when: no event is being delivered");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 6,
       "  original event: #UD");
    converting(i_read);
    set_entry(0);
    vmwrite(GUEST_RSP, GPA + 0x800);
    exit_is(&v, EXIT_REASON_EPT_VIOLATION, "#VE: a violation while it is delivered exits");
    is(vmread(ORIGINAL_EVENT_IDENTIFICATION) & ~(1ul << 12), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 20,
       "  original event: #VE");
}

static void intercepted(void)
{
    converting(i_read);
    set_entry(0);
    vmwrite(EXCEPTION_BITMAP, 1u << 20);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "#VE: bit 20 of the exception bitmap");
    is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 20, "  is a #VE");
    information(R | FINAL, "  whose information was saved before");
    converting(i_iret);
    set_entry(0);
    vmwrite(EXCEPTION_BITMAP, 1u << 20);
    vmwrite(GUEST_RSP, GPA + 0x800);
    vmwrite(GUEST_INTERRUPTIBILITY_STATE, 1u << 3);
    exit_is(&v, EXIT_REASON_EXCEPTION_OR_NMI, "#VE in an IRET that unblocks NMIs");
    is(vmread(EXITING_EVENT_IDENTIFICATION), EVENT_VALID | EVENT_HARDWARE_EXCEPTION | 1u << 12 | 20,
       "  bit 12 of the identification");
    is(area[1] & 1u << 12, 1u << 12, "  and of the qualification in the area");
}

static void switching(void)
{
    if (!vmx_has_secondary(PROC2_ENABLE_VM_FUNCTIONS) || !(rdmsr(IA32_VMX_VMFUNC) & 1)) {
        skip(3, "no EPTP switching");
        return;
    }
    uint64_t *list = page_alloc(1);
    converting(i_switch);
    vmx_set_proc2(PROC2_ENABLE_VM_FUNCTIONS);
    vmwrite(VM_FUNCTION_CONTROLS, 1);
    vmwrite(EPTP_LIST_ADDRESS, (uint64_t)list);
    list[3] = vmread(EPTP);
    set_entry(0);
    delivery_is(&v, 20, "VMFUNC-9: EPTP switching, then a violation");
    is(vmread(EPTP_INDEX), 3, "  the EPTP index is ECX");
    is((uint16_t)area[4], 3, "  and the information area has it");
}

int rom_main(void)
{
    if (!vmx_test_begin("EPT violations as virtualization exceptions")) return 0;
    if (!vmx_on()) panic("VMXON failed");
    if (!vmx_has_secondary(PROC2_ENABLE_EPT | PROC2_EPT_VIOLATION_VE)) {
        skip_one("#VE", "not offered by this processor");
        return tap_end();
    }
    playground_init();
    area = page_alloc(1);
    conversions();
    not_taken();
    intercepted();
    switching();
    return tap_end();
}

// What the VM-entry checks say in short: one line for the log, and the page of documentation. (In full:
// vmx/explain.c.) Everything goes through a callback that takes text.
#include "vmx/checks.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static __attribute__((format(printf, 3, 4))) void say(vmx_put put, void *opaque, const char *format, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    put(opaque, text);
}

const char *vmx_check_group(const struct vmx_check *c)
{
    if (c->outcome == VMX_OUTCOME_EXIT) return c->number == 34 ? "msr-load" : "guest";
    if (c->number != 7 && c->number != 8) return "basic";
    return c->number == 8 ? "host" : "controls";
}

const char *vmx_check_input_name(unsigned input)
{
#define NAME(x) [VMX_INPUT_##x - VMCS_FIELD_COUNT] = #x
    // clang-format off
    static const char *const names[] = {
        NAME(MAXPHYADDR), NAME(LINEAR_BITS), NAME(EFER), NAME(EFER_VALID), NAME(SPEC_CTRL_VALID), NAME(VMCS_POINTER), NAME(VMCS_DWORD),
        NAME(LAUNCH_STATE), NAME(BLOCKING), NAME(IA32_VMX_BASIC),
        NAME(IA32_VMX_MISC), NAME(IA32_VMX_EPT_VPID_CAP), NAME(IA32_VMX_CR0_FIXED0), NAME(IA32_VMX_CR0_FIXED1),
        NAME(IA32_VMX_CR4_FIXED0), NAME(IA32_VMX_CR4_FIXED1), NAME(IA32_VMX_TRUE_PINBASED_CTLS),
        NAME(IA32_VMX_TRUE_PROCBASED_CTLS), NAME(IA32_VMX_PROCBASED_CTLS2),
        NAME(IA32_VMX_PROCBASED_CTLS3), NAME(IA32_VMX_EXIT_CTLS2), NAME(IA32_VMX_TRUE_EXIT_CTLS),
        NAME(IA32_VMX_TRUE_ENTRY_CTLS), NAME(IA32_VMX_VMFUNC), NAME(VTPR), NAME(LINK_DWORD), NAME(PDPTE0), NAME(PDPTE1),
        NAME(PDPTE2), NAME(PDPTE3), NAME(MSR_NUMBER), NAME(MSR_INDEX), NAME(MSR_RESERVED), NAME(MSR_DATA),
    };
    // clang-format on
#undef NAME
    return input < VMCS_FIELD_COUNT ? vmcs_field_rows[input].name : names[input - VMCS_FIELD_COUNT];
}

static void say_outcome(const struct vmx_check_failure *x, vmx_put put, void *opaque)
{
    if (x->outcome == VMX_OUTCOME_FAIL_VALID)
        say(put, opaque, "VMfailValid(%u)", x->number);
    else if (x->outcome == VMX_OUTCOME_FAIL_INVALID)
        put(opaque, "VMfailInvalid");
    else
        say(put, opaque, "exit %u, qualification %llu", x->number, (unsigned long long)x->qualification);
}

void vmx_check_describe(const struct vmx_entry *e, const struct vmx_check_failure *x, vmx_put put,
                        void *opaque)
{
    const struct vmx_check *c = x->check;
    say(put, opaque, "%s (SDM %s), ", c->id, c->section);
    say_outcome(x, put, opaque);
    put(opaque, ":");
    for (const u16 *p = c->inputs; *p != VMX_INPUT_END; p++)
        say(put, opaque, " %s=%#llx", vmx_check_input_name(*p),
            (unsigned long long)vmx_check_input_value(e, x, *p));
    say(put, opaque, "; %s", c->words);
}

void vmx_check_document(vmx_put put, void *opaque)
{
    say(put, opaque,
        "# VM-entry checks\n\n"
        "Every rule that VMLAUNCH and VMRESUME check once the instruction is allowed and there is a current "
        "VMCS, in the order in which "
        "Matryoshka checks them.\n"
        "Sections are those of the Intel SDM, 326019-092. "
        "`build/test_vmx_doctor --page` prints this page from the rows in `vmx/checks*.def`.\n\n");
    say(put, opaque, "%u checks. VMfailValid(n): the instruction fails with VM-instruction error n. ",
        vmx_check_row_count);
    put(opaque,
        "Exit 33 and 34: the entry fails with that exit reason, bit 31 set, and host state is loaded.\n");
    const char *section = "";
    for (unsigned n = 0; n < vmx_check_row_count; n++) {
        const struct vmx_check *c = &vmx_check_rows[n];
        if (strcmp(section, c->section)) {
            section = c->section;
            say(put, opaque, "\n## SDM %s (%s)\n\n| id | rule | otherwise |\n| --- | --- | --- |\n", section,
                vmx_check_group(c));
        }
        say(put, opaque, "| %s | %s | ", c->id, c->words);
        if (c->outcome == VMX_OUTCOME_FAIL_INVALID)
            put(opaque, "VMfailInvalid |\n");
        else if (c->outcome == VMX_OUTCOME_FAIL_VALID)
            say(put, opaque, "VMfailValid(%u) |\n", c->number);
        else if (c->number == 33)
            say(put, opaque, "exit 33, qualification %u |\n", c->qualification);
        else
            put(opaque, "exit 34, qualification: number of the entry |\n");
    }
}

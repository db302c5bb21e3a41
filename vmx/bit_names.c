// The names of bits, as far as a row of the checks may blame them.
#include <string.h>

#include "vmx/offence.h"

// clang-format off
static const struct { const char *of; u8 bit; const char *name; } names[] = {
    {"CR0", 0, "PE"}, {"CR0", 1, "MP"}, {"CR0", 2, "EM"}, {"CR0", 3, "TS"}, {"CR0", 4, "ET"}, {"CR0", 5, "NE"}, {"CR0", 16, "WP"},
    {"CR0", 18, "AM"}, {"CR0", 29, "NW"}, {"CR0", 30, "CD"}, {"CR0", 31, "PG"},
    {"CR4", 0, "VME"}, {"CR4", 1, "PVI"}, {"CR4", 2, "TSD"}, {"CR4", 3, "DE"}, {"CR4", 4, "PSE"}, {"CR4", 5, "PAE"}, {"CR4", 6, "MCE"},
    {"CR4", 7, "PGE"}, {"CR4", 8, "PCE"}, {"CR4", 9, "OSFXSR"}, {"CR4", 10, "OSXMMEXCPT"}, {"CR4", 11, "UMIP"}, {"CR4", 12, "LA57"},
    {"CR4", 13, "VMXE"}, {"CR4", 14, "SMXE"}, {"CR4", 16, "FSGSBASE"}, {"CR4", 17, "PCIDE"}, {"CR4", 18, "OSXSAVE"}, {"CR4", 19, "KL"},
    {"CR4", 20, "SMEP"}, {"CR4", 21, "SMAP"}, {"CR4", 22, "PKE"}, {"CR4", 23, "CET"}, {"CR4", 24, "PKS"}, {"CR4", 25, "UINTR"},
    {"CR4", 28, "LAM_SUP"}, {"CR4", 32, "FRED"},
    {"IA32_EFER", 0, "SCE"}, {"IA32_EFER", 8, "LME"}, {"IA32_EFER", 10, "LMA"}, {"IA32_EFER", 11, "NXE"},
    {"RFLAGS", 0, "CF"}, {"RFLAGS", 1, "always 1"}, {"RFLAGS", 2, "PF"}, {"RFLAGS", 4, "AF"}, {"RFLAGS", 6, "ZF"}, {"RFLAGS", 7, "SF"},
    {"RFLAGS", 8, "TF"}, {"RFLAGS", 9, "IF"}, {"RFLAGS", 10, "DF"}, {"RFLAGS", 11, "OF"}, {"RFLAGS", 14, "NT"}, {"RFLAGS", 16, "RF"},
    {"RFLAGS", 17, "VM"}, {"RFLAGS", 18, "AC"}, {"RFLAGS", 19, "VIF"}, {"RFLAGS", 20, "VIP"}, {"RFLAGS", 21, "ID"},
    {"ACCESS_RIGHTS", 0, "type"}, {"ACCESS_RIGHTS", 1, "type"}, {"ACCESS_RIGHTS", 2, "type"}, {"ACCESS_RIGHTS", 3, "type"},
    {"ACCESS_RIGHTS", 4, "S"}, {"ACCESS_RIGHTS", 5, "DPL"}, {"ACCESS_RIGHTS", 6, "DPL"}, {"ACCESS_RIGHTS", 7, "P"},
    {"ACCESS_RIGHTS", 12, "AVL"}, {"ACCESS_RIGHTS", 13, "L"}, {"ACCESS_RIGHTS", 14, "D/B"}, {"ACCESS_RIGHTS", 15, "G"},
    {"ACCESS_RIGHTS", 16, "unusable"},
    {"SELECTOR", 0, "RPL"}, {"SELECTOR", 1, "RPL"}, {"SELECTOR", 2, "TI"},
    {"INTERRUPTIBILITY_STATE", 0, "blocking by STI"}, {"INTERRUPTIBILITY_STATE", 1, "blocking by MOV SS"},
    {"INTERRUPTIBILITY_STATE", 2, "blocking by SMI"}, {"INTERRUPTIBILITY_STATE", 3, "blocking by NMI"},
    {"INTERRUPTIBILITY_STATE", 4, "enclave interruption"},
    {"BLOCKING", 0, "blocking by STI"}, {"BLOCKING", 1, "blocking by MOV SS"},
    {"PENDING_DEBUG_EXCEPTIONS", 11, "BLD"}, {"PENDING_DEBUG_EXCEPTIONS", 12, "enabled breakpoint"},
    {"PENDING_DEBUG_EXCEPTIONS", 14, "BS"}, {"PENDING_DEBUG_EXCEPTIONS", 16, "RTM"},
    {"INJECTED_EVENT_IDENTIFICATION", 11, "deliver error code"}, {"INJECTED_EVENT_IDENTIFICATION", 13, "nested exception"},
    {"INJECTED_EVENT_IDENTIFICATION", 31, "valid"},
    {"EPTP", 0, "memory type"}, {"EPTP", 1, "memory type"}, {"EPTP", 2, "memory type"}, {"EPTP", 3, "page-walk length"},
    {"EPTP", 4, "page-walk length"}, {"EPTP", 5, "page-walk length"}, {"EPTP", 6, "accessed and dirty flags"},
    {"EPTP", 7, "supervisor shadow-stack control"},
    {"IA32_DEBUGCTL", 0, "LBR"}, {"IA32_DEBUGCTL", 1, "BTF"}, {"IA32_DEBUGCTL", 2, "BLD"},
    {"IA32_FEATURE_CONTROL", 0, "lock"}, {"IA32_FEATURE_CONTROL", 1, "VMX in SMX operation"},
    {"IA32_FEATURE_CONTROL", 2, "VMX outside SMX operation"},
    {"VMCS_DWORD", 31, "shadow VMCS"}, {"DWORD", 31, "shadow VMCS"},
    {"IA32_VMX_EPT_VPID_CAP", 20, "INVEPT"}, {"IA32_VMX_EPT_VPID_CAP", 32, "INVVPID"},
};
static const struct { const char *of; u8 group; } controls[] = {
    {"PIN_BASED_CONTROLS", GROUP_PIN}, {"PRIMARY_PROC_BASED_CONTROLS", GROUP_PROC}, {"SECONDARY_PROC_BASED_CONTROLS", GROUP_PROC2},
    {"TERTIARY_PROC_BASED_CONTROLS", GROUP_PROC3}, {"PRIMARY_VM_EXIT_CONTROLS", GROUP_EXIT}, {"SECONDARY_VM_EXIT_CONTROLS", GROUP_EXIT2},
    {"VM_ENTRY_CONTROLS", GROUP_ENTRY}, {"VM_FUNCTION_CONTROLS", GROUP_VMFUNC},
};
// clang-format on

static bool ends_in(const char *of, const char *name)
{
    size_t n = strlen(of), k = strlen(name);
    return n == k ? !strcmp(of, name) : n > k && of[n - k - 1] == '_' && !strcmp(of + n - k, name);
}

const char *vmx_bit_name(const char *of, unsigned bit)
{
    for (unsigned i = 0; i < ARRAY_LEN(controls); i++) {
        if (strcmp(of, controls[i].of) != 0) continue;
        for (unsigned j = 0; j < CONTROL_COUNT; j++)
            if (vmx_control_rows[j].group == controls[i].group && vmx_control_rows[j].bit == bit)
                return vmx_control_rows[j].text;
        return "reserved";
    }
    for (unsigned i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].bit == bit && ends_in(of, names[i].of)) return names[i].name;
    return NULL;
}

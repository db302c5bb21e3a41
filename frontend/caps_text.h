// The capabilities that a VMCS is checked against: of a processor by name, or in text as rdmsr and its like
// print them.
#ifndef FRONTEND_CAPS_TEXT_H
#define FRONTEND_CAPS_TEXT_H

#include "frontend/vmcs_text.h"
#include "vmx/caps.h"

struct processor {
    const char *name, *source;
    u8 maxphyaddr, linear_bits;
    struct vmx_caps caps;
    struct cpu_features features; // for IA32_EFER's bits
    bool own;                     // Matryoshka's, whose rows the checks are
};
// Matryoshka's own with the features of `model` (as -cpu has it; NULL: all). False, with a line in `why`, if
// there is none such.
bool processor_own(struct processor *p, const char *model, char *why, size_t why_size);
// The n-th of those that are known by name; false behind the last.
bool processor_named(struct processor *p, unsigned n);

// Lines of these shapes, with comments (#, //):
//   0x480: 0xd810...   480 = d810...   msr 0x480 = ...   IA32_VMX_BASIC: 0x...   [0x480] ...
//   rdmsr 0x480        and the value alone in the next line
//   maxphyaddr = 39    linear = 48      address sizes : 39 bits physical, 48 bits virtual (/proc/cpuinfo)
// Without widths: 52 and 57 bits, so nothing is blamed for them. False if there was an error, which was told.
bool processor_parse(struct processor *p, const char *text, size_t n, vmcs_text_tell tell, void *opaque);

#endif

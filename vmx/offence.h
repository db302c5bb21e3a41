// Which bits of what a violated row reads are to blame, and the names of bits.
#ifndef VMX_OFFENCE_H
#define VMX_OFFENCE_H

#include "vmx/checks.h"

struct vmx_offence {
    u16 input; // an enum vmcs_field, or VMX_INPUT_PDPTE0 and the like
    u64 bits;
    u64 value; // of the input
};
#define VMX_OFFENCES_MAX 4

// The rows themselves are asked: the bits are those that, turned round, make the row hold. None where no set
// of bits is to blame more than another (a number that is too large, a value that must be another one).
// Returns how many inputs.
unsigned vmx_offences(const struct vmx_entry *e, const struct vmx_check_failure *x,
                      struct vmx_offence out[VMX_OFFENCES_MAX]);

// The name of a bit of a VMCS field, of a register or of an MSR, by the name of that ("GUEST_CR4" and "CR4":
// "VMXE"); for a control the manual's. "reserved" for other bits of a field of controls; NULL if it has none.
const char *vmx_bit_name(const char *of, unsigned bit);

#endif

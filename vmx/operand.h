// What a VM exit reports about the instruction that caused it.
#ifndef VMX_OPERAND_H
#define VMX_OPERAND_H

#include "cpu/engine/insn.h"

// exit qualification of exits with a memory operand
u64 vmx_displacement(const struct vcpu *v, const struct insn *in);
u32 vmx_instruction_info(const struct insn *in, const struct row *r); // from the row's operands
// scale, address size, segment, index and base of the memory operand
u32 vmx_memory_info(const struct insn *in);
// clang-format off
enum { INFO_REG1_SHIFT = 3, INFO_REGISTER = 1 << 10, INFO_OSIZE_SHIFT = 11, INFO_ID_SHIFT = 28, INFO_REG2_SHIFT = 28 };
// clang-format on
static inline u32 vmx_gpr_number(u8 offset) { return offset / 8u; } // of a GPR offset in struct insn

#endif

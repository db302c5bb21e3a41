// VM-exit instruction information (SDM tables 30-9 to 30-15) and displacements.
#include "vmx/operand.h"

#include "vmx/exit_reason.h"

u64 vmx_displacement(const struct vcpu *v, const struct insn *in)
{
    u64 d = (u64)(s64)in->disp;
    if (!in->mem) return 0;
    if (in->m == GPR_RIP_OFF) d += v->s.rip; // the address itself: displacement plus next RIP
    if (in->asz == W32) return (u32)d;
    return in->asz == W16 ? (u16)d : d;
}

u32 vmx_memory_info(const struct insn *in)
{
    bool index = in->x != GPR_ZERO_OFF, base = in->m < GPR_ZERO_OFF;
    u32 info = (u32)(in->asz - W16) << 7 | (u32)in->seg << 15;
    if (index)
        info |= in->scale | vmx_gpr_number(in->x) << 18;
    else
        info |= BIT(22);
    if (base)
        info |= vmx_gpr_number(in->m) << 23;
    else
        info |= BIT(27);
    return info;
}

// The operand in ModRM.rm, then ModRM.reg as a second register, then what the exit's reason adds: the operand
// size of RDRAND, RDSEED and of the descriptor-table registers, and which of the latter it is.
u32 vmx_instruction_info(const struct insn *in, const struct row *r)
{
    u32 info = in->mem ? vmx_memory_info(in) : vmx_gpr_number(in->m) << INFO_REG1_SHIFT;
    if (row_has(r, 1 << KIND_G)) info |= vmx_gpr_number(in->r) << INFO_REG2_SHIFT;
    switch (r->exit_reason) {
    case EXIT_REASON_RDRAND:
    case EXIT_REASON_RDSEED:
        return info | (in->osz == W64 ? 2u : in->osz == W32 ? 1u : 0u) << INFO_OSIZE_SHIFT;
    case EXIT_REASON_UMWAIT:
    case EXIT_REASON_TPAUSE: return info;
    case EXIT_REASON_GDTR_IDTR:
        if (in->osz != W16) info |= 1 << INFO_OSIZE_SHIFT;
        return info | row_digit(r) << INFO_ID_SHIFT;
    case EXIT_REASON_LDTR_TR: info |= row_digit(r) << INFO_ID_SHIFT; break;
    default: break;
    }
    return in->mem ? info : info | INFO_REGISTER;
}

// VM-exit instruction information (SDM tables 30-9 to 30-15) and displacements.
#include "vmx/operand.h"

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

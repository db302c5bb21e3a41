// The guard's hook: which instructions exit in non-root operation, and what the exit says (SDM 28.1.2, 28.1.3).
#include "vmx/intercept.h"

#include "vmx/insn.h"
#include "vmx/operand.h"
#include "vmx/intercept_parts.h"

static _Noreturn void exit_plain(struct vcpu *v, u32 reason, u64 qualification)
{
    raise_vmexit(v, reason, qualification, 0, EXIT_HAS_INSN_LEN);
}

_Noreturn static void exit_info(struct vcpu *v, const struct insn *in, u32 reason, u32 info)
{
    raise_vmexit(v, reason, vmx_displacement(v, in), info, EXIT_HAS_INSN_LEN | EXIT_HAS_INSN_INFO);
}

static void exit_if(struct vcpu *v, bool control, u32 reason)
{
    if (control) exit_plain(v, reason, 0);
}

// VMCALL, VMCLEAR ... exit whatever the CPL; all but VMCALL are #UD in compatibility mode first.
static _Noreturn void vmx_instruction(struct vcpu *v, const struct insn *in)
{
    const struct row *r = &rows[in->row];
    u32 info = in->mem ? vmx_memory_info(in) : 0, reg2 = vmx_gpr_number(in->r) << INFO_REG2_SHIFT;

    if (r->map == MAP_0F && r->opcode == 0x01 && r->reg == REG_MODRM(0xC1)) exit_plain(v, EXIT_REASON_VMCALL, 0);
    vmx_guard_mode(v);
    if (r->map == MAP_0F38) exit_info(v, in, r->opcode == 0x80 ? EXIT_REASON_INVEPT : EXIT_REASON_INVVPID, info | reg2);
    switch (r->opcode) {
    case 0x78: case 0x79:
        if (!in->mem) info = INFO_REGISTER | vmx_gpr_number(in->m) << INFO_REG1_SHIFT;
        exit_info(v, in, r->opcode == 0x78 ? EXIT_REASON_VMREAD : EXIT_REASON_VMWRITE, info | reg2);
    case 0xC7:
        if (r->reg == 7) exit_info(v, in, EXIT_REASON_VMPTRST, info);
        exit_info(v, in,
                  r->pfx == PFX_66   ? EXIT_REASON_VMCLEAR
                  : r->pfx == PFX_F3 ? EXIT_REASON_VMXON
                                     : EXIT_REASON_VMPTRLD,
                  info);
    default:
        switch (r->reg) {
        case REG_MODRM(0xC2): exit_plain(v, EXIT_REASON_VMLAUNCH, 0);
        case REG_MODRM(0xC3): exit_plain(v, EXIT_REASON_VMRESUME, 0);
        case REG_MODRM(0xC4): exit_plain(v, EXIT_REASON_VMXOFF, 0);
        default: panic("row %s has the VMX intercept", r->name);
        }
    }
}

static void invlpg(struct vcpu *v, const struct insn *in)
{
    if (!vmx_proc(v, PROC_INVLPG_EXITING)) return;
    u64 a = insn_ea(v, in); // written even for an unusable segment
    if (!cpu_long64(v))
        a = (u32)(a + v->s.seg[in->seg].base);
    else if (in->seg == SEG_FS || in->seg == SEG_GS)
        a += v->s.seg[in->seg].base;
    exit_plain(v, EXIT_REASON_INVLPG, a);
}

static void invpcid(struct vcpu *v, const struct insn *in)
{
    if (vmx_proc(v, PROC_INVLPG_EXITING))
        exit_info(v, in, EXIT_REASON_INVPCID, vmx_memory_info(in) | vmx_gpr_number(in->r) << INFO_REG2_SHIFT);
}

// PAUSE exiting, and at CPL 0 PAUSE-loop exiting (SDM 28.1.3): counted in TSC ticks, here vtime.
static void pause(struct vcpu *v)
{
    const struct vmx_control *c = vmx_controls(v);
    if (c->proc & PROC_PAUSE_EXITING) exit_plain(v, EXIT_REASON_PAUSE, 0);
    if (!(c->proc2 & PROC2_PAUSE_LOOP_EXITING) || cpu_cpl(v) > 0) return;
    struct vmx_state *x = &v->s.vmx;
    u64 now = cpu_vtime(v);
    if (!x->ple_last || now - x->ple_last > c->ple_gap)
        x->ple_first = now;
    else if (now - x->ple_first > c->ple_window)
        exit_plain(v, EXIT_REASON_PAUSE, 0);
    x->ple_last = now;
}

static void random_number(struct vcpu *v, const struct insn *in, u32 control, u32 reason)
{
    if (!vmx_proc2(v, control)) return;
    u32 size = in->osz == W64 ? 2 : in->osz == W32 ? 1 : 0;
    raise_vmexit(v, reason, 0, vmx_gpr_number(in->m) << INFO_REG1_SHIFT | size << INFO_OSIZE_SHIFT,
                 EXIT_HAS_INSN_LEN | EXIT_HAS_INSN_INFO);
}

static void xsaves(struct vcpu *v, const struct insn *in, u32 reason)
{
    const struct vmx_control *c = vmx_controls(v);
    u64 mask = (u32)v->s.gpr[RAX] | v->s.gpr[RDX] << 32;
    if (mask & v->s.msr.xss & c->xss_bitmap) exit_info(v, in, reason, vmx_memory_info(in));
}

static void descriptor_table(struct vcpu *v, const struct insn *in)
{
    if (!vmx_proc2(v, PROC2_DESCRIPTOR_TABLE_EXITING)) return;
    const struct row *r = &rows[in->row];
    u32 id = r->reg & 7; // SGDT SIDT LGDT LIDT, or SLDT STR LLDT LTR
    u32 info = in->mem ? vmx_memory_info(in) : INFO_REGISTER | vmx_gpr_number(in->m) << INFO_REG1_SHIFT;
    if (r->opcode == 0x01 && in->osz != W16) info |= 1 << INFO_OSIZE_SHIFT;
    exit_info(v, in, r->opcode == 0x01 ? EXIT_REASON_GDTR_IDTR : EXIT_REASON_LDTR_TR, info | id << INFO_ID_SHIFT);
}

// VMFUNC (SDM 28.5.6): #UD unless enabled, exit unless the function is.
static void vmfunc(struct vcpu *v)
{
    const struct vmx_control *c = vmx_controls(v);
    u32 function = (u32)v->s.gpr[RAX];
    if (!(c->proc2 & PROC2_ENABLE_VM_FUNCTIONS) || function >= 64) raise_ud(v);
    if (!(c->vmfunc >> function & 1) || function != 0) exit_plain(v, EXIT_REASON_VMFUNC, 0);
}

bool vmx_hides(const struct vcpu *v, enum intercept what)
{
    switch (what) {
    case ICEPT_INVPCID: return !vmx_proc2(v, PROC2_ENABLE_INVPCID);
    case ICEPT_RDTSCP: case ICEPT_RDPID: return !vmx_proc2(v, PROC2_ENABLE_RDTSCP);
    case ICEPT_XSAVES: case ICEPT_XRSTORS: return !vmx_proc2(v, PROC2_ENABLE_XSAVES_XRSTORS);
    default: return false;
    }
}

void vmx_intercept(struct vcpu *v, const struct insn *in, enum intercept what)
{
    switch (what) {
    case ICEPT_CPUID: exit_plain(v, EXIT_REASON_CPUID, 0);
    case ICEPT_GETSEC: exit_plain(v, EXIT_REASON_GETSEC, 0);
    case ICEPT_INVD: exit_plain(v, EXIT_REASON_INVD, 0);
    case ICEPT_XSETBV: exit_plain(v, EXIT_REASON_XSETBV, 0);
    case ICEPT_VMX: vmx_instruction(v, in);
    case ICEPT_HLT: exit_if(v, vmx_proc(v, PROC_HLT_EXITING), EXIT_REASON_HLT); break;
    case ICEPT_INVLPG: invlpg(v, in); break;
    case ICEPT_INVPCID: invpcid(v, in); break;
    case ICEPT_MWAIT:
        if (vmx_proc(v, PROC_MWAIT_EXITING)) exit_plain(v, EXIT_REASON_MWAIT, v->s.monitor_addr != 0);
        break;
    case ICEPT_MONITOR: exit_if(v, vmx_proc(v, PROC_MONITOR_EXITING), EXIT_REASON_MONITOR); break;
    case ICEPT_PAUSE: pause(v); break;
    case ICEPT_RDPMC: exit_if(v, vmx_proc(v, PROC_RDPMC_EXITING), EXIT_REASON_RDPMC); break;
    case ICEPT_RDTSC: exit_if(v, vmx_proc(v, PROC_RDTSC_EXITING), EXIT_REASON_RDTSC); break;
    case ICEPT_RDTSCP: exit_if(v, vmx_proc(v, PROC_RDTSC_EXITING), EXIT_REASON_RDTSCP); break;
    case ICEPT_RDPID: break; // hidden or not, never exits
    case ICEPT_WBINVD: // F3: WBNOINVD
        if (vmx_proc2(v, PROC2_WBINVD_EXITING)) exit_plain(v, EXIT_REASON_WBINVD, in->rep == 3);
        break;
    case ICEPT_RDRAND: random_number(v, in, PROC2_RDRAND_EXITING, EXIT_REASON_RDRAND); break;
    case ICEPT_RDSEED: random_number(v, in, PROC2_RDSEED_EXITING, EXIT_REASON_RDSEED); break;
    case ICEPT_RSM: break; // #UD outside SMM, which this processor has not
    case ICEPT_XSAVES: xsaves(v, in, EXIT_REASON_XSAVES); break;
    case ICEPT_XRSTORS: xsaves(v, in, EXIT_REASON_XRSTORS); break;
    case ICEPT_RDMSR: intercept_msr(v, false); break;
    case ICEPT_WRMSR: intercept_msr(v, true); break;
    case ICEPT_VMFUNC: vmfunc(v); break;
    case ICEPT_DTABLE_READ: case ICEPT_DTABLE_WRITE: descriptor_table(v, in); break;
    case ICEPT_MOV_TO_CR: intercept_mov_to_cr(v, in); break;
    case ICEPT_MOV_FROM_CR: intercept_mov_from_cr(v, in); break;
    case ICEPT_CLTS: intercept_clts(v); break;
    case ICEPT_MOV_DR: intercept_mov_dr(v, in); break;
    case ICEPT_NONE: case ICEPT_COUNT: panic("vmx_intercept(%d)", what);
    }
}
